/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold after every step, and at certain moments. */
#include "sim_world.h"

#include "core/hash.h"
#include <string.h>

/* ---------------------------------------------------------------- one log, one order */

bool sim_comparable(const struct sim *sim, const struct sim_replica *r)
{
    const struct jr_pool *p = r->pool;
    return p && !r->crashing && p->has_position && !p->index_is_old && !p->rebuilding &&
           !p->importing && p->stream_created_ns == sim->nats.created_ns && p->state->seq > 0 &&
           r->read_branch == sim->nats.branch;
}

/* Its state is what the naive model says of the log up to there: so all who are there are equal. */
static void check_digest(struct sim *sim, const struct sim_replica *r)
{
    const struct jr_state *s = r->pool->state;
    const struct sim_digest *d = sim_model_at(sim, s->seq);
    if (!d)
        return;
    sim->n.compared++;
    uint64_t blocks = jr_state_digest_blocks(s), table = jr_state_digest_table(s);
    SIM_CHECK(sim, d->blocks == blocks && d->table == table,
              "OneOrder: replica %u is not what the log says at %llu (%s)", r->index,
              (unsigned long long)s->seq, d->blocks == blocks ? "table" : "blocks");
    SIM_CHECK(sim, !r->pool->broken && (!r->pool->too_new || r->rules == 1), "replica %u stopped",
              r->index);
}

struct scores {
    const struct sim *sim;
    const uint64_t *prefix;
    uint32_t n, found;
};

static void compare_score(void *ctx, uint64_t worker_id, uint32_t dp_rank, uint32_t blocks)
{
    struct scores *s = ctx;
    uint32_t right = sim_model_score(&s->sim->model, worker_id, dp_rank, s->prefix, s->n);
    s->found += blocks > 0;
    SIM_CHECK(s->sim, blocks == right,
              "NeverOverMatches: worker %llu rank %u scores %u blocks and holds %u",
              (unsigned long long)worker_id, dp_rank, blocks, right);
}

/* A path of some engine's blocks from the root. */
static uint32_t some_path(struct sim *sim, uint64_t *prefix)
{
    const struct sim_rank *k = &sim->workers[jr_rng_below(&sim->rng, sim->c.workers)]
                                    .ranks[jr_rng_below(&sim->rng, sim->c.ranks)];
    if (k->n == 0)
        return 0;
    uint32_t n = 0, at = jr_rng_below(&sim->rng, k->n);
    for (uint64_t parent = ~UINT64_C(0); parent && n < SIM_BLOCKS;) {
        parent = k->blocks[at].parent;
        prefix[n++] = k->blocks[at].prefix;
        for (uint32_t i = 0; i < k->n && parent; i++)
            if (k->blocks[i].hash == parent)
                at = i;
    }
    for (uint32_t i = 0; i < n / 2; i++) {
        uint64_t x = prefix[i];
        prefix[i] = prefix[n - 1 - i];
        prefix[n - 1 - i] = x;
    }
    return n;
}

/* What a row of lower media counts, by the words of docs/protocol.md §2. */
static uint32_t lower_score(const struct sim_model *m, const struct jr_seat *s, enum jr_lower lower,
                            const uint64_t *prefix, uint32_t n)
{
    uint32_t row = jr_lower_row(s->dp_rank, lower);
    uint64_t incarnation = sim_model_incarnation(m, s->worker_id, s->dp_rank);
    return incarnation && sim_model_incarnation(m, s->worker_id, row) == incarnation
               ? sim_model_score(m, s->worker_id, row, prefix, n)
               : 0;
}

static bool is_credited(const struct jr_pool *p, const struct jr_seat *s)
{
    const struct jr_worker *w = jr_workers_find(&p->workers, s->worker_id);
    for (uint32_t i = 0; w && i < w->n_members; i++)
        if (w->members[i] == s->member)
            return jr_pool_credited(p, w, i);
    return false;
}

