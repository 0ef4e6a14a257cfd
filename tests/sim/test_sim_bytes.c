/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a pool is a function of the prefix of its log: the whole of it, serialised in one
 * order, is the same bytes in replicas that came to a sequence on different ways.
 *
 * Fleets under generated faults (JR_SIM_SEEDS, 40, from JR_SEED): started cold, from a snapshot and a
 * replay, living, after an Adopt, after a Reset, each with an interleaving of its own. And one log as
 * bytes, decoded by one to four threads, applied with and without other work in between, interrupted
 * by images. */
#include "../unit/core/core_gen.h"
#include "jr_test.h"
#include "sim_world.h"
#include "wire/dynamo_json.h"
#include "wire/event_codec.h"
#include "wire/snapshot_codec.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the state as bytes */

static int compare_ranks(const void *a, const void *b)
{
    const struct jr_image_rank *x = a, *y = b;
    if (x->worker_id != y->worker_id)
        return x->worker_id < y->worker_id ? -1 : 1;
    return (x->dp_rank > y->dp_rank) - (x->dp_rank < y->dp_rank);
}

static int compare_entries(const void *a, const void *b)
{
    const struct jr_image_entry *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return (x->block_hash > y->block_hash) - (x->block_hash < y->block_hash);
}

static void put_ranks(const struct jr_state *s, struct jr_image *image)
{
    image->ranks = jr_xalloc((size_t)(s->n_ranks + 1) * sizeof *image->ranks);
    for (uint32_t m = 0; m < s->ranks.n; m++) {
        const struct jr_state_rank *r = &s->ranks.v[m];
        if (r->present)
            image->ranks[image->n_ranks++] =
                (struct jr_image_rank){.worker_id = s->members->v[m].worker_id,
                                       .dp_rank = s->members->v[m].dp_rank,
                                       .waiting = r->waiting,
                                       .incarnation = r->incarnation,
                                       .newest_id = r->newest_id,
                                       .has_id = r->has_id};
    }
    assert_int_equal(image->n_ranks, s->n_ranks);
    qsort(image->ranks, image->n_ranks, sizeof *image->ranks, compare_ranks);
}

static uint16_t row_of(const struct jr_state *s, const struct jr_image *image, uint32_t member)
{
    struct jr_image_rank key = {.worker_id = s->members->v[member].worker_id,
                                .dp_rank = s->members->v[member].dp_rank};
    const struct jr_image_rank *r =
        bsearch(&key, image->ranks, image->n_ranks, sizeof key, compare_ranks);
    assert_non_null(r); /* no block without a row */
    return (uint16_t)(r - image->ranks);
}

static void put_entries(const struct jr_state *s, struct jr_image *image)
{
    struct jr_index_cursor cursor = {0};
    uint64_t n = jr_index_entries(s->index);
    image->entries = jr_xalloc((size_t)(n + 1) * sizeof *image->entries);
    while (image->n_entries < n) {
        struct jr_image_entry *e = &image->entries[image->n_entries];
        uint32_t got = jr_index_export(s->index, &cursor, e, 1);
        assert_int_equal(got, 1);
        e->rank = row_of(s, image, e->rank);
        e->flags = 0;
        e->place = 0;
        image->n_entries++;
    }
    qsort(image->entries, (size_t)n, sizeof *image->entries, compare_entries);
}

/* All that the log says; made without the product's way to an image, which may be under way. */
static void to_bytes(const struct jr_state *s, struct jr_buf *b)
{
    const struct jr_state_counters *n = &s->counters;
    struct jr_image image = {.format = JR_IMAGE_FORMAT,
                             .rule_version = s->rule_version,
                             .params = s->params,
                             .epoch = s->epoch,
                             .digest_blocks = jr_state_digest_blocks(s),
                             .digest_table = jr_state_digest_table(s),
                             .seq = s->seq,
                             .msg_time_ns = s->msg_time_ns,
                             .msg_hash = s->msg_hash,
                             .dropped_unknown_parent = n->dropped_unknown_parent,
                             .dropped_stale = n->dropped_stale,
                             .dropped_hole = n->dropped_hole,
                             .undecodable = n->undecodable,
                             .refused_cap = n->refused_cap,
                             .skipped = n->skipped};
    memcpy(image.reset_token, s->reset_token, sizeof image.reset_token);
    put_ranks(s, &image);
    put_entries(s, &image);
    assert_int_equal(jr_snapshot_encode(&image, b), 0);
    jr_xfree(image.ranks);
    jr_xfree(image.entries);
}

