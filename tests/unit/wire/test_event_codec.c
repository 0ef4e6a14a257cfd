/* SPDX-License-Identifier: Apache-2.0 */
#include "wire_test.h"
#include "wire/dynamo_json.h"
#include "wire/event_codec.h"

static struct jr_event_decoder *decoder;
static struct jr_arena arena; /* of what was decoded */

static int setup(void **state)
{
    (void)state;
    decoder = jr_event_decoder_create();
    jr_arena_init(&arena, JR_EVENT_ARENA_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_event_decoder_destroy(decoder);
    jr_arena_deinit(&arena);
    return 0;
}

static struct jr_log_msg decode(const char *subject, const void *p, size_t n,
                                const struct jr_event_ids *ids)
{
    struct jr_log_msg m;
    uint8_t *copy = tight_copy(p, n);
    memset(&m, 0xee, sizeof m);
    m.seq = 77;
    m.time_ns = 88;
    m.payload_hash = 99;
    jr_arena_reset(&arena);
    assert_int_equal(
        jr_event_decode(decoder, jr_str_of(subject, strlen(subject)), copy, n, ids, &arena, &m), 0);
    assert_int_equal(m.seq, 77);
    assert_int_equal(m.time_ns, 88);
    assert_int_equal(m.payload_hash, 99);
    free(copy);
    return m;
}

static enum jr_log_kind kind_of_hex(const char *subject, const char *hex)
{
    size_t n;
    uint8_t *p = unhex(hex, &n);
    struct jr_log_msg m = decode(subject, p, n, NULL);
    jr_xfree(p);
    return m.kind;
}

static enum jr_log_kind kind_of_text(const char *subject, const char *text,
                                     const struct jr_event_ids *ids)
{
    return decode(subject, text, strlen(text), ids).kind;
}

/* ---- batches ---- */

static const struct jr_kv_block blocks[] = {{0x11, 0x21}, {UINT64_MAX, 0x22}};
static const uint64_t hashes[] = {0x11, 0x33};
static const struct jr_kv_event golden_events[] = {
    {.type = JR_KV_STORED, .blocks = blocks, .n = 2},
    {.type = JR_KV_STORED, .has_parent = true, .parent_hash = 0x11, .blocks = blocks, .n = 1},
    {.type = JR_KV_REMOVED, .hashes = hashes, .n = 2},
    {.type = JR_KV_CLEARED},
};
static const struct jr_kv_batch golden_batch = {
    .worker_id = 7,
    .dp_rank = 3,
    .incarnation = 0xabcdef,
    .first_id = 300,
    .begin = true,
    .events = golden_events,
    .n_events = 4,
};

/* Made with protoc --encode, as are those of control. */
#define GOLDEN_BATCH                                                                               \
    "0801110700000000000000180321efcdab000000000028ac0230013a26080122101100000000000000ffffffff"   \
    "ffffffff2a10210000000000000022000000000000003a21080110011911000000000000002208110000000000"   \
    "00002a0821000000000000003a1408022210110000000000000033000000000000003a020803"

static void batch_golden(void **state)
{
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_event_encode_batch(&golden_batch, &b), 0);
    assert_hex(b.p, b.n, GOLDEN_BATCH);
    struct jr_log_msg m = decode(JR_SUBJECT_BATCH, b.p, b.n, NULL);
    assert_int_equal(m.kind, JR_LOG_KIND_BATCH);
    assert_batches_equal(&m.u.batch, &golden_batch);
    assert_true(jr_event_payload_hash(b.p, b.n) == UINT64_C(0x4d09dc1f2e91d391));
    jr_buf_deinit(&b);
}

static void batch_round_trip(void **state)
{
    struct jr_rng r;
    struct jr_arena a;
    struct jr_buf b;
    (void)state;
    jr_rng_init(&r, jr_test_seed(), 1);
    jr_arena_init(&a, (size_t)16 << 20);
    jr_buf_init(&b, JR_BATCH_BYTES_MAX);
    for (int i = 0; i < 2000; i++) {
        jr_arena_reset(&a);
        jr_buf_clear(&b);
        struct jr_kv_batch batch = random_batch(&r, &a);
        assert_int_equal(jr_event_encode_batch(&batch, &b), 0);
        size_t most = JR_EVENT_BATCH_OVERHEAD;
        for (uint32_t k = 0; k < batch.n_events; k++)
            most += jr_event_size_max(&batch.events[k]);
        assert_in_range(b.n, 0, most);
        struct jr_log_msg m = decode(JR_SUBJECT_BATCH, b.p, b.n, NULL);
        assert_int_equal(m.kind, JR_LOG_KIND_BATCH);
        assert_batches_equal(&m.u.batch, &batch);
    }
    jr_buf_deinit(&b);
    jr_arena_deinit(&a);
}

