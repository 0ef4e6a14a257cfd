/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge between a mock engine and a real nats-server: a reader of the stream, applying what it
 * reads to a core state, ends up with what the bridge mirrors, through every kind of restart. */
#include "app/bridge/bridge_internal.h"
#include "app/mocker/mock_worker.h"
#include "core/state.h"
#include "io/js_reader.h"
#include "io_fixture.h"
#include "wire/event_codec.h"
#include "wire/lease_json.h"
#include "zmq_fixture.h"
#include <stdio.h>
#include <string.h>

#define BLOCK    16
#define WORKER   4242
#define LEASE_MS 6000 /* not over when the machine stands still for a second */

struct log {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *state;
    struct jr_event_decoder *decoder;
    struct jr_arena arena;
    uint32_t effects;
    uint32_t undecodable;
};

static struct {
    struct jr_test_nats server;
    struct jr_loop *loop;
    struct jr_nats *nats;
    struct jr_http_client *client;
    struct jr_openai_parser *parser;
    struct jr_mock_worker *worker;
    struct jr_bridge_hub *hub;
    struct jr_bridge *bridge;
    struct jr_js_reader *reader;
    struct jr_js_kv *leases, *state;
    struct log log;
    uint16_t port;
    char url[64], kv[64], replay[64];
    uint32_t engine_life;
    bool lower_media;
    struct jr_metrics *metrics; /* of the hub that starts next; NULL: none */
} t;

/* ---------------------------------------------------------------- the log */

static void log_init(struct log *l)
{
    memset(l, 0, sizeof *l);
    jr_mem_init(&l->mem);
    jr_members_init(&l->members, &l->mem);
    assert_int_equal(jr_state_create(&l->mem, &l->members, &l->state), 0);
    l->decoder = jr_event_decoder_create();
    jr_arena_init(&l->arena, JR_EVENT_ARENA_MAX);
}

static void log_deinit(struct log *l)
{
    jr_event_decoder_destroy(l->decoder);
    jr_arena_deinit(&l->arena);
    jr_state_destroy(l->state);
    jr_members_deinit(&l->members);
    jr_mem_deinit(&l->mem);
}

static void log_apply(struct log *l, const void *p, size_t n)
{
    struct jr_log_msg msg = {.seq = l->state->seq + 1};
    uint32_t effect;
    jr_arena_reset(&l->arena);
    assert_int_equal(
        jr_event_decode(l->decoder, jr_str_of(JR_SUBJECT_BATCH, 5), p, n, NULL, &l->arena, &msg),
        0);
    assert_int_equal(msg.kind, JR_LOG_KIND_BATCH);
    assert_int_equal(jr_state_apply(l->state, &msg, &effect), 0);
    l->effects |= effect;
}

static void on_stream(struct jr_js_msg *m, void *ctx)
{
    struct log *l = ctx;
    if (m->kind == JR_READ_MSG && m->seq == l->state->seq + 1)
        log_apply(l, m->payload, m->n);
    jr_js_msg_destroy(m);
}

static void read_stream(void)
{
    log_init(&t.log);
    struct jr_js_reader_config config = {.nats = t.nats,
                                         .loop = t.loop,
                                         .stream = t.hub->stream,
                                         .from = JR_READ_POSITION,
                                         .on_msg = on_stream,
                                         .ctx = &t.log};
    assert_int_equal(jr_js_reader_create(&config, &t.reader), 0);
}

static void stop_reading(void)
{
    bool done = false;
    jr_js_reader_close(t.reader, mark_done, &done);
    PUMP_WAIT(t.loop, done, JR_TEST_PATIENCE_MS);
    log_deinit(&t.log);
    t.reader = NULL;
}

