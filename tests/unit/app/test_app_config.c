/* SPDX-License-Identifier: Apache-2.0 */
/* config: driven by the table, so that a new row is tested by being there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "app/config.h"
#include "base/str.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMANDS 6

/* A made-up environment: one variable at a time, and what a command needs. */
static char env_name[96], env_value[JR_CONFIG_VALUE_MAX * 2];

static char *test_env(const char *name)
{
    static char engine[] = "http://e:1", events[] = "tcp://e:2", endpoint[] = "a.b.c";
    if (env_name[0] && strcmp(name, env_name) == 0)
        return env_value;
    if (strcmp(name, "JETROUTER_ENGINE_URL") == 0)
        return engine;
    if (strcmp(name, "JETROUTER_KV_EVENTS_ENDPOINT") == 0)
        return events;
    if (strcmp(name, "DYN_ROUTER_ENDPOINT") == 0)
        return endpoint;
    return NULL;
}

static void set_env(const char *name, const char *value)
{
    (void)snprintf(env_name, sizeof env_name, "%s", name);
    (void)snprintf(env_value, sizeof env_value, "%s", value);
}

static int load(enum jr_cmd cmd, struct jr_config **ret, struct jr_errmsg *e, int n, ...)
{
    char *argv[8];
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < n; i++)
        argv[i] = va_arg(ap, char *);
    va_end(ap);
    e->text[0] = '\0';
    return jr_config_load(cmd, n, argv, cmd == JR_CMD_CTL, test_env, e, ret);
}

static enum jr_cmd a_command(const struct jr_cfg_row *row)
{
    unsigned bit = 1;
    while (!(row->commands & bit))
        bit <<= 1;
    return (enum jr_cmd)bit;
}

static bool is_integer(const struct jr_cfg_row *row)
{
    return row->type == JR_CFG_TYPE_U32 || row->type == JR_CFG_TYPE_U64 ||
           row->type == JR_CFG_TYPE_BYTES || row->type == JR_CFG_TYPE_PORT;
}

/* A good text that differs from the default, and is the same however it is given. */
static const char *sample(const struct jr_cfg_row *row)
{
    static char text[64];
    if (is_integer(row) || row->type == JR_CFG_TYPE_F64) {
        double v = row->def && strtod(row->def, NULL) <= row->min ? row->min + 1 : row->min;
        (void)snprintf(text, sizeof text, is_integer(row) ? "%.0f" : "%.6g", v);
        return text;
    }
    if (row->type == JR_CFG_TYPE_BOOL)
        return strcmp(row->def, "true") == 0 ? "false" : "true";
    if (row->type == JR_CFG_TYPE_ENUM)
        return strrchr(row->choices, ' ') + 1;
    if (row->canon == jr_config_canon_http_url)
        return "http://x:7";
    if (row->canon == jr_config_canon_zmq_url)
        return "tcp://x:7";
    if (row->canon == jr_config_canon_endpoint)
        return "x.y.z";
    if (row->canon == jr_config_canon_model_alias)
        return "a=b=c";
    if (row->canon == jr_config_canon_retry_status)
        return "599";
    return row->canon == jr_config_canon_port ? "77" : "sample";
}

static void assert_sample(const struct jr_config *cfg, enum jr_cfg_key key)
{
    const struct jr_cfg_row *row = jr_config_row(key);
    const char *want = sample(row);
    uint32_t n;
    assert_true(jr_config_is_set(cfg, key));
    if (is_integer(row))
        assert_int_equal(jr_config_u64(cfg, key), strtoull(want, NULL, 10));
    else if (row->type == JR_CFG_TYPE_F64)
        assert_true(fabs(jr_config_f64(cfg, key) - strtod(want, NULL)) < 1e-9);
    else if (row->type == JR_CFG_TYPE_BOOL)
        assert_int_equal(jr_config_bool(cfg, key), strcmp(want, "true") == 0);
    else if (row->type == JR_CFG_TYPE_LIST) {
        assert_string_equal(jr_config_list(cfg, key, &n)[0], want);
        assert_int_equal(n, 1);
    } else
        assert_string_equal(jr_config_str(cfg, key), want);
}

/* A value alone may break a rule between options; it was parsed then. */
static bool parsed(int rv, const struct jr_errmsg *e)
{
    if (rv != 0 && rv != JR_ECONFIG)
        print_error("%s\n", e->text);
    return rv == 0 || rv == JR_ECONFIG;
}

