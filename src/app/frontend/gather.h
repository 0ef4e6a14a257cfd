/* SPDX-License-Identifier: Apache-2.0 */
/* gather: what the HTTP loops beside the main one have counted, in one. Each loop counts for itself,
 * without a lock; when somebody asks, each sends a copy. Main loop only. */
#ifndef JR_APP_FRONTEND_GATHER_H
#define JR_APP_FRONTEND_GATHER_H

#include "app/frontend/frontend_internal.h"

struct jr_gathered {
    struct jr_metrics *metrics; /* the sum, without the main loop's */
    struct jr_http_server_stats stats;
};

/* /metrics, once all have answered; takes the request. */
void jr_gather_metrics(struct jr_frontend *f, struct jr_http_request *req);

/* All loops drop the series of the model with this label. A look that begins after it shows none of
 * them; so there must be no other look under way (f->gathering). */
void jr_gather_forget_model(struct jr_frontend *f, const char *label);

#endif
