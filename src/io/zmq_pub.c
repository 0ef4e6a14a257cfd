/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_pub_internal.h"

#include "base/mem.h"
#include "base/str.h"
#include "io/zmq_frames.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <poll.h>
#include <zmq.h>

#define HWM_DEFAULT   100000
#define STEPS_DEFAULT 10000
#define BYTES_DEFAULT (256ull << 20)
#define LINGER_MS     100
#define BIND_TRIES    2000 /* a millisecond apart */

/* --- ring --- */

static void drop_first(struct jr_zmq_pub *p)
{
    struct jr_zmq_step *step = &p->ring[p->first % p->cap];

    p->bytes -= step->n;
    jr_xfree(step->payload);
    step->payload = NULL;
    p->first++;
    if (p->sent < p->first)
        p->sent = p->first;
}

static uint64_t append(struct jr_zmq_pub *p, const void *payload, size_t n, bool live)
{
    uint64_t seq;

    pthread_mutex_lock(&p->mu);
    while (p->next - p->first == p->cap || (p->first < p->next && p->bytes + n > p->bytes_max))
        drop_first(p);
    seq = p->next++;
    p->ring[seq % p->cap] = (struct jr_zmq_step){jr_xmemdup(payload, n), n, live};
    p->bytes += n;
    pthread_mutex_unlock(&p->mu);
    if (live)
        jr_zmq_pub_group_wake(p->group, p);
    return seq;
}

uint64_t jr_zmq_pub_send(struct jr_zmq_pub *pub, const void *payload, size_t n)
{
    return append(pub, payload, n, true);
}

uint64_t jr_zmq_pub_skip(struct jr_zmq_pub *pub, const void *payload, size_t n)
{
    return append(pub, payload, n, false);
}

uint64_t jr_zmq_pub_next_seq(struct jr_zmq_pub *pub)
{
    pthread_mutex_lock(&pub->mu);
    uint64_t next = pub->next;
    pthread_mutex_unlock(&pub->mu);
    return next;
}

/* --- thread --- */

/* A copy of step *seq, or of the first there is behind it; false at the end. */
static bool copy_step(struct jr_zmq_pub *p, uint64_t *seq, zmq_msg_t *ret, bool *ret_live)
{
    bool found = false;

    pthread_mutex_lock(&p->mu);
    if (*seq < p->first)
        *seq = p->first;
    if (*seq < p->next) {
        const struct jr_zmq_step *step = &p->ring[*seq % p->cap];
        zmq_msg_init_size(ret, step->n);
        if (step->n > 0)
            memcpy(zmq_msg_data(ret), step->payload, step->n);
        *ret_live = step->live;
        found = true;
    }
    pthread_mutex_unlock(&p->mu);
    return found;
}

static bool send_part(void *socket, const void *p, size_t n)
{
    return zmq_send(socket, p, n, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
}

/* The rest of a message; takes payload. */
static void send_step(struct jr_zmq_pub *p, void *socket, bool with_topic, uint64_t seq,
                      zmq_msg_t *payload)
{
    uint8_t number[JR_ZMQ_SEQ_BYTES];

    jr_zmq_seq_put(number, seq);
    if ((!with_topic || send_part(socket, p->topic, strlen(p->topic))) &&
        send_part(socket, number, sizeof number))
        zmq_msg_send(payload, socket, ZMQ_DONTWAIT);
    zmq_msg_close(payload);
}

void jr_zmq_pub_send_live(struct jr_zmq_pub *p)
{
    uint64_t seq;
    zmq_msg_t payload;
    bool live;

    pthread_mutex_lock(&p->mu);
    seq = p->sent;
    pthread_mutex_unlock(&p->mu);
    while (copy_step(p, &seq, &payload, &live)) {
        if (live)
            send_step(p, p->pub, true, seq, &payload);
        else
            zmq_msg_close(&payload);
        seq++;
        pthread_mutex_lock(&p->mu);
        if (p->sent < seq)
            p->sent = seq;
        pthread_mutex_unlock(&p->mu);
    }
}

static bool begin_reply(struct jr_zmq_pub *p, zmq_msg_t *identity)
{
    return send_part(p->router, zmq_msg_data(identity), zmq_msg_size(identity)) &&
           send_part(p->router, "", 0);
}

static void replay(struct jr_zmq_pub *p, zmq_msg_t *identity, uint64_t from)
{
    zmq_msg_t payload;
    uint8_t end[8];
    bool live;

    for (uint64_t seq = from; copy_step(p, &seq, &payload, &live); seq++) {
        if (begin_reply(p, identity))
            send_step(p, p->router, !p->old_form, seq, &payload);
        else
            zmq_msg_close(&payload);
    }
    memset(end, 0xff, sizeof end);
    if (begin_reply(p, identity) && (p->old_form || send_part(p->router, "", 0)) &&
        send_part(p->router, end, sizeof end))
        zmq_send(p->router, "", 0, ZMQ_DONTWAIT);
}

/* [identity, empty, seq], seq of 0 to 8 bytes big endian, as Python's int.from_bytes reads it;
 * anything else is ignored, as the engines do. */
static bool take_request(struct jr_zmq_pub *p)
{
    struct jr_zmq_frames f;

    if (!jr_zmq_frames_recv(p->router, &f))
        return false;
    if (f.n == 3 && f.extra == 0 && zmq_msg_size(&f.part[1]) == 0 &&
        zmq_msg_size(&f.part[2]) <= JR_ZMQ_SEQ_BYTES) {
        const uint8_t *seq = zmq_msg_data(&f.part[2]);
        uint64_t from = 0;
        for (size_t i = 0; i < zmq_msg_size(&f.part[2]); i++)
            from = from << 8 | seq[i];
        replay(p, &f.part[0], from);
    }
    jr_zmq_frames_deinit(&f);
    return true;
}

void jr_zmq_pub_answer(struct jr_zmq_pub *p)
{
    int events = ZMQ_POLLIN;
    size_t n = sizeof events;

    /* Asked again after each: sending may have taken notice of what came meanwhile. */
    while (zmq_getsockopt(p->router, ZMQ_EVENTS, &events, &n) == 0 && (events & ZMQ_POLLIN))
        while (take_request(p))
            ;
}

/* --- create, destroy --- */

/* again: the socket that had it a moment ago is being closed by another thread. */
static int bind_soon(void *socket, const char *endpoint, bool again)
{
    int rv = zmq_bind(socket, endpoint);

    for (int i = 0; rv != 0 && again && errno == EADDRINUSE && i < BIND_TRIES; i++) {
        (void)poll(NULL, 0, 1);
        rv = zmq_bind(socket, endpoint);
    }
    return rv;
}

static int open_one(struct jr_zmq_pub *p, int type, bool connect, const char *endpoint, bool again,
                    int hwm, void **ret, char *real, struct jr_errmsg *e)
{
    int linger = LINGER_MS;
    size_t n = JR_ZMQ_ENDPOINT_MAX;
    void *socket = zmq_socket(jr_zmq_pub_group_context(p->group), type);

    if (socket == NULL)
        return jr_zmq_error(e, endpoint);
    *ret = socket;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if ((connect ? zmq_connect(socket, endpoint) : bind_soon(socket, endpoint, again)) != 0)
        return jr_zmq_error(e, endpoint);
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, real, &n) != 0)
        return jr_zmq_error(e, endpoint);
    return 0;
}

