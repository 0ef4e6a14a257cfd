/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pool_internal.h"

#include "base/assert.h"

#include <string.h>

static int init_parts(struct jr_pool *p)
{
    jr_members_init(&p->members, &p->mem);
    jr_workers_init(&p->workers, &p->mem, &p->members);
    jr_map_init(&p->reannounced, &p->mem);
    jr_map_init(&p->word_at, &p->mem);
    jr_sessions_init(&p->sessions, &p->mem, p->config.session_ttl_ms, p->config.sessions_max);
    jr_index_match_init(&p->match, &p->mem);
    jr_rng_init(&p->rng, p->config.seed, 1);
    jr_pool_queue_init(p);
    int err = jr_pool_approx_init(p);
    if (err == 0)
        err = jr_active_create(&p->mem, &p->active);
    if (err < 0)
        return err;
    jr_bookings_init(&p->own, &p->mem, &p->members, p->active, &p->next_key);
    jr_replicas_init(&p->replicas, &p->mem, &p->members, p->active, &p->next_key);
    p->own.ignore_output = p->replicas.ignore_output = !p->config.track_output_blocks;
    return jr_pool_new_state(p, &p->state);
}

int jr_pool_create(const struct jr_pool_config *config, const struct jr_trace *trace,
                   struct jr_pool **ret)
{
    struct jr_pool *p = jr_xalloc(sizeof *p);
    p->config = *config;
    if (trace)
        p->trace = *trace;
    jr_mem_init(&p->mem);
    if (config->warmer.post)
        jr_mem_warm(&p->mem, &config->warmer, JR_MEM_WARM_FROM);
    int err = init_parts(p);
    if (err < 0) {
        jr_pool_destroy(p);
        return err;
    }
    jr_sm_init(&p->recovery, &jr_recovery_table, p, &p->trace, JR_REC_COLD);
    if (!config->durable)
        jr_sm_move(&p->recovery, JR_REC_READY, "no log is configured");
    *ret = p;
    return 0;
}

void jr_pool_destroy(struct jr_pool *p)
{
    if (!p)
        return;
    jr_pool_snapshot_abort(p);
    if (p->importing)
        jr_state_import_end(p->fresh, &p->import);
    jr_image_destroy(p->image);
    if (p->active) {
        jr_bookings_deinit(&p->own, p->now_ms);
        jr_replicas_deinit(&p->replicas, p->now_ms);
    }
    jr_pool_retired_free(p);
    jr_state_destroy(p->fresh);
    jr_state_destroy(p->state);
    jr_active_destroy(p->active);
    jr_pool_queue_deinit(p);
    jr_workers_deinit(&p->workers);
    jr_index_match_deinit(&p->match);
    jr_pool_approx_deinit(p);
    jr_map_deinit(&p->reannounced);
    jr_map_deinit(&p->word_at);
    jr_sessions_deinit(&p->sessions);
    jr_arr_free(&p->mem, &p->words);
    jr_arr_free(&p->mem, &p->busy);
    jr_arr_free(&p->mem, &p->seats);
    jr_arr_free(&p->mem, &p->seat_members);
    jr_arr_free(&p->mem, &p->marks);
    jr_arr_free(&p->mem, &p->lower);
    jr_arr_free(&p->mem, &p->by_member);
    jr_arr_free(&p->mem, &p->candidates);
    jr_arr_free(&p->mem, &p->records);
    jr_arr_free(&p->mem, &p->scratch_hashes);
    jr_arr_free(&p->mem, &p->pending);
    jr_arr_free(&p->mem, &p->sent);
    jr_arr_free(&p->mem, &p->leases);
    jr_arr_free(&p->mem, &p->base);
    jr_arr_free(&p->mem, &p->base_ids);
    jr_arr_free(&p->mem, &p->base_ends);
    jr_members_deinit(&p->members);
    jr_mem_deinit(&p->mem);
    jr_xfree(p);
}

void jr_actions_deinit(struct jr_actions *actions, struct jr_pool *pool)
{
    jr_arr_free(&pool->mem, actions);
}

int jr_pool_act_reserve(struct jr_pool *p)
{
    return jr_arr_reserve(&p->mem, p->out, 1, JR_POOL_ACTIONS_MAX);
}

struct jr_action *jr_pool_act(struct jr_pool *p, enum jr_action_type type)
{
    if (jr_pool_act_reserve(p) < 0) {
        p->broken = true;
        return NULL;
    }
    struct jr_action *a = &p->out->v[p->out->n++];
    memset(a, 0, sizeof *a);
    a->type = type;
    return a;
}

static void slice(struct jr_pool *p, uint32_t max)
{
    if (p->importing)
        jr_pool_import_slice(p, max);
    else if (p->snap == JR_SNAP_COPY)
        jr_pool_copy_slice(p, max);
    else if (jr_state_has_work(p->state))
        jr_state_work(p->state, max);
    else if (jr_pool_has_retired(p))
        jr_pool_retired_slice(p, max);
    else
        jr_pool_approx_work(p, max);
}

