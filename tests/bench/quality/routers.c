/* SPDX-License-Identifier: Apache-2.0 */
#include "routers.h"
#include "base/assert.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_MS   100000.0 /* of the virtual clock: what came before is the start of the routers */
#define UNIX_NS    INT64_C(1800000000000000000)
#define START_S    -90.0
#define ROUND_S    0.1
#define ROUNDS_MAX 600

static uint64_t to_ms(double now_s)
{
    return (uint64_t)(START_MS + now_s * 1000);
}

/* ---- batches --------------------------------------------------------------------------------- */

static struct q_batch *copy_batch(const struct jr_sync_batch *b, uint32_t from)
{
    struct q_batch *c = jr_xalloc(sizeof *c);
    struct jr_delta *deltas = jr_xalloc((b->n_deltas + 1) * sizeof *deltas);
    *c = (struct q_batch){.b = *b, .from = from};
    for (uint32_t i = 0; i < b->n_deltas; i++) {
        deltas[i] = b->deltas[i];
        if (deltas[i].b.n_blocks)
            deltas[i].b.blocks =
                jr_xmemdup(b->deltas[i].b.blocks, deltas[i].b.n_blocks * sizeof(uint64_t));
    }
    c->b.deltas = deltas;
    return c;
}

void q_batch_unref(struct q_batch *c)
{
    if (c->refs > 1) {
        c->refs--;
        return;
    }
    for (uint32_t i = 0; i < c->b.n_deltas; i++)
        if (c->b.deltas[i].b.n_blocks)
            jr_xfree((void *)(uintptr_t)c->b.deltas[i].b.blocks);
    jr_xfree((void *)(uintptr_t)c->b.deltas);
    jr_xfree(c);
}

/* ---- driving --------------------------------------------------------------------------------- */

static void step(struct q_routers *q, uint32_t i, struct jr_event *e, uint64_t now_ms)
{
    e->now_ms = now_ms;
    e->unix_ns = UNIX_NS + (int64_t)now_ms * 1000000;
    struct jr_actions *a = &q->actions[i];
    if (jr_pool_step(q->pool[i], e, a) < 0) {
        (void)fprintf(stderr, "event %d is refused\n", (int)e->type);
        exit(1);
    }
    for (uint32_t k = 0; k < a->n; k++)
        if (a->v[k].type == JR_ACT_PUBLISH_SYNC)
            q->publish(q->ctx, copy_batch(&a->v[k].u.sync, i));
}

/* Ticks come late by the time between two events, which is a few ms. */
static void event(struct q_routers *q, uint32_t i, struct jr_event *e, double now_s)
{
    uint64_t now_ms = to_ms(now_s);
    if (now_ms >= jr_pool_deadline_ms(q->pool[i])) {
        struct jr_event tick = {.type = JR_EV_TICK};
        step(q, i, &tick, now_ms);
    }
    step(q, i, e, now_ms);
}

/* What the servers would answer an empty pool that starts. */
static void answer(struct q_routers *q, uint32_t i, uint64_t now_ms)
{
    for (uint32_t k = 0; k < q->actions[i].n; k++) {
        struct jr_event e = {0};
        switch (q->actions[i].v[k].type) {
        case JR_ACT_TAKE_LEASE:
            e.type = JR_EV_LEASE_HELD;
            break;
        case JR_ACT_LOAD_SNAPSHOT:
            e.type = JR_EV_SNAPSHOT_LOADED;
            e.u.loaded.err = JR_ENOTFOUND;
            break;
        case JR_ACT_STREAM_INFO:
            e.type = JR_EV_STREAM_INFO;
            e.u.stream.facts = (struct jr_stream_facts){.created_ns = UNIX_NS, .first_seq = 1};
            break;
        default:
            continue;
        }
        step(q, i, &e, now_ms); /* its actions are new ones */
        k = UINT32_MAX;
    }
}

