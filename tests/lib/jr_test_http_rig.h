/* SPDX-License-Identifier: Apache-2.0 */
/* jr_test_http_rig: the HTTP server and a raw client in one thread. The loop turns only when it is
 * told to, so that what is sent between two turns is what the server reads at once. For tests and the
 * fuzz target; aborts when something does not come true within a minute. */
#ifndef JR_TEST_HTTP_RIG_H
#define JR_TEST_HTTP_RIG_H

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define JR_RIG_BODY_MAX 100000
#define JR_RIG_WAIT_MS  60000

struct jr_rig {
    struct jr_loop *loop;
    struct jr_http_server *server;
    struct jr_list held; /* of jr_rig_late */
    unsigned requests, gone;
};

struct jr_rig_late {
    struct jr_list node;
    struct jr_rig *rig;
    struct jr_http_request *req;
    bool started; /* of /cut */
};

struct jr_rig_client {
    struct jr_rig *rig;
    int fd;
    struct jr_tls *tls; /* NULL: plain */
    struct jr_buf got;  /* plaintext */
    bool ended;
};

static inline void jr_rig_die(const char *what)
{
    fprintf(stderr, "rig: %s\n", what);
    abort();
}

/* What was asked, as text: method, target, headers, body. */
static inline void jr_rig_tell(const struct jr_http_request *req, struct jr_buf *b)
{
    uint32_t n;
    const struct jr_http_header *v = jr_http_request_headers(req, &n);
    const struct jr_str parts[] = {jr_http_request_method(req), jr_http_request_path(req),
                                   jr_http_request_query(req)};
    const struct jr_str body = jr_http_request_body(req);

    for (unsigned i = 0; i < 3; i++) {
        jr_buf_put(b, parts[i].p, parts[i].n);
        jr_buf_puts(b, "|");
    }
    for (uint32_t i = 0; i < n; i++) {
        jr_buf_put(b, v[i].name.p, v[i].name.n);
        jr_buf_puts(b, "=");
        jr_buf_put(b, v[i].value.p, v[i].value.n);
        jr_buf_puts(b, "|");
    }
    jr_buf_put(b, body.p, body.n);
}

static inline void jr_rig_answer(struct jr_http_request *req)
{
    struct jr_buf b;

    jr_buf_init(&b, SIZE_MAX / 2);
    jr_rig_tell(req, &b);
    jr_http_respond(req, 200, "text/plain", NULL, b.p, b.n);
    jr_buf_deinit(&b);
}

static inline void jr_rig_on_gone(void *ctx)
{
    struct jr_rig_late *late = ctx;

    late->rig->gone++;
    jr_list_remove(&late->node);
    jr_http_respond_end(late->req, true);
    jr_xfree(late);
}

/* What stands before (or behind) the '-' of the query; a part of the answer of /cut. */
static inline struct jr_str jr_rig_part(const struct jr_http_request *req, bool behind)
{
    const struct jr_str q = jr_http_request_query(req);
    const char *dash = q.n > 0 ? memchr(q.p, '-', q.n) : NULL;

    if (dash == NULL)
        return behind ? jr_str_of(NULL, 0) : q;
    return behind ? jr_str_of(dash + 1, (size_t)(q.p + q.n - dash - 1))
                  : jr_str_of(q.p, (size_t)(dash - q.p));
}

static inline void jr_rig_hold(struct jr_rig *rig, struct jr_http_request *req, bool started)
{
    struct jr_rig_late *late = jr_xalloc(sizeof *late);

    late->rig = rig;
    late->req = req;
    late->started = started;
    jr_list_push_back(&rig->held, &late->node);
    jr_http_request_watch(req, jr_rig_on_gone, NULL, late);
}

/* /late is answered after the next turn; /cut?AB-CD has the answer ABCD, the second part after the
 * next turn; /parts comes in chunks of three bytes, all else at once. */
