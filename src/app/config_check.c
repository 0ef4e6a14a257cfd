/* SPDX-License-Identifier: Apache-2.0 */
/* config_check: what options mean together, and the rewriting of single values. */
#include "app/config.h"
#include "app/nats_options.h"
#include "app/otel_options.h"
#include "app/policy_file.h"
#include "base/str.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool given(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return jr_config_source(cfg, key) != JR_CFG_FROM_DEFAULT;
}

/* ---------------------------------------------------------------- rules */

static bool weights_given(const struct jr_config *cfg)
{
    return given(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_WEIGHT) ||
           given(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT) ||
           given(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY) ||
           given(cfg, JR_CFG_ROUTER_PREFILL_LOAD_SCALE) ||
           given(cfg, JR_CFG_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT);
}

bool jr_config_cost_model_is_dynamo(const struct jr_config *cfg)
{
    return weights_given(cfg) || strcmp(jr_config_str(cfg, JR_CFG_ROUTER_PRESET), "none") != 0 ||
           strcmp(jr_config_str(cfg, JR_CFG_ROUTER_COST_MODEL), "dynamo") == 0;
}

bool jr_config_lower_media(const struct jr_config *cfg)
{
    bool counts = jr_config_f64(cfg, JR_CFG_ROUTER_HOST_CACHE_HIT_WEIGHT) > 0 ||
                  jr_config_f64(cfg, JR_CFG_ROUTER_DISK_CACHE_HIT_WEIGHT) > 0;
    return counts && strcmp(jr_config_str(cfg, JR_CFG_EVENT_FORMAT), "json") != 0;
}

static bool durable_without_events(const struct jr_config *cfg)
{
    return given(cfg, JR_CFG_ROUTER_DURABLE_KV_EVENTS) &&
           jr_config_bool(cfg, JR_CFG_ROUTER_DURABLE_KV_EVENTS) &&
           !jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS);
}

static bool events_not_durable(const struct jr_config *cfg)
{
    return !jr_config_bool(cfg, JR_CFG_ROUTER_DURABLE_KV_EVENTS) &&
           jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS);
}

static bool output_without_active(const struct jr_config *cfg)
{
    return jr_config_bool(cfg, JR_CFG_ROUTER_TRACK_OUTPUT_BLOCKS) &&
           !jr_config_bool(cfg, JR_CFG_ROUTER_TRACK_ACTIVE_BLOCKS);
}

static bool cache_control_without_kv(const struct jr_config *cfg)
{
    return jr_config_bool(cfg, JR_CFG_ENABLE_CACHE_CONTROL) &&
           strcmp(jr_config_str(cfg, JR_CFG_ROUTER_MODE), "kv") != 0;
}

static bool seconds_with_weights(const struct jr_config *cfg)
{
    return given(cfg, JR_CFG_ROUTER_COST_MODEL) && weights_given(cfg) &&
           strcmp(jr_config_str(cfg, JR_CFG_ROUTER_COST_MODEL), "seconds") == 0;
}

static bool load_aware_and_agentic(const struct jr_config *cfg)
{
    return jr_config_bool(cfg, JR_CFG_LOAD_AWARE) && jr_config_bool(cfg, JR_CFG_AGENTIC);
}

static bool two_nats(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_EMBEDDED_NATS) &&
           jr_config_source(cfg, JR_CFG_NATS_SERVER) == JR_CFG_FROM_CLI;
}

/* NATS_SERVER in the environment of a whole deployment is no contradiction. */
static bool static_with_nats(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_WORKER) &&
           (jr_config_is_set(cfg, JR_CFG_EMBEDDED_NATS) ||
            jr_config_bool(cfg, JR_CFG_DISCOVER_POOLS) ||
            jr_config_source(cfg, JR_CFG_NATS_SERVER) == JR_CFG_FROM_CLI);
}

/* Where it is not used it may be anything: it often comes by the environment of all. */
static bool nats_servers_wrong(const struct jr_config *cfg)
{
    bool unused = jr_config_is_set(cfg, JR_CFG_EMBEDDED_NATS) ||
                  jr_config_is_set(cfg, JR_CFG_WORKER) ||
                  (jr_config_command(cfg) == JR_CMD_MOCKER && !jr_config_bool(cfg, JR_CFG_BRIDGE));
    return !unused && !jr_nats_options_are_servers(jr_config_str(cfg, JR_CFG_NATS_SERVER));
}

