/* SPDX-License-Identifier: Apache-2.0 */
/* The log of events: how fast it is decoded, read, restored and written.
 *
 *   bench_log [--json] [--runs N] [--scale X] [--part PART]
 *
 * PART is one of codecs and snapshot (in memory, CPU time, median of N runs: 3), latency, events and
 * entries (a replica in this process, the driver that every router has, and a real nats-server with a
 * new folder; wall time, once). --scale makes
 * all sizes smaller (0.01: a smoke test); the goals are meant for 1. */
#include "log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void log_bench_die(const char *what, const char *words)
{
    (void)fprintf(stderr, "bench_log: %s: %s\n", what, words);
    exit(2);
}

void log_bench_bound(struct log_bench *b, const char *name, const char *unit, double measured,
                     double goal, bool less_is_better)
{
    struct jr_bench_row row = {.name = name, .unit = unit, .measured = measured};

    if (less_is_better)
        row.most = goal;
    else
        row.least = goal;
    jr_bench_add(&b->bench, &row);
}

int main(int argc, char **argv)
{
    struct log_bench b = {.runs = 3, .scale = 1};
    static const struct {
        const char *name;
        void (*run)(struct log_bench *b);
    } parts[] = {
        {"codecs", log_bench_codecs},   {"snapshot", log_bench_snapshot},
        {"latency", log_bench_latency}, {"events", log_bench_events},
        {"entries", log_bench_entries},
    };
    const char *part = "";
    bool json = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            b.runs = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--scale") == 0 && i + 1 < argc)
            b.scale = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--part") == 0 && i + 1 < argc)
            part = argv[++i];
        else
            log_bench_die(argv[i], "not understood; there are --json, --runs, --scale, --part");
    }
    if (b.runs == 0 || b.runs > 99 || !(b.scale > 0) || b.scale > 1)
        log_bench_die("options", "--runs is 1 to 99, --scale above 0 and at most 1");
    b.n_events = (uint64_t)(600000 * b.scale);
    b.n_tail = (uint64_t)(18000 * b.scale);
    b.n_entries = (uint64_t)(10000000 * b.scale);
    jr_bench_init(&b.bench, json);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!part[0] || strcmp(part, parts[i].name) == 0)
            parts[i].run(&b);
    return jr_bench_end(&b.bench);
}
