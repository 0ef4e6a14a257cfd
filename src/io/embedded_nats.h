/* SPDX-License-Identifier: Apache-2.0 */
/* embedded_nats: a nats-server with JetStream as our child, for --embedded-nats. Loop thread only.
 *
 *     start ──► on_ready(url)  it takes connections ──► on_failed(words)  it ended by itself
 *          └──► on_failed(words)                        at most once, then only stop is allowed
 */
#ifndef JR_IO_EMBEDDED_NATS_H
#define JR_IO_EMBEDDED_NATS_H

#include "io/loop.h"

struct jr_embedded_nats;

struct jr_embedded_nats_config {
    const char *dir;     /* where JetStream stores; made when missing; copied */
    uint16_t port;       /* 0: a free one */
    uint32_t timeout_ms; /* until it must take connections; 0: 10 s */
    void (*on_ready)(void *ctx, const char *url); /* nats://127.0.0.1:PORT; borrows */
    void (*on_failed)(void *ctx, const char *words);
    void *ctx;
};

/* JR_ENOTFOUND when there is no nats-server on PATH or in /usr/sbin, JR_EIO for the folder,
 * JR_EADDRINUSE, JR_ECHILD; words in e, and no callback then. */
JR_MUST_CHECK int jr_embedded_nats_start(struct jr_loop *loop,
                                         const struct jr_embedded_nats_config *config,
                                         struct jr_errmsg *e, struct jr_embedded_nats **ret);
const char *jr_embedded_nats_url(const struct jr_embedded_nats *n);
/* SIGTERM, SIGKILL after 5 s; cb (may be NULL) when it is gone and n is freed. No other callback
 * fires any more. When it had ended already, or n is NULL, cb fires at once. */
void jr_embedded_nats_stop(struct jr_embedded_nats *n, void (*cb)(void *ctx), void *ctx);

#endif
