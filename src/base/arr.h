/* SPDX-License-Identifier: Apache-2.0 */
/* arr: typed growable arrays with a maximum, over jr_mem.
 *
 *     struct workers { JR_ARR_FIELDS(struct worker); };
 *     if (jr_arr_reserve(mem, &a, 1, JR_WORKERS_MAX) < 0) …
 *     a.v[a.n++] = w;
 */
#ifndef JR_BASE_ARR_H
#define JR_BASE_ARR_H

#include "base/err.h"
#include "base/mem.h"

#define JR_ARR_FIELDS(type)                                                                        \
    type *v;                                                                                       \
    uint32_t n;                                                                                    \
    uint32_t cap

/* Make room for `more` further elements, at most max in all: 0, JR_ELIMIT or JR_ENOMEM. */
#define jr_arr_reserve(mem, a, more, max)                                                          \
    jr_arr_reserve_raw((mem), (void **)&(a)->v, &(a)->cap, (a)->n, (more), (max), sizeof *(a)->v)
#define jr_arr_free(mem, a)                                                                        \
    do {                                                                                           \
        jr_mem_free((mem), (a)->v, (size_t)(a)->cap * sizeof *(a)->v);                             \
        (a)->v = NULL;                                                                             \
        (a)->n = (a)->cap = 0;                                                                     \
    } while (0)

JR_MUST_CHECK int jr_arr_reserve_raw(struct jr_mem *mem, void **v, uint32_t *cap, uint32_t n,
                                     uint32_t more, uint32_t max, size_t elem_size);

#endif
