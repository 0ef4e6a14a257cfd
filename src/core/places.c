/* SPDX-License-Identifier: Apache-2.0 */
#include "core/places.h"
#include "base/assert.h"
#include <string.h>

#define NONE         JR_PLACES_NONE
#define SEGMENTS_MIN 8
#define SEGMENTS_MAX (1u << (32 - JR_PLACES_SHIFT))
#define HAND_STEPS   8 /* chunks looked at for a half-empty one */
#define HALF_EMPTY   8 /* slots in use at most */

void jr_places_init(struct jr_places *p, struct jr_mem *mem)
{
    *p = (struct jr_places){.mem = mem, .free_segments = NONE, .open = NONE};
}

bool jr_places_deinit_some(struct jr_places *p)
{
    struct jr_segment_mem *last;

    if (p->segments_n > 0) {
        last = p->segments[--p->segments_n].mem;
        p->vacant -= last == NULL;
        jr_mem_pages_free(p->mem, last, sizeof *last);
        return false;
    }
    if (!jr_heads_free_some(&p->heads, p->mem))
        return false;
    jr_mem_free(p->mem, p->segments, p->segments_cap * sizeof *p->segments);
    jr_places_init(p, p->mem);
    return true;
}

void jr_places_deinit(struct jr_places *p)
{
    while (!jr_places_deinit_some(p))
        ;
}

uint64_t jr_places_bytes(const struct jr_places *p)
{
    return (uint64_t)(p->segments_n - p->vacant) * sizeof *p->segments->mem +
           p->segments_cap * sizeof *p->segments + jr_heads_bytes(&p->heads);
}

/* ---- segments and chunks --------------------------------------------------------------------- */

static void free_list_add(struct jr_places *p, uint32_t s)
{
    p->segments[s].prev_free = NONE;
    p->segments[s].next_free = p->free_segments;
    if (p->free_segments != NONE)
        p->segments[p->free_segments].prev_free = s;
    p->free_segments = s;
}

static void free_list_del(struct jr_places *p, uint32_t s)
{
    struct jr_segment *seg = &p->segments[s];

    if (seg->prev_free != NONE)
        p->segments[seg->prev_free].next_free = seg->next_free;
    else
        p->free_segments = seg->next_free;
    if (seg->next_free != NONE)
        p->segments[seg->next_free].prev_free = seg->prev_free;
}

/* A number for a new segment: one that was given back, or the next. */
static int segment_number(struct jr_places *p, uint32_t *ret)
{
    uint32_t cap = p->segments_cap > 0 ? p->segments_cap * 2 : SEGMENTS_MIN;
    struct jr_segment *grown;

    *ret = p->segments_n;
    if (p->vacant > 0) {
        for (*ret = 0; p->segments[*ret].mem; (*ret)++)
            ;
        return 0;
    }
    if (p->segments_n < p->segments_cap)
        return 0;
    if (cap >= SEGMENTS_MAX)
        return JR_ENOMEM;
    grown =
        jr_mem_realloc(p->mem, p->segments, p->segments_cap * sizeof *grown, cap * sizeof *grown);
    if (!grown)
        return JR_ENOMEM;
    p->segments = grown;
    p->segments_cap = cap;
    return 0;
}

static int segment_add(struct jr_places *p)
{
    struct jr_segment_mem *mem;
    uint32_t s;
    int rv = segment_number(p, &s);

    if (rv < 0)
        return rv;
    mem = jr_mem_pages_alloc(p->mem, sizeof *mem);
    if (!mem)
        return JR_ENOMEM;
    for (uint32_t i = 0; i < JR_PLACES_CHUNKS; i++)
        mem->chunks[i].next = i + 1 < JR_PLACES_CHUNKS ? s * JR_PLACES_CHUNKS + i + 1 : NONE;
    if (s == p->segments_n)
        p->segments_n++;
    else
        p->vacant--;
    p->segments[s] = (struct jr_segment){
        .mem = mem, .free_head = s * JR_PLACES_CHUNKS, .n_free = JR_PLACES_CHUNKS};
    p->free_chunks += JR_PLACES_CHUNKS;
    free_list_add(p, s);
    return 0;
}

