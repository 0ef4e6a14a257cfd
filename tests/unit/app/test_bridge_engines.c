/* SPDX-License-Identifier: Apache-2.0 */
/* Whole captures of running engines through the feed, as a bridge takes them: every block that was
 * stored is held under the local hash that the reference library gives its tokens, or, where a salt or
 * an adapter sets it apart, under the one of the formula; and at the end exactly those are held that
 * the engine's own words leave. */
#include "app/bridge/feed.h"
#include "jr_test.h"
#include "jr_test_engines.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>

#define HELD_MAX 65536

static const struct capture {
    const char *name;
    uint32_t dp_rank;
    uint32_t block_size;
    bool salts; /* some prompts have one that the events tell of */
} captures[] = {
    {"vllm-0.15.1", 0, 32, false},
    {"vllm-0.32.0", 0, 32, true},
    {"vllm-0.32.0-bytes", 0, 32, true},
    {"vllm-0.32.0-dp0", 0, 32, true},
    {"vllm-0.32.0-dp1", 1, 32, true},
    {"vllm-0.32.0-identical", 0, 32, true},
    {"sglang-radix-0.5.9", 0, 16, false},
    {"sglang-radix-0.5.23", 0, 16, true},
    {"sglang-radix-0.5.23-eagle", 0, 16, true},
    {"sglang-radix-0.5.23-dynamo", 0, 16, true},
};
#define N_CAPTURES (sizeof captures / sizeof *captures)

/* One capture on its way. Salts of stored blocks, newest last: descendants inherit them. */
static struct run {
    struct jr_bridge_rank rank;
    struct jr_bridge_feed feed;
    struct jr_arena arena;
    struct jr_engine_batch batch; /* of the newest message */
    uint64_t hash[HELD_MAX];
    char salt[HELD_MAX][24];
    uint32_t n_stored;
    uint32_t vectors, by_formula;
} r;
static uint8_t payload[1 << 20];

static const char *salt_of(uint64_t hash)
{
    for (uint32_t i = r.n_stored; i-- > 0;) {
        if (r.hash[i] == hash)
            return r.salt[i];
    }
    return "";
}

static void remember_salt(const struct jr_engine_event *ev, const char *salt)
{
    for (uint32_t i = 0; i < ev->n_hashes; i++) {
        assert_true(r.n_stored < HELD_MAX);
        r.hash[r.n_stored] = ev->hashes[i];
        (void)snprintf(r.salt[r.n_stored++], sizeof *r.salt, "%s", salt);
    }
}

/* 1337, and what an adapter's name and a salt add to it. */
static uint64_t seed_of(struct jr_str lora, const char *salt)
{
    uint64_t seed = 1337;
    if (lora.n > 0)
        seed += XXH3_64bits(lora.p, lora.n);
    if (salt[0] != '\0')
        seed += XXH3_64bits_withSeed(salt, strlen(salt), 1);
    return seed;
}

/* Does a later event of the same message take the block away again? */
static bool leaves_at_once(uint32_t event, uint64_t hash)
{
    for (uint32_t i = event + 1; i < r.batch.n_events; i++) {
        const struct jr_engine_event *ev = &r.batch.events[i];
        if (ev->type == JR_ENGINE_CLEARED)
            return true;
        for (uint32_t k = 0; ev->type == JR_ENGINE_REMOVED && k < ev->n_hashes; k++) {
            if (ev->hashes[k] == hash)
                return true;
        }
    }
    return false;
}

/* words: "local:prefix local:prefix …" of the event's blocks. */
static void check_vector(uint32_t event, const char *words)
{
    const struct jr_engine_event *ev = &r.batch.events[event];
    char salt[24];
    (void)snprintf(salt, sizeof salt, "%s", ev->has_parent ? salt_of(ev->parent) : "");
    if (ev->cache_salt.n > 0)
        (void)snprintf(salt, sizeof salt, "%.*s", (int)ev->cache_salt.n, ev->cache_salt.p);
    uint64_t seed = seed_of(ev->lora_name, salt);
    remember_salt(ev, salt);
    for (uint32_t i = 0; i < ev->n_hashes; i++, words = strchr(words, ' ') + 1) {
        const struct jr_mirror_block *b = jr_mirror_find(&r.rank.mirror, ev->hashes[i]);
        uint64_t want = strtoull(words, NULL, 16);
        if (!b) {
            assert_true(leaves_at_once(event, ev->hashes[i]));
            continue;
        }
        if (seed != 1337) {
            want = XXH3_64bits_withSeed(ev->tokens + (size_t)i * ev->block_size,
                                        ev->block_size * sizeof *ev->tokens, seed);
            r.by_formula++;
        }
        assert_true(b->local == want);
        r.vectors++;
    }
}

static void take_message(const char *line)
{
    struct jr_engines_message m = jr_engines_message(line, payload);
    jr_arena_reset(&r.arena);
    assert_int_equal(jr_engine_batch_decode(payload, m.n, &r.arena, &r.batch, NULL), 0);
    assert_int_equal(jr_bridge_feed_live(&r.feed, m.seq, payload, m.n), JR_FEED_APPLIED);
}

static void play(const struct capture *c, bool plain_set)
{
    struct jr_bridge_rank_config config = {.worker_id = 1, .dp_rank = c->dp_rank, .seed = {3, 4}};
    struct jr_engines_file f = jr_engines_open(c->name);
    uint32_t event = 0, final = UINT32_MAX;
    r.n_stored = r.vectors = r.by_formula = 0;
    jr_arena_init(&r.arena, 64 << 20);
    jr_bridge_rank_init(&r.rank, &config);
    r.rank.mirror.plain_set = plain_set;
    jr_bridge_feed_init(&r.feed, &r.rank, c->block_size);
    for (char *line; (line = jr_engines_line(&f)) != NULL;) {
        if (*line == 'B') {
            take_message(line);
            event = 0;
        } else if (*line == 'E') {
            event++;
        } else if (*line == 'V') {
            check_vector(event - 1, line + 2);
        } else {
            final = (uint32_t)strtoul(line + 2, NULL, 10);
        }
    }
    printf("%s%s: %u hashes, %u of them by the formula; %u held, %u expected\n", c->name,
           plain_set ? ", plain" : "", r.vectors, r.by_formula, r.rank.mirror.n, final);
    assert_true(r.vectors > 0);
    assert_int_equal(r.by_formula > 0, c->salts);
    assert_int_equal(r.rank.mirror.n, final);
    assert_int_equal(r.feed.counters.gaps + r.feed.counters.bad, 0);
    jr_bridge_feed_deinit(&r.feed);
    jr_bridge_rank_deinit(&r.rank);
    jr_arena_deinit(&r.arena);
    jr_engines_close(&f);
}

static void hashes_are_the_reference_s(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CAPTURES; i++) {
        play(&captures[i], true);
        play(&captures[i], false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_the_reference_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
