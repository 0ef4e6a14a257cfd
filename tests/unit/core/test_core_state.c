/* SPDX-License-Identifier: Apache-2.0 */
/* The apply rules: each by itself, then generated logs against a naive state, through images, and
 * with memory running out. */
#include "core/hash.h"
#include "core/state.h"
#include "core_gen.h"
#include "jr_test.h"

struct rig {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *s;
};

static void rig_init(struct rig *r)
{
    jr_mem_init(&r->mem);
    jr_members_init(&r->members, &r->mem);
    assert_int_equal(jr_state_create(&r->mem, &r->members, &r->s), 0);
}

static void rig_deinit(struct rig *r)
{
    jr_state_destroy(r->s);
    jr_members_deinit(&r->members);
    jr_mem_deinit(&r->mem);
}

static uint32_t apply(struct rig *r, const struct gen_msg *g)
{
    uint32_t effect = 0;
    assert_int_equal(jr_state_apply(r->s, &g->m, &effect), 0);
    return effect;
}

static const struct jr_state_rank *row(struct rig *r, uint64_t worker, uint32_t rank)
{
    uint32_t m = jr_members_find(&r->members, worker, rank);
    return m == JR_MEMBER_NONE ? NULL : jr_state_rank(r->s, m);
}

static bool holds(struct rig *r, uint64_t worker, uint32_t rank, uint64_t hash)
{
    uint32_t m = jr_members_find(&r->members, worker, rank);
    return row(r, worker, rank) && jr_index_lookup(r->s->index, m, hash, NULL);
}

static uint64_t next(const struct rig *r)
{
    return r->s->seq + 1;
}

/* Worker 1 rank 0, incarnation 11, ids 1..2, blocks 5 and 6 under it. */
static void begin(struct rig *r, struct gen_msg *g)
{
    gen_batch(g, next(r), 1, 0, 11, 1, true);
    gen_store(g, 0, 5);
    gen_store(g, 5, 6);
    assert_int_equal(apply(r, g), JR_EFFECT_BEGAN);
}

static void test_begin_and_overlap(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    assert_int_equal(row(&r, 1, 0)->newest_id, 2);
    g.m.seq++; /* sent twice: nothing changes */
    assert_int_equal(apply(&r, &g), 0);
    assert_int_equal(row(&r, 1, 0)->newest_id, 2);
    gen_batch(&g, next(&r), 1, 0, 11, 2, false); /* id 2 again, then 3 */
    gen_remove(&g, 5);
    gen_store(&g, 6, 7);
    apply(&r, &g);
    assert_true(holds(&r, 1, 0, 5) && holds(&r, 1, 0, 7));
    assert_int_equal(row(&r, 1, 0)->newest_id, 3);
    rig_deinit(&r);
}

static void test_begin_of_the_present_incarnation_clears(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    gen_batch(&g, next(&r), 1, 0, 11, 3, true); /* newer ids: the bridge begins anew */
    gen_store(&g, 0, 9);
    assert_int_equal(apply(&r, &g), JR_EFFECT_BEGAN);
    assert_true(holds(&r, 1, 0, 9) && !holds(&r, 1, 0, 5));
    rig_deinit(&r);
}

static void test_other_incarnations_are_ignored(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    gen_batch(&g, next(&r), 1, 0, 12, 4, false);
    gen_store(&g, 0, 5);
    assert_int_equal(apply(&r, &g), JR_EFFECT_REANNOUNCE); /* an unknown history */
    assert_null(row(&r, 1, 0));
    begin(&r, &g);
    gen_batch(&g, next(&r), 1, 0, 12, 3, false);
    gen_store(&g, 0, 8);
    assert_int_equal(apply(&r, &g), 0);
    assert_false(holds(&r, 1, 0, 8));
    assert_int_equal(r.s->counters.dropped_stale, 2);
    rig_deinit(&r);
}

