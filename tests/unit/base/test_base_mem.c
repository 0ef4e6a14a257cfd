/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "jr_test.h"
#include <string.h>

static void counts_to_the_byte(void **state)
{
    struct jr_mem m;
    char *a, *b;

    (void)state;
    jr_mem_init(&m);
    a = jr_mem_alloc(&m, 100);
    b = jr_mem_zalloc(&m, 50);
    assert_int_equal(m.bytes, 150);
    for (int i = 0; i < 50; i++)
        assert_int_equal(b[i], 0);
    memset(a, 7, 100);
    a = jr_mem_realloc(&m, a, 100, 1000);
    assert_int_equal(m.bytes, 1050);
    assert_int_equal(a[99], 7);
    a = jr_mem_realloc(&m, a, 1000, 10);
    assert_int_equal(m.bytes, 60);
    assert_int_equal(m.bytes_peak, 1050);
    assert_int_equal(m.allocs, 4);
    jr_mem_free(&m, a, 10);
    jr_mem_free(&m, b, 50);
    jr_mem_free(&m, NULL, 99);
    jr_mem_deinit(&m);
    jr_mem_deinit(NULL);
}

static void limit_refuses_and_keeps_the_old(void **state)
{
    struct jr_mem m;
    char *a;

    (void)state;
    jr_mem_init(&m);
    m.bytes_max = 100;
    a = jr_mem_alloc(&m, 60);
    assert_null(jr_mem_alloc(&m, 41));
    assert_null(jr_mem_realloc(&m, a, 60, 101));
    assert_null(jr_mem_alloc(&m, SIZE_MAX));
    assert_int_equal(m.bytes, 60);
    a = jr_mem_realloc(&m, a, 60, 100); /* the old bytes do not count beside the new */
    assert_non_null(a);
    jr_mem_free(&m, a, 100);
    jr_mem_deinit(&m);
}

static void fails_when_told(void **state)
{
    struct jr_mem m;
    void *a;

    (void)state;
    jr_mem_init(&m);
    m.fail_after = 1;
    a = jr_mem_alloc(&m, 1);
    assert_non_null(a);
    assert_null(jr_mem_realloc(&m, a, 1, 2));
    assert_int_equal(m.fail_after, -1);
    a = jr_mem_realloc(&m, a, 1, 2);
    assert_non_null(a);
    jr_mem_free(&m, a, 2);
    jr_mem_deinit(&m);
}

static void empty_is_not_failure(void **state)
{
    struct jr_mem m;
    void *a;

    (void)state;
    jr_mem_init(&m);
    a = jr_mem_alloc(&m, 0);
    assert_non_null(a);
    jr_mem_free(&m, a, 0);
    a = jr_mem_realloc(&m, NULL, 0, 8);
    assert_non_null(a);
    jr_mem_free(&m, a, 8);
    jr_mem_deinit(&m);
}

static void leak(void *ctx)
{
    struct jr_mem m;

    jr_mem_init(&m);
    m.bytes = (size_t)(ctx != NULL);
    jr_mem_deinit(&m);
}

static void free_too_much(void *ctx)
{
    struct jr_mem m;

    jr_mem_init(&m);
    jr_mem_free(&m, ctx, 1);
}

static void misuse_asserts(void **state)
{
    char byte = 0;

    (void)state;
    assert_false(jr_test_aborts(leak, NULL));
    assert_true(jr_test_aborts(leak, &byte));
    assert_true(jr_test_aborts(free_too_much, &byte));
}

static int three_allocations(struct jr_mem *m, void *ctx)
{
    void *p[3] = {0};
    int rv = 0;

    (void)ctx;
    for (int i = 0; i < 3 && rv == 0; i++) {
        p[i] = jr_mem_alloc(m, 10);
        if (!p[i])
            rv = JR_ENOMEM;
    }
    for (int i = 0; i < 3; i++)
        jr_mem_free(m, p[i], 10);
    return rv;
}

static void oom_sweep_reaches_each_allocation(void **state)
{
    (void)state;
    assert_int_equal(jr_test_oom_sweep(three_allocations, NULL), 3);
}

static void x_family(void **state)
{
    char *s, *p = jr_xalloc(16);

    (void)state;
    for (int i = 0; i < 16; i++)
        assert_int_equal(p[i], 0);
    p = jr_xrealloc(p, 32);
    jr_xfree(p);
    s = jr_xstrdup("hello");
    assert_string_equal(s, "hello");
    jr_xfree(s);
    s = jr_xstrndup("hello", 3);
    assert_string_equal(s, "hel");
    jr_xfree(s);
    s = jr_xstrndup("he\0lo", 5);
    assert_string_equal(s, "he");
    jr_xfree(s);
    s = jr_xmemdup("a\0b", 3);
    assert_memory_equal(s, "a\0b", 3);
    jr_xfree(s);
    s = jr_xmemdup(NULL, 0);
    assert_non_null(s);
    jr_xfree(s);
    s = jr_xprintf("%s-%d", "a", 5);
    assert_string_equal(s, "a-5");
    jr_xfree(s);
    jr_xfree(NULL);
}

/* Small and large: aligned, zeroed, counted, refused over the limit. */
static void test_pages(void **state)
{
    static const size_t sizes[] = {1, 100, 4096, 65536, 278528, (2 << 20) - 64, 2 << 20, 5000000};
    struct jr_mem mem;

    (void)state;
    jr_mem_init(&mem);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = jr_mem_pages_alloc(&mem, sizes[i]);
        assert_non_null(p);
        assert_int_equal(0, (uintptr_t)p % 64);
        assert_int_equal(sizes[i], mem.bytes);
        assert_int_equal(0, p[0] | p[sizes[i] / 2] | p[sizes[i] - 1]);
        memset(p, 7, sizes[i]);
        jr_mem_pages_free(&mem, p, sizes[i]);
        assert_int_equal(0, mem.bytes);
    }
    jr_mem_pages_free(&mem, NULL, 100);
    mem.bytes_max = 1 << 20;
    assert_null(jr_mem_pages_alloc(&mem, 2 << 20));
    mem.bytes_max = 0;
    mem.fail_after = 0;
    assert_null(jr_mem_pages_alloc(&mem, 64));
    jr_mem_deinit(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
        cmocka_unit_test(counts_to_the_byte),
        cmocka_unit_test(limit_refuses_and_keeps_the_old),
        cmocka_unit_test(fails_when_told),
        cmocka_unit_test(empty_is_not_failure),
        cmocka_unit_test(misuse_asserts),
        cmocka_unit_test(oom_sweep_reaches_each_allocation),
        cmocka_unit_test(x_family),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
