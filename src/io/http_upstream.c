/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_upstream.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

static const struct jr_sm_row rows[] = {
    [JR_UPSTREAM_RESOLVE] = {"resolve",
                             JR_SM_TO(JR_UPSTREAM_CONNECT) | JR_SM_TO(JR_UPSTREAM_CLOSED),
                             JR_SM_INITIAL},
    [JR_UPSTREAM_CONNECT] = {"connect", JR_SM_TO(JR_UPSTREAM_WAIT) | JR_SM_TO(JR_UPSTREAM_CLOSED),
                             0},
    [JR_UPSTREAM_IDLE] = {"idle", JR_SM_TO(JR_UPSTREAM_WAIT) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_WAIT] = {"wait", JR_SM_TO(JR_UPSTREAM_BODY) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_BODY] = {"body", JR_SM_TO(JR_UPSTREAM_IDLE) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_CLOSED] = {"closed", 0, JR_SM_FINAL},
};

static const struct jr_sm_table table = {"http.upstream", rows, sizeof rows / sizeof *rows, NULL};

static void fail(struct jr_upstream *c, int err);

static enum jr_upstream_state state_of(const struct jr_upstream *c)
{
    return (enum jr_upstream_state)c->sm.state;
}

/* ---- timer: one per connection, moved lazily ---- */

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct jr_upstream *c, uint64_t now)
{
    c->timer_due_ms = c->deadline_ms;
    uv_timer_start(&c->timer, on_timer, c->deadline_ms > now ? c->deadline_ms - now : 0, 0);
}

/* In delay_ms (0: never), or when the exchange's time is over, if that is sooner. */
static void set_deadline(struct jr_upstream *c, uint64_t delay_ms)
{
    const uint64_t now = jr_loop_now_ms(c->client->loop);
    const uint64_t total = c->x != NULL ? c->x->total_deadline_ms : 0;

    c->deadline_ms = delay_ms == 0 ? 0 : now + delay_ms;
    if (total != 0 && (c->deadline_ms == 0 || total < c->deadline_ms))
        c->deadline_ms = total;
    if (c->deadline_ms != 0 &&
        (!uv_is_active((uv_handle_t *)&c->timer) || c->timer_due_ms > c->deadline_ms))
        arm_timer(c, now);
}

static void on_timer(uv_timer_t *timer)
{
    struct jr_upstream *c = timer->data;
    const uint64_t now = jr_loop_now_ms(c->client->loop);

    if (c->failed != 0)
        fail(c, c->failed);
    else if (c->deadline_ms == 0)
        return;
    else if (now < c->deadline_ms)
        arm_timer(c, now);
    else if (c->x != NULL)
        fail(c, JR_ETIMEOUT);
    else
        jr_upstream_close(c);
}

/* The owner is on the stack: it learns of the failure from the loop. */
static void fail_later(struct jr_upstream *c, int err)
{
    c->failed = err;
    c->deadline_ms = jr_loop_now_ms(c->client->loop);
    arm_timer(c, c->deadline_ms);
}

/* ---- life ---- */

static void maybe_free(struct jr_upstream *c)
{
    struct jr_http_client *client = c->client;
    struct jr_http_host *host = c->host;

    if (c->open_handles > 0 || c->resolving)
        return;
    jr_list_remove(&c->node);
    jr_buf_deinit(&c->head);
    jr_http_fields_deinit(&c->fields);
    jr_xfree(c);
    jr_http_client_conn_gone(client, host);
}

static void on_closed(uv_handle_t *handle)
{
    struct jr_upstream *c = handle->data;

    c->open_handles--;
    maybe_free(c);
}

static void leave_pool(struct jr_upstream *c)
{
    if (jr_list_empty(&c->idle_node))
        return;
    jr_list_remove(&c->idle_node);
    c->host->n_idle--;
}

void jr_upstream_close(struct jr_upstream *c)
{
    if (state_of(c) == JR_UPSTREAM_CLOSED)
        return;
    leave_pool(c);
    c->x = NULL;
    jr_sm_move(&c->sm, JR_UPSTREAM_CLOSED, "close");
    if (c->resolving)
        uv_cancel((uv_req_t *)&c->resolve);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
}

/* Ends the connection and, unless another one may still answer, the exchange. */
static void fail(struct jr_upstream *c, int err)
{
    struct jr_http_exchange *x = c->x;
    const bool stale = c->reused && !c->got_bytes && err == JR_ECONN;
    const bool next_addr = state_of(c) == JR_UPSTREAM_CONNECT && c->more_addrs && err == JR_ECONN;

    JR_ASSERT(x != NULL);
    jr_upstream_close(c);
    if (next_addr) {
        x->conn = jr_upstream_open(c->client, c->host, x, c->addr_index + 1);
    } else if (stale && !x->retried) {
        x->retried = true;
        x->conn = jr_upstream_open(c->client, c->host, x, 0);
    } else {
        jr_http_exchange_end(x, err);
    }
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct jr_upstream *c = handle->data;

    (void)suggested;
    *buf = uv_buf_init(c->client->read, sizeof c->client->read);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void start_reading(struct jr_upstream *c)
{
    if (!c->reading && uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) == 0)
        c->reading = true;
}

