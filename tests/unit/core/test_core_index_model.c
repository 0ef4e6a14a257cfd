/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix index against a model made of plain arrays, in several sizes: few prefixes and many
 * collisions, more members than a word has bits, members large enough that tables grow and clears
 * are done in slices, and memory that runs out at any time. JR_SEEDS=n repeats all with n seeds. */
#include "base/map.h"
#include "base/rng.h"
#include "core/hash.h"
#include "core/index.h"
#include "jr_test.h"
#include <stdlib.h>
#include <string.h>

#define NOWHERE  UINT32_MAX
#define RUN_MAX  700
#define RECENT   64 /* names remembered */
#define NAMES_OF 2  /* block hashes that are a node's own; all others make moves */

struct profile {
    const char *name;
    uint32_t nodes, members, id_step, run, steps, check_every;
    uint32_t clears, removes; /* of 1,000 steps, the first and the last below which */
    uint32_t fail_every;      /* steps; 0: memory never runs out */
};

/* A tree of blocks, and who holds which under which name. */
struct world {
    const struct profile *f;
    struct jr_rng rng;
    struct jr_mem mem;
    struct jr_index *idx;
    struct jr_index_match match;
    uint32_t *parent; /* node; NOWHERE: the root */
    uint32_t *depth;
    uint64_t *local, *prefix;
    uint32_t roots[8], n_roots;
    uint32_t *at;     /* [member][name]: node */
    uint32_t *count;  /* [member][node]: names */
    uint32_t *live;   /* [member] entries */
    uint32_t *life;   /* [member] worker id changes with each */
    uint64_t *digest; /* [member] */
    uint32_t (*recent)[RECENT];
    uint64_t entries, cap;
    struct jr_image *image; /* being copied, or NULL */
    bool image_is_lost;
    uint32_t *life_then; /* as it was when that began */
    uint64_t entries_then, digest_then;
};

static uint32_t below(struct world *w, uint32_t n)
{
    return jr_rng_below(&w->rng, n);
}

static uint32_t id_of(const struct world *w, uint32_t member)
{
    return member * w->f->id_step;
}

static uint64_t worker_of(const struct world *w, uint32_t member)
{
    return member * UINT64_C(1000) + w->life[member];
}

static uint64_t hash_of(uint32_t member, uint32_t name)
{
    return name < 3 ? name : member % 2 ? name : jr_mix64(name * UINT64_C(977) + member);
}

static uint32_t names(const struct world *w)
{
    return w->f->nodes * NAMES_OF;
}

static uint32_t *at_of(struct world *w, uint32_t member, uint32_t name)
{
    return &w->at[(size_t)member * names(w) + name];
}

static uint32_t *count_of(const struct world *w, uint32_t member, uint32_t node)
{
    return &w->count[(size_t)member * w->f->nodes + node];
}

static uint64_t term(const struct world *w, uint32_t member, uint32_t name, uint32_t node)
{
    return jr_index_digest_term(worker_of(w, member), member % 3, hash_of(member, name),
                                w->prefix[node]);
}

static void model_drop(struct world *w, uint32_t member, uint32_t name)
{
    uint32_t *at = at_of(w, member, name);

    w->digest[member] -= term(w, member, name, *at);
    --*count_of(w, member, *at);
    *at = NOWHERE;
    w->live[member]--;
    w->entries--;
}

static void model_put(struct world *w, uint32_t member, uint32_t name, uint32_t node)
{
    if (*at_of(w, member, name) != NOWHERE)
        model_drop(w, member, name);
    *at_of(w, member, name) = node;
    ++*count_of(w, member, node);
    w->digest[member] += term(w, member, name, node);
    w->recent[member][below(w, RECENT)] = name;
    w->live[member]++;
    w->entries++;
}

