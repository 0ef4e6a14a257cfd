/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP routes of a mock engine: what vLLM's API server answers, as far as routers look at it. */
#include "app/mocker/mock_worker_internal.h"
#include "app/mocker/toy_tokenizer.h"
#include "base/assert.h"
#include "base/cursor.h"
#include "base/log.h"
#include "base/map.h"
#include "wire/json.h"
#include <inttypes.h>
#include <string.h>

#define JSON "application/json"

/* max_tokens when the client does not say: vLLM's for completions; a chat would go on to the end
 * of sequence, which here is after as many. */
#define COMPLETION_TOKENS 16
#define CHAT_TOKENS       64

#define CONTROL_TTL_MAX_S 86400

void jr_mock_respond_out(struct jr_mock_worker *w, struct jr_http_request *http, int status)
{
    if (w->out.err != 0)
        jr_http_respond(http, 500, "text/plain", NULL, "out of memory", 13);
    else
        jr_http_respond(http, status, JSON, NULL, w->out.p, w->out.n);
}

void jr_mock_respond_error(struct jr_mock_worker *w, struct jr_http_request *http, int status,
                           const char *param, const char *message)
{
    jr_buf_clear(&w->out);
    jr_mock_reply_error(&w->out, status, param, message);
    jr_mock_respond_out(w, http, status);
}

/* A failed parse or tokenization, in words for the client. */
static void respond_invalid(struct jr_mock_worker *w, struct jr_http_request *http, int err,
                            const char *param, const struct jr_errmsg *e)
{
    jr_mock_respond_error(w, http, err == JR_ENOMEM ? 500 : 400, param,
                          e->text[0] != '\0' ? e->text : jr_err_text(err));
}

static bool is_lora(const struct jr_mock_worker *w, struct jr_str name)
{
    for (uint32_t i = 0; i < w->config.n_loras; i++)
        if (jr_str_eq(name, w->config.loras[i]))
            return true;
    return false;
}

static bool check_model(struct jr_mock_worker *w, struct jr_http_request *http, struct jr_str model)
{
    struct jr_errmsg e = {{0}};
    if (model.n == 0 || jr_str_eq(model, w->config.model) || is_lora(w, model))
        return true;
    jr_errmsg_set(&e, JR_ENOTFOUND, "The model `%.*s` does not exist. Valid aliases: %s.",
                  (int)(model.n < 64 ? model.n : 64), model.p, w->config.model);
    jr_mock_respond_error(w, http, 404, "model", e.text);
    return false;
}

/* ---- prompts ------------------------------------------------------------------------ */

/* Prompts of one request in w->tokens, one behind the other. */
struct prompts {
    uint32_t n;
    uint32_t ends[JR_MOCKER_SEQS_MAX];
};

static int end_prompt(struct jr_mock_worker *w, struct prompts *p, struct jr_errmsg *e)
{
    uint32_t at = p->n == 0 ? 0 : p->ends[p->n - 1];
    if (w->tokens.n == at)
        return jr_errmsg_set(e, JR_EINVAL, "You must pass at least one prompt");
    if (p->n == JR_MOCKER_SEQS_MAX)
        return jr_errmsg_set(e, JR_ELIMIT, "at most %d prompts in one request", JR_MOCKER_SEQS_MAX);
    p->ends[p->n++] = w->tokens.n;
    return 0;
}

static int add_text(struct jr_mock_worker *w, struct prompts *p, struct jr_str text,
                    struct jr_errmsg *e)
{
    int err = jr_toy_push(&w->tokens, JR_TOY_BOS);
    if (err == 0)
        err = jr_toy_encode(&w->tokens, text.p, text.n);
    return err < 0 ? err : end_prompt(w, p, e);
}

static int add_raw_text(struct jr_mock_worker *w, struct prompts *p, struct jr_str raw,
                        struct jr_errmsg *e)
{
    struct jr_buf b;
    jr_buf_init(&b, raw.n + 1);
    int err = jr_json_unescape(raw, &b);
    if (err == 0)
        err = b.err;
    if (err == 0)
        err = add_text(w, p, jr_str_of(jr_buf_str(&b), b.n), e);
    jr_buf_deinit(&b);
    return err;
}

static int read_ids(struct jr_mock_worker *w, struct jr_json *j)
{
    int rv = jr_json_array(j);
    while (rv == 0 && (rv = jr_json_item(j)) > 0) {
        uint64_t id;
        rv = jr_json_u64(j, &id);
        if (rv == 0)
            rv = id > UINT32_MAX ? JR_EINVAL : jr_toy_push(&w->tokens, (uint32_t)id);
    }
    return rv;
}

