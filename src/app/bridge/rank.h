/* SPDX-License-Identifier: Apache-2.0 */
/* rank: the publishing of one engine rank as data in, data out. Pure, on the caller's clock; one
 * thread. docs/protocol.md, batches.
 *
 *     engine events ──► mirror ──► gathered ──► batch under way ──► stream
 *                          │           ▲            │ error, time-out: the same bytes again
 *                          └── begin ──┘            └ ack: the next
 *
 * One batch at a time is unacknowledged and its bytes never change. Events gather meanwhile, up to a
 * bound; past it the gathered ones are dropped and the rank begins anew: a fresh incarnation, ids
 * from 1, the mark `begin` and the whole mirror. Not even a begin overtakes a batch whose fate is
 * unknown: an old batch that arrived late behind it would undo it.
 *
 * With json each event is a message of its own, of all that waits and is one run or one list of
 * removals, and a begin starts with a cleared: readers that know nothing of incarnations forget what
 * they had. */
#ifndef JR_APP_BRIDGE_RANK_H
#define JR_APP_BRIDGE_RANK_H

#include "app/bridge/mirror.h"
#include "base/buf.h"
#include "base/member.h"
#include "base/rng.h"

enum jr_begin_reason {
    JR_BEGIN_START,
    JR_BEGIN_RESTART,    /* of the engine */
    JR_BEGIN_GAP,        /* events lost for good */
    JR_BEGIN_REANNOUNCE, /* a replica asked */
    JR_BEGIN_EPOCH,
    JR_BEGIN_STREAM,   /* another stream, or one that went back */
    JR_BEGIN_LEASE,    /* the worker's lease was lost */
    JR_BEGIN_OVERFLOW, /* more gathered than is kept */
    JR_BEGIN_REASONS,
};
const char *jr_begin_reason_name(enum jr_begin_reason reason);

struct jr_bridge_rank_config {
    uint64_t worker_id;
    uint32_t dp_rank;
    uint64_t seed[2];      /* random: incarnations come from it */
    uint32_t blocks_max;   /* of the mirror; 0: none */
    uint32_t events_max;   /* gathered; 0: JR_BRIDGE_EVENTS_MAX */
    uint64_t bytes_max;    /* gathered; 0: JR_BRIDGE_BYTES_MAX */
    bool json;             /* one event a message, as Dynamo's RouterEvent with our headers */
    uint32_t batch_bytes;  /* a batch is closed at this; 0: JR_BATCH_TARGET_BYTES */
    uint32_t retry_min_ms; /* after a failure, doubling; 0: 50 */
    uint32_t retry_max_ms; /* 0: 2000 */
};
#define JR_BRIDGE_EVENTS_MAX (1u << 20)
#define JR_BRIDGE_BYTES_MAX  (UINT64_C(64) << 20)
#define JR_BRIDGE_RUN_MAX    4096 /* blocks of one event: none is larger than a batch */

struct jr_bridge_rank_counters {
    uint64_t events;  /* passed on by the mirror */
    uint64_t batches; /* sent the first time */
    uint64_t batch_events;
    uint64_t acks, retries;
    uint64_t begins[JR_BEGIN_REASONS];
    uint64_t dropped; /* gathered events that a begin made superfluous */
};

/* One gathered event; its numbers lie in `words`. */
struct jr_bridge_event;

struct jr_bridge_rank {
    struct jr_bridge_rank_config config;
    /* Borrows; NULL: none. This one has its incarnation and begins anew when it does (lower.h). */
    const struct jr_bridge_rank *leader;
    struct jr_mirror mirror;
    struct jr_rng rng;
    struct jr_bridge_rank_counters counters;

    uint64_t incarnation; /* of the batches that are made now; 0: none yet */
    uint64_t next_id;
    bool begin_due;  /* begin as soon as nothing is under way */
    bool mark_begin; /* the next batch carries the mark */
    enum jr_begin_reason reason;

    struct jr_bridge_event *events; /* ring made flat: [head, n) wait */
    uint32_t events_head, events_n, events_cap;
    uint64_t *words;
    size_t words_head, words_n, words_cap;
    uint32_t listed; /* of the waiting events: from the mirror at a begin, bounded by it */
    size_t listed_words;

    struct jr_buf out; /* the batch under way; n == 0: none */
    uint64_t out_first_id;
    uint32_t out_events;
    bool out_begin;
    bool sending;   /* handed out, no outcome yet */
    bool sent_once; /* the next hand-out is a repetition */
    uint64_t retry_at_ms;
    uint32_t retry_ms;

    uint64_t announced; /* incarnation whose begin was acknowledged; 0: none */
    uint64_t acked_id;  /* of it */
    uint64_t acked_seq; /* last sequence acknowledged */
};

void jr_bridge_rank_init(struct jr_bridge_rank *r, const struct jr_bridge_rank_config *config);
void jr_bridge_rank_deinit(struct jr_bridge_rank *r);

/* What the engine said (types as base/kv.h); nothing is published before the first begin. */
void jr_bridge_rank_store(struct jr_bridge_rank *r, const struct jr_kv_event *stored,
                          uint64_t salt_part);
void jr_bridge_rank_remove(struct jr_bridge_rank *r, const uint64_t *hashes, uint32_t n);
void jr_bridge_rank_clear(struct jr_bridge_rank *r);

/* Begin anew. With forget the mirror is emptied first: what it knew cannot be trusted. */
void jr_bridge_rank_begin(struct jr_bridge_rank *r, enum jr_begin_reason reason, bool forget);
/* A begin is due or not acknowledged yet: one that is asked for now would be the same. */
bool jr_bridge_rank_beginning(const struct jr_bridge_rank *r);

struct jr_bridge_out {
    const void *p; /* borrowed until the outcome is told */
    size_t n;
    char msg_id[96]; /* {worker}-{rank}-{incarnation}-{first id} */
    bool again;
    /* With json: the values of the Jr-* headers; begin "" is none. */
    char incarnation[24], first_id[24], begin[2];
};
/* Is there something to publish at now_ms? Then it is under way until acked or failed is called. */
bool jr_bridge_rank_next(struct jr_bridge_rank *r, uint64_t now_ms, struct jr_bridge_out *ret);
void jr_bridge_rank_acked(struct jr_bridge_rank *r, uint64_t seq);
void jr_bridge_rank_failed(struct jr_bridge_rank *r, uint64_t now_ms);
/* When jr_bridge_rank_next is worth a call without further input; UINT64_MAX: not before. */
uint64_t jr_bridge_rank_deadline_ms(const struct jr_bridge_rank *r);

/* Nothing gathered, nothing under way. */
bool jr_bridge_rank_idle(const struct jr_bridge_rank *r);
uint32_t jr_bridge_rank_pending(const struct jr_bridge_rank *r); /* events not acknowledged */
void jr_bridge_rank_lease(const struct jr_bridge_rank *r, struct jr_rank_lease *ret);

#endif
