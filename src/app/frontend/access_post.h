/* SPDX-License-Identifier: Apache-2.0 */
/* access_post: a line for the access log from any HTTP loop: added there, or sent to the main loop, which
 * has the log. More than JR_FRONT_TICKETS_MAX under way are dropped, and counted. */
#ifndef JR_APP_FRONTEND_ACCESS_POST_H
#define JR_APP_FRONTEND_ACCESS_POST_H

#include "app/frontend/access_line.h"

struct jr_front_loop;

/* Copies the entry. The log is on. */
void jr_access_post(struct jr_front_loop *l, const struct jr_access_entry *entry);

#endif
