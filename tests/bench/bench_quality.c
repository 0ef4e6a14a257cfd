/* SPDX-License-Identifier: Apache-2.0 */
/* bench_quality: what the router's decisions are worth: the core of the program routes the requests
 * of a trace to a simulated fleet, on virtual time (quality/sim.h), beside plain policies and a
 * bound: the same fleet with one cache that all its engines share. No figure depends on the speed
 * of the machine, and the same seed gives the same figures.
 *
 *   bench_quality --trace FILE [--json] [--quick] [--calibrate] [--seed N] [--workers 8,16]
 *                 [--seeds K] [--load 50,75,90] [--policy NAME,…] [--replicas 2,4,8]
 *                 [--sync-ms 0,2,50,never] [--faults 1,2,4] [--cost KAPPA,DELTA,MU]
 *                 [--tie hash|tree-size|random]
 *
 * Load is how busy round-robin keeps the engines: the trace's clock is run faster or slower. The
 * speeds are those of the conversation trace; --calibrate finds the ones of another.
 * Bars: hits of `seconds` (B1), its 90th percentile of the time to the first token beside Dynamo's
 * default (B2) and tuned (B3) weights, what replicas lose (B4), and what the death (B5) and the
 * restart (B6) of routers change. */
#include "bench.h"
#include "base/mem.h"
#include "quality/sim.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX  8
#define NAMES_MAX 1024

enum policy { ROUND_ROBIN, LEAST_LOADED, DYNAMO, DYNAMO_TUNED, SECONDS, POOLED, POLICIES };

struct list {
    double v[LIST_MAX];
    uint32_t n;
};

struct options {
    bool json, quick, calibrate;
    const char *trace;
    uint64_t seed, seeds;
    struct list workers, load, replicas, sync, faulty;
    bool policy[POLICIES];
};

/* Rows that compare are printed last. */
struct bar {
    char name[64];
    struct jr_bench_row row;
};

struct quality {
    struct options o;
    struct q_trace trace;
    struct q_policy policy[POLICIES];
    struct jr_bench bench;
    struct bar bars[NAMES_MAX];
    uint32_t n_bars;
    uint64_t checked, wrong;
};

/* ---- policies -------------------------------------------------------------------------------- */

static void make_policies(struct q_policy *p)
{
    static const char *names[] = {"round-robin",  "least-loaded", "dynamo",
                                  "dynamo-tuned", "seconds",      "pooled"};
    for (int i = 0; i < POLICIES; i++) {
        p[i] = (struct q_policy){.name = names[i], .mode = JR_MODE_KV, .tie = JR_TIE_HASH};
        jr_cost_config_init(&p[i].cost, JR_COST_SECONDS);
    }
    p[ROUND_ROBIN].mode = JR_MODE_ROUND_ROBIN;
    p[LEAST_LOADED].mode = JR_MODE_LEAST_LOADED;
    jr_cost_config_init(&p[DYNAMO].cost, JR_COST_DYNAMO_1_2);
    jr_cost_config_init(&p[DYNAMO_TUNED].cost, JR_COST_DYNAMO_1_2);
    p[DYNAMO_TUNED].cost.scale = 16;
    p[DYNAMO_TUNED].cost.credit = 4;
    p[DYNAMO_TUNED].cost.request_weight = 64;
    p[POOLED].pooled = true;
}

/* ---- options --------------------------------------------------------------------------------- */

static void usage(const char *what)
{
    (void)fprintf(stderr, "bench_quality: wrong %s\n", what);
    exit(64);
}

static struct list numbers(const char *option, const char *text, double min, double max)
{
    struct list l = {0};
    while (*text) {
        char *end;
        double v = strncmp(text, "never", 5) == 0 ? -1 : strtod(text, &end);
        if (v < 0)
            end = (char *)(uintptr_t)text + 5;
        if (end == text || (*end && *end != ',') || v < min || v > max || l.n == LIST_MAX)
            usage(option);
        l.v[l.n++] = v;
        text = *end ? end + 1 : end;
    }
    if (l.n == 0)
        usage(option);
    return l;
}

