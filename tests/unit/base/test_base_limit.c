/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/limit.h"
#include "jr_test.h"

#include <string.h>

static void test_counts(void **state)
{
    (void)state;
    assert_int_equal(jr_limit(JR_LIMIT_QUEUE), JR_ELIMIT);
    assert_int_equal(jr_limit_of(JR_LIMIT_QUEUE, JR_ELIMIT), JR_ELIMIT);
    assert_int_equal(jr_limit_of(JR_LIMIT_QUEUE, JR_ENOMEM), JR_ENOMEM);
    assert_int_equal(jr_limit_of(JR_LIMIT_QUEUE, 0), 0);
    assert_int_equal(jr_limit_count(JR_LIMIT_QUEUE), 2);
    assert_int_equal(jr_limit_count(JR_LIMIT_POOLS), 0);
}

static void test_names_differ(void **state)
{
    (void)state;
    for (int i = 0; i < JR_LIMITS; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(jr_limit_name((enum jr_limit)i),
                                    jr_limit_name((enum jr_limit)j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_names_differ),
    };
    return cmocka_run_group_tests_name("base_limit", tests, NULL, NULL);
}
