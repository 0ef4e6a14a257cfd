/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that wait for a worker with room (core/queue.h has the order).
 *
 *     route ──every one it may go to is full, or its lane has a backlog──► waits
 *     first token · finish · peers' deltas · members · tick ──► the heads of the lanes are looked
 *     at, the best that finds room goes, and again, until none does
 *
 * A lane holds the requests that may go to the same workers: the unrestricted ones, and one for each
 * pin (worker, rank), each model and each set of excluded workers that somebody has. So a head that
 * finds no room speaks for all behind it, and a blocked pin keeps nobody else from the room there
 * is. Loads do not fall but by the events above, so between them no head can go: an arrival that may
 * wait behind none of them takes nothing that is theirs. */
#include "core/pool_internal.h"

#include <string.h>

#define RUN_MAX 1024 /* requests let go in one step; the rest in the next, at once */

static void free_waiting(void *ctx, void *request)
{
    struct jr_pool *p = ctx;
    struct jr_waiting *w = request;
    const struct jr_route *r = &w->route;
    size_t n = (size_t)r->n_prefix + r->n_exclude;
    jr_list_remove(&w->node);
    p->waiting_tokens -= r->tokens;
    jr_mem_free(&p->mem, w->arrays, n * sizeof *w->arrays);
    jr_mem_free(&p->mem, w, sizeof *w);
}

void jr_pool_queue_init(struct jr_pool *p)
{
    uint32_t max = p->config.queue_max;
    jr_queue_init(&p->queue, &p->mem, max && max < JR_QUEUE_MAX ? max : JR_QUEUE_MAX);
    jr_list_init(&p->waiting);
    p->give_up_ms = UINT64_MAX;
}

void jr_pool_queue_deinit(struct jr_pool *p)
{
    jr_queue_deinit(&p->queue, free_waiting, p);
}

bool jr_pool_queue_on(const struct jr_pool *p)
{
    return p->config.mode == JR_MODE_KV && p->config.has_queue_threshold &&
           p->config.queue_threshold >= 0;
}

/* ---------------------------------------------------------------- in */

/* The order of the ids does not matter. */
static uint64_t set_key(uint64_t key, const uint64_t *ids, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += jr_mix64(ids[i] ^ UINT64_C(0x6578636c756465)); /* no pin's, no model's */
    return n ? jr_mix64(key ^ sum) : key;
}

static uint64_t lane_of(const struct jr_route *r)
{
    uint64_t key = JR_QUEUE_ANY;
    if (r->has_pin)
        key = jr_mix64(r->pin_worker ^ jr_mix64(r->has_pin_rank ? UINT64_C(2) + r->pin_rank : 1));
    if (r->model)
        key = jr_mix64(key ^ r->model);
    key = set_key(key, r->exclude, r->n_exclude);
    bool restricted = r->has_pin || r->model || r->n_exclude;
    return restricted && key == JR_QUEUE_ANY ? 1 : key;
}

bool jr_pool_queue_must_wait(const struct jr_pool *p, const struct jr_route *r,
                             const struct jr_look *look)
{
    if (!jr_pool_queue_on(p) || r->query_only)
        return false;
    if (p->recheck && p->queue.n > 0) /* heads that could go are still there */
        return true;
    return look->with_room == 0 || !jr_queue_lane_empty(&p->queue, lane_of(r));
}

static uint64_t *copy_ids(uint64_t *to, const uint64_t **ids, uint32_t n)
{
    if (n)
        memcpy(to, *ids, n * sizeof *to);
    *ids = to;
    return to + n;
}

static struct jr_waiting *copy_request(struct jr_pool *p, const struct jr_route *r)
{
    size_t n = (size_t)r->n_prefix + r->n_exclude;
    struct jr_waiting *w = jr_mem_zalloc(&p->mem, sizeof *w);
    uint64_t *arrays = n ? jr_mem_alloc(&p->mem, n * sizeof *arrays) : NULL;
    if (!w || (n && !arrays)) {
        jr_mem_free(&p->mem, arrays, n * sizeof *arrays);
        jr_mem_free(&p->mem, w, sizeof *w);
        return NULL;
    }
    *w = (struct jr_waiting){.route = *r, .arrays = arrays, .since_ms = p->now_ms};
    if (n) {
        uint64_t *at = copy_ids(arrays, &w->route.prefix, r->n_prefix);
        (void)copy_ids(at, &w->route.exclude, r->n_exclude);
    }
    w->give_up_ms = r->wait_max_ms ? p->now_ms + r->wait_max_ms : UINT64_MAX;
    jr_list_push_back(&p->waiting, &w->node);
    p->waiting_tokens += r->tokens;
    return w;
}

