/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sessions: each rule alone; random use against a naive model; and several tables that
 * hear each other through a stream that loses, delays and forgets, which must end alike. */
#include "core/sessions.h"

#include "base/rng.h"
#include "jr_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TTL 8000

static struct jr_mem mem;
static struct jr_sessions ss;

static int setup(void **state)
{
    (void)state;
    jr_mem_init(&mem);
    jr_sessions_init(&ss, &mem, TTL, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_sessions_check(&ss);
    jr_sessions_deinit(&ss);
    assert_int_equal(mem.bytes, 0);
    jr_mem_deinit(&mem);
    return 0;
}

static uint64_t begin(uint64_t key, uint64_t worker, uint64_t now)
{
    uint64_t life = 0;
    assert_int_equal(jr_sessions_begin(&ss, key, worker, 0, now, &life), 0);
    assert_true(life > 0);
    return life;
}

static bool is_at(uint64_t key, uint64_t worker, uint64_t now)
{
    const struct jr_session *s = jr_sessions_find(&ss, key, now);
    return s && s->worker_id == worker;
}

/* The one word that is due. */
static bool told(uint64_t now, uint64_t key, uint64_t worker, uint64_t idle)
{
    struct jr_session_word w, other;
    return jr_sessions_next_untold(&ss, now, &w) && w.session == key && w.worker_id == worker &&
           w.idle_ms == idle && !jr_sessions_next_untold(&ss, now, &other);
}

static bool silent(uint64_t now)
{
    struct jr_session_word w;
    return !jr_sessions_next_untold(&ss, now, &w);
}

/* ---------------------------------------------------------------- one table */

static void test_the_ttl_begins_anew_with_each_end(void **state)
{
    (void)state;
    uint64_t life = begin(1, 7, 100);
    assert_true(is_at(1, 7, 100 + UINT64_C(100) * TTL)); /* a request is under way */
    jr_sessions_end(&ss, 1, life, 50000);
    assert_true(is_at(1, 7, 50000 + TTL - 1));
    assert_null(jr_sessions_find(&ss, 1, 50000 + TTL));
    life = begin(1, 7, 50000 + TTL - 1);
    jr_sessions_end(&ss, 1, life, 50000 + TTL);
    assert_true(is_at(1, 7, 50000 + 2 * TTL - 1));
    jr_sessions_tick(&ss, 50000 + 2 * TTL);
    assert_int_equal(ss.n, 0);
    assert_int_equal(ss.counters.expired, 1);
    assert_int_equal(ss.counters.bound, 1);
    assert_int_equal(ss.counters.honoured, 1);
}

static void test_off_there_are_none(void **state)
{
    (void)state;
    struct jr_sessions off;
    jr_sessions_init(&off, &mem, 0, 0);
    assert_null(jr_sessions_find(&off, 1, 0));
    jr_sessions_deinit(&off);
}

/* The end of a request that went to the place before says nothing of the present one. */
static void test_bound_elsewhere(void **state)
{
    (void)state;
    uint64_t old = begin(1, 7, 100), life = begin(1, 8, 200);
    assert_true(is_at(1, 8, 200));
    assert_int_equal(ss.counters.moved, 1);
    jr_sessions_end(&ss, 1, old, 300);
    assert_true(is_at(1, 8, 300 + UINT64_C(10) * TTL));
    jr_sessions_end(&ss, 1, life, 400);
    jr_sessions_end(&ss, 1, life, 9000); /* said twice */
    assert_null(jr_sessions_find(&ss, 1, 400 + TTL));
    jr_sessions_end(&ss, 5, 1, 400); /* never heard of */
}

static void test_the_least_recently_used_goes(void **state)
{
    (void)state;
    struct jr_sessions few;
    uint64_t life;
    jr_sessions_init(&few, &mem, TTL, 2);
    assert_int_equal(jr_sessions_begin(&few, 1, 7, 0, 1, &life), 0);
    assert_int_equal(jr_sessions_begin(&few, 2, 7, 0, 2, &life), 0);
    assert_int_equal(jr_sessions_begin(&few, 1, 7, 0, 3, &life), 0);
    assert_int_equal(jr_sessions_begin(&few, 3, 7, 0, 4, &life), 0);
    assert_null(jr_sessions_find(&few, 2, 4));
    assert_non_null(jr_sessions_find(&few, 1, 4));
    const struct jr_session_word w = {.session = 9, .worker_id = 7, .idle_ms = 100};
    assert_int_equal(jr_sessions_hear(&few, &w, 0, 5), 0);
    assert_null(jr_sessions_find(&few, 1, 5));
    assert_int_equal(few.n, 2);
    assert_int_equal(few.counters.evicted, 2);
    jr_sessions_check(&few);
    jr_sessions_deinit(&few);
}

/* ---------------------------------------------------------------- words */

static void test_what_is_told_and_when(void **state)
{
    (void)state;
    uint64_t life = begin(1, 7, 100);
    assert_true(silent(100)); /* not open */
    assert_int_equal(jr_sessions_due_ms(&ss), 0);
    jr_sessions_opened(&ss, 100);
    assert_true(jr_sessions_due_ms(&ss) > 0);
    assert_true(told(100, 1, 7, TTL));
    jr_sessions_end(&ss, 1, life, 300); /* a grain has not passed */
    assert_true(silent(300));
    life = begin(1, 7, 400);
    assert_true(silent(400));
    jr_sessions_end(&ss, 1, life, 2000);
    assert_true(told(2000, 1, 7, TTL));
    assert_true(silent(2000));
}

static void test_a_long_request_is_told_at_half_of_the_ttl(void **state)
{
    (void)state;
    jr_sessions_opened(&ss, 0);
    (void)begin(1, 7, 100);
    (void)begin(2, 8, 200);
    assert_true(jr_sessions_due_ms(&ss) > 0);
    struct jr_session_word w;
    while (jr_sessions_next_untold(&ss, 200, &w))
        ;
    jr_sessions_tick(&ss, 200 + TTL / 2);
    assert_true(silent(200 + TTL / 2));
    jr_sessions_tick(&ss, 201 + TTL / 2);
    uint32_t n = 0;
    while (jr_sessions_next_untold(&ss, 201 + TTL / 2, &w)) {
        assert_int_equal(w.idle_ms, TTL);
        n++;
    }
    assert_int_equal(n, 2);
    jr_sessions_tick(&ss, 200 + TTL);
    assert_true(silent(200 + TTL));
}

/* Tells all that is due; true when the session was among it. */
static bool tick_tells(uint64_t key, uint64_t now)
{
    struct jr_session_word w;
    bool among = false;
    jr_sessions_tick(&ss, now);
    while (jr_sessions_next_untold(&ss, now, &w))
        among |= w.session == key;
    return among;
}

/* One that a peer tells of, so that it is never due here, keeps no other from being told. */
static void test_a_long_request_is_told_behind_one_that_a_peer_tells(void **state)
{
    (void)state;
    const struct jr_session_word peer = {.session = 1, .worker_id = 7, .idle_ms = TTL};
    jr_sessions_opened(&ss, 0);
    (void)begin(1, 7, 100);
    (void)begin(2, 7, 100);
    assert_true(tick_tells(2, 100));
    uint64_t told_at = 100;
    for (uint64_t now = 200; now < 100 + UINT64_C(4) * TTL; now += 100) {
        if (now % (TTL / 4) == 0)
            assert_int_equal(jr_sessions_hear(&ss, &peer, 0, now), 0);
        if (tick_tells(2, now))
            told_at = now;
        assert_true(now - told_at <= TTL / 2 + 100);
    }
}

/* Nor does one that was told later than it, but had its request before. */
static void test_a_long_request_is_told_behind_one_that_was_told_later(void **state)
{
    (void)state;
    jr_sessions_opened(&ss, 0);
    uint64_t life = begin(1, 7, 100);
    assert_true(told(100, 1, 7, TTL));
    jr_sessions_end(&ss, 1, life, 110);
    (void)begin(2, 7, TTL / 2 - 10);
    assert_true(told(TTL / 2 - 10, 2, 7, TTL));
    (void)begin(1, 7, TTL / 2); /* not due yet */
    assert_true(silent(TTL / 2));
    assert_false(tick_tells(1, 100 + TTL / 2));
    assert_true(tick_tells(1, 101 + TTL / 2));
}

static void test_a_word_that_failed_is_told_again(void **state)
{
    (void)state;
    jr_sessions_opened(&ss, 0);
    uint64_t life = begin(1, 7, 100);
    assert_true(told(100, 1, 7, TTL));
    jr_sessions_end(&ss, 1, life, 110);
    jr_sessions_failed(&ss, 1, 120);
    jr_sessions_failed(&ss, 99, 120); /* gone meanwhile */
    assert_true(silent(121));
    uint64_t at = jr_sessions_due_ms(&ss);
    assert_true(at > 121);
    assert_true(told(at, 1, 7, 110 + TTL - at));
    assert_int_equal(ss.counters.failed, 2);
}

static void test_what_is_heard(void **state)
{
    (void)state;
    struct jr_session_word w = {.session = 1, .worker_id = 7, .dp_rank = 3, .idle_ms = TTL};
    jr_sessions_opened(&ss, 0);
    assert_int_equal(jr_sessions_hear(&ss, &w, TTL, 1000), 0); /* over */
    assert_null(jr_sessions_find(&ss, 1, 1000));
    assert_int_equal(jr_sessions_hear(&ss, &w, 3000, 1000), 0);
    assert_true(is_at(1, 7, 1000));
    assert_int_equal(jr_sessions_find(&ss, 1, 1000)->dp_rank, 3);
    assert_null(jr_sessions_find(&ss, 1, 1000 + TTL - 3000));
    assert_true(silent(1000)); /* who hears does not repeat */
    /* The last word counts, whoever bound it and has a request under way. */
    (void)begin(1, 8, 1100);
    assert_int_equal(jr_sessions_hear(&ss, &w, 0, 1200), 0);
    assert_true(is_at(1, 7, 1200));
    assert_true(silent(1200));
    assert_null(jr_sessions_find(&ss, 1, 1200 + TTL));
    jr_sessions_tick(&ss, 1200 + TTL);
    assert_int_equal(ss.n, 0);
    /* A peer with a longer TTL does not make it ours. */
    w.idle_ms = UINT64_C(10) * TTL;
    assert_int_equal(jr_sessions_hear(&ss, &w, 1000, 90000), 0);
    assert_int_equal(jr_sessions_find(&ss, 1, 90000)->ends_ms, 90000 + TTL - 1000);
    jr_sessions_tick(&ss, 90000 + TTL);
}

/* The stream went with its server: who holds something says it again, of what is not over. */
static void test_what_the_stream_lost_is_told(void **state)
{
    (void)state;
    struct jr_session_word w = {.session = 5, .worker_id = 7, .idle_ms = TTL};
    struct jr_session_word kept = {.session = 6, .worker_id = 8, .idle_ms = TTL};
    jr_sessions_opened(&ss, 0);
    assert_int_equal(jr_sessions_hear(&ss, &w, 0, 100), 0);
    assert_int_equal(jr_sessions_hear(&ss, &kept, 0, 100), 0);
    w.session = 4;
    w.idle_ms = 50;
    assert_int_equal(jr_sessions_hear(&ss, &w, 0, 100), 0);
    assert_true(silent(100));
    jr_sessions_reread(&ss);
    assert_int_equal(jr_sessions_hear(&ss, &kept, 900, 1000), 0);
    assert_true(silent(1000));
    jr_sessions_opened(&ss, 1000);
    assert_true(told(1000, 5, 7, TTL - 900));
}

/* A word that is over by our clock does not say where it is, though it names the place: ours does. */
static void test_a_word_that_is_over_says_nothing(void **state)
{
    (void)state;
    struct jr_session_word w = {.session = 5, .worker_id = 7, .idle_ms = TTL};
    jr_sessions_opened(&ss, 0);
    assert_int_equal(jr_sessions_hear(&ss, &w, 0, 100), 0);
    jr_sessions_reread(&ss);
    w.idle_ms = 50; /* said by one whose clock is ahead */
    assert_int_equal(jr_sessions_hear(&ss, &w, 60, 1000), 0);
    jr_sessions_opened(&ss, 1000);
    assert_true(told(1000, 5, 7, TTL - 900));
}

/* ---------------------------------------------------------------- the model */

#define M_KEYS  12
#define M_LIVES 64

struct model_session {
    bool bound;
    uint64_t worker;
    uint32_t rank;
    uint64_t ends;
    struct {
        bool under_way;
        uint64_t worker, life;
        uint32_t rank;
    } q[M_LIVES];
};

static uint32_t model_requests(const struct model_session *m)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < M_LIVES; i++)
        n += m->q[i].under_way && m->q[i].life;
    return n;
}

