/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers cut at every byte, on real connections: what is understood does not depend on
 * where. The codec's own cuts are in test_http1; here it is what is around it that must keep to
 * that: buffers, states, TLS. All of it plain and through TLS. */
#include "io/http_client.h"
#include "jr_test_http_rig.h"
#include "jr_test_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define TLS_FIXTURE(name) JR_FIXTURES "/tls/" name
#define HOST              "Host: x\r\n"
#define LAST              HOST "Connection: close\r\n"

static struct jr_tls_context *server_context(void)
{
    struct jr_tls_context *ctx;

    assert_int_equal(
        jr_tls_server_context(TLS_FIXTURE("server.pem"), TLS_FIXTURE("server.key"), NULL, &ctx), 0);
    return ctx;
}

static struct jr_tls_context *client_context(void)
{
    struct jr_tls_context *ctx;

    assert_int_equal(jr_tls_client_context(TLS_FIXTURE("ca.pem"), false, NULL, &ctx), 0);
    return ctx;
}

/* ---- requests ---- */

/* Each ends its connection, so that the end of the answers is known. */
static const char *const talks[] = {
    "GET /a?b=c HTTP/1.1\r\n" LAST "\r\n",
    "\r\nPOST /a HTTP/1.1\r\n" LAST "Content-Length: 11\r\n\r\nhello world",
    "POST /parts HTTP/1.1\r\n" LAST "Transfer-Encoding: chunked\r\n\r\n"
    "5;x=y\r\nhello\r\n006\r\n world\r\n0\r\nTrailer: t\r\n\r\n",
    "POST /late HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
    "HEAD /b HTTP/1.1\r\n" HOST "\r\n"
    "POST /c HTTP/1.1\r\n" LAST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "POST /late HTTP/1.1\r\n" LAST "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    "GET /parts?q HTTP/1.0\r\nX: y\r\n\r\n",
    "GET /first HTTP/1.1\r\n" HOST "\r\nGET /second HTTP/1.1\r\n" HOST "Bad Name: x\r\n\r\n"
    "GET /smuggled HTTP/1.1\r\n" HOST "\r\n",
    "POST /a HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    "GET /smuggled HTTP/1.1\r\n" HOST "\r\n",
    "POST /a HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
};
#define TALKS (sizeof talks / sizeof *talks)

/* All that is answered when the talk is sent in pieces of the given sizes, in turn. */
static void talk(struct jr_rig *rig, struct jr_tls_context *tls, const char *text, size_t first,
                 size_t step, size_t wire, struct jr_buf *ret)
{
    struct jr_rig_client c;
    const size_t n = strlen(text);

    jr_rig_dial(rig, tls, &c);
    for (size_t at = 0, k = first; at < n; at += k, k = step) {
        k = k < n - at ? k : n - at;
        jr_rig_send(&c, text + at, k, wire);
    }
    jr_rig_until(&c, jr_rig_ended);
    jr_rig_drop_interim(&c.got);
    jr_buf_put(ret, c.got.p, c.got.n);
    jr_rig_hang_up(&c);
}

static unsigned cases;

static void same_talk(struct jr_rig *rig, struct jr_tls_context *tls, unsigned i, size_t first,
                      size_t step, size_t wire, const struct jr_buf *want)
{
    struct jr_buf got;

    jr_buf_init(&got, SIZE_MAX / 2);
    talk(rig, tls, talks[i], first, step, wire, &got);
    if (got.n != want->n || memcmp(got.p, want->p, got.n) != 0)
        fail_msg("talk %u cut at %zu, then each %zu, wire %zu:\n%s\nwant:\n%s", i, first, step,
                 wire, jr_buf_str(&got), jr_buf_str(want));
    jr_buf_deinit(&got);
    cases++;
}

static void cut_requests(bool with_tls)
{
    struct jr_tls_context *tls = with_tls ? client_context() : NULL;
    struct jr_rig rig;

    jr_rig_open(&rig, with_tls ? server_context() : NULL);
    cases = 0;
    for (unsigned i = 0; i < TALKS; i++) {
        struct jr_buf want;
        jr_buf_init(&want, SIZE_MAX / 2);
        talk(&rig, tls, talks[i], SIZE_MAX, SIZE_MAX, SIZE_MAX, &want);
        assert_true(want.n > 0);
        assert_null(strstr(jr_buf_str(&want), "smuggled"));
        for (size_t cut = 1; cut < strlen(talks[i]); cut++)
            same_talk(&rig, tls, i, cut, SIZE_MAX, SIZE_MAX, &want);
        same_talk(&rig, tls, i, 1, 1, SIZE_MAX, &want);
        same_talk(&rig, tls, i, 2, 7, SIZE_MAX, &want);
        if (with_tls) /* the wire byte by byte, too */
            same_talk(&rig, tls, i, 5, 50, 1, &want);
        jr_buf_deinit(&want);
    }
    assert_int_equal(jr_http_server_stats(rig.server)->tls_failures, 0);
    print_message("%u ways to send %zu talks\n", cases, TALKS);
    jr_tls_context_destroy(tls);
    jr_rig_close(&rig);
}

