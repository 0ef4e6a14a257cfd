/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_view and table: JSON of a replica as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "app/ctl/ctl_follow.h"
#include "app/ctl/ctl_view.h"
#include "app/table.h"
#include <stdio.h>
#include <string.h>

static const char state_json[] =
    "{\"replica\":{\"id\":\"r1\",\"incarnation\":\"5\",\"version\":\"0.1.0\",\"ready\":true,"
    "\"uptime_s\":12.5},"
    "\"nats\":{\"connected\":true,\"server\":\"nats://x:4222\",\"reconnects\":2},"
    "\"pools\":[{\"namespace\":\"dynamo\",\"component\":\"backend\",\"stream\":\"s\","
    "\"applied_seq\":41,\"stream_last_seq\":42,\"digest\":\"00ff00ff00ff00ff\",\"blocks\":7,"
    "\"entries\":9,\"index_bytes\":4096,\"workers\":["
    "{\"worker_id\":11,\"dp_rank\":0,\"url\":\"http://w:1\",\"blocks\":7,\"active_blocks\":1,"
    "\"active_prefill_tokens\":64,\"active_requests\":2,\"state\":\"live\"},"
    "{\"worker_id\":9007199254740993,\"dp_rank\":1,\"url\":\"http://w\\u001b[2J:2\",\"blocks\":0,"
    "\"active_blocks\":0,\"active_prefill_tokens\":0,\"active_requests\":0,\"state\":\"stale\"}],"
    "\"snapshot\":{\"object\":\"snapshot-a\",\"seq\":40,\"bytes\":100,\"created\":\"x\"},"
    "\"peers\":[{\"id\":\"r2\",\"incarnation\":\"6\",\"ready\":false,\"applied_seq\":40,"
    "\"digest\":\"00ff00ff00ff00fe\",\"active_requests\":3}],\"recovery_state\":\"READY\"}]}";

static int view(const char *what, bool json, const char *body, struct jr_buf *b,
                struct jr_errmsg *e)
{
    jr_buf_init(b, 1 << 20);
    e->text[0] = '\0';
    return jr_ctl_view_state(what, json, body, strlen(body), b, e);
}

static void test_workers(void **state)
{
    (void)state;
    struct jr_buf b;
    struct jr_errmsg e;
    assert_int_equal(view("workers", false, state_json, &b, &e), 0);
    assert_string_equal(
        jr_buf_str(&b),
        "POOL               WORKER  RANK  STATE  BLOCKS  ACTIVE BLOCKS  PREFILL TOKENS  REQUESTS  "
        "URL\n"
        "backend                11     0  live        7              1              64         2  "
        "http://w:1\n"
        "backend  9007199254740993     1  stale       0              0               0         0  "
        "http://w?[2J:2\n");
    jr_buf_deinit(&b);
}

static void test_all_parts(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        bool json;
        const char *has, *has_not;
    } cases[] = {
        {"state", false, "nats://x:4222", "http://w:1"},
        {"state", false, "READY", "\x1b"},
        {"state", true, "\"uptime_s\": 12.5", "READY\n"},
        {"workers", true, "\"worker_id\": 9007199254740993", "snapshot"},
        {"replicas", false, "00ff00ff00ff00fe", "http"},
        {"replicas", false, "this one, READY", "http"},
        {"replicas", true, "\"peers\"", "workers"},
        {"digest", false, "00ff00ff00ff00ff", "r2"},
        {"digest", true, "\"digest\": \"00ff00ff00ff00ff\"", "peers"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_buf b;
        struct jr_errmsg e;
        assert_int_equal(view(cases[i].what, cases[i].json, state_json, &b, &e), 0);
        if (!strstr(jr_buf_str(&b), cases[i].has) || strstr(jr_buf_str(&b), cases[i].has_not))
            fail_msg("%s: %s", cases[i].what, jr_buf_str(&b));
        jr_buf_deinit(&b);
    }
}

static void test_odd_answers(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int rv;
        const char *shows;
    } cases[] = {
        {"", JR_EPROTO, ""},
        {"<html>", JR_EPROTO, ""},
        {"[]", JR_EPROTO, ""},
        {"{\"replica\":{}}", JR_EPROTO, ""},
        {"{\"replica\":{},\"pools\":[]}", 0, "no workers\n"},
        {"{\"replica\":{},\"pools\":[1,{\"workers\":7}]}", 0, "no workers\n"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jr_buf b;
        struct jr_errmsg e;
        assert_int_equal(view("workers", false, cases[i].body, &b, &e), cases[i].rv);
        assert_string_equal(jr_buf_str(&b), cases[i].shows);
        assert_int_equal(e.text[0] != '\0', cases[i].rv != 0);
        jr_buf_deinit(&b);
        static const char *const others[] = {"state", "replicas", "digest"};
        for (unsigned j = 0; j < 6; j++) {
            assert_int_equal(view(others[j / 2], j & 1, cases[i].body, &b, &e), cases[i].rv);
            jr_buf_deinit(&b);
        }
    }
}

