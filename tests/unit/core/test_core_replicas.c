/* SPDX-License-Identifier: Apache-2.0 */
/* Peers and what they have in flight: bases in parts, deltas between them, holes, lives. */
#include "core/replicas.h"
#include "jr_test.h"
#include <stdio.h>
#include <string.h>

#define FORGET 10000

struct rig {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_active *active;
    struct jr_replicas rs;
    uint64_t next_key, now_ms;
    bool want;
    struct jr_delta deltas[8];
    struct jr_sync_batch b;
};

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->now_ms = 1000;
    jr_mem_init(&r->mem);
    jr_members_init(&r->members, &r->mem);
    assert_int_equal(jr_active_create(&r->mem, &r->active), 0);
    jr_replicas_init(&r->rs, &r->mem, &r->members, r->active, &r->next_key);
}

static void rig_deinit(struct rig *r)
{
    jr_replicas_deinit(&r->rs, r->now_ms);
    assert_int_equal(jr_active_requests(r->active), 0);
    jr_active_destroy(r->active);
    jr_members_deinit(&r->members);
    jr_mem_deinit(&r->mem);
}

static void list(struct rig *r, uint64_t incarnation)
{
    struct jr_replica_lease leases[2] = {{.id = "self"}, {.id = "peer"}};
    leases[1].incarnation = incarnation;
    assert_int_equal(
        jr_replicas_list(&r->rs, leases, incarnation ? 2 : 1, "self", FORGET, ++r->now_ms), 0);
}

static struct jr_delta *add(struct rig *r, enum jr_delta_type type, uint64_t request)
{
    struct jr_delta *d = &r->deltas[r->b.n_deltas++];
    *d = (struct jr_delta){.type = type};
    d->b.request = request;
    d->b.worker_id = 1;
    if (type == JR_DELTA_ADMIT) {
        d->b.prefill_tokens = 5;
        d->b.prefill_seconds = 1;
    }
    return d;
}

/* A batch of deltas. */
static void begin(struct rig *r, uint64_t incarnation, uint64_t number)
{
    r->b = (struct jr_sync_batch){
        .replica = "peer", .incarnation = incarnation, .number = number, .deltas = r->deltas};
}

static void begin_part(struct rig *r, uint64_t incarnation, uint64_t base, uint32_t part,
                       uint32_t parts, uint64_t includes)
{
    begin(r, incarnation, includes);
    r->b.is_base = true;
    r->b.base_number = base;
    r->b.part = part;
    r->b.parts = parts;
    r->b.includes = includes;
}

static void send(struct rig *r)
{
    r->want = false;
    assert_int_equal(jr_replicas_apply(&r->rs, &r->b, NULL, &r->want, ++r->now_ms), 0);
}

static struct jr_peer *peer(struct rig *r)
{
    return jr_replicas_find(&r->rs, "peer");
}

static bool booked(struct rig *r, uint64_t request)
{
    return peer(r) && jr_bookings_find(&peer(r)->bookings, request);
}

/* A listed peer with an empty base read. */
static void introduce(struct rig *r)
{
    list(r, 7);
    begin_part(r, 7, 1, 0, 1, 0);
    send(r);
    assert_true(jr_replicas_complete(&r->rs));
    assert_false(r->want);
}

static void test_deltas(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    list(&r, 7);
    assert_false(jr_replicas_complete(&r.rs)); /* its load is not known */
    introduce(&r);
    begin(&r, 7, 1);
    add(&r, JR_DELTA_ADMIT, 1);
    add(&r, JR_DELTA_ADMIT, 2);
    send(&r);
    assert_int_equal(jr_active_requests(r.active), 2);
    begin(&r, 7, 2);
    add(&r, JR_DELTA_FIRST_TOKEN, 1);
    add(&r, JR_DELTA_PROGRESS, 1)->b.output_blocks = 3;
    add(&r, JR_DELTA_DONE, 2);
    send(&r);
    assert_int_equal(jr_active_requests(r.active), 1);
    assert_int_equal(jr_bookings_find(&peer(&r)->bookings, 1)->b.output_blocks, 3);
    begin(&r, 7, 2); /* twice: nothing */
    add(&r, JR_DELTA_ADMIT, 9);
    send(&r);
    assert_false(booked(&r, 9));
    rig_deinit(&r);
}

