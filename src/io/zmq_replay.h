/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_replay: what an engine still has of its KV events from a sequence on: a ZMQ DEALER on the thread of
 * its group, connected at the first question and kept for the next.
 *
 * Asked is [empty, seq (8 bytes big endian)]; answers of 3 frames ["", seq, payload] and of 4 with a
 * topic are read from the end, up to the end marker, whose sequence is eight times 0xff. Engines lose
 * it when they have much to say, so a silence ends an answer, too. Answers do not say to which
 * question they belong: after one that has not come to its end the socket is closed. */
#ifndef JR_IO_ZMQ_REPLAY_H
#define JR_IO_ZMQ_REPLAY_H

#include "io/loop.h"
#include "io/zmq_group.h"

struct jr_zmq_asker;

struct jr_zmq_replay_msg {
    uint64_t seq;
    uint8_t *payload;
    size_t n;
};
struct jr_zmq_replay {
    struct jr_zmq_replay_msg *msgs; /* in the order they came */
    uint32_t n;
    bool complete; /* the end marker came; else a deadline or a limit ended it */
};
void jr_zmq_replay_deinit(struct jr_zmq_replay *replay);

/* err 0, JR_ETIMEOUT (nothing came at all), JR_EINVAL, JR_ELIMIT, JR_EIO (no socket; e says why). What is
 * left in the replay after the call is freed. May ask again. Loop thread. */
typedef void jr_zmq_replay_fn(void *ctx, int err, struct jr_zmq_replay *replay,
                              const struct jr_errmsg *e);

struct jr_zmq_asker_config {
    struct jr_loop *loop;
    struct jr_zmq_group *group; /* borrowed; must outlive the asker */
    const char *endpoint;       /* copied */
    uint32_t timeout_ms;        /* of an answer as a whole, from when the question goes out */
    uint32_t idle_ms;           /* of silence after its first message */
    uint64_t bytes_max;         /* of payload; beyond, the answer ends incomplete */
    jr_zmq_replay_fn *fn;
    void *ctx;
};

struct jr_zmq_asker *jr_zmq_asker_create(const struct jr_zmq_asker_config *config);
/* Loop thread; one question at a time. fn is called once. Other askers of the group may go first. */
void jr_zmq_asker_ask(struct jr_zmq_asker *asker, uint64_t from_seq);
/* Loop thread, does not block. No fn after this call; cb (may be NULL) on the loop when all is closed.
 * Takes the asker; NULL is fine. */
void jr_zmq_asker_close(struct jr_zmq_asker *asker, void (*cb)(void *ctx), void *ctx);

#endif
