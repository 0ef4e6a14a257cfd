/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "io/loop.h"
#include "io/signal.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>
#include <cmocka.h>

#define N_THREADS    3
#define N_PER_THREAD 2000

struct note {
    struct jr_msg msg;
    struct inbox *inbox;
    unsigned from, number;
};

struct inbox {
    struct jr_loop *loop;
    unsigned next[N_THREADS]; /* number expected from each thread */
    unsigned delivered, dropped, misordered, expected;
    bool slow;
    atomic_uint timer_hits;
};

static void spin_us(unsigned us)
{
    const uint64_t until = jr_loop_now_ns() + us * 1000ull;

    while (jr_loop_now_ns() < until)
        ;
}

static void deliver_note(struct jr_msg *msg)
{
    struct note *note = (struct note *)msg;
    struct inbox *in = note->inbox;

    assert_true(jr_loop_here(in->loop));
    if (note->number != in->next[note->from])
        in->misordered++;
    in->next[note->from] = note->number + 1;
    if (in->slow)
        spin_us(100);
    if (++in->delivered == in->expected)
        jr_loop_stop(in->loop);
    jr_xfree(note);
}

static void drop_note(struct jr_msg *msg)
{
    struct note *note = (struct note *)msg;

    note->inbox->dropped++;
    jr_xfree(note);
}

static void post_note(struct inbox *in, unsigned from, unsigned number)
{
    struct note *note = jr_xalloc(sizeof *note);

    note->msg.deliver = deliver_note;
    note->msg.drop = drop_note;
    note->inbox = in;
    note->from = from;
    note->number = number;
    jr_loop_post(in->loop, &note->msg);
}

struct poster {
    struct inbox *in;
    unsigned from;
    struct jr_gate *gate;
};

static void *post_many(void *arg)
{
    struct poster *p = arg;

    assert_false(jr_loop_here(p->in->loop));
    for (unsigned i = 0; i < N_PER_THREAD; i++)
        post_note(p->in, p->from, i);
    return NULL;
}

static void test_order_per_thread(void **state)
{
    struct inbox in = {.expected = N_THREADS * N_PER_THREAD};
    struct poster posters[N_THREADS];
    pthread_t threads[N_THREADS];

    (void)state;
    assert_int_equal(jr_loop_create(&in.loop), 0);
    for (unsigned i = 0; i < N_THREADS; i++) {
        posters[i] = (struct poster){.in = &in, .from = i};
        pthread_create(&threads[i], NULL, post_many, &posters[i]);
    }
    jr_loop_run(in.loop);
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(in.delivered, in.expected);
    assert_int_equal(in.misordered, 0);
    jr_loop_destroy(in.loop);
}

static void count_timer(void *ctx)
{
    struct inbox *in = ctx;

    atomic_fetch_add(&in->timer_hits, 1);
}

/* 200 messages of 100 us are 20 ms of work: timers must get their turn in between. */
static void test_flood_does_not_starve(void **state)
{
    struct inbox in = {.expected = 200, .slow = true};

    (void)state;
    assert_int_equal(jr_loop_create(&in.loop), 0);
    struct jr_timer *timer = jr_timer_create(in.loop, count_timer, &in);
    jr_timer_start(timer, 1, 1);
    for (unsigned i = 0; i < in.expected; i++)
        post_note(&in, 0, i);
    jr_loop_run(in.loop);
    assert_int_equal(in.misordered, 0);
    assert_true(in.timer_hits >= 5);
    jr_timer_destroy(timer);
    jr_loop_destroy(in.loop);
}

static void test_destroy_drops(void **state)
{
    struct inbox in = {.expected = 100};

    (void)state;
    assert_int_equal(jr_loop_create(&in.loop), 0);
    for (unsigned i = 0; i < 10; i++)
        post_note(&in, 0, i);
    jr_timer_start(jr_timer_create(in.loop, count_timer, &in), 1000, 0); /* left to destroy */
    jr_loop_destroy(in.loop);
    assert_int_equal(in.delivered, 0);
    assert_int_equal(in.dropped, 10);
}

static bool is_even(const struct jr_msg *msg, const void *ctx)
{
    (void)ctx;
    return ((const struct note *)msg)->number % 2 == 0;
}

static void test_revoke(void **state)
{
    struct inbox in = {.expected = 3};
    unsigned n = 0;

    (void)state;
    assert_int_equal(jr_loop_create(&in.loop), 0);
    for (unsigned i = 0; i < 6; i++)
        post_note(&in, i % 2, i);
    struct jr_msg *msg = jr_loop_revoke(in.loop, is_even, NULL);
    while (msg != NULL) {
        struct jr_msg *next = msg->next;
        assert_int_equal(((struct note *)msg)->number, 2 * n);
        n++;
        jr_xfree(msg);
        msg = next;
    }
    assert_int_equal(n, 3);
    jr_loop_run(in.loop);
    assert_int_equal(in.delivered, 3);
    assert_int_equal(in.dropped, 0);
    jr_loop_destroy(in.loop);
}

