/* SPDX-License-Identifier: Apache-2.0 */
/* sync_codec: replica sync, proto/jetrouter/v1/sync.proto <-> struct jr_sync_batch.
 * docs/protocol.md §6. Pure; any thread. */
#ifndef JR_WIRE_SYNC_CODEC_H
#define JR_WIRE_SYNC_CODEC_H

#include "base/buf.h"
#include "base/sync.h"
#include "wire/arena.h"

/* An arena with this max holds whatever JR_BATCH_BYTES_MAX bytes decode to. */
#define JR_SYNC_ARENA_MAX ((size_t)128 << 20)

/* Append to b. JR_EINVAL (a rule the decoder checks is broken), JR_ELIMIT, JR_ENOMEM; then b is as
 * before. Borrows. */
JR_MUST_CHECK int jr_sync_encode(const struct jr_sync_batch *s, struct jr_buf *b);

/* *ret, its text and arrays live in arena. JR_EPROTO (malformed, or against the rules), JR_ELIMIT
 * (over limits.h or the arena's max). e may be NULL. Unknown fields are skipped; a delta of a type
 * this program does not know is left out, not an error. */
JR_MUST_CHECK int jr_sync_decode(const void *p, size_t n, struct jr_arena *arena,
                                 struct jr_sync_batch *ret, struct jr_errmsg *e);

/* Bytes that one delta takes at most, for cutting a base into parts of JR_SYNC_BYTES_MAX. */
size_t jr_sync_delta_size_max(const struct jr_delta *d);
#define JR_SYNC_OVERHEAD 256 /* bytes of a batch beside its deltas, at most */

#endif
