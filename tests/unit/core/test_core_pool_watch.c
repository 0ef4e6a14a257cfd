/* SPDX-License-Identifier: Apache-2.0 */
/* What the stream promises, and what follows from it: when a snapshot is due, how far may be purged;
 * and workers while NATS is away. */
#include "pool_rig.h"

static void lead(struct rig *r)
{
    struct jr_pool_config c;
    rig_config(&c);
    c.snapshot_threshold = 1000000;
    rig_init_with(r, &c);
    rig_ready(r, false);
    r->pool->state->params.block_size = 16;
    rig_leader(r, true);
    r->now_ms += RIG_TTL;
    rig_members(r, true, false);
}

static void facts(struct rig *r, const struct jr_stream_facts *f)
{
    struct jr_event ev = {.type = JR_EV_FACTS};
    ev.u.facts.stream = *f;
    ev.u.facts.stream.created_ns = RIG_CREATED;
    ev.u.facts.record = r->pool->record;
    rig_step(r, &ev);
    rig_members(r, true, false);
    rig_tick(r, 100);
}

/* Both snapshots are there, at these sequences, written `age_ms` ago. */
static void record(struct rig *r, uint64_t newest, uint64_t previous, uint64_t age_ms)
{
    struct jr_snapshot_ref ref = {.object = "snapshot-a",
                                  .seq = newest,
                                  .stream_created_ns = RIG_CREATED,
                                  .created_ns = (int64_t)(r->now_ms - age_ms) * 1000000};
    r->pool->record.newest = ref;
    ref.seq = previous;
    (void)snprintf(ref.object, sizeof ref.object, previous ? "snapshot-b" : "");
    r->pool->record.previous = ref;
}

static const char *why(struct rig *r)
{
    static struct jr_pool_view v;
    jr_pool_view(r->pool, &v);
    return v.may_forget_because;
}

static void test_due_by_a_quarter_of_the_bytes(void **state)
{
    (void)state;
    struct rig r;
    lead(&r);
    rig_log_noop(&r, 1, 100);
    record(&r, 70, 60, 0);
    struct jr_stream_facts f = {
        .first_seq = 1, .last_seq = 100, .bytes = 10000, .bytes_max = 12001};
    facts(&r, &f); /* 30 messages of 100 bytes */
    assert_false(jr_pool_copying(r.pool));
    assert_string_equal(why(&r), "");
    f.bytes_max = 12000;
    facts(&r, &f);
    assert_true(jr_pool_copying(r.pool));
    rig_deinit(&r);
}

static void test_due_by_a_quarter_of_the_streams_age(void **state)
{
    (void)state;
    struct rig r;
    lead(&r);
    rig_log_noop(&r, 1, 10);
    record(&r, 9, 5, 1000);
    struct jr_stream_facts f = {
        .first_seq = 1, .last_seq = 10, .max_age_ms = 8000, .discard_old = true};
    facts(&r, &f);
    assert_false(jr_pool_copying(r.pool));
    assert_string_equal(why(&r), "the stream has a max age");
    r.now_ms += 1000;
    rig_members(&r, true, false);
    rig_tick(&r, 0);
    assert_true(jr_pool_copying(r.pool));
    rig_deinit(&r);
}

/* Nothing can be stored any more and there is one generation: a second one, or nothing is purged. */
static void test_a_full_stream_is_no_dead_end(void **state)
{
    (void)state;
    struct rig r;
    lead(&r);
    rig_log_noop(&r, 1, 10);
    record(&r, 10, 0, 0);
    struct jr_stream_facts f = {.first_seq = 1, .last_seq = 10, .bytes = 740, .bytes_max = 1000};
    facts(&r, &f);
    assert_false(jr_pool_copying(r.pool));
    f.bytes = 760;
    facts(&r, &f);
    assert_true(jr_pool_copying(r.pool));
    rig_deinit(&r);
}

static void test_foreign_consumers_bound_the_purge(void **state)
{
    (void)state;
    struct rig r;
    lead(&r);
    rig_log_noop(&r, 1, 50);
    record(&r, 40, 30, 0);
    r.now_ms += 10000;
    record(&r, 40, 30, 0);
    rig_members(&r, true, false);
    struct jr_stream_facts f = {
        .first_seq = 1, .last_seq = 50, .foreign = 1, .foreign_ack_floor = 0};
    facts(&r, &f);
    assert_null(rig_find(&r, JR_ACT_PURGE)); /* zero counts, too */
    assert_string_equal(why(&r), "another router consumes the stream, and purges it");
    f.foreign_ack_floor = 20;
    facts(&r, &f);
    assert_int_equal(rig_find(&r, JR_ACT_PURGE)->u.seq, 20);
    rig_result(&r, JR_EV_PURGED, 0);
    f.foreign = 0;
    r.now_ms += 3000;
    rig_members(&r, true, false);
    facts(&r, &f);
    assert_int_equal(rig_find(&r, JR_ACT_PURGE)->u.seq, 30);
    assert_string_equal(why(&r), "");
    rig_deinit(&r);
}

static bool probes(const struct rig *r)
{
    return rig_find(r, JR_ACT_PROBE) != NULL;
}

static void probed(struct rig *r, bool healthy)
{
    struct jr_event ev = {.type = JR_EV_PROBED, .u.probed = {.worker_id = 1, .healthy = healthy}};
    rig_step(r, &ev);
}

/* NATS is away: nobody expires, but a worker that does not answer gets no request. */
static void test_probes_while_cut_off(void **state)
{
    (void)state;
    struct rig r;
    lead(&r);
    rig_tick(&r, RIG_TTL);
    assert_false(probes(&r)); /* its lease says that it lives */
    rig_nats(&r, false);
    rig_tick(&r, 100);
    assert_true(probes(&r));
    probed(&r, false);
    rig_route(&r, 1, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_REJECT));
    rig_tick(&r, 1000);
    assert_true(probes(&r));
    probed(&r, true);
    rig_route(&r, 2, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    rig_tick(&r, 1000);
    probed(&r, false);
    rig_nats(&r, true);
    rig_members(&r, true, false); /* the lease has the last word again */
    rig_route(&r, 3, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    probed(&r, false); /* an answer to an older question */
    rig_route(&r, 4, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    rig_deinit(&r);
}

/* The stream is rolled back between the question how long it is and the reader's start: what it held
 * is not waited for, once a look that is younger than the answer says so. */
static void test_a_target_that_is_no_more(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_nats(&r, true);
    rig_send(&r, JR_EV_LEASE_HELD);
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED, 1, 9);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_members(&r, true, false);
    rig_log_noop(&r, 1, 4);
    facts(&r, &(struct jr_stream_facts){.first_seq = 1, .last_seq = 4});
    assert_int_equal(rig_at(&r), JR_REC_REPLAY); /* it may be older than the answer */
    facts(&r, &(struct jr_stream_facts){.first_seq = 1, .last_seq = 4});
    assert_int_equal(rig_at(&r), JR_REC_READY);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_due_by_a_quarter_of_the_bytes),
        cmocka_unit_test(test_due_by_a_quarter_of_the_streams_age),
        cmocka_unit_test(test_a_full_stream_is_no_dead_end),
        cmocka_unit_test(test_foreign_consumers_bound_the_purge),
        cmocka_unit_test(test_probes_while_cut_off),
        cmocka_unit_test(test_a_target_that_is_no_more),
    };
    return cmocka_run_group_tests_name("core_pool_watch", tests, NULL, NULL);
}