/* ---------------------------------------------------------------- the table itself */

static void test_rows_are_whole(void **state)
{
    (void)state;
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
        bool number = is_integer(row) || row->type == JR_CFG_TYPE_F64;
        assert_true(row->commands != 0 && (row->commands & ~(unsigned)JR_CMD_ALL) == 0);
        assert_true(row->env && row->env[0] && row->help && row->help[0]);
        assert_true(!number || row->max > row->min);
        assert_true(!is_integer(row) || row->max <= 9007199254740992.0 * 1024);
        assert_int_equal(row->type == JR_CFG_TYPE_ENUM, row->choices != NULL);
        assert_true(row->type != JR_CFG_TYPE_BOOL || row->def);
        assert_true(row->type == JR_CFG_TYPE_BOOL || row->metavar);
        assert_true(!row->canon || row->expects || row->choices);
        assert_true(!row->secret || !row->flag);
        assert_true((row->required & ~row->commands) == 0);
        assert_true(strlen(row->help) < 200);
    }
}

static void collect(const char *words, char names[][96], unsigned *n, const char *prefix)
{
    for (const char *p = words; p && *p;) {
        size_t len = strcspn(p, " ");
        (void)snprintf(names[(*n)++], 96, "%s%.*s", prefix, (int)len, p);
        p += len;
        p += *p == ' ';
    }
}

static void assert_unique(char names[][96], unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = i + 1; j < n; j++)
            if (strcmp(names[i], names[j]) == 0)
                fail_msg("two rows answer to %s", names[i]);
}

static void test_no_duplicate_names(void **state)
{
    (void)state;
    static char flags[JR_CFG_COUNT * 8][96], envs[JR_CFG_COUNT * 8][96];
    for (unsigned c = 0; c < COMMANDS; c++) {
        unsigned n_flags = 0, n_envs = 0;
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
            if (!(row->commands & (1u << c)))
                continue;
            collect(row->flag, flags, &n_flags, "");
            collect(row->aliases, flags, &n_flags, "");
            if (row->type == JR_CFG_TYPE_BOOL || row->type == JR_CFG_TYPE_OPTSTR) {
                collect(row->flag, flags, &n_flags, "no-");
                collect(row->aliases, flags, &n_flags, "no-");
            }
            collect(row->env, envs, &n_envs, "");
        }
        assert_unique(flags, n_flags);
        assert_unique(envs, n_envs);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    env_name[0] = '\0';
    for (unsigned c = 0; c < COMMANDS; c++) {
        struct jr_config *cfg;
        struct jr_errmsg e;
        assert_int_equal(load((enum jr_cmd)(1u << c), &cfg, &e, 0), 0); /* all are in bounds */
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
            if (row->required || !(row->commands & (1u << c)))
                continue;
            if (test_env(row->env)) /* of the engine: or --engines-dir */
                continue;
            assert_int_equal(jr_config_is_set(cfg, (enum jr_cfg_key)i), row->def != NULL);
            assert_int_equal(jr_config_source(cfg, (enum jr_cfg_key)i), JR_CFG_FROM_DEFAULT);
        }
        jr_config_destroy(cfg);
    }
}

/* ---------------------------------------------------------------- every bound */

static void refused(const struct jr_cfg_row *row, const char *text, const char *range)
{
    char option[JR_CONFIG_VALUE_MAX + 200];
    struct jr_config *cfg;
    struct jr_errmsg e;
    (void)snprintf(option, sizeof option, "--%s=%s", row->flag, text);
    assert_int_equal(load(a_command(row), &cfg, &e, 1, option), JR_EINVAL);
    if (!strstr(e.text, row->flag) || !strstr(e.text, text) || !strstr(e.text, range))
        fail_msg("%s: %s", option, e.text);
}

static void accepted(const struct jr_cfg_row *row, const char *text)
{
    char option[JR_CONFIG_VALUE_MAX + 200];
    struct jr_config *cfg = NULL;
    struct jr_errmsg e;
    (void)snprintf(option, sizeof option, "--%s=%s", row->flag, text);
    int rv = load(a_command(row), &cfg, &e, 1, option);
    assert_true(parsed(rv, &e));
    jr_config_destroy(cfg);
}