int jr_pool_queue_put(struct jr_pool *p, const struct jr_route *r, const struct jr_look *look)
{
    struct jr_queue_entry e = {
        .id = r->id,
        .strict_priority = r->strict_priority,
        .score = jr_queue_score(p->config.queue_policy, r->priority_jump_s,
                                (double)p->now_ms / 1000, look->least_uncached),
        .at_ms = p->now_ms,
    };
    struct jr_waiting *w = copy_request(p, r);
    if (!w)
        return JR_ENOMEM;
    e.request = w;
    int err = jr_queue_push(&p->queue, lane_of(r), &e);
    if (err < 0) {
        free_waiting(p, w);
        return err;
    }
    if (w->give_up_ms < p->give_up_ms)
        p->give_up_ms = w->give_up_ms;
    p->n.queued++;
    return 0;
}

/* ---------------------------------------------------------------- out */

bool jr_pool_queue_cancel(struct jr_pool *p, uint64_t id)
{
    struct jr_waiting *w = jr_queue_remove(&p->queue, id);
    if (!w)
        return false;
    free_waiting(p, w);
    p->n.queue_cancelled++;
    return true;
}

/* There is room, or nobody is left it could go to: then it is refused. While all are above a busy
 * threshold it stays. */
static bool may_leave(const struct jr_pool *p, const struct jr_waiting *w)
{
    struct jr_look look;
    jr_pool_look(p, &w->route, &look);
    return look.with_room > 0 || (look.eligible == 0 && look.overloaded == 0);
}

/* The first of those heads that may leave, by the order of the queue. */
static const struct jr_queue_entry *next_to_leave(const struct jr_pool *p)
{
    const struct jr_queue_entry *best = NULL;
    const struct jr_list *pos = NULL;
    uint64_t lane;
    while (jr_queue_next_lane(&p->queue, &pos, &lane)) {
        const struct jr_queue_entry *head = jr_queue_front(&p->queue, lane);
        if ((!best || jr_queue_before(head, best)) && may_leave(p, head->request))
            best = head;
    }
    return best;
}

/* It is weighed anew: the load and the index are others than when it came. */
static void let_go(struct jr_pool *p, uint64_t id)
{
    struct jr_waiting *w = jr_queue_remove(&p->queue, id);
    struct jr_look look;
    int err = jr_pool_weigh(p, &w->route, &look);
    if (err == 0)
        err = jr_pool_admit(p, &w->route, &look, w);
    if (err < 0)
        jr_pool_reject(p, &w->route, err, NULL);
    free_waiting(p, w);
}

void jr_pool_queue_run(struct jr_pool *p)
{
    p->recheck = false;
    for (uint32_t n = 0; p->queue.n > 0; n++) {
        const struct jr_queue_entry *e = next_to_leave(p);
        if (!e)
            return;
        if (n == RUN_MAX || jr_pool_act_reserve(p) < 0) {
            p->recheck = true;
            return;
        }
        let_go(p, e->id);
    }
}

void jr_pool_queue_tick(struct jr_pool *p)
{
    if (p->now_ms < p->give_up_ms)
        return;
    p->give_up_ms = UINT64_MAX;
    uint32_t n = 0;
    JR_LIST_FOREACH_SAFE (it, &p->waiting) {
        struct jr_waiting *w = JR_CONTAINER_OF(it, struct jr_waiting, node);
        bool now = w->give_up_ms <= p->now_ms && n < RUN_MAX && jr_pool_act_reserve(p) == 0;
        if (now) {
            (void)jr_queue_remove(&p->queue, w->route.id);
            jr_pool_reject(p, &w->route, JR_ETIMEOUT,
                           "no worker had room for the request in time, please retry later");
            free_waiting(p, w);
            n++;
        } else if (w->give_up_ms < p->give_up_ms) {
            p->give_up_ms = w->give_up_ms;
        }
    }
}

void jr_pool_queue_view(const struct jr_pool *p, struct jr_queue_view *ret)
{
    *ret = (struct jr_queue_view){
        .on = jr_pool_queue_on(p),
        .threshold = p->config.queue_threshold,
        .policy = p->config.queue_policy,
        .waiting = p->queue.n,
        .lanes = (uint32_t)p->queue.by_lane.n,
        .max = p->queue.max,
        .waiting_tokens = p->waiting_tokens,
    };
    if (!jr_list_empty(&p->waiting))
        ret->oldest_ms =
            p->now_ms - JR_CONTAINER_OF(p->waiting.next, struct jr_waiting, node)->since_ms;
}
