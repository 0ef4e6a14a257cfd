/* SPDX-License-Identifier: Apache-2.0 */
/* What the halves of core/index share. A member's blocks are in a *column*, numbered anew when a large
 * member is cleared: the old column takes no part in anything any more and is emptied in slices.
 *
 *     members           columns                         places                  sets
 *     0 --------------> 0: block hash -> slot --------> prefix hash, set ----> bits of columns
 *     1 --------.       1: (dying) block hash -> slot
 *                `----> 2: block hash -> slot */
#ifndef JR_CORE_INDEX_INTERNAL_H
#define JR_CORE_INDEX_INTERNAL_H

#include "base/assert.h"
#include "base/map.h"
#include "core/blockmap.h"
#include "core/idset.h"
#include "core/index.h"
#include "core/places.h"

#define JR_INDEX_GOLDEN UINT64_C(0x9e3779b97f4a7c15)

enum jr_column_state { JR_COLUMN_FREE, JR_COLUMN_LIVE, JR_COLUMN_DYING };

struct jr_column {
    enum jr_column_state state;
    uint32_t member;
    uint64_t digest_seed;
    uint64_t digest; /* of its entries */
    struct jr_blockmap blocks;
    struct jr_map copies; /* slot -> further block hashes that name it; rarely any */
    uint64_t drained;     /* dying: position in blocks */
    bool is_empty;        /* dying: all are drained, the memory goes */
    uint32_t next_dying;
    uint32_t number; /* of the member in the image that is open */
};

enum jr_index_image_state {
    JR_INDEX_IMAGE_SHUT,
    JR_INDEX_IMAGE_OPEN,
    JR_INDEX_IMAGE_SHEDDING /* given up: buckets are marked, nothing is copied */
};

struct jr_index_image {
    enum jr_index_image_state state;
    struct jr_blockmap_watch watch;
    struct jr_image_entry *out; /* borrows, like links */
    uint32_t *links;
    uint64_t n, expect;
    uint32_t column; /* those below are whole */
};

/* What a reset left, freed in slices. */
struct jr_index_tomb {
    struct jr_index_tomb *next;
    struct jr_places places;
    struct jr_idset_pool sets;
    struct jr_blockmap *maps;
    uint32_t maps_n, freed;
};

struct jr_index {
    struct jr_mem *mem;
    uint64_t entries_max;
    uint64_t entries;
    uint64_t digest;
    struct jr_index_member {
        bool known;
        uint32_t column;
    } * members;
    uint32_t members_cap;
    struct jr_column *columns;
    uint64_t *live; /* bits of the live columns */
    uint32_t columns_cap;
    uint32_t columns_free; /* none is free below */
    uint32_t shifted;      /* members whose column has another number */
    uint32_t dying;        /* first column, or NONE */
    struct jr_places places;
    struct jr_idset_pool sets;
    struct jr_index_tomb *tombs;
    struct jr_index_image image;
};

#define JR_INDEX_NONE UINT32_MAX

static inline struct jr_column *jr_index_column(const struct jr_index *idx, uint32_t member)
{
    JR_ASSERT(jr_index_has_member(idx, member));
    return &idx->columns[idx->members[member].column];
}

static inline uint64_t jr_index_digest_entry(uint64_t seed, uint64_t block_hash,
                                             uint64_t prefix_hash)
{
    return jr_mix64(jr_mix64(seed + block_hash + JR_INDEX_GOLDEN) + prefix_hash + JR_INDEX_GOLDEN);
}

static inline struct jr_idset jr_index_set(const struct jr_index *idx, uint32_t slot)
{
    return (struct jr_idset){jr_places_at(&idx->places, slot)->set,
                             jr_places_is_wide(&idx->places, slot)};
}

/* One block of the column less names the slot; the column leaves its set with the last. */
void jr_index_leave(struct jr_index *idx, struct jr_column *c, uint32_t slot);

/* What the open image still needs of a column, before its blocks leave their slots; true when that is
 * nothing. */
bool jr_index_image_sweep(struct jr_index *idx, struct jr_column *c, uint64_t *budget);
/* A slice of what an image that was given up left. */
void jr_index_image_shed(struct jr_index *idx, uint64_t *budget);
void jr_index_image_lose(struct jr_index *idx);

static inline bool jr_index_work_is_left(const struct jr_index *idx)
{
    return idx->dying != JR_INDEX_NONE || idx->tombs || idx->image.state == JR_INDEX_IMAGE_SHEDDING;
}

#endif
