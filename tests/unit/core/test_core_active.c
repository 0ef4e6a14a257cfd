/* SPDX-License-Identifier: Apache-2.0 */
/* Active sequences against a naive model, the backlog rule, decay, and running out of memory. */
#include "base/limits.h"
#include "base/map.h"
#include "base/rng.h"
#include "core/active.h"
#include "core/hash.h"
#include "jr_test.h"
#include <math.h>
#include <string.h>

#define MEMBERS  5
#define REQUESTS 24
#define DEPTH    8
#define STEPS    2000 /* for a seed */
#define SEEDS    10
#define WHOLE    65536
#define HELD_MAX (REQUESTS * DEPTH)

struct model_request {
    bool live, decoding;
    uint32_t member, n, output;
    uint64_t output_weight; /* of WHOLE */
    uint64_t order;         /* of arrival */
    uint64_t prefill_tokens;
    double prefill_s;
    uint64_t hashes[DEPTH];
};

/* A block that a member's requests hold. */
struct model_block {
    uint32_t member, refs;
    uint64_t hash, weight;
};

struct model {
    struct model_request r[REQUESTS];
    struct model_block held[HELD_MAX];
    uint32_t n_held;
    uint64_t turn_ms[MEMBERS];
    double passed_s[MEMBERS]; /* estimates of prefills that ended behind the oldest */
    uint64_t now_ms, orders;
};

static uint64_t key_of(uint32_t i)
{
    return i == 0 ? 0 : jr_mix64(i);
}

static uint32_t oldest(const struct model *md, uint32_t member)
{
    uint32_t best = REQUESTS;

    for (uint32_t i = 0; i < REQUESTS; i++) {
        const struct model_request *r = &md->r[i];
        if (r->live && !r->decoding && r->member == member &&
            (best == REQUESTS || r->order < md->r[best].order))
            best = i;
    }
    return best;
}

static struct model_block *held(struct model *md, uint32_t member, uint64_t hash)
{
    for (uint32_t i = 0; i < md->n_held; i++)
        if (md->held[i].member == member && md->held[i].hash == hash)
            return &md->held[i];
    return NULL;
}

static void hold(struct model *md, uint32_t member, uint64_t hash)
{
    struct model_block *b = held(md, member, hash);

    if (!b) {
        b = &md->held[md->n_held++];
        *b = (struct model_block){.member = member, .hash = hash};
    }
    b->refs++;
    b->weight = WHOLE; /* shared again or new: it counts whole */
}

static void unhold(struct model *md, uint32_t member, uint64_t hash)
{
    struct model_block *b = held(md, member, hash);

    assert_non_null(b);
    if (--b->refs == 0)
        *b = md->held[--md->n_held];
}

static uint64_t active_blocks(const struct model *md, uint32_t member)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < md->n_held; i++)
        sum += md->held[i].member == member ? md->held[i].weight : 0;
    for (uint32_t i = 0; i < REQUESTS; i++)
        if (md->r[i].live && md->r[i].member == member)
            sum += md->r[i].output * md->r[i].output_weight;
    return (sum + WHOLE / 2) / WHOLE;
}

static void check_load(const struct jr_active *a, const struct model *md, uint32_t member)
{
    uint32_t first = oldest(md, member), requests = 0, decoding = 0;
    double sum = 0, elapsed, q = 0;
    struct jr_active_load load;
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < REQUESTS; i++) {
        const struct model_request *r = &md->r[i];
        if (!r->live || r->member != member)
            continue;
        requests++;
        decoding += r->decoding;
        tokens += r->decoding ? 0 : r->prefill_tokens;
        sum += r->decoding ? 0 : r->prefill_s;
    }
    if (first < REQUESTS) {
        elapsed = (double)(md->now_ms - md->turn_ms[member]) / 1000;
        q = fmax(2 * sum - elapsed, 2 * sum - 2 * md->r[first].prefill_s);
    }
    jr_active_load(a, member, md->now_ms, 2, &load);
    assert_int_equal(requests, load.requests);
    assert_int_equal(decoding, load.decoding);
    assert_true(tokens == load.prefill_tokens);
    assert_true(active_blocks(md, member) == load.active_blocks);
    assert_true(fabs(q - load.backlog_s) < 1e-6);
}

