/* SPDX-License-Identifier: Apache-2.0 */
/* The lease bucket, in rounds: renew ours, hold or take the leader's key, list all.
 *
 *   every 500 ms ──► [lease lane] renew? ─ list ─ leader? ──► done: LEASE_HELD/LOST, LEADER, MEMBERS
 *
 * A key is renewed by revision only: a failed renewal means that this replica has a new life. */
#include "app/driver/driver_internal.h"

#include "base/cursor.h"
#include "base/log.h"
#include "io/http_client.h"
#include "wire/lease_json.h"

#include <sodium.h>
#include <string.h>

#define KEY_MAX (JR_NAME_MAX + 16)

struct round {
    struct jr_job job;
    struct jr_driver *d;
    bool renew;
    struct jr_replica_lease lease;
    uint64_t lease_revision;
    bool lost;  /* the key had another's or an older life's value */
    bool taken; /* and not that it was over */
    bool renewed;
    bool may_lead;
    bool leader_key;
    uint64_t leader_revision;
    bool led; /* the leader's key was written in this round */
    uint64_t written_at_ms, asked_at_ms;
    struct jr_worker_lease *workers;
    uint32_t n_workers;
    struct jr_replica_lease *replicas;
    uint32_t n_replicas;
    uint64_t *removed;
    uint32_t n_removed;
    bool leader_absent;
    bool look; /* at the stream and the record of snapshots */
    bool looked;
    struct jr_stream_facts facts;
    struct jr_snapshots_record record;
    struct jr_errmsg e;
};

static int encode_lease(const struct round *r, struct jr_buf *b)
{
    jr_buf_init(b, JR_LEASE_BYTES_MAX);
    return jr_lease_encode_replica(&r->lease, b);
}

/* The key exists or moved. When it is our own life that wrote it, an earlier write whose answer was
 * lost went through: take its revision. Else it is an older life's: take it over as a new one. */
static int take_over(struct round *r, const char *key)
{
    struct jr_js_kv_entry entry = {0};
    int err = jr_js_kv_get(r->d->leases, key, &entry, &r->e);
    if (err == JR_ENOTFOUND) {
        r->lost = r->lease_revision != 0;
        r->lease_revision = 0;
        return 0;
    }
    if (err < 0)
        return err;
    struct jr_replica_lease there;
    bool ours = jr_lease_decode_replica(entry.value, entry.n, &there, NULL) == 0 &&
                there.incarnation == r->lease.incarnation;
    r->taken = !ours && r->lease_revision != 0;
    r->lost = r->lost || r->taken;
    r->lease_revision = entry.revision;
    jr_js_kv_entry_deinit(&entry);
    return 0;
}

static int write_lease(struct round *r, const char *key)
{
    struct jr_buf b;
    int err = encode_lease(r, &b);
    if (err == 0 && r->lease_revision)
        err = jr_js_kv_update(r->d->leases, key, b.p, b.n, r->lease_revision, &r->lease_revision,
                              &r->e);
    else if (err == 0)
        err = jr_js_kv_create(r->d->leases, key, b.p, b.n, &r->lease_revision, &r->e);
    jr_buf_deinit(&b);
    return err;
}

static int renew(struct round *r)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "replica.%s", r->lease.id);
    int err = write_lease(r, key);
    for (int i = 0; i < 2 && err == JR_ECONFLICT; i++) {
        err = take_over(r, key);
        if (err < 0)
            return err;
        if (r->lost)
            randombytes_buf(&r->lease.incarnation, sizeof r->lease.incarnation);
        err = write_lease(r, key);
    }
    r->written_at_ms = jr_driver_now_ms();
    return err;
}

/* ---------------------------------------------------------------- the list */

static void *grow(void *v, uint32_t n, size_t size)
{
    /* Doubling at powers of two keeps this linear. */
    return (n & (n - 1)) == 0 ? jr_xrealloc(v, (n ? 2 * (size_t)n : 1) * size) : v;
}

