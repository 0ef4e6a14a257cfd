/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "wire/http1_write.h"
#include "wire/openai_reply.h"

#include <string.h>

/* What the kernel did not take at once. */
struct leftover {
    uv_write_t write;
    struct jr_http_conn *conn;
    char data[];
};

/* ---- request ---- */

static const struct jr_http_conn *conn_of(const struct jr_http_request *req)
{
    return jr_http_conn_of((struct jr_http_request *)(uintptr_t)(const void *)req);
}

struct jr_str jr_http_request_method(const struct jr_http_request *req)
{
    return req->away ? jr_http_away_head(req)->method : conn_of(req)->h1.method;
}

struct jr_str jr_http_request_path(const struct jr_http_request *req)
{
    return req->away ? jr_http_away_head(req)->path : conn_of(req)->h1.path;
}

struct jr_str jr_http_request_query(const struct jr_http_request *req)
{
    return req->away ? jr_http_away_head(req)->query : conn_of(req)->h1.query;
}

struct jr_str jr_http_request_body(const struct jr_http_request *req)
{
    return req->body;
}

struct jr_str jr_http_request_header(const struct jr_http_request *req, const char *name)
{
    if (req->away == NULL)
        return jr_http1_fields_find(&conn_of(req)->h1.fields, name, NULL);
    const struct jr_http_away_head *h = jr_http_away_head(req);
    for (uint32_t i = 0; i < h->n_headers; i++) {
        if (jr_str_ieq(h->headers[i].name, name))
            return h->headers[i].value;
    }
    return jr_str_of(NULL, 0);
}

const struct jr_http_header *jr_http_request_headers(const struct jr_http_request *req,
                                                     uint32_t *ret_n)
{
    if (req->away != NULL) {
        *ret_n = jr_http_away_head(req)->n_headers;
        return jr_http_away_head(req)->headers;
    }
    const struct jr_http1_fields *f = &conn_of(req)->h1.fields;

    *ret_n = f->n;
    return f->v;
}

bool jr_http_is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24) == 127;
    if (addr->ss_family != AF_INET6)
        return false;
    const struct in6_addr *a6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(a6) || (IN6_IS_ADDR_V4MAPPED(a6) && a6->s6_addr[12] == 127);
}

void jr_http_request_client(const struct jr_http_request *req, char *ret, size_t n)
{
    if (req->away != NULL) {
        (void)snprintf(ret, n, "%s", jr_http_away_head(req)->client);
        return;
    }
    const struct jr_http_conn *c = conn_of(req);
    struct sockaddr_storage addr = {0};
    int size = sizeof addr;
    char host[INET6_ADDRSTRLEN] = "";
    ret[0] = '\0';
    if (jr_http_state(c) == JR_HTTP_CLOSED ||
        uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &size) != 0 ||
        uv_ip_name((const struct sockaddr *)&addr, host, sizeof host) != 0)
        return;
    bool is_v6 = addr.ss_family == AF_INET6;
    uint16_t port = is_v6 ? ((const struct sockaddr_in6 *)&addr)->sin6_port
                          : ((const struct sockaddr_in *)&addr)->sin_port;
    (void)snprintf(ret, n, is_v6 ? "[%s]:%u" : "%s:%u", host, ntohs(port));
}

bool jr_http_request_from_loopback(const struct jr_http_request *req)
{
    if (req->away != NULL)
        return jr_http_away_head(req)->from_loopback;
    const struct jr_http_conn *c = conn_of(req);
    struct sockaddr_storage addr = {0};
    int n = sizeof addr;

    return jr_http_state(c) != JR_HTTP_CLOSED &&
           uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &n) == 0 &&
           jr_http_is_loopback(&addr);
}

uint64_t jr_http_request_id(const struct jr_http_request *req)
{
    return req->id;
}

void jr_http_request_watch(struct jr_http_request *req, void (*on_gone)(void *ctx),
                           void (*on_writable)(void *ctx), void *ctx)
{
    req->on_gone = on_gone;
    req->on_writable = on_writable;
    req->ctx = ctx;
}

void jr_http_request_tag(struct jr_http_request *req, const void *tag)
{
    req->tag = tag;
}

/* ---- sending ---- */

size_t jr_http_conn_queued(const struct jr_http_conn *c)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) + c->out.n;
}

static void on_written(uv_write_t *write, int status)
{
    struct leftover *rest = write->data;
    struct jr_http_conn *c = rest->conn;

    jr_xfree(rest);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return; /* the close callbacks are still to come: c is alive */
    if (status != 0) {
        jr_http_conn_close(c);
        return;
    }
    struct jr_http_request *req = &c->req;
    if (req->owned && req->want_writable && jr_http_conn_queued(c) <= JR_HTTP_WRITE_HIGH / 2) {
        req->want_writable = false;
        if (req->on_writable != NULL)
            req->on_writable(req->ctx);
        return; /* the callback may have ended the request, and what follows it */
    }
    jr_http_conn_written(c);
}

