/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: the exposition is read by the strict reader of wire and by rules of format 0.0.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "app/metrics.h"
#include "wire/prom_text.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *a_label[] = {"v0", "v1", "v2", "v3", "v4", "v5", NULL};

static unsigned count_labels(const struct jr_metric_row *row)
{
    unsigned n = row->labels[0] != '\0';
    for (const char *p = row->labels; *p; p++)
        n += *p == ' ';
    return n;
}

/* The last n of a_label, NULL terminated. */
static const char *const *labels_of(const struct jr_metric_row *row)
{
    return a_label + (6 - count_labels(row));
}

static bool name_is_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return false;
    return n > 0 && !isdigit((unsigned char)s[0]);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void test_rows_are_whole(void **state)
{
    (void)state;
    for (int i = 0; i < JR_METRIC_COUNT; i++) {
        const struct jr_metric_row *row = jr_metric_row((enum jr_metric_key)i);
        assert_true(name_is_valid(row->name, strlen(row->name)));
        assert_true(row->help[0] != '\0');
        assert_true(row->sets_max > 0);
        assert_true(count_labels(row) <= 5);
        assert_true(count_labels(row) > 0 || row->sets_max == 1);
        assert_int_equal(row->type == JR_METRIC_TYPE_HISTOGRAM, row->buckets != JR_BUCKETS_NONE);
        if (strncmp(row->name, "jetrouter_", 10) == 0)
            assert_int_equal(row->type == JR_METRIC_TYPE_COUNTER, ends_with(row->name, "_total"));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(row->name, jr_metric_row((enum jr_metric_key)j)->name);
    }
}

/* One line of comment: "# HELP name …" or "# TYPE name type", each once, before the samples. */
static void check_comments(const char *text)
{
    for (int i = 0; i < JR_METRIC_COUNT; i++) {
        char help[160], type[160];
        const char *name = jr_metric_row((enum jr_metric_key)i)->name;
        (void)snprintf(help, sizeof help, "# HELP %s ", name);
        (void)snprintf(type, sizeof type, "# TYPE %s ", name);
        const char *h = strstr(text, help), *t = strstr(text, type);
        assert_true(h && t && h < t);
        assert_null(strstr(h + 1, help));
        assert_null(strstr(t + 1, type));
        assert_true(strchr(h, '\n') + 1 == t);
        const char *sample = strchr(t, '\n') + 1;
        assert_int_equal(strncmp(sample, name, strlen(name)), 0);
    }
}

/* Every metric with one set: parses strictly, labels as in the table. */
static void test_whole_exposition(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    for (int i = 0; i < JR_METRIC_COUNT; i++) {
        const struct jr_metric_row *row = jr_metric_row((enum jr_metric_key)i);
        if (row->type == JR_METRIC_TYPE_COUNTER)
            jr_metric_add(m, (enum jr_metric_key)i, labels_of(row), 3);
        else if (row->type == JR_METRIC_TYPE_GAUGE)
            jr_metric_set(m, (enum jr_metric_key)i, labels_of(row), -1.5);
        else
            jr_metric_observe(m, (enum jr_metric_key)i, labels_of(row), 0.5);
    }
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    jr_metrics_render(m, &b);
    assert_int_equal(b.err, 0);
    assert_int_equal(b.p[b.n - 1], '\n');
    check_comments(jr_buf_str(&b));

    struct jr_prom_reader r;
    struct jr_prom_sample s;
    struct jr_errmsg e;
    unsigned n = 0;
    int rv;
    jr_prom_init(&r, b.p, b.n);
    while ((rv = jr_prom_next(&r, &s, &e)) == 1) {
        n++;
        assert_true(name_is_valid(s.name.p, s.name.n));
        for (uint32_t i = 0; i < s.n_labels; i++)
            assert_true(name_is_valid(s.labels[i].name.p, s.labels[i].name.n));
        assert_false(s.has_timestamp);
    }
    assert_int_equal(rv, 0);
    assert_true(n >= JR_METRIC_COUNT);
    jr_buf_deinit(&b);
    jr_metrics_destroy(m);
}