static void choose_policies(struct quality *q, const char *text)
{
    memset(q->o.policy, 0, sizeof q->o.policy);
    while (*text) {
        size_t n = strcspn(text, ",");
        int i = 0;
        while (i < POLICIES &&
               (strlen(q->policy[i].name) != n || memcmp(q->policy[i].name, text, n) != 0))
            i++;
        if (i == POLICIES)
            usage("--policy");
        q->o.policy[i] = true;
        text += n + (text[n] == ',');
    }
}

static void defaults(struct options *o)
{
    *o = (struct options){.seed = 1,
                          .seeds = 3,
                          .workers = {{8, 16}, 2},
                          .load = {{50, 75, 90}, 3},
                          .replicas = {{2, 4, 8}, 3},
                          .sync = {{0, 2, 50, -1}, 4},
                          .faulty = {{1, 4}, 2}};
    for (int i = 0; i < POLICIES; i++)
        o->policy[i] = true;
}

static void quick(struct options *o)
{
    o->seeds = 1;
    o->workers = (struct list){{8}, 1};
    o->replicas = (struct list){{4}, 1};
    o->sync = (struct list){{2}, 1};
    o->faulty = (struct list){{4}, 1};
}

/* Other weights of `seconds`, and of the bound that decides by it. */
static void set_cost(struct quality *q, struct list l)
{
    if (l.n != 3)
        usage("--cost: KAPPA,DELTA,MU");
    for (int i = SECONDS; i <= POOLED; i++) {
        q->policy[i].cost.kappa = l.v[0];
        q->policy[i].cost.delta = l.v[1];
        q->policy[i].cost.mu = l.v[2];
    }
}

/* Of all policies: what a router does with workers of the same cost. */
static void set_tie(struct quality *q, const char *value)
{
    static const char *const names[] = {"hash", "tree-size", "random"};
    for (int t = 0; t < 3; t++) {
        for (int i = 0; strcmp(names[t], value) == 0 && i < POLICIES; i++)
            q->policy[i].tie = (enum jr_tie)t;
        if (strcmp(names[t], value) == 0)
            return;
    }
    usage("--tie: hash, tree-size or random");
}

static void option(struct quality *q, const char *name, const char *value)
{
    struct options *o = &q->o;
    if (strcmp(name, "--trace") == 0)
        o->trace = value;
    else if (strcmp(name, "--seed") == 0)
        o->seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seeds") == 0)
        o->seeds = (uint64_t)numbers(name, value, 1, 1000).v[0];
    else if (strcmp(name, "--workers") == 0)
        o->workers = numbers(name, value, 1, Q_WORKERS_MAX);
    else if (strcmp(name, "--load") == 0)
        o->load = numbers(name, value, 1, 200);
    else if (strcmp(name, "--replicas") == 0)
        o->replicas = numbers(name, value, 1, Q_REPLICAS_MAX);
    else if (strcmp(name, "--faults") == 0)
        o->faulty = numbers(name, value, 1, Q_REPLICAS_MAX);
    else if (strcmp(name, "--sync-ms") == 0)
        o->sync = numbers(name, value, -1, 100000);
    else if (strcmp(name, "--tie") == 0)
        set_tie(q, value);
    else if (strcmp(name, "--cost") == 0)
        set_cost(q, numbers(name, value, 0, 1000));
    else if (strcmp(name, "--policy") == 0)
        choose_policies(q, value);
    else
        usage(name);
}

