/* SPDX-License-Identifier: Apache-2.0 */
/* map: flat hash map from uint64_t to uint64_t. Open addressing, linear probing, backward-shift
 * deletion (no tombstones), power-of-two capacity. Iteration order depends on history: never let it
 * reach an action or a digest that is not order-independent. */
#ifndef JR_BASE_MAP_H
#define JR_BASE_MAP_H

#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>

struct jr_map {
    struct jr_mem *mem; /* borrows */
    struct jr_map_slot {
        uint64_t key, value;
    } * slots;
    uint8_t *used; /* one byte a slot */
    uint64_t n;
    uint64_t cap; /* 0 or a power of two */
};

void jr_map_init(struct jr_map *m, struct jr_mem *mem);
void jr_map_deinit(struct jr_map *m);
void jr_map_clear(struct jr_map *m);
bool jr_map_get(const struct jr_map *m, uint64_t key, uint64_t *ret);
/* Insert or replace. */
JR_MUST_CHECK int jr_map_put(struct jr_map *m, uint64_t key, uint64_t value);
bool jr_map_del(struct jr_map *m, uint64_t key, uint64_t *ret_old); /* ret_old may be NULL */
/* Walk: start with *pos = 0; false at the end. No change of the map meanwhile. */
bool jr_map_next(const struct jr_map *m, uint64_t *pos, uint64_t *ret_key, uint64_t *ret_value);

/* Finaliser with full avalanche (splitmix64, Vigna 2015, without its increment: 0 gives 0); the
 * project's mix64. */
static inline uint64_t jr_mix64(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

#endif
