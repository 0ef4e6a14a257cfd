/* SPDX-License-Identifier: Apache-2.0 */
/* Golden decisions: cases worked out by hand from Dynamo's formulas, through the pure functions and
 * through a whole pool. Block size 16 unless said. Costs are exact in binary where the numbers allow
 * it; the comparisons leave 1e-9.
 *
 *   1.0  cost = weight * (active prefill + uncached) / B + active blocks + new blocks
 *   1.2  cost = scale * max(0, (active prefill + isl) / B - credit' * overlap)
 *               + active blocks + new blocks + request weight * active requests */
#include "core/pool_internal.h"
#include "jr_test.h"
#include <math.h>
#include <string.h>

#define B 16
#define N 4 /* candidates at most */

struct golden {
    const char *name;
    const char *sums; /* the arithmetic, candidate by candidate */
    uint64_t isl;
    uint32_t n;
    struct {
        uint32_t overlap;
        uint64_t prefill, blocks;
        uint32_t fresh, requests;
    } in[N];
    double cost[N];
    uint32_t best;
};

/* weight, credit, decay, scale, request weight */
struct weights {
    enum jr_cost_model model;
    double weight, credit, decay, scale, request_weight;
};

static const struct weights v10 = {JR_COST_DYNAMO_1_0, 1, 1, 0, 1, 0};

static const struct golden cases_10[] = {
    {"one idle worker", "(0 + 160)/16 + 0 + 10", 160, 1, {{0, 0, 0, 10, 0}}, {20}, 0},
    {"overlap saves prefill",
     "160/16 + 10 | (160 - 160)/16 + 10",
     160,
     2,
     {{0, 0, 0, 10, 0}, {10, 0, 0, 10, 0}},
     {20, 10},
     1},
    {"live blocks are not new",
     "160/16 + 0 + 10 | 160/16 + 10 + 0",
     160,
     2,
     {{0, 0, 0, 10, 0}, {0, 0, 10, 0, 1}},
     {20, 20},
     0},
    {"prefill under way",
     "(160 + 160)/16 + 10 + 10 | 160/16 + 5 + 10",
     160,
     2,
     {{0, 160, 10, 10, 1}, {0, 0, 5, 10, 0}},
     {40, 25},
     1},
    {"overlap against decode",
     "(160 - 128)/16 + 30 + 10 | 160/16 + 10",
     160,
     2,
     {{8, 0, 30, 10, 3}, {0, 0, 0, 10, 0}},
     {42, 20},
     1},
    {"fraction of a block",
     "24/16 + 1 | (24 - 16)/16 + 1",
     24,
     2,
     {{0, 0, 0, 1, 0}, {1, 0, 0, 1, 0}},
     {2.5, 1.5},
     1},
    {"isl below a block",
     "8/16 + 3 | 8/16 + 2",
     8,
     2,
     {{0, 0, 3, 0, 1}, {0, 0, 2, 0, 1}},
     {3.5, 2.5},
     1},
    {"overlap beyond the prompt", "max(0, 32 - 80)/16 + 2", 32, 1, {{5, 0, 0, 2, 0}}, {2}, 0},
    {"empty prompt", "16/16 + 0 | 0/16 + 2", 0, 2, {{0, 16, 0, 0, 1}, {0, 0, 2, 0, 1}}, {1, 2}, 0},
    {"three",
     "(32 + 320 - 64)/16 + 6 + 16 | (320 + 320 - 160)/16 + 40 + 5 | (320 - 320)/16 + 60",
     320,
     3,
     {{4, 32, 6, 16, 1}, {10, 320, 40, 5, 2}, {20, 0, 60, 0, 4}},
     {16 + 2 + 6 + 16, 10 + 20 + 40 + 5, 60},
     0},
};

