/* SPDX-License-Identifier: Apache-2.0 */
/* The small readers: JSON, Prometheus text, tokenizer calls, MessagePack. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "jr_test.h"
#include "base/rng.h"
#include "wire/json.h"
#include "wire/msgpack.h"
#include "wire/prom_text.h"
#include "wire/tokenize.h"

static int skip_all(const char *text, size_t n)
{
    struct jr_json j;
    jr_json_init(&j, text, n);
    int rv = jr_json_skip(&j);
    return rv == 0 ? jr_json_end(&j) : rv;
}

static void test_json_structure(void **state)
{
    (void)state;
    static const char *const good[] = {
        "1",      "\"a\\\"b\"",      "[]", "{}", " [ 1 , [ ] , {\"a\":[{}]} ] ", "null", "true",
        "-1.5e3", "[[[[[[[[]]]]]]]]"};
    static const char *const bad[] = {"[1,]", "{\"a\":1,}", "{\"a\"}", "{a:1}", "[1 2]",
                                      "]",    "1 2",        "[}",      "{]",    "\"\n\"",
                                      "nul1", "{\"a\":}",   "[,1]",    "x"};
    static const char *const cut[] = {"",        "[",   "[1",    "[1,", "{\"a\"",
                                      "{\"a\":", "\"a", "\"a\\", "tr"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(skip_all(good[i], strlen(good[i])), 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(skip_all(bad[i], strlen(bad[i])), JR_EPROTO);
    }
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        assert_int_equal(skip_all(cut[i], strlen(cut[i])), JR_ETRUNC);
    }
    char deep[200];
    memset(deep, '[', sizeof deep);
    assert_int_equal(skip_all(deep, sizeof deep), JR_ELIMIT);
}

static void test_json_values(void **state)
{
    (void)state;
    struct jr_json j;
    struct jr_str s;
    uint64_t u;
    double f;
    bool b;
    uint32_t ids[4], n;
    const char *t = "[18446744073709551615, 2.5,true,\"x\",18446744073709551616]";
    jr_json_init(&j, t, strlen(t));
    assert_int_equal(jr_json_array(&j), 0);
    assert_int_equal(jr_json_item(&j), 1);
    assert_int_equal(jr_json_u64(&j, &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(jr_json_item(&j), 1);
    assert_int_equal(jr_json_f64(&j, &f), 0);
    assert_true(f == 2.5);
    assert_int_equal(jr_json_item(&j), 1);
    assert_int_equal(jr_json_bool(&j, &b), 0);
    assert_int_equal(jr_json_item(&j), 1);
    assert_int_equal(jr_json_str(&j, &s), 0);
    assert_int_equal(jr_json_item(&j), 1);
    assert_int_equal(jr_json_u64(&j, &u), JR_EPROTO);
    t = "[1,2,3,4,5]";
    jr_json_init(&j, t, strlen(t));
    assert_int_equal(jr_json_array(&j), 0);
    assert_int_equal(jr_json_u32s(&j, 4, ids, &n), 1);
    assert_int_equal(n, 4);
    assert_int_equal(jr_json_u32s(&j, 4, ids, &n), 0);
    assert_true(n == 1 && ids[0] == 5);
    assert_int_equal(jr_json_end(&j), 0);
}

static void check_unescape(const char *raw, const char *want)
{
    struct jr_buf b;
    jr_buf_init(&b, 256);
    int rv = jr_json_unescape(jr_str_of(raw, strlen(raw)), &b);
    assert_int_equal(rv, want == NULL ? JR_EPROTO : 0);
    if (want != NULL) {
        assert_string_equal(jr_buf_str(&b), want);
    }
    jr_buf_deinit(&b);
}

/* Strings are looked through in words of eight bytes: what ends one, at each place of each length, and
 * bytes that are next to it in value. */
static void test_json_strings(void **state)
{
    (void)state;
    static const unsigned char fill[] = {' ', '!', '#', '[', ']', 0x7f, 0x80, 0xa2, 0xdc, 0xff};
    static const char ends[] = {'"', '\\', '\n', '\0', 0x1f};
    char text[64];
    for (size_t f = 0; f < sizeof fill; f++)
        for (size_t n = 0; n < 40; n++)
            for (size_t e = 0; e < sizeof ends; e++) {
                struct jr_json j;
                struct jr_str s = {0};
                memset(text, fill[f], sizeof text);
                text[0] = '"';
                text[1 + n] = ends[e];
                text[1 + n + 2] = '"'; /* behind the end, or what a backslash takes */
                jr_json_init(&j, text, 1 + n + 3);
                int rv = jr_json_str(&j, &s);
                assert_int_equal(rv, ends[e] == '"' || ends[e] == '\\' ? 0 : JR_EPROTO);
                if (rv == 0) {
                    assert_ptr_equal(s.p, text + 1);
                    assert_int_equal(s.n, ends[e] == '"' ? n : n + 2);
                }
                jr_json_init(&j, text, 1 + n);
                assert_int_equal(jr_json_str(&j, &s), JR_ETRUNC);
            }
}

