/* SPDX-License-Identifier: Apache-2.0 */
/* What we tell the peers of our live requests, and what they tell us. docs/protocol.md §6.
 *
 *     deltas ──► pending ── within 2 ms, an admission at once, progress within 20 ms ──► batches, numbered
 *                   │       (nobody listens: within 20 ms, an admission at once)
 *                   │ lost, or too many
 *                   ▼
 *     a base: who is live is noted, then told in parts, one at a time; deltas go on meanwhile
 *
 * Everything leaves in jr_pool_sync_tick, once a step: what an action names is not touched before
 * the next. */
#include "base/bug.h"
#include "base/limit.h"
#include "core/pool_internal.h"

#include <string.h>

#define PROGRESS_PATIENCE 10 /* times sync_flush_ms */
#define LONE_PATIENCE     10 /* likewise, while no peer is known: ADR 26 */
#define LONE_DELTAS       64 /* that wait for so long; an end looks through all */
#define DELTA_BYTES       96 /* encoded size of a delta without its hashes, generously */
#define BATCH_BYTES       (128 << 10)
#define PENDING_BYTES     (8 << 20) /* what waits at most; past it a base says it all */
#define BLOCKS_SENT_MAX   16384     /* of one prompt: a longer one counts less on the peers */
#define BASE_WAIT_MAX_MS  2000      /* between bases that cannot be published */
#define PART_EVERY_MS     1         /* 128 MB/s at most, and no step is long */
#define FAILURE_OLD_MS    30000

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
    a->u.sync.version = p->sync_version;
    a->u.sync.replica = p->config.replica_id;
    a->u.sync.incarnation = p->config.incarnation;
    p->n.sync_sent++;
    return &a->u.sync;
}

/* ---------------------------------------------------------------- deltas */

/* End of the batch or part that begins at `from`. */
static uint32_t batch_end(const struct jr_delta *v, uint32_t n, uint32_t from)
{
    size_t bytes = 0;
    uint32_t i = from;
    while (i < n && (i == from || bytes + delta_bytes(&v[i]) <= BATCH_BYTES))
        bytes += delta_bytes(&v[i++]);
    return i;
}

/* The array handed out lives until the next step: two buffers take turns. */
static void turn_buffers(struct jr_pool *p)
{
    struct jr_delta *v = p->sent.v;
    uint32_t cap = p->sent.cap;
    p->sent.v = p->pending.v;
    p->sent.cap = p->pending.cap;
    p->pending.v = v;
    p->pending.cap = cap;
    p->pending.n = 0;
    p->pending_bytes = 0;
}

/* All that is pending, or a question without any. */
static void flush(struct jr_pool *p)
{
    uint32_t from = 0;
    p->flush_at_ms = 0;
    if (p->pending.n == 0 && !p->want_base)
        return;
    if (p->urgent)
        p->admit_sent_at_ms = p->now_ms;
    p->urgent = false;
    do {
        uint32_t to = batch_end(p->pending.v, p->pending.n, from);
        struct jr_sync_batch *b = new_batch(p);
        if (!b) { /* out of memory */
            jr_pool_sync_lost(p);
            return;
        }
        b->number = ++p->batch_number;
        b->want_base = p->want_base;
        p->want_base = false;
        b->deltas = p->pending.v + from;
        b->n_deltas = to - from;
        from = to;
    } while (from < p->pending.n);
    turn_buffers(p);
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
            if (kept != i)
                p->pending.v[kept] = *d;
            kept++;
        } else {
            admitted = admitted || d->type == JR_DELTA_ADMIT;
            p->pending_bytes -= delta_bytes(d);
        }
    }
    p->pending.n = kept;
    return admitted;
}

/* By another admission than the one that is pending. */
static bool is_told(const struct jr_pool *p, uint64_t request)
{
    const struct jr_booked *k = jr_bookings_find(&p->own, request);
    return k && k->again;
}

