/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pages.h"
#include "base/assert.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE      JR_PAGES_HUGE
#define UNIT      ((size_t)16 << 10)
#define PAGE      ((size_t)4096)
#define ARENA_MAX ((size_t)8 << 20)
#define WORDS     (ARENA_MAX / UNIT / 64)
#define PART      8 /* the arena ahead, and free units before it is used: one part in so many at most */

enum { JOB_WAITS, JOB_DONE, JOB_ABANDONED };

struct region {
    char *at;
    size_t bytes;             /* mapped */
    struct jr_pages_job *job; /* until its first touch is done */
    bool is_arena;
    bool lasts;                         /* an arena of what stays, not of tables that grow away */
    uint64_t used[WORDS], dirty[WORDS]; /* a bit a unit */
    size_t units_free;
};

struct jr_pages {
    struct jr_pages_warmer warmer;
    struct region **v; /* by address; the spare is not among them */
    size_t n, cap;
    struct region *spare;
    size_t arenas;     /* bytes, with the spare */
    size_t units_used; /* of arenas */
};

/* ---- regions and their first touch ----------------------------------------------------------- */

static void job_end(struct jr_pages_job *job)
{
    (void)munmap(job->at, job->bytes);
    free(job);
}

void jr_pages_job_run(struct jr_pages_job *job)
{
    int waits = JOB_WAITS;

    for (size_t at = 0; at < job->bytes && atomic_load(&job->state) == JOB_WAITS; at += HUGE) {
#if defined(MADV_POPULATE_WRITE)
        size_t n = job->bytes - at < HUGE ? job->bytes - at : HUGE;
        /* Safe beside its user; older kernels refuse, and the user pays for the first touch. */
        (void)madvise(job->at + at, n, MADV_POPULATE_WRITE);
#endif
    }
    if (!atomic_compare_exchange_strong(&job->state, &waits, JOB_DONE))
        job_end(job);
}

static bool is_warm(struct region *r)
{
    if (r->job && atomic_load(&r->job->state) == JOB_DONE) {
        free(r->job);
        r->job = NULL;
    }
    return r->job == NULL;
}

/* Aligned to a huge page, and the kernel told to use them. */
static char *map(size_t bytes)
{
    char *p = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before, after;

    if (p == MAP_FAILED)
        return NULL;
    before = (HUGE - ((uintptr_t)p & (HUGE - 1))) & (HUGE - 1);
    after = HUGE - before;
    if (before > 0)
        (void)munmap(p, before);
    if (after > 0)
        (void)munmap(p + before + bytes, after);
    (void)madvise(p + before, bytes, MADV_HUGEPAGE);
    return p + before;
}

static struct region *region_create(struct jr_pages *p, size_t bytes, bool is_arena)
{
    struct region *r = calloc(1, sizeof *r);
    struct jr_pages_job *job = calloc(1, sizeof *job);
    char *at = r && job ? map(bytes) : NULL;

    if (!at) {
        free(r);
        free(job);
        return NULL;
    }
    *job = (struct jr_pages_job){.at = at, .bytes = bytes};
    *r = (struct region){.at = at, .bytes = bytes, .job = job, .is_arena = is_arena};
    r->units_free = bytes / UNIT;
    if (is_arena)
        p->arenas += bytes;
    p->warmer.post(p->warmer.ctx, job);
    return r;
}

/* Whoever comes last of the owner and the warmer gives the memory back. */
static void region_destroy(struct jr_pages *p, struct region *r)
{
    if (r->is_arena)
        p->arenas -= r->bytes;
    if (!r->job)
        (void)munmap(r->at, r->bytes);
    else if (atomic_exchange(&r->job->state, JOB_ABANDONED) == JOB_DONE)
        job_end(r->job);
    free(r);
}

/* ---- the regions in use ---------------------------------------------------------------------- */

