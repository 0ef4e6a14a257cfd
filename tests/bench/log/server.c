/* SPDX-License-Identifier: Apache-2.0 */
/* A replica against a real nats-server. The peer of the reads is a bare ordered consumer of the
 * client library that only counts. */
#include "base/mem.h"
#include "io/nats_priv.h"
#include "jr_test_nats.h"
#include "load.h"
#include "log.h"
#include "replica.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SYNC_EVERY       500 /* publishes between two acknowledged ones */
#define LATENCY_EVENTS   2000
#define LATENCY_EVERY_US 2000

/* ---- filling the stream ---- */

static void stream_of(const char *component, char *dst)
{
    if (jr_stream_name(JR_STREAM_EVENTS, REPLICA_NAMESPACE, component, dst) < 0)
        log_bench_die(component, "no stream name");
}

static struct jr_nats *connect_to(const char *url)
{
    struct jr_nats_config config = {.servers = url, .request_timeout_ms = 30000};
    struct jr_nats *nats;
    struct jr_errmsg e = {""};

    if (jr_nats_connect(&config, &nats, &e) < 0)
        log_bench_die("connect", e.text);
    return nats;
}

/* Messages first … first + n - 1 of the load. One connection keeps their order, and each so many
 * waits for the server. Returns the last sequence; a leader adds messages of its own. */
static uint64_t fill(struct jr_nats *nats, const char *component, uint64_t first, uint64_t n,
                     uint32_t run, bool dynamo)
{
    char stream[JR_STREAM_NAME_MAX], subject[JR_STREAM_NAME_MAX + 16];
    struct jr_stream_config config;
    struct jr_stream_info info;
    struct jr_errmsg e = {""};
    struct jr_buf b;

    stream_of(component, stream);
    snprintf(subject, sizeof subject, "%s.%s", stream, dynamo ? "kv-events" : "batch");
    jr_stream_config_events(&config, stream, INT64_C(8) << 30, 1);
    if (jr_stream_open(nats, &config, NULL, &e) < 0)
        log_bench_die("stream", e.text);
    jr_buf_init(&b, 1 << 20);
    for (uint64_t i = 0; i < n; i++) {
        int rv;
        jr_buf_clear(&b);
        load_payload(first + i, run, dynamo, &b);
        struct jr_pub pub = {.subject = subject, .payload = b.p, .n = b.n};
        if (i % SYNC_EVERY == SYNC_EVERY - 1 || i + 1 == n)
            rv = jr_js_publish(nats, &pub, NULL, &e);
        else
            rv = jr_nats_publish(nats, subject, b.p, b.n);
        if (rv < 0)
            log_bench_die("publish", e.text);
    }
    jr_buf_deinit(&b);
    if (jr_stream_info(nats, stream, &info, &e) < 0 || info.last_seq < first + n)
        log_bench_die("stream", "it does not hold what was published");
    return info.last_seq;
}

/* ---- the peer ---- */

struct counting {
    atomic_uint_least64_t n;
    uint64_t want;
    atomic_bool done;
};

static void on_counted(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct counting *c = closure;

    (void)nc;
    (void)sub;
    natsMsg_Destroy(msg);
    if (atomic_fetch_add(&c->n, 1) + 1 == c->want)
        atomic_store(&c->done, true);
}

/* Seconds from the connection to the last message. */
static double bare_consumer(const char *url, const char *component, uint64_t n)
{
    char stream[JR_STREAM_NAME_MAX], subject[JR_STREAM_NAME_MAX + 4];
    struct counting c = {.want = n};
    natsSubscription *sub = NULL;
    jsSubOptions so;

    stream_of(component, stream);
    snprintf(subject, sizeof subject, "%s.>", stream);
    uint64_t began = jr_bench_wall_ns();
    struct jr_nats *nats = connect_to(url);
    jsSubOptions_Init(&so);
    so.Ordered = true;
    so.Stream = stream;
    natsStatus s = js_Subscribe(&sub, jr_nats_js(nats), subject, on_counted, &c, NULL, &so, NULL);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(sub, -1, -1);
    if (s != NATS_OK)
        log_bench_die("bare consumer", natsStatus_GetText(s));
    while (!atomic_load(&c.done)) {
        (void)usleep(500);
        if (jr_bench_wall_ns() - began > REPLICA_TIMEOUT_S * UINT64_C(1000000000))
            log_bench_die("bare consumer", "did not read all in time");
    }
    double took = (double)(jr_bench_wall_ns() - began) / 1e9;
    natsSubscription_Unsubscribe(sub);
    natsSubscription_Destroy(sub);
    jr_nats_close(nats);
    return took;
}

/* ---- rows ---- */

