/* SPDX-License-Identifier: Apache-2.0 */
/* Deficit round robin: the rules one by one, then shares and a naive model under random backlogs. */
#include "base/rng.h"
#include "core/drr.h"
#include "jr_test.h"

#include <string.h>

#define N 5

static struct jr_drr drr;
static struct jr_drr_head heads[N];

static void open_drr(const uint64_t *quanta, uint32_t n)
{
    memset(heads, 0, sizeof heads);
    jr_drr_init(&drr, quanta, n);
}

static void head(uint32_t class, uint64_t cost, bool may_go)
{
    heads[class] = (struct jr_drr_head){.may_go = may_go, .cost = cost};
}

static void test_nobody_may_go(void **state)
{
    (void)state;
    const uint64_t quanta[] = {5, 5};
    open_drr(quanta, 2);
    assert_int_equal(jr_drr_pick(&drr, heads), JR_DRR_NONE);
    head(0, 3, false);
    assert_int_equal(jr_drr_pick(&drr, heads), JR_DRR_NONE);
    assert_int_equal(drr.deficit[0], 0); /* nothing is credited for waiting */
}

/* The class that was served goes on while its deficit pays; then the next has its turn. */
static void test_carry_and_cursor(void **state)
{
    (void)state;
    const uint64_t quanta[] = {5, 2};
    const uint32_t expected[] = {0, 0, 1, 0, 0, 0, 1};
    open_drr(quanta, 2);
    head(0, 2, true);
    head(1, 2, true);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        uint32_t class = jr_drr_pick(&drr, heads);
        assert_int_equal(class, expected[i]);
        jr_drr_took(&drr, class, 2);
    }
}

static void test_an_empty_class_keeps_nothing(void **state)
{
    (void)state;
    const uint64_t quanta[] = {9, 1};
    open_drr(quanta, 2);
    head(0, 1, true);
    assert_int_equal(jr_drr_pick(&drr, heads), 0);
    jr_drr_took(&drr, 0, 1);
    jr_drr_emptied(&drr, 0);
    assert_int_equal(drr.deficit[0], 0);
    assert_int_equal(drr.carry, JR_DRR_NONE);
    /* One whose requests are cancelled loses what it had saved, one that is blocked does not. */
    head(0, 20, true);
    head(1, 1, true);
    assert_int_equal(jr_drr_pick(&drr, heads), 1);
    jr_drr_took(&drr, 1, 1);
    assert_int_equal(jr_drr_pick(&drr, heads), 1);
    assert_int_equal(drr.deficit[0], 9);
    jr_drr_took(&drr, 1, 1);
    head(0, 20, false);
    assert_int_equal(jr_drr_pick(&drr, heads), 1);
    assert_int_equal(drr.deficit[0], 9);
    jr_drr_took(&drr, 1, 1);
    jr_drr_emptied(&drr, 0);
    assert_int_equal(drr.deficit[0], 0);
}

/* A cost of many quanta is reached at once, by all at the same pace. */
static void test_long_ways_are_short(void **state)
{
    (void)state;
    const uint64_t quanta[] = {1, 3};
    open_drr(quanta, 2);
    head(0, JR_DRR_COST_MAX, true);
    head(1, JR_DRR_COST_MAX, true);
    assert_int_equal(jr_drr_pick(&drr, heads), 1);
    jr_drr_took(&drr, 1, JR_DRR_COST_MAX);
    assert_true(drr.deficit[0] > JR_DRR_COST_MAX / 3 - 3 &&
                drr.deficit[0] < JR_DRR_COST_MAX / 3 + 3);
}

/* Of what is sent while all have a backlog each has the share of its quantum. Quanta pay for what is dearest: with
 * smaller ones rule 3 gives those behind who goes a little too much, some hundredths of the whole. */
