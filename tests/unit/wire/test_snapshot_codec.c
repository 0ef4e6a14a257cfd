/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/snapshot_codec.h"
#include "wire_test.h"
#include <jetrouter/v1/snapshot.pb-c.h>
#include <sodium/crypto_generichash.h>

static struct jr_image_rank golden_ranks[] = {
    {.worker_id = 7, .dp_rank = 0, .incarnation = 5, .newest_id = 300, .has_id = true},
    {.worker_id = 7, .dp_rank = 255, .waiting = true, .incarnation = UINT64_MAX},
};
static struct jr_image_entry golden_entries[] = {
    {.block_hash = 0x11, .prefix_hash = 0x22, .rank = 0},
    {.block_hash = UINT64_MAX, .prefix_hash = 0x33, .rank = 1},
};

static struct jr_image golden_image(void)
{
    struct jr_image m = {
        .format = 1,
        .rule_version = 1,
        .namespace_ = "dynamo",
        .component = "backend",
        .params = {64, 1, 1000},
        .epoch = {3, 4},
        .reset_token = "once",
        .digest_blocks = 5,
        .digest_table = UINT64_MAX,
        .stream = "s",
        .stream_created_ns = -1,
        .seq = 300,
        .msg_time_ns = 6,
        .msg_hash = 7,
        .dropped_unknown_parent = 1,
        .dropped_stale = 2,
        .dropped_hole = 3,
        .undecodable = 4,
        .refused_cap = 5,
        .ranks = golden_ranks,
        .n_ranks = 2,
        .entries = golden_entries,
        .n_entries = 2,
    };
    return m;
}

/* Made with protoc --encode and another BLAKE2b. */
#define GOLDEN                                                                                     \
    "4a52534e4150310a780000000a76080110011a0664796e616d6f22076261636b656e642a070840100118e80732"   \
    "0b09030000000000000010043a046f6e636541050000000000000049ffffffffffffffff52210a017311ffffff"   \
    "ffffffffff18ac022106000000000000002907000000000000005a0a0801100218032004280560026802410000"   \
    "00123f0a1007000000000000000700000000000000120300ff011a100500000000000000ffffffffffffffff22"   \
    "102c0100000000000000000000000000002a0201022a0000001a280a101100000000000000ffffffffffffffff"   \
    "1210220000000000000033000000000000001a0200012a000000222808021002180322201abaf19fe39d68819d"   \
    "b4767562c52241201df1f76fa1bb857a12d34625aff1a2"

static int decode(const void *p, size_t n, struct jr_image **ret)
{
    struct jr_errmsg e = {{0}};
    uint8_t *copy = tight_copy(p, n);
    int rv = jr_snapshot_decode(copy, n, ret, &e);
    assert_true(rv == 0 || e.text[0]);
    free(copy);
    return rv;
}

static void assert_images_equal(const struct jr_image *x, const struct jr_image *y)
{
    assert_int_equal(x->n_ranks, y->n_ranks);
    assert_true(x->n_entries == y->n_entries);
    for (uint32_t i = 0; i < x->n_ranks; i++) {
        const struct jr_image_rank *p = &x->ranks[i], *q = &y->ranks[i];
        assert_true(p->worker_id == q->worker_id && p->dp_rank == q->dp_rank);
        assert_true(p->incarnation == q->incarnation && p->newest_id == q->newest_id);
        assert_true(p->has_id == q->has_id && p->waiting == q->waiting);
    }
    if (x->n_entries)
        assert_memory_equal(x->entries, y->entries, (size_t)x->n_entries * sizeof *x->entries);
    assert_string_equal(x->namespace_, y->namespace_);
    assert_string_equal(x->stream, y->stream);
    /* The head has no padding, and its texts are zeroed behind their end. */
    assert_memory_equal(x, y, offsetof(struct jr_image, ranks));
}

static void golden(void **state)
{
    struct jr_buf b;
    struct jr_image m = golden_image(), *got;
    (void)state;
    jr_buf_init(&b, 1 << 20);
    assert_int_equal(jr_snapshot_encode(&m, &b), 0);
    assert_hex(b.p, b.n, GOLDEN);
    assert_int_equal(decode(b.p, b.n, &got), 0);
    assert_images_equal(got, &m);
    jr_image_destroy(got);
    jr_buf_deinit(&b);
}

static void truncated(void **state)
{
    size_t n;
    uint8_t *p = unhex(GOLDEN, &n);
    struct jr_image *got;
    (void)state;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(decode(p, i, &got), JR_ETRUNC);
    jr_xfree(p);
}

