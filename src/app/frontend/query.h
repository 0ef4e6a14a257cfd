/* SPDX-License-Identifier: Apache-2.0 */
/* query: the answer to a request that only asks where it would go (annotation
 * `query_instance_id:`): nothing is sent to the worker, nothing is booked. Loop thread only. */
#ifndef JR_APP_FRONTEND_QUERY_H
#define JR_APP_FRONTEND_QUERY_H

#include "base/buf.h"
#include "core/pool.h"
#include "wire/openai.h"

/* Whether the client asks only that. The form without the colon asks for nothing. */
bool jr_query_is_asked(const struct jr_openai_nvext *nvext);

/* "worker_id":{…}, Dynamo's: one worker does prefill and decode. */
void jr_query_put_worker(struct jr_buf *b, uint64_t worker_id, uint32_t dp_rank);

struct jr_query_answer {
    enum jr_openai_kind kind;
    bool stream;
    const char *model;
    uint64_t number; /* makes the id of the answer */
    int64_t created; /* unix seconds */
    const struct jr_decision *decision;
    const uint32_t *ids; /* of the whole prompt; none when nobody tokenized it */
    uint32_t n_ids;
};

/* One answer or chunk without choices whose nvext has worker_id and token_ids, as Dynamo writes it;
 * a stream ends with [DONE]. Appends; check b->err. */
void jr_query_write(struct jr_buf *b, const struct jr_query_answer *a);

#endif
