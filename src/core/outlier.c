/* SPDX-License-Identifier: Apache-2.0 */
#include "core/outlier.h"

#include "base/limit.h"

#include <stddef.h>

#define FORGET_TIMES 10 /* so many times the longest time aside: nobody has use for it */

static const struct jr_sm_row rows[JR_OUTLIER_STATES] = {
    [JR_OUTLIER_IN] = {"in", JR_SM_TO(JR_OUTLIER_ASIDE), JR_SM_INITIAL},
    [JR_OUTLIER_ASIDE] = {"aside", JR_SM_TO(JR_OUTLIER_PROBED) | JR_SM_TO(JR_OUTLIER_IN), 0},
    [JR_OUTLIER_PROBED] = {"probed", JR_SM_TO(JR_OUTLIER_IN) | JR_SM_TO(JR_OUTLIER_ASIDE), 0},
};
static const struct jr_sm_table table = {"outlier", rows, JR_OUTLIER_STATES, NULL};

void jr_outlier_init(struct jr_outlier *o, const struct jr_outlier_config *config)
{
    o->config = *config;
    o->n = 0; /* the places are written when they are taken: most never are */
    o->put_aside = o->untold = 0;
}

static struct jr_outlier_entry *find(struct jr_outlier *o, uint64_t worker_id)
{
    for (uint32_t i = 0; i < o->n; i++)
        if (o->v[i].worker_id == worker_id)
            return &o->v[i];
    return NULL;
}

static void forget(struct jr_outlier *o, struct jr_outlier_entry *e)
{
    *e = o->v[--o->n];
}

static uint64_t aside_ms(const struct jr_outlier *o, const struct jr_outlier_entry *e)
{
    return e->aside_ms ? e->aside_ms : o->config.aside_ms;
}

/* Workers that nobody asks any more, most likely gone: their places are wanted. */
static void forget_old(struct jr_outlier *o, uint64_t now_ms)
{
    uint64_t after = FORGET_TIMES * o->config.aside_max_ms;
    for (uint32_t i = o->n; i-- > 0;) {
        const struct jr_outlier_entry *e = &o->v[i];
        uint64_t since = e->sm.state == JR_OUTLIER_IN ? e->failed_ms : e->until_ms;
        if (e->sm.state != JR_OUTLIER_PROBED && now_ms > since + after)
            forget(o, &o->v[i]);
    }
}

static struct jr_outlier_entry *find_or_add(struct jr_outlier *o, uint64_t worker_id,
                                            uint64_t now_ms)
{
    struct jr_outlier_entry *e = find(o, worker_id);
    if (e)
        return e;
    forget_old(o, now_ms);
    if (o->n == JR_OUTLIERS_MAX) {
        jr_limit_reached(JR_LIMIT_OUTLIERS);
        return NULL;
    }
    e = &o->v[o->n++];
    *e = (struct jr_outlier_entry){.worker_id = worker_id};
    jr_sm_init(&e->sm, &table, NULL, NULL, JR_OUTLIER_IN);
    return e;
}

uint32_t jr_outlier_n_aside(const struct jr_outlier *o)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->n; i++)
        n += o->v[i].sm.state != JR_OUTLIER_IN;
    return n;
}

bool jr_outlier_is_aside(const struct jr_outlier *o, uint64_t worker_id)
{
    for (uint32_t i = 0; i < o->n; i++)
        if (o->v[i].worker_id == worker_id)
            return o->v[i].sm.state != JR_OUTLIER_IN;
    return false;
}

static void put_aside(struct jr_outlier *o, struct jr_outlier_entry *e, uint64_t now_ms,
                      uint64_t *ret_ms)
{
    uint64_t ms = aside_ms(o, e);
    jr_sm_move(&e->sm, JR_OUTLIER_ASIDE, "");
    *ret_ms = ms;
    e->until_ms = now_ms + ms;
    e->aside_ms = 2 * ms < o->config.aside_max_ms ? 2 * ms : o->config.aside_max_ms;
    o->put_aside++;
}

bool jr_outlier_failed(struct jr_outlier *o, uint64_t worker_id, uint32_t n_workers,
                       uint64_t now_ms, uint64_t *ret_ms)
{
    if (o->config.failures == 0)
        return false;
    struct jr_outlier_entry *e = find_or_add(o, worker_id, now_ms);
    if (!e) {
        o->untold++;
        return false;
    }
    e->failures += e->failures < UINT32_MAX;
    e->failed_ms = now_ms;
    if (e->sm.state == JR_OUTLIER_ASIDE) /* sent before it was put aside */
        return false;
    bool room = (jr_outlier_n_aside(o) + 1) * JR_OUTLIER_SHARE <= n_workers;
    bool out = e->sm.state == JR_OUTLIER_PROBED || (e->failures >= o->config.failures && room);
    if (out)
        put_aside(o, e, now_ms, ret_ms);
    return out;
}

void jr_outlier_answered(struct jr_outlier *o, uint64_t worker_id)
{
    struct jr_outlier_entry *e = o->n ? find(o, worker_id) : NULL;
    if (!e || e->sm.state == JR_OUTLIER_IN)
        return;
    jr_sm_move(&e->sm, JR_OUTLIER_IN, "answered");
    e->failures = o->config.failures - 1;
}

void jr_outlier_well(struct jr_outlier *o, uint64_t worker_id)
{
    struct jr_outlier_entry *e = o->n ? find(o, worker_id) : NULL;
    if (e)
        forget(o, e);
}

void jr_outlier_keep(struct jr_outlier *o, bool (*is_there)(void *ctx, uint64_t worker_id),
                     void *ctx)
{
    for (uint32_t i = o->n; i-- > 0;)
        if (!is_there(ctx, o->v[i].worker_id))
            forget(o, &o->v[i]);
}

void jr_outlier_sent(struct jr_outlier *o, uint64_t worker_id, uint64_t now_ms)
{
    struct jr_outlier_entry *e = o->n ? find(o, worker_id) : NULL;
    if (!e || e->sm.state != JR_OUTLIER_ASIDE || now_ms < e->until_ms)
        return;
    jr_sm_move(&e->sm, JR_OUTLIER_PROBED, "time is up");
    e->until_ms = now_ms + o->config.aside_max_ms;
}

void jr_outlier_unknown(struct jr_outlier *o, uint64_t worker_id, uint64_t now_ms)
{
    struct jr_outlier_entry *e = o->n ? find(o, worker_id) : NULL;
    if (!e || e->sm.state != JR_OUTLIER_PROBED)
        return;
    jr_sm_move(&e->sm, JR_OUTLIER_ASIDE, "no outcome");
    e->until_ms = now_ms;
}

uint32_t jr_outlier_list(struct jr_outlier *o, uint64_t now_ms, uint64_t *ids)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->n; i++) {
        struct jr_outlier_entry *e = &o->v[i];
        if (e->sm.state != JR_OUTLIER_IN && now_ms < e->until_ms)
            ids[n++] = e->worker_id;
        else if (e->sm.state == JR_OUTLIER_PROBED)
            jr_outlier_unknown(o, e->worker_id, now_ms); /* lost */
    }
    return n;
}
