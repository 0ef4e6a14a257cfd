/* SPDX-License-Identifier: Apache-2.0 */
/* A random life of a pool with all that a life has: a snapshot that is loaded, a log with several
 * workers and ranks, requests with pins and lists, a queue, beliefs, output, a peer's load, leases
 * that come and go, a snapshot that is written. Lived twice it is the same to the last action;
 * whichever allocation fails, it goes on, answers every request once, and all loads return to zero. */
#include "core/hash.h"
#include "pool_rig.h"
#include <string.h>

#define WORKERS 3
#define RANKS   2
#define STEPS   160
#define IDS     (STEPS + 1)
#define DEPTH   6
#define SEEDS   30

enum fate { NONE, WAITS, DECIDED, REJECTED, ENDED };

struct life {
    struct rig r;
    struct jr_rng rng;
    uint64_t digest; /* of all actions so far */
    enum fate fate[IDS];
    uint64_t next_id;
    uint64_t seq;                 /* of the log */
    uint64_t next_event[WORKERS]; /* of each worker's events; 0: it has not begun */
    uint64_t held[WORKERS];       /* block hash at the end of its last store; 0: none */
    uint64_t peer_batch, peer_next;
    bool counts_failures; /* memory fails in this life */
    uint64_t refused;     /* steps that said JR_ENOMEM */
    bool log_lost;        /* one of them was of the log */
};

/* ---- what an action says ------------------------------------------------------------------- */

static void mix(struct life *l, uint64_t v)
{
    l->digest = jr_mix64(l->digest + v + UINT64_C(0x9e3779b97f4a7c15));
}

static void mix_text(struct life *l, const char *text)
{
    for (; text && *text; text++)
        mix(l, (unsigned char)*text);
}

static void mix_double(struct life *l, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    mix(l, bits);
}

static void mix_booking(struct life *l, const struct jr_booking *b)
{
    mix(l, b->request);
    mix(l, b->worker_id);
    mix(l, b->dp_rank);
    mix(l, b->prefill_tokens);
    mix(l, b->prompt_tokens);
    mix(l, b->output_blocks);
    mix_double(l, b->prefill_seconds);
    for (uint32_t i = 0; i < b->n_blocks; i++)
        mix(l, b->blocks[i]);
}

static void mix_sync(struct life *l, const struct jr_sync_batch *b)
{
    mix_text(l, b->replica);
    mix(l, b->number);
    mix(l, b->is_base);
    mix(l, b->base_number);
    mix(l, b->part);
    mix(l, b->parts);
    mix(l, b->includes);
    mix_double(l, b->speed_factor);
    mix(l, b->want_base);
    for (uint32_t i = 0; i < b->n_deltas; i++) {
        mix(l, b->deltas[i].type);
        mix_booking(l, &b->deltas[i].b);
    }
}

static void mix_decision(struct life *l, const struct jr_decision *d)
{
    const struct jr_candidate *c = jr_pool_record(l->r.pool, d);
    mix(l, d->id);
    mix(l, d->worker_id);
    mix(l, d->dp_rank);
    mix_text(l, d->url);
    mix(l, d->overlap_blocks);
    mix(l, d->candidates);
    mix_double(l, d->cost);
    mix(l, d->waited);
    mix(l, d->waited_ms);
    for (uint32_t i = 0; i < d->n_record; i++) {
        mix(l, c[i].worker_id);
        mix(l, c[i].indexed_blocks);
        mix_double(l, c[i].cost);
        mix_double(l, c[i].probability);
    }
}

static void mix_action(struct life *l, const struct jr_action *a)
{
    mix(l, a->type);
    if (a->type == JR_ACT_DECIDE) {
        mix_decision(l, &a->u.decide);
    } else if (a->type == JR_ACT_REJECT) {
        mix(l, a->u.reject.id);
        mix(l, (uint64_t)a->u.reject.err);
        mix_text(l, a->u.reject.why);
    } else if (a->type == JR_ACT_PUBLISH_SYNC) {
        mix_sync(l, &a->u.sync);
    } else if (a->type == JR_ACT_WRITE_SNAPSHOT) {
        mix(l, a->u.write.image->digest_blocks);
        mix(l, a->u.write.image->digest_table);
        mix_text(l, a->u.write.object);
    } else if (a->type == JR_ACT_PROBE) {
        mix(l, a->u.probe.worker_id);
    } else if (a->type == JR_ACT_REANNOUNCE) {
        mix(l, a->u.rank.worker_id);
        mix(l, a->u.rank.dp_rank);
    } else if (a->type == JR_ACT_START_READER) {
        mix(l, a->u.start.applied);
    } else if (a->type == JR_ACT_PUBLISH_CONTROL) {
        mix(l, a->u.control.type);
        mix(l, a->u.control.worker_id);
        mix(l, a->u.control.to.random);
    } else if (a->type == JR_ACT_STREAM_INFO || a->type == JR_ACT_PURGE) {
        mix(l, a->u.seq);
    }
}

