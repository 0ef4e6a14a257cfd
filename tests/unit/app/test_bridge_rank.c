/* SPDX-License-Identifier: Apache-2.0 */
/* The publishing of a rank on virtual time against a stream that loses, refuses and repeats: the
 * batches that reach the log satisfy the core's rules, and its index ends up equal to the mirror. */
#include "app/bridge/rank.h"
#include "core/state.h"
#include "jr_test.h"
#include "wire/event_codec.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKER 77
#define RANK   3

/* A log with de-duplication by Nats-Msg-Id, and the core state that reads it. */
struct log {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *state;
    struct jr_event_decoder *decoder;
    struct jr_arena arena;
    char ids[4096][96];
    uint64_t seq_of[4096];
    uint32_t n_ids;
    uint32_t effects;
    uint32_t begins;
};

static void log_init(struct log *l)
{
    memset(l, 0, sizeof *l);
    jr_mem_init(&l->mem);
    jr_members_init(&l->members, &l->mem);
    assert_int_equal(jr_state_create(&l->mem, &l->members, &l->state), 0);
    l->decoder = jr_event_decoder_create();
    jr_arena_init(&l->arena, JR_EVENT_ARENA_MAX);
}

static void log_deinit(struct log *l)
{
    jr_event_decoder_destroy(l->decoder);
    jr_arena_deinit(&l->arena);
    jr_state_destroy(l->state);
    jr_members_deinit(&l->members);
    jr_mem_deinit(&l->mem);
}

static uint64_t log_append(struct log *l, const struct jr_bridge_out *out)
{
    for (uint32_t i = 0; i < l->n_ids; i++)
        if (strcmp(l->ids[i], out->msg_id) == 0)
            return l->seq_of[i];
    struct jr_log_msg msg = {.seq = l->state->seq + 1};
    uint32_t effect;
    jr_arena_reset(&l->arena);
    assert_true(out->n <= JR_BATCH_BYTES_MAX);
    bool json = out->incarnation[0] != '\0';
    struct jr_event_ids ids = {0};
    if (json)
        ids =
            jr_event_ids_parse(out->incarnation, out->first_id, out->begin[0] ? out->begin : NULL);
    struct jr_str token = json ? jr_str_of(JR_SUBJECT_DYNAMO, strlen(JR_SUBJECT_DYNAMO))
                               : jr_str_of(JR_SUBJECT_BATCH, strlen(JR_SUBJECT_BATCH));
    assert_int_equal(jr_event_decode(l->decoder, token, out->p, out->n, &ids, &l->arena, &msg), 0);
    assert_int_equal(msg.kind, JR_LOG_KIND_BATCH);
    assert_int_equal(msg.u.batch.worker_id, WORKER);
    assert_int_equal(msg.u.batch.dp_rank, RANK);
    assert_true(msg.u.batch.incarnation != 0 && msg.u.batch.n_events > 0);
    l->begins += msg.u.batch.begin;
    assert_int_equal(jr_state_apply(l->state, &msg, &effect), 0);
    l->effects |= effect;
    assert_true(l->n_ids < 4096);
    strcpy(l->ids[l->n_ids], out->msg_id);
    l->seq_of[l->n_ids++] = msg.seq;
    return msg.seq;
}

/* The index holds exactly the mirror's reachable blocks; a fresh listing of the mirror into another
 * state is what says so. */
static void check_equal(struct log *l, struct jr_bridge_rank *r)
{
    struct jr_state_counters *c = &l->state->counters;
    assert_int_equal(c->dropped_hole, 0);
    assert_int_equal(c->dropped_stale, 0);
    assert_int_equal(l->effects & JR_EFFECT_REANNOUNCE, 0);
    uint64_t digest = jr_state_digest_blocks(l->state);
    static struct log fresh;
    log_init(&fresh);
    struct jr_bridge_rank copy;
    struct jr_bridge_rank_config config = r->config;
    config.seed[0]++;
    jr_bridge_rank_init(&copy, &config);
    copy.mirror = r->mirror; /* lent */
    jr_bridge_rank_begin(&copy, JR_BEGIN_START, false);
    struct jr_bridge_out out;
    while (jr_bridge_rank_next(&copy, 0, &out))
        jr_bridge_rank_acked(&copy, log_append(&fresh, &out));
    r->mirror = copy.mirror;
    memset(&copy.mirror, 0, sizeof copy.mirror);
    assert_int_equal(jr_state_digest_blocks(fresh.state), digest);
    jr_bridge_rank_deinit(&copy);
    log_deinit(&fresh);
}

