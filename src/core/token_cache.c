/* SPDX-License-Identifier: Apache-2.0 */
#include "core/token_cache.h"

#include "base/list.h"
#include "base/map.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOT_BYTES (sizeof(struct jr_map_slot) + 1)

struct entry {
    struct jr_list node; /* of used; the most recently used first */
    struct jr_token_key key;
    uint64_t *hashes; /* NULL: not yet */
    uint64_t seed;    /* that they were made with */
    uint32_t block_size;
    uint32_t n;
    uint32_t ids[];
};

struct jr_token_cache {
    struct jr_mem *mem;
    size_t bytes_max, entry_bytes;
    struct jr_map table; /* key.lo -> struct entry */
    struct jr_list used;
};

/* ---------------------------------------------------------------- keys */

_Static_assert(JR_TOKEN_SECRET >= XXH3_SECRET_SIZE_MIN, "XXH3 takes no shorter secret");

static void add_field(XXH3_state_t *s, struct jr_str field)
{
    uint64_t n = field.n;
    (void)XXH3_128bits_update(s, &n, sizeof n);
    if (n > 0)
        (void)XXH3_128bits_update(s, field.p, field.n);
}

void jr_token_keys(const struct jr_token_text *t, const size_t *ends, uint32_t n,
                   struct jr_token_key *ret)
{
    XXH3_state_t state;
    size_t at = 0;
    XXH3_INITSTATE(&state);
    (void)XXH3_128bits_reset_withSecret(&state, t->secret, JR_TOKEN_SECRET);
    for (uint32_t i = 0; i < t->n_fields; i++)
        add_field(&state, t->fields[i]);
    for (uint32_t i = 0; i < n; i++) {
        if (ends[i] > at)
            (void)XXH3_128bits_update(&state, t->text.p + at, ends[i] - at);
        at = ends[i];
        XXH128_hash_t h = XXH3_128bits_digest(&state);
        ret[i] = (struct jr_token_key){h.low64, h.high64};
    }
}

/* ---------------------------------------------------------------- cache */

int jr_token_cache_create(struct jr_mem *mem, size_t bytes_max, struct jr_token_cache **ret)
{
    struct jr_token_cache *c = jr_mem_zalloc(mem, sizeof *c);
    if (!c)
        return JR_ENOMEM;
    c->mem = mem;
    c->bytes_max = bytes_max;
    jr_map_init(&c->table, mem);
    jr_list_init(&c->used);
    *ret = c;
    return 0;
}

static size_t bytes_of(uint32_t n)
{
    return sizeof(struct entry) + (size_t)n * sizeof(uint32_t);
}

static uint32_t n_hashes(const struct entry *e)
{
    return e->hashes ? e->n / e->block_size : 0;
}

static void drop_hashes(struct jr_token_cache *c, struct entry *e)
{
    size_t bytes = n_hashes(e) * sizeof *e->hashes;
    c->entry_bytes -= bytes;
    jr_mem_free(c->mem, e->hashes, bytes);
    e->hashes = NULL;
}

static void drop(struct jr_token_cache *c, struct entry *e)
{
    drop_hashes(c, e);
    (void)jr_map_del(&c->table, e->key.lo, NULL);
    jr_list_remove(&e->node);
    c->entry_bytes -= bytes_of(e->n);
    jr_mem_free(c->mem, e, bytes_of(e->n));
}

static struct entry *oldest(struct jr_token_cache *c)
{
    return JR_CONTAINER_OF(c->used.prev, struct entry, node);
}

void jr_token_cache_destroy(struct jr_token_cache *c)
{
    if (!c)
        return;
    while (!jr_list_empty(&c->used))
        drop(c, oldest(c));
    jr_map_deinit(&c->table);
    jr_mem_free(c->mem, c, sizeof *c);
}

size_t jr_token_cache_bytes(const struct jr_token_cache *c)
{
    return c->entry_bytes + c->table.cap * SLOT_BYTES;
}

uint64_t jr_token_cache_entries(const struct jr_token_cache *c)
{
    return c->table.n;
}

static struct entry *find(const struct jr_token_cache *c, uint64_t lo)
{
    uint64_t at;
    return jr_map_get(&c->table, lo, &at) ? (struct entry *)(uintptr_t)at : NULL;
}

const uint32_t *jr_token_cache_get(struct jr_token_cache *c, struct jr_token_key key,
                                   uint32_t *ret_n)
{
    struct entry *e = find(c, key.lo);
    if (!e || e->key.hi != key.hi)
        return NULL;
    jr_list_remove(&e->node);
    jr_list_push_front(&c->used, &e->node);
    *ret_n = e->n;
    return e->ids;
}

static void make_room(struct jr_token_cache *c, size_t bytes)
{
    while (!jr_list_empty(&c->used) && jr_token_cache_bytes(c) + bytes > c->bytes_max)
        drop(c, oldest(c));
}

int jr_token_cache_put(struct jr_token_cache *c, struct jr_token_key key, const uint32_t *ids,
                       uint32_t n)
{
    size_t bytes = bytes_of(n);
    struct entry *e = find(c, key.lo);
    if (e)
        drop(c, e);
    if (bytes > c->bytes_max / 2)
        return JR_ELIMIT;
    make_room(c, bytes);
    e = jr_mem_alloc(c->mem, bytes);
    if (!e)
        return JR_ENOMEM;
    if (jr_map_put(&c->table, key.lo, (uintptr_t)e) < 0) {
        jr_mem_free(c->mem, e, bytes);
        return JR_ENOMEM;
    }
    e->key = key;
    e->hashes = NULL;
    e->n = n;
    if (n > 0)
        memcpy(e->ids, ids, (size_t)n * sizeof *ids);
    jr_list_push_front(&c->used, &e->node);
    c->entry_bytes += bytes;
    make_room(c, 0); /* the table may have grown */
    return 0;
}

static bool make_hashes(struct jr_token_cache *c, struct entry *e, const struct jr_hash_salt *salt,
                        uint32_t block_size)
{
    size_t bytes = e->n / block_size * sizeof *e->hashes;
    drop_hashes(c, e);
    e->hashes = jr_mem_alloc(c->mem, bytes);
    if (!e->hashes)
        return false;
    e->seed = jr_hash_seed(salt);
    e->block_size = block_size;
    (void)jr_hash_prompt(salt, e->ids, e->n, block_size, e->hashes);
    c->entry_bytes += bytes;
    /* It is in use now: the others leave, and it stays. */
    while (jr_token_cache_bytes(c) > c->bytes_max && oldest(c) != e)
        drop(c, oldest(c));
    if (jr_token_cache_bytes(c) <= c->bytes_max)
        return true;
    drop_hashes(c, e);
    return false;
}

const uint64_t *jr_token_cache_hashes(struct jr_token_cache *c, struct jr_token_key key,
                                      const struct jr_hash_salt *salt, uint32_t block_size,
                                      uint32_t *ret_n)
{
    uint32_t n;
    if (!jr_token_cache_get(c, key, &n) || block_size == 0 || n < block_size)
        return NULL;
    struct entry *e = find(c, key.lo);
    bool fits = e->hashes && e->seed == jr_hash_seed(salt) && e->block_size == block_size;
    if (!fits && !make_hashes(c, e, salt, block_size))
        return NULL;
    *ret_n = n_hashes(e);
    return e->hashes;
}
