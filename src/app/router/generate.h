/* SPDX-License-Identifier: Apache-2.0 */
/* generate: Dynamo's request to a worker, by way of the proxy: booked and freed, retried and gone on
 * with as a completion of the frontend's; the worker is asked for that completion
 * (generate_body.h), and its stream becomes items (generate_items.h). The request's own loop. */
#ifndef JR_APP_ROUTER_GENERATE_H
#define JR_APP_ROUTER_GENERATE_H

struct jr_front_loop;
struct jr_http_request;

/* Takes the request. */
void jr_generate(struct jr_front_loop *l, struct jr_http_request *req);

#endif
