/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of token ids against a plain list in order of use, and the keys of texts. */
#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"
#include "core/token_cache.h"
#include "jr_test.h"

#include <stdio.h>
#include <string.h>

#define MODEL 512
#define IDS   64
#define STEPS 3000
#define SEEDS 12

static const uint8_t secret[JR_TOKEN_SECRET] =
    "no secret at all, but the same in every run of this";

/* ---------------------------------------------------------------- against a model */

struct item {
    struct jr_token_key key;
    uint32_t n, ids[IDS];
};

/* The most recently used last; never takes more away than the cache must have. */
struct model {
    struct item v[MODEL];
    uint32_t n;
};

static int model_find(const struct model *m, struct jr_token_key key)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (m->v[i].key.lo == key.lo && m->v[i].key.hi == key.hi)
            return (int)i;
    return -1;
}

static void model_drop(struct model *m, uint32_t i)
{
    memmove(&m->v[i], &m->v[i + 1], (--m->n - i) * sizeof *m->v);
}

static void model_use(struct model *m, uint32_t i)
{
    struct item it = m->v[i];
    model_drop(m, i);
    m->v[m->n++] = it;
}

/* Few keys, some with an equal half. */
static struct jr_token_key key_of(struct jr_rng *rng)
{
    return (struct jr_token_key){jr_mix64(1 + jr_rng_below(rng, 60)), jr_rng_below(rng, 2)};
}

static void model_put(struct model *m, struct jr_token_key key, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < m->n;) /* one for each lower half */
        if (m->v[i].key.lo == key.lo)
            model_drop(m, i);
        else
            i++;
    struct item *it = &m->v[m->n++];
    it->key = key;
    it->n = n;
    memcpy(it->ids, ids, n * sizeof *ids);
}

static void step_put(struct jr_token_cache *c, struct model *m, struct jr_rng *rng)
{
    uint32_t ids[IDS], n = jr_rng_below(rng, IDS + 1);
    struct jr_token_key key = key_of(rng);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = jr_rng_u32(rng);
    assert_int_equal(jr_token_cache_put(c, key, ids, n), 0);
    model_put(m, key, ids, n);
    /* What left are the least recently used. */
    while (m->n > jr_token_cache_entries(c))
        model_drop(m, 0);
    assert_int_equal(m->n, jr_token_cache_entries(c));
}

static void step_get(struct jr_token_cache *c, struct model *m, struct jr_rng *rng)
{
    struct jr_token_key key = key_of(rng);
    uint32_t n = 0;
    const uint32_t *ids = jr_token_cache_get(c, key, &n);
    int at = model_find(m, key);
    assert_int_equal(ids != NULL, at >= 0);
    if (at < 0)
        return;
    assert_int_equal(n, m->v[at].n);
    assert_memory_equal(ids, m->v[at].ids, n * sizeof *ids);
    model_use(m, (uint32_t)at);
    if (n < 4 || jr_rng_below(rng, 2))
        return;
    uint64_t want[IDS];
    uint32_t n_want = jr_hash_prompt(NULL, ids, n, 4, want);
    const uint64_t *hashes = jr_token_cache_hashes(c, key, NULL, 4, &n);
    assert_int_equal(n, n_want);
    assert_memory_equal(hashes, want, n * sizeof *want);
    while (m->n > jr_token_cache_entries(c)) /* they take room, too */
        model_drop(m, 0);
}

static void run_model(uint64_t seed)
{
    struct jr_mem mem;
    struct jr_rng rng;
    struct jr_token_cache *c;
    struct model *m = jr_xalloc(sizeof *m);
    jr_mem_init(&mem);
    jr_rng_init(&rng, seed, 1);
    size_t most = 2000 + jr_rng_below(&rng, 12000);
    assert_int_equal(jr_token_cache_create(&mem, most, &c), 0);
    size_t own = mem.bytes;
    for (uint32_t i = 0; i < STEPS; i++) {
        if (jr_rng_below(&rng, 2))
            step_put(c, m, &rng);
        else
            step_get(c, m, &rng);
        assert_true(jr_token_cache_bytes(c) <= most);
        assert_int_equal(mem.bytes - own, jr_token_cache_bytes(c));
    }
    assert_true(m->n > 0);
    jr_token_cache_destroy(c);
    jr_mem_deinit(&mem);
    jr_xfree(m);
}

static void test_model(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed();
    for (uint64_t i = 0; i < jr_test_seeds(SEEDS); i++)
        run_model(seed + i);
}

/* ---------------------------------------------------------------- bounds */

static void test_what_is_too_large_is_not_kept(void **state)
{
    (void)state;
    struct jr_mem mem;
    struct jr_token_cache *c;
    struct jr_token_key key = {1, 2};
    uint32_t ids[300] = {7}, n;
    jr_mem_init(&mem);
    assert_int_equal(jr_token_cache_create(&mem, 2000, &c), 0);
    assert_int_equal(jr_token_cache_put(c, key, ids, 2), 0);
    /* It was replaced by nothing: the old ids are not the text's any more. */
    assert_int_equal(jr_token_cache_put(c, key, ids, 300), JR_ELIMIT);
    assert_null(jr_token_cache_get(c, key, &n));
    jr_token_cache_destroy(c);
    assert_int_equal(jr_token_cache_create(&mem, 0, &c), 0);
    assert_int_equal(jr_token_cache_put(c, key, ids, 0), JR_ELIMIT);
    assert_int_equal(jr_token_cache_entries(c), 0);
    jr_token_cache_destroy(c);
    jr_mem_deinit(&mem);
}

