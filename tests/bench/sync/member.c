/* SPDX-License-Identifier: Apache-2.0 */
#include "member.h"
#include "app/driver/driver.h"
#include "base/mem.h"
#include "base/str.h"
#include "core/pool_internal.h"
#include "io/js_stream.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#define TURN_MS   1
#define LOOK_PAST 16 /* bookings that may have ended before we looked */

struct member {
    struct fleet *fleet;
    struct member_seen *seen;
    uint32_t index;
    struct jr_loop *loop;
    struct jr_http_client *client;
    struct jr_nats *nats;
    struct jr_driver *driver;
    struct jr_timer *timer;
    uv_prepare_t prepare;
    struct jr_rng rng;
    double next_ns;                       /* arrival; 0: none yet */
    uint32_t issued, first, output, done; /* requests up to this number have come so far */
    uint32_t looked[MEMBERS_MAX];
    uint64_t prefix[BLOCKS];
    bool closed;
};

static struct jr_pool *pool_of(struct member *m)
{
    return jr_driver_pool(m->driver);
}

/* ---- requests ---- */

static void on_decided(void *ctx, const struct jr_decision *decision, int err, const char *why)
{
    (void)ctx;
    (void)err;
    if (!decision)
        sync_bench_die("a request was refused", why);
}

static void admit(struct member *m)
{
    if (m->issued + 1 >= IDS_MAX)
        sync_bench_die("load", "too many requests for the room there is");
    for (uint32_t i = 0; i < BLOCKS; i++)
        m->prefix[i] = jr_rng_u64(&m->rng);
    struct jr_route route = {.id = jr_driver_request_id(m->driver),
                             .tokens = BLOCKS * 64 + 9,
                             .prefix = m->prefix,
                             .n_prefix = BLOCKS};
    m->issued++;
    m->fleet->booked_ns[m->index][m->issued] = jr_loop_now_ns();
    if (jr_driver_route(m->driver, &route, on_decided, m) < 0)
        sync_bench_die("route", "failed");
    atomic_store(&m->seen->issued, m->issued);
}

/* Requests whose time has come, by number. */
static bool is_due(const struct member *m, uint32_t id, uint64_t after_ms, uint64_t now_ns)
{
    return id <= m->issued && m->fleet->booked_ns[m->index][id] + after_ms * 1000000 <= now_ns;
}

static void live_on(struct member *m, uint64_t now_ns)
{
    while (is_due(m, m->first + 1, FIRST_MS, now_ns))
        jr_driver_first_token(m->driver, ++m->first);
    while (is_due(m, m->output + 1, OUTPUT_MS, now_ns))
        jr_driver_output(m->driver, ++m->output, 64);
    while (is_due(m, m->done + 1, DONE_MS, now_ns))
        jr_driver_finish(m->driver, ++m->done);
}

static void arrive(struct member *m, uint64_t now_ns)
{
    if (!(m->next_ns > 0))
        m->next_ns = (double)now_ns;
    while (m->next_ns <= (double)now_ns) {
        admit(m);
        m->next_ns += -log(1 - jr_rng_unit(&m->rng)) / atomic_load(&m->fleet->rate) * 1e9;
    }
}

/* ---- what is seen ---- */

static void look_at(struct member *m, uint32_t other, uint64_t now_ns)
{
    char id[16];
    (void)snprintf(id, sizeof id, "r%u", other);
    const struct jr_peer *p = jr_replicas_find(&pool_of(m)->replicas, id);
    uint32_t issued = atomic_load(&m->fleet->member[other].issued), *at = &m->looked[other];
    if (!p)
        return;
    while (*at < issued) {
        uint32_t past = 1; /* one that ended while this process slept was visible by now */
        while (past <= LOOK_PAST && !jr_bookings_find(&p->bookings, *at + past))
            past++;
        if (past > LOOK_PAST)
            return;
        for (; past > 0; past--)
            m->fleet->visible_ns[m->index][other][++*at] = now_ns;
    }
}

static uint64_t sum_of_loads(struct member *m)
{
    struct jr_worker_view w;
    uint64_t sum = 0;
    for (uint32_t pos = 0; jr_pool_next_worker(pool_of(m), &pos, &w);)
        sum += jr_mix64(w.worker_id ^ jr_mix64(w.active_blocks) ^
                        jr_mix64(w.active_prefill_tokens << 20 | w.active_requests));
    return sum;
}

/* Once a turn of the loop, before it waits. */
static void on_prepare(uv_prepare_t *handle)
{
    struct member *m = handle->data;
    uint64_t now_ns = jr_loop_now_ns();
    for (uint32_t i = 0; m->fleet->sync && i < m->fleet->n; i++)
        if (i != m->index)
            look_at(m, i, now_ns);
}