static const struct weights w_half = {JR_COST_DYNAMO_1_0, 0.5, 1, 0, 1, 0};
static const struct golden cases_half[] = {
    {"weight 0.5",
     "0.5 * 160/16 + 10 | 0.5 * (64 + 160 - 64)/16 + 3 + 6",
     160,
     2,
     {{0, 0, 0, 10, 0}, {4, 64, 3, 6, 1}},
     {15, 5 + 9},
     1},
    {"half of a backlog, too",
     "0.5 * (320 + 16)/16 + 1 | 0.5 * 16/16 + 10 + 1",
     16,
     2,
     {{0, 320, 0, 1, 1}, {0, 0, 10, 1, 1}},
     {11.5, 11.5},
     0},
};

static const struct weights w_two = {JR_COST_DYNAMO_1_0, 2, 1, 0, 1, 0};
static const struct golden cases_two[] = {
    {"weight 2",
     "2 * 160/16 + 10 | 2 * 0 + 19",
     160,
     2,
     {{0, 0, 0, 10, 0}, {10, 0, 19, 0, 1}},
     {30, 19},
     1},
    {"weight 2 and a backlog",
     "2 * 160/16 + 10 | 2 * 160/16 + 10",
     160,
     2,
     {{10, 160, 0, 10, 1}, {0, 0, 0, 10, 0}},
     {30, 30},
     0},
};

static const struct weights w_zero = {JR_COST_DYNAMO_1_0, 0, 1, 0, 1, 0};
static const struct golden cases_zero[] = {
    {"weight 0: decode only",
     "0 + 12 | 0 + 1 + 10",
     160,
     2,
     {{10, 0, 12, 0, 1}, {0, 999, 1, 10, 1}},
     {12, 11},
     1},
};

static const struct weights v12 = {JR_COST_DYNAMO_1_2, 1, 1, 0, 1, 0};
static const struct golden cases_12[] = {
    {"later: idle", "160/16 + 10", 160, 1, {{0, 0, 0, 10, 0}}, {20}, 0},
    {"later: credit for overlap",
     "160/16 + 10 | (160/16 - 6) + 10",
     160,
     2,
     {{0, 0, 0, 10, 0}, {6, 0, 0, 10, 0}},
     {20, 14},
     1},
    {"later: a backlog beside it",
     "((96 + 160)/16 - 6) + 10 | 160/16 + 10",
     160,
     2,
     {{6, 96, 0, 10, 1}, {0, 0, 0, 10, 0}},
     {20, 20},
     0},
    {"later: never below 0", "max(0, 32/16 - 5) + 7 + 2", 32, 1, {{5, 0, 7, 2, 1}}, {9}, 0},
    {"later: overlap pays a backlog",
     "max(0, (48 + 32)/16 - 5) + 2",
     32,
     1,
     {{5, 48, 0, 2, 1}},
     {2},
     0},
    {"later: fraction",
     "((8 + 40)/16 - 1) + 2 | (40/16 - 2) + 1 + 2",
     40,
     2,
     {{1, 8, 0, 2, 1}, {2, 0, 1, 2, 1}},
     {4, 3.5},
     1},
};

static const struct weights w_credit = {JR_COST_DYNAMO_1_2, 1, 0.5, 0, 1, 0};
static const struct golden cases_credit[] = {
    {"credit 0.5",
     "(160/16 - 0.5 * 10) + 10 | (160/16 - 0.5 * 4) + 10",
     160,
     2,
     {{10, 0, 0, 10, 0}, {4, 0, 0, 10, 0}},
     {15, 18},
     0},
    {"credit 0.5 clamps later", "max(0, 32/16 - 0.5 * 6) + 2", 32, 1, {{6, 0, 0, 2, 0}}, {2}, 0},
};
static const struct weights w_credit2 = {JR_COST_DYNAMO_1_2, 1, 2, 0, 1, 0};
static const struct golden cases_credit2[] = {
    {"credit 2",
     "(160/16 - 2 * 3) + 10 | 160/16 + 5",
     160,
     2,
     {{3, 0, 0, 10, 0}, {0, 0, 0, 5, 0}},
     {14, 15},
     0},
};
static const struct weights w_credit0 = {JR_COST_DYNAMO_1_2, 1, 0, 0, 1, 0};
static const struct golden cases_credit0[] = {
    {"credit 0",
     "160/16 + 1 + 10 | 160/16 + 10",
     160,
     2,
     {{10, 0, 1, 10, 0}, {0, 0, 0, 10, 0}},
     {21, 20},
     1},
};

