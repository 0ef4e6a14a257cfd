/* SPDX-License-Identifier: Apache-2.0 */
#include "app/ctl/ctl_follow.h"

#include "base/str.h"

#include <inttypes.h>
#include <string.h>

static const char *text(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static uint64_t number(const json_t *o, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(o, name));
}

/* The pools of an answer; *ret_state owns them. */
static int pools_of(const char *body, size_t n, json_t **ret_state, json_t **ret_pools,
                    struct jr_errmsg *e)
{
    json_t *state = json_loadb(body, n, 0, NULL), *pools = json_object_get(state, "pools");
    if (!json_is_array(pools)) {
        json_decref(state);
        return jr_errmsg_set(e, JR_EPROTO, "the answer is not the state of a JetRouter replica");
    }
    *ret_state = state;
    *ret_pools = pools;
    return 0;
}

static void begin_pool(struct jr_ctl_follow_pool *p, const json_t *pool)
{
    *p = (struct jr_ctl_follow_pool){
        .leads = json_is_true(json_object_get(pool, "leader")),
        .applied = number(pool, "applied_seq"),
        .failures = number(json_object_get(pool, "counters"), "snapshot_failures"),
    };
    (void)jr_str_copy(p->component, sizeof p->component, text(pool, "component"));
    (void)jr_str_copy(p->stage, sizeof p->stage, "idle");
}

int jr_ctl_follow_begin(struct jr_ctl_follow *f, const char *body, size_t n, struct jr_errmsg *e)
{
    json_t *state, *pools, *pool;
    size_t i;
    bool leads = false;
    int err = pools_of(body, n, &state, &pools, e);
    if (err < 0)
        return err;
    f->n = 0;
    json_array_foreach(pools, i, pool)
    {
        if (f->n == JR_POOLS_MAX)
            break;
        begin_pool(&f->pools[f->n], pool);
        leads = leads || f->pools[f->n++].leads;
    }
    json_decref(state);
    return leads ? 0
                 : jr_errmsg_set(e, JR_ECONFLICT,
                                 "this replica leads no pool, and only the leader writes: ask "
                                 "the others (ctl replicas lists them)");
}

static void say(struct jr_ctl_follow_pool *p, const json_t *pool, struct jr_buf *b)
{
    const char *stage = text(pool, "snapshot_stage");
    if (strcmp(stage, p->stage) != 0 && strcmp(stage, "idle") != 0)
        jr_buf_printf(b, "%s: %s\n", p->component, stage);
    (void)jr_str_copy(p->stage, sizeof p->stage, stage);
}

/* 0: it has what was asked for. */
static int look_at(struct jr_ctl_follow_pool *p, const json_t *pool, struct jr_buf *b,
                   struct jr_errmsg *e)
{
    const json_t *newest = json_object_get(pool, "snapshot");
    say(p, pool, b);
    /* A new one, or one that nothing came after: then none is written. */
    if (json_is_object(newest) && number(newest, "seq") >= p->applied &&
        strcmp(text(pool, "snapshot_stage"), "idle") == 0) {
        p->done = true;
        jr_buf_printf(b, "%s: verified: %s at %" PRIu64 ", %" PRIu64 " bytes\n", p->component,
                      text(newest, "object"), number(newest, "seq"), number(newest, "bytes"));
        return 0;
    }
    if (number(json_object_get(pool, "counters"), "snapshot_failures") != p->failures)
        return jr_errmsg_set(e, JR_EIO, "%.64s: the snapshot failed: %.120s (it is tried again)",
                             p->component, text(pool, "snapshot_failed_because"));
    if (!json_is_true(json_object_get(pool, "leader")))
        return jr_errmsg_set(e, JR_ECONFLICT, "%.64s: this replica does not lead any more",
                             p->component);
    return JR_EAGAIN;
}

int jr_ctl_follow_look(struct jr_ctl_follow *f, const char *body, size_t n, struct jr_buf *b,
                       struct jr_errmsg *e)
{
    json_t *state, *pools;
    int err = pools_of(body, n, &state, &pools, e), all = 0;
    if (err < 0)
        return err;
    for (uint32_t i = 0; i < f->n && (all == 0 || all == JR_EAGAIN); i++) {
        struct jr_ctl_follow_pool *p = &f->pools[i];
        if (!p->leads || p->done)
            continue;
        err = look_at(p, json_array_get(pools, i), b, e);
        all = err < 0 ? err : all;
    }
    json_decref(state);
    return all;
}
