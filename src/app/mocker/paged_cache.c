/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/paged_cache.h"
#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include <string.h>

struct block {
    uint64_t hash, prefix;
    uint32_t ref;
    uint32_t prev, next;           /* free queue, through sentinel 0; only while ref is 0 */
    uint32_t copy_prev, copy_next; /* ring of the copies of one hash, oldest first */
    bool cached;
};

struct log_buf {
    struct jr_cache_event *events;
    uint64_t *hashes;
    uint32_t *tokens;
    char *texts;
    uint32_t n_events, n_hashes, n_tokens, n_texts;
    uint32_t cap_events, cap_hashes, cap_tokens, cap_texts;
};

struct jr_paged_cache {
    struct jr_mem mem;
    struct jr_map by_hash; /* hash -> oldest copy */
    struct block *blocks;  /* [0] is the null block and the free queue's sentinel */
    uint32_t num_blocks;
    uint32_t block_size;
    uint32_t n_queue;
    uint32_t
        fresh; /* blocks from here on were never used: they stand before the queue, untouched */
    struct log_buf logs[2];
    unsigned turn;
};

static void queue_push(struct jr_paged_cache *c, uint32_t i)
{
    struct block *b = &c->blocks[i];
    b->prev = c->blocks[0].prev;
    b->next = 0;
    c->blocks[b->prev].next = i;
    c->blocks[0].prev = i;
    c->n_queue++;
}

static void queue_remove(struct jr_paged_cache *c, uint32_t i)
{
    struct block *b = &c->blocks[i];
    c->blocks[b->prev].next = b->next;
    c->blocks[b->next].prev = b->prev;
    c->n_queue--;
}

struct jr_paged_cache *jr_paged_cache_create(uint32_t num_blocks, uint32_t block_size)
{
    JR_ASSERT(num_blocks >= 2 && block_size > 0);
    struct jr_paged_cache *c = jr_xalloc(sizeof *c);
    jr_mem_init(&c->mem);
    jr_map_init(&c->by_hash, &c->mem);
    c->blocks = jr_xalloc((size_t)num_blocks * sizeof *c->blocks);
    c->num_blocks = num_blocks;
    c->block_size = block_size;
    c->fresh = 1;
    return c;
}

static void log_free(struct log_buf *l)
{
    jr_xfree(l->events);
    jr_xfree(l->hashes);
    jr_xfree(l->tokens);
    jr_xfree(l->texts);
}

void jr_paged_cache_destroy(struct jr_paged_cache *c)
{
    if (c == NULL)
        return;
    jr_map_deinit(&c->by_hash);
    jr_mem_deinit(&c->mem);
    jr_xfree(c->blocks);
    log_free(&c->logs[0]);
    log_free(&c->logs[1]);
    jr_xfree(c);
}

uint32_t jr_paged_cache_total(const struct jr_paged_cache *c)
{
    return c->num_blocks - 1;
}

uint32_t jr_paged_cache_free(const struct jr_paged_cache *c)
{
    return c->n_queue + (c->num_blocks - c->fresh);
}

uint32_t jr_paged_cache_find(const struct jr_paged_cache *c, uint64_t hash)
{
    uint64_t i;
    return jr_map_get(&c->by_hash, hash, &i) ? (uint32_t)i : 0;
}

uint32_t jr_paged_cache_copies(const struct jr_paged_cache *c, uint64_t hash)
{
    uint32_t first = jr_paged_cache_find(c, hash), n = 0;
    uint32_t i = first;
    while (i != 0) {
        n++;
        i = c->blocks[i].copy_next;
        if (i == first)
            break;
    }
    return n;
}

uint32_t jr_paged_cache_refs(const struct jr_paged_cache *c, uint32_t block)
{
    JR_ASSERT(block > 0 && block < c->num_blocks);
    return c->blocks[block].ref;
}

bool jr_paged_cache_hash_of(const struct jr_paged_cache *c, uint32_t block, uint64_t *ret)
{
    JR_ASSERT(block > 0 && block < c->num_blocks);
    if (c->blocks[block].cached)
        *ret = c->blocks[block].hash;
    return c->blocks[block].cached;
}

