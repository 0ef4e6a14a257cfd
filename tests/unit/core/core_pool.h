/* SPDX-License-Identifier: Apache-2.0 */
/* core_pool: a pool without a log for tests of routing: workers by name, requests by id, and what
 * became of each. */
#ifndef JR_TESTS_CORE_POOL_H
#define JR_TESTS_CORE_POOL_H

#include "core/pool_internal.h"
#include "jr_test.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define IDS 4096

/* What became of a request. */
struct answer {
    bool decided, rejected, waited;
    int err;
    const char *why;
    uint64_t worker;
    uint32_t rank;
    uint32_t order; /* of the answers */
};

struct fix {
    struct jr_pool *pool;
    struct jr_actions acts;
    uint64_t now_ms;
    struct answer a[IDS];
    uint32_t answers;
    struct jr_decision last;
};

static inline struct jr_pool_config base_config(void)
{
    struct jr_pool_config c = {.replica_id = "a",
                               .namespace_ = "n",
                               .component = "c",
                               .seed = 7,
                               .block_size = 16,
                               .assume_kv_reuse = true,
                               .track_active_blocks = true,
                               .mode = JR_MODE_KV,
                               .lease_ttl_ms = 5000,
                               .has_queue_threshold = true,
                               .queue_threshold = 1};
    jr_cost_config_init(&c.cost, JR_COST_SECONDS);
    return c;
}

static inline void take_answers(struct fix *f)
{
    for (uint32_t i = 0; i < f->acts.n; i++) {
        const struct jr_action *a = &f->acts.v[i];
        if (a->type == JR_ACT_DECIDE) {
            struct answer *x = &f->a[a->u.decide.id];
            assert_false(x->decided || x->rejected);
            x->decided = true;
            x->waited = a->u.decide.waited;
            x->worker = a->u.decide.worker_id;
            x->rank = a->u.decide.dp_rank;
            x->order = f->answers++;
            f->last = a->u.decide;
        } else if (a->type == JR_ACT_REJECT) {
            struct answer *x = &f->a[a->u.reject.id];
            assert_false(x->decided || x->rejected);
            x->rejected = true;
            x->err = a->u.reject.err;
            x->why = a->u.reject.why;
            x->order = f->answers++;
        }
    }
}

static inline void step(struct fix *f, struct jr_event *ev)
{
    ev->now_ms = ++f->now_ms;
    ev->unix_ns = 1;
    assert_int_equal(jr_pool_step(f->pool, ev, &f->acts), 0);
    take_answers(f);
    jr_queue_check(&f->pool->queue);
}

static inline void open_pool(struct fix *f, const struct jr_pool_config *c)
{
    memset(f, 0, sizeof *f);
    f->now_ms = 1000;
    assert_int_equal(jr_pool_create(c, NULL, &f->pool), 0);
}

static inline void close_pool(struct fix *f)
{
    jr_actions_deinit(&f->acts, f->pool);
    jr_pool_destroy(f->pool);
}

static inline struct jr_worker_lease lease_of(uint64_t id, uint32_t ranks, uint32_t capacity,
                                              uint64_t blocks)
{
    struct jr_worker_lease l = {.worker_id = id,
                                .url = "http://w",
                                .model = "m",
                                .block_size = 16,
                                .max_batched_tokens = capacity,
                                .total_kv_blocks = blocks,
                                .n_ranks = ranks};
    for (uint32_t i = 0; i < ranks; i++)
        l.ranks[i].dp_rank = i;
    return l;
}

static inline void add_worker_of(struct fix *f, const char *model, uint64_t id, uint32_t ranks,
                                 uint32_t capacity, uint64_t blocks)
{
    struct jr_worker_lease l = lease_of(id, ranks, capacity, blocks);
    (void)snprintf(l.model, sizeof l.model, "%s", model);
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = &l;
    ev.u.members.n_workers = 1;
    ev.u.members.is_static = true;
    step(f, &ev);
}

static inline void add_worker(struct fix *f, uint64_t id, uint32_t ranks, uint32_t capacity,
                              uint64_t blocks)
{
    add_worker_of(f, "m", id, ranks, capacity, blocks);
}

static inline void probed(struct fix *f, uint64_t id, bool healthy)
{
    struct jr_event ev = {.type = JR_EV_PROBED};
    ev.u.probed.worker_id = id;
    ev.u.probed.healthy = healthy;
    step(f, &ev);
}

static inline void route(struct fix *f, struct jr_route r)
{
    struct jr_event ev = {.type = JR_EV_ROUTE, .u.route = r};
    step(f, &ev);
}

static inline void ask(struct fix *f, uint64_t id, uint32_t tokens)
{
    route(f, (struct jr_route){.id = id, .tokens = tokens});
}

static inline void ask_pinned(struct fix *f, uint64_t id, uint32_t tokens, uint64_t worker)
{
    route(f, (struct jr_route){.id = id, .tokens = tokens, .has_pin = true, .pin_worker = worker});
}

static inline void request(struct fix *f, enum jr_event_type type, uint64_t id, uint32_t output)
{
    struct jr_event ev = {.type = type};
    ev.u.request.id = id;
    ev.u.request.output_tokens = output;
    step(f, &ev);
}

static inline void tick_after(struct fix *f, uint64_t ms)
{
    struct jr_event ev = {.type = JR_EV_TICK};
    f->now_ms += ms;
    step(f, &ev);
}

static inline bool waits(const struct fix *f, uint64_t id)
{
    return !f->a[id].decided && !f->a[id].rejected;
}

static inline struct jr_pool_view view(struct fix *f)
{
    struct jr_pool_view v;
    jr_pool_view(f->pool, &v);
    return v;
}

static inline uint64_t load_of(struct fix *f, uint64_t worker, uint64_t *ret_blocks)
{
    struct jr_worker_view w;
    for (uint32_t pos = 0; jr_pool_next_worker(f->pool, &pos, &w);)
        if (w.worker_id == worker) {
            if (ret_blocks)
                *ret_blocks = w.active_blocks;
            return w.active_prefill_tokens;
        }
    fail();
    return 0;
}

#endif
