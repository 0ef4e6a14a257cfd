/* SPDX-License-Identifier: Apache-2.0 */
/* ctl: asks one replica over HTTP and prints what it says.
 *
 *     live ready                      GET  /live, /ready: the exit code says it
 *     state workers replicas digest   GET  /state, a part of it each
 *     snapshot reset drain            POST /admin/<action>, its message
 *     tail                            GET  /admin/tail, the log's events as they come
 *     skip                            no HTTP: writes skip.{seq} to NATS, for a fleet that cannot start
 *
 * With --json the JSON of that part as the replica sent it. Exit code 69 when it is not reachable. */
#ifndef JR_APP_CTL_CTL_H
#define JR_APP_CTL_CTL_H

#include "app/config.h"

/* The actions in order of their number from 0; NULL behind the last. */
const char *jr_ctl_action_name(unsigned i);

/* ctl_skip.c */
int jr_ctl_skip(const struct jr_config *cfg, struct jr_errmsg *e);

int jr_ctl_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
