/* SPDX-License-Identifier: Apache-2.0 */
/* decide: the main loop's side, where the pools are. */
#include "app/frontend/decide_internal.h"

#include <string.h>

static void reply(struct jr_ticket *t, struct jr_msg *msg, void (*deliver)(struct jr_msg *msg))
{
    msg->deliver = deliver;
    jr_loop_post(t->l->loop, msg);
}

/* ---------------------------------------------------------------- place */

enum jr_placed jr_decide_find(struct jr_frontend *f, const char *model, struct jr_place *ret)
{
    bool known, named;
    int at = jr_pools_find(f, model, &known, &named);
    if (at < 0)
        return known ? JR_PLACED_UNKNOWN : JR_PLACED_NO_WORKER;
    *ret = (struct jr_place){.pool = (uint32_t)at,
                             .named = named,
                             .component = f->components[at],
                             .block_size = jr_pool_block_size(jr_driver_pool(f->drivers[at]))};
    return JR_PLACED;
}

static void answer_place(struct jr_ticket *t, const char *model, enum jr_placed placed,
                         const struct jr_place *place)
{
    struct jr_answer_place *a = jr_xalloc(sizeof *a);
    a->t = t;
    a->placed = placed;
    a->place = *place;
    (void)jr_str_copy(a->model, sizeof a->model, model);
    reply(t, &a->msg, jr_decide_placed);
}

void jr_decide_on_place(struct jr_msg *msg)
{
    struct jr_order_place *o = JR_CONTAINER_OF(msg, struct jr_order_place, msg);
    struct jr_place place = {.pool = 0};
    enum jr_placed placed = jr_decide_find(o->t->l->f, o->model, &place);
    answer_place(o->t, o->model, placed, &place);
    jr_xfree(o);
}

/* ---------------------------------------------------------------- route */

int jr_decide_ask(struct jr_frontend *f, struct jr_decide_question *q, uint64_t *ret_id,
                  bool *ret_left_out, jr_driver_decided_fn *fn, void *ctx)
{
    struct jr_driver *d = f->drivers[q->pool];
    if (!q->route.id)
        q->route.id = jr_driver_request_id(d);
    *ret_id = q->route.id;
    *ret_left_out =
        jr_pools_limit(f, q->pool, q->model, q->exclude, q->n_exclude, q->with_aside, &q->route);
    f->routes.hash_ns = q->hash_ns;
    return jr_driver_route(d, &q->route, fn, ctx);
}

struct jr_access_decision *jr_decide_record(struct jr_frontend *f, uint32_t pool,
                                            const struct jr_decision *d, bool query_only)
{
    if (!d || query_only || !jr_access_log_wants_decisions(f->access_log))
        return NULL;
    return jr_access_decision_copy(jr_driver_pool(f->drivers[pool]), d);
}

static void answer_route(struct jr_ticket *t, const struct jr_decision *d, int err, const char *why)
{
    struct jr_answer_route *a = jr_xalloc(sizeof *a);
    a->t = t;
    a->refused = !d;
    a->err = err;
    a->left_out = t->left_out;
    (void)jr_str_copy(a->why, sizeof a->why, why ? why : "");
    if (!d && why && jr_driver_refusal(t->driver))
        a->limit = *jr_driver_refusal(t->driver);
    if (d) {
        a->d = *d;
        (void)jr_str_copy(a->url, sizeof a->url, d->url);
        (void)jr_str_copy(a->model, sizeof a->model, d->model);
        a->record = jr_decide_record(t->l->f, t->pool, d, t->query_only);
    }
    reply(t, &a->msg, jr_decide_routed);
}

static void on_decided(void *ctx, const struct jr_decision *d, int err, const char *why)
{
    struct jr_ticket *t = ctx;
    if (!d || t->query_only)
        t->id = 0; /* nothing was booked */
    else
        jr_pools_sent(t->l->f, t->pool, d->worker_id);
    t->worker_id = d ? d->worker_id : 0;
    t->dp_rank = d ? d->dp_rank : 0;
    answer_route(t, d, err, why);
}

/* Another pool serves the model now, or none, or by now a worker has said that it does: the request is
 * read anew for where it goes, and what its loop remembers is mended. */
static bool is_misplaced(struct jr_order_route *o)
{
    struct jr_place place = {.pool = 0};
    enum jr_placed placed = jr_decide_find(o->t->l->f, o->model, &place);
    if (placed == JR_PLACED && place.pool == o->q.pool && place.block_size == o->block_size &&
        place.named == o->named)
        return false;
    answer_place(o->t, o->model, placed, &place);
    return true;
}

void jr_decide_on_route(struct jr_msg *msg)
{
    struct jr_order_route *o = JR_CONTAINER_OF(msg, struct jr_order_route, msg);
    struct jr_ticket *t = o->t;
    struct jr_frontend *f = t->l->f;
    if (!o->check || !is_misplaced(o)) {
        t->pool = o->q.pool;
        t->driver = f->drivers[t->pool];
        t->query_only = o->q.route.query_only;
        t->tokens = o->q.route.tokens;
        int err = jr_decide_ask(f, &o->q, &t->id, &t->left_out, on_decided, t);
        if (err < 0) {
            t->id = 0;
            answer_route(t, NULL, JR_ENOMEM, NULL);
        }
    }
    jr_xfree(o);
}