static void test_json_unescape(void **state)
{
    (void)state;
    check_unescape("plain", "plain");
    check_unescape("a\\n\\t\\\"\\\\\\/b", "a\n\t\"\\/b");
    check_unescape("\\u00e9\\u20ac\\ud83d\\ude00", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    check_unescape("\\ud83dx\\udc00", "\xef\xbf\xbdx\xef\xbf\xbd");
    check_unescape("\\u12", NULL);
    check_unescape("\\q", NULL);
    check_unescape("\\", NULL);
}

static void test_prom_real_metrics(void **state)
{
    (void)state;
    size_t n;
    char *text = (char *)jr_test_fixture("http/vllm-metrics.body", &n);
    struct jr_prom_sample s;
    struct jr_prom_reader r;
    struct jr_errmsg e;
    uint32_t count = 0;
    int rv;
    jr_prom_init(&r, text, n);
    while ((rv = jr_prom_next(&r, &s, &e)) != 0) {
        assert_int_equal(rv, 1);
        count++;
    }
    assert_true(count > 100);
    assert_int_equal(jr_prom_find(text, n, "vllm:cache_config_info", NULL, NULL, &s), 0);
    assert_true(jr_str_eq(jr_prom_label(&s, "block_size"), "32"));
    assert_true(jr_prom_label(&s, "num_gpu_blocks").n > 0);
    assert_null(jr_prom_label(&s, "nothing").p);
    assert_int_equal(jr_prom_find(text, n, "vllm:num_requests_running", "engine", "0", &s), 0);
    assert_int_equal(jr_prom_find(text, n, "vllm:nothing", NULL, NULL, &s), JR_ENOTFOUND);
    assert_true(jr_prom_sum(text, n, "vllm:nothing", &count) == 0 && count == 0);
    jr_xfree(text);
}

static void test_prom_forms(void **state)
{
    (void)state;
    const char *text = "# HELP a b\n\na 1\na{} 2 1700000000123\r\n"
                       "a:b { x = \"q\\\"\\\\\\n,}\" , y=\"\", } +Inf\nc NaN\nd -1.5e-3";
    struct jr_prom_reader r;
    struct jr_prom_sample s;
    char word[16];
    jr_prom_init(&r, text, strlen(text));
    assert_int_equal(jr_prom_next(&r, &s, NULL), 1);
    assert_true(jr_str_eq(s.name, "a") && s.value == 1 && !s.has_timestamp);
    assert_int_equal(jr_prom_next(&r, &s, NULL), 1);
    assert_true(s.value == 2 && s.has_timestamp && s.timestamp_ms == 1700000000123);
    assert_int_equal(jr_prom_next(&r, &s, NULL), 1);
    assert_true(jr_str_eq(s.name, "a:b") && s.n_labels == 2 && isinf(s.value));
    assert_true(jr_prom_unescape(s.labels[0].value, word, sizeof word));
    assert_string_equal(word, "q\"\\\n,}");
    assert_false(jr_prom_unescape(s.labels[0].value, word, 3));
    assert_int_equal(jr_prom_next(&r, &s, NULL), 1);
    assert_true(isnan(s.value));
    assert_int_equal(jr_prom_next(&r, &s, NULL), 1);
    assert_int_equal(r.line, 7);
    assert_int_equal(jr_prom_next(&r, &s, NULL), 0);
    static const char *const bad[] = {"1a 2",           "a",           "a x",
                                      "a{b} 1",         "a{b=c} 1",    "a{b=\"c} 1",
                                      "a{b=\"\\q\"} 1", "a 1 2 3",     "a{b=\"c\" d=\"e\"} 1",
                                      "a 1 x",          "{b=\"c\"} 1", "a{1b=\"c\"} 1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct jr_errmsg e;
        jr_prom_init(&r, bad[i], strlen(bad[i]));
        assert_int_equal(jr_prom_next(&r, &s, &e), JR_EPROTO);
        assert_non_null(strstr(e.text, "line 1"));
        assert_int_equal(jr_prom_next(&r, &s, &e), 0);
    }
}

static void test_tokenize(void **state)
{
    (void)state;
    struct jr_mem mem;
    struct jr_tokens t;
    struct jr_tokenize_reply r;
    struct jr_errmsg e;
    size_t n;
    jr_mem_init(&mem);
    jr_tokens_init(&t, &mem);
    char *text = (char *)jr_test_fixture("http/vllm-tokenize-text.body", &n);
    assert_int_equal(jr_tokenize_reply_parse(text, n, &t, &r, &e), 0);
    assert_true(r.count == t.n && t.n > 50 && r.max_model_len == 512);
    jr_xfree(text);
    text = (char *)jr_test_fixture("http/vllm-tokenize-chat.body", &n);
    assert_int_equal(jr_tokenize_reply_parse(text, n, &t, &r, &e), 0);
    for (size_t i = 0; i < n; i++) {
        char *cut = jr_xmemdup(text, i > 0 ? i : 1);
        assert_int_equal(jr_tokenize_reply_parse(cut, i, &t, &r, &e), JR_EPROTO);
        jr_xfree(cut);
    }
    jr_xfree(text);
    static const char *const bad[] = {"{}",
                                      "{\"count\":2,\"tokens\":[1]}",
                                      "{\"tokens\":[-1]}",
                                      "{\"tokens\":[4294967296]}",
                                      "{\"tokens\":{}}",
                                      "[]",
                                      "{\"tokens\":[1.5]}",
                                      "{\"error\":{\"message\":\"x\"}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(jr_tokenize_reply_parse(bad[i], strlen(bad[i]), &t, &r, &e), JR_EPROTO);
        assert_non_null(strstr(e.text, "tokenizer"));
    }
    jr_tokens_deinit(&t);
    jr_mem_deinit(&mem);
}

static void test_msgpack_integers(void **state)
{
    (void)state;
    static const int64_t edges[] = {
        0,      1,          127,        128,           255,           256,       65535,
        65536,  -1,         -32,        -33,           -128,          -129,      -32768,
        -32769, 4294967295, 4294967296, -2147483648LL, -2147483649LL, INT64_MAX, INT64_MIN};
    struct jr_buf b;
    struct jr_msgpack m;
    jr_buf_init(&b, 64);
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        jr_buf_clear(&b);
        jr_msgpack_put_int(&b, edges[i]);
        struct jr_cursor c = jr_cursor_of(b.p, b.n);
        assert_int_equal(jr_msgpack_read(&c, &m), 0);
        assert_int_equal(c.n, 0);
        assert_int_equal(m.type, edges[i] < 0 ? JR_MSGPACK_INT : JR_MSGPACK_UINT);
        assert_true(m.v.i == edges[i]);
        c = jr_cursor_of(b.p, b.n - 1);
        assert_int_equal(jr_msgpack_read(&c, &m), JR_ETRUNC);
    }
    jr_buf_deinit(&b);
}

