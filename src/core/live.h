/* SPDX-License-Identifier: Apache-2.0 */
/* live: the prompts of live requests of all members as a tree of runs, so that a prompt's overlap
 * with all of them is one walk, and a booking costs as many steps as its prompt has forks.
 *
 *     root ── [h0 h1 h2 h3] ── [h4 h5] ────── [h6]        a run: blocks that the same requests hold
 *              1:3 4:1      │   1:2            1:1        its holders: member:requests
 *                           └─ [k4 k5 k6 k7]
 *                               4:1
 *
 * A request ends at the end of a run: its tail. A run is a slice of an array that the runs it was
 * cut from share; two that are neighbours in it and have the same requests become one again. Only
 * equal hashes are equal blocks, whatever they are hashes of.
 *
 * A block counts JR_LIVE_FULL for a member, once for all of its requests, or what jr_live_weigh set.
 * The caller keeps each member's sum. The owner of the active sequences only; one thread. */
#ifndef JR_CORE_LIVE_H
#define JR_CORE_LIVE_H

#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_LIVE_NONE UINT32_MAX
#define JR_LIVE_FULL (UINT32_C(1) << 16)

struct jr_live_holder {
    uint32_t member;
    uint32_t refs; /* its requests that hold the run; > 0 */
    uint32_t weight;
};

struct jr_live {
    struct jr_mem *mem; /* borrows */
    struct jr_live_run *runs;
    uint32_t cap, used, free_head; /* of runs; used: ever */
    uint32_t *buckets;             /* (parent, first hash) -> run, chained */
    uint32_t n, n_buckets;         /* runs in use; 0 or a power of two */
    uint64_t other_bytes;          /* of holders and hashes */
};

void jr_live_init(struct jr_live *t, struct jr_mem *mem);
void jr_live_deinit(struct jr_live *t);

/* A request of the member holds these blocks, from the root. Adds to *sum what is new to the member;
 * *ret is the tail to be given back (JR_LIVE_NONE for no blocks). JR_ENOMEM: nothing changed. */
JR_MUST_CHECK int jr_live_take(struct jr_live *t, uint32_t member, const uint64_t *hashes,
                               uint32_t n, uint64_t *sum, uint32_t *ret);
/* It ends. */
void jr_live_give(struct jr_live *t, uint32_t member, uint32_t tail, uint64_t *sum);
/* The blocks at the end of the request's prompt that none of the member's other requests holds count
 * `weight` from now on, until somebody shares them. */
void jr_live_weigh(struct jr_live *t, uint32_t member, uint32_t tail, uint32_t weight,
                   uint64_t *sum);

/* Leading blocks of these that requests of the member hold. */
uint32_t jr_live_match(const struct jr_live *t, uint32_t member, const uint64_t *hashes,
                       uint32_t n);
/* The same of every member: raises depth[member] to it. */
void jr_live_match_all(const struct jr_live *t, const uint64_t *hashes, uint32_t n,
                       uint32_t *depth);

uint64_t jr_live_bytes(const struct jr_live *t);

/* Test builds. The blocks a request with this tail holds, and whether the member holds all runs on
 * the way. Order of holders, chains and counts, O(all). */
uint32_t jr_live_depth(const struct jr_live *t, uint32_t member, uint32_t tail);
void jr_live_check(const struct jr_live *t);
/* Sum over the blocks of a member, O(all). */
uint64_t jr_live_sum(const struct jr_live *t, uint32_t member);

#endif
