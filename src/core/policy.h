/* SPDX-License-Identifier: Apache-2.0 */
/* policy: the classes into which requests that wait are sorted (--router-policy-config), for all
 * models and for some of their own. Plain data; whoever fills it (app/policy_file) keeps the rules
 * below, and jr_policy_check says whether they hold.
 *
 *     request ──names an explicit class──────────────► it
 *        └──family it names, or the default's ──┐
 *           uncached tokens ──► bucket ─────────┴────► the one class of (family, bucket)
 *
 * (Dynamo 1.3, lib/kv-router scheduling/policy_config.) */
#ifndef JR_CORE_POLICY_H
#define JR_CORE_POLICY_H

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"
#include "core/queue.h"

#define JR_POLICY_HEADER "x-dynamo-meta-policy-class" /* of a request: what it names */
#define JR_POLICY_NONE   UINT32_MAX

/* What of the requests that wait is bounded, for each worker of the model. */
enum jr_policy_limit { JR_POLICY_REQUESTS, JR_POLICY_ISL_TOKENS, JR_POLICY_CACHED_TOKENS };
#define JR_POLICY_LIMITS 3
const char *jr_policy_limit_name(enum jr_policy_limit limit);

/* Above any of these a worker has no room for who waits. */
struct jr_policy_room {
    bool has_tokens, has_frac;
    double tokens; /* to prefill */
    double frac;   /* of its prefill capacity */
};

struct jr_policy_class {
    char name[JR_POLICY_NAME_MAX];
    bool is_explicit; /* no family and no bucket: chosen by its name alone */
    uint32_t family, bucket;
    enum jr_queue_policy queue_policy;
    uint64_t quantum;
    struct jr_policy_room room; /* none set: nobody waits */
    bool has_limit[JR_POLICY_LIMITS];
    uint64_t limit[JR_POLICY_LIMITS];
};

struct jr_policy_bucket {
    char name[JR_POLICY_NAME_MAX];
    uint64_t min_tokens; /* ascending, the first 0 */
};

/* The classes of one model, or of all that have none of their own. */
struct jr_policy_profile {
    char model[JR_MODEL_MAX]; /* "": the others */
    uint32_t n_families, n_buckets, n_classes;
    uint32_t default_family;
    char families[JR_POLICY_CLASSES_MAX][JR_POLICY_NAME_MAX];
    struct jr_policy_bucket buckets[JR_POLICY_BUCKETS_MAX];
    struct jr_policy_class classes[JR_POLICY_CLASSES_MAX];
};

struct jr_policy {
    uint32_t n;
    struct jr_policy_profile *profiles; /* owned by whoever made the policy */
};

/* A name as requests carry it: one number; 0 for "". */
uint64_t jr_policy_name_id(struct jr_str name);
/* Letters, digits, '_', '.', '-'; 1 … JR_POLICY_NAME_MAX - 1 of them. */
bool jr_policy_name_is_good(struct jr_str name);

/* One class, "default", for all: how requests wait without a policy. */
void jr_policy_plain(struct jr_policy_profile *ret, enum jr_queue_policy queue_policy,
                     const struct jr_policy_room *room);

/* The profile of a model (jr_pool_model_id's number of it), else that of the others, else NULL. */
const struct jr_policy_profile *jr_policy_find(const struct jr_policy *p, uint64_t model,
                                               uint64_t (*model_id)(const char *model));

/* The class of a request that names `name` (jr_policy_name_id; 0: nothing). */
uint32_t jr_policy_choose(const struct jr_policy_profile *p, uint64_t name,
                          uint64_t uncached_tokens);

/* The rules between classes: each family has one class for each bucket, names are unique. JR_EINVAL,
 * and *ret_class then is the class at fault or JR_POLICY_NONE. */
JR_MUST_CHECK int jr_policy_check(const struct jr_policy_profile *p, uint32_t *ret_class,
                                  struct jr_errmsg *e);

#endif
