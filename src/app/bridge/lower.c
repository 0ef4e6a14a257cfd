/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/lower.h"

#include "base/assert.h"

enum { ON_HOST = 1, ON_DISK = 2 };

static uint64_t bit_of(enum jr_engine_medium medium)
{
    return medium == JR_MEDIUM_CPU ? ON_HOST : ON_DISK;
}

void jr_bridge_lower_init(struct jr_bridge_lower *l, const struct jr_bridge_rank *device)
{
    JR_ASSERT(device->config.dp_rank < JR_LOWER_STEP);
    *l = (struct jr_bridge_lower){.device = device};
    jr_mem_init(&l->mem);
    jr_map_init(&l->media, &l->mem);
    for (int i = 0; i < JR_LOWERS; i++) {
        struct jr_bridge_rank_config config = device->config;
        config.dp_rank = jr_lower_row(device->config.dp_rank, (enum jr_lower)i);
        jr_bridge_rank_init(&l->rows[i], &config);
        l->rows[i].leader = device;
        l->rows[i].mirror.plain_set = true;
    }
}

void jr_bridge_lower_deinit(struct jr_bridge_lower *l)
{
    for (int i = 0; i < JR_LOWERS; i++)
        jr_bridge_rank_deinit(&l->rows[i]);
    jr_map_deinit(&l->media);
    jr_mem_deinit(&l->mem);
}

static uint64_t media_of(const struct jr_bridge_lower *l, uint64_t hash)
{
    uint64_t media;
    return jr_map_get(&l->media, hash, &media) ? media : 0;
}

/* Without memory a block stays what it was: it is missing somewhere, which costs a hit. */
static void set_media(struct jr_bridge_lower *l, uint64_t hash, uint64_t media)
{
    uint64_t was = media_of(l, hash);
    if (media == 0)
        jr_map_del(&l->media, hash, NULL);
    else if (jr_map_put(&l->media, hash, media) < 0)
        return;
    l->on_host = l->on_host + ((media & ON_HOST) != 0 ? 1 : 0) - ((was & ON_HOST) != 0 ? 1 : 0);
    l->on_disk = l->on_disk + ((media & ON_DISK) != 0 ? 1 : 0) - ((was & ON_DISK) != 0 ? 1 : 0);
}

void jr_bridge_lower_stored(struct jr_bridge_lower *l, enum jr_engine_medium medium,
                            const struct jr_kv_event *stored, uint64_t salt_part)
{
    bool device = jr_engine_is_device(medium);
    jr_bridge_rank_store(&l->rows[JR_LOWER_ANY], stored, salt_part);
    if (device || bit_of(medium) == ON_HOST)
        jr_bridge_rank_store(&l->rows[JR_LOWER_HOST], stored, salt_part);
    for (uint32_t i = 0; !device && i < stored->n; i++) {
        uint64_t hash = stored->blocks[i].block_hash;
        if (jr_mirror_find(&l->rows[JR_LOWER_ANY].mirror, hash)) /* else its place is not known */
            set_media(l, hash, media_of(l, hash) | bit_of(medium));
    }
}

/* What one row knows of a block, for another. */
static void store_again(struct jr_bridge_rank *row, const struct jr_mirror_block *b, uint64_t salt)
{
    struct jr_kv_block block = {b->hash, b->local};
    struct jr_kv_event stored = {.type = JR_KV_STORED,
                                 .has_parent = b->has_parent,
                                 .parent_hash = b->parent,
                                 .blocks = &block,
                                 .n = 1};
    jr_bridge_rank_store(row, &stored, salt);
}

void jr_bridge_lower_known(struct jr_bridge_lower *l, enum jr_engine_medium medium,
                           const uint64_t *hashes, uint32_t n)
{
    const struct jr_mirror *any = &l->rows[JR_LOWER_ANY].mirror;
    for (uint32_t i = 0; i < n && !jr_engine_is_device(medium); i++) {
        const struct jr_mirror_block *b = jr_mirror_find(any, hashes[i]);
        if (!b)
            continue;
        set_media(l, hashes[i], media_of(l, hashes[i]) | bit_of(medium));
        if (bit_of(medium) == ON_HOST)
            store_again(&l->rows[JR_LOWER_HOST], b, jr_mirror_salt_part(any, b));
    }
}

void jr_bridge_lower_removed(struct jr_bridge_lower *l, enum jr_engine_medium medium,
                             const uint64_t *hashes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t media = media_of(l, hashes[i]);
        if (!jr_engine_is_device(medium)) {
            media &= ~bit_of(medium);
            set_media(l, hashes[i], media);
        }
        if (jr_mirror_find(&l->device->mirror, hashes[i]))
            continue;
        if (!(media & ON_HOST))
            jr_bridge_rank_remove(&l->rows[JR_LOWER_HOST], &hashes[i], 1);
        if (media == 0)
            jr_bridge_rank_remove(&l->rows[JR_LOWER_ANY], &hashes[i], 1);
    }
}

static void no_media(struct jr_bridge_lower *l)
{
    jr_map_deinit(&l->media);
    jr_map_init(&l->media, &l->mem);
    l->on_host = l->on_disk = 0;
}

void jr_bridge_lower_clear(struct jr_bridge_lower *l)
{
    no_media(l);
    for (int i = 0; i < JR_LOWERS; i++)
        jr_bridge_rank_clear(&l->rows[i]);
}

void jr_bridge_lower_forget(struct jr_bridge_lower *l)
{
    no_media(l);
    for (int i = 0; i < JR_LOWERS; i++)
        jr_bridge_rank_begin(&l->rows[i], l->device->reason, true);
}
