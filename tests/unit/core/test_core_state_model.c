/* SPDX-License-Identifier: Apache-2.0 */
/* Generated logs against a naive state, and through images: of a state that stands still of one that
 * goes on, and with memory running out. */
#include "core/hash.h"
#include "core/state.h"
#include "core_gen.h"
#include "jr_test.h"
#include "state_rig.h"

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

static void import(struct rig *to, struct jr_image *image, struct jr_rng *rng)
{
    struct jr_state_import in = {0};
    if (jr_rng_below(rng, 4) > 0) /* none is needed */
        jr_image_arrange(image);
    assert_int_equal(jr_state_import_begin(to->s, &in, image), 0);
    int err;
    while ((err = jr_state_import_step(to->s, &in, 1 + jr_rng_below(rng, 7))) == JR_EAGAIN)
        ;
    assert_int_equal(err, 0);
    jr_state_import_end(to->s, &in);
    jr_image_destroy(image);
}

/* Out of one state in slices, into a fresh one with member numbers of its own. */
static void through_image(struct rig *from, struct rig *to, struct jr_rng *rng)
{
    struct jr_state_export x;
    assert_int_equal(jr_state_export_begin(from->s, &x), 0);
    while (jr_state_export_step(from->s, &x, 1 + jr_rng_below(rng, 7)) == JR_EAGAIN)
        ;
    import(to, jr_state_export_take(&x), rng);
}

/* An image of a state that goes on. */
struct copying {
    struct jr_state_export x;
    struct jr_digest_point then;
    uint32_t whole, lost;
};

static void copy_some(struct copying *c, struct rig *live, struct jr_rng *rng)
{
    struct rig fresh;
    if (!c->x.image) {
        c->then = *jr_state_newest_point(live->s);
        assert_int_equal(jr_state_export_begin(live->s, &c->x), 0);
    }
    int err = jr_state_export_step(live->s, &c->x, jr_rng_below(rng, 20));
    if (err == JR_EAGAIN)
        return;
    if (err == JR_ECLOSED) { /* by a Reset */
        assert_int_not_equal(live->s->epoch.n, c->x.image->epoch.n);
        jr_image_destroy(jr_state_export_abort(live->s, &c->x));
        c->lost++;
        return;
    }
    assert_int_equal(err, 0);
    rig_init(&fresh);
    import(&fresh, jr_state_export_take(&c->x), rng);
    assert_int_equal(fresh.s->seq, c->then.seq);
    assert_int_equal(jr_state_digest_blocks(fresh.s), c->then.blocks);
    assert_int_equal(jr_state_digest_table(fresh.s), c->then.table);
    jr_index_check(fresh.s->index);
    rig_deinit(&fresh);
    c->whole++;
}

/* What the state is told while an image of it is copied is not in the image. */
static void test_image_of_a_state_that_goes_on(void **state)
{
    (void)state;
    struct copying c = {0};
    struct rig live;
    struct naive nv = {0};
    struct jr_rng rng;
    struct gen_msg g;
    jr_rng_init(&rng, jr_test_seed(), 3);
    rig_init(&live);
    for (uint64_t seq = 1; seq <= 20000; seq++) {
        random_msg(&rng, &nv, &g, seq);
        naive_apply(&nv, &g.m);
        apply(&live, &g);
        copy_some(&c, &live, &rng);
    }
    compare(&live, &nv);
    jr_image_destroy(jr_state_export_abort(live.s, &c.x));
    assert_true(c.whole > 100 && c.lost > 0);
    rig_deinit(&live);
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
    while (jr_state_export_step(s, &x, 5) == JR_EAGAIN)
        ;
    struct jr_image *image = jr_state_export_take(&x);
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
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_image_of_a_state_that_goes_on),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests_name("core_state_model", tests, NULL, NULL);
}
