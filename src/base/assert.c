/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static void (*_Atomic sink_fn)(const char *text);

void jr_assert_set_sink(void (*sink)(const char *text))
{
    atomic_store(&sink_fn, sink);
}

void jr_assert_fail(const char *expr, const char *file, int line, const char *func)
{
    char text[512];
    void (*sink)(const char *) = atomic_load(&sink_fn);

    if (sink) {
        (void)snprintf(text, sizeof text, "%s:%d: %s: assertion failed: %s", file, line, func,
                       expr);
        sink(text);
    }
    abort();
}
