/* SPDX-License-Identifier: Apache-2.0 */
/* log: what the parts of bench_log share. */
#ifndef JR_BENCH_LOG_H
#define JR_BENCH_LOG_H

#include "bench.h"

struct log_bench {
    struct jr_bench bench;
    unsigned runs;     /* of each short measurement; the median counts */
    double scale;      /* of all sizes; 1: those of the goals */
    uint64_t n_events; /* single-block JSON events */
    uint64_t n_tail;   /* of them behind the snapshot */
    uint64_t n_entries;
};

void log_bench_codecs(struct log_bench *b); /* in memory */
void log_bench_snapshot(struct log_bench *b);
void log_bench_latency(struct log_bench *b); /* a replica against a real nats-server */
void log_bench_events(struct log_bench *b);
void log_bench_entries(struct log_bench *b);

void log_bench_die(const char *what, const char *words) __attribute__((noreturn));
/* A row whose goal bounds the figure itself. */
void log_bench_bound(struct log_bench *b, const char *name, const char *unit, double measured,
                     double goal, bool less_is_better);

#endif
