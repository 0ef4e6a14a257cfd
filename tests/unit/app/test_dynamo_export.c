/* SPDX-License-Identifier: Apache-2.0 */
/* Images of ours as Dynamo's radix-state: what Dynamo wrote comes out again, and random states. */
#include "app/driver/dynamo_export.h"
#include "app/driver/dynamo_import.h"
#include "base/rng.h"
#include "core/hash.h"
#include "core/index.h"
#include "jr_test.h"
#include "wire/dynamo_snapshot.h"

#include <stdlib.h>
#include <string.h>

/* One event of an object, flat. */
struct said {
    uint64_t worker, block, local, parent;
    uint32_t rank, has_parent;
};

struct all_said {
    struct said v[4096];
    uint32_t n;
};

static int gather(void *arg, const struct jr_kv_batch *batch)
{
    struct all_said *a = arg;
    const struct jr_kv_event *e = &batch->events[0];
    assert_int_equal(e->type, JR_KV_STORED);
    assert_int_equal(e->n, 1);
    assert_true(a->n < 4096);
    a->v[a->n++] = (struct said){batch->worker_id,        e->blocks[0].block_hash,
                                 e->blocks[0].local_hash, e->has_parent ? e->parent_hash : 0,
                                 batch->dp_rank,          e->has_parent};
    return 0;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct said));
}

static void read_object(const void *p, size_t n, struct all_said *ret)
{
    uint64_t events;
    ret->n = 0;
    assert_int_equal(jr_dynamo_snapshot_read(p, n, gather, ret, &events, NULL), 0);
    assert_int_equal(ret->n, events);
    qsort(ret->v, ret->n, sizeof *ret->v, compare);
}

static int learn(void *arg, const struct jr_kv_batch *batch)
{
    jr_dynamo_export_learn(arg, batch);
    return 0;
}

static void finish(struct jr_dynamo_export *x, struct jr_buf *b, uint64_t *ret_events,
                   uint64_t *ret_left_out)
{
    bool done = false;
    assert_int_equal(jr_dynamo_export_seal(x, ret_events, ret_left_out), 0);
    while (!done)
        assert_int_equal(jr_dynamo_export_step(x, b, &done), 0);
    jr_dynamo_export_destroy(x);
}

/* The capture as an image, which knows no local hashes, and out again. */
static void test_captured(void **state)
{
    (void)state;
    struct all_said *before = jr_xalloc(sizeof *before), *after = jr_xalloc(sizeof *after);
    struct jr_image *image = NULL;
    struct jr_dynamo_export *x;
    struct jr_errmsg e = {0};
    struct jr_buf b;
    uint64_t events, left_out;
    size_t n;
    uint8_t *bytes = jr_test_fixture("/dynamo/radix-state.bin", &n);
    jr_buf_init(&b, 1 << 20);
    assert_int_equal(jr_dynamo_import(bytes, n, 1, 230, &image, &e), 0);
    assert_int_equal(jr_dynamo_export_create(image, &x), 0);
    assert_int_equal(jr_dynamo_snapshot_read(bytes, n, learn, x, NULL, NULL), 0);
    finish(x, &b, &events, &left_out);
    assert_int_equal(events, 254);
    assert_int_equal(left_out, 0);
    assert_int_equal(b.n, n); /* in another order: Dynamo has none */
    read_object(bytes, n, before);
    read_object(b.p, b.n, after);
    assert_int_equal(after->n, before->n);
    assert_memory_equal(after->v, before->v, before->n * sizeof *before->v);

    /* Nothing learnt, nothing written. */
    jr_buf_clear(&b);
    assert_int_equal(jr_dynamo_export_create(image, &x), 0);
    finish(x, &b, &events, &left_out);
    assert_int_equal(events, 0);
    assert_int_equal(left_out, 254);
    assert_int_equal(b.n, 8);
    jr_image_destroy(image);
    jr_buf_deinit(&b);
    jr_xfree(bytes);
    jr_xfree(before);
    jr_xfree(after);
}

/* ---------------------------------------------------------------- random states */

#define BLOCKS 300
#define RANKS  5

/* Blocks of the fleet: a forest by parent. names: what each rank calls it, 0 when it was never
 * stored there; held: it is there now; known: somebody says what it is. */
