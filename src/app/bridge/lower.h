/* SPDX-License-Identifier: Apache-2.0 */
/* lower: what one engine rank holds beside its device, as rows of the log (docs/adr/0017). Pure; one
 * thread.
 *
 *     stores and removals, by medium ──► media of each block ─┬─► row host   device or host memory
 *                  the device's mirror ───────────────────────┴─► row any    any medium
 *
 * A block leaves a row when the last medium that counts there has left it. The device's copies are
 * counted by its own mirror; on each lower medium a block is or is not. The rows follow the rank: they
 * have its incarnation, and begin anew when it does. */
#ifndef JR_APP_BRIDGE_LOWER_H
#define JR_APP_BRIDGE_LOWER_H

#include "app/bridge/rank.h"
#include "base/map.h"
#include "wire/engine_kv.h"

struct jr_bridge_lower {
    const struct jr_bridge_rank *device; /* borrows */
    struct jr_bridge_rank rows[JR_LOWERS];
    struct jr_mem mem;
    struct jr_map media;       /* block hash -> on which lower media; those on none are not in it */
    uint32_t on_host, on_disk; /* blocks */
};

/* device and its config must outlive it; its number must be below JR_LOWER_STEP. */
void jr_bridge_lower_init(struct jr_bridge_lower *l, const struct jr_bridge_rank *device);
void jr_bridge_lower_deinit(struct jr_bridge_lower *l);

/* What the engine said; of the device, after its rank was told. */
void jr_bridge_lower_stored(struct jr_bridge_lower *l, enum jr_engine_medium medium,
                            const struct jr_kv_event *stored, uint64_t salt_part);
/* Blocks without their tokens: those that are known are on that medium, too. */
void jr_bridge_lower_known(struct jr_bridge_lower *l, enum jr_engine_medium medium,
                           const uint64_t *hashes, uint32_t n);
void jr_bridge_lower_removed(struct jr_bridge_lower *l, enum jr_engine_medium medium,
                             const uint64_t *hashes, uint32_t n);
void jr_bridge_lower_clear(struct jr_bridge_lower *l);
/* The rank begins anew and has forgotten what it knew. */
void jr_bridge_lower_forget(struct jr_bridge_lower *l);

#endif
