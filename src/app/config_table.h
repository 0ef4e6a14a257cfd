/* SPDX-License-Identifier: Apache-2.0 */
/* config_table: every option of every command, once. Parsing, environment, bounds, --help,
 * --dump-config-to, docs/configuration.md, docs/jetrouter.1 and the tests are driven by it; adding
 * a row is all it takes to add an option.
 *
 * X(KEY, TYPE, flag, env, default, commands, group, metavar, help, optional fields…)
 *   KEY      enum jr_cfg_key is JR_CFG_<KEY>
 *   TYPE     enum jr_cfg_type is JR_CFG_TYPE_<TYPE>; numbers need .max, and .min when it is not 0
 *   flag     without "--"; NULL: environment only (secrets, which a command line would show)
 *   env      names separated by a space, the first one set wins; an empty value counts as unset
 *   default  as text; NULL: unset
 *   optional .aliases (obsolete names, space separated) .choices .min .max .nullable ("None" unsets)
 *            .also_none (so does that) .secret .required (commands that need it) .canon .expects .since */
#ifndef JR_APP_CONFIG_TABLE_H
#define JR_APP_CONFIG_TABLE_H

#include "base/limits.h"

/* clang-format off */
#define JR_CFG_TABLE(X)                                                                            \
X(HTTP_HOST, STR, "http-host", "DYN_HTTP_HOST", "0.0.0.0", JR_CMD_HTTP, HTTP, "HOST",              \
    "address to listen on", .aliases = "host")                                                     \
X(HTTP_PORT, PORT, "http-port", "DYN_HTTP_PORT", "8000", JR_CMD_HTTP, HTTP, "PORT",                \
    "port to listen on; 0 takes any free one; the mocker uses this one and the following",         \
    .aliases = "port", .max = 65535)                                                               \
X(HTTP_REUSE_PORT, BOOL, "http-reuse-port", "JETROUTER_HTTP_REUSE_PORT", "false", JR_CMD_ROUTING,   \
    HTTP, NULL, "share the port with other processes of this user that say so, too; the kernel "   \
    "spreads connections among them")                                                              \
X(HTTP_THREADS, U32, "http-threads", "JETROUTER_HTTP_THREADS", "1", JR_CMD_ROUTING, HTTP, "N",     \
    "loops that own connections and relay bytes, each on a thread; the main one, which decides, is the first", .min = 1, .max = 64)                             \
X(HTTP_BODY_LIMIT_MB, U32, "http-body-limit-mb", "DYN_HTTP_BODY_LIMIT_MB", "45", JR_CMD_ROUTING,   \
    HTTP, "MB", "largest request body, in MiB", .min = 1, .max = 4096)                             \
X(HTTP_BODIES_MAX_MB, U32, "http-bodies-max-mb", "JETROUTER_HTTP_BODIES_MAX_MB", "1024",            \
    JR_CMD_ROUTING, HTTP, "MB", "memory of all request bodies that are under way, in MiB; one "    \
    "more is answered with 503", .min = 1, .max = 1048576)                                         \
X(HTTP_CONNECTIONS_MAX, U32, "http-connections-max", "JETROUTER_HTTP_CONNECTIONS_MAX", "16384",     \
    JR_CMD_ROUTING, HTTP, "N", "connections of clients; one more is closed at once", .min = 1,     \
    .max = 1000000)                                                                                \
X(HTTP_HEADER_TIMEOUT_SECS, F64, "http-header-timeout-secs", "JETROUTER_HTTP_HEADER_TIMEOUT_SECS", \
    "30", JR_CMD_ROUTING, HTTP, "SECS",                                                            \
    "from the first byte of a request to the end of its head, and for a TLS handshake",            \
    .min = 0.001, .max = 3600)                                                                     \
X(HTTP_BODY_TIMEOUT_SECS, F64, "http-body-timeout-secs", "JETROUTER_HTTP_BODY_TIMEOUT_SECS", "300", \
    JR_CMD_ROUTING, HTTP, "SECS", "from the end of a request's head to the end of its body; "      \
    "0: no limit", .max = 86400)                                                                   \
X(HTTP_IDLE_TIMEOUT_SECS, F64, "http-idle-timeout-secs", "JETROUTER_HTTP_IDLE_TIMEOUT_SECS", "75", \
    JR_CMD_ROUTING, HTTP, "SECS", "a connection between requests, a body that stops, "             \
    "or a client that reads nothing of its answer is given up after this", .min = 0.001,           \
    .max = 86400)                                                                                  \
X(REQUEST_TIMEOUT_SECS, F64, "request-timeout-secs", "JETROUTER_REQUEST_TIMEOUT_SECS", "0",        \
    JR_CMD_ROUTING, HTTP, "SECS", "most time a whole request may take; 0: no limit",               \
    .max = 604800)                                                                                 \
X(MIGRATION_LIMIT, U32, "migration-limit", "DYN_MIGRATION_LIMIT", "3", JR_CMD_ROUTING, HTTP, "N",  \
    "attempts on other workers when one fails before its answer or, where the rest can be had "     \
    "elsewhere, within it; 16 at most, each another",                                              \
    .max = 4294967295.0)                                                                           \
X(RETRY_STATUSES, LIST, "retry-statuses", "JETROUTER_RETRY_STATUSES", "502,503,504",               \
    JR_CMD_ROUTING, HTTP, "CODE",                                                                  \
    "answers of a worker after which another gets the request, within --migration-limit; the "      \
    "client gets this one if nobody else answers: 429, 5xx, or none (repeatable)", .canon = jr_config_canon_retry_status,                             \
    .expects = "429, 500 to 599, or none")                                                         \
X(OVERLOAD_STATUS, U32, "overload-status", "DYN_HTTP_OVERLOAD_STATUS_CODE", "503", JR_CMD_ROUTING,  \
    HTTP, "CODE", "status of the answer when all workers are busy; later Dynamo's is 529",         \
    .min = 400, .max = 599)                                                                        \
X(MODEL_ALIAS, LIST, "model-alias", "JETROUTER_MODEL_ALIAS", NULL, JR_CMD_ROUTING, HTTP,            \
    "NAME=MODEL", "requests for NAME go to the workers of MODEL, and name it there (repeatable)",  \
    .canon = jr_config_canon_model_alias, .expects = "NAME=MODEL")                                 \
X(WORKER_FAILURES, U32, "worker-failures", "JETROUTER_WORKER_FAILURES", "3", JR_CMD_ROUTING, HTTP, \
    "N", "a worker that fails so many requests in a row gets none for a while; never more than "   \
    "half of them; 0: never", .max = 4294967295.0)                                                 \
X(WORKER_ASIDE_SECS, F64, "worker-aside-secs", "JETROUTER_WORKER_ASIDE_SECS", "1", JR_CMD_ROUTING, \
    HTTP, "SECS", "for how long the first time; twice as long each time its next request fails, "  \
    "up to 60", .min = 0.01, .max = 60)                                                            \
X(FORWARD_TOKEN_IDS, BOOL, "forward-token-ids", "JETROUTER_FORWARD_TOKEN_IDS", "false",            \
    JR_CMD_ROUTING, HTTP, NULL,                                                                    \
    "a completion's text goes on to the worker as token ids, so that it tokenizes once; mode kv")  \
X(TOKENIZER_CACHE_MB, U32, "tokenizer-cache-mb", "JETROUTER_TOKENIZER_CACHE_MB", "64",             \
    JR_CMD_ROUTING, HTTP, "MB", "memory for token ids of texts seen before, in MiB; 0: none",      \
    .max = 1048576)                                                                                \
X(TOKENIZER_TIMEOUT_SECS, F64, "tokenizer-timeout-secs", "JETROUTER_TOKENIZER_TIMEOUT_SECS", "5",  \
    JR_CMD_ROUTING, HTTP, "SECS",                                                                  \
    "a worker has this long to tokenize a prompt; then another is asked, once", .min = 0.01,       \
    .max = 600)                                                                                    \