struct self {
    struct jr_loop *loop;
    struct jr_timer *timer;
    struct jr_idler *idler;
    unsigned n;
};

static void destroy_self(void *ctx)
{
    struct self *self = ctx;

    if (++self->n < 3) {
        jr_timer_start(self->timer, 0, 0);
        return;
    }
    jr_timer_destroy(self->timer);
    jr_loop_stop(self->loop);
}

static void test_timer_restarts_and_destroys_itself(void **state)
{
    struct self self = {0};

    (void)state;
    assert_int_equal(jr_loop_create(&self.loop), 0);
    self.timer = jr_timer_create(self.loop, destroy_self, &self);
    jr_timer_start(self.timer, 1, 0);
    jr_loop_run(self.loop);
    assert_int_equal(self.n, 3);
    jr_loop_destroy(self.loop);
}

static void restart_at_once(void *ctx)
{
    struct self *self = ctx;

    self->n++;
    jr_timer_start(self->timer, 0, 0);
}

static void stop_after_poll(uv_check_t *handle)
{
    jr_loop_stop(handle->data);
}

/* The loop looks at its sockets in between. */
static void test_timer_without_delay_does_not_starve_the_loop(void **state)
{
    struct self self = {0};
    uv_check_t check; /* called behind the poll */

    (void)state;
    assert_int_equal(jr_loop_create(&self.loop), 0);
    uv_check_init(jr_loop_uv(self.loop), &check);
    check.data = self.loop;
    uv_check_start(&check, stop_after_poll);
    self.timer = jr_timer_create(self.loop, restart_at_once, &self);
    jr_timer_start(self.timer, 0, 0);
    jr_loop_run(self.loop);
    assert_true(self.n > 0 && self.n < 1000);
    jr_timer_destroy(self.timer);
    uv_close((uv_handle_t *)&check, NULL);
    jr_loop_destroy(self.loop);
}

static bool slice(void *ctx)
{
    struct self *self = ctx;

    self->n++;
    if (self->n == 5) {
        jr_timer_start(self->timer, 20, 0);
        return false; /* started again below */
    }
    if (self->n == 8) {
        jr_idler_destroy(self->idler);
        jr_loop_stop(self->loop);
    }
    return true;
}

static void start_again(void *ctx)
{
    struct self *self = ctx;

    assert_int_equal(self->n, 5);
    jr_idler_start(self->idler);
}

struct turns {
    struct jr_loop *loop;
    uint64_t n, longest_ms, slow_ms, first_ns;
    bool once_a_turn;
};

static void on_turn(void *ctx, uint64_t ms)
{
    struct turns *t = ctx;

    t->n++;
    t->longest_ms = ms > t->longest_ms ? ms : t->longest_ms;
    if (t->longest_ms >= t->slow_ms)
        jr_loop_stop(t->loop);
}

/* Holds the loop up for 20 ms of its own clock. */
static bool be_slow(void *ctx)
{
    struct turns *t = ctx;
    const uint64_t until = jr_loop_now_ns() + 20 * 1000000;

    t->first_ns = jr_loop_turn_ns(t->loop);
    while (jr_loop_now_ns() < until)
        ;
    t->once_a_turn = jr_loop_turn_ns(t->loop) == t->first_ns;
    return t->once_a_turn;
}

static void test_turns_are_watched(void **state)
{
    struct turns t = {.slow_ms = 15, .n = 0};

    (void)state;
    assert_int_equal(jr_loop_create(&t.loop), 0);
    jr_loop_watch(t.loop, on_turn, &t);
    struct jr_idler *idler = jr_idler_create(t.loop, be_slow, &t);
    jr_idler_start(idler);
    jr_loop_run(t.loop);
    assert_true(t.once_a_turn);
    assert_true(t.longest_ms >= 15);
    assert_true(jr_loop_turn_ns(t.loop) > t.first_ns); /* another turn */
    jr_loop_destroy(t.loop);
}

struct afters {
    struct jr_loop *loop;
    struct jr_after ran, canceled;
    uv_prepare_t flusher;
    struct jr_timer *timer;
    unsigned n_ran, n_canceled, in_timer;
    bool flushed, after_flush;
};

static void on_after(void *ctx)
{
    struct afters *a = ctx;

    a->n_ran++;
    a->after_flush = a->flushed;
    jr_loop_stop(a->loop);
}

