/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pool.h"
#include "jr_test.h"

#include <string.h>

static void step(struct jr_pool *pool, enum jr_event_type type, uint64_t now_ms)
{
    struct jr_actions acts = {0};
    struct jr_event ev = {.type = type, .now_ms = now_ms, .unix_ns = 1};
    ev.u.request.id = 1;
    assert_int_equal(jr_pool_step(pool, &ev, &acts), 0);
    jr_actions_deinit(&acts, pool);
}

/* A pool that is asked something every millisecond still ticks. */
static void test_other_events_do_not_put_the_tick_off(void **state)
{
    (void)state;
    struct jr_pool_config config = {.replica_id = "a", .namespace_ = "n", .component = "c"};
    jr_cost_config_init(&config.cost, JR_COST_SECONDS);
    struct jr_pool *pool;
    assert_int_equal(jr_pool_create(&config, NULL, &pool), 0);
    step(pool, JR_EV_TICK, 1000);
    uint64_t due = jr_pool_deadline_ms(pool);
    assert_true(due > 1000 && due <= 2000);
    for (uint64_t now = 1001; now < 1000 + 2 * (due - 1000); now++)
        step(pool, JR_EV_FINISH, now);
    assert_int_equal(jr_pool_deadline_ms(pool), due);
    step(pool, JR_EV_TICK, due + 5);
    assert_true(jr_pool_deadline_ms(pool) > due + 5);
    jr_pool_destroy(pool);
}

/* A question to a peer that came up before the sync stream was opened waits without haste: a
 * deadline in the past would have the driver spin. */
static void test_no_deadline_for_what_cannot_be_sent(void **state)
{
    (void)state;
    struct jr_pool_config config = {.replica_id = "a",
                                    .namespace_ = "n",
                                    .component = "c",
                                    .durable = true,
                                    .replica_sync = true,
                                    .lease_ttl_ms = 5000,
                                    .ready_timeout_ms = 30000,
                                    .base_interval_ms = 10000};
    jr_cost_config_init(&config.cost, JR_COST_SECONDS);
    struct jr_pool *pool;
    assert_int_equal(jr_pool_create(&config, NULL, &pool), 0);
    step(pool, JR_EV_TICK, 1000);
    struct jr_sync_batch batch = {
        .replica = "b", .incarnation = 7, .number = 5}; /* 1 to 4 missed */
    struct jr_actions acts = {0};
    struct jr_event ev = {.type = JR_EV_SYNC, .now_ms = 1001, .unix_ns = 1};
    ev.u.sync = &batch;
    assert_int_equal(jr_pool_step(pool, &ev, &acts), 0);
    jr_actions_deinit(&acts, pool);
    assert_true(jr_pool_deadline_ms(pool) > 1001);
    step(pool, JR_EV_TICK, 2000);
    assert_true(jr_pool_deadline_ms(pool) > 2000);
    jr_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_events_do_not_put_the_tick_off),
        cmocka_unit_test(test_no_deadline_for_what_cannot_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
