/* SPDX-License-Identifier: Apache-2.0 */
/* The hash stops nearly every mutation, so the input is also tried with its last 32 bytes put right:
 * the trailer ends with the hash, as the encoder writes it. */
#include "fuzz_round_trip.h"
#include "wire/snapshot_codec.h"
#include <sodium/crypto_generichash.h>

#define MAGIC_BYTES 8

static void round_trip(const uint8_t *data, size_t size)
{
    struct jr_image *image, *again;
    struct jr_buf a, b;
    if (jr_snapshot_decode(data, size, &image, NULL) < 0)
        return;
    jr_buf_init(&a, 2 * size + 4096);
    jr_buf_init(&b, 2 * size + 4096);
    FUZZ_CHECK(jr_snapshot_encode(image, &a) == 0);
    FUZZ_CHECK(jr_snapshot_decode(a.p, a.n, &again, NULL) == 0);
    FUZZ_CHECK(jr_snapshot_encode(again, &b) == 0);
    fuzz_same(&a, &b);
    jr_image_destroy(image);
    jr_image_destroy(again);
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
}

/* Start of the last frame's length word, or 0. */
static size_t last_frame(const uint8_t *p, size_t n)
{
    size_t at = MAGIC_BYTES, last = 0;
    while (at + 4 <= n) {
        size_t len =
            p[at] | (size_t)p[at + 1] << 8 | (size_t)p[at + 2] << 16 | (size_t)p[at + 3] << 24;
        last = at;
        if (len == 0 || len > n - at - 4)
            return 0;
        at += 4 + len;
    }
    return at == n ? last : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    round_trip(data, size);
    size_t last = size > MAGIC_BYTES ? last_frame(data, size) : 0;
    if (last && size - last >= 4 + 32) {
        uint8_t *copy = malloc(size);
        FUZZ_CHECK(copy != NULL);
        memcpy(copy, data, size);
        crypto_generichash(copy + size - 32, 32, copy, last, NULL, 0);
        round_trip(copy, size);
        free(copy);
    }
    return 0;
}
