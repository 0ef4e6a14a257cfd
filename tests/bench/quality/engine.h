/* SPDX-License-Identifier: Apache-2.0 */
/* engine: a simulated inference engine on the nodes of a trace (trace.h): first come first served,
 * chunked prefill, decodes first, least recently used blocks freed first.
 *
 *   step = 12 ms + 0.1 ms · prefill tokens + 0.75 ns · prefill tokens · context
 *          + 0.1 ms · decodes + 25 ns · KV tokens
 *
 * A request takes the blocks of its whole output at admission, so nothing is ever preempted. */
#ifndef JR_BENCH_QUALITY_ENGINE_H
#define JR_BENCH_QUALITY_ENGINE_H

#include "cache.h"
#include "trace.h"

#define Q_BLOCKS 8192 /* of one engine */
#define Q_SEATS  256
#define Q_BUDGET 8192 /* tokens of a step */

struct q_engine {
    struct q_cache *cache; /* borrows; engines may share one, and then the log, too */
    struct q_log *log;
    struct q_trace *trace;
    uint32_t waiting_first, waiting_last, n_waiting;
    uint32_t running[Q_SEATS], n_running;
    bool busy;
    double kv_tokens, work_s;
};
/* Ready to take it at all? */
bool q_engine_fits(const struct q_request *r);
void q_engine_enqueue(struct q_engine *e, uint32_t request);
/* Begins a step unless one is under way or there is nothing to do: its seconds, else 0. */
double q_engine_begin(struct q_engine *e);
/* Ends it: fills first (first tokens now) and ended, each with room for Q_SEATS. */
void q_engine_end(struct q_engine *e, uint32_t *first, uint32_t *n_first, uint32_t *ended,
                  uint32_t *n_ended);

#endif
