/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "jr_test.h"

static void matches_the_reference(void **state)
{
    /* First round of pcg32-demo of the minimal C library: seed 42, stream 54. */
    const uint32_t want[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330,
                             0x83d2f293, 0xbfa4784b, 0xcbed606e};
    struct jr_rng r;

    (void)state;
    jr_rng_init(&r, 42, 54);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(jr_rng_u32(&r), want[i]);
}

static void same_seed_same_numbers(void **state)
{
    struct jr_rng a, b, c;
    unsigned same = 0;

    (void)state;
    jr_rng_init(&a, 7, 1);
    jr_rng_init(&b, 7, 1);
    jr_rng_init(&c, 7, 2);
    for (int i = 0; i < 100; i++) {
        uint64_t v = jr_rng_u64(&a);
        assert_true(v == jr_rng_u64(&b));
        same += v == jr_rng_u64(&c);
    }
    assert_int_equal(same, 0);
}

static void below_is_uniform(void **state)
{
    struct jr_rng r;
    unsigned counts[10] = {0};

    (void)state;
    jr_rng_init(&r, 1, 1);
    for (int i = 0; i < 100000; i++)
        counts[jr_rng_below(&r, 10)]++;
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], 9500, 10500); /* five standard deviations */
    for (int i = 0; i < 100; i++)
        assert_int_equal(jr_rng_below(&r, 1), 0);
}

static void unit_stays_inside(void **state)
{
    struct jr_rng r;
    double sum = 0;

    (void)state;
    jr_rng_init(&r, 1, 1);
    for (int i = 0; i < 100000; i++) {
        double u = jr_rng_unit(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    assert_true(sum > 49500 && sum < 50500);
}

static void below_zero(void *ctx)
{
    struct jr_rng r;

    (void)ctx;
    jr_rng_init(&r, 1, 1);
    (void)jr_rng_below(&r, 0);
}

static void below_zero_asserts(void **state)
{
    (void)state;
    assert_true(jr_test_aborts(below_zero, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_reference), cmocka_unit_test(same_seed_same_numbers),
        cmocka_unit_test(below_is_uniform),      cmocka_unit_test(unit_stays_inside),
        cmocka_unit_test(below_zero_asserts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
