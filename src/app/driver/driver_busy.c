/* SPDX-License-Identifier: Apache-2.0 */
/* Busy thresholds that were set at run time: busy.{model id} in the state bucket, one order for all
 * replicas, that of the key's revisions.
 *
 *   set ──► [control lane] read, merge, write by revision; again when another was quicker
 *     opening: all are listed ──┐
 *     a watch on the bucket ────┼──► newer than what we have? ──► BUSY to the pool
 *     our own write ────────────┘ */
#include "app/driver/driver_internal.h"

#include "base/cursor.h"
#include "base/log.h"
#include "wire/busy_json.h"

#include <string.h>

#define KEY_PREFIX "busy."
#define KEY_MAX    (sizeof KEY_PREFIX + 20)
#define SET_TRIES  32 /* writers that were quicker, in a row */

/* ---------------------------------------------------------------- what is set */

static struct jr_driver_busy_row *find(struct jr_driver *d, uint64_t model)
{
    for (uint32_t i = 0; i < d->busy.n; i++)
        if (d->busy.rows[i].model == model)
            return &d->busy.rows[i];
    return NULL;
}

static bool has_place(struct jr_driver *d, uint64_t model)
{
    return find(d, model) || d->busy.n < JR_BUSY_MODELS_MAX;
}

static struct jr_driver_busy_row *row_of(struct jr_driver *d, uint64_t model)
{
    struct jr_driver_busy_row *row = find(d, model);
    if (row)
        return row;
    if (d->busy.n == JR_BUSY_MODELS_MAX)
        return NULL;
    row = &d->busy.rows[d->busy.n++];
    *row = (struct jr_driver_busy_row){.model = model};
    return row;
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

/* What a revision of the key says; limits NULL: it was deleted. An older one comes too late. */
static void apply(struct jr_driver *d, uint64_t model, uint64_t revision,
                  const struct jr_busy_limits *limits)
{
    struct jr_driver_busy_row *row = row_of(d, model);
    if (!row) {
        jr_log(JR_LOG_WARN, "busy.too_many", "component=%s models=%d", d->config.pool.component,
               JR_BUSY_MODELS_MAX);
        return;
    }
    row->listed = true;
    if (revision <= row->revision)
        return;
    row->revision = revision;
    row->set = limits != NULL;
    tell_pool(d, model, limits);
}

static void take_entry(struct jr_driver *d, const struct jr_js_kv_entry *entry)
{
    struct jr_busy_record rec;
    struct jr_errmsg e = {0};
    uint64_t model;
    size_t skip = strlen(KEY_PREFIX);
    if (strncmp(entry->key, KEY_PREFIX, skip) != 0)
        return;
    if (jr_parse_u64(entry->key + skip, strlen(entry->key + skip), &model) < 0)
        jr_log(JR_LOG_WARN, "busy.unreadable", "key=%s", entry->key);
    else if (entry->deleted)
        apply(d, model, entry->revision, NULL);
    else if (jr_busy_decode(entry->value, entry->n, &rec, &e) < 0)
        jr_log(JR_LOG_WARN, "busy.unreadable", "key=%s words=\"%s\"", entry->key, e.text);
    else
        apply(d, model, entry->revision, &rec.limits);
}

void jr_driver_busy_take(struct jr_driver *d, const struct jr_js_kv_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        take_entry(d, &list->entries[i]);
}

/* ---------------------------------------------------------------- the watch */

/* Revisions of a bucket that was made anew are small again. */
static void begin_list(struct jr_driver *d)
{
    for (uint32_t i = 0; i < d->busy.n; i++) {
        d->busy.rows[i].listed = false;
        d->busy.rows[i].revision = 0;
    }
}

/* Nobody took it back: its bucket was lost, and operators have to set it anew. */
static void take_gone(struct jr_driver *d, const struct jr_driver_busy_row *row)
{
    if (row->set)
        jr_log(JR_LOG_WARN, "busy.gone", "bucket=%s key=" KEY_PREFIX "%llu", d->state_bucket,
               (unsigned long long)row->model);
    tell_pool(d, row->model, NULL);
}

/* What is not in the bucket any more is not set. */
static void end_list(struct jr_driver *d)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->busy.n; i++) {
        struct jr_driver_busy_row row = d->busy.rows[i];
        if (row.listed)
            d->busy.rows[kept++] = row;
        else
            take_gone(d, &row);
    }
    d->busy.n = kept;
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
        end_list(d);
        break;
    case JR_JS_KV_LOST:
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

/* ---------------------------------------------------------------- setting */

struct set_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_busy_record rec; /* given; then what was written */
    struct jr_busy_limits configured;
    uint64_t model;
    uint64_t revision;
    char key[KEY_MAX];
    jr_driver_busy_fn *fn;
    void *ctx;
    struct jr_errmsg e;
};

/* What is in the bucket, or the configuration's. Deleted and absent have revision 0. */
static int read_there(struct set_job *s, struct jr_busy_record *ret)
{
    struct jr_js_kv_entry entry = {0};
    struct jr_errmsg e = {0};
    *ret = (struct jr_busy_record){.limits = s->configured};
    memcpy(ret->model, s->rec.model, sizeof ret->model);
    s->revision = 0;
    int err = jr_js_kv_get(s->d->state, s->key, &entry, &s->e);
    if (err == JR_ENOTFOUND) {
        jr_js_kv_entry_deinit(&entry);
        return 0;
    }
    if (err < 0)
        return err;
    s->revision = entry.revision;
    if (jr_busy_decode(entry.value, entry.n, ret, &e) < 0) /* it is written over */
        jr_log(JR_LOG_WARN, "busy.unreadable", "key=%s words=\"%s\"", s->key, e.text);
    jr_js_kv_entry_deinit(&entry);
    return 0;
}

static int write_there(struct set_job *s, const struct jr_busy_record *rec)
{
    struct jr_buf b;
    jr_buf_init(&b, JR_BUSY_BYTES_MAX);
    int err = jr_busy_encode(rec, &b);
    if (err == 0 && s->revision)
        err = jr_js_kv_update(s->d->state, s->key, b.p, b.n, s->revision, &s->revision, &s->e);
    else if (err == 0)
        err = jr_js_kv_create(s->d->state, s->key, b.p, b.n, &s->revision, &s->e);
    jr_buf_deinit(&b);
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
        job->err = write_there(s, &rec);
        s->rec = rec;
    }
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
        apply(d, s->model, s->revision, &s->rec.limits);
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
    int err = !d->connected ? JR_ECLOSED : has_place(d, model) ? 0 : JR_ELIMIT;
    struct set_job *s = jr_xalloc(sizeof *s);
    *s = (struct set_job){.job = {.run = run_set, .done = done_set},
                          .d = d,
                          .rec = *given,
                          .configured = d->config.pool.busy,
                          .model = model,
                          .fn = fn,
                          .ctx = ctx};
    snprintf(s->key, sizeof s->key, KEY_PREFIX "%llu", (unsigned long long)model);
    if (err == 0 && jr_driver_submit(d, d->control_lane, &s->job))
        return;
    jr_xfree(s);
    fn(ctx, err ? err : JR_EAGAIN, NULL);
}
