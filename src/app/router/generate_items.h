/* SPDX-License-Identifier: Apache-2.0 */
/* generate_items: the stream of a worker's completion as items of Dynamo's workers, one event each:
 *
 *     data: {"choices":[{"text":"a","token_ids":[7]}]}   ──►  data: {"data":{"token_ids":[7],"text":"a",…}}
 *     data: {"choices":[],"usage":{…}}                   ──►  completion_usage of the item that ends it
 *     data: {"error":{…}}                                ──►  event: error, data: {"event":"error","error":{…}}
 *     data: [DONE]                                       ──►  data: [DONE]
 *
 * Pure; one thread at a time. */
#ifndef JR_APP_ROUTER_GENERATE_ITEMS_H
#define JR_APP_ROUTER_GENERATE_ITEMS_H

#include "wire/sse.h"

#include <jansson.h>

struct jr_generate_items {
    uint64_t worker_id; /* of the first item; set before it */
    uint32_t dp_rank;
    bool begun;
    json_t *last; /* owned; an item that may be the last one: usage may follow */
};

void jr_generate_items_deinit(struct jr_generate_items *g);
/* Appends what one event of the worker becomes, perhaps nothing. */
void jr_generate_items_event(struct jr_generate_items *g, const struct jr_sse_event *ev,
                             struct jr_buf *b);
/* The stream ends, whole or not: what was held back. */
void jr_generate_items_end(struct jr_generate_items *g, struct jr_buf *b);
/* error_type as Dynamo names it. */
void jr_generate_items_error(struct jr_buf *b, const char *error_type, const char *message);

#endif
