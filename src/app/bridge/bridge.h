/* SPDX-License-Identifier: Apache-2.0 */
/* bridge: one engine's KV events into JetStream, and the lease of its worker. Loop thread only; any
 * number in one hub (hub.h), which has the pool's side of it.
 *
 *     engine ──ZMQ──► feed ─► mirror ─► rank ──batches──► event stream      one each dp rank
 *        ▲ replay ◄─── gap                 ▲ begin
 *        └─HTTP health, models, metrics    ├── state bucket: reannounce.*, epoch
 *                 └──────────────────────► lease bucket: worker.{id}
 *
 * The worker is registered once the engine's /health answers and the begin of each rank was
 * acknowledged, and renewed at a third of the TTL while both hold. Without NATS the mirror goes on;
 * what gathers is bounded, and past the bound the rank begins anew. Everything is retried for ever. */
#ifndef JR_APP_BRIDGE_BRIDGE_H
#define JR_APP_BRIDGE_BRIDGE_H

#include "app/bridge/feed.h"
#include "app/bridge/hub.h"
#include "app/config.h"

/* Strings are copied. */
struct jr_bridge_config {
    const char *engine_url;      /* http://host:port, as routers reach it */
    const char *kv_endpoint;     /* tcp://host:port of the first rank, the next one's port is one
                                    higher; with the host '*', 0.0.0.0 or [::] we bind it */
    const char *replay_endpoint; /* NULL: none; ports as above */
    bool kv_bind;                /* bind kv_endpoint whatever its host */
    uint64_t worker_id;          /* 0: derived from engine_url */
    uint32_t dp_rank;            /* the first */
    uint32_t dp_size;            /* ranks; 0: as the engine says, else 1 */
    uint32_t block_size;         /* when the engine does not say; 0: wait until it does */
    uint32_t max_num_seqs;       /* requests it runs at once; 0: not known */
    uint32_t max_batched_tokens; /* tokens of one step of it; 0: not known */
    bool plain_set;              /* a store of what is held is no new copy (mirror.h) */
    bool on_cpu;                 /* what the engine computes on */
    /* The events' socket cannot be had. NULL: it is tried again for ever. */
    void (*on_fatal)(void *ctx, int err, const char *text);
    void *ctx;
};

/* JR_EINVAL, JR_ELIMIT with words in e. The hub must outlive it. */
JR_MUST_CHECK int jr_bridge_create(struct jr_bridge_hub *hub, const struct jr_bridge_config *config,
                                   struct jr_bridge **ret, struct jr_errmsg *e);
/* Takes the worker's lease back, publishes what is gathered (at most 3 s), ends. Takes the bridge;
 * cb (may be NULL) on the loop when its memory is gone. */
void jr_bridge_close(struct jr_bridge *b, void (*cb)(void *ctx), void *ctx);

struct jr_bridge_status {
    uint64_t worker_id;
    const char *url; /* borrowed */
    bool healthy, registered;
    const char *because; /* not registered; "" when it is */
    uint32_t n_ranks;
};
struct jr_bridge_rank_status {
    uint32_t dp_rank;
    uint32_t mirror_blocks, pending_events;
    uint64_t replays_filled, replays_failed;
    struct jr_bridge_feed_counters feed;
    struct jr_bridge_rank_counters rank;
    struct jr_mirror_counters mirror;
};
void jr_bridge_status(const struct jr_bridge *b, struct jr_bridge_status *ret);
void jr_bridge_rank_status(const struct jr_bridge *b, uint32_t i,
                           struct jr_bridge_rank_status *ret);
/* The number a worker of that address has when none is given; never 0, below 2^53. */
uint64_t jr_bridge_derive_worker_id(const char *engine_url);

/* The command `jetrouter bridge`: until SIGTERM or SIGINT, then 0. */
int jr_bridge_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
