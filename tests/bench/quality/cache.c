/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"
#include "base/assert.h"

void q_log_add(struct q_log *log, struct q_change change)
{
    if (log->n == log->cap) {
        log->cap = log->cap ? 2 * log->cap : 256;
        log->v = jr_xrealloc(log->v, log->cap * sizeof *log->v);
    }
    log->v[log->n++] = change;
}

void q_cache_init(struct q_cache *c, uint32_t blocks, uint32_t n_nodes)
{
    *c = (struct q_cache){.n_free = blocks};
    c->slot_of = jr_xalloc(n_nodes * sizeof *c->slot_of);
    c->slots = jr_xalloc((blocks + 1) * sizeof *c->slots);
    c->stack = jr_xalloc(blocks * sizeof *c->stack);
    for (uint32_t i = blocks; i >= 1; i--)
        c->stack[c->n_stack++] = i;
}

void q_cache_deinit(struct q_cache *c)
{
    jr_xfree(c->slot_of);
    jr_xfree(c->slots);
    jr_xfree(c->stack);
}

bool q_cache_holds(const struct q_cache *c, uint32_t node)
{
    return c->slot_of[node] != 0;
}

bool q_cache_pinned(const struct q_cache *c, uint32_t node)
{
    return c->slots[c->slot_of[node]].refs > 0;
}

static void lru_remove(struct q_cache *c, uint32_t slot)
{
    struct q_slot *s = &c->slots[slot];
    c->slots[s->prev].next = s->next;
    c->slots[s->next].prev = s->prev;
    c->n_lru--;
}

void q_cache_pin(struct q_cache *c, uint32_t node)
{
    uint32_t slot = c->slot_of[node];
    if (c->slots[slot].refs++ == 0)
        lru_remove(c, slot);
}

void q_cache_unpin(struct q_cache *c, uint32_t node)
{
    uint32_t slot = c->slot_of[node], last = c->slots[0].prev;
    struct q_slot *s = &c->slots[slot];
    JR_ASSERT(s->refs > 0);
    if (--s->refs > 0)
        return;
    c->slots[last].next = slot;
    s->prev = last;
    s->next = 0;
    c->slots[0].prev = slot;
    c->n_lru++;
}

void q_cache_take(struct q_cache *c, uint32_t n, struct q_log *log)
{
    while (c->n_free < n) {
        uint32_t slot = c->slots[0].next;
        JR_ASSERT(slot != 0);
        lru_remove(c, slot);
        uint32_t node = c->slots[slot].node;
        q_log_add(log, (struct q_change){node, Q_NO_NODE, true});
        c->slot_of[node] = 0;
        c->stack[c->n_stack++] = slot;
        c->n_free++;
    }
    c->n_free -= n;
}

void q_cache_fill(struct q_cache *c, uint32_t node, uint32_t parent, struct q_log *log)
{
    uint32_t slot = c->stack[--c->n_stack];
    c->slot_of[node] = slot;
    c->slots[slot].node = node;
    c->slots[slot].refs = 1;
    q_log_add(log, (struct q_change){node, parent, false});
}