static void test_hole_waits_for_begin(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    gen_batch(&g, next(&r), 1, 0, 11, 4, false);
    gen_store(&g, 0, 7);
    assert_int_equal(apply(&r, &g), JR_EFFECT_REANNOUNCE);
    assert_true(row(&r, 1, 0)->waiting);
    assert_false(holds(&r, 1, 0, 5) || holds(&r, 1, 0, 7));
    gen_batch(&g, next(&r), 1, 0, 11, 3, false);
    gen_store(&g, 0, 7);
    assert_int_equal(apply(&r, &g), JR_EFFECT_REANNOUNCE);
    gen_batch(&g, next(&r), 1, 0, 13, 1, true);
    gen_store(&g, 0, 7);
    assert_int_equal(apply(&r, &g), JR_EFFECT_BEGAN);
    assert_true(holds(&r, 1, 0, 7) && !row(&r, 1, 0)->waiting);
    rig_deinit(&r);
}

static void test_worker_gone_names_incarnations(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    struct jr_control *c = gen_control(&g, next(&r), JR_CONTROL_WORKER_GONE);
    c->worker_id = 1;
    c->n_ended = 2;
    g.ended[0] = (struct jr_rank_incarnation){0, 10}; /* an older life */
    g.ended[1] = (struct jr_rank_incarnation){3, 11}; /* a rank that is not there */
    assert_int_equal(apply(&r, &g), 0);
    assert_non_null(row(&r, 1, 0));
    c = gen_control(&g, next(&r), JR_CONTROL_WORKER_GONE);
    c->worker_id = 1;
    c->n_ended = 1;
    g.ended[0] = (struct jr_rank_incarnation){0, 11};
    assert_int_equal(apply(&r, &g), JR_EFFECT_GONE);
    assert_null(row(&r, 1, 0));
    assert_int_equal(jr_index_entries(r.s->index), 0);
    rig_deinit(&r);
}

static void test_cleared_is_per_rank_but_for_dynamo(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    for (uint32_t rank = 0; rank < 2; rank++) {
        gen_batch(&g, next(&r), 1, rank, 20 + rank, 1, true);
        gen_store(&g, 0, 5);
        apply(&r, &g);
        gen_batch(&g, next(&r), 2, rank, 0, 1, false);
        gen_store(&g, 0, 5);
        apply(&r, &g);
    }
    gen_batch(&g, next(&r), 1, 0, 20, 2, false);
    gen_clear(&g);
    apply(&r, &g);
    assert_true(!holds(&r, 1, 0, 5) && holds(&r, 1, 1, 5));
    gen_batch(&g, next(&r), 2, 1, 0, 2, false);
    gen_clear(&g);
    apply(&r, &g);
    assert_true(!holds(&r, 2, 0, 5) && !holds(&r, 2, 1, 5));
    rig_deinit(&r);
}

static void test_dynamo_cleared_spares_ranks_of_a_bridge(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    gen_batch(&g, next(&r), 1, 1, 0, 1, false); /* rank 1 speaks Dynamo */
    gen_store(&g, 0, 5);
    gen_clear(&g);
    apply(&r, &g);
    assert_true(holds(&r, 1, 0, 5) && !holds(&r, 1, 1, 5));
    gen_batch(&g, next(&r), 1, 0, 0, 1, false); /* and has no say in rank 0 */
    gen_remove(&g, 5);
    apply(&r, &g);
    assert_true(holds(&r, 1, 0, 5));
    /* Our own bridge's JSON has an incarnation: cleared is for its rank. */
    gen_batch(&g, next(&r), 1, 1, 31, 1, true);
    gen_store(&g, 0, 5);
    apply(&r, &g);
    gen_batch(&g, next(&r), 1, 0, 11, 3, false)->dynamo = true;
    gen_clear(&g);
    apply(&r, &g);
    assert_true(!holds(&r, 1, 0, 5) && holds(&r, 1, 1, 5));
    rig_deinit(&r);
}

static void test_dynamo_ids_are_not_checked(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    gen_batch(&g, next(&r), 3, 0, 0, 900, false);
    gen_store(&g, 0, 5);
    apply(&r, &g);
    gen_batch(&g, next(&r), 3, 0, 0, 1, false);
    gen_store(&g, 5, 6);
    apply(&r, &g);
    assert_true(holds(&r, 3, 0, 6));
    assert_int_equal(row(&r, 3, 0)->newest_id, 900);
    rig_deinit(&r);
}

static void reset_msg(struct rig *r, struct gen_msg *g, struct jr_epoch from, struct jr_epoch to)
{
    struct jr_control *c = gen_control(g, next(r), JR_CONTROL_RESET);
    c->from = from;
    c->to = to;
    strcpy(c->token, "again");
}

