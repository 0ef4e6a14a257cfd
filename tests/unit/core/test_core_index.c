/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix index against a model that is a plain array: every number it gives after every step. */
#include "base/image.h"
#include "base/map.h"
#include "base/rng.h"
#include "core/hash.h"
#include "core/index.h"
#include "jr_test.h"
#include <string.h>

#define MEMBERS 12
#define HASHES  28 /* block hashes a member may use */
#define DEPTH   6  /* of the prefix tree */
#define FANOUT  3
#define STEPS   30000

struct model {
    bool present[MEMBERS][HASHES];
    uint64_t prefix[MEMBERS][HASHES];
    uint64_t cap;
};

/* Few block hashes and few prefixes: moves, copies and holes are common. Hash 0 is one of them. */
static uint64_t block_hash_of(uint32_t i)
{
    return i == 0 ? 0 : i < 6 ? i : jr_mix64(i);
}

static uint64_t worker_of(uint32_t member)
{
    return 1000 + member / 2;
}

static uint64_t model_entries(const struct model *md, uint32_t member)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < HASHES; i++)
        n += md->present[member][i];
    return n;
}

static uint64_t model_total(const struct model *md)
{
    uint64_t n = 0;
    for (uint32_t m = 0; m < MEMBERS; m++)
        n += model_entries(md, m);
    return n;
}

static bool model_holds(const struct model *md, uint32_t member, uint64_t prefix)
{
    for (uint32_t i = 0; i < HASHES; i++) {
        if (md->present[member][i] && md->prefix[member][i] == prefix)
            return true;
    }
    return false;
}

static uint64_t model_blocks(const struct model *md)
{
    uint64_t n = 0;

    for (uint32_t m = 0; m < MEMBERS; m++) {
        for (uint32_t i = 0; i < HASHES; i++) {
            bool seen = !md->present[m][i];
            for (uint32_t k = 0; k < m && !seen; k++)
                seen = model_holds(md, k, md->prefix[m][i]);
            for (uint32_t k = 0; k < i && !seen; k++)
                seen = md->present[m][k] && md->prefix[m][k] == md->prefix[m][i];
            n += !seen;
        }
    }
    return n;
}

static uint64_t model_digest(const struct model *md)
{
    uint64_t sum = 0;

    for (uint32_t m = 0; m < MEMBERS; m++) {
        for (uint32_t i = 0; i < HASHES; i++) {
            if (md->present[m][i])
                sum +=
                    jr_index_digest_term(worker_of(m), m % 2, block_hash_of(i), md->prefix[m][i]);
        }
    }
    return sum;
}

static int model_store(struct model *md, uint32_t member, bool has_parent, uint32_t parent,
                       const uint32_t *ids, const uint64_t *local, uint32_t n)
{
    uint64_t prev = 0;

    if (has_parent && !md->present[member][parent])
        return JR_ENOTFOUND;
    if (has_parent)
        prev = md->prefix[member][parent];
    for (uint32_t i = 0; i < n; i++) {
        prev = i == 0 && !has_parent ? local[i] : jr_hash_chain(prev, local[i]);
        if (!md->present[member][ids[i]] && md->cap > 0 && model_total(md) >= md->cap)
            return JR_ELIMIT;
        md->present[member][ids[i]] = true;
        md->prefix[member][ids[i]] = prev;
    }
    return 0;
}

static void step_store(struct jr_index *idx, struct model *md, struct jr_rng *rng)
{
    uint32_t member = jr_rng_below(rng, MEMBERS), n = jr_rng_below(rng, DEPTH);
    uint32_t parent = jr_rng_below(rng, HASHES), ids[DEPTH];
    bool has_parent = jr_rng_below(rng, 3) != 0;
    struct jr_kv_block blocks[DEPTH];
    uint64_t local[DEPTH];

    for (uint32_t i = 0; i < n; i++) {
        ids[i] = jr_rng_below(rng, HASHES);
        local[i] =
            jr_rng_below(rng, FANOUT); /* 0 is a legal local hash, and a root's prefix hash */
        blocks[i] = (struct jr_kv_block){block_hash_of(ids[i]), local[i]};
    }
    assert_int_equal(model_store(md, member, has_parent, parent, ids, local, n),
                     jr_index_store(idx, member, has_parent, block_hash_of(parent), blocks, n));
}

