/* SPDX-License-Identifier: Apache-2.0 */
/* What only the leader does: snapshots in their order, the purge and its floor, control messages. */
#include "pool_rig.h"

/* A leader, ready, with a peer that is ready at `applied`. */
static void lead(struct rig *r, uint64_t applied)
{
    rig_init(r);
    rig_ready(r, true);
    r->replicas[1].ready = true;
    r->replicas[1].stream_created_ns = RIG_CREATED;
    r->replicas[1].applied = applied;
    r->pool->state->params.block_size = 16; /* Config is not this test's matter */
    rig_leader(r, true);
    rig_members(r, true, true);
    r->now_ms += RIG_TTL;
    rig_members(r, true, true);
}

static bool any_duty(const struct rig *r)
{
    return rig_find(r, JR_ACT_WRITE_SNAPSHOT) || rig_find(r, JR_ACT_RECORD_SNAPSHOT) ||
           rig_find(r, JR_ACT_PURGE);
}

/* Steps the copy on; the object the image goes to. */
static const char *copy(struct rig *r, uint64_t *ret_seq)
{
    static char object[32];
    object[0] = '\0';
    while (jr_pool_copying(r->pool)) {
        struct jr_event ev = {.type = JR_EV_SLICE, .u.slice.max = 5};
        rig_step(r, &ev);
    }
    const struct jr_action *a = rig_find(r, JR_ACT_WRITE_SNAPSHOT);
    if (!a)
        return object;
    *ret_seq = a->u.write.image->seq;
    memcpy(object, a->u.write.object, sizeof object);
    jr_image_destroy(a->u.write.image);
    return object;
}

static void written(struct rig *r, int err, const char *object, uint64_t seq)
{
    struct jr_event ev = {.type = JR_EV_SNAPSHOT_WRITTEN};
    ev.u.written.err = err;
    ev.u.written.ref = (struct jr_snapshot_ref){.seq = seq,
                                                .revision = seq,
                                                .stream_created_ns = RIG_CREATED,
                                                .created_ns = (int64_t)r->now_ms * 1000000};
    (void)snprintf(ev.u.written.ref.object, sizeof ev.u.written.ref.object, "%s", object);
    rig_step(r, &ev);
}

/* The peer says its digest at the sequence, ours or another. */
static void peer_says(struct rig *r, uint64_t seq, bool same)
{
    const struct jr_digest_point *p = jr_state_point(r->pool->state, seq);
    r->replicas[1].point = *p;
    r->replicas[1].point.blocks += !same;
    rig_members(r, true, true);
}

/* A whole snapshot from where the log is. */
static void snapshot(struct rig *r)
{
    uint64_t seq = 0;
    r->now_ms += 5000;
    rig_members(r, true, true);
    rig_tick(r, 0);
    assert_true(jr_pool_copying(r->pool));
    const char *object = copy(r, &seq);
    written(r, 0, object, seq);
    peer_says(r, seq, true);
    rig_tick(r, 100);
    assert_non_null(rig_find(r, JR_ACT_RECORD_SNAPSHOT));
    rig_result(r, JR_EV_SNAPSHOT_RECORDED, 0);
}