static const struct weights w_scale = {JR_COST_DYNAMO_1_2, 1, 1, 0, 3, 0};
static const struct golden cases_scale[] = {
    {"scale 3",
     "3 * (160/16 - 4) + 10 | 3 * 160/16 + 6",
     160,
     2,
     {{4, 0, 0, 10, 0}, {0, 0, 0, 6, 0}},
     {28, 36},
     0},
    {"scale 3, clamped first", "3 * max(0, 32/16 - 9) + 4", 32, 1, {{9, 0, 4, 0, 1}}, {4}, 0},
};
static const struct weights w_scale0 = {JR_COST_DYNAMO_1_2, 1, 1, 0, 0, 0};
static const struct golden cases_scale0[] = {
    {"scale 0: decode only",
     "0 + 8 + 1 | 0 + 10",
     160,
     2,
     {{9, 0, 8, 1, 1}, {0, 80, 0, 10, 1}},
     {9, 10},
     0},
};

static const struct weights w_request = {JR_COST_DYNAMO_1_2, 1, 1, 0, 1, 2};
static const struct golden cases_request[] = {
    {"request weight 2",
     "160/16 + 10 + 2 * 3 | 160/16 + 5 + 10",
     160,
     2,
     {{0, 0, 0, 10, 3}, {0, 0, 5, 10, 0}},
     {26, 25},
     1},
    {"request weight, equal",
     "16/16 + 4 + 2 * 1 | 16/16 + 1 + 1 + 2 * 2",
     16,
     2,
     {{0, 0, 4, 0, 1}, {0, 0, 1, 1, 2}},
     {7, 7},
     0},
};

/* x = excess of the prefill over the least loaded one's, in requests of this size (10 blocks). */
static const struct weights w_decay = {JR_COST_DYNAMO_1_2, 1, 1, 1, 1, 0};
static const struct golden cases_decay[] = {
    {"decay: no excess", "x = 0: (320 + 160)/16 - 4", 160, 1, {{4, 320, 0, 0, 1}}, {26}, 0},
    {"decay: one request",
     "x = 160/16/10 = 1: (160 + 160)/16 - 4/2 | 160/16 + 10",
     160,
     2,
     {{4, 160, 0, 0, 1}, {0, 0, 0, 10, 0}},
     {18, 20},
     0},
    {"decay: three",
     "x = 480/16/10 = 3: (480 + 160)/16 - 8/4 | 160/16 + 30",
     160,
     2,
     {{8, 480, 0, 0, 1}, {0, 0, 0, 30, 0}},
     {38, 40},
     0},
    {"decay: half",
     "x = 80/16/10 = 0.5: (80 + 160)/16 - 6/1.5 | 160/16 + 10",
     160,
     2,
     {{6, 80, 0, 0, 1}, {0, 0, 0, 10, 0}},
     {11, 20},
     0},
};

/* dynamo-tuned: scale 16, credit 4, request weight 64. */
static const struct weights w_tuned = {JR_COST_DYNAMO_1_2, 1, 4, 0, 16, 64};
static const struct golden cases_tuned[] = {
    {"tuned: requests",
     "16 * 160/16 + 10 + 64 * 2 | 16 * 160/16 + 10 + 64 * 1",
     160,
     2,
     {{0, 0, 0, 10, 2}, {0, 0, 0, 10, 1}},
     {298, 234},
     1},
    {"tuned: credit",
     "16 * (10 - 4 * 2) + 10 + 8 + 64 * 3 | 16 * 10 + 10 + 64 * 1",
     160,
     2,
     {{2, 0, 10, 8, 3}, {0, 0, 0, 10, 1}},
     {242, 234},
     1},
    {"tuned: all cached",
     "16 * max(0, 10 - 40) + 10 + 64 * 2 | 16 * 10 + 10",
     160,
     2,
     {{10, 0, 10, 0, 2}, {0, 0, 0, 10, 0}},
     {138, 170},
     0},
};

