/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge: from an engine's socket to JetStream's acknowledgement.
 *
 *   bench_bridge [--json] [--runs N] [--scale X]
 *
 * A hub with one bridge in this process, on one core, against a real nats-server; the engine is a
 * child process on the other cores: HTTP as vLLM answers it, events as vLLM 0.32 says them. Wall
 * times want a machine of one's own; the rows of CPU time do not. --scale makes all sizes smaller.
 *
 *   blocks      stores of blocks of 64 tokens, 256 a message, as fast as they are taken; the engine
 *               has encoded them before, for it shares its core with the server and is not what is
 *               measured. The floor of the same run is a bare subscriber that only counts them
 *   latency     a store each 5 ms, from its publishing to its acknowledgement
 *   memory      of the mirror, with a million blocks held
 *
 * Medians of N runs. The answers: what the mirror holds, each store acknowledged once. */
#include "app/bridge/bridge_internal.h"
#include "bench.h"
#include "io/http_server.h"
#include "io/zmq_pub.h"
#include "jr_test_nats.h"
#include "wire/engine_kv.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK      64
#define PER_EVENT  32
#define PER_BATCH  8
#define BLOCKS     ((uint64_t)PER_EVENT * PER_BATCH) /* of a message */
#define RUNS_MAX   99
#define AHEAD_MSGS 512 /* that the engine may be ahead of who reads */
#define WAIT_S     120
#define LIGHT_MS   5
#define HELLO_MS   20
#define NS         1000000000u

static struct {
    struct jr_bench bench;
    struct jr_test_nats server;
    struct jr_loop *loop;
    struct jr_nats *nats;
    struct jr_http_client *client;
    struct jr_bridge_hub *hub;
    unsigned runs;
    uint64_t n_msgs, n_light, n_held;
    uint64_t wrong, checked;
} b;

static void die(const char *what, const char *words)
{
    (void)fprintf(stderr, "bench_bridge: %s: %s\n", what, words);
    exit(2);
}

static void check(bool right, const char *what)
{
    b.checked++;
    if (right)
        return;
    b.wrong++;
    (void)fprintf(stderr, "bench_bridge: wrong: %s\n", what);
}

/* What is started from now on, threads and children: on the first core, or on all others. */
static void pin(bool first)
{
    static cpu_set_t had;
    cpu_set_t set;
    size_t at = 0;
    if (CPU_COUNT(&had) == 0 && sched_getaffinity(0, sizeof had, &had) < 0)
        die("affinity", "not to be had");
    while (!CPU_ISSET(at, &had))
        at++;
    set = had;
    CPU_CLR(at, &set);
    if (first || CPU_COUNT(&set) == 0) {
        CPU_ZERO(&set);
        CPU_SET(at, &set);
    }
    (void)sched_setaffinity(0, sizeof set, &set);
}

/* ---- the engine's messages ---- */

/* A message of the series: 8 stores of 32 blocks, each a prompt of its own. Hashes and first tokens
 * are of their number, so that no block is stored twice. */
static void encode(uint64_t number, uint32_t n_events, uint32_t n_blocks, struct jr_buf *out)
{
    static uint64_t hashes[BLOCKS];
    static uint32_t tokens[BLOCKS * BLOCK];
    struct jr_engine_event events[PER_BATCH];
    memset(events, 0, sizeof events);
    for (uint32_t i = 0; i < n_events * n_blocks; i++)
        hashes[i] = (number * BLOCKS + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t i = 0; i < n_events * n_blocks * BLOCK; i++)
        tokens[i] = (uint32_t)(number * 31 + i * UINT64_C(7919)) % 128000;
    for (uint32_t i = 0; i < n_events; i++)
        events[i] = (struct jr_engine_event){.type = JR_ENGINE_STORED,
                                             .medium = JR_MEDIUM_GPU,
                                             .hashes = hashes + (size_t)i * n_blocks,
                                             .n_hashes = n_blocks,
                                             .tokens = tokens + (size_t)i * n_blocks * BLOCK,
                                             .n_tokens = n_blocks * BLOCK,
                                             .block_size = BLOCK};
    struct jr_engine_batch batch = {
        .ts = 1.5e9, .has_rank = true, .events = events, .n_events = n_events};
    jr_buf_clear(out);
    jr_engine_batch_encode(out, &batch, JR_ENGINE_VLLM_MAP);
    if (out->err)
        die("encode", "no memory");
}

