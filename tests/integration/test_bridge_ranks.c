/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge and an engine of which the test says each word: its HTTP answers, and its ranks' events.
 * Several ranks, the block size and where it comes from, several engines in one hub. */
#include "app/bridge/bridge_internal.h"
#include "io/http_server.h"
#include "io/zmq_pub.h"
#include "zmq_fixture.h"
#include "wire/engine_kv.h"
#include "wire/lease_json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK   16
#define WORKER  4242
#define WAIT_MS 60000
#define RANKS   3

/* What the engine answers; NULL is 404. */
struct says {
    const char *metrics, *server_info, *sources;
    bool healthy;
    bool old_server_info; /* where SGLang had it once */
};

struct engine {
    struct says says;
    struct jr_http_server *http;
    struct jr_zmq_pub *pubs[RANKS];
    uint32_t n;
    char url[64];
};

static struct {
    struct jr_test_nats server;
    struct jr_loop *loop;
    struct jr_nats *nats;
    struct jr_http_client *client;
    struct jr_metrics *metrics;
    struct jr_bridge_hub *hub;
    struct jr_js_kv *leases, *state;
    struct engine engine;
    struct jr_bridge *asking; /* never refused while it asks; NULL: nobody is looked at */
} t;

static const char vllm_says[] =
    "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100\"} 1.0\n";

/* ---------------------------------------------------------------- the engine */

static void on_request(void *ctx, struct jr_http_request *req)
{
    static const char models[] = "{\"data\":[{\"id\":\"tiny\"}]}";
    const struct engine *g = ctx;
    struct jr_str path = jr_http_request_path(req);
    const char *body = NULL;
    assert_false(t.asking && jr_bridge_refused(t.asking));
    if (jr_str_eq(path, "/health"))
        body = g->says.healthy ? "" : NULL;
    else if (jr_str_eq(path, "/v1/models"))
        body = models;
    else if (jr_str_eq(path, "/metrics"))
        body = g->says.metrics;
    else if (jr_str_eq(path, g->says.old_server_info ? "/get_server_info" : "/server_info"))
        body = g->says.server_info;
    else if (jr_str_eq(path, "/kv_event_sources"))
        body = g->says.sources;
    jr_http_respond(req, body ? 200 : 404, "text/plain", NULL, body ? body : "",
                    body ? strlen(body) : 0);
}

static void listen_http(struct engine *g)
{
    struct jr_errmsg e = {0};
    struct jr_http_server_config config = {.host = "127.0.0.1",
                                           .body_max = 1 << 20,
                                           .conns_max = 16,
                                           .header_timeout_ms = 10000,
                                           .idle_timeout_ms = 60000,
                                           .on_request = on_request,
                                           .ctx = g};
    if (jr_http_server_listen(t.loop, &config, &e, &g->http) < 0)
        fail_msg("no engine: %s", e.text);
    snprintf(g->url, sizeof g->url, "http://127.0.0.1:%u", jr_http_server_port(g->http));
}

static void close_pubs(struct engine *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        jr_zmq_pub_destroy(g->pubs[i]);
    g->n = 0;
}

/* Rank i at the ports of rank 0, i further. */
static void open_pubs(struct engine *g, uint32_t n)
{
    struct jr_errmsg e = {0};
    char kv[64], replay[64];
    unsigned kv_port = jr_test_free_ports(n), replay_port = jr_test_free_ports(n);
    for (; g->n < n; g->n++) {
        snprintf(kv, sizeof kv, "tcp://127.0.0.1:%u", kv_port + g->n);
        snprintf(replay, sizeof replay, "tcp://127.0.0.1:%u", replay_port + g->n);
        struct jr_zmq_pub_config config = {.endpoint = kv, .replay_endpoint = replay};
        if (jr_zmq_pub_create(&config, &g->pubs[g->n], &e) < 0)
            fail_msg("no rank %u: %s", g->n, e.text);
    }
}

static void start_engine(struct engine *g, struct says says, uint32_t ranks)
{
    memset(g, 0, sizeof *g);
    g->says = says;
    listen_http(g);
    open_pubs(g, ranks);
}

static void stop_engine(struct engine *g)
{
    bool done = false;
    close_pubs(g);
    jr_http_server_close(g->http, mark_done, &done);
    PUMP_WAIT(t.loop, done, WAIT_MS);
}

