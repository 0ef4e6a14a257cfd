/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions in a pool: where their requests go, what the pool tells, and what a second one does of it. */
#include "core_pool.h"

#define TTL 60000
#define S   UINT64_C(77)

static struct fix fx;

static struct jr_pool_config config(void)
{
    struct jr_pool_config c = base_config();
    c.has_queue_threshold = false;
    c.session_ttl_ms = TTL;
    return c;
}

static void open_with(const struct jr_pool_config *c, uint32_t workers)
{
    open_pool(&fx, c);
    for (uint64_t id = 1; id <= workers; id++)
        add_worker(&fx, id, 2, 100, 0);
}

static uint64_t ask_in(uint64_t session, uint64_t id, uint32_t tokens)
{
    route(&fx, (struct jr_route){.id = id, .tokens = tokens, .session = session});
    return fx.a[id].decided ? fx.a[id].worker : 0;
}

static void test_requests_of_a_session_go_together(void **state)
{
    (void)state;
    const enum jr_router_mode modes[] = {JR_MODE_KV, JR_MODE_ROUND_ROBIN, JR_MODE_RANDOM,
                                         JR_MODE_LEAST_LOADED, JR_MODE_POWER_OF_TWO};
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        struct jr_pool_config c = config();
        c.mode = modes[m];
        open_with(&c, 3);
        uint64_t first = ask_in(S, 1, 500);
        uint32_t rank = fx.a[1].rank, elsewhere = 0;
        for (uint64_t id = 2; id < 30; id++) {
            assert_int_equal(ask_in(S, id, 500), first);
            assert_int_equal(fx.a[id].rank, rank);
            elsewhere += ask_in(0, id + 100, 1) != first;
        }
        assert_true(elsewhere > 0);
        for (uint64_t id = 1; id < 30; id++)
            request(&fx, JR_EV_FINISH, id, 0);
        tick_after(&fx, TTL - 2000);
        assert_int_equal(ask_in(S, 200, 1), first);
        request(&fx, JR_EV_FINISH, 200, 0);
        assert_int_equal(view(&fx).sessions.n, 1);
        tick_after(&fx, TTL + 1);
        assert_int_equal(view(&fx).sessions.n, 0);
        assert_int_equal(view(&fx).sessions.counters.honoured, 29);
        jr_sessions_check(&fx.pool->sessions);
        close_pool(&fx);
    }
}

static void test_without_a_ttl_nothing_is_bound(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    c.session_ttl_ms = 0;
    open_with(&c, 2);
    (void)ask_in(S, 1, 50000);
    (void)ask_in(S, 2, 1);
    assert_false(fx.a[1].worker == fx.a[2].worker && fx.a[1].rank == fx.a[2].rank);
    assert_int_equal(view(&fx).sessions.n, 0);
    close_pool(&fx);
}

/* A worker that is gone, or failed this request, or is above a busy threshold: bound anew, and there it
 * stays. */
static void test_bound_anew_when_its_worker_cannot_take_it(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct jr_pool_config c = config();
        c.busy.has_prefill_tokens = how == 2;
        c.busy.prefill_tokens = 1000;
        open_with(&c, 2);
        uint64_t first = ask_in(S, 1, how == 2 ? 2000 : 10), other = 3 - first;
        uint64_t exclude[] = {first};
        if (how == 0)
            probed(&fx, first, false);
        if (how == 2) /* both ranks are */
            route(&fx, (struct jr_route){.id = 9,
                                         .tokens = 2000,
                                         .has_pin = true,
                                         .pin_worker = first,
                                         .has_pin_rank = true,
                                         .pin_rank = 1 - fx.a[1].rank});
        route(&fx, (struct jr_route){.id = 2,
                                     .tokens = 10,
                                     .session = S,
                                     .exclude = how == 1 ? exclude : NULL,
                                     .n_exclude = how == 1});
        assert_int_equal(fx.a[2].worker, other);
        if (how == 0)
            probed(&fx, first, true);
        request(&fx, JR_EV_FINISH, 1, 0); /* of its former place */
        request(&fx, JR_EV_FINISH, 9, 0);
        assert_int_equal(ask_in(S, 3, 10), other);
        assert_int_equal(view(&fx).sessions.counters.moved, 1);
        close_pool(&fx);
    }
}

