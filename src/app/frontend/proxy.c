/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: a request is understood, given to a worker, and ended; proxy_internal.h has the machine. */
#include "app/frontend/proxy_internal.h"
#include "app/frontend/access_log.h"
#include "app/frontend/proxy_spans.h"
#include "app/frontend/query.h"
#include "app/frontend/session.h"

#include "base/cursor.h"
#include "wire/openai_model.h"

#include <stdlib.h>
#include <string.h>

#define SSE_EVENT_MAX  ((size_t)1 << 20)
#define REPLY_KEPT_MAX ((size_t)4 << 20)  /* of an answer that is not streamed, to read its usage */
#define TRIES_MAX      8                  /* of placing a request */
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

/* One thread writes it: no need of more than a load and a store. */
static void count_inflight(struct jr_front_loop *l, int by)
{
    const unsigned n = atomic_load_explicit(&l->inflight, memory_order_relaxed);
    atomic_store_explicit(&l->inflight, n + (unsigned)by, memory_order_relaxed);
}

void jr_proxy_free(struct jr_proxied *x)
{
    jr_list_remove(&x->node);
    count_inflight(x->l, -1);
    jr_xfree(x->prefix);
    jr_xfree(x->query_ids);
    jr_sse_deinit(&x->sse);
    jr_buf_deinit(&x->kept);
    jr_buf_deinit(&x->own_body);
    jr_buf_deinit(&x->alias_body);
    jr_proxy_resume_free(x);
    jr_proxy_refused_free(x);
    jr_xfree(x->lora);
    jr_xfree(x->cache_salt);
    jr_tokenizer_leave(&x->waiter);
    jr_xfree(x->decision);
    jr_spans_free(x);
    jr_proxy_extra_free(x);
    jr_proxy_hold_free(x);
    if (x->dialect)
        x->dialect->free(x);
    jr_decide_leave(x);
    jr_xfree(x);
}

const char *jr_proxy_endpoint(const struct jr_proxied *x)
{
    if (x->dialect)
        return x->dialect->endpoint;
    if (x->passed)
        return jr_proxy_passed_endpoint(jr_http_request_path(x->req));
    return x->kind == JR_OPENAI_CHAT ? "chat_completions" : "completions";
}

void jr_proxy_count_end(struct jr_proxied *x, const char *status, const char *error_type)
{
    double secs = (double)(jr_loop_now_ns() - x->started_ns) / 1e9;
    jr_metric_add(x->l->metrics, JR_METRIC_FRONTEND_REQUESTS_TOTAL,
                  JR_LABELS(x->counted->model, jr_proxy_endpoint(x), x->stream ? "stream" : "unary",
                            status, error_type),
                  1);
    jr_series_observe(x->counted->duration, secs);
    if (x->attempts > 0)
        jr_series_add(x->l->requests.requests, 1);
    jr_proxy_log_end(x, error_type);
    jr_spans_end(x, error_type);
}

/* An error of ours: the answer, or the last event of one that was relayed so far. */
void jr_proxy_end_error(struct jr_proxied *x, enum jr_error error, const char *message)
{
    int status = jr_service_status(x->f, error);
    if (jr_proxy_refused_relay(x))
        return;
    if (x->status) {
        jr_proxy_end_cut(x, error, message ? message : jr_error_row(error)->message);
        return;
    }
    jr_decide_finish(x);
    x->status = status;
    jr_proxy_count_end(x, "error",
                       status == 404  ? "not_found"
                       : status < 500 ? "validation"
                                      : "internal");
    jr_service_refuse(x->l, x->req, error, message, jr_proxy_own_lines(x), x->limit);
    jr_proxy_free(x);
}

static void on_gone(void *ctx)
{
    struct jr_proxied *x = ctx;
    if (x->exchange)
        jr_http_exchange_cancel(x->exchange);
    x->exchange = NULL;
    if (x->sm.state == JR_PROXY_UPSTREAM)
        jr_decide_note(x, JR_NOTE_UNKNOWN, NULL);
    jr_decide_finish(x);
    jr_metric_add(x->l->metrics, JR_METRIC_FRONTEND_DISCONNECTED_CLIENTS, JR_NO_LABELS, 1);
    jr_proxy_count_end(x, "error", "cancelled");
    jr_http_respond_end(x->req, true);
    jr_proxy_free(x);
}

