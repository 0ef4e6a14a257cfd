/* SPDX-License-Identifier: Apache-2.0 */
/* The event stream: streams and buckets made, facts asked, messages read, decoded and fed. */
#include "app/driver/driver_internal.h"

#include "base/failpoint.h"
#include "base/cursor.h"
#include "base/limit.h"
#include "base/log.h"

#include <pthread.h>
#include <string.h>

#define EVENTS_PATIENCE_MS 4 /* less than an engine's step: ADR 26 */

/* ---------------------------------------------------------------- opening */

struct open_job {
    struct jr_job job;
    struct jr_driver *d;
    bool first;
    struct jr_js_kv *leases, *state;
    int64_t ttl_ms; /* of the lease bucket */
    struct jr_object_store *store;
    struct jr_js_kv_list
        set; /* the first time: what the state bucket holds; then there is a watch */
    struct jr_stream_info info;
    struct jr_errmsg e;
};

static int open_stream(struct open_job *o)
{
    struct jr_driver *d = o->d;
    struct jr_stream_config config;
    jr_stream_config_events(&config, d->stream, (int64_t)d->config.stream_max_bytes,
                            d->config.nats_replicas);
    int err = jr_nats_check_jetstream(d->nats, &o->e);
    return err < 0 ? err : jr_stream_open(d->nats, &config, &o->info, &o->e);
}

static int open_buckets(struct open_job *o)
{
    struct jr_driver *d = o->d;
    struct jr_js_kv_config leases = {.bucket = d->leases_bucket,
                                     .ttl_ms = (int64_t)d->config.pool.lease_ttl_ms,
                                     .replicas = d->config.nats_replicas};
    struct jr_js_kv_config state = {.bucket = d->state_bucket, .replicas = d->config.nats_replicas};
    struct jr_object_store_config store = {.bucket = d->snapshots_bucket,
                                           .replicas = d->config.nats_replicas};
    int err = jr_js_kv_open(d->nats, &leases, &o->leases, &o->ttl_ms, &o->e);
    if (err == 0)
        err = jr_js_kv_open(d->nats, &state, &o->state, NULL, &o->e);
    if (err == 0 && o->first)
        err = jr_js_kv_list(o->state, &o->set, &o->e);
    if (err == 0)
        err = jr_object_store_open(d->nats, &store, &o->store, &o->e);
    return err;
}

static void run_open(struct jr_job *job)
{
    struct open_job *o = (struct open_job *)(void *)job;
    job->err = open_stream(o);
    if (job->err == 0)
        job->err = open_buckets(o);
}

static void free_open(struct open_job *o)
{
    jr_js_kv_destroy(o->leases);
    jr_js_kv_destroy(o->state);
    jr_object_store_destroy(o->store);
    jr_js_kv_list_deinit(&o->set);
    jr_xfree(o);
}

static void open_failed(struct jr_driver *d, struct open_job *o)
{
    struct jr_errmsg why = o->e;
    (void)jr_errmsg_wrap(&why, o->job.err, "the streams cannot be opened");
    if (jr_retold_say(&d->open_failed, why.text, jr_driver_now_ms()))
        jr_log(JR_LOG_WARN, "nats.open_failed", "stream=%s error=%s words=\"%s\"", d->stream,
               jr_err_name(o->job.err), o->e.text);
    bool hopeless = o->job.err == JR_ENOJETSTREAM && !d->opened;
    if (hopeless && d->config.on_fatal)
        d->config.on_fatal(d->config.ctx, o->job.err, o->e.text);
    else
        jr_timer_start(d->open_retry, JR_DRIVER_RETRY_MS, 0);
}

/* The handles of the first time are kept: jobs may be using them. */
static void take_handles(struct jr_driver *d, struct open_job *o)
{
    if (d->opened)
        return;
    d->leases = o->leases;
    d->state = o->state;
    d->store = o->store;
    o->leases = o->state = NULL;
    o->store = NULL;
    d->opened = true;
    jr_driver_busy_take(d, &o->set); /* before a request can be decided */
    d->stats.stream_last_at_start = o->info.last_seq;
}