static void step_remove(struct jr_index *idx, struct model *md, struct jr_rng *rng)
{
    uint32_t member = jr_rng_below(rng, MEMBERS), n = jr_rng_below(rng, DEPTH), known = 0;
    uint64_t hashes[DEPTH];

    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = jr_rng_below(rng, HASHES);
        hashes[i] = block_hash_of(id);
        known += md->present[member][id];
        md->present[member][id] = false;
    }
    assert_int_equal(known, jr_index_remove(idx, member, hashes, n));
}

static void step(struct jr_index *idx, struct model *md, struct jr_rng *rng)
{
    uint32_t dice = jr_rng_below(rng, 1000), member = jr_rng_below(rng, MEMBERS);

    if (dice < 600) {
        step_store(idx, md, rng);
    } else if (dice < 980) {
        step_remove(idx, md, rng);
    } else if (dice < 995) {
        jr_index_clear(idx, member);
        memset(md->present[member], 0, sizeof md->present[member]);
    } else if (dice < 998) {
        md->cap = jr_rng_below(rng, 3) * 80;
        jr_index_set_entries_max(idx, md->cap);
    } else {
        jr_index_reset(idx);
        memset(md->present, 0, sizeof md->present);
    }
}

static void check_match(const struct jr_index *idx, const struct model *md, struct jr_rng *rng,
                        struct jr_index_match *match)
{
    uint64_t prefix[DEPTH];
    uint32_t n = jr_rng_below(rng, DEPTH + 1), at = 0;

    for (uint32_t i = 0; i < n; i++)
        prefix[i] = jr_rng_below(rng, FANOUT);
    jr_hash_prefix(prefix, n, prefix);
    assert_int_equal(0, jr_index_match(idx, prefix, n, match));
    for (uint32_t m = 0; m < MEMBERS; m++) {
        uint32_t score = 0;
        while (score < n && model_holds(md, m, prefix[score]))
            score++;
        assert_int_equal(score, jr_index_match_blocks(match, m));
        if (score > 0) {
            assert_int_equal(m, match->v[at].member);
            assert_int_equal(score, match->v[at].blocks);
            at++;
        }
    }
    assert_int_equal(at, match->n);
}

static void add_members(struct jr_index *idx, uint32_t n)
{
    for (uint32_t m = 0; m < n; m++)
        assert_int_equal(0, jr_index_add_member(idx, m, worker_of(m), m % 2));
}

static void test_model(void **state)
{
    struct jr_index_match match;
    struct model md = {.cap = 0};
    struct jr_index *idx;
    struct jr_rng rng;
    struct jr_mem mem;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 1);
    jr_mem_init(&mem);
    jr_index_match_init(&match, &mem);
    assert_int_equal(0, jr_index_create(&mem, 0, &idx));
    add_members(idx, MEMBERS);
    for (int i = 0; i < STEPS; i++) {
        step(idx, &md, &rng);
        assert_true(jr_index_digest(idx) == model_digest(&md));
        assert_true(jr_index_entries(idx) == model_total(&md));
        check_match(idx, &md, &rng, &match);
        if (i % 50 == 0) {
            uint32_t m = jr_rng_below(&rng, MEMBERS);
            assert_true(jr_index_blocks(idx) == model_blocks(&md));
            assert_true(jr_index_member_entries(idx, m) == model_entries(&md, m));
            jr_index_check(idx);
        }
    }
    jr_index_match_deinit(&match);
    assert_true(jr_index_bytes(idx) == mem.bytes);
    jr_index_destroy(idx);
    jr_mem_deinit(&mem);
}

