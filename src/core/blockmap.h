/* SPDX-License-Identifier: Apache-2.0 */
/* blockmap: the blocks of one member: the engine's block hash to a slot (core/places.h). Flat, open
 * addressing by buckets of one cache line; one thread.
 *
 *   bucket | hash 0..4, low and high halves | slot 0..4 | occupied: 5 bits, saved, passed: 8 counters of 3 bits |    64 bytes
 *
 * A hash goes into its home bucket or the next one with room; `passed` of a bucket counts the hashes
 * that went by it because it was full, apart by three bits of theirs. So a search ends at the first
 * bucket that none like it went by, which nearly always is its home, and removal leaves no tombstone
 * and moves nothing.
 *
 * Growth is spread: the memory of a larger table is touched, then it stands beside the old one and
 * each further insertion takes some buckets over; both are asked meanwhile.
 *
 * What the map held at one moment can be copied out while it changes: after jr_blockmap_freeze each
 * bucket is shown to a watcher before its first change. A bucket was shown when its `saved` bit is
 * the table's phase, so a freeze changes no bucket, and a table that is made meanwhile has nothing
 * to show. */
#ifndef JR_CORE_BLOCKMAP_H
#define JR_CORE_BLOCKMAP_H

#include "base/err.h"
#include "base/mem.h"
#include "core/tablemem.h"
#include <stdbool.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define JR_BLOCKMAP_WAYS     5
#define JR_BLOCKMAP_OCCUPIED UINT32_C(0x1f)
#define JR_BLOCKMAP_SAVED    5           /* the bit's place in meta */
#define JR_BLOCKMAP_SEVEN    UINT32_C(7) /* a counter's most; it stays at that */

struct jr_blockmap_bucket {
    uint32_t low[JR_BLOCKMAP_WAYS], high[JR_BLOCKMAP_WAYS];
    uint32_t slot[JR_BLOCKMAP_WAYS];
    uint32_t meta;
};
_Static_assert(sizeof(struct jr_blockmap_bucket) == 64, "one cache line");

struct jr_blockmap_table {
    struct jr_blockmap_bucket *v;
    uint64_t n;     /* buckets */
    uint64_t swept; /* whose first so many were shown to the watcher; all, when there is none */
    uint32_t phase; /* of the saved bits: 0 or 1 */
};

struct jr_blockmap;

/* Sees a bucket as it was at the freeze; it holds at least one block. */
struct jr_blockmap_watch {
    void (*save)(void *ctx, const struct jr_blockmap *m, const struct jr_blockmap_bucket *b);
    void *ctx;
};

struct jr_blockmap {
    struct jr_blockmap_table cur, old;     /* old: while growing */
    uint64_t taken;                        /* buckets of old taken over */
    uint64_t n;                            /* blocks */
    uint64_t room;                         /* blocks that cur is good for */
    const struct jr_blockmap_watch *watch; /* borrows; NULL: not frozen */
    struct jr_tablemem memory;             /* of the table before and the next */
};

/* Where a block is; good until the next insertion. */
struct jr_blockmap_at {
    struct jr_blockmap_bucket *bucket;
    uint32_t way;
    bool at_home;
};

/* Zero-initialised is empty. Gives the memory back. */
void jr_blockmap_free(struct jr_blockmap *m, struct jr_mem *mem);
/* The same in pieces, for a map that nobody uses any more; true when done. */
bool jr_blockmap_free_some(struct jr_blockmap *m, struct jr_mem *mem);
/* Room for so many blocks in all, where there is none yet. JR_EAGAIN: a piece of its memory was made
 * ready, call it again with the same number; JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_blockmap_presize(struct jr_blockmap *m, struct jr_mem *mem, uint64_t blocks);
JR_MUST_CHECK int jr_blockmap_grow(struct jr_blockmap *m, struct jr_mem *mem);
void jr_blockmap_insert_slow(struct jr_blockmap *m, uint64_t block_hash, uint32_t slot);
void jr_blockmap_erase_slow(struct jr_blockmap *m, struct jr_blockmap_at at);
/* Gives memory back after many removals, in steps; failing to is no harm. */
void jr_blockmap_shrink(struct jr_blockmap *m, struct jr_mem *mem);
bool jr_blockmap_find_slow(const struct jr_blockmap *m, uint64_t block_hash,
                           struct jr_blockmap_at *ret);
uint64_t jr_blockmap_bytes(const struct jr_blockmap *m);

