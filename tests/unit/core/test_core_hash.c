/* SPDX-License-Identifier: Apache-2.0 */
/* Block hashes against vectors of the real library, and the seeds that salt them. */
#include "base/rng.h"
#include "base/str.h"
#include "core/hash.h"
#include "jr_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define TOKENS_MAX 1024
#define MM_MAX     8

struct vector {
    char name[128];
    char lora[256];
    uint32_t block_size;
    uint32_t tokens[TOKENS_MAX];
    uint32_t n_tokens;
    uint64_t mm_hashes[MM_MAX][MM_MAX];
    struct jr_hash_mm mm[MM_MAX];
    uint32_t n_mm;
    uint64_t local[TOKENS_MAX], prefix[TOKENS_MAX];
    uint32_t n_local, n_prefix;
};

static uint32_t numbers(const char *text, uint64_t *ret, uint32_t max)
{
    uint32_t n = 0;
    char *end;

    for (;;) {
        uint64_t value = strtoull(text, &end, 10);
        if (end == text)
            return n;
        assert_true(n < max);
        ret[n++] = value;
        text = end;
    }
}

static void check_vector(const struct vector *v)
{
    struct jr_hash_salt salt = {.lora = {v->lora, strlen(v->lora)}};
    uint64_t local[TOKENS_MAX], prefix[TOKENS_MAX];
    uint32_t n = 0;

    assert_int_equal(0, jr_hash_local_mm(&salt, v->tokens, v->n_tokens, v->block_size, v->mm,
                                         v->n_mm, local, &n));
    assert_int_equal(v->n_local, n);
    assert_int_equal(v->n_prefix, n);
    assert_memory_equal(v->local, local, n * sizeof *local);
    if (v->n_mm == 0) {
        assert_int_equal(n, jr_hash_local(&salt, v->tokens, v->n_tokens, v->block_size, local));
        assert_memory_equal(v->local, local, n * sizeof *local);
    }
    jr_hash_prefix(local, n, prefix);
    assert_memory_equal(v->prefix, prefix, n * sizeof *prefix);
    jr_hash_prefix(local, n, local); /* in place */
    assert_memory_equal(v->prefix, local, n * sizeof *local);
}

static void read_line(struct vector *v, char *line)
{
    static uint64_t wide[TOKENS_MAX];

    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, "vector ", 7) == 0) {
        memset(v, 0, sizeof *v);
        assert_int_equal(2, sscanf(line, "vector %127s %u", v->name, &v->block_size));
    } else if (strncmp(line, "lora ", 5) == 0) {
        assert_true(jr_str_copy(v->lora, sizeof v->lora, line + 5));
    } else if (strncmp(line, "tokens ", 7) == 0) {
        v->n_tokens = numbers(line + 7, wide, TOKENS_MAX);
        for (uint32_t i = 0; i < v->n_tokens; i++)
            v->tokens[i] = (uint32_t)wide[i];
    } else if (strncmp(line, "mm ", 3) == 0) {
        uint32_t at = v->n_mm++;
        v->mm[at].hashes = v->mm_hashes[at];
        v->mm[at].n = numbers(line + 3, v->mm_hashes[at], MM_MAX);
    } else if (strncmp(line, "local ", 6) == 0) {
        v->n_local = numbers(line + 6, v->local, TOKENS_MAX);
    } else if (strncmp(line, "prefix ", 7) == 0) {
        v->n_prefix = numbers(line + 7, v->prefix, TOKENS_MAX);
    }
}

static void test_vectors(void **state)
{
    static struct vector v;
    static char line[65536];
    FILE *f = fopen(JR_FIXTURES "/core/hashes.txt", "r");
    int checked = 0;

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        read_line(&v, line);
        if (strcmp(line, "end") == 0) {
            check_vector(&v);
            checked++;
        }
    }
    (void)fclose(f);
    assert_int_equal(65, checked);
}

