/* SPDX-License-Identifier: Apache-2.0 */
/* The table of recovery: every move it lists moves, every other ends the process. */
#include "core/recovery.h"
#include "jr_test.h"

struct pair {
    int from, to;
};

/* Brings a machine to a state along allowed moves; false when there is no way. */
static bool walk_to(struct jr_sm *sm, int to, uint32_t seen)
{
    if (sm->state == to)
        return true;
    for (int next = 0; next < JR_REC_COUNT; next++) {
        if (!jr_sm_may(sm, next) || (seen & JR_SM_TO(next)))
            continue;
        struct jr_sm before = *sm;
        jr_sm_move(sm, next, "walk");
        if (walk_to(sm, to, seen | JR_SM_TO(next)))
            return true;
        *sm = before;
    }
    return false;
}

static void do_move(void *ctx)
{
    const struct pair *p = ctx;
    struct jr_sm sm;
    jr_sm_init(&sm, &jr_recovery_table, NULL, NULL, JR_REC_COLD);
    if (walk_to(&sm, p->from, JR_SM_TO(JR_REC_COLD)))
        jr_sm_move(&sm, p->to, "test");
}

static void test_walk(void **state)
{
    (void)state;
    unsigned allowed = 0;
    for (int from = 0; from < JR_REC_COUNT; from++) {
        struct jr_sm sm;
        jr_sm_init(&sm, &jr_recovery_table, NULL, NULL, JR_REC_COLD);
        assert_true(walk_to(&sm, from, JR_SM_TO(JR_REC_COLD)));
        for (int to = 0; to < JR_REC_COUNT; to++) {
            struct pair p = {from, to};
            allowed += jr_sm_may(&sm, to);
            assert_int_equal(jr_test_aborts(do_move, &p), !jr_sm_may(&sm, to));
        }
    }
    assert_int_equal(allowed, 34);
}

/* From wherever NATS goes away there is a way on, and back to ready. */
static void test_everything_leads_back(void **state)
{
    (void)state;
    for (int from = 0; from < JR_REC_COUNT; from++) {
        struct jr_sm sm;
        jr_sm_init(&sm, &jr_recovery_table, NULL, NULL, JR_REC_COLD);
        assert_true(walk_to(&sm, from, JR_SM_TO(JR_REC_COLD)));
        assert_true(from == JR_REC_DEGRADED || jr_sm_may(&sm, JR_REC_DEGRADED));
        assert_true(walk_to(&sm, JR_REC_READY, JR_SM_TO(from)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_everything_leads_back),
    };
    return cmocka_run_group_tests_name("core_recovery", tests, NULL, NULL);
}