/* The list forms of prompt. */
static int add_list(struct jr_mock_worker *w, struct prompts *p, const char *json, size_t n,
                    struct jr_errmsg *e)
{
    struct jr_json j;
    struct jr_str raw;
    jr_json_init(&j, json, n);
    int rv = jr_json_array(&j);
    while (rv == 0 && (rv = jr_json_item(&j)) > 0) {
        if (jr_json_peek(&j) == JR_JSON_STR) {
            rv = jr_json_str(&j, &raw);
            if (rv == 0)
                rv = add_raw_text(w, p, raw, e);
        } else {
            rv = read_ids(w, &j);
            if (rv == 0)
                rv = end_prompt(w, p, e);
        }
    }
    return rv;
}

static struct jr_str span_str(struct jr_str body, struct jr_openai_span span)
{
    return jr_str_of(body.p + span.off, span.n);
}

static int collect(struct jr_mock_worker *w, const struct jr_openai_request *req,
                   struct jr_str body, struct prompts *p, struct jr_errmsg *e)
{
    struct jr_str prompt = span_str(body, req->prompt_span);
    p->n = 0;
    if (req->kind == JR_OPENAI_CHAT) {
        w->tokens.n = 0;
        if (req->n_messages == 0)
            return jr_errmsg_set(e, JR_EINVAL,
                                 "Cannot apply chat template to an empty conversation. Provide at "
                                 "least one message.");
        int err = jr_toy_encode_chat(&w->tokens, span_str(body, req->messages),
                                     span_str(body, req->tools), true, e);
        return err < 0 ? err : end_prompt(w, p, e);
    }
    if (req->prompt == JR_PROMPT_TOKENS) /* the parser has read them */
        return end_prompt(w, p, e);
    w->tokens.n = 0;
    switch (req->prompt) {
    case JR_PROMPT_TEXT:
        return add_text(w, p, req->text, e);
    case JR_PROMPT_TEXT_LIST:
    case JR_PROMPT_TOKEN_LISTS:
        return add_list(w, p, prompt.p, prompt.n, e);
    case JR_PROMPT_TOKENS:
    case JR_PROMPT_NONE:
        break;
    }
    return jr_errmsg_set(e, JR_EINVAL,
                         "Either prompt or prompt_embeds must be provided and non-empty. "
                         "(parameter=prompt)");
}

static bool check_lengths(struct jr_mock_worker *w, struct jr_http_request *http,
                          const struct prompts *p)
{
    struct jr_errmsg e = {{0}};
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t n = p->ends[i] - (i == 0 ? 0 : p->ends[i - 1]);
        if (n < w->config.max_model_len)
            continue;
        jr_errmsg_set(&e, JR_EINVAL,
                      "This model's maximum context length is %u tokens. However, your prompt "
                      "contains %u input tokens. Please reduce the length of the input prompt. "
                      "(parameter=input_tokens, value=%u)",
                      w->config.max_model_len, n, n);
        jr_mock_respond_error(w, http, 400, "input_tokens", e.text);
        return false;
    }
    return true;
}

/* ---- completions --------------------------------------------------------------------- */

static void set_id(struct mock_request *r)
{
    struct jr_str given = jr_http_request_header(r->http, "X-Request-Id");
    const char *prefix = r->head.chat ? "chatcmpl-" : "cmpl-";
    if (given.n > 0 && given.n <= 64)
        snprintf(r->id, sizeof r->id, "%s%.*s", prefix, (int)given.n, given.p);
    else
        snprintf(r->id, sizeof r->id, "%s%016" PRIx64, prefix, jr_mix64(r->worker->next_id++));
    r->head.id = r->id;
    /* Who tests a router counts here what reached an engine more than once. */
    jr_log(JR_LOG_DEBUG, "mocker.request", "id=" JR_LOG_Q, r->id);
}

