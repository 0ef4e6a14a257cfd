/* SPDX-License-Identifier: Apache-2.0 */
/* sim: one run: a trace through N replicas of the router to a simulated fleet. */
#ifndef JR_BENCH_QUALITY_SIM_H
#define JR_BENCH_QUALITY_SIM_H

#include "routers.h"

struct q_setup {
    struct q_policy policy;
    uint32_t workers, replicas;
    double speed;
    double sync_ms; /* until the peers know; negative: never */
    uint64_t seed;
};

struct q_result {
    double p50, p90, p99; /* time to first token, seconds */
    double e2e50;
    double hit;  /* share of prompt tokens */
    double busy; /* share of the trace's time that an engine works */
    uint64_t checked, wrong;
};

void q_run(const struct q_setup *s, struct q_trace *t, struct q_result *ret);

#endif
