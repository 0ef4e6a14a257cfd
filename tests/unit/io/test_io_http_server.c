/* SPDX-License-Identifier: Apache-2.0 */
/* The server runs on a loop of its own thread; the test is a raw client that says each byte. All of
 * it runs twice: plain, and through TLS. */
#include "base/limits.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/http_internal.h"
#include "io/http_server.h"
#include "jr_test.h"
#include "jr_test_net.h"
#include "tls_pump.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define BODY_MAX   (10u << 20)

#define LATE_BYTES ((size_t)16 << 20) /* more than the kernel takes */

enum command { CMD_NONE, CMD_DRAIN, CMD_STOP, CMD_RELEASE, CMD_LOOK };

struct stream {
    struct fixture *f;
    struct jr_http_request *req;
    size_t left;
    bool gone;
};

struct fixture {
    struct jr_loop *loop;
    struct jr_http_server *server;
    struct jr_http_server_stats stats; /* copied when the loop ended */
    pthread_t thread;
    uint16_t port;
    struct stream *held; /* loop thread */
    atomic_uint requests, gone, waits, written_kb, ended, pauses;
    atomic_bool has_it; /* the client, what /last wrote */
};

static struct jr_tls_context *believes; /* the client's; NULL: plain */

static int dial(const struct fixture *f)
{
    const int fd = jr_test_connect(f->port);

    return believes == NULL ? fd : tls_pump_begin(believes, "127.0.0.1", fd);
}

struct note {
    struct jr_msg msg;
    struct fixture *f;
    enum command command;
};

static void stream_end(struct stream *st, bool abort)
{
    atomic_fetch_add(&st->f->ended, 1);
    if (st->f->held == st)
        st->f->held = NULL;
    jr_http_respond_end(st->req, abort);
    jr_xfree(st);
}

static void on_gone(void *ctx)
{
    struct stream *st = ctx;
    char byte = 'x';

    st->gone = true;
    atomic_fetch_add(&st->f->gone, 1);
    if (st->left > 0)
        assert_int_equal(jr_http_respond_write(st->req, &byte, 1), JR_ECLOSED);
    stream_end(st, false);
}

static void pump(void *ctx)
{
    static const char block[8192] = {'z'};
    struct stream *st = ctx;

    while (st->left > 0) {
        const size_t n = st->left < sizeof block ? st->left : sizeof block;
        const int err = jr_http_respond_write(st->req, block, n);
        if (err == JR_ECLOSED)
            return; /* on_gone ends it */
        st->left -= n;
        atomic_fetch_add(&st->f->written_kb, (unsigned)(n >> 10));
        if (err == JR_EAGAIN) {
            atomic_fetch_add(&st->f->waits, 1);
            return;
        }
    }
    stream_end(st, false);
}

static struct stream *stream_begin(struct fixture *f, struct jr_http_request *req, size_t left)
{
    struct stream *st = jr_xalloc(sizeof *st);

    *st = (struct stream){.f = f, .req = req, .left = left};
    jr_http_request_watch(req, on_gone, pump, st);
    return st;
}

static size_t number_of(struct jr_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n = n * 10 + (size_t)(s.p[i] - '0');
    return n;
}

/* /echo: the body. /head: what was parsed. /parts: a chunked answer of small writes. /stream?N: N
 * bytes with backpressure. /raw?N: the same with a length. /hold: no answer until released.
 * /last: ended only when the client has all of it. /abort: cut after a piece. /abort-late: the same behind more than the kernel takes. */
static void on_request(void *ctx, struct jr_http_request *req)
{
    struct fixture *f = ctx;
    const struct jr_str path = jr_http_request_path(req);
    const struct jr_str body = jr_http_request_body(req);

    atomic_fetch_add(&f->requests, 1);
    if (jr_str_eq(path, "/echo")) {
        jr_http_respond(req, 200, "text/plain", NULL, body.p, body.n);
    } else if (jr_str_eq(path, "/head")) {
        char text[256];
        const struct jr_str q = jr_http_request_query(req), m = jr_http_request_method(req),
                            h = jr_http_request_header(req, "x-test");
        uint32_t n_headers;
        (void)jr_http_request_headers(req, &n_headers);
        const int n = snprintf(text, sizeof text, "%.*s %.*s?%.*s [%.*s] %u %d", (int)m.n, m.p,
                               (int)path.n, path.p, (int)q.n, q.n ? q.p : "", (int)h.n,
                               h.n ? h.p : "", n_headers, jr_http_request_from_loopback(req));
        jr_http_respond(req, 200, "text/plain", "X-Extra: 1\r\n", text, (size_t)n);
    } else if (jr_str_eq(path, "/parts")) {
        jr_http_respond_start(req, 200, "text/event-stream", NULL, -1);
        for (int i = 0; i < 3; i++)
            assert_int_equal(jr_http_respond_write(req, "part\n", 5), 0);
        jr_http_respond_end(req, false);
    } else if (jr_str_eq(path, "/stream") || jr_str_eq(path, "/raw")) {
        const size_t n = number_of(jr_http_request_query(req));
        jr_http_respond_start(req, 200, "text/plain", NULL,
                              jr_str_eq(path, "/raw") ? (int64_t)n : -1);
        pump(stream_begin(f, req, n));
    } else if (jr_str_eq(path, "/hold")) {
        f->held = stream_begin(f, req, 0);
    } else if (jr_str_eq(path, "/last")) {
        const uint64_t until = jr_test_now_ms() + 60000;
        jr_http_respond_start(req, 200, "text/plain", NULL, 5);
        assert_int_equal(jr_http_respond_write(req, "he", 2), 0);
        assert_int_equal(jr_http_respond_write(req, "llo", 3), 0);
        while (!atomic_load(&f->has_it) && jr_test_now_ms() < until)
            jr_test_sleep_ms(1);
        atomic_fetch_add(&f->ended, atomic_load(&f->has_it));
        jr_http_respond_end(req, false);
    } else if (jr_str_eq(path, "/abort")) {
        jr_http_respond_start(req, 200, "text/plain", NULL, -1);
        assert_int_equal(jr_http_respond_write(req, "some", 4), 0);
        jr_http_respond_end(req, true);
    } else if (jr_str_eq(path, "/abort-late")) {
        char *much = jr_xalloc(LATE_BYTES);
        memset(much, 'z', LATE_BYTES);
        jr_http_respond_start(req, 200, "text/plain", NULL, -1);
        assert_int_equal(jr_http_respond_write(req, much, LATE_BYTES), JR_EAGAIN);
        assert_int_equal(jr_http_respond_write(req, "last words", 10), JR_EAGAIN);
        jr_http_respond_end(req, true);
        jr_xfree(much);
    } else {
        jr_http_respond(req, 404, NULL, NULL, NULL, 0);
    }
}

