/* SPDX-License-Identifier: Apache-2.0 */
#include "io/child.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* uv_spawn has no place for PR_SET_PDEATHSIG, hence fork and exec of our own; SIGCHLD tells of the
 * end. */
struct jr_child {
    uv_signal_t chld;
    uv_pipe_t pipe;
    unsigned open_handles;
    bool has_pipe;
    bool reaped;
    pid_t pid;
    void (*on_line)(void *ctx, const char *line);
    void (*on_exit)(void *ctx, int64_t status, int signum);
    void *ctx;
    size_t n_line;
    char line[JR_CHILD_LINE_MAX + 1];
    char chunk[4096];
};

/* ---- finding ---- */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

char *jr_child_find(const char *name)
{
    const char *path = getenv("PATH");

    if (strchr(name, '/') != NULL)
        return is_program(name) ? jr_xstrdup(name) : NULL;
    char *dirs = jr_xprintf("%s:/usr/sbin", path != NULL ? path : "/usr/bin:/bin");
    char *found = NULL, *save = NULL;
    for (char *dir = strtok_r(dirs, ":", &save); dir != NULL && found == NULL;
         dir = strtok_r(NULL, ":", &save)) {
        char *full = jr_xprintf("%s/%s", dir, name);
        if (is_program(full))
            found = full;
        else
            jr_xfree(full);
    }
    jr_xfree(dirs);
    return found;
}

/* ---- life ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct jr_child *child = handle->data;

    if (--child->open_handles == 0)
        jr_xfree(child);
}

static void close_handles(struct jr_child *child)
{
    uv_close((uv_handle_t *)&child->chld, on_handle_closed);
    if (child->has_pipe)
        uv_close((uv_handle_t *)&child->pipe, on_handle_closed);
}

static void put_line(struct jr_child *child)
{
    child->line[child->n_line] = '\0';
    child->n_line = 0;
    if (child->on_line != NULL)
        child->on_line(child->ctx, child->line);
}

static void put_output(struct jr_child *child, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            put_line(child);
        else if (child->n_line < JR_CHILD_LINE_MAX)
            child->line[child->n_line++] = p[i];
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct jr_child *child = handle->data;

    (void)suggested;
    *buf = uv_buf_init(child->chunk, sizeof child->chunk);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    if (n < 0)
        uv_read_stop(stream);
    else
        put_output(stream->data, buf->base, (size_t)n);
}

/* What the child said last; its own children may hold the pipe open, so no waiting for its end. */
static void drain_pipe(struct jr_child *child)
{
    uv_os_fd_t fd;
    ssize_t n;

    if (!child->has_pipe || uv_fileno((uv_handle_t *)&child->pipe, &fd) != 0)
        return;
    for (int i = 0; i < 64 && (n = read(fd, child->chunk, sizeof child->chunk)) > 0; i++)
        put_output(child, child->chunk, (size_t)n);
    if (child->n_line > 0)
        put_line(child);
}

