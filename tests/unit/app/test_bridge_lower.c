/* SPDX-License-Identifier: Apache-2.0 */
/* Lower media through the feed to the log: whatever an engine stores and removes on its device, in host
 * memory and on disk, and however its rows begin anew, the log holds of each row what the engine has
 * there. */
#include "app/bridge/feed.h"
#include "core/state.h"
#include "jr_test.h"
#include "wire/event_codec.h"

#include <string.h>

#define BLOCK  4
#define BLOCKS 40
#define RANK   3
#define STEPS  600
#define SEEDS  30

static const enum jr_engine_medium media[] = {JR_MEDIUM_GPU, JR_MEDIUM_CPU, JR_MEDIUM_DISK};
#define MEDIA (sizeof media / sizeof *media)

static struct bench {
    struct jr_bridge_rank rank;
    struct jr_bridge_lower lower;
    struct jr_bridge_feed feed;
    struct jr_buf payload;
    uint64_t seq;
    /* the engine */
    int parent[BLOCKS];             /* -1: the root */
    uint32_t copies[BLOCKS][MEDIA]; /* more than one on the device only */
    /* the log */
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *state;
    struct jr_event_decoder *decoder;
    struct jr_arena arena;
} t;

static void up(uint32_t events_max, struct jr_rng *rng)
{
    struct jr_bridge_rank_config config = {
        .worker_id = 1, .dp_rank = RANK, .seed = {3, 4}, .events_max = events_max};
    memset(&t, 0, sizeof t);
    for (int i = 0; i < BLOCKS; i++)
        t.parent[i] = i && jr_rng_below(rng, 6) ? (int)jr_rng_below(rng, (uint32_t)i) : -1;
    jr_bridge_rank_init(&t.rank, &config);
    jr_bridge_lower_init(&t.lower, &t.rank);
    jr_bridge_feed_init(&t.feed, &t.rank, BLOCK);
    t.feed.lower = &t.lower;
    jr_buf_init(&t.payload, 1 << 20);
    jr_mem_init(&t.mem);
    jr_members_init(&t.members, &t.mem);
    assert_int_equal(jr_state_create(&t.mem, &t.members, &t.state), 0);
    t.decoder = jr_event_decoder_create();
    jr_arena_init(&t.arena, JR_EVENT_ARENA_MAX);
    jr_bridge_rank_begin(&t.rank, JR_BEGIN_START, false);
}

static void down(void)
{
    jr_bridge_feed_deinit(&t.feed);
    jr_bridge_lower_deinit(&t.lower);
    jr_bridge_rank_deinit(&t.rank);
    jr_buf_deinit(&t.payload);
    jr_event_decoder_destroy(t.decoder);
    jr_arena_deinit(&t.arena);
    jr_state_destroy(t.state);
    jr_members_deinit(&t.members);
    jr_mem_deinit(&t.mem);
}

/* ---- the engine -------------------------------------------------------------- */

static void say(const struct jr_engine_event *ev)
{
    struct jr_engine_batch batch = {
        .ts = 1, .has_rank = true, .dp_rank = RANK, .events = ev, .n_events = 1};
    jr_buf_clear(&t.payload);
    jr_engine_batch_encode(&t.payload, &batch, JR_ENGINE_VLLM_MAP);
    assert_int_equal(jr_bridge_feed_live(&t.feed, t.seq++, t.payload.p, t.payload.n),
                     JR_FEED_APPLIED);
}

static void store(int block, uint32_t m, bool with_tokens)
{
    uint64_t hash = 1000 + (uint64_t)block;
    uint32_t tokens[BLOCK] = {(uint32_t)block, 1, 2, 3};
    say(&(struct jr_engine_event){.type = JR_ENGINE_STORED,
                                  .medium = media[m],
                                  .hashes = &hash,
                                  .n_hashes = 1,
                                  .has_parent = t.parent[block] >= 0,
                                  .parent =
                                      t.parent[block] >= 0 ? 1000 + (uint64_t)t.parent[block] : 0,
                                  .tokens = tokens,
                                  .n_tokens = with_tokens ? BLOCK : 0,
                                  .block_size = BLOCK});
    t.copies[block][m] = m == 0 ? t.copies[block][m] + 1 : 1;
}

