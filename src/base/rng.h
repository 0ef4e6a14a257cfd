/* SPDX-License-Identifier: Apache-2.0 */
/* rng: PCG32 (O'Neill 2014, XSH-RR 64/32). State lives in the object; same seed, same numbers. */
#ifndef JR_BASE_RNG_H
#define JR_BASE_RNG_H

#include <stdint.h>

struct jr_rng {
    uint64_t state, inc;
};

void jr_rng_init(struct jr_rng *r, uint64_t seed, uint64_t stream);
uint32_t jr_rng_u32(struct jr_rng *r);
uint64_t jr_rng_u64(struct jr_rng *r);
uint32_t jr_rng_below(struct jr_rng *r, uint32_t n); /* uniform in 0..n-1; n > 0 */
double jr_rng_unit(struct jr_rng *r);                /* uniform in [0, 1) */

#endif
