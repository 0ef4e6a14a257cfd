/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_upstream.h"

#include "base/assert.h"
#include "base/mem.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

static const struct jr_sm_row rows[] = {
    [JR_UPSTREAM_RESOLVE] = {"resolve",
                             JR_SM_TO(JR_UPSTREAM_CONNECT) | JR_SM_TO(JR_UPSTREAM_CLOSED),
                             JR_SM_INITIAL},
    [JR_UPSTREAM_CONNECT] = {"connect",
                             JR_SM_TO(JR_UPSTREAM_HANDSHAKE) | JR_SM_TO(JR_UPSTREAM_WAIT) |
                                 JR_SM_TO(JR_UPSTREAM_CLOSED),
                             0},
    [JR_UPSTREAM_HANDSHAKE] = {"handshake",
                               JR_SM_TO(JR_UPSTREAM_WAIT) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_IDLE] = {"idle", JR_SM_TO(JR_UPSTREAM_WAIT) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_WAIT] = {"wait", JR_SM_TO(JR_UPSTREAM_BODY) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_BODY] = {"body", JR_SM_TO(JR_UPSTREAM_IDLE) | JR_SM_TO(JR_UPSTREAM_CLOSED), 0},
    [JR_UPSTREAM_CLOSED] = {"closed", 0, JR_SM_FINAL},
};

static const struct jr_sm_table table = {"http.upstream", rows, sizeof rows / sizeof *rows, NULL};

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
        jr_upstream_fail(c, c->failed);
    else if (c->deadline_ms == 0)
        return;
    else if (now < c->deadline_ms)
        arm_timer(c, now);
    else if (c->x != NULL)
        jr_upstream_fail(c, JR_ETIMEOUT);
    else
        jr_upstream_close(c);
}

/* The owner is on the stack: it learns of the failure from the loop. */
void jr_upstream_fail_later(struct jr_upstream *c, int err)
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
    jr_http1_reply_deinit(&c->reply);
    jr_tls_destroy(c->tls);
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
    if (jr_upstream_state(c) == JR_UPSTREAM_CLOSED)
        return;
    leave_pool(c);
    c->x = NULL;
    if (c->tls != NULL && jr_upstream_state(c) == JR_UPSTREAM_IDLE)
        jr_upstream_tls_bye(c);
    jr_sm_move(&c->sm, JR_UPSTREAM_CLOSED, "close");
    if (c->resolving)
        uv_cancel((uv_req_t *)&c->resolve);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
}

