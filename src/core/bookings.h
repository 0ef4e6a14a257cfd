/* SPDX-License-Identifier: Apache-2.0 */
/* bookings: the live requests of one replica, ours or a peer's, and their share in the load.
 *
 * A booking is known from admission to done. It counts in the active sequences only while its set
 * is `counted`: a peer's set counts while the peer's lease is listed, and is held aside otherwise
 * (design: load is shared, and dies with its owner). */
#ifndef JR_CORE_BOOKINGS_H
#define JR_CORE_BOOKINGS_H

#include "base/list.h"
#include "base/map.h"
#include "base/sync.h"
#include "core/active.h"
#include "core/members.h"

struct jr_booked {
    struct jr_list node; /* in the set, oldest progress last touched first: see jr_bookings */
    struct jr_booking b; /* blocks are an own copy */
    uint32_t member;     /* one reference */
    uint64_t key;        /* in active; unique over all sets of the pool */
    bool in_active;
    uint64_t session, session_life; /* it belongs to (core/sessions.h); 0: none; set after add */
    bool adopted;                   /* it was a dead replica's, too; set after add */
    bool again;     /* admitted once more: the peers know of it already; set after add */
    bool ended;     /* a peer's, and somebody says that it is over: it is nobody's orphan */
    bool of_prompt; /* the blocks are those that the request was routed by; set after add */
    uint64_t progress_at_ms;
    uint32_t expected_output_tokens; /* 0 unknown: output blocks count whole */
    double output_weight;            /* what an output block counts, 0..1; set it before progress */
    uint32_t
        generation; /* of the base that listed it last; of an orphan: whose life it was, in short */
    bool
        timed; /* it counts since its admission: when its first token comes says how long that took */
};

struct jr_bookings {
    struct jr_mem *mem;         /* borrows */
    struct jr_members *members; /* borrows */
    struct jr_active *active;   /* borrows */
    uint64_t *next_key;         /* borrows: the pool's counter */
    struct jr_map by_request;   /* request -> struct jr_booked * */
    struct jr_list list;        /* by progress, oldest first */
    uint32_t n;
    bool counted;
    bool ignore_output; /* output blocks are no part of the load; set after init */
};

void jr_bookings_init(struct jr_bookings *bs, struct jr_mem *mem, struct jr_members *members,
                      struct jr_active *active, uint64_t *next_key);
void jr_bookings_deinit(struct jr_bookings *bs, uint64_t now_ms);
/* Copies. A request that is booked already is brought up to date (a base repeats it), or replaced
 * when it is at another place: JR_ENOMEM, JR_ELIMIT. */
JR_MUST_CHECK int jr_bookings_add(struct jr_bookings *bs, const struct jr_booking *b,
                                  uint64_t now_ms, struct jr_booked **ret);
struct jr_booked *jr_bookings_find(const struct jr_bookings *bs, uint64_t request); /* or NULL */
/* Unknown requests are no error: they ended before we heard of them. */
void jr_bookings_first_token(struct jr_bookings *bs, uint64_t request, uint64_t now_ms,
                             struct jr_active_sample *ret_sample);
void jr_bookings_progress(struct jr_bookings *bs, uint64_t request, uint32_t output_blocks,
                          uint64_t now_ms);
void jr_bookings_done(struct jr_bookings *bs, uint64_t request, uint64_t now_ms);
void jr_bookings_clear(struct jr_bookings *bs, uint64_t now_ms);
/* Let the whole set count, or hold it aside. */
void jr_bookings_count(struct jr_bookings *bs, bool counted, uint64_t now_ms);
/* Drops those of another generation; returns how many. */
uint32_t jr_bookings_sweep(struct jr_bookings *bs, uint32_t generation, uint64_t now_ms);
/* Drops those without progress since before_ms; returns how many. */
uint32_t jr_bookings_expire(struct jr_bookings *bs, uint64_t before_ms, uint64_t now_ms);

#endif
