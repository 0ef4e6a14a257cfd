/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/rank.h"

#include "base/assert.h"
#include "base/limits.h"
#include "wire/dynamo_json.h"
#include "wire/event_codec.h"

#include <stdio.h>
#include <string.h>

struct jr_bridge_event {
    enum jr_kv_type type;
    bool has_parent;
    uint64_t parent;
    uint32_t n; /* stored: 2 words each (hash, local); removed: 1 */
};

const char *jr_begin_reason_name(enum jr_begin_reason reason)
{
    static const char *const names[JR_BEGIN_REASONS] = {"start", "restart", "gap",   "reannounce",
                                                        "epoch", "stream",  "lease", "overflow"};
    return names[reason];
}

void jr_bridge_rank_init(struct jr_bridge_rank *r, const struct jr_bridge_rank_config *config)
{
    *r = (struct jr_bridge_rank){.config = *config};
    struct jr_bridge_rank_config *c = &r->config;
    c->events_max = c->events_max ? c->events_max : JR_BRIDGE_EVENTS_MAX;
    c->bytes_max = c->bytes_max ? c->bytes_max : JR_BRIDGE_BYTES_MAX;
    c->batch_bytes = c->batch_bytes ? c->batch_bytes : JR_BATCH_TARGET_BYTES;
    c->retry_min_ms = c->retry_min_ms ? c->retry_min_ms : 50;
    c->retry_max_ms = c->retry_max_ms ? c->retry_max_ms : 2000;
    jr_mirror_init(&r->mirror, c->blocks_max);
    jr_rng_init(&r->rng, c->seed[0], c->seed[1]);
    jr_buf_init(&r->out, JR_BATCH_BYTES_MAX);
}

void jr_bridge_rank_deinit(struct jr_bridge_rank *r)
{
    jr_mirror_deinit(&r->mirror);
    jr_buf_deinit(&r->out);
    jr_xfree(r->events);
    jr_xfree(r->words);
    *r = (struct jr_bridge_rank){0};
}

/* ---------------------------------------------------------------- gathering */

static uint32_t waiting(const struct jr_bridge_rank *r)
{
    return r->events_n - r->events_head;
}

static size_t words_of(const struct jr_bridge_event *e)
{
    return e->type == JR_KV_STORED ? 2 * (size_t)e->n : e->type == JR_KV_REMOVED ? e->n : 0;
}

static void drop_gathered(struct jr_bridge_rank *r)
{
    r->events_head = r->events_n = 0;
    r->words_head = r->words_n = 0;
    r->listed = 0;
    r->listed_words = 0;
}

/* Moves what waits to the front when half of the memory is used up, so growth is bounded by need. */
static void make_room(struct jr_bridge_rank *r, size_t words)
{
    if (r->events_head > r->events_n / 2) {
        memmove(r->events, r->events + r->events_head, waiting(r) * sizeof *r->events);
        memmove(r->words, r->words + r->words_head,
                (r->words_n - r->words_head) * sizeof(uint64_t));
        r->events_n -= r->events_head;
        r->words_n -= r->words_head;
        r->events_head = 0;
        r->words_head = 0;
    }
    if (r->events_n == r->events_cap) {
        r->events_cap = r->events_cap ? 2 * r->events_cap : 64;
        r->events = jr_xrealloc(r->events, r->events_cap * sizeof *r->events);
    }
    if (r->words_n + words > r->words_cap) {
        while (r->words_n + words > r->words_cap)
            r->words_cap = r->words_cap ? 2 * r->words_cap : 1024;
        r->words = jr_xrealloc(r->words, r->words_cap * sizeof *r->words);
    }
}

static void push(struct jr_bridge_rank *r, const struct jr_kv_event *event)
{
    struct jr_bridge_event e = {event->type, event->has_parent, event->parent_hash, event->n};
    size_t words = words_of(&e);
    make_room(r, words);
    if (event->type == JR_KV_STORED) {
        for (uint32_t i = 0; i < event->n; i++) {
            r->words[r->words_n++] = event->blocks[i].block_hash;
            r->words[r->words_n++] = event->blocks[i].local_hash;
        }
    } else if (words) {
        memcpy(r->words + r->words_n, event->hashes, words * sizeof *r->words);
        r->words_n += words;
    }
    r->events[r->events_n++] = e;
}

