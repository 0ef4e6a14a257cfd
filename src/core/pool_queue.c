/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that wait for a worker with room (core/queue.h has the order).
 *
 *     route ──every one it may go to is full, or its lane has a backlog──► waits
 *     first token · finish · peers' deltas · members · tick ──► the heads of the lanes are looked
 *     at, the best that finds room goes, of the class whose turn it is (core/drr.h), and again, until
 *     none does
 *
 * A lane holds the requests of a class that may go to the same workers: the unrestricted ones, and one
 * for each pin (worker, rank), each model and each set of excluded workers that somebody has. So a head that
 * finds no room speaks for all behind it, and a blocked pin keeps nobody else from the room there
 * is. One whose session is bound has the lane of that pin; when its worker goes, it moves to the lane
 * of those that may go where it now may. Loads do not fall but by the events above, so between them no head can go: an arrival that may
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
    jr_pool_class_leave(w);
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
    jr_pool_classes_init(p);
}

void jr_pool_queue_deinit(struct jr_pool *p)
{
    jr_queue_deinit(&p->queue, free_waiting, p);
    jr_pool_classes_deinit(p);
}

static bool may_wait_for(const struct jr_policy_room *room)
{
    return room->has_tokens || room->has_frac;
}

bool jr_pool_queue_on(const struct jr_pool *p)
{
    return p->config.mode == JR_MODE_KV &&
           (p->config.policy || may_wait_for(&p->plain.classes[0].room));
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

static uint64_t lane_of(const struct jr_route *r, uint32_t class)
{
    uint64_t key = JR_QUEUE_ANY;
    if (r->has_pin)
        key = jr_mix64(r->pin_worker ^ jr_mix64(r->has_pin_rank ? UINT64_C(2) + r->pin_rank : 1));
    if (r->model)
        key = jr_mix64(key ^ r->model);
    key = set_key(key, r->exclude, r->n_exclude);
    if (class)
        key = jr_mix64(key ^ jr_mix64(UINT64_C(0x636c617373) << 8 | class));
    bool restricted = r->has_pin || r->model || r->n_exclude || class;
    return restricted && key == JR_QUEUE_ANY ? 1 : key;
}

/* Others are before it, or nobody it may go to has room. look: of weighing it. */
static bool finds_no_room(const struct jr_pool *p, const struct jr_route *r,
                          const struct jr_policy_room *room, uint32_t class,
                          const struct jr_look *look)
{
    if (!jr_queue_lane_empty(&p->queue, lane_of(r, class)))
        return true;
    struct jr_look now = *look;
    if (p->config.policy)
        jr_pool_look(p, r, room, &now);
    return now.with_room == 0;
}

bool jr_pool_queue_must_wait(const struct jr_pool *p, const struct jr_route *r,
                             const struct jr_look *look, struct jr_class *ret)
{
    if (!jr_pool_queue_on(p) || r->query_only)
        return false;
    *ret = jr_pool_class(p, r, look);
    const struct jr_policy_room *room = &jr_class_row(ret)->room;
    if (!may_wait_for(room))
        return false;
    if (p->recheck && p->queue.n > 0) /* heads that could go are still there */
        return true;
    return finds_no_room(p, r, room, ret->at, look);
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

static void assess(struct jr_waiting *w, struct jr_sched *sched, uint32_t class,
                   const struct jr_look *look)
{
    uint64_t tokens = w->route.tokens, uncached = look->least_uncached;
    w->sched = sched;
    w->class = class;
    w->amount[JR_POLICY_REQUESTS] = 1;
    w->amount[JR_POLICY_ISL_TOKENS] = tokens;
    w->amount[JR_POLICY_CACHED_TOKENS] = uncached < tokens ? tokens - uncached : 0;
    w->cost = uncached == 0 ? 1 : uncached < JR_DRR_COST_MAX ? uncached : JR_DRR_COST_MAX;
    jr_pool_class_enter(w);
}

static int push(struct jr_pool *p, struct jr_waiting *w, const struct jr_policy_class *class,
                const struct jr_look *look)
{
    const struct jr_route *r = &w->route;
    struct jr_queue_entry e = {
        .id = r->id,
        .strict_priority = r->strict_priority,
        .score = jr_queue_score(class->queue_policy, r->priority_jump_s, (double)p->now_ms / 1000,
                                look->least_uncached),
        .newest_first = class->queue_policy == JR_QUEUE_LCFS,
        .at_ms = p->now_ms,
        .request = w,
    };
    return jr_queue_push(&p->queue, lane_of(r, w->class), &e);
}

int jr_pool_queue_put(struct jr_pool *p, const struct jr_route *r, const struct jr_look *look,
                      const struct jr_class *c, struct jr_queue_refusal *ret)
{
    struct jr_sched *sched = NULL;
    int err = jr_pool_sched(p, r, c, &sched);
    if (err == 0 && !jr_pool_class_has_place(p, r, sched, c->at, ret))
        err = JR_ELIMIT;
    struct jr_waiting *w = err == 0 ? copy_request(p, r) : NULL;
    if (!w)
        return err < 0 ? err : JR_ENOMEM;
    assess(w, sched, c->at, look);
    err = push(p, w, jr_class_row(c), look);
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

static void forget_heads(struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->scheds.n; i++) {
        struct jr_sched *s = p->scheds.v[i];
        memset(s->heads, 0, s->profile->n_classes * sizeof *s->heads);
        memset(s->best, 0, s->profile->n_classes * sizeof *s->best);
    }
}

/* Is the head of a lane the best of its class that finds room? False: nobody is left it could go to.
 * While all are above a busy threshold it stays. */
static bool look_at(const struct jr_pool *p, const struct jr_queue_entry *head)
{
    const struct jr_waiting *w = head->request;
    struct jr_sched *s = w->sched;
    struct jr_look look;
    if (s->best[w->class] && !jr_queue_before(head, s->best[w->class]))
        return true;
    jr_pool_look(p, &w->route, &s->profile->classes[w->class].room, &look);
    if (look.with_room > 0) {
        s->best[w->class] = head;
        s->heads[w->class].may_go = true;
        s->heads[w->class].cost = w->cost;
    }
    return look.eligible > 0 || look.overloaded > 0;
}

/* A head that nobody could take any more, else the one whose turn it is. */
static const struct jr_queue_entry *next_to_leave(struct jr_pool *p)
{
    const struct jr_list *pos = NULL;
    uint64_t lane;
    forget_heads(p);
    while (jr_queue_next_lane(&p->queue, &pos, &lane)) {
        const struct jr_queue_entry *head = jr_queue_front(&p->queue, lane);
        if (!look_at(p, head))
            return head;
    }
    for (uint32_t i = 0; i < p->scheds.n; i++) {
        uint32_t at = (p->sched_turn + i) % p->scheds.n;
        struct jr_sched *s = p->scheds.v[at];
        uint32_t class = jr_drr_pick(&s->drr, s->heads);
        if (class == JR_DRR_NONE)
            continue;
        p->sched_turn = at + 1;
        return s->best[class];
    }
    return NULL;
}

/* Its session was bound to a worker that is gone, and it may go elsewhere now: as one of those that
 * wait for there, in the order in which it came. In a new lane whose workers are there, so that it is
 * not taken out again before its turn. */
static bool waits_elsewhere(struct jr_pool *p, const struct jr_queue_entry *e, uint64_t lane_before,
                            const struct jr_look *look)
{
    const struct jr_waiting *w = e->request;
    uint64_t lane = lane_of(&w->route, w->class);
    const struct jr_policy_room *room = &w->sched->profile->classes[w->class].room;
    return lane != lane_before && finds_no_room(p, &w->route, room, w->class, look) &&
           jr_queue_push(&p->queue, lane, e) == 0;
}

/* It is weighed anew: the load and the index are others than when it came. So may its session be: bound
 * meanwhile, it goes there, room or not, for it has waited its turn. */
static void let_go(struct jr_pool *p, const struct jr_queue_entry *head)
{
    struct jr_queue_entry e = *head;
    struct jr_waiting *w = e.request;
    struct jr_sched *s = w->sched;
    bool in_turn = s->best[w->class] == head, was_pinned = w->route.session_pinned;
    uint64_t lane = lane_of(&w->route, w->class);
    (void)jr_queue_remove(&p->queue, e.id);
    struct jr_look look;
    int err = jr_pool_session_pin(p, &w->route);
    const char *why = err < 0 ? p->session_why : NULL;
    if (err == 0)
        err = jr_pool_session_weigh(p, &w->route, &look);
    bool may_wait = err == 0 || (err == JR_EBUSY && !why); /* busy workers are waited for, too */
    if (may_wait && !in_turn && was_pinned && waits_elsewhere(p, &e, lane, &look))
        return;
    if (err == 0)
        err = jr_pool_admit(p, &w->route, &look, w);
    if (err < 0)
        jr_pool_reject(p, &w->route, err, why);
    if (in_turn)
        jr_drr_took(&s->drr, w->class, w->cost);
    free_waiting(p, w);
}

void jr_pool_queue_run(struct jr_pool *p)
{
    p->recheck = false;
    for (uint32_t n = 0; p->queue.n > 0; n++) {
        if (n == RUN_MAX || jr_pool_act_reserve(p) < 0) {
            p->recheck = true;
            return;
        }
        const struct jr_queue_entry *e = next_to_leave(p);
        if (!e)
            return;
        let_go(p, e);
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
        .by_policy = p->config.policy != NULL,
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
