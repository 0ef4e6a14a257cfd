/* SPDX-License-Identifier: Apache-2.0 */
/* Workers put aside: the steps by name, and random histories against a naive model. */
#include "jr_test.h"

#include "base/rng.h"
#include "core/outlier.h"

#include <string.h>

#define AT 1000 /* ms */

static const struct jr_outlier_config config = {3, 100, 450};

static bool fails(struct jr_outlier *o, uint64_t id, uint32_t n, uint64_t now)
{
    uint64_t ms;
    return jr_outlier_failed(o, id, n, now, &ms);
}

static bool is_listed(struct jr_outlier *o, uint64_t id, uint64_t now)
{
    uint64_t ids[JR_OUTLIERS_MAX];
    uint32_t n = jr_outlier_list(o, now, ids);
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void test_failures_in_a_row(void **state)
{
    static struct jr_outlier o;
    (void)state;
    jr_outlier_init(&o, &config);
    assert_false(fails(&o, 7, 4, AT));
    assert_false(fails(&o, 7, 4, AT));
    jr_outlier_well(&o, 7); /* not in a row */
    assert_false(fails(&o, 7, 4, AT));
    assert_false(fails(&o, 7, 4, AT));
    assert_false(is_listed(&o, 7, AT));
    assert_true(fails(&o, 7, 4, AT));
    assert_true(is_listed(&o, 7, AT) && jr_outlier_is_aside(&o, 7));
    assert_false(is_listed(&o, 8, AT));
    assert_int_equal(o.put_aside, 1);
}

static void test_probe(void **state)
{
    static struct jr_outlier o;
    (void)state;
    jr_outlier_init(&o, &config);
    for (int i = 0; i < 3; i++)
        (void)fails(&o, 7, 4, AT);
    jr_outlier_sent(&o, 7, AT + 50); /* a pinned one: no probe before its time */
    assert_true(is_listed(&o, 7, AT + 99));
    assert_false(is_listed(&o, 7, AT + 100)); /* one request may go */
    jr_outlier_sent(&o, 7, AT + 100);
    assert_true(is_listed(&o, 7, AT + 101)); /* and no second */
    jr_outlier_answered(&o, 7);
    assert_false(is_listed(&o, 7, AT + 102));
    assert_true(fails(&o, 7, 4, AT + 103)); /* it is not trusted yet */
    jr_outlier_answered(&o, 7);             /* /health */
    jr_outlier_well(&o, 7);
    assert_false(fails(&o, 7, 4, AT + 104));
    assert_int_equal(o.n, 1);
}

static void test_time_aside_grows(void **state)
{
    static struct jr_outlier o;
    uint64_t now = AT, ms = 0, want[] = {100, 200, 400, 450, 450};
    (void)state;
    jr_outlier_init(&o, &config);
    for (int i = 0; i < 2; i++)
        (void)fails(&o, 7, 2, now);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(jr_outlier_failed(&o, 7, 2, now, &ms));
        assert_int_equal(ms, want[i]);
        assert_true(is_listed(&o, 7, now + ms - 1));
        now += ms;
        assert_false(is_listed(&o, 7, now));
        jr_outlier_sent(&o, 7, now);
    }
}

static void test_probe_without_outcome(void **state)
{
    static struct jr_outlier o;
    (void)state;
    jr_outlier_init(&o, &config);
    for (int i = 0; i < 3; i++)
        (void)fails(&o, 7, 2, AT);
    jr_outlier_sent(&o, 7, AT + 100);
    assert_true(is_listed(&o, 7, AT + 100));
    jr_outlier_unknown(&o, 7, AT + 110);
    assert_false(is_listed(&o, 7, AT + 110));
    jr_outlier_sent(&o, 7, AT + 110);
    assert_true(is_listed(&o, 7, AT + 110 + 449)); /* and one that is never heard of again */
    assert_false(is_listed(&o, 7, AT + 110 + 450));
}

