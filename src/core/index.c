/* SPDX-License-Identifier: Apache-2.0 */
#include "core/index.h"
#include "base/limits.h"
#include "core/chain.h"
#include "core/index_internal.h"
#include <string.h>

#define AHEAD       16 /* blocks whose cache lines are fetched before they are needed; a power of 2 */
#define AHEAD_FIND  8   /* of them, those whose slot is known already */
#define AHEAD_FETCH 2   /* blocks of an event that comes later */
#define HEADS_COLD  512 /* buckets of the heads' table from which fetching pays */

bool jr_index_has_member(const struct jr_index *idx, uint32_t member)
{
    return member < idx->members_cap && idx->members[member].known;
}

/* ---- sets of slots --------------------------------------------------------------------------- */

static void set_put(struct jr_index *idx, uint32_t slot, struct jr_idset set)
{
    struct jr_chunk *c = jr_places_chunk_of(&idx->places, slot);

    jr_places_at(&idx->places, slot)->set = set.word;
    if (set.wide)
        c->wide |= jr_places_bit(slot);
    else
        c->wide &= (uint16_t)~jr_places_bit(slot);
}

/* Count one more block hash that names a slot its column is at already. */
static int copy_add(struct jr_column *c, uint32_t slot)
{
    uint64_t copies = 0;

    (void)jr_map_get(&c->copies, slot, &copies);
    return jr_map_put(&c->copies, slot, copies + 1);
}

static bool copy_del(struct jr_column *c, uint32_t slot)
{
    uint64_t copies;
    int rv = 0;

    if (c->copies.n == 0 || !jr_map_del(&c->copies, slot, &copies))
        return false;
    if (copies > 1)
        rv = jr_map_put(&c->copies, slot, copies - 1); /* into the room just made */
    JR_ASSERT(rv == 0);
    return true;
}

/* One more block of the column names this slot. JR_ENOMEM: as before. */
static int join(struct jr_index *idx, struct jr_column *c, uint32_t slot)
{
    uint32_t id = (uint32_t)(c - idx->columns);
    struct jr_place *at = jr_places_at(&idx->places, slot);
    struct jr_idset set = jr_index_set(idx, slot);
    int rv;

    if (!set.wide && id < JR_IDSET_NARROW && at->set != 0 && !(at->set >> id & 1)) {
        at->set |= UINT64_C(1) << id;
        return 0;
    }
    if (jr_idset_has(&idx->sets, set, id))
        return copy_add(c, slot);
    rv = jr_idset_add(&idx->sets, &set, id);
    if (rv < 0)
        return rv;
    if (at->set == 0)
        jr_places_revive(&idx->places);
    if (set.wide)
        set_put(idx, slot, set);
    else
        at->set = set.word;
    return 0;
}

static inline void set_del(struct jr_index *idx, uint32_t id, uint32_t slot)
{
    struct jr_place *at = jr_places_at(&idx->places, slot);
    struct jr_idset set = jr_index_set(idx, slot);

    if (!set.wide) {
        at->set &= ~(UINT64_C(1) << id);
    } else {
        jr_idset_del(&idx->sets, &set, id);
        set_put(idx, slot, set);
    }
    if (at->set == 0)
        jr_places_free(&idx->places, slot);
}

/* One block less; the column leaves the slot with the last. Never needs memory. */
void jr_index_leave(struct jr_index *idx, struct jr_column *c, uint32_t slot)
{
    if (!copy_del(c, slot))
        set_del(idx, (uint32_t)(c - idx->columns), slot);
}

/* ---- entries --------------------------------------------------------------------------------- */

uint64_t jr_index_digest_term(uint64_t worker_id, uint32_t dp_rank, uint64_t block_hash,
                              uint64_t prefix_hash)
{
    uint64_t seed = jr_mix64(jr_mix64(worker_id + JR_INDEX_GOLDEN) + dp_rank + JR_INDEX_GOLDEN);
    return jr_index_digest_entry(seed, block_hash, prefix_hash);
}