static void drop(int block, uint32_t m)
{
    uint64_t hash = 1000 + (uint64_t)block;
    say(&(struct jr_engine_event){
        .type = JR_ENGINE_REMOVED, .medium = media[m], .hashes = &hash, .n_hashes = 1});
    t.copies[block][m] -= t.copies[block][m] > 0;
}

static bool is_held(int block, uint32_t up_to)
{
    for (uint32_t m = 0; m <= up_to; m++)
        if (t.copies[block][m])
            return true;
    return false;
}

static bool is_leaf(int block)
{
    for (int i = 0; i < BLOCKS; i++)
        if (t.parent[i] == block && is_held(i, MEDIA - 1))
            return false;
    return true;
}

/* ---- the log -------------------------------------------------------------------- */

static uint64_t append(const struct jr_bridge_out *out)
{
    struct jr_log_msg msg = {.seq = t.state->seq + 1};
    uint32_t effect;
    jr_arena_reset(&t.arena);
    assert_int_equal(jr_event_decode(t.decoder,
                                     jr_str_of(JR_SUBJECT_BATCH, strlen(JR_SUBJECT_BATCH)), out->p,
                                     out->n, NULL, &t.arena, &msg),
                     0);
    assert_int_equal(msg.kind, JR_LOG_KIND_BATCH);
    assert_int_equal(jr_state_apply(t.state, &msg, &effect), 0);
    assert_int_equal(effect & JR_EFFECT_REANNOUNCE, 0);
    return msg.seq;
}

/* At most so many batches of a rank. */
static void publish(struct jr_bridge_rank *r, uint32_t max)
{
    struct jr_bridge_out out;
    while (max-- > 0 && jr_bridge_rank_next(r, 0, &out))
        jr_bridge_rank_acked(r, append(&out));
}

static void publish_all(void)
{
    for (int i = 0; i < 3; i++) { /* rows wait for their rank */
        publish(&t.rank, UINT32_MAX);
        publish(&t.lower.rows[JR_LOWER_HOST], UINT32_MAX);
        publish(&t.lower.rows[JR_LOWER_ANY], UINT32_MAX);
    }
    assert_true(jr_bridge_rank_idle(&t.rank));
    assert_true(jr_bridge_rank_idle(&t.lower.rows[JR_LOWER_HOST]));
    assert_true(jr_bridge_rank_idle(&t.lower.rows[JR_LOWER_ANY]));
}

static void check_row(uint32_t row)
{
    uint32_t rank = row == 0 ? RANK : jr_lower_row(RANK, (enum jr_lower)(row - 1));
    uint32_t m = jr_members_find(&t.members, 1, rank);
    assert_true(m != JR_MEMBER_NONE);
    assert_true(jr_state_rank(t.state, m)->incarnation == t.rank.incarnation);
    for (int i = 0; i < BLOCKS; i++)
        assert_int_equal(jr_index_lookup(t.state->index, m, 1000 + (uint64_t)i, NULL),
                         is_held(i, row));
}

static void check(void)
{
    publish_all();
    assert_int_equal(t.state->counters.dropped_hole, 0);
    assert_int_equal(t.state->counters.dropped_unknown_parent, 0);
    for (uint32_t row = 0; row < 3; row++)
        check_row(row);
    uint32_t on[MEDIA] = {0};
    for (int i = 0; i < BLOCKS; i++)
        for (uint32_t m = 0; m < MEDIA; m++)
            on[m] += t.copies[i][m] > 0;
    assert_int_equal(t.lower.on_host, on[1]);
    assert_int_equal(t.lower.on_disk, on[2]);
}

/* ---- tests ---------------------------------------------------------------------- */

