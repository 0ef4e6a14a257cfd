/* SPDX-License-Identifier: Apache-2.0 */
/* One request: understood, given to a worker, its answer relayed byte for byte.
 *
 *   TOKENIZE ──ids──► ROUTE ──worker──► UPSTREAM ──head──► RELAY ──end──► (freed)
 *      │ none            │ refused         │ failed           │ failed
 *      └──► ROUTE        └──► error        ├──► ROUTE again   └──► SSE error, connection cut
 *                                          └──► error         (worker left out, up to the limit)
 *
 * The client going away ends it from any state: the upstream is cancelled at once, the booking
 * freed. One that only asks where it would go is answered in ROUTE. */
#include "app/frontend/frontend_internal.h"
#include "app/frontend/query.h"

#include "base/cursor.h"
#include "base/log.h"
#include "base/sm.h"
#include "core/hash.h"
#include "wire/openai_reply.h"
#include "wire/sse.h"
#include "wire/tokenize.h"

#include <stdlib.h>
#include <string.h>

#define EXCLUDE_MAX    16
#define SSE_EVENT_MAX  ((size_t)1 << 20)
#define REPLY_KEPT_MAX ((size_t)4 << 20) /* of an answer that is not streamed, to read its usage */
#define OUTPUT_EVERY   16                /* tokens between two reports of progress */
#define TIME_LEFT_MIN  50                /* ms: a worker is not asked for less */
#define CHUNK_BYTES    256               /* of a text that nobody tokenizes, in approximate mode */
#define TOKENIZE_MAX   ((size_t)64 << 20)
#define QUERY_MAX      TOKENIZE_MAX /* of an answer that names the prompt's ids */

enum state { ST_START, ST_TOKENIZE, ST_ROUTE, ST_UPSTREAM, ST_RELAY, ST_COUNT };

static const struct jr_sm_row rows[ST_COUNT] = {
    [ST_START] = {"start", JR_SM_TO(ST_TOKENIZE) | JR_SM_TO(ST_ROUTE), JR_SM_INITIAL},
    [ST_TOKENIZE] = {"tokenize", JR_SM_TO(ST_ROUTE), 0},
    [ST_ROUTE] = {"route", JR_SM_TO(ST_UPSTREAM), 0},
    [ST_UPSTREAM] = {"upstream", JR_SM_TO(ST_RELAY) | JR_SM_TO(ST_ROUTE), 0},
    [ST_RELAY] = {"relay", 0, JR_SM_FINAL},
};
static const struct jr_sm_table table = {"proxy", rows, ST_COUNT, NULL};

struct proxied {
    struct jr_list node;
    struct jr_frontend *f;
    struct jr_http_request *req;
    struct jr_sm sm;
    struct jr_driver *driver;
    const char *component; /* of the driver */
    enum jr_openai_kind kind;
    bool stream, query_only;
    char model[JR_MODEL_MAX];
    uint64_t started_ns, first_token_ns;

    char *lora, *cache_salt; /* owned; NULL when the prompt came as ids */
    char *text;              /* owned; in approximate mode, should no tokenizer answer */
    size_t n_text;
    uint32_t n_tokens;
    uint64_t *prefix; /* owned */
    uint32_t n_prefix;
    bool has_pin;
    uint64_t pin;
    double priority_jump_s;
    uint32_t strict_priority, expected_output_tokens;

    uint64_t id; /* of the booking; 0: none */
    uint64_t worker_id;
    uint32_t dp_rank, overlap_blocks;
    uint64_t exclude[EXCLUDE_MAX];
    uint32_t n_exclude, attempts;
    struct jr_http_exchange *exchange; /* with the tokenizer, then with the worker */

    int status;
    bool is_sse;
    struct jr_sse sse;
    bool sse_broken;
    uint8_t last[2]; /* bytes relayed */
    struct jr_buf kept;
    struct jr_openai_progress progress;
    uint32_t output_told;
};

/* ---------------------------------------------------------------- end */

