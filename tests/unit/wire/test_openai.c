/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jr_test.h"
#include "base/rng.h"
#include "wire/openai.h"
#include "wire/tokenize.h"

static struct jr_openai_parser *parser;
static struct jr_mem mem;
static struct jr_tokens tokens;
static struct jr_openai_request req;
static struct jr_openai_error err;

static int parse_n(enum jr_openai_kind kind, const char *body, size_t n)
{
    return jr_openai_parse(parser, kind, body, n, &tokens, &req, &err);
}

static int completion(const char *body)
{
    return parse_n(JR_OPENAI_COMPLETION, body, strlen(body));
}

static int chat(const char *body)
{
    return parse_n(JR_OPENAI_CHAT, body, strlen(body));
}

static bool span_is(const char *body, struct jr_openai_span s, const char *text)
{
    return s.n == strlen(text) && memcmp(body + s.off, text, s.n) == 0;
}

static void test_completion_fields(void **state)
{
    (void)state;
    const char *body =
        "{ \"model\" : \"ti\\u006ey\" , \"prompt\":\"a\\nb\\u00e9\",\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true,\"x\":[1]},\"max_tokens\":7,\"n\":2,"
        "\"user\":\"u\",\"cache_salt\":\"s\",\"priority\":-3,\"ignore_eos\":true,\"echo\":false,"
        "\"stop\":[\"x\",{\"y\":null}],\"temperature\":0.5,\"logit_bias\":null,\"min_tokens\":2}";
    assert_int_equal(completion(body), 0);
    assert_true(jr_str_eq(req.model, "tiny"));
    assert_true(span_is(body, req.model_span, "\"ti\\u006ey\""));
    assert_int_equal(req.prompt, JR_PROMPT_TEXT);
    assert_true(jr_str_eq(req.text, "a\nb\xc3\xa9"));
    assert_true(span_is(body, req.prompt_span, "\"a\\nb\\u00e9\""));
    assert_true(req.stream && req.include_usage && req.ignore_eos && !req.echo);
    assert_true(req.has_max_tokens && req.max_tokens == 7 && req.n == 2 && req.min_tokens == 2);
    assert_true(jr_str_eq(req.user, "u") && jr_str_eq(req.cache_salt, "s"));
    assert_true(req.has_priority && req.priority == -3);
    assert_int_equal(tokens.n, 0);
}

static void test_prompt_forms(void **state)
{
    (void)state;
    assert_int_equal(completion("{\"model\":\"m\",\"prompt\":[1,2,4294967295]}"), 0);
    assert_int_equal(req.prompt, JR_PROMPT_TOKENS);
    assert_int_equal(req.n_prompts, 1);
    assert_int_equal(tokens.n, 3);
    assert_true(tokens.v[2] == UINT32_MAX);
    assert_int_equal(completion("{\"model\":\"m\",\"prompt\":[[5,6],[7]]}"), 0);
    assert_int_equal(req.prompt, JR_PROMPT_TOKEN_LISTS);
    assert_int_equal(req.n_prompts, 2);
    assert_int_equal(tokens.n, 2);
    assert_int_equal(tokens.v[1], 6);
    assert_int_equal(completion("{\"prompt\":[\"x\",\"y\",\"z\"],\"model\":\"m\"}"), 0);
    assert_int_equal(req.prompt, JR_PROMPT_TEXT_LIST);
    assert_int_equal(req.n_prompts, 3);
    assert_true(jr_str_eq(req.text, "x"));
}

static void test_long_token_prompt(void **state)
{
    (void)state;
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    jr_buf_puts(&b, "{\"model\":\"m\",\"prompt\":[0");
    for (unsigned i = 1; i < 32768; i++) {
        jr_buf_printf(&b, ", %u", i * 3);
    }
    jr_buf_puts(&b, "]}");
    assert_int_equal(parse_n(JR_OPENAI_COMPLETION, jr_buf_str(&b), b.n), 0);
    assert_int_equal(tokens.n, 32768);
    for (unsigned i = 0; i < 32768; i++) {
        assert_int_equal(tokens.v[i], i * 3);
    }
    struct jr_tokens again;
    jr_tokens_init(&again, &mem);
    assert_int_equal(jr_openai_tokens_of(b.p + req.prompt_span.off, req.prompt_span.n, &again), 0);
    assert_int_equal(again.n, tokens.n);
    assert_memory_equal(again.v, tokens.v, tokens.n * 4);
    jr_tokens_deinit(&again);
    jr_buf_deinit(&b);
}