static void make(struct jr_bridge_rank *r, uint32_t events_max, uint32_t batch_bytes)
{
    struct jr_bridge_rank_config config = {.worker_id = WORKER,
                                           .dp_rank = RANK,
                                           .seed = {1, 2},
                                           .events_max = events_max,
                                           .batch_bytes = batch_bytes};
    jr_bridge_rank_init(r, &config);
}

static void store(struct jr_bridge_rank *r, bool has_parent, uint64_t parent, uint64_t first,
                  uint32_t n)
{
    struct jr_kv_block *blocks = jr_xalloc(n * sizeof *blocks);
    for (uint32_t i = 0; i < n; i++)
        blocks[i] = (struct jr_kv_block){first + i, (first + i) * 31};
    struct jr_kv_event e = {.type = JR_KV_STORED,
                            .has_parent = has_parent,
                            .parent_hash = parent,
                            .blocks = blocks,
                            .n = n};
    jr_bridge_rank_store(r, &e, 0);
    jr_xfree(blocks);
}

static void pump(struct jr_bridge_rank *r, struct log *l)
{
    struct jr_bridge_out out;
    while (jr_bridge_rank_next(r, 0, &out))
        jr_bridge_rank_acked(r, log_append(l, &out));
}

static void one_batch_at_a_time(void **state)
{
    (void)state;
    static struct log l;
    struct jr_bridge_rank r;
    struct jr_bridge_out out, again;
    log_init(&l);
    make(&r, 0, 0);
    assert_false(jr_bridge_rank_next(&r, 0, &out)); /* nothing before the first begin */
    store(&r, false, 0, 1, 4);
    assert_false(jr_bridge_rank_next(&r, 0, &out));
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    assert_true(jr_bridge_rank_beginning(&r));
    assert_true(jr_bridge_rank_next(&r, 100, &out));
    assert_non_null(strstr(out.msg_id, "77-3-"));
    assert_string_equal(strrchr(out.msg_id, '-'), "-1");
    store(&r, true, 4, 5, 1);
    assert_false(jr_bridge_rank_next(&r, 100, &again));
    char *bytes = jr_xmemdup(out.p, out.n);
    jr_bridge_rank_failed(&r, 100);
    assert_false(jr_bridge_rank_next(&r, 149, &again));
    assert_int_equal(jr_bridge_rank_deadline_ms(&r), 150);
    jr_bridge_rank_clear(&r); /* whatever happens meanwhile */
    assert_true(jr_bridge_rank_next(&r, 150, &again));
    assert_true(again.again);
    assert_int_equal(again.n, out.n);
    assert_memory_equal(again.p, bytes, out.n);
    jr_bridge_rank_acked(&r, log_append(&l, &again));
    assert_false(jr_bridge_rank_beginning(&r));
    pump(&r, &l);
    assert_true(jr_bridge_rank_idle(&r));
    assert_int_equal(jr_bridge_rank_deadline_ms(&r), UINT64_MAX);
    check_equal(&l, &r);
    struct jr_rank_lease lease;
    jr_bridge_rank_lease(&r, &lease);
    assert_int_equal(lease.incarnation, r.incarnation);
    assert_int_equal(lease.acked_id, r.next_id - 1);
    assert_int_equal(lease.acked_seq, 2);
    jr_xfree(bytes);
    jr_bridge_rank_deinit(&r);
    log_deinit(&l);
}

static void an_empty_begin_takes_an_id(void **state)
{
    (void)state;
    static struct log l;
    struct jr_bridge_rank r;
    log_init(&l);
    make(&r, 0, 0);
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    pump(&r, &l);
    uint64_t first = r.incarnation;
    store(&r, false, 0, 1, 2);
    pump(&r, &l);
    assert_int_equal(l.n_ids, 2);
    check_equal(&l, &r);
    jr_bridge_rank_begin(&r, JR_BEGIN_REANNOUNCE, false);
    pump(&r, &l);
    assert_true(r.incarnation != first);
    assert_int_equal(l.begins, 2);
    check_equal(&l, &r);
    jr_bridge_rank_begin(&r, JR_BEGIN_GAP, true);
    pump(&r, &l);
    assert_int_equal(r.mirror.n, 0);
    check_equal(&l, &r);
    jr_bridge_rank_deinit(&r);
    log_deinit(&l);
}

