/* SPDX-License-Identifier: Apache-2.0 */
#include "core/blockmap.h"
#include "base/assert.h"
#include <string.h>

#define BUCKETS_MIN   5
#define STEPS_FROM    64 /* buckets: below it a table doubles, above it grows by two fifths */
#define TAKEN_AT_ONCE 4
#define SHRINK_AT     6 /* a table filled to less than one part in so many is made smaller */

/* Three quarters of the places: one block in ten is not at home then. */
static uint64_t room(uint64_t buckets)
{
    return buckets * JR_BLOCKMAP_WAYS * 3 / 4;
}

/* 5, 10, 20, 40, 80, 112, 160, 224, 320, …: 5 or 7 times a power of two. */
static uint64_t larger(uint64_t buckets)
{
    if (buckets < BUCKETS_MIN)
        return BUCKETS_MIN;
    if (buckets < STEPS_FROM)
        return buckets * 2;
    return buckets % 5 == 0 ? buckets / 5 * 7 : buckets / 7 * 10;
}

/* While the next table's memory is not ready a little more than that goes in. */
static uint64_t full(const struct jr_blockmap *m)
{
    return m->cur.n * JR_BLOCKMAP_WAYS * 13 / 16;
}

void jr_blockmap_free(struct jr_blockmap *m, struct jr_mem *mem)
{
    jr_mem_pages_free(mem, m->cur.v, m->cur.n * sizeof *m->cur.v);
    jr_mem_pages_free(mem, m->old.v, m->old.n * sizeof *m->old.v);
    jr_tablemem_free(&m->memory, mem);
    memset(m, 0, sizeof *m);
}

bool jr_blockmap_free_some(struct jr_blockmap *m, struct jr_mem *mem)
{
    struct jr_blockmap_table *t = m->cur.n > 0 ? &m->cur : &m->old;
    size_t left = t->n * sizeof *t->v;

    t->v = jr_tablemem_shorten(mem, t->v, &left);
    t->n = left / sizeof *t->v;
    t->swept = t->n; /* an image that is open has had all of it */
    if (m->cur.n > 0 || m->old.n > 0 || !jr_tablemem_free_some(&m->memory, mem))
        return false;
    memset(m, 0, sizeof *m);
    return true;
}

uint64_t jr_blockmap_bytes(const struct jr_blockmap *m)
{
    return (m->cur.n + m->old.n) * sizeof *m->cur.v + jr_tablemem_bytes(&m->memory);
}

static uint64_t hash_at(const struct jr_blockmap_bucket *b, uint32_t way)
{
    return b->low[way] | (uint64_t)b->high[way] << 32;
}

static inline uint64_t after(const struct jr_blockmap_table *t, uint64_t i)
{
    return i + 1 < t->n ? i + 1 : 0;
}

/* Count one up or down. A counter that was once at its most says "perhaps" for ever. */
static inline void pass(struct jr_blockmap_bucket *b, uint64_t hash, uint32_t one)
{
    uint32_t shift = jr_blockmap_counter(hash);

    if ((b->meta >> shift & JR_BLOCKMAP_SEVEN) != JR_BLOCKMAP_SEVEN)
        b->meta += one << shift;
}

static inline void table_insert(const struct jr_blockmap *m, struct jr_blockmap_table *t,
                                uint64_t hash, uint32_t slot)
{
    uint64_t i = jr_blockmap_home(hash, t->n);
    struct jr_blockmap_bucket *b = &t->v[i];
    uint32_t way;

    while ((b->meta & JR_BLOCKMAP_OCCUPIED) == JR_BLOCKMAP_OCCUPIED) {
        pass(b, hash, 1);
        b = &t->v[i = after(t, i)];
    }
    jr_blockmap_before(m, t, b);
    way = (uint32_t)__builtin_ctz(~b->meta);
    b->low[way] = (uint32_t)hash;
    b->high[way] = (uint32_t)(hash >> 32);
    b->slot[way] = slot;
    b->meta |= UINT32_C(1) << way;
}

static inline void table_erase(struct jr_blockmap_table *t, uint64_t at, uint32_t way)
{
    uint64_t hash = hash_at(&t->v[at], way), i = jr_blockmap_home(hash, t->n);

    for (; i != at; i = after(t, i))
        pass(&t->v[i], hash, UINT32_MAX);
    t->v[at].meta &= ~(UINT32_C(1) << way);
}

/* The number of buckets bounds a search in a table whose every bucket was once passed. */
static bool table_find(const struct jr_blockmap_table *t, uint64_t hash, struct jr_blockmap_at *ret)
{
    uint64_t i = t->n > 0 ? jr_blockmap_home(hash, t->n) : 0;

    for (uint64_t left = t->n; left > 0; left--, i = after(t, i)) {
        struct jr_blockmap_bucket *b = &t->v[i];
        if (jr_blockmap_look(b, hash, ret))
            return true;
        if (!jr_blockmap_passed(b, hash))
            return false;
    }
    return false;
}

