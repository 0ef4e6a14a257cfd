/* SPDX-License-Identifier: Apache-2.0 */
/* The session stream: the last word of each session, read from its start at every (re)connection.
 * docs/protocol.md §6. */
#include "app/driver/driver_internal.h"

#include "base/log.h"
#include "wire/session_codec.h"

#include <inttypes.h>

#define SUBJECT_MAX (JR_STREAM_NAME_MAX + 20)

/* A word on its way: whose it is, should it not arrive. */
struct telling {
    struct jr_driver *d;
    uint64_t session;
};

bool jr_driver_has_sessions(const struct jr_driver *d)
{
    return d->config.pool.session_ttl_ms && d->config.pool.replica_sync;
}

static void stream_config(const struct jr_driver *d, struct jr_stream_config *ret)
{
    jr_stream_config_sessions(ret, d->sessions_stream, (int64_t)d->config.pool.session_ttl_ms,
                              d->config.nats_replicas);
}

/* ---------------------------------------------------------------- how long words are kept */

struct keep_job {
    struct jr_job job;
    struct jr_driver *d;
    int64_t oldest_ms, future_ms; /* as the driver's when the stream was read */
    int64_t clock_off_ms;
    struct jr_errmsg e;
};

/* Whoever made the stream may have wanted less. */
static int raise_age(struct keep_job *k)
{
    struct jr_driver *d = k->d;
    struct jr_stream_config config;
    struct jr_stream_info info;
    stream_config(d, &config);
    int err = jr_stream_info(d->nats, d->sessions_stream, &info, &k->e);
    if (err < 0)
        return err;
    k->clock_off_ms = jr_sessions_clock_off(k->oldest_ms, k->future_ms, info.max_age_ms);
    return jr_stream_raise_max_age(d->nats, d->sessions_stream, config.max_age_ms, &k->e);
}

static void run_keep(struct jr_job *job)
{
    struct keep_job *k = (struct keep_job *)(void *)job;
    job->err = raise_age(k);
}

static void done_keep(struct jr_job *job)
{
    struct keep_job *k = (struct keep_job *)(void *)job;
    bool open = jr_driver_job_done(k->d);
    if (open && k->clock_off_ms)
        jr_log(JR_LOG_WARN, "sessions.clock_off", "stream=%s ahead_ms=%lld", k->d->sessions_stream,
               (long long)k->clock_off_ms);
    if (open && job->err < 0)
        jr_log(JR_LOG_WARN, "sessions.kept_short", "stream=%s error=%s words=\"%s\"",
               k->d->sessions_stream, jr_err_name(job->err), k->e.text);
    jr_driver_maybe_closed(k->d);
    jr_xfree(k);
}

static void keep_long_enough(struct jr_driver *d)
{
    struct keep_job *k = jr_xalloc(sizeof *k);
    *k = (struct keep_job){.job = {.run = run_keep, .done = done_keep},
                           .d = d,
                           .oldest_ms = d->sessions_oldest_ms,
                           .future_ms = d->sessions_future_ms};
    if (!jr_driver_submit(d, d->bulk_lane, &k->job))
        jr_xfree(k);
}

/* ---------------------------------------------------------------- words that come */

/* Once the stream is read to its end, what comes has just been said, whatever the clocks say. */
static uint64_t age_ms(struct jr_driver *d, int64_t stored_ns)
{
    if (d->sessions_live)
        return 0;
    int64_t age = (jr_unix_ns() - stored_ns) / 1000000;
    if (age > d->sessions_oldest_ms)
        d->sessions_oldest_ms = age;
    if (-age > d->sessions_future_ms)
        d->sessions_future_ms = -age;
    return age > 0 ? (uint64_t)age : 0;
}

static void on_word(struct jr_driver *d, const struct jr_js_msg *m)
{
    struct jr_event ev = {.type = JR_EV_SESSION};
    struct jr_errmsg e = {0};
    int err = jr_session_decode(m->payload, m->n, &ev.u.session.word, &e);
    if (err < 0) {
        jr_log(JR_LOG_WARN, "session.unreadable", "subject=%s error=%s words=\"%s\"", m->subject,
               jr_err_name(err), e.text);
        return;
    }
    ev.u.session.age_ms = age_ms(d, m->time_ns);
    jr_driver_step(d, &ev);
}

static void on_live(struct jr_driver *d, bool live, const char *why)
{
    struct jr_event ev = {.type = live ? JR_EV_SESSIONS_OPENED : JR_EV_SESSIONS_BROKEN};
    d->sessions_live = live;
    if (live)
        keep_long_enough(d);
    else if (jr_nats_connected(d->nats))
        jr_log(JR_LOG_WARN, "sessions.lost", "stream=%s words=\"%s\"", d->sessions_stream, why);
    d->sessions_oldest_ms = d->sessions_future_ms = 0;
    jr_driver_step(d, &ev);
}

static void on_session_msg(struct jr_js_msg *m, void *ctx)
{
    struct jr_driver *d = ctx;
    if (m->kind == JR_READ_MSG)
        on_word(d, m);
    else if (m->kind == JR_READ_LIVE || m->kind == JR_READ_LOST)
        on_live(d, m->kind == JR_READ_LIVE, m->text);
    jr_js_msg_destroy(m);
}

/* ---------------------------------------------------------------- words that go */

int jr_driver_sessions_start(struct jr_driver *d)
{
    if (!jr_driver_has_sessions(d) || d->sessions_reader)
        return 0;
    struct jr_js_publisher_config publisher = {
        .nats = d->nats, .loop = d->loop, .timeout_ms = 2000};
    int err = d->session_publisher ? 0 : jr_js_publisher_create(&publisher, &d->session_publisher);
    if (err < 0)
        return err;
    struct jr_stream_config stream;
    stream_config(d, &stream);
    struct jr_js_reader_config reader = {.nats = d->nats,
                                         .loop = d->loop,
                                         .stream = d->sessions_stream,
                                         .from = JR_READ_ALL,
                                         .create = &stream,
                                         .on_msg = on_session_msg,
                                         .ctx = d};
    return jr_js_reader_create(&reader, &d->sessions_reader);
}

static void failed(struct jr_driver *d, uint64_t session)
{
    struct jr_event ev = {.type = JR_EV_SESSION_FAILED};
    ev.u.session.word.session = session;
    jr_driver_step(d, &ev);
}

static void on_ack(void *ctx, int err, const struct jr_pub_ack *ack)
{
    (void)ack;
    struct telling *t = ctx;
    if (err < 0 && !t->d->closing)
        failed(t->d, t->session);
    jr_xfree(t);
}

void jr_driver_tell_session(struct jr_driver *d, const struct jr_session_word *word)
{
    if (!d->session_publisher)
        return;
    struct jr_buf b;
    jr_buf_init(&b, JR_SESSION_BYTES_MAX);
    char subject[SUBJECT_MAX];
    snprintf(subject, sizeof subject, "%s.%016" PRIx64, d->sessions_stream, word->session);
    struct telling *t = jr_xalloc(sizeof *t);
    *t = (struct telling){d, word->session};
    int err = jr_session_encode(word, &b);
    struct jr_pub pub = {.subject = subject, .payload = b.p, .n = b.n};
    if (err == 0)
        err = jr_js_publish_async(d->session_publisher, &pub, on_ack, t);
    jr_buf_deinit(&b);
    if (err == 0)
        return;
    jr_xfree(t);
    failed(d, word->session);
}