static bool one_port_for_two(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_ADMIN_PORT) &&
           jr_config_port(cfg, JR_CFG_ADMIN_PORT) != 0 &&
           jr_config_port(cfg, JR_CFG_ADMIN_PORT) == jr_config_port(cfg, JR_CFG_HTTP_PORT);
}

static bool half_a_certificate(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_NATS_TLS_CERT) !=
           jr_config_is_set(cfg, JR_CFG_NATS_TLS_KEY);
}

static bool half_a_server_certificate(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_TLS_CERT_PATH) !=
           jr_config_is_set(cfg, JR_CFG_TLS_KEY_PATH);
}

static bool no_room_for_a_body(const struct jr_config *cfg)
{
    return jr_config_u32(cfg, JR_CFG_HTTP_BODIES_MAX_MB) <
           jr_config_u32(cfg, JR_CFG_HTTP_BODY_LIMIT_MB);
}

static bool half_a_login(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_NATS_AUTH_USERNAME) !=
           jr_config_is_set(cfg, JR_CFG_NATS_AUTH_PASSWORD);
}

static bool one_component(const struct jr_config *cfg)
{
    uint32_t n;
    (void)jr_config_list(cfg, JR_CFG_COMPONENT, &n);
    return n != 1;
}

static bool two_urls(const struct jr_config *cfg)
{
    uint32_t n;
    (void)jr_config_list(cfg, JR_CFG_URL, &n);
    return n != 1;
}

static bool many_urls(const struct jr_config *cfg)
{
    uint32_t n;
    (void)jr_config_list(cfg, JR_CFG_URL, &n);
    return n > 2;
}

/* A list of ports names one for each worker, or the first of all; the ranks of a worker count on. */
static bool ports_wrong(const struct jr_config *cfg, enum jr_cfg_key key)
{
    uint32_t n, workers = jr_config_u32(cfg, JR_CFG_NUM_WORKERS);
    uint32_t ranks = jr_config_u32(cfg, JR_CFG_DATA_PARALLEL_SIZE);
    const char *const *v = jr_config_list(cfg, key, &n);
    bool wrong = n != 0 && n != 1 && n != workers;
    for (uint32_t i = 0; i < n; i++)
        wrong = wrong ||
                strtoul(v[i], NULL, 10) + (n == 1 ? (unsigned long)workers : 1) * ranks - 1 > 65535;
    return wrong;
}

static bool event_ports_wrong(const struct jr_config *cfg)
{
    return ports_wrong(cfg, JR_CFG_ZMQ_KV_EVENTS_PORTS);
}

static bool replay_ports_wrong(const struct jr_config *cfg)
{
    return ports_wrong(cfg, JR_CFG_ZMQ_REPLAY_PORTS);
}

static bool http_ports_wrong(const struct jr_config *cfg)
{
    uint16_t port = jr_config_port(cfg, JR_CFG_HTTP_PORT);
    return port != 0 && port + jr_config_u32(cfg, JR_CFG_NUM_WORKERS) - 1 > 65535;
}

static bool bridge_without_events(const struct jr_config *cfg)
{
    return jr_config_bool(cfg, JR_CFG_BRIDGE) && !jr_config_is_set(cfg, JR_CFG_ZMQ_KV_EVENTS_PORTS);
}

/* What one engine is said with, and what a directory of them says instead. */
static bool engine_and_engines(const struct jr_config *cfg)
{
    static const enum jr_cfg_key one[] = {
        JR_CFG_ENGINE_URL,
        JR_CFG_KV_EVENTS_ENDPOINT,
        JR_CFG_KV_EVENTS_REPLAY_ENDPOINT,
        JR_CFG_KV_EVENTS_BIND,
        JR_CFG_WORKER_ID,
        JR_CFG_KV_EVENTS_REPORT_MODE,
        JR_CFG_DATA_PARALLEL_SIZE,
        JR_CFG_DATA_PARALLEL_RANK,
        JR_CFG_BLOCK_SIZE,
        JR_CFG_DEVICE,
    };
    for (size_t i = 0; jr_config_is_set(cfg, JR_CFG_ENGINES_DIR) && i < sizeof one / sizeof *one;
         i++)
        if (jr_config_source(cfg, one[i]) == JR_CFG_FROM_CLI)
            return true;
    return false;
}