/* What a state that heard only of the mirror would have. */
static uint64_t mirror_digest(void)
{
    static struct log fresh;
    struct jr_bridge_rank copy;
    struct jr_bridge_rank_config config = t.bridge->sources[0]->rank.config;
    struct jr_bridge_out out;
    log_init(&fresh);
    jr_bridge_rank_init(&copy, &config);
    copy.mirror = t.bridge->sources[0]->rank.mirror; /* lent */
    jr_bridge_rank_begin(&copy, JR_BEGIN_START, false);
    for (uint64_t seq = 1; jr_bridge_rank_next(&copy, 0, &out); seq++) {
        log_apply(&fresh, out.p, out.n);
        jr_bridge_rank_acked(&copy, seq);
    }
    t.bridge->sources[0]->rank.mirror = copy.mirror;
    memset(&copy.mirror, 0, sizeof copy.mirror);
    uint64_t digest = jr_state_digest_blocks(fresh.state);
    jr_bridge_rank_deinit(&copy);
    log_deinit(&fresh);
    return digest;
}

static const struct jr_state_rank *row(void)
{
    uint32_t m = jr_members_find(&t.log.members, WORKER, 0);
    return m == JR_MEMBER_NONE ? NULL : jr_state_rank(t.log.state, m);
}

static bool agree(void)
{
    const struct jr_state_rank *r = row();
    return r && !r->waiting && jr_bridge_rank_idle(&t.bridge->sources[0]->rank) &&
           r->incarnation == t.bridge->sources[0]->rank.incarnation &&
           jr_state_digest_blocks(t.log.state) == mirror_digest();
}

/* ---------------------------------------------------------------- the engine */

/* An engine that ends and starts again finds its ports as it left them. */
static void take_ports(void)
{
    t.port = jr_test_free_port();
    snprintf(t.kv, sizeof t.kv, "tcp://127.0.0.1:%u", jr_test_free_port());
    snprintf(t.replay, sizeof t.replay, "tcp://127.0.0.1:%u", jr_test_free_port());
}

static void start_engine(uint32_t blocks)
{
    struct jr_errmsg e = {0};
    struct jr_mock_worker_config config = {
        .max_model_len = 400,
        .model = "tiny",
        .host = "127.0.0.1",
        .port = t.port,
        .pub = {.endpoint = t.kv, .replay_endpoint = t.replay},
        .parser = t.parser,
    };
    jr_engine_config_init(&config.engine);
    jr_mock_faults_init(&config.faults);
    config.engine.block_size = BLOCK;
    config.engine.num_gpu_blocks = blocks + 1;
    config.engine.speedup_ratio = 0;
    config.engine.hash_seed = ++t.engine_life;
    if (jr_mock_worker_create(t.loop, &config, &e, &t.worker) < 0)
        fail_msg("no engine: %s", e.text);
    snprintf(t.url, sizeof t.url, "http://127.0.0.1:%u", t.port);
}

static void stop_engine(void)
{
    bool done = false;
    jr_mock_worker_close(t.worker, mark_done, &done);
    PUMP_WAIT(t.loop, done, JR_TEST_PATIENCE_MS);
    t.worker = NULL;
}

static void on_reply(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    (void)body;
    *(int *)ctx = err < 0 ? err : reply->status;
}

/* n token ids from `first` on. */
static void prompt(uint32_t first, uint32_t n)
{
    char url[96];
    struct jr_buf b;
    int status = 0;
    jr_buf_init(&b, 1 << 16);
    jr_buf_printf(&b, "{\"model\":\"tiny\",\"max_tokens\":4,\"prompt\":[%u", first);
    for (uint32_t i = 1; i < n; i++)
        jr_buf_printf(&b, ",%u", first + i);
    jr_buf_puts(&b, "]}");
    snprintf(url, sizeof url, "%s/v1/completions", t.url);
    struct jr_http_fetch fetch = {.url = url,
                                  .method = "POST",
                                  .content_type = "application/json",
                                  .body = b.p,
                                  .n_body = b.n,
                                  .total_timeout_ms = 60000};
    assert_int_equal(jr_http_client_whole(t.client, &fetch, 1 << 20, on_reply, &status), 0);
    PUMP_WAIT(t.loop, status != 0, JR_TEST_PATIENCE_MS);
    assert_int_equal(status, 200);
    jr_buf_deinit(&b);
}

