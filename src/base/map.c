/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "base/assert.h"
#include <string.h>

/*   home = mix64(key) & (cap - 1); a key lives at home or in the run of used slots behind it:
 *
 *     used   0  1  1  1  0  1  0  0
 *     key       a  b  c     d          home(a) = home(b) = 1, home(c) = 2
 *
 *   Deleting a moves b to slot 1 and c to slot 2, so that no run ever has a hole. */

#define CAP_MIN 16

void jr_map_init(struct jr_map *m, struct jr_mem *mem)
{
    *m = (struct jr_map){.mem = mem};
}

static void free_table(struct jr_mem *mem, struct jr_map_slot *slots, uint8_t *used, uint64_t cap)
{
    jr_mem_free(mem, slots, cap * sizeof *slots);
    jr_mem_free(mem, used, cap);
}

void jr_map_deinit(struct jr_map *m)
{
    if (!m || !m->mem)
        return;
    free_table(m->mem, m->slots, m->used, m->cap);
    jr_map_init(m, m->mem);
}

void jr_map_clear(struct jr_map *m)
{
    if (m->cap)
        memset(m->used, 0, m->cap);
    m->n = 0;
}

/* The slot that holds key, or the free one where it belongs. cap > n, so this ends. */
static uint64_t find(const struct jr_map *m, uint64_t key)
{
    uint64_t mask = m->cap - 1, i = jr_mix64(key) & mask;

    while (m->used[i] && m->slots[i].key != key)
        i = (i + 1) & mask;
    return i;
}

bool jr_map_get(const struct jr_map *m, uint64_t key, uint64_t *ret)
{
    uint64_t i;

    if (m->n == 0)
        return false;
    i = find(m, key);
    if (!m->used[i])
        return false;
    if (ret)
        *ret = m->slots[i].value;
    return true;
}

static int grow(struct jr_map *m)
{
    struct jr_map old = *m;
    uint64_t cap = old.cap ? old.cap * 2 : CAP_MIN;

    if (cap > SIZE_MAX / sizeof *m->slots)
        return JR_ENOMEM;
    m->slots = jr_mem_alloc(m->mem, cap * sizeof *m->slots);
    m->used = jr_mem_zalloc(m->mem, cap);
    if (!m->slots || !m->used) {
        free_table(m->mem, m->slots, m->used, cap);
        m->slots = old.slots;
        m->used = old.used;
        return JR_ENOMEM;
    }
    m->cap = cap;
    for (uint64_t i = 0; i < old.cap; i++) {
        uint64_t to;
        if (!old.used[i])
            continue;
        to = find(m, old.slots[i].key);
        m->used[to] = 1;
        m->slots[to] = old.slots[i];
    }
    free_table(m->mem, old.slots, old.used, old.cap);
    return 0;
}

int jr_map_put(struct jr_map *m, uint64_t key, uint64_t value)
{
    uint64_t i = 0;
    int rv;

    if (m->cap) {
        i = find(m, key);
        if (m->used[i]) {
            m->slots[i].value = value;
            return 0;
        }
    }
    if (m->n + 1 > m->cap / 4 * 3) {
        rv = grow(m);
        if (rv < 0)
            return rv;
        i = find(m, key);
    }
    m->used[i] = 1;
    m->slots[i] = (struct jr_map_slot){key, value};
    m->n++;
    return 0;
}

/* Close the hole at i: every later member of the run that may live there moves back. */
static void shift_back(struct jr_map *m, uint64_t hole)
{
    uint64_t mask = m->cap - 1, i = hole;

    for (;;) {
        uint64_t home;
        i = (i + 1) & mask;
        if (!m->used[i])
            break;
        home = jr_mix64(m->slots[i].key) & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        m->slots[hole] = m->slots[i];
        hole = i;
    }
    m->used[hole] = 0;
}

bool jr_map_del(struct jr_map *m, uint64_t key, uint64_t *ret_old)
{
    uint64_t i;

    if (m->n == 0)
        return false;
    i = find(m, key);
    if (!m->used[i])
        return false;
    if (ret_old)
        *ret_old = m->slots[i].value;
    shift_back(m, i);
    m->n--;
    return true;
}

bool jr_map_next(const struct jr_map *m, uint64_t *pos, uint64_t *ret_key, uint64_t *ret_value)
{
    while (*pos < m->cap) {
        uint64_t i = (*pos)++;
        if (!m->used[i])
            continue;
        if (ret_key)
            *ret_key = m->slots[i].key;
        if (ret_value)
            *ret_value = m->slots[i].value;
        return true;
    }
    return false;
}