/* After a query: what each seat has beyond its device. */
static void check_lower(struct sim *sim, const struct sim_replica *r, const struct scores *s)
{
    struct jr_pool *p = r->pool;
    const struct sim_model *m = &sim->model;
    if (!jr_pool_lower_counts(p) || jr_pool_seats_update(p) < 0)
        return;
    for (uint32_t i = 0; i < p->seats.n; i++) {
        const struct jr_seat *seat = &p->seats.v[i];
        bool credited = is_credited(p, seat);
        uint32_t device =
            credited ? sim_model_score(m, seat->worker_id, seat->dp_rank, s->prefix, s->n) : 0;
        uint32_t host = credited ? lower_score(m, seat, JR_LOWER_HOST, s->prefix, s->n) : 0;
        uint32_t any = credited ? lower_score(m, seat, JR_LOWER_ANY, s->prefix, s->n) : 0;
        host = host > device ? host : device;
        any = any > host ? any : host;
        struct jr_candidate c = {.overlap_blocks = device};
        jr_pool_lower_fill(p, i, &c);
        sim->n.lower += any > device;
        SIM_CHECK(sim, c.host_blocks == host - device && c.disk_blocks == any - host,
                  "LowerIsOfItsRank: worker %llu rank %u counts %u and %u blocks beside %u, not %u "
                  "and %u",
                  (unsigned long long)seat->worker_id, seat->dp_rank, c.host_blocks, c.disk_blocks,
                  device, host - device, any - host);
    }
}

static void check_scores(struct sim *sim, const struct sim_replica *r)
{
    uint64_t prefix[SIM_BLOCKS];
    if (!sim->model.known || r->pool->state->seq != sim->model.seq || !sim_chance(sim, 8))
        return;
    struct scores s = {.sim = sim, .prefix = prefix, .n = some_path(sim, prefix)};
    uint32_t right = 0;
    for (uint32_t i = 0; i < sim->model.n_rows; i++)
        right += sim_model_score(&sim->model, sim->model.rows[i].worker_id,
                                 sim->model.rows[i].dp_rank, prefix, s.n) > 0;
    SIM_CHECK(sim, jr_pool_scores(r->pool, prefix, s.n, compare_score, &s) == 0, "scores");
    SIM_CHECK(sim, s.found == right, "%u workers hold a block, %u are found", right, s.found);
    check_lower(sim, r, &s);
    sim->n.scored++;
}

/* ---------------------------------------------------------------- load */

/* What was in flight on a dead life does not count a TTL and a round after its end; where NATS was
 * away meanwhile, after that time from when it was back. */
static void check_dead(const struct sim *sim, const struct sim_replica *dead)
{
    uint64_t grace = SIM_TTL_MS + SIM_ROUND_MS + 400;
    if (!dead->dead_incarnation || sim->now_ms - dead->died_ms < grace ||
        sim->now_ms < sim->nats.slow_until_ms + 4 * grace)
        return;
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        if (!r->pool || r->crashing || !r->connected || sim->now_ms < r->paused_until_ms + 600 ||
            !r->pool->listed_at_ms ||
            sim_replica_now(sim, r) - r->pool->listed_at_ms > UINT64_C(2) * SIM_ROUND_MS ||
            sim_replica_now(sim, r) < r->pool->judge_at_ms + UINT64_C(2) * SIM_ROUND_MS)
            continue;
        const struct jr_peer *p = jr_replicas_find(&r->pool->replicas, dead->dead_id);
        SIM_CHECK(sim, !p || p->incarnation != dead->dead_incarnation || !p->bookings.counted,
                  "LoadDiesWithItsOwner: replica %u counts the dead life of %u", i, dead->index);
    }
}

struct counted {
    uint32_t requests[SIM_ROWS];
    uint64_t prefill_tokens[SIM_ROWS];
};

