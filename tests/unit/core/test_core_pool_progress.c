/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a restore or a replay: its tenths, at the most a line a second of a slow one, and
 * its end; nothing of what takes no time. */
#include "pool_rig.h"

#include <string.h>

static char said[64][160];
static uint32_t n_said;

static void on_trace(void *ctx, enum jr_trace_level level, const char *event, const char *text)
{
    (void)ctx;
    if (strncmp(event, "recovery.", 9) != 0 || strcmp(event, "recovery.move") == 0)
        return;
    assert_int_equal(level, JR_TRACE_INFO);
    assert_true(n_said < 64);
    (void)snprintf(said[n_said++], sizeof said[0], "%s %s", event + 9, text);
}

static struct jr_pool *make(void)
{
    static const struct jr_trace trace = {on_trace, NULL};
    struct jr_pool_config c;
    struct jr_pool *p;
    rig_config(&c);
    assert_int_equal(jr_pool_create(&c, &trace, &p), 0);
    p->now_ms = 5000;
    n_said = 0;
    return p;
}

static void test_tenths(void **state)
{
    (void)state;
    struct jr_pool *p = make();
    jr_pool_progress_begin(p, "restore", 0, 1000);
    for (uint64_t at = 1; at <= 1000; at++) {
        p->now_ms = 5000 + at;
        jr_pool_progress(p, at);
    }
    jr_pool_progress_end(p, 1000);
    assert_int_equal(n_said, 10);
    assert_string_equal(said[0], "progress what=restore at=100 of=1000 percent=10 seconds=0.1");
    assert_string_equal(said[8], "progress what=restore at=900 of=1000 percent=90 seconds=0.9");
    assert_string_equal(said[9], "done what=restore done=1000 seconds=1.000");
    jr_pool_progress(p, 2000); /* it is over */
    jr_pool_progress_end(p, 2000);
    assert_int_equal(n_said, 10);
    jr_pool_destroy(p);
}

static void test_slow(void **state)
{
    (void)state;
    struct jr_pool *p = make();
    jr_pool_progress_begin(p, "replay", 500, 100500);
    for (uint64_t at = 501; at < 511; at++) {
        p->now_ms += 600;
        jr_pool_progress(p, at);
    }
    assert_int_equal(n_said, 5); /* of six seconds; one step is less than a second */
    assert_string_equal(said[0], "progress what=replay at=2 of=100000 percent=0 seconds=1.2");
    jr_pool_destroy(p);
}

static void test_nothing_to_say(void **state)
{
    (void)state;
    struct jr_pool *p = make();
    jr_pool_progress_begin(p, "replay", 7, 7);
    jr_pool_progress(p, 7);
    jr_pool_progress_end(p, 7);
    jr_pool_progress_begin(p, "replay", 9, 3); /* a stream that shrank meanwhile */
    jr_pool_progress(p, 9);
    jr_pool_progress_end(p, 9);
    assert_int_equal(n_said, 0);
    jr_pool_progress_begin(p, "restore", 0, 100); /* within one step */
    for (uint64_t at = 1; at <= 100; at++)
        jr_pool_progress(p, at);
    assert_int_equal(n_said, 0);
    jr_pool_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenths),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_nothing_to_say),
    };
    return cmocka_run_group_tests_name("core_pool_progress", tests, NULL, NULL);
}
