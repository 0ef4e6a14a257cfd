/* SPDX-License-Identifier: Apache-2.0 */
/* idset: sets of small ids, one word each, for tables that hold millions of mostly tiny sets.
 *
 *    63    56 55  42 41  28 27  14 13   0
 *   | n 1..4 |  id  |  id  |  id  |  id  |   ids ascending from the right, unused ones 0
 *   |  0xff  |             row           |   more than four: a row of the pool's bitmap
 *
 * The empty set is the word 0. Equal small sets are equal words: a query that walks down a prefix
 * compares one word a step. A word belongs to the pool it was made with; one thread. */
#ifndef JR_CORE_IDSET_H
#define JR_CORE_IDSET_H

#include "base/err.h"
#include "base/limits.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_IDSET_SMALL 4
#define JR_IDSET_BITS  14
#define JR_IDSET_MASK  UINT64_C(0x3fff)
#define JR_IDSET_SHIFT 56
#define JR_IDSET_ROW   (UINT64_C(0xff) << JR_IDSET_SHIFT)
_Static_assert(JR_WORKERS_MAX <= JR_IDSET_MASK + 1, "an id has 14 bits");

struct jr_idset_pool {
    struct jr_mem *mem; /* borrows */
    /* A row: the number of ids, then a bit for each id. A free row: index of the next free + 1. */
    uint64_t *rows;
    uint32_t words; /* a row */
    uint32_t cap;
    uint32_t n;         /* ever used */
    uint32_t free_head; /* index + 1; 0: none */
};

void jr_idset_init(struct jr_idset_pool *p, struct jr_mem *mem);
/* Every set of the pool is gone. */
void jr_idset_deinit(struct jr_idset_pool *p);
/* Room for ids below ids_max, before the first of them is added. JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_idset_widen(struct jr_idset_pool *p, uint32_t ids_max);
/* Add an id that is not in *set. JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_idset_add(struct jr_idset_pool *p, uint64_t *set, uint32_t id);
/* Remove an id that is in *set. */
void jr_idset_del(struct jr_idset_pool *p, uint64_t *set, uint32_t id);
/* The ids ascending, at most max; returns how many. */
uint32_t jr_idset_ids(const struct jr_idset_pool *p, uint64_t set, uint32_t *ret, uint32_t max);
bool jr_idset_rows_equal(const struct jr_idset_pool *p, uint64_t a, uint64_t b);
uint64_t jr_idset_bytes(const struct jr_idset_pool *p);

static inline bool jr_idset_is_row(uint64_t set)
{
    return set >= JR_IDSET_ROW;
}

static inline uint32_t jr_idset_small(uint64_t set, uint32_t i)
{
    return (uint32_t)(set >> (i * JR_IDSET_BITS) & JR_IDSET_MASK);
}

static inline uint64_t *jr_idset_row(const struct jr_idset_pool *p, uint64_t set)
{
    return p->rows + (uint32_t)set * (size_t)p->words;
}

static inline uint32_t jr_idset_count(const struct jr_idset_pool *p, uint64_t set)
{
    return (uint32_t)(jr_idset_is_row(set) ? jr_idset_row(p, set)[0] : set >> JR_IDSET_SHIFT);
}

static inline bool jr_idset_has(const struct jr_idset_pool *p, uint64_t set, uint32_t id)
{
    if (jr_idset_is_row(set))
        return jr_idset_row(p, set)[1 + id / 64] >> (id % 64) & 1;
    for (uint32_t i = 0; i < set >> JR_IDSET_SHIFT; i++) {
        if (jr_idset_small(set, i) == id)
            return true;
    }
    return false;
}

static inline bool jr_idset_equal(const struct jr_idset_pool *p, uint64_t a, uint64_t b)
{
    return a == b || (jr_idset_is_row(a) && jr_idset_is_row(b) && jr_idset_rows_equal(p, a, b));
}

#endif
