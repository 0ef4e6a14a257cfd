/* SPDX-License-Identifier: Apache-2.0 */
/* How the state is come by and kept: core/recovery.h has the machine. */
#include "core/pool_internal.h"

#include "base/assert.h"
#include "base/bug.h"

#include <string.h>

#define BEREFT_LOOKS  3
#define STALLED_LOOKS 3

void jr_pool_move(struct jr_pool *p, enum jr_recovery to, const char *why)
{
    jr_sm_move(&p->recovery, (int)to, why);
}

static void ask_info(struct jr_pool *p, uint64_t seq)
{
    struct jr_action *a = jr_pool_act(p, JR_ACT_STREAM_INFO);
    if (a)
        a->u.seq = seq;
    p->waiting_info = a != NULL;
    p->retry_at_ms = 0;
}

static void ask_load(struct jr_pool *p)
{
    struct jr_action *a = jr_pool_act(p, JR_ACT_LOAD_SNAPSHOT);
    if (a)
        memcpy(a->u.load.skip, p->load_skip, sizeof a->u.load.skip);
    if (a)
        a->u.load.dynamo = p->dynamo_import;
    p->waiting_load = a != NULL;
    p->retry_at_ms = 0;
}

static void drop_candidate(struct jr_pool *p)
{
    if (p->importing)
        jr_state_import_end(p->fresh, &p->import);
    p->importing = false;
    jr_pool_retire_state(p, p->fresh);
    p->fresh = NULL;
    jr_pool_retire_image(p, p->image);
    p->image = NULL;
}

/* Another state takes the place of what answered: an image of the old one under way is void. */
static void replace_state(struct jr_pool *p, struct jr_state *fresh)
{
    jr_pool_snapshot_abort(p);
    jr_pool_retire_state(p, p->state);
    p->state = fresh;
    p->workers.changes++; /* whose index entries count is another matter now */
    p->empty_since_ms = 0;
    p->untrusted = p->digest_mismatch = false;
    p->n.recoveries++;
}

int jr_pool_new_state(struct jr_pool *p, struct jr_state **ret)
{
    int err = jr_state_create(&p->mem, &p->members, ret);
    if (err < 0)
        return err;
    (*ret)->rules_max = jr_pool_rules_max(p);
    (*ret)->tally = &p->n.applied;
    return 0;
}

/* The identity of the stream: what was purged, and what stood still, was another's. */
static void set_stream(struct jr_pool *p, int64_t created_ns)
{
    if (p->stream_created_ns != created_ns)
        p->purged_to = p->need_seq = p->origin_seq = 0;
    p->stream_created_ns = created_ns;
}

/* What ends in front of a hole in this stream is of no use, however old. */
static void need_past(struct jr_pool *p, const struct jr_stream_facts *f, uint64_t seq)
{
    set_stream(p, f->created_ns);
    p->need_seq = seq > p->need_seq ? seq : p->need_seq;
}

void jr_pool_go_load(struct jr_pool *p, const char *why)
{
    drop_candidate(p);
    jr_pool_snapshot_abort(p); /* of what may be another history's */
    if (p->rebuilding)
        p->has_position = false; /* what was read so far is the state of no sequence */
    p->rebuilding = false;
    p->index_is_old = p->has_position;
    p->snapshots_skipped = 0;
    p->load_skip[0] = '\0';
    jr_pool_move(p, JR_REC_LOAD_SNAPSHOT, why);
    ask_load(p);
}

void jr_pool_import_dynamo(struct jr_pool *p)
{
    jr_pool_act(p, JR_ACT_STOP_READER);
    p->dynamo_tried = p->dynamo_import = true;
    jr_pool_go_load(p, "nobody holds the purged part; perhaps Dynamo's snapshot does");
}

/* The sequence whose message the candidate of VERIFY remembers. */
static uint64_t candidate_seq(const struct jr_pool *p)
{
    if (p->image)
        return p->image->seq;
    return p->has_position && !p->index_is_old ? p->state->seq : 0;
}

