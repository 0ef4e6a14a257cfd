/* SPDX-License-Identifier: Apache-2.0 */
/* What only the leader does. All of it is level-triggered: at each tick what is, is compared with
 * what should be, so a leader that died in between is simply continued. docs/protocol.md §4, §7.
 *
 *   IDLE ──due──► COPY ──image──► WRITE ──uploaded, read back──► AGREE ──a peer agrees──► RECORD
 *    ▲                                │                            │                        │
 *    └────────── failed ──────────────┴────── a peer disagrees ────┘      recorded: purge ──┘ */
#include "base/assert.h"
#include "base/bug.h"
#include "core/pool_internal.h"

#include <string.h>

#define AGREE_WAIT_MS  10000
#define PURGE_EVERY_MS 2000

void jr_pool_on_leader(struct jr_pool *p, bool leader, const struct jr_snapshots_record *record)
{
    if (leader == p->leader)
        return;
    p->leader = leader;
    p->recording = false;
    p->epoch_said_n = p->epoch_said_random = 0;
    if (leader)
        p->record = *record;
    else
        jr_pool_snapshot_abort(p);
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "leader.change", "leader=%d", leader);
}

static bool may_do_duty(const struct jr_pool *p)
{
    return p->leader && p->connected && !p->broken && !p->too_new && !p->digest_mismatch &&
           !p->yields;
}

static bool on_duty(const struct jr_pool *p)
{
    return may_do_duty(p) && jr_pool_recovery(p) == JR_REC_READY;
}

/* ---------------------------------------------------------------- snapshots */

/* Of the newest snapshot that belongs to this history; 0 when there is none. */
static uint64_t newest_seq(const struct jr_pool *p)
{
    return jr_pool_ref_fits(p, &p->record.newest) ? p->record.newest.seq : 0;
}

/* The newest recorded one that belongs to this history, or an empty one. */
static const struct jr_snapshot_ref *newest_fit(const struct jr_pool *p)
{
    static const struct jr_snapshot_ref none;
    if (jr_pool_ref_fits(p, &p->record.newest))
        return &p->record.newest;
    return jr_pool_ref_fits(p, &p->record.previous) ? &p->record.previous : &none;
}

/* A peer waits for a snapshot that the newest is not: it is too old, or nobody has one. */
static bool peer_waits(const struct jr_pool *p, uint64_t newest)
{
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->has_lease && peer->lease.wants &&
            peer->lease.stream_created_ns == (uint64_t)p->stream_created_ns &&
            (newest == 0 || newest < peer->lease.wants || newest + 1 < p->stream_first))
            return true;
    }
    return false;
}

/* Nothing came after the newest, and a peer had the time to load it and cannot: the same again. */
static bool peer_cannot_read(const struct jr_pool *p, uint64_t newest)
{
    int64_t age_ms = (p->unix_ns - p->record.newest.created_ns) / 1000000;
    return newest && age_ms >= (int64_t)p->config.lease_ttl_ms && peer_waits(p, newest);
}

/* A quarter of the stream's bytes came since, by the mean size of a message. */
static bool is_large(const struct jr_pool *p, uint64_t newest)
{
    const struct jr_stream_facts *f = &p->facts;
    if (!f->bytes_max || f->first_seq == 0 || f->last_seq < f->first_seq)
        return false;
    uint64_t base = newest >= f->first_seq ? newest : f->first_seq - 1;
    double since = p->state->seq > base ? (double)(p->state->seq - base) : 0;
    double mean = (double)f->bytes / (double)(f->last_seq - f->first_seq + 1);
    return since * mean * 4 >= (double)f->bytes_max;
}

/* A stream that drops messages by age leaves a quarter of it. The clock of who wrote the snapshot
 * may be ahead of ours: then it is new. */
static bool is_old(const struct jr_pool *p, uint64_t newest)
{
    uint64_t limit = p->config.snapshot_max_age_ms, quarter = (uint64_t)p->facts.max_age_ms / 4;
    if (quarter && (!limit || quarter < limit))
        limit = quarter;
    if (!newest)
        return quarter > 0;
    int64_t age_ms = (p->unix_ns - p->record.newest.created_ns) / 1000000;
    return limit && age_ms > 0 && (uint64_t)age_ms >= limit;
}

