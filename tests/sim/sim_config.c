/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_world.h"

#include <string.h>

/* How often it happens where it is on: one in so many of its occasions, most of them steps. */
static const struct {
    const char *name;
    uint32_t one_in;
    uint32_t seeds; /* it is on in one of so many seeds */
} faults[SIM_FAULTS] = {
    [SIM_F_KILL] = {"kill", 150, 2},
    [SIM_F_CRASH] = {"crash", 1500, 2},
    [SIM_F_PAUSE] = {"pause", 300, 2},
    [SIM_F_CUT] = {"cut", 300, 2},
    [SIM_F_WORKER] = {"worker", 200, 2},
    [SIM_F_ENGINE] = {"engine", 300, 3},
    [SIM_F_WORKER_CUT] = {"worker-cut", 300, 2},
    [SIM_F_HTTP] = {"http", 300, 3},
    [SIM_F_CLOCK] = {"clock", 300, 3},
    [SIM_F_NATS] = {"nats", 500, 2},
    [SIM_F_HAND] = {"hand", 800, 4},
    [SIM_F_DISK] = {"disk", 500, 4},
    [SIM_F_RESET] = {"reset", 600, 3},
    [SIM_F_SNAPSHOT] = {"snapshot", 300, 3},
    [SIM_F_DAMAGE] = {"damage", 600, 5},
    [SIM_F_UPGRADE] = {"upgrade", 300, 4},
    [SIM_F_LOSS] = {"loss", 18, 2},
    [SIM_F_ANSWER] = {"answer", 40, 2},
    [SIM_F_TWICE] = {"twice", 4, 2},
    [SIM_F_SLOW] = {"slow", 500, 4},
    [SIM_F_GARBAGE] = {"garbage", 200, 4},
    [SIM_F_SESSIONS] = {"sessions", 300, 2},
    [SIM_F_LEAVE] = {"leave", 240, 3},
    [SIM_F_MUTE] = {"mute", 500, 3},
};

static const char *const features[SIM_X_END - SIM_FAULTS] = {
    [SIM_X_EXTERNAL - SIM_FAULTS] = "external", [SIM_X_LOWER - SIM_FAULTS] = "lower",
    [SIM_X_CAPS - SIM_FAULTS] = "caps",         [SIM_X_PARTS - SIM_FAULTS] = "parts",
    [SIM_X_TOKEN - SIM_FAULTS] = "token",       [SIM_X_VERSIONS - SIM_FAULTS] = "versions",
    [SIM_X_BELIEFS - SIM_FAULTS] = "beliefs",   [SIM_X_APPROXIMATE - SIM_FAULTS] = "approximate",
    [SIM_X_POLICY - SIM_FAULTS] = "policy",
};

const char *sim_fault_name(uint32_t f)
{
    return f < SIM_FAULTS ? faults[f].name : features[f - SIM_FAULTS];
}

static bool has(uint64_t bits, uint32_t f)
{
    return bits >> f & 1;
}

void sim_config_quiet(struct sim_config *c)
{
    *c = (struct sim_config){
        .replicas = 3,
        .workers = 3,
        .ranks = SIM_RANKS,
        .blocks = SIM_BLOCKS,
        .requests = SIM_REQUESTS,
        .step_ms = 41,
        .snapshot_threshold = 40,
        .snapshot_max_age_ms = 20000,
        .base_interval_ms = 2000,
        .prompt_blocks = 2,
        .steps = 1000,
    };
}

static uint32_t between(struct jr_rng *rng, uint32_t from, uint32_t to)
{
    return from + jr_rng_below(rng, to - from + 1);
}

static uint32_t at_most(uint32_t f)
{
    return (faults[f].one_in + 2) / 3;
}

/* A few seeds have everything, most have some of it, at a third or thrice the usual rate. */
static void draw_faults(struct sim_config *c, struct jr_rng *rng)
{
    bool all = jr_rng_below(rng, 16) == 0;
    for (int f = 0; f < SIM_F_LEAVE; f++) {
        bool on = jr_rng_below(rng, faults[f].seeds) == 0;
        uint32_t one_in = faults[f].one_in, strength = jr_rng_below(rng, 3);
        c->one_in[f] = strength == 0 ? at_most((uint32_t)f) : strength == 1 ? one_in : 3 * one_in;
        if (!on && !all)
            c->one_in[f] = 0;
    }
}

/* A cap is a number that enters the log once; what another replica was started with is nothing. */
static void draw_caps(struct sim_config *c, struct jr_rng *rng, bool force)
{
    if (jr_rng_below(rng, 5) == 0 || force)
        for (uint32_t i = 0; i < SIM_REPLICAS; i++)
            c->entries_max[i] = jr_rng_below(rng, 3) ? between(rng, 8, 80) : 0;
}

/* It has dice of its own. */
static void draw_alone(struct sim_config *c, uint64_t seed, enum sim_fault f, uint64_t dice)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seed, dice);
    c->one_in[f] = jr_rng_below(&rng, faults[f].seeds) ? 0 : faults[f].one_in;
}

/* They have dice of their own. */
static void draw_sessions(struct sim_config *c, uint64_t seed, bool force)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 6);
    if (jr_rng_below(&rng, 3) && !force) {
        c->one_in[SIM_F_SESSIONS] = 0;
        return;
    }
    c->session_ttl_ms = between(&rng, 2000, 20000);
    c->sessions_max = jr_rng_below(&rng, 8) ? 0 : between(&rng, 1, SIM_SESSIONS - 1);
}