/* A number list as people and libraries write them. */
static void put_ids(struct jr_buf *b, struct jr_rng *rng, uint32_t n)
{
    static const char *const gaps[] = {",", ", ", ",", ", ", " , ", ",\n ", ",  "};
    uint32_t style = jr_rng_below(rng, 3); /* 0: any gap, else the same always */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t digits = jr_rng_below(rng, 40) == 0 ? 10 : 1 + jr_rng_below(rng, 7);
        uint32_t below = 1;
        for (uint32_t d = 1; d < digits && d < 9; d++) {
            below *= 10;
        }
        uint32_t v = digits > 9 ? UINT32_MAX - jr_rng_below(rng, 9) : jr_rng_below(rng, below * 10);
        jr_buf_printf(b, "%s%u", i == 0 ? "" : gaps[style ? style : jr_rng_below(rng, 7)], v);
    }
}

/* Parsed with the ids, by the fast way where it goes, and without, which never takes it. */
static void check_both_ways(const char *body, size_t n)
{
    struct jr_openai_request slow;
    struct jr_openai_error slow_err;
    int rv = parse_n(JR_OPENAI_COMPLETION, body, n);
    int slow_rv = jr_openai_parse(parser, JR_OPENAI_COMPLETION, body, n, NULL, &slow, &slow_err);
    assert_int_equal(rv, slow_rv);
    assert_string_equal(err.msg.text, slow_err.msg.text);
    if (rv < 0) {
        return;
    }
    assert_int_equal(req.prompt, slow.prompt);
    assert_int_equal(req.n_prompts, slow.n_prompts);
    assert_int_equal(req.max_tokens, slow.max_tokens);
    assert_memory_equal(&req.model_span, &slow.model_span, sizeof req.model_span);
    assert_memory_equal(&req.prompt_span, &slow.prompt_span, sizeof req.prompt_span);
    assert_memory_equal(&req.tools, &slow.tools, sizeof req.tools);
    if (req.prompt != JR_PROMPT_TOKENS) {
        return;
    }
    const char *at = body + req.prompt_span.off + 1, *end = at + req.prompt_span.n - 1;
    for (uint32_t i = 0; i < tokens.n; i++) {
        char *next;
        assert_true(at < end);
        assert_int_equal(tokens.v[i], strtoull(at, &next, 10));
        at = next + strspn(next, ", \n");
    }
    assert_ptr_equal(at + 1, end); /* the bracket */
}

static void test_ids_both_ways(void **state)
{
    (void)state;
    static const char odd[] = "\"{}[],:\\-.e0 \nx9";
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 7);
    for (int k = 0; k < 3000; k++) {
        struct jr_buf b;
        jr_buf_init(&b, 1 << 20);
        jr_buf_puts(&b, k & 1 ? "{\"model\":\"m\", \"prompt\" : [" : "{\"prompt\":[");
        put_ids(&b, &rng, 1 + jr_rng_below(&rng, 300));
        jr_buf_puts(&b, k & 1 ? "] ,\"tools\":[{\"prompt\":[1]}], \"max_tokens\":7}"
                              : "],\"max_tokens\":7,\"model\":\"m\"}");
        if (k & 2) {
            b.p[jr_rng_below(&rng, (uint32_t)b.n)] =
                (uint8_t)odd[jr_rng_below(&rng, sizeof odd - 1)];
        }
        char *exact = jr_xstrndup((const char *)b.p, b.n);
        check_both_ways(exact, b.n);
        jr_xfree(exact);
        jr_buf_deinit(&b);
    }
}

