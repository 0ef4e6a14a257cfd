/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/arena.h"
#include "base/mem.h"
#include <stdint.h>

#define JR_ARENA_FIRST ((size_t)4096)
#define JR_ARENA_KEEP  ((size_t)4 << 20) /* reset gives back a chunk larger than this */
#define ALIGN          ((size_t)16)

struct jr_arena_chunk {
    struct jr_arena_chunk *prev;
    size_t cap;  /* of data */
    size_t used; /* of data */
    size_t pad;  /* data starts 16-aligned */
    unsigned char data[];
};
_Static_assert(sizeof(struct jr_arena_chunk) % 16 == 0, "chunk data must stay aligned");

void jr_arena_init(struct jr_arena *a, size_t max)
{
    *a = (struct jr_arena){.max = max};
}

static void free_chunks(struct jr_arena_chunk *c)
{
    while (c) {
        struct jr_arena_chunk *prev = c->prev;
        jr_xfree(c);
        c = prev;
    }
}

void jr_arena_deinit(struct jr_arena *a)
{
    if (!a)
        return;
    free_chunks(a->head);
    *a = (struct jr_arena){.max = a->max};
}

void jr_arena_reset(struct jr_arena *a)
{
    struct jr_arena_chunk *keep = a->head;
    a->full = false;
    if (!keep)
        return;
    free_chunks(keep->prev);
    keep->prev = NULL;
    keep->used = 0;
    a->used = keep->cap;
    if (keep->cap > JR_ARENA_KEEP) {
        jr_xfree(keep);
        a->head = NULL;
        a->used = 0;
    }
}

/* A chunk with room for size bytes: double the last one, as far as max allows. */
static struct jr_arena_chunk *grow(struct jr_arena *a, size_t size)
{
    size_t room = a->max - a->used;
    size_t cap = a->head ? a->head->cap * 2 : JR_ARENA_FIRST;
    if (cap < size)
        cap = size;
    if (cap > room)
        cap = room & ~(ALIGN - 1);
    if (cap < size)
        return NULL;
    /* jr_xrealloc and not jr_xalloc: what a message decodes to is written before it is read. */
    struct jr_arena_chunk *c = jr_xrealloc(NULL, sizeof *c + cap);
    *c = (struct jr_arena_chunk){.prev = a->head, .cap = cap};
    a->head = c;
    a->used += cap;
    return c;
}

void *jr_arena_alloc(struct jr_arena *a, size_t size)
{
    struct jr_arena_chunk *c = a->head;
    if (size > a->max || size > SIZE_MAX - ALIGN) {
        a->full = true;
        return NULL;
    }
    size = size ? (size + ALIGN - 1) & ~(ALIGN - 1) : ALIGN;
    if (!c || c->cap - c->used < size)
        c = grow(a, size);
    if (!c) {
        a->full = true;
        return NULL;
    }
    void *p = c->data + c->used;
    c->used += size;
    return p;
}

void *jr_arena_array(struct jr_arena *a, size_t n, size_t size)
{
    if (size && n > SIZE_MAX / size) {
        a->full = true;
        return NULL;
    }
    return jr_arena_alloc(a, n * size);
}
