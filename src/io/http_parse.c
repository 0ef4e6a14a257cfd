/* SPDX-License-Identifier: Apache-2.0 */
/* Reading requests: from bytes to a request that is handed to the server's owner. */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

static int on_url(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http_conn *c = parser->data;

    c->req.path = jr_str_of(p, n);
    return 0;
}

static int on_method(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http_conn *c = parser->data;

    c->req.method = jr_str_of(p, n);
    return 0;
}

static int on_field(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http_conn *c = parser->data;

    if (c->head_done)
        return 0; /* a trailer: read and ignored */
    if (jr_http_fields_name(&c->req.fields, p, n) < 0) {
        c->refuse_status = 431;
        return HPE_USER;
    }
    return 0;
}

static int on_value(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http_conn *c = parser->data;

    if (!c->head_done)
        jr_http_fields_value(&c->req.fields, p, n);
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct jr_http_conn *c = parser->data;

    c->head_done = true;
    c->req.http10 = parser->http_major == 1 && parser->http_minor == 0;
    c->req.keep_alive = llhttp_should_keep_alive(parser) != 0;
    c->request_chunked = (parser->flags & F_CHUNKED) != 0;
    c->has_length = (parser->flags & F_CONTENT_LENGTH) != 0;
    c->bad_length = c->has_length && (parser->flags & F_TRANSFER_ENCODING) != 0;
    c->body_len = c->has_length ? (size_t)parser->content_length : 0;
    if (parser->http_major != 1) {
        c->refuse_status = 505;
        return -1;
    }
    if (parser->method == HTTP_CONNECT) {
        c->refuse_status = 405;
        return -1;
    }
    parser->upgrade = 0; /* we never upgrade: an offer to is just ignored */
    return 0;
}

static bool body_room(struct jr_http_conn *c, size_t need)
{
    if (need > c->server->config.body_max)
        return false;
    if (need > c->body_cap) {
        size_t cap = c->body_cap == 0 ? JR_HTTP_BODY_KEEP : c->body_cap;
        while (cap < need)
            cap *= 2;
        if (cap > c->server->config.body_max)
            cap = c->server->config.body_max;
        c->body = jr_xrealloc(c->body, cap);
        c->body_cap = cap;
    }
    return true;
}

static int on_body(llhttp_t *parser, const char *p, size_t n)
{
    struct jr_http_conn *c = parser->data;

    if (jr_http_state(c) != JR_HTTP_CHUNKED)
        return 0;
    if (!body_room(c, c->body_n + n)) {
        c->refuse_status = 413;
        return HPE_USER;
    }
    memcpy(c->body + c->body_n, p, n);
    c->body_n += n;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct jr_http_conn *c = parser->data;

    c->message_done = true;
    return HPE_PAUSED;
}

void jr_http_conn_settings(llhttp_settings_t *settings)
{
    llhttp_settings_init(settings);
    settings->on_url = on_url;
    settings->on_method = on_method;
    settings->on_header_field = on_field;
    settings->on_header_value = on_value;
    settings->on_headers_complete = on_headers_complete;
    settings->on_body = on_body;
    settings->on_message_complete = on_message_complete;
}

/* What the parser leaves open and RFC 9112 does not: 0 or the status to refuse with. */
static int check_head(struct jr_http_conn *c, const char **ret_words)
{
    const struct jr_http_fields *f = &c->req.fields;
    uint32_t n_host, n_te, n_length;

    (void)jr_http_fields_find(f, "host", &n_host);
    (void)jr_http_fields_find(f, "content-length", &n_length);
    const struct jr_str coding = jr_http_fields_find(f, "transfer-encoding", &n_te);
    *ret_words = "a request needs exactly one Host";
    if (n_host > 1 || (n_host == 0 && !c->req.http10))
        return 400;
    *ret_words = "Content-Length and Transfer-Encoding contradict each other";
    if (c->bad_length || n_length > 1 || (n_length > 0 && n_te > 0))
        return 400;
    *ret_words = "the only transfer coding understood is 'chunked', once, with HTTP/1.1";
    if (n_te > 1 || (n_te == 1 && (!jr_str_ieq(coding, "chunked") || c->req.http10)))
        return 400;
    const struct jr_str expect = jr_http_fields_find(f, "expect", NULL);
    c->expects = expect.p != NULL && !c->req.http10;
    *ret_words = "the only expectation understood is '100-continue'";
    if (c->expects && !jr_str_ieq(expect, "100-continue"))
        return 417;
    *ret_words = "the body is larger than this server takes";
    if (c->body_len > c->server->config.body_max)
        return 413;
    return 0;
}