static bool model_bound(const struct model_session *m, uint64_t now)
{
    return m->bound && (model_requests(m) > 0 || m->ends > now);
}

/* Bound elsewhere, or anew: what is under way counts no more. */
static void model_place(struct model_session *m, uint64_t worker, uint32_t rank)
{
    for (uint32_t i = 0; i < M_LIVES; i++)
        m->q[i].life = 0;
    m->bound = true;
    m->worker = worker;
    m->rank = rank;
}

static void model_begin(struct model_session *m, uint64_t key, struct jr_rng *rng, uint64_t now)
{
    uint32_t i = jr_rng_below(rng, M_LIVES), rank = jr_rng_below(rng, 2);
    uint64_t worker = 1 + jr_rng_below(rng, 2), life;
    if (m->q[i].under_way)
        return;
    if (model_bound(m, now) && jr_rng_below(rng, 4)) { /* as a pool does */
        worker = m->worker;
        rank = m->rank;
    }
    assert_int_equal(jr_sessions_begin(&ss, key, worker, rank, now, &life), 0);
    if (!model_bound(m, now) || m->worker != worker || m->rank != rank)
        model_place(m, worker, rank);
    m->q[i].under_way = true;
    m->q[i].life = life;
    m->ends = now + TTL;
}

static void model_end(struct model_session *m, uint64_t key, struct jr_rng *rng, uint64_t now)
{
    uint32_t i = jr_rng_below(rng, M_LIVES);
    if (!m->q[i].under_way)
        return;
    jr_sessions_end(&ss, key, m->q[i].life ? m->q[i].life : UINT64_MAX, now);
    if (m->q[i].life)
        m->ends = now + TTL;
    m->q[i].under_way = false;
    m->q[i].life = 0;
}

