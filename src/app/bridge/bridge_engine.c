/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's side: is it healthy, what does it say of itself.
 *
 *     GET /health ──200──► /v1/models ──► /metrics ──► /server_info ──► /kv_event_sources ──► discovered
 *          ▲ 500 ms                       vLLM's size   SGLang's         vLLM's ranks
 *                                                       (/get_server_info before)
 *
 * Again after each outage. What is known is not asked for. An engine that says no block size
 * anywhere (vLLM with several ranks, before its first request) tells it by its first store; after an
 * outage it is believed to be what it was, as blocks of other sizes are not indexed. */
#include "app/bridge/bridge_internal.h"

#include "base/cursor.h"
#include "base/log.h"
#include "wire/jfield.h"
#include "wire/prom_text.h"

#include <stdio.h>
#include <string.h>

#define BODY_MAX ((size_t)4 << 20)

/* ---------------------------------------------------------------- HTTP */

static void ask(struct jr_bridge *b, const char *path, jr_http_whole_fn *fn)
{
    char url[JR_URL_MAX + 32];
    snprintf(url, sizeof url, "%s%s", b->config.engine_url, path);
    struct jr_http_fetch fetch = {
        .url = url, .method = "GET", .first_byte_timeout_ms = 2000, .total_timeout_ms = 3000};
    b->jobs++;
    b->asking = true;
    if (jr_http_client_whole(b->hub->config.client, &fetch, BODY_MAX, fn, b) == 0)
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
    uint32_t dp_size = 0;
    if (jr_jfield_load(body.p, body.n, BODY_MAX, &root, NULL) < 0)
        return;
    jr_jfield_u64(&r, root, "page_size", JR_BLOCK_SIZE_MAX, &page_size, JR_JFIELD_OPTIONAL);
    jr_jfield_u64(&r, root, "max_total_num_tokens", UINT64_MAX, &tokens, JR_JFIELD_OPTIONAL);
    const json_t *kv_events = jr_jfield_object(&r, root, "kv_events");
    if (kv_events)
        jr_jfield_u32(&r, kv_events, "dp_size", JR_RANKS_MAX, &dp_size, JR_JFIELD_OPTIONAL);
    json_decref(root);
    if (r.err < 0 || page_size == 0)
        return;
    b->said_ranks = dp_size;
    b->about.block_size = (uint32_t)page_size;
    b->about.total_kv_blocks = tokens / page_size;
    (void)jr_str_copy(b->about.tokenizer, sizeof b->about.tokenizer, "sglang");
}

/* {"0":{"endpoint":…},"1":…}: one each rank; empty when there are no events. */
static void read_sources(struct jr_bridge *b, struct jr_str body)
{
    json_t *root = NULL;
    if (jr_jfield_load(body.p, body.n, BODY_MAX, &root, NULL) < 0)
        return;
    b->said_ranks = (uint32_t)json_object_size(root);
    json_decref(root);
}

/* ---------------------------------------------------------------- discovered */

/* The engine answered everything: the first time, or again after an outage. */
static void on_discovered(struct jr_bridge *b)
{
    b->discovered = true;
    b->healthy = true;
    b->lease_at_ms = 0;
    jr_log(JR_LOG_INFO, "bridge.engine",
           "worker=%llu url=%s model=\"%s\" block_size=%u blocks=%llu ranks=%u",
           (unsigned long long)b->worker_id, b->config.engine_url, b->about.model,
           b->about.block_size, (unsigned long long)b->about.total_kv_blocks, b->n_ranks);
    for (uint32_t i = 0; i < b->n_ranks; i++)
        jr_bridge_source_discovered(b->sources[i], b->about.block_size);
}

/* As many as were asked for, or as the engine says. One that came back with fewer has lost what the
 * others held. */
