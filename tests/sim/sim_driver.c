/* SPDX-License-Identifier: Apache-2.0 */
/* A driver that performs a pool's actions the way src/app/driver does, with random delays. What it
 * has asked for goes on without it: a replica that sleeps, or is killed, may have its effects in the
 * world all the same. */
#include "sim_world.h"

#include "base/mem.h"
#include <string.h>

/* ---------------------------------------------------------------- ops */

static uint64_t latency(struct sim *sim)
{
    return sim_delay(sim, sim->now_ms < sim->nats.slow_until_ms ? 2000 : 60);
}

static struct sim_op *new_op(struct sim *sim, struct sim_replica *r, enum sim_op_type type)
{
    if (r->n_ops == r->cap_ops) {
        r->cap_ops = r->cap_ops ? 2 * r->cap_ops : 16;
        r->ops = jr_xrealloc(r->ops, r->cap_ops * sizeof *r->ops);
    }
    struct sim_op *op = jr_xalloc(sizeof *op);
    op->type = type;
    op->connection = r->connection;
    op->at_ms = sim->now_ms + latency(sim);
    op->done_ms = op->at_ms + latency(sim);
    r->ops[r->n_ops++] = op;
    return op;
}

static void free_op(struct sim_op *op)
{
    jr_image_destroy(op->image);
    if (op->sync.b.replica)
        sim_batch_free(&op->sync.b);
    jr_xfree((void *)(uintptr_t)op->control.u.control.ended);
    jr_xfree(op);
}

static int object_index(const char *object)
{
    return strcmp(object, "snapshot-b") == 0;
}

static void do_control(struct sim *sim, struct sim_replica *r, const struct jr_action *a)
{
    const struct jr_control *c = &a->u.control;
    struct sim_op *op = new_op(sim, r, SIM_OP_CONTROL);
    op->control.kind = JR_LOG_KIND_CONTROL;
    if (c->type == JR_CONTROL_ADOPT)
        sim_model_offer(sim, r);
    if (c->type == JR_CONTROL_WORKER_GONE)
        sim_routing_gone(sim, r, c);
    op->control.u.control = *c;
    op->control.u.control.ended =
        c->n_ended ? jr_xmemdup(c->ended, c->n_ended * sizeof *c->ended) : NULL;
    op->ends_worker = a->u.ends_worker;
    op->expected = a->u.expects ? a->u.expects_seq : sim_nats_last_control(sim);
    op->unread = a->u.must_be_read && op->expected > a->u.expects_seq;
}

static bool lists(const struct jr_pool *p, const struct sim_replica *r)
{
    const struct jr_peer *peer = r->pool ? jr_replicas_find(&p->replicas, r->id) : NULL;
    return peer && peer->has_lease && peer->lease.incarnation == r->incarnation;
}

/* With what is live now, so that whoever reads it can be compared. */
static void do_sync(struct sim *sim, struct sim_replica *r, const struct jr_sync_batch *b)
{
    struct sim_op *op = new_op(sim, r, SIM_OP_SYNC);
    sim_batch_copy(&op->sync.b, b);
    /* The last batch of a step says all that there is, but for who waits for a base. So does the end
     * of a base, unless something happened while its parts were told. */
    const struct jr_pool *p = r->pool;
    bool last = b->is_base ? b->part + 1 == b->parts
                           : b->number == p->batch_number && p->base_at_ms != p->now_ms;
    op->sync.says_all = last && p->pending.n == 0 && !p->sync_lost;
    JR_LIST_FOREACH (it, &r->pool->own.list) {
        op->sync.live += jr_mix64(JR_CONTAINER_OF(it, struct jr_booked, node)->b.request);
        op->sync.n_live++;
    }
    op->sync.sent_ms = sim->now_ms;
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        op->sync.lists |= (uint64_t)lists(p, &sim->replicas[i]) << i;
    if (r->sync_at_ms > op->at_ms) /* one sender's batches stay in order */
        op->at_ms = r->sync_at_ms;
    r->sync_at_ms = op->at_ms;
    op->done_ms = op->at_ms + latency(sim);
}

static void do_session(struct sim *sim, struct sim_replica *r, const struct jr_session_word *word)
{
    struct sim_op *op = new_op(sim, r, SIM_OP_SESSION);
    op->word = *word;
    if (r->word_at_ms > op->at_ms) /* they stay in order, too */
        op->at_ms = r->word_at_ms;
    r->word_at_ms = op->at_ms;
    op->done_ms = op->at_ms + latency(sim);
}

