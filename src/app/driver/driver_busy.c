/* SPDX-License-Identifier: Apache-2.0 */
/* Busy thresholds that were set at run time: busy.{model id} in the state bucket, and here, so that
 * they outlive the bucket. docs/protocol.md §8, ADR 23.
 *
 *   set ──► [control lane] read, merge, write by revision; again when another was quicker
 *     opening: all are listed ──┐
 *     a watch on the bucket ────┼──► newer than what we have? ──► BUSY to the pool
 *     our own write ────────────┘              │ no, or not there at all
 *                                              └──► [control lane] written back, by revision */
#include "app/driver/driver_internal.h"

#include "base/cursor.h"
#include "base/limit.h"
#include "base/log.h"
#include "wire/busy_json.h"

#include <inttypes.h>
#include <string.h>

#define KEY_PREFIX "busy."
#define KEY_MAX    (sizeof KEY_PREFIX + 20)
#define SET_TRIES  32 /* writers that were quicker, in a row */

/* ---------------------------------------------------------------- what is set */

static struct jr_busy_row *row_of(struct jr_driver *d, uint64_t model)
{
    struct jr_busy_row *row = jr_busy_rows_place(&d->busy.rows, model);
    if (row)
        return row;
    jr_limit_reached(JR_LIMIT_BUSY_MODELS);
    jr_log(JR_LOG_WARN, "busy.too_many", "component=%s models=%d", d->config.pool.component,
           JR_BUSY_MODELS_MAX);
    return NULL;
}

static bool is_full(const struct jr_driver *d)
{
    return d->busy.rows.n == JR_BUSY_MODELS_MAX;
}

static void tell_pool(struct jr_driver *d, uint64_t model, const struct jr_busy_limits *limits)
{
    struct jr_event ev = {.type = JR_EV_BUSY};
    ev.u.busy.model = model;
    ev.u.busy.own = limits != NULL;
    if (limits)
        ev.u.busy.limits = *limits;
    jr_driver_step(d, &ev);
}

/* A marker says no name: the one we know stays. */
static void hold(struct jr_driver *d, struct jr_busy_row *row, const struct jr_busy_record *rec,
                 int64_t stamp_ns)
{
    char model[JR_MODEL_MAX];
    memcpy(model, row->rec.model, sizeof model);
    row->rec = *rec;
    if (!rec->model[0])
        memcpy(row->rec.model, model, sizeof model);
    if (row->stamp_ns < stamp_ns)
        row->stamp_ns = stamp_ns;
    tell_pool(d, row->model, rec->deleted ? NULL : &row->rec.limits);
}

/* What a revision of the key says. Once we know that the bucket has what we have, its order is that of
 * what is set there, whatever the clocks; a copy, and a bucket that was made anew, go by their stamps. */
static void take(struct jr_driver *d, uint64_t model, uint64_t revision,
                 const struct jr_busy_record *rec, int64_t time_ns)
{
    if (rec->deleted && is_full(d) && !jr_busy_rows_find(&d->busy.rows, model))
        return; /* it changes nothing here: no other deletion is forgotten for it */
    struct jr_busy_row *row = row_of(d, model);
    int64_t stamp_ns = jr_busy_stamp_ns(rec, time_ns);
    if (!row || revision < row->revision)
        return;
    if (revision == row->revision) { /* our own write: now we know when it was stored */
        if (row->there && row->stamp_ns < stamp_ns)
            row->stamp_ns = stamp_ns;
        return;
    }
    bool follows = row->there && rec->set_ns == 0;
    row->revision = revision;
    row->there = follows || stamp_ns >= row->stamp_ns;
    if (row->there)
        hold(d, row, rec, stamp_ns);
    else
        jr_driver_busy_tend(d);
}

static bool read_entry(const struct jr_js_kv_entry *entry, struct jr_busy_record *ret)
{
    struct jr_errmsg e = {0};
    *ret = (struct jr_busy_record){.deleted = true};
    if (entry->deleted || jr_busy_decode(entry->value, entry->n, ret, &e) == 0)
        return true;
    jr_log(JR_LOG_WARN, "busy.unreadable", "key=%s words=\"%s\"", entry->key, e.text);
    return false;
}

