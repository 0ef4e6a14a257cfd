/* SPDX-License-Identifier: Apache-2.0 */
/* Leases, probes, and what the log holds of workers that are gone. docs/protocol.md §5. */
#include "core/pool_internal.h"

#include "base/bug.h"
#include <string.h>

#define SCAN_EVERY_MS       500
#define REANNOUNCE_EVERY_MS 2000

uint32_t jr_pool_block_size(const struct jr_pool *p)
{
    if (p->state->params.block_size)
        return p->state->params.block_size;
    if (p->config.block_size)
        return p->config.block_size;
    for (uint32_t i = 0; i < p->workers.n; i++)
        if (p->workers.v[i]->lease.block_size)
            return p->workers.v[i]->lease.block_size;
    /* Static workers say nothing, and of our own blocks nobody else has to know the size. */
    return p->config.approximate && !p->config.durable ? JR_BLOCK_SIZE_DEFAULT : 0;
}

bool jr_pool_incarnation_fits(const struct jr_pool *p, uint32_t member, uint64_t named)
{
    const struct jr_state_rank *r = jr_state_rank(p->state, member);
    return r && (named == 0 || named == r->incarnation);
}

/* Its index entries count: the lease is listed and the log's incarnation is the lease's. */
bool jr_pool_credited(const struct jr_pool *p, const struct jr_worker *w, uint32_t i)
{
    uint64_t named = i < w->lease.n_ranks ? w->lease.ranks[i].incarnation : 0;
    return w->state == JR_WORKER_LIVE && jr_pool_incarnation_fits(p, w->members[i], named);
}

static bool is_in(const uint64_t *ids, uint32_t n, uint64_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool is_listed(const struct jr_worker_lease *leases, uint32_t n, uint64_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (leases[i].worker_id == id)
            return true;
    return false;
}

/* A lease is over by our own clock, too: nobody has renewed it since we first saw it a lease's time
 * ago, though the server still shows it. */
static bool has_lapsed(const struct jr_pool *p, uint64_t listed, uint64_t known,
                       uint64_t renewed_at_ms, uint64_t asked_at_ms)
{
    return listed && listed == known && asked_at_ms >= renewed_at_ms + p->config.lease_ttl_ms;
}

static bool worker_lapsed(const struct jr_pool *p, const struct jr_worker_lease *lease,
                          uint64_t asked_at_ms)
{
    const struct jr_worker *w = jr_workers_find(&p->workers, lease->worker_id);
    return w && has_lapsed(p, lease->revision, w->revision, w->renewed_at_ms, asked_at_ms);
}

static int list_worker(struct jr_pool *p, const struct jr_worker_lease *lease, bool is_static,
                       uint64_t asked_at_ms)
{
    struct jr_worker *w;
    jr_pool_approx_list(p, lease);
    int err = jr_workers_list(&p->workers, lease, jr_pool_block_size(p), is_static, p->now_ms, &w);
    if (err == JR_EINVAL || err == JR_ELIMIT) {
        p->n.leases_refused++;
        jr_trace_emit(&p->trace, JR_TRACE_WARN, "worker.refused",
                      "worker=%llu block_size=%u pool_block_size=%u error=%s",
                      (unsigned long long)lease->worker_id, lease->block_size,
                      jr_pool_block_size(p), jr_err_name(err));
        return 0;
    }
    if (err == 0 && w->revision != lease->revision) {
        w->revision = lease->revision;
        w->renewed_at_ms = asked_at_ms;
    }
    return err;
}

static int list_workers(struct jr_pool *p, const struct jr_event *e, uint64_t asked_at_ms)
{
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < e->u.members.n_workers; i++)
        if (!worker_lapsed(p, &e->u.members.workers[i], asked_at_ms))
            err = list_worker(p, &e->u.members.workers[i], e->u.members.is_static, asked_at_ms);
    return err;
}

