/* SPDX-License-Identifier: Apache-2.0 */
#include "io/lane.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"

#include <pthread.h>
#include <signal.h>

struct jr_lane {
    struct jr_loop *loop;
    pthread_t thread;
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t work;
    struct jr_job *head, **tail;
    uint32_t waiting, depth_max;
    bool running; /* a job */
    bool stopping;
    char name[16]; /* what the kernel keeps of a thread's name */
};

static struct jr_job *job_of(const struct jr_msg *msg)
{
    return JR_CONTAINER_OF(msg, struct jr_job, msg);
}

static void deliver_job(struct jr_msg *msg)
{
    struct jr_job *job = job_of(msg);

    job->done(job); /* takes the job, and may destroy the lane */
}

static struct jr_job *pop_locked(struct jr_lane *lane)
{
    struct jr_job *job = lane->head;

    if (job == NULL)
        return NULL;
    lane->head = job->next;
    if (lane->head == NULL)
        lane->tail = &lane->head;
    job->next = NULL;
    lane->waiting--;
    return job;
}

/* The next job, or NULL when the lane stops. */
static struct jr_job *wait_for_job(struct jr_lane *lane)
{
    struct jr_job *job = NULL;

    pthread_mutex_lock(&lane->mu);
    lane->running = false;
    while (!lane->stopping && lane->head == NULL)
        pthread_cond_wait(&lane->work, &lane->mu);
    if (!lane->stopping) {
        job = pop_locked(lane);
        lane->running = true;
    }
    pthread_mutex_unlock(&lane->mu);
    return job;
}

static void *lane_main(void *arg)
{
    struct jr_lane *lane = arg;
    struct jr_job *job;

    pthread_setname_np(pthread_self(), lane->name);
    while ((job = wait_for_job(lane)) != NULL) {
        job->run(job);
        job->msg.deliver = deliver_job;
        job->msg.drop = deliver_job; /* done is called exactly once, also at the loop's end */
        jr_loop_post(lane->loop, &job->msg);
    }
    return NULL;
}

/* Signals are for the main thread: a lane starts with all of them blocked. */
static int start_thread(struct jr_lane *lane)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int rv = pthread_create(&lane->thread, NULL, lane_main, lane);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rv == 0 ? 0 : JR_ELIMIT;
}

int jr_lane_create(struct jr_loop *loop, const char *name, uint32_t depth_max, struct jr_lane **ret)
{
    struct jr_lane *lane = jr_xalloc(sizeof *lane);

    lane->loop = loop;
    lane->depth_max = depth_max;
    lane->tail = &lane->head;
    jr_str_copy(lane->name, sizeof lane->name, name);
    pthread_mutex_init(&lane->mu, NULL);
    pthread_cond_init(&lane->work, NULL);
    const int err = start_thread(lane);
    if (err < 0) {
        pthread_cond_destroy(&lane->work);
        pthread_mutex_destroy(&lane->mu);
        jr_xfree(lane);
        return err;
    }
    *ret = lane;
    return 0;
}

int jr_lane_submit(struct jr_lane *lane, struct jr_job *job)
{
    int err = 0;

    JR_ASSERT(job->run != NULL && job->done != NULL);
    pthread_mutex_lock(&lane->mu);
    if (lane->stopping) {
        err = JR_ECLOSED;
    } else if (lane->waiting >= lane->depth_max) {
        err = JR_ELIMIT;
    } else {
        job->lane = lane;
        job->next = NULL;
        job->err = 0;
        *lane->tail = job;
        lane->tail = &job->next;
        lane->waiting++;
        pthread_cond_signal(&lane->work);
    }
    pthread_mutex_unlock(&lane->mu);
    return err;
}

uint32_t jr_lane_depth(struct jr_lane *lane)
{
    pthread_mutex_lock(&lane->mu);
    const uint32_t depth = lane->waiting + (lane->running ? 1u : 0u);
    pthread_mutex_unlock(&lane->mu);
    return depth;
}

static bool is_of_lane(const struct jr_msg *msg, const void *lane)
{
    return msg->deliver == deliver_job && job_of(msg)->lane == lane;
}

void jr_lane_destroy(struct jr_lane *lane)
{
    struct jr_msg *msg, *next;
    struct jr_job *job;

    if (lane == NULL)
        return;
    pthread_mutex_lock(&lane->mu);
    lane->stopping = true;
    pthread_cond_signal(&lane->work);
    pthread_mutex_unlock(&lane->mu);
    pthread_join(lane->thread, NULL);
    for (msg = jr_loop_revoke(lane->loop, is_of_lane, lane); msg != NULL; msg = next) {
        next = msg->next;
        deliver_job(msg);
    }
    /* The thread is gone and submit refuses: the list is ours without the lock. */
    while ((job = pop_locked(lane)) != NULL) {
        job->err = JR_ECANCELED;
        job->done(job);
    }
    pthread_cond_destroy(&lane->work);
    pthread_mutex_destroy(&lane->mu);
    jr_xfree(lane);
}
