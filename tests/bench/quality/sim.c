/* SPDX-License-Identifier: Apache-2.0 */
#include "sim.h"
#include "base/rng.h"
#include "engine.h"
#include <math.h>
#include <stdlib.h>

#define NET_S   0.002 /* router to engine, and back */
#define LIST_S  0.5   /* leases are listed this often */
#define RETRY_S 0.05  /* a client without a router asks again after this */
#define AFTER_S 15    /* so long the routers live on when all requests have ended */

enum what { ARRIVE, ASK, ENQUEUE, STEP_END, FIRST_TOKEN, FINISH, SYNC, WAKE, LIST, FAULT, BOOT };

struct entry {
    double at_s;
    uint64_t order; /* of equal times */
    enum what what;
    uint32_t n; /* request, worker or replica */
    struct q_batch *batch;
};

struct sim {
    const struct q_setup *setup;
    struct q_trace *trace;
    struct jr_rng rng;
    double now_s;
    struct entry *heap;
    uint32_t n_heap, cap_heap;
    uint64_t order;
    struct q_routers routers;
    struct q_engine engine[Q_WORKERS_MAX];
    struct q_cache cache[Q_WORKERS_MAX];
    struct q_log log[Q_WORKERS_MAX];
    uint64_t refused;
    uint32_t open;                 /* requests without an end */
    double wake_s[Q_REPLICAS_MAX]; /* what is planned for each */
    bool started, faulty;
};

/* ---- what happens next ----------------------------------------------------------------------- */

static bool before(const struct entry *a, const struct entry *b)
{
    return a->at_s < b->at_s || (a->at_s <= b->at_s && a->order < b->order);
}

