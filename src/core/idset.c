/* SPDX-License-Identifier: Apache-2.0 */
#include "core/idset.h"
#include <string.h>

#define ROWS_MIN 16
#define ABOVE    (UINT64_C(1) << 32) /* one id above 63, in a row's count */

void jr_idset_init(struct jr_idset_pool *p, struct jr_mem *mem)
{
    memset(p, 0, sizeof *p);
    p->mem = mem;
    p->words = 1;
}

void jr_idset_deinit(struct jr_idset_pool *p)
{
    uint32_t words = p->words;

    jr_mem_pages_free(p->mem, p->rows, (size_t)p->cap * p->words * sizeof *p->rows);
    jr_idset_init(p, p->mem);
    p->words = words;
}

uint64_t jr_idset_bytes(const struct jr_idset_pool *p)
{
    return (uint64_t)p->cap * p->words * sizeof *p->rows;
}

static uint64_t *row_at(const struct jr_idset_pool *p, uint64_t word)
{
    return p->rows + (uint32_t)word * (size_t)p->words;
}

static int resize(struct jr_idset_pool *p, uint32_t cap, uint32_t words)
{
    uint64_t *rows = jr_mem_pages_alloc(p->mem, (size_t)cap * words * sizeof *rows);

    if (!rows)
        return JR_ENOMEM;
    for (uint32_t i = 0; i < p->n; i++)
        memcpy(rows + (size_t)i * words, row_at(p, i), p->words * sizeof *rows);
    jr_mem_pages_free(p->mem, p->rows, (size_t)p->cap * p->words * sizeof *rows);
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

static int row_take(struct jr_idset_pool *p, uint64_t *ret_word)
{
    uint32_t row, cap;
    int rv;

    if (p->free_head > 0) {
        row = p->free_head - 1;
        p->free_head = (uint32_t)row_at(p, row)[0];
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
    memset(row_at(p, row), 0, p->words * sizeof *p->rows);
    *ret_word = JR_IDSET_ROW | row;
    return 0;
}

static void row_give(struct jr_idset_pool *p, uint64_t word)
{
    row_at(p, word)[0] = p->free_head;
    p->free_head = (uint32_t)word + 1;
}

static void row_add(struct jr_idset_pool *p, uint64_t word, uint32_t id)
{
    uint64_t *row = row_at(p, word);

    row[0] += 1 + (id >= JR_IDSET_NARROW ? ABOVE : 0);
    row[1 + id / 64] |= UINT64_C(1) << (id % 64);
}

/* ---- forms ----------------------------------------------------------------------------------- */

static uint32_t packed_id(uint64_t word, uint32_t i)
{
    return (uint32_t)(word >> (i * JR_IDSET_BITS) & JR_IDSET_MASK);
}

static uint32_t packed_n(uint64_t word)
{
    return (uint32_t)(word >> JR_IDSET_SHIFT);
}

/* The form that ids, ascending and at most four, have. */
static struct jr_idset make(const uint32_t *ids, uint32_t n)
{
    struct jr_idset set = {0, n > 0 && ids[n - 1] >= JR_IDSET_NARROW};

    if (set.wide)
        set.word = (uint64_t)n << JR_IDSET_SHIFT;
    for (uint32_t i = 0; i < n; i++)
        set.word |= set.wide ? (uint64_t)ids[i] << (i * JR_IDSET_BITS) : UINT64_C(1) << ids[i];
    return set;
}

uint64_t jr_idset_word(const struct jr_idset_pool *p, struct jr_idset set, uint32_t i)
{
    uint64_t bits = 0;

    if (!set.wide)
        return i == 0 ? set.word : 0;
    if (jr_idset_is_row(set))
        return 1 + i < p->words ? row_at(p, set.word)[1 + i] : 0;
    for (uint32_t k = 0; k < packed_n(set.word); k++) {
        if (packed_id(set.word, k) / 64 == i)
            bits |= UINT64_C(1) << (packed_id(set.word, k) % 64);
    }
    return bits;
}

uint32_t jr_idset_count(const struct jr_idset_pool *p, struct jr_idset set)
{
    if (!set.wide)
        return (uint32_t)__builtin_popcountll(set.word);
    return jr_idset_is_row(set) ? (uint32_t)row_at(p, set.word)[0] : packed_n(set.word);
}

/* The ids of a set of at most `max`, ascending. */
static uint32_t list(const struct jr_idset_pool *p, struct jr_idset set, uint32_t *ret,
                     uint32_t max)
{
    uint32_t n = 0;

    if (set.wide && !jr_idset_is_row(set)) {
        for (; n < packed_n(set.word); n++)
            ret[n] = packed_id(set.word, n);
        return n;
    }
    for (uint32_t w = 0; w + 1 < p->words || w == 0; w++) {
        for (uint64_t bits = jr_idset_word(p, set, w); bits != 0 && n < max; bits &= bits - 1)
            ret[n++] = w * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return n;
}

/* ---- changes --------------------------------------------------------------------------------- */

static int to_row(struct jr_idset_pool *p, struct jr_idset *set, uint32_t id)
{
    uint32_t ids[JR_IDSET_NARROW];
    uint32_t n = list(p, *set, ids, JR_IDSET_NARROW);
    uint64_t row;
    int rv = row_take(p, &row);

    if (rv < 0)
        return rv;
    for (uint32_t i = 0; i < n; i++)
        row_add(p, row, ids[i]);
    row_add(p, row, id);
    *set = (struct jr_idset){row, true};
    return 0;
}

int jr_idset_add(struct jr_idset_pool *p, struct jr_idset *set, uint32_t id)
{
    uint32_t ids[JR_IDSET_SMALL], n, at;

    if (!set->wide && id < JR_IDSET_NARROW) {
        set->word |= UINT64_C(1) << id;
        return 0;
    }
    if (jr_idset_is_row(*set)) {
        row_add(p, set->word, id);
        return 0;
    }
    if (jr_idset_count(p, *set) >= JR_IDSET_SMALL)
        return to_row(p, set, id);
    n = list(p, *set, ids, JR_IDSET_SMALL);
    for (at = n; at > 0 && ids[at - 1] > id; at--)
        ids[at] = ids[at - 1];
    ids[at] = id;
    *set = make(ids, n + 1);
    return 0;
}

static void row_del(struct jr_idset_pool *p, struct jr_idset *set, uint32_t id)
{
    uint64_t *row = row_at(p, set->word), word = set->word;
    uint32_t ids[JR_IDSET_SMALL], n;

    row[0] -= 1 + (id >= JR_IDSET_NARROW ? ABOVE : 0);
    row[1 + id / 64] &= ~(UINT64_C(1) << (id % 64));
    if (row[0] < ABOVE) {
        *set = (struct jr_idset){row[1], false};
    } else if ((uint32_t)row[0] <= JR_IDSET_SMALL) {
        n = list(p, *set, ids, JR_IDSET_SMALL);
        *set = make(ids, n);
    } else {
        return;
    }
    row_give(p, word);
}

void jr_idset_del(struct jr_idset_pool *p, struct jr_idset *set, uint32_t id)
{
    uint32_t ids[JR_IDSET_SMALL], n = 0;

    if (!set->wide) {
        set->word &= ~(UINT64_C(1) << id);
        return;
    }
    if (jr_idset_is_row(*set)) {
        row_del(p, set, id);
        return;
    }
    for (uint32_t i = 0; i < packed_n(set->word); i++) {
        if (packed_id(set->word, i) != id)
            ids[n++] = packed_id(set->word, i);
    }
    *set = make(ids, n);
}
