/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/bridge_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/map.h"
#include "wire/event_codec.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

uint64_t jr_bridge_now_ms(void)
{
    return jr_loop_now_ns() / 1000000;
}

bool jr_bridge_submit(struct jr_bridge *b, struct jr_lane *lane, struct jr_job *job)
{
    if (b->ended || jr_lane_submit(lane, job) < 0)
        return false;
    b->jobs++;
    return true;
}

bool jr_bridge_job_done(struct jr_bridge *b)
{
    b->jobs--;
    return !b->ended;
}

/* ---------------------------------------------------------------- publishing */

static void on_ack(void *ctx, int err, const struct jr_pub_ack *ack)
{
    struct jr_bridge *b = ctx;
    if (err == 0) {
        uint64_t before = b->rank.announced;
        jr_bridge_rank_acked(&b->rank, ack->seq);
        if (b->rank.announced != before)
            b->lease_at_ms = 0; /* routers credit only the incarnation in the lease */
    } else {
        jr_bridge_rank_failed(&b->rank, jr_bridge_now_ms());
        if (!b->ended)
            jr_log(JR_LOG_WARN, "bridge.publish_failed", "worker=%llu stream=%s error=%s",
                   (unsigned long long)b->worker_id, b->stream, jr_err_name(err));
        b->reopen = b->reopen || err == JR_ENOTFOUND;
    }
    if (!b->ended)
        jr_bridge_pump(b);
}

void jr_bridge_pump(struct jr_bridge *b)
{
    struct jr_bridge_out out;
    uint64_t now = jr_bridge_now_ms();
    if (!b->publisher || b->ended || !jr_nats_connected(b->nats) ||
        !jr_bridge_rank_next(&b->rank, now, &out))
        return;
    struct jr_pub pub = {.subject = b->subject, .payload = out.p, .n = out.n, .msg_id = out.msg_id};
    if (b->config.event_json) {
        pub.headers[0] = (struct jr_pub_header){JR_HEADER_INCARNATION, out.incarnation};
        pub.headers[1] = (struct jr_pub_header){JR_HEADER_FIRST_ID, out.first_id};
        if (out.begin[0])
            pub.headers[2] = (struct jr_pub_header){JR_HEADER_BEGIN, out.begin};
    }
    int err = jr_js_publish_async(b->publisher, &pub, on_ack, b);
    if (err == 0)
        return;
    jr_bridge_rank_failed(&b->rank, now);
    jr_log(JR_LOG_WARN, "bridge.publish_failed", "worker=%llu stream=%s error=%s",
           (unsigned long long)b->worker_id, b->stream, jr_err_name(err));
}

void jr_bridge_begin(struct jr_bridge *b, enum jr_begin_reason reason, bool forget)
{
    jr_log(JR_LOG_INFO, "bridge.begin", "worker=%llu dp_rank=%u reason=%s blocks=%u",
           (unsigned long long)b->worker_id, b->rank.config.dp_rank, jr_begin_reason_name(reason),
           forget ? 0 : b->rank.mirror.n);
    jr_bridge_rank_begin(&b->rank, reason, forget);
    jr_bridge_pump(b);
}

/* ---------------------------------------------------------------- numbers */

void jr_bridge_stats(const struct jr_bridge *b, struct jr_bridge_stats *ret)
{
    *ret = (struct jr_bridge_stats){
        .worker_id = b->worker_id,
        .healthy = b->healthy,
        .registered = b->lease_revision != 0,
        .mirror_blocks = b->rank.mirror.n,
        .pending_events = jr_bridge_rank_pending(&b->rank),
        .replays_filled = b->replays_filled,
        .replays_failed = b->replays_failed,
        .lease_losses = b->lease_losses,
        .feed = b->feed.counters,
        .rank = b->rank.counters,
        .mirror = b->rank.mirror.counters,
    };
}

