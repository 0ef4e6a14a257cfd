/* SPDX-License-Identifier: Apache-2.0 */
/* index: which member of a pool holds which blocks. A member is one (worker, dp rank); the caller
 * gives each a small dense id. The pool's owner thread only.
 *
 * The content is a set of entries (member, block hash, prefix hash), a pure function of the calls
 * made (design rule "one log, one order"): block hash is the engine's opaque name, prefix hash says
 * which sequence of tokens the block ends (core/hash.h). At most one entry a (member, block hash);
 * several block hashes of one member may name the same prefix.
 *
 *     member tables                     places
 *     0: block hash -> slot  -------->  | prefix hash, set of members | … |   children follow
 *     1: block hash -> slot  -------->  | prefix hash, set of members | … |   their parents
 *     …
 *
 * Both are flat. The blocks of a run lie in a row, so an event and a query go through memory in
 * order; only where runs part a hash table is asked (core/places.h, docs/adr/0009-index-memory-and-restore.md). A
 * query compares prefix hashes block by block and narrows the set of members until it is empty. No
 * call takes long: tables grow a few buckets a call, and what clears and resets leave behind is freed
 * by jr_index_work and by the calls that follow. */
#ifndef JR_CORE_INDEX_H
#define JR_CORE_INDEX_H

#include "base/err.h"
#include "base/image.h"
#include "base/kv.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_index;

/* Borrows mem, which must outlive the index. entries_max 0: no cap. Returns owned. JR_ENOMEM. */
JR_MUST_CHECK int jr_index_create(struct jr_mem *mem, uint64_t entries_max, struct jr_index **ret);
void jr_index_destroy(struct jr_index *idx);
/* A new cap applies to stores from here on; what is there stays. */
void jr_index_set_entries_max(struct jr_index *idx, uint64_t entries_max);

/* Introduce a member: 0, JR_EEXIST, JR_ELIMIT (id >= JR_WORKERS_MAX), JR_ENOMEM. Every other call
 * asserts that its member is known. */
JR_MUST_CHECK int jr_index_add_member(struct jr_index *idx, uint32_t member, uint64_t worker_id,
                                      uint32_t dp_rank);
bool jr_index_has_member(const struct jr_index *idx, uint32_t member);
/* Forget a member; asserts that it holds nothing. */
void jr_index_drop_member(struct jr_index *idx, uint32_t member);

/* A run of blocks, the first a child of parent_hash (a block hash of this member) or of the root,
 * each the child of the one before. Borrows blocks.
 *   0            all stored; what was there already stays, a block hash known at another place
 * moves JR_ENOTFOUND the member does not hold the parent: nothing stored JR_ELIMIT    the cap was
 * met: the blocks before the first new one that did not fit are stored JR_ENOMEM    a first part of
 * the blocks is stored, as the memory allowed; the index is whole */
JR_MUST_CHECK int jr_index_store(struct jr_index *idx, uint32_t member, bool has_parent,
                                 uint64_t parent_hash, const struct jr_kv_block *blocks,
                                 uint32_t n);
/* Unknown hashes are skipped, descendants stay. Returns how many were known. */
uint32_t jr_index_remove(struct jr_index *idx, uint32_t member, const uint64_t *hashes, uint32_t n);
/* For an event that comes JR_INDEX_EVENTS_AHEAD calls later: the cache lines that its first blocks
 * need are fetched, which events of one block cannot do for themselves. Changes nothing. */
#define JR_INDEX_EVENTS_AHEAD 12
void jr_index_fetch(const struct jr_index *idx, uint32_t member, const struct jr_kv_event *e);
/* All blocks of one member; the member stays known. Memory of large ones comes back in slices. */
void jr_index_clear(struct jr_index *idx, uint32_t member);
/* All blocks of all members; the members stay known. Memory comes back in slices. */
void jr_index_reset(struct jr_index *idx);
/* A slice of what clears and resets left: about `budget` blocks. False when nothing is left. Never
 * changes an answer but those of jr_index_blocks and jr_index_bytes; calls of store, remove and
 * restore do some of it themselves. */
bool jr_index_work(struct jr_index *idx, uint64_t budget);
bool jr_index_has_work(const struct jr_index *idx);
/* One entry of a snapshot; any order gives the same index. The cap is not applied. JR_ENOMEM: not
 * stored. */
JR_MUST_CHECK int jr_index_restore(struct jr_index *idx, uint32_t member, uint64_t block_hash,
                                   uint64_t prefix_hash);
/* Entries of an image in their order, from `n` in a row on; what their flags say is believed, so the
 * index should be a fresh one. Ranks are those of member_of_rank. *at: where the entry before went;
 * JR_INDEX_NOWHERE before the first. The cap is not applied. JR_ENOMEM: some are stored. */
