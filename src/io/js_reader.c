/* SPDX-License-Identifier: Apache-2.0 */
#include "io/js_reader.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/cond.h"
#include "io/conveyor.h"
#include "io/js_consumer.h"
#include "io/nats_trash.h"
#include "wire/event_codec.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define WINDOW_MSGS_DEFAULT  4096
#define WEIGHT_BYTES         (4 << 10) /* so many bytes take one more place in the window */
#define BATCH_MSGS           128
#define BATCH_BYTES          (256 << 10)
#define BATCH_WAIT_MS        1 /* for more, while the loop is behind anyway */
#define BATCH_LITTLE         4 /* messages that the reader thread decodes itself, sooner than hand over */
#define HEARTBEAT_MS_DEFAULT 1000
#define HEARTBEAT_MS_MIN     100 /* the server's least */
#define BACKLOG_MSGS         256 /* behind a message: the reader lets some gather */
#define NAP_NS               500000
#define NAPS_MAX             8 /* in a row; then the server gives no more, for now */
#define POLL_MS              50
#define RETRY_MS             250
#define CREATE_SUBJECTS_MAX  4

/* What came together. Freed when its last message was given back. */
struct jr_js_batch {
    struct jr_conveyor_item item; /* first */
    struct jr_js_batch *next;     /* waiting for the loop */
    struct jr_js_reader *reader;
    atomic_uint refs; /* its living messages */
    uint32_t n;
    uint32_t at; /* loop thread: the next to deliver */
    uint32_t weight;
    size_t bytes;
    struct jr_arena arena;
    char text[160]; /* of a note */
    struct jr_js_msg msgs[];
};

struct jr_js_reader {
    struct jr_nats *nats;
    struct jr_loop *loop;
    char *stream, *filter, *skip;
    enum jr_read_from from;
    uint32_t heartbeat_ms;
    void (*decode)(struct jr_js_msg *msg, void *ctx);
    void *decode_ctx;
    uint32_t decode_threads;
    bool create;
    struct jr_stream_config create_config;
    char *create_name, *create_subjects[CREATE_SUBJECTS_MAX];
    struct jr_gate *gate;
    struct jr_nats_trash trash;
    uint32_t batch_msgs;
    atomic_uint patience_ms;
    atomic_uint refs; /* one until the final message, one a living batch, one a posted pump */
    /* loop thread */
    bool closing;
    void (*on_msg)(struct jr_js_msg *msg, void *ctx);
    void *ctx;
    void (*close_cb)(void *ctx);
    void *close_ctx;
    struct jr_js_batch *taken; /* of ready; its messages are being delivered */
    /* reader thread */
    struct jr_stream_position position;
    bool lost;                /* reported since the last creation */
    struct jr_js_batch *open; /* being filled */
    struct jr_conveyor *conveyor;
    /* from the decoders to the loop */
    pthread_mutex_t ready_mu;
    struct jr_js_batch *ready, **ready_tail;
    bool pumping; /* the pump is posted, or runs */
    struct jr_msg pump;
    /* thread control */
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool stop;
    struct jr_msg final;
    atomic_uint_least64_t msgs, bytes, creations, losses, last_seq;
};

/* --- life --- */

static void reader_release(struct jr_js_reader *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    jr_gate_destroy(r->gate);
    jr_nats_trash_deinit(&r->trash);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->mu);
    pthread_mutex_destroy(&r->ready_mu);
    for (unsigned i = 0; i < CREATE_SUBJECTS_MAX; i++)
        jr_xfree(r->create_subjects[i]);
    jr_xfree(r->create_name);
    jr_xfree(r->filter);
    jr_xfree(r->skip);
    jr_xfree(r->stream);
    jr_xfree(r);
}

void jr_js_msg_drop_payload(struct jr_js_msg *msg)
{
    jr_nats_trash_put(&msg->batch->reader->trash, msg->impl);
    msg->impl = NULL;
    msg->subject = NULL;
    msg->payload = NULL;
}

