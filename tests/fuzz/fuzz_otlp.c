/* SPDX-License-Identifier: Apache-2.0 */
/* A collector's answer; and the same bytes as the texts of a span, which must fit and be UTF-8. */
#include "base/limits.h"
#include "fuzz_round_trip.h"
#include "wire/otlp_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_errmsg words = {""};
    uint64_t rejected;
    struct jr_buf b, again;
    struct jr_str text = jr_str_of((const char *)data, size);
    struct jr_otlp_attr attr = {.key = "k", .type = JR_OTLP_TEXT, .text = text};
    struct jr_otlp_span s = {.name = text,
                             .trace_state = text,
                             .kind = JR_OTLP_SERVER,
                             .attrs = &attr,
                             .n_attrs = 1,
                             .failed = true,
                             .words = text};
    (void)!jr_otlp_decode_response(data, size, &rejected, &words);
    jr_buf_init(&b, JR_SPAN_BYTES_MAX);
    FUZZ_CHECK(jr_otlp_encode_span(&s, &b) == 0);
    jr_buf_deinit(&b);
    /* What was cleaned is clean. */
    jr_buf_init(&b, 3 * size);
    jr_buf_init(&again, 3 * size);
    jr_buf_utf8(&b, text.p, text.n);
    jr_buf_utf8(&again, jr_buf_str(&b), b.n);
    fuzz_same(&b, &again);
    jr_buf_deinit(&again);
    jr_buf_deinit(&b);
    return 0;
}
