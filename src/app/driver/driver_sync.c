/* SPDX-License-Identifier: Apache-2.0 */
/* The sync stream: memory only, read from its start at every (re)connection. docs/protocol.md §6. */
#include "app/driver/driver_internal.h"

#include "base/log.h"
#include "wire/sync_codec.h"

#include <string.h>

#define ACK_PATIENCE_MS 20 /* a failure is answered by a base, which takes its time anyway */
#define OWN_PATIENCE_MS 20 /* of a reader to which nobody talks */
#define BASES_KEPT      3  /* so many intervals: a base of each replica is always there */
#define SUBJECT_MAX     (JR_STREAM_NAME_MAX + JR_NAME_MAX + 2)

/* Where we publish; ret holds SUBJECT_MAX bytes. */
static void own_subject(const struct jr_driver *d, char *ret)
{
    snprintf(ret, SUBJECT_MAX, "%s.%s", d->sync_stream, d->config.pool.replica_id);
}

/* Of what we say ourselves nothing is handed over, but the reader wakes for each. Nobody need wait for
 * that while the stream holds no word of a peer: the first one comes a little late, once. */
static void set_patience(struct jr_driver *d)
{
    const uint64_t kept_ms = d->config.pool.base_interval_ms * BASES_KEPT;
    const bool heard = d->sync_peer && jr_loop_now_ms(d->loop) - d->sync_peer_ms <= kept_ms;
    jr_js_reader_patience(d->sync_reader, d->sync_live && !heard ? OWN_PATIENCE_MS : 0);
}

static void heard_peer(struct jr_driver *d)
{
    d->sync_peer = true;
    d->sync_peer_ms = jr_loop_now_ms(d->loop);
    set_patience(d);
}

/* What was stored before we came says nothing of delays. */
static void note_delay(struct jr_driver *d, int64_t stored_ns)
{
    double ms = (double)(jr_unix_ns() - stored_ns) / 1e6;
    if (!d->sync_live)
        return;
    if (ms < 0)
        ms = 0;
    d->stats.sync_delay_ms += (ms - d->stats.sync_delay_ms) / 16;
    if (d->config.on_sync_delay)
        d->config.on_sync_delay(d->config.ctx, d->config.pool.component, ms / 1000);
}

static void on_batch(struct jr_driver *d, const struct jr_js_msg *m)
{
    struct jr_arena arena;
    jr_arena_init(&arena, JR_SYNC_ARENA_MAX);
    struct jr_sync_batch batch;
    struct jr_errmsg e = {0};
    int err = jr_sync_decode(m->payload, m->n, &arena, &batch, &e);
    if (err < 0) {
        jr_log(JR_LOG_WARN, "sync.unreadable", "subject=%s error=%s words=\"%s\"", m->subject,
               jr_err_name(err), e.text);
    } else if (strcmp(batch.replica, d->config.pool.replica_id) != 0) {
        heard_peer(d);
        note_delay(d, m->time_ns);
        struct jr_event ev = {.type = JR_EV_SYNC};
        ev.u.sync = &batch;
        jr_driver_step(d, &ev);
    }
    jr_arena_deinit(&arena);
}

static void on_sync_msg(struct jr_js_msg *m, void *ctx)
{
    struct jr_driver *d = ctx;
    if (m->kind == JR_READ_MSG) {
        on_batch(d, m);
    } else if (m->kind == JR_READ_LIVE || m->kind == JR_READ_LOST) {
        d->sync_live = m->kind == JR_READ_LIVE;
        set_patience(d);
        struct jr_event ev = {.type = d->sync_live ? JR_EV_SYNC_OPENED : JR_EV_SYNC_BROKEN};
        jr_driver_step(d, &ev);
    }
    jr_js_msg_destroy(m);
}

int jr_driver_sync_start(struct jr_driver *d)
{
    if (!d->config.pool.replica_sync)
        return 0;
    struct jr_js_publisher_config publisher = {
        .nats = d->nats, .loop = d->loop, .timeout_ms = 2000, .patience_ms = ACK_PATIENCE_MS};
    int err = d->publisher ? 0 : jr_js_publisher_create(&publisher, &d->publisher);
    if (err < 0)
        return err;
    char own[SUBJECT_MAX];
    own_subject(d, own);
    struct jr_stream_config stream;
    /* Replicas as the others: it is small. */
    jr_stream_config_sync(&stream, d->sync_stream,
                          (int64_t)d->config.pool.base_interval_ms * BASES_KEPT,
                          d->config.nats_replicas);
    struct jr_js_reader_config reader = {.nats = d->nats,
                                         .loop = d->loop,
                                         .stream = d->sync_stream,
                                         .skip_subject = own,
                                         .from = JR_READ_ALL,
                                         .create = &stream,
                                         .on_msg = on_sync_msg,
                                         .ctx = d};
    return jr_js_reader_create(&reader, &d->sync_reader);
}

static void leave(struct jr_driver *d)
{
    jr_timer_stop(d->leave_timer);
    if (d->left)
        return;
    d->left = true;
    jr_driver_release_leases(d);
}

static void on_leave_timer(void *ctx)
{
    leave(ctx);
}

/* Whatever goes last is acknowledged after the pool has nothing more to say. */
static bool has_said_all(const struct jr_driver *d)
{
    return d->sync_unacked == 0 && !jr_pool_is_leaving(d->pool);
}

void jr_driver_leave(struct jr_driver *d)
{
    struct jr_event ev = {.type = JR_EV_LEAVING};
    d->leave_timer = jr_timer_create(d->loop, on_leave_timer, d);
    jr_driver_step(d, &ev);
    d->leaving = true;
    if (has_said_all(d) || !d->connected)
        leave(d);
    else
        jr_timer_start(d->leave_timer, JR_DRIVER_LEAVE_MS, 0);
}

static void on_ack(void *ctx, int err, const struct jr_pub_ack *ack)
{
    (void)ack;
    struct jr_driver *d = ctx;
    d->sync_unacked--;
    if (d->leaving && has_said_all(d))
        leave(d);
    if (err == 0 || d->closing || d->leaving)
        return;
    struct jr_event ev = {.type = JR_EV_SYNC_FAILED};
    jr_driver_step(d, &ev);
}

void jr_driver_publish_sync(struct jr_driver *d, const struct jr_sync_batch *batch)
{
    if (!d->publisher)
        return;
    struct jr_buf b;
    jr_buf_init(&b, JR_BATCH_BYTES_MAX);
    int err = jr_sync_encode(batch, &b);
    char subject[SUBJECT_MAX];
    own_subject(d, subject);
    struct jr_pub pub = {
        .subject = subject, .payload = b.p, .n = b.n, .rollup = batch->is_base && batch->part == 0};
    if (err == 0)
        err = jr_js_publish_async(d->publisher, &pub, on_ack, d);
    jr_buf_deinit(&b);
    d->sync_unacked += err == 0;
    if (batch->is_base && d->sync_reader)
        set_patience(d); /* now and then: a peer may be gone */
    if (err == 0)
        return;
    jr_log(JR_LOG_WARN, "sync.not_published", "error=%s", jr_err_name(err));
    d->sync_failed = true; /* told when this step's actions are through */
}