static void start_reader(const struct sim *sim, struct sim_replica *r, const struct jr_action *a)
{
    r->reading = true;
    r->mute = false;
    r->read_next = a->u.start.applied + 1;
    r->read_created_ns = a->u.start.stream_created_ns;
    /* As the real reader, which looks at the message it stands on. */
    uint64_t at = a->u.start.applied;
    const struct sim_nats *n = &sim->nats;
    bool other = at > n->n_log || (a->u.start.has_msg && at >= n->first_seq && at > 0 &&
                                   (n->log[at - 1].m.time_ns != a->u.start.msg_time_ns ||
                                    n->log[at - 1].m.payload_hash != a->u.start.msg_hash));
    r->read_branch = other ? UINT64_MAX : n->branch;
}

void sim_driver_perform(struct sim *sim, struct sim_replica *r, const struct jr_action *a)
{
    struct sim_op *op;
    uint32_t w;
    switch (a->type) {
    case JR_ACT_TAKE_LEASE:
        r->take_lease = true;
        return;
    case JR_ACT_STREAM_INFO:
        new_op(sim, r, SIM_OP_INFO)->seq = a->u.seq;
        return;
    case JR_ACT_LOAD_SNAPSHOT:
        sim_routing_loads(sim, r);
        op = new_op(sim, r, SIM_OP_LOAD);
        memcpy(op->object, a->u.load.skip, sizeof op->object);
        op->lost = a->u.load.dynamo; /* there is none here */
        return;
    case JR_ACT_START_READER:
        start_reader(sim, r, a);
        r->resume_seq = 0;
        return;
    case JR_ACT_STOP_READER:
        r->reading = false;
        return;
    case JR_ACT_WRITE_SNAPSHOT:
        op = new_op(sim, r, SIM_OP_WRITE);
        op->image = a->u.write.image;
        jr_image_arrange(op->image);
        memcpy(op->object, a->u.write.object, sizeof op->object);
        op->expected = r->object_revision[object_index(op->object)];
        return;
    case JR_ACT_RECORD_SNAPSHOT:
        op = new_op(sim, r, SIM_OP_RECORD);
        op->record = a->u.record;
        op->expected = r->record_revision;
        return;
    case JR_ACT_PURGE:
        new_op(sim, r, SIM_OP_PURGE)->seq = a->u.seq;
        return;
    case JR_ACT_PUBLISH_CONTROL:
        do_control(sim, r, a);
        return;
    case JR_ACT_PUBLISH_SYNC:
        do_sync(sim, r, &a->u.sync);
        return;
    case JR_ACT_TELL_SESSION:
        do_session(sim, r, &a->u.session);
        return;
    case JR_ACT_REANNOUNCE:
        w = sim_worker_find(sim, a->u.rank.worker_id);
        if (sim_replica_reaches(sim, r) && !sim_nats_full(sim) && w < SIM_WORKERS)
            sim->nats.reannounce[w][a->u.rank.dp_rank % JR_LOWER_STEP] = true;
        return;
    case JR_ACT_PROBE:
        new_op(sim, r, SIM_OP_PROBE)->seq = a->u.probe.worker_id;
        return;
    case JR_ACT_EPOCH:
        if (!sim_replica_reaches(sim, r) || sim_nats_full(sim))
            return;
        sim->nats.epoch = a->u.epoch.epoch;
        sim->nats.has_epoch = true;
        return;
    case JR_ACT_READY:
        if (a->u.ready)
            sim_check_ready(sim, r);
        SIM_CHECK(sim, a->u.ready || r->pool->too_new,
                  "RoutingOutlivesNats: replica %u was ready, and is so no more", r->index);
        return;
    case JR_ACT_DECIDE:
        if (jr_request_is_outside(a->u.decide.id))
            sim_outside_decided(sim, r, a->u.decide.id, true);
        else
            sim_client_decided(sim, r, &a->u.decide);
        return;
    case JR_ACT_REJECT:
        if (jr_request_is_outside(a->u.reject.id))
            sim_outside_decided(sim, r, a->u.reject.id, false);
        else
            sim_client_rejected(sim, r, a->u.reject.id, a->u.reject.err);
        return;
    }
}

/* ---------------------------------------------------------------- leases */

void sim_driver_not_leader(struct sim *sim, struct sim_replica *r)
{
    if (!r->leader_told)
        return;
    r->leader_told = false;
    struct jr_event ev = {.type = JR_EV_LEADER};
    sim_replica_event(sim, r, &ev);
}

