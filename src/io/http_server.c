/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/tls.h"

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

static void on_conn(void *ctx, int fd)
{
    jr_http_conn_accept(ctx, fd);
}

static void on_listener_closed(void *ctx)
{
    struct jr_http_server *s = ctx;

    s->open_handles--;
    maybe_free(s);
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
    atomic_init(&s->own_bodies, 0);
    if (s->config.bodies == NULL)
        s->config.bodies = &s->own_bodies;
    jr_list_init(&s->conns);
    jr_list_init(&s->to_flush);
    uv_prepare_init(jr_loop_uv(loop), &s->flusher);
    s->flusher.data = s;
    s->open_handles = 1;
    s->listener.fd = -1;
    return s;
}

int jr_http_server_listen(struct jr_loop *loop, const struct jr_http_server_config *config,
                          struct jr_errmsg *e, struct jr_http_server **ret)
{
    struct jr_http_server *s = server_alloc(loop, config);
    const struct jr_http_listener_config at = {.host = config->host,
                                               .port = config->port,
                                               .reuse_port = config->reuse_port,
                                               .first = config->first,
                                               .on_conn = on_conn,
                                               .ctx = s,
                                               .pauses = &s->stats.accept_pauses};
    const int err = jr_http_listener_open(&s->listener, loop, &at, e);
    if (err < 0) {
        jr_http_server_close(s, NULL, NULL);
        return err;
    }
    s->open_handles++;
    *ret = s;
    return 0;
}

uint16_t jr_http_server_port(const struct jr_http_server *s)
{
    return s->listener.port;
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
    to->accept_pauses += s->accept_pauses;
    to->bad_requests += s->bad_requests;
    to->body_too_large += s->body_too_large;
    to->header_timeouts += s->header_timeouts;
    to->body_timeouts += s->body_timeouts;
    to->bodies_refused += s->bodies_refused;
    to->tls_handshakes += s->tls_handshakes;
    to->tls_failures += s->tls_failures;
}

static void close_listener(struct jr_http_server *s)
{
    if (s->listener.fd >= 0)
        jr_http_listener_close(&s->listener, on_listener_closed);
}

void jr_http_server_retire(struct jr_http_server *s)
{
    s->retired = true;
}

void jr_http_server_drain(struct jr_http_server *s)
{
    if (s->listener.fd >= 0)
        jr_http_listener_take(&s->listener);
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
