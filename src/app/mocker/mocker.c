/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/mocker.h"
#include "app/bridge/bridge.h"
#include "app/bridge/hub_options.h"
#include "app/mocker/mock_worker.h"
#include "app/mocker/toy_tokenizer.h"
#include "base/assert.h"
#include "base/cursor.h"
#include "app/nats_options.h"
#include "app/open_files.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/signal.h"
#include <inttypes.h>
#include <string.h>

#define DRAIN_LOOK_MS 20

struct mocker {
    const struct jr_config *cfg;
    struct jr_loop *loop;
    struct jr_signals *signals;
    struct jr_openai_parser *parser;
    struct jr_zmq_pub_group *pubs; /* all engines' KV events */
    struct jr_mock_worker **workers;
    uint32_t n; /* that listen */
    uint32_t n_closing;
    bool stopping, hurried, closing; /* closing: the workers end */
    struct jr_timer *drain_timer;
    uint64_t drain_until_ms;
    struct jr_nats *nats; /* with --bridge */
    struct jr_http_client *client;
    struct jr_bridge_hub *hub; /* NULL once it is closed */
};

/* ---- options ------------------------------------------------------------------------ */

static uint32_t ranks(const struct jr_config *cfg)
{
    return jr_config_u32(cfg, JR_CFG_DATA_PARALLEL_SIZE);
}

/* Port of engine i's first rank in a list with one port for each engine, or a single one that counts up
 * by ranks; 0: none. That the list makes sense was checked with the other options. */
static uint16_t port_of(const struct jr_config *cfg, enum jr_cfg_key key, uint32_t i)
{
    uint32_t n;
    const char *const *ports = jr_config_list(cfg, key, &n);
    uint64_t port;
    if (n == 0)
        return 0;
    const char *text = ports[n == 1 ? 0 : i];
    int err = jr_parse_u64(text, strlen(text), &port);
    port += n == 1 ? (uint64_t)i * ranks(cfg) : 0;
    JR_ASSERT(err == 0 && port <= UINT16_MAX);
    return (uint16_t)port;
}

static void engine_config(const struct jr_config *cfg, struct jr_engine_config *ret)
{
    jr_engine_config_init(ret);
    ret->block_size = jr_config_u32(cfg, JR_CFG_BLOCK_SIZE);
    ret->num_gpu_blocks = jr_config_u32(cfg, JR_CFG_NUM_GPU_BLOCKS_OVERRIDE);
    ret->max_num_seqs = jr_config_u32(cfg, JR_CFG_MAX_NUM_SEQS);
    ret->max_num_batched_tokens = jr_config_u32(cfg, JR_CFG_MAX_NUM_BATCHED_TOKENS);
    ret->speedup_ratio = jr_config_f64(cfg, JR_CFG_SPEEDUP_RATIO);
    ret->timing = (struct jr_engine_timing){
        .base_s = jr_config_f64(cfg, JR_CFG_STEP_BASE_MS) / 1e3,
        .prefill_s = jr_config_f64(cfg, JR_CFG_STEP_PREFILL_US) / 1e6,
        .attention_s = jr_config_f64(cfg, JR_CFG_STEP_ATTENTION_PS) / 1e12,
        .decode_s = jr_config_f64(cfg, JR_CFG_STEP_DECODE_US) / 1e6,
        .kv_s = jr_config_f64(cfg, JR_CFG_STEP_KV_NS) / 1e9,
    };
    ret->output_token_first = JR_TOY_OUTPUT_FIRST;
    ret->output_tokens = JR_TOY_OUTPUTS;
}

static int read_faults(const struct jr_config *cfg, struct jr_mock_faults *ret, struct jr_errmsg *e)
{
    uint32_t n;
    int err = 0;
    const char *const *list = jr_config_list(cfg, JR_CFG_FAULT, &n);
    jr_mock_faults_init(ret);
    for (uint32_t i = 0; i < n && err == 0; i++)
        err = jr_mock_faults_set(ret, jr_str_of(list[i], strlen(list[i])), e);
    return err < 0 ? jr_errmsg_wrap(e, JR_ECONFIG, "--fault") : 0;
}

