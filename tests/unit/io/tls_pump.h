/* SPDX-License-Identifier: Apache-2.0 */
/* tls_pump: a thread between a socket that speaks TLS and one end of a socket pair that does not, so
 * that a test says each plain byte itself. A half-close becomes close_notify and a half-close, a
 * close close_notify and a close. Server or client, as the context is. */
#ifndef JR_TLS_PUMP_H
#define JR_TLS_PUMP_H

#include "base/mem.h"
#include "io/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

#define TLS_FIXTURE(name) JR_FIXTURES "/tls/" name

struct tls_pump {
    int app, wire;
    struct jr_tls *tls;
    char plain[16 << 10];
    size_t plain_at, plain_n, out_at;
    bool app_end, app_gone, said_end, wire_end;
};

static atomic_int tls_pumps;

static bool tls_pump_out_empty(const struct tls_pump *p)
{
    return p->out_at == jr_tls_out(p->tls)->n;
}

static void tls_pump_send(struct tls_pump *p)
{
    const struct jr_buf *out = jr_tls_out(p->tls);
    const ssize_t n = send(p->wire, out->p + p->out_at, out->n - p->out_at, MSG_NOSIGNAL);
    const bool broken = n < 0 && errno != EAGAIN;

    p->wire_end = p->wire_end || broken;
    p->out_at = broken ? out->n : p->out_at + (n > 0 ? (size_t)n : 0); /* nobody takes it */
    if (p->out_at == out->n) {
        jr_tls_sent(p->tls);
        p->out_at = 0;
    }
}

static void tls_pump_from_app(struct tls_pump *p, bool hung_up)
{
    char buf[16 << 10];
    const ssize_t n = recv(p->app, buf, sizeof buf, 0);

    if (n > 0) {
        if (jr_tls_write(p->tls, buf, (size_t)n) < 0)
            p->wire_end = true;
    } else if (n == 0 || errno != EAGAIN) {
        p->app_end = true;
        p->app_gone = hung_up || n < 0;
        jr_tls_close(p->tls);
    }
}

static void tls_pump_from_wire(struct tls_pump *p)
{
    char buf[16 << 10];
    const ssize_t n = recv(p->wire, buf, sizeof buf, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN) || (n > 0 && jr_tls_feed(p->tls, buf, (size_t)n) < 0))
        p->wire_end = true;
}

static void tls_pump_to_app(struct tls_pump *p)
{
    const ssize_t n = send(p->app, p->plain + p->plain_at, p->plain_n - p->plain_at, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        p->app_end = p->app_gone = true;
    p->plain_at += n > 0 ? (size_t)n : 0;
}

/* Waits for something to do, and does it. */
static void tls_pump_step(struct tls_pump *p)
{
    const bool holds = p->plain_at < p->plain_n;
    struct pollfd fds[2] = {{.fd = p->app}, {.fd = p->wire}};

    if (!p->app_end && tls_pump_out_empty(p) && jr_tls_ready(p->tls))
        fds[0].events |= POLLIN;
    if (holds)
        fds[0].events |= POLLOUT;
    if (p->app_gone || (fds[0].events == 0 && p->app_end))
        fds[0].fd = -1;
    if (!holds)
        fds[1].events |= POLLIN;
    if (!tls_pump_out_empty(p))
        fds[1].events |= POLLOUT;
    (void)poll(fds, 2, 1000);
    if (fds[0].revents & POLLIN || (fds[0].revents & POLLHUP && fds[0].events & POLLIN))
        tls_pump_from_app(p, (fds[0].revents & POLLHUP) != 0);
    else if (fds[0].revents & (POLLHUP | POLLERR) && !jr_tls_ready(p->tls))
        p->app_end = p->app_gone = true;
    if (holds && fds[0].revents & (POLLOUT | POLLERR | POLLHUP))
        tls_pump_to_app(p);
    if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && !holds)
        tls_pump_from_wire(p);
    if (!tls_pump_out_empty(p))
        tls_pump_send(p);
}

static void *tls_pump_main(void *arg)
{
    struct tls_pump *p = arg;
    int err = jr_tls_handshake(p->tls);

    while (!(p->app_gone && tls_pump_out_empty(p))) {
        if (p->plain_at == p->plain_n) {
            const int n = jr_tls_read(p->tls, p->plain, sizeof p->plain);
            p->plain_at = 0;
            p->plain_n = n > 0 ? (size_t)n : 0;
            err = n < 0 ? n : 0;
        }
        if (p->plain_at == p->plain_n && (err < 0 || (p->wire_end && err == 0)))
            break;
        if (p->app_end && !p->said_end && tls_pump_out_empty(p)) {
            p->said_end = true;
            shutdown(p->wire, SHUT_WR);
        }
        tls_pump_step(p);
    }
    if (!tls_pump_out_empty(p)) /* an alert */
        tls_pump_send(p);
    close(p->wire);
    close(p->app);
    jr_tls_destroy(p->tls);
    jr_xfree(p);
    atomic_fetch_sub(&tls_pumps, 1);
    return NULL;
}

/* Takes the connected socket; returns the test's plain end. name as for jr_tls_create. */
static int tls_pump_begin(struct jr_tls_context *ctx, const char *name, int wire)
{
    const struct timeval tv = {.tv_sec = 10};
    struct tls_pump *p = jr_xalloc(sizeof *p);
    pthread_t thread;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    p->app = pair[1];
    p->wire = wire;
    p->tls = jr_tls_create(ctx, name);
    fcntl(p->app, F_SETFL, O_NONBLOCK);
    fcntl(p->wire, F_SETFL, O_NONBLOCK);
    atomic_fetch_add(&tls_pumps, 1);
    pthread_create(&thread, NULL, tls_pump_main, p);
    pthread_detach(thread);
    return pair[0];
}

/* Until no pump runs any more. */
static void tls_pump_wait(void)
{
    for (int i = 0; i < 60000 && atomic_load(&tls_pumps) > 0; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&tls_pumps), 0);
}

#endif
