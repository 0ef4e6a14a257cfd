/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/access_log.h"
#include "app/frontend/admin_token.h"
#include "app/frontend/pools.h"
#include "app/policy_file.h"

#include "app/frontend/certificate.h"
#include "app/frontend/discover.h"
#include "app/frontend/front_threads.h"
#include "app/frontend/span_export.h"
#include "app/nats_options.h"
#include "app/open_files.h"
#include "base/log.h"
#include "base/map.h"
#include "io/warmer.h"
#include "jetrouter/version.h"

#include <jansson.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCESS_LOG_LINGER_MS 100
#define STATIC_ASK_MS        2000
#define STATIC_BODY_MAX      ((size_t)1 << 20)
#define DRAIN_LOOK_MS        20
#define ADMIN_BODY_MAX       ((size_t)64 << 10)
#define ADMIN_CONNS_MAX      64
#define SECOND_SIGNAL_S      1 /* for giving leases back; else they end by themselves */

/* ---------------------------------------------------------------- pools */

uint32_t jr_frontend_inflight(const struct jr_frontend *f)
{
    uint32_t n = atomic_load_explicit(&f->main.inflight, memory_order_relaxed);
    for (uint32_t i = 0; i < f->n_others; i++)
        n += atomic_load_explicit(&f->others[i].inflight, memory_order_relaxed);
    return n;
}

static void fatal(struct jr_frontend *f, int err, const char *words)
{
    if (f->stopping)
        return;
    f->exit_err = err;
    (void)jr_errmsg_set(&f->exit_msg, err, "%s", words);
    f->stopping = true;
    jr_loop_stop(f->loop);
}

static void on_driver_fatal(void *ctx, int err, const char *words)
{
    fatal(ctx, err, words);
}

static void on_snapshot(void *ctx, const char *component, double seconds)
{
    struct jr_frontend *f = ctx;
    jr_metric_observe(f->metrics, JR_METRIC_SNAPSHOT_DURATION_SECONDS,
                      JR_LABELS(f->namespace_, component), seconds);
}

static void on_event_delay(void *ctx, const char *component, double seconds)
{
    struct jr_frontend *f = ctx;
    jr_metric_observe(f->metrics, JR_METRIC_EVENT_DELAY_SECONDS,
                      JR_LABELS(f->namespace_, component), seconds);
}

static void on_sync_delay(void *ctx, const char *component, double seconds)
{
    struct jr_frontend *f = ctx;
    jr_metric_observe(f->metrics, JR_METRIC_SYNC_DELAY_SECONDS, JR_LABELS(f->namespace_, component),
                      seconds);
}

static void on_route(void *ctx, const char *component, uint64_t match_ns, uint64_t all_ns)
{
    struct jr_frontend *f = ctx;
    uint32_t pool = 0;
    while (strcmp(f->components[pool], component) != 0)
        pool++;
    jr_route_metrics_take(&f->routes, pool, JR_LABELS(f->namespace_, component), match_ns, all_ns);
}

static int add_driver(struct jr_frontend *f, const char *component, struct jr_errmsg *e)
{
    struct jr_driver_config config = {
        .loop = f->loop,
        .client = f->client,
        .nats = f->nats,
        .nats_replicas = jr_config_u32(f->cfg, JR_CFG_NATS_REPLICAS),
        .event_threads = jr_config_u32(f->cfg, JR_CFG_ROUTER_EVENT_THREADS),
        .stream_max_bytes = jr_config_u64(f->cfg, JR_CFG_STREAM_MAX_BYTES),
        .write_radix_state = jr_config_enum(f->cfg, JR_CFG_SNAPSHOT_COMPAT) != 0,
        .on_tail = jr_service_tail,
        .on_snapshot = on_snapshot,
        .on_fatal = on_driver_fatal,
        .on_event_delay = on_event_delay,
        .on_sync_delay = on_sync_delay,
        .on_route = on_route,
        .ctx = f,
    };
    int err = jr_pool_config_from(f->cfg, f->namespace_, component, &config.pool, e);
    if (err < 0)
        return err;
    config.pool.durable = f->nats != NULL;
    config.pool.incarnation = f->incarnation;
    randombytes_buf(&config.pool.seed, sizeof config.pool.seed);
    memcpy(config.pool.replica_id, f->replica_id, sizeof config.pool.replica_id);
    snprintf(config.pool.address, sizeof config.pool.address, "%s://%s:%u",
             jr_certificate_wanted(f) ? "https" : "http", jr_config_str(f->cfg, JR_CFG_HTTP_HOST),
             jr_http_server_port(f->server));
    config.pool.policy = f->policy;
    if (f->warmer)
        config.pool.warmer = jr_warmer_pages(f->warmer);
    err = jr_driver_create(&config, &f->drivers[f->n_drivers], e);
    if (err < 0)
        return err;
    (void)jr_str_copy(f->components[f->n_drivers], JR_NAME_MAX, component);
    f->n_drivers++;
    return 0;
}

