/* SPDX-License-Identifier: Apache-2.0 */
#include "app/otel_options.h"

#include "base/buf.h"
#include "jr_test.h"

#include <string.h>

static char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static struct jr_config *load(char *const *argv, int argc)
{
    struct jr_config *cfg;
    struct jr_errmsg e = {""};
    int err = jr_config_load(JR_CMD_FRONTEND, argc, argv, 0, no_env, &e, &cfg);
    if (err < 0)
        fail_msg("%s", e.text);
    return cfg;
}
#define LOAD(...)                                                                                  \
    load((char *[]){__VA_ARGS__, NULL}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *))

static void check_url(struct jr_config *cfg, const char *want)
{
    char url[JR_URL_MAX];
    int err = jr_otel_url(cfg, url);
    assert_int_equal(err, want ? 0 : JR_EINVAL);
    if (want)
        assert_string_equal(url, want);
    jr_config_destroy(cfg);
}

static void test_url(void **state)
{
    (void)state;
    check_url(LOAD("--http-port=1"), "http://localhost:4318/v1/traces");
    check_url(LOAD("--otel-exporter-otlp-endpoint=https://c/otlp/"), "https://c/otlp/v1/traces");
    check_url(LOAD("--otel-exporter-otlp-endpoint=http://c:1",
                   "--otel-exporter-otlp-traces-endpoint=http://d:2/x/"),
              "http://d:2/x/");
    check_url(LOAD("--otel-exporter-otlp-endpoint=c:4318"), NULL);
    check_url(LOAD("--otel-exporter-otlp-traces-endpoint=grpc://c:4317"), NULL);
}

static void put(void *ctx, const char *name, const char *value)
{
    jr_buf_printf(ctx, "%s:%s;", name, value);
}

static void test_pairs(void **state)
{
    static const struct {
        const char *text, *want; /* NULL: refused */
    } rows[] = {
        {"", ""},
        {"a=1", "a:1;"},
        {" a = 1 ,\tb=x=y,,", "a:1;b:x=y;"},
        {"a=", "a:;"},
        {"Authorization=Bearer%20k%2Cl,x=%C3%A4", "Authorization:Bearer k,l;x:\xc3\xa4;"},
        {"a", NULL},
        {"=1", NULL},
        {"a b=1", NULL},
        {"a:=1", NULL},
        {"a=%", NULL},
        {"a=%2", NULL},
        {"a=%2g", NULL},
        {"a=%0d%0aX: y", NULL}, /* a line of its own in a head */
        {"a=%00", NULL},
        {"a=b\x01", NULL},
    };
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 1000);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        jr_buf_clear(&b);
        int err = jr_otel_pairs(rows[i].text, put, &b);
        if (err != (rows[i].want ? 0 : JR_EINVAL) ||
            (rows[i].want && strcmp(jr_buf_str(&b), rows[i].want) != 0))
            fail_msg("\"%s\": %d, %s", rows[i].text, err, jr_buf_str(&b));
        assert_int_equal(jr_otel_pairs(rows[i].text, NULL, NULL), err);
    }
    jr_buf_deinit(&b);
}

static void check_sampler(struct jr_config *cfg, bool parent_based, double share)
{
    struct jr_otel_sampler s = jr_otel_sampler(cfg);
    assert_int_equal(s.parent_based, parent_based);
    assert_true(s.share == share);
    jr_config_destroy(cfg);
}

static void test_sampler(void **state)
{
    (void)state;
    check_sampler(LOAD("--http-port=1"), true, 1);
    check_sampler(LOAD("--otel-traces-sampler-arg=0.25"), true, 0.25);
    check_sampler(LOAD("--otel-traces-sampler=traceidratio", "--otel-traces-sampler-arg=0.5"),
                  false, 0.5);
    check_sampler(
        LOAD("--otel-traces-sampler=parentbased_always_on", "--otel-traces-sampler-arg=0"), true,
        1);
    check_sampler(LOAD("--otel-traces-sampler=parentbased_always_off"), true, 0);
    check_sampler(LOAD("--otel-traces-sampler=always_on"), false, 1);
    check_sampler(LOAD("--otel-traces-sampler=always_off"), false, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_sampler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
