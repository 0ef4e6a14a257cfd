/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of workers: states by lease and probe, order, refusals, memory. */
#include "core/workers.h"
#include "jr_test.h"
#include <string.h>

struct rig {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_workers ws;
};

static void rig_init(struct rig *r)
{
    jr_mem_init(&r->mem);
    jr_members_init(&r->members, &r->mem);
    jr_workers_init(&r->ws, &r->mem, &r->members);
}

static void rig_deinit(struct rig *r)
{
    jr_workers_deinit(&r->ws);
    for (uint32_t i = 0; i < r->members.n; i++)
        assert_int_equal(r->members.v[i].refs, 0);
    jr_members_deinit(&r->members);
    jr_mem_deinit(&r->mem);
}

static struct jr_worker_lease lease(uint64_t id, uint32_t ranks)
{
    struct jr_worker_lease l = {.worker_id = id, .block_size = 16, .n_ranks = ranks};
    for (uint32_t i = 0; i < ranks && i < JR_RANKS_INLINE; i++)
        l.ranks[i].dp_rank = i;
    return l;
}

static struct jr_worker *list(struct rig *r, uint64_t id, uint32_t ranks, uint64_t now_ms)
{
    struct jr_worker_lease l = lease(id, ranks);
    struct jr_worker *w;
    assert_int_equal(jr_workers_list(&r->ws, &l, 16, false, now_ms, &w), 0);
    return w;
}

static void test_states(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    struct jr_worker *w = list(&r, 5, 2, 100);
    assert_int_equal(w->state, JR_WORKER_LIVE);
    jr_workers_probed(&r.ws, w, false, 150); /* a listed one is not judged by probes */
    assert_int_equal(w->state, JR_WORKER_LIVE);
    jr_workers_unlist(&r.ws, w, false, 200);
    assert_int_equal(w->state, JR_WORKER_STALE);
    assert_int_equal(w->probe_at_ms, 200);
    jr_workers_unlist(&r.ws, w, false, 300);
    assert_int_equal(w->unlisted_at_ms, 200); /* when it was first missed */
    jr_workers_probed(&r.ws, w, false, 310);
    assert_int_equal(w->state, JR_WORKER_DOWN);
    jr_workers_probed(&r.ws, w, true, 320);
    assert_int_equal(w->state, JR_WORKER_STALE);
    assert_ptr_equal(list(&r, 5, 2, 400), w);
    assert_int_equal(w->state, JR_WORKER_LIVE);
    assert_int_equal(w->probe_at_ms, 0);
    rig_deinit(&r);
}

/* A static one computes for long; one whose lease is gone has that against it, too. */
static void test_late_answers(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    struct jr_worker_lease l = lease(7, 1);
    struct jr_worker *w;
    assert_int_equal(jr_workers_list(&r.ws, &l, 16, true, 100, &w), 0);
    for (uint32_t i = 1; i < JR_PROBES_LATE; i++)
        jr_workers_probed_late(&r.ws, w, 100 + i);
    assert_int_equal(w->state, JR_WORKER_LIVE);
    assert_in_range(w->probe_at_ms, 101 + JR_PROBES_LATE, 5000); /* asked again */
    jr_workers_probed(&r.ws, w, true, 200);
    for (uint32_t i = 1; i < JR_PROBES_LATE; i++)
        jr_workers_probed_late(&r.ws, w, 200 + i);
    assert_int_equal(w->state, JR_WORKER_LIVE); /* not in a row */
    jr_workers_probed_late(&r.ws, w, 300);
    assert_int_equal(w->state, JR_WORKER_DOWN);
    jr_workers_probed_late(&r.ws, w, 400);
    assert_int_equal(w->state, JR_WORKER_DOWN);
    jr_workers_probed(&r.ws, w, true, 500);
    assert_int_equal(w->state, JR_WORKER_LIVE);

    w = list(&r, 5, 1, 600);
    jr_workers_probed_late(&r.ws, w, 610); /* its lease decides */
    jr_workers_unlist(&r.ws, w, false, 700);
    assert_int_equal(w->state, JR_WORKER_STALE);
    jr_workers_probed_late(&r.ws, w, 710);
    assert_int_equal(w->state, JR_WORKER_DOWN);
    rig_deinit(&r);
}