static void go_verify(struct jr_pool *p, const char *why)
{
    jr_pool_move(p, JR_REC_VERIFY, why);
    p->n.history_checks++;
    ask_info(p, candidate_seq(p));
}

void jr_pool_on_nats(struct jr_pool *p, bool connected, uint64_t lease_ttl_ms)
{
    if (!p->config.durable || connected == p->connected)
        return;
    p->connected = connected;
    if (!connected) {
        jr_pool_go_blind(p);
        p->sync_open = p->replicas.live = false;
        p->waiting_info = p->waiting_load = false;
        p->retry_at_ms = 0;
        drop_candidate(p);
        p->bereft_looks = 0;
        jr_pool_snapshot_abort(p);
        p->purging = false; /* its outcome is unknown; asked again */
        p->purged_to = 0;
        jr_pool_sync_lost(p);
        if (jr_pool_recovery(p) != JR_REC_COLD && jr_pool_recovery(p) != JR_REC_DEGRADED)
            jr_pool_move(p, JR_REC_DEGRADED, "NATS is gone");
        jr_pool_act(p, JR_ACT_STOP_READER);
        return;
    }
    p->connected_at_ms = p->now_ms;
    if (lease_ttl_ms)
        p->config.lease_ttl_ms = lease_ttl_ms;
    p->dynamo_tried = p->dynamo_import = false;
    p->listed_at_ms = 0;
    if (jr_pool_recovery(p) == JR_REC_DEGRADED && p->has_position && !p->index_is_old &&
        !JR_BUG(NOT_RESUMED)) {
        go_verify(p, "NATS is back");
        return;
    }
    jr_pool_move(p, JR_REC_LEASE, "NATS is there");
    jr_pool_act(p, JR_ACT_TAKE_LEASE);
}

void jr_pool_on_lease_held(struct jr_pool *p)
{
    if (jr_pool_recovery(p) != JR_REC_LEASE)
        return;
    if (p->config.approximate)
        jr_pool_move(p, JR_REC_CATCH_UP, "registered; no events are wanted");
    else
        jr_pool_go_load(p, "registered");
}

int jr_pool_on_loaded(struct jr_pool *p, const struct jr_event *e)
{
    if (jr_pool_recovery(p) != JR_REC_LOAD_SNAPSHOT || !p->waiting_load) {
        jr_pool_retire_image(p, e->u.loaded.image);
        return 0;
    }
    p->waiting_load = false;
    if (e->u.loaded.err != 0 && e->u.loaded.err != JR_ENOTFOUND) {
        jr_trace_emit(&p->trace, JR_TRACE_WARN, "snapshot.load_failed", "error=%s",
                      jr_err_name(e->u.loaded.err));
        p->retry_at_ms = p->now_ms + JR_POOL_RETRY_MS;
        return 0;
    }
    if (e->u.loaded.image) /* there is one; whether it helps is seen now */
        p->waits_snapshot = false;
    p->image = e->u.loaded.image;
    p->image_ref = e->u.loaded.ref;
    p->record = e->u.loaded.record;
    go_verify(p, p->image ? "a snapshot was read" : "there is no snapshot");
    return 0;
}

static const char next_is_gone[] = "the next message was taken out of the stream";

/* Design 5.3: created as known, first <= seq + 1, last >= seq, and the message at seq, if it is
 * still there, has the time and hash that are remembered. A message may also have been taken out of the
 * middle, which first does not tell. */
static const char *misfit(int64_t created_ns, uint64_t seq, int64_t msg_time_ns, uint64_t msg_hash,
                          const struct jr_stream_facts *f)
{
    if (created_ns != f->created_ns)
        return "the stream was created anew";
    if (f->last_seq < seq)
        return "the stream was rolled back";
    if (f->first_seq > seq + 1)
        return "what follows has left the stream";
    if (seq > 0 && f->has_msg && (f->msg_time_ns != msg_time_ns || f->msg_hash != msg_hash))
        return "the stream has another message there";
    if (f->next_gone)
        return next_is_gone;
    return NULL;
}

