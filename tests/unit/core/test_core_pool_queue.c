/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's queue, thresholds and options of the load: each rule alone. */
#include "core_pool.h"

static struct fix fx;

/* ---------------------------------------------------------------- when a request waits */

static void test_waits_while_all_are_full(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 100, 0);
    add_worker(&fx, 2, 1, 100, 0);
    ask(&fx, 1, 101);
    ask(&fx, 2, 101);
    assert_true(fx.a[1].decided && fx.a[2].decided);
    assert_int_not_equal(fx.a[1].worker, fx.a[2].worker);
    ask(&fx, 3, 5);
    ask(&fx, 4, 5);
    assert_true(waits(&fx, 3) && waits(&fx, 4));
    assert_int_equal(view(&fx).queue.waiting, 2);
    assert_int_equal(view(&fx).queue.waiting_tokens, 10);
    request(&fx, JR_EV_FIRST_TOKEN, 2, 0);
    assert_true(fx.a[3].decided && fx.a[3].waited && fx.a[4].decided);
    assert_int_equal(view(&fx).queue.waiting, 0);
    assert_int_equal(view(&fx).counters.queued, 2);
    close_pool(&fx);
}

/* At the threshold is not above it, and 0 waits for idle workers only. */
static void test_the_threshold_is_strict(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 100, 0);
    ask(&fx, 1, 100);
    ask(&fx, 2, 1);
    assert_true(fx.a[1].decided && fx.a[2].decided);
    ask(&fx, 3, 1);
    assert_true(waits(&fx, 3));
    close_pool(&fx);

    c.queue_threshold = 0;
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 100, 0);
    ask(&fx, 1, 1);
    ask(&fx, 2, 1);
    assert_true(fx.a[1].decided && waits(&fx, 2));
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_true(fx.a[2].decided);
    close_pool(&fx);
}

static void test_no_threshold_no_queue(void **state)
{
    (void)state;
    const double off[] = {NAN, -1};
    for (int i = 0; i < 4; i++) {
        struct jr_pool_config c = base_config();
        c.has_queue_threshold = i < 3;
        c.queue_threshold = i < 2 ? off[i] : 0;
        if (i == 2)
            c.mode = JR_MODE_ROUND_ROBIN;
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 10, 0);
        for (uint64_t id = 1; id < 9; id++)
            ask(&fx, id, 100);
        assert_true(fx.a[8].decided && !view(&fx).queue.on);
        close_pool(&fx);
    }
}

/* A worker that does not say its capacity has Dynamo's ten million tokens. */
static void test_unknown_capacity(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 0, 0);
    ask(&fx, 1, 4000000);
    ask(&fx, 2, 4000000);
    ask(&fx, 3, 4000000);
    assert_true(fx.a[3].decided);
    ask(&fx, 4, 1);
    assert_true(waits(&fx, 4));
    close_pool(&fx);
}

static void test_a_query_does_not_wait(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    ask(&fx, 1, 100);
    route(&fx, (struct jr_route){.id = 2, .tokens = 5, .query_only = true});
    assert_true(fx.a[2].decided && !fx.a[2].waited);
    close_pool(&fx);
}

/* ---------------------------------------------------------------- what ends the waiting */

static void test_cancelled_ones_leave(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    ask(&fx, 1, 100);
    ask(&fx, 2, 100);
    ask(&fx, 3, 100);
    request(&fx, JR_EV_FIRST_TOKEN, 2, 0); /* it has none: nothing happens */
    request(&fx, JR_EV_OUTPUT, 2, 50);
    request(&fx, JR_EV_FINISH, 2, 0);
    assert_int_equal(view(&fx).queue.waiting, 1);
    assert_int_equal(view(&fx).counters.queue_cancelled, 1);
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_true(waits(&fx, 2) && fx.a[3].decided);
    request(&fx, JR_EV_FINISH, 3, 0);
    assert_int_equal(load_of(&fx, 1, NULL), 0);
    close_pool(&fx);
}

