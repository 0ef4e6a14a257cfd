/* SPDX-License-Identifier: Apache-2.0 */
/* discover: the pools of the namespace (--discover-pools): each that has a lease bucket is served.
 *
 *     every 2 s ──► [lane] names of buckets ──► done: jr_frontend_add_pool of each that is new
 *
 * A pool stays, with or without workers: buckets are not removed while anybody lives. Loop thread. */
#ifndef JR_APP_FRONTEND_DISCOVER_H
#define JR_APP_FRONTEND_DISCOVER_H

#include "base/err.h"

struct jr_discover;
struct jr_frontend;

/* Looks at once, and whenever there is a connection. Borrows f, whose NATS connection outlives it. */
JR_MUST_CHECK int jr_discover_create(struct jr_frontend *f, struct jr_discover **ret,
                                     struct jr_errmsg *e);
/* Waits for a look that is under way. NULL is fine. */
void jr_discover_destroy(struct jr_discover *d);

#endif
