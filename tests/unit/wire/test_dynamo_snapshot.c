/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/dynamo_json.h"
#include "wire/dynamo_snapshot.h"
#include "wire_test.h"
#include <jansson.h>

/* Writes every event as one line of Dynamo's JSON and, again, as bincode. */
struct sink {
    struct jr_buf json, bin;
    int stop_after; /* 0: never */
    int calls;
};

static int on_event(void *arg, const struct jr_kv_batch *batch)
{
    struct sink *s = arg;
    assert_true(batch->dynamo);
    assert_int_equal(batch->n_events, 1);
    assert_int_equal(jr_dynamo_json_encode(batch, 0, &s->json), 0);
    jr_buf_u8(&s->json, '\n');
    assert_int_equal(jr_dynamo_snapshot_write(batch, 0, &s->bin), 0);
    s->calls++;
    return s->calls == s->stop_after ? JR_ECANCELED : 0;
}

static int read_bytes(const void *p, size_t n, struct sink *s, uint64_t *ret_events)
{
    struct jr_errmsg e = {{0}};
    uint8_t *copy = tight_copy(p, n);
    *s = (struct sink){.stop_after = s->stop_after};
    jr_buf_init(&s->json, 1 << 20);
    jr_buf_init(&s->bin, 1 << 20);
    int rv = jr_dynamo_snapshot_read(copy, n, on_event, s, ret_events, &e);
    assert_true(rv == 0 || e.text[0] || s->stop_after);
    free(copy);
    return rv;
}

static void sink_deinit(struct sink *s)
{
    jr_buf_deinit(&s->json);
    jr_buf_deinit(&s->bin);
}

static int verdict(const char *hex)
{
    size_t n;
    uint64_t events;
    struct sink s = {.stop_after = 0};
    uint8_t *p = unhex(hex, &n);
    int rv = read_bytes(p, n, &s, &events);
    if (rv < 0)
        assert_int_equal(s.calls, 0);
    sink_deinit(&s);
    jr_xfree(p);
    return rv;
}

#define STORED_ROOT                                                                                \
    "07000000000000000000000000000000000000000001000000000000001100000000000000220000000000000000" \
    "00"                                                                                           \
    "000000"
#define STORED_CHILD                                                                               \
    "07000000000000000100000000000000000000000111000000000000000100000000000000330000000000000044" \
    "00"                                                                                           \
    "0000000000000001000000"
#define REMOVED "07000000000000000200000000000000010000000100000000000000330000000000000001000000"
#define CLEARED "070000000000000003000000000000000200000000000000"
#define ALL     "0400000000000000" STORED_ROOT STORED_CHILD REMOVED CLEARED

static void vectors(void **state)
{
    size_t n;
    uint64_t events = 0;
    struct sink s = {.stop_after = 0};
    uint8_t *p = unhex(ALL, &n);
    (void)state;
    assert_int_equal(read_bytes(p, n, &s, &events), 0);
    assert_int_equal(events, 4);
    assert_string_equal(
        jr_buf_str(&s.json),
        "{\"worker_id\":7,\"event\":{\"event_id\":0,\"data\":{\"stored\":{\"parent_hash\":null,"
        "\"blocks\":[{\"block_hash\":17,\"tokens_hash\":34,\"mm_extra_info\":null}]}},\"dp_rank\":"
        "0}}\n"
        "{\"worker_id\":7,\"event\":{\"event_id\":1,\"data\":{\"stored\":{\"parent_hash\":17,"
        "\"blocks\":[{\"block_hash\":51,\"tokens_hash\":68,\"mm_extra_info\":null}]}},\"dp_rank\":"
        "1}}\n"
        "{\"worker_id\":7,\"event\":{\"event_id\":2,\"data\":{\"removed\":{\"block_hashes\":[51]}},"
        "\"dp_rank\":1}}\n"
        "{\"worker_id\":7,\"event\":{\"event_id\":3,\"data\":\"cleared\",\"dp_rank\":0}}\n");
    assert_int_equal(s.bin.n, n - 8);
    assert_memory_equal(s.bin.p, p + 8, s.bin.n);
    sink_deinit(&s);
    jr_xfree(p);
}

/* The object that a Dynamo 1.0.2 wrote, against another decoder's reading of it. */
static void captured(void **state)
{
    size_t n;
    uint64_t events = 0;
    struct sink s = {.stop_after = 0};
    uint8_t *p = jr_test_fixture("dynamo/radix-state.bin", &n);
    uint8_t *want = jr_test_fixture("dynamo/radix-state.decoded.jsonl", NULL);
    (void)state;
    assert_int_equal(read_bytes(p, n, &s, &events), 0);
    assert_int_equal(events, 254);
    assert_memory_equal(s.bin.p, p + 8, n - 8);
    char *save1, *save2, *ours = strtok_r((char *)s.json.p, "\n", &save1);
    char *line = strtok_r((char *)want, "\n", &save2);
    for (uint64_t i = 0; i < events; i++) {
        json_t *x = json_loads(ours, JSON_DECODE_INT_AS_REAL, NULL);
        json_t *y = json_loads(line, JSON_DECODE_INT_AS_REAL, NULL);
        assert_non_null(x);
        assert_true(json_equal(x, y));
        json_decref(x);
        json_decref(y);
        ours = strtok_r(NULL, "\n", &save1);
        line = strtok_r(NULL, "\n", &save2);
    }
    assert_null(ours);
    assert_null(line);
    sink_deinit(&s);
    for (size_t cut = 0; cut < n; cut += cut < 300 ? 1 : 97) {
        assert_int_equal(read_bytes(p, cut, &s, &events), JR_ETRUNC);
        assert_int_equal(s.calls, 0);
        sink_deinit(&s);
    }
    jr_xfree(p);
    jr_xfree(want);
}

