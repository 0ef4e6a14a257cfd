/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a pool's workers serve a model, as they come, say what they serve, fail and come back. */
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
    struct jr_event ev = {.type = JR_EV_PROBED, .u.probed = {.worker_id = id, .healthy = healthy}};
    rig_step(r, &ev);
}

static void expect(struct rig *r, const char *model, enum jr_pool_model want)
{
    for (int again = 0; again < 2; again++) /* what was found is kept */
        assert_int_equal(jr_pool_model(r->pool, model), want);
}

static void test_models(void **state)
{
    struct rig r;
    struct jr_pool_config c;
    (void)state;
    rig_config(&c);
    c.durable = false;
    rig_init_with(&r, &c);
    expect(&r, "a", JR_POOL_MODEL_EMPTY);
    expect(&r, "", JR_POOL_MODEL_EMPTY);
    list(&r, 1, ""); /* has not said yet */
    expect(&r, "a", JR_POOL_MODEL_TAKEN);
    expect(&r, "", JR_POOL_MODEL_SERVED);
    list(&r, 1, "a");
    expect(&r, "a", JR_POOL_MODEL_SERVED);
    expect(&r, "b", JR_POOL_MODEL_NONE);
    list(&r, 2, "");
    expect(&r, "a", JR_POOL_MODEL_SERVED); /* one that says so is better than one that may */
    expect(&r, "b", JR_POOL_MODEL_TAKEN);
    list(&r, 2, "b");
    list(&r, 3, "a");
    expect(&r, "a", JR_POOL_MODEL_SERVED);
    expect(&r, "b", JR_POOL_MODEL_SERVED);
    expect(&r, "ab", JR_POOL_MODEL_NONE);
    expect(&r, "", JR_POOL_MODEL_SERVED);
    expect(&r, NULL, JR_POOL_MODEL_SERVED);
    probed(&r, 2, false);
    expect(&r, "b", JR_POOL_MODEL_NONE);
    expect(&r, "a", JR_POOL_MODEL_SERVED);
    probed(&r, 1, false);
    expect(&r, "a", JR_POOL_MODEL_SERVED);
    probed(&r, 3, false);
    expect(&r, "a", JR_POOL_MODEL_EMPTY);
    probed(&r, 2, true);
    expect(&r, "a", JR_POOL_MODEL_NONE);
    expect(&r, "b", JR_POOL_MODEL_SERVED);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_models)};
    return cmocka_run_group_tests_name("core_pool_models", tests, NULL, NULL);
}
