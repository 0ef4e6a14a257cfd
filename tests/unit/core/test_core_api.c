/* SPDX-License-Identifier: Apache-2.0 */
/* The embeddable library as an outsider uses it: only its public header (and cmocka). */
#include "jetrouter/jetrouter.h"
#include "base/err.h"
#include "jr_test.h"
#include <string.h>

#define BLOCK  4
#define TOKENS 40

static const struct jetrouter_worker one = {1, 0}, two = {2, 0}, two_b = {2, 1};

static struct jetrouter_request prompt(uint32_t *tokens, uint32_t first)
{
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = first + i;
    return (struct jetrouter_request){.tokens = tokens, .n_tokens = TOKENS};
}

static uint32_t blocks_of(const struct jetrouter *r, const struct jetrouter_request *request,
                          uint64_t name, struct jetrouter_block *ret)
{
    uint64_t local[TOKENS];
    uint32_t n = jetrouter_hash_tokens(r, request, local);

    for (uint32_t i = 0; i < n; i++)
        ret[i] = (struct jetrouter_block){name + i, local[i]};
    return n;
}

static void test_whole_way(void **state)
{
    struct jetrouter_options options = {.block_size = BLOCK};
    struct jetrouter_request request, other;
    struct jetrouter_block blocks[TOKENS];
    struct jetrouter_choice choice;
    struct jetrouter_stats stats;
    uint32_t tokens[TOKENS], tokens2[TOKENS], n;
    uint64_t digest, tail[2] = {508, 509}, unknown = 12345;
    struct jetrouter *r;

    (void)state;
    assert_int_equal(0, jetrouter_create(&options, &r));
    request = prompt(tokens, 100);
    other = prompt(tokens2, 100);
    other.lora = "adapter";
    assert_int_equal(JR_ENOWORKER, jetrouter_select(r, &request, 0, &choice));
    assert_int_equal(0, jetrouter_worker_add(r, one));
    assert_int_equal(0, jetrouter_worker_add(r, two));
    assert_int_equal(0, jetrouter_worker_add(r, two_b));
    assert_int_equal(JR_EEXIST, jetrouter_worker_add(r, two));

    n = blocks_of(r, &request, 500, blocks);
    assert_int_equal(TOKENS / BLOCK, n);
    assert_int_equal(JR_ENOTFOUND, jetrouter_stored(r, two_b, &unknown, blocks, n));
    assert_int_equal(0, jetrouter_stored(r, two_b, NULL, blocks, n - 2));
    assert_int_equal(0, jetrouter_stored(r, two_b, &blocks[n - 3].block_hash, &blocks[n - 2], 2));
    jetrouter_stats(r, &stats);
    digest = stats.digest;
    assert_int_equal(n, stats.entries);
    assert_int_equal(3, stats.workers);
    assert_int_equal(0, jetrouter_select(r, &request, 0, &choice));
    assert_true(choice.worker.id == 2 && choice.worker.dp_rank == 1);
    assert_int_equal(n, choice.overlap_blocks);
    assert_int_equal(BLOCK, choice.uncached_tokens); /* one block is always computed */
    assert_int_equal(0, jetrouter_select(r, &other, 0, &choice));
    assert_int_equal(0, choice.overlap_blocks); /* another adapter, other blocks */

    assert_int_equal(0, jetrouter_removed(r, two_b, tail, 2));
    assert_int_equal(0, jetrouter_select(r, &request, 0, &choice));
    assert_int_equal(n - 2, choice.overlap_blocks);
    assert_int_equal(0, jetrouter_stored(r, two_b, NULL, blocks, n));
    jetrouter_stats(r, &stats);
    assert_true(stats.digest == digest);
    assert_int_equal(0, jetrouter_cleared(r, two_b));
    assert_int_equal(0, jetrouter_worker_remove(r, two_b));
    assert_int_equal(JR_ENOTFOUND, jetrouter_worker_remove(r, two_b));
    assert_int_equal(JR_ENOTFOUND, jetrouter_stored(r, two_b, NULL, blocks, n));
    jetrouter_stats(r, &stats);
    assert_true(stats.digest == 0 && stats.entries == 0);
    jetrouter_destroy(r);
    jetrouter_destroy(NULL);
}

