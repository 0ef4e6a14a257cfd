/* SPDX-License-Identifier: Apache-2.0 */
#include "routers.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/limits.h"
#include "wire/sync_codec.h"
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

static struct q_batch *encode(const struct jr_sync_batch *b, uint32_t from)
{
    struct jr_buf buf;
    jr_buf_init(&buf, JR_BATCH_BYTES_MAX);
    if (jr_sync_encode(b, &buf) < 0) {
        (void)fprintf(stderr, "a batch cannot be encoded\n");
        exit(1);
    }
    struct q_batch *c = jr_xalloc(sizeof *c + buf.n);
    *c = (struct q_batch){.from = from, .refs = 1, .n = buf.n};
    memcpy(c->bytes, buf.p, buf.n);
    jr_buf_deinit(&buf);
    return c;
}

void q_batch_unref(struct q_batch *c)
{
    if (--c->refs == 0)
        jr_xfree(c);
}

/* Takes a reference. The first part of a base rolls up what its sender said before. */
static void store(struct q_routers *q, struct q_batch *c, bool rollup)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; rollup && i < q->stream.n; i++) {
        if (q->stream.v[i]->from == c->from)
            q_batch_unref(q->stream.v[i]);
        else
            q->stream.v[kept++] = q->stream.v[i];
    }
    if (rollup)
        q->stream.n = kept;
    if (q->stream.n == q->stream.cap) {
        q->stream.cap = q->stream.cap ? 2 * q->stream.cap : 256;
        q->stream.v = jr_xrealloc(q->stream.v, q->stream.cap * sizeof *q->stream.v);
    }
    c->refs++;
    q->stream.v[q->stream.n++] = c;
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
    for (uint32_t k = 0; k < a->n; k++) {
        if (a->v[k].type != JR_ACT_PUBLISH_SYNC)
            continue;
        const struct jr_sync_batch *b = &a->v[k].u.sync;
        struct q_batch *c = encode(b, i);
        store(q, c, b->is_base && b->part == 0);
        q->publish(q->ctx, c);
        q_batch_unref(c);
    }
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
            e.u.stream.facts =
                (struct jr_stream_facts){.created_ns = UNIX_NS, .first_seq = 1, .last_seq = q->seq};
            break;
        default:
            continue;
        }
        step(q, i, &e, now_ms); /* its actions are new ones */
        k = UINT32_MAX;
    }
}

#define LEASE_MS 5000

static void tell_members(struct q_routers *q, const struct jr_worker_lease *w, double now_s)
{
    struct jr_replica_lease r[Q_REPLICAS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < q->n; i++)
        if (q->pool[i] || to_ms(now_s) < q->lease_ends_ms[i])
            r[n++] = q->lease[i];
    for (uint32_t i = 0; i < q->n; i++) {
        struct jr_event e = {.type = JR_EV_MEMBERS};
        e.u.members.workers = w;
        e.u.members.n_workers = q->n_workers;
        e.u.members.replicas = r;
        e.u.members.n_replicas = n;
        if (q->pool[i])
            step(q, i, &e, to_ms(now_s));
    }
}