static void test_histogram(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    static const double values[] = {0.001, 0.0011, 480, 481, 0};
    for (unsigned i = 0; i < 5; i++)
        jr_metric_observe(m, JR_METRIC_FRONTEND_TTFT_SECONDS, JR_LABELS("m"), values[i]);
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    jr_metrics_render(m, &b);
    const char *t = jr_buf_str(&b);
#define N "dynamo_frontend_time_to_first_token_seconds"
    assert_non_null(strstr(t, N "_bucket{model=\"m\",le=\"0.001\"} 2\n")); /* bounds are within */
    assert_non_null(strstr(t, N "_bucket{model=\"m\",le=\"0.0022\"} 3\n"));
    assert_non_null(strstr(t, N "_bucket{model=\"m\",le=\"480\"} 4\n"));
    assert_non_null(strstr(t, N "_bucket{model=\"m\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(t, N "_sum{model=\"m\"} 961.002"));
    assert_non_null(strstr(t, N "_count{model=\"m\"} 5\n"));
#undef N
    jr_buf_deinit(&b);
    jr_metrics_destroy(m);
}

static void test_several_at_once(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    struct jr_series *s = jr_metric_series(m, JR_METRIC_FRONTEND_ITL_SECONDS, JR_LABELS("m"));
    jr_series_observe_n(s, 0.5, 3);
    jr_series_observe(s, 3);
    jr_series_observe_n(NULL, 1, 1);
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    jr_metrics_render(m, &b);
    assert_non_null(strstr(jr_buf_str(&b), "_bucket{model=\"m\",le=\"0.3\"} 0\n"));
    assert_non_null(strstr(jr_buf_str(&b), "_bucket{model=\"m\",le=\"0.56\"} 3\n"));
    assert_non_null(strstr(jr_buf_str(&b), "_sum{model=\"m\"} 4.5\n"));
    assert_non_null(strstr(jr_buf_str(&b), "_count{model=\"m\"} 4\n"));
    jr_buf_deinit(&b);
    jr_metrics_destroy(m);
}

static void test_escaping(void **state)
{
    (void)state;
    static const char nasty[] = "a\"b\\c\nd";
    struct jr_metrics *m = jr_metrics_create();
    jr_metric_set(m, JR_METRIC_FRONTEND_INFLIGHT_REQUESTS, JR_LABELS(nasty), 1);
    struct jr_buf b;
    struct jr_prom_sample s;
    char back[64];
    jr_buf_init(&b, 1 << 20);
    jr_metrics_render(m, &b);
    assert_non_null(strstr(jr_buf_str(&b), "{model=\"a\\\"b\\\\c\\nd\"} 1\n"));
    assert_int_equal(jr_prom_find(b.p, b.n, "dynamo_frontend_inflight_requests", NULL, NULL, &s),
                     0);
    assert_true(jr_prom_unescape(jr_prom_label(&s, "model"), back, sizeof back));
    assert_string_equal(back, nasty);
    jr_buf_deinit(&b);
    jr_metrics_destroy(m);
}

static void test_cap_and_forget(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    enum jr_metric_key key = JR_METRIC_FRONTEND_INFLIGHT_REQUESTS;
    unsigned max = jr_metric_row(key)->sets_max;
    char name[32];
    for (unsigned i = 0; i < max + 10; i++) {
        (void)snprintf(name, sizeof name, "model-%u", i);
        jr_metric_set(m, key, JR_LABELS(name), i);
    }
    const char *over = jr_metric_row(key)->name;
    assert_int_equal(jr_metric_get(m, JR_METRIC_METRIC_LABEL_OVERFLOW_TOTAL, JR_LABELS(over)), 10);
    assert_null(jr_metric_series(m, key, JR_LABELS("another")));
    jr_series_set(NULL, 1);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("model-7")), 7);

    jr_metrics_forget(m, "model", "model-7");
    jr_metrics_forget(m, "model", "no such");
    jr_metrics_forget(m, "no such", "model-8");
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("model-7")), 0);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("model-8")), 8);
    jr_metric_set(m, key, JR_LABELS("another"), 4); /* there is room again */
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("another")), 4);
    jr_metrics_destroy(m);
}

/* The set that was looked up last is found without a search: it must be the one that is asked for, and
 * gone when it was dropped. */
static void test_the_same_again(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    enum jr_metric_key key = JR_METRIC_FRONTEND_OUTPUT_TOKENS_TOTAL;
    static const char *const models[] = {"m", "mo", "m", "m", "", "o", "", "mo"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        jr_metric_add(m, key, JR_LABELS(models[i]), 1);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("m")), 3);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("mo")), 2);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("")), 2);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("o")), 1);
    jr_metrics_forget(m, "model", "mo");
    jr_metric_add(m, key, JR_LABELS("mo"), 5);
    assert_int_equal(jr_metric_get(m, key, JR_LABELS("mo")), 5);
    jr_metrics_destroy(m);
}

/* Short names, of many metrics: no set is taken for another, or has no room because of another. */
static void test_one_letter(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    for (enum jr_metric_key key = 0; key < JR_METRIC_COUNT; key++)
        for (char c = '0'; c <= 'z' && strcmp(jr_metric_row(key)->labels, "model") == 0; c++)
            assert_non_null(jr_metric_series(m, key, JR_LABELS(((char[]){c, 0}))));
    jr_metrics_destroy(m);
}

