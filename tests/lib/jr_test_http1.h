/* SPDX-License-Identifier: Apache-2.0 */
/* jr_test_http1: drives wire/http1 as a server and as a client do, piece by piece, and writes what it
 * tells as text, so that two ways of cutting the same bytes can be compared. For the unit tests and
 * the fuzz targets; every call gets its bytes in memory of exactly their size, so that a sanitizer
 * sees a read beyond them. */
#ifndef JR_TEST_HTTP1_H
#define JR_TEST_HTTP1_H

#include "base/limits.h"
#include "base/mem.h"
#include "wire/http1.h"
#include "wire/http1_write.h"

#include <stdlib.h>
#include <string.h>

static inline char *jr_test_exact(const void *p, size_t n)
{
    char *copy = malloc(n > 0 ? n : 1);

    if (copy == NULL)
        abort();
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

static inline void jr_test_log_fields(struct jr_buf *log, const struct jr_http1_fields *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        jr_buf_put(log, f->v[i].name.p, f->v[i].name.n);
        jr_buf_puts(log, ": ");
        jr_buf_put(log, f->v[i].value.p, f->v[i].value.n);
        jr_buf_puts(log, "\r\n");
    }
}

static inline void jr_test_log_body(struct jr_buf *log, const char *word, const struct jr_buf *body)
{
    jr_buf_printf(log, "%s %zu\n", word, body->n);
    jr_buf_put(log, body->p, body->n);
    jr_buf_puts(log, "\n");
}

/* The body again, framed as it came. */
static inline void jr_test_put_body(struct jr_buf *b, const struct jr_buf *body, bool chunked)
{
    if (chunked && body->n > 0)
        jr_http1_write_chunk(b, body->n);
    jr_buf_put(b, body->p, body->n);
    if (chunked && body->n > 0)
        jr_buf_puts(b, "\r\n");
    if (chunked)
        jr_http1_write_last_chunk(b);
}

/* ---- server side ---- */

enum jr_test_http1_state { JR_T_IDLE, JR_T_HEAD, JR_T_LENGTH, JR_T_CHUNKED, JR_T_REFUSED };

struct jr_test_http1_server {
    struct jr_http1_request r;
    enum jr_test_http1_state state;
    struct jr_buf in;    /* bytes not yet taken */
    char *head;          /* what the views borrow */
    struct jr_buf body;  /* of the present request */
    struct jr_buf log;   /* what was told */
    struct jr_buf again; /* the whole requests, written anew */
    size_t log_whole;    /* of log, up to the last whole request */
    unsigned n_whole;
};

static inline void jr_test_server_on_body(void *ctx, const char *p, size_t n)
{
    struct jr_test_http1_server *s = ctx;

    jr_buf_put(&s->body, p, n);
}

static inline void jr_test_server_init(struct jr_test_http1_server *s, uint64_t body_max)
{
    memset(s, 0, sizeof *s);
    jr_http1_request_init(&s->r, body_max, jr_test_server_on_body, s);
    jr_buf_init(&s->in, SIZE_MAX / 2);
    jr_buf_init(&s->body, SIZE_MAX / 2);
    jr_buf_init(&s->log, SIZE_MAX / 2);
    jr_buf_init(&s->again, SIZE_MAX / 2);
}

static inline void jr_test_server_deinit(struct jr_test_http1_server *s)
{
    jr_http1_request_deinit(&s->r);
    jr_buf_deinit(&s->in);
    jr_buf_deinit(&s->body);
    jr_buf_deinit(&s->log);
    jr_buf_deinit(&s->again);
    free(s->head);
}

static inline bool jr_test_server_refused(struct jr_test_http1_server *s)
{
    s->state = JR_T_REFUSED;
    jr_buf_printf(&s->log, "refused %d\n", s->r.refuse_status);
    return false;
}