static void start_warmer(struct jr_frontend *f)
{
    if (jr_config_bool(f->cfg, JR_CFG_HUGE_PAGES) && jr_warmer_create(&f->warmer) < 0)
        jr_log(JR_LOG_WARN, "warmer.absent", "words=\"no thread; the index uses small pages\"");
}

/* Those that are named; of those that are looked for, none yet. */
static int add_drivers(struct jr_frontend *f, struct jr_errmsg *e)
{
    int err = 0;
    if (jr_config_bool(f->cfg, JR_CFG_DISCOVER_POOLS) &&
        jr_config_source(f->cfg, JR_CFG_COMPONENT) == JR_CFG_FROM_DEFAULT)
        return 0;
    for (uint32_t i = 0; err == 0 && i < f->named.n_components; i++)
        err = add_driver(f, f->named.components[i], e);
    return err;
}

/* Static workers: ids are their places on the command line, from 1. What model each serves is
 * asked once it answers; until then it takes any. */
struct static_worker {
    struct jr_frontend *f;
    struct jr_timer *retry;
    struct jr_worker_lease lease;
};

static void ask_model(void *ctx);

static void on_models(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct static_worker *w = ctx;
    json_t *root = err == 0 && reply->status == 200 ? json_loadb(body.p, body.n, 0, NULL) : NULL;
    const char *model =
        json_string_value(json_object_get(json_array_get(json_object_get(root, "data"), 0), "id"));
    if (model && jr_str_copy(w->lease.model, sizeof w->lease.model, model) && w->f->n_drivers)
        (void)!jr_driver_add_static(w->f->drivers[0], &w->lease, 1);
    else
        jr_timer_start(w->retry, STATIC_ASK_MS, 0);
    json_decref(root);
}

static void ask_model(void *ctx)
{
    struct static_worker *w = ctx;
    char url[JR_URL_MAX + 16];
    snprintf(url, sizeof url, "%s/v1/models", w->lease.url);
    struct jr_http_fetch fetch = {.url = url, .method = "GET", .total_timeout_ms = STATIC_ASK_MS};
    if (jr_http_client_whole(w->f->client, &fetch, STATIC_BODY_MAX, on_models, w) < 0)
        jr_timer_start(w->retry, STATIC_ASK_MS, 0);
}

static int add_static_workers(struct jr_frontend *f)
{
    const char *const *urls = jr_config_list(f->cfg, JR_CFG_WORKER, &f->n_statics);
    f->statics = jr_xalloc((f->n_statics ? f->n_statics : 1) * sizeof *f->statics);
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < f->n_statics; i++) {
        struct static_worker *w = &f->statics[i];
        w->f = f;
        w->retry = jr_timer_create(f->loop, ask_model, w);
        w->lease.worker_id = i + 1;
        (void)jr_str_copy(w->lease.url, sizeof w->lease.url, urls[i]);
        err = jr_driver_add_static(f->drivers[0], &w->lease, 1);
        if (err == 0)
            ask_model(w);
    }
    return err;
}

