/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages that somebody else touches, with a warmer that waits until it is told. */
#include "base/pages.h"
#include "base/mem.h"
#include "base/rng.h"
#include "jr_test.h"
#include <stdint.h>
#include <string.h>

#define MIB   ((size_t)1 << 20)
#define TABLE ((size_t)320 << 10)

struct warmer {
    struct jr_pages_job *jobs[64];
    unsigned n, posted;
    bool at_once;
};

static void post(void *ctx, struct jr_pages_job *job)
{
    struct warmer *w = ctx;

    w->posted++;
    if (w->at_once)
        jr_pages_job_run(job);
    else
        w->jobs[w->n++] = job;
}

static void run_all(struct warmer *w)
{
    while (w->n > 0)
        jr_pages_job_run(w->jobs[--w->n]);
}

static struct jr_pages *make(struct warmer *w)
{
    return jr_pages_create(&(struct jr_pages_warmer){post, w});
}

static bool all_are(const unsigned char *p, size_t n, unsigned char value)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != value)
            return false;
    }
    return true;
}

static void only_warm_memory_is_given(void **state)
{
    struct warmer w = {0};
    struct jr_pages *p = make(&w);
    char *v;

    (void)state;
    assert_null(jr_pages_take(p, false, TABLE));
    assert_int_equal(1, w.posted);
    assert_true(jr_pages_is_coming(p, TABLE));
    assert_null(jr_pages_take(p, false, TABLE));
    assert_int_equal(1, w.posted);
    run_all(&w);
    assert_false(jr_pages_is_coming(p, TABLE));
    v = jr_pages_take(p, false, TABLE);
    assert_non_null(v);
    assert_true(jr_pages_has(p, v) && jr_pages_has(p, v + TABLE - 1));
    assert_int_equal(TABLE, jr_pages_ready(p, v, TABLE, 0, SIZE_MAX / 2));
    assert_true(all_are((unsigned char *)v, TABLE, 0));
    assert_int_equal(jr_pages_slack(p) % (16 << 10), 0);
    assert_true(jr_pages_slack(p) >= 2 * MIB - TABLE);
    jr_pages_give(p, v, TABLE, 0);
    assert_false(jr_pages_has(p, v));
    run_all(&w);
    jr_pages_destroy(p);
}

/* What was freed comes again, zeroed in pieces or at once. */
static void freed_memory_is_zeroed(void **state)
{
    struct warmer w = {.at_once = true};
    struct jr_pages *p = make(&w);
    unsigned char *keep, *v, *again;
    size_t at = 0;

    (void)state;
    assert_null(jr_pages_take(p, false, TABLE)); /* orders the first arena */
    keep = jr_pages_take(p, false, TABLE);
    v = jr_pages_take(p, false, TABLE);
    memset(v, 7, TABLE);
    jr_pages_give(p, v, TABLE, 100 << 10); /* its end first */
    assert_true(all_are(v, 100 << 10, 7));
    jr_pages_give(p, v, 100 << 10, 0);
    again = jr_pages_take(p, false, TABLE);
    assert_ptr_equal(v, again);
    while (at < TABLE) {
        size_t to = jr_pages_ready(p, again, TABLE, at, 32 << 10);
        assert_true(to > at && to <= at + (48 << 10));
        at = to;
    }
    assert_true(all_are(again, TABLE, 0));
    memset(again, 8, TABLE);
    jr_pages_give(p, again, TABLE, 0);
    again = jr_pages_take(p, false, TABLE);
    jr_pages_zero(p, again, TABLE, 0);
    assert_true(all_are(again, TABLE, 0));
    jr_pages_give(p, again, TABLE, 0);
    jr_pages_give(p, keep, TABLE, 0);
    jr_pages_destroy(p);
}

/* What stays and what grows away do not share an arena: its holes would not close. */
static void kinds_are_apart(void **state)
{
    struct warmer w = {.at_once = true};
    struct jr_pages *p = make(&w);
    char *table, *lasting;

    (void)state;
    assert_null(jr_pages_take(p, false, TABLE));
    table = jr_pages_take(p, false, TABLE);
    assert_null(jr_pages_take(p, true, TABLE));
    lasting = jr_pages_take(p, true, TABLE);
    assert_true((uintptr_t)table / JR_PAGES_HUGE != (uintptr_t)lasting / JR_PAGES_HUGE);
    jr_pages_give(p, table, TABLE, 0);
    jr_pages_give(p, lasting, TABLE, 0);
    jr_pages_destroy(p);
}