static void list_members(struct q_routers *q)
{
    struct jr_worker_lease *w = jr_xalloc(q->n_workers * sizeof *w);
    struct jr_replica_lease r[Q_REPLICAS_MAX];
    for (uint32_t i = 0; i < q->n_workers; i++) {
        w[i] = (struct jr_worker_lease){.worker_id = i + 1, .block_size = Q_BLOCK, .n_ranks = 1};
        w[i].ranks[0].incarnation = i + 1;
        (void)snprintf(w[i].url, sizeof w[i].url, "http://worker-%u", i);
    }
    for (uint32_t i = 0; i < q->n; i++)
        jr_pool_lease(q->pool[i], &r[i]);
    for (uint32_t i = 0; i < q->n; i++) {
        struct jr_event e = {.type = JR_EV_MEMBERS};
        e.u.members.workers = w;
        e.u.members.n_workers = q->n_workers;
        e.u.members.replicas = r;
        e.u.members.n_replicas = q->n;
        step(q, i, &e, to_ms(START_S));
    }
    jr_xfree(w);
}

static bool all_ready(struct q_routers *q)
{
    struct jr_pool_view v;
    for (uint32_t i = 0; i < q->n; i++) {
        jr_pool_view(q->pool[i], &v);
        if (!v.ready)
            return false;
    }
    return true;
}

static void create(struct q_routers *q, uint32_t i, const struct q_policy *policy, uint64_t seed)
{
    struct jr_pool_config c = {.incarnation = i + 1,
                               .seed = seed * Q_REPLICAS_MAX + i,
                               .namespace_ = "bench",
                               .component = "quality",
                               .durable = true,
                               .replica_sync = q->sync,
                               .assume_kv_reuse = true,
                               .track_active_blocks = true,
                               .mode = policy->mode,
                               .cost = policy->cost,
                               .tie = policy->tie,
                               .snapshot_threshold = UINT64_MAX,
                               .snapshot_max_age_ms = UINT64_MAX / 2,
                               .lease_ttl_ms = 5000,
                               .stale_worker_ms = 60000,
                               .active_expiry_ms = UINT64_C(1) << 40,
                               .ready_timeout_ms = 60000,
                               .base_interval_ms = 10000,
                               .sync_flush_ms = 0};
    (void)snprintf(c.replica_id, sizeof c.replica_id, "r%u", i);
    if (jr_pool_create(&c, NULL, &q->pool[i]) < 0)
        abort();
}

void q_routers_start(struct q_routers *q, const struct q_policy *policy, uint64_t seed)
{
    for (uint32_t i = 0; i < q->n; i++) {
        struct jr_event e = {.type = JR_EV_NATS};
        create(q, i, policy, seed);
        e.u.nats.connected = true;
        step(q, i, &e, to_ms(START_S));
        answer(q, i, to_ms(START_S));
    }
    list_members(q);
    for (uint32_t i = 0; i < q->n && q->sync; i++) {
        struct jr_event e = {.type = JR_EV_SYNC_OPENED};
        step(q, i, &e, to_ms(START_S));
    }
    for (int round = 1; !all_ready(q) || round < 10; round++) {
        double now_s = START_S + round * ROUND_S;
        q->settle(q->ctx, now_s);
        if (round == ROUNDS_MAX) {
            (void)fprintf(stderr, "the routers do not become ready\n");
            exit(1);
        }
        for (uint32_t i = 0; i < q->n; i++) {
            struct jr_event e = {.type = JR_EV_TICK};
            step(q, i, &e, to_ms(now_s));
        }
    }
}

void q_routers_stop(struct q_routers *q)
{
    for (uint32_t i = 0; i < q->n; i++) {
        jr_actions_deinit(&q->actions[i], q->pool[i]);
        jr_pool_destroy(q->pool[i]);
    }
    jr_xfree(q->events);
    jr_xfree(q->blocks);
    jr_xfree(q->hashes);
}

uint32_t q_routers_route(struct q_routers *q, uint32_t replica, uint32_t request, double now_s)
{
    const struct q_request *r = &q->trace->v[request];
    struct jr_event e = {.type = JR_EV_ROUTE};
    e.u.route = (struct jr_route){
        .id = request + 1, .tokens = r->isl, .prefix = r->prefix, .n_prefix = r->n_blocks};
    event(q, replica, &e, now_s);
    const struct jr_actions *a = &q->actions[replica];
    for (uint32_t k = 0; k < a->n; k++)
        if (a->v[k].type == JR_ACT_DECIDE && a->v[k].u.decide.id == request + 1)
            return (uint32_t)a->v[k].u.decide.worker_id - 1;
    q->wrong++;
    return UINT32_MAX;
}

void q_routers_tell(struct q_routers *q, enum jr_event_type type, uint32_t replica,
                    uint32_t request, double now_s)
{
    struct jr_event e = {.type = type};
    e.u.request.id = request + 1;
    event(q, replica, &e, now_s);
}

