/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/span_export.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/limit.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "jetrouter/version.h"

#define SCOPE "jetrouter"

struct jr_span_export {
    struct jr_span_export_config config;
    char *url, *headers; /* owned */
    struct jr_buf resource;
    struct jr_rng rng;
    struct jr_timer *timer; /* what is next: a batch, or its next try; at the end: the end */
    /* The queue: a ring of encoded spans, each owned. */
    struct jr_str *spans;
    uint32_t head, n;
    struct jr_buf span; /* being encoded */
    /* The batch that is under way; n_batch == 0: none. */
    struct jr_buf body;
    uint32_t n_batch, tries;
    struct jr_http_exchange *exchange; /* NULL: it waits for its next try */
    bool failing;                      /* as last said in the log */
    void (*on_closed)(void *ctx);      /* not NULL: closing */
    void *closed_ctx;
    bool closed;
};

/* ---------------------------------------------------------------- counting */

static void count_spans(struct jr_span_export *e, const char *result, uint64_t n)
{
    if (n > 0)
        jr_metric_add(e->config.metrics, JR_METRIC_TRACE_SPANS_TOTAL, JR_LABELS(result), n);
}

static void count_request(struct jr_span_export *e, const char *result)
{
    jr_metric_add(e->config.metrics, JR_METRIC_TRACE_EXPORTS_TOTAL, JR_LABELS(result), 1);
}

static void show_queue(struct jr_span_export *e)
{
    jr_metric_set(e->config.metrics, JR_METRIC_TRACE_SPANS_WAITING, JR_NO_LABELS,
                  e->n + e->n_batch);
}

/* Said once when it begins, and once when it is over. */
static void say_failing(struct jr_span_export *e, int status, int err)
{
    if (!e->failing)
        jr_log(JR_LOG_WARN, "trace.export_failed", "url=%s status=%d words=\"%s\" hint=\"%s\"",
               e->url, status, err < 0 ? jr_err_text(err) : "refused",
               "spans are dropped; OTLP/HTTP is spoken, mostly on port 4318, not gRPC");
    e->failing = true;
}

static void say_well(struct jr_span_export *e)
{
    if (e->failing)
        jr_log(JR_LOG_INFO, "trace.export_resumed", "url=%s", e->url);
    e->failing = false;
}

/* ---------------------------------------------------------------- batches */

static void next(struct jr_span_export *e);

static struct jr_str *at(struct jr_span_export *e, uint32_t i)
{
    return &e->spans[(e->head + i) % e->config.queue_max];
}

/* As many as go into one request; one at least. */
static uint32_t pick(struct jr_span_export *e)
{
    const uint32_t most = e->n < e->config.batch_max ? e->n : e->config.batch_max;
    size_t bytes = 0;
    uint32_t n = 0;
    while (n < most && (n == 0 || bytes + at(e, n)->n <= JR_OTLP_BODY_MAX / 2))
        bytes += at(e, n++)->n;
    return n;
}

static void drop_front(struct jr_span_export *e, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        jr_xfree((void *)(uintptr_t)at(e, i)->p);
    e->head = (e->head + n) % e->config.queue_max;
    e->n -= n;
}

static int encode(struct jr_span_export *e, uint32_t n)
{
    struct jr_str *list = jr_xalloc((n + 1) * sizeof *list);
    for (uint32_t i = 0; i < n; i++)
        list[i] = *at(e, i);
    const struct jr_otlp_request r = {
        .resource = jr_str_of(jr_buf_str(&e->resource), e->resource.n),
        .scope = SCOPE,
        .version = JETROUTER_VERSION,
        .spans = list,
        .n_spans = n,
    };
    jr_buf_clear(&e->body);
    int err = jr_otlp_encode_request(&r, &e->body);
    jr_xfree(list);
    return err;
}

static void end_batch(struct jr_span_export *e)
{
    e->n_batch = 0;
    e->tries = 0;
    show_queue(e);
    next(e);
}

static void give_up(struct jr_span_export *e)
{
    count_request(e, "failed");
    count_spans(e, "failed", e->n_batch);
    end_batch(e);
}