/* n blocks of `size` tokens at the root, hashes from `first` on. */
static void store(struct engine *g, uint32_t rank, uint32_t dp_rank, uint64_t first, uint32_t n,
                  uint32_t size)
{
    uint64_t hashes[64];
    uint32_t tokens[64 * 64];
    struct jr_buf b;
    assert_true(n <= 64 && size <= 64);
    for (uint32_t i = 0; i < n; i++)
        hashes[i] = first + i;
    for (uint32_t i = 0; i < n * size; i++)
        tokens[i] = (uint32_t)first + i;
    struct jr_engine_event ev = {.type = JR_ENGINE_STORED,
                                 .medium = JR_MEDIUM_GPU,
                                 .hashes = hashes,
                                 .n_hashes = n,
                                 .tokens = tokens,
                                 .n_tokens = n * size,
                                 .block_size = size};
    struct jr_engine_batch batch = {
        .ts = 1, .has_rank = true, .dp_rank = dp_rank, .events = &ev, .n_events = 1};
    jr_buf_init(&b, 1 << 20);
    jr_engine_batch_encode(&b, &batch, JR_ENGINE_VLLM_MAP);
    assert_int_equal(b.err, 0);
    (void)jr_zmq_pub_send(g->pubs[rank], b.p, b.n);
    jr_buf_deinit(&b);
}

static void remove_one(struct engine *g, uint32_t rank, uint64_t hash)
{
    struct jr_buf b;
    struct jr_engine_event ev = {
        .type = JR_ENGINE_REMOVED, .medium = JR_MEDIUM_GPU, .hashes = &hash, .n_hashes = 1};
    struct jr_engine_batch batch = {
        .ts = 1, .has_rank = true, .dp_rank = rank, .events = &ev, .n_events = 1};
    jr_buf_init(&b, 1 << 16);
    jr_engine_batch_encode(&b, &batch, JR_ENGINE_VLLM_MAP);
    (void)jr_zmq_pub_send(g->pubs[rank], b.p, b.n);
    jr_buf_deinit(&b);
}

/* ---------------------------------------------------------------- the rig */

static struct jr_bridge *start_bridge(const struct engine *g, struct jr_bridge_config config)
{
    struct jr_errmsg e = {0};
    struct jr_bridge *b;
    config.engine_url = g->url;
    if (!config.kv_endpoint) {
        config.kv_endpoint = jr_zmq_pub_endpoint(g->pubs[0]);
        config.replay_endpoint = jr_zmq_pub_replay_endpoint(g->pubs[0]);
    }
    if (jr_bridge_create(t.hub, &config, &b, &e) < 0)
        fail_msg("no bridge: %s", e.text);
    return b;
}

static void up(void)
{
    struct jr_errmsg e = {0};
    struct jr_http_client_config http = {
        .connect_timeout_ms = 1000, .idle_timeout_ms = 1000, .idle_per_host_max = 2};
    memset(&t, 0, sizeof t);
    jr_test_nats_start(&t.server, NULL);
    assert_int_equal(jr_loop_create(&t.loop), 0);
    struct jr_nats_config nats = {.servers = t.server.url, .loop = t.loop};
    assert_int_equal(jr_nats_connect(&nats, &t.nats, &e), 0);
    assert_int_equal(jr_http_client_create(t.loop, &http, &t.client), 0);
    t.metrics = jr_metrics_create();
    struct jr_bridge_hub_config config = {.loop = t.loop,
                                          .nats = t.nats,
                                          .client = t.client,
                                          .metrics = t.metrics,
                                          .namespace_ = "ns",
                                          .component = "backend",
                                          .lease_ttl_ms = 3000,
                                          .stream_max_bytes = 64 << 20,
                                          .nats_replicas = 1};
    if (jr_bridge_hub_create(&config, &t.hub, &e) < 0)
        fail_msg("no hub: %s", e.text);
    PUMP_WAIT(t.loop, jr_bridge_hub_ready(t.hub), WAIT_MS);
    struct jr_js_kv_config leases = {.bucket = t.hub->leases_bucket, .ttl_ms = 3000};
    struct jr_js_kv_config state = {.bucket = t.hub->state_bucket};
    assert_int_equal(jr_js_kv_open(t.nats, &leases, &t.leases, NULL, &e), 0);
    assert_int_equal(jr_js_kv_open(t.nats, &state, &t.state, NULL, &e), 0);
}

