/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank holds beside its device (ADR 17): rows of their own in the log, which count for the rank
 * whose number and incarnation they have. Looked at only where such blocks are given credit. */
#include "base/bug.h"
#include "core/pool_internal.h"

/* The member of the row, or NONE: there is no such row, or it is of another incarnation of the rank
 * than the one that is credited. */
static uint32_t lower_member(const struct jr_pool *p, const struct jr_seat *s, enum jr_lower lower)
{
    const struct jr_state_rank *rank = jr_state_rank(p->state, s->member);
    if (s->dp_rank >= JR_LOWER_STEP || !rank || rank->incarnation == 0)
        return JR_MEMBER_NONE;
    uint32_t m = jr_members_find(&p->members, s->worker_id, jr_lower_row(s->dp_rank, lower));
    uint64_t named = JR_BUG(LOWER_OF_BEFORE) ? 0 : rank->incarnation;
    return m != JR_MEMBER_NONE && jr_pool_incarnation_fits(p, m, named) ? m : JR_MEMBER_NONE;
}

bool jr_pool_lower_counts(const struct jr_pool *p)
{
    return p->config.durable && jr_cost_lower_counts(&p->config.cost);
}

int jr_pool_lower_seat(struct jr_pool *p, const struct jr_seat *s, bool credited)
{
    int err = jr_arr_reserve(&p->mem, &p->lower, JR_LOWERS, JR_LOWERS * JR_WORKERS_MAX);
    for (int i = 0; err == 0 && i < JR_LOWERS; i++)
        p->lower.v[p->lower.n++] = credited ? lower_member(p, s, (enum jr_lower)i) : JR_MEMBER_NONE;
    return err;
}

static uint32_t score(const struct jr_pool *p, uint32_t member)
{
    return member == JR_MEMBER_NONE ? 0 : jr_index_match_blocks(&p->match, member);
}

/* A row that is behind the device's, or that nobody writes, adds nothing. */
void jr_pool_lower_fill(const struct jr_pool *p, uint32_t seat, struct jr_candidate *c)
{
    const uint32_t *rows = p->lower.v + (size_t)JR_LOWERS * seat;
    uint32_t device = c->overlap_blocks, host = score(p, rows[JR_LOWER_HOST]);
    uint32_t any = score(p, rows[JR_LOWER_ANY]);
    host = host > device ? host : device;
    c->host_blocks = host - device;
    c->disk_blocks = any > host ? any - host : 0;
}
