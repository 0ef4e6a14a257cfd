/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void jr_bench_init(struct jr_bench *b, bool json)
{
    *b = (struct jr_bench){.json = json};
}

static double ratio_of(const struct jr_bench_row *row)
{
    double reference = row->peer > 0 ? row->peer : row->floor;

    if (!(reference > 0) || !(row->measured > 0))
        return 0;
    return row->measured / reference;
}

static const char *against(const struct jr_bench_row *row)
{
    return row->peer > 0 ? "peer" : row->floor > 0 ? "floor" : "";
}

static void print_number(const char *name, double value)
{
    if (value > 0)
        printf("\"%s\":%.6g,", name, value);
    else
        printf("\"%s\":null,", name);
}

static double goal_of(const struct jr_bench_row *row)
{
    return row->most > 0 ? row->most : row->least > 0 ? row->least : row->goal;
}

static bool reaches(const struct jr_bench_row *row, double ratio)
{
    if (row->most > 0)
        return row->measured <= row->most;
    if (row->least > 0)
        return row->measured >= row->least;
    if (!(row->goal > 0))
        return true;
    return row->less_is_better ? ratio > 0 && ratio <= row->goal : ratio >= row->goal;
}

/* ok: true, false, or null without a goal */
static void print_json(const struct jr_bench_row *row, double ratio, const char *ok)
{
    printf("{\"name\":\"%s\",\"unit\":\"%s\",", row->name, row->unit);
    printf("\"measured\":%.6g,", row->measured);
    print_number("peer", row->peer);
    print_number("floor", row->floor);
    print_number("ratio", ratio);
    if (ratio > 0)
        printf("\"against\":\"%s\",", against(row));
    else
        printf("\"against\":null,");
    print_number("goal", goal_of(row));
    printf("\"ok\":%s}\n", ok);
}

static void print_cell(double value, int width)
{
    if (value > 0)
        printf(" %*.4g", width, value);
    else
        printf(" %*s", width, "-");
}

static void print_line(const struct jr_bench *b, const struct jr_bench_row *row, double ratio,
                       const char *words)
{
    if (b->rows == 0)
        printf("%-34s %-14s %9s %9s %9s %7s %6s\n", "name", "unit", "measured", "peer", "floor",
               "ratio", "goal");
    printf("%-34s %-14s", row->name, row->unit);
    print_cell(row->measured, 9);
    print_cell(row->peer, 9);
    print_cell(row->floor, 9);
    print_cell(ratio, 7);
    print_cell(goal_of(row), 6);
    printf("%s\n", words);
}

void jr_bench_add(struct jr_bench *b, const struct jr_bench_row *row)
{
    double ratio = ratio_of(row);
    bool ok = reaches(row, ratio);

    if (b->json)
        print_json(row, ratio, !(goal_of(row) > 0) ? "null" : ok ? "true" : "false");
    else
        print_line(b, row, ratio, ok ? "" : "  MISSED");
    (void)fflush(stdout);
    b->rows++;
    b->missed += !ok;
}

void jr_bench_answers(struct jr_bench *b, const char *name, uint64_t checked, uint64_t wrong)
{
    struct jr_bench_row row = {.name = name, .unit = "right answers"};

    row.measured = (double)(checked - wrong);
    if (b->json)
        print_json(&row, 0, wrong ? "false" : "true");
    else
        print_line(b, &row, 0, wrong ? "  SOME ARE WRONG" : "");
    (void)fflush(stdout);
    b->rows++;
    b->wrong += wrong > 0;
}

int jr_bench_end(const struct jr_bench *b)
{
    if (b->missed > 0 && !b->json)
        printf("%u of %u rows miss their goal\n", b->missed, b->rows);
    return b->wrong > 0 ? 1 : 0;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t jr_bench_wall_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t jr_bench_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double jr_bench_median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}
