/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/http1.h"

#include "base/assert.h"
#include "base/limit.h"
#include "base/limits.h"

#include <stdint.h>
#include <string.h>

/* ---- framing of chunked bodies: counted byte by byte, so that reads of any size agree ---- */

static void framing_until(struct jr_http1_framing *f, const char *p)
{
    f->n += (size_t)(p - f->at);
    f->at = p;
}

/* ---- requests: what the parser calls ---- */

static int request_on_url(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_request *r = parser->data;

    r->path = jr_str_of(p, n);
    return 0;
}

static int request_on_method(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_request *r = parser->data;

    r->method = jr_str_of(p, n);
    return 0;
}

static int refuse(struct jr_http1_request *r, int status, const char *words)
{
    r->refuse_status = status;
    r->refuse_words = words;
    return JR_EPROTO;
}

static int request_on_field(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_request *r = parser->data;

    if (r->head_done)
        return 0; /* a trailer: read and ignored */
    if (jr_http1_fields_name(&r->fields, p, n) < 0) {
        (void)refuse(r, 431, "too many header fields");
        return HPE_USER;
    }
    return 0;
}

static int request_on_value(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_request *r = parser->data;

    if (!r->head_done)
        jr_http1_fields_value(&r->fields, p, n);
    return 0;
}

static int request_on_headers_complete(llhttp_t *parser)
{
    struct jr_http1_request *r = parser->data;

    r->head_done = true;
    r->http10 = parser->http_major == 1 && parser->http_minor == 0;
    r->is_head = parser->method == HTTP_HEAD;
    r->keep_alive = llhttp_should_keep_alive(parser) != 0;
    r->chunked = (parser->flags & F_CHUNKED) != 0;
    r->has_length = (parser->flags & F_CONTENT_LENGTH) != 0;
    r->bad_length = r->has_length && (parser->flags & F_TRANSFER_ENCODING) != 0;
    r->body_len = r->has_length ? parser->content_length : 0;
    if (parser->http_major != 1) {
        r->refuse_status = 505;
        return -1;
    }
    if (parser->method == HTTP_CONNECT) {
        r->refuse_status = 405;
        return -1;
    }
    parser->upgrade = 0; /* we never upgrade: an offer to is just ignored */
    return 0;
}

static bool request_framing_ok(const struct jr_http1_request *r)
{
    return r->framing.n <= r->body_n + JR_HTTP_HEADER_BYTES_MAX + 8 * r->body_n;
}

static int request_on_body(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_request *r = parser->data;

    framing_until(&r->framing, p);
    if (!request_framing_ok(r))
        return HPE_USER;
    if (n > r->body_max - r->body_n) {
        (void)refuse(r, 413, "the body is larger than this server takes");
        return HPE_USER;
    }
    r->framing.at = p + n;
    r->body_n += n;
    r->on_body(r->ctx, p, n);
    return 0;
}