static void test_bounds(void **state)
{
    (void)state;
    env_name[0] = '\0';
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
        char range[80], text[80];
        (void)snprintf(range, sizeof range, is_integer(row) ? "%.0f..%.0f" : "%.16g..%.16g",
                       row->min, row->max);
        if (is_integer(row)) {
            (void)snprintf(text, sizeof text, "%.0f", row->max);
            accepted(row, text);
            (void)snprintf(text, sizeof text, "%llu", (unsigned long long)row->max + 1);
            refused(row, text, range);
            (void)snprintf(text, sizeof text, "%.0f", row->min);
            accepted(row, text);
            (void)snprintf(text, sizeof text, "%lld", (long long)row->min - 1);
            if (row->also_none && strcmp(text, row->also_none) == 0)
                accepted(row, text);
            else
                refused(row, text, range);
            refused(row, "12x", range);
            refused(row, "1e3", range);
            refused(row, " 5", range);
            refused(row, "0x10", range);
            refused(row, "99999999999999999999", range);
        } else if (row->type == JR_CFG_TYPE_F64) {
            (void)snprintf(text, sizeof text, "%.17g", nextafter(row->max, INFINITY));
            refused(row, text, range);
            (void)snprintf(text, sizeof text, "%.17g", nextafter(row->min, -INFINITY));
            refused(row, text, range);
            (void)snprintf(text, sizeof text, "%.17g", row->max);
            accepted(row, text);
            refused(row, "nan", range);
            refused(row, "inf", range);
            refused(row, "1.0s", range);
            refused(row, "0x1p3", range);
        } else if (row->type == JR_CFG_TYPE_ENUM) {
            refused(row, "no-such-choice", "one of");
        } else if (row->type == JR_CFG_TYPE_BOOL) {
            refused(row, "maybe", "true or false");
        } else if (row->canon) {
            refused(row, "-", row->expects);
        }
        if (row->nullable)
            accepted(row, "None");
        else if (is_integer(row))
            refused(row, "None", range);
    }
}

/* ---------------------------------------------------------------- every name, every source */

static void by_name(enum jr_cmd cmd, enum jr_cfg_key key, const char *name)
{
    const struct jr_cfg_row *row = jr_config_row(key);
    char one[200], two[200], value[64];
    struct jr_config *cfg;
    struct jr_errmsg e;
    assert_int_equal(jr_config_find(cmd, name), key);
    (void)snprintf(value, sizeof value, "%s", sample(row));
    (void)snprintf(one, sizeof one, "--%s=%s", name, value);
    (void)snprintf(two, sizeof two, "--%s", name);
    /* The second word is no value of a bool. */
    for (int form = 0; form < (row->type == JR_CFG_TYPE_BOOL ? 1 : 2); form++) {
        int rv = form == 0 ? load(cmd, &cfg, &e, 1, one) : load(cmd, &cfg, &e, 2, two, value);
        assert_true(parsed(rv, &e));
        if (rv != 0)
            continue;
        assert_sample(cfg, key);
        assert_int_equal(jr_config_source(cfg, key), JR_CFG_FROM_CLI);
        jr_config_destroy(cfg);
    }
}

static void by_env(enum jr_cmd cmd, enum jr_cfg_key key, const char *name)
{
    struct jr_config *cfg;
    struct jr_errmsg e;
    set_env(name, sample(jr_config_row(key)));
    int rv = load(cmd, &cfg, &e, 0);
    env_name[0] = '\0';
    assert_true(parsed(rv, &e));
    if (rv != 0)
        return;
    assert_sample(cfg, key);
    assert_int_equal(jr_config_source(cfg, key), JR_CFG_FROM_ENV);
    jr_config_destroy(cfg);
}

static void test_all_names_reach_the_key(void **state)
{
    (void)state;
    static char names[16][96];
    env_name[0] = '\0';
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
        for (unsigned c = 0; c < COMMANDS; c++) {
            enum jr_cmd cmd = (enum jr_cmd)(1u << c);
            unsigned n = 0, m = 0;
            if (!(row->commands & (unsigned)cmd))
                continue;
            collect(row->flag, names, &n, "");
            collect(row->aliases, names, &n, "");
            for (unsigned j = 0; j < n; j++)
                by_name(cmd, (enum jr_cfg_key)i, names[j]);
            collect(row->env, names, &m, "");
            for (unsigned j = 0; j < m; j++)
                by_env(cmd, (enum jr_cfg_key)i, names[j]);
        }
    }
}