static void test_published_constants(void **state)
{
    uint32_t tokens[128];
    uint64_t local[2];

    (void)state;
    for (uint32_t i = 0; i < 128; i++)
        tokens[i] = i;
    /* Upstream's own self-check, the empty input, and the long-input path. */
    assert_true(jr_hash_bytes(NULL, "test data", 9) == UINT64_C(13226331709069118873));
    assert_true(jr_hash_bytes(NULL, "", 0) == UINT64_C(15128690059815094969));
    assert_int_equal(1, jr_hash_local(NULL, tokens, 128, 128, local));
    assert_true(local[0] == UINT64_C(9509643624113304476));
    assert_true(jr_hash_seed_lora(jr_str_of("adapter-a", 9)) == UINT64_C(8842669519798868182));
    assert_true(jr_hash_seed_lora(jr_str_of("", 0)) == 1337);
}

static void test_salts_add_up(void **state)
{
    struct jr_hash_salt salt = {.cache_salt = {"tenant", 6}};
    uint64_t salted = XXH3_64bits_withSeed("tenant", 6, 1);

    (void)state;
    assert_true(jr_hash_seed(NULL) == 1337);
    assert_true(jr_hash_seed(&salt) == 1337 + salted);
    salt.lora = jr_str_of("adapter-a", 9);
    assert_true(jr_hash_seed(&salt) == UINT64_C(8842669519798868182) + salted);
}

/* The secret made once must give what the library gives with the seed, at every length. */
static void test_equals_seeded_hash(void **state)
{
    static uint32_t tokens[4096];
    struct jr_hash_salt salt = {.lora = {"x", 1}};
    uint64_t local[4096];
    struct jr_rng rng;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (uint32_t i = 0; i < 4096; i++)
        tokens[i] = jr_rng_u32(&rng);
    for (uint32_t size = 1; size <= 1100; size += size < 70 ? 1 : 37) {
        uint32_t n = jr_hash_local(&salt, tokens, 4096, size, local);
        assert_int_equal(4096 / size, n);
        for (uint32_t i = 0; i < n; i++)
            assert_true(local[i] == XXH3_64bits_withSeed(tokens + i * size, size * sizeof *tokens,
                                                         jr_hash_seed(&salt)));
    }
}

/* One pass gives what two do, at every block size, those that are compiled for it among them. */
static void test_prompt_in_one_pass(void **state)
{
    static uint32_t tokens[2048];
    static uint64_t want[2048], got[2048];
    struct jr_hash_salt salt = {.lora = {"x", 1}};
    struct jr_rng rng;

    (void)state;
    jr_rng_init(&rng, jr_test_seed(), 2);
    for (uint32_t i = 0; i < 2048; i++)
        tokens[i] = jr_rng_u32(&rng);
    for (uint32_t size = 0; size <= 130; size++) {
        uint32_t n = jr_hash_local(&salt, tokens, 2048, size, want);
        jr_hash_prefix(want, n, want);
        assert_int_equal(n, jr_hash_prompt(&salt, tokens, 2048, size, got));
        assert_memory_equal(want, got, n * sizeof *want);
    }
}

static void test_edges(void **state)
{
    uint64_t many[JR_HASH_MM_MAX + 1] = {0}, local[1];
    struct jr_hash_mm mm = {many, JR_HASH_MM_MAX + 1};
    uint32_t tokens[4] = {1, 2, 3, 4}, n = 7;

    (void)state;
    assert_int_equal(0, jr_hash_local(NULL, tokens, 4, 0, local));
    assert_int_equal(0, jr_hash_local(NULL, tokens, 3, 4, local));
    assert_int_equal(JR_ELIMIT, jr_hash_local_mm(NULL, tokens, 4, 4, &mm, 1, local, &n));
    assert_int_equal(7, n);
    mm.n--;
    assert_int_equal(0, jr_hash_local_mm(NULL, tokens, 4, 4, &mm, 1, local, &n));
    assert_int_equal(1, n);
    jr_hash_prefix(local, 0, local);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),      cmocka_unit_test(test_published_constants),
        cmocka_unit_test(test_salts_add_up), cmocka_unit_test(test_equals_seeded_hash),
        cmocka_unit_test(test_edges),        cmocka_unit_test(test_prompt_in_one_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
