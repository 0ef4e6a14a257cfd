/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1 codec: whatever is read is read the same however the bytes are cut, and what two
 * implementations may understand differently is refused. */
#include "jr_test.h"
#include "jr_test_http1.h"

#include "base/rng.h"
#include "wire/http1_pass.h"

#include <stdio.h>

#define BODY_MAX 1000
#define HOST     "Host: x\r\n"

/* ---- requests ---- */

static void read_requests(struct jr_test_http1_server *s, const char *p, size_t n, size_t first,
                          size_t step)
{
    jr_test_server_init(s, BODY_MAX);
    for (size_t at = 0, k = first; at < n; at += k, k = step) {
        if (k > n - at)
            k = n - at;
        jr_test_server_feed(s, p + at, k);
    }
}

/* The same in two pieces, cut everywhere, and byte by byte. */
static void same_requests(const char *p, size_t n, const struct jr_test_http1_server *want)
{
    struct jr_test_http1_server s;

    for (size_t cut = 0; cut <= n; cut++) {
        if (cut == 0)
            read_requests(&s, p, n, 1, 1);
        else
            read_requests(&s, p, n, cut, n);
        if (strcmp(jr_buf_str(&s.log), jr_buf_str(&want->log)) != 0)
            fail_msg("cut at %zu:\n%s\nwant:\n%s\nfor:\n%s", cut, jr_buf_str(&s.log),
                     jr_buf_str(&want->log), p);
        jr_test_server_deinit(&s);
    }
}

static const struct {
    const char *raw, *want;
} requests[] = {
    {"GET /a HTTP/1.1\r\n" HOST "\r\n", "GET /a 1.1 alive 0\nHost: x\r\nbody 0\n\n"},
    {"\r\n\r\nGET /a?b=c?d HTTP/1.1\r\n" HOST "X-Test:  v w \t\r\nEmpty:\r\n\r\n\r\n",
     "GET /a?b=c?d 1.1 alive 0\nHost: x\r\nX-Test: v w\r\nEmpty: \r\nbody 0\n\n"},
    {"GET http://x/a?b HTTP/1.1\r\n" HOST "\r\nGET http://x HTTP/1.1\r\n" HOST
     "\r\nOPTIONS * HTTP/1.1\r\n" HOST "\r\n",
     "GET /a?b 1.1 alive 0\nHost: x\r\nbody 0\n\nGET / 1.1 alive 0\nHost: x\r\nbody 0\n\n"
     "OPTIONS * 1.1 alive 0\nHost: x\r\nbody 0\n\n"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n" HOST
     "Connection: close\r\n\r\n",
     "POST / 1.1 alive 5\nHost: x\r\nContent-Length: 5\r\nbody 5\nhello\n"
     "GET /b 1.1 0\nHost: x\r\nConnection: close\r\nbody 0\n\n"},
    {"POST / HTTP/1.1\r\n" HOST "transfer-encoding: Chunked\r\n\r\n"
     "5;ext=\"1\"\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\nHost: y\r\n\r\n"
     "HEAD /b HTTP/1.1\r\n" HOST "\r\n",
     "POST / 1.1 alive chunked 0\nHost: x\r\ntransfer-encoding: Chunked\r\nbody 11\nhello world\n"
     "HEAD /b 1.1 head alive 0\nHost: x\r\nbody 0\n\n"},
    {"POST / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n1",
     "POST / 1.1 alive expects 1\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n"
     "body 1\n1\n"},
    {"GET /a HTTP/1.0\r\nExpect: magic\r\n\r\nGET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     "GET /a 1.0 0\nExpect: magic\r\nbody 0\n\n"
     "GET /b 1.0 alive 0\nConnection: keep-alive\r\nbody 0\n\n"},
    {"GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: h2c\r\n\r\nGET /b HTTP/1.1\r\n" HOST
     "\r\n",
     "GET / 1.1 alive 0\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nbody 0\n\n"
     "GET /b 1.1 alive 0\nHost: x\r\nbody 0\n\n"},
    /* Not whole: only what is sure is told. */
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell",
     "POST / 1.1 alive 5\nHost: x\r\nContent-Length: 5\r\n"},
    {"GET / HTTP/1.1\r\n" HOST "\r", ""},
    {"\r", ""},
    /* The second is refused, the first stands. */
    {"GET / HTTP/1.1\r\n" HOST "\r\nbroken\r\n\r\n",
     "GET / 1.1 alive 0\nHost: x\r\nbody 0\n\nrefused 400\n"},
};

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        const size_t n = strlen(requests[i].raw);
        struct jr_test_http1_server s, again;

        read_requests(&s, requests[i].raw, n, n, n);
        assert_string_equal(jr_buf_str(&s.log), requests[i].want);
        same_requests(requests[i].raw, n, &s);
        /* What was whole, written anew, is read the same. */
        read_requests(&again, (const char *)s.again.p, s.again.n, 7, 7);
        assert_int_equal(again.log.n, s.log_whole);
        if (s.log_whole > 0)
            assert_memory_equal(again.log.p, s.log.p, s.log_whole);
        jr_test_server_deinit(&again);
        jr_test_server_deinit(&s);
    }
}

