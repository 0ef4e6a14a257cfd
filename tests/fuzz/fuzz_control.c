/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_round_trip.h"
#include "wire/event_codec.h"

static struct jr_event_decoder *decoder;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_arena arena;
    struct jr_log_msg m, again;
    struct jr_buf a, b;
    if (!decoder)
        decoder = jr_event_decoder_create();
    jr_arena_init(&arena, 2 * JR_EVENT_ARENA_MAX);
    jr_buf_init(&a, 1 << 20);
    jr_buf_init(&b, 1 << 20);
    struct jr_str subject = jr_str_of(JR_SUBJECT_CONTROL, strlen(JR_SUBJECT_CONTROL));
    FUZZ_CHECK(jr_event_decode(decoder, subject, data, size, NULL, &arena, &m) == 0);
    if (m.kind == JR_LOG_KIND_CONTROL) {
        FUZZ_CHECK(jr_event_encode_control(&m.u.control, &a) == 0);
        FUZZ_CHECK(jr_event_decode(decoder, subject, a.p, a.n, NULL, &arena, &again) == 0);
        FUZZ_CHECK(again.kind == JR_LOG_KIND_CONTROL);
        FUZZ_CHECK(jr_event_encode_control(&again.u.control, &b) == 0);
        fuzz_same(&a, &b);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    jr_arena_deinit(&arena);
    return 0;
}
