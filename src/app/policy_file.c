/* SPDX-License-Identifier: Apache-2.0 */
/* Each mapping is read by a table of its fields, in the order of the table: what later ones refer to
 * comes first, wherever it stands in the file. */
#include "app/policy_file.h"

#include "base/cursor.h"
#include "base/mem.h"
#include "core/drr.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define FIELDS_MAX 16

struct reader {
    yaml_document_t doc;
    const char *path;
    struct jr_errmsg *e;
    struct jr_policy *policy;
    /* What is being read. */
    struct jr_policy_profile *profile;
    struct jr_policy_class *class;
    struct jr_policy_bucket *bucket;
    bool family_given, bucket_given;
    const yaml_node_t *class_nodes[JR_POLICY_CLASSES_MAX]; /* of the profile, for complaints */
};

struct field {
    const char *key;
    bool required;
    int (*read)(struct reader *r, const yaml_node_t *node, const char *key);
};

static int fail(struct reader *r, const yaml_node_t *at, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(struct reader *r, const yaml_node_t *at, const char *key, const char *fmt, ...)
{
    char words[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(words, sizeof words, fmt, args);
    va_end(args);
    return jr_errmsg_set(r->e, JR_ECONFIG, "%.80s, line %zu: %.64s: %s", r->path,
                         at->start_mark.line + 1, key, words);
}

/* ---------------------------------------------------------------- values */

static struct jr_str text_of(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE)
        return jr_str_of("", 0);
    return jr_str_of((const char *)node->data.scalar.value, node->data.scalar.length);
}

static bool is_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const yaml_node_t *node)
{
    struct jr_str s = text_of(node);
    return is_plain(node) && (s.n == 0 || jr_str_eq(s, "~") || jr_str_eq(s, "null"));
}

static int read_name(struct reader *r, const yaml_node_t *node, const char *key,
                     char ret[JR_POLICY_NAME_MAX])
{
    struct jr_str s = text_of(node);
    if (!jr_policy_name_is_good(s))
        return fail(r, node, key, "must be a name of letters, digits, '_', '.' and '-', at most %d",
                    JR_POLICY_NAME_MAX - 1);
    memcpy(ret, s.p, s.n);
    ret[s.n] = 0;
    return 0;
}

static int read_count(struct reader *r, const yaml_node_t *node, const char *key, uint64_t min,
                      uint64_t *ret)
{
    struct jr_str s = text_of(node);
    if (is_plain(node) && jr_parse_u64(s.p, s.n, ret) == 0 && *ret >= min &&
        *ret <= JR_DRR_QUANTUM_MAX)
        return 0;
    return fail(r, node, key, "must be a whole number in %llu..%llu, not '%.40s'",
                (unsigned long long)min, (unsigned long long)JR_DRR_QUANTUM_MAX, s.p);
}

static int read_share(struct reader *r, const yaml_node_t *node, const char *key, double *ret)
{
    struct jr_str s = text_of(node);
    if (is_plain(node) && jr_parse_f64(s.p, s.n, ret) == 0 && isfinite(*ret) && *ret >= 0)
        return 0;
    return fail(r, node, key, "must be a finite number that is not negative, not '%.40s'", s.p);
}

/* ---------------------------------------------------------------- mappings and lists */

static const struct field *find_field(const struct field *fields, size_t n, struct jr_str key)
{
    for (size_t i = 0; i < n; i++)
        if (jr_str_eq(key, fields[i].key))
            return &fields[i];
    return NULL;
}

/* Puts the value of each field that is there in values. */
static int sort_fields(struct reader *r, const yaml_node_t *node, const char *key,
                       const struct field *fields, size_t n, const yaml_node_t **values)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail(r, node, key, "must be a mapping of fields");
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *name = yaml_document_get_node(&r->doc, pair->key);
        struct jr_str s = text_of(name);
        const struct field *f = find_field(fields, n, s);
        if (!f)
            return fail(r, name, key, "has no field '%.40s'", s.p);
        if (values[f - fields])
            return fail(r, name, f->key, "is there twice");
        values[f - fields] = yaml_document_get_node(&r->doc, pair->value);
    }
    return 0;
}

