/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/feed.h"

#include "base/limits.h"
#include "core/hash.h"
#include "wire/event_codec.h"

#include <string.h>

#define ARENA_MAX ((size_t)256 << 20)

void jr_bridge_feed_init(struct jr_bridge_feed *f, struct jr_bridge_rank *rank, uint32_t block_size)
{
    *f = (struct jr_bridge_feed){.rank = rank, .block_size = block_size};
    jr_arena_init(&f->arena, ARENA_MAX);
}

void jr_bridge_feed_deinit(struct jr_bridge_feed *f)
{
    jr_arena_deinit(&f->arena);
}

/* ---------------------------------------------------------------- events */

/* Objects of each block as ranges of the event's list, which is ordered by block. */
static struct jr_hash_mm *mm_of(struct jr_bridge_feed *f, const struct jr_engine_event *ev)
{
    struct jr_hash_mm *mm = jr_arena_array(&f->arena, ev->n_hashes, sizeof *mm);
    uint64_t *hashes = jr_arena_array(&f->arena, ev->n_mm, sizeof *hashes);
    if (!mm || !hashes)
        return NULL;
    memset(mm, 0, ev->n_hashes * sizeof *mm);
    for (uint32_t i = 0; i < ev->n_mm; i++) {
        uint32_t block = ev->mm[i].block;
        hashes[i] = ev->mm[i].hash;
        if (block >= ev->n_hashes)
            continue;
        if (mm[block].n == 0)
            mm[block].hashes = &hashes[i];
        mm[block].n++;
    }
    return mm;
}

/* Only the first block of a prompt says its cache salt; its descendants inherit it. */
static uint64_t salt_of(const struct jr_bridge_feed *f, const struct jr_engine_event *ev)
{
    if (ev->cache_salt.n > 0 || !ev->has_parent)
        return jr_hash_salt_part(ev->cache_salt);
    const struct jr_mirror_block *parent = jr_mirror_find(&f->rank->mirror, ev->parent);
    if (parent)
        return jr_mirror_salt_part(&f->rank->mirror, parent);
    const struct jr_mirror *any = f->lower ? &f->lower->rows[JR_LOWER_ANY].mirror : NULL;
    parent = any ? jr_mirror_find(any, ev->parent) : NULL;
    return parent ? jr_mirror_salt_part(any, parent) : 0;
}

static int hash_blocks(struct jr_bridge_feed *f, const struct jr_engine_event *ev,
                       uint64_t salt_part, uint64_t *local)
{
    struct jr_hash_salt salt = {.lora = ev->lora_name, .cache_salt_part = salt_part};
    uint32_t n_tokens = ev->n_hashes * ev->block_size, n;
    struct jr_hash_mm *mm = ev->n_mm ? mm_of(f, ev) : NULL;
    if (ev->n_mm && !mm)
        return JR_ENOMEM;
    return jr_hash_local_mm(&salt, ev->tokens, n_tokens, ev->block_size, mm, mm ? ev->n_hashes : 0,
                            local, &n);
}

/* A LoRA that is known by its number only has no name to hash. */
static bool may_index(const struct jr_bridge_feed *f, const struct jr_engine_event *ev)
{
    bool named = !ev->has_lora_id || ev->lora_name.n > 0;
    return ev->n_tokens > 0 && ev->block_size == f->block_size && !ev->opaque_extra && named &&
           (uint64_t)ev->n_hashes * ev->block_size <= ev->n_tokens;
}

static void apply_stored(struct jr_bridge_feed *f, const struct jr_engine_event *ev)
{
    uint64_t *local = jr_arena_array(&f->arena, ev->n_hashes, sizeof *local);
    struct jr_kv_block *blocks = jr_arena_array(&f->arena, ev->n_hashes, sizeof *blocks);
    uint64_t salt_part = salt_of(f, ev);
    if (!local || !blocks || hash_blocks(f, ev, salt_part, local) < 0) {
        f->counters.ignored++; /* not knowing a block is safe */
        return;
    }
    for (uint32_t i = 0; i < ev->n_hashes; i++)
        blocks[i] = (struct jr_kv_block){ev->hashes[i], local[i]};
    struct jr_kv_event stored = {.type = JR_KV_STORED,
                                 .has_parent = ev->has_parent,
                                 .parent_hash = ev->parent,
                                 .blocks = blocks,
                                 .n = ev->n_hashes};
    f->counters.stored++;
    if (jr_engine_is_device(ev->medium))
        jr_bridge_rank_store(f->rank, &stored, salt_part);
    if (f->lower)
        jr_bridge_lower_stored(f->lower, ev->medium, &stored, salt_part);
}

static void apply_removed(struct jr_bridge_feed *f, const struct jr_engine_event *ev)
{
    f->counters.removed++;
    if (jr_engine_is_device(ev->medium))
        jr_bridge_rank_remove(f->rank, ev->hashes, ev->n_hashes);
    if (f->lower)
        jr_bridge_lower_removed(f->lower, ev->medium, ev->hashes, ev->n_hashes);
}

