/* SPDX-License-Identifier: Apache-2.0 */
/* http_server: HTTP/1.1 server on one loop. Loop thread only.
 *
 * A request is handed over when its body has arrived whole (bounded). It is answered once, at once
 * or as a stream, now or later:
 *
 *     on_request ──► respond(…)                                     one piece
 *                └─► start(…) ─ write(…)* ─ end()                   stream (chunked, or raw)
 *     on_gone: the client went away (or half-closed) before the end; nothing may be sent any more,
 *     and the request is still the handler's until it calls end or respond.
 */
#ifndef JR_IO_HTTP_SERVER_H
#define JR_IO_HTTP_SERVER_H

#include "io/loop.h"
#include "wire/http1_head.h"

#include <stdatomic.h>

struct jr_http_server;
struct jr_http_request;
struct jr_tls_context;

struct jr_http_server_config {
    const char *host; /* "0.0.0.0" */
    uint16_t port;    /* 0: any free one */
    bool reuse_port;  /* SO_REUSEPORT: shared with others of this user that say so, too */
    bool first;       /* with reuse_port: JR_EADDRINUSE when another has the port already */
    uint64_t body_max;
    uint64_t bodies_max; /* bytes of all bodies that are held at a time; 0: no limit */
    atomic_size_t
        *bodies; /* counts those of several servers, which share bodies_max; NULL: its own */
    uint32_t conns_max;
    atomic_uint *conns; /* counts those of several servers, which share conns_max; NULL: its own */
    uint32_t header_timeout_ms; /* time from the first byte to the whole header */
    uint32_t
        idle_timeout_ms; /* keep-alive without a request; a body or a reader that stands still */
    uint32_t body_timeout_ms; /* time from the whole header to the whole body; 0: no limit */
    void (*on_request)(void *ctx, struct jr_http_request *req);
    /* The head of an answer is written, also of one that the server gives by itself. tag: see
     * jr_http_request_tag. May be NULL. */
    void (*on_answer)(void *ctx, const void *tag, int status);
    void *ctx;
};

struct jr_http_server_stats {
    uint64_t
        accept_pauses; /* no descriptor or memory for a connection: it waited with the kernel */
    uint64_t conns, conns_total, requests_total, refused_conns, bad_requests, body_too_large,
        header_timeouts;                    /* of requests, and of TLS handshakes */
    uint64_t body_timeouts, bodies_refused; /* for bodies_max */
    uint64_t tls_handshakes, tls_failures;  /* broken off: not valid, or nothing in common */
};

/* Copies the config. JR_EADDRINUSE, JR_EINVAL, with words in e. */
JR_MUST_CHECK int jr_http_server_listen(struct jr_loop *loop,
                                        const struct jr_http_server_config *config,
                                        struct jr_errmsg *e, struct jr_http_server **ret);
uint16_t jr_http_server_port(const struct jr_http_server *s);
const struct jr_http_server_stats *jr_http_server_stats(const struct jr_http_server *s);
/* Of several servers. */
void jr_http_server_stats_add(struct jr_http_server_stats *to,
                              const struct jr_http_server_stats *s);
/* Takes ctx (io/tls.h, a server's): connections from now on speak TLS by it; those there are go on as
 * they began. */
void jr_http_server_set_tls(struct jr_http_server *s, struct jr_tls_context *ctx);
/* Each answer from now on ends its connection, so that few are idle when the server drains; new ones
 * are taken as before. */
void jr_http_server_retire(struct jr_http_server *s);
/* No new connections; kept-alive ones close after their present answer, idle ones now. One that was
 * accepted, or waits to be, but sent nothing yet may still send its first request. */
void jr_http_server_drain(struct jr_http_server *s);
/* Connections with a request under way or with bytes that are not sent yet. After drain: when it is
 * 0, closing cuts nobody off. */
uint64_t jr_http_server_busy(const struct jr_http_server *s);
/* Closes everything; requests under way see on_gone first. cb (may be NULL) fires when all is gone.
 */
void jr_http_server_close(struct jr_http_server *s, void (*cb)(void *ctx), void *ctx);

/* For on_answer: what the request is to the handler; NULL until it says so. Borrows. */
void jr_http_request_tag(struct jr_http_request *req, const void *tag);

/* What was asked; views borrow from the request until it is answered in full. */
struct jr_str jr_http_request_method(const struct jr_http_request *req);
struct jr_str jr_http_request_path(const struct jr_http_request *req);  /* without the query */
struct jr_str jr_http_request_query(const struct jr_http_request *req); /* without '?' */
struct jr_str jr_http_request_body(const struct jr_http_request *req);
/* First header of that name, case-insensitive; n == 0 and p == NULL when absent. */
struct jr_str jr_http_request_header(const struct jr_http_request *req, const char *name);
const struct jr_http_header *jr_http_request_headers(const struct jr_http_request *req,
                                                     uint32_t *ret_n);
/* "ADDRESS:PORT" of who is at the other end, "" when it is gone. Writes at most n bytes, cut. */
#define JR_HTTP_CLIENT_MAX 56
void jr_http_request_client(const struct jr_http_request *req, char *ret, size_t n);
bool jr_http_request_from_loopback(const struct jr_http_request *req);
uint64_t jr_http_request_id(const struct jr_http_request *req); /* unique in this server */

/* on_gone fires at most once, never after end or respond, never from within a call of this module;
 * on_writable after a write that returned JR_EAGAIN, once there is room again. Both may be NULL. */
void jr_http_request_watch(struct jr_http_request *req, void (*on_gone)(void *ctx),
                           void (*on_writable)(void *ctx), void *ctx);

/* Extra headers are "Name: value\r\n" lines or NULL. Takes the request: it is dead afterwards. */
void jr_http_respond(struct jr_http_request *req, int status, const char *content_type,
                     const char *extra_headers, const void *body, size_t n);
/* Stream: content_length < 0 means chunked. */
void jr_http_respond_start(struct jr_http_request *req, int status, const char *content_type,
                           const char *extra_headers, int64_t content_length);
/* Copies (or sends at once, as what completes content_length); n == 0 does nothing, what goes beyond
 * content_length is not sent. 0;
 * JR_EAGAIN: taken, but wait for on_writable before the next; JR_ECLOSED: the client is gone, nothing
 * was taken. */
JR_MUST_CHECK int jr_http_respond_write(struct jr_http_request *req, const void *p, size_t n);
/* Ends the answer and takes the request; with abort the connection is cut, so that the client sees
 * that the answer is not whole. Must be called even after on_gone. */
void jr_http_respond_end(struct jr_http_request *req, bool abort);

#endif
