/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as a filter of the server's connection: the wire's bytes go through the session, plaintext
 * takes the places of what a plain connection reads and writes. */
#include "io/http_internal.h"

#include "base/mem.h"
#include "io/tls.h"

void jr_http_server_set_tls(struct jr_http_server *s, struct jr_tls_context *ctx)
{
    jr_tls_context_destroy(s->tls);
    s->tls = ctx;
    if (s->wire == NULL)
        s->wire = jr_xrealloc(NULL, JR_HTTP_WIRE_SIZE);
}

void jr_http_tls_begin(struct jr_http_conn *c)
{
    c->tls = jr_tls_create(c->server->tls, NULL);
}

static void flush(struct jr_http_conn *c)
{
    const struct jr_buf *out = jr_tls_out(c->tls);

    if (out->n == 0 || jr_http_state(c) == JR_HTTP_CLOSED)
        return;
    const uv_buf_t buf = uv_buf_init((char *)out->p, (unsigned)out->n);
    jr_http_conn_send_raw(c, &buf, 1, out->n);
    jr_tls_sent(c->tls);
}

/* Several small pieces are one record. */
void jr_http_tls_send(struct jr_http_conn *c, const uv_buf_t *bufs, unsigned n, size_t total)
{
    int err = 0;

    if (n > 1 && total <= JR_HTTP_OUT_MAX) {
        for (unsigned i = bufs[0].base == (char *)c->out.p ? 1 : 0; i < n; i++)
            jr_buf_put(&c->out, bufs[i].base, bufs[i].len);
        err = jr_tls_write(c->tls, c->out.p, c->out.n);
    } else {
        for (unsigned i = 0; i < n && err == 0; i++)
            err = jr_tls_write(c->tls, bufs[i].base, bufs[i].len);
    }
    flush(c);
    if (err < 0)
        jr_http_conn_close(c);
}

void jr_http_tls_bye(struct jr_http_conn *c)
{
    jr_tls_close(c->tls);
    flush(c);
}

/* Until then it was the header's time that ran. */
static void note_handshake(struct jr_http_conn *c)
{
    if (c->handshaken || !jr_tls_ready(c->tls))
        return;
    c->handshaken = true;
    c->server->stats.tls_handshakes++;
    if (jr_http_state(c) == JR_HTTP_IDLE)
        jr_http_conn_deadline(c, c->server->config.idle_timeout_ms);
}

static void ended(struct jr_http_conn *c, int err)
{
    if (err == JR_ECLOSED) {
        jr_http_conn_eof(c, true);
        return;
    }
    c->server->stats.tls_failures++;
    jr_http_conn_close(c);
}

/* Whoever has the connection on the stack goes on with it. */
static void pump(struct jr_http_conn *c)
{
    int n = 1;

    if (c->pumping || c->advancing)
        return;
    c->pumping = true;
    while (n > 0 && c->reading && jr_http_state(c) != JR_HTTP_CLOSED) {
        const uv_buf_t room = jr_http_conn_room(c);
        n = jr_tls_read(c->tls, room.base, room.len);
        note_handshake(c);
        if (n > 0)
            jr_http_conn_got(c, (size_t)n);
    }
    c->pumping = false;
    flush(c);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return;
    if (jr_http_state(c) == JR_HTTP_IDLE && c->in_start == c->in_end)
        jr_http_conn_release_in(c);
    if (n < 0)
        ended(c, n);
}

void jr_http_tls_got(struct jr_http_conn *c, const char *p, size_t n)
{
    if (jr_tls_feed(c->tls, p, n) < 0)
        jr_http_conn_close(c);
    else
        pump(c);
}

void jr_http_tls_resume(struct jr_http_conn *c)
{
    if (jr_tls_has_input(c->tls))
        pump(c);
}
