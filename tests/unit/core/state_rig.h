/* SPDX-License-Identifier: Apache-2.0 */
/* state_rig: a state with what it borrows. */
#ifndef JR_TEST_STATE_RIG_H
#define JR_TEST_STATE_RIG_H

#include "core/state.h"
#include "core_gen.h"
#include "jr_test.h"

struct rig {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *s;
};

static inline void rig_init(struct rig *r)
{
    jr_mem_init(&r->mem);
    jr_members_init(&r->members, &r->mem);
    assert_int_equal(jr_state_create(&r->mem, &r->members, &r->s), 0);
}

static inline void rig_deinit(struct rig *r)
{
    jr_state_destroy(r->s);
    jr_members_deinit(&r->members);
    jr_mem_deinit(&r->mem);
}

static inline uint32_t apply(struct rig *r, const struct gen_msg *g)
{
    uint32_t effect = 0;
    assert_int_equal(jr_state_apply(r->s, &g->m, &effect), 0);
    return effect;
}

static inline const struct jr_state_rank *row(struct rig *r, uint64_t worker, uint32_t rank)
{
    uint32_t m = jr_members_find(&r->members, worker, rank);
    return m == JR_MEMBER_NONE ? NULL : jr_state_rank(r->s, m);
}

#endif