static void test_precedence(void **state)
{
    (void)state;
    struct jr_config *cfg;
    struct jr_errmsg e;
    set_env("DYN_HTTP_PORT", "8001");
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 0), 0);
    assert_int_equal(jr_config_port(cfg, JR_CFG_HTTP_PORT), 8001);
    jr_config_destroy(cfg);
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 3, "--http-port", "8002", "--port=8003"), 0);
    assert_int_equal(jr_config_port(cfg, JR_CFG_HTTP_PORT), 8003); /* the last one */
    jr_config_destroy(cfg);
    set_env("DYN_HTTP_PORT", "");
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 0), 0);
    assert_int_equal(jr_config_port(cfg, JR_CFG_HTTP_PORT), 8000);
    jr_config_destroy(cfg);
    set_env("DYN_HTTP_PORT", "many");
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 0), JR_EINVAL);
    assert_non_null(strstr(e.text, "DYN_HTTP_PORT"));
    env_name[0] = '\0';
}

/* ---------------------------------------------------------------- forms */

static void test_bool_forms(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        int rv;
        bool value;
    } cases[] = {
        {"--router-kv-events", 0, true},     {"--no-router-kv-events", 0, false},
        {"--no-kv-events", 0, false},        {"--router-kv-events=off", 0, false},
        {"--router-kv-events=YES", 0, true}, {"--no-router-kv-events=true", JR_EUSAGE, false},
        {"--no-http-port", JR_EUSAGE, false}};
    env_name[0] = '\0';
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_config *cfg;
        struct jr_errmsg e;
        assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 1, cases[i].word), cases[i].rv);
        if (cases[i].rv != 0)
            continue;
        assert_int_equal(jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS), cases[i].value);
        jr_config_destroy(cfg);
    }
}

static void test_lists_and_optional_values(void **state)
{
    (void)state;
    struct jr_config *cfg;
    struct jr_errmsg e;
    uint32_t n;
    set_env("JETROUTER_COMPONENT", "x,y");
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 5, "--component", "a,b", "--component=c",
                          "--router-reset-states", "--no-router-track-active-blocks"),
                     0);
    const char *const *v = jr_config_list(cfg, JR_CFG_COMPONENT, &n);
    assert_int_equal(n, 3);
    assert_string_equal(v[0], "a");
    assert_string_equal(v[2], "c");
    assert_string_equal(jr_config_str(cfg, JR_CFG_ROUTER_RESET_STATES), "");
    assert_false(jr_config_is_set(cfg, JR_CFG_EMBEDDED_NATS));
    jr_config_destroy(cfg);

    assert_int_equal(
        load(JR_CMD_FRONTEND, &cfg, &e, 3, "--router-reset-states", "monday", "--embedded-nats"),
        0);
    (void)jr_config_list(cfg, JR_CFG_COMPONENT, &n);
    assert_int_equal(n, 2);
    assert_string_equal(jr_config_str(cfg, JR_CFG_ROUTER_RESET_STATES), "monday");
    assert_string_equal(jr_config_str(cfg, JR_CFG_EMBEDDED_NATS), "");
    jr_config_destroy(cfg);
    env_name[0] = '\0';
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 1, "--component=a,,b"), JR_EINVAL);
}