/* Nothing more can be stored, so no newer snapshot will ever be due, and without two generations
 * nothing may be purged. */
static bool is_stuck(const struct jr_pool *p)
{
    const struct jr_stream_facts *f = &p->facts;
    return f->bytes_max && f->bytes / 3 >= f->bytes_max / 4 &&
           !jr_pool_ref_fits(p, &p->record.previous);
}

static const char *snapshot_due(struct jr_pool *p)
{
    uint64_t newest = newest_seq(p), seq = p->state->seq;
    /* Never one that is older than the newest: a leader may have slept meanwhile. */
    if (seq < newest)
        return NULL;
    if (seq == newest && newest)
        p->snap_wanted = false;
    if (p->snap_wanted)
        return "wanted";
    if (seq == newest)
        if (seq == newest && peer_cannot_read(p, newest))
            return "a peer cannot read the newest";
    if (seq == newest)
        return newest && is_stuck(p) ? "the stream is nearly full" : NULL;
    if (seq - newest >= p->config.snapshot_threshold)
        return "messages";
    if (newest + 1 < p->stream_first)
        return "nothing covers what was purged";
    if (peer_waits(p, newest))
        return "a peer waits for one";
    if (is_large(p, newest))
        return "bytes";
    return is_old(p, newest) ? "age" : NULL;
}

static void fail(struct jr_pool *p, const char *why)
{
    p->snap = JR_SNAP_IDLE;
    p->snap_why = why;
    p->n.snapshot_failures++;
    uint32_t shift = p->snap_failures < 6 ? p->snap_failures : 6;
    p->snap_failures++;
    p->snap_retry_at_ms = p->now_ms + ((uint64_t)JR_POOL_RETRY_MS << shift);
    jr_trace_emit(&p->trace, JR_TRACE_WARN, "snapshot.failed", "why=\"%s\" failures=%u", why,
                  p->snap_failures);
}

void jr_pool_snapshot_abort(struct jr_pool *p)
{
    if (p->snap == JR_SNAP_COPY)
        jr_pool_retire_image(p, jr_state_export_abort(p->state, &p->export_));
    if (p->snap != JR_SNAP_IDLE)
        fail(p, "interrupted");
}

static void begin_copy(struct jr_pool *p, const char *why)
{
    int err = jr_state_export_begin(p->state, &p->export_);
    if (err == JR_EAGAIN) /* the last one is still being put away */
        return;
    if (err < 0) {
        fail(p, "out of memory");
        return;
    }
    p->snap = JR_SNAP_COPY;
    p->snap_started_ms = p->now_ms;
    p->snap_wanted = false;
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "snapshot.begin", "why=\"%s\" seq=%llu entries=%llu",
                  why, (unsigned long long)p->state->seq,
                  (unsigned long long)jr_index_entries(p->state->index));
}

static void complete_header(const struct jr_pool *p, struct jr_image *image)
{
    memcpy(image->namespace_, p->config.namespace_, sizeof image->namespace_);
    memcpy(image->component, p->config.component, sizeof image->component);
    image->stream_created_ns = p->stream_created_ns;
    image->format = jr_pool_format_known(p);
}

