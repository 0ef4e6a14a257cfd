/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

struct queue {
    struct jr_msg *head;
    struct jr_msg **tail; /* where the next one is hooked in */
};

struct jr_loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_check_t polled;                       /* the turn's beginning, when turns are watched */
    uv_prepare_t turned;                     /* its end */
    uint64_t polled_ms;                      /* when the turn began */
    uint64_t turn_ns;                        /* jr_loop_turn_ns; 0: not asked for in this turn */
    void (*on_turn)(void *ctx, uint64_t ms); /* NULL: nobody watches */
    void *turn_ctx;
    pthread_mutex_t mu;    /* guards posted, and that wake is not sent once it is closing */
    struct queue posted;   /* any thread appends */
    struct queue ready;    /* loop thread: taken from posted, not delivered yet */
    uint64_t slice_end_ns; /* of the batch that is being delivered */
    bool closing;
    bool in_timer; /* a timer's callback runs */
    struct jr_list timers, idlers;
    struct jr_list after; /* asked for */
    _Atomic(pthread_t) owner;
};

struct jr_timer {
    uv_timer_t handle;
    struct jr_list node;
    jr_timer_fn *fn;
    void *ctx;
};

struct jr_idler {
    uv_idle_t handle;
    struct jr_list node;
    bool (*fn)(void *ctx);
    void *ctx;
};

static void queue_init(struct queue *q)
{
    q->head = NULL;
    q->tail = &q->head;
}

static void queue_push(struct queue *q, struct jr_msg *msg)
{
    msg->next = NULL;
    *q->tail = msg;
    q->tail = &msg->next;
}

static struct jr_msg *queue_pop(struct queue *q)
{
    struct jr_msg *msg = q->head;

    if (msg == NULL)
        return NULL;
    q->head = msg->next;
    if (q->head == NULL)
        q->tail = &q->head;
    msg->next = NULL;
    return msg;
}

/* Appends all of src to dst. */
static void queue_move(struct queue *dst, struct queue *src)
{
    if (src->head == NULL)
        return;
    *dst->tail = src->head;
    dst->tail = src->tail;
    queue_init(src);
}

static void collect(struct jr_loop *loop)
{
    pthread_mutex_lock(&loop->mu);
    queue_move(&loop->ready, &loop->posted);
    pthread_mutex_unlock(&loop->mu);
}

/* One batch. What is left when the time is over waits for the next iteration, so that sockets and
 * timers are served in between: libuv returns from its poll after one round of events. */
static void on_wake(uv_async_t *handle)
{
    struct jr_loop *loop = handle->data;
    struct jr_msg *msg;

    loop->slice_end_ns = jr_loop_now_ns() + (uint64_t)JR_LOOP_SLICE_US * 1000;
    collect(loop);
    while ((msg = queue_pop(&loop->ready)) != NULL) {
        msg->deliver(msg);
        if (loop->ready.head != NULL && jr_loop_now_ns() >= loop->slice_end_ns) {
            uv_async_send(&loop->wake);
            return;
        }
    }
}

/* Right after the poll and its callbacks: libuv read its clock when the poll returned. */
static void on_polled(uv_check_t *handle)
{
    struct jr_loop *loop = handle->data;

    loop->polled_ms = uv_now(&loop->uv);
}

/* Right before the next one. */
static void on_turned(uv_prepare_t *handle)
{
    struct jr_loop *loop = handle->data;

    jr_loop_settle(loop); /* what is flushed in this phase, too, was flushed before */
    loop->turn_ns = 0;
    if (loop->on_turn == NULL)
        return;
    uv_update_time(&loop->uv);
    const uint64_t now = uv_now(&loop->uv);
    if (loop->polled_ms != 0 && now >= loop->polled_ms)
        loop->on_turn(loop->turn_ctx, now - loop->polled_ms);
}

/* Neither keeps the loop running. */
static void watch_turns(struct jr_loop *loop)
{
    uv_check_init(&loop->uv, &loop->polled);
    uv_prepare_init(&loop->uv, &loop->turned);
    loop->polled.data = loop->turned.data = loop;
    uv_check_start(&loop->polled, on_polled);
    uv_prepare_start(&loop->turned, on_turned);
    uv_unref((uv_handle_t *)&loop->polled);
    uv_unref((uv_handle_t *)&loop->turned);
}

