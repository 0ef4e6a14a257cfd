/* SPDX-License-Identifier: Apache-2.0 */
/* mem: the only door to malloc.
 *
 * Two families. jr_mem_*: a counted, injectable allocator handed to core objects; frees are sized,
 * so that the count is exact to the byte without headers; returns NULL when out of memory or over
 * its limit. jr_x*: for io and app, where running out of memory ends the process; aborts, never
 * returns NULL, freed with jr_xfree. A struct jr_mem belongs to one thread; jr_x* may be called
 * from any. */
#ifndef JR_BASE_MEM_H
#define JR_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

struct jr_mem {
    size_t bytes; /* live now */
    size_t bytes_peak;
    size_t bytes_max;   /* 0: no limit */
    uint64_t allocs;    /* calls that allocated, ever */
    int64_t fail_after; /* tests: so many more succeed, then one fails; -1 never */
};

void jr_mem_init(struct jr_mem *m);
/* Asserts that everything was given back. */
void jr_mem_deinit(struct jr_mem *m);

void *jr_mem_alloc(struct jr_mem *m, size_t size);  /* uninitialised; NULL on failure */
void *jr_mem_zalloc(struct jr_mem *m, size_t size); /* zeroed */
/* old_size must be what was asked for; on failure NULL and ptr stays valid. */
void *jr_mem_realloc(struct jr_mem *m, void *ptr, size_t old_size, size_t new_size);
void jr_mem_free(struct jr_mem *m, void *ptr, size_t size); /* takes; NULL is fine */

/* Zeroed memory for large tables, aligned to a cache line: from 64 KiB on pages straight from the
 * kernel, so that a table costs nothing before it is touched. Small pages on purpose: the first touch
 * of a huge one takes 0.2 ms where the machine's memory was in use before, but 7 ms in a virtual
 * machine that had not touched it yet. NULL on failure. Not for jr_mem_free. */
void *jr_mem_pages_alloc(struct jr_mem *m, size_t size);
void jr_mem_pages_free(struct jr_mem *m, void *ptr, size_t size); /* takes; NULL is fine */
/* Gives back about the last `piece` bytes; returns the size that is left, of the same kind of memory.
 * 0: all of it is gone. */
size_t jr_mem_pages_free_some(struct jr_mem *m, void *ptr, size_t size, size_t piece);
/* First touch of a part of such memory: saves time over one fault a page. Never fails. */
void jr_mem_pages_touch(void *ptr, size_t size);

void *jr_xalloc(size_t size); /* zeroed */
void *jr_xrealloc(void *ptr, size_t size);
char *jr_xstrdup(const char *s);
char *jr_xstrndup(const char *s, size_t n);
void *jr_xmemdup(const void *p, size_t n);
char *jr_xprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void jr_xfree(void *ptr);

#endif