static void free_static_workers(struct jr_frontend *f)
{
    for (uint32_t i = 0; i < f->n_statics; i++)
        jr_timer_destroy(f->statics[i].retry);
    jr_xfree(f->statics);
}

/* Once it has: what happens later does not take that back. */
static bool has_initial_workers(struct jr_frontend *f)
{
    const uint32_t n = jr_config_u32(f->cfg, JR_CFG_ROUTER_MIN_INITIAL_WORKERS);
    for (uint32_t i = 0; i < f->n_drivers && !f->had_workers; i++)
        if (jr_pool_n_routable(jr_driver_pool(f->drivers[i])) < n)
            return false;
    f->had_workers = true;
    return true;
}

/* What NATS says goes before what the pool makes of it. */
static const char *pool_not_ready(const struct jr_driver *d, const struct jr_pool_view *v)
{
    const char *words = jr_driver_open_failed(d);
    if (words[0])
        return words;
    return v->not_ready_because[0] ? v->not_ready_because : "starting";
}

bool jr_frontend_ready(struct jr_frontend *f, const char **ret_why)
{
    *ret_why = "";
    if (f->draining || f->stopping)
        *ret_why = "draining";
    else if (f->n_drivers == 0)
        *ret_why = f->discover ? "no pool of the namespace is found yet" : "starting";
    for (uint32_t i = 0; i < f->n_drivers && !**ret_why; i++) {
        struct jr_pool_view v;
        jr_pool_view(jr_driver_pool(f->drivers[i]), &v);
        if (!v.ready && !f->came_late[i])
            *ret_why = pool_not_ready(f->drivers[i], &v);
    }
    if (!**ret_why && !has_initial_workers(f))
        *ret_why = "fewer workers than --router-min-initial-workers";
    return !**ret_why;
}

bool jr_frontend_degraded(struct jr_frontend *f, uint64_t *ret_ms, int64_t *ret_since)
{
    uint64_t since = 0, now = jr_loop_now_ns() / 1000000;
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_pool_view v;
        jr_pool_view(jr_driver_pool(f->drivers[i]), &v);
        if (v.degraded_since_ms && (!since || v.degraded_since_ms < since))
            since = v.degraded_since_ms;
    }
    /* The first millisecond counts as one: 0 means that it is not degraded. */
    *ret_ms = !since ? 0 : since < now ? now - since : 1;
    *ret_since = since ? (jr_unix_ns() / 1000000 - (int64_t)*ret_ms) / 1000 : 0;
    return since != 0;
}

const char *jr_frontend_degraded_because(const struct jr_frontend *f)
{
    if (!f->nats || !jr_nats_connected(f->nats))
        return "NATS is not connected";
    for (uint32_t i = 0; i < f->n_drivers; i++)
        if (jr_driver_open_failed(f->drivers[i])[0])
            return jr_driver_open_failed(f->drivers[i]);
    return "NATS does not list the leases";
}

/* ---------------------------------------------------------------- NATS */

static void on_nats(void *ctx, enum jr_nats_event event, const char *text)
{
    struct jr_frontend *f = ctx;
    if (event == JR_NATS_ERROR) {
        jr_log(JR_LOG_WARN, "nats.error", "words=\"%s\"", text);
        return;
    }
    if (event == JR_NATS_CLOSED) { /* at the start: only another configuration helps */
        const char *words = text && text[0] ? text : "the NATS server refuses this client";
        if (!f->had_nats) {
            fatal(f, JR_EAUTH, words);
            return;
        }
        /* Routing outlives NATS: what is known serves on. */
        jr_log(JR_LOG_ERROR, "nats.refused", "words=\"%s\" hint=\"%s\"", words,
               "correct the credentials; it routes on what it knows, and tries again");
    }
    bool connected = event == JR_NATS_CONNECTED;
    f->had_nats = f->had_nats || connected;
    jr_log(connected ? JR_LOG_INFO : JR_LOG_WARN, connected ? "nats.connected" : "nats.lost",
           "server=%s", f->nats_url);
    for (uint32_t i = 0; i < f->n_drivers; i++)
        jr_driver_nats(f->drivers[i], connected);
}

