/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that run outside of any replica (docs/protocol.md §6, ADR 19): external data planes book at
 * one replica, and tell any other how they go. Replicas die, sleep and are cut off meanwhile, and others
 * adopt what they had booked.
 *
 *     none ──select──► asked ──decided──► booked ──/prefill_done, select again──► booked ──/free──► freed
 *       ▲                └── its replica died: asked of another one                                  │
 *       └────────────────────────────── nobody knows of it any more ◄────────────────────────────────┘
 *
 * Whoever was told of the end and died soon, or lost its lease, may not have told anybody: such a client
 * tells another. So it does when somebody was away for longer than the end was said (ADR 24). */
#include "sim_world.h"

#define SOON_MS 10000 /* a word is out, and heard, unless who was told died so soon */
#define CALM_MS                                                                                    \
    5500 /* all is well for so long: leases ended, orphans are settled, bases were read */

#define READ_MS 600              /* what is in the sync stream is read, by who is there */
#define SAID_MS (2 * SIM_TTL_MS) /* at least so long an end is said, while leases come and go */

static bool has_outside(const struct sim *sim)
{
    return sim->c.outside > 0;
}

static uint32_t below(struct sim *sim, uint32_t n)
{
    return jr_rng_below(&sim->outside_rng, n);
}

static bool is_there(const struct sim *sim, const struct sim_replica *r)
{
    return r->pool && !r->crashing && !r->leave_ms && sim->now_ms >= r->paused_until_ms;
}

/* Where a load balancer sends a client; NULL: nobody answers. */
static struct sim_replica *any_replica(struct sim *sim)
{
    struct sim_replica *r = &sim->replicas[below(sim, sim->c.replicas)];
    return is_there(sim, r) ? r : NULL;
}

/* ---------------------------------------------------------------- what clients do */

static void select_at(struct sim *sim, struct sim_replica *r, struct sim_outside *o)
{
    struct jr_outside_view v;
    uint64_t prefix[2] = {o->id, o->id + 1};
    struct jr_event ev = {.type = JR_EV_ROUTE};
    if (!r->connected ||
        !sim_replica_reaches(sim, r)) /* what it books alone nobody can be told of */
        return;
    if (jr_pool_find_outside(r->pool, o->id, &v)) { /* that is the answer */
        o->stage = SIM_RUNS;
        return;
    }
    o->at = r->index;
    o->at_life_ms = r->started_ms;
    o->stage = o->stage == SIM_NONE ? SIM_ASKED : o->stage;
    ev.u.route.id = o->id;
    ev.u.route.prefix = prefix;
    ev.u.route.n_prefix = 2;
    ev.u.route.tokens = 40;
    sim->n.outside++;
    sim_replica_event(sim, r, &ev);
}

/* Some are told by the last request that they serve. */
static void tell(struct sim *sim, struct sim_replica *r, struct sim_outside *o, bool done)
{
    struct jr_event ev = {.type = JR_EV_OUTSIDE};
    ev.u.outside.id = o->id;
    ev.u.outside.done = done;
    if (done) {
        o->freed = true;
        o->missed = false;
        o->left_ms = 0;
        o->witnesses =
            0; /* who has it again has another by its name, which the word may end, too */
        o->told_ms = sim->now_ms;
        o->at_incarnation = r->incarnation;
        o->at = r->index;
        o->at_life_ms = r->started_ms;
    }
    sim_say(sim, "replica %u is told that %llx %s", r->index, (unsigned long long)o->id,
            done ? "is over" : "has its first token");
    sim_replica_event(sim, r, &ev);
    if (done && sim->faults && sim->c.one_in[SIM_F_LEAVE] && below(sim, 8) == 0)
        sim_replica_leave(sim, r);
}

static struct sim_outside *find(struct sim *sim, uint64_t id)
{
    for (uint32_t i = 0; i < SIM_OUTSIDE; i++)
        if (sim->outside[i].stage != SIM_NONE && sim->outside[i].id == id)
            return &sim->outside[i];
    return NULL;
}

void sim_outside_decided(struct sim *sim, const struct sim_replica *r, uint64_t id, bool booked)
{
    struct sim_outside *o = find(sim, id);
    sim_say(sim, "replica %u %s %llx", r->index, booked ? "books" : "refuses",
            (unsigned long long)id);
    if (!o)
        return;
    if (!booked && o->stage == SIM_ASKED)
        *o = (struct sim_outside){0};
    else if (booked) { /* perhaps one that waited while it was ended elsewhere: it is ended again */
        o->stage = SIM_RUNS;
        o->freed = false;
        o->booked_ms = sim->now_ms;
    }
}