uint64_t jr_paged_cache_prefix_of(const struct jr_paged_cache *c, uint32_t block)
{
    JR_ASSERT(block > 0 && block < c->num_blocks && c->blocks[block].cached);
    return c->blocks[block].prefix;
}

uint32_t jr_paged_cache_free_order(const struct jr_paged_cache *c, uint32_t *ret, uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t i = c->fresh; i < c->num_blocks && n < cap; i++)
        ret[n++] = i;
    for (uint32_t i = c->blocks[0].next; i != 0 && n < cap; i = c->blocks[i].next)
        ret[n++] = i;
    return n;
}

/* ---- log ---------------------------------------------------------------- */

static void *grown(void *v, uint32_t *cap, uint32_t need, size_t elem)
{
    if (need <= *cap)
        return v;
    uint32_t to = *cap < 64 ? 64 : *cap;
    while (to < need)
        to *= 2;
    *cap = to;
    return jr_xrealloc(v, (size_t)to * elem);
}

static struct jr_cache_event *log_event(struct jr_paged_cache *c, enum jr_kv_type type)
{
    struct log_buf *l = &c->logs[c->turn];
    l->events = grown(l->events, &l->cap_events, l->n_events + 1, sizeof *l->events);
    struct jr_cache_event *e = &l->events[l->n_events++];
    memset(e, 0, sizeof *e);
    e->type = type;
    return e;
}

static void log_hashes(struct jr_paged_cache *c, struct jr_cache_event *e, const uint64_t *hashes,
                       uint32_t n)
{
    struct log_buf *l = &c->logs[c->turn];
    l->hashes = grown(l->hashes, &l->cap_hashes, l->n_hashes + n, sizeof *l->hashes);
    memcpy(l->hashes + l->n_hashes, hashes, n * sizeof *hashes);
    e->hash_at = l->n_hashes;
    e->n_hashes = n;
    l->n_hashes += n;
}

static uint32_t log_text(struct log_buf *l, const char *text, uint32_t n)
{
    uint32_t at = l->n_texts;
    l->texts = grown(l->texts, &l->cap_texts, at + n, 1);
    memcpy(l->texts + at, text, n);
    l->n_texts += n;
    return at;
}

static void log_stored(struct jr_paged_cache *c, const struct jr_cache_run *run)
{
    struct log_buf *l = &c->logs[c->turn];
    struct jr_cache_event *e = log_event(c, JR_KV_STORED);
    e->has_parent = run->has_parent;
    e->parent_hash = run->has_parent ? run->parent_hash : 0;
    log_hashes(c, e, run->hashes, run->n);
    uint32_t n = run->n * c->block_size;
    l->tokens = grown(l->tokens, &l->cap_tokens, l->n_tokens + n, sizeof *l->tokens);
    memcpy(l->tokens + l->n_tokens, run->tokens, n * sizeof *run->tokens);
    e->token_at = l->n_tokens;
    e->n_tokens = n;
    l->n_tokens += n;
    e->n_salt = run->has_parent ? 0 : run->n_salt;
    if (e->n_salt > 0)
        e->salt_at = log_text(l, run->salt, e->n_salt);
    e->n_lora = run->n_lora;
    if (e->n_lora > 0)
        e->lora_at = log_text(l, run->lora, e->n_lora);
}

void jr_paged_cache_take_log(struct jr_paged_cache *c, struct jr_cache_log *ret)
{
    struct log_buf *l = &c->logs[c->turn];
    *ret = (struct jr_cache_log){.events = l->events,
                                 .n_events = l->n_events,
                                 .hashes = l->hashes,
                                 .tokens = l->tokens,
                                 .texts = l->texts};
    c->turn ^= 1;
    l = &c->logs[c->turn];
    l->n_events = l->n_hashes = l->n_tokens = l->n_texts = 0;
}

/* ---- registering and evicting --------------------------------------------- */

