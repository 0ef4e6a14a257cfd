/* SPDX-License-Identifier: Apache-2.0 */
/* Time, faults and what must always hold. */
#include "sim_world.h"

#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

/* A rank as its bridge and as the first replica sees it. */
static void say_rank(const struct sim *sim, uint32_t w, uint32_t k)
{
    const struct sim_rank *r = &sim->workers[w].ranks[k];
    const struct jr_pool *p = sim->replicas[0].pool;
    uint32_t m = p ? jr_members_find(&p->members, w + 1, k) : JR_MEMBER_NONE;
    const struct jr_state_rank *row = m == JR_MEMBER_NONE ? NULL : jr_state_rank(p->state, m);
    (void)fprintf(stderr,
                  "worker %u rank %u: up=%d blocks=%u incarnation=%llx next_id=%llu acked_seq=%llu",
                  w + 1, k, sim->workers[w].up, r->n, (unsigned long long)r->incarnation,
                  (unsigned long long)r->next_id, (unsigned long long)r->acked_seq);
    if (row)
        (void)fprintf(stderr, "; blocks=%llu incarnation=%llx newest=%llu waiting=%d",
                      (unsigned long long)jr_index_member_entries(p->state->index, m),
                      (unsigned long long)row->incarnation, (unsigned long long)row->newest_id,
                      row->waiting);
    (void)fprintf(stderr, "\n");
}

void sim_fail(const struct sim *sim, const char *cond, const char *file, int line, const char *fmt,
              ...)
{
    va_list ap;
    (void)fprintf(stderr, "%s:%d: %s: ", file, line, cond);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(
        stderr,
        "\nat %llu ms, step %llu; again with JR_SIM_SEEDS=1 JR_SEED=%llu (and JR_SIM_TRACE=1)\n",
        (unsigned long long)sim->now_ms, (unsigned long long)sim->steps,
        (unsigned long long)sim->seed);
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        if (r->pool)
            (void)fprintf(
                stderr,
                "replica %u: %s ready=%d seq=%llu leader=%d bookings=%u old=%d because \"%s\"\n", i,
                jr_sm_name(&r->pool->recovery), r->pool->ready,
                (unsigned long long)r->pool->state->seq, r->pool->leader,
                jr_active_requests(r->pool->active), r->pool->index_is_old,
                jr_pool_not_ready_because(r->pool));
    }
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        for (uint32_t k = 0; k < SIM_RANKS; k++)
            say_rank(sim, w, k);
    (void)fprintf(stderr, "stream %llu..%llu, snapshots at %llu and %llu\n",
                  (unsigned long long)sim->nats.first_seq, (unsigned long long)sim->nats.n_log,
                  (unsigned long long)sim->nats.record.newest.seq,
                  (unsigned long long)sim->nats.record.previous.seq);
    abort();
}

void sim_say(const struct sim *sim, const char *fmt, ...)
{
    va_list ap;
    if (!sim->verbose)
        return;
    (void)fprintf(stderr, "%8llu ms ", (unsigned long long)sim->now_ms);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\n");
}

bool sim_chance(struct sim *sim, uint32_t one_in)
{
    return jr_rng_below(&sim->rng, one_in) == 0;
}

uint64_t sim_delay(struct sim *sim, uint32_t max_ms)
{
    return jr_rng_below(&sim->rng, max_ms + 1);
}

struct sim *sim_create(uint64_t seed)
{
    struct sim *sim = jr_xalloc(sizeof *sim);
    sim->seed = seed;
    sim->now_ms = 1000;
    sim->verbose = getenv("JR_SIM_TRACE") != NULL;
    jr_rng_init(&sim->rng, seed, 77);
    sim->faults = true;
    sim->rare = sim_chance(sim, 4);
    sim_nats_init(sim);
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        sim_worker_start(sim, w);
    for (uint32_t i = 0; i < SIM_REPLICAS; i++)
        sim_replica_start(sim, i);
    return sim;
}

void sim_destroy(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        sim_replica_kill(sim, i);
        jr_xfree(sim->replicas[i].ops);
    }
    sim_nats_deinit(sim);
    jr_xfree(sim->digests);
    jr_xfree(sim);
}

/* ---------------------------------------------------------------- faults */

static void replica_fault(struct sim *sim, struct sim_replica *r)
{
    uint64_t until = sim->now_ms + sim_delay(sim, 4000);
    switch (jr_rng_below(&sim->rng, 5)) {
    case 0:
    case 1:
        if (r->pool)
            sim_replica_kill(sim, r->index);
        else
            sim_replica_start(sim, r->index);
        break;
    case 2:
        sim_say(sim, "replica %u is partitioned", r->index);
        r->cut_until_ms = until;
        break;
    case 3:
        sim_say(sim, "replica %u sleeps", r->index);
        r->paused_until_ms = until;
        break;
    default:
        if (r->pool) {
            struct jr_event ev = {.type = JR_EV_ADMIN_SNAPSHOT};
            sim_replica_event(sim, r, &ev);
        }
    }
}

