/* SPDX-License-Identifier: Apache-2.0 */
/* chain: one step of the prefix hash chain (core/hash.h), inlined where it is the inner loop. */
#ifndef JR_CORE_CHAIN_H
#define JR_CORE_CHAIN_H

#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define JR_CHAIN_SEED 1337

static inline uint64_t jr_chain(uint64_t prev, uint64_t local)
{
    uint64_t pair[2] = {prev, local};
    return XXH3_64bits_withSeed(pair, sizeof pair, JR_CHAIN_SEED);
}

#endif
