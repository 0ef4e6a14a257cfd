/* SPDX-License-Identifier: Apache-2.0 */
/* arena: bump memory for what one message decodes to.
 *
 *   chunk 0 [#########........]   chunks double; reset keeps the newest (largest) one up to
 *   chunk 1 [####.............]   JR_ARENA_KEEP bytes, so a reader in a steady state never
 * allocates
 *
 * jr_x memory, bounded by max: an allocation over it returns NULL and sets `full`. Nothing is freed
 * singly. One arena belongs to one thread at a time and may be handed over with its contents. */
#ifndef JR_WIRE_ARENA_H
#define JR_WIRE_ARENA_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

struct jr_arena_chunk;

struct jr_arena {
    struct jr_arena_chunk *head; /* newest; owns the ones before it */
    size_t used;                 /* bytes of all chunks, handed out or not */
    size_t max;                  /* most bytes of all chunks */
    bool full;                   /* an allocation was refused since init or reset */
};

/* Allocates nothing yet. */
void jr_arena_init(struct jr_arena *a, size_t max);
void jr_arena_deinit(struct jr_arena *a);
/* All that was handed out is gone; keeps memory for the next round, clears full. */
void jr_arena_reset(struct jr_arena *a);
/* Uninitialised, aligned to 16; size 0 gives a valid pointer. NULL when it would pass max. */
void *jr_arena_alloc(struct jr_arena *a, size_t size);
/* n elements of size bytes each; NULL also when n * size overflows. */
void *jr_arena_array(struct jr_arena *a, size_t n, size_t size);

#endif
