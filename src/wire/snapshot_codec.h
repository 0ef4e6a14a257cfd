/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_codec: struct jr_image <-> the bytes of a snapshot object. docs/protocol.md §4.
 *
 *   "JRSNAP1\n" | frame | frame | … | frame        frame = u32 LE length, SnapshotFrame (protobuf)
 *                 header  ranks*  entries*  trailer
 *
 * The trailer is last and holds the counts and BLAKE2b-256 over all bytes before its length word.
 * The encoder is streaming, for a thread that uploads while it encodes, or for slices on a loop;
 * the decoder takes the whole object and trusts nothing. Pure; one thread at a time each. */
#ifndef JR_WIRE_SNAPSHOT_CODEC_H
#define JR_WIRE_SNAPSHOT_CODEC_H

#include "base/buf.h"
#include "base/image.h"
#include <stdbool.h>

#define JR_SNAPSHOT_FORMAT_MAX 1 /* newest that this program reads and writes */
#define JR_SNAPSHOT_FORMAT_MIN 1

struct jr_snapshot_encoder;

/* image is borrowed until destroy and must not change. *ret is owned by the caller.
 * JR_EVERSION (image->format is not writable), JR_EINVAL (ranks unsorted or too many). */
JR_MUST_CHECK int jr_snapshot_encoder_create(const struct jr_image *image,
                                             struct jr_snapshot_encoder **ret);
void jr_snapshot_encoder_destroy(struct jr_snapshot_encoder *e);

/* Append the next frame (at most JR_SNAPSHOT_RUN entries, about 80 KiB) to b. *ret_done is true
 * when that was the trailer. The caller may take or consume b between calls. JR_EINVAL (an entry
 * names a rank out of range), JR_ELIMIT or JR_ENOMEM from b: start anew. */
JR_MUST_CHECK int jr_snapshot_encoder_step(struct jr_snapshot_encoder *e, struct jr_buf *b,
                                           bool *ret_done);

/* All of it at once. */
JR_MUST_CHECK int jr_snapshot_encode(const struct jr_image *image, struct jr_buf *b);

/* The whole object to an image (*ret returns owned: jr_image_destroy). Every length, count, order,
 * index and the hash are checked; the digests are the caller's to check, after restoring.
 * JR_ETRUNC (ends early), JR_EVERSION (format or rules too new: nothing else was judged),
 * JR_ECORRUPT (hash or counts do not match), JR_EPROTO (not a snapshot, malformed), JR_ELIMIT;
 * words in e (may be NULL). */
JR_MUST_CHECK int jr_snapshot_decode(const void *p, size_t n, struct jr_image **ret,
                                     struct jr_errmsg *e);

#endif