static void clear(struct jr_bridge_feed *f)
{
    f->counters.cleared++;
    jr_bridge_rank_clear(f->rank);
    if (f->lower)
        jr_bridge_lower_clear(f->lower);
}

/* What was known is void. */
static void begin_anew(struct jr_bridge_feed *f, enum jr_begin_reason reason)
{
    jr_bridge_rank_begin(f->rank, reason, true);
    if (f->lower)
        jr_bridge_lower_forget(f->lower);
}

static void apply_event(struct jr_bridge_feed *f, const struct jr_engine_event *ev)
{
    bool main = jr_engine_event_is_main_group(ev, &f->group);
    if (ev->type == JR_ENGINE_CLEARED)
        clear(f);
    else if (!main || !(jr_engine_is_device(ev->medium) || f->lower))
        f->counters.ignored++;
    else if (ev->type == JR_ENGINE_REMOVED)
        apply_removed(f, ev);
    else if (may_index(f, ev))
        apply_stored(f, ev);
    else if (f->lower && ev->n_tokens == 0)
        jr_bridge_lower_known(f->lower, ev->medium, ev->hashes, ev->n_hashes);
    else
        f->counters.ignored++;
}

/* ---------------------------------------------------------------- messages */

static void remember(struct jr_bridge_feed *f, uint64_t hash)
{
    f->ring[f->next % JR_FEED_RING] = hash;
    f->next++;
}

static bool is_known(const struct jr_bridge_feed *f, uint64_t seq, uint64_t hash)
{
    return seq >= f->ring_from && f->next - seq <= JR_FEED_RING &&
           f->ring[seq % JR_FEED_RING] == hash;
}

static void apply(struct jr_bridge_feed *f, const void *payload, size_t n)
{
    struct jr_engine_batch batch;
    jr_arena_reset(&f->arena);
    remember(f, jr_event_payload_hash(payload, n));
    if (jr_engine_batch_decode(payload, n, &f->arena, &batch, NULL) < 0) {
        /* It may have told of removals: nothing that is held is certain any more. */
        f->counters.bad++;
        begin_anew(f, JR_BEGIN_GAP);
        return;
    }
    f->counters.msgs++;
    f->counters.bytes += n;
    f->counters.bad_events += batch.bad_events;
    f->counters.ignored += batch.ignored_events;
    if (batch.has_rank && batch.dp_rank != f->rank->config.dp_rank) {
        f->counters.other_rank++;
        return;
    }
    for (uint32_t i = 0; i < batch.n_events; i++)
        apply_event(f, &batch.events[i]);
}

static void reset(struct jr_bridge_feed *f, uint64_t next)
{
    f->next = f->ring_from = next;
    f->group = (struct jr_engine_group){0};
}

void jr_bridge_feed_restart(struct jr_bridge_feed *f)
{
    f->counters.restarts++;
    reset(f, 0);
    begin_anew(f, JR_BEGIN_RESTART);
}

void jr_bridge_feed_jump(struct jr_bridge_feed *f, uint64_t seq)
{
    /* Before anything was taken there is nothing to forget: the bridge started late. */
    bool first = f->next == 0 && f->rank->mirror.n == 0;
    reset(f, seq);
    if (first)
        return;
    f->counters.jumps++;
    begin_anew(f, JR_BEGIN_GAP);
}

enum jr_feed_verdict jr_bridge_feed_live(struct jr_bridge_feed *f, uint64_t seq,
                                         const void *payload, size_t n)
{
    if (seq < f->next) {
        if (is_known(f, seq, jr_event_payload_hash(payload, n))) {
            f->counters.repeated++;
            return JR_FEED_REPEATED;
        }
        jr_bridge_feed_restart(f);
    }
    if (seq > f->next) {
        f->counters.gaps++;
        return JR_FEED_GAP;
    }
    apply(f, payload, n);
    return JR_FEED_APPLIED;
}

uint64_t jr_bridge_feed_ask(const struct jr_bridge_feed *f)
{
    return f->next > f->ring_from ? f->next - 1 : f->next;
}

bool jr_bridge_feed_replayed(struct jr_bridge_feed *f, uint64_t seq, const void *payload, size_t n)
{
    uint64_t restarts = f->counters.restarts;
    if (jr_bridge_feed_live(f, seq, payload, n) != JR_FEED_GAP)
        return false;
    if (f->counters.restarts != restarts)
        return true;
    /* The engine has no more what is missing, or cannot show the proof. */
    jr_bridge_feed_jump(f, seq);
    (void)jr_bridge_feed_live(f, seq, payload, n);
    return false;
}

void jr_bridge_feed_replayed_nothing(struct jr_bridge_feed *f)
{
    if (f->next > f->ring_from)
        jr_bridge_feed_restart(f);
}