static void test_reset_follows_its_epoch(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    reset_msg(&r, &g, (struct jr_epoch){0, 0}, (struct jr_epoch){77, 1});
    assert_int_equal(apply(&r, &g), JR_EFFECT_RESET);
    assert_null(row(&r, 1, 0));
    assert_int_equal(r.s->epoch.random, 77);
    assert_string_equal(r.s->reset_token, "again");
    begin(&r, &g);
    reset_msg(&r, &g, (struct jr_epoch){0, 0}, (struct jr_epoch){78, 1}); /* lost the race */
    assert_int_equal(apply(&r, &g), 0);
    assert_non_null(row(&r, 1, 0));
    rig_deinit(&r);
}

/* Replicas that rebuild from different places of the log are equal after the Reset. */
static void test_reset_makes_rebuilds_equal(void **state)
{
    (void)state;
    struct rig a, b;
    struct gen_msg g;
    rig_init(&a);
    rig_init(&b);
    gen_control(&g, 1, JR_CONTROL_CONFIG)->params = (struct jr_pool_params){16, 1, 1};
    apply(&a, &g);
    gen_init(&g, 2, JR_LOG_KIND_UNDECODABLE);
    apply(&a, &g);
    b.s->seq = 2; /* it begins where the first two have left the stream */
    reset_msg(&a, &g, (struct jr_epoch){0, JR_EPOCH_ANY}, (struct jr_epoch){6, 6});
    assert_int_equal(apply(&a, &g), JR_EFFECT_RESET);
    assert_int_equal(apply(&b, &g), JR_EFFECT_RESET);
    for (int i = 0; i < 2; i++) { /* the cap is gone, too */
        struct rig *r = i ? &b : &a;
        begin(r, &g);
    }
    assert_int_equal(jr_state_digest_table(a.s), jr_state_digest_table(b.s));
    assert_int_equal(jr_state_digest_blocks(a.s), jr_state_digest_blocks(b.s));
    rig_deinit(&a);
    rig_deinit(&b);
}

static void test_config_caps_entries(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    gen_control(&g, next(&r), JR_CONTROL_CONFIG)->params = (struct jr_pool_params){16, 1, 1};
    assert_int_equal(apply(&r, &g), JR_EFFECT_CONFIG);
    begin(&r, &g);
    assert_int_equal(jr_index_entries(r.s->index), 1);
    assert_int_equal(r.s->counters.refused_cap, 1);
    rig_deinit(&r);
}

static void test_newer_rules_stop(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    uint32_t effect;
    rig_init(&r);
    gen_control(&g, next(&r), JR_CONTROL_USE_VERSION)->rule_version = JR_RULES_VERSION + 1;
    assert_int_equal(jr_state_apply(r.s, &g.m, &effect), JR_EVERSION);
    gen_init(&g, next(&r), JR_LOG_KIND_TOO_NEW);
    assert_int_equal(jr_state_apply(r.s, &g.m, &effect), JR_EVERSION);
    assert_int_equal(r.s->seq, 0);
    gen_control(&g, next(&r), JR_CONTROL_USE_VERSION)->rule_version = 0; /* never lowered */
    apply(&r, &g);
    assert_int_equal(r.s->rule_version, JR_RULES_FIRST);
    gen_init(&g, next(&r), JR_LOG_KIND_UNDECODABLE);
    apply(&r, &g);
    assert_int_equal(r.s->counters.undecodable, 1);
    rig_deinit(&r);
}

static void test_rows_are_bounded_by_rule(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    for (uint32_t i = 0; i <= JR_STATE_RANKS_MAX; i++) {
        gen_batch(&g, next(&r), i, 0, 1, 1, true);
        apply(&r, &g);
    }
    assert_int_equal(r.s->n_ranks, JR_STATE_RANKS_MAX);
    assert_int_equal(r.s->counters.refused_cap, 1);
    rig_deinit(&r);
}

