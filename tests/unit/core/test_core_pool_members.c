/* SPDX-License-Identifier: Apache-2.0 */
/* Who counts as there: leases that end, by the list and by our own clock; no verdicts while NATS is
 * away and a lease's time after; workers and replicas that come and go. */
#include "pool_rig.h"

#define MEMBER_INCARNATION 11

static struct jr_worker_view worker(struct rig *r)
{
    struct jr_worker_view v = {0};
    uint32_t pos = 0;
    assert_true(jr_pool_next_worker(r->pool, &pos, &v));
    return v;
}

static uint64_t degraded_since(struct rig *r)
{
    struct jr_pool_view v;
    jr_pool_view(r->pool, &v);
    return v.degraded_since_ms;
}

static void probed(struct rig *r, bool healthy)
{
    struct jr_event ev = {.type = JR_EV_PROBED, .u.probed = {.worker_id = 1, .healthy = healthy}};
    rig_step(r, &ev);
}

/* A list that was asked for earlier, with the worker and the peer, or neither. */
static void list_asked(struct rig *r, bool there, uint64_t asked_at_ms)
{
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = &r->worker;
    ev.u.members.n_workers = there;
    ev.u.members.replicas = r->replicas;
    ev.u.members.n_replicas = there ? 2 : 1;
    ev.u.members.asked_at_ms = asked_at_ms;
    rig_step(r, &ev);
}

static void list(struct rig *r, bool there)
{
    list_asked(r, there, r->now_ms);
}

static bool gone(const struct rig *r)
{
    const struct jr_action *a = rig_find(r, JR_ACT_PUBLISH_CONTROL);
    return a && a->u.control.type == JR_CONTROL_WORKER_GONE;
}

/* Ready, leading, with one block of the worker in the log and one request of the peer on it. */
static void begin(struct rig *r)
{
    struct gen_msg g;
    struct jr_delta d = {.type = JR_DELTA_ADMIT};
    struct jr_sync_batch b = {
        .replica = "peer", .incarnation = 7, .number = 1, .deltas = &d, .n_deltas = 1};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    rig_init(r);
    r->worker.ranks[0].incarnation = MEMBER_INCARNATION;
    rig_ready(r, true);
    rig_leader(r, true);
    gen_batch(&g, 1, 1, 0, MEMBER_INCARNATION, 1, true);
    gen_store(&g, 0, 5);
    rig_log(r, &g);
    d.b.worker_id = 1;
    d.b.prefill_tokens = 4;
    rig_step(r, &ev);
    assert_int_equal(worker(r).active_requests, 1);
    assert_true(worker(r).credited);
}

/* The server still shows the key, but nobody has renewed it. */
static void test_a_lease_ends_by_our_own_clock(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    r.worker.revision = 100;
    r.replicas[1].revision = 101;
    for (int i = 0; i < 5; i++) { /* renewed */
        r.now_ms += RIG_TTL - 1;
        r.worker.revision += 2;
        r.replicas[1].revision += 2;
        list(&r, true);
        assert_int_equal(worker(&r).state, JR_WORKER_LIVE);
    }
    r.now_ms += RIG_TTL - 1;
    list(&r, true);
    assert_true(worker(&r).credited);
    assert_int_equal(worker(&r).active_requests, 1);
    r.now_ms += 1;
    list(&r, true);
    assert_int_equal(worker(&r).state, JR_WORKER_STALE);
    assert_false(worker(&r).credited);
    assert_int_equal(worker(&r).active_requests, 0); /* the peer's */
    r.worker.revision++;
    r.replicas[1].revision++;
    list(&r, true);
    assert_true(worker(&r).credited);
    assert_int_equal(worker(&r).active_requests, 1);
    rig_deinit(&r);
}

/* A list that lay about while this process slept says nothing of the time it slept. */
static void test_sleep_is_no_lapse(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    r.worker.revision = 100;
    list(&r, true);
    uint64_t asked_at_ms = r.now_ms + 500;
    r.now_ms += 60000;
    list_asked(&r, true, asked_at_ms);
    assert_int_equal(worker(&r).state, JR_WORKER_LIVE);
    assert_false(gone(&r));
    rig_deinit(&r);
}

