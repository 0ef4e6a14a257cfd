/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_group.h"

#include "base/assert.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/zmq_frames.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define SOCKETS_DEFAULT      1024
#define REPLAYS_DEFAULT      256
#define REPLAY_BYTES_DEFAULT (UINT64_C(1) << 30)
#define EVENTS_AT_ONCE       64

struct jr_zmq_group {
    void *zmq;
    int epoll_fd, wake_fd;
    bool has_thread;
    pthread_t thread;
    atomic_uint refs; /* the owner's, and one each member */
    atomic_bool stop;
    uint32_t replays_max;
    uint64_t replay_bytes_max;
    atomic_uint_least64_t replay_bytes;
    atomic_uint_least64_t turns;

    struct jr_list ready, timed, waiting; /* the thread's */
    uint32_t replays;
    uint64_t ticked_at_ms;

    pthread_mutex_t mu;     /* guards all below, and of a member in_pending, leaving, gone */
    struct jr_list pending; /* members that joined, were woken or leave */
    uint32_t n_members;     /* that have not left */
};

static void unref(struct jr_zmq_group *g)
{
    if (atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&g->mu);
    jr_xfree(g);
}

/* ---- members, from outside ---- */

void jr_zmq_member_init(struct jr_zmq_member *m, struct jr_zmq_group *group)
{
    m->group = group;
    atomic_fetch_add(&group->refs, 1);
    jr_list_init(&m->pending);
    jr_list_init(&m->ready);
    jr_list_init(&m->timed);
    jr_list_init(&m->waiting);
}

void jr_zmq_member_release(struct jr_zmq_member *m)
{
    unref(m->group);
}

void *jr_zmq_group_context(struct jr_zmq_group *group)
{
    return group->zmq;
}

static void wake_thread(struct jr_zmq_group *g)
{
    uint64_t one = 1;
    if (write(g->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the thread is awake */
}

/* With mu. True: the thread does not know yet that somebody waits. */
static bool put_pending(struct jr_zmq_member *m)
{
    struct jr_zmq_group *g = m->group;
    bool first = jr_list_empty(&g->pending);
    if (m->gone || m->in_pending)
        return false;
    m->in_pending = true;
    jr_list_push_back(&g->pending, &m->pending);
    return first;
}

void jr_zmq_group_join(struct jr_zmq_member *m)
{
    struct jr_zmq_group *g = m->group;
    pthread_mutex_lock(&g->mu);
    g->n_members++;
    bool first = put_pending(m);
    pthread_mutex_unlock(&g->mu);
    if (first)
        wake_thread(g);
}

/* Under the lock to the end: the owner may destroy the group as soon as the member is gone. */
void jr_zmq_group_wake(struct jr_zmq_member *m)
{
    struct jr_zmq_group *g = m->group;
    pthread_mutex_lock(&g->mu);
    if (put_pending(m))
        wake_thread(g);
    pthread_mutex_unlock(&g->mu);
}

void jr_zmq_group_leave(struct jr_zmq_member *m)
{
    struct jr_zmq_group *g = m->group;
    pthread_mutex_lock(&g->mu);
    JR_ASSERT(!m->leaving);
    m->leaving = true;
    if (put_pending(m))
        wake_thread(g);
    pthread_mutex_unlock(&g->mu);
}

/* ---- members, on the thread ---- */

static void make_ready(struct jr_zmq_member *m)
{
    if (jr_list_empty(&m->ready))
        jr_list_push_back(&m->group->ready, &m->ready);
}

int jr_zmq_group_watch(struct jr_zmq_member *m)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = m};
    if (epoll_ctl(m->group->epoll_fd, EPOLL_CTL_ADD, jr_zmq_fd(m->socket), &ev) < 0)
        return JR_EIO;
    m->watched = true;
    return 0;
}

void jr_zmq_group_close_socket(struct jr_zmq_member *m)
{
    if (m->socket == NULL)
        return;
    if (m->watched)
        (void)epoll_ctl(m->group->epoll_fd, EPOLL_CTL_DEL, jr_zmq_fd(m->socket), NULL);
    m->watched = false;
    zmq_close(m->socket);
    m->socket = NULL;
}

