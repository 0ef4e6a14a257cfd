/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/assert.h"
#include "base/pages.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE      64
#define PAGED_MIN ((size_t)64 << 10)
#define PAGE      ((size_t)4096)

void jr_mem_init(struct jr_mem *m)
{
    *m = (struct jr_mem){.fail_after = -1};
}

void jr_mem_deinit(struct jr_mem *m)
{
    if (!m)
        return;
    JR_ASSERT(m->bytes == 0);
    jr_pages_destroy(m->pages);
    m->pages = NULL;
}

void jr_mem_warm(struct jr_mem *m, const struct jr_pages_warmer *warmer, size_t from)
{
    JR_ASSERT(!m->pages);
    m->pages = jr_pages_create(warmer);
    m->warm_from = from;
}

size_t jr_mem_slack(const struct jr_mem *m)
{
    return m->pages ? jr_pages_slack(m->pages) : 0;
}

/* malloc(0) may answer NULL, which would read as a failure. */
static size_t at_least_one(size_t size)
{
    return size ? size : 1;
}

/* May `size` bytes take the place of `old` bytes? Counts the call and the tests' countdown. */
static bool admit(struct jr_mem *m, size_t old, size_t size)
{
    size_t rest;

    JR_ASSERT(m->bytes >= old);
    if (m->fail_after >= 0 && m->fail_after-- == 0)
        return false;
    rest = m->bytes - old;
    if (size > SIZE_MAX - rest || (m->bytes_max && rest + size > m->bytes_max))
        return false;
    return true;
}

static void count(struct jr_mem *m, size_t old, size_t size)
{
    m->bytes = m->bytes - old + size;
    if (m->bytes > m->bytes_peak)
        m->bytes_peak = m->bytes;
    m->allocs++;
}

void *jr_mem_alloc(struct jr_mem *m, size_t size)
{
    void *p;

    if (!admit(m, 0, size))
        return NULL;
    p = malloc(at_least_one(size));
    if (p)
        count(m, 0, size);
    return p;
}

void *jr_mem_zalloc(struct jr_mem *m, size_t size)
{
    void *p;

    if (!admit(m, 0, size))
        return NULL;
    p = calloc(1, at_least_one(size));
    if (p)
        count(m, 0, size);
    return p;
}

void *jr_mem_realloc(struct jr_mem *m, void *ptr, size_t old_size, size_t new_size)
{
    void *p;

    JR_ASSERT(ptr || old_size == 0);
    if (!admit(m, old_size, new_size))
        return NULL;
    p = realloc(ptr, at_least_one(new_size));
    if (p)
        count(m, old_size, new_size);
    return p;
}

void jr_mem_free(struct jr_mem *m, void *ptr, size_t size)
{
    if (!ptr)
        return;
    JR_ASSERT(m->bytes >= size);
    m->bytes -= size;
    free(ptr);
}

/* Under the address sanitizer everything comes from malloc, which it watches. */
static bool is_paged(size_t size)
{
#if defined(__SANITIZE_ADDRESS__)
    return (void)size, false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return (void)size, false;
#endif
#endif
    return size >= PAGED_MIN;
}

static void *pages_map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void *lines_alloc(size_t size)
{
    size_t whole = (at_least_one(size) + LINE - 1) & ~(size_t)(LINE - 1);
    void *p = whole >= size ? aligned_alloc(LINE, whole) : NULL;

    if (p)
        memset(p, 0, whole);
    return p;
}

static struct jr_pages *pages_of(const struct jr_mem *m, size_t size)
{
    return is_paged(size) && m->bytes >= m->warm_from ? m->pages : NULL;
}

static void *pages_take(struct jr_mem *m, bool lasts, size_t size)
{
    void *p = NULL;

    if (!admit(m, 0, size))
        return NULL;
    if (pages_of(m, size) && (size < JR_PAGES_HUGE || !lasts))
        p = jr_pages_take(m->pages, lasts, size);
    if (!p)
        p = is_paged(size) ? pages_map(size) : lines_alloc(size);
    if (p)
        count(m, 0, size);
    return p;
}

