/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges around the real src/app/bridge/rank.c and lower.c: what these say is to be published goes
 * out here, is lost, comes late or comes twice; leases, polls and beginnings are as in the bridge. */
#include "sim_world.h"

#include "base/mem.h"
#include <string.h>

#define POLL_MS    150
#define INFO_EVERY 3    /* polls */
#define GRACE_MS   800  /* after a new incarnation reannounce.* is not about it */
#define LATE_MS    3000 /* what a bridge that is gone had sent comes at most so late */

static bool reaches(const struct sim *sim, const struct sim_worker *w)
{
    return !sim->nats.down && !w->partitioned;
}

bool sim_worker_answers(const struct sim *sim, uint32_t w, uint32_t replica)
{
    const struct sim_worker *wk = &sim->workers[w];
    return wk->up && !(sim->now_ms < wk->cut_until_ms && (wk->cut_from >> replica & 1));
}

uint32_t sim_worker_find(const struct sim *sim, uint64_t id)
{
    for (uint32_t w = 0; w < sim->c.workers; w++)
        if (sim->workers[w].id == id)
            return w;
    return SIM_WORKERS;
}

static void begin_all(struct sim *sim, uint32_t w, enum jr_begin_reason reason, bool forget)
{
    for (uint32_t k = 0; k < sim->c.ranks && !sim->mute; k++)
        jr_bridge_rank_begin(&sim->workers[w].ranks[k].bridge, reason, forget);
}

static void start_rank(const struct sim *sim, struct sim_rank *r,
                       const struct jr_bridge_rank_config *c)
{
    jr_bridge_rank_init(&r->bridge, c);
    r->flows[r->n_flows++].rank = &r->bridge;
    if (sim->c.lower)
        jr_bridge_lower_init(&r->lower, &r->bridge);
    for (int i = 0; sim->c.lower && i < JR_LOWERS; i++)
        r->flows[r->n_flows++].rank = &r->lower.rows[i];
    r->running = true;
}

void sim_worker_start(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    uint64_t lives = wk->lives + 1;
    /* Most come back under their name, some under another. */
    uint64_t id = wk->id && !sim_chance(sim, 4) ? wk->id : w + 1 + 100 * lives;
    *wk = (struct sim_worker){
        .up = true, .id = id, .lives = lives, .stream_created_ns = sim->nats.created_ns};
    for (uint32_t k = 0; k < sim->c.ranks; k++) {
        struct jr_bridge_rank_config c = {.worker_id = id,
                                          .dp_rank = k,
                                          .seed = {jr_rng_u64(&sim->rng), w},
                                          .events_max = sim->c.events_max,
                                          .batch_bytes = sim->c.batch_bytes,
                                          .retry_min_ms = 20,
                                          .retry_max_ms = 400};
        start_rank(sim, &wk->ranks[k], &c);
    }
    begin_all(sim, w, JR_BEGIN_START, false);
    sim_say(sim, "worker %llu starts", (unsigned long long)id);
}

static void land(struct sim *sim, struct sim_publish *p, bool dedupe)
{
    struct jr_log_msg m = {0};
    jr_arena_reset(&sim->arena);
    int err = jr_event_decode(sim->decoder, jr_str_of(JR_SUBJECT_BATCH, strlen(JR_SUBJECT_BATCH)),
                              p->bytes, p->n, NULL, &sim->arena, &m);
    SIM_CHECK(sim, err == 0 && m.kind == JR_LOG_KIND_BATCH, "a bridge's batch decodes to %d, %d",
              err, (int)m.kind);
    p->seq = sim_nats_publish(sim, &m, p->id, dedupe);
    p->landed = true;
    sim->n.begins += m.u.batch.begin;
}

static void drop_publish(struct sim_publish *p)
{
    jr_xfree(p->bytes);
    *p = (struct sim_publish){0};
}

/* It may be on its way still, and its bridge is gone. */
static void leave_behind(struct sim *sim, struct sim_publish *p)
{
    uint32_t n = sizeof sim->late / sizeof *sim->late;
    for (uint32_t i = 0; i < n && p->there && !p->landed && sim->faults && sim_chance(sim, 2); i++)
        if (!sim->late[i].there) {
            sim->late[i] = *p;
            sim->late[i].land_ms = sim->now_ms + sim_delay(sim, LATE_MS);
            *p = (struct sim_publish){0};
            return;
        }
    drop_publish(p);
}

void sim_late_step(struct sim *sim)
{
    for (uint32_t i = 0; i < sizeof sim->late / sizeof *sim->late; i++) {
        struct sim_publish *p = &sim->late[i];
        if (!p->there || sim->now_ms < p->land_ms)
            continue;
        if (!sim->nats.down && !sim_nats_full(sim)) {
            sim_say(sim, "a batch of a bridge that is gone comes late");
            land(sim, p, true);
        }
        drop_publish(p);
    }
}