static bool no_engine(const struct jr_config *cfg)
{
    return !jr_config_is_set(cfg, JR_CFG_ENGINES_DIR) &&
           !(jr_config_is_set(cfg, JR_CFG_ENGINE_URL) &&
             jr_config_is_set(cfg, JR_CFG_KV_EVENTS_ENDPOINT));
}

static bool policy_without_kv(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_ROUTER_POLICY_CONFIG) &&
           jr_config_command(cfg) == JR_CMD_FRONTEND &&
           strcmp(jr_config_str(cfg, JR_CFG_ROUTER_MODE), "kv") != 0;
}

static bool policy_and_threshold(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_ROUTER_POLICY_CONFIG) &&
           (given(cfg, JR_CFG_ROUTER_QUEUE_THRESHOLD) || given(cfg, JR_CFG_ROUTER_QUEUE_POLICY));
}

static bool approximate_with_events(const struct jr_config *cfg)
{
    return jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS) &&
           (given(cfg, JR_CFG_ROUTER_TTL_SECS) || given(cfg, JR_CFG_ROUTER_MAX_TREE_SIZE) ||
            given(cfg, JR_CFG_ROUTER_PRUNE_TARGET_RATIO));
}

static bool predicted_without_events(const struct jr_config *cfg)
{
    return jr_config_is_set(cfg, JR_CFG_ROUTER_PREDICTED_TTL_SECS) &&
           !jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS);
}

static bool reset_at_every_start(const struct jr_config *cfg)
{
    const char *token = jr_config_str(cfg, JR_CFG_ROUTER_RESET_STATES);
    return token && token[0] == '\0';
}

/* DYN_NAMESPACE in the environment of a whole deployment is no contradiction. */
static bool two_namespaces(const struct jr_config *cfg)
{
    return jr_config_source(cfg, JR_CFG_NAMESPACE) == JR_CFG_FROM_CLI;
}

static bool collector_wrong(const struct jr_config *cfg)
{
    char url[JR_URL_MAX];
    return jr_config_bool(cfg, JR_CFG_OTEL_EXPORT_ENABLED) && jr_otel_url(cfg, url) < 0;
}

static bool pairs_wrong(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return jr_config_bool(cfg, JR_CFG_OTEL_EXPORT_ENABLED) && jr_config_is_set(cfg, key) &&
           jr_otel_pairs(jr_config_str(cfg, key), NULL, NULL) < 0;
}

static bool collector_headers_wrong(const struct jr_config *cfg)
{
    return pairs_wrong(cfg, JR_CFG_OTLP_HEADERS);
}

static bool resource_attributes_wrong(const struct jr_config *cfg)
{
    return pairs_wrong(cfg, JR_CFG_OTEL_RESOURCE_ATTRIBUTES);
}

static bool collector_without_export(const struct jr_config *cfg)
{
    return !jr_config_bool(cfg, JR_CFG_OTEL_EXPORT_ENABLED) &&
           (given(cfg, JR_CFG_OTLP_ENDPOINT) || given(cfg, JR_CFG_OTLP_TRACES_ENDPOINT));
}

