/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cursor.h"
#include "base/rng.h"
#include "jr_test.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void reads_both_orders(void **state)
{
    const uint8_t in[] = {1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0,   0,  4,
                          5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 'x', 'y'};
    struct jr_cursor c = jr_cursor_of(in, sizeof in);
    const uint8_t *bytes;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    (void)state;
    assert_int_equal(jr_cursor_u8(&c, &u8), 0);
    assert_int_equal(u8, 1);
    assert_int_equal(jr_cursor_be16(&c, &u16), 0);
    assert_int_equal(u16, 2);
    assert_int_equal(jr_cursor_be32(&c, &u32), 0);
    assert_int_equal(u32, 3);
    assert_int_equal(jr_cursor_be64(&c, &u64), 0);
    assert_int_equal(u64, 4);
    assert_int_equal(jr_cursor_le32(&c, &u32), 0);
    assert_int_equal(u32, 5);
    assert_int_equal(jr_cursor_le64(&c, &u64), 0);
    assert_int_equal(u64, 6);
    assert_int_equal(jr_cursor_bytes(&c, 2, &bytes), 0);
    assert_memory_equal(bytes, "xy", 2);
    assert_int_equal(jr_cursor_u8(&c, &u8), JR_ETRUNC);
}

static void truncation_consumes_nothing(void **state)
{
    const uint8_t in[7] = {0};
    const uint8_t *bytes;
    uint16_t u16 = 9;
    uint32_t u32 = 9;
    uint64_t u64 = 9;

    (void)state;
    for (size_t n = 0; n < 8; n++) {
        struct jr_cursor c = jr_cursor_of(in, n);
        assert_int_equal(jr_cursor_be64(&c, &u64), JR_ETRUNC);
        assert_int_equal(jr_cursor_le64(&c, &u64), JR_ETRUNC);
        if (n < 4) {
            assert_int_equal(jr_cursor_be32(&c, &u32), JR_ETRUNC);
            assert_int_equal(jr_cursor_le32(&c, &u32), JR_ETRUNC);
        }
        if (n < 2)
            assert_int_equal(jr_cursor_be16(&c, &u16), JR_ETRUNC);
        assert_int_equal(jr_cursor_bytes(&c, n + 1, &bytes), JR_ETRUNC);
        assert_int_equal(jr_cursor_bytes(&c, SIZE_MAX, &bytes), JR_ETRUNC);
        assert_int_equal(c.n, n);
        assert_ptr_equal(c.p, in);
    }
    assert_true(u16 == 9 && u32 == 9 && u64 == 9);
}

static void empty_input_may_be_null(void **state)
{
    struct jr_cursor c = jr_cursor_of(NULL, 0);
    const uint8_t *bytes;

    (void)state;
    assert_int_equal(jr_cursor_bytes(&c, 0, &bytes), 0);
}

static int u64_of(const char *s, uint64_t *ret)
{
    return jr_parse_u64(s, strlen(s), ret);
}

static int i64_of(const char *s, int64_t *ret)
{
    return jr_parse_i64(s, strlen(s), ret);
}

static int hex_of(const char *s, uint64_t *ret)
{
    return jr_parse_hex64(s, strlen(s), ret);
}

static int f64_of(const char *s, double *ret)
{
    return jr_parse_f64(s, strlen(s), ret);
}

static void parses_edges(void **state)
{
    uint64_t u = 0;
    int64_t i = 0;
    double d = 0;

    (void)state;
    assert_true(u64_of("18446744073709551615", &u) == 0 && u == UINT64_MAX);
    assert_true(u64_of("007", &u) == 0 && u == 7);
    assert_true(i64_of("-9223372036854775808", &i) == 0 && i == INT64_MIN);
    assert_true(i64_of("9223372036854775807", &i) == 0 && i == INT64_MAX);
    assert_true(i64_of("-0", &i) == 0 && i == 0);
    assert_true(hex_of("FFFFffffFFFFffff", &u) == 0 && u == UINT64_MAX);
    assert_true(f64_of("-1.5e3", &d) == 0 && d == -1500);
    assert_true(f64_of(".5", &d) == 0 && d == 0.5);
    assert_true(f64_of("5.", &d) == 0 && d == 5);
    assert_true(jr_parse_u64("12345", 3, &u) == 0 && u == 123);
    assert_true(jr_parse_f64("1.255", 3, &d) == 0 && d == 1.2);
}

static void refuses_what_is_not_a_number(void **state)
{
    static const char *const bad[] = {"",    " 1",  "1 ",  "+1",   "0x1",     "1_0", "1,0",
                                      "--1", "abc", "1\n", "-",    "inf",     "nan", ".",
                                      "e5",  "1e",  "1e+", "1..2", "\xc3\xa9"};
    uint64_t u = 42;
    int64_t i = 42;
    double d = 42;

    (void)state;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_int_equal(u64_of(bad[k], &u), JR_EINVAL);
        assert_int_equal(i64_of(bad[k], &i), JR_EINVAL);
        assert_int_equal(f64_of(bad[k], &d), JR_EINVAL);
    }
    assert_int_equal(u64_of("18446744073709551616", &u), JR_EINVAL);
    assert_int_equal(u64_of("-1", &u), JR_EINVAL);
    assert_int_equal(i64_of("9223372036854775808", &i), JR_EINVAL);
    assert_int_equal(i64_of("-9223372036854775809", &i), JR_EINVAL);
    assert_int_equal(hex_of("", &u), JR_EINVAL);
    assert_int_equal(hex_of("0x1", &u), JR_EINVAL);
    assert_int_equal(hex_of("11111111111111111", &u), JR_EINVAL);
    assert_int_equal(f64_of("1e999", &d), JR_EINVAL);
    assert_int_equal(jr_parse_u64("1\0", 2, &u), JR_EINVAL);
    assert_true(u == 42 && i == 42 && d == 42);
}

static void numbers_survive_the_round_trip(void **state)
{
    struct jr_rng r;
    char text[64];

    (void)state;
    jr_rng_init(&r, jr_test_seed(), 2);
    for (int k = 0; k < 5000; k++) {
        uint64_t v = jr_rng_u64(&r) >> jr_rng_below(&r, 64), u;
        int64_t i;
        double d, want = (jr_rng_unit(&r) - 0.5) * (double)v;
        (void)snprintf(text, sizeof text, "%" PRIu64, v);
        assert_true(u64_of(text, &u) == 0 && u == v);
        (void)snprintf(text, sizeof text, "%" PRId64, (int64_t)v);
        assert_true(i64_of(text, &i) == 0 && i == (int64_t)v);
        (void)snprintf(text, sizeof text, "%" PRIx64, v);
        assert_true(hex_of(text, &u) == 0 && u == v);
        (void)snprintf(text, sizeof text, "%.17g", want);
        assert_true(f64_of(text, &d) == 0 && d == want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_orders),
        cmocka_unit_test(truncation_consumes_nothing),
        cmocka_unit_test(empty_input_may_be_null),
        cmocka_unit_test(parses_edges),
        cmocka_unit_test(refuses_what_is_not_a_number),
        cmocka_unit_test(numbers_survive_the_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
