/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_sub.h"

#include "base/list.h"
#include "base/mem.h"
#include "io/zmq_frames.h"

#include <stdatomic.h>
#include <string.h>
#include <zmq.h>

#define HWM_DEFAULT    10000
#define WINDOW_DEFAULT 1024
#define BURST          64          /* messages between two looks at the others */
#define MESSAGE_MAX    (256 << 20) /* bytes; whoever sends more is cut off */

struct jr_zmq_sub {
    struct jr_zmq_member member;
    struct jr_loop *loop;
    uint32_t window;
    atomic_uint inside;  /* messages that were posted and not given back */
    atomic_bool stalled; /* the window was full: whoever makes room wakes the thread */
    atomic_uint refs;    /* one until the final message, one a living message */
    struct jr_msg final;
    atomic_uint_least64_t msgs, bytes, malformed;
    /* loop thread */
    bool closing;
    void (*on_msg)(struct jr_zmq_msg *msg, void *ctx);
    void *ctx;
    void (*close_cb)(void *ctx);
    void *close_ctx;
};

static void sub_release(struct jr_zmq_sub *sub)
{
    if (atomic_fetch_sub(&sub->refs, 1) != 1)
        return;
    jr_zmq_member_release(&sub->member);
    jr_xfree(sub);
}

/* ---- messages ---- */

struct held {
    struct jr_zmq_msg msg;
    zmq_msg_t payload;
};

/* Half of the window has to be free: the thread is not to be woken for each message. */
static bool has_room(struct jr_zmq_sub *sub)
{
    return atomic_load(&sub->inside) <= sub->window / 2;
}

static void leave_window(struct jr_zmq_sub *sub)
{
    atomic_fetch_sub(&sub->inside, 1);
    if (has_room(sub) && atomic_exchange(&sub->stalled, false))
        jr_zmq_group_wake(&sub->member);
}

