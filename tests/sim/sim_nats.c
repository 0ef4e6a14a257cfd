/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_world.h"

#include "base/map.h"
#include "base/mem.h"
#include <string.h>

void sim_nats_init(struct sim *sim)
{
    sim->nats.created_ns = SIM_UNIX_NS;
    sim->nats.first_seq = 1;
}

static void msg_free(struct jr_log_msg *m)
{
    if (m->kind == JR_LOG_KIND_CONTROL)
        jr_xfree((void *)(uintptr_t)m->u.control.ended);
    if (m->kind != JR_LOG_KIND_BATCH)
        return;
    for (uint32_t i = 0; i < m->u.batch.n_events; i++) {
        jr_xfree((void *)(uintptr_t)m->u.batch.events[i].blocks);
        jr_xfree((void *)(uintptr_t)m->u.batch.events[i].hashes);
    }
    jr_xfree((void *)(uintptr_t)m->u.batch.events);
}

void sim_nats_deinit(struct sim *sim)
{
    struct sim_nats *n = &sim->nats;
    for (uint64_t i = 0; i < n->n_log; i++)
        msg_free(&n->log[i].m);
    for (uint64_t i = 0; i < n->n_sync; i++)
        sim_batch_free(&n->sync[i].b);
    jr_xfree(n->log);
    jr_xfree(n->sync);
    jr_image_destroy(n->object[0]);
    jr_image_destroy(n->object[1]);
}

static void msg_copy(struct jr_log_msg *to, const struct jr_log_msg *from)
{
    *to = *from;
    if (from->kind == JR_LOG_KIND_CONTROL && from->u.control.n_ended)
        to->u.control.ended = jr_xmemdup(from->u.control.ended,
                                         from->u.control.n_ended * sizeof *from->u.control.ended);
    else if (from->kind == JR_LOG_KIND_CONTROL)
        to->u.control.ended = NULL;
    if (from->kind != JR_LOG_KIND_BATCH)
        return;
    const struct jr_kv_batch *b = &from->u.batch;
    struct jr_kv_event *events = jr_xalloc((b->n_events + 1) * sizeof *events);
    for (uint32_t i = 0; i < b->n_events; i++) {
        const struct jr_kv_event *e = &b->events[i];
        events[i] = *e;
        events[i].blocks =
            e->type == JR_KV_STORED ? jr_xmemdup(e->blocks, e->n * sizeof *e->blocks) : NULL;
        events[i].hashes =
            e->type == JR_KV_REMOVED ? jr_xmemdup(e->hashes, e->n * sizeof *e->hashes) : NULL;
    }
    to->u.batch.events = events;
}

/* What was purged is no last message any more. */
uint64_t sim_nats_last_control(const struct sim *sim)
{
    return sim->nats.last_control < sim->nats.first_seq ? 0 : sim->nats.last_control;
}

uint64_t sim_nats_last(const struct sim *sim)
{
    return sim->nats.n_log;
}

uint64_t sim_nats_publish(struct sim *sim, const struct jr_log_msg *m, uint64_t sent_id,
                          bool dedupe)
{
    struct sim_nats *n = &sim->nats;
    for (uint64_t i = n->n_log; dedupe && sent_id && i > 0 && i + 50 > n->n_log; i--)
        if (n->log[i - 1].sent_id == sent_id)
            return i;
    if (n->n_log == n->cap_log) {
        n->cap_log = n->cap_log ? 2 * n->cap_log : 64;
        n->log = jr_xrealloc(n->log, n->cap_log * sizeof *n->log);
    }
    struct sim_stored *s = &n->log[n->n_log++];
    msg_copy(&s->m, m);
    s->sent_id = sent_id;
    s->m.seq = n->n_log;
    s->m.time_ns = SIM_UNIX_NS + (int64_t)sim->now_ms * 1000000;
    s->m.payload_hash = jr_mix64(n->n_log ^ (uint64_t)n->created_ns ^ (n->branch << 32));
    s->m.on_control = m->kind == JR_LOG_KIND_CONTROL;
    if (s->m.on_control)
        n->last_control = n->n_log;
    sim->n.messages++;
    return n->n_log;
}

void sim_nats_purge(struct sim *sim, uint64_t floor)
{
    if (floor > sim->nats.first_seq)
        sim->nats.first_seq = floor;
}

static void cut_log(struct sim *sim, uint64_t last)
{
    struct sim_nats *n = &sim->nats;
    n->branch++;
    sim->by_hand = true;
    for (int k = 0; k < 2; k++)
        n->object_void[k] = n->object_void[k] || (n->object[k] && n->object[k]->seq > last);
    while (n->n_log > last)
        msg_free(&n->log[--n->n_log].m);
    if (n->last_control > last) /* the one before is now the last */
        for (n->last_control = last; n->last_control && !n->log[n->last_control - 1].m.on_control;)
            n->last_control--;
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        if (sim->replicas[i].start_last > last)
            sim->replicas[i].start_last = last;
    sim_model_cut(sim, last);
}

