/* SPDX-License-Identifier: Apache-2.0 */
/* limit: how often each limit of base/limits.h was reached, that can be while a process serves. Counts
 * of the process, told by /metrics and by nothing else: nobody decides by them, so that the pure layers
 * count, too. Any thread; a count is one relaxed addition, where something is refused anyway.
 *
 *     if (n > JR_PROMPT_TOKENS_MAX)
 *         return jr_limit(JR_LIMIT_PROMPT_TOKENS);
 *
 * X(KEY, name): the limit is JR_<KEY>_MAX, or JR_<KEY> where that is its name. */
#ifndef JR_BASE_LIMIT_H
#define JR_BASE_LIMIT_H

#include "base/err.h"
#include <stdint.h>

/* clang-format off */
#define JR_LIMIT_TABLE(X)                                                                          \
    X(ACCESS_LOG_BUFFER, "access_log_buffer")                                                      \
    X(BATCH_BYTES, "batch_bytes")                                                                  \
    X(BATCH_EVENTS, "batch_events")                                                                \
    X(BRIDGES, "bridges")                                                                          \
    X(BUSY_MODELS, "busy_models")                                                                  \
    X(ENGINE_FILE, "engine_file")                                                                  \
    X(EVENT_BLOCKS, "event_blocks")                                                                \
    X(FRONT_TICKETS, "front_tickets")                                                              \
    X(HOLDS, "holds")                                                                              \
    X(HOLDS_BYTES, "holds_bytes")                                                                  \
    X(HTTP_CONNS, "http_conns")                                                                    \
    X(HTTP_FRAMING, "http_framing")                                                                \
    X(HTTP_HEADER_BYTES, "http_header_bytes")                                                      \
    X(HTTP_HEADERS, "http_headers")                                                                \
    X(HTTP_TARGET, "http_target")                                                                  \
    X(MSGPACK_DEPTH, "msgpack_depth")                                                              \
    X(OPENAI_DEPTH, "openai_depth")                                                                \
    X(OTLP_TRIES, "otlp_tries")                                                                    \
    X(OUTLIERS, "outliers")                                                                        \
    X(OUTSIDE_WORDS, "outside_words")                                                              \
    X(POOLS, "pools")                                                                              \
    X(PROMPT_BLOCKS, "prompt_blocks")                                                              \
    X(PROMPT_TOKENS, "prompt_tokens")                                                              \
    X(QUEUE, "queue")                                                                              \
    X(QUEUE_MODELS, "queue_models")                                                                \
    X(RANKS_INLINE, "ranks_inline")                                                                \
    X(REPLICAS, "replicas")                                                                        \
    X(REQUESTS, "requests")                                                                        \
    X(SESSION_NAME, "session_name")                                                                \
    X(SESSIONS, "sessions")                                                                        \
    X(SKIPS, "skips")                                                                              \
    X(SPAN_BYTES, "span_bytes")                                                                    \
    X(SPAN_QUEUE, "span_queue")                                                                    \
    X(STATE_RANKS, "state_ranks")                                                                  \
    X(SYNC_DELTAS, "sync_deltas")                                                                  \
    X(TOKENIZER_ASKS, "tokenizer_asks")                                                            \
    X(TOKENIZER_BYTES, "tokenizer_bytes")                                                          \
    X(WORKERS, "workers")
/* clang-format on */

enum jr_limit {
#define X(key, name) JR_LIMIT_##key,
    JR_LIMIT_TABLE(X)
#undef X
        JR_LIMITS
};

/* Counts it: where the answer is not an error's name. */
void jr_limit_reached(enum jr_limit limit);
/* Counts it; returns JR_ELIMIT. */
static inline int jr_limit(enum jr_limit limit)
{
    jr_limit_reached(limit);
    return JR_ELIMIT;
}
/* Counts it when err is JR_ELIMIT; returns err. */
static inline int jr_limit_of(enum jr_limit limit, int err)
{
    return err == JR_ELIMIT ? jr_limit(limit) : err;
}
uint64_t jr_limit_count(enum jr_limit limit);
const char *jr_limit_name(enum jr_limit limit);

#endif
