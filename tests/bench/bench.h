/* SPDX-License-Identifier: Apache-2.0 */
/* bench: how benchmarks report: a table for people, or with --json one line a row:
 *   {"name","unit","measured","peer","floor","ratio","against","goal","ok"}
 * peer and floor are null when not measured in the same run. ratio is measured / peer, or
 * measured / floor without a peer, as `against` says; null without either. goal: the least ratio,
 * or the most where less is better, or for a row with `most` or `least` that: what is measured in its unit
 * at most or at least; ok tells whether it is reached and is null without a goal.
 * A row for the answers that were checked is ok when none was wrong; a wrong one, not a missed
 * goal, ends the program with 1. table.py does the same for benchmarks in Python. */
#ifndef JR_BENCH_H
#define JR_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jr_bench {
    bool json;
    unsigned rows;
    unsigned missed; /* rows that miss their goal */
    unsigned wrong;  /* rows of answers with a wrong one */
};

struct jr_bench_row {
    const char *name; /* borrows */
    const char *unit;
    double measured;
    double peer;  /* 0: not measured */
    double floor; /* 0: not measured */
    double goal;  /* of the ratio; 0: none */
    bool less_is_better;
    double most;  /* in the place of goal: of measured; 0: none */
    double least; /* the same, from below */
};

void jr_bench_init(struct jr_bench *b, bool json);
void jr_bench_add(struct jr_bench *b, const struct jr_bench_row *row);
/* Of `checked` answers, `wrong` were wrong. Borrows name. */
void jr_bench_answers(struct jr_bench *b, const char *name, uint64_t checked, uint64_t wrong);
/* Exit code of the program: 1 when an answer was wrong. */
int jr_bench_end(const struct jr_bench *b);

uint64_t jr_bench_wall_ns(void);
uint64_t jr_bench_cpu_ns(void); /* of the process: what counts on a shared machine */
/* Sorts v. n > 0. */
double jr_bench_median(double *v, size_t n);

#endif