static void test_digest_points(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    for (uint64_t i = 1; i <= JR_DIGEST_POINTS + 10; i++) {
        gen_init(&g, i, JR_LOG_KIND_UNDECODABLE);
        apply(&r, &g);
        assert_int_equal(jr_state_newest_point(r.s)->seq, i);
        assert_int_equal(jr_state_newest_point(r.s)->table, jr_state_digest_table(r.s));
    }
    assert_null(jr_state_point(r.s, 10)); /* pushed out by one of its residue */
    assert_non_null(jr_state_point(r.s, 11));
    assert_null(jr_state_point(r.s, JR_DIGEST_POINTS + 11));
    assert_null(jr_state_point(r.s, 0));
    assert_true(jr_state_point(r.s, 11)->table != jr_state_point(r.s, 12)->table);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- the naive state */

#define WORKERS 3
#define RANKS   2
#define HASHES  20

struct naive_rank {
    bool present, waiting, has_id;
    uint64_t incarnation, newest;
    bool held[HASHES];
    uint64_t prefix[HASHES];
};

struct naive {
    struct naive_rank r[WORKERS][RANKS];
    struct jr_state_counters n;
    struct jr_epoch epoch;
    struct jr_pool_params params;
};

static void naive_event(struct naive *nv, struct naive_rank *r, uint64_t worker, bool dynamo,
                        const struct jr_kv_event *e)
{
    if (e->type == JR_KV_CLEARED && !dynamo) {
        memset(r->held, 0, sizeof r->held);
    } else if (e->type == JR_KV_CLEARED) {
        for (int k = 0; k < RANKS; k++)
            if (nv->r[worker][k].present && nv->r[worker][k].incarnation == 0)
                memset(nv->r[worker][k].held, 0, sizeof r->held);
    } else if (e->type == JR_KV_REMOVED) {
        for (uint32_t i = 0; i < e->n; i++)
            r->held[e->hashes[i]] = false;
    } else if (e->has_parent && !r->held[e->parent_hash]) {
        nv->n.dropped_unknown_parent++;
    } else {
        uint64_t at = e->has_parent ? r->prefix[e->parent_hash] : 0;
        for (uint32_t i = 0; i < e->n; i++) {
            uint64_t local = e->blocks[i].local_hash;
            at = i == 0 && !e->has_parent ? local : jr_hash_chain(at, local);
            r->held[e->blocks[i].block_hash] = true;
            r->prefix[e->blocks[i].block_hash] = at;
        }
    }
}

static void naive_batch(struct naive *nv, const struct jr_kv_batch *b)
{
    struct naive_rank *r = &nv->r[b->worker_id][b->dp_rank];
    uint64_t from = b->first_id;
    if (b->incarnation == 0) {
        if (!r->present)
            *r = (struct naive_rank){.present = true};
        if (r->incarnation != 0) {
            nv->n.dropped_stale++;
            return;
        }
    } else if (b->begin && !(r->present && !r->waiting && r->incarnation == b->incarnation &&
                             b->first_id <= r->newest)) {
        *r = (struct naive_rank){.present = true,
                                 .has_id = true,
                                 .incarnation = b->incarnation,
                                 .newest = b->first_id - 1};
    } else if (!r->present || r->waiting || r->incarnation != b->incarnation) {
        nv->n.dropped_stale++;
        return;
    } else if (b->first_id > r->newest + 1) {
        nv->n.dropped_hole++;
        memset(r->held, 0, sizeof r->held);
        r->waiting = true;
        return;
    } else {
        from = r->newest + 1;
    }
    for (uint32_t i = 0; i < b->n_events; i++) {
        uint64_t id = b->first_id + i;
        if (b->incarnation != 0 && id < from)
            continue;
        naive_event(nv, r, b->worker_id, b->incarnation == 0, &b->events[i]);
        r->newest = b->incarnation != 0 || !r->has_id || id > r->newest ? id : r->newest;
        r->has_id = true;
    }
}

static void naive_control(struct naive *nv, const struct jr_control *c)
{
    if (c->type == JR_CONTROL_CONFIG)
        nv->params = c->params;
    for (uint32_t i = 0; c->type == JR_CONTROL_WORKER_GONE && i < c->n_ended; i++) {
        struct naive_rank *r = &nv->r[c->worker_id][c->ended[i].dp_rank];
        if (r->present && r->incarnation == c->ended[i].incarnation)
            *r = (struct naive_rank){0};
    }
    if (c->type == JR_CONTROL_RESET && memcmp(&c->from, &nv->epoch, sizeof c->from) == 0)
        *nv = (struct naive){.epoch = c->to};
}

static void naive_apply(struct naive *nv, const struct jr_log_msg *m)
{
    if (m->kind == JR_LOG_KIND_BATCH)
        naive_batch(nv, &m->u.batch);
    else if (m->kind == JR_LOG_KIND_CONTROL)
        naive_control(nv, &m->u.control);
    else
        nv->n.undecodable++;
}

static void compare(struct rig *r, const struct naive *nv)
{
    uint64_t entries = 0;
    for (uint32_t w = 0; w < WORKERS; w++)
        for (uint32_t k = 0; k < RANKS; k++) {
            const struct naive_rank *want = &nv->r[w][k];
            const struct jr_state_rank *got = row(r, w, k);
            assert_int_equal(got != NULL, want->present);
            if (!got)
                continue;
            assert_int_equal(got->incarnation, want->incarnation);
            assert_int_equal(got->waiting, want->waiting);
            assert_int_equal(got->has_id, want->has_id);
            assert_int_equal(got->newest_id, want->newest);
            uint32_t m = jr_members_find(&r->members, w, k);
            for (uint64_t h = 0; h < HASHES; h++) {
                uint64_t prefix;
                assert_int_equal(jr_index_lookup(r->s->index, m, h, &prefix), want->held[h]);
                if (want->held[h])
                    assert_int_equal(prefix, want->prefix[h]);
                entries += want->held[h];
            }
        }
    assert_int_equal(jr_index_entries(r->s->index), entries);
    assert_memory_equal(&r->s->counters, &nv->n, sizeof nv->n);
    assert_memory_equal(&r->s->params, &nv->params, sizeof nv->params);
}

static void random_event(struct jr_rng *rng, struct gen_msg *g)
{
    uint32_t i = g->m.u.batch.n_events++;
    struct jr_kv_event *e = &g->events[i];
    uint32_t what = jr_rng_below(rng, 20);
    e->n = 1 + jr_rng_below(rng, GEN_BLOCKS);
    e->type = what == 0 ? JR_KV_CLEARED : what < 7 ? JR_KV_REMOVED : JR_KV_STORED;
    e->has_parent = jr_rng_below(rng, 2);
    e->parent_hash = jr_rng_below(rng, HASHES);
    e->blocks = g->blocks[i];
    e->hashes = g->hashes[i];
    for (uint32_t k = 0; k < e->n; k++) {
        g->hashes[i][k] = jr_rng_below(rng, HASHES);
        g->blocks[i][k] = (struct jr_kv_block){jr_rng_below(rng, HASHES), 1 + jr_rng_below(rng, 5)};
    }
}

static void random_batch(struct jr_rng *rng, const struct naive *nv, struct gen_msg *g,
                         uint64_t seq)
{
    uint32_t w = jr_rng_below(rng, WORKERS), k = jr_rng_below(rng, RANKS);
    const struct naive_rank *r = &nv->r[w][k];
    bool begin = jr_rng_below(rng, 12) == 0;
    uint64_t inc = r->incarnation;
    if (begin && jr_rng_below(rng, 3))
        inc = 1 + jr_rng_below(rng, 100);
    else if (jr_rng_below(rng, 10) == 0)
        inc = jr_rng_below(rng, 3);
    uint64_t first = r->newest + 1;
    if (jr_rng_below(rng, 6) == 0)
        first = 1 + jr_rng_below(rng, (uint32_t)r->newest + 3);
    gen_batch(g, seq, w, k, inc, first, begin && inc != 0);
    for (uint32_t n = jr_rng_below(rng, GEN_EVENTS + 1); n > 0; n--)
        random_event(rng, g);
}

static void random_msg(struct jr_rng *rng, const struct naive *nv, struct gen_msg *g, uint64_t seq)
{
    uint32_t what = jr_rng_below(rng, 60);
    if (what == 0) {
        struct jr_control *c = gen_control(g, seq, JR_CONTROL_RESET);
        c->from = nv->epoch;
        c->from.n += jr_rng_below(rng, 3) == 0;
        c->to = (struct jr_epoch){jr_rng_u64(rng), c->from.n + 1};
    } else if (what < 4) {
        struct jr_control *c = gen_control(g, seq, JR_CONTROL_WORKER_GONE);
        c->worker_id = jr_rng_below(rng, WORKERS);
        for (uint32_t k = 0; k < RANKS; k++)
            g->ended[c->n_ended++] = (struct jr_rank_incarnation){
                k, nv->r[c->worker_id][k].incarnation + (jr_rng_below(rng, 3) == 0)};
    } else if (what == 4) {
        gen_control(g, seq, JR_CONTROL_CONFIG)->params.block_size = 1 + jr_rng_below(rng, 9);
    } else if (what == 5) {
        gen_init(g, seq, JR_LOG_KIND_UNDECODABLE);
    } else {
        random_batch(rng, nv, g, seq);
    }
}

/* Out of one state in slices, into a fresh one with member numbers of its own. */
static void through_image(struct rig *from, struct rig *to, struct jr_rng *rng)
{
    struct jr_state_export x;
    struct jr_state_import in = {0};
    assert_int_equal(jr_state_export_begin(from->s, &x), 0);
    while (!jr_state_export_step(from->s, &x, 1 + jr_rng_below(rng, 7)))
        ;
    struct jr_image *image = jr_state_export_take(from->s, &x);
    assert_int_equal(jr_state_import_begin(to->s, &in, image), 0);
    int err;
    while ((err = jr_state_import_step(to->s, &in, 1 + jr_rng_below(rng, 7))) == JR_EAGAIN)
        ;
    assert_int_equal(err, 0);
    jr_state_import_end(to->s, &in);
    jr_image_destroy(image);
}

static void compare_digests(const struct rig *a, const struct rig *b)
{
    assert_int_equal(a->s->seq, b->s->seq);
    assert_int_equal(jr_state_digest_blocks(a->s), jr_state_digest_blocks(b->s));
    assert_int_equal(jr_state_digest_table(a->s), jr_state_digest_table(b->s));
}

/* One state applies all; the other is thrown away now and then and comes back from an image. */
static void test_model(void **state)
{
    (void)state;
    struct rig live, other;
    struct naive nv = {0};
    struct jr_rng rng;
    struct gen_msg g;
    jr_rng_init(&rng, jr_test_seed(), 2);
    rig_init(&live);
    rig_init(&other);
    for (uint64_t seq = 1; seq <= 6000; seq++) {
        random_msg(&rng, &nv, &g, seq);
        naive_apply(&nv, &g.m);
        apply(&live, &g);
        apply(&other, &g);
        if (jr_rng_below(&rng, 50) == 0) {
            rig_deinit(&other);
            rig_init(&other);
            through_image(&live, &other, &rng);
        }
        compare_digests(&live, &other);
        if (seq % 4 == 0)
            compare(&live, &nv);
        if (seq % 64 == 0)
            jr_index_check(other.s->index);
    }
    compare(&other, &nv);
    rig_deinit(&live);
    rig_deinit(&other);
}

/* Every change of any field of the table is a change of its digest. */
static void test_table_digest_sees_every_field(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    rig_init(&r);
    begin(&r, &g);
    uint64_t was = jr_state_digest_table(r.s);
    struct jr_state_rank *rank = &r.s->ranks.v[jr_members_find(&r.members, 1, 0)];
    uint64_t *const fields[] = {&rank->incarnation,
                                &rank->newest_id,
                                &r.s->epoch.n,
                                &r.s->epoch.random,
                                &r.s->params.index_entries_max,
                                &r.s->counters.dropped_hole,
                                &r.s->counters.dropped_stale,
                                &r.s->counters.dropped_unknown_parent,
                                &r.s->counters.refused_cap,
                                &r.s->counters.undecodable};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        (*fields[i])++;
        jr_state_recount(r.s);
        assert_int_not_equal(jr_state_digest_table(r.s), was);
        (*fields[i])--;
    }
    rank->waiting = true;
    jr_state_recount(r.s);
    assert_int_not_equal(jr_state_digest_table(r.s), was);
    rank->waiting = false;
    jr_state_recount(r.s);
    r.s->reset_token[0] = 'x';
    assert_int_not_equal(jr_state_digest_table(r.s), was);
    r.s->reset_token[0] = 0;
    assert_int_equal(jr_state_digest_table(r.s), was);
    rig_deinit(&r);
}