/* What reading takes, by whom, wherever the machine's cores were meanwhile: wall time is no less than
 * all of it over the number of cores, and no less than the server's. */
struct cpu {
    double ours, servers; /* seconds */
};

static double clock_s(clockid_t id)
{
    struct timespec t = {0};

    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct cpu cpu_since(pid_t server, const struct cpu *from)
{
    clockid_t id = CLOCK_MONOTONIC;

    if (clock_getcpuclockid(server, &id) != 0)
        log_bench_die("server", "no clock of its CPU time");
    return (struct cpu){clock_s(CLOCK_PROCESS_CPUTIME_ID) - from->ours,
                        clock_s(id) - from->servers};
}

static void cpu_rows(struct log_bench *b, const struct cpu *replica, const struct cpu *bare)
{
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = "  CPU of the replica, of the bare one",
                                                   .unit = "s CPU",
                                                   .measured = replica->ours,
                                                   .peer = bare->ours});
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = "  CPU of the server, the same",
                                                   .unit = "s CPU",
                                                   .measured = replica->servers,
                                                   .peer = bare->servers});
}

struct digests {
    uint64_t blocks, entries;
};

static struct digests digests_of(struct replica *r)
{
    struct jr_pool_view v;

    replica_view(r, &v);
    return (struct digests){v.digest_blocks, v.entries};
}

static void same_row(struct log_bench *b, const char *name, const struct digests *x,
                     const struct digests *y, uint64_t entries)
{
    bool same = x->blocks == y->blocks && x->entries == entries && y->entries == entries;
    jr_bench_answers(&b->bench, name, entries, same ? 0 : entries);
}

static void turn_row(struct log_bench *b, const char *name, const struct replica *r, double goal)
{
    if (goal > 0)
        log_bench_bound(b, name, "ms CPU", (double)r->longest_turn_ns / 1e6, goal, true);
    else
        jr_bench_add(&b->bench,
                     &(struct jr_bench_row){.name = name,
                                            .unit = "ms CPU",
                                            .measured = (double)r->longest_turn_ns / 1e6});
}

static void events_rows(struct log_bench *b, const struct jr_test_nats *server)
{
    const char *url = server->url;
    static const char component[] = "events";
    struct jr_nats *nats = connect_to(url);
    const uint64_t head = b->n_events - b->n_tail;
    struct replica r;

    fill(nats, component, 0, head, 1, true);
    replica_start(&r, url, component);
    replica_snapshot(&r);
    replica_applied(&r, fill(nats, component, head, b->n_tail, 1, true));
    struct digests live = digests_of(&r);
    replica_stop(&r);

    replica_start(&r, url, component);
    struct digests restored = digests_of(&r);
    log_bench_bound(b, "start, snapshot + 18 k messages", "s", r.ready_s, 0.5, true);
    turn_row(b, "  longest turn of the loop", &r, 2);
    replica_stop(&r);
    same_row(b, "  state equals the live one", &live, &restored, b->n_events);

    static const char whole[] = "whole";
    fill(nats, whole, 0, b->n_events, 1, true);
    const struct cpu zero = {0};
    struct cpu t0 = cpu_since(server->pid, &zero);
    double bare_s = bare_consumer(url, whole, b->n_events);
    struct cpu bare = cpu_since(server->pid, &t0);
    t0 = cpu_since(server->pid, &zero);
    replica_start(&r, url, whole);
    struct cpu ours = cpu_since(server->pid, &t0);
    struct digests replayed = digests_of(&r);
    log_bench_bound(b, "start, 600 k JSON events", "s", r.ready_s, 2, true);
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = "  beside a bare consumer",
                                                   .unit = "s",
                                                   .measured = r.ready_s,
                                                   .peer = bare_s,
                                                   .goal = 1.3,
                                                   .less_is_better = true});
    cpu_rows(b, &ours, &bare);
    turn_row(b, "  longest turn of the loop", &r, 2);
    replica_stop(&r);
    same_row(b, "  state equals the live one", &live, &replayed, b->n_events);
    jr_nats_close(nats);
}

