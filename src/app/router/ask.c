/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/ask.h"

#include "app/frontend/decide_internal.h"
#include "app/frontend/session.h"
#include "app/router/booking.h"
#include "app/router/route_body.h"
#include "core/hash.h"

#include <inttypes.h>
#include <string.h>

#define ANSWER_MAX ((size_t)8 << 20) /* some 10,000 candidates in words */

struct ask {
    struct jr_list node; /* f->asked */
    struct jr_frontend *f;
    struct jr_http_request *req;
    struct jr_place place;
    struct jr_route_fields fields;
    bool bare; /* ids alone were given: the worker alone is told */
    bool book;
    uint64_t session; /* 0: of none */
    uint32_t n_tokens;
    uint64_t *prefix; /* owned */
    uint32_t n_prefix;
    uint64_t id; /* with the driver */
    bool left_out, with_aside;
};

static void free_ask(struct ask *a)
{
    jr_list_remove(&a->node);
    jr_xfree(a->prefix);
    jr_xfree(a);
}

static void end_error(struct ask *a, enum jr_error error, const char *param, const char *words)
{
    jr_service_error(&a->f->main, a->req, error, param, words);
    free_ask(a);
}

static void end_json(struct ask *a, struct jr_buf *b)
{
    if (b->err)
        jr_service_error(&a->f->main, a->req, JR_ERROR_NO_ROOM, NULL,
                         "no room for the answer: retry later");
    else
        jr_http_respond(a->req, 200, "application/json", NULL, b->p, b->n);
    jr_buf_deinit(b);
    free_ask(a);
}

/* Nobody waits for the answer any more. */
static void cut(struct ask *a)
{
    jr_driver_finish(a->f->drivers[a->place.pool], a->id);
    jr_http_respond_end(a->req, true);
    free_ask(a);
}

static void on_gone(void *ctx)
{
    cut(ctx);
}

void jr_ask_stop(struct jr_frontend *f)
{
    while (!jr_list_empty(&f->asked)) {
        struct ask *a = JR_CONTAINER_OF(f->asked.next, struct ask, node);
        jr_http_request_watch(a->req, NULL, NULL, NULL);
        cut(a);
    }
}

/* ---------------------------------------------------------------- the answer */

/* What it would have there with this request: Dynamo's potential loads. */
static void put_candidate(struct jr_buf *b, const struct jr_candidate *c)
{
    jr_buf_printf(b,
                  "{\"worker_id\":%" PRIu64 ",\"dp_rank\":%u,\"overlap_blocks\":%u,\"cost\":%.9g,"
                  "\"prefill_tokens\":%" PRIu64 ",\"decode_blocks\":%" PRIu64
                  ",\"active_requests\":%u,\"potential_prefill_tokens\":%" PRIu64
                  ",\"potential_decode_blocks\":%" PRIu64 "}",
                  c->worker_id, c->dp_rank, c->overlap_blocks, c->cost, c->prefill_tokens,
                  c->active_blocks, c->requests, c->prefill_tokens + c->uncached_tokens,
                  c->active_blocks + c->new_blocks);
}

static void put_best(struct jr_buf *b, const struct ask *a, const struct jr_decision *d)
{
    const struct jr_candidate *c = jr_pool_record(jr_driver_pool(a->f->drivers[a->place.pool]), d);
    jr_buf_printf(b,
                  "{\"worker_id\":%" PRIu64 ",\"dp_rank\":%u,\"overlap_blocks\":%u,"
                  "\"prompt_blocks\":%u,\"block_size\":%u,\"candidates\":[",
                  d->worker_id, d->dp_rank, d->overlap_blocks, a->n_prefix, a->place.block_size);
    for (uint32_t i = 0; c && i < d->n_record; i++) {
        jr_buf_puts(b, i ? "," : "");
        put_candidate(b, &c[i]);
    }
    jr_buf_puts(b, "]}");
}

