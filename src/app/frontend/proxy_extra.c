/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: what an answer has beside the worker's own words, when the request's nvext asks for it:
 * events at the head of a stream (annotations), and members of its objects (extra_fields). An answer
 * that nobody asked this of is relayed untouched. */
#include "app/frontend/proxy_internal.h"
#include "app/frontend/query.h"

#include "wire/openai_extra.h"

#include <string.h>

#define HELD_MAX ((size_t)4 << 20)  /* an answer that is not streamed, or a line of one that is */
#define OUT_MAX  ((size_t)64 << 20) /* ids of a prompt, in words */

struct jr_proxy_extra {
    bool worker_id, timing;
    bool request_id, token_ids, formatted_prompt;
    bool on; /* the answer is one that has objects */
    struct jr_buf ids;
    struct jr_buf out;
    struct jr_openai_extra objects;
};

static bool is_asked(const struct jr_openai_nvext *n, const char *annotation)
{
    for (uint32_t i = 0; i < n->n_annotations; i++)
        if (jr_str_eq(n->annotations[i], annotation))
            return true;
    return false;
}

void jr_proxy_extra_read(struct jr_proxied *x, const struct jr_openai_request *r)
{
    const struct jr_openai_nvext *n = &r->nvext;
    struct jr_proxy_extra e = {
        .worker_id = n->want_worker_id,
        .timing = n->want_timing,
        .request_id = r->stream && is_asked(n, "request_id"),
        .token_ids = r->stream && is_asked(n, "token_ids"),
        .formatted_prompt =
            r->stream && r->prompt == JR_PROMPT_TEXT && is_asked(n, "formatted_prompt"),
    };
    if (x->query_only ||
        !(e.worker_id || e.timing || e.request_id || e.token_ids || e.formatted_prompt))
        return;
    jr_buf_init(&e.ids, OUT_MAX);
    jr_buf_init(&e.out, OUT_MAX);
    jr_openai_extra_init(&e.objects, r->stream, HELD_MAX);
    x->extra = jr_xmemdup(&e, sizeof e);
    x->text = r->prompt_span;
}

void jr_proxy_extra_free(struct jr_proxied *x)
{
    if (!x->extra)
        return;
    jr_buf_deinit(&x->extra->ids);
    jr_buf_deinit(&x->extra->out);
    jr_openai_extra_deinit(&x->extra->objects);
    jr_xfree(x->extra);
    x->extra = NULL;
}

bool jr_proxy_extra_wants_ids(const struct jr_proxied *x)
{
    return x->extra && x->extra->token_ids;
}

void jr_proxy_extra_ids(struct jr_proxied *x, const uint32_t *ids, uint32_t n)
{
    if (jr_proxy_extra_wants_ids(x))
        jr_tokens_write(&x->extra->ids, ids, n);
}

/* ---------------------------------------------------------------- members of the objects */

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

/* Dynamo's names. Waiting is all that came before the worker was asked. */
static void put_timing(const struct jr_proxied *x, struct jr_buf *b)
{
    uint64_t now = jr_loop_now_ns(), first = x->first_token_ns ? x->first_token_ns : now;
    double received = (double)jr_unix_ns() / 1e6 - ms_between(x->started_ns, now);
    jr_buf_printf(b,
                  "\"timing\":{\"request_received_ms\":%.0f,\"prefill_wait_time_ms\":%.3f,"
                  "\"prefill_time_ms\":%.3f,\"ttft_ms\":%.3f,\"total_time_ms\":%.3f",
                  received, ms_between(x->started_ns, x->sent_ns), ms_between(x->sent_ns, first),
                  ms_between(x->started_ns, first), ms_between(x->started_ns, now));
    if (x->n_prefix && !x->by_text)
        jr_buf_printf(b, ",\"kv_hit_rate\":%.4f", (double)x->overlap_blocks / x->n_prefix);
    jr_buf_puts(b, "}");
}

/* The worker is in every object, timing in the last: the one that says why it ended. */
static void put_members(void *ctx, struct jr_str object, struct jr_buf *b)
{
    const struct jr_proxied *x = ctx;
    const struct jr_proxy_extra *e = x->extra;
    struct jr_openai_reply reply;
    if (jr_openai_reply_parse(object.p, object.n, &reply) < 0 || reply.is_error ||
        memmem(object.p, object.n, "\"nvext\"", 7))
        return; /* the worker's own words stand */
    bool timing = e->timing && (!x->is_sse || reply.n_finished > 0);
    if (!e->worker_id && !timing)
        return;
    jr_buf_puts(b, "\"nvext\":{");
    if (e->worker_id)
        jr_query_put_worker(b, x->worker_id, x->dp_rank);
    if (e->worker_id && timing)
        jr_buf_puts(b, ",");
    if (timing)
        put_timing(x, b);
    jr_buf_puts(b, "}");
}

/* ---------------------------------------------------------------- the answer */

static void put_event(struct jr_buf *b, const char *name, struct jr_str json)
{
    jr_buf_printf(b, "event: %s\n: ", name);
    jr_buf_put(b, json.p, json.n);
    jr_buf_puts(b, "\n\n");
}

static void put_request_id(const struct jr_proxied *x, struct jr_buf *b)
{
    jr_buf_puts(b, "event: request_id\n: \"");
    jr_buf_json_escape(b, x->request_id.p, x->request_id.n);
    jr_buf_puts(b, "\"\n\n");
}

/* The head of the answer has gone out. */
int jr_proxy_extra_begin(struct jr_proxied *x)
{
    struct jr_proxy_extra *e = x->extra;
    struct jr_buf *b = &e->out;
    struct jr_str body = x->asked;
    if (!e->on || !x->is_sse)
        return 0;
    jr_buf_clear(b);
    if (e->request_id)
        put_request_id(x, b);
    if (e->formatted_prompt)
        put_event(b, "formatted_prompt", jr_str_of(body.p + x->text.off, x->text.n));
    if (e->token_ids && e->ids.n && !e->ids.err)
        put_event(b, "token_ids", jr_str_of(jr_buf_str(&e->ids), e->ids.n));
    return b->n && !b->err ? jr_proxy_write_raw(x, b->p, b->n) : 0;
}

/* An answer of 200 whose bytes can be read. Its length is not known before its end then. */
bool jr_proxy_extra_applies(struct jr_proxied *x)
{
    struct jr_proxy_extra *e = x->extra;
    if (!e)
        return false;
    e->on = x->status == 200 && !x->opaque;
    e->objects.is_stream = x->is_sse;
    return e->on && (e->worker_id || e->timing);
}

int jr_proxy_extra_write(struct jr_proxied *x, const void *p, size_t n)
{
    struct jr_proxy_extra *e = x->extra;
    if (!e->on || !(e->worker_id || e->timing))
        return jr_proxy_write_raw(x, p, n);
    jr_buf_clear(&e->out);
    jr_openai_extra_feed(&e->objects, p, n, put_members, x, &e->out);
    return e->out.n ? jr_proxy_write_raw(x, e->out.p, e->out.n) : 0;
}

void jr_proxy_extra_end(struct jr_proxied *x)
{
    struct jr_proxy_extra *e = x->extra;
    if (!e || !e->on)
        return;
    jr_buf_clear(&e->out);
    jr_openai_extra_end(&e->objects, put_members, x, &e->out);
    if (e->out.n)
        (void)!jr_proxy_write_raw(x, e->out.p, e->out.n);
}
