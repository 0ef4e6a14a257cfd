/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cost.h"
#include "base/assert.h"
#include <math.h>
#include <string.h>

#define SPEED_DECAY  0.995 /* one over the number of prefills it remembers, from 1 */
#define SPEED_MAX    64.0
#define SAMPLE_MAX_S 1e6

void jr_cost_config_init(struct jr_cost_config *c, enum jr_cost_model model)
{
    memset(c, 0, sizeof *c);
    c->model = model;
    c->kappa = 2.25;
    c->delta = 0.01;
    c->mu = 0.02;
    c->linear_s = 1e-4;
    c->attention_s = 7.5e-10;
    c->overlap_weight = 1;
    c->credit = 1;
    c->scale = 1;
}

double jr_cost_prefill_s(const struct jr_cost_config *c, uint64_t uncached_tokens,
                         uint64_t cached_tokens)
{
    double u = (double)uncached_tokens, cached = (double)cached_tokens;
    return c->linear_s * u + c->attention_s * u * (cached + u * 0.5);
}

/* Counts are far below 2^63, and from there a conversion is one instruction. */
static inline double to_double(uint64_t v)
{
    return (double)(int64_t)v;
}

bool jr_cost_lower_counts(const struct jr_cost_config *c)
{
    return c->host_credit > 0 || c->disk_credit > 0;
}

uint32_t jr_cost_cached_most(const struct jr_cost_config *c, const struct jr_cost_request *r)
{
    if (c->model != JR_COST_SECONDS)
        return UINT32_MAX;
    if (r->isl_tokens == 0)
        return 0;
    uint64_t most = (r->isl_tokens - 1) / r->block_size;
    return most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
}

static inline uint32_t believe_cached(const struct jr_cost_config *c, const struct jr_candidate *k,
                                      uint32_t most)
{
    uint32_t cached = k->overlap_blocks;

    if (c->model == JR_COST_SECONDS && k->live_blocks > cached)
        cached = k->live_blocks;
    return cached < most ? cached : most;
}

double jr_cost_cached_s(const struct jr_cost_config *c, const struct jr_cost_request *r,
                        uint32_t cached_blocks)
{
    uint64_t cached = (uint64_t)cached_blocks * r->block_size;

    return jr_cost_prefill_s(c, r->isl_tokens > cached ? r->isl_tokens - cached : 0, cached);
}

static void estimate(const struct jr_cost_config *c, const struct jr_cost_request *r, double speed,
                     uint64_t cached, struct jr_candidate *k)
{
    k->uncached_tokens = r->isl_tokens > cached ? r->isl_tokens - cached : 0;
    k->estimate_s = jr_cost_prefill_s(c, k->uncached_tokens, cached);
    k->prefill_s = speed * k->estimate_s;
}

static inline double lower_blocks(const struct jr_cost_config *c, const struct jr_candidate *k)
{
    return c->host_credit * k->host_blocks + c->disk_credit * k->disk_blocks;
}

/* With what lies on lower media. Live bookings are on the device, and may reach as far. */
static uint64_t cached_tokens(const struct jr_cost_config *c, const struct jr_cost_request *r,
                              const struct jr_candidate *k, uint32_t most)
{
    double blocks = k->overlap_blocks + lower_blocks(c, k);

    blocks = blocks > k->cached_blocks ? blocks : k->cached_blocks;
    blocks = blocks < most ? blocks : most;
    return (uint64_t)(blocks * r->block_size + 0.5);
}

static void estimate_lower(const struct jr_cost_config *c, const struct jr_cost_request *r,
                           double speed, struct jr_candidate *v, uint32_t n)
{
    uint32_t most = jr_cost_cached_most(c, r);

    for (uint32_t i = 0; i < n; i++) {
        v[i].cached_blocks = believe_cached(c, &v[i], most);
        v[i].probability = 0;
        estimate(c, r, speed, cached_tokens(c, r, &v[i], most), &v[i]);
    }
}

/* Most candidates hold as much of the prompt as the one before: nothing, or what all hold. */
static void estimate_all(const struct jr_cost_config *c, const struct jr_cost_request *r,
                         double speed, struct jr_candidate *v, uint32_t n)
{
    uint32_t most = jr_cost_cached_most(c, r);

    for (uint32_t i = 0; i < n; i++) {
        v[i].cached_blocks = believe_cached(c, &v[i], most);
        v[i].probability = 0;
        if (i > 0 && v[i].cached_blocks == v[i - 1].cached_blocks) {
            v[i].uncached_tokens = v[i - 1].uncached_tokens;
            v[i].estimate_s = v[i - 1].estimate_s;
            v[i].prefill_s = v[i - 1].prefill_s;
        } else {
            estimate(c, r, speed, (uint64_t)v[i].cached_blocks * r->block_size, &v[i]);
        }
    }
}