static const struct rule {
    unsigned commands;
    bool fatal; /* else a note */
    bool (*broken)(const struct jr_config *cfg);
    const char *text;
} rules[] = {
    {JR_CMD_ROUTING, true, durable_without_events,
     "--router-durable-kv-events needs --router-kv-events"},
    {JR_CMD_ROUTING, true, events_not_durable,
     "--no-router-durable-kv-events needs --no-router-kv-events: events are read from JetStream"},
    {JR_CMD_ROUTING, true, predicted_without_events,
     "--router-predicted-ttl-secs needs --router-kv-events: without them --router-ttl-secs says "
     "it"},
    {JR_CMD_ROUTING, true, output_without_active,
     "--router-track-output-blocks needs --router-track-active-blocks"},
    {JR_CMD_FRONTEND, true, cache_control_without_kv,
     "--enable-cache-control needs --router-mode kv"},
    {JR_CMD_ROUTING, true, seconds_with_weights,
     "--router-cost-model seconds does not use the weights of Dynamo's cost function: leave one "
     "out"},
    {JR_CMD_ROUTING, true, load_aware_and_agentic, "--load-aware and --agentic exclude each other"},
    {JR_CMD_FRONTEND, true, two_nats, "--embedded-nats and --nats-server exclude each other"},
    {JR_CMD_FRONTEND, true, static_with_nats,
     "--worker names static workers, which are served without NATS: leave out --nats-server, "
     "--embedded-nats and --discover-pools, or start bridges instead"},
    {JR_CMD_NATS, true, nats_servers_wrong,
     "--nats-server (NATS_SERVER) must be HOST:PORT, nats://HOST:PORT or tls://HOST:PORT, several "
     "with commas between them"},
    {JR_CMD_ROUTING, true, one_port_for_two,
     "--admin-port and --http-port must be two ports: leave --admin-port out to have one"},
    {JR_CMD_NATS, true, half_a_certificate, "--nats-tls-cert and --nats-tls-key go together"},
    {JR_CMD_ROUTING, true, half_a_server_certificate,
     "--tls-cert-path and --tls-key-path go together: name both, or neither for plain HTTP"},
    {JR_CMD_ROUTING, true, no_room_for_a_body,
     "--http-bodies-max-mb is of all bodies together: one of --http-body-limit-mb must fit"},
    {JR_CMD_NATS, true, half_a_login, "NATS_AUTH_USERNAME and NATS_AUTH_PASSWORD go together"},
    {JR_CMD_BRIDGE | JR_CMD_MOCKER, true, one_component, "--component: exactly one is needed here"},
    {JR_CMD_BRIDGE, true, no_engine,
     "--engine-url and --kv-events-endpoint are required, or --engines-dir with files that say "
     "them"},
    {JR_CMD_BRIDGE, true, engine_and_engines,
     "--engines-dir: its files say what is said of one engine with --engine-url, the endpoints and "
     "their options: leave those out"},
    {JR_CMD_CTL, true, two_urls, "--url: exactly one is needed here"},
    {JR_CMD_REPLAY, true, many_urls, "--url: at most two can be compared"},
    {JR_CMD_MOCKER, true, http_ports_wrong,
     "--http-port: the ports of all workers must be below 65536"},
    {JR_CMD_MOCKER, true, event_ports_wrong,
     "--zmq-kv-events-ports: name one port for each worker, or the first of them, below 65536"},
    {JR_CMD_MOCKER, true, replay_ports_wrong,
     "--zmq-replay-ports: name one port for each worker, or the first of them, below 65536"},
    {JR_CMD_MOCKER, true, bridge_without_events, "--bridge needs --zmq-kv-events-ports"},
    {JR_CMD_ROUTING, false, approximate_with_events,
     "--router-ttl-secs, --router-max-tree-size and --router-prune-target-ratio act only with "
     "--no-router-kv-events"},
    {JR_CMD_ROUTING, false, policy_without_kv,
     "--router-policy-config acts only with --router-mode kv"},
    {JR_CMD_ROUTING, false, policy_and_threshold,
     "--router-policy-config says who waits and in which order: --router-queue-threshold and "
     "--router-queue-policy act only on models that its file leaves out"},
    {JR_CMD_ROUTER, false, two_namespaces,
     "--namespace has no effect here: the first part of --endpoint is the namespace"},
    {JR_CMD_ROUTING, true, collector_wrong,
     "--otel-exporter-otlp-endpoint and --otel-exporter-otlp-traces-endpoint must be URLs of the "
     "form http://host:port/path or https://…"},
    {JR_CMD_ROUTING, true, collector_headers_wrong,
     "OTEL_EXPORTER_OTLP_HEADERS must be NAME=VALUE, separated by commas, with percent-encoded "
     "values"},
    {JR_CMD_ROUTING, true, resource_attributes_wrong,
     "--otel-resource-attributes must be NAME=VALUE, separated by commas, with percent-encoded "
     "values"},
    {JR_CMD_ROUTING, false, collector_without_export,
     "--otel-exporter-otlp-endpoint sends nothing by itself: --otel-export-enabled turns tracing "
     "on"},
    {JR_CMD_ROUTING, false, reset_at_every_start,
     "--router-reset-states without a token resets every replica at each start of this one"},
};
#define RULES (sizeof rules / sizeof rules[0])