static void test_hashes_are_kept(void **state)
{
    (void)state;
    struct jr_mem mem;
    struct jr_token_cache *c;
    struct jr_token_key key = {1, 2}, other = {3, 4};
    struct jr_hash_salt salts[] = {{.cache_salt_part = 0}, {.cache_salt = {"s", 1}}};
    uint32_t ids[100], n = 0;
    uint64_t want[100];
    for (uint32_t i = 0; i < 100; i++)
        ids[i] = i * 3;
    jr_mem_init(&mem);
    assert_int_equal(jr_token_cache_create(&mem, 2000, &c), 0);
    assert_null(jr_token_cache_hashes(c, key, &salts[0], 4, &n));
    assert_int_equal(jr_token_cache_put(c, key, ids, 100), 0);
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < 2; i++)
            for (uint32_t block_size = 7; block_size < 30; block_size += 9)
                for (int again = 0; again < 2; again++) {
                    uint64_t allocs = mem.allocs;
                    const uint64_t *got = jr_token_cache_hashes(c, key, &salts[i], block_size, &n);
                    assert_int_equal(mem.allocs - allocs, !again);
                    assert_int_equal(n, jr_hash_prompt(&salts[i], ids, 100, block_size, want));
                    assert_memory_equal(got, want, n * sizeof *want);
                }
    assert_null(jr_token_cache_hashes(c, key, &salts[0], 101, &n));
    assert_null(jr_token_cache_hashes(c, key, &salts[0], 0, &n));
    assert_true(jr_token_cache_bytes(c) <= 2000);
    /* No room for them beside the ids. */
    assert_null(jr_token_cache_hashes(c, other, &salts[0], 4, &n));
    assert_int_equal(jr_token_cache_put(c, other, ids, 90), 0);
    assert_non_null(jr_token_cache_hashes(c, other, &salts[0], 2, &n));
    assert_true(jr_token_cache_bytes(c) <= 2000);
    jr_token_cache_destroy(c);
    jr_mem_deinit(&mem);
}

static int oom_run(struct jr_mem *mem, void *ctx)
{
    (void)ctx;
    struct jr_token_cache *c;
    uint32_t ids[IDS] = {0};
    int err = jr_token_cache_create(mem, 20000, &c);
    if (err < 0)
        return err;
    for (uint64_t i = 0; err == 0 && i < 200; i++) {
        uint32_t n = 0;
        err = jr_token_cache_put(c, (struct jr_token_key){i, i}, ids, (uint32_t)i % IDS);
        const uint32_t *got = jr_token_cache_get(c, (struct jr_token_key){i, i}, &n);
        assert_int_equal(got != NULL, err == 0);
        if (err == 0 && i % IDS > 3 &&
            !jr_token_cache_hashes(c, (struct jr_token_key){i, i}, NULL, 2, &n))
            err = JR_ENOMEM;
    }
    jr_token_cache_destroy(c);
    return err;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(oom_run, NULL) > 200);
}

/* ---------------------------------------------------------------- keys */

static struct jr_token_key key_at(const struct jr_str *fields, uint32_t n_fields, const char *text,
                                  size_t end)
{
    struct jr_token_text t = {secret, fields, n_fields, jr_str_of(text, strlen(text))};
    struct jr_token_key key;
    jr_token_keys(&t, &end, 1, &key);
    return key;
}

static bool same(struct jr_token_key a, struct jr_token_key b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static void test_keys_of_prefixes(void **state)
{
    (void)state;
    char text[4000];
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 2);
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = (char)('a' + jr_rng_below(&rng, 26));
    text[sizeof text - 1] = '\0';
    struct jr_str field = jr_str_of("m", 1);
    size_t ends[16], at = 0;
    for (int i = 0; i < 16; i++)
        ends[i] = at += jr_rng_below(&rng, 240); /* the same place twice, too */
    struct jr_token_text t = {secret, &field, 1, jr_str_of(text, strlen(text))};
    struct jr_token_key keys[16];
    jr_token_keys(&t, ends, 16, keys);
    for (int i = 0; i < 16; i++) {
        assert_true(same(keys[i], key_at(&field, 1, text, ends[i])));
        assert_int_equal(same(keys[i], keys[0]), ends[i] == ends[0]);
    }
}

static void test_keys_tell_fields_apart(void **state)
{
    (void)state;
    struct jr_str a[] = {{"ab", 2}, {"c", 1}}, b[] = {{"a", 1}, {"bc", 2}};
    struct jr_str empty[] = {{"ab", 2}, {"c", 1}, {NULL, 0}};
    struct jr_token_key k = key_at(a, 2, "text", 4);
    assert_true(same(k, key_at(a, 2, "text, and more", 4)));
    assert_false(same(k, key_at(b, 2, "text", 4)));
    assert_false(same(k, key_at(empty, 3, "text", 4)));
    assert_false(same(k, key_at(a, 2, "texT", 4)));
    uint8_t other[JR_TOKEN_SECRET];
    memset(other, 7, sizeof other);
    struct jr_token_text t = {other, a, 2, {"text", 4}};
    struct jr_token_key key;
    jr_token_keys(&t, (size_t[]){4}, 1, &key);
    assert_false(same(k, key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_what_is_too_large_is_not_kept),
        cmocka_unit_test(test_hashes_are_kept),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_keys_of_prefixes),
        cmocka_unit_test(test_keys_tell_fields_apart),
    };
    return cmocka_run_group_tests_name("core/token_cache", tests, NULL, NULL);
}