/* Load spreads, and a running request's prompt counts as cached where it runs. */
static void test_load(void **state)
{
    struct jetrouter_options options = {.block_size = BLOCK};
    struct jetrouter_request a, b;
    struct jetrouter_choice first, second;
    uint32_t tokens[TOKENS], tokens2[TOKENS];
    struct jetrouter_stats stats;
    struct jetrouter *r;

    (void)state;
    assert_int_equal(0, jetrouter_create(&options, &r));
    assert_int_equal(0, jetrouter_worker_add(r, one));
    assert_int_equal(0, jetrouter_worker_add(r, two));
    a = prompt(tokens, 100);
    b = prompt(tokens2, 900);
    assert_int_equal(0, jetrouter_select(r, &a, 0, &first));
    assert_int_equal(0, jetrouter_book(r, 1, &a, &first, 0));
    assert_int_equal(JR_EEXIST, jetrouter_book(r, 1, &a, &first, 0));
    assert_int_equal(0, jetrouter_select(r, &b, 0, &second));
    assert_true(second.worker.id != first.worker.id);
    assert_int_equal(0, jetrouter_select(r, &a, 0, &second));
    assert_true(second.worker.id == first.worker.id);
    assert_int_equal(9, second.cached_blocks);
    assert_int_equal(0, second.overlap_blocks);

    assert_int_equal(0, jetrouter_worker_remove(r, first.worker)); /* its request runs on */
    assert_int_equal(0, jetrouter_worker_add(r, first.worker));
    assert_int_equal(0, jetrouter_first_token(r, 1, 50));
    assert_int_equal(0, jetrouter_worker_remove(r, first.worker));
    assert_int_equal(0, jetrouter_free(r, 1, 90));
    assert_int_equal(JR_ENOTFOUND, jetrouter_free(r, 1, 90));
    assert_int_equal(JR_ENOTFOUND, jetrouter_book(r, 2, &a, &first, 0));
    jetrouter_stats(r, &stats);
    assert_int_equal(0, stats.requests);
    jetrouter_destroy(r);
}

/* The bytes of one router make another answer alike; wrong ones change nothing. */
static void test_export_import(void **state)
{
    struct jetrouter_options options = {.block_size = BLOCK};
    struct jetrouter_request request;
    struct jetrouter_block blocks[TOKENS];
    struct jetrouter_overlap held[2];
    struct jetrouter_stats a_stats, b_stats;
    uint32_t tokens[TOKENS], n;
    uint8_t bytes[4096];
    size_t size, again;
    struct jetrouter *a, *b;

    (void)state;
    assert_int_equal(0, jetrouter_create(&options, &a));
    assert_int_equal(0, jetrouter_create(&options, &b));
    assert_int_equal(0, jetrouter_export(a, bytes, sizeof bytes, &size)); /* of nothing */
    assert_int_equal(0, jetrouter_import(b, bytes, size));
    assert_int_equal(0, jetrouter_worker_add(a, one));
    assert_int_equal(0, jetrouter_worker_add(a, two_b));
    request = prompt(tokens, 100);
    n = blocks_of(a, &request, 500, blocks);
    assert_int_equal(0, jetrouter_stored(a, two_b, NULL, blocks, n));
    assert_int_equal(0, jetrouter_stored(a, one, NULL, blocks, 3));
    assert_int_equal(2, jetrouter_query(a, &request, held, 1));
    assert_int_equal(2, jetrouter_query(a, &request, held, 2));
    assert_int_equal(n + 3, held[0].blocks + held[1].blocks);

    assert_int_equal(JR_ELIMIT, jetrouter_export(a, NULL, 0, &size));
    assert_int_equal(JR_ELIMIT, jetrouter_export(a, bytes, size - 1, &again));
    assert_int_equal(0, jetrouter_export(a, bytes, size, &again));
    assert_true(again == size);
    assert_int_equal(0, jetrouter_worker_add(b, two));
    assert_int_equal(0, jetrouter_stored(b, two, NULL, blocks, n));
    jetrouter_stats(b, &b_stats);
    uint64_t digest = b_stats.digest;
    for (size_t i = 0; i < size; i++) { /* any wrong byte, and any wrong length */
        bytes[i] ^= 1;
        assert_true(jetrouter_import(b, bytes, size) < 0);
        bytes[i] ^= 1;
        assert_true(jetrouter_import(b, bytes, i) < 0);
    }
    jetrouter_stats(b, &b_stats);
    assert_true(b_stats.digest == digest && b_stats.workers == 1);
    assert_int_equal(0, jetrouter_import(b, bytes, size));
    jetrouter_stats(a, &a_stats);
    jetrouter_stats(b, &b_stats);
    assert_true(a_stats.digest == b_stats.digest && a_stats.entries == b_stats.entries);
    assert_int_equal(3, b_stats.workers);
    assert_int_equal(2, jetrouter_query(b, &request, held, 2));
    jetrouter_destroy(a);
    jetrouter_destroy(b);
}

