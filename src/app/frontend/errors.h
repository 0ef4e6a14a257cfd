/* SPDX-License-Identifier: Apache-2.0 */
/* errors: every error answer of the frontend, once: status, OpenAI's code and field, the words, and
 * when it is given. docs/errors.md is made from it. Immutable; any thread.
 *
 * X(KEY, status, code, param, retry, message, when)
 *   KEY      enum jr_error is JR_ERROR_<KEY>
 *   code     of OpenAI's shape; NULL: null
 *   param    the field at fault; NULL: null, or what the caller says
 *   retry    seconds of Retry-After; 0: none
 *   message  unless the caller has better words
 *   when     for the documentation */
#ifndef JR_APP_FRONTEND_ERRORS_H
#define JR_APP_FRONTEND_ERRORS_H

#include <stdbool.h>

/* clang-format off */
#define JR_ERROR_TABLE(X)                                                                          \
X(BAD_BODY, 400, NULL, NULL, 0, "the body is no valid request",                                    \
    "the body is no JSON, or a field is missing or of the wrong kind: the message says which")     \
X(BAD_ROUTE, 400, "bad_route", NULL, 0, "the request cannot be routed as it asks",                 \
    "router mode direct and no worker named, an override out of range, a session that is bound to " \
    "another worker than the one named, or a name of a session longer than 256 bytes")             \
X(PINNED_AWAY, 400, "worker_not_found", NULL, 0, "the worker that the request names is not available", \
    "`x-worker-instance-id` or `nvext` name a worker that is not there")                           \
X(FORBIDDEN, 403, "forbidden", NULL, 0, "/admin is for administrators",                            \
    "administration without the token, or from elsewhere than this machine while there is none; "  \
    "a path that changes one engine (`/v1/load_lora_adapter`, `/v1/unload_lora_adapter`)")         \
X(MODEL_NOT_FOUND, 404, "model_not_found", "model", 0,                                             \
    "no such model is served here: see /v1/models", "no worker serves the model")                  \
X(NO_PATH, 404, NULL, NULL, 0, "there is no such path: requests go to /v1/chat/completions, "      \
    "/v1/completions or another path below /v1", "an unknown path")                                \
X(METHOD, 405, NULL, NULL, 0, "this path is for other methods", "the method is not the path's; "   \
    "`Allow` names those that are")                                                                \
X(CONFLICT, 409, "conflict", NULL, 0, "a request of this id is waiting for a worker already",      \
    "`/select` for a `request_id` that waits in the queue, or `/free` of it meanwhile")            \
X(TARGET_TOO_LONG, 414, NULL, NULL, 0, "the path and query are longer than 4096 bytes",            \
    "path and query together are too long to go on to a worker")                                   \
X(WORKER_FAILED, 502, "worker_failed", NULL, 0, "the worker did not answer",                       \
    "the worker failed before its answer and no other may get the request: it is pinned, or "      \
    "`--migration-limit` others failed too; where one of them had an answer of `--retry-statuses`, "  \
    "that is relayed instead")                                                       \
X(STREAM_CUT, 502, "worker_failed", NULL, 0, "the worker ended its answer before it was whole",    \
    "in a stream, as `event: error`: the worker died and the rest cannot be had elsewhere")        \
X(NO_WORKER, 503, "no_worker", NULL, 1,                                                            \
    "no worker is available: start one, or wait for it to register",                               \
    "there are no workers, or every one that may get the request has failed it without an answer")                   \
X(OVERLOADED, 503, "overloaded", NULL, 1, "All workers are busy, please retry later",              \
    "all workers are above the busy thresholds, or the queue is full; the status is that of "      \
    "`--overload-status`")                                                                         \
X(NO_ROOM, 503, "overloaded", NULL, 1, "too many requests are under way: retry later",             \
    "a limit of this replica or its memory")                                                       \
X(QUEUE_LIMITED, 529, "queue_limit", NULL, 1,                                                       \
    "All workers are busy and the queue of the request's policy class is full, please retry later", \
    "a limit of its class in `--router-policy-config`: `details` has `policy_class`, `limit_kind` " \
    "(`requests`, `raw_isl_tokens`, `cached_tokens`), `current` and `limit`; the status is that of " \
    "`--overload-status` where it is set")                                                         \
X(TIMEOUT, 504, "timeout", NULL, 0,                                                                \
    "no worker answered within --request-timeout-secs: retry later",                               \
    "`--request-timeout-secs` passed before the first byte of an answer, or in the queue; in a "   \
    "stream, as `event: error`, before its end")
/* clang-format on */

enum jr_error {
#define X(key, ...) JR_ERROR_##key,
    JR_ERROR_TABLE(X)
#undef X
        JR_ERROR_COUNT
};

struct jr_error_row {
    int status;
    const char *code, *param;
    unsigned retry_s;
    const char *message, *when;
};

const struct jr_error_row *jr_error_row(enum jr_error error);
/* What a client is told when a pool refused its request (JR_E… of the decision). */
enum jr_error jr_error_of_refusal(int err, bool has_pin);

#endif