static void free_proxied(struct proxied *x)
{
    struct jr_frontend *f = x->f;
    jr_list_remove(&x->node);
    f->inflight--;
    jr_xfree(x->prefix);
    jr_sse_deinit(&x->sse);
    jr_buf_deinit(&x->kept);
    jr_xfree(x->lora);
    jr_xfree(x->cache_salt);
    jr_xfree(x->text);
    jr_xfree(x);
}

static void unbook(struct proxied *x)
{
    if (x->id == 0)
        return;
    uint64_t id = x->id;
    x->id = 0;
    jr_driver_finish(x->driver, id);
}

static const char *endpoint_of(const struct proxied *x)
{
    return x->kind == JR_OPENAI_CHAT ? "chat_completions" : "completions";
}

static void count_end(struct proxied *x, const char *status, const char *error_type)
{
    struct jr_metrics *m = x->f->metrics;
    double secs = (double)(jr_loop_now_ns() - x->started_ns) / 1e9;
    const char *model = x->driver ? x->model : ""; /* a name that is not served is no label */
    jr_metric_add(
        m, JR_METRIC_FRONTEND_REQUESTS_TOTAL,
        JR_LABELS(model, endpoint_of(x), x->stream ? "stream" : "unary", status, error_type), 1);
    jr_metric_observe(m, JR_METRIC_FRONTEND_REQUEST_DURATION_SECONDS, JR_LABELS(model), secs);
}

/* Before anything was relayed: an error of ours. */
static void end_error(struct proxied *x, int status, const char *param, const char *code,
                      const char *message)
{
    unbook(x);
    count_end(x, "error", status == 404 ? "not_found" : status < 500 ? "validation" : "internal");
    jr_service_error(x->f, x->req, status, param, code, message);
    free_proxied(x);
}

static void on_gone(void *ctx)
{
    struct proxied *x = ctx;
    if (x->exchange)
        jr_http_exchange_cancel(x->exchange);
    x->exchange = NULL;
    unbook(x);
    jr_metric_add(x->f->metrics, JR_METRIC_FRONTEND_DISCONNECTED_CLIENTS, JR_NO_LABELS, 1);
    count_end(x, "error", "cancelled");
    jr_http_respond_end(x->req, true);
    free_proxied(x);
}

static void count_usage(struct proxied *x)
{
    struct jr_metrics *m = x->f->metrics;
    const struct jr_openai_progress *p = &x->progress;
    const char *const *pool = JR_LABELS(x->f->namespace_, x->component);
    uint64_t out = p->has_usage ? p->completion_tokens : p->n_content;
    jr_metric_add(m, JR_METRIC_FRONTEND_OUTPUT_TOKENS_TOTAL, JR_LABELS(x->model), out);
    jr_metric_observe(m, JR_METRIC_FRONTEND_OUTPUT_TOKENS, JR_LABELS(x->model), (double)out);
    if (!p->has_usage)
        return;
    jr_metric_observe(m, JR_METRIC_FRONTEND_CACHED_TOKENS, JR_LABELS(x->model),
                      (double)p->cached_tokens);
    jr_metric_add(m, JR_METRIC_REPORTED_CACHED_TOKENS_TOTAL, pool, p->cached_tokens);
    uint32_t block_size = 0;
    struct jr_pool_view v;
    jr_pool_view(jr_driver_pool(x->driver), &v);
    block_size = v.block_size;
    jr_metric_add(m, JR_METRIC_PREDICTED_CACHED_TOKENS_TOTAL, pool,
                  (uint64_t)x->overlap_blocks * block_size);
}

static void end_relayed(struct proxied *x)
{
    if (!x->is_sse && x->kept.n && x->status == 200)
        (void)jr_openai_progress_body(&x->progress, x->kept.p, x->kept.n);
    unbook(x);
    if (x->status == 200)
        count_usage(x);
    count_end(x, x->status < 400 ? "success" : "error", x->status < 400 ? "" : "validation");
    jr_http_respond_end(x->req, false);
    free_proxied(x);
}

