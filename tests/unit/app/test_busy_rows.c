/* SPDX-License-Identifier: Apache-2.0 */
#include "app/driver/busy_rows.h"
#include "jr_test.h"

static struct jr_busy_rows rows;

static void put(uint64_t model, int64_t stamp_ns, bool deleted)
{
    struct jr_busy_row *row = jr_busy_rows_place(&rows, model);
    assert_non_null(row);
    row->stamp_ns = stamp_ns;
    row->rec.deleted = deleted;
}

static void fill(void)
{
    rows = (struct jr_busy_rows){0};
    for (uint64_t model = 1; model <= JR_BUSY_MODELS_MAX; model++)
        put(model, (int64_t)(1000 + model), false);
}

static void test_all_are_set(void **state)
{
    (void)state;
    fill();
    assert_false(jr_busy_rows_has_place(&rows, 1000));
    assert_null(jr_busy_rows_place(&rows, 1000));
    assert_true(jr_busy_rows_has_place(&rows, 7));
    assert_int_equal(jr_busy_rows_place(&rows, 7)->stamp_ns, 1007);
}

/* The oldest deletion gives its place, whatever the order of the rows, and only when all are taken. */
static void test_deletions_give_their_places(void **state)
{
    (void)state;
    fill();
    put(30, 5002, true);
    put(20, 5001, true);
    put(40, 5003, true);
    const uint64_t gone[] = {20, 30, 40};
    for (uint64_t i = 0; i < 3; i++) {
        assert_non_null(jr_busy_rows_find(&rows, gone[i]));
        assert_true(jr_busy_rows_has_place(&rows, 1000 + i));
        const struct jr_busy_row *row = jr_busy_rows_place(&rows, 1000 + i);
        assert_non_null(row);
        assert_int_equal(row->model, 1000 + i);
        assert_int_equal(row->stamp_ns, 0);
        assert_false(row->rec.deleted || row->there);
        assert_null(jr_busy_rows_find(&rows, gone[i]));
    }
    assert_int_equal(rows.n, JR_BUSY_MODELS_MAX);
    assert_null(jr_busy_rows_place(&rows, 2000));
}

static void test_a_deletion_stays_while_there_is_place(void **state)
{
    (void)state;
    rows = (struct jr_busy_rows){0};
    put(1, 10, true);
    for (uint64_t model = 2; model <= JR_BUSY_MODELS_MAX; model++)
        put(model, 20, false);
    assert_non_null(jr_busy_rows_find(&rows, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_set),
        cmocka_unit_test(test_deletions_give_their_places),
        cmocka_unit_test(test_a_deletion_stays_while_there_is_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
