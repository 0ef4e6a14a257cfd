/* SPDX-License-Identifier: Apache-2.0 */
/* trace: what is read, what is refused and where, and that prompts are the same everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "app/replay/trace.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/rng.h"
#include "jr_test.h"
#include <stdio.h>
#include <string.h>

#define GOOD                                                                                       \
    "{\"timestamp\": 5, \"input_length\": 600, \"output_length\": 3, \"hash_ids\": [7, 8]}\n"

static int parse(const char *text, uint64_t limit, struct jr_trace *ret, struct jr_errmsg *e)
{
    e->text[0] = '\0';
    return jr_trace_parse(text, strlen(text), limit, ret, e);
}

static void test_reads(void **state)
{
    (void)state;
    struct jr_trace t;
    struct jr_errmsg e;
    assert_int_equal(parse(GOOD "\n  \r\n"
                                "{\"hash_ids\":[18446744073709551615],\"extra\":{\"a\":[1]},"
                                "\"output_length\":1,\"input_length\":512,\"timestamp\":5.5}",
                           0, &t, &e),
                     0);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.rows[0].input_length, 600);
    assert_int_equal(t.rows[0].output_length, 3);
    assert_int_equal(t.rows[0].n_hashes, 2);
    assert_true(t.rows[1].timestamp_ms > 5.4 && t.rows[1].timestamp_ms < 5.6);
    assert_int_equal(t.rows[1].first_hash, 2);
    assert_true(t.hashes[2] == UINT64_MAX);
    jr_trace_deinit(&t);
    assert_int_equal(parse(GOOD GOOD GOOD, 2, &t, &e), 0);
    assert_int_equal(t.n, 2);
    jr_trace_deinit(&t);
    assert_int_equal(parse("", 0, &t, &e), 0);
    assert_int_equal(t.n, 0);
    jr_trace_deinit(&t);
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"x", "line 3: not a JSON object"},
        {"[1]", "not a JSON object"},
        {"{\"timestamp\":5,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1]} x", "whole"},
        {"{\"timestamp\":5,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1]", "whole"},
        {"{\"timestamp\":5,\"input_length\":1,\"output_length\":1}", "hash_ids is missing"},
        {"{\"timestamp\":5,\"input_length\":1,\"hash_ids\":[1]}", "output_length is missing"},
        {"{\"timestamp\":5,\"timestamp\":5,\"input_length\":1}", "timestamp is there twice"},
        {"{\"timestamp\":-1}", "timestamp is not"},
        {"{\"timestamp\":\"5\"}", "timestamp is not"},
        {"{\"timestamp\":1e300}", "timestamp is not"},
        {"{\"input_length\":0}", "input_length is not in 1.."},
        {"{\"input_length\":1.5}", "input_length is not a whole number"},
        {"{\"output_length\":99999999999}", "output_length is not in 1.."},
        {"{\"hash_ids\":7}", "hash_ids is not a list"},
        {"{\"hash_ids\":[-7]}", "hash_ids is not a list"},
        {"{\"timestamp\":5,\"input_length\":513,\"output_length\":1,\"hash_ids\":[1]}",
         "1 hash_ids, but an input_length of 513 has 2"},
        {"{\"timestamp\":4,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1]}", "before"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_trace t;
        struct jr_errmsg e;
        char text[1024];
        (void)snprintf(text, sizeof text, "%s\n%s\n%s", GOOD, cases[i].line, GOOD);
        assert_int_equal(parse(text, 0, &t, &e), JR_EINVAL);
        if (!strstr(e.text, cases[i].words) || strncmp(e.text, "line 3: ", 8) != 0)
            fail_msg("%s: %s", cases[i].line, e.text);
        assert_null(t.rows);
        assert_int_equal(parse(text, 1, &t, &e), 0); /* not read that far */
        jr_trace_deinit(&t);
    }
}

/* Any bytes are refused or read, never more. */
static void test_random_bytes(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (int i = 0; i < 3000; i++) {
        struct jr_trace t;
        struct jr_errmsg e;
        char text[] = GOOD GOOD;
        uint32_t changes = 1 + jr_rng_below(&rng, 3);
        for (uint32_t k = 0; k < changes; k++)
            text[jr_rng_below(&rng, sizeof text - 1)] = (char)jr_rng_below(&rng, 256);
        size_t n = jr_rng_below(&rng, sizeof text);
        int rv = jr_trace_parse(text, n, 0, &t, &e);
        assert_true(rv == 0 || rv == JR_EINVAL);
        jr_trace_deinit(&t);
    }
}

static void test_prompt(void **state)
{
    (void)state;
    struct jr_trace t;
    struct jr_errmsg e;
    static uint32_t a[600], b[600];
    assert_int_equal(
        parse(GOOD "{\"timestamp\":9,\"input_length\":520,\"output_length\":1,\"hash_ids\":[7,9]}",
              0, &t, &e),
        0);
    jr_trace_prompt(&t, &t.rows[0], a);
    jr_trace_prompt(&t, &t.rows[1], b);
    assert_memory_equal(a, b, 512 * sizeof *a);
    assert_memory_not_equal(a + 512, b + 512, 8 * sizeof *a);
    for (uint32_t i = 0; i < 600; i++) {
        assert_int_equal(a[i], jr_trace_token(i < 512 ? 7 : 8, i % 512));
        assert_true(a[i] < JR_TRACE_VOCABULARY);
    }
    /* Written down once: a trace must mean the same prompts in every version. */
    assert_int_equal(jr_trace_token(0, 0), 0);
    assert_int_equal(jr_trace_token(0, 511), 35633);
    assert_int_equal(jr_trace_token(12345, 17), 10676);
    jr_trace_deinit(&t);
}

static void test_due(void **state)
{
    (void)state;
    struct jr_trace_row rows[6] = {{.timestamp_ms = 1000}, {.timestamp_ms = 1000},
                                   {.timestamp_ms = 1000}, {.timestamp_ms = 1006},
                                   {.timestamp_ms = 2000}, {.timestamp_ms = 2000}};
    struct jr_trace t = {.rows = rows, .n = 6};
    uint64_t due[6];
    jr_trace_due_ns(&t, 1, due); /* 2 ms apart fit before the next, then 5 ms apart */
    const uint64_t slow[6] = {0, 2000000, 4000000, 6000000, 1000000000, 1005000000};
    assert_memory_equal(due, slow, sizeof due);
    jr_trace_due_ns(&t, 10, due);
    const uint64_t fast[6] = {0, 200000, 400000, 600000, 100000000, 105000000};
    for (int i = 0; i < 6; i++)
        assert_in_range(due[i] + 1, fast[i], fast[i] + 2);
}

static void test_excerpt(void **state)
{
    (void)state;
    struct jr_trace t;
    struct jr_errmsg e;
    size_t n;
    uint64_t tokens = 0;
    char *text = (char *)jr_test_fixture("traces/conversation-excerpt.jsonl", &n);
    assert_int_equal(jr_trace_parse(text, n, 500, &t, &e), 0);
    assert_int_equal(t.n, 500);
    for (uint32_t i = 0; i < t.n; i++)
        tokens += t.rows[i].input_length;
    assert_int_equal(tokens, 7124855);
    assert_true(t.rows[499].timestamp_ms > 164999 && t.rows[499].timestamp_ms < 165001);
    jr_trace_deinit(&t);
    jr_xfree(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),   cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_prompt),  cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_excerpt), cmocka_unit_test(test_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
