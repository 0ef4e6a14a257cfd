/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a pool's workers serve a model, as they come, say what they serve, fail and come back. */
#include "pool_rig.h"

static void list(struct rig *r, uint64_t id, const char *model)
{
    struct jr_worker_lease lease = {.worker_id = id, .n_ranks = 1};
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    (void)snprintf(lease.url, sizeof lease.url, "http://w%u", (unsigned)id);
    (void)snprintf(lease.model, sizeof lease.model, "%s", model);
    ev.u.members.workers = &lease;
    ev.u.members.n_workers = 1;
    ev.u.members.is_static = true;
    rig_step(r, &ev);
    assert_int_equal(r->err, 0);
}

static void probed(struct rig *r, uint64_t id, bool healthy)
{
    struct jr_event ev = {.type = JR_EV_PROBED, .u.probed = {id, healthy}};
    rig_step(r, &ev);
}

/* The ids as one number: 1 and 3 are 13. */
static unsigned serving(struct rig *r, const char *model)
{
    uint64_t ids[8];
    unsigned v = 0;
    uint32_t n = jr_pool_serving(r->pool, model, ids, 8);
    for (uint32_t i = 0; i < n; i++)
        v = v * 10 + (unsigned)ids[i];
    return v;
}

static void expect(struct rig *r, const char *model, enum jr_pool_model want, unsigned ids)
{
    for (int again = 0; again < 2; again++) /* what was found is kept */
        assert_int_equal(jr_pool_model(r->pool, model), want);
    assert_int_equal(serving(r, model), ids);
}

static void test_models(void **state)
{
    struct rig r;
    struct jr_pool_config c;
    (void)state;
    rig_config(&c);
    c.durable = false;
    rig_init_with(&r, &c);
    expect(&r, "a", JR_POOL_MODEL_EMPTY, 0);
    expect(&r, "", JR_POOL_MODEL_EMPTY, 0);
    list(&r, 1, ""); /* has not said yet */
    expect(&r, "a", JR_POOL_MODEL_ALL, 1);
    list(&r, 1, "a");
    expect(&r, "a", JR_POOL_MODEL_ALL, 1);
    expect(&r, "b", JR_POOL_MODEL_NONE, 0);
    list(&r, 2, "b");
    list(&r, 3, "a");
    expect(&r, "a", JR_POOL_MODEL_SOME, 13);
    expect(&r, "b", JR_POOL_MODEL_SOME, 2);
    expect(&r, "ab", JR_POOL_MODEL_NONE, 0);
    expect(&r, "", JR_POOL_MODEL_ALL, 123);
    expect(&r, NULL, JR_POOL_MODEL_ALL, 123);
    uint64_t one;
    assert_int_equal(jr_pool_serving(r.pool, "a", &one, 1), 1);
    probed(&r, 2, false);
    expect(&r, "b", JR_POOL_MODEL_NONE, 0);
    expect(&r, "a", JR_POOL_MODEL_ALL, 13);
    probed(&r, 1, false);
    expect(&r, "a", JR_POOL_MODEL_ALL, 3);
    probed(&r, 3, false);
    expect(&r, "a", JR_POOL_MODEL_EMPTY, 0);
    probed(&r, 2, true);
    expect(&r, "a", JR_POOL_MODEL_NONE, 0);
    expect(&r, "b", JR_POOL_MODEL_ALL, 2);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_models)};
    return cmocka_run_group_tests_name("core_pool_models", tests, NULL, NULL);
}
