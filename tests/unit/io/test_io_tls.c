/* SPDX-License-Identifier: Apache-2.0 */
/* Two sessions with nothing between them but buffers. */
#include "base/limits.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/tls.h"
#include "jr_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define FILE_OF(name) JR_FIXTURES "/tls/" name

struct ends {
    struct jr_tls *server, *client;
};

static struct jr_tls_context *server_of(const char *name)
{
    struct jr_tls_context *ctx;
    struct jr_errmsg e = {""};
    char cert[512], key[512];

    snprintf(cert, sizeof cert, "%s/%s.pem", FILE_OF(""), name);
    snprintf(key, sizeof key, "%s/%s.key", FILE_OF(""), name);
    assert_int_equal(jr_tls_server_context(cert, key, &e, &ctx), 0);
    return ctx;
}

static struct jr_tls_context *client_of(const char *ca, bool insecure)
{
    struct jr_tls_context *ctx;
    struct jr_errmsg e = {""};

    assert_int_equal(jr_tls_client_context(ca, insecure, &e, &ctx), 0);
    return ctx;
}

static struct ends open_ends(const char *cert, const char *ca, bool insecure, const char *name)
{
    struct jr_tls_context *s = server_of(cert), *c = client_of(ca, insecure);
    const struct ends ends = {jr_tls_create(s, NULL), jr_tls_create(c, name)};

    jr_tls_context_destroy(s); /* sessions outlive it */
    jr_tls_context_destroy(c);
    return ends;
}

static void close_ends(struct ends *ends)
{
    jr_tls_destroy(ends->server);
    jr_tls_destroy(ends->client);
}

/* What one has for the other goes there, step bytes at a time; what comes of it is read. */
static int carry(struct jr_tls *from, struct jr_tls *to, size_t step, char *text, size_t *n)
{
    const struct jr_buf *out = jr_tls_out(from);
    int rv = 0;

    for (size_t at = 0; at < out->n && rv >= 0; at += step) {
        const size_t k = step < out->n - at ? step : out->n - at;
        assert_int_equal(jr_tls_feed(to, out->p + at, k), 0);
        while ((rv = jr_tls_read(to, text + *n, 1 << 20)) > 0)
            *n += (size_t)rv;
    }
    jr_tls_sent(from);
    return rv;
}

/* 0, or the client's error. */
static int shake_hands(struct ends *e, size_t step, char *text)
{
    size_t n = 0;
    int rv = jr_tls_handshake(e->client);

    for (int turn = 0; turn < 4 && rv >= 0; turn++) {
        rv = carry(e->client, e->server, step, text, &n);
        if (rv >= 0)
            rv = carry(e->server, e->client, step, text, &n);
    }
    assert_int_equal(n, 0);
    return rv;
}

static void test_bytes_both_ways(void **state)
{
    enum { N = 300000 };
    static const size_t steps[] = {1, 7, 1000, 100000};
    char *text = malloc(2 << 20), *big = malloc(N);

    (void)state;
    for (size_t i = 0; i < N; i++)
        big[i] = (char)(i * 7 + i / 251);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct ends e = open_ends("server", FILE_OF("ca.pem"), false, "127.0.0.1");
        size_t n = 0;
        assert_int_equal(jr_tls_write(e.client, "early", 5), JR_EPROTO);
        assert_int_equal(shake_hands(&e, steps[i], text), 0);
        assert_true(jr_tls_ready(e.client) && jr_tls_ready(e.server));
        assert_int_equal(jr_tls_write(e.client, big, N), 0);
        assert_int_equal(carry(e.client, e.server, steps[i], text, &n), 0);
        assert_int_equal(n, N);
        assert_memory_equal(text, big, N);
        assert_false(jr_tls_has_input(e.server));
        n = 0;
        assert_int_equal(jr_tls_write(e.server, "answer", 6), 0);
        jr_tls_close(e.server);
        assert_int_equal(carry(e.server, e.client, steps[i], text, &n), JR_ECLOSED);
        assert_int_equal(n, 6);
        assert_memory_equal(text, "answer", 6);
        /* The other way is still open. */
        n = 0;
        assert_int_equal(jr_tls_write(e.client, "late", 4), 0);
        assert_int_equal(carry(e.client, e.server, steps[i], text, &n), 0);
        assert_int_equal(n, 4);
        close_ends(&e);
    }
    free(text);
    free(big);
}

