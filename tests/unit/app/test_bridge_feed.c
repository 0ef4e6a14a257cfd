/* SPDX-License-Identifier: Apache-2.0 */
/* The feed: sequences, gaps, restarts, and which events are indexed under which local hash. */
#include "app/bridge/feed.h"
#include "core/hash.h"
#include "jr_test.h"
#include <stdio.h>
#include <string.h>

#define BLOCK 4

struct bench {
    struct jr_bridge_rank rank;
    struct jr_bridge_feed feed;
    struct jr_buf payload;
};

static void up(struct bench *t)
{
    struct jr_bridge_rank_config config = {.worker_id = 1, .seed = {3, 4}};
    jr_bridge_rank_init(&t->rank, &config);
    jr_bridge_feed_init(&t->feed, &t->rank, BLOCK);
    jr_buf_init(&t->payload, 1 << 20);
}

static void down(struct bench *t)
{
    jr_bridge_feed_deinit(&t->feed);
    jr_bridge_rank_deinit(&t->rank);
    jr_buf_deinit(&t->payload);
}

static void encode(struct bench *t, double ts, const struct jr_engine_event *ev)
{
    struct jr_engine_batch batch = {.ts = ts, .has_rank = true, .events = ev, .n_events = 1};
    jr_buf_clear(&t->payload);
    jr_engine_batch_encode(&t->payload, &batch, JR_ENGINE_VLLM_MAP);
    assert_int_equal(t->payload.err, 0);
}

static const uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};

static void encode_store(struct bench *t, double ts, uint64_t hash, const uint64_t *parent,
                         const char *salt, const char *lora)
{
    struct jr_engine_event ev = {.type = JR_ENGINE_STORED,
                                 .medium = JR_MEDIUM_GPU,
                                 .hashes = &hash,
                                 .n_hashes = 1,
                                 .has_parent = parent != NULL,
                                 .parent = parent ? *parent : 0,
                                 .tokens = parent ? tokens + BLOCK : tokens,
                                 .n_tokens = BLOCK,
                                 .block_size = BLOCK,
                                 .has_lora_id = lora[0] != '\0',
                                 .lora_name = jr_str_of(lora, strlen(lora)),
                                 .cache_salt = jr_str_of(salt, strlen(salt))};
    encode(t, ts, &ev);
}

static enum jr_feed_verdict live(struct bench *t, uint64_t seq)
{
    return jr_bridge_feed_live(&t->feed, seq, t->payload.p, t->payload.n);
}

static bool replayed(struct bench *t, uint64_t seq)
{
    return jr_bridge_feed_replayed(&t->feed, seq, t->payload.p, t->payload.n);
}

/* Message i of an engine: one root block. run tells engines apart. */
static void message(struct bench *t, uint64_t i, double run)
{
    encode_store(t, run + (double)i, 1000 * (uint64_t)run + i + 1, NULL, "", "");
}

static void sequences(void **state)
{
    (void)state;
    static struct bench t;
    up(&t);
    for (uint64_t i = 0; i < 5; i++) {
        message(&t, i, 1);
        assert_int_equal(live(&t, i), JR_FEED_APPLIED);
        assert_int_equal(live(&t, i), JR_FEED_REPEATED);
    }
    message(&t, 8, 1);
    assert_int_equal(live(&t, 8), JR_FEED_GAP);
    assert_int_equal(jr_bridge_feed_ask(&t.feed), 4);
    for (uint64_t i = 4; i < 8; i++) {
        message(&t, i, 1);
        assert_false(replayed(&t, i));
    }
    message(&t, 8, 1);
    assert_int_equal(live(&t, 8), JR_FEED_APPLIED);
    assert_int_equal(t.rank.mirror.n, 9);
    assert_false(t.rank.begin_due);
    /* Lost for good: all is forgotten. */
    message(&t, 20, 1);
    assert_int_equal(live(&t, 20), JR_FEED_GAP);
    assert_false(replayed(&t, 20));
    assert_int_equal(t.rank.mirror.n, 1);
    assert_true(t.rank.begin_due);
    assert_int_equal(t.rank.reason, JR_BEGIN_GAP);
    down(&t);
}