void sim_driver_round(struct sim *sim, struct sim_replica *r)
{
    if (r->round_running || !r->connected)
        return;
    struct sim_op *op = new_op(sim, r, SIM_OP_ROUND);
    r->round_running = true;
    op->led = r->take_lease || (r->held && sim->now_ms >= r->renew_ms);
    op->asked_at_ms = sim_replica_now(sim, r);
    op->looked = r->rounds++ % 2 == 0;
    op->may_lead = jr_pool_may_lead(r->pool) && !r->leave_ms;
    jr_pool_lease(r->pool, &op->lease);
}

static void renew(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    struct sim_lease *l = &n->replica[r->seat];
    bool live = sim_lease_live(sim, l);
    if (r->lease_revision && (!live || l->revision != r->lease_revision)) {
        op->lost = true;
        op->lease.incarnation = jr_rng_u64(&sim->rng) | 1;
    }
    *l = (struct sim_lease){.present = true,
                            .revision = ++n->revision,
                            .written_ms = sim->now_ms,
                            .created_ms = live && !op->lost ? l->created_ms : sim->now_ms};
    n->replica_value[r->seat] = op->lease;
    op->seq = l->revision;
}

bool sim_driver_all_said(const struct sim_replica *r)
{
    for (uint32_t i = 0; i < r->n_ops; i++)
        if (r->ops[i]->type == SIM_OP_SYNC)
            return false;
    return true;
}

void sim_driver_release(struct sim *sim, struct sim_replica *r)
{
    struct sim_nats *n = &sim->nats;
    struct sim_lease *l = &n->replica[r->seat];
    if (!sim_replica_reaches(sim, r) || sim_nats_full(sim))
        return;
    if (r->held && l->present && l->revision == r->lease_revision)
        l->present = false;
    if (n->leader.present && n->leader_replica == r->index &&
        n->leader_incarnation == r->incarnation)
        n->leader.present = false;
}

static void lead(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    bool live = sim_lease_live(sim, &n->leader);
    bool ours = live && n->leader_replica == r->index &&
                n->leader_incarnation == op->lease.incarnation && !op->lost;
    op->healthy = false;
    if (!op->may_lead) {
        if (ours)
            n->leader.present = false;
        return;
    }
    if (live && !ours)
        return;
    n->leader_replica = r->index;
    n->leader_incarnation = op->lease.incarnation;
    n->leader =
        (struct sim_lease){.present = true, .revision = ++n->revision, .written_ms = sim->now_ms};
    op->healthy = true; /* it leads */
}

static void list(struct sim *sim, struct sim_op *op)
{
    const struct sim_nats *n = &sim->nats;
    for (uint32_t w = 0; w < sim->c.workers; w++) {
        if (n->worker_removed[w]) {
            op->removed[op->n_removed++] = n->worker_value[w].worker_id;
        } else if (sim_lease_live(sim, &n->worker[w])) {
            op->workers[op->n_workers] = n->worker_value[w];
            op->workers[op->n_workers++].revision = n->worker[w].revision;
        }
    }
    for (uint32_t i = 0; i < SIM_SEATS; i++) {
        if (sim_lease_live(sim, &n->replica[i])) {
            op->replicas[op->n_replicas] = n->replica_value[i];
            op->replicas[op->n_replicas++].revision = n->replica[i].revision;
        }
    }
}

static void round_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    r->round_running = false;
    if (op->err < 0)
        return;
    if (op->led) {
        r->lease_revision = op->seq;
        r->renew_ms = op->at_ms + SIM_TTL_MS / 3;
        r->held = true;
        struct jr_event ev = {.u.incarnation = op->lease.incarnation};
        if (op->lost) {
            r->incarnation = op->lease.incarnation;
            ev.type = JR_EV_LEASE_LOST;
            sim_replica_event(sim, r, &ev);
        }
        if (r->take_lease) {
            r->take_lease = false;
            ev.type = JR_EV_LEASE_HELD;
            sim_replica_event(sim, r, &ev);
        }
        r->leader_key = op->healthy;
        if (op->healthy)
            r->leader_renewed_ms = op->at_ms;
        if (!op->healthy)
            sim_driver_not_leader(sim, r);
        else if (!r->leader_told && !r->leading_up) {
            new_op(sim, r, SIM_OP_LEAD);
            r->leading_up = true;
        }
    }
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = op->workers;
    ev.u.members.n_workers = op->n_workers;
    ev.u.members.replicas = op->replicas;
    ev.u.members.n_replicas = op->n_replicas;
    ev.u.members.removed = op->removed;
    ev.u.members.n_removed = op->n_removed;
    ev.u.members.asked_at_ms = op->asked_at_ms;
    sim_check_listed(r, op);
    sim_routing_listed(sim, r, op);
    struct sim_beliefs before;
    sim_beliefs_before(sim, r, &before);
    sim_replica_event(sim, r, &ev);
    sim_beliefs_listed(sim, r, &before);
    if (!op->looked)
        return;
    ev = (struct jr_event){.type = JR_EV_FACTS};
    ev.u.facts.stream = op->facts;
    ev.u.facts.record = op->record;
    sim_replica_event(sim, r, &ev);
}