static void start_reading(struct jr_pool *p, const struct jr_stream_facts *f, const char *why)
{
    p->has_position = true;
    p->index_is_old = p->waits_snapshot = p->dynamo_import = false;
    p->need_seq = 0;
    set_stream(p, f->created_ns);
    p->target_seq = f->last_seq;
    p->short_looks = 0;
    struct jr_action *a = jr_pool_act(p, JR_ACT_START_READER);
    if (a) {
        a->u.start.applied = p->state->seq;
        a->u.start.stream_created_ns = f->created_ns;
        a->u.start.has_msg = p->state->msg_time_ns != 0;
        a->u.start.msg_time_ns = p->state->msg_time_ns;
        a->u.start.msg_hash = p->state->msg_hash;
    }
    jr_pool_progress_begin(p, "replay", p->state->seq, f->last_seq);
    jr_pool_move(p, p->rebuilding ? JR_REC_REBUILD : JR_REC_REPLAY, why);
}

/* An empty state at a sequence of the log takes the place of what there was. */
static int start_empty(struct jr_pool *p, uint64_t seq, const struct jr_stream_facts *f)
{
    struct jr_state *fresh;
    int err = jr_pool_new_state(p, &fresh);
    if (err < 0)
        return err;
    fresh->seq = seq;
    p->control_seen = p->origin_seq = 0;
    replace_state(p, fresh);
    if (seq == 0 && !p->rebuilding)
        p->empty_since_ms = p->now_ms;
    start_reading(p, f, p->rebuilding ? "nobody holds the purged part" : "from the first message");
    return 0;
}

bool jr_pool_peer_holds_state(const struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->has_lease && peer->lease.ready && peer->lease.applied > 0 &&
            peer->lease.stream_created_ns == (uint64_t)p->stream_created_ns)
            return true;
    }
    return false;
}

/* Nobody has anything of this stream to start from. Believed when each of several looks, each begun
 * after the one before was answered, finds no snapshot that fits and no peer that holds the state:
 * one answer may be from before a long sleep. Who has nothing at all also waits for a peer that
 * will put its index into the log. */
static bool bereft(struct jr_pool *p, bool others_adopt)
{
    if (!p->listed_at_ms || jr_pool_peer_holds_state(p) || others_adopt) {
        p->bereft_looks = 0;
        return false;
    }
    if (p->bereft_looks++ == 0)
        p->bereft_since_ms = p->now_ms;
    return p->bereft_looks >= BEREFT_LOOKS && p->listed_at_ms > p->bereft_since_ms &&
           p->now_ms - p->bereft_since_ms >= p->config.lease_ttl_ms;
}

static int without_snapshot(struct jr_pool *p, const struct jr_stream_facts *f)
{
    bool keeps = jr_pool_keeps_index(p);
    bool others_adopt = !keeps && jr_pool_peer_keeps_index(p, f);
    /* It was believed before Dynamo's object was looked for, a moment ago. */
    bool believed = p->dynamo_import && !others_adopt && !jr_pool_peer_holds_state(p);
    set_stream(p, f->created_ns);
    p->rebuilding = p->dynamo_import = false;
    if (f->first_seq <= 1 && !keeps && !others_adopt && !p->need_seq)
        return start_empty(p, 0, f);
    p->waits_snapshot = jr_pool_peer_holds_state(p);
    if (!believed && !bereft(p, others_adopt)) {
        /* We do not know for sure yet, or a leader owes a snapshot that fits: ask again. */
        jr_trace_emit(&p->trace, JR_TRACE_WARN, "recovery.waiting",
                      "why=\"no snapshot fits yet; a peer may hold the state\" first_seq=%llu",
                      (unsigned long long)f->first_seq);
        jr_pool_move(p, JR_REC_LOAD_SNAPSHOT, "waiting for a peer's snapshot");
        p->load_skip[0] = '\0';
        p->snapshots_skipped = 0;
        p->retry_at_ms = p->now_ms + JR_POOL_RETRY_MS;
        return 0;
    }
    p->bereft_looks = 0;
    p->rebuild_at_ms = p->now_ms;
    if (keeps) {
        jr_pool_adopt_begin(p, f);
        return 0;
    }
    p->rebuilding = true;
    return start_empty(p, f->first_seq ? f->first_seq - 1 : 0, f);
}

