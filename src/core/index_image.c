/* SPDX-License-Identifier: Apache-2.0 */
/* index: what it held at one moment, copied out while it changes (core/blockmap.h tells how). A block
 * that is copied out still names its slot, and a slot that is named keeps its prefix hash: so the
 * places need no copy of their own. What is true of a slot that never changes while somebody names
 * it, that it is not a head and so the child of the slot before, tells the image's order.
 *
 *     shut ──open──► open ──step…──► whole ──close──► shut
 *                     └─────────close──► shedding ──step…──► shut        a reset: lost */
#include "core/index_internal.h"
#include <stddef.h>

#define SWEEP_AHEAD 4 /* buckets whose slots are fetched before they are needed */

static const struct jr_column *column_of(const struct jr_blockmap *m)
{
    return (const struct jr_column *)(const void *)((const char *)m -
                                                    offsetof(struct jr_column, blocks));
}

static void emit(struct jr_index_image *x, const struct jr_places *p, struct jr_image_entry *e,
                 uint32_t slot)
{
    const struct jr_chunk *c = jr_places_chunk_of(p, slot);

    e->prefix_hash = jr_places_at(p, slot)->prefix_hash;
    e->place = slot;
    if (c->head & jr_places_bit(slot))
        return;
    e->flags = JR_IMAGE_FOLLOWS;
    if (slot % JR_PLACES_CHUNK == 0)
        x->links[slot / JR_PLACES_CHUNK] = c->prev + 1;
}

static void save(void *ctx, const struct jr_blockmap *m, const struct jr_blockmap_bucket *b)
{
    struct jr_index *idx = ctx;
    struct jr_index_image *x = &idx->image;

    if (x->state != JR_INDEX_IMAGE_OPEN)
        return;
    for (uint32_t left = b->meta & JR_BLOCKMAP_OCCUPIED; left != 0; left &= left - 1) {
        uint32_t way = (uint32_t)__builtin_ctz(left);
        struct jr_image_entry *e = &x->out[x->n++];
        JR_ASSERT(x->n <= x->expect);
        *e = (struct jr_image_entry){.block_hash = b->low[way] | (uint64_t)b->high[way] << 32,
                                     .rank = (uint16_t)column_of(m)->number};
        emit(x, &idx->places, e, b->slot[way]);
    }
}

__attribute__((always_inline)) static inline void fetch_slots(const struct jr_places *p,
                                                              const struct jr_blockmap_bucket *b)
{
    for (uint32_t left = b->meta & JR_BLOCKMAP_OCCUPIED; left != 0; left &= left - 1) {
        uint32_t slot = b->slot[__builtin_ctz(left)];
        __builtin_prefetch(jr_places_at(p, slot));
        __builtin_prefetch(jr_places_chunk_of(p, slot));
    }
}

static bool sweep_table(struct jr_index *idx, const struct jr_blockmap *m,
                        struct jr_blockmap_table *t, uint64_t *budget)
{
    bool is_copied = idx->image.state == JR_INDEX_IMAGE_OPEN;

    for (; t->swept<t->n && * budget> 0; t->swept++) {
        if (is_copied && t->swept + SWEEP_AHEAD < t->n)
            fetch_slots(&idx->places, &t->v[t->swept + SWEEP_AHEAD]);
        jr_blockmap_before(m, t, &t->v[t->swept]);
        *budget -= *budget < JR_BLOCKMAP_WAYS ? *budget : JR_BLOCKMAP_WAYS;
    }
    return t->swept == t->n;
}

bool jr_index_image_sweep(struct jr_index *idx, struct jr_column *c, uint64_t *budget)
{
    return sweep_table(idx, &c->blocks, &c->blocks.old, budget) &&
           sweep_table(idx, &c->blocks, &c->blocks.cur, budget);
}

static void shut(struct jr_index *idx)
{
    for (uint32_t i = 0; i < idx->columns_cap; i++)
        jr_blockmap_thaw(&idx->columns[i].blocks);
    idx->image.state = JR_INDEX_IMAGE_SHUT;
}

int jr_index_image_open(struct jr_index *idx, struct jr_image *image, const uint32_t *number)
{
    struct jr_index_image *x = &idx->image;

    if (x->state != JR_INDEX_IMAGE_SHUT)
        return JR_EAGAIN;
    *x = (struct jr_index_image){
        .state = JR_INDEX_IMAGE_OPEN,
        .watch = {save, idx},
        .expect = idx->entries,
    };
    image->n_links = (uint64_t)idx->places.segments_n * JR_PLACES_CHUNKS;
    image->links = jr_xalloc((image->n_links + 1) * sizeof *image->links);
    image->entries = jr_xalloc((idx->entries + 1) * sizeof *image->entries);
    x->links = image->links;
    x->out = image->entries;
    for (uint32_t i = 0; i < idx->columns_cap; i++) {
        struct jr_column *c = &idx->columns[i];
        if (c->state != JR_COLUMN_LIVE)
            continue;
        c->number = number[c->member];
        jr_blockmap_freeze(&c->blocks, &x->watch);
    }
    return 0;
}

static bool work(struct jr_index *idx, uint64_t *budget)
{
    struct jr_index_image *x = &idx->image;

    for (; x->column < idx->columns_cap; x->column++) {
        if (!jr_index_image_sweep(idx, &idx->columns[x->column], budget))
            return false;
    }
    return true;
}

int jr_index_image_step(struct jr_index *idx, uint64_t budget, struct jr_image *image)
{
    struct jr_index_image *x = &idx->image;

    if (x->state != JR_INDEX_IMAGE_OPEN)
        return JR_ECLOSED;
    if (!work(idx, &budget))
        return JR_EAGAIN;
    JR_ASSERT(x->n == x->expect);
    image->n_entries = x->n;
    shut(idx);
    return 0;
}

void jr_index_image_close(struct jr_index *idx, struct jr_image *image)
{
    image->n_entries = idx->image.n;
    if (idx->image.state == JR_INDEX_IMAGE_OPEN)
        idx->image.state = JR_INDEX_IMAGE_SHEDDING;
    idx->image.out = NULL;
    idx->image.links = NULL;
}

void jr_index_image_shed(struct jr_index *idx, uint64_t *budget)
{
    if (idx->image.state == JR_INDEX_IMAGE_SHEDDING && work(idx, budget))
        shut(idx);
}

/* Its tables are gone, or elsewhere. */
void jr_index_image_lose(struct jr_index *idx)
{
    for (uint32_t i = 0; i < idx->columns_cap; i++)
        idx->columns[i].blocks.watch = NULL;
    idx->image = (struct jr_index_image){.n = idx->image.n};
}