/* ---------------------------------------------------------------- effects at the servers */

static void execute_info(const struct sim *sim, struct sim_op *op, uint64_t seq)
{
    const struct sim_nats *n = &sim->nats;
    op->facts = (struct jr_stream_facts){
        .created_ns = n->created_ns, .first_seq = n->first_seq, .last_seq = n->n_log};
    if (seq == 0 || seq < n->first_seq || seq > n->n_log)
        return;
    op->facts.has_msg = true;
    op->facts.msg_time_ns = n->log[seq - 1].m.time_ns;
    op->facts.msg_hash = n->log[seq - 1].m.payload_hash;
}

static void execute_load(struct sim *sim, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    op->record = n->record;
    if (op->lost) {
        op->err = JR_ENOTFOUND;
        return;
    }
    const char *order[4] = {n->record.newest.object, n->record.previous.object, "snapshot-a",
                            "snapshot-b"};
    for (int i = 0; i < 4; i++) {
        if (!order[i][0] || strcmp(order[i], op->object) == 0)
            continue;
        int k = object_index(order[i]);
        if (!n->object[k] || n->object_damaged[k]) /* said in the log, and passed over */
            continue;
        op->image = sim_image_copy(n->object[k]);
        op->ref = n->object_ref[k];
        return;
    }
    op->err = JR_ENOTFOUND;
}

static void execute_write(struct sim *sim, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    int k = object_index(op->object);
    if (n->object_revision[k] != op->expected && !JR_BUG(LEADER_NO_FENCE)) {
        op->err = JR_ECONFLICT;
        return;
    }
    /* By its revision: one of another history that was written over may have been of that sequence. */
    SIM_CHECK(sim,
              strcmp(n->record.newest.object, op->object) != 0 || !sim_snapshot_fits(sim, k) ||
                  n->object_revision[k] != n->record.newest.revision,
              "LeaderIsFenced: the newest verified snapshot is overwritten");
    jr_image_destroy(n->object[k]);
    n->object[k] = sim_image_copy(op->image);
    n->object_revision[k] = ++n->revision;
    n->object_void[k] = op->image->seq > n->n_log;
    n->object_damaged[k] = false;
    op->ref = (struct jr_snapshot_ref){.seq = op->image->seq,
                                       .revision = n->object_revision[k],
                                       .bytes = 1,
                                       .created_ns = SIM_UNIX_NS + (int64_t)sim->now_ms * 1000000,
                                       .stream_created_ns = op->image->stream_created_ns,
                                       .digest_blocks = op->image->digest_blocks,
                                       .digest_table = op->image->digest_table,
                                       .epoch = op->image->epoch};
    memcpy(op->ref.object, op->object, sizeof op->ref.object);
    n->object_ref[k] = op->ref;
}

static void execute_record(struct sim *sim, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    if (n->record_revision != op->expected && !JR_BUG(LEADER_NO_FENCE)) {
        op->err = JR_ECONFLICT;
        return;
    }
    sim_check_record(sim, &op->record);
    n->record = op->record;
    n->record_revision = ++n->revision;
    op->seq = n->record_revision;
    sim->n.snapshots++;
}

static void execute_purge(struct sim *sim, const struct sim_replica *r, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    if (!sim_lease_live(sim, &n->leader) || n->leader_replica != r->index ||
        n->leader_incarnation != r->incarnation) {
        op->err = JR_ECONFLICT;
        return;
    }
    if (op->seq > n->n_log || n->record.newest.stream_created_ns != n->created_ns) {
        op->err = JR_EHISTORY;
        return;
    }
    SIM_CHECK(sim, op->seq > 1, "purge with %llu", (unsigned long long)op->seq);
    sim_check_purge(sim, op->seq);
    sim_nats_purge(sim, op->seq);
    sim->n.purges++;
}

