/* SPDX-License-Identifier: Apache-2.0 */
/* hist: HDR-style histogram of uint64_t values: log2 buckets with 64 linear steps each, so any
 * quantile is within 1.6 % of the truth. Fixed memory (~30 KiB), no allocation. */
#ifndef JR_BASE_HIST_H
#define JR_BASE_HIST_H

#include <stdint.h>

#define JR_HIST_STEPS   64
#define JR_HIST_BUCKETS ((64 - 6 + 1) * JR_HIST_STEPS)

struct jr_hist {
    uint64_t n, sum, min, max;
    uint64_t counts[JR_HIST_BUCKETS];
};

void jr_hist_init(struct jr_hist *h);
void jr_hist_add(struct jr_hist *h, uint64_t v);
void jr_hist_merge(struct jr_hist *h, const struct jr_hist *other);
uint64_t jr_hist_quantile(const struct jr_hist *h, double q); /* q in 0..1; 0 when empty */
double jr_hist_mean(const struct jr_hist *h);
/* How many values were <= v (exact at bucket edges). */
uint64_t jr_hist_count_le(const struct jr_hist *h, uint64_t v);

#endif
