/* SPDX-License-Identifier: Apache-2.0 */
/* NATS connection, streams, ordered reader and publisher against a real server. */
#include "io/js_publish.h"
#include "io/js_reader.h"
#include "io/nats_priv.h"
#include "io_fixture.h"
#include "wire/event_codec.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct jr_test_nats server;
static struct jr_loop *loop;
static struct jr_nats *nats;
static unsigned n_connected, n_disconnected, n_errors, n_closed;

static void on_event(void *ctx, enum jr_nats_event event, const char *text)
{
    (void)ctx;
    (void)text;
    n_connected += event == JR_NATS_CONNECTED;
    n_disconnected += event == JR_NATS_DISCONNECTED;
    n_errors += event == JR_NATS_ERROR;
    n_closed += event == JR_NATS_CLOSED;
}

static void connect_to(const char *url)
{
    struct jr_nats_config config = {.servers = url, .loop = loop, .on_event = on_event};
    struct jr_errmsg e = {""};

    if (jr_nats_connect(&config, &nats, &e) != 0)
        fail_msg("connect: %s", e.text);
}

static int setup(void **state)
{
    (void)state;
    n_connected = n_disconnected = n_errors = n_closed = 0;
    assert_int_equal(jr_loop_create(&loop), 0);
    jr_test_nats_start(&server, NULL);
    connect_to(server.url);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_nats_close(nats);
    nats = NULL;
    jr_loop_destroy(loop);
    jr_test_nats_end(&server);
    return 0;
}

static void make_stream(const char *name)
{
    struct jr_stream_config config;
    struct jr_errmsg e = {""};

    jr_stream_config_events(&config, name, 64 << 20, 1);
    if (jr_stream_open(nats, &config, NULL, &e) != 0)
        fail_msg("stream: %s", e.text);
}

static uint64_t publish_text(const char *subject, const char *text)
{
    struct jr_pub pub = {.subject = subject, .payload = text, .n = strlen(text)};
    struct jr_pub_ack ack = {0};
    struct jr_errmsg e = {""};

    if (jr_js_publish(nats, &pub, &ack, &e) != 0)
        fail_msg("publish: %s", e.text);
    return ack.seq;
}

static void publish_many(const char *subject, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "message %u", i);
        publish_text(subject, text);
    }
}

/* --- connection --- */

static void test_connects_and_says_why_not(void **state)
{
    struct jr_nats_config config = {.servers = "nats://127.0.0.1:1"};
    static const char *const with_password[] = {"--user", "bob", "--pass", "right", NULL};
    struct jr_test_nats locked = {0};
    struct jr_nats *other = NULL;
    struct jr_errmsg e = {""};

    (void)state;
    PUMP_WAIT(loop, n_connected == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_nats_connect(&config, &other, &e), JR_ENONATS);
    assert_true(e.text[0] != '\0');

    jr_test_nats_start(&locked, with_password);
    config = (struct jr_nats_config){.servers = locked.url, .user = "bob", .password = "wrong"};
    assert_int_equal(jr_nats_connect(&config, &other, &e), JR_EAUTH);
    config.password = "right";
    assert_int_equal(jr_nats_connect(&config, &other, &e), 0);
    assert_int_equal(jr_nats_check_jetstream(other, &e), 0);
    jr_nats_close(other);
    jr_test_nats_end(&locked);

    config = (struct jr_nats_config){.servers = server.url, .nkey_seed = "/nonexistent"};
    assert_int_equal(jr_nats_connect(&config, &other, &e), JR_ECONFIG);
    config = (struct jr_nats_config){.servers = server.url, .tls_ca = "/nonexistent"};
    assert_int_equal(jr_nats_connect(&config, &other, &e), JR_ECONFIG);
}

static void test_no_jetstream_is_said(void **state)
{
    char port[16], *binary = jr_test_nats_binary();
    uint16_t number = jr_test_free_port();
    struct jr_nats_config config = {0};
    struct jr_nats *other = NULL;
    struct jr_errmsg e = {""};
    char url[64];

    (void)state;
    snprintf(port, sizeof port, "%u", number);
    snprintf(url, sizeof url, "nats://127.0.0.1:%u", number);
    char *argv[] = {binary, (char *)"-a", (char *)"127.0.0.1", (char *)"-p", port, NULL};
    pid_t pid = jr_test_spawn(argv, NULL);
    JR_TEST_WAIT(jr_test_port_open(number), JR_TEST_PATIENCE_MS);
    config.servers = url;
    assert_int_equal(jr_nats_connect(&config, &other, &e), JR_ENOJETSTREAM);
    jr_test_stop(pid, SIGTERM);
    jr_xfree(binary);
}

/* Seed and key of the example in the documentation of NATS (natscli, nk -gen user). */
static void test_nkey_public_of_seed(void **state)
{
    char *dir = jr_test_temp_dir(), *path = jr_xprintf("%s/seed", dir), key[64];
    FILE *f = fopen(path, "w");

    (void)state;
    fputs("# user\nSUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU\n", f);
    fclose(f);
    assert_int_equal(jr_nkey_public(path, key, NULL), 0);
    assert_string_equal(key, "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L");
    memset(key, 0, sizeof key); /* the seed itself, as the environment variable has it */
    assert_int_equal(
        jr_nkey_public("SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU", key, NULL), 0);
    assert_string_equal(key, "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L");
    f = fopen(path, "w");
    fputs("SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBA\n", f);
    fclose(f);
    assert_int_equal(jr_nkey_public(path, key, NULL), JR_ECONFIG);
    jr_xfree(path);
    jr_test_remove_dir(dir);
    jr_xfree(dir);
}

