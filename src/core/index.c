/* SPDX-License-Identifier: Apache-2.0 */
#include "core/index.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/map.h"
#include "core/blockmap.h"
#include "core/hash.h"
#include "core/idset.h"
#include <string.h>

#define GOLDEN      UINT64_C(0x9e3779b97f4a7c15)
#define CHUNK       16 /* blocks whose cache lines are fetched together */
#define AHEAD       12 /* blocks a query fetches ahead */
#define PLACES_MIN  64
#define MEMBERS_MIN 64

struct place { /* slot of the prefix table */
    uint64_t prefix_hash;
    uint64_t set; /* of members, core/idset.h; 0: free */
};

struct member {
    bool known;
    uint32_t dp_rank;
    uint64_t worker_id;
    uint64_t digest_seed;
    struct jr_blockmap blocks;
    struct jr_map copies; /* prefix hash -> further block hashes that name it; rarely any */
};

struct jr_index {
    struct jr_mem *mem;
    uint64_t entries_max;
    uint64_t entries;
    uint64_t digest;
    struct member *members;
    uint32_t members_cap;
    struct place *places;
    uint64_t places_cap; /* 0 or a power of two */
    uint64_t places_n;
    struct jr_idset_pool sets;
};

bool jr_index_has_member(const struct jr_index *idx, uint32_t member)
{
    return member < idx->members_cap && idx->members[member].known;
}

static struct member *member_of(const struct jr_index *idx, uint32_t member)
{
    JR_ASSERT(jr_index_has_member(idx, member));
    return &idx->members[member];
}

/* ---- prefix table ---------------------------------------------------------------------------- */

static uint64_t place_slot(const struct place *places, uint64_t cap, uint64_t prefix_hash)
{
    uint64_t i = jr_blockmap_home(prefix_hash, cap);

    while (places[i].set != 0 && places[i].prefix_hash != prefix_hash)
        i = (i + 1) & (cap - 1);
    return i;
}

static int places_reserve(struct jr_index *idx, uint64_t more)
{
    uint64_t cap = idx->places_cap > 0 ? idx->places_cap : PLACES_MIN / 2;
    struct place *places;

    if ((idx->places_n + more) * 4 <= idx->places_cap * 3)
        return 0;
    do
        cap *= 2;
    while ((idx->places_n + more) * 4 > cap * 3);
    places = jr_mem_zalloc(idx->mem, cap * sizeof *places);
    if (!places)
        return JR_ENOMEM;
    for (uint64_t i = 0; i < idx->places_cap; i++) {
        if (idx->places[i].set != 0)
            places[place_slot(places, cap, idx->places[i].prefix_hash)] = idx->places[i];
    }
    jr_mem_free(idx->mem, idx->places, idx->places_cap * sizeof *places);
    idx->places = places;
    idx->places_cap = cap;
    return 0;
}

static void place_del(struct jr_index *idx, uint64_t hole)
{
    uint64_t mask = idx->places_cap - 1;
    struct place *p = idx->places;

    for (uint64_t i = (hole + 1) & mask; p[i].set != 0; i = (i + 1) & mask) {
        uint64_t home = jr_blockmap_home(p[i].prefix_hash, idx->places_cap);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            p[hole] = p[i];
            hole = i;
        }
    }
    p[hole].set = 0;
    idx->places_n--;
}

/* Count one more block hash that names a prefix its member is at already. */
static int copy_add(struct member *m, uint64_t prefix_hash)
{
    uint64_t copies = 0;

    (void)jr_map_get(&m->copies, prefix_hash, &copies);
    return jr_map_put(&m->copies, prefix_hash, copies + 1);
}

static bool copy_del(struct member *m, uint64_t prefix_hash)
{
    uint64_t copies;
    int rv = 0;

    if (m->copies.n == 0 || !jr_map_del(&m->copies, prefix_hash, &copies))
        return false;
    if (copies > 1)
        rv = jr_map_put(&m->copies, prefix_hash, copies - 1); /* into the room just made */
    JR_ASSERT(rv == 0);
    return true;
}

/* One more block of the member names this prefix. Room for a place was reserved. */
static int prefix_join(struct jr_index *idx, struct member *m, uint32_t id, uint64_t prefix_hash)
{
    struct place *p = &idx->places[place_slot(idx->places, idx->places_cap, prefix_hash)];
    bool fresh = p->set == 0;
    int rv;

    if (!fresh && jr_idset_has(&idx->sets, p->set, id))
        return copy_add(m, prefix_hash);
    rv = jr_idset_add(&idx->sets, &p->set, id);
    if (rv < 0)
        return rv;
    p->prefix_hash = prefix_hash;
    idx->places_n += fresh;
    return 0;
}