static void make_prompt(struct jr_rng *rng, uint64_t *hashes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        hashes[i] = 1 + jr_rng_below(rng, 2);
    jr_hash_prefix(hashes, n, hashes);
}

static void check_match(const struct jr_active *a, struct model *md, struct jr_rng *rng)
{
    uint32_t n = jr_rng_below(rng, DEPTH + 1), all[MEMBERS] = {0};
    uint64_t hashes[DEPTH];

    make_prompt(rng, hashes, n);
    jr_active_match_all(a, hashes, n, all);
    for (uint32_t member = 0; member < MEMBERS; member++) {
        uint32_t score = 0;
        while (score < n && held(md, member, hashes[score]))
            score++;
        assert_int_equal(score, jr_active_match(a, member, hashes, n));
        assert_int_equal(score, all[member]);
    }
}

static void step_add(struct jr_active *a, struct model *md, struct jr_rng *rng, uint32_t i)
{
    struct model_request r = {.live = true, .output_weight = WHOLE};
    struct jr_active_booking b;

    r.member = jr_rng_below(rng, MEMBERS);
    r.n = jr_rng_below(rng, DEPTH + 1);
    r.prefill_tokens = jr_rng_below(rng, 1000);
    r.prefill_s = jr_rng_below(rng, 1000) / 1000.0;
    r.order = md->orders++;
    make_prompt(rng, r.hashes, r.n);
    b = (struct jr_active_booking){.key = key_of(i),
                                   .member = r.member,
                                   .prefix_hashes = r.hashes,
                                   .n = r.n,
                                   .prefill_tokens = r.prefill_tokens,
                                   .prefill_seconds = r.prefill_s};
    if (md->r[i].live) {
        assert_int_equal(JR_EEXIST, jr_active_add(a, &b, md->now_ms));
        return;
    }
    assert_int_equal(0, jr_active_add(a, &b, md->now_ms));
    md->r[i] = r;
    for (uint32_t k = 0; k < r.n; k++)
        hold(md, r.member, r.hashes[k]);
    if (oldest(md, r.member) == i)
        md->turn_ms[r.member] = md->now_ms;
}

static void end_prefill(struct model *md, uint32_t i)
{
    struct model_request *r = &md->r[i];

    if (oldest(md, r->member) == i) {
        md->turn_ms[r->member] = md->now_ms;
        md->passed_s[r->member] = 0;
    }
    r->decoding = true;
}

static void step_first_token(struct jr_active *a, struct model *md, uint32_t i)
{
    struct model_request *r = &md->r[i];
    struct jr_active_sample sample;
    int rv = jr_active_first_token(a, key_of(i), md->now_ms, &sample);

    assert_int_equal(r->live ? 0 : JR_ENOTFOUND, rv);
    if (!r->live)
        return;
    assert_int_equal(!r->decoding && oldest(md, r->member) == i, sample.valid);
    if (sample.valid) {
        double taken = (double)(md->now_ms - md->turn_ms[r->member]) / 1000;
        assert_true(fabs(sample.estimated_s - r->prefill_s - md->passed_s[r->member]) < 1e-6);
        assert_true(fabs(sample.taken_s - taken) < 1e-6);
    } else if (!r->decoding)
        md->passed_s[r->member] += r->prefill_s;
    if (!r->decoding)
        end_prefill(md, i);
}

static void step_free(struct jr_active *a, struct model *md, uint32_t i)
{
    struct model_request *r = &md->r[i];

    assert_int_equal(r->live ? 0 : JR_ENOTFOUND, jr_active_free(a, key_of(i), md->now_ms));
    if (r->live && !r->decoding)
        end_prefill(md, i);
    for (uint32_t k = 0; k < r->n && r->live; k++)
        unhold(md, r->member, r->hashes[k]);
    r->live = false;
}

