/* SPDX-License-Identifier: Apache-2.0 */
/* The mock engine on virtual time: its cache against a naive replica fed only by its events, its
 * scheduler against vLLM's rules, its clock against the formula. */
#include "app/mocker/engine.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "core/hash.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define MS INT64_C(1000000)

/* One request as the test follows it. */
struct slot {
    struct jr_engine_seq *seq; /* NULL once it is over */
    uint32_t n_outputs, cached;
};

struct run {
    struct jr_engine *e;
    int64_t now;
    uint32_t n_outputs, n_finished, n_removed, n_stored, n_events;
    struct slot slots[8];
    uint64_t stored[64], removed[64]; /* the first of them */
    struct jr_mem mem;
    struct jr_map replica; /* hash -> copies, from events alone */
};

static void run_init(struct run *r, const struct jr_engine_config *config)
{
    memset(r, 0, sizeof *r);
    r->e = jr_engine_create(config);
    jr_mem_init(&r->mem);
    jr_map_init(&r->replica, &r->mem);
}

static void run_deinit(struct run *r)
{
    jr_engine_destroy(r->e);
    jr_map_deinit(&r->replica);
    jr_mem_deinit(&r->mem);
}

static struct jr_engine_config small(uint32_t blocks)
{
    struct jr_engine_config c;
    jr_engine_config_init(&c);
    c.block_size = 4;
    c.num_gpu_blocks = blocks + 1;
    return c;
}

static uint64_t copies(const struct run *r, uint64_t hash)
{
    uint64_t n = 0;
    return jr_map_get(&r->replica, hash, &n) ? n : 0;
}

static void apply_stored(struct run *r, uint64_t hash)
{
    if (r->n_stored < 64)
        r->stored[r->n_stored] = hash;
    r->n_stored++;
    assert_int_equal(jr_map_put(&r->replica, hash, copies(r, hash) + 1), 0);
}

static void apply_removed(struct run *r, uint64_t hash)
{
    uint64_t n = copies(r, hash);
    assert_true(n > 0);
    if (r->n_removed < 64)
        r->removed[r->n_removed] = hash;
    r->n_removed++;
    if (n == 1)
        jr_map_del(&r->replica, hash, NULL);
    else
        assert_int_equal(jr_map_put(&r->replica, hash, n - 1), 0);
}

static void apply(struct run *r, const struct jr_cache_log *log)
{
    for (uint32_t i = 0; i < log->n_events; i++, r->n_events++) {
        const struct jr_cache_event *ev = &log->events[i];
        if (ev->type == JR_KV_CLEARED)
            jr_map_clear(&r->replica);
        if (ev->type == JR_KV_STORED && ev->has_parent)
            assert_true(copies(r, ev->parent_hash) > 0);
        for (uint32_t k = 0; k < ev->n_hashes; k++) {
            uint64_t hash = log->hashes[ev->hash_at + k];
            if (ev->type == JR_KV_STORED)
                apply_stored(r, hash);
            else
                apply_removed(r, hash);
        }
    }
}

/* The replica holds exactly what the cache holds, copy for copy. */
static void assert_same(const struct run *r)
{
    const struct jr_paged_cache *c = jr_engine_cache(r->e);
    uint64_t blocks = 0, pos = 0, h, n, in_replica = 0;
    for (uint32_t i = 1; i <= jr_paged_cache_total(c); i++)
        blocks += jr_paged_cache_hash_of(c, i, &h);
    while (jr_map_next(&r->replica, &pos, &h, &n)) {
        assert_int_equal(jr_paged_cache_copies(c, h), n);
        in_replica += n;
    }
    assert_int_equal(in_replica, blocks);
}

static void assert_sound(const struct run *r)
{
    const char *wrong = jr_engine_check(r->e);
    if (wrong != NULL)
        fail_msg("%s", wrong);
}