static void test_nobody_can_take_it(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_with(&c, 1);
    assert_int_equal(ask_in(S, 1, 10), 1);
    probed(&fx, 1, false);
    assert_int_equal(ask_in(S, 2, 10), 0);
    assert_int_equal(fx.a[2].err, JR_ENOWORKER);
    probed(&fx, 1, true);
    assert_int_equal(ask_in(S, 3, 10), 1);
    close_pool(&fx);
}

static void ask_both(uint64_t id, uint64_t worker, bool has_rank, uint32_t rank)
{
    route(&fx, (struct jr_route){.id = id,
                                 .tokens = 10,
                                 .session = S,
                                 .has_pin = true,
                                 .pin_worker = worker,
                                 .has_pin_rank = has_rank,
                                 .pin_rank = rank});
}

static void test_a_pin_of_its_own_must_agree(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_with(&c, 3);
    ask_both(1, 2, true, 1);
    assert_true(fx.a[1].decided && fx.a[1].worker == 2 && fx.a[1].rank == 1);
    assert_int_equal(ask_in(S, 2, 9999), 2);
    assert_int_equal(fx.a[2].rank, 1);
    ask_both(3, 2, false, 0); /* takes the rank it is bound to */
    assert_true(fx.a[3].decided && fx.a[3].rank == 1);
    ask_both(4, 2, true, 0);
    assert_true(fx.a[4].rejected && fx.a[4].err == JR_EINVAL);
    assert_string_equal(fx.a[4].why, "the session is bound to the rank 1, not 0");
    ask_both(5, 3, false, 0);
    assert_true(fx.a[5].rejected && fx.a[5].err == JR_EINVAL);
    assert_string_equal(fx.a[5].why, "the session is bound to the worker 2, not 3");
    probed(&fx, 2, false);
    ask_both(6, 3, false, 0);
    assert_true(fx.a[6].decided && fx.a[6].worker == 3);
    assert_int_equal(ask_in(S, 7, 9999), 3);
    close_pool(&fx);
}

static void test_a_question_binds_nothing(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_with(&c, 2);
    route(&fx, (struct jr_route){.id = 1, .tokens = 10, .session = S, .query_only = true});
    assert_int_equal(view(&fx).sessions.n, 0);
    uint64_t first = ask_in(S, 2, 50000);
    route(&fx, (struct jr_route){.id = 3, .tokens = 10, .session = S, .query_only = true});
    assert_int_equal(fx.a[3].worker, first); /* and is told where it is bound */
    close_pool(&fx);
}

/* One that is admitted twice ends once. */
static void test_admitted_twice_counts_once(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 100, 0);
    for (int i = 0; i < 2; i++) {
        fx.a[1] = (struct answer){0};
        assert_int_equal(ask_in(S, 1, 10), 1);
    }
    request(&fx, JR_EV_FINISH, 1, 0);
    tick_after(&fx, TTL + 1);
    assert_int_equal(view(&fx).sessions.n, 0);
    close_pool(&fx);
}

/* Nor does one that is admitted again with another prompt leave a use of its session behind. */
static void test_admitted_twice_with_another_prompt(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 100, 0);
    for (uint64_t prompt = 5; prompt < 7; prompt++) {
        fx.a[1] = (struct answer){0};
        route(&fx, (struct jr_route){
                       .id = 1, .tokens = 20, .session = S, .prefix = &prompt, .n_prefix = 1});
        assert_int_equal(fx.a[1].worker, 1);
    }
    request(&fx, JR_EV_FINISH, 1, 0);
    tick_after(&fx, TTL + 1);
    assert_int_equal(view(&fx).sessions.n, 0);
    close_pool(&fx);
}

static void test_each_model_has_its_own(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_pool(&fx, &c);
    add_worker_of(&fx, "m", 1, 1, 100, 0);
    add_worker_of(&fx, "n", 2, 1, 100, 0);
    for (uint64_t id = 1; id < 9; id++) {
        const char *model = id % 2 ? "m" : "n";
        route(&fx, (struct jr_route){
                       .id = id, .tokens = 9, .session = S, .model = jr_pool_model_id(model)});
        assert_int_equal(fx.a[id].worker, id % 2 ? 1 : 2);
    }
    assert_int_equal(view(&fx).sessions.n, 2);
    assert_int_equal(view(&fx).sessions.counters.moved, 0);
    close_pool(&fx);
}

/* ---------------------------------------------------------------- the queue */

/* Two workers of a rank each, and a queue before them. */
static void open_queued(void)
{
    struct jr_pool_config c = config();
    c.has_queue_threshold = true;
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 100, 0);
    add_worker(&fx, 2, 1, 100, 0);
}