void sim_nats_recreate(struct sim *sim)
{
    struct sim_nats *n = &sim->nats;
    cut_log(sim, 0);
    n->first_seq = 1;
    n->created_ns = SIM_UNIX_NS + (int64_t)sim->now_ms * 1000000 + 1;
}

void sim_nats_rollback(struct sim *sim, uint64_t last)
{
    cut_log(sim, last);
    if (sim->nats.first_seq > last + 1)
        sim->nats.first_seq = last + 1;
}

void sim_nats_wipe(struct sim *sim)
{
    struct sim_nats *n = &sim->nats;
    sim_nats_recreate(sim);
    memset(n->worker, 0, sizeof n->worker);
    memset(n->replica, 0, sizeof n->replica);
    memset(n->worker_removed, 0, sizeof n->worker_removed);
    memset(n->reannounce, 0, sizeof n->reannounce);
    memset(n->object_revision, 0, sizeof n->object_revision);
    n->leader = (struct sim_lease){0};
    n->record = (struct jr_snapshots_record){0};
    n->record_revision = 0;
    n->has_epoch = false;
    n->epoch = (struct jr_epoch){0};
    sim_nats_forget(sim);
    sim_sessions_lose(sim);
    for (int k = 0; k < 2; k++) {
        jr_image_destroy(n->object[k]);
        n->object[k] = NULL;
        n->object_damaged[k] = false;
    }
}

void sim_nats_forget(struct sim *sim)
{
    struct sim_nats *n = &sim->nats;
    for (uint64_t i = 0; i < n->n_sync; i++)
        sim_batch_free(&n->sync[i].b);
    n->n_sync = 0;
    n->sync_seq = 0;
    n->boots++;
}

bool sim_nats_full(const struct sim *sim)
{
    return sim->now_ms < sim->nats.disk_full_until_ms;
}

/* ---------------------------------------------------------------- sync */

void sim_batch_copy(struct jr_sync_batch *to, const struct jr_sync_batch *from)
{
    *to = *from;
    struct jr_delta *deltas = jr_xalloc((from->n_deltas + 1) * sizeof *deltas);
    for (uint32_t i = 0; i < from->n_deltas; i++) {
        const struct jr_delta *d = &from->deltas[i];
        deltas[i] = *d;
        deltas[i].b.blocks =
            d->b.n_blocks ? jr_xmemdup(d->b.blocks, d->b.n_blocks * sizeof *d->b.blocks) : NULL;
    }
    to->deltas = deltas;
    to->replica = jr_xstrdup(from->replica);
}

void sim_batch_free(struct jr_sync_batch *b)
{
    for (uint32_t i = 0; i < b->n_deltas; i++)
        jr_xfree((void *)(uintptr_t)b->deltas[i].b.blocks);
    jr_xfree((void *)(uintptr_t)b->deltas);
    jr_xfree((void *)(uintptr_t)b->replica);
}

/* A base takes the place of what its sender said before. */
static void keep_sync(struct sim *sim, const char *sender, bool rollup)
{
    struct sim_nats *n = &sim->nats;
    uint64_t kept = 0;
    for (uint64_t i = 0; i < n->n_sync; i++) {
        struct sim_sync_msg *m = &n->sync[i];
        bool over = m->at_ms + SIM_SYNC_AGE < sim->now_ms;
        if (over || (rollup && strcmp(m->b.replica, sender) == 0))
            sim_batch_free(&m->b);
        else
            n->sync[kept++] = *m;
    }
    n->n_sync = kept;
}

void sim_nats_publish_sync(struct sim *sim, const struct sim_sync_msg *m)
{
    struct sim_nats *n = &sim->nats;
    keep_sync(sim, m->b.replica, m->b.is_base && m->b.part == 0);
    if (n->n_sync == n->cap_sync) {
        n->cap_sync = n->cap_sync ? 2 * n->cap_sync : 64;
        n->sync = jr_xrealloc(n->sync, n->cap_sync * sizeof *n->sync);
    }
    struct sim_sync_msg *to = &n->sync[n->n_sync++];
    *to = *m;
    to->seq = ++n->sync_seq;
    to->at_ms = sim->now_ms;
    sim_batch_copy(&to->b, &m->b);
}

/* ---------------------------------------------------------------- the rest */

bool sim_lease_live(const struct sim *sim, const struct sim_lease *l)
{
    return l->present && sim->now_ms - l->written_ms < SIM_TTL_MS;
}

struct jr_image *sim_image_copy(const struct jr_image *image)
{
    struct jr_image *copy = jr_image_create();
    *copy = *image;
    copy->ranks =
        image->n_ranks ? jr_xmemdup(image->ranks, image->n_ranks * sizeof *image->ranks) : NULL;
    copy->entries = image->n_entries ? jr_xmemdup(image->entries,
                                                  (size_t)image->n_entries * sizeof *image->entries)
                                     : NULL;
    return copy;
}
