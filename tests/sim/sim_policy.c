/* SPDX-License-Identifier: Apache-2.0 */
/* What requests ask of the queue: classes of a policy, priorities, a worker of their own, a time after which
 * they wait no more; and workers that are busy, by thresholds that change. Whoever gives up does it when its
 * time is over. It has dice of its own, so that a seed is the same run with and without. */
#include "sim_world.h"

#include <string.h>

#define WAIT_MS  2000 /* at most, of a request that has a time */
#define LATE_MS  1000 /* a replica that runs looks at its queue that often */
#define BUSY_ONE 300  /* of a replica's steps, in one so many thresholds change */

static const struct jr_policy_class plain = {
    .queue_policy = JR_QUEUE_FCFS, .quantum = 64, .room = {.has_tokens = true, .tokens = 40}};

static struct jr_policy_class *add_class(struct jr_policy_profile *p, const char *name)
{
    struct jr_policy_class *c = &p->classes[p->n_classes++];
    *c = plain;
    (void)jr_str_copy(c->name, sizeof c->name, name);
    return c;
}

/* One family of short and long prompts, and a class that is named. */
static void fill(struct jr_policy_profile *p)
{
    (void)jr_str_copy(p->families[p->n_families++], JR_POLICY_NAME_MAX, "chat");
    (void)jr_str_copy(p->buckets[p->n_buckets++].name, JR_POLICY_NAME_MAX, "short");
    (void)jr_str_copy(p->buckets[p->n_buckets].name, JR_POLICY_NAME_MAX, "long");
    p->buckets[p->n_buckets++].min_tokens = 20;
    struct jr_policy_class *c = add_class(p, "short");
    c->has_limit[JR_POLICY_REQUESTS] = true;
    c->limit[JR_POLICY_REQUESTS] = 2;
    c = add_class(p, "long");
    c->bucket = 1;
    c->queue_policy = JR_QUEUE_WSPT;
    c->quantum = 16;
    c = add_class(p, "batch");
    c->is_explicit = true;
    c->queue_policy = JR_QUEUE_LCFS;
    c->room.tokens = 8;
}

const struct jr_policy *sim_policy(void)
{
    static struct jr_policy_profile profile;
    static const struct jr_policy policy = {.n = 1, .profiles = &profile};
    if (!profile.n_classes)
        fill(&profile);
    return &policy;
}

void sim_policy_ask(struct sim *sim, struct sim_request *q, struct jr_route *route)
{
    struct jr_rng *rng = &sim->policy_rng;
    q->since_ms = sim->now_ms;
    if (!sim->c.policy)
        return;
    static const char *const names[] = {"", "chat", "batch", "nobody's"};
    q->wait_max_ms = jr_rng_below(rng, 2) ? 1 + jr_rng_below(rng, WAIT_MS) : 0;
    q->pinned = jr_rng_below(rng, 8) == 0 && !q->session; /* a pin is above a session's worker */
    route->wait_max_ms = q->wait_max_ms;
    route->has_pin = q->pinned;
    route->pin_worker = sim->workers[jr_rng_below(rng, sim->c.workers)].id;
    const char *name = names[jr_rng_below(rng, 4)];
    route->policy_class = jr_policy_name_id(jr_str_of(name, strlen(name)));
    route->strict_priority = jr_rng_below(rng, 3);
    route->priority_jump_s = jr_rng_below(rng, 4) ? 0 : 1.5;
    route->expected_output_tokens = jr_rng_below(rng, 2) ? 0 : 60;
}

void sim_policy_rejected(const struct sim *sim, const struct sim_request *q, int err)
{
    uint64_t waited = sim->now_ms - q->since_ms;
    SIM_CHECK(sim, err != JR_ETIMEOUT || (q->wait_max_ms && waited >= q->wait_max_ms),
              "WaitsItsTime: request %llu of %u ms gives up after %llu", (unsigned long long)q->id,
              q->wait_max_ms, (unsigned long long)waited);
}

void sim_policy_waits(const struct sim *sim, const struct sim_replica *r,
                      const struct sim_request *q)
{
    uint64_t since = q->since_ms > r->paused_until_ms ? q->since_ms : r->paused_until_ms;
    SIM_CHECK(sim, !q->wait_max_ms || sim->now_ms < since + q->wait_max_ms + LATE_MS,
              "WaitsItsTime: request %llu of %u ms waits since %llu ms", (unsigned long long)q->id,
              q->wait_max_ms, (unsigned long long)(sim->now_ms - q->since_ms));
}

/* As a driver says what /busy_threshold was told; replicas hear of it at different times. */
void sim_policy_step(struct sim *sim, struct sim_replica *r)
{
    struct jr_rng *rng = &sim->policy_rng;
    if (!sim->c.policy || sim->quiet || r->crashing || jr_rng_below(rng, BUSY_ONE))
        return;
    struct jr_event ev = {.type = JR_EV_BUSY};
    ev.u.busy.own = jr_rng_below(rng, 3) > 0;
    ev.u.busy.limits = (struct jr_busy_limits){.has_decode_blocks = jr_rng_below(rng, 2),
                                               .has_prefill_tokens = jr_rng_below(rng, 2),
                                               .decode_blocks = 0.5,
                                               .prefill_tokens = jr_rng_below(rng, 100)};
    sim_replica_event(sim, r, &ev);
}