/* A cut is undecodable, or (between two fields) a batch with less in it; it never crashes. */
static void batch_truncated(void **state)
{
    size_t n;
    uint8_t *p = unhex(GOLDEN_BATCH, &n);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct jr_log_msg m = decode(JR_SUBJECT_BATCH, p, i, NULL);
        assert_true(m.kind == JR_LOG_KIND_UNDECODABLE || m.kind == JR_LOG_KIND_BATCH);
    }
    jr_xfree(p);
}

static void random_bytes(void **state)
{
    static const char *const subjects[] = {"batch", "kv-events", "control", "else"};
    struct jr_rng r;
    uint8_t p[200];
    size_t n;
    uint8_t *golden = unhex(GOLDEN_BATCH, &n);
    (void)state;
    jr_rng_init(&r, jr_test_seed(), 2);
    for (int i = 0; i < 5000; i++) {
        size_t len = jr_rng_below(&r, sizeof p);
        for (size_t k = 0; k < len; k++)
            p[k] = (uint8_t)jr_rng_u32(&r);
        decode(subjects[jr_rng_below(&r, 4)], p, len, NULL);
        uint8_t *flipped = jr_xmemdup(golden, n);
        flipped[jr_rng_below(&r, (uint32_t)n)] ^= (uint8_t)(1u << jr_rng_below(&r, 8));
        decode("batch", flipped, n, NULL);
        jr_xfree(flipped);
    }
    jr_xfree(golden);
}

#define HEAD                                                                                       \
    "080111070000000000000018012101000000000000"                                                   \
    "00" /* rules 1, worker 7, rank 1, incarnation 1 */

static void batch_rules(void **state)
{
    (void)state;
    assert_int_equal(kind_of_hex("batch", HEAD), JR_LOG_KIND_BATCH);
    /* incarnation 0 */
    assert_int_equal(kind_of_hex("batch", "0801110700000000000000"), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("batch", ""), JR_LOG_KIND_UNDECODABLE);
    /* rank 255, 256 */
    assert_int_equal(kind_of_hex("batch", HEAD "18ff01"), JR_LOG_KIND_BATCH);
    assert_int_equal(kind_of_hex("batch", HEAD "188002"), JR_LOG_KIND_UNDECODABLE);
    /* newer rules */
    assert_int_equal(kind_of_hex("batch", HEAD "0802"), JR_LOG_KIND_TOO_NEW);
    /* unknown fields, of the batch and of an event */
    assert_int_equal(kind_of_hex("batch", HEAD "980601a20601ff"), JR_LOG_KIND_BATCH);
    assert_int_equal(kind_of_hex("batch", HEAD "3a0508039a0600"), JR_LOG_KIND_BATCH);
    /* stored with one block hash and no local hash */
    assert_int_equal(kind_of_hex("batch", HEAD "3a0c080122081100000000000000"),
                     JR_LOG_KIND_UNDECODABLE);
    /* removed with it, cleared with it, type 0, type 4 */
    assert_int_equal(kind_of_hex("batch", HEAD "3a0c080222081100000000000000"), JR_LOG_KIND_BATCH);
    assert_int_equal(kind_of_hex("batch", HEAD "3a0c080322081100000000000000"),
                     JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("batch", HEAD "3a00"), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("batch", HEAD "3a020804"), JR_LOG_KIND_UNDECODABLE);
    /* a packed array of 7 bytes */
    assert_int_equal(kind_of_hex("batch", HEAD "3a0b0802220711000000000000"),
                     JR_LOG_KIND_UNDECODABLE);
    /* ids would wrap: first 2^64 - 1 with one event; without events it is fine */
    assert_int_equal(kind_of_hex("batch", HEAD "28ffffffffffffffffff013a020803"),
                     JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("batch", HEAD "28ffffffffffffffffff01"), JR_LOG_KIND_BATCH);
    assert_int_equal(kind_of_hex("queue", HEAD), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("", HEAD), JR_LOG_KIND_UNDECODABLE);
}

