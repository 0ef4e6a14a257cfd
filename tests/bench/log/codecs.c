/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs in memory: CPU time of the process, median of the runs. */
#include "base/mem.h"
#include "core/state.h"
#include "load.h"
#include "log.h"
#include "wire/event_codec.h"
#include "wire/snapshot_codec.h"
#include <stdio.h>
#include <string.h>

#define RUNS_MAX    99
#define EVENTS      65536 /* messages of one measurement */
#define IMAGE_SLICE 4096

/* JetStream's workers of the peer, decoded by its own library on one thread: million blocks a
 * second, measured once on a machine like this one. */
#define PEER_JSON_1 2.05
#define PEER_JSON_8 4.7

/* ---- events ---- */

struct payloads {
    struct jr_buf text;
    size_t *at; /* n + 1 offsets */
    uint64_t n;
    uint32_t run;
    bool dynamo;
};

static void payloads_make(struct payloads *p, uint64_t n, uint32_t run, bool dynamo)
{
    *p = (struct payloads){.n = n, .run = run, .dynamo = dynamo};
    jr_buf_init(&p->text, SIZE_MAX / 2);
    p->at = jr_xalloc((n + 1) * sizeof *p->at);
    for (uint64_t i = 0; i < n; i++) {
        p->at[i] = p->text.n;
        load_payload(i, run, dynamo, &p->text);
    }
    p->at[n] = p->text.n;
}

static void payloads_free(struct payloads *p)
{
    jr_buf_deinit(&p->text);
    jr_xfree(p->at);
}

/* Decodes all of it, arenas reused as a reader's would be. Returns how many blocks are wrong. */
static uint64_t decode_all(const struct payloads *p, struct jr_event_decoder *d, bool check)
{
    struct jr_str token = p->dynamo ? jr_str_of(JR_SUBJECT_DYNAMO, strlen(JR_SUBJECT_DYNAMO))
                                    : jr_str_of(JR_SUBJECT_BATCH, strlen(JR_SUBJECT_BATCH));
    struct jr_arena arena;
    uint64_t wrong = 0;

    jr_arena_init(&arena, JR_EVENT_ARENA_MAX);
    for (uint64_t i = 0; i < p->n; i++) {
        struct jr_log_msg m = {0};
        const uint8_t *text = p->text.p + p->at[i];
        size_t n = p->at[i + 1] - p->at[i];
        jr_arena_reset(&arena);
        int rv = jr_event_decode(d, token, text, n, NULL, &arena, &m);
        const struct jr_kv_batch *b = &m.u.batch;
        bool good =
            rv == 0 && m.kind == JR_LOG_KIND_BATCH && b->n_events == 1 && b->events[0].n == p->run;
        if (good && check) {
            struct load_message want;
            load_message(&want, i, p->run, p->dynamo);
            good = b->worker_id == want.batch.worker_id && b->first_id == want.batch.first_id &&
                   b->incarnation == want.batch.incarnation &&
                   b->events[0].parent_hash == want.event.parent_hash &&
                   memcmp(b->events[0].blocks, want.blocks, p->run * sizeof *want.blocks) == 0;
        }
        wrong += good ? 0 : p->run;
    }
    jr_arena_deinit(&arena);
    return wrong;
}

