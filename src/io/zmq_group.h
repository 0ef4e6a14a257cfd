/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_group: the ZMQ context and the one thread of any number of sockets that listen to engines.
 *
 *     loop thread                             the group's thread
 *     jr_zmq_group_join, wake, leave ──► pending ──► epoll ──► serve(member), a burst each in turn
 *                                                     ▲ ZMQ_FD of each socket
 *
 * A member is a socket with what is done with it: a subscription (zmq_sub.h), a replay client
 * (zmq_replay.h). None waits in serve, so that no engine holds up another; a burst bounds how long one
 * has the thread. With 1,000 engines that are three threads: this one and libzmq's two. */
#ifndef JR_IO_ZMQ_GROUP_H
#define JR_IO_ZMQ_GROUP_H

#include "base/err.h"
#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_zmq_group;

struct jr_zmq_group_config {
    uint32_t sockets_max;      /* those that are still being closed included; default 1024 */
    uint32_t replays_max;      /* under way at once, the others wait; default 256 */
    uint64_t replay_bytes_max; /* that all replays hold; default 1 GiB */
};

/* JR_EIO, JR_EINVAL (more sockets than libzmq has). */
JR_MUST_CHECK int jr_zmq_group_create(const struct jr_zmq_group_config *config,
                                      struct jr_zmq_group **ret, struct jr_errmsg *e);
/* Its members have told that they are closed. Waits for the thread, milliseconds. NULL is fine. */
void jr_zmq_group_destroy(struct jr_zmq_group *group);
/* Any thread. How often the thread has had something to do: stands still while all is quiet. */
uint64_t jr_zmq_group_turns(const struct jr_zmq_group *group);

/* ---- for members ---- */

/* Embedded. The callbacks run on the group's thread. */
struct jr_zmq_member {
    struct jr_zmq_group *group; /* referenced: its memory stays until the member is released */
    void *socket;               /* NULL: none now; the thread's once the member has joined */
    bool watched; /* the thread's; not beside what the lock guards, which is read as one word */
    /* It was woken, or its socket has news. Takes a burst of what is there; true: there is more. Where
     * it takes nothing it still has to hear the socket (jr_zmq_group_hear). */
    bool (*serve)(struct jr_zmq_member *m);
    /* Every JR_ZMQ_TICK_MS while it is timed; NULL: serve. */
    void (*tick)(struct jr_zmq_member *m, uint64_t now_ms);
    /* It has left: the socket is closed, nothing is called any more. */
    void (*left)(struct jr_zmq_member *m);
    struct jr_list pending, ready, timed, waiting; /* private, all below */
    bool in_pending, leaving, gone;
};
#define JR_ZMQ_TICK_MS 20

/* References the group. */
void jr_zmq_member_init(struct jr_zmq_member *m, struct jr_zmq_group *group);
/* Any thread, after it has left or when it never joined. */
void jr_zmq_member_release(struct jr_zmq_member *m);

void *jr_zmq_group_context(struct jr_zmq_group *group);
/* Loop thread: from now on the socket is the thread's. */
void jr_zmq_group_join(struct jr_zmq_member *m);
/* Any thread: call serve. Nothing happens once it leaves. */
void jr_zmq_group_wake(struct jr_zmq_member *m);
/* Loop thread, once. */
void jr_zmq_group_leave(struct jr_zmq_member *m);

/* On the group's thread. A socket that was made there (watch), or is to be closed. JR_EIO. */
JR_MUST_CHECK int jr_zmq_group_watch(struct jr_zmq_member *m);
void jr_zmq_group_close_socket(struct jr_zmq_member *m);
/* What its peers did (connect, leave) is heard and no message taken: else ZMQ_FD stays readable. */
void jr_zmq_group_hear(struct jr_zmq_member *m);
void jr_zmq_group_time(struct jr_zmq_member *m, bool timed);
/* May it begin a replay now? If not it is served when one of the others has ended. */
bool jr_zmq_group_replay_enter(struct jr_zmq_member *m);
void jr_zmq_group_replay_leave(struct jr_zmq_group *group);
/* Room for n more bytes of replays, or false. They are given back from any thread. */
bool jr_zmq_group_replay_hold(struct jr_zmq_group *group, uint64_t n);
void jr_zmq_group_replay_free(struct jr_zmq_group *group, uint64_t n);

#endif