/* Who is not in the list, or lapsed. What was taken back on purpose is no question of time. */
static void miss_workers(struct jr_pool *p, const struct jr_event *e, uint64_t asked_at_ms)
{
    bool judges = p->now_ms >= p->judge_at_ms;
    for (uint32_t i = 0; i < p->workers.n; i++) {
        struct jr_worker *w = p->workers.v[i];
        uint64_t id = w->lease.worker_id;
        bool removed = is_in(e->u.members.removed, e->u.members.n_removed, id);
        if (is_listed(e->u.members.workers, e->u.members.n_workers, id) &&
            !has_lapsed(p, w->revision, w->revision, w->renewed_at_ms, asked_at_ms))
            continue;
        if (removed || judges || !w->listed)
            jr_workers_unlist(&p->workers, w, removed, p->now_ms);
        else
            jr_workers_hold(w, p->now_ms);
    }
}

static bool names_replica(const struct jr_replica_lease *leases, uint32_t n, const char *id)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(leases[i].id, id) == 0)
            return true;
    return false;
}

static int take_lease(struct jr_pool *p, const struct jr_replica_lease *lease)
{
    int err = jr_arr_reserve(&p->mem, &p->leases, 1, 2 * JR_REPLICAS_MAX);
    if (err == 0)
        p->leases.v[p->leases.n++] = *lease;
    return err;
}

/* The leases that count: listed and not lapsed; and, as long as nobody is judged, those of peers that
 * are missing. */
static int gather_leases(struct jr_pool *p, const struct jr_event *e, uint64_t asked_at_ms)
{
    const struct jr_replica_lease *leases = e->u.members.replicas;
    int err = 0;
    p->leases.n = 0;
    for (uint32_t i = 0; err == 0 && i < e->u.members.n_replicas; i++) {
        const struct jr_peer *peer = jr_replicas_find(&p->replicas, leases[i].id);
        if (!peer ||
            !has_lapsed(p, leases[i].revision, peer->revision, peer->renewed_at_ms, asked_at_ms))
            err = take_lease(p, &leases[i]);
    }
    for (uint32_t i = 0; err == 0 && i < p->replicas.n && p->now_ms < p->judge_at_ms; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->has_lease && !names_replica(p->leases.v, p->leases.n, peer->id))
            err = take_lease(p, &peer->lease);
    }
    return err == JR_ELIMIT ? 0 : err; /* more than may be: jr_replicas_list says so */
}

static int list_replicas(struct jr_pool *p, const struct jr_event *e, uint64_t asked_at_ms)
{
    int err = gather_leases(p, e, asked_at_ms);
    if (err == 0)
        err = jr_replicas_list(&p->replicas, p->leases.v, p->leases.n, p->config.replica_id,
                               10 * p->config.lease_ttl_ms, p->now_ms);
    for (uint32_t i = 0; err == 0 && i < p->replicas.n; i++) {
        struct jr_peer *peer = p->replicas.v[i];
        if (!peer->has_lease || peer->revision == peer->lease.revision)
            continue;
        peer->revision = peer->lease.revision;
        peer->renewed_at_ms = asked_at_ms;
    }
    return err;
}

/* ---- being cut off: docs/protocol.md §5 */

void jr_pool_go_blind(struct jr_pool *p)
{
    p->workers.cut_off = true;
    for (uint32_t i = 0; JR_BUG(BLIND_IS_DOWN) && i < p->workers.n; i++)
        jr_workers_unlist(&p->workers, p->workers.v[i], true, p->now_ms);
    p->listed_at_ms = 0;
    p->judge_at_ms = 0;
    if (!p->blind_since_ms)
        p->blind_since_ms = p->now_ms;
}

/* The first list after a time without: who is missing may merely be late. */
static void see_again(struct jr_pool *p)
{
    if (p->workers.cut_off)
        p->judge_at_ms = p->now_ms + p->config.lease_ttl_ms;
    p->workers.cut_off = false;
    p->blind_since_ms = 0;
}

int jr_pool_on_members(struct jr_pool *p, const struct jr_event *e)
{
    uint64_t asked_at_ms = e->u.members.asked_at_ms ? e->u.members.asked_at_ms : p->now_ms;
    int err = list_workers(p, e, asked_at_ms);
    if (err < 0 || e->u.members.is_static)
        return err;
    see_again(p);
    miss_workers(p, e, asked_at_ms);
    p->listed_at_ms = asked_at_ms;
    err = list_replicas(p, e, asked_at_ms);
    jr_pool_judge_yield(p);
    jr_pool_sync_listed(p);
    return err;
}

