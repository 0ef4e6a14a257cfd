/* SPDX-License-Identifier: Apache-2.0 */
#include "core/hash.h"
#include "core/pool_internal.h"

#include <string.h>

static void view_counters(const struct jr_pool *p, struct jr_pool_counters *c)
{
    *c = p->n;
    const struct jr_state_counters *s = &p->state->counters;
    c->dropped_unknown_parent = s->dropped_unknown_parent;
    c->dropped_stale = s->dropped_stale;
    c->dropped_hole = s->dropped_hole;
    c->undecodable = s->undecodable;
    c->refused_cap = s->refused_cap;
    c->skipped = s->skipped;
    c->purged_to = p->purged_to;
}

static uint32_t count_bookings(const struct jr_pool *p)
{
    return jr_active_requests(p->active);
}

void jr_pool_view(struct jr_pool *p, struct jr_pool_view *ret)
{
    static const char *const stages[] = {"idle", "copying", "uploading", "asking the peers",
                                         "recording"};
    const struct jr_state *s = p->state;
    const struct jr_index *index = jr_pool_index(p);
    *ret = (struct jr_pool_view){
        .ready = p->ready,
        .leader = p->leader,
        .nats_connected = p->connected,
        .index_is_old = p->index_is_old,
        .truncated = s->counters.refused_cap > 0,
        .digest_mismatch = p->digest_mismatch,
        .recovery_state = jr_sm_name(&p->recovery),
        .degraded_since_ms = p->blind_since_ms,
        .not_ready_because = p->ready ? "" : jr_pool_not_ready_because(p),
        .applied_seq = p->has_position ? s->seq : 0,
        .stream_first_seq = p->stream_first,
        .stream_last_seq = p->stream_last,
        .stream_bytes = p->facts.bytes,
        .stream_bytes_max = p->facts.bytes_max,
        .stream_created_ns = p->stream_created_ns,
        .digest_blocks = jr_state_digest_blocks(s),
        .digest_table = jr_state_digest_table(s),
        .blocks = jr_index_blocks(index),
        .entries = jr_index_entries(index),
        .index_bytes = jr_index_bytes(index),
        .believed = p->approx ? jr_approx_entries(p->approx) : 0,
        .bytes = p->mem.bytes,
        .reserve_bytes = jr_mem_slack(&p->mem),
        .block_size = jr_pool_block_size(p),
        .epoch = s->epoch,
        .snapshots = p->record,
        .snapshot_running = p->snap != JR_SNAP_IDLE,
        .restored_entries = p->importing ? p->import.next : 0,
        .restore_total = p->image ? p->image->n_entries : 0,
        .may_forget_because = jr_pool_may_forget(p),
        .foreign_consumers = p->facts.foreign,
        .snapshot_stage = stages[p->snap],
        .snapshot_ms = p->snapshot_ms,
        .snapshot_failures = p->snap_failures,
        .snapshot_failed_because = p->snap_why ? p->snap_why : "",
        .agreed_block_size = s->params.block_size,
        .rule_version = s->rule_version,
        .n_workers = p->workers.n,
        .n_peers = p->replicas.n,
        .n_bookings = count_bookings(p),
        .speed_factor = jr_speed_factor(&p->speed),
    };
    ret->sessions = (struct jr_sessions_view){.on = p->sessions.ttl_ms > 0,
                                              .open = p->sessions.open,
                                              .n = p->sessions.n,
                                              .counters = p->sessions.counters};
    jr_pool_queue_view(p, &ret->queue);
    view_counters(p, &ret->counters);
}

static uint64_t digest_held(const struct jr_pool *p, uint32_t member)
{
    const struct jr_index *index = jr_pool_index(p);
    return jr_index_has_member(index, member) ? jr_index_member_digest(index, member) : 0;
}

static void view_rank(struct jr_pool *p, const struct jr_worker *w, uint32_t i,
                      struct jr_worker_view *ret)
{
    uint32_t member = w->members[i];
    struct jr_active_load load;
    jr_active_load(p->active, member, p->now_ms, jr_speed_factor(&p->speed), &load);
    *ret = (struct jr_worker_view){
        .worker_id = w->lease.worker_id,
        .dp_rank = p->members.v[member].dp_rank,
        .url = w->lease.url,
        .on_cpu = w->lease.on_cpu,
        .model = w->lease.model,
        .lease = &w->lease,
        .state = w->state,
        .blocks = jr_pool_blocks_held(p, member),
        .digest = digest_held(p, member),
        .active_blocks = load.active_blocks,
        .active_prefill_tokens = load.prefill_tokens,
        .active_requests = load.requests,
        .backlog_seconds = load.backlog_s,
        .credited = jr_pool_credited(p, w, i),
    };
}

/* *pos is the place of a worker, in the order of their ids, and of a rank of it: a walk over thousands
 * looks at each once. Ghosts have no ranks. */
