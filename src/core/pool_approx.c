/* SPDX-License-Identifier: Apache-2.0 */
/* What is believed to be cached because it was routed there: in approximate mode all there is, with
 * KV events what they have not said yet. core/approx.h has the rules. Replicas tell each other the
 * prompts they admit, so their beliefs agree as far as their sync does. */
#include "base/bug.h"
#include "core/pool_internal.h"

#define TICK_WORK 1024

int jr_pool_approx_init(struct jr_pool *p)
{
    const struct jr_pool_config *c = &p->config;
    int err = 0;
    jr_index_match_init(&p->match_approx, &p->mem);
    if (c->approx.entries_max > 0)
        err = jr_approx_create(&p->mem, &c->approx, &p->approx);
    if (err == 0 && c->by_text.entries_max > 0 && !c->approximate)
        err = jr_approx_create(&p->mem, &c->by_text, &p->texts);
    return err;
}

void jr_pool_approx_deinit(struct jr_pool *p)
{
    jr_index_match_deinit(&p->match_approx);
    jr_approx_destroy(p->approx);
    jr_approx_destroy(p->texts);
}

bool jr_pool_is_apart(const struct jr_pool *p, const struct jr_route *r)
{
    return r->by_text && !p->config.approximate;
}

/* Where what is believed of a request stands; NULL: nowhere. */
static struct jr_approx *beliefs(const struct jr_pool *p, const struct jr_route *r)
{
    return jr_pool_is_apart(p, r) ? p->texts : p->approx;
}

int jr_pool_match(struct jr_pool *p, const struct jr_route *r)
{
    const struct jr_approx *a = beliefs(p, r);
    uint32_t n = jr_pool_is_apart(p, r) ? 0 : r->n_prefix;
    int err = jr_index_match(p->state->index, r->prefix, n, &p->match);
    p->match_approx.n = 0;
    if (err == 0 && a)
        err = jr_index_match(jr_approx_index(a), r->prefix, r->n_prefix, &p->match_approx);
    return err;
}

const struct jr_index *jr_pool_index(const struct jr_pool *p)
{
    return p->config.approximate && p->approx ? jr_approx_index(p->approx) : p->state->index;
}

uint64_t jr_pool_blocks_held(const struct jr_pool *p, uint32_t member)
{
    const struct jr_index *index = jr_pool_index(p);
    return jr_index_has_member(index, member) ? jr_index_member_entries(index, member) : 0;
}

/* A belief that there is no memory for is one less. */
static void believe(struct jr_pool *p, struct jr_approx *a, uint64_t worker_id, uint32_t dp_rank,
                    const uint64_t *prefix, uint32_t n)
{
    const struct jr_worker *w = a && n ? jr_workers_find(&p->workers, worker_id) : NULL;
    for (uint32_t i = 0; w && i < w->n_members; i++) {
        uint32_t member = w->members[i];
        if (p->members.v[member].dp_rank == dp_rank)
            (void)!jr_approx_insert(a, member, worker_id, dp_rank, prefix, n, p->now_ms);
    }
}

void jr_pool_believe(struct jr_pool *p, const struct jr_route *r, const struct jr_candidate *c)
{
    believe(p, beliefs(p, r), c->worker_id, c->dp_rank, r->prefix, r->n_prefix);
}

void jr_pool_believe_batch(struct jr_pool *p, const struct jr_sync_batch *batch)
{
    if (!p->approx || !p->config.assume_kv_reuse || /* their hashes stand for nothing then */
        JR_BUG(BELIEFS_ALONE))
        return;
    for (uint32_t i = 0; i < batch->n_deltas; i++) {
        const struct jr_booking *b = &batch->deltas[i].b;
        if (batch->deltas[i].type == JR_DELTA_ADMIT)
            believe(p, p->approx, b->worker_id, b->dp_rank, b->blocks, b->n_blocks);
    }
}

static const struct jr_rank_lease *rank_of(const struct jr_worker_lease *lease, uint32_t dp_rank)
{
    for (uint32_t i = 0; i < lease->n_ranks; i++)
        if (lease->ranks[i].dp_rank == dp_rank)
            return &lease->ranks[i];
    return NULL;
}

static void drop(struct jr_pool *p, uint32_t member)
{
    if (p->approx)
        jr_approx_drop(p->approx, member);
    if (p->texts)
        jr_approx_drop(p->texts, member);
}

void jr_pool_approx_list(struct jr_pool *p, const struct jr_worker_lease *lease)
{
    bool any = p->approx || p->texts;
    const struct jr_worker *w = any ? jr_workers_find(&p->workers, lease->worker_id) : NULL;
    for (uint32_t i = 0; w && i < w->n_members; i++) {
        uint32_t dp_rank = p->members.v[w->members[i]].dp_rank;
        const struct jr_rank_lease *was = rank_of(&w->lease, dp_rank);
        const struct jr_rank_lease *is = rank_of(lease, dp_rank);
        bool stays = is || (lease->n_ranks == 0 && dp_rank == 0);
        bool other = was && is && was->incarnation != is->incarnation && !JR_BUG(BELIEFS_STAY);
        if (!stays || other)
            drop(p, w->members[i]);
    }
}

void jr_pool_approx_forget(struct jr_pool *p, const struct jr_worker *w)
{
    for (uint32_t i = 0; w && i < w->n_members; i++)
        drop(p, w->members[i]);
}

bool jr_pool_approx_is_due(const struct jr_pool *p)
{
    return (p->approx && jr_approx_is_due(p->approx, p->now_ms)) ||
           (p->texts && jr_approx_is_due(p->texts, p->now_ms));
}

void jr_pool_approx_work(struct jr_pool *p, uint32_t max)
{
    if (p->approx)
        (void)jr_approx_work(p->approx, p->now_ms, max);
    if (p->texts)
        (void)jr_approx_work(p->texts, p->now_ms, max);
}

void jr_pool_approx_tick(struct jr_pool *p)
{
    jr_pool_approx_work(p, TICK_WORK);
}
