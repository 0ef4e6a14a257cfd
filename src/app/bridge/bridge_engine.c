/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's side: is it healthy, what does it say of itself, its events and their replays.
 *
 *     GET /health ──200──► GET /v1/models ──► GET /metrics ──► discovered: subscribe, replay, begin
 *          ▲ 500 ms            (again after each outage)
 */
#include "app/bridge/bridge_internal.h"

#include "base/cursor.h"
#include "base/log.h"
#include "wire/jfield.h"
#include "wire/prom_text.h"

#include <stdio.h>
#include <string.h>

#define BODY_MAX ((size_t)4 << 20)

static void start_replay(struct jr_bridge *b);

/* ---------------------------------------------------------------- HTTP */

static void ask(struct jr_bridge *b, const char *path, jr_http_whole_fn *fn)
{
    char url[JR_URL_MAX + 32];
    snprintf(url, sizeof url, "%s%s", b->config.engine_url, path);
    struct jr_http_fetch fetch = {
        .url = url, .method = "GET", .first_byte_timeout_ms = 2000, .total_timeout_ms = 3000};
    b->jobs++;
    b->asking = true;
    if (jr_http_client_whole(b->config.client, &fetch, BODY_MAX, fn, b) == 0)
        return;
    b->jobs--;
    b->asking = false;
}

/* First in each answer; false when nobody is interested any more. */
static bool answered(struct jr_bridge *b)
{
    b->asking = false;
    return jr_bridge_job_done(b) && !b->closing;
}

/* ---------------------------------------------------------------- what the engine says of itself */

static bool read_model(struct jr_bridge *b, struct jr_str body)
{
    json_t *root = NULL;
    struct jr_jreader r = {0};
    char model[JR_MODEL_MAX] = "";
    if (jr_jfield_load(body.p, body.n, BODY_MAX, &root, NULL) < 0)
        return false;
    const json_t *first = json_array_get(jr_jfield_array(&r, root, "data"), 0);
    if (json_is_object(first))
        jr_jfield_str(&r, first, "id", model, sizeof model, JR_JFIELD_REQUIRED);
    json_decref(root);
    if (r.err < 0 || model[0] == '\0')
        return false;
    memcpy(b->about.model, model, sizeof b->about.model);
    return true;
}

static uint64_t label_number(const struct jr_prom_sample *s, const char *name)
{
    struct jr_str text = jr_prom_label(s, name);
    uint64_t v;
    return text.p && jr_parse_u64(text.p, text.n, &v) == 0 ? v : 0;
}

/* Absent before the first request with some engines: what is not there is not known yet. */
static void read_vllm(struct jr_bridge *b, struct jr_str body)
{
    static const char name[] = "vllm:cache_config_info";
    struct jr_prom_sample s;
    if (jr_prom_find(body.p, body.n, name, NULL, NULL, &s) < 0)
        return;
    uint64_t size = label_number(&s, "block_size");
    b->about.block_size = size <= JR_BLOCK_SIZE_MAX ? (uint32_t)size : 0;
    b->about.total_kv_blocks = label_number(&s, "num_gpu_blocks");
    (void)jr_str_copy(b->about.tokenizer, sizeof b->about.tokenizer, "vllm");
}

static void read_sglang(struct jr_bridge *b, struct jr_str body)
{
    json_t *root = NULL;
    struct jr_jreader r = {0};
    uint64_t page_size = 0, tokens = 0;
    if (jr_jfield_load(body.p, body.n, BODY_MAX, &root, NULL) < 0)
        return;
    jr_jfield_u64(&r, root, "page_size", JR_BLOCK_SIZE_MAX, &page_size, JR_JFIELD_OPTIONAL);
    jr_jfield_u64(&r, root, "max_total_num_tokens", UINT64_MAX, &tokens, JR_JFIELD_OPTIONAL);
    json_decref(root);
    if (r.err < 0 || page_size == 0)
        return;
    b->about.block_size = (uint32_t)page_size;
    b->about.total_kv_blocks = tokens / page_size;
    (void)jr_str_copy(b->about.tokenizer, sizeof b->about.tokenizer, "sglang");
}