static void test_it_waits_for_its_worker(void **state)
{
    (void)state;
    open_queued();
    uint64_t first = ask_in(S, 1, 101);
    assert_int_equal(ask_in(S, 2, 5), 0);
    assert_true(waits(&fx, 2));
    assert_int_not_equal(ask_in(0, 3, 5), first); /* the others have room */
    request(&fx, JR_EV_FIRST_TOKEN, 1, 0);
    assert_true(fx.a[2].decided && fx.a[2].waited && fx.a[2].worker == first);
    close_pool(&fx);
}

static void test_its_worker_leaves_while_it_waits(void **state)
{
    (void)state;
    open_queued();
    uint64_t first = ask_in(S, 1, 101);
    (void)ask_in(S, 2, 5);
    assert_true(waits(&fx, 2));
    probed(&fx, first, false);
    assert_true(fx.a[2].decided && fx.a[2].worker == 3 - first);
    assert_int_equal(ask_in(S, 3, 1), 3 - first);
    close_pool(&fx);
}

/* Requests of n sessions of worker 1 wait, it goes, and worker 2 is full: how many went there. */
static uint32_t gone_to_the_full_one(uint32_t n)
{
    uint32_t gone = 0;
    for (uint32_t i = 0; i < n; i++) {
        route(&fx,
              (struct jr_route){
                  .id = 1 + i, .tokens = 1, .session = S + i, .has_pin = true, .pin_worker = 1});
        request(&fx, JR_EV_FINISH, 1 + i, 0);
    }
    ask_pinned(&fx, 1001, 500, 1);
    ask_pinned(&fx, 1002, 500, 2);
    for (uint32_t i = 0; i < n; i++)
        (void)ask_in(S + i, 2001 + i, 90);
    assert_int_equal(view(&fx).queue.waiting, n);
    probed(&fx, 1, false);
    for (uint32_t i = 0; i < n; i++)
        gone += fx.a[2001 + i].decided || fx.a[2001 + i].rejected;
    assert_int_equal(view(&fx).queue.waiting, n - gone);
    return gone;
}

/* They wait for the others as all do, with one class and with a policy, and go in their order. */
static void test_their_worker_leaves_and_the_others_are_full(void **state)
{
    (void)state;
    for (int with_policy = 0; with_policy < 2; with_policy++) {
        static struct jr_policy_profile profile;
        const struct jr_policy_room room = {.has_frac = true, .frac = 1};
        struct jr_policy policy = {.n = 1, .profiles = &profile};
        struct jr_pool_config c = config();
        c.has_queue_threshold = true;
        jr_policy_plain(&profile, JR_QUEUE_FCFS, &room);
        c.policy = with_policy ? &policy : NULL;
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 100, 0);
        add_worker(&fx, 2, 1, 100, 0);
        assert_int_equal(gone_to_the_full_one(50), 0);
        ask(&fx, 3000, 90); /* later than they */
        request(&fx, JR_EV_FINISH, 1002, 0);
        assert_true(fx.a[2001].worker == 2 && fx.a[2002].worker == 2);
        assert_true(waits(&fx, 2003) && waits(&fx, 3000));
        for (uint64_t id = 2001; id <= 2048; id++) { /* two have room at a time */
            request(&fx, JR_EV_FINISH, id, 0);
            assert_true(fx.a[id + 2].decided && waits(&fx, 3000));
        }
        request(&fx, JR_EV_FINISH, 2049, 0);
        assert_true(fx.a[3000].decided);
        assert_int_equal(view(&fx).queue.waiting, 0);
        close_pool(&fx);
    }
}

/* Nor when a peer has bound it meanwhile to one that is full. */
static void test_bound_to_a_full_one_while_its_worker_leaves(void **state)
{
    (void)state;
    open_queued();
    uint64_t first = ask_in(S, 1, 500);
    ask_pinned(&fx, 2, 500, 3 - first);
    (void)ask_in(S, 3, 5);
    struct jr_event ev = {.type = JR_EV_SESSION};
    ev.u.session.word = (struct jr_session_word){
        .session = S, .worker_id = 3 - first, .dp_rank = 0, .idle_ms = TTL};
    step(&fx, &ev);
    assert_true(waits(&fx, 3));
    probed(&fx, first, false);
    assert_true(waits(&fx, 3));
    request(&fx, JR_EV_FINISH, 2, 0);
    assert_true(fx.a[3].decided && fx.a[3].worker == 3 - first);
    close_pool(&fx);
}

