/* SPDX-License-Identifier: Apache-2.0 */
#include "io/warmer.h"

#include "base/mem.h"

#include <pthread.h>
#include <signal.h>

struct jr_warmer {
    pthread_t thread;
    pthread_mutex_t mu; /* guards all below */
    pthread_cond_t work;
    struct jr_pages_job *head, **tail;
    bool stopping;
};

/* The next job; NULL when there is none and the warmer stops. */
static struct jr_pages_job *wait_for_job(struct jr_warmer *w)
{
    struct jr_pages_job *job;

    pthread_mutex_lock(&w->mu);
    while (!w->stopping && w->head == NULL)
        pthread_cond_wait(&w->work, &w->mu);
    job = w->head;
    if (job) {
        w->head = job->next;
        if (w->head == NULL)
            w->tail = &w->head;
    }
    pthread_mutex_unlock(&w->mu);
    return job;
}

static void *warmer_main(void *arg)
{
    struct jr_warmer *w = arg;
    struct jr_pages_job *job;

    pthread_setname_np(pthread_self(), "warmer");
    while ((job = wait_for_job(w)) != NULL)
        jr_pages_job_run(job);
    return NULL;
}

/* Signals are for the main thread: this one starts with all of them blocked. */
static int start_thread(struct jr_warmer *w)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int rv = pthread_create(&w->thread, NULL, warmer_main, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rv == 0 ? 0 : JR_ELIMIT;
}

static void free_warmer(struct jr_warmer *w)
{
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->mu);
    jr_xfree(w);
}

int jr_warmer_create(struct jr_warmer **ret)
{
    struct jr_warmer *w = jr_xalloc(sizeof *w);

    w->tail = &w->head;
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->work, NULL);
    const int err = start_thread(w);
    if (err < 0) {
        free_warmer(w);
        return err;
    }
    *ret = w;
    return 0;
}

void jr_warmer_destroy(struct jr_warmer *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->mu);
    w->stopping = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mu);
    pthread_join(w->thread, NULL);
    free_warmer(w);
}

static void post(void *ctx, struct jr_pages_job *job)
{
    struct jr_warmer *w = ctx;

    pthread_mutex_lock(&w->mu);
    job->next = NULL;
    *w->tail = job;
    w->tail = &job->next;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mu);
}

struct jr_pages_warmer jr_warmer_pages(struct jr_warmer *w)
{
    return (struct jr_pages_warmer){post, w};
}
