/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_sub: an engine's KV events: a ZMQ SUB socket on a thread of its own, and the replay client.
 *
 * Live frames are [topic, seq (8 bytes big endian), payload]. Whether we connect or bind depends on
 * how the engine was told to (an engine given tcp://host:port connects, with '*' it binds). PUB and
 * SUB lose messages: the receiver looks at seq and asks the replay socket. */
#ifndef JR_IO_ZMQ_SUB_H
#define JR_IO_ZMQ_SUB_H

#include "io/loop.h"

struct jr_zmq_sub;

/* on_msg takes it; give it back with jr_zmq_msg_destroy, soon: it counts in the window. */
struct jr_zmq_msg {
    struct jr_msg msg; /* private */
    struct jr_zmq_sub *sub;
    uint64_t seq;
    const uint8_t *payload;
    size_t n;
    char topic[128]; /* truncated, for logs */
    void *impl;      /* private */
};

struct jr_zmq_sub_config {
    struct jr_loop *loop;
    const char *endpoint; /* copied; tcp:// or ipc:// */
    bool bind;            /* else connect */
    const char *topic;    /* copied; prefix to subscribe to; NULL or "": all */
    uint32_t hwm;         /* messages ZMQ may hold for us; default 100000 */
    uint32_t window_msgs; /* messages waiting for the loop; default 1024 */
    void (*on_msg)(struct jr_zmq_msg *msg, void *ctx); /* loop thread */
    void *ctx;
};

/* The socket is ready (bound, or connecting) when this returns. JR_EADDRINUSE, JR_EINVAL, JR_EIO.
 */
JR_MUST_CHECK int jr_zmq_sub_create(const struct jr_zmq_sub_config *config, struct jr_zmq_sub **ret,
                                    struct jr_errmsg *e);
/* Loop thread, does not block. No on_msg after this call; cb (may be NULL) on the loop when the
 * thread has ended. Takes the sub. */
void jr_zmq_sub_close(struct jr_zmq_sub *sub, void (*cb)(void *ctx), void *ctx);
void jr_zmq_msg_destroy(struct jr_zmq_msg *msg); /* any thread; NULL is fine */

struct jr_zmq_sub_counters {
    uint64_t msgs, bytes;
    uint64_t malformed; /* frames that are not [topic, 8 bytes, payload] */
};
void jr_zmq_sub_counters_get(struct jr_zmq_sub *sub, struct jr_zmq_sub_counters *ret);

/* replay: what the engine still has from a sequence on. */
struct jr_zmq_replay_msg {
    uint64_t seq;
    uint8_t *payload;
    size_t n;
};
struct jr_zmq_replay {
    struct jr_zmq_replay_msg *msgs;
    uint32_t n;
    bool complete; /* the end marker came; else the deadline or a limit ended it */
};
/* Blocks up to timeout_ms (whole) or until idle_ms passed with no message; called from a lane.
 * Connects a DEALER, asks from from_seq. Replies of 3 frames ["", seq, payload] and of 4 with a
 * topic are read from the end. Returns owned messages in the order they came; at most bytes_max of
 * payload, then complete stays false. JR_ETIMEOUT when nothing came at all. */
JR_MUST_CHECK int jr_zmq_replay(const char *endpoint, uint64_t from_seq, uint32_t timeout_ms,
                                uint32_t idle_ms, uint64_t bytes_max, struct jr_zmq_replay *ret,
                                struct jr_errmsg *e);
void jr_zmq_replay_deinit(struct jr_zmq_replay *replay);

#endif