X(TOKENIZER_PREFIXES, BOOL, "tokenizer-prefixes", "JETROUTER_TOKENIZER_PREFIXES", "true",          \
    JR_CMD_ROUTING, HTTP, NULL,                                                                    \
    "route the next turn of a chat by the tokens of the turns before, and ask for its own beside") \
X(DRAIN_DELAY_SECS, F64, "drain-delay-secs", "JETROUTER_DRAIN_DELAY_SECS", "5", JR_CMD_ROUTING,    \
    HTTP, "SECS", "not ready but still accepting for this long after SIGTERM", .max = 3600)        \
X(DRAIN_TIMEOUT_SECS, F64, "drain-timeout-secs", "JETROUTER_DRAIN_TIMEOUT_SECS", "300",            \
    JR_CMD_ROUTING | JR_CMD_MOCKER, HTTP, "SECS",                                                  \
    "most time requests in flight are waited for once none is accepted any more; a mocker waits "  \
    "with --bridge",                                                                               \
    .max = 86400)                                                                                  \
X(READY_TIMEOUT_SECS, F64, "ready-timeout-secs", "JETROUTER_READY_TIMEOUT_SECS", "30",             \
    JR_CMD_ROUTING, HTTP, "SECS",                                                                  \
    "with NATS unreachable at start: ready in degraded mode after this", .max = 86400)             \
X(ADMIN_PORT, PORT, "admin-port", "JETROUTER_ADMIN_PORT", NULL, JR_CMD_ROUTING, HTTP, "PORT",      \
    "port of /admin; unset: the public port, loopback only until a token is set", .max = 65535,    \
    .nullable = true)                                                                              \
X(ADMIN_TOKEN_FILE, STR, "admin-token-file", "JETROUTER_ADMIN_TOKEN_FILE", NULL,                   \
    JR_CMD_ROUTING | JR_CMD_CTL, HTTP, "FILE", "file that holds the bearer token of /admin")       \
X(TLS_CERT_PATH, STR, "tls-cert-path", "DYN_TLS_CERT_PATH", NULL, JR_CMD_ROUTING, HTTP, "FILE",     \
    "certificate (PEM, the chain behind it) to serve HTTPS with; read again on SIGHUP")            \
X(TLS_KEY_PATH, STR, "tls-key-path", "DYN_TLS_KEY_PATH", NULL, JR_CMD_ROUTING, HTTP, "FILE",        \
    "its private key (PEM)")                                                                       \
X(WORKER_CONNECT_TIMEOUT_SECS, F64, "worker-connect-timeout-secs",                                 \
    "JETROUTER_WORKER_CONNECT_TIMEOUT_SECS", "3", JR_CMD_ROUTING, HTTP, "SECS",                    \
    "most time for a connection to a worker, its TLS handshake included", .min = 0.001,            \
    .max = 3600)                                                                                   \
X(WORKER_FIRST_BYTE_TIMEOUT_SECS, F64, "worker-first-byte-timeout-secs",                           \
    "JETROUTER_WORKER_FIRST_BYTE_TIMEOUT_SECS", "0", JR_CMD_ROUTING, HTTP, "SECS",                 \
    "a worker that sends no byte of its answer for this long is given up for another one; 0: no "  \
    "limit, as prompts may wait in an engine", .max = 86400)                                       \
X(HTTPS_CA, STR, "https-ca", "JETROUTER_HTTPS_CA", NULL, JR_CMD_HTTPS, HTTP, "FILE",               \
    "certificates (PEM) that the peers of https:// URLs (workers; of ctl and replay the router) "  \
    "are checked against; unset: whom the system trusts")                                          \
X(HTTPS_INSECURE, BOOL, "https-insecure", "JETROUTER_HTTPS_INSECURE", "false", JR_CMD_HTTPS, HTTP, \
    NULL, "do not check the peers of https:// URLs: anybody between may read and change all")      \
X(WORKER, LIST, "worker", "JETROUTER_WORKER", NULL, JR_CMD_FRONTEND, HTTP, "URL",                  \
    "a static worker; NATS is not needed for the modes that need no events (repeatable)",          \
    .canon = jr_config_canon_http_url, .expects = "http://HOST:PORT or https://HOST:PORT")          \
X(ROUTER_MODE, ENUM, "router-mode", "DYN_ROUTER_MODE", "round-robin", JR_CMD_FRONTEND, ROUTING,    \
    "MODE", "how a worker is chosen; underscores are accepted (round_robin)",                      \
    .choices = "round-robin random kv direct power-of-two least-loaded device-aware-weighted")     \
X(ENCODER_CUDA_TO_CPU_RATIO, F64, "encoder-cuda-to-cpu-ratio", "DYN_ENCODER_CUDA_TO_CPU_RATIO",    \
    "8", JR_CMD_FRONTEND, ROUTING, "R",                                                            \
    "mode device-aware-weighted: how many requests an engine on a GPU has for one on a CPU",       \
    .min = 1, .max = 1000000)                                                                      \
X(ROUTER_KV_OVERLAP_SCORE_WEIGHT, F64, "router-kv-overlap-score-weight",                           \
    "DYN_ROUTER_KV_OVERLAP_SCORE_WEIGHT DYN_KV_OVERLAP_SCORE_WEIGHT DYN_OVERLAP_SCORE_WEIGHT",     \
    "1.0", JR_CMD_ROUTING, ROUTING, "W",                                                           \
    "weight of cache overlap; setting it selects the cost model `dynamo`; 0: pure load balancing", \
    .aliases = "kv-overlap-score-weight", .max = 1000000)                                          \
X(ROUTER_KV_OVERLAP_SCORE_CREDIT, F64, "router-kv-overlap-score-credit",                           \
    "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT", "1.0", JR_CMD_ROUTING, ROUTING, "C",                     \
    "share of a cached block that is taken off the cost; selects the cost model `dynamo`",         \
    .max = 1000000)                                                                                \
X(ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY, F64, "router-kv-overlap-score-credit-decay",               \
    "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY", "0.0", JR_CMD_ROUTING, ROUTING, "D",               \
    "the credit shrinks with a worker's excess of prefill; selects the cost model `dynamo`",       \
    .max = 1000000)                                                                                \
X(ROUTER_PREFILL_LOAD_SCALE, F64, "router-prefill-load-scale", "DYN_ROUTER_PREFILL_LOAD_SCALE",    \
    "1.0", JR_CMD_ROUTING, ROUTING, "S",                                                           \
    "weight of prefill load; selects the cost model `dynamo`", .max = 1000000)                     \
X(ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT, F64, "router-decode-active-request-weight",                 \
    "DYN_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT", "0.0", JR_CMD_ROUTING, ROUTING, "W",                \
    "cost of each request a worker has; selects the cost model `dynamo`", .max = 1000000)          \
X(ROUTER_HOST_CACHE_HIT_WEIGHT, F64, "router-host-cache-hit-weight",                               \
    "DYN_ROUTER_HOST_CACHE_HIT_WEIGHT", "0.0", JR_CMD_NATS, ROUTING, "W",                          \
    "share of a block in host memory that counts as cached, beyond those on the device; bridges "  \
    "tell of such blocks only when it is set for them, too", .max = 1)                             \
X(ROUTER_DISK_CACHE_HIT_WEIGHT, F64, "router-disk-cache-hit-weight",                               \
    "DYN_ROUTER_DISK_CACHE_HIT_WEIGHT", "0.0", JR_CMD_NATS, ROUTING, "W",                          \
    "the same of a block on disk or other storage, beyond those in host memory", .max = 1)         \
X(ROUTER_TEMPERATURE, F64, "router-temperature", "DYN_ROUTER_TEMPERATURE", "0.0", JR_CMD_ROUTING,  \
    ROUTING, "T", "softmax temperature of the choice; 0: always the best worker", .max = 1000000)  \