/* ---------------------------------------------------------------- messages */

static void hold(struct jr_bridge *b, struct jr_zmq_msg *m)
{
    m->msg.next = NULL;
    *b->held_tail = &m->msg;
    b->held_tail = &m->msg.next;
}

static struct jr_zmq_msg *unhold(struct jr_bridge *b)
{
    struct jr_msg *m = b->held_head;
    if (!m)
        return NULL;
    b->held_head = m->next;
    if (!b->held_head)
        b->held_tail = &b->held_head;
    return (struct jr_zmq_msg *)(void *)m; /* its first member */
}

static void hold_first(struct jr_bridge *b, struct jr_zmq_msg *m)
{
    m->msg.next = b->held_head;
    if (!b->held_head)
        b->held_tail = &m->msg.next;
    b->held_head = &m->msg;
}

/* What is held, in order, until a gap that a replay may fill. The window of the subscriber bounds
 * what can be held. */
static void drain(struct jr_bridge *b)
{
    struct jr_zmq_msg *m;
    while (!b->replaying && (m = unhold(b))) {
        enum jr_feed_verdict v = jr_bridge_feed_live(&b->feed, m->seq, m->payload, m->n);
        bool may_ask = b->config.replay_endpoint && b->replay_tries < JR_BRIDGE_REPLAY_TRIES;
        if (v == JR_FEED_GAP && may_ask) {
            hold_first(b, m);
            start_replay(b);
            break;
        }
        if (v == JR_FEED_GAP) {
            jr_bridge_feed_jump(&b->feed, m->seq);
            (void)jr_bridge_feed_live(&b->feed, m->seq, m->payload, m->n);
        }
        b->replay_tries = 0;
        jr_zmq_msg_destroy(m);
    }
    jr_bridge_pump(b);
}

static void on_zmq(struct jr_zmq_msg *m, void *ctx)
{
    struct jr_bridge *b = ctx;
    b->last_live_ms = jr_bridge_now_ms();
    hold(b, m);
    if (!b->replaying)
        drain(b);
}

/* ---------------------------------------------------------------- replays */

struct replay_job {
    struct jr_job job;
    struct jr_bridge *b;
    uint64_t from;
    struct jr_zmq_replay replay;
    struct jr_errmsg e;
};

static void run_replay(struct jr_job *job)
{
    struct replay_job *r = (struct replay_job *)(void *)job;
    job->err = jr_zmq_replay(r->b->config.replay_endpoint, r->from, JR_BRIDGE_REPLAY_MS,
                             JR_BRIDGE_REPLAY_IDLE_MS, JR_BRIDGE_REPLAY_BYTES, &r->replay, &r->e);
}

/* True: it has to be asked again, from the start. */
static bool take_replay(struct jr_bridge *b, const struct replay_job *r)
{
    uint64_t restarts = b->feed.counters.restarts;
    for (uint32_t i = 0; i < r->replay.n; i++) {
        const struct jr_zmq_replay_msg *m = &r->replay.msgs[i];
        if (jr_bridge_feed_replayed(&b->feed, m->seq, m->payload, m->n))
            return true;
    }
    if (r->replay.n == 0 && r->replay.complete)
        jr_bridge_feed_replayed_nothing(&b->feed);
    return r->replay.n == 0 && b->feed.counters.restarts != restarts;
}