int jr_config_check(const struct jr_config *cfg, struct jr_errmsg *e)
{
    for (unsigned i = 0; i < RULES; i++)
        if (rules[i].fatal && (rules[i].commands & (unsigned)jr_config_command(cfg)) &&
            rules[i].broken(cfg))
            return jr_errmsg_set(e, JR_ECONFIG, "%s", rules[i].text);
    return 0;
}

/* What is read at start. */
static const enum jr_cfg_key files[] = {
    JR_CFG_ADMIN_TOKEN_FILE, JR_CFG_TLS_CERT_PATH, JR_CFG_TLS_KEY_PATH,
    JR_CFG_HTTPS_CA,         JR_CFG_NATS_TLS_CA,   JR_CFG_NATS_TLS_CERT,
    JR_CFG_NATS_TLS_KEY,     JR_CFG_TRACE,         JR_CFG_NATS_AUTH_CREDENTIALS_FILE,
};

static int check_policy(const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct jr_policy *policy = NULL;
    int err = jr_policy_file_from(cfg, &policy, e);
    jr_policy_file_destroy(policy);
    return err;
}

int jr_config_check_files(const struct jr_config *cfg, struct jr_errmsg *e)
{
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        const struct jr_cfg_row *row = jr_config_row(files[i]);
        const char *path = jr_config_str(cfg, files[i]);
        if (path && (row->commands & (unsigned)jr_config_command(cfg)) && access(path, R_OK) != 0)
            return jr_errmsg_set(e, JR_ECONFIG, "%s%s: cannot read %.160s: %s",
                                 row->flag ? "--" : "", row->flag ? row->flag : row->env, path,
                                 strerror(errno));
    }
    return check_policy(cfg, e);
}