static void test_a_full_queue_refuses(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.queue_max = 2;
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    for (uint64_t id = 1; id <= 4; id++)
        ask(&fx, id, 100);
    assert_true(waits(&fx, 2) && waits(&fx, 3) && fx.a[4].rejected);
    assert_int_equal(fx.a[4].err, JR_EBUSY);
    assert_non_null(strstr(fx.a[4].why, "queue is full"));
    assert_int_equal(view(&fx).counters.rejected_queue_full, 1);
    close_pool(&fx);
}

static void test_the_last_worker_gone(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    ask(&fx, 1, 5);
    assert_int_equal(fx.a[1].err, JR_ENOWORKER);
    add_worker(&fx, 1, 1, 10, 0);
    add_worker(&fx, 2, 1, 10, 0);
    ask_pinned(&fx, 2, 100, 1);
    ask_pinned(&fx, 3, 100, 2);
    ask(&fx, 4, 5);
    ask_pinned(&fx, 5, 5, 1);
    ask_pinned(&fx, 6, 5, 2);
    ask_pinned(&fx, 7, 5, 9);
    assert_int_equal(fx.a[7].err, JR_ENOTFOUND);
    probed(&fx, 1, false);
    assert_true(fx.a[5].rejected && waits(&fx, 4) && waits(&fx, 6));
    assert_int_equal(fx.a[5].err, JR_ENOTFOUND);
    probed(&fx, 2, false);
    assert_int_equal(fx.a[4].err, JR_ENOWORKER);
    assert_int_equal(fx.a[6].err, JR_ENOWORKER);
    assert_int_equal(view(&fx).queue.waiting, 0);
    close_pool(&fx);
}

static void test_a_new_worker_is_room(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    ask(&fx, 1, 100);
    ask(&fx, 2, 100);
    add_worker(&fx, 2, 1, 10, 0);
    assert_true(fx.a[2].decided && fx.a[2].worker == 2);
    close_pool(&fx);
}

static void test_waiting_has_an_end(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    ask(&fx, 1, 100);
    route(&fx, (struct jr_route){.id = 2, .tokens = 5, .wait_max_ms = 500});
    route(&fx, (struct jr_route){.id = 3, .tokens = 5, .wait_max_ms = 200});
    ask(&fx, 4, 5);
    tick_after(&fx, 100);
    assert_true(waits(&fx, 2) && waits(&fx, 3));
    tick_after(&fx, 150);
    assert_true(waits(&fx, 2) && fx.a[3].rejected);
    assert_int_equal(fx.a[3].err, JR_ETIMEOUT);
    tick_after(&fx, 5000);
    assert_true(fx.a[2].rejected && waits(&fx, 4));
    assert_int_equal(view(&fx).counters.rejected_timeout, 2);
    close_pool(&fx);
}

/* A peer's request fills the worker, and its end makes room. */
static void test_peers_deltas_make_room(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.replica_sync = true;
    open_pool(&fx, &c);
    struct jr_worker_lease w = lease_of(1, 1, 10, 0);
    struct jr_replica_lease peer = {.id = "b", .incarnation = 3};
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = &w;
    ev.u.members.n_workers = 1;
    ev.u.members.replicas = &peer;
    ev.u.members.n_replicas = 1;
    step(&fx, &ev);
    struct jr_delta d = {JR_DELTA_ADMIT,
                         {.request = 1, .worker_id = 1, .prefill_tokens = 50, .prompt_tokens = 50}};
    struct jr_sync_batch b = {.replica = "b",
                              .incarnation = 3,
                              .number = 1,
                              .is_base = true,
                              .base_number = 1,
                              .parts = 1,
                              .includes = 1,
                              .deltas = &d,
                              .n_deltas = 1};
    ev = (struct jr_event){.type = JR_EV_SYNC, .u.sync = &b};
    step(&fx, &ev);
    assert_int_equal(load_of(&fx, 1, NULL), 50);
    ask(&fx, 1, 5);
    assert_true(waits(&fx, 1));
    d.type = JR_DELTA_FIRST_TOKEN;
    b = (struct jr_sync_batch){
        .replica = "b", .incarnation = 3, .number = 2, .deltas = &d, .n_deltas = 1};
    ev = (struct jr_event){.type = JR_EV_SYNC, .u.sync = &b};
    step(&fx, &ev);
    assert_true(fx.a[1].decided);
    close_pool(&fx);
}

