/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/worker_last.h"
#include "jr_test.h"

static void test_rows_come_and_go(void **state)
{
    struct jr_worker_lasts l;
    (void)state;
    jr_worker_lasts_init(&l);
    for (uint32_t i = 0; i < 100; i++)
        jr_worker_last_first_token(&l, 0, i, 0, i, 10 * i);
    jr_worker_last_tokens(&l, 0, 7, 1, 0.5);
    jr_worker_last_first_token(&l, 1, 7, 0, 9, 3);
    jr_worker_last_first_token(&l, 0, 7, 0, 0.25, 12);

    jr_worker_lasts_look(&l);
    for (uint32_t i = 0; i < 100; i += 7)
        assert_non_null(jr_worker_lasts_find(&l, 0, i, 0));
    assert_null(jr_worker_lasts_find(&l, 0, 200, 0));
    assert_true(jr_worker_lasts_find(&l, 1, 7, 0)->has_ttft);
    const struct jr_worker_last *row = jr_worker_lasts_find(&l, 0, 7, 1);
    assert_true(row->has_itl && !row->has_ttft && row->itl_s > 0.4);
    jr_worker_lasts_looked(&l);
    assert_int_equal(l.rows.n, 17); /* those that were found */

    jr_worker_lasts_look(&l);
    for (uint32_t i = 0; i < 100; i++) {
        row = jr_worker_lasts_find(&l, 0, i, 0);
        assert_int_equal(row != NULL, i % 7 == 0);
        if (row)
            assert_int_equal(row->input_tokens, i == 7 ? 12 : 10 * i);
    }
    jr_worker_last_first_token(&l, 0, 300, 0, 1, 1); /* came while it was looked */
    jr_worker_lasts_looked(&l);
    assert_int_equal(l.rows.n, 16);
    jr_worker_lasts_look(&l);
    jr_worker_lasts_looked(&l);
    assert_int_equal(l.rows.n, 0);
    jr_worker_lasts_deinit(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows_come_and_go)};
    return cmocka_run_group_tests_name("worker_last", tests, NULL, NULL);
}
