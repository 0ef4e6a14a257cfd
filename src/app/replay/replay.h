/* SPDX-License-Identifier: Apache-2.0 */
/* replay: the command `jetrouter replay`: sends the requests of a trace to one URL, or to two one
 * after the other, checks each answer in full and reports.
 *
 *     --trace --url A                    report of A
 *     --trace --url A --url B            A/B table (replayed one after the other)
 *     --trace --url B --compare a.json   A/B table, A from an earlier run's --json
 *     --compare a.json --compare b.json  A/B table of two earlier runs
 *
 * Main thread. */
#ifndef JR_APP_REPLAY_REPLAY_H
#define JR_APP_REPLAY_REPLAY_H

#include "app/config.h"

/* 0; 1 when answers were wrong or missing (the report says why); 130 after SIGINT or SIGTERM, with
 * the report of what was answered; or an error with words in e. */
int jr_replay_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
