/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: the request on its way to the worker, the answer back, byte for byte. */
#include "app/frontend/proxy_internal.h"
#include "app/frontend/proxy_spans.h"

#include "base/assert.h"
#include "base/log.h"

#include <string.h>
#include <strings.h>

#define OUTPUT_EVERY  16 /* tokens between two reports of progress */
#define TIME_LEFT_MIN 50 /* ms: a worker is not asked for less */

uint64_t jr_proxy_predicted_tokens(const struct jr_proxied *x)
{
    uint64_t block_size = x->by_text ? 0 : jr_decide_block_size(x);
    if (block_size == 0 || x->n_tokens == 0)
        return 0;
    uint64_t held = x->overlap_blocks * block_size, most = x->n_tokens - 1;
    most -= most % block_size;
    return held < most ? held : most;
}

/* How far prediction and truth are apart, in each direction, so that they do not make up for each
 * other. Where nothing was predicted there is nothing to compare. */
static void count_cached(struct jr_proxied *x, const char *const *pool)
{
    struct jr_metrics *m = x->l->metrics;
    uint64_t cached = x->progress.cached_tokens, predicted = jr_proxy_predicted_tokens(x);
    jr_metric_add(m, JR_METRIC_REPORTED_CACHED_TOKENS_TOTAL, pool, cached);
    jr_metric_add(m, JR_METRIC_PREDICTED_CACHED_TOKENS_TOTAL, pool, predicted);
    if (x->by_text || x->n_prefix == 0)
        return;
    jr_metric_add(m, JR_METRIC_PREDICTED_NOT_CACHED_TOKENS_TOTAL, pool,
                  predicted > cached ? predicted - cached : 0);
    jr_metric_add(m, JR_METRIC_CACHED_NOT_PREDICTED_TOKENS_TOTAL, pool,
                  cached > predicted ? cached - predicted : 0);
}

static void count_usage(struct jr_proxied *x)
{
    struct jr_openai_progress *p = &x->progress;
    p->completion_tokens += p->has_usage ? jr_proxy_resume_produced(x) : 0;
    const char *const *pool = JR_LABELS(x->f->namespace_, x->place.component);
    uint64_t out = p->has_usage ? p->completion_tokens : p->n_content;
    jr_series_add(x->counted->output_total, out);
    jr_series_observe(x->counted->output, (double)out);
    jr_series_observe(x->l->requests.output, (double)out);
    if (!p->has_usage || !p->has_cached)
        return;
    jr_series_observe(x->counted->cached, (double)p->cached_tokens);
    count_cached(x, pool);
}

/* The answer is a stream that the client gets in words of its own. */
static bool is_translated(const struct jr_proxied *x)
{
    return x->dialect && x->status == 200 && x->is_sse;
}

static void end_relayed(struct jr_proxied *x)
{
    jr_proxy_resume_rest(x);
    if (is_translated(x))
        x->dialect->end(x);
    jr_proxy_extra_end(x);
    if (!x->is_sse && x->kept.n && x->status == 200)
        (void)jr_openai_progress_body(&x->progress, x->kept.p, x->kept.n);
    jr_decide_finish(x);
    if (x->status == 200 && !x->passed)
        count_usage(x);
    if (x->status == 200)
        jr_proxy_hold_ask(x);
    if (x->status < 500)
        jr_decide_note(x, JR_NOTE_WELL, NULL);
    jr_proxy_count_end(x, x->status < 400 ? "success" : "error",
                       x->status < 400 ? "" : "validation");
    jr_http_respond_end(x->req, false);
    jr_proxy_free(x);
}

/* Dynamo's clients read the comment, OpenAI's the data. */
static void write_error_event(struct jr_proxied *x, const struct jr_error_row *row,
                              const char *message)
{
    struct jr_buf b;
    jr_buf_init(&b, 64 << 10);
    struct jr_openai_failure failure = {
        .status = row->status, .code = row->code, .message = message};
    /* An event that was cut is ended first: ours must not become its last line. */
    bool between = x->last[1] == '\n' && x->last[0] == '\n';
    jr_buf_puts(&b, between ? "event: error\n: " : "\n\nevent: error\n: ");
    jr_buf_puts(&b, message);
    jr_buf_puts(&b, "\ndata: ");
    jr_openai_error_write(&b, &failure);
    jr_buf_puts(&b, "\n\n");
    (void)!jr_http_respond_write(x->req, b.p, b.n);
    jr_buf_deinit(&b);
}

static void write_cut(struct jr_proxied *x, enum jr_error error, const char *message)
{
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    x->dialect->cut(x, error, message, &b);
    if (!b.err)
        (void)!jr_http_respond_write(x->req, b.p, b.n);
    jr_buf_deinit(&b);
}