/* One block less; the member leaves the prefix with the last. Never allocates. */
static void prefix_leave(struct jr_index *idx, struct member *m, uint32_t id, uint64_t prefix_hash)
{
    uint64_t i;

    if (copy_del(m, prefix_hash))
        return;
    i = place_slot(idx->places, idx->places_cap, prefix_hash);
    jr_idset_del(&idx->sets, &idx->places[i].set, id);
    if (idx->places[i].set == 0)
        place_del(idx, i);
}

/* ---- entries --------------------------------------------------------------------------------- */

static uint64_t digest_seed(uint64_t worker_id, uint32_t dp_rank)
{
    return jr_mix64(jr_mix64(worker_id + GOLDEN) + dp_rank + GOLDEN);
}

static uint64_t digest_entry(uint64_t seed, uint64_t block_hash, uint64_t prefix_hash)
{
    return jr_mix64(jr_mix64(seed + block_hash + GOLDEN) + prefix_hash + GOLDEN);
}

uint64_t jr_index_digest_term(uint64_t worker_id, uint32_t dp_rank, uint64_t block_hash,
                              uint64_t prefix_hash)
{
    return digest_entry(digest_seed(worker_id, dp_rank), block_hash, prefix_hash);
}

/* All that can fail comes before the first change. */
static int put(struct jr_index *idx, struct member *m, uint64_t block_hash, uint64_t prefix_hash,
               bool capped)
{
    uint32_t id = (uint32_t)(m - idx->members);
    uint64_t old = 0;
    bool found = jr_blockmap_get(&m->blocks, block_hash, &old);
    int rv;

    if (found && old == prefix_hash)
        return 0;
    if (!found && capped && idx->entries_max > 0 && idx->entries >= idx->entries_max)
        return JR_ELIMIT;
    rv = jr_blockmap_reserve(&m->blocks, idx->mem, 1);
    if (rv == 0)
        rv = places_reserve(idx, 1);
    if (rv == 0)
        rv = prefix_join(idx, m, id, prefix_hash);
    if (rv < 0)
        return rv;
    if (found) {
        prefix_leave(idx, m, id, old);
        idx->digest -= digest_entry(m->digest_seed, block_hash, old);
    }
    jr_blockmap_put(&m->blocks, block_hash, prefix_hash);
    idx->entries += !found;
    idx->digest += digest_entry(m->digest_seed, block_hash, prefix_hash);
    return 0;
}

static void fetch_place(const struct jr_index *idx, uint64_t prefix_hash)
{
    if (idx->places_cap > 0)
        __builtin_prefetch(&idx->places[jr_blockmap_home(prefix_hash, idx->places_cap)], 1);
}

int jr_index_store(struct jr_index *idx, uint32_t member, bool has_parent, uint64_t parent_hash,
                   const struct jr_kv_block *blocks, uint32_t n)
{
    struct member *m = member_of(idx, member);
    uint64_t prefix[CHUNK], prev = 0;
    bool root = !has_parent;
    int rv = 0;

    if (has_parent && !jr_blockmap_get(&m->blocks, parent_hash, &prev))
        return JR_ENOTFOUND;
    for (uint32_t at = 0; at < n; at += CHUNK) {
        uint32_t k = n - at < CHUNK ? n - at : CHUNK;

        for (uint32_t i = 0; i < k; i++) {
            uint64_t local = blocks[at + i].local_hash;
            prefix[i] = prev = root ? local : jr_hash_chain(prev, local);
            root = false;
            jr_blockmap_fetch(&m->blocks, blocks[at + i].block_hash);
            fetch_place(idx, prefix[i]);
        }
        for (uint32_t i = 0; i < k; i++) {
            rv = put(idx, m, blocks[at + i].block_hash, prefix[i], true);
            if (rv < 0)
                return rv;
        }
    }
    return 0;
}

int jr_index_restore(struct jr_index *idx, uint32_t member, uint64_t block_hash,
                     uint64_t prefix_hash)
{
    return put(idx, member_of(idx, member), block_hash, prefix_hash, false);
}

static void forget(struct jr_index *idx, struct member *m, uint64_t block_hash,
                   uint64_t prefix_hash)
{
    prefix_leave(idx, m, (uint32_t)(m - idx->members), prefix_hash);
    idx->digest -= digest_entry(m->digest_seed, block_hash, prefix_hash);
    idx->entries--;
}

