/* SPDX-License-Identifier: Apache-2.0 */
/* The quick way to the best candidate and the whole way give the same decision: a request that wants
 * a record is weighed against all candidates, one that does not by cost alone. Random fleets, loads,
 * models, beliefs, thresholds, lists, and ties. */
#include "core_pool.h"
#include "core/hash.h"

#define SEEDS    20
#define STEPS    120
#define PROMPTS  12
#define DEPTH    8
#define LIVE_MAX 64

static struct fix fx;
static uint64_t prompts[PROMPTS][DEPTH];
static uint64_t live[LIVE_MAX];
static uint32_t n_live;

static void make_prompts(struct jr_rng *rng)
{
    for (uint32_t i = 0; i < PROMPTS; i++) {
        for (uint32_t k = 0; k < DEPTH; k++)
            prompts[i][k] = 1 + jr_rng_below(rng, k < 3 ? 2 : 3);
        jr_hash_prefix(prompts[i], DEPTH, prompts[i]);
    }
}

static struct jr_pool_config random_config(struct jr_rng *rng)
{
    struct jr_pool_config c = base_config();
    c.has_queue_threshold = false;
    c.approximate = true; /* beliefs are the index: no log is needed */
    c.approx =
        (struct jr_approx_config){.ttl_ms = 1000000, .entries_max = 10000, .prune_ratio = 0.8};
    c.busy.has_prefill_tokens = jr_rng_below(rng, 3) == 0;
    c.busy.prefill_tokens = 300;
    c.busy.has_decode_blocks = jr_rng_below(rng, 3) == 0;
    c.busy.decode_blocks = 0.5;
    if (jr_rng_below(rng, 4) == 0)
        c.cost.kappa = c.cost.delta = c.cost.mu = 0; /* ties wherever nothing waits */
    c.ignore_prefill_tokens = jr_rng_below(rng, 5) == 0;
    return c;
}

static struct jr_route random_route(struct jr_rng *rng, uint64_t id, uint64_t *ids)
{
    struct jr_route r = {.id = id};
    r.n_prefix = jr_rng_below(rng, DEPTH + 1);
    r.prefix = prompts[jr_rng_below(rng, PROMPTS)];
    r.tokens = r.n_prefix * 16 + jr_rng_below(rng, 16);
    for (uint32_t i = 0; i < 3; i++)
        ids[i] = 1 + jr_rng_below(rng, 40);
    if (jr_rng_below(rng, 4) == 0) {
        r.exclude = ids;
        r.n_exclude = 1 + jr_rng_below(rng, 3);
    } else if (jr_rng_below(rng, 4) == 0) {
        r.model = jr_pool_model_id(jr_rng_below(rng, 3) ? "m" : "n");
    }
    r.override.has_track_prefill_tokens = jr_rng_below(rng, 8) == 0;
    return r;
}

/* Asks both ways, and books the second time. */
static void ask_twice(struct jr_rng *rng, uint64_t *next_id)
{
    uint64_t ids[3];
    struct jr_route r = random_route(rng, ++*next_id, ids);
    struct answer *a;
    struct jr_decision d;

    r.query_only = r.want_record = true;
    route(&fx, r);
    a = &fx.a[r.id];
    d = fx.last;
    if (a->decided)
        assert_true(!r.model || !d.model[0] || jr_pool_model_id(d.model) == r.model);
    r.id = ++*next_id;
    r.query_only = r.want_record = false;
    fx.now_ms--; /* at the same time */
    route(&fx, r);
    assert_int_equal(a->decided, fx.a[r.id].decided);
    assert_int_equal(a->err, fx.a[r.id].err);
    if (!a->decided)
        return;
    assert_int_equal(a->worker, fx.a[r.id].worker);
    assert_int_equal(a->rank, fx.a[r.id].rank);
    assert_int_equal(d.overlap_blocks, fx.last.overlap_blocks);
    assert_int_equal(d.candidates, fx.last.candidates);
    assert_true(fabs(d.cost - fx.last.cost) < 1e-12);
    assert_int_equal(fx.last.n_record, 0);
    if (n_live < LIVE_MAX)
        live[n_live++] = r.id;
    else
        request(&fx, JR_EV_FINISH, r.id, 0);
}

static void one_step(struct jr_rng *rng, uint64_t *next_id)
{
    uint32_t dice = jr_rng_below(rng, 10), at = n_live ? jr_rng_below(rng, n_live) : 0;

    if (dice < 5) {
        ask_twice(rng, next_id);
    } else if (dice < 7 && n_live) {
        request(&fx, JR_EV_FIRST_TOKEN, live[at], 0);
    } else if (dice < 9 && n_live) {
        request(&fx, JR_EV_FINISH, live[at], 0);
        live[at] = live[--n_live];
    } else {
        fx.now_ms += jr_rng_below(rng, 200);
        probed(&fx, 1 + jr_rng_below(rng, 40), jr_rng_below(rng, 3) > 0);
    }
}

static const char *model_of(struct jr_rng *rng, bool mixed)
{
    static const char *const names[] = {"m", "n", ""};
    return names[mixed ? jr_rng_below(rng, 3) : 0];
}

static void test_both_ways_agree(void **state)
{
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(SEEDS);

    (void)state;
    for (uint64_t s = 0; s < seeds; s++) {
        struct jr_rng rng;
        uint64_t next_id = 0;
        jr_rng_init(&rng, seed + s, 1);
        struct jr_pool_config c = random_config(&rng);
        make_prompts(&rng);
        open_pool(&fx, &c);
        n_live = 0;
        bool mixed = jr_rng_below(&rng, 2);
        for (uint64_t w = 1; w <= 40; w++)
            if (jr_rng_below(&rng, 4))
                add_worker_of(&fx, model_of(&rng, mixed), w, 1 + jr_rng_below(&rng, 3), 1000,
                              jr_rng_below(&rng, 2) * 40);
        for (uint32_t i = 0; i < STEPS; i++)
            one_step(&rng, &next_id);
        while (n_live)
            request(&fx, JR_EV_FINISH, live[--n_live], 0);
        struct jr_worker_view v;
        for (uint32_t pos = 0; jr_pool_next_worker(fx.pool, &pos, &v);)
            assert_true(v.active_requests == 0 && v.active_blocks == 0 &&
                        v.active_prefill_tokens == 0 && v.backlog_seconds == 0.0);
        close_pool(&fx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_both_ways_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