static void queue_rest(struct jr_http_conn *c, const uv_buf_t *bufs, unsigned n, size_t total,
                       size_t skip)
{
    struct leftover *rest = jr_xrealloc(NULL, sizeof *rest + total - skip);
    size_t at = 0;

    for (unsigned i = 0; i < n; i++) {
        if (skip >= bufs[i].len) {
            skip -= bufs[i].len;
            continue;
        }
        memcpy(rest->data + at, bufs[i].base + skip, bufs[i].len - skip);
        at += bufs[i].len - skip;
        skip = 0;
    }
    rest->conn = c;
    rest->write.data = rest;
    const uv_buf_t buf = uv_buf_init(rest->data, (unsigned)at);
    if (uv_write(&rest->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
        jr_xfree(rest);
        jr_http_conn_close(c);
    }
}

static void forget_out(struct jr_http_conn *c)
{
    if (c->out.cap > JR_HTTP_OUT_KEEP)
        jr_buf_deinit(&c->out);
    else
        jr_buf_clear(&c->out);
    jr_list_remove(&c->flush_node);
}

void jr_http_conn_send_raw(struct jr_http_conn *c, const uv_buf_t *bufs, unsigned n, size_t total)
{
    size_t sent = 0;

    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) == 0) {
        const int rv = uv_try_write((uv_stream_t *)&c->tcp, bufs, n);
        if (rv < 0 && rv != UV_EAGAIN) {
            jr_http_conn_close(c);
            return;
        }
        sent = rv < 0 ? 0 : (size_t)rv;
    }
    c->bytes_sent += sent;
    if (sent < total)
        queue_rest(c, bufs, n, total, sent);
}

void jr_http_conn_send(struct jr_http_conn *c, const uv_buf_t *more, unsigned n_more)
{
    uv_buf_t bufs[5];
    unsigned n = 0;
    size_t total = 0;

    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return;
    JR_ASSERT(n_more <= 4);
    if (c->out.n > 0)
        bufs[n++] = uv_buf_init((char *)c->out.p, (unsigned)c->out.n);
    for (unsigned i = 0; i < n_more; i++) {
        if (more[i].len > 0)
            bufs[n++] = more[i];
    }
    for (unsigned i = 0; i < n; i++)
        total += bufs[i].len;
    if (total == 0)
        return;
    if (c->tls == NULL)
        jr_http_conn_send_raw(c, bufs, n, total);
    else
        jr_http_tls_send(c, bufs, n, total);
    forget_out(c);
}

void jr_http_flush_all(uv_prepare_t *flusher)
{
    struct jr_http_server *s = flusher->data;
    struct jr_list *node;

    while ((node = jr_list_pop_front(&s->to_flush)) != NULL)
        jr_http_conn_send(JR_CONTAINER_OF(node, struct jr_http_conn, flush_node), NULL, 0);
    uv_prepare_stop(flusher);
}

/* What was gathered goes out before the loop polls the next time, at the latest. */
static void flush_soon(struct jr_http_conn *c)
{
    struct jr_http_server *s = c->server;

    if (!jr_list_empty(&c->flush_node))
        return;
    if (jr_list_empty(&s->to_flush) && !s->closing)
        uv_prepare_start(&s->flusher, jr_http_flush_all);
    jr_list_push_back(&s->to_flush, &c->flush_node);
}

/* ---- answers ---- */

/* length < 0: chunked, or until the connection closes for HTTP/1.0. */
static void put_head(struct jr_http_conn *c, int status, const char *content_type,
                     const char *extra_headers, int64_t length)
{
    struct jr_http_request *req = &c->req;

    JR_ASSERT(status >= 200 && status <= 999);
    req->started = true;
    req->no_body = req->is_head || status == 204 || status == 304;
    req->has_left = length >= 0 && !req->no_body;
    req->left = length < 0 ? 0 : (uint64_t)length;
    req->chunked = length < 0 && !req->no_body && !req->http10;
    if (length < 0 && !req->no_body && req->http10)
        req->keep_alive = false;
    const struct jr_http1_reply_head head = {
        .status = status,
        .content_type = content_type,
        .extra_headers = extra_headers,
        .content_length = length,
        .http10 = req->http10,
        .keep_alive = req->keep_alive && !c->server->retired,
    };
    jr_http1_write_reply(&c->out, &head);
    if (c->server->config.on_answer != NULL)
        c->server->config.on_answer(c->server->config.ctx, req->tag, status);
}