static void model_clear(struct world *w, uint32_t member)
{
    for (uint32_t n = 0; n < names(w) && w->live[member] > 0; n++) {
        if (*at_of(w, member, n) != NOWHERE)
            model_drop(w, member, n);
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

static bool often(struct world *w, uint32_t percent)
{
    return below(w, 100) < percent;
}

/* Nodes are numbered so that the most likely child of one is the next. */
static uint32_t child_of(struct world *w, uint32_t node)
{
    if (node == NOWHERE)
        return w->roots[below(w, w->n_roots)];
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t c = node + 1 + (i == 0 && below(w, w->f->run) > 0 ? 0 : below(w, 40));
        if (c < w->f->nodes && w->parent[c] == node)
            return c;
    }
    return NOWHERE;
}

static uint32_t name_for(struct world *w, uint32_t node)
{
    if (often(w, 1))
        return below(w, names(w));
    return node * NAMES_OF + (often(w, 3) ? 1 : 0);
}

/* A name that the member probably holds. */
static uint32_t held_name(struct world *w, uint32_t member)
{
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t name = i % 2 ? below(w, names(w)) : w->recent[member][below(w, RECENT)];
        if (*at_of(w, member, name) != NOWHERE)
            return name;
    }
    return below(w, names(w));
}

static uint64_t model_digest(const struct world *w)
{
    uint64_t sum = 0;
    for (uint32_t m = 0; m < w->f->members; m++)
        sum += w->digest[m];
    return sum;
}

static void step_store(struct world *w)
{
    uint32_t member = below(w, w->f->members), n = 0, name[RUN_MAX], node[RUN_MAX], parent = 0;
    uint32_t max = 1 + below(w, often(w, 30) ? 3 : w->f->run), from = NOWHERE, limit;
    bool has_parent = often(w, 70);
    struct jr_kv_block blocks[RUN_MAX];
    int rv, expect = 0;

    if (has_parent) {
        parent = held_name(w, member);
        from = *at_of(w, member, parent);
    }
    for (uint32_t v = child_of(w, from); v != NOWHERE && n < max; v = child_of(w, v)) {
        node[n] = v;
        name[n] = name_for(w, v);
        blocks[n] = (struct jr_kv_block){hash_of(member, name[n]), w->local[v]};
        n++;
    }
    rv = jr_index_store(w->idx, id_of(w, member), has_parent, hash_of(member, parent), blocks, n);
    if (rv == JR_ENOMEM) {
        assert_true(w->f->fail_every > 0);
        limit = 0;
        while (jr_index_digest(w->idx) != model_digest(w)) { /* a first part of the blocks */
            assert_true(limit < n);
            model_put(w, member, name[limit], node[limit]);
            limit++;
        }
        return;
    }
    if (has_parent && from == NOWHERE)
        expect = JR_ENOTFOUND;
    for (uint32_t i = 0; i < n && expect == 0; i++) {
        if (*at_of(w, member, name[i]) == NOWHERE && w->cap > 0 && w->entries >= w->cap)
            expect = JR_ELIMIT;
        else
            model_put(w, member, name[i], node[i]);
    }
    assert_int_equal(expect, rv);
}

static uint32_t remove_names(struct world *w, uint32_t member, uint32_t *name, uint32_t max)
{
    uint32_t n = 0, node = *at_of(w, member, held_name(w, member));

    if (often(w, 30)) { /* here and there, and twice */
        for (; n < max && n < 20; n++)
            name[n] = n > 0 && often(w, 10) ? name[below(w, n)] : held_name(w, member);
        return n;
    }
    if (node != NOWHERE && often(w, 80)) { /* a chain, from its tail or (some) from its head */
        for (uint32_t v = node; v != NOWHERE && n < max; v = child_of(w, v))
            name[n++] = v * NAMES_OF;
        for (uint32_t i = 0; i < n / 2 && often(w, 95); i++) {
            uint32_t swap = name[i];
            name[i] = name[n - 1 - i];
            name[n - 1 - i] = swap;
        }
        return n;
    }
    for (uint32_t v = node; v != NOWHERE && n < max; v = w->parent[v])
        name[n++] = v * NAMES_OF;
    return n;
}

static void step_remove(struct world *w)
{
    uint32_t member = below(w, w->f->members), name[RUN_MAX], known = 0;
    uint32_t n = remove_names(w, member, name, 1 + below(w, w->f->run / 2));
    uint64_t hashes[RUN_MAX];

    for (uint32_t i = 0; i < n; i++) {
        hashes[i] = hash_of(member, name[i]);
        if (*at_of(w, member, name[i]) != NOWHERE) {
            known++;
            model_drop(w, member, name[i]);
        }
    }
    assert_int_equal(known, jr_index_remove(w->idx, id_of(w, member), hashes, n));
}

