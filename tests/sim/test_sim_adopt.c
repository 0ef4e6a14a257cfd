/* SPDX-License-Identifier: Apache-2.0 */
/* A different history under living replicas: the stream is made anew, rolled back, emptied, or NATS
 * comes back without anything, while engines and bridges say nothing. One replica lives through it;
 * the others are killed, started and cut off at every step. At the end all hold what was held
 * before: no index was thrown away, and nobody had to announce anything again. JR_SIM_SEEDS fleets
 * (200) from JR_SEED. */
#include "jr_test.h"
#include "sim_world.h"

#include <stdlib.h>

#define STEPS 400

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void change_history(struct sim *sim)
{
    uint64_t last = sim_nats_last(sim);
    switch (sim->seed % 4) {
    case 0:
        sim_nats_recreate(sim);
        break;
    case 1:
        sim_nats_rollback(sim, last - 1 - jr_rng_below(&sim->rng, (uint32_t)last / 2));
        break;
    case 2:
        sim_nats_wipe(sim);
        break;
    default:
        sim_nats_purge(sim, last + 1);
    }
    sim_say(sim, "another history, case %u", (unsigned)(sim->seed % 4));
    sim->by_hand = true;
}

static void disturb(struct sim *sim, uint32_t survivor)
{
    uint32_t i = jr_rng_below(&sim->rng, sim->c.replicas);
    struct sim_replica *r = &sim->replicas[i];
    if (i == survivor || !sim_chance(sim, 12))
        return;
    if (sim_chance(sim, 3))
        r->cut_until_ms = sim->now_ms + sim_delay(sim, 2000);
    else if (sim_chance(sim, 3))
        r->paused_until_ms = sim->now_ms + sim_delay(sim, 2000);
    else if (r->pool)
        sim_replica_kill(sim, i);
    else
        sim_replica_start(sim, i);
}

static void run(uint64_t seed, uint64_t *adopts)
{
    struct sim_config c;
    sim_config_quiet(&c);
    struct sim *sim = sim_create(seed, &c);
    sim->faults = false;
    for (int i = 0; i < STEPS / 2; i++)
        sim_step(sim);
    sim_heal(sim);
    sim->mute = true;
    uint64_t entries = jr_index_entries(sim->replicas[0].pool->state->index);
    change_history(sim);
    uint32_t survivor = jr_rng_below(&sim->rng, sim->c.replicas);
    for (int i = 0; i < STEPS; i++) {
        disturb(sim, survivor);
        sim_step(sim);
        SIM_CHECK(sim, sim->replicas[survivor].pool->ready, "the survivor does not answer");
        SIM_CHECK(sim, jr_index_entries(sim->replicas[survivor].pool->state->index) == entries,
                  "the survivor has lost its index");
    }
    sim_heal(sim);
    SIM_CHECK(sim, sim->n.any_resets == 0, "a good index was thrown away");
    SIM_CHECK(sim, seed % 4 == 3 || sim->n.adopts > 0, "nobody adopted");
    *adopts += sim->n.adopts;
    sim_destroy(sim);
}

static void test_good_index_is_kept(void **state)
{
    (void)state;
    uint64_t n = env("JR_SIM_SEEDS", 200), first = env("JR_SEED", 1), adopts = 0;
    for (uint64_t i = 0; i < n; i++)
        run(first + i, &adopts);
    (void)fprintf(stderr, "%llu seeds from %llu: %llu times adopted\n", (unsigned long long)n,
                  (unsigned long long)first, (unsigned long long)adopts);
}

/* All began with nothing a moment ago when the stream is made anew, and each keeps an index: the first
 * that is adopted is the last. One that yielded to its peers although the log had taken up its own
 * index would hand the leader's key on, for ever. */
static void test_young_indexes_settle(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_config c;
        sim_config_quiet(&c);
        c.replicas = SIM_REPLICAS;
        struct sim *sim = sim_create(seed, &c);
        sim->faults = false;
        while (sim->now_ms < 1500)
            sim_step(sim);
        sim_nats_recreate(sim);
        sim_heal(sim);
        assert_true(sim->n.adopts <= SIM_REPLICAS);
        sim_destroy(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good_index_is_kept),
                                       cmocka_unit_test(test_young_indexes_settle)};
    return cmocka_run_group_tests_name("sim_adopt", tests, NULL, NULL);
}
