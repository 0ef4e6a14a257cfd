/* SPDX-License-Identifier: Apache-2.0 */
/* replica: one router's driver in this process, on a loop that the caller turns, with what its loop
 * did measured: the longest turn in CPU time of the thread (another process on the core does not
 * count), and when each sequence became visible. */
#ifndef JR_BENCH_LOG_REPLICA_H
#define JR_BENCH_LOG_REPLICA_H

#include "app/driver/driver.h"
#include "io/js_stream.h"
#include <uv.h>

#define REPLICA_NAMESPACE "bench"
#define REPLICA_TIMEOUT_S 120

struct replica {
    struct jr_loop *loop;
    struct jr_http_client *client;
    struct jr_nats *nats;
    struct jr_driver *driver;
    uv_prepare_t prepare;
    uint64_t turn_began_ns; /* CPU time of the thread */
    uint64_t longest_turn_ns;
    double ready_s;
    uint64_t ready_seq;
    /* when set: visible_ns[seq] is the Unix time at which seq had been applied */
    int64_t *visible_ns;
    uint64_t visible_n, seen_seq;
};

/* Starts and turns the loop until it is ready; ready_s counts from before the connection. */
void replica_start(struct replica *r, const char *url, const char *component);
void replica_view(struct replica *r, struct jr_pool_view *ret);
/* Turns the loop until done says so; ends the program after REPLICA_TIMEOUT_S. */
void replica_until(struct replica *r, bool (*done)(struct replica *r, void *ctx), void *ctx,
                   const char *what);
void replica_applied(struct replica *r, uint64_t seq);
void replica_snapshot(struct replica *r); /* ends when it is recorded */
void replica_stop(struct replica *r);

#endif
