/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the bridge, in four files:
 *     bridge.c          life, the tick, publishing
 *     bridge_engine.c   health, what the engine says of itself, its events and replays
 *     bridge_nats.c     streams and buckets, the lease, requests in the state bucket
 *     bridge_main.c     the command
 * Everything that has to be done sometime is done by the tick, which compares what is with what
 * should be; callbacks only shorten the wait. */
#ifndef JR_APP_BRIDGE_BRIDGE_INTERNAL_H
#define JR_APP_BRIDGE_BRIDGE_INTERNAL_H

#include "app/bridge/bridge.h"
#include "io/js_kv.h"
#include "io/js_publish.h"
#include "io/lane.h"
#include "io/zmq_sub.h"

#define JR_BRIDGE_TICK_MS        100
#define JR_BRIDGE_HEALTH_MS      500
#define JR_BRIDGE_HEALTH_FAILS   3    /* in a row: the lease is not renewed any more */
#define JR_BRIDGE_POLL_MS        500  /* of the state bucket */
#define JR_BRIDGE_INFO_EVERY     4    /* polls: is the stream still the same */
#define JR_BRIDGE_RETRY_MS       500  /* of what failed at NATS */
#define JR_BRIDGE_IDLE_CHECK_MS  500  /* after the last live message: was it the last */
#define JR_BRIDGE_CHECK_EVERY_MS 5000 /* and then: is it still the same engine */
#define JR_BRIDGE_SUMMARY_MS     60000
#define JR_BRIDGE_FLUSH_MS       3000
/* Replicas list leases twice a second: one that asks this soon after a new incarnation was put in
 * the lease has not seen it yet. If it means it, it asks again. */
#define JR_BRIDGE_REANNOUNCE_GRACE_MS 2000
#define JR_BRIDGE_REPLAY_TRIES        3
#define JR_BRIDGE_REPLAY_MS           3000
#define JR_BRIDGE_REPLAY_IDLE_MS      500
#define JR_BRIDGE_REPLAY_BYTES        (UINT64_C(256) << 20)

struct jr_bridge {
    struct jr_bridge_config config; /* strings owned */
    struct jr_loop *loop;
    struct jr_nats *nats;
    uint64_t worker_id;
    char stream[JR_STREAM_NAME_MAX], leases_bucket[JR_STREAM_NAME_MAX],
        state_bucket[JR_STREAM_NAME_MAX];
    char subject[JR_STREAM_NAME_MAX + 16];
    char lease_key[40];

    struct jr_bridge_rank rank;
    struct jr_bridge_feed feed;
    struct jr_timer *tick;
    struct jr_lane *nats_lane, *engine_lane;
    uint32_t jobs; /* lane jobs and HTTP calls under way */
    uint64_t summary_at_ms;

    /* engine */
    struct jr_worker_lease about; /* what the lease says, but for the ranks */
    bool discovered;              /* about is whole */
    bool healthy;
    bool asking; /* an HTTP call is under way */
    bool asked_models;
    uint32_t health_failures;
    uint64_t health_at_ms;
    bool warned_health, warned_block_size;
    struct jr_zmq_sub *sub;
    struct jr_msg *held_head, **held_tail; /* jr_zmq_msg that wait for a replay */
    bool replaying;
    bool started; /* the first begin was asked for */
    uint32_t replay_tries;
    uint64_t last_live_ms, checked_at_ms;
    uint64_t replays_filled, replays_failed;

    /* NATS */
    struct jr_js_publisher *publisher;
    struct jr_js_kv *leases, *state;
    bool opened;
    bool reopen; /* something was missing: make it again */
    bool opening, polling, leasing;
    uint64_t open_at_ms, poll_at_ms, lease_at_ms;
    uint32_t polls;
    int64_t stream_created_ns;
    bool has_epoch;
    struct jr_epoch epoch;
    uint64_t ttl_ms;            /* of the bucket */
    uint64_t lease_revision;    /* 0: none held */
    uint64_t lease_incarnation; /* in it */
    uint64_t lease_new_at_ms;   /* when that incarnation was put there */
    uint64_t lease_losses;
    bool lease_claimed; /* a lease was written in this life */

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
void jr_bridge_pump(struct jr_bridge *b);         /* publish what is there */
void jr_bridge_begin(struct jr_bridge *b, enum jr_begin_reason reason, bool forget);

void jr_bridge_engine_tick(struct jr_bridge *b, uint64_t now);
void jr_bridge_engine_stop(struct jr_bridge *b);

void jr_bridge_nats_tick(struct jr_bridge *b, uint64_t now);
/* Gives the lease back, then calls jr_bridge_released; false: there is none or no way. */
bool jr_bridge_release(struct jr_bridge *b);
void jr_bridge_released(struct jr_bridge *b);

#endif
