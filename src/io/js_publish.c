/* SPDX-License-Identifier: Apache-2.0 */
#include "io/js_publish.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/cond.h"
#include "io/nats_trash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WINDOW_MSGS_DEFAULT  1000
#define WINDOW_BYTES_DEFAULT (8u << 20)
#define TIMEOUT_MS_DEFAULT   5000
#define TICK_MS              50  /* how soon a time-out, a reconnect or the end is noticed */
#define PATIENCE_MS_MAX      200 /* the end waits for who gathers */
#define NO_SLOT              UINT32_MAX

/* One publish, on its way through
 *
 *     queue ──sender──► sent ──ack, time-out──► mailbox ──loop──► fn
 *
 * It holds a slot, whose number is in its reply subject, until someone takes it out, under mu, and
 * posts it: so it ends exactly once. */
struct op {
    struct jr_msg msg;
    struct jr_list node; /* in queue or in sent, both oldest first */
    struct jr_js_publisher *publisher;
    jr_js_ack_fn *fn;
    void *ctx;
    natsMsg *m; /* NULL once the sender has it */
    uint64_t bytes;
    uint32_t slot;
    uint64_t deadline_ns;
    uint64_t generation; /* of the connection it was sent on; 0: not sent */
    int err;
    struct jr_pub_ack ack;
};

struct slot {
    struct op *op;
    uint32_t use; /* also in the reply subject: a late answer finds another use, or no op */
    uint32_t next_free;
};

struct jr_js_publisher {
    struct jr_js_publisher_config config;
    char *inbox;
    struct jr_nats_trash trash;
    /* loop thread */
    struct jr_after wake_sender; /* it has something to send */
    uint32_t inflight_msgs;
    uint64_t inflight_bytes;
    bool refused; /* somebody got JR_EAGAIN */
    bool closing;
    void (*close_cb)(void *ctx);
    void *close_ctx;
    /* guarded by mu */
    pthread_mutex_t mu;
    pthread_cond_t cond; /* for the sender */
    pthread_cond_t wake; /* for the keeper */
    struct jr_list queue, sent;
    struct slot *slots;
    uint32_t n_slots, free_slot;
    bool subscribed;
    bool unsubscribed; /* no more replies run */
    bool stop;
    /* threads */
    pthread_t sender, keeper;
    struct jr_msg final;
    atomic_uint_least64_t published, acked, duplicates, errors, timeouts;
};

static struct op *op_of(struct jr_list *node)
{
    return JR_CONTAINER_OF(node, struct op, node);
}

/* With mu held. */
static void take_out(struct op *op)
{
    struct jr_js_publisher *pub = op->publisher;
    struct slot *slot = &pub->slots[op->slot];

    jr_list_remove(&op->node);
    slot->op = NULL;
    slot->use++;
    slot->next_free = pub->free_slot;
    pub->free_slot = op->slot;
}

/* op was taken out; not used by us afterwards. */
static void finish(struct op *op, int err)
{
    op->err = err;
    jr_loop_post(op->publisher->config.loop, &op->msg);
}

/* --- loop thread --- */

static void op_free(struct op *op)
{
    natsMsg_Destroy(op->m);
    jr_xfree(op);
}

static void op_drop(struct jr_msg *msg)
{
    op_free((struct op *)msg);
}

static void count_outcome(struct jr_js_publisher *pub, const struct op *op)
{
    if (op->err == 0) {
        atomic_fetch_add(&pub->acked, 1);
        if (op->ack.duplicate)
            atomic_fetch_add(&pub->duplicates, 1);
    } else if (op->err == JR_ETIMEOUT) {
        atomic_fetch_add(&pub->timeouts, 1);
    } else {
        atomic_fetch_add(&pub->errors, 1);
    }
}

static void op_deliver(struct jr_msg *msg)
{
    struct op *op = (struct op *)msg;
    struct jr_js_publisher *pub = op->publisher;

    pub->inflight_msgs--;
    pub->inflight_bytes -= op->bytes;
    count_outcome(pub, op);
    op->fn(op->ctx, op->err, &op->ack);
    op_free(op);
    if (!pub->refused || pub->closing)
        return;
    pub->refused = false;
    if (pub->config.on_room != NULL)
        pub->config.on_room(pub->config.ctx);
}