static void push(struct sim *s, double in_s, enum what what, uint32_t n, struct q_batch *batch)
{
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap ? 2 * s->cap_heap : 1024;
        s->heap = jr_xrealloc(s->heap, s->cap_heap * sizeof *s->heap);
    }
    struct entry e = {s->now_s + in_s, s->order++, what, n, batch};
    uint32_t i = s->n_heap++;
    for (; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static struct entry pop(struct sim *s)
{
    struct entry top = s->heap[0], e = s->heap[--s->n_heap];
    uint32_t i = 0, k;
    while ((k = 2 * i + 1) < s->n_heap) {
        if (k + 1 < s->n_heap && before(&s->heap[k + 1], &s->heap[k]))
            k++;
        if (!before(&s->heap[k], &e))
            break;
        s->heap[i] = s->heap[k];
        i = k;
    }
    s->heap[i] = e;
    return top;
}

/* ---- the run --------------------------------------------------------------------------------- */

static void publish(void *ctx, struct q_batch *batch)
{
    struct sim *s = ctx;
    double delay_s = s->started ? s->setup->sync_ms / 1000 : 0;
    for (uint32_t i = 0; i < s->routers.n; i++)
        if (i != batch->from) {
            batch->refs++;
            push(s, delay_s, SYNC, i, batch);
        }
}

/* With sync a router acts when it wants to. */
static void plan_wakes(struct sim *s)
{
    for (uint32_t i = 0; s->started && s->routers.sync && i < s->routers.n; i++) {
        double at_s = s->routers.pool[i] ? q_routers_deadline_s(&s->routers, i) : INFINITY;
        if (!s->routers.pool[i] || at_s >= s->wake_s[i])
            continue;
        s->wake_s[i] = at_s > s->now_s ? at_s : s->now_s;
        push(s, s->wake_s[i] - s->now_s, WAKE, i, NULL);
    }
}

static void engine_begin(struct sim *s, uint32_t w)
{
    double step_s = q_engine_begin(&s->engine[w]);
    if (step_s > 0)
        push(s, step_s, STEP_END, w, NULL);
}

/* At the router that is its own, or the next one that is ready. */
static void ask(struct sim *s, uint32_t i)
{
    struct q_request *r = &s->trace->v[i];
    uint32_t tries = 0;
    while (s->faulty && tries < s->routers.n && !q_routers_ready(&s->routers, r->replica)) {
        r->replica = (r->replica + 1) % s->routers.n;
        tries++;
    }
    if (tries == s->routers.n) {
        push(s, RETRY_S, ASK, i, NULL);
        return;
    }
    r->worker = q_routers_route(&s->routers, r->replica, i, s->now_s);
    if (r->worker < s->setup->workers)
        push(s, NET_S, ENQUEUE, i, NULL);
    else
        s->open--;
}

static void arrive(struct sim *s, uint32_t i)
{
    struct q_request *r = &s->trace->v[i];
    if (i + 1 < s->trace->n)
        push(s, r[1].arrival_s - s->now_s, ARRIVE, i + 1, NULL);
    r->replica = s->routers.n > 1 ? jr_rng_below(&s->rng, s->routers.n) : 0;
    if (!q_engine_fits(r)) {
        s->refused++;
        s->open--;
        return;
    }
    ask(s, i);
}

/* In the bound every worker holds what any of them computed. */
static void tell_changes(struct sim *s, uint32_t w)
{
    struct q_log *log = s->engine[w].log;
    if (log->n == 0)
        return;
    if (!s->setup->policy.pooled)
        q_routers_log(&s->routers, w, log, s->now_s);
    for (uint32_t i = 0; i < s->setup->workers && s->setup->policy.pooled; i++)
        q_routers_log(&s->routers, i, log, s->now_s);
    log->n = 0;
}

static void step_end(struct sim *s, uint32_t w)
{
    uint32_t first[Q_SEATS], ended[Q_SEATS], n_first, n_ended;
    q_engine_end(&s->engine[w], first, &n_first, ended, &n_ended);
    tell_changes(s, w);
    for (uint32_t i = 0; i < n_first; i++) {
        s->trace->v[first[i]].first_s = s->now_s;
        push(s, NET_S, FIRST_TOKEN, first[i], NULL);
    }
    for (uint32_t i = 0; i < n_ended; i++) {
        s->trace->v[ended[i]].end_s = s->now_s;
        s->trace->v[ended[i]].times_answered++;
        s->open--;
        push(s, NET_S, FINISH, ended[i], NULL);
    }
    engine_begin(s, w);
}

static void fault(struct sim *s)
{
    const struct q_setup *u = s->setup;
    uint32_t n = u->fault == Q_RESTART_ALL ? u->replicas : 1;
    for (uint32_t i = 0; i < n; i++) {
        q_routers_kill(&s->routers, i, s->now_s);
        if (u->fault != Q_KILL)
            push(s, u->down_s, BOOT, i, NULL);
    }
}

static void happen(struct sim *s, const struct entry *e)
{
    const struct q_request *r = e->what >= SYNC ? NULL : &s->trace->v[e->n];
    switch (e->what) {
    case ARRIVE:
        arrive(s, e->n);
        break;
    case ASK:
        ask(s, e->n);
        break;
    case ENQUEUE:
        q_engine_enqueue(&s->engine[r->worker], e->n);
        engine_begin(s, r->worker);
        break;
    case STEP_END:
        step_end(s, e->n);
        break;
    case FIRST_TOKEN:
        q_routers_tell(&s->routers, JR_EV_FIRST_TOKEN, r->replica, e->n, s->now_s);
        break;
    case FINISH:
        q_routers_tell(&s->routers, JR_EV_FINISH, r->replica, e->n, s->now_s);
        break;
    case SYNC:
        q_routers_sync(&s->routers, e->n, e->batch, s->now_s);
        q_batch_unref(e->batch);
        break;
    case WAKE:
        if (s->wake_s[e->n] <= s->now_s)
            s->wake_s[e->n] = INFINITY;
        if (s->routers.pool[e->n])
            q_routers_wake(&s->routers, e->n, s->now_s);
        break;
    case LIST:
        q_routers_list(&s->routers, s->now_s);
        push(s, LIST_S, LIST, 0, NULL);
        break;
    case FAULT:
        fault(s);
        break;
    case BOOT:
        q_routers_boot(&s->routers, e->n, s->now_s);
        break;
    }
}

static void run_until(struct sim *s, double until_s, bool all_ended)
{
    while (s->n_heap > 0 && s->heap[0].at_s <= until_s && !(all_ended && s->open == 0)) {
        struct entry e = pop(s);
        s->now_s = e.at_s;
        happen(s, &e);
        plan_wakes(s);
    }
}

/* Routers that sync are never done: until all requests have ended, and then for a while. */
static void run_all(struct sim *s)
{
    run_until(s, INFINITY, s->routers.sync);
    run_until(s, s->routers.sync ? s->now_s + AFTER_S : INFINITY, false);
    while (s->n_heap > 0) {
        struct entry e = pop(s);
        if (e.batch)
            q_batch_unref(e.batch);
    }
}

/* ---- start and end --------------------------------------------------------------------------- */

static void settle(void *ctx, double now_s)
{
    struct sim *s = ctx;
    s->now_s = now_s;
    run_until(s, now_s, false);
}

static void start(struct sim *s)
{
    const struct q_setup *u = s->setup;
    bool pooled = u->policy.pooled;
    jr_rng_init(&s->rng, u->seed, 3);
    for (uint32_t w = 0; w < u->workers; w++) {
        uint32_t c = pooled ? 0 : w;
        if (c == w)
            q_cache_init(&s->cache[c], pooled ? u->workers * Q_BLOCKS : Q_BLOCKS,
                         s->trace->n_nodes);
        s->engine[w] =
            (struct q_engine){.cache = &s->cache[c], .log = &s->log[c], .trace = s->trace};
    }
    s->routers = (struct q_routers){.trace = s->trace,
                                    .n = u->replicas,
                                    .n_workers = u->workers,
                                    .sync = u->sync_ms >= 0 && (u->replicas > 1 || s->faulty),
                                    .keep_log = s->faulty && u->fault != Q_KILL,
                                    .publish = publish,
                                    .settle = settle,
                                    .ctx = s};
    q_routers_start(&s->routers, &u->policy, u->seed);
    settle(s, 0);
    s->started = true;
    for (uint32_t i = 0; i < u->replicas; i++)
        s->wake_s[i] = INFINITY;
    if (s->routers.sync)
        push(s, 0, LIST, 0, NULL);
    if (s->faulty)
        push(s, u->fault_s, FAULT, 0, NULL);
    s->open = s->trace->n;
    push(s, s->trace->v[0].arrival_s, ARRIVE, 0, NULL);
}

/* Blocks in the caches, as the indexes must have them. */
static uint64_t count_entries(const struct sim *s)
{
    uint64_t n = 0;
    for (uint32_t w = 0; w < s->setup->workers; w++)
        for (uint32_t node = 0; node < s->trace->n_nodes; node++)
            n += q_cache_holds(s->engine[w].cache, node);
    return n;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v. */
static double quantile(double *v, uint32_t n, double q)
{
    if (n == 0)
        return 0;
    qsort(v, n, sizeof *v, by_double);
    return v[(uint32_t)(q * (n - 1) + 0.5)];
}

/* Of requests that arrive soon after a time. */
static void measure_then(const struct sim *s, double then_s, double *v, double *ret_p90,
                         double *ret_hit)
{
    uint64_t hit = 0, tokens = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->trace->n; i++) {
        const struct q_request *r = &s->trace->v[i];
        double since_s = r->arrival_s - then_s;
        if (r->times_answered == 0 || since_s < 0)
            continue;
        if (since_s < Q_P90_THEN_S)
            v[n++] = r->first_s - r->arrival_s;
        if (since_s < Q_HIT_THEN_S) {
            hit += r->hit;
            tokens += r->isl;
        }
    }
    *ret_p90 = quantile(v, n, 0.9);
    *ret_hit = tokens ? (double)hit / (double)tokens : 0;
}

static void measure(struct sim *s, struct q_result *ret)
{
    const struct q_trace *t = s->trace;
    double *ttft = jr_xalloc(t->n * sizeof *ttft), *e2e = jr_xalloc(t->n * sizeof *e2e), work = 0;
    uint64_t hit = 0, tokens = 0;
    uint32_t n = 0;
    *ret = (struct q_result){.checked = t->n};
    for (uint32_t i = 0; i < t->n; i++) {
        const struct q_request *r = &t->v[i];
        ret->wrong += r->times_answered > 1;
        if (r->times_answered == 0)
            continue;
        ttft[n] = r->first_s - r->arrival_s;
        e2e[n++] = r->end_s - r->arrival_s;
        hit += r->hit;
        tokens += r->isl;
    }
    ret->wrong += t->n - n - s->refused;
    ret->wrong += q_routers_check(&s->routers, count_entries(s), s->now_s);
    ret->p50 = quantile(ttft, n, 0.5);
    ret->p90 = quantile(ttft, n, 0.9);
    ret->p99 = quantile(ttft, n, 0.99);
    ret->e2e50 = quantile(e2e, n, 0.5);
    ret->hit = tokens ? (double)hit / (double)tokens : 0;
    for (uint32_t w = 0; w < s->setup->workers; w++)
        work += s->engine[w].work_s;
    ret->busy = work / (s->setup->workers * t->v[t->n - 1].arrival_s);
    for (uint32_t i = 0; i < s->setup->n_then; i++)
        measure_then(s, s->setup->then_s[i], ttft, &ret->p90_then[i], &ret->hit_then[i]);
    jr_xfree(ttft);
    jr_xfree(e2e);
}

void q_run(const struct q_setup *setup, struct q_trace *t, struct q_result *ret)
{
    struct sim *s = jr_xalloc(sizeof *s);
    s->setup = setup;
    s->faulty = setup->fault != Q_NO_FAULT;
    s->trace = t;
    q_trace_prepare(t, setup->speed, setup->seed);
    start(s);
    run_all(s);
    measure(s, ret);
    q_routers_stop(&s->routers);
    for (uint32_t w = 0; w < setup->workers; w++) {
        if (s->engine[w].cache == &s->cache[w])
            q_cache_deinit(&s->cache[w]);
        jr_xfree(s->log[w].v);
    }
    jr_xfree(s->heap);
    jr_xfree(s);
}
