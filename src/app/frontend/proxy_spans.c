/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/proxy_spans.h"

#include "app/frontend/span_export.h"
#include "base/assert.h"

#include <string.h>

enum step { STEP_NONE, STEP_TOKENIZE, STEP_DECIDE, STEP_SEND };

/* Of the step under way. What x says of it may be another's by its end. */
struct now {
    enum step step;
    uint64_t started_ns, first_token_ns;
    uint8_t span_id[8];
    int err, status;
    char words[128]; /* why a decision was refused */
    bool decided;
    uint64_t waited_ms;
    uint32_t candidates;
    uint64_t worker_id, predicted_tokens;
    uint32_t dp_rank, overlap_blocks;
    char url[JR_URL_MAX];
};

struct jr_proxy_spans {
    struct jr_trace_context context, parent; /* of the request's span; of the client's */
    bool has_parent;
    bool sampled;
    int64_t unix_ns; /* at 0 of the monotonic clock */
    struct now now;
    char text[JR_TRACE_CONTEXT_LEN + 1]; /* of the last traceparent */
};

/* ---------------------------------------------------------------- attributes */

struct attrs {
    struct jr_otlp_attr v[JR_SPAN_ATTRS_MAX];
    uint32_t n;
    char worker[JR_DIGITS_MAX], status[JR_DIGITS_MAX]; /* as text */
};

static struct jr_otlp_attr *more(struct attrs *a, const char *key, enum jr_otlp_type type)
{
    JR_ASSERT(a->n < JR_SPAN_ATTRS_MAX);
    struct jr_otlp_attr *v = &a->v[a->n++];
    v->key = key;
    v->type = type;
    return v;
}

static void put_str(struct attrs *a, const char *key, struct jr_str text)
{
    if (text.n)
        more(a, key, JR_OTLP_TEXT)->text = text;
}

static void put_text(struct attrs *a, const char *key, const char *text)
{
    put_str(a, key, jr_str_of(text, strlen(text)));
}

static void put_number(struct attrs *a, const char *key, uint64_t n)
{
    more(a, key, JR_OTLP_NUMBER)->number = n < INT64_MAX ? (int64_t)n : INT64_MAX;
}

static void put_ms(struct attrs *a, const char *key, uint64_t ns)
{
    more(a, key, JR_OTLP_REAL)->real = (double)ns / 1e6;
}

static void put_flag(struct attrs *a, const char *key, bool flag)
{
    more(a, key, JR_OTLP_FLAG)->flag = flag;
}

/* Ids use all of their 64 bits: a signed number would not hold them. */
static void put_worker(struct attrs *a, const struct now *now)
{
    put_str(a, "jetrouter.worker_id", jr_str_of(a->worker, jr_digits(now->worker_id, a->worker)));
    put_number(a, "jetrouter.dp_rank", now->dp_rank);
    put_number(a, "jetrouter.overlap_blocks", now->overlap_blocks);
}

static void put_error(struct attrs *a, int status, const char *error)
{
    if (error[0])
        put_text(a, "error.type", error);
    else if (status >= 400)
        put_str(a, "error.type", jr_str_of(a->status, jr_digits((uint64_t)status, a->status)));
}

/* ---------------------------------------------------------------- steps */

static void new_span_id(struct jr_proxied *x, uint8_t ret[8])
{
    uint64_t id;
    do
        id = jr_rng_u64(&x->l->rng);
    while (id == 0); /* which is none */
    memcpy(ret, &id, 8);
}

static int64_t unix_of(const struct jr_proxy_spans *s, uint64_t ns)
{
    return s->unix_ns + (int64_t)ns;
}

/* A worker's answers are asked for by POST, but for other paths' (proxy_relay.c). */
static const char *method_of(const struct jr_proxied *x)
{
    return jr_str_eq(jr_http_request_method(x->req), "GET") ? "GET" : "POST";
}

