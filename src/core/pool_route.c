/* SPDX-License-Identifier: Apache-2.0 */
/* A request's way through the pool: candidates, choice, booking, progress, end. */
#include "core/pool_internal.h"

#include <string.h>

static bool in_list(const uint64_t *ids, uint32_t n, uint64_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool may_take(const struct jr_worker *w, const struct jr_route *r)
{
    if (w->state == JR_WORKER_DOWN || !w->lease.url[0])
        return false;
    uint64_t id = w->lease.worker_id;
    if (in_list(r->exclude, r->n_exclude, id))
        return false;
    return r->n_allowed == 0 || in_list(r->allowed, r->n_allowed, id);
}

static void fill(struct jr_pool *p, const struct jr_worker *w, uint32_t i, const struct jr_route *r,
                 struct jr_candidate *c)
{
    uint32_t member = w->members[i];
    struct jr_active_load load;
    jr_active_load(p->active, member, p->now_ms, jr_speed_factor(&p->speed), &load);
    bool known = jr_state_rank(p->state, member) != NULL;
    *c = (struct jr_candidate){
        .member = member,
        .dp_rank = p->members.v[member].dp_rank,
        .worker_id = w->lease.worker_id,
        .indexed_blocks = known ? jr_index_member_entries(p->state->index, member) : 0,
        .overlap_blocks = jr_pool_credited(p, w, i) ? jr_index_match_blocks(&p->match, member) : 0,
        .live_blocks = jr_active_match(p->active, member, r->prefix, r->n_prefix),
        .prefill_tokens = load.prefill_tokens,
        .active_blocks = load.active_blocks,
        .requests = load.requests,
        .decoding = load.decoding,
        .backlog_s = load.backlog_s,
    };
    c->new_blocks = r->n_prefix - c->live_blocks;
}

/* All (worker, rank) pairs that may take it, in the order of worker ids. */
static int gather(struct jr_pool *p, const struct jr_route *r)
{
    p->candidates.n = 0;
    for (uint32_t i = 0; i < p->workers.n; i++) {
        const struct jr_worker *w = p->workers.v[i];
        if (!may_take(w, r))
            continue;
        int err = jr_arr_reserve(&p->mem, &p->candidates, w->n_members, JR_WORKERS_MAX);
        if (err < 0)
            return err;
        for (uint32_t k = 0; k < w->n_members; k++)
            fill(p, w, k, r, &p->candidates.v[p->candidates.n++]);
    }
    return p->candidates.n ? 0 : JR_ENOWORKER;
}

static int choose(struct jr_pool *p, const struct jr_route *r, uint32_t *ret)
{
    struct jr_candidate *c = p->candidates.v;
    uint32_t n = p->candidates.n;
    uint64_t last = r->n_prefix ? r->prefix[r->n_prefix - 1] : 0;
    if (r->has_pin)
        return jr_select_direct(c, n, r->pin_worker, r->has_pin_rank, r->pin_rank, last, ret);
    switch (p->config.mode) {
    case JR_MODE_ROUND_ROBIN:
        return jr_select_round_robin(n, &p->round_robin, ret);
    case JR_MODE_RANDOM:
        return jr_select_random(n, &p->rng, ret);
    case JR_MODE_LEAST_LOADED:
        return jr_select_least_loaded(c, n, &p->rng, ret);
    case JR_MODE_POWER_OF_TWO:
        return jr_select_power_of_two(c, n, &p->rng, ret);
    case JR_MODE_DIRECT:
        return JR_EINVAL;
    case JR_MODE_KV:
        break;
    }
    struct jr_select_config config = {p->config.tie, p->config.temperature};
    return jr_select_cost(&config, c, n, last, &p->rng, ret);
}

static void reject(struct jr_pool *p, const struct jr_route *r, int err)
{
    p->n.rejected_no_worker++;
    struct jr_action *a = jr_pool_act(p, JR_ACT_REJECT);
    if (!a)
        return;
    a->u.reject.id = r->id;
    a->u.reject.err = err;
    switch (err) {
    case JR_ENOTFOUND:
        a->u.reject.why = "the worker that the request names is not available";
        break;
    case JR_EINVAL:
        a->u.reject.why = "router mode direct needs a worker id in the request";
        break;
    case JR_ENOWORKER:
        a->u.reject.why = r->n_exclude ? "every worker failed this request"
                                       : "no worker is available: start one, or wait for it";
        break;
    default:
        a->u.reject.why = jr_err_text(err);
    }
}

/* Hashes that count in the load: none, the prompt's, or (no reuse assumed) ones that nobody
 * shares. */
static int load_hashes(struct jr_pool *p, const struct jr_route *r, struct jr_booking *b)
{
    if (!p->config.track_active_blocks)
        return 0;
    b->n_blocks = r->n_prefix;
    b->blocks = r->prefix;
    if (p->config.assume_kv_reuse)
        return 0;
    p->scratch_hashes.n = 0;
    int err = jr_arr_reserve(&p->mem, &p->scratch_hashes, r->n_prefix, JR_PROMPT_BLOCKS_MAX);
    if (err < 0)
        return err;
    for (uint32_t i = 0; i < r->n_prefix; i++)
        p->scratch_hashes.v[i] = jr_rng_u64(&p->rng);
    b->blocks = p->scratch_hashes.v;
    return 0;
}

static int book(struct jr_pool *p, const struct jr_route *r, const struct jr_candidate *c)
{
    struct jr_booking b = {
        .request = r->id,
        .worker_id = c->worker_id,
        .dp_rank = c->dp_rank,
        .prefill_tokens =
            c->uncached_tokens > UINT32_MAX ? UINT32_MAX : (uint32_t)c->uncached_tokens,
        .prompt_tokens = r->tokens,
        .prefill_seconds = c->estimate_s,
    };
    int err = load_hashes(p, r, &b);
    if (err < 0)
        return err;
    struct jr_booked *k;
    err = jr_bookings_add(&p->own, &b, p->now_ms, &k);
    if (err < 0) {
        p->n.bookings_refused++;
        return err == JR_ELIMIT ? JR_EBUSY : err;
    }
    jr_pool_delta(p, JR_DELTA_ADMIT, &k->b);
    return 0;
}

static void decide(struct jr_pool *p, const struct jr_route *r, const struct jr_candidate *c)
{
    const struct jr_worker *w = jr_workers_find(&p->workers, c->worker_id);
    struct jr_action *a = jr_pool_act(p, JR_ACT_DECIDE);
    if (!a)
        return;
    a->u.decide = (struct jr_decision){
        .id = r->id,
        .worker_id = c->worker_id,
        .dp_rank = c->dp_rank,
        .url = w->lease.url,
        .model = w->lease.model,
        .overlap_blocks = c->overlap_blocks,
        .candidates = p->candidates.n,
        .cost = c->cost,
    };
    p->n.decisions++;
    p->n.overlap_blocks += c->overlap_blocks;
    p->n.prompt_blocks += r->n_prefix;
}

int jr_pool_on_route(struct jr_pool *p, const struct jr_route *r)
{
    int err = jr_index_match(p->state->index, r->prefix, r->n_prefix, &p->match);
    if (err < 0)
        return err;
    err = gather(p, r);
    uint32_t at = 0;
    if (err == 0) {
        uint32_t block_size = jr_pool_block_size(p);
        struct jr_cost_request cr = {r->tokens, block_size ? block_size : 1};
        jr_cost_eval(&p->config.cost, &cr, jr_speed_factor(&p->speed), p->candidates.v,
                     p->candidates.n);
        err = choose(p, r, &at);
    }
    if (err == 0 && !r->query_only)
        err = book(p, r, &p->candidates.v[at]);
    if (err == JR_ENOMEM)
        return err;
    if (err < 0)
        reject(p, r, err);
    else
        decide(p, r, &p->candidates.v[at]);
    return 0;
}

void jr_pool_on_first_token(struct jr_pool *p, uint64_t id)
{
    struct jr_booked *k = jr_bookings_find(&p->own, id);
    if (!k)
        return;
    struct jr_active_sample sample;
    jr_bookings_first_token(&p->own, id, p->now_ms, &sample);
    if (sample.valid)
        jr_speed_add(&p->speed, sample.estimated_s, sample.taken_s);
    jr_pool_delta(p, JR_DELTA_FIRST_TOKEN, &k->b);
}

void jr_pool_on_output(struct jr_pool *p, uint64_t id, uint32_t output_tokens)
{
    struct jr_booked *k = jr_bookings_find(&p->own, id);
    uint32_t block_size = jr_pool_block_size(p);
    if (!k || !block_size)
        return;
    uint64_t total = (uint64_t)k->b.prompt_tokens + output_tokens;
    uint32_t prompt = k->b.prompt_tokens / block_size;
    uint32_t blocks = (uint32_t)((total + block_size - 1) / block_size) - prompt;
    if (blocks <= k->b.output_blocks)
        return;
    jr_bookings_progress(&p->own, id, blocks, p->now_ms);
    jr_pool_delta(p, JR_DELTA_PROGRESS, &k->b);
}

void jr_pool_on_finish(struct jr_pool *p, uint64_t id)
{
    struct jr_booked *k = jr_bookings_find(&p->own, id);
    if (!k)
        return;
    jr_pool_delta(p, JR_DELTA_DONE, &k->b);
    jr_bookings_done(&p->own, id, p->now_ms);
}
