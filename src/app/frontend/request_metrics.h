/* SPDX-License-Identifier: Apache-2.0 */
/* request_metrics: what requests are counted in, looked up once for each: the series of its model, and
 * the router's. Of one loop, its thread only. A model's live until it is forgotten, the router's as long
 * as the loop's metrics.
 *
 * A model is one that a worker says it serves, or "": names that only clients say make no series. */
#ifndef JR_APP_FRONTEND_REQUEST_METRICS_H
#define JR_APP_FRONTEND_REQUEST_METRICS_H

#include "app/metrics.h"
#include "base/list.h"

struct jr_model_metrics {
    const char *model; /* owned */
    struct jr_series *inflight, *queued, *duration, *ttft, *itl, *input, *output, *output_total,
        *cached, *hit_rate;
    uint32_t n_inflight, n_queued; /* while they are counted */
};

struct jr_request_metrics {
    struct jr_metrics *m; /* borrows */
    struct jr_model_metrics *v[JR_SETS_MODEL];
    uint32_t n, last;             /* last: the one that was found */
    struct jr_model_metrics none; /* of models beyond these: counts nothing */
    struct jr_series *requests, *ttft, *itl, *input, *output, *hit_rate; /* the router's */
};

void jr_request_metrics_init(struct jr_request_metrics *r, struct jr_metrics *m,
                             const char *router_id);
void jr_request_metrics_deinit(struct jr_request_metrics *r);
/* Never NULL. model: "" for requests of none. */
struct jr_model_metrics *jr_request_metrics_of(struct jr_request_metrics *r, const char *model);
/* Drops all series of the loop with this label as their model (model_series.h). Of what is under way
 * nothing should be of it; what is goes on as a request of no model. */
void jr_request_metrics_forget(struct jr_request_metrics *r, const struct jr_list *proxied,
                               const char *label);
/* Sets the gauges of requests under way; proxied: a list of jr_proxied. */
void jr_request_metrics_count(struct jr_request_metrics *r, const struct jr_list *proxied);

#endif
