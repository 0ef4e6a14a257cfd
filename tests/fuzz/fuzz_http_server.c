/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of the real server: what it answers does not depend on how the bytes are cut. The
 * input begins with the cuts (fuzz_http1.h). */
#include "../lib/jr_test_http_rig.h"
#include "fuzz_http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All that was answered once nothing more comes. */
static void converse(struct jr_rig *rig, const uint8_t *p, size_t n, struct fuzz_cuts cuts,
                     struct jr_buf *ret)
{
    struct jr_rig_client c;
    unsigned quiet = 0;

    jr_rig_dial(rig, NULL, &c);
    while (n > 0) {
        const size_t k = fuzz_cuts_next(&cuts, n);
        jr_rig_send(&c, p, k, SIZE_MAX);
        while (!c.ended && jr_rig_read(&c)) {
        }
        p += k;
        n -= k;
    }
    while (!c.ended && quiet < 4) {
        jr_rig_turn(rig);
        quiet = jr_rig_read(&c) ? 0 : quiet + 1;
    }
    jr_rig_drop_interim(&c.got);
    jr_buf_put(ret, c.got.p, c.got.n);
    jr_rig_hang_up(&c);
    jr_rig_turn(rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fuzz_cuts none;
    static struct jr_rig rig;
    struct jr_buf whole, cut;
    const struct fuzz_cuts cuts = fuzz_cuts_take(&data, &size);

    if (size > 1 << 14)
        return 0;
    if (rig.loop == NULL)
        jr_rig_open(&rig, NULL);
    jr_buf_init(&whole, SIZE_MAX / 2);
    jr_buf_init(&cut, SIZE_MAX / 2);
    converse(&rig, data, size, none, &whole);
    converse(&rig, data, size, cuts, &cut);
    /* The kernel may hold back the end of one of them for a moment: that is not told apart here. */
    const size_t n = whole.n < cut.n ? whole.n : cut.n;
    FUZZ_CHECK(n == 0 || memcmp(whole.p, cut.p, n) == 0);
    jr_buf_deinit(&whole);
    jr_buf_deinit(&cut);
    return 0;
}