static void execute_lead(struct sim *sim, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    op->record = n->record;
    n->record_revision = ++n->revision; /* fences an older leader off; so do the metas */
    op->seq = n->record_revision;
    for (int k = 0; k < 2; k++)
        if (n->object[k])
            n->object_revision[k] = ++n->revision; /* fences an older leader off */
    op->expected = n->object_revision[0];
    op->facts.first_seq = n->object_revision[1];
}

static void execute_control(struct sim *sim, const struct sim_op *op)
{
    const struct jr_control *c = &op->control.u.control;
    uint64_t seq = sim_nats_publish(sim, &op->control, 0, false);
    sim->n.adopts += c->type == JR_CONTROL_ADOPT;
    sim->n.any_resets += c->type == JR_CONTROL_RESET && c->from.n == JR_EPOCH_ANY;
    sim_say(sim, "control %d at %llu", (int)c->type, (unsigned long long)seq);
}

/* On a disk: the sync stream is in memory. */
static bool stores(const struct sim_op *op)
{
    return op->type == SIM_OP_WRITE || op->type == SIM_OP_RECORD || op->type == SIM_OP_CONTROL ||
           op->type == SIM_OP_LEAD || op->type == SIM_OP_SESSION ||
           (op->type == SIM_OP_ROUND && op->led);
}

static void execute(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    op->executed = true;
    if (op->type == SIM_OP_PROBE) {
        uint32_t w = sim_worker_find(sim, op->seq);
        op->healthy = w < SIM_WORKERS && sim_worker_answers(sim, w, r->index);
        return;
    }
    if (!sim_replica_reaches(sim, r)) {
        op->err = JR_ENONATS;
        return;
    }
    if (sim_nats_full(sim) && stores(op)) {
        op->err = JR_EIO;
        return;
    }
    switch (op->type) {
    case SIM_OP_ROUND:
        if (op->led)
            renew(sim, r, op);
        list(sim, op);
        if (op->led)
            lead(sim, r, op);
        op->record = sim->nats.record;
        execute_info(sim, op, 0);
        break;
    case SIM_OP_LEAD:
        execute_lead(sim, op);
        break;
    case SIM_OP_INFO:
        execute_info(sim, op, op->seq);
        op->expected = sim->nats.branch;
        break;
    case SIM_OP_LOAD:
        execute_load(sim, op);
        break;
    case SIM_OP_WRITE:
        execute_write(sim, op);
        break;
    case SIM_OP_RECORD:
        execute_record(sim, op);
        break;
    case SIM_OP_PURGE:
        execute_purge(sim, r, op);
        break;
    case SIM_OP_CONTROL:
        if (op->expected == sim_nats_last_control(sim) && !op->unread &&
            !(op->ends_worker && sim_routing_is_back(sim, op->control.u.control.worker_id)))
            execute_control(sim, op);
        else
            op->err = JR_ECONFLICT;
        break;
    case SIM_OP_SYNC:
        sim_nats_publish_sync(sim, &op->sync);
        break;
    case SIM_OP_SESSION:
        sim_sessions_store(sim, &op->word);
        break;
    case SIM_OP_PROBE:
        break;
    }
    if (op->err == 0 && op->type != SIM_OP_ROUND && sim_fault(sim, SIM_F_ANSWER))
        op->err = JR_ETIMEOUT; /* the answer is lost, the effect is there */
}

/* ---------------------------------------------------------------- answers */

static void lead_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    r->leading_up = false;
    if (op->err < 0 || !r->leader_key || !r->connected)
        return;
    r->leader_told = true;
    r->record_revision = op->seq;
    r->object_revision[0] = op->expected;
    r->object_revision[1] = op->facts.first_seq;
    sim->n.leaders++;
    struct jr_event ev = {.type = JR_EV_LEADER};
    ev.u.leader.is_leader = true;
    ev.u.leader.record = op->record;
    sim_replica_event(sim, r, &ev);
}

static void write_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    if (op->err == 0)
        r->object_revision[object_index(op->object)] = op->ref.revision;
    if (op->err == JR_ECONFLICT) {
        sim_driver_not_leader(sim, r); /* begins anew with the revisions there are */
        return;
    }
    struct jr_event ev = {.type = JR_EV_SNAPSHOT_WRITTEN};
    ev.u.written.err = op->err;
    ev.u.written.ref = op->ref;
    sim_replica_event(sim, r, &ev);
}