/* Where the client wants it, or UINT32_MAX: there is no such rank, and it was told so. */
static uint32_t rank_of(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct jr_str named = jr_http_request_header(http, "X-data-parallel-rank");
    struct jr_errmsg e = {{0}};
    uint64_t rank;
    if (named.n == 0)
        return jr_mock_worker_pick_rank(w);
    if (jr_parse_u64(named.p, named.n, &rank) == 0 && rank < w->n_ranks)
        return (uint32_t)rank;
    jr_errmsg_set(&e, JR_EINVAL, "data_parallel_rank %.*s is out of range [0, %u).",
                  (int)(named.n < 20 ? named.n : 20), named.p, w->n_ranks);
    jr_mock_respond_error(w, http, 400, NULL, e.text);
    return UINT32_MAX;
}

static struct mock_request *request_create(struct jr_mock_worker *w, struct jr_http_request *http,
                                           const struct jr_openai_request *req, uint32_t n_seqs)
{
    struct mock_request *r = jr_xalloc(sizeof *r + n_seqs * sizeof *r->seqs);
    jr_list_init(&r->node);
    r->worker = w;
    r->http = http;
    r->head = (struct jr_mock_head){.chat = req->kind == JR_OPENAI_CHAT,
                                    .model = w->config.model,
                                    .created = jr_unix_ns() / 1000000000};
    r->stream = req->stream;
    r->include_usage = req->include_usage;
    r->return_token_ids = req->stream && req->return_token_ids;
    r->finish_reason = r->head.chat && !req->has_max_tokens ? "stop" : "length";
    r->n_seqs = n_seqs;
    set_id(r);
    return r;
}

static void generate(struct jr_mock_worker *w, struct jr_http_request *http,
                     enum jr_openai_kind kind)
{
    struct jr_str body = jr_http_request_body(http);
    struct jr_openai_request req;
    struct jr_openai_error err = {{{0}}, NULL};
    struct prompts prompts;
    int rv = jr_openai_parse(w->config.parser, kind, body.p, body.n, &w->tokens, &req, &err);
    if (rv < 0) {
        respond_invalid(w, http, rv, err.param, &err.msg);
        return;
    }
    if (!check_model(w, http, req.model))
        return;
    if (req.has_max_tokens && req.max_tokens == 0) {
        jr_mock_respond_error(w, http, 400, "max_tokens", "max_tokens must be at least 1, got 0.");
        return;
    }
    rv = collect(w, &req, body, &prompts, &err.msg);
    if (rv < 0) {
        respond_invalid(w, http, rv, kind == JR_OPENAI_CHAT ? "messages" : "prompt", &err.msg);
        return;
    }
    if (!check_lengths(w, http, &prompts))
        return;
    JR_ASSERT(prompts.n > 0); /* the parser refuses an empty list */
    uint32_t n = req.n == 0 ? 1 : req.n;
    if (n > JR_MOCKER_SEQS_MAX / prompts.n) {
        jr_mock_respond_error(w, http, 400, "n", "too many choices: prompts times n is above 1024");
        return;
    }
    /* As a model of its own, as with vLLM, or named beside it. */
    struct jr_str lora = is_lora(w, req.model) ? req.model : req.lora_name;
    uint32_t max_tokens = kind == JR_OPENAI_CHAT ? CHAT_TOKENS : COMPLETION_TOKENS;
    uint32_t rank = rank_of(w, http);
    if (rank == UINT32_MAX)
        return;
    struct mock_request *r = request_create(w, http, &req, prompts.n * n);
    r->rank = rank;
    jr_mock_worker_start(r, prompts.ends, prompts.n,
                         req.has_max_tokens ? req.max_tokens : max_tokens, req.cache_salt, lora);
}

static void post_completions(struct jr_mock_worker *w, struct jr_http_request *http)
{
    generate(w, http, JR_OPENAI_COMPLETION);
}

static void post_chat(struct jr_mock_worker *w, struct jr_http_request *http)
{
    generate(w, http, JR_OPENAI_CHAT);
}

/* ---- tokenizer -------------------------------------------------------------------------- */

struct tokenize_request {
    struct jr_str model, prompt;   /* raw */
    struct jr_str messages, tools; /* raw JSON */
    struct jr_str tokens;          /* raw JSON, of detokenize */
    bool has_prompt, special, special_given, generation_prompt, token_strs;
};

static int read_raw(struct jr_json *j, struct jr_str *ret)
{
    (void)jr_json_peek(j);
    const char *from = j->p;
    int rv = jr_json_skip(j);
    if (rv == 0)
        *ret = jr_str_of(from, (size_t)(j->p - from));
    return rv;
}

static int read_flag(struct jr_json *j, bool *ret)
{
    return jr_json_peek(j) == JR_JSON_BOOL ? jr_json_bool(j, ret) : jr_json_skip(j);
}