static void end_query(struct jr_proxied *x, const struct jr_decision *d)
{
    struct jr_buf b;
    jr_buf_init(&b, QUERY_MAX);
    if (x->dialect)
        x->dialect->query(x, d, &b);
    else
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

static void count_routed(struct jr_proxied *x, const struct jr_decision *d)
{
    struct jr_request_metrics *r = &x->l->requests;
    if (x->attempts == 1 && x->n_tokens)
        jr_series_observe(r->input, x->n_tokens);
    if (x->n_prefix == 0 || x->by_text)
        return;
    double rate = (double)d->overlap_blocks / x->n_prefix;
    jr_series_observe(x->counted->hit_rate, rate);
    jr_series_observe(r->hit_rate, rate);
}

/* When the pool has answered, for until then a request may be read anew, and be of another model. */
static void count_input(struct jr_proxied *x)
{
    if (x->input_due)
        jr_series_observe(x->counted->input, x->n_tokens);
    x->input_due = false;
}

void jr_proxy_decided(struct jr_proxied *x, const struct jr_decided *decided)
{
    const struct jr_decision *d = decided->d;
    jr_proxy_log_decided(x, decided->record);
    jr_spans_decided(x, decided);
    count_input(x);
    if (!d && decided->err == JR_ENOWORKER && x->left_out && !x->with_aside) {
        x->with_aside = true; /* better one that fails often than none */
        jr_proxy_route(x);
        return;
    }
    if (!d) {
        x->id = 0;
        x->limit = decided->limit;
        jr_proxy_end_error(x,
                           decided->limit ? JR_ERROR_QUEUE_LIMITED
                                          : jr_error_of_refusal(decided->err, x->has_pin),
                           decided->why);
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
    x->sent_ns = jr_loop_now_ns();
    if (d->waited)
        jr_metric_observe(x->l->metrics, JR_METRIC_QUEUE_WAIT_SECONDS,
                          JR_LABELS(x->f->namespace_, x->place.component),
                          (double)d->waited_ms / 1000);
    count_routed(x, d);
    jr_sm_move(&x->sm, JR_PROXY_UPSTREAM, "decided");
    jr_decide_note(x, JR_NOTE_SENT, NULL);
    jr_decide_lend_prefix(x);
    if (x->dialect && !jr_proxy_resumes(x))
        x->dialect->decided(x, d);
    jr_proxy_hold_sent(x, d->url);
    jr_spans_send(x, d->url);
    int err = jr_proxy_send(x, d->url);
    if (err < 0) {
        jr_proxy_judge_worker(x, err);
        jr_proxy_retry(x, err);
    }
}

void jr_proxy_route(struct jr_proxied *x)
{
    jr_sm_move(&x->sm, JR_PROXY_ROUTE, "");
    jr_spans_decide(x);
    if (jr_decide_route(x) < 0) {
        x->id = 0;
        jr_proxy_end_error(x, JR_ERROR_NO_ROOM, NULL);
    }
}

/* ---------------------------------------------------------------- start */

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
    x->policy_class = jr_policy_name_id(jr_http_request_header(x->req, JR_POLICY_HEADER));
}

static struct jr_proxied *new_proxied(struct jr_front_loop *l, struct jr_http_request *req,
                                      const struct jr_openai_request *r, struct jr_buf *own)
{
    struct jr_proxied *x = jr_xalloc(sizeof *x);
    x->l = l;
    x->f = l->f;
    x->tries = l->tries;
    x->req = req;
    x->counted = jr_request_metrics_of(&l->requests, "");
    x->kind = r->kind;
    x->stream = r->stream;
    x->query_only = jr_query_is_asked(&r->nvext);
    x->started_ns = l->tries ? l->tried_ns : jr_loop_now_ns();
    size_t n = r->model.n < sizeof x->model - 1 ? r->model.n : sizeof x->model - 1;
    if (n) /* other paths need not name one */
        memcpy(x->model, r->model.p, n);
    jr_sm_init(&x->sm, &table, x, NULL, JR_PROXY_START);
    jr_sse_init(&x->sse, SSE_EVENT_MAX);
    jr_buf_init(&x->kept, REPLY_KEPT_MAX);
    jr_list_push_back(&l->proxied, &x->node);
    count_inflight(l, 1);
    x->alias_body = *own;
    x->asked = own->n ? jr_str_of((const char *)own->p, own->n) : jr_http_request_body(req);
    x->body = x->asked;
    jr_proxy_read_headers(x, r->user);
    jr_proxy_log_begin(x);
    jr_spans_begin(x);
    read_pin(x, r);
    read_hints(x, r);
    jr_proxy_extra_read(x, r);
    jr_proxy_hold_read(x, r);
    jr_http_request_watch(req, on_gone, jr_proxy_on_writable, x);
    return x;
}

void jr_proxy_not_placed(struct jr_proxied *x, enum jr_placed placed)
{
    char words[JR_MODEL_MAX + 96];
    snprintf(words, sizeof words, "the model \"%.*s\" is not served here: see /v1/models", 200,
             x->model);
    if (placed == JR_PLACED_UNKNOWN)
        jr_proxy_end_error(x, JR_ERROR_MODEL_NOT_FOUND, words);
    else if (placed == JR_PLACED_NO_ROOM)
        jr_proxy_end_error(x, JR_ERROR_NO_ROOM, NULL);
    else
        jr_proxy_end_error(x, JR_ERROR_NO_WORKER, NULL);
}

/* A pool for it; false: it waits for one, or has ended. */
static bool place(struct jr_proxied *x)
{
    enum jr_placed placed = jr_decide_place(x);
    x->placed = placed == JR_PLACED;
    if (x->placed && x->place.named) /* what only clients say is no label */
        x->counted = jr_request_metrics_of(&x->l->requests, x->model);
    if (placed != JR_PLACED && placed != JR_PLACED_LATER)
        jr_proxy_not_placed(x, placed);
    return placed == JR_PLACED;
}

struct jr_proxied *jr_proxy_begin(struct jr_front_loop *l, struct jr_http_request *req,
                                  const struct jr_openai_request *r, struct jr_buf *own,
                                  bool passed, const struct jr_proxy_dialect *dialect)
{
    if (own->err) {
        jr_buf_deinit(own);
        jr_service_error(l, req, JR_ERROR_NO_ROOM, NULL, "no room for the request: retry later");
        return NULL;
    }
    struct jr_proxied *x = new_proxied(l, req, r, own);
    x->passed = passed;
    x->dialect = dialect;
    if (jr_session_read(l->f->cfg, req, &x->session) < 0) {
        jr_proxy_end_error(x, JR_ERROR_BAD_ROUTE, JR_SESSION_TOO_LONG);
        return NULL;
    }
    return place(x) ? x : NULL;
}

void jr_proxy_refuse(struct jr_front_loop *l, struct jr_http_request *req, enum jr_openai_kind kind,
                     int err, const struct jr_openai_error *bad)
{
    enum jr_error error = err == JR_ENOMEM ? JR_ERROR_NO_ROOM : JR_ERROR_BAD_BODY;
    jr_metric_add(l->metrics, JR_METRIC_FRONTEND_REQUESTS_TOTAL,
                  JR_LABELS("", kind == JR_OPENAI_CHAT ? "chat_completions" : "completions",
                            "unary", "error", "validation"),
                  1);
    jr_proxy_log_refused(l, req, kind, jr_service_status(l->f, error));
    jr_spans_refused(l, req, kind, jr_service_status(l->f, error));
    jr_service_error(l, req, error, bad->param, bad->msg.text[0] ? bad->msg.text : NULL);
}

/* The body with the model that the alias stands for, read anew: whatever was read lies elsewhere. */
static int take_alias(struct jr_front_loop *l, struct jr_str body, const char *model,
                      struct jr_openai_request *r, struct jr_buf *own, struct jr_openai_error *bad)
{
    jr_buf_init(own, body.n + JR_ALIAS_MORE);
    jr_openai_put_model(body, r->model_span, model, own);
    return own->err ? own->err
                    : jr_openai_parse(l->parser, r->kind, own->p, own->n, &l->tokens, r, bad);
}

void jr_proxy_request(struct jr_front_loop *l, struct jr_http_request *req,
                      enum jr_openai_kind kind)
{
    struct jr_str body = jr_http_request_body(req);
    struct jr_openai_request r;
    struct jr_openai_error bad = {0};
    struct jr_buf own;
    jr_buf_init(&own, 0);
    int err = jr_openai_parse(l->parser, kind, body.p, body.n, &l->tokens, &r, &bad);
    const char *model = err == 0 ? jr_pools_alias(l->f, r.model) : NULL;
    if (model)
        err = take_alias(l, body, model, &r, &own, &bad);
    if (err < 0) {
        jr_buf_deinit(&own);
        jr_proxy_refuse(l, req, kind, err, &bad);
        return;
    }
    struct jr_proxied *x = jr_proxy_begin(l, req, &r, &own, false, NULL);
    if (x)
        jr_proxy_tokenize(x, &r);
}

void jr_proxy_again(struct jr_proxied *x)
{
    struct jr_front_loop *l = x->l;
    struct jr_http_request *req = x->req;
    const enum jr_openai_kind kind = x->kind;
    const bool passed = x->passed;
    const struct jr_proxy_dialect *dialect = x->dialect;
    if (x->tries == TRIES_MAX) { /* workers come and go faster than it is read */
        jr_proxy_end_error(x, JR_ERROR_NO_WORKER, NULL);
        return;
    }
    l->tries = x->tries + 1;
    l->tried_ns = x->started_ns;
    jr_http_request_watch(req, NULL, NULL, NULL);
    jr_spans_keep(x);
    jr_proxy_free(x);
    if (dialect)
        dialect->again(l, req);
    else if (passed)
        jr_proxy_pass(l, req);
    else
        jr_proxy_request(l, req, kind);
    l->tries = 0;
    jr_xfree(l->kept_spans); /* it was refused this time */
    l->kept_spans = NULL;
}

/* The drain took too long, or a second signal came. */
void jr_proxy_abort_all(struct jr_front_loop *l)
{
    /* The end of one may let another go that waits for a worker, and that may end it: no place in the
     * list is sure but the first. */
    while (!jr_list_empty(&l->proxied)) {
        struct jr_proxied *x = JR_CONTAINER_OF(l->proxied.next, struct jr_proxied, node);
        if (x->exchange)
            jr_http_exchange_cancel(x->exchange);
        x->exchange = NULL;
        jr_decide_finish(x);
        jr_proxy_count_end(x, "error", "cancelled");
        jr_http_request_watch(x->req, NULL, NULL, NULL);
        jr_http_respond_end(x->req, true);
        jr_proxy_free(x);
    }
}
