/* SPDX-License-Identifier: Apache-2.0 */
/* kvfeed: KV events of engines that never rest, for bridges to publish while a proxy is measured.
 *
 *     kvfeed RATE ENDPOINT... [-- IDS.json...]
 *
 * Each endpoint is one engine. It first stores the prompts of the files (bodies of completions whose
 * prompt is token ids), so that routing finds half of a prompt on every worker; then RATE batches a
 * second: a new chain of blocks stored, and the oldest of its chains removed. Says "ready" once it
 * is bound, begins when it reads a line, says "told" when the prompts are out; ends with SIGTERM. */
#include "base/buf.h"
#include "base/mem.h"
#include "io/zmq_pub.h"
#include "wire/engine_kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK_SIZE  16
#define CHAIN       8   /* blocks of a batch */
#define CHAINS      512 /* that an engine holds of them */
#define PIECE       64  /* blocks of an event that tells a prompt */
#define ENGINES_MAX 64
#define BATCH_MAX   ((size_t)16 << 20)

struct engine {
    struct jr_zmq_pub *pub;
    uint64_t n_stored; /* chains */
};

static struct engine engines[ENGINES_MAX];
static uint32_t n_engines;

static void publish(struct engine *e, const struct jr_engine_event *events, uint32_t n)
{
    struct jr_buf b;
    jr_buf_init(&b, BATCH_MAX);
    jr_engine_batch_encode(&b, &(struct jr_engine_batch){.ts = 1, .events = events, .n_events = n},
                           JR_ENGINE_VLLM_MAP);
    if (b.err)
        exit(1);
    (void)jr_zmq_pub_send(e->pub, b.p, b.n);
    jr_buf_deinit(&b);
}

/* An engine names its blocks as it likes: here by engine, chain and place. */
static void name_blocks(uint64_t *ret, uint32_t engine, uint64_t chain)
{
    for (uint64_t i = 0; i < CHAIN; i++)
        ret[i] = (uint64_t)(engine + 1) << 48 | chain << 8 | i;
}

static void step(uint32_t engine)
{
    struct engine *e = &engines[engine];
    uint64_t stored[CHAIN], removed[CHAIN];
    uint32_t tokens[CHAIN * BLOCK_SIZE];
    name_blocks(stored, engine, e->n_stored);
    for (uint32_t i = 0; i < CHAIN * BLOCK_SIZE; i++)
        tokens[i] = (uint32_t)(e->n_stored * 7919 + engine * 104729 + i * 31) % 128000;
    struct jr_engine_event events[2] = {{.type = JR_ENGINE_STORED,
                                         .medium = JR_MEDIUM_GPU,
                                         .hashes = stored,
                                         .n_hashes = CHAIN,
                                         .tokens = tokens,
                                         .n_tokens = CHAIN * BLOCK_SIZE,
                                         .block_size = BLOCK_SIZE}};
    uint32_t n = 1;
    if (e->n_stored >= CHAINS) {
        name_blocks(removed, engine, e->n_stored - CHAINS);
        events[n++] = (struct jr_engine_event){.type = JR_ENGINE_REMOVED,
                                               .medium = JR_MEDIUM_GPU,
                                               .hashes = removed,
                                               .n_hashes = CHAIN};
    }
    e->n_stored++;
    publish(e, events, n);
}

/* The ids of a body `{..., "prompt": [1, 2, ...]}`; returns how many. */
static uint32_t read_ids(const char *path, uint32_t **ret)
{
    FILE *f = fopen(path, "r");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        exit(1);
    long size = ftell(f);
    char *text = jr_xalloc((size_t)size + 1);
    rewind(f);
    if (size <= 0 || fread(text, 1, (size_t)size, f) != (size_t)size)
        exit(1);
    (void)fclose(f);
    const char *p = strstr(text, "\"prompt\": [");
    if (!p)
        exit(1);
    uint32_t n = 0;
    *ret = jr_xalloc((size_t)size * sizeof **ret);
    p = strchr(p, '[');
    do {
        char *end;
        (*ret)[n++] = (uint32_t)strtoul(p + 1, &end, 10);
        p = end;
    } while (*p == ',');
    jr_xfree(text);
    return n;
}

static void tell_prompt(uint32_t engine, uint32_t file, const uint32_t *ids, uint32_t n)
{
    uint64_t hashes[PIECE], parent = 0;
    for (uint32_t at = 0; at + BLOCK_SIZE <= n;) {
        uint32_t blocks = (n - at) / BLOCK_SIZE;
        blocks = blocks < PIECE ? blocks : PIECE;
        for (uint32_t i = 0; i < blocks; i++)
            hashes[i] = (uint64_t)(engine + 1) << 48 | (uint64_t)(file + 1) << 40 | (at + i);
        struct jr_engine_event ev = {.type = JR_ENGINE_STORED,
                                     .medium = JR_MEDIUM_GPU,
                                     .hashes = hashes,
                                     .n_hashes = blocks,
                                     .has_parent = at > 0,
                                     .parent = parent,
                                     .tokens = ids + at,
                                     .n_tokens = blocks * BLOCK_SIZE,
                                     .block_size = BLOCK_SIZE};
        publish(&engines[engine], &ev, 1);
        parent = hashes[blocks - 1];
        at += blocks * BLOCK_SIZE;
    }
}

static void run(double rate)
{
    uint64_t every_ns = (uint64_t)(1e9 / (rate * n_engines));
    struct timespec next;
    (void)clock_gettime(CLOCK_MONOTONIC, &next);
    for (uint32_t i = 0;; i = (i + 1) % n_engines) {
        step(i);
        uint64_t ns = (uint64_t)next.tv_nsec + every_ns;
        next.tv_sec += (time_t)(ns / 1000000000);
        next.tv_nsec = (long)(ns % 1000000000);
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    double rate = strtod(argv[1], NULL);
    int i = 2;
    for (; i < argc && strcmp(argv[i], "--") != 0 && n_engines < ENGINES_MAX; i++) {
        struct jr_errmsg e = {0};
        struct jr_zmq_pub_config config = {.endpoint = argv[i]};
        if (jr_zmq_pub_create(&config, &engines[n_engines++].pub, &e) != 0) {
            (void)fprintf(stderr, "kvfeed: %s\n", e.text);
            return 1;
        }
    }
    puts("ready");
    (void)fflush(stdout);
    if (getchar() == EOF)
        return 0;
    for (uint32_t file = 0; ++i < argc; file++) {
        uint32_t *ids, n = read_ids(argv[i], &ids);
        for (uint32_t k = 0; k < n_engines; k++)
            tell_prompt(k, file, ids, n);
        jr_xfree(ids);
    }
    puts("told");
    (void)fflush(stdout);
    run(rate);
}