static void test_chat_spans(void **state)
{
    (void)state;
    const char *body =
        "{\"messages\": [{\"role\":\"user\",\"content\":\"hi\"},{}] ,\"model\":\"m\","
        "\"tools\":[{\"a\":1}]\n,\"chat_template_kwargs\":{\"t\":false},"
        "\"add_generation_prompt\":false,\"max_tokens\":3,"
        "\"max_completion_tokens\":9}";
    struct jr_buf b;
    assert_int_equal(chat(body), 0);
    assert_int_equal(req.n_messages, 2);
    assert_true(span_is(body, req.messages, "[{\"role\":\"user\",\"content\":\"hi\"},{}]"));
    assert_true(span_is(body, req.tools, "[{\"a\":1}]"));
    assert_int_equal(req.max_tokens, 9);
    assert_int_equal(req.prompt, JR_PROMPT_NONE);
    jr_buf_init(&b, 4096);
    jr_tokenize_write(&b, &req, body);
    assert_string_equal(jr_buf_str(&b),
                        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{}],"
                        "\"tools\":[{\"a\":1}],\"chat_template_kwargs\":{\"t\":false},"
                        "\"add_generation_prompt\":false}");
    jr_buf_deinit(&b);
}

static void asks(const char *body, int rv, const char *question)
{
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    assert_int_equal(rv, 0);
    jr_tokenize_write(&b, &req, body);
    assert_string_equal(jr_buf_str(&b), question);
    jr_buf_deinit(&b);
}

static void test_question_for_tokens(void **state)
{
    (void)state;
    const char *body = "{\"model\":\"m\\\"\",\"prompt\" : \"a\\n\\u00e9\" }";
    asks(body, completion(body),
         "{\"model\":\"m\\\"\",\"prompt\":\"a\\n\\u00e9\",\"add_special_tokens\":true}");
    body = "{\"model\":\"m\",\"add_special_tokens\":false,\"prompt\":[\"a\\n\",\"b\"]}";
    asks(body, completion(body),
         "{\"model\":\"m\",\"prompt\":\"a\\n\",\"add_special_tokens\":false}");
    body = "{\"model\":\"m\",\"add_special_tokens\":null,\"prompt\":\"a\"}";
    asks(body, completion(body), "{\"model\":\"m\",\"prompt\":\"a\",\"add_special_tokens\":true}");
    struct jr_str fields[JR_TOKENIZE_FIELDS];
    body = "{\"model\":\"m\",\"messages\":[{}],\"tools\":[ 1 ]}";
    assert_int_equal(chat(body), 0);
    jr_tokenize_fields(&req, body, fields);
    assert_true(jr_str_eq(fields[0], "messages") && jr_str_eq(fields[1], "m"));
    assert_true(jr_str_eq(fields[2], "[ 1 ]"));
    for (int i = 3; i < JR_TOKENIZE_FIELDS; i++)
        assert_int_equal(fields[i].n, 0);
}

/* Each end is where the text of a message ends. */
static void test_ends_of_messages(void **state)
{
    (void)state;
    const char *body = "{\"messages\":[ {\"content\":\"}\"} ,\n{\"a\":[{}]}  ],\"model\":\"m\"}";
    assert_int_equal(chat(body), 0);
    assert_int_equal(req.n_ends, 2);
    assert_memory_equal(body + req.ends[0] - 4, "\"}\"}", 4);
    assert_memory_equal(body + req.ends[1] - 4, "{}]}", 4);
    assert_true(body[req.ends[1]] == ' ');
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    jr_buf_puts(&b, "{\"model\":\"m\",\"messages\":[{\"n\":0}");
    for (int i = 1; i < 100; i++)
        jr_buf_printf(&b, ",{\"n\":%d}", i);
    jr_buf_puts(&b, "]}");
    assert_int_equal(chat(jr_buf_str(&b)), 0);
    assert_int_equal(req.n_messages, 100);
    assert_int_equal(req.n_ends, JR_OPENAI_ENDS_MAX);
    for (int i = 0; i < JR_OPENAI_ENDS_MAX; i++) {
        char want[8];
        snprintf(want, sizeof want, ":%d}", 100 - JR_OPENAI_ENDS_MAX + i);
        assert_memory_equal(jr_buf_str(&b) + req.ends[i] - strlen(want), want, strlen(want));
    }
    jr_buf_deinit(&b);
}

