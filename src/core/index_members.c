/* SPDX-License-Identifier: Apache-2.0 */
/* index: its life, its members and columns, and what is done in slices. */
#include "base/limits.h"
#include "core/index_internal.h"
#include <string.h>

#define MEMBERS_MIN   64
#define CLEAR_AT_ONCE 2048  /* entries: below it a clear is not worth a column of its own */
#define BURY_FROM     16384 /* blocks: what fewer need is given back at once */
#define FREE_COST     1024  /* of a piece of a table or a segment, in entries */

int jr_index_create(struct jr_mem *mem, uint64_t entries_max, struct jr_index **ret)
{
    struct jr_index *idx = jr_mem_zalloc(mem, sizeof *idx);

    if (!idx)
        return JR_ENOMEM;
    idx->mem = mem;
    idx->entries_max = entries_max;
    idx->dying = JR_INDEX_NONE;
    jr_places_init(&idx->places, mem);
    jr_idset_init(&idx->sets, mem);
    *ret = idx;
    return 0;
}

/* ---- columns --------------------------------------------------------------------------------- */

static int columns_grow(struct jr_index *idx)
{
    uint32_t old = idx->columns_cap, cap = old > 0 ? old * 2 : MEMBERS_MIN;
    struct jr_column *columns;
    uint64_t *live;
    int rv;

    if (cap > JR_WORKERS_MAX)
        return JR_ELIMIT;
    rv = jr_idset_widen(&idx->sets, cap);
    if (rv < 0)
        return rv;
    columns = jr_mem_zalloc(idx->mem, cap * sizeof *columns);
    live = jr_mem_zalloc(idx->mem, cap / 64 * sizeof *live);
    if (!columns || !live) {
        jr_mem_free(idx->mem, columns, cap * sizeof *columns);
        jr_mem_free(idx->mem, live, cap / 64 * sizeof *live);
        return JR_ENOMEM;
    }
    if (old > 0) {
        memcpy(columns, idx->columns, old * sizeof *columns);
        memcpy(live, idx->live, old / 64 * sizeof *live);
    }
    jr_mem_free(idx->mem, idx->columns, old * sizeof *columns);
    jr_mem_free(idx->mem, idx->live, old / 64 * sizeof *live);
    idx->columns = columns;
    idx->live = live;
    idx->columns_cap = cap;
    return 0;
}

/* The lowest free column: low numbers make short sets. */
static int column_take(struct jr_index *idx, uint32_t member, uint64_t digest_seed, uint32_t *ret)
{
    uint32_t i = idx->columns_free;
    int rv;

    while (i < idx->columns_cap && idx->columns[i].state != JR_COLUMN_FREE)
        i++;
    if (i == idx->columns_cap) {
        rv = columns_grow(idx);
        if (rv < 0)
            return rv;
    }
    idx->columns_free = i + 1;
    idx->columns[i] =
        (struct jr_column){.state = JR_COLUMN_LIVE, .member = member, .digest_seed = digest_seed};
    jr_map_init(&idx->columns[i].copies, idx->mem);
    idx->live[i / 64] |= UINT64_C(1) << (i % 64);
    idx->shifted += i != member;
    *ret = i;
    return 0;
}

static void column_retire(struct jr_index *idx, uint32_t i)
{
    idx->live[i / 64] &= ~(UINT64_C(1) << (i % 64));
    idx->shifted -= i != idx->columns[i].member;
}

static void column_give(struct jr_index *idx, uint32_t i)
{
    idx->columns[i].state = JR_COLUMN_FREE;
    if (i < idx->columns_free)
        idx->columns_free = i;
}

static void column_free_memory(struct jr_index *idx, struct jr_column *c)
{
    jr_map_deinit(&c->copies);
    jr_map_init(&c->copies, idx->mem);
    jr_blockmap_free(&c->blocks, idx->mem);
    c->drained = 0;
    c->is_empty = false;
    c->digest = 0;
}

