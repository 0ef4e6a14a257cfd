/* SPDX-License-Identifier: Apache-2.0 */
/* bench_sync: what it takes until a booking of one replica counts on every other, and what that
 * costs: fleets of routers, each a process with the driver that every router has, on one real
 * nats-server.
 *
 *   bench_sync [--json] [--quick] [--seconds S] [--replicas 2,4,8] [--rate 50,500,5000]
 *
 * Requests come at random, rate in all, with prompts of 110 blocks; each is admitted, has its first
 * token, a block of output and an end: four changes. Delay: from before the decision is asked for
 * until the booking is found among the peer's, every peer its own sample. The floor is what a bare
 * message takes through the same server meanwhile (sync/keeper.h). CPU is that of all routers, and
 * beside it of the same fleet that does not sync, and that of the server.
 * Answers: after each run nothing moves for a moment, and all routers must have the same load of
 * every worker; then all requests end, and all loads must be zero. */
#include "bench.h"
#include "jr_test_nats.h"
#include "sync/keeper.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIST_MAX   8
#define SETTLE_S   20
#define GOAL_MS    5   /* at 500 requests/s over 4 replicas */
#define QUIET_PART 0.4 /* of a run: the one without sync, only for its CPU */

struct list {
    double v[LIST_MAX];
    uint32_t n;
};

struct sync_bench {
    struct jr_bench bench;
    struct list replicas, rates;
    double seconds;
    struct jr_test_nats nats;
    struct fleet *fleet; /* shared, as all below */
    struct floor *floor;
    pid_t pids[MEMBERS_MAX + 1];
    uint64_t checked, wrong;
};

void sync_bench_die(const char *what, const char *words)
{
    (void)fprintf(stderr, "bench_sync: %s: %s\n", what, words);
    _exit(2);
}

/* ---- the fleet ---- */

static void *share(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        sync_bench_die("memory", "there is not enough");
    return p;
}

static bool until(bool (*done)(struct sync_bench *b), struct sync_bench *b)
{
    uint64_t end = jr_bench_wall_ns() + SETTLE_S * UINT64_C(1000000000);
    while (!done(b)) {
        if (jr_bench_wall_ns() > end || waitpid(-1, NULL, WNOHANG) > 0)
            return false;
        (void)usleep(2000);
    }
    return true;
}

static bool all_ready(struct sync_bench *b)
{
    for (uint32_t i = 0; i < b->fleet->n; i++)
        if (!atomic_load(&b->fleet->member[i].ready))
            return false;
    return true;
}

static void fleet_start(struct sync_bench *b, uint32_t n, bool sync)
{
    static unsigned fleets;
    b->fleet = share(sizeof *b->fleet);
    b->floor = share(sizeof *b->floor);
    b->fleet->n = n;
    b->fleet->sync = sync;
    (void)snprintf(b->fleet->url, sizeof b->fleet->url, "%s", b->nats.url);
    (void)snprintf(b->fleet->component, sizeof b->fleet->component, "fleet%u", ++fleets);
    for (uint32_t i = 0; i <= n; i++) {
        (void)fflush(NULL);
        b->pids[i] = fork();
        if (b->pids[i] < 0)
            sync_bench_die("fork", "no process");
        if (b->pids[i] > 0)
            continue;
        if (i < n)
            member_main(b->fleet, i);
        else
            keeper_main(b->fleet, b->floor);
        _exit(0);
    }
    if (!until(all_ready, b))
        sync_bench_die("fleet", "it does not become ready");
}

static void fleet_stop(struct sync_bench *b)
{
    atomic_store(&b->fleet->phase, STOP);
    for (uint32_t i = 0; i <= b->fleet->n; i++) {
        int status;
        if (waitpid(b->pids[i], &status, 0) == b->pids[i] && status != 0)
            sync_bench_die("fleet", "a router ended badly");
    }
    (void)munmap(b->fleet, sizeof *b->fleet);
    (void)munmap(b->floor, sizeof *b->floor);
}

/* ---- a run ---- */

