/* SPDX-License-Identifier: Apache-2.0 */
#include "jr_test_nats.h"
#include "jr_test.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 15000
#define EXTRA_MAX        24

char *jr_test_nats_binary(void)
{
    const char *named = getenv("JR_NATS_SERVER"), *path = getenv("PATH");
    char *all, *save = NULL, *found = NULL;

    if (named && named[0])
        return jr_xstrdup(named);
    all = jr_xprintf("%s:/usr/sbin:/usr/local/bin", path ? path : "");
    for (char *dir = strtok_r(all, ":", &save); dir && !found; dir = strtok_r(NULL, ":", &save)) {
        found = jr_xprintf("%s/nats-server", dir);
        if (access(found, X_OK) != 0) {
            jr_xfree(found);
            found = NULL;
        }
    }
    jr_xfree(all);
    return found;
}

/* A NATS server greets with INFO; something else that has the port would not. */
static bool greets(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char text[5];
    bool ok;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ok = fd >= 0 && connect(fd, (struct sockaddr *)(void *)&a, sizeof a) == 0 &&
         poll(&p, 1, 1000) == 1 && recv(fd, text, 5, 0) == 5 && memcmp(text, "INFO ", 5) == 0;
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static void launch(struct jr_test_nats *n)
{
    char port[16], *log = jr_xprintf("%s/server.log", n->dir);
    char *store = jr_xprintf("%s/store", n->dir);
    const char *argv[10 + EXTRA_MAX + 1] = {n->binary, "-js", "-sd", store,
                                            "-p",      port,  "-a",  "127.0.0.1"};
    unsigned k = 8;

    (void)snprintf(port, sizeof port, "%u", n->port);
    for (unsigned i = 0; n->extra && n->extra[i] && i < EXTRA_MAX; i++)
        argv[k++] = n->extra[i];
    argv[k] = NULL;
    n->pid = jr_test_spawn((char *const *)(const void *)argv, log);
    jr_xfree(log);
    jr_xfree(store);
}

/* True when it answers, false when it ended by itself. */
static bool await(struct jr_test_nats *n)
{
    uint64_t until = jr_test_now_ms() + START_TIMEOUT_MS;

    while (jr_test_now_ms() < until) {
        int status;
        if (waitpid(n->pid, &status, WNOHANG) != 0) {
            n->pid = 0;
            return false;
        }
        if (greets(n->port))
            return true;
        jr_test_sleep_ms(10);
    }
    jr_test_nats_kill(n);
    return false;
}

__attribute__((noreturn)) static void give_up(struct jr_test_nats *n)
{
    char *path = jr_xprintf("%s/server.log", n->dir);
    uint8_t *text = access(path, R_OK) == 0 ? jr_test_read_file(path, NULL) : NULL;

    (void)fprintf(stderr, "%s did not start on port %u:\n%s\n", n->binary, n->port,
                  text ? (const char *)text : "(no log)");
    abort();
}

static void set_port(struct jr_test_nats *n, uint16_t port)
{
    n->port = port;
    (void)snprintf(n->url, sizeof n->url, "nats://127.0.0.1:%u", port);
}

void jr_test_nats_start(struct jr_test_nats *n, const char *const *extra)
{
    *n = (struct jr_test_nats){.extra = extra};
    n->binary = jr_test_nats_binary();
    if (!n->binary) {
        (void)fprintf(stderr, "no nats-server: install it, or name it in JR_NATS_SERVER\n");
        abort();
    }
    n->dir = jr_test_temp_dir();
    /* Another process may take the port between our look and the server's bind. */
    for (int tries = 0; tries < 5; tries++) {
        set_port(n, jr_test_free_port());
        launch(n);
        if (await(n))
            return;
    }
    give_up(n);
}

void jr_test_nats_stop(struct jr_test_nats *n)
{
    if (n->pid > 0)
        (void)jr_test_stop(n->pid, SIGTERM);
    n->pid = 0;
}

void jr_test_nats_kill(struct jr_test_nats *n)
{
    if (n->pid > 0)
        (void)jr_test_stop(n->pid, SIGKILL);
    n->pid = 0;
}

void jr_test_nats_restart(struct jr_test_nats *n)
{
    jr_test_nats_stop(n);
    /* Sockets of the old server may hold the port for a moment. */
    for (int tries = 0; tries < 5; tries++) {
        launch(n);
        if (await(n))
            return;
        jr_test_sleep_ms(100);
    }
    give_up(n);
}

void jr_test_nats_wipe(struct jr_test_nats *n)
{
    char *store = jr_xprintf("%s/store", n->dir);

    if (n->pid == 0)
        jr_test_remove_dir(store);
    jr_xfree(store);
}

void jr_test_nats_pause(struct jr_test_nats *n)
{
    int status;

    if (n->pid <= 0)
        return;
    (void)kill(n->pid, SIGSTOP);
    /* The signal comes to each thread in its time: one may still answer. */
    while (waitpid(n->pid, &status, WUNTRACED) < 0 && errno == EINTR)
        ;
}

void jr_test_nats_resume(struct jr_test_nats *n)
{
    if (n->pid > 0)
        (void)kill(n->pid, SIGCONT);
}

void jr_test_nats_end(struct jr_test_nats *n)
{
    jr_test_nats_kill(n);
    if (n->dir)
        jr_test_remove_dir(n->dir);
    jr_xfree(n->dir);
    jr_xfree(n->binary);
    *n = (struct jr_test_nats){0};
}