static void on_replayed(struct jr_bridge *b, const struct replay_job *r)
{
    bool good = r->job.err == 0;
    b->replays_filled += good;
    b->replays_failed += !good;
    b->checked_at_ms = jr_bridge_now_ms();
    if (!good)
        jr_log(JR_LOG_WARN, "bridge.replay_failed", "worker=%llu from=%llu error=%s words=\"%s\"",
               (unsigned long long)b->worker_id, (unsigned long long)r->from,
               jr_err_name(r->job.err), r->e.text);
    uint64_t restarts = b->feed.counters.restarts;
    bool again = good && take_replay(b, r);
    if (b->feed.counters.restarts != restarts)
        jr_log(JR_LOG_WARN, "bridge.engine_restarted", "worker=%llu url=%s",
               (unsigned long long)b->worker_id, b->config.engine_url);
    if (again && b->replay_tries < JR_BRIDGE_REPLAY_TRIES) {
        start_replay(b);
        return;
    }
    if (!b->started) {
        b->started = true;
        jr_bridge_begin(b, JR_BEGIN_START, false);
    }
    drain(b);
    if (!b->replaying)
        b->replay_tries = 0;
}

static void done_replay(struct jr_job *job)
{
    struct replay_job *r = (struct replay_job *)(void *)job;
    struct jr_bridge *b = r->b;
    b->replaying = false;
    if (jr_bridge_job_done(b) && !b->closing)
        on_replayed(b, r);
    jr_zmq_replay_deinit(&r->replay);
    jr_xfree(r);
    jr_bridge_maybe_closed(b);
}

static void start_replay(struct jr_bridge *b)
{
    struct replay_job *r = jr_xalloc(sizeof *r);
    *r = (struct replay_job){.job = {.run = run_replay, .done = done_replay},
                             .b = b,
                             .from = jr_bridge_feed_ask(&b->feed)};
    b->replay_tries++;
    b->replaying = jr_bridge_submit(b, b->engine_lane, &r->job);
    if (!b->replaying)
        jr_xfree(r);
}

/* ---------------------------------------------------------------- starting */

/* As with libzmq: a wildcard is for whoever binds; the engine was told to connect then. */
static bool is_wildcard(const char *endpoint)
{
    return strncmp(endpoint, "tcp://*", 7) == 0 || strncmp(endpoint, "tcp://0.0.0.0:", 14) == 0;
}

static void subscribe(struct jr_bridge *b)
{
    struct jr_zmq_sub_config config = {.loop = b->loop,
                                       .endpoint = b->config.kv_endpoint,
                                       .bind = is_wildcard(b->config.kv_endpoint),
                                       .on_msg = on_zmq,
                                       .ctx = b};
    struct jr_errmsg e = {0};
    int err = jr_zmq_sub_create(&config, &b->sub, &e);
    if (err == 0)
        return;
    jr_log(JR_LOG_ERROR, "bridge.subscribe_failed", "endpoint=%s error=%s words=\"%s\"",
           config.endpoint, jr_err_name(err), e.text);
    if (b->config.on_fatal)
        b->config.on_fatal(b->config.ctx, err, e.text);
}

/* The engine answered everything: the first time, or again after an outage. */
static void on_discovered(struct jr_bridge *b)
{
    bool other_size = b->feed.block_size != b->about.block_size;
    b->discovered = true;
    b->healthy = true;
    b->lease_at_ms = 0;
    jr_log(JR_LOG_INFO, "bridge.engine",
           "worker=%llu url=%s model=\"%s\" block_size=%u blocks=%llu",
           (unsigned long long)b->worker_id, b->config.engine_url, b->about.model,
           b->about.block_size, (unsigned long long)b->about.total_kv_blocks);
    if (b->started && (other_size || !b->config.replay_endpoint)) {
        /* Nothing proves that it is the engine it was. */
        jr_bridge_feed_restart(&b->feed);
    }
    b->feed.block_size = b->about.block_size;
    if (!b->sub)
        subscribe(b);
    if (b->replaying)
        return;
    if (b->config.replay_endpoint) {
        start_replay(b);
    } else if (!b->started) {
        b->started = true;
        jr_bridge_begin(b, JR_BEGIN_START, false);
    }
    jr_bridge_pump(b);
}

