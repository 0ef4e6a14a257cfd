/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's queue under random traffic against a naive model: nothing is lost, nobody waits who
 * need not, none passes another of its lane, the order is the policy's, and all loads return to
 * zero. */
#include "base/rng.h"
#include "core_pool.h"

static struct fix fx;

#define M_WORKERS 3
#define M_RANKS   2
#define M_CAP     100

struct model_request {
    bool waiting, prefilling;
    struct jr_route r;
    uint64_t excluded; /* bit mask of worker ids */
    double score;
    uint32_t tokens;
    uint64_t worker;
    uint32_t rank;
    uint64_t arrival;
};

struct model {
    struct model_request q[IDS];
    bool down[M_WORKERS + 1];
    uint64_t tokens[M_WORKERS + 1][M_RANKS];
    enum jr_queue_policy policy;
    uint64_t next;
};

static struct model md;
static const char *const names[M_WORKERS + 1] = {"", "m", "n", ""}; /* the last has not said */

static bool model_may(const struct model_request *q, uint64_t w, uint32_t rank)
{
    const struct jr_route *r = &q->r;
    if (md.down[w] || (r->has_pin && r->pin_worker != w) ||
        (r->has_pin && r->has_pin_rank && r->pin_rank != rank))
        return false;
    return (r->model == 0 || !names[w][0] || r->model == jr_pool_model_id(names[w])) &&
           !(q->excluded >> w & 1);
}

static void model_look(const struct model_request *q, uint32_t *ret_eligible, uint32_t *ret_room)
{
    *ret_eligible = *ret_room = 0;
    for (uint64_t w = 1; w <= M_WORKERS; w++)
        for (uint32_t k = 0; k < M_RANKS; k++)
            if (model_may(q, w, k)) {
                (*ret_eligible)++;
                *ret_room += md.tokens[w][k] <= M_CAP;
            }
}

static bool same_lane(const struct model_request *a, const struct model_request *b)
{
    return a->r.has_pin == b->r.has_pin && a->r.pin_worker == b->r.pin_worker &&
           a->r.has_pin_rank == b->r.has_pin_rank && a->r.pin_rank == b->r.pin_rank &&
           a->r.model == b->r.model && a->excluded == b->excluded;
}

static bool goes_first(const struct model_request *a, const struct model_request *b)
{
    if (a->r.strict_priority != b->r.strict_priority)
        return a->r.strict_priority > b->r.strict_priority;
    if (fabs(a->score - b->score) > 1e-12)
        return a->score > b->score;
    return md.policy == JR_QUEUE_LCFS ? a->arrival > b->arrival : a->arrival < b->arrival;
}

/* Answers of the step, in their order. */
static void model_answers(struct fix *f, uint64_t arrived)
{
    for (uint32_t i = 0; i < f->acts.n; i++) {
        const struct jr_action *a = &f->acts.v[i];
        if (a->type != JR_ACT_DECIDE && a->type != JR_ACT_REJECT)
            continue;
        uint64_t id = a->type == JR_ACT_DECIDE ? a->u.decide.id : a->u.reject.id;
        struct model_request *q = &md.q[id];
        uint32_t eligible, room;
        assert_true(q->waiting);
        q->waiting = false;
        model_look(q, &eligible, &room);
        if (a->type == JR_ACT_REJECT) {
            assert_int_equal(eligible, 0);
            continue;
        }
        assert_true(room > 0);
        assert_int_equal(a->u.decide.waited, id != arrived);
        for (uint64_t k = 1; k < md.next; k++)
            if (md.q[k].waiting && same_lane(&md.q[k], q))
                assert_true(id != arrived && goes_first(q, &md.q[k]));
        q->prefilling = true;
        q->worker = a->u.decide.worker_id;
        q->rank = a->u.decide.dp_rank;
        assert_true(model_may(q, q->worker, q->rank));
        md.tokens[q->worker][q->rank] += q->tokens;
    }
}

/* Nobody waits who need not, and the pool knows of all who do. */
static void model_settled(struct fix *f)
{
    uint32_t n = 0;
    for (uint64_t k = 1; k < md.next; k++) {
        uint32_t eligible, room;
        if (!md.q[k].waiting)
            continue;
        n++;
        model_look(&md.q[k], &eligible, &room);
        assert_true(eligible > 0 && room == 0);
    }
    assert_int_equal(view(f).queue.waiting, n);
}

