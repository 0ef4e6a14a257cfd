/* SPDX-License-Identifier: Apache-2.0 */
#include "wire_test.h"
#include "wire/dynamo_json.h"
#include "wire/dynamo_scan.h"
#include <jansson.h>

static struct jr_dynamo_parser *parser;
static struct jr_arena arena;

static int setup(void **state)
{
    (void)state;
    parser = jr_dynamo_parser_create();
    jr_arena_init(&arena, (size_t)16 << 20);
    return parser ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    jr_dynamo_parser_destroy(parser);
    jr_dynamo_parser_destroy(NULL);
    jr_arena_deinit(&arena);
    return 0;
}

static int decode(const char *text, size_t n, struct jr_kv_batch *ret)
{
    struct jr_errmsg e = {{0}};
    uint8_t *copy = tight_copy(text, n);
    jr_arena_reset(&arena);
    int rv = jr_dynamo_json_decode(parser, copy, n, &arena, ret, &e);
    assert_true(rv == 0 || e.text[0]);
    free(copy);
    return rv;
}

static struct jr_kv_batch good(const char *text)
{
    struct jr_kv_batch b;
    assert_int_equal(decode(text, strlen(text), &b), 0);
    assert_true(b.dynamo);
    assert_int_equal(b.n_events, 1);
    assert_int_equal(b.incarnation, 0);
    return b;
}

static void assert_bad(const char *text, int err)
{
    struct jr_kv_batch b;
    if (decode(text, strlen(text), &b) != err)
        fail_msg("not refused as it should: %s", text);
}

/* Decoded and written again it is the very same text, but for multimodal details. */
static unsigned check_line(const char *text, size_t n)
{
    struct jr_kv_batch batch;
    struct jr_buf b;
    assert_int_equal(decode(text, n, &batch), 0);
    jr_buf_init(&b, JR_BATCH_BYTES_MAX);
    assert_int_equal(jr_dynamo_json_encode(&batch, 0, &b), 0);
    bool mm = strstr(text, "\"mm_objects\"") != NULL;
    if (!mm)
        assert_string_equal(jr_buf_str(&b), text);
    jr_buf_deinit(&b);
    return 1;
}