static void test_order_is_copy_write_agree_record_purge(void **state)
{
    (void)state;
    struct rig r;
    uint64_t seq = 0;
    lead(&r, 30);
    rig_log_noop(&r, 1, 9);
    rig_tick(&r, 100);
    assert_false(jr_pool_copying(r.pool)); /* nine of ten messages */
    rig_log_noop(&r, 10, 10);
    rig_tick(&r, 100);
    assert_true(jr_pool_copying(r.pool));
    assert_string_equal(copy(&r, &seq), "snapshot-a");
    assert_int_equal(seq, 10);
    assert_false(jr_pool_copying(r.pool));
    rig_tick(&r, 100);
    assert_false(any_duty(&r)); /* not before it is written */
    written(&r, 0, "snapshot-a", 10);
    rig_tick(&r, 100);
    assert_false(any_duty(&r)); /* not before a peer agrees */
    peer_says(&r, 10, true);
    rig_tick(&r, 100);
    assert_int_equal(rig_find(&r, JR_ACT_RECORD_SNAPSHOT)->u.record.newest.seq, 10);
    assert_int_equal(rig_find(&r, JR_ACT_RECORD_SNAPSHOT)->u.record.previous.seq, 0);
    rig_tick(&r, 5000);
    assert_false(any_duty(&r)); /* not before it is recorded */
    rig_result(&r, JR_EV_SNAPSHOT_RECORDED, 0);
    rig_members(&r, true, true);
    rig_tick(&r, 100);
    assert_null(rig_find(&r, JR_ACT_PURGE)); /* there is no previous one */
    rig_log_noop(&r, 11, 20);
    snapshot(&r);
    assert_string_equal(r.pool->record.newest.object, "snapshot-b");
    rig_members(&r, true, true);
    rig_tick(&r, 100);
    assert_int_equal(rig_find(&r, JR_ACT_PURGE)->u.seq, 10); /* up to the previous */
    rig_tick(&r, 10);
    assert_null(rig_find(&r, JR_ACT_PURGE)); /* one at a time */
    rig_deinit(&r);
}

static void test_the_log_goes_on_while_an_image_is_copied(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    uint64_t seq = 0;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    rig_tick(&r, 100);
    gen_init(&g, 11, JR_LOG_KIND_UNDECODABLE);
    rig_log(&r, &g);
    assert_int_equal(r.err, 0);
    assert_int_equal(r.pool->state->seq, 11);
    rig_route(&r, 1, NULL, 0);
    assert_non_null(rig_find(&r, JR_ACT_DECIDE));
    (void)copy(&r, &seq);
    assert_int_equal(seq, 10);
    rig_deinit(&r);
}

static void test_a_peer_that_disagrees_stops_it(void **state)
{
    (void)state;
    struct rig r;
    uint64_t seq = 0;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    rig_tick(&r, 100);
    const char *object = copy(&r, &seq);
    written(&r, 0, object, seq);
    peer_says(&r, 10, false);
    rig_tick(&r, 60000);
    assert_false(any_duty(&r));
    assert_true(r.pool->digest_mismatch);
    assert_false(jr_pool_may_lead(r.pool));
    rig_deinit(&r);
}

/* Should the stream be lost with it: it is not put into the next one, and nobody waits for it. */
static void test_an_index_in_doubt_is_kept_for_nobody(void **state)
{
    (void)state;
    for (int same = 0; same < 2; same++) {
        struct rig r;
        struct gen_msg g;
        struct jr_replica_lease lease;
        lead(&r, 30);
        gen_batch(&g, 1, 1, 0, 11, 1, true);
        gen_store(&g, 0, 5);
        rig_log(&r, &g);
        rig_log_noop(&r, 2, 10);
        peer_says(&r, 10, same);
        rig_tick(&r, 60000);
        assert_int_equal(r.pool->digest_mismatch, !same);
        rig_nats(&r, false);
        rig_nats(&r, true);
        rig_send(&r, JR_EV_LEASE_HELD);
        rig_info(&r, RIG_CREATED + 1, 1, 3);
        assert_true(r.pool->index_is_old);
        jr_pool_lease(r.pool, &lease);
        assert_int_equal(lease.held, same ? 10 : 0);
        rig_deinit(&r);
    }
}

/* Ourselves, a peer that disagrees at 10, and a second one whose point is at `seq`. */
static void members_of_three(struct rig *r, uint64_t seq)
{
    struct jr_replica_lease all[3];
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    all[0] = r->replicas[0];
    all[1] = all[2] = r->replicas[1];
    (void)snprintf(all[2].id, sizeof all[2].id, "second");
    all[2].incarnation = 8;
    all[1].point = *jr_state_point(r->pool->state, 10);
    all[1].point.blocks++;
    all[2].point = *jr_state_point(r->pool->state, 10);
    all[2].point.seq = seq;
    ev.u.members.workers = &r->worker;
    ev.u.members.n_workers = 1;
    ev.u.members.replicas = all;
    ev.u.members.n_replicas = 3;
    rig_step(r, &ev);
    rig_tick(r, 100);
}