static bool has_room(const struct jr_js_publisher *pub, uint64_t bytes)
{
    if (pub->inflight_msgs == 0)
        return true;
    return pub->inflight_msgs < pub->config.window_msgs &&
           pub->inflight_bytes + bytes <= pub->config.window_bytes;
}

static struct op *op_new(struct jr_js_publisher *publisher, const struct jr_pub *pub,
                         jr_js_ack_fn *fn, void *ctx)
{
    struct op *op = jr_xalloc(sizeof *op);

    op->msg.deliver = op_deliver;
    op->msg.drop = op_drop;
    op->publisher = publisher;
    op->fn = fn;
    op->ctx = ctx;
    op->bytes = pub->n;
    op->deadline_ns = jr_loop_now_ns() + publisher->config.timeout_ms * 1000000ull;
    jr_list_init(&op->node);
    return op;
}

/* It costs more than to hand over the message: who is being served goes before, and several messages
 * of a turn need one. */
static void wake_sender(void *ctx)
{
    struct jr_js_publisher *pub = ctx;

    pthread_cond_signal(&pub->cond); /* it finds the lock free */
}

/* With mu held. A slot is free, for there are as many as the window has messages. */
static int enqueue(struct jr_js_publisher *publisher, struct op *op, const struct jr_pub *pub)
{
    uint32_t index = publisher->free_slot;
    struct slot *slot = &publisher->slots[index];
    char reply[96];

    JR_ASSERT(index != NO_SLOT && slot->op == NULL);
    snprintf(reply, sizeof reply, "%s.%x.%x", publisher->inbox, index, slot->use);
    int rv = jr_pub_to_msg(pub, reply, &op->m);
    if (rv != 0)
        return rv;
    publisher->free_slot = slot->next_free;
    slot->op = op;
    op->slot = index;
    jr_list_push_back(&publisher->queue, &op->node);
    return 0;
}

int jr_js_publish_async(struct jr_js_publisher *publisher, const struct jr_pub *pub,
                        jr_js_ack_fn *fn, void *ctx)
{
    struct op *op;

    if (publisher->closing)
        return JR_ECLOSED;
    if (pub->n > jr_nats_max_payload(publisher->config.nats))
        return JR_EINVAL;
    if (!has_room(publisher, pub->n)) {
        publisher->refused = true;
        return JR_EAGAIN;
    }
    op = op_new(publisher, pub, fn, ctx);
    pthread_mutex_lock(&publisher->mu);
    int rv = enqueue(publisher, op, pub);
    pthread_mutex_unlock(&publisher->mu);
    if (rv != 0) {
        op_free(op);
        return rv;
    }
    jr_after_ask(&publisher->wake_sender, publisher->config.loop);
    publisher->inflight_msgs++;
    publisher->inflight_bytes += pub->n;
    atomic_fetch_add(&publisher->published, 1);
    return 0;
}

/* --- sender thread --- */

/* The next message with what names its op, or NULL at the end. */
static natsMsg *next_to_send(struct jr_js_publisher *pub, uint32_t *ret_slot, uint32_t *ret_use)
{
    natsMsg *m = NULL;

    pthread_mutex_lock(&pub->mu);
    while (!pub->stop && (jr_list_empty(&pub->queue) || !pub->subscribed))
        pthread_cond_wait(&pub->cond, &pub->mu);
    if (!pub->stop) {
        struct op *op = op_of(jr_list_pop_front(&pub->queue));
        jr_list_push_back(&pub->sent, &op->node);
        op->generation = jr_nats_generation(pub->config.nats);
        *ret_slot = op->slot;
        *ret_use = pub->slots[op->slot].use;
        m = op->m;
        op->m = NULL;
    }
    pthread_mutex_unlock(&pub->mu);
    return m;
}

/* The op of a slot, taken out; NULL when it ended before. */
static struct op *claim(struct jr_js_publisher *pub, uint32_t slot, uint32_t use)
{
    struct op *op = NULL;

