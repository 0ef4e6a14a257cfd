/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arr.h"
#include "base/assert.h"

int jr_arr_reserve_raw(struct jr_mem *mem, void **v, uint32_t *cap, uint32_t n, uint32_t more,
                       uint32_t max, size_t elem_size)
{
    uint64_t need = (uint64_t)n + more, want;
    void *p;

    JR_ASSERT(n <= *cap && elem_size > 0);
    if (need > max)
        return JR_ELIMIT;
    if (need <= *cap)
        return 0;
    want = *cap < 8 ? 8 : (uint64_t)*cap * 2;
    if (want < need)
        want = need;
    if (want > max)
        want = max;
    if (want > SIZE_MAX / elem_size)
        return JR_ENOMEM;
    p = jr_mem_realloc(mem, *v, (size_t)*cap * elem_size, (size_t)want * elem_size);
    if (!p)
        return JR_ENOMEM;
    *v = p;
    *cap = (uint32_t)want;
    return 0;
}