/* The other of the two objects gets its chance; then there is none. */
static int skip_snapshot(struct jr_pool *p, const char *why, const struct jr_stream_facts *f)
{
    jr_trace_emit(&p->trace, JR_TRACE_WARN, "snapshot.misfit", "object=%s why=\"%s\"",
                  p->image_ref.object, why);
    memcpy(p->load_skip, p->image_ref.object, sizeof p->load_skip);
    drop_candidate(p);
    if (p->snapshots_skipped++ > 0)
        return without_snapshot(p, f);
    jr_pool_move(p, JR_REC_LOAD_SNAPSHOT, why);
    ask_load(p);
    return 0;
}

/* A snapshot that cannot be installed. What is wrong with us (memory, rules we do not know) is no
 * fault of the snapshot: nobody rebuilds for it, this replica stops. */
static int refuse_image(struct jr_pool *p, int err, const struct jr_stream_facts *f)
{
    if (err != JR_ENOMEM && err != JR_EVERSION)
        return skip_snapshot(p, jr_err_text(err), f);
    bool *flag = err == JR_EVERSION ? &p->too_new : &p->broken;
    *flag = true;
    drop_candidate(p);
    jr_trace_emit(&p->trace, JR_TRACE_ERROR, "snapshot.refused", "object=%s error=%s hint=\"%s\"",
                  p->image_ref.object, jr_err_name(err), jr_err_hint(err));
    return 0;
}

static int begin_import(struct jr_pool *p, const struct jr_stream_facts *f)
{
    int err = jr_pool_new_state(p, &p->fresh);
    if (err == 0)
        err = jr_state_import_begin(p->fresh, &p->import, p->image);
    if (err < 0)
        return refuse_image(p, err, f);
    p->importing = true;
    set_stream(p, f->created_ns);
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "snapshot.restore", "object=%s seq=%llu entries=%llu",
                  p->image_ref.object, (unsigned long long)p->image->seq,
                  (unsigned long long)p->image->n_entries);
    jr_pool_progress_begin(p, "restore", 0, p->image->n_entries);
    return 0;
}

/* The candidate fits the stream; is it what we want? */
static int judge_image(struct jr_pool *p, const struct jr_stream_facts *f)
{
    const struct jr_image *image = p->image;
    const char *why =
        misfit(image->stream_created_ns, image->seq, image->msg_time_ns, image->msg_hash, f);
    if (!why && jr_pool_ref_is_misfit(p, &p->image_ref)) /* the message that shows it may be gone */
        why = "it was found to be of another history";
    if (why) {
        jr_pool_ref_misfits(p, &p->image_ref);
        if (why == next_is_gone)
            need_past(p, f, image->seq + 1);
        return skip_snapshot(p, why, f);
    }
    if (p->need_seq > f->last_seq) /* of a history that is over, too */
        p->need_seq = 0;
    bool keeps = jr_pool_keeps_index(p), past = jr_pool_is_our_past(p, image);
    bool held = jr_pool_peer_holds_at(p, f);
    if (past && held && !p->need_seq) /* the peer's state, and not what we knew before */
        p->need_seq = f->last_seq;
    if (image->seq < p->need_seq)
        return skip_snapshot(p, "a peer holds a newer state, or the log adopted one", f);
    if (held || (keeps && !past))
        return begin_import(p, f);
    /* Soon we know more, or a peer has put its index into the log. */
    if (jr_pool_peer_is_ahead(p, f) || (!keeps && jr_pool_peer_keeps_index(p, f))) {
        p->retry_at_ms = p->now_ms + JR_POOL_RETRY_MS;
        return 0;
    }
    return past ? skip_snapshot(p, "what we hold is newer", f) : begin_import(p, f);
}

