/* SPDX-License-Identifier: Apache-2.0 */
#include "core/idset.h"
#include <string.h>

#define ROWS_MIN 16

void jr_idset_init(struct jr_idset_pool *p, struct jr_mem *mem)
{
    memset(p, 0, sizeof *p);
    p->mem = mem;
    p->words = 1;
}

void jr_idset_deinit(struct jr_idset_pool *p)
{
    uint32_t words = p->words;

    jr_mem_free(p->mem, p->rows, (size_t)p->cap * p->words * sizeof *p->rows);
    jr_idset_init(p, p->mem);
    p->words = words;
}

uint64_t jr_idset_bytes(const struct jr_idset_pool *p)
{
    return (uint64_t)p->cap * p->words * sizeof *p->rows;
}

static int resize(struct jr_idset_pool *p, uint32_t cap, uint32_t words)
{
    uint64_t *rows = jr_mem_zalloc(p->mem, (size_t)cap * words * sizeof *rows);

    if (!rows)
        return JR_ENOMEM;
    for (uint32_t i = 0; i < p->n; i++)
        memcpy(rows + (size_t)i * words, jr_idset_row(p, i), p->words * sizeof *rows);
    jr_mem_free(p->mem, p->rows, (size_t)p->cap * p->words * sizeof *rows);
    p->rows = rows;
    p->cap = cap;
    p->words = words;
    return 0;
}

int jr_idset_widen(struct jr_idset_pool *p, uint32_t ids_max)
{
    uint32_t words = 1 + (ids_max + 63) / 64;

    if (words <= p->words)
        return 0;
    if (p->cap > 0)
        return resize(p, p->cap, words);
    p->words = words;
    return 0;
}

static int row_take(struct jr_idset_pool *p, uint64_t *ret_set)
{
    uint32_t row, cap;
    int rv;

    if (p->free_head > 0) {
        row = p->free_head - 1;
        p->free_head = (uint32_t)jr_idset_row(p, row)[0];
    } else {
        if (p->n == p->cap) {
            if (p->cap > UINT32_MAX / 2)
                return JR_ENOMEM;
            cap = p->cap > 0 ? p->cap * 2 : ROWS_MIN;
            rv = resize(p, cap, p->words);
            if (rv < 0)
                return rv;
        }
        row = p->n++;
    }
    memset(jr_idset_row(p, row), 0, p->words * sizeof *p->rows);
    *ret_set = JR_IDSET_ROW | row;
    return 0;
}

static void row_give(struct jr_idset_pool *p, uint64_t set)
{
    jr_idset_row(p, set)[0] = p->free_head;
    p->free_head = (uint32_t)set + 1;
}

static void row_add(struct jr_idset_pool *p, uint64_t set, uint32_t id)
{
    uint64_t *row = jr_idset_row(p, set);

    row[0]++;
    row[1 + id / 64] |= UINT64_C(1) << (id % 64);
}

static uint64_t pack(const uint32_t *ids, uint32_t n)
{
    uint64_t set = (uint64_t)n << JR_IDSET_SHIFT;

    for (uint32_t i = 0; i < n; i++)
        set |= (uint64_t)ids[i] << (i * JR_IDSET_BITS);
    return set;
}

uint32_t jr_idset_ids(const struct jr_idset_pool *p, uint64_t set, uint32_t *ret, uint32_t max)
{
    const uint64_t *row;
    uint32_t n = 0;

    if (!jr_idset_is_row(set)) {
        for (; n < set >> JR_IDSET_SHIFT && n < max; n++)
            ret[n] = jr_idset_small(set, n);
        return n;
    }
    row = jr_idset_row(p, set);
    for (uint32_t w = 1; w < p->words; w++) {
        for (uint64_t bits = row[w]; bits != 0 && n < max; bits &= bits - 1)
            ret[n++] = (w - 1) * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return n;
}

bool jr_idset_rows_equal(const struct jr_idset_pool *p, uint64_t a, uint64_t b)
{
    return memcmp(jr_idset_row(p, a), jr_idset_row(p, b), p->words * sizeof *p->rows) == 0;
}

static int add_to_small(struct jr_idset_pool *p, uint64_t *set, uint32_t id)
{
    uint32_t ids[JR_IDSET_SMALL + 1], at;
    uint32_t n = jr_idset_ids(p, *set, ids, JR_IDSET_SMALL);
    uint64_t row;
    int rv;

    if (n < JR_IDSET_SMALL) {
        for (at = n; at > 0 && ids[at - 1] > id; at--)
            ids[at] = ids[at - 1];
        ids[at] = id;
        *set = pack(ids, n + 1);
        return 0;
    }
    rv = row_take(p, &row);
    if (rv < 0)
        return rv;
    for (uint32_t i = 0; i < n; i++)
        row_add(p, row, ids[i]);
    row_add(p, row, id);
    *set = row;
    return 0;
}

int jr_idset_add(struct jr_idset_pool *p, uint64_t *set, uint32_t id)
{
    if (!jr_idset_is_row(*set))
        return add_to_small(p, set, id);
    row_add(p, *set, id);
    return 0;
}

void jr_idset_del(struct jr_idset_pool *p, uint64_t *set, uint32_t id)
{
    uint32_t ids[JR_IDSET_SMALL], n = 0;
    uint64_t *row;

    if (!jr_idset_is_row(*set)) {
        for (uint32_t i = 0; i < *set >> JR_IDSET_SHIFT; i++) {
            if (jr_idset_small(*set, i) != id)
                ids[n++] = jr_idset_small(*set, i);
        }
        *set = n > 0 ? pack(ids, n) : 0;
        return;
    }
    row = jr_idset_row(p, *set);
    row[1 + id / 64] &= ~(UINT64_C(1) << (id % 64));
    if (--row[0] <= JR_IDSET_SMALL) {
        n = jr_idset_ids(p, *set, ids, JR_IDSET_SMALL);
        row_give(p, *set);
        *set = pack(ids, n);
    }
}
