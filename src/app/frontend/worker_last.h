/* SPDX-License-Identifier: Apache-2.0 */
/* worker_last: what was measured last at each worker, for the gauges of Dynamo's that say so. Of all
 * HTTP loops; main loop only. A row goes when its worker is not there at a look any more. */
#ifndef JR_APP_FRONTEND_WORKER_LAST_H
#define JR_APP_FRONTEND_WORKER_LAST_H

#include "base/arr.h"
#include "base/map.h"
#include "base/mem.h"

struct jr_worker_last {
    uint32_t pool, dp_rank;
    uint64_t worker_id;
    bool has_ttft, has_itl;
    double ttft_s, itl_s;
    uint32_t input_tokens; /* with ttft_s */
    uint32_t look;         /* the last one that found it */
};

struct jr_worker_lasts {
    struct jr_mem mem;
    struct jr_map at; /* hash of pool, worker and rank -> place in rows */
    struct {
        JR_ARR_FIELDS(struct jr_worker_last);
    } rows;
    uint32_t look;
};

void jr_worker_lasts_init(struct jr_worker_lasts *l);
void jr_worker_lasts_deinit(struct jr_worker_lasts *l);

void jr_worker_last_first_token(struct jr_worker_lasts *l, uint32_t pool, uint64_t worker_id,
                                uint32_t dp_rank, double ttft_s, uint32_t input_tokens);
void jr_worker_last_tokens(struct jr_worker_lasts *l, uint32_t pool, uint64_t worker_id,
                           uint32_t dp_rank, double itl_s);

/* A look: begin, find each worker that is there, end. NULL: nothing was measured at it. */
void jr_worker_lasts_look(struct jr_worker_lasts *l);
const struct jr_worker_last *jr_worker_lasts_find(struct jr_worker_lasts *l, uint32_t pool,
                                                  uint64_t worker_id, uint32_t dp_rank);
void jr_worker_lasts_looked(struct jr_worker_lasts *l);

#endif
