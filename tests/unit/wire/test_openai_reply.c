/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: the SSE reader and what is read out of chunks, over real streams cut at every byte. */
#include <stdio.h>
#include <string.h>
#include "jr_test.h"
#include "base/rng.h"
#include "wire/openai_reply.h"
#include "wire/sse.h"

/* Writes events as text, so that two ways of feeding compare. */
struct sink {
    struct jr_buf text;
    struct jr_openai_progress pr;
    int firsts;
    int stop_at; /* event number at which the callback says stop */
    int seen;
};

static int take(void *ctx, const struct jr_sse_event *ev)
{
    struct sink *s = ctx;
    jr_buf_printf(&s->text, "<%.*s|", (int)ev->event.n, ev->event.n ? ev->event.p : "");
    jr_buf_put(&s->text, ev->data.p, ev->data.n);
    jr_buf_puts(&s->text, "|");
    jr_buf_put(&s->text, ev->comment.p, ev->comment.n);
    jr_buf_puts(&s->text, ev->done ? "|done>" : ">");
    s->firsts += jr_openai_progress_event(&s->pr, ev);
    return ++s->seen == s->stop_at ? 7 : 0;
}

static void sink_init(struct sink *s)
{
    memset(s, 0, sizeof *s);
    jr_buf_init(&s->text, 1 << 20);
}

/* Feed in pieces of `step` bytes, each an own allocation; step 0: random sizes. */
static void feed(const char *p, size_t n, size_t step, struct jr_rng *rng, struct sink *sink)
{
    struct jr_sse sse;
    jr_sse_init(&sse, 1 << 16);
    for (size_t at = 0; at < n;) {
        size_t k = step > 0 ? step : 1 + jr_rng_below(rng, 200);
        k = k < n - at ? k : n - at;
        char *piece = jr_xmemdup(p + at, k);
        assert_int_equal(jr_sse_feed(&sse, piece, k, take, sink), 0);
        jr_xfree(piece);
        at += k;
    }
    assert_true(jr_sse_is_clean(&sse));
    jr_sse_deinit(&sse);
}

static void check_sse(const char *in, const char *want)
{
    for (size_t step = 1; step <= strlen(in); step++) {
        struct sink s;
        sink_init(&s);
        feed(in, strlen(in), step, NULL, &s);
        assert_string_equal(jr_buf_str(&s.text), want);
        jr_buf_deinit(&s.text);
    }
}

static void test_sse_forms(void **state)
{
    (void)state;
    check_sse("data: a\n\n", "<|a|>");
    check_sse("data:a\r\n\r\ndata: b\r\r", "<|a|><|b|>");
    check_sse("\xef\xbb\xbf"
              "data: a\ndata: b\ndata:\ndata: c\n\n",
              "<|a\nb\n\nc|>");
    check_sse("event: error\n: words here\n\n", "<error||words here>");
    check_sse("id: 1\nretry: 5\n\n\n: ping\n\ndata: [DONE]\n\n", "<||ping><|[DONE]||done>");
    check_sse("event: x\ndata\ndata: 1\n\n", "<x|\n1|>");
    check_sse("event: x\n: c\nevent:\n:\ndata: 1\n\n", "<|1|>"); /* the last one counts */
}

static void test_sse_bound(void **state)
{
    (void)state;
    struct jr_sse sse;
    struct sink s;
    char big[600];
    sink_init(&s);
    jr_sse_init(&sse, 256);
    memset(big, 'x', sizeof big);
    memcpy(big, "data: ", 6);
    assert_int_equal(jr_sse_feed(&sse, big, 200, take, &s), 0);
    assert_false(jr_sse_is_clean(&sse));
    assert_int_equal(jr_sse_feed(&sse, big, 200, take, &s), JR_ELIMIT);
    assert_int_equal(jr_sse_feed(&sse, "\n\n", 2, take, &s), JR_ELIMIT);
    jr_sse_deinit(&sse);
    jr_sse_init(&sse, 256);
    s.stop_at = 1;
    assert_int_equal(jr_sse_feed(&sse, "data: 1\n\ndata: 2\n\n", 18, take, &s), 7);
    assert_int_equal(s.seen, 1);
    jr_sse_deinit(&sse);
    jr_buf_deinit(&s.text);
}