/* An empty segment goes when as many free chunks as it has are left without it. */
static void segment_give_back(struct jr_places *p, uint32_t s)
{
    if (p->free_chunks < UINT64_C(2) * JR_PLACES_CHUNKS)
        return;
    free_list_del(p, s);
    jr_mem_pages_free(p->mem, p->segments[s].mem, sizeof *p->segments->mem);
    p->segments[s].mem = NULL;
    p->free_chunks -= JR_PLACES_CHUNKS;
    p->vacant++;
}

static int chunk_take(struct jr_places *p, uint32_t *ret)
{
    struct jr_segment *seg;
    struct jr_chunk *c;
    int rv;

    if (p->free_segments == NONE) {
        rv = segment_add(p);
        if (rv < 0)
            return rv;
    }
    seg = &p->segments[p->free_segments];
    *ret = seg->free_head;
    c = jr_places_chunk(p, *ret);
    seg->free_head = c->next;
    p->free_chunks--;
    if (--seg->n_free == 0)
        free_list_del(p, p->free_segments);
    *c = (struct jr_chunk){.next = NONE, .prev = NONE};
    return 0;
}

static void chunk_give(struct jr_places *p, uint32_t chunk)
{
    uint32_t s = chunk / JR_PLACES_CHUNKS;
    struct jr_segment *seg = &p->segments[s];
    struct jr_chunk *c = jr_places_chunk(p, chunk);

    if (c->next != NONE)
        jr_places_chunk(p, c->next)->prev = NONE;
    if (c->prev != NONE)
        jr_places_chunk(p, c->prev)->next = NONE;
    if (p->open != NONE && p->open / JR_PLACES_CHUNK == chunk)
        p->open = NONE;
    c->next = seg->free_head;
    seg->free_head = chunk;
    if (seg->n_free++ == 0)
        free_list_add(p, s);
    p->free_chunks++;
    if (seg->n_free == JR_PLACES_CHUNKS)
        segment_give_back(p, s);
}

/* ---- slots ----------------------------------------------------------------------------------- */

uint32_t jr_places_find_slow(const struct jr_places *p, uint64_t prefix_hash)
{
    const struct jr_heads_table *tables[2] = {&p->heads.cur, &p->heads.old};
    uint32_t tag = jr_heads_tag(prefix_hash);

    for (uint32_t t = 0; t < 2 && tables[t]->n > 0; t++) {
        uint64_t i = jr_heads_home(tag, tables[t]->n);
        for (uint64_t left = tables[t]->n; left > 0; left--) {
            const struct jr_heads_bucket *b = &tables[t]->v[i];
            for (uint32_t hit = jr_heads_ways(b, tag); hit != 0; hit &= hit - 1) {
                uint32_t slot = b->slot[__builtin_ctz(hit)];
                if (jr_places_at(p, slot)->prefix_hash == prefix_hash)
                    return slot;
            }
            if (b->passed == 0)
                break;
            i = i + 1 < tables[t]->n ? i + 1 : 0;
        }
    }
    return NONE;
}

static uint32_t first_free(const struct jr_places *p, uint32_t slot)
{
    uint32_t end = (slot | (JR_PLACES_CHUNK - 1)) + 1;

    for (; slot < end; slot++) {
        if (!(jr_places_chunk_of(p, slot)->used & jr_places_bit(slot)))
            return slot;
    }
    return NONE;
}