static void test_canonical_values(void **state)
{
    (void)state;
    static const struct {
        enum jr_cmd cmd;
        const char *word;
        enum jr_cfg_key key;
        const char *want; /* NULL: refused */
    } cases[] = {
        {JR_CMD_FRONTEND, "--router-mode=Round_Robin", JR_CFG_ROUTER_MODE, "round-robin"},
        {JR_CMD_FRONTEND, "--log-level=TRACE", JR_CFG_LOG_LEVEL, "debug"},
        {JR_CMD_FRONTEND, "--log-level=dynamo_llm=debug,warn,h2=off", JR_CFG_LOG_LEVEL, "warn"},
        {JR_CMD_FRONTEND, "--log-level=a=b", JR_CFG_LOG_LEVEL, "info"},
        {JR_CMD_FRONTEND, "--log-level=loud", JR_CFG_LOG_LEVEL, NULL},
        {JR_CMD_BRIDGE, "--engine-url=http://a:1//", JR_CFG_ENGINE_URL, "http://a:1"},
        {JR_CMD_BRIDGE, "--engine-url=http://[::1]:8000/x", JR_CFG_ENGINE_URL,
         "http://[::1]:8000/x"},
        {JR_CMD_BRIDGE, "--engine-url=https://a:1/", JR_CFG_ENGINE_URL, "https://a:1"},
        {JR_CMD_BRIDGE, "--engine-url=https://:1", JR_CFG_ENGINE_URL, NULL},
        {JR_CMD_BRIDGE, "--engine-url=httpss://a:1", JR_CFG_ENGINE_URL, NULL},
        {JR_CMD_BRIDGE, "--engine-url=http://:1", JR_CFG_ENGINE_URL, NULL},
        {JR_CMD_BRIDGE, "--engine-url=http://a:99999", JR_CFG_ENGINE_URL, NULL},
        {JR_CMD_BRIDGE, "--engine-url=http://a", JR_CFG_ENGINE_URL, NULL},
        {JR_CMD_BRIDGE, "--kv-events-endpoint=tcp://*:5557", JR_CFG_KV_EVENTS_ENDPOINT,
         "tcp://*:5557"},
        {JR_CMD_BRIDGE, "--kv-events-endpoint=ipc:///tmp/x", JR_CFG_KV_EVENTS_ENDPOINT,
         "ipc:///tmp/x"},
        {JR_CMD_BRIDGE, "--kv-events-endpoint=5557", JR_CFG_KV_EVENTS_ENDPOINT, NULL},
        {JR_CMD_ROUTER, "--endpoint=dyn://a.b.c", JR_CFG_ENDPOINT, "a.b.c"},
        {JR_CMD_ROUTER, "--endpoint=a.b", JR_CFG_ENDPOINT, NULL},
        {JR_CMD_FRONTEND, "--replica-id=a-B_9", JR_CFG_REPLICA_ID, "a-B_9"},
        {JR_CMD_FRONTEND, "--replica-id=pod.v1-x", JR_CFG_REPLICA_ID, "pod_v1-x"},
        {JR_CMD_FRONTEND, "--replica-id=a b", JR_CFG_REPLICA_ID, NULL},
        {JR_CMD_FRONTEND, "--replica-id=a*", JR_CFG_REPLICA_ID, NULL},
        {JR_CMD_FRONTEND, "--replica-id=a>", JR_CFG_REPLICA_ID, NULL},
        {JR_CMD_FRONTEND, "--replica-id=\xc3\xbc", JR_CFG_REPLICA_ID, NULL},
        {JR_CMD_ROUTER, "--endpoint=a..c", JR_CFG_ENDPOINT, NULL},
        {JR_CMD_ROUTER, "--endpoint=a.b.c.d", JR_CFG_ENDPOINT, NULL},
    };
    env_name[0] = '\0';
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_config *cfg;
        struct jr_errmsg e;
        int rv = load(cases[i].cmd, &cfg, &e, 1, cases[i].word);
        if (rv != (cases[i].want ? 0 : JR_EINVAL))
            fail_msg("%s: %d %s", cases[i].word, rv, e.text);
        if (rv != 0)
            continue;
        assert_string_equal(jr_config_str(cfg, cases[i].key), cases[i].want);
        jr_config_destroy(cfg);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t want; /* 0: refused */
    } cases[] = {{"2MiB", 2 << 20}, {"2m", 2 << 20},   {"2097152", 2 << 20},
                 {"1GB", 1 << 30},  {"1x", 0},         {"1GiBs", 0},
                 {"-1G", 0},        {"999999999T", 0}, {"1048575", 0}};
    env_name[0] = '\0';
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_config *cfg;
        struct jr_errmsg e;
        int rv = load(JR_CMD_FRONTEND, &cfg, &e, 2, "--stream-max-bytes", cases[i].text);
        assert_int_equal(rv, cases[i].want ? 0 : JR_EINVAL);
        if (rv != 0)
            continue;
        assert_int_equal(jr_config_u64(cfg, JR_CFG_STREAM_MAX_BYTES), cases[i].want);
        jr_config_destroy(cfg);
    }
}

/* ---------------------------------------------------------------- errors */