/* A peer that comes is known by its first word or by its lease, and reads what was said before. */
static bool is_lone(const struct jr_pool *p)
{
    return p->replicas.n == 0;
}

static uint64_t flush_ms(const struct jr_pool *p)
{
    return p->config.sync_flush_ms * (is_lone(p) ? LONE_PATIENCE : 1);
}

/* An admission is what the peers are waiting for: it goes at once when none went just now, and
 * takes the others along. */
static void plan_flush(struct jr_pool *p, uint64_t delay_ms, bool urgent)
{
    uint64_t at = p->now_ms + delay_ms;
    if (urgent) {
        at = p->admit_sent_at_ms + flush_ms(p);
        at = at > p->now_ms ? at : p->now_ms;
    }
    if (!p->flush_at_ms || at < p->flush_at_ms)
        p->flush_at_ms = at;
    p->urgent = p->urgent || urgent;
}

void jr_pool_delta(struct jr_pool *p, enum jr_delta_type type, const struct jr_booking *b)
{
    if (type == JR_DELTA_DONE && forget_pending(p, b->request) && !is_told(p, b->request))
        return;
    if (!may_send(p) || p->sync_lost)
        return; /* the base that comes has it */
    struct jr_delta d = {.type = type, .b = *b};
    if (type != JR_DELTA_ADMIT) {
        d.b.n_blocks = 0;
        d.b.blocks = NULL;
    }
    if (d.b.n_blocks > BLOCKS_SENT_MAX)
        d.b.n_blocks = BLOCKS_SENT_MAX;
    if (p->pending_bytes + delta_bytes(&d) > PENDING_BYTES ||
        jr_limit_of(JR_LIMIT_SYNC_DELTAS,
                    jr_arr_reserve(&p->mem, &p->pending, 1, JR_SYNC_DELTAS_MAX)) < 0) {
        jr_pool_sync_lost(p);
        return;
    }
    p->pending.v[p->pending.n++] = d;
    p->pending_bytes += delta_bytes(&d);
    /* How far an answer is alone changes little, and there is much of it. */
    uint64_t delay_ms =
        type == JR_DELTA_PROGRESS ? p->config.sync_flush_ms * PROGRESS_PATIENCE : flush_ms(p);
    plan_flush(p, delay_ms, type == JR_DELTA_ADMIT);
    if (p->pending_bytes > BATCH_BYTES || (is_lone(p) && p->pending.n >= LONE_DELTAS))
        p->flush_at_ms = p->now_ms;
}

/* ---------------------------------------------------------------- bases */

/* Who is live now, cut into parts. Those who end before their part is told are left out of it;
 * those who come are told by deltas. */
static int begin_base(struct jr_pool *p)
{
    size_t bytes = 0;
    p->base_ids.n = p->base_ends.n = 0;
    int err = jr_arr_reserve(&p->mem, &p->base_ids, p->own.n, JR_REQUESTS_MAX);
    if (err == 0)
        err = jr_arr_reserve(&p->mem, &p->base_ends, p->own.n + 1, JR_REQUESTS_MAX + 1);
    if (err < 0)
        return err; /* tried again at the next step */
    JR_LIST_FOREACH (it, &p->own.list) {
        struct jr_delta d = {JR_DELTA_ADMIT, JR_CONTAINER_OF(it, struct jr_booked, node)->b};
        if (d.b.n_blocks > BLOCKS_SENT_MAX)
            d.b.n_blocks = BLOCKS_SENT_MAX;
        if (bytes > 0 && bytes + delta_bytes(&d) > BATCH_BYTES) {
            p->base_ends.v[p->base_ends.n++] = p->base_ids.n;
            bytes = 0;
        }
        bytes += delta_bytes(&d);
        p->base_ids.v[p->base_ids.n++] = d.b.request;
    }
    p->base_ends.v[p->base_ends.n++] = p->base_ids.n;
    /* What no delta told is only in this base: who misses it, too, sees a hole before the next. */
    if (p->sync_lost && p->life_told)
        p->batch_number++;
    p->life_told = true;
    p->base_number++;
    p->base_part = 0;
    p->base_includes = p->batch_number;
    p->basing = true;
    p->leaving = p->leaves;
    p->need_base = p->sync_lost = false;
    p->base_at_ms = p->now_ms;
    jr_pool_outside_based(p);
    return 0;
}

