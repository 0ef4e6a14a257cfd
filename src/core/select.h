/* SPDX-License-Identifier: Apache-2.0 */
/* select: choose one of the candidates. Pure, except that the random ways draw from the caller's
 * rng. Every function gives an index into the array; JR_ENOWORKER when there is none to choose. */
#ifndef JR_CORE_SELECT_H
#define JR_CORE_SELECT_H

#include "base/err.h"
#include "base/rng.h"
#include "core/cost.h"
#include <stdbool.h>

enum jr_tie {
    JR_TIE_HASH = 0, /* fewest indexed blocks, then lowest jr_select_tie_key: all replicas agree */
    JR_TIE_TREE_SIZE = 1, /* Dynamo 1.0: fewest indexed blocks of those with overlap, then random */
    JR_TIE_RANDOM = 2,    /* Dynamo 1.2 */
};

struct jr_select_config {
    enum jr_tie tie;
    double temperature; /* 0: the minimum; else softmax over range-normalised costs */
};

/* By cost (jr_cost_eval was called, which makes every `probability` 0). Sets that of every candidate,
 * or with temperature 0 makes it 1 for the chosen. last_block is the prefix hash of the request's last block, 0 when it has
 * none. rng may be NULL when temperature is 0 and tie is JR_TIE_HASH. */
JR_MUST_CHECK int jr_select_cost(const struct jr_select_config *c, struct jr_candidate *candidates,
                                 uint32_t n, uint64_t last_block, struct jr_rng *rng,
                                 uint32_t *ret);
/* p[i] = exp(-(cost[i] - lo) / ((hi - lo) * temperature)) / sum; uniform when lo == hi. Fills the
 * candidates' probability. temperature > 0. */
void jr_select_softmax(struct jr_candidate *candidates, uint32_t n, double temperature);
/* mix64(last_block ^ worker_id), mixed with the rank unless it is 0. */
uint64_t jr_select_tie_key(uint64_t last_block, uint64_t worker_id, uint32_t dp_rank);

/* JR_TIE_HASH: total order of candidates with the same cost, so that the order of the array never
 * matters. */
bool jr_select_before(const struct jr_candidate *a, const struct jr_candidate *b,
                      uint64_t last_block);

/* The plain modes. Round-robin counts in *counter. Least-loaded and power-of-two count requests. */
JR_MUST_CHECK int jr_select_round_robin(uint32_t n, uint64_t *counter, uint32_t *ret);
JR_MUST_CHECK int jr_select_random(uint32_t n, struct jr_rng *rng, uint32_t *ret);
JR_MUST_CHECK int jr_select_least_loaded(const struct jr_candidate *candidates, uint32_t n,
                                         struct jr_rng *rng, uint32_t *ret);
JR_MUST_CHECK int jr_select_power_of_two(const struct jr_candidate *candidates, uint32_t n,
                                         struct jr_rng *rng, uint32_t *ret);
/* Least-loaded of those on a CPU while they have fewer requests than
 *     floor(requests of the others * how many on a CPU / (ratio * how many others)),
 * else of the others; where there is one kind only, of all. ratio >= 1. (Dynamo 1.1.) */
JR_MUST_CHECK int jr_select_device_aware(const struct jr_candidate *candidates, uint32_t n,
                                         double ratio, struct jr_rng *rng, uint32_t *ret);
/* Pinned: the named worker; without a rank the one of its ranks with the lowest cost (equal: as
 * JR_TIE_HASH). JR_ENOTFOUND when it is not among the candidates. */
JR_MUST_CHECK int jr_select_direct(const struct jr_candidate *candidates, uint32_t n,
                                   uint64_t worker_id, bool has_rank, uint32_t dp_rank,
                                   uint64_t last_block, uint32_t *ret);

#endif