/* After bytes were relayed nothing can be sent again: the client is told in the stream. */
static void end_cut(struct proxied *x, int err)
{
    unbook(x);
    jr_metric_add(x->f->metrics, JR_METRIC_PROXY_FAILURES_TOTAL, JR_LABELS("mid_stream"), 1);
    count_end(x, "error", "internal");
    jr_log(JR_LOG_WARN, "proxy.cut", "worker=%llu error=%s", (unsigned long long)x->worker_id,
           jr_err_name(err));
    if (x->is_sse) {
        struct jr_buf b;
        jr_buf_init(&b, 64 << 10);
        struct jr_openai_failure failure = {
            .status = 502, .message = "the worker ended its answer before it was whole"};
        /* An event that was cut is ended first: ours must not become its last line. */
        bool between = x->last[1] == '\n' && x->last[0] == '\n';
        jr_buf_puts(&b, between ? "event: error\ndata: " : "\n\nevent: error\ndata: ");
        jr_openai_error_write(&b, &failure);
        jr_buf_puts(&b, "\n\n");
        (void)!jr_http_respond_write(x->req, b.p, b.n);
        jr_buf_deinit(&b);
    }
    jr_http_respond_end(x->req, true);
    free_proxied(x);
}

/* ---------------------------------------------------------------- relay */

static void on_first_token(struct proxied *x)
{
    if (x->first_token_ns)
        return;
    x->first_token_ns = jr_loop_now_ns();
    jr_driver_first_token(x->driver, x->id);
    jr_metric_observe(x->f->metrics, JR_METRIC_FRONTEND_TTFT_SECONDS, JR_LABELS(x->model),
                      (double)(x->first_token_ns - x->started_ns) / 1e9);
}

static int on_sse(void *ctx, const struct jr_sse_event *ev)
{
    struct proxied *x = ctx;
    if (jr_openai_progress_event(&x->progress, ev))
        on_first_token(x);
    uint32_t out = (uint32_t)x->progress.n_content;
    if (out >= x->output_told + OUTPUT_EVERY) {
        x->output_told = out;
        jr_driver_output(x->driver, x->id, out);
    }
    return 0;
}

/* What passes by is read, never changed; an answer that cannot be read is relayed all the same. */
static void observe(struct proxied *x, const void *p, size_t n)
{
    if (x->is_sse) {
        if (!x->sse_broken)
            x->sse_broken = jr_sse_feed(&x->sse, p, n, on_sse, x) < 0;
        return;
    }
    on_first_token(x);
    if (x->kept.n + n <= x->kept.max)
        jr_buf_put(&x->kept, p, n);
}

static bool is_event_stream(const struct jr_http_reply *reply)
{
    for (uint32_t i = 0; i < reply->n_headers; i++) {
        const struct jr_http_header *h = &reply->headers[i];
        if (jr_str_ieq(h->name, "content-type"))
            return h->value.n >= 17 && strncmp(h->value.p, "text/event-stream", 17) == 0;
    }
    return false;
}

static struct jr_str header_of(const struct jr_http_reply *reply, const char *name)
{
    for (uint32_t i = 0; i < reply->n_headers; i++)
        if (jr_str_ieq(reply->headers[i].name, name))
            return reply->headers[i].value;
    return jr_str_of(NULL, 0);
}

static void on_head(void *ctx, const struct jr_http_reply *reply)
{
    struct proxied *x = ctx;
    jr_sm_move(&x->sm, ST_RELAY, "head");
    x->status = reply->status;
    x->is_sse = is_event_stream(reply);
    char type[128] = "application/json";
    struct jr_str t = header_of(reply, "content-type");
    if (t.n > 0 && t.n < sizeof type) {
        memcpy(type, t.p, t.n);
        type[t.n] = '\0';
    }
    char extra[256];
    int n = snprintf(extra, sizeof extra, "X-Jetrouter-Worker: %llu\r\n",
                     (unsigned long long)x->worker_id);
    struct jr_str id = header_of(reply, "x-request-id");
    if (id.n > 0 && id.n < 128)
        snprintf(extra + n, sizeof extra - (size_t)n, "X-Request-Id: %.*s\r\n", (int)id.n, id.p);
    jr_http_respond_start(x->req, reply->status, type, extra, reply->content_length);
}