static void report(struct member *m)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    atomic_store(&m->seen->cpu_us, (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
                                       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
    atomic_store(&m->seen->live, m->issued - m->done);
}

/* Not while the load runs: it is no part of what a booking costs. */
static void report_loads(struct member *m)
{
    const struct jr_pool *p = pool_of(m);
    atomic_store(&m->seen->all, jr_active_requests(p->active));
    atomic_store(&m->seen->loads, sum_of_loads(m));
    uint32_t listed = 0;
    for (uint32_t i = 0; i < p->replicas.n; i++)
        listed += p->replicas.v[i]->listed || !m->fleet->sync;
    atomic_store(&m->seen->ready, jr_driver_ready(m->driver) && p->workers.n == WORKERS &&
                                      listed == m->fleet->n - 1);
}

static void on_timer(void *ctx)
{
    struct member *m = ctx;
    uint64_t now_ns = jr_loop_now_ns();
    switch (atomic_load(&m->fleet->phase)) {
    case RUN:
        live_on(m, now_ns);
        arrive(m, now_ns);
        break;
    case DRAIN:
        m->next_ns = 0;
        live_on(m, UINT64_MAX);
        report_loads(m);
        break;
    default:
        m->next_ns = 0;
        report_loads(m);
    }
    report(m);
}

/* ---- life ---- */

static void on_nats(void *ctx, enum jr_nats_event event, const char *text)
{
    struct member *m = ctx;
    (void)text;
    if (m->driver && (event == JR_NATS_CONNECTED || event == JR_NATS_DISCONNECTED))
        jr_driver_nats(m->driver, event == JR_NATS_CONNECTED);
}

static void on_fatal(void *ctx, int err, const char *words)
{
    (void)ctx;
    (void)err;
    sync_bench_die("replica", words);
}

static void pool_config(const struct member *m, struct jr_pool_config *c)
{
    *c = (struct jr_pool_config){.durable = true,
                                 .replica_sync = m->fleet->sync,
                                 .assume_kv_reuse = true,
                                 .track_active_blocks = true,
                                 .track_output_blocks = true,
                                 .mode = JR_MODE_KV,
                                 .snapshot_threshold = UINT64_C(1) << 40,
                                 .snapshot_max_age_ms = 3600000,
                                 .lease_ttl_ms = 5000,
                                 .stale_worker_ms = 60000,
                                 .active_expiry_ms = 120000,
                                 .ready_timeout_ms = 30000,
                                 .base_interval_ms = 10000,
                                 .sync_flush_ms = 2,
                                 .incarnation = jr_loop_now_ns() | 1,
                                 .seed = m->index,
                                 .block_size = 64};
    jr_cost_config_init(&c->cost, JR_COST_SECONDS);
    (void)jr_str_copy(c->namespace_, sizeof c->namespace_, "bench");
    (void)jr_str_copy(c->component, sizeof c->component, m->fleet->component);
    (void)snprintf(c->replica_id, sizeof c->replica_id, "r%u", m->index);
    (void)jr_str_copy(c->address, sizeof c->address, "http://127.0.0.1:1");
}

static void start(struct member *m)
{
    struct jr_http_client_config client = {
        .connect_timeout_ms = 3000, .idle_timeout_ms = 60000, .idle_per_host_max = 16};
    struct jr_driver_config config = {.nats_replicas = 1,
                                      .event_threads = 1,
                                      .stream_max_bytes = UINT64_C(1) << 30,
                                      .on_fatal = on_fatal};
    struct jr_nats_config nats = {.servers = m->fleet->url, .on_event = on_nats, .ctx = m};
    struct jr_errmsg e = {""};
    if (jr_loop_create(&m->loop) < 0 || jr_http_client_create(m->loop, &client, &m->client) < 0)
        sync_bench_die("replica", "no loop");
    nats.loop = config.loop = m->loop;
    if (jr_nats_connect(&nats, &m->nats, &e) < 0)
        sync_bench_die("connect", e.text);
    config.client = m->client;
    config.nats = m->nats;
    config.ctx = m;
    pool_config(m, &config.pool);
    if (jr_driver_create(&config, &m->driver, &e) < 0)
        sync_bench_die("driver", e.text);
    jr_driver_nats(m->driver, true);
    m->timer = jr_timer_create(m->loop, on_timer, m);
    jr_timer_start(m->timer, TURN_MS, TURN_MS);
    uv_prepare_init(jr_loop_uv(m->loop), &m->prepare);
    m->prepare.data = m;
    uv_prepare_start(&m->prepare, on_prepare);
}

static void on_closed(void *ctx)
{
    *(bool *)ctx = true;
}

void member_main(struct fleet *fleet, uint32_t index)
{
    struct member *m = jr_xalloc(sizeof *m);
    *m = (struct member){.fleet = fleet, .seen = &fleet->member[index], .index = index};
    jr_rng_init(&m->rng, 1 + index, 5);
    start(m);
    while (atomic_load(&fleet->phase) != STOP)
        uv_run(jr_loop_uv(m->loop), UV_RUN_ONCE);
    jr_timer_destroy(m->timer);
    uv_prepare_stop(&m->prepare);
    jr_driver_close(m->driver, on_closed, &m->closed);
    while (!m->closed)
        uv_run(jr_loop_uv(m->loop), UV_RUN_ONCE);
    m->closed = false;
    jr_http_client_close(m->client, on_closed, &m->closed);
    while (!m->closed)
        uv_run(jr_loop_uv(m->loop), UV_RUN_ONCE);
    jr_nats_close(m->nats);
    jr_loop_destroy(m->loop);
    jr_xfree(m);
}
