/* SPDX-License-Identifier: Apache-2.0 */
/* mock_worker_internal: what mock_worker.c (engine, sockets), mock_api.c (HTTP routes) and
 * mock_admin.c (those under /mock) share. */
#ifndef JR_APP_MOCKER_MOCK_WORKER_INTERNAL_H
#define JR_APP_MOCKER_MOCK_WORKER_INTERNAL_H

#include "app/mocker/mock_reply.h"
#include "app/mocker/mock_worker.h"
#include "base/list.h"
#include "base/rng.h"

struct mock_request;

/* One output under way: a prompt, or one of the n answers to it. */
struct mock_seq {
    struct mock_request *request;
    struct jr_engine_seq *seq; /* NULL once it is finished */
    uint32_t index;
    bool counts_prompt; /* the first of the n answers carries the prompt's usage */
    struct jr_buf text; /* not streamed: what came so far */
    uint32_t *prompt;   /* its ids, for the first chunk that lists ids; NULL: none does */
    uint32_t n_prompt;
};

struct mock_request {
    struct jr_list node;
    struct jr_mock_worker *worker;
    uint32_t rank; /* all of it runs there */
    struct jr_http_request *http;
    struct jr_mock_head head;
    char id[80];
    struct jr_mock_usage usage;
    const char *finish_reason;
    bool stream, include_usage;
    bool return_token_ids; /* in a stream */
    bool gone;             /* the client left; to be reaped */
    uint32_t n_seqs, n_live;
    struct mock_seq seqs[];
};

/* A data-parallel rank: an engine of its own, with its own cache and events. */
struct mock_rank {
    struct jr_engine *engine;
    struct jr_zmq_pub *pub; /* NULL: no KV events */
};

struct jr_mock_worker {
    struct jr_mock_worker_config config;
    struct jr_loop *loop;
    struct mock_rank *ranks;
    uint32_t n_ranks;
    uint32_t next_rank; /* where the next search for the least loaded one starts */
    struct jr_http_server *http;
    struct jr_mock_faults faults;
    struct jr_rng rng; /* of the faults */
    uint64_t batches, batches_dropped;
    uint64_t ready_at_ns;
    struct jr_timer *timer;
    struct jr_list requests;
    uint32_t n_requests;
    bool pumping; /* outputs are being handed out: nothing may be reaped */
    bool any_gone;
    uint64_t next_id;
    struct jr_mem mem;
    struct jr_tokens tokens;           /* scratch: prompts, one behind the other */
    struct jr_buf out;                 /* scratch: body or chunk */
    struct jr_engine_event *kv_events; /* scratch */
    uint32_t cap_kv_events;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* on_request of the HTTP server; ctx is the worker. (mock_api.c) */
void jr_mock_api_request(void *ctx, struct jr_http_request *req);

/* Steps the engine up to now and hands out what it produced. (mock_worker.c) */
void jr_mock_worker_pump(struct jr_mock_worker *w);
/* Empties the prefix caches and tells it at once; false where requests hold blocks. */
bool jr_mock_worker_reset_cache(struct jr_mock_worker *w);
/* The rank with the least to do, as vLLM's front weighs it: a waiting request as four running ones. */
uint32_t jr_mock_worker_pick_rank(struct jr_mock_worker *w);
/* Takes the request, whose seqs are not submitted yet: prompt i ends at ends[i] in w->tokens, and
 * is answered n times. */
void jr_mock_worker_start(struct mock_request *r, const uint32_t *ends, uint32_t n_prompts,
                          uint32_t max_tokens, struct jr_str salt, struct jr_str lora);

/* mock_api.c: w->out as JSON, or 500 when it did not fit; an error in the API's shape. */
void jr_mock_respond_out(struct jr_mock_worker *w, struct jr_http_request *http, int status);
void jr_mock_respond_error(struct jr_mock_worker *w, struct jr_http_request *http, int status,
                           const char *param, const char *message);
/* Is it one of the paths under /mock, and so answered? (mock_admin.c) */
bool jr_mock_admin_request(struct jr_mock_worker *w, struct jr_http_request *http);
void jr_mock_worker_set_faults(struct jr_mock_worker *w, const struct jr_mock_faults *faults);
/* As if the engine's process had died and come back on the same ports: clients are cut off, cache and
 * event sequence begin anew under other hashes. JR_EADDRINUSE, JR_EIO: no events from now on. */
JR_MUST_CHECK int jr_mock_worker_restart(struct jr_mock_worker *w, struct jr_errmsg *e);

#endif