X(ROUTER_COST_MODEL, ENUM, "router-cost-model", "JETROUTER_ROUTER_COST_MODEL", "seconds",          \
    JR_CMD_ROUTING, ROUTING, "MODEL",                                                              \
    "what a worker's cost is: estimated seconds, or the cost function of Dynamo",                  \
    .choices = "seconds dynamo")                                                                   \
X(ROUTER_PRESET, ENUM, "router-preset", "JETROUTER_ROUTER_PRESET", "none", JR_CMD_ROUTING,         \
    ROUTING, "PRESET",                                                                             \
    "other defaults: Dynamo's cost function as it is, or tuned: prefill load scale 16, overlap "   \
    "credit 4, active request weight 64, queue threshold 0.25 with wspt",                          \
    .choices = "none dynamo dynamo-tuned")                                                         \
X(ROUTER_TIE_BREAK, ENUM, "router-tie-break", "JETROUTER_ROUTER_TIE_BREAK", "request-hash",        \
    JR_CMD_ROUTING, ROUTING, "RULE", "between workers of equal cost; the first is the same on "    \
    "every replica", .choices = "request-hash tree-size random")                                   \
X(ROUTER_KV_EVENTS, BOOL, "router-kv-events",                                                      \
    "DYN_ROUTER_USE_KV_EVENTS DYN_USE_KV_EVENTS DYN_KV_EVENTS", "true", JR_CMD_ROUTING, ROUTING,   \
    NULL,                                                                                          \
    "build the index from the workers' KV events; off: approximate mode, from the router's "       \
    "own decisions", .aliases = "kv-events")                                                       \
X(ROUTER_DURABLE_KV_EVENTS, BOOL, "router-durable-kv-events",                                      \
    "DYN_ROUTER_DURABLE_KV_EVENTS DYN_DURABLE_KV_EVENTS", "true", JR_CMD_ROUTING, ROUTING, NULL,   \
    "read the events from JetStream; this is the only way there is",                               \
    .aliases = "durable-kv-events")                                                                \
X(ROUTER_REPLICA_SYNC, BOOL, "router-replica-sync", "DYN_ROUTER_REPLICA_SYNC", "true",             \
    JR_CMD_ROUTING, ROUTING, NULL, "share requests in flight with the other replicas")             \
X(ROUTER_TRACK_ACTIVE_BLOCKS, BOOL, "router-track-active-blocks",                                  \
    "DYN_ROUTER_TRACK_ACTIVE_BLOCKS", "true", JR_CMD_ROUTING, ROUTING, NULL,                       \
    "count the blocks of live requests; off for prefill-only routing",                             \
    .aliases = "track-active-blocks")                                                              \
X(ROUTER_ASSUME_KV_REUSE, BOOL, "router-assume-kv-reuse", "DYN_ROUTER_ASSUME_KV_REUSE", "true",    \
    JR_CMD_ROUTING, ROUTING, NULL, "count a prompt block shared by live requests once",            \
    .aliases = "assume-kv-reuse")                                                                  \
X(ROUTER_TRACK_OUTPUT_BLOCKS, BOOL, "router-track-output-blocks",                                  \
    "DYN_ROUTER_TRACK_OUTPUT_BLOCKS", "false", JR_CMD_ROUTING, ROUTING, NULL,                      \
    "count output blocks too, with decay", .aliases = "track-output-blocks")                       \
X(ROUTER_TRACK_PREFILL_TOKENS, BOOL, "router-track-prefill-tokens",                                \
    "DYN_ROUTER_TRACK_PREFILL_TOKENS", "true", JR_CMD_ROUTING, ROUTING, NULL,                      \
    "count prompt tokens until the first token; off for decode-only paths",                        \
    .aliases = "track-prefill-tokens")                                                             \
X(ROUTER_EVENT_THREADS, U32, "router-event-threads", "DYN_ROUTER_EVENT_THREADS", "4",              \
    JR_CMD_ROUTING, ROUTING, "N", "threads that decode events", .min = 1, .max = 64)               \
X(KV_CACHE_BLOCK_SIZE, U32, "kv-cache-block-size", "DYN_KV_CACHE_BLOCK_SIZE", NULL,                \
    JR_CMD_FRONTEND, ROUTING, "TOKENS", "must equal the workers'; unset: from the worker",         \
    .min = 1, .max = JR_BLOCK_SIZE_MAX, .nullable = true)                                          \
X(LOAD_AWARE, BOOL, "load-aware", "DYN_ROUTER_LOAD_AWARE", "false", JR_CMD_ROUTING, ROUTING, NULL,  \
    "route by load alone: --router-mode kv, no overlap credit, no KV events, no reuse between "    \
    "requests; wins over those options")                                                           \
X(AGENTIC, BOOL, "agentic", "DYN_ROUTER_AGENTIC", "false", JR_CMD_ROUTING, ROUTING, NULL,          \
    "other defaults for long sessions: overlap credit 2, prefill load scale 4, active request "    \
    "weight 64", .aliases = "router-agentic")                                                      \
X(ROUTER_MIN_INITIAL_WORKERS, U32, "router-min-initial-workers",                                   \
    "DYN_ROUTER_MIN_INITIAL_WORKERS", "0", JR_CMD_ROUTING, ROUTING, "N",                           \
    "ready only when each pool has had so many workers", .max = 65536)                             \
X(ENDPOINT, STR, "endpoint", "DYN_ROUTER_ENDPOINT", NULL, JR_CMD_ROUTER, ROUTING, "NS.COMP.EP",    \
    "the workers' endpoint, three parts with dots", .required = JR_CMD_ROUTER,                     \
    .canon = jr_config_canon_endpoint, .expects = "namespace.component.endpoint",                  \
    .max = JR_NAME_MAX - 1)                                                                        \
X(ROUTER_BLOCK_SIZE, U32, "router-block-size", "DYN_ROUTER_BLOCK_SIZE", "128", JR_CMD_ROUTER,      \
    ROUTING, "TOKENS", "must equal the workers'", .aliases = "block-size", .min = 1,               \
    .max = JR_BLOCK_SIZE_MAX)                                                                      \
X(ROUTER_TTL_SECS, F64, "router-ttl-secs", "DYN_ROUTER_TTL_SECS DYN_ROUTER_TTL", "120.0",          \
    JR_CMD_ROUTING, APPROX, "SECS", "how long a routed prefix is believed to be cached",           \
    .aliases = "router-ttl", .max = 31536000)                                                      \
X(ROUTER_MAX_TREE_SIZE, U64, "router-max-tree-size", "DYN_ROUTER_MAX_TREE_SIZE", "1048576",        \
    JR_CMD_ROUTING, APPROX, "BLOCKS", "prune above this many blocks", .min = 1,                    \
    .max = 1099511627776.0)                                                                        \
X(ROUTER_PRUNE_TARGET_RATIO, F64, "router-prune-target-ratio", "DYN_ROUTER_PRUNE_TARGET_RATIO",    \
    "0.8", JR_CMD_ROUTING, APPROX, "RATIO", "prune down to this share of it", .max = 1)            \
X(ROUTER_PREDICTED_TTL_SECS, F64, "router-predicted-ttl-secs", "DYN_ROUTER_PREDICTED_TTL_SECS",    \
    NULL, JR_CMD_ROUTING, ROUTING, "SECS",                                                         \
    "with KV events: believe a routed prompt cached for so long before its events say so; unset: " \
    "only while it runs", .max = 86400, .nullable = true)                                          \
X(ROUTER_SESSION_AFFINITY_TTL_SECS, F64, "router-session-affinity-ttl-secs",                       \
    "DYN_ROUTER_SESSION_AFFINITY_TTL_SECS", NULL, JR_CMD_ROUTING, ROUTING, "SECS",                 \
    "requests with the same X-Dynamo-Session-ID go to the same worker, until none came for so "    \
    "long; at whatever replica they come", .min = 1, .max = JR_SESSION_TTL_SECS_MAX,               \
    .nullable = true)                                                                              \
X(ENABLE_CACHE_CONTROL, BOOL, "enable-cache-control", "DYN_ENABLE_CACHE_CONTROL", "false",         \
    JR_CMD_FRONTEND, ROUTING, NULL, "a worker is asked to keep the prompt of a request with "      \
    "cache_control, once it has answered: POST /cache_control")                                    \
