/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/engine_spec.h"
#include "base/mem.h"
#include "jr_test.h"
#include <string.h>

#define TWO "\"engine_url\":\"http://h:8000/\",\"kv_events_endpoint\":\"tcp://h:5557\""

static int parse(const char *text, struct jr_engine_spec *ret, struct jr_errmsg *e)
{
    return jr_engine_spec_parse(text, strlen(text), ret, e);
}

static void whole(void **state)
{
    struct jr_engine_spec s, again;
    struct jr_errmsg e = {0};
    (void)state;
    assert_int_equal(
        parse("{" TWO ",\"kv_events_replay_endpoint\":\"tcp://h:6557\","
              "\"kv_events_bind\":true,\"kv_events_report_mode\":\"full\",\"device\":\"cpu\","
              "\"worker_id\":9,\"data_parallel_rank\":2,\"data_parallel_size\":4,"
              "\"block_size\":32,\"max_num_seqs\":256,\"max_num_batched_tokens\":8192}",
              &s, &e),
        0);
    assert_string_equal(s.engine_url, "http://h:8000");
    assert_string_equal(s.kv_endpoint, "tcp://h:5557");
    assert_string_equal(s.replay_endpoint, "tcp://h:6557");
    assert_true(s.kv_bind && s.plain_set);
    assert_int_equal(s.worker_id, 9);
    assert_int_equal(s.dp_rank, 2);
    assert_int_equal(s.dp_size, 4);
    assert_int_equal(s.block_size, 32);
    assert_int_equal(s.max_num_seqs, 256);
    assert_int_equal(s.max_batched_tokens, 8192);
    assert_int_equal(parse("{" TWO "}", &s, &e), 0);
    assert_string_equal(s.replay_endpoint, "");
    assert_false(s.kv_bind || s.plain_set || s.worker_id || s.dp_rank || s.dp_size || s.block_size);
    /* Written otherwise, the same. */
    assert_int_equal(parse("{ \"kv_events_report_mode\": \"new\", " TWO " }\n", &again, &e), 0);
    assert_true(jr_engine_spec_equal(&s, &again));
    again.dp_size = 2;
    assert_false(jr_engine_spec_equal(&s, &again));
}

static void refused(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "JSON"},
        {"{" TWO, "JSON"},
        {"[]", ""},
        {"{\"engine_url\":\"http://h:1\"}", "kv_events_endpoint"},
        {"{" TWO ",\"kv_event_bind\":true}", "\"kv_event_bind\" is not known"},
        {"{" TWO ",\"worker_id\":9007199254740992}", "worker_id"},
        {"{" TWO ",\"data_parallel_size\":17}", "data_parallel_size"},
        {"{" TWO ",\"block_size\":4097}", "block_size"},
        {"{" TWO ",\"kv_events_report_mode\":\"all\"}", "kv_events_report_mode"},
        {"{" TWO ",\"device\":\"tpu\"}", "device"},
        {"{\"engine_url\":\"h:1\",\"kv_events_endpoint\":\"tcp://h:1\"}", "engine_url"},
        {"{\"engine_url\":\"http://h:1\",\"kv_events_endpoint\":\"h:1\"}", "kv_events_endpoint"},
        {"{" TWO ",\"kv_events_replay_endpoint\":\"udp://h:1\"}", "kv_events_replay_endpoint"},
    };
    struct jr_engine_spec s, before;
    (void)state;
    struct jr_errmsg none = {0};
    assert_int_equal(parse("{" TWO "}", &before, &none), 0);
    s = before;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jr_errmsg e = {0};
        assert_true(parse(cases[i].text, &s, &e) < 0);
        if (!strstr(e.text, cases[i].words))
            fail_msg("%s: said \"%s\"", cases[i].text, e.text);
        assert_true(jr_engine_spec_equal(&s, &before));
    }
    char *long_text = jr_xalloc(JR_ENGINE_FILE_MAX + 1);
    struct jr_errmsg e = {0};
    memset(long_text, ' ', JR_ENGINE_FILE_MAX + 1);
    assert_int_equal(jr_engine_spec_parse(long_text, JR_ENGINE_FILE_MAX + 1, &s, &e), JR_ELIMIT);
    jr_xfree(long_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
