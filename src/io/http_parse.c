/* SPDX-License-Identifier: Apache-2.0 */
/* Reading requests: from bytes to a request that is handed to the server's owner. */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

void jr_http_conn_on_body(void *ctx, const char *p, size_t n)
{
    struct jr_http_conn *c = ctx;

    c->body_refused = c->body_refused || jr_http_body_room(c, c->body_n + n) < 0;
    if (c->body_refused)
        return;
    memcpy(c->body + c->body_n, p, n);
    c->body_n += n;
}

static void refuse(struct jr_http_conn *c)
{
    jr_http_conn_refuse(c, c->h1.refuse_status, c->h1.refuse_words);
}

static void refuse_body(struct jr_http_conn *c)
{
    jr_http_conn_refuse(c, 503, "too many request bodies are under way: retry later");
}

/* The head of n bytes lies at in_start. false: refused. */
static bool take_head(struct jr_http_conn *c, size_t n)
{
    const int err = jr_http1_request_head(&c->h1, c->in + c->in_start, n);

    c->in_start += n;
    if (err < 0) {
        refuse(c);
        return false;
    }
    c->req.http10 = c->h1.http10;
    c->req.is_head = c->h1.is_head;
    c->req.tag = NULL;
    c->req.keep_alive = c->h1.keep_alive;
    c->body_len = (size_t)c->h1.body_len;
    return true;
}

static void hand_over(struct jr_http_conn *c)
{
    struct jr_http_server *s = c->server;

    jr_sm_move(&c->sm, JR_HTTP_ANSWER, "request");
    jr_http_conn_deadline(c, s->config.idle_timeout_ms);
    c->stall_queue = 0;
    c->req.id = ++s->next_id;
    c->req.owned = true;
    c->served++;
    s->stats.requests_total++;
    s->config.on_request(s->config.ctx, &c->req);
}

static void send_continue(struct jr_http_conn *c)
{
    if (!c->h1.expects || c->in_end > c->in_start)
        return;
    jr_buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    jr_http_conn_send(c, NULL, 0);
}

/* A body of declared length that did not come with the head needs room. false: there is none. */
static bool claim_body(struct jr_http_conn *c)
{
    const size_t have = c->in_end - c->in_start;
    const size_t first = c->body_len < JR_HTTP_BODY_LEAST ? c->body_len : JR_HTTP_BODY_LEAST;

    if (c->h1.chunked || have >= c->body_len ||
        jr_http_body_room(c, first > have ? first : have) == 0)
        return true;
    refuse_body(c);
    return false;
}

static void await_body(struct jr_http_conn *c, enum jr_http_state state)
{
    const uint32_t most = c->server->config.body_timeout_ms;

    jr_sm_move(&c->sm, (int)state, "head");
    c->body_due_ms = most > 0 ? jr_loop_now_ms(c->server->loop) + most : 0;
    jr_http_conn_await_body(c);
}

/* A request with a large body may wait for long: of what it was read with only its head is kept, with
 * a little room, by which it is seen that the client goes away. */
static void keep_head(struct jr_http_conn *c, size_t n)
{
    const char *head = c->in + c->in_start - n;
    char *p;

    if (c->body_len < JR_HTTP_BODY_LEAST || n + JR_HTTP_IN_LITTLE >= c->in_cap)
        return;
    p = jr_xrealloc(NULL, n + JR_HTTP_IN_LITTLE);
    memcpy(p, head, n);
    jr_http1_request_moved(&c->h1, head, n, p);
    jr_http_conn_release_in(c);
    c->in = p;
    c->in_cap = n + JR_HTTP_IN_LITTLE;
    c->in_start = c->in_end = n;
}

/* The body of declared length: in place when it came with the head, else into its buffer, which
 * later reads fill directly. Before it lie the n bytes of the head. */
