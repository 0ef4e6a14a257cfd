/* SPDX-License-Identifier: Apache-2.0 */
/* simulator: seeds of the simulator, and what it is worth. ./dev sim runs it. */
#include "sim_world.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRACE_LINES 60

struct options {
    struct sim_batch batch;
    uint64_t bugs; /* bits; 0: none */
    uint32_t lines;
    bool trace;
};

static const char usage[] =
    "usage: simulator [--seeds N] [--from S] [--jobs J] [--force WHAT,…] [--without WHAT,…]\n"
    "                 [--trace [--lines N]]\n"
    "       simulator --bugs [--bug N] [--seeds N] [--from S] [--jobs J] [--force WHAT,…]\n"
    "--force makes a fault, or something else that only some seeds have, part of every seed, as "
    "often\n"
    "as it comes; --without, of none. WHAT is one of --list.\n"
    "--bugs makes each of the known mistakes, one at a time, and says what finds it\n";

static __attribute__((noreturn)) void die(const char *what)
{
    (void)fprintf(stderr, "simulator: %s\n%s", what, usage);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t v = text ? strtoull(text, &end, 10) : 0;
    if (!text || *end || end == text)
        die("a number is missing");
    return v;
}

static uint64_t fault_bits(const char *names)
{
    uint64_t bits = 0;
    if (!names)
        die("a name is missing");
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, ",");
        uint32_t f = 0;
        while (f < SIM_X_END &&
               (strlen(sim_fault_name(f)) != n || strncmp(sim_fault_name(f), at, n) != 0))
            f++;
        if (f == SIM_X_END)
            die("no such fault");
        bits |= UINT64_C(1) << f;
        at += n + (at[n] == ',');
    }
    return bits;
}

static __attribute__((noreturn)) void list(void)
{
    for (uint32_t f = 0; f < SIM_X_END; f++)
        (void)printf("%s\n", sim_fault_name(f));
    exit(0);
}

static void parse(int argc, char **argv, struct options *o)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *o = (struct options){
        .batch = {.first = 1, .n = 2000, .jobs = cores > 64 ? 64 : (uint32_t)cores},
        .lines = TRACE_LINES};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        bool takes = true;
        if (strcmp(a, "--seeds") == 0)
            o->batch.n = number(next);
        else if (strcmp(a, "--from") == 0)
            o->batch.first = number(next);
        else if (strcmp(a, "--jobs") == 0)
            o->batch.jobs = (uint32_t)number(next);
        else if (strcmp(a, "--lines") == 0)
            o->lines = (uint32_t)number(next);
        else if (strcmp(a, "--without") == 0)
            o->batch.wish.without = fault_bits(next);
        else if (strcmp(a, "--force") == 0)
            o->batch.wish.force = fault_bits(next);
        else if (strcmp(a, "--bug") == 0)
            o->bugs = UINT64_C(1) << number(next);
        else
            takes = false;
        i += takes;
        if (strcmp(a, "--list") == 0)
            list();
        else if (strcmp(a, "--bugs") == 0)
            o->bugs = o->bugs ? o->bugs : (UINT64_C(1) << JR_BUGS) - 2;
        else if (strcmp(a, "--trace") == 0)
            o->trace = true;
        else if (!takes)
            die(a);
    }
    if (o->batch.jobs == 0 || o->batch.jobs > 64 || o->batch.n == 0 || o->lines == 0)
        die("--jobs is 1 to 64, --seeds and --lines at least 1");
}

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print_faults(uint64_t seed, const struct sim_wish *wish)
{
    struct sim_config c;
    sim_config_swarm(&c, seed, wish);
    (void)printf("%u replicas, %u workers of %u ranks; faults:", c.replicas, c.workers, c.ranks);
    for (uint32_t f = 0; f < SIM_FAULTS; f++)
        if (c.one_in[f])
            (void)printf(" %s 1/%u", sim_fault_name(f), c.one_in[f]);
    for (uint32_t f = SIM_FAULTS; f < SIM_X_END; f++)
        if (sim_config_has(&c, f))
            (void)printf(" %s", sim_fault_name(f));
    (void)printf("\n");
}

static void print_bits(const char *option, uint64_t bits)
{
    const char *before = option;
    for (uint32_t f = 0; f < SIM_X_END; f++)
        if (bits >> f & 1) {
            (void)printf("%s%s", before, sim_fault_name(f));
            before = ",";
        }
}