#define POST_CHUNKED "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

static const struct {
    int status;
    const char *raw;
} smuggling[] = {
    {400, "GET\r\n\r\n"},
    {400, "garbage\r\n\r\n"},
    {505, "GET /\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n\r\n"}, /* no Host */
    {400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
    {400, "GET / HTTP/1.1\nHost: x\n\n"}, /* bare LF */
    {400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n"}, /* bare CR */
    {400, "GET / HTTP/1.1\r\nHost: x\r\n\rContent-Length: 5\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n Host: x\r\nHost: y\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"}, /* space before colon */
    {400, "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nA\x01: y\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: x\r\nA: \x01y\r\n\r\n"},
    {400, "GET /e cho HTTP/1.1\r\nHost: x\r\n\r\n"},
    {400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
    {505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
    {400, "GET / HTTP/1.9\r\nHost: x\r\n\r\n"},
    {400, "GET / HTTP/01.1\r\nHost: x\r\n\r\n"},
    {405, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5 5\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello"},
    {400, "POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n"},
    {413, "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n"},
    {413, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n\r\n"},
    {400,
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {400,
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"},
    {400, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {417, "POST / HTTP/1.1\r\n" HOST "Expect: magic\r\nContent-Length: 1\r\n\r\n1"},
    {400, POST_CHUNKED "zz\r\n"},
    {400, POST_CHUNKED "0x5\r\nhello\r\n"},
    {400, POST_CHUNKED "-5\r\nhello\r\n"},
    {400, POST_CHUNKED "\r\n\r\n"},
    {400, POST_CHUNKED "5\r\nhelloXX0\r\n\r\n"},
    {400, POST_CHUNKED "5\r\nhello\n0\r\n\r\n"},
    {400, POST_CHUNKED "5\nhello\r\n0\r\n\r\n"},
    {400, POST_CHUNKED "5;a\nb\r\nhello\r\n0\r\n\r\n"},
    {400, POST_CHUNKED "5 \r\nhello\r\n0\r\n\r\n"},
    {400, POST_CHUNKED "5\rX\nhello\r\n0\r\n\r\n"},
    {400, POST_CHUNKED "fffffffffffffffff\r\n"},
    {413, POST_CHUNKED "3e9\r\n"},
    {400, POST_CHUNKED "0\r\nA: b\rC: d\r\n\r\n"},
    {400, POST_CHUNKED "0\r\nA: b\n\n"},
};

/* Each is refused with its status, however it is cut, and what stands behind it is never a request. */
static void test_smuggling(void **state)
{
    unsigned wrong = 0;

    (void)state;
    for (size_t i = 0; i < sizeof smuggling / sizeof *smuggling; i++) {
        char raw[2048], want[32];
        struct jr_test_http1_server s;

        snprintf(want, sizeof want, "refused %d\n", smuggling[i].status);
        const int n =
            snprintf(raw, sizeof raw, "%sGET /admin HTTP/1.1\r\n" HOST "\r\n", smuggling[i].raw);
        if (strstr(smuggling[i].raw, "3e9") != NULL) { /* the body has to come to be too large */
            memset(raw + n, 'x', 1200);
            raw[n + 1200] = '\0';
        }
        read_requests(&s, raw, strlen(raw), strlen(raw), 1);
        if (s.n_whole != 0 || s.log.n < strlen(want) ||
            strcmp(jr_buf_str(&s.log) + s.log.n - strlen(want), want) != 0) {
            wrong++;
            print_error("want %sfor:\n%s\ngot:\n%s\n", want, raw, jr_buf_str(&s.log));
        }
        assert_non_null(s.r.refuse_words);
        same_requests(raw, strlen(raw), &s);
        jr_test_server_deinit(&s);
    }
    assert_int_equal(wrong, 0);
}

/* A head of exactly n bytes. */
static void put_head_of(struct jr_buf *b, const char *first, const char *last, size_t n)
{
    jr_buf_clear(b);
    jr_buf_puts(b, first);
    while (b->n + strlen(last) + 1100 < n)
        jr_buf_printf(b, "A: %01000d\r\n", 0);
    jr_buf_printf(b, "B: %0*d\r\n%s", (int)(n - b->n - strlen(last) - 5), 0, last);
    assert_int_equal(b->n, n);
}

static void expect_request(const struct jr_buf *b, int status)
{
    static const size_t steps[] = {1u << 30, 4096, 997};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct jr_test_http1_server s;
        read_requests(&s, (const char *)b->p, b->n, steps[i], steps[i]);
        assert_int_equal(s.n_whole, status == 0 ? 1 : 0);
        assert_int_equal(s.state == JR_T_REFUSED ? s.r.refuse_status : 0, status);
        jr_test_server_deinit(&s);
    }
}

static void test_request_limits(void **state)
{
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 1 << 20);
    put_head_of(&b, "GET / HTTP/1.1\r\n" HOST, "\r\n", JR_HTTP_HEADER_BYTES_MAX);
    expect_request(&b, 0);
    put_head_of(&b, "GET / HTTP/1.1\r\n" HOST, "\r\n", JR_HTTP_HEADER_BYTES_MAX + 1);
    expect_request(&b, 431);
    put_head_of(&b, "GET / HTTP/1.1\r\n" HOST, "A: open", JR_HTTP_HEADER_BYTES_MAX + 1);
    expect_request(&b, 431);
    for (unsigned more = 0; more < 2; more++) {
        jr_buf_clear(&b);
        jr_buf_puts(&b, "GET / HTTP/1.1\r\n" HOST);
        for (unsigned i = 1; i < JR_HTTP_HEADERS_MAX + more; i++)
            jr_buf_printf(&b, "H%u: v\r\n", i);
        jr_buf_puts(&b, "\r\n");
        expect_request(&b, more ? 431 : 0);
    }
    jr_buf_clear(&b);
    jr_buf_printf(&b, "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n%0*d", BODY_MAX,
                  BODY_MAX, 0);
    expect_request(&b, 0);
    for (unsigned more = 0; more < 2; more++) { /* the sum of the chunks counts */
        jr_buf_clear(&b);
        jr_buf_printf(&b, POST_CHUNKED "%x\r\n%0*d\r\n%x\r\n%0*d\r\n0\r\n\r\n", BODY_MAX / 2,
                      BODY_MAX / 2, 0, BODY_MAX / 2 + more, (int)(BODY_MAX / 2 + more), 0);
        expect_request(&b, more ? 413 : 0);
    }
    jr_buf_deinit(&b);
}

/* What surrounds a chunked body is bounded where it stands, not where a read happens to end. */
static void test_request_framing(void **state)
{
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 1 << 20);
    for (unsigned more = 0; more < 2; more++) {
        /* Before the first body byte: "1;" and "\r\n" with an extension between. */
        jr_buf_clear(&b);
        jr_buf_printf(&b, POST_CHUNKED "1;%0*d\r\nx\r\n0\r\n\r\n",
                      (int)(JR_HTTP_HEADER_BYTES_MAX - 4 + more), 0);
        expect_request(&b, more ? 400 : 0);
    }
    /* Trailers without an end, and chunks of one byte. */
    jr_buf_clear(&b);
    jr_buf_printf(&b, POST_CHUNKED "0\r\nA: %0*d", 100000, 0);
    expect_request(&b, 400);
    jr_buf_clear(&b);
    jr_buf_puts(&b, POST_CHUNKED);
    for (int i = 0; i < BODY_MAX; i++)
        jr_buf_puts(&b, "1\r\nx\r\n");
    jr_buf_puts(&b, "0\r\n\r\n");
    expect_request(&b, 0);
    jr_buf_deinit(&b);
}

/* The line rules by themselves: the parser underneath refuses some of these too, in some versions. */
static void test_scan(void **state)
{
    static const struct {
        int rv;
        size_t end;
        const char *raw;
    } cases[] = {
        {1, 9, "a\r\nb:\r\n\r\n"},
        {1, 2, "\r\nrest"},
        {0, 0, ""},
        {0, 0, "a\r\nb: c\r\n\r"},
        {JR_EPROTO, 0, "a\n"},
        {JR_EPROTO, 0, "a\r\n\n"},
        {JR_EPROTO, 0, "a\r\nb: c\rd: e\r\n\r\n"},
        {JR_EPROTO, 0, "a\r\nb: c\r\r\n\r\n"},
        {JR_EPROTO, 0, "a\r\n\r\r\n"},
        {JR_EPROTO, 0, "a\r\n b\r\n\r\n"},
        {JR_EPROTO, 0, "a\r\nb: c\r\n\td\r\n\r\n"},
        {JR_EPROTO, 0, "a\r\n: c\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = strlen(cases[i].raw);
        for (size_t step = 1; step <= n + 1; step++) {
            struct jr_http1_scan scan = {0};
            size_t end = 0;
            int rv = 0;
            for (size_t at = 0; at < n && rv == 0; at += step) {
                char *p = jr_test_exact(cases[i].raw, at + step < n ? at + step : n);
                rv = jr_http1_scan_head(&scan, p, at + step < n ? at + step : n, &end);
                free(p);
            }
            assert_int_equal(rv, cases[i].rv);
            if (rv == 1)
                assert_int_equal(end, cases[i].end);
        }
    }
}

static void test_fields(void **state)
{
    static const char head[] = "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\n\r\n";
    struct jr_http1_request r;
    size_t n = 0;
    uint32_t count;

    (void)state;
    jr_http1_request_init(&r, BODY_MAX, NULL, NULL);
    for (int round = 0; round < 2; round++) {
        jr_http1_request_begin(&r);
        assert_int_equal(jr_http1_request_scan(&r, head, sizeof head - 1, &n), 1);
        assert_int_equal(n, sizeof head - 1);
        assert_int_equal(jr_http1_request_head(&r, head, n), 0);
        assert_ptr_equal(r.method.p, head); /* views, not copies */
        assert_true(jr_str_eq(jr_http1_fields_find(&r.fields, "A", &count), "1"));
        assert_int_equal(count, 2);
        assert_null(jr_http1_fields_find(&r.fields, "b", &count).p);
        assert_int_equal(count, 0);
    }
    jr_http1_request_deinit(&r);
    jr_http1_request_deinit(NULL);
}

/* The head's bytes are copied elsewhere, and what they were in is used for something else. */
static void test_moved(void **state)
{
    static const char *const heads[] = {
        "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Test: one\r\nEmpty:\r\n\r\n",
        "GET http://x HTTP/1.1\r\nHost: x\r\nX-Test: one\r\nEmpty:\r\n\r\n", /* "/" is ours */
    };
    struct jr_http1_request r;
    size_t end = 0;

    (void)state;
    jr_http1_request_init(&r, BODY_MAX, NULL, NULL);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        const size_t n = strlen(heads[i]);
        char *first = malloc(n), *second = malloc(n);
        memcpy(first, heads[i], n);
        jr_http1_request_begin(&r);
        assert_int_equal(jr_http1_request_scan(&r, first, n, &end), 1);
        assert_int_equal(jr_http1_request_head(&r, first, n), 0);
        memcpy(second, first, n);
        jr_http1_request_moved(&r, first, n, second);
        memset(first, '!', n);
        free(first);
        assert_true(jr_str_eq(r.method, "GET"));
        assert_true(jr_str_eq(r.path, i == 0 ? "/a" : "/"));
        assert_true(jr_str_eq(r.query, i == 0 ? "b=c" : ""));
        assert_true(jr_str_eq(jr_http1_fields_find(&r.fields, "x-test", NULL), "one"));
        assert_true(jr_str_eq(jr_http1_fields_find(&r.fields, "empty", NULL), ""));
        free(second);
    }
    jr_http1_request_deinit(&r);
}

/* ---- replies ---- */

static void read_replies(struct jr_test_http1_client *c, uint8_t heads, const char *p, size_t n,
                         size_t first, size_t step)
{
    jr_test_client_init(c, heads);
    for (size_t at = 0, k = first; at < n; at += k, k = step) {
        if (k > n - at)
            k = n - at;
        jr_test_client_feed(c, p + at, k);
    }
    jr_test_client_eof(c);
}

static void same_replies(uint8_t heads, const char *p, size_t n,
                         const struct jr_test_http1_client *want)
{
    struct jr_test_http1_client c;

    for (size_t cut = 0; cut <= n; cut++) {
        if (cut == 0)
            read_replies(&c, heads, p, n, 1, 1);
        else
            read_replies(&c, heads, p, n, cut, n);
        if (strcmp(jr_buf_str(&c.log), jr_buf_str(&want->log)) != 0)
            fail_msg("cut at %zu:\n%s\nwant:\n%s\nfor:\n%s", cut, jr_buf_str(&c.log),
                     jr_buf_str(&want->log), p);
        jr_test_client_deinit(&c);
    }
}

#define OPEN "open 0\n\n"

static const struct {
    const char *raw, *want;
    uint8_t heads;
} replies[] = {
    {"HTTP/1.1 200 OK\r\nX-Test: a b \r\nContent-Length: 5\r\n\r\nhello",
     "200 1.1 alive 5\nX-Test: a b\r\nContent-Length: 5\r\nbody 5\nhello\n" OPEN, 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n"
     "Trailer: t\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
     "200 1.1 alive -1\nTransfer-Encoding: chunked\r\nbody 11\nhello world\n"
     "204 1.1 alive 0\nbody 0\n\n" OPEN,
     0},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
     "HTTP/1.1 200 OK\r\n\r\nuntil the end",
     "200 1.1 -1\nbody 13\nuntil the end\n", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
     "200 1.1 0\nContent-Length: 0\r\nConnection: close\r\nbody 0\n\n" OPEN, 0},
    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
     "200 1.0 alive 2\nContent-Length: 2\r\nConnection: keep-alive\r\nbody 2\nok\n" OPEN, 0},
    /* To a HEAD there is no body, and the next is not taken for one; kept alive all the same. */
    {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nHTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n"
     "Content-Length: 2\r\n\r\nok",
     "200 1.1 alive 500\nContent-Length: 500\r\nbody 0\n\n200 1.1 alive 0\nbody 0\n\n"
     "200 1.1 alive 2\nContent-Length: 2\r\nbody 2\nok\n" OPEN,
     3},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
     "304 1.1 alive 9\nContent-Length: 9\r\nbody 0\n\n" OPEN, 0},
    /* Cut off. */
    {"", OPEN, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
     "200 1.1 alive 5\nContent-Length: 5\r\nopen 3\nhel\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
     "200 1.1 alive -1\nTransfer-Encoding: chunked\r\nopen 5\nhello\n", 0},
    /* Refused. */
    {"SSH-2.0-OpenSSH\r\n\r\n", "refused EPROTO\n", 0},
    {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "refused EPROTO\n", 0},
    {"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "refused EPROTO\n", 0},
    {"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "refused EPROTO\n", 0},
    {"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", "refused EPROTO\n", 0},
    {"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "refused EPROTO\n", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "refused EPROTO\n", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "refused EPROTO\n",
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "refused EPROTO\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     "200 1.1 alive -1\nTransfer-Encoding: chunked\r\nrefused EPROTO\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
     "200 1.1 alive -1\nTransfer-Encoding: chunked\r\nrefused EPROTO\n", 0},
};

static void test_replies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        const size_t n = strlen(replies[i].raw);
        struct jr_test_http1_client c, again;

        read_replies(&c, replies[i].heads, replies[i].raw, n, n, n);
        assert_string_equal(jr_buf_str(&c.log), replies[i].want);
        same_replies(replies[i].heads, replies[i].raw, n, &c);
        read_replies(&again, replies[i].heads, (const char *)c.again.p, c.again.n, 7, 7);
        assert_int_equal(again.log_whole, c.log_whole);
        if (c.log_whole > 0)
            assert_memory_equal(again.log.p, c.log.p, c.log_whole);
        jr_test_client_deinit(&again);
        jr_test_client_deinit(&c);
    }
}

static void expect_reply(const struct jr_buf *b, int err)
{
    static const size_t steps[] = {1u << 30, 4096, 997};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct jr_test_http1_client c;
        read_replies(&c, 0, (const char *)b->p, b->n, steps[i], steps[i]);
        assert_int_equal(c.err, err);
        assert_int_equal(c.n_whole, err == 0 ? 1 : 0);
        jr_test_client_deinit(&c);
    }
}

static void test_reply_limits(void **state)
{
    static const char chunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 1 << 20);
    put_head_of(&b, "HTTP/1.1 204 No Content\r\n", "\r\n", JR_HTTP_HEADER_BYTES_MAX);
    expect_reply(&b, 0);
    put_head_of(&b, "HTTP/1.1 204 No Content\r\n", "\r\n", JR_HTTP_HEADER_BYTES_MAX + 1);
    expect_reply(&b, JR_EPROTO);
    put_head_of(&b, "HTTP/1.1 204 No Content\r\n", "A: open", JR_HTTP_HEADER_BYTES_MAX + 1);
    expect_reply(&b, JR_EPROTO);
    for (unsigned more = 0; more < 2; more++) {
        jr_buf_clear(&b);
        jr_buf_puts(&b, "HTTP/1.1 204 No Content\r\n");
        for (unsigned i = 0; i < JR_HTTP_HEADERS_MAX + more; i++)
            jr_buf_printf(&b, "H%u: v\r\n", i);
        jr_buf_puts(&b, "\r\n");
        expect_reply(&b, more ? JR_EPROTO : 0);
    }
    for (unsigned more = 0; more < 2; more++) {
        jr_buf_clear(&b);
        jr_buf_printf(&b, "%s1\r\nx\r\n1;%0*d\r\nx\r\n0\r\n\r\n", chunked,
                      (int)(JR_HTTP_FRAMING_MAX - 6 + more), 0);
        expect_reply(&b, more ? JR_EPROTO : 0);
    }
    jr_buf_clear(&b);
    jr_buf_printf(&b, "%s0\r\nA: %0*d", chunked, 200000, 0);
    expect_reply(&b, JR_EPROTO);
    jr_buf_deinit(&b);
}

struct stopper {
    struct jr_http1_reply r;
    bool at_head;
    unsigned heads, pieces;
};

static int stop_head(void *ctx)
{
    struct stopper *s = ctx;

    s->heads++;
    return s->at_head ? -1 : 0;
}

static int stop_data(void *ctx, const char *p, size_t n)
{
    struct stopper *s = ctx;

    (void)p;
    (void)n;
    s->pieces++;
    return -1;
}

/* A callback that gives up is the last. */
static void test_reply_stopped(void **state)
{
    static const char *const raw[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil close",
    };

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct stopper s = {.at_head = i % 2 == 0};
        size_t used;
        jr_http1_reply_init(&s.r, stop_head, stop_data, &s);
        jr_http1_reply_begin(&s.r, false);
        assert_int_equal(jr_http1_reply_feed(&s.r, raw[i / 2], strlen(raw[i / 2]), &used),
                         JR_ECANCELED);
        assert_int_equal(s.heads, 1);
        assert_int_equal(s.pieces, s.at_head ? 0 : 1);
        jr_http1_reply_deinit(&s.r);
    }
    jr_http1_reply_deinit(NULL);
}

