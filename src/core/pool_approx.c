/* SPDX-License-Identifier: Apache-2.0 */
/* What is believed to be cached because it was routed there: in approximate mode all there is, with
 * KV events what they have not said yet. core/approx.h has the rules. Replicas tell each other the
 * prompts they admit, so their beliefs agree as far as their sync does. */
#include "core/pool_internal.h"

#define TICK_WORK 1024

int jr_pool_approx_init(struct jr_pool *p)
{
    jr_index_match_init(&p->match_approx, &p->mem);
    if (p->config.approx.entries_max == 0)
        return 0;
    return jr_approx_create(&p->mem, &p->config.approx, &p->approx);
}

int jr_pool_match(struct jr_pool *p, const uint64_t *prefix, uint32_t n)
{
    int err = jr_index_match(p->state->index, prefix, n, &p->match);
    if (err == 0 && p->approx)
        err = jr_index_match(jr_approx_index(p->approx), prefix, n, &p->match_approx);
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
void jr_pool_believe(struct jr_pool *p, uint64_t worker_id, uint32_t dp_rank,
                     const uint64_t *prefix, uint32_t n)
{
    const struct jr_worker *w = p->approx && n ? jr_workers_find(&p->workers, worker_id) : NULL;
    for (uint32_t i = 0; w && i < w->n_members; i++) {
        uint32_t member = w->members[i];
        if (p->members.v[member].dp_rank == dp_rank)
            (void)!jr_approx_insert(p->approx, member, worker_id, dp_rank, prefix, n, p->now_ms);
    }
}

void jr_pool_believe_batch(struct jr_pool *p, const struct jr_sync_batch *batch)
{
    if (!p->approx || !p->config.assume_kv_reuse) /* their hashes stand for nothing then */
        return;
    for (uint32_t i = 0; i < batch->n_deltas; i++) {
        const struct jr_booking *b = &batch->deltas[i].b;
        if (batch->deltas[i].type == JR_DELTA_ADMIT)
            jr_pool_believe(p, b->worker_id, b->dp_rank, b->blocks, b->n_blocks);
    }
}

static const struct jr_rank_lease *rank_of(const struct jr_worker_lease *lease, uint32_t dp_rank)
{
    for (uint32_t i = 0; i < lease->n_ranks; i++)
        if (lease->ranks[i].dp_rank == dp_rank)
            return &lease->ranks[i];
    return NULL;
}

void jr_pool_approx_list(struct jr_pool *p, const struct jr_worker_lease *lease)
{
    const struct jr_worker *w = p->approx ? jr_workers_find(&p->workers, lease->worker_id) : NULL;
    for (uint32_t i = 0; w && i < w->n_members; i++) {
        uint32_t dp_rank = p->members.v[w->members[i]].dp_rank;
        const struct jr_rank_lease *was = rank_of(&w->lease, dp_rank);
        const struct jr_rank_lease *is = rank_of(lease, dp_rank);
        bool stays = is || (lease->n_ranks == 0 && dp_rank == 0);
        if (!stays || (was && is && was->incarnation != is->incarnation))
            jr_approx_drop(p->approx, w->members[i]);
    }
}

void jr_pool_approx_forget(struct jr_pool *p, const struct jr_worker *w)
{
    for (uint32_t i = 0; p->approx && w && i < w->n_members; i++)
        jr_approx_drop(p->approx, w->members[i]);
}

void jr_pool_approx_tick(struct jr_pool *p)
{
    if (p->approx)
        (void)jr_approx_work(p->approx, p->now_ms, TICK_WORK);
}
