/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_sub.h"

#include "base/list.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define HWM_DEFAULT    100000
#define WINDOW_DEFAULT 1024
#define FRAMES_MAX     8
#define BURST          256 /* messages between two looks at the end */

/* One multipart message; only its first FRAMES_MAX parts are kept. */
struct frames {
    zmq_msg_t part[FRAMES_MAX];
    unsigned n;
    unsigned extra; /* parts beyond */
};

struct jr_zmq_sub {
    struct jr_loop *loop;
    void *zmq, *socket;
    int stop_fd;
    struct jr_gate *gate;
    atomic_uint refs; /* one until the final message, one a living message */
    pthread_t thread;
    struct jr_msg final;
    /* loop thread */
    bool closing;
    void (*on_msg)(struct jr_zmq_msg *msg, void *ctx);
    void *ctx;
    void (*close_cb)(void *ctx);
    void *close_ctx;
    atomic_uint_least64_t msgs, bytes, malformed;
};

static uint64_t be64(const void *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | ((const uint8_t *)p)[i];
    return v;
}

static int zmq_error(struct jr_errmsg *e, const char *endpoint)
{
    int err = JR_EIO;

    if (errno == EADDRINUSE)
        err = JR_EADDRINUSE;
    else if (errno == EINVAL || errno == EPROTONOSUPPORT || errno == ENODEV)
        err = JR_EINVAL;
    return jr_errmsg_set(e, err, "%s: %s", endpoint, zmq_strerror(errno));
}

/* --- frames --- */

static void frames_deinit(struct frames *f)
{
    for (unsigned i = 0; i < f->n; i++)
        zmq_msg_close(&f->part[i]);
    f->n = 0;
}

/* One whole message, without waiting; false when there is none. */
static bool frames_recv(void *socket, struct frames *f)
{
    zmq_msg_t part;
    bool more = true;

    f->n = f->extra = 0;
    while (more) {
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            frames_deinit(f);
            return false;
        }
        more = zmq_msg_more(&part) != 0;
        if (f->n < FRAMES_MAX) {
            zmq_msg_init(&f->part[f->n]);
            zmq_msg_move(&f->part[f->n++], &part);
        } else {
            f->extra++;
        }
        zmq_msg_close(&part);
    }
    return true;
}

/* --- live --- */

static void sub_release(struct jr_zmq_sub *sub)
{
    if (atomic_fetch_sub(&sub->refs, 1) != 1)
        return;
    jr_gate_destroy(sub->gate);
    jr_xfree(sub);
}

struct held {
    struct jr_zmq_msg msg;
    zmq_msg_t payload;
};

void jr_zmq_msg_destroy(struct jr_zmq_msg *msg)
{
    struct held *held = (struct held *)msg;
    struct jr_zmq_sub *sub;

    if (msg == NULL)
        return;
    sub = msg->sub;
    zmq_msg_close(&held->payload);
    jr_gate_leave(sub->gate, 1);
    jr_xfree(held);
    sub_release(sub);
}

static void msg_drop(struct jr_msg *msg)
{
    jr_zmq_msg_destroy((struct jr_zmq_msg *)msg);
}

static void msg_deliver(struct jr_msg *m)
{
    struct jr_zmq_msg *msg = (struct jr_zmq_msg *)m;
    struct jr_zmq_sub *sub = msg->sub;

    if (sub->closing)
        jr_zmq_msg_destroy(msg);
    else
        sub->on_msg(msg, sub->ctx);
}

/* Keeps the payload's frame; false at the end. */
static bool post(struct jr_zmq_sub *sub, struct frames *f)
{
    struct held *held;
    size_t topic_n = zmq_msg_size(&f->part[0]);

    if (jr_gate_enter(sub->gate, 1) != 0)
        return false;
    held = jr_xalloc(sizeof *held);
    held->msg.msg.deliver = msg_deliver;
    held->msg.msg.drop = msg_drop;
    held->msg.sub = sub;
    held->msg.seq = be64(zmq_msg_data(&f->part[1]));
    if (topic_n >= sizeof held->msg.topic)
        topic_n = sizeof held->msg.topic - 1;
    memcpy(held->msg.topic, zmq_msg_data(&f->part[0]), topic_n);
    zmq_msg_init(&held->payload);
    zmq_msg_move(&held->payload, &f->part[2]);
    held->msg.payload = zmq_msg_data(&held->payload);
    held->msg.n = zmq_msg_size(&held->payload);
    atomic_fetch_add(&sub->refs, 1);
    atomic_fetch_add(&sub->msgs, 1);
    atomic_fetch_add(&sub->bytes, held->msg.n);
    jr_loop_post(sub->loop, &held->msg.msg);
    return true;
}