/* One step's end: outputs counted, events applied. False when nothing was left to do. */
static bool run_step(struct run *r, struct jr_engine_step *step)
{
    int64_t due;
    while ((due = jr_engine_due_ns(r->e)) != JR_ENGINE_IDLE) {
        r->now = due > r->now ? due : r->now;
        if (!jr_engine_step(r->e, r->now, step))
            continue;
        for (uint32_t i = 0; i < step->n_outputs; i++) {
            const struct jr_engine_output *o = &step->outputs[i];
            struct slot *slot = o->user;
            assert_int_equal(o->index, slot->n_outputs);
            slot->n_outputs++;
            slot->cached = o->cached_tokens;
            slot->seq = o->finished ? NULL : slot->seq;
            r->n_outputs++;
            r->n_finished += o->finished;
        }
        apply(r, &step->kv);
        return true;
    }
    return false;
}

static void run_all(struct run *r)
{
    struct jr_engine_step step;
    while (run_step(r, &step))
        ;
}

/* A prompt of n tokens: the `shared` first depend on `family` only, the others on `own`. */
struct prompt {
    uint32_t family, shared, own, n, max_tokens;
};

static void submit(struct run *r, struct slot *slot, struct prompt p)
{
    uint32_t *tokens = jr_xalloc((p.n + 1) * sizeof *tokens);
    for (uint32_t i = 0; i < p.n; i++)
        tokens[i] = i < p.shared ? p.family * 1000 + i : 100000000 + p.own * 10000 + i;
    struct jr_engine_request req = {
        .tokens = tokens, .n_tokens = p.n, .max_tokens = p.max_tokens, .user = slot};
    memset(slot, 0, sizeof *slot);
    assert_int_equal(jr_engine_submit(r->e, r->now, &req, &slot->seq), 0);
    jr_xfree(tokens);
}

/* A prompt that shares nothing with those of another `own`. */
static void submit_own(struct run *r, uint32_t i, uint32_t own, uint32_t n, uint32_t max_tokens)
{
    submit(r, &r->slots[i], (struct prompt){.own = own, .n = n, .max_tokens = max_tokens});
}

static void submit_shared(struct run *r, uint32_t i, uint32_t shared, uint32_t n)
{
    submit(r, &r->slots[i],
           (struct prompt){.family = 1, .shared = shared, .own = i, .n = n, .max_tokens = 1});
}

static void timing_is_the_formula(void **state)
{
    (void)state;
    struct jr_engine_config c;
    jr_engine_config_init(&c);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    submit_own(&r, 0, 1, 7000, 2);
    assert_true(run_step(&r, &step));
    /* 12 + 700 + 7.5e-7·7000·3500 + 2.5e-5·7000 ms */
    assert_int_equal(step.end_ns - step.start_ns, 730550000);
    assert_int_equal(step.prefill_tokens, 7000);
    assert_true(run_step(&r, &step));
    /* 12 + 0.1 + 2.5e-5·7000 ms */
    assert_int_equal(step.end_ns - step.start_ns, 12275000);
    assert_int_equal(step.decodes, 1);
    assert_int_equal(r.n_finished, 1);
    assert_false(run_step(&r, &step));
    run_deinit(&r);

    c.speedup_ratio = 10;
    run_init(&r, &c);
    submit_own(&r, 0, 1, 7000, 2);
    assert_true(run_step(&r, &step));
    assert_int_equal(step.end_ns - step.start_ns, 73055000);
    run_deinit(&r);

    c.speedup_ratio = 0; /* no waiting at all */
    run_init(&r, &c);
    submit_own(&r, 0, 1, 7000, 2);
    assert_true(run_step(&r, &step));
    assert_int_equal(step.end_ns - step.start_ns, 0);
    run_deinit(&r);
}

/* 32 requests of 8,000 tokens decode in the 21.6 ms that the model promises. */
static void decode_step_at_32_times_8k(void **state)
{
    (void)state;
    struct jr_engine_config c;
    jr_engine_config_init(&c);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct slot slots[32];
    for (uint32_t i = 0; i < 32; i++)
        submit(&r, &slots[i], (struct prompt){.own = i, .n = 8000, .max_tokens = 200});
    do
        assert_true(run_step(&r, &step));
    while (step.decodes < 32);
    int64_t took = step.end_ns - step.start_ns;
    assert_true(took > 21 * MS && took < 22 * MS);
    run_deinit(&r);
}