static void step_restore(struct world *w)
{
    uint32_t member = below(w, w->f->members), node = below(w, w->f->nodes);
    uint32_t name = name_for(w, node);
    int rv = jr_index_restore(w->idx, id_of(w, member), hash_of(member, name), w->prefix[node]);

    if (rv == 0)
        model_put(w, member, name, node);
    else
        assert_true(rv == JR_ENOMEM && w->f->fail_every > 0);
}

/* A worker leaves and another takes its number. */
static void step_leave(struct world *w)
{
    uint32_t member = below(w, w->f->members);
    int rv;

    jr_index_clear(w->idx, id_of(w, member));
    jr_index_drop_member(w->idx, id_of(w, member));
    assert_false(jr_index_has_member(w->idx, id_of(w, member)));
    model_clear(w, member);
    w->life[member]++;
    rv = jr_index_add_member(w->idx, id_of(w, member), worker_of(w, member), member % 3);
    if (rv == JR_ENOMEM) {
        w->mem.fail_after = -1;
        w->mem.bytes_max = 0;
        rv = jr_index_add_member(w->idx, id_of(w, member), worker_of(w, member), member % 3);
    }
    assert_int_equal(0, rv);
}

static void step_rare(struct world *w)
{
    uint32_t dice = below(w, 100), member = below(w, w->f->members);

    if (dice < 60) {
        jr_index_clear(w->idx, id_of(w, member));
        model_clear(w, member);
    } else if (dice < 80) {
        step_leave(w);
    } else if (dice < 95) {
        w->cap = often(w, 50) ? 0 : w->entries + below(w, w->f->run * 3);
        jr_index_set_entries_max(w->idx, w->cap);
    } else {
        jr_index_reset(w->idx);
        w->image_is_lost = true;
        for (uint32_t m = 0; m < w->f->members; m++)
            model_clear(w, m);
    }
}

/* ---- images: what the index was when one was opened ------------------------------------------ */

static void image_open(struct world *w)
{
    uint32_t *number = jr_xalloc((id_of(w, w->f->members) + 1) * sizeof *number);
    struct jr_image *image = jr_image_create();
    int rv;

    for (uint32_t m = 0; m < w->f->members; m++)
        number[id_of(w, m)] = m;
    rv = jr_index_image_open(w->idx, image, number);
    jr_xfree(number);
    if (rv == JR_EAGAIN) { /* one that was given up is not put away */
        assert_true(jr_index_has_work(w->idx));
        jr_image_destroy(image);
        return;
    }
    assert_int_equal(0, rv);
    w->image = image;
    w->image_is_lost = false;
    memcpy(w->life_then, w->life, w->f->members * sizeof *w->life);
    w->entries_then = w->entries;
    w->digest_then = model_digest(w);
}

static void image_give_up(struct world *w)
{
    jr_index_image_close(w->idx, w->image);
    assert_true(w->image_is_lost || w->image->n_entries <= w->entries_then);
    while (!jr_image_destroy_some(w->image))
        ;
    w->image = NULL;
}

static uint64_t image_digest(const struct world *w)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < w->image->n_entries; i++) {
        const struct jr_image_entry *e = &w->image->entries[i];
        sum += jr_index_digest_term(e->rank * UINT64_C(1000) + w->life_then[e->rank], e->rank % 3,
                                    e->block_hash, e->prefix_hash);
    }
    return sum;
}

/* Each flag is true, and all that hold a prefix stand together. */
static void check_flags(const struct world *w)
{
    const struct jr_image_entry *e = w->image->entries;
    struct jr_map nodes, seen;
    struct jr_mem mem;
    uint64_t node, before;

    jr_mem_init(&mem);
    jr_map_init(&nodes, &mem);
    jr_map_init(&seen, &mem);
    for (uint32_t v = 0; v < w->f->nodes; v++)
        assert_int_equal(0, jr_map_put(&nodes, w->prefix[v], v));
    for (uint64_t i = 0; i < w->image->n_entries; i++) {
        assert_true(jr_map_get(&nodes, e[i].prefix_hash, &node));
        if (e[i].flags & JR_IMAGE_SAME)
            assert_true(e[i].prefix_hash == e[i - 1].prefix_hash);
        else
            assert_false(jr_map_get(&seen, e[i].prefix_hash, NULL));
        if (e[i].flags & JR_IMAGE_CHILD) {
            assert_true(jr_map_get(&nodes, e[i - 1].prefix_hash, &before));
            assert_true(w->parent[node] == before);
        }
        assert_int_equal(0, jr_map_put(&seen, e[i].prefix_hash, 0));
    }
    jr_map_deinit(&nodes);
    jr_map_deinit(&seen);
    jr_mem_deinit(&mem);
}