/* ---------------------------------------------------------------- lanes and order */

static void test_a_blocked_pin_blocks_nobody_else(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 2, 10, 0);
    add_worker(&fx, 2, 1, 10, 0);
    struct jr_route pin = {
        .tokens = 1000, .has_pin = true, .pin_worker = 1, .has_pin_rank = true, .pin_rank = 1};
    pin.id = 1;
    route(&fx, pin);
    assert_true(fx.a[1].decided && fx.a[1].rank == 1);
    pin.id = 2;
    route(&fx, pin);
    assert_true(waits(&fx, 2));
    pin.id = 3;
    pin.pin_rank = 0;
    route(&fx, pin); /* the other rank has room */
    assert_true(fx.a[3].decided && fx.a[3].rank == 0);
    ask(&fx, 4, 100);
    assert_true(fx.a[4].decided && fx.a[4].worker == 2);
    ask_pinned(&fx, 5, 100, 1); /* any rank of it */
    assert_true(waits(&fx, 5));
    assert_int_equal(view(&fx).queue.lanes, 2);
    request(&fx, JR_EV_FINISH, 3, 0);
    assert_true(fx.a[5].decided && fx.a[5].rank == 0 && waits(&fx, 2));
    request(&fx, JR_EV_FIRST_TOKEN, 1, 0);
    assert_true(fx.a[2].decided && fx.a[2].rank == 1);
    close_pool(&fx);
}

static void test_restricted_requests_have_lanes(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    add_worker_of(&fx, "n", 2, 1, 10, 0);
    uint64_t two[1] = {2};
    ask_pinned(&fx, 1, 100, 1);
    route(&fx, (struct jr_route){.id = 2, .tokens = 100, .model = jr_pool_model_id("m")});
    route(&fx, (struct jr_route){.id = 3, .tokens = 100, .exclude = two, .n_exclude = 1});
    assert_true(waits(&fx, 2) && waits(&fx, 3));
    two[0] = 77; /* it was copied */
    ask(&fx, 4, 100);
    assert_true(fx.a[4].decided && fx.a[4].worker == 2);
    request(&fx, JR_EV_FINISH, 4, 0);
    assert_true(waits(&fx, 2) && waits(&fx, 3));
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_true(fx.a[2].decided && fx.a[2].worker == 1 && waits(&fx, 3));
    request(&fx, JR_EV_FINISH, 2, 0);
    assert_true(fx.a[3].decided && fx.a[3].worker == 1);
    close_pool(&fx);
}

/* It came while all served its model; who registers meanwhile serves another. */
static void test_waits_for_its_model(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    struct jr_route r = {.id = 2, .tokens = 100, .model = jr_pool_model_id("m")};
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    ask(&fx, 1, 100);
    route(&fx, r);
    assert_true(waits(&fx, 2));
    add_worker_of(&fx, "n", 2, 1, 10, 0);
    tick_after(&fx, 100);
    assert_true(waits(&fx, 2));
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_true(fx.a[2].decided && fx.a[2].worker == 1);
    close_pool(&fx);
}

