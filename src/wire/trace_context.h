/* SPDX-License-Identifier: Apache-2.0 */
/* trace_context: the W3C traceparent field (Trace Context, level 1): who called, in which trace, and
 * whether that trace is recorded. Pure; any thread.
 *
 *     00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *     version  trace id                   span id      flags
 *
 * A higher version is read as far as this one goes, if what follows is set off by a dash (§3.2.4). */
#ifndef JR_WIRE_TRACE_CONTEXT_H
#define JR_WIRE_TRACE_CONTEXT_H

#include "base/str.h"

#define JR_TRACE_CONTEXT_LEN 55 /* as text */
#define JR_TRACE_SAMPLED     0x01
#define JR_TRACE_RANDOM      0x02 /* level 2: the trace id is random; goes on as it came */

struct jr_trace_context {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t flags; /* those of the two above that were set */
};

/* JR_EPROTO: no valid one; *ret is untouched. */
JR_MUST_CHECK int jr_trace_context_parse(struct jr_str text, struct jr_trace_context *ret);
/* JR_TRACE_CONTEXT_LEN bytes and a NUL, of version 00. */
void jr_trace_context_format(const struct jr_trace_context *c, char *ret);
/* Is a new trace of this id one of those that are recorded? By its last 8 bytes, so that all who know
 * the share say the same. share: 0 none to 1 all. */
bool jr_trace_context_is_picked(const uint8_t trace_id[16], double share);

#endif
