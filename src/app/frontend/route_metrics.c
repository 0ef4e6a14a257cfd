/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/route_metrics.h"

void jr_route_metrics_init(struct jr_route_metrics *r, struct jr_metrics *m, const char *router_id)
{
    const char *const *l = JR_LABELS(router_id);
    r->m = m;
    r->hashing = jr_metric_series(m, JR_METRIC_ROUTER_OVERHEAD_BLOCK_HASHING_MS, l);
    r->matching = jr_metric_series(m, JR_METRIC_ROUTER_OVERHEAD_FIND_MATCHES_MS, l);
    r->choosing = jr_metric_series(m, JR_METRIC_ROUTER_OVERHEAD_SCHEDULING_MS, l);
    r->total = jr_metric_series(m, JR_METRIC_ROUTER_OVERHEAD_TOTAL_MS, l);
}

void jr_route_metrics_take(struct jr_route_metrics *r, uint32_t pool, const char *const *labels,
                           uint64_t match_ns, uint64_t all_ns)
{
    if (!r->decisions[pool])
        r->decisions[pool] = jr_metric_series(r->m, JR_METRIC_DECISION_SECONDS, labels);
    jr_series_observe(r->decisions[pool], (double)all_ns / 1e9);
    if (match_ns == 0) /* refused before it was looked at */
        return;
    if (r->hash_ns)
        jr_series_observe(r->hashing, (double)r->hash_ns / 1e6);
    jr_series_observe(r->matching, (double)match_ns / 1e6);
    jr_series_observe(r->choosing, (double)(all_ns - match_ns) / 1e6);
    jr_series_observe(r->total, (double)(all_ns + r->hash_ns) / 1e6);
}
