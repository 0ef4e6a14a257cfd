/* SPDX-License-Identifier: Apache-2.0 */
/* replicas: the peers of this replica and what they have in flight. docs/protocol.md §6.
 *
 * Each peer sends numbered batches of deltas, and now and then a base: all its live requests, in
 * parts. A hole in the numbers asks for a base; until it came, what is known goes on counting.
 * When the first token of a booking comes tells how fast its worker is, but only if its admission
 * was seen as it happened: not in a base, and not in what the stream held when it was opened.
 *
 *     batch n ── n+1 ── base part 0 ── n+2 ── part 1 (last) ── n+3
 *                         │              │          └─ sweep what the base did not list, then redo
 *                         │              └─ applied at once, and kept to be redone
 *                         └─ a new generation begins
 *
 * A peer's bookings count while its lease is listed with the same incarnation. When that is over, those
 * that run outside of it (base/sync.h) are orphans, for the pool to decide upon. */
#ifndef JR_CORE_REPLICAS_H
#define JR_CORE_REPLICAS_H

#include "base/member.h"
#include "core/bookings.h"
#include "core/cost.h"

/* A delta that came between two parts of a base, to be done again after the last. */
struct jr_redo {
    enum jr_delta_type type;
    uint64_t request;
    uint32_t output_blocks;
};

struct jr_peer {
    char id[JR_NAME_MAX];
    uint64_t incarnation; /* of the bookings */
    bool listed;          /* its lease, with this incarnation */
    bool has_lease;
    bool heard; /* a batch of this incarnation came */
    struct jr_replica_lease lease;
    uint64_t last_seen_ms;            /* lease or batch */
    uint64_t revision, renewed_at_ms; /* of its lease, and when that was first seen */
    uint64_t last_number;             /* of its batches; 0: none yet */
    bool base_read;                   /* a whole base of this incarnation */
    bool in_base;
    bool wants; /* we miss something: ask it for a base */
    uint64_t base_number;
    uint32_t next_part;
    uint32_t generation;
    struct jr_bookings bookings;
    struct {
        JR_ARR_FIELDS(struct jr_redo);
    } redo;
};

struct jr_replicas {
    struct jr_mem *mem;
    struct jr_members *members;
    struct jr_active *active;
    uint64_t *next_key;
    JR_ARR_FIELDS(struct jr_peer *); /* owned; sorted by id */
    struct jr_bookings orphans;      /* do not count; oldest first, by when they became such */
    bool truncated;                  /* the last list had more than JR_REPLICAS_MAX */
    bool ignore_output;              /* of the peers' bookings; set after init */
    bool live;                       /* the stream is read to its end: what comes happens now */
    uint64_t changed_ms;             /* a lease came or went, or a life began, last */
    uint64_t gaps, received, refused, unknown;
};

void jr_replicas_init(struct jr_replicas *rs, struct jr_mem *mem, struct jr_members *members,
                      struct jr_active *active, uint64_t *next_key);
void jr_replicas_deinit(struct jr_replicas *rs, uint64_t now_ms);
struct jr_peer *jr_replicas_find(const struct jr_replicas *rs, const char *id); /* or NULL */

/* A re-list: leases of all replicas but ours. Those not in it stop counting at once; they are
 * forgotten after forget_ms. More than JR_REPLICAS_MAX: the rest is left out and counted, and
 * `truncated` says so. JR_ENOMEM. */
JR_MUST_CHECK int jr_replicas_list(struct jr_replicas *rs, const struct jr_replica_lease *leases,
                                   uint32_t n, const char *self, uint64_t forget_ms,
                                   uint64_t now_ms);
/* One batch of a peer (never ours). *ret_want_base: some peer must be asked for a base. speed is
 * what the pool learned; a base with more samples of it is taken over. */
JR_MUST_CHECK int jr_replicas_apply(struct jr_replicas *rs, const struct jr_sync_batch *batch,
                                    struct jr_speed *speed, bool *ret_want_base, uint64_t now_ms);
/* The sync stream was opened anew: numbers start over, bases are needed. Orphans are forgotten, for they may
 * have ended meanwhile. */
void jr_replicas_reopened(struct jr_replicas *rs, uint64_t now_ms);
/* Every listed peer's base was read, but of those that do not sync. */
bool jr_replicas_complete(const struct jr_replicas *rs);
/* Some listed peer that syncs must be asked for a base. */
bool jr_replicas_want(const struct jr_replicas *rs);
/* An outside request is over, whosever it is: it becomes no orphan, nor stays one. Its owner says itself
 * that it has ended it. */
void jr_replicas_ended(struct jr_replicas *rs, uint64_t request, uint64_t now_ms);
uint32_t jr_replicas_expire(struct jr_replicas *rs, uint64_t before_ms, uint64_t now_ms);

#endif
