/* SPDX-License-Identifier: Apache-2.0 */
/* blockmap: the blocks of one member: the engine's block hash to a slot (core/places.h). Flat, open
 * addressing by buckets of one cache line; one thread.
 *
 *   bucket | hash 0..4 | slot 0..4 | occupied: 5 bits, passed: 8 counters of 3 bits |    64 bytes
 *
 * A hash goes into its home bucket or the next one with room; `passed` of a bucket counts the hashes
 * that went by it because it was full, apart by three bits of theirs. So a search ends at the first
 * bucket that none like it went by, which nearly always is its home, and removal leaves no tombstone
 * and moves nothing.
 *
 * Growth is spread: a larger table stands beside the old one and each further insertion takes two
 * buckets over; both are asked meanwhile. */
#ifndef JR_CORE_BLOCKMAP_H
#define JR_CORE_BLOCKMAP_H

#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_BLOCKMAP_WAYS     5
#define JR_BLOCKMAP_OCCUPIED UINT32_C(0x1f)
#define JR_BLOCKMAP_SEVEN    UINT32_C(7) /* a counter's most; it stays at that */

struct jr_blockmap_bucket {
    uint64_t hash[JR_BLOCKMAP_WAYS];
    uint32_t slot[JR_BLOCKMAP_WAYS];
    uint32_t meta;
};
_Static_assert(sizeof(struct jr_blockmap_bucket) == 64, "one cache line");

struct jr_blockmap_table {
    struct jr_blockmap_bucket *v;
    uint64_t n; /* buckets */
};

struct jr_blockmap {
    struct jr_blockmap_table cur, old; /* old: while growing */
    uint64_t taken;                    /* buckets of old taken over */
    uint64_t n;                        /* blocks */
};

/* Where a block is; good until the next insertion. */
struct jr_blockmap_at {
    struct jr_blockmap_bucket *bucket;
    uint32_t way;
};

/* Zero-initialised is empty. Gives the memory back. */
void jr_blockmap_free(struct jr_blockmap *m, struct jr_mem *mem);
/* Room for one further block, and a step of growth. JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_blockmap_reserve(struct jr_blockmap *m, struct jr_mem *mem);
/* Insert a block that is not there; room was reserved. */
void jr_blockmap_insert(struct jr_blockmap *m, uint64_t block_hash, uint32_t slot);
void jr_blockmap_erase(struct jr_blockmap *m, struct jr_blockmap_at at);
/* Gives memory back after many removals, in steps; failing to is no harm. */
void jr_blockmap_shrink(struct jr_blockmap *m, struct jr_mem *mem);
bool jr_blockmap_find_slow(const struct jr_blockmap *m, uint64_t block_hash,
                           struct jr_blockmap_at *ret);
uint64_t jr_blockmap_bytes(const struct jr_blockmap *m);

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

    *ret_hash = b->hash[way];
    *ret_slot = b->slot[way];
    return b->meta >> way & 1;
}

__extension__ typedef unsigned __int128 jr_blockmap_u128;

static inline uint64_t jr_blockmap_spread(uint64_t hash)
{
    return (hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15);
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

static inline uint32_t jr_blockmap_ways(const struct jr_blockmap_bucket *b, uint64_t hash)
{
    uint32_t hit = (uint32_t)(b->hash[0] == hash) | (uint32_t)(b->hash[1] == hash) << 1 |
                   (uint32_t)(b->hash[2] == hash) << 2 | (uint32_t)(b->hash[3] == hash) << 3 |
                   (uint32_t)(b->hash[4] == hash) << 4;
    return hit & b->meta;
}

/* Nearly always one line of one table says it. */
static inline bool jr_blockmap_find(const struct jr_blockmap *m, uint64_t block_hash,
                                    struct jr_blockmap_at *ret)
{
    struct jr_blockmap_bucket *b;
    uint32_t hit;

    if (m->cur.n == 0)
        return false;
    b = &m->cur.v[jr_blockmap_home(block_hash, m->cur.n)];
    hit = jr_blockmap_ways(b, block_hash);
    if (hit != 0) {
        *ret = (struct jr_blockmap_at){b, (uint32_t)__builtin_ctz(hit)};
        return true;
    }
    if (!jr_blockmap_passed(b, block_hash) && m->old.n == 0)
        return false;
    return jr_blockmap_find_slow(m, block_hash, ret);
}

/* The home and the bucket after it: one hash in three is there. */
static inline void jr_blockmap_fetch(const struct jr_blockmap *m, uint64_t block_hash)
{
    const struct jr_blockmap_bucket *b = m->cur.v + jr_blockmap_home(block_hash, m->cur.n);

    __builtin_prefetch(b, 1);
    __builtin_prefetch((const char *)b + sizeof *b, 1);
}

#endif
