/* SPDX-License-Identifier: Apache-2.0 */
/* member: one router of a fleet as a process of its own: the driver that every router has, a load of
 * its own, and what it sees of the others' bookings. The fleet shares a piece of memory, and the
 * clock of the machine.
 *
 *     IDLE ──► RUN: requests come and go ──► HOLD: nothing moves ──► DRAIN: all end ──► RUN … STOP */
#ifndef JR_BENCH_SYNC_MEMBER_H
#define JR_BENCH_SYNC_MEMBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MEMBERS_MAX 8
#define IDS_MAX     24000 /* bookings of one replica in the life of a fleet */
#define WORKERS     8
#define BLOCKS      110 /* of a prompt: 7 k tokens */
#define FIRST_MS    100 /* from admission to the first token, */
#define OUTPUT_MS   200 /* to a block of output, */
#define DONE_MS     300 /* and to its end */

enum phase { IDLE, RUN, HOLD, DRAIN, STOP };

struct member_seen {
    atomic_bool ready;            /* and knows all the others */
    atomic_uint live;             /* its own bookings */
    atomic_uint all;              /* of all that it counts */
    atomic_uint_least64_t loads;  /* a sum over the load of every worker */
    atomic_uint issued;           /* its bookings so far: their numbers are 1 … */
    atomic_uint_least64_t cpu_us; /* of the process; brought up to date all the time */
};

struct fleet {
    uint32_t n;
    bool sync;
    char url[64];
    char component[32];
    atomic_int phase;
    _Atomic double rate; /* requests a second, of each */
    struct member_seen member[MEMBERS_MAX];
    uint64_t booked_ns[MEMBERS_MAX][IDS_MAX];
    uint64_t visible_ns[MEMBERS_MAX][MEMBERS_MAX][IDS_MAX]; /* to whom, whose */
};

void sync_bench_die(const char *what, const char *words);
/* Both return at STOP. The process has no other thread and no connection before. */
void member_main(struct fleet *fleet, uint32_t index);

#endif
