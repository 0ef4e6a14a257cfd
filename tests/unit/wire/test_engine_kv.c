/* SPDX-License-Identifier: Apache-2.0 */
/* Every fixture of tests/fixtures/engines decodes to the events written beside it, block for block
 * with the hashes of the reference implementation; the encoder's bytes are the engines' own. */
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jr_test.h"
#include "jr_test_engines.h"
#include "base/rng.h"
#include "wire/arena.h"
#include "wire/engine_kv.h"
#include "wire/msgpack.h"

static struct jr_arena arena;

static uint64_t fnv(const uint32_t *v, uint32_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < n; i++) {
        for (int k = 0; k < 4; k++) {
            h = (h ^ (v[i] >> (8 * k) & 0xff)) * UINT64_C(0x100000001b3);
        }
    }
    return h;
}

static void put_str_or_dash(struct jr_buf *b, struct jr_str s)
{
    jr_buf_put(b, s.n > 0 ? s.p : "-", s.n > 0 ? s.n : 1);
}

static void put_u32_or_dash(struct jr_buf *b, bool has, uint32_t v)
{
    if (has) {
        jr_buf_printf(b, "%u", v);
    } else {
        jr_buf_puts(b, "-");
    }
}

/* The event in the words of the fixtures. */
static void describe(struct jr_buf *b, const struct jr_engine_event *ev)
{
    if (ev->type == JR_ENGINE_CLEARED) {
        jr_buf_puts(b, "cleared");
        return;
    }
    jr_buf_puts(b, ev->type == JR_ENGINE_STORED ? "stored " : "removed ");
    for (uint32_t i = 0; i < ev->n_hashes; i++) {
        jr_buf_printf(b, "%s%016llx", i > 0 ? "," : "", (unsigned long long)ev->hashes[i]);
    }
    if (ev->type == JR_ENGINE_REMOVED) {
        jr_buf_printf(b, " medium=%d group=", (int)ev->medium);
        put_u32_or_dash(b, ev->has_group, ev->group_idx);
        return;
    }
    jr_buf_puts(b, " parent=");
    if (ev->has_parent) {
        jr_buf_printf(b, "%016llx", (unsigned long long)ev->parent);
    } else {
        jr_buf_puts(b, "-");
    }
    jr_buf_printf(b, " tokens=%u:%016llx bigram=%d bs=%u lora=", ev->n_tokens,
                  (unsigned long long)fnv(ev->tokens, ev->n_tokens), ev->bigram, ev->block_size);
    put_u32_or_dash(b, ev->has_lora_id, ev->lora_id);
    jr_buf_puts(b, ",");
    put_str_or_dash(b, ev->lora_name);
    jr_buf_printf(b, " medium=%d salt=", (int)ev->medium);
    put_str_or_dash(b, ev->cache_salt);
    jr_buf_puts(b, " mm=");
    for (uint32_t i = 0; i < ev->n_mm; i++) {
        jr_buf_printf(b, "%s%u:%016llx", i > 0 ? "," : "", ev->mm[i].block,
                      (unsigned long long)ev->mm[i].hash);
    }
    jr_buf_printf(b, "%s opaque=%d group=", ev->n_mm > 0 ? "" : "-", ev->opaque_extra);
    put_u32_or_dash(b, ev->has_group, ev->group_idx);
    jr_buf_puts(b, " kind=");
    put_str_or_dash(b, ev->spec_kind);
}

static uint64_t xxh(const void *p, size_t n)
{
    return XXH3_64bits_withSeed(p, n, 1337);
}

/* engine hash → prefix hash of what a stream has stored, newest last. */
struct known {
    uint64_t engine[65536], prefix[65536];
    uint32_t n;
};
static struct known known;

static uint64_t prefix_of(uint64_t engine)
{
    for (uint32_t i = known.n; i-- > 0;) {
        if (known.engine[i] == engine) {
            return known.prefix[i];
        }
    }
    fail_msg("parent %016llx is not known", (unsigned long long)engine);
    return 0;
}

