/* SPDX-License-Identifier: Apache-2.0 */
/* http_away: what another loop, on its own thread, answers reaches the client as if it were this one's;
 * and it hears of clients that go away. */
#include "io/http_away.h"

#include "base/limits.h"
#include "jr_test.h"
#include "jr_test_http_rig.h"

#include <pthread.h>
#include <stdatomic.h>

#define FLOOD ((size_t)8 << 20)

struct setup {
    struct jr_rig rig;
    bool direct;
    struct jr_loop *other;
    pthread_t thread;
    uint32_t n_away;
    atomic_uint held, gone;
    size_t flooded; /* the other loop's */
    struct jr_msg stop;
};

static struct setup s;

static void *run(void *arg)
{
    jr_loop_run(arg);
    return NULL;
}

static void on_stop(struct jr_msg *msg)
{
    (void)msg;
    jr_loop_stop(s.other);
}

struct held {
    struct jr_http_request *req;
};

static void on_gone(void *ctx)
{
    struct held *h = ctx;
    jr_http_respond_end(h->req, true);
    jr_xfree(h);
    atomic_fetch_add(&s.gone, 1);
}

static void hold(struct jr_http_request *req)
{
    struct held *h = jr_xalloc(sizeof *h);
    h->req = req;
    jr_http_request_watch(req, on_gone, NULL, h);
    atomic_fetch_add(&s.held, 1);
}

/* As much as it may at a time. */
static void flood(void *ctx)
{
    static const char piece[64 << 10] = "flood";
    struct held *h = ctx;
    while (s.flooded < FLOOD) {
        s.flooded += sizeof piece;
        if (jr_http_respond_write(h->req, piece, sizeof piece) == JR_EAGAIN)
            return;
    }
    jr_http_respond_end(h->req, false);
    jr_xfree(h);
}

static void begin_flood(struct jr_http_request *req)
{
    struct held *h = jr_xalloc(sizeof *h);
    h->req = req;
    jr_http_respond_start(req, 200, "text/plain", NULL, (int64_t)FLOOD);
    jr_http_request_watch(req, on_gone, flood, h);
    flood(h);
}

static void answer(void *ctx, struct jr_http_request *req)
{
    (void)ctx;
    assert_true(jr_http_request_from_loopback(req));
    if (jr_str_eq(jr_http_request_path(req), "/hold")) {
        hold(req);
    } else if (jr_str_eq(jr_http_request_path(req), "/flood")) {
        begin_flood(req);
    } else if (jr_str_eq(jr_http_request_path(req), "/stream")) {
        jr_http_respond_start(req, 201, "text/plain", "X-Some: line\r\n", -1);
        for (int i = 0; i < 3; i++)
            (void)!jr_http_respond_write(req, "piece", 5);
        jr_http_respond_end(req, false);
    } else {
        jr_rig_answer(req);
    }
}

static void on_request(void *ctx, struct jr_http_request *req)
{
    (void)ctx;
    if (s.direct)
        answer(NULL, req);
    else
        jr_http_away(req, s.rig.loop, s.other, &s.n_away, answer, NULL);
}

static int set_up(void **state)
{
    (void)state;
    const struct jr_http_server_config config = {.host = "127.0.0.1",
                                                 .body_max = JR_RIG_BODY_MAX,
                                                 .header_timeout_ms = JR_RIG_WAIT_MS,
                                                 .idle_timeout_ms = JR_RIG_WAIT_MS,
                                                 .on_request = on_request};
    jr_list_init(&s.rig.held);
    assert_int_equal(jr_loop_create(&s.rig.loop), 0);
    assert_int_equal(jr_http_server_listen(s.rig.loop, &config, NULL, &s.rig.server), 0);
    assert_int_equal(jr_loop_create(&s.other), 0);
    assert_int_equal(pthread_create(&s.thread, NULL, run, s.other), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    s.stop.deliver = on_stop;
    jr_rig_close(&s.rig); /* home's last words come before the stop */
    jr_loop_post(s.other, &s.stop);
    pthread_join(s.thread, NULL);
    jr_loop_destroy(s.other);
    return 0;
}

/* All that came until the connection ended. */
static struct jr_buf ask(const char *text)
{
    struct jr_rig_client c;
    jr_rig_dial(&s.rig, NULL, &c);
    jr_rig_send(&c, text, strlen(text), SIZE_MAX);
    jr_rig_until(&c, jr_rig_ended);
    struct jr_buf got = c.got;
    jr_buf_init(&c.got, 0);
    jr_rig_hang_up(&c);
    return got;
}

static void test_the_same_as_at_home(void **state)
{
    static const char *const asked[] = {
        "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Long: y\r\nConnection: close\r\n\r\n",
        "POST /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /stream HTTP/1.0\r\nHost: x\r\n\r\n",
        "HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        s.direct = true;
        struct jr_buf home = ask(asked[i]);
        s.direct = false;
        struct jr_buf away = ask(asked[i]);
        assert_true(home.n > 0);
        assert_string_equal(jr_buf_str(&away), jr_buf_str(&home));
        jr_buf_deinit(&home);
        jr_buf_deinit(&away);
        assert_int_equal(s.n_away, 0);
    }
}

static void test_a_client_that_goes_away(void **state)
{
    static const char text[] = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n";
    (void)state;
    for (unsigned i = 1; i <= 20; i++) {
        struct jr_rig_client c;
        jr_rig_dial(&s.rig, NULL, &c);
        jr_rig_send(&c, text, sizeof text - 1, SIZE_MAX);
        if (i % 2) /* else it may not even be there yet */
            JR_TEST_WAIT((jr_rig_turn(&s.rig), atomic_load(&s.held) == i), 60000);
        jr_rig_hang_up(&c);
        JR_TEST_WAIT((jr_rig_turn(&s.rig), atomic_load(&s.gone) == i), 60000);
        JR_TEST_WAIT((jr_rig_turn(&s.rig), s.n_away == 0), 60000);
    }
}

static void test_a_slow_reader_is_waited_for(void **state)
{
    (void)state;
    struct jr_buf got = ask("GET /flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(got.n > FLOOD);
    assert_int_equal(s.n_away, 0);
    jr_buf_deinit(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_as_at_home),
        cmocka_unit_test(test_a_client_that_goes_away),
        cmocka_unit_test(test_a_slow_reader_is_waited_for),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