static void model_arrive(struct fix *f, struct jr_rng *rng)
{
    struct model_request *q = &md.q[md.next];
    *q = (struct model_request){.waiting = true, .arrival = md.next};
    struct jr_route *r = &q->r;
    r->id = md.next++;
    r->tokens = q->tokens = 1 + jr_rng_below(rng, 80);
    r->strict_priority = jr_rng_below(rng, 4) == 0;
    r->priority_jump_s = jr_rng_below(rng, 3) ? 0 : (double)jr_rng_below(rng, 3) / 64;
    uint32_t kind = jr_rng_below(rng, 6);
    r->has_pin = kind == 0 || kind == 1;
    r->pin_worker = r->has_pin ? 1 + jr_rng_below(rng, M_WORKERS) : 0;
    r->has_pin_rank = kind == 0;
    r->pin_rank = r->has_pin_rank ? jr_rng_below(rng, M_RANKS) : 0;
    uint64_t ids[1] = {1 + jr_rng_below(rng, M_WORKERS)};
    r->model = kind == 2 ? jr_pool_model_id(names[1 + jr_rng_below(rng, 2)]) : 0;
    r->exclude = kind == 3 ? ids : NULL;
    r->n_exclude = kind == 3;
    q->excluded = kind == 3 ? UINT64_C(1) << ids[0] : 0;
    q->score =
        jr_queue_score(md.policy, r->priority_jump_s, (double)(f->now_ms + 1) / 1000, r->tokens);
    struct jr_event ev = {.type = JR_EV_ROUTE, .u.route = *r};
    step(f, &ev);
    model_answers(f, r->id);
    r->exclude = NULL;
}

static void model_end(struct fix *f, uint64_t id, bool finish)
{
    struct model_request *q = &md.q[id];
    if (q->prefilling)
        md.tokens[q->worker][q->rank] -= q->tokens;
    q->prefilling = false;
    if (finish)
        q->waiting = false;
    request(f, finish ? JR_EV_FINISH : JR_EV_FIRST_TOKEN, id, 0);
    model_answers(f, 0);
}

static void model_run(uint64_t seed)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 1);
    memset(&md, 0, sizeof md);
    md.next = 1;
    md.policy = (enum jr_queue_policy)jr_rng_below(&rng, 3);
    struct jr_pool_config c = base_config();
    c.queue_policy = md.policy;
    open_pool(&fx, &c);
    for (uint64_t w = 1; w <= M_WORKERS; w++)
        add_worker_of(&fx, names[w], w, M_RANKS, M_CAP, 0);
    for (int i = 0; i < 600; i++) {
        uint32_t what = jr_rng_below(&rng, 100);
        uint64_t recent = md.next > 60 ? md.next - 60 : 1;
        uint64_t id = recent + jr_rng_below(&rng, (uint32_t)(md.next - recent) + 1);
        uint64_t w = 1 + jr_rng_below(&rng, M_WORKERS);
        if (what < 45 || md.next == 1) {
            model_arrive(&fx, &rng);
        } else if (what < 94) {
            if (id < md.next)
                model_end(&fx, id, what < 70);
        } else if (what < 98) {
            md.down[w] = !md.down[w];
            probed(&fx, w, !md.down[w]);
            model_answers(&fx, 0);
        } else {
            tick_after(&fx, 100);
            model_answers(&fx, 0);
        }
        model_settled(&fx);
    }
    for (uint64_t id = 1; id < md.next; id++)
        model_end(&fx, id, true);
    for (uint64_t w = 1; w <= M_WORKERS; w++)
        for (uint32_t k = 0; k < M_RANKS; k++)
            assert_int_equal(md.tokens[w][k], 0);
    for (uint64_t w = 1; w <= M_WORKERS; w++)
        assert_int_equal(load_of(&fx, w, NULL), 0);
    assert_int_equal(jr_active_requests(fx.pool->active), 0);
    assert_int_equal(view(&fx).queue.waiting, 0);
    assert_int_equal(view(&fx).queue.waiting_tokens, 0);
    jr_active_check(fx.pool->active);
    close_pool(&fx);
}

static void test_model(void **state)
{
    (void)state;
    uint64_t seed = jr_test_seed(), seeds = jr_test_seeds(40);
    for (uint64_t i = 0; i < seeds; i++)
        model_run(seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