static void model_hear(struct model_session *m, uint64_t key, struct jr_rng *rng, uint64_t now)
{
    struct jr_session_word w = {.session = key,
                                .worker_id = 1 + jr_rng_below(rng, 2),
                                .dp_rank = jr_rng_below(rng, 2),
                                .idle_ms = 1 + jr_rng_below(rng, TTL)};
    uint64_t age = jr_rng_below(rng, TTL);
    assert_int_equal(jr_sessions_hear(&ss, &w, age, now), 0);
    if (age >= w.idle_ms)
        return;
    if (!m->bound || m->worker != w.worker_id || m->rank != w.dp_rank) {
        model_place(m, w.worker_id, w.dp_rank);
        m->ends = 0;
    }
    if (m->ends < now + w.idle_ms - age)
        m->ends = now + w.idle_ms - age;
}

static void test_random_use_as_the_model(void **state)
{
    (void)state;
    struct jr_rng rng;
    uint64_t seed = jr_test_seed(), now = 1000;
    static struct model_session m[M_KEYS];
    jr_rng_init(&rng, seed, 3);
    memset(m, 0, sizeof m);
    for (uint32_t i = 0; i < 60000; i++) {
        uint32_t key = jr_rng_below(&rng, M_KEYS), what = jr_rng_below(&rng, 8);
        now += jr_rng_below(&rng, jr_rng_below(&rng, 50) ? 30 : 2 * TTL);
        if (what < 3)
            model_begin(&m[key], key + 1, &rng, now);
        else if (what < 6)
            model_end(&m[key], key + 1, &rng, now);
        else if (what == 6)
            model_hear(&m[key], key + 1, &rng, now);
        else
            jr_sessions_tick(&ss, now);
        for (uint32_t k = 0; k < M_KEYS; k++) {
            const struct jr_session *s = jr_sessions_find(&ss, k + 1, now);
            assert_int_equal(s != NULL, model_bound(&m[k], now));
            if (s)
                assert_true(s->worker_id == m[k].worker && s->dp_rank == m[k].rank &&
                            s->requests == model_requests(&m[k]));
            else
                m[k].bound = false;
        }
        jr_sessions_check(&ss);
    }
}

