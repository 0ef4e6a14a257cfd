/* SPDX-License-Identifier: Apache-2.0 */
/* hub: what the bridges of a process share: one pool's streams and buckets, the publisher, the lane on
 * which NATS' blocking calls wait, and the thread of all sockets to engines. Loop thread only.
 *
 *     bridge ─┬─ batches ──► publisher ──► event stream
 *     bridge ─┤  leases ───► NATS lane ──► lease bucket
 *     bridge ─┘  ◄─ reannounce, epoch, another stream, the pool's block size ◄── poll, for all
 *     bridge ◄─ events, replays ── jr_zmq_group ◄── engines: none waits for another */
#ifndef JR_APP_BRIDGE_HUB_H
#define JR_APP_BRIDGE_HUB_H

#include "app/metrics.h"
#include "io/http_client.h"
#include "io/nats_conn.h"

struct jr_bridge;
struct jr_bridge_hub;

/* Strings are copied. */
struct jr_bridge_hub_config {
    struct jr_loop *loop; /* this and the next three must outlive the hub */
    struct jr_nats *nats;
    struct jr_http_client *client;
    struct jr_metrics *metrics; /* may be NULL: nothing is measured */
    const char *namespace_, *component;
    uint64_t lease_ttl_ms;
    uint64_t stream_max_bytes;
    uint32_t nats_replicas;
    bool event_json;  /* Dynamo's RouterEvent JSON instead of batches */
    bool lower_media; /* tell of blocks in host memory and on disk, too (lower.h); not with JSON */
    /* NATS has no JetStream at all: nothing will ever work. May be NULL. */
    void (*on_fatal)(void *ctx, int err, const char *text);
    void *ctx;
};

/* JR_EINVAL, JR_EIO with words in e. */
JR_MUST_CHECK int jr_bridge_hub_create(const struct jr_bridge_hub_config *config,
                                       struct jr_bridge_hub **ret, struct jr_errmsg *e);
/* Closes the bridges that are left (bridge.h), then ends. Takes the hub; cb (may be NULL) on the loop
 * when its memory is gone. */
void jr_bridge_hub_close(struct jr_bridge_hub *h, void (*cb)(void *ctx), void *ctx);

/* The pool's streams and buckets are there, and so is the connection. */
bool jr_bridge_hub_ready(const struct jr_bridge_hub *h);
/* For one that is not: why. Borrowed until the loop goes on. */
const char *jr_bridge_hub_not_ready(const struct jr_bridge_hub *h);
/* Its bridges, in the order they came; NULL past the last. Those that are closing count no more. */
const struct jr_bridge *jr_bridge_hub_at(const struct jr_bridge_hub *h, uint32_t i);
/* Copies the counters of all its bridges into the metrics. */
void jr_bridge_hub_measure(struct jr_bridge_hub *h);

#endif