static void finish_discovery(struct jr_bridge *b)
{
    if (b->about.block_size == 0)
        b->about.block_size = b->config.block_size;
    if (b->about.block_size != 0) {
        b->about.worker_id = b->worker_id;
        (void)jr_str_copy(b->about.url, sizeof b->about.url, b->config.engine_url);
        (void)jr_str_copy(b->about.role, sizeof b->about.role, "aggregated");
        on_discovered(b);
        return;
    }
    if (!b->warned_block_size)
        jr_log(JR_LOG_WARN, "bridge.no_block_size",
               "url=%s hint=\"the engine does not say its block size yet; give --block-size\"",
               b->config.engine_url);
    b->warned_block_size = true;
}

static void on_server_info(void *ctx, int err, const struct jr_http_reply *reply,
                           struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        if (err == 0 && reply->status == 200)
            read_sglang(b, body);
        finish_discovery(b);
    }
    jr_bridge_maybe_closed(b);
}

static void on_metrics(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        if (err == 0 && reply->status == 200)
            read_vllm(b, body);
        if (b->about.block_size == 0)
            ask(b, "/server_info", on_server_info);
        else
            finish_discovery(b);
    }
    jr_bridge_maybe_closed(b);
}

static void on_models(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        memset(&b->about, 0, sizeof b->about);
        if (err == 0 && reply->status == 200 && read_model(b, body))
            ask(b, "/metrics", on_metrics);
        else
            jr_log(JR_LOG_WARN, "bridge.no_model", "url=%s/v1/models error=%s status=%d",
                   b->config.engine_url, jr_err_name(err), err == 0 ? reply->status : 0);
    }
    jr_bridge_maybe_closed(b);
}

static void on_unhealthy(struct jr_bridge *b, const char *why, int status)
{
    b->health_failures++;
    if (b->health_failures < JR_BRIDGE_HEALTH_FAILS && b->healthy)
        return;
    if (b->healthy || !b->warned_health)
        jr_log(JR_LOG_WARN, "bridge.engine_unhealthy",
               "worker=%llu url=%s/health error=%s status=%d hint=\"%s\"",
               (unsigned long long)b->worker_id, b->config.engine_url, why, status,
               b->healthy ? "its lease is not renewed until it answers" : "waiting for it");
    b->warned_health = true;
    b->healthy = false;
}

static void on_health(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_bridge *b = ctx;
    (void)body;
    if (answered(b)) {
        if (err < 0 || reply->status != 200) {
            on_unhealthy(b, jr_err_name(err), err == 0 ? reply->status : 0);
        } else {
            b->health_failures = 0;
            if (!b->healthy)
                ask(b, "/v1/models", on_models);
        }
    }
    jr_bridge_maybe_closed(b);
}

/* ---------------------------------------------------------------- the tick */

/* The last message may have been lost with none behind it to betray it, and a restarted engine may
 * be silent: look whether the end of its history is ours. */
static bool check_is_due(const struct jr_bridge *b, uint64_t now)
{
    if (!b->started || !b->healthy || b->replaying || !b->config.replay_endpoint ||
        now - b->last_live_ms < JR_BRIDGE_IDLE_CHECK_MS)
        return false;
    return b->checked_at_ms < b->last_live_ms || now - b->checked_at_ms >= JR_BRIDGE_CHECK_EVERY_MS;
}

void jr_bridge_engine_tick(struct jr_bridge *b, uint64_t now)
{
    if (!b->asking && now >= b->health_at_ms) {
        b->health_at_ms = now + JR_BRIDGE_HEALTH_MS;
        ask(b, "/health", on_health);
    }
    if (check_is_due(b, now))
        start_replay(b);
}

void jr_bridge_engine_stop(struct jr_bridge *b)
{
    struct jr_zmq_msg *m;
    while ((m = unhold(b)))
        jr_zmq_msg_destroy(m);
}