/* ---------------------------------------------------------------- a fleet */

#define F_TABLES 3
#define F_KEYS   6
#define F_WORDS  100000

static struct fleet {
    struct jr_mem mem;
    struct jr_sessions t[F_TABLES];
    struct {
        struct jr_session_word w;
        uint64_t at;
    } stream[F_WORDS];
    uint32_t n, from;        /* words before `from` were lost with the stream's server */
    uint32_t read[F_TABLES]; /* next word */
    struct {
        struct jr_session_word w[64];
        uint32_t n;
    } out[F_TABLES]; /* on their way, in order */
    uint64_t now;
} f;

static void fleet_tell(uint32_t i)
{
    while (f.out[i].n < 64 && jr_sessions_next_untold(&f.t[i], f.now, &f.out[i].w[f.out[i].n]))
        f.out[i].n++;
}

static void fleet_store(uint32_t i, bool lost)
{
    if (f.out[i].n == 0)
        return;
    struct jr_session_word w = f.out[i].w[0];
    memmove(f.out[i].w, f.out[i].w + 1, --f.out[i].n * sizeof w);
    if (lost) {
        jr_sessions_failed(&f.t[i], w.session, f.now);
        return;
    }
    assert_true(f.n < F_WORDS);
    f.stream[f.n].w = w;
    f.stream[f.n++].at = f.now;
}

