/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the bridge:
 *     hub.c             streams and buckets, requests in the state bucket, for all bridges
 *     bridge.c          life, the tick
 *     bridge_source.c   a rank's events and replays, and their publishing
 *     bridge_engine.c   health, what the engine says of itself
 *     bridge_lease.c    the worker's lease
 *     bridge_measure.c  status and metrics
 *     bridge_main.c     the command
 * Everything that has to be done sometime is done by the tick, which compares what is with what
 * should be; callbacks only shorten the wait. */
#ifndef JR_APP_BRIDGE_BRIDGE_INTERNAL_H
#define JR_APP_BRIDGE_BRIDGE_INTERNAL_H

#include "app/bridge/bridge.h"
#include "app/bridge/turn.h"
#include "base/retold.h"
#include "io/js_kv.h"
#include "io/js_publish.h"
#include "io/lane.h"
#include "io/zmq_replay.h"
#include "io/zmq_sub.h"

#define JR_BRIDGE_TICK_MS        100
#define JR_BRIDGE_HEALTH_MS      500
#define JR_BRIDGE_HEALTH_FAILS   3    /* in a row: the lease is not renewed any more */
#define JR_BRIDGE_POLL_MS        500  /* of the state bucket */
#define JR_BRIDGE_INFO_EVERY     4    /* polls: is the stream still the same, what size the pool */
#define JR_BRIDGE_RETRY_MS       500  /* of what failed at NATS */
#define JR_BRIDGE_IDLE_CHECK_MS  500  /* after the last live message: was it the last */
#define JR_BRIDGE_CHECK_EVERY_MS 1000 /* and then: is it still the same engine, and all it said */
#define JR_BRIDGE_CHECKS_PER_S   500  /* of all ranks of a hub: with more ranks each waits longer */
#define JR_BRIDGE_CHECK_BACKOFF  5    /* doublings, while it does not answer */
#define JR_BRIDGE_SUBSCRIBE_MS   5000 /* after a socket could not be had */
#define JR_BRIDGE_SUMMARY_MS     60000
#define JR_BRIDGE_FLUSH_MS       3000
/* Replicas list leases twice a second: one that asks this soon after a new incarnation was put in
 * the lease has not seen it yet. If it means it, it asks again. */
#define JR_BRIDGE_REANNOUNCE_GRACE_MS 2000
#define JR_BRIDGE_REPLAY_TRIES        3
#define JR_BRIDGE_REPLAY_MS           3000
#define JR_BRIDGE_REPLAY_IDLE_MS      500
#define JR_BRIDGE_REPLAY_BYTES        (UINT64_C(256) << 20)
#define JR_BRIDGE_PEEK_BYTES          ((size_t)256 << 20)
#define JR_BRIDGE_WINDOW_MSGS         4096 /* not acknowledged, of all ranks */
#define JR_BRIDGE_WINDOW_BYTES        (UINT64_C(64) << 20)
/* At once each bridge has a job of its lease or its release; few more are the hub's. */
#define JR_BRIDGE_LANE_DEPTH (2 * JR_BRIDGES_MAX)
/* Two each rank, and some that are being closed. */
#define JR_BRIDGE_SOCKETS_MAX (2 * JR_BRIDGES_MAX * JR_RANKS_INLINE + 1024)

struct jr_bridge_hub {
    struct jr_bridge_hub_config config; /* strings owned */
    char stream[JR_STREAM_NAME_MAX], leases_bucket[JR_STREAM_NAME_MAX],
        state_bucket[JR_STREAM_NAME_MAX];
    char subject[JR_STREAM_NAME_MAX + 16];
    struct jr_timer *tick;
    struct jr_lane *nats_lane;
    struct jr_zmq_group *engines;
    struct jr_bridge *bridges[JR_BRIDGES_MAX];
    uint32_t n_bridges;
    uint32_t turns, rank_turns; /* so many were given: turn.h */
    uint64_t check_every_ms;    /* of a silent rank, by how many there are */