/* At once without credit; out when its HTTP does not answer; gone from the log after the wait. */
static void test_a_lease_that_is_missing(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    r.now_ms += RIG_TTL;
    list(&r, false);
    assert_int_equal(worker(&r).state, JR_WORKER_STALE);
    assert_false(worker(&r).credited);
    assert_int_equal(worker(&r).active_requests, 0);
    rig_route(&r, 1, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    probed(&r, false);
    rig_route(&r, 2, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_REJECT));
    for (int i = 0; i < 3; i++) {
        rig_tick(&r, 999);
        list(&r, false);
        assert_false(gone(&r));
    }
    list(&r, false);
    rig_tick(&r, 600);
    assert_true(gone(&r));
    const struct jr_control *c = &rig_find(&r, JR_ACT_PUBLISH_CONTROL)->u.control;
    assert_int_equal(c->ended[0].incarnation, MEMBER_INCARNATION);
    rig_deinit(&r);
}

/* It is gone, and begins anew, with no lease yet: that life is not ended with the one before, unless it
 * never gets a lease. */
static void test_a_life_that_begins_is_not_ended(void **state)
{
    (void)state;
    for (int on_purpose = 0; on_purpose < 2; on_purpose++) {
        struct rig r;
        struct gen_msg g;
        const uint64_t id = 1;
        struct jr_event ev = {.type = JR_EV_MEMBERS, .u.members = {.replicas = r.replicas}};
        ev.u.members.n_replicas = 1;
        ev.u.members.removed = &id;
        ev.u.members.n_removed = (uint32_t)on_purpose;
        begin(&r);
        rig_tick(&r, RIG_TTL);
        rig_step(&r, &ev);
        probed(&r, false);
        rig_tick(&r, on_purpose ? 0 : 2900);
        gen_batch(&g, 2, 1, 0, MEMBER_INCARNATION + 1, 1, true);
        gen_store(&g, 0, 5);
        rig_log(&r, &g);
        for (int i = 0; i < 4; i++) {
            rig_step(&r, &ev);
            rig_tick(&r, 700);
            assert_false(gone(&r));
        }
        rig_step(&r, &ev);
        rig_tick(&r, 700);
        assert_true(gone(&r));
        const struct jr_control *c = &rig_find(&r, JR_ACT_PUBLISH_CONTROL)->u.control;
        assert_int_equal(c->n_ended, 1);
        assert_int_equal(c->ended[0].incarnation, MEMBER_INCARNATION + 1);
        rig_deinit(&r);
    }
}

static void reconnect(struct rig *r, uint64_t away_ms)
{
    rig_nats(r, false);
    rig_tick(r, away_ms);
    rig_nats(r, true);
    rig_info(r, RIG_CREATED, 1, 1);
    rig_send(r, JR_EV_SYNC_OPENED);
}

/* Everybody's lease ended while NATS was away; nobody is missed before they had time to come back. */
static void test_no_verdict_soon_after_an_outage(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    reconnect(&r, 60 * RIG_TTL);
    assert_int_equal(degraded_since(&r), r.now_ms - 60 * RIG_TTL);
    list(&r, false);
    assert_int_equal(degraded_since(&r), 0);
    assert_true(worker(&r).credited);
    assert_int_equal(worker(&r).active_requests, 0); /* without progress for too long */
    probed(&r, false);
    assert_int_equal(worker(&r).state, JR_WORKER_DOWN); /* its answers decide */
    probed(&r, true);
    assert_true(worker(&r).credited);
    r.now_ms += RIG_TTL - 1;
    list(&r, false);
    rig_tick(&r, 0);
    assert_true(worker(&r).credited);
    assert_false(gone(&r));
    r.now_ms += 1;
    list(&r, false);
    assert_int_equal(worker(&r).state, JR_WORKER_STALE);
    rig_deinit(&r);
}

static void test_a_peer_is_not_missed_soon_after_an_outage(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    reconnect(&r, 2 * RIG_TTL);
    list(&r, false);
    assert_int_equal(worker(&r).active_requests, 1);
    r.now_ms += RIG_TTL - 1;
    list(&r, false);
    assert_int_equal(worker(&r).active_requests, 1);
    r.now_ms += 1;
    list(&r, false);
    assert_int_equal(worker(&r).active_requests, 0);
    rig_deinit(&r);
}

/* What was said on purpose needs no time. */
static void test_removed_during_an_outage(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    reconnect(&r, RIG_TTL);
    uint64_t id = 1;
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.removed = &id;
    ev.u.members.n_removed = 1;
    rig_step(&r, &ev);
    assert_int_equal(worker(&r).state, JR_WORKER_DOWN);
    rig_deinit(&r);
}

