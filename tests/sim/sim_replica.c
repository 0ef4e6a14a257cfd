/* SPDX-License-Identifier: Apache-2.0 */
/* A replica: its life, its clocks, what it is fed. sim_driver.c does what its pool wants done. */
#include "sim_world.h"

#include "base/mem.h"
#include <string.h>

#define LEAVE_MS 1000 /* its last words are waited for no longer */

bool sim_replica_reaches(const struct sim *sim, const struct sim_replica *r)
{
    return !sim->nats.down && sim->now_ms >= r->cut_until_ms;
}

/* Nobody waits whom a worker has room for: what makes room also lets go. */
static void check_queue(const struct sim *sim, const struct sim_replica *r)
{
    jr_queue_check(&r->pool->queue);
    JR_LIST_FOREACH (it, &r->pool->waiting) {
        const struct jr_waiting *w = JR_CONTAINER_OF(it, struct jr_waiting, node);
        struct jr_look look;
        jr_pool_look(r->pool, &w->route, &w->sched->profile->classes[w->class].room, &look);
        SIM_CHECK(sim, look.with_room == 0 && look.eligible + look.overloaded > 0,
                  "request %llu of replica %u waits, %u workers and %u busy, %u with room",
                  (unsigned long long)w->route.id, r->index, look.eligible, look.overloaded,
                  look.with_room);
    }
}

uint64_t sim_replica_now(const struct sim *sim, const struct sim_replica *r)
{
    return sim->now_ms + r->mono_ms;
}

/* It may die between any two things that it does; then nothing more comes of what it was told. */
void sim_replica_event(struct sim *sim, struct sim_replica *r, struct jr_event *ev)
{
    if (r->crashing)
        return;
    ev->now_ms = sim_replica_now(sim, r);
    ev->unix_ns = SIM_UNIX_NS + (int64_t)sim->now_ms * 1000000 + r->skew_ns;
    int err = jr_pool_step(r->pool, ev, &r->actions);
    SIM_CHECK(sim, err == 0, "replica %u: event %d gives %d", r->index, (int)ev->type, err);
    for (uint32_t i = 0; i < r->actions.n; i++) {
        const struct jr_action *a = &r->actions.v[i];
        r->crashing = r->crashing || sim_fault(sim, SIM_F_CRASH);
        if (!r->crashing)
            sim_driver_perform(sim, r, a);
        else if (a->type == JR_ACT_WRITE_SNAPSHOT)
            jr_image_destroy(a->u.write.image);
    }
    if (!r->crashing)
        check_queue(sim, r);
    r->tick_ms = jr_pool_deadline_ms(r->pool);
}

/* ---------------------------------------------------------------- reading */

static void feed_log(struct sim *sim, struct sim_replica *r)
{
    const struct sim_nats *n = &sim->nats;
    if (!r->reading || !r->connected)
        return;
    if (JR_BUG(READER_NO_CHECK)) {
        r->read_created_ns = n->created_ns;
        r->read_branch = n->branch;
        if (r->read_next < n->first_seq)
            r->read_next = n->first_seq;
        if (r->read_next > n->n_log + 1)
            return;
    }
    if (r->read_created_ns != n->created_ns || r->read_branch != n->branch ||
        r->read_next < n->first_seq || r->read_next > n->n_log + 1) {
        r->reading = false;
        struct jr_event ev = {.type = JR_EV_READER_BROKEN};
        sim_replica_event(sim, r, &ev);
        return;
    }
    for (uint32_t k = jr_rng_below(&sim->rng, 12); k > 0 && r->reading && !r->crashing; k--) {
        if (r->mute || r->read_next > n->n_log)
            return;
        uint64_t before = r->pool->state->seq;
        struct jr_event ev = {.type = JR_EV_LOG, .u.log = &n->log[r->read_next - 1].m};
        r->read_next++;
        sim_replica_event(sim, r, &ev);
        SIM_CHECK(sim,
                  r->pool->state->seq <= before + 1 || r->pool->origin_seq == r->pool->state->seq,
                  "a sequence was skipped");
    }
}

/* The stream is read from its start at every connection, in order, a little late now and then. */
static void feed_sync(struct sim *sim, struct sim_replica *r)
{
    const struct sim_nats *n = &sim->nats;
    if (!r->connected || sim->now_ms < r->sync_wait_ms)
        return;
    if (sim_chance(sim, 8))
        r->sync_wait_ms = sim->now_ms + sim_delay(sim, 200);
    if (r->sync_next == 0) {
        r->sync_next = 1;
        struct jr_event ev = {.type = JR_EV_SYNC_BROKEN};
        sim_replica_event(sim, r, &ev);
    }
    for (uint64_t i = 0; i < n->n_sync && !r->crashing; i++) {
        const struct sim_sync_msg *m = &n->sync[i];
        if (m->seq < r->sync_next || m->at_ms + SIM_SYNC_AGE < sim->now_ms)
            continue;
        uint64_t gaps = r->pool->replicas.gaps;
        r->sync_next = m->seq + 1;
        if (!sim_check_read(sim, r, m))
            continue;
        bool follows = sim_check_hear(r, m);
        struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &m->b};
        sim_replica_event(sim, r, &ev);
        SIM_CHECK(sim, r->crashing || !follows || r->pool->replicas.gaps == gaps,
                  "LoadIsShared: replica %u misses a batch of %s before %llu, which came", r->index,
                  m->b.replica, (unsigned long long)m->b.number);
        sim_check_sync(sim, r, m);
        sim_beliefs_heard(sim, r, &m->b);
    }
    if (!r->sync_reading) {
        r->sync_reading = true;
        struct jr_event ev = {.type = JR_EV_SYNC_OPENED};
        sim_replica_event(sim, r, &ev);
    }
}

