/* SPDX-License-Identifier: Apache-2.0 */
/* A block that the log never spoke of turns up in one replica's index. It alarms, does not lead for
 * long, and comes back with the state of the others; of two that disagree both reload. And a log
 * that not all replicas know the rules of. JR_SIM_SEEDS fleets (100) from JR_SEED. */
#include "jr_test.h"
#include "sim_world.h"

#include <stdlib.h>

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static struct sim *quiet(uint64_t seed)
{
    struct sim_config c;
    sim_config_quiet(&c);
    return sim_create(seed, &c);
}

static void settle(struct sim *sim)
{
    sim->faults = false;
    for (int i = 0; i < 250; i++)
        sim_step(sim);
    sim_heal(sim);
}

static void corrupt(struct sim *sim, uint32_t i)
{
    struct sim_replica *r = &sim->replicas[i];
    struct jr_state *s = r->pool->state;
    struct jr_kv_block block = {jr_rng_u64(&sim->rng), 7};
    uint32_t m = 0;
    while (!jr_state_rank(s, m))
        m++;
    SIM_CHECK(sim, jr_index_store(s->index, m, false, 0, &block, 1) == 0, "store");
    jr_state_record_point(s);
    r->diverged = s;
    sim_say(sim, "replica %u diverges", i);
}

static void diverge(uint64_t seed)
{
    struct sim *sim = quiet(seed);
    settle(sim);
    /* Every second time there are only two. */
    if (seed % 2) {
        sim_replica_kill(sim, 2);
        for (int i = 0; i < 200; i++)
            sim_step(sim);
    }
    uint32_t bad = jr_rng_below(&sim->rng, 2), alarms = 0;
    corrupt(sim, bad);
    for (int i = 0; i < 400 && sim->replicas[bad].diverged; i++) {
        sim_step(sim);
        alarms += sim->replicas[bad].pool->digest_mismatch;
    }
    SIM_CHECK(sim, alarms > 0, "nobody alarmed");
    SIM_CHECK(sim, !sim->replicas[bad].diverged, "it has not reloaded");
    SIM_CHECK(sim, sim->replicas[bad].pool->n.reloads == 1, "reloads");
    SIM_CHECK(sim, seed % 2 || sim->replicas[!bad].pool->n.reloads == 0, "the others reload, too");
    sim_heal(sim);
    SIM_CHECK(sim, sim->n.any_resets == 0, "an index was thrown away");
    sim_destroy(sim);
}

static void test_divergence(void **state)
{
    (void)state;
    uint64_t n = env("JR_SIM_SEEDS", 100), first = env("JR_SEED", 1);
    for (uint64_t i = 0; i < n; i++)
        diverge(first + i);
}

static void restart(struct sim *sim, uint32_t i, uint32_t rules)
{
    sim_replica_kill(sim, i);
    sim->replicas[i].rules = rules;
    sim_replica_start(sim, i);
}

static uint32_t rules_of(const struct sim *sim, uint32_t i)
{
    return sim->replicas[i].pool->state->rule_version;
}

/* New rules are used when the last replica that does not know them is gone, and one of before stops
 * at the message that says so. */
static void mix_versions(uint64_t seed)
{
    struct sim *sim = quiet(seed);
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        sim->c.rules[i] = i == 2 ? 1 : 2;
    settle(sim);
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        SIM_CHECK(sim, rules_of(sim, i) == 1, "raised too early");
    restart(sim, 2, 2);
    settle(sim);
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        SIM_CHECK(sim, rules_of(sim, i) == 2, "not raised");
    restart(sim, 1, 1);
    for (int i = 0; i < 400; i++) {
        sim_step(sim);
        const struct jr_pool *old = sim->replicas[1].pool;
        SIM_CHECK(sim, !old->ready && !old->leader && old->n.snapshots == 0, "it goes on");
    }
    SIM_CHECK(sim, sim->replicas[1].pool->too_new, "it has not stopped");
    restart(sim, 1, 2);
    sim_heal(sim);
    sim_destroy(sim);
}

static void test_versions(void **state)
{
    (void)state;
    uint64_t n = env("JR_SIM_SEEDS", 50), first = env("JR_SEED", 1);
    for (uint64_t i = 0; i < n; i++)
        mix_versions(first + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divergence),
                                       cmocka_unit_test(test_versions)};
    return cmocka_run_group_tests_name("sim_diverge", tests, NULL, NULL);
}
