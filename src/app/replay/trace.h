/* SPDX-License-Identifier: Apache-2.0 */
/* trace: requests of a trace in Mooncake's format, and the prompts they stand for.
 *
 *     {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, … 13]}
 *          ms since the start; tokens; tokens; one id for each 512 tokens of the prompt
 *
 * A trace holds no text. Token j of hash id h is a function of (h, j), so prompts that share their
 * first ids share their first tokens, and every run of every program that uses it sends the same.
 * Pure: no files, no clock. Any thread. */
#ifndef JR_APP_REPLAY_TRACE_H
#define JR_APP_REPLAY_TRACE_H

#include "base/err.h"
#include <stdint.h>

#define JR_TRACE_HASH_TOKENS 512
#define JR_TRACE_GAP_MS      5
#define JR_TRACE_VOCABULARY  50000 /* every model in use has at least as many tokens */

struct jr_trace_row {
    double timestamp_ms;
    uint32_t input_length, output_length; /* tokens, at least 1 each */
    uint32_t first_hash, n_hashes;        /* in jr_trace.hashes */
};

struct jr_trace {
    struct jr_trace_row *rows; /* in order of time */
    uint32_t n, cap;
    uint64_t *hashes;
    uint32_t n_hashes, cap_hashes;
};

/* Reads text, at most limit rows of it (0: all). Strict: the four fields once each, times that never
 * go back, as many ids as the length asks for; unknown fields and empty lines are skipped.
 * JR_EINVAL with "line N: …" in e; JR_ELIMIT beyond JR_TRACE_ROWS_MAX or JR_TRACE_HASHES_MAX. *ret is
 * the caller's, to deinit, also zeroed after an error. */
JR_MUST_CHECK int jr_trace_parse(const char *text, size_t n, uint64_t limit, struct jr_trace *ret,
                                 struct jr_errmsg *e);
void jr_trace_deinit(struct jr_trace *t);

/* When each request is to leave, in ns after the first: n numbers into dst. speed > 0. Timestamps of
 * published traces are coarse, many requests share one: these leave in the trace's order up to
 * JR_TRACE_GAP_MS apart and before the next timestamp, so that they also arrive in that order and a
 * replay can be repeated. */
void jr_trace_due_ns(const struct jr_trace *t, double speed, uint64_t *dst);

/* Below JR_TRACE_VOCABULARY. */
uint32_t jr_trace_token(uint64_t hash_id, uint32_t j);
/* The prompt of a row: input_length tokens into dst. */
void jr_trace_prompt(const struct jr_trace *t, const struct jr_trace_row *row, uint32_t *dst);

#endif
