/* SPDX-License-Identifier: Apache-2.0 */
/* dynamo_export: an image of ours as Dynamo's `radix-state`. docs/protocol.md §4.
 *
 * Dynamo keeps blocks by local hash, an image says prefix hashes, of which the local one cannot be
 * had back. It is learnt from who said it: the radix-state written before, and the messages of the
 * stream that are still there. A prefix hash is of its parent's and a local hash, so what is learnt
 * of a block proves itself, in any order and of whatever history.
 *
 *     create(image) ──► learn(batch)… ──► seal ──► step… ──► bytes
 *
 * Pure; one thread at a time. */
#ifndef JR_APP_DRIVER_DYNAMO_EXPORT_H
#define JR_APP_DRIVER_DYNAMO_EXPORT_H

#include "base/buf.h"
#include "base/image.h"

struct jr_dynamo_export;

/* image is borrowed until destroy; arranged. Returns owned. JR_ENOMEM, JR_ECORRUPT (an entry of no
 * row). */
JR_MUST_CHECK int jr_dynamo_export_create(const struct jr_image *image,
                                          struct jr_dynamo_export **ret);
void jr_dynamo_export_destroy(struct jr_dynamo_export *x); /* NULL is fine */

/* The blocks that a batch stored; borrows it for the call. */
void jr_dynamo_export_learn(struct jr_dynamo_export *x, const struct jr_kv_batch *batch);

/* Nothing more is learnt. *ret_events: how many events are written, one a block of a rank;
 * *ret_left_out: blocks that are not, since it is not known what they are, or since their rank does
 * not hold the blocks before them (Dynamo has no way to say that). Rows that tell of lower media
 * (base/kv.h) are in neither. JR_ENOMEM. */
JR_MUST_CHECK int jr_dynamo_export_seal(struct jr_dynamo_export *x, uint64_t *ret_events,
                                        uint64_t *ret_left_out);
/* Appends the next events to b, at most 64 KiB; parents before children, shallow blocks first.
 * JR_ELIMIT, JR_ENOMEM of b. */
JR_MUST_CHECK int jr_dynamo_export_step(struct jr_dynamo_export *x, struct jr_buf *b,
                                        bool *ret_done);

#endif
