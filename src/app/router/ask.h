/* SPDX-License-Identifier: Apache-2.0 */
/* ask: questions of external data planes: which worker would get this prompt? Main loop only.
 *
 *     POST /best_worker_id   [ids]     → the bare worker id, in the body that Dynamo's endpoint sends
 *                            {ids, …}  → worker, rank, overlap, and all candidates with their loads
 *                            decided at once, nothing is booked
 *     POST /select           the same object, and request_id: books; waits for a worker with room
 */
#ifndef JR_APP_ROUTER_ASK_H
#define JR_APP_ROUTER_ASK_H

#include <stdint.h>

struct jr_frontend;
struct jr_http_request;

/* Takes the request. */
void jr_ask_best_worker(struct jr_frontend *f, struct jr_http_request *req);
void jr_ask_select(struct jr_frontend *f, struct jr_http_request *req);
/* The booking that waits for a worker gets none. Unknown ones are fine. */
void jr_ask_end(struct jr_frontend *f, uint64_t id);
/* The process ends: what waits for a worker is cut off. */
void jr_ask_stop(struct jr_frontend *f);

#endif
