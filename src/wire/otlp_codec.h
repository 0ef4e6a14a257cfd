/* SPDX-License-Identifier: Apache-2.0 */
/* otlp_codec: spans as OTLP/HTTP wants them (proto/opentelemetry/otlp_trace.proto). Pure; any thread.
 *
 *     span ─ encode_span ─► bytes, kept until ─ encode_request ─► body of POST /v1/traces
 *     its answer ─ decode_response ─► how many spans were refused
 *
 * Texts are borrowed and may hold any bytes: they are written as valid UTF-8, without which a collector
 * refuses all of a request, and cut at JR_SPAN_TEXT_MAX. Keys and names of events are ours. */
#ifndef JR_WIRE_OTLP_CODEC_H
#define JR_WIRE_OTLP_CODEC_H

#include "wire/trace_context.h"

enum jr_otlp_type { JR_OTLP_TEXT, JR_OTLP_NUMBER, JR_OTLP_REAL, JR_OTLP_FLAG };

struct jr_otlp_attr {
    const char *key;
    enum jr_otlp_type type;
    union {
        struct jr_str text;
        int64_t number;
        double real;
        bool flag;
    };
};

struct jr_otlp_event {
    int64_t unix_ns;
    const char *name;
};

enum jr_otlp_kind { JR_OTLP_INTERNAL = 1, JR_OTLP_SERVER = 2, JR_OTLP_CLIENT = 3 };

struct jr_otlp_span {
    struct jr_trace_context context;
    bool has_parent, parent_is_remote;
    uint8_t parent_id[8];
    struct jr_str trace_state; /* left out when it is longer than JR_TRACE_STATE_MAX */
    struct jr_str name;
    enum jr_otlp_kind kind;
    int64_t start_unix_ns, end_unix_ns;
    const struct jr_otlp_attr *attrs;
    uint32_t n_attrs;                  /* JR_SPAN_ATTRS_MAX at most */
    const struct jr_otlp_event *event; /* NULL: none */
    bool failed;
    struct jr_str words; /* why; may be empty */
};

/* Append one message. JR_ELIMIT: it does not fit; b holds what it held. */
JR_MUST_CHECK int jr_otlp_encode_span(const struct jr_otlp_span *s, struct jr_buf *b);
JR_MUST_CHECK int jr_otlp_encode_resource(const struct jr_otlp_attr *attrs, uint32_t n,
                                          struct jr_buf *b);
/* The body of a request: a resource and n spans, as the functions above wrote them. */
struct jr_otlp_request {
    struct jr_str resource;
    const char *scope, *version; /* of what made the spans */
    const struct jr_str *spans;
    uint32_t n_spans;
};
JR_MUST_CHECK int jr_otlp_encode_request(const struct jr_otlp_request *r, struct jr_buf *b);

/* Of the body of an answer 2xx: spans that were not taken, and why. JR_EPROTO, JR_ELIMIT. */
JR_MUST_CHECK int jr_otlp_decode_response(const void *p, size_t n, uint64_t *ret_rejected,
                                          struct jr_errmsg *ret_words);

#endif
