/* SPDX-License-Identifier: Apache-2.0 */
#include "replica.h"
#include "base/mem.h"
#include "base/str.h"
#include "log.h"
#include <string.h>
#include <time.h>

static uint64_t thread_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void on_nats(void *ctx, enum jr_nats_event event, const char *text)
{
    struct replica *r = ctx;

    (void)text;
    if (r->driver && (event == JR_NATS_CONNECTED || event == JR_NATS_DISCONNECTED))
        jr_driver_nats(r->driver, event == JR_NATS_CONNECTED);
}

static void on_fatal(void *ctx, int err, const char *words)
{
    (void)ctx;
    (void)err;
    log_bench_die("replica", words);
}

static void note_visible(struct replica *r)
{
    struct jr_pool_view v;

    replica_view(r, &v);
    while (r->seen_seq < v.applied_seq) {
        r->seen_seq++;
        if (r->seen_seq < r->visible_n)
            r->visible_ns[r->seen_seq] = jr_unix_ns();
    }
}

/* Once a turn of the loop, before it waits. */
static void on_prepare(uv_prepare_t *handle)
{
    struct replica *r = handle->data;
    uint64_t now = thread_ns();

    if (r->turn_began_ns && now - r->turn_began_ns > r->longest_turn_ns)
        r->longest_turn_ns = now - r->turn_began_ns;
    if (r->visible_ns)
        note_visible(r);
    r->turn_began_ns = thread_ns();
}

/* What every router is started with, as far as the log goes. */
static void pool_config(struct jr_pool_config *c, const char *component)
{
    *c = (struct jr_pool_config){
        .durable = true,
        .replica_sync = true,
        .mode = JR_MODE_KV,
        .snapshot_threshold = UINT64_C(1) << 40,
        .snapshot_max_age_ms = 3600000,
        .lease_ttl_ms = 5000,
        .stale_worker_ms = 3600000, /* the workers of this log have no lease */
        .active_expiry_ms = 120000,
        .ready_timeout_ms = 30000,
        .base_interval_ms = 10000,
        .sync_flush_ms = 2,
        .incarnation = jr_loop_now_ns() | 1,
        .block_size = 64,
    };
    jr_cost_config_init(&c->cost, JR_COST_SECONDS);
    (void)jr_str_copy(c->namespace_, sizeof c->namespace_, REPLICA_NAMESPACE);
    (void)jr_str_copy(c->component, sizeof c->component, component);
    (void)jr_str_copy(c->replica_id, sizeof c->replica_id, "bench");
    (void)jr_str_copy(c->address, sizeof c->address, "http://127.0.0.1:1");
}

static bool is_ready(struct replica *r, void *ctx)
{
    (void)ctx;
    return jr_driver_ready(r->driver);
}

void replica_start(struct replica *r, const char *url, const char *component)
{
    struct jr_http_client_config client = {
        .connect_timeout_ms = 3000, .idle_timeout_ms = 60000, .idle_per_host_max = 16};
    struct jr_driver_config config = {.nats_replicas = 1,
                                      .event_threads = 4,
                                      .stream_max_bytes = UINT64_C(8) << 30,
                                      .on_fatal = on_fatal};
    struct jr_nats_config nats = {.servers = url, .on_event = on_nats};
    struct jr_errmsg e = {""};
    struct jr_pool_view v;

    *r = (struct replica){0};
    uint64_t began = jr_bench_wall_ns();
    if (jr_loop_create(&r->loop) < 0 || jr_http_client_create(r->loop, &client, &r->client) < 0)
        log_bench_die("replica", "no loop");
    uv_prepare_init(jr_loop_uv(r->loop), &r->prepare);
    r->prepare.data = r;
    uv_prepare_start(&r->prepare, on_prepare);
    nats.loop = r->loop;
    nats.ctx = r;
    if (jr_nats_connect(&nats, &r->nats, &e) < 0)
        log_bench_die("connect", e.text);
    config.loop = r->loop;
    config.client = r->client;
    config.nats = r->nats;
    config.ctx = r;
    pool_config(&config.pool, component);
    if (jr_driver_create(&config, &r->driver, &e) < 0)
        log_bench_die("driver", e.text);
    jr_driver_nats(r->driver, true);
    replica_until(r, is_ready, NULL, "ready");
    r->ready_s = (double)(jr_bench_wall_ns() - began) / 1e9;
    replica_view(r, &v);
    r->ready_seq = v.applied_seq;
}

void replica_view(struct replica *r, struct jr_pool_view *ret)
{
    jr_pool_view(jr_driver_pool(r->driver), ret);
}

void replica_until(struct replica *r, bool (*done)(struct replica *r, void *ctx), void *ctx,
                   const char *what)
{
    uint64_t until = jr_bench_wall_ns() + REPLICA_TIMEOUT_S * UINT64_C(1000000000);

    while (!done(r, ctx)) {
        uv_run(jr_loop_uv(r->loop), UV_RUN_ONCE);
        if (jr_bench_wall_ns() > until)
            log_bench_die(what, "did not come in time");
    }
}

static bool is_applied(struct replica *r, void *ctx)
{
    struct jr_pool_view v;

    replica_view(r, &v);
    return v.applied_seq >= *(uint64_t *)ctx;
}

void replica_applied(struct replica *r, uint64_t seq)
{
    replica_until(r, is_applied, &seq, "applied");
}

static bool is_recorded(struct replica *r, void *ctx)
{
    struct jr_pool_view v;

    replica_view(r, &v);
    return v.snapshots.newest.seq > *(uint64_t *)ctx && !v.snapshot_running;
}

static bool leads(struct replica *r, void *ctx)
{
    struct jr_pool_view v;

    (void)ctx;
    replica_view(r, &v);
    return v.leader;
}

void replica_snapshot(struct replica *r)
{
    struct jr_pool_view v;

    replica_until(r, leads, NULL, "leadership");
    replica_view(r, &v);
    jr_driver_admin_snapshot(r->driver);
    replica_until(r, is_recorded, &v.snapshots.newest.seq, "snapshot");
}

static void mark_done(void *ctx)
{
    *(bool *)ctx = true;
}

static bool is_done(struct replica *r, void *ctx)
{
    (void)r;
    return *(bool *)ctx;
}

void replica_stop(struct replica *r)
{
    bool closed = false, client_closed = false;

    uv_prepare_stop(&r->prepare);
    jr_driver_close(r->driver, mark_done, &closed);
    replica_until(r, is_done, &closed, "close");
    jr_http_client_close(r->client, mark_done, &client_closed);
    replica_until(r, is_done, &client_closed, "close");
    jr_nats_close(r->nats);
    jr_loop_destroy(r->loop);
    *r = (struct replica){0};
}