static void test_forget_takes_the_right_label(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    jr_metric_set(m, JR_METRIC_WORKER_BLOCKS, JR_LABELS("7", "c", "7", "0"), 1);
    jr_metric_set(m, JR_METRIC_WORKER_BLOCKS, JR_LABELS("7", "c", "8", "7"), 2);
    jr_metric_add(m, JR_METRIC_BRIDGE_GAPS_TOTAL, JR_LABELS("7", "0"), 3);
    jr_metric_drop(m, JR_METRIC_WORKER_BLOCKS, JR_LABELS("7", "c", "9", "0")); /* is not there */
    jr_metrics_forget(m, "worker_id", "7");
    assert_int_equal(jr_metric_get(m, JR_METRIC_WORKER_BLOCKS, JR_LABELS("7", "c", "7", "0")), 0);
    assert_int_equal(jr_metric_get(m, JR_METRIC_WORKER_BLOCKS, JR_LABELS("7", "c", "8", "7")), 2);
    assert_int_equal(jr_metric_get(m, JR_METRIC_BRIDGE_GAPS_TOTAL, JR_LABELS("7", "0")), 0);
    jr_metrics_destroy(m);
}

static void test_long_values_and_handles(void **state)
{
    (void)state;
    struct jr_metrics *m = jr_metrics_create();
    char text[JR_NAME_MAX * 2];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    text[JR_NAME_MAX - 1] = (char)0xc3; /* a character of two bytes across the cut */
    text[JR_NAME_MAX] = (char)0xa9;
    enum jr_metric_key key = JR_METRIC_FRONTEND_OUTPUT_TOKENS_TOTAL;
    struct jr_series *s = jr_metric_series(m, key, JR_LABELS(text));
    jr_series_add(s, 2);
    jr_series_add(s, UINT64_C(1) << 53);
    assert_ptr_equal(s, jr_metric_series(m, key, JR_LABELS(text)));
    struct jr_buf b;
    struct jr_prom_sample sample;
    jr_buf_init(&b, 1 << 20);
    jr_metrics_render(m, &b);
    assert_non_null(strstr(jr_buf_str(&b), "} 9007199254740994\n")); /* counters are exact */
    assert_int_equal(
        jr_prom_find(b.p, b.n, "dynamo_frontend_output_tokens_total", NULL, NULL, &sample), 0);
    assert_int_equal(jr_prom_label(&sample, "model").n, JR_NAME_MAX - 1);
    jr_buf_deinit(&b);
    jr_metrics_destroy(m);
}

static void test_merge_adds(void **state)
{
    (void)state;
    struct jr_metrics *v[2], *sum = jr_metrics_create();
    for (unsigned i = 0; i < 2; i++) {
        v[i] = jr_metrics_create();
        jr_metric_add(v[i], JR_METRIC_HTTP_ERRORS_TOTAL, JR_LABELS("503"), 2 + i);
        jr_metric_observe(v[i], JR_METRIC_FRONTEND_TTFT_SECONDS, JR_LABELS("m"), 0.5 + i);
        jr_metric_set(v[i], JR_METRIC_HTTP_CONNECTIONS, JR_NO_LABELS, 10 * (i + 1));
    }
    jr_metric_add(v[1], JR_METRIC_HTTP_ERRORS_TOTAL, JR_LABELS("404"), 1);
    for (unsigned i = 0; i < 2; i++) {
        jr_metrics_merge(sum, v[i]);
        jr_metrics_destroy(v[i]);
    }
    assert_true(jr_metric_get(sum, JR_METRIC_HTTP_ERRORS_TOTAL, JR_LABELS("503")) == 5);
    assert_true(jr_metric_get(sum, JR_METRIC_HTTP_ERRORS_TOTAL, JR_LABELS("404")) == 1);
    assert_true(jr_metric_get(sum, JR_METRIC_FRONTEND_TTFT_SECONDS, JR_LABELS("m")) == 2);
    assert_true(jr_metric_get(sum, JR_METRIC_HTTP_CONNECTIONS, JR_NO_LABELS) == 30);
    struct jr_buf b;
    jr_buf_init(&b, 1 << 20);
    jr_metrics_render(sum, &b);
    assert_non_null(strstr(jr_buf_str(&b), "_sum{model=\"m\"} 2\n"));
    assert_non_null(strstr(jr_buf_str(&b), "le=\"+Inf\"} 2\n"));
    jr_buf_deinit(&b);
    jr_metrics_destroy(sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_whole),
        cmocka_unit_test(test_whole_exposition),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_cap_and_forget),
        cmocka_unit_test(test_the_same_again),
        cmocka_unit_test(test_one_letter),
        cmocka_unit_test(test_forget_takes_the_right_label),
        cmocka_unit_test(test_long_values_and_handles),
        cmocka_unit_test(test_merge_adds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