static void worker_fault(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    if (!wk->up) {
        sim_worker_start(sim, w);
    } else if (sim_chance(sim, 3)) {
        wk->partitioned = !wk->partitioned;
    } else {
        bool removed = sim_chance(sim, 2);
        sim_say(sim, "worker %u stops%s", w + 1, removed ? ", removed" : "");
        sim_worker_stop(sim, w, removed);
    }
}

static void rare_fault(struct sim *sim)
{
    sim->by_hand = true;
    uint64_t last = sim_nats_last(sim);
    if (sim_chance(sim, 3)) {
        sim_say(sim, "the stream is made anew");
        sim_nats_recreate(sim);
        return;
    }
    if (sim_chance(sim, 2)) {
        uint64_t to = last - jr_rng_below(&sim->rng, (uint32_t)last + 1) / (1 + sim_delay(sim, 9));
        sim_say(sim, "the stream is rolled back to %llu of %llu", (unsigned long long)to,
                (unsigned long long)last);
        sim_nats_rollback(sim, to);
        return;
    }
    if (sim_chance(sim, 3)) {
        sim_say(sim, "NATS has lost everything");
        sim_nats_wipe(sim);
        return;
    }
    uint64_t keep = sim_chance(sim, 2) ? 0 : sim_delay(sim, 20);
    sim_say(sim, "somebody purges all but %llu", (unsigned long long)keep);
    sim_nats_purge(sim, last + 1 - (keep < last ? keep : last));
}

static void reset_fault(struct sim *sim)
{
    struct sim_replica *r = &sim->replicas[jr_rng_below(&sim->rng, SIM_REPLICAS)];
    if (!r->pool)
        return;
    sim_say(sim, "a reset is asked of replica %u", r->index);
    struct jr_event ev = {.type = JR_EV_ADMIN_RESET};
    strcpy(ev.u.token, "t");
    sim_replica_event(sim, r, &ev);
    sim->n.resets++;
}

static void faults(struct sim *sim)
{
    if (sim_chance(sim, 60))
        replica_fault(sim, &sim->replicas[jr_rng_below(&sim->rng, SIM_REPLICAS)]);
    if (sim_chance(sim, 200))
        worker_fault(sim, jr_rng_below(&sim->rng, SIM_WORKERS));
    if (sim_chance(sim, sim->nats.down ? 60 : 500)) {
        sim->nats.down = !sim->nats.down;
        sim_say(sim, "NATS is %s", sim->nats.down ? "gone" : "back");
    }
    if (sim_chance(sim, 800))
        reset_fault(sim);
    if (sim->rare && sim_chance(sim, 1200))
        rare_fault(sim);
}

/* ---------------------------------------------------------------- invariants */

bool sim_comparable(const struct sim *sim, const struct sim_replica *r)
{
    const struct jr_pool *p = r->pool;
    return p && p->has_position && !p->index_is_old && !p->rebuilding && !p->importing &&
           p->stream_created_ns == sim->nats.created_ns && p->state->seq > 0 &&
           r->read_branch == sim->nats.branch;
}

static void check_digest(struct sim *sim, const struct sim_replica *r)
{
    const struct jr_state *s = r->pool->state;
    if (s->seq >= sim->cap_digests) {
        uint64_t cap = 2 * s->seq + 64;
        sim->digests = jr_xrealloc(sim->digests, cap * sizeof *sim->digests);
        memset(sim->digests + sim->cap_digests, 0, (cap - sim->cap_digests) * sizeof *sim->digests);
        sim->cap_digests = cap;
    }
    struct sim_digest *d = &sim->digests[s->seq];
    struct sim_digest now = {true, jr_state_digest_blocks(s), jr_state_digest_table(s)};
    if (!d->known)
        *d = now;
    SIM_CHECK(sim, d->blocks == now.blocks && d->table == now.table,
              "replica %u disagrees at %llu (%s)", r->index, (unsigned long long)s->seq,
              d->blocks == now.blocks ? "table" : "blocks");
    SIM_CHECK(sim, !r->pool->broken && (!r->pool->too_new || sim->rules[r->index]),
              "replica %u stopped", r->index);
}

/* What was in flight on a dead life does not count a TTL and a round after its end; where NATS was
 * away meanwhile, after that time from when it was back. */
static void check_dead(const struct sim *sim, const struct sim_replica *dead)
{
    uint64_t grace = SIM_TTL_MS + SIM_ROUND_MS + 400;
    if (!dead->dead_incarnation || sim->now_ms - dead->died_ms < grace)
        return;
    char id[8];
    snprintf(id, sizeof id, "r%u", dead->index);
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        if (!r->pool || !r->connected || sim->now_ms < r->paused_until_ms + 600 ||
            !r->pool->listed_at_ms || sim->now_ms - r->pool->listed_at_ms > 2 * SIM_ROUND_MS ||
            sim->now_ms < r->pool->judge_at_ms + 2 * SIM_ROUND_MS)
            continue;
        const struct jr_peer *p = jr_replicas_find(&r->pool->replicas, id);
        SIM_CHECK(sim, !p || p->incarnation != dead->dead_incarnation || !p->bookings.counted,
                  "replica %u counts the dead life of %u", i, dead->index);
    }
}

