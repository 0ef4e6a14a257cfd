/* SPDX-License-Identifier: Apache-2.0 */
/* Approximate mode's index against a model that is a plain array of entries, each with the routing
 * that last named it and its depth there. */
#include "base/limits.h"
#include "base/map.h"
#include "base/rng.h"
#include "core/approx.h"
#include "jr_test.h"

#include <stdio.h>
#include <string.h>

#define MEMBERS 5
#define DEPTH   8
#define FANOUT  2
#define MODEL   4096
#define STEPS   4000
#define SEEDS   12

struct model {
    struct item {
        uint32_t member, depth;
        uint64_t prefix, routing, at_ms;
    } v[MODEL];
    uint32_t n;
    uint64_t routing;
    bool pruning;
    struct jr_approx_config config;
};

/* The block at the end of a path through a tree of few branches. */
static uint32_t path(struct jr_rng *rng, uint64_t *prefix)
{
    uint32_t n = jr_rng_below(rng, DEPTH + 1);
    uint64_t at = 7;
    for (uint32_t i = 0; i < n; i++)
        prefix[i] = at = jr_mix64(at + jr_rng_below(rng, FANOUT));
    return n;
}

static void model_take(struct model *md, uint32_t i)
{
    md->v[i] = md->v[--md->n];
}

/* Earliest routing, of one routing the deepest. */
static uint32_t model_first(const struct model *md)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < md->n; i++) {
        const struct item *a = &md->v[i], *b = &md->v[best];
        if (a->routing < b->routing || (a->routing == b->routing && a->depth > b->depth))
            best = i;
    }
    return best;
}

static void model_work(struct model *md, uint64_t now_ms, uint32_t max)
{
    uint64_t target = (uint64_t)((double)md->config.entries_max * md->config.prune_ratio);
    for (; max > 0 && md->n > 0; max--) {
        uint32_t i = model_first(md);
        bool expired = now_ms - md->v[i].at_ms >= md->config.ttl_ms;
        if (!expired && !(md->pruning && md->n > target))
            break;
        model_take(md, i);
    }
    if (md->n <= target)
        md->pruning = false;
}

static struct item *model_find(struct model *md, uint32_t member, uint64_t prefix)
{
    for (uint32_t i = 0; i < md->n; i++)
        if (md->v[i].member == member && md->v[i].prefix == prefix)
            return &md->v[i];
    return NULL;
}

static void model_insert(struct model *md, uint32_t member, const uint64_t *prefix, uint32_t n,
                         uint64_t now_ms)
{
    md->routing++;
    for (uint32_t i = 0; i < n; i++) {
        struct item *it = model_find(md, member, prefix[i]);
        if (!it)
            it = &md->v[md->n++];
        *it = (struct item){member, i, prefix[i], md->routing, now_ms};
    }
    if (md->n > md->config.entries_max)
        md->pruning = true;
    model_work(md, now_ms, 2 * n + 64);
}

static void model_drop(struct model *md, uint32_t member)
{
    for (uint32_t i = md->n; i-- > 0;)
        if (md->v[i].member == member)
            model_take(md, i);
}

static uint32_t model_score(struct model *md, uint32_t member, const uint64_t *prefix, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && model_find(md, member, prefix[i]))
        i++;
    return i;
}

static void compare(struct model *md, struct jr_approx *a, struct jr_rng *rng,
                    struct jr_index_match *match)
{
    uint64_t prefix[DEPTH];
    uint32_t n = path(rng, prefix);
    assert_int_equal(md->n, jr_approx_entries(a));
    assert_int_equal(0, jr_index_match(jr_approx_index(a), prefix, n, match));
    for (uint32_t m = 0; m < MEMBERS; m++) {
        uint64_t held = 0;
        for (uint32_t i = 0; i < md->n; i++)
            held += md->v[i].member == m;
        assert_int_equal(held, jr_approx_member_entries(a, m));
        assert_int_equal(model_score(md, m, prefix, n), jr_index_match_blocks(match, m));
    }
}

static void step(struct model *md, struct jr_approx *a, struct jr_rng *rng, uint64_t *now_ms)
{
    uint64_t prefix[DEPTH];
    uint32_t member = jr_rng_below(rng, MEMBERS), what = jr_rng_below(rng, 100);
    *now_ms += jr_rng_below(rng, 4) == 0 ? jr_rng_below(rng, 30) : 0;
    if (what < 80) {
        uint32_t n = path(rng, prefix);
        assert_int_equal(0, jr_approx_insert(a, member, member / 2, member, prefix, n, *now_ms));
        model_insert(md, member, prefix, n, *now_ms);
    } else if (what < 98) {
        uint32_t max = jr_rng_below(rng, 20);
        bool more = jr_approx_work(a, *now_ms, max);
        model_work(md, *now_ms, max);
        assert_true(more == jr_approx_is_due(a, *now_ms));
    } else {
        jr_approx_drop(a, member);
        model_drop(md, member);
    }
}

static void run_model(uint64_t seed)
{
    static struct model md;
    struct jr_mem mem;
    struct jr_rng rng;
    struct jr_approx *a;
    struct jr_index_match match;
    uint64_t now_ms = 1000;

    jr_mem_init(&mem);
    jr_rng_init(&rng, seed, 1);
    memset(&md, 0, sizeof md);
    md.config = (struct jr_approx_config){.ttl_ms = 20 + jr_rng_below(&rng, 3000),
                                          .entries_max = 1 + jr_rng_below(&rng, 400),
                                          .prune_ratio = jr_rng_unit(&rng)};
    assert_int_equal(0, jr_approx_create(&mem, &md.config, &a));
    jr_index_match_init(&match, &mem);
    for (uint32_t i = 0; i < STEPS / SEEDS; i++) {
        step(&md, a, &rng, &now_ms);
        compare(&md, a, &rng, &match);
        if (i % 64 == 0)
            jr_approx_check(a);
        assert_true(jr_approx_entries(a) <= md.config.entries_max + DEPTH);
    }
    now_ms += md.config.ttl_ms;
    while (jr_approx_work(a, now_ms, 10))
        continue;
    assert_int_equal(0, jr_approx_entries(a));
    jr_index_match_deinit(&match);
    jr_approx_destroy(a);
    jr_mem_deinit(&mem);
}

