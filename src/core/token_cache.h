/* SPDX-License-Identifier: Apache-2.0 */
/* token_cache: token ids of texts that were tokenized before, the least recently used leave first.
 *
 * A text is known by a hash of 128 bits under a secret of this process (XXH3), not by its bytes: two
 * texts that share one by chance are not to be expected (2^-64 at 2^32 texts), and without the secret
 * nobody can make them. The table and its entries together hold at most bytes_max (while the table
 * grows: the old one beside). The prefix hashes of an entry's blocks are kept with it once they were
 * asked for: hashing a long prompt anew costs more than all else about it. One thread. */
#ifndef JR_CORE_TOKEN_CACHE_H
#define JR_CORE_TOKEN_CACHE_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "core/hash.h"

#define JR_TOKEN_SECRET 192 /* bytes; random */

struct jr_token_key {
    uint64_t lo, hi;
};

/* What a text is hashed with: everything that makes its tokens other ones. The length of each field
 * counts, so that no two lists of fields are one run of bytes. Borrows. */
struct jr_token_text {
    const uint8_t *secret; /* JR_TOKEN_SECRET bytes */
    const struct jr_str *fields;
    uint32_t n_fields;
    struct jr_str text;
};

/* The keys of the text up to each of these places, ascending and within it, in one pass. Pure. */
void jr_token_keys(const struct jr_token_text *t, const size_t *ends, uint32_t n,
                   struct jr_token_key *ret);

struct jr_token_cache;

/* Borrows mem. bytes_max 0: it stays empty. Returns owned; JR_ENOMEM. */
JR_MUST_CHECK int jr_token_cache_create(struct jr_mem *mem, size_t bytes_max,
                                        struct jr_token_cache **ret);
void jr_token_cache_destroy(struct jr_token_cache *c);

/* The ids, borrowed until the next put; NULL when they are not known. Makes it the most recently
 * used. */
const uint32_t *jr_token_cache_get(struct jr_token_cache *c, struct jr_token_key key,
                                   uint32_t *ret_n);
/* Copies; what was there for the key goes. JR_ELIMIT: it would fill more than a half, and is not
 * kept; JR_ENOMEM: others may have left. */
JR_MUST_CHECK int jr_token_cache_put(struct jr_token_cache *c, struct jr_token_key key,
                                     const uint32_t *ids, uint32_t n);

/* The prefix hashes (jr_hash_prompt) of the ids that are known for the key, borrowed until the next
 * call; *ret_n of them. NULL: no whole block, nothing known, or no room. Those of the last salt and
 * block size are kept. */
const uint64_t *jr_token_cache_hashes(struct jr_token_cache *c, struct jr_token_key key,
                                      const struct jr_hash_salt *salt, uint32_t block_size,
                                      uint32_t *ret_n);

uint64_t jr_token_cache_entries(const struct jr_token_cache *c);
size_t jr_token_cache_bytes(const struct jr_token_cache *c);

#endif
