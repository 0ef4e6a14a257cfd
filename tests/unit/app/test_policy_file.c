/* SPDX-License-Identifier: Apache-2.0 */
/* The policy file: what is read, and what each mistake is answered with: file, line, key. */
#include "app/policy_file.h"
#include "base/mem.h"
#include "jr_test.h"

#include <stdio.h>
#include <string.h>

#define BUCKETS "uncached_isl_buckets: [{min_tokens: 0, bucket: all}]\n"
#define CLASS                                                                                      \
    "policy_classes:\n- {name: a, policy_family: f, cache_bucket: all, queue_policy: fcfs, "       \
    "quantum: 5}\n"
#define DEFAULT "default_policy_family: f\n"

static int load(const char *text, struct jr_policy **ret, struct jr_errmsg *e)
{
    char path[300], *dir = jr_test_temp_dir();
    (void)snprintf(path, sizeof path, "%s/p.yaml", dir);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    int err = jr_policy_file_load(path, ret, e);
    jr_test_remove_dir(dir);
    jr_xfree(dir);
    return err;
}

static void test_whole(void **state)
{
    (void)state;
    static const char text[] =
        "# what refers to something may stand before it\n"
        "default_policy_family: standard\n"
        "policy_classes:\n"
        "  - name: std-short\n"
        "    policy_family: standard\n"
        "    cache_bucket: short\n"
        "    queue_policy: fcfs\n"
        "    quantum: 4096\n"
        "    prefill_busy_threshold_frac: 0.5\n"
        "    request_queue_limit_per_worker: 3\n"
        "  - {name: std-long, policy_family: standard, cache_bucket: long, queue_policy: wspt, "
        "quantum: 1}\n"
        "  - {name: batch, queue_policy: wspt, quantum: 7, prefill_busy_threshold: 100,\n"
        "     raw_isl_token_queue_limit_per_worker: 5000, cached_token_queue_limit_per_worker: 0,\n"
        "     request_queue_limit_per_worker: ~}\n"
        "uncached_isl_buckets:\n"
        "  - {min_tokens: 0, bucket: short}\n"
        "  - {min_tokens: 4096, bucket: long}\n"
        "models:\n"
        "  org/model:\n"
        "    uncached_isl_buckets: [{min_tokens: 0, bucket: b}]\n"
        "    policy_classes: [{name: one, policy_family: f, cache_bucket: b, queue_policy: fcfs, "
        "quantum: 2}]\n"
        "    default_policy_family: f\n";
    struct jr_policy *p = NULL;
    struct jr_errmsg e = {0};
    assert_int_equal(load(text, &p, &e), 0);
    assert_int_equal(p->n, 2);
    const struct jr_policy_profile *all = &p->profiles[0];
    assert_string_equal(all->model, "");
    assert_true(all->n_classes == 3 && all->n_buckets == 2 && all->n_families == 1);
    const struct jr_policy_class *c = &all->classes[0];
    assert_string_equal(c->name, "std-short");
    assert_true(c->quantum == 4096 && c->room.has_frac && !c->room.has_tokens && !c->is_explicit);
    assert_true(c->room.frac > 0.49 && c->room.frac < 0.51);
    assert_true(c->has_limit[JR_POLICY_REQUESTS] && c->limit[JR_POLICY_REQUESTS] == 3);
    assert_true(all->classes[1].bucket == 1 && all->classes[1].queue_policy == JR_QUEUE_WSPT);
    c = &all->classes[2];
    assert_true(c->is_explicit && c->room.has_tokens && !c->has_limit[JR_POLICY_REQUESTS]);
    assert_true(c->limit[JR_POLICY_ISL_TOKENS] == 5000 && c->has_limit[JR_POLICY_CACHED_TOKENS]);
    assert_string_equal(p->profiles[1].model, "org/model");
    assert_int_equal(p->profiles[1].classes[0].quantum, 2);
    jr_policy_file_destroy(p);
}

