/* SPDX-License-Identifier: Apache-2.0 */
/* Time, and the end, when all faults are over and the fleet has to become whole. */
#include "sim_world.h"

#include "base/mem.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say_replicas(const struct sim *sim, FILE *out)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        if (r->pool)
            (void)fprintf(
                out,
                "replica %u: %s ready=%d seq=%llu leader=%d bookings=%u old=%d because \"%s\"\n", i,
                jr_sm_name(&r->pool->recovery), r->pool->ready,
                (unsigned long long)r->pool->state->seq, r->pool->leader,
                jr_active_requests(r->pool->active), r->pool->index_is_old,
                jr_pool_not_ready_because(r->pool));
    }
}

/* A rank as its bridge and as the first replica sees it. */
static void say_rank(const struct sim *sim, uint32_t w, uint32_t k, FILE *out)
{
    const struct sim_rank *r = &sim->workers[w].ranks[k];
    const struct jr_pool *p = sim->replicas[0].pool;
    uint32_t m = p ? jr_members_find(&p->members, sim->workers[w].id, k) : JR_MEMBER_NONE;
    const struct jr_state_rank *row = m == JR_MEMBER_NONE ? NULL : jr_state_rank(p->state, m);
    (void)fprintf(
        out, "worker %llu rank %u: up=%d blocks=%u incarnation=%llx next_id=%llu acked_seq=%llu",
        (unsigned long long)sim->workers[w].id, k, sim->workers[w].up, r->n,
        (unsigned long long)r->bridge.incarnation, (unsigned long long)r->bridge.next_id,
        (unsigned long long)r->bridge.acked_seq);
    if (row)
        (void)fprintf(out, "; blocks=%llu incarnation=%llx newest=%llu waiting=%d",
                      (unsigned long long)jr_index_member_entries(p->state->index, m),
                      (unsigned long long)row->incarnation, (unsigned long long)row->newest_id,
                      row->waiting);
    (void)fprintf(out, "\n");
}

static void say_all(const struct sim *sim, FILE *out)
{
    say_replicas(sim, out);
    for (uint32_t w = 0; w < sim->c.workers; w++)
        for (uint32_t k = 0; k < sim->c.ranks; k++)
            say_rank(sim, w, k, out);
    (void)fprintf(out, "stream %llu..%llu, snapshots at %llu and %llu\n",
                  (unsigned long long)sim->nats.first_seq, (unsigned long long)sim->nats.n_log,
                  (unsigned long long)sim->nats.record.newest.seq,
                  (unsigned long long)sim->nats.record.previous.seq);
}

/* A run has a process of its own, which ends here; what did not hold is left where the parent sees
 * it. */
void sim_fail(const struct sim *sim, const char *cond, const char *file, int line, const char *fmt,
              ...)
{
    struct sim_failure f = {sim->seed, sim->steps, sim->now_ms, ""};
    const char *name = strrchr(file, '/');
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(f.text, sizeof f.text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof f.text)
        snprintf(f.text + n, sizeof f.text - (size_t)n, " [%s:%d: %s]", name ? name + 1 : file,
                 line, cond);
    FILE *out = sim->trace ? sim->trace : sim->failure ? NULL : stderr;
    if (out) {
        (void)fprintf(out, "%8llu ms FAILED at step %llu, seed %llu: %s\n",
                      (unsigned long long)f.now_ms, (unsigned long long)f.step,
                      (unsigned long long)f.seed, f.text);
        say_all(sim, out);
        (void)fflush(out);
    }
    if (sim->failure)
        *sim->failure = f;
    _exit(3);
}

void sim_say(const struct sim *sim, const char *fmt, ...)
{
    va_list ap;
    if (!sim->trace)
        return;
    (void)fprintf(sim->trace, "%8llu ms ", (unsigned long long)sim->now_ms);
    va_start(ap, fmt);
    (void)vfprintf(sim->trace, fmt, ap);
    va_end(ap);
    (void)fprintf(sim->trace, "\n");
}

bool sim_chance(struct sim *sim, uint32_t one_in)
{
    return jr_rng_below(&sim->rng, one_in) == 0;
}

uint64_t sim_delay(struct sim *sim, uint32_t max_ms)
{
    return jr_rng_below(&sim->rng, max_ms + 1);
}

