/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/frontend_internal.h"

#include "base/str.h"
#include "jetrouter/version.h"

#include <string.h>

enum jr_router_mode jr_router_mode_from(const struct jr_config *cfg)
{
    /* In the order of the option's choices. */
    static const enum jr_router_mode modes[] = {
        JR_MODE_ROUND_ROBIN,  JR_MODE_RANDOM,       JR_MODE_KV,           JR_MODE_DIRECT,
        JR_MODE_POWER_OF_TWO, JR_MODE_LEAST_LOADED, JR_MODE_DEVICE_AWARE,
    };
    return jr_config_command(cfg) == JR_CMD_ROUTER ? JR_MODE_KV
                                                   : modes[jr_config_enum(cfg, JR_CFG_ROUTER_MODE)];
}

static bool is_unset(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return jr_config_source(cfg, key) == JR_CFG_FROM_DEFAULT;
}

static bool is_tuned(const struct jr_config *cfg)
{
    return strcmp(jr_config_str(cfg, JR_CFG_ROUTER_PRESET), "dynamo-tuned") == 0;
}

/* A preset is other defaults: what is said by an option stays. */
static void tune(const struct jr_config *cfg, struct jr_pool_config *c)
{
    if (is_unset(cfg, JR_CFG_ROUTER_PREFILL_LOAD_SCALE))
        c->cost.scale = 16;
    if (is_unset(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT))
        c->cost.credit = 4;
    if (is_unset(cfg, JR_CFG_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT))
        c->cost.request_weight = 64;
    if (is_unset(cfg, JR_CFG_ROUTER_QUEUE_THRESHOLD)) {
        c->has_queue_threshold = true;
        c->queue_threshold = 0.25;
    }
    if (is_unset(cfg, JR_CFG_ROUTER_QUEUE_POLICY))
        c->queue_policy = JR_QUEUE_WSPT;
}

/* Any weight of a formula selects it; the later one when one of its own options is set. */
static void cost_from(const struct jr_config *cfg, struct jr_cost_config *c)
{
    static const enum jr_cfg_key later[] = {
        JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY,
        JR_CFG_ROUTER_PREFILL_LOAD_SCALE, JR_CFG_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT};
    bool is_later = strcmp(jr_config_str(cfg, JR_CFG_ROUTER_PRESET), "none") != 0;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        is_later = is_later || !is_unset(cfg, later[i]);
    enum jr_cost_model model = JR_COST_SECONDS;
    if (jr_config_cost_model_is_dynamo(cfg))
        model = is_later ? JR_COST_DYNAMO_1_2 : JR_COST_DYNAMO_1_0;
    jr_cost_config_init(c, model);
    c->overlap_weight = jr_config_f64(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_WEIGHT);
    c->credit = jr_config_f64(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT);
    c->decay = jr_config_f64(cfg, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY);
    c->scale = jr_config_f64(cfg, JR_CFG_ROUTER_PREFILL_LOAD_SCALE);
    c->request_weight = jr_config_f64(cfg, JR_CFG_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT);
    c->host_credit = jr_config_f64(cfg, JR_CFG_ROUTER_HOST_CACHE_HIT_WEIGHT);
    c->disk_credit = jr_config_f64(cfg, JR_CFG_ROUTER_DISK_CACHE_HIT_WEIGHT);
}

/* What is None stays off. */
static void limits_from(const struct jr_config *cfg, struct jr_pool_config *c)
{
    c->has_queue_threshold = jr_config_is_set(cfg, JR_CFG_ROUTER_QUEUE_THRESHOLD);
    if (c->has_queue_threshold)
        c->queue_threshold = jr_config_f64(cfg, JR_CFG_ROUTER_QUEUE_THRESHOLD);
    c->queue_policy = (enum jr_queue_policy)jr_config_enum(cfg, JR_CFG_ROUTER_QUEUE_POLICY);
    c->queue_max = JR_QUEUE_MAX;
    struct jr_busy_limits *b = &c->busy;
    b->has_decode_blocks = jr_config_is_set(cfg, JR_CFG_ACTIVE_DECODE_BLOCKS_THRESHOLD);
    if (b->has_decode_blocks)
        b->decode_blocks = jr_config_f64(cfg, JR_CFG_ACTIVE_DECODE_BLOCKS_THRESHOLD);
    b->has_prefill_tokens = jr_config_is_set(cfg, JR_CFG_ACTIVE_PREFILL_TOKENS_THRESHOLD);
    if (b->has_prefill_tokens)
        b->prefill_tokens = (double)jr_config_u64(cfg, JR_CFG_ACTIVE_PREFILL_TOKENS_THRESHOLD);
    b->has_prefill_frac = jr_config_is_set(cfg, JR_CFG_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC);
    if (b->has_prefill_frac)
        b->prefill_frac = jr_config_f64(cfg, JR_CFG_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC);
}

/* What texts that nobody tokenizes are routed by, beside the events. */
static void texts_from(const struct jr_config *cfg, struct jr_pool_config *c)
{
    if (c->mode != JR_MODE_KV || c->approximate)
        return;
    c->by_text = (struct jr_approx_config){
        .ttl_ms = jr_config_ms(cfg, JR_CFG_ROUTER_TTL_SECS),
        .entries_max = jr_config_u64(cfg, JR_CFG_ROUTER_MAX_TREE_SIZE),
        .prune_ratio = jr_config_f64(cfg, JR_CFG_ROUTER_PRUNE_TARGET_RATIO),
    };
}