/* Its replica ended before it answered, or has no worker for it: it is asked of another one, or not. */
static void asked(struct sim *sim, struct sim_outside *o)
{
    struct sim_replica *at = &sim->replicas[o->at], *r;
    bool lives = at->pool && at->started_ms == o->at_life_ms && !at->crashing;
    if (sim->now_ms < o->next_ms && lives)
        return;
    if (lives && !is_there(sim, at))
        return;
    struct jr_event ev = {.type = JR_EV_FINISH}; /* no patience: it does not wait any more */
    ev.u.request.id = o->id;
    if (lives && !jr_bookings_find(&at->pool->own, o->id)) {
        sim_replica_event(sim, at, &ev);
        *o = (struct sim_outside){0};
    } else if (!lives && (r = any_replica(sim))) {
        o->next_ms = sim->now_ms + 4000;
        select_at(sim, r, o);
    }
}

static void runs(struct sim *sim, struct sim_outside *o)
{
    struct sim_replica *r = any_replica(sim);
    bool ends =
        sim->quiet ? sim->now_ms - sim->outside_well_ms > CALM_MS + 200 : below(sim, 4) == 0;
    if (!r || sim->now_ms < o->next_ms)
        return;
    o->next_ms = sim->now_ms + below(sim, sim->quiet ? 50 : 2500);
    if (ends)
        tell(sim, r, o, true);
    else if (!sim->quiet && below(sim, 4) == 0)
        select_at(sim, r, o);
    else if (!sim->quiet)
        tell(sim, r, o, false);
}

static bool is_known(const struct sim_replica *r, uint64_t id)
{
    for (uint32_t i = 0; i < r->pool->replicas.n; i++)
        if (jr_bookings_find(&r->pool->replicas.v[i]->bookings, id))
            return true;
    JR_LIST_FOREACH (it, &r->pool->waiting)
        if (JR_CONTAINER_OF(it, struct jr_waiting, node)->route.id == id)
            return true;
    return jr_bookings_find(&r->pool->own, id) || jr_bookings_find(&r->pool->replicas.orphans, id);
}

static bool hears(const struct sim *sim, const struct sim_replica *r)
{
    return is_there(sim, r) && r->connected && r->sync_reading && sim_replica_reaches(sim, r);
}

/* Was somebody away for all the time in which the end was said? */
static void mind_who_is_away(struct sim *sim, struct sim_outside *o)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        uint64_t since_ms = sim->heard_ms[i] > o->told_ms ? sim->heard_ms[i] : o->told_ms;
        if (sim->now_ms - since_ms >= SAID_MS)
            o->missed = true;
    }
}

static bool all_hear(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        if (sim->heard_ms[i] != sim->now_ms)
            return false;
    return true;
}

/* Who was told has left, and its word was read by all there were. */
static bool is_passed_on(const struct sim *sim, const struct sim_outside *o)
{
    return o->left_ms && (sim->upset_ms < o->left_ms || sim->upset_ms > o->left_ms + READ_MS);
}

static void freed(struct sim *sim, struct sim_outside *o)
{
    const struct sim_replica *at = &sim->replicas[o->at];
    struct sim_replica *r;
    bool lives = (at->pool && at->incarnation == o->at_incarnation) || is_passed_on(sim, o);
    bool again = (!lives && sim->now_ms < o->told_ms + SOON_MS) || (o->missed && all_hear(sim));
    mind_who_is_away(sim, o);
    if (again && (r = any_replica(sim))) {
        tell(sim, r, o, true);
        return;
    }
    if (sim->now_ms - o->told_ms < SOON_MS)
        return;
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        if (sim->replicas[i].pool && is_known(&sim->replicas[i], o->id))
            return;
    *o = (struct sim_outside){0};
}

void sim_outside_step(struct sim *sim)
{
    for (uint32_t i = 0; has_outside(sim) && i < sim->c.replicas; i++)
        if (hears(sim, &sim->replicas[i]))
            sim->heard_ms[i] = sim->now_ms;
    for (uint32_t i = 0; has_outside(sim) && i < sim->c.outside; i++) {
        struct sim_outside *o = &sim->outside[i];
        struct sim_replica *r;
        if (o->freed) {
            freed(sim, o);
        } else if (o->stage == SIM_ASKED) {
            asked(sim, o);
        } else if (o->stage == SIM_RUNS) {
            runs(sim, o);
        } else if (!sim->quiet && below(sim, 40) == 0 && (r = any_replica(sim))) {
            *o = (struct sim_outside){.id = jr_mix64(++sim->outside_ids) | JR_OUTSIDE_BIT,
                                      .next_ms = sim->now_ms + 4000};
            select_at(sim, r, o);
        }
    }
}

/* ---------------------------------------------------------------- what must hold */