/* Only the frontend can start a server by itself. */
static int no_nats(const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct jr_errmsg was = *e;
    if (jr_config_command(cfg) != JR_CMD_FRONTEND)
        return JR_ENONATS;
    return jr_errmsg_set(e, JR_ENONATS, "%.180s (--embedded-nats DIR starts one)", was.text);
}

/* The first connection is waited for, so that a wrong address or a server without JetStream is one
 * clear line; a server that is merely away is not fatal to a replica that can wait for it. */
static int connect_nats(struct jr_frontend *f, struct jr_errmsg *e)
{
    const struct jr_config *cfg = f->cfg;
    struct jr_nats_config nats;
    jr_nats_options(cfg, f->replica_id, &nats);
    nats.servers = f->nats_url; /* the embedded server's, perhaps */
    nats.loop = f->loop;
    nats.on_event = on_nats;
    nats.ctx = f;
    int err = jr_nats_connect(&nats, &f->nats, e);
    f->had_nats = err == 0;
    if (err != JR_ENONATS)
        return err;
    if (jr_config_ms(cfg, JR_CFG_READY_TIMEOUT_SECS) == 0)
        return no_nats(cfg, e);
    jr_log(JR_LOG_WARN, "nats.unreachable", "server=%s words=\"%s\" hint=\"%s\"", f->nats_url,
           e->text, "waiting for it; ready in degraded mode after --ready-timeout-secs");
    nats.background = true;
    return jr_nats_connect(&nats, &f->nats, e);
}

/* ---------------------------------------------------------------- end of life */

static void on_driver_closed(void *ctx)
{
    struct jr_frontend *f = ctx;
    if (--f->closings == 0)
        jr_loop_stop(f->loop);
}

static void close_drivers(struct jr_frontend *f)
{
    f->closings = f->n_drivers + 1;
    uint32_t n = f->n_drivers;
    f->n_drivers = 0;
    for (uint32_t i = 0; i < n; i++)
        jr_driver_close(f->drivers[i], on_driver_closed, f);
    on_driver_closed(f);
}

/* Nobody asks pools and tokenizer any more. */
static void stop_rest(struct jr_frontend *f)
{
    jr_proxy_abort_all(&f->main); /* what came while the other loops ended */
    if (f->command->stop)
        f->command->stop(f);
    jr_tokenizer_stop(f->tokenizer);
    close_drivers(f);
}

static void stop(struct jr_frontend *f)
{
    if (f->stopping)
        return;
    f->stopping = true;
    jr_log(JR_LOG_INFO, "frontend.stop", "inflight=%u", jr_frontend_inflight(f));
    jr_timer_stop(f->drain_timer);
    jr_proxy_abort_all(&f->main);
    jr_service_close_tails(f);
    jr_front_threads_stop(f, stop_rest);
}

/* not ready ─ drain delay ─► no new connections ─ in-flight finish, up to the time-out ─► last
 * base ─► leases given back ─► exit. A second signal: what is in flight ends now.
 *
 * Looked at from a timer, never from the end of a request: that may be deep within a step of a
 * driver. An answer counts as long as a byte of it waits for its client. */
static void on_drain_timer(void *ctx)
{
    struct jr_frontend *f = ctx;
    uint64_t now = jr_loop_now_ms(f->loop);
    if (!f->server_drained) {
        f->server_drained = true;
        f->drain_until_ms = now + jr_config_ms(f->cfg, JR_CFG_DRAIN_TIMEOUT_SECS);
        jr_service_close_tails(f);
        jr_http_server_drain(f->server);
        jr_front_threads_drain(f);
        jr_timer_start(f->drain_timer, DRAIN_LOOK_MS, DRAIN_LOOK_MS);
        return;
    }
    if (jr_frontend_inflight(f) == 0 && jr_http_server_busy(f->server) == 0 &&
        jr_front_threads_idle(f)) {
        stop(f);
    } else if (now >= f->drain_until_ms) {
        jr_log(JR_LOG_WARN, "drain.timeout", "inflight=%u", jr_frontend_inflight(f));
        stop(f);
    }
}

