/* SPDX-License-Identifier: Apache-2.0 */
/* Two replicas that consumed the same 100,000 blocks, one live and one from a snapshot (through its
 * bytes) plus the rest of the log: same digests, and a thousand queries give identical scores. */
#include "base/buf.h"
#include "base/rng.h"
#include "core/hash.h"
#include "core/pool_internal.h"
#include "jr_test.h"
#include "wire/snapshot_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS   100000
#define RUN      20 /* blocks of one event */
#define WORKERS  8
#define MESSAGES (BLOCKS / RUN)
#define FREEZE   (MESSAGES * 3 / 5)
#define CREATED  1234567

struct replica {
    struct jr_pool *pool;
    struct jr_actions actions;
    uint64_t now_ms;
};

static void step(struct replica *r, struct jr_event *ev)
{
    ev->now_ms = ++r->now_ms;
    ev->unix_ns = (int64_t)r->now_ms * 1000000;
    assert_int_equal(jr_pool_step(r->pool, ev, &r->actions), 0);
}

static const struct jr_action *acted(const struct replica *r, enum jr_action_type type)
{
    for (uint32_t i = 0; i < r->actions.n; i++)
        if (r->actions.v[i].type == type)
            return &r->actions.v[i];
    fail_msg("no action %d", (int)type);
    return NULL;
}

/* The n-th message: a run of blocks, often continuing one that the worker has, so that workers
 * share prefixes; now and then a removal. Made anew by its number each time. */
struct message {
    struct jr_log_msg m;
    struct jr_kv_event events[2];
    struct jr_kv_block blocks[RUN];
    uint64_t removed[3];
};

static uint64_t block_hash(uint64_t n, uint32_t i)
{
    return n * 1000 + i + 1;
}

static void make(struct message *x, uint64_t seq)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seq, 9);
    memset(x, 0, sizeof *x);
    uint64_t worker = seq % WORKERS, mine = (seq - 1) / WORKERS + 1;
    struct jr_kv_event *e = &x->events[0];
    *e = (struct jr_kv_event){.type = JR_KV_STORED, .blocks = x->blocks, .n = RUN};
    if (mine > 1 && jr_rng_below(&rng, 4)) {
        uint64_t back = 1 + jr_rng_below(&rng, mine - 1 < 5 ? (uint32_t)(mine - 1) : 5);
        e->has_parent = true;
        e->parent_hash = block_hash(seq - back * WORKERS, jr_rng_below(&rng, RUN));
    }
    for (uint32_t i = 0; i < RUN; i++)
        x->blocks[i] =
            (struct jr_kv_block){block_hash(seq, i), 1 + i * 7 + jr_rng_below(&rng, i < 4 ? 2 : 9)};
    x->events[1] = (struct jr_kv_event){.type = JR_KV_REMOVED, .hashes = x->removed, .n = 3};
    for (uint32_t i = 0; i < 3; i++)
        x->removed[i] = block_hash(1 + jr_rng_below(&rng, (uint32_t)seq), jr_rng_below(&rng, RUN));
    x->m = (struct jr_log_msg){.seq = seq,
                               .time_ns = (int64_t)seq + 5,
                               .payload_hash = seq * 31,
                               .kind = JR_LOG_KIND_BATCH};
    x->m.u.batch = (struct jr_kv_batch){.worker_id = worker,
                                        .incarnation = 100 + worker,
                                        .first_id = 2 * mine - 1,
                                        .begin = mine == 1,
                                        .events = x->events,
                                        .n_events = 2};
}

static void consume(struct replica *r, uint64_t from, uint64_t to)
{
    struct message *x = jr_xalloc(sizeof *x);
    for (uint64_t seq = from; seq <= to; seq++) {
        make(x, seq);
        struct jr_event ev = {.type = JR_EV_LOG, .u.log = &x->m};
        step(r, &ev);
    }
    jr_xfree(x);
}

static void start(struct replica *r, const char *id, struct jr_image *image, uint64_t last)
{
    struct jr_pool_config c = {.durable = true,
                               .incarnation = 1,
                               .seed = 1,
                               .snapshot_threshold = UINT64_MAX,
                               .lease_ttl_ms = 1000000,
                               .ready_timeout_ms = 1000000};
    jr_cost_config_init(&c.cost, JR_COST_SECONDS);
    (void)snprintf(c.replica_id, sizeof c.replica_id, "%s", id);
    *r = (struct replica){.now_ms = 10};
    assert_int_equal(jr_pool_create(&c, NULL, &r->pool), 0);
    struct jr_event ev = {.type = JR_EV_NATS};
    ev.u.nats.connected = true;
    step(r, &ev);
    (void)acted(r, JR_ACT_TAKE_LEASE);
    ev = (struct jr_event){.type = JR_EV_LEASE_HELD, .u.incarnation = 1};
    step(r, &ev);
    (void)acted(r, JR_ACT_LOAD_SNAPSHOT);
    ev = (struct jr_event){.type = JR_EV_SNAPSHOT_LOADED};
    ev.u.loaded.err = image ? 0 : JR_ENOTFOUND;
    ev.u.loaded.image = image;
    step(r, &ev);
    struct jr_stream_facts f = {.created_ns = CREATED, .first_seq = 1, .last_seq = last};
    assert_int_equal(acted(r, JR_ACT_STREAM_INFO)->u.seq, image ? image->seq : 0);
    ev = (struct jr_event){.type = JR_EV_STREAM_INFO};
    ev.u.stream.facts = f;
    step(r, &ev);
    while (r->pool->importing || jr_pool_copying(r->pool)) {
        ev = (struct jr_event){.type = JR_EV_SLICE, .u.slice.max = 1000};
        step(r, &ev);
    }
    (void)acted(r, JR_ACT_START_READER);
    ev = (struct jr_event){.type = JR_EV_MEMBERS};
    step(r, &ev);
}

