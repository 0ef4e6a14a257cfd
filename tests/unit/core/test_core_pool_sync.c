/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's side of replica sync: what is told when, bases in parts, questions, versions. */
#include "pool_rig.h"
#include <string.h>

/* The nth batch of the last step, or NULL. */
static const struct jr_sync_batch *batch_at(const struct rig *r, uint32_t nth)
{
    for (uint32_t i = 0; i < r->actions.n; i++)
        if (r->actions.v[i].type == JR_ACT_PUBLISH_SYNC && nth-- == 0)
            return &r->actions.v[i].u.sync;
    return NULL;
}

static uint32_t batches(const struct rig *r)
{
    uint32_t n = 0;
    while (batch_at(r, n))
        n++;
    return n;
}

/* A step without an event of its own, so many ms later. */
static const struct jr_sync_batch *after_ms(struct rig *r, uint64_t ms)
{
    r->now_ms += ms;
    rig_send(r, JR_EV_SLICE);
    return batch_at(r, 0);
}

static void sync_settle(struct rig *r)
{
    rig_ready(r, true);
    for (int i = 0; i < 5; i++)
        rig_tick(r, 200); /* bases that were asked for */
}

static void peer_batch(struct rig *r, const struct jr_sync_batch *b)
{
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = b};
    rig_step(r, &ev);
}

static void peer_asks(struct rig *r, uint64_t number)
{
    peer_batch(r, &(struct jr_sync_batch){
                      .replica = "peer", .incarnation = 7, .number = number, .want_base = true});
}

/* ---------------------------------------------------------------- deltas */

/* An admission that is alone waits for nobody; what follows within 2 ms goes together, and so does all
 * that is no admission. */
static void test_deltas_are_gathered(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_route(&r, 9, NULL, 0);
    const struct jr_sync_batch *b = batch_at(&r, 0);
    assert_int_equal(b->n_deltas, 1);
    uint64_t number = b->number;
    rig_route(&r, 1, NULL, 0);
    rig_route(&r, 2, NULL, 0);
    rig_request(&r, JR_EV_FINISH, 2, 0); /* over before anybody heard of it */
    assert_null(batch_at(&r, 0));
    assert_int_equal(jr_pool_deadline_ms(r.pool), r.now_ms + 2);
    b = after_ms(&r, 2);
    assert_int_equal(b->n_deltas, 1);
    assert_int_equal(b->deltas[0].b.request, 1);
    assert_int_equal(b->number, number + 1);
    r.now_ms += 2;
    rig_request(&r, JR_EV_FIRST_TOKEN, 1, 0);
    assert_null(batch_at(&r, 0));
    rig_request(&r, JR_EV_FINISH, 1, 0);
    assert_null(after_ms(&r, 1));
    b = after_ms(&r, 1);
    assert_int_equal(b->number, number + 2);
    assert_int_equal(b->n_deltas, 1); /* the first token of who is over is no news */
    assert_int_equal(b->deltas[0].type, JR_DELTA_DONE);
    rig_request(&r, JR_EV_FINISH, 9, 0);
    rig_route(&r, 4, NULL, 0); /* takes it along */
    assert_int_equal(batch_at(&r, 0)->n_deltas, 2);
    rig_route(&r, 3, NULL, 0);
    rig_request(&r, JR_EV_FINISH, 3, 0); /* nothing is left to tell */
    assert_null(after_ms(&r, 2));
    rig_deinit(&r);
}

/* Nobody listens: what follows an admission waits ten times as long, or until it is much. The first word
 * of a peer ends that. */
