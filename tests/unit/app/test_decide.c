/* SPDX-License-Identifier: Apache-2.0 */
/* decide: tickets of a second HTTP loop. Both loops turn in one thread, one when it is told to, so that a
 * request leaves at each moment of a question's way: no booking stays, and no ticket. */
#include "app/frontend/proxy_internal.h"

#include "base/limits.h"
#include "jr_test.h"

#include <stdio.h>
#include <string.h>

static char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

struct rig {
    struct jr_config *cfg;
    struct jr_frontend f;
    struct jr_front_loop second;
    struct jr_proxied x;
};

static void turn(struct jr_front_loop *l)
{
    uv_run(jr_loop_uv(l->loop), UV_RUN_NOWAIT);
}

static void turn_both(struct rig *r)
{
    for (int i = 0; i < 4; i++) {
        turn(&r->f.main);
        turn(&r->second);
    }
}

/* What a loop finds is delivered in slices: turns as long as it takes. */
static void await_no_ticket(struct rig *r)
{
    JR_TEST_WAIT((turn_both(r), r->second.n_tickets == 0), 60000);
}

static void add_pool(struct rig *r)
{
    struct jr_errmsg e;
    struct jr_driver_config config = {.loop = r->f.loop, .client = r->f.client};
    struct jr_worker_lease lease = {.worker_id = 7, .model = "tiny"};
    snprintf(lease.url, sizeof lease.url, "http://127.0.0.1:%u", jr_http_server_port(r->f.server));
    assert_int_equal(jr_pool_config_from(r->cfg, "dynamo", "static", &config.pool, &e), 0);
    config.pool.durable = false;
    config.pool.seed = 1;
    assert_int_equal(jr_driver_create(&config, &r->f.drivers[0], &e), 0);
    (void)jr_str_copy(r->f.components[0], JR_NAME_MAX, "static");
    r->f.n_drivers = 1;
    assert_int_equal(jr_driver_add_static(r->f.drivers[0], &lease, 1), 0);
}

static int set_up(void **state)
{
    struct rig *r = jr_xalloc(sizeof *r);
    struct jr_frontend *f = &r->f;
    struct jr_errmsg e;
    char *options[] = {"--router-mode", "round-robin"};
    assert_int_equal(jr_config_load(JR_CMD_FRONTEND, 2, options, false, no_env, &e, &r->cfg), 0);
    static const struct jr_front_command command = {.n_paths = 0};
    f->cfg = r->cfg;
    f->command = &command;
    assert_int_equal(jr_front_loop_init(&f->main, f, 0, &e), 0);
    f->loop = f->main.loop;
    f->client = f->main.client;
    f->metrics = f->main.metrics;
    f->pools = jr_xalloc(sizeof *f->pools);
    jr_pools_init(f->pools, f->cfg);
    jr_worker_lasts_init(&f->lasts);
    jr_route_metrics_init(&f->routes, f->metrics, "");
    assert_int_equal(jr_front_loop_init(&r->second, f, 1, &e), 0);
    jr_list_init(&f->tails);
    /* The worker is this frontend: its /health is all that is asked of it. */
    assert_int_equal(jr_front_loop_listen(&f->main, 0, &e), 0);
    f->server = f->main.server;
    add_pool(r);
    *state = r;
    return 0;
}

static void on_closed(void *ctx)
{
    jr_loop_stop(ctx);
}

static void on_server_closed(void *ctx)
{
    struct rig *r = ctx;
    jr_http_client_close(r->f.client, on_closed, r->f.loop);
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    jr_http_client_close(r->second.client, on_closed, r->second.loop);
    jr_loop_run(r->second.loop);
    jr_driver_close(r->f.drivers[0], NULL, NULL);
    jr_http_server_close(r->f.server, on_server_closed, r);
    jr_loop_run(r->f.loop);
    jr_front_loop_deinit(&r->second);
    jr_front_loop_deinit(&r->f.main);
    jr_xfree(r->f.pools);
    jr_worker_lasts_deinit(&r->f.lasts);
    jr_config_destroy(r->cfg);
    jr_xfree(r);
    return 0;
}

