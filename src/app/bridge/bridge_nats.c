/* SPDX-License-Identifier: Apache-2.0 */
/* The NATS side: what must exist, the lease, and what replicas ask for in the state bucket. */
#include "app/bridge/bridge_internal.h"

#include "base/log.h"
#include "wire/lease_json.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- opening */

struct open_job {
    struct jr_job job;
    struct jr_bridge *b;
    struct jr_js_kv *leases, *state;
    struct jr_stream_info info;
    int64_t ttl_ms;
    bool has_epoch;
    struct jr_epoch epoch;
    struct jr_errmsg e;
};

static int open_all(struct open_job *o)
{
    struct jr_bridge *b = o->b;
    struct jr_stream_config stream;
    struct jr_js_kv_config leases = {.bucket = b->leases_bucket,
                                     .ttl_ms = (int64_t)b->config.lease_ttl_ms,
                                     .replicas = b->config.nats_replicas};
    struct jr_js_kv_config state = {.bucket = b->state_bucket, .replicas = b->config.nats_replicas};
    bool created;
    jr_stream_config_events(&stream, b->stream, (int64_t)b->config.stream_max_bytes,
                            b->config.nats_replicas);
    int err = jr_nats_check_jetstream(b->nats, &o->e);
    if (err == 0)
        err = jr_stream_open(b->nats, &stream, &o->info, &created, &o->e);
    if (err == 0)
        err = jr_js_kv_open(b->nats, &leases, &o->leases, &o->ttl_ms, &o->e);
    if (err == 0)
        err = jr_js_kv_open(b->nats, &state, &o->state, NULL, &o->e);
    return err;
}

static void run_open(struct jr_job *job)
{
    struct open_job *o = (struct open_job *)(void *)job;
    job->err = open_all(o);
    if (job->err < 0)
        return;
    struct jr_js_kv_entry entry = {0};
    int err = jr_js_kv_get(o->state, "epoch", &entry, NULL);
    o->has_epoch = err == 0 && jr_lease_decode_epoch(entry.value, entry.n, &o->epoch, NULL) == 0;
    jr_js_kv_entry_deinit(&entry);
}

static void see_stream(struct jr_bridge *b, int64_t created_ns)
{
    if (b->stream_created_ns != 0 && b->stream_created_ns != created_ns) {
        jr_log(JR_LOG_WARN, "bridge.other_stream", "worker=%llu stream=%s",
               (unsigned long long)b->worker_id, b->stream);
        b->rank.acked_seq = 0; /* of the old one */
        jr_bridge_begin(b, JR_BEGIN_STREAM, false);
    }
    b->stream_created_ns = created_ns;
}

static void see_epoch(struct jr_bridge *b, const struct jr_epoch *epoch)
{
    bool differs = b->has_epoch && (b->epoch.random != epoch->random || b->epoch.n != epoch->n);
    b->has_epoch = true;
    b->epoch = *epoch;
    if (differs && b->started)
        jr_bridge_begin(b, JR_BEGIN_EPOCH, false);
}

/* The handles of the first time are kept: jobs may be using them. */
static int take_handles(struct jr_bridge *b, struct open_job *o)
{
    if (!b->opened) {
        struct jr_js_publisher_config config = {.nats = b->nats, .loop = b->loop};
        int err = jr_js_publisher_create(&config, &b->publisher);
        if (err < 0)
            return err;
        b->leases = o->leases;
        b->state = o->state;
        o->leases = o->state = NULL;
    }
    b->opened = true;
    b->reopen = false;
    if (o->ttl_ms > 0)
        b->ttl_ms = (uint64_t)o->ttl_ms;
    return 0;
}

static void on_opened(struct jr_bridge *b, struct open_job *o)
{
    int err = o->job.err < 0 ? o->job.err : take_handles(b, o);
    if (err == 0) {
        if (o->has_epoch)
            see_epoch(b, &o->epoch);
        see_stream(b, o->info.created_ns);
        jr_bridge_pump(b);
        return;
    }
    b->open_at_ms = jr_bridge_now_ms() + JR_BRIDGE_RETRY_MS;
    jr_log(JR_LOG_WARN, "bridge.open_failed", "stream=%s error=%s words=\"%s\"", b->stream,
           jr_err_name(err), o->e.text);
    if (err == JR_ENOJETSTREAM && !b->opened && b->config.on_fatal)
        b->config.on_fatal(b->config.ctx, err, o->e.text);
}