static inline void digest_add(struct jr_index *idx, struct jr_column *c, uint64_t term)
{
    c->digest += term;
    idx->digest += term;
}

/* A slot for the prefix with the column in it. JR_ENOMEM: as before. */
static inline int slot_for(struct jr_index *idx, struct jr_column *c, uint32_t parent,
                           uint64_t prefix_hash, uint32_t *slot)
{
    uint32_t id = (uint32_t)(c - idx->columns);
    int rv;

    if (*slot != JR_PLACES_NONE)
        return join(idx, c, *slot);
    if (parent != JR_PLACES_NONE && id < JR_IDSET_NARROW)
        *slot = jr_places_append(&idx->places, parent, prefix_hash, UINT64_C(1) << id);
    if (*slot != JR_PLACES_NONE)
        return 0;
    rv = jr_places_add(&idx->places, parent, prefix_hash, slot);
    if (rv < 0)
        return rv;
    struct jr_idset set = {0, false};
    rv = jr_idset_add(&idx->sets, &set, id);
    JR_ASSERT(rv == 0);
    jr_places_at(&idx->places, *slot)->set = set.word;
    if (set.wide)
        set_put(idx, *slot, set);
    return 0;
}

/* The block is known at another place. */
static int move(struct jr_index *idx, struct jr_column *c, struct jr_blockmap_at at,
                uint32_t parent, uint64_t block_hash, uint64_t prefix_hash, uint32_t *slot)
{
    uint32_t old = at.bucket->slot[at.way];
    uint64_t old_prefix = jr_places_at(&idx->places, old)->prefix_hash;
    int rv = slot_for(idx, c, parent, prefix_hash, slot);

    if (rv < 0)
        return rv;
    jr_blockmap_touch(&c->blocks, at);
    at.bucket->slot[at.way] = *slot;
    jr_index_leave(idx, c, old);
    digest_add(idx, c,
               jr_index_digest_entry(c->digest_seed, block_hash, prefix_hash) -
                   jr_index_digest_entry(c->digest_seed, block_hash, old_prefix));
    return 0;
}

/* All that can fail comes before the first change. *slot: where the prefix is, NONE: nowhere yet. */
static inline int put(struct jr_index *idx, struct jr_column *c, uint32_t parent,
                      uint64_t block_hash, uint64_t prefix_hash, bool capped, uint32_t *slot)
{
    struct jr_blockmap_at at;
    int rv;

    if (jr_blockmap_find(&c->blocks, block_hash, &at)) {
        if (at.bucket->slot[at.way] == *slot)
            return 0;
        return move(idx, c, at, parent, block_hash, prefix_hash, slot);
    }
    if (capped && idx->entries_max > 0 && idx->entries >= idx->entries_max)
        return JR_ELIMIT;
    rv = jr_blockmap_reserve(&c->blocks, idx->mem, &at);
    if (rv == 0)
        rv = slot_for(idx, c, parent, prefix_hash, slot);
    if (rv < 0)
        return rv;
    jr_blockmap_insert(&c->blocks, at, block_hash, *slot);
    idx->entries++;
    digest_add(idx, c, jr_index_digest_entry(c->digest_seed, block_hash, prefix_hash));
    return 0;
}