static void test_prompts_in_all(void **state)
{
    (void)state;
    assert_int_equal(completion("{\"model\":\"m\",\"prompt\":[[1,2],[3],[4,5,6]]}"), 0);
    assert_int_equal(req.tokens_told, 6);
    assert_int_equal(tokens.n, 2);
    assert_int_equal(completion("{\"model\":\"m\",\"prompt\":[1,2,3]}"), 0);
    assert_int_equal(req.tokens_told, 3);
    assert_int_equal(completion("{\"model\":\"m\",\"prompt\":[\"a\\n\",\"bcd\"]}"), 0);
    assert_int_equal(req.text_bytes, 5);
    assert_int_equal(completion("{\"model\":\"m\",\"prompt\":\"abc\"}"), 0);
    assert_int_equal(req.text_bytes, 3);
}

static void test_answers_bound_to_the_text(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        bool bound;
    } rows[] = {
        {"\"echo\":true", true},
        {"\"echo\":false", false},
        {"\"suffix\":\"x\"", true},
        {"\"suffix\":null", false},
        {"\"logprobs\":1", true},
        {"\"logprobs\":false", false},
        {"\"logprobs\":true", true},
        {"\"prompt_logprobs\":0", true},
        {"\"prompt_embeds\":[1]", true},
        {"\"truncate_prompt_tokens\":5", true},
        {"\"n\":2", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"a\",%s}", rows[i].field);
        assert_int_equal(completion(body), 0);
        assert_int_equal(req.text_bound, rows[i].bound);
    }
    assert_true(completion("{\"model\":\"m\",\"prompt\":\"a\",\"logprobs\":tru}") < 0);
}

static void test_nvext(void **state)
{
    (void)state;
    const char *body =
        "{\"model\":\"m\",\"prompt\":[1],\"nvext\":{\"backend_instance_id\":18446744073709551615,"
        "\"decode_worker_id\":9007199254740993,\"prefill_worker_id\":null,\"annotations\":["
        "\"query_instance_id:\",\"token_ids\"],\"extra_fields\":[\"worker_id\",\"timing\"],"
        "\"agent_hints\":{\"osl\":100,\"priority\":-1,\"latency_sensitivity\":2.5,"
        "\"strict_priority\":4294967295,\"z\":{}},"
        "\"token_data\":[7,8],\"cache_salt\":\"t\",\"unknown\":{\"a\":[1,2,{\"b\":\"c\"}]}}}";
    struct jr_tokens ids;
    assert_int_equal(completion(body), 0);
    const struct jr_openai_nvext *x = &req.nvext;
    assert_true(x->has_backend_instance_id && x->backend_instance_id == UINT64_MAX);
    assert_true(x->has_decode_worker_id && x->decode_worker_id == UINT64_C(9007199254740993));
    assert_false(x->has_prefill_worker_id);
    assert_int_equal(x->n_annotations, 2);
    assert_true(jr_str_eq(x->annotations[0], "query_instance_id:"));
    assert_true(x->want_worker_id && x->want_timing);
    assert_true(x->has_osl && x->osl == 100 && x->has_priority && x->priority == -1);
    assert_true(x->has_latency_sensitivity && x->latency_sensitivity == 2.5);
    assert_true(jr_str_eq(req.cache_salt, "t"));
    assert_int_equal(tokens.n, 1);
    jr_tokens_init(&ids, &mem);
    assert_int_equal(jr_openai_tokens_of(body + x->token_data.off, x->token_data.n, &ids), 0);
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.v[1], 8);
    jr_tokens_deinit(&ids);
}

