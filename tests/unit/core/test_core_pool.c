/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: recovery event by event, requests; then every step with memory running out, and
 * the same events twice. The leader's duties: test_core_pool_duties.c. */
#include "core/hash.h"
#include "pool_rig.h"

static void test_from_nothing_to_ready(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_send(&r, JR_EV_TICK);
    assert_int_equal(rig_at(&r), JR_REC_COLD);
    rig_nats(&r, true);
    assert_int_equal(rig_at(&r), JR_REC_LEASE);
    assert_non_null(rig_find(&r, JR_ACT_TAKE_LEASE));
    rig_send(&r, JR_EV_LEASE_HELD);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    assert_non_null(rig_find(&r, JR_ACT_LOAD_SNAPSHOT));
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    assert_int_equal(rig_find(&r, JR_ACT_STREAM_INFO)->u.seq, 0);
    rig_info(&r, RIG_CREATED, 1, 3);
    assert_int_equal(rig_at(&r), JR_REC_REPLAY);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 0);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_members(&r, true, true);
    rig_log_noop(&r, 1, 2);
    assert_int_equal(rig_at(&r), JR_REC_REPLAY); /* two of three */
    rig_log_noop(&r, 3, 3);
    assert_int_equal(rig_at(&r), JR_REC_CATCH_UP); /* the peer's load is not known */
    rig_tick(&r, 100);
    assert_false(r.pool->ready);
    rig_peer_base(&r);
    assert_int_equal(rig_at(&r), JR_REC_READY);
    assert_true(rig_find(&r, JR_ACT_READY)->u.ready);
    rig_deinit(&r);
}

static void test_a_peer_without_lease_is_not_waited_for(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    assert_int_equal(rig_at(&r), JR_REC_READY);
    rig_deinit(&r);
}

static void test_degraded_from_the_start(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_tick(&r, 0);
    rig_tick(&r, 4900);
    assert_false(r.pool->ready);
    rig_tick(&r, 200);
    assert_int_equal(rig_at(&r), JR_REC_DEGRADED);
    assert_true(rig_find(&r, JR_ACT_READY)->u.ready);
    rig_nats(&r, true);
    assert_int_equal(rig_at(&r), JR_REC_LEASE);
    rig_deinit(&r);
}

static void test_nats_gone_and_back(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    rig_log_noop(&r, 1, 5);
    rig_nats(&r, false);
    assert_int_equal(rig_at(&r), JR_REC_DEGRADED);
    assert_non_null(rig_find(&r, JR_ACT_STOP_READER));
    assert_true(r.pool->ready);
    rig_log_noop(&r, 6, 6); /* out of place: not taken */
    assert_int_equal(r.pool->state->seq, 5);
    rig_nats(&r, true);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    assert_int_equal(rig_find(&r, JR_ACT_STREAM_INFO)->u.seq, 5);
    rig_info(&r, RIG_CREATED, 1, 7);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 5);
    rig_log_noop(&r, 6, 7);
    rig_members(&r, true, false);
    rig_send(&r, JR_EV_SYNC_OPENED);
    assert_int_equal(rig_at(&r), JR_REC_READY);
    rig_deinit(&r);
}

static void test_a_hole_in_the_log_is_checked(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    rig_log_noop(&r, 1, 3);
    rig_log_noop(&r, 5, 5);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    assert_non_null(rig_find(&r, JR_ACT_STOP_READER));
    assert_int_equal(r.pool->state->seq, 3);
    struct jr_event ev = {.type = JR_EV_STREAM_INFO, .u.stream.err = JR_ETIMEOUT};
    rig_step(&r, &ev); /* asked again after a while */
    rig_tick(&r, JR_POOL_RETRY_MS / 2);
    assert_null(rig_find(&r, JR_ACT_STREAM_INFO));
    rig_tick(&r, JR_POOL_RETRY_MS / 2);
    assert_non_null(rig_find(&r, JR_ACT_STREAM_INFO));
    rig_info(&r, RIG_CREATED, 1, 5);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 3);
    rig_deinit(&r);
}