static int tokenize_field(struct jr_json *j, struct jr_str key, struct tokenize_request *t)
{
    if (jr_str_eq(key, "model") && jr_json_peek(j) == JR_JSON_STR)
        return jr_json_str(j, &t->model);
    if (jr_str_eq(key, "prompt")) {
        t->has_prompt = true;
        return jr_json_str(j, &t->prompt);
    }
    if (jr_str_eq(key, "messages"))
        return read_raw(j, &t->messages);
    if (jr_str_eq(key, "tools") && jr_json_peek(j) == JR_JSON_ARRAY)
        return read_raw(j, &t->tools);
    if (jr_str_eq(key, "tokens"))
        return read_raw(j, &t->tokens);
    if (jr_str_eq(key, "add_generation_prompt"))
        return read_flag(j, &t->generation_prompt);
    if (jr_str_eq(key, "return_token_strs"))
        return read_flag(j, &t->token_strs);
    if (jr_str_eq(key, "add_special_tokens"))
        return read_flag(j, &t->special);
    return jr_json_skip(j);
}

static int tokenize_parse(struct jr_str body, struct tokenize_request *t, struct jr_errmsg *e)
{
    struct jr_json j;
    struct jr_str key;
    *t = (struct tokenize_request){.special = true, .generation_prompt = true};
    jr_json_init(&j, body.p, body.n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0)
        rv = tokenize_field(&j, key, t);
    if (rv == 0)
        rv = jr_json_end(&j);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "the body is no valid request: see byte %zu", jr_json_at(&j));
    return 0;
}

/* Text is tokenized as /v1/completions does, or without <s>; chats have it from the template. */
static int tokenize_run(struct jr_mock_worker *w, const struct tokenize_request *t,
                        struct jr_errmsg *e)
{
    w->tokens.n = 0;
    if (t->messages.n > 0)
        return jr_toy_encode_chat(&w->tokens, t->messages, t->tools, t->generation_prompt, e);
    if (!t->has_prompt)
        return jr_errmsg_set(e, JR_EINVAL, "either prompt or messages must be given");
    struct jr_buf b;
    jr_buf_init(&b, t->prompt.n + 1);
    int err = jr_json_unescape(t->prompt, &b);
    if (err == 0)
        err = b.err;
    if (err == 0 && t->special)
        err = jr_toy_push(&w->tokens, JR_TOY_BOS);
    if (err == 0)
        err = jr_toy_encode(&w->tokens, jr_buf_str(&b), b.n);
    jr_buf_deinit(&b);
    return err;
}

static void post_tokenize(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct tokenize_request t;
    struct jr_errmsg e = {{0}};
    int rv = tokenize_parse(jr_http_request_body(http), &t, &e);
    if (rv == 0 && !check_model(w, http, t.model))
        return;
    if (rv == 0)
        rv = tokenize_run(w, &t, &e);
    if (rv < 0) {
        respond_invalid(w, http, rv, NULL, &e);
        return;
    }
    jr_buf_clear(&w->out);
    jr_mock_reply_tokenize(&w->out, w->tokens.v, w->tokens.n, w->config.max_model_len,
                           t.token_strs);
    jr_mock_respond_out(w, http, 200);
}

static void post_detokenize(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct tokenize_request t;
    struct jr_errmsg e = {{0}};
    struct jr_json j;
    int rv = tokenize_parse(jr_http_request_body(http), &t, &e);
    w->tokens.n = 0;
    if (rv == 0) {
        jr_json_init(&j, t.tokens.p, t.tokens.n);
        rv = read_ids(w, &j);
    }
    if (rv < 0) {
        respond_invalid(w, http, rv, "tokens", &e);
        return;
    }
    struct jr_buf text;
    jr_buf_init(&text, JR_MOCKER_BODY_MAX);
    for (uint32_t i = 0; i < w->tokens.n; i++)
        jr_toy_decode(&text, w->tokens.v[i]);
    jr_buf_clear(&w->out);
    jr_buf_puts(&w->out, "{\"prompt\":\"");
    jr_buf_json_escape(&w->out, jr_buf_str(&text), text.n);
    jr_buf_puts(&w->out, "\"}");
    jr_buf_deinit(&text);
    jr_mock_respond_out(w, http, 200);
}

/* ---- cache control ------------------------------------------------------------------------- */