/* Bridges and replicas go by the bucket's time, whoever made it. */
static void take_ttl(struct jr_driver *d, const struct open_job *o)
{
    uint64_t configured = d->config.pool.lease_ttl_ms;
    if (o->ttl_ms > 0 && (uint64_t)o->ttl_ms != configured) {
        jr_log(JR_LOG_WARN, "lease.other_ttl", "bucket=%s ttl_ms=%lld configured_ms=%llu",
               d->leases_bucket, (long long)o->ttl_ms, (unsigned long long)configured);
        d->config.pool.lease_ttl_ms = (uint64_t)o->ttl_ms;
    }
}

static void tell_connected(struct jr_driver *d)
{
    if (d->connected)
        return;
    d->connected = true;
    struct jr_event ev = {.type = JR_EV_NATS};
    ev.u.nats.connected = true;
    ev.u.nats.lease_ttl_ms = d->config.pool.lease_ttl_ms;
    jr_driver_step(d, &ev);
}

/* What routing does not rest on: it is tried again while that goes on. */
static void start_readers(struct jr_driver *d)
{
    int sync = d->sync_reader ? 0 : jr_driver_sync_start(d);
    int sessions = jr_driver_sessions_start(d);
    if (sync < 0)
        jr_log(JR_LOG_ERROR, "sync.start_failed", "stream=%s", d->sync_stream);
    if (sessions < 0)
        jr_log(JR_LOG_ERROR, "sessions.start_failed", "stream=%s", d->sessions_stream);
    if (jr_driver_busy_watch(d) < 0 || sync < 0 || sessions < 0)
        jr_timer_start(d->open_retry, JR_DRIVER_RETRY_MS, 0);
}

static void done_open(struct jr_job *job)
{
    struct open_job *o = (struct open_job *)(void *)job;
    struct jr_driver *d = o->d;
    bool go_on = jr_driver_job_done(d);
    d->opening = false;
    bool same = d->opening_generation == jr_nats_generation(d->nats);
    if (go_on && job->err < 0) {
        open_failed(d, o);
    } else if (go_on && (!same || !jr_nats_connected(d->nats))) {
        jr_driver_open(d); /* it went meanwhile: at once, or when it is back */
    } else if (go_on) {
        jr_retold_over(&d->open_failed);
        take_handles(d, o);
        take_ttl(d, o);
        start_readers(d);
        tell_connected(d);
    }
    free_open(o);
    jr_driver_maybe_closed(d);
}

void jr_driver_open(struct jr_driver *d)
{
    if (d->opening || d->closing || !jr_nats_connected(d->nats))
        return;
    struct open_job *o = jr_xalloc(sizeof *o);
    *o =
        (struct open_job){.job = {.run = run_open, .done = done_open}, .d = d, .first = !d->opened};
    d->opening_generation = jr_nats_generation(d->nats);
    d->opening =
        JR_FAILPOINT("driver.no_room_open") == 0 && jr_driver_submit(d, d->control_lane, &o->job);
    if (d->opening)
        return;
    jr_xfree(o);
    jr_timer_start(d->open_retry, JR_DRIVER_RETRY_MS, 0); /* the lane is full */
}

void jr_driver_make_missing(struct jr_driver *d, int err)
{
    if (err != JR_ENOTFOUND || d->missing || d->closing)
        return;
    d->missing = true;
    jr_timer_start(d->open_retry, JR_STREAM_SETTLE_MS, 0);
}

/* ---------------------------------------------------------------- facts */

struct info_job {
    struct jr_job job;
    struct jr_driver *d;
    uint64_t seq;
    struct jr_stream_facts facts;
    struct jr_driver_skips skips;
};