/* No bit may change unnoticed. */
static void every_bit(void **state)
{
    size_t n;
    uint8_t *p = unhex(GOLDEN, &n);
    struct jr_image *got;
    (void)state;
    for (size_t i = 0; i < n * 8; i++) {
        p[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_true(decode(p, n, &got) < 0);
        p[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    jr_xfree(p);
}

static struct jr_image *random_image(struct jr_rng *r, uint32_t n_ranks, uint64_t n_entries)
{
    struct jr_image *m = jr_image_create();
    *m = golden_image();
    m->digest_blocks = random_u64(r);
    m->seq = random_u64(r);
    m->n_ranks = n_ranks;
    m->n_entries = n_entries;
    m->ranks = jr_xalloc((n_ranks + 1) * sizeof *m->ranks);
    m->entries = jr_xalloc((n_entries + 1) * sizeof *m->entries);
    for (uint32_t i = 0; i < n_ranks; i++) {
        m->ranks[i] = (struct jr_image_rank){
            .worker_id = i / 3, .dp_rank = i % 3, .incarnation = random_u64(r)};
        m->ranks[i].waiting = jr_rng_below(r, 2);
        m->ranks[i].has_id = jr_rng_below(r, 2);
        m->ranks[i].newest_id = m->ranks[i].has_id ? random_u64(r) : 0;
    }
    for (uint64_t i = 0; i < n_entries; i++)
        m->entries[i] =
            (struct jr_image_entry){.block_hash = random_u64(r),
                                    .prefix_hash = random_u64(r),
                                    .rank = (uint16_t)jr_rng_below(r, n_ranks),
                                    .flags = (uint16_t)jr_rng_below(r, JR_IMAGE_FLAGS + 1)};
    return m;
}

static void round_trip(void **state)
{
    static const struct {
        uint32_t ranks;
        uint64_t entries;
    } sizes[] = {
        {0, 0},
        {1, 0},
        {1, 1},
        {3, JR_SNAPSHOT_RUN},
        {5, JR_SNAPSHOT_RUN + 1},
        {4097, 9},
        {JR_WORKERS_MAX, 20000},
    };
    struct jr_rng r;
    struct jr_buf b;
    (void)state;
    jr_rng_init(&r, jr_test_seed(), 1);
    jr_buf_init(&b, (size_t)8 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct jr_image *m = random_image(&r, sizes[i].ranks, sizes[i].entries), *got;
        jr_buf_clear(&b);
        assert_int_equal(jr_snapshot_encode(m, &b), 0);
        assert_int_equal(decode(b.p, b.n, &got), 0);
        assert_images_equal(got, m);
        jr_image_destroy(got);
        jr_image_destroy(m);
    }
    jr_buf_deinit(&b);
}

/* Taken away step by step it is the same object, in steps of bounded size. */
static void streaming(void **state)
{
    struct jr_rng r;
    struct jr_buf all, whole, b;
    struct jr_snapshot_encoder *e;
    bool done = false;
    (void)state;
    jr_rng_init(&r, 1, 1);
    struct jr_image *m = random_image(&r, 100, 3 * JR_SNAPSHOT_RUN + 5);
    jr_buf_init(&all, 1 << 20);
    jr_buf_init(&whole, 1 << 20);
    jr_buf_init(&b, 100 << 10);
    assert_int_equal(jr_snapshot_encode(m, &whole), 0);
    assert_int_equal(jr_snapshot_encoder_create(m, &e), 0);
    for (int steps = 0; !done; steps++) {
        assert_in_range(steps, 0, 6);
        jr_buf_clear(&b);
        assert_int_equal(jr_snapshot_encoder_step(e, &b, &done), 0);
        jr_buf_put(&all, b.p, b.n);
    }
    assert_int_equal(all.n, whole.n);
    assert_memory_equal(all.p, whole.p, all.n);
    jr_snapshot_encoder_destroy(e);
    jr_snapshot_encoder_destroy(NULL);
    jr_buf_deinit(&all);
    jr_buf_deinit(&whole);
    jr_buf_deinit(&b);
    jr_image_destroy(m);
}

static void encode_refuses(void **state)
{
    struct jr_buf b;
    struct jr_image m = golden_image();
    struct jr_image_rank swapped[] = {golden_ranks[1], golden_ranks[0]};
    struct jr_image_entry stray = {.rank = 2};
    (void)state;
    jr_buf_init(&b, 1 << 20);
    m.format = 0;
    assert_int_equal(jr_snapshot_encode(&m, &b), JR_EVERSION);
    m.format = JR_SNAPSHOT_FORMAT_MAX + 1;
    assert_int_equal(jr_snapshot_encode(&m, &b), JR_EVERSION);
    m = golden_image();
    m.ranks = swapped;
    assert_int_equal(jr_snapshot_encode(&m, &b), JR_EINVAL);
    m = golden_image();
    m.entries = &stray;
    m.n_entries = 1;
    assert_int_equal(jr_snapshot_encode(&m, &b), JR_EINVAL);
    jr_buf_clear(&b);
    b.max = 50;
    m = golden_image();
    assert_int_equal(jr_snapshot_encode(&m, &b), JR_ELIMIT);
    jr_buf_deinit(&b);
}

/* ---- objects with a right hash and wrong contents ---- */

struct forge {
    struct jr_buf b;
    uint64_t frames;
    Jetrouter__V1__SnapshotHeader h;
    Jetrouter__V1__PoolParams params;
    Jetrouter__V1__Epoch epoch;
    Jetrouter__V1__Refusals refusals;
    Jetrouter__V1__Position position, *positions[2];
};

static void forge_init(struct forge *f)
{
    memset(f, 0, sizeof *f);
    jr_buf_init(&f->b, (size_t)4 << 20);
    jr_buf_puts(&f->b, "JRSNAP1\n");
    jetrouter__v1__snapshot_header__init(&f->h);
    jetrouter__v1__pool_params__init(&f->params);
    jetrouter__v1__epoch__init(&f->epoch);
    jetrouter__v1__refusals__init(&f->refusals);
    jetrouter__v1__position__init(&f->position);
    f->positions[0] = f->positions[1] = &f->position;
    f->h.format = 1;
    f->h.rule_version = 1;
    f->h.params = &f->params;
    f->h.epoch = &f->epoch;
    f->h.refusals = &f->refusals;
    f->h.positions = f->positions;
    f->h.n_positions = 1;
}

static void forge_frame(struct forge *f, const Jetrouter__V1__SnapshotFrame *frame)
{
    size_t n = jetrouter__v1__snapshot_frame__get_packed_size(frame);
    uint8_t *p = jr_xalloc(n + 1);
    uint8_t word[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), 0};
    jetrouter__v1__snapshot_frame__pack(frame, p);
    jr_buf_put(&f->b, word, 4);
    jr_buf_put(&f->b, p, n);
    jr_xfree(p);
    f->frames++;
}

static void forge_header(struct forge *f)
{
    Jetrouter__V1__SnapshotFrame frame = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    frame.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_HEADER;
    frame.header = &f->h;
    forge_frame(f, &frame);
}

static void forge_trailer(struct forge *f)
{
    uint8_t hash[32];
    Jetrouter__V1__SnapshotFrame frame = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    Jetrouter__V1__SnapshotTrailer t = JETROUTER__V1__SNAPSHOT_TRAILER__INIT;
    crypto_generichash(hash, sizeof hash, f->b.p, f->b.n, NULL, 0);
    t.n_ranks = f->h.n_ranks;
    t.n_entries = f->h.n_entries;
    t.n_frames = f->frames;
    t.blake2b = (ProtobufCBinaryData){sizeof hash, hash};
    frame.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_TRAILER;
    frame.trailer = &t;
    forge_frame(f, &frame);
}

/* Judge what was forged, and end it. */
static int forge_verdict(struct forge *f)
{
    struct jr_image *got;
    int rv = decode(f->b.p, f->b.n, &got);
    if (rv == 0)
        jr_image_destroy(got);
    jr_buf_deinit(&f->b);
    return rv;
}

static void forge_ranks(struct forge *f, uint64_t w0, uint64_t w1, uint32_t rank, uint32_t flags)
{
    uint64_t worker[] = {w0, w1}, inc[] = {1, 1}, newest[] = {0, 0};
    uint32_t ranks[] = {rank, rank}, all_flags[] = {flags, 0};
    Jetrouter__V1__SnapshotFrame frame = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    Jetrouter__V1__RankTable t = JETROUTER__V1__RANK_TABLE__INIT;
    t.n_worker_id = t.n_incarnation = t.n_newest_id = t.n_dp_rank = t.n_flags = 2;
    t.worker_id = worker;
    t.incarnation = inc;
    t.newest_id = newest;
    t.dp_rank = ranks;
    t.flags = all_flags;
    frame.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_RANKS;
    frame.ranks = &t;
    forge_frame(f, &frame);
}

static void forge_entries(struct forge *f, size_t n_block, size_t n_rank, uint32_t rank)
{
    uint64_t hash[] = {1, 2};
    uint32_t ranks[] = {rank, rank};
    Jetrouter__V1__SnapshotFrame frame = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    Jetrouter__V1__EntryRun t = JETROUTER__V1__ENTRY_RUN__INIT;
    t.n_block_hash = t.n_prefix_hash = n_block;
    t.block_hash = t.prefix_hash = hash;
    t.n_rank = n_rank;
    t.rank = ranks;
    frame.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_ENTRIES;
    frame.entries = &t;
    forge_frame(f, &frame);
}

static void forged_headers(void **state)
{
    struct forge f;
    (void)state;
#define VERDICT(change, want)                                                                      \
    do {                                                                                           \
        forge_init(&f);                                                                            \
        change;                                                                                    \
        forge_header(&f);                                                                          \
        forge_trailer(&f);                                                                         \
        assert_int_equal(forge_verdict(&f), want);                                                 \
    } while (0)
    VERDICT((void)0, 0);
    VERDICT(f.h.format = 2, JR_EVERSION);
    VERDICT(f.h.rule_version = JR_RULES_MAX + 1, JR_EVERSION);
    VERDICT(f.h.format = 0, JR_EPROTO);
    VERDICT(f.h.params = NULL, JR_EPROTO);
    VERDICT(f.h.epoch = NULL, JR_EPROTO);
    VERDICT(f.h.n_positions = 0, JR_EPROTO);
    VERDICT(f.h.n_positions = 2, JR_EPROTO);
    VERDICT(f.h.n_ranks = JR_WORKERS_MAX + 1, JR_ELIMIT);
    VERDICT(f.h.n_entries = UINT64_MAX, JR_ETRUNC);
    VERDICT(f.h.n_entries = 1, JR_ECORRUPT);
    VERDICT(f.h.n_ranks = 1, JR_ECORRUPT);
    char longer[JR_NAME_MAX + 1];
    memset(longer, 'x', JR_NAME_MAX);
    longer[JR_NAME_MAX] = 0;
    VERDICT(f.h.component = longer, JR_EPROTO);
    VERDICT(f.params.block_size = JR_BLOCK_SIZE_MAX + 1, JR_EPROTO);
#undef VERDICT
}

static void forged_bodies(void **state)
{
    struct forge f;
    (void)state;
#define VERDICT(body, want)                                                                        \
    do {                                                                                           \
        forge_init(&f);                                                                            \
        f.h.n_ranks = 2;                                                                           \
        f.h.n_entries = 2;                                                                         \
        forge_header(&f);                                                                          \
        body;                                                                                      \
        forge_trailer(&f);                                                                         \
        assert_int_equal(forge_verdict(&f), want);                                                 \
    } while (0)
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_entries(&f, 2, 2, 1), 0);
    VERDICT(forge_ranks(&f, 2, 1, 0, 3); forge_entries(&f, 2, 2, 1), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 1, 0, 3); forge_entries(&f, 2, 2, 1), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 256, 3); forge_entries(&f, 2, 2, 1), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 4); forge_entries(&f, 2, 2, 1), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_entries(&f, 2, 2, 2), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_entries(&f, 2, 1, 0), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_entries(&f, 1, 1, 0), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_ranks(&f, 3, 4, 0, 3), JR_ECORRUPT);
    VERDICT(forge_entries(&f, 2, 2, 0); forge_ranks(&f, 1, 2, 0, 3), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_entries(&f, 2, 2, 1);
            forge_entries(&f, 2, 2, 1), JR_ECORRUPT);
    VERDICT(forge_ranks(&f, 1, 2, 0, 3); forge_trailer(&f);
            forge_entries(&f, 2, 2, 1), JR_ECORRUPT);
    VERDICT(forge_header(&f), JR_ECORRUPT);
#undef VERDICT
}

static void not_ours(void **state)
{
    struct jr_image *got;
    (void)state;
    assert_int_equal(decode("", 0, &got), JR_ETRUNC);
    assert_int_equal(decode("PK\3\4 and so on", 13, &got), JR_EPROTO);
    assert_int_equal(decode("JRSNAP1\n\0\0\0\0", 12, &got), JR_EPROTO);
    assert_int_equal(decode("JRSNAP1\n\xff\xff\xff\xff", 12, &got), JR_EPROTO);
    assert_int_equal(decode("JRSNAP1\n\1\0\0\0\xff", 13, &got), JR_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),         cmocka_unit_test(truncated),
        cmocka_unit_test(every_bit),      cmocka_unit_test(round_trip),
        cmocka_unit_test(streaming),      cmocka_unit_test(encode_refuses),
        cmocka_unit_test(forged_headers), cmocka_unit_test(forged_bodies),
        cmocka_unit_test(not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