static void put_step(const struct jr_proxied *x, const struct now *now, struct attrs *a)
{
    switch (now->step) {
    case STEP_NONE:
        break;
    case STEP_TOKENIZE:
        put_number(a, "jetrouter.prompt_tokens", x->n_tokens);
        put_flag(a, "jetrouter.by_text", x->by_text); /* nobody gave ids */
        break;
    case STEP_DECIDE:
        put_text(a, "jetrouter.component", x->place.component);
        put_number(a, "jetrouter.prompt_tokens", x->n_tokens);
        put_number(a, "jetrouter.prompt_blocks", x->n_prefix);
        put_number(a, "jetrouter.queue_ms", now->waited_ms);
        if (now->decided) {
            put_number(a, "jetrouter.candidates", now->candidates);
            put_worker(a, now);
        }
        break;
    case STEP_SEND:
        put_text(a, "http.request.method", method_of(x));
        put_text(a, "url.full", now->url);
        put_worker(a, now);
        put_number(a, "jetrouter.predicted_tokens", now->predicted_tokens);
        if (x->progress.has_cached)
            put_number(a, "jetrouter.cached_tokens", x->progress.cached_tokens);
        if (x->attempts > 1)
            put_number(a, "http.request.resend_count", x->attempts - 1);
        if (now->status)
            put_number(a, "http.response.status_code", (uint64_t)now->status);
        break;
    }
}

static struct jr_str words_of(const struct now *now)
{
    const char *text = now->words[0] ? now->words : now->err < 0 ? jr_err_text(now->err) : "";
    return jr_str_of(text, strlen(text));
}

/* The step under way has ended. */
static void end_step(struct jr_proxied *x)
{
    static const char *const names[] = {"", "tokenization", "decision", "upstream"};
    struct jr_proxy_spans *s = x->spans;
    struct now *now = &s->now;
    const enum step step = now->step;
    struct attrs a = {.n = 0};
    if (step == STEP_NONE || !s->sampled) {
        now->step = STEP_NONE;
        return;
    }
    put_step(x, now, &a);
    put_error(&a, now->status, now->err < 0 ? jr_err_name(now->err) : "");
    const struct jr_otlp_event event = {unix_of(s, now->first_token_ns), "first_token"};
    struct jr_otlp_span span = {
        .context = s->context,
        .has_parent = true,
        .name = jr_str_of(names[step], strlen(names[step])),
        .kind = step == STEP_SEND ? JR_OTLP_CLIENT : JR_OTLP_INTERNAL,
        .start_unix_ns = unix_of(s, now->started_ns),
        .end_unix_ns = unix_of(s, jr_loop_now_ns()),
        .attrs = a.v,
        .n_attrs = a.n,
        .event = now->first_token_ns ? &event : NULL,
        .failed = now->err < 0 || now->status >= 400,
        .words = words_of(now),
    };
    memcpy(span.context.span_id, now->span_id, 8);
    memcpy(span.parent_id, s->context.span_id, 8);
    jr_span_export_add(x->l->exporter, &span);
    now->step = STEP_NONE;
}

static void begin_step(struct jr_proxied *x, enum step step)
{
    struct jr_proxy_spans *s = x->spans;
    end_step(x);
    s->now = (struct now){.step = step};
    if (!s->sampled)
        return;
    s->now.started_ns = jr_loop_now_ns();
    new_span_id(x, s->now.span_id);
}

void jr_proxy_spans_tokenize(struct jr_proxied *x)
{
    begin_step(x, STEP_TOKENIZE);
}

void jr_proxy_spans_decide(struct jr_proxied *x)
{
    begin_step(x, STEP_DECIDE);
}

void jr_proxy_spans_decided(struct jr_proxied *x, const struct jr_decided *decided)
{
    struct now *now = &x->spans->now;
    const struct jr_decision *d = decided->d;
    now->decided = d != NULL;
    if (d) {
        now->waited_ms = d->waited ? d->waited_ms : 0;
        now->candidates = d->candidates;
        now->worker_id = d->worker_id;
        now->dp_rank = d->dp_rank;
        now->overlap_blocks = d->overlap_blocks;
    } else {
        now->err = decided->err;
        (void)jr_str_copy(now->words, sizeof now->words, decided->why ? decided->why : "");
    }
    end_step(x);
}