int jr_pool_on_stream_info(struct jr_pool *p, int err, const struct jr_stream_facts *f)
{
    if (!p->waiting_info || jr_pool_recovery(p) != JR_REC_VERIFY)
        return 0;
    p->waiting_info = false;
    if (err < 0) {
        p->retry_at_ms = p->now_ms + JR_POOL_RETRY_MS;
        return 0;
    }
    p->stream_first = f->first_seq;
    p->stream_last = f->last_seq;
    if (p->image)
        return judge_image(p, f);
    if (!p->has_position || p->index_is_old)
        return without_snapshot(p, f);
    const struct jr_state *s = p->state;
    const char *why = misfit(p->stream_created_ns, s->seq, s->msg_time_ns, s->msg_hash, f);
    if (!why) {
        start_reading(p, f, "what we hold fits the stream");
        return 0;
    }
    if (why == next_is_gone)
        need_past(p, f, s->seq + 1);
    jr_pool_go_load(p, why);
    return 0;
}

static void install(struct jr_pool *p)
{
    jr_pool_progress_end(p, p->image->n_entries);
    jr_state_import_end(p->fresh, &p->import);
    p->importing = false;
    p->rebuilding = false;
    p->bereft_looks = 0;
    p->origin_seq = 0;
    p->snap_wanted = p->snap_wanted || p->dynamo_import; /* at once ours */
    replace_state(p, p->fresh);
    p->fresh = NULL;
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "snapshot.restored",
                  "object=%s seq=%llu entries=%llu workers=%u", p->image_ref.object,
                  (unsigned long long)p->state->seq,
                  (unsigned long long)jr_index_entries(p->state->index), p->state->n_ranks);
    struct jr_stream_facts f = {.created_ns = p->stream_created_ns, .last_seq = p->stream_last};
    jr_pool_retire_image(p, p->image);
    p->image = NULL;
    start_reading(p, &f, "snapshot restored");
}

void jr_pool_import_slice(struct jr_pool *p, uint32_t max)
{
    int err = jr_state_import_step(p->fresh, &p->import, max);
    if (err == JR_EAGAIN) {
        jr_pool_progress(p, p->import.next);
        return;
    }
    if (err == 0) {
        install(p);
        return;
    }
    struct jr_stream_facts f = {.created_ns = p->stream_created_ns,
                                .first_seq = p->stream_first,
                                .last_seq = p->stream_last};
    if (refuse_image(p, err, &f) < 0)
        p->broken = true;
}

/* ---------------------------------------------------------------- the log */

static bool reading(const struct jr_pool *p)
{
    switch (jr_pool_recovery(p)) {
    case JR_REC_REPLAY:
    case JR_REC_CATCH_UP:
    case JR_REC_READY:
    case JR_REC_REBUILD:
        return p->has_position && !p->broken && !p->too_new;
    default:
        return false;
    }
}

void jr_pool_on_reader_broken(struct jr_pool *p)
{
    bool adopting = jr_pool_recovery(p) == JR_REC_ADOPT;
    if (!reading(p) && !adopting)
        return;
    jr_pool_act(p, JR_ACT_STOP_READER);
    if (adopting)
        jr_pool_go_load(p, "the reader lost its place");
    else
        go_verify(p, "the reader lost its place");
}

void jr_pool_stop_applying(struct jr_pool *p, int err)
{
    bool *flag = err == JR_EVERSION ? &p->too_new : &p->broken;
    *flag = true;
    jr_pool_act(p, JR_ACT_STOP_READER);
    jr_trace_emit(&p->trace, JR_TRACE_ERROR, "log.stopped", "seq=%llu error=%s hint=\"%s\"",
                  (unsigned long long)p->state->seq + 1, jr_err_name(err), jr_err_hint(err));
}

