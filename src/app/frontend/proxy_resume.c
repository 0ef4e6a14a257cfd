/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: a stream whose worker dies goes on at another one, which gets the prompt and what was
 * produced of the answer. The client sees one stream.
 *
 *     first part: bytes, up to the end of the last whole event; ids are noted as they pass by
 *     later ones: each event is written anew, in the words of the first (wire/openai_splice)
 *
 * Only of a completion that came as token ids and whose stream names the ids it is made of
 * (return_token_ids): else nobody knows what was produced. Never of a pinned one. */
#include "app/frontend/proxy_internal.h"

#include "base/log.h"
#include "wire/openai_splice.h"

#include <string.h>

#define IDS_MAX   ((size_t)4 << 20) /* text of the ids produced */
#define HELD_MAX  ((size_t)1 << 20) /* of an event whose end has not come */
#define NAMES_MAX 4096
#define BODY_MORE 64 /* what numbers may grow by */

struct jr_proxy_resume {
    struct jr_buf ids; /* "7,8": all that were produced, of all parts */
    uint64_t n_ids;
    bool text_is_late;   /* the last ids came without text: the engine holds it back */
    struct jr_buf held;  /* of an event whose end has not come */
    struct jr_buf out;   /* of a later part: the event being written */
    struct jr_buf names; /* what splice.head views */
    struct jr_openai_splice splice;
    bool later;
    int blocked;         /* JR_EAGAIN: some event of this piece filled the client's queue */
    struct jr_str first; /* the body of the first part */
    struct jr_buf first_own;
};

void jr_proxy_resume_free(struct jr_proxied *x)
{
    struct jr_proxy_resume *r = x->resume;
    x->resume = NULL;
    if (!r)
        return;
    jr_buf_deinit(&r->ids);
    jr_buf_deinit(&r->held);
    jr_buf_deinit(&r->out);
    jr_buf_deinit(&r->names);
    jr_buf_deinit(&r->first_own);
    jr_xfree(r);
}

bool jr_proxy_resumes(const struct jr_proxied *x)
{
    return x->resume && x->resume->later;
}

uint64_t jr_proxy_resume_produced(const struct jr_proxied *x)
{
    return x->resume ? x->resume->splice.produced : 0;
}

/* ---------------------------------------------------------------- what passes by */

static void keep_head(struct jr_proxy_resume *r, struct jr_str chunk)
{
    struct jr_openai_chunk_head h;
    if (jr_openai_chunk_head(chunk, &h) < 0)
        return;
    struct jr_str *const v[] = {&h.id, &h.created, &h.model};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        jr_buf_put(&r->names, v[i]->p, v[i]->n);
    if (r->names.err)
        return;
    const char *at = jr_buf_str(&r->names);
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        *v[i] = jr_str_of(at, v[i]->n);
        at += v[i]->n;
    }
    r->splice.head = h;
}

static struct jr_proxy_resume *begin(struct jr_proxied *x, const struct jr_sse_event *ev)
{
    struct jr_proxy_resume *r = jr_xalloc(sizeof *r);
    jr_buf_init(&r->ids, IDS_MAX);
    jr_buf_init(&r->held, HELD_MAX);
    jr_buf_init(&r->out, 2 * HELD_MAX);
    jr_buf_init(&r->names, NAMES_MAX);
    jr_buf_init(&r->first_own, 0);
    r->splice.prompt_tokens = x->n_tokens;
    keep_head(r, ev->data);
    return r;
}

static void note(struct jr_proxied *x, const struct jr_sse_event *ev)
{
    const struct jr_openai_progress *p = &x->progress;
    if (p->n_token_ids == 0)
        return;
    if (!x->resume)
        x->resume = begin(x, ev);
    struct jr_proxy_resume *r = x->resume;
    if (r->ids.n)
        jr_buf_put(&r->ids, ",", 1);
    jr_buf_put(&r->ids, p->token_ids.p + 1, p->token_ids.n - 2); /* without the brackets */
    r->n_ids += p->n_token_ids;
    r->text_is_late = !p->has_text;
}

/* An event of a later part, as one of the whole. */
static int write_event(struct jr_proxied *x, const struct jr_sse_event *ev)
{
    struct jr_proxy_resume *r = x->resume;
    struct jr_buf *b = &r->out;
    int err = memchr(ev->data.p ? ev->data.p : "", '\n', ev->data.n) ? JR_EPROTO : 0;
    jr_buf_clear(b);
    if (ev->event.n)
        jr_buf_printf(b, "event: %.*s\n", (int)ev->event.n, ev->event.p);
    if (ev->comment.n)
        jr_buf_printf(b, ": %.*s\n", (int)ev->comment.n, ev->comment.p);
    if (ev->data.n)
        jr_buf_puts(b, "data: ");
    if (ev->done)
        jr_buf_put(b, ev->data.p, ev->data.n);
    else if (ev->data.n && err == 0)
        err = jr_openai_splice_chunk(ev->data, &r->splice, b);
    jr_buf_puts(b, ev->data.n ? "\n\n" : "\n");
    if (err < 0 || b->err)
        return err < 0 ? err : b->err;
    if (jr_proxy_write(x, b->p, b->n) == JR_EAGAIN)
        r->blocked = JR_EAGAIN;
    return 0;
}

int jr_proxy_resume_event(struct jr_proxied *x, const struct jr_sse_event *ev)
{
    note(x, ev);
    return jr_proxy_resumes(x) ? write_event(x, ev) : 0;
}