static void a_large_table_is_a_region_of_its_own(void **state)
{
    struct warmer w = {0};
    struct jr_pages *p = make(&w);
    const size_t size = 5 * MIB + 12345;
    unsigned char *v = jr_pages_take(p, false, size);

    (void)state;
    assert_non_null(v);
    assert_int_equal(0, (uintptr_t)v % JR_PAGES_HUGE);
    assert_int_equal(0, jr_pages_slack(p)); /* nothing is rounded up */
    assert_int_equal(0, jr_pages_ready(p, v, size, 0, 4096));
    v[0] = 1; /* may be used before */
    run_all(&w);
    assert_int_equal(size, jr_pages_ready(p, v, size, 0, 4096));
    assert_int_equal(1, v[0]);
    memset(v, 9, size);
    jr_pages_give(p, v, size, 3 * MIB);
    assert_true(all_are(v, 3 * MIB, 9));
    jr_pages_give(p, v, 3 * MIB, 0);
    jr_pages_destroy(p);
}

/* Given back, or everything ended, while the warmer has it still. */
static void a_region_may_be_given_back_before_it_is_warm(void **state)
{
    struct warmer w = {0};
    struct jr_pages *p = make(&w);
    char *v = jr_pages_take(p, false, 4 * MIB);

    (void)state;
    assert_non_null(v);
    jr_pages_give(p, v, 4 * MIB, 3 * MIB);
    jr_pages_give(p, v, 3 * MIB, 0);
    assert_null(jr_pages_take(p, false, TABLE));
    assert_int_equal(2, w.n);
    jr_pages_destroy(p);
    run_all(&w);
}

struct held {
    unsigned char *v;
    size_t size, at;
    unsigned char mark;
};

static void begin(struct jr_mem *mem, struct jr_rng *rng, struct held *h)
{
    bool lasts = jr_rng_below(rng, 3) == 0, now = jr_rng_below(rng, 4) == 0;

    h->size = 1 + jr_rng_below(rng, jr_rng_below(rng, 8) == 0 ? 6 * MIB : MIB);
    h->mark = (unsigned char)(1 + jr_rng_below(rng, 255));
    h->v = lasts ? jr_mem_pages_alloc(mem, h->size) : jr_mem_pages_begin(mem, h->size);
    h->at = lasts ? h->size : 0;
    assert_non_null(h->v);
    for (unsigned i = 0; !now && h->at < h->size && i < 300; i++)
        h->at = jr_mem_pages_ready(mem, h->v, h->size, h->at, 32 << 10);
    h->v = jr_mem_pages_finish(mem, h->v, h->size, h->at);
    assert_true(all_are(h->v, h->size, 0));
    memset(h->v, h->mark, h->size);
}

static void end(struct jr_mem *mem, struct jr_rng *rng, struct held *h)
{
    assert_true(all_are(h->v, h->size, h->mark));
    while (jr_rng_below(rng, 2) == 0 && h->size > 0)
        h->size = jr_mem_pages_free_some(mem, h->v, h->size, 256 << 10);
    if (h->size > 0)
        jr_mem_pages_free(mem, h->v, h->size);
    *h = (struct held){0};
}

/* Needed at once and not warm yet: small pages, and the region goes when the warmer has it. */
static void a_cold_region_is_not_used(void **state)
{
    struct warmer w = {0};
    struct jr_mem mem;
    unsigned char *v, *small;

    (void)state;
    jr_mem_init(&mem);
    jr_mem_warm(&mem, &(struct jr_pages_warmer){post, &w}, 0);
    v = jr_mem_pages_begin(&mem, 4 * MIB);
    assert_non_null(v);
    small = jr_mem_pages_finish(&mem, v, 4 * MIB, 0);
    assert_true(w.n == 0 || small != v);
    memset(small, 5, 4 * MIB);
    run_all(&w);
    assert_true(all_are(small, 4 * MIB, 5));
    assert_int_equal(4 * MIB, mem.bytes);
    jr_mem_pages_free(&mem, small, 4 * MIB);
    jr_mem_deinit(&mem);
}

/* Any order of everything: what is in use is never touched by another's, and all comes back. */
static void random_tables(void **state)
{
    struct held held[24] = {0};
    struct warmer w = {0};
    struct jr_rng rng;
    struct jr_mem mem;
    size_t sum = 0;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 1);
    jr_mem_init(&mem);
    jr_mem_warm(&mem, &(struct jr_pages_warmer){post, &w}, 0);
    for (unsigned i = 0; i < 600; i++) {
        struct held *h = &held[jr_rng_below(&rng, 24)];
        sum -= h->size;
        if (h->v)
            end(&mem, &rng, h);
        else
            begin(&mem, &rng, h);
        sum += h->size;
        assert_int_equal(sum, mem.bytes);
        if (jr_rng_below(&rng, 3) == 0 || w.n == 64)
            run_all(&w);
    }
    for (unsigned i = 0; i < 24; i++) {
        if (held[i].v)
            end(&mem, &rng, &held[i]);
    }
    jr_mem_deinit(&mem);
    run_all(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_warm_memory_is_given),
        cmocka_unit_test(freed_memory_is_zeroed),
        cmocka_unit_test(kinds_are_apart),
        cmocka_unit_test(a_large_table_is_a_region_of_its_own),
        cmocka_unit_test(a_region_may_be_given_back_before_it_is_warm),
        cmocka_unit_test(a_cold_region_is_not_used),
        cmocka_unit_test(random_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
