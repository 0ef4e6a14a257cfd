/* SPDX-License-Identifier: Apache-2.0 */
/* failpoint: named places where a test may make the program fail, crash or wait. Compiled to
 * nothing unless JR_FAILPOINTS is defined.
 *
 * JETROUTER_FAILPOINTS="snapshot.after_put=crash;kv.put=error*3;stream.apply=sleep(50)" sets them;
 * tests may call jr_failpoint_set. Names are listed in docs/testing.md. */
#ifndef JR_BASE_FAILPOINT_H
#define JR_BASE_FAILPOINT_H

#include "base/err.h"
#include <stdbool.h>

#ifdef JR_FAILPOINTS
/* 0 to go on, or the error to act as if it had happened; may not return at all (crash). */
int jr_failpoint_hit(const char *name);
JR_MUST_CHECK int jr_failpoint_set(const char *spec); /* JR_EINVAL on a spec it cannot read */
void jr_failpoint_clear(void);
/* The host's way to wait (base has no clock). */
void jr_failpoint_set_sleep(void (*sleep_ms)(unsigned ms));
#define JR_FAILPOINT(name) jr_failpoint_hit(name)
#else
#define JR_FAILPOINT(name) (0)
#endif

#endif
