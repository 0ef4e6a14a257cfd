/* SPDX-License-Identifier: Apache-2.0 */
/* bench_core: what a decision costs but for the index: hashes, load, cost, selection, booking. CPU
 * time in microseconds, medians of N runs (9).
 *
 *   bench_core [--json] [--runs N]
 *
 * The peer's figures are constants: Dynamo's router 1.0 did the same on a machine of this kind, it is
 * not run here. Decisions go through jr_pool_step as a router's do, on pools that read a log; the
 * index's part, measured alone, is subtracted. Every hash is compared with the library's, every
 * chosen worker with a model that knows only who holds and computes what. */
#include "base/mem.h"
#include "bench.h"
#include "core/hash.h"
#include "core/pool_internal.h"
#include "routers.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define RUNS_MAX    99
#define TOKENS      32768
#define HASH_REPEAT 64
#define BLOCK       64
#define PROMPTS     64
#define BLOCKS      128 /* of a prompt for the decisions */
#define LONG        512 /* of one that is booked */
#define SYSTEM      16  /* blocks that all prompts begin with */
#define GROUP       48  /* blocks that eight of them share behind it */
#define HELD        6   /* prompts that a worker holds a part of */
#define LIVE        4   /* requests it computes */
#define DEEP        128 /* live requests while others are booked */
#define DECISIONS   4096
#define NOW_S       1.0

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_core: %s\n", what);
    exit(64);
}

static double us(uint64_t ns, double times)
{
    return (double)ns / 1000 / times;
}

static void row(struct jr_bench *b, const char *name, double measured, double peer, double most)
{
    jr_bench_add(b, &(struct jr_bench_row){.name = name,
                                           .unit = "us CPU",
                                           .measured = measured,
                                           .peer = peer,
                                           .most = most,
                                           .less_is_better = true});
}

/* ---- hashes ---------------------------------------------------------------------------------- */

static uint64_t hashes_wrong(const uint32_t *tokens, uint32_t size, const uint64_t *prefix)
{
    uint64_t wrong = 0, prev = 0;

    for (uint32_t i = 0; i < TOKENS / size; i++) {
        uint64_t block =
            XXH3_64bits_withSeed(tokens + (size_t)i * size, size * sizeof *tokens, 1337);
        uint64_t pair[2] = {prev, block};
        prev = i ? XXH3_64bits_withSeed(pair, sizeof pair, 1337) : block;
        wrong += prefix[i] != prev;
    }
    return wrong;
}

/* Known vectors of the real library: tokens 0..31 at 16, 1..64 at 64. */
static uint64_t vectors_wrong(void)
{
    uint32_t tokens[64];
    uint64_t local[4], prefix[4], wrong = 0;

    for (uint32_t i = 0; i < 64; i++)
        tokens[i] = i;
    (void)jr_hash_local(NULL, tokens, 32, 16, local);
    (void)jr_hash_prompt(NULL, tokens, 32, 16, prefix);
    wrong += local[0] != UINT64_C(15310707395893867146) ||
             local[1] != UINT64_C(15292316782987903195) ||
             prefix[1] != UINT64_C(13769157705258532664);
    for (uint32_t i = 0; i < 64; i++)
        tokens[i] = i + 1;
    (void)jr_hash_local(NULL, tokens, 64, 64, local);
    return wrong + (local[0] != UINT64_C(17732852320395450624));
}

static void bench_hash(struct jr_bench *b, uint32_t size, double peer, double most, size_t runs)
{
    uint32_t *tokens = jr_xalloc(TOKENS * sizeof *tokens);
    uint64_t *prefix = jr_xalloc(TOKENS / size * sizeof *prefix);
    double v[RUNS_MAX];
    struct jr_rng rng;
    char name[64];

    jr_rng_init(&rng, size, 1);
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = jr_rng_u32(&rng) % 150000;
    for (size_t run = 0; run < runs; run++) {
        uint64_t start = jr_bench_cpu_ns();
        for (uint32_t i = 0; i < HASH_REPEAT; i++) {
            (void)jr_hash_prompt(NULL, tokens, TOKENS, size, prefix);
        }
        v[run] = us(jr_bench_cpu_ns() - start, HASH_REPEAT);
    }
    (void)snprintf(name, sizeof name, "hash %u tokens, B=%u", TOKENS, size);
    row(b, name, jr_bench_median(v, runs), peer, most);
    (void)snprintf(name, sizeof name, "hashes, B=%u", size);
    jr_bench_answers(b, name, TOKENS / size + 2,
                     hashes_wrong(tokens, size, prefix) + vectors_wrong());
    jr_xfree(tokens);
    jr_xfree(prefix);
}

