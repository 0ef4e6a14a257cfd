/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_sub: an engine's KV events: a ZMQ SUB socket on the thread of its group.
 *
 * Live frames are [topic, seq (8 bytes big endian), payload]. Whether we connect or bind depends on
 * how the engine was told to (an engine given tcp://host:port connects, with '*' it binds). PUB and
 * SUB lose messages: the receiver looks at seq and asks the replay socket (zmq_replay.h). */
#ifndef JR_IO_ZMQ_SUB_H
#define JR_IO_ZMQ_SUB_H

#include "io/loop.h"
#include "io/zmq_group.h"

struct jr_zmq_sub;

/* on_msg takes it; give it back with jr_zmq_msg_destroy, soon: it counts in the window. */
struct jr_zmq_msg {
    struct jr_msg msg; /* private */
    struct jr_zmq_sub *sub;
    uint64_t seq;
    const uint8_t *payload;
    size_t n;
    char topic[128]; /* truncated, for logs */
};

struct jr_zmq_sub_config {
    struct jr_loop *loop;
    struct jr_zmq_group *group; /* borrowed; must outlive the sub */
    const char *endpoint;       /* copied; tcp:// or ipc:// */
    bool bind;                  /* else connect */
    const char *topic;          /* copied; prefix to subscribe to; NULL or "": all */
    uint32_t hwm;               /* messages ZMQ may hold for us; default 10000, as engines replay */
    uint32_t window_msgs;       /* given to on_msg and not given back; default 1024 */
    void (*on_msg)(struct jr_zmq_msg *msg, void *ctx); /* loop thread; in order */
    void *ctx;
};

/* The socket is ready (bound, or connecting) when this returns. JR_EADDRINUSE, JR_EINVAL, JR_ELIMIT
 * (open files, the group's sockets), JR_EIO. */
JR_MUST_CHECK int jr_zmq_sub_create(const struct jr_zmq_sub_config *config, struct jr_zmq_sub **ret,
                                    struct jr_errmsg *e);
/* Loop thread, does not block. No on_msg after this call; cb (may be NULL) on the loop when the
 * socket is closed. Takes the sub. */
void jr_zmq_sub_close(struct jr_zmq_sub *sub, void (*cb)(void *ctx), void *ctx);
void jr_zmq_msg_destroy(struct jr_zmq_msg *msg); /* any thread; NULL is fine */

struct jr_zmq_sub_counters {
    uint64_t msgs, bytes;
    uint64_t malformed; /* frames that are not [topic, 8 bytes, payload] */
};
void jr_zmq_sub_counters_get(struct jr_zmq_sub *sub, struct jr_zmq_sub_counters *ret);

#endif
