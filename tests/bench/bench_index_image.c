/* SPDX-License-Identifier: Apache-2.0 */
/* What a large index costs the loop in one piece, and what a snapshot of it costs.
 *
 *   bench_index_image [--json] [--entries N] [--runs N] [--huge-pages]
 *
 * Thirteen workers are filled with conversations that share their beginnings and are churned until
 * runs lie as they do after a while. Then an image is copied out while events go on, arranged,
 * restored, and the index cleared and reset. With --huge-pages a warmer touches memory for the
 * tables. All is CPU time of the thread, the warmer's is a row of its own: on a shared machine a
 * step that was interrupted is no step that is long. --runs is taken for the sake of the other
 * benchmarks: steps are many, and their longest is what is asked for. */
#include "base/image.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench.h"
#include "core/hash.h"
#include "core/index.h"
#include "io/warmer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORKERS  13
#define EVENT    500  /* blocks of one event at most */
#define SLICE    4096 /* as the loop has it */
#define SHARED   256  /* beginnings that conversations share */
#define STEP_MAX 2000 /* microseconds of one step of the loop */

/* A conversation on one worker: blocks 0..held are there, the first `common` shared with others. */
struct talk {
    uint64_t seed;
    uint32_t common, held;
};

struct world {
    struct jr_rng rng;
    struct jr_mem mem;
    struct jr_warmer *warmer; /* NULL: small pages */
    struct jr_index *index;
    struct talk *talks[WORKERS];
    uint32_t n_talks[WORKERS], cap;
    uint64_t goal; /* entries */
    double store_max, remove_max;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_index_image: %s\n", what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void longest(double *max, double since)
{
    double us = now_us() - since;
    if (us > *max)
        *max = us;
}

/* ---- conversations --------------------------------------------------------------------------- */

static uint64_t local_of(const struct talk *t, uint32_t i)
{
    return jr_mix64((i < t->common ? t->seed % SHARED : t->seed) * 100003 + i);
}

static uint64_t hash_of(uint32_t worker, const struct talk *t, uint32_t i)
{
    return jr_mix64(local_of(t, i) ^ jr_mix64(worker + 77));
}

/* A further piece of it, as one event. */
static void store(struct world *w, uint32_t worker, struct talk *t, uint32_t n)
{
    static struct jr_kv_block blocks[EVENT];
    double begin;
    int rv;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = t->held + i;
        blocks[i] = (struct jr_kv_block){hash_of(worker, t, k), local_of(t, k)};
    }
    begin = now_us();
    rv = jr_index_store(w->index, worker, t->held > 0,
                        t->held > 0 ? hash_of(worker, t, t->held - 1) : 0, blocks, n);
    longest(&w->store_max, begin);
    if (rv < 0)
        die("an event was refused");
    t->held += n;
}

/* Its end is evicted, last block first. */
static void evict(struct world *w, uint32_t worker, struct talk *t, uint32_t n)
{
    static uint64_t hashes[EVENT];
    uint32_t at = 0;
    double begin;

    if (t->held < t->common + n) /* others may want the beginning */
        return;
    for (; at < n; at++)
        hashes[at] = hash_of(worker, t, --t->held);
    begin = now_us();
    (void)jr_index_remove(w->index, worker, hashes, n);
    longest(&w->remove_max, begin);
}

static struct talk *new_talk(struct world *w, uint32_t worker)
{
    struct talk *t;

    if (w->n_talks[worker] == w->cap)
        return NULL;
    t = &w->talks[worker][w->n_talks[worker]++];
    *t = (struct talk){.seed = jr_rng_u64(&w->rng), .common = 16 + jr_rng_below(&w->rng, 200)};
    return t;
}

static struct talk *some_talk(struct world *w, uint32_t worker)
{
    return &w->talks[worker][jr_rng_below(&w->rng, w->n_talks[worker])];
}

static void say(struct world *w)
{
    uint32_t worker = jr_rng_below(&w->rng, WORKERS);
    bool is_new = w->n_talks[worker] == 0 || jr_rng_below(&w->rng, 4) == 0;
    struct talk *t = is_new ? new_talk(w, worker) : some_talk(w, worker);

    if (t)
        store(w, worker, t, 1 + jr_rng_below(&w->rng, EVENT));
}