static unsigned check_file(const char *path, const char *key)
{
    unsigned seen = 0;
    uint8_t *text = jr_test_fixture(path, NULL);
    for (char *save, *line = strtok_r((char *)text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        json_t *o = json_loads(line, 0, NULL), *v = json_object_get(o, key);
        assert_non_null(o);
        if (json_is_string(v))
            seen += check_line(json_string_value(v), json_string_length(v));
        for (size_t i = 0; i < json_array_size(v); i++) {
            const json_t *m = json_array_get(v, i);
            seen += check_line(json_string_value(m), json_string_length(m));
        }
        json_decref(o);
    }
    jr_xfree(text);
    return seen;
}

/* Every message that a Dynamo 1.0.2 was seen to publish. */
static void captured(void **state)
{
    (void)state;
    assert_int_equal(check_file("dynamo/kv-events-mocker.jsonl", "payload"), 215);
    assert_int_equal(check_file("dynamo/kv-events-python-publisher.jsonl", "payload"), 16);
    assert_true(check_file("dynamo/zmq-relay.jsonl", "jetstream_messages") > 10);
}

static void fields(void **state)
{
    (void)state;
    struct jr_kv_batch b =
        good("{\"worker_id\":18446744073709551615,\"event\":{\"event_id\":42,\"data\":{\"stored\":{"
             "\"parent_hash\":9223372036854775809,\"blocks\":[{\"block_hash\":17,\"tokens_hash\":"
             "18446744073709551614,\"mm_extra_info\":{\"mm_objects\":[{\"mm_hash\":99,\"offsets\":["
             "[0,3]]"
             "}]}}]}},\"dp_rank\":3}}");
    assert_true(b.worker_id == UINT64_MAX);
    assert_int_equal(b.first_id, 42);
    assert_int_equal(b.dp_rank, 3);
    assert_int_equal(b.events[0].type, JR_KV_STORED);
    assert_true(b.events[0].has_parent);
    assert_true(b.events[0].parent_hash == (UINT64_C(1) << 63) + 1);
    assert_int_equal(b.events[0].n, 1);
    assert_int_equal(b.events[0].blocks[0].block_hash, 17);
    assert_true(b.events[0].blocks[0].local_hash == UINT64_MAX - 1);
}

#define EVENT(data) "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":" data "}}"

static void defaults(void **state)
{
    (void)state;
    struct jr_kv_batch b = good(EVENT("{\"stored\":{\"blocks\":[]}}"));
    assert_int_equal(b.dp_rank, 0);
    assert_false(b.events[0].has_parent);
    assert_int_equal(b.events[0].n, 0);
    b = good(EVENT("\"cleared\""));
    assert_int_equal(b.events[0].type, JR_KV_CLEARED);
    b = good(EVENT("{\"cleared\":null}"));
    assert_int_equal(b.events[0].type, JR_KV_CLEARED);
    b = good(EVENT("{\"removed\":{\"block_hashes\":[3,4]}}"));
    assert_int_equal(b.events[0].hashes[1], 4);
    /* unknown fields everywhere, another order, white space */
    b = good(
        " { \"event\" : { \"x\":1.5e300, \"data\":{\"stored\":{\"start_position\":4,\"blocks\":[{"
        "\"z\":[{}],\"tokens_hash\":2,\"block_hash\":1}],\"parent_hash\":null}},\"event_id\":0 },"
        "\"residency_domain\":null,\"state_source\":{\"a\":[1]}, \"worker_id\": 5 }\n");
    assert_int_equal(b.worker_id, 5);
    assert_int_equal(b.events[0].blocks[0].block_hash, 1);
    assert_int_equal(b.events[0].blocks[0].local_hash, 2);
}

#define TIER(tier, data)                                                                           \
    "{\"worker_id\":1,\"storage_tier\":" tier ",\"event\":{\"event_id\":2,\"data\":" data          \
    ",\"dp_rank\":1}}"

static void tiers(void **state)
{
    (void)state;
    struct jr_kv_batch b = good(TIER("\"device\"", "\"cleared\""));
    assert_int_equal(b.events[0].type, JR_KV_CLEARED);
    b = good(TIER("\"host_pinned\"", "\"cleared\""));
    assert_int_equal(b.events[0].type, JR_KV_REMOVED);
    assert_int_equal(b.events[0].n, 0);
    assert_int_equal(b.first_id, 2);
    assert_int_equal(b.dp_rank, 1);
    b = good(TIER("\"disk\"", "{\"stored\":{\"blocks\":[{\"block_hash\":1,\"tokens_hash\":2}]}}"));
    assert_int_equal(b.events[0].type, JR_KV_REMOVED);
    assert_int_equal(b.events[0].n, 0);
    /* what is wrong stays wrong */
    assert_bad(TIER("\"disk\"", "{\"stored\":{}}"), JR_EPROTO);
    assert_bad(TIER("1", "\"cleared\""), JR_EPROTO);
}

static void refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "\"cleared\"",
        EVENT("\"stored\""),
        EVENT("\"gone\""),
        EVENT("{\"gone\":{}}"),
        EVENT("null"),
        EVENT("{}"),
        EVENT("{\"stored\":{}}"),
        EVENT("{\"stored\":null}"),
        EVENT("{\"stored\":{\"blocks\":[]},\"removed\":{\"block_hashes\":[]}}"),
        EVENT("{\"stored\":{\"blocks\":[1]}}"),
        EVENT("{\"stored\":{\"blocks\":[{\"block_hash\":1}]}}"),
        EVENT("{\"stored\":{\"blocks\":[{\"block_hash\":1.0,\"tokens_hash\":1}]}}"),
        EVENT("{\"stored\":{\"blocks\":[{\"block_hash\":-1,\"tokens_hash\":1}]}}"),
        EVENT("{\"stored\":{\"blocks\":[{\"block_hash\":\"1\",\"tokens_hash\":1}]}}"),
        EVENT(
            "{\"stored\":{\"blocks\":[{\"block_hash\":18446744073709551616,\"tokens_hash\":1}]}}"),
        EVENT("{\"stored\":{\"parent_hash\":\"1\",\"blocks\":[]}}"),
        EVENT("{\"stored\":{\"blocks\":[],\"blocks\":[]}}"),
        EVENT("{\"removed\":{\"block_hashes\":[null]}}"),
        EVENT("{\"removed\":{\"block_hashes\":{}}}"),
        EVENT("{\"cleared\":{}}"),
        EVENT("\"cleared\"") "x",
        EVENT("\"cleared\",\"event_id\":3"),
        "{\"worker_id\":-1,\"event\":{\"event_id\":2,\"data\":\"cleared\"}}",
        "{\"event\":{\"event_id\":2,\"data\":\"cleared\"}}",
        "{\"worker_id\":1,\"event\":{\"data\":\"cleared\"}}",
        "{\"worker_id\":1,\"event\":{\"event_id\":2}}",
        "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":\"cleared\",\"dp_rank\":null}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_bad(bad[i], JR_EPROTO);
    assert_bad("{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":\"cleared\",\"dp_rank\":256}}",
               JR_ELIMIT);
}

