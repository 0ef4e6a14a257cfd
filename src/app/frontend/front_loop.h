/* SPDX-License-Identifier: Apache-2.0 */
/* front_loop: what one HTTP loop has of its own, so that it shares nothing while it serves: its server
 * with the connections it accepted, its client with those to the workers, what a request is read into,
 * its requests under way, its metrics. Its loop's thread only, but for what says otherwise.
 *
 * The main loop is number 0, and the only one unless --http-threads says more. */
#ifndef JR_APP_FRONTEND_FRONT_LOOP_H
#define JR_APP_FRONTEND_FRONT_LOOP_H

#include "app/frontend/decide.h"
#include "app/frontend/http_metrics.h"
#include "app/frontend/request_metrics.h"
#include "app/metrics.h"
#include "app/otel_options.h"
#include "base/list.h"
#include "base/rng.h"
#include "io/http_client.h"
#include "wire/openai.h"

#include <pthread.h>
#include <stdatomic.h>

struct jr_config;
struct jr_frontend;

struct jr_front_loop {
    struct jr_frontend *f;
    uint32_t number;
    struct jr_loop *loop;
    struct jr_http_server *server;
    struct jr_http_client *client; /* workers: requests; of the main loop also health, tokenizers */
    struct jr_metrics *metrics;
    struct jr_request_metrics requests; /* of them */
    struct jr_http_metrics answers;
    struct jr_series *turns; /* and how long the loop's took */
    struct jr_openai_parser *parser;
    struct jr_mem tokens_mem;
    struct jr_tokens tokens; /* of the request being read */
    struct jr_buf head;      /* lines of the head being written */
    struct jr_buf name;      /* of the model being read */
    struct jr_rng rng;       /* of request ids */
    struct jr_list proxied;  /* requests under way */
    struct jr_list holds;    /* workers being asked to keep a prompt: proxy_hold.c */
    uint32_t n_holds;
    size_t hold_bytes;               /* at most those that they are told */
    bool holds_failing;              /* the last one did not do it, and that was said */
    atomic_uint inflight;            /* how many; any thread reads */
    struct jr_span_export *exporter; /* owned; NULL: tracing is off */
    struct jr_otel_sampler sampler;
    struct jr_proxy_spans *kept_spans; /* owned; of the request that is read anew */
    /* Of loops other than the main one: see decide.h. */
    uint32_t n_tickets;
    unsigned tries;    /* of the request that is read anew; 0: it is a new one */
    uint64_t tried_ns; /* and when the first of them began */
    struct jr_places places;
    uint32_t n_away;   /* requests that the main loop answers */
    atomic_uint lines; /* of the access log, on their way to it; any thread */
    atomic_bool idle;  /* after drain: nothing is under way; any thread reads */
    struct jr_timer *look;
    bool stopping;
    uint32_t closings; /* parts that are closing */
    struct jr_msg ended;
    /* Of those, what the main loop keeps. */
    pthread_t thread;
    bool started, told_to_stop;
};

/* Zero-initialised memory becomes a loop with its parts, but for the server. After an error, too,
 * jr_front_loop_deinit is due. */
JR_MUST_CHECK int jr_front_loop_init(struct jr_front_loop *l, struct jr_frontend *f,
                                     uint32_t number, struct jr_errmsg *e);
/* Listens: requests go to jr_service_request. */
JR_MUST_CHECK int jr_front_loop_listen(struct jr_front_loop *l, uint16_t port, struct jr_errmsg *e);
/* Server and client are closed before, and the loop does not run. */
void jr_front_loop_deinit(struct jr_front_loop *l);

#endif
