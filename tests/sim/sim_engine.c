/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine does with its blocks, and tells its bridge: on its device, and where lower media are
 * told of, in host memory and on disk. On each medium a block's parent is there as long as it is. */
#include "sim_world.h"

#include "core/hash.h"
#include <string.h>

uint32_t sim_row_number(uint32_t dp_rank, uint32_t i)
{
    return i == 0 ? dp_rank : jr_lower_row(dp_rank, (enum jr_lower)(i - 1));
}

uint32_t sim_row_media(uint32_t i)
{
    static const uint32_t media[SIM_FLOWS] = {
        SIM_ON_DEVICE,
        [1 + JR_LOWER_HOST] = SIM_ON_DEVICE | SIM_ON_HOST,
        [1 + JR_LOWER_ANY] = SIM_ON_DEVICE | SIM_ON_HOST | SIM_ON_DISK,
    };
    return media[i];
}

static bool tells_lower(const struct sim_rank *r)
{
    return r->n_flows > 1;
}

static bool has_child(const struct sim_rank *r, uint64_t hash, uint32_t medium)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->blocks[i].parent == hash && (r->blocks[i].on & medium))
            return true;
    return false;
}

static bool parent_is_on(const struct sim_rank *r, const struct sim_block *b, uint32_t medium)
{
    for (uint32_t i = 0; b->parent && i < r->n; i++)
        if (r->blocks[i].hash == b->parent)
            return r->blocks[i].on & medium;
    return true;
}

static enum jr_engine_medium name_of(uint32_t medium)
{
    return medium == SIM_ON_DEVICE ? JR_MEDIUM_GPU
           : medium == SIM_ON_HOST ? JR_MEDIUM_CPU
                                   : JR_MEDIUM_DISK;
}

static void tell_stored(struct sim_rank *r, const struct sim_block *b, uint32_t medium)
{
    struct jr_kv_block block = {b->hash, b->local};
    struct jr_kv_event e = {.type = JR_KV_STORED,
                            .has_parent = b->parent != 0,
                            .parent_hash = b->parent,
                            .blocks = &block,
                            .n = 1};
    if (medium == SIM_ON_DEVICE)
        jr_bridge_rank_store(&r->bridge, &e, 0);
    if (tells_lower(r))
        jr_bridge_lower_stored(&r->lower, name_of(medium), &e, 0);
}

static void store_new(struct sim *sim, struct sim_rank *r)
{
    struct sim_block b = {.hash = jr_rng_u64(&sim->rng) | 1,
                          .local = 1 + jr_rng_below(&sim->rng, 4),
                          .on = SIM_ON_DEVICE};
    uint64_t prefix = 0;
    if (r->n && !sim_chance(sim, 4)) {
        const struct sim_block *parent = &r->blocks[jr_rng_below(&sim->rng, r->n)];
        if (parent->on & SIM_ON_DEVICE) {
            b.parent = parent->hash;
            prefix = parent->prefix;
        }
    }
    b.prefix = b.parent ? jr_hash_chain(prefix, b.local) : b.local;
    r->blocks[r->n++] = b;
    tell_stored(r, &b, SIM_ON_DEVICE);
}

static void clear_all(struct sim_rank *r)
{
    r->n = 0;
    jr_bridge_rank_clear(&r->bridge);
    if (tells_lower(r))
        jr_bridge_lower_clear(&r->lower);
}

static void remove_from(struct sim_rank *r, uint32_t i, uint32_t medium)
{
    struct sim_block *b = &r->blocks[i];
    if (!(b->on & medium) || has_child(r, b->hash, medium))
        return;
    if (medium == SIM_ON_DEVICE)
        jr_bridge_rank_remove(&r->bridge, &b->hash, 1);
    if (tells_lower(r))
        jr_bridge_lower_removed(&r->lower, name_of(medium), &b->hash, 1);
    b->on &= ~medium;
    if (b->on)
        return;
    memmove(b, b + 1, (r->n - i - 1) * sizeof *b);
    r->n--;
}

/* A copy comes to a medium; connectors often name it by its hash alone. */
static void copy_to(struct sim *sim, struct sim_rank *r, struct sim_block *b, uint32_t medium)
{
    if ((b->on & medium) || !parent_is_on(r, b, medium))
        return;
    b->on |= medium;
    if (medium != SIM_ON_DEVICE && sim_chance(sim, 2))
        jr_bridge_lower_known(&r->lower, name_of(medium), &b->hash, 1);
    else
        tell_stored(r, b, medium);
}

static void use_media(struct sim *sim, struct sim_rank *r)
{
    static const uint32_t media[] = {SIM_ON_DEVICE, SIM_ON_HOST, SIM_ON_HOST, SIM_ON_DISK};
    uint32_t medium = media[jr_rng_below(&sim->rng, 4)], i = jr_rng_below(&sim->rng, r->n);
    if (sim_chance(sim, 3))
        remove_from(r, i, medium);
    else
        copy_to(sim, r, &r->blocks[i], medium);
}

/* Each row says something, and holds what it held. */
void sim_engine_nudge(struct sim *sim, struct sim_rank *r)
{
    struct sim_block b = {.hash = jr_rng_u64(&sim->rng) | 1, .local = 5};
    tell_stored(r, &b, SIM_ON_DEVICE);
    jr_bridge_rank_remove(&r->bridge, &b.hash, 1);
    if (tells_lower(r))
        jr_bridge_lower_removed(&r->lower, JR_MEDIUM_GPU, &b.hash, 1);
}

void sim_engine_step(struct sim *sim, struct sim_rank *r)
{
    if (r->n && tells_lower(r) && sim_chance(sim, 2))
        use_media(sim, r);
    else if (r->n < sim->c.blocks && !sim_chance(sim, 3))
        store_new(sim, r);
    else if (r->n && sim_chance(sim, 200))
        clear_all(r);
    else if (r->n)
        remove_from(r, jr_rng_below(&sim->rng, r->n), SIM_ON_DEVICE);
}
