/* SPDX-License-Identifier: Apache-2.0 */
/* An index that no stream fits any more: the stream was made anew, rolled back, or purged by hand
 * past what anybody read. It answers on, marked. When no peer holds the state of the new history,
 * the leader says Adopt: from that message on, the state of the pool is the index with these
 * digests. docs/protocol.md §8.
 *
 *   misfit ──no snapshot, no peer──► ADOPT: read the log from its first message, apply nothing
 *             Adopt of our digests, or a Reset of whatever epoch ──► our state at that sequence
 *             read to the end, and we lead ──────────────────────► say Adopt
 *             a peer holds the state (of another's Adopt) ───────► LOAD_SNAPSHOT
 *
 * One who holds a state of the stream and meets an Adopt of other digests loads that image: its own
 * index answers meanwhile, and is put into the log in turn should nobody have the other. */
#include "core/pool_internal.h"

#include <string.h>

#define YIELD_TTLS 3 /* leases' times; within one every living replica has registered again */

bool jr_pool_keeps_index(const struct jr_pool *p)
{
    return p->has_position && p->index_is_old && !p->rebuilding && !p->broken && !p->too_new &&
           !p->untrusted && !p->digest_mismatch && jr_index_entries(p->state->index) > 0;
}

enum standing { NOTHING, HOLDS, AHEAD, KEEPS };

static enum standing standing(const struct jr_peer *peer, const struct jr_stream_facts *f)
{
    const struct jr_replica_lease *l = &peer->lease;
    if (!peer->has_lease)
        return NOTHING;
    if (l->held > 0)
        return KEEPS;
    if (!l->ready || l->applied == 0)
        return NOTHING;
    if (l->stream_created_ns != (uint64_t)f->created_ns)
        return KEEPS;
    return l->applied > f->last_seq ? AHEAD : HOLDS;
}

static bool any_peer(const struct jr_pool *p, const struct jr_stream_facts *f, enum standing is)
{
    for (uint32_t i = 0; i < p->replicas.n; i++)
        if (standing(p->replicas.v[i], f) == is)
            return true;
    return false;
}

bool jr_pool_peer_holds_at(const struct jr_pool *p, const struct jr_stream_facts *f)
{
    return any_peer(p, f, HOLDS);
}

bool jr_pool_peer_is_ahead(const struct jr_pool *p, const struct jr_stream_facts *f)
{
    return any_peer(p, f, AHEAD);
}

bool jr_pool_peer_keeps_index(const struct jr_pool *p, const struct jr_stream_facts *f)
{
    return !any_peer(p, f, HOLDS) && (any_peer(p, f, KEEPS) || any_peer(p, f, AHEAD));
}

/* A replica that starts while NATS comes back with nothing sees no lease, an empty stream, and
 * begins; those with an index register a moment later. Only a young state yields, and for as long as
 * somebody keeps an index: one that comes back after an hour finds a state that does not. */
void jr_pool_judge_yield(struct jr_pool *p)
{
    bool kept = false;
    for (uint32_t i = 0; i < p->replicas.n; i++)
        kept = kept || (p->replicas.v[i]->has_lease && p->replicas.v[i]->lease.held > 0);
    bool young =
        p->empty_since_ms && p->now_ms - p->empty_since_ms < YIELD_TTLS * p->config.lease_ttl_ms;
    p->yields = kept && p->empty_since_ms && (young || p->yields);
}

bool jr_pool_is_our_past(const struct jr_pool *p, const struct jr_image *image)
{
    return jr_pool_keeps_index(p) && image->msg_time_ns <= p->state->msg_time_ns;
}

void jr_pool_adopt_begin(struct jr_pool *p, const struct jr_stream_facts *f)
{
    p->seek_seq = f->first_seq ? f->first_seq - 1 : 0;
    p->control_seen = 0;
    p->target_seq = f->last_seq;
    p->short_looks = 0;
    struct jr_action *a = jr_pool_act(p, JR_ACT_START_READER);
    if (a) {
        a->u.start.applied = p->seek_seq;
        a->u.start.stream_created_ns = f->created_ns;
    }
    jr_pool_move(p, JR_REC_ADOPT, "we hold an index, and nobody holds the state of this stream");
}

void jr_pool_adopt_origin(struct jr_pool *p, const struct jr_log_msg *msg)
{
    p->origin_seq = msg->seq;
    p->origin_time_ns = msg->time_ns;
    p->snap_wanted = true;
}

/* The state is that of the stream again, at this message; what follows is applied. However it once
 * began, it yields to nobody: the log says what it is. */
static void moor(struct jr_pool *p, const struct jr_log_msg *msg)
{
    p->index_is_old = p->waits_snapshot = p->yields = false;
    p->empty_since_ms = 0;
    p->need_seq = 0;
    p->bereft_looks = 0;
    jr_pool_adopt_origin(p, msg);
    jr_pool_move(p, JR_REC_REPLAY, "the log says what the state is");
    jr_pool_caught_up(p);
}