/* What moving the same bytes costs. */
static double memcpy_rate(const struct payloads *p, unsigned runs)
{
    double rates[RUNS_MAX];
    uint8_t *to = jr_xalloc(p->text.n);

    for (unsigned r = 0; r < runs; r++) {
        uint64_t t = jr_bench_cpu_ns();
        for (uint64_t i = 0; i < p->n; i++)
            memcpy(to + p->at[i], p->text.p + p->at[i], p->at[i + 1] - p->at[i]);
        rates[r] = (double)(p->n * p->run) * 1e3 / (double)(jr_bench_cpu_ns() - t);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    jr_xfree(to);
    return jr_bench_median(rates, runs);
}

static void decode_row(struct log_bench *b, const char *name, uint32_t run, bool dynamo,
                       double peer, double goal)
{
    struct jr_event_decoder *d = jr_event_decoder_create();
    struct payloads p;
    double rates[RUNS_MAX];

    payloads_make(&p, EVENTS, run, dynamo);
    uint64_t wrong = decode_all(&p, d, true);
    for (unsigned r = 0; r < b->runs; r++) {
        uint64_t t = jr_bench_cpu_ns();
        wrong += decode_all(&p, d, false);
        rates[r] = (double)(p.n * run) * 1e3 / (double)(jr_bench_cpu_ns() - t);
    }
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = name,
                                                   .unit = "M blocks/s",
                                                   .measured = jr_bench_median(rates, b->runs),
                                                   .peer = peer,
                                                   .floor = memcpy_rate(&p, b->runs),
                                                   .goal = peer > 0 ? goal : 0,
                                                   .least = peer > 0 ? 0 : goal});
    jr_bench_answers(&b->bench, name, p.n * run, wrong);
    payloads_free(&p);
    jr_event_decoder_destroy(d);
}

/* ---- snapshots ---- */

struct core {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *state;
};

static void core_init(struct core *c)
{
    jr_mem_init(&c->mem);
    jr_members_init(&c->members, &c->mem);
    if (jr_state_create(&c->mem, &c->members, &c->state) < 0)
        log_bench_die("state", "no memory");
}

static void core_deinit(struct core *c)
{
    jr_state_destroy(c->state);
    jr_members_deinit(&c->members);
    jr_mem_deinit(&c->mem);
}

static void core_fill(struct core *c, uint64_t n_messages)
{
    struct load_message m;
    uint32_t effect;

    for (uint64_t i = 0; i < n_messages; i++) {
        load_message(&m, i, LOAD_RUN_MAX, false);
        struct jr_log_msg msg = {
            .seq = i + 1, .time_ns = (int64_t)i + 1, .kind = JR_LOG_KIND_BATCH, .u.batch = m.batch};
        if (jr_state_apply(c->state, &msg, &effect) < 0)
            log_bench_die("state", "a message was not applied");
    }
}

static struct jr_image *export_image(struct core *c, uint64_t *ret_longest_ns)
{
    struct jr_state_export x;
    int rv = JR_EAGAIN;

    if (jr_state_export_begin(c->state, &x) < 0)
        log_bench_die("image", "no memory");
    while (rv == JR_EAGAIN) {
        uint64_t t = jr_bench_cpu_ns();
        rv = jr_state_export_step(c->state, &x, IMAGE_SLICE);
        t = jr_bench_cpu_ns() - t;
        if (t > *ret_longest_ns)
            *ret_longest_ns = t;
    }
    if (rv < 0)
        log_bench_die("image", jr_err_name(rv));
    struct jr_image *image = jr_state_export_take(&x);
    jr_image_arrange(image);
    return image;
}

/* Frame by frame, as the upload takes them. */
static void encode_image(struct jr_image *image, struct jr_buf *all)
{
    struct jr_snapshot_encoder *e;
    struct jr_buf frame;
    bool done = false;

    if (jr_snapshot_encoder_create(image, &e) < 0)
        log_bench_die("snapshot", "not encodable");
    jr_buf_init(&frame, (size_t)8 << 20);
    while (!done) {
        if (jr_snapshot_encoder_step(e, &frame, &done) < 0)
            log_bench_die("snapshot", "encoding failed");
        if (all)
            jr_buf_put(all, frame.p, frame.n);
        jr_buf_clear(&frame);
    }
    jr_buf_deinit(&frame);
    jr_snapshot_encoder_destroy(e);
}

static double s_since(uint64_t cpu_ns)
{
    return (double)(jr_bench_cpu_ns() - cpu_ns) / 1e9;
}