X(ROUTER_QUEUE_THRESHOLD, F64, "router-queue-threshold", "DYN_ROUTER_QUEUE_THRESHOLD", "4.0",      \
    JR_CMD_ROUTING, LOAD, "FRAC",                                                                  \
    "requests wait while every worker has more than this fraction of " "its prefill capacity",     \
    .max = 1000000, .nullable = true)                                                              \
X(ROUTER_QUEUE_POLICY, ENUM, "router-queue-policy", "DYN_ROUTER_QUEUE_POLICY", "fcfs",             \
    JR_CMD_ROUTING, LOAD, "POLICY",                                                                \
    "order of the queue: fcfs for tail TTFT, wspt for average TTFT, lcfs for comparison only",     \
    .choices = "fcfs wspt lcfs")                                                                   \
X(ROUTER_POLICY_CONFIG, STR, "router-policy-config", "DYN_ROUTER_POLICY_CONFIG", NULL,              \
    JR_CMD_ROUTING, LOAD, "FILE",                                                                  \
    "classes of requests that wait, with shares and limits (YAML; mode kv)")                       \
X(ACTIVE_DECODE_BLOCKS_THRESHOLD, F64, "active-decode-blocks-threshold",                           \
    "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD", NULL, JR_CMD_ROUTING, LOAD, "FRAC",                      \
    "a worker is busy above this share of its blocks", .max = 1, .nullable = true)                 \
X(ACTIVE_PREFILL_TOKENS_THRESHOLD, U64, "active-prefill-tokens-threshold",                         \
    "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD", NULL, JR_CMD_ROUTING, LOAD, "TOKENS",                   \
    "a worker is busy above this many prefill tokens", .max = 1099511627776.0, .nullable = true)   \
X(ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC, F64, "active-prefill-tokens-threshold-frac",               \
    "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC", NULL, JR_CMD_ROUTING, LOAD, "FRAC",                \
    "a worker is busy above this multiple of its batch token limit", .max = 1000000,               \
    .nullable = true)                                                                              \
X(ACTIVE_REQUEST_EXPIRY_SECS, F64, "active-request-expiry-secs",                                   \
    "JETROUTER_ACTIVE_REQUEST_EXPIRY_SECS DYN_ROUTER_ACTIVE_REQUEST_EXPIRY_SECS", "120",           \
    JR_CMD_ROUTING, LOAD, "SECS", "a booking without progress for this long is freed", .min = 1,   \
    .max = 86400)                                                                                  \
X(NAMESPACE, STR, "namespace", "DYN_NAMESPACE", "dynamo", JR_CMD_NATS_CTL, CLUSTER, "NAME",        \
    "the namespace of the pools", .max = JR_NAME_MAX - 1)                                          \
X(COMPONENT, LIST, "component", "JETROUTER_COMPONENT", "backend", JR_CMD_NATS_CTL & ~JR_CMD_ROUTER,\
    CLUSTER, "NAME", "the pool; a frontend may serve several (repeatable)", .max = JR_NAME_MAX -   \
    1)                                                                                             \
X(DISCOVER_POOLS, BOOL, "discover-pools", "JETROUTER_DISCOVER_POOLS", "false", JR_CMD_FRONTEND,    \
    CLUSTER, NULL, "serve every pool of the namespace")                                            \
X(NATS_SERVER, STR, "nats-server", "NATS_SERVER", "nats://127.0.0.1:4222", JR_CMD_NATS_CTL, CLUSTER,\
    "URL[,URL...]", "NATS servers")                                                                \
X(NATS_AUTH_USERNAME, STR, NULL, "NATS_AUTH_USERNAME", NULL, JR_CMD_NATS_CTL, CLUSTER, "NAME",     \
    "user name for NATS")                                                                          \
X(NATS_AUTH_PASSWORD, STR, NULL, "NATS_AUTH_PASSWORD", NULL, JR_CMD_NATS_CTL, CLUSTER, "TEXT",     \
    "password for NATS", .secret = true)                                                           \
X(NATS_AUTH_TOKEN, STR, NULL, "NATS_AUTH_TOKEN", NULL, JR_CMD_NATS_CTL, CLUSTER, "TEXT",           \
    "token for NATS", .secret = true)                                                              \
X(NATS_AUTH_NKEY, STR, NULL, "NATS_AUTH_NKEY", NULL, JR_CMD_NATS_CTL, CLUSTER, "SEED",             \
    "nkey seed for NATS", .secret = true)                                                          \
X(NATS_AUTH_CREDENTIALS_FILE, STR, NULL, "NATS_AUTH_CREDENTIALS_FILE", NULL, JR_CMD_NATS_CTL,      \
    CLUSTER, "FILE", "credentials file for NATS")                                                  \
X(NATS_TLS_CA, STR, "nats-tls-ca", "JETROUTER_NATS_TLS_CA", NULL, JR_CMD_NATS_CTL, CLUSTER, "FILE",\
    "certificates (PEM) that NATS servers are checked against")                                    \
X(NATS_TLS_CERT, STR, "nats-tls-cert", "JETROUTER_NATS_TLS_CERT", NULL, JR_CMD_NATS_CTL, CLUSTER,  \
    "FILE", "client certificate (PEM) for NATS; with --nats-tls-key")                              \
X(NATS_TLS_KEY, STR, "nats-tls-key", "JETROUTER_NATS_TLS_KEY", NULL, JR_CMD_NATS_CTL, CLUSTER,     \
    "FILE", "its key (PEM)")                                                                       \
X(NATS_TLS_HOSTNAME, STR, "nats-tls-hostname", "JETROUTER_NATS_TLS_HOSTNAME", NULL,                \
    JR_CMD_NATS_CTL, CLUSTER, "NAME", "name that the certificates of all NATS servers must be for; "\
    "unset: each the host of its URL")                                                             \
X(NATS_REPLICAS, U32, "nats-replicas", "JETROUTER_NATS_REPLICAS", "1", JR_CMD_NATS, CLUSTER, "R",  \
    "copies JetStream keeps of streams and buckets created here", .min = 1, .max = 5)              \
X(EMBEDDED_NATS, OPTSTR, "embedded-nats", "JETROUTER_EMBEDDED_NATS", NULL, JR_CMD_FRONTEND,        \
    CLUSTER, "DIR", "start a nats-server child, with its data in DIR (default: ./jetrouter-nats)") \
X(REPLICA_ID, STR, "replica-id", "JETROUTER_REPLICA_ID", NULL, JR_CMD_ROUTING, CLUSTER, "NAME",    \
    "stable name of this replica, no two have the same; unset: random", .max = JR_NAME_MAX - 1,    \
    .canon = jr_config_canon_replica_id, .expects = "letters, digits, '-', '_' and '.'")           \
X(WORKER_ID, U64, "worker-id", "JETROUTER_WORKER_ID", NULL, JR_CMD_BRIDGE | JR_CMD_MOCKER,         \
    CLUSTER, "ID",                                                                                 \
    "number of the worker (the mocker counts up from it); unset: derived from host " "and port",   \
    .min = 1, .max = 9007199254740992.0, .nullable = true)                                         \
X(LEASE_TTL_SECS, F64, "lease-ttl-secs", "JETROUTER_LEASE_TTL_SECS", "5", JR_CMD_NATS, CLUSTER,    \
    "SECS", "a replica or worker that is silent for this long has no lease any more", .min = 0.5,  \
    .max = 3600)                                                                                   \
X(STALE_WORKER_SECS, F64, "stale-worker-secs", "JETROUTER_STALE_WORKER_SECS", "60",                \
    JR_CMD_ROUTING, CLUSTER, "SECS",                                                               \
    "a worker without lease and health is declared gone after this", .max = 86400)                 \
