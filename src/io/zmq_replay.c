/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_replay.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/zmq_frames.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <zmq.h>

#define BURST 64 /* messages between two looks at the others */

/*   loop: ask ──► wanted ──► [a turn] ──► running ──► done ──► loop: fn      */
struct jr_zmq_asker {
    struct jr_zmq_member member;
    struct jr_zmq_asker_config config; /* endpoint owned */
    uint64_t from;                     /* set before `wanted` is */
    atomic_bool wanted;
    struct jr_msg done, final;
    /* the group's thread; the loop's from `done` until it asks again */
    bool running;
    uint64_t until_ms, quiet_ms; /* when it ends whatever comes, and when without a word more */
    struct jr_zmq_replay replay;
    uint32_t cap;
    uint64_t bytes;
    int err;
    struct jr_errmsg e;
    /* loop thread */
    bool asked, closing;
    void (*close_cb)(void *ctx);
    void *close_ctx;
};

static uint64_t now_ms(void)
{
    return jr_loop_now_ns() / 1000000;
}

void jr_zmq_replay_deinit(struct jr_zmq_replay *replay)
{
    for (uint32_t i = 0; i < replay->n; i++)
        jr_xfree(replay->msgs[i].payload);
    jr_xfree(replay->msgs);
    *replay = (struct jr_zmq_replay){0};
}

/* ---- the group's thread ---- */

static void end(struct jr_zmq_asker *a, int err)
{
    a->running = false;
    a->err = err;
    jr_zmq_group_time(&a->member, false);
    if (!a->replay.complete)
        jr_zmq_group_close_socket(&a->member);
    jr_zmq_group_replay_leave(a->member.group);
    jr_loop_post(a->config.loop, &a->done);
}

static int connect_socket(struct jr_zmq_asker *a)
{
    /* No high-water mark: what comes is bounded by bytes, and a ROUTER drops what it cannot send. */
    int linger = 0, hwm = 0, ipv6 = 1;
    int64_t most = (int64_t)a->config.bytes_max; /* of a message; whoever sends more is cut off */
    a->member.socket = zmq_socket(jr_zmq_group_context(a->member.group), ZMQ_DEALER);
    if (a->member.socket == NULL)
        return jr_zmq_error(&a->e, a->config.endpoint);
    zmq_setsockopt(a->member.socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(a->member.socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt(a->member.socket, ZMQ_IPV6, &ipv6, sizeof ipv6);
    zmq_setsockopt(a->member.socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    if (zmq_connect(a->member.socket, a->config.endpoint) != 0)
        return jr_zmq_error(&a->e, a->config.endpoint);
    int err = jr_zmq_group_watch(&a->member);
    return err == 0 ? 0 : jr_errmsg_set(&a->e, err, "%s: not watched", a->config.endpoint);
}

static int send_question(struct jr_zmq_asker *a)
{
    uint8_t seq[JR_ZMQ_SEQ_BYTES];
    jr_zmq_seq_put(seq, a->from);
    if (zmq_send(a->member.socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(a->member.socket, seq, sizeof seq, ZMQ_DONTWAIT) < 0)
        return jr_zmq_error(&a->e, a->config.endpoint);
    return 0;
}

static void begin(struct jr_zmq_asker *a)
{
    a->e.text[0] = '\0';
    a->running = true;
    a->until_ms = a->quiet_ms = now_ms() + a->config.timeout_ms;
    jr_zmq_group_time(&a->member, true);
    int err = a->member.socket == NULL ? connect_socket(a) : 0;
    if (err == 0)
        err = send_question(a);
    if (err < 0)
        end(a, err);
}

static void keep(struct jr_zmq_asker *a, uint64_t seq, zmq_msg_t *payload)
{
    size_t n = zmq_msg_size(payload);
    if (a->replay.n == a->cap) {
        a->cap = a->cap != 0 ? 2 * a->cap : 4;
        a->replay.msgs = jr_xrealloc(a->replay.msgs, a->cap * sizeof *a->replay.msgs);
    }
    a->bytes += n;
    a->replay.msgs[a->replay.n++] = (struct jr_zmq_replay_msg){
        .seq = seq, .payload = jr_xmemdup(zmq_msg_data(payload), n), .n = n};
    a->quiet_ms = now_ms() + a->config.idle_ms;
}

/* Others than answers are passed over. */
static void collect(struct jr_zmq_asker *a, struct jr_zmq_frames *f)
{
    if (f->n < 2 || f->extra != 0 || zmq_msg_size(&f->part[f->n - 2]) != JR_ZMQ_SEQ_BYTES)
        return;
    zmq_msg_t *last = &f->part[f->n - 1];
    uint64_t seq = jr_zmq_seq_get(zmq_msg_data(&f->part[f->n - 2]));
    size_t n = zmq_msg_size(last);
    if (seq == UINT64_MAX && n == 0) {
        a->replay.complete = true;
        end(a, 0);
        return;
    }
    if (a->bytes + n <= a->config.bytes_max && jr_zmq_group_replay_hold(a->member.group, n))
        keep(a, seq, last);
    else
        end(a, 0);
}

/* Whatever comes while nothing is asked is thrown away. */
static bool serve(struct jr_zmq_member *m)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(m, struct jr_zmq_asker, member);
    struct jr_zmq_frames f;
    if (atomic_load(&a->wanted) && !a->running && jr_zmq_group_replay_enter(m)) {
        atomic_store(&a->wanted, false);
        begin(a);
    }
    for (unsigned i = 0; i < BURST; i++) {
        if (m->socket == NULL || !jr_zmq_frames_recv(m->socket, &f))
            return false;
        if (a->running)
            collect(a, &f);
        jr_zmq_frames_deinit(&f);
    }
    return true;
}

static void tick(struct jr_zmq_member *m, uint64_t now)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(m, struct jr_zmq_asker, member);
    if (now < a->until_ms && now < a->quiet_ms)
        return;
    int err = 0;
    if (a->replay.n == 0)
        err = jr_errmsg_set(&a->e, JR_ETIMEOUT, "%s: no answer to a replay request",
                            a->config.endpoint);
    end(a, err);
}

static void left(struct jr_zmq_member *m)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(m, struct jr_zmq_asker, member);
    if (a->running)
        jr_zmq_group_replay_leave(m->group);
    jr_loop_post(a->config.loop, &a->final);
}

/* ---- loop thread ---- */

static void forget_replay(struct jr_zmq_asker *a, struct jr_zmq_replay *replay)
{
    jr_zmq_group_replay_free(a->member.group, a->bytes);
    a->bytes = 0;
    a->cap = 0;
    jr_zmq_replay_deinit(replay);
}

static void done_drop(struct jr_msg *msg)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(msg, struct jr_zmq_asker, done);
    forget_replay(a, &a->replay);
}

