/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/otlp_codec.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "wire/pb.h"

#include <opentelemetry/otlp_trace.pb-c.h>
#include <string.h>

#define FLAGS_KNOWN  0x100u /* of a span's flags: whether its parent is remote is known */
#define FLAGS_REMOTE 0x200u
#define STATUS_ERROR 2

/* ---- texts ---- */

/* Cleaned texts of one message. Places in a buffer that grows, until all are written. */
struct text {
    size_t at, n;
};

/* Not within a sequence: the bytes 10xxxxxx go with those before. */
static size_t cut_at(struct jr_str s, size_t most)
{
    size_t n = s.n < most ? s.n : most;
    while (n < s.n && n > 0 && ((uint8_t)s.p[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static struct text put_text(struct jr_buf *b, struct jr_str s, size_t most)
{
    struct text t = {.at = b->n};
    if (s.n)
        jr_buf_utf8(b, s.p, cut_at(s, most));
    t.n = b->n - t.at;
    return t;
}

static ProtobufCBinaryData view(const struct jr_buf *b, struct text t)
{
    return (ProtobufCBinaryData){.len = t.n, .data = t.n ? b->p + t.at : NULL};
}

/* ---- attributes ---- */

struct attrs {
    Otlp__KeyValue pairs[JR_SPAN_ATTRS_MAX];
    Otlp__AnyValue values[JR_SPAN_ATTRS_MAX];
    Otlp__KeyValue *list[JR_SPAN_ATTRS_MAX];
    struct text texts[JR_SPAN_ATTRS_MAX];
};

static void put_texts(struct attrs *a, const struct jr_otlp_attr *v, uint32_t n, struct jr_buf *b)
{
    JR_ASSERT(n <= JR_SPAN_ATTRS_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (v[i].type == JR_OTLP_TEXT)
            a->texts[i] = put_text(b, v[i].text, JR_SPAN_TEXT_MAX);
}

static void set_value(Otlp__AnyValue *value, const struct jr_otlp_attr *v, ProtobufCBinaryData text)
{
    otlp__any_value__init(value);
    switch (v->type) {
    case JR_OTLP_TEXT:
        value->value_case = OTLP__ANY_VALUE__VALUE_TEXT;
        value->text = text;
        break;
    case JR_OTLP_NUMBER:
        value->value_case = OTLP__ANY_VALUE__VALUE_NUMBER;
        value->number = v->number;
        break;
    case JR_OTLP_REAL:
        value->value_case = OTLP__ANY_VALUE__VALUE_REAL;
        value->real = v->real;
        break;
    case JR_OTLP_FLAG:
        value->value_case = OTLP__ANY_VALUE__VALUE_FLAG;
        value->flag = v->flag;
        break;
    }
}

/* protobuf-c's types are not const; it does not write to what it packs. */
static char *unconst(const char *s)
{
    return (char *)(uintptr_t)s;
}

static void set_attrs(struct attrs *a, const struct jr_otlp_attr *v, uint32_t n,
                      const struct jr_buf *texts)
{
    for (uint32_t i = 0; i < n; i++) {
        ProtobufCBinaryData text = {0};
        if (v[i].type == JR_OTLP_TEXT)
            text = view(texts, a->texts[i]);
        otlp__key_value__init(&a->pairs[i]);
        set_value(&a->values[i], &v[i], text);
        a->pairs[i].key = unconst(v[i].key);
        a->pairs[i].value = &a->values[i];
        a->list[i] = &a->pairs[i];
    }
}

int jr_otlp_encode_resource(const struct jr_otlp_attr *attrs, uint32_t n, struct jr_buf *b)
{
    struct attrs a;
    struct jr_buf texts;
    Otlp__Resource r = OTLP__RESOURCE__INIT;
    jr_buf_init(&texts, JR_SPAN_BYTES_MAX);
    put_texts(&a, attrs, n, &texts);
    set_attrs(&a, attrs, n, &texts);
    r.n_attributes = n;
    r.attributes = a.list;
    int err = texts.err < 0 ? texts.err : jr_pb_pack(&r.base, b);
    jr_buf_deinit(&texts);
    return err;
}

/* ---- spans ---- */

/* All that a span's message points to. */
struct parts {
    struct attrs attrs;
    struct text name, state, words;
    Otlp__Event event;
    Otlp__Event *events[1];
    Otlp__Status status;
};

static void put_span_texts(struct parts *p, const struct jr_otlp_span *s, struct jr_buf *texts)
{
    struct jr_str none = {NULL, 0};
    put_texts(&p->attrs, s->attrs, s->n_attrs, texts);
    p->name = put_text(texts, s->name, JR_SPAN_TEXT_MAX);
    p->words = put_text(texts, s->words, JR_SPAN_TEXT_MAX);
    p->state = put_text(texts, s->trace_state.n <= JR_TRACE_STATE_MAX ? s->trace_state : none,
                        JR_TRACE_STATE_MAX);
}

static ProtobufCBinaryData bytes(const uint8_t *p, size_t n)
{
    return (ProtobufCBinaryData){.len = n, .data = (uint8_t *)(uintptr_t)p};
}

static void set_ids(Otlp__Span *to, const struct jr_otlp_span *s)
{
    to->trace_id = bytes(s->context.trace_id, sizeof s->context.trace_id);
    to->span_id = bytes(s->context.span_id, sizeof s->context.span_id);
    if (s->has_parent)
        to->parent_span_id = bytes(s->parent_id, sizeof s->parent_id);
    to->flags =
        s->context.flags | FLAGS_KNOWN | (s->has_parent && s->parent_is_remote ? FLAGS_REMOTE : 0);
}

static void set_event(Otlp__Span *to, struct parts *p, const struct jr_otlp_event *event)
{
    if (!event)
        return;
    otlp__event__init(&p->event);
    p->event.time_unix_nano = (uint64_t)event->unix_ns;
    p->event.name = unconst(event->name);
    p->events[0] = &p->event;
    to->n_events = 1;
    to->events = p->events;
}

static void set_status(Otlp__Span *to, struct parts *p, const struct jr_otlp_span *s,
                       const struct jr_buf *texts)
{
    if (!s->failed)
        return;
    otlp__status__init(&p->status);
    p->status.code = STATUS_ERROR;
    p->status.message = view(texts, p->words);
    to->status = &p->status;
}

int jr_otlp_encode_span(const struct jr_otlp_span *s, struct jr_buf *b)
{
    struct parts p;
    struct jr_buf texts;
    Otlp__Span m = OTLP__SPAN__INIT;
    jr_buf_init(&texts, JR_SPAN_BYTES_MAX);
    put_span_texts(&p, s, &texts);
    set_ids(&m, s);
    set_attrs(&p.attrs, s->attrs, s->n_attrs, &texts);
    set_event(&m, &p, s->event);
    set_status(&m, &p, s, &texts);
    m.name = view(&texts, p.name);
    m.trace_state = view(&texts, p.state);
    m.kind = s->kind;
    m.start_time_unix_nano = (uint64_t)s->start_unix_ns;
    m.end_time_unix_nano = (uint64_t)s->end_unix_ns;
    m.n_attributes = s->n_attrs;
    m.attributes = p.attrs.list;
    int err = texts.err < 0 ? texts.err : jr_pb_pack(&m.base, b);
    jr_buf_deinit(&texts);
    return err;
}

/* ---- request and answer ---- */

int jr_otlp_encode_request(const struct jr_otlp_request *r, struct jr_buf *b)
{
    Otlp__Scope scope = OTLP__SCOPE__INIT;
    Otlp__ScopeSpans spans = OTLP__SCOPE_SPANS__INIT;
    Otlp__ResourceSpans resource = OTLP__RESOURCE_SPANS__INIT;
    Otlp__ExportRequest m = OTLP__EXPORT_REQUEST__INIT;
    ProtobufCBinaryData *list = jr_xalloc((r->n_spans + 1) * sizeof *list);
    for (uint32_t i = 0; i < r->n_spans; i++)
        list[i] = bytes((const uint8_t *)r->spans[i].p, r->spans[i].n);
    scope.name = unconst(r->scope);
    scope.version = unconst(r->version);
    spans.scope = &scope;
    spans.n_spans = r->n_spans;
    spans.spans = list;
    resource.resource = bytes((const uint8_t *)r->resource.p, r->resource.n);
    resource.n_scope_spans = 1;
    resource.scope_spans = (Otlp__ScopeSpans *[]){&spans};
    m.n_resource_spans = 1;
    m.resource_spans = (Otlp__ResourceSpans *[]){&resource};
    int err = jr_pb_pack(&m.base, b);
    jr_xfree(list);
    return err;
}

static void take_refusal(const Otlp__PartialSuccess *p, uint64_t *ret_rejected,
                         struct jr_errmsg *ret_words)
{
    int n = p->error_message.len < JR_SPAN_TEXT_MAX ? (int)p->error_message.len : JR_SPAN_TEXT_MAX;
    *ret_rejected = p->rejected_spans > 0 ? (uint64_t)p->rejected_spans : 0;
    if (n > 0)
        (void)jr_errmsg_set(ret_words, 0, "%.*s", n, (const char *)p->error_message.data);
}

int jr_otlp_decode_response(const void *p, size_t n, uint64_t *ret_rejected,
                            struct jr_errmsg *ret_words)
{
    struct jr_arena arena;
    ProtobufCMessage *m;
    jr_arena_init(&arena, (size_t)4 * JR_OTLP_REPLY_MAX);
    int err = n > JR_OTLP_REPLY_MAX
                  ? JR_ELIMIT
                  : jr_pb_unpack(&otlp__export_response__descriptor, &arena, p, n, &m);
    if (err == 0) {
        const Otlp__ExportResponse *r = (const Otlp__ExportResponse *)(const void *)m;
        *ret_rejected = 0;
        if (r->partial_success)
            take_refusal(r->partial_success, ret_rejected, ret_words);
    }
    jr_arena_deinit(&arena);
    return err;
}