void jr_js_msg_destroy(struct jr_js_msg *msg)
{
    if (msg == NULL)
        return;
    struct jr_js_batch *b = msg->batch;
    struct jr_js_reader *r = b->reader;
    jr_nats_trash_put(&r->trash, msg->impl);
    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    jr_gate_leave(r->gate, b->weight);
    jr_arena_deinit(&b->arena);
    jr_xfree(b);
    reader_release(r);
}

const char *jr_js_msg_header(struct jr_js_msg *msg, const char *key)
{
    const char *value = NULL;

    if (msg->impl == NULL || natsMsgHeader_Get(msg->impl, key, &value) != NATS_OK)
        return NULL;
    return value;
}

/* --- from the decoders to the loop --- */

/* The next message for the loop; NULL: none, and the pump has stopped. */
static struct jr_js_msg *next_ready(struct jr_js_reader *r)
{
    if (r->taken == NULL || r->taken->at == r->taken->n) {
        pthread_mutex_lock(&r->ready_mu);
        r->taken = r->ready;
        if (r->taken != NULL)
            r->ready = r->taken->next;
        else
            r->pumping = false;
        if (r->ready == NULL)
            r->ready_tail = &r->ready;
        pthread_mutex_unlock(&r->ready_mu);
        if (r->taken == NULL)
            return NULL;
    }
    struct jr_js_msg *msg = &r->taken->msgs[r->taken->at++];
    if (r->taken->at == r->taken->n)
        r->taken = NULL; /* it may be gone with its last message */
    return msg;
}

static void pump_drop(struct jr_msg *msg)
{
    struct jr_js_reader *r = JR_CONTAINER_OF(msg, struct jr_js_reader, pump);
    struct jr_js_msg *m;

    while ((m = next_ready(r)) != NULL)
        jr_js_msg_destroy(m);
    reader_release(r);
}

/* Loop thread. What is left when the time is over waits for the next turn. */
static void pump_deliver(struct jr_msg *msg)
{
    struct jr_js_reader *r = JR_CONTAINER_OF(msg, struct jr_js_reader, pump);
    const uint64_t until = jr_loop_slice_end_ns(r->loop);
    struct jr_js_msg *m;

    while (!r->closing) {
        m = next_ready(r);
        if (m == NULL) {
            reader_release(r);
            return;
        }
        r->on_msg(m, r->ctx);
        if (jr_loop_now_ns() >= until) {
            jr_loop_post(r->loop, &r->pump);
            return;
        }
    }
    pump_drop(msg);
}

/* Any decoder, in order: the conveyor's out. */
static void batch_out(struct jr_conveyor_item *item, void *ctx)
{
    struct jr_js_batch *b = (struct jr_js_batch *)item;
    struct jr_js_reader *r = ctx;

    pthread_mutex_lock(&r->ready_mu);
    b->next = NULL;
    *r->ready_tail = b;
    r->ready_tail = &b->next;
    bool post = !r->pumping;
    r->pumping = true;
    pthread_mutex_unlock(&r->ready_mu);
    if (!post)
        return;
    atomic_fetch_add(&r->refs, 1);
    jr_loop_post(r->loop, &r->pump);
}

static void batch_decode(struct jr_conveyor_item *item, void *ctx)
{
    struct jr_js_batch *b = (struct jr_js_batch *)item;
    struct jr_js_reader *r = ctx;

    for (uint32_t i = 0; r->decode != NULL && i < b->n; i++)
        if (b->msgs[i].kind == JR_READ_MSG)
            r->decode(&b->msgs[i], r->decode_ctx);
}

/* --- reader thread --- */

static bool stopping(struct jr_js_reader *r)
{
    pthread_mutex_lock(&r->mu);
    bool stop = r->stop;
    pthread_mutex_unlock(&r->mu);
    return stop;
}