/* The wrong one of three may be the first that can be compared: the right ones wait for each other
 * before they alarm, but not for ever. */
static void test_a_vote_waits_for_who_is_not_comparable_yet(void **state)
{
    (void)state;
    struct rig r;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    members_of_three(&r, 12); /* we are not there yet */
    assert_false(r.pool->digest_mismatch);
    assert_true(jr_pool_may_lead(r.pool));
    members_of_three(&r, 10);
    assert_false(r.pool->digest_mismatch);
    members_of_three(&r, 12);
    r.now_ms += RIG_TTL - 200;
    members_of_three(&r, 12); /* since 900 ms */
    assert_false(r.pool->digest_mismatch);
    r.now_ms += 200;
    members_of_three(&r, 12);
    assert_true(r.pool->digest_mismatch);
    members_of_three(&r, 10); /* it agrees after all */
    assert_false(r.pool->digest_mismatch);
    uint64_t seq;
    (void)copy(&r, &seq);
    rig_deinit(&r);
}

static void test_failures_back_off(void **state)
{
    (void)state;
    struct rig r;
    uint64_t seq = 0, wait[4];
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    for (int i = 0; i < 4; i++) {
        uint64_t from = r.now_ms;
        while (!jr_pool_copying(r.pool)) {
            rig_members(&r, true, true);
            rig_tick(&r, 100);
        }
        wait[i] = r.now_ms - from;
        const char *object = copy(&r, &seq);
        written(&r, JR_EIO, object, seq);
    }
    assert_true(wait[1] >= JR_POOL_RETRY_MS && wait[2] >= 2 * wait[1] - 200 &&
                wait[3] >= 2 * wait[2] - 200);
    assert_int_equal(r.pool->n.snapshot_failures, 4);
    assert_string_equal(r.pool->record.newest.object, "");
    rig_deinit(&r);
}

/* An answer of a job that was given up is not the answer of the job that runs. */
static void test_an_answer_to_an_older_job_is_not_ours(void **state)
{
    (void)state;
    struct rig r;
    uint64_t seq = 0;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    rig_tick(&r, 100);
    (void)copy(&r, &seq);
    rig_leader(&r, false); /* given up; the write goes on */
    rig_log_noop(&r, 11, 12);
    rig_leader(&r, true);
    r.now_ms += 5000;
    rig_members(&r, true, true);
    rig_tick(&r, 0);
    (void)copy(&r, &seq);
    assert_int_equal(seq, 12);
    written(&r, 0, "snapshot-a", 10);
    assert_int_equal(r.pool->snap, JR_SNAP_WRITE);
    written(&r, 0, "snapshot-a", 12);
    assert_int_equal(r.pool->snap, JR_SNAP_AGREE);
    rig_deinit(&r);
}

/* NATS goes away for a moment while the record is being written, and it was written. */
static void test_a_record_that_went_through_late_counts(void **state)
{
    (void)state;
    struct rig r;
    uint64_t seq = 0;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    rig_tick(&r, 100);
    const char *object = copy(&r, &seq);
    written(&r, 0, object, seq);
    peer_says(&r, 10, true);
    rig_tick(&r, 100);
    assert_non_null(rig_find(&r, JR_ACT_RECORD_SNAPSHOT));
    rig_nats(&r, false);
    rig_nats(&r, true);
    rig_result(&r, JR_EV_SNAPSHOT_RECORDED, 0);
    assert_int_equal(r.pool->record.newest.seq, 10);
    rig_info(&r, RIG_CREATED, 1, 20);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_members(&r, true, true);
    rig_peer_base(&r);
    rig_log_noop(&r, 11, 20);
    r.now_ms += 5000;
    rig_members(&r, true, true);
    rig_tick(&r, 0);
    assert_string_equal(copy(&r, &seq), "snapshot-b"); /* not over the newest */
    rig_deinit(&r);
}

