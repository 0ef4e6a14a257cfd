/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_listen.h"

#include "base/assert.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG    1024
#define TURN_CONNS 64 /* taken in one turn of the loop: others have their turn, too */

/* ---------------------------------------------------------------- the socket */

static int parse_address(const char *host, uint16_t port, struct sockaddr_storage *ret)
{
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret) == 0)
        return 0;
    return uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret) == 0 ? 0 : JR_EINVAL;
}

/* 0 or errno. */
static int set_on(int fd, int level, int option)
{
    const int one = 1;
    return setsockopt(fd, level, option, &one, sizeof one) == 0 ? 0 : errno;
}

/* Bound, and of both families for an address of IPv6. 0 or errno; *ret_fd is owned by the caller. */
static int open_bound(const struct sockaddr *addr, bool share, int *ret_fd)
{
    const bool is_v6 = addr->sa_family == AF_INET6;
    const socklen_t n = is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    const int zero = 0, fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int err = set_on(fd, SOL_SOCKET, SO_REUSEADDR);
    if (err == 0 && share)
        err = set_on(fd, SOL_SOCKET, SO_REUSEPORT);
    if (err == 0 && is_v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero) != 0)
        err = errno;
    if (err == 0 && bind(fd, addr, n) != 0)
        err = errno;
    if (err != 0)
        close(fd);
    else
        *ret_fd = fd;
    return err;
}

/* The kernel lets one more share a port that is shared; a socket that does not share finds out. */
static int check_first(const struct sockaddr *addr)
{
    int fd = -1;
    const int err = open_bound(addr, false, &fd);
    if (fd >= 0)
        close(fd);
    return err;
}

static uint16_t bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    memset(&addr, 0, sizeof addr);
    socklen_t n = sizeof addr;
    if (getsockname(fd, &addr.any, &n) != 0)
        return 0;
    return ntohs(addr.any.sa_family == AF_INET6 ? addr.v6.sin6_port : addr.v4.sin_port);
}

static int listen_error(int err, const struct jr_http_listener_config *config, struct jr_errmsg *e)
{
    if (err == EADDRINUSE)
        return jr_errmsg_set(e, JR_EADDRINUSE, "port %u on %s is in use", config->port,
                             config->host);
    if (err == EADDRNOTAVAIL)
        return jr_errmsg_set(e, JR_EINVAL, "%s is no address of this machine", config->host);
    if (err == EACCES)
        return jr_errmsg_set(e, JR_EINVAL, "port %u on %s needs a privilege: choose one above 1023",
                             config->port, config->host);
    return jr_errmsg_set(e, JR_EIO, "cannot listen on %s:%u: %s", config->host, config->port,
                         uv_strerror(uv_translate_sys_error(err)));
}

/* ---------------------------------------------------------------- connections */

static void on_readable(uv_poll_t *poll, int status, int events);

static void listen_on(struct jr_http_listener *l)
{
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

static void on_resume(uv_timer_t *timer)
{
    listen_on(timer->data);
}

static void pause_for(struct jr_http_listener *l, int err)
{
    ++*l->pauses;
    jr_log(JR_LOG_WARN, "http.accept_paused", "port=%u pause_ms=%d err=" JR_LOG_Q, l->port,
           JR_HTTP_LISTEN_PAUSE_MS, strerror(err));
    uv_poll_stop(&l->poll);
    uv_timer_start(&l->resume, on_resume, JR_HTTP_LISTEN_PAUSE_MS, 0);
}

/* The one that was next is gone, or came with an error of the network: it concerns no other. Pure. */
static bool is_of_the_connection(int err)
{
    switch (err) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
        return true;
    default:
        return false;
    }
}

static void take(struct jr_http_listener *l, int most)
{
    for (int i = 0; i < most && l->fd >= 0; i++) {
        const int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->on_conn(l->ctx, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (!is_of_the_connection(errno)) {
            pause_for(l, errno);
            return;
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct jr_http_listener *l = poll->data;

    (void)events;
    if (status < 0)
        pause_for(l, -status);
    else
        take(l, TURN_CONNS);
}

void jr_http_listener_take(struct jr_http_listener *l)
{
    take(l, BACKLOG);
}

/* ---------------------------------------------------------------- life */

static void on_handle_closed(uv_handle_t *handle)
{
    struct jr_http_listener *l = handle->data;
    if (--l->open_handles == 0)
        l->on_closed(l->ctx);
}

/* errno of what stands in the way; *ret_fd is owned by the caller. */
static int open_socket(const struct jr_http_listener_config *config, const struct sockaddr *addr,
                       int *ret_fd)
{
    int err = config->first ? check_first(addr) : 0;
    if (err == 0)
        err = open_bound(addr, config->reuse_port, ret_fd);
    if (err == 0 && listen(*ret_fd, BACKLOG) != 0) {
        err = errno;
        close(*ret_fd);
    }
    return err;
}

int jr_http_listener_open(struct jr_http_listener *l, struct jr_loop *loop,
                          const struct jr_http_listener_config *config, struct jr_errmsg *e)
{
    struct sockaddr_storage addr;
    int fd = -1;

    memset(&addr, 0, sizeof addr);
    if (parse_address(config->host, config->port, &addr) < 0)
        return jr_errmsg_set(e, JR_EINVAL, "'%s' is not an IP address to listen on", config->host);
    int err = open_socket(config, (const struct sockaddr *)&addr, &fd);
    if (err != 0)
        return listen_error(err, config, e);
    err = -uv_poll_init(jr_loop_uv(loop), &l->poll, fd);
    if (err != 0) {
        close(fd);
        return listen_error(err, config, e);
    }
    uv_timer_init(jr_loop_uv(loop), &l->resume);
    l->poll.data = l->resume.data = l;
    l->open_handles = 2;
    l->on_conn = config->on_conn;
    l->ctx = config->ctx;
    l->pauses = config->pauses;
    l->fd = fd;
    l->port = bound_port(fd);
    listen_on(l);
    return 0;
}

void jr_http_listener_close(struct jr_http_listener *l, void (*on_closed)(void *ctx))
{
    JR_ASSERT(l->fd >= 0);
    l->on_closed = on_closed;
    uv_close((uv_handle_t *)&l->poll, on_handle_closed);
    uv_close((uv_handle_t *)&l->resume, on_handle_closed);
    close(l->fd); /* the loop's poll has let go of it */
    l->fd = -1;
}