/* Of the request, bytes that the kernel has taken. */
static size_t handed_over(const struct jr_upstream *c)
{
    if (c->tls != NULL)
        return jr_upstream_tls_handed_over(c);
    if (c->sending == NULL)
        return c->sent;
    return c->sending->buf.n + c->sending->body.n -
           uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

/* Nobody can have read a byte of the request: none was sent, or the peer had closed before the first
 * arrived, so that its end, which acknowledges all that came before it, acknowledges none. A reset
 * proves nothing: it may overtake the acknowledgement of what was read. */
static bool provably_unread(const struct jr_upstream *c)
{
    const size_t handed = handed_over(c);
    uv_os_fd_t fd;
    int unacknowledged;

    if (handed == 0)
        return true;
    return c->got_eof && uv_fileno((const uv_handle_t *)&c->tcp, &fd) == 0 &&
           ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && (size_t)unacknowledged == handed;
}

/* A kept connection that turned out closed. What may have been read goes out a second time only when
 * that does no harm. */
static bool is_stale(const struct jr_upstream *c, int err)
{
    return c->reused && !c->got_bytes && err == JR_ECONN && c->x != NULL && !c->x->retried &&
           (c->x->is_safe || provably_unread(c));
}

/* Ends the connection and, unless another one may still answer, the exchange. */
void jr_upstream_fail(struct jr_upstream *c, int err)
{
    struct jr_http_exchange *x = c->x;
    const bool stale = is_stale(c, err);
    const bool next_addr =
        jr_upstream_state(c) == JR_UPSTREAM_CONNECT && c->more_addrs && err == JR_ECONN;

    JR_ASSERT(x != NULL);
    jr_upstream_close(c);
    if (next_addr) {
        x->conn = jr_upstream_open(c->client, c->host, x, c->addr_index + 1);
    } else if (stale) {
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
    const enum jr_upstream_state state = jr_upstream_state(c);

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
    if (c->reply.keep_alive && leftover == 0 && c->sending == NULL && c->failed == 0 &&
        !client->closing && (c->tls == NULL || jr_upstream_tls_is_done(c, x->bytes)) &&
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

/* The owner may cancel from within its callbacks: then nothing more is read. */
static int on_reply_head(void *ctx)
{
    struct jr_upstream *c = ctx;
    const struct jr_http_reply reply = {
        .status = c->reply.status,
        .headers = c->reply.fields.v,
        .n_headers = c->reply.fields.n,
        .content_length = c->reply.content_length,
    };

    jr_sm_move(&c->sm, JR_UPSTREAM_BODY, "head");
    set_deadline(c, 0);
    if (c->x->on_head != NULL)
        c->x->on_head(c->x->ctx, &reply);
    return c->x == NULL ? JR_ECANCELED : 0;
}

static int on_reply_data(void *ctx, const char *p, size_t n)
{
    struct jr_upstream *c = ctx;

    c->x->on_data(c->x->ctx, p, n);
    return c->x == NULL ? JR_ECANCELED : 0;
}

static void consume(struct jr_upstream *c, const char *p, size_t n)
{
    size_t used;
    const int rv = jr_http1_reply_feed(&c->reply, p, n, &used);

    if (rv == JR_ECANCELED)
        return;
    if (rv < 0)
        jr_upstream_fail(c, rv);
    else if (rv == 1)
        complete(c, n - used);
}

void jr_upstream_take(struct jr_upstream *c, const char *p, ssize_t n)
{
    if (c->x == NULL) { /* pooled: closed by the peer, or it speaks unasked */
        jr_upstream_close(c);
    } else if (n > 0) {
        c->got_bytes = true;
        consume(c, p, (size_t)n);
    } else if (jr_upstream_state(c) != JR_UPSTREAM_BODY) {
        c->got_eof = n == UV_EOF;
        jr_upstream_fail(c, c->got_bytes ? JR_ETRUNC : JR_ECONN);
    } else if (n == UV_EOF && jr_http1_reply_eof(&c->reply) == 0) {
        complete(c, 0);
    } else {
        jr_upstream_fail(c, JR_ETRUNC);
    }
}

/* With TLS the end of the connection is not the end of an answer: anybody could have cut it. */
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct jr_upstream *c = stream->data;

    if (n == 0)
        return;
    if (c->tls == NULL)
        jr_upstream_take(c, buf->base, n);
    else if (n > 0)
        jr_upstream_tls_got(c, buf->base, (size_t)n);
    else
        jr_upstream_take(c, NULL, jr_upstream_state(c) == JR_UPSTREAM_BODY ? UV_ECONNRESET : n);
}

/* ---- sending ---- */

static void on_written(uv_write_t *write, int status)
{
    struct jr_upstream *c = write->data;

    jr_http_bytes_unref(c->sending);
    c->sending = NULL;
    /* A peer that closes without reading may have answered first: reading tells. */
    if (status < 0 && c->x != NULL && !c->reading)
        jr_upstream_fail(c, JR_ECONN);
}

/* What is left of bufs when sent bytes of them are gone. */
static unsigned left_of(uv_buf_t bufs[2], size_t sent)
{
    if (sent < bufs[0].len) {
        bufs[0] = uv_buf_init(bufs[0].base + sent, (unsigned)(bufs[0].len - sent));
        return bufs[1].len > 0 ? 2 : 1;
    }
    sent -= bufs[0].len;
    bufs[0] = uv_buf_init(bufs[1].base + sent, (unsigned)(bufs[1].len - sent));
    return bufs[0].len > 0 ? 1 : 0;
}

static void send_plain(struct jr_upstream *c)
{
    struct jr_http_exchange *x = c->x;
    const struct jr_http_bytes *bytes = x->bytes;
    uv_buf_t bufs[2] = {
        uv_buf_init((char *)bytes->buf.p, (unsigned)bytes->buf.n),
        uv_buf_init((char *)(uintptr_t)bytes->body.p, (unsigned)bytes->body.n),
    };

    c->sent = 0;
    const int rv = uv_try_write((uv_stream_t *)&c->tcp, bufs, bufs[1].len > 0 ? 2 : 1);
    if (rv < 0 && rv != UV_EAGAIN) {
        jr_upstream_fail_later(c, JR_ECONN);
        return;
    }
    c->sent = rv < 0 ? 0 : (size_t)rv;
    const unsigned n = left_of(bufs, c->sent);
    if (n > 0) {
        c->write.data = c;
        if (uv_write(&c->write, (uv_stream_t *)&c->tcp, bufs, n, on_written) != 0) {
            jr_upstream_fail_later(c, JR_ECONN);
            return;
        }
        c->sending = x->bytes;
        c->sending->refs++;
    }
}

static void send_request(struct jr_upstream *c)
{
    struct jr_http_exchange *x = c->x;

    jr_sm_move(&c->sm, JR_UPSTREAM_WAIT, "send");
    c->got_bytes = false;
    c->tls_at = c->tls_sent = 0;
    jr_http1_reply_begin(&c->reply, x->is_head);
    set_deadline(c, x->first_byte_timeout_ms);
    if (c->tls == NULL)
        send_plain(c);
    else if (jr_upstream_tls_send(c) < 0)
        jr_upstream_fail_later(c, JR_ECONN);
    if (x->paused)
        jr_upstream_pause(c, true);
    else if (c->failed == 0)
        start_reading(c);
}

void jr_upstream_ready(struct jr_upstream *c)
{
    send_request(c);
}

void jr_upstream_hurry(struct jr_upstream *c, uint64_t ms)
{
    set_deadline(c, ms);
}

void jr_upstream_reuse(struct jr_upstream *c, struct jr_http_exchange *x)
{
    leave_pool(c);
    c->x = x;
    send_request(c);
}

/* ---- connecting ---- */

int jr_upstream_connect_err(int uv_err)
{
    switch (uv_err) {
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_ENOBUFS:
    case UV_ENOMEM:
        return JR_ELIMIT;
    case UV_ETIMEDOUT:
        return JR_ETIMEOUT;
    default:
        return JR_ECONN;
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    struct jr_upstream *c = req->data;

    if (jr_upstream_state(c) == JR_UPSTREAM_CLOSED)
        return;
    if (status < 0) {
        jr_upstream_fail(c, jr_upstream_connect_err(status));
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    if (c->tls == NULL) {
        send_request(c);
        return;
    }
    jr_sm_move(&c->sm, JR_UPSTREAM_HANDSHAKE, "connected");
    start_reading(c);
    jr_upstream_tls_begin(c);
}

static void connect_to(struct jr_upstream *c, const struct sockaddr *addr)
{
    jr_sm_move(&c->sm, JR_UPSTREAM_CONNECT, "address");
    c->connect.data = c;
    int err = uv_tcp_connect(&c->connect, &c->tcp, addr, on_connected);
    if (err != 0)
        jr_upstream_fail_later(c, jr_upstream_connect_err(err));
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct jr_upstream *c = req->data;
    const struct addrinfo *at = res;

    c->resolving = false;
    if (jr_upstream_state(c) == JR_UPSTREAM_CLOSED) {
        maybe_free(c);
    } else if (status < 0 || res == NULL) {
        jr_upstream_fail(c, JR_ENOTFOUND);
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
        jr_upstream_fail_later(c, JR_ENOTFOUND);
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
    c->tls = host->tls ? jr_tls_create(client->tls, host->name) : NULL;
    host->n_conns++;
    uv_tcp_init(jr_loop_uv(client->loop), &c->tcp);
    uv_timer_init(jr_loop_uv(client->loop), &c->timer);
    c->tcp.data = c->timer.data = c;
    c->open_handles = 2;
    jr_list_push_back(&client->conns, &c->node);
    jr_list_init(&c->idle_node);
    jr_sm_init(&c->sm, &table, c, NULL, JR_UPSTREAM_RESOLVE);
    jr_http1_reply_init(&c->reply, on_reply_head, on_reply_data, c);
    set_deadline(c, client->config.connect_timeout_ms);
    resolve(c);
    return c;
}