/* The hashes of the event's blocks, in the words of a V line. */
static void hash_blocks(struct jr_buf *b, const struct jr_engine_event *ev)
{
    uint64_t chain[2] = {ev->has_parent ? prefix_of(ev->parent) : 0, 0};
    for (uint32_t i = 0; i < ev->n_hashes; i++) {
        chain[1] = xxh(ev->tokens + (size_t)i * ev->block_size, (size_t)ev->block_size * 4);
        bool root = i == 0 && !ev->has_parent;
        chain[0] = root ? chain[1] : xxh(chain, sizeof chain);
        jr_buf_printf(b, "%s%016llx:%016llx", i > 0 ? " " : "", (unsigned long long)chain[1],
                      (unsigned long long)chain[0]);
        assert_true(known.n < 65536);
        known.engine[known.n] = ev->hashes[i];
        known.prefix[known.n++] = chain[0];
    }
}

static uint8_t payload[1 << 20];

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The engine's hashes by the plain rules: stored adds, removed takes away, cleared takes all. */
struct held {
    uint64_t engine[4096];
    uint32_t n;
};
static struct held held;

static uint32_t find_held(uint64_t hash)
{
    uint32_t i = 0;
    while (i < held.n && held.engine[i] != hash) {
        i++;
    }
    return i;
}

static void hold(const struct jr_engine_event *ev)
{
    if (ev->type == JR_ENGINE_CLEARED) {
        held.n = 0;
    }
    for (uint32_t i = 0; ev->type != JR_ENGINE_CLEARED && i < ev->n_hashes; i++) {
        uint32_t at = find_held(ev->hashes[i]);
        if (ev->type == JR_ENGINE_STORED && at == held.n) {
            assert_true(held.n < 4096);
            held.engine[held.n++] = ev->hashes[i];
        } else if (ev->type == JR_ENGINE_REMOVED && at < held.n) {
            held.engine[at] = held.engine[--held.n];
        }
    }
}

/* An F line: how many are held, and the prefix hashes they have. */
static void final_line(struct jr_buf *b)
{
    uint64_t prefix[4096];
    for (uint32_t i = 0; i < held.n; i++) {
        prefix[i] = prefix_of(held.engine[i]);
    }
    qsort(prefix, held.n, sizeof *prefix, compare_u64);
    jr_buf_printf(b, "F %u", held.n);
    for (uint32_t i = 0; i < held.n; i++) {
        if (i == 0 || prefix[i] != prefix[i - 1]) {
            jr_buf_printf(b, " %016llx", (unsigned long long)prefix[i]);
        }
    }
}

static uint32_t check_message(const char *line, struct jr_engine_batch *batch)
{
    struct jr_engines_message m = jr_engines_message(line, payload);
    jr_arena_reset(&arena);
    assert_int_equal(jr_engine_batch_decode(payload, m.n, &arena, batch, NULL), 0);
    assert_int_equal(batch->n_events, m.n_events);
    assert_int_equal(batch->bad_events, 0);
    assert_true(batch->ts == m.ts);
    assert_int_equal(batch->has_rank, strcmp(m.rank, "-") != 0);
    assert_int_equal(batch->dp_rank, strtoul(m.rank, NULL, 10)); /* "-" is 0 */
    return 0;                                                    /* the event that is next */
}

static void check_fixture(const char *name)
{
    struct jr_engines_file f = jr_engines_open(name);
    char *line;
    struct jr_engine_batch batch = {.n_events = 0};
    struct jr_buf words;
    uint32_t i = 0, n_batches = 0, n_vectors = 0, n_finals = 0;
    jr_buf_init(&words, 1 << 20);
    known.n = held.n = 0;
    while ((line = jr_engines_line(&f)) != NULL) {
        jr_buf_clear(&words);
        if (*line == 'B') {
            assert_int_equal(i, batch.n_events); /* the last one was seen to its end */
            i = check_message(line, &batch);
            n_batches++;
        } else if (*line == 'E') {
            assert_true(i < batch.n_events);
            hold(&batch.events[i]);
            describe(&words, &batch.events[i++]);
            assert_string_equal(jr_buf_str(&words), line + 2);
        } else if (*line == 'V') {
            hash_blocks(&words, &batch.events[i - 1]);
            assert_string_equal(jr_buf_str(&words), line + 2);
            n_vectors++;
        } else {
            final_line(&words);
            assert_string_equal(jr_buf_str(&words), line);
            n_finals++;
        }
    }
    bool running = strncmp(name, "publisher", 9) != 0;
    assert_true(n_batches > 0);
    assert_int_equal(n_vectors > 0, running);
    assert_int_equal(n_finals, running);
    jr_buf_deinit(&words);
    jr_engines_close(&f);
}