void jr_upstream_pause(struct jr_upstream *c, bool pause)
{
    const enum jr_upstream_state state = state_of(c);

    if (state != JR_UPSTREAM_WAIT && state != JR_UPSTREAM_BODY)
        return;
    if (!pause) {
        start_reading(c);
    } else if (c->reading) {
        c->reading = false;
        uv_read_stop((uv_stream_t *)&c->tcp);
    }
}

/* The answer is whole. leftover: bytes behind it, which nobody asked for. */
static void complete(struct jr_upstream *c, size_t leftover)
{
    struct jr_http_exchange *x = c->x;
    struct jr_http_client *client = c->client;

    c->x = NULL;
    if (c->keep_alive && leftover == 0 && c->sending == NULL && !client->closing &&
        c->host->n_idle < client->config.idle_per_host_max) {
        jr_sm_move(&c->sm, JR_UPSTREAM_IDLE, "whole");
        c->reused = true;
        jr_list_push_front(&c->host->idle, &c->idle_node);
        c->host->n_idle++;
        set_deadline(c, client->config.idle_timeout_ms);
        start_reading(c); /* a paused one too: the peer may close it */
    } else {
        jr_upstream_close(c);
    }
    jr_http_exchange_end(x, 0);
}

static int on_field(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_upstream *c = parser->data;

    return !c->head_done && jr_http_fields_name(&c->fields, p, n) < 0 ? HPE_USER : 0;
}

static int on_value(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_upstream *c = parser->data;

    if (!c->head_done)
        jr_http_fields_value(&c->fields, p, n);
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct jr_upstream *c = parser->data;
    const int status = parser->status_code;

    c->head_done = true;
    parser->upgrade = 0;
    if (c->x->is_head)
        parser->flags |= F_SKIPBODY; /* so that keep-alive is judged without a body */
    c->keep_alive = llhttp_should_keep_alive(parser) != 0;
    if (c->x->is_head || status < 200 || status == 204 || status == 304)
        c->framing = JR_FRAMING_NONE;
    else if ((parser->flags & F_CHUNKED) != 0)
        c->framing = JR_FRAMING_CHUNKED;
    else if ((parser->flags & F_TRANSFER_ENCODING) != 0)
        return -1; /* a coding that we did not offer to understand */
    else
        c->framing = (parser->flags & F_CONTENT_LENGTH) != 0 ? JR_FRAMING_LENGTH : JR_FRAMING_EOF;
    c->left = (parser->flags & F_CONTENT_LENGTH) != 0 ? parser->content_length : 0;
    if ((parser->flags & F_CHUNKED) != 0 && (parser->flags & F_CONTENT_LENGTH) != 0)
        return -1;
    parser->flags = (uint16_t)(parser->flags & ~F_SKIPBODY);
    return 0;
}

static int on_body(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_upstream *c = parser->data;

    if (state_of(c) != JR_UPSTREAM_BODY)
        return 0;
    c->overhead = 0;
    c->x->on_data(c->x->ctx, p, n);
    return c->x == NULL ? HPE_USER : 0; /* cancelled by its owner */
}

static int on_message_complete(llhttp_t *parser)
{
    struct jr_upstream *c = parser->data;

    c->message_done = true;
    return HPE_PAUSED;
}

void jr_upstream_settings(llhttp_settings_t *settings)
{
    llhttp_settings_init(settings);
    settings->on_header_field = on_field;
    settings->on_header_value = on_value;
    settings->on_headers_complete = on_headers_complete;
    settings->on_body = on_body;
    settings->on_message_complete = on_message_complete;
}

static void reset_answer(struct jr_upstream *c)
{
    if (c->head.cap > JR_HTTP_HEADER_BYTES_MAX / 4)
        jr_buf_deinit(&c->head);
    jr_buf_clear(&c->head);
    c->scan = (struct jr_http_scan){0};
    c->fields.n = 0;
    c->head_done = c->message_done = false;
    c->overhead = 0;
    llhttp_reset(&c->parser);
}

