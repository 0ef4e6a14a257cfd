/* SPDX-License-Identifier: Apache-2.0 */
/* bridge: one engine's KV events into JetStream, and the lease of its worker. Loop thread only; any
 * number on one loop, sharing one connection.
 *
 *     engine ──ZMQ──► feed ─► mirror ─► rank ──batches──► event stream
 *        ▲ replay ◄─── gap                 ▲ begin
 *        └─HTTP health, models, metrics    ├── state bucket: reannounce.*, epoch
 *                 └──────────────────────► lease bucket: worker.{id}
 *
 * The worker is registered once the engine's /health answers and its begin was acknowledged, and
 * renewed at a third of the TTL while both hold. Without NATS the mirror goes on; what gathers is
 * bounded, and past the bound the rank begins anew. Everything is retried for ever. */
#ifndef JR_APP_BRIDGE_BRIDGE_H
#define JR_APP_BRIDGE_BRIDGE_H

#include "app/bridge/feed.h"
#include "app/config.h"
#include "io/http_client.h"
#include "io/nats_conn.h"

struct jr_bridge;

/* Strings are copied. */
struct jr_bridge_config {
    struct jr_loop *loop; /* this and the next two must outlive the bridge */
    struct jr_nats *nats;
    struct jr_http_client *client;
    const char *namespace_, *component;
    const char *engine_url;      /* http://host:port, as routers reach it */
    const char *kv_endpoint;     /* tcp://host:port; with the host '*' or 0.0.0.0 we bind it */
    const char *replay_endpoint; /* NULL: none */
    uint64_t worker_id;          /* 0: derived from engine_url */
    uint32_t dp_rank;
    uint32_t block_size; /* when the engine does not say; 0: wait until it does */
    uint64_t lease_ttl_ms;
    uint64_t stream_max_bytes;
    uint32_t nats_replicas;
    bool event_json; /* Dynamo's RouterEvent JSON instead of batches */
    /* NATS has no JetStream at all: nothing will ever work. May be NULL. */
    void (*on_fatal)(void *ctx, int err, const char *text);
    void *ctx;
};

/* JR_EADDRINUSE, JR_EINVAL, JR_EIO with words in e. */
JR_MUST_CHECK int jr_bridge_create(const struct jr_bridge_config *config, struct jr_bridge **ret,
                                   struct jr_errmsg *e);
/* Takes the worker's lease back, publishes what is gathered (at most 3 s), ends. Takes the bridge;
 * cb (may be NULL) on the loop when its memory is gone. */
void jr_bridge_close(struct jr_bridge *b, void (*cb)(void *ctx), void *ctx);

struct jr_bridge_stats {
    uint64_t worker_id;
    bool healthy, registered;
    uint32_t mirror_blocks, pending_events;
    uint64_t replays_filled, replays_failed;
    uint64_t lease_losses;
    struct jr_bridge_feed_counters feed;
    struct jr_bridge_rank_counters rank;
    struct jr_mirror_counters mirror;
};
void jr_bridge_stats(const struct jr_bridge *b, struct jr_bridge_stats *ret);
/* The number a worker of that address has when none is given; never 0, below 2^53. */
uint64_t jr_bridge_derive_worker_id(const char *engine_url);

/* The command `jetrouter bridge`: until SIGTERM or SIGINT, then 0. */
int jr_bridge_main(const struct jr_config *cfg, struct jr_errmsg *e);

#endif