static int import_of(struct jr_image *image)
{
    struct rig r;
    struct jr_state_import in = {0};
    rig_init(&r);
    int err = jr_state_import_begin(r.s, &in, image);
    if (err == 0)
        err = jr_state_import_step(r.s, &in, 1000);
    jr_state_import_end(r.s, &in);
    rig_deinit(&r);
    return err;
}

static void test_images_are_not_trusted(void **state)
{
    (void)state;
    struct rig r;
    struct gen_msg g;
    struct jr_state_export x;
    rig_init(&r);
    begin(&r, &g);
    assert_int_equal(jr_state_export_begin(r.s, &x), 0);
    jr_state_export_abort(r.s, &x);
    jr_state_export_abort(r.s, &x); /* again: nothing */
    assert_int_equal(jr_state_export_begin(r.s, &x), 0);
    while (!jr_state_export_step(r.s, &x, 1))
        ;
    struct jr_image *image = jr_state_export_take(r.s, &x);
    assert_int_equal(import_of(image), 0);
    image->entries[1].prefix_hash++;
    assert_int_equal(import_of(image), JR_ECORRUPT);
    image->entries[1].prefix_hash--;
    image->entries[1].rank = 1;
    assert_int_equal(import_of(image), JR_ECORRUPT);
    image->entries[1].rank = 0;
    image->ranks[0].newest_id++;
    assert_int_equal(import_of(image), JR_ECORRUPT);
    image->ranks[0].newest_id--;
    image->rule_version = JR_RULES_VERSION + 1;
    assert_int_equal(import_of(image), JR_EVERSION);
    jr_image_destroy(image);
    rig_deinit(&r);
}