/* Real streams: however cut, the same events, and usage and counts as the server meant them. */
static void check_stream(const char *file, int chunks, uint64_t prompt, uint64_t cached,
                         struct jr_rng *rng)
{
    size_t n;
    char *body = (char *)jr_test_fixture(file, &n);
    struct sink whole;
    sink_init(&whole);
    feed(body, n, n, NULL, &whole);
    assert_true(whole.pr.done && whole.pr.finished && !whole.pr.failed);
    assert_int_equal(whole.firsts, 1);
    assert_int_equal(whole.pr.n_content, chunks);
    assert_int_equal(whole.pr.bad_chunks, 0);
    assert_int_equal(whole.pr.prompt_tokens, prompt);
    assert_int_equal(whole.pr.cached_tokens, cached);
    for (int k = 0; k < 12; k++) {
        struct sink s;
        sink_init(&s);
        feed(body, n, k < 3 ? (size_t)k + 1 : 0, rng, &s);
        assert_string_equal(jr_buf_str(&s.text), jr_buf_str(&whole.text));
        assert_memory_equal(&s.pr, &whole.pr, sizeof s.pr);
        jr_buf_deinit(&s.text);
    }
    jr_buf_deinit(&whole.text);
    jr_xfree(body);
}

static void test_real_streams(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 3);
    check_stream("http/vllm-chat-stream.body", 5, 67, 64, &rng);
    check_stream("http/vllm-completion-stream.body", 6, 96, 64, &rng);
    check_stream("http/dynamo-completion-stream.body", 4, 64, 0, &rng);
    check_stream("http/dynamo-chat-stream-annot.body", 3, 19, 0, &rng);
}

static void test_whole_replies(void **state)
{
    (void)state;
    size_t n;
    struct jr_openai_reply r;
    char *body = (char *)jr_test_fixture("http/dynamo-completion-n2.body", &n);
    assert_int_equal(jr_openai_reply_parse(body, n, &r), 0);
    assert_int_equal(r.n_choices, 1);
    assert_int_equal(r.n_content, 1);
    assert_true(r.has_usage && r.prompt_tokens == 2 && r.completion_tokens == 2);
    jr_xfree(body);
    body = (char *)jr_test_fixture("http/vllm-err-unknown-model.body", &n);
    assert_int_equal(jr_openai_reply_parse(body, n, &r), 0);
    assert_true(r.is_error && r.error_message.n > 0 && r.n_content == 0);
    jr_xfree(body);
}

static int reply_of(const char *text, struct jr_openai_reply *r)
{
    return jr_openai_reply_parse(text, strlen(text), r);
}

static void test_content_forms(void **state)
{
    (void)state;
    struct jr_openai_reply r;
    assert_int_equal(
        reply_of("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", &r), 0);
    assert_int_equal(r.n_content, 0);
    assert_int_equal(reply_of("{\"choices\":[{\"delta\":{\"reasoning_content\":\"x\"}}]}", &r), 0);
    assert_int_equal(r.n_content, 1);
    assert_int_equal(reply_of("{\"choices\":[{\"delta\":{\"tool_calls\":[ ]}}]}", &r), 0);
    assert_int_equal(r.n_content, 0);
    assert_int_equal(reply_of("{\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}", &r), 0);
    assert_int_equal(r.n_content, 1);
    assert_int_equal(reply_of("{\"choices\":[{\"text\":\"\",\"token_ids\":[4,5]}]}", &r), 0);
    assert_int_equal(r.n_content, 1);
    assert_int_equal(r.n_token_ids, 2);
    assert_int_equal(reply_of("{\"choices\":null,\"usage\":null,\"error\":null}", &r), 0);
    assert_false(r.is_error || r.has_usage);
    assert_int_equal(reply_of("{\"choices\":[5]}", &r), JR_EPROTO);
    assert_int_equal(reply_of("{\"choices\":[", &r), JR_ETRUNC);
    assert_int_equal(reply_of("{} x", &r), JR_EPROTO);
    assert_int_equal(reply_of("[DONE]", &r), JR_EPROTO);
}

