/* SPDX-License-Identifier: Apache-2.0 */
/* Busy thresholds: those of the configuration, and of models that have their own. Seats remember
 * where theirs are, so that a decision searches nothing. */
#include "core/pool_internal.h"

#include <math.h>

uint32_t jr_pool_busy_place(const struct jr_pool *p, uint64_t model)
{
    for (uint32_t i = 0; model && i < p->busy.n; i++)
        if (p->busy.v[i].model == model)
            return i + 1;
    return 0;
}

static const struct jr_busy_limits *limits_at(const struct jr_pool *p, uint32_t place)
{
    return place ? &p->busy.v[place - 1].limits : &p->config.busy;
}

void jr_pool_busy_limits(const struct jr_pool *p, uint64_t model, struct jr_busy_limits *ret)
{
    *ret = *limits_at(p, jr_pool_busy_place(p, model));
}

bool jr_pool_busy_on(const struct jr_pool *p)
{
    return p->busy.n > 0 || jr_busy_any(&p->config.busy);
}

bool jr_pool_is_busy(const struct jr_pool *p, const struct jr_seat *s,
                     const struct jr_active_load *load)
{
    const struct jr_busy_limits *b = limits_at(p, s->busy);
    double tokens = (double)load->prefill_tokens, frac = b->prefill_frac;
    if (b->has_prefill_tokens && b->prefill_tokens >= 0 && tokens > b->prefill_tokens)
        return true;
    if (b->has_prefill_frac && frac >= 0 && tokens > floor(frac * s->prefill_capacity))
        return true;
    return b->has_decode_blocks && b->decode_blocks >= 0 && s->kv_blocks > 0 &&
           (double)load->active_blocks > b->decode_blocks * s->kv_blocks;
}

/* The seats are made anew: places have moved. */
static void forget(struct jr_pool *p, uint32_t place)
{
    if (place)
        p->busy.v[place - 1] = p->busy.v[--p->busy.n];
}

int jr_pool_on_busy(struct jr_pool *p, uint64_t model, const struct jr_busy_limits *limits)
{
    uint32_t place = jr_pool_busy_place(p, model);
    if (model == 0)
        return 0;
    p->seats_made_at = UINT64_MAX;
    if (!limits) {
        forget(p, place);
        return 0;
    }
    if (place == 0) {
        int err = jr_arr_reserve(&p->mem, &p->busy, 1, JR_BUSY_MODELS_MAX);
        if (err < 0)
            return err;
        place = ++p->busy.n;
    }
    p->busy.v[place - 1] = (struct jr_model_busy){.model = model, .limits = *limits};
    return 0;
}
