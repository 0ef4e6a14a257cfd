/* SPDX-License-Identifier: Apache-2.0 */
/* The cost models against figures worked out by hand, and the learned speed. */
#include "core/cost.h"
#include "jr_test.h"
#include <math.h>
#include <string.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static void test_prefill_estimate(void **state)
{
    struct jr_cost_config c;

    (void)state;
    jr_cost_config_init(&c, JR_COST_SECONDS);
    assert_true(c.kappa == 2.25 && c.delta == 0.01 && c.mu == 0.02);
    NEAR(jr_cost_prefill_s(&c, 0, 5000), 0);
    NEAR(jr_cost_prefill_s(&c, 1000, 0), 0.1 + 7.5e-10 * 1000 * 500);
    NEAR(jr_cost_prefill_s(&c, 1000, 4000), 0.1 + 7.5e-10 * 1000 * 4500);
}

static void test_seconds(void **state)
{
    struct jr_cost_request r = {.isl_tokens = 640, .block_size = 64};
    struct jr_candidate k[3] = {
        {.overlap_blocks = 4, .live_blocks = 2, .decoding = 3, .backlog_s = 0.5},
        {.overlap_blocks = 1, .live_blocks = 6},
        {.overlap_blocks = 10}, /* all of it: one block is still computed */
    };
    struct jr_cost_config c;
    double p;

    (void)state;
    jr_cost_config_init(&c, JR_COST_SECONDS);
    jr_cost_eval(&c, &r, 3, k, 3);
    assert_int_equal(4, k[0].cached_blocks);
    assert_int_equal(6 * 64, k[0].uncached_tokens);
    p = 3 * jr_cost_prefill_s(&c, 6 * 64, 4 * 64);
    NEAR(k[0].prefill_s, p);
    NEAR(k[0].estimate_s * 3, p);
    NEAR(k[0].cost, 0.5 + (2.25 + 0.03) * p + 3 * 0.06);
    NEAR(k[0].cost, k[0].prefill_cost + k[0].load_cost);
    assert_int_equal(6, k[1].cached_blocks);
    NEAR(k[1].cost, 2.25 * 3 * jr_cost_prefill_s(&c, 4 * 64, 6 * 64));
    assert_int_equal(9, k[2].cached_blocks);
    assert_int_equal(64, k[2].uncached_tokens);
}

/* A fresh prompt of 14 tokens at 16 a block was seen at 0.875 on a live Dynamo 1.0.2. */
static void test_dynamo_1_0(void **state)
{
    struct jr_cost_request r = {.isl_tokens = 14, .block_size = 16};
    struct jr_candidate fresh = {0}, k = {.overlap_blocks = 3,
                                          .prefill_tokens = 100,
                                          .active_blocks = 7,
                                          .new_blocks = 5};
    struct jr_cost_config c;

    (void)state;
    jr_cost_config_init(&c, JR_COST_DYNAMO_1_0);
    jr_cost_eval(&c, &r, 1, &fresh, 1);
    NEAR(fresh.cost, 0.875);
    r.isl_tokens = 130;
    c.overlap_weight = 2;
    jr_cost_eval(&c, &r, 1, &k, 1);
    NEAR(k.cost, 2 * (100 + 130 - 48) / 16.0 + 12);
    r.isl_tokens = 40; /* more overlap than prompt */
    jr_cost_eval(&c, &r, 1, &k, 1);
    assert_int_equal(0, k.uncached_tokens);
    NEAR(k.cost, 2 * 100 / 16.0 + 12);
    c.overlap_weight = 0;
    jr_cost_eval(&c, &r, 1, &k, 1);
    NEAR(k.cost, 12);
}

static void test_dynamo_1_2(void **state)
{
    struct jr_cost_request r = {.isl_tokens = 160, .block_size = 16};
    struct jr_candidate k[2] = {
        {.overlap_blocks = 4, .prefill_tokens = 320, .active_blocks = 3, .new_blocks = 6},
        {.overlap_blocks = 2, .requests = 5},
    };
    struct jr_cost_config c;

    (void)state;
    jr_cost_config_init(&c, JR_COST_DYNAMO_1_2);
    jr_cost_eval(&c, &r, 1, k, 2);
    NEAR(k[0].cost, 30 - 4 + 9);
    NEAR(k[1].cost, 10 - 2);
    c.credit = 4;
    c.scale = 16;
    c.request_weight = 64;
    jr_cost_eval(&c, &r, 1, k, 2);
    NEAR(k[0].cost, 16 * (30 - 16) + 9);
    NEAR(k[1].cost, 16 * (10 - 8) + 5 * 64);
    c.decay = 0.5; /* 320 tokens are 20 blocks, two requests more than the least loaded */
    jr_cost_eval(&c, &r, 1, k, 2);
    NEAR(k[0].cost, 16 * (30 - 8) + 9);
    NEAR(k[1].cost, 16 * (10 - 8) + 5 * 64);
    c.credit = 100; /* never below nothing */
    jr_cost_eval(&c, &r, 1, k, 2);
    NEAR(k[0].cost, 9);
}