struct forest {
    int parent[BLOCKS];
    uint64_t local[BLOCKS], prefix[BLOCKS], names[RANKS][BLOCKS];
    bool held[RANKS][BLOCKS], whole[RANKS][BLOCKS];
};

static const struct jr_image_rank ranks[RANKS] = {{.worker_id = 3, .dp_rank = 0, .incarnation = 9},
                                                  {.worker_id = 3, .dp_rank = 7},
                                                  {.worker_id = 5},
                                                  {.worker_id = UINT64_MAX - 1, .dp_rank = 1},
                                                  {.worker_id = UINT64_MAX}};

static void grow(struct forest *f, struct jr_rng *r)
{
    memset(f, 0, sizeof *f);
    for (int i = 0; i < BLOCKS; i++) {
        f->parent[i] = i && jr_rng_below(r, 8) ? (int)jr_rng_below(r, (uint32_t)i) : -1;
        f->local[i] = jr_rng_u64(r);
        f->prefix[i] =
            f->parent[i] < 0 ? f->local[i] : jr_hash_chain(f->prefix[f->parent[i]], f->local[i]);
        for (int k = 0; k < RANKS; k++) {
            int up = f->parent[i];
            if ((up >= 0 && !f->names[k][up]) || !jr_rng_below(r, 4))
                continue;
            f->names[k][i] = jr_rng_below(r, 2) ? f->prefix[i] : jr_rng_u64(r);
            f->held[k][i] = jr_rng_below(r, 20) > 0;
            f->whole[k][i] = f->held[k][i] && (up < 0 || f->whole[k][up]);
        }
    }
}

static struct jr_image *image_of(const struct forest *f, uint64_t *ret_whole, uint64_t *ret_digest)
{
    struct jr_image *image = jr_image_create();
    image->ranks = jr_xalloc(sizeof ranks);
    memcpy(image->ranks, ranks, sizeof ranks);
    image->n_ranks = RANKS;
    image->entries = jr_xalloc((size_t)BLOCKS * RANKS * sizeof *image->entries);
    for (int i = 0; i < BLOCKS; i++)
        for (int k = 0; k < RANKS; k++) {
            if (!f->held[k][i])
                continue;
            image->entries[image->n_entries++] = (struct jr_image_entry){
                .block_hash = f->names[k][i], .prefix_hash = f->prefix[i], .rank = (uint16_t)k};
            if (!f->whole[k][i])
                continue;
            ++*ret_whole;
            *ret_digest += jr_index_digest_term(ranks[k].worker_id, ranks[k].dp_rank,
                                                f->names[k][i], f->prefix[i]);
        }
    return image;
}

/* Each block that was ever stored, in an order of its own: nothing depends on it. */
static void teach(const struct forest *f, struct jr_rng *r, struct jr_dynamo_export *x)
{
    uint32_t from = jr_rng_below(r, BLOCKS);
    for (uint32_t at = 0; at < BLOCKS; at++) {
        uint32_t i = (from + at) % BLOCKS;
        for (int k = 0; k < RANKS; k++) {
            struct jr_kv_block block = {f->names[k][i], f->local[i]};
            struct jr_kv_event e = {.type = JR_KV_STORED, .blocks = &block, .n = 1};
            struct jr_kv_batch batch = {.worker_id = ranks[k].worker_id,
                                        .dp_rank = ranks[k].dp_rank,
                                        .incarnation = 77,
                                        .events = &e,
                                        .n_events = 1};
            if (!f->names[k][i])
                continue;
            e.has_parent = f->parent[i] >= 0;
            e.parent_hash = e.has_parent ? f->names[k][f->parent[i]] : 0;
            jr_dynamo_export_learn(x, &batch);
            batch.worker_id = 4; /* a rank that is not there */
            jr_dynamo_export_learn(x, &batch);
        }
    }
}

static void one_forest(struct jr_rng *r)
{
    struct forest *f = jr_xalloc(sizeof *f);
    struct jr_dynamo_export *x;
    struct jr_image *back = NULL;
    struct jr_errmsg e = {0};
    struct jr_buf b;
    uint64_t whole = 0, digest = 0, events, left_out;
    grow(f, r);
    struct jr_image *image = image_of(f, &whole, &digest);
    jr_buf_init(&b, 1 << 20);
    assert_int_equal(jr_dynamo_export_create(image, &x), 0);
    teach(f, r, x);
    finish(x, &b, &events, &left_out);
    assert_int_equal(events, whole);
    assert_int_equal(left_out, image->n_entries - whole);
    /* Every parent comes before its children, and what comes back is what went out. */
    assert_int_equal(jr_dynamo_import(b.p, b.n, 1, 1, &back, &e), 0);
    assert_int_equal(back->n_entries, whole);
    assert_true(back->digest_blocks == digest);
    jr_image_destroy(back);
    jr_image_destroy(image);
    jr_buf_deinit(&b);
    jr_xfree(f);
}

