/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/object_meta.h"
#include "wire_test.h"
#include <jansson.h>
#include <openssl/sha.h>

static int decode(const char *text, struct jr_object_meta *ret)
{
    struct jr_errmsg e = {{0}};
    size_t n = strlen(text);
    uint8_t *copy = tight_copy(text, n);
    int rv = jr_object_meta_decode(copy, n, ret, &e);
    assert_true(rv == 0 || e.text[0]);
    free(copy);
    return rv;
}

/* What Dynamo 1.0.2 (async-nats) wrote, and the object it is about. */
static void captured(void **state)
{
    size_t n;
    uint8_t hash[32], *text = jr_test_fixture("dynamo/radix-state.meta.json", NULL);
    uint8_t *object = jr_test_fixture("dynamo/radix-state.bin", &n);
    json_t *o = json_loads((char *)text, 0, NULL);
    struct jr_object_meta m;
    char subject[JR_OBJECT_SUBJECT_MAX];
    (void)state;
    assert_non_null(o);
    assert_int_equal(decode(json_string_value(json_object_get(o, "payload")), &m), 0);
    assert_string_equal(m.name, "radix-state");
    assert_string_equal(m.bucket, "namespace-dynamo-component-mocker-radix-bucket");
    assert_string_equal(m.nuid, "u7Hqs5foKma8XhbvTVRlLf");
    assert_int_equal(m.size, n);
    assert_int_equal(m.chunks, 1);
    assert_int_equal(m.max_chunk_size, 131072);
    assert_true(m.mtime_ns == INT64_C(1795224490561326133)); /* date -d 2026-11-21T01:28:10Z +%s */
    assert_true(m.has_digest);
    SHA256(object, n, hash);
    assert_memory_equal(m.digest, hash, 32);
    assert_false(m.deleted);
    assert_int_equal(jr_object_meta_subject(m.bucket, m.name, subject, sizeof subject), 0);
    assert_string_equal(subject, json_string_value(json_object_get(o, "subject")));
    json_decref(o);
    jr_xfree(text);
    jr_xfree(object);
}

static struct jr_object_meta golden_meta(void)
{
    struct jr_object_meta m = {
        .name = "snapshot-a",
        .bucket = "namespace-dynamo-component-backend-snapshots",
        .nuid = "u7Hqs5foKma8XhbvTVRlLf",
        .size = 300000,
        .chunks = 3,
        .max_chunk_size = 131072,
        .mtime_ns = INT64_C(1795224490561326133),
        .has_digest = true,
    };
    for (unsigned i = 0; i < 32; i++)
        m.digest[i] = (uint8_t)(255 - i);
    return m;
}

static void golden(void **state)
{
    struct jr_object_meta got, m = golden_meta();
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_object_meta_encode(&m, &b), 0);
    assert_string_equal(
        jr_buf_str(&b),
        "{\"name\":\"snapshot-a\",\"options\":{\"max_chunk_size\":131072},\"bucket\":"
        "\"namespace-dynamo-component-backend-snapshots\",\"nuid\":\"u7Hqs5foKma8XhbvTVRlLf\","
        "\"size\":300000,\"mtime\":\"2026-11-21T01:28:10.561326133Z\",\"chunks\":3,\"digest\":"
        "\"SHA-256=__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA=\"}");
    memset(&got, 0, sizeof got);
    assert_int_equal(decode(jr_buf_str(&b), &got), 0);
    assert_memory_equal(&got, &m, sizeof got);
    char *text = jr_xstrndup(jr_buf_str(&b), b.n);
    while (text[0]) {
        text[strlen(text) - 1] = 0;
        assert_int_equal(decode(text, &got), JR_EPROTO);
    }
    jr_xfree(text);
    jr_buf_deinit(&b);
}

static void round_trip(void **state)
{
    struct jr_rng r;
    struct jr_buf b;
    (void)state;
    jr_rng_init(&r, jr_test_seed(), 1);
    jr_buf_init(&b, 4096);
    for (int i = 0; i < 2000; i++) {
        struct jr_object_meta got, m = golden_meta();
        m.size = jr_rng_u64(&r) >> (1 + jr_rng_below(&r, 63));
        m.chunks = jr_rng_u32(&r);
        m.mtime_ns = (int64_t)(jr_rng_u64(&r) % UINT64_C(9214646400000000000)); /* to 2262 */
        m.has_digest = jr_rng_below(&r, 2);
        m.deleted = jr_rng_below(&r, 2);
        for (unsigned k = 0; k < 32; k++)
            m.digest[k] = m.has_digest ? (uint8_t)jr_rng_u32(&r) : 0;
        jr_buf_clear(&b);
        assert_int_equal(jr_object_meta_encode(&m, &b), 0);
        assert_int_equal(decode(jr_buf_str(&b), &got), 0);
        assert_true(got.size == m.size && got.chunks == m.chunks && got.deleted == m.deleted);
        assert_true(got.mtime_ns == m.mtime_ns);
        assert_int_equal(got.has_digest, m.has_digest);
        assert_memory_equal(got.digest, m.digest, 32);
    }
    jr_buf_deinit(&b);
}