/* They have dice of their own. */
static void draw_beliefs(struct sim_config *c, uint64_t seed, uint64_t force)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 11);
    bool believes = jr_rng_below(&rng, 5) == 0, alone = jr_rng_below(&rng, 12) == 0;
    c->approximate = alone || has(force, SIM_X_APPROXIMATE);
    if (c->approximate || believes || has(force, SIM_X_BELIEFS))
        c->belief_ms = between(&rng, 500, 20000);
}

/* Bases come in several parts. */
static void lengthen_prompts(struct sim_config *c)
{
    c->prompt_blocks = 6000;
    c->requests = 6;
}

static void force_all(struct sim_config *c, uint64_t bits)
{
    for (uint32_t f = 0; f < SIM_FAULTS; f++)
        if (has(bits, f))
            c->one_in[f] = at_most(f);
    if (has(bits, SIM_X_EXTERNAL))
        c->outside = SIM_OUTSIDE;
    if (has(bits, SIM_X_PARTS))
        lengthen_prompts(c);
    c->lower = c->lower || has(bits, SIM_X_LOWER);
    c->reset_token = c->reset_token || has(bits, SIM_X_TOKEN);
    c->versions = c->versions || has(bits, SIM_X_VERSIONS);
    c->policy = c->policy || has(bits, SIM_X_POLICY);
}

static void leave_out(struct sim_config *c, uint64_t bits)
{
    for (uint32_t f = 0; f < SIM_FAULTS; f++)
        if (has(bits, f))
            c->one_in[f] = 0;
    if (has(bits, SIM_X_EXTERNAL))
        c->outside = 0;
    if (has(bits, SIM_X_PARTS))
        c->prompt_blocks = 2;
    if (has(bits, SIM_X_CAPS))
        memset(c->entries_max, 0, sizeof c->entries_max);
    c->lower = c->lower && !has(bits, SIM_X_LOWER);
    c->reset_token = c->reset_token && !has(bits, SIM_X_TOKEN);
    c->versions = c->versions && !has(bits, SIM_X_VERSIONS);
    c->policy = c->policy && !has(bits, SIM_X_POLICY);
    c->approximate = c->approximate && !has(bits, SIM_X_APPROXIMATE);
    if (has(bits, SIM_X_BELIEFS) && !c->approximate)
        c->belief_ms = 0;
}

bool sim_config_has(const struct sim_config *c, uint32_t f)
{
    bool caps = false;
    for (uint32_t i = 0; i < SIM_REPLICAS; i++)
        caps = caps || c->entries_max[i];
    return f < SIM_FAULTS           ? c->one_in[f] != 0
           : f == SIM_X_EXTERNAL    ? c->outside != 0
           : f == SIM_X_LOWER       ? c->lower
           : f == SIM_X_CAPS        ? caps
           : f == SIM_X_TOKEN       ? c->reset_token
           : f == SIM_X_VERSIONS    ? c->versions
           : f == SIM_X_BELIEFS     ? c->belief_ms != 0
           : f == SIM_X_APPROXIMATE ? c->approximate
           : f == SIM_X_POLICY      ? c->policy
                                    : c->prompt_blocks > 2;
}

void sim_config_swarm(struct sim_config *c, uint64_t seed, const struct sim_wish *wish)
{
    static const uint32_t replicas[8] = {2, 2, 3, 3, 3, 4, 5, 6};
    uint64_t force = wish ? wish->force : 0;
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 5);
    sim_config_quiet(c);
    c->replicas = replicas[jr_rng_below(&rng, 8)];
    c->workers = between(&rng, 1, SIM_WORKERS);
    c->ranks = between(&rng, 1, SIM_RANKS);
    c->blocks = between(&rng, 4, SIM_BLOCKS);
    c->requests = between(&rng, 2, SIM_REQUESTS);
    c->step_ms = between(&rng, 10, 60);
    c->snapshot_threshold = between(&rng, 8, 100);
    c->snapshot_max_age_ms = between(&rng, 2000, 30000);
    c->base_interval_ms = between(&rng, 1000, 2000);
    c->batch_bytes = jr_rng_below(&rng, 3) ? 0 : between(&rng, 64, 400);
    c->events_max = jr_rng_below(&rng, 4) ? 0 : between(&rng, 3, 12);
    if (jr_rng_below(&rng, 24) == 0)
        lengthen_prompts(c);
    draw_faults(c, &rng);
    draw_caps(c, &rng, has(force, SIM_X_CAPS));
    for (uint32_t i = 0;
         (c->one_in[SIM_F_UPGRADE] || has(force, SIM_F_UPGRADE)) && i < SIM_REPLICAS; i++)
        c->rules[i] = 1;
    c->lower = jr_rng_below(&rng, 3) == 0;
    draw_sessions(c, seed, has(force, SIM_F_SESSIONS));
    jr_rng_init(&rng, seed, 7);
    c->outside = jr_rng_below(&rng, 5) ? 0 : between(&rng, 1, SIM_OUTSIDE);
    draw_alone(c, seed, SIM_F_LEAVE, 9);
    draw_alone(c, seed, SIM_F_MUTE, 12);
    jr_rng_init(&rng, seed, 8);
    c->reset_token = jr_rng_below(&rng, 6) == 0;
    jr_rng_init(&rng, seed, 10);
    c->versions = jr_rng_below(&rng, 5) == 0;
    draw_beliefs(c, seed, force);
    jr_rng_init(&rng, seed, 13);
    c->policy = jr_rng_below(&rng, 4) == 0;
    force_all(c, force);
    leave_out(c, wish ? wish->without : 0);
}
