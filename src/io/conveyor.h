/* SPDX-License-Identifier: Apache-2.0 */
/* conveyor: items worked on by several threads at once, and handed on in the order they came.
 *
 *   one thread ── put(1) put(2) put(3) ──► [ 1 2 3 ] ── work: any thread, in parallel
 *                                             └─ out: 1, then 2, then 3; never two at a time
 */
#ifndef JR_IO_CONVEYOR_H
#define JR_IO_CONVEYOR_H

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

/* First member of what is put on it. */
struct jr_conveyor_item {
    struct jr_conveyor_item *next; /* private */
    bool worked;                   /* private */
};

struct jr_conveyor_config {
    uint32_t n_threads;                                     /* 1 to 64 */
    void (*work)(struct jr_conveyor_item *item, void *ctx); /* any of the threads, or the putter */
    /* In order, one at a time, on whatever thread finished the one that was waited for; must not
     * block or put. Takes the item. */
    void (*out)(struct jr_conveyor_item *item, void *ctx);
    void *ctx;
};

struct jr_conveyor;

/* JR_EIO: no thread. */
JR_MUST_CHECK int jr_conveyor_create(const struct jr_conveyor_config *config,
                                     struct jr_conveyor **ret);
/* Takes item. One thread at a time. With `here` an item that finds the conveyor empty is worked on
 * by the caller: little work is done sooner than handed over. */
void jr_conveyor_put(struct jr_conveyor *c, struct jr_conveyor_item *item, bool here);
/* Returns when every item went out and the threads have ended; NULL is fine. */
void jr_conveyor_destroy(struct jr_conveyor *c);

#endif
