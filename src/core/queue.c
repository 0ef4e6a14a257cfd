/* SPDX-License-Identifier: Apache-2.0 */
#include "core/queue.h"

#include "base/assert.h"
#include "base/limit.h"

#include <string.h>

double jr_queue_score(enum jr_queue_policy policy, double jump_s, double arrival_s,
                      uint64_t uncached_tokens)
{
    double jump = jump_s > 0 ? jump_s : 0;
    switch (policy) {
    case JR_QUEUE_FCFS:
        return jump - arrival_s;
    case JR_QUEUE_LCFS:
        return jump + arrival_s;
    case JR_QUEUE_WSPT:
        return (1 + jump) / (double)(uncached_tokens ? uncached_tokens : 1);
    }
    JR_IMPOSSIBLE("unknown queue policy");
}

void jr_queue_init(struct jr_queue *q, struct jr_mem *mem, uint32_t max)
{
    *q = (struct jr_queue){.mem = mem, .max = max};
    jr_map_init(&q->by_id, mem);
    jr_map_init(&q->by_lane, mem);
    jr_list_init(&q->lanes);
}

static struct jr_queue_lane *find_lane(const struct jr_queue *q, uint64_t key)
{
    uint64_t value;
    if (!jr_map_get(&q->by_lane, key, &value))
        return NULL;
    return (struct jr_queue_lane *)(uintptr_t)value;
}

static void free_lane(struct jr_queue *q, struct jr_queue_lane *lane)
{
    jr_list_remove(&lane->node);
    jr_map_del(&q->by_lane, lane->key, NULL);
    jr_arr_free(q->mem, lane);
    jr_mem_free(q->mem, lane, sizeof *lane);
}

static int make_lane(struct jr_queue *q, uint64_t key, struct jr_queue_lane **ret)
{
    struct jr_queue_lane *lane = jr_mem_zalloc(q->mem, sizeof *lane);
    if (!lane)
        return JR_ENOMEM;
    lane->key = key;
    int err = jr_map_put(&q->by_lane, key, (uintptr_t)lane);
    if (err < 0) {
        jr_mem_free(q->mem, lane, sizeof *lane);
        return err;
    }
    jr_list_push_back(&q->lanes, &lane->node);
    *ret = lane;
    return 0;
}

/* ---------------------------------------------------------------- the heap */

bool jr_queue_before(const struct jr_queue_entry *a, const struct jr_queue_entry *b)
{
    if (a->strict_priority != b->strict_priority)
        return a->strict_priority > b->strict_priority;
    if (a->score > b->score || a->score < b->score)
        return a->score > b->score;
    return a->newest_first ? a->arrival > b->arrival : a->arrival < b->arrival;
}

static void put(struct jr_queue_lane *lane, uint32_t place, struct jr_queue_entry *e)
{
    lane->v[place] = e;
    e->place = place;
}

static void sift_up(struct jr_queue_lane *lane, struct jr_queue_entry *e)
{
    uint32_t i = e->place;
    while (i > 0 && jr_queue_before(e, lane->v[(i - 1) / 2])) {
        put(lane, i, lane->v[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(lane, i, e);
}

static void sift_down(struct jr_queue_lane *lane, struct jr_queue_entry *e)
{
    uint32_t i = e->place;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= lane->n)
            break;
        if (child + 1 < lane->n && jr_queue_before(lane->v[child + 1], lane->v[child]))
            child++;
        if (!jr_queue_before(lane->v[child], e))
            break;
        put(lane, i, lane->v[child]);
        i = child;
    }
    put(lane, i, e);
}

static void take_out(struct jr_queue_lane *lane, struct jr_queue_entry *e)
{
    struct jr_queue_entry *last = lane->v[--lane->n];
    if (last == e)
        return;
    put(lane, e->place, last);
    sift_up(lane, last);
    sift_down(lane, last);
}

/* ---------------------------------------------------------------- in and out */

int jr_queue_push(struct jr_queue *q, uint64_t key, const struct jr_queue_entry *entry)
{
    if (q->n >= q->max)
        return jr_limit(JR_LIMIT_QUEUE);
    if (jr_map_get(&q->by_id, entry->id, NULL))
        return JR_EEXIST;
    struct jr_queue_lane *lane = find_lane(q, key);
    int err = lane ? 0 : make_lane(q, key, &lane);
    if (err < 0)
        return err;
    struct jr_queue_entry *e = jr_mem_alloc(q->mem, sizeof *e);
    err = e ? jr_arr_reserve(q->mem, lane, 1, q->max) : JR_ENOMEM;
    if (err == 0)
        err = jr_map_put(&q->by_id, entry->id, (uintptr_t)e);
    if (err < 0) {
        jr_mem_free(q->mem, e, sizeof *e);
        if (lane->n == 0)
            free_lane(q, lane);
        return err;
    }
    *e = *entry;
    e->arrival = q->arrivals++;
    e->lane = lane;
    e->place = lane->n++;
    sift_up(lane, e);
    q->n++;
    return 0;
}

const struct jr_queue_entry *jr_queue_front(const struct jr_queue *q, uint64_t key)
{
    const struct jr_queue_lane *lane = find_lane(q, key);
    return lane ? lane->v[0] : NULL;
}

bool jr_queue_lane_empty(const struct jr_queue *q, uint64_t key)
{
    return find_lane(q, key) == NULL;
}

void *jr_queue_remove(struct jr_queue *q, uint64_t id)
{
    uint64_t value;
    if (!jr_map_del(&q->by_id, id, &value))
        return NULL;
    struct jr_queue_entry *e = (struct jr_queue_entry *)(uintptr_t)value;
    struct jr_queue_lane *lane = e->lane;
    void *request = e->request;
    take_out(lane, e);
    jr_mem_free(q->mem, e, sizeof *e);
    q->n--;
    if (lane->n == 0)
        free_lane(q, lane);
    return request;
}

bool jr_queue_next_lane(const struct jr_queue *q, const struct jr_list **pos, uint64_t *ret_lane)
{
    const struct jr_list *at = *pos ? *pos : q->lanes.next;
    if (at == &q->lanes)
        return false;
    *ret_lane = JR_CONTAINER_OF((struct jr_list *)(uintptr_t)at, struct jr_queue_lane, node)->key;
    *pos = at->next;
    return true;
}

void jr_queue_deinit(struct jr_queue *q, void (*drop)(void *ctx, void *request), void *ctx)
{
    while (!jr_list_empty(&q->lanes)) {
        struct jr_queue_lane *lane = JR_CONTAINER_OF(q->lanes.next, struct jr_queue_lane, node);
        void *request = jr_queue_remove(q, lane->v[lane->n - 1]->id);
        if (drop)
            drop(ctx, request);
    }
    jr_map_deinit(&q->by_id);
    jr_map_deinit(&q->by_lane);
}

void jr_queue_check(const struct jr_queue *q)
{
    uint32_t n = 0;
    JR_LIST_FOREACH (it, &q->lanes) {
        const struct jr_queue_lane *lane = JR_CONTAINER_OF(it, struct jr_queue_lane, node);
        JR_ASSERT(lane->n > 0 && find_lane(q, lane->key) == lane);
        for (uint32_t i = 0; i < lane->n; i++) {
            JR_ASSERT(lane->v[i]->place == i && lane->v[i]->lane == lane);
            JR_ASSERT(i == 0 || !jr_queue_before(lane->v[i], lane->v[(i - 1) / 2]));
            JR_ASSERT(jr_map_get(&q->by_id, lane->v[i]->id, NULL));
        }
        n += lane->n;
    }
    JR_ASSERT(n == q->n && q->by_id.n == n);
}
