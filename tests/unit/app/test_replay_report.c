/* SPDX-License-Identifier: Apache-2.0 */
/* answer and report: when an answer is whole, what is counted, and reports as text and JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "app/replay/answer.h"
#include "app/replay/report.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIRST                                                                                      \
    "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n"
#define LAST "data: {\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\n"
#define USAGE(prompt, completion, details)                                                         \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":" prompt ",\"total_tokens\":9,"            \
    "\"completion_tokens\":" completion ",\"prompt_tokens_details\":" details "}}\n\n"
#define GOOD_USAGE USAGE("7", "2", "{\"cached_tokens\":4}")
#define DONE       "data: [DONE]\n\n"

/* ---------------------------------------------------------------- answers */

static const char *check(const char *text, struct jr_answer *ret)
{
    const char *fault = NULL;
    for (size_t piece = 1; piece < 64; piece += 21) { /* however it is cut */
        struct jr_answer a;
        jr_answer_init(&a);
        for (size_t at = 0, n = strlen(text); at < n; at += piece)
            jr_answer_feed(&a, text + at, n - at < piece ? n - at : piece);
        fault = jr_answer_check(&a, 7, 2);
        jr_answer_deinit(&a);
        *ret = a;
    }
    return fault;
}

static void test_whole_answer(void **state)
{
    (void)state;
    struct jr_answer a;
    assert_null(check(": ping\n\n" FIRST LAST GOOD_USAGE DONE, &a));
    assert_true(a.started && a.has_cached);
    assert_int_equal(a.cached_tokens, 4);
    /* The counts of an answer that tells none are 0. */
    assert_null(check(FIRST LAST USAGE("7", "2", "null") DONE, &a));
    assert_false(a.has_cached);
    assert_int_equal(a.cached_tokens, 0);
    assert_null(check(FIRST LAST USAGE("7", "2", "{\"cached_tokens\":null}") DONE, &a));
    assert_false(a.has_cached);
}

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        const char *text, *fault;
    } cases[] = {
        {"", "no [DONE]"},
        {FIRST LAST GOOD_USAGE, "no [DONE]"},
        {FIRST LAST GOOD_USAGE DONE FIRST, "data behind [DONE]"},
        {FIRST LAST GOOD_USAGE DONE "data: x", "inside an event"},
        {FIRST GOOD_USAGE DONE, "no finish_reason"},
        {FIRST LAST DONE, "no usage"},
        {FIRST LAST USAGE("7", "1", "null") DONE, "completion tokens"},
        {FIRST LAST USAGE("8", "2", "null") DONE, "prompt_tokens"},
        {FIRST LAST USAGE("7", "2", "{\"cached_tokens\":8}") DONE, "more cached"},
        {FIRST "data: {\"choices\":\n\n" DONE, "not a completion"},
        {FIRST "data: {\"choices\":7}\n\n" DONE, "not a completion"},
        {FIRST "data: hello\n\n" DONE, "not a completion"},
        {FIRST "data: {\"error\":{\"message\":\"x\"}}\n\n" DONE, "error inside"},
        {FIRST "event: error\n: words\n\n" DONE, "error inside"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_answer a;
        const char *fault = check(cases[i].text, &a);
        if (!fault || !strstr(fault, cases[i].fault))
            fail_msg("case %zu: %s", i, fault ? fault : "none");
    }
}

static void test_long_event(void **state)
{
    (void)state;
    static char text[JR_REPLAY_EVENT_MAX / 8];
    struct jr_answer a;
    memset(text, 'x', sizeof text);
    jr_answer_init(&a);
    jr_answer_feed(&a, "data: ", 6);
    for (int i = 0; i < 10; i++)
        jr_answer_feed(&a, text, sizeof text);
    assert_string_equal(jr_answer_check(&a, 7, 2), "an event that is too long");
    jr_answer_deinit(&a);
}

/* ---------------------------------------------------------------- counting */

static void fill(struct jr_report *ret)
{
    struct jr_tally t;
    jr_tally_init(&t);
    for (unsigned i = 1; i <= 100; i++) {
        struct jr_tally_answer a = {.worker = i <= 75 ? "b" : "a",
                                    .prompt_tokens = 10,
                                    .completion_tokens = 2,
                                    .cached_tokens = i % 2 ? 10 : 0,
                                    .has_cached = i > 1,
                                    .ttft_us = i * 1000,
                                    .total_us = i * 10000};
        jr_tally_ok(&t, &a);
    }
    jr_tally_error(&t, "no [DONE]");
    jr_tally_error(&t, "status 503");
    jr_tally_error(&t, "no [DONE]");
    memset(ret, 0, sizeof *ret);
    jr_report_of(&t, ret);
    jr_tally_deinit(&t);
    (void)snprintf(ret->label, sizeof ret->label, "one \"x\"");
    (void)snprintf(ret->url, sizeof ret->url, "http://h:1");
    ret->speed = 10;
    ret->duration_s = 1.5;
}

static bool near(double v, double want)
{
    return fabs(v - want) <= want * 0.02;
}