/* ---------------------------------------------------------------- what is told */

/* What is read here is of the present booking: its loop writes of the next one only once this
 * message is through. */
void jr_decide_on_progress(struct jr_msg *msg)
{
    struct jr_ticket *t = JR_CONTAINER_OF(msg, struct jr_ticket, progress);
    atomic_store(&t->progress_out, false);
    bool first = atomic_exchange(&t->first_token, false);
    uint32_t output = atomic_exchange(&t->output, 0);
    if (t->id == 0)
        return;
    if (first) {
        uint32_t us = atomic_load(&t->ttft_us);
        if (us)
            jr_worker_last_first_token(&t->l->f->lasts, t->pool, t->worker_id, t->dp_rank, us / 1e6,
                                       t->tokens);
        jr_driver_first_token(t->driver, t->id);
    }
    if (output)
        jr_driver_output(t->driver, t->id, output);
}

static void end_booking(struct jr_ticket *t)
{
    uint64_t id = t->id;
    t->id = 0;
    if (id)
        jr_driver_finish(t->driver, id);
}

void jr_decide_on_finish(struct jr_msg *msg)
{
    struct jr_order_finish *o = JR_CONTAINER_OF(msg, struct jr_order_finish, msg);
    if (o->itl_s > 0 && o->t->id)
        jr_worker_last_tokens(&o->t->l->f->lasts, o->t->pool, o->t->worker_id, o->t->dp_rank,
                              o->itl_s);
    end_booking(o->t);
    jr_xfree(o);
}

void jr_decide_on_leave(struct jr_msg *msg)
{
    struct jr_ticket *t = JR_CONTAINER_OF(msg, struct jr_ticket, leave);
    jr_tokenizer_leave(&t->waiter);
    end_booking(t);
    reply(t, &t->closed, jr_decide_closed);
}

/* ---------------------------------------------------------------- tokens */

static void answer_tokens(struct jr_ticket *t, const struct jr_decide_tokens *tokens)
{
    struct jr_answer_tokens *a = jr_xalloc(sizeof *a);
    a->t = t;
    a->a = *tokens;
    a->a.ids = tokens->n ? jr_xmemdup(tokens->ids, tokens->n * sizeof *tokens->ids) : NULL;
    a->a.prefix = tokens->n_prefix
                      ? jr_xmemdup(tokens->prefix, tokens->n_prefix * sizeof *tokens->prefix)
                      : NULL;
    reply(t, &a->msg, jr_decide_tokenized);
}

static void on_tokenized(void *ctx, int err, const uint32_t *ids, uint32_t n)
{
    answer_tokens(ctx, &(struct jr_decide_tokens){
                           .err = err, .ids = ids, .n = n, .exact = true, .n_whole = n});
}

static void answer_found(struct jr_ticket *t, const struct jr_tokens_found *found,
                         const struct jr_openai_request *r, uint32_t block_size)
{
    const struct jr_hash_salt salt = {.lora = r->lora_name, .cache_salt = r->cache_salt};
    struct jr_decide_tokens a = {
        .ids = found->ids, .n = found->n, .exact = found->exact, .n_whole = found->n_whole};
    if (block_size && found->n >= block_size)
        a.prefix = jr_tokenizer_hashes(t->l->f->tokenizer, found, &salt, block_size, &a.n_prefix);
    if (!a.prefix)
        a.n_prefix = 0;
    answer_tokens(t, &a);
}

/* 1, 0 or an error, as jr_tokenizer_get. The body was read once, on its loop: here again, since what
 * was read lives there. */
static int ask_tokenizer(const struct jr_order_tokens *o)
{
    struct jr_frontend *f = o->t->l->f;
    struct jr_pool *pool = jr_driver_pool(f->drivers[o->pool]);
    struct jr_openai_request r;
    struct jr_openai_error bad;
    int rv = jr_openai_parse(f->main.parser, o->kind, o->body, o->n, &f->main.tokens, &r, &bad);
    if (rv < 0)
        return rv;
    const struct jr_token_question q = {.pool = pool,
                                        .component = f->components[o->pool],
                                        .pool_number = o->pool,
                                        .model = o->model,
                                        .request = &r,
                                        .body = jr_str_of((const char *)o->body, o->n),
                                        .exact = o->exact,
                                        .time_left_ms = o->time_left_ms};
    struct jr_tokens_found found;
    rv = jr_tokenizer_get(f->tokenizer, &q, &found, &o->t->waiter, on_tokenized, o->t);
    if (rv == 1)
        answer_found(o->t, &found, &r, jr_pool_block_size(pool));
    return rv;
}

void jr_decide_on_tokens(struct jr_msg *msg)
{
    struct jr_order_tokens *o = JR_CONTAINER_OF(msg, struct jr_order_tokens, msg);
    int rv = ask_tokenizer(o);
    if (rv < 0)
        answer_tokens(o->t, &(struct jr_decide_tokens){.err = rv});
    jr_xfree(o);
}
