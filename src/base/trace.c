/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"
#include <stdarg.h>
#include <stdio.h>

void jr_trace_emit(const struct jr_trace *t, enum jr_trace_level level, const char *event,
                   const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    if (!t || !t->emit)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    t->emit(t->ctx, level, event, text);
}