X(STREAM_MAX_BYTES, BYTES, "stream-max-bytes", "JETROUTER_STREAM_MAX_BYTES", "8GiB", JR_CMD_NATS,  \
    CLUSTER, "BYTES", "size of the event stream; a snapshot is due at a quarter (K, M, G, T)",     \
    .min = 1048576, .max = 1125899906842624.0)                                                     \
X(ROUTER_SNAPSHOT_THRESHOLD, U64, "router-snapshot-threshold", "DYN_ROUTER_SNAPSHOT_THRESHOLD",    \
    "1000000", JR_CMD_ROUTING, CLUSTER, "MESSAGES", "a snapshot is due after this many messages",  \
    .min = 1, .max = 1099511627776.0)                                                              \
X(SNAPSHOT_MAX_AGE_SECS, F64, "snapshot-max-age-secs", "JETROUTER_SNAPSHOT_MAX_AGE_SECS", "3600",  \
    JR_CMD_ROUTING, CLUSTER, "SECS", "a snapshot is due at this age", .min = 1, .max = 31536000)   \
X(SNAPSHOT_COMPAT, ENUM, "snapshot-compat", "JETROUTER_SNAPSHOT_COMPAT", "none", JR_CMD_ROUTING,   \
    CLUSTER, "FORMAT", "write Dynamo's snapshot object too",                                       \
    .choices = "none dynamo-1.0")                                                                  \
X(ROUTER_RESET_STATES, OPTSTR, "router-reset-states", "DYN_ROUTER_RESET_STATES", NULL,             \
    JR_CMD_ROUTING, CLUSTER, "TOKEN", "reset the pool at start, on every replica; a token acts "   \
    "once, without one every start resets")                                                        \
X(INDEX_MAX_ENTRIES, U64, "index-max-entries", "JETROUTER_INDEX_MAX_ENTRIES", "0",                 \
    JR_CMD_ROUTING, CLUSTER, "N",                                                                  \
    "most entries of the index, agreed through the log; 0: no limit", .max = 1099511627776.0)      \
X(HUGE_PAGES, BOOL, "huge-pages", "JETROUTER_HUGE_PAGES", "false", JR_CMD_ROUTING, CLUSTER, NULL,  \
    "keep a large index in huge pages, which a thread of their own touches first and an eighth "   \
    "more memory is held for; off: small pages")                                                   \
X(EVENT_FORMAT, ENUM, "event-format", "JETROUTER_EVENT_FORMAT", "batch",                           \
    JR_CMD_BRIDGE | JR_CMD_MOCKER, CLUSTER, "FORMAT",                                              \
    "what is published: protobuf batches, or Dynamo's RouterEvent JSON", .choices = "batch json")  \
X(ENGINE_URL, STR, "engine-url", "JETROUTER_ENGINE_URL", NULL, JR_CMD_BRIDGE, BRIDGE, "URL",       \
    "the engine's HTTP address, as routers reach it; needed without --engines-dir",                \
    .canon = jr_config_canon_http_url, .expects = "http://HOST:PORT or https://HOST:PORT")          \
X(KV_EVENTS_ENDPOINT, STR, "kv-events-endpoint", "JETROUTER_KV_EVENTS_ENDPOINT", NULL,             \
    JR_CMD_BRIDGE, BRIDGE, "TCP://...", "the engine's ZMQ endpoint of KV events; needed with it",  \
    .canon = jr_config_canon_zmq_url,                                                              \
    .expects = "tcp://HOST:PORT or ipc://PATH")                                                    \
X(KV_EVENTS_REPLAY_ENDPOINT, STR, "kv-events-replay-endpoint",                                     \
    "JETROUTER_KV_EVENTS_REPLAY_ENDPOINT", NULL, JR_CMD_BRIDGE, BRIDGE, "TCP://...",               \
    "the engine's ZMQ endpoint that repeats events after a gap",                                   \
    .canon = jr_config_canon_zmq_url, .expects = "tcp://HOST:PORT or ipc://PATH")                  \
X(KV_EVENTS_BIND, BOOL, "kv-events-bind", "JETROUTER_KV_EVENTS_BIND", "false", JR_CMD_BRIDGE,      \
    BRIDGE, NULL, "listen at --kv-events-endpoint, for an engine that was told to connect there; " \
    "always so with the hosts *, 0.0.0.0 and [::]")                                                \
X(KV_EVENTS_REPORT_MODE, ENUM, "kv-events-report-mode", "JETROUTER_KV_EVENTS_REPORT_MODE", "new",  \
    JR_CMD_BRIDGE, BRIDGE, "MODE", "full: requests make the engine repeat stores of blocks that "  \
    "it has (vLLM's kv_cache_report_mode), so a repeated store is no second copy",                 \
    .choices = "new full")                                                                         \
X(DATA_PARALLEL_SIZE, U32, "data-parallel-size", "JETROUTER_DATA_PARALLEL_SIZE", "1",              \
    JR_CMD_BRIDGE | JR_CMD_MOCKER, BRIDGE, "N", "ranks of an engine, each with its events one port further; a "    \
    "bridge that is not told asks the engine", .min = 1, .max = JR_RANKS_INLINE)                   \
X(DATA_PARALLEL_RANK, U32, "data-parallel-rank", "JETROUTER_DATA_PARALLEL_RANK", "0",              \
    JR_CMD_BRIDGE, BRIDGE, "RANK", "number of the engine's first rank, whose endpoints are those " \
    "given", .max = JR_RANKS_MAX - 1)                                                              \
X(DEVICE, ENUM, "device", "JETROUTER_DEVICE", "gpu", JR_CMD_BRIDGE | JR_CMD_MOCKER, BRIDGE,        \
    "DEVICE", "what the engine computes on, for --router-mode device-aware-weighted",              \
    .choices = "gpu cpu")                                                                          \
X(ENGINES_DIR, STR, "engines-dir", "JETROUTER_ENGINES_DIR", NULL, JR_CMD_BRIDGE, BRIDGE, "DIR",    \
    "one bridge for many engines: a file NAME.json each, with fields like --engine-url and the "   \
    "options behind it (engine_url, ...); looked at each second, and on SIGHUP")                   \
X(SYSTEM_PORT, PORT, "system-port", "DYN_SYSTEM_PORT", NULL, JR_CMD_BRIDGE, BRIDGE, "PORT",        \
    "port of /live, /ready and /metrics; 0 takes any free one; unset: none", .max = 65535,         \
    .nullable = true, .also_none = "-1")                                                                              \
X(SYSTEM_HOST, STR, "system-host", "JETROUTER_SYSTEM_HOST", "0.0.0.0", JR_CMD_BRIDGE, BRIDGE,      \
    "HOST", "its address")                                                                         \
X(MODEL_NAME, STR, "model-name", "JETROUTER_MODEL_NAME", "mock-model", JR_CMD_MOCKER, MOCKER,      \
    "NAME", "model the engines claim to serve", .aliases = "model", .max = JR_MODEL_MAX - 1)       \
X(NUM_WORKERS, U32, "num-workers", "JETROUTER_NUM_WORKERS", "1", JR_CMD_MOCKER, MOCKER, "N",       \
    "engines, on consecutive ports", .aliases = "workers", .min = 1, .max = 1024)                  \
X(BLOCK_SIZE, U32, "block-size", "JETROUTER_BLOCK_SIZE", "64", JR_CMD_MOCKER | JR_CMD_BRIDGE,      \
    MOCKER, "TOKENS", "tokens of a KV block; a bridge uses it when its engine does not say its own",\
    .min = 1, .max = JR_BLOCK_SIZE_MAX)                                                            \
X(NUM_GPU_BLOCKS_OVERRIDE, U32, "num-gpu-blocks-override", "JETROUTER_NUM_GPU_BLOCKS_OVERRIDE",    \
    "16384", JR_CMD_MOCKER, MOCKER, "N", "KV blocks of an engine",                                 \
    .aliases = "num-gpu-blocks gpu-blocks", .min = 2, .max = 67108864)                             \