static uint32_t max_model_len(const struct jr_config *cfg, const struct jr_engine_config *engine)
{
    uint64_t holds = (uint64_t)(engine->num_gpu_blocks - 1) * engine->block_size;
    uint64_t len = jr_config_u32(cfg, JR_CFG_MAX_MODEL_LEN);
    return (uint32_t)(len < holds ? len : holds);
}

/* ---- engines --------------------------------------------------------------------------- */

/* Wildcards as libzmq writes them. */
static char *zmq_endpoint(const char *host, uint16_t port)
{
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    return port == 0 ? NULL : jr_xprintf("tcp://%s:%u", any ? "*" : host, port);
}

/* For replays all engines together keep this much. */
static uint64_t replay_bytes(const struct mocker *m)
{
    uint64_t n = (uint64_t)jr_config_u32(m->cfg, JR_CFG_NUM_WORKERS) * ranks(m->cfg);
    uint64_t each = JR_MOCKER_REPLAY_BYTES / n;
    return each < JR_MOCKER_REPLAY_BYTES / 4 ? each : JR_MOCKER_REPLAY_BYTES / 4;
}

static int start_worker(struct mocker *m, struct jr_mock_worker_config *config, uint32_t i,
                        struct jr_errmsg *e)
{
    uint16_t port = jr_config_port(m->cfg, JR_CFG_HTTP_PORT);
    config->port = port == 0 ? 0 : (uint16_t)(port + i);
    char *endpoint = zmq_endpoint(config->host, port_of(m->cfg, JR_CFG_ZMQ_KV_EVENTS_PORTS, i));
    char *replay_endpoint = zmq_endpoint(config->host, port_of(m->cfg, JR_CFG_ZMQ_REPLAY_PORTS, i));
    config->pub = (struct jr_zmq_pub_config){.group = m->pubs,
                                             .endpoint = endpoint,
                                             .replay_endpoint = replay_endpoint,
                                             .hwm = 100000,
                                             .buffer_steps = JR_MOCKER_REPLAY_STEPS,
                                             .buffer_bytes = replay_bytes(m)};
    int err = jr_mock_worker_create(m->loop, config, e, &m->workers[i]);
    jr_xfree(endpoint);
    jr_xfree(replay_endpoint);
    if (err < 0)
        return jr_errmsg_wrap(e, err, "engine %u", i);
    m->n++;
    return 0;
}

/* What `bound` names, as a bridge of this machine connects to it. */
static char *local_endpoint(const char *host, const char *bound)
{
    const char *colon = strrchr(bound, ':');
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    return colon ? jr_xprintf("tcp://%s%s", any ? "127.0.0.1" : host, colon) : NULL;
}

/* --bridge: registers engine i and publishes its KV events to JetStream, in this process. */
static int start_bridge(struct mocker *m, uint32_t i, struct jr_errmsg *e)
{
    const struct jr_config *cfg = m->cfg;
    const char *host = jr_config_str(cfg, JR_CFG_HTTP_HOST);
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    char *url =
        jr_xprintf("http://%s:%u", any ? "127.0.0.1" : host, jr_mock_worker_port(m->workers[i]));
    char *kv = local_endpoint(host, jr_mock_worker_kv_endpoint(m->workers[i]));
    char *replay = local_endpoint(host, jr_mock_worker_replay_endpoint(m->workers[i]));
    uint64_t id = jr_config_u64(cfg, JR_CFG_WORKER_ID);
    struct jr_bridge *bridge;
    struct jr_bridge_config config = {
        .engine_url = url,
        .kv_endpoint = kv,
        .replay_endpoint = replay,
        .worker_id = id ? id + i : 0,
        .on_cpu = jr_config_enum(cfg, JR_CFG_DEVICE) == 1,
    };
    int err = jr_bridge_create(m->hub, &config, &bridge, e);
    jr_xfree(url);
    jr_xfree(kv);
    jr_xfree(replay);
    return err;
}

