/* SPDX-License-Identifier: Apache-2.0 */
/* What a replica may make of workers: while it knows one that answers, its clients are served, with NATS
 * or without; nobody ends a worker that lives; and who was cut off goes on where it was. */
#include "sim_world.h"

/* A probe of before is answered, and the next one, too, also while NATS is slow. */
#define PROBED_MS 6000

void sim_routing_step(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        for (uint32_t w = 0; w < sim->c.workers; w++)
            if (!sim_worker_answers(sim, w, i))
                sim->silent_ms[i][w] = sim->now_ms;
}

void sim_routing_listed(const struct sim *sim, struct sim_replica *r, const struct sim_op *round)
{
    for (uint32_t i = 0; i < round->n_workers; i++) {
        uint32_t w = sim_worker_find(sim, round->workers[i].worker_id);
        if (w == SIM_WORKERS)
            continue;
        r->listed_worker[w] = round->workers[i].worker_id;
        r->listed_worker_ms[w] = sim->now_ms;
    }
    for (uint32_t i = 0; i < round->n_removed; i++)
        for (uint32_t w = 0; w < sim->c.workers; w++)
            if (r->listed_worker[w] == round->removed[i])
                r->listed_worker[w] = 0;
}

/* It was listed since it last did not answer, so that its url is known, and was looked at since. */
static bool is_known_to_answer(const struct sim *sim, const struct sim_replica *r, uint32_t w)
{
    uint64_t since_ms = sim->silent_ms[r->index][w];
    if (r->listed_worker[w] != sim->workers[w].id || r->listed_worker_ms[w] <= since_ms)
        return false;
    since_ms = since_ms > r->paused_until_ms ? since_ms : r->paused_until_ms;
    return sim->now_ms >= since_ms + PROBED_MS;
}

static bool is_in(const uint64_t *ids, uint32_t n, uint64_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

void sim_routing_rejected(const struct sim *sim, const struct sim_replica *r,
                          const uint64_t *excluded, uint32_t n)
{
    for (uint32_t w = 0; w < sim->c.workers; w++) {
        uint64_t id = sim->workers[w].id;
        SIM_CHECK(sim, is_in(excluded, n, id) || !is_known_to_answer(sim, r, w),
                  "RoutingOutlivesNats: replica %u has no worker for a request, and %llu answers",
                  r->index, (unsigned long long)id);
    }
}

bool sim_routing_is_back(const struct sim *sim, uint64_t worker_id)
{
    uint32_t w = sim_worker_find(sim, worker_id);
    return w < SIM_WORKERS && sim_lease_live(sim, &sim->nats.worker[w]);
}

/* Decided upon what the leader has seen: of a life that holds its lease, or answers, nothing is over. Its
 * list may be older than a lease that has just come, for which the key is read again. */
void sim_routing_gone(const struct sim *sim, const struct sim_replica *r,
                      const struct jr_control *c)
{
    uint32_t w = sim_worker_find(sim, c->worker_id);
    if (w == SIM_WORKERS || !sim->workers[w].up || sim->mute)
        return;
    bool leased = sim_lease_live(sim, &sim->nats.worker[w]) &&
                  sim->now_ms - sim->workers[w].lease_new_at_ms > 2 * SIM_TTL_MS;
    bool lives = leased || is_known_to_answer(sim, r, w);
    for (uint32_t i = 0; i < c->n_ended; i++) {
        uint32_t rank = c->ended[i].dp_rank; /* rows of lower media are ended when they are stuck */
        SIM_CHECK(sim,
                  !lives || rank >= SIM_RANKS || rank >= sim->c.ranks ||
                      sim->workers[w].ranks[rank].bridge.incarnation != c->ended[i].incarnation,
                  "GoneIsGone: replica %u ends rank %u of worker %llu, which lives", r->index, rank,
                  (unsigned long long)c->worker_id);
    }
}

/* ---------------------------------------------------------------- going on */

void sim_routing_cut(const struct sim *sim, struct sim_replica *r)
{
    const struct jr_pool *p = r->pool;
    bool holds = sim_comparable(sim, r) && jr_pool_recovery(p) == JR_REC_READY &&
                 !p->digest_mismatch && !r->diverged;
    r->resume_seq = holds ? p->state->seq : 0;
    r->resume_branch = r->read_branch;
}

/* The stream is as it was, and has what follows: no snapshot is needed. */
void sim_routing_loads(const struct sim *sim, const struct sim_replica *r)
{
    const struct sim_nats *n = &sim->nats;
    SIM_CHECK(sim,
              !r->connected || !r->resume_seq || r->resume_branch != n->branch ||
                  r->resume_seq + 1 < n->first_seq,
              "RoutingOutlivesNats: replica %u loads a snapshot, and could go on at %llu", r->index,
              (unsigned long long)r->resume_seq);
}