/* Of each session the stream has the last word only. */
static bool superseded(uint32_t at)
{
    for (uint32_t i = at + 1; i < f.n; i++)
        if (f.stream[i].w.session == f.stream[at].w.session)
            return true;
    return false;
}

static void fleet_read(uint32_t i, bool live)
{
    if (f.read[i] >= f.n)
        return;
    uint32_t at = f.read[i]++;
    if (at >= f.from && (live || !superseded(at)))
        assert_int_equal(jr_sessions_hear(&f.t[i], &f.stream[at].w, f.now - f.stream[at].at, f.now),
                         0);
}

static void fleet_reopen(uint32_t i)
{
    jr_sessions_reread(&f.t[i]);
    for (f.read[i] = f.from; f.read[i] < f.n;)
        fleet_read(i, false);
    jr_sessions_opened(&f.t[i], f.now);
}

/* A replica that died, with what it had on its way; another comes in its place. */
static void fleet_kill(uint32_t i)
{
    jr_sessions_deinit(&f.t[i]);
    jr_sessions_init(&f.t[i], &f.mem, TTL, 0);
    f.out[i].n = 0;
    fleet_reopen(i);
}

static void fleet_request(struct jr_rng *rng, uint32_t i)
{
    uint64_t key = 1 + jr_rng_below(rng, F_KEYS), worker = 1 + jr_rng_below(rng, 3), life;
    const struct jr_session *s = jr_sessions_find(&f.t[i], key, f.now);
    if (s && jr_rng_below(rng, 10)) /* else its worker cannot take it */
        worker = s->worker_id;
    assert_int_equal(jr_sessions_begin(&f.t[i], key, worker, 0, f.now, &life), 0);
    jr_sessions_end(&f.t[i], key, life, f.now);
}

static void fleet_settle(void)
{
    for (uint32_t round = 0; round < 50; round++) {
        f.now += 10;
        for (uint32_t i = 0; i < F_TABLES; i++) {
            fleet_tell(i);
            while (f.out[i].n)
                fleet_store(i, false);
        }
        for (uint32_t i = 0; i < F_TABLES; i++)
            while (f.read[i] < f.n)
                fleet_read(i, true);
    }
    for (uint32_t i = 0; i < F_TABLES; i++)
        assert_int_equal(jr_sessions_due_ms(&f.t[i]), 0);
}

static void fleet_agrees(void)
{
    for (uint64_t key = 1; key <= F_KEYS; key++) {
        const struct jr_session *a = jr_sessions_find(&f.t[0], key, f.now);
        for (uint32_t i = 1; i < F_TABLES; i++) {
            const struct jr_session *b = jr_sessions_find(&f.t[i], key, f.now);
            if (a && b)
                assert_int_equal(a->worker_id, b->worker_id);
            /* One may believe it over a grain before another does. */
            const struct jr_session *one = a ? a : b;
            if (one && (!a || !b))
                assert_true(one->ends_ms < f.now + 1000);
        }
    }
}