static void on_reset_applied(struct jr_pool *p, const struct jr_log_msg *msg)
{
    const struct jr_control *c = &msg->u.control;
    p->n.resets++;
    /* Of a Reset that follows an epoch, one who does not know it cannot tell whether it counted. */
    if (c->from.n == JR_EPOCH_ANY) {
        p->rebuilding = false;
        jr_pool_adopt_origin(p, msg);
    }
    if (p->snap == JR_SNAP_COPY) /* of what is no more */
        jr_pool_snapshot_abort(p);
    p->snap_wanted = true;
    p->await_workers_until_ms = p->now_ms + JR_POOL_REANNOUNCE_WAIT_MS;
    jr_trace_emit(&p->trace, JR_TRACE_WARN, "pool.reset", "seq=%llu epoch=%llu",
                  (unsigned long long)p->state->seq, (unsigned long long)p->state->epoch.n);
}

void jr_pool_on_effect(struct jr_pool *p, const struct jr_log_msg *msg, uint32_t effect)
{
    /* In a replay the answer may stand further on in the log; what is still lost at its end is found
     * by its lease. */
    enum jr_recovery at = jr_pool_recovery(p);
    if ((effect & JR_EFFECT_REANNOUNCE) && (at == JR_REC_READY || at == JR_REC_CATCH_UP))
        jr_pool_reannounce(p, msg->u.batch.worker_id, msg->u.batch.dp_rank);
    if (effect & JR_EFFECT_RESET)
        on_reset_applied(p, msg);
    if (effect & JR_EFFECT_ADOPT)
        jr_pool_adopt_origin(p, msg);
}

void jr_pool_caught_up(struct jr_pool *p)
{
    if ((p->state->seq < p->target_seq && !JR_BUG(READY_EARLY)) || p->rebuilding)
        return;
    enum jr_recovery at = jr_pool_recovery(p);
    if (at != JR_REC_REPLAY && at != JR_REC_REBUILD)
        return;
    jr_pool_progress_end(p, p->state->seq);
    jr_pool_move(p, JR_REC_CATCH_UP, "read up to what the stream held at start");
}

int jr_pool_on_log(struct jr_pool *p, const struct jr_log_msg *msg)
{
    if (jr_pool_recovery(p) == JR_REC_ADOPT)
        jr_pool_adopt_on_log(p, msg);
    if (!reading(p) || msg->seq <= p->state->seq)
        return 0;
    if (msg->seq != p->state->seq + 1 && !p->rebuilding) {
        jr_pool_on_reader_broken(p);
        return 0;
    }
    if (msg->seq != p->state->seq + 1) /* nothing is lost: a Reset follows */
        jr_state_rebase(p->state, msg->seq - 1, 0, 0);
    uint32_t effect = 0;
    int err = jr_state_apply(p->state, msg, &effect);
    if (err == JR_EHISTORY && p->rebuilding) {
        jr_state_pass(p->state, msg); /* whose image nobody has; a Reset follows */
        err = 0;
    }
    if (err == JR_EHISTORY) {
        jr_pool_adopt_other(p, msg);
        return 0;
    }
    if (err < 0) {
        jr_pool_stop_applying(p, err);
        return 0;
    }
    if (JR_BUG(CAP_OF_REPLICA))
        jr_index_set_entries_max(p->state->index, p->config.index_entries_max);
    if (msg->on_control && p->rebuilding)
        p->control_seen = msg->seq;
    p->n.log_messages++;
    if (msg->kind == JR_LOG_KIND_BATCH)
        p->n.kv_events += msg->u.batch.n_events;
    if (msg->kind == JR_LOG_KIND_BATCH && msg->u.batch.begin)
        jr_pool_members_on_begin(p, msg->u.batch.worker_id);
    if (msg->seq > p->stream_last)
        p->stream_last = msg->seq;
    if (effect)
        jr_pool_on_effect(p, msg, effect);
    jr_pool_progress(p, p->state->seq);
    jr_pool_caught_up(p);
    return 0;
}