/* A reader that takes little at a time finds the rest later. */
static void test_read_later(void **state)
{
    struct ends e = open_ends("server", FILE_OF("ca.pem"), false, "localhost");
    char *text = malloc(2 << 20), byte;

    (void)state;
    assert_int_equal(shake_hands(&e, 1 << 20, text), 0);
    assert_int_equal(jr_tls_write(e.client, "ab", 2), 0);
    assert_int_equal(jr_tls_write(e.client, "c", 1), 0);
    assert_int_equal(jr_tls_feed(e.server, jr_tls_out(e.client)->p, jr_tls_out(e.client)->n), 0);
    for (const char *want = "abc"; *want != '\0'; want++) {
        assert_true(jr_tls_has_input(e.server));
        assert_int_equal(jr_tls_read(e.server, &byte, 1), 1);
        assert_int_equal(byte, *want);
    }
    assert_int_equal(jr_tls_read(e.server, &byte, 1), 0);
    assert_false(jr_tls_has_input(e.server));
    close_ends(&e);
    free(text);
}

static void test_who_the_peer_is(void **state)
{
    static const struct {
        const char *cert, *ca, *name;
        bool insecure;
        const char *words; /* NULL: accepted */
    } cases[] = {
        {"server", FILE_OF("ca.pem"), "127.0.0.1", false, NULL},
        {"server", FILE_OF("ca.pem"), "::1", false, NULL},
        {"server", FILE_OF("ca.pem"), "localhost", false, NULL},
        {"server", FILE_OF("ca.pem"), "127.0.0.2", false, "IP address mismatch"},
        {"server", FILE_OF("ca.pem"), "elsewhere.example", false, "hostname mismatch"},
        {"elsewhere", FILE_OF("ca.pem"), "elsewhere.example", false, NULL},
        {"elsewhere", FILE_OF("ca.pem"), "localhost", false, "hostname mismatch"},
        {"server", FILE_OF("other-ca.pem"), "localhost", false, "issuer"},
        {"server", NULL, "localhost", false, "issuer"},
        {"server", NULL, "localhost", true, NULL},
        {"elsewhere", FILE_OF("other-ca.pem"), "127.0.0.1", true, NULL},
    };
    char *text = malloc(2 << 20);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ends e = open_ends(cases[i].cert, cases[i].ca, cases[i].insecure, cases[i].name);
        const int rv = shake_hands(&e, 1 << 20, text);
        if (cases[i].words == NULL) {
            assert_int_equal(rv, 0);
            assert_string_equal(jr_tls_words(e.client), "");
        } else {
            size_t n = 0;
            assert_int_equal(rv, JR_EPROTO);
            assert_non_null(strstr(jr_tls_words(e.client), cases[i].words));
            assert_int_equal(jr_tls_write(e.client, "x", 1), JR_EPROTO);
            /* The server is told why. */
            assert_int_equal(carry(e.client, e.server, 1 << 20, text, &n), JR_EPROTO);
            assert_non_null(strstr(jr_tls_words(e.server), "alert"));
        }
        close_ends(&e);
    }
    free(text);
}