static void log_summary(const struct jr_bridge *b)
{
    struct jr_bridge_stats s;
    jr_bridge_stats(b, &s);
    uint64_t begins = 0;
    for (int i = 0; i < JR_BEGIN_REASONS; i++)
        begins += s.rank.begins[i];
    jr_log(JR_LOG_INFO, "bridge.summary",
           "worker=%llu healthy=%d registered=%d blocks=%u pending=%u messages=%llu bad=%llu "
           "gaps=%llu jumps=%llu restarts=%llu batches=%llu events=%llu acks=%llu retries=%llu "
           "begins=%llu unknown_parent=%llu",
           (unsigned long long)s.worker_id, s.healthy, s.registered, s.mirror_blocks,
           s.pending_events, (unsigned long long)s.feed.msgs, (unsigned long long)s.feed.bad,
           (unsigned long long)s.feed.gaps, (unsigned long long)s.feed.jumps,
           (unsigned long long)s.feed.restarts, (unsigned long long)s.rank.batches,
           (unsigned long long)s.rank.batch_events, (unsigned long long)s.rank.acks,
           (unsigned long long)s.rank.retries, (unsigned long long)begins,
           (unsigned long long)s.mirror.unknown_parent);
}

/* ---------------------------------------------------------------- life */

static void free_bridge(struct jr_bridge *b)
{
    jr_timer_destroy(b->tick);
    jr_js_kv_destroy(b->leases);
    jr_js_kv_destroy(b->state);
    jr_bridge_feed_deinit(&b->feed);
    jr_bridge_rank_deinit(&b->rank);
    jr_xfree((void *)b->config.namespace_);
    jr_xfree((void *)b->config.component);
    jr_xfree((void *)b->config.engine_url);
    jr_xfree((void *)b->config.kv_endpoint);
    jr_xfree((void *)b->config.replay_endpoint);
    jr_xfree(b);
}

/* The last part that ends frees. */
void jr_bridge_maybe_closed(struct jr_bridge *b)
{
    if (!b->ended || b->closings || b->jobs)
        return;
    void (*cb)(void *ctx) = b->close_cb;
    void *ctx = b->close_ctx;
    free_bridge(b);
    if (cb)
        cb(ctx);
}

static void on_part_closed(void *ctx)
{
    struct jr_bridge *b = ctx;
    b->closings--;
    jr_bridge_maybe_closed(b);
}

static void end(struct jr_bridge *b)
{
    b->ended = true;
    b->closings++; /* ours: nothing is freed before this function is through */
    jr_timer_stop(b->tick);
    log_summary(b);
    jr_bridge_engine_stop(b);
    if (b->sub) {
        b->closings++;
        jr_zmq_sub_close(b->sub, on_part_closed, b);
    }
    if (b->publisher) {
        b->closings++;
        jr_js_publisher_close(b->publisher, on_part_closed, b);
    }
    /* Each waits for its running job, at most a request time-out; done runs in here. */
    jr_lane_destroy(b->nats_lane);
    jr_lane_destroy(b->engine_lane);
    on_part_closed(b);
}

void jr_bridge_released(struct jr_bridge *b)
{
    b->releasing = false;
    b->lease_revision = 0;
}

/* The worker leaves the registry first, then what it still said is published. */
static void closing_tick(struct jr_bridge *b, uint64_t now)
{
    if (b->releasing && now < b->flush_until_ms)
        return;
    bool flushed = jr_bridge_rank_idle(&b->rank) || !b->publisher || !jr_nats_connected(b->nats);
    if (flushed || now >= b->flush_until_ms)
        end(b);
}

static void on_tick(void *ctx)
{
    struct jr_bridge *b = ctx;
    uint64_t now = jr_bridge_now_ms();
    if (now >= jr_bridge_rank_deadline_ms(&b->rank))
        jr_bridge_pump(b);
    if (b->closing) {
        closing_tick(b, now);
        return;
    }
    jr_bridge_engine_tick(b, now);
    jr_bridge_nats_tick(b, now);
    if (now >= b->summary_at_ms) {
        b->summary_at_ms = now + JR_BRIDGE_SUMMARY_MS;
        log_summary(b);
    }
}

