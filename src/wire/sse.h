/* SPDX-License-Identifier: Apache-2.0 */
/* sse: incremental reader of server-sent events (WHATWG HTML, §9.2.6). Bytes come in pieces of any
 * size; each whole event is handed to a callback. Events that lie in one piece are not copied.
 * Pure; one thread at a time.
 *
 *     data: {"id":1}\n\n          ──► fn({data: {"id":1}})
 *     event: error\n: words\n\n   ──► fn({event: error, comment: words})   Dynamo's annotations
 *     data: [DONE]\n\n            ──► fn({data: [DONE], done})
 */
#ifndef JR_WIRE_SSE_H
#define JR_WIRE_SSE_H

#include "base/str.h"

struct jr_sse_event {
    struct jr_str event;   /* n == 0: not named */
    struct jr_str data;    /* several data lines are joined by '\n' */
    struct jr_str comment; /* the last comment line, without ": " */
    bool done;             /* data is [DONE] */
};

/* Views are borrowed for the call. A value other than 0 stops the feed and is returned by it. */
typedef int jr_sse_fn(void *ctx, const struct jr_sse_event *ev);

struct jr_sse {
    struct jr_buf line;                 /* a line whose end has not come */
    struct jr_buf data, event, comment; /* fields of an event whose end has not come */
    bool has_data, has_event, has_comment;
    bool skip_lf; /* the last byte was CR */
    bool started; /* a byte order mark can no longer come */
    int err;      /* sticky */
    uint64_t events;
};

/* event_max bounds the bytes kept of one event and of one line. */
void jr_sse_init(struct jr_sse *s, size_t event_max);
void jr_sse_deinit(struct jr_sse *s);
/* JR_ELIMIT when an event is longer than event_max: the reader stays broken (relaying goes on
 * without it); JR_ENOMEM; or what fn returned, and then the rest of this piece is lost. */
JR_MUST_CHECK int jr_sse_feed(struct jr_sse *s, const void *p, size_t n, jr_sse_fn *fn, void *ctx);
/* True when the bytes so far end between two events. */
bool jr_sse_is_clean(const struct jr_sse *s);

#endif
