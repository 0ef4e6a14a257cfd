/* SPDX-License-Identifier: Apache-2.0 */
/* http_internal: the server's connection, shared by http_server.c (listening, closing),
 * http_conn.c (its life), http_parse.c (reading requests), http_respond.c (writing answers) and http_tls.c. What the bytes
 * mean is wire/http1. Loop thread only.
 *
 *              first byte        head whole          body whole        answered
 *      ┌─► IDLE ─────────► HEAD ───────────► BODY ──────────────► ANSWER ──┐
 *      │    │               │  │             CHUNKED                │ │    │
 *      │    │               │  └──────── no body ──────────────────►┘ │    │
 *      │    ▼               ▼ refused: 4xx                            ▼    │ write queue high
 *      │  CLOSED ◄──────── LINGER ◄──────────────────────── not kept alive │
 *      └─────────────────────────────────────────────────── FLUSH ◄────────┘
 *
 * LINGER: our side is shut down; what the client still sends is read and thrown away for a while, so
 * that the kernel does not answer it with a reset that overtakes our last words.
 *
 * Memory of one connection with a request under way:
 *
 *      in  [ head ¦ body, if it came along ¦ pipelined, next request ]     reads go here, or
 *      body[ body that did not fit ]                                       straight here
 *      out [ answer bytes not yet handed to the kernel, small writes gather ]
 *
 * With TLS (http_tls.c) the wire's bytes go through the session, and its plaintext to the same places.
 *
 * Views of the request point into `in` and `body`; so neither moves before the answer ended, but once:
 * before a large body is waited for, its head gets a small buffer of its own. */
#ifndef JR_IO_HTTP_INTERNAL_H
#define JR_IO_HTTP_INTERNAL_H

#include "base/limits.h"
#include "base/list.h"
#include "base/sm.h"
#include "io/http_listen.h"
#include "io/http_server.h"
#include "wire/http1.h"

#define JR_HTTP_IN_SIZE          (16 << 10) /* of an ordinary read buffer; a long head makes it grow */
#define JR_HTTP_IN_LITTLE        (1 << 10) /* room beside the head of a request with a large body */
#define JR_HTTP_IN_SPARE         256 /* read buffers kept for the next connection that reads */
#define JR_HTTP_ROOM_MIN         (4 << 10)  /* room that a read gets at least */
#define JR_HTTP_BODY_LEAST       (64 << 10) /* of a body buffer */
#define JR_HTTP_BODY_BELIEVED    (1 << 20)  /* a declared length for which there is room at once */
#define JR_HTTP_BODY_STEP        (16 << 10) /* larger ones are multiples of it */
#define JR_HTTP_BODY_SPARE       64 /* body buffers kept for the next bodies, and their bytes */
#define JR_HTTP_BODY_SPARE_BYTES ((size_t)4 << 20)
#define JR_HTTP_CORK             (4 << 10)  /* writes below gather until the loop polls again */
#define JR_HTTP_OUT_MAX          (16 << 10) /* gathered bytes are sent at this size */
#define JR_HTTP_OUT_KEEP         (32 << 10)
#define JR_HTTP_LINGER_MS        1000
#define JR_HTTP_CUT_MS           2000 /* for a reader that stands still behind an answer that was cut */
#define JR_HTTP_WIRE_SIZE        (64 << 10) /* of the server's one read buffer of ciphertext */

enum jr_http_state {
    JR_HTTP_IDLE,
    JR_HTTP_HEAD,
    JR_HTTP_BODY,
    JR_HTTP_CHUNKED,
    JR_HTTP_ANSWER,
    JR_HTTP_FLUSH,
    JR_HTTP_LINGER,
    JR_HTTP_CLOSED,
};

