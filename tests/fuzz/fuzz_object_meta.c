/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_round_trip.h"
#include "wire/object_meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_object_meta m, again;
    struct jr_errmsg e = {{0}};
    struct jr_buf a, b;
    jr_buf_init(&a, JR_OBJECT_META_BYTES_MAX);
    jr_buf_init(&b, JR_OBJECT_META_BYTES_MAX);
    int rv = jr_object_meta_decode(data, size, &m, &e);
    FUZZ_CHECK(rv == 0 || e.text[0]);
    if (rv == 0) {
        FUZZ_CHECK(jr_object_meta_encode(&m, &a) == 0);
        FUZZ_CHECK(jr_object_meta_decode(a.p, a.n, &again, NULL) == 0);
        FUZZ_CHECK(jr_object_meta_encode(&again, &b) == 0);
        fuzz_same(&a, &b);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    return 0;
}
