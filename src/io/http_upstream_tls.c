/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as a filter of the client's connection. A request is encrypted a piece at a time, the next
 * once the wire has taken the one before. */
#include "io/http_upstream.h"

#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

#define END_MS        1000 /* from close_notify to the end of the connection */
#define REPORT_GAP_MS 1000

/* What the kernel did not take at once. */
struct leftover {
    uv_write_t write;
    struct jr_upstream *conn;
    char data[];
};

int jr_http_client_tls(struct jr_http_client *client)
{
    struct jr_errmsg e = {""};

    if (client->tls != NULL)
        return 0;
    const int err =
        jr_tls_client_context(client->config.tls_ca, client->config.tls_insecure, &e, &client->tls);
    if (err == 0)
        client->plain = jr_xrealloc(NULL, JR_UPSTREAM_PLAIN);
    return err;
}

/* ---- sending ---- */

static void on_written(uv_write_t *write, int status)
{
    struct leftover *rest = write->data;
    struct jr_upstream *c = rest->conn;

    jr_xfree(rest);
    if (jr_upstream_state(c) == JR_UPSTREAM_CLOSED)
        return;
    /* A peer that closes without reading may have answered first: reading tells. */
    if ((status < 0 || jr_upstream_tls_send(c) < 0) && c->x != NULL && !c->reading)
        jr_upstream_fail(c, JR_ECONN);
}

static int write_rest(struct jr_upstream *c, const uint8_t *p, size_t n)
{
    struct leftover *rest = jr_xrealloc(NULL, sizeof *rest + n);

    memcpy(rest->data, p, n);
    rest->conn = c;
    rest->write.data = rest;
    const uv_buf_t buf = uv_buf_init(rest->data, (unsigned)n);
    if (uv_write(&rest->write, (uv_stream_t *)&c->tcp, &buf, 1, on_written) == 0)
        return 0;
    jr_xfree(rest);
    return JR_ECONN;
}

static size_t queued(const struct jr_upstream *c)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

/* What the session has for the peer. */
static int flush(struct jr_upstream *c)
{
    const struct jr_buf *out = jr_tls_out(c->tls);
    size_t sent = 0;
    int rv = 0;

    if (out->n == 0)
        return 0;
    if (queued(c) == 0) {
        const uv_buf_t buf = uv_buf_init((char *)out->p, (unsigned)out->n);
        const int n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
        if (n < 0 && n != UV_EAGAIN)
            rv = JR_ECONN;
        sent = n < 0 ? 0 : (size_t)n;
    }
    if (rv == 0 && sent < out->n)
        rv = write_rest(c, out->p + sent, out->n - sent);
    c->tls_sent += rv == 0 ? out->n : 0;
    jr_tls_sent(c->tls);
    return rv;
}

/* The next piece of the request, of its head or its body. */
static struct jr_str next_piece(const struct jr_upstream *c)
{
    const struct jr_http_bytes *bytes = c->x->bytes;
    const bool in_head = c->tls_at < bytes->buf.n;
    const size_t at = in_head ? c->tls_at : c->tls_at - bytes->buf.n;
    const size_t left = (in_head ? bytes->buf.n : bytes->body.n) - at;
    const char *p = in_head ? (const char *)bytes->buf.p : bytes->body.p;

    return left == 0 ? jr_str_of(NULL, 0)
                     : jr_str_of(p + at, left < JR_TLS_PIECE ? left : JR_TLS_PIECE);
}

/* Head and body go out together: when the first bytes meet a closed peer there is no second write
 * that fails before the peer's end is read. */
static int encrypt(struct jr_upstream *c)
{
    struct jr_str piece;
    int err = 0;

    while (err == 0 && jr_tls_out(c->tls)->n < JR_TLS_PIECE && (piece = next_piece(c)).n > 0) {
        err = jr_tls_write(c->tls, piece.p, piece.n);
        c->tls_at += piece.n;
    }
    return err;
}

int jr_upstream_tls_send(struct jr_upstream *c)
{
    int err = 0;

    while (err == 0 && c->x != NULL && jr_upstream_state(c) != JR_UPSTREAM_HANDSHAKE &&
           queued(c) == 0 && next_piece(c).n > 0) {
        err = encrypt(c);
        if (err == 0)
            err = flush(c);
    }
    return err;
}

size_t jr_upstream_tls_handed_over(const struct jr_upstream *c)
{
    const size_t waiting = queued(c); /* at its end what belongs to the request */

    return c->tls_sent > waiting ? c->tls_sent - waiting : 0;
}

bool jr_upstream_tls_is_done(const struct jr_upstream *c, const struct jr_http_bytes *bytes)
{
    return c->tls_at == bytes->buf.n + bytes->body.n && queued(c) == 0 && !jr_tls_has_input(c->tls);
}

void jr_upstream_tls_bye(struct jr_upstream *c)
{
    jr_tls_close(c->tls);
    (void)flush(c);
}

/* ---- receiving ---- */

void jr_upstream_tls_begin(struct jr_upstream *c)
{
    if (jr_tls_handshake(c->tls) < 0 || flush(c) < 0)
        jr_upstream_fail_later(c, JR_ECONN);
}

static void report(struct jr_upstream *c)
{
    struct jr_http_client *client = c->client;
    const uint64_t now = jr_loop_now_ms(client->loop);

    if (client->config.on_tls_failed == NULL || now < client->tls_report_ms)
        return;
    client->tls_report_ms = now + REPORT_GAP_MS;
    client->config.on_tls_failed(client->config.ctx, c->host->key, jr_tls_words(c->tls));
}

/* The peer's last word. What counts for a request that got no answer is whether the kernel's end
 * acknowledges it, and that is still to come. */
static void on_notified(struct jr_upstream *c)
{
    if (c->x != NULL && jr_upstream_state(c) == JR_UPSTREAM_WAIT && !c->got_bytes)
        jr_upstream_hurry(c, END_MS);
    else
        jr_upstream_take(c, NULL, UV_EOF);
}

static void broken(struct jr_upstream *c)
{
    (void)flush(c); /* an alert */
    if (jr_upstream_state(c) == JR_UPSTREAM_HANDSHAKE) {
        report(c);
        jr_upstream_fail(c, JR_ECONN);
    } else if (c->x != NULL) {
        jr_upstream_fail(c, JR_EPROTO);
    } else {
        jr_upstream_close(c);
    }
}

void jr_upstream_tls_got(struct jr_upstream *c, const char *p, size_t n)
{
    int rv = jr_tls_feed(c->tls, p, n) < 0 ? JR_EPROTO : 1;

    while (rv > 0 && jr_upstream_state(c) != JR_UPSTREAM_CLOSED) {
        rv = jr_tls_read(c->tls, c->client->plain, JR_UPSTREAM_PLAIN);
        if (flush(c) < 0)
            rv = JR_EPROTO;
        if (jr_upstream_state(c) == JR_UPSTREAM_HANDSHAKE && rv >= 0 && jr_tls_ready(c->tls))
            jr_upstream_ready(c);
        if (rv > 0)
            jr_upstream_take(c, c->client->plain, rv);
    }
    if (jr_upstream_state(c) == JR_UPSTREAM_CLOSED)
        return;
    if (rv == JR_ECLOSED)
        on_notified(c);
    else if (rv < 0)
        broken(c);
}
