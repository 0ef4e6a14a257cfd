/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arr.h"
#include "jr_test.h"

struct numbers {
    JR_ARR_FIELDS(uint32_t);
};

static int push_many(struct jr_mem *mem, void *ctx)
{
    struct numbers a = {0};
    int rv = 0;

    (void)ctx;
    for (uint32_t i = 0; i < 1000; i++) {
        rv = jr_arr_reserve(mem, &a, 1, 1000);
        if (rv < 0)
            break;
        a.v[a.n++] = i;
    }
    for (uint32_t i = 0; i < a.n; i++)
        assert_int_equal(a.v[i], i);
    jr_arr_free(mem, &a);
    assert_true(a.v == NULL && a.n == 0 && a.cap == 0);
    return rv;
}

static void grows_and_survives_oom(void **state)
{
    (void)state;
    assert_in_range(jr_test_oom_sweep(push_many, NULL), 2, 12); /* it doubles */
}

static void keeps_the_limit(void **state)
{
    struct numbers a = {0};
    struct jr_mem mem;

    (void)state;
    jr_mem_init(&mem);
    assert_int_equal(jr_arr_reserve(&mem, &a, 11, 10), JR_ELIMIT);
    assert_int_equal(jr_arr_reserve(&mem, &a, 9, 10), 0);
    a.n = 9;
    assert_int_equal(jr_arr_reserve(&mem, &a, 1, 10), 0);
    assert_int_equal(a.cap, 10);
    a.n = 10;
    assert_int_equal(jr_arr_reserve(&mem, &a, 1, 10), JR_ELIMIT);
    assert_int_equal(jr_arr_reserve(&mem, &a, UINT32_MAX, UINT32_MAX), JR_ELIMIT);
    assert_int_equal(jr_arr_reserve(&mem, &a, 0, 10), 0);
    assert_int_equal(mem.bytes, 40);
    jr_arr_free(&mem, &a);
    jr_arr_free(&mem, &a);
    jr_mem_deinit(&mem);
}

static void never_grows_past_the_limit(void **state)
{
    (void)state;
    for (uint32_t max = 1; max < 40; max++) {
        struct numbers a = {0};
        struct jr_mem mem;
        jr_mem_init(&mem);
        while (jr_arr_reserve(&mem, &a, 1, max) == 0) {
            assert_in_range(a.cap, a.n + 1, max);
            a.n++;
        }
        assert_int_equal(a.n, max);
        jr_arr_free(&mem, &a);
        jr_mem_deinit(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_survives_oom),
        cmocka_unit_test(keeps_the_limit),
        cmocka_unit_test(never_grows_past_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