static void test_keeps_trying_in_the_background(void **state)
{
    struct jr_nats_config config = {
        .servers = server.url, .loop = loop, .on_event = on_event, .background = true};
    struct jr_nats *other = NULL;
    struct jr_stream_info info;

    (void)state;
    jr_test_nats_stop(&server);
    PUMP_WAIT(loop, n_disconnected == 1, JR_TEST_PATIENCE_MS);
    n_connected = 0;
    assert_int_equal(jr_nats_connect(&config, &other, NULL), 0);
    assert_false(jr_nats_connected(other));
    assert_int_equal(jr_stream_info(other, "X", &info, NULL), JR_ENONATS);
    jr_test_nats_restart(&server);
    PUMP_WAIT(loop, jr_nats_connected(other) && jr_nats_connected(nats) && n_connected == 2,
              JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_nats_generation(other), 1);
    assert_int_equal(jr_nats_generation(nats), 2);
    assert_int_equal(jr_stream_info(other, "X", &info, NULL), JR_ENOTFOUND);
    jr_nats_close(other);
}

/* The library gives up when it was refused twice: that must not go unnoticed. */
static void test_refused_in_the_background_is_told(void **state)
{
    static const char *const with_token[] = {"--auth", "secret", NULL};
    struct jr_test_nats locked = {0};
    struct jr_nats_config config = {
        .token = "wrong", .loop = loop, .on_event = on_event, .background = true};
    struct jr_nats *other = NULL;
    struct jr_errmsg e = {""};

    (void)state;
    jr_test_nats_start(&locked, with_token);
    config.servers = locked.url;
    assert_int_equal(jr_nats_connect(&config, &other, &e), 0);
    PUMP_WAIT(loop, n_closed == 1, JR_TEST_PATIENCE_MS);
    assert_false(jr_nats_connected(other));
    jr_nats_close(other);
    jr_test_nats_end(&locked);
}

/* Servers that fail for different reasons, in turns: a word each, however long it lasts. */
static void test_each_reason_is_told_once(void **state)
{
    struct jr_nats_told told = {.n = 0};
    char longest[2 * JR_NATS_TOLD_BYTES], why[32];

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (int i = 0; i < 3; i++) {
        assert_int_equal(jr_nats_told_add(&told, "refused"), i == 0);
        assert_int_equal(jr_nats_told_add(&told, "refused by name"), i == 0);
        assert_int_equal(jr_nats_told_add(&told, longest), i == 0);
    }
    for (int i = 0; i < 20; i++) {
        (void)snprintf(why, sizeof why, "reason %d", i);
        assert_int_equal(jr_nats_told_add(&told, why), i < JR_NATS_TOLD_MAX - 3);
    }
    told.n = 0;
    assert_true(jr_nats_told_add(&told, "refused"));
}

/* Nothing is kept while disconnected, to be sent when nobody wants it any more. */
static void test_nothing_is_buffered_offline(void **state)
{
    struct jr_pub pub = {.subject = "S.a", .payload = "x", .n = 1};
    struct jr_pub_ack ack;
    struct jr_stream_info info;

    (void)state;
    make_stream("S");
    jr_test_nats_stop(&server);
    JR_TEST_WAIT(!jr_nats_connected(nats), JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_js_publish(nats, &pub, &ack, NULL), JR_ENONATS);
    assert_int_equal(jr_nats_publish(nats, "S.a", "x", 1), JR_ENONATS);
    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 2, NULL, NULL), JR_ENONATS);
    jr_test_nats_restart(&server);
    JR_TEST_WAIT(jr_nats_connected(nats), JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_stream_info(nats, "S", &info, NULL), 0);
    assert_int_equal(info.last_seq, 0);
}

/* --- streams --- */