/* Random cuts of a long conversation, on one parser. */
static void test_random_cuts(void **state)
{
    struct jr_buf in, out;
    struct jr_rng rng;

    (void)state;
    jr_buf_init(&in, 1 << 20);
    jr_buf_init(&out, 1 << 20);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < 8; i++)
            jr_buf_puts(&in, requests[i].raw);
        jr_buf_puts(&out, replies[round % 2].raw);
    }
    struct jr_test_http1_server s, s_cut;
    struct jr_test_http1_client c, c_cut;
    read_requests(&s, (const char *)in.p, in.n, in.n, 1);
    read_replies(&c, 0, (const char *)out.p, out.n, out.n, 1);
    assert_int_equal(s.n_whole, 20 * 14);
    assert_int_equal(c.n_whole, 30);
    jr_rng_init(&rng, jr_test_seed(), 0);
    for (int round = 0; round < 20; round++) {
        const uint32_t max = 1 + jr_rng_below(&rng, 500);
        jr_test_server_init(&s_cut, BODY_MAX);
        jr_test_client_init(&c_cut, 0);
        for (size_t at = 0, k; at < in.n; at += k) {
            k = 1 + jr_rng_below(&rng, max);
            k = k < in.n - at ? k : in.n - at;
            jr_test_server_feed(&s_cut, in.p + at, k);
        }
        for (size_t at = 0, k; at < out.n; at += k) {
            k = 1 + jr_rng_below(&rng, max);
            k = k < out.n - at ? k : out.n - at;
            jr_test_client_feed(&c_cut, out.p + at, k);
        }
        jr_test_client_eof(&c_cut);
        assert_string_equal(jr_buf_str(&s_cut.log), jr_buf_str(&s.log));
        assert_string_equal(jr_buf_str(&c_cut.log), jr_buf_str(&c.log));
        jr_test_server_deinit(&s_cut);
        jr_test_client_deinit(&c_cut);
    }
    jr_test_server_deinit(&s);
    jr_test_client_deinit(&c);
    jr_buf_deinit(&in);
    jr_buf_deinit(&out);
}