    pthread_mutex_lock(&pub->mu);
    if (slot < pub->n_slots && pub->slots[slot].use == use) {
        op = pub->slots[slot].op;
        if (op != NULL)
            take_out(op);
    }
    pthread_mutex_unlock(&pub->mu);
    return op;
}

static void *sender_main(void *arg)
{
    struct jr_js_publisher *pub = arg;
    uint32_t slot, use;
    natsMsg *m;

    while ((m = next_to_send(pub, &slot, &use)) != NULL) {
        natsStatus s = NATS_CONNECTION_DISCONNECTED;
        if (jr_nats_connected(pub->config.nats))
            s = natsConnection_PublishMsg(jr_nats_nc(pub->config.nats), m);
        jr_nats_trash_put(&pub->trash, m);
        if (s == NATS_OK)
            continue;
        struct op *op = claim(pub, slot, use);
        if (op != NULL)
            finish(op, jr_nats_error(s, 0, NULL, "publish"));
    }
    return NULL;
}

/* --- replies: a thread of nats.c. (Taking them with natsSubscription_NextMsg instead would lose
 * whom "no responders" is for: 3.4.1 swallows that message.) --- */

static void on_reply(struct jr_js_publisher *pub, natsMsg *reply)
{
    const char *p = natsMsg_GetSubject(reply) + strlen(pub->inbox);
    char *end;
    unsigned long slot, use;
    struct op *op;

    if (*p != '.')
        return;
    slot = strtoul(p + 1, &end, 16);
    if (*end != '.' || slot > UINT32_MAX)
        return;
    use = strtoul(end + 1, NULL, 16);
    op = claim(pub, (uint32_t)slot, (uint32_t)use);
    if (op != NULL)
        finish(op, jr_pub_reply(reply, &op->ack, NULL));
}

/* To be woken for each answer, and to wake the loop for it, costs more than to publish. */
static void let_gather(const struct jr_js_publisher *pub, natsSubscription *sub)
{
    uint64_t waiting = 0;

    if (pub->config.patience_ms == 0 || natsSubscription_QueuedMsgs(sub, &waiting) != NATS_OK ||
        waiting > 0)
        return;
    (void)nanosleep(&(struct timespec){.tv_nsec = pub->config.patience_ms * 1000000L}, NULL);
}

static void reply_cb(natsConnection *nc, natsSubscription *sub, natsMsg *reply, void *closure)
{
    (void)nc;
    struct jr_js_publisher *pub = closure;

    on_reply(pub, reply);
    jr_nats_trash_put(&pub->trash, reply);
    let_gather(pub, sub);
}

static void complete_cb(void *closure)
{
    struct jr_js_publisher *pub = closure;

    pthread_mutex_lock(&pub->mu);
    pub->unsubscribed = true;
    pthread_cond_signal(&pub->wake);
    pthread_mutex_unlock(&pub->mu);
}

/* --- keeper thread: subscribes, looks for what is overdue, ends it all --- */

/* With mu held: the oldest op that is overdue, or whose answer was lost with its connection. */
static struct op *overdue(struct jr_js_publisher *pub, uint64_t now_ns)
{
    uint64_t generation = jr_nats_generation(pub->config.nats);

    JR_LIST_FOREACH_SAFE (it, &pub->sent) {
        struct op *op = op_of(it);
        if (op->generation != generation || op->deadline_ns <= now_ns)
            return op;
        break; /* sent in order, with one time-out for all */
    }
    if (!jr_list_empty(&pub->queue)) {
        struct op *op = op_of(pub->queue.next);
        if (op->deadline_ns <= now_ns)
            return op;
    }
    return NULL;
}

static void sweep(struct jr_js_publisher *pub)
{
    uint64_t now_ns = jr_loop_now_ns();
    struct op *op;

    for (;;) {
        pthread_mutex_lock(&pub->mu);
        op = overdue(pub, now_ns);
        int err = op != NULL && op->generation == 0 ? JR_ENONATS : JR_ETIMEOUT;
        if (op != NULL)
            take_out(op);
        pthread_mutex_unlock(&pub->mu);
        if (op == NULL)
            return;
        finish(op, err);
    }
}