static void on_nats(void *ctx, enum jr_nats_event event, const char *text)
{
    (void)ctx;
    if (event == JR_NATS_CONNECTED)
        jr_log(JR_LOG_INFO, "nats.connected", "words=\"%s\"", text ? text : "");
    else
        jr_log(JR_LOG_WARN, event == JR_NATS_ERROR ? "nats.error" : "nats.lost", "words=\"%s\"",
               text ? text : "");
}

static int start_hub(struct mocker *m, struct jr_errmsg *e)
{
    struct jr_bridge_hub_config config;
    jr_bridge_hub_options(m->cfg, &config);
    config.loop = m->loop;
    config.nats = m->nats;
    config.client = m->client;
    return jr_bridge_hub_create(&config, &m->hub, e);
}

static int start_bridges(struct mocker *m, uint32_t n, struct jr_errmsg *e)
{
    struct jr_http_client_config http = {
        .connect_timeout_ms = 1000, .idle_timeout_ms = 30000, .idle_per_host_max = 2};
    struct jr_nats_config nats;
    jr_nats_options(m->cfg, "jetrouter-mocker", &nats);
    nats.loop = m->loop;
    nats.on_event = on_nats;
    int err = jr_nats_connect(&nats, &m->nats, e);
    if (err == 0)
        err = jr_nats_check_jetstream(m->nats, e);
    if (err == 0)
        err = jr_http_client_create(m->loop, &http, &m->client);
    if (err == 0)
        err = start_hub(m, e);
    for (uint32_t i = 0; i < n && err == 0; i++)
        err = start_bridge(m, i, e);
    return err;
}

static int start_workers(struct mocker *m, struct jr_errmsg *e)
{
    uint32_t n = jr_config_u32(m->cfg, JR_CFG_NUM_WORKERS);
    struct jr_mock_worker_config config = {
        .model = jr_config_str(m->cfg, JR_CFG_MODEL_NAME),
        .host = jr_config_str(m->cfg, JR_CFG_HTTP_HOST),
        .startup_delay_ms = jr_config_ms(m->cfg, JR_CFG_STARTUP_DELAY_SECS),
        .fault_seed = (uint64_t)jr_unix_ns(),
        .format = (enum jr_engine_format)jr_config_enum(m->cfg, JR_CFG_EVENT_FLAVOUR),
        .n_ranks = ranks(m->cfg),
        .parser = m->parser};
    int err = read_faults(m->cfg, &config.faults, e);
    if (err == 0)
        err = jr_zmq_pub_group_create(n * ranks(m->cfg), &m->pubs, e);
    config.loras = jr_config_list(m->cfg, JR_CFG_LORA_MODULES, &config.n_loras);
    engine_config(m->cfg, &config.engine);
    config.max_model_len = max_model_len(m->cfg, &config.engine);
    m->workers = jr_xalloc(n * sizeof *m->workers);
    for (uint32_t i = 0; i < n && err == 0; i++) {
        config.fault_seed++;
        config.engine.hash_seed++; /* as of engines in processes of their own, up to vLLM 0.28 */
        err = start_worker(m, &config, i, e);
    }
    if (err == 0)
        jr_log(JR_LOG_DEBUG, "mocker.seed", "faults=%" PRIu64, config.fault_seed - n + 1);
    if (err == 0 && jr_config_bool(m->cfg, JR_CFG_BRIDGE))
        err = start_bridges(m, n, e);
    return err;
}

static void log_workers(const struct mocker *m)
{
    const char *host = jr_config_str(m->cfg, JR_CFG_HTTP_HOST);
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const char *events = jr_mock_worker_kv_endpoint(m->workers[i]);
        const char *replay = jr_mock_worker_replay_endpoint(m->workers[i]);
        jr_log(JR_LOG_INFO, "mocker.engine", "engine=%u url=http://%s:%u kv_events=%s replay=%s", i,
               any ? "127.0.0.1" : host, jr_mock_worker_port(m->workers[i]),
               events[0] == '\0' ? "none" : events, replay[0] == '\0' ? "none" : replay);
    }
    /* The lines above are rate limited like all others; this one always comes. */
    jr_log(JR_LOG_INFO, "mocker.ready", "engines=%u ports=%u-%u model=" JR_LOG_Q, m->n,
           jr_mock_worker_port(m->workers[0]), jr_mock_worker_port(m->workers[m->n - 1]),
           jr_config_str(m->cfg, JR_CFG_MODEL_NAME));
}