static struct jr_image *image_at(uint64_t seq, int64_t created)
{
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    rig_ready(&r, false);
    gen_batch(&g, 1, 1, 0, 11, 1, true);
    gen_store(&g, 0, 5);
    gen_store(&g, 5, 6);
    rig_log(&r, &g);
    rig_log_noop(&r, 2, seq);
    struct jr_state_export x;
    assert_int_equal(jr_state_export_begin(r.pool->state, &x), 0);
    while (jr_state_export_step(r.pool->state, &x, 10) == JR_EAGAIN)
        ;
    struct jr_image *image = jr_state_export_take(&x);
    image->stream_created_ns = created;
    rig_deinit(&r);
    return image;
}

static void to_load(struct rig *r)
{
    rig_nats(r, true);
    rig_send(r, JR_EV_LEASE_HELD);
}

static void test_snapshot_installed_in_slices(void **state)
{
    (void)state;
    struct rig r;
    struct jr_replica_lease lease;
    rig_init(&r);
    to_load(&r);
    rig_loaded(&r, 0, image_at(4, RIG_CREATED), "snapshot-a");
    assert_int_equal(rig_find(&r, JR_ACT_STREAM_INFO)->u.seq, 4);
    jr_pool_lease(r.pool, &lease);
    assert_int_equal(lease.applied, 0); /* it may be of another stream */
    rig_info(&r, RIG_CREATED, 3, 6);
    jr_pool_lease(r.pool, &lease);
    assert_int_equal(lease.applied, 4); /* what follows it is needed */
    assert_true(jr_pool_has_slices(r.pool));
    rig_slices(&r);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 4);
    assert_int_equal(jr_index_entries(r.pool->state->index), 2);
    while (jr_pool_has_slices(r.pool)) { /* the image and the state before go */
        struct jr_event ev = {.type = JR_EV_SLICE, .u.slice.max = 3};
        rig_step(&r, &ev);
    }
    assert_false(jr_pool_has_retired(r.pool));
    rig_deinit(&r);
}

static void rig_info_gone(struct rig *r, uint64_t last)
{
    struct jr_event ev = {.type = JR_EV_STREAM_INFO};
    ev.u.stream.facts = (struct jr_stream_facts){
        .created_ns = RIG_CREATED, .first_seq = 1, .last_seq = last, .next_gone = true};
    rig_step(r, &ev);
}

static void rig_facts(struct rig *r, uint64_t last)
{
    struct jr_event ev = {.type = JR_EV_FACTS};
    ev.u.facts.stream =
        (struct jr_stream_facts){.created_ns = RIG_CREATED, .first_seq = 1, .last_seq = last};
    rig_step(r, &ev);
}

/* What ends in front of the hole is of no use, however old; what is past it is. */
static void test_a_message_was_taken_out(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    rig_log_noop(&r, 1, 6);
    rig_log_noop(&r, 9, 9);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    rig_info_gone(&r, 12);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    rig_loaded(&r, 0, image_at(5, RIG_CREATED), "snapshot-a");
    rig_info(&r, RIG_CREATED, 1, 12);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    assert_string_equal(rig_find(&r, JR_ACT_LOAD_SNAPSHOT)->u.load.skip, "snapshot-a");
    rig_loaded(&r, 0, image_at(8, RIG_CREATED), "snapshot-b");
    rig_info(&r, RIG_CREATED, 1, 12);
    rig_slices(&r);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 8);
    rig_log_noop(&r, 9, 12);
    assert_int_equal(r.pool->state->seq, 12);
    rig_deinit(&r);
}

static void test_a_snapshot_ends_in_front_of_a_hole(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    struct jr_replica_lease lease;
    r.replicas[1].ready = true;
    r.replicas[1].applied = 12;
    r.replicas[1].stream_created_ns = RIG_CREATED;
    rig_members(&r, true, true);
    rig_loaded(&r, 0, image_at(5, RIG_CREATED), "snapshot-a");
    rig_info_gone(&r, 12);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    assert_string_equal(rig_find(&r, JR_ACT_LOAD_SNAPSHOT)->u.load.skip, "snapshot-a");
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED, 1, 12);
    jr_pool_lease(r.pool, &lease);
    assert_int_equal(lease.wants, 6); /* to whoever leads the one at 5 is as good as any */
    rig_deinit(&r);
}