/* ---- the engine, a child ---- */

static void on_request(void *ctx, struct jr_http_request *req)
{
    static const char models[] = "{\"data\":[{\"id\":\"bench\"}]}";
    static const char metrics[] =
        "vllm:cache_config_info{block_size=\"64\",num_gpu_blocks=\"4000000\"} 1.0\n";
    struct jr_str path = jr_http_request_path(req);
    const char *body = jr_str_eq(path, "/health")      ? ""
                       : jr_str_eq(path, "/v1/models") ? models
                       : jr_str_eq(path, "/metrics")   ? metrics
                                                       : NULL;
    (void)ctx;
    jr_http_respond(req, body ? 200 : 404, "text/plain", NULL, body ? body : "",
                    body ? strlen(body) : 0);
}

/* Where an engine listens, and the pipe that says how many messages it may have sent by now. */
struct engine {
    pid_t pid;
    int go; /* written: one byte each message that was taken */
    char url[64], kv[64];
};

struct child {
    struct jr_loop *loop;
    struct jr_zmq_pub *pub;
    int go;
    uint64_t sent, taken, n;
    uint64_t hello_at_ns;
    struct jr_buf hello, *msgs; /* n of them */
};

/* Empty batches, until somebody hears them: PUB tells nobody when it met a SUB. */
static void say_hello(struct child *c)
{
    if (jr_bench_wall_ns() < c->hello_at_ns)
        return;
    c->hello_at_ns = jr_bench_wall_ns() + HELLO_MS * UINT64_C(1000000);
    encode(0, 0, 0, &c->hello);
    (void)jr_zmq_pub_send(c->pub, c->hello.p, c->hello.n);
}

/* Once each loop turn: as far ahead as may be. The first byte of the pipe begins it. */
static bool send_some(void *ctx)
{
    struct child *c = ctx;
    char bytes[AHEAD_MSGS];
    ssize_t got = read(c->go, bytes, sizeof bytes);
    if (got == 0)
        _exit(0);
    c->taken += got > 0 ? (uint64_t)got : 0;
    if (c->taken == 0)
        say_hello(c);
    bool room = c->taken && c->sent < c->n && c->sent < c->taken + AHEAD_MSGS;
    for (int i = 0; i < 16 && room; i++) {
        const struct jr_buf *m = &c->msgs[c->sent++];
        (void)jr_zmq_pub_send(c->pub, m->p, m->n);
        room = c->sent < c->n && c->sent < c->taken + AHEAD_MSGS;
    }
    if (got < 0 && !room)
        (void)usleep(200);
    return true;
}

static void encode_all(struct child *c)
{
    c->msgs = jr_xalloc(c->n * sizeof *c->msgs);
    jr_buf_init(&c->hello, 1 << 20);
    for (uint64_t i = 0; i < c->n; i++) {
        jr_buf_init(&c->msgs[i], 1 << 20);
        encode(1 + i, PER_BATCH, PER_EVENT, &c->msgs[i]);
    }
}

static void run_engine(int go, int said, uint64_t n)
{
    struct child c = {.go = go, .n = n};
    struct jr_errmsg e = {0};
    struct jr_http_server *http;
    struct jr_http_server_config config = {.host = "127.0.0.1",
                                           .body_max = 1 << 16,
                                           .conns_max = 16,
                                           .header_timeout_ms = 10000,
                                           .idle_timeout_ms = 600000,
                                           .on_request = on_request};
    struct jr_zmq_pub_config pub = {.endpoint = "tcp://127.0.0.1:0"};
    char text[128];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(false);
    encode_all(&c);
    if (jr_loop_create(&c.loop) < 0 || jr_zmq_pub_create(&pub, &c.pub, &e) < 0 ||
        jr_http_server_listen(c.loop, &config, &e, &http) < 0)
        die("engine", e.text);
    int len = snprintf(text, sizeof text, "%u %s\n", jr_http_server_port(http),
                       jr_zmq_pub_endpoint(c.pub));
    if (write(said, text, (size_t)len) != len)
        die("engine", "nobody listens");
    jr_idler_start(jr_idler_create(c.loop, send_some, &c));
    jr_loop_run(c.loop);
}

