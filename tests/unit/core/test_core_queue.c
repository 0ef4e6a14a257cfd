/* SPDX-License-Identifier: Apache-2.0 */
/* queue: order, lanes and cancellation against a naive array. */
#include "core/queue.h"
#include "jr_test.h"

#include "base/rng.h"

#include <string.h>

#define MODEL_MAX 300

struct model {
    struct jr_queue_entry v[MODEL_MAX];
    uint64_t lane[MODEL_MAX];
    uint32_t n;
};

static bool model_before(const struct jr_queue_entry *a, const struct jr_queue_entry *b)
{
    if (a->strict_priority != b->strict_priority)
        return a->strict_priority > b->strict_priority;
    if (a->score != b->score)
        return a->score > b->score;
    return a->arrival < b->arrival;
}

static int model_front(const struct model *m, uint64_t lane)
{
    int best = -1;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->lane[i] == lane && (best < 0 || model_before(&m->v[i], &m->v[best])))
            best = (int)i;
    return best;
}

static void model_remove(struct model *m, uint32_t i)
{
    m->n--;
    m->v[i] = m->v[m->n];
    m->lane[i] = m->lane[m->n];
}

static void check_fronts(const struct jr_queue *q, const struct model *m)
{
    for (uint64_t lane = 0; lane < 4; lane++) {
        int want = model_front(m, lane);
        const struct jr_queue_entry *front = jr_queue_front(q, lane);
        assert_int_equal(want < 0, front == NULL);
        assert_int_equal(want < 0, jr_queue_lane_empty(q, lane));
        if (want >= 0)
            assert_int_equal(front->id, m->v[want].id);
    }
}

static void push_random(struct jr_queue *q, struct model *m, struct jr_rng *rng, uint64_t id)
{
    static int tag;
    struct jr_queue_entry e = {.id = id,
                               .strict_priority = jr_rng_below(rng, 3),
                               .score = jr_rng_below(rng, 20),
                               .request = &tag};
    uint64_t lane = jr_rng_below(rng, 4);
    int err = jr_queue_push(q, lane, &e);
    assert_int_equal(err, m->n == MODEL_MAX ? JR_ELIMIT : 0);
    if (err < 0)
        return;
    e.arrival = q->arrivals - 1;
    m->v[m->n] = e;
    m->lane[m->n++] = lane;
    assert_int_equal(jr_queue_push(q, lane, &e), m->n == MODEL_MAX ? JR_ELIMIT : JR_EEXIST);
}

static void test_against_model(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 7);
    struct jr_mem mem;
    jr_mem_init(&mem);
    struct jr_queue q;
    jr_queue_init(&q, &mem, MODEL_MAX);
    static struct model m;
    m.n = 0;
    for (uint64_t i = 1; i <= 20000; i++) {
        uint32_t what = jr_rng_below(&rng, 10);
        if (what < (i % 4000 < 2000 ? 6u : 3u)) {
            push_random(&q, &m, &rng, i);
        } else if (m.n > 0) {
            int at =
                what < 9 ? model_front(&m, jr_rng_below(&rng, 4)) : (int)jr_rng_below(&rng, m.n);
            if (at < 0)
                continue;
            assert_non_null(jr_queue_remove(&q, m.v[at].id));
            assert_null(jr_queue_remove(&q, m.v[at].id));
            model_remove(&m, (uint32_t)at);
        }
        assert_int_equal(q.n, m.n);
        check_fronts(&q, &m);
        if (i % 64 == 0)
            jr_queue_check(&q);
    }
    jr_queue_deinit(&q, NULL, NULL);
    jr_mem_deinit(&mem);
}

static void test_policies(void **state)
{
    (void)state;
    /* First come first served: the earlier arrival wins, a jump of 5 s passes one 3 s older. */
    assert_true(jr_queue_score(JR_QUEUE_FCFS, 0, 1, 0) > jr_queue_score(JR_QUEUE_FCFS, 0, 2, 0));
    assert_true(jr_queue_score(JR_QUEUE_FCFS, 5, 4, 0) > jr_queue_score(JR_QUEUE_FCFS, 0, 1, 0));
    assert_true(jr_queue_score(JR_QUEUE_FCFS, -9, 1, 0) == jr_queue_score(JR_QUEUE_FCFS, 0, 1, 0));
    /* Shortest weighted work first: (1 + 0) / 100 > (1 + 2) / 400. */
    assert_true(jr_queue_score(JR_QUEUE_WSPT, 0, 9, 100) >
                jr_queue_score(JR_QUEUE_WSPT, 2, 1, 400));
    assert_true(jr_queue_score(JR_QUEUE_WSPT, 0, 0, 0) == 1);
    assert_true(jr_queue_score(JR_QUEUE_LCFS, 0, 2, 0) > jr_queue_score(JR_QUEUE_LCFS, 0, 1, 0));
}

/* Two of one millisecond have one score. */
static void test_equal_ones_go_by_arrival(void **state)
{
    (void)state;
    for (int newest = 0; newest < 2; newest++) {
        struct jr_mem mem;
        struct jr_queue q;
        jr_mem_init(&mem);
        jr_queue_init(&q, &mem, 10);
        for (uint64_t id = 1; id <= 3; id++)
            assert_int_equal(
                jr_queue_push(&q, 0, &(struct jr_queue_entry){.id = id, .newest_first = newest}),
                0);
        for (uint64_t i = 1; i <= 3; i++) {
            uint64_t id = jr_queue_front(&q, 0)->id;
            assert_int_equal(id, newest ? 4 - i : i);
            (void)jr_queue_remove(&q, id);
        }
        jr_queue_deinit(&q, NULL, NULL);
        jr_mem_deinit(&mem);
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (int64_t fail = 0; fail < 40; fail++) {
        struct jr_mem mem;
        jr_mem_init(&mem);
        struct jr_queue q;
        jr_queue_init(&q, &mem, 100);
        mem.fail_after = fail;
        for (uint64_t id = 1; id <= 30; id++) {
            struct jr_queue_entry e = {.id = id, .score = (double)(id % 7)};
            int err = jr_queue_push(&q, id % 3, &e);
            assert_true(err == 0 || err == JR_ENOMEM);
            jr_queue_check(&q);
        }
        jr_queue_deinit(&q, NULL, NULL);
        jr_mem_deinit(&mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_equal_ones_go_by_arrival),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