static void on_canceled(void *ctx)
{
    struct afters *a = ctx;

    a->n_canceled++;
}

static void on_flush(uv_prepare_t *flusher)
{
    struct afters *a = flusher->data;

    a->flushed = true;
    uv_prepare_stop(flusher);
}

/* As a request does, twice: what is asked for, and bytes that wait for the turn's end. */
static void ask_twice(void *ctx)
{
    struct afters *a = ctx;

    jr_after_ask(&a->canceled, a->loop);
    for (int i = 0; i < 2; i++)
        jr_after_ask(&a->ran, a->loop);
    jr_after_cancel(&a->canceled);
    uv_prepare_start(&a->flusher, on_flush);
    a->in_timer = a->n_ran;
}

static void test_after_a_turn(void **state)
{
    struct afters a = {.n_ran = 0};

    (void)state;
    assert_int_equal(jr_loop_create(&a.loop), 0);
    jr_after_init(&a.ran, on_after, &a);
    jr_after_init(&a.canceled, on_canceled, &a);
    uv_prepare_init(jr_loop_uv(a.loop), &a.flusher);
    a.flusher.data = &a;
    a.timer = jr_timer_create(a.loop, ask_twice, &a);
    jr_timer_start(a.timer, 0, 0);
    jr_loop_run(a.loop);
    assert_int_equal(a.in_timer, 0);
    assert_int_equal(a.n_ran, 1);
    assert_int_equal(a.n_canceled, 0);
    assert_true(a.after_flush);
    jr_after_ask(&a.ran, a.loop);
    jr_loop_settle(a.loop);
    jr_loop_settle(a.loop);
    assert_int_equal(a.n_ran, 2);
    jr_loop_destroy(a.loop);
}

static void test_idler(void **state)
{
    struct self self = {0};

    (void)state;
    assert_int_equal(jr_loop_create(&self.loop), 0);
    self.idler = jr_idler_create(self.loop, slice, &self);
    self.timer = jr_timer_create(self.loop, start_again, &self);
    jr_idler_start(self.idler);
    jr_loop_run(self.loop);
    assert_int_equal(self.n, 8);
    jr_loop_destroy(self.loop);
}

static void *enter_many(void *arg)
{
    struct poster *p = arg;
    unsigned i = 0;

    while (jr_gate_enter(p->gate, 1) == 0)
        post_note(p->in, 0, i++);
    return NULL;
}

static void test_gate_bounds_and_closes(void **state)
{
    struct inbox in = {.expected = 3};
    struct poster poster = {.in = &in, .gate = jr_gate_create(3)};
    pthread_t thread;

    (void)state;
    assert_int_equal(jr_loop_create(&in.loop), 0);
    pthread_create(&thread, NULL, enter_many, &poster);
    jr_loop_run(in.loop); /* stops at the third */
    assert_int_equal(in.delivered, 3);
    in.expected = 4;
    jr_gate_leave(poster.gate, 1);
    jr_loop_run(in.loop);
    assert_int_equal(in.delivered, 4);
    jr_gate_close(poster.gate);
    pthread_join(thread, NULL);
    assert_int_equal(jr_gate_enter(poster.gate, 1), JR_ECLOSED);
    jr_gate_destroy(poster.gate);
    jr_loop_destroy(in.loop);
    assert_int_equal(in.dropped, 0);
}

static void got_signal(void *ctx, int signum)
{
    struct self *self = ctx;

    self->n = (unsigned)signum;
    jr_loop_stop(self->loop);
}

static void test_signals(void **state)
{
    const int signums[] = {SIGTERM, SIGINT, SIGHUP};
    struct self self = {0};
    struct jr_signals *signals;

    (void)state;
    assert_int_equal(jr_loop_create(&self.loop), 0);
    assert_int_equal(jr_signals_create(self.loop, got_signal, &self, &signals), 0);
    for (unsigned i = 0; i < 3; i++) {
        kill(getpid(), signums[i]);
        jr_loop_run(self.loop);
        assert_int_equal(self.n, signums[i]);
    }
    jr_signals_destroy(signals);
    jr_loop_destroy(self.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_per_thread),
        cmocka_unit_test(test_flood_does_not_starve),
        cmocka_unit_test(test_destroy_drops),
        cmocka_unit_test(test_revoke),
        cmocka_unit_test(test_timer_restarts_and_destroys_itself),
        cmocka_unit_test(test_timer_without_delay_does_not_starve_the_loop),
        cmocka_unit_test(test_turns_are_watched),
        cmocka_unit_test(test_after_a_turn),
        cmocka_unit_test(test_idler),
        cmocka_unit_test(test_gate_bounds_and_closes),
        cmocka_unit_test(test_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