void q_routers_sync(struct q_routers *q, uint32_t to, const struct q_batch *batch, double now_s)
{
    struct jr_event e = {.type = JR_EV_SYNC, .u.sync = &batch->b};
    event(q, to, &e, now_s);
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Engine hashes differ from worker to worker, as real ones may. */
static uint64_t engine_hash(const struct q_routers *q, uint32_t worker, uint32_t node)
{
    return q->trace->node_hash[node] ^ ((uint64_t)worker + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void reserve(struct q_routers *q, uint32_t n)
{
    if (n <= q->cap)
        return;
    q->cap = 2 * n;
    q->events = jr_xrealloc(q->events, q->cap * sizeof *q->events);
    q->blocks = jr_xrealloc(q->blocks, q->cap * sizeof *q->blocks);
    q->hashes = jr_xrealloc(q->hashes, q->cap * sizeof *q->hashes);
}

/* Does change i go on where the one before ended? */
static bool goes_on(const struct q_log *log, uint32_t i)
{
    const struct q_change *a = &log->v[i - 1], *b = &log->v[i];
    return a->removed == b->removed && (a->removed || b->parent == a->node);
}

static uint32_t make_events(struct q_routers *q, uint32_t worker, const struct q_log *log)
{
    uint32_t n = 0;
    reserve(q, log->n);
    for (uint32_t i = 0; i < log->n; i++) {
        const struct q_change *c = &log->v[i];
        uint64_t hash = engine_hash(q, worker, c->node);
        q->hashes[i] = hash;
        q->blocks[i] = (struct jr_kv_block){hash, q->trace->node_local[c->node]};
        if (i > 0 && goes_on(log, i)) {
            q->events[n - 1].n++;
            continue;
        }
        q->events[n++] = (struct jr_kv_event){
            .type = c->removed ? JR_KV_REMOVED : JR_KV_STORED,
            .has_parent = !c->removed && c->parent != Q_NO_NODE,
            .parent_hash =
                !c->removed && c->parent != Q_NO_NODE ? engine_hash(q, worker, c->parent) : 0,
            .blocks = &q->blocks[i],
            .hashes = &q->hashes[i],
            .n = 1,
        };
    }
    return n;
}

void q_routers_log(struct q_routers *q, uint32_t worker, const struct q_log *log, double now_s)
{
    struct jr_log_msg m = {.seq = ++q->seq, .time_ns = UNIX_NS, .kind = JR_LOG_KIND_BATCH};
    m.payload_hash = q->seq;
    m.u.batch = (struct jr_kv_batch){
        .worker_id = worker + 1,
        .incarnation = worker + 1,
        .first_id = q->next_id[worker],
        .begin = q->next_id[worker] == 0,
        .n_events = make_events(q, worker, log),
    };
    m.u.batch.events = q->events;
    q->next_id[worker] += m.u.batch.n_events;
    for (uint32_t i = 0; i < q->n; i++) {
        struct jr_event e = {.type = JR_EV_LOG, .u.log = &m};
        event(q, i, &e, now_s);
    }
}

uint64_t q_routers_check(struct q_routers *q, uint64_t entries, double now_s)
{
    uint64_t wrong = q->wrong;
    for (uint32_t i = 0; i < q->n; i++) {
        struct jr_pool_view v;
        struct jr_worker_view w;
        uint32_t pos = 0;
        struct jr_event e = {.type = JR_EV_TICK};
        step(q, i, &e, to_ms(now_s));
        jr_pool_view(q->pool[i], &v);
        if (v.n_bookings || v.entries != entries || v.counters.dropped_unknown_parent ||
            v.counters.dropped_hole || v.counters.dropped_stale || v.counters.sync_gaps) {
            (void)fprintf(stderr, "replica %u: %u bookings, %llu entries of %llu, gaps %llu\n", i,
                          v.n_bookings, (unsigned long long)v.entries, (unsigned long long)entries,
                          (unsigned long long)v.counters.sync_gaps);
            wrong++;
        }
        while (jr_pool_next_worker(q->pool[i], &pos, &w))
            if (w.active_requests || w.active_blocks || w.active_prefill_tokens ||
                w.backlog_seconds != 0)
                wrong++;
    }
    return wrong;
}
