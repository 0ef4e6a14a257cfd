/* SPDX-License-Identifier: Apache-2.0 */
/* What we tell the peers of our live requests, and what they tell us. docs/protocol.md §6. */
#include "core/pool_internal.h"

#include <string.h>

#define DELTA_BYTES     96 /* encoded size of a delta without its hashes, generously */
#define BATCH_BYTES     (128 << 10)
#define BLOCKS_SENT_MAX 16384 /* of one prompt: a longer one counts less on the peers */

static bool may_send(const struct jr_pool *p)
{
    return p->config.durable && p->config.replica_sync && p->sync_open;
}

static size_t delta_bytes(const struct jr_delta *d)
{
    return DELTA_BYTES + (size_t)d->b.n_blocks * sizeof(uint64_t);
}

static struct jr_sync_batch *new_batch(struct jr_pool *p)
{
    struct jr_action *a = jr_pool_act(p, JR_ACT_PUBLISH_SYNC);
    if (!a)
        return NULL;
    a->u.sync.replica = p->config.replica_id;
    a->u.sync.incarnation = p->config.incarnation;
    p->n.sync_sent++;
    return &a->u.sync;
}

/* The arrays handed out live until the next step: two buffers take turns. */
static void flush(struct jr_pool *p)
{
    p->flush_at_ms = 0;
    if (p->pending.n == 0)
        return;
    struct jr_sync_batch *b = new_batch(p);
    if (!b)
        return;
    b->number = ++p->batch_number;
    b->want_base = p->want_base;
    p->want_base = false;
    b->deltas = p->pending.v;
    b->n_deltas = p->pending.n;
    p->flushed = true;
    struct jr_delta *v = p->sent.v;
    uint32_t cap = p->sent.cap;
    p->sent.v = p->pending.v;
    p->sent.cap = p->pending.cap;
    p->pending.v = v;
    p->pending.cap = cap;
    p->pending.n = 0;
    p->pending_bytes = 0;
}

/* A request that was admitted and is over before the peers heard of it is not worth a word. Its
 * blocks are about to be freed, so nothing pending may point to them. The end of an earlier life of
 * the same request stays. */
static bool forget_pending(struct jr_pool *p, uint64_t request)
{
    bool admitted = false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->pending.n; i++) {
        struct jr_delta *d = &p->pending.v[i];
        if (d->b.request != request || d->type == JR_DELTA_DONE) {
            p->pending.v[kept++] = *d;
        } else {
            admitted = admitted || d->type == JR_DELTA_ADMIT;
            p->pending_bytes -= delta_bytes(d);
        }
    }
    p->pending.n = kept;
    return admitted;
}

void jr_pool_delta(struct jr_pool *p, enum jr_delta_type type, const struct jr_booking *b)
{
    if (type == JR_DELTA_DONE && forget_pending(p, b->request))
        return;
    if (!may_send(p) || p->need_base)
        return; /* the base that comes has it */
    struct jr_delta d = {.type = type, .b = *b};
    if (type != JR_DELTA_ADMIT) {
        d.b.n_blocks = 0;
        d.b.blocks = NULL;
    }
    if (d.b.n_blocks > BLOCKS_SENT_MAX)
        d.b.n_blocks = BLOCKS_SENT_MAX;
    if (p->pending_bytes + delta_bytes(&d) > BATCH_BYTES)
        flush(p);
    if (jr_arr_reserve(&p->mem, &p->pending, 1, JR_SYNC_DELTAS_MAX) < 0) {
        jr_pool_sync_lost(p);
        return;
    }
    p->pending.v[p->pending.n++] = d;
    p->pending_bytes += delta_bytes(&d);
    if (!p->flush_at_ms)
        p->flush_at_ms = p->now_ms + p->config.sync_flush_ms;
}

void jr_pool_sync_lost(struct jr_pool *p)
{
    p->pending.n = 0;
    p->pending_bytes = 0;
    p->flush_at_ms = 0;
    p->need_base = true;
}

void jr_pool_on_sync_opened(struct jr_pool *p)
{
    jr_replicas_reopened(&p->replicas);
    p->sync_open = true;
    p->want_base = true;
    jr_pool_sync_lost(p);
}

