/* SPDX-License-Identifier: Apache-2.0 */
#include "core/select.h"
#include "base/map.h"
#include <math.h>

uint64_t jr_select_tie_key(uint64_t last_block, uint64_t worker_id, uint32_t dp_rank)
{
    uint64_t key = jr_mix64(last_block ^ worker_id);
    return dp_rank == 0 ? key : jr_mix64(key + dp_rank);
}

bool jr_select_before(const struct jr_candidate *a, const struct jr_candidate *b,
                      uint64_t last_block)
{
    uint64_t key_a, key_b;

    if (a->indexed_blocks != b->indexed_blocks)
        return a->indexed_blocks < b->indexed_blocks;
    key_a = jr_select_tie_key(last_block, a->worker_id, a->dp_rank);
    key_b = jr_select_tie_key(last_block, b->worker_id, b->dp_rank);
    if (key_a != key_b)
        return key_a < key_b;
    if (a->worker_id != b->worker_id)
        return a->worker_id < b->worker_id;
    return a->dp_rank < b->dp_rank;
}

static uint32_t best_by_hash(const struct jr_candidate *v, uint32_t n, uint64_t last_block)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++) {
        if (v[i].cost < v[best].cost ||
            (v[i].cost == v[best].cost && jr_select_before(&v[i], &v[best], last_block)))
            best = i;
    }
    return best;
}

/* Dynamo 1.0 knows the tree size only of workers with overlap; the others count as empty. */
static uint64_t tree_size(const struct jr_candidate *k)
{
    return k->overlap_blocks > 0 ? k->indexed_blocks : 0;
}

/* Uniform among the minima, in one pass (reservoir of one). */
static uint32_t best_by_draw(const struct jr_candidate *v, uint32_t n, bool by_tree,
                             struct jr_rng *rng)
{
    uint32_t best = 0, ties = 1;

    for (uint32_t i = 1; i < n; i++) {
        uint64_t a = by_tree ? tree_size(&v[i]) : 0, b = by_tree ? tree_size(&v[best]) : 0;
        if (v[i].cost < v[best].cost || (v[i].cost == v[best].cost && a < b)) {
            best = i;
            ties = 1;
        } else if (v[i].cost == v[best].cost && a == b && jr_rng_below(rng, ++ties) == 0) {
            best = i;
        }
    }
    return best;
}

void jr_select_softmax(struct jr_candidate *candidates, uint32_t n, double temperature)
{
    double lo = INFINITY, hi = -INFINITY, range, sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        lo = fmin(lo, candidates[i].cost);
        hi = fmax(hi, candidates[i].cost);
    }
    range = hi - lo;
    if (isinf(range)) /* finite costs whose difference overflows */
        range = fmax(fabs(lo), fabs(hi));
    for (uint32_t i = 0; i < n; i++) {
        double above = candidates[i].cost - lo;
        candidates[i].probability = range > 0 ? exp(-above / (range * temperature)) : 1;
        sum += candidates[i].probability;
    }
    for (uint32_t i = 0; i < n; i++)
        candidates[i].probability /= sum;
}

static uint32_t draw(const struct jr_candidate *v, uint32_t n, struct jr_rng *rng)
{
    double u = jr_rng_unit(rng), sum = 0;

    for (uint32_t i = 0; i + 1 < n; i++) {
        sum += v[i].probability;
        if (u < sum)
            return i;
    }
    return n - 1;
}

int jr_select_cost(const struct jr_select_config *c, struct jr_candidate *candidates, uint32_t n,
                   uint64_t last_block, struct jr_rng *rng, uint32_t *ret)
{
    if (n == 0)
        return JR_ENOWORKER;
    if (c->temperature > 0) {
        jr_select_softmax(candidates, n, c->temperature);
        *ret = draw(candidates, n, rng);
        return 0;
    }
    if (c->tie == JR_TIE_HASH)
        *ret = best_by_hash(candidates, n, last_block);
    else
        *ret = best_by_draw(candidates, n, c->tie == JR_TIE_TREE_SIZE, rng);
    candidates[*ret].probability = 1;
    return 0;
}

int jr_select_round_robin(uint32_t n, uint64_t *counter, uint32_t *ret)
{
    if (n == 0)
        return JR_ENOWORKER;
    *ret = (uint32_t)((*counter)++ % n);
    return 0;
}

int jr_select_random(uint32_t n, struct jr_rng *rng, uint32_t *ret)
{
    if (n == 0)
        return JR_ENOWORKER;
    *ret = jr_rng_below(rng, n);
    return 0;
}

/* Of those of a kind, when one is asked for. */
static int least_loaded_of(const struct jr_candidate *candidates, uint32_t n, const bool *on_cpu,
                           struct jr_rng *rng, uint32_t *ret)
{
    uint32_t best = UINT32_MAX, ties = 1;

    for (uint32_t i = 0; i < n; i++) {
        if (on_cpu && candidates[i].on_cpu != *on_cpu)
            continue;
        if (best == UINT32_MAX || candidates[i].requests < candidates[best].requests) {
            best = i;
            ties = 1;
        } else if (candidates[i].requests == candidates[best].requests &&
                   jr_rng_below(rng, ++ties) == 0) {
            best = i;
        }
    }
    *ret = best;
    return best == UINT32_MAX ? JR_ENOWORKER : 0;
}

int jr_select_least_loaded(const struct jr_candidate *candidates, uint32_t n, struct jr_rng *rng,
                           uint32_t *ret)
{
    return least_loaded_of(candidates, n, NULL, rng, ret);
}

int jr_select_device_aware(const struct jr_candidate *candidates, uint32_t n, double ratio,
                           struct jr_rng *rng, uint32_t *ret)
{
    uint64_t requests[2] = {0, 0}; /* of the others, of those on a CPU */
    uint32_t count[2] = {0, 0};

    for (uint32_t i = 0; i < n; i++) {
        count[candidates[i].on_cpu]++;
        requests[candidates[i].on_cpu] += candidates[i].requests;
    }
    if (count[0] == 0 || count[1] == 0)
        return least_loaded_of(candidates, n, NULL, rng, ret);
    double allowed = floor((double)requests[0] * count[1] / (ratio * count[0]));
    bool on_cpu = (double)requests[1] < allowed;
    return least_loaded_of(candidates, n, &on_cpu, rng, ret);
}

int jr_select_power_of_two(const struct jr_candidate *candidates, uint32_t n, struct jr_rng *rng,
                           uint32_t *ret)
{
    uint32_t first, second;

    if (n == 0)
        return JR_ENOWORKER;
    first = jr_rng_below(rng, n);
    if (n > 1) {
        second = jr_rng_below(rng, n - 1);
        second += second >= first; /* distinct */
        if (candidates[second].requests < candidates[first].requests)
            first = second;
    }
    *ret = first;
    return 0;
}

int jr_select_direct(const struct jr_candidate *candidates, uint32_t n, uint64_t worker_id,
                     bool has_rank, uint32_t dp_rank, uint64_t last_block, uint32_t *ret)
{
    uint32_t best = n;

    for (uint32_t i = 0; i < n; i++) {
        const struct jr_candidate *k = &candidates[i];
        if (k->worker_id != worker_id || (has_rank && k->dp_rank != dp_rank))
            continue;
        if (best == n || k->cost < candidates[best].cost ||
            (k->cost == candidates[best].cost &&
             jr_select_before(k, &candidates[best], last_block)))
            best = i;
    }
    if (best == n)
        return JR_ENOTFOUND;
    *ret = best;
    return 0;
}