/* Without the query, which may name who asks. */
static void write_url(const struct jr_proxied *x, const char *worker_url, char *ret)
{
    const char *own = x->dialect ? x->dialect->worker_path : NULL;
    struct jr_str path = own ? jr_str_of(own, strlen(own)) : jr_http_request_path(x->req);
    snprintf(ret, JR_URL_MAX, "%s%.*s", worker_url,
             (int)(path.n < JR_URL_MAX ? path.n : JR_URL_MAX), path.p);
}

void jr_proxy_spans_send(struct jr_proxied *x, const char *worker_url)
{
    struct now *now = &x->spans->now;
    begin_step(x, STEP_SEND);
    if (!x->spans->sampled)
        return;
    now->worker_id = x->worker_id;
    now->dp_rank = x->dp_rank;
    now->overlap_blocks = x->overlap_blocks;
    now->predicted_tokens = jr_proxy_predicted_tokens(x);
    write_url(x, worker_url, now->url);
}

void jr_proxy_spans_failed(struct jr_proxied *x, int err)
{
    x->spans->now.err = err;
}

void jr_proxy_spans_head(struct jr_proxied *x, int status)
{
    x->spans->now.status = status;
}

void jr_proxy_spans_first_token(struct jr_proxied *x)
{
    x->spans->now.first_token_ns = jr_loop_now_ns();
}

/* ---------------------------------------------------------------- the request */

/* Of a request that brings none: a trace of its own. */
static void begin_trace(struct jr_proxied *x, struct jr_trace_context *ret)
{
    uint64_t v[2] = {jr_rng_u64(&x->l->rng), jr_rng_u64(&x->l->rng)};
    v[0] |= v[0] == 0 && v[1] == 0;
    memcpy(ret->trace_id, v, 16);
    ret->flags = 0;
}

static bool is_sampled(const struct jr_proxied *x, const struct jr_proxy_spans *s)
{
    const struct jr_otel_sampler *sampler = &x->l->sampler;
    if (s->has_parent && sampler->parent_based)
        return s->parent.flags & JR_TRACE_SAMPLED;
    return jr_trace_context_is_picked(s->context.trace_id, sampler->share);
}

void jr_proxy_spans_begin(struct jr_proxied *x)
{
    struct jr_proxy_spans *s = x->l->kept_spans;
    x->spans = s;
    x->l->kept_spans = NULL;
    if (s)
        return;
    x->spans = s = jr_xalloc(sizeof *s);
    struct jr_str text = jr_http_request_header(x->req, "traceparent");
    s->has_parent = jr_trace_context_parse(text, &s->parent) == 0;
    if (s->has_parent)
        s->context = s->parent;
    else
        begin_trace(x, &s->context);
    s->sampled = is_sampled(x, s);
    s->context.flags =
        (uint8_t)((s->context.flags & ~JR_TRACE_SAMPLED) | (s->sampled ? JR_TRACE_SAMPLED : 0));
    if (s->sampled || !s->has_parent) /* without a span of ours the client's stays the parent */
        new_span_id(x, s->context.span_id);
    s->unix_ns = jr_unix_ns() - (int64_t)jr_loop_now_ns();
}

void jr_proxy_spans_keep(struct jr_proxied *x)
{
    end_step(x);
    x->l->kept_spans = x->spans;
    x->spans = NULL;
}

const char *jr_proxy_spans_parent(struct jr_proxied *x, bool *ret_foreign)
{
    struct jr_proxy_spans *s = x->spans;
    struct jr_trace_context c = s->context;
    if (s->sampled)
        memcpy(c.span_id, s->now.span_id, 8);
    *ret_foreign = !s->has_parent;
    jr_trace_context_format(&c, s->text);
    return s->text;
}

