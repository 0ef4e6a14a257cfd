/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: the fields of the request's head on their way to the worker, and of the answer's back. */
#include "app/frontend/proxy_internal.h"
#include "app/frontend/proxy_spans.h"

#include "wire/http1_pass.h"

#include <string.h>

#define HEAD_MAX ((size_t)2 * JR_HTTP_HEADER_BYTES_MAX) /* what was read, and what is added here */
#define UUID_LEN (sizeof "01234567-89ab-cdef-0123-456789abcdef" - 1)

#define NAME(text)                                                                                 \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

static bool is_uuid(struct jr_str s)
{
    if (s.n != UUID_LEN)
        return false;
    for (size_t i = 0; i < UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s.p[i] != '-' : strchr("0123456789abcdefABCDEF", s.p[i]) == NULL || !s.p[i])
            return false;
    }
    return true;
}

/* Version 4: random but for the four bits of the version and the two of the variant. */
static void new_uuid(struct jr_rng *rng, char *ret)
{
    uint64_t v[2] = {jr_rng_u64(rng), jr_rng_u64(rng)};
    v[0] = (v[0] & ~0xf000ull) | 0x4000;
    v[1] = (v[1] & ~(3ull << 62)) | 1ull << 63;
    for (unsigned i = 0, at = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            ret[at++] = '-';
        ret[at++] = "0123456789abcdef"[v[i / 16] >> (60 - 4 * (i % 16)) & 15];
    }
}

/* x-request-id is what engines read; x-dynamo-request-id and `user` are Dynamo's ways to say it. */
static struct jr_str find_id(struct jr_proxied *x, struct jr_str user)
{
    struct jr_str id = jr_http_request_header(x->req, "x-request-id");
    if (!id.n)
        id = jr_http_request_header(x->req, "x-dynamo-request-id");
    if (id.n)
        return id; /* lives as long as the request */
    if (is_uuid(user))
        memcpy(x->own_id, user.p, UUID_LEN);
    else
        new_uuid(&x->l->rng, x->own_id);
    return jr_str_of(x->own_id, UUID_LEN);
}

void jr_proxy_read_headers(struct jr_proxied *x, struct jr_str user)
{
    _Static_assert(sizeof x->own_id == UUID_LEN, "a UUID fits");
    x->request_id = find_id(x, user);
    struct jr_str explain = jr_http_request_header(x->req, "x-jetrouter-explain");
    x->explain = jr_str_eq(explain, "1") || jr_str_ieq(explain, "true");
}

static void put_id(struct jr_buf *b, struct jr_str id)
{
    jr_buf_put(b, "X-Request-Id: ", 14);
    jr_buf_put(b, id.p, id.n);
    jr_buf_put(b, "\r\n", 2);
}

static struct jr_buf *cleared(struct jr_proxied *x)
{
    struct jr_buf *b = &x->l->head;
    if (!b->max)
        jr_buf_init(b, HEAD_MAX);
    jr_buf_clear(b);
    return b;
}

static void put_parent(struct jr_buf *b, const char *parent)
{
    if (!parent)
        return;
    jr_buf_put(b, "Traceparent: ", 13);
    jr_buf_puts(b, parent);
    jr_buf_put(b, "\r\n", 2);
}

const char *jr_proxy_request_lines(struct jr_proxied *x)
{
    struct jr_str ours[5] = {NAME("X-Request-Id"), NAME("X-Data-Parallel-Rank")};
    struct jr_buf *b = cleared(x);
    uint32_t n, n_ours = 2;
    bool foreign = false;
    const char *parent = jr_spans_parent(x, &foreign);
    if (x->dialect) /* an answer that is read to be translated */
        ours[n_ours++] = (struct jr_str)NAME("Accept-Encoding");
    if (parent)
        ours[n_ours++] = (struct jr_str)NAME("Traceparent");
    if (foreign)
        ours[n_ours++] = (struct jr_str)NAME("Tracestate");
    const struct jr_http_header *v = jr_http_request_headers(x->req, &n);
    jr_http1_pass(b, v, n, ours, n_ours);
    put_id(b, x->request_id);
    put_parent(b, parent);
    jr_buf_put(b, "X-Data-Parallel-Rank: ", 22);
    jr_buf_digits(b, x->dp_rank);
    jr_buf_put(b, "\r\n", 2);
    if (x->body.n && !jr_http_request_header(x->req, "content-type").n)
        jr_buf_puts(b, "Content-Type: application/json\r\n");
    return b->err ? NULL : jr_buf_str(b);
}

static bool has(const struct jr_http_reply *reply, const char *name)
{
    for (uint32_t i = 0; i < reply->n_headers; i++)
        if (jr_str_ieq(reply->headers[i].name, name))
            return true;
    return false;
}

const char *jr_proxy_reply_lines(struct jr_proxied *x, const struct jr_http_reply *reply)
{
    struct jr_buf *b = cleared(x);
    jr_http1_pass(b, reply->headers, reply->n_headers, NULL, 0);
    if (!has(reply, "x-request-id"))
        put_id(b, x->request_id);
    if (x->explain) {
        jr_buf_puts(b, "X-Jetrouter-Worker: ");
        jr_buf_digits(b, x->worker_id);
        jr_buf_puts(b, "\r\nX-Jetrouter-Predicted-Tokens: ");
        jr_buf_digits(b, jr_proxy_predicted_tokens(x));
        jr_buf_put(b, "\r\n", 2);
    }
    return b->err ? NULL : jr_buf_str(b);
}

const char *jr_proxy_own_lines(struct jr_proxied *x)
{
    struct jr_buf *b = cleared(x);
    put_id(b, x->request_id);
    return b->err ? NULL : jr_buf_str(b);
}