/* Payloads made to cost memory: judged by their content, never by what memory there is. */
static void hostile_size(void **state)
{
    static const char *const units[] = {"3a00", "f80100", "3a020803", "3a04f8010001"};
    (void)state;
    for (size_t u = 0; u < 4; u++) {
        size_t n, total = 0;
        uint8_t *unit = unhex(units[u], &n), *p = jr_xalloc(JR_BATCH_BYTES_MAX + 1);
        for (; total + n <= JR_BATCH_BYTES_MAX; total += n)
            memcpy(p + total, unit, n);
        assert_int_equal(decode("batch", p, total, NULL).kind, JR_LOG_KIND_UNDECODABLE);
        assert_int_equal(decode("control", p, total, NULL).kind,
                         u == 1 ? JR_LOG_KIND_TOO_NEW : JR_LOG_KIND_UNDECODABLE);
        assert_int_equal(decode("batch", p, JR_BATCH_BYTES_MAX + 1, NULL).kind,
                         JR_LOG_KIND_UNDECODABLE);
        jr_xfree(unit);
        jr_xfree(p);
    }
}

/* The largest of each sort fits the arena that the header promises. */
static void largest(void **state)
{
    struct jr_buf b;
    struct jr_kv_event *many = jr_xalloc(JR_BATCH_EVENTS_MAX * sizeof *many);
    struct jr_kv_block *run = jr_xalloc(JR_EVENT_BLOCKS_MAX * sizeof *run);
    (void)state;
    jr_buf_init(&b, JR_BATCH_BYTES_MAX);
    for (size_t i = 0; i < JR_BATCH_EVENTS_MAX; i++)
        many[i].type = JR_KV_CLEARED;
    struct jr_kv_batch batch = {.incarnation = 1, .events = many, .n_events = JR_BATCH_EVENTS_MAX};
    assert_int_equal(jr_event_encode_batch(&batch, &b), 0);
    assert_int_equal(decode("batch", b.p, b.n, NULL).u.batch.n_events, JR_BATCH_EVENTS_MAX);
    batch.n_events++;
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_EINVAL);
    many[0] = (struct jr_kv_event){.type = JR_KV_STORED, .blocks = run, .n = JR_EVENT_BLOCKS_MAX};
    batch.n_events = 1;
    size_t before = b.n;
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_ELIMIT); /* over 1 MiB with its head */
    assert_int_equal(b.n, before);
    many[0].n = 65000;
    jr_buf_clear(&b);
    assert_int_equal(jr_event_encode_batch(&batch, &b), 0);
    assert_int_equal(decode("batch", b.p, b.n, NULL).u.batch.events[0].n, 65000);
    jr_buf_deinit(&b);
    jr_xfree(many);
    jr_xfree(run);
}

static void arena_too_small(void **state)
{
    struct jr_arena small;
    struct jr_log_msg m;
    size_t n;
    uint8_t *p = unhex(GOLDEN_BATCH, &n);
    (void)state;
    jr_arena_init(&small, 64);
    assert_int_equal(jr_event_decode(decoder, jr_str_of("batch", 5), p, n, NULL, &small, &m),
                     JR_ELIMIT);
    jr_arena_deinit(&small);
    const char *json = "{\"worker_id\":1,\"event\":{\"event_id\":1,\"data\":{\"removed\":{"
                       "\"block_hashes\":[1,2,3]}}}}";
    jr_arena_init(&small, 48);
    assert_int_equal(
        jr_event_decode(decoder, jr_str_of("kv-events", 9), json, strlen(json), NULL, &small, &m),
        JR_ELIMIT);
    jr_arena_deinit(&small);
    jr_xfree(p);
}

static void encode_refuses(void **state)
{
    struct jr_buf b;
    struct jr_kv_event e = {.type = JR_KV_STORED, .n = 1};
    struct jr_kv_batch batch = {.incarnation = 1, .events = &e, .n_events = 1};
    (void)state;
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_EINVAL);
    e.type = (enum jr_kv_type)9;
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_EINVAL);
    e = (struct jr_kv_event){.type = JR_KV_CLEARED};
    batch.incarnation = 0;
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_EINVAL);
    batch.incarnation = 1;
    batch.dp_rank = JR_RANKS_MAX;
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_EINVAL);
    batch.dp_rank = 0;
    b.max = 3;
    assert_int_equal(jr_event_encode_batch(&batch, &b), JR_ELIMIT);
    assert_int_equal(b.n, 0);
    jr_buf_deinit(&b);
}

