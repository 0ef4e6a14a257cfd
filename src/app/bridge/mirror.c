/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/mirror.h"

#include "base/assert.h"
#include "base/map.h"

#include <string.h>

#define PLACES_MAX (UINT32_C(1) << 30)
#define NONE       UINT32_MAX
#define AHEAD      16 /* blocks of a run whose slots are fetched early */

_Static_assert(sizeof(struct jr_mirror_block) == 32, "memory of a mirrored block");

void jr_mirror_init(struct jr_mirror *m, uint32_t blocks_max)
{
    *m = (struct jr_mirror){.blocks_max = blocks_max ? blocks_max : PLACES_MAX};
}

void jr_mirror_deinit(struct jr_mirror *m)
{
    jr_xfree(m->blocks);
    jr_xfree(m->slots);
    jr_xfree(m->salts);
    *m = (struct jr_mirror){0};
}

size_t jr_mirror_bytes(const struct jr_mirror *m)
{
    return m->cap * sizeof *m->blocks + m->n_slots * sizeof *m->slots +
           m->n_salts * sizeof *m->salts;
}

/* ---------------------------------------------------------------- slots: hash to place */

/* 1 + the place never has the bits that the number of slots has no use for, as there are more slots than
 * places: there is a piece of the hash, so that others on the way are passed without a look at their
 * blocks, each of which would be a miss of the cache. */

static uint32_t home(const struct jr_mirror *m, uint64_t hash)
{
    return (uint32_t)jr_mix64(hash) & (m->n_slots - 1);
}

static uint32_t tag_of(const struct jr_mirror *m, uint64_t hash)
{
    return (uint32_t)(jr_mix64(hash) >> 32) & ~(m->n_slots - 1);
}

static uint32_t place_in(const struct jr_mirror *m, uint32_t slot)
{
    return (m->slots[slot] & (m->n_slots - 1)) - 1;
}

static void fill_slot(struct jr_mirror *m, uint32_t slot, uint64_t hash, uint32_t place)
{
    JR_DASSERT(place + 1 < m->n_slots);
    m->slots[slot] = tag_of(m, hash) | (place + 1);
}

/* The slot of the hash, or the empty one where it would be. */
static uint32_t slot_of(const struct jr_mirror *m, uint64_t hash)
{
    uint32_t s = home(m, hash), tag = tag_of(m, hash), mask = m->n_slots - 1;
    while (m->slots[s] && ((m->slots[s] & ~mask) != tag || m->blocks[place_in(m, s)].hash != hash))
        s = (s + 1) & mask;
    return s;
}

static uint32_t place_of(const struct jr_mirror *m, uint64_t hash)
{
    if (m->n_slots == 0)
        return NONE;
    uint32_t s = slot_of(m, hash);
    return m->slots[s] ? place_in(m, s) : NONE;
}

/* Room for one more; true: all slots are others now. */
static bool grow_slots(struct jr_mirror *m)
{
    if ((uint64_t)(m->n + 1) * 4 <= (uint64_t)m->n_slots * 3)
        return false;
    jr_xfree(m->slots);
    m->n_slots = m->n_slots ? 2 * m->n_slots : 64;
    m->slots = jr_xalloc((size_t)m->n_slots * sizeof *m->slots);
    for (uint32_t i = 0; i < m->n_places; i++)
        if (m->blocks[i].copies)
            fill_slot(m, slot_of(m, m->blocks[i].hash), m->blocks[i].hash, i);
    return true;
}

/* Backward shift: whatever would not be found any more behind the hole moves into it. */
static void empty_slot(struct jr_mirror *m, uint32_t hole)
{
    uint32_t mask = m->n_slots - 1;
    for (uint32_t s = (hole + 1) & mask; m->slots[s]; s = (s + 1) & mask) {
        uint32_t want = home(m, m->blocks[place_in(m, s)].hash);
        if (((s - want) & mask) < ((s - hole) & mask))
            continue;
        m->slots[hole] = m->slots[s];
        hole = s;
    }
    m->slots[hole] = 0;
}