static void test_random(void **state)
{
    (void)state;
    struct jr_rng r;
    jr_rng_init(&r, jr_test_seed(), 1);
    for (int i = 0; i < 50; i++)
        one_forest(&r);
}

/* One prefix under two names at one rank; a row of the table that does not exist. */
static void test_odd_images(void **state)
{
    (void)state;
    struct jr_image_entry entries[3] = {
        {.block_hash = 1, .prefix_hash = 50},
        {.block_hash = 2, .prefix_hash = 50},
        {.block_hash = 3, .prefix_hash = jr_hash_chain(50, 60)},
    };
    struct jr_image_rank rank = {.worker_id = 8};
    struct jr_image image = {.ranks = &rank, .n_ranks = 1, .entries = entries, .n_entries = 3};
    struct jr_kv_block run[2] = {{2, 50}, {3, 60}};
    struct jr_kv_event e = {.type = JR_KV_STORED, .blocks = run, .n = 2};
    struct jr_kv_batch batch = {.worker_id = 8, .events = &e, .n_events = 1};
    struct jr_dynamo_export *x;
    struct all_said *said = jr_xalloc(sizeof *said);
    struct jr_buf b;
    uint64_t events, left_out;
    jr_buf_init(&b, 1 << 10);
    assert_int_equal(jr_dynamo_export_create(&image, &x), 0);
    jr_dynamo_export_learn(x, &batch);
    finish(x, &b, &events, &left_out);
    assert_int_equal(events, 3);
    assert_int_equal(left_out, 0);
    read_object(b.p, b.n, said);
    assert_true(said->v[2].block == 3 && said->v[2].parent == 1 && said->v[2].local == 60);
    entries[1].rank = 1;
    assert_int_equal(jr_dynamo_export_create(&image, &x), JR_ECORRUPT);
    jr_buf_deinit(&b);
    jr_xfree(said);
}

/* Rows of lower media are no ranks of Dynamo's; one that has another incarnation is a rank. */
static void test_lower_rows(void **state)
{
    (void)state;
    struct jr_image_rank rows[] = {{.worker_id = 8, .incarnation = 5},
                                   {.worker_id = 8, .dp_rank = 64, .incarnation = 5},
                                   {.worker_id = 8, .dp_rank = 128, .incarnation = 6},
                                   {.worker_id = 9, .dp_rank = 64, .incarnation = 5}};
    struct jr_image_entry entries[4];
    struct jr_kv_block block = {1, 50};
    struct jr_kv_event e = {.type = JR_KV_STORED, .blocks = &block, .n = 1};
    struct jr_kv_batch batch = {.worker_id = 8, .events = &e, .n_events = 1};
    struct all_said *said = jr_xalloc(sizeof *said);
    struct jr_dynamo_export *x;
    struct jr_buf b;
    uint64_t events, left_out;
    for (uint16_t i = 0; i < 4; i++)
        entries[i] = (struct jr_image_entry){.block_hash = 1, .prefix_hash = 50, .rank = i};
    struct jr_image image = {.ranks = rows, .n_ranks = 4, .entries = entries, .n_entries = 4};
    jr_buf_init(&b, 1 << 10);
    assert_int_equal(jr_dynamo_export_create(&image, &x), 0);
    jr_dynamo_export_learn(x, &batch);
    finish(x, &b, &events, &left_out);
    assert_int_equal(left_out, 0);
    read_object(b.p, b.n, said);
    assert_int_equal(said->n, 3);
    for (uint32_t i = 0; i < said->n; i++)
        assert_true(said->v[i].worker == 9 || said->v[i].rank != 64);
    jr_buf_deinit(&b);
    jr_xfree(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_captured),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_odd_images),
        cmocka_unit_test(test_lower_rows),
    };
    return cmocka_run_group_tests_name("dynamo_export", tests, NULL, NULL);
}
