/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of zmq_pub: zmq_pub.c has one publisher (ring, frames, replies), zmq_pub_group.c the thread and
 * the context that publishers share. */
#ifndef JR_IO_ZMQ_PUB_INTERNAL_H
#define JR_IO_ZMQ_PUB_INTERNAL_H

#include "io/zmq_pub.h"

#include "base/list.h"

#include <pthread.h>
#include <stddef.h>

#define JR_ZMQ_ENDPOINT_MAX 256
#define JR_ZMQ_TOPIC_MAX    256

struct jr_zmq_step {
    uint8_t *payload;
    size_t n;
    bool live; /* else only replayed */
};

/* The ring holds the steps [first, next); step s is at s % cap. The thread has sent those below
 * sent; if the ring moves past it, the steps between are lost live, as PUB loses at its mark. */
struct jr_zmq_pub {
    struct jr_zmq_pub_group *group;
    bool owns_group;
    void *pub, *router; /* used by whoever has the group's sockets */
    uint32_t slot;      /* in the group */
    bool old_form;
    char topic[JR_ZMQ_TOPIC_MAX];
    char endpoint[JR_ZMQ_ENDPOINT_MAX], replay_endpoint[JR_ZMQ_ENDPOINT_MAX];
    struct jr_list pending; /* of those with something to send; guarded by the group */
    bool is_pending;
    pthread_mutex_t mu; /* guards all below */
    struct jr_zmq_step *ring;
    uint64_t cap, first, next, sent;
    uint64_t bytes, bytes_max;
};

/* On the group's thread, or with its sockets taken: sends what is there; answers what was asked. */
void jr_zmq_pub_send_live(struct jr_zmq_pub *p);
void jr_zmq_pub_answer(struct jr_zmq_pub *p);

/* Its sockets are there (join) or about to be closed (leave); the caller has taken the sockets. */
JR_MUST_CHECK int jr_zmq_pub_group_join(struct jr_zmq_pub_group *g, struct jr_zmq_pub *p);
void jr_zmq_pub_group_leave(struct jr_zmq_pub_group *g, struct jr_zmq_pub *p);
/* There is something to send. Any thread. */
void jr_zmq_pub_group_wake(struct jr_zmq_pub_group *g, struct jr_zmq_pub *p);
/* Nobody else touches any socket of the group until they are given back. */
void jr_zmq_pub_group_take(struct jr_zmq_pub_group *g);
void jr_zmq_pub_group_give(struct jr_zmq_pub_group *g);
void *jr_zmq_pub_group_context(struct jr_zmq_pub_group *g);

#endif