static void *run_loop(void *arg)
{
    struct fixture *f = arg;

    jr_loop_run(f->loop);
    return NULL;
}

static void closed(void *ctx)
{
    struct fixture *f = ctx;

    jr_loop_stop(f->loop);
}

static void deliver(struct jr_msg *msg)
{
    struct note *note = (struct note *)msg;
    struct fixture *f = note->f;

    switch (note->command) {
    case CMD_DRAIN:
        jr_http_server_drain(f->server);
        break;
    case CMD_RELEASE:
        if (f->held != NULL) {
            struct stream *st = f->held;
            f->held = NULL;
            atomic_fetch_add(&f->ended, 1);
            jr_http_respond(st->req, 200, "text/plain", NULL, "held", 4);
            jr_xfree(st);
        }
        break;
    case CMD_STOP:
        f->stats = *jr_http_server_stats(f->server);
        jr_http_server_close(f->server, closed, f);
        break;
    case CMD_LOOK:
        atomic_store(&f->pauses, (unsigned)jr_http_server_stats(f->server)->accept_pauses);
        break;
    case CMD_NONE:
        break;
    }
    jr_xfree(note);
}

static void command(struct fixture *f, enum command cmd)
{
    struct note *note = jr_xalloc(sizeof *note);

    note->msg.deliver = deliver;
    note->f = f;
    note->command = cmd;
    jr_loop_post(f->loop, &note->msg);
}

static void wait_for(atomic_uint *counter, unsigned least)
{
    for (int i = 0; i < 10000 && atomic_load(counter) < least; i++)
        usleep(1000);
    assert_true(atomic_load(counter) >= least);
}

/* Further ones, of the next server. */
static struct jr_http_server_config limits;

static struct fixture *start(uint32_t header_timeout_ms, uint32_t idle_timeout_ms,
                             uint32_t conns_max)
{
    struct fixture *f = jr_xalloc(sizeof *f);
    struct jr_errmsg e = {0};

    assert_int_equal(jr_loop_create(&f->loop), 0);
    const struct jr_http_server_config config = {
        .host = "127.0.0.1",
        .body_max = BODY_MAX,
        .conns_max = conns_max,
        .header_timeout_ms = header_timeout_ms,
        .idle_timeout_ms = idle_timeout_ms,
        .body_timeout_ms = limits.body_timeout_ms,
        .bodies_max = limits.bodies_max,
        .on_request = on_request,
        .ctx = f,
    };
    assert_int_equal(jr_http_server_listen(f->loop, &config, &e, &f->server), 0);
    f->port = jr_http_server_port(f->server);
    if (believes != NULL) {
        struct jr_tls_context *ctx;
        assert_int_equal(
            jr_tls_server_context(TLS_FIXTURE("server.pem"), TLS_FIXTURE("server.key"), &e, &ctx),
            0);
        jr_http_server_set_tls(f->server, ctx);
    }
    pthread_create(&f->thread, NULL, run_loop, f);
    return f;
}

static void stop(struct fixture *f)
{
    command(f, CMD_STOP);
    pthread_join(f->thread, NULL);
    jr_loop_destroy(f->loop);
}

static int setup(void **state)
{
    *state = start(60000, 60000, 100);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->server != NULL)
        stop(f);
    tls_pump_wait();
    jr_xfree(f);
    return 0;
}

/* Reads one answer with a Content-Length; the body lands in dst. */
static int read_answer(int fd, char *dst, size_t cap)
{
    char head[4096];

    jr_test_read_until(fd, head, sizeof head, "\r\n\r\n");
    assert_memory_equal(head, "HTTP/1.1 ", 9);
    const char *length = strstr(head, "Content-Length: ");
    assert_non_null(length);
    const size_t n = (size_t)strtoul(length + 16, NULL, 10);
    assert_true(n < cap);
    assert_int_equal(jr_test_read_n(fd, dst, n), n);
    dst[n] = '\0';
    return atoi(head + 9);
}

#define HOST "Host: x\r\n"

