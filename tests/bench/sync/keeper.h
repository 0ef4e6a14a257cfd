/* SPDX-License-Identifier: Apache-2.0 */
/* keeper: what is beside the routers: it writes the workers' leases, and measures the floor: how
 * long a message as large as an admission takes through the same server at the same time, with
 * nothing of ours on its way. */
#ifndef JR_BENCH_SYNC_KEEPER_H
#define JR_BENCH_SYNC_KEEPER_H

#include "member.h"

#define FLOOR_MAX      60000
#define FLOOR_EVERY_MS 8

struct floor {
    atomic_uint n; /* that came back */
    uint64_t sent_ns[FLOOR_MAX], took_ns[FLOOR_MAX];
};

void keeper_main(struct fleet *fleet, struct floor *floor);

#endif