static void overflow_begins_anew_in_several_batches(void **state)
{
    (void)state;
    static struct log l;
    struct jr_bridge_rank r;
    struct jr_bridge_out out;
    log_init(&l);
    make(&r, 50, 4096);
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    assert_true(jr_bridge_rank_next(&r, 0, &out)); /* and no answer for long */
    for (uint64_t i = 0; i < 200; i++)
        store(&r, false, 0, 1 + i * 10, 9);
    assert_true(r.begin_due);
    assert_true(jr_bridge_rank_pending(&r) <= 50);
    jr_bridge_rank_acked(&r, log_append(&l, &out));
    pump(&r, &l);
    assert_int_equal(r.counters.begins[JR_BEGIN_OVERFLOW], 1);
    assert_int_equal(l.begins, 2);
    assert_true(l.n_ids > 5);
    assert_int_equal(r.mirror.n, 1800);
    check_equal(&l, &r);
    /* Events larger than a batch are cut. */
    store(&r, false, 0, 1000000, 20000);
    pump(&r, &l);
    check_equal(&l, &r);
    jr_bridge_rank_deinit(&r);
    log_deinit(&l);
}

static void a_stream_that_went_back(void **state)
{
    (void)state;
    static struct log l, other;
    struct jr_bridge_rank r;
    log_init(&l);
    log_init(&other);
    make(&r, 0, 0);
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    for (uint64_t i = 0; i < 5; i++) {
        store(&r, false, 0, 1 + 10 * i, 3);
        pump(&r, &l);
    }
    assert_int_equal(r.acked_seq, 5);
    store(&r, false, 0, 100, 3);
    pump(&r, &other);
    assert_int_equal(r.counters.begins[JR_BEGIN_STREAM], 1);
    other.state->counters.dropped_stale = 0; /* the batch that betrayed it */
    other.effects = 0;
    check_equal(&other, &r);
    jr_bridge_rank_deinit(&r);
    log_deinit(&l);
    log_deinit(&other);
}

/* Answers get lost (the message arrived or not), begins come at any time, time passes. */
static void faults(void **state)
{
    (void)state;
    static struct log l;
    struct jr_rng rng;
    struct jr_bridge_rank r;
    uint64_t now = 0;
    jr_rng_init(&rng, jr_test_seed(), 7);
    log_init(&l);
    make(&r, 30, 600);
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    for (uint32_t step = 0; step < 4000; step++) {
        uint32_t what = jr_rng_below(&rng, 100);
        uint64_t root = 1 + 16 * jr_rng_below(&rng, 40);
        if (what < 30)
            store(&r, false, 0, root, 1 + jr_rng_below(&rng, 10));
        else if (what < 40)
            store(&r, true, root, root + 1, 1 + jr_rng_below(&rng, 10));
        else if (what < 60)
            jr_bridge_rank_remove(&r, &(uint64_t){root + jr_rng_below(&rng, 10)}, 1);
        else if (what == 60)
            jr_bridge_rank_clear(&r);
        else if (what == 61 && jr_rng_below(&rng, 5) == 0)
            jr_bridge_rank_begin(&r, jr_rng_below(&rng, JR_BEGIN_REASONS),
                                 jr_rng_below(&rng, 2) == 0);
        struct jr_bridge_out out;
        now += jr_rng_below(&rng, 60);
        if (!jr_bridge_rank_next(&r, now, &out))
            continue;
        uint32_t fate = jr_rng_below(&rng, 10);
        uint64_t seq = fate < 8 ? log_append(&l, &out) : 0;
        if (fate < 6)
            jr_bridge_rank_acked(&r, seq);
        else
            jr_bridge_rank_failed(&r, now);
        assert_int_equal(l.state->counters.dropped_hole, 0);
        assert_int_equal(l.state->counters.dropped_stale, 0);
    }
    struct jr_bridge_out out;
    while (jr_bridge_rank_next(&r, now += 5000, &out))
        jr_bridge_rank_acked(&r, log_append(&l, &out));
    assert_true(jr_bridge_rank_idle(&r));
    jr_bridge_rank_begin(&r, JR_BEGIN_REANNOUNCE, false); /* forgets what nobody can place */
    pump(&r, &l);
    check_equal(&l, &r);
    jr_bridge_rank_deinit(&r);
    log_deinit(&l);
}

/* A Dynamo router reads the same messages without the headers. */
static void foreign_append(struct log *l, const struct jr_bridge_out *out)
{
    struct jr_log_msg msg = {.seq = l->state->seq + 1};
    uint32_t effect;
    jr_arena_reset(&l->arena);
    assert_int_equal(jr_event_decode(l->decoder,
                                     jr_str_of(JR_SUBJECT_DYNAMO, strlen(JR_SUBJECT_DYNAMO)),
                                     out->p, out->n, NULL, &l->arena, &msg),
                     0);
    assert_int_equal(msg.kind, JR_LOG_KIND_BATCH);
    assert_true(msg.u.batch.dynamo);
    assert_int_equal(jr_state_apply(l->state, &msg, &effect), 0);
}