void jr_zmq_msg_destroy(struct jr_zmq_msg *msg)
{
    struct held *held = (struct held *)msg;
    struct jr_zmq_sub *sub;

    if (msg == NULL)
        return;
    sub = msg->sub;
    zmq_msg_close(&held->payload);
    jr_xfree(held);
    leave_window(sub);
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

/* ---- the group's thread ---- */

/* Keeps the payload's frame. */
static void post(struct jr_zmq_sub *sub, struct jr_zmq_frames *f)
{
    struct held *held = jr_xalloc(sizeof *held);
    size_t topic_n = zmq_msg_size(&f->part[0]);

    held->msg.msg.deliver = msg_deliver;
    held->msg.msg.drop = msg_drop;
    held->msg.sub = sub;
    held->msg.seq = jr_zmq_seq_get(zmq_msg_data(&f->part[1]));
    if (topic_n >= sizeof held->msg.topic)
        topic_n = sizeof held->msg.topic - 1;
    memcpy(held->msg.topic, zmq_msg_data(&f->part[0]), topic_n);
    zmq_msg_init(&held->payload);
    zmq_msg_move(&held->payload, &f->part[2]);
    held->msg.payload = zmq_msg_data(&held->payload);
    held->msg.n = zmq_msg_size(&held->payload);
    atomic_fetch_add(&sub->refs, 1);
    atomic_fetch_add(&sub->inside, 1);
    atomic_fetch_add(&sub->msgs, 1);
    atomic_fetch_add(&sub->bytes, held->msg.n);
    jr_loop_post(sub->loop, &held->msg.msg);
}

static bool is_full(struct jr_zmq_sub *sub)
{
    if (atomic_load(&sub->inside) < sub->window)
        return false;
    atomic_store(&sub->stalled, true);
    /* What was given back before that was said has woken nobody. */
    return !(has_room(sub) && atomic_exchange(&sub->stalled, false));
}

static bool serve(struct jr_zmq_member *m)
{
    struct jr_zmq_sub *sub = JR_CONTAINER_OF(m, struct jr_zmq_sub, member);
    struct jr_zmq_frames f;

    for (unsigned i = 0; i < BURST; i++) {
        if (is_full(sub)) {
            jr_zmq_group_hear(m);
            return false;
        }
        if (!jr_zmq_frames_recv(m->socket, &f))
            return false;
        if (f.n == 3 && f.extra == 0 && zmq_msg_size(&f.part[1]) == JR_ZMQ_SEQ_BYTES)
            post(sub, &f);
        else
            atomic_fetch_add(&sub->malformed, 1);
        jr_zmq_frames_deinit(&f);
    }
    return true;
}

static void left(struct jr_zmq_member *m)
{
    struct jr_zmq_sub *sub = JR_CONTAINER_OF(m, struct jr_zmq_sub, member);

    jr_loop_post(sub->loop, &sub->final);
}

/* ---- create, close ---- */

static void final_drop(struct jr_msg *msg)
{
    sub_release(JR_CONTAINER_OF(msg, struct jr_zmq_sub, final));
}

static void final_deliver(struct jr_msg *msg)
{
    struct jr_zmq_sub *sub = JR_CONTAINER_OF(msg, struct jr_zmq_sub, final);
    void (*cb)(void *ctx) = sub->close_cb;
    void *ctx = sub->close_ctx;

    sub_release(sub);
    if (cb != NULL)
        cb(ctx);
}

static int open_socket(struct jr_zmq_sub *sub, const struct jr_zmq_sub_config *c,
                       struct jr_errmsg *e)
{
    const char *topic = c->topic != NULL ? c->topic : "";
    int hwm = (int)(c->hwm != 0 ? c->hwm : HWM_DEFAULT), linger = 0, ipv6 = 1, rv;
    int64_t most = MESSAGE_MAX;
    void *socket = zmq_socket(jr_zmq_group_context(c->group), ZMQ_SUB);

    if (socket == NULL)
        return jr_zmq_error(e, c->endpoint);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_IPV6, &ipv6, sizeof ipv6);
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    zmq_setsockopt(socket, ZMQ_SUBSCRIBE, topic, strlen(topic));
    rv = c->bind ? zmq_bind(socket, c->endpoint) : zmq_connect(socket, c->endpoint);
    if (rv != 0) {
        rv = jr_zmq_error(e, c->endpoint);
        zmq_close(socket);
        return rv;
    }
    sub->member.socket = socket;
    return 0;
}

int jr_zmq_sub_create(const struct jr_zmq_sub_config *config, struct jr_zmq_sub **ret,
                      struct jr_errmsg *e)
{
    struct jr_zmq_sub *sub = jr_xalloc(sizeof *sub);
    int err = open_socket(sub, config, e);

    if (err < 0) {
        jr_xfree(sub);
        return err;
    }
    jr_zmq_member_init(&sub->member, config->group);
    sub->member.serve = serve;
    sub->member.left = left;
    sub->loop = config->loop;
    sub->on_msg = config->on_msg;
    sub->ctx = config->ctx;
    sub->window = config->window_msgs != 0 ? config->window_msgs : WINDOW_DEFAULT;
    sub->final.deliver = final_deliver;
    sub->final.drop = final_drop;
    atomic_init(&sub->refs, 1);
    jr_zmq_group_join(&sub->member);
    *ret = sub;
    return 0;
}

void jr_zmq_sub_close(struct jr_zmq_sub *sub, void (*cb)(void *ctx), void *ctx)
{
    if (sub == NULL)
        return;
    sub->closing = true;
    sub->close_cb = cb;
    sub->close_ctx = ctx;
    jr_zmq_group_leave(&sub->member);
}

void jr_zmq_sub_counters_get(struct jr_zmq_sub *sub, struct jr_zmq_sub_counters *ret)
{
    *ret = (struct jr_zmq_sub_counters){
        .msgs = atomic_load(&sub->msgs),
        .bytes = atomic_load(&sub->bytes),
        .malformed = atomic_load(&sub->malformed),
    };
}