static void take_worker(struct round *r, const struct jr_js_kv_entry *entry)
{
    uint64_t id;
    const char *text = entry->key + strlen("worker.");
    if (jr_parse_u64(text, strlen(text), &id) < 0)
        return;
    if (entry->deleted) {
        r->removed = grow(r->removed, r->n_removed, sizeof *r->removed);
        r->removed[r->n_removed++] = id;
        return;
    }
    r->workers = grow(r->workers, r->n_workers, sizeof *r->workers);
    struct jr_worker_lease *w = &r->workers[r->n_workers];
    struct jr_errmsg e = {0};
    if (jr_lease_decode_worker(entry->value, entry->n, w, &e) < 0 || w->worker_id != id ||
        jr_http_url_check(w->url, &e) < 0)
        jr_log(JR_LOG_WARN, "lease.unreadable", "key=%s words=\"%s\"", entry->key, e.text);
    else
        r->n_workers++;
    w->revision = entry->revision;
}

static void take_replica(struct round *r, const struct jr_js_kv_entry *entry)
{
    if (entry->deleted)
        return;
    r->replicas = grow(r->replicas, r->n_replicas, sizeof *r->replicas);
    struct jr_replica_lease *lease = &r->replicas[r->n_replicas];
    struct jr_errmsg e = {0};
    if (jr_lease_decode_replica(entry->value, entry->n, lease, &e) < 0)
        jr_log(JR_LOG_WARN, "lease.unreadable", "key=%s words=\"%s\"", entry->key, e.text);
    else
        r->n_replicas++;
    lease->revision = entry->revision;
}

static int list(struct round *r)
{
    struct jr_js_kv_list all = {0};
    r->asked_at_ms = jr_driver_now_ms();
    int err = jr_js_kv_list(r->d->leases, &all, &r->e);
    if (err < 0)
        return err;
    r->leader_absent = true;
    for (uint32_t i = 0; i < all.n; i++) {
        const struct jr_js_kv_entry *entry = &all.entries[i];
        if (strncmp(entry->key, "worker.", 7) == 0)
            take_worker(r, entry);
        else if (strncmp(entry->key, "replica.", 8) == 0)
            take_replica(r, entry);
        else if (strcmp(entry->key, "leader") == 0)
            r->leader_absent = entry->deleted;
    }
    jr_js_kv_list_deinit(&all);
    return 0;
}

/* ---------------------------------------------------------------- the leader's key */

static bool leader_is_ours(const struct round *r, const struct jr_js_kv_entry *entry)
{
    struct jr_leader_record there;
    return jr_lease_decode_leader(entry->value, entry->n, &there, NULL) == 0 &&
           strcmp(there.id, r->lease.id) == 0 && there.incarnation == r->lease.incarnation;
}

/* After a conflict: an own earlier write that went through counts, anything else ends it. */
static void read_leader(struct round *r)
{
    struct jr_js_kv_entry entry = {0};
    r->leader_key = false;
    if (jr_js_kv_get(r->d->leases, "leader", &entry, &r->e) < 0)
        return;
    r->leader_key = leader_is_ours(r, &entry);
    r->leader_revision = entry.revision;
    jr_js_kv_entry_deinit(&entry);
}

/* A replica that is not fit to lead (any more) makes room at once. */
static void step_down(struct round *r)
{
    if (r->leader_key && jr_js_kv_delete(r->d->leases, "leader", r->leader_revision, &r->e) < 0)
        jr_log(JR_LOG_WARN, "leader.not_released", "words=\"%s\"", r->e.text);
    r->leader_key = false;
}

/* Held: renewed by revision, with any doubt meaning "not any more". Absent: taken by create. */
static void lead(struct round *r)
{
    if (!r->may_lead) {
        step_down(r);
        return;
    }
    struct jr_leader_record me = {.incarnation = r->lease.incarnation};
    memcpy(me.id, r->lease.id, sizeof me.id);
    struct jr_buf b;
    jr_buf_init(&b, JR_LEASE_BYTES_MAX);
    int err = jr_lease_encode_leader(&me, &b);
    if (err == 0 && r->leader_key && !r->lost)
        err = jr_js_kv_update(r->d->leases, "leader", b.p, b.n, r->leader_revision,
                              &r->leader_revision, &r->e);
    else if (err == 0 && r->leader_absent)
        err = jr_js_kv_create(r->d->leases, "leader", b.p, b.n, &r->leader_revision, &r->e);
    else
        err = JR_EEXIST;
    jr_buf_deinit(&b);
    r->led = err == 0;
    r->leader_key = err == 0;
    if (err == JR_ECONFLICT || err == JR_ETIMEOUT)
        read_leader(r);
}