/* The head of n bytes at p: 0, or JR_EPROTO. Moves on to BODY unless it was a 1xx. */
static int parse_head(struct jr_upstream *c, const char *p, size_t n)
{
    const llhttp_errno_t err = llhttp_execute(&c->parser, p, n);
    const int status = c->parser.status_code;

    if ((err != HPE_OK && !(err == HPE_PAUSED && c->message_done)) || !c->head_done ||
        c->parser.http_major != 1 || status < 100 || status == 101)
        return JR_EPROTO;
    if (status < 200) {
        reset_answer(c);
        return 0;
    }
    jr_sm_move(&c->sm, JR_UPSTREAM_BODY, "head");
    set_deadline(c, 0);
    const struct jr_http_reply reply = {
        .status = status,
        .headers = c->fields.v,
        .n_headers = c->fields.n,
        .content_length = c->framing == JR_FRAMING_CHUNKED || c->framing == JR_FRAMING_EOF
                              ? -1
                              : (int64_t)c->left,
    };
    if (c->x->on_head != NULL)
        c->x->on_head(c->x->ctx, &reply);
    return 0;
}

/* Takes what belongs to the head; *ret_used of the n bytes. */
static int take_head(struct jr_upstream *c, const char *p, size_t n, size_t *ret_used)
{
    const size_t before = c->head.n;
    size_t end = 0;

    if (before > 0) {
        jr_buf_put(&c->head, p, n);
        p = (const char *)c->head.p;
    }
    const int rv = jr_http_scan_head(&c->scan, p, before + n, &end);
    if (rv < 0 || (rv == 0 ? before + n : end) > JR_HTTP_HEADER_BYTES_MAX)
        return JR_EPROTO;
    if (rv == 0) {
        if (before == 0)
            jr_buf_put(&c->head, p, n);
        *ret_used = n;
        return 0;
    }
    *ret_used = end - before;
    return parse_head(c, p, end);
}

static int take_chunked(struct jr_upstream *c, const char *p, size_t n, size_t *ret_used)
{
    c->overhead += n; /* on_body sets it back */
    const llhttp_errno_t err = llhttp_execute(&c->parser, p, n);

    *ret_used = n;
    if (state_of(c) == JR_UPSTREAM_CLOSED)
        return 0;
    if (err == HPE_PAUSED && c->message_done) {
        *ret_used = (size_t)(llhttp_get_error_pos(&c->parser) - p);
        complete(c, n - *ret_used);
        return 0;
    }
    if (err != HPE_OK || c->overhead > JR_HTTP_HEADER_BYTES_MAX + JR_UPSTREAM_READ)
        return JR_EPROTO;
    return 0;
}

static void take_length(struct jr_upstream *c, const char *p, size_t n, size_t *ret_used)
{
    const size_t take = n < c->left ? n : (size_t)c->left;

    *ret_used = take;
    c->left -= take;
    if (take > 0)
        c->x->on_data(c->x->ctx, p, take);
    if (c->x != NULL && c->left == 0)
        complete(c, n - take);
}

static int take_body(struct jr_upstream *c, const char *p, size_t n, size_t *ret_used)
{
    switch (c->framing) {
    case JR_FRAMING_NONE:
        *ret_used = 0;
        complete(c, n);
        return 0;
    case JR_FRAMING_LENGTH:
        take_length(c, p, n, ret_used);
        return 0;
    case JR_FRAMING_CHUNKED:
        return n == 0 ? 0 : take_chunked(c, p, n, ret_used);
    case JR_FRAMING_EOF:
        *ret_used = n;
        if (n > 0)
            c->x->on_data(c->x->ctx, p, n);
        return 0;
    }
    return 0;
}

/* An answer may end in the same bytes as its head: the body's turn comes even with none left. */
static void consume(struct jr_upstream *c, const char *p, size_t n)
{
    while (c->x != NULL) {
        const bool in_body = state_of(c) == JR_UPSTREAM_BODY;
        size_t used = 0;
        if (n == 0 && !in_body)
            return;
        const int err = in_body ? take_body(c, p, n, &used) : take_head(c, p, n, &used);
        if (err < 0) {
            if (c->x != NULL)
                fail(c, err);
            return;
        }
        p += used;
        n -= used;
        if (in_body)
            return; /* all taken, or the exchange is over */
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct jr_upstream *c = stream->data;

    if (n == 0)
        return;
    if (c->x == NULL) { /* pooled: closed by the peer, or it speaks unasked */
        jr_upstream_close(c);
    } else if (n > 0) {
        c->got_bytes = true;
        consume(c, buf->base, (size_t)n);
    } else if (state_of(c) != JR_UPSTREAM_BODY) {
        fail(c, c->got_bytes ? JR_ETRUNC : JR_ECONN);
    } else if (c->framing == JR_FRAMING_EOF && n == UV_EOF) {
        complete(c, 0);
    } else {
        fail(c, JR_ETRUNC);
    }
}

/* ---- sending ---- */

static void on_written(uv_write_t *write, int status)
{
    struct jr_upstream *c = write->data;

    jr_http_bytes_unref(c->sending);
    c->sending = NULL;
    /* A peer that closes without reading may have answered first: reading tells. */
    if (status < 0 && c->x != NULL && !c->reading)
        fail(c, JR_ECONN);
}

static void send_request(struct jr_upstream *c)
{
    struct jr_http_exchange *x = c->x;
    struct jr_buf *b = &x->bytes->buf;
    uv_buf_t buf = uv_buf_init((char *)b->p, (unsigned)b->n);

    jr_sm_move(&c->sm, JR_UPSTREAM_WAIT, "send");
    c->got_bytes = false;
    reset_answer(c);
    set_deadline(c, x->first_byte_timeout_ms);
    const int rv = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (rv < 0 && rv != UV_EAGAIN) {
        fail_later(c, JR_ECONN);
        return;
    }
    const size_t sent = rv < 0 ? 0 : (size_t)rv;
    if (sent < b->n) {
        buf = uv_buf_init((char *)b->p + sent, (unsigned)(b->n - sent));
        c->write.data = c;
        if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
            fail_later(c, JR_ECONN);
            return;
        }
        c->sending = x->bytes;
        c->sending->refs++;
    }
    if (!x->paused)
        start_reading(c);
}