/* What is there, up to a burst; false at the end. */
static bool receive(struct jr_zmq_sub *sub)
{
    struct frames f;

    for (unsigned i = 0; i < BURST && frames_recv(sub->socket, &f); i++) {
        bool good = f.n == 3 && f.extra == 0 && zmq_msg_size(&f.part[1]) == 8;
        bool open = true;
        if (good)
            open = post(sub, &f);
        else
            atomic_fetch_add(&sub->malformed, 1);
        frames_deinit(&f);
        if (!open)
            return false;
    }
    return true;
}

static void *sub_main(void *arg)
{
    struct jr_zmq_sub *sub = arg;
    zmq_pollitem_t items[2] = {
        {.socket = sub->socket, .events = ZMQ_POLLIN},
        {.fd = sub->stop_fd, .events = ZMQ_POLLIN},
    };

    for (;;) {
        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR)
            break;
        if ((items[1].revents & ZMQ_POLLIN) != 0)
            break;
        if ((items[0].revents & ZMQ_POLLIN) != 0 && !receive(sub))
            break;
    }
    zmq_close(sub->socket);
    zmq_ctx_term(sub->zmq);
    jr_loop_post(sub->loop, &sub->final);
    return NULL;
}

static void final_drop(struct jr_msg *msg)
{
    struct jr_zmq_sub *sub = JR_CONTAINER_OF(msg, struct jr_zmq_sub, final);

    pthread_join(sub->thread, NULL);
    close(sub->stop_fd);
    sub_release(sub);
}

static void final_deliver(struct jr_msg *msg)
{
    struct jr_zmq_sub *sub = JR_CONTAINER_OF(msg, struct jr_zmq_sub, final);
    void (*cb)(void *ctx) = sub->close_cb;
    void *ctx = sub->close_ctx;

    final_drop(msg);
    if (cb != NULL)
        cb(ctx);
}

static int open_socket(struct jr_zmq_sub *sub, const struct jr_zmq_sub_config *c,
                       struct jr_errmsg *e)
{
    const char *topic = c->topic != NULL ? c->topic : "";
    int hwm = (int)(c->hwm != 0 ? c->hwm : HWM_DEFAULT), linger = 0, ipv6 = 1;
    int rv;