static void forget(struct world *w)
{
    uint32_t worker = jr_rng_below(&w->rng, WORKERS);

    if (w->n_talks[worker] > 0)
        evict(w, worker, some_talk(w, worker), 1 + jr_rng_below(&w->rng, EVENT));
}

static void fill(struct world *w)
{
    uint64_t churn = w->goal / 1000;

    while (jr_index_entries(w->index) < w->goal)
        say(w);
    for (uint64_t i = 0; i < churn; i++) {
        forget(w);
        if (jr_index_entries(w->index) < w->goal)
            say(w);
    }
}

/* ---- what is measured ------------------------------------------------------------------------ */

struct figures {
    double store, remove, store_open, remove_open, copy, copy_total, arrange, restore,
        restore_total, work, bytes, bytes_restored;
    double warmer, reserve;
    uint64_t entries, wrong;
};

static struct jr_image *copy_out(struct world *w, struct figures *f)
{
    uint32_t number[WORKERS];
    struct jr_image *image = jr_image_create();
    uint64_t digest = jr_index_digest(w->index);
    double begin;
    int rv;

    for (uint32_t i = 0; i < WORKERS; i++)
        number[i] = i;
    w->store_max = w->remove_max = 0;
    begin = now_us();
    rv = jr_index_image_open(w->index, image, number);
    longest(&f->copy, begin);
    while (rv == 0 || rv == JR_EAGAIN) {
        begin = now_us();
        rv = jr_index_image_step(w->index, SLICE, image);
        longest(&f->copy, begin);
        f->copy_total += now_us() - begin;
        if (rv == 0)
            break;
        say(w);
        forget(w);
    }
    f->store_open = w->store_max;
    f->remove_open = w->remove_max;
    for (uint64_t i = 0; i < image->n_entries; i++) {
        const struct jr_image_entry *e = &image->entries[i];
        digest -= jr_index_digest_term(e->rank, 0, e->block_hash, e->prefix_hash);
    }
    f->wrong += rv < 0 || digest != 0;
    begin = now_us();
    jr_image_arrange(image);
    f->arrange = now_us() - begin;
    return image;
}

static void add_members(struct jr_index *index)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        if (jr_index_add_member(index, i, i, 0) < 0)
            die("out of memory");
    }
}

static struct jr_index *restore(struct jr_mem *mem, const struct jr_image *image, struct figures *f)
{
    uint32_t members[WORKERS], at = JR_INDEX_NOWHERE;
    uint64_t held[WORKERS] = {0};
    struct jr_index *index;

    if (jr_index_create(mem, 0, &index) < 0)
        die("out of memory");
    add_members(index);
    for (uint64_t i = 0; i < image->n_entries; i++)
        held[image->entries[i].rank]++;
    for (uint32_t i = 0; i < WORKERS; i++) {
        int rv = JR_EAGAIN;
        members[i] = i;
        while (rv == JR_EAGAIN) {
            double begin = now_us();
            rv = jr_index_presize(index, i, held[i]);
            f->restore_total += now_us() - begin;
        }
        if (rv < 0)
            die("out of memory");
    }
    for (uint64_t done = 0; done < image->n_entries;) {
        uint64_t left = image->n_entries - done;
        uint32_t n = left < SLICE ? (uint32_t)left : SLICE;
        double begin = now_us();
        if (jr_index_restore_run(index, image->entries + done, n, members, &at) < 0)
            die("out of memory");
        longest(&f->restore, begin);
        f->restore_total += now_us() - begin;
        done += n;
    }
    f->bytes_restored = (double)jr_index_bytes(index) / (double)image->n_entries;
    return index;
}

static void work_off(struct jr_index *index, struct figures *f)
{
    bool more = true;

    while (more) {
        double begin = now_us();
        more = jr_index_work(index, SLICE);
        longest(&f->work, begin);
    }
}

static void clear_all(struct jr_index *index, struct figures *f)
{
    double begin = now_us();

    jr_index_clear(index, 0);
    longest(&f->work, begin);
    work_off(index, f);
    begin = now_us();
    jr_index_reset(index);
    longest(&f->work, begin);
    work_off(index, f);
}

static void mem_init(const struct world *w, struct jr_mem *mem)
{
    jr_mem_init(mem);
    if (w->warmer) {
        struct jr_pages_warmer pages = jr_warmer_pages(w->warmer);
        jr_mem_warm(mem, &pages, JR_MEM_WARM_FROM);
    }
}