static inline void sum_up(struct jr_candidate *k, double prefill, double load)
{
    k->prefill_cost = prefill;
    k->load_cost = load;
    k->cost = prefill + load;
}

static void cost_seconds(const struct jr_cost_config *c, double prefill_weight, double speed,
                         struct jr_candidate *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct jr_candidate *k = &v[i];
        double weight = prefill_weight * (c->kappa + c->delta * k->decoding);
        sum_up(k, weight * k->prefill_s, k->backlog_s + c->mu * speed * k->decoding);
    }
}

static void cost_dynamo_1_0(const struct jr_cost_config *c, const struct jr_cost_request *r,
                            double prefill_weight, struct jr_candidate *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct jr_candidate *k = &v[i];
        double blocks = to_double(k->prefill_tokens + k->uncached_tokens) / r->block_size;
        sum_up(k, prefill_weight * c->overlap_weight * blocks,
               to_double(k->active_blocks + k->new_blocks));
    }
}

static uint64_t least_prefill(const struct jr_candidate *v, uint32_t n)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < n; i++)
        least = v[i].prefill_tokens < least ? v[i].prefill_tokens : least;
    return least;
}

/* The credit of a block there. */
static double credit_of(const struct jr_cost_config *c, const struct jr_cost_request *r,
                        const struct jr_candidate *k, uint64_t prefill_min)
{
    double request_blocks = ceil(to_double(r->isl_tokens) / r->block_size);
    double excess = to_double(k->prefill_tokens - prefill_min) / r->block_size;

    return c->credit / (1 + c->decay * (request_blocks > 0 ? excess / request_blocks : 0));
}

static void cost_dynamo_1_2(const struct jr_cost_config *c, const struct jr_cost_request *r,
                            double prefill_weight, struct jr_candidate *v, uint32_t n)
{
    uint64_t prefill_min = c->decay > 0 ? least_prefill(v, n) : 0;

    for (uint32_t i = 0; i < n; i++) {
        struct jr_candidate *k = &v[i];
        double raw = to_double(k->prefill_tokens + r->isl_tokens) / r->block_size;
        double credit = c->decay > 0 ? credit_of(c, r, k, prefill_min) : c->credit;
        double left = raw - credit * k->overlap_blocks - lower_blocks(c, k);
        sum_up(k, prefill_weight * c->scale * (left > 0 ? left : 0),
               to_double(k->active_blocks + k->new_blocks) + c->request_weight * k->requests);
    }
}

void jr_cost_eval(const struct jr_cost_config *c, const struct jr_cost_request *r, double speed,
                  struct jr_candidate *candidates, uint32_t n)
{
    double prefill_weight = r->no_prefill ? 0 : 1;

    if (jr_cost_lower_counts(c))
        estimate_lower(c, r, speed, candidates, n);
    else
        estimate_all(c, r, speed, candidates, n);
    switch (c->model) {
    case JR_COST_SECONDS:
        cost_seconds(c, prefill_weight, speed, candidates, n);
        return;
    case JR_COST_DYNAMO_1_0:
        cost_dynamo_1_0(c, r, prefill_weight, candidates, n);
        return;
    case JR_COST_DYNAMO_1_2:
        cost_dynamo_1_2(c, r, prefill_weight, candidates, n);
        return;
    }
    JR_IMPOSSIBLE("unknown cost model");
}

static bool plausible(double seconds)
{
    return seconds > 0 && seconds < SAMPLE_MAX_S; /* false for NaN */
}

void jr_speed_add(struct jr_speed *s, double estimated_s, double taken_s)
{
    if (!plausible(estimated_s) || !(taken_s >= 0 && taken_s < SAMPLE_MAX_S)) /* NaN too */
        return;
    s->estimated_s = s->estimated_s * SPEED_DECAY + estimated_s;
    s->taken_s = s->taken_s * SPEED_DECAY + taken_s;
}

double jr_speed_factor(const struct jr_speed *s)
{
    double factor;

    if (!(s->estimated_s > 0) || !(s->taken_s > 0))
        return 1;
    factor = s->taken_s / s->estimated_s;
    if (!(factor > 1 / SPEED_MAX))
        return 1 / SPEED_MAX;
    return factor < SPEED_MAX ? factor : SPEED_MAX;
}