/* ---------------------------------------------------------------- the bridge */

static void start_bridge(bool with_replay)
{
    struct jr_errmsg e = {0};
    struct jr_bridge_config config = {.engine_url = t.url,
                                      .kv_endpoint = t.kv,
                                      .replay_endpoint = with_replay ? t.replay : NULL,
                                      .worker_id = WORKER};
    if (jr_bridge_create(t.hub, &config, &t.bridge, &e) < 0)
        fail_msg("no bridge: %s", e.text);
}

static void start_hub(void)
{
    struct jr_errmsg e = {0};
    struct jr_bridge_hub_config config = {.loop = t.loop,
                                          .nats = t.nats,
                                          .client = t.client,
                                          .metrics = t.metrics,
                                          .namespace_ = "ns",
                                          .component = "backend",
                                          .lease_ttl_ms = LEASE_MS,
                                          .stream_max_bytes = 64 << 20,
                                          .nats_replicas = 1,
                                          .lower_media = t.lower_media};
    if (jr_bridge_hub_create(&config, &t.hub, &e) < 0)
        fail_msg("no hub: %s", e.text);
}

static void stop_hub(void)
{
    bool done = false;
    jr_bridge_hub_close(t.hub, mark_done, &done);
    PUMP_WAIT(t.loop, done, JR_TEST_PATIENCE_MS);
    t.hub = NULL;
    t.bridge = NULL;
}

static void stop_bridge(void)
{
    bool done = false;
    jr_bridge_close(t.bridge, mark_done, &done);
    PUMP_WAIT(t.loop, done, JR_TEST_PATIENCE_MS);
    t.bridge = NULL;
}

static bool registered(void)
{
    return t.bridge->lease_revision != 0 &&
           t.bridge->sources[0]->leased_incarnation == t.bridge->sources[0]->rank.incarnation;
}

static void open_buckets(void)
{
    struct jr_errmsg e = {0};
    struct jr_js_kv_config leases = {.bucket = t.hub->leases_bucket, .ttl_ms = LEASE_MS};
    struct jr_js_kv_config state = {.bucket = t.hub->state_bucket};
    assert_int_equal(jr_js_kv_open(t.nats, &leases, &t.leases, NULL, &e), 0);
    assert_int_equal(jr_js_kv_open(t.nats, &state, &t.state, NULL, &e), 0);
}

static int get_lease(struct jr_worker_lease *ret)
{
    struct jr_js_kv_entry entry = {0};
    struct jr_errmsg e = {0};
    int err = jr_js_kv_get(t.leases, "worker.4242", &entry, &e);
    if (err == 0)
        err = jr_lease_decode_worker(entry.value, entry.n, ret, &e);
    jr_js_kv_entry_deinit(&entry);
    return err;
}

static void up(uint32_t blocks, bool with_replay)
{
    struct jr_errmsg e = {0};
    struct jr_http_client_config http = {
        .connect_timeout_ms = 5000, .idle_timeout_ms = 5000, .idle_per_host_max = 2};
    memset(&t, 0, sizeof t);
    jr_test_nats_start(&t.server, NULL);
    assert_int_equal(jr_loop_create(&t.loop), 0);
    struct jr_nats_config nats = {.servers = t.server.url, .loop = t.loop};
    assert_int_equal(jr_nats_connect(&nats, &t.nats, &e), 0);
    assert_int_equal(jr_http_client_create(t.loop, &http, &t.client), 0);
    assert_int_equal(jr_openai_parser_create(1 << 20, &t.parser), 0);
    take_ports();
    start_engine(blocks);
    start_hub();
    start_bridge(with_replay);
    PUMP_WAIT(t.loop, registered(), JR_TEST_PATIENCE_MS);
    open_buckets();
    read_stream();
}

