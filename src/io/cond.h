/* SPDX-License-Identifier: Apache-2.0 */
/* cond: waiting on a condition for so many milliseconds, whatever becomes of the time of day: with the
 * default clock of pthreads one that is set back by an hour makes each such wait an hour longer. */
#ifndef JR_IO_COND_H
#define JR_IO_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* For pthread_cond_timedwait with times of jr_cond_until. */
static inline void jr_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* In so many milliseconds. */
static inline struct timespec jr_cond_until(uint32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    t.tv_sec += (time_t)(ms / 1000) + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

#endif
