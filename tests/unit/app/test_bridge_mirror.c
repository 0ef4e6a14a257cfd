/* SPDX-License-Identifier: Apache-2.0 */
/* The mirror against a naive multiset: what it emits, applied to a plain set, is the multiset's
 * support; a listing names everything held, parents first. */
#include "app/bridge/mirror.h"
#include "base/map.h"
#include "base/rng.h"
#include "jr_test.h"
#include <string.h>

/* A plain set of hashes, as a router keeps it. */
struct set {
    struct jr_mem mem;
    struct jr_map held;
    uint32_t events;
};

static void set_init(struct set *s)
{
    memset(s, 0, sizeof *s);
    jr_mem_init(&s->mem);
    jr_map_init(&s->held, &s->mem);
}

static void set_deinit(struct set *s)
{
    jr_map_deinit(&s->held);
    jr_mem_deinit(&s->mem);
}

static void set_apply(void *ctx, const struct jr_kv_event *e)
{
    struct set *s = ctx;
    s->events++;
    if (e->type == JR_KV_CLEARED)
        jr_map_clear(&s->held);
    for (uint32_t i = 0; e->type == JR_KV_STORED && i < e->n; i++)
        assert_int_equal(jr_map_put(&s->held, e->blocks[i].block_hash, e->blocks[i].local_hash), 0);
    for (uint32_t i = 0; e->type == JR_KV_REMOVED && i < e->n; i++)
        assert_true(jr_map_del(&s->held, e->hashes[i], NULL));
}

/* As above, and a parent must be there before its child. */
static void set_apply_ordered(void *ctx, const struct jr_kv_event *e)
{
    struct set *s = ctx;
    uint64_t v;
    assert_int_equal(e->type, JR_KV_STORED);
    assert_true(e->n > 0);
    assert_true(!e->has_parent || jr_map_get(&s->held, e->parent_hash, &v));
    set_apply(ctx, e);
}

static void same(const struct set *a, const struct jr_mirror *m)
{
    uint64_t pos = 0, key, local;
    assert_int_equal(a->held.n, m->n);
    while (jr_map_next(&a->held, &pos, &key, &local)) {
        const struct jr_mirror_block *b = jr_mirror_find(m, key);
        assert_non_null(b);
        assert_int_equal(b->local, local);
    }
}

static void store(struct jr_mirror *m, struct set *s, bool has_parent, uint64_t parent,
                  const uint64_t *hashes, uint32_t n)
{
    struct jr_kv_block blocks[64];
    for (uint32_t i = 0; i < n; i++)
        blocks[i] = (struct jr_kv_block){hashes[i], hashes[i] * 1000};
    struct jr_kv_event e = {.type = JR_KV_STORED,
                            .has_parent = has_parent,
                            .parent_hash = parent,
                            .blocks = blocks,
                            .n = n};
    jr_mirror_store(m, &e, 0, set_apply, s);
}

static void copies_are_counted(void **state)
{
    (void)state;
    struct jr_mirror m;
    struct set s;
    set_init(&s);
    jr_mirror_init(&m, 0);
    uint64_t run[] = {1, 2, 3};
    store(&m, &s, false, 0, run, 3);
    store(&m, &s, true, 2, &run[2], 1);
    assert_int_equal(s.events, 1);
    jr_mirror_remove(&m, &run[2], 1, set_apply, &s);
    assert_int_equal(s.events, 1);
    assert_int_equal(m.n, 3);
    jr_mirror_remove(&m, &run[2], 1, set_apply, &s);
    jr_mirror_remove(&m, &run[2], 1, set_apply, &s);
    assert_int_equal(s.events, 2);
    assert_int_equal(m.counters.unknown_removed, 1);
    same(&s, &m);
    uint64_t more[] = {7};
    store(&m, &s, true, 99, more, 1);
    assert_int_equal(m.counters.unknown_parent, 1);
    assert_int_equal(s.events, 2);
    /* Known blocks in the middle of a run are not passed on again. */
    uint64_t mixed[] = {1, 2, 4, 5};
    store(&m, &s, false, 0, mixed, 4);
    assert_int_equal(s.events, 3);
    same(&s, &m);
    jr_mirror_clear(&m, set_apply, &s);
    assert_int_equal(m.n, 0);
    assert_int_equal(s.held.n, 0);
    jr_mirror_deinit(&m);
    set_deinit(&s);
}

static void plain_sets_do_not_count(void **state)
{
    (void)state;
    struct jr_mirror m;
    struct set s;
    set_init(&s);
    jr_mirror_init(&m, 0);
    m.plain_set = true;
    uint64_t run[] = {1, 2};
    store(&m, &s, false, 0, run, 2);
    store(&m, &s, false, 0, run, 2);
    jr_mirror_remove(&m, run, 2, set_apply, &s);
    assert_int_equal(m.n, 0);
    same(&s, &m);
    jr_mirror_deinit(&m);
    set_deinit(&s);
}