static void done_open(struct jr_job *job)
{
    struct open_job *o = (struct open_job *)(void *)job;
    struct jr_bridge *b = o->b;
    b->opening = false;
    if (jr_bridge_job_done(b) && !b->closing)
        on_opened(b, o);
    jr_js_kv_destroy(o->leases);
    jr_js_kv_destroy(o->state);
    jr_xfree(o);
    jr_bridge_maybe_closed(b);
}

static void begin_open(struct jr_bridge *b)
{
    struct open_job *o = jr_xalloc(sizeof *o);
    *o = (struct open_job){.job = {.run = run_open, .done = done_open}, .b = b};
    b->opening = jr_bridge_submit(b, b->nats_lane, &o->job);
    if (!b->opening)
        jr_xfree(o);
}

/* ---------------------------------------------------------------- the state bucket */

struct poll_job {
    struct jr_job job;
    struct jr_bridge *b;
    bool want_info;
    int64_t created_ns; /* 0: not asked */
    bool has_epoch;
    struct jr_epoch epoch;
    bool reannounce;
    struct jr_errmsg e;
};

/* A key that cannot be deleted (another revision by now) is met again by the next poll. */
static void take_state(struct poll_job *p, const struct jr_js_kv_entry *entry, const char *ours)
{
    if (entry->deleted)
        return;
    if (strcmp(entry->key, "epoch") == 0)
        p->has_epoch = jr_lease_decode_epoch(entry->value, entry->n, &p->epoch, NULL) == 0;
    else if (strcmp(entry->key, ours) == 0)
        p->reannounce = jr_js_kv_delete(p->b->state, ours, entry->revision, NULL) == 0;
}

static void run_poll(struct jr_job *job)
{
    struct poll_job *p = (struct poll_job *)(void *)job;
    struct jr_bridge *b = p->b;
    struct jr_js_kv_list all = {0};
    struct jr_stream_info info;
    char ours[64];
    snprintf(ours, sizeof ours, "reannounce.%llu.%u", (unsigned long long)b->worker_id,
             b->config.dp_rank);
    job->err = jr_js_kv_list(b->state, &all, &p->e);
    for (uint32_t i = 0; job->err == 0 && i < all.n; i++)
        take_state(p, &all.entries[i], ours);
    jr_js_kv_list_deinit(&all);
    if (job->err < 0 || !p->want_info)
        return;
    job->err = jr_stream_info(b->nats, b->stream, &info, &p->e);
    if (job->err == 0)
        p->created_ns = info.created_ns;
}

static void on_reannounce(struct jr_bridge *b)
{
    uint64_t age = jr_bridge_now_ms() - b->lease_new_at_ms;
    if (!b->started || jr_bridge_rank_beginning(&b->rank) || age < JR_BRIDGE_REANNOUNCE_GRACE_MS)
        return;
    jr_bridge_begin(b, JR_BEGIN_REANNOUNCE, false);
}

static void done_poll(struct jr_job *job)
{
    struct poll_job *p = (struct poll_job *)(void *)job;
    struct jr_bridge *b = p->b;
    b->polling = false;
    if (jr_bridge_job_done(b) && !b->closing) {
        if (p->has_epoch)
            see_epoch(b, &p->epoch);
        if (p->created_ns)
            see_stream(b, p->created_ns);
        if (p->reannounce)
            on_reannounce(b);
        if (job->err < 0 && jr_nats_connected(b->nats))
            jr_log(JR_LOG_WARN, "bridge.poll_failed", "bucket=%s error=%s words=\"%s\"",
                   b->state_bucket, jr_err_name(job->err), p->e.text);
        b->reopen = b->reopen || job->err == JR_ENOTFOUND;
    }
    jr_xfree(p);
    jr_bridge_maybe_closed(b);
}

static void begin_poll(struct jr_bridge *b)
{
    struct poll_job *p = jr_xalloc(sizeof *p);
    *p = (struct poll_job){.job = {.run = run_poll, .done = done_poll},
                           .b = b,
                           .want_info = b->polls++ % JR_BRIDGE_INFO_EVERY == 0};
    b->polling = jr_bridge_submit(b, b->nats_lane, &p->job);
    if (!b->polling)
        jr_xfree(p);
}