static void down(void)
{
    bool done = false;
    stop_hub();
    stop_reading();
    if (t.worker)
        stop_engine();
    jr_http_client_close(t.client, mark_done, &done);
    PUMP_WAIT(t.loop, done, JR_TEST_PATIENCE_MS);
    jr_js_kv_destroy(t.leases);
    jr_js_kv_destroy(t.state);
    jr_nats_close(t.nats);
    jr_openai_parser_destroy(t.parser);
    jr_loop_destroy(t.loop);
    jr_test_nats_end(&t.server);
}

/* ---------------------------------------------------------------- tests */

/* The engine's own account: what its replay says, counted. */
static uint32_t engine_blocks(void)
{
    struct jr_zmq_replay replay;
    struct jr_bridge_rank rank;
    static struct jr_bridge_feed feed;
    struct jr_bridge_rank_config config = {.worker_id = 1};
    assert_int_equal(ask_replay(t.replay, 0, 60000, 60000, 64 << 20, &replay), 0);
    jr_bridge_rank_init(&rank, &config);
    jr_bridge_feed_init(&feed, &rank, BLOCK);
    for (uint32_t i = 0; i < replay.n; i++)
        assert_false(jr_bridge_feed_replayed(&feed, replay.msgs[i].seq, replay.msgs[i].payload,
                                             replay.msgs[i].n));
    uint32_t n = rank.mirror.n;
    jr_bridge_feed_deinit(&feed);
    jr_bridge_rank_deinit(&rank);
    jr_zmq_replay_deinit(&replay);
    return n;
}

static void blocks_reach_the_log(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    up(40, true); /* small: it evicts */
    for (uint32_t i = 0; i < 30; i++)
        prompt(i % 7 * 1000, 100 + i);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n == engine_blocks() && agree(),
              JR_TEST_PATIENCE_MS);
    assert_true(t.bridge->sources[0]->rank.mirror.n > 20);
    assert_true(t.bridge->sources[0]->rank.mirror.counters.removed > 0);
    assert_int_equal(t.log.state->counters.dropped_unknown_parent, 0);
    assert_int_equal(t.log.state->counters.dropped_stale, 0);
    assert_int_equal(t.log.effects & JR_EFFECT_REANNOUNCE, 0);
    assert_int_equal(get_lease(&lease), 0);
    assert_string_equal(lease.url, t.url);
    assert_string_equal(lease.model, "tiny");
    assert_int_equal(lease.block_size, BLOCK);
    assert_int_equal(lease.total_kv_blocks, 41);
    assert_int_equal(lease.n_ranks, 1);
    assert_int_equal(lease.ranks[0].incarnation, row()->incarnation);
    assert_true(lease.ranks[0].acked_seq > 0);
    down();
}

static void bridge_restart(void **state)
{
    (void)state;
    struct jr_worker_lease lease;
    up(100, true);
    for (uint32_t i = 0; i < 5; i++)
        prompt(i * 1000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n == engine_blocks() && agree(),
              JR_TEST_PATIENCE_MS);
    uint64_t before = row()->incarnation, digest = jr_state_digest_blocks(t.log.state);
    stop_bridge();
    assert_int_equal(get_lease(&lease), JR_ENOTFOUND);
    prompt(7000, 64); /* nobody listens */
    start_bridge(true);
    PUMP_WAIT(t.loop, registered() && agree(), JR_TEST_PATIENCE_MS);
    assert_true(row()->incarnation != before);
    assert_int_equal(t.bridge->sources[0]->rank.mirror.n, engine_blocks());
    assert_true(jr_state_digest_blocks(t.log.state) != digest);
    down();
}