/* Of the semantic conventions for generative AI. */
static const char *operation_of(const char *endpoint)
{
    return strcmp(endpoint, "chat_completions") == 0 ? "chat"
           : strcmp(endpoint, "embeddings") == 0     ? "embeddings"
           : strcmp(endpoint, "completions") == 0 || strcmp(endpoint, "generate") == 0
               ? "text_completion"
               : "";
}

static void put_request(const struct jr_proxied *x, const char *error_type, struct attrs *a)
{
    const struct jr_openai_progress *p = &x->progress;
    put_str(a, "http.request.method", jr_http_request_method(x->req));
    put_str(a, "url.path", jr_http_request_path(x->req));
    if (x->status)
        put_number(a, "http.response.status_code", (uint64_t)x->status);
    put_error(a, x->status, error_type);
    put_text(a, "gen_ai.operation.name", operation_of(jr_proxy_endpoint(x)));
    put_text(a, "gen_ai.request.model", x->model);
    if (p->has_usage || x->n_tokens)
        put_number(a, "gen_ai.usage.input_tokens", p->has_usage ? p->prompt_tokens : x->n_tokens);
    put_number(a, "gen_ai.usage.output_tokens", p->has_usage ? p->completion_tokens : p->n_content);
    if (p->has_cached)
        put_number(a, "jetrouter.cached_tokens", p->cached_tokens);
    put_str(a, "jetrouter.request_id", x->request_id);
    put_flag(a, "jetrouter.stream", x->stream);
    put_number(a, "jetrouter.attempts", x->attempts);
    if (x->first_token_ns)
        put_ms(a, "jetrouter.ttft_ms", x->first_token_ns - x->started_ns);
}

/* "POST /v1/completions"; of the paths that are only passed on, which may be any, the method. */
static struct jr_str name_of(const struct jr_proxied *x, char *ret, size_t n)
{
    struct jr_str method = jr_http_request_method(x->req), path = jr_http_request_path(x->req);
    const bool named = strcmp(jr_proxy_endpoint(x), "other") != 0;
    int len = snprintf(ret, n, "%.*s%s%.*s", (int)method.n, method.p, named ? " " : "",
                       named ? (int)path.n : 0, path.p);
    return jr_str_of(ret, len < 0 ? 0 : (size_t)len < n ? (size_t)len : n - 1);
}

void jr_proxy_spans_end(struct jr_proxied *x, const char *error_type)
{
    struct jr_proxy_spans *s = x->spans;
    struct attrs a = {.n = 0};
    char name[128];
    if (strcmp(error_type, "cancelled") == 0 && s->now.step != STEP_NONE)
        s->now.err = JR_ECANCELED;
    end_step(x);
    if (!s->sampled)
        return;
    put_request(x, error_type, &a);
    struct jr_str state = {NULL, 0};
    if (s->has_parent)
        state = jr_http_request_header(x->req, "tracestate");
    struct jr_otlp_span span = {
        .context = s->context,
        .has_parent = s->has_parent,
        .parent_is_remote = true,
        .trace_state = state,
        .name = name_of(x, name, sizeof name),
        .kind = JR_OTLP_SERVER,
        .start_unix_ns = unix_of(s, x->started_ns),
        .end_unix_ns = unix_of(s, jr_loop_now_ns()),
        .attrs = a.v,
        .n_attrs = a.n,
        .failed = x->status >= 500 || strcmp(error_type, "internal") == 0,
    };
    memcpy(span.parent_id, s->parent.span_id, 8);
    jr_span_export_add(x->l->exporter, &span);
}

/* It was never under way: all that its span needs of one. */
void jr_proxy_spans_refused(struct jr_front_loop *l, struct jr_http_request *req,
                            enum jr_openai_kind kind, int status)
{
    struct jr_proxied x = {.l = l,
                           .f = l->f,
                           .req = req,
                           .kind = kind,
                           .place = {.component = ""},
                           .status = status,
                           .started_ns = jr_loop_now_ns(),
                           .request_id = jr_http_request_header(req, "x-request-id")};
    jr_proxy_spans_begin(&x);
    jr_proxy_spans_end(&x, "validation");
    jr_spans_free(&x);
}
