/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sm.h"
#include "base/assert.h"
#include "base/rng.h"
#include "jr_test.h"
#include <string.h>

enum { IDLE, BUSY, BROKEN, GONE, N_STATES };

static const struct jr_sm_row rows[N_STATES] = {
    [IDLE] = {"IDLE", JR_SM_TO(BUSY) | JR_SM_TO(GONE), JR_SM_INITIAL},
    [BUSY] = {"BUSY", JR_SM_TO(IDLE) | JR_SM_TO(BUSY) | JR_SM_TO(BROKEN), 0},
    [BROKEN] = {"BROKEN", JR_SM_TO(IDLE) | JR_SM_TO(GONE), JR_SM_INITIAL},
    [GONE] = {"GONE", 0, JR_SM_FINAL},
};

static bool holds = true;

static bool invariant(const void *owner, int state)
{
    assert_ptr_equal(owner, rows);
    assert_in_range(state, 0, N_STATES - 1);
    return holds;
}

static const struct jr_sm_table table = {"thing", rows, N_STATES, invariant};

struct move {
    int from, to;
};

static void do_move(void *ctx)
{
    const struct move *m = ctx;
    struct jr_sm sm;

    jr_sm_init(&sm, &table, rows, NULL, IDLE);
    sm.state = m->from;
    jr_sm_move(&sm, m->to, NULL);
}

static void allows_the_listed_moves_and_no_other(void **state)
{
    (void)state;
    for (int from = 0; from < N_STATES; from++) {
        for (int to = -1; to <= 33; to++) {
            struct move m = {from, to};
            bool allowed = to >= 0 && to < N_STATES && (rows[from].allowed >> to & 1);
            struct jr_sm sm = {.table = &table, .state = from};
            assert_int_equal(jr_sm_may(&sm, to), allowed);
            if (to <= N_STATES) /* a fork each */
                assert_int_equal(jr_test_aborts(do_move, &m), !allowed);
        }
    }
}

static void random_walk_follows_the_table(void **state)
{
    struct jr_rng r;
    struct jr_sm sm;

    (void)state;
    jr_rng_init(&r, jr_test_seed(), 7);
    jr_sm_init(&sm, &table, rows, NULL, IDLE);
    for (uint64_t done = 0; sm.state != GONE && done < 1000;) {
        int to = (int)jr_rng_below(&r, N_STATES);
        if (!jr_sm_may(&sm, to))
            continue;
        jr_sm_move(&sm, to, "walk");
        assert_int_equal(sm.state, to);
        assert_int_equal(sm.moves, ++done);
        assert_string_equal(jr_sm_name(&sm), rows[to].name);
    }
}

struct record {
    char event[64], text[128];
    enum jr_trace_level level;
    int n;
};

static void keep(void *ctx, enum jr_trace_level level, const char *event, const char *text)
{
    struct record *r = ctx;

    (void)strncpy(r->event, event, sizeof r->event - 1);
    (void)strncpy(r->text, text, sizeof r->text - 1);
    r->level = level;
    r->n++;
}

static void each_move_is_traced(void **state)
{
    struct record rec = {.n = 0};
    const struct jr_trace trace = {keep, &rec};
    struct jr_sm sm;

    (void)state;
    jr_sm_init(&sm, &table, rows, &trace, BROKEN);
    assert_int_equal(rec.n, 0);
    jr_sm_move(&sm, IDLE, "came back");
    assert_int_equal(rec.n, 1);
    assert_string_equal(rec.event, "thing.move");
    assert_string_equal(rec.text, "from=BROKEN to=IDLE why=\"came back\"");
}

static void move_with_broken_invariant(void *ctx)
{
    holds = false;
    do_move(ctx);
}

static void start_in(void *ctx)
{
    struct jr_sm sm;

    jr_sm_init(&sm, &table, rows, NULL, *(int *)ctx);
}

static void misuse_asserts(void **state)
{
    struct move m = {IDLE, BUSY};
    int bad[] = {BUSY, GONE, N_STATES, -1};
    int good = BROKEN;

    (void)state;
    assert_true(jr_test_aborts(move_with_broken_invariant, &m));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(jr_test_aborts(start_in, &bad[i]));
    assert_false(jr_test_aborts(start_in, &good));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allows_the_listed_moves_and_no_other),
        cmocka_unit_test(random_walk_follows_the_table),
        cmocka_unit_test(each_move_is_traced),
        cmocka_unit_test(misuse_asserts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