static void test_alone_more_is_gathered(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    rig_tick(&r, 1000);
    rig_route(&r, 1, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->n_deltas, 1); /* alone it waits for nobody, either */
    rig_route(&r, 2, NULL, 0);
    assert_int_equal(jr_pool_deadline_ms(r.pool), r.now_ms + 20);
    assert_null(after_ms(&r, 19));
    assert_int_equal(after_ms(&r, 1)->n_deltas, 1);
    for (uint64_t i = 0; i < 63; i++) {
        rig_route(&r, 100 + i, NULL, 0);
        assert_null(batch_at(&r, 0));
    }
    rig_route(&r, 200, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->n_deltas, 64);
    rig_route(&r, 3, NULL, 0);
    assert_null(after_ms(&r, 2));
    peer_batch(&r, &(struct jr_sync_batch){.replica = "peer", .incarnation = 7, .number = 1});
    rig_route(&r, 4, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->n_deltas, 2);
    rig_route(&r, 5, NULL, 0);
    assert_int_equal(after_ms(&r, 2)->n_deltas, 1);
    rig_deinit(&r);
}

/* A request fails, or not, comes back under its number, and fails, all within one batch: the peers
 * must hear of the end of the first, which they know. */
static void test_the_end_of_a_request_that_came_back_is_told(void **state)
{
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        struct rig r;
        rig_init(&r);
        sync_settle(&r);
        rig_route(&r, 1, NULL, 0);
        assert_int_equal(batch_at(&r, 0)->n_deltas, 1);
        if (fails)
            rig_request(&r, JR_EV_FINISH, 1, 0);
        rig_route(&r, 1, NULL, 0);
        rig_request(&r, JR_EV_FINISH, 1, 0);
        const struct jr_sync_batch *b = after_ms(&r, 2);
        assert_true(b && b->n_deltas == 1);
        assert_int_equal(b->deltas[0].type, JR_DELTA_DONE);
        rig_deinit(&r);
    }
}

/* A request comes back, and there is no memory to book it anew: its first booking is gone, and the peers
 * hear that, whichever allocation it was. */
static void test_a_booking_that_memory_took_is_told(void **state)
{
    (void)state;
    static const uint64_t prefix[] = {11, 12};
    uint32_t taken = 0;
    bool failed = true;
    for (int n = 0; failed; n++) {
        struct rig r;
        rig_init(&r);
        sync_settle(&r);
        rig_route(&r, 1, prefix, 1);
        assert_int_equal(batch_at(&r, 0)->n_deltas, 1);
        r.pool->mem.fail_after = n;
        rig_route(&r, 1, prefix, 2);
        failed = r.pool->mem.fail_after < 0;
        r.pool->mem.fail_after = -1;
        if (!jr_bookings_find(&r.pool->own, 1)) {
            taken++;
            const struct jr_sync_batch *b = after_ms(&r, 2000);
            assert_true(b && b->is_base);
            assert_int_equal(b->n_deltas, 0);
        }
        rig_deinit(&r);
    }
    assert_true(taken > 0);
}

/* How far an answer is waits longer than the rest, and goes with what goes before. */
static void test_progress_waits(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_route(&r, 1, NULL, 0);
    (void)after_ms(&r, 5);
    rig_request(&r, JR_EV_OUTPUT, 1, 500);
    assert_null(after_ms(&r, 19));
    const struct jr_sync_batch *b = after_ms(&r, 1);
    assert_int_equal(b->n_deltas, 1);
    assert_int_equal(b->deltas[0].type, JR_DELTA_PROGRESS);
    rig_request(&r, JR_EV_OUTPUT, 1, 1000);
    rig_request(&r, JR_EV_FINISH, 1, 0);
    b = after_ms(&r, 2);
    assert_int_equal(b->deltas[b->n_deltas - 1].type, JR_DELTA_DONE);
    rig_deinit(&r);
}

static uint64_t *long_prompt(void)
{
    static uint64_t prefix[12000]; /* two of them are more than a batch */
    for (uint64_t i = 0; i < 12000; i++)
        prefix[i] = i + 1;
    return prefix;
}

/* What is too much for one message leaves as several, in order, and none of them is laid over
 * another. */
