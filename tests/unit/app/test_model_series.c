/* SPDX-License-Identifier: Apache-2.0 */
/* model_series, and what a loop does with its word: jr_request_metrics_forget. */
#include "app/frontend/model_series.h"
#include "app/frontend/proxy_internal.h"
#include "jr_test.h"

#include <stdio.h>
#include <string.h>

#define COUNTER JR_METRIC_FRONTEND_OUTPUT_TOKENS_TOTAL

struct world {
    struct jr_metrics *metrics;
    struct jr_request_metrics requests;
    struct jr_list proxied;
    struct jr_model_series series;
    const char *served; /* all that have a worker */
    char gone[64];
    unsigned n_gone;
};

static void begin(struct world *w)
{
    *w = (struct world){.metrics = jr_metrics_create(), .served = ""};
    jr_request_metrics_init(&w->requests, w->metrics, "r");
    jr_list_init(&w->proxied);
}

static void end(struct world *w)
{
    jr_model_series_deinit(&w->series);
    jr_request_metrics_deinit(&w->requests);
    jr_metrics_destroy(w->metrics);
}

static bool is_served(void *ctx, const char *label)
{
    const struct world *w = ctx;
    return strstr(w->served, label) != NULL;
}

static void on_gone(void *ctx, const char *label)
{
    struct world *w = ctx;
    w->n_gone++;
    (void)snprintf(w->gone, sizeof w->gone, "%s", label);
    jr_request_metrics_forget(&w->requests, &w->proxied, label);
}

/* What went; "" for nothing. */
static const char *look(struct world *w, uint64_t now_ms)
{
    w->n_gone = 0;
    w->gone[0] = '\0';
    jr_request_metrics_count(&w->requests, &w->proxied);
    jr_model_series_look(&w->series, w->metrics, now_ms, is_served, on_gone, w);
    return w->gone;
}

static void requests(struct world *w, const char *model, uint64_t n)
{
    jr_series_add(jr_request_metrics_of(&w->requests, model)->output_total, n);
}

static double count(const struct world *w, const char *model)
{
    return jr_metric_get(w->metrics, COUNTER, JR_LABELS(model));
}

static void test_goes_after_its_time(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    w.served = "a b";
    requests(&w, "", 1);
    requests(&w, "a", 2);
    requests(&w, "b", 3);
    assert_string_equal(look(&w, 1000), "");
    w.served = "a";
    assert_string_equal(look(&w, 2000), "");
    assert_string_equal(look(&w, 1999 + JR_MODEL_AWAY_MS), "");
    w.served = "a b"; /* it was away, and is counted from the next time on */
    assert_string_equal(look(&w, 2000 + JR_MODEL_AWAY_MS), "");
    w.served = "a";
    assert_string_equal(look(&w, 2001 + JR_MODEL_AWAY_MS), "");
    assert_int_equal(count(&w, "b"), 3);
    assert_string_equal(look(&w, 2001 + 2 * JR_MODEL_AWAY_MS), "b");
    assert_int_equal(count(&w, ""), 1);
    assert_int_equal(count(&w, "a"), 2);
    assert_int_equal(jr_metric_sets(w.metrics, COUNTER), 2);
    assert_string_equal(look(&w, 3000 + 9 * JR_MODEL_AWAY_MS), "");
    requests(&w, "b", 5); /* from the start */
    assert_int_equal(count(&w, "b"), 5);
    end(&w);
}

static void test_stays_while_something_is_under_way(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    struct jr_proxied x = {.counted = jr_request_metrics_of(&w.requests, "a")};
    jr_list_push_back(&w.proxied, &x.node);
    assert_string_equal(look(&w, 1), "");
    assert_string_equal(look(&w, 2 * JR_MODEL_AWAY_MS), "");
    jr_list_remove(&x.node);
    assert_string_equal(look(&w, 3 * JR_MODEL_AWAY_MS), "");
    assert_string_equal(look(&w, 4 * JR_MODEL_AWAY_MS), "a");
    end(&w);
}

static void test_what_is_under_way_all_the_same(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    struct jr_proxied x = {.counted = jr_request_metrics_of(&w.requests, "a")};
    struct jr_proxied y = {.counted = jr_request_metrics_of(&w.requests, "b")};
    jr_list_push_back(&w.proxied, &x.node);
    jr_list_push_back(&w.proxied, &y.node);
    jr_request_metrics_forget(&w.requests, &w.proxied, "a");
    assert_ptr_equal(x.counted, jr_request_metrics_of(&w.requests, ""));
    assert_ptr_equal(y.counted, jr_request_metrics_of(&w.requests, "b"));
    jr_series_add(x.counted->output_total, 1);
    assert_int_equal(count(&w, ""), 1);
    end(&w);
}

/* With no room for names, whoever is away goes at the next look. */
static void test_names_can_be_used_again(void **state)
{
    (void)state;
    struct world w;
    char name[32];
    begin(&w);
    w.served = "kept";
    requests(&w, "kept", 7);
    for (unsigned i = 1; i < JR_SETS_MODEL; i++) {
        (void)snprintf(name, sizeof name, "m%u", i);
        requests(&w, name, i);
    }
    requests(&w, "new", 1);
    assert_int_equal(count(&w, "new"), 0);
    (void)look(&w, 5);
    assert_int_equal(w.n_gone, 0);
    (void)look(&w, 6);
    assert_int_equal(w.n_gone, JR_SETS_MODEL - 1);
    assert_int_equal(count(&w, "kept"), 7);
    requests(&w, "new", 1);
    assert_int_equal(count(&w, "new"), 1);
    (void)look(&w, 7);
    (void)look(&w, 8); /* there is room again: time counts */
    assert_int_equal(w.n_gone, 0);
    end(&w);
}

/* Labels are cut, so long names may share theirs. */
static void test_long_names(void **state)
{
    (void)state;
    struct world w;
    char a[JR_MODEL_MAX], b[JR_MODEL_MAX], label[JR_NAME_MAX + 1];
    begin(&w);
    memset(a, 'x', sizeof a);
    a[sizeof a - 1] = '\0';
    memcpy(b, a, sizeof b);
    b[sizeof b - 2] = 'y';
    memcpy(label, a, JR_NAME_MAX);
    label[JR_NAME_MAX] = '\0';
    requests(&w, a, 1);
    requests(&w, b, 2);
    assert_int_equal(count(&w, a), 3);
    w.served = label;
    assert_string_equal(look(&w, 0), "");
    w.served = "";
    assert_string_equal(look(&w, 1), "");
    (void)look(&w, 1 + JR_MODEL_AWAY_MS);
    assert_int_equal(w.n_gone, 1);
    assert_int_equal(w.requests.n, 0);
    requests(&w, b, 4);
    assert_int_equal(count(&w, a), 4);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_after_its_time),
        cmocka_unit_test(test_stays_while_something_is_under_way),
        cmocka_unit_test(test_what_is_under_way_all_the_same),
        cmocka_unit_test(test_names_can_be_used_again),
        cmocka_unit_test(test_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
