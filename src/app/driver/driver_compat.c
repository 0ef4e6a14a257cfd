/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamo's `radix-state`, written by the leader behind each recorded snapshot of ours
 * (--snapshot-compat). docs/protocol.md §4.
 *
 * The image of the snapshot is kept until it is recorded, then goes to a lane of its own: whatever
 * becomes of this copy, snapshots and purges do not wait for it. */
#include "app/driver/driver_internal.h"

#include "app/driver/dynamo_export.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "io/js_range.h"
#include "wire/dynamo_snapshot.h"

#include <string.h>

#define COMPAT_DEPTH 2
#define OBJECT       "radix-state"
#define BYTES_MAX    ((size_t)16 << 30)

struct compat_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_image *image;   /* owns */
    bool forget;              /* it is not written */
    uint64_t seq;             /* its */
    int64_t created_ns;       /* of its stream */
    uint64_t from;            /* of the stream, what is to be learnt */
    char learnt[JR_NUID_MAX]; /* when it is behind this object, which we wrote */
    struct jr_driver_skips skips;
    char id[JR_NAME_MAX];
    uint64_t incarnation;
    struct jr_object_store *store;
    struct jr_object_info before, after; /* size 0 and revision 0: none */
    struct jr_dynamo_export *x;
    struct jr_event_decoder *decoder;
    struct jr_arena arena;
    uint64_t events, left_out;
    uint64_t began_ns;
    struct jr_errmsg e;
};

static int check_stop(const struct compat_job *c)
{
    return atomic_load(&c->d->compat.stop) ? JR_ECANCELED : 0;
}

/* ---------------------------------------------------------------- learning */

static int learn_batch(void *arg, const struct jr_kv_batch *batch)
{
    struct compat_job *c = arg;
    jr_dynamo_export_learn(c->x, batch);
    return check_stop(c);
}

/* What the object says that is to be replaced. One that cannot be read teaches nothing. */
static int learn_object(struct compat_job *c)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    struct jr_errmsg e = {0};
    if (!c->before.revision || c->before.deleted)
        return 0;
    int err = jr_object_read(c->store, OBJECT, BYTES_MAX, &bytes, &n, NULL, &e);
    if (err == 0)
        err = jr_dynamo_snapshot_read(bytes, n, learn_batch, c, NULL, &e);
    jr_xfree(bytes);
    if (err == JR_ECANCELED)
        return err;
    if (err < 0)
        jr_log(JR_LOG_WARN, "dynamo.replaced", "error=%s words=\"%s\"", jr_err_name(err), e.text);
    return 0;
}

static int learn_message(void *arg, uint64_t seq, struct jr_str subject, const void *p, size_t n)
{
    struct compat_job *c = arg;
    struct jr_log_msg msg = {.seq = seq};
    if (jr_driver_is_skipped(&c->skips, seq))
        return 0;
    int err =
        jr_event_decode(c->decoder, jr_driver_last_token(subject), p, n, NULL, &c->arena, &msg);
    if (err == 0 && msg.kind == JR_LOG_KIND_BATCH)
        jr_dynamo_export_learn(c->x, &msg.u.batch);
    jr_arena_reset(&c->arena);
    return err < 0 ? err : check_stop(c);
}

/* With what we wrote before, only the messages behind it are news. */
static int learn(struct compat_job *c)
{
    bool ours = c->learnt[0] && strcmp(c->learnt, c->before.nuid) == 0;
    int err = learn_object(c);
    if (err == 0)
        err = jr_js_range_read(c->d->nats, c->d->stream, ours ? c->from : 1, c->seq, learn_message,
                               c, &c->e);
    return err;
}

/* ---------------------------------------------------------------- writing */

static int upload_events(struct compat_job *c, struct jr_upload *upload)
{
    struct jr_buf b;
    bool done = false;
    int err = 0;
    jr_buf_init(&b, (size_t)1 << 20);
    while (err == 0 && !done) {
        err = jr_dynamo_export_step(c->x, &b, &done);
        if (err == 0)
            err = jr_upload_write(upload, b.p, b.n, &c->e);
        jr_buf_clear(&b);
        if (err == 0)
            err = check_stop(c);
    }
    jr_buf_deinit(&b);
    return err;
}