static bool set_ranks(struct jr_bridge *b)
{
    uint32_t n = b->config.dp_size ? b->config.dp_size : b->said_ranks ? b->said_ranks : 1;
    if (!jr_bridge_sources_make(b, n)) {
        if (!b->warned_ranks)
            jr_log(JR_LOG_ERROR, "bridge.ranks_refused",
                   "url=%s ranks=%u hint=\"a worker has at most %d, each with ports of its own, "
                   "and a number below %d\"",
                   b->config.engine_url, n, JR_RANKS_INLINE, JR_RANKS_MAX);
        b->warned_ranks = true;
        return false;
    }
    for (uint32_t i = n; i < b->n_sources; i++)
        if (b->sources[i]->started && i < b->n_ranks)
            jr_bridge_feed_restart(&b->sources[i]->feed);
    b->n_ranks = n;
    return true;
}

/* By what its ranks stored, when it says nothing of it. */
static uint32_t heard_block_size(struct jr_bridge *b)
{
    uint32_t size = 0;
    b->listening = true;
    for (uint32_t i = 0; i < b->n_ranks && size == 0; i++) {
        jr_bridge_source_subscribe(b->sources[i]);
        size = jr_bridge_source_block_size(b->sources[i]);
    }
    return size;
}

static void finish_discovery(struct jr_bridge *b)
{
    if (!set_ranks(b))
        return;
    if (b->about.block_size == 0)
        b->about.block_size = b->config.block_size;
    if (b->about.block_size == 0)
        b->about.block_size = b->sources[0]->feed.block_size;
    if (b->about.block_size == 0)
        b->about.block_size = heard_block_size(b);
    if (b->about.block_size != 0) {
        b->about.worker_id = b->worker_id;
        (void)jr_str_copy(b->about.url, sizeof b->about.url, b->config.engine_url);
        (void)jr_str_copy(b->about.role, sizeof b->about.role, "aggregated");
        b->about.on_cpu = b->config.on_cpu;
        b->about.max_num_seqs = b->config.max_num_seqs;
        b->about.max_batched_tokens = b->config.max_batched_tokens;
        b->listening = false;
        on_discovered(b);
        return;
    }
    if (!b->warned_block_size)
        jr_log(JR_LOG_WARN, "bridge.no_block_size",
               "url=%s hint=\"the engine does not say its block size before its first blocks; "
               "--block-size makes it a worker at once\"",
               b->config.engine_url);
    b->warned_block_size = true;
}

void jr_bridge_engine_heard(struct jr_bridge *b, const struct jr_bridge_source *s)
{
    if (!b->listening || b->asking || b->closing || jr_bridge_source_block_size(s) == 0)
        return;
    finish_discovery(b);
}

static void on_sources(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        if (err == 0 && reply->status == 200)
            read_sources(b, body);
        finish_discovery(b);
    }
    jr_bridge_maybe_closed(b);
}

static void ask_for_ranks(struct jr_bridge *b)
{
    if (b->config.dp_size == 0 && b->said_ranks == 0)
        ask(b, "/kv_event_sources", on_sources);
    else
        finish_discovery(b);
}

static void on_old_server_info(void *ctx, int err, const struct jr_http_reply *reply,
                               struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        if (err == 0 && reply->status == 200)
            read_sglang(b, body);
        ask_for_ranks(b);
    }
    jr_bridge_maybe_closed(b);
}

static void on_server_info(void *ctx, int err, const struct jr_http_reply *reply,
                           struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        if (err == 0 && reply->status == 200)
            read_sglang(b, body);
        if (err == 0 && reply->status == 404)
            ask(b, "/get_server_info", on_old_server_info);
        else
            ask_for_ranks(b);
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
            ask_for_ranks(b);
    }
    jr_bridge_maybe_closed(b);
}

static void on_models(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_bridge *b = ctx;
    if (answered(b)) {
        memset(&b->about, 0, sizeof b->about);
        b->said_ranks = 0;
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

void jr_bridge_engine_tick(struct jr_bridge *b, uint64_t now)
{
    if (b->asking || !jr_turn_is_due(b->turn, JR_BRIDGE_HEALTH_MS, b->health_asked_ms, now))
        return;
    b->health_asked_ms = now;
    ask(b, "/health", on_health);
}