static void take_skip(struct info_job *i, const struct jr_js_kv_entry *entry)
{
    static const char prefix[] = "skip.";
    size_t n = sizeof prefix - 1;
    uint64_t seq, created;
    if (entry->deleted || strncmp(entry->key, prefix, n) != 0)
        return;
    if (jr_parse_u64(entry->key + n, strlen(entry->key) - n, &seq) < 0 ||
        jr_parse_u64((const char *)entry->value, entry->n, &created) < 0) {
        jr_log(JR_LOG_WARN, "skip.unreadable", "key=%s", entry->key);
        return;
    }
    if (created != (uint64_t)i->facts.created_ns) /* of a stream that is no more */
        return;
    if (i->skips.n < JR_SKIPS_MAX) {
        i->skips.seqs[i->skips.n++] = seq;
        return;
    }
    jr_limit_reached(JR_LIMIT_SKIPS);
    jr_log(JR_LOG_ERROR, "skip.too_many", "seq=%llu limit=%d", (unsigned long long)seq,
           JR_SKIPS_MAX);
}

/* Read before each replay: what crashes a fleet must be known before it is decoded. */
static int read_skips(struct info_job *i, struct jr_errmsg *e)
{
    struct jr_js_kv_list all = {0};
    int err = jr_js_kv_list(i->d->state, &all, e);
    for (uint32_t k = 0; err == 0 && k < all.n; k++)
        take_skip(i, &all.entries[k]);
    jr_js_kv_list_deinit(&all);
    return err;
}

int jr_driver_facts(struct jr_driver *d, struct jr_stream_facts *ret, struct jr_errmsg *e)
{
    struct jr_stream_info info;
    struct jr_stream_foreign foreign;
    int err = jr_stream_info(d->nats, d->stream, &info, e);
    if (err == 0)
        err = jr_stream_foreign(d->nats, d->stream, &foreign, e);
    if (err < 0)
        return err;
    *ret = (struct jr_stream_facts){
        .created_ns = info.created_ns,
        .first_seq = info.first_seq,
        .last_seq = info.last_seq,
        .bytes = info.bytes,
        .bytes_max = info.max_bytes > 0 ? (uint64_t)info.max_bytes : 0,
        .max_age_ms = info.max_age_ms,
        .discard_old = info.discard_old,
        .foreign = foreign.n,
        .foreign_ack_floor = foreign.ack_floor,
    };
    return 0;
}

/* *ret NULL: the stream has no such message. */
static int look_at(struct info_job *i, uint64_t seq, struct jr_stored **ret, struct jr_errmsg *e)
{
    *ret = NULL;
    if (seq == 0 || seq < i->facts.first_seq || seq > i->facts.last_seq)
        return 0;
    int err = jr_stored_get(i->d->nats, i->d->stream, seq, ret, e);
    return err == JR_ENOTFOUND ? 0 : err;
}

/* The message at the position, and whether there is the one behind it, which is read next. */
static int look_at_place(struct info_job *i, struct jr_errmsg *e)
{
    struct jr_stored *here, *next = NULL;
    int err = look_at(i, i->seq, &here, e);
    if (err == 0 && here) {
        i->facts.has_msg = true;
        i->facts.msg_time_ns = here->time_ns;
        i->facts.msg_hash = here->payload_hash;
    }
    if (err == 0)
        err = look_at(i, i->seq + 1, &next, e);
    i->facts.next_gone = err == 0 && !next && i->seq < i->facts.last_seq;
    jr_stored_destroy(here);
    jr_stored_destroy(next);
    return err;
}

static void run_info(struct jr_job *job)
{
    struct info_job *i = (struct info_job *)(void *)job;
    struct jr_errmsg e = {0};
    job->err = jr_driver_facts(i->d, &i->facts, &e);
    if (job->err == 0)
        job->err = read_skips(i, &e);
    if (job->err == 0 && i->seq > 0)
        job->err = look_at_place(i, &e);
}

static void done_info(struct jr_job *job)
{
    struct info_job *i = (struct info_job *)(void *)job;
    struct jr_driver *d = i->d;
    if (jr_driver_job_done(d)) {
        jr_driver_make_missing(d, job->err);
        if (job->err == 0)
            d->skips = i->skips;
        struct jr_event ev = {.type = JR_EV_STREAM_INFO};
        ev.u.stream.err = job->err;
        ev.u.stream.facts = i->facts;
        jr_driver_step(d, &ev);
    }
    jr_xfree(i);
    jr_driver_maybe_closed(d);
}

