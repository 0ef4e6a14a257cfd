/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/session_codec.h"
#include "wire_test.h"

static int decode(const void *p, size_t n, struct jr_session_word *ret)
{
    struct jr_errmsg e = {{0}};
    uint8_t *copy = tight_copy(p, n);
    int rv = jr_session_decode(copy, n, ret, &e);
    assert_true(rv == 0 || e.text[0]);
    free(copy);
    return rv;
}

static int decode_hex(const char *hex, struct jr_session_word *ret)
{
    size_t n;
    uint8_t *p = unhex(hex, &n);
    int rv = decode(p, n, ret);
    jr_xfree(p);
    return rv;
}

static void assert_words_equal(const struct jr_session_word *x, const struct jr_session_word *y)
{
    assert_true(x->session == y->session && x->worker_id == y->worker_id);
    assert_true(x->dp_rank == y->dp_rank && x->idle_ms == y->idle_ms);
}

static const struct jr_session_word golden = {
    .session = UINT64_C(0x0123456789abcdef), .worker_id = 7, .dp_rank = 1, .idle_ms = 300000};

/* By hand, from the rules of the wire format. */
#define GOLDEN "080111efcdab8967452301190700000000000000200128e0a712"

static void test_golden(void **state)
{
    (void)state;
    struct jr_session_word got;
    struct jr_buf b;
    jr_buf_init(&b, 256);
    assert_int_equal(jr_session_encode(&golden, &b), 0);
    assert_hex(b.p, b.n, GOLDEN);
    assert_int_equal(decode(b.p, b.n, &got), 0);
    assert_words_equal(&got, &golden);
    for (size_t cut = 0; cut < b.n; cut++)
        assert_true(decode(b.p, cut, &got) < 0);
    jr_buf_deinit(&b);
}

static void test_readers_of_later_writers(void **state)
{
    (void)state;
    struct jr_session_word got;
    assert_int_equal(decode_hex(GOLDEN "72036e6577", &got), 0); /* a field 14 */
    assert_words_equal(&got, &golden);
    /* No version reads as 1; a newer one is not guessed at. */
    assert_int_equal(decode_hex("11efcdab8967452301190700000000000000200128e0a712", &got), 0);
    assert_int_equal(decode_hex("080211efcdab8967452301190700000000000000200128e0a712", &got),
                     JR_EPROTO);
}

static void test_bounds(void **state)
{
    (void)state;
    struct jr_buf b;
    jr_buf_init(&b, 256);
    struct jr_session_word bad[] = {golden, golden, golden, golden};
    bad[0].session = 0;
    bad[1].dp_rank = JR_RANKS_MAX;
    bad[2].idle_ms = 0;
    bad[3].idle_ms = (uint64_t)JR_SESSION_TTL_SECS_MAX * 1000 + 1;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(jr_session_encode(&bad[i], &b), JR_EINVAL);
    assert_int_equal(b.n, 0);
    struct jr_session_word got;
    /* the same, written by another: session 0, rank 256, no idle time, more than a year */
    assert_int_equal(decode_hex("080119070000000000000028e0a712", &got), JR_EPROTO);
    assert_int_equal(decode_hex("080111efcdab896745230119070000000000000020800228e0a712", &got),
                     JR_EPROTO);
    assert_int_equal(decode_hex("080111efcdab89674523011907000000000000002001", &got), JR_EPROTO);
    assert_int_equal(
        decode_hex("080111efcdab89674523011907000000000000002001288180f0f2f6ff07", &got),
        JR_EPROTO);
    uint8_t long_one[JR_SESSION_BYTES_MAX + 1] = {0};
    assert_int_equal(decode(long_one, sizeof long_one, &got), JR_ELIMIT);
    jr_buf_deinit(&b);
}

static void test_round_trips(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 5);
    for (int i = 0; i < 2000; i++) {
        struct jr_session_word got,
            w = {.session = jr_rng_u64(&rng) | 1,
                 .worker_id = random_u64(&rng),
                 .dp_rank = jr_rng_below(&rng, JR_RANKS_MAX),
                 .idle_ms = 1 + jr_rng_u64(&rng) % ((uint64_t)JR_SESSION_TTL_SECS_MAX * 1000)};
        struct jr_buf b;
        jr_buf_init(&b, 256);
        assert_int_equal(jr_session_encode(&w, &b), 0);
        assert_int_equal(decode(b.p, b.n, &got), 0);
        assert_words_equal(&got, &w);
        for (size_t k = 0; k < b.n; k++) { /* whatever it says then, it is no crash */
            b.p[k] ^= (uint8_t)(1 + jr_rng_below(&rng, 255));
            (void)!decode(b.p, b.n, &got);
        }
        jr_buf_deinit(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_readers_of_later_writers),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