/* Splits the target into path and query; an absolute one loses its scheme and host. */
static bool split_target(struct jr_http_request *req)
{
    struct jr_str t = req->path;

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
    req->path = q == NULL ? t : jr_str_of(t.p, (size_t)(q - t.p));
    req->query = q == NULL ? jr_str_of(NULL, 0) : jr_str_of(q + 1, t.n - req->path.n - 1);
    return true;
}

static void reset_request(struct jr_http_conn *c)
{
    struct jr_http_request *req = &c->req;
    const struct jr_http_fields fields = {.v = req->fields.v, .cap = req->fields.cap};

    *req = (struct jr_http_request){.fields = fields};
    c->head_done = c->message_done = false;
    c->body_n = c->body_len = 0;
    c->chunk_overhead = 0;
    c->refuse_status = 400;
    llhttp_reset(&c->parser);
}

/* The head of n bytes lies at in_start. false: refused. */
static bool parse_head(struct jr_http_conn *c, size_t n)
{
    const char *words = "the request is not valid HTTP/1.1";

    reset_request(c);
    const llhttp_errno_t err = llhttp_execute(&c->parser, c->in + c->in_start, n);
    c->in_start += n;
    const bool ok = err == HPE_OK || (err == HPE_PAUSED && c->message_done);
    if (!ok || !c->head_done || !split_target(&c->req)) {
        if (c->refuse_status == 431)
            words = "too many header fields";
        jr_http_conn_refuse(c, c->refuse_status, words);
        return false;
    }
    c->req.is_head = c->parser.method == HTTP_HEAD;
    const int status = check_head(c, &words);
    if (status != 0) {
        jr_http_conn_refuse(c, status, words);
        return false;
    }
    return true;
}

static void hand_over(struct jr_http_conn *c)
{
    struct jr_http_server *s = c->server;

    jr_sm_move(&c->sm, JR_HTTP_ANSWER, "request");
    jr_http_conn_deadline(c, s->config.idle_timeout_ms);
    c->stall_queue = 0;
    c->req.id = ++s->next_id;
    c->req.owned = true;
    c->served++;
    s->stats.requests_total++;
    s->config.on_request(s->config.ctx, &c->req);
}

static void send_continue(struct jr_http_conn *c)
{
    if (!c->expects || c->in_end > c->in_start)
        return;
    jr_buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    jr_http_conn_send(c, NULL, 0);
}

/* The body of declared length: in place when it came with the head, else into a buffer of its own
 * that later reads fill directly. */
static void begin_body(struct jr_http_conn *c)
{
    const size_t have = c->in_end - c->in_start;

    if (have >= c->body_len) {
        c->req.body = jr_str_of(c->in + c->in_start, c->body_len);
        c->in_start += c->body_len;
        hand_over(c);
        return;
    }
    /* What is declared is not yet believed: the buffer grows with what comes. */
    const size_t first = c->body_len < JR_HTTP_BODY_KEEP ? c->body_len : JR_HTTP_BODY_KEEP;
    (void)body_room(c, first > have ? first : have);
    memcpy(c->body, c->in + c->in_start, have);
    c->body_n = have;
    c->in_end = c->in_start;
    jr_sm_move(&c->sm, JR_HTTP_BODY, "head");
    jr_http_conn_deadline(c, c->server->config.idle_timeout_ms);
}