/* As Dynamo's workers are told, over HTTP: {"action":"pin_prefix","token_ids":[…],"ttl_seconds":n}. */
struct control_request {
    struct jr_str action, tokens, lora, salt;
    uint64_t ttl_s;
};

static int control_field(struct jr_json *j, struct jr_str key, struct control_request *c)
{
    if (jr_str_eq(key, "action"))
        return jr_json_str(j, &c->action);
    if (jr_str_eq(key, "token_ids"))
        return read_raw(j, &c->tokens);
    if (jr_str_eq(key, "ttl_seconds"))
        return jr_json_u64(j, &c->ttl_s);
    if (jr_str_eq(key, "lora_name"))
        return jr_json_str(j, &c->lora);
    if (jr_str_eq(key, "cache_salt"))
        return jr_json_str(j, &c->salt);
    return jr_json_skip(j);
}

static int control_parse(struct jr_str body, struct control_request *c, struct jr_errmsg *e)
{
    struct jr_json j;
    struct jr_str key;
    *c = (struct control_request){.ttl_s = 0};
    jr_json_init(&j, body.p, body.n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0)
        rv = control_field(&j, key, c);
    if (rv == 0)
        rv = jr_json_end(&j);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "the body is no valid request: see byte %zu", jr_json_at(&j));
    if (!jr_str_eq(c->action, "pin_prefix") || c->ttl_s == 0 || c->ttl_s > CONTROL_TTL_MAX_S)
        return jr_errmsg_set(e, JR_EINVAL, "action must be pin_prefix, with ttl_seconds up to %d",
                             CONTROL_TTL_MAX_S);
    return 0;
}

