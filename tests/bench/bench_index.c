/* SPDX-License-Identifier: Apache-2.0 */
/* The prefix index on one op stream of index/README.md: one measurement in one process.
 *
 *   bench_index [--private-hashes] [--floor] [--huge-pages] OPS apply|lookup|mixed|waits
 *
 * Prints a line of JSON: CPU time of the index's thread and, beside it, of the warmer that touches
 * memory for it (with --huge-pages), million block operations a second, whether the answers are those
 * of the stream's header, bytes an entry; for `waits` (mixed) percentiles of a lookup in µs. The
 * floor is what a page of code gets: one hash map of block hashes a worker, asked block by block.
 * --private-hashes gives every worker its own block hashes, as engines do. index/run.py runs this in
 * turn with the peer. */
#include "base/map.h"
#include "base/mem.h"
#include "bench.h"
#include "core/hash.h"
#include "core/index.h"
#include "io/warmer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS_MAX   99
#define GOLDEN     UINT64_C(0x9e3779b97f4a7c15)
#define HEADER     128
#define OP_LOOKUP  1
#define OP_STORED  2
#define OP_REMOVED 3

/* A record as it lies in the file; what follows it is its payload. */
struct op {
    uint32_t kind, worker, n, has_parent;
    uint64_t parent;
    uint64_t payload[];
};

struct stream {
    const char *name; /* borrows */
    uint8_t *bytes;   /* owned */
    size_t size;
    uint32_t workers;
    uint64_t ops, lookups, lookup_blocks, event_blocks, resident, sum_mixed, sum_after;
    uint32_t blocks_max; /* of one lookup */
    size_t *lookups_at;  /* owned */
};

enum phase { PHASE_APPLY, PHASE_LOOKUP, PHASE_MIXED };

/* What is measured: our index, or the floor. */
struct subject {
    bool is_floor;
    struct jr_mem mem;
    struct jr_index *index;
    struct jr_index_match match;
    struct jr_map *maps; /* floor: block hash -> 1, by worker */
    uint32_t workers;
    bool private_hashes;
    uint64_t *prefix;
    struct jr_warmer *warmer; /* NULL: small pages */
};

static uint64_t thread_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t wall_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what, const char *name)
{
    (void)fprintf(stderr, "bench_index: %s: %s\n", name, what);
    exit(1);
}

static uint64_t mix(uint64_t x)
{
    return jr_mix64(x + GOLDEN);
}

/* ---- streams --------------------------------------------------------------------------------- */

static size_t op_words(const struct op *op)
{
    return (size_t)op->n * (op->kind == OP_STORED ? 2 : 1);
}

static struct op *op_at(const struct stream *s, size_t at)
{
    return (struct op *)(void *)(s->bytes + at);
}

static size_t op_after(const struct stream *s, size_t at)
{
    return at + sizeof(struct op) + op_words(op_at(s, at)) * sizeof(uint64_t);
}

static uint64_t header_u64(const struct stream *s, size_t at)
{
    uint64_t v;
    memcpy(&v, s->bytes + at, sizeof v);
    return v;
}

static void stream_read(struct stream *s, const char *path)
{
    FILE *f = fopen(path, "rb");
    const char *slash = strrchr(path, '/');
    uint64_t seen = 0;
    long size = 0;

    s->name = slash ? slash + 1 : path;
    if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < HEADER)
        die("cannot be read", path);
    s->size = (size_t)size;
    s->bytes = jr_xalloc(s->size);
    rewind(f);
    if (fread(s->bytes, 1, s->size, f) != s->size || memcmp(s->bytes, "JRIXOPS1", 8) != 0)
        die("is not an op stream", path);
    (void)fclose(f);
    memcpy(&s->workers, s->bytes + 16, sizeof s->workers);
    s->ops = header_u64(s, 24);
    s->lookups = header_u64(s, 32);
    s->lookup_blocks = header_u64(s, 40);
    s->event_blocks = header_u64(s, 56) + header_u64(s, 72);
    s->resident = header_u64(s, 80);
    s->sum_mixed = header_u64(s, 88);
    s->sum_after = header_u64(s, 96);
    s->lookups_at = jr_xalloc((s->lookups + 1) * sizeof *s->lookups_at);
    for (size_t at = HEADER, i = 0; i < s->ops; i++, at = op_after(s, at)) {
        if (at + sizeof(struct op) > s->size || op_after(s, at) > s->size)
            die("is truncated", path);
        if (op_at(s, at)->kind != OP_LOOKUP)
            continue;
        if (op_at(s, at)->n > s->blocks_max)
            s->blocks_max = op_at(s, at)->n;
        if (seen == s->lookups)
            die("has more lookups than it says", path);
        s->lookups_at[seen++] = at;
    }
    if (seen != s->lookups)
        die("has fewer lookups than it says", path);
}

