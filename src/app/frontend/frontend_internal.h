/* SPDX-License-Identifier: Apache-2.0 */
/* frontend_internal: what the files of the frontend share. Loop thread only.
 *
 *     frontend.c    the process: parts, NATS, signals, drain
 *     front_loop.c  what each HTTP loop has of its own
 *     front_threads.c  the loops beside the main one
 *     decide.c, decide_main.c  what requests ask of the main loop, and its answers
 *     gather.c      what the loops have counted, in one
 *     service.c     what each path answers; command.h: which there are
 *     proxy.c       one request: understood, routed, ended
 *     proxy_tokens.c, proxy_headers.c, proxy_relay.c, proxy_log.c   its tokens; to the worker and back
 *     proxy_spans.c, span_export.c   its spans, and their way to a collector
 *     tokenizer.c, tokenizer_hosts.c   token ids: known, or asked of a worker
 *     errors.c      every error answer, as a table
 *     ../router/    the paths of the standalone router
 *     pools.c       which pool and which workers may get a request
 *     state_json.c  /state, /workers
 *     scrape.c      /metrics: copies what is counted elsewhere
 *     model_series.c  which models' series are to go
 *     busy.c        /busy_threshold
 *     discover.c    the pools of a namespace, as they come
 *     pool_config.c options to the pool's configuration */
#ifndef JR_APP_FRONTEND_FRONTEND_INTERNAL_H
#define JR_APP_FRONTEND_FRONTEND_INTERNAL_H

#include "app/driver/driver.h"
#include "app/frontend/command.h"
#include "app/frontend/errors.h"
#include "app/frontend/front_loop.h"
#include "app/frontend/frontend.h"
#include "app/frontend/model_series.h"
#include "app/frontend/route_metrics.h"
#include "app/frontend/tokenizer.h"
#include "app/frontend/worker_last.h"
#include "app/metrics.h"
#include "base/list.h"
#include "base/rng.h"
#include "io/embedded_nats.h"
#include "io/http_client.h"
#include "io/http_server.h"
#include "io/nats_conn.h"
#include "io/signal.h"
#include "wire/openai.h"

struct jr_access_log;
struct jr_discover;
struct jr_gathered;
struct jr_warmer;
struct jr_pools;
struct static_worker;

#define JR_PROXY_EXCLUDE_MAX 16 /* workers that failed one request */

struct jr_frontend {
    const struct jr_config *cfg; /* borrows */
    const struct jr_front_command *command;
    struct jr_front_pools named;  /* pools to be served */
    struct jr_front_loop *others; /* owned, n_others: --http-threads */
    uint32_t n_others, n_running;
    void (*others_done)(struct jr_frontend *f);
    atomic_uint conns;         /* of all loops, when there are several */
    atomic_size_t bodies;      /* bytes of request bodies, of all loops */
    struct jr_front_loop main; /* owns the four that follow */
    struct jr_loop *loop;
    struct jr_http_server *server;
    struct jr_http_client *client;
    struct jr_metrics *metrics;
    struct jr_http_server *admin; /* owned; NULL: --admin-port is not set */
    struct jr_signals *signals;
    struct jr_nats *nats; /* NULL without */
    struct jr_embedded_nats *embedded;
    struct jr_warmer *warmer; /* of the pools' tables; NULL: small pages */
    struct jr_policy *policy; /* owned; NULL: none */
    struct jr_driver *drivers[JR_POOLS_MAX];
    char components[JR_POOLS_MAX][JR_NAME_MAX];
    bool came_late[JR_POOLS_MAX]; /* found when all else was ready: ready does not wait for it */
    uint32_t n_drivers;
    struct jr_discover *discover; /* NULL: the pools that are named */
    struct jr_pools *pools;       /* owned; who may get what */
    struct jr_worker_lasts lasts;
    struct jr_route_metrics routes;
    struct static_worker *statics; /* --worker */
    uint32_t n_statics;
    char namespace_[JR_NAME_MAX];
    char replica_id[JR_NAME_MAX];
    char nats_url[JR_URL_MAX];
    uint64_t incarnation;
    uint64_t started_ms;
    struct jr_admin_token *admin_token; /* owned; NULL: loopback only */
    struct jr_tokenizer *tokenizer;
    struct jr_access_log *access_log; /* NULL: off */
    struct jr_list tails;             /* /admin/tail streams */
    struct jr_list asked;             /* of the command: questions that wait for a worker */
    uint64_t *scraped;                /* ids of the workers in the last /metrics */
    uint32_t n_scraped;
    char (*models)[JR_MODEL_MAX]; /* that they named */
    uint32_t n_models;
    struct jr_model_series model_series;
    uint32_t gathering; /* looks at /metrics that loops are being asked for */
    uint32_t migration_limit;
    enum jr_router_mode mode;
    /* end of life */
    bool draining;
    bool hurried;         /* a second signal came */
    atomic_bool stopping; /* any loop reads it */
    struct jr_timer *drain_timer;
    uint64_t drain_until_ms;
    bool server_drained;
    bool had_nats;    /* was connected once */
    bool had_workers; /* as many as it is to begin with */
    uint32_t closings;
    bool flushing; /* the last spans */
    int exit_err;
    struct jr_errmsg exit_msg;
};

