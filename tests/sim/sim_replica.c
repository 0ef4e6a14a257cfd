/* SPDX-License-Identifier: Apache-2.0 */
/* A replica: a pool, and a driver that performs its actions the way src/app/driver does, with
 * random delays. What a driver has asked for goes on without it: a replica that sleeps, or is
 * killed, may have its effects in the world all the same. */
#include "sim_world.h"

#include "base/mem.h"
#include <string.h>

bool sim_replica_reaches(const struct sim *sim, const struct sim_replica *r)
{
    return !sim->nats.down && sim->now_ms >= r->cut_until_ms;
}

/* ---------------------------------------------------------------- ops */

static struct sim_op *new_op(struct sim *sim, struct sim_replica *r, enum sim_op_type type)
{
    if (r->n_ops == r->cap_ops) {
        r->cap_ops = r->cap_ops ? 2 * r->cap_ops : 16;
        r->ops = jr_xrealloc(r->ops, r->cap_ops * sizeof *r->ops);
    }
    struct sim_op *op = jr_xalloc(sizeof *op);
    op->type = type;
    op->connection = r->connection;
    op->at_ms = sim->now_ms + sim_delay(sim, 60);
    op->done_ms = op->at_ms + sim_delay(sim, 60);
    r->ops[r->n_ops++] = op;
    return op;
}

static void free_op(struct sim_op *op)
{
    jr_image_destroy(op->image);
    if (op->batch.replica)
        sim_batch_free(&op->batch);
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
    op->control.u.control = *c;
    op->control.u.control.ended =
        c->n_ended ? jr_xmemdup(c->ended, c->n_ended * sizeof *c->ended) : NULL;
    op->expected = a->u.expects ? a->u.expects_seq : sim_nats_last_control(sim);
}

static void do_sync(struct sim *sim, struct sim_replica *r, const struct jr_sync_batch *b)
{
    struct sim_op *op = new_op(sim, r, SIM_OP_SYNC);
    sim_batch_copy(&op->batch, b);
    if (r->sync_at_ms > op->at_ms) /* one sender's batches stay in order */
        op->at_ms = r->sync_at_ms;
    r->sync_at_ms = op->at_ms;
    op->done_ms = op->at_ms + sim_delay(sim, 60);
}