static void restarts(void **state)
{
    (void)state;
    static struct bench t;
    up(&t);
    for (uint64_t i = 0; i < 5; i++) {
        message(&t, i, 1);
        assert_int_equal(live(&t, i), JR_FEED_APPLIED);
    }
    /* It goes backwards. */
    message(&t, 0, 2);
    assert_int_equal(live(&t, 0), JR_FEED_APPLIED);
    assert_int_equal(t.rank.mirror.n, 1);
    assert_int_equal(t.rank.reason, JR_BEGIN_RESTART);
    /* Its next life got past what we know before we heard of it: the proof fails. */
    message(&t, 4, 3);
    assert_int_equal(live(&t, 4), JR_FEED_GAP);
    assert_int_equal(jr_bridge_feed_ask(&t.feed), 0);
    message(&t, 0, 3);
    assert_false(replayed(&t, 0)); /* from the very start: nothing is missing */
    assert_int_equal(t.feed.counters.restarts, 2);
    message(&t, 1, 3);
    assert_false(replayed(&t, 1));
    assert_int_equal(t.rank.mirror.n, 2);
    message(&t, 2, 4); /* a life whose message 1 is another: ask again from 0 */
    assert_int_equal(live(&t, 2), JR_FEED_APPLIED);
    assert_int_equal(jr_bridge_feed_ask(&t.feed), 2);
    message(&t, 2, 5);
    assert_true(replayed(&t, 2));
    assert_int_equal(jr_bridge_feed_ask(&t.feed), 0);
    assert_int_equal(t.rank.mirror.n, 0);
    /* A silent new life. */
    message(&t, 0, 5);
    assert_false(replayed(&t, 0));
    jr_bridge_feed_replayed_nothing(&t.feed);
    assert_int_equal(t.rank.mirror.n, 0);
    assert_int_equal(t.feed.next, 0);
    jr_bridge_feed_replayed_nothing(&t.feed); /* nothing known: nothing proven */
    assert_int_equal(t.feed.counters.restarts, 4);
    down(&t);
}

static void a_late_start_is_no_loss(void **state)
{
    (void)state;
    static struct bench t;
    up(&t);
    message(&t, 7, 1);
    assert_int_equal(live(&t, 7), JR_FEED_GAP);
    jr_bridge_feed_jump(&t.feed, 7);
    assert_int_equal(live(&t, 7), JR_FEED_APPLIED);
    assert_false(t.rank.begin_due);
    assert_int_equal(t.rank.mirror.n, 1);
    /* What cannot be read may have been a removal. */
    assert_int_equal(jr_bridge_feed_live(&t.feed, 8, "x", 1), JR_FEED_APPLIED);
    assert_int_equal(t.rank.mirror.n, 0);
    assert_true(t.rank.begin_due);
    assert_int_equal(t.feed.counters.bad, 1);
    down(&t);
}

static uint64_t local_of(struct bench *t, uint64_t hash)
{
    const struct jr_mirror_block *b = jr_mirror_find(&t->rank.mirror, hash);
    assert_non_null(b);
    return b->local;
}

static uint64_t hash_of(const uint32_t *from, const char *salt, const char *lora)
{
    struct jr_hash_salt s = {.lora = jr_str_of(lora, strlen(lora)),
                             .cache_salt = jr_str_of(salt, strlen(salt))};
    uint64_t local;
    assert_int_equal(jr_hash_local(&s, from, BLOCK, BLOCK, &local), 1);
    return local;
}

static void hashes(void **state)
{
    (void)state;
    static struct bench t;
    uint64_t plain = 1, salted = 2, lora = 3;
    up(&t);
    encode_store(&t, 1, plain, NULL, "", "");
    (void)live(&t, 0);
    encode_store(&t, 2, salted, NULL, "tenant", "");
    (void)live(&t, 1);
    encode_store(&t, 3, 20, &salted, "", ""); /* inherits */
    (void)live(&t, 2);
    encode_store(&t, 4, lora, NULL, "", "ad");
    (void)live(&t, 3);
    encode_store(&t, 5, 30, &lora, "", "ad");
    (void)live(&t, 4);
    assert_int_equal(local_of(&t, plain), hash_of(tokens, "", ""));
    assert_int_equal(local_of(&t, salted), hash_of(tokens, "tenant", ""));
    assert_int_equal(local_of(&t, 20), hash_of(tokens + BLOCK, "tenant", ""));
    assert_int_equal(local_of(&t, lora), hash_of(tokens, "", "ad"));
    assert_int_equal(local_of(&t, 30), hash_of(tokens + BLOCK, "", "ad"));
    down(&t);
}

