/* SPDX-License-Identifier: Apache-2.0 */
/* pool_rig: a pool with a clock, and short words for the events that tests feed it. */
#ifndef JR_TESTS_POOL_RIG_H
#define JR_TESTS_POOL_RIG_H

#include "core/pool_internal.h"
#include "core_gen.h"
#include "jr_test.h"
#include <stdio.h>

#define RIG_CREATED 777
#define RIG_TTL     1000

struct rig {
    struct jr_pool *pool;
    struct jr_actions actions;
    uint64_t now_ms;
    struct jr_replica_lease replicas[2];
    struct jr_worker_lease worker;
    void (*seen)(void *ctx, const struct jr_actions *actions); /* after each step */
    void *ctx;
    int err; /* of the last step */
};

static inline void rig_config(struct jr_pool_config *c)
{
    *c = (struct jr_pool_config){.durable = true,
                                 .incarnation = 1,
                                 .seed = 42,
                                 .replica_sync = true,
                                 .assume_kv_reuse = true,
                                 .track_active_blocks = true,
                                 .snapshot_threshold = 10,
                                 .lease_ttl_ms = RIG_TTL,
                                 .stale_worker_ms = 3000,
                                 .active_expiry_ms = 20000,
                                 .ready_timeout_ms = 5000,
                                 .base_interval_ms = 10000,
                                 .sync_flush_ms = 2};
    (void)snprintf(c->replica_id, sizeof c->replica_id, "self");
    jr_cost_config_init(&c->cost, JR_COST_SECONDS);
}

static inline void rig_init_with(struct rig *r, const struct jr_pool_config *c)
{
    memset(r, 0, sizeof *r);
    r->now_ms = 10000;
    r->worker = (struct jr_worker_lease){.worker_id = 1, .block_size = 16, .n_ranks = 1};
    (void)snprintf(r->worker.url, sizeof r->worker.url, "http://w");
    (void)snprintf(r->replicas[0].id, sizeof r->replicas[0].id, "self");
    (void)snprintf(r->replicas[1].id, sizeof r->replicas[1].id, "peer");
    r->replicas[1].incarnation = 7;
    assert_int_equal(jr_pool_create(c, NULL, &r->pool), 0);
}

static inline void rig_init(struct rig *r)
{
    struct jr_pool_config c;
    rig_config(&c);
    rig_init_with(r, &c);
}

static inline void rig_deinit(struct rig *r)
{
    jr_actions_deinit(&r->actions, r->pool);
    jr_pool_destroy(r->pool);
}

static inline void rig_step(struct rig *r, struct jr_event *ev)
{
    ev->now_ms = r->now_ms;
    ev->unix_ns = (int64_t)r->now_ms * 1000000;
    r->actions.n = 0;
    r->err = jr_pool_step(r->pool, ev, &r->actions);
    if (r->seen && r->err == 0)
        r->seen(r->ctx, &r->actions);
}

static inline void rig_send(struct rig *r, enum jr_event_type type)
{
    struct jr_event ev = {.type = type};
    rig_step(r, &ev);
}

static inline void rig_tick(struct rig *r, uint64_t after_ms)
{
    r->now_ms += after_ms;
    rig_send(r, JR_EV_TICK);
}

static inline const struct jr_action *rig_find(const struct rig *r, enum jr_action_type type)
{
    for (uint32_t i = 0; i < r->actions.n; i++)
        if (r->actions.v[i].type == type)
            return &r->actions.v[i];
    return NULL;
}

static inline enum jr_recovery rig_at(const struct rig *r)
{
    return jr_pool_recovery(r->pool);
}

static inline void rig_nats(struct rig *r, bool connected)
{
    struct jr_event ev = {.type = JR_EV_NATS, .u.nats.connected = connected};
    rig_step(r, &ev);
}

static inline void rig_loaded(struct rig *r, int err, struct jr_image *image, const char *object)
{
    struct jr_event ev = {.type = JR_EV_SNAPSHOT_LOADED};
    ev.u.loaded.err = err;
    ev.u.loaded.image = image;
    (void)snprintf(ev.u.loaded.ref.object, sizeof ev.u.loaded.ref.object, "%s", object);
    ev.u.loaded.record = r->pool->record;
    rig_step(r, &ev);
}

static inline void rig_info(struct rig *r, int64_t created, uint64_t first, uint64_t last)
{
    struct jr_event ev = {.type = JR_EV_STREAM_INFO};
    ev.u.stream.facts =
        (struct jr_stream_facts){.created_ns = created, .first_seq = first, .last_seq = last};
    rig_step(r, &ev);
}

/* A re-list: ourselves, the worker, and the peer if asked. */
static inline void rig_members(struct rig *r, bool worker, bool peer)
{
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = &r->worker;
    ev.u.members.n_workers = worker;
    ev.u.members.replicas = r->replicas;
    ev.u.members.n_replicas = peer ? 2 : 1;
    rig_step(r, &ev);
}

static inline void rig_log(struct rig *r, const struct gen_msg *g)
{
    struct jr_event ev = {.type = JR_EV_LOG, .u.log = &g->m};
    rig_step(r, &ev);
}

static inline void rig_log_noop(struct rig *r, uint64_t from, uint64_t to)
{
    struct gen_msg g;
    for (uint64_t seq = from; seq <= to; seq++) {
        gen_init(&g, seq, JR_LOG_KIND_UNDECODABLE);
        rig_log(r, &g);
    }
}

/* Until an image is whole or installed. */
static inline void rig_slices(struct rig *r)
{
    while (r->pool->importing || jr_pool_copying(r->pool)) {
        struct jr_event ev = {.type = JR_EV_SLICE, .u.slice.max = 3};
        rig_step(r, &ev);
    }
}

static inline void rig_leader(struct rig *r, bool leader)
{
    struct jr_event ev = {.type = JR_EV_LEADER};
    ev.u.leader.is_leader = leader;
    ev.u.leader.record = r->pool->record;
    rig_step(r, &ev);
}

static inline void rig_result(struct rig *r, enum jr_event_type type, int err)
{
    struct jr_event ev = {.type = type, .u.result.err = err};
    ev.u.result.floor = r->pool->purged_to; /* as asked */
    rig_step(r, &ev);
}

static inline void rig_peer_base(struct rig *r)
{
    struct jr_sync_batch b = {
        .replica = "peer", .incarnation = 7, .is_base = true, .base_number = 1, .parts = 1};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    rig_step(r, &ev);
}

static inline void rig_route(struct rig *r, uint64_t id, const uint64_t *prefix, uint32_t n)
{
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = (struct jr_route){.id = id, .tokens = n * 16 + 3, .prefix = prefix, .n_prefix = n};
    rig_step(r, &ev);
}

static inline void rig_request(struct rig *r, enum jr_event_type type, uint64_t id, uint32_t tokens)
{
    struct jr_event ev = {.type = type};
    ev.u.request.id = id;
    ev.u.request.output_tokens = tokens;
    rig_step(r, &ev);
}

/* From nothing to ready on an empty stream, with one worker and, if asked, a peer. */
static inline void rig_ready(struct rig *r, bool peer)
{
    rig_nats(r, true);
    rig_send(r, JR_EV_LEASE_HELD);
    rig_loaded(r, JR_ENOTFOUND, NULL, "");
    rig_info(r, RIG_CREATED, 1, 0);
    rig_send(r, JR_EV_SYNC_OPENED);
    rig_members(r, true, peer);
    if (peer)
        rig_peer_base(r);
    rig_tick(r, 100);
}

#endif
