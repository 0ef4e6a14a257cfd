/* SPDX-License-Identifier: Apache-2.0 */
/* approx: a prefix index fed by the router's own decisions, for where there are no KV events, or
 * ahead of them. The pool's owner thread only.
 *
 * A routed prompt is believed to be cached by its worker for a time to live from its last routing;
 * each routing renews the whole path. A look-up renews nothing. An entry is a (member, prefix hash)
 * and takes part in matches by an index of its own, in which block hash and prefix hash are the
 * same. All entries stand in one list, in the order in which they leave:
 *
 *     head                                                                       tail
 *     [a2] [a1] | [b3] [b2] | [a0 c3 … renewed by the last routing: deepest first … c0]
 *      └ first to leave: the longest ago routed, of one routing the deepest block first
 *
 * The time to live is the same for all, so this is also the order of expiry; a leaf always leaves
 * before its parent. A routing unlinks and links as many entries as its prompt has blocks.
 *
 * Entries leave in slices (jr_approx_work): when they are expired, and, once there are more than
 * entries_max, until at most entries_max * prune_ratio are left. An insertion does a part of that
 * work itself, so there are never more than entries_max + JR_PROMPT_BLOCKS_MAX. An expired entry
 * counts until a slice takes it. The same calls give the same content. */
#ifndef JR_CORE_APPROX_H
#define JR_CORE_APPROX_H

#include "base/err.h"
#include "base/mem.h"
#include "core/index.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_approx;

struct jr_approx_config {
    uint64_t ttl_ms;
    uint64_t entries_max; /* over all members; > 0 */
    double prune_ratio;   /* 0..1 */
};

/* Borrows mem. Returns owned. JR_EINVAL for a configuration out of range, JR_ENOMEM. */
JR_MUST_CHECK int jr_approx_create(struct jr_mem *mem, const struct jr_approx_config *config,
                                   struct jr_approx **ret);
void jr_approx_destroy(struct jr_approx *a);

/* A prompt was routed to a member: its blocks, from the root, are believed to be there from now_ms
 * on (a clock that goes back stands still). A member is introduced on first use; worker_id and
 * dp_rank are its identity. Borrows prefix. JR_ELIMIT (n > JR_PROMPT_BLOCKS_MAX), JR_ENOMEM: a
 * first part of the blocks is in, and all is whole. */
JR_MUST_CHECK int jr_approx_insert(struct jr_approx *a, uint32_t member, uint64_t worker_id,
                                   uint32_t dp_rank, const uint64_t *prefix, uint32_t n,
                                   uint64_t now_ms);
/* The member's cache is gone, or the member is: forgets both. Nothing when it is not known. */
void jr_approx_drop(struct jr_approx *a, uint32_t member);
/* Takes up to max entries that are due. True when more are due. */
bool jr_approx_work(struct jr_approx *a, uint64_t now_ms, uint32_t max);
/* Is jr_approx_work due? */
bool jr_approx_is_due(const struct jr_approx *a, uint64_t now_ms);

/* What is believed; scores by jr_index_match. Borrowed until the next insertion. */
const struct jr_index *jr_approx_index(const struct jr_approx *a);
uint64_t jr_approx_entries(const struct jr_approx *a);
/* Of one member; 0 when it is not known. */
uint64_t jr_approx_member_entries(const struct jr_approx *a, uint32_t member);

/* Test builds: every invariant between list, table and index, O(n). */
void jr_approx_check(const struct jr_approx *a);

#endif