bool sim_fault(struct sim *sim, enum sim_fault f)
{
    bool now =
        sim->faults && sim->c.one_in[f] && jr_rng_below(&sim->fault_rng[f], sim->c.one_in[f]) == 0;
    sim->happened[f] += now;
    return now;
}

uint32_t sim_fault_below(struct sim *sim, enum sim_fault f, uint32_t n)
{
    return jr_rng_below(&sim->fault_rng[f], n);
}

struct sim *sim_create(uint64_t seed, const struct sim_config *config)
{
    struct sim *sim = jr_xalloc(sizeof *sim);
    sim->seed = seed;
    sim->c = *config;
    sim->now_ms = 1000;
    sim->trace = getenv("JR_SIM_TRACE") ? stderr : NULL;
    jr_rng_init(&sim->rng, seed, 77);
    for (uint64_t f = 0; f < SIM_FAULTS; f++)
        jr_rng_init(&sim->fault_rng[f], seed, 100 + f);
    jr_rng_init(&sim->session_rng, seed, 78);
    jr_rng_init(&sim->outside_rng, seed, 79);
    jr_rng_init(&sim->version_rng, seed, 80);
    jr_rng_init(&sim->policy_rng, seed, 81);
    sim->faults = true;
    sim->decoder = jr_event_decoder_create();
    jr_arena_init(&sim->arena, JR_EVENT_ARENA_MAX);
    sim_nats_init(sim);
    return sim;
}

/* Apart from creation, so that a trace can be set before. */
static void start_all(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->c.workers; w++)
        sim_worker_start(sim, w);
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        sim->replicas[i].rules = sim->c.rules[i];
        sim_replica_start(sim, i);
    }
}

void sim_destroy(struct sim *sim)
{
    sim->faults = false;
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        if (sim->replicas[i].pool)
            sim_driver_end(sim, &sim->replicas[i], false);
        sim_replica_kill(sim, i);
        jr_xfree(sim->replicas[i].ops);
    }
    sim_workers_deinit(sim);
    sim_nats_deinit(sim);
    sim_model_deinit(&sim->model);
    jr_event_decoder_destroy(sim->decoder);
    jr_arena_deinit(&sim->arena);
    jr_xfree(sim);
}

void sim_step(struct sim *sim)
{
    if (sim->steps == 0)
        start_all(sim);
    sim->now_ms += 1 + sim_delay(sim, sim->c.step_ms - 1);
    sim->steps++;
    if (sim->faults)
        sim_faults_step(sim);
    for (uint32_t w = 0; w < sim->c.workers; w++)
        sim_worker_step(sim, w);
    sim_late_step(sim);
    sim_routing_step(sim);
    sim_outside_step(sim);
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        sim_replica_step(sim, i);
    sim_check_step(sim);
}

/* ---------------------------------------------------------------- the end */

/* One row holds what the engine has on these media; adds how much that is to *n. */
static bool row_is_true(const struct sim_replica *r, uint64_t worker_id, uint32_t number,
                        const struct sim_rank *rank, uint32_t media, uint64_t *n)
{
    const struct jr_state *s = r->pool->state;
    uint32_t m = jr_members_find(&r->pool->members, worker_id, number);
    if (m == JR_MEMBER_NONE || !jr_state_rank(s, m))
        return false;
    for (uint32_t i = 0; i < rank->n; i++) {
        uint64_t prefix;
        if (!(rank->blocks[i].on & media))
            continue;
        if (!jr_index_lookup(s->index, m, rank->blocks[i].hash, &prefix) ||
            prefix != rank->blocks[i].prefix)
            return false;
        ++*n;
    }
    return true;
}

/* The index is the union of what the engines hold: nothing forgotten, no ghost. With a cap it is
 * what the log says, and that was compared. */
static bool index_is_true(const struct sim *sim, const struct sim_replica *r)
{
    uint64_t n = 0;
    const struct jr_state *s = r->pool->state;
    if (s->params.index_entries_max || sim->c.approximate)
        return true;
    for (uint32_t w = 0; w < sim->c.workers; w++)
        for (uint32_t k = 0; k < sim->c.ranks; k++) {
            const struct sim_rank *rank = &sim->workers[w].ranks[k];
            for (uint32_t i = 0; i < rank->n_flows; i++)
                if (!row_is_true(r, sim->workers[w].id, sim_row_number(k, i), rank,
                                 sim_row_media(i), &n))
                    return false;
        }
    return jr_index_entries(s->index) == n;
}