static void presize(struct jr_index *idx, uint32_t member, uint64_t blocks)
{
    int rv;

    while ((rv = jr_index_presize(idx, member, blocks)) == JR_EAGAIN)
        ;
    assert_int_equal(0, rv);
}

/* Another index made of the image, in slices. */
static void check_restored(struct world *w)
{
    uint32_t *members = jr_xalloc(w->f->members * sizeof *members), at = JR_INDEX_NOWHERE;
    uint64_t done = 0, left;
    struct jr_index *copy;
    struct jr_mem mem;

    jr_mem_init(&mem);
    assert_int_equal(0, jr_index_create(&mem, 0, &copy));
    for (uint32_t m = 0; m < w->f->members; m++) {
        members[m] = w->f->members - 1 - m;
        assert_int_equal(
            0, jr_index_add_member(copy, members[m], m * UINT64_C(1000) + w->life_then[m], m % 3));
        if (often(w, 50))
            presize(copy, members[m], below(w, 2000));
    }
    while ((left = w->image->n_entries - done) > 0) {
        uint32_t n = 1 + below(w, left < 1000 ? (uint32_t)left : 1000);
        assert_int_equal(0, jr_index_restore_run(copy, w->image->entries + done, n, members, &at));
        done += n;
    }
    assert_true(jr_index_entries(copy) == w->entries_then);
    assert_true(jr_index_digest(copy) == w->digest_then);
    jr_index_check(copy);
    jr_index_destroy(copy);
    jr_mem_deinit(&mem);
    jr_xfree(members);
}

static void image_step(struct world *w)
{
    int rv = jr_index_image_step(w->idx, below(w, often(w, 50) ? 40 : 3000), w->image);

    if (w->image_is_lost) {
        assert_int_equal(JR_ECLOSED, rv);
        image_give_up(w);
        return;
    }
    if (rv == JR_EAGAIN)
        return;
    assert_int_equal(0, rv);
    assert_true(w->image->n_entries == w->entries_then);
    assert_true(image_digest(w) == w->digest_then);
    if (often(w, 80)) {
        jr_image_arrange(w->image);
        assert_true(image_digest(w) == w->digest_then);
        check_flags(w);
    }
    check_restored(w);
    jr_image_destroy(w->image);
    w->image = NULL;
}

static void step_image(struct world *w)
{
    if (!w->image) {
        if (below(w, 20) == 0)
            image_open(w);
    } else if (below(w, 400) == 0) {
        image_give_up(w);
    } else if (often(w, 30)) {
        image_step(w);
    }
}