/* A wish of the client's: what cannot be read of it is none, and no reason to refuse. */
static void test_cache_control(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        bool asked;
        uint32_t ttl_s;
    } rows[] = {
        {"\"x\":1", false, 0},
        {"\"nvext\":{\"cache_control\":{\"type\":\"ephemeral\"}}", true, 300},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"10m\"}", true, 600},
        {"\"cache_control\":{\"ttl\":\"1h\",\"type\":\"ephemeral\"}", true, 3600},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"900\"}", true, 900},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"901s\"}", true, 901},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"5\"}", true, 300},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"999999999h\"}", true, 3600},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"99999999999999999999\"}", true, 300},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"\"}", true, 300},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"m\"}", true, 300},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"-600\"}", true, 300},
        {"\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":700,\"z\":[{}]}", true, 300},
        {"\"cache_control\":{\"type\":\"eternal\",\"ttl\":\"10m\"}", false, 600},
        {"\"cache_control\":{\"type\":[1]}", false, 300},
        {"\"cache_control\":null", false, 0},
        {"\"cache_control\":\"ephemeral\"", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"a\",%s}", rows[i].field);
        assert_int_equal(completion(body), 0);
        assert_int_equal(req.cache_control.ephemeral, rows[i].asked);
        assert_int_equal(req.cache_control.ttl_s, rows[i].ttl_s);
    }
    assert_true(completion("{\"model\":\"m\",\"prompt\":\"a\",\"cache_control\":{\"type\":tru}}") <
                0);
}