static void down(void)
{
    bool done = false;
    jr_bridge_hub_close(t.hub, mark_done, &done);
    PUMP_WAIT(t.loop, done, WAIT_MS);
    stop_engine(&t.engine);
    done = false;
    jr_http_client_close(t.client, mark_done, &done);
    PUMP_WAIT(t.loop, done, WAIT_MS);
    jr_js_kv_destroy(t.leases);
    jr_js_kv_destroy(t.state);
    jr_nats_close(t.nats);
    jr_metrics_destroy(t.metrics);
    jr_loop_destroy(t.loop);
    jr_test_nats_end(&t.server);
}

static int get_lease(uint64_t worker, struct jr_worker_lease *ret)
{
    struct jr_js_kv_entry entry = {0};
    struct jr_errmsg e = {0};
    char key[40];
    snprintf(key, sizeof key, "worker.%llu", (unsigned long long)worker);
    int err = jr_js_kv_get(t.leases, key, &entry, &e);
    if (err == 0)
        err = jr_lease_decode_worker(entry.value, entry.n, ret, &e);
    jr_js_kv_entry_deinit(&entry);
    return err;
}

/* The lease names each rank as it is now. */
static bool leased(const struct jr_bridge *b, uint32_t ranks)
{
    if (b->lease_revision == 0 || b->n_ranks != ranks)
        return false;
    for (uint32_t i = 0; i < ranks; i++)
        if (b->sources[i]->leased_incarnation != b->sources[i]->rank.incarnation ||
            !jr_bridge_rank_idle(&b->sources[i]->rank))
            return false;
    return true;
}

static uint32_t held(const struct jr_bridge *b, uint32_t i)
{
    return b->sources[i]->rank.mirror.n;
}

static double begins(uint64_t worker, const char *rank, const char *reason)
{
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)worker);
    jr_bridge_hub_measure(t.hub);
    return jr_metric_get(t.metrics, JR_METRIC_BRIDGE_BEGINS_TOTAL, JR_LABELS(id, rank, reason));
}

/* ---------------------------------------------------------------- ranks */

static void several_ranks(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    struct jr_errmsg e = {0};
    struct says says = {.healthy = true,
                        .metrics = vllm_says,
                        .sources = "{\"0\":{\"topic\":\"\"},\"1\":{},\"2\":{}}"};
    up();
    start_engine(&t.engine, says, 3);
    for (uint32_t i = 0; i < 3; i++)
        store(&t.engine, i, i, 1000, 4 + i, BLOCK); /* the same hashes: ranks are apart */
    struct jr_bridge *b = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
    PUMP_WAIT(t.loop, leased(b, 3) && held(b, 0) == 4 && held(b, 1) == 5 && held(b, 2) == 6,
              WAIT_MS);
    assert_int_equal(get_lease(WORKER, &lease), 0);
    assert_int_equal(lease.n_ranks, 3);
    uint64_t was[3];
    for (uint32_t i = 0; i < 3; i++) {
        was[i] = b->sources[i]->rank.incarnation;
        assert_int_equal(lease.ranks[i].dp_rank, i);
        assert_int_equal(lease.ranks[i].incarnation, was[i]);
    }
    /* One rank that removes a block takes it from nobody else. */
    remove_one(&t.engine, 1, 1004);
    PUMP_WAIT(t.loop, held(b, 1) == 4 && leased(b, 3), WAIT_MS);
    assert_int_equal(held(b, 0), 4);
    assert_int_equal(held(b, 2), 6);
    /* A replica that asks for one rank gets that one. */
    PUMP_WAIT(t.loop,
              jr_bridge_now_ms() - b->sources[2]->leased_at_ms > JR_BRIDGE_REANNOUNCE_GRACE_MS,
              WAIT_MS);
    assert_int_equal(jr_js_kv_put(t.state, "reannounce.4242.2", "1", 1, NULL, &e), 0);
    PUMP_WAIT(t.loop, b->sources[2]->rank.incarnation != was[2] && leased(b, 3), WAIT_MS);
    assert_int_equal(b->sources[0]->rank.incarnation, was[0]);
    assert_int_equal(b->sources[1]->rank.incarnation, was[1]);
    assert_true(begins(WORKER, "2", "reannounce") == 1);
    assert_true(begins(WORKER, "0", "start") == 1);
    down();
}

