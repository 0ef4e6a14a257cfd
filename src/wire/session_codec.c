/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/session_codec.h"

#include "base/limits.h"
#include "wire/pb.h"

#include <jetrouter/v1/session.pb-c.h>

#define IDLE_MAX_MS ((uint64_t)JR_SESSION_TTL_SECS_MAX * 1000)
#define ARENA_MAX   ((size_t)16 << 10) /* of JR_SESSION_BYTES_MAX bytes, whatever they are */

static bool rules_hold(const struct jr_session_word *w)
{
    return w->session != 0 && w->dp_rank < JR_RANKS_MAX && w->idle_ms > 0 &&
           w->idle_ms <= IDLE_MAX_MS;
}

int jr_session_encode(const struct jr_session_word *w, struct jr_buf *b)
{
    Jetrouter__V1__SessionWord m = JETROUTER__V1__SESSION_WORD__INIT;
    if (!rules_hold(w))
        return JR_EINVAL;
    m.version = JR_SESSION_VERSION;
    m.session = w->session;
    m.worker_id = w->worker_id;
    m.dp_rank = w->dp_rank;
    m.idle_ms = w->idle_ms;
    return jr_pb_pack(&m.base, b);
}

static int decode(const void *p, size_t n, struct jr_arena *arena, struct jr_session_word *ret,
                  struct jr_errmsg *e)
{
    ProtobufCMessage *m;
    int rv = jr_pb_unpack(&jetrouter__v1__session_word__descriptor, arena, p, n, &m);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "a session word of %zu bytes cannot be decoded", n);
    const Jetrouter__V1__SessionWord *in = (const Jetrouter__V1__SessionWord *)m;
    if (in->version > JR_SESSION_VERSION)
        return jr_errmsg_set(e, JR_EPROTO, "session version %u is newer than %d", in->version,
                             JR_SESSION_VERSION);
    struct jr_session_word w = {in->session, in->worker_id, in->dp_rank, in->idle_ms};
    if (!rules_hold(&w))
        return jr_errmsg_set(e, JR_EPROTO, "a session word is out of its bounds");
    *ret = w;
    return 0;
}

int jr_session_decode(const void *p, size_t n, struct jr_session_word *ret, struct jr_errmsg *e)
{
    if (n > JR_SESSION_BYTES_MAX)
        return jr_errmsg_set(e, JR_ELIMIT, "a session word of %zu bytes is over the limit of %d", n,
                             JR_SESSION_BYTES_MAX);
    struct jr_arena arena;
    jr_arena_init(&arena, ARENA_MAX);
    int err = decode(p, n, &arena, ret, e);
    jr_arena_deinit(&arena);
    return err;
}
