/* SPDX-License-Identifier: Apache-2.0 */
/* members: dense numbers for the (worker, dp rank) pairs of one pool.
 *
 * The index, the active sequences and the worker registry all speak of a "member": a small integer
 * that stands for one (worker, rank). A number is given on first use and taken back when nobody
 * refers to it any more. Numbers depend on history, so they never reach a digest or the wire.
 *
 *     worker id ──map──► head member ──next──► next rank of the same worker ──► …
 */
#ifndef JR_CORE_MEMBERS_H
#define JR_CORE_MEMBERS_H

#include "base/arr.h"
#include "base/limits.h"
#include "base/map.h"

#define JR_MEMBER_NONE UINT32_MAX

struct jr_member {
    uint64_t worker_id;
    uint32_t dp_rank;
    uint32_t refs; /* 0: free, on the free list */
    uint32_t next; /* next rank of the worker, or next free */
};

struct jr_members {
    struct jr_mem *mem; /* borrows */
    JR_ARR_FIELDS(struct jr_member);
    uint32_t free_head;
    struct jr_map by_worker; /* worker id -> head member */
};

void jr_members_init(struct jr_members *ms, struct jr_mem *mem);
void jr_members_deinit(struct jr_members *ms);
/* Finds or makes the member and takes one reference: JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_members_ref(struct jr_members *ms, uint64_t worker_id, uint32_t dp_rank,
                                 uint32_t *ret);
void jr_members_unref(struct jr_members *ms, uint32_t member);
/* JR_MEMBER_NONE when there is none. No reference is taken. */
uint32_t jr_members_find(const struct jr_members *ms, uint64_t worker_id, uint32_t dp_rank);
/* First member of a worker and the one after; order is by age, not by rank. */
uint32_t jr_members_first(const struct jr_members *ms, uint64_t worker_id);
uint32_t jr_members_next(const struct jr_members *ms, uint32_t member);

#endif