uint32_t jr_index_remove(struct jr_index *idx, uint32_t member, const uint64_t *hashes, uint32_t n)
{
    struct member *m = member_of(idx, member);
    uint32_t known = 0;
    uint64_t prefix = 0;

    for (uint32_t at = 0; at < n; at += CHUNK) {
        uint32_t k = n - at < CHUNK ? n - at : CHUNK;

        for (uint32_t i = 0; i < k; i++)
            jr_blockmap_fetch(&m->blocks, hashes[at + i]);
        for (uint32_t i = 0; i < k; i++) {
            if (jr_blockmap_get(&m->blocks, hashes[at + i], &prefix))
                fetch_place(idx, prefix);
        }
        for (uint32_t i = 0; i < k; i++) {
            if (!jr_blockmap_get(&m->blocks, hashes[at + i], &prefix))
                continue;
            forget(idx, m, hashes[at + i], prefix);
            jr_blockmap_del(&m->blocks, hashes[at + i]);
            known++;
        }
    }
    return known;
}

static void member_free(struct jr_index *idx, struct member *m)
{
    jr_map_deinit(&m->copies);
    jr_map_init(&m->copies, idx->mem);
    jr_blockmap_free(&m->blocks, idx->mem);
}

void jr_index_clear(struct jr_index *idx, uint32_t member)
{
    struct member *m = member_of(idx, member);
    struct jr_blockmap_slot slot;

    for (uint64_t i = 0; i <= m->blocks.cap; i++) {
        if (i + AHEAD < m->blocks.cap)
            fetch_place(idx, m->blocks.slots[i + AHEAD].prefix_hash);
        if (jr_blockmap_at(&m->blocks, i, &slot))
            forget(idx, m, slot.block_hash, slot.prefix_hash);
    }
    member_free(idx, m);
}

static void tables_free(struct jr_index *idx)
{
    for (uint32_t i = 0; i < idx->members_cap; i++) {
        if (idx->members[i].known)
            member_free(idx, &idx->members[i]);
    }
    jr_mem_free(idx->mem, idx->places, idx->places_cap * sizeof *idx->places);
    idx->places = NULL;
    idx->places_cap = idx->places_n = 0;
    jr_idset_deinit(&idx->sets);
}

void jr_index_reset(struct jr_index *idx)
{
    tables_free(idx);
    idx->entries = 0;
    idx->digest = 0;
}

bool jr_index_lookup(const struct jr_index *idx, uint32_t member, uint64_t block_hash,
                     uint64_t *ret_prefix)
{
    uint64_t prefix;
    bool found = jr_blockmap_get(&member_of(idx, member)->blocks, block_hash, &prefix);

    if (found && ret_prefix)
        *ret_prefix = prefix;
    return found;
}

/* ---- life and members ------------------------------------------------------------------------ */

int jr_index_create(struct jr_mem *mem, uint64_t entries_max, struct jr_index **ret)
{
    struct jr_index *idx = jr_mem_zalloc(mem, sizeof *idx);

    if (!idx)
        return JR_ENOMEM;
    idx->mem = mem;
    idx->entries_max = entries_max;
    jr_idset_init(&idx->sets, mem);
    *ret = idx;
    return 0;
}

void jr_index_destroy(struct jr_index *idx)
{
    if (!idx)
        return;
    tables_free(idx);
    jr_mem_free(idx->mem, idx->members, idx->members_cap * sizeof *idx->members);
    jr_mem_free(idx->mem, idx, sizeof *idx);
}

void jr_index_set_entries_max(struct jr_index *idx, uint64_t entries_max)
{
    idx->entries_max = entries_max;
}

static int members_reserve(struct jr_index *idx, uint32_t member)
{
    uint32_t cap = idx->members_cap > 0 ? idx->members_cap : MEMBERS_MIN;
    struct member *members;
    int rv;

    if (member < idx->members_cap)
        return 0;
    while (cap <= member)
        cap *= 2;
    rv = jr_idset_widen(&idx->sets, cap);
    if (rv < 0)
        return rv;
    members = jr_mem_zalloc(idx->mem, cap * sizeof *members);
    if (!members)
        return JR_ENOMEM;
    if (idx->members_cap > 0)
        memcpy(members, idx->members, idx->members_cap * sizeof *members);
    jr_mem_free(idx->mem, idx->members, idx->members_cap * sizeof *members);
    idx->members = members;
    idx->members_cap = cap;
    return 0;
}

int jr_index_add_member(struct jr_index *idx, uint32_t member, uint64_t worker_id, uint32_t dp_rank)
{
    struct member *m;
    int rv;

    if (member >= JR_WORKERS_MAX)
        return JR_ELIMIT;
    rv = members_reserve(idx, member);
    if (rv < 0)
        return rv;
    m = &idx->members[member];
    if (m->known)
        return JR_EEXIST;
    memset(m, 0, sizeof *m);
    m->known = true;
    m->worker_id = worker_id;
    m->dp_rank = dp_rank;
    m->digest_seed = digest_seed(worker_id, dp_rank);
    jr_map_init(&m->copies, idx->mem);
    return 0;
}

