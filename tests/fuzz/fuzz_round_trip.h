/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_round_trip: what the round-trip targets share: decode, check, encode, decode, encode: the second
 * and the first encoding are the same bytes. */
#ifndef JR_FUZZ_ROUND_TRIP_H
#define JR_FUZZ_ROUND_TRIP_H

#include "base/buf.h"
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_CHECK(e) ((e) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_same(const struct jr_buf *a, const struct jr_buf *b)
{
    FUZZ_CHECK(a->n == b->n);
    FUZZ_CHECK(a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

#endif