static void test_stream_names(void **state)
{
    char name[JR_STREAM_NAME_MAX], longer[400];

    (void)state;
    assert_int_equal(jr_stream_name(JR_STREAM_EVENTS, "dyn.amo", "Back_End", name), 0);
    assert_string_equal(name, "namespace-dyn-amo-component-back-end-kv-events");
    assert_int_equal(jr_stream_name(JR_STREAM_RADIX, "dynamo", "mocker", name), 0);
    assert_string_equal(name, "namespace-dynamo-component-mocker-radix-bucket");
    assert_int_equal(jr_stream_name(JR_STREAM_LEASES, "dynamo", "mocker", name), 0);
    assert_string_equal(name, "namespace-dynamo-component-mocker-leases");
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(jr_stream_name(JR_STREAM_EVENTS, longer, "b", name), JR_ELIMIT);
    static const struct {
        const char *stream, *component; /* NULL: none of the namespace's */
    } cases[] = {
        {"KV_namespace-dyn-amo-component-mocker-leases", "mocker"},
        {"KV_namespace-dyn-amo-component-a-leases-leases", "a-leases"},
        {"KV_namespace-dyn-amo-component-mocker-state", NULL},
        {"KV_namespace-dynamo-component-mocker-leases", NULL},
        {"KV_namespace-dyn-amo-component--leases", NULL},
        {"namespace-dyn-amo-component-mocker-leases", NULL},
        {"KV_", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char component[JR_NAME_MAX] = "";
        const bool is = jr_stream_is_leases(cases[i].stream, "dyn.amo", component);
        assert_int_equal(is, cases[i].component != NULL);
        assert_string_equal(component, is ? cases[i].component : "");
    }
}

static void test_stream_is_made_once(void **state)
{
    struct jr_stream_config config;
    struct jr_stream_info info, again;
    struct jr_errmsg e = {0};

    (void)state;
    assert_int_equal(jr_stream_info(nats, "EV", &info, NULL), JR_ENOTFOUND);
    jr_stream_config_events(&config, "EV", 1 << 20, 1);
    assert_int_equal(jr_stream_open(nats, &config, &info, NULL), 0);
    assert_true(info.created_ns > 0);
    assert_int_equal(info.max_age_ms, 0);
    assert_int_equal(info.max_bytes, 1 << 20);
    assert_false(info.discard_old);
    assert_false(info.memory);
    jr_stream_config_sync(&config, "EV", 30000, 1); /* taken as it is */
    assert_int_equal(jr_stream_open(nats, &config, &again, NULL), 0);
    assert_int_equal(again.created_ns, info.created_ns);
    assert_int_equal(again.max_age_ms, 0);
    jr_stream_config_sync(&config, "SY", 30000, 1);
    assert_int_equal(jr_stream_open(nats, &config, &info, NULL), 0);
    assert_true(info.memory && info.discard_old);
    assert_int_equal(info.max_age_ms, 30000);
    config.name = "OTHER";
    config.subjects = (const char *const[]){"SY.>"};
    config.n_subjects = 1;
    assert_int_equal(jr_stream_open(nats, &config, NULL, &e), JR_EEXIST);
    assert_non_null(strstr(e.text, "overlap")); /* not that there is no stream OTHER */
    assert_int_equal(jr_stream_delete(nats, "SY", NULL), 0);
    assert_int_equal(jr_stream_delete(nats, "SY", NULL), JR_ENOTFOUND);
}

static int64_t age_of(const char *stream)
{
    struct jr_stream_info info;
    assert_int_equal(jr_stream_info(nats, stream, &info, NULL), 0);
    return info.max_age_ms;
}

/* Whoever wants more has it, in whatever order they come; none is the longest. */
static void test_max_age_is_raised_only(void **state)
{
    struct jr_stream_config config;

    (void)state;
    jr_stream_config_sessions(&config, "SE", 30000, 1);
    assert_int_equal(jr_stream_open(nats, &config, NULL, NULL), 0);
    assert_int_equal(jr_stream_raise_max_age(nats, "SE", 300000, NULL), 0);
    assert_int_equal(age_of("SE"), 300000);
    assert_int_equal(jr_stream_raise_max_age(nats, "SE", 200000, NULL), 0);
    assert_int_equal(age_of("SE"), 300000);
    jr_stream_config_sessions(&config, "EVER", 0, 1);
    assert_int_equal(jr_stream_open(nats, &config, NULL, NULL), 0);
    assert_int_equal(jr_stream_raise_max_age(nats, "EVER", 200000, NULL), 0);
    assert_int_equal(age_of("EVER"), 0);
    assert_int_equal(jr_stream_raise_max_age(nats, "NONE", 200000, NULL), JR_ENOTFOUND);
}

static void test_publish_dedupe_and_compare_and_set(void **state)
{
    struct jr_pub pub = {.subject = "S.a", .payload = "one", .n = 3, .msg_id = "w-0-1"};
    struct jr_pub_ack ack;
    struct jr_stored *st = NULL;
    struct jr_errmsg e = {""};

    (void)state;
    assert_int_equal(jr_js_publish(nats, &pub, &ack, &e), JR_ENOTFOUND);
    make_stream("S");
    assert_int_equal(jr_js_publish(nats, &pub, &ack, &e), 0);
    assert_int_equal(ack.seq, 1);
    assert_false(ack.duplicate);
    assert_int_equal(jr_js_publish(nats, &pub, &ack, &e), 0);
    assert_int_equal(ack.seq, 1);
    assert_true(ack.duplicate);

    pub = (struct jr_pub){.subject = "S.m", .payload = "two", .n = 3, .expect_last = true};
    assert_int_equal(jr_js_publish(nats, &pub, &ack, &e), 0);
    assert_int_equal(jr_js_publish(nats, &pub, &ack, &e), JR_ECONFLICT);
    pub.last_subject_seq = 2;
    pub.rollup = true;
    pub.headers[0] = (struct jr_pub_header){"X-Mine", "yes"};
    assert_int_equal(jr_js_publish(nats, &pub, &ack, &e), 0);
    assert_int_equal(ack.seq, 3);
    assert_int_equal(jr_stored_get(nats, "S", 2, &st, NULL), JR_ENOTFOUND); /* rolled up */
    assert_int_equal(jr_stored_last(nats, "S", "S.m", &st, &e), 0);
    assert_int_equal(st->seq, 3);
    assert_int_equal(st->n, 3);
    assert_memory_equal(st->payload, "two", 3);
    assert_string_equal(jr_stored_header(st, "X-Mine"), "yes");
    assert_null(jr_stored_header(st, "X-Other"));
    assert_true(st->time_ns > 0);
    assert_true(st->payload_hash == jr_event_payload_hash("two", 3));
    jr_stored_destroy(st);
    assert_int_equal(jr_stored_last(nats, "S", "S.none", &st, NULL), JR_ENOTFOUND);
}

static void test_full_stream_refuses(void **state)
{
    struct jr_stream_config config;
    char big[4096] = {0};
    struct jr_pub pub = {.subject = "F.a", .payload = big, .n = sizeof big};
    int rv = 0;

    (void)state;
    jr_stream_config_events(&config, "F", 16 << 10, 1);
    assert_int_equal(jr_stream_open(nats, &config, NULL, NULL), 0);
    for (int i = 0; i < 8 && rv == 0; i++)
        rv = jr_js_publish(nats, &pub, NULL, NULL);
    assert_int_equal(rv, JR_ELIMIT);
}

static void test_purge_is_guarded(void **state)
{
    struct jr_stream_info info;
    struct jr_errmsg e = {""};
    uint64_t purged = 99;

    (void)state;
    make_stream("S");
    publish_many("S.a", 10);
    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 0, NULL, &e), JR_EINVAL);
    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 1, NULL, &e), JR_EINVAL);
    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 11, NULL, &e), JR_EINVAL);
    assert_int_equal(jr_stream_purge_below(nats, "S", 12345, 5, NULL, &e), JR_EHISTORY);
    assert_int_equal(jr_stream_info(nats, "S", &info, NULL), 0);
    assert_int_equal(info.msgs, 10);
    assert_int_equal(jr_stream_purge_below(nats, "S", info.created_ns, 5, &purged, &e), 0);
    assert_int_equal(purged, 4);
    assert_int_equal(jr_stream_info(nats, "S", &info, NULL), 0);
    assert_int_equal(info.first_seq, 5);
    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 3, &purged, &e), 0); /* gone already */
    assert_int_equal(purged, 0);
    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 10, &purged, &e), 0);
    assert_int_equal(jr_stream_info(nats, "S", &info, NULL), 0);
    assert_int_equal(info.msgs, 1); /* the message at the floor stays */
    assert_int_equal(jr_stream_purge_subject(nats, "S", "", &e), JR_EINVAL);
}