static void start_reader(const struct sim *sim, struct sim_replica *r, const struct jr_action *a)
{
    r->reading = true;
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

static void perform(struct sim *sim, struct sim_replica *r, const struct jr_action *a)
{
    struct sim_op *op;
    switch (a->type) {
    case JR_ACT_TAKE_LEASE:
        r->take_lease = true;
        return;
    case JR_ACT_STREAM_INFO:
        new_op(sim, r, SIM_OP_INFO)->seq = a->u.seq;
        return;
    case JR_ACT_LOAD_SNAPSHOT:
        op = new_op(sim, r, SIM_OP_LOAD);
        memcpy(op->object, a->u.load.skip, sizeof op->object);
        op->lost = a->u.load.dynamo; /* there is none here */
        return;
    case JR_ACT_START_READER:
        start_reader(sim, r, a);
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
    case JR_ACT_REANNOUNCE:
        if (sim_replica_reaches(sim, r) && a->u.rank.worker_id <= SIM_WORKERS)
            sim->nats.reannounce[a->u.rank.worker_id - 1][a->u.rank.dp_rank] = true;
        return;
    case JR_ACT_PROBE:
        new_op(sim, r, SIM_OP_PROBE)->seq = a->u.probe.worker_id;
        return;
    case JR_ACT_EPOCH:
        if (sim_replica_reaches(sim, r))
            sim->nats.epoch = a->u.epoch.epoch;
        return;
    case JR_ACT_READY:
        if (a->u.ready && !r->was_ready) {
            SIM_CHECK(sim,
                      jr_pool_recovery(r->pool) == JR_REC_DEGRADED ||
                          (jr_pool_recovery(r->pool) == JR_REC_READY &&
                           r->pool->state->seq >= r->start_last),
                      "replica %u is ready at %llu of %llu", r->index,
                      (unsigned long long)r->pool->state->seq, (unsigned long long)r->start_last);
            r->was_ready = true;
        }
        return;
    case JR_ACT_DECIDE:
        sim->n.waited += a->u.decide.waited;
        return;
    case JR_ACT_REJECT:
        return;
    }
}

/* Nobody waits whom a worker has room for: what makes room also lets go. */
static void check_queue(const struct sim *sim, const struct sim_replica *r)
{
    jr_queue_check(&r->pool->queue);
    JR_LIST_FOREACH (it, &r->pool->waiting) {
        const struct jr_waiting *w = JR_CONTAINER_OF(it, struct jr_waiting, node);
        struct jr_look look;
        jr_pool_look(r->pool, &w->route, &look);
        SIM_CHECK(sim, look.with_room == 0 && look.eligible > 0, "request %llu of replica %u waits",
                  (unsigned long long)w->route.id, r->index);
    }
}

void sim_replica_event(struct sim *sim, struct sim_replica *r, struct jr_event *ev)
{
    ev->now_ms = sim->now_ms;
    ev->unix_ns = SIM_UNIX_NS + (int64_t)sim->now_ms * 1000000 + r->skew_ns;
    int err = jr_pool_step(r->pool, ev, &r->actions);
    SIM_CHECK(sim, err == 0, "replica %u: event %d gives %d", r->index, (int)ev->type, err);
    for (uint32_t i = 0; i < r->actions.n; i++)
        perform(sim, r, &r->actions.v[i]);
    check_queue(sim, r);
    r->tick_ms = jr_pool_deadline_ms(r->pool);
}

/* ---------------------------------------------------------------- leases */

static void not_leader(struct sim *sim, struct sim_replica *r)
{
    if (!r->leader_told)
        return;
    r->leader_told = false;
    struct jr_event ev = {.type = JR_EV_LEADER};
    sim_replica_event(sim, r, &ev);
}

static void begin_round(struct sim *sim, struct sim_replica *r)
{
    if (r->round_running || !r->connected)
        return;
    struct sim_op *op = new_op(sim, r, SIM_OP_ROUND);
    r->round_running = true;
    op->led = r->take_lease || (r->held && sim->now_ms >= r->renew_ms);
    op->may_lead = jr_pool_may_lead(r->pool);
    jr_pool_lease(r->pool, &op->lease);
}

static void renew(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    struct sim_lease *l = &n->replica[r->index];
    bool live = sim_lease_live(sim, l);
    if (r->lease_revision && (!live || l->revision != r->lease_revision)) {
        op->lost = true;
        op->lease.incarnation = jr_rng_u64(&sim->rng) | 1;
    }
    *l = (struct sim_lease){.present = true,
                            .revision = ++n->revision,
                            .written_ms = sim->now_ms,
                            .created_ms = live && !op->lost ? l->created_ms : sim->now_ms};
    n->replica_value[r->index] = op->lease;
    op->seq = l->revision;
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
    for (uint32_t w = 0; w < SIM_WORKERS; w++) {
        if (n->worker_removed[w])
            op->removed[op->n_removed++] = w + 1;
        else if (sim_lease_live(sim, &n->worker[w]))
            op->workers[op->n_workers++] = n->worker_value[w];
    }
    for (uint32_t i = 0; i < SIM_REPLICAS; i++)
        if (sim_lease_live(sim, &n->replica[i]))
            op->replicas[op->n_replicas++] = n->replica_value[i];
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
            not_leader(sim, r);
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
    sim_replica_event(sim, r, &ev);
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
        if (!n->object[k])
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
    if (n->object_revision[k] != op->expected) {
        op->err = JR_ECONFLICT;
        return;
    }
    SIM_CHECK(sim,
              strcmp(n->record.newest.object, op->object) != 0 || !sim_snapshot_fits(sim, k) ||
                  n->object[k]->seq != n->record.newest.seq,
              "the newest verified snapshot is overwritten");
    jr_image_destroy(n->object[k]);
    n->object[k] = sim_image_copy(op->image);
    n->object_revision[k] = ++n->revision;
    n->object_void[k] = op->image->seq > n->n_log;
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
    if (n->record_revision != op->expected) {
        op->err = JR_ECONFLICT;
        return;
    }
    n->record = op->record;
    n->record_revision = ++n->revision;
    op->seq = n->record_revision;
    sim->n.snapshots++;
}

/* Whoever reads on, and holds a lease that the leader could know of, still finds its next one; and
 * the two recorded snapshots keep what follows them. */
static void check_purge(const struct sim *sim, uint64_t floor)
{
    const struct sim_nats *n = &sim->nats;
    for (uint32_t i = 0; i < SIM_REPLICAS; i++) {
        const struct sim_replica *r = &sim->replicas[i];
        if (!r->pool || !sim_lease_live(sim, &n->replica[i]) ||
            sim->now_ms - n->replica[i].created_ms < 2 * SIM_TTL_MS || !r->reading ||
            r->pool->index_is_old || r->pool->stream_created_ns != n->created_ns)
            continue;
        SIM_CHECK(sim, r->pool->state->seq + 1 >= floor, "purge to %llu passes replica %u at %llu",
                  (unsigned long long)floor, i, (unsigned long long)r->pool->state->seq);
    }
    const struct jr_snapshot_ref *refs[2] = {&n->record.newest, &n->record.previous};
    for (int i = 0; i < 2 && !sim->by_hand; i++)
        SIM_CHECK(sim, refs[i]->object[0] && refs[i]->seq + 1 >= floor,
                  "purge to %llu passes a snapshot at %llu", (unsigned long long)floor,
                  (unsigned long long)refs[i]->seq);
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
    check_purge(sim, op->seq);
    sim_nats_purge(sim, op->seq);
    sim->n.purges++;
}

static void execute_lead(struct sim *sim, struct sim_op *op)
{
    struct sim_nats *n = &sim->nats;
    op->record = n->record;
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

static void execute(struct sim *sim, struct sim_replica *r, struct sim_op *op)
{
    op->executed = true;
    if (op->type == SIM_OP_PROBE) {
        op->healthy = sim->workers[op->seq - 1].up;
        return;
    }
    if (!sim_replica_reaches(sim, r)) {
        op->err = JR_ENONATS;
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
        if (op->expected == sim_nats_last_control(sim))
            execute_control(sim, op);
        else
            op->err = JR_ECONFLICT;
        break;
    case SIM_OP_SYNC:
        sim_nats_publish_sync(sim, &op->batch);
        break;
    case SIM_OP_SYNC_FAILED:
    case SIM_OP_PROBE:
        break;
    }
    if (sim->faults && op->err == 0 && op->type != SIM_OP_ROUND && sim_chance(sim, 40))
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
    if (op->err == JR_ECONFLICT || op->err == JR_ETIMEOUT) {
        not_leader(sim, r); /* begins anew with the revisions there are */
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
        not_leader(sim, r);
}

static void info_done(struct sim *sim, struct sim_replica *r, const struct sim_op *op)
{
    struct jr_event ev = {.type = JR_EV_STREAM_INFO};
    ev.u.stream.err = op->err;
    ev.u.stream.facts = op->facts;
    r->start_last = op->facts.last_seq;
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
        if (op->err < 0)
            result(sim, r, JR_EV_SYNC_FAILED, 0);
        break;
    case SIM_OP_PROBE:
        ev.u.probed.worker_id = op->seq;
        ev.u.probed.healthy = op->healthy;
        sim_replica_event(sim, r, &ev);
        break;
    case SIM_OP_SYNC_FAILED:
        break;
    }
}

/* Effects happen also while the replica sleeps; answers wait for it. */
static void run_ops(struct sim *sim, struct sim_replica *r, bool asleep)
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

/* ---------------------------------------------------------------- reading */

static void feed_log(struct sim *sim, struct sim_replica *r)
{
    const struct sim_nats *n = &sim->nats;
    if (!r->reading || !r->connected)
        return;
    if (r->read_created_ns != n->created_ns || r->read_branch != n->branch ||
        r->read_next < n->first_seq || r->read_next > n->n_log + 1) {
        r->reading = false;
        struct jr_event ev = {.type = JR_EV_READER_BROKEN};
        sim_replica_event(sim, r, &ev);
        return;
    }
    for (uint32_t k = jr_rng_below(&sim->rng, 12); k > 0 && r->reading; k--) {
        if (r->read_next > n->n_log)
            return;
        uint64_t before = r->pool->state->seq;
        struct jr_event ev = {.type = JR_EV_LOG, .u.log = &n->log[r->read_next - 1].m};
        r->read_next++;
        sim_replica_event(sim, r, &ev);
        SIM_CHECK(sim,
                  r->pool->state->seq <= before + 1 || r->pool->origin_seq == r->pool->state->seq,
                  "a sequence was skipped");
    }
}

static void feed_sync(struct sim *sim, struct sim_replica *r)
{
    const struct sim_nats *n = &sim->nats;
    if (!r->connected)
        return;
    for (uint64_t i = 0; i < n->n_sync; i++) {
        const struct sim_sync_msg *m = &n->sync[i];
        if (m->seq < r->sync_next || m->at_ms + 6000 < sim->now_ms)
            continue;
        r->sync_next = m->seq + 1;
        struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &m->b};
        sim_replica_event(sim, r, &ev);
    }
    if (!r->sync_reading) {
        r->sync_reading = true;
        struct jr_event ev = {.type = JR_EV_SYNC_OPENED};
        sim_replica_event(sim, r, &ev);
    }
}

/* ---------------------------------------------------------------- requests */

static void random_prefix(struct sim *sim, uint64_t *prefix, struct jr_route *route)
{
    const struct sim_rank *k = &sim->workers[jr_rng_below(&sim->rng, SIM_WORKERS)]
                                    .ranks[jr_rng_below(&sim->rng, SIM_RANKS)];
    route->prefix = prefix;
    route->n_prefix = 1;
    prefix[0] = k->n ? k->blocks[0].prefix : 1;
    if (sim_chance(sim, 2))
        prefix[route->n_prefix++] = jr_rng_u64(&sim->rng);
    route->tokens = 16 * route->n_prefix + jr_rng_below(&sim->rng, 16);
}

static void admit(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    uint64_t prefix[4];
    struct jr_event ev = {.type = JR_EV_ROUTE};
    *q =
        (struct sim_request){.id = ++r->next_request, .next_ms = sim->now_ms + sim_delay(sim, 300)};
    ev.u.route.id = q->id;
    random_prefix(sim, prefix, &ev.u.route);
    sim->n.requests++;
    sim_replica_event(sim, r, &ev);
}

static void request_step(struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    if (!q->id) {
        if (!sim->quiet && sim_chance(sim, 30))
            admit(sim, r, q);
        return;
    }
    if (sim->now_ms < q->next_ms)
        return;
    q->next_ms = sim->now_ms + sim_delay(sim, 500);
    struct jr_event ev = {.type = JR_EV_OUTPUT};
    ev.u.request.id = q->id;
    ev.u.request.output_tokens = 20 * q->stage;
    q->stage++;
    if (q->stage == 1)
        ev.type = JR_EV_FIRST_TOKEN;
    if (q->stage > 4 || sim_chance(sim, 8)) {
        ev.type = JR_EV_FINISH;
        q->id = 0;
    }
    sim_replica_event(sim, r, &ev);
}

/* ---------------------------------------------------------------- life */

static void trace(void *ctx, enum jr_trace_level level, const char *event, const char *text)
{
    const struct sim_replica *r = ctx;
    (void)level;
    (void)fprintf(stderr, "           r%u %s %s\n", r->index, event, text);
}

void sim_replica_start(struct sim *sim, uint32_t i)
{
    struct sim_replica *r = &sim->replicas[i];
    uint64_t connection = r->connection;
    uint64_t dead = r->dead_incarnation, died_ms = r->died_ms;
    jr_xfree(r->ops);
    *r = (struct sim_replica){.index = i,
                              .connection = connection + 1,
                              .dead_incarnation = dead,
                              .died_ms = died_ms,
                              .incarnation = jr_rng_u64(&sim->rng) | 1,
                              .started_ms = sim->now_ms,
                              .skew_ns = (int64_t)jr_rng_below(&sim->rng, 4000) * 1000000};
    struct jr_pool_config c = {.incarnation = r->incarnation,
                               .seed = jr_rng_u64(&sim->rng),
                               .rules_max = sim->rules[i],
                               .namespace_ = "ns",
                               .component = "backend",
                               .durable = true,
                               .replica_sync = true,
                               .assume_kv_reuse = true,
                               .track_active_blocks = true,
                               .mode = JR_MODE_KV,
                               .snapshot_threshold = 40,
                               .snapshot_max_age_ms = 20000,
                               .lease_ttl_ms = SIM_TTL_MS,
                               .stale_worker_ms = 3000,
                               .active_expiry_ms = 20000,
                               .ready_timeout_ms = 8000,
                               .base_interval_ms = 2000,
                               .sync_flush_ms = 2};
    snprintf(c.replica_id, sizeof c.replica_id, "r%u", i);
    jr_cost_config_init(&c.cost, JR_COST_SECONDS);
    if (sim->seed % 3 == 0) { /* requests wait while every rank has one in prefill */
        c.has_queue_threshold = true;
        c.queue_policy = (enum jr_queue_policy)(sim->seed % 9 / 3);
        c.queue_max = 8;
    }
    c.track_output_blocks = sim->seed % 2 == 0;
    struct jr_trace t = {trace, r};
    SIM_CHECK(sim, jr_pool_create(&c, sim->verbose ? &t : NULL, &r->pool) == 0, "create");
    sim_say(sim, "replica %u starts", i);
}

void sim_replica_kill(struct sim *sim, uint32_t i)
{
    struct sim_replica *r = &sim->replicas[i];
    if (!r->pool)
        return;
    sim_say(sim, "replica %u is killed at %s, seq %llu, snapshot job %d", i,
            jr_sm_name(&r->pool->recovery), (unsigned long long)r->pool->state->seq,
            (int)r->pool->snap);
    /* What is on its way to the servers arrives, or not. */
    for (uint32_t k = 0; k < r->n_ops; k++) {
        if (!r->ops[k]->executed && sim_chance(sim, 2))
            execute(sim, r, r->ops[k]);
        free_op(r->ops[k]);
    }
    r->n_ops = 0;
    jr_actions_deinit(&r->actions, r->pool);
    jr_pool_destroy(r->pool);
    r->pool = NULL;
    r->dead_incarnation = r->incarnation;
    r->died_ms = sim->now_ms;
    sim->n.kills++;
}

static void connection_step(struct sim *sim, struct sim_replica *r)
{
    bool reaches = sim_replica_reaches(sim, r);
    if (reaches == r->connected)
        return;
    r->connected = reaches;
    r->connection++;
    r->sync_reading = false;
    r->sync_next = 0;
    if (!reaches)
        r->reading = false;
    sim_say(sim, "replica %u %s", r->index, reaches ? "is connected" : "is cut off");
    struct jr_event ev = {.type = JR_EV_NATS};
    ev.u.nats.connected = reaches;
    sim_replica_event(sim, r, &ev);
}

void sim_replica_step(struct sim *sim, uint32_t i)
{
    struct sim_replica *r = &sim->replicas[i];
    if (!r->pool)
        return;
    bool asleep = sim->now_ms < r->paused_until_ms;
    run_ops(sim, r, asleep);
    if (asleep)
        return;
    connection_step(sim, r);
    if (r->leader_told && sim->now_ms - r->leader_renewed_ms > SIM_TTL_MS * 3 / 4)
        not_leader(sim, r);
    if (sim->now_ms >= r->round_ms) {
        r->round_ms = sim->now_ms + SIM_ROUND_MS;
        begin_round(sim, r);
    }
    if (sim->now_ms >= r->tick_ms) {
        struct jr_event ev = {.type = JR_EV_TICK};
        sim_replica_event(sim, r, &ev);
    }
    if (jr_pool_has_slices(r->pool)) {
        struct jr_event ev = {.type = JR_EV_SLICE};
        ev.u.slice.max = 1 + jr_rng_below(&sim->rng, 60);
        sim_replica_event(sim, r, &ev);
    }
    feed_log(sim, r);
    feed_sync(sim, r);
    for (uint32_t k = 0; k < SIM_REQUESTS; k++)
        request_step(sim, r, &r->requests[k]);
}