void jr_driver_stream_info(struct jr_driver *d, uint64_t seq)
{
    struct info_job *i = jr_xalloc(sizeof *i);
    *i = (struct info_job){.job = {.run = run_info, .done = done_info}, .d = d, .seq = seq};
    if (JR_FAILPOINT("driver.no_room_info") == 0 && jr_driver_submit(d, d->control_lane, &i->job))
        return;
    jr_xfree(i);
    struct jr_event ev = {.type = JR_EV_STREAM_INFO}; /* the pool asks again */
    ev.u.stream.err = JR_ELIMIT;
    jr_driver_step(d, &ev);
}

/* ---------------------------------------------------------------- reading */

/* A message decoded on one of the reader's threads; it and its arrays live in the message's arena. */
struct decoded {
    struct jr_log_msg msg;
    bool failed;
};

static pthread_key_t decoder_key;
static pthread_once_t decoder_once = PTHREAD_ONCE_INIT;

static void free_decoder(void *p)
{
    jr_event_decoder_destroy(p);
}

static void make_decoder_key(void)
{
    (void)pthread_key_create(&decoder_key, free_decoder);
}

/* One a thread; it ends with its thread. */
static struct jr_event_decoder *decoder_of_thread(void)
{
    pthread_once(&decoder_once, make_decoder_key);
    struct jr_event_decoder *x = pthread_getspecific(decoder_key);
    if (!x) {
        x = jr_event_decoder_create();
        (void)pthread_setspecific(decoder_key, x);
    }
    return x;
}

struct jr_str jr_driver_last_token(struct jr_str subject)
{
    size_t at = subject.n;
    while (at > 0 && subject.p[at - 1] != '.')
        at--;
    return jr_str_of(subject.p + at, subject.n - at);
}

static struct jr_event_ids ids_of(struct jr_js_msg *m)
{
    return jr_event_ids_parse(jr_js_msg_header(m, JR_HEADER_INCARNATION),
                              jr_js_msg_header(m, JR_HEADER_FIRST_ID),
                              jr_js_msg_header(m, JR_HEADER_BEGIN));
}

/* Of one reader: what its threads look at. */
struct jr_driver_log_reader {
    struct jr_driver *d;
    struct jr_driver_skips skips;
};

bool jr_driver_is_skipped(const struct jr_driver_skips *skips, uint64_t seq)
{
    for (uint32_t i = 0; i < skips->n; i++)
        if (skips->seqs[i] == seq)
            return true;
    return false;
}

/* A message that ends whoever decodes it: log.decode_{seq}. */
static bool decode_fails(uint64_t seq)
{
#ifdef JR_FAILPOINTS
    char name[48];
    snprintf(name, sizeof name, "log.decode_%llu", (unsigned long long)seq);
    return jr_failpoint_hit(name) < 0;
#else
    (void)seq;
    return false;
#endif
}

/* One of the reader's threads. */
static void decode(struct jr_js_msg *m, void *ctx)
{
    const struct jr_driver_log_reader *r = ctx;
    struct jr_str token = jr_driver_last_token(jr_str_of(m->subject, strlen(m->subject)));
    struct jr_event_ids ids = {0};
    struct decoded *x = jr_arena_alloc(m->arena, sizeof *x);
    if (!x) /* no room for a few bytes: feed takes it for broken */
        return;
    *x = (struct decoded){0};
    if (jr_str_eq(token, JR_SUBJECT_DYNAMO))
        ids = ids_of(m);
    if (jr_driver_is_skipped(&r->skips, m->seq))
        x->msg.kind = JR_LOG_KIND_SKIPPED;
    else
        x->failed = decode_fails(m->seq) || jr_event_decode(decoder_of_thread(), token, m->payload,
                                                            m->n, &ids, m->arena, &x->msg) < 0;
    x->msg.seq = m->seq;
    x->msg.time_ns = m->time_ns;
    x->msg.payload_hash = m->payload_hash;
    x->msg.on_control = jr_str_eq(token, JR_SUBJECT_CONTROL);
    m->decoded = x;
    jr_js_msg_drop_payload(m);
}