static void limits(void **state)
{
    struct jr_kv_batch batch;
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 2 * JR_BATCH_BYTES_MAX);
    jr_buf_puts(&b, "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":{\"removed\":{"
                    "\"block_hashes\":[0");
    for (int i = 0; i < JR_EVENT_BLOCKS_MAX - 1; i++)
        jr_buf_puts(&b, ",1");
    size_t fits = b.n;
    jr_buf_puts(&b, "]}}}}");
    assert_int_equal(decode((char *)b.p, b.n, &batch), 0);
    assert_int_equal(batch.events[0].n, JR_EVENT_BLOCKS_MAX);
    b.n = fits;
    jr_buf_puts(&b, ",1]}}}}");
    assert_int_equal(decode((char *)b.p, b.n, &batch), JR_ELIMIT);
    while (b.n <= JR_BATCH_BYTES_MAX)
        jr_buf_u8(&b, ' ');
    assert_int_equal(decode((char *)b.p, b.n, &batch), JR_ELIMIT);
    jr_buf_clear(&b);
    for (int i = 0; i < 5000; i++)
        jr_buf_u8(&b, '[');
    assert_int_equal(decode((char *)b.p, b.n, &batch), JR_EPROTO);
    jr_buf_deinit(&b);
}

static void arena_full(void **state)
{
    static const char text[] = EVENT("{\"removed\":{\"block_hashes\":[3,4]}}");
    struct jr_kv_batch batch;
    struct jr_arena small;
    (void)state;
    jr_arena_init(&small, 48);
    assert_int_equal(jr_dynamo_json_decode(parser, text, strlen(text), &small, &batch, NULL),
                     JR_ENOMEM);
    jr_arena_deinit(&small);
}

static void round_trip(void **state)
{
    struct jr_rng r;
    struct jr_arena a;
    struct jr_buf b;
    (void)state;
    jr_rng_init(&r, jr_test_seed(), 1);
    jr_arena_init(&a, (size_t)16 << 20);
    jr_buf_init(&b, JR_BATCH_BYTES_MAX);
    for (int i = 0; i < 300; i++) {
        struct jr_kv_batch got, batch;
        jr_arena_reset(&a);
        batch = random_batch(&r, &a);
        for (uint32_t k = 0; k < batch.n_events; k++) {
            jr_buf_clear(&b);
            assert_int_equal(jr_dynamo_json_encode(&batch, k, &b), 0);
            assert_int_equal(decode(jr_buf_str(&b), b.n, &got), 0);
            assert_true(got.worker_id == batch.worker_id && got.first_id == batch.first_id + k);
            assert_events_equal(&got.events[0], &batch.events[k]);
            for (size_t cut = 0; k == 0 && b.n < 500 && cut < b.n; cut++)
                assert_int_equal(decode(jr_buf_str(&b), cut, &got), JR_EPROTO);
        }
        assert_int_equal(jr_dynamo_json_encode(&batch, batch.n_events, &b), JR_EINVAL);
    }
    jr_buf_deinit(&b);
    jr_arena_deinit(&a);
}