/* Its messages have the numbers that are next, so the reader does not see it. */
static void test_another_stream_of_the_same_name(void **state)
{
    (void)state;
    struct rig r;
    struct jr_event ev = {.type = JR_EV_FACTS};
    rig_init(&r);
    rig_ready(&r, false);
    rig_log_noop(&r, 1, 3);
    ev.u.facts.stream =
        (struct jr_stream_facts){.created_ns = RIG_CREATED + 1, .first_seq = 1, .last_seq = 9};
    rig_step(&r, &ev);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    assert_non_null(rig_find(&r, JR_ACT_STOP_READER));
    rig_info(&r, RIG_CREATED + 1, 1, 9);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    rig_deinit(&r);
}

/* None behind them shows that the last ones are gone. */
static void test_the_last_messages_were_taken_out(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED, 1, 9);
    rig_log_noop(&r, 1, 6);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_at(&r), JR_REC_REPLAY);
        rig_facts(&r, 9);
    }
    assert_int_equal(rig_at(&r), JR_REC_REPLAY); /* the first look only says where it was */
    rig_facts(&r, 9);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    rig_info_gone(&r, 9);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    rig_deinit(&r);
}

/* Its heartbeats come, and the messages do not: another consumer is made where it stood. Routing goes on. */
static void test_a_consumer_that_delivers_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    rig_log_noop(&r, 1, 6);
    for (int i = 0; i < 20; i++)
        rig_facts(&r, 6); /* there is nothing to deliver */
    for (int i = 0; i < 20; i++) {
        rig_facts(&r, 8 + (uint64_t)i); /* it is slow */
        rig_log_noop(&r, 7 + (uint64_t)i, 7 + (uint64_t)i);
    }
    for (int i = 0; i < 3; i++) {
        rig_facts(&r, 27);
        assert_int_equal(rig_at(&r), JR_REC_READY);
    }
    rig_facts(&r, 27);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    assert_true(r.pool->ready);
    rig_info(&r, RIG_CREATED, 1, 27);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 26);
    rig_log_noop(&r, 27, 27);
    assert_int_equal(rig_at(&r), JR_REC_READY);
    rig_deinit(&r);
}

static void test_misfit_tries_the_other(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    rig_members(&r, true, false);
    rig_loaded(&r, 0, image_at(4, RIG_CREATED + 1), "snapshot-b"); /* another stream's */
    rig_info(&r, RIG_CREATED, 3, 6);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    assert_string_equal(rig_find(&r, JR_ACT_LOAD_SNAPSHOT)->u.load.skip, "snapshot-b");
    struct jr_image *image = image_at(4, RIG_CREATED);
    image->entries[0].prefix_hash++; /* found out when it is installed */
    rig_loaded(&r, 0, image, "snapshot-a");
    rig_info(&r, RIG_CREATED, 3, 6);
    rig_slices(&r);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT); /* and no rebuild at a first look */
    assert_false(r.pool->rebuilding);
    rig_deinit(&r);
}

static void look_in_vain(struct rig *r)
{
    rig_loaded(r, JR_ENOTFOUND, NULL, "");
    rig_info(r, RIG_CREATED, 50, 60);
    if (rig_at(r) == JR_REC_LOAD_SNAPSHOT) {
        rig_tick(r, JR_POOL_RETRY_MS);
        assert_non_null(rig_find(r, JR_ACT_LOAD_SNAPSHOT));
    }
}

static void test_no_rebuild_before_the_members_are_known(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    for (int i = 0; i < 6; i++)
        look_in_vain(&r);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    r.replicas[1].ready = true;
    r.replicas[1].applied = 55;
    r.replicas[1].stream_created_ns = RIG_CREATED;
    rig_members(&r, true, true); /* a peer holds the state: its snapshot is waited for */
    for (int i = 0; i < 6; i++)
        look_in_vain(&r);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    rig_deinit(&r);
}

static void to_rebuild(struct rig *r)
{
    to_load(r);
    for (int i = 0; i < 6 && rig_at(r) != JR_REC_REBUILD; i++) {
        rig_members(r, true, false);
        look_in_vain(r);
    }
    assert_int_equal(rig_at(r), JR_REC_REBUILD);
}

