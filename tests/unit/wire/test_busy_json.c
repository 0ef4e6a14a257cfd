/* SPDX-License-Identifier: Apache-2.0 */
#include "jr_test.h"
#include "wire/busy_json.h"

#include <string.h>

static int decode(const char *text, struct jr_busy_record *ret)
{
    struct jr_errmsg e = {0};
    int err = jr_busy_decode(text, strlen(text), ret, &e);
    assert_int_equal(e.text[0] != 0, err < 0);
    return err;
}

static void golden(void **state)
{
    (void)state;
    struct jr_busy_record got, r = {.model = "a/b:c",
                                    .limits = {.has_decode_blocks = true,
                                               .decode_blocks = 0.1,
                                               .has_prefill_tokens = true,
                                               .prefill_tokens = 1e15}};
    struct jr_buf b;
    jr_buf_init(&b, JR_BUSY_BYTES_MAX);
    assert_int_equal(jr_busy_encode(&r, &b), 0);
    assert_string_equal(jr_buf_str(&b),
                        "{\"model\":\"a/b:c\",\"active_decode_blocks_threshold\":"
                        "0.10000000000000001,\"active_prefill_tokens_threshold\":1000000000000000,"
                        "\"active_prefill_tokens_threshold_frac\":null}");
    assert_int_equal(decode(jr_buf_str(&b), &got), 0);
    assert_memory_equal(&got, &r, sizeof got);
    assert_int_equal(decode("{\"model\":\"m\",\"newer\":1}", &got), 0);
    assert_false(jr_busy_any(&got.limits));
    r.model[0] = 0;
    assert_int_equal(jr_busy_encode(&r, &b), JR_EINVAL);
    jr_buf_deinit(&b);
}

/* What is written back into a bucket that was made anew, and what was set over something. */
static void stamps(void **state)
{
    (void)state;
    struct jr_busy_record got,
        copy = {.model = "m", .deleted = true, .set_ns = 1764000000000000001};
    struct jr_busy_record over = {.model = "m", .after_ns = 50}, plain = {.model = "m"};
    struct jr_buf b;
    jr_buf_init(&b, JR_BUSY_BYTES_MAX);
    assert_int_equal(jr_busy_encode(&copy, &b), 0);
    assert_string_equal(jr_buf_str(&b), "{\"model\":\"m\",\"active_decode_blocks_threshold\":null,"
                                        "\"active_prefill_tokens_threshold\":null,"
                                        "\"active_prefill_tokens_threshold_frac\":null,"
                                        "\"set_ns\":\"1764000000000000001\",\"deleted\":true}");
    assert_int_equal(decode(jr_buf_str(&b), &got), 0);
    assert_memory_equal(&got, &copy, sizeof got);
    assert_int_equal(decode("{\"deleted\":true,\"active_prefill_tokens_threshold\":1}", &got), 0);
    assert_true(got.deleted && !got.model[0] && !jr_busy_any(&got.limits));
    b.n = 0;
    assert_int_equal(jr_busy_encode(&got, &b), 0); /* a marker says no name */
    assert_int_equal(decode(jr_buf_str(&b), &got), 0);
    b.n = 0;
    assert_int_equal(jr_busy_encode(&over, &b), 0);
    assert_int_equal(decode(jr_buf_str(&b), &got), 0);
    assert_int_equal(got.after_ns, 50);
    jr_buf_deinit(&b);
    /* A copy is as old as what it is a copy of; a clock that went back makes nothing older. */
    assert_int_equal(jr_busy_stamp_ns(&copy, 7), 1764000000000000001);
    assert_int_equal(jr_busy_stamp_ns(&plain, 7), 7);
    assert_int_equal(jr_busy_stamp_ns(&over, 70), 70);
    assert_int_equal(jr_busy_stamp_ns(&over, 40), 51);
}

static void refused(void **state)
{
    (void)state;
    struct jr_busy_record got;
    assert_int_equal(decode("", &got), JR_EPROTO);
    assert_int_equal(decode("[]", &got), JR_EPROTO);
    assert_int_equal(decode("{}", &got), JR_EPROTO);
    assert_int_equal(decode("{\"deleted\":false}", &got), JR_EPROTO);
    assert_int_equal(decode("{\"model\":\"m\",\"set_ns\":\"9223372036854775807\"}", &got),
                     JR_EPROTO);
    assert_int_equal(decode("{\"model\":7}", &got), JR_EPROTO);
    assert_int_equal(decode("{\"model\":\"m\",\"active_decode_blocks_threshold\":\"1\"}", &got),
                     JR_EPROTO);
    assert_int_equal(decode("{\"model\":\"m\",\"active_prefill_tokens_threshold\":-1}", &got),
                     JR_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(stamps),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
