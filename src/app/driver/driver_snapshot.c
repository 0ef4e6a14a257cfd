/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: two objects, snapshot-a and snapshot-b, in a bucket of their own. docs/protocol.md §4.
 *
 * Written: upload chunks ─► meta by compare-and-set ─► read back and verify ─► (the pool: a peer
 * agrees) ─► record in the state bucket ─► purge. The revision a meta is expected at was read when
 * leadership began, before the image was frozen, so a leader that slept through its successor's
 * snapshot cannot overwrite it. */
#include "app/driver/driver_internal.h"

#include "app/driver/dynamo_import.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "wire/lease_json.h"
#include "wire/snapshot_codec.h"

#include <string.h>

#define SNAPSHOT_BYTES_MAX ((size_t)16 << 30)
#define RECORD_KEY         "snapshots"

static const char *const objects[2] = {"snapshot-a", "snapshot-b"};

static int object_index(const char *object)
{
    return strcmp(object, objects[1]) == 0;
}

int jr_driver_read_record(struct jr_driver *d, struct jr_snapshots_record *ret,
                          uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_js_kv_entry entry = {0};
    *ret = (struct jr_snapshots_record){0};
    *ret_revision = 0;
    int err = jr_js_kv_get(d->state, RECORD_KEY, &entry, e);
    if (err == JR_ENOTFOUND)
        return 0;
    if (err < 0)
        return err;
    *ret_revision = entry.revision;
    err = jr_lease_decode_snapshots(entry.value, entry.n, ret, e);
    jr_js_kv_entry_deinit(&entry);
    return err;
}

/* ---------------------------------------------------------------- taking over */

struct lead_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_snapshots_record record;
    uint64_t record_revision;
    uint64_t object_revision[2];
    struct jr_errmsg e;
};

/* Publishing the metas again, unchanged, moves their revisions: whatever an older leader still
 * means to commit, conflicts. */
static int fence(struct lead_job *l, int i)
{
    struct jr_object_info info;
    int err = jr_object_info(l->d->store, objects[i], &info, &l->e);
    if (err == JR_ENOTFOUND) {
        l->object_revision[i] = 0;
        return 0;
    }
    if (err < 0)
        return err;
    return jr_object_refresh(l->d->store, objects[i], info.revision, &l->object_revision[i], &l->e);
}

/* Only behind the fence: what an older leader is still uploading it cannot commit any more. What is
 * left over takes room and nothing else, so a failure is only logged. */
static void collect_orphans(struct jr_driver *d)
{
    struct jr_errmsg e = {0};
    uint32_t n = 0;
    bool at_once = JR_FAILPOINT("snapshot.no_grace") < 0;
    int err = jr_object_collect(d->store, at_once ? 0 : JR_SNAPSHOT_GRACE_MS, &n, &e);
    if (err < 0)
        jr_log(JR_LOG_WARN, "snapshot.orphans_left", "error=%s words=\"%s\"", jr_err_name(err),
               e.text);
    else if (n > 0)
        jr_log(JR_LOG_INFO, "snapshot.orphans_collected", "objects=%u", n);
}

/* By compare-and-set; revision 0: there is none yet. */
static int write_record(struct jr_driver *d, const struct jr_snapshots_record *record,
                        uint64_t *revision, struct jr_errmsg *e)
{
    struct jr_buf b;
    jr_buf_init(&b, JR_LEASE_BYTES_MAX);
    int err = jr_lease_encode_snapshots(record, &b);
    if (err == 0 && *revision)
        err = jr_js_kv_update(d->state, RECORD_KEY, b.p, b.n, *revision, revision, e);
    else if (err == 0)
        err = jr_js_kv_create(d->state, RECORD_KEY, b.p, b.n, revision, e);
    jr_buf_deinit(&b);
    return err;
}

/* The same for the record: one that an older leader still means to write would name an object that
 * we are about to write. */
static int fence_record(struct lead_job *l)
{
    int err = jr_driver_read_record(l->d, &l->record, &l->record_revision, &l->e);
    return err < 0 ? err : write_record(l->d, &l->record, &l->record_revision, &l->e);
}

