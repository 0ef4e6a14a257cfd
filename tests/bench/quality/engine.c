/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#define BASE_S      0.012
#define PREFILL_S   1e-4
#define ATTENTION_S 7.5e-10
#define DECODE_S    1e-4
#define KV_S        2.5e-8

static uint32_t blocks_of(const struct q_request *r)
{
    return (r->isl + r->osl + Q_BLOCK - 1) / Q_BLOCK;
}

bool q_engine_fits(const struct q_request *r)
{
    return blocks_of(r) <= Q_BLOCKS;
}

void q_engine_enqueue(struct q_engine *e, uint32_t request)
{
    if (e->n_waiting++ > 0)
        e->trace->v[e->waiting_last].next = request;
    else
        e->waiting_first = request;
    e->waiting_last = request;
}

/* At least the last token is computed. */
static uint32_t match(const struct q_engine *e, const struct q_request *r)
{
    uint32_t most = (r->isl - 1) / Q_BLOCK, n = 0;
    if (most > r->n_blocks)
        most = r->n_blocks;
    while (n < most && q_cache_holds(e->cache, r->nodes[n]))
        n++;
    return n;
}

static bool admit(struct q_engine *e, struct q_request *r)
{
    uint32_t hit = match(e, r), idle = 0, need = blocks_of(r) - hit;
    for (uint32_t i = 0; i < hit; i++)
        idle += !q_cache_pinned(e->cache, r->nodes[i]);
    if (need + idle > e->cache->n_free + e->cache->n_lru)
        return false;
    for (uint32_t i = 0; i < hit; i++)
        q_cache_pin(e->cache, r->nodes[i]);
    q_cache_take(e->cache, need, e->log);
    r->unshared = need;
    r->pinned = hit;
    r->hit = r->done = hit * Q_BLOCK;
    return true;
}

/* What is computed by the end of the step enters the cache: requests of one step share it. */
static void commit(struct q_engine *e, struct q_request *r)
{
    uint32_t full = r->done / Q_BLOCK;
    if (full > r->n_blocks)
        full = r->n_blocks;
    for (; r->pinned < full; r->pinned++) {
        uint32_t node = r->nodes[r->pinned];
        r->unshared--;
        if (q_cache_holds(e->cache, node)) { /* filled by another meanwhile: ours is free again */
            q_cache_pin(e->cache, node);
            e->cache->n_free++;
            continue;
        }
        q_cache_fill(e->cache, node, r->pinned ? r->nodes[r->pinned - 1] : Q_NO_NODE, e->log);
    }
}

/* From the tail, so that the tail goes first. */
static void release(struct q_engine *e, struct q_request *r)
{
    for (uint32_t i = r->pinned; i-- > 0;)
        q_cache_unpin(e->cache, r->nodes[i]);
    e->cache->n_free += r->unshared;
    r->unshared = 0;
}

struct step {
    uint32_t budget, decodes;
    double prefill, attention;
};

static void prefill(struct q_engine *e, struct q_request *r, struct step *s)
{
    uint32_t take = r->isl - r->done;
    if (r->out > 0)
        return;
    if (take > s->budget)
        take = s->budget;
    if (take == 0)
        return;
    if (r->done == r->hit)
        e->kv_tokens += r->hit;
    s->attention += (double)take * (r->done + take * 0.5);
    s->prefill += take;
    s->budget -= take;
    r->done += take;
    e->kv_tokens += take;
    commit(e, r);
}

static bool admit_next(struct q_engine *e, const struct step *s)
{
    if (e->n_waiting == 0 || s->budget == 0 || e->n_running == Q_SEATS)
        return false;
    struct q_request *r = &e->trace->v[e->waiting_first];
    if (!admit(e, r))
        return false;
    e->running[e->n_running++] = e->waiting_first;
    e->waiting_first = r->next;
    e->n_waiting--;
    return true;
}

double q_engine_begin(struct q_engine *e)
{
    struct step s = {.budget = Q_BUDGET};
    if (e->busy)
        return 0;
    for (uint32_t i = 0; i < e->n_running; i++)
        s.decodes += e->trace->v[e->running[i]].out > 0;
    s.budget -= s.decodes;
    for (uint32_t i = 0; i < e->n_running || admit_next(e, &s); i++)
        prefill(e, &e->trace->v[e->running[i]], &s);
    if (e->n_running == 0)
        return 0;
    double work = PREFILL_S * s.prefill + ATTENTION_S * s.attention + DECODE_S * s.decodes +
                  KV_S * e->kv_tokens;
    e->work_s += work;
    e->busy = true;
    return BASE_S + work;
}

void q_engine_end(struct q_engine *e, uint32_t *first, uint32_t *n_first, uint32_t *ended,
                  uint32_t *n_ended)
{
    uint32_t kept = 0;
    *n_first = *n_ended = 0;
    e->busy = false;
    for (uint32_t i = 0; i < e->n_running; i++) {
        uint32_t id = e->running[i];
        struct q_request *r = &e->trace->v[id];
        if (r->done >= r->isl) {
            if (r->out > 0)
                e->kv_tokens += 1;
            if (r->out++ == 0)
                first[(*n_first)++] = id;
        }
        if (r->out < r->osl) {
            e->running[kept++] = id;
            continue;
        }
        e->kv_tokens -= r->done + r->out - 1;
        release(e, r);
        ended[(*n_ended)++] = id;
    }
    e->n_running = kept;
    if (kept == 0)
        e->kv_tokens = 0;
}