static const char *const fixtures[] = {
    "publisher-vllm-0.9.2",
    "publisher-vllm-0.11.0",
    "publisher-vllm-0.15.1",
    "publisher-vllm-0.20.2",
    "publisher-vllm-0.23.0",
    "publisher-vllm-0.24.0",
    "publisher-vllm-0.32.0",
    "publisher-vllm-0.33.0",
    "publisher-sglang-0.4.7",
    "publisher-sglang-0.5.9",
    "publisher-sglang-0.5.15",
    "publisher-sglang-0.5.19",
    "publisher-sglang-0.5.20",
    "publisher-sglang-0.5.21",
    "publisher-sglang-0.5.23",
    "vllm-0.15.1",
    "vllm-0.32.0",
    "vllm-0.32.0-bytes",
    "vllm-0.32.0-dp0",
    "vllm-0.32.0-dp1",
    "vllm-0.32.0-identical",
    "sglang-radix-0.5.9",
    "sglang-radix-0.5.23",
    "sglang-radix-0.5.23-eagle",
    "sglang-radix-0.5.23-dynamo",
};

static void test_real_engines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        check_fixture(fixtures[i]);
    }
}

static void test_load_stat(void **state)
{
    (void)state;
    struct jr_engines_file f = jr_engines_open("loadstat");
    char *line;
    while ((line = jr_engines_line(&f)) != NULL) {
        struct jr_engines_message m = jr_engines_message(line, payload);
        struct jr_engine_batch b;
        assert_int_equal(jr_engine_batch_decode(payload, m.n, &arena, &b, NULL), 0);
        assert_int_equal(b.n_events, 0);
        assert_int_equal(b.ignored_events, 1);
    }
    jr_engines_close(&f);
}

/* What the encoder writes of a decoded capture is the capture. SESSION: a field that is not ours. */
static void check_golden(const char *name, enum jr_engine_format format)
{
    struct jr_engines_file f = jr_engines_open(name);
    char *line;
    struct jr_buf out;
    uint32_t compared = 0;
    jr_buf_init(&out, 1 << 20);
    while ((line = jr_engines_line(&f)) != NULL) {
        if (*line != 'B') {
            continue;
        }
        size_t n = jr_engines_message(line, payload).n;
        struct jr_engine_batch b;
        jr_arena_reset(&arena);
        assert_int_equal(jr_engine_batch_decode(payload, n, &arena, &b, NULL), 0);
        if (memmem(payload, n, "session_id", 10) != NULL) {
            continue;
        }
        jr_buf_clear(&out);
        jr_engine_batch_encode(&out, &b, format);
        assert_int_equal(out.err, 0);
        assert_int_equal(out.n, n);
        assert_memory_equal(out.p, payload, n);
        compared++;
    }
    assert_true(compared > 50);
    jr_buf_deinit(&out);
    jr_engines_close(&f);
}

static void test_encoder_is_vllm(void **state)
{
    (void)state;
    check_golden("vllm-0.32.0", JR_ENGINE_VLLM_MAP);
    check_golden("vllm-0.15.1", JR_ENGINE_VLLM_POSITIONAL);
}

/* ["BlockStored", [h], nil, tokens…, bs] with `extra` behind it, written by hand. */
static void put_stored(struct jr_buf *b, uint64_t h, uint32_t n_tokens, uint32_t bs)
{
    jr_msgpack_put_array(b, 5);
    jr_msgpack_put_str(b, "BlockStored", 11);
    jr_msgpack_put_array(b, 1);
    jr_msgpack_put_uint(b, h);
    jr_msgpack_put_nil(b);
    jr_msgpack_put_array(b, n_tokens);
    for (uint32_t i = 0; i < n_tokens; i++) {
        jr_msgpack_put_uint(b, i);
    }
    jr_msgpack_put_uint(b, bs);
}

