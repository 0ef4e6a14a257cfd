/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/bridge_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/map.h"
#include "wire/event_codec.h"
#include "wire/lease_json.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- jobs */

static bool submit(struct jr_bridge_hub *h, struct jr_job *job)
{
    if (h->ended || jr_lane_submit(h->nats_lane, job) < 0)
        return false;
    h->parts++;
    return true;
}

/* First in each completion; false when nobody is interested any more. */
static bool job_done(struct jr_bridge_hub *h)
{
    h->parts--;
    return !h->closing;
}

/* ---------------------------------------------------------------- opening */

struct open_job {
    struct jr_job job;
    struct jr_bridge_hub *h;
    struct jr_js_kv *leases, *state;
    struct jr_stream_info info;
    int64_t ttl_ms;
    bool has_epoch;
    struct jr_epoch epoch;
    struct jr_errmsg e;
};

static int open_all(struct open_job *o)
{
    struct jr_bridge_hub *h = o->h;
    struct jr_nats *nats = h->config.nats;
    struct jr_stream_config stream;
    struct jr_js_kv_config leases = {.bucket = h->leases_bucket,
                                     .ttl_ms = (int64_t)h->config.lease_ttl_ms,
                                     .replicas = h->config.nats_replicas};
    struct jr_js_kv_config state = {.bucket = h->state_bucket, .replicas = h->config.nats_replicas};
    jr_stream_config_events(&stream, h->stream, (int64_t)h->config.stream_max_bytes,
                            h->config.nats_replicas);
    int err = jr_nats_check_jetstream(nats, &o->e);
    if (err == 0)
        err = jr_stream_open(nats, &stream, &o->info, &o->e);
    if (err == 0)
        err = jr_js_kv_open(nats, &leases, &o->leases, &o->ttl_ms, &o->e);
    if (err == 0)
        err = jr_js_kv_open(nats, &state, &o->state, NULL, &o->e);
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

static void begin_all(struct jr_bridge_hub *h, enum jr_begin_reason reason)
{
    for (uint32_t i = 0; i < h->n_bridges; i++)
        jr_bridge_begin(h->bridges[i], reason);
}

static void see_stream(struct jr_bridge_hub *h, int64_t created_ns)
{
    if (h->stream_created_ns != 0 && h->stream_created_ns != created_ns) {
        jr_log(JR_LOG_WARN, "bridge.other_stream", "stream=%s", h->stream);
        begin_all(h, JR_BEGIN_STREAM);
    }
    h->stream_created_ns = created_ns;
}

static void see_epoch(struct jr_bridge_hub *h, const struct jr_epoch *epoch)
{
    bool differs = h->has_epoch && (h->epoch.random != epoch->random || h->epoch.n != epoch->n);
    h->has_epoch = true;
    h->epoch = *epoch;
    if (differs)
        begin_all(h, JR_BEGIN_EPOCH);
}

/* The handles of the first time are kept: jobs may be using them. */
static int take_handles(struct jr_bridge_hub *h, struct open_job *o)
{
    if (!h->opened) {
        struct jr_js_publisher_config config = {.nats = h->config.nats,
                                                .loop = h->config.loop,
                                                .window_msgs = JR_BRIDGE_WINDOW_MSGS,
                                                .window_bytes = JR_BRIDGE_WINDOW_BYTES};
        int err = jr_js_publisher_create(&config, &h->publisher);
        if (err < 0)
            return err;
        h->leases = o->leases;
        h->state = o->state;
        o->leases = o->state = NULL;
    }
    h->opened = true;
    h->reopen = false;
    if (o->ttl_ms > 0)
        h->ttl_ms = (uint64_t)o->ttl_ms;
    return 0;
}

static void on_opened(struct jr_bridge_hub *h, struct open_job *o)
{
    int err = o->job.err < 0 ? o->job.err : take_handles(h, o);
    if (err == 0) {
        jr_retold_over(&h->open_failed);
        if (o->has_epoch)
            see_epoch(h, &o->epoch);
        see_stream(h, o->info.created_ns);
        for (uint32_t i = 0; i < h->n_bridges; i++)
            for (uint32_t k = 0; k < h->bridges[i]->n_sources; k++)
                jr_bridge_source_pump(h->bridges[i]->sources[k]);
        return;
    }
    h->open_at_ms = jr_bridge_now_ms() + JR_BRIDGE_RETRY_MS;
    struct jr_errmsg why = o->e;
    (void)jr_errmsg_wrap(&why, err, "the streams cannot be opened");
    if (jr_retold_say(&h->open_failed, why.text, jr_bridge_now_ms()))
        jr_log(JR_LOG_WARN, "bridge.open_failed", "stream=%s error=%s words=\"%s\"", h->stream,
               jr_err_name(err), o->e.text);
    if (err == JR_ENOJETSTREAM && !h->opened && h->config.on_fatal)
        h->config.on_fatal(h->config.ctx, err, o->e.text);
}

static void done_open(struct jr_job *job)
{
    struct open_job *o = (struct open_job *)(void *)job;
    struct jr_bridge_hub *h = o->h;
    h->opening = false;
    if (job_done(h))
        on_opened(h, o);
    jr_js_kv_destroy(o->leases);
    jr_js_kv_destroy(o->state);
    jr_xfree(o);
    jr_bridge_hub_maybe_gone(h);
}

static void begin_open(struct jr_bridge_hub *h)
{
    struct open_job *o = jr_xalloc(sizeof *o);
    *o = (struct open_job){.job = {.run = run_open, .done = done_open}, .h = h};
    h->opening = submit(h, &o->job);
    if (!h->opening)
        jr_xfree(o);
}

/* ---------------------------------------------------------------- polling */

/* What a poll finds out for one rank; the lane knows no bridges. */
struct poll_row {
    uint64_t worker_id;
    uint32_t dp_rank;
    bool reannounce;
};

struct poll_job {
    struct jr_job job;
    struct jr_bridge_hub *h;
    struct poll_row *rows; /* by worker, then by rank */
    uint32_t n_rows;
    bool want_info;
    uint64_t generation; /* the connection in which it began */
    int64_t created_ns;  /* 0: not asked */
    bool has_epoch;
    struct jr_epoch epoch;
    bool has_size;
    uint32_t pool_size; /* of blocks; 0: no replica says it */
    struct poll_peer {  /* then: of workers that are there, the first by their keys */
        uint64_t worker_id;
        uint32_t block_size;
    } peers[2]; /* two: one may be whom it is asked for */
    uint32_t n_peers;
    struct jr_errmsg e;
};

static struct poll_row *find_row(struct poll_job *p, const char *key)
{
    char asked[64];
    for (uint32_t i = 0; i < p->n_rows; i++) {
        snprintf(asked, sizeof asked, "reannounce.%llu.%u",
                 (unsigned long long)p->rows[i].worker_id, p->rows[i].dp_rank);
        if (strcmp(key, asked) == 0)
            return &p->rows[i];
    }
    return NULL;
}

/* A key that cannot be deleted (another revision by now) is met again by the next poll. */
static void take_state(struct poll_job *p, const struct jr_js_kv_entry *entry)
{
    struct poll_row *row;
    if (entry->deleted)
        return;
    if (strcmp(entry->key, "epoch") == 0)
        p->has_epoch = jr_lease_decode_epoch(entry->value, entry->n, &p->epoch, NULL) == 0;
    else if (strncmp(entry->key, "reannounce.", 11) == 0 && (row = find_row(p, entry->key)))
        row->reannounce = jr_js_kv_delete(p->h->state, entry->key, entry->revision, NULL) == 0;
}

static int poll_state(struct poll_job *p)
{
    struct jr_js_kv_list all = {0};
    int err = jr_js_kv_list(p->h->state, &all, &p->e);
    for (uint32_t i = 0; err == 0 && i < all.n; i++)
        take_state(p, &all.entries[i]);
    jr_js_kv_list_deinit(&all);
    return err;
}

static void take_lease(struct poll_job *p, const struct jr_js_kv_entry *entry)
{
    struct jr_worker_lease worker;
    struct jr_replica_lease replica;
    if (entry->deleted)
        return;
    if (p->pool_size == 0 && strncmp(entry->key, "replica.", 8) == 0 &&
        jr_lease_decode_replica(entry->value, entry->n, &replica, NULL) == 0)
        p->pool_size = replica.block_size;
    if (p->n_peers < 2 && strncmp(entry->key, "worker.", 7) == 0 &&
        jr_lease_decode_worker(entry->value, entry->n, &worker, NULL) == 0)
        p->peers[p->n_peers++] = (struct poll_peer){worker.worker_id, worker.block_size};
}

static int poll_others(struct poll_job *p)
{
    struct jr_js_kv_list all = {0};
    int err = jr_js_kv_list(p->h->leases, &all, &p->e);
    for (uint32_t i = 0; err == 0 && i < all.n; i++)
        take_lease(p, &all.entries[i]);
    jr_js_kv_list_deinit(&all);
    return err;
}

/* The leader's lease: what it says of the pool is what the log says. Without one the other replicas and
 * the workers that are there are looked at; the first leader judges all by its own. */
static int poll_leader(struct poll_job *p)
{
    struct jr_js_kv_entry entry = {0};
    struct jr_leader_record leader;
    struct jr_replica_lease replica;
    char key[JR_NAME_MAX + 16];
    int err = jr_js_kv_get(p->h->leases, "leader", &entry, &p->e);
    bool led = err == 0 && jr_lease_decode_leader(entry.value, entry.n, &leader, NULL) == 0;
    jr_js_kv_entry_deinit(&entry);
    if (led) {
        snprintf(key, sizeof key, "replica.%s", leader.id);
        err = jr_js_kv_get(p->h->leases, key, &entry, &p->e);
        if (err == 0 && jr_lease_decode_replica(entry.value, entry.n, &replica, NULL) == 0)
            p->pool_size = replica.block_size;
        jr_js_kv_entry_deinit(&entry);
    }
    if (p->pool_size == 0 && (err == 0 || err == JR_ENOTFOUND))
        err = poll_others(p);
    p->has_size = err == 0;
    return err;
}

static void run_poll(struct jr_job *job)
{
    struct poll_job *p = (struct poll_job *)(void *)job;
    struct jr_stream_info info;
    job->err = poll_state(p);
    if (job->err == 0 && p->want_info)
        job->err = poll_leader(p);
    if (job->err < 0 || !p->want_info)
        return;
    job->err = jr_stream_info(p->h->config.nats, p->h->stream, &info, &p->e);
    if (job->err == 0)
        p->created_ns = info.created_ns;
}

static void on_reannounce(struct jr_bridge_source *s)
{
    uint64_t age = jr_bridge_now_ms() - s->leased_at_ms;
    if (!s->started || jr_bridge_rank_beginning(&s->rank) || age < JR_BRIDGE_REANNOUNCE_GRACE_MS)
        return;
    jr_bridge_source_begin(s, JR_BEGIN_REANNOUNCE, false);
}

static struct jr_bridge_source *source_of(struct jr_bridge_hub *h, const struct poll_row *row)
{
    for (uint32_t i = 0; i < h->n_bridges; i++) {
        struct jr_bridge *b = h->bridges[i];
        for (uint32_t k = 0; b->worker_id == row->worker_id && k < b->n_sources; k++)
            if (jr_bridge_source_has_row(b->sources[k], row->dp_rank))
                return b->sources[k];
    }
    return NULL;
}

static void take_sizes(struct jr_bridge *b, const struct poll_job *p)
{
    b->pool_block_size = p->pool_size;
    b->peer_block_size = 0;
    for (uint32_t i = 0; i < p->n_peers && b->peer_block_size == 0; i++)
        if (p->peers[i].worker_id != b->worker_id)
            b->peer_block_size = p->peers[i].block_size;
    b->asked_pool = true;
}

static void take_poll(struct jr_bridge_hub *h, const struct poll_job *p)
{
    if (p->has_epoch)
        see_epoch(h, &p->epoch);
    if (p->created_ns)
        see_stream(h, p->created_ns);
    for (uint32_t i = 0; i < p->n_rows; i++) {
        struct jr_bridge_source *s = p->rows[i].reannounce ? source_of(h, &p->rows[i]) : NULL;
        if (s)
            on_reannounce(s);
    }
    for (uint32_t i = 0; p->has_size && i < h->n_bridges; i++)
        take_sizes(h->bridges[i], p);
}

void jr_bridge_hub_missing(struct jr_bridge_hub *h, int err)
{
    if (err != JR_ENOTFOUND || h->reopen)
        return;
    h->reopen = true;
    bool deleted = h->seen_in == jr_nats_generation(h->config.nats);
    h->open_at_ms = deleted ? jr_bridge_now_ms() + JR_STREAM_SETTLE_MS : 0;
}

static void done_poll(struct jr_job *job)
{
    struct poll_job *p = (struct poll_job *)(void *)job;
    struct jr_bridge_hub *h = p->h;
    h->polling = false;
    if (job_done(h)) {
        take_poll(h, p);
        if (job->err < 0 && jr_nats_connected(h->config.nats))
            jr_log(JR_LOG_WARN, "bridge.poll_failed", "bucket=%s error=%s words=\"%s\"",
                   h->state_bucket, jr_err_name(job->err), p->e.text);
        if (job->err == 0)
            h->seen_in = p->generation;
        jr_bridge_hub_missing(h, job->err);
    }
    jr_xfree(p->rows);
    jr_xfree(p);
    jr_bridge_hub_maybe_gone(h);
}

static void add_rows(struct poll_job *p, const struct jr_bridge *b)
{
    for (uint32_t k = 0; k < b->n_sources; k++)
        for (uint32_t i = 0; i < b->sources[k]->n_flows; i++)
            p->rows[p->n_rows++] = (struct poll_row){
                b->worker_id, b->sources[k]->flows[i].rank->config.dp_rank, false};
}

static void begin_poll(struct jr_bridge_hub *h)
{
    struct poll_job *p = jr_xalloc(sizeof *p);
    *p = (struct poll_job){.job = {.run = run_poll, .done = done_poll},
                           .h = h,
                           .generation = jr_nats_generation(h->config.nats),
                           .want_info = h->polls % JR_BRIDGE_INFO_EVERY == 0};
    size_t rows_max = (size_t)h->n_bridges * JR_RANKS_INLINE * (1 + JR_LOWERS) + 1;
    p->rows = jr_xalloc(rows_max * sizeof *p->rows);
    for (uint32_t i = 0; i < h->n_bridges; i++)
        add_rows(p, h->bridges[i]);
    h->polling = submit(h, &p->job);
    h->polls++;
    if (h->polling)
        return;
    jr_xfree(p->rows);
    jr_xfree(p);
}

/* ---------------------------------------------------------------- the tick */

/* A silent rank is asked each second; with many of them all share what is asked in one. */
static void pace_checks(struct jr_bridge_hub *h)
{
    uint64_t ranks = 0;
    for (uint32_t i = 0; i < h->n_bridges; i++)
        ranks += h->bridges[i]->n_ranks;
    uint64_t fair = ranks * 1000 / JR_BRIDGE_CHECKS_PER_S;
    h->check_every_ms = fair > JR_BRIDGE_CHECK_EVERY_MS ? fair : JR_BRIDGE_CHECK_EVERY_MS;
}

static void on_tick(void *ctx)
{
    struct jr_bridge_hub *h = ctx;
    uint64_t now = jr_bridge_now_ms();
    pace_checks(h);
    if (h->closing || !jr_nats_connected(h->config.nats))
        return;
    if ((!h->opened || h->reopen) && !h->opening && now >= h->open_at_ms) {
        h->open_at_ms = now + JR_BRIDGE_RETRY_MS;
        begin_open(h);
    }
    if (!h->opened || h->reopen || h->polling || now < h->poll_at_ms)
        return;
    h->poll_at_ms = now + JR_BRIDGE_POLL_MS;
    begin_poll(h);
}

bool jr_bridge_hub_ready(const struct jr_bridge_hub *h)
{
    return h->opened && !h->reopen && !h->closing && jr_nats_connected(h->config.nats);
}

const char *jr_bridge_hub_not_ready(const struct jr_bridge_hub *h)
{
    if (!jr_nats_connected(h->config.nats))
        return "NATS is not reached";
    if (h->open_failed.words.text[0])
        return h->open_failed.words.text;
    return "the streams are not open yet";
}

/* ---------------------------------------------------------------- its bridges */

const struct jr_bridge *jr_bridge_hub_at(const struct jr_bridge_hub *h, uint32_t i)
{
    for (uint32_t k = 0; k < h->n_bridges; k++)
        if (!h->bridges[k]->closing && i-- == 0)
            return h->bridges[k];
    return NULL;
}

int jr_bridge_hub_add(struct jr_bridge_hub *h, struct jr_bridge *b)
{
    if (h->n_bridges == JR_BRIDGES_MAX || h->closing)
        return JR_ELIMIT;
    h->bridges[h->n_bridges++] = b;
    h->polls = 0; /* the pool's block size is the next thing asked */
    h->poll_at_ms = 0;
    return 0;
}

void jr_bridge_hub_remove(struct jr_bridge_hub *h, struct jr_bridge *b)
{
    for (uint32_t i = 0; i < h->n_bridges; i++)
        if (h->bridges[i] == b) {
            memmove(&h->bridges[i], &h->bridges[i + 1],
                    (h->n_bridges - i - 1) * sizeof h->bridges[0]);
            h->n_bridges--;
            return;
        }
}

/* ---------------------------------------------------------------- life */

static void free_hub(struct jr_bridge_hub *h)
{
    jr_timer_destroy(h->tick);
    jr_js_kv_destroy(h->leases);
    jr_js_kv_destroy(h->state);
    jr_lane_destroy(h->nats_lane);
    jr_zmq_group_destroy(h->engines);
    jr_xfree((void *)h->config.namespace_);
    jr_xfree((void *)h->config.component);
    jr_xfree(h);
}

void jr_bridge_hub_maybe_gone(struct jr_bridge_hub *h)
{
    if (!h->ended || h->parts || h->n_bridges)
        return;
    void (*cb)(void *ctx) = h->close_cb;
    void *ctx = h->close_ctx;
    free_hub(h);
    if (cb)
        cb(ctx);
}

static void on_publisher_closed(void *ctx)
{
    struct jr_bridge_hub *h = ctx;
    h->parts--;
    jr_bridge_hub_maybe_gone(h);
}

static void end_lane(struct jr_lane **lane)
{
    struct jr_lane *ending = *lane;
    *lane = NULL;
    jr_lane_destroy(ending); /* waits for its running job, at most a request time-out */
}

/* All bridges have ended: what they still wait for comes out now. */
static void end(struct jr_bridge_hub *h)
{
    h->ended = true;
    h->parts++; /* ours: nothing is freed before this function is through */
    jr_timer_stop(h->tick);
    if (h->publisher) {
        h->parts++;
        jr_js_publisher_close(h->publisher, on_publisher_closed, h);
    }
    end_lane(&h->nats_lane);
    h->parts--;
    jr_bridge_hub_maybe_gone(h);
}

void jr_bridge_hub_maybe_ended(struct jr_bridge_hub *h)
{
    if (!h->closing || h->ended)
        return;
    for (uint32_t i = 0; i < h->n_bridges; i++)
        if (!h->bridges[i]->ended)
            return;
    end(h);
}

void jr_bridge_hub_close(struct jr_bridge_hub *h, void (*cb)(void *ctx), void *ctx)
{
    JR_ASSERT(!h->closing);
    h->closing = true;
    h->close_cb = cb;
    h->close_ctx = ctx;
    for (uint32_t i = 0; i < h->n_bridges; i++)
        if (!h->bridges[i]->closing)
            jr_bridge_close(h->bridges[i], NULL, NULL);
    jr_bridge_hub_maybe_ended(h);
}

static int name_things(struct jr_bridge_hub *h)
{
    const char *ns = h->config.namespace_, *component = h->config.component;
    int err = jr_stream_name(JR_STREAM_EVENTS, ns, component, h->stream);
    if (err == 0)
        err = jr_stream_name(JR_STREAM_LEASES, ns, component, h->leases_bucket);
    if (err == 0)
        err = jr_stream_name(JR_STREAM_STATE, ns, component, h->state_bucket);
    snprintf(h->subject, sizeof h->subject, "%s.%s", h->stream,
             h->config.event_json ? JR_SUBJECT_DYNAMO : JR_SUBJECT_BATCH);
    return err;
}

static int make_threads(struct jr_bridge_hub *h)
{
    struct jr_zmq_group_config engines = {.sockets_max = JR_BRIDGE_SOCKETS_MAX};
    int err = jr_lane_create(h->config.loop, "jr-bridge-nats", JR_BRIDGE_LANE_DEPTH, &h->nats_lane);
    return err == 0 ? jr_zmq_group_create(&engines, &h->engines, NULL) : err;
}

int jr_bridge_hub_create(const struct jr_bridge_hub_config *config, struct jr_bridge_hub **ret,
                         struct jr_errmsg *e)
{
    struct jr_bridge_hub *h = jr_xalloc(sizeof *h);
    h->config = *config;
    h->config.namespace_ = jr_xstrdup(config->namespace_);
    h->config.component = jr_xstrdup(config->component);
    h->ttl_ms = config->lease_ttl_ms;
    h->check_every_ms = JR_BRIDGE_CHECK_EVERY_MS;
    int err = name_things(h);
    if (err == 0)
        err = make_threads(h);
    if (err < 0) {
        free_hub(h);
        return jr_errmsg_set(e, err, "cannot start bridges of %.100s/%.100s: %s",
                             config->namespace_, config->component, jr_err_text(err));
    }
    h->tick = jr_timer_create(config->loop, on_tick, h);
    jr_timer_start(h->tick, 0, JR_BRIDGE_TICK_MS);
    *ret = h;
    return 0;
}
