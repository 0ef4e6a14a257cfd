/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: a request is understood, given to a worker, and ended; proxy_internal.h has the machine. */
#include "app/frontend/proxy_internal.h"
#include "app/frontend/access_log.h"
#include "app/frontend/query.h"

#include "base/cursor.h"
#include "wire/openai_model.h"

#include <stdlib.h>
#include <string.h>

#define SSE_EVENT_MAX  ((size_t)1 << 20)
#define REPLY_KEPT_MAX ((size_t)4 << 20)  /* of an answer that is not streamed, to read its usage */
#define QUERY_MAX      ((size_t)64 << 20) /* of an answer that names the prompt's ids */

static const struct jr_sm_row rows[JR_PROXY_STATES] = {
    [JR_PROXY_START] = {"start", JR_SM_TO(JR_PROXY_TOKENIZE) | JR_SM_TO(JR_PROXY_ROUTE),
                        JR_SM_INITIAL},
    [JR_PROXY_TOKENIZE] = {"tokenize", JR_SM_TO(JR_PROXY_ROUTE), 0},
    [JR_PROXY_ROUTE] = {"route", JR_SM_TO(JR_PROXY_UPSTREAM) | JR_SM_TO(JR_PROXY_ROUTE), 0},
    [JR_PROXY_UPSTREAM] = {"upstream", JR_SM_TO(JR_PROXY_RELAY) | JR_SM_TO(JR_PROXY_ROUTE), 0},
    [JR_PROXY_RELAY] = {"relay", JR_SM_TO(JR_PROXY_ROUTE), 0},
};
static const struct jr_sm_table table = {"proxy", rows, JR_PROXY_STATES, NULL};

/* ---------------------------------------------------------------- end */

void jr_proxy_free(struct jr_proxied *x)
{
    struct jr_frontend *f = x->f;
    jr_list_remove(&x->node);
    f->inflight--;
    jr_xfree(x->prefix);
    jr_xfree(x->query_ids);
    jr_sse_deinit(&x->sse);
    jr_buf_deinit(&x->kept);
    jr_buf_deinit(&x->own_body);
    jr_buf_deinit(&x->alias_body);
    jr_proxy_resume_free(x);
    jr_xfree(x->lora);
    jr_xfree(x->cache_salt);
    jr_tokenizer_leave(&x->waiter);
    jr_xfree(x->decision);
    jr_proxy_extra_free(x);
    jr_xfree(x);
}

void jr_proxy_unbook(struct jr_proxied *x)
{
    if (x->id == 0)
        return;
    uint64_t id = x->id;
    x->id = 0;
    jr_driver_finish(x->driver, id);
}

const char *jr_proxy_endpoint(const struct jr_proxied *x)
{
    if (x->passed)
        return jr_proxy_passed_endpoint(jr_http_request_path(x->req));
    return x->kind == JR_OPENAI_CHAT ? "chat_completions" : "completions";
}

void jr_proxy_count_end(struct jr_proxied *x, const char *status, const char *error_type)
{
    struct jr_metrics *m = x->f->metrics;
    double secs = (double)(jr_loop_now_ns() - x->started_ns) / 1e9;
    const char *model = x->driver ? x->model : ""; /* a name that is not served is no label */
    jr_metric_add(
        m, JR_METRIC_FRONTEND_REQUESTS_TOTAL,
        JR_LABELS(model, jr_proxy_endpoint(x), x->stream ? "stream" : "unary", status, error_type),
        1);
    jr_metric_observe(m, JR_METRIC_FRONTEND_REQUEST_DURATION_SECONDS, JR_LABELS(model), secs);
    jr_proxy_log_end(x, error_type);
}

/* An error of ours: the answer, or the last event of one that was relayed so far. */
void jr_proxy_end_error(struct jr_proxied *x, enum jr_error error, const char *message)
{
    int status = jr_service_status(x->f, error);
    if (x->status) {
        jr_proxy_end_cut(x, error, message ? message : jr_error_row(error)->message);
        return;
    }
    jr_proxy_unbook(x);
    x->status = status;
    jr_proxy_count_end(x, "error",
                       status == 404  ? "not_found"
                       : status < 500 ? "validation"
                                      : "internal");
    jr_service_error_with(x->f, x->req, error, NULL, message, jr_proxy_own_lines(x));
    jr_proxy_free(x);
}