static void put_head(struct jr_buf *b, uint32_t n_events)
{
    jr_msgpack_put_array(b, 2); /* no rank, as vLLM 0.9.0 */
    jr_msgpack_put_float(b, 1.5);
    jr_msgpack_put_array(b, n_events);
}

static void test_bad_events_are_left_out(void **state)
{
    (void)state;
    struct jr_buf b;
    struct jr_engine_batch batch;
    jr_buf_init(&b, 4096);
    put_head(&b, 8);
    put_stored(&b, 1, 4, 4);
    put_stored(&b, 2, 3, 4);     /* too few tokens */
    put_stored(&b, 3, 4, 0);     /* no block size */
    jr_msgpack_put_uint(&b, 7);  /* no event at all */
    jr_msgpack_put_array(&b, 2); /* a text where hashes should be */
    jr_msgpack_put_str(&b, "BlockRemoved", 12);
    jr_msgpack_put_str(&b, "x", 1);
    jr_msgpack_put_array(&b, 2); /* a kind we do not know */
    jr_msgpack_put_str(&b, "Later", 5);
    jr_msgpack_put_nil(&b);
    jr_msgpack_put_map(&b, 1); /* a map without its type */
    jr_msgpack_put_str(&b, "block_size", 10);
    jr_msgpack_put_uint(&b, 4);
    put_stored(&b, 9, 8, 4);
    assert_int_equal(jr_engine_batch_decode(b.p, b.n, &arena, &batch, NULL), 0);
    assert_int_equal(batch.n_events, 2);
    assert_int_equal(batch.bad_events, 5);
    assert_int_equal(batch.ignored_events, 1);
    assert_false(batch.has_rank);
    assert_int_equal(batch.events[0].hashes[0], 1);
    assert_int_equal(batch.events[1].hashes[0], 9);
    jr_buf_deinit(&b);
}

static void test_no_batch(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {{"", 0},         {"\xc0", 1},         {"\x90", 1},
               {"\x92\x01", 2}, {"\x92\x01\x02", 3}, {"\x93\x01\x90\xa1x", 5},
               {"\xc1", 1},     {"\x80", 1},         {"\x92\xcb\x00", 3}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct jr_engine_batch b;
        struct jr_errmsg e = {""};
        assert_int_equal(jr_engine_batch_decode(bad[i].p, bad[i].n, &arena, &b, &e), JR_EPROTO);
        assert_true(e.text[0] != '\0');
    }
}