static void fleet_step(struct jr_rng *rng)
{
    uint32_t i = jr_rng_below(rng, F_TABLES), what = jr_rng_below(rng, 200);
    f.now += jr_rng_below(rng, 20);
    if (what < 60)
        fleet_request(rng, i);
    else if (what < 110)
        fleet_tell(i);
    else if (what < 150)
        fleet_store(i, what < 115);
    else if (what < 195)
        fleet_read(i, true);
    else if (what == 195)
        fleet_reopen(i);
    else if (what == 196)
        fleet_kill(i);
    else if (what == 197 && jr_rng_below(rng, 10) == 0) {
        f.from = f.n;
        for (uint32_t k = 0; k < F_TABLES; k++)
            fleet_reopen(k);
    } else
        jr_sessions_tick(&f.t[i], f.now);
}

static void test_all_end_alike(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), n = jr_test_seeds(40);
    for (uint64_t k = 0; k < n; k++) {
        struct jr_rng rng;
        jr_rng_init(&rng, seed + k, 4);
        memset(&f, 0, sizeof f);
        f.now = 100000;
        jr_mem_init(&f.mem);
        for (uint32_t i = 0; i < F_TABLES; i++) {
            jr_sessions_init(&f.t[i], &f.mem, TTL, 0);
            fleet_reopen(i);
        }
        for (uint32_t part = 0; part < 8; part++) {
            for (uint32_t i = 0; i < 1500; i++)
                fleet_step(&rng);
            fleet_settle();
            fleet_agrees();
        }
        for (uint32_t i = 0; i < F_TABLES; i++) {
            jr_sessions_check(&f.t[i]);
            jr_sessions_deinit(&f.t[i]);
        }
        assert_int_equal(f.mem.bytes, 0);
        jr_mem_deinit(&f.mem);
    }
}

/* ---------------------------------------------------------------- memory */

static int use_all(struct jr_mem *m, void *ctx)
{
    (void)ctx;
    struct jr_sessions x;
    uint64_t life;
    const struct jr_session_word w = {.session = 99, .worker_id = 1, .idle_ms = 5};
    jr_sessions_init(&x, m, TTL, 0);
    int err = 0;
    for (uint64_t key = 1; err == 0 && key < 20; key++)
        err = jr_sessions_begin(&x, key, 1, 0, 1, &life);
    if (err == 0)
        err = jr_sessions_hear(&x, &w, 0, 1);
    jr_sessions_check(&x);
    jr_sessions_deinit(&x);
    return err;
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(use_all, NULL) > 20);
}

static void test_a_clock_that_is_off_is_seen(void **state)
{
    (void)state;
    assert_int_equal(jr_sessions_clock_off(0, 0, 60000), 0); /* no word */
    assert_int_equal(jr_sessions_clock_off(60000, 0, 60000), 0);
    assert_int_equal(jr_sessions_clock_off(70000, 10000, 60000), 0);
    assert_int_equal(jr_sessions_clock_off(3600000, 0, 60000), 3540000);
    assert_int_equal(jr_sessions_clock_off(0, 3600000, 60000), -3600000);
    assert_int_equal(jr_sessions_clock_off(3600000, 0, 0), 0); /* kept for ever */
}

static void test_names(void **state)
{
    (void)state;
    static const char a[] = "session-a", b[] = "session-b";
    uint64_t x = jr_session_key(jr_str_of(a, 9)), y = jr_session_key(jr_str_of(b, 9));
    assert_true(x && y && x != y);
    assert_true(x == jr_session_key(jr_str_of("session-a", 9)));
    assert_true(jr_session_key(jr_str_of(a, 0)) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
        T(test_the_ttl_begins_anew_with_each_end),
        T(test_off_there_are_none),
        T(test_bound_elsewhere),
        T(test_the_least_recently_used_goes),
        T(test_what_is_told_and_when),
        T(test_a_long_request_is_told_at_half_of_the_ttl),
        T(test_a_long_request_is_told_behind_one_that_a_peer_tells),
        T(test_a_long_request_is_told_behind_one_that_was_told_later),
        T(test_a_word_that_failed_is_told_again),
        T(test_what_is_heard),
        T(test_what_the_stream_lost_is_told),
        T(test_a_word_that_is_over_says_nothing),
        T(test_random_use_as_the_model),
        T(test_all_end_alike),
        T(test_no_memory),
        T(test_a_clock_that_is_off_is_seen),
        T(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
