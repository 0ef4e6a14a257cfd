/* SPDX-License-Identifier: Apache-2.0 */
/* The classes in which requests wait (core/policy.h), and how much of each does. Without a policy
 * there is one class for all, with the queue's threshold and policy. */
#include "core/pool_internal.h"

#include "base/assert.h"
#include "base/limit.h"

#include <string.h>

void jr_pool_classes_init(struct jr_pool *p)
{
    const struct jr_pool_config *c = &p->config;
    struct jr_policy_room room = {.has_frac = c->has_queue_threshold && c->queue_threshold >= 0,
                                  .frac = c->queue_threshold};
    jr_policy_plain(&p->plain, c->queue_policy, &room);
}

void jr_pool_classes_deinit(struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->scheds.n; i++)
        jr_mem_free(&p->mem, p->scheds.v[i], sizeof *p->scheds.v[i]);
    jr_arr_free(&p->mem, &p->scheds);
}

const struct jr_policy_room *jr_pool_plain_room(const struct jr_pool *p)
{
    static const struct jr_policy_room any;
    bool plain = p->config.mode == JR_MODE_KV && !p->config.policy;
    return plain ? &p->plain.classes[0].room : &any;
}

static const struct jr_policy_profile *profile_of(const struct jr_pool *p, uint64_t model)
{
    const struct jr_policy *policy = p->config.policy;
    const struct jr_policy_profile *own =
        policy ? jr_policy_find(policy, model, jr_pool_model_id) : NULL;
    return own ? own : &p->plain;
}

struct jr_class jr_pool_class(const struct jr_pool *p, const struct jr_route *r,
                              const struct jr_look *look)
{
    struct jr_class c = {.profile = profile_of(p, r->model)};
    c.at = jr_policy_choose(c.profile, r->policy_class, look->least_uncached);
    JR_ASSERT(c.at < c.profile->n_classes); /* jr_policy_check */
    return c;
}

const struct jr_policy_class *jr_class_row(const struct jr_class *c)
{
    return &c->profile->classes[c->at];
}

/* ---------------------------------------------------------------- whose turn */

/* "" when no worker says it. */
static const char *model_name(const struct jr_pool *p, uint64_t model)
{
    for (uint32_t i = 0; model && i < p->workers.n; i++)
        if (jr_pool_model_id(p->workers.v[i]->lease.model) == model)
            return p->workers.v[i]->lease.model;
    return "";
}

static bool is_named(const struct jr_pool *p, uint64_t model)
{
    for (uint32_t i = 0; i < p->seats.n; i++)
        if (p->seats.v[i].model == model)
            return true;
    return false;
}

static bool is_idle(const struct jr_sched *s)
{
    for (uint32_t i = 0; i < s->profile->n_classes; i++)
        if (s->usage[i].requests)
            return false;
    return true;
}

static struct jr_sched *find_idle(const struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->scheds.n; i++)
        if (is_idle(p->scheds.v[i]))
            return p->scheds.v[i];
    return NULL;
}

static struct jr_sched *find_sched(const struct jr_pool *p, uint64_t model,
                                   const struct jr_policy_profile *profile)
{
    for (uint32_t i = 0; i < p->scheds.n; i++) {
        struct jr_sched *s = p->scheds.v[i];
        if (s->model == model && s->profile == profile)
            return s;
    }
    return NULL;
}

static void begin_sched(const struct jr_pool *p, struct jr_sched *s, uint64_t model,
                        const struct jr_policy_profile *profile)
{
    uint64_t quanta[JR_POLICY_CLASSES_MAX];
    for (uint32_t i = 0; i < profile->n_classes; i++)
        quanta[i] = profile->classes[i].quantum;
    *s = (struct jr_sched){.model = model, .profile = profile};
    (void)jr_str_copy(s->name, sizeof s->name, model_name(p, model));
    jr_drr_init(&s->drr, quanta, profile->n_classes);
}

/* At the limit, one that nobody waits in: models come and go. */
static int make_sched(struct jr_pool *p, struct jr_sched **ret)
{
    int err = jr_arr_reserve(&p->mem, &p->scheds, 1, JR_QUEUE_MODELS_MAX);
    if (err == JR_ELIMIT) {
        *ret = find_idle(p);
        return *ret ? 0 : jr_limit(JR_LIMIT_QUEUE_MODELS);
    }
    if (err < 0)
        return err;
    *ret = jr_mem_zalloc(&p->mem, sizeof **ret);
    if (!*ret)
        return JR_ENOMEM;
    p->scheds.v[p->scheds.n++] = *ret;
    return 0;
}

/* Names that no worker says are the clients' choice, as many as they like: together they are the
 * model 0, of each profile. */
int jr_pool_sched(struct jr_pool *p, const struct jr_route *r, const struct jr_class *c,
                  struct jr_sched **ret)
{
    uint64_t model = is_named(p, r->model) ? r->model : 0;
    *ret = find_sched(p, model, c->profile);
    if (*ret)
        return 0;
    int err = make_sched(p, ret);
    if (err == 0)
        begin_sched(p, *ret, model, c->profile);
    return err;
}

/* ---------------------------------------------------------------- how much waits */

bool jr_pool_class_has_place(const struct jr_pool *p, const struct jr_route *r, struct jr_sched *s,
                             uint32_t class, struct jr_queue_refusal *ret)
{
    const struct jr_policy_class *c = &s->profile->classes[class];
    struct jr_class_usage *u = &s->usage[class];
    uint64_t workers = jr_pool_workers_of(p, r->model);
    for (int kind = 0; kind < JR_POLICY_LIMITS; kind++) {
        uint64_t limit = c->limit[kind] * workers;
        if (!c->has_limit[kind] || u->amount[kind] < limit)
            continue;
        u->refused[kind]++;
        *ret = (struct jr_queue_refusal){.policy_class = c->name,
                                         .kind = (enum jr_policy_limit)kind,
                                         .current = u->amount[kind],
                                         .limit = limit};
        return false;
    }
    return true;
}

void jr_pool_class_enter(struct jr_waiting *w)
{
    struct jr_class_usage *u = &w->sched->usage[w->class];
    u->requests++;
    for (int kind = 0; kind < JR_POLICY_LIMITS; kind++)
        u->amount[kind] += w->amount[kind];
}

void jr_pool_class_leave(struct jr_waiting *w)
{
    struct jr_class_usage *u = &w->sched->usage[w->class];
    u->requests--;
    for (int kind = 0; kind < JR_POLICY_LIMITS; kind++)
        u->amount[kind] -= w->amount[kind];
    if (u->requests == 0)
        jr_drr_emptied(&w->sched->drr, w->class);
}

bool jr_pool_next_class(const struct jr_pool *p, uint32_t *pos, struct jr_class_view *ret)
{
    uint32_t at = *pos;
    for (uint32_t i = 0; i < p->scheds.n; i++) {
        const struct jr_sched *s = p->scheds.v[i];
        if (at >= s->profile->n_classes) {
            at -= s->profile->n_classes;
            continue;
        }
        const struct jr_class_usage *u = &s->usage[at];
        *ret = (struct jr_class_view){.model = s->name,
                                      .name = s->profile->classes[at].name,
                                      .requests = u->requests,
                                      .isl_tokens = u->amount[JR_POLICY_ISL_TOKENS],
                                      .cached_tokens = u->amount[JR_POLICY_CACHED_TOKENS]};
        memcpy(ret->refused, u->refused, sizeof ret->refused);
        ++*pos;
        return true;
    }
    return false;
}