static void test_removed_is_down_at_once(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    struct jr_worker *w = list(&r, 5, 1, 100);
    jr_workers_unlist(&r.ws, w, false, 200);
    jr_workers_unlist(&r.ws, w, true, 300); /* the word that it was on purpose comes later */
    assert_int_equal(w->state, JR_WORKER_DOWN);
    jr_workers_probed(&r.ws, w, true, 310);
    assert_int_equal(w->state, JR_WORKER_DOWN);
    assert_false(list(&r, 5, 1, 400)->removed);
    rig_deinit(&r);
}

static void test_sorted_and_refused(void **state)
{
    (void)state;
    struct rig r;
    struct jr_worker *w;
    rig_init(&r);
    for (uint64_t i = 0; i < 50; i++)
        (void)list(&r, i * 37 % 50, 1, 1);
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(r.ws.v[i]->lease.worker_id, i);
    struct jr_worker_lease l = lease(99, 1);
    assert_int_equal(jr_workers_list(&r.ws, &l, 32, false, 1, &w), JR_EINVAL);
    l.n_ranks = JR_RANKS_INLINE + 1;
    assert_int_equal(jr_workers_list(&r.ws, &l, 16, false, 1, &w), JR_EINVAL);
    assert_int_equal(r.ws.refused, 2);
    assert_null(jr_workers_find(&r.ws, 99));
    jr_workers_remove(&r.ws, 7);
    jr_workers_remove(&r.ws, 7);
    assert_int_equal(r.ws.n, 49);
    assert_null(jr_workers_find(&r.ws, 7));
    rig_deinit(&r);
}

static void test_ranks_come_and_go(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    struct jr_worker *w = list(&r, 5, 4, 1);
    assert_int_equal(w->n_members, 4);
    (void)list(&r, 5, 1, 2);
    assert_int_equal(w->n_members, 1);
    assert_int_equal(jr_members_find(&r.members, 5, 3), JR_MEMBER_NONE);
    (void)list(&r, 5, 0, 3); /* no ranks: rank 0 */
    assert_int_equal(w->n_members, 1);
    assert_int_equal(jr_members_find(&r.members, 5, 0), w->members[0]);
    rig_deinit(&r);
}

static void test_ghosts(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    assert_int_equal(jr_workers_ghost(&r.ws, 9, 100), 0);
    struct jr_worker *w = jr_workers_find(&r.ws, 9);
    assert_int_equal(w->state, JR_WORKER_DOWN);
    assert_int_equal(w->n_members, 0);
    assert_ptr_equal(list(&r, 9, 1, 200), w); /* it was only late */
    assert_int_equal(w->state, JR_WORKER_LIVE);
    rig_deinit(&r);
}

static int oom_run(struct jr_mem *mem, void *ctx)
{
    (void)ctx;
    struct jr_members members;
    struct jr_workers ws;
    int err = 0;
    jr_members_init(&members, mem);
    jr_workers_init(&ws, mem, &members);
    for (uint64_t i = 0; i < 12 && err == 0; i++) {
        struct jr_worker_lease l = lease(i % 8, 1 + (uint32_t)i % 4);
        struct jr_worker *w;
        err = jr_workers_list(&ws, &l, 0, false, i, &w);
    }
    if (err == 0)
        err = jr_workers_ghost(&ws, 77, 100);
    jr_workers_deinit(&ws);
    jr_members_deinit(&members);
    return err;
}

static void test_oom(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(oom_run, NULL) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_late_answers),
        cmocka_unit_test(test_removed_is_down_at_once),
        cmocka_unit_test(test_sorted_and_refused),
        cmocka_unit_test(test_ranks_come_and_go),
        cmocka_unit_test(test_ghosts),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests_name("core_workers", tests, NULL, NULL);
}
