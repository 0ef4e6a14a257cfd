/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_pub: what an engine has: a PUB socket for KV events and a ROUTER that replays the last of
 * them.
 *
 *   any thread ── jr_zmq_pub_send ──► ring of the last buffer_steps ──► thread ──► PUB
 *                                             ▲──────────── thread ◄── ROUTER ◄── [empty][seq]
 *
 * The thread and the ZMQ context are a group's; any number of publishers share one.
 *
 * Used by the mocker and by tests. Live: [topic, seq BE, payload], seq from 0. Replay, as vLLM
 * 0.26:
 * ["", topic, seq, payload] each, end ["", "", FF*8, ""]; or the older form without topic. */
#ifndef JR_IO_ZMQ_PUB_H
#define JR_IO_ZMQ_PUB_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct jr_zmq_pub;
struct jr_zmq_pub_group;

struct jr_zmq_pub_config {
    struct jr_zmq_pub_group *group; /* borrowed; NULL: one of its own */
    const char *endpoint;           /* copied; tcp://host:port or tcp://host:0 */
    bool connect;                   /* connect the PUB instead of binding it */
    bool again; /* one of the group has just let go of the addresses: waits for them */
    const char *replay_endpoint; /* copied; NULL or "": no replay; always bound */
    bool replay_old_form;        /* three frames, as vLLM before 0.26 */
    const char *topic;           /* copied; NULL: "" */
    uint32_t hwm;                /* default 100000 */
    uint32_t buffer_steps;       /* messages kept for replay; default 10000 */
    uint64_t buffer_bytes;       /* and their bytes; default 256 MiB */
};

/* Room for so many publishers. JR_EIO. */
JR_MUST_CHECK int jr_zmq_pub_group_create(uint32_t pubs_max, struct jr_zmq_pub_group **ret,
                                          struct jr_errmsg *e);
/* NULL is fine. Its publishers are destroyed; waits until all is flushed, as above. */
void jr_zmq_pub_group_destroy(struct jr_zmq_pub_group *group);

/* Bound when it returns. JR_EADDRINUSE, JR_EINVAL, JR_ELIMIT (the group is full, or all files
 * are open), JR_EIO. */
JR_MUST_CHECK int jr_zmq_pub_create(const struct jr_zmq_pub_config *config, struct jr_zmq_pub **ret,
                                    struct jr_errmsg *e);
/* What was sent is flushed to connected peers for up to 100 ms; with a group of its own it waits for
 * that (and for the thread, milliseconds). */
void jr_zmq_pub_destroy(struct jr_zmq_pub *pub);

/* Any thread, never blocks. Copies. Returns the sequence it got. The oldest leaves the ring. */
uint64_t jr_zmq_pub_send(struct jr_zmq_pub *pub, const void *payload, size_t n);
/* Uses the next sequence without sending live: tests of gaps; replay still has it. */
uint64_t jr_zmq_pub_skip(struct jr_zmq_pub *pub, const void *payload, size_t n);

/* What was really bound (port 0 resolved); borrowed. "" when there is none. */
const char *jr_zmq_pub_endpoint(const struct jr_zmq_pub *pub);
const char *jr_zmq_pub_replay_endpoint(const struct jr_zmq_pub *pub);
uint64_t jr_zmq_pub_next_seq(struct jr_zmq_pub *pub);

#endif
