/* SPDX-License-Identifier: Apache-2.0 */
#include "core/heads.h"
#include "base/assert.h"
#include <string.h>

#define BUCKETS_MIN   8
#define STEPS_FROM    64
#define TAKEN_AT_ONCE 4

static uint64_t room(uint64_t buckets)
{
    return buckets * JR_HEADS_WAYS * 3 / 4;
}

static uint64_t larger(uint64_t buckets)
{
    if (buckets < BUCKETS_MIN)
        return BUCKETS_MIN;
    if (buckets < STEPS_FROM)
        return buckets * 2;
    return (buckets & (buckets - 1)) == 0 ? buckets / 2 * 3 : buckets / 3 * 4;
}

void jr_heads_free(struct jr_heads *h, struct jr_mem *mem)
{
    jr_mem_pages_free(mem, h->cur.v, h->cur.n * sizeof *h->cur.v);
    jr_mem_pages_free(mem, h->old.v, h->old.n * sizeof *h->old.v);
    jr_tablemem_free(&h->memory, mem);
    memset(h, 0, sizeof *h);
}

bool jr_heads_free_some(struct jr_heads *h, struct jr_mem *mem)
{
    struct jr_heads_table *t = h->cur.n > 0 ? &h->cur : &h->old;
    size_t left = t->n * sizeof *t->v;

    t->v = jr_tablemem_shorten(mem, t->v, &left);
    t->n = left / sizeof *t->v;
    if (h->cur.n > 0 || h->old.n > 0 || !jr_tablemem_free_some(&h->memory, mem))
        return false;
    memset(h, 0, sizeof *h);
    return true;
}

uint64_t jr_heads_bytes(const struct jr_heads *h)
{
    return (h->cur.n + h->old.n) * sizeof *h->cur.v + jr_tablemem_bytes(&h->memory);
}

static uint64_t after(const struct jr_heads_table *t, uint64_t i)
{
    return i + 1 < t->n ? i + 1 : 0;
}

static void table_insert(struct jr_heads_table *t, uint32_t tag, uint32_t slot)
{
    const uint32_t full = (UINT32_C(1) << JR_HEADS_WAYS) - 1;
    uint64_t i = jr_heads_home(tag, t->n);
    uint32_t way;

    while (t->v[i].occupied == full) {
        t->v[i].passed++;
        i = after(t, i);
    }
    way = (uint32_t)__builtin_ctz(~t->v[i].occupied);
    t->v[i].tag[way] = tag;
    t->v[i].slot[way] = slot;
    t->v[i].occupied |= UINT32_C(1) << way;
}

static bool table_erase(struct jr_heads_table *t, uint32_t tag, uint32_t slot)
{
    uint64_t home = t->n > 0 ? jr_heads_home(tag, t->n) : 0, i = home, left = t->n;
    uint32_t hit = 0;

    for (; left > 0; left--, i = after(t, i)) {
        hit = jr_heads_ways(&t->v[i], tag);
        while (hit != 0 && t->v[i].slot[__builtin_ctz(hit)] != slot)
            hit &= hit - 1;
        if (hit != 0)
            break;
        if (t->v[i].passed == 0)
            return false;
    }
    if (left == 0)
        return false;
    t->v[i].occupied &= ~(hit & -hit);
    for (uint64_t k = home; k != i; k = after(t, k))
        t->v[k].passed--;
    return true;
}

static void take_over(struct jr_heads *h, struct jr_mem *mem, uint64_t buckets)
{
    for (; buckets > 0 && h->taken < h->old.n; buckets--, h->taken++) {
        struct jr_heads_bucket *b = &h->old.v[h->taken];
        while (b->occupied != 0) {
            uint32_t way = (uint32_t)__builtin_ctz(b->occupied);
            table_insert(&h->cur, b->tag[way], b->slot[way]);
            (void)table_erase(&h->old, b->tag[way], b->slot[way]);
        }
    }
    if (h->taken < h->old.n || h->old.n == 0)
        return;
    jr_tablemem_bury(&h->memory, mem, h->old.v, h->old.n * sizeof *h->old.v);
    h->old = (struct jr_heads_table){0};
}

/* A step towards the next table; while it is not ready a little more goes in. */
static int grow(struct jr_heads *h, struct jr_mem *mem)
{
    uint64_t buckets = larger(h->cur.n);
    bool ready, now = h->n >= h->cur.n * JR_HEADS_WAYS * 13 / 16;
    int rv = jr_tablemem_prepare(&h->memory, mem, buckets * sizeof *h->cur.v, now, &ready);

    if (rv < 0)
        return rv;
    if ((!ready || h->old.n > 0) && !now)
        return 0;
    if (h->old.n > 0)
        take_over(h, mem, h->old.n);
    h->old = h->cur;
    h->cur = (struct jr_heads_table){jr_tablemem_take(&h->memory, mem), buckets};
    h->taken = h->n == 0 ? h->old.n : 0;
    take_over(h, mem, 0);
    return 0;
}

int jr_heads_reserve(struct jr_heads *h, struct jr_mem *mem)
{
    jr_tablemem_step(&h->memory, mem);
    if (h->old.n > 0)
        take_over(h, mem, TAKEN_AT_ONCE);
    return h->n < room(h->cur.n) ? 0 : grow(h, mem);
}

void jr_heads_insert(struct jr_heads *h, uint64_t prefix_hash, uint32_t slot)
{
    table_insert(&h->cur, jr_heads_tag(prefix_hash), slot);
    h->n++;
}

void jr_heads_erase(struct jr_heads *h, uint64_t prefix_hash, uint32_t slot)
{
    uint32_t tag = jr_heads_tag(prefix_hash);
    bool found = table_erase(&h->cur, tag, slot) || table_erase(&h->old, tag, slot);

    JR_ASSERT(found);
    h->n--;
}