static void test_rebuild_by_a_reset_of_the_leader(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    to_rebuild(&r);
    assert_int_equal(rig_find(&r, JR_ACT_START_READER)->u.start.applied, 49);
    assert_true(jr_pool_may_lead(r.pool));
    rig_log_noop(&r, 50, 60);
    assert_int_equal(rig_at(&r), JR_REC_REBUILD);
    rig_leader(&r, true);
    rig_members(&r, true, false);
    rig_tick(&r, 100); /* first, and once: perhaps Dynamo has a snapshot */
    assert_true(rig_find(&r, JR_ACT_LOAD_SNAPSHOT)->u.load.dynamo);
    assert_true(jr_pool_may_lead(r.pool));
    for (int i = 0; i < 6 && rig_at(&r) != JR_REC_REBUILD; i++) {
        rig_members(&r, true, false);
        look_in_vain(&r);
    }
    rig_log_noop(&r, 50, 52);
    rig_log_noop(&r, 55, 60); /* what is not there is nobody's */
    rig_members(&r, true, false);
    rig_tick(&r, 100);
    const struct jr_action *a = rig_find(&r, JR_ACT_PUBLISH_CONTROL);
    assert_int_equal(a->u.control.type, JR_CONTROL_RESET);
    assert_int_equal(a->u.control.from.n, JR_EPOCH_ANY);
    gen_control(&g, 61, JR_CONTROL_RESET)->to = (struct jr_epoch){5, 1};
    rig_log(&r, &g); /* follows an epoch that we may not have: does not end it */
    assert_true(r.pool->rebuilding);
    struct jr_control *c = gen_control(&g, 62, JR_CONTROL_RESET);
    c->from.n = JR_EPOCH_ANY;
    c->to = (struct jr_epoch){6, 1};
    rig_log(&r, &g);
    assert_int_equal(rig_at(&r), JR_REC_CATCH_UP);
    assert_false(r.pool->rebuilding);
    rig_send(&r, JR_EV_SYNC_OPENED);
    assert_int_equal(rig_at(&r), JR_REC_CATCH_UP); /* the worker has not begun anew */
    gen_batch(&g, 63, 1, 0, 11, 1, true);
    rig_log(&r, &g);
    assert_int_equal(rig_at(&r), JR_REC_READY);
    rig_deinit(&r);
}

/* What was refused is answered when NATS is gone already: it begins anew when that is back. */
static void test_rebuild_whose_reset_is_refused_in_an_outage(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_rebuild(&r);
    rig_nats(&r, false);
    assert_true(r.pool->rebuilding);
    rig_result(&r, JR_EV_CONTROL_PUBLISHED, JR_ECONFLICT);
    assert_int_equal(rig_at(&r), JR_REC_DEGRADED);
    rig_nats(&r, true);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    rig_deinit(&r);
}

static void test_rebuild_ends_when_a_peer_holds_the_state(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_rebuild(&r);
    r.replicas[1].ready = true;
    r.replicas[1].applied = 55;
    r.replicas[1].stream_created_ns = RIG_CREATED;
    rig_members(&r, true, true);
    assert_false(jr_pool_may_lead(r.pool));
    rig_tick(&r, JR_POOL_REBUILD_LOOK_MS);
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    assert_false(r.pool->rebuilding);
    rig_loaded(&r, 0, image_at(52, RIG_CREATED), "snapshot-a");
    rig_info(&r, RIG_CREATED, 50, 60);
    rig_slices(&r);
    assert_int_equal(rig_at(&r), JR_REC_REPLAY); /* and not in a rebuild again */
    rig_deinit(&r);
}

static void test_an_old_index_answers_but_stands_for_nothing(void **state)
{
    (void)state;
    struct rig r;
    struct jr_replica_lease lease;
    rig_init(&r);
    rig_ready(&r, false);
    rig_log_noop(&r, 1, 5);
    assert_true(jr_pool_may_lead(r.pool));
    rig_send(&r, JR_EV_READER_BROKEN);
    assert_true(jr_pool_may_lead(r.pool)); /* a check is no reason to step down */
    rig_info(&r, RIG_CREATED, 9, 20);      /* a gap */
    assert_int_equal(rig_at(&r), JR_REC_LOAD_SNAPSHOT);
    assert_true(r.pool->ready && r.pool->index_is_old);
    assert_false(jr_pool_may_lead(r.pool));
    jr_pool_lease(r.pool, &lease);
    assert_false(lease.ready);
    assert_int_equal(lease.applied, 0);
    assert_int_equal(lease.point.seq, 0);
    rig_deinit(&r);
}