/* Retry-After in seconds; the form that is a date counts as none. */
static uint64_t asked_wait_ms(const struct jr_http_reply *reply)
{
    uint64_t secs;
    for (uint32_t i = 0; reply && i < reply->n_headers; i++) {
        const struct jr_http_header *h = &reply->headers[i];
        if (jr_str_ieq(h->name, "retry-after") && jr_parse_u64(h->value.p, h->value.n, &secs) == 0)
            return secs < JR_OTLP_WAIT_MAX_MS / 1000 ? secs * 1000 : JR_OTLP_WAIT_MAX_MS;
    }
    return 0;
}

/* Not less than the collector asks for; up to half as long again, so that replicas do not come at once. */
static uint64_t wait_ms(struct jr_span_export *e, const struct jr_http_reply *reply)
{
    uint64_t asked = asked_wait_ms(reply);
    uint64_t own = (uint64_t)e->config.retry_ms << (e->tries - 1);
    uint64_t ms = own < JR_OTLP_WAIT_MAX_MS ? own : JR_OTLP_WAIT_MAX_MS;
    ms = asked > ms ? asked : ms;
    return ms + jr_rng_below(&e->rng, (uint32_t)ms / 2 + 1);
}

static bool is_transient(int status)
{
    return status == 429 || (status >= 502 && status <= 504);
}

static void take_success(struct jr_span_export *e, struct jr_str body)
{
    struct jr_errmsg words = {""};
    uint64_t rejected = 0;
    if (jr_otlp_decode_response(body.p, body.n, &rejected, &words) < 0)
        rejected = 0; /* 2xx says it all; some answer with JSON */
    if (rejected > e->n_batch)
        rejected = e->n_batch;
    if (rejected > 0)
        jr_log(JR_LOG_WARN, "trace.rejected", "spans=%llu words=\"%s\"",
               (unsigned long long)rejected, words.text);
    count_request(e, "sent");
    count_spans(e, "rejected", rejected);
    count_spans(e, "sent", e->n_batch - rejected);
    say_well(e);
    end_batch(e);
}

static void on_answer(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_span_export *e = ctx;
    const int status = reply ? reply->status : 0;
    e->exchange = NULL;
    if (status >= 200 && status < 300) {
        take_success(e, body);
        return;
    }
    say_failing(e, status, err);
    /* What is not HTTP will not become it, and an answer that is too long is one all the same. */
    const bool again = err < 0 ? err != JR_EPROTO && err != JR_ELIMIT : is_transient(status);
    if (again && e->tries >= JR_OTLP_TRIES_MAX)
        jr_limit_reached(JR_LIMIT_OTLP_TRIES);
    if (!again || e->on_closed || e->tries >= JR_OTLP_TRIES_MAX) {
        give_up(e);
        return;
    }
    count_request(e, "retried");
    jr_timer_start(e->timer, wait_ms(e, reply), 0);
}

static void finish(struct jr_span_export *e);

/* At once: at the end the rest would not fare better, and before it another turn of the loop sees to it. */
static void cannot(struct jr_span_export *e, int err)
{
    say_failing(e, 0, err);
    if (e->on_closed)
        finish(e);
    else
        give_up(e);
}

static void post(struct jr_span_export *e)
{
    const struct jr_http_fetch fetch = {
        .url = e->url,
        .method = "POST",
        .content_type = "application/x-protobuf",
        .extra_headers = e->headers,
        .body = e->body.p,
        .n_body = e->body.n,
        .body_stays = true,
        .total_timeout_ms = e->config.timeout_ms,
    };
    e->tries++;
    int err = jr_http_client_whole_begin(e->config.client, &fetch, JR_OTLP_REPLY_MAX, on_answer, e,
                                         &e->exchange);
    if (err < 0)
        cannot(e, err);
}

static void begin_batch(struct jr_span_export *e)
{
    const uint32_t n = pick(e);
    const int err = encode(e, n);
    drop_front(e, n);
    e->n_batch = n;
    if (err < 0)
        cannot(e, err);
    else
        post(e);
}

/* ---------------------------------------------------------------- when */