/* ---------------------------------------------------------------- salts */

/* Few are live at once: one a tenant. Past a handful the search is what a store costs. */
static uint32_t take_salt(struct jr_mirror *m, uint64_t part)
{
    uint32_t unused = NONE;
    if (part == 0)
        return 0;
    for (uint32_t i = 0; i < m->n_salts; i++) {
        if (m->salts[i].refs && m->salts[i].part == part) {
            m->salts[i].refs++;
            return i + 1;
        }
        if (m->salts[i].refs == 0)
            unused = i;
    }
    if (unused == NONE) {
        uint32_t n = m->n_salts ? 2 * m->n_salts : 8;
        m->salts = jr_xrealloc(m->salts, n * sizeof *m->salts);
        memset(m->salts + m->n_salts, 0, (n - m->n_salts) * sizeof *m->salts);
        unused = m->n_salts;
        m->n_salts = n;
    }
    m->salts[unused] = (struct jr_mirror_salt){part, 1};
    return unused + 1;
}

static void give_salt(struct jr_mirror *m, uint32_t salt)
{
    if (salt)
        m->salts[salt - 1].refs--;
}

uint64_t jr_mirror_salt_part(const struct jr_mirror *m, const struct jr_mirror_block *block)
{
    return block->salt ? m->salts[block->salt - 1].part : 0;
}

/* ---------------------------------------------------------------- places */

static uint32_t take_place(struct jr_mirror *m)
{
    if (m->free_head) {
        uint32_t i = m->free_head - 1;
        m->free_head = m->blocks[i].salt;
        return i;
    }
    if (m->n_places == m->cap) {
        /* By an eighth: memory counts more than the copies, which the kernel mostly remaps. */
        m->cap += m->cap / 8 + 64;
        m->blocks = jr_xrealloc(m->blocks, (size_t)m->cap * sizeof *m->blocks);
    }
    return m->n_places++;
}

static void forget(struct jr_mirror *m, uint32_t place)
{
    struct jr_mirror_block *b = &m->blocks[place];
    empty_slot(m, slot_of(m, b->hash));
    give_salt(m, b->salt);
    b->copies = 0;
    b->salt = m->free_head & 0x7fffffff;
    m->free_head = place + 1;
    m->n--;
}

const struct jr_mirror_block *jr_mirror_find(const struct jr_mirror *m, uint64_t hash)
{
    uint32_t place = place_of(m, hash);
    return place == NONE ? NULL : &m->blocks[place];
}

/* ---------------------------------------------------------------- stores */

enum taken { TAKEN_NEW, TAKEN_HELD, TAKEN_REFUSED };

static void place_block(struct jr_mirror *m, uint32_t place, const struct jr_mirror_block *block)
{
    uint32_t copies = m->blocks[place].copies;
    give_salt(m, m->blocks[place].salt);
    m->blocks[place] = *block;
    m->blocks[place].copies = copies + 1;
}

/* slot: the empty one where it goes. */
static enum taken take_new(struct jr_mirror *m, const struct jr_mirror_block *block, uint32_t slot)
{
    if (m->n >= m->blocks_max) {
        give_salt(m, block->salt);
        return TAKEN_REFUSED;
    }
    if (grow_slots(m))
        slot = slot_of(m, block->hash);
    uint32_t place = take_place(m);
    m->blocks[place] = *block;
    m->blocks[place].copies = 1;
    fill_slot(m, slot, block->hash, place);
    m->n++;
    return TAKEN_NEW;
}

/* Takes the reference to the salt that block holds. */
static enum taken take_block(struct jr_mirror *m, const struct jr_mirror_block *block)
{
    uint32_t slot = m->n_slots ? slot_of(m, block->hash) : 0;
    if (m->n_slots == 0 || m->slots[slot] == 0)
        return take_new(m, block, slot);
    uint32_t place = place_in(m, slot);
    struct jr_mirror_block *held = &m->blocks[place];
    bool same = held->local == block->local && held->has_parent == block->has_parent &&
                (!held->has_parent || held->parent == block->parent);
    if (!same) {
        m->counters.moved++;
        place_block(m, place, block);
        held->copies -= m->plain_set;
        return TAKEN_NEW;
    }
    give_salt(m, block->salt);
    m->counters.copies_more++;
    held->copies += !m->plain_set && held->copies < UINT32_MAX;
    return TAKEN_HELD;
}