static void count_events(const struct jr_kv_batch *b, uint32_t *stored, uint32_t *removed,
                         uint32_t *cleared)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        *stored += b->events[i].type == JR_KV_STORED ? b->events[i].n : 0;
        *removed += b->events[i].type == JR_KV_REMOVED ? b->events[i].n : 0;
        *cleared += b->events[i].type == JR_KV_CLEARED;
    }
}

static void tail_line(struct jr_driver *d, const struct jr_log_msg *m)
{
    static const char *const kinds[] = {"",        "batch",  "control", "undecodable",
                                        "too_new", "skipped"};
    char line[512];
    int n = snprintf(line, sizeof line, "{\"seq\":%llu,\"time_ns\":%lld,\"kind\":\"%s\"",
                     (unsigned long long)m->seq, (long long)m->time_ns, kinds[m->kind]);
    size_t at = (size_t)n;
    if (m->kind == JR_LOG_KIND_BATCH) {
        const struct jr_kv_batch *b = &m->u.batch;
        uint32_t stored = 0, removed = 0, cleared = 0;
        count_events(b, &stored, &removed, &cleared);
        snprintf(line + at, sizeof line - at,
                 ",\"worker_id\":\"%llu\",\"dp_rank\":%u,\"incarnation\":\"%llu\","
                 "\"first_id\":%llu,\"events\":%u,\"begin\":%s,\"blocks_stored\":%u,"
                 "\"blocks_removed\":%u,\"cleared\":%u}",
                 (unsigned long long)b->worker_id, b->dp_rank, (unsigned long long)b->incarnation,
                 (unsigned long long)b->first_id, b->n_events, b->begin ? "true" : "false", stored,
                 removed, cleared);
    } else {
        snprintf(line + at, sizeof line - at, ",\"control\":%d}",
                 m->kind == JR_LOG_KIND_CONTROL ? (int)m->u.control.type : 0);
    }
    d->config.on_tail(d->config.ctx, line);
}

/* Test builds: this replica applies a store otherwise than its peers. */
static void diverge(struct jr_log_msg *m)
{
    if (m->kind != JR_LOG_KIND_BATCH || m->u.batch.n_events == 0)
        return;
    const struct jr_kv_event *first = m->u.batch.events;
    if (first->type == JR_KV_STORED && first->n > 0 && JR_FAILPOINT("log.diverge") < 0)
        ((struct jr_kv_block *)(uintptr_t)first->blocks)->local_hash ^= 1;
}

/* What is read again, or late after an outage, says nothing of delays. */
static void note_delay(struct jr_driver *d, int64_t stored_ns)
{
    if (!d->log_live || !d->config.on_event_delay)
        return;
    double seconds = (double)(jr_unix_ns() - stored_ns) / 1e9;
    d->config.on_event_delay(d->config.ctx, d->config.pool.component, seconds > 0 ? seconds : 0);
}

static void feed(struct jr_driver *d, struct jr_js_msg *m)
{
    struct decoded *x = m->decoded;
    bool failed = !x || x->failed || JR_FAILPOINT("log.before_apply") < 0;
    if (!failed)
        diverge(&x->msg);
    struct jr_event ev = {.type = failed ? JR_EV_READER_BROKEN : JR_EV_LOG};
    if (!failed)
        ev.u.log = &x->msg;
    jr_driver_step(d, &ev);
    if (d->tail && d->config.on_tail && !failed)
        tail_line(d, &x->msg);
    jr_js_msg_destroy(m);
}