/* From here on every bucket is shown to the watcher once: before its first change or by a sweep.
 * Borrows it until jr_blockmap_thaw, before which all must have been swept. */
void jr_blockmap_freeze(struct jr_blockmap *m, const struct jr_blockmap_watch *watch);
void jr_blockmap_thaw(struct jr_blockmap *m);
void jr_blockmap_save(const struct jr_blockmap *m, struct jr_blockmap_bucket *b);

/* Walk: the block at position 0..end-1; false when there is none. */
static inline uint64_t jr_blockmap_end(const struct jr_blockmap *m)
{
    return (m->cur.n + m->old.n) * JR_BLOCKMAP_WAYS;
}

static inline bool jr_blockmap_at(const struct jr_blockmap *m, uint64_t pos, uint64_t *ret_hash,
                                  uint32_t *ret_slot)
{
    uint64_t i = pos / JR_BLOCKMAP_WAYS, way = pos % JR_BLOCKMAP_WAYS;
    const struct jr_blockmap_bucket *b = i < m->cur.n ? &m->cur.v[i] : &m->old.v[i - m->cur.n];

    *ret_hash = b->low[way] | (uint64_t)b->high[way] << 32;
    *ret_slot = b->slot[way];
    return b->meta >> way & 1;
}

__extension__ typedef unsigned __int128 jr_blockmap_u128;