static void test_newer_rules_in_a_snapshot_stop(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    rig_members(&r, true, false);
    struct jr_image *image = image_at(4, RIG_CREATED);
    image->rule_version = JR_RULES_VERSION + 1;
    rig_loaded(&r, 0, image, "snapshot-a");
    rig_info(&r, RIG_CREATED, 3, 6);
    assert_true(r.pool->too_new);
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    r.now_ms += 60000;
    rig_members(&r, true, false);
    rig_tick(&r, 100);
    assert_int_equal(r.actions.n, 0);
    rig_deinit(&r);
}

static void test_out_of_memory_in_a_restore_is_no_rebuild(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    rig_members(&r, true, false);
    rig_loaded(&r, 0, image_at(4, RIG_CREATED), "snapshot-a");
    rig_info(&r, RIG_CREATED, 3, 6);
    r.pool->mem.fail_after = 0;
    rig_slices(&r);
    r.pool->mem.fail_after = -1;
    assert_true(r.pool->broken);
    rig_tick(&r, 60000);
    assert_false(r.pool->rebuilding);
    assert_null(rig_find(&r, JR_ACT_LOAD_SNAPSHOT));
    rig_deinit(&r);
}

/* No memory for what only decisions need: everything else that comes is taken, with what it owns. */
static void test_out_of_memory_for_the_seats_loses_no_event(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    to_load(&r);
    rig_members(&r, true, false);
    jr_arr_free(&r.pool->mem, &r.pool->seats);
    r.pool->workers.changes++;
    r.pool->mem.fail_after = 0;
    rig_loaded(&r, 0, image_at(4, RIG_CREATED), "snapshot-a");
    assert_int_equal(rig_at(&r), JR_REC_VERIFY);
    assert_non_null(rig_find(&r, JR_ACT_STREAM_INFO));
    assert_int_equal(r.err, 0);
    r.pool->mem.fail_after = 0;
    rig_route(&r, 1, NULL, 0);
    assert_int_equal(r.err, JR_ENOMEM);
    r.pool->mem.fail_after = -1;
    rig_info(&r, RIG_CREATED, 3, 4);
    rig_slices(&r);
    rig_route(&r, 2, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    rig_deinit(&r);
}

static void test_replay_does_not_ask_for_announcements(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    to_load(&r);
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED, 1, 2);
    gen_batch(&g, 1, 1, 0, 11, 4, false);
    rig_log(&r, &g);
    assert_null(rig_find(&r, JR_ACT_REANNOUNCE)); /* the answer may be further on */
    gen_batch(&g, 2, 1, 0, 12, 1, true);
    rig_log(&r, &g);
    rig_members(&r, true, false);
    rig_send(&r, JR_EV_SYNC_OPENED);
    gen_batch(&g, 3, 1, 0, 12, 4, false);
    rig_log(&r, &g);
    assert_int_equal(rig_find(&r, JR_ACT_REANNOUNCE)->u.rank.worker_id, 1);
    gen_batch(&g, 4, 1, 0, 12, 5, false);
    rig_log(&r, &g);
    assert_null(rig_find(&r, JR_ACT_REANNOUNCE)); /* not with each message */
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- requests */

static void test_decision_books_and_finish_frees(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    r.worker.ranks[0].incarnation = 11;
    rig_ready(&r, false);
    gen_batch(&g, 1, 1, 0, 11, 1, true);
    gen_store(&g, 0, 5);
    rig_log(&r, &g);
    const uint64_t prefix[2] = {1005, 99};
    rig_route(&r, 8, prefix, 2);
    const struct jr_action *a = rig_find(&r, JR_ACT_DECIDE);
    assert_int_equal(a->u.decide.worker_id, 1);
    assert_int_equal(a->u.decide.overlap_blocks, 1);
    assert_string_equal(a->u.decide.url, "http://w");
    assert_int_equal(jr_active_requests(r.pool->active), 1);
    uint32_t n = 0;
    assert_memory_equal(jr_pool_booked_prefix(r.pool, 8, &n), prefix, sizeof prefix);
    assert_int_equal(n, 2);
    rig_request(&r, JR_EV_FIRST_TOKEN, 8, 0);
    rig_request(&r, JR_EV_OUTPUT, 8, 40);
    rig_request(&r, JR_EV_FINISH, 8, 0);
    rig_request(&r, JR_EV_FINISH, 8, 0);
    assert_null(jr_pool_booked_prefix(r.pool, 8, &n));
    /* Hashes that nobody shares are booked in the place of the prompt's. */
    struct jr_event alone = {.type = JR_EV_ROUTE};
    alone.u.route = (struct jr_route){.id = 12,
                                      .tokens = 32,
                                      .prefix = prefix,
                                      .n_prefix = 2,
                                      .override = {.has_assume_kv_reuse = true}};
    rig_step(&r, &alone);
    assert_int_equal(jr_active_requests(r.pool->active), 1);
    assert_null(jr_pool_booked_prefix(r.pool, 12, &n));
    rig_request(&r, JR_EV_FINISH, 12, 0);
    assert_int_equal(jr_active_requests(r.pool->active), 0);
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = (struct jr_route){.id = 9, .tokens = 5, .query_only = true};
    rig_step(&r, &ev);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    assert_int_equal(jr_active_requests(r.pool->active), 0);
    const uint64_t one = 1;
    ev.u.route = (struct jr_route){.id = 9, .tokens = 5, .exclude = &one, .n_exclude = 1};
    rig_step(&r, &ev);
    assert_int_equal(rig_find(&r, JR_ACT_REJECT)->u.reject.err, JR_ENOWORKER);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- everything once */

/* A life with all that happens in it; works on through any JR_ENOMEM. */
static void life(struct rig *r)
{
    struct gen_msg g;
    const uint64_t prefix[3] = {1005, 98, 99};
    rig_ready(r, true);
    for (uint64_t seq = 1; seq <= 30; seq++) {
        gen_batch(&g, seq, 1 + seq % 3, 0, 11, (seq + 2) / 3, seq <= 3);
        gen_store(&g, 0, 5 + seq);
        rig_log(r, &g);
        rig_route(r, seq, prefix, 3);
        rig_request(r, JR_EV_FIRST_TOKEN, seq, 0);
        rig_request(r, JR_EV_OUTPUT, seq, 100);
        if (seq % 3)
            rig_request(r, JR_EV_FINISH, seq, 0);
        r->now_ms += 3;
    }
    rig_peer_base(r);
    rig_leader(r, true);
    rig_tick(r, 100);
    while (jr_pool_has_slices(r->pool)) {
        struct jr_event ev = {.type = JR_EV_SLICE, .u.slice.max = 9};
        rig_step(r, &ev);
        const struct jr_action *a = rig_find(r, JR_ACT_WRITE_SNAPSHOT);
        if (a)
            jr_image_destroy(a->u.write.image);
    }
    struct jr_event ev = {.type = JR_EV_SNAPSHOT_WRITTEN, .u.written.ref = r->pool->snap_ref};
    rig_step(r, &ev);
    rig_tick(r, 11000);
    rig_result(r, JR_EV_SNAPSHOT_RECORDED, 0);
    rig_members(r, false, true);
    rig_tick(r, 5000);
    rig_send(r, JR_EV_ADMIN_RESET);
    rig_send(r, JR_EV_LEASE_LOST);
    rig_nats(r, false);
    rig_nats(r, true);
    rig_info(r, RIG_CREATED, 90, 99);
    struct jr_image *image = image_at(95, RIG_CREATED);
    rig_loaded(r, 0, image, "snapshot-a");
    rig_info(r, RIG_CREATED, 90, 99);
    for (int i = 0; i < 10 && jr_pool_has_slices(r->pool); i++) {
        struct jr_event slice = {.type = JR_EV_SLICE, .u.slice.max = 3};
        rig_step(r, &slice);
    }
    rig_log_noop(r, 96, 99);
    rig_members(r, true, false);
    rig_tick(r, 500);
}

static void test_oom_at_every_allocation(void **state)
{
    (void)state;
    int64_t after = 0;
    for (bool failed = true; failed; after++) {
        struct rig r;
        rig_init(&r);
        r.pool->mem.fail_after = after;
        life(&r);
        failed = r.pool->mem.fail_after < 0;
        if (failed && r.err != 0)
            assert_int_equal(r.err, JR_ENOMEM);
        rig_deinit(&r); /* gives all back, or asserts */
    }
    assert_true(after > 40);
}

/* ---------------------------------------------------------------- determinism */

struct script {
    char text[1 << 17];
    size_t n;
};

static void put(struct script *s, uint64_t v)
{
    if (s->n + 20 < sizeof s->text)
        s->n +=
            (size_t)snprintf(s->text + s->n, sizeof s->text - s->n, "%llx ", (unsigned long long)v);
}

static void put_sync(struct script *s, const struct jr_sync_batch *b)
{
    put(s, b->number);
    put(s, b->is_base);
    put(s, b->incarnation);
    put(s, b->includes);
    for (uint32_t i = 0; i < b->n_deltas; i++) {
        put(s, b->deltas[i].type);
        put(s, b->deltas[i].b.request);
        put(s, b->deltas[i].b.worker_id);
        put(s, b->deltas[i].b.prefill_tokens);
        for (uint32_t k = 0; k < b->deltas[i].b.n_blocks; k++)
            put(s, b->deltas[i].b.blocks[k]);
    }
}

static void put_action(struct script *s, const struct jr_action *a)
{
    put(s, a->type);
    switch (a->type) {
    case JR_ACT_PUBLISH_SYNC:
        put_sync(s, &a->u.sync);
        break;
    case JR_ACT_DECIDE:
        put(s, a->u.decide.id);
        put(s, a->u.decide.worker_id);
        put(s, a->u.decide.overlap_blocks);
        put(s, (uint64_t)(a->u.decide.cost * 1e12));
        break;
    case JR_ACT_PUBLISH_CONTROL:
        put(s, a->u.control.type);
        put(s, a->u.control.to.random);
        put(s, a->u.control.worker_id);
        break;
    case JR_ACT_START_READER:
        put(s, a->u.start.applied);
        break;
    case JR_ACT_WRITE_SNAPSHOT:
        put(s, a->u.write.image->digest_blocks);
        put(s, a->u.write.image->digest_table);
        break;
    case JR_ACT_STREAM_INFO:
    case JR_ACT_PURGE:
        put(s, a->u.seq);
        break;
    default:
        break;
    }
}

static void note(void *ctx, const struct jr_actions *actions)
{
    for (uint32_t i = 0; i < actions->n; i++)
        put_action(ctx, &actions->v[i]);
}

static void test_same_events_same_actions(void **state)
{
    (void)state;
    struct script *s = jr_xalloc(2 * sizeof *s);
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct jr_pool_config c;
        rig_config(&c);
        c.assume_kv_reuse = false; /* draws from the seed */
        c.temperature = 0.5;
        rig_init_with(&r, &c);
        r.seen = note;
        r.ctx = &s[i];
        life(&r);
        rig_deinit(&r);
    }
    assert_true(s[0].n > 1000);
    assert_string_equal(s[0].text, s[1].text);
    jr_xfree(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_nothing_to_ready),
        cmocka_unit_test(test_a_peer_without_lease_is_not_waited_for),
        cmocka_unit_test(test_degraded_from_the_start),
        cmocka_unit_test(test_nats_gone_and_back),
        cmocka_unit_test(test_a_hole_in_the_log_is_checked),
        cmocka_unit_test(test_snapshot_installed_in_slices),
        cmocka_unit_test(test_a_message_was_taken_out),
        cmocka_unit_test(test_a_snapshot_ends_in_front_of_a_hole),
        cmocka_unit_test(test_the_last_messages_were_taken_out),
        cmocka_unit_test(test_a_consumer_that_delivers_nothing),
        cmocka_unit_test(test_another_stream_of_the_same_name),
        cmocka_unit_test(test_misfit_tries_the_other),
        cmocka_unit_test(test_no_rebuild_before_the_members_are_known),
        cmocka_unit_test(test_rebuild_by_a_reset_of_the_leader),
        cmocka_unit_test(test_rebuild_whose_reset_is_refused_in_an_outage),
        cmocka_unit_test(test_rebuild_ends_when_a_peer_holds_the_state),
        cmocka_unit_test(test_an_old_index_answers_but_stands_for_nothing),
        cmocka_unit_test(test_newer_rules_in_a_snapshot_stop),
        cmocka_unit_test(test_out_of_memory_in_a_restore_is_no_rebuild),
        cmocka_unit_test(test_out_of_memory_for_the_seats_loses_no_event),
        cmocka_unit_test(test_replay_does_not_ask_for_announcements),
        cmocka_unit_test(test_decision_books_and_finish_frees),
        cmocka_unit_test(test_oom_at_every_allocation),
        cmocka_unit_test(test_same_events_same_actions),
    };
    return cmocka_run_group_tests_name("core_pool", tests, NULL, NULL);
}
