/* SPDX-License-Identifier: Apache-2.0 */
/* Fleets under generated faults. JR_SIM_SEEDS says how many (default 300), JR_SEED the first. ./dev
 * sim runs more of them, on all cores, and explains one that fails. */
#include "jr_test.h"
#include "sim_world.h"

#include <stdlib.h>

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_fleets(void **state)
{
    (void)state;
    struct sim_batch b = {.first = env("JR_SEED", 1), .n = env("JR_SIM_SEEDS", 300), .jobs = 2};
    struct sim_failure f;
    struct sim_count c = {0};
    if (!sim_run_many(&b, &f, &c))
        fail_msg("seed %llu, step %llu: %s; ./dev sim --seeds 1 --from %llu explains it",
                 (unsigned long long)f.seed, (unsigned long long)f.step, f.text,
                 (unsigned long long)f.seed);
    assert_true(b.n < 100 || (c.purges > 0 && c.snapshots > 0 && c.resets > 0 && c.waited > 0 &&
                              c.adopts > 0 && c.compared > 0 && c.synced > 0 && c.scored > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fleets)};
    return cmocka_run_group_tests_name("sim_replicas", tests, NULL, NULL);
}
