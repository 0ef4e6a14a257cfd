/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limit.h"

#include <stdatomic.h>

static atomic_uint_fast64_t counts[JR_LIMITS];

void jr_limit_reached(enum jr_limit limit)
{
    atomic_fetch_add_explicit(&counts[limit], 1, memory_order_relaxed);
}

uint64_t jr_limit_count(enum jr_limit limit)
{
    return atomic_load_explicit(&counts[limit], memory_order_relaxed);
}

const char *jr_limit_name(enum jr_limit limit)
{
    static const char *const names[JR_LIMITS] = {
#define X(key, name) [JR_LIMIT_##key] = name,
        JR_LIMIT_TABLE(X)
#undef X
    };
    return names[limit];
}
