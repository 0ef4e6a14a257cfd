/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_table: every metric, once. The exposition, docs/metrics.md and the tests are driven by
 * it; adding a row is all it takes to add a metric.
 *
 * X(KEY, TYPE, name, unit, labels, sets, buckets, help)
 *   KEY      enum jr_metric_key is JR_METRIC_<KEY>
 *   TYPE     COUNTER (name ends in _total, but for Dynamo's), GAUGE, HISTOGRAM
 *   labels   names separated by a space; "" for none
 *   sets     most label sets; what goes beyond is dropped and counted
 *   buckets  of a histogram, a name of JR_METRIC_BUCKETS_TABLE, else NONE
 *
 * Dynamo's names (reference: its metrics documentation of 1.0) stay as they are, so that dashboards
 * keep working; ours begin with jetrouter_. A pool is the labels namespace and component. */
#ifndef JR_APP_METRICS_TABLE_H
#define JR_APP_METRICS_TABLE_H

#include "base/limits.h"

/* X(NAME, upper bounds…), +Inf is implied. The ranges are Dynamo's. */
#define JR_METRIC_BUCKETS_TABLE(X)                                                                 \
    X(TTFT, 0.001, 0.0022, 0.0047, 0.01, 0.022, 0.047, 0.1, 0.22, 0.47, 1, 2.2, 4.7, 10, 22, 47,   \
      100, 220, 480)                                                                               \
    X(ITL, 0.001, 0.0019, 0.0035, 0.0067, 0.013, 0.024, 0.045, 0.084, 0.16, 0.3, 0.56, 1.1, 2)     \
    X(INPUT_TOKENS, 50, 100, 210, 430, 870, 1800, 3600, 7400, 15000, 31000, 63000, 128000)         \
    X(OUTPUT_TOKENS, 50, 100, 210, 430, 880, 1800, 3700, 7600, 16000, 32000)                       \
    X(RATIO, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75,    \
      0.8, 0.85, 0.9, 0.95, 1)                                                                     \
    X(OVERHEAD_MS, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, \
      0.1024, 0.2048, 0.4096, 0.8192, 1.6384, 3.2768, 6.5536, 13.1072)                             \
    X(DELAY, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,  \
      2.5, 5, 10, 30, 60)                                                                          \
    X(DURATION, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

#define JR_SETS_POOL   JR_POOLS_MAX
#define JR_SETS_WORKER 4096
#define JR_SETS_MODEL  256

/* clang-format off */
#define JR_METRIC_TABLE(X)                                                                         \
/* Dynamo's frontend */                                                                            \
X(FRONTEND_REQUESTS_TOTAL, COUNTER, "dynamo_frontend_requests_total", "requests",                  \
  "model endpoint request_type status error_type", JR_SETS_MODEL * 8, NONE,                        \
  "Requests answered; error_type: empty, validation, not_found, overload, cancelled, internal, "   \
  "not_implemented")                                                                               \
X(FRONTEND_INFLIGHT_REQUESTS, GAUGE, "dynamo_frontend_inflight_requests", "requests", "model",     \
  JR_SETS_MODEL, NONE, "Requests under way")                                                       \
X(FRONTEND_QUEUED_REQUESTS, GAUGE, "dynamo_frontend_queued_requests", "requests", "model",         \
  JR_SETS_MODEL, NONE, "Requests that have not seen their first token")                            \
X(FRONTEND_DISCONNECTED_CLIENTS, COUNTER, "dynamo_frontend_disconnected_clients", "clients", "", 1,\
  NONE, "Clients that went away before their answer was whole")                                    \
X(FRONTEND_REQUEST_DURATION_SECONDS, HISTOGRAM, "dynamo_frontend_request_duration_seconds",        \
  "seconds", "model", JR_SETS_MODEL, TTFT, "Whole time of a request")                              \
X(FRONTEND_TTFT_SECONDS, HISTOGRAM, "dynamo_frontend_time_to_first_token_seconds", "seconds",      \
  "model", JR_SETS_MODEL, TTFT, "Time from the request to the first token of its answer")          \
X(FRONTEND_ITL_SECONDS, HISTOGRAM, "dynamo_frontend_inter_token_latency_seconds", "seconds",       \
  "model", JR_SETS_MODEL, ITL,                                                                     \
  "Time between tokens of an answer; with n > 1, of all its choices together")                     \
X(FRONTEND_INPUT_TOKENS, HISTOGRAM, "dynamo_frontend_input_sequence_tokens", "tokens", "model",    \
  JR_SETS_MODEL, INPUT_TOKENS, "Tokens of a prompt")                                               \
X(FRONTEND_OUTPUT_TOKENS, HISTOGRAM, "dynamo_frontend_output_sequence_tokens", "tokens", "model",  \
  JR_SETS_MODEL, OUTPUT_TOKENS, "Tokens of an answer")                                             \
X(FRONTEND_OUTPUT_TOKENS_TOTAL, COUNTER, "dynamo_frontend_output_tokens_total", "tokens", "model", \
  JR_SETS_MODEL, NONE, "Tokens of all answers")                                                    \
X(FRONTEND_CACHED_TOKENS, HISTOGRAM, "dynamo_frontend_cached_tokens", "tokens", "model",           \
  JR_SETS_MODEL, INPUT_TOKENS, "Prompt tokens that the worker reported as cached")                 \
X(FRONTEND_KV_HIT_RATE, HISTOGRAM, "dynamo_frontend_kv_hit_rate", "ratio", "model", JR_SETS_MODEL, \
  RATIO, "Share of a prompt's blocks that the chosen worker held")                                 \
X(FRONTEND_MODEL_MIGRATION_TOTAL, COUNTER, "dynamo_frontend_model_migration_total", "requests",    \
  "model migration_type", JR_SETS_MODEL, NONE,                                                     \
  "Requests sent to another worker; migration_type: new_request, ongoing_request")                 \
X(FRONTEND_MODEL_MIGRATION_LIMIT, GAUGE, "dynamo_frontend_model_migration_limit", "attempts",      \
  "model", JR_SETS_MODEL, NONE, "Attempts on other workers a request may take")                    \
X(FRONTEND_MODEL_TOTAL_KV_BLOCKS, GAUGE, "dynamo_frontend_model_total_kv_blocks", "blocks",        \
  "model", JR_SETS_MODEL, NONE, "KV blocks of a worker")                                           \
X(FRONTEND_MODEL_MAX_NUM_SEQS, GAUGE, "dynamo_frontend_model_max_num_seqs", "requests", "model",   \
  JR_SETS_MODEL, NONE, "Requests a worker runs at once")                                           \
X(FRONTEND_MODEL_MAX_NUM_BATCHED_TOKENS, GAUGE, "dynamo_frontend_model_max_num_batched_tokens",    \
  "tokens", "model", JR_SETS_MODEL, NONE, "Tokens of one step of a worker")                        \
X(FRONTEND_MODEL_KV_CACHE_BLOCK_SIZE, GAUGE, "dynamo_frontend_model_kv_cache_block_size",          \
  "tokens", "model", JR_SETS_MODEL, NONE, "Tokens of a KV block")                                  \
X(FRONTEND_WORKER_ACTIVE_DECODE_BLOCKS, GAUGE, "dynamo_frontend_worker_active_decode_blocks",      \
  "blocks", "worker_id dp_rank worker_type", JR_SETS_WORKER, NONE,                                 \
  "Blocks of live requests on a worker, all replicas")                                             \
X(FRONTEND_WORKER_ACTIVE_PREFILL_TOKENS, GAUGE, "dynamo_frontend_worker_active_prefill_tokens",    \
  "tokens", "worker_id dp_rank worker_type", JR_SETS_WORKER, NONE,                                 \
  "Prompt tokens waiting for their first token on a worker, all replicas")                         \
X(FRONTEND_WORKER_LAST_TTFT_SECONDS, GAUGE,                                                        \
  "dynamo_frontend_worker_last_time_to_first_token_seconds", "seconds",                            \
  "worker_id dp_rank worker_type", JR_SETS_WORKER, NONE, "Latest time to first token of a worker") \
X(FRONTEND_WORKER_LAST_INPUT_TOKENS, GAUGE, "dynamo_frontend_worker_last_input_sequence_tokens",   \
  "tokens", "worker_id dp_rank worker_type", JR_SETS_WORKER, NONE, "Latest prompt of a worker")    \
X(FRONTEND_WORKER_LAST_ITL_SECONDS, GAUGE,                                                         \
  "dynamo_frontend_worker_last_inter_token_latency_seconds", "seconds",                            \
  "worker_id dp_rank worker_type", JR_SETS_WORKER, NONE,                                           \
  "Latest time between tokens of a worker; with n > 1, of all choices of an answer together")      \
X(FRONTEND_ROUTER_QUEUE_PENDING, GAUGE, "dynamo_frontend_router_queue_pending_requests",           \
  "requests", "worker_type model policy_class", 4096, NONE,                                        \
  "Requests waiting in the router's queue; model and policy_class with --router-policy-config")    \
X(FRONTEND_ROUTER_QUEUE_PENDING_ISL, GAUGE, "dynamo_frontend_router_queue_pending_isl_tokens",     \
  "tokens", "worker_type model policy_class", 4096, NONE, "Prompt tokens of these")                \
X(FRONTEND_ROUTER_QUEUE_PENDING_CACHED, GAUGE,                                                     \
  "dynamo_frontend_router_queue_pending_cached_tokens", "tokens",                                  \
  "worker_type model policy_class", 4096, NONE,                                                    \
  "Those of them that the best worker had cached when they came")                                  \
X(FRONTEND_ROUTER_QUEUE_BACKPRESSURE, COUNTER, "dynamo_frontend_router_queue_backpressure_total",  \
  "requests", "worker_type model policy_class reason", 8192, NONE,                                 \
  "Requests refused for a limit of their class: requests, raw_isl_tokens, cached_tokens")          \
/* Dynamo's router */                                                                              \
X(ROUTER_REQUESTS_TOTAL, COUNTER, "dynamo_component_router_requests_total", "requests",            \
  "router_id", 1, NONE, "Requests that ended")                                                     \
X(ROUTER_TTFT_SECONDS, HISTOGRAM, "dynamo_component_router_time_to_first_token_seconds",           \
  "seconds", "router_id", 1, TTFT, "Time from the routing of a request to its first token")        \
X(ROUTER_ITL_SECONDS, HISTOGRAM, "dynamo_component_router_inter_token_latency_seconds",            \
  "seconds", "router_id", 1, ITL,                                                                  \
  "Time between tokens of an answer; with n > 1, of all its choices together")                     \
X(ROUTER_INPUT_TOKENS, HISTOGRAM, "dynamo_component_router_input_sequence_tokens", "tokens",       \
  "router_id", 1, INPUT_TOKENS, "Tokens of a routed prompt")                                       \
X(ROUTER_OUTPUT_TOKENS, HISTOGRAM, "dynamo_component_router_output_sequence_tokens", "tokens",     \
  "router_id", 1, OUTPUT_TOKENS, "Tokens of an answer")                                            \
X(ROUTER_KV_HIT_RATE, HISTOGRAM, "dynamo_component_router_kv_hit_rate", "ratio", "router_id", 1,   \
  RATIO, "Share of a prompt's blocks that the chosen worker held")                                 \
X(ROUTER_OVERHEAD_BLOCK_HASHING_MS, HISTOGRAM, "dynamo_router_overhead_block_hashing_ms",          \
  "milliseconds", "router_id", 1, OVERHEAD_MS,                                                     \
  "Hashing a prompt's blocks and chaining the hashes, which is one pass here")                     \
X(ROUTER_OVERHEAD_FIND_MATCHES_MS, HISTOGRAM, "dynamo_router_overhead_indexer_find_matches_ms",    \
  "milliseconds", "router_id", 1, OVERHEAD_MS, "Asking the index")                                 \
X(ROUTER_OVERHEAD_SCHEDULING_MS, HISTOGRAM, "dynamo_router_overhead_scheduling_ms",                \
  "milliseconds", "router_id", 1, OVERHEAD_MS,                                                     \
  "All of a decision but the index: choosing and booking a worker, and what the step does beside " \
  "it, such as sending what replicas share; without any wait")                                     \
X(ROUTER_OVERHEAD_TOTAL_MS, HISTOGRAM, "dynamo_router_overhead_total_ms", "milliseconds",          \
  "router_id", 1, OVERHEAD_MS, "All of it")                                                        \
X(KV_CACHE_EVENTS_APPLIED, COUNTER, "dynamo_component_kv_cache_events_applied", "events",          \
  "event_type status", 16, NONE, "KV events by event_type (stored, removed, cleared) and status "  \
  "(ok, parent_block_not_found, block_not_found, capacity), of all pools; a rebuild of the index " \
  "counts those it reads again")                                                                   \
/* Process */                                                                                      \
X(BUILD_INFO, GAUGE, "jetrouter_build_info", "", "version", 1, NONE, "Always 1")                   \
X(UPTIME_SECONDS, GAUGE, "jetrouter_uptime_seconds", "seconds", "", 1, NONE,                       \
  "Time since the process started")                                                                \
X(READY, GAUGE, "jetrouter_ready", "", "", 1, NONE, "1 while /ready answers 200")                  \
X(METRIC_LABEL_OVERFLOW_TOTAL, COUNTER, "jetrouter_metric_label_overflow_total", "samples",        \
  "metric", JR_METRIC_COUNT, NONE, "Samples dropped because a metric had all its label sets")      \
X(LIMIT_REACHED_TOTAL, COUNTER, "jetrouter_limit_reached_total", "", "limit", 128, NONE,           \
  "Times a limit of this program was reached, by its name (base/limit.h)")                         \
X(LOOP_STALL_SECONDS, HISTOGRAM, "jetrouter_loop_stall_seconds", "seconds", "loop", 65, DELAY,     \
  "Time one turn of a loop took, in whole milliseconds; loop: 0 is the main one")                                                                  \
/* Index and stream, per pool */                                                                   \
X(INDEX_BLOCKS, GAUGE, "jetrouter_index_blocks", "blocks", "namespace component", JR_SETS_POOL,    \
  NONE, "Distinct blocks in the index")                                                            \
X(INDEX_ENTRIES, GAUGE, "jetrouter_index_entries", "entries", "namespace component", JR_SETS_POOL, \
  NONE, "Pairs of block and worker in the index")                                                  \
X(INDEX_BYTES, GAUGE, "jetrouter_index_bytes", "bytes", "namespace component", JR_SETS_POOL, NONE, \
  "Memory of the index")                                                                           \
X(POOL_BYTES, GAUGE, "jetrouter_pool_bytes", "bytes", "namespace component", JR_SETS_POOL, NONE,   \
  "Memory of the whole pool")                                                                      \
X(POOL_RESERVE_BYTES, GAUGE, "jetrouter_pool_reserve_bytes", "bytes", "namespace component",       \
  JR_SETS_POOL, NONE, "Warm memory that is held ready for the pool's tables, beside its own")      \
X(INDEX_OLD, GAUGE, "jetrouter_index_old", "", "namespace component", JR_SETS_POOL, NONE,          \
  "1 while an index older than the stream's first message answers")                                \
X(INDEX_TRUNCATED, GAUGE, "jetrouter_index_truncated", "", "namespace component", JR_SETS_POOL,    \
  NONE, "1 when stores were refused at --index-max-entries")                                       \
X(APPLIED_SEQ, GAUGE, "jetrouter_applied_seq", "", "namespace component", JR_SETS_POOL, NONE,      \
  "Sequence of the newest applied message of the event stream")                                    \
X(STREAM_FIRST_SEQ, GAUGE, "jetrouter_stream_first_seq", "", "namespace component", JR_SETS_POOL,  \
  NONE, "First sequence the event stream holds")                                                   \
X(STREAM_LAST_SEQ, GAUGE, "jetrouter_stream_last_seq", "", "namespace component", JR_SETS_POOL,    \
  NONE, "Last sequence the event stream holds, as known here")                                     \
X(STREAM_BYTES, GAUGE, "jetrouter_stream_bytes", "bytes", "namespace component", JR_SETS_POOL,      \
  NONE, "Size of the event stream, as last told; it refuses at its limit")                         \
X(STREAM_BYTES_MAX, GAUGE, "jetrouter_stream_bytes_max", "bytes", "namespace component",           \
  JR_SETS_POOL, NONE, "Its limit; 0: none")                                                        \
X(LAG_MESSAGES, GAUGE, "jetrouter_lag_messages", "messages", "namespace component", JR_SETS_POOL,  \
  NONE, "Messages of the event stream not applied yet")                                            \
X(EVENT_DELAY_SECONDS, HISTOGRAM, "jetrouter_event_delay_seconds", "seconds",                      \
  "namespace component", JR_SETS_POOL, DELAY, "From the server's timestamp of a message to here")  \
X(LOG_MESSAGES_TOTAL, COUNTER, "jetrouter_log_messages_total", "messages",                         \
  "namespace component", JR_SETS_POOL, NONE, "Messages of the event stream applied")               \
X(KV_EVENTS_TOTAL, COUNTER, "jetrouter_kv_events_total", "events", "namespace component",          \
  JR_SETS_POOL, NONE, "KV events in them")                                                         \
X(KV_EVENTS_DROPPED_TOTAL, COUNTER, "jetrouter_kv_events_dropped_total", "events",                 \
  "namespace component reason", JR_SETS_POOL * 8, NONE,                                            \
  "KV events without effect: unknown_parent, stale, hole, undecodable, skipped, cap")                       \
X(HISTORY_CHECKS_TOTAL, COUNTER, "jetrouter_history_checks_total", "checks",                       \
  "namespace component", JR_SETS_POOL, NONE, "Comparisons of this replica's history with the "     \
  "stream's")                                                                                      \
X(RESETS_TOTAL, COUNTER, "jetrouter_resets_total", "resets", "namespace component", JR_SETS_POOL,  \
  NONE, "Resets applied")                                                                          \
X(REANNOUNCE_TOTAL, COUNTER, "jetrouter_reannounce_total", "requests", "namespace component",      \
  JR_SETS_POOL, NONE, "Ranks that were asked to announce their blocks anew")                       \
X(DIGEST_MISMATCH, GAUGE, "jetrouter_digest_mismatch", "", "namespace component", JR_SETS_POOL,    \
  NONE, "1 while this replica's digest differs from its peers' at a common sequence")              \
X(RECOVERY_STATE, GAUGE, "jetrouter_recovery_state", "", "namespace component state",              \
  JR_SETS_POOL * 12, NONE, "1 for the state the pool's recovery is in, 0 for the others")          \
X(RECOVERIES_TOTAL, COUNTER, "jetrouter_recoveries_total", "recoveries", "namespace component",    \
  JR_SETS_POOL, NONE, "Times the pool came to be ready")                                           \
/* Snapshots, per pool */                                                                          \
X(SNAPSHOT_SEQ, GAUGE, "jetrouter_snapshot_seq", "", "namespace component", JR_SETS_POOL, NONE,    \
  "Sequence of the newest verified snapshot")                                                      \
X(SNAPSHOT_AGE_SECONDS, GAUGE, "jetrouter_snapshot_age_seconds", "seconds", "namespace component", \
  JR_SETS_POOL, NONE, "Its age")                                                                   \
X(SNAPSHOT_BYTES, GAUGE, "jetrouter_snapshot_bytes", "bytes", "namespace component", JR_SETS_POOL, \
  NONE, "Its size")                                                                                \
X(SNAPSHOT_DURATION_SECONDS, HISTOGRAM, "jetrouter_snapshot_duration_seconds", "seconds",          \
  "namespace component", JR_SETS_POOL, DURATION,                                                   \
  "From the freezing of an image to its snapshot's record, of those this replica wrote")           \
X(STREAM_MAY_FORGET, GAUGE, "jetrouter_stream_may_forget", "", "namespace component",              \
  JR_SETS_POOL, NONE, "1 while messages may leave the stream before a snapshot covers them")       \
X(FOREIGN_CONSUMERS, GAUGE, "jetrouter_stream_foreign_consumers", "", "namespace component",       \
  JR_SETS_POOL, NONE, "Consumers of other routers on the event stream")                            \
X(ADOPTIONS_TOTAL, COUNTER, "jetrouter_adoptions_total", "adoptions", "namespace component",       \
  JR_SETS_POOL, NONE, "Times this replica put its index into a stream with another history")       \
X(DIGEST_RELOADS_TOTAL, COUNTER, "jetrouter_digest_reloads_total", "reloads",                      \
  "namespace component", JR_SETS_POOL, NONE, "Times it loaded a snapshot for its digest")          \
X(SNAPSHOTS_TOTAL, COUNTER, "jetrouter_snapshots_total", "snapshots", "namespace component",       \
  JR_SETS_POOL, NONE, "Snapshots written by this replica")                                         \
X(SNAPSHOT_FAILURES_TOTAL, COUNTER, "jetrouter_snapshot_failures_total", "snapshots",              \
  "namespace component", JR_SETS_POOL, NONE, "Snapshots that could not be written or verified")    \
X(DYNAMO_SNAPSHOTS_TOTAL, COUNTER, "jetrouter_dynamo_snapshots_total", "snapshots",                \
  "namespace component", JR_SETS_POOL, NONE, "Snapshots in Dynamo's format written by this "       \
  "replica (--snapshot-compat)")                                                                   \
X(DYNAMO_SNAPSHOT_FAILURES_TOTAL, COUNTER, "jetrouter_dynamo_snapshot_failures_total",             \
  "snapshots", "namespace component", JR_SETS_POOL, NONE,                                          \
  "Snapshots in Dynamo's format that could not be written or read back")                           \
X(DYNAMO_SNAPSHOT_BLOCKS, GAUGE, "jetrouter_dynamo_snapshot_blocks", "blocks",                     \
  "namespace component", JR_SETS_POOL, NONE, "Blocks of ranks in the last of them")                \
X(DYNAMO_SNAPSHOT_LEFT_OUT, GAUGE, "jetrouter_dynamo_snapshot_left_out", "blocks",                 \
  "namespace component", JR_SETS_POOL, NONE, "Blocks of the snapshot that it does not have")       \
X(PURGES_TOTAL, COUNTER, "jetrouter_purges_total", "purges", "namespace component", JR_SETS_POOL,  \
  NONE, "Purges of the event stream by this replica")                                              \
X(PURGED_TO_SEQ, GAUGE, "jetrouter_purged_to_seq", "", "namespace component", JR_SETS_POOL, NONE,  \
  "Floor of its last purge")                                                                       \
/* Replicas, per pool */                                                                           \
X(LEADER, GAUGE, "jetrouter_leader", "", "namespace component", JR_SETS_POOL, NONE,                \
  "1 while this replica writes snapshots")                                                         \
X(PEERS, GAUGE, "jetrouter_peers", "replicas", "namespace component state", JR_SETS_POOL * 2, NONE,\
  "Other replicas with a lease, by state (ready, not_ready)")                                      \
X(SYNC_SENT_TOTAL, COUNTER, "jetrouter_sync_batches_sent_total", "batches",                        \
  "namespace component", JR_SETS_POOL, NONE, "Batches of load changes sent")                       \
X(SYNC_RECEIVED_TOTAL, COUNTER, "jetrouter_sync_batches_received_total", "batches",                \
  "namespace component", JR_SETS_POOL, NONE, "Batches of load changes received")                   \
X(SYNC_FAILED_TOTAL, COUNTER, "jetrouter_sync_batches_failed_total", "batches",                    \
  "namespace component", JR_SETS_POOL, NONE, "Batches that could not be published")                \
X(SYNC_GAPS_TOTAL, COUNTER, "jetrouter_sync_gaps_total", "gaps", "namespace component",            \
  JR_SETS_POOL, NONE, "Batches of a peer missed; a base was asked for")                            \
X(SYNC_UNKNOWN_TOTAL, COUNTER, "jetrouter_sync_unknown_total", "changes", "namespace component",    \
  JR_SETS_POOL, NONE, "Load changes of a kind that this version does not know, left out")         \
X(SYNC_DELAY_SECONDS, HISTOGRAM, "jetrouter_sync_delay_seconds", "seconds",                        \
  "namespace component", JR_SETS_POOL, DELAY, "From the server's timestamp of a batch to here")    \
X(BOOKINGS, GAUGE, "jetrouter_bookings", "requests", "namespace component", JR_SETS_POOL, NONE,    \
  "Live requests that count in decisions, all replicas")                                           \
X(BOOKINGS_EXPIRED_TOTAL, COUNTER, "jetrouter_bookings_expired_total", "requests",                 \
  "namespace component", JR_SETS_POOL, NONE, "Bookings freed for want of progress")                \
X(BOOKINGS_ADOPTED_TOTAL, COUNTER, "jetrouter_bookings_adopted_total", "requests",                 \
  "namespace component", JR_SETS_POOL, NONE,                                                       \
  "Bookings of external data planes taken over from a replica that is gone")                       \
X(BOOKINGS_REFUSED_TOTAL, COUNTER, "jetrouter_bookings_refused_total", "requests",                 \
  "namespace component", JR_SETS_POOL, NONE, "Bookings there was no room for")                     \
X(LEASES_REFUSED_TOTAL, COUNTER, "jetrouter_leases_refused_total", "leases",                       \
  "namespace component", JR_SETS_POOL, NONE, "Worker leases that do not fit the pool")             \
/* Decisions and workers, per pool */                                                              \
X(DECISIONS_TOTAL, COUNTER, "jetrouter_decisions_total", "decisions",                              \
  "namespace component reason", JR_SETS_POOL * 16, NONE,                                           \
  "Requests given to a worker, by reason: cost, pinned, round_robin, random, least_loaded, "       \
  "power_of_two, retry")                                                                           \
X(REJECTIONS_TOTAL, COUNTER, "jetrouter_rejections_total", "requests",                             \
  "namespace component reason", JR_SETS_POOL * 16, NONE,                                           \
  "Requests given to none, by reason: no_worker, busy, queue (full), timeout (in it)")                              \
X(DECISION_SECONDS, HISTOGRAM, "jetrouter_decision_seconds", "seconds", "namespace component",     \
  JR_SETS_POOL, DELAY,                                                                              \
  "Time the pool took over a request that came: given a worker, refused or put in the queue")      \
X(OVERLAP_BLOCKS_TOTAL, COUNTER, "jetrouter_overlap_blocks_total", "blocks",                       \
  "namespace component", JR_SETS_POOL, NONE, "Prompt blocks that the chosen worker held")          \
X(PROMPT_BLOCKS_TOTAL, COUNTER, "jetrouter_prompt_blocks_total", "blocks", "namespace component",  \
  JR_SETS_POOL, NONE, "Prompt blocks of all decisions")                                            \
X(PROMPT_TOKENS_TOTAL, COUNTER, "jetrouter_prompt_tokens_total", "tokens", "namespace component",  \
  JR_SETS_POOL, NONE, "Prompt tokens of all decisions")                                            \
X(PREDICTED_CACHED_TOKENS_TOTAL, COUNTER, "jetrouter_predicted_cached_tokens_total", "tokens",     \
  "namespace component", JR_SETS_POOL, NONE,                                                       \
  "Prompt tokens that the index said were cached, of requests whose worker reported")              \
X(PREDICTED_NOT_CACHED_TOKENS_TOTAL, COUNTER, "jetrouter_predicted_not_cached_tokens_total",       \
  "tokens", "namespace component", JR_SETS_POOL, NONE,                                             \
  "Of the predicted ones, those the worker did not report")                                        \
X(CACHED_NOT_PREDICTED_TOKENS_TOTAL, COUNTER, "jetrouter_cached_not_predicted_tokens_total",       \
  "tokens", "namespace component", JR_SETS_POOL, NONE,                                             \
  "Of the reported ones, those that were not predicted")                                           \
X(REPORTED_CACHED_TOKENS_TOTAL, COUNTER, "jetrouter_reported_cached_tokens_total", "tokens",       \
  "namespace component", JR_SETS_POOL, NONE, "Prompt tokens that the workers reported as cached")  \
X(SPEED_FACTOR, GAUGE, "jetrouter_speed_factor", "ratio", "namespace component", JR_SETS_POOL,     \
  NONE, "Measured over estimated prefill time of the fleet")                                       \
X(WORKERS, GAUGE, "jetrouter_workers", "workers", "namespace component state", JR_SETS_POOL * 4,   \
  NONE, "Ranks of workers by state (live, stale, down)")                                           \
X(WORKERS_ASIDE, GAUGE, "jetrouter_workers_aside", "workers", "namespace component", JR_SETS_POOL,  \
  NONE, "Workers that this replica sends nothing for a while, for they failed often")              \
X(WORKERS_PUT_ASIDE_TOTAL, COUNTER, "jetrouter_workers_put_aside_total", "times",                  \
  "namespace component", JR_SETS_POOL, NONE, "Times a worker was put aside")                       \
X(WORKER_BLOCKS, GAUGE, "jetrouter_worker_blocks", "blocks",                                       \
  "namespace component worker_id dp_rank", JR_SETS_WORKER, NONE, "Blocks of a rank in the index")  \
X(WORKER_ACTIVE_REQUESTS, GAUGE, "jetrouter_worker_active_requests", "requests",                   \
  "namespace component worker_id dp_rank", JR_SETS_WORKER, NONE,                                   \
  "Live requests of a rank, all replicas")                                                         \
X(WORKER_BACKLOG_SECONDS, GAUGE, "jetrouter_worker_backlog_seconds", "seconds",                    \
  "namespace component worker_id dp_rank", JR_SETS_WORKER, NONE, "Estimated backlog of a rank")    \
X(QUEUE_REQUESTS, GAUGE, "jetrouter_queue_requests", "requests", "namespace component",            \
  JR_SETS_POOL, NONE, "Requests waiting for a worker")                                             \
X(QUEUE_WAIT_SECONDS, HISTOGRAM, "jetrouter_queue_wait_seconds", "seconds", "namespace component", \
  JR_SETS_POOL, DURATION, "Time they waited")                                                      \
X(SESSIONS, GAUGE, "jetrouter_sessions", "sessions", "namespace component", JR_SETS_POOL, NONE,     \
  "Sessions that are bound to a worker")                                                           \
X(SESSION_REQUESTS_TOTAL, COUNTER, "jetrouter_session_requests_total", "requests",                 \
  "namespace component result", JR_SETS_POOL * 4, NONE,                                            \
  "Requests of sessions, by result: bound (its first), honoured (went where it was bound), moved " \
  "(its worker could not take it), refused (no memory: it went its way, unbound)")                 \
X(SESSIONS_ENDED_TOTAL, COUNTER, "jetrouter_sessions_ended_total", "sessions",                     \
  "namespace component reason", JR_SETS_POOL * 2, NONE,                                            \
  "Sessions that are bound no more, by reason: expired, evicted (the least recently used, for "    \
  "there were too many)")                                                                          \
X(SESSION_WORDS_TOTAL, COUNTER, "jetrouter_session_words_total", "messages",                       \
  "namespace component result", JR_SETS_POOL * 3, NONE,                                            \
  "Messages of the session stream, by result: told, failed (told again), heard")                   \
/* NATS */                                                                                         \
X(NATS_CONNECTED, GAUGE, "jetrouter_nats_connected", "", "", 1, NONE, "1 while connected to NATS") \
X(DEGRADED_SECONDS, GAUGE, "jetrouter_degraded_seconds", "seconds", "", 1, NONE,                   \
  "How long routing has been doing without NATS; 0 when it has it")                                \
X(NATS_RECONNECTS_TOTAL, COUNTER, "jetrouter_nats_reconnects_total", "reconnects", "", 1, NONE,    \
  "Connections to NATS after the first")                                                           \
X(LEASE_RENEWALS_TOTAL, COUNTER, "jetrouter_lease_renewals_total", "renewals", "result", 2, NONE,  \
  "Times this process wrote its leases, by result (ok, failed)")                                     \
/* HTTP */                                                                                         \
X(HTTP_REQUESTS_TOTAL, COUNTER, "jetrouter_http_requests_total", "requests", "path code", 512,     \
  NONE, "Answers by known path (/v1/: any other that goes on to workers; other) and status code")  \
X(HTTP_INFLIGHT, GAUGE, "jetrouter_http_requests_inflight", "requests", "", 1, NONE,               \
  "HTTP requests under way")                                                                       \
X(HTTP_ERRORS_TOTAL, COUNTER, "jetrouter_http_errors_total", "requests", "code", 64, NONE,         \
  "Answers with a status of 400 and above")                                                        \
X(HTTP_CONNECTIONS, GAUGE, "jetrouter_http_connections", "connections", "", 1, NONE,               \
  "Open connections of clients")                                                                   \
X(HTTP_CONNECTIONS_REFUSED_TOTAL, COUNTER, "jetrouter_http_connections_refused_total",             \
  "connections", "", 1, NONE, "Connections closed at once because there were too many")            \
X(HTTP_ACCEPT_PAUSES_TOTAL, COUNTER, "jetrouter_http_accept_pauses_total", "pauses", "", 1, NONE,  \
  "Times no connection could be taken for want of a descriptor or memory: those who connect wait")  \
X(HTTP_BAD_REQUESTS_TOTAL, COUNTER, "jetrouter_http_bad_requests_total", "requests", "reason", 8,  \
  NONE,                                                                                            \
  "Requests that were no HTTP, by reason (malformed, body_too_large, header_timeout, body_timeout)") \
X(HTTP_BODIES_BYTES, GAUGE, "jetrouter_http_bodies_bytes", "bytes", "", 1, NONE,                   \
  "Memory of request bodies under way that did not come along with their head")                    \
X(HTTP_BODIES_REFUSED_TOTAL, COUNTER, "jetrouter_http_bodies_refused_total", "requests", "", 1,    \
  NONE, "Requests answered with 503 because all bodies together had no room")                      \
X(TLS_HANDSHAKES_TOTAL, COUNTER, "jetrouter_tls_handshakes_total", "handshakes", "result", 2, NONE,\
  "TLS handshakes of clients, by result (ok, failed)")                                             \
X(TLS_RELOADS_TOTAL, COUNTER, "jetrouter_tls_reloads_total", "reloads", "result", 2, NONE,         \
  "Times the certificate was read again, by result (ok, failed: the one before stays)")            \
X(TLS_CERTIFICATE_EXPIRY, GAUGE, "jetrouter_tls_certificate_expiry_timestamp_seconds", "seconds",  \
  "", 1, NONE, "When the certificate ends, in seconds of the epoch")                               \
X(PROXY_RETRIES_TOTAL, COUNTER, "jetrouter_proxy_retries_total", "requests", "reason", 16, NONE,   \
  "Requests sent to another worker before a byte of an answer, by reason")                         \
X(PROXY_FAILURES_TOTAL, COUNTER, "jetrouter_proxy_failures_total", "requests", "reason", 16, NONE, \
  "Requests that no worker answered whole, by reason")                                             \
X(TOKENIZE_TOTAL, COUNTER, "jetrouter_tokenize_total", "requests", "result", 8, NONE,              \
  "Prompts that needed token ids, by result: exact (known), prefix (the turns before are known), " \
  "asked, coalesced (with an equal one), refused (by the worker), limit (too many tokens, or too " \
  "much is being asked), failed")                                                                  \
X(TOKENIZE_SECONDS, HISTOGRAM, "jetrouter_tokenize_seconds", "seconds", "", 1, DURATION,           \
  "From asking workers for a prompt's ids to their answer")                                        \
X(TOKENIZER_REQUESTS_TOTAL, COUNTER, "jetrouter_tokenizer_requests_total", "requests", "result", 3,\
  NONE, "Requests to workers' tokenizers, by result: answered, failed, skipped (a later turn of a " \
  "chat, when much is being asked)")                                                               \
X(TOKENIZER_PREFIX_WRONG_TOTAL, COUNTER, "jetrouter_tokenizer_prefix_wrong_total", "requests", "", \
  1, NONE, "Chats routed by turns before that the template renders otherwise now")                 \
X(TOKENIZER_MISSING, GAUGE, "jetrouter_tokenizer_missing", "", "namespace component", JR_SETS_POOL,\
  NONE, "1 while no worker tokenizes: text is routed by its bytes")                                \
X(TOKENIZER_CACHE_BYTES, GAUGE, "jetrouter_tokenizer_cache_bytes", "bytes", "", 1, NONE,           \
  "Memory of the token ids that are kept")                                                         \
X(TOKENIZER_CACHE_ENTRIES, GAUGE, "jetrouter_tokenizer_cache_entries", "texts", "", 1, NONE,       \
  "Texts whose token ids are kept")                                                                \
X(CACHE_CONTROL_TOTAL, COUNTER, "jetrouter_cache_control_total", "requests", "result", 5, NONE,    \
  "Answered requests with cache_control (--enable-cache-control), by what became of asking their " \
  "worker to keep the prompt: kept, refused (by the worker), failed (it did not answer), no_tokens " \
  "(nobody tokenized the prompt), limit (too much is being asked)")                                \
X(FORWARDED_IDS_TOTAL, COUNTER, "jetrouter_forwarded_ids_total", "requests", "", 1, NONE,          \
  "Texts that went on to the worker as token ids (--forward-token-ids)")                           \
X(ACCESS_LOG_LINES_TOTAL, COUNTER, "jetrouter_access_log_lines_total", "lines", "result", 2, NONE, \
  "Lines of the access and slow-request log, by result (written, dropped)")                        \
X(TRACE_SPANS_TOTAL, COUNTER, "jetrouter_trace_spans_total", "spans", "result", 5, NONE,           \
  "Spans that ended, by result (sent, rejected by the collector, queue_full, failed to be sent, "  \
  "too_long)")                                                                                     \
X(TRACE_EXPORTS_TOTAL, COUNTER, "jetrouter_trace_exports_total", "requests", "result", 3, NONE,    \
  "Requests to the collector, by result (sent, retried, failed: the batch was dropped)")           \
X(TRACE_SPANS_WAITING, GAUGE, "jetrouter_trace_spans_waiting", "spans", "", 1, NONE,               \
  "Spans that wait for the collector, of all HTTP loops")                                          \
/* Bridge */                                                                                       \
X(BRIDGE_ENGINE_EVENTS_TOTAL, COUNTER, "jetrouter_bridge_engine_events_total", "events",           \
  "worker_id dp_rank type", JR_SETS_WORKER, NONE,                                                  \
  "Events of the engine by type (stored, removed, cleared, ignored)")                              \
X(BRIDGE_ENGINE_MESSAGES_BAD_TOTAL, COUNTER, "jetrouter_bridge_engine_messages_bad_total",         \
  "messages", "worker_id", JR_SETS_WORKER, NONE, "Messages of the engine that could not be read")  \
X(BRIDGE_GAPS_TOTAL, COUNTER, "jetrouter_bridge_gaps_total", "gaps", "worker_id dp_rank",          \
  JR_SETS_WORKER, NONE, "Missing sequences of the engine")                                         \
X(BRIDGE_REPLAYS_TOTAL, COUNTER, "jetrouter_bridge_replays_total", "replays",                      \
  "worker_id dp_rank result", JR_SETS_WORKER, NONE,                                                \
  "Repetitions asked of the engine, by result (filled, failed)")                                   \
X(BRIDGE_BATCHES_TOTAL, COUNTER, "jetrouter_bridge_batches_total", "batches",                      \
  "worker_id dp_rank", JR_SETS_WORKER, NONE, "Batches published")                                  \
X(BRIDGE_BATCH_EVENTS_TOTAL, COUNTER, "jetrouter_bridge_batch_events_total", "events",             \
  "worker_id dp_rank", JR_SETS_WORKER, NONE, "Events in them")                                     \
X(BRIDGE_ACKS_TOTAL, COUNTER, "jetrouter_bridge_acks_total", "batches", "worker_id dp_rank",       \
  JR_SETS_WORKER, NONE, "Batches acknowledged by JetStream")                                       \
X(BRIDGE_RETRIES_TOTAL, COUNTER, "jetrouter_bridge_retries_total", "batches", "worker_id dp_rank", \
  JR_SETS_WORKER, NONE, "Batches sent again, unchanged")                                           \
X(BRIDGE_BEGINS_TOTAL, COUNTER, "jetrouter_bridge_begins_total", "batches",                        \
  "worker_id dp_rank reason", JR_SETS_WORKER, NONE,                                                \
  "Histories begun anew, by reason (start, restart, gap, reannounce, epoch, stream, lease, "       \
  "overflow)")                                                                                     \
X(BRIDGE_PENDING_EVENTS, GAUGE, "jetrouter_bridge_pending_events", "events", "worker_id dp_rank",  \
  JR_SETS_WORKER, NONE, "Events not acknowledged yet")                                             \
X(BRIDGE_MIRROR_BLOCKS, GAUGE, "jetrouter_bridge_mirror_blocks", "blocks", "worker_id dp_rank",    \
  JR_SETS_WORKER, NONE, "Live blocks of the engine, as mirrored here")                             \
X(BRIDGE_ACK_SECONDS, HISTOGRAM, "jetrouter_bridge_ack_seconds", "seconds", "worker_id dp_rank",   \
  JR_SETS_WORKER, DELAY, "From sending a batch to its acknowledgement")                            \
X(BRIDGE_BLOCKS_DROPPED_TOTAL, COUNTER, "jetrouter_bridge_blocks_dropped_total", "blocks",         \
  "worker_id dp_rank reason", JR_SETS_WORKER, NONE,                                                \
  "Stored blocks that are not mirrored, by reason (unknown_parent, unreachable, full)")            \
X(BRIDGE_LOWER_BLOCKS, GAUGE, "jetrouter_bridge_lower_blocks", "blocks",                           \
  "worker_id dp_rank medium", JR_SETS_WORKER, NONE,                                                \
  "Blocks beside the engine's device, by medium (host, disk), where lower media count")            \
X(BRIDGE_ROW_BLOCKS, GAUGE, "jetrouter_bridge_row_blocks", "blocks", "worker_id dp_rank row",      \
  JR_SETS_WORKER, NONE,                                                                            \
  "Blocks of the rank's rows of lower media (host: on the device or in host memory, any)")         \
X(BRIDGE_ROW_BATCHES_TOTAL, COUNTER, "jetrouter_bridge_row_batches_total", "batches",              \
  "worker_id dp_rank row", JR_SETS_WORKER, NONE, "Batches of them published")                      \
X(BRIDGE_ROW_PENDING_EVENTS, GAUGE, "jetrouter_bridge_row_pending_events", "events",               \
  "worker_id dp_rank row", JR_SETS_WORKER, NONE, "Events of them not acknowledged yet")            \
X(BRIDGE_ROW_BLOCKS_DROPPED_TOTAL, COUNTER, "jetrouter_bridge_row_blocks_dropped_total", "blocks", \
  "worker_id dp_rank row", JR_SETS_WORKER, NONE,                                                   \
  "Stored blocks that their mirrors do not have: no known parent, no way to it, no room")          \
X(BRIDGE_REGISTERED, GAUGE, "jetrouter_bridge_registered", "", "worker_id", JR_SETS_WORKER, NONE,  \
  "1 while the bridge holds the worker's lease")                                                   \
X(BRIDGE_BLOCK_SIZE_REFUSED, GAUGE, "jetrouter_bridge_block_size_refused", "", "worker_id",        \
  JR_SETS_WORKER, NONE, "1 while the engine's blocks are of another size than the pool's")         \
X(BRIDGE_ENGINE_HEALTHY, GAUGE, "jetrouter_bridge_engine_healthy", "", "worker_id",                \
  JR_SETS_WORKER, NONE, "1 while the engine's /health answers")
/* clang-format on */

#endif
