/* SPDX-License-Identifier: Apache-2.0 */
/* frontend: the HA replica as a process: OpenAI-compatible HTTP in front, pools behind.
 *
 *     signals ─► drain      HTTP server ─► service ─► proxy ─► driver(s) ─► NATS, workers
 */
#ifndef JR_APP_FRONTEND_FRONTEND_H
#define JR_APP_FRONTEND_FRONTEND_H

#include "app/config.h"

/* Runs until SIGTERM or SIGINT and the drain that follows; a second signal ends at once. */
int jr_frontend_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
