/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/rng.h"
#include "jr_test.h"
#include <stdio.h>
#include <string.h>

static void writes_numbers_and_text(void **state)
{
    struct jr_buf b;
    const uint8_t want[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 1, 2, 3, 4, 5, 6, 7, 8, 'x'};

    (void)state;
    jr_buf_init(&b, 1000);
    assert_string_equal(jr_buf_str(&b), "");
    jr_buf_u8(&b, 1);
    jr_buf_be16(&b, 0x0203);
    jr_buf_be32(&b, 0x04050607);
    jr_buf_be64(&b, UINT64_C(0x0102030405060708));
    jr_buf_puts(&b, "x");
    assert_int_equal(b.n, sizeof want);
    assert_memory_equal(b.p, want, sizeof want);
    assert_int_equal(b.p[b.n], 0);
    jr_buf_consume(&b, 15);
    assert_string_equal(jr_buf_str(&b), "x");
    jr_buf_printf(&b, " %d %s", 7, "seven");
    assert_string_equal(jr_buf_str(&b), "x 7 seven");
    jr_buf_clear(&b);
    assert_string_equal(jr_buf_str(&b), "");
    jr_buf_deinit(&b);
    jr_buf_deinit(&b);
    jr_buf_deinit(NULL);
}

static void writes_decimal_digits(void **state)
{
    static const uint64_t v[] = {0, 7, 10, 4294967295u, UINT64_MAX};
    struct jr_rng rng;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 0);
    for (int i = 0; i < 1000; i++) {
        struct jr_buf b;
        char want[32];
        uint64_t x = i < 5 ? v[i] : jr_rng_u64(&rng) >> jr_rng_below(&rng, 64);
        jr_buf_init(&b, 100);
        jr_buf_digits(&b, x);
        snprintf(want, sizeof want, "%llu", (unsigned long long)x);
        assert_string_equal(jr_buf_str(&b), want);
        jr_buf_deinit(&b);
    }
}

static void first_failure_sticks(void **state)
{
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 5);
    jr_buf_puts(&b, "abc");
    jr_buf_printf(&b, "%s", "def");
    assert_int_equal(b.err, JR_ELIMIT);
    jr_buf_puts(&b, "d");
    assert_string_equal(jr_buf_str(&b), "abc");
    jr_buf_clear(&b);
    jr_buf_puts(&b, "abcde");
    assert_int_equal(b.err, 0);
    jr_buf_u8(&b, 'f');
    assert_int_equal(b.err, JR_ELIMIT);
    assert_string_equal(jr_buf_str(&b), "abcde");
    jr_buf_deinit(&b);
}

static void take_gives_the_memory_away(void **state)
{
    struct jr_buf b;
    uint8_t *p;
    size_t n;

    (void)state;
    jr_buf_init(&b, 100);
    p = jr_buf_take(&b, &n);
    assert_int_equal(n, 0);
    assert_non_null(p);
    jr_xfree(p);
    jr_buf_puts(&b, "abc");
    p = jr_buf_take(&b, &n);
    assert_int_equal(n, 3);
    assert_string_equal((char *)p, "abc");
    assert_int_equal(b.n, 0);
    jr_buf_puts(&b, "again");
    assert_string_equal(jr_buf_str(&b), "again");
    jr_buf_deinit(&b);
    jr_xfree(p);
}

static void grows_like_a_plain_array(void **state)
{
    struct jr_rng r;
    struct jr_buf b;
    uint8_t *model = jr_xalloc(1 << 17);
    size_t n = 0;

    (void)state;
    jr_rng_init(&r, jr_test_seed(), 1);
    jr_buf_init(&b, 1 << 16);
    for (int step = 0; step < 3000; step++) {
        uint8_t piece[300];
        size_t len = jr_rng_below(&r, sizeof piece);
        for (size_t i = 0; i < len; i++)
            piece[i] = (uint8_t)jr_rng_u32(&r);
        if (jr_rng_below(&r, 4) == 0) {
            size_t drop = jr_rng_below(&r, (uint32_t)n + 1);
            jr_buf_consume(&b, drop);
            memmove(model, model + drop, n - drop);
            n -= drop;
        }
        jr_buf_put(&b, piece, len);
        if (n + len <= 1 << 16) {
            memcpy(model + n, piece, len);
            n += len;
        } else {
            assert_int_equal(b.err, JR_ELIMIT);
            b.err = 0;
        }
        assert_int_equal(b.n, n);
    }
    assert_memory_equal(b.p, model, n);
    jr_buf_deinit(&b);
    jr_xfree(model);
}

