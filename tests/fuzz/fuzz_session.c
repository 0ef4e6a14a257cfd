/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_round_trip.h"
#include "wire/session_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_session_word w, again;
    struct jr_buf a, b;
    jr_buf_init(&a, JR_SESSION_BYTES_MAX);
    jr_buf_init(&b, JR_SESSION_BYTES_MAX);
    if (jr_session_decode(data, size, &w, NULL) == 0) {
        FUZZ_CHECK(jr_session_encode(&w, &a) == 0);
        FUZZ_CHECK(jr_session_decode(a.p, a.n, &again, NULL) == 0);
        FUZZ_CHECK(jr_session_encode(&again, &b) == 0);
        fuzz_same(&a, &b);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    return 0;
}