static void write_file(char *path, const char *text)
{
    const int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void test_files(void **state)
{
    struct jr_tls_context *ctx;
    char junk[] = "/tmp/jr_tls_XXXXXX";
    struct jr_errmsg e = {""};

    (void)state;
    write_file(junk, "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n");
    const struct {
        const char *cert, *key, *words;
    } cases[] = {
        {"/nowhere/cert.pem", FILE_OF("server.key"), "/nowhere/cert.pem: "},
        {FILE_OF("server.pem"), "/nowhere/key.pem", "/nowhere/key.pem: "},
        {junk, FILE_OF("server.key"), junk},
        {FILE_OF("server.pem"), junk, junk},
        {FILE_OF("server.pem"), FILE_OF("second.key"), "does not belong to the certificate in"},
        {FILE_OF("server.key"), FILE_OF("server.key"), "cannot use the certificate"},
        {FILE_OF("server.pem"), FILE_OF("server.pem"), "cannot use the private key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(jr_tls_server_context(cases[i].cert, cases[i].key, &e, &ctx), JR_ECONFIG);
        if (strstr(e.text, cases[i].words) == NULL)
            fail_msg("case %zu: %s", i, e.text);
    }
    assert_int_equal(jr_tls_client_context("/nowhere/ca.pem", false, &e, &ctx), JR_ECONFIG);
    if (strstr(e.text, "/nowhere/ca.pem: No such file") == NULL)
        fail_msg("%s", e.text);
    assert_int_equal(jr_tls_client_context(junk, false, &e, &ctx), JR_ECONFIG);
    unlink(junk);
    ctx = server_of("server");
    assert_true(jr_tls_context_not_after(ctx) > 4000000000); /* a hundred years */
    jr_tls_context_destroy(ctx);
}

static void test_what_is_fed_is_bounded(void **state)
{
    struct ends e = open_ends("server", FILE_OF("ca.pem"), false, "localhost");
    char *text = malloc(2 << 20);

    (void)state;
    assert_int_equal(shake_hands(&e, 1 << 20, text), 0);
    assert_int_equal(jr_tls_feed(e.server, text, JR_TLS_IN_MAX), 0);
    assert_int_equal(jr_tls_feed(e.server, text, 1), JR_ELIMIT);
    close_ends(&e);
    free(text);
}

/* A bit turned anywhere, in the handshake or behind it: an error or silence, never other bytes. */
static void test_tampered(void **state)
{
    struct jr_rng rng;
    char *text = malloc(2 << 20);

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 0);
    for (int round = 0; round < 200; round++) {
        struct ends e = open_ends("server", FILE_OF("ca.pem"), false, "localhost");
        const bool late = round % 2 == 1;
        size_t n = 0;
        if (late)
            assert_int_equal(shake_hands(&e, 1 << 20, text), 0);
        else
            assert_int_equal(jr_tls_handshake(e.client), 0);
        if (late)
            assert_int_equal(jr_tls_write(e.client, "secret", 6), 0);
        const struct jr_buf *out = jr_tls_out(e.client);
        char *copy = malloc(out->n);
        memcpy(copy, out->p, out->n);
        const uint32_t bit = jr_rng_below(&rng, (uint32_t)out->n * 8);
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
        assert_int_equal(jr_tls_feed(e.server, copy, out->n), 0);
        int rv;
        while ((rv = jr_tls_read(e.server, text + n, 100)) > 0)
            n += (size_t)rv;
        assert_int_equal(n, 0);
        if (late && bit / 8 >= 5)
            assert_int_equal(rv, JR_EPROTO);
        if (rv < 0)
            assert_int_equal(jr_tls_read(e.server, text, 100), JR_EPROTO);
        free(copy);
        close_ends(&e);
    }
    free(text);
}

/* Whatever comes as a first message, in pieces of any size. */
static void test_noise(void **state)
{
    static const char *const starts[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02",
                                         "\x16\x03\x01",           "\x15\x03\x03",
                                         "\x80\x2e\x01",           ""};
    struct jr_rng rng;
    char noise[600], text[100];

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (int round = 0; round < 600; round++) {
        struct ends e = open_ends("server", FILE_OF("ca.pem"), false, "localhost");
        const char *start = starts[round % 6];
        const size_t k = 1 + jr_rng_below(&rng, 300);
        int rv = 0;
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (char)jr_rng_below(&rng, 256);
        for (size_t i = 0; start[i] != '\0'; i++)
            noise[i] = start[i];
        for (size_t at = 0; at < sizeof noise && rv == 0; at += k) {
            const size_t n = k < sizeof noise - at ? k : sizeof noise - at;
            assert_int_equal(jr_tls_feed(e.server, noise + at, n), 0);
            rv = jr_tls_read(e.server, text, sizeof text);
        }
        assert_true(rv == 0 || rv == JR_EPROTO);
        assert_false(jr_tls_ready(e.server));
        close_ends(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_both_ways),
        cmocka_unit_test(test_read_later),
        cmocka_unit_test(test_who_the_peer_is),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_what_is_fed_is_bounded),
        cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
