/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "io/lane.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct fixture {
    struct jr_loop *loop;
    struct jr_lane *lane;
    sem_t started, go;
    unsigned done, canceled, misordered, expected;
};

struct task {
    struct jr_job job;
    struct fixture *f;
    unsigned number;
    int result;
    bool waits;
};

static void run_task(struct jr_job *job)
{
    struct task *t = (struct task *)job;

    assert_false(jr_loop_here(t->f->loop));
    if (t->waits) {
        sem_post(&t->f->started);
        while (sem_wait(&t->f->go) != 0)
            ;
    }
    t->result = (int)t->number * 2;
}

static void done_task(struct jr_job *job)
{
    struct task *t = (struct task *)job;
    struct fixture *f = t->f;

    assert_true(jr_loop_here(f->loop));
    if (t->number != f->done)
        f->misordered++;
    if (job->err == JR_ECANCELED)
        f->canceled++;
    else
        assert_int_equal(t->result, t->number * 2);
    if (++f->done == f->expected)
        jr_loop_stop(f->loop);
    jr_xfree(t);
}

static int submit(struct fixture *f, unsigned number, bool waits)
{
    struct task *t = jr_xalloc(sizeof *t);

    t->job.run = run_task;
    t->job.done = done_task;
    t->f = f;
    t->number = number;
    t->waits = waits;
    const int err = jr_lane_submit(f->lane, &t->job);
    if (err < 0)
        jr_xfree(t);
    return err;
}

static int setup(void **state)
{
    struct fixture *f = jr_xalloc(sizeof *f);

    sem_init(&f->started, 0, 0);
    sem_init(&f->go, 0, 0);
    assert_int_equal(jr_loop_create(&f->loop), 0);
    assert_int_equal(jr_lane_create(f->loop, "test", 4, &f->lane), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    jr_loop_destroy(f->loop);
    sem_destroy(&f->started);
    sem_destroy(&f->go);
    jr_xfree(f);
    return 0;
}

static void test_in_order(void **state)
{
    struct fixture *f = *state;

    f->expected = 4;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(submit(f, i, false), 0);
    jr_loop_run(f->loop);
    assert_int_equal(f->done, 4);
    assert_int_equal(f->misordered, 0);
    assert_int_equal(f->canceled, 0);
    jr_lane_destroy(f->lane);
}

static void test_depth_is_bounded(void **state)
{
    struct fixture *f = *state;

    f->expected = 5;
    assert_int_equal(submit(f, 0, true), 0);
    sem_wait(&f->started); /* runs, so waits no more */
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(submit(f, i, false), 0);
    assert_int_equal(submit(f, 5, false), JR_ELIMIT);
    assert_int_equal(jr_lane_depth(f->lane), 5);
    sem_post(&f->go);
    jr_loop_run(f->loop);
    assert_int_equal(f->done, 5);
    jr_lane_destroy(f->lane);
}

/* One ran and lies in the mailbox, one runs, two wait: all are done once destroy returns. */
static void test_destroy_finishes_all(void **state)
{
    struct fixture *f = *state;

    f->expected = 100;
    assert_int_equal(submit(f, 0, false), 0);
    assert_int_equal(submit(f, 1, true), 0);
    assert_int_equal(submit(f, 2, true), 0);
    assert_int_equal(submit(f, 3, true), 0);
    sem_wait(&f->started);
    sem_post(&f->go);
    sem_post(&f->go);
    sem_post(&f->go);
    jr_lane_destroy(f->lane);
    assert_int_equal(f->done, 4);
    assert_int_equal(f->misordered, 0);
    assert_true(f->canceled <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_destroy_finishes_all, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