static void take_entry(struct jr_driver *d, const struct jr_js_kv_entry *entry)
{
    struct jr_busy_record rec;
    uint64_t model;
    size_t skip = strlen(KEY_PREFIX);
    if (strncmp(entry->key, KEY_PREFIX, skip) != 0)
        return;
    if (jr_parse_u64(entry->key + skip, strlen(entry->key + skip), &model) < 0)
        jr_log(JR_LOG_WARN, "busy.unreadable", "key=%s", entry->key);
    else if (read_entry(entry, &rec))
        take(d, model, entry->revision, &rec, entry->time_ns);
}

void jr_driver_busy_take(struct jr_driver *d, const struct jr_js_kv_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        take_entry(d, &list->entries[i]);
}

/* ---------------------------------------------------------------- the watch */

/* Perhaps of a bucket that was made anew: its revisions are small again, and it may lack what we have. */
static void begin_list(struct jr_driver *d)
{
    d->busy.listed = false;
    d->busy.lists++;
    for (uint32_t i = 0; i < d->busy.rows.n; i++) {
        d->busy.rows.v[i].there = false;
        d->busy.rows.v[i].revision = 0;
    }
}

static void on_watch(void *ctx, enum jr_js_kv_watch_event event, const struct jr_js_kv_entry *entry)
{
    struct jr_driver *d = ctx;
    switch (event) {
    case JR_JS_KV_RELIST:
        begin_list(d);
        break;
    case JR_JS_KV_PUT:
    case JR_JS_KV_DELETE:
        take_entry(d, entry);
        break;
    case JR_JS_KV_LISTED:
        d->busy.listed = true;
        jr_driver_busy_tend(d);
        break;
    case JR_JS_KV_LOST:
        d->busy.listed = false;
        break;
    }
}

int jr_driver_busy_watch(struct jr_driver *d)
{
    if (d->busy.watch)
        return 0;
    int err = jr_js_kv_watch_create(d->state, d->loop, on_watch, d, &d->busy.watch);
    if (err < 0)
        jr_log(JR_LOG_ERROR, "busy.watch_failed", "bucket=%s error=%s", d->state_bucket,
               jr_err_name(err));
    return err;
}

void jr_driver_busy_stop(struct jr_driver *d, void (*cb)(void *ctx), void *ctx)
{
    struct jr_js_kv_watch *watch = d->busy.watch;
    d->busy.watch = NULL;
    if (watch)
        jr_js_kv_watch_close(watch, cb, ctx);
    else
        cb(ctx);
}

/* ---------------------------------------------------------------- writing back */

static void key_of(uint64_t model, char key[KEY_MAX])
{
    snprintf(key, KEY_MAX, KEY_PREFIX "%" PRIu64, model);
}

/* By the revision that was read; 0: only if there is none. */
static int write_key(struct jr_driver *d, const char *key, const struct jr_busy_record *rec,
                     uint64_t *revision, struct jr_errmsg *e)
{
    struct jr_buf b;
    jr_buf_init(&b, JR_BUSY_BYTES_MAX);
    int err = jr_busy_encode(rec, &b);
    if (err == 0)
        err = jr_js_kv_update(d->state, key, b.p, b.n, *revision, revision, e);
    jr_buf_deinit(&b);
    return err;
}

/* What is in the bucket, and since when; *ret_ns 0: nothing that can be read. */
static int read_key(struct jr_driver *d, const char *key, struct jr_busy_record *ret,
                    uint64_t *ret_revision, int64_t *ret_ns, struct jr_errmsg *e)
{
    struct jr_js_kv_entry entry = {0};
    int err = jr_js_kv_get(d->state, key, &entry, e);
    *ret_revision = entry.revision;
    *ret_ns = 0;
    if ((err == 0 || entry.deleted) && read_entry(&entry, ret))
        *ret_ns = jr_busy_stamp_ns(ret, entry.time_ns);
    jr_js_kv_entry_deinit(&entry);
    return err == JR_ENOTFOUND ? 0 : err;
}