#define M(rest) "{\"name\":\"n\",\"bucket\":\"b\",\"nuid\":\"x\"" rest "}"

static void other_writers(void **state)
{
    struct jr_object_meta m;
    (void)state;
    /* nats.go */
    assert_int_equal(
        decode(M(",\"headers\":{\"A\":[\"b\"]},\"metadata\":{\"k\":\"v\"},\"size\":5,\"mtime\":"
                 "\"0001-01-01T00:00:00Z\",\"chunks\":1,\"digest\":"
                 "\"SHA-256=LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\",\"options\":{}"),
               &m),
        0);
    assert_int_equal(m.mtime_ns, 0);
    assert_int_equal(m.digest[0], 0x2c); /* SHA-256 of "hello" */
    assert_int_equal(m.digest[31], 0x24);
    assert_int_equal(m.max_chunk_size, 0);
    /* zone and short fraction; deleted without nuid */
    assert_int_equal(decode(M(",\"mtime\":\"1970-01-02T01:00:00.5+01:00\""), &m), 0);
    assert_true(m.mtime_ns == INT64_C(86400500000000));
    assert_int_equal(decode("{\"name\":\"n\",\"bucket\":\"b\",\"deleted\":true}", &m), 0);
    assert_true(m.deleted);
    assert_int_equal(decode(M(",\"options\":{\"link\":{\"bucket\":\"b\"}}"), &m), JR_EUNSUPPORTED);
    assert_int_equal(decode("{\"name\":\"n\",\"options\":{\"link\":{\"bucket\":\"b\"}}}", &m),
                     JR_EUNSUPPORTED);
    assert_int_equal(decode(M(",\"digest\":\"SHA-512=abc\""), &m), JR_EUNSUPPORTED);
}

static void refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"name\":\"n\",\"bucket\":\"b\"}",
        M(",\"size\":-1"),
        M(",\"size\":1.5"),
        M(",\"chunks\":4294967296"),
        M(",\"deleted\":\"yes\""),
        M(",\"options\":1"),
        M(",\"digest\":\"SHA-256=\""),
        M(",\"digest\":\"SHA-256=abc\""),
        M(",\"digest\":\"SHA-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=\""),
        M(",\"digest\":\"SHA-256=LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCR=\""),
        M(",\"digest\":\"SHA-256=LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ==\""),
        M(",\"digest\":5"),
    };
    static const char *const no_times[] = {
        "",
        "2026",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+1:00",
        "1969-01-01T00:00:00Z",
        "9999-01-01T00:00:00Z",
        "2026-01-01 00:00:00Z",
    };
    struct jr_object_meta m;
    struct jr_buf b;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(decode(bad[i], &m), JR_EPROTO);
    for (size_t i = 0; i < sizeof no_times / sizeof *no_times; i++) {
        char *text = jr_xprintf(M(",\"mtime\":\"%s\""), no_times[i]);
        assert_int_equal(decode(text, &m), 0);
        assert_int_equal(m.mtime_ns, 0);
        jr_xfree(text);
    }
    jr_buf_init(&b, 4096);
    m = golden_meta();
    m.nuid[0] = 0;
    assert_int_equal(jr_object_meta_encode(&m, &b), JR_EINVAL);
    jr_buf_deinit(&b);
}

static void names(void **state)
{
    char s[JR_OBJECT_SUBJECT_MAX];
    (void)state;
    assert_int_equal(jr_object_stream_name("b-1", s, sizeof s), 0);
    assert_string_equal(s, "OBJ_b-1");
    assert_int_equal(jr_object_chunk_subject("b", "N1", s, sizeof s), 0);
    assert_string_equal(s, "$O.b.C.N1");
    assert_int_equal(jr_object_meta_subject("b", "snapshot-a", s, sizeof s), 0);
    assert_string_equal(s, "$O.b.M.c25hcHNob3QtYQ==");
    assert_int_equal(jr_object_chunk_wildcard("b", s, sizeof s), 0);
    assert_string_equal(s, "$O.b.C.>");
    assert_int_equal(jr_object_meta_wildcard("b", s, sizeof s), 0);
    assert_string_equal(s, "$O.b.M.>");
    assert_int_equal(jr_object_stream_name("b", s, 5), JR_ELIMIT);
    assert_int_equal(jr_object_stream_name("b.c", s, sizeof s), JR_EINVAL);
    assert_int_equal(jr_object_stream_name("", s, sizeof s), JR_EINVAL);
    assert_int_equal(jr_object_chunk_subject("b", ">", s, sizeof s), JR_EINVAL);
    assert_int_equal(jr_object_meta_subject("b", "", s, sizeof s), JR_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captured),      cmocka_unit_test(golden),  cmocka_unit_test(round_trip),
        cmocka_unit_test(other_writers), cmocka_unit_test(refused), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