static void run_lead(struct jr_job *job)
{
    struct lead_job *l = (struct lead_job *)(void *)job;
    job->err = fence_record(l);
    for (int i = 0; job->err == 0 && i < 2; i++)
        job->err = fence(l, i);
    if (job->err == 0)
        collect_orphans(l->d);
}

static void done_lead(struct jr_job *job)
{
    struct lead_job *l = (struct lead_job *)(void *)job;
    struct jr_driver *d = l->d;
    d->leading_up = false;
    if (jr_driver_job_done(d) && job->err < 0) {
        jr_log(JR_LOG_WARN, "leader.prepare_failed", "error=%s words=\"%s\"", jr_err_name(job->err),
               l->e.text);
        jr_driver_make_missing(d, job->err);
    } else if (!d->closing && d->leader_key && d->connected) {
        d->leader_told = true;
        d->record = l->record;
        d->record_revision = l->record_revision;
        memcpy(d->object_revision, l->object_revision, sizeof d->object_revision);
        struct jr_event ev = {.type = JR_EV_LEADER};
        ev.u.leader.is_leader = true;
        ev.u.leader.record = l->record;
        jr_driver_step(d, &ev);
    }
    jr_xfree(l);
    jr_driver_maybe_closed(d);
}

void jr_driver_lead(struct jr_driver *d)
{
    struct lead_job *l = jr_xalloc(sizeof *l);
    *l = (struct lead_job){.job = {.run = run_lead, .done = done_lead}, .d = d};
    d->leading_up = jr_driver_submit(d, d->bulk_lane, &l->job);
    if (!d->leading_up)
        jr_xfree(l);
}

/* ---------------------------------------------------------------- loading */

struct load_job {
    struct jr_job job;
    struct jr_driver *d;
    char skip[32];
    bool dynamo; /* Dynamo's object */
    struct jr_snapshots_record record;
    struct jr_snapshot_ref ref;
    struct jr_image *image;
    struct jr_errmsg e;
};

static bool is_transient(int err)
{
    return err == JR_ENONATS || err == JR_ETIMEOUT || err == JR_EIO || err == JR_ENOJETSTREAM;
}

/* As jr_object_read. That the server has no room for a reader just now says nothing of the object: taken
 * for one that cannot be read, the index would be given up. */
static int read_bytes(struct jr_object_store *store, const char *object, uint8_t **ret,
                      size_t *ret_n, struct jr_object_info *ret_info, struct jr_errmsg *e)
{
    int err = JR_FAILPOINT("snapshot.no_room") < 0
                  ? JR_ELIMIT
                  : jr_object_read(store, object, SNAPSHOT_BYTES_MAX, ret, ret_n, ret_info, e);
    return err == JR_ELIMIT ? JR_EIO : err;
}

/* Reads, verifies and decodes one object; ret_image returns owned. */
static int read_object(struct jr_driver *d, const char *object, struct jr_image **ret_image,
                       struct jr_snapshot_ref *ret_ref, struct jr_errmsg *e)
{
    struct jr_object_info info;
    uint8_t *bytes = NULL;
    size_t n = 0;
    int err = read_bytes(d->store, object, &bytes, &n, &info, e);
    if (err < 0)
        return err;
    err = jr_snapshot_decode(bytes, n, ret_image, e);
    jr_xfree(bytes);
    if (err < 0)
        return err;
    const struct jr_image *image = *ret_image;
    *ret_ref = (struct jr_snapshot_ref){
        .seq = image->seq,
        .revision = info.revision,
        .bytes = n,
        .created_ns = info.time_ns,
        .stream_created_ns = image->stream_created_ns,
        .digest_blocks = image->digest_blocks,
        .digest_table = image->digest_table,
        .epoch = image->epoch,
    };
    (void)jr_str_copy(ret_ref->object, sizeof ret_ref->object, object);
    return 0;
}