static void on_data(void *ctx, const void *p, size_t n)
{
    struct proxied *x = ctx;
    const uint8_t *bytes = p;
    if (n > 0) {
        x->last[0] = n > 1 ? bytes[n - 2] : x->last[1];
        x->last[1] = bytes[n - 1];
    }
    observe(x, p, n);
    if (jr_http_respond_write(x->req, p, n) == JR_EAGAIN)
        jr_http_exchange_pause(x->exchange);
}

static void on_writable(void *ctx)
{
    struct proxied *x = ctx;
    if (x->exchange)
        jr_http_exchange_resume(x->exchange);
}

/* ---------------------------------------------------------------- upstream */

static void route(struct proxied *x);

/* --request-timeout-secs is for the whole request, however many workers had it. */
static uint64_t time_left_ms(const struct proxied *x)
{
    uint64_t limit = jr_config_ms(x->f->cfg, JR_CFG_REQUEST_TIMEOUT_SECS);
    uint64_t spent = (jr_loop_now_ns() - x->started_ns) / 1000000;
    if (limit == 0)
        return UINT32_MAX;
    return spent + TIME_LEFT_MIN < limit ? limit - spent : 0;
}

/* Dead before the first byte: another worker gets it, with a new booking. */
static void retry(struct proxied *x, int err)
{
    unbook(x);
    if (time_left_ms(x) == 0) {
        end_error(x, 504, NULL, "timeout",
                  "no worker answered within --request-timeout-secs: retry later");
        return;
    }
    jr_metric_add(x->f->metrics, JR_METRIC_PROXY_RETRIES_TOTAL, JR_LABELS(jr_err_name(err)), 1);
    if (x->n_exclude < EXCLUDE_MAX)
        x->exclude[x->n_exclude++] = x->worker_id;
    if (x->has_pin || x->attempts > x->f->migration_limit) {
        char words[160];
        snprintf(words, sizeof words,
                 "worker %llu did not answer (%s) and the request may not go to another one",
                 (unsigned long long)x->worker_id, jr_err_text(err));
        jr_metric_add(x->f->metrics, JR_METRIC_PROXY_FAILURES_TOTAL, JR_LABELS("no_answer"), 1);
        end_error(x, 502, NULL, "worker_failed", words);
        return;
    }
    jr_metric_add(x->f->metrics, JR_METRIC_FRONTEND_MODEL_MIGRATION_TOTAL,
                  JR_LABELS(x->model, "new_request"), 1);
    route(x);
}

static void on_end(void *ctx, int err)
{
    struct proxied *x = ctx;
    x->exchange = NULL;
    if (x->sm.state == ST_UPSTREAM)
        retry(x, err == 0 ? JR_EPROTO : err);
    else if (err == 0)
        end_relayed(x);
    else
        end_cut(x, err);
}

static void add_header(struct jr_buf *b, const struct jr_http_request *req, const char *name)
{
    struct jr_str v = jr_http_request_header(req, name);
    if (v.n)
        jr_buf_printf(b, "%s: %.*s\r\n", name, (int)v.n, v.p);
}