static void put_booking(struct jr_buf *b, const struct ask *a, const struct jr_outside_view *v,
                        uint32_t overlap, bool repeated)
{
    const struct jr_frontend *f = a->f;
    jr_buf_puts(b, "{\"request_id\":");
    jr_buf_json_str(b, a->fields.request_id);
    jr_buf_printf(b, ",\"worker_id\":%" PRIu64 ",\"dp_rank\":%u,\"url\":", v->worker_id,
                  v->dp_rank);
    jr_buf_json_str(b, v->url);
    jr_buf_puts(b, ",\"model\":");
    jr_buf_json_str(b, v->model);
    jr_buf_printf(b,
                  ",\"overlap_blocks\":%u,\"prompt_blocks\":%u,\"block_size\":%u,"
                  "\"booking\":{\"replica\":",
                  overlap, a->n_prefix, a->place.block_size);
    jr_buf_json_str(b, v->owner);
    jr_buf_printf(b, ",\"repeated\":%s,\"expires_secs\":%.3g}}", repeated ? "true" : "false",
                  jr_config_f64(f->cfg, JR_CFG_ACTIVE_REQUEST_EXPIRY_SECS));
}

static void put_booked(struct jr_buf *b, const struct ask *a, const struct jr_decision *d)
{
    const struct jr_outside_view v = {.owner = a->f->replica_id,
                                      .worker_id = d->worker_id,
                                      .dp_rank = d->dp_rank,
                                      .url = d->url,
                                      .model = d->model};
    put_booking(b, a, &v, d->overlap_blocks, false);
}

struct score {
    const struct jr_outside_view *v;
    uint32_t blocks;
};

static void on_score(void *ctx, uint64_t worker_id, uint32_t dp_rank, uint32_t blocks)
{
    struct score *s = ctx;
    if (worker_id == s->v->worker_id && dp_rank == s->v->dp_rank)
        s->blocks = blocks;
}

/* The same question again, here or at another replica: the booking that there is. */
static void end_repeated(struct ask *a, const struct jr_outside_view *v)
{
    struct jr_pool *pool = jr_driver_pool(a->f->drivers[a->place.pool]);
    struct score s = {.v = v};
    struct jr_buf b;
    (void)!jr_pool_scores(pool, a->prefix, a->n_prefix, on_score, &s);
    jr_buf_init(&b, ANSWER_MAX);
    put_booking(&b, a, v, s.blocks, true);
    end_json(a, &b);
}

static void end_refused(struct ask *a, int err, const char *why)
{
    const struct jr_queue_refusal *limit = jr_driver_refusal(a->f->drivers[a->place.pool]);
    enum jr_error error =
        limit ? JR_ERROR_QUEUE_LIMITED : jr_error_of_refusal(err, a->fields.has_pin);
    jr_service_refuse(&a->f->main, a->req, error, why, NULL, limit);
    free_ask(a);
}

static void route(struct ask *a);

static void on_decided(void *ctx, const struct jr_decision *d, int err, const char *why)
{
    struct ask *a = ctx;
    struct jr_buf b;
    if (!d && err == JR_ENOWORKER && a->left_out && !a->with_aside) {
        a->with_aside = true; /* better one that fails often than none */
        route(a);
        return;
    }
    if (!d) {
        end_refused(a, err, why);
        return;
    }
    jr_buf_init(&b, ANSWER_MAX);
    if (a->book)
        put_booked(&b, a, d);
    else if (a->bare)
        jr_buf_printf(&b, "{\"data\":{\"data\":%" PRIu64 "},\"complete_final\":false}",
                      d->worker_id);
    else
        put_best(&b, a, d);
    end_json(a, &b);
}

/* ---------------------------------------------------------------- the question */

/* In the queue. 0: no end. */
static uint32_t wait_max_ms(const struct jr_frontend *f)
{
    return (uint32_t)jr_config_ms(f->cfg, JR_CFG_REQUEST_TIMEOUT_SECS);
}

static void route(struct ask *a)
{
    const struct jr_route_fields *r = &a->fields;
    struct jr_decide_question q = {
        .pool = a->place.pool,
        .model = r->model,
        .with_aside = a->with_aside || r->has_pin,
        .route = {
            .tokens = a->n_tokens,
            .prefix = a->prefix,
            .n_prefix = a->n_prefix,
            .has_pin = r->has_pin,
            .pin_worker = r->pin,
            .has_pin_rank = r->has_pin_rank,
            .pin_rank = r->pin_rank,
            .session = a->session,
            .id = a->id,
            .query_only = !a->book,
            .want_record = !a->bare && !a->book,
            .expected_output_tokens = r->expected_output_tokens,
            .priority_jump_s = r->priority_jump_s,
            .strict_priority = r->strict_priority,
            .policy_class = jr_policy_name_id(jr_http_request_header(a->req, JR_POLICY_HEADER)),
            .wait_max_ms = wait_max_ms(a->f),
            .override = r->override,
        }};
    if (jr_decide_ask(a->f, &q, &a->id, &a->left_out, on_decided, a) < 0)
        end_error(a, JR_ERROR_NO_ROOM, NULL, NULL);
}