static void test_requests(void **state)
{
    (void)state;
    cut_requests(false);
}

static void test_requests_through_tls(void **state)
{
    (void)state;
    cut_requests(true);
}

/* ---- answers of the server ---- */

/* The body of a chunked answer. */
static void dechunk(const struct jr_buf *raw, struct jr_buf *ret)
{
    const char *at = strstr(jr_buf_str(raw), "\r\n\r\n");

    assert_non_null(at);
    at += 4;
    for (;;) {
        char *end;
        const size_t n = (size_t)strtoul(at, &end, 16);
        assert_true(strncmp(end, "\r\n", 2) == 0);
        jr_buf_put(ret, end + 2, n);
        at = end + 2 + n;
        assert_true(strncmp(at, "\r\n", 2) == 0);
        at += 2;
        if (n == 0)
            break;
    }
    assert_string_equal(at, "");
}

static void cut_answers(bool with_tls)
{
    static const char whole[] = "data:_one~~data:_two~~data:_[DONE]~~";
    const size_t n = sizeof whole - 1;
    struct jr_tls_context *tls = with_tls ? client_context() : NULL;
    struct jr_rig rig;
    char text[256];

    jr_rig_open(&rig, with_tls ? server_context() : NULL);
    for (size_t cut = 0; cut <= n; cut++) {
        struct jr_buf got, body;
        jr_buf_init(&got, SIZE_MAX / 2);
        jr_buf_init(&body, SIZE_MAX / 2);
        snprintf(text, sizeof text, "GET /cut?%.*s-%s HTTP/1.1\r\n" LAST "\r\n", (int)cut, whole,
                 whole + cut);
        talk(&rig, tls, text, SIZE_MAX, SIZE_MAX, SIZE_MAX, &got);
        dechunk(&got, &body);
        assert_string_equal(jr_buf_str(&body), whole);
        jr_buf_deinit(&got);
        jr_buf_deinit(&body);
    }
    jr_tls_context_destroy(tls);
    jr_rig_close(&rig);
}

static void test_answers(void **state)
{
    (void)state;
    cut_answers(false);
    cut_answers(true);
}

/* ---- answers of an upstream ---- */

static const char *const replies[] = {
    "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 11\r\n\r\nhello world",
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n"),
    "HTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut off",
};
#define REPLIES (sizeof replies / sizeof *replies)

struct up {
    struct jr_loop *loop;
    struct jr_http_client *client;
    int listener;
    uint16_t port;
    struct jr_tls_context *tls; /* the peer's */
    struct jr_buf told;
    bool ended;
};

static void on_head(void *ctx, const struct jr_http_reply *reply)
{
    struct up *u = ctx;

    jr_buf_printf(&u->told, "%d %lld", reply->status, (long long)reply->content_length);
    for (uint32_t i = 0; i < reply->n_headers; i++)
        jr_buf_printf(&u->told, " %.*s=%.*s", (int)reply->headers[i].name.n,
                      reply->headers[i].name.p, (int)reply->headers[i].value.n,
                      reply->headers[i].value.p);
    jr_buf_puts(&u->told, "\n");
}

static void on_data(void *ctx, const void *p, size_t n)
{
    struct up *u = ctx;

    jr_buf_put(&u->told, p, n);
}

static void on_end(void *ctx, int err)
{
    struct up *u = ctx;

    jr_buf_printf(&u->told, "\nend %s", jr_err_name(err));
    u->ended = true;
}

static void turn(struct up *u)
{
    (void)uv_run(jr_loop_uv(u->loop), UV_RUN_NOWAIT);
}

/* The peer's side of one connection: takes the request, answers in two or more pieces. */
struct peer {
    struct up *u;
    int fd;
    struct jr_tls *tls;
};

static void peer_flush(struct peer *p, size_t wire)
{
    const struct jr_buf *out = jr_tls_out(p->tls);

    for (size_t at = 0, k; at < out->n; at += k) {
        k = wire < out->n - at ? wire : out->n - at;
        jr_test_send(p->fd, out->p + at, k);
        turn(p->u);
    }
    jr_tls_sent(p->tls);
}