static void on_gone(void *ctx)
{
    struct jr_proxied *x = ctx;
    if (x->exchange)
        jr_http_exchange_cancel(x->exchange);
    x->exchange = NULL;
    if (x->sm.state == JR_PROXY_UPSTREAM)
        jr_pools_unknown(x->f, x->pool, x->worker_id);
    jr_proxy_unbook(x);
    jr_metric_add(x->f->metrics, JR_METRIC_FRONTEND_DISCONNECTED_CLIENTS, JR_NO_LABELS, 1);
    jr_proxy_count_end(x, "error", "cancelled");
    jr_http_respond_end(x->req, true);
    jr_proxy_free(x);
}

static enum jr_error refusal(const struct jr_proxied *x, int err)
{
    if (err == JR_ENOTFOUND && x->has_pin)
        return JR_ERROR_PINNED_AWAY;
    return err == JR_EBUSY      ? JR_ERROR_OVERLOADED
           : err == JR_ETIMEOUT ? JR_ERROR_TIMEOUT
           : err == JR_EINVAL   ? JR_ERROR_BAD_ROUTE
                                : JR_ERROR_NO_WORKER;
}

static void end_query(struct jr_proxied *x, const struct jr_decision *d)
{
    struct jr_buf b;
    jr_buf_init(&b, QUERY_MAX);
    jr_query_write(&b, &(struct jr_query_answer){.kind = x->kind,
                                                 .stream = x->stream,
                                                 .model = x->model,
                                                 .number = x->id,
                                                 .created = jr_unix_ns() / 1000000000,
                                                 .decision = d,
                                                 .ids = x->query_ids,
                                                 .n_ids = x->n_query_ids});
    x->id = 0; /* nothing was booked */
    if (b.err) {
        jr_proxy_end_error(x, JR_ERROR_NO_ROOM, "no room for the answer: retry later");
    } else {
        x->status = 200;
        jr_proxy_count_end(x, "success", "");
        jr_http_respond(x->req, 200, x->stream ? "text/event-stream" : "application/json",
                        jr_proxy_own_lines(x), b.p, b.n);
        jr_proxy_free(x);
    }
    jr_buf_deinit(&b);
}