/* Events no larger than JR_BRIDGE_RUN_MAX blocks. */
static void push_pieces(struct jr_bridge_rank *r, const struct jr_kv_event *event)
{
    struct jr_kv_event piece = *event;
    uint32_t from = 0;
    do {
        piece.n = event->n - from;
        if (piece.n > JR_BRIDGE_RUN_MAX)
            piece.n = JR_BRIDGE_RUN_MAX;
        if (event->type == JR_KV_STORED) {
            piece.blocks = event->blocks + from;
            piece.has_parent = from > 0 || event->has_parent;
            piece.parent_hash = from > 0 ? event->blocks[from - 1].block_hash : event->parent_hash;
        } else if (event->type == JR_KV_REMOVED) {
            piece.hashes = event->hashes + from;
        }
        push(r, &piece);
        from += piece.n;
    } while (from < event->n);
}

static bool is_full(const struct jr_bridge_rank *r)
{
    /* What a begin lists is bounded by the mirror; only what comes behind it counts. */
    size_t words = r->words_n - r->words_head - r->listed_words;
    return waiting(r) - r->listed > r->config.events_max ||
           words * sizeof *r->words > r->config.bytes_max;
}

/* From the mirror. */
static void gather(void *ctx, const struct jr_kv_event *event)
{
    struct jr_bridge_rank *r = ctx;
    r->counters.events++;
    if (r->begin_due || r->incarnation == 0)
        return; /* the begin will list the mirror as it is then */
    push_pieces(r, event);
    if (is_full(r))
        jr_bridge_rank_begin(r, JR_BEGIN_OVERFLOW, false);
}

void jr_bridge_rank_store(struct jr_bridge_rank *r, const struct jr_kv_event *stored,
                          uint64_t salt_part)
{
    jr_mirror_store(&r->mirror, stored, salt_part, gather, r);
}

void jr_bridge_rank_remove(struct jr_bridge_rank *r, const uint64_t *hashes, uint32_t n)
{
    jr_mirror_remove(&r->mirror, hashes, n, gather, r);
}

void jr_bridge_rank_clear(struct jr_bridge_rank *r)
{
    jr_mirror_clear(&r->mirror, gather, r);
}

/* ---------------------------------------------------------------- beginning */

static void ignore(void *ctx, const struct jr_kv_event *event)
{
    (void)ctx;
    (void)event;
}

void jr_bridge_rank_begin(struct jr_bridge_rank *r, enum jr_begin_reason reason, bool forget)
{
    if (forget)
        jr_mirror_clear(&r->mirror, ignore, NULL);
    r->counters.dropped += waiting(r);
    drop_gathered(r);
    r->begin_due = true;
    r->mark_begin = false;
    r->reason = reason;
}

bool jr_bridge_rank_beginning(const struct jr_bridge_rank *r)
{
    return r->begin_due || r->incarnation == 0 || r->announced != r->incarnation;
}

static void list_one(void *ctx, const struct jr_kv_event *event)
{
    push_pieces(ctx, event);
}

/* Its ids start again; but for one that begins anew alone and keeps its leader's incarnation: with
 * its ids going on the log takes that for a begin, too. */
static void next_incarnation(struct jr_bridge_rank *r)
{
    uint64_t old = r->incarnation;
    if (r->leader)
        r->incarnation = r->leader->incarnation;
    else
        do
            r->incarnation = jr_rng_u64(&r->rng);
        while (r->incarnation == 0 || r->incarnation == old);
    if (r->incarnation != old)
        r->next_id = 1;
}

/* Is its leader's incarnation, if it has one, in the log? Before, its row would be one without a rank
 * to replicas, which end such a row with the worker's life before, and nobody would miss it. */
static bool may_begin(const struct jr_bridge_rank *r)
{
    return !r->leader || !jr_bridge_rank_beginning(r->leader);
}

static bool is_left_behind(const struct jr_bridge_rank *r)
{
    return r->leader && may_begin(r) && r->leader->incarnation != r->incarnation;
}