static void nats_restart(void **state)
{
    (void)state;
    up(200, true);
    prompt(1000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n >= 4 && agree(), JR_TEST_PATIENCE_MS);
    jr_test_nats_stop(&t.server);
    PUMP_WAIT(t.loop, !jr_nats_connected(t.nats), JR_TEST_PATIENCE_MS);
    for (uint32_t i = 2; i < 6; i++)
        prompt(i * 1000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n == engine_blocks(), JR_TEST_PATIENCE_MS);
    jr_test_nats_restart(&t.server);
    PUMP_WAIT(t.loop, registered() && agree() && t.bridge->sources[0]->rank.mirror.n >= 20,
              JR_TEST_PATIENCE_MS);
    down();
}

static void requests_in_the_state_bucket(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    struct jr_js_kv_entry entry = {0};
    up(100, true);
    prompt(1000, 64);
    PUMP_WAIT(t.loop,
              agree() && jr_bridge_now_ms() - t.bridge->sources[0]->leased_at_ms >
                             JR_BRIDGE_REANNOUNCE_GRACE_MS,
              JR_TEST_PATIENCE_MS);
    const uint64_t *begins = t.bridge->sources[0]->rank.counters.begins;
    uint64_t before = row()->incarnation;
    assert_int_equal(jr_js_kv_put(t.state, "reannounce.4242.0", "1", 1, NULL, &e), 0);
    assert_int_equal(jr_js_kv_put(t.state, "reannounce.4242.1", "1", 1, NULL, &e), 0);
    PUMP_WAIT(t.loop, begins[JR_BEGIN_REANNOUNCE] == 1 && agree() && registered(),
              JR_TEST_PATIENCE_MS);
    assert_true(row()->incarnation != before);
    assert_int_equal(jr_js_kv_get(t.state, "reannounce.4242.0", &entry, &e), JR_ENOTFOUND);
    jr_js_kv_entry_deinit(&entry);
    assert_int_equal(jr_js_kv_get(t.state, "reannounce.4242.1", &entry, &e), 0);
    jr_js_kv_entry_deinit(&entry);
    /* The first epoch that is seen is news to nobody; another one is. */
    static const char one[] = "{\"random\":\"5\",\"n\":1}", two[] = "{\"random\":\"5\",\"n\":2}";
    assert_int_equal(jr_js_kv_put(t.state, "epoch", one, sizeof one - 1, NULL, &e), 0);
    PUMP_WAIT(t.loop, t.hub->has_epoch, JR_TEST_PATIENCE_MS);
    assert_int_equal(begins[JR_BEGIN_EPOCH], 0);
    assert_int_equal(jr_js_kv_put(t.state, "epoch", two, sizeof two - 1, NULL, &e), 0);
    PUMP_WAIT(t.loop, begins[JR_BEGIN_EPOCH] == 1 && agree() && registered(), JR_TEST_PATIENCE_MS);
    down();
}

static void engine_restart(void **state)
{
    (void)state;
    up(100, true);
    for (uint32_t i = 0; i < 5; i++)
        prompt(i * 1000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n >= 20 && agree(), JR_TEST_PATIENCE_MS);
    stop_engine();
    start_engine(100);
    /* Silent since: found out by the look at the end of its history. */
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n == 0 && agree(), JR_TEST_PATIENCE_MS);
    prompt(9000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n >= 4 && agree() && registered(),
              JR_TEST_PATIENCE_MS);
    /* Talking at once. */
    stop_engine();
    start_engine(100);
    for (uint32_t i = 0; i < 3; i++)
        prompt(50000 + i * 1000, 64);
    uint32_t n = engine_blocks();
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n == n && agree() && registered(),
              JR_TEST_PATIENCE_MS);
    assert_int_equal(t.bridge->sources[0]->feed.counters.restarts, 2);
    down();
}

