/* SPDX-License-Identifier: Apache-2.0 */
/* mock_fault: what is taken, what is refused and changes nothing, and what is told. */
#include "app/mocker/mock_fault.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static int set(struct jr_mock_faults *f, const char *text)
{
    struct jr_errmsg e = {{0}};
    int err = jr_mock_faults_set(f, jr_str_of(text, strlen(text)), &e);
    assert_true((err == 0) == (e.text[0] == '\0'));
    return err;
}

static void faults_are_set_one_by_one(void **state)
{
    (void)state;
    struct jr_mock_faults f;
    jr_mock_faults_init(&f);
    assert_false(f.refuse || f.hang);
    assert_true(f.slow == 1 && f.drop_events == 0);
    assert_int_equal(set(&f, "refuse=true"), 0);
    assert_int_equal(set(&f, "hang=1"), 0);
    assert_int_equal(set(&f, "slow=2.5"), 0);
    assert_int_equal(set(&f, "drop_events=0.01"), 0);
    assert_true(f.refuse && f.hang);
    assert_true(f.slow == 2.5 && f.drop_events == 0.01);
    assert_int_equal(set(&f, "refuse=0"), 0);
    assert_false(f.refuse);
}

static void others_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "refuse",
                                      "refuse=",
                                      "refuse=maybe",
                                      "=1",
                                      "slow=0",
                                      "slow=x",
                                      "drop_events=1.1",
                                      "drop_events=-1",
                                      "drop_events=nan",
                                      "slower=2",
                                      "slow=1 ",
                                      "slow=",
                                      "slow=1e9",
                                      "hang=true&x=1",
                                      "slow=11111111111111111111111111111111111111111111111111"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct jr_mock_faults f, before;
        memset(&f, 0, sizeof f);
        jr_mock_faults_init(&f);
        before = f;
        assert_int_equal(set(&f, bad[i]), JR_EINVAL);
        assert_true(f.refuse == before.refuse && f.hang == before.hang && f.slow == before.slow &&
                    f.drop_events == before.drop_events);
    }
}

static void they_are_told(void **state)
{
    (void)state;
    struct jr_mock_faults f;
    struct jr_buf b;
    jr_mock_faults_init(&f);
    f.hang = true;
    f.drop_events = 0.25;
    jr_buf_init(&b, 1024);
    jr_mock_faults_json(&f, &b);
    assert_string_equal(jr_buf_str(&b),
                        "\"refuse\":false,\"hang\":true,\"slow\":1,\"drop_events\":0.25");
    jr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_set_one_by_one),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(they_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