/* ---- a pool with workers that hold and compute something ------------------------------------- */

struct fleet {
    struct q_routers q;
    struct q_trace trace;
    uint32_t n_blocks; /* of a prompt */
    uint32_t *nodes;   /* of all prompts; a node stands for a prefix */
    uint64_t *prefix;
    uint32_t (*held)[HELD], (*depth)[HELD]; /* by worker: prompt, blocks of it */
    uint32_t (*live)[LIVE];                 /* by worker: prompts; odd ones decode */
    double (*booked_s)[LIVE];
    struct jr_rng rng;
    uint64_t next_id;
};

static void no_batch(void *ctx, struct q_batch *batch)
{
    (void)ctx;
    batch->refs = 1;
    q_batch_unref(batch);
}

static void no_settle(void *ctx, double now_s)
{
    (void)ctx;
    (void)now_s;
}

/* The first blocks are everybody's, the next ones of a group, the rest of one prompt. */
static uint32_t owner_of(uint32_t prompt, uint32_t block)
{
    return block < SYSTEM ? 0 : block < SYSTEM + GROUP ? prompt & ~7u : prompt;
}

static void make_prompts(struct fleet *f)
{
    uint32_t n = PROMPTS * f->n_blocks;

    f->nodes = jr_xalloc(n * sizeof *f->nodes);
    f->prefix = jr_xalloc(n * sizeof *f->prefix);
    f->trace.n_nodes = n;
    f->trace.node_local = jr_xalloc(n * sizeof *f->trace.node_local);
    f->trace.node_hash = jr_xalloc(n * sizeof *f->trace.node_hash);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t block = i % f->n_blocks;
        uint32_t node = owner_of(i / f->n_blocks, block) * f->n_blocks + block;
        f->trace.node_local[i] = jr_mix64(i + 1);
        f->trace.node_hash[i] = block ? jr_hash_chain(f->prefix[i - 1], f->trace.node_local[node])
                                      : f->trace.node_local[node];
        f->nodes[i] = node;
        f->prefix[i] = f->trace.node_hash[node];
    }
}

static const uint32_t *nodes_of(const struct fleet *f, uint32_t prompt)
{
    return f->nodes + (size_t)prompt * f->n_blocks;
}

static const uint64_t *prefix_of(const struct fleet *f, uint32_t prompt)
{
    return f->prefix + (size_t)prompt * f->n_blocks;
}

static void hold(struct fleet *f, uint32_t worker, uint32_t prompt, uint32_t depth)
{
    struct q_log log = {0};
    const uint32_t *nodes = nodes_of(f, prompt);

    for (uint32_t i = 0; i < depth; i++)
        q_log_add(&log, (struct q_change){nodes[i], i ? nodes[i - 1] : Q_NO_NODE, false});
    q_routers_log(&f->q, worker, &log, 0);
    jr_xfree(log.v);
}

static void step(struct fleet *f, const struct jr_event *event)
{
    struct jr_event e = *event;

    e.now_ms = 101000;
    if (jr_pool_step(f->q.pool[0], &e, &f->q.actions[0]) < 0)
        die("an event is refused");
}

static struct jr_decision route(struct fleet *f, const struct jr_route *r)
{
    struct jr_event e = {.type = JR_EV_ROUTE, .u.route = *r};

    step(f, &e);
    for (uint32_t i = 0; i < f->q.actions[0].n; i++)
        if (f->q.actions[0].v[i].type == JR_ACT_DECIDE)
            return f->q.actions[0].v[i].u.decide;
    die("a request is refused");
    return (struct jr_decision){0};
}

static void tell(struct fleet *f, enum jr_event_type type, uint64_t id)
{
    struct jr_event e = {.type = type, .u.request.id = id};
    step(f, &e);
}

static struct jr_route request_of(struct fleet *f, uint32_t prompt)
{
    return (struct jr_route){.id = ++f->next_id,
                             .tokens = f->n_blocks * BLOCK,
                             .prefix = prefix_of(f, prompt),
                             .n_prefix = f->n_blocks};
}

