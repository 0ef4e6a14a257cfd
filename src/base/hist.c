/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hist.h"
#include <math.h>
#include <string.h>

/*   value     0 … 63 | 64 … 127 | 128 … 255 | … | 2^63 … 2^64-1
 *   step        1         1          2               2^57
 *   index     0 … 63 | 64 … 127 | 128 … 191 | … | 3712 … 3775
 *
 * From the second bucket on a step is 1/64 of the bucket's low end: that is the error bound. */

void jr_hist_init(struct jr_hist *h)
{
    memset(h, 0, sizeof *h);
    h->min = UINT64_MAX;
}

static unsigned index_of(uint64_t v)
{
    unsigned shift;

    if (v < JR_HIST_STEPS)
        return (unsigned)v;
    shift = 63 - (unsigned)__builtin_clzll(v) - 6;
    return shift * JR_HIST_STEPS + (unsigned)(v >> shift);
}

/* The largest value that falls into the step. */
static uint64_t upper_edge(unsigned index)
{
    unsigned shift;
    uint64_t low;

    if (index < 2 * JR_HIST_STEPS)
        return index;
    shift = index / JR_HIST_STEPS - 1;
    low = (uint64_t)(index - shift * JR_HIST_STEPS) << shift;
    return low + ((UINT64_C(1) << shift) - 1);
}

void jr_hist_add(struct jr_hist *h, uint64_t v)
{
    h->n++;
    h->sum += v;
    if (v < h->min)
        h->min = v;
    if (v > h->max)
        h->max = v;
    h->counts[index_of(v)]++;
}

void jr_hist_merge(struct jr_hist *h, const struct jr_hist *other)
{
    h->n += other->n;
    h->sum += other->sum;
    if (other->min < h->min)
        h->min = other->min;
    if (other->max > h->max)
        h->max = other->max;
    for (unsigned i = 0; i < JR_HIST_BUCKETS; i++)
        h->counts[i] += other->counts[i];
}

uint64_t jr_hist_quantile(const struct jr_hist *h, double q)
{
    uint64_t rank, seen = 0;

    if (h->n == 0)
        return 0;
    if (!(q > 0))
        return h->min;
    if (q >= 1)
        return h->max;
    rank = (uint64_t)ceil(q * (double)h->n);
    for (unsigned i = 0; i < JR_HIST_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank) {
            uint64_t v = upper_edge(i);
            return v > h->max ? h->max : v;
        }
    }
    return h->max;
}

double jr_hist_mean(const struct jr_hist *h)
{
    return h->n ? (double)h->sum / (double)h->n : 0;
}

uint64_t jr_hist_count_le(const struct jr_hist *h, uint64_t v)
{
    uint64_t count = 0;

    if (h->n == 0 || v >= h->max)
        return h->n;
    for (unsigned i = 0; i < JR_HIST_BUCKETS && upper_edge(i) <= v; i++)
        count += h->counts[i];
    return count;
}
