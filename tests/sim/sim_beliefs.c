/* SPDX-License-Identifier: Apache-2.0 */
/* What replicas believe to be cached because it was routed there (src/core/approx.h): ahead of KV
 * events, or in approximate mode instead of them. Peers believe what they hear of each other's
 * admissions; what was believed of a rank ends with its incarnation. */
#include "sim_world.h"

#include <string.h>

static uint32_t believed(const struct jr_pool *p, uint32_t member, const uint64_t *prefix,
                         uint32_t n)
{
    struct jr_index_match match;
    jr_index_match_init(&match, p->match.mem);
    uint32_t blocks = jr_index_match(jr_approx_index(p->approx), prefix, n, &match) == 0
                          ? jr_index_match_blocks(&match, member)
                          : 0;
    jr_index_match_deinit(&match);
    return blocks;
}

/* Of a worker that is not listed, or lists no such rank, nothing is believed. */
static bool find_member(const struct jr_pool *p, uint64_t worker_id, uint32_t dp_rank,
                        uint32_t *ret)
{
    const struct jr_worker *w = jr_workers_find(&p->workers, worker_id);
    for (uint32_t i = 0; w && i < w->n_members; i++) {
        *ret = w->members[i];
        if (p->members.v[*ret].dp_rank == dp_rank)
            return true;
    }
    return false;
}

void sim_beliefs_heard(const struct sim *sim, const struct sim_replica *r,
                       const struct jr_sync_batch *b)
{
    const struct jr_pool *p = r->pool;
    if (!sim->c.belief_ms || r->crashing || strcmp(b->replica, r->id) == 0)
        return;
    for (uint32_t i = 0; i < b->n_deltas; i++) {
        const struct jr_booking *k = &b->deltas[i].b;
        uint32_t member;
        if (b->deltas[i].type == JR_DELTA_ADMIT &&
            find_member(p, k->worker_id, k->dp_rank, &member))
            SIM_CHECK(sim, believed(p, member, k->blocks, k->n_blocks) == k->n_blocks,
                      "BeliefsAreShared: replica %u does not believe %u blocks of %s on worker "
                      "%llu",
                      r->index, k->n_blocks, b->replica, (unsigned long long)k->worker_id);
    }
}

static const struct jr_rank_lease *rank_at(const struct jr_pool *p, uint64_t worker_id, uint32_t k)
{
    const struct jr_worker *worker = jr_workers_find(&p->workers, worker_id);
    for (uint32_t i = 0; worker && i < worker->lease.n_ranks; i++)
        if (worker->lease.ranks[i].dp_rank == k)
            return &worker->lease.ranks[i];
    return NULL;
}

void sim_beliefs_before(const struct sim *sim, const struct sim_replica *r, struct sim_beliefs *ret)
{
    *ret = (struct sim_beliefs){.decisions = r->pool->n.decisions};
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        for (uint32_t k = 0; k < SIM_RANKS; k++) {
            const struct jr_rank_lease *l = rank_at(r->pool, sim->workers[w].id, k);
            ret->incarnation[w][k] = l ? l->incarnation : 0;
        }
}

void sim_beliefs_listed(const struct sim *sim, const struct sim_replica *r,
                        const struct sim_beliefs *before)
{
    const struct jr_pool *p = r->pool;
    if (!sim->c.belief_ms || r->crashing || p->n.decisions != before->decisions)
        return;
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        for (uint32_t k = 0; k < SIM_RANKS; k++) {
            uint64_t was = before->incarnation[w][k];
            const struct jr_rank_lease *is = rank_at(p, sim->workers[w].id, k);
            uint32_t member;
            if (was && is && is->incarnation != was &&
                find_member(p, sim->workers[w].id, k, &member))
                SIM_CHECK(sim, jr_approx_member_entries(p->approx, member) == 0,
                          "BeliefsEnd: replica %u believes what worker %llu rank %u held before",
                          r->index, (unsigned long long)sim->workers[w].id, k);
        }
}