/* Export in small slices, restore in another order and with other member ids: the same digest. */
static void test_export_restore(void **state)
{
    static struct jr_image_entry all[MEMBERS * HASHES + 8];
    struct jr_index_cursor cursor = {0};
    struct model md = {.cap = 0};
    struct jr_index *idx, *copy;
    uint32_t n = 0, got;
    struct jr_rng rng;
    struct jr_mem mem;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 2);
    jr_mem_init(&mem);
    assert_int_equal(0, jr_index_create(&mem, 0, &idx));
    assert_int_equal(0, jr_index_create(&mem, 1, &copy)); /* the cap does not bind a restore */
    add_members(idx, MEMBERS);
    for (int i = 0; i < 400; i++)
        step_store(idx, &md, &rng);
    while ((got = jr_index_export(idx, &cursor, all + n, 1 + jr_rng_below(&rng, 7))) > 0)
        n += got;
    assert_true(n == jr_index_entries(idx));
    for (uint32_t m = 0; m < MEMBERS; m++)
        assert_int_equal(0, jr_index_add_member(copy, 500 - m, worker_of(m), m % 2));
    for (uint32_t i = n; i-- > 0;)
        assert_int_equal(
            0, jr_index_restore(copy, 500 - all[i].rank, all[i].block_hash, all[i].prefix_hash));
    jr_index_check(copy);
    assert_true(jr_index_digest(copy) == jr_index_digest(idx));
    assert_true(jr_index_entries(copy) == n);
    assert_true(jr_index_blocks(copy) == jr_index_blocks(idx));
    jr_index_destroy(idx);
    jr_index_destroy(copy);
    jr_mem_deinit(&mem);
}

/* Hundreds of members on one chain: sets leave the slot, get wider, and shrink back. */
static void test_many_members(void **state)
{
    enum { N = 700, LEN = 40 };
    struct jr_kv_block blocks[LEN];
    uint64_t prefix[LEN], hashes[LEN], bytes;
    struct jr_index_match match;
    struct jr_index *idx;
    struct jr_rng rng;
    struct jr_mem mem;
    uint32_t have[N];

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 3);
    jr_mem_init(&mem);
    jr_index_match_init(&match, &mem);
    assert_int_equal(0, jr_index_create(&mem, 0, &idx));
    for (uint32_t i = 0; i < LEN; i++) {
        blocks[i] = (struct jr_kv_block){i + 1, jr_mix64(i + 1)};
        prefix[i] = blocks[i].local_hash;
        hashes[i] = i + 1;
    }
    jr_hash_prefix(prefix, LEN, prefix);
    for (uint32_t m = 0; m < N; m++) {
        have[m] = jr_rng_below(&rng, LEN + 1);
        assert_int_equal(0, jr_index_add_member(idx, m, m, 0));
        assert_int_equal(0, jr_index_store(idx, m, false, 0, blocks, have[m]));
    }
    jr_index_check(idx);
    assert_int_equal(0, jr_index_match(idx, prefix, LEN, &match));
    for (uint32_t m = 0; m < N; m++)
        assert_int_equal(have[m], jr_index_match_blocks(&match, m));
    bytes = mem.allocs;
    assert_int_equal(0, jr_index_match(idx, prefix, LEN, &match));
    assert_true(bytes == mem.allocs); /* warm: no allocation */

    for (uint32_t m = 0; m < N; m++) { /* tails are evicted */
        uint32_t gone = jr_rng_below(&rng, have[m] + 1);
        have[m] -= gone;
        assert_int_equal(gone, jr_index_remove(idx, m, hashes + have[m], gone));
    }
    jr_index_check(idx);
    assert_int_equal(0, jr_index_match(idx, prefix, LEN, &match));
    for (uint32_t m = 0; m < N; m++)
        assert_int_equal(have[m], jr_index_match_blocks(&match, m));
    for (uint32_t m = 0; m < N; m++) {
        jr_index_clear(idx, m);
        jr_index_drop_member(idx, m);
    }
    jr_index_check(idx);
    assert_true(jr_index_digest(idx) == 0 && jr_index_blocks(idx) == 0);
    jr_index_match_deinit(&match);
    jr_index_destroy(idx);
    jr_mem_deinit(&mem);
}