static int store_run(struct jr_index *idx, struct jr_column *c, uint32_t parent,
                     const struct jr_kv_block *blocks, uint32_t n)
{
    uint64_t prefix[AHEAD], prev = 0;
    bool cold = idx->places.heads.cur.n >= HEADS_COLD;
    uint32_t fetched = 0;

    if (parent != JR_PLACES_NONE)
        prev = jr_places_at(&idx->places, parent)->prefix_hash;
    for (uint32_t i = 0; i < n; i++) {
        for (; fetched < n && fetched < i + AHEAD; fetched++) {
            uint64_t local = blocks[fetched].local_hash;
            prev = fetched == 0 && parent == JR_PLACES_NONE ? local : jr_chain(prev, local);
            prefix[fetched % AHEAD] = prev;
            jr_blockmap_fetch(&c->blocks, blocks[fetched].block_hash);
            if (cold)
                jr_heads_fetch(&idx->places.heads, prev);
        }
        uint32_t slot = jr_places_seek(&idx->places, parent, prefix[i % AHEAD]);
        int rv = put(idx, c, parent, blocks[i].block_hash, prefix[i % AHEAD], true, &slot);
        if (rv < 0)
            return rv;
        parent = slot;
    }
    return 0;
}

static inline void some_work(struct jr_index *idx, uint32_t n)
{
    if (jr_index_work_is_left(idx))
        (void)jr_index_work(idx, 64 + n * UINT64_C(4));
}

int jr_index_store(struct jr_index *idx, uint32_t member, bool has_parent, uint64_t parent_hash,
                   const struct jr_kv_block *blocks, uint32_t n)
{
    struct jr_column *c = jr_index_column(idx, member);
    struct jr_blockmap_at at;

    some_work(idx, n);
    if (!has_parent)
        return store_run(idx, c, JR_PLACES_NONE, blocks, n);
    if (!jr_blockmap_find(&c->blocks, parent_hash, &at))
        return JR_ENOTFOUND;
    return store_run(idx, c, at.bucket->slot[at.way], blocks, n);
}

/* Whoever restores does not say whose child a block is: only heads are found then. */
int jr_index_restore(struct jr_index *idx, uint32_t member, uint64_t block_hash,
                     uint64_t prefix_hash)
{
    struct jr_column *c = jr_index_column(idx, member);
    uint32_t slot;
    int rv = 0;

    some_work(idx, 1);
    if (idx->places.heads.n < idx->places.n + idx->places.kept)
        rv = jr_places_list_all(&idx->places);
    if (rv < 0)
        return rv;
    slot = jr_places_find(&idx->places, prefix_hash);
    return put(idx, c, JR_PLACES_NONE, block_hash, prefix_hash, false, &slot);
}

int jr_index_presize(struct jr_index *idx, uint32_t member, uint64_t blocks)
{
    return jr_blockmap_presize(&jr_index_column(idx, member)->blocks, idx->mem, blocks);
}

__attribute__((always_inline)) static inline void restore_fetch(const struct jr_index *idx,
                                                                const struct jr_image_entry *e,
                                                                const uint32_t *member_of_rank)
{
    const struct jr_column *c = jr_index_column(idx, member_of_rank[e->rank]);

    jr_blockmap_fetch(&c->blocks, e->block_hash);
    if (!(e->flags & JR_IMAGE_FLAGS))
        jr_heads_fetch(&idx->places.heads, e->prefix_hash);
}

int jr_index_restore_run(struct jr_index *idx, const struct jr_image_entry *entries, uint32_t n,
                         const uint32_t *member_of_rank, uint32_t *at)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct jr_image_entry *e = &entries[i];
        struct jr_column *c = jr_index_column(idx, member_of_rank[e->rank]);
        bool is_child = (e->flags & JR_IMAGE_CHILD) && *at != JR_PLACES_NONE;
        uint32_t slot = JR_PLACES_NONE;
        int rv;

        if (i + AHEAD < n)
            restore_fetch(idx, &entries[i + AHEAD], member_of_rank);
        if ((e->flags & JR_IMAGE_SAME) && *at != JR_PLACES_NONE)
            slot = *at;
        else if (!is_child)
            slot = jr_places_find(&idx->places, e->prefix_hash);
        rv = put(idx, c, is_child ? *at : JR_PLACES_NONE, e->block_hash, e->prefix_hash, false,
                 &slot);
        if (rv < 0)
            return rv;
        *at = slot;
    }
    return 0;
}

