/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/turn.h"

#include "jr_test.h"

#define PERIOD  500
#define TICK    100
#define ENGINES 1000
#define SLOT    10 /* ms */

static void test_places_are_even(void **state)
{
    (void)state;
    assert_int_equal(jr_turn_phase(0, PERIOD), 0);
    for (uint32_t n = 1; n <= ENGINES;
         n++) { /* whoever comes: no tenth has more than its share and 2 */
        uint32_t tenth[10] = {0};
        for (uint32_t i = 0; i < n; i++) {
            assert_true(jr_turn_phase(i, PERIOD) < PERIOD);
            tenth[jr_turn_phase(i, PERIOD) * 10 / PERIOD]++;
        }
        for (int k = 0; k < 10; k++)
            assert_in_range(tenth[k], n >= 20 ? n / 10 - 2 : 0, n / 10 + 2);
    }
}

/* As bridges do: a tick of each own's every 100 ms, of engines that all came at once. */
static void test_no_burst_and_nobody_left_out(void **state)
{
    (void)state;
    static uint64_t last[ENGINES], asked[ENGINES];
    const uint64_t start = 123456789, end = start + 20 * PERIOD;
    uint32_t slot[20 * PERIOD / SLOT] = {0};
    for (uint32_t i = 0; i < ENGINES; i++)
        for (uint64_t t = start + jr_turn_phase(i, PERIOD); t < end; t += TICK)
            if (jr_turn_is_due(i, PERIOD, last[i], t)) {
                if (asked[i]++ > 1) /* the first is at its first tick */
                    assert_int_equal(t - last[i], PERIOD);
                last[i] = t;
                slot[(t - start) / SLOT]++;
            }
    for (uint32_t i = 0; i < ENGINES; i++)
        assert_in_range(asked[i], 20, 21);
    for (uint32_t k = PERIOD / SLOT; k < 20 * PERIOD / SLOT; k++)
        assert_in_range(slot[k], 0, 2 * ENGINES * SLOT / PERIOD);
}

static void test_what_was_missed(void **state)
{
    (void)state;
    for (uint32_t turn = 0; turn < 50; turn++) {
        const uint64_t at = 10 * PERIOD + jr_turn_phase(turn, PERIOD);
        assert_true(jr_turn_is_due(turn, PERIOD, 0, at));
        assert_true(jr_turn_is_due(turn, PERIOD, at - 1, at));
        assert_false(jr_turn_is_due(turn, PERIOD, at, at));
        assert_false(jr_turn_is_due(turn, PERIOD, at, at + PERIOD - 1));
        assert_true(jr_turn_is_due(turn, PERIOD, at, at + PERIOD));
        assert_true(jr_turn_is_due(turn, PERIOD, at, at + 7 * PERIOD + 3)); /* once */
        assert_false(jr_turn_is_due(turn, PERIOD, at + 7 * PERIOD + 3, at + 8 * PERIOD - 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places_are_even),
        cmocka_unit_test(test_no_burst_and_nobody_left_out),
        cmocka_unit_test(test_what_was_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