static int request_on_message_complete(llhttp_t *parser)
{
    struct jr_http1_request *r = parser->data;

    r->message_done = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t request_settings = {
    .on_url = request_on_url,
    .on_method = request_on_method,
    .on_header_field = request_on_field,
    .on_header_value = request_on_value,
    .on_headers_complete = request_on_headers_complete,
    .on_body = request_on_body,
    .on_message_complete = request_on_message_complete,
};

/* ---- requests ---- */

void jr_http1_request_init(struct jr_http1_request *r, uint64_t body_max,
                           void (*on_body)(void *ctx, const char *p, size_t n), void *ctx)
{
    memset(r, 0, sizeof *r);
    r->body_max = body_max;
    r->on_body = on_body;
    r->ctx = ctx;
    llhttp_init(&r->parser, HTTP_REQUEST, &request_settings);
    r->parser.data = r;
}

void jr_http1_request_deinit(struct jr_http1_request *r)
{
    if (r != NULL)
        jr_http1_fields_deinit(&r->fields);
}

bool jr_http1_request_first(const char *p, size_t n, size_t *ret_skip)
{
    size_t at = 0;

    while (n - at >= 2 && memcmp(p + at, "\r\n", 2) == 0)
        at += 2;
    *ret_skip = at;
    return at < n && !(n - at == 1 && p[at] == '\r');
}

void jr_http1_request_begin(struct jr_http1_request *r)
{
    r->method = r->path = r->query = jr_str_of(NULL, 0);
    r->fields.n = 0;
    r->body_len = r->body_n = 0;
    r->http10 = r->is_head = r->keep_alive = r->chunked = r->expects = false;
    r->head_done = r->message_done = r->has_length = r->bad_length = false;
    r->scan = (struct jr_http1_scan){0};
    r->framing = (struct jr_http1_framing){0};
    r->refuse_status = 400;
    r->refuse_words = "the request is not valid HTTP/1.1";
    llhttp_reset(&r->parser);
}

int jr_http1_request_scan(struct jr_http1_request *r, const char *p, size_t n, size_t *ret_n)
{
    const int rv = jr_http1_scan_head(&r->scan, p, n, ret_n);

    if (rv == JR_ELIMIT)
        return refuse(r, 431, "the header is too large");
    if (rv < 0)
        return refuse(r, 400, "a header line is not valid: each ends in CR LF, none is folded");
    return rv;
}

/* What the parser leaves open and RFC 9112 does not. */
static int check_head(struct jr_http1_request *r)
{
    const struct jr_http1_fields *f = &r->fields;
    uint32_t n_host, n_te, n_length;

    (void)jr_http1_fields_find(f, "host", &n_host);
    (void)jr_http1_fields_find(f, "content-length", &n_length);
    const struct jr_str coding = jr_http1_fields_find(f, "transfer-encoding", &n_te);
    if (n_host > 1 || (n_host == 0 && !r->http10))
        return refuse(r, 400, "a request needs exactly one Host");
    if (r->bad_length || n_length > 1 || (n_length > 0 && n_te > 0))
        return refuse(r, 400, "Content-Length and Transfer-Encoding contradict each other");
    if (n_te > 1 || (n_te == 1 && (!jr_str_ieq(coding, "chunked") || r->http10)))
        return refuse(r, 400,
                      "the only transfer coding understood is 'chunked', once, with HTTP/1.1");
    const struct jr_str expect = jr_http1_fields_find(f, "expect", NULL);
    r->expects = expect.p != NULL && !r->http10;
    if (r->expects && !jr_str_ieq(expect, "100-continue"))
        return refuse(r, 417, "the only expectation understood is '100-continue'");
    if (r->body_len > r->body_max)
        return refuse(r, 413, "the body is larger than this server takes");
    return 0;
}

/* Splits the target into path and query; an absolute one loses its scheme and host. */
static bool split_target(struct jr_http1_request *r)
{
    struct jr_str t = r->path;

    if (t.n > 0 && t.p[0] != '/' && t.p[0] != '*') {
        const char *host = memmem(t.p, t.n, "://", 3);
        if (host == NULL)
            return false;
        host += 3;
        const size_t rest = t.n - (size_t)(host - t.p);
        const char *path = memchr(host, '/', rest);
        t = path == NULL ? jr_str_of("/", 1) : jr_str_of(path, rest - (size_t)(path - host));
    }
    const char *q = t.n > 0 ? memchr(t.p, '?', t.n) : NULL;
    r->path = q == NULL ? t : jr_str_of(t.p, (size_t)(q - t.p));
    r->query = q == NULL ? jr_str_of(NULL, 0) : jr_str_of(q + 1, t.n - r->path.n - 1);
    return true;
}

int jr_http1_request_head(struct jr_http1_request *r, const char *p, size_t n)
{
    JR_ASSERT(!r->head_done);
    const llhttp_errno_t err = llhttp_execute(&r->parser, p, n);
    const bool ok = err == HPE_OK || (err == HPE_PAUSED && r->message_done);

    if (!ok || !r->head_done || !split_target(r))
        return JR_EPROTO;
    return check_head(r);
}

struct move {
    const char *from, *to;
    size_t n;
};

/* Not all views are of the head: a target without a path has a static one. */
static void move_view(struct jr_str *view, const struct move *m)
{
    const uintptr_t at = (uintptr_t)view->p, from = (uintptr_t)m->from;

    if (view->p != NULL && at >= from && at <= from + m->n)
        view->p = m->to + (at - from);
}

void jr_http1_request_moved(struct jr_http1_request *r, const char *p, size_t n, const char *to)
{
    const struct move m = {p, to, n};

    move_view(&r->method, &m);
    move_view(&r->path, &m);
    move_view(&r->query, &m);
    for (uint32_t i = 0; i < r->fields.n; i++) {
        move_view(&r->fields.v[i].name, &m);
        move_view(&r->fields.v[i].value, &m);
    }
}

int jr_http1_request_chunked(struct jr_http1_request *r, const char *p, size_t n, size_t *ret_used)
{
    JR_ASSERT(r->chunked && !r->message_done);
    *ret_used = n;
    if (n == 0)
        return 0;
    r->framing.at = p;
    r->refuse_words = "the chunked body is not valid";
    const llhttp_errno_t err = llhttp_execute(&r->parser, p, n);
    const bool whole = err == HPE_PAUSED && r->message_done;
    if (whole)
        *ret_used = (size_t)(llhttp_get_error_pos(&r->parser) - p);
    if (whole || err == HPE_OK)
        framing_until(&r->framing, p + *ret_used);
    if (!request_framing_ok(r))
        return refuse(r, 400, "the chunked body is mostly framing");
    if (!whole && err != HPE_OK)
        return JR_EPROTO;
    return whole ? 1 : 0;
}

/* ---- replies: what the parser calls ---- */

static int reply_on_field(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_reply *r = parser->data;

    return !r->head_done && jr_http1_fields_name(&r->fields, p, n) < 0 ? HPE_USER : 0;
}

static int reply_on_value(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_reply *r = parser->data;

    if (!r->head_done)
        jr_http1_fields_value(&r->fields, p, n);
    return 0;
}

static int reply_on_headers_complete(llhttp_t *parser)
{
    struct jr_http1_reply *r = parser->data;
    const int status = parser->status_code;
    const bool chunked = (parser->flags & F_CHUNKED) != 0;
    const bool has_length = (parser->flags & F_CONTENT_LENGTH) != 0;

    r->head_done = true;
    r->status = status;
    parser->upgrade = 0;
    if (r->is_head)
        parser->flags |= F_SKIPBODY; /* so that keep-alive is judged without a body */
    r->keep_alive = llhttp_should_keep_alive(parser) != 0;
    if (r->is_head || status < 200 || status == 204 || status == 304)
        r->body = JR_HTTP1_BODY_NONE;
    else if (chunked)
        r->body = JR_HTTP1_BODY_CHUNKED;
    else if ((parser->flags & F_TRANSFER_ENCODING) != 0)
        return -1; /* a coding that we did not offer to understand */
    else
        r->body = has_length ? JR_HTTP1_BODY_LENGTH : JR_HTTP1_BODY_EOF;
    r->left = has_length ? parser->content_length : 0;
    r->content_length =
        r->body == JR_HTTP1_BODY_CHUNKED || r->body == JR_HTTP1_BODY_EOF ? -1 : (int64_t)r->left;
    if (chunked && has_length)
        return -1;
    parser->flags = (uint16_t)(parser->flags & ~F_SKIPBODY);
    return 0;
}

static int reply_on_body(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http1_reply *r = parser->data;

    framing_until(&r->framing, p);
    if (r->framing.n > JR_HTTP_FRAMING_MAX) {
        jr_limit_reached(JR_LIMIT_HTTP_FRAMING);
        return HPE_USER;
    }
    r->framing = (struct jr_http1_framing){.at = p + n};
    r->stopped = r->on_data(r->ctx, p, n) != 0;
    return r->stopped ? HPE_USER : 0;
}

static int reply_on_message_complete(llhttp_t *parser)
{
    struct jr_http1_reply *r = parser->data;

    r->message_done = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t reply_settings = {
    .on_header_field = reply_on_field,
    .on_header_value = reply_on_value,
    .on_headers_complete = reply_on_headers_complete,
    .on_body = reply_on_body,
    .on_message_complete = reply_on_message_complete,
};

/* ---- replies ---- */

void jr_http1_reply_init(struct jr_http1_reply *r, int (*on_head)(void *ctx),
                         int (*on_data)(void *ctx, const char *p, size_t n), void *ctx)
{
    memset(r, 0, sizeof *r);
    r->on_head = on_head;
    r->on_data = on_data;
    r->ctx = ctx;
    jr_buf_init(&r->head, JR_HTTP_HEADER_BYTES_MAX);
    llhttp_init(&r->parser, HTTP_RESPONSE, &reply_settings);
    r->parser.data = r;
}

void jr_http1_reply_deinit(struct jr_http1_reply *r)
{
    if (r == NULL)
        return;
    jr_buf_deinit(&r->head);
    jr_http1_fields_deinit(&r->fields);
}

void jr_http1_reply_begin(struct jr_http1_reply *r, bool is_head)
{
    if (r->head.cap > JR_HTTP_HEADER_BYTES_MAX / 4)
        jr_buf_deinit(&r->head);
    jr_buf_clear(&r->head);
    r->scan = (struct jr_http1_scan){0};
    r->framing = (struct jr_http1_framing){0};
    r->fields.n = 0;
    r->is_head = is_head;
    r->in_body = r->head_done = r->message_done = r->stopped = false;
    llhttp_reset(&r->parser);
}

/* The head of n bytes at p. */
static int parse_reply_head(struct jr_http1_reply *r, const char *p, size_t n)
{
    const llhttp_errno_t err = llhttp_execute(&r->parser, p, n);

    if ((err != HPE_OK && !(err == HPE_PAUSED && r->message_done)) || !r->head_done ||
        r->parser.http_major != 1 || r->status < 100 || r->status == 101)
        return JR_EPROTO;
    if (r->status < 200) {
        jr_http1_reply_begin(r, r->is_head);
        return 0;
    }
    r->in_body = true;
    return r->on_head(r->ctx) != 0 ? JR_ECANCELED : 0;
}

/* Takes what belongs to the head: *ret_used of the n bytes. One that came whole is parsed where it
 * lies. */
static int take_head(struct jr_http1_reply *r, const char *p, size_t n, size_t *ret_used)
{
    const size_t before = r->head.n;
    size_t end = 0;

    *ret_used = n;
    if (before > 0) {
        const size_t room = JR_HTTP_HEADER_BYTES_MAX - before;
        if (room == 0) {
            jr_limit_reached(JR_LIMIT_HTTP_HEADER_BYTES);
            return JR_EPROTO;
        }
        n = n < room ? n : room;
        jr_buf_put(&r->head, p, n);
        p = (const char *)r->head.p;
    }
    const int rv = jr_http1_scan_head(&r->scan, p, before + n, &end);
    if (rv < 0)
        return JR_EPROTO;
    if (rv == 1) {
        *ret_used = end - before;
        return parse_reply_head(r, p, end);
    }
    if (before == 0)
        jr_buf_put(&r->head, p, n);
    *ret_used = n;
    return 0;
}

static int take_length(struct jr_http1_reply *r, const char *p, size_t n, size_t *ret_used)
{
    const size_t take = n < r->left ? n : (size_t)r->left;

    *ret_used = take;
    r->left -= take;
    if (take > 0 && r->on_data(r->ctx, p, take) != 0)
        return JR_ECANCELED;
    return r->left == 0 ? 1 : 0;
}

static int take_chunked(struct jr_http1_reply *r, const char *p, size_t n, size_t *ret_used)
{
    *ret_used = n;
    if (n == 0)
        return 0;
    r->framing.at = p;
    const llhttp_errno_t err = llhttp_execute(&r->parser, p, n);
    const bool whole = err == HPE_PAUSED && r->message_done;
    if (r->stopped)
        return JR_ECANCELED;
    if (!whole && err != HPE_OK)
        return JR_EPROTO;
    if (whole)
        *ret_used = (size_t)(llhttp_get_error_pos(&r->parser) - p);
    framing_until(&r->framing, p + *ret_used);
    if (r->framing.n > JR_HTTP_FRAMING_MAX) {
        jr_limit_reached(JR_LIMIT_HTTP_FRAMING);
        return JR_EPROTO;
    }
    return whole ? 1 : 0;
}

static int take_body(struct jr_http1_reply *r, const char *p, size_t n, size_t *ret_used)
{
    switch (r->body) {
    case JR_HTTP1_BODY_NONE:
        *ret_used = 0;
        return 1;
    case JR_HTTP1_BODY_LENGTH:
        return take_length(r, p, n, ret_used);
    case JR_HTTP1_BODY_CHUNKED:
        return take_chunked(r, p, n, ret_used);
    case JR_HTTP1_BODY_EOF:
        *ret_used = n;
        return n > 0 && r->on_data(r->ctx, p, n) != 0 ? JR_ECANCELED : 0;
    }
    return JR_EPROTO;
}

/* A reply may end in the same bytes as its head: the body's turn comes even with none left. */
int jr_http1_reply_feed(struct jr_http1_reply *r, const char *p, size_t n, size_t *ret_used)
{
    size_t at = 0, used = 0;
    int rv = 0;

    while (rv == 0 && !r->in_body && at < n) {
        rv = take_head(r, p + at, n - at, &used);
        at += used;
    }
    if (rv == 0 && r->in_body) {
        rv = take_body(r, p + at, n - at, &used);
        at += used;
    }
    *ret_used = at;
    return rv;
}

int jr_http1_reply_eof(const struct jr_http1_reply *r)
{
    return r->in_body && r->body == JR_HTTP1_BODY_EOF ? 0 : JR_ETRUNC;
}
