/* SPDX-License-Identifier: Apache-2.0 */
/* mock_worker: one simulated engine with its sockets: HTTP in front, KV events behind, a timer that
 * moves its clock. Loop thread only; any number on one loop.
 *
 *     HTTP ──► request (1..n prompts) ──► rank 0..n: engine ◄── timer
 *      ◄── tokens, usage ─────────────────────────────┤
 *     ZMQ PUB, replay of the rank ◄─── one batch a step┘
 *
 * A request goes to the rank that its header X-data-parallel-rank names, else to the least loaded one.
 * Rank i publishes i ports further than rank 0. */
#ifndef JR_APP_MOCKER_MOCK_WORKER_H
#define JR_APP_MOCKER_MOCK_WORKER_H

#include "app/mocker/engine.h"
#include "app/mocker/mock_fault.h"
#include "io/http_server.h"
#include "io/zmq_pub.h"
#include "wire/engine_kv.h"
#include "wire/openai.h"

struct jr_mock_worker;

struct jr_mock_worker_config {
    struct jr_engine_config engine; /* of each rank */
    uint32_t n_ranks;               /* 0: 1 */
    uint32_t max_model_len;         /* at most the engine's capacity */
    const char *model;              /* borrowed for the worker's life */
    const char *const *loras;       /* names of adapters; borrowed as model */
    uint32_t n_loras;
    uint64_t startup_delay_ms; /* so long everything is answered 503 */
    struct jr_mock_faults faults;
    uint64_t fault_seed; /* which event batches are dropped */
    enum jr_engine_format format;
    const char *host;
    uint16_t port;
    struct jr_zmq_pub_config pub;    /* of rank 0; endpoint NULL: no KV events */
    struct jr_openai_parser *parser; /* borrowed; may be shared by all workers of the loop */
};

/* Listens on all its ports when it returns. JR_EADDRINUSE, JR_EINVAL, JR_EIO with words in e. */
JR_MUST_CHECK int jr_mock_worker_create(struct jr_loop *loop,
                                        const struct jr_mock_worker_config *config,
                                        struct jr_errmsg *e, struct jr_mock_worker **ret);
/* No new connections; what is under way goes on. */
void jr_mock_worker_drain(struct jr_mock_worker *w);
/* Connections with a request under way, or with bytes of an answer that are not sent yet. */
uint64_t jr_mock_worker_busy(const struct jr_mock_worker *w);
/* Cuts what is under way; cb when the worker's memory is gone. */
void jr_mock_worker_close(struct jr_mock_worker *w, void (*cb)(void *ctx), void *ctx);

uint16_t jr_mock_worker_port(const struct jr_mock_worker *w);
/* What rank 0 has bound; "" when there is none. Borrowed. */
const char *jr_mock_worker_kv_endpoint(const struct jr_mock_worker *w);
const char *jr_mock_worker_replay_endpoint(const struct jr_mock_worker *w);

#endif
