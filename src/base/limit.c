/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limit.h"

#include "base/err.h"

#include <stdatomic.h>

static atomic_uint_fast64_t counts[JR_LIMITS];

int jr_limit(enum jr_limit limit)
{
    atomic_fetch_add_explicit(&counts[limit], 1, memory_order_relaxed);
    return JR_ELIMIT;
}

int jr_limit_of(enum jr_limit limit, int err)
{
    return err == JR_ELIMIT ? jr_limit(limit) : err;
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