/* One at a time per connection, so it lives in it. */
struct jr_http_request {
    uint64_t id;
    struct jr_str body; /* the rest of what was asked: jr_http_conn.h1 */
    void (*on_gone)(void *ctx);
    void (*on_writable)(void *ctx);
    void *ctx;
    bool owned; /* by the handler: from on_request to respond or end */
    bool http10;
    bool is_head;
    bool keep_alive;
    bool started;       /* respond_start was called */
    bool chunked;       /* the answer */
    bool no_body;       /* the answer: HEAD, 204, 304 */
    bool want_writable; /* a write returned JR_EAGAIN */
    struct jr_http_away
        *away; /* it is the copy of one of another loop; NULL: it is in its connection */
    const void *tag;
    bool has_left; /* the answer has a Content-Length: left counts down */
    uint64_t left;
};

struct jr_http_conn {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_shutdown_t shutdown;
    struct jr_http_server *server;
    struct jr_list node;
    struct jr_list
        flush_node; /* in server->to_flush while out waits for the end of the iteration */
    struct jr_sm sm;
    unsigned open_handles;
    unsigned served; /* requests handed over */
    uint64_t deadline_ms, timer_due_ms;
    size_t stall_queue;  /* write queue when the timer last looked */
    uint64_t stall_sent; /* and bytes_sent */
    uint64_t bytes_sent;

    struct jr_tls *tls; /* NULL: plain */
    bool handshaken, pumping;

    struct jr_http1_request h1;
    char *in;
    size_t in_cap, in_start, in_end;
    char *body;
    size_t body_n, body_len, body_cap; /* body_len: the declared length */
    uint64_t body_due_ms;              /* of the whole body; 0: whenever */
    bool body_refused;                 /* of a chunked body, no more is kept */

    struct jr_http_request req;
    struct jr_buf out;
    bool reading;
    bool advancing;        /* jr_http_conn_advance is on the stack */
    bool head_deadline;    /* runs for this head */
    bool shut;             /* LINGER: our end is shut down, all is written */
    bool linger_for_input; /* LINGER: wait for the client's end too */
    bool cut;              /* LINGER: behind an answer that is not whole */
};

/* Body buffers between two requests: a large one costs more to get from the kernel than to fill. */
struct jr_http_spare {
    struct {
        char *p;
        size_t cap;
    } v[JR_HTTP_BODY_SPARE];
    unsigned n;
    size_t bytes;
};

