/* SPDX-License-Identifier: Apache-2.0 */
/* bench: how benchmarks report: a table for people, or with --json one line a row:
 *   {"name","unit","measured","peer","floor","ratio","against","goal","ok"}
 * peer and floor are null when not measured in the same run. ratio compares measured with what
 * `against` names ("peer", else "floor") so that more than 1 is better than it, whichever way the
 * unit counts; it is null without either. ok: the ratio reaches the goal. */
#ifndef JR_BENCH_H
#define JR_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jr_bench {
    bool json;
    unsigned rows;
    unsigned missed; /* rows that are not ok */
};

struct jr_bench_row {
    const char *name; /* borrows */
    const char *unit;
    double measured;
    double peer;  /* 0: not measured */
    double floor; /* 0: not measured */
    double goal;  /* of the ratio; 0: none, always ok */
    bool less_is_better;
};

void jr_bench_init(struct jr_bench *b, bool json);
void jr_bench_add(struct jr_bench *b, const struct jr_bench_row *row);
/* Exit code of the program: 0 when every row is ok. */
int jr_bench_end(const struct jr_bench *b);

uint64_t jr_bench_wall_ns(void);
uint64_t jr_bench_cpu_ns(void); /* of the process: what counts on a shared machine */
/* Sorts v. n > 0. */
double jr_bench_median(double *v, size_t n);

#endif
