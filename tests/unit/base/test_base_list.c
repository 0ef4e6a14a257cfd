/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"
#include "base/rng.h"
#include "jr_test.h"
#include <string.h>

#define ITEMS 64

struct item {
    int id;
    struct jr_list node;
};

static void check(struct jr_list *l, const int *model, size_t n)
{
    size_t i = 0;

    JR_LIST_FOREACH (it, l) {
        assert_true(i < n);
        assert_int_equal(JR_CONTAINER_OF(it, struct item, node)->id, model[i]);
        assert_ptr_equal(it->next->prev, it);
        i++;
    }
    assert_int_equal(i, n);
    assert_int_equal(jr_list_empty(l), n == 0);
}

static size_t model_remove(int *model, size_t n, size_t at)
{
    memmove(model + at, model + at + 1, (n - at - 1) * sizeof *model);
    return n - 1;
}

static size_t model_insert(int *model, size_t n, size_t at, int id)
{
    memmove(model + at + 1, model + at, (n - at) * sizeof *model);
    model[at] = id;
    return n + 1;
}

static void behaves_like_an_array(void **state)
{
    struct item items[ITEMS];
    int model[ITEMS + 1];
    size_t n = 0;
    struct jr_list l;
    struct jr_rng r;

    (void)state;
    jr_rng_init(&r, jr_test_seed(), 4);
    jr_list_init(&l);
    for (int i = 0; i < ITEMS; i++) {
        items[i].id = i;
        jr_list_init(&items[i].node);
    }
    for (int step = 0; step < 3000; step++) {
        int id = (int)jr_rng_below(&r, ITEMS);
        size_t at = 0;
        while (at < n && model[at] != id)
            at++;
        if (at < n) {
            jr_list_remove(&items[id].node);
            n = model_remove(model, n, at);
        } else if (n > 0 && jr_rng_below(&r, 8) == 0) {
            struct jr_list *first = jr_list_pop_front(&l);
            assert_int_equal(JR_CONTAINER_OF(first, struct item, node)->id, model[0]);
            n = model_remove(model, n, 0);
        } else if (jr_rng_below(&r, 3) == 0) {
            jr_list_push_front(&l, &items[id].node);
            n = model_insert(model, n, 0, id);
        } else if (n > 0 && jr_rng_below(&r, 2) == 0) {
            at = jr_rng_below(&r, (uint32_t)n);
            jr_list_insert_before(&items[model[at]].node, &items[id].node);
            n = model_insert(model, n, at, id);
        } else {
            jr_list_push_back(&l, &items[id].node);
            n = model_insert(model, n, n, id);
        }
        check(&l, model, n);
    }
}

static void removes_while_walking_and_twice(void **state)
{
    struct item items[4];
    struct jr_list l;

    (void)state;
    jr_list_init(&l);
    for (int i = 0; i < 4; i++)
        jr_list_push_back(&l, &items[i].node);
    JR_LIST_FOREACH_SAFE (it, &l) {
        jr_list_remove(it);
        jr_list_remove(it);
    }
    assert_true(jr_list_empty(&l));
    assert_null(jr_list_pop_front(&l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(removes_while_walking_and_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