/* For followers' eyes; without an answer the old facts stay. The record first: no snapshot of this
 * history is then past the stream's end. */
static void look(struct round *r)
{
    uint64_t revision;
    r->looked = jr_driver_read_record(r->d, &r->record, &revision, &r->e) == 0 &&
                jr_driver_facts(r->d, &r->facts, &r->e) == 0;
}

static void run_round(struct jr_job *job)
{
    struct round *r = (struct round *)(void *)job;
    if (r->renew)
        job->err = renew(r);
    r->renewed = r->renew && job->err == 0 && !r->lost;
    if (job->err == 0)
        job->err = list(r);
    if (job->err == 0 && r->renew)
        lead(r);
    if (job->err == 0 && r->look)
        look(r);
}

/* ---------------------------------------------------------------- back on the loop */

void jr_driver_not_leader(struct jr_driver *d)
{
    if (!d->leader_told)
        return;
    d->leader_told = false;
    jr_driver_compat_forget(d);
    struct jr_event ev = {.type = JR_EV_LEADER};
    jr_driver_step(d, &ev);
}

static void on_renewed(struct jr_driver *d, const struct round *r)
{
    d->lease_revision = r->lease_revision;
    d->renew_at_ms = r->written_at_ms + d->config.pool.lease_ttl_ms / 3;
    d->held = true;
    if (r->lost) {
        jr_log(JR_LOG_WARN, "lease.lost", "replica=%s hint=\"%s\"", r->lease.id,
               r->taken ? "another process has the same --replica-id; a new life begins"
                        : "renewed too late; a new life begins");
        d->incarnation = r->lease.incarnation;
        struct jr_event ev = {.type = JR_EV_LEASE_LOST};
        ev.u.incarnation = r->lease.incarnation;
        jr_driver_step(d, &ev);
    }
    if (d->take_lease) {
        d->take_lease = false;
        struct jr_event ev = {.type = JR_EV_LEASE_HELD};
        ev.u.incarnation = r->lease.incarnation;
        jr_driver_step(d, &ev);
    }
    d->leader_key = r->leader_key;
    d->leader_revision = r->leader_revision;
    if (r->led)
        d->leader_renewed_ms = r->written_at_ms;
    if (!r->leader_key)
        jr_driver_not_leader(d);
    else if (!d->leader_told && !d->leading_up)
        jr_driver_lead(d);
}

static void on_listed(struct jr_driver *d, const struct round *r)
{
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = r->workers;
    ev.u.members.n_workers = r->n_workers;
    ev.u.members.replicas = r->replicas;
    ev.u.members.n_replicas = r->n_replicas;
    ev.u.members.removed = r->removed;
    ev.u.members.n_removed = r->n_removed;
    ev.u.members.asked_at_ms = r->asked_at_ms;
    jr_driver_step(d, &ev);
}

static void on_looked(struct jr_driver *d, const struct round *r)
{
    struct jr_event ev = {.type = JR_EV_FACTS};
    ev.u.facts.stream = r->facts;
    ev.u.facts.record = r->record;
    jr_driver_step(d, &ev);
}

static void free_round(struct round *r)
{
    jr_xfree(r->workers);
    jr_xfree(r->replicas);
    jr_xfree(r->removed);
    jr_xfree(r);
}

static void done_round(struct jr_job *job)
{
    struct round *r = (struct round *)(void *)job;
    struct jr_driver *d = r->d;
    d->round_running = false;
    d->stats.leases_renewed += r->renewed;
    d->stats.leases_not_renewed += r->renew && !r->renewed;
    if (jr_driver_job_done(d)) {
        if (job->err < 0 && d->connected)
            jr_log(JR_LOG_WARN, "lease.round_failed", "error=%s words=\"%s\"",
                   jr_err_name(job->err), r->e.text);
        jr_driver_make_missing(d, job->err);
        if (job->err == 0 && d->connected) {
            if (r->renew)
                on_renewed(d, r);
            on_listed(d, r);
            if (r->looked)
                on_looked(d, r);
            jr_driver_busy_tend(d);
        }
    }
    free_round(r);
    jr_driver_maybe_closed(d);
}