static void stop_rank(struct sim *sim, struct sim_rank *r)
{
    if (!r->running)
        return;
    for (uint32_t i = 0; i < r->n_flows; i++) {
        leave_behind(sim, &r->flows[i].publish);
        drop_publish(&r->flows[i].refused);
    }
    if (sim->c.lower)
        jr_bridge_lower_deinit(&r->lower);
    jr_bridge_rank_deinit(&r->bridge);
    r->n_flows = 0;
    r->running = false;
    r->n = 0;
}

void sim_worker_stop(struct sim *sim, uint32_t w, bool removed)
{
    struct sim_worker *wk = &sim->workers[w];
    wk->up = false;
    for (uint32_t k = 0; k < SIM_RANKS; k++)
        stop_rank(sim, &wk->ranks[k]);
    if (removed && reaches(sim, wk) && wk->lease_revision) {
        sim->nats.worker[w].present = false;
        sim->nats.worker_removed[w] = true;
    }
}

void sim_workers_deinit(struct sim *sim)
{
    sim->faults = false; /* nothing comes late any more */
    for (uint32_t w = 0; w < sim->c.workers; w++)
        sim_worker_stop(sim, w, false);
    for (uint32_t i = 0; i < sizeof sim->late / sizeof *sim->late; i++)
        drop_publish(&sim->late[i]);
}

/* Its sequence goes backwards: the bridge begins anew, with nothing. */
void sim_worker_restart_engine(struct sim *sim, uint32_t w)
{
    for (uint32_t k = 0; k < sim->c.ranks; k++) {
        struct sim_rank *r = &sim->workers[w].ranks[k];
        r->n = 0;
        jr_bridge_rank_begin(&r->bridge, JR_BEGIN_RESTART, true);
        if (sim->c.lower)
            jr_bridge_lower_forget(&r->lower);
    }
}

/* ---------------------------------------------------------------- the bridge: publishing */

static uint64_t hash_text(const char *text)
{
    uint64_t h = 0;
    for (; *text; text++)
        h = jr_mix64(h + (unsigned char)*text);
    return h | 1;
}

static void send(struct sim *sim, struct sim_publish *p)
{
    p->there = true;
    p->landed = false;
    p->land_ms = sim->now_ms + sim_delay(sim, 30);
    p->done_ms = p->land_ms + sim_delay(sim, 30);
    p->lost = sim_fault(sim, SIM_F_LOSS);
    p->ack_lost = sim_fault(sim, SIM_F_LOSS);
}

static void next_batch(struct sim *sim, struct sim_flow *f)
{
    struct jr_bridge_out out;
    if (!jr_bridge_rank_next(f->rank, sim->now_ms, &out))
        return;
    f->publish = (struct sim_publish){
        .bytes = jr_xmemdup(out.p, out.n), .n = out.n, .id = hash_text(out.msg_id)};
    send(sim, &f->publish);
}

/* The mistake: the next goes out, and only then what was refused. */
static bool set_aside(struct sim_flow *f)
{
    if (!JR_BUG(LATER_BATCH_FIRST) || f->refused.bytes || f->publish.landed)
        return false;
    f->refused = f->publish;
    f->publish = (struct sim_publish){0};
    jr_bridge_rank_acked(f->rank, f->rank->acked_seq + 1);
    return true;
}

static void repeat_refused(struct sim *sim, const struct sim_worker *w, struct sim_flow *f)
{
    if (!f->refused.bytes || !reaches(sim, w) || sim_nats_full(sim))
        return;
    land(sim, &f->refused, false);
    drop_publish(&f->refused);
}

static void answered(struct sim *sim, const struct sim_worker *w, struct sim_flow *f)
{
    struct sim_publish *p = &f->publish;
    if (p->landed && !p->ack_lost && reaches(sim, w)) {
        jr_bridge_rank_acked(f->rank, p->seq);
        repeat_refused(sim, w, f);
    } else if (!set_aside(f)) {
        jr_bridge_rank_failed(f->rank, sim->now_ms);
    }
    drop_publish(&f->publish);
}

static void pump(struct sim *sim, const struct sim_worker *w, struct sim_flow *f)
{
    struct sim_publish *p = &f->publish;
    if (p->there && !p->landed && sim->now_ms >= p->land_ms && !p->lost && reaches(sim, w) &&
        !sim_nats_full(sim))
        /* Now and then the repetition comes when the window of deduplication is over. */
        land(sim, p, !sim_fault(sim, SIM_F_TWICE));
    if (p->there && sim->now_ms >= p->done_ms)
        answered(sim, w, f);
    if (!p->there)
        next_batch(sim, f);
}

/* ---------------------------------------------------------------- the bridge: its lease */