static void fleet_init(struct fleet *f, uint32_t workers, uint32_t n_blocks)
{
    struct q_policy policy = {.name = "seconds", .mode = JR_MODE_KV, .tie = JR_TIE_HASH};

    memset(f, 0, sizeof *f);
    f->n_blocks = n_blocks;
    jr_rng_init(&f->rng, workers, 1);
    make_prompts(f);
    f->held = jr_xalloc(workers * sizeof *f->held);
    f->depth = jr_xalloc(workers * sizeof *f->depth);
    f->live = jr_xalloc(workers * sizeof *f->live);
    f->booked_s = jr_xalloc(workers * sizeof *f->booked_s);
    f->q.trace = &f->trace;
    f->q.n = 1;
    f->q.n_workers = workers;
    f->q.publish = no_batch;
    f->q.settle = no_settle;
    jr_cost_config_init(&policy.cost, JR_COST_SECONDS);
    q_routers_start(&f->q, &policy, 1);
    for (uint32_t w = 0; w < workers; w++) {
        for (uint32_t i = 0; i < HELD; i++) {
            f->held[w][i] = jr_rng_below(&f->rng, PROMPTS);
            f->depth[w][i] = SYSTEM + jr_rng_below(&f->rng, n_blocks - SYSTEM);
            hold(f, w, f->held[w][i], f->depth[w][i]);
        }
    }
}

static void fleet_deinit(struct fleet *f)
{
    q_routers_stop(&f->q);
    jr_xfree(f->trace.node_local);
    jr_xfree(f->trace.node_hash);
    jr_xfree(f->nodes);
    jr_xfree(f->prefix);
    jr_xfree(f->held);
    jr_xfree(f->depth);
    jr_xfree(f->live);
    jr_xfree(f->booked_s);
}

/* ---- the model ------------------------------------------------------------------------------- */

static uint32_t common(const struct fleet *f, uint32_t a, uint32_t b)
{
    uint32_t n = 0;

    while (n < f->n_blocks && nodes_of(f, a)[n] == nodes_of(f, b)[n])
        n++;
    return n;
}

