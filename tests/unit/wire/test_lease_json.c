/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/lease_json.h"
#include "wire_test.h"

#define BAD(decode, src)                                                                           \
    do {                                                                                           \
        struct jr_errmsg e_ = {{0}};                                                               \
        uint8_t *copy_ = tight_copy(src, strlen(src));                                             \
        assert_int_equal(decode(copy_, strlen(src), &got, &e_), JR_EPROTO);                        \
        assert_true(e_.text[0]);                                                                   \
        free(copy_);                                                                               \
    } while (0)
#define GOOD(decode, src) assert_int_equal(decode(src, strlen(src), &got, NULL), 0)

static const struct jr_worker_lease worker = {
    .worker_id = UINT64_MAX,
    .url = "http://10.0.0.1:8000",
    .model = "meta/\"Llama\"",
    .role = "aggregated",
    .tokenizer = "vllm",
    .block_size = 64,
    .total_kv_blocks = 16384,
    .max_num_seqs = 256,
    .max_batched_tokens = 8192,
    .n_ranks = 2,
    .ranks = {{0, 5, 6, 7}, {255, UINT64_MAX, 1, 2}},
};
#define WORKER                                                                                     \
    "{\"worker_id\":\"18446744073709551615\",\"url\":\"http://10.0.0.1:8000\","                    \
    "\"model\":\"meta/\\\"Llama\\\"\",\"role\":\"aggregated\",\"tokenizer\":\"vllm\","             \
    "\"block_size\":64,\"total_kv_blocks\":\"16384\",\"max_num_seqs\":256,"                        \
    "\"max_batched_tokens\":8192,\"ranks\":[{\"dp_rank\":0,\"incarnation\":\"5\","                 \
    "\"acked_id\":\"6\",\"acked_seq\":\"7\"},{\"dp_rank\":255,"                                    \
    "\"incarnation\":\"18446744073709551615\",\"acked_id\":\"1\",\"acked_seq\":\"2\"}]}"

static void worker_golden(void **state)
{
    struct jr_worker_lease got;
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, JR_LEASE_BYTES_MAX);
    assert_int_equal(jr_lease_encode_worker(&worker, &b), 0);
    assert_string_equal(jr_buf_str(&b), WORKER);
    assert_int_equal(jr_lease_decode_worker(b.p, b.n, &got, NULL), 0);
    assert_memory_equal(&got, &worker, sizeof got);
    for (size_t cut = 0; cut < b.n; cut++) {
        uint8_t *copy = tight_copy(b.p, cut);
        assert_int_equal(jr_lease_decode_worker(copy, cut, &got, NULL), JR_EPROTO);
        free(copy);
    }
    jr_buf_deinit(&b);
}

#define W(rest) "{\"worker_id\":1,\"url\":\"u\",\"model\":\"m\",\"block_size\":16" rest "}"

/* Said only where it is a CPU; what else an engine may compute on is none. */
static void worker_device(void **state)
{
    static const char start[] =
        "{\"worker_id\":1,\"url\":\"http://w\",\"model\":\"m\",\"block_size\":4,";
    struct jr_worker_lease got, l = {.worker_id = 1, .block_size = 4, .on_cpu = true};
    char text[256];
    struct jr_buf b;
    (void)state;
    (void)snprintf(text, sizeof text, "%s\"device\":\"tpu\"}", start);
    GOOD(jr_lease_decode_worker, text);
    assert_false(got.on_cpu);
    (void)snprintf(l.url, sizeof l.url, "http://w");
    (void)snprintf(l.model, sizeof l.model, "m");
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_lease_encode_worker(&l, &b), 0);
    GOOD(jr_lease_decode_worker, jr_buf_str(&b));
    assert_true(got.on_cpu);
    jr_buf_clear(&b);
    l.on_cpu = false;
    assert_int_equal(jr_lease_encode_worker(&l, &b), 0);
    assert_null(strstr(jr_buf_str(&b), "device"));
    jr_buf_deinit(&b);
}