static uint32_t listed_peers(const struct sim_replica *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->pool->replicas.n; i++)
        n += r->pool->replicas.v[i]->has_lease;
    return n;
}

static const char *replica_not_whole(const struct sim *sim, const struct sim_replica *r)
{
    if (!r->pool || r->crashing)
        return "a replica is dead";
    if (jr_pool_recovery(r->pool) != JR_REC_READY)
        return "a replica is not ready";
    if (!sim->c.approximate && r->pool->state->seq != sim->nats.n_log)
        return "a replica lags";
    if (!index_is_true(sim, r))
        return "an index is not what the engines hold";
    if (jr_active_requests(r->pool->active) != 0)
        return "load is left";
    if (!sim_sessions_settled(sim, r))
        return "a replica has words of sessions to say";
    if (r->pool->queue.n != 0)
        return "a request waits";
    if (listed_peers(r) != sim->c.replicas - 1 || r->pool->digest_mismatch)
        return "the replicas do not see each other, or disagree";
    return NULL;
}

static const char *not_whole(const struct sim *sim)
{
    bool leader = false;
    if (!sim_outside_settled(sim))
        return "a request that runs outside goes on";
    for (uint32_t w = 0; w < sim->c.workers; w++)
        if (!sim_worker_settled(sim, w))
            return "a bridge has something to say";
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        const char *why = replica_not_whole(sim, &sim->replicas[i]);
        if (why)
            return why;
        leader = leader || sim->replicas[i].pool->leader;
    }
    return leader || sim->c.approximate ? NULL : "nobody leads";
}

static void heal_replica(struct sim *sim, struct sim_replica *r)
{
    r->cut_until_ms = 0;
    if (r->paused_until_ms > sim->now_ms)
        r->paused_until_ms = sim->now_ms;
    if (sim->c.one_in[SIM_F_UPGRADE] && r->rules == 1) { /* the upgrade is brought to its end */
        r->rules = 2;
        sim_replica_kill(sim, r->index);
    }
    if (r->leave_ms)
        sim_replica_kill(sim, r->index);
    if (!r->pool)
        sim_replica_start(sim, r->index);
}

/* What a history that was changed by hand has lost of a row of lower media, its next message shows. */
static void nudge_all(struct sim *sim)
{
    for (uint32_t w = 0; w < sim->c.workers; w++)
        for (uint32_t k = 0; k < sim->c.ranks; k++)
            sim_engine_nudge(sim, &sim->workers[w].ranks[k]);
}

void sim_heal(struct sim *sim)
{
    sim->faults = false;
    sim->quiet = true;
    sim->nats.down = false;
    sim->nats.disk_full_until_ms = 0;
    if (sim->nats.slow_until_ms > sim->now_ms)
        sim->nats.slow_until_ms = sim->now_ms;
    sim->c.step_ms = 41;
    sim_say(sim, "all faults end");
    for (uint32_t w = 0; w < sim->c.workers; w++) {
        sim->workers[w].partitioned = false;
        sim->workers[w].cut_until_ms = 0;
        if (!sim->workers[w].up)
            sim_worker_start(sim, w);
    }
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        heal_replica(sim, &sim->replicas[i]);
    uint64_t until = sim->now_ms + 120000;
    uint32_t still = 0;
    const char *why = "";
    while (sim->now_ms < until && still < 60) {
        sim_step(sim);
        if (sim->c.lower && sim->by_hand && still == 0 && sim->steps % 128 == 0)
            nudge_all(sim);
        why = not_whole(sim);
        still = why ? 0 : still + 1;
    }
    SIM_CHECK(sim, still >= 60, "Converges: the fleet does not become whole: %s",
              why ? why : "not for long");
    for (uint32_t i = 1; i < sim->c.replicas; i++)
        SIM_CHECK(sim,
                  jr_state_digest_table(sim->replicas[i].pool->state) ==
                      jr_state_digest_table(sim->replicas[0].pool->state),
                  "Converges: digests differ at the end");
}