#define RANK_BITS 12
_Static_assert(JR_RANKS_MAX < 1 << RANK_BITS && JR_WORKERS_MAX < 1 << (32 - RANK_BITS), "*pos");

bool jr_pool_next_worker(struct jr_pool *p, uint32_t *pos, struct jr_worker_view *ret)
{
    uint32_t rank = *pos & ((1 << RANK_BITS) - 1);
    for (uint32_t i = *pos >> RANK_BITS; i < p->workers.n; i++, rank = 0) {
        const struct jr_worker *w = p->workers.v[i];
        if (rank < w->n_members) {
            view_rank(p, w, rank, ret);
            *pos = i << RANK_BITS | (rank + 1);
            return true;
        }
    }
    return false;
}

bool jr_pool_next_peer(struct jr_pool *p, uint32_t *pos, struct jr_peer_view *ret)
{
    if (*pos >= p->replicas.n)
        return false;
    const struct jr_peer *peer = p->replicas.v[(*pos)++];
    *ret = (struct jr_peer_view){
        .id = peer->id,
        .incarnation = peer->incarnation,
        .ready = peer->has_lease && peer->lease.ready,
        .listed = peer->has_lease,
        .base_read = peer->base_read,
        .applied_seq = peer->lease.applied,
        .point = peer->lease.point,
        .active_requests = peer->bookings.n,
        .address = peer->lease.address,
        .version = peer->lease.version,
    };
    return true;
}

int jr_pool_scores(struct jr_pool *p, const uint64_t *prefix, uint32_t n,
                   void (*fn)(void *ctx, uint64_t worker_id, uint32_t dp_rank, uint32_t blocks),
                   void *ctx)
{
    int err = jr_index_match(p->state->index, prefix, n, &p->match);
    for (uint32_t i = 0; err == 0 && i < p->match.n; i++) {
        const struct jr_member *m = &p->members.v[p->match.v[i].member];
        fn(ctx, m->worker_id, m->dp_rank, p->match.v[i].blocks);
    }
    return err;
}

const struct jr_candidate *jr_pool_record(const struct jr_pool *p, const struct jr_decision *d)
{
    if (d->n_record == 0 || d->record_at + d->n_record > p->records.n)
        return NULL;
    return &p->records.v[d->record_at];
}

static bool serves(const struct jr_worker *w, const char *model)
{
    return w->state != JR_WORKER_DOWN && w->lease.url[0] &&
           (!model || !model[0] || !w->lease.model[0] ||
            jr_str_eq(jr_str_of(w->lease.model, strlen(w->lease.model)), model));
}

const char *jr_pool_any_url(struct jr_pool *p, const char *model)
{
    for (uint32_t i = 0; i < p->workers.n; i++)
        if (serves(p->workers.v[i], model))
            return p->workers.v[i]->lease.url;
    return NULL;
}

static enum jr_pool_model look_for_model(const struct jr_pool *p, const char *model)
{
    enum jr_pool_model best = JR_POOL_MODEL_EMPTY;
    for (uint32_t i = 0; i < p->workers.n && best != JR_POOL_MODEL_SERVED; i++) {
        enum jr_pool_model is = JR_POOL_MODEL_EMPTY;
        if (serves(p->workers.v[i], model))
            is = p->workers.v[i]->lease.model[0] || !model || !model[0] ? JR_POOL_MODEL_SERVED
                                                                        : JR_POOL_MODEL_TAKEN;
        else if (serves(p->workers.v[i], NULL))
            is = JR_POOL_MODEL_NONE;
        best = is > best ? is : best;
    }
    return best;
}

enum jr_pool_model jr_pool_model(struct jr_pool *p, const char *model)
{
    const char *name = model ? model : "";
    if (p->model.at != p->workers.changes + 1 || strcmp(p->model.name, name) != 0) {
        bool fits = jr_str_copy(p->model.name, sizeof p->model.name, name);
        p->model.is = look_for_model(p, model);
        p->model.at = fits ? p->workers.changes + 1 : 0;
    }
    return p->model.is;
}

bool jr_pool_is_routable(const struct jr_pool *p, uint64_t worker_id)
{
    const struct jr_worker *w = jr_workers_find(&p->workers, worker_id);
    return w && serves(w, NULL);
}

uint32_t jr_pool_n_routable(const struct jr_pool *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->workers.n; i++)
        n += serves(p->workers.v[i], NULL);
    return n;
}

uint64_t jr_pool_registry_version(const struct jr_pool *p)
{
    return p->workers.changes;
}

uint64_t jr_pool_model_id(const char *model)
{
    if (!model || !model[0])
        return 0;
    uint64_t id = jr_hash_bytes(NULL, model, strlen(model));
    return id ? id : 1;
}