static void test_foreign_consumers_are_seen(void **state)
{
    struct jr_stream_foreign f;
    jsConsumerConfig cc;
    jsErrCode code = 0;

    (void)state;
    make_stream("S");
    publish_many("S.a", 3);
    assert_int_equal(jr_stream_foreign(nats, "S", &f, NULL), 0);
    assert_int_equal(f.n, 0);
    assert_true(f.ack_floor == UINT64_MAX);
    jsConsumerConfig_Init(&cc);
    cc.Durable = "7587886123456789";
    cc.AckPolicy = js_AckExplicit;
    assert_int_equal(js_AddConsumer(NULL, jr_nats_js(nats), "S", &cc, NULL, &code), NATS_OK);
    assert_int_equal(jr_stream_foreign(nats, "S", &f, NULL), 0);
    assert_int_equal(f.n, 1);
    assert_int_equal(f.ack_floor, 0);
    assert_string_equal(f.name, "7587886123456789");
}

static void test_history_rules(void **state)
{
    struct jr_stream_info info = {.created_ns = 100, .first_seq = 5, .last_seq = 20};
    struct jr_stream_position pos = {.created_ns = 100, .seq = 10, .has_msg = true, .time_ns = 7};
    struct jr_stored st = {.seq = 10, .time_ns = 7};
    struct jr_errmsg e = {""};

    (void)state;
    assert_int_equal(jr_stream_check_facts(&pos, &info, &st, &e), 0);
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), 0);
    st.payload_hash = 1;
    assert_int_equal(jr_stream_check_facts(&pos, &info, &st, &e), JR_EHISTORY);
    pos.created_ns = 101;
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), JR_EHISTORY);
    pos.created_ns = 0; /* not known */
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), 0);
    pos.seq = 21;
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), JR_EHISTORY);
    pos.seq = 20;
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), 0);
    pos.seq = 4; /* needs 5 */
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), 0);
    pos.seq = 3;
    assert_int_equal(jr_stream_check_facts(&pos, &info, NULL, &e), JR_EGAP);
}

