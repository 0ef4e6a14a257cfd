/* SPDX-License-Identifier: Apache-2.0 */
/* How long the ids of a model's texts hold: over a pool, with a clock of its own. */
#include "app/frontend/tokenizer_models.h"
#include "jr_test.h"

#include <stdio.h>

#define HOUR_MS 3600000

struct world {
    struct jr_pool *pool;
    struct jr_actions actions;
    struct jr_token_models models;
    uint64_t now_ms;
};

/* These workers serve the model from now on, and gone (0: none) takes its lease back. */
static void members(struct world *w, const char *model, const uint64_t *ids, uint64_t gone)
{
    struct jr_worker_lease leases[4] = {0};
    struct jr_event ev = {.type = JR_EV_MEMBERS, .now_ms = w->now_ms};
    uint32_t n = 0;
    for (; ids[n]; n++) {
        leases[n].worker_id = ids[n];
        (void)snprintf(leases[n].url, sizeof leases[n].url, "http://w%u", (unsigned)ids[n]);
        (void)snprintf(leases[n].model, sizeof leases[n].model, "%s", model);
    }
    ev.u.members.workers = leases;
    ev.u.members.n_workers = n;
    ev.u.members.removed = &gone;
    ev.u.members.n_removed = gone != 0;
    assert_int_equal(jr_pool_step(w->pool, &ev, &w->actions), 0);
}

static void world_init(struct world *w)
{
    struct jr_pool_config config = {.mode = JR_MODE_KV, .approximate = true};
    *w = (struct world){.now_ms = 1000};
    assert_int_equal(jr_pool_create(&config, NULL, &w->pool), 0);
}

static void world_deinit(struct world *w)
{
    jr_actions_deinit(&w->actions, w->pool);
    jr_pool_destroy(w->pool);
}

/* A little later, so that the pool is looked at. */
static uint64_t generation(struct world *w, const char *name)
{
    w->now_ms += 1000;
    return jr_token_models_generation(&w->models, w->pool, 0, name, w->now_ms);
}

static void test_a_new_one_when_the_worker_is_gone(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    members(&w, "m", (const uint64_t[]){1, 2, 0}, 0);
    uint64_t first = generation(&w, "m");
    assert_true(first > 0);
    assert_int_equal(generation(&w, "m"), first);
    members(&w, "m", (const uint64_t[]){1, 2, 3, 0}, 0); /* one more is no change */
    assert_int_equal(generation(&w, "m"), first);
    assert_int_not_equal(generation(&w, "other"), first);
    members(&w, "m", (const uint64_t[]){2, 3, 0}, 1);
    uint64_t second = generation(&w, "m");
    assert_int_not_equal(second, first);
    assert_int_equal(generation(&w, "m"), second);
    members(&w, "m", (const uint64_t[]){1, 2, 3, 0}, 0); /* what was before comes never back */
    assert_int_equal(generation(&w, "m"), second);
    members(&w, "changed", (const uint64_t[]){1, 2, 3, 0}, 0);
    assert_int_not_equal(generation(&w, "m"), second);
    world_deinit(&w);
}

static void test_a_new_one_each_hour(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    members(&w, "m", (const uint64_t[]){1, 0}, 0);
    uint64_t first = generation(&w, "m"), began_ms = w.now_ms;
    w.now_ms = began_ms + HOUR_MS - 2000;
    assert_int_equal(generation(&w, "m"), first);
    assert_int_not_equal(generation(&w, "m"), first);
    world_deinit(&w);
}

static void test_more_models_than_are_known(void **state)
{
    (void)state;
    struct world w;
    char name[16];
    world_init(&w);
    members(&w, "", (const uint64_t[]){1, 0}, 0);
    uint64_t last = 0;
    for (int i = 0; i < 2 * JR_TOKEN_MODELS_MAX; i++) {
        (void)snprintf(name, sizeof name, "m%d", i);
        uint64_t g = generation(&w, name);
        assert_true(g > last);
        last = g;
    }
    assert_int_equal(generation(&w, name), last);
    assert_true(generation(&w, "m0") > last); /* it was forgotten, and is never another's */
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_one_when_the_worker_is_gone),
        cmocka_unit_test(test_a_new_one_each_hour),
        cmocka_unit_test(test_more_models_than_are_known),
    };
    return cmocka_run_group_tests_name("app/tokenizer_models", tests, NULL, NULL);
}