/* A removed block never moves another, so what was found ahead stays where it is; it may only be
 * gone already, when the event names it twice. */
static inline bool forget(struct jr_index *idx, struct jr_column *c, struct jr_blockmap_at at,
                          uint64_t block_hash)
{
    uint32_t slot;
    uint64_t prefix;

    if (!at.bucket || !(at.bucket->meta >> at.way & 1))
        return false;
    jr_blockmap_touch(&c->blocks, at);
    slot = at.bucket->slot[at.way];
    prefix = jr_places_at(&idx->places, slot)->prefix_hash;
    digest_add(idx, c, -jr_index_digest_entry(c->digest_seed, block_hash, prefix));
    jr_index_leave(idx, c, slot);
    jr_blockmap_erase(&c->blocks, at);
    idx->entries--;
    return true;
}

uint32_t jr_index_remove(struct jr_index *idx, uint32_t member, const uint64_t *hashes, uint32_t n)
{
    struct jr_column *c = jr_index_column(idx, member);
    struct jr_blockmap_at at[AHEAD_FIND];
    uint32_t known = 0, fetched = 0, found = 0;

    some_work(idx, n);
    for (uint32_t i = 0; i < n; i++) {
        for (; fetched < n && fetched < i + AHEAD; fetched++)
            jr_blockmap_fetch(&c->blocks, hashes[fetched]);
        for (; found < n && found < i + AHEAD_FIND; found++) {
            struct jr_blockmap_at *a = &at[found % AHEAD_FIND];
            if (!jr_blockmap_find(&c->blocks, hashes[found], a))
                a->bucket = NULL;
            else
                __builtin_prefetch(jr_places_at(&idx->places, a->bucket->slot[a->way]), 1);
        }
        known += forget(idx, c, at[i % AHEAD_FIND], hashes[i]);
    }
    jr_blockmap_shrink(&c->blocks, idx->mem);
    return known;
}

void jr_index_fetch(const struct jr_index *idx, uint32_t member, const struct jr_kv_event *e)
{
    const struct jr_blockmap *blocks = &jr_index_column(idx, member)->blocks;

    /* gcc takes a function that only fetches for one without effect, and drops calls of it. */
    __asm__ volatile("");

    for (uint32_t i = 0; i < e->n && i < AHEAD_FETCH && e->type == JR_KV_STORED; i++)
        jr_blockmap_fetch(blocks, e->blocks[i].block_hash);
    for (uint32_t i = 0; i < e->n && i < AHEAD_FETCH && e->type == JR_KV_REMOVED; i++)
        jr_blockmap_fetch(blocks, e->hashes[i]);
}

bool jr_index_lookup(const struct jr_index *idx, uint32_t member, uint64_t block_hash,
                     uint64_t *ret_prefix)
{
    struct jr_blockmap_at at;

    if (!jr_blockmap_find(&jr_index_column(idx, member)->blocks, block_hash, &at))
        return false;
    if (ret_prefix)
        *ret_prefix = jr_places_at(&idx->places, at.bucket->slot[at.way])->prefix_hash;
    return true;
}

/* ---- numbers --------------------------------------------------------------------------------- */

uint64_t jr_index_digest(const struct jr_index *idx)
{
    return idx->digest;
}

uint64_t jr_index_entries(const struct jr_index *idx)
{
    return idx->entries;
}

uint64_t jr_index_blocks(const struct jr_index *idx)
{
    return idx->places.n;
}

uint64_t jr_index_member_digest(const struct jr_index *idx, uint32_t member)
{
    return jr_index_column(idx, member)->digest;
}

uint64_t jr_index_member_entries(const struct jr_index *idx, uint32_t member)
{
    return jr_index_column(idx, member)->blocks.n;
}

void jr_index_set_entries_max(struct jr_index *idx, uint64_t entries_max)
{
    idx->entries_max = entries_max;
}
