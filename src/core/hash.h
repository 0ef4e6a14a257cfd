/* SPDX-License-Identifier: Apache-2.0 */
/* hash: block hashes of token sequences, bit for bit those of Dynamo (docs/protocol.md, hashes).
 *
 *   local[i]   XXH3-64(seed, tokens of block i as u32 LE [, multimodal hashes ascending as u64 LE])
 *   prefix[0]  local[0]
 *   prefix[i]  XXH3-64(1337, prefix[i-1] LE || local[i] LE)
 *   seed       1337 [+ XXH3-64(0, LoRA name)] [+ XXH3-64(1, cache salt)], wrapping
 *
 * Only full blocks are hashed; the tail of a prompt is dropped. The chain's seed is always 1337.
 * Pure; any thread. */
#ifndef JR_CORE_HASH_H
#define JR_CORE_HASH_H

#include "base/err.h"
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>

#define JR_HASH_SEED UINT64_C(1337)
/* Multimodal hashes of one block. */
#define JR_HASH_MM_MAX 256

/* What makes equal tokens different blocks. Empty is absent. Borrows. */
struct jr_hash_salt {
    struct jr_str lora;
    struct jr_str cache_salt;
    /* What jr_hash_salt_part gave for a cache salt whose text is not at hand any more; 0: none. */
    uint64_t cache_salt_part;
};

/* Multimodal objects that touch one block, any order, duplicates kept. Borrows. */
struct jr_hash_mm {
    const uint64_t *hashes;
    uint32_t n;
};

/* Seed of the local hashes; salt may be NULL. */
uint64_t jr_hash_seed(const struct jr_hash_salt *salt);
uint64_t jr_hash_seed_lora(struct jr_str lora);
/* What a cache salt adds to the seed; 0 for an empty one. */
uint64_t jr_hash_salt_part(struct jr_str cache_salt);

/* Local hashes of all full blocks into ret_local[n_tokens / block_size]; returns their number.
 * block_size 0 gives 0. salt may be NULL. */
uint32_t jr_hash_local(const struct jr_hash_salt *salt, const uint32_t *tokens, uint32_t n_tokens,
                       uint32_t block_size, uint64_t *ret_local);
/* Prefix hashes of all full blocks in one pass: as jr_hash_local and jr_hash_prefix, but the chain, in
 * which each hash waits for the one before, is computed beside the blocks, which wait for none. */
uint32_t jr_hash_prompt(const struct jr_hash_salt *salt, const uint32_t *tokens, uint32_t n_tokens,
                        uint32_t block_size, uint64_t *ret_prefix);
/* Local hashes with multimodal hashes: mm[i] belongs to block i; blocks past n_mm have none. Gives the
 * number of blocks in *ret_n. JR_ELIMIT when a block has more than JR_HASH_MM_MAX. */
JR_MUST_CHECK int jr_hash_local_mm(const struct jr_hash_salt *salt, const uint32_t *tokens,
                                   uint32_t n_tokens, uint32_t block_size,
                                   const struct jr_hash_mm *mm, uint32_t n_mm, uint64_t *ret_local,
                                   uint32_t *ret_n);

/* Local hash of any bytes under the plain seed (byte-chunk hashes where there is no tokenizer). */
uint64_t jr_hash_bytes(const struct jr_hash_salt *salt, const void *p, size_t n);

/* Prefix hash of the block after `prev`. */
uint64_t jr_hash_chain(uint64_t prev, uint64_t local);
/* Prefix hashes of a whole run; ret_prefix may be the same array as local. */
void jr_hash_prefix(const uint64_t *local, uint32_t n, uint64_t *ret_prefix);

#endif
