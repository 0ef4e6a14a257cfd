/* SPDX-License-Identifier: Apache-2.0 */
/* tablemem: the memory of a hash table that grows, a few pages at a time. The kernel takes about a
 * microsecond to give a page at its first touch and a quarter of that to take it back, so a table of
 * some megabytes that is begun, or given back, at once is a stall. Here the next table is touched
 * before it is used, by a warmer where there is one (base/pages.h), and the last one is given back
 * piece by piece, by the insertions that follow. */
#ifndef JR_CORE_TABLEMEM_H
#define JR_CORE_TABLEMEM_H

#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>

struct jr_tablemem {
    char *next; /* being touched */
    size_t next_bytes, touched;
    char *dead; /* being given back */
    size_t dead_bytes;
    unsigned calls;
};

/* Zero-initialised is empty. Gives everything back. */
void jr_tablemem_free(struct jr_tablemem *t, struct jr_mem *mem);
/* The same in pieces; true when there is nothing left. */
bool jr_tablemem_free_some(struct jr_tablemem *t, struct jr_mem *mem);
size_t jr_tablemem_bytes(const struct jr_tablemem *t);
/* A step towards a next table of so many bytes; once more on each call. True once it is there, which
 * is at once when it is needed now; JR_ENOMEM: there is none. */
JR_MUST_CHECK int jr_tablemem_prepare(struct jr_tablemem *t, struct jr_mem *mem, size_t bytes,
                                      bool now, bool *ret_ready);
/* The next table, zeroed. Returns owned. */
void *jr_tablemem_take(struct jr_tablemem *t, struct jr_mem *mem);
/* Takes a table to give it back, at once only when the one before is not gone. */
void jr_tablemem_bury(struct jr_tablemem *t, struct jr_mem *mem, void *v, size_t bytes);
/* A step of giving back. */
void jr_tablemem_step(struct jr_tablemem *t, struct jr_mem *mem);
/* Gives back a piece of a table that nobody uses any more; *bytes is what is left of it. Returns the
 * table, NULL once it is gone. */
void *jr_tablemem_shorten(struct jr_mem *mem, void *v, size_t *bytes);

static inline bool jr_tablemem_is_busy(const struct jr_tablemem *t)
{
    return t->dead != NULL;
}

#endif
