/* SPDX-License-Identifier: Apache-2.0 */
/* lane: one thread that runs jobs in order, for calls that wait (nats.c, files, TLS set-up).
 *
 *     loop thread                lane thread                 loop thread
 *     jr_lane_submit(job) ──► job->run(job) [may block] ──► job->done(job), takes the job
 *
 * A job is embedded in a larger struct that holds its inputs and results; while it runs, only the
 * lane touches it. */
#ifndef JR_IO_LANE_H
#define JR_IO_LANE_H

#include "io/loop.h"

struct jr_lane;

struct jr_job {
    struct jr_msg msg;               /* how it comes back; do not touch */
    struct jr_job *next;
    int err;                         /* set by run; JR_ECANCELED when the lane stopped before */
    void (*run)(struct jr_job *job); /* lane thread */
    void (*done)(struct jr_job *job);/* loop thread; takes the job; called exactly once */
};

/* name shows in the thread's name; depth_max bounds waiting jobs. */
JR_MUST_CHECK int jr_lane_create(struct jr_loop *loop, const char *name, uint32_t depth_max,
                                 struct jr_lane **ret);
/* Takes the job on success; JR_ELIMIT when depth_max jobs wait (the job stays the caller's). */
JR_MUST_CHECK int jr_lane_submit(struct jr_lane *lane, struct jr_job *job);
uint32_t jr_lane_depth(struct jr_lane *lane);
/* Waits for the running job; the waiting ones are done with JR_ECANCELED, on this thread. */
void jr_lane_destroy(struct jr_lane *lane);

#endif