/* The body goes on as it came; of the headers only what a worker has use for. */
static int send_upstream(struct proxied *x, const char *worker_url)
{
    struct jr_buf headers;
    jr_buf_init(&headers, 16 << 10);
    static const char *const passed[] = {"Authorization", "X-Request-Id", "Traceparent",
                                         "Tracestate", "Accept"};
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        add_header(&headers, x->req, passed[i]);
    jr_buf_printf(&headers, "X-Data-Parallel-Rank: %u\r\n", x->dp_rank);
    char url[JR_URL_MAX + 64];
    struct jr_str path = jr_http_request_path(x->req), body = jr_http_request_body(x->req);
    uint64_t left_ms = time_left_ms(x);
    uint32_t left = left_ms >= UINT32_MAX ? 0 : left_ms > 0 ? (uint32_t)left_ms : 1;
    snprintf(url, sizeof url, "%s%.*s", worker_url, (int)path.n, path.p);
    struct jr_http_fetch fetch = {
        .url = url,
        .method = "POST",
        .content_type = "application/json",
        .extra_headers = jr_buf_str(&headers),
        .body = body.p,
        .n_body = body.n,
        .body_stays = true,
        .total_timeout_ms = left,
        .on_head = on_head,
        .on_data = on_data,
        .on_end = on_end,
        .ctx = x,
    };
    int err = jr_http_client_fetch(x->f->client, &fetch, &x->exchange);
    jr_buf_deinit(&headers);
    return err;
}

/* Dynamo's name for it; anything but an error status is as if it were not set. */
static int overload_status(void)
{
    const char *s = getenv("DYN_HTTP_OVERLOAD_STATUS_CODE");
    uint64_t status;
    if (s && jr_parse_u64(s, strlen(s), &status) == 0 && status >= 400 && status <= 599)
        return (int)status;
    return 503;
}

static int reject_status(const struct proxied *x, int err)
{
    if (err == JR_EBUSY)
        return overload_status();
    if (err == JR_ETIMEOUT)
        return 504;
    return err == JR_EINVAL || (err == JR_ENOTFOUND && x->has_pin) ? 400 : 503;
}

/* Asked at once when its tokens are there: those of the request are still in f->tokens. */
static void end_query(struct proxied *x, const struct jr_decision *d)
{
    struct jr_frontend *f = x->f;
    struct jr_buf b;
    jr_buf_init(&b, QUERY_MAX);
    jr_query_write(&b, &(struct jr_query_answer){.kind = x->kind,
                                                 .stream = x->stream,
                                                 .model = x->model,
                                                 .number = x->id,
                                                 .created = jr_unix_ns() / 1000000000,
                                                 .decision = d,
                                                 .tokens = &f->tokens});
    x->id = 0; /* nothing was booked */
    if (b.err) {
        end_error(x, 503, NULL, "overloaded", "no room for the answer: retry later");
    } else {
        count_end(x, "success", "");
        jr_http_respond(x->req, 200, x->stream ? "text/event-stream" : "application/json", NULL,
                        b.p, b.n);
        free_proxied(x);
    }
    jr_buf_deinit(&b);
}

static void on_decided(void *ctx, const struct jr_decision *d, int err, const char *why)
{
    struct proxied *x = ctx;
    if (!d) {
        x->id = 0;
        const char *code = err == JR_EBUSY      ? "overloaded"
                           : err == JR_ETIMEOUT ? "timeout"
                                                : "no_worker";
        end_error(x, reject_status(x, err), NULL, code, why);
        return;
    }
    if (x->query_only) {
        end_query(x, d);
        return;
    }
    x->worker_id = d->worker_id;
    x->dp_rank = d->dp_rank;
    x->overlap_blocks = d->overlap_blocks;
    x->attempts++;
    if (d->waited)
        jr_metric_observe(x->f->metrics, JR_METRIC_QUEUE_WAIT_SECONDS,
                          JR_LABELS(x->f->namespace_, x->component), (double)d->waited_ms / 1000);
    if (x->n_prefix)
        jr_metric_observe(x->f->metrics, JR_METRIC_FRONTEND_KV_HIT_RATE, JR_LABELS(x->model),
                          (double)d->overlap_blocks / x->n_prefix);
    jr_sm_move(&x->sm, ST_UPSTREAM, "decided");
    err = send_upstream(x, d->url);
    if (err < 0)
        retry(x, err);
}

