/* SPDX-License-Identifier: Apache-2.0 */
#include "core/workers.h"

#include "base/limit.h"

#include <string.h>

#define PROBE_EVERY_MS 1000

const char *jr_worker_state_name(enum jr_worker_state state)
{
    static const char *const names[] = {"live", "stale", "down"};
    return names[state];
}

void jr_workers_init(struct jr_workers *ws, struct jr_mem *mem, struct jr_members *members)
{
    *ws = (struct jr_workers){.mem = mem, .members = members};
}

static void free_worker(struct jr_workers *ws, struct jr_worker *w)
{
    for (uint32_t i = 0; i < w->n_members; i++)
        jr_members_unref(ws->members, w->members[i]);
    jr_mem_free(ws->mem, w, sizeof *w);
}

void jr_workers_deinit(struct jr_workers *ws)
{
    for (uint32_t i = 0; i < ws->n; i++)
        free_worker(ws, ws->v[i]);
    jr_arr_free(ws->mem, ws);
}

/* First position whose id is not below. */
static uint32_t position(const struct jr_workers *ws, uint64_t worker_id)
{
    uint32_t lo = 0, hi = ws->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (ws->v[mid]->lease.worker_id < worker_id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct jr_worker *jr_workers_find(const struct jr_workers *ws, uint64_t worker_id)
{
    uint32_t at = position(ws, worker_id);
    return at < ws->n && ws->v[at]->lease.worker_id == worker_id ? ws->v[at] : NULL;
}

static int insert(struct jr_workers *ws, uint64_t worker_id, struct jr_worker **ret)
{
    int err = jr_limit_of(JR_LIMIT_STATE_RANKS, jr_arr_reserve(ws->mem, ws, 1, JR_STATE_RANKS_MAX));
    if (err < 0)
        return err;
    struct jr_worker *w = jr_mem_zalloc(ws->mem, sizeof *w);
    if (!w)
        return JR_ENOMEM;
    w->lease.worker_id = worker_id;
    uint32_t at = position(ws, worker_id);
    memmove(ws->v + at + 1, ws->v + at, (ws->n - at) * sizeof *ws->v);
    ws->v[at] = w;
    ws->n++;
    *ret = w;
    return 0;
}

/* One member a rank; a lease without ranks is a worker with rank 0. */
static int take_members(struct jr_workers *ws, struct jr_worker *w,
                        const struct jr_worker_lease *lease)
{
    uint32_t taken[JR_RANKS_INLINE];
    uint32_t want = lease->n_ranks ? lease->n_ranks : 1, n = 0;
    for (; n < want; n++) {
        uint32_t rank = lease->n_ranks ? lease->ranks[n].dp_rank : 0;
        int err = jr_members_ref(ws->members, lease->worker_id, rank, &taken[n]);
        if (err < 0) {
            while (n > 0)
                jr_members_unref(ws->members, taken[--n]);
            return err;
        }
    }
    for (uint32_t i = 0; i < w->n_members; i++)
        jr_members_unref(ws->members, w->members[i]);
    memcpy(w->members, taken, n * sizeof *taken);
    w->n_members = n;
    return 0;
}

int jr_workers_list(struct jr_workers *ws, const struct jr_worker_lease *lease, uint32_t block_size,
                    bool is_static, uint64_t now_ms, struct jr_worker **ret)
{
    if (lease->n_ranks > JR_RANKS_INLINE ||
        (block_size && lease->block_size && lease->block_size != block_size)) {
        ws->refused++;
        return JR_EINVAL;
    }
    struct jr_worker *w = jr_workers_find(ws, lease->worker_id);
    bool fresh = !w;
    int err = fresh ? insert(ws, lease->worker_id, &w) : 0;
    if (err < 0)
        return err;
    err = take_members(ws, w, lease);
    if (err < 0) {
        if (fresh)
            jr_workers_remove(ws, lease->worker_id);
        return err;
    }
    ws->changes++;
    w->lease = *lease;
    w->listed = !is_static;
    w->held = false;
    w->removed = false;
    w->unlisted_at_ms = 0;
    w->is_static = is_static;
    w->state = JR_WORKER_LIVE;
    w->probe_at_ms = is_static ? now_ms : 0;
    w->unhealthy = false;
    w->late_probes = 0;
    *ret = w;
    return 0;
}

int jr_workers_ghost(struct jr_workers *ws, uint64_t worker_id, uint64_t now_ms)
{
    struct jr_worker *w;
    int err = insert(ws, worker_id, &w);
    if (err < 0)
        return err;
    w->state = JR_WORKER_DOWN;
    w->unhealthy = true;
    w->unlisted_at_ms = now_ms;
    return 0;
}

void jr_workers_hold(struct jr_worker *w, uint64_t now_ms)
{
    if (!w->listed || w->held)
        return;
    w->held = true;
    w->probe_at_ms = now_ms;
}

void jr_workers_unlist(struct jr_workers *ws, struct jr_worker *w, bool removed, uint64_t now_ms)
{
    ws->changes++;
    w->held = false;
    w->removed = w->removed || removed;
    if (w->removed)
        w->state = JR_WORKER_DOWN;
    if (!w->listed && w->unlisted_at_ms)
        return;
    w->listed = false;
    w->unlisted_at_ms = now_ms;
    w->state = w->removed ? JR_WORKER_DOWN : JR_WORKER_STALE;
    w->probe_at_ms = now_ms;
}

/* Otherwise its lease alone decides. */
static bool is_judged(const struct jr_workers *ws, const struct jr_worker *w)
{
    return !w->listed || w->held || ws->cut_off;
}

void jr_workers_probed(struct jr_workers *ws, struct jr_worker *w, bool healthy, uint64_t now_ms)
{
    if (!is_judged(ws, w))
        return;
    ws->changes++;
    w->late_probes = 0;
    w->unhealthy = !healthy;
    if (!healthy || w->removed)
        w->state = JR_WORKER_DOWN;
    else
        w->state = w->is_static || w->listed ? JR_WORKER_LIVE : JR_WORKER_STALE;
    w->probe_at_ms = now_ms + PROBE_EVERY_MS;
}

void jr_workers_probed_late(struct jr_workers *ws, struct jr_worker *w, uint64_t now_ms)
{
    uint32_t most = w->is_static || w->listed ? JR_PROBES_LATE : 1;
    if (!is_judged(ws, w))
        return;
    if (++w->late_probes >= most)
        jr_workers_probed(ws, w, false, now_ms);
    else
        w->probe_at_ms = now_ms + PROBE_EVERY_MS;
}

void jr_workers_remove(struct jr_workers *ws, uint64_t worker_id)
{
    uint32_t at = position(ws, worker_id);
    if (at == ws->n || ws->v[at]->lease.worker_id != worker_id)
        return;
    ws->changes++;
    free_worker(ws, ws->v[at]);
    memmove(ws->v + at, ws->v + at + 1, (ws->n - at - 1) * sizeof *ws->v);
    ws->n--;
}
