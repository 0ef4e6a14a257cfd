/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_round_trip.h"
#include "wire/sync_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_arena arena;
    struct jr_sync_batch s, again;
    struct jr_buf a, b;
    jr_arena_init(&arena, 2 * JR_SYNC_ARENA_MAX);
    jr_buf_init(&a, 1 << 20);
    jr_buf_init(&b, 1 << 20);
    int rv = jr_sync_decode(data, size, &arena, &s, NULL);
    FUZZ_CHECK(!arena.full);
    if (rv == 0 && jr_sync_encode(&s, &a) == 0) {
        FUZZ_CHECK(jr_sync_decode(a.p, a.n, &arena, &again, NULL) == 0);
        FUZZ_CHECK(jr_sync_encode(&again, &b) == 0);
        fuzz_same(&a, &b);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    jr_arena_deinit(&arena);
    return 0;
}
