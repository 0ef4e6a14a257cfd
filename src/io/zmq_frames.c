/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zmq_frames.h"

#include <errno.h>

void jr_zmq_frames_deinit(struct jr_zmq_frames *f)
{
    for (unsigned i = 0; i < f->n; i++)
        zmq_msg_close(&f->part[i]);
    f->n = 0;
}

bool jr_zmq_frames_recv(void *socket, struct jr_zmq_frames *ret)
{
    zmq_msg_t part;
    bool more = true;

    ret->n = ret->extra = 0;
    while (more) {
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            jr_zmq_frames_deinit(ret);
            return false;
        }
        more = zmq_msg_more(&part) != 0;
        if (ret->n < JR_ZMQ_FRAMES_MAX) {
            zmq_msg_init(&ret->part[ret->n]);
            zmq_msg_move(&ret->part[ret->n++], &part);
        } else {
            ret->extra++;
        }
        zmq_msg_close(&part);
    }
    return true;
}

uint64_t jr_zmq_seq_get(const void *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < JR_ZMQ_SEQ_BYTES; i++)
        v = v << 8 | ((const uint8_t *)p)[i];
    return v;
}

void jr_zmq_seq_put(uint8_t *p, uint64_t seq)
{
    for (unsigned i = 0; i < JR_ZMQ_SEQ_BYTES; i++)
        p[i] = (uint8_t)(seq >> (8 * (JR_ZMQ_SEQ_BYTES - 1 - i)));
}

int jr_zmq_fd(void *socket)
{
    int fd = -1;
    size_t n = sizeof fd;
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &n) == 0 ? fd : -1;
}

int jr_zmq_error(struct jr_errmsg *e, const char *endpoint)
{
    int err = JR_EIO;

    if (errno == EADDRINUSE)
        err = JR_EADDRINUSE;
    else if (errno == EINVAL || errno == EPROTONOSUPPORT || errno == ENODEV)
        err = JR_EINVAL;
    else if (errno == EMFILE)
        err = JR_ELIMIT;
    return jr_errmsg_set(e, err, "%s: %s", endpoint, zmq_strerror(errno));
}