/* One that slept finds a newer snapshot than its own state: nothing is written below it. */
static void test_no_snapshot_older_than_the_newest(void **state)
{
    (void)state;
    struct rig r;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    struct jr_event ev = {.type = JR_EV_LEADER};
    rig_leader(&r, false);
    ev.u.leader.is_leader = true;
    ev.u.leader.record.newest = (struct jr_snapshot_ref){
        .object = "snapshot-a", .seq = 15, .stream_created_ns = RIG_CREATED};
    rig_step(&r, &ev);
    rig_send(&r, JR_EV_ADMIN_SNAPSHOT);
    rig_tick(&r, 5000);
    assert_false(jr_pool_copying(r.pool));
    rig_log_noop(&r, 11, 15);
    rig_tick(&r, 100);
    assert_false(jr_pool_copying(r.pool)); /* it is what was wanted */
    rig_log_noop(&r, 16, 25);
    rig_tick(&r, 100);
    assert_true(jr_pool_copying(r.pool));
    uint64_t seq;
    (void)copy(&r, &seq);
    rig_deinit(&r);
}

static void test_a_copy_ends_with_the_state_it_copies(void **state)
{
    (void)state;
    struct rig r;
    lead(&r, 30);
    rig_log_noop(&r, 1, 10);
    rig_tick(&r, 100);
    assert_true(jr_pool_copying(r.pool));
    rig_send(&r, JR_EV_READER_BROKEN);
    rig_info(&r, RIG_CREATED + 1, 1, 0); /* another stream */
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED + 1, 1, 0);
    assert_true(r.pool->index_is_old);
    assert_false(jr_pool_copying(r.pool));
    rig_slices(&r);
    assert_null(rig_find(&r, JR_ACT_WRITE_SNAPSHOT));
    rig_deinit(&r);
}

