/* SPDX-License-Identifier: Apache-2.0 */
/* image: the whole state of a pool at one sequence, as flat arrays: what core freezes, wire encodes
 * into a snapshot and back. docs/protocol.md §4. */
#ifndef JR_BASE_IMAGE_H
#define JR_BASE_IMAGE_H

#include "base/err.h"
#include "base/kv.h"
#include "base/limits.h"
#include <stdbool.h>
#include <stddef.h>

/* What is known of an entry's prefix hash by its place in an arranged image. None is needed: without
 * any, or in any other order, an image means the same, but is slower to restore and takes more room
 * then. */
enum jr_image_flag {
    JR_IMAGE_SAME = 1,  /* it is that of the entry before, another holds it, too */
    JR_IMAGE_CHILD = 2, /* it belongs to the child of the block of the entry before */
    JR_IMAGE_FLAGS = 3,
    JR_IMAGE_FOLLOWS = 4 /* until arranged: a child of what was at the place before */
};

/* Newest snapshot format that this program reads and writes. */
#define JR_IMAGE_FORMAT 1

/* One block a (worker, rank) holds. `rank` is an index into the image's rank table. */
struct jr_image_entry {
    uint64_t block_hash;
    uint64_t prefix_hash;
    uint16_t rank;
    uint16_t flags; /* of enum jr_image_flag */
    uint32_t place; /* where the index had it; 0 once arranged */
};
_Static_assert(JR_WORKERS_MAX <= UINT16_MAX, "a rank has 16 bits");

struct jr_image_rank {
    uint64_t worker_id;
    uint32_t dp_rank;
    bool waiting; /* a hole was seen; events are ignored until the next begin */
    uint64_t incarnation;
    uint64_t newest_id; /* newest applied event id; meaningful when has_id */
    bool has_id;
    uint64_t n_entries; /* in the image, or 0: not known */
};

struct jr_image {
    uint32_t format; /* of the snapshot it was read from or is to be written in */
    uint32_t rule_version;
    char namespace_[JR_NAME_MAX];
    char component[JR_NAME_MAX];
    struct jr_pool_params params;
    struct jr_epoch epoch;
    char reset_token[64]; /* the last that was applied */
    uint64_t digest_blocks, digest_table;
    /* Position: one shard. */
    char stream[JR_NAME_MAX * 2];
    int64_t stream_created_ns;
    uint64_t seq;
    int64_t msg_time_ns; /* of the message at seq */
    uint64_t msg_hash;
    /* Refusal counters are part of the state. */
    uint64_t dropped_unknown_parent, dropped_stale, dropped_hole, undecodable, refused_cap, skipped;
    struct jr_image_rank *ranks; /* sorted by (worker id, rank) */
    uint32_t n_ranks;
    struct jr_image_entry *entries; /* any order; digest is order-independent */
    uint64_t n_entries;
    uint32_t *links; /* until arranged: by 16 places, the 16 they follow + 1, or 0 */
    uint64_t n_links;
    struct jr_image *next; /* of whoever owns it */
};

/* One verified snapshot; object "" is none. */
struct jr_snapshot_ref {
    char object[32]; /* snapshot-a, snapshot-b */
    uint64_t seq;
    uint64_t revision; /* stream sequence of the object's meta message */
    uint64_t bytes;
    int64_t created_ns;        /* Unix time */
    int64_t stream_created_ns; /* identity of the stream that seq belongs to */
    uint64_t digest_blocks, digest_table;
    struct jr_epoch epoch;
};
/* What the state bucket says of snapshots. */
struct jr_snapshots_record {
    struct jr_snapshot_ref newest, previous;
};

/* An image owns its arrays (jr_x memory). NULL is fine. */
struct jr_image *jr_image_create(void);
void jr_image_destroy(struct jr_image *image);
/* The same in pieces of a megabyte, which takes no loop long; true when it is gone. */
JR_MUST_CHECK bool jr_image_destroy_some(struct jr_image *image);
/* Puts the entries of an image that came out of an index in order: all holders of a block in a row,
 * child after parent where the index had them so, with the flags that say so. Takes as much memory
 * again meanwhile. Any thread; O(n). */
void jr_image_arrange(struct jr_image *image);

#endif