/* The end of the prompt that no other request of the member holds decays with the output. */
static void step_output(struct jr_active *a, struct model *md, struct jr_rng *rng, uint32_t i)
{
    struct model_request *r = &md->r[i];
    uint32_t total = jr_rng_below(rng, 20);
    uint64_t weight = WHOLE >> jr_rng_below(rng, 3);
    bool decays = weight != WHOLE || r->output_weight != WHOLE;

    assert_int_equal(r->live ? 0 : JR_ENOTFOUND,
                     jr_active_output_blocks(a, key_of(i), total, (double)weight / WHOLE));
    if (!r->live)
        return;
    r->output = total;
    r->output_weight = weight;
    for (uint32_t k = decays ? r->n : 0; k > 0; k--) {
        struct model_block *b = held(md, r->member, r->hashes[k - 1]);
        if (b->refs > 1)
            break;
        b->weight = weight;
    }
}

static void step(struct jr_active *a, struct model *md, struct jr_rng *rng)
{
    uint32_t i = jr_rng_below(rng, REQUESTS), dice = jr_rng_below(rng, 10);

    md->now_ms += jr_rng_below(rng, 300);
    if (dice < 4) {
        step_add(a, md, rng, i);
    } else if (dice < 6) {
        step_first_token(a, md, i);
    } else if (dice < 8) {
        step_output(a, md, rng, i);
    } else {
        step_free(a, md, i);
    }
}

static void run_model(uint64_t seed)
{
    static struct model md;
    struct jr_active *a;
    struct jr_rng rng;
    struct jr_mem mem;

    memset(&md, 0, sizeof md);
    jr_rng_init(&rng, seed, 1);
    jr_mem_init(&mem);
    assert_int_equal(0, jr_active_create(&mem, &a));
    for (int i = 0; i < STEPS; i++) {
        step(a, &md, &rng);
        check_load(a, &md, jr_rng_below(&rng, MEMBERS));
        check_match(a, &md, &rng);
        if (i % 50 == 0)
            jr_active_check(a);
    }
    assert_true(jr_active_bytes(a) == mem.bytes);
    for (uint32_t i = 0; i < REQUESTS; i++)
        step_free(a, &md, i);
    for (uint32_t m = 0; m < MEMBERS; m++)
        check_load(a, &md, m);
    jr_active_check(a);
    assert_int_equal(0, jr_active_requests(a));
    jr_active_destroy(a);
    jr_mem_deinit(&mem);
}

static void test_model(void **state)
{
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(SEEDS);

    (void)state;
    for (uint64_t i = 0; i < seeds; i++)
        run_model(seed + i);
}

static uint64_t blocks_now(const struct jr_active *a)
{
    struct jr_active_load load;
    jr_active_load(a, 0, 0, 1, &load);
    return load.active_blocks;
}

/* Decay reaches the output and the end of the prompt that is the request's alone. */
static void test_decay(void **state)
{
    uint64_t first[4] = {1, 2, 3, 4}, second[3] = {1, 2, 9};
    struct jr_active_booking b = {.key = 1, .prefix_hashes = first, .n = 4};
    struct jr_active_booking c = {.key = 2, .prefix_hashes = second, .n = 3};
    uint32_t member = 9;
    bool decoding = true;
    struct jr_active *a;
    struct jr_mem mem;

    (void)state;
    jr_mem_init(&mem);
    assert_int_equal(0, jr_active_create(&mem, &a));
    assert_int_equal(0, jr_active_add(a, &b, 0));
    assert_true(jr_active_get(a, 1, &member, &decoding) && member == 0 && !decoding);
    assert_false(jr_active_get(a, 5, &member, &decoding));
    assert_int_equal(4, blocks_now(a));
    assert_int_equal(0, jr_active_add(a, &c, 0));
    assert_int_equal(5, blocks_now(a)); /* 1 2 3 4 9 */
    assert_int_equal(0, jr_active_output_blocks(a, 1, 6, 0.5));
    assert_int_equal(7, blocks_now(a)); /* 1 2 9 + (3 4 + 6) / 2 */
    assert_int_equal(0, jr_active_output_blocks(a, 1, 6, 0.25));
    assert_int_equal(5, blocks_now(a));
    c.key = 3;
    c.prefix_hashes = first; /* shares 1 2 3 again: they count whole */
    assert_int_equal(0, jr_active_add(a, &c, 0));
    jr_active_check(a);
    assert_int_equal(6, blocks_now(a)); /* 1 2 3 9 + (4 + 6) / 4 = 5.75 */
    assert_int_equal(0, jr_active_free(a, 2, 0));
    assert_int_equal(0, jr_active_free(a, 3, 0));
    assert_int_equal(0, jr_active_output_blocks(a, 1, 6, (double)NAN)); /* no decay */
    assert_int_equal(10, blocks_now(a));
    assert_int_equal(0, jr_active_free(a, 1, 0));
    assert_int_equal(0, blocks_now(a));
    jr_active_check(a);
    jr_active_destroy(a);
    jr_mem_deinit(&mem);
}

