/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix index beside a table of its entries. The input is a stream of operations, each a byte
 * for what and the bytes it needs; past the end there are zeros. Few members, hashes and tokens, so
 * that runs part, share and move all the time; member numbers on both sides of 64, where sets change
 * their form. */
#include "base/assert.h"
#include "core/hash.h"
#include "core/index.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMBERS 8
#define HASHES  24
#define RUN     6
#define OPS_MAX 512

static const uint32_t numbers[MEMBERS] = {0, 1, 2, 62, 63, 64, 65, 300};

struct model {
    bool known[MEMBERS];
    bool held[MEMBERS][HASHES];
    uint64_t prefix[MEMBERS][HASHES];
    uint64_t n, cap;
};

struct input {
    const uint8_t *p, *end;
};

static uint8_t next(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static uint64_t hash_of(uint32_t i)
{
    return 1000 + i;
}

/* ---- the model ------------------------------------------------------------------------------- */

/* As jr_index_store. */
static int model_store(struct model *m, uint32_t at, bool has_parent, uint32_t parent,
                       const uint32_t *hashes, const uint64_t *locals, uint32_t n)
{
    if (has_parent && !m->held[at][parent])
        return JR_ENOTFOUND;
    uint64_t prefix = has_parent ? m->prefix[at][parent] : 0;
    for (uint32_t i = 0; i < n; i++) {
        prefix = i == 0 && !has_parent ? locals[i] : jr_hash_chain(prefix, locals[i]);
        if (!m->held[at][hashes[i]]) {
            if (m->cap && m->n >= m->cap)
                return JR_ELIMIT;
            m->held[at][hashes[i]] = true;
            m->n++;
        }
        m->prefix[at][hashes[i]] = prefix;
    }
    return 0;
}

static void model_clear(struct model *m, uint32_t at)
{
    for (uint32_t h = 0; h < HASHES; h++) {
        m->n -= m->held[at][h];
        m->held[at][h] = false;
    }
}

static bool model_holds(const struct model *m, uint32_t at, uint64_t prefix)
{
    for (uint32_t h = 0; h < HASHES; h++)
        if (m->held[at][h] && m->prefix[at][h] == prefix)
            return true;
    return false;
}

static uint32_t model_score(const struct model *m, uint32_t at, const uint64_t *prefix, uint32_t n)
{
    uint32_t i = 0;
    while (m->known[at] && i < n && model_holds(m, at, prefix[i]))
        i++;
    return i;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static uint64_t digest_of(const struct model *m)
{
    uint64_t sum = 0;
    for (uint32_t at = 0; at < MEMBERS; at++)
        for (uint32_t h = 0; h < HASHES; h++)
            if (m->held[at][h])
                sum += jr_index_digest_term(at + 1, 0, hash_of(h), m->prefix[at][h]);
    return sum;
}

static void compare(const struct model *m, const struct jr_index *idx)
{
    JR_ASSERT(jr_index_entries(idx) == m->n);
    JR_ASSERT(jr_index_digest(idx) == digest_of(m));
    for (uint32_t at = 0; at < MEMBERS; at++) {
        JR_ASSERT(jr_index_has_member(idx, numbers[at]) == m->known[at]);
        for (uint32_t h = 0; h < HASHES && m->known[at]; h++) {
            uint64_t prefix = 0;
            bool held = jr_index_lookup(idx, numbers[at], hash_of(h), &prefix);
            JR_ASSERT(held == m->held[at][h]);
            JR_ASSERT(!held || prefix == m->prefix[at][h]);
        }
    }
    jr_index_check(idx);
}

/* The same scores from prefix hashes and from local ones. */
static void query(const struct model *m, const struct jr_index *idx, struct jr_index_match *ret,
                  struct input *in)
{
    uint64_t local[RUN], prefix[RUN];
    uint32_t n = next(in) % (RUN + 1);
    for (uint32_t i = 0; i < n; i++)
        local[i] = 1 + next(in) % 3;
    jr_hash_prefix(local, n, prefix);
    for (int way = 0; way < 2; way++) {
        int err =
            way ? jr_index_match_local(idx, local, n, ret) : jr_index_match(idx, prefix, n, ret);
        JR_ASSERT(err == 0);
        uint32_t found = 0;
        for (uint32_t at = 0; at < MEMBERS; at++) {
            uint32_t score = model_score(m, at, prefix, n);
            JR_ASSERT(jr_index_match_blocks(ret, numbers[at]) == score);
            found += score > 0;
        }
        JR_ASSERT(ret->n == found);
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static void store(struct model *m, struct jr_index *idx, uint32_t at, struct input *in)
{
    uint8_t shape = next(in);
    uint32_t n = shape % (RUN + 1), parent = next(in) % HASHES, hashes[RUN];
    uint64_t locals[RUN];
    struct jr_kv_block blocks[RUN];
    bool has_parent = shape & 0x80;
    for (uint32_t i = 0; i < n; i++) {
        hashes[i] = next(in) % HASHES;
        locals[i] = 1 + next(in) % 3;
        blocks[i] = (struct jr_kv_block){hash_of(hashes[i]), locals[i]};
    }
    int want = model_store(m, at, has_parent, parent, hashes, locals, n);
    int got = jr_index_store(idx, numbers[at], has_parent, hash_of(parent), blocks, n);
    JR_ASSERT(want == got);
}

static void discard(struct model *m, struct jr_index *idx, uint32_t at, struct input *in)
{
    uint64_t hashes[RUN];
    uint32_t n = next(in) % (RUN + 1), known = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t h = next(in) % (HASHES + 1); /* one that nobody has, too */
        hashes[i] = hash_of(h);
        if (h == HASHES || !m->held[at][h])
            continue;
        m->held[at][h] = false;
        m->n--;
        known++;
    }
    JR_ASSERT(jr_index_remove(idx, numbers[at], hashes, n) == known);
}

static void restore(struct model *m, struct jr_index *idx, uint32_t at, struct input *in)
{
    uint32_t h = next(in) % HASHES;
    uint64_t local[3], n = 1 + next(in) % 3;
    for (uint32_t i = 0; i < n; i++)
        local[i] = 1 + next(in) % 3;
    jr_hash_prefix(local, (uint32_t)n, local);
    JR_ASSERT(jr_index_restore(idx, numbers[at], hash_of(h), local[n - 1]) == 0);
    m->n += !m->held[at][h];
    m->held[at][h] = true;
    m->prefix[at][h] = local[n - 1];
}

static void come_or_go(struct model *m, struct jr_index *idx, uint32_t at)
{
    if (m->known[at]) {
        jr_index_clear(idx, numbers[at]);
        jr_index_drop_member(idx, numbers[at]);
        model_clear(m, at);
    } else {
        JR_ASSERT(jr_index_add_member(idx, numbers[at], at + 1, 0) == 0);
    }
    m->known[at] = !m->known[at];
}

/* ---- images ---------------------------------------------------------------------------------- */

/* What the index was when the image was opened. */
struct copying {
    struct jr_image *image; /* NULL: none is open */
    uint64_t digest, n;
};

static void give_up(struct copying *c, struct jr_index *idx)
{
    if (c->image)
        jr_index_image_close(idx, c->image);
    jr_image_destroy(c->image);
    c->image = NULL;
}

static void check_image(const struct copying *c)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < c->image->n_entries; i++) {
        const struct jr_image_entry *e = &c->image->entries[i];
        sum += jr_index_digest_term(e->rank + 1u, 0, e->block_hash, e->prefix_hash);
    }
    JR_ASSERT(c->image->n_entries == c->n && sum == c->digest);
}

static void image(struct copying *c, const struct model *m, struct jr_index *idx, struct input *in)
{
    uint32_t by_member[512] = {0};
    uint8_t budget = next(in);
    if (c->image && budget == 0) {
        give_up(c, idx);
    } else if (c->image) {
        int err = jr_index_image_step(idx, budget, c->image);
        JR_ASSERT(err == 0 || err == JR_EAGAIN || err == JR_ECLOSED);
        if (err == 0)
            check_image(c);
        if (err != JR_EAGAIN)
            give_up(c, idx);
    } else {
        for (uint32_t at = 0; at < MEMBERS; at++)
            by_member[numbers[at]] = at;
        c->image = jr_image_create();
        *c = (struct copying){c->image, digest_of(m), m->n};
        int err = jr_index_image_open(idx, c->image, by_member);
        JR_ASSERT(err == 0 || err == JR_EAGAIN);
        if (err < 0) {
            jr_image_destroy(c->image);
            c->image = NULL;
        }
    }
}

static void operate(struct model *m, struct jr_index *idx, struct jr_index_match *match,
                    struct copying *copying, struct input *in)
{
    uint8_t what = next(in);
    uint32_t at = what / 32 % MEMBERS;
    if (!m->known[at] || what % 32 == 31) {
        come_or_go(m, idx, at);
    } else if (what % 32 < 12) {
        store(m, idx, at, in);
    } else if (what % 32 < 20) {
        discard(m, idx, at, in);
    } else if (what % 32 < 23) {
        image(copying, m, idx, in);
    } else if (what % 32 < 26) {
        query(m, idx, match, in);
    } else if (what % 32 < 27) {
        jr_index_clear(idx, numbers[at]);
        model_clear(m, at);
    } else if (what % 32 < 28) {
        jr_index_reset(idx);
        for (uint32_t i = 0; i < MEMBERS; i++)
            model_clear(m, i);
    } else if (what % 32 < 29) {
        (void)jr_index_work(idx, next(in));
    } else if (what % 32 < 30) {
        m->cap = next(in) % 64;
        jr_index_set_entries_max(idx, m->cap);
    } else {
        restore(m, idx, at, in);
    }
}

/* All entries, in whatever order, make the same index. */
static void copy(const struct model *m, const struct jr_index *idx, struct jr_mem *mem)
{
    struct jr_index_cursor cursor = {0};
    struct jr_image_entry entries[5];
    struct jr_index *other;
    uint32_t n;
    JR_ASSERT(jr_index_create(mem, 0, &other) == 0);
    for (uint32_t at = 0; at < MEMBERS; at++)
        JR_ASSERT(!m->known[at] || jr_index_add_member(other, numbers[at], at + 1, 0) == 0);
    while ((n = jr_index_export(idx, &cursor, entries, 5)) > 0)
        for (uint32_t i = 0; i < n; i++)
            JR_ASSERT(jr_index_restore(other, entries[i].rank, entries[i].block_hash,
                                       entries[i].prefix_hash) == 0);
    compare(m, other);
    jr_index_destroy(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct model m = {0};
    struct copying copying = {0};
    struct jr_index_match match;
    struct jr_index *idx;
    struct jr_mem mem;

    jr_mem_init(&mem);
    jr_index_match_init(&match, &mem);
    JR_ASSERT(jr_index_create(&mem, 0, &idx) == 0);
    for (uint32_t i = 0; i < OPS_MAX && in.p < in.end; i++)
        operate(&m, idx, &match, &copying, &in);
    give_up(&copying, idx);
    compare(&m, idx);
    copy(&m, idx, &mem);
    jr_index_match_deinit(&match);
    jr_index_destroy(idx);
    jr_mem_deinit(&mem);
    return 0;
}
