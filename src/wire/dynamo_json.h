/* SPDX-License-Identifier: Apache-2.0 */
/* dynamo_json: one RouterEvent of NVIDIA Dynamo v1.0 and later as JSON, in and out. The usual text
 * is read by a scanner (dynamo_scan.h), any other by a parser in C++ (simdjson's DOM: all of the
 * text is checked, so that every replica judges alike), the writing side is C. Format: docs/protocol.md §9.
 *
 * Read as serde reads it: u64 exact, unknown fields skipped, missing dp_rank 0, missing or null
 * parent the root, unit variant "cleared", duplicate known fields refused. An event of a storage
 * tier other than "device" (v1.1) becomes a removal of nothing: it keeps its place and does
 * nothing. Pure. A parser belongs to one thread at a time. */
#ifndef JR_WIRE_DYNAMO_JSON_H
#define JR_WIRE_DYNAMO_JSON_H

#include "base/buf.h"
#include "base/kv.h"
#include "wire/arena.h"

struct jr_dynamo_parser;                                /* buffers that are reused */
struct jr_dynamo_parser *jr_dynamo_parser_create(void); /* returns owned; NULL when out of memory */
void jr_dynamo_parser_destroy(struct jr_dynamo_parser *p);

/* text to *ret: dynamo = true, one event, incarnation 0, first_id = event_id. Arrays live in arena.
 * JR_EPROTO (not such an event), JR_ELIMIT (over limits.h: n, blocks, rank), JR_ENOMEM (arena full
 * or parser out of memory; the only one that says nothing about the input). e may be NULL. */
JR_MUST_CHECK int jr_dynamo_json_decode(struct jr_dynamo_parser *p, const void *text, size_t n,
                                        struct jr_arena *arena, struct jr_kv_batch *ret,
                                        struct jr_errmsg *e);

/* The same, by the parser alone: what it costs when a text has not the usual shape
 * (dynamo_scan.h), and what the scanner is held against in tests. */
JR_MUST_CHECK int jr_dynamo_json_parse(struct jr_dynamo_parser *p, const void *text, size_t n,
                                       struct jr_arena *arena, struct jr_kv_batch *ret,
                                       struct jr_errmsg *e);

/* Event i of the batch (event_id first_id + i) as RouterEvent v1.0, byte for byte as Dynamo 1.0.2
 * writes it, appended to b. JR_EINVAL (i, type), JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_dynamo_json_encode(const struct jr_kv_batch *batch, uint32_t i,
                                        struct jr_buf *b);

#endif