void jr_index_drop_member(struct jr_index *idx, uint32_t member)
{
    struct member *m = member_of(idx, member);

    JR_ASSERT(jr_blockmap_n(&m->blocks) == 0);
    member_free(idx, m);
    m->known = false;
}

/* ---- queries --------------------------------------------------------------------------------- */

void jr_index_match_init(struct jr_index_match *m, struct jr_mem *mem)
{
    memset(m, 0, sizeof *m);
    m->mem = mem;
}

static void match_free(struct jr_index_match *m)
{
    jr_mem_free(m->mem, m->v, m->cap * sizeof *m->v);
    jr_mem_free(m->mem, m->active, m->cap * sizeof *m->active);
}

void jr_index_match_deinit(struct jr_index_match *m)
{
    match_free(m);
    jr_index_match_init(m, m->mem);
}

static int match_reserve(struct jr_index_match *m, uint32_t n)
{
    struct jr_index_match grown = *m;

    if (n <= m->cap)
        return 0;
    grown.cap = m->cap > 0 ? m->cap : 16;
    while (grown.cap < n)
        grown.cap *= 2;
    grown.v = jr_mem_alloc(m->mem, grown.cap * sizeof *grown.v);
    grown.active = jr_mem_alloc(m->mem, grown.cap * sizeof *grown.active);
    if (!grown.v || !grown.active) {
        match_free(&grown);
        return JR_ENOMEM;
    }
    match_free(m);
    *m = grown;
    return 0;
}

static const struct place *place_find(const struct jr_index *idx, uint64_t prefix_hash)
{
    const struct place *p;

    p = &idx->places[place_slot(idx->places, idx->places_cap, prefix_hash)];
    return p->set != 0 ? p : NULL;
}

/* The candidates: members of the first block. */
static int match_begin(const struct jr_index *idx, uint64_t set, struct jr_index_match *ret)
{
    uint32_t n = jr_idset_count(&idx->sets, set);
    int rv = match_reserve(ret, n);

    if (rv < 0)
        return rv;
    (void)jr_idset_ids(&idx->sets, set, ret->active, n);
    for (uint32_t i = 0; i < n; i++) {
        ret->v[i] = (struct jr_index_score){ret->active[i], 0};
        ret->active[i] = i;
    }
    ret->n = n;
    return 0;
}

/* Those of the first `left` active that are in set stay; the others end with `blocks`. */
static uint32_t match_narrow(const struct jr_index *idx, uint64_t set, uint32_t left,
                             uint32_t blocks, struct jr_index_match *ret)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < left; i++) {
        struct jr_index_score *score = &ret->v[ret->active[i]];
        if (jr_idset_has(&idx->sets, set, score->member))
            ret->active[kept++] = ret->active[i];
        else
            score->blocks = blocks;
    }
    return kept;
}

int jr_index_match(const struct jr_index *idx, const uint64_t *prefix_hashes, uint32_t n,
                   struct jr_index_match *ret)
{
    const struct place *p;
    uint64_t set = 0;
    uint32_t left = 0, at;
    int rv;

    ret->n = 0;
    if (idx->places_cap == 0)
        return 0;
    for (uint32_t i = 0; i < n && i < AHEAD; i++)
        fetch_place(idx, prefix_hashes[i]);
    for (at = 0; at < n; at++) {
        if (n - at > AHEAD)
            fetch_place(idx, prefix_hashes[at + AHEAD]);
        p = place_find(idx, prefix_hashes[at]);
        if (!p)
            break;
        if (at == 0) {
            rv = match_begin(idx, p->set, ret);
            if (rv < 0)
                return rv;
            left = ret->n;
        } else if (!jr_idset_equal(&idx->sets, p->set, set)) {
            left = match_narrow(idx, p->set, left, at, ret);
            if (left == 0)
                break;
        }
        set = p->set;
    }
    for (uint32_t i = 0; i < left; i++)
        ret->v[ret->active[i]].blocks = at;
    return 0;
}

uint32_t jr_index_match_blocks(const struct jr_index_match *m, uint32_t member)
{
    uint32_t lo = 0, hi = m->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->v[mid].member < member)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->n && m->v[lo].member == member ? m->v[lo].blocks : 0;
}

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
    return idx->places_n;
}