/* How many begin at or before the address. */
static size_t rank(const struct jr_pages *p, const char *at)
{
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (p->v[mid]->at <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct region *region_of(const struct jr_pages *p, const void *ptr)
{
    size_t i = rank(p, ptr);
    struct region *r = i > 0 ? p->v[i - 1] : NULL;

    return r && (const char *)ptr < r->at + r->bytes ? r : NULL;
}

static bool reserve(struct jr_pages *p)
{
    size_t cap = p->cap > 0 ? p->cap * 2 : 16;
    struct region **v;

    if (p->n < p->cap)
        return true;
    v = realloc(p->v, cap * sizeof *v); /* NOLINT(bugprone-sizeof-expression): pointers */
    if (!v)
        return false;
    p->v = v;
    p->cap = cap;
    return true;
}

/* Room was reserved. */
static void add(struct jr_pages *p, struct region *r)
{
    size_t i = rank(p, r->at);

    for (size_t k = p->n; k > i; k--)
        p->v[k] = p->v[k - 1];
    p->v[i] = r;
    p->n++;
}

static void drop(struct jr_pages *p, struct region *r)
{
    size_t i = rank(p, r->at) - 1;

    JR_ASSERT(p->v[i] == r);
    p->n--;
    for (; i < p->n; i++)
        p->v[i] = p->v[i + 1];
    region_destroy(p, r);
}

/* ---- units of arenas ------------------------------------------------------------------------- */

static bool bit(const uint64_t *v, size_t i)
{
    return v[i / 64] >> (i % 64) & 1;
}

static void set(uint64_t *v, size_t i, bool on)
{
    v[i / 64] = (v[i / 64] & ~(UINT64_C(1) << (i % 64))) | (uint64_t)on << (i % 64);
}

static size_t units_of(size_t bytes)
{
    return (bytes + UNIT - 1) / UNIT;
}

/* The first of so many free units in a row; SIZE_MAX. */
static size_t find_units(const struct region *r, size_t n)
{
    size_t end = r->bytes / UNIT, run = 0;

    for (size_t i = 0; i < end && r->units_free >= n; i++) {
        run = bit(r->used, i) ? 0 : run + 1;
        if (run == n)
            return i + 1 - n;
    }
    return SIZE_MAX;
}

static char *arena_take(struct jr_pages *p, struct region *r, size_t n)
{
    size_t first = r->is_arena ? find_units(r, n) : SIZE_MAX;

    if (first == SIZE_MAX)
        return NULL;
    for (size_t i = first; i < first + n; i++)
        set(r->used, i, true);
    r->units_free -= n;
    p->units_used += n;
    return r->at + first * UNIT;
}

/* Free bytes of the arenas in use. */
static size_t holes(const struct jr_pages *p)
{
    return jr_pages_slack(p) - (p->spare ? p->spare->bytes : 0);
}

static size_t holes_max(const struct jr_pages *p)
{
    size_t part = p->arenas / PART;

    return part > HUGE / 4 ? part : HUGE / 4;
}

static void arena_give(struct jr_pages *p, struct region *r, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        JR_ASSERT(bit(r->used, i));
        set(r->used, i, false);
        set(r->dirty, i, true);
    }
    r->units_free += end - first;
    p->units_used -= end - first;
    if (r->units_free == r->bytes / UNIT)
        drop(p, r);
    if (p->spare && holes(p) > holes_max(p)) { /* and they will be used before it */
        region_destroy(p, p->spare);
        p->spare = NULL;
    }
}

static void spare_order(struct jr_pages *p)
{
    size_t bytes = p->arenas / PART & ~(HUGE - 1);

    if (bytes < HUGE)
        bytes = HUGE;
    if (!p->spare)
        p->spare = region_create(p, bytes < ARENA_MAX ? bytes : ARENA_MAX, true);
}

static char *arenas_take(struct jr_pages *p, bool lasts, size_t n)
{
    char *at = NULL;

    for (size_t i = 0; !at && i < p->n; i++) {
        if (p->v[i]->lasts == lasts)
            at = arena_take(p, p->v[i], n);
    }
    return at;
}

static char *shared_take(struct jr_pages *p, bool lasts, size_t size)
{
    char *at = arenas_take(p, lasts, units_of(size));

    if (!at && p->spare && is_warm(p->spare) && reserve(p)) {
        p->spare->lasts = lasts;
        add(p, p->spare);
        at = arena_take(p, p->spare, units_of(size));
        p->spare = NULL;
    }
    if (!at || holes(p) <= holes_max(p) / 2)
        spare_order(p);
    return at;
}

/* ---- what others see ------------------------------------------------------------------------- */

struct jr_pages *jr_pages_create(const struct jr_pages_warmer *warmer)
{
    struct jr_pages *p = calloc(1, sizeof *p);

    if (p)
        p->warmer = *warmer;
    return p;
}

void jr_pages_destroy(struct jr_pages *p)
{
    if (!p)
        return;
    JR_ASSERT(p->n == 0);
    if (p->spare)
        region_destroy(p, p->spare);
    free(p->v);
    free(p);
}

void *jr_pages_take(struct jr_pages *p, bool lasts, size_t size)
{
    struct region *r;

    if (size < HUGE)
        return shared_take(p, lasts, size);
    r = reserve(p) ? region_create(p, (size + PAGE - 1) & ~(PAGE - 1), false) : NULL;
    if (!r)
        return NULL;
    add(p, r);
    return r->at;
}

bool jr_pages_is_coming(const struct jr_pages *p, size_t size)
{
    return size < HUGE && p->spare && !is_warm(p->spare);
}

void jr_pages_zero(struct jr_pages *p, void *ptr, size_t size, size_t from)
{
    struct region *r = region_of(p, ptr);
    size_t first = r->is_arena ? (size_t)((char *)ptr - r->at) / UNIT : 0;

    for (size_t i = first + from / UNIT; r->is_arena && i < first + units_of(size); i++) {
        if (bit(r->dirty, i))
            memset(r->at + i * UNIT, 0, UNIT);
        set(r->dirty, i, false);
    }
}

size_t jr_pages_ready(struct jr_pages *p, void *ptr, size_t size, size_t from, size_t piece)
{
    struct region *r = region_of(p, ptr);
    size_t to = from + piece < size ? from + piece : size;

    if (!is_warm(r))
        return from;
    if (!r->is_arena)
        return size;
    to = units_of(to) * UNIT;
    jr_pages_zero(p, ptr, to, from);
    return to < size ? to : size;
}

bool jr_pages_is_cold(const struct jr_pages *p, const void *ptr)
{
    return !is_warm(region_of(p, ptr));
}

bool jr_pages_has(const struct jr_pages *p, const void *ptr)
{
    return region_of(p, ptr) != NULL;
}

void jr_pages_give(struct jr_pages *p, void *ptr, size_t size, size_t left)
{
    struct region *r = region_of(p, ptr);
    size_t first, keep = (left + HUGE - 1) & ~(HUGE - 1);

    if (r->is_arena) {
        first = (size_t)((char *)ptr - r->at) / UNIT;
        arena_give(p, r, first + units_of(left), first + units_of(size));
    } else if (left == 0) {
        drop(p, r);
    } else if (is_warm(r) && keep < r->bytes) { /* huge pages are not cut */
        (void)munmap(r->at + keep, r->bytes - keep);
        r->bytes = keep;
    }
}

size_t jr_pages_slack(const struct jr_pages *p)
{
    return p->arenas - p->units_used * UNIT;
}
