/* SPDX-License-Identifier: Apache-2.0 */
/* The models whose requests wait: how many there may be, and who takes a place. */
#include "core_pool.h"

static struct fix fx;

#define MODELS (JR_QUEUE_MODELS_MAX + 44)

static uint64_t model_of(uint64_t i)
{
    char name[16];
    (void)snprintf(name, sizeof name, "m%u", (unsigned)i);
    return jr_pool_model_id(name);
}

static uint32_t class_rows(void)
{
    struct jr_class_view v;
    uint32_t pos = 0;
    while (jr_pool_next_class(fx.pool, &pos, &v))
        assert_string_equal(v.model, "");
    return pos;
}

/* A worker that says no model takes any name: clients that make names up take no place from others. */
static void test_names_that_no_worker_says(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker_of(&fx, "", 1, 1, 100, 0);
    ask(&fx, 1, 1000);
    for (uint64_t id = 2; id < 2 + MODELS; id++) {
        route(&fx, (struct jr_route){.id = id, .tokens = 1, .model = model_of(id)});
        assert_true(waits(&fx, id));
    }
    assert_int_equal(view(&fx).queue.waiting, MODELS);
    assert_int_equal(class_rows(), 1);
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_true(fx.a[2].decided && fx.a[2].waited);
    close_pool(&fx);
}

/* Models come and go: what nobody waits for has no place for good. */
static void test_models_of_long_ago(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    for (uint64_t i = 0; i < MODELS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "m%u", (unsigned)i);
        add_worker_of(&fx, name, 1, 1, 100, 0);
        route(&fx, (struct jr_route){.id = 2 * i + 1, .tokens = 101, .model = model_of(i)});
        route(&fx, (struct jr_route){.id = 2 * i + 2, .tokens = 1, .model = model_of(i)});
        assert_true(fx.a[2 * i + 1].decided && waits(&fx, 2 * i + 2));
        request(&fx, JR_EV_FINISH, 2 * i + 2, 0);
        request(&fx, JR_EV_FINISH, 2 * i + 1, 0);
    }
    struct jr_class_view v;
    uint32_t pos = 0;
    bool last = false;
    while (jr_pool_next_class(fx.pool, &pos, &v))
        last = last || jr_pool_model_id(v.model) == model_of(MODELS - 1);
    assert_true(last);
    assert_int_equal(pos, JR_QUEUE_MODELS_MAX);
    close_pool(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_that_no_worker_says),
        cmocka_unit_test(test_models_of_long_ago),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
