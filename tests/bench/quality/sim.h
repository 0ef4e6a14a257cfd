/* SPDX-License-Identifier: Apache-2.0 */
/* sim: one run: a trace through N replicas of the router to a simulated fleet, perhaps with routers
 * that end. Engines go on with what a dead router sent them; nobody hears of it, and no client asks
 * again. Requests go to routers that are ready; while there are none, clients ask until there is
 * one, and the wait counts. */
#ifndef JR_BENCH_QUALITY_SIM_H
#define JR_BENCH_QUALITY_SIM_H

#include "routers.h"

#define Q_THEN_MAX   4
#define Q_P90_THEN_S 300
#define Q_HIT_THEN_S 60

enum q_fault { Q_NO_FAULT, Q_KILL, Q_RESTART, Q_RESTART_ALL };

struct q_setup {
    struct q_policy policy;
    uint32_t workers, replicas;
    double speed;
    double sync_ms; /* until the peers know; negative: never */
    uint64_t seed;
    enum q_fault fault;        /* of the first replica, or of all */
    double fault_s;            /* when */
    double down_s;             /* a restart: until it starts again */
    double then_s[Q_THEN_MAX]; /* also measured: what came after each of these times */
    uint32_t n_then;
};

struct q_result {
    double p50, p90, p99; /* time to first token, seconds */
    double e2e50;
    double hit;  /* share of prompt tokens */
    double busy; /* share of the trace's time that an engine works */
    double p90_then[Q_THEN_MAX], hit_then[Q_THEN_MAX]; /* of requests that came then */
    uint64_t checked, wrong;
};

void q_run(const struct q_setup *s, struct q_trace *t, struct q_result *ret);

#endif