static void on_decided(void *ctx, const struct jr_decision *d, int err, const char *why)
{
    struct jr_proxied *x = ctx;
    if (!d && err == JR_ENOWORKER && x->left_out && !x->with_aside) {
        x->with_aside = true; /* better one that fails often than none */
        jr_proxy_route(x);
        return;
    }
    if (!d) {
        x->id = 0;
        jr_proxy_end_error(x, refusal(x, err), why);
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
    jr_proxy_log_decided(x, d);
    x->sent_ns = jr_loop_now_ns();
    if (d->waited)
        jr_metric_observe(x->f->metrics, JR_METRIC_QUEUE_WAIT_SECONDS,
                          JR_LABELS(x->f->namespace_, x->component), (double)d->waited_ms / 1000);
    if (x->n_prefix && !x->by_text)
        jr_metric_observe(x->f->metrics, JR_METRIC_FRONTEND_KV_HIT_RATE, JR_LABELS(x->model),
                          (double)d->overlap_blocks / x->n_prefix);
    jr_sm_move(&x->sm, JR_PROXY_UPSTREAM, "decided");
    jr_pools_sent(x->f, x->pool, x->worker_id);
    err = jr_proxy_send(x, d->url);
    if (err < 0) {
        jr_proxy_judge_worker(x, err);
        jr_proxy_retry(x, err);
    }
}

void jr_proxy_route(struct jr_proxied *x)
{
    jr_sm_move(&x->sm, JR_PROXY_ROUTE, "");
    x->id = jr_driver_request_id(x->driver);
    uint64_t left_ms = jr_proxy_time_left_ms(x);
    struct jr_route r = {
        .id = x->id,
        .tokens = x->n_tokens,
        .prefix = x->prefix,
        .n_prefix = x->n_prefix,
        .by_text = x->by_text,
        .has_pin = x->has_pin,
        .pin_worker = x->pin,
        .has_pin_rank = x->has_pin_rank,
        .pin_rank = x->pin_rank,
        .query_only = x->query_only,
        .expected_output_tokens = x->expected_output_tokens,
        .priority_jump_s = x->priority_jump_s,
        .strict_priority = x->strict_priority,
        .want_record = jr_access_log_wants_decisions(x->f->access_log),
        .wait_max_ms = left_ms < UINT32_MAX ? (uint32_t)(left_ms ? left_ms : 1) : 0,
    };
    x->left_out = jr_pools_limit(x->f, x->pool, x->model, x->exclude, x->n_exclude,
                                 x->with_aside || x->has_pin, &r);
    if (jr_driver_route(x->driver, &r, on_decided, x) < 0) {
        x->id = 0;
        jr_proxy_end_error(x, JR_ERROR_NO_ROOM, NULL);
    }
}

/* ---------------------------------------------------------------- start */

/* The pool that serves the model; false with known true is an unknown model. */
static bool find_pool(struct jr_proxied *x, bool *ret_known)
{
    int at = jr_pools_find(x->f, x->model, ret_known);
    if (at < 0)
        return false;
    x->pool = (uint32_t)at;
    x->driver = x->f->drivers[at];
    x->component = x->f->components[at];
    return true;
}

/* The first of these headers that is there and a whole number. */
static bool header_number(const struct jr_proxied *x, const char *const *names, uint64_t max,
                          uint64_t *ret)
{
    for (; *names; names++) {
        struct jr_str v = jr_http_request_header(x->req, *names);
        if (v.n && jr_parse_u64(v.p, v.n, ret) == 0 && *ret <= max)
            return true;
    }
    return false;
}

/* The newest name wins, and a header over the body. Our workers do prefill and decode, so what is said
 * of one phase alone (decode_worker_id, x-prefill-instance-id, ...) names nobody. A rank is one of the
 * worker that is named: without one it says nothing. */
static void read_pin(struct jr_proxied *x, const struct jr_openai_request *r)
{
    static const char *const workers[] = {"x-dynamo-worker-instance-id", "x-worker-instance-id",
                                          NULL};
    static const char *const ranks[] = {"x-dynamo-dp-rank", "x-dp-rank", "x-data-parallel-rank",
                                        NULL};
    uint64_t rank;
    x->has_pin = header_number(x, workers, UINT64_MAX, &x->pin);
    if (!x->has_pin && r->nvext.has_backend_instance_id) {
        x->has_pin = true;
        x->pin = r->nvext.backend_instance_id;
    }
    x->has_pin_rank = x->has_pin && header_number(x, ranks, UINT32_MAX, &rank);
    if (x->has_pin_rank)
        x->pin_rank = (uint32_t)rank;
}

/* Headers win over the body. A priority in either is seconds ahead in the queue; what the engine
 * makes of it is its own affair. */
static void read_hints(struct jr_proxied *x, const struct jr_openai_request *r)
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

static struct jr_proxied *new_proxied(struct jr_frontend *f, struct jr_http_request *req,
                                      const struct jr_openai_request *r, struct jr_buf *own)
{
    struct jr_proxied *x = jr_xalloc(sizeof *x);
    x->f = f;
    x->req = req;
    x->kind = r->kind;
    x->stream = r->stream;
    x->query_only = jr_query_is_asked(&r->nvext);
    x->started_ns = jr_loop_now_ns();
    size_t n = r->model.n < sizeof x->model - 1 ? r->model.n : sizeof x->model - 1;
    if (n) /* other paths need not name one */
        memcpy(x->model, r->model.p, n);
    jr_sm_init(&x->sm, &table, x, NULL, JR_PROXY_START);
    jr_sse_init(&x->sse, SSE_EVENT_MAX);
    jr_buf_init(&x->kept, REPLY_KEPT_MAX);
    jr_list_push_back(&f->proxied, &x->node);
    f->inflight++;
    x->alias_body = *own;
    x->asked = own->n ? jr_str_of((const char *)own->p, own->n) : jr_http_request_body(req);
    x->body = x->asked;
    jr_proxy_read_headers(x, r->user);
    jr_proxy_log_begin(x);
    read_pin(x, r);
    read_hints(x, r);
    jr_proxy_extra_read(x, r);
    jr_http_request_watch(req, on_gone, jr_proxy_on_writable, x);
    return x;
}

/* A pool for it, or its end. */
static bool place(struct jr_proxied *x)
{
    bool known;
    if (find_pool(x, &known))
        return true;
    char words[JR_MODEL_MAX + 96];
    snprintf(words, sizeof words, "the model \"%.*s\" is not served here: see /v1/models", 200,
             x->model);
    if (known)
        jr_proxy_end_error(x, JR_ERROR_MODEL_NOT_FOUND, words);
    else
        jr_proxy_end_error(x, JR_ERROR_NO_WORKER, NULL);
    return false;
}

struct jr_proxied *jr_proxy_begin(struct jr_frontend *f, struct jr_http_request *req,
                                  const struct jr_openai_request *r, struct jr_buf *own,
                                  bool passed)
{
    if (own->err) {
        jr_buf_deinit(own);
        jr_service_error(f, req, JR_ERROR_NO_ROOM, NULL, "no room for the request: retry later");
        return NULL;
    }
    struct jr_proxied *x = new_proxied(f, req, r, own);
    x->passed = passed;
    return place(x) ? x : NULL;
}

static void refuse(struct jr_frontend *f, struct jr_http_request *req, enum jr_openai_kind kind,
                   int err, const struct jr_openai_error *bad)
{
    enum jr_error error = err == JR_ENOMEM ? JR_ERROR_NO_ROOM : JR_ERROR_BAD_BODY;
    jr_metric_add(f->metrics, JR_METRIC_FRONTEND_REQUESTS_TOTAL,
                  JR_LABELS("", kind == JR_OPENAI_CHAT ? "chat_completions" : "completions",
                            "unary", "error", "validation"),
                  1);
    jr_proxy_log_refused(f, req, kind, jr_service_status(f, error));
    jr_service_error(f, req, error, bad->param, bad->msg.text[0] ? bad->msg.text : NULL);
}

/* The body with the model that the alias stands for, read anew: whatever was read lies elsewhere. */
static int take_alias(struct jr_frontend *f, struct jr_str body, const char *model,
                      struct jr_openai_request *r, struct jr_buf *own, struct jr_openai_error *bad)
{
    jr_buf_init(own, body.n + JR_ALIAS_MORE);
    jr_openai_put_model(body, r->model_span, model, own);
    return own->err ? own->err
                    : jr_openai_parse(f->parser, r->kind, own->p, own->n, &f->tokens, r, bad);
}

void jr_proxy_request(struct jr_frontend *f, struct jr_http_request *req, enum jr_openai_kind kind)
{
    struct jr_str body = jr_http_request_body(req);
    struct jr_openai_request r;
    struct jr_openai_error bad = {0};
    struct jr_buf own;
    jr_buf_init(&own, 0);
    int err = jr_openai_parse(f->parser, kind, body.p, body.n, &f->tokens, &r, &bad);
    const char *model = err == 0 ? jr_pools_alias(f, r.model) : NULL;
    if (model)
        err = take_alias(f, body, model, &r, &own, &bad);
    if (err < 0) {
        jr_buf_deinit(&own);
        refuse(f, req, kind, err, &bad);
        return;
    }
    struct jr_proxied *x = jr_proxy_begin(f, req, &r, &own, false);
    if (x)
        jr_proxy_tokenize(x, &r);
}

/* The drain took too long, or a second signal came. */
void jr_proxy_abort_all(struct jr_frontend *f)
{
    /* The end of one may let another go that waits for a worker, and that may end it: no place in the
     * list is sure but the first. */
    while (!jr_list_empty(&f->proxied)) {
        struct jr_proxied *x = JR_CONTAINER_OF(f->proxied.next, struct jr_proxied, node);
        if (x->exchange)
            jr_http_exchange_cancel(x->exchange);
        x->exchange = NULL;
        jr_proxy_unbook(x);
        jr_proxy_count_end(x, "error", "cancelled");
        jr_http_request_watch(x->req, NULL, NULL, NULL);
        jr_http_respond_end(x->req, true);
        jr_proxy_free(x);
    }
}