uint64_t jr_bridge_derive_worker_id(const char *engine_url)
{
    const char *host = strstr(engine_url, "://");
    host = host ? host + 3 : engine_url;
    uint64_t id = jr_mix64(jr_event_payload_hash(host, strcspn(host, "/"))) >> 11;
    return id ? id : 1; /* JSON readers keep 53 bits */
}

static int name_things(struct jr_bridge *b)
{
    const char *ns = b->config.namespace_, *component = b->config.component;
    int err = jr_stream_name(JR_STREAM_EVENTS, ns, component, b->stream);
    if (err == 0)
        err = jr_stream_name(JR_STREAM_LEASES, ns, component, b->leases_bucket);
    if (err == 0)
        err = jr_stream_name(JR_STREAM_STATE, ns, component, b->state_bucket);
    snprintf(b->subject, sizeof b->subject, "%s.%s", b->stream,
             b->config.event_json ? JR_SUBJECT_DYNAMO : JR_SUBJECT_BATCH);
    snprintf(b->lease_key, sizeof b->lease_key, "worker.%llu", (unsigned long long)b->worker_id);
    return err;
}

static void copy_config(struct jr_bridge *b, const struct jr_bridge_config *config)
{
    b->config = *config;
    b->loop = config->loop;
    b->nats = config->nats;
    b->config.namespace_ = jr_xstrdup(config->namespace_);
    b->config.component = jr_xstrdup(config->component);
    b->config.engine_url = jr_xstrdup(config->engine_url);
    b->config.kv_endpoint = jr_xstrdup(config->kv_endpoint);
    if (config->replay_endpoint)
        b->config.replay_endpoint = jr_xstrdup(config->replay_endpoint);
    b->worker_id =
        config->worker_id ? config->worker_id : jr_bridge_derive_worker_id(config->engine_url);
    b->held_tail = &b->held_head;
    b->ttl_ms = config->lease_ttl_ms;
}

int jr_bridge_create(const struct jr_bridge_config *config, struct jr_bridge **ret,
                     struct jr_errmsg *e)
{
    if (strlen(config->engine_url) >= JR_URL_MAX)
        return jr_errmsg_set(e, JR_EINVAL, "--engine-url: longer than %d bytes", JR_URL_MAX - 1);
    struct jr_bridge *b = jr_xalloc(sizeof *b);
    copy_config(b, config);
    struct jr_bridge_rank_config rank = {
        .worker_id = b->worker_id, .dp_rank = config->dp_rank, .json = config->event_json};
    randombytes_buf(rank.seed, sizeof rank.seed);
    jr_bridge_rank_init(&b->rank, &rank);
    jr_bridge_feed_init(&b->feed, &b->rank, 0);
    int err = name_things(b);
    if (err == 0)
        err = jr_lane_create(b->loop, "jr-bridge-nats", 8, &b->nats_lane);
    if (err == 0)
        err = jr_lane_create(b->loop, "jr-bridge-zmq", 8, &b->engine_lane);
    if (err < 0) {
        jr_lane_destroy(b->nats_lane);
        free_bridge(b);
        return jr_errmsg_set(e, err, "cannot start the bridge of %.160s: %s", config->engine_url,
                             jr_err_text(err));
    }
    b->summary_at_ms = jr_bridge_now_ms() + JR_BRIDGE_SUMMARY_MS;
    b->tick = jr_timer_create(b->loop, on_tick, b);
    jr_timer_start(b->tick, 0, JR_BRIDGE_TICK_MS);
    *ret = b;
    return 0;
}

void jr_bridge_close(struct jr_bridge *b, void (*cb)(void *ctx), void *ctx)
{
    JR_ASSERT(!b->closing);
    b->closing = true;
    b->close_cb = cb;
    b->close_ctx = ctx;
    b->flush_until_ms = jr_bridge_now_ms() + JR_BRIDGE_FLUSH_MS;
    b->releasing = jr_bridge_release(b);
}