/* Whoever served it is gone: nobody else gets it, waiting or new, pinned or not. */
static void test_nobody_serves_its_model(void **state)
{
    (void)state;
    for (int queue = 0; queue < 2; queue++) {
        struct jr_pool_config c = base_config();
        struct jr_route r = {.id = 2, .tokens = 100, .model = jr_pool_model_id("m")};
        c.has_queue_threshold = queue;
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 10, 0);
        ask(&fx, 1, 100);
        if (queue)
            route(&fx, r);
        add_worker_of(&fx, "n", 2, 1, 10, 0);
        probed(&fx, 1, false);
        assert_true(!queue || (fx.a[2].rejected && fx.a[2].err == JR_ENOWORKER));
        r.id = 3;
        route(&fx, r);
        assert_true(fx.a[3].rejected && fx.a[3].err == JR_ENOWORKER);
        r = (struct jr_route){.id = 4, .model = r.model, .has_pin = true, .pin_worker = 2};
        route(&fx, r);
        assert_true(fx.a[4].rejected && fx.a[4].err == JR_ENOWORKER);
        add_worker_of(&fx, "", 3, 1, 10, 0); /* has not said: it may be its own */
        r.id = 5;
        r.has_pin = false;
        route(&fx, r);
        assert_true(fx.a[5].decided && fx.a[5].worker == 3);
        close_pool(&fx);
    }
}

static void expect_order(struct fix *f, const uint64_t *ids, uint32_t n, uint64_t running)
{
    for (uint32_t i = 0; i < n; i++) {
        request(f, JR_EV_FINISH, running, 0);
        for (uint32_t k = 0; k < n; k++)
            assert_int_equal(f->a[ids[k]].decided, k <= i);
        running = ids[i];
    }
}

static void fill_one(struct fix *f, const struct jr_pool_config *c)
{
    open_pool(f, c);
    add_worker(f, 1, 1, 10, 0);
    ask(f, 1, 100);
}

static void test_fcfs_jump_and_strict_priority(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    fill_one(&fx, &c);
    ask(&fx, 2, 100);
    ask(&fx, 3, 100);
    route(&fx, (struct jr_route){.id = 4, .tokens = 100, .priority_jump_s = 5});
    route(&fx, (struct jr_route){.id = 5, .tokens = 100, .priority_jump_s = -5});
    route(&fx, (struct jr_route){.id = 6, .tokens = 100, .strict_priority = 1});
    route(&fx,
          (struct jr_route){.id = 7, .tokens = 100, .strict_priority = 1, .priority_jump_s = 1});
    expect_order(&fx, (const uint64_t[]){7, 6, 4, 2, 3, 5}, 6, 1);
    close_pool(&fx);
}

static void test_lcfs(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.queue_policy = JR_QUEUE_LCFS;
    fill_one(&fx, &c);
    ask(&fx, 2, 100);
    ask(&fx, 3, 100);
    ask(&fx, 4, 100);
    expect_order(&fx, (const uint64_t[]){4, 3, 2}, 3, 1);
    close_pool(&fx);
}

/* Shortest first, and what is cached of a prompt does not count: (1 + jump) / uncached. */
static void test_wspt(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.queue_policy = JR_QUEUE_WSPT;
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    const uint64_t prefix[8] = {11, 12, 13, 14, 15, 16, 17, 18};
    route(&fx, (struct jr_route){.id = 1, .tokens = 130, .prefix = prefix, .n_prefix = 8});
    ask(&fx, 2, 60); /* 1/60 */
    ask(&fx, 3, 40); /* 1/40 */
    route(&fx,
          (struct jr_route){.id = 4, .tokens = 138, .prefix = prefix, .n_prefix = 8}); /* 1/10 */
    route(&fx, (struct jr_route){.id = 5, .tokens = 100, .priority_jump_s = 2});       /* 3/100 */
    expect_order(&fx, (const uint64_t[]){4, 5, 3, 2}, 4, 1);
    close_pool(&fx);
}

