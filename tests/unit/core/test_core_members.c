/* SPDX-License-Identifier: Apache-2.0 */
/* Member numbers against a naive table, and running out of memory. */
#include "base/rng.h"
#include "core/members.h"
#include "jr_test.h"

#define WORKERS 9
#define RANKS   4

static void check(const struct jr_members *ms, uint32_t refs[WORKERS][RANKS])
{
    for (uint32_t w = 0; w < WORKERS; w++) {
        uint32_t live = 0, walked = 0;
        for (uint32_t r = 0; r < RANKS; r++) {
            uint32_t m = jr_members_find(ms, w, r);
            assert_int_equal(m != JR_MEMBER_NONE, refs[w][r] > 0);
            if (m == JR_MEMBER_NONE)
                continue;
            live++;
            assert_int_equal(ms->v[m].worker_id, w);
            assert_int_equal(ms->v[m].dp_rank, r);
            assert_int_equal(ms->v[m].refs, refs[w][r]);
        }
        for (uint32_t m = jr_members_first(ms, w); m != JR_MEMBER_NONE; m = jr_members_next(ms, m))
            walked++;
        assert_int_equal(walked, live);
    }
}

static void test_model(void **state)
{
    (void)state;
    struct jr_mem mem;
    struct jr_members ms;
    struct jr_rng rng;
    uint32_t refs[WORKERS][RANKS] = {{0}};
    jr_mem_init(&mem);
    jr_members_init(&ms, &mem);
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (int i = 0; i < 20000; i++) {
        uint32_t w = jr_rng_below(&rng, WORKERS), r = jr_rng_below(&rng, RANKS), m;
        if (jr_rng_below(&rng, 2)) {
            assert_int_equal(jr_members_ref(&ms, w, r, &m), 0);
            assert_int_equal(jr_members_find(&ms, w, r), m);
            refs[w][r]++;
        } else if (refs[w][r]) {
            jr_members_unref(&ms, jr_members_find(&ms, w, r));
            refs[w][r]--;
        }
        if (i % 16 == 0)
            check(&ms, refs);
    }
    assert_true(ms.n <= WORKERS * RANKS); /* numbers are used again */
    jr_members_deinit(&ms);
    jr_mem_deinit(&mem);
}

static void test_limit(void **state)
{
    (void)state;
    struct jr_mem mem;
    struct jr_members ms;
    uint32_t m;
    jr_mem_init(&mem);
    jr_members_init(&ms, &mem);
    for (uint32_t i = 0; i < JR_WORKERS_MAX; i++)
        assert_int_equal(jr_members_ref(&ms, i, 0, &m), 0);
    assert_int_equal(jr_members_ref(&ms, JR_WORKERS_MAX, 0, &m), JR_ELIMIT);
    jr_members_unref(&ms, jr_members_find(&ms, 17, 0));
    assert_int_equal(jr_members_ref(&ms, JR_WORKERS_MAX, 0, &m), 0);
    jr_members_deinit(&ms);
    jr_mem_deinit(&mem);
}

static int oom_run(struct jr_mem *mem, void *ctx)
{
    (void)ctx;
    struct jr_members ms;
    uint32_t m;
    int err = 0;
    jr_members_init(&ms, mem);
    for (uint32_t i = 0; i < 60 && err == 0; i++)
        err = jr_members_ref(&ms, i / 3, i % 3, &m);
    jr_members_deinit(&ms);
    return err;
}

static void test_oom(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(oom_run, NULL) > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests_name("core_members", tests, NULL, NULL);
}