static int read_fields(struct reader *r, const yaml_node_t *node, const char *key,
                       const struct field *fields, size_t n)
{
    const yaml_node_t *values[FIELDS_MAX] = {NULL};
    int err = sort_fields(r, node, key, fields, n, values);
    for (size_t i = 0; err == 0 && i < n; i++) {
        bool there = values[i] && (fields[i].required || !is_null(values[i]));
        if (there)
            err = fields[i].read(r, values[i], fields[i].key);
        else if (fields[i].required)
            err = fail(r, node, fields[i].key, "is missing");
    }
    return err;
}

/* Item i of a list, or NULL at its end. */
static const yaml_node_t *item(struct reader *r, const yaml_node_t *list, uint32_t i)
{
    yaml_node_item_t *at = list->data.sequence.items.start + i;
    return at < list->data.sequence.items.top ? yaml_document_get_node(&r->doc, *at) : NULL;
}

static int check_list(struct reader *r, const yaml_node_t *node, const char *key, uint32_t max)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return fail(r, node, key, "must be a list");
    if (!item(r, node, 0))
        return fail(r, node, key, "must not be empty");
    if (item(r, node, max))
        return fail(r, node, key, "has more than %u items", max);
    return 0;
}

/* ---------------------------------------------------------------- buckets */

static int read_min_tokens(struct reader *r, const yaml_node_t *node, const char *key)
{
    return read_count(r, node, key, 0, &r->bucket->min_tokens);
}

