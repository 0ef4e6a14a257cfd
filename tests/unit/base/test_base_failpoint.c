/* SPDX-License-Identifier: Apache-2.0 */
#include "base/failpoint.h"
#include "jr_test.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef JR_FAILPOINTS
int main(void)
{
    return 0; /* nothing is compiled in */
}
#else

static unsigned slept;

static void count_sleep(unsigned ms)
{
    slept += ms;
}

static int fresh(void **state)
{
    (void)state;
    jr_failpoint_clear();
    slept = 0;
    return 0;
}

static void nothing_set_nothing_happens(void **state)
{
    (void)state;
    assert_int_equal(JR_FAILPOINT("a"), 0);
    assert_int_equal(jr_failpoint_set(""), 0);
    assert_int_equal(JR_FAILPOINT("a"), 0);
}

static void errors_for_ever_or_counted(void **state)
{
    (void)state;
    assert_int_equal(jr_failpoint_set("kv.put=error*2;b=error;"), 0);
    assert_int_equal(JR_FAILPOINT("kv.put"), JR_EIO);
    assert_int_equal(JR_FAILPOINT("kv.put"), JR_EIO);
    assert_int_equal(JR_FAILPOINT("kv.put"), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(JR_FAILPOINT("b"), JR_EIO);
    assert_int_equal(JR_FAILPOINT("kv.pu"), 0);
    assert_int_equal(JR_FAILPOINT("kv.put2"), 0);
    assert_int_equal(jr_failpoint_set("kv.put=error*1"), 0); /* set again */
    assert_int_equal(JR_FAILPOINT("kv.put"), JR_EIO);
    assert_int_equal(JR_FAILPOINT("kv.put"), 0);
    assert_int_equal(JR_FAILPOINT("b"), JR_EIO); /* others stay */
    jr_failpoint_clear();
    assert_int_equal(JR_FAILPOINT("b"), 0);
}

static void sleeps_through_the_host(void **state)
{
    (void)state;
    assert_int_equal(jr_failpoint_set("s=sleep(50)"), 0);
    assert_int_equal(JR_FAILPOINT("s"), 0);
    jr_failpoint_set_sleep(count_sleep);
    assert_int_equal(JR_FAILPOINT("s"), 0);
    jr_failpoint_set_sleep(NULL);
    assert_int_equal(slept, 50);
}

static void crashes_as_by_kill(void **state)
{
    int status = 0;
    pid_t pid;

    (void)state;
    assert_int_equal(jr_failpoint_set("c=crash"), 0);
    pid = fork();
    if (pid == 0) {
        (void)JR_FAILPOINT("c");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void stops_until_it_is_continued(void **state)
{
    int status = 0;
    pid_t pid;

    (void)state;
    assert_int_equal(jr_failpoint_set("p=stop*1"), 0);
    pid = fork();
    if (pid == 0) {
        int first = JR_FAILPOINT("p");
        int second = JR_FAILPOINT("p"); /* the count is over */
        _exit(first == 0 && second == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void refuses_what_it_cannot_read(void **state)
{
    static const char *const bad[] = {
        "a",
        "a=",
        "=error",
        "a=err",
        "a=error*",
        "a=error*0",
        "a=error*x",
        "a=errorx",
        "a=sleep",
        "a=sleep()",
        "a=sleep(5",
        "a=sleep(x)",
        "a=sleep(5) ",
        "a=crash2",
        "a=stopx",
        "a=stop*0",
        "b=error;a=bad",
        "a=sleep(99999999999)",
        "a=sleep(",
        "a0123456789012345678901234567890123456789012345678901234567890123456789=error"};

    (void)state;
    assert_int_equal(jr_failpoint_set("keep=error"), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(jr_failpoint_set(bad[i]), JR_EINVAL);
    assert_int_equal(JR_FAILPOINT("a"), 0);
    assert_int_equal(JR_FAILPOINT("b"), 0); /* all or nothing */
    assert_int_equal(JR_FAILPOINT("keep"), JR_EIO);
}

static _Atomic unsigned errors;

static void *hit_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++)
        if (JR_FAILPOINT("t") != 0)
            atomic_fetch_add(&errors, 1);
    return NULL;
}

static void threads_share_the_count(void **state)
{
    pthread_t t[4];

    (void)state;
    assert_int_equal(jr_failpoint_set("t=error*500"), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, hit_often, NULL), 0);
    for (int i = 0; i < 4; i++)
        (void)pthread_join(t[i], NULL);
    assert_int_equal(errors, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_set_nothing_happens, fresh),
        cmocka_unit_test_setup(errors_for_ever_or_counted, fresh),
        cmocka_unit_test_setup(sleeps_through_the_host, fresh),
        cmocka_unit_test_setup(crashes_as_by_kill, fresh),
        cmocka_unit_test_setup(stops_until_it_is_continued, fresh),
        cmocka_unit_test_setup(refuses_what_it_cannot_read, fresh),
        cmocka_unit_test_setup(threads_share_the_count, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