static void test_lines_and_messages(void **state)
{
    (void)state;
    static const char event[] =
        "{\"seq\":7,\"kind\":\"batch\",\"worker\":1,\"blocks\":[1,2],\"x\":null}";
    struct jr_buf b;
    char says[64];
    jr_buf_init(&b, 4096);
    jr_ctl_view_line(false, event, strlen(event), &b);
    jr_ctl_view_line(true, event, strlen(event), &b);
    jr_ctl_view_line(false, "no json\x1b", 8, &b);
    jr_ctl_view_action(false, "{\"message\":\"reset at 9\"}", 24, &b);
    jr_ctl_view_action(false, "", 0, &b);
    assert_string_equal(jr_buf_str(&b),
                        "seq=7 kind=batch worker=1 blocks=[2] x=-\n"
                        "{\"seq\":7,\"kind\":\"batch\",\"worker\":1,\"blocks\":[1,2],\"x\":null}\n"
                        "no json?\nreset at 9\nok\n");
    jr_buf_deinit(&b);
    jr_ctl_view_error("{\"error\":{\"message\":\"not\\nhere\"}}", 33, says, sizeof says);
    assert_string_equal(says, "not");
    jr_ctl_view_error("plain\x07 text\nmore", 16, says, sizeof says);
    assert_string_equal(says, "plain? text");
    jr_ctl_view_error(NULL, 0, says, sizeof says);
    assert_string_equal(says, "");
}

/* /state of a replica with two pools; it leads the second, unless told otherwise. */
static int look(struct jr_ctl_follow *f, bool leads, const char *stage, unsigned seq,
                unsigned failures, struct jr_buf *b, struct jr_errmsg *e)
{
    char body[600], newest[80] = "null";
    if (seq > 0)
        (void)snprintf(newest, sizeof newest, "{\"object\":\"snapshot-b\",\"seq\":%u,\"bytes\":99}",
                       seq);
    (void)snprintf(
        body, sizeof body,
        "{\"replica\":{},\"pools\":[{\"component\":\"one\",\"leader\":false},"
        "{\"component\":\"two\",\"leader\":%s,\"applied_seq\":40,\"snapshot_stage\":\"%s\","
        "\"snapshot\":%s,\"snapshot_failed_because\":\"no room\","
        "\"counters\":{\"snapshot_failures\":%u}}]}",
        leads ? "true" : "false", stage, newest, failures);
    e->text[0] = '\0';
    if (!b)
        return jr_ctl_follow_begin(f, body, strlen(body), e);
    jr_buf_clear(b);
    return jr_ctl_follow_look(f, body, strlen(body), b, e);
}

static void test_follow(void **state)
{
    (void)state;
    struct jr_ctl_follow f;
    struct jr_errmsg e;
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    assert_int_equal(look(&f, false, "idle", 0, 3, NULL, &e), JR_ECONFLICT);
    assert_int_equal(look(&f, true, "idle", 30, 3, NULL, &e), 0);
    assert_int_equal(look(&f, true, "idle", 30, 3, &b, &e), JR_EAGAIN);
    assert_string_equal(jr_buf_str(&b), "");
    assert_int_equal(look(&f, true, "uploading", 30, 3, &b, &e), JR_EAGAIN);
    assert_string_equal(jr_buf_str(&b), "two: uploading\n");
    assert_int_equal(look(&f, true, "uploading", 30, 3, &b, &e), JR_EAGAIN);
    assert_string_equal(jr_buf_str(&b), "");
    /* One that was begun before it was asked for is not it. */
    assert_int_equal(look(&f, true, "idle", 39, 3, &b, &e), JR_EAGAIN);
    assert_int_equal(look(&f, true, "recording", 39, 3, &b, &e), JR_EAGAIN);
    assert_int_equal(look(&f, true, "idle", 41, 3, &b, &e), 0);
    assert_string_equal(jr_buf_str(&b), "two: verified: snapshot-b at 41, 99 bytes\n");
    /* Failed; no leader any more; no state. */
    assert_int_equal(look(&f, true, "idle", 30, 3, NULL, &e), 0);
    assert_int_equal(look(&f, true, "idle", 30, 4, &b, &e), JR_EIO);
    assert_non_null(strstr(e.text, "two: the snapshot failed: no room"));
    assert_int_equal(look(&f, false, "idle", 30, 3, &b, &e), JR_ECONFLICT);
    assert_int_equal(jr_ctl_follow_look(&f, "{}", 2, &b, &e), JR_EPROTO);
    assert_int_equal(jr_ctl_follow_begin(&f, "nothing", 7, &e), JR_EPROTO);
    jr_buf_deinit(&b);
}

static void test_table(void **state)
{
    (void)state;
    struct jr_table t;
    struct jr_buf b;
    jr_table_init(&t, "NAME|N|LAST");
    jr_table_cell(&t, "\xc3\xa9");
    jr_table_cell(&t, "%d", 10);
    jr_table_cell(&t, "x");
    jr_table_cell(&t, "abcdef");
    jr_table_cell(&t, "%.1f%%", 2.5);
    jr_table_cell(&t, "y\n");
    jr_buf_init(&b, 4096);
    jr_table_render(&t, &b);
    assert_int_equal(jr_table_rows(&t), 2);
    assert_string_equal(jr_buf_str(&b), "NAME       N  LAST\n"
                                        "\xc3\xa9         10  x\n"
                                        "abcdef  2.5%  y?\n");
    jr_buf_deinit(&b);
    jr_table_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_workers),     cmocka_unit_test(test_all_parts),
        cmocka_unit_test(test_odd_answers), cmocka_unit_test(test_lines_and_messages),
        cmocka_unit_test(test_follow),      cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
