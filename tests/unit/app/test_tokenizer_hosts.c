/* SPDX-License-Identifier: Apache-2.0 */
/* Which worker is asked for tokens: over a pool of static workers, with a clock of its own. */
#include "app/frontend/tokenizer_hosts.h"
#include "jr_test.h"

#include <stdio.h>
#include <string.h>

#define WORKERS 3
#define NOBODY  0

struct world {
    struct jr_pool *pool;
    struct jr_actions actions;
    struct jr_token_hosts hosts;
    uint64_t now_ms;
};

static void add_workers(struct world *w)
{
    struct jr_worker_lease leases[WORKERS] = {0};
    struct jr_event ev = {.type = JR_EV_MEMBERS, .now_ms = w->now_ms};
    for (uint32_t i = 0; i < WORKERS; i++) {
        leases[i].worker_id = i + 1;
        (void)snprintf(leases[i].url, sizeof leases[i].url, "http://w%u", i + 1);
        (void)snprintf(leases[i].model, sizeof leases[i].model, "%s", i < 2 ? "m" : "other");
    }
    ev.u.members.workers = leases;
    ev.u.members.n_workers = WORKERS;
    ev.u.members.is_static = true;
    assert_int_equal(jr_pool_step(w->pool, &ev, &w->actions), 0);
}

static void world_init(struct world *w)
{
    struct jr_pool_config config = {.mode = JR_MODE_KV, .approximate = true};
    *w = (struct world){.now_ms = 1000};
    assert_int_equal(jr_pool_create(&config, NULL, &w->pool), 0);
    jr_token_hosts_init(&w->hosts, jr_test_seed());
    add_workers(w);
}

static void world_deinit(struct world *w)
{
    jr_token_hosts_deinit(&w->hosts);
    jr_actions_deinit(&w->actions, w->pool);
    jr_pool_destroy(w->pool);
}

static uint64_t choose(struct world *w, const char *model, uint64_t except)
{
    struct jr_token_choice c = jr_token_hosts_choose(&w->hosts, w->pool, model, except, w->now_ms);
    assert_int_equal(c.any_live, strcmp(model, "none") != 0);
    assert_int_equal(c.url != NULL, c.worker_id != NOBODY);
    return c.worker_id;
}

static void end(struct world *w, uint64_t worker, enum jr_token_outcome outcome)
{
    jr_token_hosts_asked(&w->hosts, worker);
    jr_token_hosts_ended(&w->hosts, worker, outcome, w->now_ms);
}

static void test_the_models_workers_with_the_fewest_questions(void **state)
{
    (void)state;
    struct world w;
    uint32_t seen[WORKERS + 1] = {0};
    world_init(&w);
    for (int i = 0; i < 200; i++)
        seen[choose(&w, "m", NOBODY)]++;
    assert_true(seen[1] > 50 && seen[2] > 50 && !seen[3]);
    assert_int_equal(choose(&w, "other", NOBODY), 3);
    assert_int_equal(choose(&w, "none", NOBODY), NOBODY);
    assert_int_equal(choose(&w, "m", 1), 2);
    jr_token_hosts_asked(&w.hosts, 2);
    for (int i = 0; i < 20; i++)
        assert_int_equal(choose(&w, "m", NOBODY), 1);
    assert_int_equal(choose(&w, "m", 1), 2);
    jr_token_hosts_ended(&w.hosts, 2, JR_TOKEN_HOST_DROPPED, w.now_ms);
    assert_null(w.hosts.table); /* nothing to remember */
    world_deinit(&w);
}

static void test_one_that_failed_is_left_out_ever_longer(void **state)
{
    (void)state;
    static const uint64_t out_ms[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < sizeof out_ms / sizeof *out_ms; i++) {
        /* Those that were under way together fail as one. */
        for (int k = 0; k < 3; k++)
            jr_token_hosts_asked(&w.hosts, 3);
        for (int k = 0; k < 3; k++)
            jr_token_hosts_ended(&w.hosts, 3, JR_TOKEN_HOST_FAILED, w.now_ms);
        w.now_ms += out_ms[i] - 1;
        assert_int_equal(choose(&w, "other", NOBODY), NOBODY);
        w.now_ms++;
        assert_int_equal(choose(&w, "other", NOBODY), 3);
    }
    /* On trial: one question, and nobody else waits for it. */
    jr_token_hosts_asked(&w.hosts, 3);
    assert_int_equal(choose(&w, "other", NOBODY), NOBODY);
    jr_token_hosts_ended(&w.hosts, 3, JR_TOKEN_HOST_ANSWERED, w.now_ms);
    jr_token_hosts_asked(&w.hosts, 3);
    assert_int_equal(choose(&w, "other", NOBODY), 3);
    jr_token_hosts_ended(&w.hosts, 3, JR_TOKEN_HOST_ANSWERED, w.now_ms);
    end(&w, 3, JR_TOKEN_HOST_FAILED); /* counted from the start again */
    w.now_ms += 1000;
    assert_int_equal(choose(&w, "other", NOBODY), 3);
    world_deinit(&w);
}

static void test_one_without_a_tokenizer(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    end(&w, 1, JR_TOKEN_HOST_CANNOT);
    for (int i = 0; i < 20; i++)
        assert_int_equal(choose(&w, "m", NOBODY), 2);
    w.now_ms += 59999;
    assert_int_equal(choose(&w, "m", 2), NOBODY);
    w.now_ms++;
    assert_int_equal(choose(&w, "m", 2), 1);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_models_workers_with_the_fewest_questions),
        cmocka_unit_test(test_one_that_failed_is_left_out_ever_longer),
        cmocka_unit_test(test_one_without_a_tokenizer),
    };
    return cmocka_run_group_tests_name("app/tokenizer_hosts", tests, NULL, NULL);
}