    sub->zmq = zmq_ctx_new();
    if (sub->zmq == NULL)
        return jr_errmsg_set(e, JR_EIO, "ZMQ context: %s", zmq_strerror(errno));
    sub->socket = zmq_socket(sub->zmq, ZMQ_SUB);
    if (sub->socket == NULL)
        return zmq_error(e, c->endpoint);
    zmq_setsockopt(sub->socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(sub->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(sub->socket, ZMQ_IPV6, &ipv6, sizeof ipv6);
    zmq_setsockopt(sub->socket, ZMQ_SUBSCRIBE, topic, strlen(topic));
    rv = c->bind ? zmq_bind(sub->socket, c->endpoint) : zmq_connect(sub->socket, c->endpoint);
    return rv == 0 ? 0 : zmq_error(e, c->endpoint);
}

int jr_zmq_sub_create(const struct jr_zmq_sub_config *config, struct jr_zmq_sub **ret,
                      struct jr_errmsg *e)
{
    struct jr_zmq_sub *sub = jr_xalloc(sizeof *sub);
    int rv = open_socket(sub, config, e);

    if (rv != 0)
        goto err_after_alloc;
    sub->loop = config->loop;
    sub->on_msg = config->on_msg;
    sub->ctx = config->ctx;
    sub->final.deliver = final_deliver;
    sub->final.drop = final_drop;
    atomic_init(&sub->refs, 1);
    sub->gate = jr_gate_create(config->window_msgs != 0 ? config->window_msgs : WINDOW_DEFAULT);
    sub->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sub->stop_fd < 0 || pthread_create(&sub->thread, NULL, sub_main, sub) != 0) {
        rv = jr_errmsg_set(e, JR_EIO, "%s: no thread", config->endpoint);
        goto err_after_gate;
    }
    *ret = sub;
    return 0;

err_after_gate:
    if (sub->stop_fd >= 0)
        close(sub->stop_fd);
    jr_gate_destroy(sub->gate);
err_after_alloc:
    if (sub->socket != NULL)
        zmq_close(sub->socket);
    if (sub->zmq != NULL)
        zmq_ctx_term(sub->zmq);
    jr_xfree(sub);
    return rv;
}

void jr_zmq_sub_close(struct jr_zmq_sub *sub, void (*cb)(void *ctx), void *ctx)
{
    uint64_t one = 1;

    if (sub == NULL)
        return;
    sub->closing = true;
    sub->close_cb = cb;
    sub->close_ctx = ctx;
    jr_gate_close(sub->gate);
    if (write(sub->stop_fd, &one, sizeof one) < 0)
        return; /* cannot happen: the counter is 0 or 1 */
}

void jr_zmq_sub_counters_get(struct jr_zmq_sub *sub, struct jr_zmq_sub_counters *ret)
{
    *ret = (struct jr_zmq_sub_counters){
        .msgs = atomic_load(&sub->msgs),
        .bytes = atomic_load(&sub->bytes),
        .malformed = atomic_load(&sub->malformed),
    };
}

/* --- replay --- */

struct collector {
    struct jr_zmq_replay replay;
    uint32_t cap;
    uint64_t bytes, bytes_max;
    bool ended; /* end marker or limit */
};

/* ["", seq, payload] or ["", topic, seq, payload]: read from the end. The end marker is a sequence
 * of eight 0xff with an empty payload. Others are skipped. */
static void collect(struct collector *c, struct frames *f)
{
    if (f->n < 2 || f->extra != 0 || zmq_msg_size(&f->part[f->n - 2]) != 8)
        return;
    zmq_msg_t *last = &f->part[f->n - 1];
    uint64_t seq = be64(zmq_msg_data(&f->part[f->n - 2]));
    size_t n = zmq_msg_size(last);

    if (seq == UINT64_MAX && n == 0) {
        c->replay.complete = c->ended = true;
        return;
    }
    if (c->bytes + n > c->bytes_max) {
        c->ended = true;
        return;
    }
    c->bytes += n;
    if (c->replay.n == c->cap) {
        c->cap = c->cap != 0 ? 2 * c->cap : 64;
        c->replay.msgs = jr_xrealloc(c->replay.msgs, c->cap * sizeof *c->replay.msgs);
    }
    c->replay.msgs[c->replay.n++] = (struct jr_zmq_replay_msg){
        .seq = seq, .payload = jr_xmemdup(zmq_msg_data(last), n), .n = n};
}

static uint64_t now_ms(void)
{
    return jr_loop_now_ns() / 1000000;
}

static void collect_all(void *socket, uint32_t timeout_ms, uint32_t idle_ms, struct collector *c)
{
    const uint64_t until_ms = now_ms() + timeout_ms;
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    struct frames f;

    while (!c->ended) {
        uint64_t now = now_ms();
        if (now >= until_ms)
            return;
        uint64_t wait = until_ms - now;
        /* The first answer may take the whole time; silence after one means the end was lost. */
        if (c->replay.n > 0 && idle_ms < wait)
            wait = idle_ms;
        if (zmq_poll(&item, 1, (long)wait) <= 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        while (!c->ended && frames_recv(socket, &f)) {
            collect(c, &f);
            frames_deinit(&f);
        }
    }
}

static int ask(void *socket, const char *endpoint, uint64_t from_seq, struct jr_errmsg *e)
{
    uint8_t seq[8];
    int linger = 0, hwm = 0, ipv6 = 1; /* no limit: what comes is bounded by bytes_max */

    for (unsigned i = 0; i < 8; i++)
        seq[i] = (uint8_t)(from_seq >> (56 - 8 * i));
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_IPV6, &ipv6, sizeof ipv6);
    if (zmq_connect(socket, endpoint) != 0)
        return zmq_error(e, endpoint);
    if (zmq_send(socket, "", 0, ZMQ_SNDMORE) < 0 || zmq_send(socket, seq, sizeof seq, 0) < 0)
        return zmq_error(e, endpoint);
    return 0;
}

int jr_zmq_replay(const char *endpoint, uint64_t from_seq, uint32_t timeout_ms, uint32_t idle_ms,
                  uint64_t bytes_max, struct jr_zmq_replay *ret, struct jr_errmsg *e)
{
    struct collector c = {.bytes_max = bytes_max};
    void *zmq = zmq_ctx_new(), *socket = zmq != NULL ? zmq_socket(zmq, ZMQ_DEALER) : NULL;
    int rv;

    if (socket == NULL) {
        rv = jr_errmsg_set(e, JR_EIO, "ZMQ: %s", zmq_strerror(errno));
        goto out;
    }
    rv = ask(socket, endpoint, from_seq, e);
    if (rv != 0)
        goto out;
    errno = 0;
    collect_all(socket, timeout_ms, idle_ms, &c);
    if (!c.ended && c.replay.n == 0)
        rv = jr_errmsg_set(e, JR_ETIMEOUT, "%s: no answer to a replay request", endpoint);
    else
        *ret = c.replay;
out:
    if (socket != NULL)
        zmq_close(socket);
    if (zmq != NULL)
        zmq_ctx_term(zmq);
    return rv;
}

void jr_zmq_replay_deinit(struct jr_zmq_replay *replay)
{
    for (uint32_t i = 0; i < replay->n; i++)
        jr_xfree(replay->msgs[i].payload);
    jr_xfree(replay->msgs);
    *replay = (struct jr_zmq_replay){0};
}