/* The recorded newest, then the previous, then whatever of the two can be read: a snapshot that was
 * verified but not recorded any more (its leader died) is as good as another. */
static int load_any(struct load_job *l)
{
    const char *order[4] = {l->record.newest.object, l->record.previous.object, objects[0],
                            objects[1]};
    for (int i = 0; i < 4; i++) {
        const char *object = order[i];
        bool seen = false;
        for (int k = 0; k < i; k++)
            seen = seen || strcmp(order[k], object) == 0;
        if (!object[0] || seen || strcmp(object, l->skip) == 0)
            continue;
        int err = read_object(l->d, object, &l->image, &l->ref, &l->e);
        if (err == 0 || is_transient(err))
            return err;
        if (err != JR_ENOTFOUND)
            jr_log(JR_LOG_ERROR, "snapshot.unreadable", "object=%s error=%s words=\"%s\"", object,
                   jr_err_name(err), l->e.text);
    }
    return JR_ENOTFOUND;
}

/* As of before the first message that the stream still has. What cannot be read is as good as none. */
static int load_dynamo(struct load_job *l)
{
    char bucket[JR_STREAM_NAME_MAX];
    struct jr_object_store *store = NULL;
    struct jr_object_info info;
    struct jr_stream_facts facts;
    uint8_t *bytes = NULL;
    size_t n = 0;
    int err = jr_stream_name(JR_STREAM_RADIX, l->d->config.pool.namespace_,
                             l->d->config.pool.component, bucket);
    if (err == 0)
        err = jr_driver_facts(l->d, &facts, &l->e);
    if (err == 0)
        err = jr_object_store_open_existing(l->d->nats, bucket, &store, &l->e);
    if (err == 0)
        err = read_bytes(store, "radix-state", &bytes, &n, &info, &l->e);
    if (err == 0)
        err = jr_dynamo_import(bytes, n, facts.created_ns, facts.first_seq - 1, &l->image, &l->e);
    jr_xfree(bytes);
    jr_object_store_destroy(store);
    (void)jr_str_copy(l->ref.object, sizeof l->ref.object, "radix-state");
    if (err == 0 || is_transient(err))
        return err;
    if (err != JR_ENOTFOUND)
        jr_log(JR_LOG_WARN, "dynamo.import_failed", "error=%s words=\"%s\"", jr_err_name(err),
               l->e.text);
    return JR_ENOTFOUND;
}

static void run_load(struct jr_job *job)
{
    struct load_job *l = (struct load_job *)(void *)job;
    uint64_t revision;
    job->err = jr_driver_read_record(l->d, &l->record, &revision, &l->e);
    if (job->err == 0)
        job->err = l->dynamo ? load_dynamo(l) : load_any(l);
}

static void done_load(struct jr_job *job)
{
    struct load_job *l = (struct load_job *)(void *)job;
    struct jr_driver *d = l->d;
    if (jr_driver_job_done(d)) {
        if (job->err < 0 && job->err != JR_ENOTFOUND)
            jr_log(JR_LOG_WARN, "snapshot.load_failed", "error=%s words=\"%s\"",
                   jr_err_name(job->err), l->e.text);
        struct jr_event ev = {.type = JR_EV_SNAPSHOT_LOADED};
        ev.u.loaded.err = job->err;
        ev.u.loaded.image = l->image;
        ev.u.loaded.ref = l->ref;
        ev.u.loaded.record = l->record;
        jr_driver_step(d, &ev);
    } else {
        jr_image_destroy(l->image);
    }
    jr_xfree(l);
    jr_driver_maybe_closed(d);
}

void jr_driver_load_snapshot(struct jr_driver *d, const char *skip, bool dynamo)
{
    struct load_job *l = jr_xalloc(sizeof *l);
    *l = (struct load_job){.job = {.run = run_load, .done = done_load}, .d = d, .dynamo = dynamo};
    (void)jr_str_copy(l->skip, sizeof l->skip, skip);
    if (!jr_driver_submit(d, d->bulk_lane, &l->job))
        jr_xfree(l);
}