static inline void jr_rig_on_request(void *ctx, struct jr_http_request *req)
{
    struct jr_rig *rig = ctx;

    rig->requests++;
    if (jr_str_eq(jr_http_request_path(req), "/late")) {
        jr_rig_hold(rig, req, false);
    } else if (jr_str_eq(jr_http_request_path(req), "/cut")) {
        const struct jr_str part = jr_rig_part(req, false);
        jr_http_respond_start(req, 200, "text/plain", NULL, -1);
        (void)!jr_http_respond_write(req, part.p, part.n);
        jr_rig_hold(rig, req, true);
    } else if (jr_str_eq(jr_http_request_path(req), "/parts")) {
        struct jr_buf b;
        jr_buf_init(&b, SIZE_MAX / 2);
        jr_rig_tell(req, &b);
        jr_http_respond_start(req, 200, "text/plain", NULL, -1);
        for (size_t at = 0; at < b.n; at += 3)
            (void)!jr_http_respond_write(req, b.p + at, b.n - at < 3 ? b.n - at : 3);
        jr_http_respond_end(req, false);
        jr_buf_deinit(&b);
    } else {
        jr_rig_answer(req);
    }
}

static inline void jr_rig_turn(struct jr_rig *rig)
{
    struct jr_list *node;

    /* Twice: what was gathered is sent before the loop polls again. */
    (void)uv_run(jr_loop_uv(rig->loop), UV_RUN_NOWAIT);
    (void)uv_run(jr_loop_uv(rig->loop), UV_RUN_NOWAIT);
    while ((node = jr_list_pop_front(&rig->held)) != NULL) {
        struct jr_rig_late *late = JR_CONTAINER_OF(node, struct jr_rig_late, node);
        struct jr_http_request *req = late->req;
        const bool started = late->started;
        jr_xfree(late);
        jr_http_request_watch(req, NULL, NULL, NULL);
        if (!started) {
            jr_rig_answer(req);
            continue;
        }
        const struct jr_str part = jr_rig_part(req, true);
        (void)!jr_http_respond_write(req, part.p, part.n);
        jr_http_respond_end(req, false);
    }
}

/* tls: the server's context (taken), or NULL. */
static inline void jr_rig_open(struct jr_rig *rig, struct jr_tls_context *tls)
{
    const struct jr_http_server_config config = {.host = "127.0.0.1",
                                                 .body_max = JR_RIG_BODY_MAX,
                                                 .header_timeout_ms = JR_RIG_WAIT_MS,
                                                 .idle_timeout_ms = JR_RIG_WAIT_MS,
                                                 .on_request = jr_rig_on_request,
                                                 .ctx = rig};

    *rig = (struct jr_rig){0};
    jr_list_init(&rig->held);
    if (jr_loop_create(&rig->loop) < 0 ||
        jr_http_server_listen(rig->loop, &config, NULL, &rig->server) < 0)
        jr_rig_die("cannot listen");
    if (tls != NULL)
        jr_http_server_set_tls(rig->server, tls);
}

static inline void jr_rig_closed(void *ctx)
{
    struct jr_rig *rig = ctx;

    rig->server = NULL;
}

static inline void jr_rig_close(struct jr_rig *rig)
{
    jr_http_server_close(rig->server, jr_rig_closed, rig);
    while (rig->server != NULL)
        (void)uv_run(jr_loop_uv(rig->loop), UV_RUN_ONCE);
    jr_loop_destroy(rig->loop);
}

/* Sends what the session has, at most step bytes between two turns. */
static inline void jr_rig_flush(struct jr_rig_client *c, size_t step)
{
    const struct jr_buf *out = jr_tls_out(c->tls);

    for (size_t at = 0; at < out->n; at += step) {
        const size_t n = step < out->n - at ? step : out->n - at;
        if (send(c->fd, out->p + at, n, MSG_NOSIGNAL) < (ssize_t)n)
            break; /* the server closed: reading tells */
        if (step < out->n)
            jr_rig_turn(c->rig);
    }
    jr_tls_sent(c->tls);
}

