/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "base/assert.h"

/* PCG32 as in pcg-random.org's minimal C reference (pcg_basic.c): the same seed and stream give the
 * same numbers there. */
#define MULTIPLIER UINT64_C(6364136223846793005)

void jr_rng_init(struct jr_rng *r, uint64_t seed, uint64_t stream)
{
    r->state = 0;
    r->inc = stream << 1 | 1;
    (void)jr_rng_u32(r);
    r->state += seed;
    (void)jr_rng_u32(r);
}

uint32_t jr_rng_u32(struct jr_rng *r)
{
    uint64_t old = r->state;
    uint32_t mixed = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t turn = (uint32_t)(old >> 59);

    r->state = old * MULTIPLIER + r->inc;
    return mixed >> turn | mixed << ((32 - turn) & 31);
}

uint64_t jr_rng_u64(struct jr_rng *r)
{
    uint64_t high = jr_rng_u32(r);

    return high << 32 | jr_rng_u32(r);
}

uint32_t jr_rng_below(struct jr_rng *r, uint32_t n)
{
    uint32_t refuse;

    JR_ASSERT(n > 0);
    /* 2^32 mod n: what is below it would make the low remainders likelier. */
    refuse = (UINT32_MAX - n + 1) % n;
    for (;;) {
        uint32_t v = jr_rng_u32(r);
        if (v >= refuse)
            return v % n;
    }
}

double jr_rng_unit(struct jr_rng *r)
{
    return (double)(jr_rng_u64(r) >> 11) * 0x1p-53;
}
