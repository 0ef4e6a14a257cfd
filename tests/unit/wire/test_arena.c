/* SPDX-License-Identifier: Apache-2.0 */
#include "wire_test.h"

static void aligned_and_distinct(void **state)
{
    struct jr_arena a;
    (void)state;
    jr_arena_init(&a, 1 << 20);
    uint8_t *before = NULL;
    for (size_t n = 0; n < 300; n++) {
        uint8_t *p = jr_arena_alloc(&a, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_ptr_not_equal(p, before);
        memset(p, 0xa5, n);
        before = p;
    }
    assert_false(a.full);
    jr_arena_deinit(&a);
}

static void bounded(void **state)
{
    struct jr_arena a;
    (void)state;
    jr_arena_init(&a, 10000);
    assert_null(jr_arena_alloc(&a, 10001));
    assert_true(a.full);
    jr_arena_reset(&a);
    assert_false(a.full);
    size_t got = 0;
    while (jr_arena_alloc(&a, 64))
        got += 64;
    assert_true(a.full);
    assert_in_range(got, 9000, 10000);
    assert_in_range(a.used, 9000, 10000);
    assert_null(jr_arena_array(&a, SIZE_MAX / 2, 3));
    jr_arena_reset(&a);
    jr_arena_deinit(&a);
    jr_arena_init(&a, 100);
    assert_non_null(jr_arena_alloc(&a, 96));
    assert_null(jr_arena_alloc(&a, 1));
    jr_arena_deinit(&a);
    jr_arena_deinit(NULL);
}

/* In a steady state the same chunk serves every round; a huge one is given back. */
static void reset_keeps(void **state)
{
    struct jr_arena a;
    (void)state;
    jr_arena_init(&a, (size_t)64 << 20);
    void *first = jr_arena_alloc(&a, 1000);
    for (int i = 0; i < 10; i++) {
        jr_arena_reset(&a);
        assert_ptr_equal(jr_arena_alloc(&a, 1000), first);
    }
    assert_non_null(jr_arena_alloc(&a, (size_t)20 << 20));
    jr_arena_reset(&a);
    assert_int_equal(a.used, 0);
    assert_non_null(jr_arena_alloc(&a, 10));
    jr_arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligned_and_distinct),
        cmocka_unit_test(bounded),
        cmocka_unit_test(reset_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
