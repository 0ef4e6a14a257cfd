/* SPDX-License-Identifier: Apache-2.0 */
/* decide: the request's side. On the main loop what is asked is called; elsewhere it is sent. */
#include "app/frontend/decide_internal.h"

#include "base/assert.h"
#include "base/limit.h"

#include <string.h>

#define PREFIX_LONG 128 /* hashes; fewer are not worth to be looked for again */

bool jr_decide_is_remote(const struct jr_proxied *x)
{
    return x->l->number != 0;
}

static struct jr_pool *pool_of(const struct jr_proxied *x)
{
    return jr_driver_pool(x->f->drivers[x->place.pool]);
}

static void post(struct jr_proxied *x, struct jr_msg *msg, void (*deliver)(struct jr_msg *msg))
{
    msg->deliver = deliver;
    jr_loop_post(x->f->loop, msg);
}

/* ---------------------------------------------------------------- place */

/* p->n: it is not remembered. */
static uint32_t find_place(const struct jr_places *p, const char *model)
{
    uint32_t at = 0;
    while (at < p->n && strcmp(p->v[at].model, model) != 0)
        at++;
    return at;
}

static bool recall(const struct jr_places *p, const char *model, struct jr_place *ret)
{
    uint32_t at = find_place(p, model);
    if (at == p->n)
        return false;
    *ret = p->v[at].place;
    return true;
}

static void remember(struct jr_places *p, const char *model, const struct jr_place *place)
{
    uint32_t at = find_place(p, model);
    if (at == p->n && p->n < JR_FRONT_PLACES)
        p->n++;
    else if (at == p->n)
        at = p->next++ % JR_FRONT_PLACES;
    (void)jr_str_copy(p->v[at].model, sizeof p->v[at].model, model);
    p->v[at].place = *place;
}

static bool take_ticket(struct jr_proxied *x)
{
    struct jr_front_loop *l = x->l;
    if (l->n_tickets >= JR_FRONT_TICKETS_MAX) {
        jr_limit_reached(JR_LIMIT_FRONT_TICKETS);
        return false;
    }
    struct jr_ticket *t = jr_xalloc(sizeof *t);
    t->l = l;
    t->x = x;
    x->ticket = t;
    l->n_tickets++;
    return true;
}

enum jr_placed jr_decide_place(struct jr_proxied *x)
{
    if (!jr_decide_is_remote(x))
        return jr_decide_find(x->f, x->model, &x->place);
    if (!take_ticket(x))
        return JR_PLACED_NO_ROOM;
    if (recall(&x->l->places, x->model, &x->place))
        return JR_PLACED;
    struct jr_order_place *o = jr_xalloc(sizeof *o);
    o->t = x->ticket;
    memcpy(o->model, x->model, sizeof o->model);
    post(x, &o->msg, jr_decide_on_place);
    return JR_PLACED_LATER;
}

void jr_decide_placed(struct jr_msg *msg)
{
    struct jr_answer_place *a = JR_CONTAINER_OF(msg, struct jr_answer_place, msg);
    struct jr_proxied *x = a->t->x;
    if (a->placed == JR_PLACED)
        remember(&a->t->l->places, a->model, &a->place);
    if (x && a->placed == JR_PLACED)
        jr_proxy_again(x);
    else if (x)
        jr_proxy_not_placed(x, a->placed);
    jr_xfree(a);
}

uint32_t jr_decide_block_size(const struct jr_proxied *x)
{
    return jr_decide_is_remote(x) ? x->place.block_size : jr_pool_block_size(pool_of(x));
}

/* ---------------------------------------------------------------- route */

static struct jr_decide_question question_of(const struct jr_proxied *x)
{
    uint64_t left_ms = jr_proxy_time_left_ms(x);
    return (struct jr_decide_question){
        .pool = x->place.pool,
        .model = x->model,
        .exclude = x->exclude,
        .n_exclude = x->n_exclude,
        .hash_ns = x->hash_ns,
        .with_aside = x->with_aside || x->has_pin,
        .route = {
            .tokens = x->n_tokens,
            .prefix = x->prefix,
            .n_prefix = x->n_prefix,
            .by_text = x->by_text,
            .has_pin = x->has_pin,
            .pin_worker = x->pin,
            .has_pin_rank = x->has_pin_rank,
            .pin_rank = x->pin_rank,
            .session = x->session,
            .query_only = x->query_only,
            .expected_output_tokens = x->expected_output_tokens,
            .priority_jump_s = x->priority_jump_s,
            .strict_priority = x->strict_priority,
            .policy_class = x->policy_class,
            .override = x->override,
            .want_record = jr_access_log_wants_decisions(x->f->access_log),
            .wait_max_ms = left_ms < UINT32_MAX ? (uint32_t)(left_ms ? left_ms : 1) : 0,
        }};
}