static void test_model(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(SEEDS);
    for (uint64_t i = 0; i < seeds; i++)
        run_model(seed + i);
}

static uint32_t score(struct jr_approx *a, uint32_t member, const uint64_t *prefix, uint32_t n,
                      struct jr_mem *mem)
{
    struct jr_index_match match;
    jr_index_match_init(&match, mem);
    assert_int_equal(0, jr_index_match(jr_approx_index(a), prefix, n, &match));
    uint32_t got = jr_index_match_blocks(&match, member);
    jr_index_match_deinit(&match);
    return got;
}

/* Leaves go first, the longest ago routed before the others; a routing renews the whole path. */
static void test_order_of_leaving(void **state)
{
    (void)state;
    const uint64_t p[] = {11, 12, 13, 14}, q[] = {21, 22, 23, 24};
    struct jr_approx_config config = {.ttl_ms = 1000, .entries_max = 8, .prune_ratio = 0.5};
    struct jr_approx *a;
    struct jr_mem mem;
    jr_mem_init(&mem);
    assert_int_equal(0, jr_approx_create(&mem, &config, &a));
    assert_int_equal(0, jr_approx_insert(a, 0, 1, 0, p, 4, 100));
    assert_int_equal(0, jr_approx_insert(a, 1, 2, 0, q, 4, 200));
    assert_int_equal(0, jr_approx_insert(a, 0, 1, 0, p, 2, 300)); /* 13 and 14 stay of 100 */
    assert_false(jr_approx_is_due(a, 1099));
    assert_true(jr_approx_work(a, 1100, 1));
    assert_int_equal(3, score(a, 0, p, 4, &mem)); /* the deepest of the oldest */
    assert_false(jr_approx_work(a, 1100, 100));
    assert_int_equal(2, score(a, 0, p, 4, &mem));
    assert_int_equal(4, score(a, 1, q, 4, &mem));

    /* Pruned to half the most when a ninth comes; what is looked up does not stay longer for it. */
    const uint64_t r[] = {31, 32, 33};
    assert_int_equal(0, jr_approx_insert(a, 1, 2, 0, r, 3, 1150));
    assert_int_equal(4, jr_approx_entries(a));
    assert_int_equal(0, score(a, 1, q, 4, &mem));
    assert_int_equal(1, score(a, 0, p, 4, &mem));
    assert_int_equal(3, score(a, 1, r, 3, &mem));
    jr_approx_drop(a, 1);
    jr_approx_drop(a, 1);
    jr_approx_drop(a, 77);
    assert_int_equal(1, jr_approx_entries(a));
    jr_approx_check(a);
    jr_approx_destroy(a);
    jr_approx_destroy(NULL);
    jr_mem_deinit(&mem);
}

static void test_limits(void **state)
{
    (void)state;
    struct jr_approx_config config = {.ttl_ms = 1, .entries_max = 0, .prune_ratio = 0.5};
    const uint64_t same[] = {5, 5, 6, 5};
    struct jr_approx *a;
    struct jr_mem mem;
    jr_mem_init(&mem);
    assert_int_equal(JR_EINVAL, jr_approx_create(&mem, &config, &a));
    config.entries_max = UINT64_MAX;
    config.prune_ratio = 1.01;
    assert_int_equal(JR_EINVAL, jr_approx_create(&mem, &config, &a));
    config.prune_ratio = 1;
    assert_int_equal(0, jr_approx_create(&mem, &config, &a));
    assert_int_equal(JR_ELIMIT, jr_approx_insert(a, JR_WORKERS_MAX, 1, 0, same, 1, 5));
    assert_int_equal(JR_ELIMIT, jr_approx_insert(a, 0, 1, 0, same, JR_PROMPT_BLOCKS_MAX + 1, 5));
    assert_int_equal(0, jr_approx_insert(a, 0, 1, 0, same, 4, 5)); /* equal hashes do no harm */
    assert_int_equal(2, jr_approx_entries(a));
    jr_approx_check(a);
    assert_int_equal(0, jr_approx_insert(a, 0, 1, 0, same, 1, 2)); /* a clock that goes back */
    jr_approx_check(a);
    assert_false(jr_approx_work(a, 6, 100));
    assert_int_equal(0, jr_approx_entries(a));
    jr_approx_destroy(a);
    jr_mem_deinit(&mem);
}

static int oom_run(struct jr_mem *mem, void *ctx)
{
    (void)ctx;
    struct jr_approx_config config = {.ttl_ms = 1000, .entries_max = 300, .prune_ratio = 0.8};
    struct jr_approx *a;
    int err = jr_approx_create(mem, &config, &a);
    if (err < 0)
        return err;
    uint64_t prefix[40];
    for (uint32_t k = 0; k < 12; k++) {
        for (uint32_t i = 0; i < 40; i++)
            prefix[i] = jr_mix64(k * 100 + i);
        int rv = jr_approx_insert(a, k % 5, k % 5, 0, prefix, 40, k * 10);
        if (rv < 0)
            err = rv;
        jr_approx_check(a);
    }
    jr_approx_destroy(a);
    return err;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(oom_run, NULL) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_order_of_leaving),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