static void count_set(const struct sim *sim, const struct jr_bookings *bs, struct counted *c)
{
    JR_LIST_FOREACH (it, &bs->list) {
        const struct jr_booked *k = JR_CONTAINER_OF(it, struct jr_booked, node);
        SIM_CHECK(sim, k->member < SIM_ROWS, "more members than there are rows");
        c->requests[k->member]++;
        c->prefill_tokens[k->member] += k->b.prefill_tokens;
    }
}

/* What a worker is busy with is what we booked, and what the peers that are listed did. */
static void check_counted(const struct sim *sim, const struct sim_replica *r)
{
    const struct jr_pool *p = r->pool;
    struct counted c = {0};
    count_set(sim, &p->own, &c);
    for (uint32_t i = 0; i < p->replicas.n; i++)
        if (p->replicas.v[i]->listed)
            count_set(sim, &p->replicas.v[i]->bookings, &c);
    for (uint32_t m = 0; m < p->members.n && m < SIM_ROWS; m++) {
        struct jr_active_load load;
        jr_active_load(p->active, m, p->now_ms, 1, &load);
        SIM_CHECK(sim, load.requests == c.requests[m] && load.prefill_tokens == c.prefill_tokens[m],
                  "LoadIsCounted: replica %u counts %u requests and %llu tokens on worker %llu, "
                  "not %u and %llu",
                  r->index, load.requests, (unsigned long long)load.prefill_tokens,
                  (unsigned long long)p->members.v[m].worker_id, c.requests[m],
                  (unsigned long long)c.prefill_tokens[m]);
    }
    if (sim->steps % 64 == r->index)
        jr_active_check(p->active);
}

/* What is booked as ours is what our clients have on workers. */
static void check_own(const struct sim *sim, const struct sim_replica *r)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < SIM_REQUESTS; k++)
        n += r->requests[k].stage == SIM_RUNS;
    n += sim_outside_own(sim, r);
    SIM_CHECK(sim, n == r->pool->own.n, "TerminatesOnce: replica %u has %u requests and books %u",
              r->index, n, r->pool->own.n);
}

static struct sim_heard *heard_of(struct sim_replica *r, const char *id)
{
    for (uint32_t i = 0; i < r->n_heard; i++)
        if (strcmp(r->heard[i].id, id) == 0)
            return &r->heard[i];
    if (r->n_heard == sizeof r->heard / sizeof *r->heard)
        return NULL;
    struct sim_heard *h = &r->heard[r->n_heard++];
    *h = (struct sim_heard){0};
    (void)jr_str_copy(h->id, sizeof h->id, id);
    return h;
}

/* Does the batch follow what was heard before, so that nothing is missing? */
static bool hear(struct sim_heard *h, const struct jr_sync_batch *b)
{
    if (h->incarnation != b->incarnation) {
        h->incarnation = b->incarnation;
        h->number = 0;
        h->base = false;
    }
    bool follows = b->is_base || b->number <= h->number || b->number == h->number + 1;
    if (h->number == 0 && !b->is_base)
        follows = false; /* we may have come in the middle */
    if (b->is_base && b->part == 0)
        h->next_part = 0;
    if (b->is_base && b->part == h->next_part)
        h->base = h->base || ++h->next_part == b->parts;
    if (b->is_base ? b->part == 0
                   : b->number > h->number) /* of a later part the first may be too old */
        h->number = b->number;
    return follows;
}

bool sim_check_read(const struct sim *sim, const struct sim_replica *r,
                    const struct sim_sync_msg *m)
{
    bool reads = !r->sync_max || m->b.version <= r->sync_max;
    bool lists = m->lists >> r->index & 1 && r->started_ms < m->sent_ms;
    SIM_CHECK(sim, reads || !lists,
              "LoadIsShared: replica %u cannot read version %u of %s, who lists it", r->index,
              m->b.version, m->b.replica);
    return reads;
}

bool sim_check_hear(struct sim_replica *r, const struct sim_sync_msg *m)
{
    struct sim_heard *h = strcmp(m->b.replica, r->id) == 0 ? NULL : heard_of(r, m->b.replica);
    return h && hear(h, &m->b);
}

