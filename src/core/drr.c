/* SPDX-License-Identifier: Apache-2.0 */
#include "core/drr.h"

#include "base/assert.h"

#include <string.h>

void jr_drr_init(struct jr_drr *d, const uint64_t *quanta, uint32_t n)
{
    JR_ASSERT(n > 0 && n <= JR_POLICY_CLASSES_MAX);
    memset(d, 0, sizeof *d);
    d->n = n;
    d->carry = JR_DRR_NONE;
    memcpy(d->quantum, quanta, n * sizeof *quanta);
}

static bool pays(const struct jr_drr *d, const struct jr_drr_head *heads, uint32_t class)
{
    return heads[class].may_go && heads[class].cost <= d->deficit[class];
}

/* The i-th from the cursor. */
static uint32_t at(const struct jr_drr *d, uint32_t i)
{
    return (d->cursor + i) % d->n;
}

static uint32_t visit_all(struct jr_drr *d, const struct jr_drr_head *heads)
{
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t class = at(d, i);
        if (!heads[class].may_go)
            continue;
        if (!pays(d, heads, class))
            d->deficit[class] += d->quantum[class];
        if (pays(d, heads, class))
            return class;
    }
    return JR_DRR_NONE;
}

/* Quanta until the first candidate pays; 0: there is none. */
static uint64_t rounds_needed(const struct jr_drr *d, const struct jr_drr_head *heads)
{
    uint64_t least = 0;
    for (uint32_t class = 0; class < d->n; class ++) {
        if (!heads[class].may_go)
            continue;
        uint64_t missing = heads[class].cost - d->deficit[class];
        uint64_t rounds = (missing + d->quantum[class] - 1) / d->quantum[class];
        if (least == 0 || rounds < least)
            least = rounds;
    }
    return least;
}

static uint32_t run_ahead(struct jr_drr *d, const struct jr_drr_head *heads)
{
    uint64_t rounds = rounds_needed(d, heads);
    for (uint32_t class = 0; class < d->n; class ++)
        if (heads[class].may_go)
            d->deficit[class] += rounds * d->quantum[class];
    for (uint32_t i = 0; rounds && i < d->n; i++)
        if (pays(d, heads, at(d, i)))
            return at(d, i);
    return JR_DRR_NONE;
}

uint32_t jr_drr_pick(struct jr_drr *d, const struct jr_drr_head *heads)
{
    if (d->carry != JR_DRR_NONE && pays(d, heads, d->carry))
        return d->carry;
    uint32_t class = visit_all(d, heads);
    return class != JR_DRR_NONE ? class : run_ahead(d, heads);
}

void jr_drr_took(struct jr_drr *d, uint32_t class, uint64_t cost)
{
    JR_ASSERT(class < d->n && cost <= d->deficit[class]);
    d->cursor = (class + 1) % d->n;
    d->deficit[class] -= cost;
    d->carry = d->deficit[class] ? class : JR_DRR_NONE;
}

void jr_drr_emptied(struct jr_drr *d, uint32_t class)
{
    d->deficit[class] = 0;
    if (d->carry == class)
        d->carry = JR_DRR_NONE;
}
