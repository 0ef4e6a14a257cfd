/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/http1_write.h"

static void put_hex(struct jr_buf *b, uint64_t v)
{
    char text[16];
    unsigned at = sizeof text;

    do {
        text[--at] = "0123456789abcdef"[v % 16];
        v /= 16;
    } while (v > 0);
    jr_buf_put(b, text + at, sizeof text - at);
}

const char *jr_http1_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {529, "Overloaded"},
    };

    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}

static void put_str(struct jr_buf *b, struct jr_str s)
{
    jr_buf_put(b, s.p, s.n);
}

static void put_content_type(struct jr_buf *b, const char *content_type)
{
    if (content_type == NULL)
        return;
    jr_buf_put(b, "Content-Type: ", 14);
    jr_buf_puts(b, content_type);
    jr_buf_put(b, "\r\n", 2);
}

static void put_length(struct jr_buf *b, uint64_t n)
{
    jr_buf_put(b, "Content-Length: ", 16);
    jr_buf_digits(b, n);
    jr_buf_put(b, "\r\n", 2);
}

void jr_http1_write_request(struct jr_buf *b, const struct jr_http1_request_head *h)
{
    jr_buf_puts(b, h->method);
    jr_buf_puts(b, h->target.n > 0 && h->target.p[0] == '/' ? " " : " /");
    put_str(b, h->target);
    jr_buf_puts(b, " HTTP/1.1\r\nHost: ");
    put_str(b, h->authority);
    jr_buf_put(b, "\r\n", 2);
    put_content_type(b, h->content_type);
    if (h->n_body > 0 || h->method[0] == 'P') /* POST, PUT, PATCH */
        put_length(b, h->n_body);
    if (h->extra_headers != NULL)
        jr_buf_puts(b, h->extra_headers);
    jr_buf_put(b, "\r\n", 2);
}

static void put_status(struct jr_buf *b, int status)
{
    if (status == 200) {
        jr_buf_put(b, "HTTP/1.1 200 OK\r\n", 17);
        return;
    }
    jr_buf_put(b, "HTTP/1.1 ", 9);
    jr_buf_digits(b, (uint64_t)status);
    jr_buf_u8(b, ' ');
    jr_buf_puts(b, jr_http1_reason(status));
    jr_buf_put(b, "\r\n", 2);
}

void jr_http1_write_reply(struct jr_buf *b, const struct jr_http1_reply_head *h)
{
    put_status(b, h->status);
    put_content_type(b, h->content_type);
    if (h->status != 204 && h->status != 304) {
        if (h->content_length >= 0)
            put_length(b, (uint64_t)h->content_length);
        else if (!h->http10)
            jr_buf_put(b, "Transfer-Encoding: chunked\r\n", 28);
    }
    if (!h->keep_alive)
        jr_buf_put(b, "Connection: close\r\n", 19);
    else if (h->http10)
        jr_buf_put(b, "Connection: keep-alive\r\n", 24);
    if (h->extra_headers != NULL)
        jr_buf_puts(b, h->extra_headers);
    jr_buf_put(b, "\r\n", 2);
}

void jr_http1_write_chunk(struct jr_buf *b, uint64_t n)
{
    put_hex(b, n);
    jr_buf_put(b, "\r\n", 2);
}

void jr_http1_write_last_chunk(struct jr_buf *b)
{
    jr_buf_put(b, "0\r\n\r\n", 5);
}
