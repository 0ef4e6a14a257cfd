/* SPDX-License-Identifier: Apache-2.0 */
/* http1: reading HTTP/1.1 messages: from bytes, in whatever pieces they come, to requests (a
 * server's side) and replies (a client's side). Pure: no socket, no clock; one thread at a time per
 * parser. How the bytes are cut does not change what is read.
 *
 * The caller owns the bytes. A request is read by steps, since a server keeps its bytes in one place
 * and its body comes with a declared length straight from the socket; a reply is fed, since a client
 * relays it piece by piece:
 *
 *     request  begin ─► scan ─┬─► head ─┬─► (body_len bytes, which the caller takes by itself)
 *                  more bytes ▲         └─► chunked ─┬─► 1
 *                             └──────────            └─ more bytes: on_body*
 *
 *     reply    begin ─► feed* : on_head ─ on_data* ─► 1        until close: 0 … eof
 *
 * What is stricter than the parser underneath, because here two implementations may disagree on
 * where a message ends: line ends and folded lines (http1_head.h); one Host; Content-Length once and
 * never beside Transfer-Encoding; the only transfer coding is "chunked", once, not in HTTP/1.0; the
 * framing of a chunked body is bounded. */
#ifndef JR_WIRE_HTTP1_H
#define JR_WIRE_HTTP1_H

#include "wire/http1_head.h"

#include <llhttp.h>

/* Bytes around the pieces of a chunked body: size lines, extensions, trailers. */
struct jr_http1_framing {
    const char *at; /* up to here the present bytes are counted */
    uint64_t n;
};

/* ---- requests ---- */

/* Embedded by its owner, who reads what stands above the line. */
struct jr_http1_request {
    /* What the head said: valid from jr_http1_request_head to begin. Views into its bytes. */
    struct jr_str method, path, query; /* path without the query, query without '?' */
    struct jr_http1_fields fields;
    uint64_t body_len; /* declared; 0 when there is none or it is chunked */
    bool http10, is_head, keep_alive;
    bool chunked;
    bool expects; /* waits for 100 Continue before it sends its body */
    /* Why it was refused. */
    int refuse_status;
    const char *refuse_words; /* static */

    /* -- private -- */
    llhttp_t parser;
    struct jr_http1_scan scan;
    uint64_t body_max, body_n;
    struct jr_http1_framing framing;
    bool head_done, message_done, has_length, bad_length;
    void (*on_body)(void *ctx, const char *p, size_t n);
    void *ctx;
};

/* on_body gets the pieces of chunked bodies (borrows), never more than body_max bytes in all. It may
 * not touch the parser. */
void jr_http1_request_init(struct jr_http1_request *r, uint64_t body_max,
                           void (*on_body)(void *ctx, const char *p, size_t n), void *ctx);
void jr_http1_request_deinit(struct jr_http1_request *r);

/* Between requests: *ret_skip bytes are empty lines (RFC 9112 section 2.2); true when the first byte
 * of a request lies behind them. */
bool jr_http1_request_first(const char *p, size_t n, size_t *ret_skip);
/* The next request. */
void jr_http1_request_begin(struct jr_http1_request *r);
/* p[0..n): all bytes since the first of the head, which may have moved since the last call. 1: the
 * head is whole, its length *ret_n; 0: more bytes are needed; JR_EPROTO: refused. */
JR_MUST_CHECK int jr_http1_request_scan(struct jr_http1_request *r, const char *p, size_t n,
                                        size_t *ret_n);
/* The head's p[0..n), which stay in place as long as its views are used. 0 or JR_EPROTO: refused. */
JR_MUST_CHECK int jr_http1_request_head(struct jr_http1_request *r, const char *p, size_t n);
/* The head's bytes p[0..n) lie at `to` now: its views follow them. */
void jr_http1_request_moved(struct jr_http1_request *r, const char *p, size_t n, const char *to);
/* Further bytes of a chunked body. 1: it is whole, *ret_used of the bytes belonged to it; 0: all were
 * taken; JR_EPROTO: refused. */
JR_MUST_CHECK int jr_http1_request_chunked(struct jr_http1_request *r, const char *p, size_t n,
                                           size_t *ret_used);

/* ---- replies ---- */

enum jr_http1_body {
    JR_HTTP1_BODY_NONE,
    JR_HTTP1_BODY_LENGTH,
    JR_HTTP1_BODY_CHUNKED,
    JR_HTTP1_BODY_EOF, /* until the peer closes */
};

struct jr_http1_reply {
    /* What the head said, from on_head to the end of the reply; the fields only during on_head. */
    int status;
    struct jr_http1_fields fields;
    int64_t content_length; /* as declared, also to HEAD; -1 when chunked or until close */
    bool keep_alive;

    /* -- private -- */
    llhttp_t parser;
    struct jr_buf head; /* of a reply whose head came in pieces */
    struct jr_http1_scan scan;
    enum jr_http1_body body;
    uint64_t left; /* LENGTH */
    struct jr_http1_framing framing;
    bool is_head, in_body, head_done, message_done, stopped;
    int (*on_head)(void *ctx);
    int (*on_data)(void *ctx, const char *p, size_t n);
    void *ctx;
};

/* 1xx replies are skipped and not told. A callback that returns other than 0 ends the reading; it may
 * not touch the parser but to read it. on_data borrows, n > 0. */
void jr_http1_reply_init(struct jr_http1_reply *r, int (*on_head)(void *ctx),
                         int (*on_data)(void *ctx, const char *p, size_t n), void *ctx);
void jr_http1_reply_deinit(struct jr_http1_reply *r);
/* The next reply; is_head: to a HEAD request. */
void jr_http1_reply_begin(struct jr_http1_reply *r, bool is_head);
/* 1: the reply is whole, *ret_used of the bytes belonged to it, and begin comes next; 0: all were
 * taken; JR_EPROTO: no valid HTTP/1.1, or beyond a limit; JR_ECANCELED: a callback ended it. */
JR_MUST_CHECK int jr_http1_reply_feed(struct jr_http1_reply *r, const char *p, size_t n,
                                      size_t *ret_used);
/* The peer closed: 0 when that ends the reply, JR_ETRUNC when something is missing. */
JR_MUST_CHECK int jr_http1_reply_eof(const struct jr_http1_reply *r);

#endif
