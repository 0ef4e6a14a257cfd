/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's side and ours, over real sockets. */
#include "io/zmq_pub.h"
#include "io/zmq_sub.h"
#include "io_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

static struct jr_loop *loop;

static int setup(void **state)
{
    (void)state;
    return jr_loop_create(&loop);
}

static int teardown(void **state)
{
    (void)state;
    jr_loop_destroy(loop);
    return 0;
}

struct seen {
    uint64_t n, last, holes;
    char text[32], topic[32];
    struct jr_zmq_msg *held[16];
    unsigned n_held, hold;
};

static void on_msg(struct jr_zmq_msg *msg, void *ctx)
{
    struct seen *s = ctx;

    if (s->n > 0 && msg->seq != s->last + 1)
        s->holes++;
    s->n++;
    s->last = msg->seq;
    snprintf(s->text, sizeof s->text, "%.*s", (int)msg->n, (const char *)msg->payload);
    snprintf(s->topic, sizeof s->topic, "%.31s", msg->topic);
    if (s->n_held < s->hold)
        s->held[s->n_held++] = msg;
    else
        jr_zmq_msg_destroy(msg);
}

static struct jr_zmq_pub *start_pub(const struct jr_zmq_pub_config *with)
{
    struct jr_zmq_pub *pub = NULL;
    struct jr_errmsg e = {""};

    if (jr_zmq_pub_create(with, &pub, &e) != 0)
        fail_msg("pub: %s", e.text);
    return pub;
}

static struct jr_zmq_sub *start_sub(struct seen *s, const char *endpoint, bool bind,
                                    uint32_t window)
{
    struct jr_zmq_sub_config config = {.loop = loop,
                                       .endpoint = endpoint,
                                       .bind = bind,
                                       .topic = "kv",
                                       .window_msgs = window,
                                       .on_msg = on_msg,
                                       .ctx = s};
    struct jr_zmq_sub *sub = NULL;
    struct jr_errmsg e = {""};

    if (jr_zmq_sub_create(&config, &sub, &e) != 0)
        fail_msg("sub: %s", e.text);
    return sub;
}

static void stop_sub(struct jr_zmq_sub *sub)
{
    bool done = false;

    jr_zmq_sub_close(sub, mark_done, &done);
    PUMP_WAIT(loop, done, 5000);
}

static void send_number(struct jr_zmq_pub *pub)
{
    char text[32];
    int n = snprintf(text, sizeof text, "step %u", (unsigned)jr_zmq_pub_next_seq(pub));

    jr_zmq_pub_send(pub, text, (size_t)n);
}

/* PUB drops what it sends before the subscription has arrived. */
static void send_until_heard(struct jr_zmq_pub *pub, struct seen *s)
{
    uint64_t until = jr_test_now_ms() + 60000;

    while (s->n == 0) {
        send_number(pub);
        jr_test_sleep_ms(5);
        pump(loop);
        assert_true(jr_test_now_ms() < until);
    }
}

static void live_both_ways(bool engine_connects)
{
    struct seen s = {0};
    char own[64];
    struct jr_zmq_pub_config config = {.endpoint = "tcp://127.0.0.1:*", .topic = "kv-events"};
    struct jr_zmq_sub *sub = NULL;
    struct jr_zmq_sub_counters counters;
    struct jr_zmq_pub *pub;

    if (engine_connects) {
        snprintf(own, sizeof own, "tcp://127.0.0.1:%u", jr_test_free_port());
        config.endpoint = own;
        config.connect = true;
        sub = start_sub(&s, own, true, 0);
    }
    pub = start_pub(&config);
    if (!engine_connects)
        sub = start_sub(&s, jr_zmq_pub_endpoint(pub), false, 0);
    send_until_heard(pub, &s);
    while (jr_zmq_pub_next_seq(pub) < 3000)
        send_number(pub);
    PUMP_WAIT(loop, s.last == 2999, 5000);
    assert_int_equal(s.holes, 0);
    assert_string_equal(s.text, "step 2999");
    assert_string_equal(s.topic, "kv-events");
    jr_zmq_sub_counters_get(sub, &counters);
    assert_int_equal(counters.msgs, s.n);
    assert_int_equal(counters.malformed, 0);
    stop_sub(sub);
    jr_zmq_pub_destroy(pub);
}

