/* SPDX-License-Identifier: Apache-2.0 */
/* Engines and bridges: one unacknowledged batch a rank, repeated unchanged until it is
 * acknowledged; begin with the whole mirror whenever anything is in doubt. */
#include "sim_world.h"

#include "core/hash.h"
#include <string.h>

static bool reaches(const struct sim *sim, const struct sim_worker *w)
{
    return !sim->nats.down && !w->partitioned;
}

static void begin_due(struct sim_rank *r)
{
    r->begin_due = true;
    r->in_flight = false;
    r->n_gathered = 0;
}

void sim_worker_start(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    *wk = (struct sim_worker){
        .up = true, .stream_created_ns = sim->nats.created_ns, .epoch = sim->nats.epoch};
    for (uint32_t k = 0; k < SIM_RANKS; k++)
        begin_due(&wk->ranks[k]);
}

void sim_worker_stop(struct sim *sim, uint32_t w, bool removed)
{
    struct sim_worker *wk = &sim->workers[w];
    wk->up = false;
    for (uint32_t k = 0; k < SIM_RANKS; k++)
        wk->ranks[k].n = 0;
    if (removed && reaches(sim, wk)) {
        sim->nats.worker[w].present = false;
        sim->nats.worker_removed[w] = true;
    }
}

/* ---------------------------------------------------------------- the engine */

static void gather(struct sim_rank *r, enum jr_kv_type type, const struct sim_block *b)
{
    if (r->begin_due)
        return; /* the mirror will say it */
    uint32_t i = r->n_gathered;
    if (i == 8) { /* too much at once: say all anew */
        begin_due(r);
        return;
    }
    r->ga_blocks[i] = (struct jr_kv_block){b->hash, b->local};
    r->ga_hashes[i] = b->hash;
    r->gathered[i] = (struct jr_kv_event){
        .type = type, .has_parent = b->parent != 0, .parent_hash = b->parent, .n = 1};
    r->n_gathered++;
}

static bool has_child(const struct sim_rank *r, uint64_t hash)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->blocks[i].parent == hash)
            return true;
    return false;
}

static void engine_store(struct sim *sim, struct sim_rank *r)
{
    struct sim_block b = {.hash = jr_rng_u64(&sim->rng) | 1,
                          .local = 1 + jr_rng_below(&sim->rng, 4)};
    uint64_t prefix = 0;
    if (r->n && !sim_chance(sim, 4)) {
        const struct sim_block *parent = &r->blocks[jr_rng_below(&sim->rng, r->n)];
        b.parent = parent->hash;
        prefix = parent->prefix;
    }
    b.prefix = b.parent ? jr_hash_chain(prefix, b.local) : b.local;
    r->blocks[r->n++] = b;
    gather(r, JR_KV_STORED, &b);
}

static void engine_step(struct sim *sim, struct sim_rank *r)
{
    if (r->n < SIM_BLOCKS && !sim_chance(sim, 3)) {
        engine_store(sim, r);
    } else if (r->n && sim_chance(sim, 200)) {
        r->n = 0;
        gather(r, JR_KV_CLEARED, &(struct sim_block){0});
    } else if (r->n) {
        uint32_t i = jr_rng_below(&sim->rng, r->n);
        if (has_child(r, r->blocks[i].hash))
            return;
        gather(r, JR_KV_REMOVED, &r->blocks[i]);
        memmove(&r->blocks[i], &r->blocks[i + 1], (r->n - i - 1) * sizeof *r->blocks);
        r->n--;
    }
}

/* ---------------------------------------------------------------- the bridge */

static void fix_event(struct sim_rank *r, uint32_t i, const struct jr_kv_event *e,
                      struct jr_kv_block block, uint64_t hash)
{
    r->ev_blocks[i] = block;
    r->ev_hashes[i] = hash;
    r->events[i] = *e;
    r->events[i].blocks = &r->ev_blocks[i];
    r->events[i].hashes = &r->ev_hashes[i];
}

static void make_batch(struct sim *sim, uint32_t w, uint32_t k, struct sim_rank *r)
{
    uint32_t n = 0;
    if (r->begin_due) {
        r->incarnation = jr_rng_u64(&sim->rng) | 1;
        r->next_id = 1;
        r->acked_id = r->acked_seq = 0;
        for (; n < r->n; n++) {
            const struct sim_block *b = &r->blocks[n];
            struct jr_kv_event e = {.type = JR_KV_STORED,
                                    .has_parent = b->parent != 0,
                                    .parent_hash = b->parent,
                                    .n = 1};
            fix_event(r, n, &e, (struct jr_kv_block){b->hash, b->local}, b->hash);
        }
    } else {
        for (; n < r->n_gathered; n++)
            fix_event(r, n, &r->gathered[n], r->ga_blocks[n], r->ga_hashes[n]);
    }
    r->batch = (struct jr_log_msg){.kind = JR_LOG_KIND_BATCH};
    r->batch.u.batch = (struct jr_kv_batch){.worker_id = w + 1,
                                            .dp_rank = k,
                                            .incarnation = r->incarnation,
                                            .first_id = r->next_id,
                                            .begin = r->begin_due,
                                            .events = r->events,
                                            .n_events = n};
    if (r->begin_due)
        sim->n.begins++;
    r->begin_due = false;
    r->n_gathered = 0;
    r->next_id += n;
    r->in_flight = true;
    r->retry_ms = sim->now_ms;
}