static void token_budget_and_chunks(void **state)
{
    (void)state;
    struct jr_engine_config c = small(4000);
    c.max_num_batched_tokens = 1000;
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    submit_own(&r, 0, 1, 10, 40);
    assert_true(run_step(&r, &step));
    submit_own(&r, 1, 2, 2500, 3);
    submit_own(&r, 2, 3, 600, 3);
    /* The decode goes first and takes one token of the budget; what the first prompt leaves of its
     * last chunk goes to the next. */
    static const uint32_t prefill[] = {999, 999, 999, 103}, decodes[] = {1, 1, 1, 2};
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(run_step(&r, &step));
        assert_int_equal(step.decodes, decodes[i]);
        assert_int_equal(step.prefill_tokens, prefill[i]);
    }
    run_all(&r);
    assert_int_equal(r.n_outputs, 46);
    assert_int_equal(r.n_finished, 3);
    run_deinit(&r);
}

static void seats_are_bounded(void **state)
{
    (void)state;
    struct jr_engine_config c = small(1000);
    c.max_num_seqs = 3;
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct jr_engine_stats st;
    for (uint32_t i = 0; i < 5; i++)
        submit_own(&r, i, i, 8, 4);
    assert_true(run_step(&r, &step));
    jr_engine_stats(r.e, &st);
    assert_int_equal(st.running, 3);
    assert_int_equal(st.waiting, 2);
    assert_int_equal(step.n_outputs, 3);
    assert_int_equal(r.slots[2].n_outputs, 1); /* first come, first served */
    assert_int_equal(r.slots[3].n_outputs, 0);
    run_all(&r);
    assert_int_equal(r.n_finished, 5);
    run_deinit(&r);
}

static void cached_tokens_and_silent_hits(void **state)
{
    (void)state;
    struct jr_engine_config c = small(100);
    struct run r;
    run_init(&r, &c);
    submit_shared(&r, 0, 10, 10);
    run_all(&r);
    assert_int_equal(r.slots[0].cached, 0);
    assert_int_equal(r.n_stored, 2);
    submit_shared(&r, 1, 10, 10); /* the same: both full blocks, no event */
    run_all(&r);
    assert_int_equal(r.slots[1].cached, 8);
    assert_int_equal(r.n_stored, 2);
    submit_shared(&r, 2, 6, 20); /* parts in the second block */
    run_all(&r);
    assert_int_equal(r.slots[2].cached, 4);
    assert_int_equal(r.n_stored, 6);
    /* A prompt that is cached as a whole computes its last block again, as a second copy. */
    submit_shared(&r, 3, 8, 8);
    run_all(&r);
    assert_int_equal(r.slots[3].cached, 4);
    assert_int_equal(r.n_stored, 7);
    assert_int_equal(jr_paged_cache_copies(jr_engine_cache(r.e), r.stored[1]), 2);
    assert_same(&r);
    struct jr_engine_stats st;
    jr_engine_stats(r.e, &st);
    assert_int_equal(st.prefix_queries, 48);
    assert_int_equal(st.prefix_hits, 16);
    run_deinit(&r);
}

static void requests_of_one_step_share(void **state)
{
    (void)state;
    struct jr_engine_config c = small(100);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    for (uint32_t i = 0; i < 4; i++)
        submit_shared(&r, i, 16, 16);
    assert_true(run_step(&r, &step));
    assert_int_equal(r.n_finished, 4);
    assert_int_equal(r.slots[3].cached, 12);
    assert_int_equal(r.n_stored, 4 + 3); /* each of the others recomputed the last block */
    assert_int_equal(jr_paged_cache_copies(jr_engine_cache(r.e), r.stored[3]), 4);
    run_deinit(&r);
}

static void decode_blocks_are_stored_as_they_fill(void **state)
{
    (void)state;
    struct jr_engine_config c = small(100);
    struct run r;
    run_init(&r, &c);
    submit_own(&r, 0, 1, 6, 11);
    run_all(&r);
    /* 17 tokens, of which the last was never computed: 4 full blocks. */
    assert_int_equal(r.n_stored, 4);
    assert_int_equal(r.n_events, 4);
    assert_same(&r);
    run_deinit(&r);
}