static void test_a_clock_that_is_behind_is_no_reason(void **state)
{
    (void)state;
    struct rig r;
    lead(&r, 30);
    r.pool->config.snapshot_max_age_ms = 60000;
    rig_log_noop(&r, 1, 10);
    rig_tick(&r, 100);
    uint64_t seq;
    const char *object = copy(&r, &seq);
    written(&r, 0, object, seq);
    peer_says(&r, 10, true);
    rig_tick(&r, 100);
    rig_result(&r, JR_EV_SNAPSHOT_RECORDED, 0);
    r.pool->record.newest.created_ns += INT64_C(3600000000000); /* an hour ahead of us */
    rig_log_noop(&r, 11, 12);
    rig_tick(&r, 100);
    assert_false(jr_pool_copying(r.pool));
    r.pool->record.newest.created_ns = (int64_t)(r.now_ms - 60000) * 1000000;
    rig_tick(&r, 100);
    assert_true(jr_pool_copying(r.pool));
    (void)copy(&r, &seq);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- purge */

static void with_two_snapshots(struct rig *r, uint64_t peer_applied)
{
    lead(r, peer_applied);
    rig_log_noop(r, 1, 10);
    snapshot(r);
    rig_log_noop(r, 11, 20);
    snapshot(r);
    r->now_ms += 3000;
}

static const struct jr_action *purge_now(struct rig *r)
{
    rig_members(r, true, true);
    rig_tick(r, 100);
    return rig_find(r, JR_ACT_PURGE);
}

static void test_floor_is_the_least_of_all(void **state)
{
    (void)state;
    struct rig r;
    with_two_snapshots(&r, 1);
    assert_null(purge_now(&r)); /* 1 would mean everything */
    r.replicas[1].applied = 0;  /* one that only registers */
    assert_null(purge_now(&r));
    r.replicas[1].applied = 7;
    assert_int_equal(purge_now(&r)->u.seq, 7);
    rig_result(&r, JR_EV_PURGED, 0);
    r.now_ms += 3000;
    assert_null(purge_now(&r)); /* not again */
    r.replicas[1].applied = 18;
    assert_int_equal(purge_now(&r)->u.seq, 10); /* the previous snapshot */
    rig_result(&r, JR_EV_PURGED, JR_ETIMEOUT);
    r.now_ms += 3000;
    assert_int_equal(purge_now(&r)->u.seq, 10); /* asked again */
    rig_deinit(&r);
}

static void test_no_purge_on_old_news(void **state)
{
    (void)state;
    struct rig r;
    with_two_snapshots(&r, 20);
    rig_members(&r, true, true);
    r.now_ms += RIG_TTL; /* the list is a TTL old */
    rig_tick(&r, 0);
    assert_null(rig_find(&r, JR_ACT_PURGE));
    r.pool->connected_at_ms = r.now_ms; /* just back */
    assert_null(purge_now(&r));
    r.now_ms += RIG_TTL;
    assert_non_null(purge_now(&r));
    rig_deinit(&r);
}

static void test_no_purge_with_more_replicas_than_fit(void **state)
{
    (void)state;
    struct rig r;
    with_two_snapshots(&r, 20);
    rig_members(&r, true, true);
    r.pool->replicas.truncated = true;
    rig_tick(&r, 100);
    assert_null(rig_find(&r, JR_ACT_PURGE));
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- control */

static void test_config_once(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    rig_ready(&r, false);
    rig_leader(&r, true);
    rig_tick(&r, 100);
    const struct jr_action *a = rig_find(&r, JR_ACT_PUBLISH_CONTROL);
    assert_int_equal(a->u.control.type, JR_CONTROL_CONFIG);
    assert_int_equal(a->u.control.params.block_size, 16);
    assert_true(a->u.must_be_read && a->u.expects_seq == r.pool->state->seq);
    gen_control(&g, 1, JR_CONTROL_CONFIG)->params = a->u.control.params;
    rig_tick(&r, 100);
    assert_null(rig_find(&r, JR_ACT_PUBLISH_CONTROL)); /* on its way */
    rig_log(&r, &g);
    rig_tick(&r, 2 * JR_POOL_REPEAT_MS);
    assert_null(rig_find(&r, JR_ACT_PUBLISH_CONTROL));
    rig_deinit(&r);
}

static void test_a_reset_that_was_refused_is_sent_again(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    struct jr_event ev = {.type = JR_EV_ADMIN_RESET, .u.token = "t"};
    rig_init(&r);
    rig_ready(&r, false);
    rig_step(&r, &ev);
    const struct jr_action *a = rig_find(&r, JR_ACT_PUBLISH_CONTROL);
    assert_int_equal(a->u.control.type, JR_CONTROL_RESET);
    assert_string_equal(a->u.control.token, "t");
    rig_result(&r, JR_EV_CONTROL_PUBLISHED, JR_ECONFLICT);
    rig_tick(&r, JR_POOL_REPEAT_MS);
    a = rig_find(&r, JR_ACT_PUBLISH_CONTROL);
    assert_string_equal(a->u.control.token, "t");
    struct jr_control *c = gen_control(&g, 1, JR_CONTROL_RESET);
    *c = a->u.control;
    rig_log(&r, &g);
    assert_int_equal(r.pool->state->epoch.n, 1);
    rig_tick(&r, 2 * JR_POOL_REPEAT_MS);
    assert_null(rig_find(&r, JR_ACT_PUBLISH_CONTROL));
    rig_step(&r, &ev); /* it was done: who asks for that one has it */
    assert_null(rig_find(&r, JR_ACT_PUBLISH_CONTROL));
    (void)jr_str_copy(ev.u.token, sizeof ev.u.token, "u");
    rig_step(&r, &ev);
    assert_string_equal(rig_find(&r, JR_ACT_PUBLISH_CONTROL)->u.control.token, "u");
    rig_deinit(&r);
}

static void test_the_epoch_is_said_after_a_reset(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    lead(&r, 30);
    gen_control(&g, 1, JR_CONTROL_RESET)->to = (struct jr_epoch){9, 1};
    rig_log(&r, &g);
    rig_tick(&r, 100);
    assert_int_equal(rig_find(&r, JR_ACT_EPOCH)->u.epoch.epoch.random, 9);
    assert_true(jr_pool_copying(r.pool)); /* and a snapshot follows */
    rig_tick(&r, 100);
    assert_null(rig_find(&r, JR_ACT_EPOCH));
    uint64_t seq;
    (void)copy(&r, &seq);
    rig_deinit(&r);
}

/* After a rebuild the leader waits for the workers, which learn by the hint that they are asked. */
static void test_the_epoch_is_said_before_the_leader_is_ready(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    rig_nats(&r, true);
    rig_send(&r, JR_EV_LEASE_HELD);
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED, 1, 1);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_members(&r, true, false);
    rig_leader(&r, true);
    struct jr_control *c = gen_control(&g, 1, JR_CONTROL_RESET);
    c->from.n = JR_EPOCH_ANY;
    c->to = (struct jr_epoch){9, 1};
    rig_log(&r, &g);
    rig_tick(&r, 100);
    assert_int_equal(rig_at(&r), JR_REC_CATCH_UP);
    assert_int_equal(rig_find(&r, JR_ACT_EPOCH)->u.epoch.epoch.random, 9);
    assert_false(jr_pool_copying(r.pool)); /* no other duty */
    rig_deinit(&r);
}

static void test_worker_gone(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    r.worker.ranks[0].incarnation = 11;
    rig_ready(&r, false);
    r.pool->config.block_size = 16;
    gen_batch(&g, 1, 1, 0, 11, 1, true);
    rig_log(&r, &g);
    rig_leader(&r, true);
    r.now_ms += RIG_TTL;
    rig_members(&r, false, false);
    rig_tick(&r, 100);
    assert_int_equal(rig_find(&r, JR_ACT_PROBE)->u.probe.worker_id, 1);
    for (int i = 0; i < 8; i++) { /* it answers: stale, not gone */
        struct jr_event ev = {.type = JR_EV_PROBED, .u.probed = {.worker_id = 1, .healthy = true}};
        rig_step(&r, &ev);
        rig_members(&r, false, false);
        rig_tick(&r, 900);
        const struct jr_action *a = rig_find(&r, JR_ACT_PUBLISH_CONTROL);
        assert_true(!a || a->u.control.type != JR_CONTROL_WORKER_GONE);
    }
    struct jr_event ev = {.type = JR_EV_PROBED, .u.probed = {.worker_id = 1, .healthy = false}};
    rig_step(&r, &ev);
    rig_members(&r, false, false);
    rig_tick(&r, 600);
    const struct jr_control *gone = NULL;
    for (uint32_t i = 0; i < r.actions.n; i++)
        if (r.actions.v[i].type == JR_ACT_PUBLISH_CONTROL &&
            r.actions.v[i].u.control.type == JR_CONTROL_WORKER_GONE)
            gone = &r.actions.v[i].u.control;
    assert_non_null(gone);
    assert_int_equal(gone->n_ended, 1);
    assert_int_equal(gone->ended[0].incarnation, 11);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_copy_write_agree_record_purge),
        cmocka_unit_test(test_the_log_goes_on_while_an_image_is_copied),
        cmocka_unit_test(test_a_peer_that_disagrees_stops_it),
        cmocka_unit_test(test_an_index_in_doubt_is_kept_for_nobody),
        cmocka_unit_test(test_a_vote_waits_for_who_is_not_comparable_yet),
        cmocka_unit_test(test_failures_back_off),
        cmocka_unit_test(test_an_answer_to_an_older_job_is_not_ours),
        cmocka_unit_test(test_a_record_that_went_through_late_counts),
        cmocka_unit_test(test_no_snapshot_older_than_the_newest),
        cmocka_unit_test(test_a_copy_ends_with_the_state_it_copies),
        cmocka_unit_test(test_a_clock_that_is_behind_is_no_reason),
        cmocka_unit_test(test_floor_is_the_least_of_all),
        cmocka_unit_test(test_no_purge_on_old_news),
        cmocka_unit_test(test_no_purge_with_more_replicas_than_fit),
        cmocka_unit_test(test_config_once),
        cmocka_unit_test(test_a_reset_that_was_refused_is_sent_again),
        cmocka_unit_test(test_the_epoch_is_said_after_a_reset),
        cmocka_unit_test(test_the_epoch_is_said_before_the_leader_is_ready),
        cmocka_unit_test(test_worker_gone),
    };
    return cmocka_run_group_tests_name("core_pool_duties", tests, NULL, NULL);
}
