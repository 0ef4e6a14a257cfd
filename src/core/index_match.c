/* SPDX-License-Identifier: Apache-2.0 */
/* index: queries. A walk goes from slot to slot down the prompt and narrows the set of columns; that
 * a slot holds the right prefix is always seen by comparing prefix hashes. */
#include "core/chain.h"
#include "core/index_internal.h"
#include <string.h>

#define NARROW JR_IDSET_NARROW

/* The prompt: prefix hashes, or local hashes that are chained as far as the walk gets. */
struct prompt {
    const uint64_t *hashes;
    uint32_t n;
    bool local;
};

void jr_index_match_init(struct jr_index_match *m, struct jr_mem *mem)
{
    memset(m, 0, sizeof *m);
    m->mem = mem;
}

static void match_free(struct jr_index_match *m)
{
    jr_mem_free(m->mem, m->v, m->cap * sizeof *m->v);
    jr_mem_free(m->mem, m->scratch, m->scratch_bytes);
}

void jr_index_match_deinit(struct jr_index_match *m)
{
    match_free(m);
    jr_index_match_init(m, m->mem);
}

uint64_t jr_index_match_bytes(const struct jr_index_match *m)
{
    return m->cap * sizeof *m->v + m->scratch_bytes;
}

static int match_reserve(struct jr_index_match *m, uint32_t n)
{
    uint32_t cap = m->cap > 0 ? m->cap : 16;
    struct jr_index_score *v;

    if (n <= m->cap)
        return 0;
    while (cap < n)
        cap *= 2;
    v = jr_mem_alloc(m->mem, cap * sizeof *v);
    if (!v)
        return JR_ENOMEM;
    jr_mem_free(m->mem, m->v, m->cap * sizeof *m->v);
    m->v = v;
    m->cap = cap;
    return 0;
}

/* ---- walking --------------------------------------------------------------------------------- */

static inline uint64_t prompt_prefix(const struct prompt *q, uint32_t i, uint64_t prev)
{
    if (!q->local)
        return q->hashes[i];
    return i == 0 ? q->hashes[0] : jr_chain(prev, q->hashes[i]);
}

/* The slot of block i, child of the one at `at`; NONE when nobody holds it. */
static uint32_t step(const struct jr_index *idx, uint32_t at, uint64_t prefix)
{
    uint32_t slot = jr_places_seek(&idx->places, at, prefix);

    return slot != JR_PLACES_NONE && jr_places_at(&idx->places, slot)->set != 0 ? slot
                                                                                : JR_PLACES_NONE;
}

static inline void narrow_drop(uint64_t gone, uint32_t blocks, uint32_t *score)
{
    for (; gone != 0; gone &= gone - 1)
        score[__builtin_ctzll(gone)] = blocks;
}

/* Goes on inside the chunk of `at`, which is block *i - 1, while prefixes and form are as expected:
 * the loop that most of a query is. The hash of a step takes the slot's prefix hash, not the last
 * step's result, so that the steps do not wait for each other. */
static inline uint32_t narrow_chunk(const struct jr_index *idx, const struct prompt *q, uint32_t at,
                                    uint32_t *i, uint64_t *active, uint32_t *score)
{
    uint32_t left = JR_PLACES_CHUNK - 1 - at % JR_PLACES_CHUNK, k = *i;
    const struct jr_place *p = jr_places_at(&idx->places, at);
    const struct jr_chunk *c = jr_places_chunk_of(&idx->places, at);
    uint64_t live = *active;

    if (c->wide != 0)
        return at;
    if (c->next != JR_PLACES_NONE) { /* where this is likely to go on */
        __builtin_prefetch(jr_places_at(&idx->places, c->next * JR_PLACES_CHUNK));
        __builtin_prefetch(jr_places_at(&idx->places, c->next * JR_PLACES_CHUNK + 4));
        __builtin_prefetch(jr_places_chunk(&idx->places, c->next));
    }
    for (; left > 0 && k < q->n; left--, k++, p++, at++) {
        if (p[1].set == 0 || p[1].prefix_hash != prompt_prefix(q, k, p[0].prefix_hash))
            break;
        uint64_t kept = live & p[1].set;
        if (kept != live) {
            narrow_drop(live & ~kept, k, score);
            live = kept;
            if (live == 0)
                break;
        }
    }
    *i = k;
    *active = live;
    return at;
}

/* Candidates have numbers below 64. at: of block 0. */
static void narrow_walk(const struct jr_index *idx, const struct prompt *q, uint32_t at,
                        uint64_t active, uint32_t *score)
{
    uint32_t i = 1;

    while (active != 0 && i < q->n) {
        at = narrow_chunk(idx, q, at, &i, &active, score);
        if (active == 0 || i == q->n)
            break;
        at = step(idx, at, prompt_prefix(q, i, jr_places_at(&idx->places, at)->prefix_hash));
        uint64_t kept =
            at == JR_PLACES_NONE ? 0 : active & jr_idset_word(&idx->sets, jr_index_set(idx, at), 0);
        narrow_drop(active & ~kept, i, score);
        active = kept;
        i++;
    }
    narrow_drop(active, i, score);
}