static void route(struct proxied *x)
{
    jr_sm_move(&x->sm, ST_ROUTE, "");
    x->id = jr_driver_request_id(x->driver);
    uint64_t left_ms = time_left_ms(x);
    struct jr_route r = {
        .id = x->id,
        .tokens = x->n_tokens,
        .prefix = x->prefix,
        .n_prefix = x->n_prefix,
        .has_pin = x->has_pin,
        .pin_worker = x->pin,
        .exclude = x->exclude,
        .n_exclude = x->n_exclude,
        .query_only = x->query_only,
        .expected_output_tokens = x->expected_output_tokens,
        .priority_jump_s = x->priority_jump_s,
        .strict_priority = x->strict_priority,
        .wait_max_ms = left_ms < UINT32_MAX ? (uint32_t)(left_ms ? left_ms : 1) : 0,
    };
    if (jr_driver_route(x->driver, &r, on_decided, x) < 0) {
        x->id = 0;
        end_error(x, 503, NULL, "overloaded", "too many requests are under way: retry later");
    }
}

/* ---------------------------------------------------------------- tokens */

static void take_tokens(struct proxied *x, const uint32_t *tokens, uint32_t n,
                        const struct jr_hash_salt *salt)
{
    struct jr_pool_view v;
    jr_pool_view(jr_driver_pool(x->driver), &v);
    x->n_tokens = n;
    if (!v.block_size || n < v.block_size)
        return;
    x->prefix = jr_xalloc((n / v.block_size) * sizeof *x->prefix);
    x->n_prefix = jr_hash_prompt(salt, tokens, n, v.block_size, x->prefix);
    jr_metric_observe(x->f->metrics, JR_METRIC_FRONTEND_INPUT_TOKENS, JR_LABELS(x->model), n);
}

static struct jr_hash_salt salt_of(const struct proxied *x)
{
    struct jr_hash_salt salt = {.cache_salt_part = 0};
    if (x->lora)
        salt.lora = jr_str_of(x->lora, strlen(x->lora));
    if (x->cache_salt)
        salt.cache_salt = jr_str_of(x->cache_salt, strlen(x->cache_salt));
    return salt;
}

/* Nobody gave ids: of our own decisions a text's bytes will do to know it again. A chunk stands for
 * a block; that it has as many tokens as a block is a guess the load can live with. */
static void take_chunks(struct proxied *x)
{
    struct jr_pool_view v;
    size_t n = x->n_text / CHUNK_BYTES;
    jr_pool_view(jr_driver_pool(x->driver), &v);
    if (!x->text || n == 0 || n > JR_PROMPT_BLOCKS_MAX)
        return;
    struct jr_hash_salt salt = salt_of(x);
    x->prefix = jr_xalloc(n * sizeof *x->prefix);
    x->n_prefix = (uint32_t)n;
    for (uint32_t i = 0; i < x->n_prefix; i++)
        x->prefix[i] = jr_hash_bytes(&salt, x->text + (size_t)i * CHUNK_BYTES, CHUNK_BYTES);
    jr_hash_prefix(x->prefix, x->n_prefix, x->prefix);
    x->n_tokens = x->n_prefix * (v.block_size ? v.block_size : 1);
}

/* What is needed after the answer of the tokenizer; what was read of the request is gone then. */
static void keep(struct proxied *x, const struct jr_openai_request *r)
{
    x->lora = r->lora_name.n ? jr_xstrndup(r->lora_name.p, r->lora_name.n) : NULL;
    x->cache_salt = r->cache_salt.n ? jr_xstrndup(r->cache_salt.p, r->cache_salt.n) : NULL;
    if (jr_config_bool(x->f->cfg, JR_CFG_ROUTER_KV_EVENTS))
        return;
    struct jr_str text = r->text;
    if (x->kind == JR_OPENAI_CHAT) {
        struct jr_str body = jr_http_request_body(x->req);
        text = jr_str_of(body.p + r->messages.off, r->messages.n);
    }
    x->text = text.n ? jr_xmemdup(text.p, text.n) : NULL;
    x->n_text = text.n;
}