static uint32_t n_cases;

static void run(const struct weights *w, const struct golden *cases, size_t n)
{
    struct jr_cost_config c;
    jr_cost_config_init(&c, w->model);
    c.overlap_weight = w->weight;
    c.credit = w->credit;
    c.decay = w->decay;
    c.scale = w->scale;
    c.request_weight = w->request_weight;
    for (size_t i = 0; i < n; i++) {
        const struct golden *g = &cases[i];
        struct jr_candidate k[N];
        struct jr_cost_request r = {.isl_tokens = g->isl, .block_size = B};
        memset(k, 0, sizeof k);
        for (uint32_t j = 0; j < g->n; j++) {
            k[j].worker_id = j + 1;
            k[j].overlap_blocks = g->in[j].overlap;
            k[j].prefill_tokens = g->in[j].prefill;
            k[j].active_blocks = g->in[j].blocks;
            k[j].new_blocks = g->in[j].fresh;
            k[j].requests = g->in[j].requests;
            k[j].indexed_blocks = j; /* equal costs: the first */
        }
        jr_cost_eval(&c, &r, 1, k, g->n);
        for (uint32_t j = 0; j < g->n; j++)
            if (fabs(k[j].cost - g->cost[j]) > 1e-9)
                fail_msg("%s: cost %u is %.12g, not %.12g: %s", g->name, j, k[j].cost, g->cost[j],
                         g->sums);
        struct jr_select_config s = {.tie = JR_TIE_HASH};
        uint32_t at;
        assert_int_equal(jr_select_cost(&s, k, g->n, 1, NULL, &at), 0);
        if (at != g->best)
            fail_msg("%s: chose %u, not %u", g->name, at, g->best);
        n_cases++;
    }
}

#define RUN(w, cases) run(&(w), cases, sizeof(cases) / sizeof *(cases))

static void test_costs(void **state)
{
    (void)state;
    RUN(v10, cases_10);
    RUN(w_half, cases_half);
    RUN(w_two, cases_two);
    RUN(w_zero, cases_zero);
    RUN(v12, cases_12);
    RUN(w_credit, cases_credit);
    RUN(w_credit2, cases_credit2);
    RUN(w_credit0, cases_credit0);
    RUN(w_scale, cases_scale);
    RUN(w_scale0, cases_scale0);
    RUN(w_request, cases_request);
    RUN(w_decay, cases_decay);
    RUN(w_tuned, cases_tuned);
    print_message("%u cases of costs\n", n_cases);
}

/* The default: cost = Q + (kappa + delta D) P + speed mu D, P = speed (linear u + attention u (c + u/2)).
 * Round numbers: linear 1/128 s, attention 1/2^20 s, kappa 2, delta 1/8, mu 1/4; block size 16. */
struct golden_s {
    const char *name, *sums;
    uint64_t isl;
    double speed;
    uint32_t n;
    struct {
        uint32_t overlap, live, decoding;
        double backlog_s;
    } in[N];
    double cost[N];
    uint32_t best;
};