/* ---------------------------------------------------------------- the lease */

struct lease_job {
    struct jr_job job;
    struct jr_bridge *b;
    struct jr_worker_lease lease;
    uint64_t revision; /* 0: to be created */
    bool claimed;      /* this life held it before */
    bool lost;         /* it expired, or is another's: a new incarnation is due */
    uint64_t written_at_ms;
    struct jr_errmsg e;
};

static int write_lease(struct lease_job *l)
{
    struct jr_js_kv *kv = l->b->leases;
    struct jr_buf value;
    jr_buf_init(&value, JR_LEASE_BYTES_MAX);
    int err = jr_lease_encode_worker(&l->lease, &value);
    l->written_at_ms = jr_bridge_now_ms();
    if (err == 0 && l->revision)
        err = jr_js_kv_update(kv, l->b->lease_key, value.p, value.n, l->revision, &l->revision,
                              &l->e);
    else if (err == 0)
        err = jr_js_kv_create(kv, l->b->lease_key, value.p, value.n, &l->revision, &l->e);
    jr_buf_deinit(&value);
    return err;
}

/* Written by this life: it names the present incarnation, or the one the lease had before. */
static bool is_ours(const struct lease_job *l, const struct jr_js_kv_entry *entry)
{
    struct jr_worker_lease there;
    if (jr_lease_decode_worker(entry->value, entry->n, &there, NULL) < 0 || there.n_ranks == 0)
        return false;
    uint64_t incarnation = there.ranks[0].incarnation;
    return incarnation == l->lease.ranks[0].incarnation ||
           (l->claimed && incarnation == l->b->lease_incarnation);
}

/* After a conflict. An own write whose answer was lost went through: go on from its revision. A
 * lease that this life held and that is gone or another's is lost. What an earlier life left is
 * taken over. */
static int resolve(struct lease_job *l)
{
    struct jr_js_kv_entry entry = {0};
    int err = jr_js_kv_get(l->b->leases, l->b->lease_key, &entry, &l->e);
    if (err < 0 && err != JR_ENOTFOUND)
        return err;
    bool ours = err == 0 && is_ours(l, &entry);
    l->lost = l->revision != 0 && !ours;
    l->revision = err == 0 ? entry.revision : 0;
    jr_js_kv_entry_deinit(&entry);
    if (l->lost)
        return 0;
    return write_lease(l);
}

static void run_lease(struct jr_job *job)
{
    struct lease_job *l = (struct lease_job *)(void *)job;
    job->err = write_lease(l);
    if (job->err == JR_ECONFLICT)
        job->err = resolve(l);
}

static void on_lease_written(struct jr_bridge *b, const struct lease_job *l)
{
    uint64_t incarnation = l->lease.ranks[0].incarnation;
    if (b->lease_revision == 0)
        jr_log(JR_LOG_INFO, "bridge.registered",
               "worker=%llu url=%s model=\"%s\" block_size=%u kv_blocks=%llu key=%s",
               (unsigned long long)b->worker_id, l->lease.url, l->lease.model, l->lease.block_size,
               (unsigned long long)l->lease.total_kv_blocks, b->lease_key);
    if (b->lease_incarnation != incarnation)
        b->lease_new_at_ms = jr_bridge_now_ms();
    b->lease_incarnation = incarnation;
    b->lease_revision = l->revision;
    b->lease_claimed = true;
    b->lease_at_ms = b->rank.announced == incarnation ? l->written_at_ms + b->ttl_ms / 3 : 0;
}

static void on_lease_lost(struct jr_bridge *b)
{
    b->lease_losses++;
    b->lease_revision = 0;
    b->lease_claimed = false;
    b->lease_at_ms = 0;
    jr_log(JR_LOG_WARN, "bridge.lease_lost",
           "worker=%llu hint=\"renewed too late, or another bridge has the same worker id\"",
           (unsigned long long)b->worker_id);
    jr_bridge_begin(b, JR_BEGIN_LEASE, false);
}

