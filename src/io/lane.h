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
    struct jr_msg msg;                /* how it comes back; do not touch */
    struct jr_job *next;              /* do not touch */
    struct jr_lane *lane;             /* do not touch */
    int err;                          /* set by run; JR_ECANCELED when the lane stopped before */
    void (*run)(struct jr_job *job);  /* lane thread */
    void (*done)(struct jr_job *job); /* loop thread; takes the job; called exactly once */
};

/* name shows in the thread's name; depth_max bounds waiting jobs. */
JR_MUST_CHECK int jr_lane_create(struct jr_loop *loop, const char *name, uint32_t depth_max,
                                 struct jr_lane **ret);
/* Any thread. Takes the job on success; JR_ELIMIT when depth_max jobs wait, JR_ECLOSED while the
 * lane is being destroyed (the job stays the caller's). */
JR_MUST_CHECK int jr_lane_submit(struct jr_lane *lane, struct jr_job *job);
uint32_t jr_lane_depth(struct jr_lane *lane); /* jobs waiting or running; any thread */
/* Loop thread. Waits for the running job. Every job whose done has not fired yet fires it now, on
 * this thread: those that ran with their own err, the waiting ones with JR_ECANCELED. Afterwards no
 * done of this lane fires any more. Not from within run; NULL is fine. */
void jr_lane_destroy(struct jr_lane *lane);

#endif