/* Two block hashes of a member name the same prefix; a hole ends the run until it is filled. */
static void test_copies_and_holes(void **state)
{
    struct jr_kv_block run[3] = {{11, 1}, {12, 2}, {13, 3}}, again[2] = {{21, 1}, {22, 2}};
    struct jr_kv_block moved = {13, 9};
    uint64_t prefix[3] = {1, 2, 3}, twelve = 12, others[2] = {22, 99}, where = 0;
    struct jr_index_match match;
    struct jr_index *idx;
    struct jr_mem mem;

    (void)state;
    jr_hash_prefix(prefix, 3, prefix);
    jr_mem_init(&mem);
    jr_index_match_init(&match, &mem);
    assert_int_equal(0, jr_index_create(&mem, 0, &idx));
    assert_int_equal(0, jr_index_add_member(idx, 3, 7, 1));
    assert_int_equal(JR_EEXIST, jr_index_add_member(idx, 3, 7, 1));
    assert_int_equal(JR_ELIMIT, jr_index_add_member(idx, JR_WORKERS_MAX, 7, 1));
    assert_int_equal(JR_ENOTFOUND, jr_index_store(idx, 3, true, 5, run, 3));
    assert_true(jr_index_entries(idx) == 0);
    assert_int_equal(0, jr_index_store(idx, 3, false, 0, run, 3));
    assert_int_equal(0, jr_index_store(idx, 3, false, 0, again, 2));
    assert_int_equal(5, jr_index_entries(idx));
    assert_int_equal(3, jr_index_blocks(idx));
    jr_index_check(idx);

    assert_int_equal(1, jr_index_remove(idx, 3, &twelve, 1)); /* 22 names it still */
    assert_int_equal(0, jr_index_match(idx, prefix, 3, &match));
    assert_int_equal(3, jr_index_match_blocks(&match, 3));
    assert_int_equal(1, jr_index_remove(idx, 3, others, 2)); /* now there is a hole */
    assert_int_equal(0, jr_index_match(idx, prefix, 3, &match));
    assert_int_equal(1, jr_index_match_blocks(&match, 3));
    assert_int_equal(0, jr_index_store(idx, 3, true, 11, &run[1], 1));
    assert_int_equal(0, jr_index_match(idx, prefix, 3, &match));
    assert_int_equal(3, jr_index_match_blocks(&match, 3)); /* the third never left */

    assert_int_equal(0, jr_index_store(idx, 3, true, 11, &moved, 1)); /* 13 moves below 11 */
    assert_true(jr_index_lookup(idx, 3, 13, &where) && where == jr_hash_chain(prefix[0], 9));
    assert_int_equal(0, jr_index_match(idx, prefix, 3, &match));
    assert_int_equal(2, jr_index_match_blocks(&match, 3));
    jr_index_check(idx);
    jr_index_match_deinit(&match);
    jr_index_destroy(idx);
    jr_mem_deinit(&mem);
}

static void test_cap(void **state)
{
    struct jr_kv_block run[4] = {{1, 1}, {2, 2}, {3, 3}, {4, 4}};
    struct jr_index *idx;
    struct jr_mem mem;

    (void)state;
    jr_mem_init(&mem);
    assert_int_equal(0, jr_index_create(&mem, 3, &idx));
    assert_int_equal(0, jr_index_add_member(idx, 0, 7, 0));
    assert_int_equal(JR_ELIMIT, jr_index_store(idx, 0, false, 0, run, 4));
    assert_int_equal(3, jr_index_entries(idx));
    assert_int_equal(0, jr_index_store(idx, 0, false, 0, run, 3));     /* nothing new */
    assert_int_equal(0, jr_index_store(idx, 0, false, 0, &run[2], 1)); /* a move needs no room */
    jr_index_set_entries_max(idx, 0);
    assert_int_equal(0, jr_index_store(idx, 0, false, 0, run, 4));
    jr_index_check(idx);
    jr_index_destroy(idx);
    jr_mem_deinit(&mem);
}

enum { LARGE = 40000 }; /* blocks: the table is given back in several pieces */

static void store_chain(struct jr_index *idx, uint32_t member, uint64_t first, uint32_t n)
{
    struct jr_kv_block run[500];

    for (uint32_t i = 0; i < n; i += 500) {
        for (uint32_t k = 0; k < 500; k++)
            run[k] = (struct jr_kv_block){jr_hash_chain(first, i + k), first + i + k};
        assert_int_equal(0,
                         jr_index_store(idx, member, i > 0, jr_hash_chain(first, i - 1), run, 500));
    }
}