static void test_parsers(void **state)
{
    struct jr_js_meta m;
    struct jr_pub_ack ack;
    static const char err[] = "{\"error\":{\"code\":400,\"err_code\":10071,\"description\":\"w\"}}";
    static const char dup[] = "{\"stream\":\"S\",\"seq\":9,\"duplicate\":true}";
    static const char busy[] = "{\"error\":{\"code\":429,\"err_code\":10167}}";

    (void)state;
    assert_int_equal(jr_js_meta_parse("$JS.ACK.S.C.1.22.3.1700000000000000001.44", &m), 0);
    assert_true(m.seq == 22 && m.consumer_seq == 3 && m.pending == 44);
    assert_true(m.time_ns == 1700000000000000001);
    assert_int_equal(jr_js_meta_parse("$JS.ACK.dom.acc.S.C.1.22.3.17.44.tok", &m), 0);
    assert_true(m.seq == 22 && m.consumer_seq == 3 && m.pending == 44 && m.time_ns == 17);
    assert_int_equal(jr_js_meta_parse("$JS.ACK.dom.acc.S.C.1.22.3.17.44", &m), 0);
    assert_int_equal(m.seq, 22);
    assert_int_equal(jr_js_meta_parse("$JS.ACK.S.C.1.22.3", &m), JR_EPROTO);
    assert_int_equal(jr_js_meta_parse("$JS.ACK.S.C.1.x.3.1.4", &m), JR_EPROTO);
    assert_int_equal(jr_js_meta_parse("_INBOX.a", &m), JR_EPROTO);
    assert_int_equal(jr_js_meta_parse(NULL, &m), JR_EPROTO);
    assert_int_equal(jr_pub_ack_parse(dup, sizeof dup - 1, &ack, NULL), 0);
    assert_true(ack.seq == 9 && ack.duplicate);
    assert_int_equal(jr_pub_ack_parse(err, sizeof err - 1, &ack, NULL), JR_ECONFLICT);
    assert_int_equal(jr_pub_ack_parse(busy, sizeof busy - 1, &ack, NULL), JR_ELIMIT);
    assert_int_equal(jr_pub_ack_parse("{}", 2, &ack, NULL), JR_EPROTO);
    assert_int_equal(jr_pub_ack_parse("+OK", 3, &ack, NULL), JR_EPROTO);
}

/* --- reader --- */

struct seen {
    struct jr_js_reader *reader;
    uint64_t last, msgs, restarted, lost, live, stopped, holes, decoded;
    int err;
    struct jr_js_msg *held[64];
    unsigned n_held, hold;
    char last_text[64];
};

static void on_msg(struct jr_js_msg *msg, void *ctx)
{
    struct seen *s = ctx;

    if (msg->kind == JR_READ_MSG) {
        s->msgs++;
        if (s->last != 0 && msg->seq != s->last + 1)
            s->holes++;
        s->last = msg->seq;
        s->restarted += msg->restarted;
        s->decoded += msg->decoded != NULL;
        snprintf(s->last_text, sizeof s->last_text, "%.*s", (int)msg->n,
                 (const char *)msg->payload);
    } else {
        s->lost += msg->kind == JR_READ_LOST;
        s->live += msg->kind == JR_READ_LIVE;
        s->stopped += msg->kind == JR_READ_STOPPED;
        if (msg->err != 0)
            s->err = msg->err;
    }
    if (s->n_held < s->hold)
        s->held[s->n_held++] = msg;
    else
        jr_js_msg_destroy(msg);
}

static void decode(struct jr_js_msg *msg, void *ctx)
{
    (void)ctx;
    msg->decoded = jr_arena_alloc(msg->arena, 8);
}

/* Two that are missed are a loss: a machine that stands still for a second is none. */
#define HEARTBEAT_MS 2000

static void start_reader(struct seen *s, const struct jr_js_reader_config *with)
{
    struct jr_js_reader_config config = *with;

    config.nats = nats;
    config.loop = loop;
    config.on_msg = on_msg;
    config.ctx = s;
    if (config.heartbeat_ms == 0)
        config.heartbeat_ms = HEARTBEAT_MS;
    assert_int_equal(jr_js_reader_create(&config, &s->reader), 0);
}

static void stop_reader(struct seen *s)
{
    bool done = false;

    jr_js_reader_close(s->reader, mark_done, &done);
    PUMP_WAIT(loop, done, JR_TEST_PATIENCE_MS);
}

static void test_reader_reads_from_its_position(void **state)
{
    struct seen s = {0};
    struct jr_js_reader_counters counters;

    (void)state;
    make_stream("S");
    publish_many("S.a", 20);
    start_reader(
        &s, &(struct jr_js_reader_config){.stream = "S", .position = {.seq = 5}, .decode = decode});
    PUMP_WAIT(loop, s.msgs == 15 && s.live == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.last, 20);
    assert_int_equal(s.restarted, 1);
    assert_int_equal(s.decoded, 15);
    assert_string_equal(s.last_text, "message 19");
    publish_many("S.a", 3);
    PUMP_WAIT(loop, s.last == 23, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.live, 1);
    assert_int_equal(s.holes + s.lost, 0);
    jr_js_reader_counters_get(s.reader, &counters);
    assert_int_equal(counters.msgs, 18);
    assert_int_equal(counters.creations, 1);
    stop_reader(&s);
}

static void test_reader_goes_on_after_a_server_restart(void **state)
{
    struct seen s = {0};

    (void)state;
    make_stream("S");
    publish_many("S.a", 10);
    start_reader(&s, &(struct jr_js_reader_config){.stream = "S"});
    PUMP_WAIT(loop, s.last == 10, JR_TEST_PATIENCE_MS);
    jr_test_nats_restart(&server);
    JR_TEST_WAIT(jr_nats_generation(nats) == 2, JR_TEST_PATIENCE_MS);
    publish_many("S.a", 10);
    PUMP_WAIT(loop, s.last == 20, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.msgs, 20);
    assert_int_equal(s.holes, 0);
    assert_int_equal(s.restarted, 2);
    assert_int_equal(s.lost, 1);
    PUMP_WAIT(loop, s.live == 2, JR_TEST_PATIENCE_MS);
    stop_reader(&s);
}