/* ---- a step -------------------------------------------------------------------------------- */

static void answered(struct life *l, uint64_t id, enum fate fate)
{
    assert_true(id < IDS && l->fate[id] == WAITS);
    l->fate[id] = fate;
}

static void see(struct life *l)
{
    for (uint32_t i = 0; i < l->r.actions.n; i++) {
        const struct jr_action *a = &l->r.actions.v[i];
        mix_action(l, a);
        if (a->type == JR_ACT_DECIDE)
            answered(l, a->u.decide.id, DECIDED);
        else if (a->type == JR_ACT_REJECT)
            answered(l, a->u.reject.id, REJECTED);
        else if (a->type == JR_ACT_WRITE_SNAPSHOT)
            jr_image_destroy(a->u.write.image);
    }
}

static void check(const struct life *l)
{
    struct jr_pool *p = l->r.pool;
    uint32_t waiting = 0;
    for (uint64_t id = 1; id < l->next_id; id++)
        waiting += l->fate[id] == WAITS;
    assert_int_equal(waiting, p->queue.n); /* all others were answered */
    jr_active_check(p->active);
    jr_queue_check(&p->queue);
    jr_index_check(p->state->index);
    if (p->approx)
        jr_approx_check(p->approx);
}

static void step(struct life *l, struct jr_event *ev)
{
    jr_actions_deinit(&l->r.actions, l->r.pool); /* actions need memory in every step */
    rig_step(&l->r, ev);
    if (l->r.err == JR_EAGAIN)
        return;
    if (ev->type == JR_EV_ROUTE && l->r.err == 0)
        l->fate[ev->u.route.id] = WAITS; /* unless it is answered */
    if (ev->type == JR_EV_ROUTE && l->r.err < 0)
        l->fate[ev->u.route.id] = REJECTED; /* the driver says so */
    see(l); /* what a step that ran out of memory had said already is said */
    if (l->r.err < 0) {
        assert_true(l->counts_failures);
        assert_int_equal(l->r.err, JR_ENOMEM);
        l->refused++;
        l->log_lost = l->log_lost || ev->type == JR_EV_LOG;
    }
    check(l);
}

static void send(struct life *l, enum jr_event_type type)
{
    struct jr_event ev = {.type = type};
    step(l, &ev);
}

static void tick(struct life *l, uint64_t ms)
{
    l->r.now_ms += ms;
    send(l, JR_EV_TICK);
}

/* ---- what happens -------------------------------------------------------------------------- */

static uint32_t below(struct life *l, uint32_t n)
{
    return jr_rng_below(&l->rng, n);
}

static void members(struct life *l, uint32_t missing)
{
    struct jr_worker_lease w[WORKERS];
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    uint32_t n = 0;
    for (uint32_t i = 0; i < WORKERS; i++) {
        if (i == missing)
            continue;
        w[n] = (struct jr_worker_lease){.worker_id = i + 1,
                                        .url = "http://w",
                                        .block_size = 16,
                                        .max_batched_tokens = 64,
                                        .total_kv_blocks = 100,
                                        .n_ranks = RANKS};
        for (uint32_t k = 0; k < RANKS; k++)
            w[n].ranks[k] = (struct jr_rank_lease){.dp_rank = k, .incarnation = k ? 0 : 11};
        n++;
    }
    ev.u.members.workers = w;
    ev.u.members.n_workers = n;
    ev.u.members.replicas = l->r.replicas;
    ev.u.members.n_replicas = 2;
    step(l, &ev);
}

static void log_message(struct life *l)
{
    struct gen_msg g;
    uint32_t w = below(l, WORKERS);
    bool begin = l->next_event[w] == 0;
    uint64_t hash = 1 + below(l, 12);
    gen_batch(&g, l->seq + 1, w + 1, 0, 11, l->next_event[w], begin);
    if (!begin && below(l, 4) == 0)
        gen_remove(&g, hash);
    else
        gen_store(&g, below(l, 2) ? l->held[w] : 0, hash);
    if (below(l, 20) == 0)
        gen_clear(&g);
    struct jr_event ev = {.type = JR_EV_LOG, .u.log = &g.m};
    step(l, &ev);
    if (l->r.err == JR_EAGAIN)
        return;
    l->seq++;
    l->next_event[w] += g.m.u.batch.n_events;
    l->held[w] = hash;
}

static void make_prompt(struct life *l, uint64_t *prefix, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        prefix[i] = 1001 + below(l, 3);
    jr_hash_prefix(prefix, n, prefix);
}

