/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of one replica, as its frontend serves them: a request is asked, decided or refused, sent
 * to its worker, and asked anew when that fails before the first byte. Whoever has no patience goes.
 * Each attempt is decided once and ended once. */
#include "sim_world.h"

#include <string.h>

static struct sim_request *find(struct sim_replica *r, uint64_t id)
{
    for (uint32_t k = 0; k < SIM_REQUESTS; k++)
        if (r->requests[k].stage == SIM_ASKED && r->requests[k].id == id)
            return &r->requests[k];
    return NULL;
}

void sim_client_decided(struct sim *sim, struct sim_replica *r, const struct jr_decision *d)
{
    struct sim_request *q = find(r, d->id);
    SIM_CHECK(sim, q, "replica %u decides request %llu, which nobody asks any more", r->index,
              (unsigned long long)d->id);
    for (uint32_t i = 0; i < q->attempt; i++)
        SIM_CHECK(sim, q->excluded[i] != d->worker_id, "request %llu is sent where it failed",
                  (unsigned long long)d->id);
    q->stage = SIM_RUNS;
    q->worker_id = d->worker_id;
    q->next_ms = sim->now_ms + sim_delay(sim, 300);
    sim_session_decided(sim, r, q, d);
    sim->n.dispatched++;
    sim->n.waited += d->waited;
}

void sim_client_rejected(struct sim *sim, struct sim_replica *r, uint64_t id, int err)
{
    struct sim_request *q = find(r, id);
    SIM_CHECK(sim, q, "replica %u refuses request %llu, which nobody asks any more", r->index,
              (unsigned long long)id);
    sim_policy_rejected(sim, q, err);
    if (err == JR_ENOWORKER && !q->pinned)
        sim_routing_rejected(sim, r, q->excluded, q->attempt);
    *q = (struct sim_request){0};
}

void sim_client_lost(struct sim *sim, struct sim_replica *r)
{
    (void)sim;
    memset(r->requests, 0, sizeof r->requests);
}

/* Of some engine's blocks from the root down, and perhaps something new behind. */
static void random_prompt(struct sim *sim, uint64_t *prefix, struct jr_route *route)
{
    const struct sim_rank *k = &sim->workers[jr_rng_below(&sim->rng, sim->c.workers)]
                                    .ranks[jr_rng_below(&sim->rng, sim->c.ranks)];
    uint32_t more =
        sim->c.prompt_blocks > 2 ? 1 + jr_rng_below(&sim->rng, sim->c.prompt_blocks) : 1;
    route->prefix = prefix;
    route->n_prefix = 1;
    prefix[0] = k->n ? k->blocks[0].prefix : 1;
    if (sim_chance(sim, 2))
        while (more--)
            prefix[route->n_prefix++] = jr_rng_u64(&sim->rng);
    route->tokens = 16 * route->n_prefix + jr_rng_below(&sim->rng, 16);
}

static void ask(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    static uint64_t prefix[8192];
    struct jr_event ev = {.type = JR_EV_ROUTE};
    q->stage = SIM_ASKED;
    q->id = ++r->next_request;
    q->tokens = 0;
    q->next_ms = sim->now_ms + sim_delay(sim, 4000);
    ev.u.route.id = q->id;
    random_prompt(sim, prefix, &ev.u.route);
    ev.u.route.exclude = q->excluded;
    ev.u.route.n_exclude = q->attempt;
    q->session = q->attempt ? q->session : sim_session_draw(sim);
    ev.u.route.session = q->session;
    sim_policy_ask(sim, q, &ev.u.route);
    sim->n.requests++;
    sim_replica_event(sim, r, &ev);
}

static void request_event(struct sim *sim, struct sim_replica *r, const struct sim_request *q,
                          enum jr_event_type type)
{
    struct jr_event ev = {.type = type};
    ev.u.request.id = q->id;
    ev.u.request.output_tokens = 20 * q->tokens;
    sim_replica_event(sim, r, &ev);
}

static void end(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    sim_session_ended(sim, r, q);
    request_event(sim, r, q, JR_EV_FINISH);
    SIM_CHECK(sim, r->crashing || !jr_bookings_find(&r->pool->own, q->id),
              "request %llu is over, and booked still", (unsigned long long)q->id);
}

void sim_client_drain(struct sim *sim, struct sim_replica *r)
{
    for (uint32_t k = 0; k < SIM_REQUESTS; k++) {
        if (r->requests[k].stage != SIM_NONE)
            end(sim, r, &r->requests[k]);
        r->requests[k] = (struct sim_request){0};
    }
}

static bool waits(const struct sim_replica *r, uint64_t id)
{
    JR_LIST_FOREACH (it, &r->pool->waiting)
        if (JR_CONTAINER_OF(it, struct jr_waiting, node)->route.id == id)
            return true;
    return false;
}

static void give_up(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    SIM_CHECK(sim, waits(r, q->id), "request %llu was forgotten by replica %u",
              (unsigned long long)q->id, r->index);
    end(sim, r, q);
    *q = (struct sim_request){0};
}

static void worker_failed(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    bool again = q->tokens == 0 && q->attempt + 1 < SIM_ATTEMPTS;
    q->excluded[q->attempt] = q->worker_id;
    q->attempt++;
    end(sim, r, q);
    if (again && !r->crashing)
        ask(sim, r, q);
    else
        *q = (struct sim_request){0};
}

static void progress(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    uint32_t w = sim_worker_find(sim, q->worker_id);
    SIM_CHECK(sim, jr_bookings_find(&r->pool->own, q->id), "request %llu runs and is not booked",
              (unsigned long long)q->id);
    q->next_ms = sim->now_ms + sim_delay(sim, 500);
    if (w == SIM_WORKERS || !sim_worker_answers(sim, w, r->index)) {
        worker_failed(sim, r, q);
        return;
    }
    q->tokens++;
    if (q->tokens > 4 || sim_chance(sim, 8)) {
        end(sim, r, q);
        *q = (struct sim_request){0};
        return;
    }
    request_event(sim, r, q, q->tokens == 1 ? JR_EV_FIRST_TOKEN : JR_EV_OUTPUT);
}

void sim_client_step(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    if (r->crashing || r->leave_ms)
        return;
    if (q->stage == SIM_ASKED)
        sim_policy_waits(sim, r, q);
    if (q->stage == SIM_NONE) {
        if (!sim->quiet && sim_chance(sim, 30))
            ask(sim, r, q);
    } else if (sim->now_ms >= q->next_ms) {
        if (q->stage == SIM_ASKED)
            give_up(sim, r, q);
        else
            progress(sim, r, q);
    }
}
