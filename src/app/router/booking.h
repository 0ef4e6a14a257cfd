/* SPDX-License-Identifier: Apache-2.0 */
/* booking: what an external data plane tells of a request that it booked (ask.h). Main loop only.
 *
 *     POST /prefill_done, /free   {"request_id": …} → {"request_id", "known", "replica"}
 *
 * The client's name of a request makes its number, the same on every replica; so each of these may
 * reach another replica than the one that booked, and any of them may be repeated: core/pool_outside.c. */
#ifndef JR_APP_ROUTER_BOOKING_H
#define JR_APP_ROUTER_BOOKING_H

#include "base/rng.h"

struct jr_frontend;
struct jr_http_request;

/* Each takes the request. */
void jr_booking_prefill_done(struct jr_frontend *f, struct jr_http_request *req);
void jr_booking_free(struct jr_frontend *f, struct jr_http_request *req);

/* The number of a request: 63 bits of a hash of its name, which no two of a million share by chance. */
uint64_t jr_booking_id(const char *request_id);
/* A name for who gave none; ret has room for JR_ROUTE_NAME_MAX. */
void jr_booking_name(struct jr_rng *rng, char *ret);

#endif