/* A chunk with room, not far from where the last one was found. */
static uint32_t half_empty(struct jr_places *p)
{
    uint32_t end = p->segments_n * JR_PLACES_CHUNKS;

    for (uint32_t i = 0; i < HAND_STEPS && end > 0; i++) {
        uint32_t c = p->hand < end ? p->hand : 0;
        p->hand = c + 1;
        if (!p->segments[c / JR_PLACES_CHUNKS].mem)
            continue;
        uint16_t used = jr_places_chunk(p, c)->used;
        if (used != 0 && __builtin_popcount(used) <= HALF_EMPTY)
            return first_free(p, c * JR_PLACES_CHUNK);
    }
    return NONE;
}

/* A slot for a head: of the open chunk, a half-empty one or a new one. */
static int slot_open(struct jr_places *p, uint32_t *ret)
{
    uint32_t chunk;
    int rv;

    if (p->open != NONE)
        p->open = first_free(p, p->open);
    if (p->open == NONE)
        p->open = half_empty(p);
    if (p->open == NONE) {
        rv = chunk_take(p, &chunk);
        if (rv < 0)
            return rv;
        p->open = chunk * JR_PLACES_CHUNK;
    }
    *ret = p->open;
    p->open = (*ret + 1) % JR_PLACES_CHUNK == 0 ? NONE : *ret + 1;
    return 0;
}

/* The slot after the parent; NONE when it is taken. */
static int slot_follow(struct jr_places *p, uint32_t parent, uint32_t *ret)
{
    uint32_t chunk;
    int rv;

    *ret = jr_places_after(p, parent);
    if (*ret == NONE) {
        rv = chunk_take(p, &chunk);
        if (rv < 0)
            return rv;
        jr_places_chunk_of(p, parent)->next = chunk;
        jr_places_chunk(p, chunk)->prev = parent / JR_PLACES_CHUNK;
        *ret = chunk * JR_PLACES_CHUNK;
    } else if (jr_places_chunk_of(p, *ret)->used & jr_places_bit(*ret)) {
        *ret = NONE;
    }
    return 0;
}

static int slot_take(struct jr_places *p, uint64_t prefix_hash, uint32_t *ret)
{
    int rv = jr_heads_reserve(&p->heads, p->mem);

    if (rv == 0)
        rv = slot_open(p, ret);
    if (rv < 0)
        return rv;
    jr_heads_insert(&p->heads, prefix_hash, *ret);
    jr_places_chunk_of(p, *ret)->head |= jr_places_bit(*ret);
    return 0;
}

int jr_places_add(struct jr_places *p, uint32_t parent, uint64_t prefix_hash, uint32_t *ret)
{
    uint32_t slot = NONE;
    int rv = parent == NONE ? 0 : slot_follow(p, parent, &slot);

    if (rv == 0 && slot == NONE)
        rv = slot_take(p, prefix_hash, &slot);
    if (rv < 0)
        return rv;
    jr_places_chunk_of(p, slot)->used |= jr_places_bit(slot);
    *jr_places_at(p, slot) = (struct jr_place){.prefix_hash = prefix_hash};
    p->n++;
    *ret = slot;
    return 0;
}

/* Makes the successor a head, if it is not one; false: no memory. */
static bool succeed(struct jr_places *p, uint32_t slot)
{
    uint32_t next = jr_places_after(p, slot);
    struct jr_chunk *c = next != NONE ? jr_places_chunk_of(p, next) : NULL;

    if (!c || !(c->used & ~c->head & jr_places_bit(next)))
        return true;
    if (jr_heads_reserve(&p->heads, p->mem) < 0 && !jr_heads_has_room(&p->heads))
        return false;
    jr_heads_insert(&p->heads, jr_places_at(p, next)->prefix_hash, next);
    c->head |= jr_places_bit(next);
    return true;
}