/* The second of two engine processes that are ranks of one model: its own number, its own port. */
static void a_rank_of_its_own(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    up();
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 2);
    store(&t.engine, 0, 5, 1, 3, BLOCK);
    store(&t.engine, 1, 6, 1, 2, BLOCK);
    store(&t.engine, 1, 5, 100, 2, BLOCK); /* not what that port is for */
    struct jr_bridge *b = start_bridge(
        &t.engine, (struct jr_bridge_config){.worker_id = WORKER, .dp_rank = 5, .dp_size = 2});
    PUMP_WAIT(t.loop, leased(b, 2) && held(b, 0) == 3 && held(b, 1) == 2, WAIT_MS);
    PUMP_WAIT(t.loop, b->sources[1]->feed.counters.other_rank == 1, WAIT_MS);
    assert_int_equal(get_lease(WORKER, &lease), 0);
    assert_int_equal(lease.n_ranks, 2);
    assert_int_equal(lease.ranks[0].dp_rank, 5);
    assert_int_equal(lease.ranks[1].dp_rank, 6);
    down();
}

/* More than a lease lists, or than ports there are: no worker. */
static void too_many_ranks(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    struct jr_bridge *b;
    struct says says = {.healthy = true,
                        .server_info = "{\"page_size\":16,\"kv_events\":{\"dp_size\":17}}"};
    up();
    start_engine(&t.engine, says, 1);
    b = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
    PUMP_WAIT(t.loop, b->warned_ranks, WAIT_MS);
    assert_false(b->discovered);
    struct jr_bridge_config config = {
        .engine_url = t.engine.url, .kv_endpoint = "ipc:///tmp/none", .dp_size = 2};
    assert_int_equal(jr_bridge_create(t.hub, &config, &b, &e), JR_EINVAL);
    config.kv_endpoint = "tcp://127.0.0.1:65535";
    assert_int_equal(jr_bridge_create(t.hub, &config, &b, &e), JR_EINVAL);
    config.dp_size = 17;
    assert_int_equal(jr_bridge_create(t.hub, &config, &b, &e), JR_EINVAL);
    config.kv_endpoint = "tcp://127.0.0.1:5557";
    config.dp_size = 16;
    config.dp_rank = 241; /* of 256 ranks there are */
    assert_int_equal(jr_bridge_create(t.hub, &config, &b, &e), JR_EINVAL);
    down();
}

/* The engine says how many, and the last of them would have a number that no event may have. */
static void ranks_past_the_last(void **state)
{
    (void)state;
    struct jr_bridge *b;
    struct says says = {.healthy = true,
                        .server_info = "{\"page_size\":16,\"kv_events\":{\"dp_size\":2}}"};
    up();
    start_engine(&t.engine, says, 2);
    b = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER, .dp_rank = 255});
    PUMP_WAIT(t.loop, b->warned_ranks, WAIT_MS);
    assert_false(b->discovered);
    down();
}

/* ---------------------------------------------------------------- the block size */

static void put_lease(const char *key, const struct jr_buf *value)
{
    struct jr_errmsg e = {0};
    assert_int_equal(jr_js_kv_put(t.leases, key, value->p, value->n, NULL, &e), 0);
}

/* A leader, as replicas have one. */
static void put_replica(uint32_t block_size)
{
    struct jr_replica_lease l = {.id = "r", .incarnation = 1, .block_size = block_size};
    struct jr_leader_record leader = {.id = "r", .incarnation = 1};
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_lease_encode_replica(&l, &b), 0);
    put_lease("replica.r", &b);
    jr_buf_clear(&b);
    assert_int_equal(jr_lease_encode_leader(&leader, &b), 0);
    put_lease("leader", &b);
    jr_buf_deinit(&b);
}

/* Renewed, as replicas do; true, for conditions. */
static bool keep_replica(uint32_t block_size)
{
    static uint64_t put_at_ms;
    static uint32_t put;
    uint64_t now = jr_test_now_ms();
    if (put != block_size || now - put_at_ms > 500) {
        put_replica(block_size);
        put = block_size;
        put_at_ms = now;
    }
    return true;
}

static bool refused(const struct jr_bridge *b, uint32_t pool)
{
    struct jr_bridge_status s;
    jr_bridge_status(b, &s);
    return jr_bridge_refused(b) && b->told_sizes[0] == BLOCK && b->told_sizes[1] == pool &&
           !s.registered && strstr(s.because, "block size") && !b->releasing;
}