static void start_engine(struct engine *g, uint64_t n)
{
    int go[2], said[2];
    char text[128] = "";
    if (pipe(go) < 0 || pipe(said) < 0 || fcntl(go[0], F_SETFL, O_NONBLOCK) < 0)
        die("pipe", "not to be had");
    g->pid = fork();
    if (g->pid == 0) {
        (void)close(go[1]);
        (void)close(said[0]);
        run_engine(go[0], said[1], n);
        _exit(0);
    }
    (void)close(go[0]);
    (void)close(said[1]);
    if (g->pid < 0 || read(said[0], text, sizeof text - 1) <= 0)
        die("engine", "it does not start");
    (void)close(said[0]);
    g->go = go[1];
    char *at = strchr(text, ' ');
    snprintf(g->url, sizeof g->url, "http://127.0.0.1:%lu", strtoul(text, NULL, 10));
    snprintf(g->kv, sizeof g->kv, "%.*s", (int)strcspn(at + 1, "\n"), at + 1);
}

static void stop_engine(struct engine *g)
{
    (void)close(g->go);
    (void)kill(g->pid, SIGKILL);
    (void)waitpid(g->pid, NULL, 0);
}

static void let_go(const struct engine *g, uint64_t n)
{
    char bytes[4096] = "";
    for (; n; n -= n < sizeof bytes ? n : sizeof bytes)
        if (write(g->go, bytes, n < sizeof bytes ? n : sizeof bytes) < 0)
            die("engine", "it is gone");
}

/* ---- turning the loop ---- */

/* Sleeps in the loop until something happens, at most about 10 ms. */
static void turn(void)
{
    uv_run(jr_loop_uv(b.loop), UV_RUN_ONCE);
}

static void wait_until(bool (*fn)(const void *), const void *ctx, const char *what)
{
    uint64_t until = jr_bench_wall_ns() + (uint64_t)WAIT_S * NS;
    while (!fn(ctx)) {
        turn();
        if (jr_bench_wall_ns() > until)
            die(what, "not in time");
    }
}

static bool is_registered(const void *ctx)
{
    return ((const struct jr_bridge *)ctx)->lease_revision != 0;
}

static bool is_true(const void *ctx)
{
    return *(const bool *)ctx;
}

static void mark(void *ctx)
{
    *(bool *)ctx = true;
}

static struct jr_bridge *start_bridge(const char *url, const char *kv)
{
    struct jr_errmsg e = {0};
    struct jr_bridge *bridge;
    struct jr_bridge_config config = {.engine_url = url, .kv_endpoint = kv};
    if (jr_bridge_create(b.hub, &config, &bridge, &e) < 0)
        die("bridge", e.text);
    wait_until(is_registered, bridge, "registering");
    return bridge;
}

static void stop_bridge(struct jr_bridge *bridge)
{
    bool done = false;
    jr_bridge_close(bridge, mark, &done);
    wait_until(is_true, &done, "closing");
}

/* ---- blocks ---- */

/* The peer's part of the engine: a subscriber that counts. */
struct bare {
    uint64_t n;
    bool heard;
};

static void on_bare(struct jr_zmq_msg *m, void *ctx)
{
    struct bare *bare = ctx;
    bare->n += m->n > BLOCKS; /* no hello */
    bare->heard = true;
    jr_zmq_msg_destroy(m);
}

struct took {
    double wall, cpu; /* seconds */
};