void jr_zmq_group_hear(struct jr_zmq_member *m)
{
    int events;
    size_t n = sizeof events;
    (void)zmq_getsockopt(m->socket, ZMQ_EVENTS, &events, &n);
}

void jr_zmq_group_time(struct jr_zmq_member *m, bool timed)
{
    jr_list_remove(&m->timed);
    if (timed)
        jr_list_push_back(&m->group->timed, &m->timed);
}

bool jr_zmq_group_replay_enter(struct jr_zmq_member *m)
{
    struct jr_zmq_group *g = m->group;
    if (g->replays < g->replays_max) {
        jr_list_remove(&m->waiting);
        g->replays++;
        return true;
    }
    if (jr_list_empty(&m->waiting))
        jr_list_push_back(&g->waiting, &m->waiting);
    return false;
}

void jr_zmq_group_replay_leave(struct jr_zmq_group *group)
{
    struct jr_list *next = jr_list_pop_front(&group->waiting);
    group->replays--;
    if (next != NULL)
        make_ready(JR_CONTAINER_OF(next, struct jr_zmq_member, waiting));
}

bool jr_zmq_group_replay_hold(struct jr_zmq_group *group, uint64_t n)
{
    if (atomic_fetch_add(&group->replay_bytes, n) + n <= group->replay_bytes_max)
        return true;
    jr_zmq_group_replay_free(group, n);
    return false;
}

void jr_zmq_group_replay_free(struct jr_zmq_group *group, uint64_t n)
{
    atomic_fetch_sub(&group->replay_bytes, n);
}

/* ---- the thread ---- */

/* The socket of one that joins is not watched yet. Where epoll has no place for it, it is looked at now
 * and then. */
static void take_woken(struct jr_zmq_member *m)
{
    if (m->socket != NULL && !m->watched && jr_zmq_group_watch(m) < 0)
        jr_zmq_group_time(m, true);
    make_ready(m);
}

static void take_leaving(struct jr_zmq_group *g, struct jr_zmq_member *m)
{
    jr_list_remove(&m->ready);
    jr_list_remove(&m->timed);
    jr_list_remove(&m->waiting);
    jr_zmq_group_close_socket(m);
    pthread_mutex_lock(&g->mu);
    if (m->in_pending) /* woken once more meanwhile */
        jr_list_remove(&m->pending);
    m->gone = true;
    g->n_members--;
    pthread_mutex_unlock(&g->mu);
    m->left(m); /* its memory may be gone now */
}

static struct jr_zmq_member *pop_pending(struct jr_zmq_group *g, bool *ret_leaving)
{
    struct jr_zmq_member *m = NULL;
    pthread_mutex_lock(&g->mu);
    struct jr_list *node = jr_list_pop_front(&g->pending);
    if (node != NULL) {
        m = JR_CONTAINER_OF(node, struct jr_zmq_member, pending);
        m->in_pending = false;
        *ret_leaving = m->leaving;
    }
    pthread_mutex_unlock(&g->mu);
    return m;
}

static void take_pending(struct jr_zmq_group *g)
{
    struct jr_zmq_member *m;
    bool leaving;
    while ((m = pop_pending(g, &leaving))) {
        if (leaving)
            take_leaving(g, m);
        else
            take_woken(m);
    }
}

/* Each that is ready, once: those with more to do come again behind the others. */
static void serve_round(struct jr_zmq_group *g)
{
    struct jr_list round, *node;
    jr_list_init(&round);
    while ((node = jr_list_pop_front(&g->ready)))
        jr_list_push_back(&round, node);
    while ((node = jr_list_pop_front(&round))) {
        struct jr_zmq_member *m = JR_CONTAINER_OF(node, struct jr_zmq_member, ready);
        if (m->serve(m))
            make_ready(m);
    }
}

static void tick(struct jr_zmq_group *g)
{
    uint64_t now = jr_loop_now_ns() / 1000000;
    if (now - g->ticked_at_ms < JR_ZMQ_TICK_MS)
        return;
    g->ticked_at_ms = now;
    JR_LIST_FOREACH_SAFE (it, &g->timed) {
        struct jr_zmq_member *m = JR_CONTAINER_OF(it, struct jr_zmq_member, timed);
        if (m->tick != NULL)
            m->tick(m, now);
        else
            make_ready(m);
    }
}