/* Gives a slot up. Returns its predecessor if that was kept for this one alone, or NONE. */
static uint32_t release(struct jr_places *p, uint32_t slot)
{
    struct jr_chunk *c = jr_places_chunk_of(p, slot);
    uint16_t bit = jr_places_bit(slot);
    uint32_t before = NONE;

    if (c->head & bit)
        jr_heads_erase(&p->heads, jr_places_at(p, slot)->prefix_hash, slot);
    else if (p->kept > 0)
        before = bit > 1 ? slot - 1 : c->prev * JR_PLACES_CHUNK + JR_PLACES_CHUNK - 1;
    if (before != NONE && jr_places_at(p, before)->set != 0)
        before = NONE;
    c->used &= (uint16_t)~bit;
    c->head &= (uint16_t)~bit;
    c->wide &= (uint16_t)~bit;
    if (c->used == 0)
        chunk_give(p, slot / JR_PLACES_CHUNK);
    return before;
}

void jr_places_free_slow(struct jr_places *p, uint32_t slot)
{
    p->n--;
    if (!succeed(p, slot)) {
        p->kept++;
        return;
    }
    slot = release(p, slot);
    for (; slot != NONE; slot = release(p, slot))
        p->kept--;
}

int jr_places_list_all(struct jr_places *p)
{
    for (uint32_t c = 0; c < p->segments_n * JR_PLACES_CHUNKS; c++) {
        if (!p->segments[c / JR_PLACES_CHUNKS].mem)
            continue;
        struct jr_chunk *chunk = jr_places_chunk(p, c);
        for (uint32_t left = chunk->used & ~chunk->head; left != 0; left &= left - 1) {
            uint32_t slot = c * JR_PLACES_CHUNK + (uint32_t)__builtin_ctz(left);
            int rv = jr_heads_reserve(&p->heads, p->mem);
            if (rv < 0)
                return rv;
            jr_heads_insert(&p->heads, jr_places_at(p, slot)->prefix_hash, slot);
            chunk->head |= jr_places_bit(slot);
        }
    }
    return 0;
}

/* ---- check ----------------------------------------------------------------------------------- */

static void check_chunk(const struct jr_places *p, uint32_t c, uint64_t *n, uint64_t *kept,
                        uint64_t *heads)
{
    const struct jr_chunk *chunk = jr_places_chunk(p, c);

    if (chunk->next != NONE)
        JR_ASSERT(jr_places_chunk(p, chunk->next)->prev == c);
    for (uint32_t left = chunk->used; left != 0; left &= left - 1) {
        uint32_t slot = c * JR_PLACES_CHUNK + (uint32_t)__builtin_ctz(left);
        const struct jr_place *at = jr_places_at(p, slot);
        if (at->set != 0)
            ++*n;
        else
            ++*kept;
        if (chunk->head & jr_places_bit(slot)) {
            ++*heads;
            JR_ASSERT(jr_places_find(p, at->prefix_hash) == slot);
        } else {
            uint32_t before = slot % JR_PLACES_CHUNK != 0
                                  ? slot - 1
                                  : chunk->prev * JR_PLACES_CHUNK + JR_PLACES_CHUNK - 1;
            JR_ASSERT(jr_places_after(p, before) == slot);
            JR_ASSERT(jr_places_chunk_of(p, before)->used & jr_places_bit(before));
            JR_ASSERT(jr_places_find(p, at->prefix_hash) == NONE);
        }
    }
    JR_ASSERT(!(chunk->head & ~chunk->used) && !(chunk->wide & ~chunk->used));
}

void jr_places_check(const struct jr_places *p)
{
    uint64_t n = 0, kept = 0, heads = 0, unused = 0, vacant = 0;

    for (uint32_t c = 0; c < p->segments_n * JR_PLACES_CHUNKS; c++) {
        if (!p->segments[c / JR_PLACES_CHUNKS].mem) {
            vacant += c % JR_PLACES_CHUNKS == 0;
        } else if (jr_places_chunk(p, c)->used == 0) {
            unused++;
        } else {
            check_chunk(p, c, &n, &kept, &heads);
        }
    }
    JR_ASSERT(n == p->n && kept == p->kept && heads == p->heads.n);
    JR_ASSERT(vacant == p->vacant && unused == p->free_chunks);
}
