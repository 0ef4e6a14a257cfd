/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of any size tell the same requests as one piece, and what was told can be written and read
 * again. */
#include "fuzz_http1.h"

#define BODY_MAX 3000

static void feed(struct jr_test_http1_server *s, const uint8_t *p, size_t n, struct fuzz_cuts cuts)
{
    jr_test_server_init(s, BODY_MAX);
    while (n > 0) {
        const size_t k = fuzz_cuts_next(&cuts, n);
        jr_test_server_feed(s, p, k);
        p += k;
        n -= k;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_cuts none;
    struct jr_test_http1_server whole, cut, again;
    const struct fuzz_cuts cuts = fuzz_cuts_take(&data, &size);

    if (size > 1 << 16)
        return 0;
    feed(&whole, data, size, none);
    feed(&cut, data, size, cuts);
    fuzz_same(&whole.log, &cut.log);
    fuzz_same(&whole.again, &cut.again);
    feed(&again, whole.again.p, whole.again.n, cuts);
    fuzz_same_bytes(&whole.log, whole.log_whole, &again.log);
    jr_test_server_deinit(&whole);
    jr_test_server_deinit(&cut);
    jr_test_server_deinit(&again);
    return 0;
}
