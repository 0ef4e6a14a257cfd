/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong in the world between two steps. */
#include "sim_world.h"

#include <string.h>

static struct sim_replica *some_replica(struct sim *sim, enum sim_fault f)
{
    return &sim->replicas[sim_fault_below(sim, f, sim->c.replicas)];
}

static uint64_t until(struct sim *sim, enum sim_fault f, uint32_t max_ms)
{
    return sim->now_ms + sim_fault_below(sim, f, max_ms + 1);
}

static void lives_and_deaths(struct sim *sim)
{
    if (sim_fault(sim, SIM_F_KILL)) {
        struct sim_replica *r = some_replica(sim, SIM_F_KILL);
        if (r->pool)
            sim_replica_kill(sim, r->index);
    }
    if (sim_fault(sim, SIM_F_LEAVE))
        sim_replica_leave(sim, some_replica(sim, SIM_F_LEAVE));
    for (uint32_t i = 0; i < sim->c.replicas; i++) /* each comes back in a second or so */
        if (!sim->replicas[i].pool && sim_chance(sim, 40))
            sim_replica_start(sim, i);
    if (sim_fault(sim, SIM_F_UPGRADE)) {
        struct sim_replica *r = some_replica(sim, SIM_F_UPGRADE);
        r->rules = 1 + sim_fault_below(sim, SIM_F_UPGRADE, 3) % 2;
        sim_replica_kill(sim, r->index);
        sim_replica_start(sim, r->index);
    }
}

static void replica_faults(struct sim *sim)
{
    if (sim_fault(sim, SIM_F_PAUSE)) {
        struct sim_replica *r = some_replica(sim, SIM_F_PAUSE);
        r->paused_until_ms = until(sim, SIM_F_PAUSE, 4000);
        sim_say(sim, "replica %u sleeps", r->index);
    }
    if (sim_fault(sim, SIM_F_CUT)) {
        struct sim_replica *r = some_replica(sim, SIM_F_CUT);
        r->cut_until_ms = until(sim, SIM_F_CUT, 4000);
        sim_say(sim, "replica %u is partitioned", r->index);
    }
    if (sim_fault(sim, SIM_F_CLOCK)) {
        struct sim_replica *r = some_replica(sim, SIM_F_CLOCK);
        int64_t s = (int64_t)sim_fault_below(sim, SIM_F_CLOCK, 7200) - 3600;
        r->skew_ns = s * INT64_C(1000000000);
        sim_say(sim, "the clock of replica %u is off by %lld s", r->index, (long long)s);
    }
    if (sim_fault(sim, SIM_F_MUTE)) {
        struct sim_replica *r = some_replica(sim, SIM_F_MUTE);
        r->mute = true;
        sim_say(sim, "the log's consumer of replica %u is mute", r->index);
    }
    if (sim_fault(sim, SIM_F_SNAPSHOT)) {
        struct sim_replica *r = some_replica(sim, SIM_F_SNAPSHOT);
        struct jr_event ev = {.type = JR_EV_ADMIN_SNAPSHOT};
        if (r->pool)
            sim_replica_event(sim, r, &ev);
    }
}

static void ask_reset(struct sim *sim)
{
    struct sim_replica *r = some_replica(sim, SIM_F_RESET);
    if (!r->pool)
        return;
    sim_say(sim, "a reset is asked of replica %u", r->index);
    struct jr_event ev = {.type = JR_EV_ADMIN_RESET};
    snprintf(ev.u.token, sizeof ev.u.token, "t%u", sim_fault_below(sim, SIM_F_RESET, 3));
    sim_replica_event(sim, r, &ev);
    sim->n.resets++;
}

static void worker_faults(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->c.workers; w++)
        if (!sim->workers[w].up && sim_chance(sim, 60))
            sim_worker_start(sim, w);
    if (sim_fault(sim, SIM_F_WORKER)) {
        uint32_t w = sim_fault_below(sim, SIM_F_WORKER, sim->c.workers);
        bool removed = sim_fault_below(sim, SIM_F_WORKER, 2);
        sim_say(sim, "worker %u stops%s", w, removed ? ", removed" : "");
        if (sim->workers[w].up)
            sim_worker_stop(sim, w, removed);
    }
    if (sim_fault(sim, SIM_F_ENGINE)) {
        uint32_t w = sim_fault_below(sim, SIM_F_ENGINE, sim->c.workers);
        if (sim->workers[w].up)
            sim_worker_restart_engine(sim, w);
    }
    if (sim_fault(sim, SIM_F_WORKER_CUT)) {
        uint32_t w = sim_fault_below(sim, SIM_F_WORKER_CUT, sim->c.workers);
        sim->workers[w].partitioned = !sim->workers[w].partitioned;
        sim_say(sim, "bridge %u is %s", w, sim->workers[w].partitioned ? "cut off" : "connected");
    }
    if (sim_fault(sim, SIM_F_HTTP)) {
        struct sim_worker *w = &sim->workers[sim_fault_below(sim, SIM_F_HTTP, sim->c.workers)];
        w->cut_from = sim_fault_below(sim, SIM_F_HTTP, 1u << sim->c.replicas);
        w->cut_until_ms = until(sim, SIM_F_HTTP, 4000);
    }
}

