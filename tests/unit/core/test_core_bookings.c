/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of bookings against a naive set: what is booked, and what of it counts. */
#include "base/rng.h"
#include "core/bookings.h"
#include "jr_test.h"
#include <string.h>

#define REQUESTS 12
#define MEMBERS  3

struct rig {
    struct jr_mem *mem, own_mem;
    struct jr_members members;
    struct jr_active *active;
    struct jr_bookings bs;
    uint64_t next_key;
};

static int rig_init(struct rig *r, struct jr_mem *mem)
{
    memset(r, 0, sizeof *r);
    jr_mem_init(&r->own_mem);
    r->mem = mem ? mem : &r->own_mem;
    jr_members_init(&r->members, r->mem);
    int err = jr_active_create(r->mem, &r->active);
    jr_bookings_init(&r->bs, r->mem, &r->members, r->active, &r->next_key);
    return err;
}

static void rig_deinit(struct rig *r, uint64_t now_ms)
{
    if (r->active) {
        jr_bookings_deinit(&r->bs, now_ms);
        assert_int_equal(jr_active_requests(r->active), 0);
    }
    jr_active_destroy(r->active);
    jr_members_deinit(&r->members);
    jr_mem_deinit(&r->own_mem);
}

static struct jr_booking booking(uint64_t request, uint64_t worker, const uint64_t *blocks,
                                 uint32_t n)
{
    return (struct jr_booking){.request = request,
                               .worker_id = worker,
                               .prefill_tokens = 10 * n + 1,
                               .prompt_tokens = 16 * n,
                               .prefill_seconds = 1,
                               .n_blocks = n,
                               .blocks = blocks};
}

static struct jr_active_load load_of(struct rig *r, uint64_t worker, uint64_t now_ms)
{
    struct jr_active_load load = {0};
    uint32_t m = jr_members_find(&r->members, worker, 0);
    if (m != JR_MEMBER_NONE)
        jr_active_load(r->active, m, now_ms, 1, &load);
    return load;
}

static void test_life(void **state)
{
    (void)state;
    struct rig r;
    const uint64_t blocks[3] = {1, 2, 3};
    assert_int_equal(rig_init(&r, NULL), 0);
    struct jr_booking b = booking(7, 1, blocks, 3);
    struct jr_booked *k;
    assert_int_equal(jr_bookings_add(&r.bs, &b, 100, &k), 0);
    assert_ptr_not_equal(k->b.blocks, blocks);
    assert_int_equal(load_of(&r, 1, 100).prefill_tokens, 31);
    assert_int_equal(load_of(&r, 1, 100).active_blocks, 3);
    jr_bookings_first_token(&r.bs, 7, 600, NULL);
    assert_int_equal(load_of(&r, 1, 600).prefill_tokens, 0);
    jr_bookings_progress(&r.bs, 7, 2, 700);
    jr_bookings_progress(&r.bs, 7, 1, 800); /* never back */
    assert_int_equal(k->b.output_blocks, 2);
    jr_bookings_done(&r.bs, 7, 900);
    jr_bookings_done(&r.bs, 7, 900); /* unknown: no error */
    assert_int_equal(load_of(&r, 1, 900).requests, 0);
    assert_int_equal(r.members.n > 0 ? r.members.v[0].refs : 0, 0);
    rig_deinit(&r, 900);
}

static void test_held_aside_and_back(void **state)
{
    (void)state;
    struct rig r;
    const uint64_t blocks[2] = {1, 2};
    assert_int_equal(rig_init(&r, NULL), 0);
    for (uint64_t i = 1; i <= 3; i++) {
        struct jr_booking b = booking(i, 1, blocks, 2);
        assert_int_equal(jr_bookings_add(&r.bs, &b, i, NULL), 0);
    }
    jr_bookings_first_token(&r.bs, 2, 5, NULL);
    jr_bookings_count(&r.bs, false, 10);
    assert_int_equal(jr_active_requests(r.active), 0);
    jr_bookings_done(&r.bs, 3, 11);
    jr_bookings_count(&r.bs, true, 12);
    assert_int_equal(load_of(&r, 1, 12).requests, 2);
    assert_int_equal(load_of(&r, 1, 12).decoding, 1);
    rig_deinit(&r, 12);
}

/* A base repeats a booking while its prefill runs: the time it takes is that since admission. */
static void test_repeated_by_a_base_keeps_its_clock(void **state)
{
    (void)state;
    struct rig r;
    const uint64_t blocks[2] = {1, 2};
    struct jr_active_sample sample;
    assert_int_equal(rig_init(&r, NULL), 0);
    struct jr_booking b = booking(1, 1, blocks, 2);
    assert_int_equal(jr_bookings_add(&r.bs, &b, 1000, NULL), 0);
    assert_int_equal(jr_bookings_add(&r.bs, &b, 11000, NULL), 0);
    assert_int_equal(r.bs.n, 1);
    jr_bookings_first_token(&r.bs, 1, 13000, &sample);
    assert_true(sample.valid);
    assert_true(sample.taken_s > 11.9 && sample.taken_s < 12.1);
    b.prefill_tokens = 0;
    b.prefill_seconds = 0;
    b.output_blocks = 4;
    assert_int_equal(jr_bookings_add(&r.bs, &b, 14000, NULL), 0);
    assert_int_equal(jr_bookings_find(&r.bs, 1)->b.output_blocks, 4);
    b.worker_id = 2; /* at another place: replaced */
    assert_int_equal(jr_bookings_add(&r.bs, &b, 14000, NULL), 0);
    assert_int_equal(load_of(&r, 1, 14000).requests, 0);
    assert_int_equal(load_of(&r, 2, 14000).requests, 1);
    rig_deinit(&r, 14000);
}

