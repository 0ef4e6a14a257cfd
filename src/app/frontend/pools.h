/* SPDX-License-Identifier: Apache-2.0 */
/* pools: which pool a request belongs to and which of its workers may get it: those that serve its
 * model, without those that failed often and are put aside (core/outlier). Loop thread only. */
#ifndef JR_APP_FRONTEND_POOLS_H
#define JR_APP_FRONTEND_POOLS_H

#include "app/frontend/frontend_internal.h"
#include "core/outlier.h"

struct jr_pools {
    struct jr_outlier outliers[JR_POOLS_MAX]; /* by driver */
    uint64_t registry[JR_POOLS_MAX];          /* its version when those gone were forgotten */
    uint64_t exclude[JR_OUTLIERS_MAX + JR_PROXY_EXCLUDE_MAX];
};

void jr_pools_init(struct jr_pools *p, const struct jr_config *cfg);

/* Of pools that have a worker for the model ("" any) the first: its index in f->drivers, or -1;
 * *ret_known false then: there are no workers at all. *ret_named: a worker says that it serves it. */
int jr_pools_find(struct jr_frontend *f, const char *model, bool *ret_known, bool *ret_named);

/* The model that an alias stands for (--model-alias); NULL: it is none. */
const char *jr_pools_alias(const struct jr_frontend *f, struct jr_str name);

/* Who may get a request, for jr_driver_route: fills r's model and exclude; failed are the workers
 * that had it already. with_aside: also who is put aside. True: somebody was left out for that.
 * Valid until the next call. */
bool jr_pools_limit(struct jr_frontend *f, uint32_t pool, const char *model, const uint64_t *failed,
                    uint32_t n_failed, bool with_aside, struct jr_route *r);

/* How many are put aside, of those there are. */
uint32_t jr_pools_n_aside(struct jr_frontend *f, uint32_t pool);

/* What became of a request that was sent: see core/outlier.h. */
void jr_pools_sent(struct jr_frontend *f, uint32_t pool, uint64_t worker_id);
void jr_pools_failed(struct jr_frontend *f, uint32_t pool, uint64_t worker_id, const char *why);
void jr_pools_answered(struct jr_frontend *f, uint32_t pool, uint64_t worker_id);
void jr_pools_well(struct jr_frontend *f, uint32_t pool, uint64_t worker_id);
void jr_pools_unknown(struct jr_frontend *f, uint32_t pool, uint64_t worker_id);

#endif