static int dispatch(struct jr_pool *p, const struct jr_event *e)
{
    switch (e->type) {
    case JR_EV_TICK:
        return 0;
    case JR_EV_SLICE:
        slice(p, e->u.slice.max);
        return 0;
    case JR_EV_NATS:
        jr_pool_on_nats(p, e->u.nats.connected, e->u.nats.lease_ttl_ms);
        return 0;
    case JR_EV_LEASE_HELD:
        jr_pool_on_lease_held(p);
        return 0;
    case JR_EV_LEASE_LOST:
        p->config.incarnation = e->u.incarnation;
        p->batch_number = 0;
        p->life_began_ms = p->now_ms;
        p->life_told = false;
        jr_pool_sync_lost(p);
        return 0;
    case JR_EV_STREAM_INFO:
        return jr_pool_on_stream_info(p, e->u.stream.err, &e->u.stream.facts);
    case JR_EV_SNAPSHOT_LOADED:
        return jr_pool_on_loaded(p, e);
    case JR_EV_LOG:
        return jr_pool_on_log(p, e->u.log);
    case JR_EV_READER_BROKEN:
        jr_pool_on_reader_broken(p);
        return 0;
    case JR_EV_FACTS:
        jr_pool_on_facts(p, e);
        return 0;
    case JR_EV_MEMBERS:
        return jr_pool_on_members(p, e);
    case JR_EV_PROBED:
        jr_pool_on_probed(p, e);
        return 0;
    case JR_EV_LEADER:
        jr_pool_on_leader(p, e->u.leader.is_leader, &e->u.leader.record);
        return 0;
    case JR_EV_SYNC:
        return jr_pool_on_sync(p, e->u.sync);
    case JR_EV_SYNC_OPENED:
        jr_pool_on_sync_opened(p);
        return 0;
    case JR_EV_SYNC_BROKEN:
        p->replicas.live = false;
        return 0;
    case JR_EV_SYNC_FAILED:
        jr_pool_on_sync_failed(p);
        return 0;
    case JR_EV_SESSION:
        return jr_pool_on_session(p, &e->u.session.word, e->u.session.age_ms);
    case JR_EV_SESSIONS_OPENED:
        jr_sessions_opened(&p->sessions, p->now_ms);
        return 0;
    case JR_EV_SESSIONS_BROKEN:
        jr_sessions_reread(&p->sessions);
        return 0;
    case JR_EV_SESSION_FAILED:
        jr_sessions_failed(&p->sessions, e->u.session.word.session, p->now_ms);
        return 0;
    case JR_EV_LEAVING:
        jr_pool_sync_leave(p);
        return 0;
    case JR_EV_SNAPSHOT_WRITTEN:
        jr_pool_on_written(p, e->u.written.err, &e->u.written.ref);
        return 0;
    case JR_EV_SNAPSHOT_RECORDED:
        jr_pool_on_recorded(p, e->u.result.err);
        return 0;
    case JR_EV_PURGED:
        jr_pool_on_purged(p, e->u.result.err, e->u.result.floor);
        return 0;
    case JR_EV_CONTROL_PUBLISHED:
        jr_pool_on_published(p, e->u.result.err);
        return 0;
    case JR_EV_ADMIN_SNAPSHOT:
        p->snap_wanted = true;
        return 0;
    case JR_EV_ADMIN_RESET:
        if (e->u.token[0] == '\0' || strcmp(e->u.token, p->state->reset_token) != 0)
            jr_pool_ask_reset(p, e->u.token);
        return 0;
    case JR_EV_ROUTE:
        return jr_pool_on_route(p, &e->u.route);
    case JR_EV_FIRST_TOKEN:
        jr_pool_on_first_token(p, e->u.request.id);
        return 0;
    case JR_EV_OUTPUT:
        jr_pool_on_output(p, e->u.request.id, e->u.request.output_tokens);
        return 0;
    case JR_EV_FINISH:
        jr_pool_on_finish(p, e->u.request.id);
        return 0;
    case JR_EV_OUTSIDE:
        return jr_pool_on_outside(p, e->u.outside.id, e->u.outside.done);
    case JR_EV_BUSY:
        return jr_pool_on_busy(p, e->u.busy.model, e->u.busy.own ? &e->u.busy.limits : NULL);
    }
    JR_IMPOSSIBLE("unknown event");
}

/* After it there may be room on a worker, or fewer workers. */
static bool may_make_room(enum jr_event_type type)
{
    return type == JR_EV_TICK || type == JR_EV_FIRST_TOKEN || type == JR_EV_FINISH ||
           type == JR_EV_SYNC || type == JR_EV_MEMBERS || type == JR_EV_PROBED ||
           type == JR_EV_OUTSIDE || type == JR_EV_BUSY;
}