/* Freed tails go first, and of two requests the one that ended first. */
static void eviction_order(void **state)
{
    (void)state;
    struct jr_engine_config c = small(6);
    struct run r;
    run_init(&r, &c);
    submit_own(&r, 0, 1, 12, 1); /* blocks a0 a1 a2 */
    run_all(&r);
    submit_own(&r, 0, 2, 8, 1); /* b0 b1: there are three fresh blocks */
    run_all(&r);
    assert_int_equal(r.n_removed, 0);
    submit_own(&r, 0, 3, 16, 1); /* needs 4 of 6: the fresh one, then a2 a1 a0 */
    run_all(&r);
    assert_int_equal(r.n_removed, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(r.removed[i], r.stored[2 - i]);
    submit_own(&r, 1, 2, 9, 1); /* b0 and b1 are still there, and now the youngest */
    run_all(&r);
    assert_int_equal(r.slots[1].cached, 8);
    submit_own(&r, 0, 4, 16, 1);
    run_all(&r);
    submit_own(&r, 1, 2, 9, 1);
    run_all(&r);
    assert_int_equal(r.slots[1].cached, 8);
    assert_same(&r);
    run_deinit(&r);
}

static void running_requests_pin(void **state)
{
    (void)state;
    struct jr_engine_config c = small(8);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct jr_engine_stats st;
    submit_own(&r, 0, 1, 16, 8);
    assert_true(run_step(&r, &step));
    submit_own(&r, 1, 2, 20, 2); /* 5 blocks: does not fit beside it */
    assert_true(run_step(&r, &step));
    jr_engine_stats(r.e, &st);
    assert_int_equal(st.running, 1);
    assert_int_equal(st.waiting, 1);
    assert_int_equal(st.blocks_used, 5);
    assert_int_equal(r.n_removed, 0);
    run_all(&r);
    assert_int_equal(r.n_finished, 2);
    assert_true(r.n_removed > 0);
    assert_same(&r);
    run_deinit(&r);
}

static void preemption_recomputes(void **state)
{
    (void)state;
    struct jr_engine_config c = small(10);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct jr_engine_stats st;
    submit_own(&r, 0, 1, 15, 20);
    submit_own(&r, 1, 2, 15, 20);
    while (run_step(&r, &step)) {
        assert_sound(&r);
        assert_same(&r);
    }
    jr_engine_stats(r.e, &st);
    assert_true(st.preemptions > 0);
    assert_int_equal(r.n_finished, 2);
    assert_int_equal(r.n_outputs, 40); /* no token is produced twice */
    assert_int_equal(st.generation_tokens, 40);
    assert_int_equal(st.blocks_used, 0);
    run_deinit(&r);
}

static void cancel_frees_at_once_or_at_the_end(void **state)
{
    (void)state;
    struct jr_engine_config c = small(10);
    c.max_num_seqs = 1;
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct jr_engine_stats st;
    submit_own(&r, 0, 1, 15, 20);
    submit_own(&r, 1, 2, 15, 20);
    assert_false(jr_engine_step(r.e, r.now, &step)); /* starts */
    jr_engine_cancel(r.e, r.slots[0].seq);
    jr_engine_cancel(r.e, r.slots[1].seq);
    jr_engine_stats(r.e, &st);
    assert_int_equal(st.waiting, 0);
    assert_int_equal(st.blocks_used, 4);
    assert_true(run_step(&r, &step));
    assert_int_equal(step.n_outputs, 0);
    assert_false(run_step(&r, &step));
    jr_engine_stats(r.e, &st);
    assert_int_equal(st.blocks_used, 0);
    assert_int_equal(st.aborted, 2);
    assert_int_equal(r.n_stored, 3); /* what was computed stays */
    assert_same(&r);
    run_deinit(&r);
}

static void refuses_what_can_never_run(void **state)
{
    (void)state;
    struct jr_engine_config c = small(10);
    struct jr_engine *e = jr_engine_create(&c);
    uint32_t tokens[40] = {0};
    struct jr_engine_seq *seq;
    struct jr_engine_request req = {.tokens = tokens, .n_tokens = 0, .max_tokens = 1};
    assert_int_equal(jr_engine_submit(e, 0, &req, &seq), JR_EINVAL);
    req.n_tokens = 40;
    assert_int_equal(jr_engine_submit(e, 0, &req, &seq), JR_ELIMIT);
    req.n_tokens = 39;
    assert_int_equal(jr_engine_submit(e, 0, &req, &seq), 0);
    req.max_tokens = 0;
    assert_int_equal(jr_engine_submit(e, 0, &req, &seq), JR_EINVAL);
    jr_engine_destroy(e);
}

static void reset_clears(void **state)
{
    (void)state;
    struct jr_engine_config c = small(100);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct jr_cache_log log;
    submit_own(&r, 0, 1, 16, 3);
    assert_true(run_step(&r, &step));
    assert_false(jr_engine_reset_cache(r.e, &log)); /* blocks are held */
    run_all(&r);
    assert_true(jr_engine_reset_cache(r.e, &log));
    assert_int_equal(log.n_events, 1);
    assert_int_equal(log.events[0].type, JR_KV_CLEARED);
    apply(&r, &log);
    assert_same(&r);
    submit_own(&r, 1, 1, 16, 3);
    run_all(&r);
    assert_int_equal(r.slots[1].cached, 0);
    assert_same(&r);
    assert_sound(&r);
    run_deinit(&r);
}

/* As submit_own, but what it asks for is that its blocks are kept. */
static uint32_t hold_own(struct run *r, uint32_t own, uint32_t n, int64_t for_ns)
{
    uint32_t tokens[200];
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = 100000000 + own * 10000 + i;
    const struct jr_engine_request req = {.tokens = tokens, .n_tokens = n};
    return jr_engine_hold(r->e, r->now, r->now + for_ns, &req);
}

static uint32_t blocks_kept(const struct run *r)
{
    struct jr_engine_stats st;
    jr_engine_stats(r->e, &st);
    return st.blocks_kept;
}

static uint32_t cached_of(struct run *r, uint32_t own, uint32_t n)
{
    submit_own(r, 0, own, n, 1);
    run_all(r);
    assert_sound(r);
    assert_same(r);
    return r->slots[0].cached;
}

static void kept_blocks_are_not_evicted_before_their_time(void **state)
{
    (void)state;
    struct jr_engine_config c = small(20);
    struct run r;
    run_init(&r, &c);
    assert_int_equal(hold_own(&r, 1, 13, 5000 * MS), 0); /* nothing is there yet */
    assert_int_equal(cached_of(&r, 1, 13), 0);
    assert_int_equal(cached_of(&r, 2, 13), 0);
    assert_int_equal(hold_own(&r, 1, 13, 60000 * MS), 3);
    assert_int_equal(hold_own(&r, 1, 13, 1000 * MS), 3); /* the longer time stands */
    assert_int_equal(blocks_kept(&r), 3);
    for (uint32_t own = 10; own < 20; own++)
        (void)cached_of(&r, own, 40);
    assert_int_equal(cached_of(&r, 2, 13), 0);
    assert_int_equal(cached_of(&r, 1, 13), 12);
    r.now += 60000 * MS;
    for (uint32_t own = 10; own < 20; own++)
        (void)cached_of(&r, own, 40);
    assert_int_equal(blocks_kept(&r), 0);
    assert_int_equal(cached_of(&r, 1, 13), 0);
    run_deinit(&r);
}

static void kept_blocks_give_way(void **state)
{
    (void)state;
    struct jr_engine_config c = small(20);
    struct run r;
    struct jr_cache_log log;
    run_init(&r, &c);
    (void)cached_of(&r, 1, 60);
    assert_int_equal(hold_own(&r, 1, 60, 60000 * MS), 10); /* half of all, no more */
    (void)cached_of(&r, 2, 70);                            /* needs 18 of 20 */
    assert_int_equal(blocks_kept(&r), 0);
    assert_int_equal(hold_own(&r, 2, 40, 60000 * MS), 10);
    assert_true(jr_engine_reset_cache(r.e, &log));
    apply(&r, &log);
    assert_int_equal(blocks_kept(&r), 0);
    assert_sound(&r);
    run_deinit(&r);
}

static void salts_part_the_cache(void **state)
{
    (void)state;
    struct jr_engine_config c = small(100);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    uint32_t tokens[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const char *const salts[] = {NULL, "tenant-a", "tenant-b", "tenant-a"};
    for (uint32_t i = 0; i < 4; i++) {
        struct jr_engine_request req = {.tokens = tokens,
                                        .n_tokens = 9,
                                        .max_tokens = 1,
                                        .salt = salts[i],
                                        .n_salt = salts[i] == NULL ? 0 : 8,
                                        .user = &r.slots[i]};
        assert_int_equal(jr_engine_submit(r.e, r.now, &req, &r.slots[i].seq), 0);
        assert_true(run_step(&r, &step));
        if (i == 1) {
            const struct jr_cache_event *ev = &step.kv.events[0];
            assert_int_equal(ev->n_salt, 8);
            assert_memory_equal(step.kv.texts + ev->salt_at, "tenant-a", 8);
            assert_memory_equal(step.kv.tokens + ev->token_at, tokens, 32);
        }
    }
    assert_int_equal(r.slots[1].cached, 0);
    assert_int_equal(r.slots[2].cached, 0);
    assert_int_equal(r.slots[3].cached, 8);
    assert_int_equal(r.n_stored, 6);
    run_deinit(&r);
}

/* The first block of a prompt of 8 tokens under that salt and adapter: its hash, and the name that
 * routers give it. */
static uint64_t first_block(const char *salt, const char *lora, uint64_t *ret_prefix)
{
    static const uint32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct jr_engine_config c = small(100);
    struct jr_engine_request req = {.tokens = tokens,
                                    .n_tokens = 8,
                                    .max_tokens = 1,
                                    .salt = salt,
                                    .n_salt = (uint32_t)strlen(salt),
                                    .lora = lora,
                                    .n_lora = (uint32_t)strlen(lora)};
    const struct jr_hash_salt known = {.lora = jr_str_of(lora, strlen(lora)),
                                       .cache_salt = jr_str_of(salt, strlen(salt))};
    uint64_t prefixes[2], hash = 0;
    struct run r;
    struct jr_engine_step step;
    struct slot slot = {0};
    run_init(&r, &c);
    req.user = &slot;
    assert_int_equal(jr_engine_submit(r.e, 0, &req, &slot.seq), 0);
    assert_true(run_step(&r, &step));
    assert_int_equal(jr_hash_prompt(&known, tokens, 8, 4, prefixes), 2);
    const struct jr_paged_cache *cache = jr_engine_cache(r.e);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t block = jr_paged_cache_find(cache, r.stored[i]);
        assert_int_equal(jr_paged_cache_prefix_of(cache, block), prefixes[i]);
    }
    hash = r.stored[0];
    assert_int_equal(step.kv.n_events, 1);
    assert_int_equal(step.kv.events[0].n_lora, strlen(lora));
    *ret_prefix = prefixes[0];
    run_deinit(&r);
    return hash;
}

static void adapters_part_the_cache_and_prefixes_are_the_routers(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"", ""}, {"a", ""}, {"", "a"}, {"a", "a"}, {"", "b"}};
    uint64_t hashes[5], prefixes[5];
    for (uint32_t i = 0; i < 5; i++) {
        hashes[i] = first_block(names[i][0], names[i][1], &prefixes[i]);
        for (uint32_t k = 0; k < i; k++)
            assert_true(hashes[k] != hashes[i] && prefixes[k] != prefixes[i]);
    }
}

