/* SPDX-License-Identifier: Apache-2.0 */
/* zmq_frames: a whole multipart message, as what we get from engines is read, and what else every socket
 * wants. Any thread; a socket is used by one at a time. */
#ifndef JR_IO_ZMQ_FRAMES_H
#define JR_IO_ZMQ_FRAMES_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>

#define JR_ZMQ_FRAMES_MAX 8
#define JR_ZMQ_SEQ_BYTES  8 /* big endian */

/* Only the first parts of a message are kept. */
struct jr_zmq_frames {
    zmq_msg_t part[JR_ZMQ_FRAMES_MAX];
    unsigned n;
    unsigned extra; /* parts beyond */
};

/* One message, without waiting; false when there is none. */
bool jr_zmq_frames_recv(void *socket, struct jr_zmq_frames *ret);
void jr_zmq_frames_deinit(struct jr_zmq_frames *f);

uint64_t jr_zmq_seq_get(const void *p); /* of JR_ZMQ_SEQ_BYTES */
void jr_zmq_seq_put(uint8_t *p, uint64_t seq);

/* To wait for with epoll; -1: it has none. */
int jr_zmq_fd(void *socket);
/* What libzmq's last error was, of that endpoint: JR_EADDRINUSE, JR_EINVAL, JR_ELIMIT, JR_EIO. */
int jr_zmq_error(struct jr_errmsg *e, const char *endpoint);

#endif