/* Its worker leaves, and the others are above a busy threshold: it waits for them, as all do that waited
 * when they became busy. */
static void test_their_worker_leaves_and_the_others_are_busy(void **state)
{
    (void)state;
    open_queued();
    uint64_t first = ask_in(S, 1, 101);
    ask_pinned(&fx, 2, 101, 3 - first);
    (void)ask_in(S, 3, 5);
    assert_true(waits(&fx, 3));
    struct jr_event ev = {.type = JR_EV_BUSY};
    ev.u.busy.model = jr_pool_model_id("m");
    ev.u.busy.own = true;
    ev.u.busy.limits = (struct jr_busy_limits){.has_prefill_tokens = true, .prefill_tokens = 20};
    step(&fx, &ev);
    assert_true(waits(&fx, 3));
    probed(&fx, first, false);
    assert_true(waits(&fx, 3) && !fx.a[3].rejected);
    request(&fx, JR_EV_FINISH, 2, 0);
    assert_true(fx.a[3].decided && fx.a[3].worker == 3 - first);
    close_pool(&fx);
}

/* Two that waited unbound: the second goes where the first was bound, which has far more to do. */
static void test_bound_while_it_waits(void **state)
{
    (void)state;
    for (uint64_t session = 0; session <= S; session += S) {
        struct jr_pool_config c = config();
        c.has_queue_threshold = true;
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 100, 0);
        add_worker(&fx, 2, 1, 100, 0);
        ask(&fx, 1, 101);
        ask(&fx, 2, 101);
        (void)ask_in(session, 3, 500000);
        (void)ask_in(session, 4, 5);
        assert_true(waits(&fx, 3) && waits(&fx, 4));
        request(&fx, JR_EV_FIRST_TOKEN, 1, 0);
        request(&fx, JR_EV_FIRST_TOKEN, 2, 0);
        assert_true(fx.a[3].decided && fx.a[4].decided);
        assert_int_equal(fx.a[4].worker == fx.a[3].worker, session == S);
        close_pool(&fx);
    }
}

/* ---------------------------------------------------------------- two pools */

struct pair {
    struct jr_pool *pool[2];
    struct jr_actions acts[2];
    uint64_t now_ms, next_id;
};

static struct pair pr;

static void pair_step(int i, struct jr_event *ev)
{
    ev->now_ms = pr.now_ms;
    ev->unix_ns = 1;
    assert_int_equal(jr_pool_step(pr.pool[i], ev, &pr.acts[i]), 0);
    for (uint32_t k = 0; k < pr.acts[i].n; k++) {
        const struct jr_action *a = &pr.acts[i].v[k];
        if (a->type != JR_ACT_TELL_SESSION)
            continue;
        struct jr_event heard = {.type = JR_EV_SESSION};
        heard.u.session.word = a->u.session;
        for (int to = 0; to < 2; to++) {
            if (to == i)
                continue;
            pair_step(to, &heard); /* nothing told of what was heard: ends */
        }
    }
}

static void pair_workers(void)
{
    for (int i = 0; i < 2; i++) {
        struct jr_worker_lease l[2] = {lease_of(1, 1, 100, 0), lease_of(2, 1, 100, 0)};
        struct jr_event ev = {.type = JR_EV_MEMBERS};
        ev.u.members.workers = l;
        ev.u.members.n_workers = 2;
        ev.u.members.is_static = true;
        pair_step(i, &ev);
        ev = (struct jr_event){.type = JR_EV_SESSIONS_OPENED};
        pair_step(i, &ev);
    }
}

static uint64_t pair_ask(int i, uint64_t session)
{
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = (struct jr_route){.id = ++pr.next_id, .tokens = 500, .session = session};
    pair_step(i, &ev);
    for (uint32_t k = 0; k < pr.acts[i].n; k++)
        if (pr.acts[i].v[k].type == JR_ACT_DECIDE)
            return pr.acts[i].v[k].u.decide.worker_id;
    fail();
    return 0;
}

static void pair_finish(int i, uint64_t id)
{
    struct jr_event ev = {.type = JR_EV_FINISH};
    ev.u.request.id = id;
    pair_step(i, &ev);
}

static void pair_open(void)
{
    struct jr_pool_config c = config();
    memset(&pr, 0, sizeof pr);
    pr.now_ms = 1000;
    for (int i = 0; i < 2; i++)
        assert_int_equal(jr_pool_create(&c, NULL, &pr.pool[i]), 0);
    pair_workers();
}