/* ---------------------------------------------------------------- writing */

struct write_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_image *image; /* owns */
    struct jr_image *stale; /* the same: another that is to go */
    char object[32];
    uint64_t expected; /* revision of the meta */
    struct jr_snapshot_ref ref;
    struct jr_errmsg e;
};

/* Frame by frame, so that the encoded image is never whole in memory. */
static int upload_frames(struct write_job *w, struct jr_upload *upload)
{
    struct jr_snapshot_encoder *encoder;
    jr_image_arrange(w->image);
    int err = jr_snapshot_encoder_create(w->image, &encoder);
    if (err < 0)
        return jr_errmsg_set(&w->e, err, "the image cannot be encoded");
    struct jr_buf frame;
    jr_buf_init(&frame, (size_t)8 << 20);
    bool done = false;
    while (err == 0 && !done) {
        err = jr_snapshot_encoder_step(encoder, &frame, &done);
        if (err == 0)
            err = jr_upload_write(upload, frame.p, frame.n, &w->e);
        jr_buf_clear(&frame);
    }
    jr_buf_deinit(&frame);
    jr_snapshot_encoder_destroy(encoder);
    return err;
}

static int upload(struct write_job *w, struct jr_object_info *ret)
{
    struct jr_upload *upload = NULL;
    int err = JR_FAILPOINT("snapshot.before_upload");
    if (err == 0)
        err = jr_upload_begin(w->d->store, &upload, &w->e);
    if (err < 0)
        return err;
    err = upload_frames(w, upload);
    if (err == 0)
        err = jr_upload_finish(upload, ret, &w->e);
    if (err < 0) {
        jr_upload_abort(upload);
        return err;
    }
    jr_upload_destroy(upload);
    return JR_FAILPOINT("snapshot.after_upload");
}

/* An unknown outcome is settled by reading the meta from the stream leader. */
static int commit(struct write_job *w, const struct jr_object_info *object, uint64_t *ret_revision)
{
    int err = jr_object_commit(w->d->store, w->object, object, w->expected, ret_revision, &w->e);
    if (err == JR_ETIMEOUT) {
        struct jr_object_info now;
        err = jr_object_info(w->d->store, w->object, &now, &w->e);
        if (err == 0 && strcmp(now.nuid, object->nuid) == 0)
            *ret_revision = now.revision;
        else if (err == 0)
            err = JR_ETIMEOUT;
    }
    return err < 0 ? err : JR_FAILPOINT("snapshot.after_commit");
}

static int verify(struct write_job *w, uint64_t revision)
{
    struct jr_image *back = NULL;
    int err = read_object(w->d, w->object, &back, &w->ref, &w->e);
    if (err < 0)
        return err;
    const struct jr_image *image = w->image;
    bool same = w->ref.revision == revision && back->seq == image->seq &&
                back->n_entries == image->n_entries && back->n_ranks == image->n_ranks &&
                back->digest_blocks == image->digest_blocks &&
                back->digest_table == image->digest_table;
    jr_image_destroy(back);
    if (!same)
        return jr_errmsg_set(&w->e, JR_ECORRUPT, "what was read back is not what was written");
    return JR_FAILPOINT("snapshot.after_verify");
}

/* Chunks that no meta names. Left behind, they only take room: the next leader collects them. */
static void purge_chunks(struct write_job *w, const char *nuid)
{
    struct jr_errmsg e = {0};
    int err = jr_object_purge_chunks(w->d->store, nuid, &e);
    if (err < 0)
        jr_log(JR_LOG_WARN, "snapshot.chunks_left", "nuid=%s error=%s words=\"%s\"", nuid,
               jr_err_name(err), e.text);
}