static void hash(struct ask *a, const struct jr_tokens *ids)
{
    const struct jr_route_fields *r = &a->fields;
    const struct jr_hash_salt salt = {.lora = jr_str_of(r->lora, strlen(r->lora)),
                                      .cache_salt =
                                          jr_str_of(r->cache_salt, strlen(r->cache_salt))};
    uint32_t block_size = a->place.block_size;
    a->n_tokens = ids->n;
    if (!block_size || ids->n < block_size)
        return;
    a->prefix = jr_xalloc(ids->n / block_size * sizeof *a->prefix);
    a->n_prefix = jr_hash_prompt(&salt, ids->v, ids->n, block_size, a->prefix);
}

static int read_body(struct ask *a, struct jr_route_error *bad)
{
    struct jr_str body = jr_http_request_body(a->req);
    json_t *root;
    int err = jr_route_body_load(body, &a->f->main.tokens, &root, bad);
    if (err < 0)
        return err;
    a->bare = json_object_size(root) == 0;
    err = jr_route_body_fields(root, &a->fields, bad);
    json_decref(root);
    return err;
}

/* What is asked, read and placed; NULL: it was answered. */
static struct ask *begin(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_route_error bad = {.param = NULL};
    struct ask *a = jr_xalloc(sizeof *a);
    a->f = f;
    a->req = req;
    jr_list_push_back(&f->asked, &a->node);
    int err = read_body(a, &bad);
    if (err < 0) {
        end_error(a, err == JR_ENOMEM ? JR_ERROR_NO_ROOM : JR_ERROR_BAD_BODY, bad.param,
                  bad.msg.text[0] ? bad.msg.text : NULL);
        return NULL;
    }
    if (jr_session_read(f->cfg, req, &a->session) < 0) {
        end_error(a, JR_ERROR_BAD_ROUTE, NULL, JR_SESSION_TOO_LONG);
        return NULL;
    }
    enum jr_placed placed = jr_decide_find(f, a->fields.model, &a->place);
    if (placed != JR_PLACED) {
        end_error(a, placed == JR_PLACED_UNKNOWN ? JR_ERROR_MODEL_NOT_FOUND : JR_ERROR_NO_WORKER,
                  NULL, NULL);
        return NULL;
    }
    hash(a, &f->main.tokens);
    jr_http_request_watch(req, on_gone, NULL, a);
    return a;
}

void jr_ask_best_worker(struct jr_frontend *f, struct jr_http_request *req)
{
    struct ask *a = begin(f, req);
    if (a)
        route(a);
}

void jr_ask_select(struct jr_frontend *f, struct jr_http_request *req)
{
    struct ask *a = begin(f, req);
    struct jr_outside_view v;
    if (!a)
        return;
    a->book = true;
    if (!a->fields.request_id[0])
        jr_booking_name(&f->main.rng, a->fields.request_id);
    a->id = jr_booking_id(a->fields.request_id);
    struct jr_driver *d = f->drivers[a->place.pool];
    if (jr_pool_find_outside(jr_driver_pool(d), a->id, &v))
        end_repeated(a, &v);
    else if (jr_driver_is_waiting(d, a->id))
        end_error(a, JR_ERROR_CONFLICT, "request_id", NULL);
    else
        route(a);
}

void jr_ask_end(struct jr_frontend *f, uint64_t id)
{
    JR_LIST_FOREACH_SAFE (it, &f->asked) {
        struct ask *a = JR_CONTAINER_OF(it, struct ask, node);
        if (a->id != id)
            continue;
        jr_driver_finish(f->drivers[a->place.pool], id);
        end_error(a, JR_ERROR_CONFLICT, "request_id", "it was freed before it had a worker");
        return;
    }
}