struct keep_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_busy_record rec;
    uint64_t model, revision;
    int64_t stamp_ns;
    uint32_t lists;
    bool wrote;
    char key[KEY_MAX];
    struct jr_errmsg e;
};

/* Whatever is there and as new, or cannot be read, stays. */
static void run_keep(struct jr_job *job)
{
    struct keep_job *k = (struct keep_job *)(void *)job;
    struct jr_busy_record there;
    int64_t there_ns;
    job->err = read_key(k->d, k->key, &there, &k->revision, &there_ns, &k->e);
    if (job->err < 0 || there_ns >= k->stamp_ns || (k->revision && there_ns == 0))
        return;
    job->err = write_key(k->d, k->key, &k->rec, &k->revision, &k->e);
    k->wrote = job->err == 0;
}

static void kept(struct jr_driver *d, const struct keep_job *k)
{
    struct jr_busy_row *row = jr_busy_rows_find(&d->busy.rows, k->model);
    if (k->wrote)
        jr_log(JR_LOG_INFO, "busy.written_back", "bucket=%s key=%s model=%s", d->state_bucket,
               k->key, k->rec.model);
    if (!row || row->stamp_ns != k->stamp_ns || d->busy.lists != k->lists)
        return;
    row->there = true;
    if (k->wrote && row->revision < k->revision)
        row->revision = k->revision;
}

static void done_keep(struct jr_job *job)
{
    struct keep_job *k = (struct keep_job *)(void *)job;
    struct jr_driver *d = k->d;
    bool goes_on = jr_driver_job_done(d);
    bool failed = job->err < 0 && job->err != JR_ECONFLICT;
    d->busy.writing = false;
    if (goes_on && failed && !d->busy.failing)
        jr_log(JR_LOG_WARN, "busy.not_kept", "key=%s error=%s words=\"%s\"", k->key,
               jr_err_name(job->err), k->e.text);
    d->busy.failing = failed;
    if (goes_on && job->err == 0)
        kept(d, k);
    if (goes_on && !failed)
        jr_driver_busy_tend(d); /* the next one, or the same again: another was quicker */
    jr_xfree(k);
    jr_driver_maybe_closed(d);
}

static void write_back(struct jr_driver *d, const struct jr_busy_row *row)
{
    struct keep_job *k = jr_xalloc(sizeof *k);
    *k = (struct keep_job){.job = {.run = run_keep, .done = done_keep},
                           .d = d,
                           .rec = row->rec,
                           .model = row->model,
                           .stamp_ns = row->stamp_ns,
                           .lists = d->busy.lists};
    k->rec.set_ns = row->stamp_ns;
    k->rec.after_ns = 0;
    key_of(row->model, k->key);
    d->busy.writing = jr_driver_submit(d, d->control_lane, &k->job);
    if (!d->busy.writing)
        jr_xfree(k);
}

void jr_driver_busy_tend(struct jr_driver *d)
{
    if (!d->busy.listed || !d->connected)
        return;
    for (uint32_t i = 0; i < d->busy.rows.n && !d->busy.writing; i++)
        if (!d->busy.rows.v[i].there && d->busy.rows.v[i].stamp_ns)
            write_back(d, &d->busy.rows.v[i]);
}

/* ---------------------------------------------------------------- setting */

struct set_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_busy_record rec;  /* given; then what was written */
    struct jr_busy_record held; /* what we knew when it was asked for */
    int64_t held_ns;            /* 0: nothing */
    struct jr_busy_limits configured;
    uint64_t model;
    uint64_t revision;
    uint32_t lists;
    char key[KEY_MAX];
    jr_driver_busy_fn *fn;
    void *ctx;
    struct jr_errmsg e;
};