/* Whoever comes while others wait in its lane goes behind them, though there is room by then. */
static void test_arrivals_do_not_pass(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    fill_one(&fx, &c);
    ask(&fx, 2, 100);
    fx.pool->recheck = true; /* as after a run that stopped half-way */
    struct jr_booked *k = jr_bookings_find(&fx.pool->own, 1);
    jr_bookings_first_token(&fx.pool->own, k->b.request, fx.now_ms, NULL);
    ask(&fx, 3, 1);
    assert_true(fx.a[2].decided && waits(&fx, 3)); /* the run after the step took the older one */
    close_pool(&fx);
}

/* A request that leaves the queue is weighed by what is true then. */
static void test_weighed_anew(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0);
    uint64_t prefix[4] = {11, 12, 13, 14};
    struct jr_route r = {
        .id = 1, .tokens = 70, .prefix = prefix, .n_prefix = 4, .want_record = true};
    route(&fx, r);
    const struct jr_candidate *k = jr_pool_record(fx.pool, &fx.last);
    assert_non_null(k);
    assert_int_equal(fx.last.n_record, 1);
    assert_int_equal(k->uncached_tokens, 70);
    r.id = 2;
    route(&fx, r);
    assert_true(waits(&fx, 2));
    memset(prefix, 0, sizeof prefix); /* it was copied */
    request(&fx, JR_EV_FIRST_TOKEN, 1, 0);
    k = jr_pool_record(fx.pool, &fx.last);
    assert_non_null(k);
    assert_int_equal(fx.last.id, 2);
    assert_int_equal(k->live_blocks, 4);
    assert_int_equal(k->uncached_tokens, 6);
    assert_int_equal(k->prefill_tokens, 0); /* 70 when it began to wait */
    tick_after(&fx, 1);
    assert_null(jr_pool_record(fx.pool, &fx.last));
    close_pool(&fx);
}

/* More than one step lets go are let go one step after the other, all at once for the clock. */
static void test_long_runs_are_cut(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    fill_one(&fx, &c);
    for (uint64_t id = 2; id < 2002; id++)
        ask(&fx, id, 0);
    assert_int_equal(view(&fx).queue.waiting, 2000);
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_int_equal(view(&fx).queue.waiting, 2000 - 1024);
    assert_true(jr_pool_deadline_ms(fx.pool) <= fx.now_ms);
    ask(&fx, 3000, 0);
    assert_int_equal(view(&fx).queue.waiting, 0);
    for (uint64_t id = 2; id < 2001; id++)
        assert_true(fx.a[id].order < fx.a[id + 1].order);
    assert_true(fx.a[3000].order > fx.a[2001].order);
    close_pool(&fx);
}

/* ---------------------------------------------------------------- busy thresholds */

/* limits NULL: those of the configuration again. */
static void set_busy(const char *model, const struct jr_busy_limits *limits)
{
    struct jr_event ev = {.type = JR_EV_BUSY};
    ev.u.busy.model = jr_pool_model_id(model);
    ev.u.busy.own = limits != NULL;
    if (limits)
        ev.u.busy.limits = *limits;
    step(&fx, &ev);
}

static void test_busy_ranks_are_left_out(void **state)
{
    (void)state;
    const enum jr_router_mode modes[] = {JR_MODE_KV, JR_MODE_ROUND_ROBIN, JR_MODE_RANDOM,
                                         JR_MODE_LEAST_LOADED, JR_MODE_POWER_OF_TWO};
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        struct jr_pool_config c = base_config();
        c.has_queue_threshold = false;
        c.mode = modes[m];
        c.busy = (struct jr_busy_limits){.has_prefill_tokens = true, .prefill_tokens = 50};
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 10, 0);
        add_worker(&fx, 2, 1, 10, 0);
        ask_pinned(&fx, 1, 51, 1);
        for (uint64_t id = 2; id < 7; id++) {
            ask(&fx, id, 10);
            assert_int_equal(fx.a[id].worker, 2);
        }
        ask(&fx, 7, 1); /* 50 is not above 50 */
        assert_int_equal(fx.a[7].worker, 2);
        ask(&fx, 8, 1);
        assert_int_equal(fx.a[8].err, JR_EBUSY);
        assert_non_null(strstr(fx.a[8].why, "All workers are busy"));
        ask_pinned(&fx, 9, 1, 1); /* not sent elsewhere */
        assert_int_equal(fx.a[9].err, JR_EBUSY);
        assert_int_equal(view(&fx).counters.rejected_busy, 2);
        request(&fx, JR_EV_FIRST_TOKEN, 1, 0);
        ask(&fx, 10, 1);
        assert_int_equal(fx.a[10].worker, 1);
        close_pool(&fx);
    }
}