X(MAX_NUM_SEQS, U32, "max-num-seqs", "JETROUTER_MAX_NUM_SEQS", "256",                              \
    JR_CMD_BRIDGE | JR_CMD_MOCKER, MOCKER, "N",                                                    \
    "requests an engine runs at once; a bridge tells routers so when it is set",                   \
    .aliases = "max-seqs", .min = 1, .max = 65536)                                                 \
X(MAX_NUM_BATCHED_TOKENS, U32, "max-num-batched-tokens", "JETROUTER_MAX_NUM_BATCHED_TOKENS",       \
    "8192", JR_CMD_BRIDGE | JR_CMD_MOCKER, MOCKER, "N",                                            \
    "tokens of one engine step; a bridge tells routers so when it is set: thresholds that are "    \
    "shares of a worker's prefill capacity need it",                                               \
    .aliases = "max-batched-tokens", .min = 1, .max = 16777216)                                    \
X(MAX_MODEL_LEN, U32, "max-model-len", "JETROUTER_MAX_MODEL_LEN", "131072", JR_CMD_MOCKER, MOCKER, \
    "TOKENS", "tokens of a prompt and its output together; never more than the blocks hold",       \
    .min = 2, .max = JR_PROMPT_TOKENS_MAX)                                                         \
X(SPEEDUP_RATIO, F64, "speedup-ratio", "JETROUTER_SPEEDUP_RATIO", "1.0", JR_CMD_MOCKER, MOCKER,    \
    "R", "simulated time runs this much faster; 0: no waiting at all", .aliases = "speedup",       \
    .max = 1000000)                                                                                \
X(STEP_BASE_MS, F64, "step-base-ms", "JETROUTER_STEP_BASE_MS", "12", JR_CMD_MOCKER, MOCKER, "MS",   \
    "time of an engine step by itself; what follows is added to it", .max = 1000000)               \
X(STEP_PREFILL_US, F64, "step-prefill-us", "JETROUTER_STEP_PREFILL_US", "100", JR_CMD_MOCKER,      \
    MOCKER, "US", "for a prompt token", .max = 1000000)                                            \
X(STEP_ATTENTION_PS, F64, "step-attention-ps", "JETROUTER_STEP_ATTENTION_PS", "750",               \
    JR_CMD_MOCKER, MOCKER, "PS", "for a prompt token and a token before it", .max = 1000000000)    \
X(STEP_DECODE_US, F64, "step-decode-us", "JETROUTER_STEP_DECODE_US", "100", JR_CMD_MOCKER, MOCKER, \
    "US", "for a request that decodes", .max = 1000000)                                            \
X(STEP_KV_NS, F64, "step-kv-ns", "JETROUTER_STEP_KV_NS", "25", JR_CMD_MOCKER, MOCKER, "NS",        \
    "for a token in the KV cache of the requests that run", .max = 1000000)                        \
X(STARTUP_DELAY_SECS, F64, "startup-delay-secs", "JETROUTER_STARTUP_DELAY_SECS", "0",              \
    JR_CMD_MOCKER, MOCKER, "SECS", "so long an engine answers 503, /health too", .max = 86400)     \
X(LORA_MODULES, LIST, "lora-modules", "JETROUTER_LORA_MODULES", NULL, JR_CMD_MOCKER, MOCKER,       \
    "NAME[,NAME...]", "LoRA adapters of the engines, each a model of its own")                     \
X(FAULT, LIST, "fault", "JETROUTER_FAULT", NULL, JR_CMD_MOCKER, MOCKER, "NAME=VALUE",              \
    "what is wrong with the engines: refuse=true, hang=true, slow=FACTOR, drop_events=SHARE "      \
    "(repeatable; POST /mock/faults?NAME=VALUE changes it)")                                       \
X(EVENT_FLAVOUR, ENUM, "event-flavour", "JETROUTER_EVENT_FLAVOUR", "vllm", JR_CMD_MOCKER, MOCKER,  \
    "ENGINE", "whose KV events they are: vLLM 0.32, vLLM 0.15, SGLang 0.5.23",                     \
    .choices = "vllm vllm-0.15 sglang")                                                            \
X(ZMQ_KV_EVENTS_PORTS, LIST, "zmq-kv-events-ports", "JETROUTER_ZMQ_KV_EVENTS_PORTS", NULL,         \
    JR_CMD_MOCKER, MOCKER, "PORT[,PORT...]",                                                       \
    "port of each engine's KV events; a single number counts up", .aliases = "zmq-ports",          \
    .canon = jr_config_canon_port, .expects = "port numbers in 1..65535")                          \
X(ZMQ_REPLAY_PORTS, LIST, "zmq-replay-ports", "JETROUTER_ZMQ_REPLAY_PORTS", NULL, JR_CMD_MOCKER,   \
    MOCKER, "PORT[,PORT...]", "port of each engine's event replay; a single number counts up",     \
    .aliases = "replay-ports", .canon = jr_config_canon_port,                                      \
    .expects = "port numbers in 1..65535")                                                         \
X(BRIDGE, BOOL, "bridge", "JETROUTER_BRIDGE", "false", JR_CMD_MOCKER, MOCKER, NULL,                \
    "run the bridge of each engine in this process; SIGTERM drains")                               \
X(TRACE, STR, "trace", "JETROUTER_TRACE", NULL, JR_CMD_REPLAY, REPLAY, "FILE",                     \
    "trace in Mooncake's format, one JSON object a line; needed unless two runs are compared")     \
X(LIMIT, U64, "limit", "JETROUTER_LIMIT", "0", JR_CMD_REPLAY, REPLAY, "N",                         \
    "only the first N requests; 0: all", .max = 1099511627776.0)                                   \
X(SPEED, F64, "speed", "JETROUTER_SPEED", "1.0", JR_CMD_REPLAY, REPLAY, "X",                       \
    "send X times as fast as the trace's times say; 0: without waiting", .max = 1000000)           \
X(REPLAY_MODEL, STR, "model", "JETROUTER_MODEL", NULL, JR_CMD_REPLAY, REPLAY, "NAME",              \
    "model to ask for; unset: the first one that /v1/models names", .max = JR_MODEL_MAX - 1)       \
X(LABEL, LIST, "label", "JETROUTER_LABEL", NULL, JR_CMD_REPLAY, REPLAY, "NAME",                    \
    "name of the run in tables, one for each --url; unset: the URL")                               \
X(COMPARE, LIST, "compare", "JETROUTER_COMPARE", NULL, JR_CMD_REPLAY, REPLAY, "FILE",              \
    "what --json printed in an earlier run: print an A/B table; two: of these, nothing is sent")   \
X(URL, LIST, "url", "JETROUTER_URL", "http://127.0.0.1:8000", JR_CMD_REPLAY | JR_CMD_CTL, CLIENT,  \
    "URL", "address of the router (replay: repeatable, two print an A/B table)",                   \
    .canon = jr_config_canon_http_url, .expects = "http://HOST:PORT or https://HOST:PORT")          \
X(JSON, BOOL, "json", "JETROUTER_JSON", "false", JR_CMD_REPLAY | JR_CMD_CTL, CLIENT, NULL,         \
    "print JSON instead of tables")                                                                \
X(WAIT, BOOL, "wait", "JETROUTER_WAIT", "true", JR_CMD_CTL, CLIENT, NULL,                          \
    "snapshot: say how it goes until it is verified or has failed")                                \
X(RESET_TOKEN, STR, "reset-token", "JETROUTER_RESET_TOKEN", NULL, JR_CMD_CTL, CLIENT, "TOKEN",     \
    "reset: of this reset, 1 to 63 bytes; nothing is done when it is the one of the last")         \
X(SEQ, U64, "seq", "JETROUTER_SEQ", NULL, JR_CMD_CTL, CLIENT, "N",                                 \
    "skip: the sequence of the message that no replica is to apply", .min = 1,                     \
    .max = 18014398509481984.0)                                                                    \
