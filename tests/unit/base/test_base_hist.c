/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hist.h"
#include "base/rng.h"
#include "jr_test.h"
#include <math.h>
#include <stdlib.h>

#define N 5000

static struct jr_hist h, other;
static uint64_t values[N];

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void quantiles_are_within_the_bound(void **state)
{
    struct jr_rng r;

    (void)state;
    jr_rng_init(&r, jr_test_seed(), 5);
    jr_hist_init(&h);
    for (int i = 0; i < N; i++) {
        values[i] = jr_rng_u64(&r) >> jr_rng_below(&r, 64); /* all magnitudes */
        jr_hist_add(&h, values[i]);
    }
    qsort(values, N, sizeof *values, by_value);
    for (int i = 0; i <= 1000; i++) {
        double q = i / 1000.0, rank = ceil(q * N);
        uint64_t truth = values[rank < 1 ? 0 : (size_t)rank - 1], got = jr_hist_quantile(&h, q);
        assert_true(fabs((double)got - (double)truth) <= (double)truth / 64.0);
    }
    assert_true(jr_hist_quantile(&h, 0) == values[0]);
    assert_true(jr_hist_quantile(&h, 1) == values[N - 1]);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    jr_hist_init(&h);
    for (uint64_t v = 0; v < 128; v++)
        jr_hist_add(&h, v);
    for (uint64_t v = 0; v < 128; v++) {
        assert_int_equal(jr_hist_count_le(&h, v), v + 1);
        assert_int_equal(jr_hist_quantile(&h, (double)(v + 1) / 128.0), v);
    }
    assert_true(jr_hist_mean(&h) == 63.5);
}

static void edges_of_the_range(void **state)
{
    (void)state;
    jr_hist_init(&h);
    assert_int_equal(jr_hist_quantile(&h, 0.5), 0);
    assert_true(jr_hist_mean(&h) == 0);
    assert_int_equal(jr_hist_count_le(&h, UINT64_MAX), 0);
    jr_hist_add(&h, UINT64_MAX);
    jr_hist_add(&h, 0);
    assert_true(jr_hist_quantile(&h, 1) == UINT64_MAX);
    assert_int_equal(jr_hist_quantile(&h, 0), 0);
    assert_int_equal(jr_hist_quantile(&h, NAN), 0);
    assert_int_equal(jr_hist_count_le(&h, UINT64_MAX - 1), 1);
    assert_int_equal(jr_hist_count_le(&h, UINT64_MAX), 2);
    for (unsigned shift = 0; shift < 64; shift++) { /* each bucket's first and last value */
        jr_hist_add(&h, UINT64_C(1) << shift);
        jr_hist_add(&h, (UINT64_C(1) << shift) - 1);
    }
    assert_int_equal(jr_hist_count_le(&h, 255), 1 + 2 * 8 + 1);
}

static void merging_is_adding(void **state)
{
    struct jr_rng r;
    static struct jr_hist both;

    (void)state;
    jr_rng_init(&r, jr_test_seed(), 6);
    jr_hist_init(&h);
    jr_hist_init(&other);
    jr_hist_init(&both);
    for (int i = 0; i < 1000; i++) {
        uint64_t v = jr_rng_u32(&r);
        jr_hist_add(i % 3 ? &h : &other, v);
        jr_hist_add(&both, v);
    }
    jr_hist_merge(&h, &other);
    assert_memory_equal(&h, &both, sizeof h);
    jr_hist_init(&other);
    jr_hist_merge(&h, &other); /* an empty one changes nothing */
    assert_memory_equal(&h, &both, sizeof h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_within_the_bound),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(edges_of_the_range),
        cmocka_unit_test(merging_is_adding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