/* Steps follow each other without a gap, however late the caller looks. */
static void pace_does_not_depend_on_the_caller(void **state)
{
    (void)state;
    struct jr_engine_config c = small(100);
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    r.now = 5 * MS;
    submit_own(&r, 0, 1, 4, 4);
    r.now = 5000 * MS;
    int64_t end = 5 * MS;
    while (run_step(&r, &step)) {
        assert_int_equal(step.start_ns, end);
        end = step.end_ns;
    }
    assert_int_equal(r.n_finished, 1);
    submit_own(&r, 0, 1, 4, 1); /* idle meanwhile: starts when it comes */
    assert_true(run_step(&r, &step));
    assert_int_equal(step.start_ns, 5000 * MS);
    run_deinit(&r);
}

#define LOAD 40

static struct prompt random_prompt(struct jr_rng *rng, uint32_t own)
{
    uint32_t n = 1 + jr_rng_below(rng, 100);
    return (struct prompt){.family = jr_rng_below(rng, 6),
                           .shared = jr_rng_below(rng, n + 1),
                           .own = own,
                           .n = n,
                           .max_tokens = 1 + jr_rng_below(rng, 60)};
}

/* Submits, cancels or resets; returns how many requests were cancelled. */
static uint32_t random_move(struct run *r, struct jr_rng *rng, struct slot *slots, uint32_t i)
{
    struct slot *slot = &slots[jr_rng_below(rng, LOAD)];
    struct jr_engine_step step;
    struct jr_cache_log log;
    uint32_t dice = jr_rng_below(rng, 100);
    if (slot->seq == NULL) {
        submit(r, slot, random_prompt(rng, i));
    } else if (dice < 10) {
        if (dice < 5) /* in the middle of a step */
            assert_false(jr_engine_step(r->e, jr_engine_due_ns(r->e), &step));
        jr_engine_cancel(r->e, slot->seq);
        slot->seq = NULL;
        return 1;
    } else if (dice >= 96 && dice < 99) {
        struct prompt p = random_prompt(rng, i);
        uint32_t tokens[128];
        for (uint32_t k = 0; k < p.n; k++)
            tokens[k] = p.family * 1000 + k;
        const struct jr_engine_request req = {.tokens = tokens, .n_tokens = p.n};
        (void)jr_engine_hold(r->e, r->now, r->now + (int64_t)jr_rng_below(rng, 2000) * MS, &req);
    } else if (dice == 99) {
        run_all(r);
        assert_true(jr_engine_reset_cache(r->e, &log));
        apply(r, &log);
    }
    return 0;
}