static void test_models_alone(void **state)
{
    (void)state;
    struct jr_policy *p = NULL;
    struct jr_errmsg e = {0};
    assert_int_equal(load("models: {m: {uncached_isl_buckets: [{min_tokens: 0, bucket: b}],\n"
                          " policy_classes: [{name: o, policy_family: f, cache_bucket: b,\n"
                          " queue_policy: fcfs, quantum: 2}], default_policy_family: f}}\n",
                          &p, &e),
                     0);
    assert_int_equal(p->n, 1);
    assert_string_equal(p->profiles[0].model, "m");
    jr_policy_file_destroy(p);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *words;
    } cases[] = {
        {"", "p.yaml", "is empty"},
        {"a: [", "line", "is no YAML"},
        {"- a\n", "line 1: the file", "must be a mapping"},
        {BUCKETS CLASS DEFAULT "---\nx: 1\n", "p.yaml", "more than one document"},
        {BUCKETS CLASS, "line 1: default_policy_family", "is missing"},
        {BUCKETS CLASS DEFAULT "weight: 3\n", "line 5: the file", "no field 'weight'"},
        {BUCKETS CLASS DEFAULT DEFAULT, "line 5: default_policy_family", "is there twice"},
        {BUCKETS CLASS "default_policy_family: g\n", "line 4: default_policy_family", "'g'"},
        {"uncached_isl_buckets: []\n" CLASS DEFAULT, "line 1: uncached_isl_buckets", "empty"},
        {"uncached_isl_buckets: 3\n" CLASS DEFAULT, "line 1: uncached_isl_buckets", "a list"},
        {"uncached_isl_buckets: [{min_tokens: 1, bucket: all}]\n" CLASS DEFAULT,
         "line 1: min_tokens", "first bucket must be 0"},
        {"uncached_isl_buckets:\n- {min_tokens: 0, bucket: all}\n- {min_tokens: 0, bucket: "
         "b}\n" CLASS DEFAULT,
         "line 3: min_tokens", "more than that of the bucket before"},
        {"uncached_isl_buckets:\n- {min_tokens: 0, bucket: all}\n- {min_tokens: 9, bucket: "
         "all}\n" CLASS DEFAULT,
         "line 3: bucket", "'all' is there twice"},
        {BUCKETS "policy_classes:\n- {name: a, policy_family: f, cache_bucket: all, queue_policy: "
                 "fcfs}\n" DEFAULT,
         "line 3: quantum", "is missing"},
        {BUCKETS
         "policy_classes:\n- {name: a, policy_family: f, cache_bucket: all, queue_policy: lcfs, "
         "quantum: 1}\n" DEFAULT,
         "line 3: queue_policy", "fcfs or wspt, not 'lcfs'"},
        {BUCKETS CLASS "- {name: b, queue_policy: fcfs, quantum: 0}\n" DEFAULT, "line 4: quantum",
         "1..1099511627776, not '0'"},
        {BUCKETS CLASS "- {name: b, queue_policy: fcfs, quantum: '3'}\n" DEFAULT, "line 4: quantum",
         "whole number"},
        {BUCKETS CLASS "- {name: b c, queue_policy: fcfs, quantum: 1}\n" DEFAULT, "line 4: name",
         "a name of letters"},
        {BUCKETS CLASS "- {name: a, queue_policy: fcfs, quantum: 1}\n" DEFAULT,
         "line 4: policy_classes", "'a' is there twice"},
        {BUCKETS CLASS "- {name: b, policy_family: f, queue_policy: fcfs, quantum: 1}\n" DEFAULT,
         "line 4: cache_bucket", "go together"},
        {BUCKETS CLASS "- {name: b, cache_bucket: all, queue_policy: fcfs, quantum: 1}\n" DEFAULT,
         "line 4: policy_family", "go together"},
        {BUCKETS CLASS
         "- {name: b, policy_family: f, cache_bucket: x, queue_policy: fcfs, quantum: 1}\n" DEFAULT,
         "line 4: cache_bucket", "'x' is no bucket"},
        {BUCKETS CLASS "- {name: b, policy_family: f, cache_bucket: all, queue_policy: fcfs, "
                       "quantum: 1}\n" DEFAULT,
         "line 4: policy_classes", "two classes for the bucket 'all'"},
        {BUCKETS CLASS
         "- {name: b, queue_policy: fcfs, quantum: 1, prefill_busy_threshold_frac: -1}\n" DEFAULT,
         "line 4: prefill_busy_threshold_frac", "not negative, not '-1'"},
        {BUCKETS CLASS
         "- {name: b, queue_policy: fcfs, quantum: 1, prefill_busy_threshold_frac: .inf}\n" DEFAULT,
         "line 4: prefill_busy_threshold_frac", "finite"},
        {BUCKETS CLASS
         "- {name: b, queue_policy: fcfs, quantum: 1, prefill_busy_threshold: 1.5}\n" DEFAULT,
         "line 4: prefill_busy_threshold", "whole number"},
        {BUCKETS CLASS DEFAULT "models: [m]\n", "line 5: models", "by model name"},
        {BUCKETS CLASS DEFAULT "models:\n  m: {quantum: 1}\n", "line 6: models",
         "no field 'quantum'"},
        {BUCKETS CLASS DEFAULT "models:\n  m: {default_policy_family: f}\n",
         "line 6: uncached_isl_buckets", "is missing"},
        /* An anchor that holds itself is a mapping like any other. */
        {"&a\nmodels: *a\n", "line 2: models", "has no field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jr_policy *p = NULL;
        struct jr_errmsg e = {0};
        assert_int_equal(load(cases[i].text, &p, &e), JR_ECONFIG);
        if (!strstr(e.text, cases[i].where) || !strstr(e.text, cases[i].words))
            fail_msg("%s", e.text);
    }
}

static void test_files(void **state)
{
    (void)state;
    struct jr_policy *p = NULL;
    struct jr_errmsg e = {0};
    assert_int_equal(jr_policy_file_load("/no/such/file", &p, &e), JR_ECONFIG);
    assert_non_null(strstr(e.text, "/no/such/file: No such file"));
    char *large = jr_xalloc(JR_POLICY_FILE_MAX + 2);
    memset(large, '#', JR_POLICY_FILE_MAX + 1);
    assert_int_equal(load(large, &p, &e), JR_ECONFIG);
    assert_non_null(strstr(e.text, "is larger than 1048576 bytes"));
    jr_xfree(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_models_alone),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