static void on_decided(void *ctx, const struct jr_decision *d, int err, const char *why)
{
    struct jr_proxied *x = ctx;
    struct jr_decided decided = {.d = d,
                                 .err = err,
                                 .why = why,
                                 .limit = jr_driver_refusal(x->f->drivers[x->place.pool]),
                                 .record = jr_decide_record(x->f, x->place.pool, d, x->query_only)};
    jr_proxy_decided(x, &decided);
}

/* A retry stays with its pool. */
static void send_route(struct jr_proxied *x, const struct jr_decide_question *q)
{
    struct jr_order_route *o = jr_xalloc(sizeof *o + q->route.n_prefix * sizeof *o->prefix);
    o->t = x->ticket;
    o->q = *q;
    o->check = x->attempts == 0;
    o->named = x->place.named;
    o->block_size = x->place.block_size;
    memcpy(o->model, x->model, sizeof o->model);
    memcpy(o->exclude, x->exclude, sizeof o->exclude);
    if (q->route.n_prefix)
        memcpy(o->prefix, q->route.prefix, q->route.n_prefix * sizeof *o->prefix);
    o->q.model = o->model;
    o->q.exclude = o->exclude;
    o->q.route.prefix = o->prefix;
    x->id = UINT64_MAX; /* a booking, as far as we know; the answer names it */
    post(x, &o->msg, jr_decide_on_route);
}

void jr_decide_lend_prefix(struct jr_proxied *x)
{
    uint32_t n = 0;
    if (x->n_prefix < PREFIX_LONG || jr_decide_is_remote(x) ||
        !jr_pool_booked_prefix(pool_of(x), x->id, &n) || n != x->n_prefix)
        return;
    jr_xfree(x->prefix);
    x->prefix = NULL;
}

void jr_decide_regain_prefix(struct jr_proxied *x)
{
    if (x->prefix || x->n_prefix == 0)
        return;
    const uint64_t *v = jr_pool_booked_prefix(pool_of(x), x->id, &x->n_prefix);
    if (v)
        x->prefix = jr_xmemdup(v, x->n_prefix * sizeof *v);
    else
        x->n_prefix = 0; /* it expired, after minutes without progress: by load alone */
}

int jr_decide_route(struct jr_proxied *x)
{
    struct jr_decide_question q = question_of(x);
    x->hash_ns = 0; /* told once: another attempt has the same hashes */
    if (!jr_decide_is_remote(x))
        return jr_decide_ask(x->f, &q, &x->id, &x->left_out, on_decided, x);
    send_route(x, &q);
    return 0;
}

/* Its client went away before the worker was asked, which the main loop takes for asked: whoever is put
 * aside there and was to be tried may be tried by another. */
static void unknown(struct jr_ticket *t, uint64_t worker_id)
{
    struct jr_order_note *o = jr_xalloc(sizeof *o);
    o->l = t->l;
    o->note = JR_NOTE_UNKNOWN;
    o->pool = t->pool;
    o->worker_id = worker_id;
    o->msg.deliver = jr_decide_on_note;
    jr_loop_post(t->l->f->loop, &o->msg);
}

void jr_decide_routed(struct jr_msg *msg)
{
    struct jr_answer_route *a = JR_CONTAINER_OF(msg, struct jr_answer_route, msg);
    struct jr_proxied *x = a->t->x;
    if (x) {
        struct jr_decided decided = {
            .d = a->refused ? NULL : &a->d, .err = a->err, .why = a->why, .record = a->record};
        decided.limit = a->limit.policy_class ? &a->limit : NULL;
        a->record = NULL;
        a->d.url = a->url;
        a->d.model = a->model;
        x->left_out = a->left_out;
        x->id = a->d.id;
        jr_proxy_decided(x, &decided);
    } else if (!a->refused && !a->t->query_only) {
        unknown(a->t, a->d.worker_id);
    }
    jr_xfree(a->record);
    jr_xfree(a);
}

/* ---------------------------------------------------------------- what is told */

static void send_progress(struct jr_proxied *x)
{
    struct jr_ticket *t = x->ticket;
    if (!atomic_exchange(&t->progress_out, true))
        post(x, &t->progress, jr_decide_on_progress);
}