/* Waits, but not longer than until the end is wanted. */
static void pause_ms(struct jr_js_reader *r, uint32_t ms)
{
    const struct timespec until = jr_cond_until(ms);

    pthread_mutex_lock(&r->mu);
    while (!r->stop && pthread_cond_timedwait(&r->cond, &r->mu, &until) == 0)
        ;
    pthread_mutex_unlock(&r->mu);
}

/* Room for `cap` messages. */
static struct jr_js_batch *batch_new(struct jr_js_reader *r, uint32_t cap)
{
    struct jr_js_batch *b = jr_xrealloc(NULL, sizeof *b + cap * sizeof *b->msgs);

    *b = (struct jr_js_batch){.reader = r};
    atomic_init(&b->refs, 0);
    /* Twice what the largest message may need: a batch is one of these, or less than its bytes. */
    jr_arena_init(&b->arena, 2 * JR_EVENT_ARENA_MAX);
    atomic_fetch_add(&r->refs, 1);
    return b;
}

/* Copies msg, and takes what it owns. */
static void batch_add(struct jr_js_batch *b, const struct jr_js_msg *msg)
{
    struct jr_js_msg *at = &b->msgs[b->n++];

    *at = *msg;
    at->batch = b;
    at->arena = &b->arena;
    atomic_fetch_add(&b->refs, 1);
}

static void batch_destroy(struct jr_js_batch *b)
{
    for (uint32_t i = 0, n = b->n; i < n; i++) /* with the last one the batch goes */
        jr_js_msg_destroy(&b->msgs[i]);
}

/* Takes the batch. Waits for room; false when the reader is being closed. */
static bool send_batch(struct jr_js_reader *r, struct jr_js_batch *b)
{
    uint32_t weight = b->n + (uint32_t)(b->bytes / WEIGHT_BYTES);

    if (jr_gate_enter(r->gate, weight) != 0) {
        batch_destroy(b);
        return false;
    }
    b->weight = weight;
    jr_conveyor_put(r->conveyor, &b->item, b->n <= BATCH_LITTLE);
    return true;
}

static bool flush(struct jr_js_reader *r)
{
    struct jr_js_batch *b = r->open;

    r->open = NULL;
    return b == NULL || send_batch(r, b);
}

static bool post_note(struct jr_js_reader *r, enum jr_read_kind kind, int err, const char *text)
{
    if (!flush(r))
        return false;
    struct jr_js_batch *b = batch_new(r, 1);

    jr_str_copy(b->text, sizeof b->text, text != NULL ? text : "");
    batch_add(
        b, &(struct jr_js_msg){.kind = kind, .seq = r->position.seq, .err = err, .text = b->text});
    return send_batch(r, b);
}

/* Once per loss, however often the re-creation fails. */
static bool report_loss(struct jr_js_reader *r, int err, const struct jr_errmsg *e)
{
    if (r->lost)
        return true;
    r->lost = true;
    atomic_fetch_add(&r->losses, 1);
    return post_note(r, JR_READ_LOST, err, e->text);
}

static void remember_position(struct jr_js_reader *r, const struct jr_js_msg *msg)
{
    r->position.seq = msg->seq;
    r->position.has_msg = true;
    r->position.time_ns = msg->time_ns;
    r->position.payload_hash = msg->payload_hash;
    atomic_fetch_add(&r->msgs, 1);
    atomic_fetch_add(&r->bytes, msg->n);
    atomic_store(&r->last_seq, msg->seq);
}

/* m as what on_msg gets; it owns m. */
static struct jr_js_msg msg_of(natsMsg *m, const struct jr_js_meta *meta)
{
    const uint8_t *payload = (const uint8_t *)natsMsg_GetData(m);
    const size_t n = (size_t)natsMsg_GetDataLength(m);