static void begin_body(struct jr_http_conn *c, size_t n)
{
    const size_t have = c->in_end - c->in_start;

    if (have >= c->body_len) {
        c->req.body = jr_str_of(c->in + c->in_start, c->body_len);
        c->in_start += c->body_len;
        hand_over(c);
        return;
    }
    memcpy(c->body, c->in + c->in_start, have);
    c->body_n = have;
    c->in_end = c->in_start;
    keep_head(c, n);
    await_body(c, JR_HTTP_BODY);
}

/* true: state moved on, look again; false: more bytes are needed. */
static bool advance_head(struct jr_http_conn *c)
{
    size_t n = 0;
    const size_t have = c->in_end - c->in_start;
    const int rv = jr_http1_request_scan(&c->h1, c->in + c->in_start, have, &n);

    if (rv < 0) {
        refuse(c);
        return false;
    }
    if (rv == 0) {
        if (!c->head_deadline)
            jr_http_conn_deadline(c, c->server->config.header_timeout_ms);
        c->head_deadline = true;
        return false;
    }
    c->head_deadline = false;
    jr_http_conn_make_room(c); /* the last time before views pin it */
    if (!take_head(c, n) || !claim_body(c))
        return false;
    if (c->h1.chunked || c->body_len > 0)
        send_continue(c);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return false;
    if (c->h1.chunked)
        await_body(c, JR_HTTP_CHUNKED);
    else
        begin_body(c, n);
    return true;
}

static bool advance_body(struct jr_http_conn *c)
{
    if (c->body_n < c->body_len) {
        if (c->body_n == c->body_cap &&
            jr_http_body_room(c, c->body_len < 2 * c->body_cap ? c->body_len : 2 * c->body_cap) < 0)
            refuse_body(c);
        return false;
    }
    c->req.body = jr_str_of(c->body, c->body_len);
    hand_over(c);
    return true;
}

static bool advance_chunked(struct jr_http_conn *c)
{
    const size_t n = c->in_end - c->in_start;
    size_t used = 0;
    const int rv = jr_http1_request_chunked(&c->h1, c->in + c->in_start, n, &used);

    if (rv < 0) {
        refuse(c);
        return false;
    }
    if (c->body_refused) {
        refuse_body(c);
        return false;
    }
    if (rv == 0) {
        c->in_end = c->in_start; /* taken whole: the next read begins where this one did */
        return false;
    }
    c->in_start += used;
    c->req.body = jr_str_of(c->body, c->body_n);
    hand_over(c);
    return true;
}

/* A request begins: nothing of the one before is left. */
static void begin_request(struct jr_http_conn *c)
{
    jr_http1_request_begin(&c->h1);
    c->req = (struct jr_http_request){0};
    c->body_n = c->body_len = 0;
    c->head_deadline = c->body_refused = false;
    jr_sm_move(&c->sm, JR_HTTP_HEAD, "byte");
}

static bool advance_idle(struct jr_http_conn *c)
{
    const size_t n = c->in_end - c->in_start;
    size_t skip = 0;
    const bool first = n > 0 && jr_http1_request_first(c->in + c->in_start, n, &skip);

    c->in_start += skip;
    if (first)
        begin_request(c);
    else if (skip == n)
        jr_http_conn_release_in(c);
    return first;
}

void jr_http_conn_advance(struct jr_http_conn *c)
{
    bool again = !c->advancing;

    if (!again)
        return;
    c->advancing = true;
    while (again) {
        switch (jr_http_state(c)) {
        case JR_HTTP_IDLE:
            again = advance_idle(c);
            break;
        case JR_HTTP_HEAD:
            again = advance_head(c);
            break;
        case JR_HTTP_BODY:
            again = advance_body(c);
            break;
        case JR_HTTP_CHUNKED:
            again = advance_chunked(c);
            break;
        case JR_HTTP_ANSWER:
            if (c->in_end == c->in_cap)
                jr_http_conn_stop_reading(c);
            again = false;
            break;
        default:
            again = false;
            break;
        }
    }
    c->advancing = false;
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        jr_http_conn_maybe_free(c);
}