static void emit_run(struct jr_mirror *m, const struct jr_kv_event *stored, uint32_t from,
                     uint32_t to, jr_mirror_emit_fn *emit, void *ctx)
{
    if (from == to)
        return;
    struct jr_kv_event run = {
        .type = JR_KV_STORED, .blocks = stored->blocks + from, .n = to - from};
    run.has_parent = from > 0 || stored->has_parent;
    run.parent_hash = from > 0 ? stored->blocks[from - 1].block_hash : stored->parent_hash;
    m->counters.stored += run.n;
    emit(ctx, &run);
}

/* Where a hash goes is in no cache: it is asked for while others are placed. */
static void will_look(const struct jr_mirror *m, uint64_t hash)
{
    if (m->n_slots)
        __builtin_prefetch(&m->slots[home(m, hash)], 1);
}

void jr_mirror_store(struct jr_mirror *m, const struct jr_kv_event *stored, uint64_t salt_part,
                     jr_mirror_emit_fn *emit, void *ctx)
{
    JR_ASSERT(stored->type == JR_KV_STORED);
    if (stored->has_parent && !jr_mirror_find(m, stored->parent_hash)) {
        m->counters.unknown_parent += stored->n;
        return;
    }
    bool has_parent = stored->has_parent;
    uint64_t parent = stored->parent_hash;
    uint32_t run = 0, i = 0;
    for (uint32_t k = 0; k < AHEAD && k < stored->n; k++)
        will_look(m, stored->blocks[k].block_hash);
    for (; i < stored->n; i++) {
        const struct jr_kv_block *b = &stored->blocks[i];
        if (i + AHEAD < stored->n)
            will_look(m, stored->blocks[i + AHEAD].block_hash);
        if (has_parent && parent == b->block_hash)
            break; /* its own parent: nonsense, and so is what follows */
        struct jr_mirror_block block = {.hash = b->block_hash,
                                        .local = b->local_hash,
                                        .parent = has_parent ? parent : 0,
                                        .has_parent = has_parent,
                                        .salt = take_salt(m, salt_part) & 0x7fffffff};
        enum taken taken = take_block(m, &block);
        if (taken == TAKEN_REFUSED)
            break; /* and the rest, which would hang in the air */
        if (taken == TAKEN_HELD) {
            emit_run(m, stored, run, i, emit, ctx);
            run = i + 1;
        }
        has_parent = true;
        parent = b->block_hash;
    }
    m->counters.refused += stored->n - i;
    emit_run(m, stored, run, i, emit, ctx);
}

/* ---------------------------------------------------------------- removals */

/* Was it the last copy? */
static bool drop_copy(struct jr_mirror *m, uint64_t hash)
{
    uint32_t place = place_of(m, hash);
    if (place == NONE) {
        m->counters.unknown_removed++;
        return false;
    }
    if (m->blocks[place].copies > 1) {
        m->blocks[place].copies--;
        m->counters.copies_fewer++;
        return false;
    }
    forget(m, place);
    return true;
}

static void emit_removed(struct jr_mirror *m, const uint64_t *hashes, uint32_t n,
                         jr_mirror_emit_fn *emit, void *ctx)
{
    if (n == 0)
        return;
    struct jr_kv_event event = {.type = JR_KV_REMOVED, .hashes = hashes, .n = n};
    m->counters.removed += n;
    emit(ctx, &event);
}

void jr_mirror_remove(struct jr_mirror *m, const uint64_t *hashes, uint32_t n,
                      jr_mirror_emit_fn *emit, void *ctx)
{
    uint32_t run = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (drop_copy(m, hashes[i]))
            continue;
        emit_removed(m, hashes + run, i - run, emit, ctx);
        run = i + 1;
    }
    emit_removed(m, hashes + run, n - run, emit, ctx);
}