static void test_a_hole_asks_for_a_base(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin(&r, 7, 1);
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    begin(&r, 7, 3); /* 2, with its done, is lost */
    add(&r, JR_DELTA_ADMIT, 2);
    send(&r);
    assert_true(r.want);
    assert_int_equal(r.rs.gaps, 1);
    assert_true(booked(&r, 1) && booked(&r, 2)); /* what is known goes on counting */
    begin_part(&r, 7, 2, 0, 1, 3);
    add(&r, JR_DELTA_ADMIT, 2);
    send(&r);
    assert_false(r.want);
    assert_false(booked(&r, 1));
    assert_true(booked(&r, 2));
    rig_deinit(&r);
}

static void test_deltas_between_parts(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin_part(&r, 7, 2, 0, 2, 4);
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    begin(&r, 7, 5);
    add(&r, JR_DELTA_DONE, 2);  /* listed by the part to come: a phantom, were it not done again */
    add(&r, JR_DELTA_ADMIT, 3); /* younger than the base: stays */
    add(&r, JR_DELTA_FIRST_TOKEN, 4);
    send(&r);
    assert_false(r.want);
    begin_part(&r, 7, 2, 1, 2, 4);
    add(&r, JR_DELTA_ADMIT, 2);
    add(&r, JR_DELTA_ADMIT, 4);
    send(&r);
    assert_true(booked(&r, 1) && booked(&r, 3) && booked(&r, 4));
    assert_false(booked(&r, 2));
    assert_int_equal(jr_bookings_find(&peer(&r)->bookings, 4)->b.prefill_tokens, 0);
    begin(&r, 7, 6);
    send(&r);
    assert_false(r.want);
    rig_deinit(&r);
}

static void test_a_missing_part_voids_the_base(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin(&r, 7, 1);
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    begin_part(&r, 7, 2, 0, 3, 1);
    send(&r);
    begin_part(&r, 7, 2, 2, 3, 1);
    send(&r);
    assert_true(r.want);
    assert_true(booked(&r, 1)); /* nothing is swept by half a base */
    begin_part(&r, 7, 3, 0, 1, 1);
    send(&r);
    assert_false(r.want);
    assert_false(booked(&r, 1));
    rig_deinit(&r);
}

/* The parts of a base that do not come must not gather deltas without end. */
static void test_deltas_between_parts_are_bounded(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin_part(&r, 7, 2, 0, 2, 0);
    send(&r);
    uint64_t number = 1;
    while (peer(&r)->in_base) {
        assert_in_range(number, 1, JR_SYNC_DELTAS_MAX);
        begin(&r, 7, number++);
        for (int i = 0; i < 8; i++)
            add(&r, JR_DELTA_FIRST_TOKEN, 1);
        send(&r);
    }
    assert_true(r.want);
    begin_part(&r, 7, 2, 1, 2, 0); /* too late */
    send(&r);
    assert_true(r.want);
    begin_part(&r, 7, 3, 0, 1, number);
    send(&r);
    assert_false(r.want);
    rig_deinit(&r);
}

static void test_lives(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    begin(&r, 7, 1); /* heard of before it is listed: held aside */
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    assert_true(booked(&r, 1));
    assert_int_equal(jr_active_requests(r.active), 0);
    list(&r, 7);
    assert_int_equal(jr_active_requests(r.active), 1);
    list(&r, 0); /* its lease is over */
    assert_int_equal(jr_active_requests(r.active), 0);
    list(&r, 8); /* it lives again, as another */
    assert_int_equal(jr_active_requests(r.active), 0);
    assert_false(jr_replicas_complete(&r.rs));
    begin_part(&r, 8, 1, 0, 1, 0);
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    assert_int_equal(jr_active_requests(r.active), 1);
    assert_true(jr_replicas_complete(&r.rs));
    rig_deinit(&r);
}

/* The base of a new life comes before the list that names it; an older list must not undo it. */
static void test_an_old_list_does_not_undo_a_new_life(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin_part(&r, 8, 1, 0, 1, 0);
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    list(&r, 7);
    assert_int_equal(peer(&r)->incarnation, 8);
    list(&r, 8);
    assert_true(jr_replicas_complete(&r.rs));
    assert_int_equal(jr_active_requests(r.active), 1);
    rig_deinit(&r);
}

