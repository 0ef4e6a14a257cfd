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

static void refused(void **state)
{
    (void)state;
    struct jr_busy_record got;
    assert_int_equal(decode("", &got), JR_EPROTO);
    assert_int_equal(decode("[]", &got), JR_EPROTO);
    assert_int_equal(decode("{}", &got), JR_EPROTO);
    assert_int_equal(decode("{\"model\":7}", &got), JR_EPROTO);
    assert_int_equal(decode("{\"model\":\"m\",\"active_decode_blocks_threshold\":\"1\"}", &got),
                     JR_EPROTO);
    assert_int_equal(decode("{\"model\":\"m\",\"active_prefill_tokens_threshold\":-1}", &got),
                     JR_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
