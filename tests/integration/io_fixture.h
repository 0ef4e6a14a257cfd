/* SPDX-License-Identifier: Apache-2.0 */
/* io_fixture: a loop that the test's own thread turns, for tests of io. The test calls blocking
 * functions as a lane would, and pumps the loop while it waits. */
#ifndef JR_TEST_IO_FIXTURE_H
#define JR_TEST_IO_FIXTURE_H

#include "base/limits.h"
#include "io/loop.h"
#include "io/nats_conn.h"
#include "jr_test.h"
#include "jr_test_nats.h"

static inline void pump(struct jr_loop *loop)
{
    uv_run(jr_loop_uv(loop), UV_RUN_NOWAIT);
}

/* Turn the loop until expr is true. */
#define PUMP_WAIT(loop, expr, timeout_ms)                                                          \
    do {                                                                                           \
        uint64_t until_ = jr_test_now_ms() + (timeout_ms);                                         \
        while (!(expr)) {                                                                          \
            pump(loop);                                                                            \
            if (jr_test_now_ms() > until_)                                                         \
                fail_msg("not within %u ms: %s", (unsigned)(timeout_ms), #expr);                   \
            jr_test_sleep_ms(1);                                                                   \
        }                                                                                          \
    } while (0)

static inline void mark_done(void *ctx)
{
    *(bool *)ctx = true;
}

#endif
