/* SPDX-License-Identifier: Apache-2.0 */
/* http_upstream: the client's connections, shared by http_client.c (URLs, pool, exchanges),
 * http_upstream.c (one connection's life) and http_upstream_tls.c (TLS between it and the wire).
 * Internal to these. Loop thread only.
 *
 *     RESOLVE ─► CONNECT ─┬────────────► WAIT ─► BODY ─┬─► CLOSED
 *        │          ▲     └ HANDSHAKE ─►  ▲  (1xx: WAIT) │
 *        └──────────┘       (https)       └──── IDLE ◄──┘ kept alive, in its host's pool
 *
 * A connection serves one exchange at a time; x is NULL in IDLE and CLOSED. */
#ifndef JR_IO_HTTP_UPSTREAM_H
#define JR_IO_HTTP_UPSTREAM_H

#include "base/list.h"
#include "base/sm.h"
#include "io/http_client.h"
#include "io/tls.h"
#include "wire/http1.h"

/* A byte at a time: the default one leaves fall-throughs that our warnings do not take. */
#define HASH_FUNCTION(key, n, hash) HASH_SAX(key, n, hash)
#include <uthash.h>

#define JR_UPSTREAM_READ  (64 << 10) /* the client's one read buffer */
#define JR_UPSTREAM_PLAIN (16 << 10) /* and of what is decrypted: a record */

enum jr_upstream_state {
    JR_UPSTREAM_RESOLVE,
    JR_UPSTREAM_CONNECT,
    JR_UPSTREAM_HANDSHAKE,
    JR_UPSTREAM_IDLE,
    JR_UPSTREAM_WAIT,
    JR_UPSTREAM_BODY,
    JR_UPSTREAM_CLOSED,
};

/* The bytes of a request; shared by the exchange, which may have to send them again, and the
 * connection whose write is under way. A borrowed body is gone with the exchange; the connection is
 * closed before, and libuv does not look at what a closed one had to write. */
struct jr_http_bytes {
    unsigned refs;
    struct jr_buf buf;  /* the head, and the body unless it is borrowed */
    struct jr_str body; /* borrowed */
};

struct jr_http_host {
    UT_hash_handle hh;
    struct jr_list idle; /* of jr_upstream.idle_node; most recently used first */
    uint32_t n_idle;
    uint32_t n_conns; /* the host is forgotten with the last */
    uint16_t port;
    bool tls;
    char *name; /* without the brackets of an IPv6 address */
    char key[]; /* "host:port" as in the URL; behind "https://" with TLS */
};

struct jr_http_client {
    struct jr_loop *loop;
    struct jr_http_client_config config;
    struct jr_http_host *hosts;
    struct jr_list conns;
    uv_timer_t anchor; /* its close callback ends a close that finds nothing else to wait for */
    bool anchor_open;
    struct jr_tls_context *tls; /* made for the first https URL */
    char *plain;
    uint64_t tls_report_ms; /* no report before */
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    char read[JR_UPSTREAM_READ];
};

struct jr_http_exchange {
    struct jr_http_client *client;
    struct jr_upstream *conn; /* never NULL before the end */
    struct jr_http_bytes *bytes;
    void (*on_head)(void *ctx, const struct jr_http_reply *reply);
    void (*on_data)(void *ctx, const void *p, size_t n);
    void (*on_end)(void *ctx, int err);
    void (*on_drop)(void *ctx); /* cancelled; for jr_http_client_whole */
    void *ctx;
    uint32_t first_byte_timeout_ms;
    uint64_t total_deadline_ms; /* 0: none */
    bool is_head;
    bool is_safe; /* GET, HEAD: twice is as good as once */
    bool retried;
    bool paused;
    bool ended; /* on_end is on the stack */
};

struct jr_upstream {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    struct jr_http_client *client;
    struct jr_http_host *host;
    struct jr_http_exchange *x;
    struct jr_list node, idle_node;
    struct jr_sm sm;
    unsigned open_handles;
    unsigned addr_index; /* which of the host's addresses is tried */
    int failed;          /* to be told from the timer, not from within a call of the owner */
    bool more_addrs;
    bool resolving, reading;
    bool reused;    /* served an exchange before */
    bool got_bytes; /* of the present answer */
    bool got_eof;
    size_t sent; /* of the present request, at once; the rest by `write` */
    struct jr_http_bytes *sending;
    struct jr_tls *tls; /* NULL: plain */
    size_t tls_at;      /* of the present request, bytes that were encrypted */
    size_t tls_sent;    /* and what has become of them: given to the kernel or queued */
    uint64_t deadline_ms, timer_due_ms; /* 0: none */

    struct jr_http1_reply reply;
};

/* http_upstream.c */
/* A new connection for x, to the host's addr_index-th address. */
struct jr_upstream *jr_upstream_open(struct jr_http_client *client, struct jr_http_host *host,
                                     struct jr_http_exchange *x, unsigned addr_index);
void jr_upstream_reuse(struct jr_upstream *c, struct jr_http_exchange *x); /* from the pool */
/* Forgets its exchange, without a word to it. */
void jr_upstream_close(struct jr_upstream *c);
void jr_upstream_pause(struct jr_upstream *c, bool pause);
static inline enum jr_upstream_state jr_upstream_state(const struct jr_upstream *c)
{
    return (enum jr_upstream_state)c->sm.state;
}
/* What the TLS filter needs. Ends the connection and, unless another one may still answer, the
 * exchange; later: from the loop, when the owner is on the stack. */
void jr_upstream_fail(struct jr_upstream *c, int err);
void jr_upstream_fail_later(struct jr_upstream *c, int err);
/* JR_ELIMIT for what this process lacks: no fault of who was to be connected to. EADDRNOTAVAIL is not
 * that: an address of IPv6 where there is none, or no port left to this one peer, while others have
 * some. (A name that cannot be looked up for want of a descriptor looks like one that is not there.) */
int jr_upstream_connect_err(int uv_err);
void jr_upstream_hurry(struct jr_upstream *c, uint64_t ms); /* it ends in that time */
void jr_upstream_ready(struct jr_upstream *c);              /* connected: the request goes out */
/* n > 0 bytes of an answer, or an end: UV_EOF or another error of libuv. */
void jr_upstream_take(struct jr_upstream *c, const char *p, ssize_t n);

/* http_upstream_tls.c: all but the first for connections with TLS only */
JR_MUST_CHECK int jr_http_client_tls(struct jr_http_client *client); /* its context is there */
void jr_upstream_tls_begin(struct jr_upstream *c);
void jr_upstream_tls_got(struct jr_upstream *c, const char *p, size_t n); /* from the wire */
/* More of the request, as the wire takes it; JR_EPROTO or JR_ECONN when that is not to be. */
JR_MUST_CHECK int jr_upstream_tls_send(struct jr_upstream *c);
void jr_upstream_tls_bye(struct jr_upstream *c);
/* Of the request, bytes of the wire that the kernel has taken. */
size_t jr_upstream_tls_handed_over(const struct jr_upstream *c);
/* The request is out and nothing came behind the answer. */
bool jr_upstream_tls_is_done(const struct jr_upstream *c, const struct jr_http_bytes *bytes);

/* http_client.c */
void jr_http_bytes_unref(struct jr_http_bytes *bytes);
void jr_http_exchange_end(struct jr_http_exchange *x, int err); /* takes; calls on_end */
void jr_http_client_conn_gone(struct jr_http_client *client, struct jr_http_host *host);

#endif
