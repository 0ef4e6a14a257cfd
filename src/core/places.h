/* SPDX-License-Identifier: Apache-2.0 */
/* places: one slot for each prefix hash that somebody holds, laid out so that a chain of blocks lies
 * in a row. One thread.
 *
 *   chunk (16 slots)                     chunk
 *   | a b c d e f … p |  --next-->  | q r s · X Y · · … |        · free
 *     ^ head                                ^ head
 *
 * A slot is found in one of two ways: it is a *head*, listed in a hash table by its prefix hash, or
 * it is the successor of its parent: the slot after it, or the first of the next chunk. A run
 * that came as one event has one head. That a slot follows another is a guess for whoever reads, who
 * compares prefix hashes; it is a promise only in this direction:
 *
 *     every slot in use is a head, or its predecessor is in use and its true parent
 *
 * When a slot is freed its successor becomes a head. Only when there is no memory for that the slot
 * stays, held by nobody ("kept"), until the successor goes.
 *
 * Slots live in segments; a slot's number never changes and segments never move. */
#ifndef JR_CORE_PLACES_H
#define JR_CORE_PLACES_H

#include "base/err.h"
#include "base/mem.h"
#include "core/heads.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_PLACES_NONE    UINT32_MAX
#define JR_PLACES_CHUNK   16   /* slots */
#define JR_PLACES_CHUNKS  1024 /* a segment */
#define JR_PLACES_SHIFT   14   /* of a slot's number to its segment */
#define JR_PLACES_SEGMENT (UINT32_C(1) << JR_PLACES_SHIFT)
_Static_assert(JR_PLACES_CHUNK *JR_PLACES_CHUNKS == JR_PLACES_SEGMENT, "slots of a segment");

struct jr_place {
    uint64_t prefix_hash;
    uint64_t set; /* of members, core/idset.h; 0: free, or kept */
};

struct jr_chunk {
    uint32_t next, prev;       /* chunks of one run; NONE. A free chunk: next free */
    uint16_t used, head, wide; /* a bit a slot; wide: the set's form */
    uint16_t reserved;
};

struct jr_segment_mem {
    struct jr_place slots[JR_PLACES_SEGMENT];
    struct jr_chunk chunks[JR_PLACES_CHUNKS];
};

struct jr_segment {
    struct jr_segment_mem *mem;
    uint32_t free_head, n_free;    /* chunks */
    uint32_t next_free, prev_free; /* segments with free chunks */
};

struct jr_places {
    struct jr_mem *mem; /* borrows */
    struct jr_segment *segments;
    uint32_t segments_n, segments_cap; /* numbers given out; NULL where one was given back */
    uint32_t vacant;                   /* of the numbers given out, those with NULL */
    uint32_t free_segments;            /* first with free chunks, or NONE */
    uint64_t free_chunks;
    uint32_t open; /* next slot for a head, or NONE */
    uint32_t hand; /* chunk where the search for a half-empty one goes on */
    uint64_t n;    /* slots in use, kept ones not counted */
    uint64_t kept;
    struct jr_heads heads;
};

void jr_places_init(struct jr_places *p, struct jr_mem *mem);
void jr_places_deinit(struct jr_places *p);
/* The same in steps of one segment, for places that nobody uses any more; true when done. */
bool jr_places_deinit_some(struct jr_places *p);
uint64_t jr_places_bytes(const struct jr_places *p);

/* A slot for a prefix hash that has none, child of the block at `parent` (in use) or NONE: not known
 * whose. The caller fills the set at once. JR_ENOMEM: as before. */
JR_MUST_CHECK int jr_places_add(struct jr_places *p, uint32_t parent, uint64_t prefix_hash,
                                uint32_t *ret);
void jr_places_free_slow(struct jr_places *p, uint32_t slot);
/* Make every slot a head. JR_ENOMEM: some are. */
JR_MUST_CHECK int jr_places_list_all(struct jr_places *p);
uint32_t jr_places_find_slow(const struct jr_places *p, uint64_t prefix_hash);
/* Test builds: the promise above, all counts. Cost O(n). */
void jr_places_check(const struct jr_places *p);