static void test_invalid(void **state)
{
    (void)state;
    static const struct {
        enum jr_openai_kind kind;
        const char *body;
        int rv;
        const char *param, *words;
    } rows[] = {
        {1, "", JR_EPROTO, NULL, "empty"},
        {1, "[]", JR_EINVAL, NULL, "JSON object"},
        {1, "17", JR_EINVAL, NULL, "JSON object"},
        {1, "{\"model\":\"m\",\"prompt\":", JR_EPROTO, NULL, "byte 22"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\"", JR_EPROTO, NULL, "byte"},
        {1, "{\"model\":\"m\" \"prompt\":\"x\"}", JR_EPROTO, NULL, "byte 13"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\"} x", JR_EPROTO, NULL, "byte"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"a\":nul}", JR_EPROTO, NULL, "JSON"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"a\":[1,2}", JR_EPROTO, NULL, "byte"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"a\":\"\\q\"}", JR_EPROTO, NULL, "JSON"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"a\":1.2.3}", JR_EPROTO, NULL, "JSON"},
        {1, "{\"model\":\"m\",\"prompt\":\"\xff\"}", JR_EPROTO, NULL, "JSON"},
        {1, "{\"prompt\":\"x\"}", JR_EINVAL, "model", "missing"},
        {1, "{\"model\":null,\"prompt\":\"x\"}", JR_EINVAL, "model", "missing"},
        {1, "{\"model\":5,\"prompt\":\"x\"}", JR_EINVAL, "model", "string"},
        {1, "{\"model\":\"a\",\"model\":\"b\",\"prompt\":\"x\"}", JR_EINVAL, "model", "twice"},
        {1, "{\"model\":\"a\",\"mod\\u0065l\":\"b\",\"prompt\":\"x\"}", JR_EINVAL, "model",
         "twice"},
        {1, "{\"model\":\"m\"}", JR_EINVAL, "prompt", "missing"},
        {1, "{\"model\":\"m\",\"prompt\":\"\"}", JR_EINVAL, "prompt", "empty"},
        {1, "{\"model\":\"m\",\"prompt\":[]}", JR_EINVAL, "prompt", "empty"},
        {1, "{\"model\":\"m\",\"prompt\":[[]]}", JR_EINVAL, "prompt", "empty"},
        {1, "{\"model\":\"m\",\"prompt\":[\"\"]}", JR_EINVAL, "prompt", "empty"},
        {1, "{\"model\":\"m\",\"prompt\":5}", JR_EINVAL, "prompt", "must be a text"},
        {1, "{\"model\":\"m\",\"prompt\":{}}", JR_EINVAL, "prompt", "must be a text"},
        {1, "{\"model\":\"m\",\"prompt\":[1,-2]}", JR_EINVAL, "prompt", "element 1"},
        {1, "{\"model\":\"m\",\"prompt\":[1.5]}", JR_EINVAL, "prompt", "element 0"},
        {1, "{\"model\":\"m\",\"prompt\":[1,4294967296]}", JR_EINVAL, "prompt", "element 1"},
        {1, "{\"model\":\"m\",\"prompt\":[1,\"x\"]}", JR_EINVAL, "prompt", "element 1"},
        {1, "{\"model\":\"m\",\"prompt\":[\"x\",1]}", JR_EINVAL, "prompt", "must be a text"},
        {1, "{\"model\":\"m\",\"prompt\":[true]}", JR_EINVAL, "prompt", "must be a text"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"max_tokens\":0}", JR_EINVAL, "max_tokens", "1"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"max_tokens\":\"many\"}", JR_EINVAL, "max_tokens",
         "number"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"n\":-1}", JR_EINVAL, "n", "number"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"stream\":1}", JR_EINVAL, "stream", "true"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"nvext\":[]}", JR_EINVAL, "nvext", "object"},
        {1, "{\"model\":\"m\",\"prompt\":\"x\",\"nvext\":{\"backend_instance_id\":-1}}", JR_EINVAL,
         "nvext.backend_instance_id", "number"},
        {2, "{\"model\":\"m\"}", JR_EINVAL, "messages", "missing"},
        {2, "{\"model\":\"m\",\"messages\":[]}", JR_EINVAL, "messages", "empty"},
        {2, "{\"model\":\"m\",\"messages\":\"hi\"}", JR_EINVAL, "messages", "list"},
        {2, "{\"model\":\"m\",\"messages\":[\"hi\"]}", JR_EINVAL, "messages", "object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int rv = parse_n(rows[i].kind, rows[i].body, strlen(rows[i].body));
        bool ok = rv == rows[i].rv && strstr(err.msg.text, rows[i].words) != NULL &&
                  (rows[i].param == NULL ? err.param == NULL
                                         : err.param && strcmp(err.param, rows[i].param) == 0);
        if (!ok) {
            fail_msg("row %zu %s: %s, param %s: %s", i, rows[i].body, jr_err_name(rv),
                     err.param ? err.param : "none", err.msg.text);
        }
    }
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    for (int deep = 0; deep < 2; deep++) {
        jr_buf_clear(&b);
        jr_buf_puts(&b, "{\"model\":\"m\",\"prompt\":\"x\",\"a\":");
        int n = deep ? 100000 : 40;
        for (int i = 0; i < n; i++) {
            jr_buf_puts(&b, "[");
        }
        for (int i = 0; i < n; i++) {
            jr_buf_puts(&b, "]");
        }
        jr_buf_puts(&b, "}");
        assert_int_equal(parse_n(JR_OPENAI_COMPLETION, jr_buf_str(&b), b.n), deep ? JR_ELIMIT : 0);
    }
    jr_buf_deinit(&b);
}

static void test_body_is_bounded(void **state)
{
    (void)state;
    struct jr_openai_parser *small;
    const char *body = "{\"model\":\"m\",\"prompt\":\"x\"}";
    assert_int_equal(jr_openai_parser_create(8, &small), 0);
    assert_int_equal(
        jr_openai_parse(small, JR_OPENAI_COMPLETION, body, strlen(body), NULL, &req, &err),
        JR_ELIMIT);
    jr_openai_parser_destroy(small);
    jr_openai_parser_destroy(NULL);
}

/* Requests that real servers took, or refused. */
static void test_real_requests(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int rv;
    } rows[] = {
        {"dynamo-chat", 0},
        {"dynamo-chat-stream", 0},
        {"dynamo-chat-stream-annot", 0},
        {"dynamo-chat-pinned-bad", 0},
        {"dynamo-completion-text", 0},
        {"dynamo-completion-tokens", 0},
        {"dynamo-completion-batch", 0},
        {"dynamo-completion-batch-tokens-stream", 0},
        {"dynamo-completion-n2", 0},
        {"dynamo-completion-query-only", 0},
        {"dynamo-completion-stream", 0},
        {"dynamo-err-empty-messages", JR_EINVAL},
        {"dynamo-err-empty-prompt-arr", JR_EINVAL},
        {"dynamo-err-empty-prompt-str", JR_EINVAL},
        {"dynamo-err-missing-messages", JR_EINVAL},
        {"dynamo-err-missing-model", JR_EINVAL},
        {"dynamo-err-missing-prompt", JR_EINVAL},
        {"dynamo-err-wrongtype", JR_EINVAL},
        {"dynamo-err-badjson", JR_EPROTO},
        {"dynamo-err-maxtokens0", JR_EINVAL},
        {"vllm-completion", 0},
        {"vllm-completion-stream", 0},
        {"vllm-chat-stream", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n;
        char *path = jr_xprintf("http/%s.request", rows[i].file);
        char *body = (char *)jr_test_fixture(path, &n);
        bool is_chat = strstr(path, "chat") || strstr(path, "messages");
        int rv = parse_n(is_chat ? JR_OPENAI_CHAT : JR_OPENAI_COMPLETION, body, n);
        if (rv != rows[i].rv) {
            fail_msg("%s: %s: %s", path, jr_err_name(rv), err.msg.text);
        }
        jr_xfree(body);
        jr_xfree(path);
    }
}

static void test_truncated_and_mutated(void **state)
{
    (void)state;
    static const char *const seeds[] = {
        "{\"model\":\"m\",\"prompt\":[[1,2],[3]],\"nvext\":{\"annotations\":[\"a:b\"],"
        "\"agent_hints\":{\"osl\":1},\"token_data\":[1]},\"stream_options\":{\"include_usage\":1}}",
        "{\"model\":\"m\\u00e9\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]"
        "}"
        "],\"tools\":[{}],\"user\":\"\\ud83d\\ude00\",\"temperature\":1e-3,\"x\":[null,true]}",
    };
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 2);
    for (int k = 0; k < 4000; k++) {
        const char *seed = seeds[k & 1];
        size_t n = strlen(seed);
        char *body = jr_xmemdup(seed, n);
        for (uint32_t i = jr_rng_below(&rng, 4); i > 0; i--) {
            static const char odd[] = "\"{}[],:\\-1eu \0n";
            body[jr_rng_below(&rng, (uint32_t)n)] = odd[jr_rng_below(&rng, sizeof odd)];
        }
        n = k % 3 == 0 ? jr_rng_below(&rng, (uint32_t)n) : n;
        char *exact = jr_xmemdup(body, n > 0 ? n : 1);
        int rv = parse_n(k & 1 ? JR_OPENAI_CHAT : JR_OPENAI_COMPLETION, exact, n);
        assert_true(rv == 0 || err.msg.text[0] != '\0');
        assert_true(rv != 0 ||
                    (req.model_span.off + req.model_span.n <= n && req.model_span.n > 2));
        jr_xfree(exact);
        jr_xfree(body);
    }
}

static int setup(void **state)
{
    (void)state;
    jr_mem_init(&mem);
    jr_tokens_init(&tokens, &mem);
    return jr_openai_parser_create(4 << 20, &parser);
}

static int teardown(void **state)
{
    (void)state;
    jr_openai_parser_destroy(parser);
    jr_tokens_deinit(&tokens);
    jr_mem_deinit(&mem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completion_fields),
        cmocka_unit_test(test_prompt_forms),
        cmocka_unit_test(test_long_token_prompt),
        cmocka_unit_test(test_ids_both_ways),
        cmocka_unit_test(test_chat_spans),
        cmocka_unit_test(test_question_for_tokens),
        cmocka_unit_test(test_ends_of_messages),
        cmocka_unit_test(test_prompts_in_all),
        cmocka_unit_test(test_answers_bound_to_the_text),
        cmocka_unit_test(test_nvext),
        cmocka_unit_test(test_cache_control),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_body_is_bounded),
        cmocka_unit_test(test_real_requests),
        cmocka_unit_test(test_truncated_and_mutated),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
