/* SPDX-License-Identifier: Apache-2.0 */
/* feed: the messages of one engine rank in order, each once, into its rank. Pure; one thread.
 *
 *     seq == next      applied
 *     seq <  next      the same payload as then: a repetition, skipped
 *                      another payload: the engine restarted; forget, begin anew, next = 0
 *     seq >  next      a gap: the caller asks the replay socket from jr_bridge_feed_ask and tells
 *                      what came; what is not to be had any more is jumped over: forget, begin anew
 *
 * A replay is asked from one before what is missing, so that its first message proves that it is
 * still the same engine: a restarted one counts from 0 again and may long be past `next`. */
#ifndef JR_APP_BRIDGE_FEED_H
#define JR_APP_BRIDGE_FEED_H

#include "app/bridge/lower.h"
#include "wire/arena.h"
#include "wire/engine_kv.h"

#define JR_FEED_RING 4096 /* messages of which the payload's hash is remembered */

struct jr_bridge_feed_counters {
    uint64_t msgs, bytes; /* applied */
    uint64_t repeated;
    uint64_t bad;                               /* could not be read: their content is lost */
    uint64_t bad_events;                        /* inside of readable ones */
    uint64_t stored, removed, cleared, ignored; /* events */
    uint64_t other_rank;                        /* messages that name another dp rank */
    uint64_t gaps, jumps, restarts;
};

struct jr_bridge_feed {
    struct jr_bridge_rank *rank;   /* borrows */
    struct jr_bridge_lower *lower; /* borrows, of the same rank; NULL: only the device's blocks */
    uint32_t block_size;           /* stores of other sizes are not indexed */
    struct jr_engine_group group;
    struct jr_arena arena;
    uint64_t next;      /* sequence expected */
    uint64_t ring_from; /* hashes are known of [ring_from, next), the last JR_FEED_RING of them */
    uint64_t ring[JR_FEED_RING];
    struct jr_bridge_feed_counters counters;
};

enum jr_feed_verdict { JR_FEED_APPLIED, JR_FEED_REPEATED, JR_FEED_GAP };

void jr_bridge_feed_init(struct jr_bridge_feed *f, struct jr_bridge_rank *rank,
                         uint32_t block_size);
void jr_bridge_feed_deinit(struct jr_bridge_feed *f);

/* One message of the live socket. GAP: nothing was taken; give it again when the gap is dealt with. */
enum jr_feed_verdict jr_bridge_feed_live(struct jr_bridge_feed *f, uint64_t seq,
                                         const void *payload, size_t n);
/* From which sequence the replay socket is to be asked. */
uint64_t jr_bridge_feed_ask(const struct jr_bridge_feed *f);
/* One message of the replay, in the order they came; true: it proves that the engine restarted and
 * what came before it is needed: ask again, and tell no more of this replay. */
bool jr_bridge_feed_replayed(struct jr_bridge_feed *f, uint64_t seq, const void *payload, size_t n);
/* A whole replay brought nothing at all, not even what was asked for as proof: the engine restarted
 * and is silent since. */
void jr_bridge_feed_replayed_nothing(struct jr_bridge_feed *f);
/* What is missing before seq is lost for good. */
void jr_bridge_feed_jump(struct jr_bridge_feed *f, uint64_t seq);
/* All that is known of the engine is void. */
void jr_bridge_feed_restart(struct jr_bridge_feed *f);

#endif
