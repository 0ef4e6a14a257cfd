/* SPDX-License-Identifier: Apache-2.0 */
/* blockmap: the blocks of one member: the engine's block hash to our prefix hash. Flat, open
 * addressing, linear probing, backward-shift deletion. One thread.
 *
 *   slots  | hash prefix | hash prefix | 0 - | hash prefix | …     hash 0: free
 *   zero   the block whose hash really is 0 */
#ifndef JR_CORE_BLOCKMAP_H
#define JR_CORE_BLOCKMAP_H

#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_blockmap {
    struct jr_blockmap_slot {
        uint64_t block_hash;
        uint64_t prefix_hash;
    } * slots;
    uint64_t cap; /* 0 or a power of two */
    uint64_t n;   /* in slots */
    bool has_zero;
    uint64_t zero_prefix;
};

/* Zero-initialised is empty. Gives the memory back. */
void jr_blockmap_free(struct jr_blockmap *m, struct jr_mem *mem);
/* Room for `more` further blocks. JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_blockmap_reserve(struct jr_blockmap *m, struct jr_mem *mem, uint64_t more);
/* Insert or replace; room was reserved. */
void jr_blockmap_put(struct jr_blockmap *m, uint64_t block_hash, uint64_t prefix_hash);
/* Remove a block that is there. */
void jr_blockmap_del(struct jr_blockmap *m, uint64_t block_hash);
/* The block at position slot of 0..cap (cap: the block whose hash is 0); false when free. */
bool jr_blockmap_at(const struct jr_blockmap *m, uint64_t slot, struct jr_blockmap_slot *ret);

/* Fibonacci hashing, its middle bits: engines' hashes may be small integers. cap a power of two. */
static inline uint64_t jr_blockmap_home(uint64_t hash, uint64_t cap)
{
    uint64_t spread = hash * UINT64_C(0x9e3779b97f4a7c15);
    return (spread >> 32 ^ spread >> 8) & (cap - 1);
}

static inline uint64_t jr_blockmap_n(const struct jr_blockmap *m)
{
    return m->n + m->has_zero;
}

/* Where a hash that is not 0 is or belongs. cap > 0. */
static inline uint64_t jr_blockmap_slot(const struct jr_blockmap *m, uint64_t block_hash)
{
    uint64_t i = jr_blockmap_home(block_hash, m->cap);

    while (m->slots[i].block_hash != 0 && m->slots[i].block_hash != block_hash)
        i = (i + 1) & (m->cap - 1);
    return i;
}

static inline bool jr_blockmap_get(const struct jr_blockmap *m, uint64_t block_hash,
                                   uint64_t *ret_prefix)
{
    uint64_t i;

    if (block_hash == 0) {
        *ret_prefix = m->zero_prefix;
        return m->has_zero;
    }
    if (m->cap == 0)
        return false;
    i = jr_blockmap_slot(m, block_hash);
    *ret_prefix = m->slots[i].prefix_hash;
    return m->slots[i].block_hash != 0;
}

static inline void jr_blockmap_fetch(const struct jr_blockmap *m, uint64_t block_hash)
{
    if (m->cap > 0)
        __builtin_prefetch(&m->slots[jr_blockmap_home(block_hash, m->cap)], 1);
}

#endif
