/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sync_codec.h"
#include "wire_test.h"

static struct jr_arena arena;

static int setup(void **state)
{
    (void)state;
    jr_arena_init(&arena, JR_SYNC_ARENA_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_arena_deinit(&arena);
    return 0;
}

static int decode(const void *p, size_t n, struct jr_sync_batch *ret)
{
    struct jr_errmsg e = {{0}};
    uint8_t *copy = tight_copy(p, n);
    jr_arena_reset(&arena);
    int rv = jr_sync_decode(copy, n, &arena, ret, &e);
    assert_true(rv == 0 || e.text[0]);
    free(copy);
    return rv;
}

static int decode_hex(const char *hex, struct jr_sync_batch *ret)
{
    size_t n;
    uint8_t *p = unhex(hex, &n);
    int rv = decode(p, n, ret);
    jr_xfree(p);
    return rv;
}

static void assert_deltas_equal(const struct jr_delta *x, const struct jr_delta *y)
{
    assert_int_equal(x->type, y->type);
    assert_true(x->b.request == y->b.request && x->b.worker_id == y->b.worker_id);
    assert_int_equal(x->b.dp_rank, y->b.dp_rank);
    assert_int_equal(x->b.prefill_tokens, y->b.prefill_tokens);
    assert_int_equal(x->b.prompt_tokens, y->b.prompt_tokens);
    assert_int_equal(x->b.output_blocks, y->b.output_blocks);
    assert_true(x->b.prefill_seconds == y->b.prefill_seconds);
    assert_int_equal(x->b.n_blocks, y->b.n_blocks);
    if (x->b.n_blocks)
        assert_memory_equal(x->b.blocks, y->b.blocks, x->b.n_blocks * sizeof *x->b.blocks);
}

static void assert_syncs_equal(const struct jr_sync_batch *x, const struct jr_sync_batch *y)
{
    assert_string_equal(x->replica, y->replica);
    assert_true(x->incarnation == y->incarnation && x->number == y->number);
    assert_int_equal(x->is_base, y->is_base);
    assert_true(x->base_number == y->base_number && x->includes == y->includes);
    assert_int_equal(x->part, y->part);
    assert_int_equal(x->parts, y->parts);
    assert_true(x->speed_factor == y->speed_factor && x->speed_weight_ms == y->speed_weight_ms);
    assert_int_equal(x->want_base, y->want_base);
    assert_int_equal(x->n_deltas, y->n_deltas);
    for (uint32_t i = 0; i < x->n_deltas; i++)
        assert_deltas_equal(&x->deltas[i], &y->deltas[i]);
}

static const uint64_t blocks[] = {1, UINT64_MAX};
static const struct jr_delta golden_deltas[] = {
    {JR_DELTA_ADMIT, {9, 7, 1, 100, 200, 0, 0.5, 2, blocks}},
    {.type = JR_DELTA_FIRST_TOKEN, .b.request = 9},
    {.type = JR_DELTA_PROGRESS, .b = {.request = 9, .output_blocks = 4}},
    {.type = JR_DELTA_DONE, .b.request = UINT64_MAX},
};
static const struct jr_sync_batch golden = {
    .replica = "r1",
    .incarnation = 5,
    .number = 300,
    .want_base = true,
    .deltas = golden_deltas,
    .n_deltas = 4,
};
static const struct jr_sync_batch golden_base = {
    .replica = "r1",
    .incarnation = 5,
    .number = 301,
    .is_base = true,
    .base_number = 2,
    .part = 1,
    .parts = 3,
    .includes = 300,
    .speed_factor = 1.5,
    .speed_weight_ms = 8,
    .deltas = golden_deltas,
    .n_deltas = 1,
};

/* Made with protoc --encode. */
#define GOLDEN                                                                                     \
    "08011202723119050000000000000020ac0230013a360801110900000000000000190700000000000000200128"   \
    "6430c80141000000000000e03f4a100100000000000000ffffffffffffffff3a0b08021109000000000000003a"   \
    "0d080311090000000000000038043a0b080411ffffffffffffffff"
#define GOLDEN_BASE                                                                                \
    "08011202723119050000000000000020ad022a1408021001180320ac0229000000000000f83f38083a36080111"   \
    "09000000000000001907000000000000002001286430c80141000000000000e03f4a100100000000000000ffff"   \
    "ffffffffffff"

static void goldens(void **state)
{
    static const struct {
        const struct jr_sync_batch *s;
        const char *hex;
    } cases[] = {{&golden, GOLDEN}, {&golden_base, GOLDEN_BASE}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct jr_sync_batch got;
        struct jr_buf b;
        jr_buf_init(&b, 4096);
        assert_int_equal(jr_sync_encode(cases[i].s, &b), 0);
        assert_hex(b.p, b.n, cases[i].hex);
        assert_int_equal(decode(b.p, b.n, &got), 0);
        assert_syncs_equal(&got, cases[i].s);
        for (size_t cut = 0; cut < b.n; cut++)
            (void)!decode(b.p, cut, &got);
        jr_buf_deinit(&b);
    }
}

static struct jr_delta random_delta(struct jr_rng *r, struct jr_arena *a, bool admit)
{
    struct jr_delta d = {.type = (enum jr_delta_type)(admit ? 1 : 1 + jr_rng_below(r, 4))};
    d.b.request = random_u64(r);
    if (d.type == JR_DELTA_PROGRESS)
        d.b.output_blocks = jr_rng_u32(r);
    if (d.type != JR_DELTA_ADMIT)
        return d;
    d.b.worker_id = random_u64(r);
    d.b.dp_rank = jr_rng_below(r, JR_RANKS_MAX);
    d.b.prompt_tokens = jr_rng_below(r, JR_PROMPT_TOKENS_MAX + 1);
    d.b.prefill_tokens = jr_rng_below(r, d.b.prompt_tokens + 1);
    d.b.output_blocks = jr_rng_u32(r);
    d.b.prefill_seconds = jr_rng_unit(r) * 100;
    d.b.n_blocks = jr_rng_below(r, 50);
    uint64_t *p = jr_arena_array(a, d.b.n_blocks, sizeof *p);
    for (uint32_t i = 0; i < d.b.n_blocks; i++)
        p[i] = random_u64(r);
    d.b.blocks = d.b.n_blocks ? p : NULL;
    return d;
}

static struct jr_sync_batch random_sync(struct jr_rng *r, struct jr_arena *a)
{
    struct jr_sync_batch s = {
        .replica = "replica-Ä",
        .incarnation = jr_rng_u64(r) | 1,
        .number = random_u64(r),
        .is_base = jr_rng_below(r, 2),
        .want_base = jr_rng_below(r, 2),
        .n_deltas = jr_rng_below(r, 30),
    };
    if (s.is_base) {
        s.base_number = random_u64(r);
        s.parts = 1 + jr_rng_below(r, 9);
        s.part = jr_rng_below(r, s.parts);
        s.includes = random_u64(r);
        s.speed_factor = jr_rng_unit(r);
        s.speed_weight_ms = random_u64(r);
    }
    struct jr_delta *deltas = jr_arena_array(a, s.n_deltas, sizeof *deltas);
    for (uint32_t i = 0; i < s.n_deltas; i++)
        deltas[i] = random_delta(r, a, s.is_base);
    s.deltas = deltas;
    return s;
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
    for (int i = 0; i < 2000; i++) {
        struct jr_sync_batch got, s;
        jr_arena_reset(&a);
        jr_buf_clear(&b);
        s = random_sync(&r, &a);
        assert_int_equal(jr_sync_encode(&s, &b), 0);
        size_t most = JR_SYNC_OVERHEAD;
        for (uint32_t k = 0; k < s.n_deltas; k++)
            most += jr_sync_delta_size_max(&s.deltas[k]);
        assert_in_range(b.n, 0, most);
        assert_int_equal(decode(b.p, b.n, &got), 0);
        assert_syncs_equal(&got, &s);
        b.p[jr_rng_below(&r, (uint32_t)b.n)] ^= (uint8_t)(1u << jr_rng_below(&r, 8));
        (void)!decode(b.p, b.n, &got);
    }
    jr_buf_deinit(&b);
    jr_arena_deinit(&a);
}

#define HEAD                                                                                       \
    "0801120272311905"                                                                             \
    "00000000000000"                                                                               \
    "2001" /* version 1, "r1", incarnation 5, number 1 */

static void rules(void **state)
{
    struct jr_sync_batch s;
    (void)state;
    assert_int_equal(decode_hex(HEAD, &s), 0);
    assert_int_equal(decode_hex("", &s), JR_EPROTO);
    assert_int_equal(decode_hex(HEAD "0802", &s), JR_EPROTO);         /* newer version */
    assert_int_equal(decode_hex(HEAD "1200", &s), JR_EPROTO);         /* no replica */
    assert_int_equal(decode_hex(HEAD "9a0600", &s), 0);               /* unknown field */
    assert_int_equal(decode_hex(HEAD "2a00", &s), JR_EPROTO);         /* a base of no parts */
    assert_int_equal(decode_hex(HEAD "2a021801", &s), 0);             /* of one */
    assert_int_equal(decode_hex(HEAD "2a0410011801", &s), JR_EPROTO); /* part 1 of 1 */
    /* a base with a DONE */
    assert_int_equal(decode_hex(HEAD "2a0218013a020804", &s), JR_EPROTO);
    /* deltas of type 0 and 9 are left out */
    assert_int_equal(decode_hex(HEAD "3a003a0208093a020804", &s), 0);
    assert_int_equal(s.n_deltas, 1);
    assert_int_equal(s.n_unknown, 2);
    assert_int_equal(s.deltas[0].type, JR_DELTA_DONE);
    /* in a base, too; with fields that are not known, in a delta and in a base part */
    assert_int_equal(decode_hex(HEAD "2a05180198060a3a0208093a0508019a0600", &s), 0);
    assert_int_equal(s.n_deltas, 1);
    assert_int_equal(s.n_unknown, 1);
    assert_true(s.is_base);
    /* admit with rank 256, with NaN and negative seconds */
    assert_int_equal(decode_hex(HEAD "3a050801208002", &s), JR_EPROTO);
    assert_int_equal(decode_hex(HEAD "3a0b080141000000000000f87f", &s), JR_EPROTO);
    assert_int_equal(decode_hex(HEAD "3a0b080141000000000000f0bf", &s), JR_EPROTO);
    assert_int_equal(decode_hex(HEAD "3a0b080141000000000000f03f", &s), 0);
}

static void hostile_size(void **state)
{
    uint8_t *p = jr_xalloc(JR_BATCH_BYTES_MAX + 1);
    struct jr_sync_batch s;
    (void)state;
    for (size_t i = 0; i + 2 <= JR_BATCH_BYTES_MAX; i += 2)
        p[i] = 0x3a;
    assert_int_equal(decode(p, JR_BATCH_BYTES_MAX, &s), JR_ELIMIT);
    assert_false(arena.full);
    assert_int_equal(decode(p, JR_BATCH_BYTES_MAX + 1, &s), JR_ELIMIT);
    jr_xfree(p);
}

static void encode_refuses(void **state)
{
    struct jr_buf b;
    struct jr_sync_batch s = golden;
    struct jr_delta d = golden_deltas[0];
    (void)state;
    jr_buf_init(&b, 4096);
    s.replica = "";
    assert_int_equal(jr_sync_encode(&s, &b), JR_EINVAL);
    s = golden;
    s.version = JR_SYNC_VERSION + 1;
    assert_int_equal(jr_sync_encode(&s, &b), JR_EINVAL);
    s = golden;
    s.is_base = true;
    s.parts = 1;
    assert_int_equal(jr_sync_encode(&s, &b), JR_EINVAL); /* holds more than admissions */
    s = golden;
    s.deltas = &d;
    s.n_deltas = 1;
    d.b.dp_rank = JR_RANKS_MAX;
    assert_int_equal(jr_sync_encode(&s, &b), JR_EINVAL);
    d = golden_deltas[0];
    d.b.prefill_seconds = -1;
    assert_int_equal(jr_sync_encode(&s, &b), JR_EINVAL);
    b.max = 10;
    assert_int_equal(jr_sync_encode(&golden, &b), JR_ELIMIT);
    assert_int_equal(b.n, 0);
    jr_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),      cmocka_unit_test(round_trip),     cmocka_unit_test(rules),
        cmocka_unit_test(hostile_size), cmocka_unit_test(encode_refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
