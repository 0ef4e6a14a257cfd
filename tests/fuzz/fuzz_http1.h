/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_http1: where the pieces are cut. The input begins with the count of cuts (its low four bits)
 * and as many sizes, which are used in turn; the message is the rest. */
#ifndef JR_FUZZ_HTTP1_H
#define JR_FUZZ_HTTP1_H

#include "../lib/jr_test_http1.h"
#include "fuzz_round_trip.h"

struct fuzz_cuts {
    const uint8_t *sizes;
    size_t n, i;
};

static inline struct fuzz_cuts fuzz_cuts_take(const uint8_t **p, size_t *n)
{
    struct fuzz_cuts cuts = {0};

    if (*n == 0)
        return cuts;
    cuts.n = **p & 15u;
    ++*p;
    --*n;
    if (cuts.n > *n)
        cuts.n = *n;
    cuts.sizes = *p;
    *p += cuts.n;
    *n -= cuts.n;
    return cuts;
}

/* The size of the next piece of n bytes. */
static inline size_t fuzz_cuts_next(struct fuzz_cuts *cuts, size_t n)
{
    if (cuts->n == 0)
        return n;
    const size_t size = 1u + cuts->sizes[cuts->i++ % cuts->n];
    return size < n ? size : n;
}

static inline void fuzz_same_bytes(const struct jr_buf *a, size_t a_n, const struct jr_buf *b)
{
    FUZZ_CHECK(a_n == b->n);
    FUZZ_CHECK(a_n == 0 || memcmp(a->p, b->p, a_n) == 0);
}

#endif