static const struct golden_s cases_seconds[] = {
    {"seconds: idle",
     "P = 128/128 + 128*64/2^20 = 1 + 1/128; 2 P",
     128,
     1,
     1,
     {{0, 0, 0, 0}},
     {2.015625},
     0},
    {"seconds: half is cached",
     "2 (1 + 1/128) | u = 64: P = 64/128 + 64 (64 + 32)/2^20 = 0.5 + 3/512; 2 P",
     128,
     1,
     2,
     {{0, 0, 0, 0}, {4, 0, 0, 0}},
     {2.015625, 1.01171875},
     1},
    {"seconds: live prompts are as good",
     "as above, known from a booking",
     128,
     1,
     2,
     {{0, 4, 0, 0}, {4, 0, 0, 0}},
     {1.01171875, 1.01171875},
     0},
    {"seconds: the larger of both",
     "max(1, 4) = max(4, 2) = 4 blocks",
     128,
     1,
     2,
     {{1, 4, 0, 0}, {4, 2, 0, 0}},
     {1.01171875, 1.01171875},
     0},
    {"seconds: the last token is computed",
     "at most 7 of 8: u = 16: P = 16/128 + 16 (112 + 8)/2^20 = 0.125 + 15/8192; 2 P",
     128,
     1,
     1,
     {{8, 0, 0, 0}},
     {0.253662109375},
     0},
    {"seconds: a backlog",
     "3 + 2 (1 + 1/128) | 2 (1 + 1/128)",
     128,
     1,
     2,
     {{0, 0, 0, 3}, {0, 0, 0, 0}},
     {5.015625, 2.015625},
     1},
    {"seconds: wait for the cache or not",
     "1 + 2 (0.5 + 3/512) | 2 (1 + 1/128)",
     128,
     1,
     2,
     {{4, 0, 0, 1}, {0, 0, 0, 0}},
     {2.01171875, 2.015625},
     0},
    {"seconds: decoding",
     "(2 + 4/8) (1 + 1/128) + 4/4 | (2 + 1/8) (1 + 1/128) + 1/4",
     128,
     1,
     2,
     {{0, 0, 4, 0}, {0, 0, 1, 0}},
     {3.51953125, 2.3916015625},
     1},
    {"seconds: a fleet half as fast",
     "2 * 2 (1 + 1/128) | 2 * 2 (0.5 + 3/512)",
     128,
     2,
     2,
     {{0, 0, 0, 0}, {4, 0, 0, 0}},
     {4.03125, 2.0234375},
     1},
    {"seconds: decoding, half as fast",
     "(2 + 1/8) * 2 (0.5 + 3/512) + 2/4 | 2 * 2 (1 + 1/128)",
     128,
     2,
     2,
     {{4, 0, 1, 0}, {0, 0, 0, 0}},
     {2.64990234375, 4.03125},
     0},
    {"seconds: an empty prompt",
     "1 | 0 + 1/4",
     0,
     1,
     2,
     {{0, 0, 0, 1}, {0, 0, 1, 0}},
     {1, 0.25},
     1},
};

static void test_seconds(void **state)
{
    (void)state;
    struct jr_cost_config c;
    jr_cost_config_init(&c, JR_COST_SECONDS);
    c.kappa = 2;
    c.delta = 0.125;
    c.mu = 0.25;
    c.linear_s = 1.0 / 128;
    c.attention_s = 1.0 / (1 << 20);
    for (size_t i = 0; i < sizeof cases_seconds / sizeof *cases_seconds; i++) {
        const struct golden_s *g = &cases_seconds[i];
        struct jr_cost_request r = {.isl_tokens = g->isl, .block_size = B};
        struct jr_candidate k[N];
        memset(k, 0, sizeof k);
        for (uint32_t j = 0; j < g->n; j++) {
            k[j].worker_id = j + 1;
            k[j].overlap_blocks = g->in[j].overlap;
            k[j].live_blocks = g->in[j].live;
            k[j].decoding = g->in[j].decoding;
            k[j].backlog_s = g->in[j].backlog_s;
            k[j].indexed_blocks = j;
        }
        jr_cost_eval(&c, &r, g->speed, k, g->n);
        for (uint32_t j = 0; j < g->n; j++)
            if (fabs(k[j].cost - g->cost[j]) > 1e-12)
                fail_msg("%s: cost %u is %.15g, not %.15g: %s", g->name, j, k[j].cost, g->cost[j],
                         g->sums);
        struct jr_select_config select = {.tie = JR_TIE_HASH};
        uint32_t at;
        assert_int_equal(jr_select_cost(&select, k, g->n, 1, NULL, &at), 0);
        if (at != g->best)
            fail_msg("%s: chose %u, not %u", g->name, at, g->best);
    }
}