static void parse(struct quality *q, int argc, char **argv)
{
    defaults(&q->o);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            quick(&q->o);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            q->o.quick = true;
        else if (strcmp(argv[i], "--json") == 0)
            q->o.json = true;
        else if (strcmp(argv[i], "--calibrate") == 0)
            q->o.calibrate = true;
        else if (i + 1 < argc) {
            option(q, argv[i], argv[i + 1]);
            i++;
        } else
            usage(argv[i]);
    }
    if (!q->o.trace)
        usage("options: --trace FILE is needed");
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void print_run(struct quality *q, const char *name, const struct q_result *r)
{
    const struct {
        const char *what, *unit;
        double v;
    } cells[] = {{"ttft p50", "s", r->p50},   {"ttft p90", "s", r->p90},
                 {"ttft p99", "s", r->p99},   {"end to end p50", "s", r->e2e50},
                 {"hits", "%", 100 * r->hit}, {"busy", "%", 100 * r->busy}};
    q->checked += r->checked;
    q->wrong += r->wrong;
    if (!q->o.json) {
        static bool head;
        if (!head)
            printf("%-30s %9s %9s %9s %9s %7s %7s\n", "run", "ttft p50", "p90", "p99", "e2e p50",
                   "hits %", "busy %");
        head = true;
        printf("%-30s %9.3f %9.3f %9.3f %9.3f %7.2f %7.1f%s\n", name, r->p50, r->p90, r->p99,
               r->e2e50, 100 * r->hit, 100 * r->busy, r->wrong ? "  WRONG" : "");
        (void)fflush(stdout);
        return;
    }
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        char text[96];
        (void)snprintf(text, sizeof text, "%s %s", name, cells[i].what);
        jr_bench_add(&q->bench, &(struct jr_bench_row){
                                    .name = text, .unit = cells[i].unit, .measured = cells[i].v});
    }
}

struct compare {
    const char *what, *unit;
    double measured, peer, goal;
    bool less;
};