void jr_frontend_drain(struct jr_frontend *f)
{
    if (f->draining || f->stopping) /* /admin/drain may be asked to the very end */
        return;
    f->draining = true;
    jr_log(JR_LOG_INFO, "frontend.drain", "inflight=%u", jr_frontend_inflight(f));
    jr_http_server_retire(f->server);
    jr_front_threads_retire(f);
    for (uint32_t i = 0; i < f->n_drivers; i++)
        jr_driver_drain(f->drivers[i]);
    jr_timer_start(f->drain_timer, jr_config_ms(f->cfg, JR_CFG_DRAIN_DELAY_SECS), 0);
}

static void end_now(int signum)
{
    (void)signum;
    _exit(0);
}

/* Also when NATS does not answer, or somebody blocks the loop. */
static void end_within(unsigned seconds)
{
    struct sigaction sa = {.sa_handler = end_now};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGALRM, &sa, NULL);
    (void)alarm(seconds);
}

static void on_signal(void *ctx, int signum)
{
    struct jr_frontend *f = ctx;
    if (signum == SIGHUP && (jr_certificate_wanted(f) || jr_access_log_reopens(f->access_log))) {
        jr_access_log_reopen(f->access_log);
        if (jr_certificate_wanted(f) && !f->stopping) /* the servers may be gone */
            jr_certificate_reload(f);
        return;
    }
    if (f->hurried || f->exit_err < 0) {
        jr_log(JR_LOG_WARN, "frontend.third_signal", "signal=%d", signum);
        _exit(128 + signum);
    }
    if (f->draining || f->stopping) { /* the drain may just have ended by itself */
        f->hurried = true;
        jr_log(JR_LOG_WARN, "frontend.second_signal", "inflight=%u", jr_frontend_inflight(f));
        end_within(SECOND_SIGNAL_S);
        stop(f);
        return;
    }
    jr_frontend_drain(f);
}

/* ---------------------------------------------------------------- start */

static void name_replica(struct jr_frontend *f)
{
    const char *given = jr_config_str(f->cfg, JR_CFG_REPLICA_ID);
    randombytes_buf(&f->incarnation, sizeof f->incarnation);
    if (given && given[0]) {
        (void)jr_str_copy(f->replica_id, sizeof f->replica_id, given);
        return;
    }
    snprintf(f->replica_id, sizeof f->replica_id, "%016llx",
             (unsigned long long)jr_mix64(f->incarnation));
}

static int read_admin_token(struct jr_frontend *f, struct jr_errmsg *e)
{
    const char *path = jr_config_str(f->cfg, JR_CFG_ADMIN_TOKEN_FILE);
    return path && path[0] ? jr_admin_token_create(path, &f->admin_token, e) : 0;
}

/* A port of its own, so that what reaches the public one need not reach /admin. It is served until
 * the very end. */
static int listen_admin(struct jr_frontend *f, struct jr_errmsg *e)
{
    if (!jr_config_is_set(f->cfg, JR_CFG_ADMIN_PORT))
        return 0;
    const struct jr_http_server_config config = {
        .host = jr_config_str(f->cfg, JR_CFG_HTTP_HOST),
        .port = jr_config_port(f->cfg, JR_CFG_ADMIN_PORT),
        .body_max = ADMIN_BODY_MAX,
        .conns_max = ADMIN_CONNS_MAX,
        .header_timeout_ms = (uint32_t)jr_config_ms(f->cfg, JR_CFG_HTTP_HEADER_TIMEOUT_SECS),
        .idle_timeout_ms = (uint32_t)jr_config_ms(f->cfg, JR_CFG_HTTP_IDLE_TIMEOUT_SECS),
        .body_timeout_ms = (uint32_t)jr_config_ms(f->cfg, JR_CFG_HTTP_BODY_TIMEOUT_SECS),
        .on_request = jr_service_admin_request,
        .on_answer = jr_service_admin_answered,
        .ctx = f,
    };
    int err = jr_http_server_listen(f->loop, &config, e, &f->admin);
    if (err < 0)
        return jr_errmsg_wrap(e, err, "--admin-port");
    jr_log(JR_LOG_INFO, "frontend.admin", "port=%u", jr_http_server_port(f->admin));
    return 0;
}