/* Bytes up to the end of the last event that ends in p. */
static size_t whole_events(const uint8_t *p, size_t n)
{
    for (size_t i = n; i-- > 1;) {
        if (p[i] != '\n')
            continue;
        if (p[i - 1] == '\n' || (i > 1 && p[i - 1] == '\r' && p[i - 2] == '\n'))
            return i + 1;
    }
    return 0;
}

/* An event too long to be held: relayed as it comes, and not gone on with. */
static int give_up(struct jr_proxied *x, const void *p, size_t n)
{
    struct jr_buf *held = &x->resume->held;
    int err = held->n ? jr_proxy_write(x, held->p, held->n) : 0;
    jr_proxy_resume_free(x);
    x->may_resume = false;
    int err2 = jr_proxy_write(x, p, n);
    return err2 ? err2 : err;
}

int jr_proxy_resume_relay(struct jr_proxied *x, const void *p, size_t n)
{
    struct jr_proxy_resume *r = x->resume;
    if (r->later) {
        int err = r->blocked;
        r->blocked = 0;
        return err;
    }
    if (r->held.n + n > HELD_MAX)
        return give_up(x, p, n);
    if (r->held.n == 0) {
        size_t whole = whole_events(p, n);
        jr_buf_put(&r->held, (const char *)p + whole, n - whole);
        return whole ? jr_proxy_write(x, p, whole) : 0;
    }
    jr_buf_put(&r->held, p, n);
    size_t whole = whole_events(r->held.p, r->held.n);
    int err = whole ? jr_proxy_write(x, r->held.p, whole) : 0;
    jr_buf_consume(&r->held, whole);
    return err;
}

void jr_proxy_resume_rest(struct jr_proxied *x)
{
    struct jr_proxy_resume *r = x->resume;
    if (r && !r->later && r->held.n)
        (void)!jr_proxy_write(x, r->held.p, r->held.n);
}

/* ---------------------------------------------------------------- the rest */

/* All that was relayed is known as ids, and more is to come. */
static bool is_known(const struct jr_proxied *x)
{
    const struct jr_proxy_resume *r = x->resume;
    const struct jr_openai_progress *p = &x->progress;
    if (!r || r->ids.err || r->held.err || r->text_is_late || x->sse_broken || p->bad_chunks)
        return false;
    if (p->finished || p->done || p->failed || p->n_content != r->n_ids)
        return false;
    return !r->held.n ||
           !memchr(r->held.p, '\r', r->held.n); /* may be a whole event to the reader */
}

static bool may_go_on(const struct jr_proxied *x)
{
    return is_known(x) && x->attempts <= x->f->migration_limit && jr_proxy_time_left_ms(x) > 0;
}

/* Gives up the present part's body, but keeps that of the first. */
static void take_body(struct jr_proxied *x, struct jr_buf *body)
{
    struct jr_proxy_resume *r = x->resume;
    if (r->later)
        jr_buf_deinit(&x->own_body);
    else
        r->first_own = x->own_body;
    x->own_body = *body;
    x->body = jr_str_of((const char *)body->p, body->n);
}

/* The prompt is longer now: hashed anew, and booked as what it is. */
static int read_prompt(struct jr_proxied *x, const struct jr_buf *body)
{
    struct jr_front_loop *l = x->l;
    struct jr_openai_request q;
    struct jr_openai_error bad;
    int err = jr_openai_parse(l->parser, x->kind, body->p, body->n, &l->tokens, &q, &bad);
    if (err < 0)
        return err;
    jr_xfree(x->prefix);
    x->prefix = NULL;
    x->n_prefix = 0;
    x->n_tokens = l->tokens.n;
    struct jr_hash_salt salt = {.lora = q.lora_name, .cache_salt = q.cache_salt};
    if (x->f->mode == JR_MODE_KV)
        jr_proxy_take_tokens(x, &salt);
    return 0;
}

static void begin_part(struct jr_proxied *x)
{
    struct jr_proxy_resume *r = x->resume;
    uint64_t now = r->n_ids - r->splice.produced;
    x->expected_output_tokens -=
        now < x->expected_output_tokens ? (uint32_t)now : x->expected_output_tokens;
    x->output_told = 0;
    x->progress.first_token = false;
    jr_sse_deinit(&x->sse);
    jr_sse_init(&x->sse, HELD_MAX);
    jr_buf_clear(&r->held);
    r->later = true;
    r->splice.produced = r->n_ids;
    /* What was relayed ends with an event, perhaps but for its empty line; one more does no harm. */
    if (x->last[0] != '\n' || x->last[1] != '\n')
        (void)!jr_proxy_write(x, "\n", 1);
}

bool jr_proxy_resume(struct jr_proxied *x)
{
    if (!may_go_on(x))
        return false;
    struct jr_proxy_resume *r = x->resume;
    struct jr_buf body;
    if (!r->later)
        r->first = x->body;
    jr_buf_init(&body, r->first.n + r->ids.n + BODY_MORE);
    struct jr_str ids = jr_str_of(jr_buf_str(&r->ids), r->ids.n);
    int err = jr_openai_splice_body(r->first, ids, r->n_ids, &body);
    if (err == 0)
        err = read_prompt(x, &body);
    if (err < 0) {
        jr_buf_deinit(&body);
        return false;
    }
    jr_log(JR_LOG_WARN, "proxy.resume", "worker=%llu produced=%llu",
           (unsigned long long)x->worker_id, (unsigned long long)r->n_ids);
    take_body(x, &body);
    begin_part(x);
    jr_decide_finish(x);
    jr_proxy_leave_out(x);
    jr_metric_add(x->l->metrics, JR_METRIC_FRONTEND_MODEL_MIGRATION_TOTAL,
                  JR_LABELS(x->counted->model, "ongoing_request"), 1);
    jr_proxy_route(x);
    return true;
}
