/* SPDX-License-Identifier: Apache-2.0 */
/* routers: N replicas of the router, each a pool of the core (core/pool.h) that is driven with
 * virtual time: a log they all read, the sync stream, and the leases. What they tell each other is
 * encoded and decoded as it is on the wire, and a router that starts finds in the stream what a
 * real one would: of each sender its last base and what came after it. */
#ifndef JR_BENCH_QUALITY_ROUTERS_H
#define JR_BENCH_QUALITY_ROUTERS_H

#include "cache.h"
#include "core/pool.h"
#include "trace.h"
#include "wire/arena.h"

#define Q_REPLICAS_MAX 8
#define Q_WORKERS_MAX  512

struct q_policy {
    const char *name;
    enum jr_router_mode mode;
    struct jr_cost_config cost;
    enum jr_tie tie;
    bool pooled; /* all engines share one cache: the bound */
};

/* A message of the sync stream; one reference for the stream, one for each peer it goes to. */
struct q_batch {
    uint32_t from, refs;
    size_t n;
    uint8_t bytes[];
};
void q_batch_unref(struct q_batch *batch);

struct q_routers {
    const struct q_trace *trace;
    uint32_t n, n_workers;
    bool sync; /* they tell each other */
    const struct q_policy *policy;
    uint64_t seed;
    struct jr_pool *pool[Q_REPLICAS_MAX]; /* NULL: it does not run */
    uint32_t lives[Q_REPLICAS_MAX];
    struct jr_replica_lease lease[Q_REPLICAS_MAX];
    uint64_t lease_ends_ms[Q_REPLICAS_MAX];
    struct { /* the sync stream */
        struct q_batch **v;
        uint32_t n, cap;
    } stream;
    struct jr_arena arena; /* of the batch that is being read */
    bool keep_log;         /* for those who start later; set before the start */
    struct {               /* the log, as far as it is kept: changes of one worker each */
        struct q_log *v;
        uint32_t *worker;
        uint32_t n, cap;
    } kept;
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

/* Makes them ready to route. publish, settle and ctx are set before. Borrows policy. */
void q_routers_start(struct q_routers *q, const struct q_policy *policy, uint64_t seed);
void q_routers_stop(struct q_routers *q);
/* A router ends, at once. */
void q_routers_kill(struct q_routers *q, uint32_t i, double now_s);
/* It starts anew, with the log and the streams and nothing else. */
void q_routers_boot(struct q_routers *q, uint32_t i, double now_s);
bool q_routers_ready(struct q_routers *q, uint32_t i);
/* All live ones renew their leases and list them. */
void q_routers_list(struct q_routers *q, double now_s);
/* When a router wants to be woken, and that. */
double q_routers_deadline_s(const struct q_routers *q, uint32_t i);
void q_routers_wake(struct q_routers *q, uint32_t i, double now_s);
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