/* ---------------------------------------------------------------- life */

static void trace(void *ctx, enum jr_trace_level level, const char *event, const char *text)
{
    const struct sim_replica *r = ctx;
    (void)level;
    (void)fprintf(r->trace, "           r%u %s %s\n", r->index, event, text);
}

/* A replica mostly keeps its name (a pod of a set), and never its incarnation. */
static void name_it(struct sim *sim, struct sim_replica *r)
{
    bool other = r->lives > 0 && sim->faults && sim_chance(sim, 4);
    if (r->lives == 0 || other) {
        r->lives++;
        r->seat = other ? (r->seat + SIM_REPLICAS) % SIM_SEATS : r->index;
        snprintf(r->id, sizeof r->id, "r%u.%llu", r->index, (unsigned long long)r->lives);
    }
    r->incarnation = jr_rng_u64(&sim->rng) | 1;
    r->mono_ms = jr_rng_below(&sim->rng, 1000000);
    r->skew_ns = (int64_t)jr_rng_below(&sim->rng, 4000) * 1000000;
}

static void configure(const struct sim *sim, const struct sim_replica *r, uint64_t seed,
                      struct jr_pool_config *c)
{
    *c = (struct jr_pool_config){.incarnation = r->incarnation,
                                 .seed = seed,
                                 .rules_max = r->rules,
                                 .sync_max = r->sync_max,
                                 .namespace_ = "ns",
                                 .component = "backend",
                                 .durable = true,
                                 .replica_sync = true,
                                 .assume_kv_reuse = true,
                                 .track_active_blocks = true,
                                 .mode = JR_MODE_KV,
                                 .index_entries_max = sim->c.entries_max[r->index],
                                 .snapshot_threshold = sim->c.snapshot_threshold,
                                 .snapshot_max_age_ms = sim->c.snapshot_max_age_ms,
                                 .lease_ttl_ms = SIM_TTL_MS,
                                 .stale_worker_ms = 3000,
                                 .active_expiry_ms = sim->c.outside ? 400000 : 20000,
                                 .ready_timeout_ms = 8000,
                                 .base_interval_ms = sim->c.base_interval_ms,
                                 .sync_flush_ms = 2};
    memcpy(c->replica_id, r->id, sizeof c->replica_id);
    jr_cost_config_init(&c->cost, JR_COST_SECONDS);
    if (sim->c.lower && r->index % 3 != 2) { /* who gives it no credit holds it as well */
        c->cost.host_credit = 0.75;
        c->cost.disk_credit = 0.25;
    }
    if (sim->seed % 3 == 0) { /* requests wait while every rank has one in prefill */
        c->has_queue_threshold = true;
        c->queue_policy = (enum jr_queue_policy)(sim->seed % 9 / 3);
        c->queue_max = 8;
    }
    if (sim->c.policy) {
        c->policy = sim_policy();
        c->busy = (struct jr_busy_limits){.has_prefill_frac = true, .prefill_frac = 0.9};
    }
    c->track_output_blocks = sim->seed % 2 == 0;
    if (sim->c.reset_token)
        (void)jr_str_copy(c->reset_token, sizeof c->reset_token, "start");
    c->approximate = sim->c.approximate;
    if (sim->c.belief_ms)
        c->approx = (struct jr_approx_config){sim->c.belief_ms, 1 << 20, 0.8};
    c->session_ttl_ms = sim->c.session_ttl_ms;
    c->sessions_max = sim->c.sessions_max;
}

void sim_replica_start(struct sim *sim, uint32_t i)
{
    struct sim_replica was = sim->replicas[i], *r = &sim->replicas[i];
    jr_xfree(was.ops);
    *r = (struct sim_replica){.index = i,
                              .seat = was.seat,
                              .lives = was.lives,
                              .rules = was.rules,
                              .connection = was.connection + 1,
                              .boots = sim->nats.boots,
                              .dead_incarnation = was.dead_incarnation,
                              .died_ms = was.died_ms,
                              .cut_until_ms = was.cut_until_ms,
                              .trace = sim->trace,
                              .started_ms = sim->now_ms};
    memcpy(r->id, was.id, sizeof r->id);
    memcpy(r->dead_id, was.dead_id, sizeof r->dead_id);
    name_it(sim, r);
    r->sync_max = sim->c.versions ? 1 + jr_rng_below(&sim->version_rng, 2) : 0;
    struct jr_pool_config c;
    configure(sim, r, jr_rng_u64(&sim->rng), &c);
    struct jr_trace t = {trace, r};
    SIM_CHECK(sim, jr_pool_create(&c, sim->trace ? &t : NULL, &r->pool) == 0, "create");
    sim_say(sim, "replica %u starts as %s", i, r->id);
    sim->upset_ms = sim->now_ms; /* its base takes what a life before it said out of the stream */
}