static void add_bar(struct quality *q, const char *where, const struct compare *c)
{
    if (q->n_bars == NAMES_MAX)
        return;
    struct bar *b = &q->bars[q->n_bars++];
    (void)snprintf(b->name, sizeof b->name, "%s, %s", c->what, where);
    b->row = (struct jr_bench_row){.unit = c->unit,
                                   .measured = c->measured,
                                   .peer = c->peer,
                                   .goal = c->goal,
                                   .less_is_better = c->less};
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* The mean over the seeds: one alone is off by up to 2 % of a 90th percentile. */
static void run(struct quality *q, const struct q_setup *setup, struct q_result *ret)
{
    struct q_setup s = *setup;
    double k = 1 / (double)q->o.seeds;
    *ret = (struct q_result){0};
    for (uint64_t i = 0; i < q->o.seeds; i++) {
        struct q_result r;
        s.seed = q->o.seed + i;
        q_run(&s, &q->trace, &r);
        ret->p50 += k * r.p50;
        ret->p90 += k * r.p90;
        ret->p99 += k * r.p99;
        ret->e2e50 += k * r.e2e50;
        ret->hit += k * r.hit;
        ret->busy += k * r.busy;
        ret->checked += r.checked;
        ret->wrong += r.wrong;
    }
}

/* The conversation trace on 8 workers; more workers take it faster. */
static double known_speed(double workers, double load)
{
    return workers / 8 *
           (load <= 50   ? 0.83 * load / 50
            : load <= 75 ? 1.245 * load / 75
                         : 1.49 * load / 90);
}

static double speed_of(struct quality *q, double workers, double load)
{
    double speed = known_speed(workers, load);
    for (int i = 0; i < 4 && q->o.calibrate; i++) {
        struct q_setup s = {.policy = q->policy[ROUND_ROBIN],
                            .workers = (uint32_t)workers,
                            .replicas = 1,
                            .speed = speed,
                            .seed = q->o.seed};
        struct q_result r;
        q_run(&s, &q->trace, &r);
        if (!(r.busy > 0))
            break;
        speed *= load / 100 / r.busy;
    }
    return speed;
}

static void bars_of(struct quality *q, const char *where, double load, const struct q_result *r)
{
    const struct q_result *s = &r[SECONDS], *b = &r[POOLED], *d = &r[DYNAMO], *t = &r[DYNAMO_TUNED];
    int level = load <= 62 ? 0 : load <= 82 ? 1 : 2;
    static const double hits[] = {0.93, 0.90, 0.88}, p90[] = {0.95, 0.85, 0.80};
    if (!q->o.policy[SECONDS])
        return;
    if (q->o.policy[POOLED])
        add_bar(q, where,
                &(struct compare){"B1 hits to the bound's", "%", 100 * s->hit, 100 * b->hit,
                                  hits[level], false});
    if (q->o.policy[DYNAMO_TUNED])
        add_bar(q, where,
                &(struct compare){"B1 hits to tuned's", "%", 100 * s->hit, 100 * t->hit, 1, false});
    if (q->o.policy[DYNAMO])
        add_bar(q, where,
                &(struct compare){"B2 p90 to default's", "s", s->p90, d->p90, p90[level], true});
    if (q->o.policy[DYNAMO_TUNED]) {
        add_bar(q, where, &(struct compare){"B3 p90 to tuned's", "s", s->p90, t->p90, 1.03, true});
        add_bar(q, where, &(struct compare){"B3 end to end p50", "s", s->e2e50, t->e2e50, 1, true});
    }
}

static void run_policies(struct quality *q, double workers, double load)
{
    struct q_result r[POLICIES];
    struct q_setup s = {.workers = (uint32_t)workers, .replicas = 1, .seed = q->o.seed};
    char where[32], name[64];
    s.speed = speed_of(q, workers, load);
    (void)snprintf(where, sizeof where, "%.0fw %.0f%%", workers, load);
    for (int i = 0; i < POLICIES; i++) {
        if (!q->o.policy[i])
            continue;
        s.policy = q->policy[i];
        run(q, &s, &r[i]);
        (void)snprintf(name, sizeof name, "%s %s", where, s.policy.name);
        print_run(q, name, &r[i]);
    }
    bars_of(q, where, load, r);
}

static void run_replicas(struct quality *q, enum policy policy, double workers, double load)
{
    struct q_setup s = {.policy = q->policy[policy],
                        .workers = (uint32_t)workers,
                        .replicas = 1,
                        .seed = q->o.seed,
                        .speed = speed_of(q, workers, load)};
    struct q_result one, r;
    char name[64], delay[16];
    q->o.seeds = 1; /* compared with one replica of the same seed */
    run(q, &s, &one);
    (void)snprintf(name, sizeof name, "%.0fw %.0f%% %s N=1", workers, load, s.policy.name);
    print_run(q, name, &one);
    for (uint32_t n = 0; n < q->o.replicas.n; n++) {
        for (uint32_t d = 0; d < q->o.sync.n; d++) {
            s.replicas = (uint32_t)q->o.replicas.v[n];
            s.sync_ms = q->o.sync.v[d];
            if (s.replicas == 1 || (policy != SECONDS && s.replicas != 4))
                continue;
            (void)snprintf(delay, sizeof delay, s.sync_ms < 0 ? "never" : "%.0fms", s.sync_ms);
            (void)snprintf(name, sizeof name, "%.0fw %.0f%% %s N=%u %s", workers, load,
                           s.policy.name, s.replicas, delay);
            run(q, &s, &r);
            print_run(q, name, &r);
            if (policy != SECONDS || s.sync_ms < 0 || s.sync_ms > 2)
                continue;
            (void)snprintf(name, sizeof name, "%.0fw %.0f%% N=%u %s", workers, load, s.replicas,
                           delay);
            add_bar(q, name, &(struct compare){"B4 p90 to N=1's", "s", r.p90, one.p90, 1.03, true});
            add_bar(q, name,
                    &(struct compare){"B4 hits to N=1's", "%", 100 * r.hit, 100 * one.hit,
                                      1 - 0.01 / one.hit, false});
        }
    }
}

/* ---- routers that end ------------------------------------------------------------------------ */

#define DOWN_S 3 /* from a router's end until it starts again */

struct after {
    double p90, hit;
};

static const char *const fault_names[] = {"", "death", "restart of one", "restart of all"};

/* The mean over the seeds and the times of the fault; without a fault what was at these times. */
static struct after after_fault(struct quality *q, const struct q_setup *setup)
{
    struct q_setup s = *setup;
    struct after a = {0};
    uint32_t runs = s.fault == Q_NO_FAULT ? 1 : s.n_then;
    double k = 1 / (double)(s.n_then * q->o.seeds);
    for (uint64_t run = 0; run < runs * q->o.seeds; run++) {
        uint32_t i = (uint32_t)(run % runs);
        struct q_result r;
        s.seed = q->o.seed + run / runs;
        s.fault_s = s.then_s[i];
        q_run(&s, &q->trace, &r);
        q->checked += r.checked;
        q->wrong += r.wrong;
        for (uint32_t at = 0; at < s.n_then; at++) {
            if (s.fault != Q_NO_FAULT && at != i)
                continue;
            a.p90 += k * r.p90_then[at];
            a.hit += k * r.hit_then[at];
        }
    }
    return a;
}

static void print_after(const struct quality *q, const char *name, const struct after *a)
{
    if (!q->o.json)
        printf("%-34s p90 of the next %d s %.3f s, hits of the next %d s %.2f %%\n", name,
               Q_P90_THEN_S, a->p90, Q_HIT_THEN_S, 100 * a->hit);
    (void)fflush(stdout);
}

static void run_fault(struct quality *q, const struct q_setup *s, const char *where,
                      const struct after *base)
{
    char name[64];
    struct after a = after_fault(q, s);
    (void)snprintf(name, sizeof name, "%s, %s", where, fault_names[s->fault]);
    print_after(q, name, &a);
    if (s->fault == Q_KILL)
        add_bar(q, name, &(struct compare){"B5 p90", "s", a.p90, base->p90, 1.03, true});
    else
        add_bar(q, name,
                &(struct compare){"B6 hits", "%", 100 * a.hit, 100 * base->hit,
                                  base->hit > 0 ? 1 - 0.01 / base->hit : 0, false});
}

/* With the sync that every router has, and 1 ms on the way. */
static void run_faults(struct quality *q, uint32_t replicas, double workers, double load)
{
    struct q_setup s = {.policy = q->policy[SECONDS],
                        .workers = (uint32_t)workers,
                        .replicas = replicas,
                        .seed = q->o.seed,
                        .speed = speed_of(q, workers, load),
                        .sync_ms = 1,
                        .down_s = DOWN_S,
                        .n_then = q->o.quick ? 1 : 3};
    char where[48];
    q_trace_prepare(&q->trace, s.speed, s.seed);
    for (uint32_t i = 0; i < s.n_then;
         i++) /* when the caches are full, and a while before the end */
        s.then_s[i] = (0.4 + 0.2 * i) * q->trace.v[q->trace.n - 1].arrival_s;
    struct after base = after_fault(q, &s);
    (void)snprintf(where, sizeof where, "%.0fw %.0f%% N=%u", workers, load, replicas);
    print_after(q, where, &base);
    for (int fault = Q_KILL; fault <= Q_RESTART_ALL; fault++) {
        if (replicas == 1 && fault != Q_RESTART_ALL)
            continue;
        s.fault = (enum q_fault)fault;
        run_fault(q, &s, where, &base);
    }
}

/* Of the loads asked for the highest: there the load of the others counts most. */
static double highest(const struct list *l)
{
    double v = l->v[0];
    for (uint32_t i = 1; i < l->n; i++)
        v = fmax(v, l->v[i]);
    return v;
}

int main(int argc, char **argv)
{
    struct quality *q = jr_xalloc(sizeof *q);
    make_policies(q->policy);
    parse(q, argc, argv);
    jr_bench_init(&q->bench, q->o.json);
    q_trace_load(&q->trace, q->o.trace);
    for (uint32_t w = 0; w < q->o.workers.n; w++)
        for (uint32_t l = 0; l < q->o.load.n; l++)
            run_policies(q, q->o.workers.v[w], q->o.load.v[l]);
    for (int p = DYNAMO; p <= SECONDS; p++)
        if (q->o.policy[p] && (p == SECONDS || (p == DYNAMO_TUNED && !q->o.quick)))
            run_replicas(q, (enum policy)p, q->o.workers.v[0], highest(&q->o.load));
    for (uint32_t n = 0; n < q->o.faulty.n && q->o.policy[SECONDS]; n++)
        run_faults(q, (uint32_t)q->o.faulty.v[n], q->o.workers.v[0], highest(&q->o.load));
    for (uint32_t i = 0; i < q->n_bars; i++) {
        q->bars[i].row.name = q->bars[i].name;
        jr_bench_add(&q->bench, &q->bars[i].row);
    }
    jr_bench_answers(&q->bench, "answered once, loads return to zero", q->checked, q->wrong);
    q_trace_free(&q->trace);
    int code = jr_bench_end(&q->bench);
    jr_xfree(q);
    return code;
}
