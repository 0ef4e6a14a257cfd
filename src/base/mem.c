/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/assert.h"
#include <stdarg.h>
#include <stdbool.h>
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
    if (m)
        JR_ASSERT(m->bytes == 0);
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

void *jr_mem_pages_alloc(struct jr_mem *m, size_t size)
{
    void *p;

    if (!admit(m, 0, size))
        return NULL;
    p = is_paged(size) ? pages_map(size) : lines_alloc(size);
    if (p)
        count(m, 0, size);
    return p;
}

void jr_mem_pages_free(struct jr_mem *m, void *ptr, size_t size)
{
    if (!ptr)
        return;
    JR_ASSERT(m->bytes >= size);
    m->bytes -= size;
    if (is_paged(size))
        (void)munmap(ptr, size);
    else
        free(ptr);
}

size_t jr_mem_pages_free_some(struct jr_mem *m, void *ptr, size_t size, size_t piece)
{
    size_t left = size > piece ? (size - piece) & ~(PAGE - 1) : 0;

    if (left < PAGED_MIN || !is_paged(size)) {
        jr_mem_pages_free(m, ptr, size);
        return 0;
    }
    JR_ASSERT(m->bytes >= size);
    m->bytes -= size - left;
    (void)munmap((char *)ptr + left, size - left);
    return left;
}

void jr_mem_pages_touch(void *ptr, size_t size)
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
