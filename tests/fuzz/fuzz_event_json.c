/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "fuzz_round_trip.h"
#include "wire/dynamo_json.h"
#include "wire/dynamo_scan.h"

static struct jr_dynamo_parser *parser;

/* The scanner takes less than the parser, and what it takes they read alike. */
static void compare_with_parser(const uint8_t *data, size_t size)
{
    struct jr_arena arena;
    struct jr_kv_batch fast, slow;
    struct jr_buf a, b;
    jr_arena_init(&arena, (size_t)16 << 20);
    jr_buf_init(&a, (size_t)16 << 20);
    jr_buf_init(&b, (size_t)16 << 20);
    if (size <= JR_BATCH_BYTES_MAX && jr_dynamo_scan(data, size, &arena, &fast) == 0) {
        FUZZ_CHECK(jr_dynamo_json_parse(parser, data, size, &arena, &slow, NULL) == 0);
        FUZZ_CHECK(fast.incarnation == 0 && fast.dynamo);
        FUZZ_CHECK(jr_dynamo_json_encode(&fast, 0, &a) == 0);
        FUZZ_CHECK(jr_dynamo_json_encode(&slow, 0, &b) == 0);
        fuzz_same(&a, &b);
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    jr_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jr_arena arena;
    struct jr_kv_batch batch, again;
    struct jr_buf a, b;
    if (!parser)
        parser = jr_dynamo_parser_create();
    compare_with_parser(data, size);
    jr_arena_init(&arena, (size_t)16 << 20);
    jr_buf_init(&a, (size_t)16 << 20);
    jr_buf_init(&b, (size_t)16 << 20);
    int rv = jr_dynamo_json_decode(parser, data, size, &arena, &batch, NULL);
    FUZZ_CHECK(rv == 0 || rv == JR_EPROTO || rv == JR_ELIMIT);
    if (rv == 0) {
        FUZZ_CHECK(batch.n_events == 1 && batch.dynamo);
        FUZZ_CHECK(jr_dynamo_json_encode(&batch, 0, &a) == 0);
        rv = jr_dynamo_json_decode(parser, a.p, a.n, &arena, &again, NULL);
        FUZZ_CHECK(rv == 0 || a.n > JR_BATCH_BYTES_MAX);
        if (rv == 0) {
            FUZZ_CHECK(jr_dynamo_json_encode(&again, 0, &b) == 0);
            fuzz_same(&a, &b);
        }
    }
    jr_buf_deinit(&a);
    jr_buf_deinit(&b);
    jr_arena_deinit(&arena);
    return 0;
}
