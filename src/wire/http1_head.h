/* SPDX-License-Identifier: Apache-2.0 */
/* http1_head: what requests and replies share in reading an HTTP/1.1 head: finding its end, with
 * stricter line rules than the parser's, and collecting its fields. Pure; any thread.
 *
 * A head is parsed only once it lies in memory whole, so that each field is one view into it. The
 * lines are checked while its end is looked for: a bare CR or LF, or a folded line, is where two
 * HTTP implementations may disagree on what a message is, and is refused. */
#ifndef JR_WIRE_HTTP1_HEAD_H
#define JR_WIRE_HTTP1_HEAD_H

#include "base/str.h"

struct jr_http_header {
    struct jr_str name, value;
};

/* Where the search stands; zero for a new head. Offsets from the head's first byte. */
struct jr_http1_scan {
    size_t line; /* start of the present line */
    size_t pos;  /* bytes looked at */
};

/* Looks for the empty line in p[0..n), going on where the last call ended: p may have moved, its
 * bytes have not changed. 1: *ret_end is the length of the head; 0: not there yet; JR_EPROTO: lines
 * that are refused; JR_ELIMIT: longer than JR_HTTP_HEADER_BYTES_MAX. */
JR_MUST_CHECK int jr_http1_scan_head(struct jr_http1_scan *scan, const char *p, size_t n,
                                     size_t *ret_end);

/* Zero is empty; n = 0 empties it and keeps the memory. */
struct jr_http1_fields {
    struct jr_http_header *v; /* views into the head */
    uint32_t n, cap;
};

void jr_http1_fields_deinit(struct jr_http1_fields *f);
/* A name begins the next field, a value completes it, without the blanks at its end. 0, or JR_ELIMIT
 * beyond JR_HTTP_HEADERS_MAX. */
JR_MUST_CHECK int jr_http1_fields_name(struct jr_http1_fields *f, const char *p, size_t n);
void jr_http1_fields_value(struct jr_http1_fields *f, const char *p, size_t n);
/* First of that name, case-insensitive; p == NULL when absent. *ret_count (may be NULL): how many. */
struct jr_str jr_http1_fields_find(const struct jr_http1_fields *f, const char *name,
                                   uint32_t *ret_count);

#endif
