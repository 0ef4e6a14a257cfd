/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks on lower media: what a decision sees of them, against sets kept beside the log, while rows
 * store, remove, begin anew and lag behind each other; and what that is worth. */
#include "core/hash.h"
#include "pool_rig.h"

#include <math.h>

#define RANKS 2
#define ROWS  3 /* device, host, any */
#define DEPTH 8
#define STEPS 400
#define SEEDS 20

static struct row {
    bool held[DEPTH];
    uint64_t incarnation, next_id;
} rows[RANKS][ROWS];
static struct rig r;
static uint64_t seq, prefix[DEPTH];

static uint32_t number_of(uint32_t rank, uint32_t row)
{
    return row == 0 ? rank : jr_lower_row(rank, (enum jr_lower)(row - 1));
}

static void log_batch(uint32_t rank, uint32_t row, bool begin, uint64_t store, uint64_t remove)
{
    struct row *w = &rows[rank][row];
    struct gen_msg g;
    gen_batch(&g, ++seq, 1, number_of(rank, row), w->incarnation, w->next_id, begin);
    if (store)
        gen_store(&g, store - 1, store);
    if (remove)
        gen_remove(&g, remove);
    w->next_id += g.m.u.batch.n_events;
    rig_log(&r, &g);
}

static void begin(uint32_t rank, uint32_t row, uint64_t incarnation)
{
    rows[rank][row] = (struct row){.incarnation = incarnation, .next_id = 1};
    log_batch(rank, row, true, 0, 0);
}

static void store(uint32_t rank, uint32_t row, uint32_t block)
{
    struct row *w = &rows[rank][row];
    log_batch(rank, row, false, block + 1, 0);
    w->held[block] = w->held[block] || block == 0 || w->held[block - 1];
}

static void drop(uint32_t rank, uint32_t row, uint32_t block)
{
    log_batch(rank, row, false, 0, block + 1);
    rows[rank][row].held[block] = false;
}

static uint32_t run_of(uint32_t rank, uint32_t row)
{
    uint32_t n = 0;
    if (rows[rank][row].incarnation != rows[rank][0].incarnation)
        return 0;
    while (n < DEPTH && rows[rank][row].held[n])
        n++;
    return n;
}

/* The decision's record of a rank. */
static const struct jr_candidate *ask(uint32_t rank)
{
    static uint64_t id;
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = (struct jr_route){.id = ++id,
                                   .tokens = DEPTH * 16 + 3,
                                   .prefix = prefix,
                                   .n_prefix = DEPTH,
                                   .query_only = true,
                                   .want_record = true};
    rig_step(&r, &ev);
    const struct jr_action *a = rig_find(&r, JR_ACT_DECIDE);
    assert_non_null(a);
    assert_int_equal(a->u.decide.n_record, RANKS);
    const struct jr_candidate *c = jr_pool_record(r.pool, &a->u.decide);
    return c[0].dp_rank == rank ? &c[0] : &c[1];
}

static void check_rank(uint32_t rank, bool counts)
{
    uint32_t device = run_of(rank, 0), host = run_of(rank, 1), any = run_of(rank, 2);
    const struct jr_candidate *c = ask(rank);
    host = host > device ? host : device;
    any = any > host ? any : host;
    assert_int_equal(c->overlap_blocks, device);
    assert_int_equal(c->host_blocks, counts ? host - device : 0);
    assert_int_equal(c->disk_blocks, counts ? any - host : 0);
    double blocks = device + (counts ? 0.75 * (host - device) + 0.25 * (any - host) : 0);
    assert_int_equal(c->uncached_tokens, DEPTH * 16 + 3 - (uint64_t)floor(blocks * 16 + 0.5));
}

static void up(double host_credit, double disk_credit)
{
    struct jr_pool_config c;
    rig_config(&c);
    c.cost.host_credit = host_credit;
    c.cost.disk_credit = disk_credit;
    rig_init_with(&r, &c);
    r.worker.n_ranks = RANKS;
    r.worker.ranks[1].dp_rank = 1;
    seq = 0;
    for (uint32_t i = 0; i < DEPTH; i++)
        prefix[i] = 1001 + i; /* the local hash of block i + 1 */
    jr_hash_prefix(prefix, DEPTH, prefix);
    rig_ready(&r, false);
    for (uint32_t i = 0; i < RANKS * ROWS; i++)
        begin(i % RANKS, i / RANKS, 100 + i % RANKS);
}

static void one_step(struct jr_rng *rng)
{
    uint32_t rank = jr_rng_below(rng, RANKS), row = jr_rng_below(rng, ROWS);
    uint32_t block = jr_rng_below(rng, DEPTH), dice = jr_rng_below(rng, 40);
    if (dice == 0)
        begin(rank, row, 200 + seq); /* counts for nothing until the others follow */
    else if (dice == 1)
        for (row = 0; row < ROWS; row++)
            begin(rank, row, 500000 + seq - row);
    else if (dice < 30)
        store(rank, row, jr_rng_below(rng, block + 1));
    else
        drop(rank, row, block);
}