/* ---------------------------------------------------------------- out of memory */

static int oom_script(struct jr_state *s)
{
    struct jr_rng rng;
    struct naive nv = {0};
    struct gen_msg g;
    uint32_t effect;
    int err = 0;
    jr_rng_init(&rng, 4711, 3);
    for (uint64_t seq = 1; seq <= 150 && err == 0; seq++) {
        random_msg(&rng, &nv, &g, seq);
        naive_apply(&nv, &g.m);
        err = jr_state_apply(s, &g.m, &effect);
    }
    return err;
}

static int oom_image(struct jr_mem *mem, struct jr_state *s)
{
    struct jr_state_export x;
    struct jr_state_import in = {0};
    struct jr_members members;
    struct jr_state *copy = NULL;
    int err = jr_state_export_begin(s, &x);
    if (err < 0)
        return err;
    while (!jr_state_export_step(s, &x, 5))
        ;
    struct jr_image *image = jr_state_export_take(s, &x);
    jr_members_init(&members, mem);
    err = jr_state_create(mem, &members, &copy);
    if (err == 0)
        err = jr_state_import_begin(copy, &in, image);
    if (err == 0)
        while ((err = jr_state_import_step(copy, &in, 5)) == JR_EAGAIN)
            ;
    if (copy)
        jr_state_import_end(copy, &in);
    jr_state_destroy(copy);
    jr_members_deinit(&members);
    jr_image_destroy(image);
    return err;
}

