/* SPDX-License-Identifier: Apache-2.0 */
/* js_range: messages of a stream from one sequence to another, in order, for a lane. */
#ifndef JR_IO_JS_RANGE_H
#define JR_IO_JS_RANGE_H

#include "base/str.h"
#include "io/nats_conn.h"

/* Borrowed for the call; returning non-zero ends the reading with that error. */
typedef int jr_js_range_fn(void *ctx, uint64_t seq, struct jr_str subject, const void *p, size_t n);

/* All messages of [from, to] that the stream still has. Blocks. 0; JR_ENONATS, JR_ETIMEOUT, JR_EGAP
 * (it did not come to the end), what fn returned; words in e. */
JR_MUST_CHECK int jr_js_range_read(struct jr_nats *nats, const char *stream, uint64_t from,
                                   uint64_t to, jr_js_range_fn *fn, void *ctx, struct jr_errmsg *e);

#endif