static int upload(struct compat_job *c)
{
    struct jr_upload *up = NULL;
    int err = jr_upload_begin(c->store, &up, &c->e);
    if (err < 0)
        return err;
    err = upload_events(c, up);
    if (err == 0)
        err = jr_upload_finish(up, &c->after, &c->e);
    if (err < 0) {
        jr_upload_abort(up);
        return err;
    }
    jr_upload_destroy(up);
    return JR_FAILPOINT("compat.after_upload");
}

static void purge_chunks(struct compat_job *c, const char *nuid)
{
    struct jr_errmsg e = {0};
    int err = jr_object_purge_chunks(c->store, nuid, &e);
    if (err < 0 && err != JR_ECONFLICT)
        jr_log(JR_LOG_WARN, "dynamo.chunks_left", "nuid=%s error=%s words=\"%s\"", nuid,
               jr_err_name(err), e.text);
}

static int check_chunk(void *ctx, uint64_t offset, const void *p, size_t n)
{
    (void)offset;
    (void)p;
    (void)n;
    return check_stop(ctx);
}

/* Only as the leader, over the one that was read; then read back. */
static int commit(struct compat_job *c)
{
    struct jr_object_info back;
    uint64_t revision;
    int err = jr_driver_still_leads(c->d, c->id, c->incarnation, &c->e);
    if (err == 0)
        err = jr_object_commit(c->store, OBJECT, &c->after, c->before.revision, &revision, &c->e);
    if (err < 0) {
        purge_chunks(c, c->after.nuid); /* refused when the meta names them after all */
        return err;
    }
    err = jr_object_get(c->store, OBJECT, BYTES_MAX, check_chunk, c, &back, &c->e);
    if (err == 0 && (strcmp(back.nuid, c->after.nuid) != 0 || back.size != c->after.size))
        err = jr_errmsg_set(&c->e, JR_ECORRUPT, "what was read back is not what was written");
    if (err == 0)
        err = JR_FAILPOINT("compat.after_verify");
    return err;
}

static int write_object(struct compat_job *c)
{
    int err = jr_object_info(c->store, OBJECT, &c->before, &c->e);
    if (err == JR_ENOTFOUND)
        err = 0;
    if (err == 0)
        err = jr_dynamo_export_create(c->image, &c->x);
    if (err == 0)
        err = learn(c);
    if (err == 0)
        err = jr_dynamo_export_seal(c->x, &c->events, &c->left_out);
    if (err == 0)
        err = upload(c);
    if (err == 0)
        err = commit(c);
    if (err == 0 && c->before.revision && !c->before.deleted)
        purge_chunks(c, c->before.nuid);
    return err;
}

static int open_bucket(struct compat_job *c)
{
    char bucket[JR_STREAM_NAME_MAX];
    struct jr_object_store_config config = {.bucket = bucket,
                                            .replicas = c->d->config.nats_replicas};
    int err = jr_stream_name(JR_STREAM_RADIX, c->d->config.pool.namespace_,
                             c->d->config.pool.component, bucket);
    return err < 0 ? err : jr_object_store_open(c->d->nats, &config, &c->store, &c->e);
}

static void write_all(struct compat_job *c)
{
    c->began_ns = jr_loop_now_ns();
    c->decoder = jr_event_decoder_create();
    jr_arena_init(&c->arena, JR_EVENT_ARENA_MAX);
    c->job.err = check_stop(c);
    if (c->job.err == 0)
        c->job.err = open_bucket(c);
    if (c->job.err == 0)
        c->job.err = write_object(c);
    jr_dynamo_export_destroy(c->x);
    jr_object_store_destroy(c->store);
    jr_arena_deinit(&c->arena);
    jr_event_decoder_destroy(c->decoder);
}

static void run_compat(struct jr_job *job)
{
    struct compat_job *c = (struct compat_job *)(void *)job;
    if (!c->forget)
        write_all(c);
    jr_image_destroy(c->image); /* not on the loop: it is large */
    c->image = NULL;
}