/* Lets the engine go (`each` of taken are a message), and follows how much of it was taken until all is. */
static struct took follow(const struct engine *g, const uint64_t *taken, uint64_t each,
                          bool (*done)(const void *), const void *ctx)
{
    uint64_t told = 1, wall = jr_bench_wall_ns(), cpu = jr_bench_cpu_ns();
    uint64_t until = wall + (uint64_t)WAIT_S * NS;
    let_go(g, 1);
    while (!done(ctx)) {
        turn();
        if (*taken / each > told) {
            let_go(g, *taken / each - told);
            told = *taken / each;
        }
        if (jr_bench_wall_ns() > until)
            die("blocks", "not in time");
    }
    return (struct took){(double)(jr_bench_wall_ns() - wall) / 1e9,
                         (double)(jr_bench_cpu_ns() - cpu) / 1e9};
}

static bool bare_done(const void *ctx)
{
    return ((const struct bare *)ctx)->n >= b.n_msgs;
}

static struct took bare_run(void)
{
    struct engine g;
    struct bare bare = {0};
    struct jr_errmsg e = {0};
    struct jr_zmq_sub *sub;
    bool done = false;
    start_engine(&g, b.n_msgs);
    struct jr_zmq_group *group;
    struct jr_zmq_group_config one = {.sockets_max = 16};
    if (jr_zmq_group_create(&one, &group, &e) < 0)
        die("subscriber", e.text);
    struct jr_zmq_sub_config config = {
        .loop = b.loop, .group = group, .endpoint = g.kv, .on_msg = on_bare, .ctx = &bare};
    if (jr_zmq_sub_create(&config, &sub, &e) < 0)
        die("subscriber", e.text);
    wait_until(is_true, &bare.heard, "meeting");
    struct took took = follow(&g, &bare.n, 1, bare_done, &bare);
    jr_zmq_sub_close(sub, mark, &done);
    wait_until(is_true, &done, "closing");
    jr_zmq_group_destroy(group);
    stop_engine(&g);
    return took;
}

static bool all_acked(const void *ctx)
{
    const struct jr_bridge_source *s = ((const struct jr_bridge *)ctx)->sources[0];
    return s->feed.counters.stored >= b.n_msgs * PER_BATCH && jr_bridge_rank_idle(&s->rank);
}

static bool has_met(const void *ctx)
{
    return ((const struct jr_bridge *)ctx)->sources[0]->feed.counters.msgs > 0;
}

static struct took our_run(void)
{
    struct engine g;
    start_engine(&g, b.n_msgs);
    struct jr_bridge *bridge = start_bridge(g.url, g.kv);
    const struct jr_bridge_source *s = bridge->sources[0];
    wait_until(has_met, bridge, "meeting");
    struct took took = follow(&g, &s->feed.counters.stored, PER_BATCH, all_acked, bridge);
    uint64_t begins = 0;
    for (int i = 0; i < JR_BEGIN_REASONS; i++)
        begins += s->rank.counters.begins[i];
    check(s->rank.mirror.n == b.n_msgs * BLOCKS, "the mirror holds what was stored");
    check(s->feed.counters.jumps == 0 && s->feed.counters.bad == 0 && begins == 1,
          "nothing was lost on the way");
    check(s->rank.acked_id == s->rank.counters.batch_events, "each event is acknowledged");
    stop_bridge(bridge);
    stop_engine(&g);
    return took;
}

static void blocks(void)
{
    double wall[RUNS_MAX], cpu[RUNS_MAX], bare_wall[RUNS_MAX], bare_cpu[RUNS_MAX];
    double n = (double)(b.n_msgs * BLOCKS);
    for (unsigned i = 0; i < b.runs; i++) {
        struct took bare = bare_run(), ours = our_run();
        bare_wall[i] = n / bare.wall;
        bare_cpu[i] = n / bare.cpu;
        wall[i] = n / ours.wall;
        cpu[i] = n / ours.cpu;
    }
    struct jr_bench_row row = {.name = "ZMQ to PubAck, blocks of 64 tokens",
                               .unit = "blocks/s",
                               .measured = jr_bench_median(wall, b.runs),
                               .floor = jr_bench_median(bare_wall, b.runs),
                               .least = 1e6};
    jr_bench_add(&b.bench, &row);
    row = (struct jr_bench_row){.name = "the same, of CPU time",
                                .unit = "blocks/s",
                                .measured = jr_bench_median(cpu, b.runs),
                                .floor = jr_bench_median(bare_cpu, b.runs),
                                .least = 1e6};
    jr_bench_add(&b.bench, &row);
}