static inline uint64_t jr_blockmap_spread(uint64_t hash)
{
    return (hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Walking in table order and inserting what comes into a smaller table, as a snapshot is restored,
 * would crowd all of it at that table's beginning. So the walk leaps from bucket to bucket: by about
 * 0.618 of the table, and prime to its size. */
static inline uint64_t jr_blockmap_stride(const struct jr_blockmap *m)
{
    uint64_t stride = (m->cur.n * 5 / 8) | 1;

    while (stride % 5 == 0 || stride % 7 == 0)
        stride += 2;
    return stride;
}

/* Like jr_blockmap_at, in that order. */
static inline bool jr_blockmap_leap(const struct jr_blockmap *m, uint64_t stride, uint64_t pos,
                                    uint64_t *ret_hash, uint32_t *ret_slot)
{
    uint64_t k = pos / JR_BLOCKMAP_WAYS, way = pos % JR_BLOCKMAP_WAYS;

    if (k >= m->cur.n)
        return jr_blockmap_at(m, pos, ret_hash, ret_slot);
    if (way == 0)
        __builtin_prefetch(&m->cur.v[(k + 8) * stride % m->cur.n]);
    return jr_blockmap_at(m, k * stride % m->cur.n * JR_BLOCKMAP_WAYS + way, ret_hash, ret_slot);
}

/* The high bits of a multiplicative hash, scaled to n buckets. Engines' hashes may be small. */
static inline uint64_t jr_blockmap_home(uint64_t hash, uint64_t n)
{
    return (uint64_t)((jr_blockmap_u128)jr_blockmap_spread(hash) * n >> 64);
}

/* Where in meta the counter of this hash is: bits 8, 11, … 29. */
static inline uint32_t jr_blockmap_counter(uint64_t hash)
{
    return 8 + (uint32_t)(jr_blockmap_spread(hash) >> 24 & 7) * 3;
}

static inline bool jr_blockmap_passed(const struct jr_blockmap_bucket *b, uint64_t hash)
{
    return (b->meta >> jr_blockmap_counter(hash) & JR_BLOCKMAP_SEVEN) != 0;
}

/* Ways whose low half is that of the hash. */
static inline uint32_t jr_blockmap_ways(const struct jr_blockmap_bucket *b, uint64_t hash)
{
    uint32_t low = (uint32_t)hash, hit;
#if defined(__SSE2__)
    __m128i four = _mm_loadu_si128((const __m128i *)(const void *)b->low);
    __m128i same = _mm_cmpeq_epi32(four, _mm_set1_epi32((int)low));
    hit = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(same)) | (uint32_t)(b->low[4] == low) << 4;
#else
    hit = 0;
    for (uint32_t i = 0; i < JR_BLOCKMAP_WAYS; i++)
        hit |= (uint32_t)(b->low[i] == low) << i;
#endif
    return hit & b->meta;
}

static inline bool jr_blockmap_look(struct jr_blockmap_bucket *b, uint64_t hash,
                                    struct jr_blockmap_at *ret)
{
    for (uint32_t hit = jr_blockmap_ways(b, hash); hit != 0; hit &= hit - 1) {
        uint32_t way = (uint32_t)__builtin_ctz(hit);
        if (b->high[way] == (uint32_t)(hash >> 32)) {
            ret->bucket = b;
            ret->way = way;
            return true;
        }
    }
    return false;
}

/* Call it before a bucket changes. */
static inline void jr_blockmap_before(const struct jr_blockmap *m,
                                      const struct jr_blockmap_table *t,
                                      struct jr_blockmap_bucket *b)
{
    if (m->watch && (b->meta >> JR_BLOCKMAP_SAVED & 1) != t->phase)
        jr_blockmap_save(m, b);
}

/* The same for a block that was found and is about to be erased or moved. */
static inline void jr_blockmap_touch(const struct jr_blockmap *m, struct jr_blockmap_at at)
{
    bool is_cur = at.bucket >= m->cur.v && at.bucket < m->cur.v + m->cur.n;

    if (m->watch)
        jr_blockmap_before(m, is_cur ? &m->cur : &m->old, at.bucket);
}

/* Nearly always one line of one table says it. Not found: *ret is a hint for insertion. */
static inline bool jr_blockmap_find(const struct jr_blockmap *m, uint64_t block_hash,
                                    struct jr_blockmap_at *ret)
{
    struct jr_blockmap_bucket *b;

    ret->bucket = NULL;
    if (m->cur.n == 0)
        return false;
    b = &m->cur.v[jr_blockmap_home(block_hash, m->cur.n)];
    ret->at_home = true;
    if (jr_blockmap_look(b, block_hash, ret))
        return true;
    if (jr_blockmap_passed(b, block_hash) || m->old.n != 0)
        return jr_blockmap_find_slow(m, block_hash, ret);
    ret->bucket = b;
    return false;
}

/* Room for one further block, and a step of growth; the hint of a search stays one. JR_ENOMEM: as
 * before. */
JR_MUST_CHECK static inline int jr_blockmap_reserve(struct jr_blockmap *m, struct jr_mem *mem,
                                                    struct jr_blockmap_at *hint)
{
    if (m->n < m->room && m->old.n == 0 && !jr_tablemem_is_busy(&m->memory))
        return 0;
    hint->bucket = NULL;
    return jr_blockmap_grow(m, mem);
}

/* Insert a block that a search did not find; room was reserved. */
static inline void jr_blockmap_insert(struct jr_blockmap *m, struct jr_blockmap_at hint,
                                      uint64_t block_hash, uint32_t slot)
{
    struct jr_blockmap_bucket *b = hint.bucket;
    uint32_t way;

    if (!b || (b->meta & JR_BLOCKMAP_OCCUPIED) == JR_BLOCKMAP_OCCUPIED) {
        jr_blockmap_insert_slow(m, block_hash, slot);
        return;
    }
    jr_blockmap_before(m, &m->cur, b);
    way = (uint32_t)__builtin_ctz(~b->meta);
    b->low[way] = (uint32_t)block_hash;
    b->high[way] = (uint32_t)(block_hash >> 32);
    b->slot[way] = slot;
    b->meta |= UINT32_C(1) << way;
    m->n++;
}

/* After jr_blockmap_touch. */
static inline void jr_blockmap_erase(struct jr_blockmap *m, struct jr_blockmap_at at)
{
    if (at.at_home) {
        at.bucket->meta &= ~(UINT32_C(1) << at.way);
        m->n--;
    } else {
        jr_blockmap_erase_slow(m, at);
    }
}

/* The home and the bucket after it: one hash in three is there. And in the old table. An address, not
 * a pointer: there may be no buckets yet. Always inlined, like all that only fetches: gcc takes a call
 * of it for one without effect and drops it. */
__attribute__((always_inline)) static inline void jr_blockmap_fetch(const struct jr_blockmap *m,
                                                                    uint64_t block_hash)
{
    uintptr_t b = (uintptr_t)m->cur.v + jr_blockmap_home(block_hash, m->cur.n) * sizeof *m->cur.v;

    if (m->old.n > 0) {
        uint64_t home = jr_blockmap_home(block_hash, m->old.n);
        if (home >= m->taken)
            __builtin_prefetch(m->old.v + home, 1);
    }
    __builtin_prefetch((const void *)b, 1);
    __builtin_prefetch((const void *)(b + sizeof *m->cur.v), 1);
}

#endif