static void test_never_more_than_half(void **state)
{
    static struct jr_outlier o;
    static const struct {
        uint32_t workers, aside;
    } rows[] = {{1, 0}, {2, 1}, {3, 1}, {4, 2}, {9, 4}};
    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        jr_outlier_init(&o, &config);
        for (uint64_t id = 1; id <= rows[k].workers; id++)
            for (int i = 0; i < 5; i++)
                (void)fails(&o, id, rows[k].workers, AT);
        assert_int_equal(jr_outlier_n_aside(&o), rows[k].aside);
    }
}

static void test_off(void **state)
{
    static struct jr_outlier o;
    struct jr_outlier_config off = {0, 100, 450};
    (void)state;
    jr_outlier_init(&o, &off);
    for (int i = 0; i < 50; i++)
        assert_false(fails(&o, 7, 2, AT));
    assert_int_equal(o.n, 0);
}

/* Gone workers make room; without room a failure is counted and no more. */
static void test_room(void **state)
{
    static struct jr_outlier o;
    (void)state;
    jr_outlier_init(&o, &config);
    for (uint64_t id = 1; id <= JR_OUTLIERS_MAX; id++)
        for (int i = 0; i < 3; i++)
            (void)fails(&o, id, 4 * JR_OUTLIERS_MAX, AT);
    (void)fails(&o, 9999, 4 * JR_OUTLIERS_MAX, AT);
    assert_int_equal(o.untold, 1);
    (void)fails(&o, 9999, 4 * JR_OUTLIERS_MAX, AT + 100 + 4501);
    assert_int_equal(o.untold, 1);
    assert_int_equal(o.n, 1);
}

/* One failure each, of workers that never came to a second: no place is taken for ever. */
static void test_room_after_single_failures(void **state)
{
    static struct jr_outlier o;
    (void)state;
    jr_outlier_init(&o, &config);
    for (uint64_t id = 1; id <= JR_OUTLIERS_MAX; id++)
        (void)fails(&o, id, 4, AT);
    (void)fails(&o, 9999, 4, AT + 4500);
    assert_int_equal(o.untold, 1);
    for (int i = 0; i < 3; i++)
        (void)fails(&o, 9999, 4, AT + 4501);
    assert_int_equal(o.untold, 1);
    assert_true(jr_outlier_is_aside(&o, 9999));
}

static bool is_odd(void *ctx, uint64_t worker_id)
{
    (*(int *)ctx)++;
    return worker_id & 1;
}

/* Those that are gone take none of the half that may be aside. */
static void test_keep(void **state)
{
    static struct jr_outlier o;
    int asked = 0;
    (void)state;
    jr_outlier_init(&o, &config);
    for (uint64_t id = 1; id <= 4; id++)
        for (int i = 0; i < 3; i++)
            (void)fails(&o, id, 8, AT);
    assert_int_equal(jr_outlier_n_aside(&o), 4);
    jr_outlier_keep(&o, is_odd, &asked);
    assert_int_equal(asked, 4);
    assert_int_equal(o.n, 2);
    assert_true(jr_outlier_is_aside(&o, 1) && jr_outlier_is_aside(&o, 3));
    assert_false(is_listed(&o, 2, AT) || is_listed(&o, 4, AT));
    for (int i = 0; i < 3; i++)
        (void)fails(&o, 5, 6, AT);
    assert_true(jr_outlier_is_aside(&o, 5));
}

/* ---- the model: one history per worker, looked through from its beginning ---- */

#define WORKERS 5

struct model {
    bool known[WORKERS]; /* has an entry */
    enum jr_outlier_state state[WORKERS];
    uint32_t failures[WORKERS];
    uint64_t next[WORKERS], until[WORKERS], failed[WORKERS];
};

static uint32_t model_aside(const struct model *m)
{
    uint32_t n = 0;
    for (int i = 0; i < WORKERS; i++)
        n += m->state[i] != JR_OUTLIER_IN;
    return n;
}

static void model_forget(struct model *m, int i)
{
    m->known[i] = false;
    m->state[i] = JR_OUTLIER_IN;
    m->failures[i] = 0;
    m->next[i] = 0;
}