/* ---- latency ---- */

struct light {
    const struct jr_bridge_source *s;
    uint64_t acks;
};

static bool acked(const void *ctx)
{
    const struct light *l = ctx;
    return l->s->rank.counters.acks > l->acks;
}

static int by_size(const void *a, const void *c)
{
    double x = *(const double *)a, y = *(const double *)c;
    return (x > y) - (x < y);
}

/* A publish to JetStream by itself, of a message like a bridge's: the floor. */
struct plain {
    bool done;
    int err;
};

static void on_plain(void *ctx, int err, const struct jr_pub_ack *ack)
{
    struct plain *p = ctx;
    (void)ack;
    p->err = err;
    p->done = true;
}

static double plain_ms(const void *payload, size_t n)
{
    struct plain p = {0};
    uint64_t began = jr_bench_wall_ns();
    struct jr_pub pub = {.subject = b.hub->subject, .payload = payload, .n = n};
    if (jr_js_publish_async(b.hub->publisher, &pub, on_plain, &p) < 0)
        die("publish", "refused");
    wait_until(is_true, &p.done, "publish");
    check(p.err == 0, "a plain publish is acknowledged");
    return (double)(jr_bench_wall_ns() - began) / 1e6;
}

static void pause_until(uint64_t at_ns)
{
    while (jr_bench_wall_ns() < at_ns) {
        uv_run(jr_loop_uv(b.loop), UV_RUN_NOWAIT);
        (void)usleep(200);
    }
}

static void latency(void)
{
    struct engine g;
    struct jr_errmsg e = {0};
    struct jr_zmq_pub *pub;
    struct jr_zmq_pub_config config = {.endpoint = "tcp://127.0.0.1:0"};
    struct jr_buf out;
    double *ms = jr_xalloc(b.n_light * sizeof *ms), *plain = jr_xalloc(b.n_light * sizeof *plain);
    jr_buf_init(&out, 1 << 20);
    start_engine(&g, 0); /* for its HTTP */
    if (jr_zmq_pub_create(&config, &pub, &e) < 0)
        die("publisher", e.text);
    struct jr_bridge *bridge = start_bridge(g.url, jr_zmq_pub_endpoint(pub));
    const struct jr_bridge_source *s = bridge->sources[0];
    while (!has_met(bridge)) {
        encode(0, 0, 0, &out);
        (void)jr_zmq_pub_send(pub, out.p, out.n);
        pause_until(jr_bench_wall_ns() + HELLO_MS * UINT64_C(1000000));
    }
    uint64_t at = jr_bench_wall_ns();
    for (uint64_t i = 0; i < b.n_light; i++) {
        struct light l = {s, s->rank.counters.acks};
        encode(UINT64_C(1) << 32 | i, 1, 8, &out);
        uint64_t began = jr_bench_wall_ns();
        (void)jr_zmq_pub_send(pub, out.p, out.n);
        wait_until(acked, &l, "acknowledgement");
        ms[i] = (double)(jr_bench_wall_ns() - began) / 1e6;
        plain[i] = plain_ms("x", 1);
        pause_until(at += (uint64_t)LIGHT_MS * 1000000);
    }
    check(s->rank.mirror.n == 8 * b.n_light && s->feed.counters.jumps == 0,
          "the mirror holds what was stored at light load");
    qsort(ms, b.n_light, sizeof *ms, by_size);
    qsort(plain, b.n_light, sizeof *plain, by_size);
    struct jr_bench_row row = {.name = "engine to PubAck, light load, p50",
                               .unit = "ms",
                               .measured = ms[b.n_light / 2],
                               .floor = plain[b.n_light / 2]};
    jr_bench_add(&b.bench, &row);
    row = (struct jr_bench_row){.name = "engine to PubAck, light load, p99",
                                .unit = "ms",
                                .measured = ms[b.n_light * 99 / 100],
                                .floor = plain[b.n_light * 99 / 100],
                                .most = 5};
    jr_bench_add(&b.bench, &row);
    stop_bridge(bridge);
    jr_zmq_pub_destroy(pub);
    stop_engine(&g);
    jr_buf_deinit(&out);
    jr_xfree(ms);
    jr_xfree(plain);
}