static int lay_out_part(struct jr_pool *p)
{
    uint32_t from = p->base_part ? p->base_ends.v[p->base_part - 1] : 0;
    uint32_t to = p->base_ends.v[p->base_part];
    p->base.n = 0;
    int err = jr_arr_reserve(&p->mem, &p->base, to - from, JR_REQUESTS_MAX);
    for (uint32_t i = from; err == 0 && i < to; i++) {
        const struct jr_booked *k = jr_bookings_find(&p->own, p->base_ids.v[i]);
        if (!k)
            continue;
        struct jr_delta *d = &p->base.v[p->base.n++];
        *d = (struct jr_delta){JR_DELTA_ADMIT, k->b};
        if (d->b.n_blocks > BLOCKS_SENT_MAX)
            d->b.n_blocks = BLOCKS_SENT_MAX;
    }
    return err;
}

static void send_part(struct jr_pool *p)
{
    struct jr_sync_batch *b = lay_out_part(p) == 0 ? new_batch(p) : NULL;
    if (!b)
        return; /* out of memory: tried again at the next step */
    b->is_base = true;
    b->base_number = p->base_number;
    b->part = p->base_part;
    b->parts = p->base_ends.n;
    b->number = p->base_includes;
    b->includes = JR_BUG(BASE_NO_NUMBER) ? 0 : p->base_includes;
    b->speed_factor = p->speed.estimated_s > 0 ? jr_speed_factor(&p->speed) : 0;
    b->speed_weight_ms = (uint64_t)(p->speed.estimated_s * 1000);
    b->want_base = p->want_base;
    p->want_base = false;
    b->deltas = p->base.v;
    b->n_deltas = p->base.n;
    p->base_part++;
    p->basing = p->base_part < p->base_ends.n;
    p->part_at_ms = p->now_ms + PART_EVERY_MS;
}

static uint64_t base_due_ms(const struct jr_pool *p)
{
    uint64_t asked_ms = p->base_at_ms + (p->sync_lost ? p->base_wait_ms : JR_POOL_WANT_BASE_MS);
    if (p->base_number == p->base_opened)
        return 0; /* the stream was opened: at once */
    return p->need_base || p->sync_lost ? asked_ms : p->base_at_ms + p->config.base_interval_ms;
}

void jr_pool_sync_lost(struct jr_pool *p)
{
    p->pending.n = 0;
    p->pending_bytes = 0;
    p->flush_at_ms = 0;
    p->basing = false;
    p->sync_lost = true;
}

void jr_pool_sync_leave(struct jr_pool *p)
{
    jr_pool_sync_lost(p);
    p->base_at_ms = 0;
    p->leaves = !JR_BUG(LEAVES_UNHEARD);
    p->leaving = p->leaves;
}

bool jr_pool_is_leaving(const struct jr_pool *p)
{
    return p->leaving && may_send(p);
}

/* Several batches of one outage fail one after the other: that is one failure. */
void jr_pool_on_sync_failed(struct jr_pool *p)
{
    p->n.sync_failed++;
    bool old = p->now_ms - p->sync_failed_at_ms > FAILURE_OLD_MS;
    if (!p->sync_lost) {
        p->base_wait_ms = old ? JR_POOL_WANT_BASE_MS : 2 * p->base_wait_ms;
        if (p->base_wait_ms > BASE_WAIT_MAX_MS)
            p->base_wait_ms = BASE_WAIT_MAX_MS;
        p->sync_failed_at_ms = p->now_ms;
    }
    jr_pool_sync_lost(p);
}