static void check_escape(const char *in, size_t n, const char *want)
{
    struct jr_buf b;

    jr_buf_init(&b, 1000);
    jr_buf_json_escape(&b, in, n);
    assert_string_equal(jr_buf_str(&b), want);
    jr_buf_deinit(&b);
}

static void escapes_control_characters(void **state)
{
    static const char *const brief[32] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};

    (void)state;
    for (int c = 0; c < 0x80; c++) {
        char in = (char)c, want[8];
        if (c < 0x20 && brief[c])
            (void)snprintf(want, sizeof want, "%s", brief[c]);
        else if (c < 0x20 || c == 0x7f)
            (void)snprintf(want, sizeof want, "\\u%04x", (unsigned)c);
        else
            (void)snprintf(want, sizeof want, c == '"' || c == '\\' ? "\\%c" : "%c", c);
        check_escape(&in, 1, want);
    }
    check_escape("a\0b", 3, "a\\u0000b");
    check_escape("", 0, "");
}

static void replaces_bad_utf8(void **state)
{
#define FFFD "\xef\xbf\xbd"
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"a\x80z", "a" FFFD "z"},
        {"\xc0\x80", FFFD FFFD},                   /* overlong NUL */
        {"\xe0\x80\x80", FFFD FFFD FFFD},          /* overlong */
        {"\xed\xa0\x80", FFFD FFFD FFFD},          /* surrogate */
        {"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD}, /* past U+10FFFF */
        {"\xff\xfe", FFFD FFFD},
        {"\xe2\x82", FFFD}, /* cut: one mark for what could have become a character */
        {"\xe2\x82\"", FFFD "\\\""},
        {"\xf0\x9f\x98x", FFFD "x"},
        {"\xc3\xc3\xa9", FFFD "\xc3\xa9"},
    };

    struct jr_buf b;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_escape(cases[i].in, strlen(cases[i].in), cases[i].want);
    jr_buf_init(&b, 100);
    jr_buf_utf8(&b, "\xc3\xa9\"\n\xe2\x82\"\xff", 8);
    assert_string_equal(jr_buf_str(&b), "\xc3\xa9\"\n" FFFD "\"" FFFD);
    jr_buf_deinit(&b);
}

static void reserves_what_is_said(void **state)
{
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 1000);
    jr_buf_reserve(&b, 500);
    const uint8_t *p = b.p;
    assert_int_equal(b.n, 0);
    for (int i = 0; i < 500; i++)
        jr_buf_u8(&b, 'x');
    assert_ptr_equal(b.p, p);
    assert_int_equal(b.n, 500);
    jr_buf_reserve(&b, 501);
    assert_int_equal(b.err, JR_ELIMIT);
    jr_buf_deinit(&b);
}

static void quotes_strings(void **state)
{
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 100);
    jr_buf_json_str(&b, "a\"b");
    jr_buf_u8(&b, ',');
    jr_buf_json_str(&b, NULL);
    assert_string_equal(jr_buf_str(&b), "\"a\\\"b\",null");
    jr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_numbers_and_text),  cmocka_unit_test(writes_decimal_digits),
        cmocka_unit_test(first_failure_sticks),     cmocka_unit_test(take_gives_the_memory_away),
        cmocka_unit_test(grows_like_a_plain_array), cmocka_unit_test(escapes_control_characters),
        cmocka_unit_test(replaces_bad_utf8),        cmocka_unit_test(quotes_strings),
        cmocka_unit_test(reserves_what_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