void sim_check_sync(struct sim *sim, const struct sim_replica *r, const struct sim_sync_msg *m)
{
    if (r->crashing || strcmp(m->b.replica, r->id) == 0)
        return;
    const struct jr_peer *p = jr_replicas_find(&r->pool->replicas, m->b.replica);
    if (!p || p->incarnation != m->b.incarnation || !p->base_read || p->wants || p->in_base ||
        p->last_number != m->b.number || !m->says_all || r->pool->n.bookings_expired)
        return;
    uint64_t live = 0;
    JR_LIST_FOREACH (it, &p->bookings.list)
        live += jr_mix64(JR_CONTAINER_OF(it, struct jr_booked, node)->b.request);
    SIM_CHECK(sim, p->bookings.n == m->n_live && live == m->live,
              "LoadIsShared: replica %u has %u requests of %s, which had %u", r->index,
              p->bookings.n, m->b.replica, m->n_live);
    sim->n.synced++;
}

/* ---------------------------------------------------------------- ready */

void sim_check_listed(struct sim_replica *r, const struct sim_op *round)
{
    r->n_listed = 0;
    for (uint32_t i = 0; i < round->n_replicas; i++) {
        const struct jr_replica_lease *l = &round->replicas[i];
        if (strcmp(l->id, r->id) == 0)
            continue;
        memcpy(r->listed[r->n_listed], l->id, sizeof l->id);
        r->listed_incarnation[r->n_listed++] = l->incarnation;
    }
}

/* By the server's clock that lease is, or is about to be: a replica may know already. So it is when a
 * later life has it by now, which the list was too old to show. */
static bool is_over(const struct sim *sim, const char *id, uint64_t incarnation)
{
    const struct sim_nats *n = &sim->nats;
    for (uint32_t i = 0; i < SIM_SEATS; i++)
        if (strcmp(n->replica_value[i].id, id) == 0)
            return n->replica_value[i].incarnation != incarnation ||
                   sim->now_ms - n->replica[i].written_ms + SIM_ROUND_MS >= SIM_TTL_MS;
    return true;
}

void sim_check_ready(struct sim *sim, struct sim_replica *r)
{
    bool degraded = jr_pool_recovery(r->pool) == JR_REC_DEGRADED;
    if (r->was_ready || degraded) {
        r->was_ready = true;
        return;
    }
    r->was_ready = true;
    SIM_CHECK(sim,
              jr_pool_recovery(r->pool) == JR_REC_READY && r->pool->state->seq >= r->start_last,
              "ReadyMeansCaughtUp: replica %u is ready at %llu of %llu", r->index,
              (unsigned long long)r->pool->state->seq, (unsigned long long)r->start_last);
    /* While NATS is slow a lease may be over by our clock before its renewal is seen. */
    bool slow = sim->now_ms < sim->nats.slow_until_ms + UINT64_C(4) * SIM_TTL_MS;
    for (uint32_t i = 0; i < r->n_listed && !slow; i++) {
        const struct sim_heard *h = heard_of(r, r->listed[i]);
        SIM_CHECK(sim,
                  !h || is_over(sim, r->listed[i], r->listed_incarnation[i]) ||
                      (h->base && h->incarnation == r->listed_incarnation[i]),
                  "ReadyMeansCaughtUp: replica %u is ready without the load of %s", r->index,
                  r->listed[i]);
    }
}

/* ---------------------------------------------------------------- nothing is forgotten */

bool sim_snapshot_fits(const struct sim *sim, int k)
{
    const struct sim_nats *n = &sim->nats;
    const struct jr_image *image = n->object[k];
    if (!image || n->object_void[k] || n->object_damaged[k] ||
        image->stream_created_ns != n->created_ns || image->seq + 1 < n->first_seq ||
        image->seq > n->n_log)
        return false;
    const struct jr_log_msg *m = image->seq ? &n->log[image->seq - 1].m : NULL;
    return !m || image->seq < n->first_seq ||
           (m->time_ns == image->msg_time_ns && m->payload_hash == image->msg_hash);
}