void jr_pool_on_probed(struct jr_pool *p, const struct jr_event *e)
{
    struct jr_worker *w = jr_workers_find(&p->workers, e->u.probed.worker_id);
    if (w && e->u.probed.late)
        jr_workers_probed_late(&p->workers, w, p->now_ms);
    else if (w)
        jr_workers_probed(&p->workers, w, e->u.probed.healthy, p->now_ms);
}

void jr_pool_reannounce(struct jr_pool *p, uint64_t worker_id, uint32_t dp_rank)
{
    uint64_t key = jr_mix64(worker_id ^ jr_mix64(dp_rank));
    uint64_t at;
    if (jr_map_get(&p->reannounced, key, &at) && p->now_ms - at < REANNOUNCE_EVERY_MS)
        return;
    if (p->reannounced.n > JR_WORKERS_MAX)
        jr_map_clear(&p->reannounced);
    if (jr_map_put(&p->reannounced, key, p->now_ms) < 0)
        return;
    struct jr_action *a = jr_pool_act(p, JR_ACT_REANNOUNCE);
    if (!a)
        return;
    a->u.rank.worker_id = worker_id;
    a->u.rank.dp_rank = dp_rank;
    p->n.reannounce++;
}

/* The log is past what the bridge has an acknowledgement for, and yet does not know the rank's
 * incarnation or its newest event: what it announced is lost to us. Or the acknowledgement is of a
 * sequence that a stream which was looked at later does not have: of another history. */
static bool rank_is_lost(const struct jr_pool *p, const struct jr_worker *w, uint32_t i,
                         uint64_t last)
{
    const struct jr_rank_lease *lease = &w->lease.ranks[i];
    if (lease->incarnation == 0 || lease->acked_seq == 0 ||
        (p->state->seq < lease->acked_seq && lease->acked_seq <= last))
        return false;
    const struct jr_state_rank *r = jr_state_rank(p->state, w->members[i]);
    return !r || r->waiting || r->incarnation != lease->incarnation ||
           (r->has_id && r->newest_id < lease->acked_id);
}

static void find_lost_ranks(struct jr_pool *p, uint64_t last)
{
    for (uint32_t i = 0; i < p->workers.n; i++) {
        struct jr_worker *w = p->workers.v[i];
        if (w->state != JR_WORKER_LIVE)
            continue;
        for (uint32_t k = 0; k < w->lease.n_ranks; k++)
            if (rank_is_lost(p, w, k, last))
                jr_pool_reannounce(p, w->lease.worker_id, w->lease.ranks[k].dp_rank);
    }
}

void jr_pool_members_on_facts(struct jr_pool *p, uint64_t last_seq)
{
    if (jr_pool_recovery(p) == JR_REC_READY && p->state->seq >= p->target_seq)
        find_lost_ranks(p, last_seq);
}

bool jr_pool_workers_announced(const struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->workers.n; i++) {
        const struct jr_worker *w = p->workers.v[i];
        for (uint32_t k = 0; w->listed && k < w->lease.n_ranks; k++) {
            const struct jr_state_rank *r = jr_state_rank(p->state, w->members[k]);
            if (!r || r->waiting)
                return false;
        }
    }
    return true;
}

/* The log holds blocks of workers that nobody listed since we are here. */
static void find_ghosts(struct jr_pool *p)
{
    for (uint32_t m = 0; m < p->state->ranks.n; m++) {
        const struct jr_state_rank *r = jr_state_rank(p->state, m);
        uint64_t id = p->members.v[m].worker_id;
        if (r && r->incarnation != 0 && !jr_workers_find(&p->workers, id))
            if (jr_workers_ghost(&p->workers, id, p->now_ms) < 0)
                return;
    }
}

static bool in_log(const struct jr_pool *p, uint64_t worker_id)
{
    uint32_t m = jr_members_first(&p->members, worker_id);
    for (; m != JR_MEMBER_NONE; m = jr_members_next(&p->members, m))
        if (jr_state_rank(p->state, m))
            return true;
    return false;
}

static bool lease_named(const struct jr_worker_lease *lease, uint64_t incarnation)
{
    for (uint32_t k = 0; k < lease->n_ranks; k++)
        if (lease->ranks[k].incarnation == incarnation)
            return true;
    return false;
}