static int open_sockets(struct jr_zmq_pub *p, const struct jr_zmq_pub_config *c,
                        struct jr_errmsg *e)
{
    int hwm = (int)(c->hwm != 0 ? c->hwm : HWM_DEFAULT);
    int rv;

    rv = open_one(p, ZMQ_PUB, c->connect, c->endpoint, c->again, hwm, &p->pub, p->endpoint, e);
    if (rv != 0 || c->replay_endpoint == NULL || c->replay_endpoint[0] == '\0')
        return rv;
    /* Room for a whole replay, twice: a ROUTER drops in silence beyond its mark. */
    return open_one(p, ZMQ_ROUTER, false, c->replay_endpoint, c->again, (int)(2 * (p->cap + 1)),
                    &p->router, p->replay_endpoint, e);
}

static void close_socket(void *socket, const char *endpoint)
{
    if (socket == NULL)
        return;
    (void)zmq_unbind(socket, endpoint); /* fails where it was connected */
    zmq_close(socket);
}

static void pub_free(struct jr_zmq_pub *p)
{
    if (p->group != NULL) {
        jr_zmq_pub_group_take(p->group);
        if (p->pub != NULL)
            jr_zmq_pub_send_live(p);
        jr_zmq_pub_group_leave(p->group, p);
        close_socket(p->pub, p->endpoint);
        close_socket(p->router, p->replay_endpoint);
        jr_zmq_pub_group_give(p->group);
    }
    if (p->owns_group)
        jr_zmq_pub_group_destroy(p->group);
    while (p->first < p->next)
        drop_first(p);
    pthread_mutex_destroy(&p->mu);
    jr_xfree(p->ring);
    jr_xfree(p);
}

static int open_pub(struct jr_zmq_pub *p, const struct jr_zmq_pub_config *config,
                    struct jr_errmsg *e)
{
    int rv = 0;

    if (!jr_str_copy(p->topic, sizeof p->topic, config->topic != NULL ? config->topic : ""))
        return jr_errmsg_set(e, JR_EINVAL, "topic: longer than %d bytes", JR_ZMQ_TOPIC_MAX - 1);
    p->group = config->group;
    if (p->group == NULL) {
        rv = jr_zmq_pub_group_create(1, &p->group, e);
        p->owns_group = rv == 0;
    }
    if (rv < 0)
        return rv;
    jr_zmq_pub_group_take(p->group);
    rv = open_sockets(p, config, e);
    if (rv == 0) {
        rv = jr_zmq_pub_group_join(p->group, p);
        if (rv < 0)
            jr_errmsg_set(e, rv, "%s: no place among the publishers", config->endpoint);
    }
    jr_zmq_pub_group_give(p->group);
    return rv;
}

int jr_zmq_pub_create(const struct jr_zmq_pub_config *config, struct jr_zmq_pub **ret,
                      struct jr_errmsg *e)
{
    struct jr_zmq_pub *p = jr_xalloc(sizeof *p);

    pthread_mutex_init(&p->mu, NULL);
    jr_list_init(&p->pending);
    p->slot = UINT32_MAX;
    p->cap = config->buffer_steps != 0 ? config->buffer_steps : STEPS_DEFAULT;
    p->bytes_max = config->buffer_bytes != 0 ? config->buffer_bytes : BYTES_DEFAULT;
    p->ring = jr_xalloc(p->cap * sizeof *p->ring);
    p->old_form = config->replay_old_form;
    int rv = open_pub(p, config, e);
    if (rv < 0) {
        pub_free(p);
        return rv;
    }
    *ret = p;
    return 0;
}

void jr_zmq_pub_destroy(struct jr_zmq_pub *pub)
{
    if (pub != NULL)
        pub_free(pub);
}

const char *jr_zmq_pub_endpoint(const struct jr_zmq_pub *pub)
{
    return pub->endpoint;
}

const char *jr_zmq_pub_replay_endpoint(const struct jr_zmq_pub *pub)
{
    return pub->replay_endpoint;
}
