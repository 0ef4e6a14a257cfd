/* SPDX-License-Identifier: Apache-2.0 */
/* Selection: minimum, ties, softmax, and the plain modes. */
#include "base/map.h"
#include "core/select.h"
#include "jr_test.h"
#include <math.h>
#include <string.h>

static void with_costs(struct jr_candidate *k, const double *costs, uint32_t n)
{
    memset(k, 0, n * sizeof *k);
    for (uint32_t i = 0; i < n; i++) {
        k[i].member = i;
        k[i].worker_id = 100 + i;
        k[i].cost = costs[i];
    }
}

static void test_minimum(void **state)
{
    struct jr_select_config c = {.tie = JR_TIE_HASH};
    struct jr_candidate k[3];
    uint32_t best = 9;

    (void)state;
    with_costs(k, (double[]){18, 10, 11}, 3);
    assert_int_equal(0, jr_select_cost(&c, k, 3, 5, NULL, &best));
    assert_int_equal(1, best);
    assert_true(k[0].probability == 0 && k[1].probability == 1);
    assert_int_equal(JR_ENOWORKER, jr_select_cost(&c, k, 0, 5, NULL, &best));
}

/* Whatever the order of the array, the same worker; over requests, all of them. */
static void test_tie_hash(void **state)
{
    struct jr_select_config c = {.tie = JR_TIE_HASH};
    struct jr_candidate k[4], swapped[4];
    uint32_t best, other, chosen[4] = {0};

    (void)state;
    with_costs(k, (double[]){1, 1, 1, 1}, 4);
    k[3].worker_id = 102; /* ranks 0 and 1 of one worker */
    k[3].dp_rank = 1;
    for (uint64_t last = 0; last < 4000; last++) {
        for (uint32_t i = 0; i < 4; i++)
            swapped[i] = k[3 - i];
        assert_int_equal(0, jr_select_cost(&c, k, 4, jr_mix64(last), NULL, &best));
        assert_int_equal(0, jr_select_cost(&c, swapped, 4, jr_mix64(last), NULL, &other));
        assert_int_equal(best, 3 - other);
        chosen[best]++;
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(chosen[i], 800, 1200);
    assert_true(jr_select_tie_key(3, 5, 0) == jr_mix64(3 ^ 5));
    k[0].indexed_blocks = k[1].indexed_blocks = k[2].indexed_blocks = 1;
    assert_int_equal(0, jr_select_cost(&c, k, 4, 7, NULL, &best));
    assert_int_equal(3, best); /* the emptiest */
}

static void test_tie_draws(void **state)
{
    struct jr_select_config c = {.tie = JR_TIE_RANDOM};
    uint32_t best, chosen[4] = {0};
    struct jr_candidate k[4];
    struct jr_rng rng;

    (void)state;
    jr_rng_init(&rng, 42, 1);
    with_costs(k, (double[]){2, 1, 1, 1}, 4);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(0, jr_select_cost(&c, k, 4, 7, &rng, &best));
        chosen[best]++;
    }
    assert_int_equal(0, chosen[0]);
    for (uint32_t i = 1; i < 4; i++)
        assert_in_range(chosen[i], 850, 1150);

    c.tie = JR_TIE_TREE_SIZE;
    for (uint32_t i = 0; i < 4; i++)
        k[i].overlap_blocks = 1, k[i].indexed_blocks = 10 - i;
    assert_int_equal(0, jr_select_cost(&c, k, 4, 7, &rng, &best));
    assert_int_equal(3, best);
    k[1].overlap_blocks = 0; /* its size is not known to the formula: counts as nothing */
    assert_int_equal(0, jr_select_cost(&c, k, 4, 7, &rng, &best));
    assert_int_equal(1, best);
}

static void test_softmax(void **state)
{
    static const struct {
        double temperature, p[3];
    } checks[] = {
        {0.1, {0.000035, 0.777272, 0.222692}},
        {0.5, {0.070703, 0.522429, 0.406868}},
        {1, {0.163475, 0.444370, 0.392155}},
        {2, {0.238234, 0.392782, 0.368984}},
    };
    struct jr_candidate k[3];

    (void)state;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        with_costs(k, (double[]){18, 10, 11}, 3);
        jr_select_softmax(k, 3, checks[i].temperature);
        for (int j = 0; j < 3; j++)
            assert_true(fabs(k[j].probability - checks[i].p[j]) < 1e-6);
    }
    with_costs(k, (double[]){4, 4, 4}, 3);
    jr_select_softmax(k, 3, 0.1);
    assert_true(fabs(k[2].probability - 1.0 / 3) < 1e-12);
    with_costs(k, (double[]){-1e308, 1e308, 0}, 3);
    jr_select_softmax(k, 3, 1);
    assert_true(k[0].probability > k[2].probability && k[2].probability > k[1].probability);
}