static int listen_http(struct jr_frontend *f, struct jr_errmsg *e)
{
    const uint64_t files = jr_open_files_raise();
    const uint32_t conns = jr_config_u32(f->cfg, JR_CFG_HTTP_CONNECTIONS_MAX);
    if (files < conns)
        jr_log(JR_LOG_WARN, "frontend.open_files", "limit=%llu connections=%u hint=\"%s\"",
               (unsigned long long)files, conns,
               "raise the limit (ulimit -n, LimitNOFILE=) to more than twice the connections");
    int err = jr_front_loop_listen(&f->main, jr_config_port(f->cfg, JR_CFG_HTTP_PORT), e);
    f->server = f->main.server;
    if (err == 0)
        err = jr_front_threads_make(f, jr_http_server_port(f->server), e);
    return err < 0 ? err : listen_admin(f, e);
}

static void make_tokenizer(struct jr_frontend *f)
{
    const struct jr_tokenizer_config config = {
        .client = f->client,
        .metrics = f->metrics,
        .namespace_ = f->namespace_,
        .cache_bytes = (size_t)jr_config_u32(f->cfg, JR_CFG_TOKENIZER_CACHE_MB) << 20,
        .timeout_ms = (uint32_t)jr_config_ms(f->cfg, JR_CFG_TOKENIZER_TIMEOUT_SECS),
        .prefixes = jr_config_bool(f->cfg, JR_CFG_TOKENIZER_PREFIXES),
    };
    f->tokenizer = jr_tokenizer_create(&config);
}

static int open_access_log(struct jr_frontend *f, struct jr_errmsg *e)
{
    const char *mode = jr_config_str(f->cfg, JR_CFG_ACCESS_LOG);
    struct jr_access_log_config config = {
        .share = strcmp(mode, "full") == 0      ? 1
                 : strcmp(mode, "sampled") == 0 ? jr_config_f64(f->cfg, JR_CFG_ACCESS_LOG_SAMPLE)
                                                : 0,
        .path = jr_config_str(f->cfg, JR_CFG_ACCESS_LOG_FILE),
        .slow_ms = jr_config_u32(f->cfg, JR_CFG_SLOW_REQUEST_MS),
        .buffer_max = JR_ACCESS_LOG_BUFFER,
        .seed = f->incarnation,
        .linger_ms = ACCESS_LOG_LINGER_MS,
    };
    if (config.share == 0 && config.slow_ms == 0)
        return 0;
    return jr_access_log_create(f->loop, &config, &f->access_log, e);
}

/* No more than can be told apart: a worker that failed a request does not get it again. */
static uint32_t migration_limit(const struct jr_config *cfg)
{
    const uint32_t n = jr_config_u32(cfg, JR_CFG_MIGRATION_LIMIT);
    return n < JR_PROXY_EXCLUDE_MAX ? n : JR_PROXY_EXCLUDE_MAX;
}

static int make_parts(struct jr_frontend *f, struct jr_errmsg *e)
{
    f->mode = jr_router_mode_from(f->cfg);
    f->migration_limit = migration_limit(f->cfg);
    name_replica(f);
    int err = jr_front_loop_init(&f->main, f, 0, e);
    f->loop = f->main.loop;
    f->client = f->main.client;
    f->metrics = f->main.metrics;
    if (err == 0)
        err = f->command->pools(f->cfg, &f->named, e);
    (void)jr_str_copy(f->namespace_, sizeof f->namespace_, f->named.namespace_);
    if (err == 0)
        err = jr_signals_create(f->loop, on_signal, f, &f->signals);
    if (err == 0)
        err = read_admin_token(f, e);
    if (err == 0)
        err = jr_policy_file_from(f->cfg, &f->policy, e);
    if (err == 0)
        err = open_access_log(f, e);
    if (err == 0)
        err = listen_http(f, e);
    if (err == 0)
        err = jr_certificate_load(f, e);
    f->drain_timer = f->loop ? jr_timer_create(f->loop, on_drain_timer, f) : NULL;
    f->pools = jr_xalloc(sizeof *f->pools);
    jr_pools_init(f->pools, f->cfg);
    jr_worker_lasts_init(&f->lasts);
    jr_route_metrics_init(&f->routes, f->metrics, f->replica_id);
    make_tokenizer(f);
    return err;
}