static void test_error_body(void **state)
{
    (void)state;
    struct jr_buf b;
    struct jr_openai_failure f = {
        .status = 404, .code = "model_not_found", .param = "model", .message = "no \"x\""};
    jr_buf_init(&b, 4096);
    jr_openai_error_write(&b, &f);
    assert_string_equal(jr_buf_str(&b),
                        "{\"message\":\"no \\\"x\\\"\",\"type\":\"Not Found\",\"code\":404,"
                        "\"error\":{\"message\":\"no \\\"x\\\"\",\"type\":\"not_found_error\","
                        "\"param\":\"model\",\"code\":\"model_not_found\"}}");
    struct jr_openai_reply r;
    assert_int_equal(jr_openai_reply_parse(b.p, b.n, &r), 0);
    assert_true(r.is_error);
    jr_buf_deinit(&b);
    assert_string_equal(jr_openai_reason(299), "Error");
}

static void test_truncated_and_mutated(void **state)
{
    (void)state;
    size_t n;
    char *body = (char *)jr_test_fixture("http/vllm-chat.body", &n);
    struct jr_rng rng;
    struct jr_openai_reply r;
    jr_rng_init(&rng, jr_test_seed(), 4);
    for (size_t i = 0; i < n; i++) {
        char *cut = jr_xmemdup(body, i > 0 ? i : 1);
        assert_true(jr_openai_reply_parse(cut, i, &r) < 0);
        jr_xfree(cut);
    }
    for (int k = 0; k < 2000; k++) {
        char *copy = jr_xmemdup(body, n);
        for (int i = 0; i < 3; i++) {
            copy[jr_rng_below(&rng, (uint32_t)n)] = "\"{}[],:\\x"[jr_rng_below(&rng, 9)];
        }
        (void)!jr_openai_reply_parse(copy, n, &r);
        jr_xfree(copy);
    }
    jr_xfree(body);
}

/* Of a stream that names the ids it is made of: those of the last chunk alone. */
static void test_token_ids(void **state)
{
    static const struct {
        const char *data, *ids; /* NULL: none */
        uint32_t n;
        bool has_text;
    } rows[] = {
        {"{\"choices\":[{\"text\":\"a\",\"token_ids\":[7, 8]}]}", "[7, 8]", 2, true},
        {"{\"choices\":[{\"token_ids\":[9],\"text\":\"\"}]}", "[9]", 1, false},
        {"{\"choices\":[{\"text\":\"b\",\"token_ids\":null}]}", NULL, 0, true},
        {"{\"choices\":[{\"text\":\"b\",\"token_ids\":[]}]}", NULL, 0, true},
        {"{\"choices\":[],\"usage\":{\"completion_tokens\":3}}", NULL, 0, false},
        {"no json", NULL, 0, false},
    };
    struct jr_openai_progress p = {0};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct jr_sse_event ev = {.data = jr_str_of(rows[i].data, strlen(rows[i].data))};
        (void)jr_openai_progress_event(&p, &ev);
        assert_int_equal(p.n_token_ids, rows[i].n);
        if (rows[i].ids)
            assert_true(jr_str_eq(p.token_ids, rows[i].ids));
        if (i < 5)
            assert_int_equal(p.has_text, rows[i].has_text);
    }
    assert_int_equal(p.n_content, 5);
    struct jr_sse_event done = {.data = jr_str_of("[DONE]", 6), .done = true};
    (void)jr_openai_progress_event(&p, &done);
    assert_int_equal(p.n_token_ids, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_ids),     cmocka_unit_test(test_sse_forms),
        cmocka_unit_test(test_sse_bound),     cmocka_unit_test(test_real_streams),
        cmocka_unit_test(test_whole_replies), cmocka_unit_test(test_content_forms),
        cmocka_unit_test(test_error_body),    cmocka_unit_test(test_truncated_and_mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