/* The index of approximate mode, or the prediction that runs ahead of the events. */
static void approx_from(const struct jr_config *cfg, struct jr_pool_config *c)
{
    bool predicted = jr_config_is_set(cfg, JR_CFG_ROUTER_PREDICTED_TTL_SECS);
    c->approximate = !jr_config_bool(cfg, JR_CFG_ROUTER_KV_EVENTS);
    if (!c->approximate && !predicted)
        return;
    c->approx = (struct jr_approx_config){
        .ttl_ms = jr_config_ms(cfg, c->approximate ? JR_CFG_ROUTER_TTL_SECS
                                                   : JR_CFG_ROUTER_PREDICTED_TTL_SECS),
        .entries_max = jr_config_u64(cfg, JR_CFG_ROUTER_MAX_TREE_SIZE),
        .prune_ratio = jr_config_f64(cfg, JR_CFG_ROUTER_PRUNE_TARGET_RATIO),
    };
}

/* The standalone router cannot look at a model's card, and has a default. */
static uint32_t block_size_from(const struct jr_config *cfg)
{
    if (jr_config_command(cfg) == JR_CMD_ROUTER)
        return jr_config_u32(cfg, JR_CFG_ROUTER_BLOCK_SIZE);
    return jr_config_is_set(cfg, JR_CFG_KV_CACHE_BLOCK_SIZE)
               ? jr_config_u32(cfg, JR_CFG_KV_CACHE_BLOCK_SIZE)
               : 0;
}

int jr_pool_config_from(const struct jr_config *cfg, const char *namespace_, const char *component,
                        struct jr_pool_config *ret, struct jr_errmsg *e)
{
    *ret = (struct jr_pool_config){
        .durable = true,
        .replica_sync = jr_config_bool(cfg, JR_CFG_ROUTER_REPLICA_SYNC),
        .assume_kv_reuse = jr_config_bool(cfg, JR_CFG_ROUTER_ASSUME_KV_REUSE),
        .track_active_blocks = jr_config_bool(cfg, JR_CFG_ROUTER_TRACK_ACTIVE_BLOCKS),
        .track_output_blocks = jr_config_bool(cfg, JR_CFG_ROUTER_TRACK_OUTPUT_BLOCKS),
        .ignore_prefill_tokens = !jr_config_bool(cfg, JR_CFG_ROUTER_TRACK_PREFILL_TOKENS),
        .mode = jr_router_mode_from(cfg),
        .cpu_ratio = jr_config_command(cfg) == JR_CMD_FRONTEND
                         ? jr_config_f64(cfg, JR_CFG_ENCODER_CUDA_TO_CPU_RATIO)
                         : 1,
        .tie = (enum jr_tie)jr_config_enum(cfg, JR_CFG_ROUTER_TIE_BREAK),
        .temperature = jr_config_f64(cfg, JR_CFG_ROUTER_TEMPERATURE),
        .index_entries_max = jr_config_u64(cfg, JR_CFG_INDEX_MAX_ENTRIES),
        .snapshot_threshold = jr_config_u64(cfg, JR_CFG_ROUTER_SNAPSHOT_THRESHOLD),
        .snapshot_max_age_ms = jr_config_ms(cfg, JR_CFG_SNAPSHOT_MAX_AGE_SECS),
        .lease_ttl_ms = jr_config_ms(cfg, JR_CFG_LEASE_TTL_SECS),
        .stale_worker_ms = jr_config_ms(cfg, JR_CFG_STALE_WORKER_SECS),
        .active_expiry_ms = jr_config_ms(cfg, JR_CFG_ACTIVE_REQUEST_EXPIRY_SECS),
        .ready_timeout_ms = jr_config_ms(cfg, JR_CFG_READY_TIMEOUT_SECS),
        .block_size = block_size_from(cfg),
        .session_ttl_ms = jr_config_is_set(cfg, JR_CFG_ROUTER_SESSION_AFFINITY_TTL_SECS)
                              ? jr_config_ms(cfg, JR_CFG_ROUTER_SESSION_AFFINITY_TTL_SECS)
                              : 0,
        .base_interval_ms = 10000,
        .sync_flush_ms = 2,
    };
    if (jr_config_is_set(cfg, JR_CFG_ROUTER_RESET_STATES)) {
        const char *token = jr_config_str(cfg, JR_CFG_ROUTER_RESET_STATES);
        ret->reset_at_start = token[0] == '\0';
        if (!jr_str_copy(ret->reset_token, sizeof ret->reset_token, token))
            return jr_errmsg_set(e, JR_EINVAL,
                                 "--router-reset-states: the token is longer than 63");
    }
    cost_from(cfg, &ret->cost);
    limits_from(cfg, ret);
    if (is_tuned(cfg))
        tune(cfg, ret);
    approx_from(cfg, ret);
    texts_from(cfg, ret);
    (void)jr_str_copy(ret->namespace_, sizeof ret->namespace_, namespace_);
    (void)jr_str_copy(ret->component, sizeof ret->component, component);
    (void)jr_str_copy(ret->version, sizeof ret->version, JETROUTER_VERSION);
    return 0;
}
