/* SPDX-License-Identifier: Apache-2.0 */
/* What the options say of the cost model: presets are other defaults, options win over them. */
#include "app/config.h"
#include "app/frontend/frontend_internal.h"
#include "jr_test.h"

static char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static struct jr_pool_config config_of(int n, char **options)
{
    struct jr_config *cfg;
    struct jr_pool_config c;
    struct jr_errmsg e;
    assert_int_equal(jr_config_load(JR_CMD_FRONTEND, n, options, false, no_env, &e, &cfg), 0);
    assert_int_equal(jr_pool_config_from(cfg, "dynamo", "backend", &c, &e), 0);
    jr_config_destroy(cfg);
    return c;
}

#define CONFIG(...)                                                                                \
    config_of((int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__})

static void test_default(void **state)
{
    (void)state;
    struct jr_pool_config c = config_of(0, NULL);
    assert_int_equal(c.cost.model, JR_COST_SECONDS);
    assert_true(c.has_queue_threshold && c.queue_threshold == 4.0);
    assert_int_equal(c.tie, JR_TIE_HASH);
}

static void test_weights_choose_the_formula(void **state)
{
    (void)state;
    struct jr_pool_config c = CONFIG("--router-kv-overlap-score-weight", "2");
    assert_int_equal(c.cost.model, JR_COST_DYNAMO_1_0);
    assert_true(c.cost.overlap_weight == 2.0);
    c = CONFIG("--router-prefill-load-scale", "3");
    assert_int_equal(c.cost.model, JR_COST_DYNAMO_1_2);
    assert_true(c.cost.scale == 3.0 && c.cost.credit == 1.0);
}

static void test_presets(void **state)
{
    (void)state;
    struct jr_pool_config c = CONFIG("--router-preset", "dynamo");
    assert_int_equal(c.cost.model, JR_COST_DYNAMO_1_2);
    assert_true(c.cost.scale == 1.0 && c.cost.credit == 1.0 && c.cost.request_weight == 0.0);
    assert_true(c.has_queue_threshold && c.queue_threshold == 4.0);
    c = CONFIG("--router-preset", "dynamo-tuned");
    assert_int_equal(c.cost.model, JR_COST_DYNAMO_1_2);
    assert_true(c.cost.scale == 16.0 && c.cost.credit == 4.0 && c.cost.request_weight == 64.0);
    assert_true(c.has_queue_threshold && c.queue_threshold == 0.25);
    assert_int_equal(c.queue_policy, JR_QUEUE_WSPT);
}

static void test_an_option_wins(void **state)
{
    (void)state;
    struct jr_pool_config c =
        CONFIG("--router-preset", "dynamo-tuned", "--router-kv-overlap-score-credit", "2",
               "--router-queue-threshold", "None", "--router-queue-policy", "fcfs");
    assert_true(c.cost.scale == 16.0 && c.cost.credit == 2.0);
    assert_false(c.has_queue_threshold);
    assert_int_equal(c.queue_policy, JR_QUEUE_FCFS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_weights_choose_the_formula),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_an_option_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