static void test_busy_by_fraction_and_by_blocks(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.has_queue_threshold = false;
    c.busy = (struct jr_busy_limits){.has_prefill_frac = true, .prefill_frac = 1.55};
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 10, 0); /* above floor(15.5) */
    ask(&fx, 1, 15);
    ask(&fx, 2, 1);
    ask(&fx, 3, 1);
    assert_true(fx.a[2].decided && fx.a[3].rejected);
    struct jr_busy_limits limits;
    jr_pool_busy_limits(fx.pool, 0, &limits);
    assert_true(limits.has_prefill_frac && limits.prefill_frac > 1.5);
    limits.has_prefill_frac = false;
    limits.has_decode_blocks = true;
    limits.decode_blocks = 0.5;
    set_busy("m", &limits);
    ask(&fx, 4, 1);
    assert_true(fx.a[4].decided); /* it does not say how many blocks it has */
    add_worker(&fx, 1, 1, 10, 8);
    const uint64_t prefix[5] = {1, 2, 3, 4, 5};
    struct jr_route r = {.id = 5, .tokens = 64, .prefix = prefix, .n_prefix = 4};
    route(&fx, r); /* then 4 of 8 */
    r.id = 6;
    r.n_prefix = 5;
    route(&fx, r); /* then 5 */
    r.id = 7;
    route(&fx, r);
    assert_true(fx.a[5].decided && fx.a[6].decided && fx.a[7].rejected);
    request(&fx, JR_EV_FINISH, 6, 0);
    ask(&fx, 8, 1);
    assert_true(fx.a[8].decided);
    close_pool(&fx);
}

static void ask_model(uint64_t id, const char *model)
{
    route(&fx, (struct jr_route){.id = id, .tokens = 10, .model = jr_pool_model_id(model)});
}

static void test_each_model_has_its_thresholds(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.has_queue_threshold = false;
    c.busy = (struct jr_busy_limits){.has_prefill_tokens = true, .prefill_tokens = 5};
    open_pool(&fx, &c);
    add_worker_of(&fx, "a", 1, 1, 0, 0);
    add_worker_of(&fx, "b", 2, 1, 0, 0);
    set_busy("a", &(struct jr_busy_limits){.has_prefill_tokens = true, .prefill_tokens = 15});
    struct jr_busy_limits got;
    jr_pool_busy_limits(fx.pool, jr_pool_model_id("a"), &got);
    assert_true(got.prefill_tokens > 14);
    jr_pool_busy_limits(fx.pool, jr_pool_model_id("b"), &got);
    assert_true(got.prefill_tokens < 6);
    for (uint64_t id = 1; id <= 3; id++)
        ask_model(id, "a");
    for (uint64_t id = 4; id <= 5; id++)
        ask_model(id, "b");
    assert_true(fx.a[2].decided && fx.a[3].err == JR_EBUSY);
    assert_true(fx.a[4].decided && fx.a[5].err == JR_EBUSY);
    set_busy("a", &(struct jr_busy_limits){0}); /* its own: none */
    ask_model(6, "a");
    assert_true(fx.a[6].decided);
    set_busy("a", NULL);
    ask_model(7, "a");
    assert_int_equal(fx.a[7].err, JR_EBUSY);
    close_pool(&fx);
}