static void limits_and_nonsense(void **state)
{
    (void)state;
    struct jr_mirror m;
    struct set s;
    set_init(&s);
    jr_mirror_init(&m, 3);
    uint64_t run[] = {1, 2, 3, 4, 5}, self[] = {9, 9};
    store(&m, &s, false, 0, run, 5);
    assert_int_equal(m.n, 3);
    assert_int_equal(m.counters.refused, 2);
    jr_mirror_remove(&m, run, 3, set_apply, &s);
    store(&m, &s, false, 0, self, 2);
    assert_int_equal(m.n, 1);
    /* A block whose parent left cannot be listed: it is forgotten. */
    uint64_t two[] = {1, 2};
    store(&m, &s, false, 0, two, 2);
    jr_mirror_remove(&m, two, 1, set_apply, &s);
    struct set listed;
    set_init(&listed);
    jr_mirror_list(&m, 64, set_apply_ordered, &listed);
    assert_int_equal(m.n, 1);
    assert_int_equal(m.counters.unreachable, 1);
    same(&listed, &m);
    set_deinit(&listed);
    jr_mirror_deinit(&m);
    set_deinit(&s);
}

static void salts_are_inherited_and_freed(void **state)
{
    (void)state;
    struct jr_mirror m;
    struct set s;
    set_init(&s);
    jr_mirror_init(&m, 0);
    for (uint64_t i = 1; i <= 100; i++) {
        struct jr_kv_block block = {i, i};
        struct jr_kv_event e = {.type = JR_KV_STORED, .blocks = &block, .n = 1};
        jr_mirror_store(&m, &e, i * 7, set_apply, &s);
        assert_int_equal(jr_mirror_salt_part(&m, jr_mirror_find(&m, i)), i * 7);
        if (i > 4) {
            uint64_t old = i - 4;
            jr_mirror_remove(&m, &old, 1, set_apply, &s);
        }
    }
    assert_true(m.n_salts <= 8);
    jr_mirror_deinit(&m);
    set_deinit(&s);
}

/* Random prompts over a small tree; the place of a hash is fixed, as engines have it. */
static void model(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 1);
    struct jr_mirror m;
    struct set s, listed;
    uint32_t copies[1024] = {0};
    set_init(&s);
    jr_mirror_init(&m, 0);
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t what = jr_rng_below(&rng, 100);
        if (what < 55) {
            /* A path in the binary tree of 1..1023: the child of h is 2h or 2h + 1. */
            uint64_t path[10];
            uint32_t n = 0, from = jr_rng_below(&rng, 4), len = 1 + jr_rng_below(&rng, 10);
            for (uint64_t h = 1; h < 1024 && n < len; h = 2 * h + jr_rng_below(&rng, 2))
                path[n++] = h;
            from = from < n ? from : 0;
            bool known = from == 0 || copies[path[from - 1]] > 0;
            store(&m, &s, from > 0, from ? path[from - 1] : 0, path + from, n - from);
            for (uint32_t i = from; known && i < n; i++)
                copies[path[i]]++;
        } else if (what < 99) {
            uint64_t gone[32];
            uint32_t n = jr_rng_below(&rng, 32);
            for (uint32_t i = 0; i < n; i++) {
                gone[i] = 1 + jr_rng_below(&rng, 1023);
                copies[gone[i]] -= copies[gone[i]] > 0;
            }
            jr_mirror_remove(&m, gone, n, set_apply, &s);
        } else if (jr_rng_below(&rng, 4) == 0) {
            jr_mirror_clear(&m, set_apply, &s);
            memset(copies, 0, sizeof copies);
        }
        if (step % 64)
            continue;
        for (uint64_t h = 1; h < 1024; h++)
            assert_int_equal(jr_mirror_find(&m, h) != NULL, copies[h] > 0);
        same(&s, &m);
    }
    /* Listing keeps what has a whole path of held blocks. */
    set_init(&listed);
    jr_mirror_list(&m, 3, set_apply_ordered, &listed);
    same(&listed, &m);
    for (uint64_t h = 1; h < 1024; h++) {
        bool reachable = true;
        for (uint64_t p = h; p; p /= 2)
            reachable = reachable && copies[p] > 0;
        assert_int_equal(jr_mirror_find(&m, h) != NULL, reachable);
    }
    set_deinit(&listed);
    jr_mirror_deinit(&m);
    set_deinit(&s);
}

static void memory_of_a_block(void **state)
{
    (void)state;
    struct jr_mirror m;
    struct set s;
    set_init(&s);
    jr_mirror_init(&m, 0);
    for (uint64_t i = 0; i < 100000; i++) {
        struct jr_kv_block block = {i * 77 + 1, i};
        struct jr_kv_event e = {.type = JR_KV_STORED, .blocks = &block, .n = 1};
        jr_mirror_store(&m, &e, 0, set_apply, &s);
    }
    assert_true(jr_mirror_bytes(&m) <= 48 * 100000);
    jr_mirror_deinit(&m);
    set_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_counted),
        cmocka_unit_test(plain_sets_do_not_count),
        cmocka_unit_test(limits_and_nonsense),
        cmocka_unit_test(salts_are_inherited_and_freed),
        cmocka_unit_test(model),
        cmocka_unit_test(memory_of_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
