/* SPDX-License-Identifier: Apache-2.0 */
/* The time of day is set back by an hour while our threads wait: for them it is ahead of the kernel's,
 * by which the kernel lets wait. None of them waits longer for it. */
#include "io/js_publish.h"
#include "io/js_reader.h"
#include "io_fixture.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SET_BACK_S 3600

static bool set_back;
static struct jr_test_nats server;
static struct jr_loop *loop;
static struct jr_nats *nats;

/* Is the code at this address the test's and the product's, not a library's? */
static bool is_ours(const void *code)
{
    Dl_info here, there;
    return dladdr((const void *)&server, &here) && dladdr(code, &there) &&
           here.dli_fbase == there.dli_fbase;
}

/* Takes the place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int rv = (int)syscall(SYS_clock_gettime, clock, ret);
    if (clock == CLOCK_REALTIME && set_back && is_ours(__builtin_return_address(0)))
        ret->tv_sec += SET_BACK_S;
    return rv;
}

static int setup(void **state)
{
    (void)state;
    jr_test_nats_start(&server, NULL);
    assert_int_equal(jr_loop_create(&loop), 0);
    struct jr_nats_config config = {.servers = server.url};
    assert_int_equal(jr_nats_connect(&config, &nats, NULL), 0);
    set_back = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    set_back = false;
    jr_nats_close(nats);
    jr_loop_destroy(loop);
    jr_test_nats_end(&server);
    return 0;
}

static void on_ack(void *ctx, int err, const struct jr_pub_ack *ack)
{
    (void)ack;
    *(int *)ctx = err;
}

static void test_a_publish_without_an_answer_ends(void **state)
{
    struct jr_js_publisher_config config = {.nats = nats, .loop = loop, .timeout_ms = 200};
    struct jr_pub pub = {.subject = "s", .payload = "x", .n = 1};
    struct jr_js_publisher *publisher;
    bool closed = false;
    int err = 0;

    (void)state;
    jr_test_nats_pause(&server);
    assert_int_equal(jr_js_publisher_create(&config, &publisher), 0);
    assert_int_equal(jr_js_publish_async(publisher, &pub, on_ack, &err), 0);
    PUMP_WAIT(loop, err < 0, JR_TEST_PATIENCE_MS);
    assert_int_equal(err, JR_ETIMEOUT);
    jr_test_nats_resume(&server);
    jr_js_publisher_close(publisher, mark_done, &closed);
    PUMP_WAIT(loop, closed, JR_TEST_PATIENCE_MS);
}

static void drop(struct jr_js_msg *msg, void *ctx)
{
    *(bool *)ctx = *(bool *)ctx || msg->kind == JR_READ_LOST;
    jr_js_msg_destroy(msg);
}

static bool has_begun(struct jr_js_reader *reader)
{
    struct jr_js_reader_counters n;
    jr_js_reader_counters_get(reader, &n);
    return n.creations > 0;
}

static void test_a_reader_tries_again(void **state)
{
    struct jr_stream_config stream;
    bool lost = false, closed = false;
    struct jr_js_reader_config config = {.nats = nats,
                                         .loop = loop,
                                         .stream = "s",
                                         .from = JR_READ_ALL,
                                         .on_msg = drop,
                                         .ctx = &lost};
    struct jr_js_reader *reader;

    (void)state;
    assert_int_equal(jr_js_reader_create(&config, &reader), 0);
    PUMP_WAIT(loop, lost,
              JR_TEST_PATIENCE_MS); /* there is no stream: it waits until the next time */
    jr_stream_config_sync(&stream, "s", 60000, 1);
    assert_int_equal(jr_stream_open(nats, &stream, NULL, NULL), 0);
    PUMP_WAIT(loop, has_begun(reader), JR_TEST_PATIENCE_MS);
    jr_js_reader_close(reader, mark_done, &closed);
    PUMP_WAIT(loop, closed, JR_TEST_PATIENCE_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_publish_without_an_answer_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_tries_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