static void test_keep_alive(void **state)
{
    struct fixture *f = *state;
    char text[512];
    const int fd = dial(f);

    for (int i = 0; i < 3; i++) {
        jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, "hello");
    }
    jr_test_puts(fd, "GET http://x/head?a=1&b HTTP/1.1\r\n" HOST "X-TEST:  v w \r\nEmpty:\r\n\r\n");
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    assert_string_equal(text, "GET /head?a=1&b [v w] 3 1");
    jr_test_puts(fd, "GET /no HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    jr_test_read_all(fd, text, sizeof text);
    assert_string_equal(text,
                        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    close(fd);
    stop(f);
    assert_int_equal(f->stats.requests_total, 5);
    assert_int_equal(f->stats.conns_total, 1);
    f->server = NULL;
}

/* The head byte by byte, then an empty line between requests. */
static void test_slow_bytes(void **state)
{
    struct fixture *f = *state;
    const char *request = "\r\nPOST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc";
    char text[64];
    const int fd = dial(f);

    for (int round = 0; round < 2; round++) {
        for (const char *p = request; *p != '\0'; p++)
            jr_test_send(fd, p, 1);
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, "abc");
    }
    close(fd);
}

/* The last byte of a length that was said waits neither for the end nor for the turn's. */
static void test_last_byte_waits_for_nothing(void **state)
{
    struct fixture *f = *state;
    char text[16];
    const int fd = dial(f);

    for (unsigned i = 1; i <= 2; i++) {
        atomic_store(&f->has_it, false);
        jr_test_puts(fd, "GET /last HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, "hello");
        atomic_store(&f->has_it, true);
        wait_for(&f->ended, i);
    }
    close(fd);
}

static void test_pipelining(void **state)
{
    struct fixture *f = *state;
    char text[64];
    const int fd = dial(f);

    /* The first is answered late; the others wait their turn in order. */
    jr_test_puts(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n"
                     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n1"
                     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                     "1\r\n2\r\n0\r\n\r\n"
                     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n3");
    wait_for(&f->requests, 1);
    command(f, CMD_RELEASE);
    for (unsigned i = 0; i < 4; i++) {
        static const char *const want[] = {"held", "1", "2", "3"};
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, want[i]);
    }
    close(fd);
}

/* More pipelined bytes than the buffer holds, while the first is under way. */
static void test_pipelined_flood(void **state)
{
    enum { N = 2000 };
    static const char one[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nflow";
    struct fixture *f = *state;
    char *all = malloc(N * sizeof one), text[64];
    size_t n = 0;
    const int fd = dial(f);

    for (int i = 0; i < N; i++, n += sizeof one - 1)
        memcpy(all + n, one, sizeof one - 1);
    jr_test_puts(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->requests, 1);
    jr_test_send(fd, all, n);
    command(f, CMD_RELEASE);
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    for (int i = 0; i < N; i++) {
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, "flow");
    }
    free(all);
    close(fd);
}

static void test_continue(void **state)
{
    struct fixture *f = *state;
    char text[256];
    const int fd = dial(f);

    jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST
                     "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    jr_test_read_until(fd, text, sizeof text, "\r\n\r\n");
    assert_string_equal(text, "HTTP/1.1 100 Continue\r\n\r\n");
    jr_test_puts(fd, "ok");
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    assert_string_equal(text, "ok");
    /* A body that is too large is refused instead. */
    jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST
                     "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
    assert_int_equal(read_answer(fd, text, sizeof text), 413);
    close(fd);
}

static void test_chunked_both_ways(void **state)
{
    struct fixture *f = *state;
    char text[512];
    const int fd = dial(f);

    jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                     "5;ext=1\r\nhello\r\n");
    jr_test_puts(fd, "6\r\n world\r\n0\r\nTrailer: x\r\n\r\n");
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    assert_string_equal(text, "hello world");
    jr_test_puts(fd, "GET /parts HTTP/1.1\r\n" HOST "\r\n");
    jr_test_read_until(fd, text, sizeof text, "0\r\n\r\n");
    assert_string_equal(text, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                              "Transfer-Encoding: chunked\r\n\r\n"
                              "5\r\npart\n\r\n5\r\npart\n\r\n5\r\npart\n\r\n0\r\n\r\n");
    close(fd);
}

static void test_head_and_http10(void **state)
{
    struct fixture *f = *state;
    char text[512];
    int fd = dial(f);

    jr_test_puts(fd, "HEAD /parts HTTP/1.1\r\n" HOST "\r\nHEAD /head HTTP/1.1\r\n" HOST
                     "Connection: close\r\n\r\n");
    jr_test_read_all(fd, text, sizeof text);
    assert_string_equal(text,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n"
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n"
                        "Connection: close\r\nX-Extra: 1\r\n\r\n");
    close(fd);
    fd = dial(f);
    jr_test_puts(fd, "GET /parts HTTP/1.0\r\n\r\n");
    jr_test_read_all(fd, text, sizeof text);
    assert_string_equal(text, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                              "Connection: close\r\n\r\npart\npart\npart\n");
    close(fd);
    fd = dial(f);
    jr_test_puts(fd, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                     "GET /echo HTTP/1.0\r\n\r\n");
    jr_test_read_all(fd, text, sizeof text);
    assert_string_equal(text, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"
                              "Connection: keep-alive\r\n\r\n"
                              "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"
                              "Connection: close\r\n\r\n");
    close(fd);
}

