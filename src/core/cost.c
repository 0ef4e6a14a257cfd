/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cost.h"
#include <math.h>
#include <string.h>

#define SPEED_DECAY  0.995 /* one over the number of prefills it remembers, from 1 */
#define SPEED_MAX    64.0
#define SAMPLE_MAX_S 1e6

void jr_cost_config_init(struct jr_cost_config *c, enum jr_cost_model model)
{
    memset(c, 0, sizeof *c);
    c->model = model;
    c->kappa = 2;
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

/* Engines compute at least the last token, so the block it is in is never wholly cached. */
static uint32_t believe_cached(const struct jr_cost_config *c, const struct jr_cost_request *r,
                               const struct jr_candidate *k)
{
    uint32_t cached = k->overlap_blocks;
    uint64_t most;

    if (c->model != JR_COST_SECONDS)
        return cached;
    if (k->live_blocks > cached)
        cached = k->live_blocks;
    most = r->isl_tokens > 0 ? (r->isl_tokens - 1) / r->block_size : 0;
    return cached < most ? cached : (uint32_t)most;
}

static void cost_seconds(const struct jr_cost_config *c, struct jr_candidate *k)
{
    k->prefill_cost = (c->kappa + c->delta * k->decoding) * k->prefill_s;
    k->load_cost = k->backlog_s + c->mu * k->decoding;
}

static void cost_dynamo_1_0(const struct jr_cost_config *c, const struct jr_cost_request *r,
                            struct jr_candidate *k)
{
    double tokens = (double)(k->prefill_tokens + k->uncached_tokens);

    k->prefill_cost = c->overlap_weight * (tokens / r->block_size);
    k->load_cost = (double)(k->active_blocks + k->new_blocks);
}

static void cost_dynamo_1_2(const struct jr_cost_config *c, const struct jr_cost_request *r,
                            uint64_t prefill_min, struct jr_candidate *k)
{
    double request_blocks = ceil((double)r->isl_tokens / r->block_size);
    double excess = (double)(k->prefill_tokens - prefill_min) / r->block_size;
    double x = request_blocks > 0 ? excess / request_blocks : 0;
    double raw = (double)(k->prefill_tokens + r->isl_tokens) / r->block_size;
    double left = raw - c->credit / (1 + c->decay * x) * k->overlap_blocks;

    k->prefill_cost = c->scale * (left > 0 ? left : 0);
    k->load_cost = (double)(k->active_blocks + k->new_blocks) + c->request_weight * k->requests;
}

static void estimate(const struct jr_cost_config *c, const struct jr_cost_request *r, double speed,
                     struct jr_candidate *k)
{
    uint64_t cached;

    k->cached_blocks = believe_cached(c, r, k);
    cached = (uint64_t)k->cached_blocks * r->block_size;
    k->uncached_tokens = r->isl_tokens > cached ? r->isl_tokens - cached : 0;
    k->estimate_s = jr_cost_prefill_s(c, k->uncached_tokens, cached);
    k->prefill_s = speed * k->estimate_s;
}

void jr_cost_eval(const struct jr_cost_config *c, const struct jr_cost_request *r, double speed,
                  struct jr_candidate *candidates, uint32_t n)
{
    uint64_t prefill_min = UINT64_MAX;

    for (uint32_t i = 0; i < n; i++) {
        if (candidates[i].prefill_tokens < prefill_min)
            prefill_min = candidates[i].prefill_tokens;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct jr_candidate *k = &candidates[i];
        estimate(c, r, speed, k);
        switch (c->model) {
        case JR_COST_SECONDS:
            cost_seconds(c, k);
            break;
        case JR_COST_DYNAMO_1_0:
            cost_dynamo_1_0(c, r, k);
            break;
        case JR_COST_DYNAMO_1_2:
            cost_dynamo_1_2(c, r, prefill_min, k);
            break;
        }
        if (r->no_prefill)
            k->prefill_cost = 0;
        k->cost = k->prefill_cost + k->load_cost;
        k->probability = 0;
    }
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