static void test_limits(void **state)
{
    struct jetrouter_options options = {.block_size = 0};
    struct jetrouter_block blocks[TOKENS];
    struct jetrouter_request request;
    uint32_t tokens[TOKENS], n;
    struct jetrouter *r;

    (void)state;
    assert_int_equal(JR_EINVAL, jetrouter_create(&options, &r));
    options.block_size = BLOCK;
    options.bytes_max = 10;
    assert_int_equal(JR_ENOMEM, jetrouter_create(&options, &r));
    options.bytes_max = 0;
    options.index_entries_max = 3;
    assert_int_equal(0, jetrouter_create(&options, &r));
    assert_int_equal(0, jetrouter_worker_add(r, one));
    request = prompt(tokens, 1);
    n = blocks_of(r, &request, 1, blocks);
    assert_int_equal(JR_ELIMIT, jetrouter_stored(r, one, NULL, blocks, n));
    assert_string_equal("a limit was reached", jetrouter_error_text(JR_ELIMIT));
    assert_true(strlen(jetrouter_version()) > 0);
    jetrouter_destroy(r);
}

struct regions {
    struct jetrouter_region *last;
    unsigned n;
};

/* Always one behind: the last is touched when the pool is gone. */
static void warm(void *ctx, struct jetrouter_region *region)
{
    struct regions *regions = ctx;

    if (regions->last)
        jetrouter_region_touch(regions->last);
    regions->last = region;
    regions->n++;
}

static void test_warm(void **state)
{
    enum { RUN = 1000, RUNS = 600 };
    static struct jetrouter_block blocks[RUN];
    struct regions regions = {0};
    struct jetrouter_options options = {.block_size = BLOCK, .warm = warm, .warm_ctx = &regions};
    struct jetrouter_stats stats;
    struct jetrouter *r;

    (void)state;
    assert_int_equal(0, jetrouter_create(&options, &r));
    assert_int_equal(0, jetrouter_worker_add(r, one));
    for (uint64_t i = 0; i < (uint64_t)RUN * RUNS; i++) {
        blocks[i % RUN] = (struct jetrouter_block){i * 977, i * 1013 + 5};
        if (i % RUN == RUN - 1)
            assert_int_equal(0, jetrouter_stored(r, one, NULL, blocks, RUN));
    }
    jetrouter_stats(r, &stats);
    assert_int_equal(RUN * RUNS, stats.entries);
    jetrouter_destroy(r);
    if (regions.last)
        jetrouter_region_touch(regions.last);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__) /* all memory is malloc's there */
    assert_true(regions.n > 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_way),     cmocka_unit_test(test_load),
        cmocka_unit_test(test_export_import), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_warm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