static bool same_bytes(const struct jr_buf *a, const struct jr_buf *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

static bool same_state(const struct jr_state *a, const struct jr_state *b)
{
    struct jr_buf x, y;
    jr_buf_init(&x, (size_t)1 << 24);
    jr_buf_init(&y, (size_t)1 << 24);
    to_bytes(a, &x);
    to_bytes(b, &y);
    bool same = same_bytes(&x, &y);
    jr_buf_deinit(&x);
    jr_buf_deinit(&y);
    return same;
}

/* ---------------------------------------------------------------- fleets */

#define STEPS 1500

/* What the first replica at a sequence held there, by sequence; of one branch of the stream. */
struct memory {
    struct seen {
        struct jr_buf b;
        uint32_t replica, recoveries;
        bool adopted, reset;
    } * v;
    uint64_t cap, branch;
    uint64_t at[SIM_REPLICAS]; /* where each was last */
    const struct jr_state *of[SIM_REPLICAS];
    uint64_t compared, other_life, adopted, reset; /* how often, and with whom */
};

static void forget(struct memory *m)
{
    for (uint64_t i = 0; i < m->cap; i++)
        if (m->v[i].b.p)
            jr_buf_deinit(&m->v[i].b);
    jr_xfree(m->v);
    m->v = NULL;
    m->cap = 0;
    memset(m->at, 0, sizeof m->at);
}

static struct seen *seen_at(struct memory *m, uint64_t seq)
{
    if (seq >= m->cap) {
        uint64_t cap = 2 * seq + 64;
        m->v = jr_xrealloc(m->v, (size_t)cap * sizeof *m->v);
        memset(m->v + m->cap, 0, (size_t)(cap - m->cap) * sizeof *m->v);
        m->cap = cap;
    }
    return &m->v[seq];
}

static void look(struct sim *sim, struct memory *m, uint32_t i)
{
    const struct sim_replica *r = &sim->replicas[i];
    if (!sim_comparable(sim, r))
        return;
    const struct jr_state *s = r->pool->state;
    if (m->at[i] == s->seq && m->of[i] == s)
        return;
    m->at[i] = s->seq;
    m->of[i] = s;
    struct seen *seen = seen_at(m, s->seq);
    uint32_t recoveries = (uint32_t)r->pool->n.recoveries;
    bool adopted = r->pool->n.adoptions > 0, reset = s->epoch.n > 0;
    if (!seen->b.p) {
        *seen = (struct seen){
            .replica = i, .recoveries = recoveries, .adopted = adopted, .reset = reset};
        jr_buf_init(&seen->b, (size_t)1 << 24);
        to_bytes(s, &seen->b);
        return;
    }
    struct jr_buf now;
    jr_buf_init(&now, (size_t)1 << 24);
    to_bytes(s, &now);
    SIM_CHECK(sim, same_bytes(&now, &seen->b), "replicas %u and %u differ at %llu", i,
              seen->replica, (unsigned long long)s->seq);
    jr_buf_deinit(&now);
    m->compared++;
    m->other_life += seen->recoveries != recoveries;
    m->adopted += seen->adopted != adopted;
    m->reset += reset;
}

static void look_at_all(struct sim *sim, struct memory *m)
{
    if (m->branch != sim->nats.branch) {
        forget(m);
        m->branch = sim->nats.branch;
    }
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        look(sim, m, i);
}

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void run_fleet(uint64_t seed, struct memory *m)
{
    struct sim_config c;
    struct sim_wish wish = {.without = UINT64_C(1)
                                       << SIM_F_UPGRADE}; /* rules of no snapshot here */
    sim_config_swarm(&c, seed, &wish);
    struct sim *sim = sim_create(seed, &c);
    for (int i = 0; i < STEPS; i++) {
        sim_step(sim);
        look_at_all(sim, m);
    }
    sim_heal(sim);
    for (uint32_t i = 1; i < sim->c.replicas; i++)
        SIM_CHECK(sim, same_state(sim->replicas[0].pool->state, sim->replicas[i].pool->state),
                  "replicas 0 and %u differ at the end", i);
    sim_destroy(sim);
    forget(m);
}

static void test_fleets(void **state)
{
    (void)state;
    uint64_t n = env("JR_SIM_SEEDS", 40), first = env("JR_SEED", 1);
    struct memory m = {0};
    for (uint64_t i = 0; i < n; i++)
        run_fleet(first + i, &m);
    (void)fprintf(
        stderr,
        "%llu fleets from %llu: %llu states compared, %llu of other lives, %llu where one had "
        "adopted, %llu after a reset\n",
        (unsigned long long)n, (unsigned long long)first, (unsigned long long)m.compared,
        (unsigned long long)m.other_life, (unsigned long long)m.adopted,
        (unsigned long long)m.reset);
    assert_true(n < 40 ||
                (m.compared > 1000 && m.other_life > 100 && m.adopted > 0 && m.reset > 0));
}

/* ---------------------------------------------------------------- one log, as bytes */

#define MESSAGES 400
#define LOGS     20
#define THREADS  4
#define WORKERS  3
#define RANKS    2
#define HASHES   40

struct raw {
    const char *token;
    struct jr_buf b;
    struct jr_event_ids ids;
    bool skipped;
};

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

static void random_events(struct jr_rng *rng, struct gen_msg *g, uint32_t n)
{
    struct jr_kv_batch *b = &g->m.u.batch;
    for (uint32_t i = 0; i < n; i++) {
        struct jr_kv_event *e = &g->events[b->n_events++];
        uint32_t what = jr_rng_below(rng, 20);
        e->type = what == 0 ? JR_KV_CLEARED : what < 6 ? JR_KV_REMOVED : JR_KV_STORED;
        e->n = e->type == JR_KV_CLEARED ? 0 : 1 + jr_rng_below(rng, GEN_BLOCKS);
        e->has_parent = e->type == JR_KV_STORED && jr_rng_below(rng, 2);
        e->parent_hash = e->has_parent ? jr_rng_below(rng, HASHES) : 0;
        e->blocks = g->blocks[i];
        e->hashes = g->hashes[i];
        for (uint32_t k = 0; k < e->n; k++) {
            g->hashes[i][k] = jr_rng_below(rng, HASHES);
            g->blocks[i][k] =
                (struct jr_kv_block){jr_rng_below(rng, HASHES), 1 + jr_rng_below(rng, 5)};
        }
    }
}

/* A batch that mostly goes on where the rank is; else stale, overlapping, or behind a hole. */
static void random_batch(struct jr_rng *rng, const struct rig *live, struct gen_msg *g)
{
    uint64_t w = 1 + jr_rng_below(rng, WORKERS);
    uint32_t k = jr_rng_below(rng, RANKS), m = jr_members_find(&live->members, w, k);
    const struct jr_state_rank *row = m == JR_MEMBER_NONE ? NULL : jr_state_rank(live->s, m);
    uint64_t first = row && row->has_id ? row->newest_id + 1 : 1;
    uint64_t inc = row ? row->incarnation : 1 + jr_rng_below(rng, 9);
    bool begin = !row || row->waiting || jr_rng_below(rng, 12) == 0;
    if (begin && jr_rng_below(rng, 3))
        inc = 1 + jr_rng_below(rng, 99);
    if (jr_rng_below(rng, 10) == 0)
        first = 1 + jr_rng_below(rng, (uint32_t)first + 3);
    if (jr_rng_below(rng, 15) == 0)
        inc = 0;
    gen_batch(g, 1, w, k, inc, first, begin && inc != 0);
    random_events(rng, g, inc ? 1 + jr_rng_below(rng, GEN_EVENTS) : 1);
}

/* As a batch, or as Dynamo's JSON: with ids in its headers, or as Dynamo's own. */
static void encode_batch(struct jr_rng *rng, const struct gen_msg *g, struct raw *ret)
{
    const struct jr_kv_batch *b = &g->m.u.batch;
    bool json = b->n_events == 1 && (b->incarnation == 0 || jr_rng_below(rng, 2));
    ret->token = json ? "kv-events" : "batch";
    if (!json) {
        assert_int_equal(jr_event_encode_batch(b, &ret->b), 0);
        return;
    }
    assert_int_equal(jr_dynamo_json_encode(b, 0, &ret->b), 0);
    if (b->incarnation)
        ret->ids = (struct jr_event_ids){.has_ids = true,
                                         .begin = b->begin,
                                         .incarnation = b->incarnation,
                                         .first_id = b->first_id};
}

static void random_control(struct jr_rng *rng, const struct rig *live, struct raw *ret)
{
    struct gen_msg g;
    uint32_t what = jr_rng_below(rng, 6);
    struct jr_control *c = gen_control(&g, 1,
                                       what == 0  ? JR_CONTROL_RESET
                                       : what < 3 ? JR_CONTROL_CONFIG
                                                  : JR_CONTROL_WORKER_GONE);
    if (c->type == JR_CONTROL_RESET) {
        c->from = live->s->epoch;
        if (jr_rng_below(rng, 3) == 0)
            c->from = (struct jr_epoch){0, jr_rng_below(rng, 2) ? JR_EPOCH_ANY : 77};
        c->to = (struct jr_epoch){jr_rng_u64(rng), live->s->epoch.n + 1};
        (void)snprintf(c->token, sizeof c->token, "t%u", jr_rng_below(rng, 99));
    } else if (c->type == JR_CONTROL_CONFIG) {
        c->params = (struct jr_pool_params){
            .block_size = 1 + jr_rng_below(rng, 9),
            .hash_scheme = 1,
            .index_entries_max = jr_rng_below(rng, 3) ? 0 : 30 + jr_rng_below(rng, 60)};
    } else {
        c->worker_id = 1 + jr_rng_below(rng, WORKERS);
        for (uint32_t k = 0; k < RANKS; k++) {
            uint32_t m = jr_members_find(&live->members, c->worker_id, k);
            const struct jr_state_rank *row =
                m == JR_MEMBER_NONE ? NULL : jr_state_rank(live->s, m);
            if (row && row->incarnation)
                g.ended[c->n_ended++] = (struct jr_rank_incarnation){k, row->incarnation};
        }
    }
    ret->token = "control";
    assert_int_equal(jr_event_encode_control(c, &ret->b), 0);
}

static void random_message(struct jr_rng *rng, const struct rig *live, struct raw *ret)
{
    uint32_t what = jr_rng_below(rng, 40);
    struct gen_msg g;
    *ret = (struct raw){.token = "batch"};
    jr_buf_init(&ret->b, 1 << 20);
    if (what == 0) {
        jr_buf_puts(&ret->b, "no message");
    } else if (what < 4) {
        random_control(rng, live, ret);
    } else {
        random_batch(rng, live, &g);
        encode_batch(rng, &g, ret);
        ret->skipped = what == 4;
    }
}

/* ---- decoding, by as many threads as asked for ---- */

struct decoded {
    struct jr_log_msg msg;
    struct jr_arena arena;
};

static void decode(struct jr_event_decoder *d, const struct raw *raw, uint64_t seq,
                   struct decoded *ret)
{
    jr_arena_init(&ret->arena, JR_EVENT_ARENA_MAX);
    ret->msg = (struct jr_log_msg){.seq = seq, .time_ns = (int64_t)seq * 3};
    ret->msg.payload_hash = jr_event_payload_hash(raw->b.p, raw->b.n);
    if (raw->skipped)
        ret->msg.kind = JR_LOG_KIND_SKIPPED;
    else
        assert_int_equal(jr_event_decode(d, jr_str_of(raw->token, strlen(raw->token)), raw->b.p,
                                         raw->b.n, &raw->ids, &ret->arena, &ret->msg),
                         0);
}

struct part {
    const struct raw *raw;
    struct decoded *ret;
    uint32_t first, step;
};

static void *decode_part(void *arg)
{
    const struct part *p = arg;
    struct jr_event_decoder *d = jr_event_decoder_create();
    for (uint32_t i = p->first; i < MESSAGES; i += p->step)
        decode(d, &p->raw[i], i + 1, &p->ret[i]);
    jr_event_decoder_destroy(d);
    return NULL;
}

static void decode_all(const struct raw *raw, uint32_t threads, struct decoded *ret)
{
    pthread_t t[THREADS];
    struct part parts[THREADS];
    for (uint32_t i = 0; i < threads; i++) {
        parts[i] = (struct part){raw, ret, i, threads};
        assert_int_equal(pthread_create(&t[i], NULL, decode_part, &parts[i]), 0);
    }
    for (uint32_t i = 0; i < threads; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
}

/* ---- ways through the log ---- */

static void apply(struct rig *r, const struct jr_log_msg *msg)
{
    uint32_t effect;
    assert_int_equal(jr_state_apply(r->s, msg, &effect), 0);
}

/* Ends here, begins again from a snapshot of what it held. */
static void restart(struct rig *r, struct jr_rng *rng)
{
    struct jr_state_export x;
    struct jr_state_import in;
    struct jr_buf b;
    struct jr_image *image;
    int err = jr_state_export_begin(r->s, &x);
    if (err == JR_EAGAIN) /* one that was given up is not put away yet */
        return;
    assert_int_equal(err, 0);
    while (jr_state_export_step(r->s, &x, 1 + jr_rng_below(rng, 50)) == JR_EAGAIN)
        ;
    image = jr_state_export_take(&x);
    jr_image_arrange(image);
    jr_buf_init(&b, (size_t)1 << 24);
    assert_int_equal(jr_snapshot_encode(image, &b), 0);
    jr_image_destroy(image);
    assert_int_equal(jr_snapshot_decode(b.p, b.n, &image, NULL), 0);
    jr_buf_deinit(&b);
    rig_deinit(r);
    rig_init(r);
    assert_int_equal(jr_state_import_begin(r->s, &in, image), 0);
    while ((err = jr_state_import_step(r->s, &in, 1 + jr_rng_below(rng, 50))) == JR_EAGAIN)
        ;
    assert_int_equal(err, 0);
    jr_state_import_end(r->s, &in);
    jr_image_destroy(image);
}

/* What a loop does between two messages, and what must leave no trace. */
static void other_work(struct rig *r, struct jr_state_export *x, struct jr_rng *rng)
{
    uint32_t what = jr_rng_below(rng, 12);
    if (what < 3)
        jr_state_work(r->s, jr_rng_below(rng, 200));
    else if (what == 3 && !x->image)
        (void)!jr_state_export_begin(r->s, x);
    else if (what < 7 && x->image && jr_state_export_step(r->s, x, jr_rng_below(rng, 40)) == 0)
        jr_image_destroy(jr_state_export_take(x));
    else if (what == 7 && x->image)
        jr_image_destroy(jr_state_export_abort(r->s, x));
    else if (what == 8 && !x->image && jr_rng_below(rng, 4) == 0)
        restart(r, rng);
}

/* An index of another history, dropped by a Reset from any epoch: as one that comes back from away. */
static void begin_elsewhere(struct rig *r, struct jr_rng *rng, const struct decoded *d,
                            uint32_t *at)
{
    uint32_t i = 0;
    while (i < MESSAGES &&
           !(d[i].msg.kind == JR_LOG_KIND_CONTROL && d[i].msg.u.control.type == JR_CONTROL_RESET &&
             d[i].msg.u.control.from.n == JR_EPOCH_ANY))
        i++;
    if (i == MESSAGES)
        return;
    struct gen_msg g;
    gen_batch(&g, 1, 50, 0, 5, 1, true);
    random_events(rng, &g, GEN_EVENTS);
    apply(r, &g.m);
    r->s->seq = i; /* as start_empty of a rebuild does */
    *at = i;
}

static void go(struct jr_rng *rng, const struct raw *raw, uint32_t threads, bool elsewhere,
               const struct jr_buf *want)
{
    struct decoded *d = jr_xalloc(MESSAGES * sizeof *d);
    struct rig r;
    struct jr_state_export x = {0};
    struct jr_buf b;
    uint32_t from = 0;
    jr_buf_init(&b, (size_t)1 << 24);
    decode_all(raw, threads, d);
    rig_init(&r);
    if (elsewhere)
        begin_elsewhere(&r, rng, d, &from);
    for (uint32_t i = from; i < MESSAGES; i++) {
        apply(&r, &d[i].msg);
        other_work(&r, &x, rng);
        if (i % 10 == 9) {
            jr_buf_clear(&b);
            to_bytes(r.s, &b);
            if (!same_bytes(&b, &want[i / 10]))
                fail_msg("%u threads, elsewhere %d: another state at %u", threads, elsewhere,
                         i + 1);
        }
    }
    jr_image_destroy(jr_state_export_abort(r.s, &x));
    rig_deinit(&r);
    jr_buf_deinit(&b);
    for (uint32_t i = 0; i < MESSAGES; i++)
        jr_arena_deinit(&d[i].arena);
    jr_xfree(d);
}

/* The log grows with the state that it makes, so that most of it means something. */
static void one_log(struct jr_rng *rng, struct jr_state_counters *total)
{
    struct raw raw[MESSAGES];
    struct jr_buf want[MESSAGES / 10];
    struct jr_event_decoder *decoder = jr_event_decoder_create();
    struct rig live;
    rig_init(&live);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        struct decoded d;
        random_message(rng, &live, &raw[i]);
        decode(decoder, &raw[i], i + 1, &d);
        apply(&live, &d.msg);
        jr_arena_deinit(&d.arena);
        if (i % 10 == 9) {
            jr_buf_init(&want[i / 10], (size_t)1 << 24);
            to_bytes(live.s, &want[i / 10]);
        }
        total->dropped_hole += live.s->counters.dropped_hole;
        total->refused_cap += live.s->counters.refused_cap;
    }
    for (uint32_t threads = 1; threads <= THREADS; threads++) {
        go(rng, raw, threads, false, want);
        go(rng, raw, threads, true, want);
    }
    rig_deinit(&live);
    jr_event_decoder_destroy(decoder);
    for (uint32_t i = 0; i < MESSAGES; i++)
        jr_buf_deinit(&raw[i].b);
    for (uint32_t i = 0; i < MESSAGES / 10; i++)
        jr_buf_deinit(&want[i]);
}

static void test_threads_and_interleavings(void **state)
{
    (void)state;
    struct jr_rng rng;
    struct jr_state_counters total = {0};
    jr_rng_init(&rng, jr_test_seed(), 4);
    for (int i = 0; i < LOGS; i++)
        one_log(&rng, &total);
    assert_true(total.dropped_hole > 0 && total.refused_cap > 0);
}

/* ---------------------------------------------------------------- it can fail */

struct flips {
    struct rig a, b;
};

static void expect_difference(struct flips *f, const char *what)
{
    if (same_state(f->a.s, f->b.s))
        fail_msg("the bytes do not show %s", what);
}

/* Whatever differs by one value is seen. */
static void test_one_flip_shows(void **state)
{
    (void)state;
    struct flips f;
    struct gen_msg g;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 5);
    rig_init(&f.a);
    rig_init(&f.b);
    gen_batch(&g, 1, 1, 0, 7, 1, true);
    gen_store(&g, 0, 5);
    gen_store(&g, 5, 6);
    apply(&f.a, &g.m);
    apply(&f.b, &g.m);
    assert_true(same_state(f.a.s, f.b.s));
    uint32_t m = jr_members_find(&f.b.members, 1, 0);
    struct jr_state_rank *row = &f.b.s->ranks.v[m];
#define FLIP(field, what)                                                                          \
    do {                                                                                           \
        __typeof__(field) was = (field);                                                           \
        (field) = (__typeof__(field))!was;                                                         \
        jr_state_recount(f.b.s);                                                                   \
        expect_difference(&f, what);                                                               \
        (field) = was;                                                                             \
        jr_state_recount(f.b.s);                                                                   \
        assert_true(same_state(f.a.s, f.b.s));                                                     \
    } while (0)
    FLIP(row->waiting, "a waiting rank");
    FLIP(row->incarnation, "an incarnation");
    FLIP(row->newest_id, "a newest id");
    FLIP(row->has_id, "that there is a newest id");
    FLIP(f.b.s->epoch.n, "an epoch");
    FLIP(f.b.s->epoch.random, "an epoch's number");
    FLIP(f.b.s->params.block_size, "a parameter");
    FLIP(f.b.s->params.index_entries_max, "the cap");
    FLIP(f.b.s->rule_version, "the rules");
    FLIP(f.b.s->reset_token[0], "the token");
    FLIP(f.b.s->counters.dropped_unknown_parent, "a counter");
    FLIP(f.b.s->counters.skipped, "another counter");
    FLIP(f.b.s->seq, "the sequence");
    FLIP(f.b.s->msg_hash, "the message");
#undef FLIP
    uint64_t hash = 6, prefix;
    assert_true(jr_index_lookup(f.b.s->index, m, hash, &prefix));
    assert_int_equal(jr_index_remove(f.b.s->index, m, &hash, 1), 1);
    expect_difference(&f, "a missing entry");
    assert_int_equal(jr_index_restore(f.b.s->index, m, hash, prefix ^ 1), 0);
    expect_difference(&f, "an entry at another place");
    assert_int_equal(jr_index_remove(f.b.s->index, m, &hash, 1), 1);
    assert_int_equal(jr_index_restore(f.b.s->index, m, hash, prefix), 0);
    assert_true(same_state(f.a.s, f.b.s));
    rig_deinit(&f.a);
    rig_deinit(&f.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fleets),
        cmocka_unit_test(test_threads_and_interleavings),
        cmocka_unit_test(test_one_flip_shows),
    };
    return cmocka_run_group_tests_name("sim_bytes", tests, NULL, NULL);
}