void jr_pool_copy_slice(struct jr_pool *p, uint32_t max)
{
    int err = jr_state_export_step(p->state, &p->export_, max);
    JR_ASSERT(err != JR_ECLOSED); /* a Reset ends the job */
    if (err < 0)
        return;
    struct jr_image *image = jr_state_export_take(&p->export_);
    complete_header(p, image);
    struct jr_action *a = jr_pool_act(p, JR_ACT_WRITE_SNAPSHOT);
    if (!a) {
        jr_pool_retire_image(p, image);
        fail(p, "out of memory");
        return;
    }
    /* The one that is not the newest verified is written next, never the other. */
    const struct jr_snapshot_ref *fit = newest_fit(p);
    const char *kept = fit->object[0] ? fit->object : p->record.newest.object;
    const char *object = strcmp(kept, "snapshot-a") == 0 ? "snapshot-b" : "snapshot-a";
    p->snap_ref = (struct jr_snapshot_ref){.seq = image->seq};
    (void)jr_str_copy(p->snap_ref.object, sizeof p->snap_ref.object, object);
    a->u.write.image = image;
    (void)jr_str_copy(a->u.write.object, sizeof a->u.write.object, object);
    p->snap = JR_SNAP_WRITE;
}

void jr_pool_on_written(struct jr_pool *p, int err, const struct jr_snapshot_ref *ref)
{
    if (p->snap != JR_SNAP_WRITE)
        return;
    if (err < 0) {
        fail(p, jr_err_text(err));
        return;
    }
    /* The answer to a job that was given up. */
    if (ref->seq != p->snap_ref.seq || strcmp(ref->object, p->snap_ref.object) != 0)
        return;
    p->snap_ref = *ref;
    p->snap = JR_SNAP_AGREE;
    p->snap_agree_until_ms = p->now_ms + AGREE_WAIT_MS;
}

static void record_snapshot(struct jr_pool *p)
{
    struct jr_action *a = jr_pool_act(p, JR_ACT_RECORD_SNAPSHOT);
    if (!a) {
        fail(p, "out of memory");
        return;
    }
    const struct jr_snapshot_ref previous = *newest_fit(p);
    a->u.record = (struct jr_snapshots_record){.newest = p->snap_ref, .previous = previous};
    p->recorded = a->u.record;
    p->recording = true;
    p->snap = JR_SNAP_RECORD;
}

static void agree(struct jr_pool *p)
{
    switch (jr_pool_ask_peers(p, p->snap_ref.seq)) {
    case JR_AGREE_NO:
        fail(p, "a peer has another digest");
        return;
    case JR_AGREE_WAIT:
        /* Peers are there, but no point of theirs is as new: after a while, that nobody
         * disagrees at an older point has to do; the purge stays behind it anyway. */
        if (p->now_ms < p->snap_agree_until_ms)
            return;
        break;
    case JR_AGREE_YES:
    case JR_AGREE_NOBODY:
        break;
    }
    record_snapshot(p);
}

void jr_pool_on_recorded(struct jr_pool *p, int err)
{
    /* Written is written, also when the job was given up meanwhile: else the next snapshot would go
     * over the one that is now the newest. */
    if (p->recording && err == 0)
        p->record = p->recorded;
    p->recording = false;
    if (p->snap != JR_SNAP_RECORD)
        return;
    if (err < 0) {
        fail(p, jr_err_text(err));
        return;
    }
    p->snap = JR_SNAP_IDLE;
    p->snap_failures = 0;
    p->snap_why = NULL;
    p->n.snapshots++;
    p->snapshot_ms = p->now_ms - p->snap_started_ms;
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "snapshot.recorded",
                  "object=%s seq=%llu bytes=%llu ms=%llu", p->snap_ref.object,
                  (unsigned long long)p->snap_ref.seq, (unsigned long long)p->snap_ref.bytes,
                  (unsigned long long)(p->now_ms - p->snap_started_ms));
}

/* ---------------------------------------------------------------- purge */

/* min(sequence of the previous verified snapshot, applied of every live replica, ack floors of
 * foreign consumers). The newest is not older, but were it, it would count, too. */
static uint64_t purge_floor(const struct jr_pool *p)
{
    const struct jr_snapshot_ref *previous = &p->record.previous;
    if (JR_BUG(PURGE_UNVERIFIED) && p->snap > JR_SNAP_COPY)
        return p->snap_ref.seq;
    if (!jr_pool_ref_fits(p, previous) || newest_seq(p) == 0 || p->replicas.truncated)
        return 0;
    uint64_t floor = previous->seq < p->state->seq ? previous->seq : p->state->seq;
    if (newest_seq(p) < floor)
        floor = newest_seq(p);
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->has_lease && peer->lease.applied < floor)
            floor = peer->lease.applied;
    }
    if (p->facts.foreign && p->facts.foreign_ack_floor < floor)
        floor = p->facts.foreign_ack_floor;
    return floor;
}