/* Any numbers: active is a bitmap of `words`. */
static void wide_walk(const struct jr_index *idx, const struct prompt *q, uint32_t at,
                      uint64_t *active, uint32_t words, uint32_t *score)
{
    for (uint32_t i = 1;; i++) {
        uint64_t prev = jr_places_at(&idx->places, at)->prefix_hash, any = 0;
        struct jr_idset set = {0, false};

        at = i < q->n ? step(idx, at, prompt_prefix(q, i, prev)) : JR_PLACES_NONE;
        if (at != JR_PLACES_NONE)
            set = jr_index_set(idx, at);
        for (uint32_t w = 0; w < words; w++) {
            if (active[w] == 0)
                continue;
            uint64_t kept = active[w] & jr_idset_word(&idx->sets, set, w);
            narrow_drop(active[w] & ~kept, i, score + (size_t)w * 64);
            any |= active[w] = kept;
        }
        if (any == 0)
            return;
    }
}

/* ---- results --------------------------------------------------------------------------------- */

static void add_score(struct jr_index_match *ret, uint32_t member, uint32_t blocks)
{
    ret->v[ret->n++] = (struct jr_index_score){member, blocks};
}

/* By member: columns are numbered like members but for those that were cleared. */
static void collect_shifted(const struct jr_index *idx, const uint64_t *found,
                            const uint32_t *score, uint32_t words, struct jr_index_match *ret)
{
    for (uint32_t m = 0; m < idx->members_cap; m++) {
        uint32_t c = idx->members[m].column;
        if (idx->members[m].known && c / 64 < words && (found[c / 64] >> (c % 64) & 1))
            add_score(ret, m, score[c]);
    }
}

static void collect(const struct jr_index *idx, const uint64_t *found, const uint32_t *score,
                    uint32_t words, struct jr_index_match *ret)
{
    if (idx->shifted > 0) {
        collect_shifted(idx, found, score, words, ret);
        return;
    }
    for (uint32_t w = 0; w < words; w++) {
        for (uint64_t bits = found[w]; bits != 0; bits &= bits - 1) {
            uint32_t c = w * 64 + (uint32_t)__builtin_ctzll(bits);
            add_score(ret, c, score[c]);
        }
    }
}

static int match_narrow(const struct jr_index *idx, const struct prompt *q, uint32_t at,
                        uint64_t found, struct jr_index_match *ret)
{
    uint32_t score[NARROW];
    int rv = match_reserve(ret, (uint32_t)__builtin_popcountll(found));

    if (rv < 0)
        return rv;
    narrow_walk(idx, q, at, found, score);
    collect(idx, &found, score, 1, ret);
    return 0;
}

/* Scratch: candidates, those still active, and a score for each column. */
static int match_wide(const struct jr_index *idx, const struct prompt *q, uint32_t at,
                      struct jr_idset set, struct jr_index_match *ret)
{
    uint32_t words = idx->columns_cap / 64;
    uint64_t bytes = words * (2 * sizeof(uint64_t) + 64 * sizeof(uint32_t)), *found, *active;
    int rv = match_reserve(ret, jr_idset_count(&idx->sets, set));

    if (rv < 0)
        return rv;
    if (ret->scratch_bytes < bytes) {
        found = jr_mem_alloc(ret->mem, bytes);
        if (!found)
            return JR_ENOMEM;
        jr_mem_free(ret->mem, ret->scratch, ret->scratch_bytes);
        ret->scratch = found;
        ret->scratch_bytes = bytes;
    }
    found = ret->scratch;
    active = found + words;
    for (uint32_t w = 0; w < words; w++)
        found[w] = active[w] = jr_idset_word(&idx->sets, set, w) & idx->live[w];
    wide_walk(idx, q, at, active, words, (uint32_t *)(void *)(active + words));
    collect(idx, found, (uint32_t *)(void *)(active + words), words, ret);
    return 0;
}

static int match(const struct jr_index *idx, struct prompt q, struct jr_index_match *ret)
{
    struct jr_idset set;
    uint32_t at;

    ret->n = 0;
    if (q.n == 0)
        return 0;
    at = step(idx, JR_PLACES_NONE, q.hashes[0]);
    if (at == JR_PLACES_NONE)
        return 0;
    set = jr_index_set(idx, at);
    if (set.wide)
        return match_wide(idx, &q, at, set, ret);
    return match_narrow(idx, &q, at, set.word & idx->live[0], ret);
}

int jr_index_match(const struct jr_index *idx, const uint64_t *prefix_hashes, uint32_t n,
                   struct jr_index_match *ret)
{
    return match(idx, (struct prompt){prefix_hashes, n, false}, ret);
}

int jr_index_match_local(const struct jr_index *idx, const uint64_t *local_hashes, uint32_t n,
                         struct jr_index_match *ret)
{
    return match(idx, (struct prompt){local_hashes, n, true}, ret);
}

uint32_t jr_index_match_blocks(const struct jr_index_match *m, uint32_t member)
{
    uint32_t low = 0, high = m->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (m->v[mid].member < member)
            low = mid + 1;
        else
            high = mid;
    }
    return low < m->n && m->v[low].member == member ? m->v[low].blocks : 0;
}