/* The incarnations that the log knows of a worker that is gone: of the life whose lease we saw, and of
 * others when none has begun for so long as a worker may be stale. A life that began since has no lease
 * before the log knows all its ranks. */
static uint32_t incarnations(const struct jr_pool *p, const struct jr_worker *w,
                             struct jr_rank_incarnation *out, uint32_t max)
{
    bool all = !w->began_at_ms || p->now_ms - w->began_at_ms >= p->config.stale_worker_ms;
    uint32_t n = 0;
    uint32_t m = jr_members_first(&p->members, w->lease.worker_id);
    for (; m != JR_MEMBER_NONE && n < max; m = jr_members_next(&p->members, m)) {
        const struct jr_state_rank *r = jr_state_rank(p->state, m);
        if (r && (all || lease_named(&w->lease, r->incarnation)))
            out[n++] = (struct jr_rank_incarnation){p->members.v[m].dp_rank, r->incarnation};
    }
    return n;
}

void jr_pool_members_on_begin(struct jr_pool *p, uint64_t worker_id)
{
    struct jr_worker *w = jr_workers_find(&p->workers, worker_id);
    if (w)
        w->began_at_ms = p->now_ms;
}

static void publish_gone(struct jr_pool *p, struct jr_worker *w)
{
    uint32_t n = incarnations(p, w, w->ended, JR_RANKS_INLINE);
    struct jr_action *a = n ? jr_pool_act(p, JR_ACT_PUBLISH_CONTROL) : NULL;
    if (!a)
        return;
    a->u.control.type = JR_CONTROL_WORKER_GONE;
    a->u.control.worker_id = w->lease.worker_id;
    a->u.control.ended = w->ended;
    a->u.control.n_ended = n;
    a->u.ends_worker = true;
    w->gone_at_ms = p->now_ms;
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "worker.gone", "worker=%llu why=%s",
                  (unsigned long long)w->lease.worker_id,
                  w->removed ? "removed" : "\"no lease and no answer\"");
}

static bool may_judge(const struct jr_pool *p)
{
    return p->leader && p->connected && !p->broken && !p->too_new && p->listed_at_ms &&
           p->now_ms >= p->judge_at_ms &&
           p->now_ms - p->connected_at_ms >= p->config.lease_ttl_ms &&
           p->now_ms - p->listed_at_ms < p->config.lease_ttl_ms;
}

static void judge_absent(struct jr_pool *p, struct jr_worker *w)
{
    bool over = w->removed || ((w->unhealthy || JR_BUG(GONE_UNASKED)) &&
                               p->now_ms - w->unlisted_at_ms >= p->config.stale_worker_ms);
    if (!over)
        return;
    if (in_log(p, w->lease.worker_id)) {
        if (may_judge(p) && (!w->gone_at_ms || p->now_ms - w->gone_at_ms >= JR_POOL_REPEAT_MS))
            publish_gone(p, w);
        return;
    }
    jr_pool_approx_forget(p, w);
    jr_workers_remove(&p->workers, w->lease.worker_id);
}

/* ---- rows of lower media that nobody writes any more */

static bool is_leased(const struct jr_worker_lease *lease, uint32_t dp_rank)
{
    for (uint32_t k = 0; k < lease->n_ranks; k++)
        if (lease->ranks[k].dp_rank == dp_rank)
            return true;
    return false;
}

/* The row is another incarnation's than its rank, or waits: since a bridge does without it, or since a
 * begin of an earlier life came late, which takes it from the life that is there. For a moment that is
 * so whenever a rank begins anew. */
static bool row_is_stuck(struct jr_pool *p, const struct jr_worker *w, uint32_t rank_member,
                         uint32_t row)
{
    const struct jr_state_rank *rank = jr_state_rank(p->state, rank_member);
    uint32_t m = jr_members_find(&p->members, w->lease.worker_id, row);
    const struct jr_state_rank *r = m == JR_MEMBER_NONE ? NULL : jr_state_rank(p->state, m);
    if (!rank || rank->waiting || !r || r->incarnation == 0 || is_leased(&w->lease, row) ||
        (r->incarnation == rank->incarnation && !r->waiting))
        return false;
    uint64_t key = jr_mix64(w->lease.worker_id ^ jr_mix64(row ^ jr_mix64(r->incarnation)));
    uint64_t at;
    bool seen = jr_map_get(&p->reannounced, key, &at);
    if (seen && p->now_ms - at < p->config.stale_worker_ms)
        return false;
    if (p->reannounced.n > JR_WORKERS_MAX)
        jr_map_clear(&p->reannounced);
    return jr_map_put(&p->reannounced, key, p->now_ms) == 0 && seen;
}