/* ---------------------------------------------------------------- the clock */

/* The stream was rolled back before the reader came: what it held is not to be waited for. One look may
 * be older than the target is; the second was begun when the first was answered. */
static void watch_target(struct jr_pool *p, uint64_t last_seq)
{
    p->short_looks = last_seq < p->target_seq ? p->short_looks + 1 : 0;
    if (p->short_looks < 2)
        return;
    p->target_seq = last_seq;
    p->short_looks = 0;
}

static uint64_t read_seq(const struct jr_pool *p)
{
    return jr_pool_recovery(p) == JR_REC_ADOPT ? p->seek_seq : p->state->seq;
}

/* A message at or before this one is on its way, or gone. */
static uint64_t awaited_seq(const struct jr_pool *p)
{
    switch (jr_pool_recovery(p)) {
    case JR_REC_REPLAY:
    case JR_REC_REBUILD:
    case JR_REC_ADOPT:
        return p->target_seq;
    case JR_REC_READY:
        return JR_BUG(MUTE_UNSEEN) ? 0 : p->facts.last_seq;
    default:
        return 0;
    }
}

/* The last messages may have been taken out, too, with none behind them that would show it; and a
 * consumer may live, and deliver nothing. */
static void watch_stall(struct jr_pool *p)
{
    enum jr_recovery at = jr_pool_recovery(p);
    uint64_t seq = read_seq(p);
    bool stalls = seq < awaited_seq(p) && seq == p->stalled_seq;
    p->stalled_looks = stalls ? p->stalled_looks + 1 : 0;
    p->stalled_seq = seq;
    if (p->stalled_looks < STALLED_LOOKS)
        return;
    p->stalled_looks = 0;
    if (at == JR_REC_REPLAY || at == JR_REC_READY)
        jr_pool_on_reader_broken(p);
    else
        p->target_seq = seq;
}

/* What everybody wants to know of the stream and its snapshots, and only the leader acts on. */
void jr_pool_on_facts(struct jr_pool *p, const struct jr_event *e)
{
    const struct jr_stream_facts *f = &e->u.facts.stream;
    if (!p->has_position)
        return;
    /* Made anew between the check and the reader's beginning, it may go on by number where we are. */
    if (f->created_ns != p->stream_created_ns) {
        jr_pool_on_reader_broken(p);
        return;
    }
    p->facts = *f;
    watch_target(p, f->last_seq);
    watch_stall(p);
    p->stream_first = f->first_seq;
    if (f->last_seq > p->stream_last)
        p->stream_last = f->last_seq;
    /* The record was read before the stream: what it names past the end is another history's. */
    const struct jr_snapshots_record *r = &e->u.facts.record;
    if (r->newest.seq > f->last_seq)
        jr_pool_ref_misfits(p, &r->newest);
    if (r->previous.seq > f->last_seq)
        jr_pool_ref_misfits(p, &r->previous);
    if (!p->leader)
        p->record = *r;
    jr_pool_members_on_facts(p, f->last_seq);
}

void jr_pool_recovery_tick(struct jr_pool *p)
{
    if (jr_pool_recovery(p) == JR_REC_COLD && !p->connected &&
        p->now_ms - p->started_at_ms >= p->config.ready_timeout_ms)
        jr_pool_move(p, JR_REC_DEGRADED, "NATS was not reachable in time");
    if (p->retry_at_ms && p->now_ms >= p->retry_at_ms) {
        if (jr_pool_recovery(p) == JR_REC_LOAD_SNAPSHOT)
            ask_load(p);
        else if (jr_pool_recovery(p) == JR_REC_VERIFY)
            ask_info(p, candidate_seq(p));
        p->retry_at_ms = 0;
    }
    jr_pool_adopt_tick(p);
    if (!reading(p))
        return;
    jr_pool_caught_up(p);
    if (p->rebuilding && jr_pool_peer_holds_state(p) &&
        p->now_ms - p->rebuild_at_ms >= JR_POOL_REBUILD_LOOK_MS) {
        jr_pool_act(p, JR_ACT_STOP_READER);
        jr_pool_go_load(p, "a peer holds the state after all");
    }
}

