/* SPDX-License-Identifier: Apache-2.0 */
/* http_listen: a listening socket, and what is done when no connection can be taken. Loop thread only.
 *
 *            connections wait
 *      ┌──► LISTENS ─────────► take each ──► on_conn
 *      │       │ no descriptor, no memory
 *      │       ▼
 *      └─── PAUSES: nothing is polled; those who connect wait with the kernel, none is lost
 *     pause over
 *
 * Not libuv's listener: that turns waiting connections away by a descriptor of each loop in reserve,
 * and tries on within one callback when another thread was quicker to take it. */
#ifndef JR_IO_HTTP_LISTEN_H
#define JR_IO_HTTP_LISTEN_H

#include "io/loop.h"

#include <uv.h>

#define JR_HTTP_LISTEN_PAUSE_MS 100

struct jr_http_listener_config {
    const char *host; /* an address, or "localhost" */
    uint16_t port;    /* 0: any free one */
    bool reuse_port;  /* SO_REUSEPORT */
    bool first;       /* with reuse_port: JR_EADDRINUSE when another has the port already */
    void (*on_conn)(void *ctx, int fd); /* takes fd; may close the listener */
    void *ctx;
    uint64_t *pauses; /* counted there; borrowed */
};

struct jr_http_listener {
    void (*on_conn)(void *ctx, int fd);
    void *ctx;
    uv_poll_t poll;
    uv_timer_t resume;
    int fd; /* -1: closed, or never opened */
    uint16_t port;
    uint64_t *pauses;
    unsigned open_handles;
    void (*on_closed)(void *ctx);
};

/* After an error nothing is to be closed: JR_EADDRINUSE, JR_EINVAL, JR_EIO with words in e. */
JR_MUST_CHECK int jr_http_listener_open(struct jr_http_listener *l, struct jr_loop *loop,
                                        const struct jr_http_listener_config *config,
                                        struct jr_errmsg *e);
/* Takes who waits with the kernel now: before a close of those who must not be reset. */
void jr_http_listener_take(struct jr_http_listener *l);
/* Who waits with the kernel is reset. on_closed(ctx of the config) when the loop is done with l. To
 * be called once after a successful open. */
void jr_http_listener_close(struct jr_http_listener *l, void (*on_closed)(void *ctx));

#endif