/* The later formula with the legacy weight w is the later one with scale w: the credit is subtracted
 * before the scale, as the weight multiplied what is left after the overlap. */
static void test_legacy_weight_is_the_scale(void **state)
{
    (void)state;
    struct jr_cost_config old, later;
    jr_cost_config_init(&old, JR_COST_DYNAMO_1_0);
    jr_cost_config_init(&later, JR_COST_DYNAMO_1_2);
    old.overlap_weight = later.scale = 2.5;
    struct jr_cost_request r = {.isl_tokens = 200, .block_size = B};
    struct jr_candidate a = {.overlap_blocks = 3, .prefill_tokens = 40, .new_blocks = 9}, b = a;
    jr_cost_eval(&old, &r, 1, &a, 1);
    jr_cost_eval(&later, &r, 1, &b, 1);
    assert_true(fabs(a.cost - 39) < 1e-9); /* 2.5 * (40 + 152) / 16 + 9 */
    assert_true(fabs(b.cost - 39) < 1e-9);
}

/* ---------------------------------------------------------------- ties */

static struct jr_candidate tied(uint64_t worker, double cost, uint64_t indexed, uint32_t overlap)
{
    return (struct jr_candidate){
        .worker_id = worker, .cost = cost, .indexed_blocks = indexed, .overlap_blocks = overlap};
}

static void count_draws(enum jr_tie tie, const struct jr_candidate *v, uint32_t n, uint32_t draws,
                        uint32_t *ret)
{
    struct jr_rng rng;
    struct jr_select_config c = {.tie = tie};
    jr_rng_init(&rng, 5, 1);
    memset(ret, 0, n * sizeof *ret);
    for (uint32_t i = 0; i < draws; i++) {
        struct jr_candidate k[N];
        uint32_t at;
        memcpy(k, v, n * sizeof *v);
        assert_int_equal(jr_select_cost(&c, k, n, 9, &rng, &at), 0);
        ret[at]++;
    }
}

static void test_ties(void **state)
{
    (void)state;
    uint32_t n[N];
    /* 1.0: the smallest tree of those with overlap; those without count as empty */
    const struct jr_candidate tree[] = {tied(1, 5, 100, 2), tied(2, 5, 40, 2), tied(3, 6, 1, 2)};
    count_draws(JR_TIE_TREE_SIZE, tree, 3, 1000, n);
    assert_int_equal(n[1], 1000);
    const struct jr_candidate empty[] = {tied(1, 5, 100, 0), tied(2, 5, 40, 2)};
    count_draws(JR_TIE_TREE_SIZE, empty, 2, 1000, n);
    assert_int_equal(n[0], 1000);
    const struct jr_candidate same[] = {tied(1, 5, 100, 0), tied(2, 5, 40, 0), tied(3, 7, 0, 0)};
    count_draws(JR_TIE_TREE_SIZE, same, 3, 100000, n);
    assert_true(n[0] > 49500 && n[0] < 50500 && n[2] == 0);
    /* 1.2: uniform */
    count_draws(JR_TIE_RANDOM, tree, 3, 100000, n);
    assert_true(n[0] > 49500 && n[0] < 50500 && n[2] == 0);
    const struct jr_candidate four[] = {tied(1, 2, 0, 0), tied(2, 2, 9, 1), tied(3, 2, 5, 0),
                                        tied(4, 2, 1, 0)};
    count_draws(JR_TIE_RANDOM, four, 4, 100000, n);
    for (int i = 0; i < 4; i++)
        assert_true(n[i] > 24500 && n[i] < 25500);
    /* ours: fewest indexed, whatever the overlap */
    count_draws(JR_TIE_HASH, tree, 3, 10, n);
    assert_int_equal(n[1], 10);
    count_draws(JR_TIE_HASH, empty, 2, 10, n);
    assert_int_equal(n[1], 10);
}