static void test_expiry_is_by_progress(void **state)
{
    (void)state;
    struct rig r;
    const uint64_t blocks[1] = {1};
    assert_int_equal(rig_init(&r, NULL), 0);
    for (uint64_t i = 1; i <= 4; i++) {
        struct jr_booking b = booking(i, 1, blocks, 1);
        assert_int_equal(jr_bookings_add(&r.bs, &b, 100 * i, NULL), 0);
    }
    jr_bookings_progress(&r.bs, 1, 1, 450); /* the oldest makes progress */
    assert_int_equal(jr_bookings_expire(&r.bs, 350, 500), 2);
    assert_non_null(jr_bookings_find(&r.bs, 1));
    assert_null(jr_bookings_find(&r.bs, 2));
    assert_non_null(jr_bookings_find(&r.bs, 4));
    rig_deinit(&r, 500);
}

/* ---------------------------------------------------------------- generated */

struct naive {
    bool live, decoding;
    uint64_t worker;
    uint32_t generation, prefill;
};

static void compare(struct rig *r, const struct naive *nv, bool counted, uint64_t now_ms)
{
    uint32_t live = 0;
    for (uint64_t w = 0; w < MEMBERS; w++) {
        uint32_t requests = 0, decoding = 0;
        uint64_t prefill = 0;
        for (uint32_t i = 0; i < REQUESTS; i++) {
            if (!nv[i].live || nv[i].worker != w)
                continue;
            live++;
            requests += counted;
            decoding += counted && nv[i].decoding;
            prefill += counted && !nv[i].decoding ? nv[i].prefill : 0;
        }
        struct jr_active_load load = load_of(r, w, now_ms);
        assert_int_equal(load.requests, requests);
        assert_int_equal(load.decoding, decoding);
        assert_int_equal(load.prefill_tokens, prefill);
    }
    assert_int_equal(r->bs.n, live);
}

static void random_step(struct rig *r, struct naive *nv, struct jr_rng *rng, bool *counted,
                        uint64_t now_ms)
{
    uint32_t i = jr_rng_below(rng, REQUESTS);
    uint64_t blocks[4];
    uint32_t n = jr_rng_below(rng, 5);
    for (uint32_t k = 0; k < n; k++)
        blocks[k] = k + 1;
    switch (jr_rng_below(rng, 8)) {
    case 0:
        *counted = !*counted;
        jr_bookings_count(&r->bs, *counted, now_ms);
        break;
    case 1:
    case 2:
    case 3: {
        if (nv[i].live)
            break;
        struct jr_booking b = booking(i, jr_rng_below(rng, MEMBERS), blocks, n);
        struct jr_booked *k;
        assert_int_equal(jr_bookings_add(&r->bs, &b, now_ms, &k), 0);
        k->generation = jr_rng_below(rng, 2);
        nv[i] = (struct naive){true, false, b.worker_id, k->generation, b.prefill_tokens};
        break;
    }
    case 4:
        jr_bookings_first_token(&r->bs, i, now_ms, NULL);
        nv[i].decoding = true;
        break;
    case 5:
        jr_bookings_done(&r->bs, i, now_ms);
        nv[i].live = false;
        break;
    case 6:
        if (jr_rng_below(rng, 8))
            break;
        (void)jr_bookings_sweep(&r->bs, 1, now_ms);
        for (uint32_t k = 0; k < REQUESTS; k++)
            nv[k].live = nv[k].live && nv[k].generation == 1;
        break;
    default:
        jr_bookings_progress(&r->bs, i, jr_rng_below(rng, 9), now_ms);
    }
}

static void test_model(void **state)
{
    (void)state;
    struct rig r;
    struct naive nv[REQUESTS];
    struct jr_rng rng;
    bool counted = true;
    memset(nv, 0, sizeof nv);
    jr_rng_init(&rng, jr_test_seed(), 5);
    assert_int_equal(rig_init(&r, NULL), 0);
    for (uint64_t t = 1; t < 20000; t++) {
        random_step(&r, nv, &rng, &counted, t);
        compare(&r, nv, counted, t);
        if (t % 512 == 0)
            jr_active_check(r.active);
    }
    rig_deinit(&r, 20000);
}

static int oom_run(struct jr_mem *mem, void *ctx)
{
    (void)ctx;
    struct rig r;
    uint64_t blocks[40];
    int err = rig_init(&r, mem);
    for (uint64_t i = 0; i < 40; i++)
        blocks[i] = i + 1;
    for (uint64_t i = 1; i <= 30 && err == 0; i++) {
        struct jr_booking b = booking(i, i % 5, blocks, (uint32_t)i);
        err = jr_bookings_add(&r.bs, &b, i, NULL);
    }
    rig_deinit(&r, 50);
    return err;
}

static void test_oom(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(oom_run, NULL) > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_held_aside_and_back),
        cmocka_unit_test(test_repeated_by_a_base_keeps_its_clock),
        cmocka_unit_test(test_expiry_is_by_progress),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests_name("core_bookings", tests, NULL, NULL);
}