static int find_bucket(const struct jr_policy_profile *p, const char *name)
{
    for (uint32_t i = 0; i < p->n_buckets; i++)
        if (strcmp(p->buckets[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int read_bucket_name(struct reader *r, const yaml_node_t *node, const char *key)
{
    char name[JR_POLICY_NAME_MAX];
    int err = read_name(r, node, key, name);
    if (err == 0 && find_bucket(r->profile, name) >= 0)
        return fail(r, node, key, "'%s' is there twice", name);
    memcpy(r->bucket->name, name, sizeof name);
    return err;
}

static int read_bucket(struct reader *r, const yaml_node_t *node)
{
    static const struct field fields[] = {{"min_tokens", true, read_min_tokens},
                                          {"bucket", true, read_bucket_name}};
    struct jr_policy_profile *p = r->profile;
    struct jr_policy_bucket b = {.min_tokens = 0};
    r->bucket = &b;
    int err = read_fields(r, node, "uncached_isl_buckets", fields, sizeof fields / sizeof *fields);
    if (err < 0)
        return err;
    if (p->n_buckets == 0 && b.min_tokens != 0)
        return fail(r, node, "min_tokens", "of the first bucket must be 0");
    if (p->n_buckets && b.min_tokens <= p->buckets[p->n_buckets - 1].min_tokens)
        return fail(r, node, "min_tokens", "must be more than that of the bucket before");
    p->buckets[p->n_buckets++] = b;
    return 0;
}

static int read_buckets(struct reader *r, const yaml_node_t *node, const char *key)
{
    const yaml_node_t *one;
    int err = check_list(r, node, key, JR_POLICY_BUCKETS_MAX);
    for (uint32_t i = 0; err == 0 && (one = item(r, node, i)); i++)
        err = read_bucket(r, one);
    return err;
}

/* ---------------------------------------------------------------- classes */

static int read_class_name(struct reader *r, const yaml_node_t *node, const char *key)
{
    return read_name(r, node, key, r->class->name);
}

static int find_family(const struct jr_policy_profile *p, const char *name)
{
    for (uint32_t i = 0; i < p->n_families; i++)
        if (strcmp(p->families[i], name) == 0)
            return (int)i;
    return -1;
}

/* A family is there when a class says so. */
static int read_family(struct reader *r, const yaml_node_t *node, const char *key)
{
    struct jr_policy_profile *p = r->profile;
    char name[JR_POLICY_NAME_MAX];
    int err = read_name(r, node, key, name);
    if (err < 0)
        return err;
    int at = find_family(p, name);
    if (at < 0) {
        at = (int)p->n_families++; /* no more than classes */
        memcpy(p->families[at], name, sizeof name);
    }
    r->class->family = (uint32_t)at;
    r->family_given = true;
    return 0;
}

static int read_class_bucket(struct reader *r, const yaml_node_t *node, const char *key)
{
    char name[JR_POLICY_NAME_MAX];
    int err = read_name(r, node, key, name);
    if (err < 0)
        return err;
    int at = find_bucket(r->profile, name);
    if (at < 0)
        return fail(r, node, key, "'%s' is no bucket of uncached_isl_buckets", name);
    r->class->bucket = (uint32_t)at;
    r->bucket_given = true;
    return 0;
}

static int read_queue_policy(struct reader *r, const yaml_node_t *node, const char *key)
{
    struct jr_str s = text_of(node);
    if (jr_str_eq(s, "fcfs"))
        r->class->queue_policy = JR_QUEUE_FCFS;
    else if (jr_str_eq(s, "wspt"))
        r->class->queue_policy = JR_QUEUE_WSPT;
    else
        return fail(r, node, key, "must be fcfs or wspt, not '%.40s'", s.p);
    return 0;
}

static int read_quantum(struct reader *r, const yaml_node_t *node, const char *key)
{
    return read_count(r, node, key, 1, &r->class->quantum);
}

static int read_tokens(struct reader *r, const yaml_node_t *node, const char *key)
{
    uint64_t tokens = 0;
    int err = read_count(r, node, key, 0, &tokens);
    r->class->room.has_tokens = true;
    r->class->room.tokens = (double)tokens;
    return err;
}

static int read_frac(struct reader *r, const yaml_node_t *node, const char *key)
{
    r->class->room.has_frac = true;
    return read_share(r, node, key, &r->class->room.frac);
}

static int read_limit(struct reader *r, const yaml_node_t *node, const char *key,
                      enum jr_policy_limit kind)
{
    r->class->has_limit[kind] = true;
    return read_count(r, node, key, 0, &r->class->limit[kind]);
}

static int read_requests(struct reader *r, const yaml_node_t *node, const char *key)
{
    return read_limit(r, node, key, JR_POLICY_REQUESTS);
}

static int read_isl(struct reader *r, const yaml_node_t *node, const char *key)
{
    return read_limit(r, node, key, JR_POLICY_ISL_TOKENS);
}

static int read_cached(struct reader *r, const yaml_node_t *node, const char *key)
{
    return read_limit(r, node, key, JR_POLICY_CACHED_TOKENS);
}

static int read_class(struct reader *r, const yaml_node_t *node)
{
    static const struct field fields[] = {
        {"name", true, read_class_name},
        {"policy_family", false, read_family},
        {"cache_bucket", false, read_class_bucket},
        {"queue_policy", true, read_queue_policy},
        {"quantum", true, read_quantum},
        {"prefill_busy_threshold", false, read_tokens},
        {"prefill_busy_threshold_frac", false, read_frac},
        {"request_queue_limit_per_worker", false, read_requests},
        {"raw_isl_token_queue_limit_per_worker", false, read_isl},
        {"cached_token_queue_limit_per_worker", false, read_cached},
    };
    struct jr_policy_profile *p = r->profile;
    r->class_nodes[p->n_classes] = node;
    r->class = &p->classes[p->n_classes++];
    r->family_given = r->bucket_given = false;
    int err = read_fields(r, node, "policy_classes", fields, sizeof fields / sizeof *fields);
    if (err == 0 && r->family_given != r->bucket_given)
        return fail(r, node, r->family_given ? "cache_bucket" : "policy_family",
                    "is missing: policy_family and cache_bucket go together");
    r->class->is_explicit = !r->family_given;
    return err;
}

static int read_classes(struct reader *r, const yaml_node_t *node, const char *key)
{
    const yaml_node_t *one;
    int err = check_list(r, node, key, JR_POLICY_CLASSES_MAX);
    for (uint32_t i = 0; err == 0 && (one = item(r, node, i)); i++)
        err = read_class(r, one);
    if (err < 0)
        return err;
    struct jr_errmsg words = {0};
    uint32_t at;
    if (jr_policy_check(r->profile, &at, &words) < 0)
        return fail(r, at == JR_POLICY_NONE ? node : r->class_nodes[at], key, "%s", words.text);
    return 0;
}

static int read_default(struct reader *r, const yaml_node_t *node, const char *key)
{
    char name[JR_POLICY_NAME_MAX];
    int err = read_name(r, node, key, name);
    int at = err == 0 ? find_family(r->profile, name) : -1;
    if (err == 0 && at < 0)
        return fail(r, node, key, "no class has the policy_family '%s'", name);
    r->profile->default_family = at < 0 ? 0 : (uint32_t)at;
    return err;
}

/* ---------------------------------------------------------------- profiles */

static int add_profile(struct reader *r, const yaml_node_t *at, struct jr_str model)
{
    struct jr_policy *policy = r->policy;
    policy->profiles = jr_xrealloc(policy->profiles, (policy->n + 1) * sizeof *policy->profiles);
    r->profile = &policy->profiles[policy->n++];
    memset(r->profile, 0, sizeof *r->profile);
    if (model.n >= sizeof r->profile->model)
        return fail(r, at, "models", "a name is longer than %d", JR_MODEL_MAX - 1);
    memcpy(r->profile->model, model.p, model.n);
    return 0;
}

static int read_model(struct reader *r, const yaml_node_t *name, const yaml_node_t *node)
{
    static const struct field fields[] = {{"uncached_isl_buckets", true, read_buckets},
                                          {"policy_classes", true, read_classes},
                                          {"default_policy_family", true, read_default}};
    struct jr_str model = text_of(name);
    if (model.n == 0)
        return fail(r, name, "models", "must be a mapping by model name");
    for (uint32_t i = 0; i < r->policy->n; i++)
        if (jr_str_eq(model, r->policy->profiles[i].model))
            return fail(r, name, "models", "'%.60s' is there twice", model.p);
    int err = add_profile(r, name, model);
    return err < 0 ? err : read_fields(r, node, "models", fields, sizeof fields / sizeof *fields);
}

static int read_models(struct reader *r, const yaml_node_t *node, const char *key)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail(r, node, key, "must be a mapping by model name");
    int err = 0;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         err == 0 && pair < node->data.mapping.pairs.top; pair++) {
        if (r->policy->n > JR_POLICY_MODELS_MAX)
            return fail(r, node, key, "has more than %d items", JR_POLICY_MODELS_MAX);
        err = read_model(r, yaml_document_get_node(&r->doc, pair->key),
                         yaml_document_get_node(&r->doc, pair->value));
    }
    return err;
}

static bool has_field(struct reader *r, const yaml_node_t *root, const char *key)
{
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         root->type == YAML_MAPPING_NODE && pair < root->data.mapping.pairs.top; pair++)
        if (jr_str_eq(text_of(yaml_document_get_node(&r->doc, pair->key)), key))
            return true;
    return false;
}

/* Only models of their own: the others wait as without a policy. */
static bool is_of_models_alone(struct reader *r, const yaml_node_t *root)
{
    return has_field(r, root, "models") && !has_field(r, root, "policy_classes") &&
           !has_field(r, root, "default_policy_family") &&
           !has_field(r, root, "uncached_isl_buckets");
}

static int read_root(struct reader *r)
{
    static const struct field whole[] = {{"uncached_isl_buckets", true, read_buckets},
                                         {"policy_classes", true, read_classes},
                                         {"default_policy_family", true, read_default},
                                         {"models", false, read_models}};
    static const struct field models[] = {{"models", true, read_models}};
    const yaml_node_t *root = yaml_document_get_root_node(&r->doc);
    if (!root)
        return jr_errmsg_set(r->e, JR_ECONFIG, "%.160s: is empty", r->path);
    if (is_of_models_alone(r, root))
        return read_fields(r, root, "the file", models, 1);
    int err = add_profile(r, root, jr_str_of("", 0));
    return err < 0 ? err : read_fields(r, root, "the file", whole, sizeof whole / sizeof *whole);
}

/* ---------------------------------------------------------------- the file */

static int read_bytes(const char *path, char *bytes, size_t *ret_n, struct jr_errmsg *e)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return jr_errmsg_set(e, JR_ECONFIG, "cannot read %.160s: %s", path, strerror(errno));
    *ret_n = fread(bytes, 1, JR_POLICY_FILE_MAX + 1, f);
    int err = ferror(f) ? JR_EIO : 0;
    (void)fclose(f);
    if (err < 0)
        return jr_errmsg_set(e, JR_ECONFIG, "cannot read %.160s", path);
    if (*ret_n > JR_POLICY_FILE_MAX)
        return jr_errmsg_set(e, JR_ECONFIG, "%.160s is larger than %d bytes", path,
                             JR_POLICY_FILE_MAX);
    return 0;
}

