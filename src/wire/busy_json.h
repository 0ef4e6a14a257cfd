/* SPDX-License-Identifier: Apache-2.0 */
/* busy_json: the busy thresholds of a model as the state bucket has them, docs/protocol.md §9:
 *     {"model":…,"active_decode_blocks_threshold":…,"active_prefill_tokens_threshold":…,
 *      "active_prefill_tokens_threshold_frac":…}      null: not set
 *     "set_ns" and "after_ns", decimal texts, and "deleted", where there are: base/busy.h
 * Pure. */
#ifndef JR_WIRE_BUSY_JSON_H
#define JR_WIRE_BUSY_JSON_H

#include "base/buf.h"
#include "base/busy.h"
#include "base/err.h"

#define JR_BUSY_BYTES_MAX 4096

JR_MUST_CHECK int jr_busy_encode(const struct jr_busy_record *r, struct jr_buf *b);
/* Required: model, but of what is deleted. A threshold that is missing is not set. JR_EPROTO: no such document, or a
 * threshold that is not a finite number from 0 on. */
JR_MUST_CHECK int jr_busy_decode(const void *p, size_t n, struct jr_busy_record *ret,
                                 struct jr_errmsg *e);

#endif