void *jr_mem_pages_begin(struct jr_mem *m, size_t size)
{
    return pages_take(m, false, size);
}

bool jr_mem_pages_is_coming(const struct jr_mem *m, size_t size)
{
    return pages_of(m, size) && jr_pages_is_coming(m->pages, size);
}

static bool is_warmed(const struct jr_mem *m, const void *ptr, size_t size)
{
    return m->pages && is_paged(size) && jr_pages_has(m->pages, ptr);
}

static void touch(char *ptr, size_t size)
{
#if defined(MADV_POPULATE_WRITE)
    uintptr_t from = ((uintptr_t)ptr + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    uintptr_t to = ((uintptr_t)ptr + size) & ~(uintptr_t)(PAGE - 1);

    /* Older kernels refuse: the pages come one by one then, when they are used. */
    if (to > from)
        (void)madvise((void *)from, to - from,
                      MADV_POPULATE_WRITE); /* NOLINT(performance-no-int-to-ptr) */
#else
    (void)ptr;
    (void)size;
#endif
}

size_t jr_mem_pages_ready(struct jr_mem *m, void *ptr, size_t size, size_t from, size_t piece)
{
    size_t n = size - from < piece ? size - from : piece;

    if (is_warmed(m, ptr, size))
        return jr_pages_ready(m->pages, ptr, size, from, piece);
    touch((char *)ptr + from, n);
    return from + n;
}

void *jr_mem_pages_finish(struct jr_mem *m, void *ptr, size_t size, size_t from)
{
    void *small;

    if (from >= size || !is_warmed(m, ptr, size))
        return ptr;
    small = jr_pages_is_cold(m->pages, ptr) ? pages_map(size) : NULL;
    if (small) {
        jr_pages_give(m->pages, ptr, size, 0);
        return small;
    }
    jr_pages_zero(m->pages, ptr, size, from);
    return ptr;
}

/* What needs a region of its own would wait for the warmer: small pages then. */
void *jr_mem_pages_alloc(struct jr_mem *m, size_t size)
{
    void *p = pages_take(m, true, size);

    return p ? jr_mem_pages_finish(m, p, size, 0) : NULL;
}

/* Gives back all but `left` bytes. */
static void give(struct jr_mem *m, void *ptr, size_t size, size_t left)
{
    JR_ASSERT(m->bytes >= size - left);
    m->bytes -= size - left;
    if (is_warmed(m, ptr, size))
        jr_pages_give(m->pages, ptr, size, left);
    else if (is_paged(size))
        (void)munmap((char *)ptr + left, size - left);
    else
        free(ptr);
}

void jr_mem_pages_free(struct jr_mem *m, void *ptr, size_t size)
{
    if (ptr)
        give(m, ptr, size, 0);
}

size_t jr_mem_pages_free_some(struct jr_mem *m, void *ptr, size_t size, size_t piece)
{
    size_t left = size > piece ? (size - piece) & ~(PAGE - 1) : 0;

    if (left < PAGED_MIN || !is_paged(size))
        left = 0;
    if (ptr)
        give(m, ptr, size, left);
    return left;
}

static void *or_die(void *p)
{
    if (!p)
        JR_IMPOSSIBLE("out of memory");
    return p;
}

void *jr_xalloc(size_t size)
{
    return or_die(calloc(1, at_least_one(size)));
}

void *jr_xrealloc(void *ptr, size_t size)
{
    return or_die(realloc(ptr, at_least_one(size)));
}

char *jr_xstrdup(const char *s)
{
    return jr_xstrndup(s, strlen(s));
}

char *jr_xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = or_die(malloc(len + 1));

    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

void *jr_xmemdup(const void *p, size_t n)
{
    void *copy = or_die(malloc(at_least_one(n)));

    if (n)
        memcpy(copy, p, n);
    return copy;
}

char *jr_xprintf(const char *fmt, ...)
{
    va_list ap, again;
    int n;
    char *p;

    JR_ASSERT(fmt);
    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    JR_ASSERT(n >= 0);
    p = or_die(malloc((size_t)n + 1));
    (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void jr_xfree(void *ptr)
{
    free(ptr);
}