static struct jr_proxied *begin(struct rig *r, const char *model)
{
    struct jr_proxied *x = &r->x;
    memset(x, 0, sizeof *x);
    x->l = &r->second;
    x->f = &r->f;
    x->started_ns = jr_loop_now_ns();
    (void)jr_str_copy(x->model, sizeof x->model, model);
    return x;
}

/* One whose model's place is known. */
static struct jr_proxied *placed(struct rig *r)
{
    struct jr_proxied *x = begin(r, "tiny");
    if (jr_decide_place(x) == JR_PLACED)
        return x;
    jr_decide_leave(x);
    await_no_ticket(r);
    x = begin(r, "tiny");
    assert_int_equal(jr_decide_place(x), JR_PLACED);
    assert_string_equal(x->place.component, "static");
    return x;
}

static uint32_t bookings(const struct rig *r)
{
    struct jr_pool_view v;
    jr_pool_view(jr_driver_pool(r->f.drivers[0]), &v);
    return v.n_bookings;
}

static void await_bookings(struct rig *r, uint32_t want)
{
    JR_TEST_WAIT((turn(&r->f.main), bookings(r) == want), 60000);
}

static void assert_nothing_left(struct rig *r)
{
    await_no_ticket(r);
    assert_int_equal(bookings(r), 0);
}

static void test_leaves_before_it_is_placed(void **state)
{
    struct rig *r = *state;
    struct jr_proxied *x = begin(r, "nobody's");
    assert_int_equal(jr_decide_place(x), JR_PLACED_LATER);
    assert_int_equal(r->second.n_tickets, 1);
    jr_decide_leave(x);
    assert_nothing_left(r);
    assert_int_equal(jr_decide_place(begin(r, "nobody's")), JR_PLACED_LATER); /* not remembered */
    jr_decide_leave(&r->x);
    assert_nothing_left(r);
}

static void test_leaves_before_it_is_decided(void **state)
{
    struct rig *r = *state;
    struct jr_proxied *x = placed(r);
    assert_int_equal(jr_decide_route(x), 0);
    assert_int_equal(bookings(r), 0);
    jr_decide_leave(x);
    assert_nothing_left(r);
}

static void test_leaves_before_the_answer_arrives(void **state)
{
    struct rig *r = *state;
    struct jr_proxied *x = placed(r);
    assert_int_equal(jr_decide_route(x), 0);
    await_bookings(r, 1);
    jr_decide_leave(x);
    assert_nothing_left(r);
}

static void test_finishes_and_asks_again(void **state)
{
    struct rig *r = *state;
    struct jr_proxied *x = placed(r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(jr_decide_route(x), 0);
        await_bookings(r, 1);
        jr_decide_first_token(x);
        for (uint32_t n = 1; n < 100; n++)
            jr_decide_output(x, n);
        jr_decide_note(x, JR_NOTE_WELL, NULL);
        jr_decide_finish(x);
        await_bookings(r, 0);
    }
    jr_decide_leave(x);
    assert_nothing_left(r);
}

static void test_refused_leaves_nothing(void **state)
{
    struct rig *r = *state;
    struct jr_proxied *x = placed(r);
    x->has_pin = true;
    x->pin = 4711; /* there is none such */
    assert_int_equal(jr_decide_route(x), 0);
    turn(&r->f.main);
    assert_int_equal(bookings(r), 0);
    jr_decide_leave(x);
    assert_nothing_left(r);
}

static void test_tickets_are_bounded(void **state)
{
    struct rig *r = *state;
    const uint32_t before = r->second.n_tickets;
    r->second.n_tickets = JR_FRONT_TICKETS_MAX;
    struct jr_proxied *x = begin(r, "tiny");
    assert_int_equal(jr_decide_place(x), JR_PLACED_NO_ROOM);
    jr_decide_leave(x); /* it has none */
    r->second.n_tickets = before;
    assert_nothing_left(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaves_before_it_is_placed),
        cmocka_unit_test(test_leaves_before_it_is_decided),
        cmocka_unit_test(test_leaves_before_the_answer_arrives),
        cmocka_unit_test(test_finishes_and_asks_again),
        cmocka_unit_test(test_refused_leaves_nothing),
        cmocka_unit_test(test_tickets_are_bounded),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
