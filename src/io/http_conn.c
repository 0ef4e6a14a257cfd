/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/limit.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/tls.h"

#include <string.h>
#include <unistd.h>

static const struct jr_sm_row rows[] = {
    [JR_HTTP_IDLE] = {"idle",
                      JR_SM_TO(JR_HTTP_HEAD) | JR_SM_TO(JR_HTTP_LINGER) | JR_SM_TO(JR_HTTP_CLOSED),
                      JR_SM_INITIAL},
    [JR_HTTP_HEAD] = {"head",
                      JR_SM_TO(JR_HTTP_BODY) | JR_SM_TO(JR_HTTP_CHUNKED) |
                          JR_SM_TO(JR_HTTP_ANSWER) | JR_SM_TO(JR_HTTP_LINGER) |
                          JR_SM_TO(JR_HTTP_CLOSED),
                      0},
    [JR_HTTP_BODY] =
        {"body", JR_SM_TO(JR_HTTP_ANSWER) | JR_SM_TO(JR_HTTP_LINGER) | JR_SM_TO(JR_HTTP_CLOSED), 0},
    [JR_HTTP_CHUNKED] = {"chunked",
                         JR_SM_TO(JR_HTTP_ANSWER) | JR_SM_TO(JR_HTTP_LINGER) |
                             JR_SM_TO(JR_HTTP_CLOSED),
                         0},
    [JR_HTTP_ANSWER] = {"answer",
                        JR_SM_TO(JR_HTTP_IDLE) | JR_SM_TO(JR_HTTP_FLUSH) |
                            JR_SM_TO(JR_HTTP_LINGER) | JR_SM_TO(JR_HTTP_CLOSED),
                        0},
    [JR_HTTP_FLUSH] = {"flush",
                       JR_SM_TO(JR_HTTP_IDLE) | JR_SM_TO(JR_HTTP_LINGER) | JR_SM_TO(JR_HTTP_CLOSED),
                       0},
    [JR_HTTP_LINGER] = {"linger", JR_SM_TO(JR_HTTP_CLOSED), 0},
    [JR_HTTP_CLOSED] = {"closed", 0, JR_SM_FINAL},
};

static const struct jr_sm_table table = {"http.conn", rows, sizeof rows / sizeof *rows, NULL};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* ---- timer: one per connection, moved lazily: a deadline that moves away costs nothing ---- */

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct jr_http_conn *c, uint64_t now)
{
    c->timer_due_ms = c->deadline_ms;
    uv_timer_start(&c->timer, on_timer, c->deadline_ms > now ? c->deadline_ms - now : 0, 0);
}

void jr_http_conn_deadline(struct jr_http_conn *c, uint64_t delay_ms)
{
    const uint64_t now = jr_loop_now_ms(c->server->loop);

    c->deadline_ms = now + delay_ms;
    if (!uv_is_active((uv_handle_t *)&c->timer) || c->timer_due_ms > c->deadline_ms)
        arm_timer(c, now);
}

void jr_http_conn_await_body(struct jr_http_conn *c)
{
    const uint64_t now = jr_loop_now_ms(c->server->loop);
    uint64_t delay = c->server->config.idle_timeout_ms;

    if (c->body_due_ms > 0 && now + delay > c->body_due_ms)
        delay = c->body_due_ms > now ? c->body_due_ms - now : 0;
    jr_http_conn_deadline(c, delay);
}

static uint64_t patience(const struct jr_http_conn *c)
{
    return c->cut ? JR_HTTP_CUT_MS : c->server->config.idle_timeout_ms;
}

/* A peer that reads nothing of what waits for it for so long is gone. */
static void check_stall(struct jr_http_conn *c)
{
    const size_t queued = jr_http_conn_queued(c);

    if (queued > 0 && queued == c->stall_queue && c->bytes_sent == c->stall_sent) {
        jr_http_conn_close(c);
        return;
    }
    c->stall_queue = queued;
    c->stall_sent = c->bytes_sent;
    jr_http_conn_deadline(c, patience(c));
}