/* SIGKILL of the server: what was acknowledged is read, in order, once. */
static void test_reader_survives_a_killed_server(void **state)
{
    struct seen s = {0};

    (void)state;
    make_stream("S");
    publish_many("S.a", 10);
    start_reader(&s, &(struct jr_js_reader_config){.stream = "S"});
    PUMP_WAIT(loop, s.last == 10, JR_TEST_PATIENCE_MS);
    jr_test_nats_kill(&server);
    jr_test_nats_restart(&server);
    JR_TEST_WAIT(jr_nats_generation(nats) == 2, JR_TEST_PATIENCE_MS);
    publish_many("S.a", 5);
    PUMP_WAIT(loop, s.last == 15, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.msgs, 15);
    assert_int_equal(s.holes, 0);
    stop_reader(&s);
}

static void delete_consumers(const char *stream)
{
    jsConsumerNamesList *list = NULL;
    jsErrCode code = 0;

    assert_int_equal(js_ConsumerNames(&list, jr_nats_js(nats), stream, NULL, &code), NATS_OK);
    for (int i = 0; i < list->Count; i++)
        js_DeleteConsumer(jr_nats_js(nats), stream, list->List[i], NULL, &code);
    jsConsumerNamesList_Destroy(list);
}

static void test_reader_flags_a_new_consumer(void **state)
{
    struct seen s = {0};

    (void)state;
    make_stream("S");
    publish_many("S.a", 4);
    start_reader(&s, &(struct jr_js_reader_config){.stream = "S"});
    PUMP_WAIT(loop, s.last == 4, JR_TEST_PATIENCE_MS);
    delete_consumers("S");
    publish_many("S.a", 4);
    PUMP_WAIT(loop, s.last == 8, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.restarted, 2);
    assert_int_equal(s.lost, 1);
    assert_int_equal(s.err, JR_ETIMEOUT); /* heartbeats */
    assert_int_equal(s.msgs, 8);
    assert_int_equal(s.holes, 0);
    stop_reader(&s);
}

/* What is not handed over counts all the same: as read, as the end of what was stored, and as the
 * position that the next consumer begins behind and whose history is checked. */
static void test_reader_skips_a_subject(void **state)
{
    struct seen s = {0};
    struct jr_js_reader_counters counters;

    (void)state;
    make_stream("S");
    publish_many("S.a", 3); /* 1 is handed over: the consumer is new */
    publish_many("S.b", 2);
    publish_many("S.a", 4);
    start_reader(&s, &(struct jr_js_reader_config){.stream = "S", .skip_subject = "S.a"});
    PUMP_WAIT(loop, s.live == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.msgs, 3);
    assert_int_equal(s.last, 5);
    publish_many("S.aa", 1);
    PUMP_WAIT(loop, s.last == 10, JR_TEST_PATIENCE_MS);
    publish_many("S.a", 2);
    JR_TEST_WAIT((jr_js_reader_counters_get(s.reader, &counters), counters.last_seq == 12),
                 JR_TEST_PATIENCE_MS);
    assert_int_equal(counters.msgs, 12);
    assert_int_equal(s.msgs, 4);
    delete_consumers("S");
    publish_many("S.a", 1);
    PUMP_WAIT(loop, s.last == 13, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.restarted, 2);
    assert_int_equal(s.stopped, 0);
    assert_int_equal(s.msgs, 5);
    stop_reader(&s);
}

/* How many batches the messages held came in: none of them is gone, so each is at another place. */
static unsigned batches_of(const struct seen *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->n_held; i++)
        n += i == 0 || s->held[i]->batch != s->held[i - 1]->batch;
    return n;
}

static void let_go(struct seen *s)
{
    for (unsigned i = 0; i < s->n_held; i++)
        jr_js_msg_destroy(s->held[i]);
    s->n_held = 0;
}

/* What comes soon after another comes with what comes after it. */
static void test_reader_is_patient(void **state)
{
    struct seen s = {0};

    (void)state;
    make_stream("S");
    start_reader(
        &s, &(struct jr_js_reader_config){.stream = "S", .patience_ms = JR_READER_PATIENCE_MS_MAX});
    PUMP_WAIT(loop, s.live == 1, JR_TEST_PATIENCE_MS);
    s.hold = 24;
    publish_many("S.a", 24);
    PUMP_WAIT(loop, s.n_held == 24, JR_TEST_PATIENCE_MS);
    assert_true(batches_of(&s) <= 12);
    let_go(&s);
    jr_js_reader_patience(s.reader, 0);
    for (unsigned i = 1; i <= 24; i++) {
        publish_text("S.a", "one");
        PUMP_WAIT(loop, s.n_held == i, JR_TEST_PATIENCE_MS);
    }
    assert_int_equal(batches_of(&s), 24);
    let_go(&s);
    stop_reader(&s);
}