uint32_t sim_outside_own(const struct sim *sim, const struct sim_replica *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; has_outside(sim) && i < SIM_OUTSIDE; i++)
        n += sim->outside[i].id && jr_bookings_find(&r->pool->own, sim->outside[i].id);
    return n;
}

/* Who lives and knew of a booking of a replica that ends, by what this connection told, sees to it that
 * somebody has it. */
void sim_outside_died(struct sim *sim, const struct sim_replica *dead)
{
    sim->outside_well_ms = sim->now_ms;
    for (uint32_t i = 0; has_outside(sim) && i < SIM_OUTSIDE; i++) {
        struct sim_outside *o = &sim->outside[i];
        bool had = o->id && jr_bookings_find(&dead->pool->own, o->id);
        o->witnesses &= ~(UINT64_C(1) << dead->index);
        for (uint32_t k = 0; had && k < sim->c.replicas; k++) {
            const struct sim_replica *r = &sim->replicas[k];
            const struct jr_peer *p =
                r->pool && k != dead->index ? jr_replicas_find(&r->pool->replicas, dead->id) : NULL;
            if (p && r->sync_reading && p->listed && p->base_read && !p->wants &&
                p->incarnation == dead->incarnation && jr_bookings_find(&p->bookings, o->id))
                o->witnesses |= UINT64_C(1) << k;
        }
    }
}

static bool others_hear(const struct sim *sim, const struct sim_replica *r)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        if (i != r->index && !hears(sim, &sim->replicas[i]))
            return false;
    return sim->now_ms >= sim->upset_ms + READ_MS;
}

void sim_outside_left(struct sim *sim, const struct sim_replica *r)
{
    for (uint32_t i = 0; i < SIM_OUTSIDE; i++) {
        struct sim_outside *o = &sim->outside[i];
        if (o->freed && o->at == r->index && o->at_incarnation == r->incarnation &&
            others_hear(sim, r))
            o->left_ms = sim->now_ms;
    }
}

/* What it knows may be old from here on. */
void sim_outside_cut(struct sim *sim, const struct sim_replica *r)
{
    for (uint32_t i = 0; i < SIM_OUTSIDE; i++)
        sim->outside[i].witnesses &= ~(UINT64_C(1) << r->index);
}

static bool all_are_well(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        if (!hears(sim, &sim->replicas[i]))
            return false;
    return !sim->nats.down && !sim_nats_full(sim) && sim->now_ms >= sim->nats.slow_until_ms + 3000;
}

/* One replica has it, and one only: but who asked twice, and was answered twice at once, has two
 * workers. */
static void check_booked(const struct sim *sim, const struct sim_outside *o)
{
    const struct jr_booked *has[SIM_REPLICAS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        const struct jr_booked *k = jr_bookings_find(&sim->replicas[i].pool->own, o->id);
        for (uint32_t j = 0; k && j < n; j++)
            SIM_CHECK(sim,
                      has[j]->b.worker_id != k->b.worker_id || has[j]->b.dp_rank != k->b.dp_rank,
                      "BookedOnce: %llx is booked twice at worker %llu, by replica %u, too",
                      (unsigned long long)o->id, (unsigned long long)k->b.worker_id, i);
        if (k)
            has[n++] = k;
    }
    SIM_CHECK(sim, n || !o->witnesses,
              "BookedOnce: %llx, which a dead replica had booked, is nobody's (known to %llx)",
              (unsigned long long)o->id, (unsigned long long)o->witnesses);
}

static void check_freed(const struct sim *sim, const struct sim_outside *o)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        SIM_CHECK(sim, !jr_bookings_find(&sim->replicas[i].pool->own, o->id),
                  "FreedOnce: %llx is over, and replica %u books it", (unsigned long long)o->id, i);
}

void sim_outside_check(struct sim *sim)
{
    if (!has_outside(sim))
        return;
    if (!all_are_well(sim))
        sim->outside_well_ms = sim->now_ms;
    if (sim->now_ms - sim->outside_well_ms <= CALM_MS || sim->steps % 4)
        return;
    for (uint32_t i = 0; i < SIM_OUTSIDE; i++) {
        const struct sim_outside *o = &sim->outside[i];
        if (o->stage == SIM_RUNS && !o->freed && sim->now_ms - o->booked_ms > CALM_MS)
            check_booked(sim, o);
        else if (o->freed && sim->now_ms - o->told_ms > CALM_MS)
            check_freed(sim, o);
    }
}

/* Each of them was ended. */
bool sim_outside_settled(const struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_OUTSIDE; i++)
        if (sim->outside[i].stage != SIM_NONE && !sim->outside[i].freed)
            return false;
    return true;
}
