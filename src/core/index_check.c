/* SPDX-License-Identifier: Apache-2.0 */
/* index: its size, the walk over all entries, and what must be true of it. */
#include "core/index_internal.h"

static uint64_t sets_bytes(const struct jr_idset_pool *p)
{
    return jr_idset_bytes(p);
}

static uint64_t tomb_bytes(const struct jr_index_tomb *t)
{
    uint64_t bytes = sizeof *t + t->maps_n * sizeof *t->maps + sets_bytes(&t->sets) +
                     jr_places_bytes(&t->places);

    for (uint32_t i = t->freed; i < t->maps_n; i++)
        bytes += jr_blockmap_bytes(&t->maps[i]);
    return bytes;
}

uint64_t jr_index_bytes(const struct jr_index *idx)
{
    uint64_t bytes = sizeof *idx + idx->members_cap * sizeof *idx->members +
                     idx->columns_cap * sizeof *idx->columns +
                     idx->columns_cap / 64 * sizeof *idx->live + sets_bytes(&idx->sets) +
                     jr_places_bytes(&idx->places);

    for (uint32_t i = 0; i < idx->columns_cap; i++) {
        const struct jr_column *c = &idx->columns[i];
        bytes += jr_blockmap_bytes(&c->blocks);
        bytes += c->copies.cap * (sizeof *c->copies.slots + sizeof *c->copies.used);
    }
    for (const struct jr_index_tomb *t = idx->tombs; t; t = t->next)
        bytes += tomb_bytes(t);
    return bytes;
}

uint32_t jr_index_export(const struct jr_index *idx, struct jr_index_cursor *cursor,
                         struct jr_image_entry *out, uint32_t max)
{
    uint32_t n = 0, slot;
    uint64_t hash, stride;

    for (; cursor->member < idx->members_cap; cursor->member++, cursor->slot = 0) {
        const struct jr_blockmap *blocks;

        if (!idx->members[cursor->member].known)
            continue;
        blocks = &jr_index_column(idx, cursor->member)->blocks;
        stride = jr_blockmap_stride(blocks);
        for (; cursor->slot < jr_blockmap_end(blocks); cursor->slot++) {
            if (!jr_blockmap_leap(blocks, stride, cursor->slot, &hash, &slot))
                continue;
            if (n == max)
                return n;
            out[n++] = (struct jr_image_entry){.block_hash = hash,
                                               .prefix_hash =
                                                   jr_places_at(&idx->places, slot)->prefix_hash,
                                               .rank = (uint16_t)cursor->member};
        }
    }
    return n;
}

/* ---- invariants ------------------------------------------------------------------------------ */

/* Every block is found where it is, in use, with its column in the set; names counts how many block
 * hashes name each slot. */
static void check_names(const struct jr_index *idx, const struct jr_column *c, struct jr_map *names,
                        uint64_t *ret_digest)
{
    uint64_t hash, count, n = 0;
    uint32_t slot, id = (uint32_t)(c - idx->columns);
    struct jr_blockmap_at at;

    *ret_digest = 0;
    for (uint64_t i = 0; i < jr_blockmap_end(&c->blocks); i++) {
        if (!jr_blockmap_at(&c->blocks, i, &hash, &slot))
            continue;
        n++;
        if (i < c->drained)
            continue;
        count = 0;
        (void)jr_map_get(names, slot, &count);
        int rv = jr_map_put(names, slot, count + 1);
        JR_ASSERT(rv == 0);
        JR_ASSERT(jr_blockmap_find(&c->blocks, hash, &at) && at.bucket->slot[at.way] == slot);
        JR_ASSERT(jr_idset_has(&idx->sets, jr_index_set(idx, slot), id));
        if (c->state == JR_COLUMN_LIVE)
            *ret_digest += jr_index_digest_entry(c->digest_seed, hash,
                                                 jr_places_at(&idx->places, slot)->prefix_hash);
    }
    JR_ASSERT(n == c->blocks.n || c->is_empty);
}

/* Returns how many sets a live column is in. */
static uint64_t check_column(const struct jr_index *idx, const struct jr_column *c)
{
    uint64_t pos = 0, slot, count, copies, with_copies = 0, joins = 0, digest;
    struct jr_map names;
    struct jr_mem mem;

    jr_mem_init(&mem);
    jr_map_init(&names, &mem);
    check_names(idx, c, &names, &digest);
    JR_ASSERT(c->state != JR_COLUMN_LIVE || digest == c->digest);
    while (jr_map_next(&names, &pos, &slot, &count)) {
        copies = 0;
        (void)jr_map_get(&c->copies, slot, &copies);
        JR_ASSERT(copies == count - 1);
        with_copies += copies > 0;
        joins += c->state == JR_COLUMN_LIVE;
    }
    JR_ASSERT(with_copies == c->copies.n);
    jr_map_deinit(&names);
    jr_mem_deinit(&mem);
    return joins;
}

/* Members of the live columns in all sets. */
static uint64_t check_sets(const struct jr_index *idx)
{
    uint64_t members = 0;

    for (uint32_t s = 0; s < idx->places.segments_n * JR_PLACES_SEGMENT; s++) {
        if (!idx->places.segments[s >> JR_PLACES_SHIFT].mem ||
            !(jr_places_chunk_of(&idx->places, s)->used & jr_places_bit(s)))
            continue;
        struct jr_idset set = jr_index_set(idx, s);
        uint32_t count = jr_idset_count(&idx->sets, set), seen = 0;
        bool above = false;
        for (uint32_t w = 0; w < idx->columns_cap / 64; w++) {
            uint64_t bits = jr_idset_word(&idx->sets, set, w);
            seen += (uint32_t)__builtin_popcountll(bits);
            members += (uint32_t)__builtin_popcountll(bits & idx->live[w]);
            above |= w > 0 && bits != 0;
        }
        JR_ASSERT(seen == count && above == set.wide);
        JR_ASSERT(jr_idset_is_row(set) == (above && count > JR_IDSET_SMALL));
    }
    return members;
}

void jr_index_check(const struct jr_index *idx)
{
    uint64_t digest = 0, joins = 0, entries = 0;
    uint32_t live = 0, shifted = 0;

    for (uint32_t i = 0; i < idx->columns_cap; i++) {
        const struct jr_column *c = &idx->columns[i];
        JR_ASSERT((idx->live[i / 64] >> (i % 64) & 1) == (c->state == JR_COLUMN_LIVE));
        if (c->state == JR_COLUMN_FREE)
            continue;
        if (c->state == JR_COLUMN_LIVE) {
            JR_ASSERT(idx->members[c->member].known && idx->members[c->member].column == i);
            entries += c->blocks.n;
            digest += c->digest;
            live++;
            shifted += i != c->member;
        }
        joins += check_column(idx, c);
    }
    for (uint32_t m = 0; m < idx->members_cap; m++)
        live -= idx->members[m].known;
    JR_ASSERT(live == 0 && shifted == idx->shifted);
    JR_ASSERT(digest == idx->digest && entries == idx->entries);
    jr_places_check(&idx->places);
    JR_ASSERT(joins == check_sets(idx));
}