static inline void jr_test_server_log_head(struct jr_test_http1_server *s)
{
    const struct jr_http1_request *r = &s->r;

    jr_buf_put(&s->log, r->method.p, r->method.n);
    jr_buf_puts(&s->log, " ");
    jr_buf_put(&s->log, r->path.p, r->path.n);
    jr_buf_puts(&s->log, r->query.p != NULL ? "?" : "");
    jr_buf_put(&s->log, r->query.p, r->query.n);
    jr_buf_printf(&s->log, " 1.%d%s%s%s%s %llu\n", r->http10 ? 0 : 1, r->is_head ? " head" : "",
                  r->keep_alive ? " alive" : "", r->chunked ? " chunked" : "",
                  r->expects ? " expects" : "", (unsigned long long)r->body_len);
    jr_test_log_fields(&s->log, &r->fields);
}

static inline void jr_test_server_whole(struct jr_test_http1_server *s)
{
    const struct jr_http1_request *r = &s->r;
    struct jr_buf *b = &s->again;

    jr_test_log_body(&s->log, "body", &s->body);
    jr_buf_put(b, r->method.p, r->method.n);
    jr_buf_puts(b, " ");
    jr_buf_put(b, r->path.p, r->path.n);
    jr_buf_puts(b, r->query.p != NULL ? "?" : "");
    jr_buf_put(b, r->query.p, r->query.n);
    jr_buf_puts(b, r->http10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
    jr_test_log_fields(b, &r->fields);
    jr_buf_puts(b, "\r\n");
    jr_test_put_body(b, &s->body, r->chunked);
    s->log_whole = s->log.n;
    s->n_whole++;
    jr_buf_clear(&s->body);
    free(s->head);
    s->head = NULL;
    s->state = JR_T_IDLE;
}

static inline bool jr_test_server_head(struct jr_test_http1_server *s, char *all)
{
    size_t n = 0;
    const int rv = jr_http1_request_scan(&s->r, all, s->in.n, &n);

    if (rv < 0)
        return jr_test_server_refused(s);
    if (rv == 0)
        return false;
    s->head = jr_test_exact(all, n);
    jr_buf_consume(&s->in, n);
    if (jr_http1_request_head(&s->r, s->head, n) < 0)
        return jr_test_server_refused(s);
    jr_test_server_log_head(s);
    s->state = s->r.chunked ? JR_T_CHUNKED : JR_T_LENGTH;
    return true;
}

static inline bool jr_test_server_chunked(struct jr_test_http1_server *s, const char *all)
{
    size_t used = 0;
    const int rv = jr_http1_request_chunked(&s->r, all, s->in.n, &used);

    if (rv < 0)
        return jr_test_server_refused(s);
    jr_buf_consume(&s->in, used);
    if (rv == 1)
        jr_test_server_whole(s);
    return rv == 1;
}

static inline bool jr_test_server_length(struct jr_test_http1_server *s)
{
    const uint64_t want = s->r.body_len - s->body.n;
    const size_t take = s->in.n < want ? s->in.n : (size_t)want;

    jr_buf_put(&s->body, s->in.p, take);
    jr_buf_consume(&s->in, take);
    if (s->body.n < s->r.body_len)
        return false;
    jr_test_server_whole(s);
    return true;
}

/* true: look again. */
static inline bool jr_test_server_step(struct jr_test_http1_server *s)
{
    char *all = jr_test_exact(s->in.p, s->in.n);
    bool again = false;
    size_t skip;

    switch (s->state) {
    case JR_T_IDLE:
        again = jr_http1_request_first(all, s->in.n, &skip);
        jr_buf_consume(&s->in, skip);
        if (again) {
            jr_http1_request_begin(&s->r);
            s->state = JR_T_HEAD;
        }
        break;
    case JR_T_HEAD:
        again = jr_test_server_head(s, all);
        break;
    case JR_T_LENGTH:
        again = jr_test_server_length(s);
        break;
    case JR_T_CHUNKED:
        again = jr_test_server_chunked(s, all);
        break;
    case JR_T_REFUSED:
        break;
    }
    free(all);
    return again;
}

static inline void jr_test_server_feed(struct jr_test_http1_server *s, const void *p, size_t n)
{
    jr_buf_put(&s->in, p, n);
    while (jr_test_server_step(s))
        ;
}

/* ---- client side ---- */

struct jr_test_http1_client {
    struct jr_http1_reply r;
    uint8_t heads; /* bit i: the reply i, modulo 8, is to a HEAD */
    struct jr_buf body, log, again;
    size_t log_whole;
    unsigned n_whole;
    int err; /* of the last feed, if negative */
};

static inline int jr_test_client_on_head(void *ctx)
{
    struct jr_test_http1_client *c = ctx;
    const struct jr_http1_reply *r = &c->r;

    jr_buf_printf(&c->log, "%d 1.%d%s %lld\n", r->status, r->parser.http_minor,
                  r->keep_alive ? " alive" : "", (long long)r->content_length);
    jr_test_log_fields(&c->log, &r->fields);
    return 0;
}

static inline int jr_test_client_on_data(void *ctx, const char *p, size_t n)
{
    struct jr_test_http1_client *c = ctx;

    if (n == 0)
        abort();
    jr_buf_put(&c->body, p, n);
    return 0;
}

static inline void jr_test_client_init(struct jr_test_http1_client *c, uint8_t heads)
{
    memset(c, 0, sizeof *c);
    c->heads = heads;
    jr_http1_reply_init(&c->r, jr_test_client_on_head, jr_test_client_on_data, c);
    jr_http1_reply_begin(&c->r, (heads & 1) != 0);
    jr_buf_init(&c->body, SIZE_MAX / 2);
    jr_buf_init(&c->log, SIZE_MAX / 2);
    jr_buf_init(&c->again, SIZE_MAX / 2);
}

static inline void jr_test_client_deinit(struct jr_test_http1_client *c)
{
    jr_http1_reply_deinit(&c->r);
    jr_buf_deinit(&c->body);
    jr_buf_deinit(&c->log);
    jr_buf_deinit(&c->again);
}

/* The views of the head are gone by now: its fields are taken from the log, where they stand from
 * behind the first line. */
static inline void jr_test_client_whole(struct jr_test_http1_client *c)
{
    const uint8_t *head = c->log.p + c->log_whole;
    const uint8_t *fields = (const uint8_t *)memchr(head, '\n', c->log.n - c->log_whole) + 1;

    jr_buf_printf(&c->again, "HTTP/1.%d %03d %s\r\n", c->r.parser.http_minor, c->r.status,
                  jr_http1_reason(c->r.status));
    jr_buf_put(&c->again, fields, (size_t)(c->log.p + c->log.n - fields));
    jr_buf_puts(&c->again, "\r\n");
    jr_test_put_body(&c->again, &c->body, c->r.body == JR_HTTP1_BODY_CHUNKED);
    jr_test_log_body(&c->log, "body", &c->body);
    jr_buf_clear(&c->body);
    c->log_whole = c->log.n;
    c->n_whole++;
    jr_http1_reply_begin(&c->r, (c->heads >> c->n_whole % 8 & 1) != 0);
}

static inline void jr_test_client_feed(struct jr_test_http1_client *c, const void *p, size_t n)
{
    const char *at = p;

    while (c->err == 0 && n > 0) {
        char *piece = jr_test_exact(at, n);
        size_t used = 0;
        const int rv = jr_http1_reply_feed(&c->r, piece, n, &used);
        free(piece);
        at += used;
        n -= used;
        if (rv == 1)
            jr_test_client_whole(c);
        else if (rv < 0)
            c->err = rv;
    }
}

/* The peer closes. */
static inline void jr_test_client_eof(struct jr_test_http1_client *c)
{
    if (c->err < 0)
        jr_buf_printf(&c->log, "refused %s\n", jr_err_name(c->err));
    else if (jr_http1_reply_eof(&c->r) == 0)
        jr_test_client_whole(c);
    else
        jr_test_log_body(&c->log, "open", &c->body);
}

#endif