static void on_tokenized(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct proxied *x = ctx;
    struct jr_frontend *f = x->f;
    x->exchange = NULL;
    struct jr_tokenize_reply answer;
    if (err == 0 && reply->status != 200)
        err = JR_EPROTO;
    if (err == 0)
        err = jr_tokenize_reply_parse(body.p, body.n, &f->tokens, &answer, NULL);
    jr_metric_add(f->metrics, JR_METRIC_TOKENIZE_TOTAL, JR_LABELS(err == 0 ? "asked" : "failed"),
                  1);
    struct jr_hash_salt salt = salt_of(x);
    if (err == 0) {
        take_tokens(x, f->tokens.v, f->tokens.n, &salt);
    } else {
        f->tokens.n = 0;
        take_chunks(x);
    }
    route(x); /* without ids: by load, and by what the text's bytes tell */
}

/* Text and chat are tokenized by a worker; the result serves for routing only. */
static void tokenize(struct proxied *x, const struct jr_openai_request *r)
{
    const char *worker = jr_pool_any_url(jr_driver_pool(x->driver), x->model);
    keep(x, r);
    if (!worker) {
        take_chunks(x);
        route(x);
        return;
    }
    struct jr_str body = jr_http_request_body(x->req);
    struct jr_buf b;
    jr_buf_init(&b, body.n + (64 << 10));
    if (x->kind == JR_OPENAI_CHAT)
        jr_tokenize_write_chat(&b, r, body.p);
    else
        jr_tokenize_write_text(&b, r->model, r->text);
    char url[JR_URL_MAX + 16];
    snprintf(url, sizeof url, "%s/tokenize", worker);
    struct jr_http_fetch fetch = {.url = url,
                                  .method = "POST",
                                  .content_type = "application/json",
                                  .body = b.p,
                                  .n_body = b.n,
                                  .total_timeout_ms = 5000};
    jr_sm_move(&x->sm, ST_TOKENIZE, "text");
    int err = b.err ? b.err
                    : jr_http_client_whole_begin(x->f->client, &fetch, TOKENIZE_MAX, on_tokenized,
                                                 x, &x->exchange);
    jr_buf_deinit(&b);
    if (err < 0) {
        take_chunks(x);
        route(x);
    }
}

/* ---------------------------------------------------------------- start */

/* The pool that serves the model: found false with known true is an unknown model. */
static struct jr_driver *pool_of(struct jr_frontend *f, const char *model, bool *ret_known,
                                 const char **ret_component)
{
    *ret_known = false;
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        bool known;
        *ret_component = f->components[i];
        if (jr_pool_serves(jr_driver_pool(f->drivers[i]), model, &known))
            return f->drivers[i];
        *ret_known = *ret_known || known;
    }
    return NULL;
}

static void read_pin(struct proxied *x, const struct jr_openai_request *r)
{
    struct jr_str header = jr_http_request_header(x->req, "x-worker-instance-id");
    if (!header.n)
        header = jr_http_request_header(x->req, "x-dynamo-worker-instance-id");
    x->has_pin = header.n && jr_parse_u64(header.p, header.n, &x->pin) == 0;
    if (!x->has_pin && r->nvext.has_backend_instance_id) {
        x->has_pin = true;
        x->pin = r->nvext.backend_instance_id;
    }
}

/* Headers win over the body. A priority in either is seconds ahead in the queue; what the engine
 * makes of it is its own affair. */
static void read_hints(struct proxied *x, const struct jr_openai_request *r)
{
    const struct jr_openai_nvext *n = &r->nvext;
    x->expected_output_tokens = n->has_osl ? n->osl : 0;
    x->strict_priority = n->has_strict_priority ? n->strict_priority : 0;
    if (n->has_priority)
        x->priority_jump_s = n->priority > 0 ? n->priority : 0;
    else if (n->has_latency_sensitivity && n->latency_sensitivity > 0)
        x->priority_jump_s = n->latency_sensitivity;
    uint64_t v;
    struct jr_str header = jr_http_request_header(x->req, "x-dynamo-request-priority");
    if (header.n && header.p[0] == '-')
        x->priority_jump_s = 0;
    else if (header.n && jr_parse_u64(header.p, header.n, &v) == 0 && v <= INT32_MAX)
        x->priority_jump_s = (double)v;
    header = jr_http_request_header(x->req, "x-dynamo-request-strict-priority");
    if (header.n && jr_parse_u64(header.p, header.n, &v) == 0 && v <= UINT32_MAX)
        x->strict_priority = (uint32_t)v;
}