static void arrive(struct life *l)
{
    uint64_t prefix[DEPTH], list[1] = {1 + below(l, WORKERS)};
    uint32_t n = below(l, DEPTH + 1), kind = below(l, 8);
    make_prompt(l, prefix, n);
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = (struct jr_route){
        .id = l->next_id++,
        .tokens = n * 16 + below(l, 16),
        .prefix = prefix,
        .n_prefix = n,
        .has_pin = kind == 0,
        .pin_worker = kind == 0 ? list[0] : 0,
        .exclude = list,
        .n_exclude = kind == 1,
        .model = kind == 2 ? jr_pool_model_id(below(l, 2) ? "m" : "other") : 0,
        .expected_output_tokens = kind == 3 ? 64 : 0,
        .strict_priority = kind == 4,
        .wait_max_ms = kind == 5 ? 300 : 0,
        .want_record = kind == 6,
    };
    step(l, &ev);
}

static void request(struct life *l, enum jr_event_type type, uint64_t id, uint32_t tokens)
{
    struct jr_event ev = {.type = type};
    ev.u.request.id = id;
    ev.u.request.output_tokens = tokens;
    if (type == JR_EV_FINISH)
        l->fate[id] = ENDED;
    step(l, &ev);
}

static void peer_says(struct life *l)
{
    uint64_t prefix[DEPTH];
    uint32_t n = below(l, DEPTH + 1);
    make_prompt(l, prefix, n);
    struct jr_delta d[2] = {{.type = JR_DELTA_ADMIT,
                             .b = {.request = ++l->peer_next,
                                   .worker_id = 1 + below(l, WORKERS),
                                   .prefill_tokens = below(l, 60),
                                   .prefill_seconds = 0.001,
                                   .n_blocks = n,
                                   .blocks = prefix}},
                            {.type = JR_DELTA_DONE, .b = {.request = l->peer_next - 1}}};
    struct jr_sync_batch b = {
        .replica = "peer", .incarnation = 7, .number = ++l->peer_batch, .deltas = d, .n_deltas = 2};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    step(l, &ev);
}

static void something(struct life *l)
{
    uint32_t what = below(l, 100);
    uint64_t id = below(l, (uint32_t)l->next_id);
    l->r.now_ms += below(l, 20);
    if (what < 30)
        arrive(l);
    else if (what < 45)
        log_message(l);
    else if (what < 58)
        request(l, JR_EV_FIRST_TOKEN, id, 0);
    else if (what < 64)
        request(l, JR_EV_OUTPUT, id, below(l, 100));
    else if (what < 80)
        request(l, JR_EV_FINISH, id, 0);
    else if (what < 86)
        peer_says(l);
    else if (what < 90)
        members(l, below(l, WORKERS + 1));
    else
        tick(l, 100);
}

/* ---- a life -------------------------------------------------------------------------------- */

/* Two entries of worker 1. */
static struct jr_image *old_image(void)
{
    struct rig r;
    struct gen_msg g;
    struct jr_state_export x;
    rig_init(&r);
    rig_ready(&r, false);
    gen_batch(&g, 1, 1, 0, 11, 0, true);
    gen_store(&g, 0, 5);
    gen_store(&g, 5, 6);
    rig_log(&r, &g);
    assert_int_equal(jr_state_export_begin(r.pool->state, &x), 0);
    while (jr_state_export_step(r.pool->state, &x, 10) == JR_EAGAIN)
        continue;
    struct jr_image *image = jr_state_export_take(&x);
    image->stream_created_ns = RIG_CREATED;
    rig_deinit(&r);
    return image;
}

static void slices(struct life *l)
{
    for (int i = 0; i < 50 && jr_pool_has_slices(l->r.pool); i++) {
        struct jr_event ev = {.type = JR_EV_SLICE, .u.slice.max = 1};
        step(l, &ev);
    }
}

static void begin(struct life *l)
{
    struct jr_event ev = {.type = JR_EV_NATS, .u.nats.connected = true};
    step(l, &ev);
    send(l, JR_EV_LEASE_HELD);
    ev = (struct jr_event){.type = JR_EV_SNAPSHOT_LOADED, .u.loaded.image = old_image()};
    (void)snprintf(ev.u.loaded.ref.object, sizeof ev.u.loaded.ref.object, "snapshot-a");
    step(l, &ev);
    ev = (struct jr_event){.type = JR_EV_STREAM_INFO};
    ev.u.stream.facts =
        (struct jr_stream_facts){.created_ns = RIG_CREATED, .first_seq = 1, .last_seq = 1};
    step(l, &ev);
    slices(l);
    l->seq = 1;
    l->next_event[0] = 2;
    l->held[0] = 6;
    send(l, JR_EV_SYNC_OPENED);
    members(l, WORKERS);
    struct jr_sync_batch b = {
        .replica = "peer", .incarnation = 7, .is_base = true, .base_number = 1, .parts = 1};
    ev = (struct jr_event){.type = JR_EV_SYNC, .u.sync = &b};
    step(l, &ev);
    tick(l, 100);
}