bool jr_blockmap_find_slow(const struct jr_blockmap *m, uint64_t block_hash,
                           struct jr_blockmap_at *ret)
{
    ret->at_home = false;
    ret->bucket = NULL;
    return table_find(&m->cur, block_hash, ret) || table_find(&m->old, block_hash, ret);
}

static void take_over(struct jr_blockmap *m, struct jr_mem *mem, uint64_t buckets)
{
    for (; buckets > 0 && m->taken < m->old.n; buckets--, m->taken++) {
        struct jr_blockmap_bucket *b = &m->old.v[m->taken];
        jr_blockmap_before(m, &m->old, b);
        while ((b->meta & JR_BLOCKMAP_OCCUPIED) != 0) {
            uint32_t way = (uint32_t)__builtin_ctz(b->meta);
            table_insert(m, &m->cur, hash_at(b, way), b->slot[way]);
            table_erase(&m->old, m->taken, way);
        }
    }
    if (m->taken < m->old.n || m->old.n == 0)
        return;
    jr_tablemem_bury(&m->memory, mem, m->old.v, m->old.n * sizeof *m->old.v);
    m->old = (struct jr_blockmap_table){0};
}

/* ---- images ---------------------------------------------------------------------------------- */

static void table_freeze(struct jr_blockmap_table *t)
{
    t->phase ^= t->n > 0;
    t->swept = 0;
}

void jr_blockmap_freeze(struct jr_blockmap *m, const struct jr_blockmap_watch *watch)
{
    table_freeze(&m->cur);
    table_freeze(&m->old);
    m->watch = watch;
}

void jr_blockmap_thaw(struct jr_blockmap *m)
{
    JR_ASSERT(m->cur.swept == m->cur.n && m->old.swept == m->old.n);
    m->watch = NULL;
}

void jr_blockmap_save(const struct jr_blockmap *m, struct jr_blockmap_bucket *b)
{
    b->meta ^= UINT32_C(1) << JR_BLOCKMAP_SAVED;
    if (b->meta & JR_BLOCKMAP_OCCUPIED)
        m->watch->save(m->watch->ctx, m, b);
}

/* ---- size ------------------------------------------------------------------------------------ */

/* A step towards a table of so many buckets. */
static int resize(struct jr_blockmap *m, struct jr_mem *mem, uint64_t buckets)
{
    bool ready, now = m->n >= full(m) && m->n > 0;
    int rv = jr_tablemem_prepare(&m->memory, mem, buckets * sizeof *m->cur.v, now, &ready);

    if (rv < 0)
        return rv;
    if ((!ready || m->old.n > 0) && !now)
        return 0;
    if (m->old.n > 0)
        take_over(m, mem, m->old.n);
    m->old = m->cur;
    m->cur = (struct jr_blockmap_table){
        .v = jr_tablemem_take(&m->memory, mem), .n = buckets, .swept = buckets};
    m->room = room(buckets);
    m->taken = m->n == 0 ? m->old.n : 0;
    take_over(m, mem, 0);
    return 0;
}

int jr_blockmap_presize(struct jr_blockmap *m, struct jr_mem *mem, uint64_t blocks)
{
    uint64_t buckets = blocks / JR_BLOCKMAP_WAYS * 4 / 3 + 1, size = larger(0);
    int rv;

    if (m->cur.n > 0 || blocks == 0)
        return 0;
    while (size < buckets)
        size = larger(size);
    m->memory.calls = 0; /* a piece at every call */
    rv = resize(m, mem, size);
    return rv == 0 && m->cur.n == 0 ? JR_EAGAIN : rv;
}

int jr_blockmap_grow(struct jr_blockmap *m, struct jr_mem *mem)
{
    jr_tablemem_step(&m->memory, mem);
    if (m->old.n > 0)
        take_over(m, mem, TAKEN_AT_ONCE);
    if (m->n < m->room)
        return 0;
    return resize(m, mem, larger(m->cur.n));
}

void jr_blockmap_insert_slow(struct jr_blockmap *m, uint64_t block_hash, uint32_t slot)
{
    table_insert(m, &m->cur, block_hash, slot);
    m->n++;
}

void jr_blockmap_erase_slow(struct jr_blockmap *m, struct jr_blockmap_at at)
{
    struct jr_blockmap_table *t = &m->cur;

    if (at.bucket < t->v || at.bucket >= t->v + t->n)
        t = &m->old;
    table_erase(t, (uint64_t)(at.bucket - t->v), at.way);
    m->n--;
}

void jr_blockmap_shrink(struct jr_blockmap *m, struct jr_mem *mem)
{
    uint64_t buckets = m->cur.n / 4;

    jr_tablemem_step(&m->memory, mem);
    if (m->old.n > 0)
        take_over(m, mem, TAKEN_AT_ONCE);
    else if (buckets >= STEPS_FROM && m->n * SHRINK_AT < m->cur.n * JR_BLOCKMAP_WAYS)
        (void)resize(m, mem, buckets * 2);
}
