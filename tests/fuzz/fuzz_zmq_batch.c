/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an engine's batch; what decodes is encoded and decodes to the same number of events. */
#include <stdlib.h>
#include "base/limits.h"
#include "wire/arena.h"
#include "wire/engine_kv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct jr_arena arena;
    struct jr_engine_batch b, again;
    struct jr_errmsg e;
    struct jr_buf out;
    jr_arena_init(&arena, 64 << 20);
    jr_buf_init(&out, 64 << 20);
    if (jr_engine_batch_decode(p, n, &arena, &b, &e) == 0) {
        jr_engine_batch_encode(&out, &b, JR_ENGINE_VLLM_MAP);
        if (out.err != 0 || jr_engine_batch_decode(out.p, out.n, &arena, &again, &e) < 0 ||
            again.n_events != b.n_events || again.bad_events != 0) {
            abort();
        }
    }
    jr_buf_deinit(&out);
    jr_arena_deinit(&arena);
    return 0;
}
