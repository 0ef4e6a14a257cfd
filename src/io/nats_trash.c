/* SPDX-License-Identifier: Apache-2.0 */
#include "io/nats_trash.h"

#include <string.h>

void jr_nats_trash_init(struct jr_nats_trash *t)
{
    *t = (struct jr_nats_trash){.n = 0};
    pthread_mutex_init(&t->mu, NULL);
}

static void destroy_all(natsMsg *const *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        natsMsg_Destroy(v[i]);
}

void jr_nats_trash_deinit(struct jr_nats_trash *t)
{
    destroy_all(t->v, t->n);
    pthread_mutex_destroy(&t->mu);
}

void jr_nats_trash_put(struct jr_nats_trash *t, natsMsg *m)
{
    natsMsg *full[JR_NATS_TRASH_MSGS];
    uint32_t n = 0;

    if (m == NULL)
        return;
    pthread_mutex_lock(&t->mu);
    t->v[t->n++] = m;
    t->bytes += (size_t)natsMsg_GetDataLength(m);
    if (t->n == JR_NATS_TRASH_MSGS || t->bytes >= JR_NATS_TRASH_BYTES) {
        n = t->n;
        memcpy(full, t->v, n * sizeof *full);
        t->n = 0;
        t->bytes = 0;
    }
    pthread_mutex_unlock(&t->mu);
    destroy_all(full, n); /* without the lock: it takes one of the library */
}