/* ---- memory ---- */

static void ignore(void *ctx, const struct jr_kv_event *event)
{
    (void)ctx;
    (void)event;
}

/* The floor is a block's content by itself: its hash, its local hash and its parent's. */
static void memory(void)
{
    struct jr_mirror m;
    double worst = 0;
    jr_mirror_init(&m, 0);
    for (uint64_t i = 0; i < b.n_held; i++) {
        struct jr_kv_block block = {i + 1, i * UINT64_C(0x9e3779b97f4a7c15)};
        struct jr_kv_event ev = {.type = JR_KV_STORED,
                                 .has_parent = i % 64 != 0,
                                 .parent_hash = i,
                                 .blocks = &block,
                                 .n = 1};
        jr_mirror_store(&m, &ev, 0, ignore, NULL);
        double each = (double)jr_mirror_bytes(&m) / (double)m.n;
        if (i >= b.n_held / 4 && each > worst)
            worst = each; /* just grown */
    }
    check(m.n == b.n_held, "the mirror holds what was stored");
    struct jr_bench_row row = {.name = "memory of a mirrored block",
                               .unit = "bytes",
                               .measured = (double)jr_mirror_bytes(&m) / (double)m.n,
                               .floor = 24,
                               .most = 48};
    jr_bench_add(&b.bench, &row);
    row.name = "the same, just after it grew";
    row.measured = worst;
    jr_bench_add(&b.bench, &row);
    jr_mirror_deinit(&m);
}

/* ---- all of it ---- */

static void up(void)
{
    struct jr_errmsg e = {0};
    struct jr_http_client_config http = {
        .connect_timeout_ms = 1000, .idle_timeout_ms = 1000, .idle_per_host_max = 2};
    pin(false); /* the server is on the other cores */
    jr_test_nats_start(&b.server, NULL);
    pin(true);
    struct jr_nats_config nats = {.servers = b.server.url};
    if (jr_loop_create(&b.loop) < 0)
        die("loop", "not to be had");
    nats.loop = b.loop;
    if (jr_nats_connect(&nats, &b.nats, &e) < 0 ||
        jr_http_client_create(b.loop, &http, &b.client) < 0)
        die("connect", e.text);
    struct jr_bridge_hub_config config = {.loop = b.loop,
                                          .nats = b.nats,
                                          .client = b.client,
                                          .namespace_ = "bench",
                                          .component = "bridge",
                                          .lease_ttl_ms = 5000,
                                          .stream_max_bytes = UINT64_C(8) << 30,
                                          .nats_replicas = 1};
    if (jr_bridge_hub_create(&config, &b.hub, &e) < 0)
        die("hub", e.text);
}

static void down(void)
{
    bool done = false;
    jr_bridge_hub_close(b.hub, mark, &done);
    wait_until(is_true, &done, "closing");
    done = false;
    jr_http_client_close(b.client, mark, &done);
    wait_until(is_true, &done, "closing");
    jr_nats_close(b.nats);
    jr_loop_destroy(b.loop);
    jr_test_nats_end(&b.server);
}

int main(int argc, char **argv)
{
    bool json = false;
    double scale = 1;
    b.runs = 3;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            b.runs = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--scale") == 0 && i + 1 < argc)
            scale = strtod(argv[++i], NULL);
        else
            die(argv[i], "not understood; there are --json, --runs, --scale");
    }
    if (b.runs == 0 || b.runs > RUNS_MAX || !(scale > 0) || scale > 1)
        die("options", "--runs is 1 to 99, --scale above 0 and at most 1");
    b.n_msgs = 1 + (uint64_t)(4000 * scale);
    b.n_light = 100 + (uint64_t)(1900 * scale);
    b.n_held = 1000 + (uint64_t)(1000000 * scale);
    jr_bench_init(&b.bench, json);
    up();
    blocks();
    latency();
    down();
    memory();
    jr_bench_answers(&b.bench, "answers", b.checked, b.wrong);
    return jr_bench_end(&b.bench);
}