int jr_pool_on_sync(struct jr_pool *p, const struct jr_sync_batch *batch)
{
    /* Our own come back when the stream is read from its start, a former life's among them. */
    if (!p->config.replica_sync || strcmp(batch->replica, p->config.replica_id) == 0)
        return 0;
    p->n.sync_received++;
    jr_pool_believe_batch(p, batch);
    if (batch->want_base)
        p->need_base = true;
    bool want = false;
    int err = jr_replicas_apply(&p->replicas, batch, &p->speed, &want, p->now_ms);
    p->n.sync_gaps = p->replicas.gaps;
    if (want && p->now_ms - p->want_base_at_ms >= JR_POOL_WANT_BASE_MS) {
        p->want_base = true;
        p->want_base_at_ms = p->now_ms;
        if (!p->flush_at_ms)
            p->flush_at_ms = p->now_ms;
    }
    return err;
}

/* All our live requests, in parts. They are laid out in `sent`, whose turn it is to be free unless
 * this step flushed; pending deltas are dropped, being in the base. */
static int lay_out_base(struct jr_pool *p)
{
    p->sent.n = 0;
    int err = jr_arr_reserve(&p->mem, &p->sent, p->own.n, JR_REQUESTS_MAX);
    if (err < 0)
        return err;
    JR_LIST_FOREACH (it, &p->own.list) {
        struct jr_delta *d = &p->sent.v[p->sent.n++];
        *d = (struct jr_delta){JR_DELTA_ADMIT, JR_CONTAINER_OF(it, struct jr_booked, node)->b};
        if (d->b.n_blocks > BLOCKS_SENT_MAX)
            d->b.n_blocks = BLOCKS_SENT_MAX;
    }
    return 0;
}

/* End of the part that begins at `from`. */
static uint32_t part_end(const struct jr_pool *p, uint32_t from)
{
    size_t bytes = 0;
    uint32_t i = from;
    while (i < p->sent.n && (i == from || bytes + delta_bytes(&p->sent.v[i]) <= BATCH_BYTES))
        bytes += delta_bytes(&p->sent.v[i++]);
    return i;
}

static uint32_t count_parts(const struct jr_pool *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->sent.n; n++)
        i = part_end(p, i);
    return n ? n : 1;
}

static void send_base(struct jr_pool *p)
{
    p->pending.n = 0;
    p->pending_bytes = 0;
    p->flush_at_ms = 0;
    if (lay_out_base(p) < 0)
        return; /* tried again at the next tick */
    uint32_t parts = count_parts(p), from = 0;
    p->base_number++;
    for (uint32_t part = 0; part < parts; part++) {
        struct jr_sync_batch *b = new_batch(p);
        if (!b)
            return;
        uint32_t to = part_end(p, from);
        b->is_base = true;
        b->base_number = p->base_number;
        b->part = part;
        b->parts = parts;
        b->includes = p->batch_number;
        b->number = p->batch_number;
        b->speed_factor = p->speed.estimated_s > 0 ? jr_speed_factor(&p->speed) : 0;
        b->want_base = part == 0 && p->want_base;
        b->deltas = p->sent.v + from;
        b->n_deltas = to - from;
        from = to;
    }
    p->want_base = false;
    p->need_base = false;
    p->base_at_ms = p->now_ms;
}

/* A question to a peer may wait for the sync stream to be opened, which no tick brings about. */
uint64_t jr_pool_sync_deadline_ms(const struct jr_pool *p)
{
    return may_send(p) ? p->flush_at_ms : 0;
}

void jr_pool_sync_tick(struct jr_pool *p)
{
    if (!may_send(p))
        return;
    bool due = p->now_ms - p->base_at_ms >= p->config.base_interval_ms;
    bool asked = p->need_base && p->now_ms - p->base_at_ms >= JR_POOL_WANT_BASE_MS;
    if (due || asked || p->base_number == 0) {
        if (!p->flushed) /* else at the next step */
            send_base(p);
        return;
    }
    if (p->flush_at_ms && p->now_ms >= p->flush_at_ms) {
        if (p->want_base && p->pending.n == 0)
            p->need_base = true; /* nothing else to carry the question */
        flush(p);
    }
}
