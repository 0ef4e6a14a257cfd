/* SPDX-License-Identifier: Apache-2.0 */
/* status: the HTTP endpoint of a bridge process. Loop thread only.
 *
 *     GET /live      200 while the process runs its loop
 *     GET /ready     200 when NATS is reached and each engine is registered, else 503; says which not
 *     GET /health    as /ready
 *     GET /metrics   Prometheus text */
#ifndef JR_APP_BRIDGE_STATUS_H
#define JR_APP_BRIDGE_STATUS_H

#include "app/bridge/hub.h"

struct jr_bridge_http;

/* Borrows hub and metrics, until it is closed. JR_EADDRINUSE, JR_EINVAL with words in e. */
JR_MUST_CHECK int jr_bridge_http_listen(struct jr_loop *loop, const char *host, uint16_t port,
                                        struct jr_bridge_hub *hub, struct jr_metrics *metrics,
                                        struct jr_bridge_http **ret, struct jr_errmsg *e);
uint16_t jr_bridge_http_port(const struct jr_bridge_http *s);
/* The hub is about to go: /ready and /metrics say so from now on. */
void jr_bridge_http_stopping(struct jr_bridge_http *s);
/* Takes it; cb on the loop when its memory is gone. */
void jr_bridge_http_close(struct jr_bridge_http *s, void (*cb)(void *ctx), void *ctx);

#endif