static void test_numbers(void **state)
{
    (void)state;
    struct jr_report r;
    fill(&r);
    assert_int_equal(r.requests, 103);
    assert_int_equal(r.errors, 3);
    assert_int_equal(r.prompt_tokens, 1000);
    assert_int_equal(r.completion_tokens, 200);
    assert_int_equal(r.no_cached, 1);
    assert_true(near(r.cached_share, 0.5));
    assert_true(near(r.ttft_ms.p50, 50) && near(r.ttft_ms.p90, 90) && near(r.ttft_ms.p99, 99));
    assert_true(near(r.total_ms.mean, 505) && near(r.total_ms.max, 1000));
    assert_int_equal(r.n_workers, 2);
    assert_string_equal(r.workers[0].name, "a");
    assert_int_equal(r.workers[1].requests, 75);
    assert_true(near(r.spread, 1.5)); /* 750 of 1,000 on one of two */
    assert_int_equal(r.n_reasons, 2);
    assert_int_equal(r.reasons[0].n, 2);
    jr_report_deinit(&r);
}

static void test_nothing(void **state)
{
    (void)state;
    struct jr_tally t;
    struct jr_report r = {.speed = 1};
    struct jr_buf b;
    jr_tally_init(&t);
    jr_report_of(&t, &r);
    jr_tally_deinit(&t);
    assert_true(r.cached_share == 0 && r.spread == 0 && r.ttft_ms.p99 == 0 && r.total_ms.mean == 0);
    jr_buf_init(&b, 1 << 16);
    jr_report_text(&r, &b);
    jr_report_table(&r, &r, &b);
    assert_int_equal(b.err, 0);
    assert_null(strstr(jr_buf_str(&b), "nan"));
    jr_buf_deinit(&b);
    jr_report_deinit(&r);
}

static void test_limits(void **state)
{
    (void)state;
    struct jr_tally t;
    struct jr_report r = {.speed = 1};
    char name[32];
    jr_tally_init(&t);
    for (unsigned i = 0; i < JR_REPLAY_WORKERS_MAX + 50; i++) {
        (void)snprintf(name, sizeof name, "w%u", i);
        jr_tally_ok(&t, &(struct jr_tally_answer){.worker = name, .prompt_tokens = 1});
        jr_tally_error(&t, name);
    }
    jr_report_of(&t, &r);
    jr_tally_deinit(&t);
    uint64_t requests = 0, errors = 0;
    for (uint32_t i = 0; i < r.n_workers; i++)
        requests += r.workers[i].requests;
    for (uint32_t i = 0; i < r.n_reasons; i++)
        errors += r.reasons[i].n;
    assert_int_equal(r.n_workers, JR_REPLAY_WORKERS_MAX);
    assert_int_equal(requests, JR_REPLAY_WORKERS_MAX + 50);
    assert_int_equal(errors, JR_REPLAY_WORKERS_MAX + 50);
    assert_int_equal(r.n_reasons, JR_REPLAY_REASONS_MAX);
    jr_report_deinit(&r);
}

/* ---------------------------------------------------------------- text and JSON */

static void test_json_round_trip(void **state)
{
    (void)state;
    struct jr_report r, back;
    struct jr_buf b, again;
    struct jr_errmsg e;
    fill(&r);
    jr_buf_init(&b, 1 << 20);
    jr_buf_init(&again, 1 << 20);
    jr_report_json(&r, &b);
    assert_int_equal(jr_report_parse(jr_buf_str(&b), b.n, &back, &e), 0);
    jr_report_json(&back, &again);
    assert_string_equal(jr_buf_str(&b), jr_buf_str(&again));
    jr_report_deinit(&r);
    jr_report_deinit(&back);
    jr_buf_deinit(&b);
    jr_buf_deinit(&again);
    static const char *const bad[] = {
        "", "x", "{}", "[1]", "{\"requests\":1}", "{\"requests\":\"1\",\"ttft_ms\":{}}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(jr_report_parse(bad[i], strlen(bad[i]), &back, &e), JR_EINVAL);
}

static void test_text(void **state)
{
    (void)state;
    struct jr_report r;
    struct jr_buf b;
    fill(&r);
    jr_buf_init(&b, 1 << 16);
    jr_report_text(&r, &b);
    const char *text = jr_buf_str(&b);
    assert_non_null(strstr(text, "103 requests in 1.5 s, 3 errors"));
    assert_non_null(strstr(text, "2 x no [DONE]"));
    assert_non_null(strstr(text, "cached tokens: 50.0 % of the prompts (500 of 1000)"));
    assert_non_null(strstr(text, "1.50 x the mean"));
    jr_buf_clear(&b);
    (void)snprintf(r.label, sizeof r.label, "a|b");
    jr_report_table(&r, &r, &b);
    assert_non_null(strstr(jr_buf_str(&b), "A: a/b"));
    assert_non_null(strstr(jr_buf_str(&b), "1.00"));
    jr_buf_deinit(&b);
    jr_report_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_long_event),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_nothing),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_json_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
