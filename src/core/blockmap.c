/* SPDX-License-Identifier: Apache-2.0 */
#include "core/blockmap.h"
#include <string.h>

#define CAP_MIN 64

void jr_blockmap_free(struct jr_blockmap *m, struct jr_mem *mem)
{
    jr_mem_free(mem, m->slots, m->cap * sizeof *m->slots);
    memset(m, 0, sizeof *m);
}

int jr_blockmap_reserve(struct jr_blockmap *m, struct jr_mem *mem, uint64_t more)
{
    struct jr_blockmap grown = *m;

    if ((m->n + more) * 4 <= m->cap * 3)
        return 0;
    grown.cap = m->cap > 0 ? m->cap * 2 : CAP_MIN;
    while ((m->n + more) * 4 > grown.cap * 3)
        grown.cap *= 2;
    grown.slots = jr_mem_zalloc(mem, grown.cap * sizeof *grown.slots);
    if (!grown.slots)
        return JR_ENOMEM;
    for (uint64_t i = 0; i < m->cap; i++) {
        if (m->slots[i].block_hash != 0)
            grown.slots[jr_blockmap_slot(&grown, m->slots[i].block_hash)] = m->slots[i];
    }
    jr_mem_free(mem, m->slots, m->cap * sizeof *m->slots);
    *m = grown;
    return 0;
}

void jr_blockmap_put(struct jr_blockmap *m, uint64_t block_hash, uint64_t prefix_hash)
{
    struct jr_blockmap_slot *slot;

    if (block_hash == 0) {
        m->has_zero = true;
        m->zero_prefix = prefix_hash;
        return;
    }
    slot = &m->slots[jr_blockmap_slot(m, block_hash)];
    m->n += slot->block_hash == 0;
    *slot = (struct jr_blockmap_slot){block_hash, prefix_hash};
}

void jr_blockmap_del(struct jr_blockmap *m, uint64_t block_hash)
{
    uint64_t mask = m->cap - 1, hole;

    if (block_hash == 0) {
        m->has_zero = false;
        return;
    }
    hole = jr_blockmap_slot(m, block_hash);
    for (uint64_t i = (hole + 1) & mask; m->slots[i].block_hash != 0; i = (i + 1) & mask) {
        uint64_t home = jr_blockmap_home(m->slots[i].block_hash, m->cap);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].block_hash = 0;
    m->n--;
}

bool jr_blockmap_at(const struct jr_blockmap *m, uint64_t slot, struct jr_blockmap_slot *ret)
{
    if (slot == m->cap) {
        *ret = (struct jr_blockmap_slot){0, m->zero_prefix};
        return m->has_zero;
    }
    *ret = m->slots[slot];
    return ret->block_hash != 0;
}
