/* SPDX-License-Identifier: Apache-2.0 */
/* What only an https URL can meet; the rest is test_io_http_client's, through TLS. */
#include "io/http_client.h"
#include "io/tls.h"
#include "jr_test_net.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define TLS_FIXTURE(name) JR_FIXTURES "/tls/" name

/* What the peer is. */
enum peer {
    SERVER,    /* for 127.0.0.1, by the authority */
    ELSEWHERE, /* for another name */
    PLAIN,     /* speaks HTTP without TLS */
    SILENT,    /* accepts, and says nothing */
    HANGS_UP,  /* closes when the handshake has begun */
    CUTS,      /* answers without a length, and ends without close_notify */
};

struct fixture {
    struct jr_loop *loop;
    struct jr_http_client *client;
    int listener;
    uint16_t port;
    pthread_t thread;
    enum peer peer;
    char words[160], who[64];
    unsigned reports;
    int err, status;
};

/* Serves by hand, so that the connection can be cut without a word. */
static void serve(struct fixture *f, int fd)
{
    struct jr_tls_context *ctx;
    char buf[16 << 10];
    const bool elsewhere = f->peer == ELSEWHERE;

    assert_int_equal(
        jr_tls_server_context(elsewhere ? TLS_FIXTURE("elsewhere.pem") : TLS_FIXTURE("server.pem"),
                              elsewhere ? TLS_FIXTURE("elsewhere.key") : TLS_FIXTURE("server.key"),
                              NULL, &ctx),
        0);
    struct jr_tls *t = jr_tls_create(ctx, NULL);
    ssize_t n;
    int rv = 0;
    while (rv == 0 && (n = recv(fd, buf, sizeof buf, 0)) > 0) {
        assert_int_equal(jr_tls_feed(t, buf, (size_t)n), 0);
        rv = jr_tls_read(t, buf, sizeof buf);
        if (rv > 0)
            assert_int_equal(jr_tls_write(t, "HTTP/1.1 200 OK\r\n\r\nhalf", 23), 0);
        jr_test_send(fd, jr_tls_out(t)->p, jr_tls_out(t)->n);
        jr_tls_sent(t);
    }
    jr_tls_destroy(t);
    jr_tls_context_destroy(ctx);
}

static void *peer_main(void *arg)
{
    struct fixture *f = arg;
    const int fd = jr_test_accept(f->listener);
    char text[4096];

    if (f->peer == PLAIN) {
        jr_test_puts(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        jr_test_read_all(fd, text, sizeof text);
    } else if (f->peer == SILENT) {
        jr_test_read_all(fd, text, sizeof text);
    } else if (f->peer == HANGS_UP) {
        jr_test_read_n(fd, text, 10);
    } else {
        serve(f, fd);
    }
    close(fd);
    return NULL;
}

static void on_failed(void *ctx, const char *peer, const char *words)
{
    struct fixture *f = ctx;

    f->reports++;
    snprintf(f->words, sizeof f->words, "%s", words);
    snprintf(f->who, sizeof f->who, "%s", peer);
}

static void on_done(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct fixture *f = ctx;

    (void)body;
    f->err = err;
    f->status = reply == NULL ? 0 : reply->status;
    jr_loop_stop(f->loop);
}

static void stop_loop(void *ctx)
{
    struct fixture *f = ctx;

    jr_loop_stop(f->loop);
}

/* One POST to such a peer, and its end. */
static int fetch_from(struct fixture *f, enum peer peer, const char *ca, bool insecure)
{
    char url[64];
    const struct jr_http_client_config config = {.connect_timeout_ms = peer == SILENT ? 100 : 20000,
                                                 .idle_timeout_ms = 5000,
                                                 .idle_per_host_max = 2,
                                                 .tls_ca = ca,
                                                 .tls_insecure = insecure,
                                                 .on_tls_failed = on_failed,
                                                 .ctx = f};

    *f = (struct fixture){.peer = peer};
    assert_int_equal(jr_loop_create(&f->loop), 0);
    assert_int_equal(jr_http_client_create(f->loop, &config, &f->client), 0);
    f->listener = jr_test_listen(&f->port);
    pthread_create(&f->thread, NULL, peer_main, f);
    snprintf(url, sizeof url, "https://127.0.0.1:%u/", f->port);
    const struct jr_http_fetch fetch = {.url = url, .method = "POST", .body = "x", .n_body = 1};
    assert_int_equal(jr_http_client_whole(f->client, &fetch, 1000, on_done, f), 0);
    jr_loop_run(f->loop);
    jr_http_client_close(f->client, stop_loop, f);
    jr_loop_run(f->loop);
    pthread_join(f->thread, NULL);
    close(f->listener);
    jr_loop_destroy(f->loop);
    return f->err;
}

static void test_peers_that_are_refused(void **state)
{
    static const struct {
        enum peer peer;
        const char *ca;
        int err;
        const char *words;
    } cases[] = {
        {ELSEWHERE, TLS_FIXTURE("ca.pem"), JR_ECONN, "IP address mismatch"},
        {SERVER, TLS_FIXTURE("other-ca.pem"), JR_ECONN, "issuer"},
        {SERVER, NULL, JR_ECONN, "issuer"},
        {PLAIN, TLS_FIXTURE("ca.pem"), JR_ECONN, "wrong version number"},
    };
    struct fixture f;
    char who[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fetch_from(&f, cases[i].peer, cases[i].ca, false), cases[i].err);
        assert_int_equal(f.reports, 1);
        if (strstr(f.words, cases[i].words) == NULL)
            fail_msg("case %zu: %s", i, f.words);
        snprintf(who, sizeof who, "https://127.0.0.1:%u", f.port);
        assert_string_equal(f.who, who);
    }
}

static void test_insecure_takes_anybody(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(fetch_from(&f, ELSEWHERE, NULL, true), JR_ETRUNC);
    assert_int_equal(f.reports, 0);
}

static void test_no_handshake(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(fetch_from(&f, SILENT, TLS_FIXTURE("ca.pem"), false), JR_ETIMEOUT);
    assert_int_equal(fetch_from(&f, HANGS_UP, TLS_FIXTURE("ca.pem"), false), JR_ECONN);
}

/* An answer that lasts until its connection ends is not whole when anybody could have ended it. */
static void test_cut_is_no_end(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(fetch_from(&f, CUTS, TLS_FIXTURE("ca.pem"), false), JR_ETRUNC);
    assert_int_equal(f.reports, 0);
}

static void test_authority_that_is_no_file(void **state)
{
    const struct jr_http_client_config config = {.tls_ca = "/nowhere/ca.pem"};
    const struct jr_http_fetch fetch = {.url = "https://127.0.0.1:1/", .method = "GET"};
    struct fixture f = {0};

    (void)state;
    assert_int_equal(jr_loop_create(&f.loop), 0);
    assert_int_equal(jr_http_client_create(f.loop, &config, &f.client), 0);
    assert_int_equal(jr_http_client_fetch(f.client, &fetch, NULL), JR_ECONFIG);
    jr_http_client_close(f.client, stop_loop, &f);
    jr_loop_run(f.loop);
    jr_loop_destroy(f.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peers_that_are_refused),
        cmocka_unit_test(test_insecure_takes_anybody),
        cmocka_unit_test(test_no_handshake),
        cmocka_unit_test(test_cut_is_no_end),
        cmocka_unit_test(test_authority_that_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