static void begin_round(struct jr_driver *d)
{
    if (d->round_running || !d->connected || !d->opened)
        return;
    struct round *r = jr_xalloc(sizeof *r);
    *r = (struct round){.job = {.run = run_round, .done = done_round},
                        .d = d,
                        .renew = d->take_lease || (d->held && jr_driver_now_ms() >= d->renew_at_ms),
                        .lease_revision = d->lease_revision,
                        .look = d->rounds++ % 4 == 0,
                        .may_lead = jr_pool_may_lead(d->pool) && !d->draining,
                        .leader_key = d->leader_key,
                        .leader_revision = d->leader_revision};
    jr_pool_lease(d->pool, &r->lease);
    r->lease.ready = r->lease.ready && !d->draining;
    d->round_running = jr_driver_submit(d, d->lease_lane, &r->job);
    if (!d->round_running)
        free_round(r);
}

static void on_round_timer(void *ctx)
{
    struct jr_driver *d = ctx;
    /* A late renewal is no renewal: stop leading before the key can be another's. */
    if (d->leader_told &&
        jr_driver_now_ms() - d->leader_renewed_ms > d->config.pool.lease_ttl_ms * 3 / 4)
        jr_driver_not_leader(d);
    begin_round(d);
}

void jr_driver_members_start(struct jr_driver *d)
{
    d->round_timer = jr_timer_create(d->loop, on_round_timer, d);
    jr_timer_start(d->round_timer, JR_DRIVER_ROUND_MS, JR_DRIVER_ROUND_MS);
}

void jr_driver_take_lease(struct jr_driver *d)
{
    d->take_lease = true;
    begin_round(d);
}

/* ---------------------------------------------------------------- giving back */

struct release {
    struct jr_job job;
    struct jr_driver *d;
    char key[KEY_MAX];
    uint64_t incarnation;
    char id[JR_NAME_MAX];
};

/* Deletes what this life wrote, by the revision that is read now: a round may just have renewed. */
static void delete_lease(struct release *r)
{
    struct jr_js_kv_entry entry = {0};
    struct jr_replica_lease there;
    if (jr_js_kv_get(r->d->leases, r->key, &entry, NULL) < 0)
        return;
    if (jr_lease_decode_replica(entry.value, entry.n, &there, NULL) == 0 &&
        there.incarnation == r->incarnation)
        r->job.err = jr_js_kv_delete(r->d->leases, r->key, entry.revision, NULL);
    jr_js_kv_entry_deinit(&entry);
}

static void delete_leader(struct release *r)
{
    struct jr_js_kv_entry entry = {0};
    struct jr_leader_record there;
    if (jr_js_kv_get(r->d->leases, "leader", &entry, NULL) < 0)
        return;
    if (jr_lease_decode_leader(entry.value, entry.n, &there, NULL) == 0 &&
        there.incarnation == r->incarnation && strcmp(there.id, r->id) == 0)
        r->job.err = jr_js_kv_delete(r->d->leases, "leader", entry.revision, NULL);
    jr_js_kv_entry_deinit(&entry);
}

static void run_release(struct jr_job *job)
{
    struct release *r = (struct release *)(void *)job;
    delete_leader(r);
    delete_lease(r);
}

static void done_release(struct jr_job *job)
{
    struct release *r = (struct release *)(void *)job;
    struct jr_driver *d = r->d;
    (void)jr_driver_job_done(d);
    jr_xfree(r);
    jr_driver_close_rest(d);
}

/* The last thing a replica says. Without an answer the leases end by their time. */
void jr_driver_release_leases(struct jr_driver *d)
{
    jr_timer_stop(d->round_timer);
    struct release *r = jr_xalloc(sizeof *r);
    *r = (struct release){
        .job = {.run = run_release, .done = done_release}, .d = d, .incarnation = d->incarnation};
    (void)jr_str_copy(r->id, sizeof r->id, d->config.pool.replica_id);
    snprintf(r->key, sizeof r->key, "replica.%s", r->id);
    if (d->held && d->connected && jr_driver_submit(d, d->lease_lane, &r->job))
        return;
    jr_xfree(r);
    jr_driver_close_rest(d);
}
