/* SPDX-License-Identifier: Apache-2.0 */
/* cache: the paged prefix cache of a simulated engine: physical blocks that are free, unshared (a
 * request's own, not in the cache), or hold a node; those that nobody pins go least recently used
 * first. What comes and goes is told to the log. */
#ifndef JR_BENCH_QUALITY_CACHE_H
#define JR_BENCH_QUALITY_CACHE_H

#include "base/kv.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdint.h>

#define Q_NO_NODE UINT32_MAX

/* Changes of one step in their order: parent Q_NO_NODE is the root. */
struct q_change {
    uint32_t node, parent;
    bool removed;
};
struct q_log {
    struct q_change *v;
    uint32_t n, cap;
};
void q_log_add(struct q_log *log, struct q_change change);

struct q_cache {
    uint32_t n_free, n_lru; /* blocks that may be taken at once, and after an eviction */
    uint32_t *slot_of;      /* node -> slot, 0 none */
    struct q_slot {
        uint32_t node, prev, next, refs;
    } * slots; /* slot 0 is the head of the list */
    uint32_t *stack, n_stack;
};
void q_cache_init(struct q_cache *c, uint32_t blocks, uint32_t n_nodes);
void q_cache_deinit(struct q_cache *c);
bool q_cache_holds(const struct q_cache *c, uint32_t node);
bool q_cache_pinned(const struct q_cache *c, uint32_t node);
void q_cache_pin(struct q_cache *c, uint32_t node);
void q_cache_unpin(struct q_cache *c, uint32_t node);
/* n physical blocks for a request; there must be n free ones and ones that nobody pins. */
void q_cache_take(struct q_cache *c, uint32_t n, struct q_log *log);
/* One block that was taken becomes the node, pinned. The node is not held yet. */
void q_cache_fill(struct q_cache *c, uint32_t node, uint32_t parent, struct q_log *log);

#endif