static void on_sigchld(uv_signal_t *handle, int signum)
{
    struct jr_child *child = handle->data;
    int status;

    (void)signum;
    if (child->reaped || waitpid(child->pid, &status, WNOHANG) != child->pid)
        return;
    child->reaped = true;
    drain_pipe(child);
    void (*on_exit)(void *ctx, int64_t status, int signum) = child->on_exit;
    void *ctx = child->ctx;
    close_handles(child);
    if (on_exit != NULL)
        on_exit(ctx, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* ---- start ---- */

/* In the child, between fork and exec: only what is safe there. fds: stdin, stdout, stderr. */
__attribute__((noreturn)) static void run_program(char *const argv[], const int fds[3],
                                                  pid_t parent, int report)
{
    sigset_t none;
    int why;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    for (int i = 0; i < 3; i++) {
        if (fds[i] != i && dup2(fds[i], i) < 0)
            goto err;
    }
    execv(argv[0], argv);
err:
    why = errno;
    (void)!write(report, &why, sizeof why);
    _exit(127);
}

/* Forks and waits until the exec succeeded (the report pipe closes) or failed (it says why). */
static int spawn(char *const argv[], const int fds[3], pid_t *ret_pid)
{
    const pid_t parent = getpid();
    int report[2], why = 0;

    if (pipe2(report, O_CLOEXEC) != 0)
        return errno;
    const pid_t pid = fork();
    if (pid == 0)
        run_program(argv, fds, parent, report[1]);
    const int fork_errno = errno;
    close(report[1]);
    ssize_t n = 0;
    if (pid > 0) {
        do
            n = read(report[0], &why, sizeof why);
        while (n < 0 && errno == EINTR);
    }
    close(report[0]);
    if (pid < 0)
        return fork_errno;
    if (n > 0) {
        waitpid(pid, NULL, 0);
        return why;
    }
    *ret_pid = pid;
    return 0;
}

static char **build_argv(char *path, const char *const *args)
{
    size_t n = 0;

    while (args != NULL && args[n] != NULL)
        n++;
    char **argv = jr_xalloc((n + 2) * sizeof *argv);
    argv[0] = path;
    for (size_t i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)args[i];
    return argv;
}

/* Runs the program with its output where it belongs; *ret_out is our end of the pipe, or -1. */
static int launch(char *const argv[], enum jr_child_output output, pid_t *ret_pid, int *ret_out)
{
    int fds[3] = {-1, 1, 2}, out[2] = {-1, -1}, err = 0;
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return errno;
    fds[0] = null;
    if (output == JR_CHILD_NULL)
        fds[1] = fds[2] = null;
    if (output == JR_CHILD_LINES) {
        if (pipe2(out, O_CLOEXEC) != 0)
            err = errno;
        fds[1] = fds[2] = out[1];
    }
    if (err == 0)
        err = spawn(argv, fds, ret_pid);
    close(null);
    if (out[1] >= 0)
        close(out[1]);
    if (err != 0 && out[0] >= 0)
        close(out[0]);
    *ret_out = err == 0 ? out[0] : -1;
    return err;
}

static int start_at(struct jr_loop *loop, const struct jr_child_config *config, char *path,
                    struct jr_child *child)
{
    char **argv = build_argv(path, config->args);
    int out = -1;

    uv_signal_init(jr_loop_uv(loop), &child->chld);
    child->chld.data = child;
    child->open_handles = 1;
    /* Listens before there is a child, so that an early end is not missed. */
    int err = -uv_signal_start(&child->chld, on_sigchld, SIGCHLD);
    if (err == 0)
        err = launch(argv, config->output, &child->pid, &out);
    jr_xfree(argv);
    if (err == 0 && out >= 0) {
        uv_pipe_init(jr_loop_uv(loop), &child->pipe, 0);
        child->pipe.data = child;
        child->has_pipe = true;
        child->open_handles++;
        if (uv_pipe_open(&child->pipe, out) == 0)
            uv_read_start((uv_stream_t *)&child->pipe, on_alloc, on_output);
        else
            close(out);
    }
    return err;
}

int jr_child_start(struct jr_loop *loop, const struct jr_child_config *config, struct jr_errmsg *e,
                   struct jr_child **ret)
{
    char *path = jr_child_find(config->name);

    if (path == NULL)
        return jr_errmsg_set(e, JR_ENOTFOUND, "there is no program '%s' on PATH or in /usr/sbin",
                             config->name);
    struct jr_child *child = jr_xalloc(sizeof *child);
    child->on_line = config->on_line;
    child->on_exit = config->on_exit;
    child->ctx = config->ctx;
    int err = start_at(loop, config, path, child);
    if (err != 0) {
        err = jr_errmsg_set(e, JR_ECHILD, "cannot start %s: %s", path, strerror(err));
        close_handles(child);
    } else {
        *ret = child;
    }
    jr_xfree(path);
    return err;
}

int jr_child_pid(const struct jr_child *child)
{
    return (int)child->pid;
}

void jr_child_kill(struct jr_child *child, int signum)
{
    if (!child->reaped)
        kill(child->pid, signum);
}

void jr_child_destroy(struct jr_child *child)
{
    if (child == NULL)
        return;
    JR_ASSERT(!child->reaped);
    kill(child->pid, SIGKILL);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child->reaped = true;
    close_handles(child);
}