/* ---- control ---- */

static const struct jr_rank_incarnation ended[] = {{0, 5}, {255, UINT64_MAX}};
static const struct {
    struct jr_control c;
    const char *hex;
} controls[] = {
    {{.type = JR_CONTROL_WORKER_GONE, .worker_id = 7, .ended = ended, .n_ended = 2},
     "080152220907000000000000001209110500000000000000120c08ff0111ffffffffffffffff"},
    {{.type = JR_CONTROL_RESET, .from = {1, 2}, .to = {3, 4}, .token = "once"},
     "08015a200a0b0901000000000000001002120b09030000000000000010041a046f6e6365"},
    {{.type = JR_CONTROL_CONFIG, .params = {64, 1, 1000000}}, "0801620a0a080840100118c0843d"},
    {{.type = JR_CONTROL_USE_VERSION, .rule_version = 1}, "08016a020801"},
    {{.type = JR_CONTROL_ADOPT, .digest_blocks = 1, .digest_table = UINT64_MAX},
     "0801721209010000000000000011ffffffffffffffff"},
};

static void control_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        struct jr_buf b, again;
        jr_buf_init(&b, 4096);
        jr_buf_init(&again, 4096);
        assert_int_equal(jr_event_encode_control(&controls[i].c, &b), 0);
        assert_hex(b.p, b.n, controls[i].hex);
        struct jr_log_msg m = decode(JR_SUBJECT_CONTROL, b.p, b.n, NULL);
        assert_int_equal(m.kind, JR_LOG_KIND_CONTROL);
        assert_int_equal(m.u.control.type, controls[i].c.type);
        assert_int_equal(jr_event_encode_control(&m.u.control, &again), 0);
        assert_int_equal(again.n, b.n);
        assert_memory_equal(again.p, b.p, b.n);
        for (size_t cut = 0; cut < b.n; cut++)
            decode(JR_SUBJECT_CONTROL, b.p, cut, NULL);
        jr_buf_deinit(&b);
        jr_buf_deinit(&again);
    }
    struct jr_log_msg m = decode(JR_SUBJECT_CONTROL, "", 0, NULL);
    assert_int_equal(m.kind, JR_LOG_KIND_UNDECODABLE);
}

static void control_fields(void **state)
{
    size_t n;
    uint8_t *p = unhex(controls[0].hex, &n);
    (void)state;
    struct jr_log_msg m = decode("control", p, n, NULL);
    assert_int_equal(m.u.control.worker_id, 7);
    assert_int_equal(m.u.control.n_ended, 2);
    assert_int_equal(m.u.control.ended[1].dp_rank, 255);
    assert_true(m.u.control.ended[1].incarnation == UINT64_MAX);
    jr_xfree(p);
    p = unhex(controls[1].hex, &n);
    m = decode("control", p, n, NULL);
    assert_int_equal(m.u.control.from.random, 1);
    assert_int_equal(m.u.control.to.n, 4);
    assert_string_equal(m.u.control.token, "once");
    jr_xfree(p);
}

static void control_too_new(void **state)
{
    (void)state;
    /* rules 2; kind 15; kind 63; kind 15 beside a known one; UseVersion{2} */
    assert_int_equal(kind_of_hex("control", "0802"), JR_LOG_KIND_TOO_NEW);
    assert_int_equal(kind_of_hex("control", "08017a00"), JR_LOG_KIND_TOO_NEW);
    assert_int_equal(kind_of_hex("control", "0801fa0300"), JR_LOG_KIND_TOO_NEW);
    assert_int_equal(kind_of_hex("control", "08016a0208017a00"), JR_LOG_KIND_TOO_NEW);
    assert_int_equal(kind_of_hex("control", "08016a020802"), JR_LOG_KIND_TOO_NEW);
    /* 64 and 9 are no kinds: skipped; then there is none, or the known one */
    assert_int_equal(kind_of_hex("control", "0801820400"), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("control", "08016a020801820400"), JR_LOG_KIND_CONTROL);
    assert_int_equal(kind_of_hex("control", "08016a0208014a00"), JR_LOG_KIND_CONTROL);
    /* UseVersion{0}; Config without parameters; block size 0; Reset without epochs */
    assert_int_equal(kind_of_hex("control", "08016a00"), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("control", "08016200"), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("control", "080162040a021001"), JR_LOG_KIND_UNDECODABLE);
    assert_int_equal(kind_of_hex("control", "08015a00"), JR_LOG_KIND_UNDECODABLE);
}

