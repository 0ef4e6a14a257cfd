/* SPDX-License-Identifier: Apache-2.0 */
/* signal: SIGTERM, SIGINT and SIGHUP as callbacks on a loop. Loop thread only; one per process. */
#ifndef JR_IO_SIGNAL_H
#define JR_IO_SIGNAL_H

#include "io/loop.h"

struct jr_signals;

/* fn gets the signal's number, each time it comes. JR_EIO when the handlers cannot be set. */
JR_MUST_CHECK int jr_signals_create(struct jr_loop *loop, void (*fn)(void *ctx, int signum),
                                    void *ctx, struct jr_signals **ret);
/* The default actions are back at once; memory is freed on the loop. NULL is fine. */
void jr_signals_destroy(struct jr_signals *s);

#endif