static bool same_loads(struct sync_bench *b)
{
    const struct fleet *f = b->fleet;
    uint32_t live = 0;
    for (uint32_t i = 0; i < f->n; i++)
        live += atomic_load(&f->member[i].live);
    for (uint32_t i = 0; i < f->n; i++)
        if (atomic_load(&f->member[i].all) != live ||
            atomic_load(&f->member[i].loads) != atomic_load(&f->member[0].loads))
            return false;
    return true;
}

static bool no_loads(struct sync_bench *b)
{
    for (uint32_t i = 0; i < b->fleet->n; i++)
        if (atomic_load(&b->fleet->member[i].live) || atomic_load(&b->fleet->member[i].all))
            return false;
    return true;
}

/* utime and stime of another process, µs. */
static uint64_t cpu_of(pid_t pid)
{
    char path[64], line[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(line, sizeof line, f))
        sync_bench_die(path, "cannot be read");
    (void)fclose(f);
    char *at = strrchr(line, ')'); /* behind the name */
    for (int field = 2; at && field < 14; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        sync_bench_die(path, "has not the fields it should");
    unsigned long user = strtoul(at, &at, 10), system = strtoul(at, NULL, 10);
    return (user + system) * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

struct measure {
    uint64_t cpu_us, server_us, bookings;
    uint64_t began_ns, ended_ns;
    uint32_t from[MEMBERS_MAX], to[MEMBERS_MAX]; /* bookings of each */
};

static void sample(struct sync_bench *b, struct measure *m, uint32_t *ids, int sign)
{
    m->server_us += (uint64_t)sign * cpu_of(b->nats.pid);
    for (uint32_t i = 0; i < b->fleet->n; i++) {
        m->cpu_us += (uint64_t)sign * atomic_load(&b->fleet->member[i].cpu_us);
        ids[i] = atomic_load(&b->fleet->member[i].issued);
        m->bookings += (uint64_t)((int64_t)sign * (int64_t)ids[i]);
    }
}

static void check(struct sync_bench *b, bool (*done)(struct sync_bench *b), enum phase phase)
{
    atomic_store(&b->fleet->phase, phase);
    b->checked += b->fleet->n;
    if (!until(done, b))
        b->wrong += b->fleet->n;
}

static void run(struct sync_bench *b, double rate, double seconds, struct measure *m)
{
    *m = (struct measure){0};
    atomic_store(&b->fleet->rate, rate / b->fleet->n);
    sample(b, m, m->from, -1);
    m->began_ns = jr_bench_wall_ns();
    atomic_store(&b->fleet->phase, RUN);
    (void)usleep((useconds_t)(seconds * 1e6));
    sample(b, m, m->to, 1);
    m->ended_ns = jr_bench_wall_ns();
    if (b->fleet->sync)
        check(b, same_loads, HOLD);
    check(b, no_loads, DRAIN);
    atomic_store(&b->fleet->phase, IDLE);
}

/* ---- rows ---- */

static double per_booking(uint64_t us, const struct measure *m)
{
    return m->bookings ? (double)us / (double)m->bookings : 0;
}

/* Delays of all bookings of the run on all peers, sorted, ms; the number of them. */
static size_t delays_of(struct sync_bench *b, const struct measure *m, double **ret)
{
    const struct fleet *f = b->fleet;
    size_t n = 0;
    double *v = malloc((size_t)f->n * f->n * IDS_MAX * sizeof *v);
    for (uint32_t i = 0; v && i < f->n; i++)
        for (uint32_t k = 0; k < f->n; k++)
            for (uint32_t id = m->from[i] + 1; k != i && id <= m->to[i]; id++) {
                uint64_t seen = f->visible_ns[k][i][id];
                if (seen)
                    v[n++] = (double)(seen - f->booked_ns[i][id]) / 1e6;
                else
                    b->wrong++;
                b->checked++;
            }
    if (n == 0)
        sync_bench_die("delays", "there are none");
    (void)jr_bench_median(v, n); /* sorts */
    *ret = v;
    return n;
}

static size_t floor_of(const struct sync_bench *b, const struct measure *m, double **ret)
{
    uint32_t all = atomic_load(&b->floor->n);
    size_t n = 0;
    double *v = malloc((all + 1) * sizeof *v);
    for (uint32_t i = 0; v && i < all; i++)
        if (b->floor->sent_ns[i] >= m->began_ns && b->floor->sent_ns[i] < m->ended_ns)
            v[n++] = (double)b->floor->took_ns[i] / 1e6;
    if (n == 0)
        sync_bench_die("floor", "nothing came back");
    (void)jr_bench_median(v, n);
    *ret = v;
    return n;
}

static void add(struct sync_bench *b, const char *where, const char *what,
                const struct jr_bench_row *row)
{
    char name[96];
    struct jr_bench_row r = *row;
    (void)snprintf(name, sizeof name, "%s, %s", where, what);
    r.name = name;
    jr_bench_add(&b->bench, &r);
}

static void rows_of(struct sync_bench *b, double rate, const struct measure *m,
                    const struct measure *quiet)
{
    double *v, *floor;
    char where[48];
    size_t n = delays_of(b, m, &v), k = floor_of(b, m, &floor);
    bool goal = b->fleet->n == 4 && rate >= 499 && rate <= 501;
    (void)snprintf(where, sizeof where, "%u replicas, %.0f/s", b->fleet->n, rate);
    add(b, where, "delay p50",
        &(struct jr_bench_row){.unit = "ms", .measured = v[n / 2], .floor = floor[k / 2]});
    add(b, where, "delay p99",
        &(struct jr_bench_row){.unit = "ms",
                               .measured = v[n * 99 / 100],
                               .floor = floor[k * 99 / 100],
                               .most = goal ? GOAL_MS : 0});
    add(b, where, "CPU",
        &(struct jr_bench_row){.unit = "us/booking",
                               .measured = per_booking(m->cpu_us, m),
                               .floor = per_booking(quiet->cpu_us, quiet)});
    add(b, where, "server",
        &(struct jr_bench_row){.unit = "us/booking", .measured = per_booking(m->server_us, m)});
    free(v);
    free(floor);
}

static void run_fleet(struct sync_bench *b, uint32_t n)
{
    struct measure quiet[LIST_MAX], m;
    fleet_start(b, n, false);
    for (uint32_t i = 0; i < b->rates.n; i++)
        run(b, b->rates.v[i], QUIET_PART * b->seconds, &quiet[i]);
    fleet_stop(b);
    fleet_start(b, n, true);
    for (uint32_t i = 0; i < b->rates.n; i++) {
        run(b, b->rates.v[i], b->seconds, &m);
        rows_of(b, b->rates.v[i], &m, &quiet[i]);
    }
    fleet_stop(b);
}

/* ---- options ---- */

static struct list numbers(const char *text, double max)
{
    struct list l = {0};
    while (*text) {
        char *end;
        double v = strtod(text, &end);
        if (end == text || (*end && *end != ',') || !(v >= 1) || v > max || l.n == LIST_MAX)
            sync_bench_die(text, "not a list of numbers in their bounds");
        l.v[l.n++] = v;
        text = *end ? end + 1 : end;
    }
    return l;
}

int main(int argc, char **argv)
{
    struct sync_bench b = {.replicas = {{2, 4, 8}, 3}, .rates = {{50, 500, 5000}, 3}, .seconds = 5};
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            b.seconds = 1;
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            b.seconds = numbers(argv[++i], 30).v[0];
        else if (strcmp(argv[i], "--replicas") == 0 && i + 1 < argc)
            b.replicas = numbers(argv[++i], MEMBERS_MAX);
        else if (strcmp(argv[i], "--rate") == 0 && i + 1 < argc)
            b.rates = numbers(argv[++i], 20000);
        else
            sync_bench_die(argv[i], "not understood");
    }
    jr_bench_init(&b.bench, json);
    jr_test_nats_start(&b.nats, NULL);
    for (uint32_t i = 0; i < b.replicas.n; i++)
        run_fleet(&b, (uint32_t)b.replicas.v[i]);
    jr_bench_answers(&b.bench, "seen by all, loads equal, then zero", b.checked, b.wrong);
    jr_test_nats_end(&b.nats);
    return jr_bench_end(&b.bench);
}