static void test_shares(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (int run = 0; run < 50; run++) {
        uint64_t quanta[N], sent[N] = {0}, sum = 0, all = 0;
        for (uint32_t i = 0; i < N; i++)
            sum += quanta[i] = 100 + jr_rng_below(&rng, 2000);
        open_drr(quanta, N);
        for (uint32_t i = 0; i < N; i++)
            head(i, 1 + jr_rng_below(&rng, 100), true);
        for (int i = 0; i < 40000; i++) {
            uint32_t class = jr_drr_pick(&drr, heads);
            sent[class] += heads[class].cost;
            all += heads[class].cost;
            jr_drr_took(&drr, class, heads[class].cost);
            head(class, 1 + jr_rng_below(&rng, 100), true);
        }
        for (uint32_t i = 0; i < N; i++) {
            double share = (double)sent[i] / (double)all, due = (double)quanta[i] / (double)sum;
            assert_true(share > due - 0.01 && share < due + 0.01);
        }
    }
}

/* ---------------------------------------------------------------- a naive model */

/* The same rules in other words: credit goes round by round. */
struct naive {
    uint64_t quantum[N], deficit[N];
    uint32_t next;
    int last; /* that may go on; -1: nobody */
};

static bool naive_pays(const struct naive *m, uint32_t c)
{
    return heads[c].may_go && m->deficit[c] >= heads[c].cost;
}

static int naive_scan(const struct naive *m)
{
    for (uint32_t c = m->next; c < m->next + N; c++)
        if (naive_pays(m, c % N))
            return (int)(c % N);
    return -1;
}

static int naive_pick(struct naive *m)
{
    bool any = false;
    if (m->last >= 0 && naive_pays(m, (uint32_t)m->last))
        return m->last;
    for (uint32_t c = m->next; c < m->next + N; c++) {
        uint32_t at = c % N;
        any = any || heads[at].may_go;
        if (heads[at].may_go && !naive_pays(m, at))
            m->deficit[at] += m->quantum[at];
        if (naive_pays(m, at))
            return (int)at;
    }
    while (any && naive_scan(m) < 0)
        for (uint32_t c = 0; c < N; c++)
            m->deficit[c] += heads[c].may_go ? m->quantum[c] : 0;
    return naive_scan(m);
}

static void model_run(uint64_t seed)
{
    struct jr_rng rng;
    struct naive m = {.last = -1};
    jr_rng_init(&rng, seed, 1);
    for (uint32_t i = 0; i < N; i++)
        m.quantum[i] = 1 + jr_rng_below(&rng, 9);
    open_drr(m.quantum, N);
    for (int i = 0; i < 500; i++) {
        uint32_t class = jr_rng_below(&rng, N);
        head(class, 1 + jr_rng_below(&rng, 60), jr_rng_below(&rng, 4) != 0);
        if (jr_rng_below(&rng, 4) == 0) {
            heads[class] = (struct jr_drr_head){0};
            jr_drr_emptied(&drr, class);
            m.deficit[class] = 0;
            m.last = m.last == (int)class ? -1 : m.last;
        }
        int expected = naive_pick(&m);
        uint32_t got = jr_drr_pick(&drr, heads);
        assert_int_equal(expected < 0 ? JR_DRR_NONE : (uint32_t)expected, got);
        if (expected < 0)
            continue;
        bool is_empty = jr_rng_below(&rng, 5) == 0;
        uint64_t cost = heads[got].cost;
        jr_drr_took(&drr, got, cost);
        if (is_empty)
            jr_drr_emptied(&drr, got);
        m.next = (got + 1) % N;
        m.deficit[got] = is_empty ? 0 : m.deficit[got] - cost;
        m.last = m.deficit[got] ? (int)got : -1;
        if (is_empty)
            heads[got] = (struct jr_drr_head){0};
        assert_memory_equal(m.deficit, drr.deficit, sizeof m.deficit);
    }
}

static void test_model(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(200);
    for (uint64_t i = 0; i < seeds; i++)
        model_run(seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_may_go),
        cmocka_unit_test(test_carry_and_cursor),
        cmocka_unit_test(test_an_empty_class_keeps_nothing),
        cmocka_unit_test(test_long_ways_are_short),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