/* Waits a tick or for the end; true at the end. */
static bool tick(struct jr_js_publisher *pub)
{
    const struct timespec until = jr_cond_until(TICK_MS);

    pthread_mutex_lock(&pub->mu);
    while (!pub->stop && pthread_cond_timedwait(&pub->wake, &pub->mu, &until) == 0)
        ;
    bool stop = pub->stop;
    pthread_mutex_unlock(&pub->mu);
    return stop;
}

/* The inbox; false while the connection takes no subscription. */
static bool subscribe(struct jr_js_publisher *pub, natsSubscription **ret)
{
    natsSubscription *sub = NULL;
    char subject[96];

    snprintf(subject, sizeof subject, "%s.>", pub->inbox);
    if (natsConnection_Subscribe(&sub, jr_nats_nc(pub->config.nats), subject, reply_cb, pub) !=
        NATS_OK)
        return false;
    if (natsSubscription_SetOnCompleteCB(sub, complete_cb, pub) != NATS_OK)
        complete_cb(pub); /* closed in between */
    natsSubscription_SetPendingLimits(sub, -1, -1);
    pthread_mutex_lock(&pub->mu);
    pub->subscribed = true;
    pthread_cond_signal(&pub->cond);
    pthread_mutex_unlock(&pub->mu);
    *ret = sub;
    return true;
}

static void unsubscribe(struct jr_js_publisher *pub, natsSubscription *sub)
{
    if (sub == NULL)
        return;
    natsSubscription_Unsubscribe(sub);
    pthread_mutex_lock(&pub->mu);
    while (!pub->unsubscribed)
        pthread_cond_wait(&pub->wake, &pub->mu);
    pthread_mutex_unlock(&pub->mu);
    jr_nats_drop_sub(pub->config.nats, sub);
}

static void end_all(struct jr_js_publisher *pub)
{
    for (;;) {
        struct op *op = NULL;
        pthread_mutex_lock(&pub->mu);
        if (!jr_list_empty(&pub->sent))
            op = op_of(pub->sent.next);
        else if (!jr_list_empty(&pub->queue))
            op = op_of(pub->queue.next);
        if (op != NULL)
            take_out(op);
        pthread_mutex_unlock(&pub->mu);
        if (op == NULL)
            return;
        finish(op, JR_ECLOSED);
    }
}

/* The connection that it was made on was given up: the next one needs another. */
static natsSubscription *drop_dead(struct jr_js_publisher *pub, natsSubscription *sub)
{
    pthread_mutex_lock(&pub->mu);
    bool dead = pub->unsubscribed;
    if (dead)
        pub->subscribed = pub->unsubscribed = false;
    pthread_mutex_unlock(&pub->mu);
    if (!dead)
        return sub;
    jr_nats_drop_sub(pub->config.nats, sub);
    return NULL;
}

static void *keeper_main(void *arg)
{
    struct jr_js_publisher *pub = arg;
    natsSubscription *sub = NULL;

    do {
        if (sub != NULL)
            sub = drop_dead(pub, sub);
        if (sub == NULL)
            (void)subscribe(pub, &sub);
        sweep(pub);
    } while (!tick(pub));
    pthread_join(pub->sender, NULL);
    unsubscribe(pub, sub);
    end_all(pub);
    jr_loop_post(pub->config.loop, &pub->final); /* after all outcomes */
    return NULL;
}

/* --- create, close --- */

static void publisher_free(struct jr_js_publisher *pub)
{
    pthread_cond_destroy(&pub->cond);
    pthread_cond_destroy(&pub->wake);
    pthread_mutex_destroy(&pub->mu);
    jr_nats_trash_deinit(&pub->trash);
    jr_xfree(pub->slots);
    jr_xfree(pub->inbox);
    jr_xfree(pub);
}