static void pair_close(void)
{
    for (int i = 0; i < 2; i++) {
        jr_actions_deinit(&pr.acts[i], pr.pool[i]);
        jr_pool_destroy(pr.pool[i]);
    }
}

static void test_any_replica_honours_it(void **state)
{
    (void)state;
    pair_open();
    for (uint64_t s = 1; s <= 40; s++) {
        uint64_t worker = pair_ask((int)(s % 2), s), id = pr.next_id;
        for (int k = 0; k < 6; k++)
            assert_int_equal(pair_ask(k % 2, s), worker);
        pair_finish((int)(s % 2), id);
    }
    for (int i = 0; i < 2; i++) {
        struct jr_pool_view v;
        jr_pool_view(pr.pool[i], &v);
        assert_int_equal(v.sessions.n, 40);
        assert_int_equal(v.sessions.counters.moved, 0);
    }
    pair_close();
}

/* What was used at one is not over at the other, and both forget it. */
static void test_its_end_is_that_of_its_last_use_anywhere(void **state)
{
    (void)state;
    pair_open();
    uint64_t worker = pair_ask(0, S);
    pair_finish(0, pr.next_id);
    for (int k = 0; k < 5; k++) {
        pr.now_ms += TTL - 5000;
        struct jr_event tick = {.type = JR_EV_TICK};
        pair_step(0, &tick);
        pair_step(1, &tick);
        assert_int_equal(pair_ask(1, S), worker);
        pair_finish(1, pr.next_id);
    }
    const struct jr_session *s = jr_sessions_find(&pr.pool[0]->sessions, S, pr.now_ms);
    assert_true(s && s->ends_ms == pr.now_ms + TTL);
    pr.now_ms += TTL + 1;
    for (int i = 0; i < 2; i++)
        assert_null(jr_sessions_find(&pr.pool[i]->sessions, S, pr.now_ms));
    pair_close();
}

/* ---------------------------------------------------------------- a burst */

static uint32_t words_told(const struct jr_actions *acts)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < acts->n; i++)
        n += acts->v[i].type == JR_ACT_TELL_SESSION;
    return n;
}

/* The steps stay short, and the next one is asked for at once. */
static void test_many_words_are_told_in_parts(void **state)
{
    (void)state;
    struct jr_pool_config c = config();
    open_with(&c, 2);
    for (uint64_t s = 1; s <= 700; s++)
        (void)ask_in(s, s, 1);
    struct jr_event opened = {.type = JR_EV_SESSIONS_OPENED};
    step(&fx, &opened);
    uint32_t n = words_told(&fx.acts), steps = 1;
    assert_true(n > 0 && n < 700);
    while (n < 700) {
        assert_true(jr_pool_deadline_ms(fx.pool) <= fx.now_ms + 1);
        tick_after(&fx, 0);
        assert_true(words_told(&fx.acts) > 0);
        n += words_told(&fx.acts);
        steps++;
    }
    assert_true(steps <= 4);
    assert_int_equal(n, 700);
    tick_after(&fx, 0);
    assert_int_equal(words_told(&fx.acts), 0);
    close_pool(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_of_a_session_go_together),
        cmocka_unit_test(test_without_a_ttl_nothing_is_bound),
        cmocka_unit_test(test_bound_anew_when_its_worker_cannot_take_it),
        cmocka_unit_test(test_nobody_can_take_it),
        cmocka_unit_test(test_a_pin_of_its_own_must_agree),
        cmocka_unit_test(test_a_question_binds_nothing),
        cmocka_unit_test(test_admitted_twice_counts_once),
        cmocka_unit_test(test_admitted_twice_with_another_prompt),
        cmocka_unit_test(test_their_worker_leaves_and_the_others_are_busy),
        cmocka_unit_test(test_each_model_has_its_own),
        cmocka_unit_test(test_it_waits_for_its_worker),
        cmocka_unit_test(test_its_worker_leaves_while_it_waits),
        cmocka_unit_test(test_their_worker_leaves_and_the_others_are_full),
        cmocka_unit_test(test_bound_to_a_full_one_while_its_worker_leaves),
        cmocka_unit_test(test_bound_while_it_waits),
        cmocka_unit_test(test_any_replica_honours_it),
        cmocka_unit_test(test_its_end_is_that_of_its_last_use_anywhere),
        cmocka_unit_test(test_many_words_are_told_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