static void test_reader_stops_at_a_different_history(void **state)
{
    struct seen s = {0}, gap = {0};

    (void)state;
    make_stream("S");
    publish_many("S.a", 10);
    start_reader(&s, &(struct jr_js_reader_config){.stream = "S"});
    PUMP_WAIT(loop, s.last == 10, JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_stream_delete(nats, "S", NULL), 0);
    make_stream("S");
    publish_many("S.a", 12);
    PUMP_WAIT(loop, s.stopped == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.err, JR_EHISTORY);
    assert_int_equal(s.msgs, 10);
    stop_reader(&s);

    assert_int_equal(jr_stream_purge_below(nats, "S", 0, 8, NULL, NULL), 0);
    start_reader(&gap, &(struct jr_js_reader_config){.stream = "S", .position = {.seq = 3}});
    PUMP_WAIT(loop, gap.stopped == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(gap.err, JR_EGAP);
    assert_int_equal(gap.msgs, 0);
    stop_reader(&gap);
}

/* The sync stream is in memory: a server that comes back empty gets it again. */
static void test_sync_reader_recreates_its_stream(void **state)
{
    struct seen s = {0};
    struct jr_stream_config sync;

    (void)state;
    jr_stream_config_sync(&sync, "SY", 30000, 1);
    start_reader(
        &s, &(struct jr_js_reader_config){.stream = "SY", .from = JR_READ_ALL, .create = &sync});
    PUMP_WAIT(loop, s.live == 1, JR_TEST_PATIENCE_MS);
    publish_many("SY.r1", 3);
    PUMP_WAIT(loop, s.msgs == 3, JR_TEST_PATIENCE_MS);
    jr_test_nats_restart(&server);
    PUMP_WAIT(loop, s.live == 2, JR_TEST_PATIENCE_MS);
    s.last = 0;
    publish_many("SY.r1", 2);
    PUMP_WAIT(loop, s.msgs == 5, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.restarted, 2);
    assert_int_equal(s.last, 2);
    stop_reader(&s);
}

/* A loop that does not read: the window fills, the server waits, nothing is lost or dropped. */
static void test_slow_loop_slows_the_reader(void **state)
{
    struct seen s = {.hold = 8};
    struct jr_js_reader_counters counters;

    (void)state;
    make_stream("S");
    publish_many("S.a", 500);
    start_reader(
        &s, &(struct jr_js_reader_config){.stream = "S", .window_msgs = 8, .heartbeat_ms = 200});
    PUMP_WAIT(loop, s.n_held == 8, JR_TEST_PATIENCE_MS);
    jr_test_sleep_ms(1500); /* beyond the heartbeats */
    pump(loop);
    assert_in_range(s.msgs, 8, 9);
    jr_js_reader_counters_get(s.reader, &counters);
    assert_true(counters.msgs <= 12); /* one batch waits at the gate */
    s.hold = 0;
    for (unsigned i = 0; i < s.n_held; i++)
        jr_js_msg_destroy(s.held[i]);
    PUMP_WAIT(loop, s.last == 500, JR_TEST_PATIENCE_MS);
    assert_int_equal(s.msgs, 500);
    assert_int_equal(s.holes, 0);
    stop_reader(&s);
}

/* Closing while the reader waits at the gate, and messages that outlive their reader. */
static void test_reader_closes_when_blocked(void **state)
{
    struct seen s = {.hold = 4};

    (void)state;
    make_stream("S");
    publish_many("S.a", 50);
    start_reader(&s, &(struct jr_js_reader_config){.stream = "S", .window_msgs = 4});
    PUMP_WAIT(loop, s.n_held == 4, JR_TEST_PATIENCE_MS);
    stop_reader(&s);
    for (unsigned i = 0; i < s.n_held; i++)
        jr_js_msg_destroy(s.held[i]);
}

/* --- publisher --- */

struct acks {
    unsigned ok, duplicates, failed, eagain;
    uint64_t last_seq;
    int err;
    bool room;
};

static void on_ack(void *ctx, int err, const struct jr_pub_ack *ack)
{
    struct acks *a = ctx;

    if (err != 0) {
        a->failed++;
        a->err = err;
        return;
    }
    a->ok++;
    a->duplicates += ack->duplicate;
    if (ack->seq != a->last_seq + 1 && !ack->duplicate)
        a->err = JR_EINTERNAL; /* out of order */
    a->last_seq = ack->seq;
}

static void on_room(void *ctx)
{
    ((struct acks *)ctx)->room = true;
}

static struct jr_js_publisher *create_publisher(struct acks *a, uint32_t window,
                                                uint32_t timeout_ms, uint32_t patience_ms)
{
    struct jr_js_publisher_config config = {.nats = nats,
                                            .loop = loop,
                                            .window_msgs = window,
                                            .timeout_ms = timeout_ms,
                                            .patience_ms = patience_ms,
                                            .on_room = on_room,
                                            .ctx = a};
    struct jr_js_publisher *p = NULL;

    assert_int_equal(jr_js_publisher_create(&config, &p), 0);
    return p;
}

static struct jr_js_publisher *start_publisher(struct acks *a, uint32_t window, uint32_t timeout_ms)
{
    return create_publisher(a, window, timeout_ms, 0);
}

static void stop_publisher(struct jr_js_publisher *p)
{
    bool done = false;

    jr_js_publisher_close(p, mark_done, &done);
    PUMP_WAIT(loop, done, JR_TEST_PATIENCE_MS);
}

static void test_publisher_window_and_order(void **state)
{
    struct acks a = {0};
    struct jr_js_publisher *p;
    struct jr_js_publisher_counters counters;
    char id[32];

    (void)state;
    make_stream("S");
    p = start_publisher(&a, 16, 0);
    for (unsigned i = 0; i < 2000;) {
        snprintf(id, sizeof id, "m%u", i);
        struct jr_pub pub = {.subject = "S.a", .payload = "hello", .n = 5, .msg_id = id};
        int rv = jr_js_publish_async(p, &pub, on_ack, &a);
        if (rv == 0) {
            i++;
            continue;
        }
        assert_int_equal(rv, JR_EAGAIN);
        a.eagain++;
        a.room = false;
        PUMP_WAIT(loop, a.room, JR_TEST_PATIENCE_MS);
    }
    PUMP_WAIT(loop, a.ok + a.failed == 2000, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.failed, 0);
    assert_int_equal(a.err, 0);
    assert_int_equal(a.last_seq, 2000);
    assert_true(a.eagain > 0);
    struct jr_pub again = {.subject = "S.a", .payload = "hello", .n = 5, .msg_id = "m7"};
    assert_int_equal(jr_js_publish_async(p, &again, on_ack, &a), 0);
    PUMP_WAIT(loop, a.duplicates == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.last_seq, 8);
    jr_js_publisher_counters_get(p, &counters);
    assert_int_equal(counters.acked, 2001);
    assert_int_equal(counters.inflight_msgs, 0);
    stop_publisher(p);
}

/* Outcomes that gather come all, in order, failures among them, and the end does not lose one. */
static void test_publisher_gathers_outcomes(void **state)
{
    struct acks a = {0};
    struct jr_js_publisher *p = create_publisher(&a, 64, 60000, 50);
    struct jr_pub pub = {.subject = "S.a", .payload = "x", .n = 1};
    struct jr_pub bad = {.subject = "S.a", .payload = "x", .n = 1, .expect_last = true};

    (void)state;
    make_stream("S");
    for (unsigned i = 1; i <= 40; i++) {
        assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
        if (i % 10 == 0)
            PUMP_WAIT(loop, a.ok == i, JR_TEST_PATIENCE_MS);
    }
    assert_int_equal(a.err, 0);
    assert_int_equal(jr_js_publish_async(p, &bad, on_ack, &a), 0);
    assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    PUMP_WAIT(loop, a.ok == 41 && a.failed == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.err, JR_ECONFLICT);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    stop_publisher(p);
    assert_int_equal(a.ok + a.failed, 52);
}

static void test_publisher_errors(void **state)
{
    struct acks a = {0};
    struct jr_js_publisher *p = start_publisher(&a, 16, 60000);
    struct jr_pub pub = {.subject = "NOBODY.a", .payload = "x", .n = 1};
    uint64_t began;

    (void)state;
    assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    PUMP_WAIT(loop, a.failed == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.err, JR_ENOTFOUND);
    make_stream("S");
    pub = (struct jr_pub){.subject = "S.m", .payload = "x", .n = 1, .expect_last = true};
    assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    PUMP_WAIT(loop, a.failed == 2 && a.ok == 1, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.err, JR_ECONFLICT);
    stop_publisher(p);
    p = start_publisher(&a, 16, 600);
    pub = (struct jr_pub){.subject = "S.a", .payload = "x", .n = 1};
    jr_test_nats_pause(&server); /* connected, but no answer */
    began = jr_test_now_ms();
    assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    PUMP_WAIT(loop, a.failed == 3, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.err, JR_ETIMEOUT);
    assert_true(jr_test_now_ms() - began >= 590);
    jr_test_nats_resume(&server);
    jr_test_nats_stop(&server);
    JR_TEST_WAIT(!jr_nats_connected(nats), JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    PUMP_WAIT(loop, a.failed == 4, JR_TEST_PATIENCE_MS);
    assert_int_equal(a.err, JR_ENONATS);
    stop_publisher(p);
}

static void test_publisher_close_ends_all(void **state)
{
    struct acks a = {0};
    struct jr_js_publisher *p = start_publisher(&a, 64, 5000);
    struct jr_pub pub = {.subject = "S.a", .payload = "x", .n = 1};

    (void)state;
    make_stream("S");
    jr_test_nats_pause(&server);
    for (int i = 0; i < 10; i++)
        assert_int_equal(jr_js_publish_async(p, &pub, on_ack, &a), 0);
    stop_publisher(p);
    assert_int_equal(a.ok + a.failed, 10);
    assert_int_equal(a.err, JR_ECLOSED);
    jr_test_nats_resume(&server);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_connects_and_says_why_not),
        T(test_no_jetstream_is_said),
        cmocka_unit_test(test_nkey_public_of_seed),
        T(test_keeps_trying_in_the_background),
        T(test_refused_in_the_background_is_told),
        cmocka_unit_test(test_each_reason_is_told_once),
        T(test_nothing_is_buffered_offline),
        cmocka_unit_test(test_stream_names),
        T(test_stream_is_made_once),
        T(test_max_age_is_raised_only),
        T(test_publish_dedupe_and_compare_and_set),
        T(test_full_stream_refuses),
        T(test_purge_is_guarded),
        T(test_foreign_consumers_are_seen),
        cmocka_unit_test(test_history_rules),
        cmocka_unit_test(test_parsers),
        T(test_reader_reads_from_its_position),
        T(test_reader_goes_on_after_a_server_restart),
        T(test_reader_survives_a_killed_server),
        T(test_reader_flags_a_new_consumer),
        T(test_reader_skips_a_subject),
        T(test_reader_is_patient),
        T(test_reader_stops_at_a_different_history),
        T(test_sync_reader_recreates_its_stream),
        T(test_slow_loop_slows_the_reader),
        T(test_reader_closes_when_blocked),
        T(test_publisher_window_and_order),
        T(test_publisher_gathers_outcomes),
        T(test_publisher_errors),
        T(test_publisher_close_ends_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