X(LOG_LEVEL, ENUM, "log-level", "JETROUTER_LOG_LEVEL DYN_LOG", "info", JR_CMD_ALL, LOG, "LEVEL",   \
    "least level that is logged; of a filter list as DYN_LOG may hold, the general level counts",  \
    .choices = "debug info warn error off", .canon = jr_config_canon_log_level)                    \
X(LOG_FORMAT, ENUM, "log-format", "JETROUTER_LOG_FORMAT", "text", JR_CMD_ALL, LOG, "FORMAT",       \
    "key=value text, or one JSON object a line", .choices = "text json")                           \
X(ACCESS_LOG, ENUM, "access-log", "JETROUTER_ACCESS_LOG", "off", JR_CMD_ROUTING, LOG, "MODE",     \
    "one line of JSON for no, a sample of, or all requests, without prompts",                      \
    .choices = "off sampled full")                                                                 \
X(ACCESS_LOG_SAMPLE, F64, "access-log-sample", "JETROUTER_ACCESS_LOG_SAMPLE", "0.01",              \
    JR_CMD_ROUTING, LOG, "SHARE", "share of the requests that --access-log sampled takes",        \
    .max = 1)                                                                                      \
X(ACCESS_LOG_FILE, STR, "access-log-file", "JETROUTER_ACCESS_LOG_FILE", "-", JR_CMD_ROUTING, LOG, \
    "FILE", "where access and slow-request lines go, opened anew on SIGHUP; -: stdout")            \
X(SLOW_REQUEST_MS, U32, "slow-request-ms", "JETROUTER_SLOW_REQUEST_MS", "0", JR_CMD_ROUTING, LOG, \
    "MS", "a request that took as long is logged with all candidates of its decision; 0: none",    \
    .max = 4294967295.0)                                                                           \
X(OTEL_EXPORT_ENABLED, BOOL, "otel-export-enabled", "OTEL_EXPORT_ENABLED", "false", JR_CMD_ROUTING, \
    TRACING, NULL, "send spans of requests to an OpenTelemetry collector (OTLP over HTTP, protobuf)") \
X(OTLP_ENDPOINT, STR, "otel-exporter-otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT",                \
    "http://localhost:4318", JR_CMD_ROUTING, TRACING, "URL",                                       \
    "the collector; /v1/traces is added", .max = JR_URL_MAX - 16)                                  \
X(OTLP_TRACES_ENDPOINT, STR, "otel-exporter-otlp-traces-endpoint",                                 \
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NULL, JR_CMD_ROUTING, TRACING, "URL",                    \
    "the same for spans alone: nothing is added", .max = JR_URL_MAX - 1)                           \
X(OTLP_HEADERS, STR, NULL, "OTEL_EXPORTER_OTLP_TRACES_HEADERS OTEL_EXPORTER_OTLP_HEADERS", NULL,   \
    JR_CMD_ROUTING, TRACING, "NAME=VALUE,…",                                                       \
    "headers of requests to the collector, values percent-encoded", .secret = true)                \
X(OTLP_TIMEOUT, U32, "otel-exporter-otlp-timeout",                                                 \
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT OTEL_EXPORTER_OTLP_TIMEOUT", "10000", JR_CMD_ROUTING,       \
    TRACING, "MS", "most time for a request to the collector", .min = 1, .max = 3600000)           \
X(OTEL_SERVICE_NAME, STR, "otel-service-name", "OTEL_SERVICE_NAME", "jetrouter", JR_CMD_ROUTING,   \
    TRACING, "NAME", "service.name of the spans", .max = JR_SPAN_TEXT_MAX)                         \
X(OTEL_RESOURCE_ATTRIBUTES, STR, "otel-resource-attributes", "OTEL_RESOURCE_ATTRIBUTES", NULL,     \
    JR_CMD_ROUTING, TRACING, "NAME=VALUE,…",                                                       \
    "further attributes of the process, values percent-encoded")                                   \
X(OTEL_TRACES_SAMPLER, ENUM, "otel-traces-sampler", "OTEL_TRACES_SAMPLER",                         \
    "parentbased-traceidratio", JR_CMD_ROUTING, TRACING, "SAMPLER",                                \
    "which requests are traced; parentbased: those with a traceparent as it says; underscores are " \
    "accepted", .choices = "parentbased-traceidratio parentbased-always-on parentbased-always-off " \
    "traceidratio always-on always-off")                                                           \
X(OTEL_TRACES_SAMPLER_ARG, F64, "otel-traces-sampler-arg", "OTEL_TRACES_SAMPLER_ARG", "1.0",       \
    JR_CMD_ROUTING, TRACING, "SHARE", "share of the traces begun here that traceidratio picks",    \
    .max = 1)                                                                                      \
X(OTEL_BSP_SCHEDULE_DELAY, U32, "otel-bsp-schedule-delay", "OTEL_BSP_SCHEDULE_DELAY", "5000",      \
    JR_CMD_ROUTING, TRACING, "MS", "a span waits so long for others to be sent with",              \
    .min = 1, .max = 3600000)                                                                      \
X(OTEL_BSP_MAX_QUEUE_SIZE, U32, "otel-bsp-max-queue-size", "OTEL_BSP_MAX_QUEUE_SIZE", "2048",      \
    JR_CMD_ROUTING, TRACING, "N", "spans that may wait on one HTTP loop; more are dropped",        \
    .min = 1, .max = JR_SPAN_QUEUE_MAX)                                                            \
X(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, U32, "otel-bsp-max-export-batch-size",                           \
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", JR_CMD_ROUTING, TRACING, "N",                         \
    "spans of one request to the collector", .min = 1, .max = JR_SPAN_QUEUE_MAX)                   \
X(DUMP_CONFIG_TO, STR, "dump-config-to", "DYN_DUMP_CONFIG_TO", NULL, JR_CMD_ALL, LOG, "FILE",      \
    "write the effective options, without secrets, as JSON")                                       \
X(CHECK_CONFIG, BOOL, "check-config", "JETROUTER_CHECK_CONFIG", "false", JR_CMD_ALL, LOG, NULL,    \
    "say whether the options are good, and end")                                                   \
X(METRICS_PREFIX, STR, "metrics-prefix", "DYN_METRICS_PREFIX", "dynamo_frontend", JR_CMD_FRONTEND, \
    LOG, "NAME", "what the names of the metrics that are Dynamo's frontend's begin with",          \
    .max = JR_NAME_MAX - 1, .canon = jr_config_canon_metric_name,                                  \
    .expects = "letters, digits, '_' and ':', no digit first")                                     \
X(STORE_KV, ENUM, "store-kv", "DYN_STORE_KV", "etcd", JR_CMD_NATS, COMPAT, "STORE",                \
    "leases live in NATS", .choices = "etcd file mem kubernetes")                                  \
X(DISCOVERY_BACKEND, ENUM, "discovery-backend", "DYN_DISCOVERY_BACKEND", "etcd", JR_CMD_NATS,      \
    COMPAT, "BACKEND", "workers are found through their leases in NATS",                           \
    .choices = "etcd kubernetes file mem")                                                         \
X(REQUEST_PLANE, ENUM, "request-plane", "DYN_REQUEST_PLANE", "tcp", JR_CMD_NATS, COMPAT, "PLANE",  \
    "requests reach workers by HTTP", .choices = "tcp nats http")                                  \
X(EVENT_PLANE, ENUM, "event-plane", "DYN_EVENT_PLANE", "nats", JR_CMD_NATS, COMPAT, "PLANE",       \
    "events travel through JetStream", .choices = "nats zmq auto")                                 \
X(CONNECTOR, LIST, "connector", "DYN_CONNECTOR", NULL, JR_CMD_NATS, COMPAT, "NAME",                \
    "the engine's business")                                                                       \
X(DYN_TOOL_CALL_PARSER, STR, "dyn-tool-call-parser", "DYN_TOOL_CALL_PARSER", NULL, JR_CMD_NATS,    \
    COMPAT, "NAME", "the engine's business")                                                       \
X(DYN_REASONING_PARSER, STR, "dyn-reasoning-parser", "DYN_REASONING_PARSER", NULL, JR_CMD_NATS,    \
    COMPAT, "NAME", "the engine's business")                                                       \