bool sim_snapshot_fits(const struct sim *sim, int k)
{
    const struct sim_nats *n = &sim->nats;
    const struct jr_image *image = n->object[k];
    if (!image || n->object_void[k] || image->stream_created_ns != n->created_ns ||
        image->seq + 1 < n->first_seq || image->seq > n->n_log)
        return false;
    const struct jr_log_msg *m = image->seq ? &n->log[image->seq - 1].m : NULL;
    return !m || image->seq < n->first_seq ||
           (m->time_ns == image->msg_time_ns && m->payload_hash == image->msg_hash);
}

static void check_all(struct sim *sim)
{
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        struct sim_replica *r = &sim->replicas[i];
        if (r->pool && r->diverged != r->pool->state)
            r->diverged = NULL;
        if (sim_comparable(sim, r) && !r->diverged)
            check_digest(sim, r);
        if (r->pool && r->pool->rebuilding)
            sim->n.rebuilds++;
        SIM_CHECK(sim, !r->pool || !r->pool->rebuilding || sim->by_hand,
                  "replica %u rebuilds although nobody took anything away", i);
        check_dead(sim, r);
    }
    SIM_CHECK(sim,
              sim->by_hand || sim->nats.first_seq <= 1 || sim_snapshot_fits(sim, 0) ||
                  sim_snapshot_fits(sim, 1),
              "no replica could start from nothing");
}

/* ---------------------------------------------------------------- time */

void sim_step(struct sim *sim)
{
    sim->now_ms += 1 + sim_delay(sim, 40);
    sim->steps++;
    if (sim->faults)
        faults(sim);
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        sim_worker_step(sim, w);
    for (uint32_t i = 0; i < SIM_REPLICAS; i++)
        sim_replica_step(sim, i);
    check_all(sim);
}

/* ---------------------------------------------------------------- the end */

/* The index is the union of what the engines hold: nothing forgotten, no ghost. */
static bool index_is_true(const struct sim *sim, const struct sim_replica *r)
{
    uint64_t n = 0;
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        for (uint32_t k = 0; k < SIM_RANKS; k++) {
            const struct sim_rank *rank = &sim->workers[w].ranks[k];
            uint32_t m = jr_members_find(&r->pool->members, w + 1, k);
            if (m == JR_MEMBER_NONE || !jr_state_rank(r->pool->state, m))
                return false;
            for (uint32_t i = 0; i < rank->n; i++) {
                uint64_t prefix;
                if (!jr_index_lookup(r->pool->state->index, m, rank->blocks[i].hash, &prefix) ||
                    prefix != rank->blocks[i].prefix)
                    return false;
                n++;
            }
        }
    return jr_index_entries(r->pool->state->index) == n;
}

static const char *not_whole(const struct sim *sim)
{
    bool leader = false;
    for (uint32_t w = 0; w < SIM_WORKERS; w++)
        if (!sim_worker_settled(sim, w))
            return "a bridge has something to say";
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        if (jr_pool_recovery(r->pool) != JR_REC_READY)
            return "a replica is not ready";
        if (r->pool->state->seq != sim->nats.n_log)
            return "a replica lags";
        if (!index_is_true(sim, r))
            return "an index is not what the engines hold";
        if (jr_active_requests(r->pool->active) != 0)
            return "load is left";
        if (r->pool->queue.n != 0)
            return "a request waits";
        if (r->pool->replicas.n != SIM_REPLICAS - 1 || r->pool->digest_mismatch)
            return "the replicas do not see each other, or disagree";
        leader = leader || r->pool->leader;
    }
    return leader ? NULL : "nobody leads";
}

void sim_heal(struct sim *sim)
{
    sim->faults = false;
    sim->quiet = true;
    sim->nats.down = false;
    sim_say(sim, "all faults end");
    for (uint32_t w = 0; w < SIM_WORKERS; w++) {
        sim->workers[w].partitioned = false;
        if (!sim->workers[w].up)
            sim_worker_start(sim, w);
    }
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        struct sim_replica *r = &sim->replicas[i];
        r->cut_until_ms = 0;
        if (r->paused_until_ms > sim->now_ms)
            r->paused_until_ms = sim->now_ms;
        if (!r->pool)
            sim_replica_start(sim, i);
    }
    uint64_t until = sim->now_ms + 120000;
    uint32_t still = 0;
    const char *why = "";
    while (sim->now_ms < until && still < 100) {
        sim_step(sim);
        why = not_whole(sim);
        still = why ? 0 : still + 1;
    }
    SIM_CHECK(sim, still >= 100, "the fleet does not become whole: %s", why ? why : "not for long");
    for (uint32_t i = 1; i < SIM_REPLICAS; i++)
        SIM_CHECK(sim,
                  jr_state_digest_table(sim->replicas[i].pool->state) ==
                      jr_state_digest_table(sim->replicas[0].pool->state),
                  "digests differ at the end");
}