static int oom_run(struct jr_mem *mem, void *ctx)
{
    (void)ctx;
    struct jr_members members;
    struct jr_state *s = NULL;
    jr_members_init(&members, mem);
    int err = jr_state_create(mem, &members, &s);
    if (err == 0)
        err = oom_script(s);
    if (err == 0)
        err = oom_image(mem, s);
    jr_state_destroy(s);
    jr_members_deinit(&members);
    return err;
}

static void test_oom(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(oom_run, NULL) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begin_and_overlap),
        cmocka_unit_test(test_begin_of_the_present_incarnation_clears),
        cmocka_unit_test(test_other_incarnations_are_ignored),
        cmocka_unit_test(test_hole_waits_for_begin),
        cmocka_unit_test(test_worker_gone_names_incarnations),
        cmocka_unit_test(test_cleared_is_per_rank_but_for_dynamo),
        cmocka_unit_test(test_dynamo_cleared_spares_ranks_of_a_bridge),
        cmocka_unit_test(test_dynamo_ids_are_not_checked),
        cmocka_unit_test(test_reset_follows_its_epoch),
        cmocka_unit_test(test_reset_makes_rebuilds_equal),
        cmocka_unit_test(test_config_caps_entries),
        cmocka_unit_test(test_newer_rules_stop),
        cmocka_unit_test(test_rows_are_bounded_by_rule),
        cmocka_unit_test(test_digest_points),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_table_digest_sees_every_field),
        cmocka_unit_test(test_images_are_not_trusted),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests_name("core_state", tests, NULL, NULL);
}