static void start_begin(struct jr_bridge_rank *r)
{
    static const struct jr_kv_event cleared = {.type = JR_KV_CLEARED};
    next_incarnation(r);
    r->begin_due = false;
    r->mark_begin = true;
    if (r->config.json) /* what tells Dynamo's readers that it begins anew */
        push(r, &cleared);
    jr_mirror_list(&r->mirror, JR_BRIDGE_RUN_MAX, list_one, r);
    /* A batch without an event would take no id, and the next would have the same Nats-Msg-Id. */
    if (waiting(r) == 0)
        push(r, &cleared);
    r->listed = waiting(r);
    r->listed_words = r->words_n - r->words_head;
    r->counters.begins[r->reason]++;
}

/* ---------------------------------------------------------------- batches */

static void event_of(const struct jr_bridge_event *e, const uint64_t *words,
                     struct jr_kv_event *ret)
{
    *ret = (struct jr_kv_event){
        .type = e->type, .has_parent = e->has_parent, .parent_hash = e->parent, .n = e->n};
    /* Pairs of words are blocks: the same two numbers in the same order. */
    _Static_assert(sizeof(struct jr_kv_block) == 2 * sizeof(uint64_t), "a block is two words");
    if (e->type == JR_KV_STORED)
        ret->blocks = (const struct jr_kv_block *)(const void *)words;
    else if (e->type == JR_KV_REMOVED)
        ret->hashes = words;
}

/* Does an event say no more than the one before it, whose words end at `end`, could have said, too? */
static bool goes_on(const struct jr_kv_event *sum, const struct jr_bridge_event *next,
                    const uint64_t *end)
{
    if (next->type != sum->type || sum->n + next->n > JR_BRIDGE_RUN_MAX)
        return false;
    if (sum->type == JR_KV_REMOVED)
        return true;
    return sum->type == JR_KV_STORED && sum->n > 0 && next->has_parent && next->parent == end[-2];
}

/* A message of JSON holds one event and waits for the acknowledgement of the one before it: what
 * waits and is one run, or one list of removals, becomes one event. Its words are in a row already.
 * Returns how many of the waiting events are in it. */
static uint32_t join(const struct jr_bridge_rank *r, struct jr_kv_event *ret)
{
    const struct jr_bridge_event *e = &r->events[r->events_head];
    const uint64_t *end = r->words + r->words_head + words_of(e);
    uint32_t n = 1;
    event_of(e, r->words + r->words_head, ret);
    for (; n < waiting(r) && goes_on(ret, &e[n], end); n++) {
        ret->n += e[n].n;
        end += words_of(&e[n]);
    }
    return n;
}

/* How many of the waiting events go into the next batch. */
static uint32_t fitting(const struct jr_bridge_rank *r)
{
    size_t bytes = JR_EVENT_BATCH_OVERHEAD;
    uint32_t n = 0;
    for (; n < waiting(r) && n < JR_BATCH_EVENTS_MAX; n++) {
        struct jr_kv_event size;
        event_of(&r->events[r->events_head + n], NULL, &size);
        bytes += jr_event_size_max(&size);
        if (n > 0 && bytes > r->config.batch_bytes)
            break;
    }
    return n;
}

static void make_batch(struct jr_bridge_rank *r)
{
    struct jr_kv_event joined;
    uint32_t n = r->config.json ? join(r, &joined) : fitting(r), ids = r->config.json ? 1 : n;
    struct jr_kv_event *events = jr_xalloc(n * sizeof *events);
    for (uint32_t i = 0; i < n; i++) {
        const struct jr_bridge_event *e = &r->events[r->events_head + i];
        event_of(e, r->words + r->words_head, &events[i]);
        r->words_head += words_of(e);
        if (i < r->listed)
            r->listed_words -= words_of(e);
    }
    if (r->config.json)
        events[0] = joined;
    struct jr_kv_batch batch = {.worker_id = r->config.worker_id,
                                .dp_rank = r->config.dp_rank,
                                .incarnation = r->incarnation,
                                .first_id = r->next_id,
                                .begin = r->mark_begin,
                                .events = events,
                                .n_events = ids};
    int err = r->config.json ? jr_dynamo_json_encode(&batch, 0, &r->out)
                             : jr_event_encode_batch(&batch, &r->out);
    jr_xfree(events);
    JR_ASSERT(err == 0 && r->out.n > 0); /* sizes were checked, jr_x memory */
    r->out_first_id = r->next_id;
    r->out_events = ids;
    r->out_begin = r->mark_begin;
    r->mark_begin = false;
    r->next_id += ids;
    r->events_head += n;
    r->listed -= r->listed < n ? r->listed : n;
    if (waiting(r) == 0)
        drop_gathered(r);
}