static void bridge_send(struct sim *sim, uint32_t w, struct sim_rank *r)
{
    struct sim_worker *wk = &sim->workers[w];
    if (sim->now_ms < r->retry_ms)
        return;
    r->retry_ms = sim->now_ms + 200;
    if (!reaches(sim, wk) || (sim->faults && sim_chance(sim, 20)))
        return;
    /* Now and then the repetition comes when the window of deduplication is over. */
    const struct jr_kv_batch *b = &r->batch.u.batch;
    /* An empty begin has the first id of what follows: its message id must be another. */
    uint64_t id = jr_mix64(b->incarnation ^ (b->first_id << 1) ^ b->begin);
    uint64_t seq = sim_nats_publish(sim, &r->batch, id, !sim->faults || !sim_chance(sim, 4));
    if (sim->faults && sim_chance(sim, 15))
        return; /* the acknowledgement is lost */
    bool back = r->acked_seq != 0 && seq <= r->acked_seq;
    r->in_flight = false;
    r->acked_id = r->next_id - 1;
    r->acked_seq = seq;
    if (back && !b->begin)
        begin_due(r);
}

static void bridge_lease(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    struct sim_lease *l = &sim->nats.worker[w];
    if (sim->now_ms < wk->lease_at_ms || !reaches(sim, wk))
        return;
    wk->lease_at_ms = sim->now_ms + SIM_TTL_MS / 3;
    if (wk->lease_revision && !sim->mute &&
        (!sim_lease_live(sim, l) || l->revision != wk->lease_revision))
        for (uint32_t k = 0; k < SIM_RANKS; k++)
            begin_due(&wk->ranks[k]); /* a new life */
    struct jr_worker_lease *v = &sim->nats.worker_value[w];
    *v = (struct jr_worker_lease){.worker_id = w + 1, .block_size = 16, .n_ranks = SIM_RANKS};
    snprintf(v->url, sizeof v->url, "http://w%u", w);
    for (uint32_t k = 0; k < SIM_RANKS; k++) {
        const struct sim_rank *r = &wk->ranks[k];
        v->ranks[k] = (struct jr_rank_lease){k, r->incarnation, r->acked_id, r->acked_seq};
    }
    *l = (struct sim_lease){.present = true,
                            .revision = ++sim->nats.revision,
                            .written_ms = sim->now_ms,
                            .created_ms = l->created_ms};
    wk->lease_revision = l->revision;
    sim->nats.worker_removed[w] = false;
}

/* Another stream or another epoch: nothing that was said counts any more. */
static void bridge_watch(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    const struct sim_nats *n = &sim->nats;
    bool other = wk->stream_created_ns != n->created_ns || wk->epoch.n != n->epoch.n ||
                 wk->epoch.random != n->epoch.random;
    wk->stream_created_ns = n->created_ns;
    wk->epoch = n->epoch;
    for (uint32_t k = 0; k < SIM_RANKS; k++) {
        if (!sim->mute && (other || sim->nats.reannounce[w][k]))
            begin_due(&wk->ranks[k]);
        sim->nats.reannounce[w][k] = false;
    }
}

void sim_worker_step(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    if (!wk->up)
        return;
    if (reaches(sim, wk))
        bridge_watch(sim, w);
    for (uint32_t k = 0; k < SIM_RANKS; k++) {
        struct sim_rank *r = &wk->ranks[k];
        if (!sim->quiet && sim_chance(sim, 3))
            engine_step(sim, r);
        if (sim->faults && sim_chance(sim, 1500))
            r->next_id++; /* an event is lost between engine and bridge: a hole */
        if (!r->in_flight && (r->begin_due || r->n_gathered))
            make_batch(sim, w, k, r);
        if (r->in_flight)
            bridge_send(sim, w, r);
    }
    bridge_lease(sim, w);
}

bool sim_worker_settled(const struct sim *sim, uint32_t w)
{
    for (uint32_t k = 0; k < SIM_RANKS; k++) {
        const struct sim_rank *r = &sim->workers[w].ranks[k];
        if (r->begin_due || r->in_flight || r->n_gathered)
            return false;
    }
    return true;
}