/* Engines do not name a block alike: rewrite the block hashes of events, prefixes stay. */
static void stream_make_private(struct stream *s)
{
    for (size_t at = HEADER, i = 0; i < s->ops; i++, at = op_after(s, at)) {
        struct op *op = op_at(s, at);
        uint64_t salt = mix((uint64_t)op->worker * 77777 + 13);
        size_t step = op->kind == OP_STORED ? 2 : 1;

        if (op->kind == OP_LOOKUP)
            continue;
        for (size_t k = 0; k < op_words(op); k += step)
            op->payload[k] = mix(op->payload[k] ^ salt);
        op->parent = mix(op->parent ^ salt);
    }
}

/* ---- subjects -------------------------------------------------------------------------------- */

static void subject_init(struct subject *x, const struct stream *s, bool is_floor, bool is_warm)
{
    memset(x, 0, sizeof *x);
    x->is_floor = is_floor;
    x->workers = s->workers;
    x->prefix = jr_xalloc((s->blocks_max + 1) * sizeof *x->prefix);
    jr_mem_init(&x->mem);
    if (is_warm && !is_floor) {
        if (jr_warmer_create(&x->warmer) < 0)
            die("no thread for the warmer", s->name);
        struct jr_pages_warmer pages = jr_warmer_pages(x->warmer);
        jr_mem_warm(&x->mem, &pages, JR_MEM_WARM_FROM);
    }
    jr_index_match_init(&x->match, &x->mem);
    if (is_floor) {
        x->maps = jr_xalloc(s->workers * sizeof *x->maps);
        for (uint32_t w = 0; w < s->workers; w++)
            jr_map_init(&x->maps[w], &x->mem);
        return;
    }
    if (jr_index_create(&x->mem, 0, &x->index) < 0)
        die("out of memory", s->name);
    for (uint32_t w = 0; w < s->workers; w++) {
        if (jr_index_add_member(x->index, w, w, 0) < 0)
            die("out of memory", s->name);
    }
}

static void subject_deinit(struct subject *x)
{
    for (uint32_t w = 0; x->is_floor && w < x->workers; w++)
        jr_map_deinit(&x->maps[w]);
    jr_xfree(x->maps);
    jr_xfree(x->prefix);
    jr_index_match_deinit(&x->match);
    jr_index_destroy(x->index);
    jr_mem_deinit(&x->mem);
    jr_warmer_destroy(x->warmer);
}

static void subject_event(struct subject *x, const struct op *op)
{
    struct jr_map *map = x->is_floor ? &x->maps[op->worker] : NULL;
    int rv = 0;

    if (op->kind == OP_STORED && x->is_floor) {
        for (uint32_t i = 0; i < op->n; i++)
            rv |= jr_map_put(map, op->payload[2 * i], 1);
    } else if (op->kind == OP_STORED) {
        rv = jr_index_store(x->index, op->worker, op->has_parent != 0, op->parent,
                            (const struct jr_kv_block *)(const void *)op->payload, op->n);
    } else if (x->is_floor) {
        for (uint32_t i = 0; i < op->n; i++)
            (void)jr_map_del(map, op->payload[i], NULL);
    } else {
        (void)jr_index_remove(x->index, op->worker, op->payload, op->n);
    }
    if (rv < 0)
        die("an event was refused", "index");
}

/* As events come in batches: the lines of one that is a few further on are fetched. */
static void subject_fetch(struct subject *x, const struct op *op)
{
    struct jr_kv_event e = {.type = op->kind == OP_STORED ? JR_KV_STORED : JR_KV_REMOVED,
                            .blocks = (const void *)op->payload,
                            .hashes = op->payload,
                            .n = op->n};

    if (x->is_floor || op->kind == OP_LOOKUP)
        return;
    jr_index_fetch(x->index, op->worker, &e);
}

static uint64_t score_sum(uint64_t lookup, uint32_t worker, uint32_t score)
{
    return mix(mix(lookup * 65536 + worker) + score);
}

/* Checksum of one lookup. Hashing the chain is part of it. ret_ns: NULL, or the time of the query. */
static uint64_t subject_lookup(struct subject *x, const struct op *op, uint64_t number,
                               uint64_t *ret_ns)
{
    uint64_t sum = 0;

    if (!x->is_floor) {
        uint64_t begin = ret_ns ? wall_ns() : 0;
        if (jr_index_match_local(x->index, op->payload, op->n, &x->match) < 0)
            die("out of memory", "lookup");
        if (ret_ns)
            *ret_ns = wall_ns() - begin;
        for (uint32_t i = 0; i < x->match.n; i++)
            sum += score_sum(number, x->match.v[i].member, x->match.v[i].blocks);
        return sum;
    }
    jr_hash_prefix(op->payload, op->n, x->prefix);
    for (uint32_t w = 0; w < x->workers; w++) {
        uint64_t salt = mix((uint64_t)w * 77777 + 13);
        uint32_t score = 0;
        while (score < op->n &&
               jr_map_get(&x->maps[w],
                          x->private_hashes ? mix(x->prefix[score] ^ salt) : x->prefix[score],
                          NULL))
            score++;
        if (score > 0)
            sum += score_sum(number, w, score);
    }
    return sum;
}