void jr_upstream_reuse(struct jr_upstream *c, struct jr_http_exchange *x)
{
    leave_pool(c);
    c->x = x;
    send_request(c);
}

/* ---- connecting ---- */

static void on_connected(uv_connect_t *req, int status)
{
    struct jr_upstream *c = req->data;

    if (state_of(c) == JR_UPSTREAM_CLOSED)
        return;
    if (status < 0) {
        fail(c, status == UV_ETIMEDOUT ? JR_ETIMEOUT : JR_ECONN);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    send_request(c);
}

static void connect_to(struct jr_upstream *c, const struct sockaddr *addr)
{
    jr_sm_move(&c->sm, JR_UPSTREAM_CONNECT, "address");
    c->connect.data = c;
    if (uv_tcp_connect(&c->connect, &c->tcp, addr, on_connected) != 0)
        fail_later(c, JR_ECONN);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct jr_upstream *c = req->data;
    const struct addrinfo *at = res;

    c->resolving = false;
    if (state_of(c) == JR_UPSTREAM_CLOSED) {
        maybe_free(c);
    } else if (status < 0 || res == NULL) {
        fail(c, JR_ENOTFOUND);
    } else {
        for (unsigned i = 0; i < c->addr_index && at->ai_next != NULL; i++)
            at = at->ai_next;
        c->more_addrs = at->ai_next != NULL;
        connect_to(c, at->ai_addr);
    }
    uv_freeaddrinfo(res);
}

static void resolve(struct jr_upstream *c)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct sockaddr_storage addr;
    char port[8];

    memset(&addr, 0, sizeof addr);
    if (uv_ip4_addr(c->host->name, c->host->port, (struct sockaddr_in *)&addr) == 0 ||
        uv_ip6_addr(c->host->name, c->host->port, (struct sockaddr_in6 *)&addr) == 0) {
        connect_to(c, (const struct sockaddr *)&addr);
        return;
    }
    snprintf(port, sizeof port, "%u", c->host->port);
    c->resolve.data = c;
    c->resolving = true;
    if (uv_getaddrinfo(jr_loop_uv(c->client->loop), &c->resolve, on_resolved, c->host->name, port,
                       &hints) != 0) {
        c->resolving = false;
        fail_later(c, JR_ENOTFOUND);
    }
}

struct jr_upstream *jr_upstream_open(struct jr_http_client *client, struct jr_http_host *host,
                                     struct jr_http_exchange *x, unsigned addr_index)
{
    struct jr_upstream *c = jr_xalloc(sizeof *c);

    c->client = client;
    c->host = host;
    c->x = x;
    c->addr_index = addr_index;
    host->n_conns++;
    uv_tcp_init(jr_loop_uv(client->loop), &c->tcp);
    uv_timer_init(jr_loop_uv(client->loop), &c->timer);
    c->tcp.data = c->timer.data = c;
    c->open_handles = 2;
    jr_list_push_back(&client->conns, &c->node);
    jr_list_init(&c->idle_node);
    jr_sm_init(&c->sm, &table, c, NULL, JR_UPSTREAM_RESOLVE);
    jr_buf_init(&c->head, JR_HTTP_HEADER_BYTES_MAX + JR_UPSTREAM_READ);
    llhttp_init(&c->parser, HTTP_RESPONSE, &client->settings);
    c->parser.data = c;
    set_deadline(c, client->config.connect_timeout_ms);
    resolve(c);
    return c;
}