static void fill_headers(const struct jr_bridge_rank *r, struct jr_bridge_out *ret)
{
    snprintf(ret->incarnation, sizeof ret->incarnation, "%llu", (unsigned long long)r->incarnation);
    snprintf(ret->first_id, sizeof ret->first_id, "%llu", (unsigned long long)r->out_first_id);
    snprintf(ret->begin, sizeof ret->begin, "%s", r->out_begin ? "1" : "");
}

bool jr_bridge_rank_next(struct jr_bridge_rank *r, uint64_t now_ms, struct jr_bridge_out *ret)
{
    if (r->sending || now_ms < r->retry_at_ms)
        return false;
    if (r->out.n == 0) {
        if (is_left_behind(r))
            jr_bridge_rank_begin(r, r->leader->reason, false);
        if (r->begin_due && !may_begin(r))
            return false;
        if (r->begin_due)
            start_begin(r);
        if (r->incarnation == 0 || waiting(r) == 0)
            return false;
        make_batch(r);
        r->sent_once = false;
        r->counters.batches++;
        r->counters.batch_events += r->out_events;
    } else {
        r->counters.retries++;
    }
    /* The incarnation now is that of the bytes: a later begin waits for their end. */
    *ret = (struct jr_bridge_out){.p = r->out.p, .n = r->out.n, .again = r->sent_once};
    snprintf(ret->msg_id, sizeof ret->msg_id, "%llu-%u-%llu-%llu",
             (unsigned long long)r->config.worker_id, r->config.dp_rank,
             (unsigned long long)r->incarnation, (unsigned long long)r->out_first_id);
    if (r->config.json)
        fill_headers(r, ret);
    r->sending = true;
    r->sent_once = true;
    return true;
}

void jr_bridge_rank_acked(struct jr_bridge_rank *r, uint64_t seq)
{
    JR_ASSERT(r->sending && r->out.n > 0);
    bool back = r->acked_seq != 0 && seq <= r->acked_seq;
    r->sending = false;
    r->retry_ms = 0;
    r->retry_at_ms = 0;
    r->counters.acks++;
    r->acked_seq = seq;
    r->acked_id = r->out_first_id + r->out_events - 1;
    if (r->out_begin)
        r->announced = r->incarnation;
    /* Not the stream this incarnation began in. A begin that is the first there is all it needs. */
    if (back && !r->out_begin)
        jr_bridge_rank_begin(r, JR_BEGIN_STREAM, false);
    jr_buf_clear(&r->out);
}

void jr_bridge_rank_failed(struct jr_bridge_rank *r, uint64_t now_ms)
{
    JR_ASSERT(r->sending && r->out.n > 0);
    r->sending = false;
    uint32_t twice = r->retry_ms ? 2 * r->retry_ms : r->config.retry_min_ms;
    r->retry_ms = twice < r->config.retry_max_ms ? twice : r->config.retry_max_ms;
    r->retry_at_ms = now_ms + r->retry_ms;
}

uint64_t jr_bridge_rank_deadline_ms(const struct jr_bridge_rank *r)
{
    if (r->sending || jr_bridge_rank_idle(r))
        return UINT64_MAX;
    return r->retry_at_ms;
}

bool jr_bridge_rank_idle(const struct jr_bridge_rank *r)
{
    return r->out.n == 0 && !r->begin_due && waiting(r) == 0 && !is_left_behind(r);
}

uint32_t jr_bridge_rank_pending(const struct jr_bridge_rank *r)
{
    return waiting(r) + (r->out.n ? r->out_events : 0);
}

void jr_bridge_rank_lease(const struct jr_bridge_rank *r, struct jr_rank_lease *ret)
{
    *ret = (struct jr_rank_lease){.dp_rank = r->config.dp_rank,
                                  .incarnation = r->announced,
                                  .acked_id = r->acked_id,
                                  .acked_seq = r->acked_seq};
}
