/* SPDX-License-Identifier: Apache-2.0 */
/* trace: where pure layers say what happened. core and wire never log; they emit records into a
 * sink given at init, and the driver turns them into log lines. */
#ifndef JR_BASE_TRACE_H
#define JR_BASE_TRACE_H

#include <stdint.h>

enum jr_trace_level { JR_TRACE_DEBUG, JR_TRACE_INFO, JR_TRACE_WARN, JR_TRACE_ERROR };

struct jr_trace {
    void (*emit)(void *ctx, enum jr_trace_level level, const char *event, const char *text);
    void *ctx;
};

/* event: stable id such as "recovery.move"; the text is key=value pairs. t or emit may be NULL. */
void jr_trace_emit(const struct jr_trace *t, enum jr_trace_level level, const char *event,
                   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