/* Pools with a log, or one pool of the workers that the command line names. */
static int start_pools(struct jr_frontend *f, struct jr_errmsg *e)
{
    uint32_t n_static;
    (void)jr_config_list(f->cfg, JR_CFG_WORKER, &n_static);
    start_warmer(f);
    if (n_static > 0 && !f->nats_url[0]) {
        int err = add_driver(f, "static", e);
        return err < 0 ? err : add_static_workers(f);
    }
    int err = connect_nats(f, e);
    if (err == 0 && jr_nats_connected(f->nats))
        err = jr_nats_check_jetstream(f->nats, e);
    if (err == JR_ETIMEOUT) /* slow, or nobody leads there: the drivers ask again */
        err = 0;
    if (err == 0)
        err = add_drivers(f, e);
    for (uint32_t i = 0; err == 0 && i < f->n_drivers && jr_nats_connected(f->nats); i++)
        jr_driver_nats(f->drivers[i], true);
    if (err == 0 && jr_config_bool(f->cfg, JR_CFG_DISCOVER_POOLS))
        err = jr_discover_create(f, &f->discover, e);
    return err;
}

int jr_frontend_add_pool(struct jr_frontend *f, const char *component, struct jr_errmsg *e)
{
    const char *why;
    f->came_late[f->n_drivers] = jr_frontend_ready(f, &why);
    int err = add_driver(f, component, e);
    if (err == 0 && jr_nats_connected(f->nats))
        jr_driver_nats(f->drivers[f->n_drivers - 1], true);
    return err;
}

static void on_embedded_ready(void *ctx, const char *url)
{
    struct jr_frontend *f = ctx;
    if (f->draining || f->stopping) /* nothing begins that nobody would end */
        return;
    (void)jr_str_copy(f->nats_url, sizeof f->nats_url, url);
    jr_log(JR_LOG_INFO, "nats.embedded", "url=%s", url);
    struct jr_errmsg e = {""};
    int err = start_pools(f, &e);
    if (err < 0)
        fatal(f, err, e.text);
}

static void on_embedded_failed(void *ctx, const char *words)
{
    fatal(ctx, JR_ECHILD, words);
}

static int start(struct jr_frontend *f, struct jr_errmsg *e)
{
    uint32_t n_static;
    (void)jr_config_list(f->cfg, JR_CFG_WORKER, &n_static);
    if (jr_config_is_set(f->cfg, JR_CFG_EMBEDDED_NATS)) {
        struct jr_embedded_nats_config config = {
            .dir = jr_config_str(f->cfg, JR_CFG_EMBEDDED_NATS),
            .on_ready = on_embedded_ready,
            .on_failed = on_embedded_failed,
            .ctx = f,
        };
        if (!config.dir || !config.dir[0])
            config.dir = "jetrouter-nats";
        return jr_embedded_nats_start(f->loop, &config, e, &f->embedded);
    }
    if (n_static == 0)
        (void)jr_str_copy(f->nats_url, sizeof f->nats_url,
                          jr_config_str(f->cfg, JR_CFG_NATS_SERVER));
    return start_pools(f, e);
}

static void on_part_closed(void *ctx)
{
    struct jr_frontend *f = ctx;
    if (--f->closings == 0)
        jr_loop_stop(f->loop);
}

static void on_threads_ended(struct jr_frontend *f)
{
    if (f->closings > 0)
        jr_loop_stop(f->loop);
    f->closings = 0;
}

