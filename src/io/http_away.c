/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_away.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/http_internal.h"

#include <string.h>

struct jr_http_away {
    struct jr_http_request req; /* the copy: the other loop's */
    struct jr_http_away_head head;
    struct jr_loop *home, *to;
    void (*fn)(void *ctx, struct jr_http_request *req);
    void *ctx;
    struct jr_msg ask, gone;
    /* home's */
    struct jr_http_request *real; /* NULL: answered */
    uint32_t *n_away;
    bool blocked;
    struct jr_msg *held; /* pieces that are written, but the client reads no more for now */
    /* the other loop's */
    bool is_gone;
    size_t queued; /* bytes in pieces that have not come back */
    char text[];   /* what the head views */
};

enum piece_type { PIECE_WHOLE, PIECE_START, PIECE_WRITE, PIECE_END, PIECE_ABORT };

struct piece {
    struct jr_msg msg;
    struct jr_http_away *a;
    enum piece_type type;
    int status;
    int64_t length;
    size_t n_type, n_lines, n; /* with their zeros; n without */
    char bytes[];
};

/* ---------------------------------------------------------------- the other loop */

const struct jr_http_away_head *jr_http_away_head(const struct jr_http_request *req)
{
    return &req->away->head;
}

static void on_ask(struct jr_msg *msg)
{
    struct jr_http_away *a = JR_CONTAINER_OF(msg, struct jr_http_away, ask);
    a->fn(a->ctx, &a->req);
}

static void on_told_gone(struct jr_msg *msg)
{
    struct jr_http_away *a = JR_CONTAINER_OF(msg, struct jr_http_away, gone);
    a->is_gone = true;
    if (a->req.owned && a->req.on_gone)
        a->req.on_gone(a->req.ctx);
}

/* A piece is back: it was written. */
static void on_back(struct jr_msg *msg)
{
    struct piece *p = JR_CONTAINER_OF(msg, struct piece, msg);
    struct jr_http_away *a = p->a;
    const bool last = p->type != PIECE_START && p->type != PIECE_WRITE;
    a->queued -= p->n;
    jr_xfree(p);
    if (last) {
        jr_xfree(a);
        return;
    }
    if (a->req.owned && a->req.want_writable && a->queued <= JR_HTTP_WRITE_HIGH / 2) {
        a->req.want_writable = false;
        if (a->req.on_writable && !a->is_gone)
            a->req.on_writable(a->req.ctx);
    }
}

static void on_piece(struct jr_msg *msg);

static struct piece *piece(struct jr_http_request *req, enum piece_type type,
                           const char *content_type, const char *lines, const void *body, size_t n)
{
    const size_t n_type = content_type ? strlen(content_type) + 1 : 0;
    const size_t n_lines = lines ? strlen(lines) + 1 : 0;
    struct piece *p = jr_xalloc(sizeof *p + n_type + n_lines + n);
    p->a = req->away;
    p->type = type;
    p->n_type = n_type;
    p->n_lines = n_lines;
    p->n = n;
    if (n_type)
        memcpy(p->bytes, content_type, n_type);
    if (n_lines)
        memcpy(p->bytes + n_type, lines, n_lines);
    if (n)
        memcpy(p->bytes + n_type + n_lines, body, n);
    p->msg.deliver = on_piece;
    req->away->queued += n;
    return p;
}

void jr_http_away_respond(struct jr_http_request *req, int status, const char *content_type,
                          const char *lines, const void *body, size_t n)
{
    struct piece *p = piece(req, PIECE_WHOLE, content_type, lines, body, n);
    JR_ASSERT(req->owned && !req->started);
    p->status = status;
    req->owned = false;
    jr_loop_post(req->away->home, &p->msg);
}

void jr_http_away_start(struct jr_http_request *req, int status, const char *content_type,
                        const char *lines, int64_t length)
{
    struct piece *p = piece(req, PIECE_START, content_type, lines, NULL, 0);
    JR_ASSERT(req->owned && !req->started);
    p->status = status;
    p->length = length;
    req->started = true;
    jr_loop_post(req->away->home, &p->msg);
}

int jr_http_away_write(struct jr_http_request *req, const void *body, size_t n)
{
    JR_ASSERT(req->owned && req->started);
    if (req->away->is_gone)
        return JR_ECLOSED;
    if (n > 0)
        jr_loop_post(req->away->home, &piece(req, PIECE_WRITE, NULL, NULL, body, n)->msg);
    req->want_writable = req->away->queued > JR_HTTP_WRITE_HIGH;
    return req->want_writable ? JR_EAGAIN : 0;
}