X(CUSTOM_JINJA_TEMPLATE, STR, "custom-jinja-template", "DYN_CUSTOM_JINJA_TEMPLATE", NULL,          \
    JR_CMD_NATS, COMPAT, "FILE", "the engine's business")                                          \
X(ENDPOINT_TYPES, STR, "endpoint-types", "DYN_ENDPOINT_TYPES", "chat,completions", JR_CMD_NATS,    \
    COMPAT, "TYPES", "both are always served")                                                     \
X(DURABLE_KV_EVENTS, BOOL, "durable-kv-events", "DYN_DURABLE_KV_EVENTS", "true",                   \
    JR_CMD_BRIDGE | JR_CMD_MOCKER, COMPAT, NULL, "a bridge always publishes to JetStream")         \
X(INTERACTIVE, BOOL, "interactive", "DYN_INTERACTIVE", "false", JR_CMD_FRONTEND, COMPAT, NULL,     \
    "there is no prompt to type at: send requests over HTTP")                                      \
X(FRONT_MODEL_NAME, STR, "model-name", "DYN_MODEL_NAME", NULL, JR_CMD_FRONTEND, COMPAT, "NAME",    \
    "workers name their models; --model-alias gives one another name")                             \
X(MODEL_PATH, STR, "model-path", "DYN_MODEL_PATH", NULL, JR_CMD_FRONTEND, COMPAT, "PATH",          \
    "tokens are asked of the workers, no model files are read here")                               \
X(NAMESPACE_PREFIX, STR, "namespace-prefix", "DYN_NAMESPACE_PREFIX", NULL, JR_CMD_FRONTEND, COMPAT,\
    "PREFIX", "one namespace is served: name it with --namespace")                                 \
X(ENFORCE_DISAGG, BOOL, "enforce-disagg", "DYN_ENFORCE_DISAGG", "false", JR_CMD_FRONTEND, COMPAT,  \
    NULL, "workers do prefill and decode themselves: disaggregated pairs are not served yet")      \
X(DECODE_FALLBACK, BOOL, "decode-fallback", "DYN_DECODE_FALLBACK", "false", JR_CMD_FRONTEND,       \
    COMPAT, NULL, "workers do prefill and decode themselves: there is nothing to fall back from")  \
X(ADMISSION_CONTROL, ENUM, "admission-control", "DYN_ADMISSION_CONTROL", "token-capacity",         \
    JR_CMD_FRONTEND, COMPAT, "KIND", "each --active-...-threshold acts by itself when it is set",  \
    .choices = "token-capacity none")                                                              \
X(KSERVE_GRPC_SERVER, BOOL, "kserve-grpc-server", "DYN_KSERVE_GRPC_SERVER", "false",               \
    JR_CMD_FRONTEND, COMPAT, NULL, "only HTTP is served")                                          \
X(GRPC_METRICS_PORT, PORT, "grpc-metrics-port", "DYN_GRPC_METRICS_PORT", "8788", JR_CMD_FRONTEND,  \
    COMPAT, "PORT", "/metrics is on --http-port", .max = 65535)                                    \
X(ENABLE_ANTHROPIC_API, BOOL, "enable-anthropic-api", "DYN_ENABLE_ANTHROPIC_API", "false",         \
    JR_CMD_FRONTEND, COMPAT, NULL, "/v1/messages is passed on to the workers as it is")            \
X(STRIP_ANTHROPIC_PREAMBLE, BOOL, "strip-anthropic-preamble", "DYN_STRIP_ANTHROPIC_PREAMBLE",      \
    "false", JR_CMD_FRONTEND, COMPAT, NULL, "prompts are not changed")                             \
X(ENABLE_STREAMING_TOOL_DISPATCH, BOOL, "enable-streaming-tool-dispatch",                          \
    "DYN_ENABLE_STREAMING_TOOL_DISPATCH", "false", JR_CMD_FRONTEND, COMPAT, NULL,                  \
    "the engine's business")                                                                       \
X(ENABLE_STREAMING_REASONING_DISPATCH, BOOL, "enable-streaming-reasoning-dispatch",                \
    "DYN_ENABLE_STREAMING_REASONING_DISPATCH", "false", JR_CMD_FRONTEND, COMPAT, NULL,             \
    "the engine's business")                                                                       \
X(DYN_CHAT_PROCESSOR, ENUM, "dyn-chat-processor", "DYN_CHAT_PROCESSOR", "dynamo", JR_CMD_FRONTEND, \
    COMPAT, "NAME", "the engine's business", .choices = "dynamo vllm sglang")                      \
X(DYN_DEBUG_PERF, BOOL, "dyn-debug-perf", "DYN_DEBUG_PERF", "false", JR_CMD_FRONTEND, COMPAT, NULL,\
    "see /metrics, and --slow-request-ms")                                                         \
X(DYN_PREPROCESS_WORKERS, U32, "dyn-preprocess-workers", "DYN_PREPROCESS_WORKERS", "0",            \
    JR_CMD_FRONTEND, COMPAT, "N", "there is no preprocessor; see --http-threads", .max = 65536)    \
X(ROUTER_PREFILL_LOAD_MODEL, ENUM, "router-prefill-load-model", "DYN_ROUTER_PREFILL_LOAD_MODEL",   \
    "none", JR_CMD_ROUTING, COMPAT, "MODEL",                                                       \
    "the cost model `seconds` learns each worker's speed from its answers", .choices = "none aic") \
X(USE_REMOTE_INDEXER, BOOL, "use-remote-indexer", "DYN_USE_REMOTE_INDEXER", "false",               \
    JR_CMD_ROUTING, COMPAT, NULL, "each replica has the whole index")                              \
X(SERVE_INDEXER, BOOL, "serve-indexer", "DYN_SERVE_INDEXER", "false", JR_CMD_ROUTING, COMPAT, NULL,\
    "each replica has the whole index; a standalone router answers /best_worker_id")               \
X(SHARED_CACHE_TYPE, ENUM, "shared-cache-type", "DYN_SHARED_CACHE_TYPE", "none", JR_CMD_ROUTING,   \
    COMPAT, "TYPE", "a cache that workers share is not looked into", .choices = "none hicache")    \
X(SHARED_CACHE_MULTIPLIER, F64, "shared-cache-multiplier", "DYN_SHARED_CACHE_MULTIPLIER", "0.5",   \
    JR_CMD_ROUTING, COMPAT, "W", "a cache that workers share is not looked into", .max = 1)        \
X(ROUTER_TRACKING_HASH, ENUM, "router-tracking-hash", "DYN_ROUTER_TRACKING_HASH",                  \
    "public-xxh3-v1", JR_CMD_ROUTING, COMPAT, "HASH", "blocks are hashed as the engines' are",     \
    .choices = "public-xxh3-v1 keyed-xxh3-v1")                                                     \
X(ETCD_ENDPOINTS, STR, "etcd-endpoints", "ETCD_ENDPOINTS", NULL, JR_CMD_NATS, COMPAT, "URL",       \
    "there is no etcd: leases live in NATS, see --nats-server")
/* clang-format on */

/* Groups of options in --help and the documentation. */
#define JR_CFG_GROUP_TABLE(X)                                                                      \
    X(HTTP, "HTTP and life cycle")                                                                 \
    X(ROUTING, "Routing")                                                                          \
    X(APPROX, "Approximate mode (only without KV events)")                                         \
    X(LOAD, "Queue and busy detection")                                                            \
    X(CLUSTER, "NATS, pools and shared state")                                                     \
    X(BRIDGE, "Bridge")                                                                            \
    X(MOCKER, "Mocker")                                                                            \
    X(REPLAY, "Replay")                                                                            \
    X(CLIENT, "Client")                                                                            \
    X(LOG, "Logging and configuration")                                                            \
    X(TRACING, "Tracing")                                                                          \
    X(COMPAT, "Accepted for compatibility, without effect")

#endif