static void test_engine_binds(void **state)
{
    (void)state;
    live_both_ways(false);
}

static void test_engine_connects(void **state)
{
    (void)state;
    live_both_ways(true);
}

static void replay_of(bool old_form)
{
    struct jr_zmq_pub *pub = start_pub(&(struct jr_zmq_pub_config){
        .endpoint = "tcp://127.0.0.1:*",
        .replay_endpoint = "tcp://127.0.0.1:*",
        .replay_old_form = old_form,
        .topic = "kv",
        .buffer_steps = 100,
    });
    const char *at = jr_zmq_pub_replay_endpoint(pub);
    struct jr_zmq_replay r;
    struct jr_errmsg e = {""};

    for (int i = 0; i < 150; i++)
        send_number(pub);
    jr_zmq_pub_skip(pub, "step 150", 8);
    assert_int_equal(jr_zmq_replay(at, 140, 5000, 1000, 1 << 20, &r, &e), 0);
    assert_true(r.complete);
    assert_int_equal(r.n, 11);
    assert_int_equal(r.msgs[0].seq, 140);
    assert_memory_equal(r.msgs[10].payload, "step 150", 8);
    jr_zmq_replay_deinit(&r);
    /* History is gone: the first sequence tells. */
    assert_int_equal(jr_zmq_replay(at, 0, 5000, 1000, 1 << 20, &r, &e), 0);
    assert_true(r.complete);
    assert_int_equal(r.n, 100);
    assert_int_equal(r.msgs[0].seq, 51);
    jr_zmq_replay_deinit(&r);
    assert_int_equal(jr_zmq_replay(at, 1000, 5000, 1000, 1 << 20, &r, &e), 0);
    assert_true(r.complete);
    assert_int_equal(r.n, 0);
    jr_zmq_replay_deinit(&r);
    assert_int_equal(jr_zmq_replay(at, 0, 5000, 1000, 100, &r, &e), 0); /* our limit */
    assert_false(r.complete);
    assert_true(r.n > 0 && r.n < 100);
    jr_zmq_replay_deinit(&r);
    jr_zmq_pub_destroy(pub);
}

static void test_replay_with_topic(void **state)
{
    (void)state;
    replay_of(false);
}

static void test_replay_old_form(void **state)
{
    (void)state;
    replay_of(true);
}

static void test_replay_without_an_answer(void **state)
{
    char at[64];
    struct jr_zmq_replay r;
    struct jr_errmsg e = {""};

    (void)state;
    snprintf(at, sizeof at, "tcp://127.0.0.1:%u", jr_test_free_port());
    assert_int_equal(jr_zmq_replay(at, 0, 200, 100, 1 << 20, &r, &e), JR_ETIMEOUT);
    assert_int_equal(jr_zmq_replay("nonsense", 0, 200, 100, 1 << 20, &r, &e), JR_EINVAL);
}

static void *ask_for_replay(void *arg)
{
    static struct jr_zmq_replay r;
    int rv = jr_zmq_replay(arg, 0, 5000, 200, 1 << 20, &r, NULL);

    return rv == 0 ? &r : NULL;
}

