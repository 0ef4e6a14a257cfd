/* SPDX-License-Identifier: Apache-2.0 */
/* session_codec: where sessions are bound, proto/jetrouter/v1/session.proto <-> struct
 * jr_session_word. docs/protocol.md §6. Pure; any thread. */
#ifndef JR_WIRE_SESSION_CODEC_H
#define JR_WIRE_SESSION_CODEC_H

#include "base/buf.h"
#include "base/sync.h"
#include "wire/arena.h"

#define JR_SESSION_VERSION   1   /* the newest that this program reads; what it writes */
#define JR_SESSION_BYTES_MAX 256 /* of one word, with room for fields to come */

/* Append to b. JR_EINVAL (a rule the decoder checks is broken), JR_ENOMEM; then b is as before. */
JR_MUST_CHECK int jr_session_encode(const struct jr_session_word *w, struct jr_buf *b);

/* JR_EPROTO (malformed, against the rules, of a newer version), JR_ELIMIT (too long). Unknown fields
 * are skipped. e may be NULL. */
JR_MUST_CHECK int jr_session_decode(const void *p, size_t n, struct jr_session_word *ret,
                                    struct jr_errmsg *e);

#endif