/* Places move when one is taken back; too many are refused, and nothing else changes. */
static void test_many_models_have_thresholds(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    struct jr_busy_limits got, one = {.has_prefill_tokens = true};
    char name[16];
    open_pool(&fx, &c);
    for (uint32_t i = 0; i < JR_BUSY_MODELS_MAX; i++) {
        (void)snprintf(name, sizeof name, "m%u", i);
        one.prefill_tokens = i;
        set_busy(name, &one);
    }
    struct jr_event ev = {.type = JR_EV_BUSY, .now_ms = fx.now_ms, .u.busy = {77, true, one}};
    assert_int_equal(jr_pool_step(fx.pool, &ev, &fx.acts), JR_ELIMIT);
    for (uint32_t i = 0; i < JR_BUSY_MODELS_MAX; i += 2) {
        (void)snprintf(name, sizeof name, "m%u", i);
        set_busy(name, NULL);
    }
    for (uint32_t i = 0; i < JR_BUSY_MODELS_MAX; i++) {
        (void)snprintf(name, sizeof name, "m%u", i);
        jr_pool_busy_limits(fx.pool, jr_pool_model_id(name), &got);
        assert_int_equal(got.has_prefill_tokens, i % 2);
        assert_int_equal((uint32_t)got.prefill_tokens, i % 2 ? i : 0);
    }
    close_pool(&fx);
}

/* Who waits already stays while all are busy: the worker will be free again. */
static void test_waiting_ones_outlast_busy_times(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    fill_one(&fx, &c);
    ask(&fx, 2, 5);
    struct jr_busy_limits limits = {.has_prefill_tokens = true, .prefill_tokens = 20};
    set_busy("m", &limits);
    tick_after(&fx, 1);
    ask(&fx, 3, 5);
    assert_true(waits(&fx, 2) && fx.a[3].err == JR_EBUSY);
    request(&fx, JR_EV_FINISH, 1, 0);
    assert_true(fx.a[2].decided);
    close_pool(&fx);
}

/* ---------------------------------------------------------------- options of the load */

static void test_untracked_prefill(void **state)
{
    (void)state;
    for (int by_request = 0; by_request < 2; by_request++) {
        struct jr_pool_config c = base_config();
        c.ignore_prefill_tokens = !by_request;
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 10, 0);
        struct jr_route r = {.tokens = 100, .want_record = true};
        r.override.has_track_prefill_tokens = by_request;
        for (r.id = 1; r.id < 5; r.id++) {
            route(&fx, r);
            assert_true(fx.a[r.id].decided);
            assert_true(jr_pool_record(fx.pool, &fx.last)->prefill_cost < 1e-12);
        }
        assert_int_equal(load_of(&fx, 1, NULL), 0);
        request(&fx, JR_EV_FIRST_TOKEN, 1, 0);
        for (uint64_t id = 1; id < 5; id++)
            request(&fx, JR_EV_FINISH, id, 0);
        assert_int_equal(jr_active_requests(fx.pool->active), 0);
        close_pool(&fx);
    }
}

/* Blocks of a request that is halfway through its answer count half. */
static void test_output_blocks_decay(void **state)
{
    (void)state;
    for (int track = 0; track < 2; track++) {
        struct jr_pool_config c = base_config();
        c.track_output_blocks = track;
        open_pool(&fx, &c);
        add_worker(&fx, 1, 1, 1000, 0);
        const uint64_t prefix[2] = {1, 2};
        route(&fx, (struct jr_route){.id = 1,
                                     .tokens = 32,
                                     .prefix = prefix,
                                     .n_prefix = 2,
                                     .expected_output_tokens = 64});
        uint64_t blocks;
        request(&fx, JR_EV_OUTPUT, 1, 32);
        (void)load_of(&fx, 1, &blocks);
        assert_int_equal(blocks, 2); /* (2 + 2) * (1 - 32/64), or the prompt alone */
        request(&fx, JR_EV_OUTPUT, 1, 64);
        (void)load_of(&fx, 1, &blocks);
        assert_int_equal(blocks, track ? 0 : 2);
        request(&fx, JR_EV_OUTPUT, 1, 128); /* longer than was said */
        (void)load_of(&fx, 1, &blocks);
        assert_int_equal(blocks, track ? 0 : 2);
        route(&fx, (struct jr_route){.id = 2, .tokens = 16, .prefix = prefix, .n_prefix = 1});
        request(&fx, JR_EV_OUTPUT, 2, 32);
        (void)load_of(&fx, 1, &blocks);
        assert_int_equal(blocks, track ? 3 : 2); /* one prompt block shared: whole again */
        request(&fx, JR_EV_FINISH, 1, 0);
        request(&fx, JR_EV_FINISH, 2, 0);
        (void)load_of(&fx, 1, &blocks);
        assert_int_equal(blocks, 0);
        close_pool(&fx);
    }
}