static void finish(struct jr_span_export *e)
{
    void (*cb)(void *ctx) = e->on_closed;
    e->closed = true;
    count_spans(e, "failed", e->n + e->n_batch);
    drop_front(e, e->n);
    e->n_batch = 0;
    if (e->exchange)
        jr_http_exchange_cancel(e->exchange);
    e->exchange = NULL;
    jr_timer_destroy(e->timer);
    e->timer = NULL;
    cb(e->closed_ctx);
}

/* Nothing is under way. */
static void next(struct jr_span_export *e)
{
    if (e->on_closed && e->n == 0)
        finish(e);
    else if (e->on_closed)
        begin_batch(e);
    else if (e->n > 0)
        jr_timer_start(e->timer, e->n >= e->config.batch_max ? 0 : e->config.delay_ms, 0);
}

static void on_timer(void *ctx)
{
    struct jr_span_export *e = ctx;
    if (e->on_closed)
        finish(e);
    else if (e->n_batch > 0)
        post(e);
    else if (e->n > 0)
        begin_batch(e);
}

void jr_span_export_add(struct jr_span_export *e, const struct jr_otlp_span *span)
{
    if (e->n == e->config.queue_max || e->closed) {
        count_spans(e, "queue_full", 1);
        jr_limit_reached(JR_LIMIT_SPAN_QUEUE);
        return;
    }
    jr_buf_clear(&e->span);
    if (jr_otlp_encode_span(span, &e->span) < 0) {
        count_spans(e, "too_long", 1);
        jr_limit_reached(JR_LIMIT_SPAN_BYTES);
        return;
    }
    *at(e, e->n) = jr_str_of(jr_xmemdup(e->span.p, e->span.n), e->span.n);
    e->n++;
    show_queue(e);
    if (e->n_batch > 0)
        return;
    if (e->n == 1)
        jr_timer_start(e->timer, e->config.delay_ms, 0);
    else if (e->n == e->config.batch_max) /* from the loop, not from within a request */
        jr_timer_start(e->timer, 0, 0);
}

void jr_span_export_close(struct jr_span_export *e, void (*cb)(void *ctx), void *ctx)
{
    JR_ASSERT(!e->on_closed);
    e->on_closed = cb;
    e->closed_ctx = ctx;
    jr_timer_start(e->timer, JR_OTLP_FLUSH_MS, 0);
    if (e->n_batch == 0)
        next(e);
    else if (!e->exchange) /* it waits for its next try: that is now */
        post(e);
}

/* ---------------------------------------------------------------- life */

struct jr_span_export *jr_span_export_create(const struct jr_span_export_config *config)
{
    struct jr_span_export *e = jr_xalloc(sizeof *e);
    JR_ASSERT(config->batch_max > 0 && config->batch_max <= config->queue_max);
    e->config = *config;
    e->url = jr_xstrdup(config->url);
    e->headers = config->headers ? jr_xstrdup(config->headers) : NULL;
    e->config.url = e->config.headers = NULL;
    e->config.resource = NULL;
    e->spans = jr_xalloc(config->queue_max * sizeof *e->spans);
    jr_rng_init(&e->rng, config->seed, 0);
    jr_buf_init(&e->span, JR_SPAN_BYTES_MAX);
    jr_buf_init(&e->body, JR_OTLP_BODY_MAX);
    jr_buf_init(&e->resource, JR_SPAN_BYTES_MAX);
    if (jr_otlp_encode_resource(config->resource, config->n_resource, &e->resource) < 0)
        jr_buf_clear(&e->resource);
    e->timer = jr_timer_create(config->loop, on_timer, e);
    return e;
}

void jr_span_export_destroy(struct jr_span_export *e)
{
    if (!e)
        return;
    JR_ASSERT(!e->exchange);
    drop_front(e, e->n);
    jr_timer_destroy(e->timer);
    jr_buf_deinit(&e->resource);
    jr_buf_deinit(&e->span);
    jr_buf_deinit(&e->body);
    jr_xfree(e->spans);
    jr_xfree(e->headers);
    jr_xfree(e->url);
    jr_xfree(e);
}