static void result(struct sim *sim, struct sim_replica *r, enum jr_event_type type, int err)
{
    struct jr_event ev = {.type = type};
    ev.u.result.err = err;
    sim_replica_event(sim, r, &ev);
}

static void purge_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    struct jr_event ev = {.type = JR_EV_PURGED};
    ev.u.result.err = op->err;
    ev.u.result.floor = op->seq;
    sim_replica_event(sim, r, &ev);
}

static void load_done(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    struct jr_event ev = {.type = JR_EV_SNAPSHOT_LOADED};
    if (r->crashing)
        return;
    ev.u.loaded.err = op->err;
    if (op->err == 0) {
        ev.u.loaded.image = op->image;
        op->image = NULL;
    }
    ev.u.loaded.ref = op->ref;
    ev.u.loaded.record = op->record;
    sim_replica_event(sim, r, &ev);
}

static void record_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    if (op->err == 0)
        r->record_revision = op->seq;
    result(sim, r, JR_EV_SNAPSHOT_RECORDED, op->err);
    if (op->err < 0)
        sim_driver_not_leader(sim, r);
}

static void info_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    struct jr_event ev = {.type = JR_EV_STREAM_INFO};
    ev.u.stream.err = op->err;
    ev.u.stream.facts = op->facts;
    /* What was cut off since it was looked at is not waited for. */
    r->start_last = op->expected == sim->nats.branch ? op->facts.last_seq : 0;
    sim_replica_event(sim, r, &ev);
}

static void answer(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    struct jr_event ev = {.type = JR_EV_PROBED};
    switch (op->type) {
    case SIM_OP_ROUND:
        round_done(sim, r, op);
        break;
    case SIM_OP_LEAD:
        lead_done(sim, r, op);
        break;
    case SIM_OP_INFO:
        if (op->connection == r->connection)
            info_done(sim, r, op);
        break;
    case SIM_OP_LOAD:
        if (op->connection == r->connection)
            load_done(sim, r, op);
        break;
    case SIM_OP_WRITE:
        write_done(sim, r, op);
        break;
    case SIM_OP_RECORD:
        record_done(sim, r, op);
        break;
    case SIM_OP_PURGE:
        purge_done(sim, r, op);
        break;
    case SIM_OP_CONTROL:
        result(sim, r, JR_EV_CONTROL_PUBLISHED, op->err);
        break;
    case SIM_OP_SYNC:
        r->sync_failed = r->sync_failed || (r->leave_ms && op->err < 0);
        if (op->err < 0 && !r->leave_ms) /* as the driver: who leaves does not begin again */
            result(sim, r, JR_EV_SYNC_FAILED, 0);
        break;
    case SIM_OP_SESSION:
        if (op->err < 0) {
            ev = (struct jr_event){.type = JR_EV_SESSION_FAILED};
            ev.u.session.word = op->word;
            sim_replica_event(sim, r, &ev);
        }
        break;
    case SIM_OP_PROBE:
        ev.u.probed.worker_id = op->seq;
        ev.u.probed.healthy = op->healthy;
        sim_replica_event(sim, r, &ev);
        break;
    }
}

void sim_driver_run(struct sim *sim, struct sim_replica *r, bool asleep)
{
    for (uint32_t i = 0; i < r->n_ops; i++)
        if (!r->ops[i]->executed && sim->now_ms >= r->ops[i]->at_ms)
            execute(sim, r, r->ops[i]);
    for (uint32_t i = 0; i < r->n_ops && !asleep;) {
        struct sim_op *op = r->ops[i];
        if (!op->executed || sim->now_ms < op->done_ms) {
            i++;
            continue;
        }
        memmove(r->ops + i, r->ops + i + 1, (r->n_ops - i - 1) * sizeof *r->ops);
        r->n_ops--;
        answer(sim, r, op);
        free_op(op);
    }
}

void sim_driver_end(struct sim *sim, struct sim_replica *r, bool at_all)
{
    bool cut = false; /* of one connection nothing comes behind what did not come */
    for (uint32_t k = 0; k < r->n_ops; k++) {
        struct sim_op *op = r->ops[k];
        bool sync = op->type == SIM_OP_SYNC || op->type == SIM_OP_SESSION;
        if (at_all && !op->executed && !(sync && cut) && sim_chance(sim, 2))
            execute(sim, r, op);
        cut = cut || (sync && !op->executed);
        free_op(op);
    }
    r->n_ops = 0;
}
