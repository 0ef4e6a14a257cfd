/* SPDX-License-Identifier: Apache-2.0 */
/* state: what a pool's event stream says, and nothing else.
 *
 * The state is a pure function of the prefix of the stream: the index, the current incarnation and
 * newest event id of every (worker, rank), the epoch, the agreed parameters, the rule version and
 * the refusal counters. No clock, no flag of one replica, no memory pressure enters it, so two
 * replicas at the same sequence have the same digest. docs/protocol.md §2, §3.
 *
 *     rank row:   absent ──begin──► current(incarnation, newest id) ──hole──► waiting
 *                                      ▲                                        │
 *                                      └────────────── begin ◄──────────────────┘
 */
#ifndef JR_CORE_STATE_H
#define JR_CORE_STATE_H

#include "base/image.h"
#include "base/member.h"
#include "core/index.h"
#include "core/members.h"

#define JR_RULES_FIRST   1 /* the rules a log begins with */
#define JR_RULES_VERSION 1 /* newest apply rules this program knows */

struct jr_state_rank {
    bool present;
    bool waiting; /* saw a hole; everything is ignored until the next begin */
    bool has_id;
    uint64_t incarnation;
    uint64_t newest_id;
};

/* What one message did that somebody outside the state must hear of. */
enum jr_state_effect {
    JR_EFFECT_REANNOUNCE = 1, /* (worker, rank): a hole or an unknown history */
    JR_EFFECT_BEGAN = 2,      /* (worker, rank) began a new incarnation */
    JR_EFFECT_GONE = 4,       /* a worker's ranks were dropped */
    JR_EFFECT_RESET = 8,
    JR_EFFECT_CONFIG = 16,
    JR_EFFECT_ADOPT = 32,
};

struct jr_state_counters {
    uint64_t dropped_unknown_parent, dropped_stale, dropped_hole, undecodable, refused_cap, skipped;
};

struct jr_state {
    struct jr_mem *mem;         /* borrows */
    struct jr_members *members; /* borrows; shared with the registry */
    struct jr_index *index;     /* owns */
    struct {
        JR_ARR_FIELDS(struct jr_state_rank); /* by member */
    } ranks;
    uint32_t n_ranks; /* present rows */
    uint64_t turns;   /* changes of which rows there are, and of whose incarnation */
    struct jr_pool_params params;
    struct jr_epoch epoch;
    char reset_token[64];
    uint32_t rule_version;
    uint32_t rules_max; /* newest it may be raised to; not part of what the log says */
    struct jr_kv_tally
        *tally; /* borrows; neither is what became of the events here; NULL: uncounted */
    struct jr_state_counters counters;
    uint64_t seq; /* last applied */
    int64_t msg_time_ns;
    uint64_t msg_hash;
    uint64_t ranks_sum; /* of the rows' terms, kept as they change */
    /* The digests at each of the last sequences, by sequence modulo their number: whatever a peer
     * was at when it wrote its lease, it can be compared with. */
    struct jr_digest_point points[JR_DIGEST_POINTS];
    struct jr_state *next_retired; /* of whoever owns it */
};

JR_MUST_CHECK int jr_state_create(struct jr_mem *mem, struct jr_members *members,
                                  struct jr_state **ret);
void jr_state_destroy(struct jr_state *s);
/* Drops all it holds, members' references, too; what memory is left is the work of jr_state_work. */
void jr_state_empty(struct jr_state *s);

/* Applies one message; msg->seq must be s->seq + 1 (the caller checked). 0 with *ret_effect a set
 * of enum jr_state_effect; JR_EVERSION: newer rules than we know, nothing applied; JR_EHISTORY: from
 * here on the state is an image that is not ours (Adopt), nothing applied; JR_ENOMEM: the state is
 * broken and must be thrown away. */
JR_MUST_CHECK int jr_state_apply(struct jr_state *s, const struct jr_log_msg *msg,
                                 uint32_t *ret_effect);

/* Sliced work on memory that clears, resets and images left: is there any, and a slice of it. */
bool jr_state_has_work(const struct jr_state *s);
void jr_state_work(struct jr_state *s, uint32_t max);
/* What the state holds is what the log says at msg, a Reset or an Adopt: it goes on from there. The
 * sequences it had, and the digests at them, were another history's. */
void jr_state_rebase(struct jr_state *s, uint64_t seq, int64_t msg_time_ns, uint64_t msg_hash);
/* The message changes nothing but the position. */
void jr_state_pass(struct jr_state *s, const struct jr_log_msg *msg);
/* Is this what an Adopt speaks of? */
bool jr_state_is_image_of(const struct jr_state *s, const struct jr_control *adopt);

/* The two digests now; both are kept as the state changes. */
uint64_t jr_state_digest_blocks(const struct jr_state *s);
uint64_t jr_state_digest_table(const struct jr_state *s);
/* Records the point at the present sequence; jr_state_apply does so by itself. */
void jr_state_record_point(struct jr_state *s);
/* Rows were filled in from outside: sums them up anew. */
void jr_state_recount(struct jr_state *s);
/* The point at that sequence, or NULL. */
const struct jr_digest_point *jr_state_point(const struct jr_state *s, uint64_t seq);
const struct jr_digest_point *jr_state_newest_point(const struct jr_state *s);

/* The row of (worker, rank), made when it is absent: JR_ELIMIT at JR_STATE_RANKS_MAX, JR_ENOMEM. For
 * the two halves of this module only. */
JR_MUST_CHECK int jr_state_make_rank(struct jr_state *s, uint64_t worker_id, uint32_t dp_rank,
                                     uint32_t *ret, bool *ret_made);
const struct jr_state_rank *jr_state_rank(const struct jr_state *s, uint32_t member); /* or NULL */

/* --- image out: of the state as it is at begin, whatever it becomes until the steps are done. --- */
struct jr_state_export {
    struct jr_image *image; /* owned until taken */
};
/* JR_EAGAIN: the memory of one that was given up is still being put in order, by the events that
 * follow and jr_state_work; JR_ENOMEM. */
JR_MUST_CHECK int jr_state_export_begin(struct jr_state *s, struct jr_state_export *x);
/* Copies about max entries. 0: whole; JR_EAGAIN: there is more; JR_ECLOSED: a Reset came. */
JR_MUST_CHECK int jr_state_export_step(struct jr_state *s, struct jr_state_export *x, uint32_t max);
/* Not arranged yet: jr_image_arrange. */
struct jr_image *jr_state_export_take(struct jr_state_export *x); /* returns owned */
/* Gives it up; returns owned what is there of it, or NULL. */
struct jr_image *jr_state_export_abort(struct jr_state *s, struct jr_state_export *x);

/* --- image in: into a fresh state; sliced the same way. The image is borrowed until the end. ---
 */
struct jr_state_import {
    const struct jr_image *image;
    uint32_t *member_of_rank;
    uint32_t next_rank; /* tables of those below are there */
    uint64_t next;
    uint32_t at; /* where the index put the entry before */
};
JR_MUST_CHECK int jr_state_import_begin(struct jr_state *s, struct jr_state_import *x,
                                        const struct jr_image *image);
/* JR_EAGAIN while there is more, 0 when done and both digests equal the header's, JR_ECORRUPT. */
JR_MUST_CHECK int jr_state_import_step(struct jr_state *s, struct jr_state_import *x, uint32_t max);
void jr_state_import_end(struct jr_state *s, struct jr_state_import *x);

#endif