    struct jr_js_publisher *publisher;
    struct jr_js_kv *leases, *state;
    bool opened;
    bool reopen;      /* something was missing: make it again */
    uint64_t seen_in; /* the connection in which all was there last */
    bool opening, polling;
    struct jr_retold open_failed;
    uint64_t open_at_ms, poll_at_ms;
    uint32_t polls;
    int64_t stream_created_ns;
    bool has_epoch;
    struct jr_epoch epoch;
    uint64_t ttl_ms;                             /* of the lease bucket */
    uint64_t leases_renewed, leases_not_renewed; /* times, of all bridges */

    bool closing, ended;
    uint32_t parts; /* that have to end before the memory may go: jobs, the publisher */
    void (*close_cb)(void *ctx);
    void *close_ctx;
};

/* What is published of a rank: its device's blocks, and the rows of lower media. */
struct jr_bridge_flow {
    struct jr_bridge_source *source;
    struct jr_bridge_rank *rank;
    uint64_t sent_at_ns; /* of the batch under way */
};

/* One dp rank. */
struct jr_bridge_source {
    struct jr_bridge *bridge;
    char *kv_endpoint, *replay_endpoint; /* the latter NULL: none */
    struct jr_bridge_rank rank;
    struct jr_bridge_lower *lower;              /* owned; NULL: only the device's blocks count */
    struct jr_bridge_flow flows[1 + JR_LOWERS]; /* the rank's first */
    uint32_t n_flows;
    struct jr_bridge_feed feed;
    struct jr_zmq_sub *sub;
    struct jr_zmq_asker *asker;            /* NULL: no replay endpoint, or not asked yet */
    struct jr_msg *held_head, **held_tail; /* jr_zmq_msg that wait for a replay */
    bool asking;                           /* a question is under way */
    bool replaying;                        /* and messages wait for its answer */
    uint64_t asked_next, asked_restarts;   /* of the feed, when it was asked */
    uint32_t unanswered;                   /* questions in a row */
    bool started;                          /* the first begin was asked for */
    uint32_t replay_tries;
    uint32_t turn;
    uint64_t last_live_ms, checked_at_ms;
    uint64_t replays_filled, replays_failed;
    uint64_t leased_incarnation; /* in the lease */
    uint64_t leased_at_ms;       /* when that was put there */
};

struct jr_bridge {
    struct jr_bridge_hub *hub;
    struct jr_bridge_config config; /* strings owned */
    uint64_t worker_id;
    char lease_key[40];
    struct jr_timer *tick;
    uint32_t jobs; /* lane jobs, publishes and HTTP calls under way */
    uint64_t summary_at_ms;
    struct jr_bridge_source *sources[JR_RANKS_INLINE]; /* made as the engine tells of them */
    uint32_t n_sources;
    uint32_t n_ranks; /* of them, that the engine has now */

    /* engine */
    struct jr_worker_lease about; /* what the lease says, but for the ranks */
    uint32_t said_ranks;          /* by the engine; 0: nothing */
    bool discovered;              /* about is whole */
    bool healthy;
    bool asking;    /* an HTTP call is under way */
    bool listening; /* for its block size, in its events */
    uint32_t health_failures;
    uint32_t turn;
    uint64_t health_asked_ms;
    bool warned_health, warned_block_size, warned_ranks;
    uint64_t subscribe_at_ms;

    /* the lease */
    bool leasing;
    uint64_t lease_at_ms;
    uint64_t lease_revision; /* 0: none held */
    uint64_t lease_until_ms; /* when it ends by itself */
    uint64_t lease_losses;
    bool lease_claimed;       /* a lease was written in this life */
    bool asked_pool;          /* since this bridge came */
    uint32_t pool_block_size; /* as last heard of the pool; 0: nothing */
    uint32_t peer_block_size; /* and of another worker, where the pool says none */
    uint32_t told_sizes[2];   /* of the refusal that was logged last: ours, the pool's */

    /* end */
    bool closing;   /* asked to end */
    bool releasing; /* the lease is being given back */
    bool ended;     /* parts are closing */
    uint32_t closings;
    uint64_t flush_until_ms;
    void (*close_cb)(void *ctx);
    void *close_ctx;
};