/* true: state moved on, look again; false: more bytes are needed. */
static bool advance_head(struct jr_http_conn *c)
{
    size_t n = 0;
    const size_t have = c->in_end - c->in_start;
    const int rv = jr_http_scan_head(&c->scan, c->in + c->in_start, have, &n);

    if (rv < 0) {
        jr_http_conn_refuse(c, 400,
                            "a header line is not valid: each ends in CR LF, none is folded");
        return false;
    }
    if ((rv == 0 && have > JR_HTTP_HEADER_BYTES_MAX) || n > JR_HTTP_HEADER_BYTES_MAX) {
        jr_http_conn_refuse(c, 431, "the header is too large");
        return false;
    }
    if (rv == 0) {
        if (!c->head_deadline)
            jr_http_conn_deadline(c, c->server->config.header_timeout_ms);
        c->head_deadline = true;
        return false;
    }
    c->head_deadline = false;
    jr_http_conn_make_room(c); /* the last time before views pin it */
    if (!parse_head(c, n))
        return false;
    if (c->request_chunked || c->body_len > 0)
        send_continue(c);
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        return false;
    if (c->request_chunked) {
        jr_sm_move(&c->sm, JR_HTTP_CHUNKED, "head");
        jr_http_conn_deadline(c, c->server->config.idle_timeout_ms);
    } else {
        begin_body(c);
    }
    return true;
}

static bool advance_body(struct jr_http_conn *c)
{
    if (c->body_n < c->body_len) {
        if (c->body_n == c->body_cap)
            (void)body_room(c, c->body_len < 2 * c->body_cap ? c->body_len : 2 * c->body_cap);
        return false;
    }
    c->req.body = jr_str_of(c->body, c->body_len);
    hand_over(c);
    return true;
}

/* Bounds what surrounds a chunked body: size lines, extensions, trailers. */
static bool overhead_ok(const struct jr_http_conn *c)
{
    return c->chunk_overhead <= c->body_n + JR_HTTP_HEADER_BYTES_MAX + 8 * c->body_n;
}

static bool advance_chunked(struct jr_http_conn *c)
{
    const char *p = c->in + c->in_start;
    const size_t n = c->in_end - c->in_start;
    const size_t body_before = c->body_n;

    if (n == 0)
        return false;
    const llhttp_errno_t err = llhttp_execute(&c->parser, p, n);
    size_t used = n;
    if (err == HPE_PAUSED && c->message_done)
        used = (size_t)(llhttp_get_error_pos(&c->parser) - p);
    else if (err != HPE_OK) {
        jr_http_conn_refuse(c, c->refuse_status,
                            c->refuse_status == 413 ? "the body is larger than this server takes"
                                                    : "the chunked body is not valid");
        return false;
    }
    c->chunk_overhead += used - (c->body_n - body_before);
    if (!overhead_ok(c)) {
        jr_http_conn_refuse(c, 400, "the chunked body is mostly framing");
        return false;
    }
    if (!c->message_done) {
        c->in_end = c->in_start; /* taken whole: the next read begins where this one did */
        return false;
    }
    c->in_start += used;
    c->req.body = jr_str_of(c->body, c->body_n);
    hand_over(c);
    return true;
}

static bool advance_idle(struct jr_http_conn *c)
{
    /* An empty line before a request is skipped (RFC 9112 section 2.2). */
    while (c->in_end - c->in_start >= 2 && memcmp(c->in + c->in_start, "\r\n", 2) == 0)
        c->in_start += 2;
    if (c->in_start == c->in_end) {
        jr_http_conn_release_in(c);
        return false;
    }
    if (c->in_end - c->in_start == 1 && c->in[c->in_start] == '\r')
        return false;
    c->scan = (struct jr_http_scan){0};
    c->head_deadline = false;
    jr_sm_move(&c->sm, JR_HTTP_HEAD, "byte");
    return true;
}

void jr_http_conn_advance(struct jr_http_conn *c)
{
    bool again = !c->advancing;

    if (!again)
        return;
    c->advancing = true;
    while (again) {
        switch (jr_http_state(c)) {
        case JR_HTTP_IDLE:
            again = advance_idle(c);
            break;
        case JR_HTTP_HEAD:
            again = advance_head(c);
            break;
        case JR_HTTP_BODY:
            again = advance_body(c);
            break;
        case JR_HTTP_CHUNKED:
            again = advance_chunked(c);
            break;
        case JR_HTTP_ANSWER:
            if (c->in_end == c->in_cap)
                jr_http_conn_stop_reading(c);
            again = false;
            break;
        default:
            again = false;
            break;
        }
    }
    c->advancing = false;
    if (jr_http_state(c) == JR_HTTP_CLOSED)
        jr_http_conn_maybe_free(c);
}
