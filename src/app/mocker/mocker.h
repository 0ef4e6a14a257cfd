/* SPDX-License-Identifier: Apache-2.0 */
/* mocker: the command `jetrouter mocker`: simulated vLLM-like engines on consecutive ports, in one
 * process on one loop. */
#ifndef JR_APP_MOCKER_MOCKER_H
#define JR_APP_MOCKER_MOCKER_H

#include "app/config.h"

/* Runs until SIGTERM or SIGINT: 0. Else an error with words in e: JR_EADDRINUSE, JR_ECONFIG, … */
int jr_mocker_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