static void on_log_msg(struct jr_js_msg *m, void *ctx)
{
    struct jr_driver *d = ctx;
    switch (m->kind) {
    case JR_READ_MSG:
        note_delay(d, m->time_ns);
        feed(d, m);
        return;
    case JR_READ_STOPPED:
        d->log_live = false;
        jr_log(JR_LOG_WARN, "stream.stopped", "stream=%s error=%s words=\"%s\"", d->stream,
               jr_err_name(m->err), m->text);
        jr_js_msg_destroy(m);
        struct jr_event ev = {.type = JR_EV_READER_BROKEN};
        jr_driver_step(d, &ev);
        return;
    case JR_READ_LOST:
        d->log_live = false;
        jr_log(JR_LOG_WARN, "stream.lost", "stream=%s words=\"%s\"", d->stream, m->text);
        break;
    case JR_READ_LIVE:
        d->log_live = true;
        break;
    }
    jr_js_msg_destroy(m);
}

static void on_reader_closed(void *ctx)
{
    struct jr_driver_log_reader *r = ctx;
    struct jr_driver *d = r->d;
    jr_xfree(r);
    d->closings--;
    jr_driver_maybe_closed(d);
}

void jr_driver_stop_reader(struct jr_driver *d)
{
    d->log_live = false;
    if (!d->reader)
        return;
    struct jr_js_reader *reader = d->reader;
    d->reader = NULL;
    d->closings++;
    jr_js_reader_close(reader, on_reader_closed, d->log_reader);
    d->log_reader = NULL;
}

void jr_driver_start_reader(struct jr_driver *d, const struct jr_action *a)
{
    jr_driver_stop_reader(d);
    d->log_reader = jr_xalloc(sizeof *d->log_reader);
    *d->log_reader = (struct jr_driver_log_reader){.d = d, .skips = d->skips};
    struct jr_js_reader_config config = {
        .nats = d->nats,
        .loop = d->loop,
        .stream = d->stream,
        .from = JR_READ_POSITION,
        .position = {.created_ns = a->u.start.stream_created_ns,
                     .seq = a->u.start.applied,
                     .has_msg = a->u.start.has_msg,
                     .time_ns = a->u.start.msg_time_ns,
                     .payload_hash = a->u.start.msg_hash},
        .decode = decode,
        .decode_ctx = d->log_reader,
        .decode_threads = d->config.event_threads,
        .patience_ms = EVENTS_PATIENCE_MS,
        .on_msg = on_log_msg,
        .ctx = d,
    };
    int err = jr_js_reader_create(&config, &d->reader);
    if (err == 0)
        return;
    jr_xfree(d->log_reader);
    d->log_reader = NULL;
    jr_log(JR_LOG_ERROR, "stream.reader_failed", "stream=%s error=%s", d->stream, jr_err_name(err));
}

/* ---------------------------------------------------------------- writing */

struct control_job {
    struct jr_job job;
    struct jr_driver *d;
    struct jr_buf payload;
    uint64_t gone; /* worker that is said to be, or 0 */
    bool expects;  /* the caller knows the last control message */
    bool must_be_read;
    uint64_t expects_seq;
    struct jr_errmsg e;
};

/* The key of the worker that is about to be declared gone, read again from the stream leader. */
static int worker_is_back(struct control_job *c)
{
    char key[32];
    struct jr_js_kv_entry entry = {0};
    if (!c->gone)
        return 0;
    snprintf(key, sizeof key, "worker.%llu", (unsigned long long)c->gone);
    int err = jr_js_kv_get(c->d->leases, key, &entry, &c->e);
    jr_js_kv_entry_deinit(&entry);
    if (err == 0)
        return jr_errmsg_set(&c->e, JR_ECONFLICT, "the worker has a lease again");
    return err == JR_ENOTFOUND ? 0 : err;
}

/* The last control message there is now, which the pool may have to know. */
static int newest_control(struct control_job *c, const char *subject)
{
    struct jr_stored *last = NULL;
    int err = jr_stored_last(c->d->nats, c->d->stream, subject, &last, &c->e);
    if (err < 0 && err != JR_ENOTFOUND)
        return err;
    uint64_t read_seq = c->expects_seq;
    c->expects_seq = last ? last->seq : 0;
    jr_stored_destroy(last);
    if (c->must_be_read && c->expects_seq > read_seq)
        return jr_errmsg_set(&c->e, JR_ECONFLICT, "a control message was not read yet");
    return 0;
}