static void without_a_replay_socket(void **state)
{
    (void)state;
    up(100, false);
    for (uint32_t i = 0; i < 5; i++)
        prompt(i * 1000, 64);
    PUMP_WAIT(t.loop, agree() && t.bridge->sources[0]->feed.counters.msgs >= 5,
              JR_TEST_PATIENCE_MS);
    stop_engine();
    PUMP_WAIT(t.loop, !t.bridge->healthy, JR_TEST_PATIENCE_MS);
    struct jr_worker_lease lease;
    PUMP_WAIT(t.loop, get_lease(&lease) == JR_ENOTFOUND,
              JR_TEST_PATIENCE_MS); /* it ends by itself */
    start_engine(100);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n == 0 && agree() && registered(),
              JR_TEST_PATIENCE_MS);
    assert_int_equal(get_lease(&lease), 0);
    assert_int_equal(lease.ranks[0].incarnation, row()->incarnation);
    down();
}

static void another_stream(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    up(100, true);
    prompt(1000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n >= 4 && agree(), JR_TEST_PATIENCE_MS);
    stop_reading();
    assert_int_equal(jr_stream_delete(t.nats, t.hub->stream, &e), 0);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.counters.begins[JR_BEGIN_STREAM] > 0,
              JR_TEST_PATIENCE_MS);
    PUMP_WAIT(t.loop, !t.hub->reopen && jr_bridge_rank_idle(&t.bridge->sources[0]->rank),
              JR_TEST_PATIENCE_MS);
    read_stream();
    PUMP_WAIT(t.loop, agree() && registered(), JR_TEST_PATIENCE_MS);
    down();
}

static void a_lost_lease(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    struct jr_worker_lease lease;
    up(100, true);
    prompt(1000, 64);
    PUMP_WAIT(t.loop, t.bridge->sources[0]->rank.mirror.n >= 4 && agree(), JR_TEST_PATIENCE_MS);
    uint64_t before = row()->incarnation;
    assert_int_equal(jr_js_kv_delete(t.leases, "worker.4242", 0, &e), 0);
    PUMP_WAIT(t.loop, t.bridge->lease_losses == 1 && registered() && agree(), JR_TEST_PATIENCE_MS);
    assert_true(row()->incarnation != before);
    assert_int_equal(get_lease(&lease), 0);
    assert_int_equal(lease.ranks[0].incarnation, row()->incarnation);
    down();
}

/* Block i of a prompt, on a medium, from an engine of our own. */
static void say(struct jr_zmq_pub *pub, enum jr_engine_type type, enum jr_engine_medium medium,
                uint32_t i)
{
    uint64_t hash = 100 + i;
    uint32_t tokens[BLOCK] = {i};
    struct jr_engine_event ev = {.type = type,
                                 .medium = medium,
                                 .hashes = &hash,
                                 .n_hashes = 1,
                                 .has_parent = i > 0,
                                 .parent = hash - 1,
                                 .tokens = tokens,
                                 .n_tokens = BLOCK,
                                 .block_size = BLOCK};
    struct jr_engine_batch batch = {.ts = 1, .has_rank = true, .events = &ev, .n_events = 1};
    struct jr_buf b;
    jr_buf_init(&b, 1 << 16);
    jr_engine_batch_encode(&b, &batch, JR_ENGINE_VLLM_MAP);
    jr_zmq_pub_send(pub, b.p, b.n);
    jr_buf_deinit(&b);
}

/* Which of the four blocks a row of the log holds, as bits; all of them when it is not the rank's. */
static uint32_t held_by(uint32_t dp_rank)
{
    uint32_t m = jr_members_find(&t.log.members, WORKER, dp_rank), bits = 0;
    const struct jr_state_rank *r = m == JR_MEMBER_NONE ? NULL : jr_state_rank(t.log.state, m);
    if (!r || !row() || r->incarnation != row()->incarnation)
        return UINT32_MAX;
    for (uint32_t i = 0; i < 4; i++)
        bits |= (uint32_t)jr_index_lookup(t.log.state->index, m, 100 + i, NULL) << i;
    return bits;
}

static bool rows_hold(uint32_t device, uint32_t host, uint32_t any)
{
    return held_by(0) == device && held_by(64) == host && held_by(128) == any;
}