/* Takes what has come. true: something did. */
static inline bool jr_rig_read(struct jr_rig_client *c)
{
    char buf[16 << 10];
    const ssize_t n = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);

    if (n <= 0) {
        const bool end = n == 0 || errno != EAGAIN;
        c->ended = c->ended || end;
        return end;
    }
    if (c->tls == NULL) {
        jr_buf_put(&c->got, buf, (size_t)n);
        return true;
    }
    if (jr_tls_feed(c->tls, buf, (size_t)n) < 0)
        jr_rig_die("fed too much");
    int rv;
    while ((rv = jr_tls_read(c->tls, buf, sizeof buf)) > 0)
        jr_buf_put(&c->got, buf, (size_t)rv);
    c->ended = rv < 0;
    jr_rig_flush(c, SIZE_MAX);
    return true;
}

/* Turns until cond is true of the client. */
static inline void jr_rig_until(struct jr_rig_client *c,
                                bool (*cond)(const struct jr_rig_client *c))
{
    for (int ms = 0; !cond(c) && ms < JR_RIG_WAIT_MS; ms++) {
        struct pollfd fd = {.fd = c->fd, .events = POLLIN};
        for (bool more = true; more;) {
            jr_rig_turn(c->rig);
            more = !c->ended && jr_rig_read(c) && !c->ended;
        }
        if (!cond(c))
            (void)poll(&fd, 1, 1);
    }
    if (!cond(c))
        jr_rig_die("it did not come within a minute");
}

static inline bool jr_rig_ended(const struct jr_rig_client *c)
{
    return c->ended;
}

static inline bool jr_rig_connected(const struct jr_rig_client *c)
{
    return c->ended || jr_tls_ready(c->tls);
}

/* tls: the client's context (borrows), or NULL. */
static inline void jr_rig_dial(struct jr_rig *rig, struct jr_tls_context *tls,
                               struct jr_rig_client *c)
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                     .sin_port = htons(jr_http_server_port(rig->server))};
    const int one = 1;

    *c = (struct jr_rig_client){.rig = rig, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    jr_buf_init(&c->got, SIZE_MAX / 2);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&addr, sizeof addr) != 0)
        jr_rig_die("cannot connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    jr_rig_turn(rig); /* accepted */
    if (tls == NULL)
        return;
    c->tls = jr_tls_create(tls, "127.0.0.1");
    (void)!jr_tls_handshake(c->tls);
    jr_rig_flush(c, SIZE_MAX);
    jr_rig_until(c, jr_rig_connected);
}

/* One piece, which is read before the next is sent; of TLS one record, wire bytes at a time. */
static inline void jr_rig_send(struct jr_rig_client *c, const void *p, size_t n, size_t wire)
{
    if (c->tls != NULL) {
        if (!c->ended && jr_tls_write(c->tls, p, n) == 0)
            jr_rig_flush(c, wire);
    } else if (send(c->fd, p, n, MSG_NOSIGNAL) < 0) {
        /* the server closed: reading tells */
    }
    jr_rig_turn(c->rig);
}

/* With a reset, which leaves no port waiting. */
static inline void jr_rig_hang_up(struct jr_rig_client *c)
{
    const struct linger linger = {.l_onoff = 1};

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(c->fd);
    jr_tls_destroy(c->tls);
    jr_buf_deinit(&c->got);
    jr_rig_turn(c->rig);
}

/* Without the interim answers: whether one is sent depends on what came along with the head. */
static inline void jr_rig_drop_interim(struct jr_buf *b)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *at;

    while (b->n > 0 && (at = memmem(b->p, b->n, interim, sizeof interim - 1)) != NULL) {
        const size_t rest = b->n - (size_t)((uint8_t *)at - b->p) - (sizeof interim - 1);
        memmove(at, at + sizeof interim - 1, rest);
        b->n -= sizeof interim - 1;
    }
}

#endif