const char *jr_config_note(const struct jr_config *cfg, unsigned *pos, struct jr_errmsg *note)
{
    unsigned command = (unsigned)jr_config_command(cfg);
    for (; *pos < RULES; ++*pos) {
        const struct rule *rule = &rules[*pos];
        if (!rule->fatal && (rule->commands & command) && rule->broken(cfg)) {
            ++*pos;
            return rule->text;
        }
    }
    for (; *pos < RULES + JR_CFG_COUNT; ++*pos) {
        enum jr_cfg_key key = (enum jr_cfg_key)(*pos - RULES);
        const struct jr_cfg_row *row = jr_config_row(key);
        if (row->group == JR_CFG_GROUP_COMPAT && (row->commands & command) && given(cfg, key)) {
            ++*pos;
            (void)jr_errmsg_set(note, 0, "--%s has no effect: %s", row->flag, row->help);
            return note->text;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- canonical values */

/* RUST_LOG style filters: the first part without '=' is the general level. */
int jr_config_canon_log_level(const char *text, char *ret, size_t cap)
{
    static const char *const levels[][2] = {
        {"trace", "debug"},  {"debug", "debug"}, {"info", "info"}, {"warn", "warn"},
        {"warning", "warn"}, {"error", "error"}, {"off", "off"},   {"none", "off"},
    };
    for (const char *p = text; *p;) {
        struct jr_str part = jr_str_of(p, strcspn(p, ","));
        for (unsigned i = 0; i < sizeof levels / sizeof levels[0]; i++)
            if (jr_str_ieq(part, levels[i][0]))
                return jr_str_copy(ret, cap, levels[i][1]) ? 0 : JR_EINVAL;
        bool filter = memchr(part.p, '=', part.n) != NULL;
        if (!filter)
            return JR_EINVAL;
        p += part.n;
        p += *p == ',';
    }
    return jr_str_copy(ret, cap, "info") ? 0 : JR_EINVAL; /* only filters: the default */
}

/* The first '=' ends the name: a model may have one, as some paths do. */
int jr_config_canon_model_alias(const char *text, char *ret, size_t cap)
{
    size_t name = strcspn(text, "=");
    if (name == 0 || name >= JR_MODEL_MAX || text[name] != '=' || !text[name + 1])
        return JR_EINVAL;
    return strlen(text + name + 1) < JR_MODEL_MAX && jr_str_copy(ret, cap, text) ? 0 : JR_EINVAL;
}

int jr_config_canon_metric_name(const char *text, char *ret, size_t cap)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:";
    static const char digits[] = "0123456789";
    if (strspn(text, letters) == 0)
        return JR_EINVAL;
    for (const char *p = text; *p;) {
        size_t n = strspn(p, letters) + strspn(p + strspn(p, letters), digits);
        if (n == 0)
            return JR_EINVAL;
        p += n;
    }
    return jr_str_copy(ret, cap, text) ? 0 : JR_EINVAL;
}

int jr_config_canon_retry_status(const char *text, char *ret, size_t cap)
{
    const bool server = text[0] == '5' && strlen(text) == 3 && strspn(text, "0123456789") == 3;
    if (!server && strcmp(text, "429") != 0 && strcmp(text, "none") != 0)
        return JR_EINVAL;
    return jr_str_copy(ret, cap, text) ? 0 : JR_EINVAL;
}

int jr_config_canon_port(const char *text, char *ret, size_t cap)
{
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 5 || text[n] != '\0')
        return JR_EINVAL;
    unsigned long port = strtoul(text, NULL, 10);
    if (port == 0 || port > 65535)
        return JR_EINVAL;
    (void)snprintf(ret, cap, "%lu", port);
    return 0;
}

/* Is there HOST:PORT, as in a.b:1, [::1]:1 or *:1? */
static bool has_host_port(const char *s, size_t n)
{
    char port[8], ret[8];
    const char *colon = NULL;
    for (size_t i = 0; i < n; i++)
        if (s[i] == ':')
            colon = s + i;
        else if (s[i] <= ' ' || s[i] == '@')
            return false;
    size_t digits = colon ? n - (size_t)(colon + 1 - s) : 0;
    if (!colon || colon == s || digits == 0 || digits >= sizeof port)
        return false;
    memcpy(port, colon + 1, digits);
    port[digits] = '\0';
    return jr_config_canon_port(port, ret, sizeof ret) == 0;
}

int jr_config_canon_http_url(const char *text, char *ret, size_t cap)
{
    const size_t scheme = strncmp(text, "https://", 8) == 0 ? 8 : 7;
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '/')
        n--;
    if (n <= scheme || (scheme == 7 && strncmp(text, "http://", 7) != 0) || n >= cap ||
        n >= JR_URL_MAX)
        return JR_EINVAL;
    const char *host = text + scheme;
    size_t host_n = strcspn(host, "/");
    size_t rest = n - scheme;
    if (!has_host_port(host, host_n < rest ? host_n : rest))
        return JR_EINVAL;
    memcpy(ret, text, n);
    ret[n] = '\0';
    return 0;
}

int jr_config_canon_zmq_url(const char *text, char *ret, size_t cap)
{
    bool tcp = strncmp(text, "tcp://", 6) == 0 && has_host_port(text + 6, strlen(text + 6));
    bool ipc = strncmp(text, "ipc://", 6) == 0 && text[6] != '\0';
    bool inproc = strncmp(text, "inproc://", 9) == 0 && text[9] != '\0';
    if (!tcp && !ipc && !inproc)
        return JR_EINVAL;
    return jr_str_copy(ret, cap, text) ? 0 : JR_EINVAL;
}

int jr_config_canon_endpoint(const char *text, char *ret, size_t cap)
{
    if (strncmp(text, "dyn://", 6) == 0)
        text += 6;
    unsigned parts = 1;
    for (const char *p = text; *p; p++) {
        bool dot = *p == '.';
        if (dot && (p == text || p[1] == '.' || p[1] == '\0'))
            return JR_EINVAL;
        parts += dot;
    }
    if (parts != 3)
        return JR_EINVAL;
    return jr_str_copy(ret, cap, text) ? 0 : JR_EINVAL;
}

int jr_config_canon_replica_id(const char *text, char *ret, size_t cap)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (strchr("-.", text[0]) || text[strspn(text, good)] || !jr_str_copy(ret, cap, text))
        return JR_EINVAL;
    for (; *ret; ret++)
        if (*ret == '.')
            *ret = '_';
    return 0;
}