static void worker_rules(void **state)
{
    struct jr_worker_lease got;
    (void)state;
    GOOD(jr_lease_decode_worker, W(""));
    assert_int_equal(got.n_ranks, 0);
    assert_string_equal(got.role, "");
    GOOD(jr_lease_decode_worker, W(",\"ranks\":null,\"role\":null,\"later\":{\"x\":[1.5]}"));
    GOOD(jr_lease_decode_worker, W(",\"ranks\":[{}],\"total_kv_blocks\":9223372036854775807"));
    assert_int_equal(got.n_ranks, 1);
    assert_true(got.total_kv_blocks == INT64_MAX);
    BAD(jr_lease_decode_worker, W(",\"total_kv_blocks\":-1"));
    BAD(jr_lease_decode_worker, W(",\"total_kv_blocks\":1.5"));
    BAD(jr_lease_decode_worker, W(",\"total_kv_blocks\":\"18446744073709551616\""));
    BAD(jr_lease_decode_worker, W(",\"total_kv_blocks\":\"0x1\""));
    BAD(jr_lease_decode_worker, W(",\"total_kv_blocks\":\"\""));
    BAD(jr_lease_decode_worker, W(",\"max_num_seqs\":4294967296"));
    BAD(jr_lease_decode_worker, W(",\"ranks\":{}"));
    BAD(jr_lease_decode_worker, W(",\"ranks\":[1]"));
    BAD(jr_lease_decode_worker, W(",\"ranks\":[{\"dp_rank\":256}]"));
    BAD(jr_lease_decode_worker,
        W(",\"ranks\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]"));
    BAD(jr_lease_decode_worker, W(",\"role\":1"));
    BAD(jr_lease_decode_worker, W(",\"role\":\"0123456789012345678901234567890123\""));
    BAD(jr_lease_decode_worker, W(",\"url\":\"twice\""));
    BAD(jr_lease_decode_worker, "{\"worker_id\":1,\"url\":\"u\",\"model\":\"m\",\"block_size\":0}");
    BAD(jr_lease_decode_worker, "{\"worker_id\":1,\"url\":\"u\",\"model\":\"m\"}");
    BAD(jr_lease_decode_worker, "{\"worker_id\":1,\"url\":\"\",\"model\":\"m\",\"block_size\":16}");
    BAD(jr_lease_decode_worker, "{\"url\":\"u\",\"model\":\"m\",\"block_size\":16}");
    BAD(jr_lease_decode_worker, "[]");
    BAD(jr_lease_decode_worker, "");
}

static void worker_limits(void **state)
{
    struct jr_worker_lease got, l = worker;
    struct jr_buf b;
    char *big = jr_xalloc(JR_LEASE_BYTES_MAX + 2);
    (void)state;
    memset(big, ' ', JR_LEASE_BYTES_MAX + 1);
    assert_int_equal(jr_lease_decode_worker(big, JR_LEASE_BYTES_MAX + 1, &got, NULL), JR_ELIMIT);
    jr_xfree(big);
    jr_buf_init(&b, 20);
    assert_int_equal(jr_lease_encode_worker(&l, &b), JR_ELIMIT);
    assert_int_equal(b.n, 0);
    jr_buf_clear(&b);
    l.n_ranks = JR_RANKS_INLINE + 1;
    assert_int_equal(jr_lease_encode_worker(&l, &b), JR_EINVAL);
    l = worker;
    l.url[0] = 0;
    assert_int_equal(jr_lease_encode_worker(&l, &b), JR_EINVAL);
    jr_buf_deinit(&b);
}

static void replica(void **state)
{
    static const char golden[] =
        "{\"id\":\"r1\",\"incarnation\":\"18446744073709551615\",\"version\":\"0.1.0\",\"address\":"
        "\"10.0.0.2:8080\",\"format_max\":1,\"rules_max\":1,\"sync_max\":2,\"sync_off\":true,"
        "\"ready\":true,\"applied\":\"300\","
        "\"held\":\"0\","
        "\"wants\":\"41\","
        "\"stream_created_ns\":\"1795240495404953000\",\"block_size\":64,"
        "\"point\":{\"seq\":\"4096\",\"blocks\":"
        "\"18446744073709551614\",\"table\":\"3\"}}";
    struct jr_replica_lease got, l = {.id = "r1",
                                      .incarnation = UINT64_MAX,
                                      .version = "0.1.0",
                                      .address = "10.0.0.2:8080",
                                      .format_max = 1,
                                      .rules_max = 1,
                                      .sync_max = 2,
                                      .sync_off = true,
                                      .ready = true,
                                      .applied = 300,
                                      .wants = 41,
                                      .stream_created_ns = UINT64_C(1795240495404953000),
                                      .block_size = 64,
                                      .point = {4096, UINT64_MAX - 1, 3}};
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, JR_LEASE_BYTES_MAX);
    assert_int_equal(jr_lease_encode_replica(&l, &b), 0);
    assert_string_equal(jr_buf_str(&b), golden);
    GOOD(jr_lease_decode_replica, golden);
    jr_buf_clear(&b);
    assert_int_equal(jr_lease_encode_replica(&got, &b), 0);
    assert_string_equal(jr_buf_str(&b), golden);
    GOOD(jr_lease_decode_replica, "{\"id\":\"r\",\"incarnation\":7}");
    assert_int_equal(got.incarnation, 7);
    assert_false(got.ready || got.sync_off); /* what older ones do not say */
    assert_int_equal(got.sync_max, 0);
    BAD(jr_lease_decode_replica, "{\"id\":\"r\"}");
    BAD(jr_lease_decode_replica, "{\"id\":\"r\",\"incarnation\":0}");
    BAD(jr_lease_decode_replica, "{\"id\":\"\",\"incarnation\":1}");
    BAD(jr_lease_decode_replica, "{\"id\":\"r\",\"incarnation\":1,\"ready\":1}");
    BAD(jr_lease_decode_replica, "{\"id\":\"r\",\"incarnation\":1,\"point\":[]}");
    BAD(jr_lease_decode_replica, "{\"id\":\"r\\u0000x\",\"incarnation\":1}");
    l.incarnation = 0;
    assert_int_equal(jr_lease_encode_replica(&l, &b), JR_EINVAL);
    jr_buf_deinit(&b);
}

