/* SPDX-License-Identifier: Apache-2.0 */
/* The apply rules: each by itself, and images that are not to be trusted. */
#include "core/hash.h"
#include "core/state.h"
#include "core_gen.h"
#include "jr_test.h"
#include "state_rig.h"

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
    jr_image_destroy(jr_state_export_abort(r.s, &x));
    jr_image_destroy(jr_state_export_abort(r.s, &x)); /* again: nothing */
    while (jr_state_has_work(r.s))
        jr_state_work(r.s, 1);
    assert_int_equal(jr_state_export_begin(r.s, &x), 0);
    while (jr_state_export_step(r.s, &x, 1) == JR_EAGAIN)
        ;
    struct jr_image *image = jr_state_export_take(&x);
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
        cmocka_unit_test(test_table_digest_sees_every_field),
        cmocka_unit_test(test_images_are_not_trusted),
    };
    return cmocka_run_group_tests_name("core_state", tests, NULL, NULL);
}