static void peer_take_request(struct peer *p)
{
    char buf[4096], text[4096];
    size_t n = 0;
    int rv = 0;

    for (int ms = 0; ms < JR_RIG_WAIT_MS; ms++) {
        const ssize_t got = recv(p->fd, buf, sizeof buf, MSG_DONTWAIT);
        if (got > 0 && p->tls == NULL) {
            memcpy(text + n, buf, (size_t)got);
            n += (size_t)got;
        } else if (got > 0) {
            assert_int_equal(jr_tls_feed(p->tls, buf, (size_t)got), 0);
            while ((rv = jr_tls_read(p->tls, text + n, sizeof text - n)) > 0)
                n += (size_t)rv;
            peer_flush(p, SIZE_MAX);
        } else {
            usleep(200);
        }
        if (n >= 4 && memcmp(text + n - 4, "\r\n\r\n", 4) == 0)
            return;
        turn(p->u);
    }
    fail_msg("no request came");
}

static void peer_send(struct peer *p, const char *text, size_t n, size_t wire)
{
    if (p->tls != NULL) {
        assert_int_equal(jr_tls_write(p->tls, text, n), 0);
        peer_flush(p, wire);
    } else {
        jr_test_send(p->fd, text, n);
    }
    turn(p->u);
}

static void peer_close(struct peer *p)
{
    if (p->tls != NULL) {
        jr_tls_close(p->tls);
        peer_flush(p, SIZE_MAX);
    }
    shutdown(p->fd, SHUT_WR);
    for (int ms = 0; !p->u->ended && ms < JR_RIG_WAIT_MS; ms++) {
        turn(p->u);
        if (!p->u->ended)
            usleep(200);
    }
    assert_true(p->u->ended);
    close(p->fd);
    jr_tls_destroy(p->tls);
    turn(p->u);
}

static void answer(struct up *u, const char *text, size_t first, size_t step, size_t wire)
{
    char url[64];
    struct jr_http_fetch fetch = {.url = url,
                                  .method = "GET",
                                  .on_head = on_head,
                                  .on_data = on_data,
                                  .on_end = on_end,
                                  .ctx = u};
    const size_t n = strlen(text);

    snprintf(url, sizeof url, "%s://127.0.0.1:%u/", u->tls != NULL ? "https" : "http", u->port);
    u->ended = false;
    jr_buf_clear(&u->told);
    assert_int_equal(jr_http_client_fetch(u->client, &fetch, NULL), 0);
    turn(u);
    struct peer p = {.u = u, .fd = jr_test_accept(u->listener)};
    p.tls = u->tls != NULL ? jr_tls_create(u->tls, NULL) : NULL;
    peer_take_request(&p);
    for (size_t at = 0, k = first; at < n; at += k, k = step) {
        k = k < n - at ? k : n - at;
        peer_send(&p, text + at, k, wire);
    }
    peer_close(&p);
}

static void same_answer(struct up *u, unsigned i, size_t first, size_t step, size_t wire,
                        const char *want)
{
    answer(u, replies[i], first, step, wire);
    if (strcmp(jr_buf_str(&u->told), want) != 0)
        fail_msg("reply %u cut at %zu, then each %zu, wire %zu:\n%s\nwant:\n%s", i, first, step,
                 wire, jr_buf_str(&u->told), want);
    cases++;
}

static void stop_loop(void *ctx)
{
    struct up *u = ctx;

    jr_loop_stop(u->loop);
}

static void cut_replies(bool with_tls)
{
    const struct jr_http_client_config config = {.connect_timeout_ms = JR_RIG_WAIT_MS,
                                                 .idle_timeout_ms = JR_RIG_WAIT_MS,
                                                 .tls_ca = TLS_FIXTURE("ca.pem")};
    struct up u = {.tls = with_tls ? server_context() : NULL};

    assert_int_equal(jr_loop_create(&u.loop), 0);
    assert_int_equal(jr_http_client_create(u.loop, &config, &u.client), 0);
    u.listener = jr_test_listen(&u.port);
    jr_buf_init(&u.told, SIZE_MAX / 2);
    cases = 0;
    for (unsigned i = 0; i < REPLIES; i++) {
        answer(&u, replies[i], SIZE_MAX, SIZE_MAX, SIZE_MAX);
        char *want = jr_xstrdup(jr_buf_str(&u.told));
        for (size_t cut = 1; cut < strlen(replies[i]); cut++)
            same_answer(&u, i, cut, SIZE_MAX, SIZE_MAX, want);
        same_answer(&u, i, 1, 1, SIZE_MAX, want);
        same_answer(&u, i, 3, 11, SIZE_MAX, want);
        if (with_tls)
            same_answer(&u, i, 9, 60, 1, want);
        jr_xfree(want);
    }
    print_message("%u ways to send %zu replies\n", cases, REPLIES);
    jr_buf_deinit(&u.told);
    close(u.listener);
    jr_http_client_close(u.client, stop_loop, &u);
    jr_loop_run(u.loop);
    jr_loop_destroy(u.loop);
    jr_tls_context_destroy(u.tls);
}

static void test_replies(void **state)
{
    (void)state;
    cut_replies(false);
}

static void test_replies_through_tls(void **state)
{
    (void)state;
    cut_replies(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_requests_through_tls),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_replies_through_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