static inline struct jr_place *jr_places_at(const struct jr_places *p, uint32_t slot)
{
    return &p->segments[slot >> JR_PLACES_SHIFT].mem->slots[slot & (JR_PLACES_SEGMENT - 1)];
}

static inline struct jr_chunk *jr_places_chunk(const struct jr_places *p, uint32_t chunk)
{
    return &p->segments[chunk / JR_PLACES_CHUNKS].mem->chunks[chunk % JR_PLACES_CHUNKS];
}

static inline struct jr_chunk *jr_places_chunk_of(const struct jr_places *p, uint32_t slot)
{
    return jr_places_chunk(p, slot / JR_PLACES_CHUNK);
}

static inline uint16_t jr_places_bit(uint32_t slot)
{
    return (uint16_t)(1u << slot % JR_PLACES_CHUNK);
}

/* The slot that follows, whatever is in it; NONE. */
static inline uint32_t jr_places_after(const struct jr_places *p, uint32_t slot)
{
    uint32_t next;

    if ((slot + 1) % JR_PLACES_CHUNK != 0)
        return slot + 1;
    next = jr_places_chunk_of(p, slot)->next;
    return next == JR_PLACES_NONE ? JR_PLACES_NONE : next * JR_PLACES_CHUNK;
}

/* Among the heads; NONE. */
static inline uint32_t jr_places_find(const struct jr_places *p, uint64_t prefix_hash)
{
    const struct jr_heads_table *t = &p->heads.cur;

    if (t->n > 0 && p->heads.old.n == 0) {
        uint32_t tag = jr_heads_tag(prefix_hash);
        const struct jr_heads_bucket *b = &t->v[jr_heads_home(tag, t->n)];
        if (b->passed == 0 && jr_heads_ways(b, tag) == 0)
            return JR_PLACES_NONE;
    }
    return jr_places_find_slow(p, prefix_hash);
}

/* Where a prefix is, asked by somebody who is at its parent (or NONE). */
static inline uint32_t jr_places_seek(const struct jr_places *p, uint32_t parent,
                                      uint64_t prefix_hash)
{
    uint32_t next = parent == JR_PLACES_NONE ? JR_PLACES_NONE : jr_places_after(p, parent);

    if (next != JR_PLACES_NONE) {
        const struct jr_place *at = jr_places_at(p, next);
        if (at->prefix_hash == prefix_hash &&
            (at->set != 0 || (jr_places_chunk_of(p, next)->used & jr_places_bit(next))))
            return next;
    }
    return jr_places_find(p, prefix_hash);
}

/* jr_places_add for a parent whose next slot is free and in its chunk, with the set; else NONE. */
static inline uint32_t jr_places_append(struct jr_places *p, uint32_t parent, uint64_t prefix_hash,
                                        uint64_t set)
{
    struct jr_chunk *c;
    uint32_t slot = parent + 1;

    if (slot % JR_PLACES_CHUNK == 0)
        return JR_PLACES_NONE;
    c = jr_places_chunk_of(p, slot);
    if (c->used & jr_places_bit(slot))
        return JR_PLACES_NONE;
    c->used |= jr_places_bit(slot);
    *jr_places_at(p, slot) = (struct jr_place){prefix_hash, set};
    p->n++;
    return slot;
}

/* Nobody holds it any more (its set is empty). Mostly it is the end of a run: not a head, nothing
 * hangs on it, its chunk stays. */
static inline void jr_places_free(struct jr_places *p, uint32_t slot)
{
    struct jr_chunk *c = jr_places_chunk_of(p, slot);
    uint32_t bit = jr_places_bit(slot), rest = c->used & ~bit;

    if ((c->head & bit) || (rest & ~(uint32_t)c->head & bit << 1) || rest == 0 ||
        bit == 1u << (JR_PLACES_CHUNK - 1) || p->kept > 0) {
        jr_places_free_slow(p, slot);
        return;
    }
    c->used = (uint16_t)rest;
    c->wide &= (uint16_t)~bit;
    p->n--;
}

/* A kept slot is held again. */
static inline void jr_places_revive(struct jr_places *p)
{
    p->kept--;
    p->n++;
}

static inline bool jr_places_is_wide(const struct jr_places *p, uint32_t slot)
{
    return jr_places_chunk_of(p, slot)->wide & jr_places_bit(slot);
}

#endif
