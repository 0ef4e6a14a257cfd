/* SPDX-License-Identifier: Apache-2.0 */
/* busy: the vocabulary of busy thresholds: what is set by options, over HTTP and in the state bucket.
 * Plain data. */
#ifndef JR_BASE_BUSY_H
#define JR_BASE_BUSY_H

#include "base/limits.h"

#include <stdbool.h>
#include <stdint.h>

/* Above any of these a (worker, rank) is busy and gets no request. Negative or NaN reads as not
 * set. */
struct jr_busy_limits {
    bool has_decode_blocks, has_prefill_tokens, has_prefill_frac;
    double decode_blocks; /* share of its KV blocks that live requests hold */
    double prefill_tokens;
    double prefill_frac; /* of its prefill capacity */
};

static inline bool jr_busy_any(const struct jr_busy_limits *b)
{
    return b->has_decode_blocks || b->has_prefill_tokens || b->has_prefill_frac;
}

/* Those that are given replace what is there; the others stay. */
static inline void jr_busy_merge(struct jr_busy_limits *to, const struct jr_busy_limits *given)
{
    if (given->has_decode_blocks)
        to->decode_blocks = given->decode_blocks;
    if (given->has_prefill_tokens)
        to->prefill_tokens = given->prefill_tokens;
    if (given->has_prefill_frac)
        to->prefill_frac = given->prefill_frac;
    to->has_decode_blocks = to->has_decode_blocks || given->has_decode_blocks;
    to->has_prefill_tokens = to->has_prefill_tokens || given->has_prefill_tokens;
    to->has_prefill_frac = to->has_prefill_frac || given->has_prefill_frac;
}

/* The thresholds of one model, as the state bucket has them. */
struct jr_busy_record {
    char model[JR_MODEL_MAX];
    struct jr_busy_limits limits;
    bool deleted;     /* its own were taken back: those of the configuration hold; no limits */
    int64_t set_ns;   /* a copy of what was set then, in a bucket that was lost; 0: not a copy */
    int64_t after_ns; /* set over what was set then; 0: over nothing */
};

/* When it was set, by the clock of the server that stored it at time_ns. The greatest of all that are
 * known of a model is the newest; whatever the clocks, what was set over another is newer than that. */
static inline int64_t jr_busy_stamp_ns(const struct jr_busy_record *r, int64_t time_ns)
{
    if (r->set_ns)
        return r->set_ns;
    return time_ns > r->after_ns ? time_ns : r->after_ns + 1;
}

#endif
