/* SPDX-License-Identifier: Apache-2.0 */
/* dynamo_snapshot: the object `radix-state` of NVIDIA Dynamo v1.0: bincode 1.3 (little-endian,
 * fixed widths, no header) of a list of RouterEvents. docs/protocol.md §4. v1.1 has another layout
 * and no version field tells them apart: reading is strict, so that one is refused and not misread.
 * Pure. */
#ifndef JR_WIRE_DYNAMO_SNAPSHOT_H
#define JR_WIRE_DYNAMO_SNAPSHOT_H

#include "base/buf.h"
#include "base/kv.h"

/* Called for each event in order, as a batch with dynamo = true and that one event; borrowed for
 * the call. A non-zero return ends the reading and is passed on. */
typedef int jr_dynamo_snapshot_cb(void *arg, const struct jr_kv_batch *batch);

/* The whole object is checked before the first call: on JR_ETRUNC, JR_EPROTO (variant, flag, bytes
 * left over) and JR_ELIMIT (limits.h) the callback was never called. *ret_events (may be NULL): how
 * many there are. Words in e (may be NULL). */
JR_MUST_CHECK int jr_dynamo_snapshot_read(const void *p, size_t n, jr_dynamo_snapshot_cb *cb,
                                          void *arg, uint64_t *ret_events, struct jr_errmsg *e);

/* Writing: the count, then exactly so many events (event i of a batch; event_id first_id + i).
 * JR_EINVAL, JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_dynamo_snapshot_write_count(uint64_t n_events, struct jr_buf *b);
JR_MUST_CHECK int jr_dynamo_snapshot_write(const struct jr_kv_batch *batch, uint32_t i,
                                           struct jr_buf *b);

#endif