static void some_publishing(struct jr_rng *rng)
{
    uint32_t which = jr_rng_below(rng, 4);
    struct jr_bridge_rank *r = which == 3 ? &t.rank : which == 2 ? &t.rank : &t.lower.rows[which];
    struct jr_bridge_out out;
    if (jr_rng_below(rng, 4) == 0 && jr_bridge_rank_next(r, 0, &out)) {
        jr_bridge_rank_failed(r, 0);
        r->retry_at_ms = 0;
    } else {
        publish(r, 1 + jr_rng_below(rng, 3));
    }
}

static void one_step(struct jr_rng *rng)
{
    int block = (int)jr_rng_below(rng, BLOCKS);
    uint32_t m = jr_rng_below(rng, MEDIA), dice = jr_rng_below(rng, 100);
    if (dice < 45) {
        if (t.parent[block] < 0 || is_held(t.parent[block], m))
            store(block, m, m == 0 || jr_rng_below(rng, 4) || !is_held(block, m));
    } else if (dice < 75) {
        if (is_leaf(block))
            drop(block, m);
    } else if (dice < 97) {
        some_publishing(rng);
    } else if (dice == 97) {
        jr_bridge_rank_begin(&t.rank, JR_BEGIN_REANNOUNCE, false);
    } else if (dice == 98) {
        say(&(struct jr_engine_event){.type = JR_ENGINE_CLEARED});
        memset(t.copies, 0, sizeof t.copies);
    } else {
        jr_bridge_feed_restart(&t.feed);
        t.seq = 0;
        memset(t.copies, 0, sizeof t.copies);
    }
}

static void test_rows_are_what_is_held(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(SEEDS);
    for (uint64_t s = 0; s < seeds; s++) {
        struct jr_rng rng;
        jr_rng_init(&rng, seed + s, 1);
        up(s % 3 ? 5 : 0, &rng);
        for (uint32_t i = 0; i < STEPS; i++) {
            one_step(&rng);
            if (jr_rng_below(&rng, 50) == 0)
                check();
        }
        check();
        down();
    }
}

/* SGLang's write-through and load-back, and blocks that go down step by step. */
static void test_last_medium(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, 1, 1);
    up(0, &rng);
    t.parent[0] = -1;
    store(0, 0, true);
    store(0, 1, true);
    drop(0, 0);
    check();
    store(0, 0, true);
    drop(0, 1);
    check();
    store(0, 2, false); /* its tokens are known */
    drop(0, 0);
    check();
    store(0, 1, false);
    drop(0, 2);
    check();
    drop(0, 1);
    check();
    store(0, 1, true); /* never on the device */
    check();
    assert_int_equal(t.rank.mirror.n, 0);
    assert_int_equal(t.lower.media.n, 1);
    say(&(struct jr_engine_event){.type = JR_ENGINE_CLEARED});
    memset(t.copies, 0, sizeof t.copies);
    check();
    assert_int_equal(t.lower.media.n, 0);
    down();
}

/* A row in the log before its rank would be ended with the worker's life before, missed by nobody. */
static void test_rows_begin_behind_their_rank(void **state)
{
    (void)state;
    struct jr_rng rng;
    struct jr_bridge_out out;
    jr_rng_init(&rng, 1, 1);
    up(0, &rng);
    t.parent[0] = -1;
    store(0, 0, true);
    for (int life = 0; life < 2; life++) {
        assert_true(jr_bridge_rank_next(&t.rank, 0, &out)); /* its begin is under way */
        for (int i = 0; i < JR_LOWERS; i++)
            assert_false(jr_bridge_rank_next(&t.lower.rows[i], 0, &out));
        jr_bridge_rank_failed(&t.rank, 0);
        t.rank.retry_at_ms = 0;
        for (int i = 0; i < JR_LOWERS; i++)
            assert_false(jr_bridge_rank_next(&t.lower.rows[i], 0, &out));
        publish(&t.rank, 1);
        check();
        jr_bridge_rank_begin(&t.rank, JR_BEGIN_REANNOUNCE, false);
    }
    down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_begin_behind_their_rank),
        cmocka_unit_test(test_rows_are_what_is_held),
        cmocka_unit_test(test_last_medium),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
