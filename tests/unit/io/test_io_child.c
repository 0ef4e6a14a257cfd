/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "io/child.h"
#include "io/embedded_nats.h"
#include "jr_test.h"
#include "jr_test_net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    struct jr_loop *loop;
    struct jr_child *child;
    char lines[4096];
    int64_t status;
    int signum;
    unsigned exits, ready, failed;
    char words[512];
};

static void on_line(void *ctx, const char *line)
{
    struct fixture *f = ctx;

    assert_int_equal(f->exits, 0);
    strncat(f->lines, line, sizeof f->lines - strlen(f->lines) - 2);
    strcat(f->lines, "|");
}

static void on_exit_cb(void *ctx, int64_t status, int signum)
{
    struct fixture *f = ctx;

    f->status = status;
    f->signum = signum;
    f->exits++;
    f->child = NULL;
    jr_loop_stop(f->loop);
}

static int setup(void **state)
{
    struct fixture *f = jr_xalloc(sizeof *f);

    assert_int_equal(jr_loop_create(&f->loop), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    jr_child_destroy(f->child);
    jr_loop_destroy(f->loop);
    jr_xfree(f);
    return 0;
}

static void start_sh(struct fixture *f, const char *script, enum jr_child_output output)
{
    const char *const args[] = {"-c", script, NULL};
    const struct jr_child_config config = {.name = "sh",
                                           .args = args,
                                           .output = output,
                                           .on_line = on_line,
                                           .on_exit = on_exit_cb,
                                           .ctx = f};

    assert_int_equal(jr_child_start(f->loop, &config, NULL, &f->child), 0);
}

static void test_lines_and_status(void **state)
{
    struct fixture *f = *state;

    start_sh(f, "echo one; echo two >&2; printf three; exit 7", JR_CHILD_LINES);
    jr_loop_run(f->loop);
    assert_string_equal(f->lines, "one|two|three|");
    assert_int_equal(f->status, 7);
    assert_int_equal(f->signum, 0);
    f->exits = 0;
    start_sh(f, "echo unheard; read x; exit 3", JR_CHILD_NULL); /* stdin is empty */
    jr_loop_run(f->loop);
    assert_int_equal(f->status, 3);
}

static void test_kill(void **state)
{
    struct fixture *f = *state;

    start_sh(f, "exec sleep 100", JR_CHILD_NULL);
    jr_child_kill(f->child, SIGTERM);
    jr_loop_run(f->loop);
    assert_int_equal(f->status, -1);
    assert_int_equal(f->signum, SIGTERM);
    assert_int_equal(f->exits, 1);
}

static void test_destroy(void **state)
{
    struct fixture *f = *state;

    start_sh(f, "exec sleep 100", JR_CHILD_NULL);
    const int pid = jr_child_pid(f->child);
    jr_child_destroy(f->child);
    f->child = NULL;
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void test_cannot_start(void **state)
{
    struct fixture *f = *state;
    struct jr_child_config config = {.name = "no-such-program-here"};
    struct jr_errmsg e = {0};

    assert_int_equal(jr_child_start(f->loop, &config, &e, &f->child), JR_ENOTFOUND);
    assert_string_equal(e.text,
                        "there is no program 'no-such-program-here' on PATH or in /usr/sbin");
    char path[] = "/tmp/jr_child_XXXXXX"; /* executable, but no program */
    const int fd = mkstemp(path);
    assert_true(write(fd, "\177ELFnot", 7) == 7);
    fchmod(fd, 0700);
    close(fd);
    config.name = path;
    assert_int_equal(jr_child_start(f->loop, &config, &e, &f->child), JR_ECHILD);
    unlink(path);
    assert_null(f->child);
}

/* Ended, but nobody has asked for its status (who would, depends on the container). */
static bool is_zombie(pid_t pid)
{
    char path[64], text[256] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return true;
    const bool read_it = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    const char *state = strrchr(text, ')');
    return read_it && state != NULL && state[2] == 'Z';
}

/* A process in between starts a child and is killed: the child must go with it. */
static void test_dies_with_us(void **state)
{
    int fds[2];
    pid_t grandchild = 0;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    const pid_t middle = fork();
    if (middle == 0) {
        void *own = NULL;
        setup(&own);
        struct fixture *f = own;
        start_sh(f, "exec sleep 100", JR_CHILD_NULL);
        const pid_t pid = jr_child_pid(f->child);
        (void)!write(fds[1], &pid, sizeof pid);
        pause();
        _exit(0);
    }
    assert_int_equal(read(fds[0], &grandchild, sizeof grandchild), sizeof grandchild);
    kill(middle, SIGKILL);
    waitpid(middle, NULL, 0);
    JR_TEST_WAIT(kill(grandchild, 0) != 0 || is_zombie(grandchild), 10000);
    close(fds[0]);
    close(fds[1]);
}

/* ---- embedded nats-server ---- */

static void on_ready(void *ctx, const char *url)
{
    struct fixture *f = ctx;

    f->ready++;
    snprintf(f->words, sizeof f->words, "%s", url);
    jr_loop_stop(f->loop);
}

static void on_failed(void *ctx, const char *words)
{
    struct fixture *f = ctx;

    f->failed++;
    snprintf(f->words, sizeof f->words, "%s", words);
    jr_loop_stop(f->loop);
}

static void on_stopped(void *ctx)
{
    struct fixture *f = ctx;

    jr_loop_stop(f->loop);
}

static void test_nats_starts_and_stops(void **state)
{
    struct fixture *f = *state;
    struct jr_embedded_nats *n;
    struct jr_errmsg e = {0};
    char *dir = jr_test_temp_dir(), *deep = jr_xprintf("%s/a/b", dir), info[8];
    struct jr_embedded_nats_config config = {
        .dir = deep, .on_ready = on_ready, .on_failed = on_failed, .ctx = f};

    char *found = jr_child_find("nats-server");
    assert_non_null(found); /* ./dev setup installs it */
    assert_int_equal(jr_embedded_nats_start(f->loop, &config, &e, &n), 0);
    jr_loop_run(f->loop);
    if (f->failed > 0)
        print_error("%s\n", f->words);
    assert_int_equal(f->ready, 1);
    assert_string_equal(f->words, jr_embedded_nats_url(n));
    const uint16_t port = (uint16_t)atoi(strrchr(f->words, ':') + 1);
    const int fd = jr_test_connect(port);
    assert_int_equal(jr_test_read_n(fd, info, 5), 5);
    assert_memory_equal(info, "INFO ", 5);
    close(fd);
    /* A second one on the same port is refused in words. */
    struct jr_embedded_nats *second = NULL;
    config.port = port;
    assert_int_equal(jr_embedded_nats_start(f->loop, &config, &e, &second), JR_EADDRINUSE);
    jr_embedded_nats_stop(n, on_stopped, f);
    jr_loop_run(f->loop);
    assert_false(jr_test_port_open(port));
    assert_int_equal(f->failed, 0);
    jr_test_remove_dir(dir);
    jr_xfree(found);
    jr_xfree(dir);
    jr_xfree(deep);
}

/* A stand-in that ends at once: its words are handed on. */
static void test_nats_fails(void **state)
{
    struct fixture *f = *state;
    struct jr_embedded_nats *n;
    struct jr_errmsg e = {0};
    char *dir = jr_test_temp_dir(), *fake = jr_xprintf("%s/nats-server", dir);
    char *old_path = jr_xstrdup(getenv("PATH")), *path = jr_xprintf("%s:%s", dir, old_path);
    const struct jr_embedded_nats_config config = {
        .dir = dir, .on_ready = on_ready, .on_failed = on_failed, .ctx = f};

    FILE *file = fopen(fake, "w");
    fputs("#!/bin/sh\necho '[1] now [INF] hello'\necho '[1] now [FTL] no room' >&2\nexit 1\n",
          file);
    fclose(file);
    chmod(fake, 0700);
    setenv("PATH", path, 1);
    assert_int_equal(jr_embedded_nats_start(f->loop, &config, &e, &n), 0);
    setenv("PATH", old_path, 1);
    jr_loop_run(f->loop);
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->ready, 0);
    assert_string_equal(f->words, "nats-server ended with status 1: no room");
    jr_embedded_nats_stop(n, NULL, NULL);
    jr_test_remove_dir(dir);
    jr_xfree(old_path);
    jr_xfree(path);
    jr_xfree(fake);
    jr_xfree(dir);
}

static void test_nats_bad_folder(void **state)
{
    struct fixture *f = *state;
    struct jr_embedded_nats *n;
    struct jr_errmsg e = {0};
    const struct jr_embedded_nats_config config = {.dir = "/proc/no/such"};

    assert_int_equal(jr_embedded_nats_start(f->loop, &config, &e, &n), JR_EIO);
    assert_non_null(strstr(e.text, "cannot make the folder /proc/no"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lines_and_status),
        TEST(test_kill),
        TEST(test_destroy),
        TEST(test_cannot_start),
        cmocka_unit_test(test_dies_with_us),
        TEST(test_nats_starts_and_stops),
        TEST(test_nats_fails),
        TEST(test_nats_bad_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