static void test_many_batches_of_one_step(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_route(&r, 9, NULL, 0);
    uint64_t number = batch_at(&r, 0)->number;
    r.pool->config.sync_flush_ms = 50;
    rig_route(&r, 1, long_prompt(), 12000);
    assert_null(batch_at(&r, 0));
    rig_route(&r, 2, long_prompt(), 12000); /* over the size of a batch: at once */
    assert_int_equal(batches(&r), 2);
    for (uint32_t i = 0; i < 2; i++) {
        const struct jr_sync_batch *b = batch_at(&r, i);
        assert_int_equal(b->number, number + 1 + i);
        assert_int_equal(b->n_deltas, 1);
        assert_int_equal(b->deltas[0].b.request, 1 + i);
        assert_int_equal(b->deltas[0].b.blocks[11999], 12000);
    }
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- bases */

/* Its base has three parts. */
static void three_parts_init(struct rig *r)
{
    rig_init(r);
    sync_settle(r);
    for (uint64_t id = 1; id <= 3; id++) {
        rig_route(r, id, long_prompt(), 12000);
        (void)after_ms(r, 5);
    }
}

/* A base in parts: one a step, deltas in between, and who ended meanwhile is in none. */
static void test_a_base_in_parts(void **state)
{
    (void)state;
    struct rig r;
    three_parts_init(&r);
    r.now_ms += 20000; /* a base is due */
    rig_route(&r, 4, NULL, 0);
    const struct jr_sync_batch *delta = batch_at(&r, 0), *b = batch_at(&r, 1);
    assert_int_equal(batches(&r), 2); /* what was pending goes before the base that includes it */
    assert_false(delta->is_base);
    assert_int_equal(delta->deltas[0].b.request, 4);
    assert_true(b->is_base);
    assert_int_equal(b->includes, delta->number);
    assert_int_equal(b->part, 0);
    assert_int_equal(b->parts, 3);
    assert_int_equal(b->deltas[0].b.request, 1);
    uint64_t base = b->base_number;
    r.now_ms += 5;
    rig_request(&r, JR_EV_FINISH, 2, 0); /* of the part that goes in this step */
    assert_int_equal(batches(&r), 1);
    b = batch_at(&r, 0);
    assert_int_equal(b->part, 1);
    assert_int_equal(b->n_deltas, 0);
    assert_true(jr_pool_deadline_ms(r.pool) <= r.now_ms + 1);
    (void)after_ms(&r, 2);
    assert_int_equal(batches(&r), 2);
    assert_int_equal(batch_at(&r, 0)->deltas[0].type, JR_DELTA_DONE);
    b = batch_at(&r, 1);
    assert_int_equal(b->base_number, base);
    assert_int_equal(b->part, 2);
    assert_int_equal(b->n_deltas, 2); /* 3 and 4 */
    assert_null(after_ms(&r, 5));
    rig_deinit(&r);
}

/* Who leaves is not through before the last part of its base. */
static void test_the_last_base_in_parts(void **state)
{
    (void)state;
    struct rig r;
    three_parts_init(&r);
    assert_false(jr_pool_is_leaving(r.pool));
    r.now_ms += 5;
    rig_send(&r, JR_EV_LEAVING);
    uint32_t parts = batch_at(&r, 0)->parts;
    assert_int_equal(parts, 3);
    for (uint32_t part = 1; part < parts; part++) {
        assert_true(jr_pool_is_leaving(r.pool));
        const struct jr_sync_batch *b = after_ms(&r, 2);
        assert_non_null(b);
        assert_int_equal(b->part, part);
    }
    assert_false(jr_pool_is_leaving(r.pool));
    rig_deinit(&r);
}

/* A peer that asks gets a base, at most every 100 ms; nobody's deltas wait for it. */
static void test_a_question_holds_no_delta_up(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_tick(&r, 200);
    peer_asks(&r, 1);
    assert_true(batch_at(&r, 0)->is_base);
    peer_asks(&r, 2); /* too early for another */
    assert_null(batch_at(&r, 0));
    rig_route(&r, 1, NULL, 0);
    assert_false(batch_at(&r, 0)->is_base);
    assert_int_equal(batch_at(&r, 0)->deltas[0].b.request, 1);
    assert_null(after_ms(&r, 90));
    const struct jr_sync_batch *b = after_ms(&r, 10);
    assert_true(b->is_base);
    assert_int_equal(b->n_deltas, 1);
    rig_deinit(&r);
}

/* A batch that could not be published: silence until a base, later and later while that fails. */
static void test_failures(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_tick(&r, 40000);
    uint64_t wait = 100;
    for (int i = 0; i < 8; i++) {
        rig_send(&r, JR_EV_SYNC_FAILED);
        rig_send(&r, JR_EV_SYNC_FAILED); /* others of the same outage */
        rig_route(&r, 1 + (uint64_t)i, NULL, 0);
        assert_null(batch_at(&r, 0));
        uint64_t began = r.pool->base_at_ms;
        assert_null(after_ms(&r, began + wait - 1 - r.now_ms));
        const struct jr_sync_batch *b = after_ms(&r, 1);
        assert_true(b->is_base);
        assert_int_equal(b->n_deltas, i + 1);
        wait = wait < 1600 ? 2 * wait : 2000;
    }
    rig_send(&r, JR_EV_SYNC_OPENED); /* all is well: at once */
    assert_true(batch_at(&r, 0)->is_base);
    rig_deinit(&r);
}

/* What no delta told is in the base alone. Should that be lost, too, a later delta shows a hole. */
static void test_a_lost_base_leaves_a_hole(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_route(&r, 1, NULL, 0);
    uint64_t told = batch_at(&r, 0)->number;
    rig_send(&r, JR_EV_SYNC_FAILED);
    const struct jr_sync_batch *b = batch_at(&r, 0);
    assert_true(b->is_base);
    assert_int_equal(b->includes, told + 1);
    r.now_ms += 5;
    rig_route(&r, 2, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->number, told + 2);
    rig_deinit(&r);
}

/* So does one of a life that has told nothing but bases. */
static void test_a_lost_base_of_a_new_life_leaves_a_hole(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    r.now_ms += 5000;
    struct jr_event ev = {.type = JR_EV_LEASE_LOST, .u.incarnation = 77};
    rig_step(&r, &ev);
    assert_true(batch_at(&r, 0)->is_base);
    assert_int_equal(batch_at(&r, 0)->includes, 0);
    rig_send(&r, JR_EV_SYNC_FAILED);
    rig_tick(&r, 500);
    assert_true(batch_at(&r, 0)->is_base);
    assert_int_equal(batch_at(&r, 0)->includes, 1);
    r.now_ms += 5;
    rig_route(&r, 2, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->number, 2);
    rig_deinit(&r);
}

/* More than may wait is dropped: the base that comes says it all. */
static void test_what_waits_is_bounded(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    rig_route(&r, 1, NULL, 0);
    rig_route(&r, 2, NULL, 0);
    assert_int_equal(r.pool->pending.n, 1);
    r.pool->pending_bytes += 8 << 20;
    rig_route(&r, 3, NULL, 0);
    assert_int_equal(r.pool->pending.n, 0);
    const struct jr_sync_batch *b = batch_at(&r, 0);
    assert_true(b->is_base);
    assert_int_equal(b->n_deltas, 3);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- questions */

/* A base that does not come is asked for again, less and less often; the question needs no base of
 * ours to carry it. */
static void test_asked_until_it_comes(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    peer_batch(&r, &(struct jr_sync_batch){.replica = "peer", .incarnation = 7, .number = 5});
    assert_int_equal((int)r.pool->replicas.gaps, 1);
    const struct jr_sync_batch *question = after_ms(&r, 2);
    assert_true(question->want_base);
    assert_false(question->is_base);
    uint32_t asked = 0;
    uint64_t last = r.now_ms, pause = 0;
    for (int i = 0; i < 90; i++) {
        rig_tick(&r, 100);
        for (uint32_t k = 0; k < batches(&r); k++)
            if (batch_at(&r, k)->want_base) {
                asked++;
                assert_true(r.now_ms - last >= pause);
                pause = r.now_ms - last;
                last = r.now_ms;
            }
    }
    assert_in_range(asked, 4, 8);
    peer_batch(&r, &(struct jr_sync_batch){.replica = "peer",
                                           .incarnation = 7,
                                           .is_base = true,
                                           .base_number = 2,
                                           .parts = 1,
                                           .includes = 5});
    for (int i = 0; i < 200; i++) {
        rig_tick(&r, 100);
        for (uint32_t k = 0; k < batches(&r); k++)
            assert_false(batch_at(&r, k)->want_base);
    }
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- peers that do not, versions */

static void test_nobody_waits_for_a_peer_that_does_not_sync(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    r.replicas[1].sync_off = true;
    rig_nats(&r, true);
    rig_send(&r, JR_EV_LEASE_HELD);
    rig_loaded(&r, JR_ENOTFOUND, NULL, "");
    rig_info(&r, RIG_CREATED, 1, 0);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_members(&r, true, true);
    rig_tick(&r, 100);
    assert_int_equal(rig_at(&r), JR_REC_READY);
    for (int i = 0; i < 50; i++) {
        rig_tick(&r, 100);
        for (uint32_t k = 0; k < batches(&r); k++) /* but in what was asked at the start */
            assert_true(!batch_at(&r, k)->want_base);
    }
    rig_deinit(&r);
}

static void test_our_lease_says_whether_we_sync(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        struct rig r;
        struct jr_pool_config c;
        struct jr_replica_lease lease;
        rig_config(&c);
        c.replica_sync = on;
        rig_init_with(&r, &c);
        jr_pool_lease(r.pool, &lease);
        assert_int_equal(lease.sync_off, !on);
        assert_int_equal(lease.sync_max, JR_SYNC_VERSION);
        rig_deinit(&r);
    }
}

/* What is written is what all can read; who could not read it so far gets a base. */
static void test_the_lowest_version_is_written(void **state)
{
    (void)state;
    struct rig r;
    struct jr_pool_config c;
    rig_config(&c);
    c.sync_max = 3;
    rig_init_with(&r, &c);
    r.replicas[1].sync_max = 4;
    sync_settle(&r);
    rig_route(&r, 1, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->version, 3);
    r.now_ms += 200;
    r.replicas[1].sync_max = 2;
    rig_members(&r, true, true);
    const struct jr_sync_batch *b = batch_at(&r, 0);
    assert_true(b->is_base);
    assert_int_equal(b->version, 2);
    r.replicas[1].sync_max = 0; /* it does not know that there are versions */
    rig_members(&r, true, true);
    r.now_ms += 200;
    rig_route(&r, 2, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->version, 1);
    r.replicas[1].sync_off = true; /* it reads nothing */
    rig_members(&r, true, true);
    r.now_ms += 200;
    rig_route(&r, 3, NULL, 0);
    assert_int_equal(batch_at(&r, 0)->version, 3);
    rig_deinit(&r);
}

static void test_deltas_of_unknown_kinds_are_counted(void **state)
{
    (void)state;
    struct rig r;
    struct jr_pool_view v;
    rig_init(&r);
    sync_settle(&r);
    peer_batch(&r, &(struct jr_sync_batch){
                       .replica = "peer", .incarnation = 7, .number = 1, .n_unknown = 2});
    jr_pool_view(r.pool, &v);
    assert_int_equal(v.counters.sync_unknown, 2);
    assert_int_equal(v.counters.sync_gaps, 0);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- what the speed is learned from */

static void peer_life(struct rig *r, uint64_t number, uint64_t took_ms)
{
    struct jr_delta d = {.type = JR_DELTA_ADMIT};
    d.b.request = number;
    d.b.worker_id = 1;
    d.b.prefill_tokens = 100;
    d.b.prefill_seconds = 1;
    struct jr_sync_batch b = {
        .replica = "peer", .incarnation = 7, .number = number, .deltas = &d, .n_deltas = 1};
    peer_batch(r, &b);
    r->now_ms += took_ms;
    d = (struct jr_delta){.type = JR_DELTA_FIRST_TOKEN, .b.request = number};
    b.number++;
    peer_batch(r, &b);
}

/* What the stream holds when it is opened is read in no time: that a prefill took none is no news
 * of the workers. */
static void test_the_speed_is_not_learned_from_the_past(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    sync_settle(&r);
    peer_life(&r, 1, 2000);
    double factor = jr_speed_factor(&r.pool->speed);
    assert_true(factor > 1.9 && factor < 2.1);
    rig_send(&r, JR_EV_SYNC_BROKEN);
    peer_life(&r, 3, 0);
    assert_true(jr_speed_factor(&r.pool->speed) == factor);
    rig_send(&r, JR_EV_SYNC_OPENED);
    peer_life(&r, 5, 500);
    assert_true(jr_speed_factor(&r.pool->speed) < factor);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- peers */

static void test_own_batches_are_not_a_peers(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, false);
    struct jr_sync_batch b = {
        .replica = "self", .incarnation = 99, .is_base = true, .base_number = 1, .parts = 1};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    rig_step(&r, &ev);
    assert_int_equal(r.pool->replicas.n, 0);
    rig_deinit(&r);
}

static void test_peers_bookings_end_also_while_cut_off(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    rig_ready(&r, true);
    struct jr_delta d = {.type = JR_DELTA_ADMIT};
    d.b.worker_id = 1;
    d.b.prefill_tokens = 4;
    struct jr_sync_batch b = {
        .replica = "peer", .incarnation = 7, .number = 1, .deltas = &d, .n_deltas = 1};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    rig_step(&r, &ev);
    rig_nats(&r, false);
    rig_tick(&r, 10000);
    assert_int_equal(jr_active_requests(r.pool->active), 1);
    rig_tick(&r, 11000);
    assert_int_equal(jr_active_requests(r.pool->active), 0);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deltas_are_gathered),
        cmocka_unit_test(test_alone_more_is_gathered),
        cmocka_unit_test(test_the_end_of_a_request_that_came_back_is_told),
        cmocka_unit_test(test_a_booking_that_memory_took_is_told),
        cmocka_unit_test(test_progress_waits),
        cmocka_unit_test(test_many_batches_of_one_step),
        cmocka_unit_test(test_a_base_in_parts),
        cmocka_unit_test(test_the_last_base_in_parts),
        cmocka_unit_test(test_a_question_holds_no_delta_up),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_a_lost_base_leaves_a_hole),
        cmocka_unit_test(test_a_lost_base_of_a_new_life_leaves_a_hole),
        cmocka_unit_test(test_what_waits_is_bounded),
        cmocka_unit_test(test_asked_until_it_comes),
        cmocka_unit_test(test_nobody_waits_for_a_peer_that_does_not_sync),
        cmocka_unit_test(test_our_lease_says_whether_we_sync),
        cmocka_unit_test(test_the_lowest_version_is_written),
        cmocka_unit_test(test_deltas_of_unknown_kinds_are_counted),
        cmocka_unit_test(test_the_speed_is_not_learned_from_the_past),
        cmocka_unit_test(test_own_batches_are_not_a_peers),
        cmocka_unit_test(test_peers_bookings_end_also_while_cut_off),
    };
    return cmocka_run_group_tests_name("core_pool_sync", tests, NULL, NULL);
}