/* What is due by the clock or by level, after every event: cheap when nothing is. */
static void after(struct jr_pool *p, enum jr_event_type type)
{
    bool is_tick = type == JR_EV_TICK;
    if (is_tick)
        p->tick_at_ms = p->now_ms + JR_POOL_TICK_MS;
    if (is_tick && p->config.durable) {
        jr_pool_recovery_tick(p);
        jr_pool_watch(p);
        jr_pool_duties_tick(p);
    }
    if (is_tick) {
        jr_pool_approx_tick(p);
        jr_pool_members_tick(p);
        jr_pool_outside_tick(p);
        jr_pool_queue_tick(p);
        jr_sessions_tick(&p->sessions, p->now_ms);
        jr_pool_sync_ask(p);
    }
    if (jr_pool_seats_update(p) < 0)
        p->recheck = true; /* the next step finds memory for them, or fails */
    else if (p->recheck || may_make_room(type))
        jr_pool_queue_run(p);
    jr_pool_sync_tick(p);
    jr_pool_sessions_tell(p);
    jr_pool_judge_ready(p);
}

int jr_pool_step(struct jr_pool *p, const struct jr_event *event, struct jr_actions *ret)
{
    JR_ASSERT(!p->stepping);
    p->stepping = true;
    p->out = ret;
    ret->n = 0;
    p->records.n = 0;
    if (p->started_at_ms == 0)
        p->started_at_ms = event->now_ms ? event->now_ms : 1;
    p->now_ms = event->now_ms;
    if (event->unix_ns)
        p->unix_ns = event->unix_ns;
    /* Only a decision needs the seats; nothing else may be lost for want of memory for them. */
    int err = event->type == JR_EV_ROUTE ? jr_pool_seats_update(p) : 0;
    if (err == 0)
        err = dispatch(p, event);
    if (err == 0)
        after(p, event->type);
    p->out = NULL;
    p->stepping = false;
    return err;
}

uint64_t jr_pool_deadline_ms(const struct jr_pool *p)
{
    uint64_t at = p->tick_at_ms; /* other events do not put it off */
    if (p->recheck)
        return p->now_ms;
    uint64_t flush_at = jr_pool_sync_deadline_ms(p), tell_at = jr_pool_sessions_deadline_ms(p);
    at = flush_at && flush_at < at ? flush_at : at;
    return tell_at && tell_at < at ? tell_at : at;
}

/* Ready, and with the state of this stream: one that answers from an old index, rebuilds, or began
 * with nothing where a peer has an index, is of no use to its peers. */
static bool holds_state(const struct jr_pool *p)
{
    return p->ready && p->has_position && !p->index_is_old && !p->rebuilding && !p->yields;
}

bool jr_pool_may_lead(const struct jr_pool *p)
{
    if (!p->config.durable || p->broken || p->too_new || p->digest_mismatch)
        return false;
    bool alone = !jr_pool_peer_holds_state(p);
    return holds_state(p) ||
           (alone && (p->rebuilding || p->dynamo_import || jr_pool_recovery(p) == JR_REC_ADOPT));
}

bool jr_pool_copying(const struct jr_pool *p)
{
    return p->snap == JR_SNAP_COPY;
}

bool jr_pool_has_slices(const struct jr_pool *p)
{
    return p->importing || p->snap == JR_SNAP_COPY || jr_state_has_work(p->state) ||
           jr_pool_has_retired(p) || jr_pool_approx_is_due(p);
}

/* The least sequence of a snapshot that helps. The newest recorded one would, could it be read. */
static uint64_t wanted_seq(const struct jr_pool *p)
{
    if (!p->waits_snapshot)
        return 0;
    uint64_t past = jr_pool_ref_fits(p, &p->record.newest) ? p->record.newest.seq : 0;
    return p->need_seq > past + 1 ? p->need_seq : past + 1;
}

void jr_pool_lease(struct jr_pool *p, struct jr_replica_lease *ret)
{
    bool holds = p->has_position && !p->index_is_old;
    *ret = (struct jr_replica_lease){
        .incarnation = p->config.incarnation,
        .format_max = JR_IMAGE_FORMAT,
        .rules_max = jr_pool_rules_max(p),
        .sync_max = p->config.sync_max ? p->config.sync_max : JR_SYNC_VERSION,
        .sync_off = !p->config.replica_sync,
        .ready = p->config.approximate ? p->ready : holds_state(p),
        .applied = holds ? p->state->seq : 0,
        .held = jr_pool_keeps_index(p) ? p->state->seq : 0,
        .wants = wanted_seq(p),
        .stream_created_ns = (uint64_t)p->stream_created_ns,
        .block_size =
            p->state->params.block_size ? p->state->params.block_size : p->config.block_size,
    };
    memcpy(ret->id, p->config.replica_id, sizeof ret->id);
    memcpy(ret->version, p->config.version, sizeof ret->version);
    memcpy(ret->address, p->config.address, sizeof ret->address);
    /* A candidate that is being installed needs what follows it. One that is still judged may turn out
     * to be of another stream: then what we hold goes on, or, without, the first message is next. */
    if (p->importing || (p->image && p->image->seq < ret->applied))
        ret->applied = p->image->seq;
    const struct jr_digest_point *newest = jr_state_newest_point(p->state);
    if (holds && !p->rebuilding && newest)
        ret->point = *newest;
}