/* One event a message; with the headers all the rules of batches hold, and a reader that knows
 * none of them holds the same blocks, also after a begin that took some away. */
static void json_says_the_same(void **state)
{
    (void)state;
    static struct log ours, dynamos;
    struct jr_bridge_rank r;
    struct jr_bridge_rank_config config = {
        .worker_id = WORKER, .dp_rank = RANK, .seed = {1, 2}, .json = true};
    struct jr_bridge_out out;
    unsigned messages = 0;
    log_init(&ours);
    log_init(&dynamos);
    jr_bridge_rank_init(&r, &config);
    store(&r, false, 0, 1, 4);
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    for (int round = 0; round < 3; round++) {
        while (jr_bridge_rank_next(&r, 0, &out)) {
            foreign_append(&dynamos, &out);
            jr_bridge_rank_acked(&r, log_append(&ours, &out));
            messages++;
        }
        check_equal(&ours, &r);
        assert_int_equal(jr_state_digest_blocks(dynamos.state), jr_state_digest_blocks(ours.state));
        if (round == 0) {
            store(&r, true, 4, 5, 2);
            jr_bridge_rank_remove(&r, (uint64_t[]){6}, 1);
        } else {
            jr_bridge_rank_remove(&r, (uint64_t[]){5}, 1); /* lost with the begin */
            jr_bridge_rank_begin(&r, JR_BEGIN_GAP, false);
        }
    }
    assert_int_equal(messages, 2 + 2 + 2);
    assert_int_equal(ours.begins, 2);
    assert_int_equal(r.acked_id, 2);
    jr_bridge_rank_deinit(&r);
    log_deinit(&ours);
    log_deinit(&dynamos);
}

static bool says(const struct jr_bridge_out *out, const char *text)
{
    char all[4096];
    (void)snprintf(all, sizeof all, "%.*s", (int)out->n, (const char *)out->p);
    return strstr(all, text) != NULL;
}

/* What gathers while a message is unacknowledged and is one run, or removals in a row, is one event:
 * a round trip is not for one event of the engine. Ids stay without a hole. */
static void json_joins_what_waits(void **state)
{
    (void)state;
    static struct log ours, dynamos;
    struct jr_bridge_rank r;
    struct jr_bridge_rank_config config = {
        .worker_id = WORKER, .dp_rank = RANK, .seed = {3, 4}, .json = true};
    struct jr_bridge_out out;
    log_init(&ours);
    log_init(&dynamos);
    jr_bridge_rank_init(&r, &config);
    jr_bridge_rank_begin(&r, JR_BEGIN_START, false);
    assert_true(jr_bridge_rank_next(&r, 0, &out)); /* the cleared of the begin, under way */
    foreign_append(&dynamos, &out);
    uint64_t seq = log_append(&ours, &out);
    store(&r, false, 0, 1, 4);
    store(&r, true, 4, 5, 2);
    store(&r, true, 6, 7, 1);
    store(&r, true, 2, 8, 1); /* a branch */
    jr_bridge_rank_remove(&r, (uint64_t[]){7}, 1);
    jr_bridge_rank_remove(&r, (uint64_t[]){6, 8}, 2);
    store(&r, true, 5, 9, 1);
    jr_bridge_rank_acked(&r, seq);
    static const char *const want[] = {"\"blocks\":[{\"block_hash\":1,", "\"parent_hash\":2,",
                                       "{\"block_hashes\":[7,6,8]}", "\"parent_hash\":5,"};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(jr_bridge_rank_next(&r, 0, &out));
        assert_true(says(&out, want[i]));
        assert_int_equal(strtoull(out.first_id, NULL, 10), i + 2);
        foreign_append(&dynamos, &out);
        jr_bridge_rank_acked(&r, log_append(&ours, &out));
    }
    assert_false(jr_bridge_rank_next(&r, 0, &out));
    assert_int_equal(r.acked_id, 5);
    assert_int_equal(r.counters.batches, 5);
    check_equal(&ours, &r);
    assert_int_equal(jr_state_digest_blocks(dynamos.state), jr_state_digest_blocks(ours.state));
    jr_bridge_rank_deinit(&r);
    log_deinit(&ours);
    log_deinit(&dynamos);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_batch_at_a_time),
        cmocka_unit_test(an_empty_begin_takes_an_id),
        cmocka_unit_test(overflow_begins_anew_in_several_batches),
        cmocka_unit_test(a_stream_that_went_back),
        cmocka_unit_test(json_says_the_same),
        cmocka_unit_test(json_joins_what_waits),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
