/* SPDX-License-Identifier: Apache-2.0 */
/* http_head: what server and client share in reading an HTTP/1.1 head: finding its end, with
 * stricter line rules than the parser's, and collecting its fields. Pure; any thread.
 *
 * A head is parsed only once it lies in memory whole, so that each field is one view into it. The
 * lines are checked while its end is looked for: a bare CR or LF, or a folded line, is where two
 * HTTP implementations may disagree on what a message is, and is refused. */
#ifndef JR_IO_HTTP_HEAD_H
#define JR_IO_HTTP_HEAD_H

#include "io/http_server.h"

#include <llhttp.h>

/* Where the search stands; zero for a new head. Offsets from the head's first byte. */
struct jr_http_scan {
    size_t line; /* start of the present line */
    size_t pos;  /* bytes looked at */
};

/* Looks for the empty line in p[0..n), going on where the last call ended. 1: *ret_end is the length
 * of the head; 0: not there yet; JR_EPROTO: lines that are refused. */
JR_MUST_CHECK int jr_http_scan_head(struct jr_http_scan *scan, const char *p, size_t n,
                                    size_t *ret_end);

struct jr_http_fields {
    struct jr_http_header *v; /* views into the head */
    uint32_t n, cap;
    bool overflow; /* more than JR_HTTP_HEADERS_MAX */
};

void jr_http_fields_deinit(struct jr_http_fields *f);
/* The parser's callbacks end here: a name begins the next field, a value completes it. 0 or
 * JR_ELIMIT. */
JR_MUST_CHECK int jr_http_fields_name(struct jr_http_fields *f, const char *p, size_t n);
void jr_http_fields_value(struct jr_http_fields *f, const char *p, size_t n);
/* First of that name, case-insensitive; p == NULL when absent. *ret_count (may be NULL): how many. */
struct jr_str jr_http_fields_find(const struct jr_http_fields *f, const char *name,
                                  uint32_t *ret_count);

/* Content-Type, Content-Length and similar small numbers without printf. */
void jr_http_put_u64(struct jr_buf *b, uint64_t v);
void jr_http_put_hex(struct jr_buf *b, uint64_t v);
const char *jr_http_reason(int status); /* "Not Found"; never NULL */

#endif
