/* SPDX-License-Identifier: Apache-2.0 */
#include "app/driver/dynamo_export.h"
#include "app/driver/dynamo_import.h"
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

static int learn(void *arg, const struct jr_kv_batch *batch)
{
    jr_dynamo_export_learn(arg, batch);
    return 0;
}

/* As a state of ours, and out again: what Dynamo can hold of it comes back the same. */
static void export_again(const uint8_t *data, size_t size, const struct jr_image *image)
{
    struct jr_dynamo_export *x;
    struct jr_image *back = NULL;
    struct jr_buf b;
    uint64_t events, left_out;
    bool done = false;
    jr_buf_init(&b, (size_t)64 << 20);
    FUZZ_CHECK(jr_dynamo_export_create(image, &x) == 0);
    FUZZ_CHECK(jr_dynamo_snapshot_read(data, size, learn, x, NULL, NULL) == 0);
    FUZZ_CHECK(jr_dynamo_export_seal(x, &events, &left_out) == 0);
    FUZZ_CHECK(events + left_out == image->n_entries);
    while (!done)
        FUZZ_CHECK(jr_dynamo_export_step(x, &b, &done) == 0);
    FUZZ_CHECK(jr_dynamo_import(b.p, b.n, 1, 1, &back, NULL) == 0);
    FUZZ_CHECK(back->n_entries == events);
    FUZZ_CHECK(left_out || back->digest_blocks == image->digest_blocks);
    jr_image_destroy(back);
    jr_dynamo_export_destroy(x);
    jr_buf_deinit(&b);
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
    struct jr_image *image = NULL;
    if (jr_dynamo_import(data, size, 1, 1, &image, NULL) == 0) {
        export_again(data, size, image);
        jr_image_destroy(image);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    return 0;
}