static int wait_ms(const struct jr_zmq_group *g)
{
    if (!jr_list_empty(&g->ready))
        return 0;
    return jr_list_empty(&g->timed) ? -1 : JR_ZMQ_TICK_MS;
}

static void take_event(struct jr_zmq_group *g, const struct epoll_event *ev)
{
    uint64_t count;
    if (ev->data.ptr != NULL)
        make_ready(ev->data.ptr);
    else if (read(g->wake_fd, &count, sizeof count) < 0)
        return; /* what is pending is taken all the same */
}

static void *group_main(void *arg)
{
    struct jr_zmq_group *g = arg;
    struct epoll_event events[EVENTS_AT_ONCE];

    pthread_setname_np(pthread_self(), "engines");
    while (!atomic_load(&g->stop)) {
        int n = epoll_wait(g->epoll_fd, events, EVENTS_AT_ONCE, wait_ms(g));
        if (n < 0 && errno != EINTR)
            break;
        atomic_fetch_add(&g->turns, 1);
        for (int i = 0; i < n; i++)
            take_event(g, &events[i]);
        take_pending(g);
        serve_round(g);
        tick(g);
    }
    return NULL;
}

uint64_t jr_zmq_group_turns(const struct jr_zmq_group *group)
{
    return atomic_load(&group->turns);
}

/* ---- create, destroy ---- */

static int start(struct jr_zmq_group *g, uint32_t sockets_max, struct jr_errmsg *e)
{
    struct epoll_event ev = {.events = EPOLLIN};
    g->zmq = zmq_ctx_new();
    if (g->zmq != NULL && zmq_ctx_set(g->zmq, ZMQ_MAX_SOCKETS, (int)sockets_max) != 0)
        return jr_errmsg_set(e, JR_EINVAL, "%u ZMQ sockets: %s", sockets_max, zmq_strerror(errno));
    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g->zmq == NULL || g->epoll_fd < 0 || g->wake_fd < 0 ||
        epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->wake_fd, &ev) < 0)
        return jr_errmsg_set(e, JR_EIO, "ZMQ sockets: %s", strerror(errno));
    g->has_thread = pthread_create(&g->thread, NULL, group_main, g) == 0;
    return g->has_thread ? 0 : jr_errmsg_set(e, JR_EIO, "ZMQ sockets: no thread");
}

int jr_zmq_group_create(const struct jr_zmq_group_config *config, struct jr_zmq_group **ret,
                        struct jr_errmsg *e)
{
    struct jr_zmq_group *g = jr_xalloc(sizeof *g);
    g->epoll_fd = g->wake_fd = -1;
    g->replays_max = config->replays_max != 0 ? config->replays_max : REPLAYS_DEFAULT;
    g->replay_bytes_max =
        config->replay_bytes_max != 0 ? config->replay_bytes_max : REPLAY_BYTES_DEFAULT;
    atomic_init(&g->refs, 1);
    jr_list_init(&g->ready);
    jr_list_init(&g->timed);
    jr_list_init(&g->waiting);
    jr_list_init(&g->pending);
    pthread_mutex_init(&g->mu, NULL);
    int err = start(g, config->sockets_max != 0 ? config->sockets_max : SOCKETS_DEFAULT, e);
    if (err < 0) {
        jr_zmq_group_destroy(g);
        return err;
    }
    *ret = g;
    return 0;
}

void jr_zmq_group_destroy(struct jr_zmq_group *g)
{
    if (g == NULL)
        return;
    if (g->has_thread) {
        atomic_store(&g->stop, true);
        wake_thread(g);
        pthread_join(g->thread, NULL);
    }
    JR_ASSERT(g->n_members == 0);
    if (g->zmq != NULL)
        zmq_ctx_term(g->zmq);
    if (g->epoll_fd >= 0)
        close(g->epoll_fd);
    if (g->wake_fd >= 0)
        close(g->wake_fd);
    unref(g);
}
