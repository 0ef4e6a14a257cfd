/* SPDX-License-Identifier: Apache-2.0 */
/* active: what every member of a pool is busy with: the live bookings of all replicas, and the load
 * they make. The pool's owner thread only. No clock: now_ms comes in, monotonic, any origin.
 *
 * A booking counts its prompt's blocks (a block that several bookings of one member share counts
 * once), its prefill tokens and estimated prefill seconds until the first token, then as decoding.
 * Output blocks count when the caller reports them. Work is at most proportional to the blocks of
 * the request (core/live.h); all sums are integers, so that they return to zero exactly. */
#ifndef JR_CORE_ACTIVE_H
#define JR_CORE_ACTIVE_H

#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_active;

/* Borrows mem. Returns owned. JR_ENOMEM. */
JR_MUST_CHECK int jr_active_create(struct jr_mem *mem, struct jr_active **ret);
void jr_active_destroy(struct jr_active *a);

struct jr_active_booking {
    uint64_t key;                  /* of the request, unique among the live ones */
    uint32_t member;               /* < JR_WORKERS_MAX */
    const uint64_t *prefix_hashes; /* of the prompt's full blocks; copied */
    uint32_t n;
    uint64_t prefill_tokens; /* to compute; 0 when prefill is not tracked */
    double prefill_seconds;  /* estimate without the speed factor; negative or NaN reads as 0 */
};

/* 0, JR_EEXIST (key is live), JR_ELIMIT (member or request count), JR_ENOMEM; nothing booked then.
 */
JR_MUST_CHECK int jr_active_add(struct jr_active *a, const struct jr_active_booking *b,
                                uint64_t now_ms);

/* One observation for core/cost.h's jr_speed. */
struct jr_active_sample {
    bool valid;         /* only the oldest prefill of a member tells how long it took */
    double estimated_s; /* its own, and of those that ended behind it meanwhile */
    double taken_s;     /* 0 for those that ended with the one before */
};
/* The first token came: prefill tokens and backlog end. Again: no effect. ret_sample may be NULL.
 * JR_ENOTFOUND. */
int jr_active_first_token(struct jr_active *a, uint64_t key, uint64_t now_ms,
                          struct jr_active_sample *ret_sample);
/* The request has `total` output blocks by now. weight in 0..1 is what each of them, and each block
 * at the end of its prompt that no other booking shares, counts from now on (1: no decay).
 * JR_ENOTFOUND. */
int jr_active_output_blocks(struct jr_active *a, uint64_t key, uint32_t total, double weight);
/* The booking ends; implies first_token without a sample. JR_ENOTFOUND. */
int jr_active_free(struct jr_active *a, uint64_t key, uint64_t now_ms);

/* What the backlog is made of, by member; seconds are estimates. Derived from integer sums, so that no
 * rounding adds up. */
struct jr_active_pace {
    double prefill_s; /* of all whose first token has not come */
    double oldest_s;  /* of the oldest of them */
    double turn_ms;   /* when it got its turn */
    uint32_t requests, prefilling;
};
/* Those of the members below *ret_n; others have no requests. Borrowed until the next add. */
const struct jr_active_pace *jr_active_paces(const struct jr_active *a, uint32_t *ret_n);
/*   Q = max(sum - elapsed, sum - oldest), estimates times speed, elapsed since the oldest prefill
 * got its turn: time spent can finish only the oldest until we hear of it. */
static inline double jr_active_backlog(const struct jr_active_pace *p, double now_ms, double speed)
{
    double elapsed = (now_ms - p->turn_ms) * 0.001, oldest = speed * p->oldest_s, q;

    elapsed = elapsed > 0 ? elapsed : 0; /* a clock that goes back stands still */
    q = speed * p->prefill_s - (elapsed < oldest ? elapsed : oldest);
    return q > 0 ? q : 0;
}

struct jr_active_load {
    uint32_t requests;
    uint32_t decoding;      /* requests past their first token */
    uint64_t active_blocks; /* rounded half up */
    uint64_t prefill_tokens;
    double backlog_s; /* Q of the cost in seconds */
};
/* Load of one member; zeros for one that never had a booking. speed is the learned factor. */
void jr_active_load(const struct jr_active *a, uint32_t member, uint64_t now_ms, double speed,
                    struct jr_active_load *ret);
/* Longest prefix of these blocks that live bookings of the member hold. The member's new blocks of
 * the request are n less this. */
uint32_t jr_active_match(const struct jr_active *a, uint32_t member, const uint64_t *prefix_hashes,
                         uint32_t n);
/* The same of every member in one walk: depth[member] is raised to it. Room for as many members as
 * there are. */
void jr_active_match_all(const struct jr_active *a, const uint64_t *prefix_hashes, uint32_t n,
                         uint32_t *depth);

uint32_t jr_active_requests(const struct jr_active *a); /* of all members */
/* A live booking: its member and whether its first token came. */
bool jr_active_get(const struct jr_active *a, uint64_t key, uint32_t *ret_member,
                   bool *ret_decoding);
uint64_t jr_active_bytes(const struct jr_active *a);

/* Test builds: recomputes every sum, O(all). */
void jr_active_check(const struct jr_active *a);

#endif
