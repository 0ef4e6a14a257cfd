/* SPDX-License-Identifier: Apache-2.0 */
/* mirror: which blocks one engine rank holds now. Pure; one thread.
 *
 * Engines store a block's hash once per physical copy and remove it once per copy. The mirror counts
 * copies and passes on the first store and the last removal only, so that what it emitted, applied
 * to a plain set, is exactly the set of hashes with at least one copy.
 *
 *     slots (u32)             blocks (dense; a freed place is used again)
 *     [tag│3][   ][tag│1]     0: hash │ local │ parent │ copies │ salt       32 bytes a block
 *                             1: free ─► 2 ─► …
 *
 * A store under a parent that is not held is dropped and counted: its place is unknown. A parent may
 * leave before its children (SGLang); they stay held until their own removal. */
#ifndef JR_APP_BRIDGE_MIRROR_H
#define JR_APP_BRIDGE_MIRROR_H

#include "base/kv.h"
#include "base/mem.h"
#include <stddef.h>

struct jr_mirror_block {
    uint64_t hash;
    uint64_t local;
    uint64_t parent;    /* meaningless without has_parent */
    uint32_t copies;    /* 0: a free place */
    unsigned salt : 31; /* 1 + place in salts, 0: none; of a free place: 1 + the next free one */
    unsigned has_parent : 1;
};

struct jr_mirror_counters {
    uint64_t stored, removed; /* blocks passed on */
    uint64_t copies_more;     /* stores of a hash that was held */
    uint64_t copies_fewer;    /* removals that left a copy */
    uint64_t moved;           /* a held hash at another place: passed on again */
    uint64_t unknown_parent;  /* blocks dropped */
    uint64_t unknown_removed; /* removals of what is not held */
    uint64_t refused;         /* blocks over blocks_max */
    uint64_t unreachable;     /* dropped by a listing: no way to them from the root */
};

struct jr_mirror {
    struct jr_mirror_block *blocks;
    uint32_t *slots;   /* a piece of the hash, and place + 1; 0: empty */
    uint32_t n;        /* held */
    uint32_t n_places; /* of blocks, free ones included */
    uint32_t cap, n_slots;
    uint32_t free_head; /* place + 1 */
    uint32_t blocks_max;
    bool plain_set; /* the engine repeats stores without a new copy: do not count */
    struct jr_mirror_salt {
        uint64_t part; /* jr_hash_salt_part */
        uint32_t refs; /* 0: free */
    } * salts;         /* distinct cache salts of held blocks */
    uint32_t n_salts;
    struct jr_mirror_counters counters;
};

/* Gets each event that is to be passed on; arrays are borrowed for the call. */
typedef void jr_mirror_emit_fn(void *ctx, const struct jr_kv_event *event);

/* blocks_max 0: no limit but memory. */
void jr_mirror_init(struct jr_mirror *m, uint32_t blocks_max);
void jr_mirror_deinit(struct jr_mirror *m); /* zeroed is fine */

/* A run of blocks, each the child of the one before, the first of `parent` (or at the root).
 * salt_part: what the cache salt of the prompt adds to the seed. */
void jr_mirror_store(struct jr_mirror *m, const struct jr_kv_event *stored, uint64_t salt_part,
                     jr_mirror_emit_fn *emit, void *ctx);
void jr_mirror_remove(struct jr_mirror *m, const uint64_t *hashes, uint32_t n,
                      jr_mirror_emit_fn *emit, void *ctx);
/* All copies of all blocks are gone; emits a cleared event. */
void jr_mirror_clear(struct jr_mirror *m, jr_mirror_emit_fn *emit, void *ctx);

/* Everything held as stored events, parents before children, runs of at most run_max blocks. Blocks
 * that cannot be reached from the root are forgotten, since nobody can place them: afterwards the
 * mirror holds just what was emitted. */
void jr_mirror_list(struct jr_mirror *m, uint32_t run_max, jr_mirror_emit_fn *emit, void *ctx);

/* The block of that hash, or NULL; valid until the next change. */
const struct jr_mirror_block *jr_mirror_find(const struct jr_mirror *m, uint64_t hash);
/* What children of the block inherit; 0: no salt. */
uint64_t jr_mirror_salt_part(const struct jr_mirror *m, const struct jr_mirror_block *block);
size_t jr_mirror_bytes(const struct jr_mirror *m);

#endif