static void add_stuck_rows(struct jr_pool *p, struct jr_worker *w, uint32_t k, uint32_t *n)
{
    uint32_t dp_rank = w->lease.ranks[k].dp_rank;
    bool stuck = false;
    for (int i = 0; dp_rank < JR_LOWER_STEP && i < JR_LOWERS; i++) {
        uint32_t row = jr_lower_row(dp_rank, (enum jr_lower)i);
        if (*n == JR_RANKS_INLINE || !row_is_stuck(p, w, w->members[k], row))
            continue;
        uint32_t m = jr_members_find(&p->members, w->lease.worker_id, row);
        w->ended[(*n)++] =
            (struct jr_rank_incarnation){row, jr_state_rank(p->state, m)->incarnation};
        stuck = true;
    }
    if (stuck)
        jr_pool_reannounce(p, w->lease.worker_id, dp_rank);
}

/* Ends them, and lets the bridge, should it tell of such rows, say them again. */
static void end_stuck_rows(struct jr_pool *p, struct jr_worker *w)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < w->lease.n_ranks; k++)
        add_stuck_rows(p, w, k, &n);
    struct jr_action *a = n ? jr_pool_act(p, JR_ACT_PUBLISH_CONTROL) : NULL;
    if (!a)
        return;
    a->u.control.type = JR_CONTROL_WORKER_GONE;
    a->u.control.worker_id = w->lease.worker_id;
    a->u.control.ended = w->ended;
    a->u.control.n_ended = n;
}

static void probe_due(struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->workers.n; i++) {
        struct jr_worker *w = p->workers.v[i];
        bool due = w->listed && !w->held ? p->workers.cut_off : w->probe_at_ms != 0;
        if (!due || p->now_ms < w->probe_at_ms || !w->lease.url[0])
            continue;
        struct jr_action *a = jr_pool_act(p, JR_ACT_PROBE);
        if (!a)
            return;
        a->u.probe.worker_id = w->lease.worker_id;
        a->u.probe.url = w->lease.url;
        w->probe_at_ms =
            p->now_ms + UINT64_C(10) * SCAN_EVERY_MS; /* should the answer never come */
    }
}

static void scan(struct jr_pool *p)
{
    if (p->now_ms < p->scan_at_ms || !p->config.durable)
        return;
    p->scan_at_ms = p->now_ms + SCAN_EVERY_MS;
    uint64_t expiry = p->config.active_expiry_ms; /* also while cut off: they end nowhere else */
    if (expiry && p->now_ms > expiry)
        p->n.bookings_expired += jr_replicas_expire(&p->replicas, p->now_ms - expiry, p->now_ms);
    if (jr_pool_recovery(p) != JR_REC_READY && jr_pool_recovery(p) != JR_REC_CATCH_UP)
        return;
    find_lost_ranks(p, UINT64_MAX);
    find_ghosts(p);
    for (uint32_t i = p->workers.n; i-- > 0;)
        if (!p->workers.v[i]->listed)
            judge_absent(p, p->workers.v[i]);
        else if (p->workers.v[i]->state == JR_WORKER_LIVE && may_judge(p))
            end_stuck_rows(p, p->workers.v[i]);
}

/* Also a server that takes connections and lists nothing, or so slowly that the newest list is older
 * than two leases' time, leaves us blind; and who never saw one is blind from the start. */
static void watch_list(struct jr_pool *p)
{
    if (!p->config.durable)
        return;
    if (p->listed_at_ms && p->now_ms - p->listed_at_ms >= 2 * p->config.lease_ttl_ms)
        jr_pool_go_blind(p);
    else if (!p->connected && !p->blind_since_ms)
        p->blind_since_ms = p->started_at_ms;
}

void jr_pool_members_tick(struct jr_pool *p)
{
    watch_list(p);
    scan(p);
    probe_due(p); /* last: its actions name workers, and a scan may remove some */
}