static void test_softmax_draws(void **state)
{
    struct jr_select_config c = {.temperature = 0.5};
    uint32_t chosen[3] = {0}, best;
    struct jr_candidate k[3];
    struct jr_rng rng;

    (void)state;
    jr_rng_init(&rng, 7, 1);
    with_costs(k, (double[]){18, 10, 11}, 3);
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(0, jr_select_cost(&c, k, 3, 0, &rng, &best));
        chosen[best]++;
    }
    for (int i = 0; i < 3; i++)
        assert_true(fabs(chosen[i] / 20000.0 - k[i].probability) < 0.015);
}

static void test_plain_modes(void **state)
{
    uint32_t got, chosen[4] = {0};
    struct jr_candidate k[4];
    uint64_t counter = 0;
    struct jr_rng rng;

    (void)state;
    jr_rng_init(&rng, 3, 1);
    with_costs(k, (double[]){0, 0, 0, 0}, 4);
    for (uint32_t i = 0; i < 9; i++) {
        assert_int_equal(0, jr_select_round_robin(4, &counter, &got));
        assert_int_equal(i % 4, got);
    }
    for (int i = 0; i < 4000; i++) {
        assert_int_equal(0, jr_select_random(4, &rng, &got));
        chosen[got]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(chosen[i], 850, 1150);
    k[0].requests = 5;
    k[1].requests = 2;
    k[2].requests = 2;
    k[3].requests = 9;
    memset(chosen, 0, sizeof chosen);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(0, jr_select_least_loaded(k, 4, &rng, &got));
        chosen[got]++;
    }
    assert_true(chosen[0] == 0 && chosen[3] == 0 && chosen[1] > 850 && chosen[2] > 850);
    memset(chosen, 0, sizeof chosen);
    for (int i = 0; i < 6000; i++) {
        assert_int_equal(0, jr_select_power_of_two(k, 4, &rng, &got));
        chosen[got]++;
    }
    assert_true(chosen[3] == 0);           /* loses against anyone */
    assert_in_range(chosen[0], 800, 1200); /* wins only against 3: one pair of six */
    assert_int_equal(0, jr_select_power_of_two(k, 1, &rng, &got));
    assert_int_equal(0, got);
    assert_int_equal(JR_ENOWORKER, jr_select_round_robin(0, &counter, &got));
    assert_int_equal(JR_ENOWORKER, jr_select_random(0, &rng, &got));
    assert_int_equal(JR_ENOWORKER, jr_select_least_loaded(k, 0, &rng, &got));
    assert_int_equal(JR_ENOWORKER, jr_select_power_of_two(k, 0, &rng, &got));
}

/* What is in flight elsewhere says how much those on a CPU may have. */
static void test_device_aware(void **state)
{
    struct jr_rng rng;
    struct jr_candidate k[4];
    uint32_t got = 9, rounds = 0;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 1);
    with_costs(k, (double[]){0, 0, 0, 0}, 4);
    k[3].on_cpu = true;
    for (; rounds < 90; rounds++) {
        uint32_t others = k[0].requests + k[1].requests + k[2].requests;
        assert_int_equal(0, jr_select_device_aware(k, 4, 2, &rng, &got));
        assert_int_equal(got == 3, k[3].requests < others / 6);
        k[got].requests++;
    }
    assert_in_range(k[3].requests, 11, 12); /* 1 of 7 */
    assert_in_range(k[0].requests, 25, 27);
    /* One kind alone. */
    k[0].requests = 0;
    assert_int_equal(0, jr_select_device_aware(k, 3, 2, &rng, &got));
    assert_int_equal(0, got);
    assert_int_equal(0, jr_select_device_aware(&k[3], 1, 2, &rng, &got));
    assert_int_equal(0, got);
    assert_int_equal(JR_ENOWORKER, jr_select_device_aware(k, 0, 2, &rng, &got));
}

static void test_pins(void **state)
{
    struct jr_candidate k[4];
    uint32_t got = 9;

    (void)state;
    with_costs(k, (double[]){0, 5, 3, 4}, 4);
    for (uint32_t i = 1; i < 4; i++) {
        k[i].worker_id = 200;
        k[i].dp_rank = i;
    }
    assert_int_equal(0, jr_select_direct(k, 4, 200, false, 0, 1, &got));
    assert_int_equal(2, got); /* the best rank, not rank 0 */
    assert_int_equal(0, jr_select_direct(k, 4, 200, true, 3, 1, &got));
    assert_int_equal(3, got);
    assert_int_equal(JR_ENOTFOUND, jr_select_direct(k, 4, 200, true, 0, 1, &got));
    assert_int_equal(JR_ENOTFOUND, jr_select_direct(k, 4, 201, false, 0, 1, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimum),       cmocka_unit_test(test_tie_hash),
        cmocka_unit_test(test_tie_draws),     cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_softmax_draws), cmocka_unit_test(test_plain_modes),
        cmocka_unit_test(test_device_aware),  cmocka_unit_test(test_pins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