static void leader_and_epoch(void **state)
{
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 4096);
    {
        struct jr_leader_record got, l = {.id = "r1", .incarnation = 9};
        assert_int_equal(jr_lease_encode_leader(&l, &b), 0);
        assert_string_equal(jr_buf_str(&b), "{\"id\":\"r1\",\"incarnation\":\"9\"}");
        GOOD(jr_lease_decode_leader, jr_buf_str(&b));
        assert_string_equal(got.id, "r1");
        assert_int_equal(got.incarnation, 9);
        BAD(jr_lease_decode_leader, "{\"id\":\"r1\"}");
    }
    {
        struct jr_epoch got, e = {UINT64_MAX, 3};
        jr_buf_clear(&b);
        assert_int_equal(jr_lease_encode_epoch(&e, &b), 0);
        assert_string_equal(jr_buf_str(&b), "{\"random\":\"18446744073709551615\",\"n\":\"3\"}");
        GOOD(jr_lease_decode_epoch, jr_buf_str(&b));
        assert_true(got.random == UINT64_MAX && got.n == 3);
        BAD(jr_lease_decode_epoch, "{\"random\":1}");
    }
    jr_buf_deinit(&b);
}

static void snapshots(void **state)
{
    static const char golden[] =
        "{\"newest\":{\"object\":\"snapshot-a\",\"seq\":\"1000\",\"revision\":\"12\",\"created_"
        "ns\":"
        "\"1795240495404953000\",\"stream_created_ns\":\"9\",\"bytes\":\"5000\",\"digest_blocks\":"
        "\"18446744073709551615\","
        "\"digest_table\":\"2\",\"epoch\":{\"random\":\"1\",\"n\":\"18446744073709551615\"}},"
        "\"previous\":null}";
    struct jr_snapshots_record got, r = {.newest = {.object = "snapshot-a",
                                                    .seq = 1000,
                                                    .revision = 12,
                                                    .created_ns = INT64_C(1795240495404953000),
                                                    .stream_created_ns = 9,
                                                    .epoch = {1, UINT64_MAX},
                                                    .bytes = 5000,
                                                    .digest_blocks = UINT64_MAX,
                                                    .digest_table = 2}};
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_lease_encode_snapshots(&r, &b), 0);
    assert_string_equal(jr_buf_str(&b), golden);
    GOOD(jr_lease_decode_snapshots, golden);
    assert_memory_equal(&got, &r, sizeof got);
    GOOD(jr_lease_decode_snapshots, "{}");
    assert_string_equal(got.newest.object, "");
    GOOD(jr_lease_decode_snapshots, "{\"previous\":{\"object\":\"o\",\"seq\":1}}");
    assert_int_equal(got.previous.seq, 1);
    BAD(jr_lease_decode_snapshots, "{\"previous\":{\"object\":\"o\"}}");
    BAD(jr_lease_decode_snapshots, "{\"newest\":{\"seq\":1}}");
    BAD(jr_lease_decode_snapshots, "{\"newest\":1}");
    BAD(jr_lease_decode_snapshots,
        "{\"newest\":{\"object\":\"o\",\"seq\":1,\"created_ns\":\"9223372036854775808\"}}");
    r.previous.created_ns = -1;
    assert_int_equal(jr_lease_encode_snapshots(&r, &b), JR_EINVAL);
    jr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker_golden), cmocka_unit_test(worker_rules),
        cmocka_unit_test(worker_device), cmocka_unit_test(worker_limits),
        cmocka_unit_test(replica),       cmocka_unit_test(leader_and_epoch),
        cmocka_unit_test(snapshots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