/* The image is whole at some moment of the giving back of a cleared member's table: after so many
 * slices of it, for every number. False when nothing was left to give back by then. */
static bool image_amid_clear(uint32_t slices)
{
    const uint32_t number[2] = {0, 1};
    struct jr_image *image = jr_image_create();
    struct jr_index *idx;
    struct jr_mem mem;
    bool left = true;
    int rv;

    jr_mem_init(&mem);
    assert_int_equal(0, jr_index_create(&mem, 0, &idx));
    add_members(idx, 2);
    store_chain(idx, 0, 1, LARGE);
    store_chain(idx, 1, 1000000, 1000);
    assert_int_equal(0, jr_index_image_open(idx, image, number));
    jr_index_clear(idx, 0);
    for (uint32_t i = 0; i < slices && left; i++)
        left = jr_index_work(idx, 4096);
    rv = JR_EAGAIN;
    for (uint32_t i = 0; i < LARGE && rv == JR_EAGAIN; i++)
        rv = jr_index_image_step(idx, 1000, image);
    assert_int_equal(0, rv);
    assert_int_equal(LARGE + 1000, image->n_entries);
    while (slices % 2 == 0 && jr_index_work(idx, 4096))
        ;
    jr_index_check(idx);
    jr_index_destroy(idx); /* amid it, too */
    jr_image_destroy(image);
    jr_mem_deinit(&mem);
    return left;
}

static void test_image_amid_clear(void **state)
{
    uint32_t slices = 0;

    (void)state;
    while (image_amid_clear(slices))
        slices++;
    assert_true(slices > 10);
}

/* The n-th allocation fails, for every n: the index stays whole and all memory comes back. */
static int oom_run(struct jr_mem *mem, bool *ret_failed)
{
    struct jr_index_match match;
    struct jr_index *idx;
    struct jr_kv_block blocks[80];
    uint64_t prefix[80];
    int rv = jr_index_create(mem, 0, &idx);

    *ret_failed = rv < 0;
    if (rv < 0)
        return rv;
    jr_index_match_init(&match, mem);
    for (uint32_t m = 0; m < 70; m++) {
        rv = jr_index_add_member(idx, m, m, 0);
        *ret_failed |= rv < 0;
        if (rv < 0)
            continue;
        for (uint32_t i = 0; i < 80; i++) {
            blocks[i] = (struct jr_kv_block){m * 1000 + i, i % 40 + (i < 20 ? 0 : m % 7)};
            prefix[i] = blocks[i].local_hash;
        }
        rv = jr_index_store(idx, m, false, 0, blocks, m % 9 == 0 ? 80 : 20);
        *ret_failed |= rv < 0;
        for (uint32_t i = 0; i < 20; i++)
            blocks[i].block_hash += 500;
        rv = jr_index_store(idx, m, false, 0, blocks, 4); /* copies */
        *ret_failed |= rv < 0;
        jr_hash_prefix(prefix, 80, prefix);
        rv = jr_index_match(idx, prefix, 80, &match);
        *ret_failed |= rv < 0;
    }
    jr_index_check(idx);
    assert_true(jr_index_bytes(idx) + jr_index_match_bytes(&match) == mem->bytes);
    jr_index_match_deinit(&match);
    jr_index_destroy(idx);
    return 0;
}

static void test_out_of_memory(void **state)
{
    struct jr_mem mem;
    bool failed = true;

    (void)state;
    for (int64_t n = 0; failed; n++) {
        jr_mem_init(&mem);
        mem.fail_after = n;
        (void)oom_run(&mem, &failed);
        assert_true(failed || n > 50); /* the sweep reached the end only when nothing failed */
        jr_mem_deinit(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),         cmocka_unit_test(test_export_restore),
        cmocka_unit_test(test_many_members),  cmocka_unit_test(test_copies_and_holes),
        cmocka_unit_test(test_cap),           cmocka_unit_test(test_image_amid_clear),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