/* Behind the device's blocks: a share of each counts, of tokens or, in the newest formula, of overlap. */
static void test_lower_media(void **state)
{
    struct jr_cost_request r = {.isl_tokens = 640, .block_size = 64};
    const struct jr_candidate is = {.overlap_blocks = 2, .host_blocks = 3, .disk_blocks = 2};
    struct jr_candidate k = is;
    struct jr_cost_config c;

    (void)state;
    jr_cost_config_init(&c, JR_COST_SECONDS);
    assert_false(jr_cost_lower_counts(&c));
    jr_cost_eval(&c, &r, 1, &k, 1);
    assert_int_equal(k.uncached_tokens, 640 - 128);
    c.host_credit = 0.75;
    c.disk_credit = 0.25;
    assert_true(jr_cost_lower_counts(&c));
    jr_cost_eval(&c, &r, 1, &k, 1);
    assert_int_equal(k.cached_blocks, 2);
    assert_int_equal(k.uncached_tokens, 640 - 304); /* 4.75 blocks */
    NEAR(k.cost, 2.25 * jr_cost_prefill_s(&c, 336, 304));
    k.live_blocks = 5; /* on the device, and further */
    jr_cost_eval(&c, &r, 1, &k, 1);
    assert_int_equal(k.uncached_tokens, 640 - 320);
    k = is;
    k.host_blocks = 30;
    jr_cost_eval(&c, &r, 1, &k, 1); /* the last token is computed all the same */
    assert_int_equal(k.uncached_tokens, 64);
    k = is;
    c.model = JR_COST_DYNAMO_1_0;
    jr_cost_eval(&c, &r, 1, &k, 1);
    NEAR(k.cost, (640 - 304) / 64.0);
    c.model = JR_COST_DYNAMO_1_2;
    c.credit = 2;
    jr_cost_eval(&c, &r, 1, &k, 1);
    NEAR(k.cost, 10 - 2 * 2 - 2.75);
}

static void test_empty_prompt(void **state)
{
    struct jr_cost_request r = {.isl_tokens = 0, .block_size = 16};
    struct jr_candidate k = {.prefill_tokens = 16};
    struct jr_cost_config c;

    (void)state;
    for (int model = JR_COST_SECONDS; model <= JR_COST_DYNAMO_1_2; model++) {
        jr_cost_config_init(&c, (enum jr_cost_model)model);
        c.decay = 1;
        jr_cost_eval(&c, &r, 1, &k, 1);
        assert_true(isfinite(k.cost));
        jr_cost_eval(&c, &r, 1, &k, 0);
    }
}

static void test_speed(void **state)
{
    struct jr_speed s = {0};

    (void)state;
    NEAR(jr_speed_factor(&s), 1);
    jr_speed_add(&s, (double)NAN, 1);
    jr_speed_add(&s, 1, (double)INFINITY);
    jr_speed_add(&s, 0, 1);
    jr_speed_add(&s, 1, -1);
    NEAR(jr_speed_factor(&s), 1);
    for (int i = 0; i < 1000; i++)
        jr_speed_add(&s, 0.5, 1);
    NEAR(jr_speed_factor(&s), 2);
    for (int i = 0; i < 200; i++) /* the fleet became four times faster */
        jr_speed_add(&s, 0.5, 0.25);
    assert_true(jr_speed_factor(&s) < 1.2 && jr_speed_factor(&s) > 0.5);
    for (int i = 0; i < 1500; i++)
        jr_speed_add(&s, 0.5, 0.25);
    assert_true(fabs(jr_speed_factor(&s) - 0.5) < 0.01);
    for (int i = 0; i < 1500; i++) /* four prefills end with one step: the first has all its time */
        jr_speed_add(&s, 0.5, i % 4 == 0 ? 2 : 0);
    assert_true(fabs(jr_speed_factor(&s) - 1) < 0.02);
    for (int i = 0; i < 5000; i++)
        jr_speed_add(&s, 1e-3, 1e5);
    NEAR(jr_speed_factor(&s), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefill_estimate), cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_dynamo_1_0),       cmocka_unit_test(test_dynamo_1_2),
        cmocka_unit_test(test_empty_prompt),     cmocka_unit_test(test_speed),
        cmocka_unit_test(test_lower_media),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