static void test_reopened(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin(&r, 7, 1);
    add(&r, JR_DELTA_ADMIT, 1);
    send(&r);
    jr_replicas_reopened(&r.rs, 0);
    assert_false(jr_replicas_complete(&r.rs));
    assert_int_equal(jr_active_requests(r.active), 1); /* counts on until the base */
    begin_part(&r, 7, 2, 0, 1, 5);
    send(&r);
    assert_true(jr_replicas_complete(&r.rs));
    assert_int_equal(jr_active_requests(r.active), 0);
    rig_deinit(&r);
}

static void test_forgotten(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    list(&r, 0);
    assert_non_null(peer(&r));
    r.now_ms += FORGET + 1;
    list(&r, 0);
    assert_null(peer(&r));
    rig_deinit(&r);
}

static void test_too_many_replicas(void **state)
{
    (void)state;
    struct rig r;
    static struct jr_replica_lease leases[JR_REPLICAS_MAX + 2];
    rig_init(&r);
    for (uint32_t i = 0; i < JR_REPLICAS_MAX + 2; i++)
        (void)snprintf(leases[i].id, sizeof leases[i].id, "r%u", i);
    assert_int_equal(jr_replicas_list(&r.rs, leases, JR_REPLICAS_MAX + 2, "self", FORGET, r.now_ms),
                     0);
    assert_int_equal(r.rs.n, JR_REPLICAS_MAX);
    assert_true(r.rs.truncated);
    assert_int_equal(jr_replicas_list(&r.rs, leases, 3, "self", FORGET, r.now_ms), 0);
    assert_false(r.rs.truncated);
    rig_deinit(&r);
}

static void test_expiry(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    introduce(&r);
    begin(&r, 7, 1);
    add(&r, JR_DELTA_ADMIT, 1);
    add(&r, JR_DELTA_ADMIT, 2);
    send(&r);
    r.now_ms += 1000;
    begin_part(&r, 7, 2, 0, 1, 1); /* a base that lists it is progress */
    add(&r, JR_DELTA_ADMIT, 1);
    add(&r, JR_DELTA_ADMIT, 2);
    send(&r);
    assert_int_equal(jr_replicas_expire(&r.rs, r.now_ms - 500, r.now_ms), 0);
    assert_int_equal(jr_replicas_expire(&r.rs, r.now_ms + 1, r.now_ms), 2);
    assert_int_equal(jr_active_requests(r.active), 0);
    rig_deinit(&r);
}

/* Memory that runs out in the middle of a batch: a base is asked for, and makes all good. */
static void test_oom_asks_for_a_base(void **state)
{
    (void)state;
    for (int64_t after = 0; after < 12; after++) {
        struct rig r;
        rig_init(&r);
        introduce(&r);
        begin(&r, 7, 1);
        for (uint64_t i = 1; i <= 4; i++)
            add(&r, JR_DELTA_ADMIT, i);
        r.mem.fail_after = after;
        int err = jr_replicas_apply(&r.rs, &r.b, NULL, &r.want, ++r.now_ms);
        bool failed = r.mem.fail_after < 0;
        r.mem.fail_after = -1;
        assert_int_equal(err, failed ? JR_ENOMEM : 0);
        assert_int_equal(r.want, failed);
        begin_part(&r, 7, 2, 0, 1, 1);
        for (uint64_t i = 1; i <= 4; i++)
            add(&r, JR_DELTA_ADMIT, i);
        send(&r);
        assert_int_equal(jr_active_requests(r.active), 4);
        assert_false(r.want);
        rig_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deltas),
        cmocka_unit_test(test_a_hole_asks_for_a_base),
        cmocka_unit_test(test_deltas_between_parts),
        cmocka_unit_test(test_a_missing_part_voids_the_base),
        cmocka_unit_test(test_deltas_between_parts_are_bounded),
        cmocka_unit_test(test_lives),
        cmocka_unit_test(test_an_old_list_does_not_undo_a_new_life),
        cmocka_unit_test(test_reopened),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_too_many_replicas),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_oom_asks_for_a_base),
    };
    return cmocka_run_group_tests_name("core_replicas", tests, NULL, NULL);
}