static void test_against_a_model(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(SEEDS);
    for (uint64_t s = 0; s < seeds; s++) {
        struct jr_rng rng;
        bool counts = s % 4 != 3;
        jr_rng_init(&rng, seed + s, 1);
        up(counts ? 0.75 : 0, counts ? 0.25 : 0);
        for (uint32_t i = 0; i < STEPS; i++) {
            one_step(&rng);
            for (uint32_t rank = 0; rank < RANKS; rank++)
                check_rank(rank, counts);
        }
        assert_int_equal(r.pool->state->counters.dropped_hole, 0);
        rig_deinit(&r);
    }
}

/* Blocks of host memory decide where devices hold the same, and device blocks beat them. */
static void test_who_wins(void **state)
{
    (void)state;
    up(0.75, 0);
    store(0, 0, 0);
    store(1, 0, 0);
    store(1, 1, 0);
    store(1, 1, 1);
    store(1, 1, 2);
    rig_route(&r, 1000, prefix, DEPTH);
    assert_int_equal(rig_find(&r, JR_ACT_DECIDE)->u.decide.dp_rank, 1);
    assert_int_equal(rig_find(&r, JR_ACT_DECIDE)->u.decide.overlap_blocks, 3);
    rig_request(&r, JR_EV_FINISH, 1000, 0);
    store(0, 0, 1);
    store(0, 0, 2);
    rig_route(&r, 1001, prefix, DEPTH);
    assert_int_equal(rig_find(&r, JR_ACT_DECIDE)->u.decide.dp_rank, 0);
    rig_request(&r, JR_EV_FINISH, 1001, 0);
    rig_deinit(&r);
}

/* Rows that nobody gives credit are nobody's: no candidate, no ghost, and they end with the worker. */
static void test_rows_are_no_ranks(void **state)
{
    (void)state;
    struct jr_worker_view v;
    uint32_t pos = 0, n = 0;
    up(0, 0);
    store(0, 1, 0);
    store(0, 2, 0);
    while (jr_pool_next_worker(r.pool, &pos, &v))
        n++;
    assert_int_equal(n, RANKS);
    assert_int_equal(r.pool->state->n_ranks, RANKS * ROWS);
    rig_tick(&r, 600);
    assert_int_equal(r.pool->workers.n, 1);
    struct gen_msg g;
    struct jr_control *c = gen_control(&g, ++seq, JR_CONTROL_WORKER_GONE);
    c->worker_id = 1;
    c->n_ended = 3;
    for (uint32_t i = 0; i < 3; i++)
        g.ended[i] = (struct jr_rank_incarnation){number_of(0, i), 100};
    rig_log(&r, &g);
    assert_int_equal(r.pool->state->n_ranks, ROWS);
    rig_deinit(&r);
}

/* Ticks for a while with the worker's lease renewed; how often its rows were ended, of which the first
 * is row 64, and how often it was asked to begin anew. */
static uint32_t rows_ended(uint32_t ms, uint32_t *ret_asked)
{
    uint32_t ended = 0;
    *ret_asked = 0;
    for (uint32_t at = 0; at < ms; at += 500) {
        r.worker.revision++;
        rig_members(&r, true, false);
        rig_tick(&r, 500);
        for (uint32_t i = 0; i < r.actions.n; i++) {
            const struct jr_action *a = &r.actions.v[i];
            *ret_asked += a->type == JR_ACT_REANNOUNCE && a->u.rank.dp_rank == 0;
            if (a->type != JR_ACT_PUBLISH_CONTROL || a->u.control.type != JR_CONTROL_WORKER_GONE)
                continue;
            assert_int_equal(a->u.control.n_ended, 1);
            assert_int_equal(a->u.control.ended[0].dp_rank, number_of(0, 1));
            assert_int_equal(a->u.control.ended[0].incarnation, rows[0][1].incarnation);
            ended++;
        }
    }
    return ended;
}

/* A begin of an earlier life that comes late takes a row from the life that is there, and a bridge that
 * does without such rows leaves them: they are ended, and the bridge may say them again. */
static void test_stuck_rows(void **state)
{
    (void)state;
    uint32_t asked;
    up(0.75, 0.25);
    rig_leader(&r, true);
    assert_int_equal(rows_ended(6000, &asked), 0);
    begin(0, 1, 77);
    store(0, 1, 0);
    assert_int_equal(rows_ended(2000, &asked), 0); /* so it is while a rank begins anew */
    assert_int_equal(rows_ended(3000, &asked), 1);
    assert_int_equal(asked, 1);
    struct gen_msg g;
    struct jr_control *c = gen_control(&g, ++seq, JR_CONTROL_WORKER_GONE);
    c->worker_id = 1;
    c->n_ended = 1;
    g.ended[0] = (struct jr_rank_incarnation){number_of(0, 1), 77};
    rig_log(&r, &g);
    assert_int_equal(rows_ended(8000, &asked), 0);
    assert_int_equal(asked, 0);
    /* A real rank of that number is none of them. */
    begin(0, 1, 78);
    r.worker.ranks[1].dp_rank = number_of(0, 1);
    assert_int_equal(rows_ended(8000, &asked), 0);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_who_wins),
        cmocka_unit_test(test_rows_are_no_ranks),
        cmocka_unit_test(test_stuck_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