static void another_block_size(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    up();
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 1);
    keep_replica(64);
    struct jr_bridge *b = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
    PUMP_WAIT(t.loop, keep_replica(64) && refused(b, 64), WAIT_MS);
    jr_bridge_hub_measure(t.hub);
    assert_true(jr_metric_get(t.metrics, JR_METRIC_BRIDGE_BLOCK_SIZE_REFUSED, JR_LABELS("4242")) ==
                1);
    assert_int_equal(get_lease(WORKER, &lease), JR_ENOTFOUND);
    assert_false(b->lease_claimed);
    /* Its blocks, which nobody would find, are not in the log either. */
    const struct jr_bridge_rank *rank = &b->sources[0]->rank;
    PUMP_WAIT(t.loop, keep_replica(64) && rank->out.n == 0, WAIT_MS);
    uint64_t batches = rank->counters.batches, polls = t.hub->polls;
    store(&t.engine, 0, 0, 1, 3, BLOCK);
    PUMP_WAIT(t.loop, keep_replica(64) && held(b, 0) == 3 && t.hub->polls > polls + 2, WAIT_MS);
    assert_int_equal(rank->counters.batches, batches);
    /* The pool is another one now. */
    PUMP_WAIT(t.loop, keep_replica(BLOCK) && leased(b, 1), WAIT_MS);
    /* And again: a worker that is of no use any more leaves. */
    PUMP_WAIT(t.loop,
              keep_replica(32) && refused(b, 32) && get_lease(WORKER, &lease) == JR_ENOTFOUND,
              WAIT_MS);
    down();
}

/* Another worker, of another bridge; renewed, as that does. */
static bool keep_worker(uint32_t block_size)
{
    static uint64_t put_at_ms;
    struct jr_worker_lease l = {.worker_id = 7,
                                .url = "http://127.0.0.1:9",
                                .model = "tiny",
                                .block_size = block_size,
                                .n_ranks = 1,
                                .ranks = {{.incarnation = 1}}};
    struct jr_buf b;
    if (jr_test_now_ms() - put_at_ms < 500)
        return true;
    put_at_ms = jr_test_now_ms();
    jr_buf_init(&b, 4096);
    assert_int_equal(jr_lease_encode_worker(&l, &b), 0);
    put_lease("worker.7", &b);
    jr_buf_deinit(&b);
    return true;
}

/* A pool that has no replica yet: who comes keeps to the workers that are there, and who is there stays. */
static void block_size_of_the_others(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    up();
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 1);
    keep_worker(64);
    struct jr_bridge *b = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
    PUMP_WAIT(t.loop, keep_worker(64) && refused(b, 64), WAIT_MS);
    assert_int_equal(get_lease(WORKER, &lease), JR_ENOTFOUND);
    /* It goes. */
    PUMP_WAIT(t.loop, leased(b, 1), WAIT_MS);
    uint32_t polls = t.hub->polls;
    PUMP_WAIT(t.loop,
              keep_worker(64) && b->peer_block_size == 64 &&
                  t.hub->polls > polls + 2 * JR_BRIDGE_INFO_EVERY,
              WAIT_MS);
    assert_false(jr_bridge_refused(b));
    assert_int_equal(get_lease(WORKER, &lease), 0);
    /* A replica's word counts for both. */
    PUMP_WAIT(t.loop, keep_worker(64) && keep_replica(64) && refused(b, 64), WAIT_MS);
    down();
}

/* SGLang says it in one place, whose name was another one in older versions. */
static void what_sglang_says(void **state)
{
    (void)state;
    static const char info[] = "{\"page_size\":16,\"max_total_num_tokens\":1600,"
                               "\"kv_events\":{\"dp_size\":2,\"block_size\":16}}";
    struct jr_worker_lease lease;
    for (unsigned old = 0; old < 2; old++) {
        struct says says = {.healthy = true, .server_info = info, .old_server_info = old};
        up();
        start_engine(&t.engine, says, 2);
        struct jr_bridge *b =
            start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
        PUMP_WAIT(t.loop, leased(b, 2), WAIT_MS);
        assert_int_equal(get_lease(WORKER, &lease), 0);
        assert_int_equal(lease.block_size, BLOCK);
        assert_int_equal(lease.total_kv_blocks, 100);
        assert_int_equal(lease.n_ranks, 2);
        assert_string_equal(lease.tokenizer, "sglang");
        down();
    }
}