static void entries_rows(struct log_bench *b, const struct jr_test_nats *server)
{
    const char *url = server->url;
    static const char component[] = "entries";
    struct jr_nats *nats = connect_to(url);
    const uint64_t n = b->n_entries / LOAD_RUN_MAX;
    const double blocks = (double)(n * LOAD_RUN_MAX);
    struct replica r;

    fill(nats, component, 0, n, LOAD_RUN_MAX, false);
    jr_nats_close(nats);
    const struct cpu zero = {0};
    struct cpu t0 = cpu_since(server->pid, &zero);
    double bare_s = bare_consumer(url, component, n);
    struct cpu bare = cpu_since(server->pid, &t0);
    t0 = cpu_since(server->pid, &zero);
    replica_start(&r, url, component);
    struct cpu ours = cpu_since(server->pid, &t0);
    struct digests replayed = digests_of(&r);
    log_bench_bound(b, "start, 10 M entries in batches", "s", r.ready_s, 4, true);
    turn_row(b, "  longest turn of the loop", &r, 2);
    log_bench_bound(b, "consumption, batches of 64", "M blocks/s", blocks / 1e6 / r.ready_s, 5,
                    false);
    jr_bench_add(&b->bench, &(struct jr_bench_row){.name = "  beside a bare consumer",
                                                   .unit = "M blocks/s",
                                                   .measured = blocks / 1e6 / r.ready_s,
                                                   .peer = blocks / 1e6 / bare_s,
                                                   .goal = 0.8});
    cpu_rows(b, &ours, &bare);
    r.longest_turn_ns = 0;
    uint64_t t = jr_bench_wall_ns();
    replica_snapshot(&r);
    jr_bench_add(&b->bench,
                 &(struct jr_bench_row){.name = "snapshot of 10 M, to its record",
                                        .unit = "s",
                                        .measured = (double)(jr_bench_wall_ns() - t) / 1e9});
    turn_row(b, "  longest turn of the loop", &r, 2);
    replica_stop(&r);

    replica_start(&r, url, component);
    struct digests restored = digests_of(&r);
    log_bench_bound(b, "start, 10 M entries in a snapshot", "s", r.ready_s, 3, true);
    turn_row(b, "  longest turn of the loop", &r, 2);
    replica_stop(&r);
    same_row(b, "  state equals the replayed one", &replayed, &restored, n * LOAD_RUN_MAX);
}

/* ---- from stored to visible ---- */

struct trickle {
    const char *url, *component;
    uint64_t n;
    atomic_bool done;
};

static void *trickle_main(void *arg)
{
    struct trickle *t = arg;
    struct jr_nats *nats = connect_to(t->url);

    for (uint64_t i = 0; i < t->n; i++) {
        fill(nats, t->component, i, 1, 1, true);
        (void)usleep(LATENCY_EVERY_US);
    }
    jr_nats_close(nats);
    atomic_store(&t->done, true);
    return NULL;
}

static bool trickled(struct replica *r, void *ctx)
{
    struct trickle *t = ctx;
    struct jr_pool_view v;

    replica_view(r, &v);
    return v.applied_seq >= t->n && atomic_load(&t->done);
}

static void latency_rows(struct log_bench *b, const struct jr_test_nats *server)
{
    const char *url = server->url;
    static const char component[] = "latency";
    struct jr_nats *nats = connect_to(url);
    struct trickle t = {
        .url = url, .component = component, .n = (uint64_t)(LATENCY_EVENTS * b->scale) + 100};
    double *ms = jr_xalloc(t.n * sizeof *ms);
    char stream[JR_STREAM_NAME_MAX];
    struct jr_errmsg e = {""};
    struct replica r;
    pthread_t thread;

    stream_of(component, stream);
    replica_start(&r, url, component);
    r.visible_ns = jr_xalloc((t.n + 1) * sizeof *r.visible_ns);
    r.visible_n = t.n + 1;
    if (pthread_create(&thread, NULL, trickle_main, &t) != 0)
        log_bench_die("latency", "no thread");
    replica_until(&r, trickled, &t, "latency");
    (void)pthread_join(thread, NULL);
    for (uint64_t seq = 1; seq <= t.n; seq++) {
        struct jr_stored *st;
        if (jr_stored_get(nats, stream, seq, &st, &e) < 0)
            log_bench_die("latency", e.text);
        ms[seq - 1] = (double)(r.visible_ns[seq] - st->time_ns) / 1e6;
        jr_stored_destroy(st);
    }
    (void)jr_bench_median(ms, t.n); /* sorts */
    log_bench_bound(b, "stored to visible, p50", "ms", ms[t.n / 2], 1, true);
    log_bench_bound(b, "stored to visible, p99", "ms", ms[t.n * 99 / 100], 5, true);
    jr_xfree(r.visible_ns);
    r.visible_ns = NULL;
    replica_stop(&r);
    jr_nats_close(nats);
    jr_xfree(ms);
}

static void on_server(struct log_bench *b,
                      void (*rows)(struct log_bench *b, const struct jr_test_nats *server))
{
    struct jr_test_nats server;

    jr_test_nats_start(&server, NULL);
    rows(b, &server);
    jr_test_nats_end(&server);
}

void log_bench_latency(struct log_bench *b)
{
    on_server(b, latency_rows);
}

void log_bench_events(struct log_bench *b)
{
    on_server(b, events_rows);
}

void log_bench_entries(struct log_bench *b)
{
    on_server(b, entries_rows);
}
