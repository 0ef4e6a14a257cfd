/* SPDX-License-Identifier: Apache-2.0 */
/* The client runs on the test's thread; its peer is a thread that follows a script. All of it runs
 * twice: plain, and through TLS. */
#include "base/mem.h"
#include "io/http_client.h"
#include "io/http_upstream.h"
#include "jr_test.h"
#include "jr_test_net.h"
#include "tls_pump.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct jr_tls_context *shows; /* the peer's; NULL: plain */
static const char *scheme = "http";

/* A step of the peer: "<text" reads until text; ">text" sends it; "!" closes and accepts the next
 * connection; "." does so once the client closed; "?" waits for the test; NULL ends (and closes). */
struct peer {
    const char *const *steps;
    int listener;
    uint16_t port;
    pthread_t thread;
    sem_t go, closed;
    unsigned conns;
    pthread_mutex_t mu;
    char seen[16][512]; /* what was read, in order; under mu */
    unsigned n_seen;
};

struct fixture {
    struct jr_loop *loop;
    struct jr_http_client *client;
    struct peer peer;
    struct jr_http_exchange *x;
    struct jr_timer *timer, *resume;
    /* the answer */
    int status, err;
    unsigned heads, ends, want_ends;
    int64_t content_length;
    char header[64];
    struct jr_buf body;
    bool cancel_at_head, cancel_at_data, pause_at_head;
    bool canceled;
};

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    int fd = -1;
    char text[512];

    for (const char *const *s = p->steps; *s != NULL; s++) {
        if (fd < 0) {
            fd = jr_test_accept(p->listener);
            if (shows != NULL)
                fd = tls_pump_begin(shows, NULL, fd);
            p->conns++;
        }
        if (**s == '<') {
            jr_test_read_until(fd, text, sizeof text, *s + 1);
            pthread_mutex_lock(&p->mu);
            memcpy(p->seen[p->n_seen++], text, sizeof text);
            pthread_mutex_unlock(&p->mu);
        } else if (**s == '>') {
            jr_test_puts(fd, *s + 1);
        } else if (**s == '!') {
            close(fd);
            fd = -1;
            tls_pump_wait();
            sem_post(&p->closed);
        } else if (**s == '.') {
            jr_test_read_all(fd, text, sizeof text);
            close(fd);
            fd = -1;
        } else {
            while (sem_wait(&p->go) != 0)
                ;
        }
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void seen(struct peer *p, unsigned i, char *dst)
{
    pthread_mutex_lock(&p->mu);
    memcpy(dst, p->seen[i], sizeof p->seen[i]);
    pthread_mutex_unlock(&p->mu);
}

static void on_head(void *ctx, const struct jr_http_reply *reply)
{
    struct fixture *f = ctx;

    f->heads++;
    f->status = reply->status;
    f->content_length = reply->content_length;
    for (uint32_t i = 0; i < reply->n_headers; i++) {
        if (jr_str_ieq(reply->headers[i].name, "x-test"))
            snprintf(f->header, sizeof f->header, "%.*s", (int)reply->headers[i].value.n,
                     reply->headers[i].value.p);
    }
    if (f->pause_at_head) {
        jr_http_exchange_pause(f->x);
        jr_timer_start(f->resume, 50, 0);
    }
    if (f->cancel_at_head) {
        jr_http_exchange_cancel(f->x);
        f->canceled = true;
        jr_loop_stop(f->loop);
    }
}

static void on_data(void *ctx, const void *p, size_t n)
{
    struct fixture *f = ctx;

    assert_false(f->canceled);
    jr_buf_put(&f->body, p, n);
    if (f->cancel_at_data) {
        jr_http_exchange_cancel(f->x);
        f->canceled = true;
        jr_loop_stop(f->loop);
    }
}

static void on_end(void *ctx, int err)
{
    struct fixture *f = ctx;

    assert_false(f->canceled);
    f->err = err;
    if (++f->ends == f->want_ends)
        jr_loop_stop(f->loop);
}

static void stop_loop(void *ctx)
{
    struct fixture *f = ctx;

    jr_loop_stop(f->loop);
}

static int setup(void **state)
{
    struct fixture *f = jr_xalloc(sizeof *f);
    const struct jr_http_client_config config = {.connect_timeout_ms = 2000,
                                                 .idle_timeout_ms = 5000,
                                                 .idle_per_host_max = 2,
                                                 .tls_ca = TLS_FIXTURE("ca.pem")};

    assert_int_equal(jr_loop_create(&f->loop), 0);
    assert_int_equal(jr_http_client_create(f->loop, &config, &f->client), 0);
    f->timer = jr_timer_create(f->loop, stop_loop, f);
    f->peer.listener = jr_test_listen(&f->peer.port);
    pthread_mutex_init(&f->peer.mu, NULL);
    sem_init(&f->peer.go, 0, 0);
    sem_init(&f->peer.closed, 0, 0);
    jr_buf_init(&f->body, 64 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->client != NULL) {
        jr_http_client_close(f->client, stop_loop, f);
        jr_loop_run(f->loop);
    }
    if (f->peer.steps != NULL)
        pthread_join(f->peer.thread, NULL);
    tls_pump_wait();
    close(f->peer.listener);
    jr_timer_destroy(f->timer);
    jr_loop_destroy(f->loop);
    jr_buf_deinit(&f->body);
    pthread_mutex_destroy(&f->peer.mu);
    sem_destroy(&f->peer.go);
    sem_destroy(&f->peer.closed);
    jr_xfree(f);
    return 0;
}

static void play(struct fixture *f, const char *const *steps)
{
    f->peer.steps = steps;
    pthread_create(&f->peer.thread, NULL, peer_main, &f->peer);
}

static void fetch_with(struct fixture *f, struct jr_http_fetch fetch, const char *path)
{
    char url[256];

    snprintf(url, sizeof url, "%s://127.0.0.1:%u%s", scheme, f->peer.port, path);
    fetch.url = url;
    if (fetch.method == NULL)
        fetch.method = "GET";
    fetch.on_head = on_head;
    fetch.on_data = on_data;
    fetch.on_end = on_end;
    fetch.ctx = f;
    assert_int_equal(jr_http_client_fetch(f->client, &fetch, &f->x), 0);
}

/* One exchange, until its end. */
static void get(struct fixture *f, const char *path)
{
    jr_buf_clear(&f->body);
    f->ends = f->heads = 0;
    f->want_ends = 1;
    f->err = 1;
    fetch_with(f, (struct jr_http_fetch){0}, path);
    assert_int_equal(f->ends, 0); /* never from within fetch */
    jr_loop_run(f->loop);
    assert_int_equal(f->ends, 1);
}

static void let_loop_run(struct fixture *f, unsigned ms)
{
    jr_timer_start(f->timer, ms, 0);
    jr_loop_run(f->loop);
}

#define END "\r\n\r\n"

static void test_lengths_on_one_connection(void **state)
{
    static const char *const steps[] = {
        "<" END,
        ">HTTP/1.1 200 OK\r\nX-Test: a b \r\nContent-Length: 5\r\n\r\nhello",
        "<" END,
        ">HTTP/1.1 404 Not Found\r\nContent-Le",
        ">ngth: 3\r\n\r\nn",
        ">oo",
        "<" END,
        ">HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n wor",
        ">ld\r\n0\r\nTrailer: t\r\n\r\n",
        "<" END,
        ">HTTP/1.1 204 No Content\r\n\r\n",
        "<" END,
        ">HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n"
        "Content-Length: 0\r\n\r\n",
        "<" END,
        ">HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        "!",
        NULL};
    struct fixture *f = *state;
    char request[512];

    play(f, steps);
    get(f, "/a?b=c#frag");
    assert_int_equal(f->err, 0);
    assert_int_equal(f->status, 200);
    assert_int_equal(f->content_length, 5);
    assert_string_equal(f->header, "a b");
    assert_string_equal(jr_buf_str(&f->body), "hello");
    seen(&f->peer, 0, request);
    assert_non_null(strstr(request, "GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:"));
    get(f, "");
    assert_int_equal(f->status, 404);
    assert_string_equal(jr_buf_str(&f->body), "noo");
    seen(&f->peer, 1, request);
    assert_non_null(strstr(request, "GET / HTTP/1.1\r\n"));
    get(f, "/");
    assert_string_equal(jr_buf_str(&f->body), "hello world");
    assert_int_equal(f->content_length, -1);
    get(f, "/");
    assert_int_equal(f->status, 204);
    get(f, "/");
    assert_int_equal(f->status, 200);
    assert_int_equal(f->heads, 1);
    get(f, "/");
    assert_int_equal(f->err, 0);
    assert_string_equal(jr_buf_str(&f->body), "until the end");
    pthread_join(f->peer.thread, NULL);
    f->peer.steps = NULL;
    assert_int_equal(f->peer.conns, 1);
}

static void test_request_bytes_and_head_method(void **state)
{
    static const char *const steps[] = {"<hello", ">HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                                        "<" END,  ">HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
                                        "<" END,  ">HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                                        NULL};
    struct fixture *f = *state;
    char want[512], request[512];

    play(f, steps);
    f->want_ends = 1;
    fetch_with(f,
               (struct jr_http_fetch){.method = "POST",
                                      .content_type = "text/plain",
                                      .extra_headers = "X-A: 1\r\nX-B: 2\r\n",
                                      .body = "hello",
                                      .n_body = 5},
               "/p");
    jr_loop_run(f->loop);
    snprintf(want, sizeof want,
             "POST /p HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: text/plain\r\n"
             "Content-Length: 5\r\nX-A: 1\r\nX-B: 2\r\n\r\nhello",
             f->peer.port);
    seen(&f->peer, 0, request);
    assert_string_equal(request, want);
    f->want_ends = 2;
    fetch_with(f, (struct jr_http_fetch){.method = "HEAD"}, "/");
    jr_loop_run(f->loop);
    assert_int_equal(f->content_length, 500);
    assert_int_equal(f->body.n, 0);
    get(f, "/");
    assert_string_equal(jr_buf_str(&f->body), "ok");
    pthread_join(f->peer.thread, NULL);
    f->peer.steps = NULL;
    assert_int_equal(f->peer.conns, 1); /* kept alive across HEAD */
}

/* The pooled connection is closed by the peer; the loop has not seen it when it is used again. */
static void test_stale_connection_is_replaced(void **state)
{
    static const char *const steps[] = {"<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
                                        "?",     "!",
                                        "<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2",
                                        "<" END, "!",
                                        "<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3",
                                        "<" END, ">HTTP",
                                        "!",     NULL};
    struct fixture *f = *state;

    play(f, steps);
    get(f, "/");
    sem_post(&f->peer.go);
    while (sem_wait(&f->peer.closed) != 0)
        ;
    get(f, "/");
    assert_int_equal(f->err, 0);
    assert_string_equal(jr_buf_str(&f->body), "2");
    get(f, "/"); /* read, then closed without a byte */
    assert_int_equal(f->err, 0);
    assert_string_equal(jr_buf_str(&f->body), "3");
    get(f, "/"); /* a byte came: not sent again */
    assert_int_equal(f->err, JR_ETRUNC);
    assert_int_equal(f->heads, 0);
    pthread_join(f->peer.thread, NULL);
    f->peer.steps = NULL;
    assert_int_equal(f->peer.conns, 3);
}

static void post(struct fixture *f)
{
    jr_buf_clear(&f->body);
    f->ends = 0;
    f->want_ends = 1;
    fetch_with(
        f,
        (struct jr_http_fetch){.method = "POST", .body = "once", .n_body = 4, .body_stays = true},
        "/");
    jr_loop_run(f->loop);
}

/* What is not safe to repeat goes out again only when the peer cannot have read it. */
static void test_stale_connection_and_a_post(void **state)
{
    static const char *const steps[] = {
        "<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", "?",     "!",
        "<once", ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2", "<once", "!",
        NULL};
    struct fixture *f = *state;

    play(f, steps);
    get(f, "/");
    sem_post(&f->peer.go);
    while (sem_wait(&f->peer.closed) != 0)
        ;
    post(f); /* it had closed before */
    assert_int_equal(f->err, 0);
    assert_string_equal(jr_buf_str(&f->body), "2");
    post(f); /* read, then closed without a byte */
    assert_int_equal(f->err, JR_ECONN);
    pthread_join(f->peer.thread, NULL);
    f->peer.steps = NULL;
    assert_int_equal(f->peer.conns, 2);
}

/* A pooled connection that the peer closes while the loop runs is dropped silently. */
static void test_idle_close_is_noticed(void **state)
{
    static const char *const steps[] = {
        "<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", "!",
        "<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2", NULL};
    struct fixture *f = *state;

    play(f, steps);
    get(f, "/");
    while (sem_wait(&f->peer.closed) != 0)
        ;
    let_loop_run(f, 5);
    get(f, "/");
    assert_int_equal(f->err, 0);
    assert_string_equal(jr_buf_str(&f->body), "2");
}

static void test_bad_answers(void **state)
{
    static const struct {
        int err;
        const char *const steps[5];
    } cases[] = {
        {JR_ECONN, {"<" END, "!", NULL}},
        {JR_ETRUNC, {"<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "!", NULL}},
        {JR_ETRUNC,
         {"<" END, ">HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "!",
          NULL}},
        {JR_EPROTO, {"<" END, ">SSH-2.0-OpenSSH\r\n\r\n", ".", NULL}},
        {JR_EPROTO, {"<" END, ">HTTP/1.1 200 OK\nContent-Length: 0\n\n", ".", NULL}},
        {JR_EPROTO, {"<" END, ">HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", ".", NULL}},
        {JR_EPROTO,
         {"<" END,
          ">HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          ".", NULL}},
        {JR_EPROTO,
         {"<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", ".",
          NULL}},
        {JR_EPROTO,
         {"<" END, ">HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
          ".", NULL}},
        {JR_EPROTO,
         {"<" END, ">HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ".", NULL}},
        {JR_EPROTO, {"<" END, ">HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ".", NULL}},
    };
    unsigned wrong = 0;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void *one = NULL;
        setup(&one);
        struct fixture *f = one;
        play(f, cases[i].steps);
        get(f, "/");
        if (f->err != cases[i].err) {
            wrong++;
            print_error("case %zu: want %s, got %s\n", i, jr_err_name(cases[i].err),
                        jr_err_name(f->err));
        }
        teardown(&one);
    }
    assert_int_equal(wrong, 0);
}

static void test_timeouts(void **state)
{
    static const char *const silent[] = {
        "<" END, ".", "<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ".", NULL};
    struct fixture *f = *state;

    play(f, silent);
    f->want_ends = 1;
    fetch_with(f, (struct jr_http_fetch){.first_byte_timeout_ms = 30}, "/");
    jr_loop_run(f->loop);
    assert_int_equal(f->err, JR_ETIMEOUT);
    assert_int_equal(f->heads, 0);
    f->want_ends = 2;
    /* Long enough for a peer on a busy machine to say what it has to. */
    fetch_with(f, (struct jr_http_fetch){.first_byte_timeout_ms = 5000, .total_timeout_ms = 2000},
               "/");
    jr_loop_run(f->loop);
    assert_int_equal(f->err, JR_ETIMEOUT);
    assert_int_equal(f->heads, 1);
    assert_string_equal(jr_buf_str(&f->body), "half");
}

static void test_connect_fails(void **state)
{
    struct fixture *f = *state;
    struct jr_http_fetch fetch = {.method = "GET", .on_end = on_end, .ctx = f};

    f->peer.port = jr_test_free_port(); /* nobody listens there */
    get(f, "/");
    assert_int_equal(f->err, JR_ECONN);
    fetch.url = "http://no-such-host.invalid/";
    f->want_ends = 2;
    assert_int_equal(jr_http_client_fetch(f->client, &fetch, NULL), 0);
    jr_loop_run(f->loop);
    assert_int_equal(f->err, JR_ENOTFOUND);
}

/* Whatever the order of the addresses of localhost, the one that listens is found. */
static void test_name_with_several_addresses(void **state)
{
    static const char *const steps[] = {"<" END, ">HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                                        NULL};
    struct fixture *f = *state;
    struct jr_http_fetch fetch = {.method = "GET", .on_data = on_data, .on_end = on_end, .ctx = f};
    char url[64];

    play(f, steps);
    snprintf(url, sizeof url, "%s://localhost:%u/", scheme, f->peer.port);
    fetch.url = url;
    f->want_ends = 1;
    assert_int_equal(jr_http_client_fetch(f->client, &fetch, NULL), 0);
    jr_loop_run(f->loop);
    assert_int_equal(f->err, 0);
    assert_string_equal(jr_buf_str(&f->body), "ok");
}

static void test_urls(void **state)
{
    static const struct {
        int err;
        const char *url;
    } cases[] = {
        {JR_EINVAL, "https://"},
        {JR_EINVAL, "https:/host/"},
        {0, "https://host/"},
        {JR_EINVAL, "ftp://host/"},
        {JR_EINVAL, "host:80/"},
        {JR_EINVAL, "http://"},
        {JR_EINVAL, "http:///path"},
        {JR_EINVAL, "http://host:0/"},
        {JR_EINVAL, "http://host:65536/"},
        {JR_EINVAL, "http://host:/"},
        {JR_EINVAL, "http://host:8x/"},
        {JR_EINVAL, "http://user@host/"},
        {JR_EINVAL, "http://[::1/"},
        {JR_EINVAL, "http://[::1]x/"},
        {JR_EINVAL, "http://host/a b"},
        {JR_EINVAL, "http://host/a\r\nX: y"},
        {0, "http://host"},
        {0, "http://host?q"},
        {0, "http://[::1]:80/"},
    };
    struct fixture *f = *state;
    struct jr_errmsg e;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jr_http_fetch fetch = {.url = cases[i].url, .method = "GET"};
        assert_int_equal(jr_http_url_check(cases[i].url, &e), cases[i].err);
        if (cases[i].err != 0)
            assert_int_equal(jr_http_client_fetch(f->client, &fetch, &f->x), cases[i].err);
    }
    assert_int_equal(jr_http_url_check("htp://h/", &e), JR_EINVAL);
    assert_string_equal(e.text,
                        "'htp://h/' is not a URL of the form http://host:port/path or https://…");
}

static void test_cancel(void **state)
{
    static const char *const steps[] = {
        "<" END,
        ".",
        "<" END,
        ">HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        ".",
        "<" END,
        ">HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n",
        ".",
        "<" END,
        ".",
        NULL};
    struct fixture *f = *state;

    play(f, steps);
    f->want_ends = 1;
    fetch_with(f, (struct jr_http_fetch){0}, "/"); /* before it is connected */
    jr_http_exchange_cancel(f->x);
    fetch_with(f, (struct jr_http_fetch){0}, "/"); /* at the head */
    f->cancel_at_head = true;
    let_loop_run(f, 60000); /* until then */
    assert_true(f->canceled);
    f->canceled = f->cancel_at_head = false;
    f->cancel_at_data = true;
    fetch_with(f, (struct jr_http_fetch){0}, "/"); /* amid chunks */
    let_loop_run(f, 60000);                        /* until then */
    assert_true(f->canceled);
    assert_string_equal(jr_buf_str(&f->body), "a");
    f->canceled = f->cancel_at_data = false;
    fetch_with(f, (struct jr_http_fetch){0}, "/"); /* by the end of the client */
    let_loop_run(f, 10);
    assert_int_equal(f->ends, 0);
}

static void whole_done(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct fixture *f = ctx;

    f->err = err;
    f->ends++;
    jr_buf_clear(&f->body);
    jr_buf_put(&f->body, body.p, body.n);
    if (reply != NULL) {
        f->status = reply->status;
        assert_true(jr_str_eq(reply->headers[1].name, "X-B"));
        assert_true(jr_str_eq(reply->headers[1].value, "two"));
    }
    jr_loop_stop(f->loop);
}

static void test_whole(void **state)
{
    static const char *const steps[] = {
        "<" END,
        ">HTTP/1.1 201 C\r\nX-A: one\r\nX-B: two\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        ">2\r\ncd\r\n0\r\n\r\n",
        "<" END,
        ">HTTP/1.1 200 OK\r\nX-A: one\r\nX-B: two\r\nContent-Length: 9\r\n\r\n123456789",
        ".",
        "<" END,
        ".",
        NULL};
    struct fixture *f = *state;
    char url[64];
    struct jr_http_fetch fetch = {.url = url, .method = "GET"};

    play(f, steps);
    snprintf(url, sizeof url, "%s://127.0.0.1:%u/", scheme, f->peer.port);
    assert_int_equal(jr_http_client_whole(f->client, &fetch, 8, whole_done, f), 0);
    jr_loop_run(f->loop);
    assert_int_equal(f->err, 0);
    assert_int_equal(f->status, 201);
    assert_string_equal(jr_buf_str(&f->body), "abcd");
    assert_int_equal(jr_http_client_whole(f->client, &fetch, 8, whole_done, f), 0);
    jr_loop_run(f->loop);
    assert_int_equal(f->err, JR_ELIMIT);
    assert_int_equal(f->body.n, 0);
    /* Closed with one under way: nothing is called, nothing leaks. */
    assert_int_equal(jr_http_client_whole(f->client, &fetch, 8, whole_done, f), 0);
    let_loop_run(f, 10);
    assert_int_equal(f->ends, 2);
}

/* ---- with our own server on the same loop ---- */

enum { BIG = 8 << 20 };

static void on_request(void *ctx, struct jr_http_request *req)
{
    const struct jr_str body = jr_http_request_body(req);

    (void)ctx;
    jr_http_respond(req, 200, "text/plain", NULL, body.p, body.n);
}

static void on_resume(void *ctx)
{
    struct fixture *f = ctx;

    /* While it was paused, no more than what had been read arrived. */
    assert_true(f->body.n <= 64 << 10);
    assert_int_equal(f->ends, 0);
    jr_http_exchange_resume(f->x);
}

static void send_big(struct fixture *f, bool body_stays)
{
    struct jr_http_server *server;
    const struct jr_http_server_config config = {.host = "127.0.0.1",
                                                 .body_max = BIG,
                                                 .header_timeout_ms = 5000,
                                                 .idle_timeout_ms = 5000,
                                                 .on_request = on_request};
    char *big = malloc(BIG);

    for (size_t i = 0; i < BIG; i++)
        big[i] = (char)('a' + i % 23);
    assert_int_equal(jr_http_server_listen(f->loop, &config, NULL, &server), 0);
    if (shows != NULL) {
        struct jr_tls_context *ctx;
        assert_int_equal(
            jr_tls_server_context(TLS_FIXTURE("server.pem"), TLS_FIXTURE("server.key"), NULL, &ctx),
            0);
        jr_http_server_set_tls(server, ctx);
    }
    f->peer.port = jr_http_server_port(server);
    f->pause_at_head = true;
    f->want_ends = 1;
    const struct jr_http_fetch fetch = {
        .method = "POST", .body = big, .n_body = BIG, .body_stays = body_stays};
    fetch_with(f, fetch, "/");
    f->resume = jr_timer_create(f->loop, on_resume, f);
    jr_loop_run(f->loop);
    assert_int_equal(f->err, 0);
    assert_int_equal(f->body.n, BIG);
    assert_memory_equal(f->body.p, big, BIG);
    assert_int_equal(jr_http_server_stats(server)->requests_total, 1);
    jr_http_server_close(server, NULL, NULL);
    jr_timer_destroy(f->resume);
    f->resume = NULL;
    free(big);
}

static void test_big_body_with_pause(void **state)
{
    send_big(*state, false);
}

static void test_big_borrowed_body(void **state)
{
    send_big(*state, true);
}

/* The peer reads the head only: the rest waits in libuv when the body goes away. */
static void test_borrowed_body_goes_after_cancel(void **state)
{
    static const char *const steps[] = {"<" END, "?", NULL};
    struct fixture *f = *state;
    char *big = malloc(BIG);

    memset(big, 'x', BIG);
    play(f, steps);
    const struct jr_http_fetch fetch = {
        .method = "POST", .body = big, .n_body = BIG, .body_stays = true};
    fetch_with(f, fetch, "/");
    let_loop_run(f, 30);
    jr_http_exchange_cancel(f->x);
    free(big);
    sem_post(&f->peer.go);
    let_loop_run(f, 30);
    assert_int_equal(f->ends, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Only what no other worker could be reached without ends the search for one. */
static void test_whose_fault_a_connection_is(void **state)
{
    (void)state;
    assert_int_equal(jr_upstream_connect_err(UV_EMFILE), JR_ELIMIT);
    assert_int_equal(jr_upstream_connect_err(UV_ENOMEM), JR_ELIMIT);
    assert_int_equal(jr_upstream_connect_err(UV_EADDRNOTAVAIL), JR_ECONN);
    assert_int_equal(jr_upstream_connect_err(UV_ECONNREFUSED), JR_ECONN);
    assert_int_equal(jr_upstream_connect_err(UV_ETIMEDOUT), JR_ETIMEOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whose_fault_a_connection_is),
        TEST(test_lengths_on_one_connection),
        TEST(test_request_bytes_and_head_method),
        TEST(test_stale_connection_is_replaced),
        TEST(test_stale_connection_and_a_post),
        TEST(test_idle_close_is_noticed),
        cmocka_unit_test(test_bad_answers),
        TEST(test_timeouts),
        TEST(test_connect_fails),
        TEST(test_name_with_several_addresses),
        TEST(test_urls),
        TEST(test_cancel),
        TEST(test_whole),
        TEST(test_big_body_with_pause),
        TEST(test_big_borrowed_body),
        TEST(test_borrowed_body_goes_after_cancel),
    };
    const int plain = cmocka_run_group_tests_name("plain", tests, NULL, NULL);
    if (jr_tls_server_context(TLS_FIXTURE("server.pem"), TLS_FIXTURE("server.key"), NULL, &shows) <
        0)
        return 1;
    scheme = "https";
    const int tls = cmocka_run_group_tests_name("TLS", tests, NULL, NULL);
    jr_tls_context_destroy(shows);
    return plain + tls;
}
