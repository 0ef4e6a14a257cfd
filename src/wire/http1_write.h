/* SPDX-License-Identifier: Apache-2.0 */
/* http1_write: the heads of HTTP/1.1 messages and the frames of chunked bodies, as bytes. Pure; any
 * thread. What is given is written as it is: the caller answers for names and values without CR and
 * LF. Errors stick in the buffer. */
#ifndef JR_WIRE_HTTP1_WRITE_H
#define JR_WIRE_HTTP1_WRITE_H

#include "base/str.h"

/* Everything borrows for the call. */
struct jr_http1_request_head {
    const char *method;
    struct jr_str target;      /* path and query; without a leading '/' it gets one */
    struct jr_str authority;   /* of the Host field */
    const char *content_type;  /* NULL for none */
    const char *extra_headers; /* "Name: value\r\n" lines or NULL */
    uint64_t n_body;           /* a Content-Length is sent with a body, and for POST, PUT, PATCH */
};

void jr_http1_write_request(struct jr_buf *b, const struct jr_http1_request_head *h);

struct jr_http1_reply_head {
    int status;
    const char *content_type;  /* NULL for none */
    const char *extra_headers; /* "Name: value\r\n" lines or NULL */
    int64_t content_length;    /* < 0: chunked; to HTTP/1.0 until the connection closes */
    bool http10;               /* the version of the request */
    bool keep_alive;
};

/* 204 and 304 get neither length nor coding. */
void jr_http1_write_reply(struct jr_buf *b, const struct jr_http1_reply_head *h);

/* The line before n > 0 bytes of a chunked body; CR LF belongs behind them. */
void jr_http1_write_chunk(struct jr_buf *b, uint64_t n);
void jr_http1_write_last_chunk(struct jr_buf *b);

const char *jr_http1_reason(int status); /* "Not Found"; never NULL */

#endif