/* Connected, but the server lists nothing: a full disk, a lost quorum. */
static void test_blind_with_a_connection(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    uint64_t listed_at_ms = r.pool->listed_at_ms;
    while (r.now_ms < listed_at_ms + 2 * RIG_TTL - 100)
        rig_tick(&r, 100);
    assert_int_equal(degraded_since(&r), 0);
    rig_tick(&r, 100);
    assert_int_equal(degraded_since(&r), r.now_ms);
    assert_non_null(rig_find(&r, JR_ACT_PROBE));
    probed(&r, false);
    assert_int_equal(worker(&r).state, JR_WORKER_DOWN);
    assert_int_equal(worker(&r).active_requests, 1);
    r.now_ms += 10 * RIG_TTL;
    list(&r, false);
    assert_int_equal(worker(&r).active_requests, 1);
    assert_int_equal(degraded_since(&r), 0);
    list(&r, true);
    assert_true(worker(&r).credited);
    rig_deinit(&r);
}

/* Leases that end and begin again and again: no WorkerGone, nothing piles up. */
static void test_flapping(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < 300; i++) {
        struct gen_msg g;
        r.now_ms += 400;
        list(&r, false);
        assert_int_equal(worker(&r).state, JR_WORKER_STALE);
        assert_int_equal(worker(&r).active_requests, 0);
        rig_tick(&r, 500);
        assert_false(gone(&r));
        r.worker.ranks[0].incarnation = r.replicas[1].incarnation = 100 + i;
        list(&r, true); /* a new life of both; of the worker the log does not know yet */
        assert_int_equal(worker(&r).state, JR_WORKER_LIVE);
        assert_false(worker(&r).credited);
        gen_batch(&g, 2 + i, 1, 0, 100 + i, 1, true);
        gen_store(&g, 0, 5);
        rig_log(&r, &g);
        assert_true(worker(&r).credited);
        assert_int_equal(worker(&r).blocks, 1);
        if (i == 10)
            bytes = r.pool->mem.bytes;
    }
    assert_in_range(r.pool->mem.bytes, 0, bytes);
    assert_int_equal(r.pool->workers.n, 1);
    assert_int_equal(r.pool->replicas.n, 1);
    rig_deinit(&r);
}

/* The bucket's time counts, not ours. */
static void test_ttl_of_the_bucket(void **state)
{
    (void)state;
    struct rig r;
    begin(&r);
    rig_nats(&r, false);
    struct jr_event ev = {.type = JR_EV_NATS, .u.nats = {true, 10 * RIG_TTL}};
    rig_step(&r, &ev);
    rig_info(&r, RIG_CREATED, 1, 1);
    rig_send(&r, JR_EV_SYNC_OPENED);
    list(&r, false);
    r.now_ms += 10 * RIG_TTL - 1;
    list(&r, false);
    assert_int_equal(worker(&r).state, JR_WORKER_LIVE);
    r.now_ms += 1;
    list(&r, false);
    assert_int_equal(worker(&r).state, JR_WORKER_STALE);
    rig_deinit(&r);
}

static void test_degraded_since_the_start(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_tick(&r, 0);
    assert_int_equal(degraded_since(&r), r.now_ms);
    rig_tick(&r, 5000);
    assert_int_equal(degraded_since(&r), r.now_ms - 5000);
    rig_ready(&r, false);
    assert_int_equal(degraded_since(&r), 0);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lease_ends_by_our_own_clock),
        cmocka_unit_test(test_sleep_is_no_lapse),
        cmocka_unit_test(test_a_lease_that_is_missing),
        cmocka_unit_test(test_a_life_that_begins_is_not_ended),
        cmocka_unit_test(test_no_verdict_soon_after_an_outage),
        cmocka_unit_test(test_a_peer_is_not_missed_soon_after_an_outage),
        cmocka_unit_test(test_removed_during_an_outage),
        cmocka_unit_test(test_blind_with_a_connection),
        cmocka_unit_test(test_flapping),
        cmocka_unit_test(test_ttl_of_the_bucket),
        cmocka_unit_test(test_degraded_since_the_start),
    };
    return cmocka_run_group_tests_name("core_pool_members", tests, NULL, NULL);
}