/* An engine that says nothing of it, and that stores a part of a block of a window first. */
static void block_size_by_first_store(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    up();
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = "# HELP nothing yet\n"}, 1);
    struct jr_bridge *b = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
    PUMP_WAIT(t.loop, b->warned_block_size && b->sources[0]->sub, WAIT_MS);
    assert_false(b->discovered);
    /* PUB and SUB may miss what is said before they met. */
    for (uint64_t first = 1; !b->discovered; first += 10) {
        store(&t.engine, 0, 0, first, 3, 32);
        uint64_t until = jr_test_now_ms() + 200;
        while (!b->discovered && jr_test_now_ms() < until)
            pump(t.loop);
    }
    uint32_t stored = 3 * (uint32_t)jr_zmq_pub_next_seq(t.engine.pubs[0]);
    PUMP_WAIT(t.loop, leased(b, 1) && held(b, 0) == stored, WAIT_MS);
    assert_int_equal(get_lease(WORKER, &lease), 0);
    assert_int_equal(lease.block_size, 32);
    /* After an outage it is asked again, and says as little: it is what it was, and no other worker. */
    PUMP_WAIT(t.loop, keep_replica(32) && b->pool_block_size == 32, WAIT_MS);
    t.asking = b;
    t.engine.says.healthy = false;
    PUMP_WAIT(t.loop, keep_replica(32) && !b->healthy, WAIT_MS);
    t.engine.says.healthy = true;
    PUMP_WAIT(t.loop, keep_replica(32) && b->healthy && leased(b, 1), WAIT_MS);
    assert_int_equal(b->about.block_size, 32);
    assert_int_equal(b->told_sizes[0], 0);
    down();
}

/* ---------------------------------------------------------------- sockets and copies */

/* The engine connects to where the bridge listens, which is not a wildcard. */
static void bound_address(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    char endpoint[64];
    up();
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 1);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", jr_test_free_port());
    close_pubs(&t.engine);
    struct jr_bridge *b = start_bridge(
        &t.engine,
        (struct jr_bridge_config){.worker_id = WORKER, .kv_endpoint = endpoint, .kv_bind = true});
    PUMP_WAIT(t.loop, leased(b, 1) && b->sources[0]->sub, WAIT_MS);
    struct jr_zmq_pub_config config = {.endpoint = endpoint, .connect = true};
    assert_int_equal(jr_zmq_pub_create(&config, &t.engine.pubs[0], &e), 0);
    t.engine.n = 1;
    for (uint64_t first = 1; held(b, 0) == 0; first += 10) {
        store(&t.engine, 0, 0, first, 3, BLOCK);
        uint64_t until = jr_test_now_ms() + 200;
        while (held(b, 0) == 0 && jr_test_now_ms() < until)
            pump(t.loop);
    }
    down();
}

/* Stores that repeat what is held: copies, or not. */
static void repeated_stores(void **state)
{
    (void)state;
    for (unsigned plain = 0; plain < 2; plain++) {
        up();
        start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 1);
        struct jr_bridge *b = start_bridge(
            &t.engine, (struct jr_bridge_config){.worker_id = WORKER, .plain_set = plain});
        store(&t.engine, 0, 0, 1, 3, BLOCK);
        store(&t.engine, 0, 0, 1, 3, BLOCK);
        remove_one(&t.engine, 0, 3);
        PUMP_WAIT(t.loop, b->sources[0]->feed.next == 3 && leased(b, 1), WAIT_MS);
        assert_int_equal(held(b, 0), plain ? 2 : 3);
        down();
    }
}

/* ---------------------------------------------------------------- questions */

/* A silent engine is asked whether that was all. What it says before it answers is not kept waiting, and
 * the answer, which does not know of it, then says nothing: least of all that the engine restarted. */