/* What failed, with as few faults as it takes, how it came to that, and how to see it again. */
static void explain(struct sim_failure f, struct sim_wish wish, uint32_t lines)
{
    uint64_t seed = f.seed;
    struct sim_wish least = wish;
    (void)printf("seed %llu, step %llu: %s\nwith fewer faults…\n", (unsigned long long)seed,
                 (unsigned long long)f.step, f.text);
    (void)fflush(stdout);
    sim_shrink(seed, &least, &f);
    print_faults(seed, &least);
    sim_print_trace(seed, &least, lines, stdout);
    (void)printf("seed %llu: %s\nagain: ./dev sim --seeds 1 --from %llu", (unsigned long long)seed,
                 f.text, (unsigned long long)seed);
    print_bits(" --force ", wish.force);
    print_bits(" --without ", wish.without);
    (void)printf(
        "\nthe least of it, with all that happens: ./dev sim --seeds 1 --from %llu --trace",
        (unsigned long long)seed);
    print_bits(" --force ", least.force & ~least.without);
    print_bits(" --without ", least.without);
    (void)printf("\n");
}

static int run_seeds(const struct options *o)
{
    struct sim_failure f;
    struct sim_count c = {0};
    double began = now_s();
    bool held = sim_run_many(&o->batch, &f, &c);
    double took = now_s() - began;
    if (!held) {
        explain(f, o->batch.wish, o->lines);
        return 1;
    }
    (void)printf("%llu seeds from %llu held: %.1f a second on %u processes (%.0f s)\n",
                 (unsigned long long)o->batch.n, (unsigned long long)o->batch.first,
                 (double)o->batch.n / took, o->batch.jobs, took);
    (void)printf(
        "%llu messages, %llu states compared, %llu loads compared, %llu queries compared, "
        "%llu requests (%llu dispatched, %llu waited), %llu kills, %llu leaders, "
        "%llu snapshots, %llu purges, %llu resets, %llu begins, %llu adopted, "
        "%llu steps of a rebuild, %llu reset from any, %llu counts of lower media, "
        "%llu words of sessions, %llu requests where theirs was bound, %llu selections from "
        "outside, %llu adopted\n",
        (unsigned long long)c.messages, (unsigned long long)c.compared,
        (unsigned long long)c.synced, (unsigned long long)c.scored, (unsigned long long)c.requests,
        (unsigned long long)c.dispatched, (unsigned long long)c.waited, (unsigned long long)c.kills,
        (unsigned long long)c.leaders, (unsigned long long)c.snapshots,
        (unsigned long long)c.purges, (unsigned long long)c.resets, (unsigned long long)c.begins,
        (unsigned long long)c.adopts, (unsigned long long)c.rebuilds,
        (unsigned long long)c.any_resets, (unsigned long long)c.lower, (unsigned long long)c.words,
        (unsigned long long)c.kept, (unsigned long long)c.outside, (unsigned long long)c.adopted);
    return 0;
}

static int run_trace(const struct options *o)
{
    sim_run(o->batch.first, &o->batch.wish, stdout, NULL, NULL);
    return 0;
}

#ifdef JR_FAILPOINTS
static int run_bugs(const struct options *o)
{
    int missed = 0;
    (void)printf("| bug | found by | seed |\n|---|---|---|\n");
    for (int bug = 1; bug < JR_BUGS; bug++) {
        struct sim_failure f;
        if (!(o->bugs >> bug & 1))
            continue;
        jr_bug_seeded = (enum jr_bug)bug;
        struct sim_batch b = o->batch;
        b.wish.force |= sim_force_for((enum jr_bug)bug);
        bool found = !sim_run_many(&b, &f, NULL);
        char *detail = found ? strstr(f.text, " [") : NULL;
        if (detail)
            *detail = '\0';
        missed += !found;
        if (found)
            (void)printf("| %s | %s | %llu |\n", jr_bug_name((enum jr_bug)bug), f.text,
                         (unsigned long long)f.seed);
        else
            (void)printf("| %s | **nothing** | |\n", jr_bug_name((enum jr_bug)bug));
        (void)fflush(stdout);
    }
    return missed ? 1 : 0;
}
#else
static int run_bugs(const struct options *o)
{
    (void)o;
    die("this build has no bugs to make: it needs JR_FAILPOINTS");
}
#endif

int main(int argc, char **argv)
{
    struct options o;
    parse(argc, argv, &o);
    if (o.bugs)
        return run_bugs(&o);
    return o.trace ? run_trace(&o) : run_seeds(&o);
}
