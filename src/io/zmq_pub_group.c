/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_pub_internal.h"

#include "base/mem.h"
#include "io/zmq_frames.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define EVENTS_AT_ONCE 64
#define WAKE           UINT64_MAX /* instead of a place, in an epoll event */

/* A ZMQ socket may change threads as long as one uses it at a time: `run` is whose turn it is. Without
 * `door` the thread, which gives its turn back only to take it again, would hardly let anybody in. */
struct jr_zmq_pub_group {
    void *zmq;
    int epoll_fd, wake_fd;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t door, run;
    struct place { /* guarded by run */
        struct jr_zmq_pub *pub;
        uint32_t turn; /* an event of an earlier one is of another publisher */
    } * places;
    uint32_t n, max;
    pthread_mutex_t mu;     /* guards all below */
    struct jr_list pending; /* of jr_zmq_pub */
    bool stop;
};

void jr_zmq_pub_group_take(struct jr_zmq_pub_group *g)
{
    pthread_mutex_lock(&g->door);
    pthread_mutex_lock(&g->run);
    pthread_mutex_unlock(&g->door);
}

void jr_zmq_pub_group_give(struct jr_zmq_pub_group *g)
{
    pthread_mutex_unlock(&g->run);
}

void *jr_zmq_pub_group_context(struct jr_zmq_pub_group *g)
{
    return g->zmq;
}

/* --- thread --- */

static void wake(struct jr_zmq_pub_group *g)
{
    uint64_t one = 1;
    if (write(g->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the thread is awake */
}

void jr_zmq_pub_group_wake(struct jr_zmq_pub_group *g, struct jr_zmq_pub *p)
{
    bool was_idle = false;
    pthread_mutex_lock(&g->mu);
    if (!p->is_pending) {
        was_idle = jr_list_empty(&g->pending);
        jr_list_push_back(&g->pending, &p->pending);
        p->is_pending = true;
    }
    pthread_mutex_unlock(&g->mu);
    if (was_idle)
        wake(g);
}

static struct jr_zmq_pub *take_pending(struct jr_zmq_pub_group *g)
{
    struct jr_zmq_pub *p = NULL;
    pthread_mutex_lock(&g->mu);
    if (!jr_list_empty(&g->pending)) {
        p = JR_CONTAINER_OF(g->pending.next, struct jr_zmq_pub, pending);
        jr_list_remove(&p->pending);
        p->is_pending = false;
    }
    pthread_mutex_unlock(&g->mu);
    return p;
}

static void serve(struct jr_zmq_pub_group *g, uint64_t event)
{
    uint64_t count;
    if (event == WAKE) {
        if (read(g->wake_fd, &count, sizeof count) < 0)
            return; /* somebody else was faster: what is pending is sent all the same */
        return;
    }
    uint32_t at = (uint32_t)event, turn = (uint32_t)(event >> 32);
    if (at < g->n && g->places[at].pub && g->places[at].turn == turn)
        jr_zmq_pub_answer(g->places[at].pub);
}

static bool stopped(struct jr_zmq_pub_group *g)
{
    pthread_mutex_lock(&g->mu);
    bool stop = g->stop;
    pthread_mutex_unlock(&g->mu);
    return stop;
}

static void *group_main(void *arg)
{
    struct jr_zmq_pub_group *g = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    struct jr_zmq_pub *p;

    while (!stopped(g)) {
        int n = epoll_wait(g->epoll_fd, events, EVENTS_AT_ONCE, -1);
        if (n < 0 && errno != EINTR)
            break;
        jr_zmq_pub_group_take(g);
        for (int i = 0; i < n; i++)
            serve(g, events[i].data.u64);
        while ((p = take_pending(g)))
            jr_zmq_pub_send_live(p);
        jr_zmq_pub_group_give(g);
    }
    return NULL;
}

/* --- who is in it --- */

static int watch(struct jr_zmq_pub_group *g, int fd, uint64_t what)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = what};
    return epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : JR_EIO;
}

int jr_zmq_pub_group_join(struct jr_zmq_pub_group *g, struct jr_zmq_pub *p)
{
    uint32_t at = 0;
    while (at < g->n && g->places[at].pub)
        at++;
    if (at == g->max)
        return JR_ELIMIT;
    uint64_t event = at | (uint64_t)(g->places[at].turn + 1) << 32;
    if (p->router) {
        int err = watch(g, jr_zmq_fd(p->router), event);
        if (err < 0)
            return err;
    }
    g->n = at == g->n ? at + 1 : g->n;
    g->places[at].pub = p;
    g->places[at].turn++;
    p->slot = at;
    return 0;
}

void jr_zmq_pub_group_leave(struct jr_zmq_pub_group *g, struct jr_zmq_pub *p)
{
    if (p->slot >= g->n || g->places[p->slot].pub != p)
        return; /* it never joined */
    if (p->router)
        (void)epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, jr_zmq_fd(p->router), NULL);
    g->places[p->slot].pub = NULL;
    pthread_mutex_lock(&g->mu);
    if (p->is_pending)
        jr_list_remove(&p->pending);
    p->is_pending = false;
    pthread_mutex_unlock(&g->mu);
}

/* --- create, destroy --- */

static int start(struct jr_zmq_pub_group *g)
{
    g->zmq = zmq_ctx_new();
    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g->zmq == NULL || g->epoll_fd < 0 || g->wake_fd < 0 || watch(g, g->wake_fd, WAKE) < 0)
        return JR_EIO;
    /* Two sockets each, and some that are still being closed. */
    if (g->max > 256 && zmq_ctx_set(g->zmq, ZMQ_MAX_SOCKETS, (int)(3 * g->max)) != 0)
        return JR_EIO;
    g->has_thread = pthread_create(&g->thread, NULL, group_main, g) == 0;
    return g->has_thread ? 0 : JR_EIO;
}

int jr_zmq_pub_group_create(uint32_t pubs_max, struct jr_zmq_pub_group **ret, struct jr_errmsg *e)
{
    struct jr_zmq_pub_group *g = jr_xalloc(sizeof *g);
    g->max = pubs_max;
    g->places = jr_xalloc((size_t)pubs_max * sizeof *g->places);
    g->epoll_fd = g->wake_fd = -1;
    jr_list_init(&g->pending);
    pthread_mutex_init(&g->door, NULL);
    pthread_mutex_init(&g->run, NULL);
    pthread_mutex_init(&g->mu, NULL);
    int err = start(g);
    if (err < 0) {
        jr_errmsg_set(e, err, "ZMQ publishers: %s", strerror(errno));
        jr_zmq_pub_group_destroy(g);
        return err;
    }
    *ret = g;
    return 0;
}

void jr_zmq_pub_group_destroy(struct jr_zmq_pub_group *g)
{
    if (g == NULL)
        return;
    if (g->has_thread) {
        pthread_mutex_lock(&g->mu);
        g->stop = true;
        pthread_mutex_unlock(&g->mu);
        wake(g);
        pthread_join(g->thread, NULL);
    }
    if (g->zmq != NULL)
        zmq_ctx_term(g->zmq);
    if (g->epoll_fd >= 0)
        close(g->epoll_fd);
    if (g->wake_fd >= 0)
        close(g->wake_fd);
    pthread_mutex_destroy(&g->door);
    pthread_mutex_destroy(&g->run);
    pthread_mutex_destroy(&g->mu);
    jr_xfree(g->places);
    jr_xfree(g);
}
