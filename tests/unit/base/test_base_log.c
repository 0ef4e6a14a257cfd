/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/buf.h"
#include "jr_test.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t clock_ms;
static char lines[1 << 16];
static size_t lines_n;
static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_ms(void)
{
    return atomic_load(&clock_ms);
}

static void keep(const char *line, size_t n)
{
    assert_int_equal(line[n - 1], '\n');
    assert_null(memchr(line, '\n', n - 1));
    (void)pthread_mutex_lock(&lines_lock);
    if (lines_n + n < sizeof lines) {
        memcpy(lines + lines_n, line, n);
        lines_n += n;
        lines[lines_n] = 0;
    }
    (void)pthread_mutex_unlock(&lines_lock);
}

static void configure(bool json, uint32_t per_event_max)
{
    const struct jr_log_config c = {JR_LOG_INFO, json, per_event_max, now_ms, keep};

    jr_log_configure(&c);
    lines_n = 0;
    lines[0] = 0;
}

static unsigned count(const char *needle)
{
    unsigned n = 0;

    for (const char *p = lines; (p = strstr(p, needle)); p++)
        n++;
    return n;
}

static void text_lines(void **state)
{
    (void)state;
    clock_ms = UINT64_C(1767323045678);
    configure(false, 0);
    jr_log(JR_LOG_INFO, "nats.lost", "server=%s n=%d", "nats://a", 3);
    assert_string_equal(lines,
                        "2026-01-02T03:04:05.678Z INFO event=nats.lost server=nats://a n=3\n");
    configure(false, 0);
    jr_log(JR_LOG_ERROR, "x", "err=" JR_LOG_Q " k=%s", "a \"b\" c\nd", "v");
    assert_string_equal(lines, "2026-01-02T03:04:05.678Z ERROR event=x "
                               "err=\"a \\\"b\\\" c\\nd\" k=v\n");
    configure(false, 0);
    jr_log(JR_LOG_WARN, "x", "e= f=\"\" g=\"plain\" some words%s", "\n2026 INFO forged=1");
    assert_string_equal(lines, "2026-01-02T03:04:05.678Z WARN event=x e=\"\" f=\"\" g=plain "
                               "some \"words\\n2026\" INFO forged=1\n");
}

static void json_lines(void **state)
{
    (void)state;
    clock_ms = UINT64_C(1767323045678);
    configure(true, 0);
    jr_log(JR_LOG_WARN, "kv.put", "n=%d f=-1.5e3 z=007 hex=0x1 neg=- err=" JR_LOG_Q " t=true", 12,
           "say \"hi\" \x01\xff");
    assert_string_equal(lines,
                        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warn\",\"event\":"
                        "\"kv.put\",\"n\":12,\"f\":-1.5e3,\"z\":\"007\",\"hex\":\"0x1\",\"neg\":"
                        "\"-\",\"err\":\"say \\\"hi\\\" \\u0001\xef\xbf\xbd\",\"t\":\"true\"}\n");
    configure(true, 0);
    jr_log(JR_LOG_INFO, "a", "two words k=1 =x");
    assert_string_equal(lines, "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\","
                               "\"event\":\"a\",\"k\":1,\"msg\":\"two words =x\"}\n");
}

static void dates(void **state)
{
    static const struct {
        uint64_t ms;
        const char *want;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {UINT64_C(951782399999), "2000-02-28T23:59:59.999Z"},
        {UINT64_C(951782400000), "2000-02-29T00:00:00.000Z"},
        {UINT64_C(4107542400000), "2100-03-01T00:00:00.000Z"},
        {UINT64_C(1735689599001), "2024-12-31T23:59:59.001Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clock_ms = cases[i].ms;
        configure(false, 0);
        jr_log(JR_LOG_INFO, "x", "%s", "");
        assert_memory_equal(lines, cases[i].want, strlen(cases[i].want));
    }
}

static void huge_lines_are_cut(void **state)
{
    char text[5000];

    (void)state;
    memset(text, 1, sizeof text - 1); /* escaping makes six bytes of each */
    text[sizeof text - 1] = 0;
    for (int json = 0; json < 2; json++) {
        configure(json, 0);
        jr_log(JR_LOG_INFO, "x", "k=" JR_LOG_Q, text);
        assert_int_equal(count("event"), 1);
        assert_non_null(strstr(lines, json ? "\"}\n" : "\"\n"));
    }
}

static void levels(void **state)
{
    enum jr_log_level level;

    (void)state;
    configure(false, 0);
    jr_log(JR_LOG_DEBUG, "x", "k=1");
    assert_int_equal(lines_n, 0);
    assert_true(jr_log_enabled(JR_LOG_INFO));
    assert_false(jr_log_enabled(JR_LOG_DEBUG));
    assert_false(jr_log_enabled(JR_LOG_OFF));
    assert_true(jr_log_level_parse("warn", &level) == 0 && level == JR_LOG_WARN);
    assert_true(jr_log_level_parse("off", &level) == 0 && level == JR_LOG_OFF);
    assert_int_equal(jr_log_level_parse("WARN", &level), JR_EINVAL);
    assert_int_equal(jr_log_level_parse("", &level), JR_EINVAL);
}

static void repeated_events_are_held_back_and_reported(void **state)
{
    (void)state;
    clock_ms = 1000000;
    configure(false, 3);
    for (int i = 0; i < 10; i++)
        jr_log(JR_LOG_INFO, "loud", "i=%d", i);
    jr_log(JR_LOG_INFO, "quiet", "k=1");
    assert_int_equal(count("event=loud"), 3);
    assert_int_equal(count("event=quiet"), 1);
    assert_int_equal(count("suppressed"), 0);

    clock_ms += 10000; /* another event is enough to hear of it */
    jr_log(JR_LOG_INFO, "quiet", "k=2");
    assert_non_null(strstr(lines, "WARN event=loud suppressed=7\n"));
    assert_int_equal(count("suppressed"), 1);
    assert_int_equal(count("event=quiet"), 2);

    jr_log(JR_LOG_INFO, "loud", "i=11");
    assert_int_equal(count("i=11"), 1);
    clock_ms += 10000;
    jr_log(JR_LOG_INFO, "loud", "i=12");
    assert_int_equal(count("suppressed"), 1);
}

#define THREADS 4
#define EACH    300

static void *shout(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH; i++) {
        jr_log(JR_LOG_INFO, "race", "i=%d", i);
        jr_log(JR_LOG_INFO, "race2", "i=%d", i);
        if (i == EACH / 2)
            atomic_fetch_add(&clock_ms, 10000);
    }
    return NULL;
}

static void threads_lose_no_line(void **state)
{
    pthread_t t[THREADS];
    uint64_t shown = 0, held = 0;

    (void)state;
    clock_ms = 9000000;
    configure(false, 10);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, shout, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(t[i], NULL);
    clock_ms += 10000;
    jr_log(JR_LOG_INFO, "end", "k=1");
    for (char *save = NULL, *l = strtok_r(lines, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        const char *n = strstr(l, "event=race suppressed=");
        if (n)
            held += strtoull(n + strlen("event=race suppressed="), NULL, 10);
        else if (strstr(l, "event=race i="))
            shown++;
    }
    assert_int_equal(shown + held, THREADS * EACH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(dates),
        cmocka_unit_test(huge_lines_are_cut),
        cmocka_unit_test(levels),
        cmocka_unit_test(repeated_events_are_held_back_and_reported),
        cmocka_unit_test(threads_lose_no_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
