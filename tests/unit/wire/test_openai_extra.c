/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "jr_test.h"
#include "wire/openai_extra.h"

#include <string.h>

static void member(void *ctx, struct jr_str object, struct jr_buf *b)
{
    (void)ctx;
    if (!memchr(object.p, '!', object.n)) /* what has one gets none */
        jr_buf_puts(b, "\"x\":1");
}

/* The answer in pieces of random sizes. */
static void pass(bool is_stream, size_t max, const char *in, size_t n, struct jr_rng *rng,
                 struct jr_buf *out)
{
    struct jr_openai_extra e;
    jr_openai_extra_init(&e, is_stream, max);
    jr_buf_clear(out);
    for (size_t at = 0; at < n;) {
        size_t piece = 1 + jr_rng_below(rng, jr_rng_below(rng, 3) ? 4 : 64);
        piece = piece < n - at ? piece : n - at;
        jr_openai_extra_feed(&e, in + at, piece, member, NULL, out);
        at += piece;
    }
    jr_openai_extra_end(&e, member, NULL, out);
    jr_openai_extra_deinit(&e);
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        bool is_stream;
        size_t max;
        const char *in, *out;
    } rows[] = {
        {true, 100, "data: {\"a\":2}\n\ndata: [DONE]\n\n",
         "data: {\"a\":2,\"x\":1}\n\ndata: [DONE]\n\n"},
        {true, 100, "data:{}\r\n\r\n", "data:{\"x\":1}\r\n\r\n"},
        {true, 100, "event: e\n: {}\n\ndata: {\"a\":{}} \n",
         "event: e\n: {}\n\ndata: {\"a\":{},\"x\":1} \n"},
        {true, 100, "data: {\"!\":0}\n\ndata: {\"a\":0}\n",
         "data: {\"!\":0}\n\ndata: {\"a\":0,\"x\":1}\n"},
        {true, 100, "data: {\"a\":\ndata: 1}\n\n", "data: {\"a\":\ndata: 1}\n\n"},
        {true, 100, "data: {\"a\":0}", "data: {\"a\":0,\"x\":1}"},
        {true, 100, "data: {\"a\":0", "data: {\"a\":0"},
        {true, 100, "data: 7}\ndata:\ndata: {\n", "data: 7}\ndata:\ndata: {\n"},
        {false, 100, "{\"a\":\"\n\"}\n", "{\"a\":\"\n\",\"x\":1}\n"},
        {false, 100, " { } ", " { \"x\":1} "},
        {false, 100, "{\"!\":1}", "{\"!\":1}"},
        {false, 100, "[{}]", "[{}]"},
        {false, 100, "", ""},
        {false, 12, "{\"a\":123456}", "{\"a\":123456}"}, /* too long to be held */
    };
    struct jr_buf out;
    struct jr_rng rng;
    jr_buf_init(&out, 1 << 16);
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int round = 0; round < 50; round++) {
            pass(rows[i].is_stream, rows[i].max, rows[i].in, strlen(rows[i].in), &rng, &out);
            assert_string_equal(jr_buf_str(&out), rows[i].out);
        }
    jr_buf_deinit(&out);
}

/* A line too long goes on as it is, and the next one is read again. */
static void test_long_line(void **state)
{
    (void)state;
    struct jr_buf in, out;
    struct jr_rng rng;
    jr_buf_init(&in, 1 << 16);
    jr_buf_init(&out, 1 << 16);
    jr_rng_init(&rng, jr_test_seed(), 2);
    jr_buf_puts(&in, "data: {\"a\":\"");
    for (int i = 0; i < 300; i++)
        jr_buf_puts(&in, "y");
    jr_buf_puts(&in, "\"}\n");
    size_t first = in.n;
    jr_buf_puts(&in, "\ndata: {\"b\":1}\n\n");
    pass(true, 100, jr_buf_str(&in), in.n, &rng, &out);
    assert_memory_equal(out.p, in.p, first);
    assert_string_equal(jr_buf_str(&out) + first, "\ndata: {\"b\":1,\"x\":1}\n\n");
    jr_buf_deinit(&in);
    jr_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_long_line),
    };
    return cmocka_run_group_tests_name("wire/openai_extra", tests, NULL, NULL);
}
