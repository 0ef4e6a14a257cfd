/* SPDX-License-Identifier: Apache-2.0 */
/* child: a child process on a loop. Loop thread only.
 *
 *     start ──► on_line* ──► on_exit        exactly once, also when we killed it
 *
 * The child dies with us: the kernel sends it SIGKILL when our process ends, however it ends. */
#ifndef JR_IO_CHILD_H
#define JR_IO_CHILD_H

#include "io/loop.h"

struct jr_child;

enum jr_child_output { JR_CHILD_INHERIT, JR_CHILD_NULL, JR_CHILD_LINES };

struct jr_child_config {
    const char *name;        /* a path, or a name looked for on PATH and in /usr/sbin; copied */
    const char *const *args; /* without the name itself, NULL-terminated; copied; NULL for none */
    enum jr_child_output output;                  /* of stdout and stderr; stdin is /dev/null */
    void (*on_line)(void *ctx, const char *line); /* JR_CHILD_LINES: without the newline, borrows;
                                                     cut at JR_CHILD_LINE_MAX bytes */
    /* status: the exit status, or -1 with the signal that ended it. Takes the child: it is dead. */
    void (*on_exit)(void *ctx, int64_t status, int signum);
    void *ctx;
};

/* Absolute path of an executable found like that, as jr_xalloc'ed text, or NULL. */
char *jr_child_find(const char *name);

/* JR_ENOTFOUND when there is no such program, JR_ECHILD when it cannot be started, both with words
 * in e and without a callback. */
JR_MUST_CHECK int jr_child_start(struct jr_loop *loop, const struct jr_child_config *config,
                                 struct jr_errmsg *e, struct jr_child **ret);
int jr_child_pid(const struct jr_child *child);
void jr_child_kill(struct jr_child *child, int signum);
/* Forget it: it is killed (SIGKILL) and waited for, which takes as long as the kernel needs to end
 * it; no callback fires any more. Memory is freed on the loop. NULL is fine; not after on_exit. */
void jr_child_destroy(struct jr_child *child);

#endif