/* Whoever nobody asked for long loses its place when another one needs one. */
static void model_know(struct model *m, int i, uint64_t now)
{
    for (int w = 0; w < WORKERS && !m->known[i]; w++) {
        uint64_t since = m->state[w] == JR_OUTLIER_IN ? m->failed[w] : m->until[w];
        if (m->state[w] != JR_OUTLIER_PROBED && now > since + 10 * config.aside_max_ms)
            model_forget(m, w);
    }
    m->known[i] = true;
}

static void model_fail(struct model *m, int i, uint64_t now)
{
    model_know(m, i, now);
    m->failures[i]++;
    m->failed[i] = now;
    bool room = model_aside(m) < WORKERS / 2;
    if (m->state[i] == JR_OUTLIER_ASIDE ||
        (m->state[i] == JR_OUTLIER_IN && (m->failures[i] < config.failures || !room)))
        return;
    uint64_t ms = m->next[i] ? m->next[i] : config.aside_ms;
    m->state[i] = JR_OUTLIER_ASIDE;
    m->until[i] = now + ms;
    m->next[i] = ms * 2 > config.aside_max_ms ? config.aside_max_ms : ms * 2;
}

static void model_step(struct model *m, int i, uint32_t what, uint64_t now)
{
    bool out = m->state[i] != JR_OUTLIER_IN;
    if (what == 0) {
        model_fail(m, i, now);
    } else if (what == 1 && out) {
        m->state[i] = JR_OUTLIER_IN;
        m->failures[i] = config.failures - 1;
    } else if (what == 2) {
        model_forget(m, i);
    } else if (what == 3 && m->state[i] == JR_OUTLIER_ASIDE && now >= m->until[i]) {
        m->state[i] = JR_OUTLIER_PROBED;
        m->until[i] = now + config.aside_max_ms;
    } else if (what == 4 && m->state[i] == JR_OUTLIER_PROBED) {
        m->state[i] = JR_OUTLIER_ASIDE;
        m->until[i] = now;
    }
}

static void step(struct jr_outlier *o, uint64_t id, uint32_t what, uint64_t now)
{
    switch (what) {
    case 0:
        (void)fails(o, id, WORKERS, now);
        break;
    case 1:
        jr_outlier_answered(o, id);
        break;
    case 2:
        jr_outlier_well(o, id);
        break;
    case 3:
        jr_outlier_sent(o, id, now);
        break;
    default:
        jr_outlier_unknown(o, id, now);
        break;
    }
}

static void test_model(void **state)
{
    static struct jr_outlier o;
    struct model m;
    struct jr_rng rng;
    uint64_t now = AT;
    (void)state;
    memset(&m, 0, sizeof m);
    jr_rng_init(&rng, jr_test_seed(), 0);
    jr_outlier_init(&o, &config);
    for (int k = 0; k < 200000; k++) {
        int i = (int)jr_rng_below(&rng, WORKERS);
        uint32_t what = jr_rng_below(&rng, 10);
        what = what >= 5 ? 0 : what; /* mostly failures */
        now += jr_rng_below(&rng, 60);
        step(&o, (uint64_t)i + 100, what, now);
        model_step(&m, i, what, now);
        for (int w = 0; w < WORKERS; w++) {
            bool lost = m.state[w] == JR_OUTLIER_PROBED && now >= m.until[w];
            bool want = m.state[w] != JR_OUTLIER_IN && now < m.until[w];
            assert_int_equal(is_listed(&o, (uint64_t)w + 100, now), want);
            if (lost)
                model_step(&m, w, 4, now);
        }
        assert_int_equal(jr_outlier_n_aside(&o), model_aside(&m));
        assert_true(jr_outlier_n_aside(&o) * JR_OUTLIER_SHARE <= WORKERS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures_in_a_row),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_time_aside_grows),
        cmocka_unit_test(test_probe_without_outcome),
        cmocka_unit_test(test_never_more_than_half),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_room_after_single_failures),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
