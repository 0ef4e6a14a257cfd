/* SPDX-License-Identifier: Apache-2.0 */
#include "jr_test_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in addr;

    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons(port);
    return addr;
}

static void set_timeouts(int fd)
{
    const struct timeval tv = {.tv_sec = 10};
    const int one = 1;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int jr_test_connect(uint16_t port)
{
    const struct sockaddr_in addr = loopback(port);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    set_timeouts(fd);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

int jr_test_listen(uint16_t *ret_port)
{
    struct sockaddr_in addr = loopback(0);
    socklen_t n = sizeof addr;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &n), 0);
    set_timeouts(fd);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

int jr_test_accept(int listener)
{
    const int fd = accept(listener, NULL, NULL);

    assert_true(fd >= 0);
    set_timeouts(fd);
    return fd;
}

void jr_test_send(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        const ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
            return; /* the peer closed: what it said before is still to be read */
        assert_true(sent > 0);
        at += sent;
        n -= (size_t)sent;
    }
}

void jr_test_puts(int fd, const char *text)
{
    jr_test_send(fd, text, strlen(text));
}

/* 0 at the end; fails the test on a timeout. */
static size_t read_some(int fd, char *dst, size_t n)
{
    const ssize_t got = recv(fd, dst, n, 0);

    if (got < 0 && (errno == ECONNRESET || errno == EPIPE))
        return 0;
    assert_true(got >= 0);
    return (size_t)got;
}

size_t jr_test_read_until(int fd, char *dst, size_t cap, const char *end)
{
    const size_t n_end = strlen(end);
    size_t n = 0;

    dst[0] = '\0';
    while (n < n_end || memcmp(dst + n - n_end, end, n_end) != 0) {
        assert_true(n + 1 < cap);
        const size_t got = read_some(fd, dst + n, 1); /* not a byte too much */
        if (got == 0)
            break;
        n += got;
        dst[n] = '\0';
    }
    return n;
}

size_t jr_test_read_n(int fd, char *dst, size_t n)
{
    size_t at = 0, got;

    while (at < n && (got = read_some(fd, dst + at, n - at)) > 0)
        at += got;
    return at;
}

size_t jr_test_read_all(int fd, char *dst, size_t cap)
{
    size_t n = 0, got;

    while ((got = read_some(fd, dst + n, cap - 1 - n)) > 0)
        n += got;
    dst[n] = '\0';
    return n;
}