    return (struct jr_js_msg){
        .kind = JR_READ_MSG,
        .restarted = meta->consumer_seq == 1,
        .seq = meta->seq,
        .consumer_seq = meta->consumer_seq,
        .pending = meta->pending,
        .time_ns = meta->time_ns,
        .payload_hash = jr_event_payload_hash(payload, n),
        .subject = natsMsg_GetSubject(m),
        .payload = payload,
        .n = n,
        .text = "",
        .impl = m,
    };
}

/* One that nobody waits for; the first after a creation says that there was one. */
static bool is_skipped(const struct jr_js_reader *r, const struct jr_js_msg *msg)
{
    return r->skip != NULL && !msg->restarted && strcmp(msg->subject, r->skip) == 0;
}

/* Takes m. False when the reader is being closed. */
static bool take(struct jr_js_reader *r, natsMsg *m, const struct jr_js_meta *meta)
{
    const struct jr_js_msg got = msg_of(m, meta);

    remember_position(r, &got);
    if (is_skipped(r, &got)) {
        jr_nats_trash_put(&r->trash, m);
        return true;
    }
    if (r->open == NULL)
        r->open = batch_new(r, r->batch_msgs);
    batch_add(r->open, &got);
    r->open->bytes += got.n;
    return (r->open->n < r->batch_msgs && r->open->bytes < BATCH_BYTES) || flush(r);
}

/* The loop has not come to what it was given: nobody waits for a batch that is not full. */
static bool loop_is_behind(struct jr_js_reader *r)
{
    pthread_mutex_lock(&r->ready_mu);
    bool behind = r->ready != NULL;
    pthread_mutex_unlock(&r->ready_mu);
    return behind;
}

/* In a backlog nobody waits for a single message, and to be woken for each costs more than to read
 * it: the machine's time is the server's, too. */
static void nap(long ns)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* All that there was is handed over. What comes next may wait a little for others: the library wakes
 * this thread for each message as long as it waits for one, and this thread the loop. */
static void let_gather(const struct jr_js_reader *r)
{
    const uint32_t ms = atomic_load_explicit(&r->patience_ms, memory_order_relaxed);

    if (ms > 0)
        nap(ms * 1000000L);
}

/* How long to wait for a message. */
static uint32_t wait_ms(struct jr_js_reader *r)
{
    if (r->open == NULL)
        return POLL_MS;
    return loop_is_behind(r) ? BATCH_WAIT_MS : 0;
}

/* Takes messages until the consumer is lost (its error) or the reader ends (JR_ECLOSED). */
static int read_consumer(struct jr_js_reader *r, struct jr_js_consumer *c, struct jr_errmsg *e)
{
    bool live = false, waited = true;
    bool fresh = false; /* the last message taken was the last there was */
    uint32_t naps = 0;  /* left until the next message */
    struct jr_js_meta meta;

    for (;;) {
        natsMsg *m = NULL;
        if (!live && jr_js_consumer_drained(c)) {
            live = true;
            if (!post_note(r, JR_READ_LIVE, 0, NULL))
                return JR_ECLOSED;
        }
        int rv = jr_js_consumer_next(c, waited ? wait_ms(r) : 0, &m, &meta, e);
        if (rv == JR_EAGAIN && naps > 0) {
            naps--;
            nap(NAP_NS);
            continue;
        }
        if (rv == JR_EAGAIN && r->open != NULL && !waited) {
            waited = true; /* none is there: look whether to wait */
            continue;
        }
        if (rv != 0 && stopping(r))
            return JR_ECLOSED;
        if (rv == 0 ? !take(r, m, &meta) : !flush(r))
            return JR_ECLOSED;
        if (rv == JR_EAGAIN && live && fresh)
            let_gather(r);
        fresh = rv == 0 && meta.pending == 0;
        waited = rv != 0;
        naps = rv == 0 && meta.pending >= BACKLOG_MSGS ? NAPS_MAX : 0;
        if (rv != 0 && rv != JR_EAGAIN)
            return rv;
    }
}

