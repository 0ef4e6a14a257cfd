/* SPDX-License-Identifier: Apache-2.0 */
/* Policies: names, the choice of a class, the rules between classes, and limits of cached tokens. */
#include "core_pool.h"

static struct jr_policy_profile two[2];

static uint64_t id(const char *name)
{
    return jr_policy_name_id(jr_str_of(name, strlen(name)));
}

static void add_class(struct jr_policy_profile *p, const char *name, bool is_explicit,
                      uint32_t family, uint32_t bucket)
{
    struct jr_policy_class *c = &p->classes[p->n_classes++];
    *c = (struct jr_policy_class){
        .is_explicit = is_explicit, .family = family, .bucket = bucket, .quantum = 1};
    (void)snprintf(c->name, sizeof c->name, "%s", name);
}

static void make(struct jr_policy_profile *p, const char *model)
{
    memset(p, 0, sizeof *p);
    (void)snprintf(p->model, sizeof p->model, "%s", model);
    p->n_families = 2;
    p->n_buckets = 3;
    p->default_family = 1;
    (void)snprintf(p->families[0], JR_POLICY_NAME_MAX, "gold");
    (void)snprintf(p->families[1], JR_POLICY_NAME_MAX, "free");
    for (uint32_t i = 0; i < 3; i++) {
        (void)snprintf(p->buckets[i].name, JR_POLICY_NAME_MAX, "b%u", i);
        p->buckets[i].min_tokens = i * 100;
    }
    add_class(p, "gold-0", false, 0, 0);
    add_class(p, "free-0", false, 1, 0);
    add_class(p, "gold-1", false, 0, 1);
    add_class(p, "free-1", false, 1, 1);
    add_class(p, "gold-2", false, 0, 2);
    add_class(p, "free-2", false, 1, 2);
    add_class(p, "batch", true, 0, 0);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(id(""), 0);
    assert_true(id("gold") != 0 && id("gold") != id("Gold"));
    const char *good[] = {"a", "A-b_c.9", "0"}, *bad[] = {"", "a b", "a/b", "ä"};
    for (size_t i = 0; i < 3; i++)
        assert_true(jr_policy_name_is_good(jr_str_of(good[i], strlen(good[i]))));
    for (size_t i = 0; i < 4; i++)
        assert_false(jr_policy_name_is_good(jr_str_of(bad[i], strlen(bad[i]))));
    char longest[JR_POLICY_NAME_MAX];
    memset(longest, 'a', sizeof longest);
    assert_true(jr_policy_name_is_good(jr_str_of(longest, sizeof longest - 1)));
    assert_false(jr_policy_name_is_good(jr_str_of(longest, sizeof longest)));
}

static const char *chosen(const char *name, uint64_t uncached)
{
    return two[0].classes[jr_policy_choose(&two[0], id(name), uncached)].name;
}

static void test_choice(void **state)
{
    (void)state;
    make(&two[0], "");
    assert_string_equal(chosen("", 0), "free-0");
    assert_string_equal(chosen("", 99), "free-0");
    assert_string_equal(chosen("", 100), "free-1");
    assert_string_equal(chosen("gold", 1000000), "gold-2");
    assert_string_equal(chosen("batch", 150), "batch");
    /* A class of a family is not to be had by its name, and who names nothing that is has the default. */
    assert_string_equal(chosen("gold-0", 150), "free-1");
    assert_string_equal(chosen("nonsense", 0), "free-0");
}

static void test_models(void **state)
{
    (void)state;
    struct jr_policy p = {.n = 2, .profiles = two};
    make(&two[0], "");
    make(&two[1], "m");
    assert_ptr_equal(jr_policy_find(&p, jr_pool_model_id("m"), jr_pool_model_id), &two[1]);
    assert_ptr_equal(jr_policy_find(&p, jr_pool_model_id("n"), jr_pool_model_id), &two[0]);
    assert_ptr_equal(jr_policy_find(&p, 0, jr_pool_model_id), &two[0]);
    p = (struct jr_policy){.n = 1, .profiles = &two[1]};
    assert_null(jr_policy_find(&p, jr_pool_model_id("n"), jr_pool_model_id));
}

static void check(uint32_t class, const char *word)
{
    struct jr_errmsg e = {0};
    uint32_t at;
    assert_int_equal(jr_policy_check(&two[0], &at, &e), word ? JR_EINVAL : 0);
    assert_int_equal(at, class);
    if (word)
        assert_non_null(strstr(e.text, word));
}

static void test_rules(void **state)
{
    (void)state;
    make(&two[0], "");
    check(JR_POLICY_NONE, NULL);
    add_class(&two[0], "gold-1b", false, 0, 1);
    check(7, "'gold' has two classes for the bucket 'b1'");
    two[0].n_classes--;
    add_class(&two[0], "batch", true, 0, 0);
    check(7, "'batch' is there twice");
    two[0].n_classes -= 3; /* without free-2, too */
    check(JR_POLICY_NONE, "'free' has no class for the bucket 'b2'");
}

/* What is cached of those that wait is bounded, too. */
static void test_cached_tokens(void **state)
{
    (void)state;
    static struct fix fx;
    const uint64_t prefix[4] = {1, 2, 3, 4};
    struct jr_policy_room room = {.has_tokens = true, .tokens = 50};
    struct jr_policy p = {.n = 1, .profiles = two};
    struct jr_pool_config c = base_config();
    jr_policy_plain(&two[0], JR_QUEUE_FCFS, &room);
    two[0].classes[0].has_limit[JR_POLICY_CACHED_TOKENS] = true;
    two[0].classes[0].limit[JR_POLICY_CACHED_TOKENS] = 100;
    c.policy = &p;
    open_pool(&fx, &c);
    add_worker(&fx, 1, 1, 0, 0);
    struct jr_route r = {.id = 1, .tokens = 70, .prefix = prefix, .n_prefix = 4};
    for (; r.id <= 4; r.id++) /* 64 of 70 are the first one's */
        route(&fx, r);
    assert_true(fx.a[1].decided && waits(&fx, 2) && waits(&fx, 3) && fx.a[4].err == JR_EBUSY);
    const struct jr_queue_refusal *l = &fx.acts.v[0].u.reject.limit;
    assert_string_equal(l->policy_class, "default");
    assert_string_equal(jr_policy_limit_name(l->kind), "cached_tokens");
    assert_true(l->current == 128 && l->limit == 100);
    struct jr_class_view v;
    uint32_t pos = 0;
    assert_true(jr_pool_next_class(fx.pool, &pos, &v));
    assert_true(v.cached_tokens == 128 && v.isl_tokens == 140 && v.requests == 2);
    assert_int_equal(v.refused[JR_POLICY_CACHED_TOKENS], 1);
    close_pool(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_choice),
        cmocka_unit_test(test_models),        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_cached_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
