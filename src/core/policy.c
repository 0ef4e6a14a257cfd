/* SPDX-License-Identifier: Apache-2.0 */
#include "core/policy.h"

#include "core/hash.h"

#include <string.h>

const char *jr_policy_limit_name(enum jr_policy_limit limit)
{
    static const char *const names[JR_POLICY_LIMITS] = {"requests", "raw_isl_tokens",
                                                        "cached_tokens"};
    return names[limit];
}

uint64_t jr_policy_name_id(struct jr_str name)
{
    if (name.n == 0)
        return 0;
    uint64_t id = jr_hash_bytes(NULL, name.p, name.n);
    return id ? id : 1;
}

static uint64_t id_of(const char *name)
{
    return jr_policy_name_id(jr_str_of(name, strlen(name)));
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

bool jr_policy_name_is_good(struct jr_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!is_name_char(name.p[i]))
            return false;
    return name.n > 0 && name.n < JR_POLICY_NAME_MAX;
}

void jr_policy_plain(struct jr_policy_profile *ret, enum jr_queue_policy queue_policy,
                     const struct jr_policy_room *room)
{
    memset(ret, 0, sizeof *ret);
    ret->n_families = ret->n_buckets = ret->n_classes = 1;
    ret->classes[0] = (struct jr_policy_class){
        .name = "default", .queue_policy = queue_policy, .quantum = 1, .room = *room};
    memcpy(ret->families[0], "default", sizeof "default");
    memcpy(ret->buckets[0].name, "all", sizeof "all");
}

const struct jr_policy_profile *jr_policy_find(const struct jr_policy *p, uint64_t model,
                                               uint64_t (*model_id)(const char *model))
{
    const struct jr_policy_profile *others = NULL;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct jr_policy_profile *profile = &p->profiles[i];
        if (!profile->model[0])
            others = profile;
        else if (model && model_id(profile->model) == model)
            return profile;
    }
    return others;
}

static uint32_t bucket_of(const struct jr_policy_profile *p, uint64_t tokens)
{
    uint32_t bucket = 0;
    while (bucket + 1 < p->n_buckets && p->buckets[bucket + 1].min_tokens <= tokens)
        bucket++;
    return bucket;
}

static uint32_t class_of(const struct jr_policy_profile *p, uint32_t family, uint32_t bucket)
{
    for (uint32_t i = 0; i < p->n_classes; i++) {
        const struct jr_policy_class *c = &p->classes[i];
        if (!c->is_explicit && c->family == family && c->bucket == bucket)
            return i;
    }
    return JR_POLICY_NONE;
}

uint32_t jr_policy_choose(const struct jr_policy_profile *p, uint64_t name,
                          uint64_t uncached_tokens)
{
    uint32_t family = p->default_family;
    for (uint32_t i = 0; name && i < p->n_classes; i++)
        if (p->classes[i].is_explicit && id_of(p->classes[i].name) == name)
            return i;
    for (uint32_t i = 0; name && i < p->n_families; i++)
        if (id_of(p->families[i]) == name)
            family = i;
    return class_of(p, family, bucket_of(p, uncached_tokens));
}

/* ---------------------------------------------------------------- rules */

static int check_name(const struct jr_policy_profile *p, uint32_t i, struct jr_errmsg *e)
{
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(p->classes[k].name, p->classes[i].name) == 0)
            return jr_errmsg_set(e, JR_EINVAL, "the class '%s' is there twice", p->classes[i].name);
    return 0;
}

static int check_pair(const struct jr_policy_profile *p, uint32_t i, struct jr_errmsg *e)
{
    const struct jr_policy_class *c = &p->classes[i];
    if (c->is_explicit)
        return 0;
    uint32_t first = class_of(p, c->family, c->bucket);
    if (first == i)
        return 0;
    return jr_errmsg_set(
        e, JR_EINVAL, "the family '%s' has two classes for the bucket '%s': '%s' and '%s'",
        p->families[c->family], p->buckets[c->bucket].name, p->classes[first].name, c->name);
}

static int check_families(const struct jr_policy_profile *p, struct jr_errmsg *e)
{
    for (uint32_t f = 0; f < p->n_families; f++)
        for (uint32_t b = 0; b < p->n_buckets; b++)
            if (class_of(p, f, b) == JR_POLICY_NONE)
                return jr_errmsg_set(e, JR_EINVAL,
                                     "the family '%s' has no class for the bucket '%s'",
                                     p->families[f], p->buckets[b].name);
    return 0;
}

int jr_policy_check(const struct jr_policy_profile *p, uint32_t *ret_class, struct jr_errmsg *e)
{
    for (uint32_t i = 0; i < p->n_classes; i++) {
        *ret_class = i;
        int err = check_name(p, i, e);
        if (err == 0)
            err = check_pair(p, i, e);
        if (err < 0)
            return err;
    }
    *ret_class = JR_POLICY_NONE;
    return check_families(p, e);
}