static void done_deliver(struct jr_msg *msg)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(msg, struct jr_zmq_asker, done);
    struct jr_zmq_replay replay = a->replay;
    struct jr_errmsg e = a->e;
    uint64_t bytes = a->bytes;
    a->replay = (struct jr_zmq_replay){0};
    a->bytes = 0;
    a->cap = 0;
    a->asked = false;
    struct jr_zmq_group *group = a->member.group;
    if (!a->closing)
        a->config.fn(a->config.ctx, a->err, &replay, &e);
    jr_zmq_group_replay_free(group, bytes);
    jr_zmq_replay_deinit(&replay);
}

static void final_drop(struct jr_msg *msg)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(msg, struct jr_zmq_asker, final);
    forget_replay(a, &a->replay);
    jr_zmq_member_release(&a->member);
    jr_xfree((void *)a->config.endpoint);
    jr_xfree(a);
}

static void final_deliver(struct jr_msg *msg)
{
    struct jr_zmq_asker *a = JR_CONTAINER_OF(msg, struct jr_zmq_asker, final);
    void (*cb)(void *ctx) = a->close_cb;
    void *ctx = a->close_ctx;
    final_drop(msg);
    if (cb != NULL)
        cb(ctx);
}

struct jr_zmq_asker *jr_zmq_asker_create(const struct jr_zmq_asker_config *config)
{
    struct jr_zmq_asker *a = jr_xalloc(sizeof *a);
    a->config = *config;
    a->config.endpoint = jr_xstrdup(config->endpoint);
    a->done.deliver = done_deliver;
    a->done.drop = done_drop;
    a->final.deliver = final_deliver;
    a->final.drop = final_drop;
    jr_zmq_member_init(&a->member, config->group);
    a->member.serve = serve;
    a->member.tick = tick;
    a->member.left = left;
    jr_zmq_group_join(&a->member);
    return a;
}

void jr_zmq_asker_ask(struct jr_zmq_asker *asker, uint64_t from_seq)
{
    JR_ASSERT(!asker->asked && !asker->closing);
    asker->asked = true;
    asker->from = from_seq;
    atomic_store(&asker->wanted, true);
    jr_zmq_group_wake(&asker->member);
}

void jr_zmq_asker_close(struct jr_zmq_asker *asker, void (*cb)(void *ctx), void *ctx)
{
    if (asker == NULL)
        return;
    asker->closing = true;
    asker->close_cb = cb;
    asker->close_ctx = ctx;
    jr_zmq_group_leave(&asker->member);
}
