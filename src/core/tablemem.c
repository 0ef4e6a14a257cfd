/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tablemem.h"

#define EVERY     16                  /* calls: then so many pages at once, which is cheaper */
#define PIECE     ((size_t)32 << 10)  /* those pages */
#define AT_ONCE   ((size_t)128 << 10) /* a table as small as this is no work */
#define FREE_SOME ((size_t)256 << 10)

void jr_tablemem_free(struct jr_tablemem *t, struct jr_mem *mem)
{
    jr_mem_pages_free(mem, t->next, t->next_bytes);
    jr_mem_pages_free(mem, t->dead, t->dead_bytes);
    *t = (struct jr_tablemem){0};
}

static void *shorten(struct jr_mem *mem, void *v, size_t *bytes, size_t piece)
{
    if (*bytes > 0)
        *bytes = jr_mem_pages_free_some(mem, v, *bytes, piece);
    return *bytes > 0 ? v : NULL;
}

void *jr_tablemem_shorten(struct jr_mem *mem, void *v, size_t *bytes)
{
    return shorten(mem, v, bytes, FREE_SOME);
}

bool jr_tablemem_free_some(struct jr_tablemem *t, struct jr_mem *mem)
{
    if (t->next)
        t->next = shorten(mem, t->next, &t->next_bytes, FREE_SOME);
    else if (t->dead)
        t->dead = shorten(mem, t->dead, &t->dead_bytes, FREE_SOME);
    t->touched = 0;
    return !t->next && !t->dead;
}

size_t jr_tablemem_bytes(const struct jr_tablemem *t)
{
    return t->next_bytes + t->dead_bytes;
}

int jr_tablemem_prepare(struct jr_tablemem *t, struct jr_mem *mem, size_t bytes, bool now,
                        bool *ret_ready)
{
    *ret_ready = false;
    if (t->next && t->next_bytes != bytes) { /* it was to grow, and shrinks */
        char *next = t->next;
        t->next = NULL;
        jr_tablemem_bury(t, mem, next, t->next_bytes);
    }
    if (!t->next) {
        if (!now && jr_mem_pages_is_coming(mem, bytes))
            return 0;
        t->next = jr_mem_pages_begin(mem, bytes);
        if (!t->next)
            return JR_ENOMEM;
        t->next_bytes = bytes;
        t->touched = 0;
        t->calls = 0;
    }
    if (bytes > AT_ONCE && !now && t->touched < bytes && t->calls++ % EVERY == 0)
        t->touched = jr_mem_pages_ready(mem, t->next, bytes, t->touched, PIECE);
    *ret_ready = now || bytes <= AT_ONCE || t->touched >= bytes;
    return 0;
}

void *jr_tablemem_take(struct jr_tablemem *t, struct jr_mem *mem)
{
    void *v = jr_mem_pages_finish(mem, t->next, t->next_bytes, t->touched);

    t->next = NULL;
    t->next_bytes = t->touched = 0;
    return v;
}

void jr_tablemem_bury(struct jr_tablemem *t, struct jr_mem *mem, void *v, size_t bytes)
{
    jr_mem_pages_free(mem, t->dead, t->dead_bytes);
    t->dead = NULL;
    t->dead_bytes = 0;
    if (bytes <= AT_ONCE) {
        jr_mem_pages_free(mem, v, bytes);
        return;
    }
    t->dead = v;
    t->dead_bytes = bytes;
}

void jr_tablemem_step(struct jr_tablemem *t, struct jr_mem *mem)
{
    if (t->dead && t->calls++ % EVERY == 0)
        t->dead = shorten(mem, t->dead, &t->dead_bytes, PIECE);
}
