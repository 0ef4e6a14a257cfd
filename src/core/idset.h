/* SPDX-License-Identifier: Apache-2.0 */
/* idset: sets of small ids, one word each, for tables that hold millions of mostly tiny sets.
 *
 *   narrow  | a bit for each id 0..63                       |   no id is above 63
 *   wide    | n 1..4 |  id  |  id  |  id  |  id  |              ascending from the right, rest 0
 *           | 0xff   |             row           |              more than four: a row of the pool
 *
 * Whether a word is narrow or wide is a bit that its owner keeps. The form follows from the content,
 * the empty set is the narrow word 0. A word belongs to the pool it was made with; one thread. */
#ifndef JR_CORE_IDSET_H
#define JR_CORE_IDSET_H

#include "base/err.h"
#include "base/limits.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_IDSET_NARROW 64
#define JR_IDSET_SMALL  4
#define JR_IDSET_BITS   14
#define JR_IDSET_MASK   UINT64_C(0x3fff)
#define JR_IDSET_SHIFT  56
#define JR_IDSET_ROW    (UINT64_C(0xff) << JR_IDSET_SHIFT)
_Static_assert(JR_WORKERS_MAX <= JR_IDSET_MASK + 1, "an id has 14 bits");

struct jr_idset {
    uint64_t word;
    bool wide;
};

struct jr_idset_pool {
    struct jr_mem *mem; /* borrows */
    /* A row: ids in it, of them above 63 in the high half; then a bit for each id. A free row: index
     * of the next free + 1. */
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
/* Add an id that is not in *set. JR_ENOMEM: as before; never for the first three. */
JR_MUST_CHECK int jr_idset_add(struct jr_idset_pool *p, struct jr_idset *set, uint32_t id);
/* Remove an id that is in *set. Never allocates. */
void jr_idset_del(struct jr_idset_pool *p, struct jr_idset *set, uint32_t id);
/* Bits of the ids 64 i to 64 i + 63. */
uint64_t jr_idset_word(const struct jr_idset_pool *p, struct jr_idset set, uint32_t i);
uint32_t jr_idset_count(const struct jr_idset_pool *p, struct jr_idset set);
uint64_t jr_idset_bytes(const struct jr_idset_pool *p);

static inline bool jr_idset_is_row(struct jr_idset set)
{
    return set.wide && set.word >= JR_IDSET_ROW;
}

static inline bool jr_idset_has(const struct jr_idset_pool *p, struct jr_idset set, uint32_t id)
{
    if (!set.wide && id >= JR_IDSET_NARROW)
        return false;
    return (set.wide ? jr_idset_word(p, set, id / 64) : set.word) >> (id % 64) & 1;
}

#endif