uint64_t jr_bridge_now_ms(void);
/* Takes the job; false when the lane is full (the job is the caller's). */
bool jr_bridge_submit(struct jr_bridge *b, struct jr_lane *lane, struct jr_job *job);
/* First in each completion: uncounts it; false when the bridge has ended. */
bool jr_bridge_job_done(struct jr_bridge *b);
void jr_bridge_maybe_closed(struct jr_bridge *b); /* last in each completion */

/* Sources up to n ranks; false when they are more than a lease holds. */
bool jr_bridge_sources_make(struct jr_bridge *b, uint32_t n);
void jr_bridge_source_free(struct jr_bridge_source *s);
void jr_bridge_source_pump(struct jr_bridge_source *s); /* publish what is there */
void jr_bridge_source_begin(struct jr_bridge_source *s, enum jr_begin_reason reason, bool forget);
/* Not before it was started: then the first begin says it all. */
void jr_bridge_begin(struct jr_bridge *b, enum jr_begin_reason reason);
/* Subscribes, or says why not. */
void jr_bridge_source_subscribe(struct jr_bridge_source *s);
/* The engine is there, with this block size; it may be another one than before. */
void jr_bridge_source_discovered(struct jr_bridge_source *s, uint32_t block_size);
void jr_bridge_source_tick(struct jr_bridge_source *s, uint64_t now);
bool jr_bridge_source_idle(const struct jr_bridge_source *s); /* nothing is left to publish */
/* The stream is another one: its sequences say nothing of those that were acknowledged. */
void jr_bridge_source_moved(struct jr_bridge_source *s);
/* Is it the rank of that number, or one of its rows? */
bool jr_bridge_source_has_row(const struct jr_bridge_source *s, uint32_t dp_rank);
void jr_bridge_source_stop(struct jr_bridge_source *s);
/* What a message says of the block size; 0: nothing. */
uint32_t jr_bridge_source_block_size(const struct jr_bridge_source *s);

void jr_bridge_engine_tick(struct jr_bridge *b, uint64_t now);
/* A message came of an engine that does not say its block size: it may tell. */
void jr_bridge_engine_heard(struct jr_bridge *b, const struct jr_bridge_source *s);

void jr_bridge_lease_tick(struct jr_bridge *b, uint64_t now);
/* Gives the lease back, then calls jr_bridge_released; false: there is none or no way. */
bool jr_bridge_release(struct jr_bridge *b);
void jr_bridge_released(struct jr_bridge *b);
/* Is there a lease that has not ended. */
bool jr_bridge_registered(const struct jr_bridge *b);
/* What blocks have to be of; 0: nobody says it. Where no replica does, a worker that comes keeps to
 * those that are there. */
uint32_t jr_bridge_size_wanted(const struct jr_bridge *b);
/* Blocks of another size than the pool's: no lease. */
bool jr_bridge_refused(const struct jr_bridge *b);

/* Adding: JR_ELIMIT. */
JR_MUST_CHECK int jr_bridge_hub_add(struct jr_bridge_hub *h, struct jr_bridge *b);
void jr_bridge_hub_remove(struct jr_bridge_hub *h, struct jr_bridge *b);
/* The outcome of a job: what was deleted under us is made anew, a little later; what a server that came
 * back does not have, at once. */
void jr_bridge_hub_missing(struct jr_bridge_hub *h, int err);
void jr_bridge_hub_maybe_ended(struct jr_bridge_hub *h); /* a bridge has ended */
void jr_bridge_hub_maybe_gone(struct jr_bridge_hub *h);  /* and its memory is gone */
void jr_bridge_log_summary(const struct jr_bridge *b);
void jr_bridge_measure(const struct jr_bridge *b, struct jr_metrics *m);
void jr_bridge_unmeasure(const struct jr_bridge *b, struct jr_metrics *m);
void jr_bridge_measure_ack(const struct jr_bridge_flow *f);

#endif