void jr_http_away_end(struct jr_http_request *req, bool abort)
{
    struct piece *p = piece(req, abort ? PIECE_ABORT : PIECE_END, NULL, NULL, NULL, 0);
    JR_ASSERT(req->owned);
    req->owned = false;
    jr_loop_post(req->away->home, &p->msg);
}

/* ---------------------------------------------------------------- home */

static void give_back(struct jr_http_away *a, struct jr_msg *msg)
{
    msg->deliver = on_back;
    jr_loop_post(a->to, msg);
}

static void give_back_held(struct jr_http_away *a)
{
    struct jr_msg *msg;
    a->blocked = false;
    while ((msg = a->held) != NULL) {
        a->held = msg->next;
        give_back(a, msg);
    }
}

static void on_gone(void *ctx)
{
    struct jr_http_away *a = ctx;
    a->gone.deliver = on_told_gone;
    jr_loop_post(a->to, &a->gone);
}

static void on_writable(void *ctx)
{
    give_back_held(ctx);
}

static void write_piece(struct jr_http_away *a, struct piece *p)
{
    a->blocked |= jr_http_respond_write(a->real, p->bytes, p->n) == JR_EAGAIN;
    if (!a->blocked) {
        give_back(a, &p->msg);
        return;
    }
    p->msg.next = a->held;
    a->held = &p->msg;
}

/* With the last piece the copy goes: nothing here touches it any more. */
static void last_piece(struct jr_http_away *a, struct piece *p)
{
    struct jr_http_request *real = a->real;
    const char *type = p->n_type ? p->bytes : NULL;
    const char *lines = p->n_lines ? p->bytes + p->n_type : NULL;
    a->real = NULL;
    --*a->n_away;
    give_back_held(a);
    if (p->type == PIECE_WHOLE)
        jr_http_respond(real, p->status, type, lines, p->bytes + p->n_type + p->n_lines, p->n);
    else
        jr_http_respond_end(real, p->type == PIECE_ABORT);
    give_back(a, &p->msg);
}

static void on_piece(struct jr_msg *msg)
{
    struct piece *p = JR_CONTAINER_OF(msg, struct piece, msg);
    struct jr_http_away *a = p->a;
    JR_ASSERT(a->real != NULL);
    switch (p->type) {
    case PIECE_START:
        jr_http_respond_start(a->real, p->status, p->n_type ? p->bytes : NULL,
                              p->n_lines ? p->bytes + p->n_type : NULL, p->length);
        give_back(a, &p->msg);
        return;
    case PIECE_WRITE:
        write_piece(a, p);
        return;
    case PIECE_WHOLE:
    case PIECE_END:
    case PIECE_ABORT:
        last_piece(a, p);
        return;
    }
}

/* ---------------------------------------------------------------- the copy */

static size_t text_size(const struct jr_http_request *req)
{
    uint32_t n;
    const struct jr_http_header *v = jr_http_request_headers(req, &n);
    size_t size = jr_http_request_method(req).n + jr_http_request_path(req).n +
                  jr_http_request_query(req).n + req->body.n;
    for (uint32_t i = 0; i < n; i++)
        size += v[i].name.n + v[i].value.n;
    return size;
}

static void copy_head(struct jr_http_away *a, const struct jr_http_request *req)
{
    struct jr_http_away_head *h = &a->head;
    char *at = a->text;
    const struct jr_http_header *v = jr_http_request_headers(req, &h->n_headers);
    h->method = jr_str_pack(&at, jr_http_request_method(req));
    h->path = jr_str_pack(&at, jr_http_request_path(req));
    h->query = jr_str_pack(&at, jr_http_request_query(req));
    a->req.body = jr_str_pack(&at, req->body);
    for (uint32_t i = 0; i < h->n_headers; i++) {
        h->headers[i].name = jr_str_pack(&at, v[i].name);
        h->headers[i].value = jr_str_pack(&at, v[i].value);
    }
    jr_http_request_client(req, h->client, sizeof h->client);
    h->from_loopback = jr_http_request_from_loopback(req);
}

void jr_http_away(struct jr_http_request *req, struct jr_loop *home, struct jr_loop *to,
                  uint32_t *n_away, void (*fn)(void *ctx, struct jr_http_request *req), void *ctx)
{
    struct jr_http_away *a = jr_xalloc(sizeof *a + text_size(req));
    copy_head(a, req);
    a->req.id = req->id;
    a->req.owned = true;
    a->req.is_head = req->is_head;
    a->req.away = a;
    a->home = home;
    a->to = to;
    a->fn = fn;
    a->ctx = ctx;
    a->real = req;
    a->n_away = n_away;
    ++*n_away;
    jr_http_request_watch(req, on_gone, on_writable, a);
    a->ask.deliver = on_ask;
    jr_loop_post(to, &a->ask);
}
