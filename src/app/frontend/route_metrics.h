/* SPDX-License-Identifier: Apache-2.0 */
/* route_metrics: how long it took to find a worker: Dynamo's overheads, and ours by pool. Main loop. */
#ifndef JR_APP_FRONTEND_ROUTE_METRICS_H
#define JR_APP_FRONTEND_ROUTE_METRICS_H

#include "app/metrics.h"
#include "base/limits.h"

struct jr_route_metrics {
    struct jr_metrics *m; /* borrows */
    struct jr_series *hashing, *matching, *choosing, *total;
    struct jr_series *decisions[JR_POOLS_MAX]; /* by pool; NULL: none was made yet */
    uint64_t hash_ns; /* of the request that is about to be routed; 0: its hashes were known */
};

void jr_route_metrics_init(struct jr_route_metrics *r, struct jr_metrics *m, const char *router_id);
/* A pool had a request: as jr_driver_config.on_route. */
void jr_route_metrics_take(struct jr_route_metrics *r, uint32_t pool, const char *const *labels,
                           uint64_t match_ns, uint64_t all_ns);

#endif