static struct proxied *new_proxied(struct jr_frontend *f, struct jr_http_request *req,
                                   const struct jr_openai_request *r)
{
    struct proxied *x = jr_xalloc(sizeof *x);
    x->f = f;
    x->req = req;
    x->kind = r->kind;
    x->stream = r->stream;
    x->query_only = jr_query_is_asked(&r->nvext);
    x->started_ns = jr_loop_now_ns();
    size_t n = r->model.n < sizeof x->model - 1 ? r->model.n : sizeof x->model - 1;
    memcpy(x->model, r->model.p, n);
    jr_sm_init(&x->sm, &table, x, NULL, ST_START);
    jr_sse_init(&x->sse, SSE_EVENT_MAX);
    jr_buf_init(&x->kept, REPLY_KEPT_MAX);
    jr_list_push_back(&f->proxied, &x->node);
    f->inflight++;
    read_pin(x, r);
    read_hints(x, r);
    jr_http_request_watch(req, on_gone, on_writable, x);
    return x;
}

static void begin(struct proxied *x, const struct jr_openai_request *r)
{
    struct jr_hash_salt salt = {.lora = r->lora_name, .cache_salt = r->cache_salt};
    bool has_ids = r->prompt == JR_PROMPT_TOKENS || r->prompt == JR_PROMPT_TOKEN_LISTS;
    x->n_tokens = has_ids ? x->f->tokens.n : 0;
    if (has_ids && x->f->mode == JR_MODE_KV) /* the other modes have no use for hashes */
        take_tokens(x, x->f->tokens.v, x->f->tokens.n, &salt);
    if (has_ids || x->f->mode != JR_MODE_KV)
        route(x);
    else
        tokenize(x, r);
}

void jr_proxy_request(struct jr_frontend *f, struct jr_http_request *req, enum jr_openai_kind kind)
{
    struct jr_str body = jr_http_request_body(req);
    struct jr_openai_request r;
    struct jr_openai_error bad = {0};
    int err = jr_openai_parse(f->parser, kind, body.p, body.n, &f->tokens, &r, &bad);
    if (err < 0) {
        jr_metric_add(f->metrics, JR_METRIC_FRONTEND_REQUESTS_TOTAL,
                      JR_LABELS("", kind == JR_OPENAI_CHAT ? "chat_completions" : "completions",
                                "unary", "error", "validation"),
                      1);
        jr_service_error(f, req, err == JR_ENOMEM ? 503 : 400, bad.param, NULL, bad.msg.text);
        return;
    }
    struct proxied *x = new_proxied(f, req, &r);
    bool known;
    x->driver = pool_of(f, x->model, &known, &x->component);
    if (!x->driver) {
        char words[JR_MODEL_MAX + 96];
        snprintf(words, sizeof words, "the model \"%.*s\" is not served here: see /v1/models", 200,
                 x->model);
        if (known)
            end_error(x, 404, "model", "model_not_found", words);
        else
            end_error(x, 503, NULL, "no_worker",
                      "no worker is available: start one, or wait for it to register");
        return;
    }
    begin(x, &r);
}

/* The drain took too long, or a second signal came. */
void jr_proxy_abort_all(struct jr_frontend *f)
{
    /* The end of one may let another go that waits for a worker, and that may end it: no place in the
     * list is sure but the first. */
    while (!jr_list_empty(&f->proxied)) {
        struct proxied *x = JR_CONTAINER_OF(f->proxied.next, struct proxied, node);
        if (x->exchange)
            jr_http_exchange_cancel(x->exchange);
        x->exchange = NULL;
        unbook(x);
        count_end(x, "error", "cancelled");
        jr_http_request_watch(x->req, NULL, NULL, NULL);
        jr_http_respond_end(x->req, true);
        free_proxied(x);
    }
}