/* service.c */
void jr_service_request(void *ctx, struct jr_http_request *req);       /* ctx: a jr_front_loop */
void jr_service_admin_request(void *ctx, struct jr_http_request *req); /* ctx: the jr_frontend */
void jr_service_answered(void *ctx, const void *tag,
                         int status); /* tag: a jr_front_path, or NULL */
void jr_service_admin_answered(void *ctx, const void *tag, int status);
void jr_service_tail(void *ctx, const char *line); /* to all /admin/tail streams */
void jr_service_close_tails(struct jr_frontend *f);
/* Both error shapes; takes the request. param and message: NULL for the row's own. */
void jr_service_error(struct jr_front_loop *l, struct jr_http_request *req, enum jr_error error,
                      const char *param, const char *message);
/* The same, with further "Name: value\r\n" lines in its head (NULL: none). */
void jr_service_error_with(struct jr_front_loop *l, struct jr_http_request *req,
                           enum jr_error error, const char *param, const char *message,
                           const char *lines);
/* The same for a request that came up against a limit of its class (limit may be NULL): the answer has
 * `details`. */
void jr_service_refuse(struct jr_front_loop *l, struct jr_http_request *req, enum jr_error error,
                       const char *message, const char *lines,
                       const struct jr_queue_refusal *limit);
/* The status of an error here: OVERLOADED's is an option. */
int jr_service_status(const struct jr_frontend *f, enum jr_error error);

/* proxy.c */
void jr_proxy_request(struct jr_front_loop *l, struct jr_http_request *req,
                      enum jr_openai_kind kind);
/* Any other /v1 path: to a worker of its model, by load alone. */
void jr_proxy_pass(struct jr_front_loop *l, struct jr_http_request *req);
void jr_proxy_abort_all(struct jr_front_loop *l);

/* state_json.c, scrape.c */
void jr_state_json(struct jr_frontend *f, struct jr_buf *b);
void jr_workers_json(struct jr_frontend *f, struct jr_buf *b);
/* /metrics; takes the request. others: what other loops have counted; it is added to. */
void jr_scrape_answer(struct jr_frontend *f, struct jr_gathered *others,
                      struct jr_http_request *req);

/* busy.c: each takes the request */
void jr_busy_get(struct jr_frontend *f, struct jr_http_request *req);
void jr_busy_post(struct jr_frontend *f, struct jr_http_request *req);

/* pool_config.c */
JR_MUST_CHECK int jr_pool_config_from(const struct jr_config *cfg, const char *namespace_,
                                      const char *component, struct jr_pool_config *ret,
                                      struct jr_errmsg *e);
enum jr_router_mode jr_router_mode_from(const struct jr_config *cfg);

/* frontend.c */
uint32_t jr_frontend_inflight(const struct jr_frontend *f); /* requests under way, of all loops */
bool jr_frontend_ready(struct jr_frontend *f, const char **ret_why);
/* Routing without NATS, in some pool: how long, in ms; *ret_since is when that began, Unix seconds.
 * False: all is well, or there is no NATS in this set-up. */
bool jr_frontend_degraded(struct jr_frontend *f, uint64_t *ret_ms, int64_t *ret_since);
/* For one that is: why, as far as is known. Borrowed until the loop goes on. */
const char *jr_frontend_degraded_because(const struct jr_frontend *f);
void jr_frontend_drain(struct jr_frontend *f);
/* One more pool is served from now on. */
JR_MUST_CHECK int jr_frontend_add_pool(struct jr_frontend *f, const char *component,
                                       struct jr_errmsg *e);

#endif