/* ---------------------------------------------------------------- the servers */

static void nats_faults(struct sim *sim)
{
    if (sim->nats.down ? sim_chance(sim, 60) : sim_fault(sim, SIM_F_NATS)) {
        sim->nats.down = !sim->nats.down;
        if (sim->nats.down && sim_fault_below(sim, SIM_F_NATS, 2))
            sim_nats_forget(sim); /* it was restarted, and not just out of reach */
        sim->nats.boots += sim->nats.down;
        sim_say(sim, "NATS is %s", sim->nats.down ? "gone" : "back");
    }
    if (sim_fault(sim, SIM_F_DISK)) {
        sim->nats.disk_full_until_ms = until(sim, SIM_F_DISK, 3000);
        sim_say(sim, "the disk is full");
    }
    if (sim_fault(sim, SIM_F_SLOW)) {
        sim->nats.slow_until_ms = until(sim, SIM_F_SLOW, 4000);
        sim_say(sim, "NATS is slow");
    }
    if (sim_fault(sim, SIM_F_GARBAGE) && !sim->nats.down && !sim_nats_full(sim)) {
        struct jr_log_msg m = {.kind = JR_LOG_KIND_UNDECODABLE};
        (void)sim_nats_publish(sim, &m, 0, false);
    }
}

static void damage(struct sim *sim)
{
    uint32_t k = sim_fault_below(sim, SIM_F_DAMAGE, 2);
    if (!sim->nats.object[k])
        return;
    sim->nats.object_damaged[k] = true;
    sim->by_hand = true;
    sim_say(sim, "snapshot %u is damaged", k);
}

/* All but `keep`. Not what alone shows that a snapshot is of a branch that is gone: somebody who rolls
 * the stream back, and then purges that away, too, leaves nothing that could tell. */
static void purge_by_hand(struct sim *sim, uint64_t keep)
{
    struct sim_nats *n = &sim->nats;
    uint64_t floor = n->n_log + 1 - (keep < n->n_log ? keep : n->n_log);
    for (int k = 0; k < 2; k++)
        if (n->object[k] && n->object_void[k] && n->object[k]->seq < floor)
            return;
    sim_say(sim, "somebody purges all but %llu", (unsigned long long)keep);
    sim_nats_purge(sim, floor);
}

static void hand(struct sim *sim)
{
    uint64_t last = sim_nats_last(sim);
    sim->by_hand = true;
    switch (sim_fault_below(sim, SIM_F_HAND, 4)) {
    case 0:
        sim_say(sim, "the stream is made anew");
        sim_nats_recreate(sim);
        return;
    case 1: {
        uint64_t to = last - sim_fault_below(sim, SIM_F_HAND, (uint32_t)last + 1) /
                                 (1 + sim_fault_below(sim, SIM_F_HAND, 10));
        sim_say(sim, "the stream is rolled back to %llu of %llu", (unsigned long long)to,
                (unsigned long long)last);
        sim_nats_rollback(sim, to);
        return;
    }
    case 2:
        sim_say(sim, "NATS has lost everything");
        sim_nats_wipe(sim);
        return;
    default:
        purge_by_hand(
            sim, sim_fault_below(sim, SIM_F_HAND, 2) ? 0 : sim_fault_below(sim, SIM_F_HAND, 21));
    }
}

static void session_faults(struct sim *sim)
{
    if (!sim_fault(sim, SIM_F_SESSIONS))
        return;
    struct sim_replica *r = some_replica(sim, SIM_F_SESSIONS);
    if (sim_fault_below(sim, SIM_F_SESSIONS, 2)) {
        sim_say(sim, "the session stream is deleted");
        sim_sessions_lose(sim);
    } else if (r->pool && r->connected) {
        sim_sessions_broken(sim, r);
    }
}

void sim_faults_step(struct sim *sim)
{
    lives_and_deaths(sim);
    replica_faults(sim);
    worker_faults(sim);
    nats_faults(sim);
    session_faults(sim);
    if (sim_fault(sim, SIM_F_RESET)) {
        ask_reset(sim);
        if (sim_fault_below(sim, SIM_F_RESET, 2))
            ask_reset(sim);
    }
    if (sim_fault(sim, SIM_F_DAMAGE))
        damage(sim);
    if (sim_fault(sim, SIM_F_HAND))
        hand(sim);
}
