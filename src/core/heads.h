/* SPDX-License-Identifier: Apache-2.0 */
/* heads: from a prefix hash to the slots it may be at (core/places.h). A hash table of 32-bit tags
 * and slots; whoever asks compares the whole prefix hash in the slot. Built and grown like
 * core/blockmap.h; one thread.
 *
 *   bucket | tag 0..6 | slot 0..6 | occupied | passed |      64 bytes */
#ifndef JR_CORE_HEADS_H
#define JR_CORE_HEADS_H

#include "base/err.h"
#include "base/mem.h"
#include "core/tablemem.h"
#include <stdbool.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define JR_HEADS_WAYS 7

struct jr_heads_bucket {
    uint32_t tag[JR_HEADS_WAYS];
    uint32_t slot[JR_HEADS_WAYS];
    uint32_t occupied, passed;
};
_Static_assert(sizeof(struct jr_heads_bucket) == 64, "one cache line");

struct jr_heads_table {
    struct jr_heads_bucket *v;
    uint64_t n; /* buckets */
};

struct jr_heads {
    struct jr_heads_table cur, old;
    uint64_t taken;
    uint64_t n;
    struct jr_tablemem memory;
};

/* Zero-initialised is empty. Gives the memory back. */
void jr_heads_free(struct jr_heads *h, struct jr_mem *mem);
/* The same in pieces, for a table that nobody uses any more; true when done. */
bool jr_heads_free_some(struct jr_heads *h, struct jr_mem *mem);
/* Room for one further head, and a step of growth. JR_ENOMEM: as before; there may be some room. */
JR_MUST_CHECK int jr_heads_reserve(struct jr_heads *h, struct jr_mem *mem);
/* Add a pair that is not there; room was reserved. */
void jr_heads_insert(struct jr_heads *h, uint64_t prefix_hash, uint32_t slot);
/* Remove a pair that is there. */
void jr_heads_erase(struct jr_heads *h, uint64_t prefix_hash, uint32_t slot);
/* Is there room at all, even beyond what is good for the table? */
static inline bool jr_heads_has_room(const struct jr_heads *h)
{
    return h->n < h->cur.n * JR_HEADS_WAYS;
}
uint64_t jr_heads_bytes(const struct jr_heads *h);

static inline uint32_t jr_heads_tag(uint64_t prefix_hash)
{
    return (uint32_t)(((prefix_hash ^ prefix_hash >> 32) * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

/* n is at most 2^32 buckets. */
static inline uint64_t jr_heads_home(uint32_t tag, uint64_t n)
{
    return tag * n >> 32;
}

static inline uint32_t jr_heads_ways(const struct jr_heads_bucket *b, uint32_t tag)
{
    uint32_t hit = 0;
#if defined(__SSE2__)
    const __m128i want = _mm_set1_epi32((int)tag);
    __m128i a = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(const void *)b->tag), want);
    __m128i c = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(const void *)(b->tag + 3)), want);
    hit = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(a)) |
          (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(c)) << 3;
#else
    for (uint32_t i = 0; i < JR_HEADS_WAYS; i++)
        hit |= (uint32_t)(b->tag[i] == tag) << i;
#endif
    return hit & b->occupied;
}

/* Always inlined: see jr_blockmap_fetch. */
__attribute__((always_inline)) static inline void jr_heads_fetch(const struct jr_heads *h,
                                                                 uint64_t prefix_hash)
{
    __builtin_prefetch(h->cur.v + jr_heads_home(jr_heads_tag(prefix_hash), h->cur.n), 1);
}

#endif
