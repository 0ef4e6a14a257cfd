/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of any size tell the same replies as one piece, and what was told can be written and read
 * again. The first byte says which replies are to a HEAD. */
#include "fuzz_http1.h"

static void feed(struct jr_test_http1_client *c, uint8_t heads, const uint8_t *p, size_t n,
                 struct fuzz_cuts cuts)
{
    jr_test_client_init(c, heads);
    while (n > 0) {
        const size_t k = fuzz_cuts_next(&cuts, n);
        jr_test_client_feed(c, p, k);
        p += k;
        n -= k;
    }
    jr_test_client_eof(c);
}

/* Behind whole replies nothing is left open. */
static void drop_empty_end(struct jr_buf *log)
{
    static const char end[] = "open 0\n\n";
    const size_t n = sizeof end - 1;

    FUZZ_CHECK(log->n >= n && memcmp(log->p + log->n - n, end, n) == 0);
    log->n -= n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_cuts none;
    struct jr_test_http1_client whole, cut, again;

    if (size == 0 || size > 1 << 16)
        return 0;
    const uint8_t heads = *data++;
    size--;
    const struct fuzz_cuts cuts = fuzz_cuts_take(&data, &size);
    feed(&whole, heads, data, size, none);
    feed(&cut, heads, data, size, cuts);
    fuzz_same(&whole.log, &cut.log);
    fuzz_same(&whole.again, &cut.again);
    feed(&again, heads, whole.again.p, whole.again.n, cuts);
    if (again.log_whole < again.log.n)
        drop_empty_end(&again.log);
    fuzz_same_bytes(&whole.log, whole.log_whole, &again.log);
    jr_test_client_deinit(&whole);
    jr_test_client_deinit(&cut);
    jr_test_client_deinit(&again);
    return 0;
}