static void events_beside_a_question(void **state)
{
    (void)state;
    struct raw raw;
    up();
    raw_open(&raw);
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 1);
    struct jr_bridge *b = start_bridge(
        &t.engine, (struct jr_bridge_config){.worker_id = WORKER,
                                             .kv_endpoint = jr_zmq_pub_endpoint(t.engine.pubs[0]),
                                             .replay_endpoint = raw.at});
    struct jr_bridge_source *s = b->sources[0];
    PUMP_WAIT(t.loop, raw_asked(&raw), WAIT_MS);
    assert_true(s->replaying); /* the first of all: the history comes before what follows it */
    raw_answer(&raw, RAW_SEQ_END, "");
    PUMP_WAIT(t.loop, leased(b, 1), WAIT_MS);
    for (uint64_t first = 1; held(b, 0) == 0; first += 10) {
        store(&t.engine, 0, 0, first, 3, BLOCK);
        uint64_t until = jr_test_now_ms() + 200;
        while (held(b, 0) == 0 && jr_test_now_ms() < until)
            pump(t.loop);
    }
    uint64_t failed = s->replays_failed, filled;
    do { /* on a busy machine the answer may come too late */
        while (raw_asked(&raw))
            ;
        PUMP_WAIT(t.loop, raw_asked(&raw), WAIT_MS);
        failed = s->replays_failed;
        filled = s->replays_filled;
        uint32_t before = held(b, 0);
        store(&t.engine, 0, 0, 10000 + 10 * jr_zmq_pub_next_seq(t.engine.pubs[0]), 3, BLOCK);
        PUMP_WAIT(t.loop, held(b, 0) == before + 3, WAIT_MS);
        raw_answer(&raw, RAW_SEQ_END, "");
        PUMP_WAIT(t.loop, s->replays_filled + s->replays_failed > filled + failed, WAIT_MS);
    } while (s->replays_failed > failed);
    assert_int_equal(s->feed.counters.restarts, 0);
    assert_int_equal(s->feed.counters.jumps, 0);
    raw_close(&raw);
    down();
}

/* ---------------------------------------------------------------- several engines */

static void several_engines(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    struct engine other;
    bool done = false;
    up();
    start_engine(&t.engine, (struct says){.healthy = true, .metrics = vllm_says}, 1);
    start_engine(&other, (struct says){.healthy = true, .metrics = vllm_says}, 2);
    store(&t.engine, 0, 0, 1, 3, BLOCK);
    store(&other, 0, 0, 1, 5, BLOCK);
    store(&other, 1, 1, 1, 7, BLOCK);
    struct jr_bridge *a = start_bridge(&t.engine, (struct jr_bridge_config){.worker_id = WORKER});
    struct jr_bridge *b =
        start_bridge(&other, (struct jr_bridge_config){.worker_id = 5, .dp_size = 2});
    PUMP_WAIT(t.loop,
              leased(a, 1) && leased(b, 2) && held(a, 0) == 3 && held(b, 0) == 5 && held(b, 1) == 7,
              WAIT_MS);
    /* One that fails leaves by itself. */
    other.says.healthy = false;
    PUMP_WAIT(t.loop, get_lease(5, &lease) == JR_ENOTFOUND, WAIT_MS);
    assert_int_equal(get_lease(WORKER, &lease), 0);
    other.says.healthy = true;
    PUMP_WAIT(t.loop, leased(b, 2) && get_lease(5, &lease) == 0, WAIT_MS);
    uint64_t losses = a->lease_losses;
    jr_bridge_hub_measure(t.hub);
    assert_true(jr_metric_get(t.metrics, JR_METRIC_BRIDGE_MIRROR_BLOCKS, JR_LABELS("5", "1")) == 7);
    assert_true(jr_metric_get(t.metrics, JR_METRIC_BRIDGE_ACK_SECONDS, JR_LABELS("5", "1")) > 0);
    jr_bridge_close(b, mark_done, &done);
    PUMP_WAIT(t.loop, done, WAIT_MS);
    assert_int_equal(get_lease(5, &lease), JR_ENOTFOUND);
    assert_true(jr_metric_get(t.metrics, JR_METRIC_BRIDGE_MIRROR_BLOCKS, JR_LABELS("5", "1")) == 0);
    assert_ptr_equal(jr_bridge_hub_at(t.hub, 0), a);
    assert_null(jr_bridge_hub_at(t.hub, 1));
    store(&t.engine, 0, 0, 100, 1, BLOCK);
    PUMP_WAIT(t.loop, held(a, 0) == 4 && leased(a, 1), WAIT_MS);
    assert_int_equal(a->lease_losses, losses);
    stop_engine(&other);
    down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_ranks),
        cmocka_unit_test(a_rank_of_its_own),
        cmocka_unit_test(too_many_ranks),
        cmocka_unit_test(ranks_past_the_last),
        cmocka_unit_test(another_block_size),
        cmocka_unit_test(block_size_of_the_others),
        cmocka_unit_test(what_sglang_says),
        cmocka_unit_test(block_size_by_first_store),
        cmocka_unit_test(bound_address),
        cmocka_unit_test(repeated_stores),
        cmocka_unit_test(events_beside_a_question),
        cmocka_unit_test(several_engines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