static void purge(struct jr_pool *p)
{
    if (p->purging || p->now_ms < p->purge_at_ms ||
        p->now_ms - p->connected_at_ms < p->config.lease_ttl_ms || !p->listed_at_ms ||
        p->now_ms - p->listed_at_ms >= p->config.lease_ttl_ms)
        return;
    uint64_t floor = purge_floor(p);
    if (floor <= 1 || floor <= p->purged_to || floor <= p->stream_first ||
        jr_pool_ask_peers(p, floor) == JR_AGREE_NO)
        return;
    struct jr_action *a = jr_pool_act(p, JR_ACT_PURGE);
    if (!a)
        return;
    a->u.seq = floor;
    p->purging = true;
    p->purged_to = floor;
    p->purge_at_ms = p->now_ms + PURGE_EVERY_MS;
}

void jr_pool_on_purged(struct jr_pool *p, int err, uint64_t floor)
{
    if (!p->purging)
        return;
    p->purging = false;
    if (err < 0) {
        p->purged_to = 0; /* ask again */
        jr_trace_emit(&p->trace, JR_TRACE_WARN, "purge.failed", "error=%s", jr_err_name(err));
        return;
    }
    p->n.purges++;
    p->purged_to = floor;
    if (floor > p->stream_first)
        p->stream_first = floor;
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "purge.done", "first_seq=%llu",
                  (unsigned long long)p->purged_to);
}

/* ---------------------------------------------------------------- control messages */

static struct jr_control *publish(struct jr_pool *p, enum jr_control_type type)
{
    struct jr_action *a = jr_pool_act(p, JR_ACT_PUBLISH_CONTROL);
    if (!a)
        return NULL;
    a->u.control.type = type;
    /* Without a state it was decided upon what the log said up to here: one who slept since must
     * not undo what others put into it. */
    a->u.expects = p->rebuilding || jr_pool_recovery(p) == JR_REC_ADOPT;
    /* Whoever slept does not know the parameters that somebody else has said meanwhile. */
    a->u.must_be_read = type == JR_CONTROL_CONFIG && !JR_BUG(CONFIG_UNREAD);
    a->u.expects_seq = a->u.must_be_read ? p->state->seq : p->control_seen;
    p->control_at_ms = p->now_ms;
    return &a->u.control;
}

void jr_pool_on_published(struct jr_pool *p, int err)
{
    if (err == 0)
        return;
    jr_trace_emit(&p->trace, JR_TRACE_WARN, "control.publish_failed", "error=%s", jr_err_name(err));
    if (err != JR_ECONFLICT || !p->connected ||
        !(p->rebuilding || jr_pool_recovery(p) == JR_REC_ADOPT))
        return;
    jr_pool_act(p, JR_ACT_STOP_READER);
    jr_pool_go_load(p, "another control message came first");
}

/* Our index becomes the state of the pool at this message, for all. */
static void ask_adopt(struct jr_pool *p)
{
    struct jr_control *c = publish(p, JR_CONTROL_ADOPT);
    if (!c)
        return;
    c->digest_blocks = jr_state_digest_blocks(p->state);
    c->digest_table = jr_state_digest_table(p->state);
    jr_trace_emit(
        &p->trace, JR_TRACE_WARN, "pool.adopt",
        "entries=%llu hint=\"the stream has another history: the leader's index goes on\"",
        (unsigned long long)jr_index_entries(p->state->index));
}