static void write_snapshot(struct life *l)
{
    struct jr_event ev = {.type = JR_EV_LEADER, .u.leader.is_leader = true};
    step(l, &ev);
    send(l, JR_EV_ADMIN_SNAPSHOT);
    tick(l, 100);
    slices(l);
    ev = (struct jr_event){.type = JR_EV_SNAPSHOT_WRITTEN, .u.written.ref = l->r.pool->snap_ref};
    step(l, &ev);
    tick(l, 11000);
    ev = (struct jr_event){.type = JR_EV_SNAPSHOT_RECORDED};
    step(l, &ev);
}

/* With memory again: nothing waits, nobody computes. */
static void finish_all(struct life *l)
{
    struct jr_worker_view w;
    l->r.pool->mem.fail_after = -1;
    for (uint64_t id = 0; id < l->next_id; id++)
        request(l, JR_EV_FINISH, id, 0);
    struct jr_sync_batch b = {.replica = "peer",
                              .incarnation = 7,
                              .number = ++l->peer_batch,
                              .is_base = true,
                              .base_number = 2,
                              .includes = l->peer_batch,
                              .parts = 1};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    step(l, &ev);
    members(l, WORKERS);
    tick(l, 100);
    assert_int_equal(jr_active_requests(l->r.pool->active), 0);
    assert_int_equal(l->r.pool->queue.n, 0);
    assert_int_equal(l->r.pool->waiting_tokens, 0);
    for (uint32_t pos = 0; jr_pool_next_worker(l->r.pool, &pos, &w);)
        assert_true(w.active_requests == 0 && w.active_blocks == 0 &&
                    w.active_prefill_tokens == 0 && w.backlog_seconds == 0.0);
}

static void live(struct life *l, uint64_t seed, int64_t fail_after)
{
    struct jr_pool_config c;
    memset(l, 0, sizeof *l);
    jr_rng_init(&l->rng, seed, 1);
    rig_config(&c);
    c.has_queue_threshold = true;
    c.queue_threshold = 0.5;
    c.queue_policy = (enum jr_queue_policy)below(l, 3);
    c.queue_max = 10;
    c.track_output_blocks = true;
    c.assume_kv_reuse = below(l, 4) > 0;
    c.tie = (enum jr_tie)below(l, 3);
    c.temperature = below(l, 4) ? 0 : 0.5;
    c.approx = (struct jr_approx_config){.ttl_ms = 500, .entries_max = 20, .prune_ratio = 0.8};
    rig_init_with(&l->r, &c);
    l->counts_failures = fail_after >= 0;
    l->r.pool->mem.fail_after = fail_after;
    l->next_id = 1;
    begin(l);
    for (uint32_t i = 0; i < STEPS; i++) {
        something(l);
        if (i == STEPS / 2)
            write_snapshot(l);
    }
}

static void test_twice_the_same(void **state)
{
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(SEEDS), decided = 0;
    struct life *a = jr_xalloc(2 * sizeof *a), *b = a + 1;
    (void)state;
    for (uint64_t i = 0; i < seeds; i++) {
        live(a, seed + i, -1);
        live(b, seed + i, -1);
        finish_all(a);
        finish_all(b);
        assert_true(a->digest == b->digest);
        for (uint64_t id = 1; id < a->next_id; id++)
            assert_int_equal(a->fate[id], b->fate[id]);
        struct jr_pool_view v;
        jr_pool_view(a->r.pool, &v);
        assert_true(v.ready);
        decided += v.counters.decisions;
        rig_deinit(&a->r);
        rig_deinit(&b->r);
    }
    assert_true(decided > seeds * 10);
    jr_xfree(a);
}

/* An error, or the loss of what may be lost; never a crash, a leak, a request without an answer, or
 * an index that is not the log's. */
static void test_memory_fails_once(void **state)
{
    uint64_t seed = jr_test_seed(), refused = 0;
    struct life *l = jr_xalloc(2 * sizeof *l), *whole = l + 1;
    bool failed = true;
    (void)state;
    live(whole, seed, -1);
    for (int64_t n = 0; failed; n++) {
        live(l, seed, n);
        failed = l->r.pool->mem.fail_after < 0;
        refused += l->refused;
        if (!l->log_lost && l->r.pool->state->seq == whole->r.pool->state->seq)
            assert_true(jr_index_digest(l->r.pool->state->index) ==
                        jr_index_digest(whole->r.pool->state->index));
        finish_all(l);
        rig_deinit(&l->r); /* gives all back, or asserts */
        assert_true(!failed || n < 100000);
    }
    assert_true(refused > 20);
    finish_all(whole);
    rig_deinit(&whole->r);
    jr_xfree(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twice_the_same),
        cmocka_unit_test(test_memory_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
