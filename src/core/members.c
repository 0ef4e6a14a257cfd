/* SPDX-License-Identifier: Apache-2.0 */
#include "core/members.h"

#include "base/assert.h"
#include "base/limit.h"

void jr_members_init(struct jr_members *ms, struct jr_mem *mem)
{
    *ms = (struct jr_members){.mem = mem, .free_head = JR_MEMBER_NONE};
    jr_map_init(&ms->by_worker, mem);
}

void jr_members_deinit(struct jr_members *ms)
{
    jr_map_deinit(&ms->by_worker);
    jr_arr_free(ms->mem, ms);
}

uint32_t jr_members_first(const struct jr_members *ms, uint64_t worker_id)
{
    uint64_t head;
    return jr_map_get(&ms->by_worker, worker_id, &head) ? (uint32_t)head : JR_MEMBER_NONE;
}

uint32_t jr_members_next(const struct jr_members *ms, uint32_t member)
{
    return ms->v[member].next;
}

uint32_t jr_members_find(const struct jr_members *ms, uint64_t worker_id, uint32_t dp_rank)
{
    uint32_t m = jr_members_first(ms, worker_id);
    while (m != JR_MEMBER_NONE && ms->v[m].dp_rank != dp_rank)
        m = ms->v[m].next;
    return m;
}

/* A number that is free now; the arrays are grown, but nothing is linked yet. */
static int take_number(struct jr_members *ms, uint32_t *ret)
{
    if (ms->free_head != JR_MEMBER_NONE) {
        *ret = ms->free_head;
        return 0;
    }
    int err = jr_limit_of(JR_LIMIT_WORKERS, jr_arr_reserve(ms->mem, ms, 1, JR_WORKERS_MAX));
    if (err < 0)
        return err;
    ms->v[ms->n] = (struct jr_member){.next = JR_MEMBER_NONE};
    *ret = ms->n;
    return 0;
}

int jr_members_ref(struct jr_members *ms, uint64_t worker_id, uint32_t dp_rank, uint32_t *ret)
{
    uint32_t m = jr_members_find(ms, worker_id, dp_rank);
    if (m != JR_MEMBER_NONE) {
        ms->v[m].refs++;
        *ret = m;
        return 0;
    }
    int err = take_number(ms, &m);
    if (err < 0)
        return err;
    uint32_t head = jr_members_first(ms, worker_id);
    err = jr_map_put(&ms->by_worker, worker_id, m);
    if (err < 0)
        return err;
    if (m == ms->n)
        ms->n++;
    else
        ms->free_head = ms->v[m].next;
    ms->v[m] =
        (struct jr_member){.worker_id = worker_id, .dp_rank = dp_rank, .refs = 1, .next = head};
    *ret = m;
    return 0;
}

static void unlink_member(struct jr_members *ms, uint32_t member)
{
    uint64_t worker_id = ms->v[member].worker_id;
    uint32_t head = jr_members_first(ms, worker_id);
    if (head == member) {
        uint32_t next = ms->v[member].next;
        jr_map_del(&ms->by_worker, worker_id, NULL);
        if (next != JR_MEMBER_NONE) {
            /* The slot that was just freed is there, so this cannot fail. */
            int err = jr_map_put(&ms->by_worker, worker_id, next);
            JR_ASSERT(err == 0);
        }
        return;
    }
    while (ms->v[head].next != member)
        head = ms->v[head].next;
    ms->v[head].next = ms->v[member].next;
}

void jr_members_unref(struct jr_members *ms, uint32_t member)
{
    JR_ASSERT(member < ms->n && ms->v[member].refs > 0);
    if (--ms->v[member].refs > 0)
        return;
    unlink_member(ms, member);
    ms->v[member].next = ms->free_head;
    ms->free_head = member;
}