static void multimodal(void **state)
{
    (void)state;
    /* one object with one offset; then two objects, the second without offsets */
    assert_int_equal(verdict("0100000000000000"
                             "07000000000000000000000000000000"
                             "00000000"
                             "00"
                             "0100000000000000"
                             "1100000000000000"
                             "2200000000000000"
                             "01"
                             "0200000000000000"
                             "6300000000000000"
                             "0100000000000000"
                             "0000000000000000"
                             "0300000000000000"
                             "6400000000000000"
                             "0000000000000000"
                             "00000000"),
                     0);
    /* a count of objects, of offsets that cannot be */
    assert_int_equal(verdict("0100000000000000"
                             "07000000000000000000000000000000"
                             "00000000"
                             "00"
                             "0100000000000000"
                             "1100000000000000"
                             "2200000000000000"
                             "01"
                             "ffffffffffffffff"
                             "00000000"),
                     JR_ETRUNC);
    assert_int_equal(verdict("0100000000000000"
                             "07000000000000000000000000000000"
                             "00000000"
                             "00"
                             "0100000000000000"
                             "1100000000000000"
                             "2200000000000000"
                             "01"
                             "0100000000000000"
                             "6300000000000000"
                             "0000000000000010"
                             "00000000"),
                     JR_ETRUNC);
}

static void refused(void **state)
{
    (void)state;
    assert_int_equal(verdict("0000000000000000"), 0);
    assert_int_equal(verdict(""), JR_ETRUNC);
    assert_int_equal(verdict("ffffffffffffffff"), JR_ETRUNC);
    assert_int_equal(verdict("0100000000000000"), JR_ETRUNC);
    assert_int_equal(verdict("000000000000000000"), JR_EPROTO); /* a byte is left over */
    assert_int_equal(verdict("0100000000000000" CLEARED "00"), JR_EPROTO);
    /* variant 3, flag 2, rank 256 */
    assert_int_equal(verdict("0100000000000000"
                             "070000000000000003000000000000000300000000000000"),
                     JR_EPROTO);
    assert_int_equal(verdict("0100000000000000"
                             "070000000000000003000000000000000000000002000000"),
                     JR_EPROTO);
    assert_int_equal(verdict("0100000000000000"
                             "070000000000000003000000000000000200000000010000"),
                     JR_ELIMIT);
    /* removed: a count that cannot be */
    assert_int_equal(verdict("0100000000000000"
                             "0700000000000000020000000000000001000000"
                             "ffffffffffffff1f"
                             "00000000"),
                     JR_ETRUNC);
}

static void callback_ends(void **state)
{
    size_t n;
    uint64_t events = 0;
    struct sink s = {.stop_after = 2};
    uint8_t *p = unhex(ALL, &n);
    (void)state;
    assert_int_equal(read_bytes(p, n, &s, &events), JR_ECANCELED);
    assert_int_equal(s.calls, 2);
    assert_int_equal(events, 4);
    assert_int_equal(jr_dynamo_snapshot_read(p, n, NULL, NULL, &events, NULL), 0);
    sink_deinit(&s);
    jr_xfree(p);
}

static void round_trip(void **state)
{
    struct jr_rng r;
    struct jr_arena a;
    struct jr_buf b;
    (void)state;
    jr_rng_init(&r, jr_test_seed(), 1);
    jr_arena_init(&a, (size_t)16 << 20);
    jr_buf_init(&b, 4 << 20);
    for (int i = 0; i < 200; i++) {
        struct sink s = {.stop_after = 0};
        uint64_t events;
        jr_arena_reset(&a);
        jr_buf_clear(&b);
        struct jr_kv_batch batch = random_batch(&r, &a);
        assert_int_equal(jr_dynamo_snapshot_write_count(batch.n_events, &b), 0);
        for (uint32_t k = 0; k < batch.n_events; k++)
            assert_int_equal(jr_dynamo_snapshot_write(&batch, k, &b), 0);
        assert_int_equal(jr_dynamo_snapshot_write(&batch, batch.n_events, &b), JR_EINVAL);
        assert_int_equal(read_bytes(b.p, b.n, &s, &events), 0);
        assert_int_equal(events, batch.n_events);
        assert_int_equal(s.bin.n, b.n - 8);
        if (s.bin.n)
            assert_memory_equal(s.bin.p, b.p + 8, s.bin.n);
        sink_deinit(&s);
    }
    jr_buf_deinit(&b);
    jr_arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors), cmocka_unit_test(captured),      cmocka_unit_test(multimodal),
        cmocka_unit_test(refused), cmocka_unit_test(callback_ends), cmocka_unit_test(round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