static void on_timer(uv_timer_t *timer)
{
    struct jr_http_conn *c = timer->data;
    const uint64_t now = jr_loop_now_ms(c->server->loop);

    if (now < c->deadline_ms) {
        arm_timer(c, now);
        return;
    }
    switch (jr_http_state(c)) {
    case JR_HTTP_HEAD:
        c->server->stats.header_timeouts++;
        jr_http_conn_refuse(c, 408, "the request's head did not arrive in time");
        break;
    case JR_HTTP_BODY:
    case JR_HTTP_CHUNKED:
        c->server->stats.body_timeouts++;
        jr_http_conn_refuse(c, 408, "the request's body did not arrive in time");
        break;
    case JR_HTTP_ANSWER:
    case JR_HTTP_FLUSH:
        check_stall(c);
        break;
    case JR_HTTP_LINGER:
        if (!c->shut)
            check_stall(c);
        else
            jr_http_conn_close(c);
        break;
    case JR_HTTP_IDLE:
        c->server->stats.header_timeouts += c->tls != NULL && !c->handshaken;
        jr_http_conn_end(c);
        break;
    case JR_HTTP_CLOSED:
        break;
    }
}

/* ---- life ---- */

void jr_http_conn_release_in(struct jr_http_conn *c)
{
    struct jr_http_server *s = c->server;

    if (c->in == NULL)
        return;
    if (c->in_cap == JR_HTTP_IN_SIZE && s->n_spare < JR_HTTP_IN_SPARE)
        s->spare[s->n_spare++] = c->in;
    else
        jr_xfree(c->in);
    c->in = NULL;
    c->in_cap = c->in_start = c->in_end = 0;
}

static void obtain_in(struct jr_http_conn *c)
{
    struct jr_http_server *s = c->server;

    c->in = s->n_spare > 0 ? s->spare[--s->n_spare] : jr_xrealloc(NULL, JR_HTTP_IN_SIZE);
    c->in_cap = JR_HTTP_IN_SIZE;
    c->in_start = c->in_end = 0;
}

void jr_http_conn_maybe_free(struct jr_http_conn *c)
{
    struct jr_http_server *s = c->server;

    if (c->open_handles > 0 || c->req.owned || c->advancing)
        return;
    jr_list_remove(&c->node);
    jr_http_conn_release_in(c);
    jr_http_body_release(c);
    jr_buf_deinit(&c->out);
    jr_http1_request_deinit(&c->h1);
    jr_tls_destroy(c->tls);
    jr_xfree(c);
    jr_http_server_conn_gone(s);
}

