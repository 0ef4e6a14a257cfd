/* SPDX-License-Identifier: Apache-2.0 */
/* paged_cache: the paged KV cache of one simulated engine, with vLLM's prefix caching rules. Pure:
 * data in, data out, one thread at a time.
 *
 *     requests' block tables ──► [blk 7][blk 3][blk 9]          ref > 0: pinned
 *                                   │
 *     hash ──► copies ──────────────┘ one hash may have several physical copies
 *     free queue: head ► … ► tail                               ref == 0, cached or not
 *                 └ taken, and evicted, first
 *
 * A block is registered under its hash once it is full. When the last request lets go of it, it
 * joins the tail of the free queue and still answers lookups until it is taken for something else.
 * A request frees its last block first, so tails are evicted before heads. Block 0 is vLLM's null
 * block and never handed out: a cache of n blocks holds n - 1. Rules: vLLM v1 BlockPool and
 * KVCacheManager as measured on 0.32 (stores once per physical copy, removes once per copy). */
#ifndef JR_APP_MOCKER_PAGED_CACHE_H
#define JR_APP_MOCKER_PAGED_CACHE_H

#include "base/err.h"
#include "base/kv.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_paged_cache;

/* One change, in the order it happened. Offsets point into the arrays of struct jr_cache_log. */
struct jr_cache_event {
    enum jr_kv_type type;
    bool has_parent;      /* stored */
    uint64_t parent_hash; /* stored */
    uint32_t hash_at, n_hashes;
    uint32_t token_at, n_tokens; /* stored: n_hashes * block_size */
    uint32_t salt_at, n_salt;    /* stored with a root block under a cache salt; else n_salt is 0 */
    uint32_t lora_at, n_lora;    /* stored of a LoRA adapter; else n_lora is 0 */
};

/* What changed since the last take. Owned by the cache. */
struct jr_cache_log {
    const struct jr_cache_event *events;
    uint32_t n_events;
    const uint64_t *hashes;
    const uint32_t *tokens;
    const char *texts; /* salts and names of LoRA adapters */
};

/* A run of full blocks to register: the children of `parent`, one after the other. Borrowed. */
struct jr_cache_run {
    bool has_parent;
    uint64_t parent_hash;
    const uint32_t *blocks;
    const uint64_t *hashes;
    const uint64_t *prefixes; /* what routers call the blocks (core/hash.h) */
    const uint32_t *tokens;   /* n * block_size */
    uint32_t n;
    const char *salt; /* of a root run; may be NULL */
    uint32_t n_salt;
    const char *lora; /* may be NULL */
    uint32_t n_lora;
};

/* num_blocks at least 2. Aborts when out of memory (jr_x*). */
struct jr_paged_cache *jr_paged_cache_create(uint32_t num_blocks, uint32_t block_size);
void jr_paged_cache_destroy(struct jr_paged_cache *c); /* NULL is fine */

uint32_t jr_paged_cache_total(const struct jr_paged_cache *c); /* without the null block */
uint32_t jr_paged_cache_free(const struct jr_paged_cache *c);  /* blocks no request holds */
/* A block that holds that hash (the oldest copy), or 0. */
uint32_t jr_paged_cache_find(const struct jr_paged_cache *c, uint64_t hash);
/* Physical copies of the hash. */
uint32_t jr_paged_cache_copies(const struct jr_paged_cache *c, uint64_t hash);
uint32_t jr_paged_cache_refs(const struct jr_paged_cache *c, uint32_t block);
/* True, and its hash, when block (1..total) is registered. */
bool jr_paged_cache_hash_of(const struct jr_paged_cache *c, uint32_t block, uint64_t *ret);
/* The prefix hash it was registered with; of a registered block. */
uint64_t jr_paged_cache_prefix_of(const struct jr_paged_cache *c, uint32_t block);
/* Free blocks in the order in which they will be taken; returns how many were written. */
uint32_t jr_paged_cache_free_order(const struct jr_paged_cache *c, uint32_t *ret, uint32_t cap);

/* One more request holds the block; a free one leaves the free queue. */
void jr_paged_cache_touch(struct jr_paged_cache *c, uint32_t block);
/* A block from the head of the free queue with one reference; what it held is evicted and logged.
 * The caller has seen that one is free. */
uint32_t jr_paged_cache_take(struct jr_paged_cache *c);
/* One request fewer; at none the block joins the tail of the free queue, still cached. */
void jr_paged_cache_release(struct jr_paged_cache *c, uint32_t block);
/* Registers full, held, unregistered blocks and logs one stored event. */
void jr_paged_cache_store(struct jr_paged_cache *c, const struct jr_cache_run *run);
/* Forgets all hashes and logs a cleared event; false, and nothing happens, while a block is held. */
bool jr_paged_cache_reset(struct jr_paged_cache *c);

/* The log and a fresh, empty one behind it. *ret is valid until the next but one take: the two
 * buffers take turns, so the receiver may let the cache go on. */
void jr_paged_cache_take_log(struct jr_paged_cache *c, struct jr_cache_log *ret);

/* The whole structure checked in O(blocks): free + held = total, queue and copies consistent.
 * NULL when sound, else what is wrong. For tests. */
const char *jr_paged_cache_check(const struct jr_paged_cache *c);

#endif