/* Without its end marker the replay ends by silence, incomplete. */
static void test_replay_that_loses_its_end(void **state)
{
    void *ctx = zmq_ctx_new(), *router = zmq_socket(ctx, ZMQ_ROUTER), *got = NULL;
    char at[128], identity[64], part[64];
    size_t n = sizeof at;
    int linger = 0;
    struct jr_zmq_replay *r;
    pthread_t asker;

    (void)state;
    zmq_setsockopt(router, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_bind(router, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, at, &n);
    assert_int_equal(pthread_create(&asker, NULL, ask_for_replay, at), 0);
    int id_n = zmq_recv(router, identity, sizeof identity, 0);
    zmq_recv(router, part, sizeof part, 0);
    zmq_recv(router, part, sizeof part, 0);
    zmq_send(router, identity, (size_t)id_n, ZMQ_SNDMORE);
    zmq_send(router, "", 0, ZMQ_SNDMORE);
    zmq_send(router, "\0\0\0\0\0\0\0\7", 8, ZMQ_SNDMORE);
    zmq_send(router, "x", 1, 0);
    pthread_join(asker, &got);
    r = got;
    assert_non_null(r);
    assert_int_equal(r->n, 1);
    assert_int_equal(r->msgs[0].seq, 7);
    assert_false(r->complete);
    jr_zmq_replay_deinit(r);
    zmq_close(router);
    zmq_ctx_term(ctx);
}

static void test_malformed_frames_are_counted(void **state)
{
    void *ctx = zmq_ctx_new(), *raw = zmq_socket(ctx, ZMQ_PUB);
    struct seen s = {0};
    struct jr_zmq_sub_counters counters = {0};
    char at[128];
    size_t n = sizeof at;
    int linger = 0;
    struct jr_zmq_sub *sub;

    (void)state;
    zmq_setsockopt(raw, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_bind(raw, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(raw, ZMQ_LAST_ENDPOINT, at, &n);
    sub = start_sub(&s, at, false, 0);
    for (uint64_t until = jr_test_now_ms() + 5000; counters.malformed < 20;) {
        assert_true(jr_test_now_ms() < until);
        zmq_send(raw, "kv", 2, 0);
        zmq_send(raw, "kv", 2, ZMQ_SNDMORE);
        zmq_send(raw, "123", 3, ZMQ_SNDMORE);
        zmq_send(raw, "payload", 7, 0);
        zmq_send(raw, "kv", 2, ZMQ_SNDMORE);
        for (int i = 0; i < 20; i++)
            zmq_send(raw, "12345678", 8, ZMQ_SNDMORE);
        zmq_send(raw, "payload", 7, 0);
        jr_test_sleep_ms(5);
        jr_zmq_sub_counters_get(sub, &counters);
    }
    assert_int_equal(s.n, 0);
    stop_sub(sub);
    zmq_close(raw);
    zmq_ctx_term(ctx);
}

static void test_slow_loop_and_close_when_blocked(void **state)
{
    struct seen s = {.hold = 4};
    struct jr_zmq_sub_counters counters;
    struct jr_zmq_pub *pub =
        start_pub(&(struct jr_zmq_pub_config){.endpoint = "tcp://127.0.0.1:*", .topic = "kv"});
    struct jr_zmq_sub *sub = start_sub(&s, jr_zmq_pub_endpoint(pub), false, 4);

    (void)state;
    send_until_heard(pub, &s);
    while (jr_zmq_pub_next_seq(pub) < 500)
        send_number(pub);
    PUMP_WAIT(loop, s.n_held == 4, 5000);
    jr_test_sleep_ms(100);
    pump(loop);
    assert_int_equal(s.n, 4);
    jr_zmq_sub_counters_get(sub, &counters);
    assert_true(counters.msgs <= 5);
    stop_sub(sub);
    for (unsigned i = 0; i < s.n_held; i++)
        jr_zmq_msg_destroy(s.held[i]);
    jr_zmq_pub_destroy(pub);
}

static void test_address_in_use(void **state)
{
    struct jr_zmq_pub *pub =
        start_pub(&(struct jr_zmq_pub_config){.endpoint = "tcp://127.0.0.1:*"});
    struct jr_zmq_pub_config again = {.endpoint = jr_zmq_pub_endpoint(pub)};
    struct jr_zmq_pub *other = NULL;
    struct jr_errmsg e = {""};

    (void)state;
    assert_int_equal(jr_zmq_pub_create(&again, &other, &e), JR_EADDRINUSE);
    again.endpoint = "nonsense";
    assert_int_equal(jr_zmq_pub_create(&again, &other, &e), JR_EINVAL);
    jr_zmq_pub_destroy(pub);
}

static unsigned count_threads(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* Many publishers, one thread and one context: each is heard and asked as if it were alone, while
 * others come and go. */
static void test_group(void **state)
{
    enum { N = 40 };
    struct seen s[4] = {{0}};
    struct jr_zmq_sub *sub[4];
    struct jr_zmq_pub *pub[N], *other = NULL;
    struct jr_zmq_pub_group *group;
    struct jr_zmq_replay replay;
    struct jr_errmsg e = {""};
    char endpoint[64], replay_endpoint[64];

    (void)state;
    assert_int_equal(jr_zmq_pub_group_create(N, &group, &e), 0);
    struct jr_zmq_pub_config config = {.group = group,
                                       .endpoint = "tcp://127.0.0.1:*",
                                       .replay_endpoint = "tcp://127.0.0.1:*",
                                       .topic = "kv"};
    pub[0] = start_pub(&config);
    unsigned threads = count_threads();
    for (int i = 1; i < N; i++)
        pub[i] = start_pub(&config);
    assert_int_equal(count_threads(), threads);
    assert_int_equal(jr_zmq_pub_create(&config, &other, &e), JR_ELIMIT);
    for (size_t i = 0; i < 4; i++) {
        sub[i] = start_sub(&s[i], jr_zmq_pub_endpoint(pub[13 * i]), false, 0);
        send_until_heard(pub[13 * i], &s[i]);
    }
    for (int k = 0; k < 2000; k++)
        send_number(pub[k % N]);
    for (size_t i = 0; i < 4; i++) {
        uint64_t last = jr_zmq_pub_next_seq(pub[13 * i]) - 1;
        PUMP_WAIT(loop, s[i].last == last, 60000);
        assert_int_equal(s[i].holes, 0);
    }
    for (int i = 0; i < N; i += 3) {
        uint64_t next = jr_zmq_pub_next_seq(pub[i]);
        assert_int_equal(jr_zmq_replay(jr_zmq_pub_replay_endpoint(pub[i]), next - 5, 60000, 60000,
                                       1 << 20, &replay, &e),
                         0);
        assert_true(replay.complete);
        assert_int_equal(replay.n, 5);
        jr_zmq_replay_deinit(&replay);
    }
    /* One comes back where it was, at once, and begins anew. */
    snprintf(endpoint, sizeof endpoint, "%s", jr_zmq_pub_endpoint(pub[13]));
    snprintf(replay_endpoint, sizeof replay_endpoint, "%s", jr_zmq_pub_replay_endpoint(pub[13]));
    config.endpoint = endpoint;
    config.replay_endpoint = replay_endpoint;
    config.again = true;
    jr_zmq_pub_destroy(pub[13]);
    pub[13] = start_pub(&config);
    assert_string_equal(jr_zmq_pub_endpoint(pub[13]), endpoint);
    s[1].n = 0;
    send_until_heard(pub[13], &s[1]);
    assert_true(s[1].last < 1000);
    for (int i = 0; i < 4; i++)
        stop_sub(sub[i]);
    for (int i = 0; i < N; i++)
        jr_zmq_pub_destroy(pub[i]);
    jr_zmq_pub_group_destroy(group);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_engine_binds),
        T(test_engine_connects),
        T(test_replay_with_topic),
        T(test_replay_old_form),
        T(test_replay_without_an_answer),
        T(test_replay_that_loses_its_end),
        T(test_malformed_frames_are_counted),
        T(test_slow_loop_and_close_when_blocked),
        T(test_address_in_use),
        T(test_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
