/* SPDX-License-Identifier: Apache-2.0 */
/* Fleets under generated faults. JR_SIM_SEEDS says how many (default 500), JR_SEED the first,
 * JR_SIM_TRACE shows what happens. */
#include "jr_test.h"
#include "sim_world.h"

#include <stdlib.h>

#define STEPS 2000

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void run(uint64_t seed, struct sim_count *total)
{
    struct sim *sim = sim_create(seed);
    for (int i = 0; i < STEPS; i++)
        sim_step(sim);
    sim_heal(sim);
    const uint64_t *from = (const uint64_t *)(const void *)&sim->n;
    uint64_t *to = (uint64_t *)(void *)total;
    for (size_t i = 0; i < sizeof *total / sizeof *to; i++)
        to[i] += from[i];
    sim_destroy(sim);
}

static void test_fleets(void **state)
{
    (void)state;
    uint64_t n = env("JR_SIM_SEEDS", 500), first = env("JR_SEED", 1);
    struct sim_count c = {0};
    for (uint64_t i = 0; i < n; i++)
        run(first + i, &c);
    (void)fprintf(
        stderr,
        "%llu seeds from %llu: %llu messages, %llu requests, %llu kills, %llu leaders, "
        "%llu snapshots, "
        "%llu purges, %llu resets, %llu begins, %llu steps of a rebuild, "
        "%llu that waited, %llu adopted, %llu reset from any\n",
        (unsigned long long)n, (unsigned long long)first, (unsigned long long)c.messages,
        (unsigned long long)c.requests, (unsigned long long)c.kills, (unsigned long long)c.leaders,
        (unsigned long long)c.snapshots, (unsigned long long)c.purges, (unsigned long long)c.resets,
        (unsigned long long)c.begins, (unsigned long long)c.rebuilds, (unsigned long long)c.waited,
        (unsigned long long)c.adopts, (unsigned long long)c.any_resets);
    assert_true(n < 50 ||
                (c.purges > 0 && c.snapshots > 0 && c.resets > 0 && c.waited > 0 && c.adopts > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fleets)};
    return cmocka_run_group_tests_name("sim_replicas", tests, NULL, NULL);
}
