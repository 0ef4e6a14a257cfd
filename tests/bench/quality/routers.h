/* SPDX-License-Identifier: Apache-2.0 */
/* routers: N replicas of the router, each a pool of the core (core/pool.h) that is driven with
 * virtual time: a log they all read, and the batches they tell each other. */
#ifndef JR_BENCH_QUALITY_ROUTERS_H
#define JR_BENCH_QUALITY_ROUTERS_H

#include "cache.h"
#include "core/pool.h"
#include "trace.h"

#define Q_REPLICAS_MAX 8
#define Q_WORKERS_MAX  512

struct q_policy {
    const char *name;
    enum jr_router_mode mode;
    struct jr_cost_config cost;
    enum jr_tie tie;
    bool pooled; /* all engines share one cache: the bound */
};

/* A copy of a batch, for each of the peers. */
struct q_batch {
    struct jr_sync_batch b;
    uint32_t from, refs;
};
void q_batch_unref(struct q_batch *batch);

struct q_routers {
    const struct q_trace *trace;
    uint32_t n, n_workers;
    bool sync; /* they tell each other */
    struct jr_pool *pool[Q_REPLICAS_MAX];
    struct jr_actions actions[Q_REPLICAS_MAX];
    /* Takes a batch with no references yet. */
    void (*publish)(void *ctx, struct q_batch *batch);
    /* At the start: the batches that were published are to be delivered. */
    void (*settle)(void *ctx, double now_s);
    void *ctx;
    uint64_t seq;                    /* of the log */
    uint64_t next_id[Q_WORKERS_MAX]; /* of the worker's events */
    struct jr_kv_event *events;      /* scratch of q_routers_log */
    struct jr_kv_block *blocks;
    uint64_t *hashes;
    uint32_t cap;
    uint64_t wrong; /* answers that no router may give */
};

/* Makes them ready to route. publish, settle and ctx are set before. */
void q_routers_start(struct q_routers *q, const struct q_policy *policy, uint64_t seed);
void q_routers_stop(struct q_routers *q);
/* The worker of a request, UINT32_MAX when it is refused. */
uint32_t q_routers_route(struct q_routers *q, uint32_t replica, uint32_t request, double now_s);
void q_routers_tell(struct q_routers *q, enum jr_event_type type, uint32_t replica,
                    uint32_t request, double now_s);
/* The worker's changes, as one message of the log, to all. */
void q_routers_log(struct q_routers *q, uint32_t worker, const struct q_log *log, double now_s);
void q_routers_sync(struct q_routers *q, uint32_t to, const struct q_batch *batch, double now_s);
/* Loads that are not zero, and indexes that do not hold as many blocks as the engines do. */
uint64_t q_routers_check(struct q_routers *q, uint64_t entries, double now_s);

#endif