void jr_pool_on_sync_opened(struct jr_pool *p)
{
    jr_replicas_reopened(&p->replicas, p->now_ms);
    p->replicas.live = true;
    p->sync_open = true;
    p->want_base = true;
    p->want_wait_ms = p->base_wait_ms = JR_POOL_WANT_BASE_MS;
    jr_pool_sync_lost(p);
    p->base_opened = p->base_number;
}

/* ---------------------------------------------------------------- peers */

/* The newest version that we and all listed peers read. */
static uint32_t version_known(const struct jr_pool *p)
{
    uint32_t least = p->config.sync_max ? p->config.sync_max : JR_SYNC_VERSION;
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        uint32_t max = peer->lease.sync_max ? peer->lease.sync_max : 1;
        if (peer->has_lease && !peer->lease.sync_off && max < least && !JR_BUG(VERSION_OF_WRITER))
            least = max;
    }
    return least;
}

/* One that cannot read what we wrote so far came: it gets a base that it can. */
void jr_pool_sync_listed(struct jr_pool *p)
{
    uint32_t version = version_known(p);
    if (p->sync_version > version)
        p->need_base = true;
    p->sync_version = version;
}

/* Asked again until it comes, less and less often. */
static void ask(struct jr_pool *p)
{
    if (p->want_base || p->now_ms - p->want_base_at_ms < p->want_wait_ms)
        return;
    p->want_base = true;
    p->want_base_at_ms = p->now_ms;
    p->want_wait_ms *= 2;
    if (p->want_wait_ms > p->config.base_interval_ms)
        p->want_wait_ms = p->config.base_interval_ms;
    plan_flush(p, p->config.sync_flush_ms, false);
}

void jr_pool_sync_ask(struct jr_pool *p)
{
    if (!may_send(p))
        return;
    if (jr_replicas_want(&p->replicas))
        ask(p);
    else
        p->want_wait_ms = JR_POOL_WANT_BASE_MS;
}

int jr_pool_on_sync(struct jr_pool *p, const struct jr_sync_batch *batch)
{
    /* Our own come back when the stream is read from its start, a former life's among them. */
    if (!p->config.replica_sync || strcmp(batch->replica, p->config.replica_id) == 0)
        return 0;
    p->n.sync_received++;
    jr_pool_believe_batch(p, batch);
    jr_pool_outside_heard(p, batch);
    if (batch->want_base && p->replicas.live)
        p->need_base = true;
    bool want = false;
    int err = jr_replicas_apply(&p->replicas, batch, &p->speed, &want, p->now_ms);
    p->n.sync_gaps = p->replicas.gaps;
    p->n.sync_unknown = p->replicas.unknown;
    if (want && may_send(p))
        ask(p);
    return err;
}

/* ---------------------------------------------------------------- time */

/* 0: nothing to send, or the stream is not open, which no tick brings about. */
uint64_t jr_pool_sync_deadline_ms(const struct jr_pool *p)
{
    if (!may_send(p))
        return 0;
    uint64_t at = p->flush_at_ms;
    if (p->basing && (!at || p->part_at_ms < at))
        at = p->part_at_ms;
    return at;
}

void jr_pool_sync_tick(struct jr_pool *p)
{
    if (!may_send(p))
        return;
    bool base = !p->basing && p->now_ms >= base_due_ms(p);
    /* What is pending goes before the base that includes it. */
    if (p->flush_at_ms && (p->now_ms >= p->flush_at_ms || (base && p->pending.n)))
        flush(p);
    if (base && begin_base(p) < 0)
        return;
    if (base || (p->basing && p->now_ms >= p->part_at_ms))
        send_part(p);
    if (p->leaving && !p->basing &&
        !p->sync_lost) { /* behind the base, which takes them out of the stream */
        p->leaving = false;
        jr_pool_outside_leave(p);
        flush(p);
    }
}