void jr_decide_first_token(struct jr_proxied *x)
{
    bool its_own = x->first_token_ns >= x->sent_ns; /* not of a worker before this one */
    double ttft_s = its_own ? (double)(x->first_token_ns - x->started_ns) / 1e9 : 0;
    if (!jr_decide_is_remote(x)) {
        jr_driver_first_token(x->f->drivers[x->place.pool], x->id);
        if (its_own)
            jr_worker_last_first_token(&x->f->lasts, x->place.pool, x->worker_id, x->dp_rank,
                                       ttft_s, x->n_tokens);
        return;
    }
    atomic_store(&x->ticket->ttft_us, ttft_s < 4000 ? (unsigned)(ttft_s * 1e6) : UINT32_MAX);
    atomic_store(&x->ticket->first_token, true);
    send_progress(x);
}

void jr_decide_output(struct jr_proxied *x, uint32_t output_tokens)
{
    if (!jr_decide_is_remote(x)) {
        jr_driver_output(x->f->drivers[x->place.pool], x->id, output_tokens);
        return;
    }
    atomic_store(&x->ticket->output, output_tokens);
    send_progress(x);
}

void jr_decide_finish(struct jr_proxied *x)
{
    uint64_t id = x->id;
    x->id = 0;
    if (id == 0)
        return;
    double itl_s = x->itl_s;
    x->itl_s = 0;
    if (!jr_decide_is_remote(x)) {
        if (itl_s > 0)
            jr_worker_last_tokens(&x->f->lasts, x->place.pool, x->worker_id, x->dp_rank, itl_s);
        jr_driver_finish(x->f->drivers[x->place.pool], id);
        return;
    }
    struct jr_order_finish *o = jr_xalloc(sizeof *o);
    o->t = x->ticket;
    o->itl_s = itl_s;
    post(x, &o->msg, jr_decide_on_finish);
}

static void note_here(struct jr_frontend *f, uint32_t pool, uint64_t worker, enum jr_note note,
                      const char *why)
{
    switch (note) {
    case JR_NOTE_SENT:
        jr_pools_sent(f, pool, worker);
        return;
    case JR_NOTE_FAILED:
        jr_pools_failed(f, pool, worker, why);
        return;
    case JR_NOTE_ANSWERED:
        jr_pools_answered(f, pool, worker);
        return;
    case JR_NOTE_WELL:
        jr_pools_well(f, pool, worker);
        return;
    case JR_NOTE_UNKNOWN:
        jr_pools_unknown(f, pool, worker);
        return;
    }
}

void jr_decide_note(struct jr_proxied *x, enum jr_note note, const char *why)
{
    if (!jr_decide_is_remote(x)) {
        note_here(x->f, x->place.pool, x->worker_id, note, why);
        return;
    }
    if (note == JR_NOTE_SENT)
        return; /* where it was decided, it is known */
    struct jr_order_note *o = jr_xalloc(sizeof *o);
    o->l = x->l;
    o->note = note;
    o->pool = x->place.pool;
    o->worker_id = x->worker_id;
    o->why = why;
    post(x, &o->msg, jr_decide_on_note);
}

void jr_decide_on_note(struct jr_msg *msg)
{
    struct jr_order_note *o = JR_CONTAINER_OF(msg, struct jr_order_note, msg);
    note_here(o->l->f, o->pool, o->worker_id, o->note, o->why);
    jr_xfree(o);
}

/* ---------------------------------------------------------------- tokens */

void jr_decide_ask_tokens(struct jr_proxied *x, bool exact, uint32_t time_left_ms)
{
    struct jr_order_tokens *o = jr_xalloc(sizeof *o + x->asked.n);
    o->t = x->ticket;
    o->kind = x->kind;
    o->pool = x->place.pool;
    o->exact = exact;
    o->time_left_ms = time_left_ms;
    memcpy(o->model, x->model, sizeof o->model);
    o->n = x->asked.n;
    memcpy(o->body, x->asked.p, x->asked.n);
    post(x, &o->msg, jr_decide_on_tokens);
}

void jr_decide_tokenized(struct jr_msg *msg)
{
    struct jr_answer_tokens *a = JR_CONTAINER_OF(msg, struct jr_answer_tokens, msg);
    if (a->t->x)
        jr_proxy_tokenized(a->t->x, &a->a);
    jr_xfree((void *)(uintptr_t)a->a.ids);
    jr_xfree((void *)(uintptr_t)a->a.prefix);
    jr_xfree(a);
}

/* ---------------------------------------------------------------- the end */

void jr_decide_leave(struct jr_proxied *x)
{
    struct jr_ticket *t = x->ticket;
    if (!t)
        return;
    x->ticket = NULL;
    t->x = NULL;
    post(x, &t->leave, jr_decide_on_leave);
}

void jr_decide_closed(struct jr_msg *msg)
{
    struct jr_ticket *t = JR_CONTAINER_OF(msg, struct jr_ticket, closed);
    struct jr_front_loop *l = t->l;
    jr_xfree(t);
    JR_ASSERT(l->n_tickets > 0);
    l->n_tickets--;
}
