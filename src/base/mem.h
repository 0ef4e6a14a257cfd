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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jr_pages;
struct jr_pages_warmer;

struct jr_mem {
    size_t bytes; /* live now */
    size_t bytes_peak;
    size_t bytes_max;       /* 0: no limit */
    uint64_t allocs;        /* calls that allocated, ever */
    int64_t fail_after;     /* tests: so many more succeed, then one fails; -1 never */
    struct jr_pages *pages; /* owned; NULL: no huge pages */
    size_t warm_from;       /* bytes in use from which they come */
};

void jr_mem_init(struct jr_mem *m);
/* Asserts that everything was given back. */
void jr_mem_deinit(struct jr_mem *m);
/* Once `from` bytes are in use large tables come in huge pages, touched by that warmer (base/pages.h),
 * which must serve until jr_mem_deinit. Copies it. Without memory for that all stays as it is. */
#define JR_MEM_WARM_FROM                                                                           \
    ((size_t)16 << 20) /* what is smaller gains a tenth and would pay a fifth */
void jr_mem_warm(struct jr_mem *m, const struct jr_pages_warmer *warmer, size_t from);
/* Beside `bytes`: held from the kernel, warm, and not in use. 0 without a warmer. */
size_t jr_mem_slack(const struct jr_mem *m);

void *jr_mem_alloc(struct jr_mem *m, size_t size);  /* uninitialised; NULL on failure */
void *jr_mem_zalloc(struct jr_mem *m, size_t size); /* zeroed */
/* old_size must be what was asked for; on failure NULL and ptr stays valid. */
void *jr_mem_realloc(struct jr_mem *m, void *ptr, size_t old_size, size_t new_size);
void jr_mem_free(struct jr_mem *m, void *ptr, size_t size); /* takes; NULL is fine */

/* Zeroed memory for large tables, aligned to a cache line: from 64 KiB on pages straight from the
 * kernel, so that a table costs nothing before it is touched; small ones, whose first touch is short,
 * or huge ones that a warmer has touched. NULL on failure. Not for jr_mem_free. */
void *jr_mem_pages_alloc(struct jr_mem *m, size_t size);
void jr_mem_pages_free(struct jr_mem *m, void *ptr, size_t size); /* takes; NULL is fine */
/* Gives back about the last `piece` bytes; returns the size that is left, of the same kind of memory.
 * 0: all of it is gone. */
size_t jr_mem_pages_free_some(struct jr_mem *m, void *ptr, size_t size, size_t piece);

/* The same memory in steps, for a table that is not needed yet: begin, then jr_mem_pages_ready until
 * all of it is; or jr_mem_pages_finish, when it is needed before. Until then its content is undefined. */
void *jr_mem_pages_begin(struct jr_mem *m, size_t size);
/* Would beginning a little later give warm memory? */
bool jr_mem_pages_is_coming(const struct jr_mem *m, size_t size);
/* Makes about `piece` bytes from `from` on ready for use: a first touch, or zeroes. Returns the offset
 * up to which all is; `from` while the warmer is not there. */
size_t jr_mem_pages_ready(struct jr_mem *m, void *ptr, size_t size, size_t from, size_t piece);
/* Takes the memory, returns it or other that is small pages, where the warmer is not there yet. */
void *jr_mem_pages_finish(struct jr_mem *m, void *ptr, size_t size, size_t from);

void *jr_xalloc(size_t size); /* zeroed */
void *jr_xrealloc(void *ptr, size_t size);
char *jr_xstrdup(const char *s);
char *jr_xstrndup(const char *s, size_t n);
void *jr_xmemdup(const void *p, size_t n);
char *jr_xprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void jr_xfree(void *ptr);

#endif