void jr_http_respond(struct jr_http_request *req, int status, const char *content_type,
                     const char *extra_headers, const void *body, size_t n)
{
    if (req->away != NULL) {
        jr_http_away_respond(req, status, content_type, extra_headers, body, n);
        return;
    }
    struct jr_http_conn *c = jr_http_conn_of(req);

    JR_ASSERT(req->owned && !req->started);
    if (jr_http_state(c) != JR_HTTP_CLOSED) {
        put_head(c, status, content_type, extra_headers, (int64_t)n);
        const uv_buf_t buf = uv_buf_init((char *)(uintptr_t)body, (unsigned)n);
        jr_http_conn_send(c, &buf, req->no_body ? 0 : 1);
    }
    jr_http_conn_answered(c);
}

void jr_http_respond_start(struct jr_http_request *req, int status, const char *content_type,
                           const char *extra_headers, int64_t content_length)
{
    if (req->away != NULL) {
        jr_http_away_start(req, status, content_type, extra_headers, content_length);
        return;
    }
    struct jr_http_conn *c = jr_http_conn_of(req);

    JR_ASSERT(req->owned && !req->started);
    req->started = true;
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return;
    put_head(c, status, content_type, extra_headers, content_length);
    flush_soon(c);
}

/* The last bytes of an answer whose length is known wait for nothing. */
static void write_gathered(struct jr_http_conn *c, const void *p, size_t n)
{
    struct jr_buf *b = &c->out;
    const bool whole = c->req.has_left && c->req.left == 0;

    if (c->req.chunked)
        jr_http1_write_chunk(b, n);
    if (n < JR_HTTP_CORK) {
        jr_buf_put(b, p, n);
        if (c->req.chunked)
            jr_buf_put(b, "\r\n", 2);
        if (b->n >= JR_HTTP_OUT_MAX || whole)
            jr_http_conn_send(c, NULL, 0);
        else
            flush_soon(c);
        return;
    }
    const uv_buf_t bufs[2] = {uv_buf_init((char *)(uintptr_t)p, (unsigned)n),
                              uv_buf_init((char *)(uintptr_t) "\r\n", 2)};
    jr_http_conn_send(c, bufs, c->req.chunked ? 2 : 1);
}

int jr_http_respond_write(struct jr_http_request *req, const void *p, size_t n)
{
    if (req->away != NULL)
        return jr_http_away_write(req, p, n);
    struct jr_http_conn *c = jr_http_conn_of(req);

    JR_ASSERT(req->owned && req->started);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return JR_ECLOSED;
    if (req->has_left) {
        n = n < req->left ? n : req->left;
        req->left -= n;
    }
    if (n == 0 || req->no_body)
        return 0;
    write_gathered(c, p, n);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return JR_ECLOSED;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) <= JR_HTTP_WRITE_HIGH)
        return 0;
    req->want_writable = true;
    return JR_EAGAIN;
}

/* A reset where only the end of the connection would mark the end of the body; else what was written
 * goes first, and the client misses the end of it. */
static void end_cut(struct jr_http_conn *c)
{
    if (!c->req.chunked && !c->req.has_left)
        jr_http_conn_reset(c);
    else if (jr_http_conn_queued(c) > 0)
        c->cut = true;
    else
        jr_http_conn_close(c);
}

void jr_http_respond_end(struct jr_http_request *req, bool abort)
{
    if (req->away != NULL) {
        jr_http_away_end(req, abort);
        return;
    }
    struct jr_http_conn *c = jr_http_conn_of(req);
    const bool open = jr_http_state(c) != JR_HTTP_CLOSED;

    JR_ASSERT(req->owned);
    if (!open) {
        jr_http_conn_answered(c);
        return;
    }
    if (abort || !req->started || (req->has_left && req->left > 0)) {
        jr_http_conn_send(c, NULL, 0);
        end_cut(c);
    } else {
        if (req->chunked)
            jr_http1_write_last_chunk(&c->out);
        jr_http_conn_send(c, NULL, 0);
    }
    jr_http_conn_answered(c);
}

static void count_refused(struct jr_http_server_stats *stats, int status)
{
    if (status == 413)
        stats->body_too_large++;
    else if (status == 503)
        stats->bodies_refused++;
    else if (status != 408)
        stats->bad_requests++;
}

void jr_http_conn_refuse(struct jr_http_conn *c, int status, const char *words)
{
    const bool later = status == 503;
    struct jr_buf body;

    count_refused(&c->server->stats, status);
    jr_http_body_release(c);
    const struct jr_openai_failure failure = {
        .status = status, .code = later ? "overloaded" : NULL, .message = words};
    jr_buf_init(&body, 4096);
    jr_openai_error_write(&body, &failure);
    c->req.keep_alive = false;
    c->req.is_head = c->req.http10 = false;
    c->req.tag = NULL;
    put_head(c, status, "application/json", later ? "Retry-After: 1\r\n" : NULL, (int64_t)body.n);
    const uv_buf_t buf = uv_buf_init((char *)body.p, (unsigned)body.n);
    jr_http_conn_send(c, &buf, 1);
    jr_buf_deinit(&body);
    if (jr_http_state(c) != JR_HTTP_CLOSED)
        jr_http_conn_linger(c, true);
}
