/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/tls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void maybe_free(struct jr_http_server *s)
{
    if (!s->closing || s->open_handles > 0 || s->stats.conns > 0)
        return;
    void (*cb)(void *ctx) = s->on_closed;
    void *ctx = s->closed_ctx;

    while (s->n_spare > 0)
        jr_xfree(s->spare[--s->n_spare]);
    jr_http_body_free_spares(s);
    jr_tls_context_destroy(s->tls);
    jr_xfree(s->wire);
    jr_xfree((void *)(uintptr_t)s->config.host);
    jr_xfree(s);
    if (cb != NULL)
        cb(ctx);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct jr_http_server *s = handle->data;

    s->open_handles--;
    maybe_free(s);
}

void jr_http_server_conn_gone(struct jr_http_server *s)
{
    s->stats.conns--;
    if (s->config.conns != NULL)
        atomic_fetch_sub_explicit(s->config.conns, 1, memory_order_relaxed);
    maybe_free(s);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct jr_http_server *s = listener->data;

    if (status == 0)
        jr_http_conn_accept(s);
    else
        s->stats.refused_conns++;
}

static int parse_address(const char *host, uint16_t port, struct sockaddr_storage *ret)
{
    if (strcmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret) == 0)
        return 0;
    return uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret) == 0 ? 0 : JR_EINVAL;
}

static uint16_t bound_port(const uv_tcp_t *tcp)
{
    struct sockaddr_storage addr;
    int n = sizeof addr;

    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&addr, &n) != 0)
        return 0;
    return addr.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&addr)->sin6_port)
                                      : ntohs(((struct sockaddr_in *)&addr)->sin_port);
}

static int listen_error(int rv, const struct jr_http_server_config *config, struct jr_errmsg *e)
{
    if (rv == UV_EADDRINUSE)
        return jr_errmsg_set(e, JR_EADDRINUSE,
                             "port %u on %s is in use: choose another with --http-port or stop the "
                             "other process",
                             config->port, config->host);
    if (rv == UV_EADDRNOTAVAIL)
        return jr_errmsg_set(e, JR_EINVAL, "%s is no address of this machine", config->host);
    if (rv == UV_EACCES)
        return jr_errmsg_set(e, JR_EINVAL, "port %u on %s needs a privilege: choose one above 1023",
                             config->port, config->host);
    return jr_errmsg_set(e, JR_EIO, "cannot listen on %s:%u: %s", config->host, config->port,
                         uv_strerror(rv));
}

/* A socket of ours for what must be set before it is bound. */
static int open_shared(uv_tcp_t *tcp, int family)
{
    const int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rv = fd < 0 ? uv_translate_sys_error(errno) : 0;

    if (rv == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0)
        rv = uv_translate_sys_error(errno);
    if (rv == 0)
        rv = uv_tcp_open(tcp, fd);
    if (rv != 0 && fd >= 0)
        close(fd);
    return rv;
}

/* The kernel lets one more share a port that is shared; a socket that does not share finds out. */
static int check_first(const struct sockaddr *addr)
{
    const int one = 1, fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const socklen_t n =
        addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int rv = fd < 0 ? uv_translate_sys_error(errno) : 0;

    if (rv == 0 &&
        (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 || bind(fd, addr, n) != 0))
        rv = uv_translate_sys_error(errno);
    if (fd >= 0)
        close(fd);
    return rv;
}

static int listen_at(struct jr_http_server *s, const struct sockaddr *addr)
{
    int rv = s->config.first ? check_first(addr) : 0;

    if (rv == 0 && s->config.reuse_port)
        rv = open_shared(&s->listener, addr->sa_family);
    if (rv == 0)
        rv = uv_tcp_bind(&s->listener, addr, 0); /* sets SO_REUSEADDR */
    if (rv == 0)
        rv = uv_listen((uv_stream_t *)&s->listener, 1024, on_connection);
    return rv;
}