static void step(struct world *w)
{
    uint32_t dice = below(w, 1000);

    if (w->f->fail_every > 0 && below(w, w->f->fail_every) == 0)
        w->mem.fail_after = below(w, 4);
    if (w->f->fail_every > 0 && below(w, 100) == 0) /* a while without any */
        w->mem.bytes_max = often(w, 50) ? w->mem.bytes : 0;
    if (dice < w->f->clears)
        step_rare(w);
    else if (dice < 600)
        step_store(w);
    else if (dice < w->f->removes)
        step_remove(w);
    else if (dice < w->f->removes + 3)
        step_restore(w);
    else
        (void)jr_index_work(w->idx, below(w, 700));
    if (w->f->fail_every == 0 || often(w, 70)) /* some failures last */
        w->mem.fail_after = -1;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static uint32_t prompt(struct world *w, uint64_t *local, uint64_t *prefix, uint32_t *node)
{
    uint32_t n = 0;

    uint32_t m = below(w, w->f->members), v = *at_of(w, m, held_name(w, m));

    if (v != NOWHERE && w->depth[v] < RUN_MAX && often(w, 60)) { /* up from what somebody holds */
        for (n = w->depth[v]; v != NOWHERE; v = w->parent[v])
            node[w->depth[v] - 1] = v;
        v = child_of(w, node[n - 1]);
    } else {
        v = child_of(w, NOWHERE);
    }
    for (; v != NOWHERE && n < RUN_MAX - 1; v = child_of(w, v))
        node[n++] = v;
    for (uint32_t i = 0; i < n; i++) {
        local[i] = w->local[node[i]];
        prefix[i] = w->prefix[node[i]];
    }
    if (often(w, 30)) { /* nobody knows the end */
        node[n] = NOWHERE;
        local[n] = 12345;
        prefix[n] = n > 0 ? jr_hash_chain(prefix[n - 1], 12345) : 12345;
        n++;
    }
    return n;
}

static void check_scores(struct world *w, const uint32_t *node, uint32_t n)
{
    uint32_t at = 0;

    for (uint32_t m = 0; m < w->f->members; m++) {
        uint32_t score = 0;
        while (score < n && node[score] != NOWHERE && *count_of(w, m, node[score]) > 0)
            score++;
        assert_int_equal(score, jr_index_match_blocks(&w->match, id_of(w, m)));
        if (score > 0) {
            assert_int_equal(id_of(w, m), w->match.v[at].member);
            assert_int_equal(score, w->match.v[at].blocks);
            at++;
        }
    }
    assert_int_equal(at, w->match.n);
}

static void check_match(struct world *w)
{
    uint64_t local[RUN_MAX], prefix[RUN_MAX];
    uint32_t node[RUN_MAX], n = prompt(w, local, prefix, node);
    struct jr_mem limits = w->mem;

    w->mem.fail_after = -1;
    w->mem.bytes_max = 0;
    assert_int_equal(0, jr_index_match(w->idx, prefix, n, &w->match));
    check_scores(w, node, n);
    assert_int_equal(0, jr_index_match_local(w->idx, local, n, &w->match));
    check_scores(w, node, n);
    w->mem.fail_after = limits.fail_after;
    w->mem.bytes_max = limits.bytes_max;
}

static uint64_t model_blocks(const struct world *w)
{
    uint64_t n = 0;

    for (uint32_t v = 0; v < w->f->nodes; v++) {
        bool held = false;
        for (uint32_t m = 0; m < w->f->members && !held; m++)
            held = *count_of(w, m, v) > 0;
        n += held;
    }
    return n;
}

static uint32_t member_of_id(const struct world *w, uint32_t id)
{
    return id / w->f->id_step;
}

static void check_whole(struct world *w)
{
    struct jr_index_cursor cursor = {0};
    struct jr_image_entry out[64];
    uint64_t digest = 0, n = 0;
    uint32_t got;

    jr_index_check(w->idx);
    while ((got = jr_index_export(w->idx, &cursor, out, 1 + below(w, 64))) > 0) {
        for (uint32_t i = 0; i < got; i++) {
            uint32_t m = member_of_id(w, out[i].rank);
            digest +=
                jr_index_digest_term(worker_of(w, m), m % 3, out[i].block_hash, out[i].prefix_hash);
        }
        n += got;
    }
    assert_true(n == w->entries && digest == model_digest(w));
    if (often(w, 50))
        return;
    while (jr_index_work(w->idx, 100))
        ;
    jr_index_check(w->idx);
    assert_true(jr_index_blocks(w->idx) == model_blocks(w));
}

static void check(struct world *w, uint32_t i)
{
    uint32_t m = below(w, w->f->members);

    assert_true(jr_index_digest(w->idx) == model_digest(w));
    assert_true(jr_index_entries(w->idx) == w->entries);
    assert_true(jr_index_member_entries(w->idx, id_of(w, m)) == w->live[m]);
    check_match(w);
    if (i % w->f->check_every == 0)
        check_whole(w);
}

/* ---- worlds ---------------------------------------------------------------------------------- */

static void make_tree(struct world *w)
{
    uint32_t n = w->f->nodes;

    w->parent = jr_xalloc(n * sizeof *w->parent);
    w->depth = jr_xalloc(n * sizeof *w->depth);
    w->local = jr_xalloc(n * sizeof *w->local);
    w->prefix = jr_xalloc(n * sizeof *w->prefix);
    for (uint32_t v = 0; v < n; v++) {
        bool root = v == 0 || (w->n_roots < 8 && below(w, n / 6) == 0);
        uint32_t p = root                          ? NOWHERE
                     : below(w, w->f->run / 4) > 0 ? v - 1
                                                   : v - 1 - below(w, v < 40 ? v : 40);
        if (root)
            w->roots[w->n_roots++] = v;
        w->parent[v] = p;
        w->depth[v] = p == NOWHERE ? 1 : w->depth[p] + 1;
        w->local[v] = v; /* no two children of one block are alike */
        w->prefix[v] = p == NOWHERE ? w->local[v] : jr_hash_chain(w->prefix[p], w->local[v]);
    }
}

static void world_init(struct world *w, const struct profile *f, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->f = f;
    jr_rng_init(&w->rng, seed, 7);
    jr_mem_init(&w->mem);
    make_tree(w);
    w->at = jr_xalloc((size_t)f->members * names(w) * sizeof *w->at);
    memset(w->at, 0xff, (size_t)f->members * names(w) * sizeof *w->at);
    w->count = jr_xalloc((size_t)f->members * f->nodes * sizeof *w->count);
    w->live = jr_xalloc(f->members * sizeof *w->live);
    w->life = jr_xalloc(f->members * sizeof *w->life);
    w->life_then = jr_xalloc(f->members * sizeof *w->life);
    w->recent = jr_xalloc(f->members * sizeof *w->recent);
    w->digest = jr_xalloc(f->members * sizeof *w->digest);
    jr_index_match_init(&w->match, &w->mem);
    assert_int_equal(0, jr_index_create(&w->mem, 0, &w->idx));
    for (uint32_t m = 0; m < f->members; m++)
        assert_int_equal(0, jr_index_add_member(w->idx, id_of(w, m), worker_of(w, m), m % 3));
}

static void world_deinit(struct world *w)
{
    w->mem.fail_after = -1;
    assert_true(jr_index_bytes(w->idx) + jr_index_match_bytes(&w->match) == w->mem.bytes);
    jr_index_match_deinit(&w->match);
    jr_index_destroy(w->idx);
    jr_mem_deinit(&w->mem);
    jr_xfree(w->parent);
    jr_xfree(w->depth);
    jr_xfree(w->local);
    jr_xfree(w->prefix);
    jr_xfree(w->at);
    jr_xfree(w->count);
    jr_xfree(w->live);
    jr_xfree(w->life);
    jr_xfree(w->life_then);
    jr_image_destroy(w->image);
    jr_xfree(w->recent);
    jr_xfree(w->digest);
}

static void run(const struct profile *f)
{
    const char *text = getenv("JR_SEEDS");
    uint64_t seed = jr_test_seed(), seeds = text ? strtoull(text, NULL, 10) : 1;

    for (uint64_t s = 0; s < seeds; s++) {
        struct world w;
        if (seeds > 1)
            print_message("%s: seed %llu\n", f->name, (unsigned long long)(seed + s));
        world_init(&w, f, seed + s);
        for (uint32_t i = 0; i < f->steps; i++) {
            step(&w);
            step_image(&w);
            check(&w, i);
        }
        world_deinit(&w);
    }
}

static void test_small(void **state)
{
    static const struct profile f = {"small", 40, 5, 1, 12, 12000, 50, 10, 920, 0};
    (void)state;
    run(&f);
}

static void test_many_members(void **state)
{
    static const struct profile f = {"many members", 120, 90, 7, 60, 6000, 200, 4, 720, 0};
    (void)state;
    run(&f);
}

static void test_large(void **state)
{
    static const struct profile f = {"large", 9000, 4, 1, 700, 3000, 300, 5, 640, 0};
    (void)state;
    run(&f);
}

static void test_memory_runs_out(void **state)
{
    static const struct profile f = {"memory runs out", 300, 70, 3, 80, 5000, 100, 6, 800, 6};
    (void)state;
    run(&f);
}

static void test_large_without_memory(void **state)
{
    static const struct profile f = {"large, no memory", 9000, 4, 40, 600, 2000, 200, 5, 640, 9};
    (void)state;
    run(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_many_members),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_large_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