/* After bytes were relayed nothing can be sent again: the client is told in the stream. */
void jr_proxy_end_cut(struct jr_proxied *x, enum jr_error error, const char *message)
{
    bool late = error == JR_ERROR_TIMEOUT; /* any other has its words, but is the worker's end */
    const struct jr_error_row *row = jr_error_row(late ? error : JR_ERROR_STREAM_CUT);
    message = message ? message : row->message;
    jr_decide_finish(x);
    jr_metric_add(x->l->metrics, JR_METRIC_PROXY_FAILURES_TOTAL, JR_LABELS("mid_stream"), 1);
    jr_proxy_count_end(x, "error", "internal");
    jr_log(JR_LOG_WARN, "proxy.cut", "worker=%llu words=\"%s\"", (unsigned long long)x->worker_id,
           message);
    if (is_translated(x))
        write_cut(x, late ? error : JR_ERROR_STREAM_CUT, message);
    else if (x->is_sse)
        write_error_event(x, row, message);
    jr_http_respond_end(x->req, true);
    jr_proxy_free(x);
}

/* ---------------------------------------------------------------- relay */

static void on_first_token(struct jr_proxied *x)
{
    bool is_first = !x->first_token_ns; /* a part that goes on with another's answer has one, too */
    if (is_first)
        x->first_token_ns = jr_loop_now_ns();
    jr_decide_first_token(x);
    jr_spans_first_token(x);
    if (!is_first)
        return;
    jr_series_observe(x->counted->ttft, (double)(x->first_token_ns - x->started_ns) / 1e9);
    jr_series_observe(x->l->requests.ttft, (double)(x->first_token_ns - x->sent_ns) / 1e9);
}

/* Tokens that come together have equal parts of the time since those before. */
static void on_tokens(struct jr_proxied *x, uint64_t n)
{
    uint64_t now = jr_loop_turn_ns(x->l->loop);
    if (x->token_ns) {
        x->itl_s = (double)(now - x->token_ns) / 1e9 / (double)n;
        jr_series_observe_n(x->counted->itl, x->itl_s, n);
        jr_series_observe_n(x->l->requests.itl, x->itl_s, n);
    }
    x->token_ns = now;
}

static int on_sse(void *ctx, const struct jr_sse_event *ev)
{
    struct jr_proxied *x = ctx;
    if (jr_openai_progress_event(&x->progress, ev))
        on_first_token(x);
    uint32_t out = (uint32_t)(x->progress.n_content - jr_proxy_resume_produced(x));
    if (out >= x->output_told + OUTPUT_EVERY) {
        x->output_told = out;
        jr_decide_output(x, out);
    }
    return x->may_resume ? jr_proxy_resume_event(x, ev) : 0;
}

/* What passes by is read, never changed; an answer that cannot be read is relayed all the same. */
static void observe(struct jr_proxied *x, const void *p, size_t n)
{
    if (x->is_sse && !x->passed) {
        uint64_t before = x->progress.n_content;
        if (!x->sse_broken)
            x->sse_broken = jr_sse_feed(&x->sse, p, n, on_sse, x) < 0;
        if (x->progress.n_content > before)
            on_tokens(x, x->progress.n_content - before);
        return;
    }
    if (!x->first_token_ns)
        on_first_token(x);
    if (!x->opaque && !x->passed && x->kept.n + n <= x->kept.max)
        jr_buf_put(&x->kept, p, n);
}

static void read_kind(struct jr_proxied *x, const struct jr_http_reply *reply)
{
    for (uint32_t i = 0; i < reply->n_headers; i++) {
        const struct jr_http_header *h = &reply->headers[i];
        if (jr_str_ieq(h->name, "content-type"))
            x->is_sse = h->value.n >= 17 && strncasecmp(h->value.p, "text/event-stream", 17) == 0;
        else if (jr_str_ieq(h->name, "content-encoding"))
            x->opaque = !jr_str_ieq(h->value, "identity");
    }
    x->is_sse = x->is_sse && !x->opaque;
}

/* The client has the head of the whole; of a part it needs none. */
static void on_later_head(struct jr_proxied *x, const struct jr_http_reply *reply)
{
    read_kind(x, reply);
    if (reply->status == 200 && x->is_sse) {
        jr_sm_move(&x->sm, JR_PROXY_RELAY, "rest");
        return;
    }
    x->is_sse = true; /* the whole is */
    jr_http_exchange_cancel(x->exchange);
    x->exchange = NULL;
    jr_proxy_retry(x, JR_EPROTO);
}