/* Expecting the last control message makes two that race one (error 10071 for the other). */
static void run_control(struct jr_job *job)
{
    struct control_job *c = (struct control_job *)(void *)job;
    char subject[JR_STREAM_NAME_MAX + 16];
    snprintf(subject, sizeof subject, "%s.%s", c->d->stream, JR_SUBJECT_CONTROL);
    job->err = worker_is_back(c);
    if (job->err == 0 && !c->expects)
        job->err = newest_control(c, subject);
    if (job->err < 0)
        return;
    struct jr_pub pub = {.subject = subject,
                         .payload = c->payload.p,
                         .n = c->payload.n,
                         .expect_last = true,
                         .last_subject_seq = c->expects_seq};
    struct jr_pub_ack ack;
    job->err = JR_FAILPOINT("control.before_publish");
    if (job->err == 0)
        job->err = jr_js_publish(c->d->nats, &pub, &ack, &c->e);
}

static void done_control(struct jr_job *job)
{
    struct control_job *c = (struct control_job *)(void *)job;
    struct jr_driver *d = c->d;
    if (jr_driver_job_done(d)) {
        struct jr_event ev = {.type = JR_EV_CONTROL_PUBLISHED};
        ev.u.result.err = job->err;
        jr_driver_step(d, &ev);
    }
    jr_buf_deinit(&c->payload);
    jr_xfree(c);
    jr_driver_maybe_closed(d);
}

void jr_driver_publish_control(struct jr_driver *d, const struct jr_action *a)
{
    const struct jr_control *control = &a->u.control;
    struct control_job *c = jr_xalloc(sizeof *c);
    *c = (struct control_job){.job = {.run = run_control, .done = done_control},
                              .d = d,
                              .gone = a->u.ends_worker ? control->worker_id : 0,
                              .expects = a->u.expects,
                              .must_be_read = a->u.must_be_read,
                              .expects_seq = a->u.expects_seq};
    jr_buf_init(&c->payload, JR_BATCH_BYTES_MAX);
    int err = jr_event_encode_control(control, &c->payload);
    if (err == 0 && d->connected && jr_driver_submit(d, d->control_lane, &c->job))
        return;
    jr_log(JR_LOG_WARN, "control.not_published", "type=%d error=%s", (int)control->type,
           jr_err_name(err));
    jr_buf_deinit(&c->payload);
    jr_xfree(c);
}

struct put_job {
    struct jr_job job;
    struct jr_driver *d;
    char key[JR_NAME_MAX];
    char value[JR_NAME_MAX];
    bool create;
};

static void run_put(struct jr_job *job)
{
    struct put_job *p = (struct put_job *)(void *)job;
    struct jr_errmsg e = {0};
    size_t n = strlen(p->value);
    if (p->create)
        job->err = jr_js_kv_create(p->d->state, p->key, p->value, n, NULL, &e);
    else
        job->err = jr_js_kv_put(p->d->state, p->key, p->value, n, NULL, &e);
    if (p->create && job->err == JR_ECONFLICT)
        job->err = 0; /* it is there: that is what was wanted */
}

static void done_put(struct jr_job *job)
{
    struct put_job *p = (struct put_job *)(void *)job;
    struct jr_driver *d = p->d;
    if (jr_driver_job_done(d) && job->err < 0)
        jr_log(JR_LOG_WARN, "state.put_failed", "key=%s error=%s", p->key, jr_err_name(job->err));
    jr_xfree(p);
    jr_driver_maybe_closed(d);
}

/* Level-triggered by the pool, so a failure is only logged. */
void jr_driver_put_state(struct jr_driver *d, const char *key, const char *value, bool create)
{
    if (!d->opened)
        return;
    struct put_job *p = jr_xalloc(sizeof *p);
    *p = (struct put_job){.job = {.run = run_put, .done = done_put}, .d = d, .create = create};
    (void)jr_str_copy(p->key, sizeof p->key, key);
    (void)jr_str_copy(p->value, sizeof p->value, value);
    if (!jr_driver_submit(d, d->control_lane, &p->job))
        jr_xfree(p);
}