/* The stream is there and its history is ours. */
static int prepare(struct jr_js_reader *r, struct jr_errmsg *e)
{
    struct jr_stream_info info;
    int rv;

    if (r->from != JR_READ_POSITION) {
        if (!r->create)
            return 0;
        return jr_stream_open(r->nats, &r->create_config, NULL, e);
    }
    rv = jr_stream_check(r->nats, r->stream, &r->position, &info, e);
    if (rv == JR_ENOTFOUND && r->position.created_ns != 0)
        return jr_errmsg_set(e, JR_EHISTORY, "%s: the stream is gone", r->stream);
    if (rv == 0)
        r->position.created_ns = info.created_ns;
    return rv;
}

static int create_consumer(struct jr_js_reader *r, struct jr_js_consumer **ret, struct jr_errmsg *e)
{
    struct jr_js_consumer_config config = {
        .nats = r->nats,
        .stream = r->stream,
        .filter = r->filter,
        .heartbeat_ms = r->heartbeat_ms,
        .last_per_subject = r->from == JR_READ_LAST,
        .start_seq = r->from == JR_READ_POSITION ? r->position.seq + 1 : 0,
    };
    int rv = prepare(r, e);

    if (rv == 0)
        rv = jr_js_consumer_create(&config, ret, e);
    if (rv == 0)
        atomic_fetch_add(&r->creations, 1);
    return rv;
}

/* False: the end. */
static bool one_round(struct jr_js_reader *r)
{
    struct jr_js_consumer *c = NULL;
    struct jr_errmsg e = {""};
    int rv = create_consumer(r, &c, &e);

    if (rv == 0) {
        r->lost = false;
        rv = read_consumer(r, c, &e);
        jr_js_consumer_destroy(c);
        if (rv == JR_ECLOSED)
            return false;
        return report_loss(r, rv, &e); /* and at once again */
    }
    if (r->from == JR_READ_POSITION && (rv == JR_EGAP || rv == JR_EHISTORY)) {
        post_note(r, JR_READ_STOPPED, rv, e.text);
        return false;
    }
    if (!report_loss(r, rv, &e))
        return false;
    pause_ms(r, RETRY_MS);
    return true;
}

static void *reader_main(void *arg)
{
    struct jr_js_reader *r = arg;

    while (!stopping(r)) {
        if (!jr_nats_connected(r->nats))
            pause_ms(r, POLL_MS);
        else if (!one_round(r))
            break;
    }
    /* Stopped by the history: the thread stays until it is closed, so that close is the only end. */
    pthread_mutex_lock(&r->mu);
    while (!r->stop)
        pthread_cond_wait(&r->cond, &r->mu);
    pthread_mutex_unlock(&r->mu);
    if (r->open != NULL)
        batch_destroy(r->open);
    jr_conveyor_destroy(r->conveyor);
    jr_loop_post(r->loop, &r->final);
    return NULL;
}

/* --- loop thread --- */

static void final_drop(struct jr_msg *msg)
{
    struct jr_js_reader *r = JR_CONTAINER_OF(msg, struct jr_js_reader, final);

    pthread_join(r->thread, NULL);
    reader_release(r);
}

static void final_deliver(struct jr_msg *msg)
{
    struct jr_js_reader *r = JR_CONTAINER_OF(msg, struct jr_js_reader, final);
    void (*cb)(void *ctx) = r->close_cb;
    void *ctx = r->close_ctx;

    final_drop(msg);
    if (cb != NULL)
        cb(ctx);
}

static int copy_create(struct jr_js_reader *r, const struct jr_stream_config *c)
{
    if (c == NULL)
        return 0;
    if (c->n_subjects > CREATE_SUBJECTS_MAX)
        return JR_EINVAL;
    r->create = true;
    r->create_config = *c;
    r->create_name = jr_xstrdup(c->name);
    r->create_config.name = r->create_name;
    for (uint32_t i = 0; i < c->n_subjects; i++)
        r->create_subjects[i] = jr_xstrdup(c->subjects[i]);
    if (c->subjects != NULL)
        r->create_config.subjects = (const char *const *)r->create_subjects;
    return 0;
}