/* What the scanner reads, the parser reads alike. True when the scanner took it. */
static bool scanned_alike(const char *text, size_t n)
{
    struct jr_kv_batch fast, slow;
    uint8_t *copy = tight_copy(text, n);
    jr_arena_reset(&arena);
    int rv = jr_dynamo_scan(copy, n, &arena, &fast);
    if (rv == 0) {
        assert_int_equal(jr_dynamo_json_parse(parser, copy, n, &arena, &slow, NULL), 0);
        assert_true(fast.worker_id == slow.worker_id && fast.dp_rank == slow.dp_rank);
        assert_true(fast.first_id == slow.first_id && fast.dynamo && fast.incarnation == 0);
        assert_int_equal(fast.n_events, 1);
        assert_events_equal(&fast.events[0], &slow.events[0]);
    } else {
        assert_int_equal(rv, JR_EAGAIN);
    }
    free(copy);
    return rv == 0;
}

/* One byte changed, taken away or doubled: numbers get longer, fields other names. */
static void mutate(struct jr_rng *r, char *text, size_t *n)
{
    static const char bytes[] = "0129-.eE{}[],:\" n";
    size_t at = jr_rng_below(r, (uint32_t)*n);
    switch (jr_rng_below(r, 3)) {
    case 0:
        text[at] = bytes[jr_rng_below(r, sizeof bytes - 1)];
        return;
    case 1:
        memmove(text + at, text + at + 1, --*n - at);
        return;
    default:
        memmove(text + at + 1, text + at, (*n)++ - at);
    }
}

static void scanner_and_parser_agree(void **state)
{
    (void)state;
    struct jr_rng r;
    struct jr_arena a;
    struct jr_buf b;
    unsigned taken = 0, left = 0;
    jr_rng_init(&r, jr_test_seed(), 7);
    jr_arena_init(&a, (size_t)16 << 20);
    jr_buf_init(&b, JR_BATCH_BYTES_MAX);
    for (int i = 0; i < 400; i++) {
        jr_arena_reset(&a);
        struct jr_kv_batch batch = random_batch(&r, &a);
        if (batch.n_events == 0)
            continue;
        jr_buf_clear(&b);
        assert_int_equal(jr_dynamo_json_encode(&batch, 0, &b), 0);
        assert_true(scanned_alike(jr_buf_str(&b), b.n));
        for (int k = 0; k < 60; k++) {
            char *text = jr_xalloc(b.n + 2);
            size_t n = b.n;
            memcpy(text, b.p, n);
            mutate(&r, text, &n);
            *(scanned_alike(text, n) ? &taken : &left) += 1;
            jr_xfree(text);
        }
    }
    assert_true(taken > 100 && left > 100); /* of both kinds there were enough */
    jr_buf_deinit(&b);
    jr_arena_deinit(&a);
}

static void scanner_takes_what_dynamo_writes(void **state)
{
    (void)state;
    static const char *const usual[] = {
        "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":\"cleared\",\"dp_rank\":0}}",
        "{\"worker_id\":0,\"event\":{\"event_id\":18446744073709551615,\"data\":{\"removed\":{"
        "\"block_hashes\":[]}},\"dp_rank\":255}}",
        "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":{\"stored\":{\"parent_hash\":null,"
        "\"blocks\":[]}},\"dp_rank\":0},\"storage_tier\":\"device\"}",
    };
    static const char *const others[] = {
        "{\"worker_id\":01,\"event\":{\"event_id\":2,\"data\":\"cleared\",\"dp_rank\":0}}",
        "{\"worker_id\":18446744073709551616,\"event\":{\"event_id\":2,\"data\":\"cleared\","
        "\"dp_rank\":0}}",
        "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":\"cleared\",\"dp_rank\":256}}",
        "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":\"cleared\",\"dp_rank\":0}} ",
        "{\"worker_id\":1,\"event\":{\"event_id\":2,\"data\":{\"removed\":{\"block_hashes\":[1,]}}"
        ",\"dp_rank\":0}}",
        "",
    };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        assert_true(scanned_alike(usual[i], strlen(usual[i])));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(scanned_alike(others[i], strlen(others[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captured),
        cmocka_unit_test(fields),
        cmocka_unit_test(defaults),
        cmocka_unit_test(tiers),
        cmocka_unit_test(refused),
        cmocka_unit_test(limits),
        cmocka_unit_test(arena_full),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(scanner_and_parser_agree),
        cmocka_unit_test(scanner_takes_what_dynamo_writes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