uint64_t jr_index_member_entries(const struct jr_index *idx, uint32_t member)
{
    return jr_blockmap_n(&member_of(idx, member)->blocks);
}

uint64_t jr_index_bytes(const struct jr_index *idx)
{
    uint64_t bytes = sizeof *idx + idx->members_cap * sizeof *idx->members +
                     idx->places_cap * sizeof *idx->places + jr_idset_bytes(&idx->sets);

    for (uint32_t i = 0; i < idx->members_cap; i++) {
        const struct member *m = &idx->members[i];
        bytes += m->blocks.cap * sizeof *m->blocks.slots;
        bytes += m->copies.cap * (sizeof *m->copies.slots + sizeof *m->copies.used);
    }
    return bytes;
}

uint32_t jr_index_export(const struct jr_index *idx, struct jr_index_cursor *cursor,
                         struct jr_image_entry *out, uint32_t max)
{
    struct jr_blockmap_slot slot;
    uint32_t n = 0;

    for (; cursor->member < idx->members_cap; cursor->member++, cursor->slot = 0) {
        const struct jr_blockmap *blocks = &idx->members[cursor->member].blocks;

        for (; cursor->slot <= blocks->cap; cursor->slot++) {
            if (n == max)
                return n;
            if (!jr_blockmap_at(blocks, cursor->slot, &slot))
                continue;
            out[n++] = (struct jr_image_entry){.block_hash = slot.block_hash,
                                               .prefix_hash = slot.prefix_hash,
                                               .rank = cursor->member};
        }
    }
    return n;
}

/* ---- self-check ------------------------------------------------------------------------------ */

/* prefix hash -> how many block hashes of the member name it */
static void check_names(const struct member *m, struct jr_map *names, uint64_t *digest)
{
    struct jr_blockmap_slot slot;
    uint64_t n = 0, prefix, count;

    for (uint64_t i = 0; i <= m->blocks.cap; i++) {
        if (!jr_blockmap_at(&m->blocks, i, &slot))
            continue;
        n++;
        count = 0;
        (void)jr_map_get(names, slot.prefix_hash, &count);
        JR_ASSERT(jr_map_put(names, slot.prefix_hash, count + 1) == 0);
        JR_ASSERT(jr_blockmap_get(&m->blocks, slot.block_hash, &prefix));
        JR_ASSERT(prefix == slot.prefix_hash);
        *digest += digest_entry(m->digest_seed, slot.block_hash, slot.prefix_hash);
    }
    JR_ASSERT(n == jr_blockmap_n(&m->blocks));
}

static uint64_t check_member(const struct jr_index *idx, uint32_t id, uint64_t *digest)
{
    const struct member *m = &idx->members[id];
    uint64_t pos = 0, prefix, count, copies, with_copies = 0, joins;
    struct jr_map names;
    struct jr_mem mem;

    jr_mem_init(&mem);
    jr_map_init(&names, &mem);
    check_names(m, &names, digest);
    while (jr_map_next(&names, &pos, &prefix, &count)) {
        const struct place *p = place_find(idx, prefix);
        copies = 0;
        JR_ASSERT(p && jr_idset_has(&idx->sets, p->set, id));
        (void)jr_map_get(&m->copies, prefix, &copies);
        JR_ASSERT(copies == count - 1);
        with_copies += copies > 0;
    }
    JR_ASSERT(with_copies == m->copies.n);
    joins = names.n;
    jr_map_deinit(&names);
    jr_mem_deinit(&mem);
    return joins;
}

void jr_index_check(const struct jr_index *idx)
{
    uint64_t digest = 0, joins = 0, entries = 0, places = 0, members = 0;
    uint32_t ids[JR_IDSET_SMALL + 1];

    for (uint32_t i = 0; i < idx->members_cap; i++) {
        if (!idx->members[i].known)
            continue;
        joins += check_member(idx, i, &digest);
        entries += jr_blockmap_n(&idx->members[i].blocks);
    }
    for (uint64_t i = 0; i < idx->places_cap; i++) {
        uint64_t set = idx->places[i].set;
        if (set == 0)
            continue;
        places++;
        members += jr_idset_count(&idx->sets, set);
        JR_ASSERT(place_find(idx, idx->places[i].prefix_hash) == &idx->places[i]);
        JR_ASSERT(jr_idset_is_row(set) ==
                  (jr_idset_ids(&idx->sets, set, ids, JR_IDSET_SMALL + 1) > JR_IDSET_SMALL));
    }
    JR_ASSERT(digest == idx->digest);
    JR_ASSERT(entries == idx->entries);
    JR_ASSERT(places == idx->places_n);
    JR_ASSERT(members == joins);
}