/* ---------------------------------------------------------------- softmax */

/* Costs 18, 10, 11: the check values of the formula, and the same odds in 100,000 draws. */
static void test_softmax(void **state)
{
    (void)state;
    static const struct {
        double t, p[3];
    } rows[] = {
        {0.1, {0.000035, 0.777272, 0.222692}},
        {0.5, {0.070703, 0.522429, 0.406868}},
        {1, {0.163475, 0.444370, 0.392155}},
        {2, {0.238234, 0.392782, 0.368984}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct jr_candidate k[3] = {tied(1, 18, 0, 0), tied(2, 10, 0, 0), tied(3, 11, 0, 0)};
        struct jr_rng rng;
        struct jr_select_config c = {.temperature = rows[i].t};
        uint32_t n[3] = {0}, at;
        jr_rng_init(&rng, 11 + i, 1);
        for (int d = 0; d < 100000; d++) {
            assert_int_equal(jr_select_cost(&c, k, 3, 0, &rng, &at), 0);
            n[at]++;
        }
        for (int j = 0; j < 3; j++) {
            assert_true(fabs(k[j].probability - rows[i].p[j]) < 1e-6);
            assert_true(fabs(n[j] / 1e5 - rows[i].p[j]) < 0.005);
        }
    }
}

/* ---------------------------------------------------------------- thresholds */

/* prefill tokens, capacity, threshold -> must the next one wait? Strictly above. */
static void test_queue_thresholds(void **state)
{
    (void)state;
    static const struct {
        uint32_t tokens, capacity;
        double threshold;
        bool waits;
    } rows[] = {
        {8192, 8192, 1, false},  {8193, 8192, 1, true},     {4096, 8192, 0.5, false},
        {4097, 8192, 0.5, true}, {32768, 8192, 4, false},   {32769, 8192, 4, true},
        {1, 8192, 0, true},      {131072, 8192, 16, false}, {131073, 8192, 16, true},
        {40000000, 0, 4, false}, {40000001, 0, 4, true},    {3, 10, 0.25, true},
        {2, 10, 0.25, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct jr_pool_config c = {
            .block_size = B, .has_queue_threshold = true, .queue_threshold = rows[i].threshold};
        jr_cost_config_init(&c.cost, JR_COST_DYNAMO_1_2);
        struct jr_worker_lease w = {.worker_id = 1,
                                    .url = "http://w",
                                    .block_size = B,
                                    .max_batched_tokens = rows[i].capacity};
        struct jr_pool *pool;
        struct jr_actions acts = {0};
        assert_int_equal(jr_pool_create(&c, NULL, &pool), 0);
        struct jr_event ev = {.type = JR_EV_MEMBERS, .now_ms = 1};
        ev.u.members.workers = &w;
        ev.u.members.n_workers = 1;
        ev.u.members.is_static = true;
        assert_int_equal(jr_pool_step(pool, &ev, &acts), 0);
        for (uint64_t id = 1; id <= 2; id++) {
            ev = (struct jr_event){.type = JR_EV_ROUTE, .now_ms = 1 + id};
            ev.u.route.id = id;
            ev.u.route.tokens = id == 1 ? rows[i].tokens : 1;
            assert_int_equal(jr_pool_step(pool, &ev, &acts), 0);
            assert_int_equal(acts.n, id == 2 && rows[i].waits ? 0 : acts.n);
            assert_int_equal(pool->queue.n, id == 2 && rows[i].waits);
        }
        jr_actions_deinit(&acts, pool);
        jr_pool_destroy(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_costs),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_legacy_weight_is_the_scale),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_queue_thresholds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
