/* SPDX-License-Identifier: Apache-2.0 */
/* The pool on its own decisions: approximate mode with static workers and with peers, and what is
 * predicted ahead of KV events. */
#include "core/hash.h"
#include "pool_rig.h"

#define BLOCKS 20

static void config(struct jr_pool_config *c, bool approximate, uint64_t ttl_ms)
{
    rig_config(c);
    c->approximate = approximate;
    c->approx =
        (struct jr_approx_config){.ttl_ms = ttl_ms, .entries_max = 1000, .prune_ratio = 0.8};
}

static void add_static(struct rig *r, uint32_t n)
{
    struct jr_worker_lease leases[4] = {0};
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    for (uint32_t i = 0; i < n; i++) {
        leases[i].worker_id = i + 1;
        (void)snprintf(leases[i].url, sizeof leases[i].url, "http://w%u", i + 1);
    }
    ev.u.members.workers = leases;
    ev.u.members.n_workers = n;
    ev.u.members.is_static = true;
    rig_step(r, &ev);
}

static struct jr_decision route(struct rig *r, uint64_t id, uint64_t prompt, bool query_only,
                                bool by_text)
{
    uint64_t prefix[BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++)
        prefix[i] = prompt + i;
    jr_hash_prefix(prefix, BLOCKS, prefix);
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = (struct jr_route){.id = id,
                                   .tokens = BLOCKS * 64 + 1,
                                   .prefix = prefix,
                                   .n_prefix = BLOCKS,
                                   .by_text = by_text,
                                   .query_only = query_only};
    rig_step(r, &ev);
    const struct jr_action *a = rig_find(r, JR_ACT_DECIDE);
    assert_non_null(a);
    return a->u.decide;
}

static struct jr_decision ask(struct rig *r, uint64_t id, uint64_t prompt, bool query_only)
{
    return route(r, id, prompt, query_only, false);
}

static void finish(struct rig *r, uint64_t id)
{
    struct jr_event ev = {.type = JR_EV_FINISH};
    ev.u.request.id = id;
    rig_step(r, &ev);
}

static void test_static_workers(void **state)
{
    (void)state;
    struct jr_pool_config c;
    struct jr_pool_view v;
    struct rig r;
    config(&c, true, 5000);
    c.durable = false;
    rig_init_with(&r, &c);
    add_static(&r, 3);
    jr_pool_view(r.pool, &v);
    assert_true(v.ready);
    assert_int_equal(v.block_size, JR_BLOCK_SIZE_DEFAULT);
    (void)ask(&r, 1, 100, true); /* a question makes nobody believe anything */
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.believed, 0);
    struct jr_decision first = ask(&r, 2, 100, false);
    assert_int_equal(first.overlap_blocks, 0);
    finish(&r, 2);
    struct jr_decision again = ask(&r, 3, 100, false);
    assert_int_equal(again.worker_id, first.worker_id);
    assert_int_equal(again.overlap_blocks, BLOCKS);
    assert_true(ask(&r, 4, 900, false).worker_id != first.worker_id); /* that one is busy */
    finish(&r, 3);
    finish(&r, 4);
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.believed, 2 * BLOCKS);
    assert_int_equal(v.entries, 2 * BLOCKS);
    rig_tick(&r, 5000);
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.believed, 0);
    assert_int_equal(ask(&r, 5, 100, true).overlap_blocks, 0);
    rig_deinit(&r);
}

/* With NATS: lease, members and the peers' load, but nothing of the stream. */
static void to_ready(struct rig *r)
{
    rig_send(r, JR_EV_TICK);
    rig_nats(r, true);
    assert_int_equal(rig_at(r), JR_REC_LEASE);
    rig_send(r, JR_EV_LEASE_HELD);
    assert_int_equal(rig_at(r), JR_REC_CATCH_UP);
    assert_null(rig_find(r, JR_ACT_LOAD_SNAPSHOT));
    rig_send(r, JR_EV_SYNC_OPENED);
    rig_members(r, true, true);
    assert_int_equal(rig_at(r), JR_REC_CATCH_UP);
    rig_peer_base(r);
    assert_int_equal(rig_at(r), JR_REC_READY);
}