static void test_unknown_options(void **state)
{
    (void)state;
    static const struct {
        enum jr_cmd cmd;
        const char *word, *says;
    } cases[] = {
        {JR_CMD_FRONTEND, "--htpp-port", "--http-port"},
        {JR_CMD_FRONTEND, "--router-temprature=1", "--router-temperature"},
        {JR_CMD_FRONTEND, "--no-router-kv-event", "--no-router-kv-events"},
        {JR_CMD_MOCKER, "--speed", "--speedup"},
        {JR_CMD_FRONTEND, "-p", "begin with --"},
        {JR_CMD_FRONTEND, "word", "unexpected"},
        {JR_CMD_FRONTEND, "--http-port", "needs a value"},
    };
    env_name[0] = '\0';
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_config *cfg;
        struct jr_errmsg e;
        assert_int_equal(load(cases[i].cmd, &cfg, &e, 1, cases[i].word), JR_EUSAGE);
        assert_non_null(strstr(e.text, cases[i].says));
        assert_null(strchr(e.text, '\n'));
    }
}

static void test_required(void **state)
{
    (void)state;
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
        struct jr_config *cfg;
        struct jr_errmsg e;
        if (!row->required)
            continue;
        set_env(row->env, "");
        assert_int_equal(load((enum jr_cmd)row->required, &cfg, &e, 0), JR_EUSAGE);
        assert_non_null(strstr(e.text, row->flag));
    }
    env_name[0] = '\0';
}

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        enum jr_cmd cmd;
        const char *a, *b, *c;
        int rv;
    } cases[] = {
        {JR_CMD_FRONTEND, "--no-router-kv-events", "--router-durable-kv-events", "--", JR_ECONFIG},
        {JR_CMD_FRONTEND, "--no-router-kv-events", "--", "--", 0},
        {JR_CMD_FRONTEND, "--no-router-durable-kv-events", "--", "--", JR_ECONFIG},
        {JR_CMD_FRONTEND, "--router-track-output-blocks", "--no-router-track-active-blocks", "--",
         JR_ECONFIG},
        {JR_CMD_FRONTEND, "--enable-cache-control", "--", "--", JR_ECONFIG},
        {JR_CMD_FRONTEND, "--enable-cache-control", "--router-mode=kv", "--", 0},
        {JR_CMD_FRONTEND, "--router-cost-model=seconds", "--kv-overlap-score-weight=0", "--",
         JR_ECONFIG},
        {JR_CMD_FRONTEND, "--embedded-nats", "--nats-server=nats://x", "--", JR_ECONFIG},
        {JR_CMD_FRONTEND, "--worker=http://x:1", "--nats-server=nats://x", "--", JR_ECONFIG},
        {JR_CMD_FRONTEND, "--worker=http://x:1", "--embedded-nats", "--", JR_ECONFIG},
        {JR_CMD_BRIDGE, "--nats-tls-cert=x", "--", "--", JR_ECONFIG},
        {JR_CMD_BRIDGE, "--component=a,b", "--", "--", JR_ECONFIG},
        {JR_CMD_BRIDGE, "--engines-dir=/e", "--engine-url=http://a:1", "--", JR_ECONFIG},
        {JR_CMD_BRIDGE, "--engines-dir=/e", "--block-size=16", "--", JR_ECONFIG},
        {JR_CMD_BRIDGE, "--engines-dir=/e", "--", "--", 0},
        {JR_CMD_CTL, "--url=http://a:1,http://b:1", "--", "--", JR_ECONFIG},
        {JR_CMD_REPLAY, "--url=http://a:1,http://b:1", "--", "--", 0},
        {JR_CMD_REPLAY, "--url=http://a:1,http://b:1,http://c:1", "--", "--", JR_ECONFIG},
        {JR_CMD_MOCKER, "--bridge", "--", "--", JR_ECONFIG},
        {JR_CMD_MOCKER, "--bridge", "--zmq-ports=1", "--workers=9", 0},
        {JR_CMD_MOCKER, "--zmq-ports=1,2", "--workers=3", "--", JR_ECONFIG},
        {JR_CMD_MOCKER, "--replay-ports=65535", "--workers=2", "--", JR_ECONFIG},
        {JR_CMD_MOCKER, "--port=65535", "--workers=2", "--", JR_ECONFIG},
    };
    env_name[0] = '\0';
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_config *cfg = NULL;
        struct jr_errmsg e;
        int n = cases[i].b[2] == '\0' ? 1 : cases[i].c[2] == '\0' ? 2 : 3;
        int rv = load(cases[i].cmd, &cfg, &e, n, cases[i].a, cases[i].b, cases[i].c);
        if (rv != cases[i].rv)
            fail_msg("%s %s: %d %s", cases[i].a, cases[i].b, rv, e.text);
        if (rv == 0)
            jr_config_destroy(cfg);
    }
}