struct jr_http_server {
    struct jr_loop *loop;
    struct jr_http_server_config config;
    struct jr_http_server_stats stats;
    struct jr_http_listener listener;
    uv_prepare_t flusher;
    unsigned open_handles; /* the listener is one */
    struct jr_list conns;
    struct jr_list to_flush;
    uint64_t next_id;
    char *spare[JR_HTTP_IN_SPARE];
    unsigned n_spare;
    struct jr_http_spare bodies;
    atomic_size_t
        own_bodies; /* bytes of the bodies that are held, unless several servers share it */
    struct jr_tls_context *tls; /* of the next connections; NULL: plain */
    char *wire;
    char trash[8 << 10]; /* what LINGER reads */
    bool retired;        /* answers end their connections */
    bool draining, closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static inline struct jr_http_conn *jr_http_conn_of(struct jr_http_request *req)
{
    return JR_CONTAINER_OF(req, struct jr_http_conn, req);
}
static inline enum jr_http_state jr_http_state(const struct jr_http_conn *c)
{
    return (enum jr_http_state)c->sm.state;
}

/* http_server.c */
void jr_http_server_conn_gone(struct jr_http_server *s); /* a connection's memory was freed */

/* http_body.c */
/* Makes room for need bytes in all, at most body_max: what was received stays. A spare buffer that
 * holds the declared length is taken where there is one. JR_ELIMIT: bodies_max is reached, and
 * nothing changed. */
JR_MUST_CHECK int jr_http_body_room(struct jr_http_conn *c, size_t need);
void jr_http_body_release(struct jr_http_conn *c); /* between requests */
void jr_http_body_free_spares(struct jr_http_server *s);

/* http_parse.c */
/* Goes on with what was read. */
void jr_http_conn_advance(struct jr_http_conn *c);
/* A piece of a chunked body; ctx is the connection. */
void jr_http_conn_on_body(void *ctx, const char *p, size_t n);

/* http_conn.c */
/* Room for at least JR_HTTP_ROOM_MIN more bytes. Moves `in`: not while views into it exist. */
void jr_http_conn_make_room(struct jr_http_conn *c);
void jr_http_conn_release_in(struct jr_http_conn *c); /* between requests, when it is empty */
void jr_http_conn_stop_reading(struct jr_http_conn *c);
/* Where the next bytes of the request go, and that n of them are there. */
uv_buf_t jr_http_conn_room(struct jr_http_conn *c);
void jr_http_conn_got(struct jr_http_conn *c, size_t n);
/* The client said that it is done; not clean: it is just gone. */
void jr_http_conn_eof(struct jr_http_conn *c, bool clean);
/* Takes fd, a connection that was made to the listener. */
void jr_http_conn_accept(struct jr_http_server *s, int fd);
/* The handler gave the request back: next request, or the end of the connection. */
void jr_http_conn_answered(struct jr_http_conn *c);
/* Bytes left the write queue. */
void jr_http_conn_written(struct jr_http_conn *c);
/* Shuts down our side once all is written, then closes; with for_input not before the client's end
 * (or JR_HTTP_LINGER_MS). */
void jr_http_conn_linger(struct jr_http_conn *c, bool for_input);
/* Closes the handles; on_gone fires from the close callback when a request is under way. */
void jr_http_conn_close(struct jr_http_conn *c);
/* The same for one that nothing is owed to; with TLS it is told. */
void jr_http_conn_end(struct jr_http_conn *c);
void jr_http_conn_reset(struct jr_http_conn *c); /* the same, and the peer sees a reset */
void jr_http_conn_maybe_free(struct jr_http_conn *c);
void jr_http_conn_deadline(struct jr_http_conn *c, uint64_t delay_ms);
/* Of a body that goes on: it may stand still for so long, and be under way for so long. */
void jr_http_conn_await_body(struct jr_http_conn *c);

/* http_respond.c */
/* Sends what is gathered and then bufs; what the kernel does not take is copied. On a write error
 * the connection is closed. */
void jr_http_conn_send(struct jr_http_conn *c, const uv_buf_t *bufs, unsigned n_bufs);
void jr_http_conn_send_raw(struct jr_http_conn *c, const uv_buf_t *bufs, unsigned n, size_t total);
/* Answers with an error and ends the connection; counts it, but for 408. */
void jr_http_conn_refuse(struct jr_http_conn *c, int status, const char *words);
void jr_http_flush_all(uv_prepare_t *flusher);
size_t jr_http_conn_queued(const struct jr_http_conn *c);

/* http_away.c: of the copy of a request that another loop answers */
struct jr_http_away_head {
    struct jr_str method, path, query;
    struct jr_http_header headers[JR_HTTP_HEADERS_MAX];
    uint32_t n_headers;
    char client[JR_HTTP_CLIENT_MAX];
    bool from_loopback;
};
const struct jr_http_away_head *jr_http_away_head(const struct jr_http_request *req);
void jr_http_away_respond(struct jr_http_request *req, int status, const char *content_type,
                          const char *lines, const void *body, size_t n);
void jr_http_away_start(struct jr_http_request *req, int status, const char *content_type,
                        const char *lines, int64_t length);
JR_MUST_CHECK int jr_http_away_write(struct jr_http_request *req, const void *p, size_t n);
void jr_http_away_end(struct jr_http_request *req, bool abort);

/* http_tls.c: of connections with TLS only */
void jr_http_tls_begin(struct jr_http_conn *c);
void jr_http_tls_got(struct jr_http_conn *c, const char *p, size_t n); /* from the wire */
void jr_http_tls_resume(struct jr_http_conn *c); /* reads on, after reading had been stopped */
void jr_http_tls_send(struct jr_http_conn *c, const uv_buf_t *bufs, unsigned n, size_t total);
void jr_http_tls_bye(struct jr_http_conn *c); /* tells the client that nothing follows */

/* 127.0.0.0/8, ::1, and the first in the clothes of the second. Pure. */
bool jr_http_is_loopback(const struct sockaddr_storage *addr);

#endif