static void post_cache_control(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct control_request c;
    struct jr_errmsg e = {{0}};
    struct jr_json j;
    int rv = control_parse(jr_http_request_body(http), &c, &e);
    w->tokens.n = 0;
    if (rv == 0) {
        jr_json_init(&j, c.tokens.p, c.tokens.n);
        rv = read_ids(w, &j);
    }
    if (rv == 0 && w->tokens.n == 0)
        rv = jr_errmsg_set(&e, JR_EINVAL, "token_ids is empty");
    if (rv < 0) {
        respond_invalid(w, http, rv, "token_ids", &e);
        return;
    }
    uint32_t rank = rank_of(w, http);
    if (rank == UINT32_MAX)
        return;
    jr_mock_worker_pump(w);
    const struct jr_engine_request req = {.tokens = w->tokens.v,
                                          .n_tokens = w->tokens.n,
                                          .salt = c.salt.p,
                                          .n_salt = (uint32_t)c.salt.n,
                                          .lora = c.lora.p,
                                          .n_lora = (uint32_t)c.lora.n};
    int64_t now = (int64_t)jr_loop_now_ns();
    uint32_t kept =
        jr_engine_hold(w->ranks[rank].engine, now, now + (int64_t)c.ttl_s * 1000000000, &req);
    jr_buf_clear(&w->out);
    jr_buf_printf(&w->out, "{\"status\":\"ok\",\"kept_blocks\":%u}", kept);
    jr_mock_respond_out(w, http, 200);
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void get_models(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct jr_mock_head head = {.model = w->config.model, .created = jr_unix_ns() / 1000000000};
    jr_buf_clear(&w->out);
    jr_mock_reply_models(&w->out, &head, w->config.max_model_len);
    jr_mock_respond_out(w, http, 200);
}

static void empty_ok(struct jr_mock_worker *w, struct jr_http_request *http)
{
    (void)w;
    jr_http_respond(http, 200, NULL, NULL, NULL, 0);
}

static void get_version(struct jr_mock_worker *w, struct jr_http_request *http)
{
    static const char body[] = "{\"version\":\"" JR_MOCK_VERSION "\"}";
    (void)w;
    jr_http_respond(http, 200, JSON, NULL, body, sizeof body - 1);
}

static void get_load(struct jr_mock_worker *w, struct jr_http_request *http)
{
    jr_buf_clear(&w->out);
    jr_buf_printf(&w->out, "{\"server_load\":%u}", w->n_requests);
    jr_mock_respond_out(w, http, 200);
}

static void get_metrics(struct jr_mock_worker *w, struct jr_http_request *http)
{
    struct jr_engine_stats *stats = jr_xalloc(w->n_ranks * sizeof *stats);
    jr_mock_worker_pump(w);
    for (uint32_t i = 0; i < w->n_ranks; i++)
        jr_engine_stats(w->ranks[i].engine, &stats[i]);
    jr_buf_clear(&w->out);
    jr_mock_reply_metrics(&w->out, w->config.model, &w->config.engine, stats, w->n_ranks);
    jr_xfree(stats);
    jr_http_respond(http, 200, "text/plain; version=1.0.0; charset=utf-8", NULL, w->out.p,
                    w->out.n);
}

static void post_reset(struct jr_mock_worker *w, struct jr_http_request *http)
{
    bool done = jr_mock_worker_reset_cache(w);
    jr_buf_clear(&w->out);
    jr_buf_printf(&w->out, "{\"success\":%s}", done ? "true" : "false");
    jr_mock_respond_out(w, http, 200);
}

/* Where the KV events are, for bridges that look for themselves (vLLM 0.31 up). */
static void get_kv_sources(struct jr_mock_worker *w, struct jr_http_request *http)
{
    jr_buf_clear(&w->out);
    jr_buf_puts(&w->out, "{");
    for (uint32_t i = 0; i < w->n_ranks && w->ranks[i].pub != NULL; i++) {
        const char *replay = jr_zmq_pub_replay_endpoint(w->ranks[i].pub);
        jr_buf_printf(&w->out,
                      "%s\"%u\":{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\","
                      "\"endpoint\":",
                      i > 0 ? "," : "", i);
        jr_buf_json_str(&w->out, jr_zmq_pub_endpoint(w->ranks[i].pub));
        jr_buf_puts(&w->out, ",\"replay_endpoint\":");
        jr_buf_json_str(&w->out, replay[0] == '\0' ? NULL : replay);
        jr_buf_puts(&w->out, ",\"buffer_steps\":10000,\"topic\":\"\"}");
    }
    jr_buf_puts(&w->out, "}");
    jr_mock_respond_out(w, http, 200);
}

static const struct route {
    const char *path, *method;
    void (*fn)(struct jr_mock_worker *w, struct jr_http_request *http);
} routes[] = {
    {"/v1/completions", "POST", post_completions},
    {"/v1/chat/completions", "POST", post_chat},
    {"/v1/models", "GET", get_models},
    {"/tokenize", "POST", post_tokenize},
    {"/detokenize", "POST", post_detokenize},
    {"/health", "GET", empty_ok},
    {"/ping", "GET", empty_ok},
    {"/ping", "POST", empty_ok},
    {"/version", "GET", get_version},
    {"/load", "GET", get_load},
    {"/metrics", "GET", get_metrics},
    {"/reset_prefix_cache", "POST", post_reset},
    {"/cache_control", "POST", post_cache_control},
    {"/kv_event_sources", "GET", get_kv_sources},
};

static void on_hung_gone(void *ctx)
{
    jr_http_respond_end(ctx, true);
}

/* What a fault or a start that takes its time does with it. */
static bool is_withheld(struct jr_mock_worker *w, struct jr_http_request *http)
{
    static const char loading[] = "the engine is starting";
    static const char refused[] = "refused on purpose";
    if (w->faults.hang) {
        jr_http_request_watch(http, on_hung_gone, NULL, http);
        return true;
    }
    if (w->faults.refuse)
        jr_http_respond(http, 503, "text/plain", NULL, refused, sizeof refused - 1);
    else if (jr_loop_now_ns() < w->ready_at_ns)
        jr_http_respond(http, 503, "text/plain", NULL, loading, sizeof loading - 1);
    else
        return false;
    return true;
}

void jr_mock_api_request(void *ctx, struct jr_http_request *http)
{
    if (jr_mock_admin_request(ctx, http) || is_withheld(ctx, http))
        return;
    static const char no_path[] = "{\"detail\":\"Not Found\"}";
    static const char no_method[] = "{\"detail\":\"Method Not Allowed\"}";
    struct jr_str path = jr_http_request_path(http), method = jr_http_request_method(http);
    const struct route *other = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!jr_str_eq(path, routes[i].path))
            continue;
        if (jr_str_eq(method, routes[i].method)) {
            routes[i].fn(ctx, http);
            return;
        }
        other = &routes[i];
    }
    if (other == NULL)
        jr_http_respond(http, 404, JSON, NULL, no_path, sizeof no_path - 1);
    else
        jr_http_respond(http, 405, JSON,
                        other->method[0] == 'P' ? "Allow: POST\r\n" : "Allow: GET\r\n", no_method,
                        sizeof no_method - 1);
}