/* Random load with shared prefixes, cancels and resets on a cache that is far too small: after each
 * step the naive replica, fed by events alone, holds what the cache holds. */
static void random_load_keeps_the_replica_equal(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 1);
    struct jr_engine_config c = small(60);
    c.max_num_batched_tokens = 64;
    c.max_num_seqs = 12;
    struct run r;
    run_init(&r, &c);
    struct jr_engine_step step;
    struct slot slots[LOAD] = {{0}};
    uint32_t n_submitted = 0, n_cancelled = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t before = 0, after = 0;
        for (uint32_t k = 0; k < LOAD; k++)
            before += slots[k].seq != NULL;
        uint32_t finished = r.n_finished, cancelled = random_move(&r, &rng, slots, i);
        for (uint32_t k = 0; k < LOAD; k++)
            after += slots[k].seq != NULL;
        n_submitted += after + cancelled + (r.n_finished - finished) - before;
        n_cancelled += cancelled;
        if (run_step(&r, &step)) {
            assert_true(step.prefill_tokens + step.decodes <= 64);
            assert_same(&r);
        }
        assert_sound(&r);
    }
    run_all(&r);
    assert_same(&r);
    assert_int_equal(r.n_finished + n_cancelled, n_submitted);
    struct jr_engine_stats st;
    jr_engine_stats(r.e, &st);
    assert_int_equal(st.blocks_used, st.blocks_kept);
    assert_int_equal(st.generation_tokens, r.n_outputs);
    assert_true(st.preemptions > 0 && st.prefix_hits > 0 && r.n_removed > 0 && n_cancelled > 0);
    run_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timing_is_the_formula),
        cmocka_unit_test(decode_step_at_32_times_8k),
        cmocka_unit_test(token_budget_and_chunks),
        cmocka_unit_test(seats_are_bounded),
        cmocka_unit_test(cached_tokens_and_silent_hits),
        cmocka_unit_test(requests_of_one_step_share),
        cmocka_unit_test(decode_blocks_are_stored_as_they_fill),
        cmocka_unit_test(eviction_order),
        cmocka_unit_test(running_requests_pin),
        cmocka_unit_test(preemption_recomputes),
        cmocka_unit_test(cancel_frees_at_once_or_at_the_end),
        cmocka_unit_test(refuses_what_can_never_run),
        cmocka_unit_test(reset_clears),
        cmocka_unit_test(kept_blocks_are_not_evicted_before_their_time),
        cmocka_unit_test(kept_blocks_give_way),
        cmocka_unit_test(salts_part_the_cache),
        cmocka_unit_test(adapters_part_the_cache_and_prefixes_are_the_routers),
        cmocka_unit_test(pace_does_not_depend_on_the_caller),
        cmocka_unit_test(random_load_keeps_the_replica_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