static struct jr_js_reader *reader_new(const struct jr_js_reader_config *c)
{
    struct jr_js_reader *r = jr_xalloc(sizeof *r);

    r->nats = c->nats;
    r->loop = c->loop;
    r->stream = jr_xstrdup(c->stream);
    r->filter = c->filter_subject != NULL ? jr_xstrdup(c->filter_subject) : NULL;
    r->skip = c->skip_subject != NULL ? jr_xstrdup(c->skip_subject) : NULL;
    r->from = c->from;
    r->position = c->position;
    r->heartbeat_ms = c->heartbeat_ms != 0 ? c->heartbeat_ms : HEARTBEAT_MS_DEFAULT;
    if (r->heartbeat_ms < HEARTBEAT_MS_MIN)
        r->heartbeat_ms = HEARTBEAT_MS_MIN;
    r->decode = c->decode;
    r->decode_ctx = c->decode_ctx;
    r->on_msg = c->on_msg;
    r->ctx = c->ctx;
    r->decode_threads = c->decode_threads != 0 ? c->decode_threads : 1;
    uint32_t window = c->window_msgs != 0 ? c->window_msgs : WINDOW_MSGS_DEFAULT;
    r->gate = jr_gate_create(window);
    r->batch_msgs = window / 4 < BATCH_MSGS ? window / 4 : BATCH_MSGS;
    if (r->batch_msgs == 0)
        r->batch_msgs = 1;
    jr_js_reader_patience(r, c->patience_ms);
    jr_nats_trash_init(&r->trash);
    r->ready_tail = &r->ready;
    r->pump.deliver = pump_deliver;
    r->pump.drop = pump_drop;
    atomic_init(&r->refs, 1);
    pthread_mutex_init(&r->mu, NULL);
    pthread_mutex_init(&r->ready_mu, NULL);
    jr_cond_init(&r->cond);
    r->final.deliver = final_deliver;
    r->final.drop = final_drop;
    return r;
}

int jr_js_reader_create(const struct jr_js_reader_config *config, struct jr_js_reader **ret)
{
    struct jr_js_reader *r = reader_new(config);
    struct jr_conveyor_config conveyor = {
        .n_threads = r->decode_threads, .work = batch_decode, .out = batch_out, .ctx = r};
    int rv = copy_create(r, config->create);

    if (rv == 0)
        rv = jr_conveyor_create(&conveyor, &r->conveyor);
    if (rv == 0 && pthread_create(&r->thread, NULL, reader_main, r) != 0)
        rv = JR_EIO;
    if (rv != 0) {
        jr_conveyor_destroy(r->conveyor);
        reader_release(r);
        return rv;
    }
    *ret = r;
    return 0;
}

void jr_js_reader_patience(struct jr_js_reader *reader, uint32_t ms)
{
    JR_ASSERT(ms <= JR_READER_PATIENCE_MS_MAX);
    atomic_store_explicit(&reader->patience_ms, ms, memory_order_relaxed);
}

void jr_js_reader_close(struct jr_js_reader *reader, void (*cb)(void *ctx), void *ctx)
{
    if (reader == NULL)
        return;
    reader->closing = true;
    reader->close_cb = cb;
    reader->close_ctx = ctx;
    jr_gate_close(reader->gate);
    pthread_mutex_lock(&reader->mu);
    reader->stop = true;
    pthread_cond_broadcast(&reader->cond);
    pthread_mutex_unlock(&reader->mu);
}

void jr_js_reader_counters_get(struct jr_js_reader *reader, struct jr_js_reader_counters *ret)
{
    *ret = (struct jr_js_reader_counters){
        .msgs = atomic_load(&reader->msgs),
        .bytes = atomic_load(&reader->bytes),
        .creations = atomic_load(&reader->creations),
        .losses = atomic_load(&reader->losses),
        .last_seq = atomic_load(&reader->last_seq),
    };
}