static void what_is_not_indexed(void **state)
{
    (void)state;
    static struct bench t;
    uint64_t hash = 1;
    struct jr_engine_event ev = {.type = JR_ENGINE_STORED,
                                 .medium = JR_MEDIUM_CPU,
                                 .hashes = &hash,
                                 .n_hashes = 1,
                                 .tokens = tokens,
                                 .n_tokens = BLOCK,
                                 .block_size = BLOCK};
    up(&t);
    encode(&t, 1, &ev);
    (void)live(&t, 0);
    ev.medium = JR_MEDIUM_GPU;
    ev.block_size = BLOCK / 2;
    encode(&t, 2, &ev);
    (void)live(&t, 1);
    ev.block_size = BLOCK;
    ev.n_tokens = 0;
    encode(&t, 3, &ev);
    (void)live(&t, 2);
    assert_int_equal(t.rank.mirror.n, 0);
    assert_int_equal(t.feed.counters.ignored, 3);
    ev.n_tokens = BLOCK;
    encode(&t, 4, &ev);
    (void)live(&t, 3);
    assert_int_equal(t.rank.mirror.n, 1);
    /* The copy in host memory goes, the one on the device stays. */
    ev = (struct jr_engine_event){
        .type = JR_ENGINE_REMOVED, .medium = JR_MEDIUM_CPU, .hashes = &hash, .n_hashes = 1};
    encode(&t, 5, &ev);
    (void)live(&t, 4);
    assert_int_equal(t.rank.mirror.n, 1);
    ev.medium = JR_MEDIUM_GPU;
    encode(&t, 6, &ev);
    (void)live(&t, 5);
    assert_int_equal(t.rank.mirror.n, 0);
    down(&t);
}

/* TensorRT-LLM's own push: vLLM's maps, sequences that begin at the wall clock in ns and so go up when
 * it restarts, empty batches as heartbeats, a cleared at its start and end. */
static void tensorrt_llm(void **state)
{
    (void)state;
    static struct bench t;
    static const uint64_t first = UINT64_C(1785000000123456789);
    static const struct jr_engine_event cleared = {.type = JR_ENGINE_CLEARED};
    struct jr_engine_batch beat = {.ts = 3, .has_rank = true};
    up(&t);
    /* Nothing was missed before the first message that is to be had. */
    encode(&t, 1, &cleared);
    assert_int_equal(live(&t, first), JR_FEED_GAP);
    assert_int_equal(jr_bridge_feed_ask(&t.feed), 0);
    assert_false(replayed(&t, first));
    assert_false(t.rank.begin_due);
    assert_int_equal(t.feed.next, first + 1);
    message(&t, 0, 1);
    assert_int_equal(live(&t, first + 1), JR_FEED_APPLIED);
    jr_buf_clear(&t.payload);
    jr_engine_batch_encode(&t.payload, &beat, JR_ENGINE_VLLM_MAP);
    assert_int_equal(live(&t, first + 2), JR_FEED_APPLIED);
    assert_int_equal(t.rank.mirror.n, 1);
    assert_int_equal(t.feed.next, first + 3);
    assert_int_equal(t.feed.counters.jumps, 0);
    /* It restarts: its sequences go up by the time that passed, and its replay has no older ones. */
    encode(&t, 4, &cleared);
    assert_int_equal(live(&t, first + UINT64_C(90000000000)), JR_FEED_GAP);
    assert_int_equal(jr_bridge_feed_ask(&t.feed), first + 2);
    assert_false(replayed(&t, first + UINT64_C(90000000000)));
    assert_int_equal(t.feed.counters.jumps, 1);
    assert_int_equal(t.rank.mirror.n, 0);
    assert_true(t.rank.begin_due);
    message(&t, 7, 2);
    assert_int_equal(live(&t, first + UINT64_C(90000000001)), JR_FEED_APPLIED);
    assert_int_equal(t.rank.mirror.n, 1);
    encode(&t, 5, &cleared); /* its end */
    assert_int_equal(live(&t, first + UINT64_C(90000000002)), JR_FEED_APPLIED);
    assert_int_equal(t.rank.mirror.n, 0);
    down(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences),
        cmocka_unit_test(restarts),
        cmocka_unit_test(a_late_start_is_no_loss),
        cmocka_unit_test(hashes),
        cmocka_unit_test(what_is_not_indexed),
        cmocka_unit_test(tensorrt_llm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