static void final_drop(struct jr_msg *msg)
{
    struct jr_js_publisher *pub = JR_CONTAINER_OF(msg, struct jr_js_publisher, final);

    pthread_join(pub->keeper, NULL);
    publisher_free(pub);
}

static void final_deliver(struct jr_msg *msg)
{
    struct jr_js_publisher *pub = JR_CONTAINER_OF(msg, struct jr_js_publisher, final);
    void (*cb)(void *ctx) = pub->close_cb;
    void *ctx = pub->close_ctx;

    final_drop(msg);
    if (cb != NULL)
        cb(ctx);
}

static struct jr_js_publisher *publisher_new(const struct jr_js_publisher_config *config)
{
    struct jr_js_publisher *pub = jr_xalloc(sizeof *pub);
    struct jr_js_publisher_config *c = &pub->config;

    *c = *config;
    c->window_msgs = c->window_msgs != 0 ? c->window_msgs : WINDOW_MSGS_DEFAULT;
    c->window_bytes = c->window_bytes != 0 ? c->window_bytes : WINDOW_BYTES_DEFAULT;
    c->timeout_ms = c->timeout_ms != 0 ? c->timeout_ms : TIMEOUT_MS_DEFAULT;
    JR_ASSERT(c->patience_ms <= PATIENCE_MS_MAX);
    pthread_mutex_init(&pub->mu, NULL);
    pthread_cond_init(&pub->cond, NULL);
    jr_cond_init(&pub->wake);
    jr_nats_trash_init(&pub->trash);
    jr_after_init(&pub->wake_sender, wake_sender, pub);
    jr_list_init(&pub->queue);
    jr_list_init(&pub->sent);
    pub->n_slots = c->window_msgs;
    pub->slots = jr_xalloc(pub->n_slots * sizeof *pub->slots);
    for (uint32_t i = 0; i < pub->n_slots; i++)
        pub->slots[i].next_free = i + 1 < pub->n_slots ? i + 1 : NO_SLOT;
    pub->final.deliver = final_deliver;
    pub->final.drop = final_drop;
    return pub;
}

int jr_js_publisher_create(const struct jr_js_publisher_config *config,
                           struct jr_js_publisher **ret)
{
    struct jr_js_publisher *pub = publisher_new(config);
    natsInbox *inbox = NULL;

    if (natsInbox_Create(&inbox) != NATS_OK)
        goto err_after_new;
    pub->inbox = jr_xstrdup(inbox);
    natsInbox_Destroy(inbox);
    if (pthread_create(&pub->sender, NULL, sender_main, pub) != 0)
        goto err_after_new;
    if (pthread_create(&pub->keeper, NULL, keeper_main, pub) != 0)
        goto err_after_sender;
    *ret = pub;
    return 0;

err_after_sender:
    pthread_mutex_lock(&pub->mu);
    pub->stop = true;
    pthread_cond_signal(&pub->cond);
    pthread_mutex_unlock(&pub->mu);
    pthread_join(pub->sender, NULL);
err_after_new:
    publisher_free(pub);
    return JR_EIO;
}

void jr_js_publisher_close(struct jr_js_publisher *publisher, void (*cb)(void *ctx), void *ctx)
{
    publisher->closing = true;
    publisher->close_cb = cb;
    publisher->close_ctx = ctx;
    jr_after_cancel(&publisher->wake_sender);
    pthread_mutex_lock(&publisher->mu);
    publisher->stop = true;
    pthread_cond_signal(&publisher->cond);
    pthread_cond_signal(&publisher->wake);
    pthread_mutex_unlock(&publisher->mu);
}

void jr_js_publisher_counters_get(struct jr_js_publisher *publisher,
                                  struct jr_js_publisher_counters *ret)
{
    *ret = (struct jr_js_publisher_counters){
        .published = atomic_load(&publisher->published),
        .acked = atomic_load(&publisher->acked),
        .duplicates = atomic_load(&publisher->duplicates),
        .errors = atomic_load(&publisher->errors),
        .timeouts = atomic_load(&publisher->timeouts),
        .inflight_msgs = publisher->inflight_msgs,
        .inflight_bytes = publisher->inflight_bytes,
    };
}