static bool all_announced(const struct sim *sim, const struct sim_worker *wk, bool whole)
{
    for (uint32_t k = 0; k < sim->c.ranks; k++) {
        const struct jr_bridge_rank *b = &wk->ranks[k].bridge;
        if (b->announced == 0 || (whole && jr_bridge_rank_beginning(b)))
            return false;
    }
    return true;
}

static void write_lease(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    struct sim_lease *l = &sim->nats.worker[w];
    struct jr_worker_lease *v = &sim->nats.worker_value[w];
    uint64_t before = v->ranks[0].incarnation;
    *v = (struct jr_worker_lease){
        .worker_id = wk->id, .block_size = 16, .n_ranks = sim->c.ranks, .max_batched_tokens = 64};
    snprintf(v->url, sizeof v->url, "http://w%u", w);
    for (uint32_t k = 0; k < sim->c.ranks; k++)
        jr_bridge_rank_lease(&wk->ranks[k].bridge, &v->ranks[k]);
    *l = (struct sim_lease){.present = true,
                            .revision = ++sim->nats.revision,
                            .written_ms = sim->now_ms,
                            .created_ms = l->created_ms};
    if (before != v->ranks[0].incarnation)
        wk->lease_new_at_ms = sim->now_ms;
    wk->lease_revision = l->revision;
    wk->lease_at_ms = sim->now_ms + SIM_TTL_MS / 3;
    sim->nats.worker_removed[w] = false;
}

/* By revision; one that is gone, or another's, is a new life. */
static void bridge_lease(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    const struct sim_lease *l = &sim->nats.worker[w];
    if (sim->now_ms < wk->lease_at_ms || !reaches(sim, wk) || sim_nats_full(sim) ||
        !all_announced(sim, wk, wk->lease_revision == 0))
        return;
    if (!wk->lease_revision || (sim_lease_live(sim, l) && l->revision == wk->lease_revision)) {
        write_lease(sim, w);
        return;
    }
    wk->lease_revision = 0;
    begin_all(sim, w, JR_BEGIN_LEASE, false);
    if (sim->mute)
        write_lease(sim, w);
}

/* ---------------------------------------------------------------- the bridge: what it looks at */

static void see_stream(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    if (wk->stream_created_ns == sim->nats.created_ns)
        return;
    wk->stream_created_ns = sim->nats.created_ns;
    for (uint32_t k = 0; k < sim->c.ranks; k++)
        for (uint32_t i = 0; i < wk->ranks[k].n_flows; i++)
            wk->ranks[k].flows[i].rank->acked_seq = 0; /* of the old one */
    begin_all(sim, w, JR_BEGIN_STREAM, false);
}

static void see_epoch(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    const struct jr_epoch *e = &sim->nats.epoch;
    bool differs = wk->has_epoch && (wk->epoch.n != e->n || wk->epoch.random != e->random);
    wk->has_epoch = true;
    wk->epoch = *e;
    if (differs)
        begin_all(sim, w, JR_BEGIN_EPOCH, false);
}

static void see_reannounce(struct sim *sim, uint32_t w, uint32_t k)
{
    struct sim_worker *wk = &sim->workers[w];
    if (!sim->nats.reannounce[w][k])
        return;
    sim->nats.reannounce[w][k] = false;
    if (sim->mute || jr_bridge_rank_beginning(&wk->ranks[k].bridge) ||
        sim->now_ms - wk->lease_new_at_ms < GRACE_MS)
        return;
    jr_bridge_rank_begin(&wk->ranks[k].bridge, JR_BEGIN_REANNOUNCE, false);
}

static void bridge_poll(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    if (sim->now_ms < wk->poll_at_ms || !reaches(sim, wk))
        return;
    wk->poll_at_ms = sim->now_ms + POLL_MS;
    if (sim->nats.has_epoch)
        see_epoch(sim, w);
    if (wk->polls++ % INFO_EVERY == 0)
        see_stream(sim, w);
    for (uint32_t k = 0; k < sim->c.ranks; k++)
        see_reannounce(sim, w, k);
}

void sim_worker_step(struct sim *sim, uint32_t w)
{
    struct sim_worker *wk = &sim->workers[w];
    if (!wk->up)
        return;
    bridge_poll(sim, w);
    for (uint32_t k = 0; k < sim->c.ranks; k++) {
        struct sim_rank *r = &wk->ranks[k];
        if (!sim->quiet && sim_chance(sim, 3))
            sim_engine_step(sim, r);
        for (uint32_t i = 0; i < r->n_flows; i++)
            pump(sim, wk, &r->flows[i]);
    }
    bridge_lease(sim, w);
}

bool sim_worker_settled(const struct sim *sim, uint32_t w)
{
    const struct sim_worker *wk = &sim->workers[w];
    for (uint32_t k = 0; k < sim->c.ranks; k++)
        for (uint32_t i = 0; i < wk->ranks[k].n_flows; i++)
            if (!jr_bridge_rank_idle(wk->ranks[k].flows[i].rank))
                return false;
    return wk->lease_revision != 0;
}
