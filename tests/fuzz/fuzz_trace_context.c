/* SPDX-License-Identifier: Apache-2.0 */
/* A traceparent that is taken is written as one that reads as the same. */
#include "fuzz_round_trip.h"
#include "wire/trace_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_trace_context a, b;
    char text[JR_TRACE_CONTEXT_LEN + 1];
    if (jr_trace_context_parse(jr_str_of((const char *)data, size), &a) < 0)
        return 0;
    jr_trace_context_format(&a, text);
    FUZZ_CHECK(jr_trace_context_parse(jr_str_of(text, JR_TRACE_CONTEXT_LEN), &b) == 0);
    FUZZ_CHECK(memcmp(&a, &b, sizeof a) == 0);
    return 0;
}
