/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_round_trip.h"
#include "wire/dynamo_snapshot.h"

static int write_event(void *arg, const struct jr_kv_batch *batch)
{
    FUZZ_CHECK(batch->n_events == 1 && batch->dynamo);
    return jr_dynamo_snapshot_write(batch, 0, arg);
}

/* Read into b as it is written again; how many events, or an error. */
static int copy(const uint8_t *data, size_t size, struct jr_buf *b)
{
    uint64_t n;
    int rv = jr_dynamo_snapshot_read(data, size, NULL, NULL, &n, NULL);
    if (rv == 0)
        rv = jr_dynamo_snapshot_write_count(n, b);
    if (rv == 0)
        rv = jr_dynamo_snapshot_read(data, size, write_event, b, NULL, NULL);
    return rv;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_buf a, b;
    jr_buf_init(&a, size + 8);
    jr_buf_init(&b, size + 8);
    if (copy(data, size, &a) == 0) {
        FUZZ_CHECK(copy(a.p, a.n, &b) == 0);
        fuzz_same(&a, &b);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    return 0;
}