static int no_yaml(const yaml_parser_t *parser, const char *path, struct jr_errmsg *e)
{
    return jr_errmsg_set(e, JR_ECONFIG, "%.80s, line %zu: is no YAML: %.120s", path,
                         parser->problem_mark.line + 1, parser->problem ? parser->problem : "");
}

static int parse(yaml_parser_t *parser, struct reader *r)
{
    if (!yaml_parser_load(parser, &r->doc))
        return no_yaml(parser, r->path, r->e);
    int err = read_root(r);
    yaml_document_delete(&r->doc);
    if (err < 0)
        return err;
    if (!yaml_parser_load(parser, &r->doc))
        return no_yaml(parser, r->path, r->e);
    bool another = yaml_document_get_root_node(&r->doc) != NULL;
    yaml_document_delete(&r->doc);
    return another ? jr_errmsg_set(r->e, JR_ECONFIG, "%.160s: has more than one document", r->path)
                   : 0;
}

int jr_policy_file_load(const char *path, struct jr_policy **ret, struct jr_errmsg *e)
{
    char *bytes = jr_xalloc(JR_POLICY_FILE_MAX + 1);
    size_t n = 0;
    int err = read_bytes(path, bytes, &n, e);
    struct reader r = {.path = path, .e = e, .policy = jr_xalloc(sizeof *r.policy)};
    yaml_parser_t parser;
    if (err == 0 && !yaml_parser_initialize(&parser))
        err = JR_ENOMEM;
    else if (err == 0) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, n);
        err = parse(&parser, &r);
        yaml_parser_delete(&parser);
    }
    jr_xfree(bytes);
    if (err < 0)
        jr_policy_file_destroy(r.policy);
    else
        *ret = r.policy;
    return err;
}

int jr_policy_file_from(const struct jr_config *cfg, struct jr_policy **ret, struct jr_errmsg *e)
{
    unsigned commands = jr_config_row(JR_CFG_ROUTER_POLICY_CONFIG)->commands;
    const char *path = jr_config_str(cfg, JR_CFG_ROUTER_POLICY_CONFIG);
    *ret = NULL;
    if (!path || !(commands & (unsigned)jr_config_command(cfg)))
        return 0;
    int err = jr_policy_file_load(path, ret, e);
    return err < 0 ? jr_errmsg_wrap(e, err, "--router-policy-config") : 0;
}

void jr_policy_file_destroy(struct jr_policy *policy)
{
    if (!policy)
        return;
    jr_xfree(policy->profiles);
    jr_xfree(policy);
}
