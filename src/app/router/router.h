/* SPDX-License-Identifier: Apache-2.0 */
/* router: the standalone router of one endpoint: the frontend's machinery with one pool and other
 * paths, for data planes that talk to the workers themselves.
 *
 *     POST /generate               sent to a worker, answered in Dynamo's items (generate.c)
 *     POST /best_worker_id         where would it go (ask.c)
 *     POST /select                 the same, and booked (ask.c)
 *     POST /prefill_done, /free    how it goes; at any replica (booking.c)
 */
#ifndef JR_APP_ROUTER_ROUTER_H
#define JR_APP_ROUTER_ROUTER_H

#include "app/config.h"

/* Runs until SIGTERM or SIGINT and the drain that follows; a second signal ends at once. */
int jr_router_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
