/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "jr_test.h"
#include <string.h>

static void codes_are_distinct_and_named(void **state)
{
    (void)state;
    for (int i = 0; i < JR_ERR_COUNT; i++) {
        assert_true(jr_err_name(-i)[0] && jr_err_text(-i)[0] && jr_err_hint(-i)[0]);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(jr_err_name(-i), jr_err_name(-k));
        assert_true(i == 0 ? jr_err_exit_code(0) == 0
                           : jr_err_exit_code(-i) >= 64 && jr_err_exit_code(-i) < 126);
    }
    assert_string_equal(jr_err_name(JR_ENOTFOUND), "ENOTFOUND");
    assert_int_equal(jr_err_exit_code(JR_ECONFIG), 78);
}

static void unknown_codes_read_as_internal(void **state)
{
    const int codes[] = {1, -(int)JR_ERR_COUNT, -10000, 0x7fffffff, -0x7fffffff - 1};

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_string_equal(jr_err_name(codes[i]), "EINTERNAL");
}

static void messages_are_set_and_wrapped(void **state)
{
    struct jr_errmsg e = {0};

    (void)state;
    assert_int_equal(jr_errmsg_set(NULL, JR_EIO, "x"), JR_EIO);
    assert_int_equal(jr_errmsg_wrap(NULL, JR_EIO, "x"), JR_EIO);
    assert_int_equal(jr_errmsg_wrap(&e, JR_ETIMEOUT, "get %d", 1), JR_ETIMEOUT);
    assert_string_equal(e.text, "get 1: timed out");
    assert_int_equal(jr_errmsg_set(&e, JR_EIO, "disk %s", "full"), JR_EIO);
    jr_errmsg_wrap(&e, JR_EIO, "write %s", "a");
    jr_errmsg_wrap(&e, JR_EIO, "save");
    assert_string_equal(e.text, "save: write a: disk full");
    jr_errmsg_set(&e, JR_EIO, "again: %s", e.text); /* the old text as an argument */
    assert_string_equal(e.text, "again: save: write a: disk full");
}

static void long_messages_are_cut_between_characters(void **state)
{
    char text[400];
    struct jr_errmsg e = {0};

    (void)state;
    for (size_t lead = 0; lead < 3; lead++) { /* EURO SIGN, three bytes, at each offset */
        memset(text, 'a', lead);
        for (size_t i = lead; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 4);
        jr_errmsg_set(&e, JR_EIO, "%s", text);
        assert_int_equal((strlen(e.text) - lead) % 3, 0);
        assert_true(strlen(e.text) >= sizeof e.text - 3);
    }
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    jr_errmsg_wrap(&e, JR_EIO, "%s", text);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_distinct_and_named),
        cmocka_unit_test(unknown_codes_read_as_internal),
        cmocka_unit_test(messages_are_set_and_wrapped),
        cmocka_unit_test(long_messages_are_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
