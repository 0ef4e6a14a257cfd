/* SPDX-License-Identifier: Apache-2.0 */
/* nats_trash: messages of the library that nobody needs any more, freed some at a time.
 *
 * nats.c frees messages on a thread of its own, which natsMsg_Destroy wakes up. For single messages,
 * hundreds in a second, that costs more than to read them. What gathers here wakes it once. */
#ifndef JR_IO_NATS_TRASH_H
#define JR_IO_NATS_TRASH_H

#include "io/nats_priv.h"

#include <pthread.h>

#define JR_NATS_TRASH_MSGS  32
#define JR_NATS_TRASH_BYTES (64u << 10) /* of payload */

struct jr_nats_trash {
    pthread_mutex_t mu;
    natsMsg *v[JR_NATS_TRASH_MSGS];
    uint32_t n;
    size_t bytes;
};

void jr_nats_trash_init(struct jr_nats_trash *t);
void jr_nats_trash_deinit(struct jr_nats_trash *t); /* frees what is in it */
/* Any thread. Takes m; NULL is fine. It may stay until the trash is full, or ends. */
void jr_nats_trash_put(struct jr_nats_trash *t, natsMsg *m);

#endif
