/* SPDX-License-Identifier: Apache-2.0 */
/* http_client: HTTP/1.1 client with kept-alive connections pooled per host:port. Loop thread only.
 *
 *     jr_http_fetch ──► on_head ─ on_data* ─ on_end(0)          the answer, relayed as it comes
 *                   └─► on_end(JR_E…)                           connect, timeout, protocol, cut off
 *
 * on_end fires exactly once unless the exchange was cancelled, and no callback fires from within
 * fetch. A kept-alive connection that turns out closed before any byte of the answer is replaced
 * once by a fresh one, silently, when the request is a GET or HEAD or nobody can have read a byte of
 * it (none was sent, or the peer's end acknowledges none); any other is JR_ECONN: the peer may have
 * acted on it. A host with several addresses is tried at each of them. 1xx answers
 * are skipped.
 *
 * An https URL's peer must show a certificate for the host of the URL. An answer that ends with its
 * connection is whole only when the peer said so (close_notify).
 *
 * What on_end gets: JR_ENOTFOUND the name does not resolve, JR_ECONN not connected, no TLS, or cut off before
 * a byte of the answer, JR_ETIMEOUT, JR_ETRUNC cut off later, JR_EPROTO no valid HTTP/1.1. */
#ifndef JR_IO_HTTP_CLIENT_H
#define JR_IO_HTTP_CLIENT_H

#include "base/str.h"
#include "io/http_server.h"

struct jr_http_client;
struct jr_http_exchange;

struct jr_http_client_config {
    uint32_t connect_timeout_ms;
    uint32_t idle_timeout_ms; /* of pooled connections */
    uint32_t idle_per_host_max;
    /* Of https URLs. Text is borrowed for the client's life. */
    const char *tls_ca; /* PEM: who may vouch for a peer; NULL: whom the system trusts */
    bool tls_insecure;  /* peers are not checked: anybody between may read and change all */
    /* A peer was refused, or refused us; at most one a second is told. May be NULL. */
    void (*on_tls_failed)(void *ctx, const char *peer, const char *words);
    void *ctx;
};

struct jr_http_reply {
    int status;
    const struct jr_http_header *headers;
    uint32_t n_headers;
    int64_t content_length; /* -1 when chunked or until close */
};

struct jr_http_fetch {
    const char *url;           /* http:// or https:// host:port/path; copied */
    const char *method;        /* "GET" */
    const char *content_type;  /* NULL for none */
    const char *extra_headers; /* "Name: value\r\n" lines or NULL; copied */
    const void *body;          /* copied, unless body_stays */
    size_t n_body;
    bool body_stays;                /* borrowed until on_end returned or cancel */
    uint32_t first_byte_timeout_ms; /* 0: none */
    uint32_t total_timeout_ms;      /* 0: none */
    void (*on_head)(void *ctx, const struct jr_http_reply *reply); /* may be NULL */
    void (*on_data)(void *ctx, const void *p, size_t n);           /* borrows; may be NULL */
    void (*on_end)(void *ctx, int err); /* 0, or why the answer is missing or not whole */
    void *ctx;
};

JR_MUST_CHECK int jr_http_client_create(struct jr_loop *loop,
                                        const struct jr_http_client_config *config,
                                        struct jr_http_client **ret);
/* Cancels what is under way without callbacks; cb (may be NULL) when all handles are closed. */
void jr_http_client_close(struct jr_http_client *c, void (*cb)(void *ctx), void *ctx);

/* JR_EINVAL for a bad URL, JR_ECONFIG for https when tls_ca cannot be used, JR_ECLOSED (no callback
 * then). *ret (may be NULL) is valid until on_end returned or cancel. */
JR_MUST_CHECK int jr_http_client_fetch(struct jr_http_client *c, const struct jr_http_fetch *fetch,
                                       struct jr_http_exchange **ret);
/* 0, or JR_EINVAL in words. */
JR_MUST_CHECK int jr_http_url_check(const char *url, struct jr_errmsg *e);
/* Backpressure: stop and go on reading from the peer. What was read already (at most 64 KiB) and an
 * end in it are still delivered after pause. */
void jr_http_exchange_pause(struct jr_http_exchange *x);
void jr_http_exchange_resume(struct jr_http_exchange *x);
/* From on_head on: the answer has so long to be whole (JR_ETIMEOUT), or with 0 as long as the exchange. */
void jr_http_exchange_hurry(struct jr_http_exchange *x, uint32_t ms);
/* Closes the connection; no callback fires any more. From any callback; not twice. */
void jr_http_exchange_cancel(struct jr_http_exchange *x);

/* The whole answer in one piece, bounded by body_max; for control-plane calls. reply is NULL when
 * err != 0; everything is borrowed for the call. JR_ELIMIT when the body is larger. fetch's own
 * callbacks are not used. fn does not fire when the client is closed before. */
typedef void jr_http_whole_fn(void *ctx, int err, const struct jr_http_reply *reply,
                              struct jr_str body);
JR_MUST_CHECK int jr_http_client_whole(struct jr_http_client *c, const struct jr_http_fetch *fetch,
                                       size_t body_max, jr_http_whole_fn *fn, void *ctx);
/* The same, for a caller that may cancel: *ret is valid until fn is called or cancel. */
JR_MUST_CHECK int jr_http_client_whole_begin(struct jr_http_client *c,
                                             const struct jr_http_fetch *fetch, size_t body_max,
                                             jr_http_whole_fn *fn, void *ctx,
                                             struct jr_http_exchange **ret);

#endif