/* Returns false when what comes out is not what went in. */
static bool restore(const struct jr_buf *bytes, const struct core *want, double *ret_decode_s,
                    double *ret_apply_s)
{
    struct core c;
    struct jr_image *image;
    struct jr_errmsg e = {""};
    struct jr_state_import x;
    int rv;

    core_init(&c);
    uint64_t t = jr_bench_cpu_ns();
    if (jr_snapshot_decode(bytes->p, bytes->n, &image, &e) < 0)
        log_bench_die("snapshot", e.text);
    *ret_decode_s = s_since(t);
    t = jr_bench_cpu_ns();
    rv = jr_state_import_begin(c.state, &x, image);
    if (rv == 0)
        rv = JR_EAGAIN;
    while (rv == JR_EAGAIN)
        rv = jr_state_import_step(c.state, &x, IMAGE_SLICE);
    jr_state_import_end(c.state, &x);
    *ret_apply_s = s_since(t);
    bool same = rv == 0 && jr_state_digest_blocks(c.state) == jr_state_digest_blocks(want->state) &&
                jr_state_digest_table(c.state) == jr_state_digest_table(want->state);
    jr_image_destroy(image);
    core_deinit(&c);
    return same;
}

void log_bench_snapshot(struct log_bench *b)
{
    struct core c;
    struct jr_buf bytes;
    uint64_t longest_ns = 0, n = b->n_entries / LOAD_RUN_MAX, wrong = 0;
    double image_s[RUNS_MAX], encode_s[RUNS_MAX], decode_s[RUNS_MAX], apply_s[RUNS_MAX];
    double both_s[RUNS_MAX], all_s[RUNS_MAX];

    core_init(&c);
    uint64_t t = jr_bench_cpu_ns();
    core_fill(&c, n);
    double fill_s = s_since(t);
    jr_buf_init(&bytes, SIZE_MAX / 2);
    for (unsigned r = 0; r < b->runs; r++) {
        t = jr_bench_cpu_ns();
        struct jr_image *image = export_image(&c, &longest_ns);
        image_s[r] = s_since(t);
        jr_buf_clear(&bytes);
        encode_image(image, &bytes);
        t = jr_bench_cpu_ns();
        encode_image(image, NULL);
        encode_s[r] = s_since(t);
        jr_image_destroy(image);
        wrong += restore(&bytes, &c, &decode_s[r], &apply_s[r]) ? 0 : n * LOAD_RUN_MAX;
        both_s[r] = image_s[r] + encode_s[r];
        all_s[r] = decode_s[r] + apply_s[r];
    }
    jr_bench_add(&b->bench,
                 &(struct jr_bench_row){.name = "batches applied, in memory",
                                        .unit = "M blocks/s",
                                        .measured = (double)(n * LOAD_RUN_MAX) / 1e6 / fill_s});
    log_bench_bound(b, "snapshot of 10 M: bytes", "MB", (double)bytes.n / 1e6, 260 * b->scale,
                    true);
    log_bench_bound(b, "snapshot of 10 M: image + encode", "s CPU",
                    jr_bench_median(both_s, b->runs), 1.0 * b->scale, true);
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = "  of it the image",
                                                   .unit = "s CPU",
                                                   .measured = jr_bench_median(image_s, b->runs)});
    log_bench_bound(b, "  longest slice of the image", "ms CPU", (double)longest_ns / 1e6, 2, true);
    log_bench_bound(b, "restore 10 M: decode + apply", "s CPU", jr_bench_median(all_s, b->runs),
                    1.0 * b->scale, true);
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = "  of it the decoding",
                                                   .unit = "s CPU",
                                                   .measured = jr_bench_median(decode_s, b->runs)});
    jr_bench_answers(&b->bench, "entries restored", n * LOAD_RUN_MAX * b->runs, wrong);
    jr_buf_deinit(&bytes);
    core_deinit(&c);
}

void log_bench_codecs(struct log_bench *b)
{
    decode_row(b, "JSON event decode, 1 block", 1, true, PEER_JSON_1, 3);
    decode_row(b, "JSON event decode, 8 blocks", 8, true, PEER_JSON_8, 3);
    decode_row(b, "event batch decode, 64 blocks", 64, false, 0, 60);
}