static void adopt_own(struct jr_pool *p, const struct jr_log_msg *msg)
{
    jr_state_rebase(p->state, msg->seq, msg->time_ns, msg->payload_hash);
    p->n.adoptions++;
    jr_trace_emit(&p->trace, JR_TRACE_WARN, "pool.adopted", "seq=%llu entries=%llu",
                  (unsigned long long)msg->seq,
                  (unsigned long long)jr_index_entries(p->state->index));
    moor(p, msg);
}

/* Whatever the epoch was: nothing is left of what we hold. */
static void reset_from_any(struct jr_pool *p, const struct jr_log_msg *msg)
{
    uint32_t effect = 0;
    jr_state_rebase(p->state, msg->seq - 1, 0, 0);
    int err = jr_state_apply(p->state, msg, &effect);
    if (err < 0) {
        jr_pool_stop_applying(p, err);
        return;
    }
    moor(p, msg);
    jr_pool_on_effect(p, msg, effect);
}

void jr_pool_adopt_on_log(struct jr_pool *p, const struct jr_log_msg *msg)
{
    if (p->broken || p->too_new || msg->seq <= p->seek_seq)
        return;
    /* One that was taken out of the stream is nobody's; one that we missed, should it be a control
     * message, lets our Adopt be refused. */
    p->seek_seq = msg->seq;
    if (msg->seq > p->stream_last)
        p->stream_last = msg->seq;
    if (msg->on_control)
        p->control_seen = msg->seq;
    if (msg->kind == JR_LOG_KIND_TOO_NEW)
        jr_pool_stop_applying(p, JR_EVERSION);
    if (msg->kind != JR_LOG_KIND_CONTROL)
        return;
    const struct jr_control *c = &msg->u.control;
    if (c->type == JR_CONTROL_ADOPT && jr_state_is_image_of(p->state, c))
        adopt_own(p, msg);
    else if (c->type == JR_CONTROL_RESET && c->from.n == JR_EPOCH_ANY)
        reset_from_any(p, msg);
}

void jr_pool_adopt_other(struct jr_pool *p, const struct jr_log_msg *msg)
{
    jr_trace_emit(&p->trace, JR_TRACE_WARN, "log.adopted_other",
                  "seq=%llu hint=\"the index that the leader put into the log is loaded\"",
                  (unsigned long long)msg->seq);
    jr_pool_act(p, JR_ACT_STOP_READER);
    p->need_seq = msg->seq;
    jr_pool_go_load(p, "the log adopted another index");
}

void jr_pool_adopt_tick(struct jr_pool *p)
{
    if (jr_pool_recovery(p) != JR_REC_ADOPT || !jr_pool_peer_holds_state(p) ||
        p->now_ms - p->rebuild_at_ms < JR_POOL_REBUILD_LOOK_MS)
        return;
    jr_pool_act(p, JR_ACT_STOP_READER);
    jr_pool_go_load(p, "a peer holds the state");
}

bool jr_pool_may_adopt(const struct jr_pool *p)
{
    return jr_pool_recovery(p) == JR_REC_ADOPT && p->leader && p->connected &&
           jr_pool_keeps_index(p) && p->seek_seq >= p->target_seq && p->listed_at_ms &&
           p->now_ms - p->listed_at_ms < p->config.lease_ttl_ms && !jr_pool_peer_holds_state(p);
}

/* ---------------------------------------------------------------- recorded snapshots */

static bool same_snapshot(const struct jr_snapshot_ref *a, const struct jr_snapshot_ref *b)
{
    return a->seq == b->seq && a->stream_created_ns == b->stream_created_ns &&
           a->digest_blocks == b->digest_blocks && a->digest_table == b->digest_table;
}

/* Of this stream, not found to be of another branch of it, and not from before the message that our
 * state began with. */
bool jr_pool_ref_fits(const struct jr_pool *p, const struct jr_snapshot_ref *ref)
{
    int64_t slack_ns = (int64_t)p->config.lease_ttl_ms * 1000000 / 2; /* servers' clocks differ */
    if (!ref->object[0] || ref->stream_created_ns != p->stream_created_ns ||
        (p->origin_seq &&
         (ref->seq < p->origin_seq || ref->created_ns + slack_ns < p->origin_time_ns)))
        return false;
    return !jr_pool_ref_is_misfit(p, ref);
}

bool jr_pool_ref_is_misfit(const struct jr_pool *p, const struct jr_snapshot_ref *ref)
{
    for (uint32_t i = 0; i < 2; i++)
        if (p->misfits[i].object[0] && same_snapshot(&p->misfits[i], ref))
            return true;
    return false;
}

void jr_pool_ref_misfits(struct jr_pool *p, const struct jr_snapshot_ref *ref)
{
    if (ref->object[0] && !jr_pool_ref_is_misfit(p, ref))
        p->misfits[p->n_misfits++ % 2] = *ref;
}
