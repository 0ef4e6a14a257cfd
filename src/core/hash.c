/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hash.h"
#include "core/chain.h"
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Tokens and hashes are hashed as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian machines only");

/* Up to this length XXH3 takes the seed itself, above it a secret made from the seed. Making it
 * once for many blocks, instead of once a block as XXH3_64bits_withSeed does, halves the time. */
#define SHORT_INPUT_MAX 240

struct hasher {
    uint64_t seed;
    unsigned char secret[XXH3_SECRET_DEFAULT_SIZE];
};

static void hasher_init(struct hasher *h, uint64_t seed, size_t input_max)
{
    h->seed = seed;
    if (input_max > SHORT_INPUT_MAX)
        XXH3_generateSecret_fromSeed(h->secret, seed);
}

static inline uint64_t hasher_run(const struct hasher *h, const void *p, size_t n)
{
    if (n <= SHORT_INPUT_MAX)
        return XXH3_64bits_withSeed(p, n, h->seed);
    return XXH3_64bits_withSecretandSeed(p, n, h->secret, sizeof h->secret, h->seed);
}

uint64_t jr_hash_seed_lora(struct jr_str lora)
{
    return lora.n == 0 ? JR_HASH_SEED : JR_HASH_SEED + XXH3_64bits(lora.p, lora.n);
}

uint64_t jr_hash_salt_part(struct jr_str cache_salt)
{
    return cache_salt.n == 0 ? 0 : XXH3_64bits_withSeed(cache_salt.p, cache_salt.n, 1);
}

uint64_t jr_hash_seed(const struct jr_hash_salt *salt)
{
    if (!salt)
        return JR_HASH_SEED;
    return jr_hash_seed_lora(salt->lora) + jr_hash_salt_part(salt->cache_salt) +
           salt->cache_salt_part;
}

uint32_t jr_hash_local(const struct jr_hash_salt *salt, const uint32_t *tokens, uint32_t n_tokens,
                       uint32_t block_size, uint64_t *ret_local)
{
    struct hasher h;
    uint32_t n = block_size > 0 ? n_tokens / block_size : 0;
    size_t bytes = (size_t)block_size * sizeof *tokens;

    if (n == 0)
        return 0;
    hasher_init(&h, jr_hash_seed(salt), bytes);
    for (uint32_t i = 0; i < n; i++)
        ret_local[i] = hasher_run(&h, tokens + (size_t)i * block_size, bytes);
    return n;
}

/* Inlined with `bytes` known, what XXH3 asks of a length is answered when this is compiled. */
static inline __attribute__((always_inline)) void chain_blocks(const struct hasher *h,
                                                               const uint32_t *tokens, uint32_t n,
                                                               size_t bytes, uint64_t *ret_prefix)
{
    const char *at = (const char *)tokens;
    uint64_t prev = 0;

    for (uint32_t i = 0; i < n; i++, at += bytes) {
        uint64_t local = hasher_run(h, at, bytes);
        prev = i == 0 ? local : jr_chain(prev, local);
        ret_prefix[i] = prev;
    }
}

uint32_t jr_hash_prompt(const struct jr_hash_salt *salt, const uint32_t *tokens, uint32_t n_tokens,
                        uint32_t block_size, uint64_t *ret_prefix)
{
    struct hasher h;
    uint32_t n = block_size > 0 ? n_tokens / block_size : 0;

    if (n == 0)
        return 0;
    hasher_init(&h, jr_hash_seed(salt), (size_t)block_size * sizeof *tokens);
    switch (block_size) { /* the usual ones */
    case 16:
        chain_blocks(&h, tokens, n, 16 * sizeof *tokens, ret_prefix);
        break;
    case 32:
        chain_blocks(&h, tokens, n, 32 * sizeof *tokens, ret_prefix);
        break;
    case 64:
        chain_blocks(&h, tokens, n, 64 * sizeof *tokens, ret_prefix);
        break;
    default:
        chain_blocks(&h, tokens, n, block_size * sizeof *tokens, ret_prefix);
    }
    return n;
}

/* Insertion sort: a block has a handful of them. */
static void sort_copy(uint64_t *dst, const uint64_t *src, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at > 0 && dst[at - 1] > src[i]; at--)
            dst[at] = dst[at - 1];
        dst[at] = src[i];
    }
}

/* Tokens and multimodal hashes lie apart, so the streaming interface joins them. */
static uint64_t block_mm(uint64_t seed, const uint32_t *tokens, uint32_t block_size,
                         const struct jr_hash_mm *mm)
{
    uint64_t sorted[JR_HASH_MM_MAX];
    XXH3_state_t state;

    sort_copy(sorted, mm->hashes, mm->n);
    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed);
    (void)XXH3_64bits_update(&state, tokens, (size_t)block_size * sizeof *tokens);
    (void)XXH3_64bits_update(&state, sorted, (size_t)mm->n * sizeof *sorted);
    return XXH3_64bits_digest(&state);
}

int jr_hash_local_mm(const struct jr_hash_salt *salt, const uint32_t *tokens, uint32_t n_tokens,
                     uint32_t block_size, const struct jr_hash_mm *mm, uint32_t n_mm,
                     uint64_t *ret_local, uint32_t *ret_n)
{
    uint32_t n = block_size > 0 ? n_tokens / block_size : 0;
    uint32_t n_marked = n < n_mm ? n : n_mm;
    uint64_t seed = jr_hash_seed(salt);

    for (uint32_t i = 0; i < n_marked; i++) {
        if (mm[i].n > JR_HASH_MM_MAX)
            return JR_ELIMIT;
    }
    (void)jr_hash_local(salt, tokens, n_tokens, block_size, ret_local);
    for (uint32_t i = 0; i < n_marked; i++) {
        if (mm[i].n > 0)
            ret_local[i] = block_mm(seed, tokens + (size_t)i * block_size, block_size, &mm[i]);
    }
    *ret_n = n;
    return 0;
}

uint64_t jr_hash_bytes(const struct jr_hash_salt *salt, const void *p, size_t n)
{
    return XXH3_64bits_withSeed(p, n, jr_hash_seed(salt));
}

uint64_t jr_hash_chain(uint64_t prev, uint64_t local)
{
    uint64_t pair[2] = {prev, local};
    return XXH3_64bits_withSeed(pair, sizeof pair, JR_HASH_SEED);
}

void jr_hash_prefix(const uint64_t *local, uint32_t n, uint64_t *ret_prefix)
{
    uint64_t prev = 0;

    for (uint32_t i = 0; i < n; i++) {
        prev = i == 0 ? local[0] : jr_hash_chain(prev, local[i]);
        ret_prefix[i] = prev;
    }
}
