/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/tokenizer_templates.h"
#include "jr_test.h"

#define MAX JR_TOKEN_TEMPLATES_MAX

static struct jr_token_key key(uint64_t i)
{
    return (struct jr_token_key){.lo = i, .hi = ~i};
}

static void test_one_is_distrusted_for_its_time(void **state)
{
    (void)state;
    struct jr_token_templates t = {0};
    assert_true(jr_token_templates_trusted(&t, key(0), 0));
    jr_token_templates_distrust(&t, key(1), 100);
    assert_false(jr_token_templates_trusted(&t, key(1), 99));
    assert_true(jr_token_templates_trusted(&t, key(1), 100));
    assert_true(jr_token_templates_trusted(&t, key(2), 99));
    jr_token_templates_distrust(&t, key(1), 200); /* in its own place */
    jr_token_templates_distrust(&t, key(2), 150);
    assert_false(jr_token_templates_trusted(&t, key(1), 199));
    assert_false(jr_token_templates_trusted(&t, key(2), 149));
}

static void test_the_one_that_ends_first_makes_room(void **state)
{
    (void)state;
    struct jr_token_templates t = {0};
    for (uint64_t i = 0; i < MAX; i++)
        jr_token_templates_distrust(&t, key(i), 1000 + (i + MAX / 2) % MAX);
    jr_token_templates_distrust(&t, key(MAX), 5000);
    for (uint64_t i = 0; i <= MAX; i++)
        assert_int_equal(jr_token_templates_trusted(&t, key(i), 500), i == MAX / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_is_distrusted_for_its_time),
        cmocka_unit_test(test_the_one_that_ends_first_makes_room),
    };
    return cmocka_run_group_tests_name("app/tokenizer_templates", tests, NULL, NULL);
}