void sim_replica_kill(struct sim *sim, uint32_t i)
{
    struct sim_replica *r = &sim->replicas[i];
    if (!r->pool)
        return;
    sim_say(sim, "replica %u %s at %s, seq %llu, snapshot job %d", i,
            r->crashing ? "crashes" : "is killed", jr_sm_name(&r->pool->recovery),
            (unsigned long long)r->pool->state->seq, (int)r->pool->snap);
    sim->n.adopted += r->pool->n.bookings_adopted;
    sim->upset_ms = r->leave_ms ? sim->upset_ms : sim->now_ms;
    sim_outside_died(sim, r);
    sim_driver_end(sim, r, true);
    jr_actions_deinit(&r->actions, r->pool);
    jr_pool_destroy(r->pool);
    r->pool = NULL;
    sim_client_lost(sim, r);
    r->crashing = false;
    r->dead_incarnation = r->incarnation;
    memcpy(r->dead_id, r->id, sizeof r->dead_id);
    r->died_ms = sim->now_ms;
    sim->n.kills++;
}

/* A rolling restart: nobody asks it any more, and its requests have ended. */
void sim_replica_leave(struct sim *sim, struct sim_replica *r)
{
    struct jr_event ev = {.type = JR_EV_LEAVING};
    if (!r->pool || r->crashing || r->leave_ms || sim->now_ms < r->paused_until_ms)
        return;
    sim_say(sim, "replica %u leaves", r->index);
    sim_client_drain(sim, r);
    r->leave_ms = sim->now_ms + LEAVE_MS;
    sim_replica_event(sim, r, &ev);
}

static void leave_step(struct sim *sim, struct sim_replica *r)
{
    bool said =
        r->connected && sim_driver_all_said(r) && !jr_pool_is_leaving(r->pool) && !r->sync_failed;
    if (!said && r->connected && sim->now_ms < r->leave_ms)
        return;
    if (said)
        sim_outside_left(sim, r);
    sim_driver_release(sim, r);
    sim_replica_kill(sim, r->index);
}

static void tell_connected(struct sim *sim, struct sim_replica *r, bool connected)
{
    if (!connected)
        sim_routing_cut(sim, r);
    r->connected = connected;
    r->connection++;
    r->sync_reading = false;
    r->sync_next = 0;
    r->n_heard = 0;
    r->reading = r->reading && connected;
    sim_say(sim, "replica %u %s", r->index, connected ? "is connected" : "is cut off");
    struct jr_event ev = {.type = JR_EV_NATS};
    ev.u.nats.connected = connected;
    sim_replica_event(sim, r, &ev);
    sim_outside_cut(sim, r);
    sim->upset_ms = connected ? sim->upset_ms : sim->now_ms;
    if (!connected)
        sim_sessions_broken(sim, r);
}

/* One that slept through an outage finds its connection dead, too. */
static void connection_step(struct sim *sim, struct sim_replica *r)
{
    bool reaches = sim_replica_reaches(sim, r);
    if (r->connected && (!reaches || r->boots != sim->nats.boots))
        tell_connected(sim, r, false);
    r->boots = sim->nats.boots;
    if (reaches && !r->connected)
        tell_connected(sim, r, true);
}

static void duties(struct sim *sim, struct sim_replica *r)
{
    if (r->leader_told && sim->now_ms - r->leader_renewed_ms > SIM_TTL_MS * 3 / 4)
        sim_driver_not_leader(sim, r);
    if (sim->now_ms >= r->round_ms) {
        r->round_ms = sim->now_ms + SIM_ROUND_MS;
        sim_driver_round(sim, r);
    }
    if (sim_replica_now(sim, r) >= r->tick_ms) {
        struct jr_event ev = {.type = JR_EV_TICK};
        sim_replica_event(sim, r, &ev);
    }
    if (jr_pool_has_slices(r->pool)) {
        struct jr_event ev = {.type = JR_EV_SLICE};
        ev.u.slice.max = 1 + jr_rng_below(&sim->rng, 60);
        sim_replica_event(sim, r, &ev);
    }
}

void sim_replica_step(struct sim *sim, uint32_t i)
{
    struct sim_replica *r = &sim->replicas[i];
    bool asleep = sim->now_ms < r->paused_until_ms;
    if (!r->pool)
        return;
    sim_driver_run(sim, r, asleep);
    if (!asleep) {
        connection_step(sim, r);
        duties(sim, r);
        feed_log(sim, r);
        feed_sync(sim, r);
        sim_sessions_feed(sim, r);
        sim_policy_step(sim, r);
        for (uint32_t k = 0; k < sim->c.requests; k++)
            sim_client_step(sim, r, &r->requests[k]);
    }
    if (r->crashing)
        sim_replica_kill(sim, i);
    else if (r->leave_ms && !asleep)
        leave_step(sim, r);
}