static void test_notes_and_cost_model(void **state)
{
    (void)state;
    struct jr_config *cfg;
    struct jr_errmsg e, note;
    unsigned pos = 0;
    env_name[0] = '\0';
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 0), 0);
    assert_null(jr_config_note(cfg, &pos, &note));
    assert_false(jr_config_cost_model_is_dynamo(cfg));
    jr_config_destroy(cfg);

    pos = 0;
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 4, "--router-ttl=3", "--router-reset-states",
                          "--store-kv=mem", "--router-prefill-load-scale=2"),
                     0);
    assert_non_null(strstr(jr_config_note(cfg, &pos, &note), "--router-ttl-secs"));
    assert_non_null(strstr(jr_config_note(cfg, &pos, &note), "--router-reset-states"));
    assert_non_null(strstr(jr_config_note(cfg, &pos, &note), "--store-kv"));
    assert_null(jr_config_note(cfg, &pos, &note));
    assert_true(jr_config_cost_model_is_dynamo(cfg));
    jr_config_destroy(cfg);
}

static void test_options_for_others(void **state)
{
    (void)state;
    struct jr_config *cfg;
    struct jr_errmsg e;
    env_name[0] = '\0';
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 3, "--load-aware", "--router-mode=random",
                          "--durable-kv-events"),
                     0);
    assert_string_equal(jr_config_str(cfg, JR_CFG_ROUTER_MODE), "kv"); /* wins */
    assert_false(jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS));
    assert_false(jr_config_bool(cfg, JR_CFG_ROUTER_ASSUME_KV_REUSE));
    assert_true(fabs(jr_config_f64(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT)) < 1e-9);
    assert_true(jr_config_cost_model_is_dynamo(cfg));
    jr_config_destroy(cfg);

    set_env("DYN_ROUTER_AGENTIC", "1");
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 1, "--router-prefill-load-scale=3"), 0);
    env_name[0] = '\0';
    assert_true(fabs(jr_config_f64(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT) - 2) < 1e-9);
    assert_int_equal(jr_config_source(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT), JR_CFG_FROM_ENV);
    assert_true(fabs(jr_config_f64(cfg, JR_CFG_ROUTER_PREFILL_LOAD_SCALE) - 3) < 1e-9); /* said */
    jr_config_destroy(cfg);

    assert_int_equal(load(JR_CMD_ROUTER, &cfg, &e, 2, "--load-aware", "--agentic"), JR_ECONFIG);
}

static void test_dump_hides_secrets(void **state)
{
    (void)state;
    struct jr_config *cfg;
    struct jr_errmsg e;
    struct jr_buf b;
    set_env("NATS_AUTH_TOKEN", "s3cret");
    assert_int_equal(load(JR_CMD_FRONTEND, &cfg, &e, 2,
                          "--nats-server=nats://me:pa/ss@h:1,nats://x", "--http-port=0"),
                     0);
    env_name[0] = '\0';
    jr_buf_init(&b, 1 << 20);
    jr_config_dump(cfg, &b);
    assert_null(strstr(jr_buf_str(&b), "s3cret"));
    assert_null(strstr(jr_buf_str(&b), "pa/ss"));
    assert_non_null(strstr(jr_buf_str(&b), "\"nats://***@h:1,nats://x\""));
    assert_non_null(strstr(jr_buf_str(&b), "\"http-port\": {\"value\": 0, \"source\": \"cli\"}"));
    assert_non_null(strstr(jr_buf_str(&b),
                           "\"NATS_AUTH_TOKEN\": {\"value\": null, \"source\": \"env\", "
                           "\"secret\": true}"));
    jr_buf_deinit(&b);
    jr_config_destroy(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_whole),
        cmocka_unit_test(test_no_duplicate_names),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_all_names_reach_the_key),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_bool_forms),
        cmocka_unit_test(test_lists_and_optional_values),
        cmocka_unit_test(test_canonical_values),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_unknown_options),
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_notes_and_cost_model),
        cmocka_unit_test(test_options_for_others),
        cmocka_unit_test(test_dump_hides_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