int jr_loop_create(struct jr_loop **ret)
{
    struct jr_loop *loop = jr_xalloc(sizeof *loop);

    /* A peer that goes away while we write is an error code, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&loop->uv) != 0)
        goto err_after_alloc;
    if (uv_async_init(&loop->uv, &loop->wake, on_wake) != 0)
        goto err_after_loop;
    loop->wake.data = loop;
    watch_turns(loop);
    pthread_mutex_init(&loop->mu, NULL);
    queue_init(&loop->posted);
    queue_init(&loop->ready);
    jr_list_init(&loop->timers);
    jr_list_init(&loop->idlers);
    jr_list_init(&loop->after);
    atomic_store(&loop->owner, pthread_self());
    *ret = loop;
    return 0;

err_after_loop:
    uv_loop_close(&loop->uv);
err_after_alloc:
    jr_xfree(loop);
    return JR_EIO;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void drop_messages(struct jr_loop *loop)
{
    struct jr_msg *msg;

    for (;;) {
        collect(loop);
        msg = queue_pop(&loop->ready);
        if (msg == NULL)
            return;
        if (msg->drop != NULL)
            msg->drop(msg);
    }
}

static void destroy_timers_and_idlers(struct jr_loop *loop)
{
    while (!jr_list_empty(&loop->timers))
        jr_timer_destroy(JR_CONTAINER_OF(loop->timers.next, struct jr_timer, node));
    while (!jr_list_empty(&loop->idlers))
        jr_idler_destroy(JR_CONTAINER_OF(loop->idlers.next, struct jr_idler, node));
}

void jr_loop_destroy(struct jr_loop *loop)
{
    if (loop == NULL)
        return;
    atomic_store(&loop->owner, pthread_self());
    pthread_mutex_lock(&loop->mu);
    loop->closing = true;
    pthread_mutex_unlock(&loop->mu);
    /* A drop or close callback may leave further handles or messages: go round until none is. */
    do {
        drop_messages(loop);
        destroy_timers_and_idlers(loop);
        uv_walk(&loop->uv, close_handle, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    } while (uv_loop_close(&loop->uv) == UV_EBUSY);
    drop_messages(loop);
    pthread_mutex_destroy(&loop->mu);
    jr_xfree(loop);
}

void jr_loop_run(struct jr_loop *loop)
{
    atomic_store(&loop->owner, pthread_self());
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void jr_loop_stop(struct jr_loop *loop)
{
    JR_DASSERT(jr_loop_here(loop));
    uv_stop(&loop->uv);
}

uv_loop_t *jr_loop_uv(struct jr_loop *loop)
{
    return &loop->uv;
}

uint64_t jr_loop_now_ms(struct jr_loop *loop)
{
    return uv_now(&loop->uv);
}

uint64_t jr_loop_now_ns(void)
{
    return uv_hrtime();
}

uint64_t jr_loop_turn_ns(struct jr_loop *loop)
{
    if (loop->turn_ns == 0)
        loop->turn_ns = uv_hrtime();
    return loop->turn_ns;
}

void jr_loop_watch(struct jr_loop *loop, void (*on_turn)(void *ctx, uint64_t ms), void *ctx)
{
    loop->on_turn = on_turn;
    loop->turn_ctx = ctx;
}

int64_t jr_unix_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

uint64_t jr_loop_slice_end_ns(const struct jr_loop *loop)
{
    return loop->slice_end_ns;
}

bool jr_loop_here(const struct jr_loop *loop)
{
    return pthread_equal(atomic_load(&loop->owner), pthread_self()) != 0;
}

void jr_loop_post(struct jr_loop *loop, struct jr_msg *msg)
{
    JR_ASSERT(msg->deliver != NULL);
    pthread_mutex_lock(&loop->mu);
    /* Whoever finds the queue filled knows that a wake is on its way. It is sent under the lock
     * because destroy may close the handle as soon as the lock is free. */
    const bool first = loop->posted.head == NULL;
    queue_push(&loop->posted, msg);
    if (first && !loop->closing)
        uv_async_send(&loop->wake);
    pthread_mutex_unlock(&loop->mu);
}

struct jr_msg *jr_loop_revoke(struct jr_loop *loop,
                              bool (*match)(const struct jr_msg *msg, const void *ctx),
                              const void *ctx)
{
    struct queue kept, taken;
    struct jr_msg *msg;

    JR_DASSERT(jr_loop_here(loop));
    queue_init(&kept);
    queue_init(&taken);
    collect(loop);
    while ((msg = queue_pop(&loop->ready)) != NULL)
        queue_push(match(msg, ctx) ? &taken : &kept, msg);
    queue_move(&loop->ready, &kept);
    /* collect emptied `posted` and a later poster sends a wake of its own; the wake already on its
     * way serves what is left here. */
    return taken.head;
}

/* ---- after ---- */

void jr_after_init(struct jr_after *after, void (*fn)(void *ctx), void *ctx)
{
    *after = (struct jr_after){.fn = fn, .ctx = ctx};
    jr_list_init(&after->node);
}

void jr_after_ask(struct jr_after *after, struct jr_loop *loop)
{
    JR_DASSERT(jr_loop_here(loop));
    if (jr_list_empty(&after->node))
        jr_list_push_back(&loop->after, &after->node);
}

void jr_after_cancel(struct jr_after *after)
{
    jr_list_remove(&after->node);
}

void jr_loop_settle(struct jr_loop *loop)
{
    struct jr_list *node;

    while ((node = jr_list_pop_front(&loop->after)) != NULL) {
        struct jr_after *after = JR_CONTAINER_OF(node, struct jr_after, node);
        after->fn(after->ctx);
    }
}

/* ---- gate ---- */

struct jr_gate {
    pthread_mutex_t mu;
    pthread_cond_t room;
    uint32_t max, inside;
    bool closed;
};

struct jr_gate *jr_gate_create(uint32_t max)
{
    struct jr_gate *gate = jr_xalloc(sizeof *gate);

    JR_ASSERT(max > 0);
    pthread_mutex_init(&gate->mu, NULL);
    pthread_cond_init(&gate->room, NULL);
    gate->max = max;
    return gate;
}

void jr_gate_destroy(struct jr_gate *gate)
{
    if (gate == NULL)
        return;
    pthread_cond_destroy(&gate->room);
    pthread_mutex_destroy(&gate->mu);
    jr_xfree(gate);
}

int jr_gate_enter(struct jr_gate *gate, uint32_t n)
{
    int err = 0;

    pthread_mutex_lock(&gate->mu);
    while (!gate->closed && gate->inside >= gate->max)
        pthread_cond_wait(&gate->room, &gate->mu);
    if (gate->closed)
        err = JR_ECLOSED;
    else
        gate->inside += n;
    pthread_mutex_unlock(&gate->mu);
    return err;
}

void jr_gate_leave(struct jr_gate *gate, uint32_t n)
{
    pthread_mutex_lock(&gate->mu);
    JR_ASSERT(gate->inside >= n);
    gate->inside -= n;
    pthread_cond_signal(&gate->room);
    pthread_mutex_unlock(&gate->mu);
}

void jr_gate_close(struct jr_gate *gate)
{
    pthread_mutex_lock(&gate->mu);
    gate->closed = true;
    pthread_cond_broadcast(&gate->room);
    pthread_mutex_unlock(&gate->mu);
}

/* ---- timer ---- */

static void on_timer(uv_timer_t *handle)
{
    struct jr_timer *timer = handle->data;
    struct jr_loop *loop = JR_CONTAINER_OF(handle->loop, struct jr_loop, uv);

    loop->in_timer = true;
    timer->fn(timer->ctx); /* may destroy the timer */
    loop->in_timer = false;
}

static void free_timer(uv_handle_t *handle)
{
    jr_xfree(handle->data);
}

struct jr_timer *jr_timer_create(struct jr_loop *loop, jr_timer_fn *fn, void *ctx)
{
    struct jr_timer *timer = jr_xalloc(sizeof *timer);

    uv_timer_init(&loop->uv, &timer->handle);
    timer->handle.data = timer;
    timer->fn = fn;
    timer->ctx = ctx;
    jr_list_push_back(&loop->timers, &timer->node);
    return timer;
}

void jr_timer_destroy(struct jr_timer *timer)
{
    if (timer == NULL)
        return;
    jr_list_remove(&timer->node);
    uv_close((uv_handle_t *)&timer->handle, free_timer);
}

void jr_timer_start(struct jr_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    const struct jr_loop *loop = JR_CONTAINER_OF(timer->handle.loop, struct jr_loop, uv);

    /* libuv before 1.45 runs timers until none is due, before it looks at any socket: one that
     * starts itself again without a delay would never let it. */
    if (delay_ms == 0 && loop->in_timer)
        delay_ms = 1;
    uv_timer_start(&timer->handle, on_timer, delay_ms, repeat_ms);
}

void jr_timer_stop(struct jr_timer *timer)
{
    uv_timer_stop(&timer->handle);
}

/* ---- idler ---- */

static void on_idle(uv_idle_t *handle)
{
    struct jr_idler *idler = handle->data;

    /* fn may destroy the idler; its memory lives until the close callback, after this. */
    if (!idler->fn(idler->ctx) && !uv_is_closing((uv_handle_t *)handle))
        uv_idle_stop(handle);
}

static void free_idler(uv_handle_t *handle)
{
    jr_xfree(handle->data);
}

struct jr_idler *jr_idler_create(struct jr_loop *loop, bool (*fn)(void *ctx), void *ctx)
{
    struct jr_idler *idler = jr_xalloc(sizeof *idler);

    uv_idle_init(&loop->uv, &idler->handle);
    idler->handle.data = idler;
    idler->fn = fn;
    idler->ctx = ctx;
    jr_list_push_back(&loop->idlers, &idler->node);
    return idler;
}

void jr_idler_start(struct jr_idler *idler)
{
    uv_idle_start(&idler->handle, on_idle);
}

void jr_idler_destroy(struct jr_idler *idler)
{
    if (idler == NULL)
        return;
    jr_list_remove(&idler->node);
    uv_close((uv_handle_t *)&idler->handle, free_idler);
}
