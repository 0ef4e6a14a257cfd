/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "jr_test.h"
#include <string.h>

static jmp_buf back;
static char seen[512];

static void jump_back(const char *text)
{
    (void)strncpy(seen, text, sizeof seen - 1);
    longjmp(back, 1);
}

static void sink_gets_the_place_and_the_text(void **state)
{
    (void)state;
    jr_assert_set_sink(jump_back);
    if (setjmp(back) == 0) {
        JR_ASSERT(1 == 2);
        fail();
    }
    jr_assert_set_sink(NULL);
    assert_non_null(strstr(seen, "test_base_assert.c:"));
    assert_non_null(strstr(seen, "sink_gets_the_place_and_the_text"));
    assert_non_null(strstr(seen, "1 == 2"));
}

static void fails(void *ctx)
{
    JR_ASSERT(ctx != NULL);
}

static void impossible(void *ctx)
{
    (void)ctx;
    JR_IMPOSSIBLE("never");
}

static void without_a_sink_it_aborts(void **state)
{
    (void)state;
    assert_true(jr_test_aborts(fails, NULL));
    assert_false(jr_test_aborts(fails, seen));
    assert_true(jr_test_aborts(impossible, NULL));
}

static void count_if_counts(void **state)
{
    unsigned counter = 0;

    (void)state;
    JR_COUNT_IF(true, counter);
    JR_COUNT_IF(false, counter);
    assert_int_equal(counter, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sink_gets_the_place_and_the_text),
        cmocka_unit_test(without_a_sink_it_aborts),
        cmocka_unit_test(count_if_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