static void end_threads(struct jr_frontend *f)
{
    f->closings = 0;
    jr_front_threads_stop(f, on_threads_ended);
    if (f->n_running == 0)
        return;
    f->closings = 1;
    while (f->closings > 0)
        jr_loop_run(f->loop);
}

static void on_spans_flushed(void *ctx)
{
    struct jr_frontend *f = ctx;
    if (f->closings > 0) /* the loop runs for it */
        jr_loop_stop(f->loop);
    f->closings = 0;
    f->flushing = false;
}

/* The spans that are left, while there is a client. */
static void flush_spans(struct jr_frontend *f)
{
    if (!f->main.exporter)
        return;
    f->closings = 0;
    f->flushing = true;
    jr_span_export_close(f->main.exporter, on_spans_flushed, f);
    f->closings = f->flushing;
    while (f->flushing)
        jr_loop_run(f->loop);
}

/* What start made, in reverse; after an orderly stop or a failed start. */
static void free_parts(struct jr_frontend *f)
{
    f->stopping = true;
    jr_proxy_abort_all(&f->main); /* before the drivers: what is booked is freed there */
    if (f->drain_timer)
        jr_timer_stop(f->drain_timer);
    end_threads(f);
    flush_spans(f);
    jr_proxy_abort_all(&f->main); /* what came meanwhile */
    jr_tokenizer_destroy(f->tokenizer);
    f->tokenizer = NULL;
    jr_service_close_tails(f);
    if (f->loop) {
        f->closings = 1;
        if (f->n_drivers) {
            f->closings += f->n_drivers;
            for (uint32_t i = 0; i < f->n_drivers; i++)
                jr_driver_close(f->drivers[i], on_part_closed, f);
            f->n_drivers = 0;
        }
        if (f->server) {
            f->closings++;
            jr_http_server_close(f->server, on_part_closed, f);
        }
        if (f->admin) {
            f->closings++;
            jr_http_server_close(f->admin, on_part_closed, f);
        }
        if (f->client) {
            f->closings++;
            jr_http_client_close(f->client, on_part_closed, f);
        }
        if (--f->closings > 0)
            jr_loop_run(f->loop);
    }
    jr_discover_destroy(f->discover);
    jr_nats_close(f->nats);
    if (f->embedded) {
        f->closings = 1; /* at once when it had ended by itself */
        jr_embedded_nats_stop(f->embedded, on_part_closed, f);
        if (f->closings > 0)
            jr_loop_run(f->loop);
    }
    jr_access_log_destroy(f->access_log);
    jr_signals_destroy(f->signals);
    jr_timer_destroy(f->drain_timer);
    free_static_workers(f);
    jr_front_loop_deinit(&f->main);
    jr_warmer_destroy(f->warmer); /* after the pools */
    jr_xfree(f->pools);
    jr_worker_lasts_deinit(&f->lasts);
    jr_xfree(f->scraped);
    jr_xfree(f->models);
    jr_model_series_deinit(&f->model_series);
    jr_policy_file_destroy(f->policy);
    jr_admin_token_destroy(f->admin_token);
}

int jr_front_run(const struct jr_front_command *command, const struct jr_config *cfg,
                 struct jr_errmsg *e)
{
    struct jr_frontend *f = jr_xalloc(sizeof *f);
    f->command = command;
    f->cfg = cfg;
    f->started_ms = jr_loop_now_ns() / 1000000;
    jr_list_init(&f->tails);
    jr_list_init(&f->asked);
    jr_list_init(&f->main.proxied); /* looked at also when nothing else was made */
    int err = sodium_init() < 0 ? JR_EINTERNAL : make_parts(f, e);
    if (err == 0)
        err = start(f, e);
    if (err == 0)
        err = jr_front_threads_start(f, e);
    if (err == 0) {
        jr_log(JR_LOG_INFO, "frontend.listening", "port=%u replica=%s version=%s",
               jr_http_server_port(f->server), f->replica_id, JETROUTER_VERSION);
        jr_loop_run(f->loop);
        err = f->exit_err;
        if (err < 0)
            *e = f->exit_msg;
    }
    free_parts(f);
    jr_xfree(f);
    return err;
}