/* Takes up to *budget blocks of a column out of their sets; true when that was the last. */
static bool column_drain(struct jr_index *idx, uint32_t id, uint64_t *budget)
{
    struct jr_column *c = &idx->columns[id];
    uint64_t end = jr_blockmap_end(&c->blocks), hash;
    uint32_t slot, ahead;

    for (; c->drained<end && * budget> 0; c->drained++, --*budget) {
        if (c->drained + 32 < end && jr_blockmap_at(&c->blocks, c->drained + 32, &hash, &ahead))
            __builtin_prefetch(jr_places_at(&idx->places, ahead), 1);
        if (jr_blockmap_at(&c->blocks, c->drained, &hash, &slot))
            jr_index_leave(idx, c, slot);
    }
    return c->drained == end;
}

/* ---- clear and reset ------------------------------------------------------------------------- */

static void clear_now(struct jr_index *idx, struct jr_column *c)
{
    uint64_t budget = UINT64_MAX;
    bool done = jr_index_image_sweep(idx, c, &budget) &&
                column_drain(idx, (uint32_t)(c - idx->columns), &budget);

    JR_ASSERT(done);
    column_free_memory(idx, c);
}

void jr_index_clear(struct jr_index *idx, uint32_t member)
{
    struct jr_column *c = jr_index_column(idx, member);
    uint32_t old = idx->members[member].column, id;

    idx->entries -= c->blocks.n;
    idx->digest -= c->digest;
    if (jr_blockmap_end(&c->blocks) <= CLEAR_AT_ONCE ||
        column_take(idx, member, c->digest_seed, &id) < 0) {
        clear_now(idx, c);
        return;
    }
    c = &idx->columns[old];
    column_retire(idx, old);
    c->state = JR_COLUMN_DYING;
    c->next_dying = idx->dying;
    idx->dying = old;
    idx->members[member].column = id;
}

/* Once its blocks are out of the sets a dying column costs nothing but its table. */
static void work_on_dying(struct jr_index *idx, uint64_t *budget)
{
    uint32_t id = idx->dying;
    struct jr_column *c = &idx->columns[id];

    if (!c->is_empty && (!jr_index_image_sweep(idx, c, budget) || !column_drain(idx, id, budget)))
        return;
    c->is_empty = true;
    *budget -= *budget < FREE_COST ? *budget : FREE_COST;
    if (!jr_blockmap_free_some(&c->blocks, idx->mem))
        return;
    idx->dying = c->next_dying;
    column_free_memory(idx, c);
    column_give(idx, id);
}

static void tomb_free(struct jr_index *idx, struct jr_index_tomb *t)
{
    jr_mem_free(idx->mem, t->maps, t->maps_n * sizeof *t->maps);
    jr_mem_free(idx->mem, t, sizeof *t);
}

static void work_on_tomb(struct jr_index *idx, uint64_t *budget)
{
    struct jr_index_tomb *t = idx->tombs;

    *budget -= *budget < FREE_COST ? *budget : FREE_COST;
    if (t->freed < t->maps_n) {
        t->freed += jr_blockmap_free_some(&t->maps[t->freed], idx->mem);
        return;
    }
    if (!jr_places_deinit_some(&t->places))
        return;
    jr_idset_deinit(&t->sets);
    idx->tombs = t->next;
    tomb_free(idx, t);
}

bool jr_index_work(struct jr_index *idx, uint64_t budget)
{
    jr_index_image_shed(idx, &budget);
    while (budget > 0 && idx->dying != JR_INDEX_NONE)
        work_on_dying(idx, &budget);
    while (budget > 0 && idx->tombs)
        work_on_tomb(idx, &budget);
    return jr_index_work_is_left(idx);
}

bool jr_index_has_work(const struct jr_index *idx)
{
    return jr_index_work_is_left(idx);
}

/* Moves everything into a tomb, or, without memory for one, leaves it to the caller. */
static bool bury(struct jr_index *idx)
{
    struct jr_index_tomb *t = jr_mem_zalloc(idx->mem, sizeof *t);
    uint32_t n = idx->columns_cap;

    if (!t)
        return false;
    t->maps = jr_mem_alloc(idx->mem, n * sizeof *t->maps);
    t->maps_n = n;
    if (!t->maps) {
        jr_mem_free(idx->mem, t, sizeof *t);
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        t->maps[i] = idx->columns[i].blocks;
        memset(&idx->columns[i].blocks, 0, sizeof idx->columns[i].blocks);
    }
    t->places = idx->places;
    t->sets = idx->sets;
    t->next = idx->tombs;
    idx->tombs = t;
    jr_places_init(&idx->places, idx->mem);
    idx->sets.rows = NULL;
    idx->sets.cap = idx->sets.n = idx->sets.free_head = 0;
    return true;
}

