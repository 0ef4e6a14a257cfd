/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_fixture: a replay asked for and waited for, on a loop and a thread of its own; and an engine that
 * is asked for one and answers what the test says. */
#ifndef JR_TEST_ZMQ_FIXTURE_H
#define JR_TEST_ZMQ_FIXTURE_H

#include "io/zmq_replay.h"
#include "io_fixture.h"

#include <string.h>
#include <zmq.h>

struct asked {
    int err;
    bool done;
    struct jr_zmq_replay replay;
};

static inline void on_asked(void *ctx, int err, struct jr_zmq_replay *replay,
                            const struct jr_errmsg *e)
{
    struct asked *a = ctx;
    (void)e;
    a->err = err;
    a->replay = *replay;
    *replay = (struct jr_zmq_replay){0};
    a->done = true;
}

/* JR_ETIMEOUT, …, or 0 and what came, which is the caller's. */
static inline int ask_replay(const char *endpoint, uint64_t from, uint32_t timeout_ms,
                             uint32_t idle_ms, uint64_t bytes_max, struct jr_zmq_replay *ret)
{
    struct asked a = {0};
    struct jr_loop *loop;
    struct jr_errmsg e = {{0}};
    struct jr_zmq_group *group;
    struct jr_zmq_group_config none = {0};
    bool closed = false;
    assert_int_equal(jr_loop_create(&loop), 0);
    assert_int_equal(jr_zmq_group_create(&none, &group, &e), 0);
    struct jr_zmq_asker_config config = {.loop = loop,
                                         .group = group,
                                         .endpoint = endpoint,
                                         .timeout_ms = timeout_ms,
                                         .idle_ms = idle_ms,
                                         .bytes_max = bytes_max,
                                         .fn = on_asked,
                                         .ctx = &a};
    struct jr_zmq_asker *asker = jr_zmq_asker_create(&config);
    jr_zmq_asker_ask(asker, from);
    PUMP_WAIT(loop, a.done, timeout_ms + 60000);
    jr_zmq_asker_close(asker, mark_done, &closed);
    PUMP_WAIT(loop, closed, 60000);
    jr_zmq_group_destroy(group);
    jr_loop_destroy(loop);
    *ret = a.replay;
    return a.err;
}

/* ---- an engine's replay socket of which the test says each frame ---- */

struct raw {
    void *ctx, *router;
    char at[128];
    char asker[64]; /* who asked last */
    size_t asker_n;
};

static inline void raw_open(struct raw *r)
{
    size_t n = sizeof r->at;
    int linger = 0;
    r->ctx = zmq_ctx_new();
    r->router = zmq_socket(r->ctx, ZMQ_ROUTER);
    zmq_setsockopt(r->router, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_bind(r->router, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(r->router, ZMQ_LAST_ENDPOINT, r->at, &n);
}

static inline void raw_close(struct raw *r)
{
    zmq_close(r->router);
    zmq_ctx_term(r->ctx);
}

/* Is there a question? */
static inline bool raw_asked(struct raw *r)
{
    char part[64];
    int n = zmq_recv(r->router, r->asker, sizeof r->asker, ZMQ_DONTWAIT);
    if (n < 0)
        return false;
    r->asker_n = (size_t)n;
    assert_int_equal(zmq_recv(r->router, part, sizeof part, 0), 0);
    assert_int_equal(zmq_recv(r->router, part, sizeof part, 0), 8);
    return true;
}

static inline void raw_answer(struct raw *r, const char *seq, const char *payload)
{
    zmq_send(r->router, r->asker, r->asker_n, ZMQ_SNDMORE);
    zmq_send(r->router, "", 0, ZMQ_SNDMORE);
    zmq_send(r->router, seq, 8, ZMQ_SNDMORE);
    zmq_send(r->router, payload, strlen(payload), 0);
}

#define RAW_SEQ_7   "\0\0\0\0\0\0\0\7"
#define RAW_SEQ_END "\377\377\377\377\377\377\377\377"

#endif