static void test_big_bodies(void **state)
{
    enum { N = 8 << 20 };
    struct fixture *f = *state;
    char *body = malloc(N + 1), *back = malloc(N + 1), head[128];
    const int fd = dial(f);

    for (size_t i = 0; i < N; i++)
        body[i] = (char)('a' + i % 23);
    body[N] = '\0';
    snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", N);
    jr_test_puts(fd, head);
    jr_test_send(fd, body, N);
    assert_int_equal(read_answer(fd, back, N + 1), 200);
    assert_memory_equal(body, back, N);
    jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < N; at += N / 128) {
        snprintf(head, sizeof head, "%x\r\n", N / 128);
        jr_test_puts(fd, head);
        jr_test_send(fd, body + at, N / 128);
        jr_test_puts(fd, "\r\n");
    }
    jr_test_puts(fd, "0\r\n\r\n");
    assert_int_equal(read_answer(fd, back, N + 1), 200);
    assert_memory_equal(body, back, N);
    /* Pipelined behind a body: not a byte of it may be taken for the body. */
    jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 20000\r\n\r\n");
    jr_test_send(fd, body, 10000);
    memcpy(back, body, 10000);
    strcpy(back + 10000, "GET /head HTTP/1.1\r\n" HOST "\r\n");
    jr_test_send(fd, back, strlen(back));
    assert_int_equal(read_answer(fd, back, N + 1), 200);
    assert_int_equal(strlen(back), 20000);
    assert_int_equal(read_answer(fd, back, N + 1), 200);
    free(body);
    free(back);
    close(fd);
}

/* The head of a request with a large body moves to a place of its own while the body comes: it is read
 * as before, there is room behind it for more than fits, and the client is seen to go away. */
static void test_head_of_a_large_body(void **state)
{
    enum { N = 200000, MORE = 500 };
    static const char one[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nflow";
    static const char large[] =
        " HTTP/1.1\r\n" HOST "X-Test: kept\r\nContent-Length: 200000\r\n\r\n";
    struct fixture *f = *state;
    char *body = calloc(1, N), text[256];
    const int fd = dial(f);

    memset(body, 'b', N);
    for (int round = 0; round < 2; round++) {
        jr_test_puts(fd, "POST /head?q=1");
        jr_test_puts(fd, large);
        jr_test_send(fd, body, N);
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, "POST /head?q=1 [kept] 3 1");
    }
    jr_test_puts(fd, "POST /hold");
    jr_test_puts(fd, large);
    jr_test_send(fd, body, N);
    for (int i = 0; i < MORE; i++)
        jr_test_puts(fd, one);
    wait_for(&f->requests, 3);
    command(f, CMD_RELEASE);
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    assert_string_equal(text, "held");
    for (int i = 0; i < MORE; i++) {
        assert_int_equal(read_answer(fd, text, sizeof text), 200);
        assert_string_equal(text, "flow");
    }
    jr_test_puts(fd, "POST /hold");
    jr_test_puts(fd, large);
    jr_test_send(fd, body, N);
    wait_for(&f->requests, 4 + MORE);
    close(fd);
    wait_for(&f->gone, 1);
    free(body);
}