static double measured(enum jr_metric_key key, const char *of)
{
    jr_bridge_hub_measure(t.hub);
    return jr_metric_get(t.metrics, key, JR_LABELS("4242", "0", of));
}

static void blocks_on_lower_media(void **state)
{
    (void)state;
    struct jr_errmsg e = {0};
    struct jr_zmq_pub *pub;
    struct jr_zmq_pub_config config = {.endpoint = "tcp://127.0.0.1:*",
                                       .replay_endpoint = "tcp://127.0.0.1:*"};
    up(100, true);
    assert_int_equal(jr_zmq_pub_create(&config, &pub, &e), 0);
    stop_hub();
    snprintf(t.kv, sizeof t.kv, "%s", jr_zmq_pub_endpoint(pub));
    snprintf(t.replay, sizeof t.replay, "%s", jr_zmq_pub_replay_endpoint(pub));
    t.lower_media = true;
    t.metrics = jr_metrics_create();
    start_hub();
    start_bridge(true);
    PUMP_WAIT(t.loop, registered() && rows_hold(0, 0, 0), JR_TEST_PATIENCE_MS);
    for (uint32_t i = 0; i < 4; i++) /* what is lost before the subscription, the replay has */
        say(pub, JR_ENGINE_STORED, JR_MEDIUM_GPU, i);
    say(pub, JR_ENGINE_STORED, JR_MEDIUM_CPU, 0);
    say(pub, JR_ENGINE_STORED, JR_MEDIUM_CPU, 1);
    say(pub, JR_ENGINE_STORED, JR_MEDIUM_DISK, 2);
    PUMP_WAIT(t.loop, rows_hold(15, 15, 15), JR_TEST_PATIENCE_MS);
    for (uint32_t i = 4; i-- > 1;)
        say(pub, JR_ENGINE_REMOVED, JR_MEDIUM_GPU, i);
    PUMP_WAIT(t.loop, rows_hold(1, 3, 7), JR_TEST_PATIENCE_MS);
    assert_true(measured(JR_METRIC_BRIDGE_LOWER_BLOCKS, "host") == 2);
    assert_true(measured(JR_METRIC_BRIDGE_LOWER_BLOCKS, "disk") == 1);
    assert_true(measured(JR_METRIC_BRIDGE_ROW_BLOCKS, "host") == 2);
    assert_true(measured(JR_METRIC_BRIDGE_ROW_BLOCKS, "any") == 3);
    assert_true(measured(JR_METRIC_BRIDGE_ROW_BATCHES_TOTAL, "any") >= 2);
    PUMP_WAIT(t.loop, measured(JR_METRIC_BRIDGE_ROW_PENDING_EVENTS, "any") == 0,
              JR_TEST_PATIENCE_MS);
    /* They begin anew together. */
    uint64_t before = row()->incarnation;
    PUMP_WAIT(t.loop,
              jr_bridge_now_ms() - t.bridge->sources[0]->leased_at_ms >
                  JR_BRIDGE_REANNOUNCE_GRACE_MS,
              JR_TEST_PATIENCE_MS);
    assert_int_equal(jr_js_kv_put(t.state, "reannounce.4242.64", "1", 1, NULL, &e), 0);
    PUMP_WAIT(t.loop, row()->incarnation != before && rows_hold(1, 3, 7), JR_TEST_PATIENCE_MS);
    assert_int_equal(t.log.effects & JR_EFFECT_REANNOUNCE, 0);
    down();
    jr_metrics_destroy(t.metrics);
    jr_zmq_pub_destroy(pub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_reach_the_log),  cmocka_unit_test(bridge_restart),
        cmocka_unit_test(nats_restart),          cmocka_unit_test(requests_in_the_state_bucket),
        cmocka_unit_test(engine_restart),        cmocka_unit_test(without_a_replay_socket),
        cmocka_unit_test(another_stream),        cmocka_unit_test(a_lost_lease),
        cmocka_unit_test(blocks_on_lower_media),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