static void on_tcp_closed(uv_handle_t *handle)
{
    struct jr_http_conn *c = handle->data;

    c->open_handles--;
    if (c->req.owned && c->req.on_gone != NULL) {
        void (*on_gone)(void *ctx) = c->req.on_gone;
        c->req.on_gone = NULL;
        c->advancing = true; /* the callback may give the request back: c must outlive it */
        on_gone(c->req.ctx);
        c->advancing = false;
    }
    jr_http_conn_maybe_free(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct jr_http_conn *c = handle->data;

    c->open_handles--;
    jr_http_conn_maybe_free(c);
}

static bool enter_closed(struct jr_http_conn *c)
{
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return false;
    jr_sm_move(&c->sm, JR_HTTP_CLOSED, "close");
    jr_list_remove(&c->flush_node);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    return true;
}

void jr_http_conn_close(struct jr_http_conn *c)
{
    if (enter_closed(c))
        uv_close((uv_handle_t *)&c->tcp, on_tcp_closed);
}

void jr_http_conn_end(struct jr_http_conn *c)
{
    if (c->tls != NULL)
        jr_http_tls_bye(c);
    jr_http_conn_close(c);
}

void jr_http_conn_reset(struct jr_http_conn *c)
{
    if (!enter_closed(c))
        return;
    if (uv_tcp_close_reset(&c->tcp, on_tcp_closed) != 0)
        uv_close((uv_handle_t *)&c->tcp, on_tcp_closed);
}

static void start_reading(struct jr_http_conn *c)
{
    if (c->reading)
        return;
    c->reading = true;
    if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
        jr_http_conn_close(c);
}

void jr_http_conn_stop_reading(struct jr_http_conn *c)
{
    c->reading = false;
    uv_read_stop((uv_stream_t *)&c->tcp);
}

static struct jr_http_conn *conn_create(struct jr_http_server *s)
{
    struct jr_http_conn *c = jr_xalloc(sizeof *c);

    c->server = s;
    uv_tcp_init(jr_loop_uv(s->loop), &c->tcp);
    uv_timer_init(jr_loop_uv(s->loop), &c->timer);
    c->tcp.data = c->timer.data = c;
    c->open_handles = 2;
    jr_sm_init(&c->sm, &table, c, NULL, JR_HTTP_IDLE);
    jr_list_push_back(&s->conns, &c->node);
    jr_list_init(&c->flush_node);
    jr_buf_init(&c->out, SIZE_MAX / 2);
    jr_http1_request_init(&c->h1, s->config.body_max, jr_http_conn_on_body, c);
    s->stats.conns++;
    if (s->config.conns != NULL)
        atomic_fetch_add_explicit(s->config.conns, 1, memory_order_relaxed);
    return c;
}

static bool is_full(const struct jr_http_server *s)
{
    const uint64_t n = s->config.conns != NULL
                           ? atomic_load_explicit(s->config.conns, memory_order_relaxed)
                           : s->stats.conns;

    return n > s->config.conns_max;
}

void jr_http_conn_accept(struct jr_http_server *s, int fd)
{
    struct jr_http_conn *c = conn_create(s);

    if (uv_tcp_open(&c->tcp, fd) != 0) {
        close(fd);
        jr_http_conn_close(c);
        return;
    }
    if (is_full(s)) {
        s->stats.refused_conns++;
        jr_limit_reached(JR_LIMIT_HTTP_CONNS);
        jr_http_conn_close(c);
        return;
    }
    s->stats.conns_total++;
    uv_tcp_nodelay(&c->tcp, 1);
    if (s->tls != NULL)
        jr_http_tls_begin(c);
    jr_http_conn_deadline(c,
                          s->tls != NULL ? s->config.header_timeout_ms : s->config.idle_timeout_ms);
    start_reading(c);
}

/* ---- reading ---- */

void jr_http_conn_make_room(struct jr_http_conn *c)
{
    const size_t n = c->in_end - c->in_start;

    if (c->in_cap - c->in_end >= JR_HTTP_ROOM_MIN)
        return;
    if (c->in_start > 0) {
        memmove(c->in, c->in + c->in_start, n);
        c->in_start = 0;
        c->in_end = n;
    }
    if (c->in_cap - c->in_end < JR_HTTP_ROOM_MIN) {
        c->in_cap = c->in_cap < JR_HTTP_IN_SIZE ? JR_HTTP_IN_SIZE : 2 * c->in_cap;
        c->in = jr_xrealloc(c->in, c->in_cap);
    }
}

/* Not a byte of the next request may be read into the body. */
static size_t body_end(const struct jr_http_conn *c)
{
    const size_t end = c->body_cap < c->body_len ? c->body_cap : c->body_len;

    return end - c->body_n > INT32_MAX ? c->body_n + INT32_MAX : end;
}

uv_buf_t jr_http_conn_room(struct jr_http_conn *c)
{
    switch (jr_http_state(c)) {
    case JR_HTTP_LINGER:
        return uv_buf_init(c->server->trash, sizeof c->server->trash);
    case JR_HTTP_BODY:
        return uv_buf_init(c->body + c->body_n, (unsigned)(body_end(c) - c->body_n));
    case JR_HTTP_IDLE:
    case JR_HTTP_HEAD:
        if (c->in == NULL)
            obtain_in(c);
        jr_http_conn_make_room(c);
        break;
    case JR_HTTP_CHUNKED:
    case JR_HTTP_ANSWER:
    case JR_HTTP_FLUSH:
    case JR_HTTP_CLOSED:
        break;
    }
    return uv_buf_init(c->in + c->in_end, (unsigned)(c->in_cap - c->in_end));
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct jr_http_conn *c = handle->data;

    (void)suggested;
    *buf = c->tls == NULL ? jr_http_conn_room(c) : uv_buf_init(c->server->wire, JR_HTTP_WIRE_SIZE);
}

/* A client that half-closes after its last request still gets the rest of an answer that is
 * complete on our side; one whose answer is not is taken to have gone away. */
void jr_http_conn_eof(struct jr_http_conn *c, bool clean)
{
    const enum jr_http_state state = jr_http_state(c);

    if (!clean || jr_http_conn_queued(c) == 0) {
        jr_http_conn_close(c);
    } else if (state == JR_HTTP_IDLE || state == JR_HTTP_FLUSH) {
        jr_http_conn_stop_reading(c);
        jr_http_conn_linger(c, false);
    } else if (state == JR_HTTP_LINGER && !c->shut) {
        jr_http_conn_stop_reading(c);
        c->linger_for_input = false;
    } else {
        jr_http_conn_close(c);
    }
}

void jr_http_conn_got(struct jr_http_conn *c, size_t n)
{
    switch (jr_http_state(c)) {
    case JR_HTTP_LINGER:
        return;
    case JR_HTTP_BODY:
        c->body_n += n;
        break;
    default:
        c->in_end += n;
        break;
    }
    if (n > 0 && (jr_http_state(c) == JR_HTTP_BODY || jr_http_state(c) == JR_HTTP_CHUNKED))
        jr_http_conn_await_body(c);
    /* The views of the request under way pin the buffer: when it is full of pipelined requests, the
     * client waits. */
    if (jr_http_state(c) == JR_HTTP_ANSWER || jr_http_state(c) == JR_HTTP_FLUSH) {
        if (c->in_end == c->in_cap)
            jr_http_conn_stop_reading(c);
        return;
    }
    jr_http_conn_advance(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct jr_http_conn *c = stream->data;
    struct jr_loop *loop = c->server->loop; /* the connection may go */

    if (n < 0)
        jr_http_conn_eof(c, n == UV_EOF);
    else if (c->tls == NULL)
        jr_http_conn_got(c, (size_t)n);
    else
        jr_http_tls_got(c, buf->base, (size_t)n);
    jr_loop_settle(loop);
}

/* ---- after the answer ---- */

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct jr_http_conn *c = req->data;

    c->shut = true;
    if (status != 0 || !c->linger_for_input)
        jr_http_conn_close(c);
    else
        jr_http_conn_deadline(c, JR_HTTP_LINGER_MS);
}

void jr_http_conn_linger(struct jr_http_conn *c, bool for_input)
{
    jr_sm_move(&c->sm, JR_HTTP_LINGER, "last");
    c->linger_for_input = for_input;
    if (c->tls != NULL)
        jr_http_tls_bye(c);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return;
    c->shutdown.data = c;
    if (uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0) {
        jr_http_conn_close(c);
        return;
    }
    jr_http_conn_deadline(c, patience(c));
    if (for_input)
        start_reading(c);
}

static void next_request(struct jr_http_conn *c)
{
    jr_sm_move(&c->sm, JR_HTTP_IDLE, "answered");
    jr_http_conn_deadline(c, c->server->config.idle_timeout_ms);
    start_reading(c);
    jr_http_conn_advance(c);
    if (c->tls != NULL)
        jr_http_tls_resume(c);
}

void jr_http_conn_written(struct jr_http_conn *c)
{
    if (jr_http_state(c) == JR_HTTP_FLUSH && jr_http_conn_queued(c) <= JR_HTTP_WRITE_HIGH / 2)
        next_request(c);
}

void jr_http_conn_answered(struct jr_http_conn *c)
{
    c->req.owned = false;
    if (jr_http_state(c) == JR_HTTP_CLOSED) {
        jr_http_conn_maybe_free(c);
        return;
    }
    jr_http_body_release(c);
    if (!c->req.keep_alive || c->cut || c->server->retired) {
        const bool unread = c->in_end > c->in_start;
        if (!unread && jr_http_conn_queued(c) == 0 && c->tls == NULL)
            jr_http_conn_close(c);
        else
            jr_http_conn_linger(c, unread);
    } else if (jr_http_conn_queued(c) > JR_HTTP_WRITE_HIGH) {
        jr_sm_move(&c->sm, JR_HTTP_FLUSH, "queue high");
    } else {
        next_request(c);
    }
}