/* What is refused, with its status, and after which the connection ends. */
static void test_refused(void **state)
{
    static const struct {
        int status;
        const char *raw;
    } cases[] = {
        {400, "GET\r\n\r\n"},
        {400, "garbage\r\n\r\n"},
        {505, "GET /echo\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\n\r\n"}, /* no Host */
        {400, "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\nHost: x\n\n"}, /* bare LF */
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n"}, /* bare CR */
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\n\rContent-Length: 5\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\n Host: x\r\nHost: y\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\nHost : x\r\n\r\n"}, /* space before colon */
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\nA\x01: y\r\n\r\n"},
        {400, "GET /echo HTTP/1.1\r\nHost: x\r\nA: \x01y\r\n\r\n"},
        {400, "GET /e cho HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
        {505, "GET /echo HTTP/2.0\r\nHost: x\r\n\r\n"},
        {400, "GET /echo HTTP/1.9\r\nHost: x\r\n\r\n"},
        {400, "GET /echo HTTP/01.1\r\nHost: x\r\n\r\n"},
        {405, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nhello"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n"},
        {413, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n\r\n\r\n"},
        {400,
         "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"},
        {400,
         "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"},
        {400,
         "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\n\r\n5\rX\nhello\r\n0\r\n\r\n"},
        {400,
         "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\rC: d\r\n\r\n"},
        {400, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\n"},
        {400, "POST /echo HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {417, "POST /echo HTTP/1.1\r\n" HOST "Expect: magic\r\nContent-Length: 1\r\n\r\n1"},
        {413, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10485761\r\n\r\n"},
    };
    struct fixture *f = *state;
    char text[2048];
    unsigned wrong = 0;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int fd = dial(f);
        jr_test_puts(fd, cases[i].raw);
        jr_test_puts(fd, "GET /echo HTTP/1.1\r\n" HOST "\r\n"); /* what might be smuggled */
        shutdown(fd, SHUT_WR);
        jr_test_read_all(fd, text, sizeof text);
        if (strncmp(text, "HTTP/1.1 ", 9) != 0 || atoi(text + 9) != cases[i].status ||
            strstr(text, "\nHTTP/1.1") != NULL || strstr(text, "\"code\":") == NULL) {
            wrong++;
            print_error("want %d for:\n%s\ngot:\n%s\n", cases[i].status, cases[i].raw, text);
        }
        close(fd);
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(atomic_load(&f->requests), 0);
}

/* Requests with bytes changed, dropped and doubled: whatever comes back, the server lives on and
 * each connection ends. */
static void test_mutated(void **state)
{
    static const char *const seeds[] = {
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n",
        "GET /parts?x=y HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        "HEAD /head HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n",
    };
    static const char bytes[] = "\r\n :;,0159afx\0\t\377/?%chunked";
    struct fixture *f = *state;
    struct jr_rng rng;
    char raw[512], text[8192];

    jr_rng_init(&rng, jr_test_seed(), 0);
    for (int round = 0; round < 300; round++) {
        const char *seed = seeds[jr_rng_below(&rng, 3)];
        size_t n = strlen(seed);
        memcpy(raw, seed, n);
        for (uint32_t k = 1 + jr_rng_below(&rng, 4); k > 0; k--) {
            const size_t at = (size_t)jr_rng_below(&rng, (uint32_t)n - 1);
            switch (jr_rng_below(&rng, 3)) {
            case 0:
                raw[at] = bytes[jr_rng_below(&rng, sizeof bytes - 1)];
                break;
            case 1:
                memmove(raw + at, raw + at + 1, n - at - 1);
                n--;
                break;
            default:
                memmove(raw + at + 1, raw + at, n - at);
                n++;
                break;
            }
        }
        const int fd = dial(f);
        jr_test_send(fd, raw, n);
        shutdown(fd, SHUT_WR);
        jr_test_read_all(fd, text, sizeof text);
        close(fd);
    }
    const int fd = dial(f);
    jr_test_puts(fd, seeds[0]);
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    assert_string_equal(text, "hello");
    close(fd);
}

static void test_header_limits(void **state)
{
    struct fixture *f = *state;
    char text[2048], line[1200];

    for (int many = 0; many < 2; many++) {
        const int fd = dial(f);
        jr_test_puts(fd, "GET /echo HTTP/1.1\r\n" HOST);
        memset(line, 'v', sizeof line);
        for (unsigned i = 0; i < (many ? JR_HTTP_HEADERS_MAX : 70); i++) {
            snprintf(line, sizeof line, "H%u: ", i);
            line[strlen(line)] = 'v';
            memcpy(line + (many ? 10 : 1000), "\r\n", 3);
            jr_test_puts(fd, line);
            memset(line, 'v', sizeof line);
        }
        jr_test_puts(fd, "\r\n");
        assert_int_equal(read_answer(fd, text, sizeof text), 431);
        close(fd);
    }
    /* A long head below the limit is fine. */
    const int fd = dial(f);
    jr_test_puts(fd, "GET /head HTTP/1.1\r\n" HOST "X-Test: t\r\n");
    for (unsigned i = 0; i < 60; i++) {
        memset(line, 'v', sizeof line);
        memcpy(line, "A: ", 3);
        memcpy(line + 1000, "\r\n", 3);
        jr_test_puts(fd, line);
    }
    jr_test_puts(fd, "\r\n");
    assert_int_equal(read_answer(fd, text, sizeof text), 200);
    assert_string_equal(text, "GET /head? [t] 62 1");
    close(fd);
}

static void test_chunk_limits(void **state)
{
    struct fixture *f = *state;
    char text[1024], *chunk = malloc(BODY_MAX + 2);
    int fd = dial(f);

    memset(chunk, 'x', BODY_MAX + 1);
    chunk[BODY_MAX + 1] = '\0';
    snprintf(text, sizeof text,
             "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%x\r\n",
             BODY_MAX + 1);
    jr_test_puts(fd, text);
    jr_test_puts(fd, chunk);
    assert_int_equal(read_answer(fd, text, sizeof text), 413);
    close(fd);
    /* An endless chunk extension. */
    fd = dial(f);
    jr_test_puts(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;");
    jr_test_send(fd, chunk, 100000);
    assert_int_equal(read_answer(fd, text, sizeof text), 400);
    close(fd);
    free(chunk);
}

static void test_gone_while_held(void **state)
{
    struct fixture *f = *state;
    const int fd = dial(f);

    jr_test_puts(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->requests, 1);
    close(fd);
    wait_for(&f->gone, 1);
    wait_for(&f->ended, 1);
}

static void test_gone_mid_stream(void **state)
{
    struct fixture *f = *state;
    char text[1024];
    const int fd = dial(f);

    jr_test_puts(fd, "GET /stream?50000000 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(jr_test_read_n(fd, text, sizeof text), sizeof text);
    close(fd);
    wait_for(&f->gone, 1);
    wait_for(&f->ended, 1);
}

/* A client that does not read: what is written for it stays bounded, then it all arrives. */
static void test_backpressure(void **state)
{
    enum { N = 30000000 };
    struct fixture *f = *state;
    char *all = malloc(N + 1000);
    int fd = dial(f);

    for (int raw = 0; raw < 2; raw++) {
        char head[512];
        snprintf(head, sizeof head, "GET /%s?%d HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
                 raw ? "raw" : "stream", N);
        jr_test_puts(fd, head);
        wait_for(&f->waits, 1);
        assert_true(atomic_load(&f->written_kb) < (16 << 10)); /* our 256 KiB and the kernel's */
        jr_test_read_until(fd, head, sizeof head, "\r\n\r\n");
        if (raw) {
            assert_int_equal(jr_test_read_all(fd, all, N + 1000), N);
        } else {
            size_t total = 0;
            for (;;) {
                jr_test_read_until(fd, head, sizeof head, "\r\n");
                const size_t n = (size_t)strtoul(head, NULL, 16);
                assert_int_equal(jr_test_read_n(fd, all, n + 2), n + 2);
                total += n;
                if (n == 0)
                    break;
            }
            assert_int_equal(total, N);
        }
        close(fd);
        atomic_store(&f->waits, 0);
        atomic_store(&f->written_kb, 0);
        fd = dial(f);
    }
    close(fd);
    free(all);
    wait_for(&f->ended, 2);
    assert_int_equal(atomic_load(&f->gone), 0);
}

static void test_abort_is_seen(void **state)
{
    struct fixture *f = *state;
    char text[512];
    const int fd = dial(f);

    jr_test_puts(fd, "GET /abort HTTP/1.1\r\n" HOST "\r\n");
    jr_test_read_all(fd, text, sizeof text);
    assert_non_null(strstr(text, "\r\n\r\n4\r\nsome\r\n"));
    assert_null(strstr(text, "0\r\n\r\n"));
    close(fd);
}

/* What was relayed before the cut is not lost with it. */
static void test_abort_comes_last(void **state)
{
    struct fixture *f = *state;
    char *all = jr_xalloc(LATE_BYTES + 1000);
    const int fd = dial(f);

    jr_test_puts(fd, "GET /abort-late HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->requests, 1);
    const size_t n = jr_test_read_all(fd, all, LATE_BYTES + 1000);
    assert_true(n > LATE_BYTES);
    assert_memory_equal(all + n - 15, "a\r\nlast words\r\n", 15);
    close(fd);
    jr_xfree(all);
}

/* Who reads nothing behind the cut does not keep the connection for the idle timeout, an hour here:
 * the only place is free again. */
static void test_cut_and_not_read(void **state)
{
    struct fixture *f = start(5000, 3600000, 1);
    char text[512] = "";
    bool served = false;

    *state = f;
    const int fd = dial(f);
    jr_test_puts(fd, "GET /abort-late HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->requests, 1);
    for (int i = 0; i < 600 && !served; i++) {
        jr_test_sleep_ms(100);
        const int next = dial(f);
        jr_test_puts(next, "GET /echo HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
        jr_test_read_all(next, text, sizeof text);
        served = strncmp(text, "HTTP/1.1 200 ", 13) == 0;
        close(next);
    }
    assert_true(served);
    close(fd);
}

static void test_timeouts(void **state)
{
    /* Who is connected speaks within them, though the machine stands still, and after a handshake. */
    struct fixture *f = start(3000, 4000, 100);
    char text[512];

    *state = f;
    const int slow = dial(f), idle = dial(f), body = dial(f);
    jr_test_puts(slow, "GET /echo HTTP/1.1\r\nHos");
    jr_test_puts(body, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    assert_int_equal(read_answer(slow, text, sizeof text), 408);
    assert_int_equal(jr_test_read_all(slow, text, sizeof text), 0);
    assert_int_equal(jr_test_read_all(idle, text, sizeof text), 0);
    assert_int_equal(read_answer(body, text, sizeof text), 408);
    close(slow);
    close(idle);
    close(body);
    /* A client that reads nothing for an idle timeout is cut. */
    const int deaf = dial(f);
    jr_test_puts(deaf, "GET /stream?50000000 HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->gone, 1);
    close(deaf);
    stop(f);
    assert_int_equal(f->stats.header_timeouts, 1);
    f->server = NULL;
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 1) > 0;
}

/* A body that always moves on, a byte at a time: it has its time all the same. */
static void test_body_timeout(void **state)
{
    limits = (struct jr_http_server_config){.body_timeout_ms = 300};
    struct fixture *f = start(60000, 60000, 0);
    limits = (struct jr_http_server_config){0};
    char text[512];

    *state = f;
    for (int chunked = 0; chunked <= 1; chunked++) {
        const int fd = dial(f);
        size_t n = 0;
        jr_test_puts(fd, chunked
                             ? "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                             : "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
        while (!is_readable(fd) && n++ < 100000) {
            jr_test_puts(fd, chunked ? "1\r\nx\r\n" : "x");
        }
        assert_int_equal(read_answer(fd, text, sizeof text), 408);
        close(fd);
    }
    stop(f);
    assert_int_equal(f->stats.body_timeouts, 2);
    assert_int_equal(f->stats.bodies_refused, 0);
    f->server = NULL;
}

/* All bodies together: one that finds no room, or none any more, is refused; then there is room. */
static void test_bodies_max(void **state)
{
    static const char length[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 150000\r\n",
                      chunks[] = "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                                 "11170\r\n"; /* 70000 */
    static char body[150000], text[160000];
    limits = (struct jr_http_server_config){.bodies_max = 200000};
    struct fixture *f = start(60000, 60000, 0);
    limits = (struct jr_http_server_config){0};

    *state = f;
    memset(body, 'b', sizeof body);
    const int held = dial(f);
    jr_test_puts(held, length);
    jr_test_puts(held, "Expect: 100-continue\r\n\r\n");
    assert_int_equal(jr_test_read_n(held, text, 25), 25); /* it has its room */
    jr_test_send(held, body, 100000);
    const int declared = dial(f), grows = dial(f);
    jr_test_puts(declared, length);
    jr_test_puts(declared, "Expect: 100-continue\r\n\r\n");
    jr_test_read_all(declared, text, sizeof text);
    assert_memory_equal(text, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(text, "Retry-After: 1\r\n"));
    assert_non_null(strstr(text, "\"overloaded\""));
    close(declared);
    jr_test_puts(grows, chunks);
    jr_test_send(grows, body, 70000);
    assert_int_equal(read_answer(grows, text, sizeof text), 503);
    close(grows);
    jr_test_send(held, body, 50000);
    assert_int_equal(read_answer(held, text, sizeof text), 200);
    jr_test_puts(held, length);
    jr_test_puts(held, "\r\n");
    jr_test_send(held, body, sizeof body);
    assert_int_equal(read_answer(held, text, sizeof text), 200);
    close(held);
    stop(f);
    assert_int_equal(f->stats.bodies_refused, 2);
    assert_int_equal(f->stats.bad_requests, 0);
    f->server = NULL;
}

static void test_conns_max(void **state)
{
    struct fixture *f = start(5000, 5000, 2);
    char text[512];

    *state = f;
    const int a = dial(f), b = dial(f);
    jr_test_puts(a, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(read_answer(a, text, sizeof text), 200);
    jr_test_puts(b, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(read_answer(b, text, sizeof text), 200);
    const int c = dial(f);
    assert_int_equal(jr_test_read_all(c, text, sizeof text), 0);
    close(a);
    close(b);
    close(c);
    stop(f);
    assert_int_equal(f->stats.refused_conns, 1);
    f->server = NULL;
}

/* Those who connect meanwhile wait with the kernel; who is connected is served, and then all are. */
static void test_no_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit;
    int fds[3];
    char text[512];
    const int old = dial(f);

    jr_test_puts(old, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(read_answer(old, text, sizeof text), 200);
    for (int i = 0; i < 3; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit none = {3, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_port = htons(f->port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 3; i++)
        assert_int_equal(connect(fds[i], (const struct sockaddr *)&addr, sizeof addr), 0);
    while (atomic_load(&f->pauses) < 3) { /* it tries again and again, but does not spin */
        command(f, CMD_LOOK);
        usleep(1000);
    }
    jr_test_puts(old, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(read_answer(old, text, sizeof text), 200);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 3; i++) { /* of a server with TLS this is no handshake: it closes */
        jr_test_puts(fds[i], "GET /echo HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
        (void)jr_test_read_all(fds[i], text, sizeof text);
        close(fds[i]);
    }
    close(old);
    stop(f);
    assert_int_equal(f->stats.conns_total, 4);
    assert_int_equal(f->stats.requests_total + f->stats.tls_failures, 5);
    assert_true(f->stats.accept_pauses < 1000);
    f->server = NULL;
}

static void test_drain(void **state)
{
    struct fixture *f = *state;
    char text[512];
    const int idle = dial(f), busy = dial(f), fresh = dial(f);

    jr_test_puts(idle, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(read_answer(idle, text, sizeof text), 200);
    jr_test_puts(busy, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->requests, 2);
    command(f, CMD_DRAIN);
    assert_int_equal(jr_test_read_all(idle, text, sizeof text), 0);
    command(f, CMD_RELEASE);
    jr_test_read_all(busy, text, sizeof text);
    assert_non_null(strstr(text, "Connection: close\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nheld"));
    jr_test_puts(fresh, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    jr_test_read_all(fresh, text, sizeof text);
    assert_non_null(strstr(text, "200 OK"));
    close(idle);
    close(busy);
    close(fresh);
}

static void test_close_tells_gone(void **state)
{
    struct fixture *f = *state;
    char text[64];
    const int fd = dial(f);

    jr_test_puts(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&f->requests, 1);
    stop(f);
    f->server = NULL;
    assert_int_equal(atomic_load(&f->gone), 1);
    assert_int_equal(jr_test_read_all(fd, text, sizeof text), 0);
    close(fd);
}

static void test_port_in_use(void **state)
{
    struct fixture *f = *state;
    struct jr_http_server *second = NULL;
    struct jr_errmsg e = {0};
    struct jr_loop *loop;
    char want[128];
    struct jr_http_server_config config = {.host = "127.0.0.1", .port = f->port};

    assert_int_equal(jr_loop_create(&loop), 0);
    assert_int_equal(jr_http_server_listen(loop, &config, &e, &second), JR_EADDRINUSE);
    snprintf(want, sizeof want, "port %u on 127.0.0.1 is in use", f->port);
    assert_string_equal(e.text, want);
    config.host = "nowhere.example";
    assert_int_equal(jr_http_server_listen(loop, &config, &e, &second), JR_EINVAL);
    assert_null(second);
    jr_loop_destroy(loop);
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

/* Two that share a port: what one closes the other serves on. One that does not say so is refused. */
static void test_shared_port(void **state)
{
    struct jr_http_server *servers[2] = {NULL, NULL}, *third = NULL;
    struct jr_errmsg e = {0};
    struct jr_loop *loop;
    struct jr_http_server_config config = {.host = "127.0.0.1", .reuse_port = true};

    (void)state;
    assert_int_equal(jr_loop_create(&loop), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(jr_http_server_listen(loop, &config, &e, &servers[i]), 0);
        config.port = jr_http_server_port(servers[i]);
    }
    assert_int_equal(jr_http_server_port(servers[0]), jr_http_server_port(servers[1]));
    config.reuse_port = false;
    assert_int_equal(jr_http_server_listen(loop, &config, &e, &third), JR_EADDRINUSE);
    jr_http_server_close(servers[0], NULL, NULL);
    (void)uv_run(jr_loop_uv(loop), UV_RUN_NOWAIT);
    for (int i = 0; i < 8; i++) {
        const int fd = jr_test_connect(config.port);
        for (int ms = 0; ms < 60000 && jr_http_server_stats(servers[1])->conns_total <= (uint64_t)i;
             ms++) {
            (void)uv_run(jr_loop_uv(loop), UV_RUN_NOWAIT);
            usleep(1000);
        }
        close(fd);
    }
    assert_int_equal(jr_http_server_stats(servers[1])->conns_total, 8);
    bool gone = false;
    jr_http_server_close(servers[1], set_true, &gone);
    while (!gone)
        (void)uv_run(jr_loop_uv(loop), UV_RUN_ONCE);
    jr_loop_destroy(loop);
}

static void answer_at_once(void *ctx, struct jr_http_request *req)
{
    (void)ctx;
    jr_http_respond(req, 200, "text/plain", NULL, "late", 4);
}

/* Who has connected is a client already, though nobody has taken the connection yet: the drain does. */
static void test_drain_takes_who_waits(void **state)
{
    struct jr_http_server *server = NULL;
    struct jr_errmsg e = {0};
    struct jr_loop *loop;
    const struct jr_http_server_config config = {.host = "127.0.0.1",
                                                 .body_max = 1000,
                                                 .header_timeout_ms = 60000,
                                                 .idle_timeout_ms = 60000,
                                                 .on_request = answer_at_once};
    char text[512];
    int fds[100]; /* more than are taken in one turn */

    (void)state;
    assert_int_equal(jr_loop_create(&loop), 0);
    assert_int_equal(jr_http_server_listen(loop, &config, &e, &server), 0);
    for (int i = 0; i < 100; i++) {
        fds[i] = jr_test_connect(jr_http_server_port(server));
        jr_test_puts(fds[i], "GET /x HTTP/1.1\r\n" HOST "\r\n");
    }
    jr_http_server_drain(server);
    for (int i = 0; i < 100; i++) {
        for (int ms = 0; ms < 60000 && !is_readable(fds[i]); ms++)
            (void)uv_run(jr_loop_uv(loop), UV_RUN_NOWAIT);
        assert_int_equal(read_answer(fds[i], text, sizeof text), 200);
        close(fds[i]);
    }
    bool gone = false;
    jr_http_server_close(server, set_true, &gone);
    while (!gone)
        (void)uv_run(jr_loop_uv(loop), UV_RUN_ONCE);
    jr_loop_destroy(loop);
}

#define TEST(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_OWN(name) cmocka_unit_test_teardown(name, teardown)

static bool is_loopback(const char *text)
{
    struct sockaddr_storage addr = {0};
    struct sockaddr_in *a4 = (struct sockaddr_in *)&addr;
    struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)&addr;
    if (inet_pton(AF_INET, text, &a4->sin_addr) == 1) {
        addr.ss_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &a6->sin6_addr), 1);
        addr.ss_family = AF_INET6;
    }
    return jr_http_is_loopback(&addr);
}

static void test_who_is_this_machine(void **state)
{
    (void)state;
    static const char *const here[] = {"127.0.0.1", "127.255.3.4", "::1", "::ffff:127.0.0.1"};
    static const char *const elsewhere[] = {"10.0.0.1", "128.0.0.1",   "126.255.255.255",
                                            "0.0.0.0",  "::",          "::2",
                                            "fe80::1",  "::127.0.0.1", "::ffff:10.0.0.1"};
    for (size_t i = 0; i < sizeof here / sizeof *here; i++)
        assert_true(is_loopback(here[i]));
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
        assert_false(is_loopback(elsewhere[i]));
    struct sockaddr_storage none = {.ss_family = AF_UNIX};
    assert_false(jr_http_is_loopback(&none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_this_machine),
        TEST(test_keep_alive),
        TEST(test_slow_bytes),
        TEST(test_pipelining),
        TEST(test_pipelined_flood),
        TEST(test_continue),
        TEST(test_last_byte_waits_for_nothing),
        TEST(test_chunked_both_ways),
        TEST(test_head_and_http10),
        TEST(test_big_bodies),
        TEST(test_head_of_a_large_body),
        TEST(test_refused),
        TEST(test_mutated),
        TEST(test_header_limits),
        TEST(test_chunk_limits),
        TEST(test_gone_while_held),
        TEST(test_gone_mid_stream),
        TEST(test_backpressure),
        TEST(test_abort_is_seen),
        TEST(test_abort_comes_last),
        TEST_OWN(test_cut_and_not_read),
        TEST_OWN(test_timeouts),
        TEST_OWN(test_body_timeout),
        TEST_OWN(test_bodies_max),
        TEST_OWN(test_conns_max),
        TEST(test_no_descriptors),
        TEST(test_drain),
        TEST(test_close_tells_gone),
        TEST(test_port_in_use),
        cmocka_unit_test(test_shared_port),
        cmocka_unit_test(test_drain_takes_who_waits),
    };
    const int plain = cmocka_run_group_tests_name("plain", tests, NULL, NULL);
    if (jr_tls_client_context(TLS_FIXTURE("ca.pem"), false, NULL, &believes) < 0)
        return 1;
    const int tls = cmocka_run_group_tests_name("TLS", tests, NULL, NULL);
    jr_tls_context_destroy(believes);
    return plain + tls;
}