#define JR_INDEX_NOWHERE UINT32_MAX
JR_MUST_CHECK int jr_index_restore_run(struct jr_index *idx, const struct jr_image_entry *entries,
                                       uint32_t n, const uint32_t *member_of_rank, uint32_t *at);
/* Room for so many blocks of a member that has none yet. JR_EAGAIN: a piece of its memory was made
 * ready, call it again with the same number; JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_index_presize(struct jr_index *idx, uint32_t member, uint64_t blocks);
/* Where a block is; false when the member does not hold it. ret_prefix may be NULL. */
bool jr_index_lookup(const struct jr_index *idx, uint32_t member, uint64_t block_hash,
                     uint64_t *ret_prefix);

struct jr_index_score {
    uint32_t member;
    uint32_t blocks; /* contiguous from the root, held now; > 0 */
};

/* Result of a query, the caller's, reused from one to the next. Zero-initialised by init. */
struct jr_index_match {
    struct jr_mem *mem;       /* borrows */
    struct jr_index_score *v; /* sorted by member */
    uint32_t n;
    uint32_t cap;
    uint64_t *scratch;
    uint64_t scratch_bytes;
};

void jr_index_match_init(struct jr_index_match *m, struct jr_mem *mem);
void jr_index_match_deinit(struct jr_index_match *m);
uint64_t jr_index_match_bytes(const struct jr_index_match *m);
/* Score of every member that holds at least the first block. prefix_hashes are those of the
 * prompt's blocks in order. Allocates only while the result array grows. JR_ENOMEM: *ret is empty.
 */
JR_MUST_CHECK int jr_index_match(const struct jr_index *idx, const uint64_t *prefix_hashes,
                                 uint32_t n, struct jr_index_match *ret);
/* The same for the local hashes of the blocks (core/hash.h): hashes no further than somebody holds
 * the prompt, and off the critical path. */
JR_MUST_CHECK int jr_index_match_local(const struct jr_index *idx, const uint64_t *local_hashes,
                                       uint32_t n, struct jr_index_match *ret);
/* Score of one member by binary search in the sorted result; 0 when it is not there. */
uint32_t jr_index_match_blocks(const struct jr_index_match *m, uint32_t member);

/* Sum over all entries of
 *   mix(mix(mix(mix(worker_id + G) + dp_rank + G) + block_hash + G) + prefix_hash + G), mod 2^64
 * with mix = jr_mix64 and G = 0x9e3779b97f4a7c15. Does not depend on order, ids or history. */
uint64_t jr_index_digest(const struct jr_index *idx);
uint64_t jr_index_digest_term(uint64_t worker_id, uint32_t dp_rank, uint64_t block_hash,
                              uint64_t prefix_hash);
uint64_t jr_index_entries(const struct jr_index *idx);
/* Distinct prefixes, those of cleared members included until jr_index_work comes to them. */
uint64_t jr_index_blocks(const struct jr_index *idx);
/* The part of one member in the sum. */
uint64_t jr_index_member_digest(const struct jr_index *idx, uint32_t member);
uint64_t jr_index_member_entries(const struct jr_index *idx, uint32_t member);
uint64_t jr_index_bytes(const struct jr_index *idx); /* live, of all it allocated */

/* All entries as they are at jr_index_image_open, copied out in slices while the index changes; one
 * at a time. A change copies what it is about to change and what was not copied yet: some buckets of
 * five blocks, each once. Clears go on as ever, but for their memory, which waits for the copy. */
/* Gives the image its entries and links; it must live until the end. number: what the entries have
 * as `rank`, by member; copied. JR_EAGAIN: one is open, or was given up and jr_index_work has not put
 * it away yet. */
JR_MUST_CHECK int jr_index_image_open(struct jr_index *idx, struct jr_image *image,
                                      const uint32_t *number);
/* A slice of about `budget` blocks. 0: the image is whole, and shut; JR_EAGAIN: there is more;
 * JR_ECLOSED: none is open, a reset took the content away. */
JR_MUST_CHECK int jr_index_image_step(struct jr_index *idx, uint64_t budget,
                                      struct jr_image *image);
/* Gives it up before it is whole; the image has what was copied, and is not touched any more. */
void jr_index_image_close(struct jr_index *idx, struct jr_image *image);

/* Walk over all entries in slices. Zero-initialised is the start. Entries carry the member in
 * `rank`; order is that of the tables. The index must not change between the slices of one walk. */
struct jr_index_cursor {
    uint64_t slot;
    uint32_t member;
};
/* Up to max entries into out; 0 at the end. */
uint32_t jr_index_export(const struct jr_index *idx, struct jr_index_cursor *cursor,
                         struct jr_image_entry *out, uint32_t max);

/* Test builds: every invariant between the tables, O(n). */
void jr_index_check(const struct jr_index *idx);

#endif