static void test_overrides(void **state)
{
    (void)state;
    struct jr_pool_config c = base_config();
    c.has_queue_threshold = false;
    jr_cost_config_init(&c.cost, JR_COST_DYNAMO_1_0);
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 1000, 0);
    struct jr_route r = {.id = 1, .tokens = 160, .want_record = true};
    r.override.has_overlap_weight = true;
    r.override.overlap_weight = 3;
    route(&fx, r);
    assert_true(fabs(fx.last.cost - 30) < 1e-9);
    const uint64_t prefix[1] = {5};
    r = (struct jr_route){.id = 2, .tokens = 16, .prefix = prefix, .n_prefix = 1};
    r.override.has_assume_kv_reuse = true; /* false */
    route(&fx, r);
    r.id = 3;
    route(&fx, r);
    uint64_t blocks;
    (void)load_of(&fx, 1, &blocks);
    assert_int_equal(blocks, 2); /* the same prompt twice */
    const double bad[] = {NAN, INFINITY, -1};
    for (uint64_t i = 0; i < 3; i++) {
        r = (struct jr_route){.id = 10 + i, .tokens = 16};
        r.override.has_temperature = true;
        r.override.temperature = bad[i];
        route(&fx, r);
        assert_int_equal(fx.a[10 + i].err, JR_EINVAL);
    }
    close_pool(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_while_all_are_full),
        cmocka_unit_test(test_the_threshold_is_strict),
        cmocka_unit_test(test_no_threshold_no_queue),
        cmocka_unit_test(test_unknown_capacity),
        cmocka_unit_test(test_a_query_does_not_wait),
        cmocka_unit_test(test_cancelled_ones_leave),
        cmocka_unit_test(test_a_full_queue_refuses),
        cmocka_unit_test(test_the_last_worker_gone),
        cmocka_unit_test(test_a_new_worker_is_room),
        cmocka_unit_test(test_waiting_has_an_end),
        cmocka_unit_test(test_peers_deltas_make_room),
        cmocka_unit_test(test_a_blocked_pin_blocks_nobody_else),
        cmocka_unit_test(test_restricted_requests_have_lanes),
        cmocka_unit_test(test_waits_for_its_model),
        cmocka_unit_test(test_nobody_serves_its_model),
        cmocka_unit_test(test_fcfs_jump_and_strict_priority),
        cmocka_unit_test(test_lcfs),
        cmocka_unit_test(test_wspt),
        cmocka_unit_test(test_arrivals_do_not_pass),
        cmocka_unit_test(test_weighed_anew),
        cmocka_unit_test(test_long_runs_are_cut),
        cmocka_unit_test(test_busy_ranks_are_left_out),
        cmocka_unit_test(test_busy_by_fraction_and_by_blocks),
        cmocka_unit_test(test_each_model_has_its_thresholds),
        cmocka_unit_test(test_many_models_have_thresholds),
        cmocka_unit_test(test_waiting_ones_outlast_busy_times),
        cmocka_unit_test(test_untracked_prefill),
        cmocka_unit_test(test_output_blocks_decay),
        cmocka_unit_test(test_overrides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