static void measure(struct world *w, struct figures *f)
{
    struct jr_image *image;
    struct jr_index *copy;
    struct jr_mem mem;

    fill(w);
    f->store = w->store_max;
    f->remove = w->remove_max;
    f->entries = jr_index_entries(w->index);
    f->bytes = (double)jr_index_bytes(w->index) / (double)f->entries;
    image = copy_out(w, f);
    f->reserve = (double)jr_mem_slack(&w->mem) / (double)f->entries;
    mem_init(w, &mem);
    copy = restore(&mem, image, f);
    f->wrong += jr_index_entries(copy) != image->n_entries;
    jr_image_destroy(image);
    clear_all(w->index, f);
    clear_all(copy, f);
    jr_index_destroy(copy);
    jr_mem_deinit(&mem);
    f->warmer = (double)jr_bench_cpu_ns() / 1e9 - now_us() / 1e6;
}

static void row(struct jr_bench *b, const char *name, const char *unit, double measured,
                double most)
{
    jr_bench_add(b, &(struct jr_bench_row){.name = name,
                                           .unit = unit,
                                           .measured = measured,
                                           .less_is_better = true,
                                           .most = most});
}

static void report(struct jr_bench *b, const struct figures *f)
{
    double ten_million = 1e7 / (double)f->entries / 1e6;

    row(b, "image: longest slice of the copy", "us", f->copy, STEP_MAX);
    row(b, "image: longest stored event meanwhile", "us", f->store_open, STEP_MAX);
    row(b, "image: longest removed event meanwhile", "us", f->remove_open, STEP_MAX);
    row(b, "image: longest stored event otherwise", "us", f->store, STEP_MAX);
    row(b, "image: longest removed event otherwise", "us", f->remove, STEP_MAX);
    row(b, "image: longest slice of the restore", "us", f->restore, STEP_MAX);
    row(b, "image: longest slice of clear and reset", "us", f->work, STEP_MAX);
    row(b, "image: copy of 10 M entries, loop", "s", f->copy_total * ten_million, 0);
    row(b, "image: arrange 10 M entries, another thread", "s", f->arrange * ten_million, 0);
    row(b, "image: restore of 10 M entries", "s", f->restore_total * ten_million, 0.6);
    row(b, "image: the warmer, of everything", "s", f->warmer, 0);
    row(b, "image: bytes an entry, in reserve", "bytes", f->reserve, 0);
    row(b, "image: bytes an entry, live", "bytes", f->bytes, 40);
    row(b, "image: bytes an entry, restored", "bytes", f->bytes_restored, 40);
    jr_bench_answers(b, "image: entries", f->entries, f->wrong);
}

int main(int argc, char **argv)
{
    struct world w = {.goal = 13000000};
    struct figures f = {0};
    struct jr_bench b;
    bool json = false, is_warm = false;

    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--json") == 0)
            json = true;
        else if (strcmp(argv[at], "--entries") == 0 && at + 1 < argc)
            w.goal = strtoull(argv[++at], NULL, 10);
        else if (strcmp(argv[at], "--runs") == 0 && at + 1 < argc)
            at++;
        else if (strcmp(argv[at], "--huge-pages") == 0)
            is_warm = true;
        else
            die("usage: [--json] [--entries N] [--runs N] [--huge-pages]");
    }
    w.cap = (uint32_t)(w.goal / WORKERS / 50 + 64);
    jr_rng_init(&w.rng, 1, 1);
    if (is_warm && jr_warmer_create(&w.warmer) < 0)
        die("no thread for the warmer");
    mem_init(&w, &w.mem);
    if (jr_index_create(&w.mem, 0, &w.index) < 0)
        die("out of memory");
    add_members(w.index);
    for (uint32_t i = 0; i < WORKERS; i++)
        w.talks[i] = jr_xalloc(w.cap * sizeof *w.talks[i]);
    measure(&w, &f);
    jr_bench_init(&b, json);
    report(&b, &f);
    jr_index_destroy(w.index);
    jr_mem_deinit(&w.mem);
    jr_warmer_destroy(w.warmer);
    for (uint32_t i = 0; i < WORKERS; i++)
        jr_xfree(w.talks[i]);
    return jr_bench_end(&b);
}