/* Not knowing them costs a prefill each, so nobody waits for them for ever. */
static bool awaits_sessions(const struct jr_pool *p)
{
    return !jr_pool_sessions_known(p) && p->now_ms - p->started_at_ms < p->config.ready_timeout_ms;
}

const char *jr_pool_not_ready_because(const struct jr_pool *p)
{
    if (p->broken)
        return "out of memory: the state of the pool is not whole";
    if (p->too_new)
        return "the log has rules that this version does not know: upgrade";
    switch (jr_pool_recovery(p)) {
    case JR_REC_COLD:
        return "NATS is not reachable yet";
    case JR_REC_LEASE:
        return "registering";
    case JR_REC_LOAD_SNAPSHOT:
        return "loading a snapshot";
    case JR_REC_VERIFY:
        return "checking the snapshot against the stream, or restoring it";
    case JR_REC_REPLAY:
        return "replaying the stream";
    case JR_REC_REBUILD:
        return "no snapshot fits the stream: rebuilding from a reset";
    case JR_REC_ADOPT:
        return "the stream has another history: our index, or a peer's, is put into it";
    case JR_REC_CATCH_UP:
        if (!p->listed_at_ms)
            return "waiting for the list of workers and replicas";
        if (p->config.replica_sync && !(p->sync_open && jr_replicas_complete(&p->replicas)))
            return "waiting for the load of the other replicas";
        if (awaits_sessions(p))
            return "reading where sessions are bound";
        return "waiting for the workers to announce their blocks";
    default:
        return "";
    }
}

static bool load_is_known(const struct jr_pool *p)
{
    if (!p->listed_at_ms)
        return false;
    if (p->config.replica_sync && !(p->sync_open && jr_replicas_complete(&p->replicas)))
        return false;
    if (awaits_sessions(p))
        return false;
    return !p->await_workers_until_ms || p->now_ms >= p->await_workers_until_ms ||
           jr_pool_workers_announced(p);
}

/* --router-reset-states: with a token once, without at every start. */
static void reset_at_start(struct jr_pool *p)
{
    if (p->reset_asked || p->config.approximate)
        return;
    p->reset_asked = true;
    const char *token = p->config.reset_token;
    bool acted = strcmp(token, p->state->reset_token) == 0 && !JR_BUG(RESET_EACH_START);
    if (token[0] ? !acted : p->config.reset_at_start)
        jr_pool_ask_reset(p, token);
}

void jr_pool_judge_ready(struct jr_pool *p)
{
    enum jr_recovery at = jr_pool_recovery(p);
    if (at == JR_REC_CATCH_UP && load_is_known(p)) {
        jr_pool_move(p, JR_REC_READY, "caught up, and the peers' load is known");
        p->await_workers_until_ms = 0;
        reset_at_start(p);
    }
    at = jr_pool_recovery(p);
    bool waited = p->now_ms - p->started_at_ms >= p->config.ready_timeout_ms;
    if (at == JR_REC_READY || (at == JR_REC_DEGRADED && waited))
        p->ready = true;
    if (p->broken || p->too_new || (JR_BUG(NATS_UNREADY) && !p->connected))
        p->ready = false;
    if (p->ready == p->ready_said)
        return;
    struct jr_action *a = jr_pool_act(p, JR_ACT_READY);
    if (!a)
        return;
    a->u.ready = p->ready;
    p->ready_said = p->ready;
}