static void run_write(struct jr_job *job)
{
    struct write_job *w = (struct write_job *)(void *)job;
    struct jr_object_info before, object = {0};
    int err = jr_object_info(w->d->store, w->object, &before, &w->e);
    bool had = err == 0 && !before.deleted;
    if (err == JR_ENOTFOUND)
        err = 0;
    if (err == 0)
        err = upload(w, &object);
    uint64_t revision = 0;
    if (err == 0) {
        err = commit(w, &object, &revision);
        if (err == 0)
            err = verify(w, revision);
        else if (err == JR_ECONFLICT)
            purge_chunks(w, object.nuid);
    }
    if (err == 0 && had)
        purge_chunks(w, before.nuid);
    if (err < 0 || !w->d->compat.lane) {
        jr_image_destroy(w->image); /* not on the loop: it is large */
        w->image = NULL;
    }
    jr_image_destroy(w->stale);
    w->stale = NULL;
    job->err = err;
}

static void done_write(struct jr_job *job)
{
    struct write_job *w = (struct write_job *)(void *)job;
    struct jr_driver *d = w->d;
    if (jr_driver_job_done(d)) {
        if (job->err == 0)
            d->object_revision[object_index(w->object)] = w->ref.revision;
        if (job->err == 0 && w->image)
            w->image = jr_driver_compat_keep(d, w->image);
        if (job->err < 0)
            jr_log(JR_LOG_WARN, "snapshot.write_failed", "object=%s error=%s words=\"%s\"",
                   w->object, jr_err_name(job->err), w->e.text);
        jr_driver_make_missing(d, job->err);
        if (job->err == JR_ECONFLICT) { /* another leads, or led: begin from its record */
            jr_driver_not_leader(d);
        } else {
            struct jr_event ev = {.type = JR_EV_SNAPSHOT_WRITTEN};
            ev.u.written.err = job->err;
            ev.u.written.ref = w->ref;
            jr_driver_step(d, &ev);
        }
    }
    jr_image_destroy(w->image);
    jr_image_destroy(w->stale);
    jr_xfree(w);
    jr_driver_maybe_closed(d);
}

void jr_driver_write_snapshot(struct jr_driver *d, struct jr_image *image, const char *object)
{
    struct write_job *w = jr_xalloc(sizeof *w);
    *w = (struct write_job){.job = {.run = run_write, .done = done_write},
                            .d = d,
                            .image = image,
                            .stale = jr_driver_compat_keep(d, NULL),
                            .expected = d->object_revision[object_index(object)]};
    (void)jr_str_copy(w->object, sizeof w->object, object);
    (void)jr_str_copy(image->stream, sizeof image->stream, d->stream);
    if (jr_driver_submit(d, d->bulk_lane, &w->job))
        return;
    jr_image_destroy(image);
    jr_image_destroy(w->stale);
    jr_xfree(w);
}

/* ---------------------------------------------------------------- recording */

struct record_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_snapshots_record record;
    uint64_t revision;
    struct jr_errmsg e;
};

static void run_record(struct jr_job *job)
{
    struct record_job *r = (struct record_job *)(void *)job;
    int err = write_record(r->d, &r->record, &r->revision, &r->e);
    job->err = err < 0 ? err : JR_FAILPOINT("snapshot.after_record");
}

/* The pool says whether it counts: a job may have been given up meanwhile. */
static void tell_snapshot(struct jr_driver *d)
{
    struct jr_pool_view v;
    jr_pool_view(d->pool, &v);
    if (v.counters.snapshots > d->snapshots_told && d->config.on_snapshot)
        d->config.on_snapshot(d->config.ctx, d->config.pool.component, (double)v.snapshot_ms / 1e3);
    d->snapshots_told = v.counters.snapshots;
}

static void done_record(struct jr_job *job)
{
    struct record_job *r = (struct record_job *)(void *)job;
    struct jr_driver *d = r->d;
    if (jr_driver_job_done(d)) {
        if (job->err == 0) {
            d->record = r->record;
            d->record_revision = r->revision;
            jr_driver_compat_write(d, r->record.newest.seq);
        }
        struct jr_event ev = {.type = JR_EV_SNAPSHOT_RECORDED};
        ev.u.result.err = job->err;
        jr_driver_step(d, &ev);
        tell_snapshot(d);
        if (job->err < 0) /* the revision is in doubt: take over anew */
            jr_driver_not_leader(d);
        jr_driver_make_missing(d, job->err);
    }
    jr_xfree(r);
    jr_driver_maybe_closed(d);
}