static double backlog_at(const struct jr_active *a, uint64_t now_ms)
{
    struct jr_active_load load;
    jr_active_load(a, 0, now_ms, 1, &load);
    return load.backlog_s;
}

static void test_backlog(void **state)
{
    struct jr_active_booking b = {.key = 1, .prefill_seconds = 2};
    struct jr_active_sample sample;
    struct jr_active *a;
    struct jr_mem mem;

    (void)state;
    jr_mem_init(&mem);
    assert_int_equal(0, jr_active_create(&mem, &a));
    assert_int_equal(0, jr_active_add(a, &b, 1000));
    b.key = 2;
    b.prefill_seconds = 3;
    assert_int_equal(0, jr_active_add(a, &b, 1500));
    assert_true(backlog_at(a, 1000) == 5);
    assert_true(backlog_at(a, 2000) == 4);
    assert_true(backlog_at(a, 9000) == 3); /* never below the others */
    assert_true(backlog_at(a, 500) == 5);  /* a clock that goes back harms nothing */
    assert_int_equal(0, jr_active_first_token(a, 2, 3000, &sample));
    assert_false(sample.valid); /* not the oldest */
    assert_true(backlog_at(a, 9000) == 0);
    assert_int_equal(0, jr_active_first_token(a, 1, 5000, &sample));
    /* the second was computed in its time, too */
    assert_true(sample.valid && sample.estimated_s == 5 && sample.taken_s == 4);
    b.key = 3;
    b.prefill_seconds = (double)NAN;
    assert_int_equal(0, jr_active_add(a, &b, 6000));
    assert_true(backlog_at(a, 6000) == 0);
    b.key = 4;
    b.member = JR_WORKERS_MAX;
    assert_int_equal(JR_ELIMIT, jr_active_add(a, &b, 6000));
    jr_active_destroy(a);
    jr_mem_deinit(&mem);
}

static void test_out_of_memory(void **state)
{
    uint64_t hashes[100];
    bool failed = true;

    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        hashes[i] = jr_mix64(i);
    for (int64_t n = 0; failed; n++) {
        struct jr_active *a;
        struct jr_mem mem;
        jr_mem_init(&mem);
        mem.fail_after = n;
        failed = jr_active_create(&mem, &a) < 0;
        if (failed)
            continue;
        for (uint32_t i = 0; i < 80; i++) {
            struct jr_active_booking b = {
                .key = i, .member = i % 20, .prefix_hashes = hashes, .n = i};
            uint32_t before = jr_active_requests(a);
            if (jr_active_add(a, &b, i) < 0) {
                failed = true;
                assert_int_equal(before, jr_active_requests(a));
                assert_int_equal(JR_ENOTFOUND, jr_active_free(a, i, i));
            }
        }
        jr_active_check(a);
        assert_true(jr_active_bytes(a) == mem.bytes);
        jr_active_destroy(a);
        jr_mem_deinit(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_decay),
        cmocka_unit_test(test_backlog),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