/* extra_keys in all their forms, through the tagged layout. */
static void test_extra_keys(void **state)
{
    (void)state;
    static const char hex[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct jr_buf b;
    struct jr_engine_batch batch;
    jr_buf_init(&b, 4096);
    put_head(&b, 1);
    jr_msgpack_put_map(&b, 6);
    jr_msgpack_put_str(&b, "extra_keys", 10); /* before lora_name, on which it depends */
    jr_msgpack_put_array(&b, 2);
    jr_msgpack_put_array(&b, 4);
    jr_msgpack_put_str(&b, "ada", 3);
    jr_msgpack_put_array(&b, 2);
    jr_msgpack_put_str(&b, hex, 64);
    jr_msgpack_put_int(&b, -13);
    jr_msgpack_put_str(&b, hex, 64);
    jr_msgpack_put_str(&b, "salt", 4);
    jr_msgpack_put_array(&b, 1);
    jr_msgpack_put_array(&b, 2);
    jr_msgpack_put_str(&b, "mm-hash-1", 9);
    jr_msgpack_put_uint(&b, 3);
    jr_msgpack_put_str(&b, "type", 4);
    jr_msgpack_put_str(&b, "BlockStored", 11);
    jr_msgpack_put_str(&b, "block_hashes", 12);
    jr_msgpack_put_array(&b, 2);
    jr_msgpack_put_uint(&b, 1);
    jr_msgpack_put_int(&b, -1);
    jr_msgpack_put_str(&b, "token_ids", 9);
    jr_msgpack_put_array(&b, 0);
    jr_msgpack_put_str(&b, "block_size", 10);
    jr_msgpack_put_uint(&b, 16);
    jr_msgpack_put_str(&b, "lora_name", 9);
    jr_msgpack_put_str(&b, "ada", 3);
    assert_int_equal(jr_engine_batch_decode(b.p, b.n, &arena, &batch, NULL), 0);
    assert_int_equal(batch.n_events, 1);
    const struct jr_engine_event *ev = &batch.events[0];
    assert_true(jr_str_eq(ev->cache_salt, "salt"));
    assert_int_equal(ev->n_mm, 2);
    assert_true(ev->mm[1].hash == UINT64_C(0x0011223344556677) && ev->mm[1].block == 0);
    assert_true(ev->opaque_extra); /* an identifier that is no hash */
    assert_true(ev->hashes[1] == UINT64_MAX);
    jr_buf_deinit(&b);
}

static void test_main_group(void **state)
{
    (void)state;
    struct jr_engine_group g = {.known = false};
    struct jr_engine_event ev = {.type = JR_ENGINE_REMOVED};
    assert_true(jr_engine_event_is_main(&ev, &g));
    ev.has_group = true;
    ev.group_idx = 1;
    assert_false(jr_engine_event_is_main(&ev, &g));
    ev.type = JR_ENGINE_STORED;
    ev.spec_kind = jr_str_of("full_attention", 14);
    assert_true(jr_engine_event_is_main(&ev, &g)); /* learns that group 1 is the main one */
    ev.type = JR_ENGINE_REMOVED;
    ev.spec_kind.n = 0;
    assert_true(jr_engine_event_is_main(&ev, &g));
    ev.medium = JR_MEDIUM_CPU;
    assert_false(jr_engine_event_is_main(&ev, &g));
    assert_true(jr_engine_event_is_main_group(&ev, &g));
    ev = (struct jr_engine_event){.type = JR_ENGINE_STORED, .has_group = true};
    ev.spec_kind = jr_str_of("sliding_window", 14);
    assert_false(jr_engine_event_is_main(&ev, &g));
}

/* vLLM from 0.26 on, SGLang from 0.5.22 on; the live capture's topic is empty. */
static bool replay_has_topic(const char *engine)
{
    return strcmp(engine, "vllm-0.33.0") == 0 || strcmp(engine, "sglang-0.5.23") == 0;
}

static void test_replay_frames(void **state)
{
    (void)state;
    struct jr_engines_file f = jr_engines_open("replay");
    char *line;
    char engine[64] = "";
    uint32_t ends = 0, replies = 0;
    while ((line = jr_engines_line(&f)) != NULL) {
        struct jr_str frames[8];
        uint32_t n = 0;
        size_t used = 0;
        if (*line == 'C') {
            sscanf(line, "C %63s", engine);
            continue;
        }
        char *save = NULL;
        for (char *w = strtok_r(line + 2, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
            size_t k = *w == '-' ? 0 : jr_engines_base64(w, strlen(w), payload + used);
            frames[n++] = jr_str_of((char *)payload + used, k);
            used += k;
        }
        if (*line == 'S') {
            uint64_t start;
            bool dealer = n == 2;
            assert_int_equal(jr_engine_replay_request_parse(frames, n, &start),
                             dealer ? 0 : JR_EPROTO);
            continue;
        }
        struct jr_engine_msg m;
        replies++;
        assert_int_equal(jr_engine_replay_parse(frames, n, &m), 0);
        ends += m.end ? 1 : 0;
        assert_int_equal(m.topic.n > 0, replay_has_topic(engine) && !m.end);
        if (!m.end) {
            struct jr_engine_batch b;
            assert_int_equal(jr_engine_batch_decode(m.payload.p, m.payload.n, &arena, &b, NULL), 0);
        }
        if (n > 2 && frames[0].n == 0) { /* our own frames are the engine's */
            struct jr_str out[4];
            uint8_t seq[JR_ENGINE_SEQ_BYTES];
            assert_int_equal(jr_engine_replay_reply(out, seq, n == 4, &m), n);
            for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(out[i].n, frames[i].n);
                assert_true(out[i].n == 0 || memcmp(out[i].p, frames[i].p, out[i].n) == 0);
            }
        }
    }
    assert_true(ends >= 4 && replies > ends);
    jr_engines_close(&f);
}

static void test_live_frames(void **state)
{
    (void)state;
    uint8_t seq[JR_ENGINE_SEQ_BYTES];
    struct jr_engine_msg m;
    jr_engine_seq_write(seq, UINT64_C(0x0102030405060708));
    assert_int_equal(seq[0], 1);
    struct jr_str frames[3] = {jr_str_of("kv", 2), jr_str_of((char *)seq, 8), jr_str_of("p", 1)};
    assert_int_equal(jr_engine_live_parse(frames, 3, &m), 0);
    assert_true(m.seq == UINT64_C(0x0102030405060708) && m.topic.n == 2 && m.payload.n == 1);
    assert_int_equal(jr_engine_live_parse(frames, 2, &m), JR_EPROTO);
    frames[1].n = 4;
    assert_int_equal(jr_engine_live_parse(frames, 3, &m), JR_EPROTO);
    uint64_t start = 1;
    struct jr_str req[2] = {jr_str_of("", 0), jr_str_of("", 0)};
    assert_int_equal(jr_engine_replay_request_parse(req, 2, &start), 0);
    assert_int_equal(start, 0);
}

/* Copies to the heap, so that a read past the end is seen by the sanitizer. */
static int decode_copy(const uint8_t *p, size_t n)
{
    uint8_t *copy = jr_xalloc(n > 0 ? n : 1);
    struct jr_engine_batch b;
    memcpy(copy, p, n);
    jr_arena_reset(&arena);
    int rv = jr_engine_batch_decode(copy, n, &arena, &b, NULL);
    if (rv == 0) { /* what is promised of events holds */
        for (uint32_t i = 0; i < b.n_events; i++) {
            const struct jr_engine_event *ev = &b.events[i];
            assert_true(ev->type != JR_ENGINE_STORED || ev->n_tokens == 0 ||
                        ev->n_tokens >= (uint64_t)ev->n_hashes * ev->block_size);
            assert_true(ev->n_mm == 0 || ev->mm[ev->n_mm - 1].block < ev->n_hashes);
            (void)fnv(ev->tokens, ev->n_tokens);
        }
    }
    jr_xfree(copy);
    return rv;
}

static void test_truncated_and_mutated(void **state)
{
    (void)state;
    struct jr_rng rng;
    jr_rng_init(&rng, jr_test_seed(), 1);
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f += 3) {
        struct jr_engines_file file = jr_engines_open(fixtures[f]);
        char *line;
        while ((line = jr_engines_line(&file)) != NULL) {
            if (*line != 'B') {
                continue;
            }
            size_t n = jr_engines_message(line, payload).n;
            assert_int_equal(decode_copy(payload, jr_rng_below(&rng, (uint32_t)n)), JR_EPROTO);
            for (int k = 0; k < 8; k++) {
                payload[jr_rng_below(&rng, (uint32_t)n)] = (uint8_t)jr_rng_u32(&rng);
                (void)decode_copy(payload, n);
            }
        }
        jr_engines_close(&file);
    }
}

static int setup(void **state)
{
    (void)state;
    jr_arena_init(&arena, 64 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jr_arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_engines),    cmocka_unit_test(test_load_stat),
        cmocka_unit_test(test_encoder_is_vllm), cmocka_unit_test(test_bad_events_are_left_out),
        cmocka_unit_test(test_no_batch),        cmocka_unit_test(test_extra_keys),
        cmocka_unit_test(test_main_group),      cmocka_unit_test(test_replay_frames),
        cmocka_unit_test(test_live_frames),     cmocka_unit_test(test_truncated_and_mutated),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