static void on_head(void *ctx, const struct jr_http_reply *reply)
{
    struct jr_proxied *x = ctx;
    jr_spans_head(x, reply->status);
    if (reply->status < 500)
        jr_decide_note(x, JR_NOTE_ANSWERED, NULL);
    else
        jr_decide_note(x, JR_NOTE_FAILED, "it answers with a server error");
    if (x->status) {
        on_later_head(x, reply);
        return;
    }
    if (jr_proxy_refused_keep(x, reply))
        return;
    jr_sm_move(&x->sm, JR_PROXY_RELAY, "head");
    x->status = reply->status;
    read_kind(x, reply);
    jr_http_respond_start(x->req, reply->status, NULL, jr_proxy_reply_lines(x, reply),
                          jr_proxy_extra_applies(x) || is_translated(x) ? -1
                                                                        : reply->content_length);
    if (x->extra && jr_proxy_extra_begin(x) == JR_EAGAIN)
        jr_http_exchange_pause(x->exchange);
}

int jr_proxy_write(struct jr_proxied *x, const void *p, size_t n)
{
    if (is_translated(x))
        return x->dialect->write(x, p, n);
    return x->extra ? jr_proxy_extra_write(x, p, n) : jr_proxy_write_raw(x, p, n);
}

int jr_proxy_write_raw(struct jr_proxied *x, const void *p, size_t n)
{
    const uint8_t *bytes = p;
    if (n > 0) {
        x->last[0] = n > 1 ? bytes[n - 2] : x->last[1];
        x->last[1] = bytes[n - 1];
    }
    x->bytes_out += n;
    return jr_http_respond_write(x->req, p, n);
}

/* Nothing that is read in the answer changes what the client gets: it goes first. */
static bool goes_as_it_is(const struct jr_proxied *x)
{
    return !x->is_sse && !x->extra && !x->resume && !x->dialect;
}

static void on_data(void *ctx, const void *p, size_t n)
{
    struct jr_proxied *x = ctx;
    if (x->sm.state == JR_PROXY_UPSTREAM) {
        jr_proxy_refused_data(x, p, n);
        return;
    }
    if (goes_as_it_is(x)) {
        if (jr_proxy_write_raw(x, p, n) == JR_EAGAIN)
            jr_http_exchange_pause(x->exchange);
        observe(x, p, n);
        return;
    }
    observe(x, p, n);
    if (jr_proxy_resumes(x) && x->sse_broken) {
        jr_http_exchange_cancel(x->exchange);
        x->exchange = NULL;
        jr_spans_failed(x, JR_EPROTO);
        jr_proxy_end_cut(
            x, JR_ERROR_STREAM_CUT,
            "the worker that went on with the answer sent what does not fit its beginning");
        return;
    }
    int err = x->resume ? jr_proxy_resume_relay(x, p, n) : jr_proxy_write(x, p, n);
    if (err == JR_EAGAIN)
        jr_http_exchange_pause(x->exchange);
}

void jr_proxy_on_writable(void *ctx)
{
    struct jr_proxied *x = ctx;
    if (x->exchange)
        jr_http_exchange_resume(x->exchange);
}

/* ---------------------------------------------------------------- upstream */

/* --request-timeout-secs is for the whole request, however many workers had it. */
uint64_t jr_proxy_time_left_ms(const struct jr_proxied *x)
{
    uint64_t limit = jr_config_ms(x->f->cfg, JR_CFG_REQUEST_TIMEOUT_SECS);
    uint64_t spent = (jr_loop_now_ns() - x->started_ns) / 1000000;
    if (limit == 0)
        return UINT32_MAX;
    return spent + TIME_LEFT_MIN < limit ? limit - spent : 0;
}

void jr_proxy_leave_out(struct jr_proxied *x)
{
    if (x->n_exclude < JR_PROXY_EXCLUDE_MAX)
        x->exclude[x->n_exclude++] = x->worker_id;
}

/* Before a byte was relayed: another worker gets it, with a new booking. */
void jr_proxy_retry(struct jr_proxied *x, int err)
{
    jr_spans_failed(x, err);
    jr_decide_regain_prefix(x);
    jr_decide_finish(x);
    if (jr_proxy_time_left_ms(x) == 0) {
        jr_proxy_end_error(x, JR_ERROR_TIMEOUT, NULL);
        return;
    }
    if (err == JR_ELIMIT) { /* ours, not the worker's: another one cannot be connected to either */
        jr_metric_add(x->l->metrics, JR_METRIC_PROXY_FAILURES_TOTAL, JR_LABELS("no_descriptor"), 1);
        jr_proxy_end_error(x, JR_ERROR_NO_ROOM,
                           "this replica cannot open a connection to a worker: retry later");
        return;
    }
    jr_metric_add(x->l->metrics, JR_METRIC_PROXY_RETRIES_TOTAL,
                  JR_LABELS(err < 0 ? jr_err_name(err) : "status"), 1);
    jr_proxy_leave_out(x);
    if (x->has_pin || x->attempts > x->f->migration_limit) {
        char words[160];
        snprintf(words, sizeof words,
                 "worker %llu did not answer (%s) and the request may not go to another one",
                 (unsigned long long)x->worker_id, jr_err_text(err));
        jr_metric_add(x->l->metrics, JR_METRIC_PROXY_FAILURES_TOTAL, JR_LABELS("no_answer"), 1);
        jr_proxy_end_error(x, JR_ERROR_WORKER_FAILED, words);
        return;
    }
    jr_metric_add(x->l->metrics, JR_METRIC_FRONTEND_MODEL_MIGRATION_TOTAL,
                  JR_LABELS(x->counted->model, x->status ? "ongoing_request" : "new_request"), 1);
    jr_proxy_route(x);
}