static void copies_add(struct jr_paged_cache *c, uint32_t i, uint64_t hash, uint64_t prefix)
{
    struct block *b = &c->blocks[i];
    uint32_t first = jr_paged_cache_find(c, hash);
    JR_ASSERT(b->ref > 0 && !b->cached);
    b->hash = hash;
    b->prefix = prefix;
    b->cached = true;
    if (first == 0) {
        b->copy_prev = b->copy_next = i;
        int err = jr_map_put(&c->by_hash, hash, i);
        JR_ASSERT(err == 0);
        return;
    }
    struct block *f = &c->blocks[first];
    b->copy_prev = f->copy_prev;
    b->copy_next = first;
    c->blocks[f->copy_prev].copy_next = i;
    f->copy_prev = i;
}

static void copies_remove(struct jr_paged_cache *c, uint32_t i)
{
    struct block *b = &c->blocks[i];
    b->cached = false;
    if (b->copy_next == i) {
        (void)jr_map_del(&c->by_hash, b->hash, NULL);
        return;
    }
    c->blocks[b->copy_prev].copy_next = b->copy_next;
    c->blocks[b->copy_next].copy_prev = b->copy_prev;
    if (jr_paged_cache_find(c, b->hash) == i) {
        int err = jr_map_put(&c->by_hash, b->hash, b->copy_next);
        JR_ASSERT(err == 0);
    }
}

void jr_paged_cache_touch(struct jr_paged_cache *c, uint32_t block)
{
    JR_ASSERT(block > 0 && block < c->num_blocks);
    if (c->blocks[block].ref++ == 0)
        queue_remove(c, block);
}

uint32_t jr_paged_cache_take(struct jr_paged_cache *c)
{
    bool fresh = c->fresh < c->num_blocks;
    uint32_t i = fresh ? c->fresh++ : c->blocks[0].next;
    JR_ASSERT(i != 0);
    struct block *b = &c->blocks[i];
    if (!fresh)
        queue_remove(c, i);
    b->ref = 1;
    if (b->cached) {
        copies_remove(c, i);
        log_hashes(c, log_event(c, JR_KV_REMOVED), &b->hash, 1);
    }
    return i;
}

void jr_paged_cache_release(struct jr_paged_cache *c, uint32_t block)
{
    JR_ASSERT(block > 0 && block < c->num_blocks && c->blocks[block].ref > 0);
    if (--c->blocks[block].ref == 0)
        queue_push(c, block);
}

void jr_paged_cache_store(struct jr_paged_cache *c, const struct jr_cache_run *run)
{
    for (uint32_t i = 0; i < run->n; i++)
        copies_add(c, run->blocks[i], run->hashes[i], run->prefixes[i]);
    if (run->n > 0)
        log_stored(c, run);
}

bool jr_paged_cache_reset(struct jr_paged_cache *c)
{
    if (jr_paged_cache_free(c) != jr_paged_cache_total(c))
        return false;
    for (uint32_t i = 1; i < c->fresh; i++)
        c->blocks[i].cached = false;
    jr_map_clear(&c->by_hash);
    (void)log_event(c, JR_KV_CLEARED);
    return true;
}

/* ---- check ------------------------------------------------------------------ */

static const char *check_queue(const struct jr_paged_cache *c)
{
    uint32_t n = 0, prev = 0;
    for (uint32_t i = c->blocks[0].next; i != 0; i = c->blocks[i].next) {
        if (++n > c->num_blocks)
            return "free queue has a ring";
        if (c->blocks[i].ref != 0)
            return "held block in the free queue";
        if (c->blocks[i].prev != prev)
            return "free queue back link";
        prev = i;
    }
    return n == c->n_queue ? NULL : "free queue length";
}

const char *jr_paged_cache_check(const struct jr_paged_cache *c)
{
    const char *wrong = check_queue(c);
    if (wrong != NULL)
        return wrong;
    uint32_t held = 0, firsts = 0;
    for (uint32_t i = 1; i < c->fresh; i++) {
        const struct block *b = &c->blocks[i];
        held += b->ref > 0;
        if (!b->cached)
            continue;
        firsts += jr_paged_cache_find(c, b->hash) == i;
        if (c->blocks[b->copy_next].copy_prev != i || c->blocks[b->copy_next].hash != b->hash)
            return "ring of copies";
    }
    if (held + jr_paged_cache_free(c) != jr_paged_cache_total(c))
        return "free + held != total";
    return firsts == c->by_hash.n ? NULL : "hash without a block";
}
