/* SPDX-License-Identifier: Apache-2.0 */
/* http1_pass: which fields of an HTTP/1.1 head a proxy hands on, as lines for the next head. Pure;
 * any thread.
 *
 * Not handed on (RFC 9110 §7.6.1): Connection and the fields it names, Keep-Alive, Proxy-*, TE,
 * Trailer, Transfer-Encoding, Upgrade; and what each hop writes for itself: Host, Content-Length,
 * Expect. All others go on as they came, in their order, also when a name comes twice. */
#ifndef JR_WIRE_HTTP1_PASS_H
#define JR_WIRE_HTTP1_PASS_H

#include "wire/http1_head.h"

/* v are all fields of one head, as jr_http1_fields collected them: views into it, in its order, so that
 * lines that follow each other are copied in one piece. Appends the line of each field that goes on, as it
 * came, but for those named in `but` (n_but names in any case; NULL with 0), which the caller writes
 * itself. Everything borrows for the call. Errors stick in the buffer. */
void jr_http1_pass(struct jr_buf *b, const struct jr_http_header *v, uint32_t n,
                   const struct jr_str *but, uint32_t n_but);

#endif