static uint64_t run_lookups(struct subject *x, const struct stream *s)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < s->lookups; i++)
        sum += subject_lookup(x, op_at(s, s->lookups_at[i]), i, NULL);
    return sum;
}

/* waits: NULL, or the time of each lookup in ns. */
static uint64_t run(struct subject *x, const struct stream *s, enum phase phase, uint64_t *waits)
{
    uint64_t sum = 0, lookups = 0;

    if (phase == PHASE_LOOKUP)
        return run_lookups(x, s);
    size_t ahead = HEADER;
    uint64_t fetched = 0;
    for (size_t at = HEADER, i = 0; i < s->ops; i++, at = op_after(s, at)) {
        const struct op *op = op_at(s, at);
        for (; fetched < s->ops && fetched < i + JR_INDEX_EVENTS_AHEAD; fetched++) {
            subject_fetch(x, op_at(s, ahead));
            ahead = op_after(s, ahead);
        }
        if (op->kind != OP_LOOKUP) {
            subject_event(x, op);
        } else if (phase == PHASE_MIXED) {
            sum += subject_lookup(x, op, lookups, waits ? &waits[lookups] : NULL);
            lookups++;
        }
    }
    return sum;
}

/* ---- one measurement ------------------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct mode {
    const char *name;
    enum phase phase;
    bool waits; /* each lookup is timed, which costs time itself */
};

static const struct mode modes[] = {
    {"apply", PHASE_APPLY, false},
    {"lookup", PHASE_LOOKUP, false},
    {"mixed", PHASE_MIXED, false},
    {"waits", PHASE_MIXED, true},
};

static const struct mode *mode_named(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    }
    die("no such mode", name);
    return NULL;
}

static double wait_us(const uint64_t *sorted, uint64_t n, unsigned percent)
{
    return n > 0 ? (double)sorted[n * percent / 100] / 1000 : 0;
}

/* Prints one line. Returns whether the answers are right. */
static bool measure(struct subject *x, const struct stream *s, const struct mode *m)
{
    uint64_t blocks = (m->phase != PHASE_LOOKUP ? s->event_blocks : 0) +
                      (m->phase != PHASE_APPLY ? s->lookup_blocks : 0);
    uint64_t *waits = m->waits ? jr_xalloc((s->lookups + 1) * sizeof *waits) : NULL;
    uint64_t begin, all_begin, ns, all_ns, sum;
    bool ok = true;

    if (m->phase == PHASE_LOOKUP)
        (void)run(x, s, PHASE_APPLY, NULL);
    all_begin = jr_bench_cpu_ns();
    begin = thread_ns();
    sum = run(x, s, m->phase, waits);
    ns = thread_ns() - begin;
    all_ns = jr_bench_cpu_ns() - all_begin;
    if (m->phase == PHASE_LOOKUP)
        ok = sum == s->sum_after;
    else if (m->phase == PHASE_MIXED)
        ok = sum == s->sum_mixed;
    if (!x->is_floor)
        ok = ok && jr_index_entries(x->index) == s->resident;
    if (waits)
        qsort(waits, s->lookups, sizeof *waits, compare_u64);
    printf("{\"mode\":\"%s\",\"cpu_s\":%.6f,\"warmer_s\":%.6f,\"mops\":%.4f,\"ok\":%s,"
           "\"bytes\":%.3f,\"slack\":%.3f,\"p50\":%.3f,\"p99\":%.3f}\n",
           m->name, (double)ns / 1e9, (double)(all_ns > ns ? all_ns - ns : 0) / 1e9,
           (double)blocks * 1000 / (double)(ns > 0 ? ns : 1), ok ? "true" : "false",
           (double)x->mem.bytes / (double)(s->resident > 0 ? s->resident : 1),
           (double)jr_mem_slack(&x->mem) / (double)(s->resident > 0 ? s->resident : 1),
           waits ? wait_us(waits, s->lookups, 50) : 0, waits ? wait_us(waits, s->lookups, 99) : 0);
    jr_xfree(waits);
    return ok;
}

int main(int argc, char **argv)
{
    bool private_hashes = false, is_floor = false, is_warm = false, ok;
    struct stream s = {0};
    struct subject x;
    int at = 1;

    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--private-hashes") == 0)
            private_hashes = true;
        else if (strcmp(argv[at], "--floor") == 0)
            is_floor = true;
        else if (strcmp(argv[at], "--huge-pages") == 0)
            is_warm = true;
        else
            die("unknown option", argv[at]);
    }
    if (at + 2 != argc)
        die("[--private-hashes] [--floor] [--huge-pages] OPS apply|lookup|mixed|waits", "usage");
    stream_read(&s, argv[at]);
    if (private_hashes)
        stream_make_private(&s);
    subject_init(&x, &s, is_floor, is_warm);
    x.private_hashes = private_hashes;
    ok = measure(&x, &s, mode_named(argv[at + 1]));
    subject_deinit(&x);
    jr_xfree(s.lookups_at);
    jr_xfree(s.bytes);
    return ok ? 0 : 1;
}