/* ---- life ----------------------------------------------------------------------------------- */

static void on_closed(void *ctx)
{
    struct mocker *m = ctx;
    if (--m->n_closing == 0)
        jr_loop_stop(m->loop);
}

static void stop_workers(struct mocker *m)
{
    m->closing = true;
    jr_timer_stop(m->drain_timer);
    m->n_closing = m->n + 1; /* ours: nothing stops before this function is through */
    for (uint32_t i = 0; i < m->n; i++)
        jr_mock_worker_close(m->workers[i], on_closed, m);
    if (m->client) {
        m->n_closing++;
        jr_http_client_close(m->client, on_closed, m);
    }
    on_closed(m);
}

static uint64_t busy(const struct mocker *m)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < m->n; i++)
        n += jr_mock_worker_busy(m->workers[i]);
    return n;
}

static void on_drain_timer(void *ctx)
{
    struct mocker *m = ctx;
    const uint64_t n = busy(m);
    const bool late = jr_loop_now_ms(m->loop) >= m->drain_until_ms;
    if (n > 0 && late)
        jr_log(JR_LOG_WARN, "mocker.drain_timeout", "inflight=%" PRIu64, n);
    if (n == 0 || late)
        stop_workers(m);
}

/* Nobody is sent here any more. */
static void on_bridges_closed(void *ctx)
{
    struct mocker *m = ctx;
    m->hub = NULL;
    if (m->hurried) {
        stop_workers(m);
        return;
    }
    for (uint32_t i = 0; i < m->n; i++)
        jr_mock_worker_drain(m->workers[i]);
    m->drain_until_ms = jr_loop_now_ms(m->loop) + jr_config_ms(m->cfg, JR_CFG_DRAIN_TIMEOUT_SECS);
    jr_timer_start(m->drain_timer, 0, DRAIN_LOOK_MS);
}

/* With bridges the workers leave the registry, then what they do is waited for: who takes an engine
 * away ends its bridge first. An engine alone just ends. */
static void stop(struct mocker *m)
{
    m->stopping = true;
    if (m->hub)
        jr_bridge_hub_close(m->hub, on_bridges_closed, m);
    else
        stop_workers(m);
}

/* The second one: what is under way ends now. */
static void on_signal(void *ctx, int signum)
{
    struct mocker *m = ctx;
    if (!m->stopping) {
        jr_log(JR_LOG_INFO, "mocker.stop", "signal=%d inflight=%" PRIu64, signum, busy(m));
        stop(m);
    } else if (!m->hurried && !m->closing) {
        jr_log(JR_LOG_WARN, "mocker.second_signal", "inflight=%" PRIu64, busy(m));
        m->hurried = true;
        if (!m->hub)
            stop_workers(m);
    }
}

static int run(struct mocker *m, struct jr_errmsg *e)
{
    int err = jr_openai_parser_create(JR_MOCKER_BODY_MAX, &m->parser);
    if (err < 0)
        return err;
    err = start_workers(m, e);
    if (err == 0)
        err = jr_signals_create(m->loop, on_signal, m, &m->signals);
    if (err == 0)
        log_workers(m);
    else
        stop(m); /* what listens already is closed on the loop */
    if (err == 0 || m->n > 0)
        jr_loop_run(m->loop);
    jr_signals_destroy(m->signals);
    return err;
}

int jr_mocker_main(const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct mocker m = {.cfg = cfg};
    (void)jr_open_files_raise(); /* some seven each engine, and its clients */
    int err = jr_loop_create(&m.loop);
    if (err < 0)
        return err;
    m.drain_timer = jr_timer_create(m.loop, on_drain_timer, &m);
    err = run(&m, e);
    jr_timer_destroy(m.drain_timer);
    jr_nats_close(m.nats);
    jr_openai_parser_destroy(m.parser);
    jr_zmq_pub_group_destroy(m.pubs);
    jr_xfree(m.workers);
    jr_loop_destroy(m.loop);
    return err;
}
