/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/bridge_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/map.h"
#include "wire/event_codec.h"

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

void jr_bridge_begin(struct jr_bridge *b, enum jr_begin_reason reason)
{
    for (uint32_t i = 0; i < b->n_sources; i++) {
        if (reason == JR_BEGIN_STREAM)
            jr_bridge_source_moved(b->sources[i]);
        if (b->sources[i]->started)
            jr_bridge_source_begin(b->sources[i], reason, false);
    }
}

/* ---------------------------------------------------------------- life */

static void free_bridge(struct jr_bridge *b)
{
    jr_timer_destroy(b->tick);
    for (uint32_t i = 0; i < b->n_sources; i++)
        jr_bridge_source_free(b->sources[i]);
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
    struct jr_bridge_hub *h = b->hub;
    void (*cb)(void *ctx) = b->close_cb;
    void *ctx = b->close_ctx;
    jr_bridge_hub_remove(h, b);
    free_bridge(b);
    if (cb)
        cb(ctx);
    jr_bridge_hub_maybe_gone(h);
}

static void on_part_closed(void *ctx)
{
    struct jr_bridge *b = ctx;
    b->closings--;
    jr_bridge_maybe_closed(b);
}

static void end(struct jr_bridge *b)
{
    struct jr_bridge_hub *h = b->hub;
    b->ended = true;
    b->closings++; /* ours: nothing is freed before this function is through */
    jr_timer_stop(b->tick);
    jr_bridge_log_summary(b);
    if (h->config.metrics)
        jr_bridge_unmeasure(b, h->config.metrics);
    for (uint32_t i = 0; i < b->n_sources; i++) {
        struct jr_bridge_source *s = b->sources[i];
        jr_bridge_source_stop(s);
        b->closings += s->sub ? 1 : 0;
        b->closings += s->asker ? 1 : 0;
        jr_zmq_sub_close(s->sub, on_part_closed, b);
        jr_zmq_asker_close(s->asker, on_part_closed, b);
    }
    jr_bridge_hub_maybe_ended(h);
    on_part_closed(b);
}

void jr_bridge_released(struct jr_bridge *b)
{
    b->releasing = false;
    b->lease_revision = 0;
    b->lease_claimed = false;
}

static bool is_flushed(const struct jr_bridge *b)
{
    if (!b->hub->publisher || !jr_nats_connected(b->hub->config.nats) || jr_bridge_refused(b))
        return true;
    for (uint32_t i = 0; i < b->n_sources; i++)
        if (!jr_bridge_source_idle(b->sources[i]))
            return false;
    return true;
}

/* The worker leaves the registry first, then what it still said is published. */
static void closing_tick(struct jr_bridge *b, uint64_t now)
{
    if (b->releasing && now < b->flush_until_ms)
        return;
    if (is_flushed(b) || now >= b->flush_until_ms)
        end(b);
}

static void on_tick(void *ctx)
{
    struct jr_bridge *b = ctx;
    uint64_t now = jr_bridge_now_ms();
    for (uint32_t i = 0; i < b->n_sources; i++)
        jr_bridge_source_tick(b->sources[i], now);
    if (b->closing) {
        closing_tick(b, now);
        return;
    }
    jr_bridge_engine_tick(b, now);
    jr_bridge_lease_tick(b, now);
    if (now >= b->summary_at_ms) {
        b->summary_at_ms = now + JR_BRIDGE_SUMMARY_MS;
        jr_bridge_log_summary(b);
    }
}

uint64_t jr_bridge_derive_worker_id(const char *engine_url)
{
    const char *host = strstr(engine_url, "://");
    host = host ? host + 3 : engine_url;
    uint64_t id = jr_mix64(jr_event_payload_hash(host, strcspn(host, "/"))) >> 11;
    return id ? id : 1; /* JSON readers keep 53 bits */
}

static void copy_config(struct jr_bridge *b, const struct jr_bridge_config *config)
{
    b->config = *config;
    b->config.engine_url = jr_xstrdup(config->engine_url);
    b->config.kv_endpoint = jr_xstrdup(config->kv_endpoint);
    if (config->replay_endpoint)
        b->config.replay_endpoint = jr_xstrdup(config->replay_endpoint);
    b->worker_id =
        config->worker_id ? config->worker_id : jr_bridge_derive_worker_id(config->engine_url);
    snprintf(b->lease_key, sizeof b->lease_key, "worker.%llu", (unsigned long long)b->worker_id);
}

static int check(const struct jr_bridge_config *config, struct jr_errmsg *e)
{
    if (strlen(config->engine_url) >= JR_URL_MAX)
        return jr_errmsg_set(e, JR_EINVAL, "--engine-url: longer than %d bytes", JR_URL_MAX - 1);
    if (config->dp_size > JR_RANKS_INLINE)
        return jr_errmsg_set(e, JR_EINVAL, "--data-parallel-size: a worker has at most %d ranks",
                             JR_RANKS_INLINE);
    uint32_t n = config->dp_size ? config->dp_size : 1;
    if (config->dp_rank >= JR_RANKS_MAX || n > JR_RANKS_MAX - config->dp_rank)
        return jr_errmsg_set(e, JR_EINVAL,
                             "--data-parallel-rank: the last rank of %u would not be below %d", n,
                             JR_RANKS_MAX);
    return 0;
}

int jr_bridge_create(struct jr_bridge_hub *hub, const struct jr_bridge_config *config,
                     struct jr_bridge **ret, struct jr_errmsg *e)
{
    int err = check(config, e);
    if (err < 0)
        return err;
    struct jr_bridge *b = jr_xalloc(sizeof *b);
    b->hub = hub;
    b->turn = hub->turns++;
    copy_config(b, config);
    err = jr_bridge_sources_make(b, config->dp_size ? config->dp_size : 1) ? 0 : JR_EINVAL;
    b->n_ranks = b->n_sources;
    if (err == 0)
        err = jr_bridge_hub_add(hub, b);
    if (err < 0) {
        free_bridge(b);
        return jr_errmsg_set(e, err, "cannot start the bridge of %.160s: %s", config->engine_url,
                             err == JR_ELIMIT ? "there are too many"
                                              : "each rank needs tcp:// ports of its own");
    }
    b->summary_at_ms = jr_bridge_now_ms() + JR_BRIDGE_SUMMARY_MS;
    b->tick = jr_timer_create(hub->config.loop, on_tick, b);
    jr_timer_start(b->tick, jr_turn_phase(b->turn, JR_BRIDGE_HEALTH_MS), JR_BRIDGE_TICK_MS);
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