/* A later part that cannot be made one with the first. */
static bool broke_off(const struct jr_proxied *x)
{
    return jr_proxy_resumes(x) && !x->progress.done;
}

/* The time of the whole request is over: its client may have read too slowly, and the worker had what
 * others before it had left. */
static bool is_too_late(const struct jr_proxied *x, int err)
{
    return err == JR_ETIMEOUT && jr_proxy_time_left_ms(x) == 0;
}

void jr_proxy_judge_worker(struct jr_proxied *x, int err)
{
    bool failed = err == JR_ENOTFOUND || err == JR_ECONN || err == JR_ETIMEOUT ||
                  err == JR_ETRUNC || err == JR_EPROTO ||
                  err == JR_ECONFIG; /* no TLS to it: it cannot even be asked */
    if (failed && !is_too_late(x, err))
        jr_decide_note(x, JR_NOTE_FAILED, jr_err_text(err));
    else
        jr_decide_note(x, JR_NOTE_UNKNOWN, NULL);
}

static void on_end(void *ctx, int err)
{
    struct jr_proxied *x = ctx;
    x->exchange = NULL;
    bool refused = x->sm.state == JR_PROXY_UPSTREAM && jr_proxy_refused_end(x, err);
    if (err == 0 && x->sm.state == JR_PROXY_UPSTREAM && !refused)
        err = JR_EPROTO;
    jr_spans_failed(x, err);
    if (err < 0)
        jr_proxy_judge_worker(x, err);
    if (x->sm.state == JR_PROXY_UPSTREAM)
        jr_proxy_retry(x, err);
    else if (is_too_late(x, err))
        jr_proxy_end_cut(x, JR_ERROR_TIMEOUT, NULL);
    else if (err == 0 && !broke_off(x))
        end_relayed(x);
    else if (!jr_proxy_resume(x))
        jr_proxy_end_cut(x, JR_ERROR_STREAM_CUT, NULL);
}

/* ret has room for JR_URL_MAX + JR_HTTP_TARGET_MAX + 2. */
static void write_url(const struct jr_proxied *x, const char *worker_url, char *ret)
{
    const char *own = x->dialect ? x->dialect->worker_path : NULL;
    struct jr_str path = own ? jr_str_of(own, strlen(own)) : jr_http_request_path(x->req);
    struct jr_str query = own ? jr_str_of(NULL, 0) : jr_http_request_query(x->req);
    size_t n = strlen(worker_url);
    JR_ASSERT(n <= JR_URL_MAX && path.n + query.n <= JR_HTTP_TARGET_MAX);
    memcpy(ret, worker_url, n);
    memcpy(ret + n, path.p, path.n);
    n += path.n;
    if (query.n) {
        ret[n++] = '?';
        memcpy(ret + n, query.p, query.n);
        n += query.n;
    }
    ret[n] = '\0';
}

/* The body goes on as it came, and so do the headers. */
int jr_proxy_send(struct jr_proxied *x, const char *worker_url)
{
    char url[JR_URL_MAX + JR_HTTP_TARGET_MAX + 2];
    const char *lines = jr_proxy_request_lines(x);
    if (!lines)
        return JR_ELIMIT;
    write_url(x, worker_url, url);
    const struct jr_str body = x->body;
    uint64_t left_ms = jr_proxy_time_left_ms(x);
    uint32_t left = left_ms >= UINT32_MAX ? 0 : left_ms > 0 ? (uint32_t)left_ms : 1;
    struct jr_http_fetch fetch = {
        .url = url,
        .method = jr_str_eq(jr_http_request_method(x->req), "GET") ? "GET" : "POST",
        .extra_headers = lines,
        .body = body.p,
        .n_body = body.n,
        .body_stays = true,
        .first_byte_timeout_ms =
            (uint32_t)jr_config_ms(x->f->cfg, JR_CFG_WORKER_FIRST_BYTE_TIMEOUT_SECS),
        .total_timeout_ms = left,
        .on_head = on_head,
        .on_data = on_data,
        .on_end = on_end,
        .ctx = x,
    };
    return jr_http_client_fetch(x->l->client, &fetch, &x->exchange);
}