/* Whoever reads on, and holds a lease that the leader could know of, still finds its next one; and
 * the two recorded snapshots keep what follows them. */
void sim_check_purge(const struct sim *sim, uint64_t floor)
{
    const struct sim_nats *n = &sim->nats;
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        const struct sim_lease *l = &n->replica[r->seat];
        if (!r->pool || !sim_lease_live(sim, l) ||
            sim->now_ms - l->created_ms < UINT64_C(2) * SIM_TTL_MS || !r->reading ||
            r->pool->index_is_old || r->pool->stream_created_ns != n->created_ns ||
            sim->now_ms < n->slow_until_ms + UINT64_C(4) * SIM_TTL_MS)
            continue;
        SIM_CHECK(sim, r->pool->state->seq + 1 >= floor,
                  "NothingForgotten: purge to %llu passes replica %u at %llu",
                  (unsigned long long)floor, i, (unsigned long long)r->pool->state->seq);
    }
    const struct jr_snapshot_ref *refs[2] = {&n->record.newest, &n->record.previous};
    for (int i = 0; i < 2 && !sim->by_hand; i++)
        SIM_CHECK(sim, refs[i]->object[0] && refs[i]->seq + 1 >= floor,
                  "NothingForgotten: purge to %llu passes a verified snapshot at %llu",
                  (unsigned long long)floor, (unsigned long long)refs[i]->seq);
}

/* What is recorded is there, is what the log says, and newer than what was. */
void sim_check_record(const struct sim *sim, const struct jr_snapshots_record *record)
{
    const struct sim_nats *n = &sim->nats;
    const struct jr_snapshot_ref *ref = &record->newest, *was = &n->record.newest;
    int k = strcmp(ref->object, "snapshot-b") == 0;
    SIM_CHECK(sim, sim->by_hand || (n->object[k] && n->object[k]->seq == ref->seq),
              "LeaderIsFenced: a snapshot is recorded at %llu that is not there",
              (unsigned long long)ref->seq);
    SIM_CHECK(sim, sim->by_hand || !was->object[0] || ref->seq >= was->seq,
              "LeaderIsFenced: the record of snapshots goes back from %llu to %llu",
              (unsigned long long)was->seq, (unsigned long long)ref->seq);
    const struct sim_digest *d = sim_model_at(sim, ref->seq);
    SIM_CHECK(
        sim,
        sim->by_hand || !d || (d->blocks == ref->digest_blocks && d->table == ref->digest_table),
        "OneOrder: the snapshot at %llu is not what the log says", (unsigned long long)ref->seq);
}

/* ---------------------------------------------------------------- all of it */

static void check_replica(struct sim *sim, struct sim_replica *r)
{
    if (r->pool && r->diverged != r->pool->state)
        r->diverged = NULL;
    if (sim_comparable(sim, r) && !r->diverged) {
        check_digest(sim, r);
        check_scores(sim, r);
    }
    if (r->pool && !r->crashing) {
        check_own(sim, r);
        check_counted(sim, r);
    }
    if (r->pool && r->pool->rebuilding)
        sim->n.rebuilds++;
    SIM_CHECK(sim, !r->pool || !r->pool->rebuilding || sim->by_hand,
              "NothingForgotten: replica %u rebuilds although nobody took anything away", r->index);
    check_dead(sim, r);
}

void sim_check_step(struct sim *sim)
{
    sim_model_step(sim);
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        check_replica(sim, &sim->replicas[i]);
    sim_sessions_check(sim);
    sim_outside_check(sim);
    SIM_CHECK(sim,
              sim->by_hand || sim->nats.first_seq <= 1 || sim_snapshot_fits(sim, 0) ||
                  sim_snapshot_fits(sim, 1),
              "NothingForgotten: no replica could start from nothing");
}
