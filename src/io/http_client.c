/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_client.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/http_upstream.h"
#include "wire/http1_write.h"

#include <string.h>

#define HOST_KEY_MORE 32  /* of a host's key beside its name */
#define HEAD_MORE     128 /* of a request's head beside what its owner gives, generously */

/* Views into a URL. */
struct url {
    struct jr_str host;      /* as written, with an IPv6 address's brackets */
    struct jr_str name;      /* without them */
    struct jr_str authority; /* host[:port] */
    struct jr_str target;    /* path and query; may be empty */
    uint16_t port;
    bool tls;
};

/* ---- URL ---- */

/* Whatever could end a line or a token of the request is no part of a URL. */
static bool is_clean(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s == 0x7f)
            return false;
    }
    return true;
}

static int parse_port(struct jr_str text, uint16_t *ret)
{
    uint64_t port;

    if (jr_parse_u64(text.p, text.n, &port) < 0 || port == 0 || port > 65535)
        return JR_EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

static int parse_authority(struct url *u)
{
    const struct jr_str a = u->authority;
    const char *end = a.p + a.n, *colon;

    u->port = u->tls ? 443 : 80;
    if (a.n == 0 || memchr(a.p, '@', a.n) != NULL)
        return JR_EINVAL;
    if (a.p[0] == '[') {
        const char *bracket = memchr(a.p, ']', a.n);
        if (bracket == NULL || (bracket + 1 < end && bracket[1] != ':'))
            return JR_EINVAL;
        u->host = jr_str_of(a.p, (size_t)(bracket + 1 - a.p));
        u->name = jr_str_of(a.p + 1, (size_t)(bracket - a.p) - 1);
        colon = bracket + 1 < end ? bracket + 1 : NULL;
    } else {
        colon = memchr(a.p, ':', a.n);
        u->host = jr_str_of(a.p, colon == NULL ? a.n : (size_t)(colon - a.p));
        u->name = u->host;
    }
    if (u->name.n == 0)
        return JR_EINVAL;
    return colon == NULL ? 0
                         : parse_port(jr_str_of(colon + 1, (size_t)(end - colon) - 1), &u->port);
}

static int parse_url(const char *text, struct url *u)
{
    u->tls = strncmp(text, "https://", 8) == 0;
    if ((!u->tls && strncmp(text, "http://", 7) != 0) || !is_clean(text))
        return JR_EINVAL;
    const char *a = text + (u->tls ? 8 : 7);
    const size_t n = strcspn(a, "/?#");
    u->authority = jr_str_of(a, n);
    u->target = jr_str_of(a + n, strcspn(a + n, "#"));
    return parse_authority(u);
}

int jr_http_url_check(const char *url, struct jr_errmsg *e)
{
    struct url u;
    const int err = parse_url(url, &u);

    if (err < 0)
        return jr_errmsg_set(
            e, err, "'%.120s' is not a URL of the form http://host:port/path or https://…", url);
    return 0;
}

/* ---- hosts ---- */

/* To ret, which has room for JR_URL_MAX + HOST_KEY_MORE; its length. No printf: it is of each request. */
static size_t host_key(const struct url *u, char *ret)
{
    static const char tls[] = "https://";
    size_t n = u->tls ? sizeof tls - 1 : 0;

    memcpy(ret, tls, n);
    memcpy(ret + n, u->host.p, u->host.n);
    n += u->host.n;
    ret[n++] = ':';
    return n + jr_digits(u->port, ret + n);
}

static struct jr_http_host *find_host(struct jr_http_client *client, const struct url *u)
{
    char key[JR_URL_MAX + HOST_KEY_MORE];
    struct jr_http_host *host;

    if (u->host.n > JR_URL_MAX)
        return NULL;
    const size_t n = host_key(u, key);
    HASH_FIND(hh, client->hosts, key, n, host);
    if (host != NULL)
        return host;
    host = jr_xalloc(sizeof *host + n + 1);
    memcpy(host->key, key, n);
    host->name = jr_xstrndup(u->name.p, u->name.n);
    host->port = u->port;
    host->tls = u->tls;
    jr_list_init(&host->idle);
    HASH_ADD_KEYPTR(hh, client->hosts, host->key, n, host);
    return host;
}

static void maybe_free(struct jr_http_client *client)
{
    if (!client->closing || client->anchor_open || !jr_list_empty(&client->conns))
        return;
    void (*cb)(void *ctx) = client->on_closed;
    void *ctx = client->closed_ctx;

    JR_ASSERT(client->hosts == NULL);
    jr_tls_context_destroy(client->tls);
    jr_xfree(client->plain);
    jr_xfree(client);
    if (cb != NULL)
        cb(ctx);
}

void jr_http_client_conn_gone(struct jr_http_client *client, struct jr_http_host *host)
{
    if (--host->n_conns == 0) {
        HASH_DEL(client->hosts, host);
        jr_xfree(host->name);
        jr_xfree(host);
    }
    maybe_free(client);
}

/* ---- client ---- */

int jr_http_client_create(struct jr_loop *loop, const struct jr_http_client_config *config,
                          struct jr_http_client **ret)
{
    struct jr_http_client *client = jr_xalloc(sizeof *client);

    client->loop = loop;
    client->config = *config;
    jr_list_init(&client->conns);
    uv_timer_init(jr_loop_uv(loop), &client->anchor);
    client->anchor.data = client;
    client->anchor_open = true;
    *ret = client;
    return 0;
}

static void on_anchor_closed(uv_handle_t *handle)
{
    struct jr_http_client *client = handle->data;

    client->anchor_open = false;
    maybe_free(client);
}

void jr_http_client_close(struct jr_http_client *client, void (*cb)(void *ctx), void *ctx)
{
    if (client == NULL)
        return;
    JR_ASSERT(!client->closing);
    client->closing = true;
    client->on_closed = cb;
    client->closed_ctx = ctx;
    JR_LIST_FOREACH_SAFE (it, &client->conns) {
        struct jr_upstream *c = JR_CONTAINER_OF(it, struct jr_upstream, node);
        if (c->x != NULL)
            jr_http_exchange_cancel(c->x);
        else
            jr_upstream_close(c);
    }
    uv_close((uv_handle_t *)&client->anchor, on_anchor_closed);
}

/* ---- exchange ---- */

void jr_http_bytes_unref(struct jr_http_bytes *bytes)
{
    if (--bytes->refs > 0)
        return;
    jr_buf_deinit(&bytes->buf);
    jr_xfree(bytes);
}

static void put_str(struct jr_buf *b, struct jr_str s)
{
    jr_buf_put(b, s.p, s.n);
}

static struct jr_http_bytes *build_request(const struct jr_http_fetch *f, const struct url *u)
{
    struct jr_http_bytes *bytes = jr_xalloc(sizeof *bytes);
    struct jr_buf *b = &bytes->buf;
    const struct jr_http1_request_head head = {
        .method = f->method,
        .target = u->target,
        .authority = u->authority,
        .content_type = f->content_type,
        .extra_headers = f->extra_headers,
        .n_body = f->n_body,
    };

    bytes->refs = 1;
    jr_buf_init(b, SIZE_MAX / 2);
    jr_buf_reserve(b, HEAD_MORE + u->authority.n + u->target.n +
                          (f->extra_headers != NULL ? strlen(f->extra_headers) : 0) +
                          (f->body_stays ? 0 : f->n_body));
    jr_http1_write_request(b, &head);
    if (f->body_stays)
        bytes->body = jr_str_of(f->body, f->n_body);
    else
        jr_buf_put(b, f->body, f->n_body);
    return bytes;
}

static void free_exchange(struct jr_http_exchange *x)
{
    jr_http_bytes_unref(x->bytes);
    jr_xfree(x);
}

static void ignore_data(void *ctx, const void *p, size_t n)
{
    (void)ctx;
    (void)p;
    (void)n;
}

static struct jr_http_exchange *exchange_create(struct jr_http_client *client,
                                                const struct jr_http_fetch *f, const struct url *u)
{
    struct jr_http_exchange *x = jr_xalloc(sizeof *x);

    x->client = client;
    x->bytes = build_request(f, u);
    x->on_head = f->on_head;
    x->on_data = f->on_data != NULL ? f->on_data : ignore_data;
    x->on_end = f->on_end;
    x->ctx = f->ctx;
    x->first_byte_timeout_ms = f->first_byte_timeout_ms;
    if (f->total_timeout_ms > 0)
        x->total_deadline_ms = jr_loop_now_ms(client->loop) + f->total_timeout_ms;
    x->is_head = strcmp(f->method, "HEAD") == 0;
    x->is_safe = x->is_head || strcmp(f->method, "GET") == 0;
    return x;
}

int jr_http_client_fetch(struct jr_http_client *client, const struct jr_http_fetch *f,
                         struct jr_http_exchange **ret)
{
    struct url u;
    int err = parse_url(f->url, &u);

    if (err < 0)
        return err;
    if (client->closing)
        return JR_ECLOSED;
    if (u.tls && (err = jr_http_client_tls(client)) < 0)
        return err;
    struct jr_http_host *host = find_host(client, &u);
    if (host == NULL)
        return JR_EINVAL;
    struct jr_http_exchange *x = exchange_create(client, f, &u);
    if (jr_list_empty(&host->idle)) {
        x->conn = jr_upstream_open(client, host, x, 0);
    } else {
        x->conn = JR_CONTAINER_OF(host->idle.next, struct jr_upstream, idle_node);
        jr_upstream_reuse(x->conn, x);
    }
    if (ret != NULL)
        *ret = x;
    return 0;
}

void jr_http_exchange_end(struct jr_http_exchange *x, int err)
{
    x->ended = true;
    x->conn = NULL;
    if (x->on_end != NULL)
        x->on_end(x->ctx, err);
    free_exchange(x);
}

void jr_http_exchange_pause(struct jr_http_exchange *x)
{
    x->paused = true;
    if (x->conn != NULL)
        jr_upstream_pause(x->conn, true);
}

void jr_http_exchange_resume(struct jr_http_exchange *x)
{
    x->paused = false;
    if (x->conn != NULL)
        jr_upstream_pause(x->conn, false);
}

void jr_http_exchange_hurry(struct jr_http_exchange *x, uint32_t ms)
{
    if (x->conn != NULL)
        jr_upstream_hurry(x->conn, ms);
}

void jr_http_exchange_cancel(struct jr_http_exchange *x)
{
    if (x == NULL || x->ended)
        return;
    jr_upstream_close(x->conn);
    if (x->on_drop != NULL)
        x->on_drop(x->ctx);
    free_exchange(x);
}

/* ---- whole ---- */

struct whole {
    struct jr_http_exchange *x;
    jr_http_whole_fn *fn;
    void *ctx;
    struct jr_http_reply reply;
    struct jr_http_header *headers;
    struct jr_buf text; /* what the headers view */
    struct jr_buf body;
};

static void whole_free(void *ctx)
{
    struct whole *w = ctx;

    jr_buf_deinit(&w->text);
    jr_buf_deinit(&w->body);
    jr_xfree(w->headers);
    jr_xfree(w);
}

static void whole_head(void *ctx, const struct jr_http_reply *reply)
{
    struct whole *w = ctx;
    const char *at;

    w->reply = *reply;
    w->headers = jr_xalloc((reply->n_headers + 1) * sizeof *w->headers);
    w->reply.headers = w->headers;
    for (uint32_t i = 0; i < reply->n_headers; i++) {
        put_str(&w->text, reply->headers[i].name);
        put_str(&w->text, reply->headers[i].value);
    }
    at = jr_buf_str(&w->text);
    for (uint32_t i = 0; i < reply->n_headers; i++) {
        w->headers[i].name = jr_str_of(at, reply->headers[i].name.n);
        at += w->headers[i].name.n;
        w->headers[i].value = jr_str_of(at, reply->headers[i].value.n);
        at += w->headers[i].value.n;
    }
}

static void whole_data(void *ctx, const void *p, size_t n)
{
    struct whole *w = ctx;
    jr_http_whole_fn *fn = w->fn;
    void *fn_ctx = w->ctx;

    jr_buf_put(&w->body, p, n);
    if (w->body.err == 0)
        return;
    jr_http_exchange_cancel(w->x); /* frees w */
    fn(fn_ctx, JR_ELIMIT, NULL, jr_str_of(NULL, 0));
}

static void whole_end(void *ctx, int err)
{
    struct whole *w = ctx;

    w->fn(w->ctx, err, err < 0 ? NULL : &w->reply, jr_str_of(jr_buf_str(&w->body), w->body.n));
    whole_free(w);
}

int jr_http_client_whole(struct jr_http_client *client, const struct jr_http_fetch *fetch,
                         size_t body_max, jr_http_whole_fn *fn, void *ctx)
{
    struct jr_http_exchange *ignored;

    return jr_http_client_whole_begin(client, fetch, body_max, fn, ctx, &ignored);
}

int jr_http_client_whole_begin(struct jr_http_client *client, const struct jr_http_fetch *fetch,
                               size_t body_max, jr_http_whole_fn *fn, void *ctx,
                               struct jr_http_exchange **ret)
{
    struct jr_http_fetch f = *fetch;
    struct whole *w = jr_xalloc(sizeof *w);

    w->fn = fn;
    w->ctx = ctx;
    jr_buf_init(&w->text, SIZE_MAX / 2);
    jr_buf_init(&w->body, body_max);
    f.on_head = whole_head;
    f.on_data = whole_data;
    f.on_end = whole_end;
    f.ctx = w;
    const int err = jr_http_client_fetch(client, &f, &w->x);
    if (err < 0) {
        whole_free(w);
        return err;
    }
    w->x->on_drop = whole_free;
    *ret = w->x;
    return 0;
}
