/* SPDX-License-Identifier: Apache-2.0 */
/* event_codec: the messages of the event stream, bytes to struct jr_log_msg and back.
 * proto/jetrouter/v1/{event,control}.proto, docs/protocol.md §2, and Dynamo's JSON (dynamo_json.h).
 *
 * What a payload decodes to is a pure function of subject, headers and bytes: the same on every
 * replica, whatever its memory or flags. Pure; a decoder and an arena belong to one thread at a
 * time. */
#ifndef JR_WIRE_EVENT_CODEC_H
#define JR_WIRE_EVENT_CODEC_H

#include "base/buf.h"
#include "base/kv.h"
#include "base/str.h"
#include "wire/arena.h"

/* Last token of the subject. */
#define JR_SUBJECT_BATCH   "batch"
#define JR_SUBJECT_DYNAMO  "kv-events"
#define JR_SUBJECT_CONTROL "control"

/* NATS headers of an event in Dynamo's JSON that our bridge published (--event-format json).
 * Numbers are decimal; begin is "1" or absent. Dynamo ignores them. */
#define JR_HEADER_INCARNATION "Jr-Incarnation"
#define JR_HEADER_FIRST_ID    "Jr-First-Id"
#define JR_HEADER_BEGIN       "Jr-Begin"

/* What those headers said. With has_ids the batch has incarnation and ids as a protobuf batch has
 * (dynamo is false, cleared is per rank); bad makes the message undecodable. */
struct jr_event_ids {
    bool has_ids;
    bool bad;
    bool begin;
    uint64_t incarnation;
    uint64_t first_id;
};

/* From the header values, each a string or NULL when absent. All absent: no ids. Some but not the
 * first two, a zero incarnation or text that is no number: bad. Borrows only during the call. */
struct jr_event_ids jr_event_ids_parse(const char *incarnation, const char *first_id,
                                       const char *begin);

/* Scratch memory and JSON parser that are reused from message to message. One a thread. */
struct jr_event_decoder;
struct jr_event_decoder *jr_event_decoder_create(void); /* returns owned */
void jr_event_decoder_destroy(struct jr_event_decoder *d);

/* Most bytes of arena that one decoded message takes, whatever its bytes: an arena with this max
 * (and only such) never makes jr_event_decode fail. Typical use is about the payload's size. */
#define JR_EVENT_ARENA_MAX ((size_t)16 << 20)

/* Decode one message. Sets kind and u of *ret; seq, time_ns and payload_hash are the caller's
 * and stay. Arrays of *ret live in `arena` (borrowed until its reset); nothing of p is kept. `ids` may
 * be NULL and counts only for "kv-events".
 * Bad input is not an error: kind is UNDECODABLE (also: unknown subject, over a limit of limits.h)
 * or TOO_NEW (rules above JR_RULES_MAX, control kind unknown).
 * Errors: JR_ELIMIT (the arena is too small), JR_ENOMEM (the JSON parser); *ret is then not to be used. */
JR_MUST_CHECK int jr_event_decode(struct jr_event_decoder *d, struct jr_str subject_token,
                                  const void *p, size_t n, const struct jr_event_ids *ids,
                                  struct jr_arena *arena, struct jr_log_msg *ret);

/* XXH3-64 (seed 0) of a payload: what the history check remembers of a message. */
uint64_t jr_event_payload_hash(const void *p, size_t n);

/* Append the protobuf form to *b. Both fail without having been asked for by valid input only:
 * JR_EINVAL when the value breaks a rule that the decoder checks (so what was encoded always
 * decodes to the same), JR_ELIMIT or JR_ENOMEM from b. On failure b is as before. */
JR_MUST_CHECK int jr_event_encode_batch(const struct jr_kv_batch *batch, struct jr_buf *b);
JR_MUST_CHECK int jr_event_encode_control(const struct jr_control *control, struct jr_buf *b);

/* Bytes that event `e` adds to a batch at most: for closing one at JR_BATCH_TARGET_BYTES. */
size_t jr_event_size_max(const struct jr_kv_event *e);
#define JR_EVENT_BATCH_OVERHEAD 64 /* bytes of a batch beside its events, at most */

#endif