void q_routers_list(struct q_routers *q, double now_s)
{
    struct jr_worker_lease *w = jr_xalloc(q->n_workers * sizeof *w);
    for (uint32_t i = 0; i < q->n_workers; i++) {
        w[i] = (struct jr_worker_lease){.worker_id = i + 1, .block_size = Q_BLOCK, .n_ranks = 1};
        w[i].ranks[0].incarnation = i + 1;
        (void)snprintf(w[i].url, sizeof w[i].url, "http://worker-%u", i);
    }
    for (uint32_t i = 0; i < q->n; i++)
        if (q->pool[i]) {
            jr_pool_lease(q->pool[i], &q->lease[i]);
            q->lease_ends_ms[i] = to_ms(now_s) + LEASE_MS;
        }
    tell_members(q, w, now_s);
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

static void create(struct q_routers *q, uint32_t i)
{
    const struct q_policy *policy = q->policy;
    struct jr_pool_config c = {.incarnation = q->lives[i]++ * Q_REPLICAS_MAX + i + 1,
                               .seed = q->seed * Q_REPLICAS_MAX + i,
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
                               .lease_ttl_ms = LEASE_MS,
                               .stale_worker_ms = 60000,
                               .active_expiry_ms = UINT64_C(1) << 40,
                               .ready_timeout_ms = 60000,
                               .base_interval_ms = 10000,
                               .sync_flush_ms = 2};
    (void)snprintf(c.replica_id, sizeof c.replica_id, "r%u", i);
    if (jr_pool_create(&c, NULL, &q->pool[i]) < 0)
        abort();
}

static void connect_one(struct q_routers *q, uint32_t i, double now_s)
{
    struct jr_event e = {.type = JR_EV_NATS};
    create(q, i);
    e.u.nats.connected = true;
    step(q, i, &e, to_ms(now_s));
    answer(q, i, to_ms(now_s));
}

void q_routers_start(struct q_routers *q, const struct q_policy *policy, uint64_t seed)
{
    q->policy = policy;
    q->seed = seed;
    jr_arena_init(&q->arena, JR_SYNC_ARENA_MAX);
    for (uint32_t i = 0; i < q->n; i++)
        connect_one(q, i, START_S);
    q_routers_list(q, START_S);
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

bool q_routers_ready(struct q_routers *q, uint32_t i)
{
    struct jr_pool_view v;
    if (!q->pool[i])
        return false;
    jr_pool_view(q->pool[i], &v);
    return v.ready;
}

void q_routers_kill(struct q_routers *q, uint32_t i, double now_s)
{
    q->lease_ends_ms[i] = to_ms(now_s) + LEASE_MS; /* written just now: it counts longest */
    jr_actions_deinit(&q->actions[i], q->pool[i]);
    jr_pool_destroy(q->pool[i]);
    q->pool[i] = NULL;
}

double q_routers_deadline_s(const struct q_routers *q, uint32_t i)
{
    return ((double)jr_pool_deadline_ms(q->pool[i]) - START_MS) / 1000;
}

void q_routers_wake(struct q_routers *q, uint32_t i, double now_s)
{
    struct jr_event e = {.type = JR_EV_TICK};
    if (to_ms(now_s) >= jr_pool_deadline_ms(q->pool[i]))
        step(q, i, &e, to_ms(now_s));
}

void q_routers_stop(struct q_routers *q)
{
    for (uint32_t i = 0; i < q->n; i++)
        if (q->pool[i])
            q_routers_kill(q, i, 0);
    for (uint32_t i = 0; i < q->stream.n; i++)
        q_batch_unref(q->stream.v[i]);
    jr_xfree(q->stream.v);
    jr_arena_deinit(&q->arena);
    for (uint32_t i = 0; i < q->kept.n; i++)
        jr_xfree(q->kept.v[i].v);
    jr_xfree(q->kept.v);
    jr_xfree(q->kept.worker);
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
    if (q->pool[replica])
        event(q, replica, &e, now_s);
}

void q_routers_sync(struct q_routers *q, uint32_t to, const struct q_batch *batch, double now_s)
{
    struct jr_sync_batch b;
    struct jr_event e = {.type = JR_EV_SYNC, .u.sync = &b};
    if (!q->pool[to])
        return;
    jr_arena_reset(&q->arena);
    if (jr_sync_decode(batch->bytes, batch->n, &q->arena, &b, NULL) < 0)
        q->wrong++;
    else
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

static void make_message(struct q_routers *q, uint32_t worker, const struct q_log *log,
                         uint64_t seq, uint64_t *next_id, struct jr_log_msg *m)
{
    *m = (struct jr_log_msg){
        .seq = seq, .time_ns = UNIX_NS, .kind = JR_LOG_KIND_BATCH, .payload_hash = seq};
    m->u.batch = (struct jr_kv_batch){
        .worker_id = worker + 1,
        .incarnation = worker + 1,
        .first_id = *next_id,
        .begin = *next_id == 0,
        .n_events = make_events(q, worker, log),
    };
    m->u.batch.events = q->events;
    *next_id += m->u.batch.n_events;
}

static void keep(struct q_routers *q, uint32_t worker, const struct q_log *log)
{
    if (q->kept.n == q->kept.cap) {
        q->kept.cap = q->kept.cap ? 2 * q->kept.cap : 4096;
        q->kept.v = jr_xrealloc(q->kept.v, q->kept.cap * sizeof *q->kept.v);
        q->kept.worker = jr_xrealloc(q->kept.worker, q->kept.cap * sizeof *q->kept.worker);
    }
    q->kept.v[q->kept.n] =
        (struct q_log){.v = jr_xmemdup(log->v, log->n * sizeof *log->v), .n = log->n};
    q->kept.worker[q->kept.n++] = worker;
}

void q_routers_log(struct q_routers *q, uint32_t worker, const struct q_log *log, double now_s)
{
    struct jr_log_msg m;
    make_message(q, worker, log, ++q->seq, &q->next_id[worker], &m);
    if (q->keep_log)
        keep(q, worker, log);
    for (uint32_t i = 0; i < q->n; i++) {
        struct jr_event e = {.type = JR_EV_LOG, .u.log = &m};
        if (q->pool[i])
            event(q, i, &e, now_s);
    }
}

/* ---- a router that starts -------------------------------------------------------------------- */

static void replay(struct q_routers *q, uint32_t i, double now_s)
{
    uint64_t next_id[Q_WORKERS_MAX] = {0};
    for (uint32_t k = 0; k < q->kept.n; k++) {
        struct jr_log_msg m;
        uint32_t worker = q->kept.worker[k];
        make_message(q, worker, &q->kept.v[k], k + 1, &next_id[worker], &m);
        struct jr_event e = {.type = JR_EV_LOG, .u.log = &m};
        step(q, i, &e, to_ms(now_s));
    }
}

void q_routers_boot(struct q_routers *q, uint32_t i, double now_s)
{
    struct jr_event e = {.type = JR_EV_SYNC_OPENED};
    connect_one(q, i, now_s);
    replay(q, i, now_s);
    for (uint32_t k = 0; q->sync && k < q->stream.n; k++) {
        struct q_batch *b = q->stream.v[k]; /* what the events say changes the stream */
        b->refs++;
        q_routers_sync(q, i, b, now_s);
        q_batch_unref(b);
    }
    if (q->sync)
        step(q, i, &e, to_ms(now_s));
    q_routers_list(q, now_s);
}

uint64_t q_routers_check(struct q_routers *q, uint64_t entries, double now_s)
{
    uint64_t wrong = q->wrong;
    for (uint32_t i = 0; i < q->n; i++) {
        if (!q->pool[i])
            continue;
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