static void test_msgpack_u32s(void **state)
{
    (void)state;
    /* every width, signed ones too, and the last ones near the end */
    static const uint8_t in[] = {0x05, 0xcc, 0xff, 0xcd, 1, 2, 0xce, 0xff, 0xff, 0xff,
                                 0xff, 0xcf, 0,    0,    0, 0, 0,    1,    0,    0,
                                 0xd1, 0,    9,    0xd2, 0, 0, 0,    7,    0x7f, 0x01};
    uint32_t v[9];
    struct jr_cursor c = jr_cursor_of(in, sizeof in);
    assert_int_equal(jr_msgpack_read_u32s(&c, 9, v), 0);
    assert_int_equal(c.n, 0);
    assert_true(v[0] == 5 && v[1] == 255 && v[2] == 258 && v[3] == UINT32_MAX && v[4] == 65536);
    assert_true(v[5] == 9 && v[6] == 7 && v[7] == 127 && v[8] == 1);
    c = jr_cursor_of(in, sizeof in);
    assert_int_equal(jr_msgpack_read_u32s(&c, 10, (uint32_t[10]){0}), JR_ETRUNC);
    c = jr_cursor_of("\xff", 1); /* -1 */
    assert_int_equal(jr_msgpack_read_u32s(&c, 1, v), JR_EPROTO);
    c = jr_cursor_of("\xcf\0\0\0\1\0\0\0\0", 9);
    assert_int_equal(jr_msgpack_read_u32s(&c, 1, v), JR_EPROTO);
}

static void test_msgpack_skip(void **state)
{
    (void)state;
    /* [1, {"a": [nil, bin16], 2.5: ext}, str] and one byte behind it */
    static const uint8_t in[] = {0x93, 0x01, 0x82, 0xa1, 'a',  0x92, 0xc0, 0xc5, 0, 2,
                                 1,    2,    0xcb, 0,    0,    0,    0,    0,    0, 0,
                                 0,    0xd4, 1,    7,    0xd9, 1,    'x',  0x2a};
    struct jr_cursor c = jr_cursor_of(in, sizeof in);
    assert_int_equal(jr_msgpack_skip(&c), 0);
    assert_int_equal(c.n, 1);
    for (size_t n = 0; n + 1 < sizeof in; n++) {
        c = jr_cursor_of(in, n);
        assert_int_equal(jr_msgpack_skip(&c), JR_ETRUNC);
        assert_int_equal(c.n, n);
    }
    uint8_t deep[100];
    memset(deep, 0x91, sizeof deep);
    c = jr_cursor_of(deep, sizeof deep);
    assert_int_equal(jr_msgpack_skip(&c), JR_ELIMIT);
    static const uint8_t huge[] = {0xdd, 0xff, 0xff, 0xff, 0xff, 0x01};
    c = jr_cursor_of(huge, sizeof huge);
    assert_int_equal(jr_msgpack_skip(&c), JR_ETRUNC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_structure),    cmocka_unit_test(test_json_values),
        cmocka_unit_test(test_json_strings),      cmocka_unit_test(test_json_unescape),
        cmocka_unit_test(test_prom_real_metrics), cmocka_unit_test(test_prom_forms),
        cmocka_unit_test(test_tokenize),          cmocka_unit_test(test_msgpack_integers),
        cmocka_unit_test(test_msgpack_u32s),      cmocka_unit_test(test_msgpack_skip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