static void test_with_peers(void **state)
{
    (void)state;
    struct jr_pool_config c;
    struct jr_replica_lease lease;
    struct jr_pool_view v;
    struct rig r;
    uint64_t prefix[BLOCKS];
    config(&c, true, 60000);
    c.reset_at_start = true; /* there is nothing to reset */
    rig_init_with(&r, &c);
    to_ready(&r);
    assert_null(rig_find(&r, JR_ACT_PUBLISH_CONTROL));
    jr_pool_lease(r.pool, &lease);
    assert_true(lease.ready);
    assert_false(jr_pool_may_lead(r.pool));

    for (uint32_t i = 0; i < BLOCKS; i++)
        prefix[i] = 100 + i;
    jr_hash_prefix(prefix, BLOCKS, prefix);
    struct jr_delta delta = {.type = JR_DELTA_ADMIT,
                             .b = {.request = 5,
                                   .worker_id = 1,
                                   .prompt_tokens = BLOCKS * 16,
                                   .blocks = prefix,
                                   .n_blocks = BLOCKS}};
    struct jr_sync_batch batch = {
        .replica = "peer", .incarnation = 7, .number = 1, .deltas = &delta, .n_deltas = 1};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &batch};
    rig_step(&r, &ev);
    assert_int_equal(ask(&r, 1, 100, true).overlap_blocks, BLOCKS);

    /* Its engine was restarted: the cache is gone with it. */
    r.worker.ranks[0].incarnation = 99;
    rig_members(&r, true, true);
    assert_int_equal(ask(&r, 2, 100, false).overlap_blocks, 0);

    rig_nats(&r, false);
    assert_int_equal(rig_at(&r), JR_REC_DEGRADED);
    assert_int_equal(ask(&r, 3, 100, true).overlap_blocks, BLOCKS);
    rig_nats(&r, true);
    rig_send(&r, JR_EV_LEASE_HELD);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_members(&r, true, false);
    rig_tick(&r, 100);
    assert_int_equal(rig_at(&r), JR_REC_CATCH_UP); /* the peer may merely be late */
    r.now_ms += RIG_TTL;
    rig_members(&r, true, false);
    rig_tick(&r, 100);
    assert_int_equal(rig_at(&r), JR_REC_READY);

    /* Its lease is taken back: it is forgotten, and what was believed of it. */
    struct jr_event gone = {.type = JR_EV_MEMBERS};
    uint64_t id = 1;
    gone.u.members.replicas = r.replicas;
    gone.u.members.n_replicas = 1;
    gone.u.members.removed = &id;
    gone.u.members.n_removed = 1;
    rig_step(&r, &gone);
    rig_tick(&r, 600);
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.n_workers, 0);
    assert_int_equal(v.believed, 0);
    rig_deinit(&r);
}

/* With events: siblings follow the first also when it is over before its events came. */
static void test_predicted(void **state)
{
    (void)state;
    struct jr_pool_config c;
    struct rig r;
    for (int predicted = 0; predicted < 2; predicted++) {
        config(&c, false, 2000);
        if (!predicted)
            c.approx = (struct jr_approx_config){0};
        rig_init_with(&r, &c);
        rig_ready(&r, false);
        assert_int_equal(rig_at(&r), JR_REC_READY);
        assert_int_equal(ask(&r, 1, 100, false).overlap_blocks, 0);
        finish(&r, 1);
        assert_int_equal(ask(&r, 2, 100, true).overlap_blocks, predicted ? BLOCKS : 0);
        r.now_ms += 1999;
        rig_tick(&r, 1);
        assert_int_equal(ask(&r, 3, 100, true).overlap_blocks, 0);
        rig_deinit(&r);
    }
}

/* Texts that nobody tokenized: matched with texts alone, counted in the load and in nothing that
 * speaks of the index. */
static void test_texts_beside_events(void **state)
{
    (void)state;
    struct jr_pool_config c;
    struct jr_pool_view v;
    struct rig r;
    config(&c, false, 0);
    c.approx = (struct jr_approx_config){0};
    c.by_text = (struct jr_approx_config){.ttl_ms = 2000, .entries_max = 1000, .prune_ratio = 0.8};
    rig_init_with(&r, &c);
    rig_ready(&r, false);
    assert_int_equal(route(&r, 1, 100, false, true).overlap_blocks, 0);
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.n_bookings, 1);
    uint32_t pos = 0;
    struct jr_worker_view w;
    uint64_t active = 0;
    while (jr_pool_next_worker(r.pool, &pos, &w))
        active += w.active_blocks;
    assert_int_equal(active, BLOCKS);
    finish(&r, 1);
    assert_int_equal(route(&r, 2, 100, true, true).overlap_blocks, BLOCKS);
    assert_int_equal(route(&r, 3, 100, true, false).overlap_blocks, 0); /* the same, as tokens */
    assert_int_equal(ask(&r, 4, 300, false).overlap_blocks, 0);
    finish(&r, 4);
    assert_int_equal(route(&r, 5, 300, true, true).overlap_blocks, 0); /* tokens are no texts */
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.believed, 0);
    assert_int_equal(v.counters.prompt_blocks, 2 * BLOCKS); /* those of the tokens */
    assert_int_equal(v.counters.overlap_blocks, 0);
    r.now_ms += 1999;
    rig_tick(&r, 1);
    assert_int_equal(route(&r, 6, 100, true, true).overlap_blocks, 0);
    (void)route(&r, 7, 100, false, true);
    finish(&r, 7);
    r.worker.ranks[0].incarnation = 99; /* restarted: its cache is gone */
    rig_members(&r, true, false);
    assert_int_equal(route(&r, 8, 100, true, true).overlap_blocks, 0);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_static_workers),
        cmocka_unit_test(test_with_peers),
        cmocka_unit_test(test_predicted),
        cmocka_unit_test(test_texts_beside_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