static uint32_t most(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Seconds to compute the prompt there; n_live requests of the worker are known. */
static double model_prefill(const struct fleet *f, uint32_t w, uint32_t n_live, uint32_t prompt)
{
    uint32_t cached = 0;
    double u, c;

    for (uint32_t i = 0; i < HELD; i++)
        cached = most(cached, least(f->depth[w][i], common(f, f->held[w][i], prompt)));
    for (uint32_t i = 0; i < n_live; i++)
        cached = most(cached, common(f, f->live[w][i], prompt));
    cached = least(cached, f->n_blocks - 1);
    c = cached * (double)BLOCK;
    u = f->n_blocks * (double)BLOCK - c;
    return 1e-4 * u + 7.5e-10 * u * (c + u / 2);
}

static double model_cost(const struct fleet *f, uint32_t w, uint32_t prompt)
{
    double backlog = 0, decoding = 0;

    for (uint32_t i = 0; i < LIVE; i++) {
        backlog += i % 2 ? 0 : f->booked_s[w][i];
        decoding += i % 2;
    }
    return backlog + (2.25 + 0.01 * decoding) * model_prefill(f, w, LIVE, prompt) + 0.02 * decoding;
}

/* Nobody is cheaper than the chosen one, and it costs what was said. */
static bool is_right(const struct fleet *f, uint32_t prompt, const struct jr_decision *d)
{
    double best = INFINITY, cost = model_cost(f, (uint32_t)d->worker_id - 1, prompt);

    for (uint32_t w = 0; w < f->q.n_workers; w++)
        best = fmin(best, model_cost(f, w, prompt));
    return cost <= best + 1e-6 && fabs(cost - d->cost) < 1e-6;
}

/* ---- decisions ------------------------------------------------------------------------------- */

static void make_load(struct fleet *f)
{
    for (uint32_t w = 0; w < f->q.n_workers; w++) {
        for (uint32_t i = 0; i < LIVE; i++) {
            uint32_t prompt = jr_rng_below(&f->rng, PROMPTS);
            struct jr_route r = request_of(f, prompt);
            r.has_pin = true;
            r.pin_worker = w + 1;
            f->booked_s[w][i] = model_prefill(f, w, i, prompt);
            f->live[w][i] = prompt;
            (void)route(f, &r);
            if (i % 2)
                tell(f, JR_EV_FIRST_TOKEN, r.id);
        }
    }
}

static uint64_t time_decisions(struct fleet *f)
{
    uint64_t start = jr_bench_cpu_ns();

    for (uint32_t i = 0; i < DECISIONS; i++) {
        struct jr_route r = request_of(f, i % PROMPTS);
        r.query_only = true;
        (void)route(f, &r);
    }
    return jr_bench_cpu_ns() - start;
}

static uint64_t time_lookups(struct fleet *f)
{
    uint64_t start = jr_bench_cpu_ns();

    for (uint32_t i = 0; i < DECISIONS; i++) {
        struct jr_route r = request_of(f, i % PROMPTS);
        if (jr_pool_match(f->q.pool[0], &r) < 0)
            die("out of memory");
    }
    return jr_bench_cpu_ns() - start;
}

static void bench_decide(struct jr_bench *b, uint32_t workers, double peer, double goal,
                         size_t runs)
{
    struct fleet *f = jr_xalloc(sizeof *f);
    double cost[RUNS_MAX], whole[RUNS_MAX];
    uint64_t wrong = 0;
    char name[64];

    fleet_init(f, workers, BLOCKS);
    make_load(f);
    for (uint32_t prompt = 0; prompt < PROMPTS; prompt++) {
        struct jr_route r = request_of(f, prompt);
        r.query_only = true;
        struct jr_decision d = route(f, &r);
        wrong += !is_right(f, prompt, &d);
    }
    for (size_t run = 0; run < runs; run++) {
        uint64_t all = time_decisions(f), index = time_lookups(f);
        whole[run] = us(all, DECISIONS);
        cost[run] = us(all > index ? all - index : 0, DECISIONS);
    }
    (void)snprintf(name, sizeof name, "cost and selection, %u workers", workers);
    row(b, name, jr_bench_median(cost, runs), peer, goal);
    (void)snprintf(name, sizeof name, "the same with the look-up, %u", workers);
    row(b, name, jr_bench_median(whole, runs), 0, 0);
    (void)snprintf(name, sizeof name, "chosen workers, %u", workers);
    jr_bench_answers(b, name, PROMPTS, wrong);
    fleet_deinit(f);
    jr_xfree(f);
}

/* ---- bookings -------------------------------------------------------------------------------- */

/* A request comes, begins, and the oldest ends: so many are always live. */
static uint64_t time_bookings(struct fleet *f)
{
    uint64_t start = jr_bench_cpu_ns();

    for (uint32_t i = 0; i < DECISIONS; i++) {
        struct jr_route r = request_of(f, i % PROMPTS);
        (void)route(f, &r);
        tell(f, JR_EV_FIRST_TOKEN, r.id);
        tell(f, JR_EV_FINISH, r.id - DEEP);
    }
    return jr_bench_cpu_ns() - start;
}

static uint64_t time_questions(struct fleet *f)
{
    uint64_t start = jr_bench_cpu_ns();

    for (uint32_t i = 0; i < DECISIONS; i++) {
        struct jr_route r = request_of(f, i % PROMPTS);
        r.id = UINT64_MAX;
        f->next_id--;
        r.query_only = true;
        (void)route(f, &r);
    }
    return jr_bench_cpu_ns() - start;
}

static uint64_t loads_left(struct fleet *f)
{
    struct jr_worker_view w;
    uint64_t left = 0;

    for (uint32_t pos = 0; jr_pool_next_worker(f->q.pool[0], &pos, &w);)
        left += w.active_requests || w.active_blocks || w.active_prefill_tokens ||
                w.backlog_seconds > 0;
    return left;
}

static void bench_book(struct jr_bench *b, double goal, size_t runs)
{
    struct fleet *f = jr_xalloc(sizeof *f);
    double v[RUNS_MAX], whole[RUNS_MAX];

    fleet_init(f, 16, LONG);
    for (uint32_t i = 0; i < DEEP; i++) {
        struct jr_route r = request_of(f, i % PROMPTS);
        (void)route(f, &r);
    }
    for (size_t run = 0; run < runs; run++) {
        uint64_t all = time_bookings(f), asked = time_questions(f);
        whole[run] = us(all, DECISIONS);
        v[run] = us(all > asked ? all - asked : 0, DECISIONS);
    }
    row(b, "admit, first token, done; 512 blocks", jr_bench_median(v, runs), 0, goal);
    row(b, "the same with the decision", jr_bench_median(whole, runs), 0, 0);
    for (uint64_t i = 0; i < DEEP; i++)
        tell(f, JR_EV_FINISH, f->next_id - i);
    jr_bench_answers(b, "loads return to zero", f->q.n_workers, loads_left(f));
    fleet_deinit(f);
    jr_xfree(f);
}

int main(int argc, char **argv)
{
    struct jr_bench b;
    bool json = false;
    size_t runs = 9;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = (size_t)strtoul(argv[++i], NULL, 10);
        else
            die("usage: [--json] [--runs N]");
    }
    if (runs < 1 || runs > RUNS_MAX)
        die("usage: [--json] [--runs N]");
    jr_bench_init(&b, json);
    bench_hash(&b, 64, 22.4, 12, runs);
    bench_hash(&b, 16, 26, 15, runs);
    bench_decide(&b, 64, 7.3, 1, runs);
    bench_decide(&b, 512, 40, 5, runs);
    bench_book(&b, 10, runs);
    return jr_bench_end(&b);
}