/* ---------------------------------------------------------------- the loop's side */

static void written(struct jr_driver *d, const struct compat_job *c)
{
    d->stats.compat_written++;
    d->stats.compat_events = c->events;
    d->stats.compat_left_out = c->left_out;
    d->compat.failing = false;
    d->compat.seq = c->seq;
    d->compat.created_ns = c->created_ns;
    (void)jr_str_copy(d->compat.learnt, sizeof d->compat.learnt, c->after.nuid);
    jr_log(JR_LOG_INFO, "dynamo.written",
           "object=" OBJECT " blocks=%llu left_out=%llu bytes=%llu ms=%llu",
           (unsigned long long)c->events, (unsigned long long)c->left_out,
           (unsigned long long)c->after.size,
           (unsigned long long)((jr_loop_now_ns() - c->began_ns) / 1000000));
}

/* Said once until it works again. */
static void failed(struct jr_driver *d, int err, const char *words)
{
    d->stats.compat_failures++;
    d->compat.learnt[0] = '\0';
    if (!d->compat.failing)
        jr_log(JR_LOG_WARN, "dynamo.write_failed", "object=" OBJECT " error=%s words=\"%s\"",
               jr_err_name(err), words);
    d->compat.failing = true;
}

static void done_compat(struct jr_job *job)
{
    struct compat_job *c = (struct compat_job *)(void *)job;
    struct jr_driver *d = c->d;
    if (jr_driver_job_done(d) && !c->forget) {
        if (job->err == 0)
            written(d, c);
        else
            failed(d, job->err, c->e.text);
    }
    jr_image_destroy(c->image);
    jr_xfree(c);
    jr_driver_maybe_closed(d);
}

struct jr_image *jr_driver_compat_keep(struct jr_driver *d, struct jr_image *image)
{
    struct jr_image *before = d->compat.image;
    d->compat.image = image;
    return before;
}

void jr_driver_compat_write(struct jr_driver *d, uint64_t seq)
{
    struct jr_image *image = d->compat.image;
    if (!image || image->seq != seq)
        return;
    struct compat_job *c = jr_xalloc(sizeof *c);
    *c = (struct compat_job){.job = {.run = run_compat, .done = done_compat},
                             .d = d,
                             .image = image,
                             .seq = seq,
                             .created_ns = image->stream_created_ns,
                             .from = d->compat.seq + 1,
                             .skips = d->skips,
                             .incarnation = d->incarnation};
    (void)jr_str_copy(c->id, sizeof c->id, d->config.pool.replica_id);
    if (d->compat.created_ns == c->created_ns)
        (void)jr_str_copy(c->learnt, sizeof c->learnt, d->compat.learnt);
    if (!jr_driver_submit(d, d->compat.lane, &c->job)) {
        jr_xfree(c);
        failed(d, JR_ELIMIT, "the ones before are not done yet");
        return; /* the image stays until the next one */
    }
    d->compat.image = NULL;
}

void jr_driver_compat_forget(struct jr_driver *d)
{
    if (!d->compat.image)
        return;
    struct compat_job *c = jr_xalloc(sizeof *c);
    *c = (struct compat_job){.job = {.run = run_compat, .done = done_compat},
                             .d = d,
                             .image = d->compat.image,
                             .forget = true};
    if (jr_driver_submit(d, d->compat.lane, &c->job))
        d->compat.image = NULL; /* else it stays until the next one */
    else
        jr_xfree(c);
}

int jr_driver_compat_start(struct jr_driver *d)
{
    return d->config.write_radix_state
               ? jr_lane_create(d->loop, "jr-compat", COMPAT_DEPTH, &d->compat.lane)
               : 0;
}

void jr_driver_compat_stop(struct jr_driver *d)
{
    atomic_store(&d->compat.stop, true);
    jr_lane_destroy(d->compat.lane);
    d->compat.lane = NULL;
    jr_image_destroy(d->compat.image);
    d->compat.image = NULL;
}