void jr_index_reset(struct jr_index *idx)
{
    bool buried;

    jr_index_image_lose(idx);
    buried = idx->places.n >= BURY_FROM && bury(idx);
    for (uint32_t i = 0; i < idx->columns_cap; i++) {
        struct jr_column *c = &idx->columns[i];
        if (c->state == JR_COLUMN_FREE)
            continue;
        column_free_memory(idx, c);
        if (c->state == JR_COLUMN_DYING)
            column_give(idx, i);
    }
    if (!buried) {
        jr_places_deinit(&idx->places);
        jr_idset_deinit(&idx->sets);
    }
    idx->dying = JR_INDEX_NONE;
    idx->entries = 0;
    idx->digest = 0;
}

void jr_index_destroy(struct jr_index *idx)
{
    struct jr_index_tomb *t;

    if (!idx)
        return;
    jr_index_reset(idx);
    while ((t = idx->tombs) != NULL) {
        idx->tombs = t->next;
        while (t->freed < t->maps_n)
            jr_blockmap_free(&t->maps[t->freed++], idx->mem);
        jr_places_deinit(&t->places);
        jr_idset_deinit(&t->sets);
        tomb_free(idx, t);
    }
    jr_places_deinit(&idx->places);
    jr_mem_free(idx->mem, idx->columns, idx->columns_cap * sizeof *idx->columns);
    jr_mem_free(idx->mem, idx->live, idx->columns_cap / 64 * sizeof *idx->live);
    jr_mem_free(idx->mem, idx->members, idx->members_cap * sizeof *idx->members);
    jr_mem_free(idx->mem, idx, sizeof *idx);
}

/* ---- members --------------------------------------------------------------------------------- */

static int members_reserve(struct jr_index *idx, uint32_t member)
{
    uint32_t cap = idx->members_cap > 0 ? idx->members_cap : MEMBERS_MIN;
    struct jr_index_member *members;

    if (member < idx->members_cap)
        return 0;
    while (cap <= member)
        cap *= 2;
    members = jr_mem_zalloc(idx->mem, cap * sizeof *members);
    if (!members)
        return JR_ENOMEM;
    if (idx->members_cap > 0)
        memcpy(members, idx->members, idx->members_cap * sizeof *members);
    jr_mem_free(idx->mem, idx->members, idx->members_cap * sizeof *members);
    idx->members = members;
    idx->members_cap = cap;
    return 0;
}

int jr_index_add_member(struct jr_index *idx, uint32_t member, uint64_t worker_id, uint32_t dp_rank)
{
    uint64_t seed = jr_mix64(jr_mix64(worker_id + JR_INDEX_GOLDEN) + dp_rank + JR_INDEX_GOLDEN);
    uint32_t column;
    int rv;

    if (member >= JR_WORKERS_MAX)
        return JR_ELIMIT;
    rv = members_reserve(idx, member);
    if (rv < 0)
        return rv;
    if (idx->members[member].known)
        return JR_EEXIST;
    rv = column_take(idx, member, seed, &column);
    if (rv == JR_ELIMIT) { /* the rest are dying */
        (void)jr_index_work(idx, UINT64_MAX);
        rv = column_take(idx, member, seed, &column);
    }
    if (rv < 0)
        return rv;
    idx->members[member] = (struct jr_index_member){true, column};
    return 0;
}

void jr_index_drop_member(struct jr_index *idx, uint32_t member)
{
    struct jr_column *c = jr_index_column(idx, member);

    JR_ASSERT(c->blocks.n == 0);
    column_free_memory(idx, c);
    column_retire(idx, idx->members[member].column);
    column_give(idx, idx->members[member].column);
    idx->members[member].known = false;
}