void jr_driver_record_snapshot(struct jr_driver *d, const struct jr_snapshots_record *record)
{
    struct record_job *r = jr_xalloc(sizeof *r);
    *r = (struct record_job){.job = {.run = run_record, .done = done_record},
                             .d = d,
                             .record = *record,
                             .revision = d->record_revision};
    if (!jr_driver_submit(d, d->bulk_lane, &r->job))
        jr_xfree(r);
}

/* ---------------------------------------------------------------- purge */

struct purge_job {
    struct jr_job job;
    struct jr_driver *d;
    uint64_t floor;
    int64_t created_ns;
    char id[JR_NAME_MAX];
    uint64_t incarnation;
    struct jr_errmsg e;
};

/* Our own leadership, re-read from the stream leader just before. */
int jr_driver_still_leads(struct jr_driver *d, const char *id, uint64_t incarnation,
                          struct jr_errmsg *e)
{
    struct jr_js_kv_entry entry = {0};
    int err = jr_js_kv_get(d->leases, "leader", &entry, e);
    if (err < 0)
        return err;
    struct jr_leader_record there;
    bool ours = jr_lease_decode_leader(entry.value, entry.n, &there, NULL) == 0 &&
                there.incarnation == incarnation && strcmp(there.id, id) == 0;
    jr_js_kv_entry_deinit(&entry);
    return ours ? 0 : jr_errmsg_set(e, JR_ECONFLICT, "another replica leads");
}

/* A foreign consumer's ack floor, zero included, bounds the purge. */
static int foreign_floor(struct purge_job *p)
{
    struct jr_stream_foreign foreign;
    int err = jr_stream_foreign(p->d->nats, p->d->stream, &foreign, &p->e);
    if (err == 0 && foreign.n > 0 && foreign.ack_floor < p->floor)
        p->floor = foreign.ack_floor;
    return err;
}

static void run_purge(struct jr_job *job)
{
    struct purge_job *p = (struct purge_job *)(void *)job;
    job->err = foreign_floor(p);
    if (job->err == 0)
        job->err = JR_FAILPOINT("purge.before");
    if (job->err == 0)
        job->err = jr_driver_still_leads(p->d, p->id, p->incarnation, &p->e);
    uint64_t purged;
    if (job->err == 0 && p->floor > 1)
        job->err = jr_stream_purge_below(p->d->nats, p->d->stream, p->created_ns, p->floor, &purged,
                                         &p->e);
    if (job->err == 0)
        job->err = JR_FAILPOINT("purge.after");
}

static void done_purge(struct jr_job *job)
{
    struct purge_job *p = (struct purge_job *)(void *)job;
    struct jr_driver *d = p->d;
    if (jr_driver_job_done(d)) {
        if (job->err < 0)
            jr_log(JR_LOG_WARN, "purge.failed", "floor=%llu error=%s words=\"%s\"",
                   (unsigned long long)p->floor, jr_err_name(job->err), p->e.text);
        struct jr_event ev = {.type = JR_EV_PURGED};
        ev.u.result.err = job->err;
        ev.u.result.floor = p->floor;
        jr_driver_step(d, &ev);
    }
    jr_xfree(p);
    jr_driver_maybe_closed(d);
}

void jr_driver_purge(struct jr_driver *d, uint64_t floor)
{
    struct jr_pool_view v;
    jr_pool_view(d->pool, &v);
    struct purge_job *p = jr_xalloc(sizeof *p);
    *p = (struct purge_job){.job = {.run = run_purge, .done = done_purge},
                            .d = d,
                            .floor = floor,
                            .created_ns = v.stream_created_ns,
                            .incarnation = d->incarnation};
    (void)jr_str_copy(p->id, sizeof p->id, d->config.pool.replica_id);
    if (!jr_driver_submit(d, d->bulk_lane, &p->job))
        jr_xfree(p);
}
