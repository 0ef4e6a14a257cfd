/* SPDX-License-Identifier: Apache-2.0 */
/* jetrouter: KV-cache-aware choice of an inference worker, to be embedded.
 *
 * One struct jetrouter is one pool: workers that serve the same model with the same KV block size.
 * Tell it what the workers' KV events say (stored, removed, cleared), ask it for the best worker of
 * a prompt, and tell it when requests begin and end. It keeps a prefix index and the load; it opens
 * nothing, starts nothing and reads no clock: times are milliseconds of any monotonic clock of the
 * caller. One thread at a time.
 *
 * Functions that can fail return 0 or a negative code; jetrouter_error_text says it in words. What
 * is passed in is borrowed for the call. Structs are to be zero-initialised: fields may be added, and
 * 0 is always the default. */
#ifndef JETROUTER_H
#define JETROUTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JETROUTER_API __attribute__((visibility("default")))

struct jetrouter;
struct jetrouter_region;

enum jetrouter_cost {
    JETROUTER_COST_SECONDS = 0,    /* estimated seconds, the default */
    JETROUTER_COST_DYNAMO_1_0 = 1, /* overlap weight 1 */
    JETROUTER_COST_DYNAMO_1_2 = 2, /* credit 1, scale 1 */
};

struct jetrouter_options {
    uint32_t block_size; /* tokens, > 0 */
    enum jetrouter_cost cost;
    uint64_t index_entries_max; /* 0: no cap */
    size_t bytes_max;           /* of memory; 0: no cap */
    /* A large index is faster in huge pages, whose first touch would stall its thread. With this set
     * memory is reserved ahead, some of it beside bytes_max. It is called within calls of the library:
     * hand the region to another thread, which calls jetrouter_region_touch. NULL: small pages. */
    void (*warm)(void *ctx, struct jetrouter_region *region);
    void *warm_ctx;
};

struct jetrouter_worker {
    uint64_t id;
    uint32_t dp_rank;
};

struct jetrouter_block {
    uint64_t block_hash; /* the engine's own name of the block */
    uint64_t local_hash; /* of its tokens: jetrouter_hash_tokens */
};

struct jetrouter_request {
    const uint32_t *tokens; /* of the prompt */
    uint32_t n_tokens;
    const char *lora;       /* name of the adapter; NULL: none */
    const char *cache_salt; /* NULL: none */
};

struct jetrouter_choice {
    struct jetrouter_worker worker;
    uint32_t overlap_blocks; /* of the prompt the worker holds by its KV events */
    uint32_t cached_blocks;  /* it is believed to hold when the request gets there */
    uint64_t uncached_tokens;
    double cost;
    double prefill_s; /* estimate */
};

JETROUTER_API const char *jetrouter_version(void);
JETROUTER_API const char *jetrouter_error_text(int error);

/* *ret is the caller's, to be given to jetrouter_destroy (which takes NULL). */
JETROUTER_API int jetrouter_create(const struct jetrouter_options *options, struct jetrouter **ret);
JETROUTER_API void jetrouter_destroy(struct jetrouter *r);
/* Any thread, soon, and once for each region that `warm` was given; takes it. It may come after
 * jetrouter_destroy. */
JETROUTER_API void jetrouter_region_touch(struct jetrouter_region *region);

/* Local hashes of the prompt's full blocks into ret[n_tokens / block_size]; returns their number. */
JETROUTER_API uint32_t jetrouter_hash_tokens(const struct jetrouter *r,
                                             const struct jetrouter_request *request,
                                             uint64_t *ret);

/* Workers come and go. A worker that is gone keeps its running requests until they are done. */
JETROUTER_API int jetrouter_worker_add(struct jetrouter *r, struct jetrouter_worker worker);
JETROUTER_API int jetrouter_worker_remove(struct jetrouter *r, struct jetrouter_worker worker);

/* KV events of a worker. parent is the block hash before the first block, NULL for the root; a parent
 * the worker does not hold is an error and nothing is stored. Removing what is unknown is none. */
JETROUTER_API int jetrouter_stored(struct jetrouter *r, struct jetrouter_worker worker,
                                   const uint64_t *parent, const struct jetrouter_block *blocks,
                                   uint32_t n);
JETROUTER_API int jetrouter_removed(struct jetrouter *r, struct jetrouter_worker worker,
                                    const uint64_t *block_hashes, uint32_t n);
JETROUTER_API int jetrouter_cleared(struct jetrouter *r, struct jetrouter_worker worker);

struct jetrouter_overlap {
    struct jetrouter_worker worker;
    uint32_t blocks; /* of the prompt, from its start without a hole, that the worker holds */
};
/* Who holds how much of a prompt: up to max workers that hold at least its first block into ret, in no
 * order. Returns how many there are, which may be more than max, or an error. */
JETROUTER_API int jetrouter_query(struct jetrouter *r, const struct jetrouter_request *request,
                                  struct jetrouter_overlap *ret, uint32_t max);

/* The best worker of a request now: what it would cost on each, and the least of that. Books nothing:
 * the same question again has the same answer until something is told. An error when there is no
 * worker. */
JETROUTER_API int jetrouter_select(struct jetrouter *r, const struct jetrouter_request *request,
                                   uint64_t now_ms, struct jetrouter_choice *ret);

/* A request went to the worker of `choice`: it counts as load there, its prompt's blocks as cached,
 * until jetrouter_free. key is the caller's, unique among the booked ones. */
JETROUTER_API int jetrouter_book(struct jetrouter *r, uint64_t key,
                                 const struct jetrouter_request *request,
                                 const struct jetrouter_choice *choice, uint64_t now_ms);
/* Its first token came: its prefill is over. What that took teaches the estimates. */
JETROUTER_API int jetrouter_first_token(struct jetrouter *r, uint64_t key, uint64_t now_ms);
/* It ended, or did not get through to the worker: the booking is undone. */
JETROUTER_API int jetrouter_free(struct jetrouter *r, uint64_t key, uint64_t now_ms);

/* The index as bytes, for a restart or for another router of the same version: its workers and their
 * blocks with counts and digest, not the load. *ret_size is what it needs; with less than that in
 * `size` (buffer may be NULL then) nothing is written and the code says so. */
JETROUTER_API int jetrouter_export(struct jetrouter *r, void *buffer, size_t size,
                                   size_t *ret_size);
/* Takes such bytes in the place of what the index holds; workers in them that are not known are
 * added, others stay, with no blocks. Counts, block size and digest are verified: on an error nothing
 * has changed. */
JETROUTER_API int jetrouter_import(struct jetrouter *r, const void *bytes, size_t size);

struct jetrouter_stats {
    uint64_t entries; /* (worker, block) pairs in the index */
    uint64_t blocks;  /* distinct prefixes */
    uint64_t digest;  /* equal content, equal digest, whatever the order of events */
    uint64_t bytes;   /* of memory */
    uint32_t workers, requests;
};
JETROUTER_API void jetrouter_stats(const struct jetrouter *r, struct jetrouter_stats *ret);

#ifdef __cplusplus
}
#endif
#endif