void jr_mirror_clear(struct jr_mirror *m, jr_mirror_emit_fn *emit, void *ctx)
{
    struct jr_mirror_counters counters = m->counters;
    uint32_t blocks_max = m->blocks_max;
    bool plain_set = m->plain_set;
    counters.removed += m->n;
    jr_mirror_deinit(m);
    jr_mirror_init(m, blocks_max);
    m->plain_set = plain_set;
    m->counters = counters;
    struct jr_kv_event event = {.type = JR_KV_CLEARED};
    emit(ctx, &event);
}

/* ---------------------------------------------------------------- listing */

/* Children of each place as linked lists, and the places at which runs are still to start. */
struct listing {
    uint32_t *child, *sibling; /* place, or NONE */
    uint32_t *starts;
    uint32_t n_starts;
    struct jr_kv_block *run;
    uint32_t n_listed;
};

#define LISTED (NONE - 1) /* in child: it was emitted */

static void link_children(const struct jr_mirror *m, struct listing *l)
{
    memset(l->child, 0xff, (size_t)m->n_places * sizeof *l->child);
    for (uint32_t i = 0; i < m->n_places; i++) {
        const struct jr_mirror_block *b = &m->blocks[i];
        if (b->copies == 0)
            continue;
        if (!b->has_parent) {
            l->starts[l->n_starts++] = i;
            continue;
        }
        uint32_t parent = place_of(m, b->parent);
        if (parent == NONE)
            continue;
        l->sibling[i] = l->child[parent];
        l->child[parent] = i;
    }
}

/* Follows first children from `start`; their siblings wait for a run of their own. */
static uint32_t take_run(const struct jr_mirror *m, struct listing *l, uint32_t start,
                         uint32_t run_max)
{
    uint32_t n = 0, at = start;
    for (;;) {
        uint32_t first = l->child[at];
        l->child[at] = LISTED;
        l->run[n++] = (struct jr_kv_block){m->blocks[at].hash, m->blocks[at].local};
        if (first == NONE)
            return n;
        for (uint32_t c = l->sibling[first]; c != NONE; c = l->sibling[c])
            l->starts[l->n_starts++] = c;
        if (n == run_max) {
            l->starts[l->n_starts++] = first;
            return n;
        }
        at = first;
    }
}

static void forget_unlisted(struct jr_mirror *m, const struct listing *l)
{
    if (l->n_listed == m->n)
        return;
    for (uint32_t i = 0; i < m->n_places; i++) {
        if (m->blocks[i].copies == 0 || l->child[i] == LISTED)
            continue;
        forget(m, i);
        m->counters.unreachable++;
    }
}

void jr_mirror_list(struct jr_mirror *m, uint32_t run_max, jr_mirror_emit_fn *emit, void *ctx)
{
    JR_ASSERT(run_max > 0);
    struct listing l = {0};
    size_t bytes = ((size_t)m->n_places + 1) * sizeof(uint32_t);
    l.child = jr_xalloc(bytes);
    l.sibling = jr_xalloc(bytes);
    l.starts = jr_xalloc(bytes);
    l.run = jr_xalloc(run_max * sizeof *l.run);
    memset(l.sibling, 0xff, bytes);
    link_children(m, &l);
    while (l.n_starts) {
        uint32_t start = l.starts[--l.n_starts];
        const struct jr_mirror_block *b = &m->blocks[start];
        struct jr_kv_event event = {.type = JR_KV_STORED, .blocks = l.run};
        event.has_parent = b->has_parent;
        event.parent_hash = b->has_parent ? b->parent : 0;
        event.n = take_run(m, &l, start, run_max);
        l.n_listed += event.n;
        emit(ctx, &event);
    }
    forget_unlisted(m, &l);
    jr_xfree(l.child);
    jr_xfree(l.sibling);
    jr_xfree(l.starts);
    jr_xfree(l.run);
}
