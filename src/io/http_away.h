/* SPDX-License-Identifier: Apache-2.0 */
/* http_away: a request that was accepted on one loop and is answered on another.
 *
 *     its server's loop                         the other loop
 *     jr_http_away ── a copy of it ──────────► fn(ctx, copy): a request like any
 *     respond, start, write, end ◄── pieces ── jr_http_respond… on the copy
 *          └─ each piece goes back when it is written: so much room there is again; the last one
 *             takes the copy along
 *     the client is gone ────────────────────► on_gone of the copy
 *
 * For requests that are few: all is copied. Both loops must run until it has been answered. */
#ifndef JR_IO_HTTP_AWAY_H
#define JR_IO_HTTP_AWAY_H

#include "io/http_server.h"

/* Takes req, on `home`, its server's loop. *n_away, of home's thread, counts those that are not
 * answered yet. */
void jr_http_away(struct jr_http_request *req, struct jr_loop *home, struct jr_loop *to,
                  uint32_t *n_away, void (*fn)(void *ctx, struct jr_http_request *req), void *ctx);

#endif