/* What holds now: the newest of what is in the bucket and what we know, or the configuration's. */
static int read_there(struct set_job *s, struct jr_busy_record *ret)
{
    struct jr_busy_record there;
    int64_t there_ns;
    int err = read_key(s->d, s->key, &there, &s->revision, &there_ns, &s->e);
    bool is_newer = there_ns && there_ns >= s->held_ns;
    const struct jr_busy_record *newest = is_newer ? &there : s->held_ns ? &s->held : NULL;
    *ret = (struct jr_busy_record){.limits =
                                       newest && !newest->deleted ? newest->limits : s->configured,
                                   .after_ns = is_newer ? there_ns : s->held_ns};
    memcpy(ret->model, s->rec.model, sizeof ret->model);
    return err;
}

static void run_set(struct jr_job *job)
{
    struct set_job *s = (struct set_job *)(void *)job;
    struct jr_busy_limits given = s->rec.limits;
    job->err = JR_ECONFLICT;
    for (int i = 0; i < SET_TRIES && job->err == JR_ECONFLICT; i++) {
        struct jr_busy_record rec;
        job->err = read_there(s, &rec);
        if (job->err < 0)
            return;
        jr_busy_merge(&rec.limits, &given);
        job->err = write_key(s->d, s->key, &rec, &s->revision, &s->e);
        s->rec = rec;
    }
}

/* It was stored, perhaps in a bucket that is gone by now: then it is written back, too. */
static void was_set(struct jr_driver *d, const struct set_job *s)
{
    struct jr_busy_row *row = row_of(d, s->model);
    int64_t stamp_ns = s->rec.after_ns + 1; /* at least; the watch knows */
    bool same = s->lists == d->busy.lists;
    if (!row || (same ? s->revision <= row->revision : stamp_ns <= row->stamp_ns))
        return;
    if (same)
        row->revision = s->revision;
    row->there = same;
    hold(d, row, &s->rec, stamp_ns);
}

static void done_set(struct jr_job *job)
{
    struct set_job *s = (struct set_job *)(void *)job;
    struct jr_driver *d = s->d;
    bool goes_on = jr_driver_job_done(d);
    if (job->err < 0)
        jr_log(JR_LOG_WARN, "busy.not_set", "key=%s error=%s words=\"%s\"", s->key,
               jr_err_name(job->err), s->e.text);
    else if (goes_on)
        was_set(d, s);
    s->fn(s->ctx, job->err, &s->rec.limits);
    jr_xfree(s);
    jr_driver_maybe_closed(d);
}

/* Without NATS there is nobody to agree with. */
static void set_here(struct jr_driver *d, uint64_t model, const struct jr_busy_limits *given,
                     jr_driver_busy_fn *fn, void *ctx)
{
    struct jr_busy_limits limits;
    jr_pool_busy_limits(d->pool, model, &limits);
    jr_busy_merge(&limits, given);
    tell_pool(d, model, &limits);
    fn(ctx, d->step_err, &limits);
}

void jr_driver_busy_set(struct jr_driver *d, const struct jr_busy_record *given,
                        jr_driver_busy_fn *fn, void *ctx)
{
    uint64_t model = jr_pool_model_id(given->model);
    if (!d->nats) {
        set_here(d, model, &given->limits, fn, ctx);
        return;
    }
    int err = d->connected ? 0 : JR_ECLOSED;
    if (err == 0 && !jr_busy_rows_has_place(&d->busy.rows, model))
        err = jr_limit(JR_LIMIT_BUSY_MODELS);
    struct set_job *s = jr_xalloc(sizeof *s);
    *s = (struct set_job){.job = {.run = run_set, .done = done_set},
                          .d = d,
                          .rec = *given,
                          .configured = d->config.pool.busy,
                          .model = model,
                          .lists = d->busy.lists,
                          .fn = fn,
                          .ctx = ctx};
    const struct jr_busy_row *row = jr_busy_rows_find(&d->busy.rows, model);
    if (row) {
        s->held = row->rec;
        s->held_ns = row->stamp_ns;
    }
    key_of(model, s->key);
    if (err == 0 && jr_driver_submit(d, d->control_lane, &s->job))
        return;
    jr_xfree(s);
    fn(ctx, err ? err : JR_EAGAIN, NULL);
}