static struct jr_http_server *server_alloc(struct jr_loop *loop,
                                           const struct jr_http_server_config *config)
{
    struct jr_http_server *s = jr_xalloc(sizeof *s);

    s->loop = loop;
    s->config = *config;
    s->config.host = jr_xstrdup(config->host);
    if (s->config.conns_max == 0)
        s->config.conns_max = JR_HTTP_CONNS_MAX;
    jr_list_init(&s->conns);
    jr_list_init(&s->to_flush);
    uv_prepare_init(jr_loop_uv(loop), &s->flusher);
    s->flusher.data = s;
    uv_tcp_init(jr_loop_uv(loop), &s->listener);
    s->listener.data = s;
    s->open_handles = 2;
    return s;
}

int jr_http_server_listen(struct jr_loop *loop, const struct jr_http_server_config *config,
                          struct jr_errmsg *e, struct jr_http_server **ret)
{
    struct sockaddr_storage addr;

    memset(&addr, 0, sizeof addr);
    if (parse_address(config->host, config->port, &addr) < 0)
        return jr_errmsg_set(e, JR_EINVAL, "'%s' is not an IP address to listen on", config->host);
    struct jr_http_server *s = server_alloc(loop, config);
    const int rv = listen_at(s, (const struct sockaddr *)&addr);
    if (rv != 0) {
        jr_http_server_close(s, NULL, NULL);
        return listen_error(rv, config, e);
    }
    s->port = bound_port(&s->listener);
    *ret = s;
    return 0;
}

uint16_t jr_http_server_port(const struct jr_http_server *s)
{
    return s->port;
}

const struct jr_http_server_stats *jr_http_server_stats(const struct jr_http_server *s)
{
    return &s->stats;
}

void jr_http_server_stats_add(struct jr_http_server_stats *to, const struct jr_http_server_stats *s)
{
    to->conns += s->conns;
    to->conns_total += s->conns_total;
    to->requests_total += s->requests_total;
    to->refused_conns += s->refused_conns;
    to->bad_requests += s->bad_requests;
    to->body_too_large += s->body_too_large;
    to->header_timeouts += s->header_timeouts;
    to->tls_handshakes += s->tls_handshakes;
    to->tls_failures += s->tls_failures;
}

static void close_listener(struct jr_http_server *s)
{
    if (!uv_is_closing((uv_handle_t *)&s->listener))
        uv_close((uv_handle_t *)&s->listener, on_handle_closed);
}

void jr_http_server_retire(struct jr_http_server *s)
{
    s->retired = true;
}

void jr_http_server_drain(struct jr_http_server *s)
{
    s->retired = s->draining = true;
    close_listener(s);
    JR_LIST_FOREACH_SAFE (it, &s->conns) {
        struct jr_http_conn *c = JR_CONTAINER_OF(it, struct jr_http_conn, node);
        if (jr_http_state(c) != JR_HTTP_IDLE)
            continue;
        if (c->served > 0)
            jr_http_conn_end(c);
        else /* its first request may be on the wire */
            jr_http_conn_deadline(c, s->config.header_timeout_ms);
    }
}

uint64_t jr_http_server_busy(const struct jr_http_server *s)
{
    uint64_t n = 0;
    JR_LIST_FOREACH (it, &s->conns) {
        const struct jr_http_conn *c = JR_CONTAINER_OF(it, struct jr_http_conn, node);
        const enum jr_http_state state = jr_http_state(c);
        n += state != JR_HTTP_CLOSED && (state != JR_HTTP_IDLE || jr_http_conn_queued(c) > 0);
    }
    return n;
}

void jr_http_server_close(struct jr_http_server *s, void (*cb)(void *ctx), void *ctx)
{
    if (s == NULL)
        return;
    JR_ASSERT(!s->closing);
    s->closing = true;
    s->on_closed = cb;
    s->closed_ctx = ctx;
    close_listener(s);
    uv_close((uv_handle_t *)&s->flusher, on_handle_closed);
    JR_LIST_FOREACH_SAFE (it, &s->conns) {
        jr_http_conn_close(JR_CONTAINER_OF(it, struct jr_http_conn, node));
    }
}
