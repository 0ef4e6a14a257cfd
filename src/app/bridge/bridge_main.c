/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/bridge.h"

#include "app/bridge/fleet.h"
#include "app/bridge/hub_options.h"
#include "app/bridge/status.h"
#include "app/https_options.h"
#include "app/nats_options.h"
#include "app/open_files.h"
#include "base/log.h"
#include "io/signal.h"

#include <signal.h>

struct bridge_process {
    const struct jr_config *cfg;
    struct jr_loop *loop;
    struct jr_nats *nats;
    struct jr_http_client *client;
    struct jr_signals *signals;
    struct jr_metrics *metrics;
    struct jr_bridge_hub *hub;
    struct jr_bridge_http *http;   /* NULL: no --system-port */
    struct jr_bridge_fleet *fleet; /* NULL: one engine */
    struct jr_errmsg *e;
    int err;
    bool stopping;
};

static void on_hub_closed(void *ctx)
{
    struct bridge_process *p = ctx;
    jr_loop_stop(p->loop);
}

static void stop(struct bridge_process *p)
{
    if (p->stopping || !p->hub)
        return;
    p->stopping = true;
    if (p->http)
        jr_bridge_http_stopping(p->http);
    if (p->fleet)
        jr_bridge_fleet_stop(p->fleet);
    jr_bridge_hub_close(p->hub, on_hub_closed, p);
}

static void on_signal(void *ctx, int signum)
{
    struct bridge_process *p = ctx;
    if (signum == SIGHUP && p->fleet) {
        jr_bridge_fleet_look(p->fleet);
        return;
    }
    jr_log(JR_LOG_INFO, "bridge.stop", "signal=%d", signum);
    stop(p);
}

static void on_fatal(void *ctx, int err, const char *text)
{
    struct bridge_process *p = ctx;
    p->err = jr_errmsg_set(p->e, err, "%s", text);
    stop(p);
}

static void on_nats(void *ctx, enum jr_nats_event event, const char *text)
{
    static const char *const events[] = {"nats.connected", "nats.lost", "nats.error",
                                         "nats.closed"};
    jr_log(event == JR_NATS_CONNECTED ? JR_LOG_INFO : JR_LOG_WARN, events[event], "words=\"%s\"",
           text ? text : "");
    (void)ctx;
}

/* A bridge that starts without NATS is told so at once; one that loses it keeps trying. */
static int connect_nats(struct bridge_process *p)
{
    struct jr_nats_config nats;
    jr_nats_options(p->cfg, "jetrouter-bridge", &nats);
    nats.loop = p->loop;
    nats.on_event = on_nats;
    nats.ctx = p;
    int err = jr_nats_connect(&nats, &p->nats, p->e);
    return err < 0 ? err : jr_nats_check_jetstream(p->nats, p->e);
}

static int start_hub(struct bridge_process *p)
{
    struct jr_bridge_hub_config config;
    jr_bridge_hub_options(p->cfg, &config);
    config.loop = p->loop;
    config.nats = p->nats;
    config.client = p->client;
    config.metrics = p->metrics;
    config.on_fatal = on_fatal;
    config.ctx = p;
    return jr_bridge_hub_create(&config, &p->hub, p->e);
}

/* 0 where the option was left out: then the engine says it. */
static uint32_t given_u32(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return jr_config_source(cfg, key) == JR_CFG_FROM_DEFAULT ? 0 : jr_config_u32(cfg, key);
}

static int start_bridge(struct bridge_process *p)
{
    const struct jr_config *cfg = p->cfg;
    struct jr_bridge *bridge;
    struct jr_bridge_config config = {
        .engine_url = jr_config_str(cfg, JR_CFG_ENGINE_URL),
        .kv_endpoint = jr_config_str(cfg, JR_CFG_KV_EVENTS_ENDPOINT),
        .replay_endpoint = jr_config_str(cfg, JR_CFG_KV_EVENTS_REPLAY_ENDPOINT),
        .kv_bind = jr_config_bool(cfg, JR_CFG_KV_EVENTS_BIND),
        .worker_id = jr_config_u64(cfg, JR_CFG_WORKER_ID),
        .dp_rank = jr_config_u32(cfg, JR_CFG_DATA_PARALLEL_RANK),
        .dp_size = given_u32(cfg, JR_CFG_DATA_PARALLEL_SIZE),
        .block_size = given_u32(cfg, JR_CFG_BLOCK_SIZE),
        .max_num_seqs = given_u32(cfg, JR_CFG_MAX_NUM_SEQS),
        .max_batched_tokens = given_u32(cfg, JR_CFG_MAX_NUM_BATCHED_TOKENS),
        .plain_set = jr_config_enum(cfg, JR_CFG_KV_EVENTS_REPORT_MODE) == 1,
        .on_cpu = jr_config_enum(cfg, JR_CFG_DEVICE) == 1,
        .on_fatal = on_fatal,
        .ctx = p,
    };
    return jr_bridge_create(p->hub, &config, &bridge, p->e);
}

static int start_engines(struct bridge_process *p)
{
    const char *dir = jr_config_str(p->cfg, JR_CFG_ENGINES_DIR);
    return dir ? jr_bridge_fleet_create(p->loop, p->hub, dir, &p->fleet, p->e) : start_bridge(p);
}

static int start_http(struct bridge_process *p)
{
    const char *host = jr_config_str(p->cfg, JR_CFG_SYSTEM_HOST);
    if (!jr_config_is_set(p->cfg, JR_CFG_SYSTEM_PORT))
        return 0;
    int err = jr_bridge_http_listen(p->loop, host, jr_config_port(p->cfg, JR_CFG_SYSTEM_PORT),
                                    p->hub, p->metrics, &p->http, p->e);
    if (err == 0)
        jr_log(JR_LOG_INFO, "bridge.listening", "host=%s port=%u", host,
               jr_bridge_http_port(p->http));
    return err;
}

static void on_closed(void *ctx)
{
    struct bridge_process *p = ctx;
    jr_loop_stop(p->loop);
}

static int run(struct bridge_process *p)
{
    struct jr_http_client_config http = {
        .connect_timeout_ms = 1000, .idle_timeout_ms = 30000, .idle_per_host_max = 2};
    int err = jr_https_options(p->cfg, &http, p->e);
    if (err == 0)
        err = connect_nats(p);
    if (err == 0)
        err = jr_http_client_create(p->loop, &http, &p->client);
    if (err == 0)
        err = start_hub(p);
    if (err == 0)
        err = start_http(p);
    if (err == 0)
        err = start_engines(p);
    if (err == 0)
        err = jr_signals_create(p->loop, on_signal, p, &p->signals);
    if (err < 0)
        stop(p);
    if (p->hub)
        jr_loop_run(p->loop);
    jr_signals_destroy(p->signals);
    jr_bridge_fleet_destroy(p->fleet);
    if (p->http) {
        jr_bridge_http_close(p->http, on_closed, p);
        jr_loop_run(p->loop);
    }
    if (p->client) {
        jr_http_client_close(p->client, on_closed, p);
        jr_loop_run(p->loop);
    }
    jr_nats_close(p->nats);
    return err < 0 ? err : p->err;
}

int jr_bridge_main(const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct bridge_process p = {.cfg = cfg, .e = e};
    int err = jr_loop_create(&p.loop);
    if (err < 0)
        return err;
    (void)jr_open_files_raise(); /* some six each rank of an engine */
    p.metrics = jr_metrics_create();
    err = run(&p);
    jr_metrics_destroy(p.metrics);
    jr_loop_destroy(p.loop);
    return err;
}