static void stop(struct replica *r)
{
    jr_actions_deinit(&r->actions, r->pool);
    jr_pool_destroy(r->pool);
}

/* Asks the live one for a snapshot; its bytes, decoded again. */
static struct jr_image *snapshot_of(struct replica *r)
{
    struct jr_event ev = {.type = JR_EV_LEADER};
    ev.u.leader.is_leader = true;
    step(r, &ev);
    ev = (struct jr_event){.type = JR_EV_ADMIN_SNAPSHOT};
    step(r, &ev);
    ev = (struct jr_event){.type = JR_EV_TICK};
    step(r, &ev);
    assert_true(jr_pool_copying(r->pool));
    while (r->pool->importing || jr_pool_copying(r->pool)) {
        ev = (struct jr_event){.type = JR_EV_SLICE, .u.slice.max = 1000};
        step(r, &ev);
    }
    struct jr_image *image = acted(r, JR_ACT_WRITE_SNAPSHOT)->u.write.image, *back = NULL;
    struct jr_errmsg e = {0};
    struct jr_buf b;
    jr_buf_init(&b, (size_t)64 << 20);
    (void)snprintf(image->stream, sizeof image->stream, "namespace-ns-component-c-kv-events");
    assert_int_equal(jr_snapshot_encode(image, &b), 0);
    jr_image_destroy(image);
    assert_int_equal(jr_snapshot_decode(b.p, b.n, &back, &e), 0);
    jr_buf_deinit(&b);
    return back;
}

struct scores {
    uint64_t worker[WORKERS];
    uint32_t blocks[WORKERS], n;
};

static void note_score(void *ctx, uint64_t worker_id, uint32_t dp_rank, uint32_t blocks)
{
    struct scores *s = ctx;
    assert_int_equal(dp_rank, 0);
    s->blocks[worker_id] = blocks;
    s->worker[worker_id] = worker_id;
    s->n++;
}

/* Most queries follow a stored run for a while, so that they match at all depths. */
static uint32_t make_query(struct jr_rng *rng, struct message *x, uint64_t *prefix)
{
    uint32_t n = 1 + jr_rng_below(rng, RUN);
    do
        make(x, 1 + jr_rng_below(rng, MESSAGES));
    while (x->events[0].has_parent);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t local = jr_rng_below(rng, 12) ? x->blocks[i].local_hash : 1 + i * 7;
        prefix[i] = i ? jr_hash_chain(prefix[i - 1], local) : local;
    }
    return n;
}

static void test_same_answers(void **state)
{
    (void)state;
    struct replica live, cold;
    start(&live, "live", NULL, 0);
    consume(&live, 1, FREEZE);
    struct jr_image *image = snapshot_of(&live);
    consume(&live, FREEZE + 1, MESSAGES);
    start(&cold, "cold", image, MESSAGES);
    consume(&cold, FREEZE + 1, MESSAGES);
    struct jr_pool_view a, b;
    jr_pool_view(live.pool, &a);
    jr_pool_view(cold.pool, &b);
    assert_true(a.entries > BLOCKS / 2);
    assert_int_equal(a.applied_seq, MESSAGES);
    assert_int_equal(b.applied_seq, MESSAGES);
    assert_int_equal(a.entries, b.entries);
    assert_int_equal(a.digest_blocks, b.digest_blocks);
    assert_int_equal(a.digest_table, b.digest_table);
    struct jr_rng rng;
    struct message *x = jr_xalloc(sizeof *x);
    uint32_t matched = 0;
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (int i = 0; i < 1000; i++) {
        uint64_t prefix[RUN];
        uint32_t n = make_query(&rng, x, prefix);
        struct scores sa, sb;
        memset(&sa, 0, sizeof sa);
        memset(&sb, 0, sizeof sb);
        assert_int_equal(jr_pool_scores(live.pool, prefix, n, note_score, &sa), 0);
        assert_int_equal(jr_pool_scores(cold.pool, prefix, n, note_score, &sb), 0);
        assert_memory_equal(&sa, &sb, sizeof sa);
        matched += sa.n > 0;
    }
    assert_true(matched > 500);
    jr_xfree(x);
    stop(&live);
    stop(&cold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_answers)};
    return cmocka_run_group_tests_name("sim_snapshot_replay", tests, NULL, NULL);
}