void jr_pool_ask_reset(struct jr_pool *p, const char *token)
{
    struct jr_control *c = publish(p, JR_CONTROL_RESET);
    if (!c)
        return;
    p->reset_pending = true;
    p->reset_from = p->state->epoch;
    if (token != p->reset_token)
        (void)jr_str_copy(p->reset_token, sizeof p->reset_token, token);
    c->from = p->rebuilding ? (struct jr_epoch){0, JR_EPOCH_ANY} : p->state->epoch;
    c->to = (struct jr_epoch){jr_rng_u64(&p->rng), p->state->epoch.n + 1};
    (void)jr_str_copy(c->token, sizeof c->token, token);
}

/* A Reset that was refused or lost is sent again until the epoch it was to follow is over, be it by
 * another's Reset. */
static void repeat_reset(struct jr_pool *p, bool may_repeat)
{
    const struct jr_epoch *e = &p->state->epoch;
    if (e->n != p->reset_from.n || e->random != p->reset_from.random)
        p->reset_pending = false;
    else if (may_repeat && p->connected && jr_pool_recovery(p) == JR_REC_READY)
        jr_pool_ask_reset(p, p->reset_token);
}

/* The parameters of the pool enter the log once. */
static bool agree_on_params(struct jr_pool *p)
{
    uint32_t block_size = jr_pool_block_size(p);
    if (p->state->params.block_size || !block_size)
        return false;
    struct jr_control *c = publish(p, JR_CONTROL_CONFIG);
    if (c)
        c->params = (struct jr_pool_params){.block_size = block_size,
                                            .hash_scheme = 1,
                                            .index_entries_max = p->config.index_entries_max};
    return c != NULL;
}

/* Rules that every replica knows, listed or not, are used from the message on that says so. */
static void agree_on_rules(struct jr_pool *p)
{
    uint32_t known = jr_pool_rules_known(p);
    if (known <= p->state->rule_version)
        return;
    struct jr_control *c = publish(p, JR_CONTROL_USE_VERSION);
    if (c)
        c->rule_version = known;
}

/* Bridges learn of an epoch by the hint in the state bucket; each new leader says it again. Not only
 * when it is ready: after a rebuild that waits for the workers, who wait for the hint. */
static void say_epoch(struct jr_pool *p)
{
    const struct jr_epoch *e = &p->state->epoch;
    enum jr_recovery at = jr_pool_recovery(p);
    if (!may_do_duty(p) || (at != JR_REC_READY && at != JR_REC_CATCH_UP) || e->n == 0 ||
        (e->n == p->epoch_said_n && e->random == p->epoch_said_random))
        return;
    struct jr_action *a = jr_pool_act(p, JR_ACT_EPOCH);
    if (!a)
        return;
    a->u.epoch.epoch = *e;
    p->epoch_said_n = e->n;
    p->epoch_said_random = e->random;
}

/* By a Reset, when the list of the members is fresh and nobody in it holds the state. */
static bool may_rebuild(const struct jr_pool *p)
{
    return p->rebuilding && p->leader && p->connected && p->state->seq >= p->target_seq &&
           p->listed_at_ms && p->now_ms - p->listed_at_ms < p->config.lease_ttl_ms &&
           !jr_pool_peer_holds_state(p);
}

void jr_pool_duties_tick(struct jr_pool *p)
{
    bool may_repeat = !p->control_at_ms || p->now_ms - p->control_at_ms >= JR_POOL_REPEAT_MS;
    if (may_rebuild(p) && !p->dynamo_tried && p->stream_first > 1)
        jr_pool_import_dynamo(p);
    else if (may_rebuild(p) && may_repeat)
        jr_pool_ask_reset(p, p->config.reset_token);
    else if (jr_pool_may_adopt(p) && may_repeat)
        ask_adopt(p);
    else if (p->reset_pending)
        repeat_reset(p, may_repeat);
    say_epoch(p);
    if (!on_duty(p))
        return;
    if (may_repeat && !agree_on_params(p))
        agree_on_rules(p);
    if (p->snap == JR_SNAP_AGREE)
        agree(p);
    const char *due =
        p->snap == JR_SNAP_IDLE && p->now_ms >= p->snap_retry_at_ms ? snapshot_due(p) : NULL;
    if (due)
        begin_copy(p, due);
    purge(p);
}
