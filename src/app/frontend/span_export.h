/* SPDX-License-Identifier: Apache-2.0 */
/* span_export: spans that have ended, to an OpenTelemetry collector (OTLP/HTTP, protobuf). Each HTTP loop
 * has its own, so that loops share nothing; its loop's thread only.
 *
 *     add ─► [queue, bounded] ─ enough, or some time ─► batch ─ POST ─► 2xx: sent, or refused by it
 *              │ full             a batch at a time        ▲   │ 429 502 503 504, no answer
 *              └─► dropped                                 └─ wait, longer each time; Retry-After
 *                                                              │ any other, or JR_OTLP_TRIES_MAX times
 *                                                              └─► dropped
 *
 * Requests never wait for it, and whatever is dropped is counted (jetrouter_trace_spans_total). */
#ifndef JR_APP_FRONTEND_SPAN_EXPORT_H
#define JR_APP_FRONTEND_SPAN_EXPORT_H

#include "app/metrics.h"
#include "io/http_client.h"
#include "wire/otlp_codec.h"

struct jr_config;
struct jr_span_export;

struct jr_span_export_config {
    struct jr_loop *loop;          /* borrows these three */
    struct jr_http_client *client; /* of the same loop; its rules for https hold here, too */
    struct jr_metrics *metrics;
    const char *url;                     /* copied; as it is asked */
    const char *headers;                 /* copied; "Name: value\r\n" lines, or NULL */
    const struct jr_otlp_attr *resource; /* who we are; borrowed for the call */
    uint32_t n_resource;
    uint32_t queue_max, batch_max; /* spans; 0 < batch_max <= queue_max */
    uint32_t delay_ms;             /* that the first one of a batch may wait for others */
    uint32_t timeout_ms;           /* of one request */
    uint32_t retry_ms;             /* before the second try; then twice as long each time */
    uint64_t seed;                 /* of how the waits of loops and replicas differ */
};

struct jr_span_export *jr_span_export_create(const struct jr_span_export_config *config);
/* One span more, which is encoded here: borrows. */
void jr_span_export_add(struct jr_span_export *e, const struct jr_otlp_span *span);
/* Sends what is left, each batch once, for JR_OTLP_FLUSH_MS at most; cb is called once, perhaps within.
 * The client must live until then. */
void jr_span_export_close(struct jr_span_export *e, void (*cb)(void *ctx), void *ctx);
/* After close, or before anything was added. NULL is fine; from any thread once its loop has ended. */
void jr_span_export_destroy(struct jr_span_export *e);

#endif