static void control_refuses(void **state)
{
    struct jr_buf b;
    struct jr_control c = {.type = JR_CONTROL_RESET};
    (void)state;
    jr_buf_init(&b, 4096);
    memset(c.token, 'x', sizeof c.token);
    assert_int_equal(jr_event_encode_control(&c, &b), JR_EINVAL);
    c.token[63] = 0;
    assert_int_equal(jr_event_encode_control(&c, &b), 0);
    assert_int_equal(decode("control", b.p, b.n, NULL).kind, JR_LOG_KIND_CONTROL);
    c = (struct jr_control){.type = JR_CONTROL_CONFIG, .params = {JR_BLOCK_SIZE_MAX + 1, 1, 0}};
    assert_int_equal(jr_event_encode_control(&c, &b), JR_EINVAL);
    c = (struct jr_control){.type = (enum jr_control_type)99};
    assert_int_equal(jr_event_encode_control(&c, &b), JR_EINVAL);
    jr_buf_deinit(&b);
}

/* ---- JSON with our headers ---- */

#define CLEARED "{\"worker_id\":9,\"event\":{\"event_id\":4,\"data\":\"cleared\",\"dp_rank\":2}}"

static void json_without_ids(void **state)
{
    (void)state;
    struct jr_event_ids none = jr_event_ids_parse(NULL, NULL, NULL);
    struct jr_log_msg m = decode("kv-events", CLEARED, strlen(CLEARED), &none);
    assert_int_equal(m.kind, JR_LOG_KIND_BATCH);
    assert_true(m.u.batch.dynamo);
    assert_int_equal(m.u.batch.incarnation, 0);
    assert_int_equal(m.u.batch.first_id, 4);
    assert_int_equal(m.u.batch.dp_rank, 2);
}

static void json_with_ids(void **state)
{
    (void)state;
    struct jr_event_ids ids = jr_event_ids_parse("18446744073709551615", "12", "1");
    assert_true(ids.has_ids);
    struct jr_log_msg m = decode("kv-events", CLEARED, strlen(CLEARED), &ids);
    assert_int_equal(m.kind, JR_LOG_KIND_BATCH);
    assert_false(m.u.batch.dynamo);
    assert_true(m.u.batch.begin);
    assert_true(m.u.batch.incarnation == UINT64_MAX);
    assert_int_equal(m.u.batch.first_id, 12);
    /* the headers do not matter for protobuf */
    assert_int_equal(kind_of_text("batch", CLEARED, &ids), JR_LOG_KIND_UNDECODABLE);
}

static void json_with_bad_ids(void **state)
{
    static const char *const bad[][3] = {
        {"1", NULL, NULL}, {NULL, "1", NULL}, {NULL, NULL, "1"}, {"0", "1", NULL},
        {"x", "1", NULL},  {"1", "", NULL},   {"1", "1", "yes"}, {"1", "-1", NULL},
    };
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct jr_event_ids ids = jr_event_ids_parse(bad[i][0], bad[i][1], bad[i][2]);
        assert_true(ids.bad);
        assert_false(ids.has_ids);
        assert_int_equal(kind_of_text("kv-events", CLEARED, &ids), JR_LOG_KIND_UNDECODABLE);
    }
    struct jr_event_ids wraps = jr_event_ids_parse("1", "18446744073709551615", NULL);
    assert_int_equal(kind_of_text("kv-events", CLEARED, &wraps), JR_LOG_KIND_UNDECODABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_golden),    cmocka_unit_test(batch_round_trip),
        cmocka_unit_test(batch_truncated), cmocka_unit_test(random_bytes),
        cmocka_unit_test(batch_rules),     cmocka_unit_test(hostile_size),
        cmocka_unit_test(largest),         cmocka_unit_test(arena_too_small),
        cmocka_unit_test(encode_refuses),  cmocka_unit_test(control_golden),
        cmocka_unit_test(control_fields),  cmocka_unit_test(control_too_new),
        cmocka_unit_test(control_refuses), cmocka_unit_test(json_without_ids),
        cmocka_unit_test(json_with_ids),   cmocka_unit_test(json_with_bad_ids),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