static void done_lease(struct jr_job *job)
{
    struct lease_job *l = (struct lease_job *)(void *)job;
    struct jr_bridge *b = l->b;
    b->leasing = false;
    if (jr_bridge_job_done(b)) {
        b->lease_at_ms = jr_bridge_now_ms() + JR_BRIDGE_RETRY_MS;
        if (job->err == 0 && l->lost)
            on_lease_lost(b);
        else if (job->err == 0)
            on_lease_written(b, l);
        else
            b->reopen = b->reopen || job->err == JR_ENOTFOUND;
        if (job->err < 0)
            jr_log(JR_LOG_WARN, "bridge.lease_failed", "key=%s error=%s words=\"%s\"", b->lease_key,
                   jr_err_name(job->err), l->e.text);
    }
    jr_xfree(l);
    jr_bridge_maybe_closed(b);
}

static void begin_lease(struct jr_bridge *b)
{
    struct lease_job *l = jr_xalloc(sizeof *l);
    *l = (struct lease_job){.job = {.run = run_lease, .done = done_lease},
                            .b = b,
                            .lease = b->about,
                            .revision = b->lease_revision,
                            .claimed = b->lease_claimed};
    l->lease.n_ranks = 1;
    jr_bridge_rank_lease(&b->rank, &l->lease.ranks[0]);
    b->leasing = jr_bridge_submit(b, b->nats_lane, &l->job);
    if (!b->leasing)
        jr_xfree(l);
}

/* A new worker, or one whose lease was lost, only with its begin acknowledged. */
static bool may_lease(const struct jr_bridge *b)
{
    if (!b->discovered || !b->healthy || b->rank.announced == 0)
        return false;
    return b->lease_revision != 0 || !jr_bridge_rank_beginning(&b->rank);
}

/* ---------------------------------------------------------------- giving back */

struct release_job {
    struct jr_job job;
    struct jr_bridge *b;
    uint64_t incarnations[2]; /* that this life may have written */
};

/* By the revision that is read now: a renewal may just have gone through. */
static void run_release(struct jr_job *job)
{
    struct release_job *r = (struct release_job *)(void *)job;
    struct jr_bridge *b = r->b;
    struct jr_js_kv_entry entry = {0};
    struct jr_worker_lease there;
    job->err = jr_js_kv_get(b->leases, b->lease_key, &entry, NULL);
    if (job->err < 0)
        return;
    bool ours = jr_lease_decode_worker(entry.value, entry.n, &there, NULL) == 0 &&
                there.n_ranks > 0 &&
                (there.ranks[0].incarnation == r->incarnations[0] ||
                 there.ranks[0].incarnation == r->incarnations[1]);
    if (ours)
        job->err = jr_js_kv_delete(b->leases, b->lease_key, entry.revision, NULL);
    jr_js_kv_entry_deinit(&entry);
}

static void done_release(struct jr_job *job)
{
    struct jr_bridge *b = ((struct release_job *)(void *)job)->b;
    if (jr_bridge_job_done(b))
        jr_bridge_released(b);
    jr_log(JR_LOG_INFO, "bridge.deregistered", "worker=%llu result=%s",
           (unsigned long long)b->worker_id, job->err ? jr_err_name(job->err) : "ok");
    jr_xfree(job);
    jr_bridge_maybe_closed(b);
}

bool jr_bridge_release(struct jr_bridge *b)
{
    if (!b->lease_claimed || !b->opened || !jr_nats_connected(b->nats))
        return false;
    struct release_job *r = jr_xalloc(sizeof *r);
    *r = (struct release_job){.job = {.run = run_release, .done = done_release},
                              .b = b,
                              .incarnations = {b->lease_incarnation, b->rank.announced}};
    if (jr_bridge_submit(b, b->nats_lane, &r->job))
        return true;
    jr_xfree(r);
    return false;
}

/* ---------------------------------------------------------------- the tick */

void jr_bridge_nats_tick(struct jr_bridge *b, uint64_t now)
{
    if (!jr_nats_connected(b->nats))
        return;
    if ((!b->opened || b->reopen) && !b->opening && now >= b->open_at_ms) {
        b->open_at_ms = now + JR_BRIDGE_RETRY_MS;
        begin_open(b);
    }
    if (!b->opened || b->reopen)
        return;
    if (!b->polling && now >= b->poll_at_ms) {
        b->poll_at_ms = now + JR_BRIDGE_POLL_MS;
        begin_poll(b);
    }
    if (!b->leasing && now >= b->lease_at_ms && may_lease(b))
        begin_lease(b);
}