/* ---- writing ---- */

static void test_write(void **state)
{
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 1 << 16);
    const struct jr_http1_request_head post = {.method = "POST",
                                               .target = {"/p?q", 4},
                                               .authority = {"h:80", 4},
                                               .content_type = "text/plain",
                                               .extra_headers = "X-A: 1\r\nX-B: 2\r\n",
                                               .n_body = 12345};
    jr_http1_write_request(&b, &post);
    assert_string_equal(jr_buf_str(&b),
                        "POST /p?q HTTP/1.1\r\nHost: h:80\r\nContent-Type: text/plain\r\n"
                        "Content-Length: 12345\r\nX-A: 1\r\nX-B: 2\r\n\r\n");
    jr_buf_clear(&b);
    const struct jr_http1_request_head get = {
        .method = "GET", .target = {"?q", 2}, .authority = {"h", 1}};
    jr_http1_write_request(&b, &get);
    assert_string_equal(jr_buf_str(&b), "GET /?q HTTP/1.1\r\nHost: h\r\n\r\n");

    static const struct {
        struct jr_http1_reply_head head;
        const char *want;
    } cases[] = {
        {{.status = 200, .content_length = 0, .keep_alive = true},
         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
        {{.status = 503, .content_type = "a/b", .content_length = 10, .extra_headers = "X: y\r\n"},
         "HTTP/1.1 503 Service Unavailable\r\nContent-Type: a/b\r\nContent-Length: 10\r\n"
         "Connection: close\r\nX: y\r\n\r\n"},
        {{.status = 200, .content_length = -1, .keep_alive = true},
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {{.status = 200, .content_length = -1, .http10 = true},
         "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
        {{.status = 777, .content_length = 1, .http10 = true, .keep_alive = true},
         "HTTP/1.1 777 Unknown\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"},
        {{.status = 204, .content_length = -1, .keep_alive = true},
         "HTTP/1.1 204 No Content\r\n\r\n"},
        {{.status = 304, .content_length = 5, .keep_alive = true},
         "HTTP/1.1 304 Not Modified\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jr_buf_clear(&b);
        jr_http1_write_reply(&b, &cases[i].head);
        assert_string_equal(jr_buf_str(&b), cases[i].want);
    }
    jr_buf_clear(&b);
    jr_http1_write_chunk(&b, 0xdeadbeef01);
    jr_http1_write_last_chunk(&b);
    assert_string_equal(jr_buf_str(&b), "deadbeef01\r\n0\r\n\r\n");
    jr_buf_deinit(&b);
}

static void test_pass(void **state)
{
    static const struct {
        const char *raw, *want;
    } cases[] = {
        {"Host: x\r\nAuthorization: Bearer k\r\nX-Odd:\r\n",
         "Authorization: Bearer k\r\nX-Odd:\r\n"},
        {"keep-alive: timeout=5\r\nte: trailers\r\nTRAILER: a\r\nUpgrade: h2c\r\nExpect: "
         "100-continue\r\n"
         "Transfer-Encoding: chunked\r\nContent-Length: 4\r\nProxy-Authorization: b\r\nproxy-x: "
         "y\r\n"
         "Proxy: kept\r\n",
         "Proxy: kept\r\n"},
        {"Connection: keep-alive\r\nA: 1\r\nA: 2\r\n", "A: 1\r\nA: 2\r\n"},
        {"A: 1\r\nConnection: close, b ,\t A\r\nB: 2\r\nAB: 3\r\n", "AB: 3\r\n"},
        {"Connection: close\r\nConnection: a,\r\na: 1\r\nclose: 2\r\n", ""},
        {"x-ours: theirs\r\nX-Ours-Too: 1\r\n", "X-Ours-Too: 1\r\n"},
        {"", ""},
    };
    const struct jr_str but[] = {jr_str_of("X-Ours", 6)};
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jr_http1_fields f = {0};
        for (const char *p = cases[i].raw; *p != '\0'; p = strstr(p, "\r\n") + 2) {
            const char *colon = strchr(p, ':'), *end = strstr(p, "\r\n");
            const char *value = colon + 1 + strspn(colon + 1, " ");
            assert_int_equal(jr_http1_fields_name(&f, p, (size_t)(colon - p)), 0);
            if (end > value)
                jr_http1_fields_value(&f, value, (size_t)(end - value));
        }
        jr_buf_clear(&b);
        jr_http1_pass(&b, f.v, f.n, but, 1);
        assert_string_equal(jr_buf_str(&b), cases[i].want);
        jr_http1_fields_deinit(&f);
    }
    jr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),       cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_request_limits), cmocka_unit_test(test_request_framing),
        cmocka_unit_test(test_scan),           cmocka_unit_test(test_fields),
        cmocka_unit_test(test_moved),          cmocka_unit_test(test_replies),
        cmocka_unit_test(test_reply_limits),   cmocka_unit_test(test_reply_stopped),
        cmocka_unit_test(test_random_cuts),    cmocka_unit_test(test_write),
        cmocka_unit_test(test_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
