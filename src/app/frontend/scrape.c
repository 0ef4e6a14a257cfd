/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics: most counters live in the pools and the server; they are copied when asked for. */
#include "app/frontend/certificate.h"
#include "app/frontend/access_log.h"
#include "app/frontend/gather.h"
#include "app/frontend/pools.h"

#include "base/log.h"
#include "core/recovery.h"
#include "jetrouter/version.h"

#include <string.h>

#define METRICS_BYTES_MAX ((size_t)64 << 20)

static void pool_gauges(struct jr_frontend *f, const char *component, const struct jr_pool_view *v)
{
    const char *const *l = JR_LABELS(f->namespace_, component);
    const struct {
        enum jr_metric_key key;
        double value;
    } rows[] = {
        {JR_METRIC_INDEX_BLOCKS, (double)v->blocks},
        {JR_METRIC_QUEUE_REQUESTS, v->queue.waiting},
        {JR_METRIC_INDEX_ENTRIES, (double)v->entries},
        {JR_METRIC_INDEX_BYTES, (double)v->index_bytes},
        {JR_METRIC_POOL_BYTES, (double)v->bytes},
        {JR_METRIC_POOL_RESERVE_BYTES, (double)v->reserve_bytes},
        {JR_METRIC_INDEX_OLD, v->index_is_old},
        {JR_METRIC_INDEX_TRUNCATED, v->truncated},
        {JR_METRIC_APPLIED_SEQ, (double)v->applied_seq},
        {JR_METRIC_STREAM_FIRST_SEQ, (double)v->stream_first_seq},
        {JR_METRIC_STREAM_LAST_SEQ, (double)v->stream_last_seq},
        {JR_METRIC_STREAM_BYTES, (double)v->stream_bytes},
        {JR_METRIC_STREAM_BYTES_MAX, (double)v->stream_bytes_max},
        {JR_METRIC_LAG_MESSAGES,
         v->stream_last_seq > v->applied_seq ? (double)(v->stream_last_seq - v->applied_seq) : 0},
        {JR_METRIC_LOG_MESSAGES_TOTAL, (double)v->counters.log_messages},
        {JR_METRIC_KV_EVENTS_TOTAL, (double)v->counters.kv_events},
        {JR_METRIC_HISTORY_CHECKS_TOTAL, (double)v->counters.history_checks},
        {JR_METRIC_RESETS_TOTAL, (double)v->counters.resets},
        {JR_METRIC_REANNOUNCE_TOTAL, (double)v->counters.reannounce},
        {JR_METRIC_DIGEST_MISMATCH, v->digest_mismatch},
        {JR_METRIC_DIGEST_RELOADS_TOTAL, (double)v->counters.reloads},
        {JR_METRIC_ADOPTIONS_TOTAL, (double)v->counters.adoptions},
        {JR_METRIC_STREAM_MAY_FORGET, v->may_forget_because[0] != '\0'},
        {JR_METRIC_FOREIGN_CONSUMERS, v->foreign_consumers},
        {JR_METRIC_RECOVERIES_TOTAL, (double)v->counters.recoveries},
        {JR_METRIC_SNAPSHOT_SEQ, (double)v->snapshots.newest.seq},
        {JR_METRIC_SNAPSHOT_BYTES, (double)v->snapshots.newest.bytes},
        {JR_METRIC_SNAPSHOTS_TOTAL, (double)v->counters.snapshots},
        {JR_METRIC_SNAPSHOT_FAILURES_TOTAL, (double)v->counters.snapshot_failures},
        {JR_METRIC_PURGES_TOTAL, (double)v->counters.purges},
        {JR_METRIC_PURGED_TO_SEQ, (double)v->counters.purged_to},
        {JR_METRIC_LEADER, v->leader},
        {JR_METRIC_SYNC_SENT_TOTAL, (double)v->counters.sync_sent},
        {JR_METRIC_SYNC_RECEIVED_TOTAL, (double)v->counters.sync_received},
        {JR_METRIC_SYNC_GAPS_TOTAL, (double)v->counters.sync_gaps},
        {JR_METRIC_SYNC_FAILED_TOTAL, (double)v->counters.sync_failed},
        {JR_METRIC_SYNC_UNKNOWN_TOTAL, (double)v->counters.sync_unknown},
        {JR_METRIC_BOOKINGS, v->n_bookings},
        {JR_METRIC_BOOKINGS_EXPIRED_TOTAL, (double)v->counters.bookings_expired},
        {JR_METRIC_BOOKINGS_ADOPTED_TOTAL, (double)v->counters.bookings_adopted},
        {JR_METRIC_BOOKINGS_REFUSED_TOTAL, (double)v->counters.bookings_refused},
        {JR_METRIC_LEASES_REFUSED_TOTAL, (double)v->counters.leases_refused},
        {JR_METRIC_OVERLAP_BLOCKS_TOTAL, (double)v->counters.overlap_blocks},
        {JR_METRIC_PROMPT_BLOCKS_TOTAL, (double)v->counters.prompt_blocks},
        {JR_METRIC_PROMPT_TOKENS_TOTAL, (double)v->counters.prompt_tokens},
        {JR_METRIC_SPEED_FACTOR, v->speed_factor},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        jr_metric_set(f->metrics, rows[i].key, l, rows[i].value);
    if (v->snapshots.newest.object[0])
        jr_metric_set(f->metrics, JR_METRIC_SNAPSHOT_AGE_SECONDS, l,
                      (double)(jr_unix_ns() - v->snapshots.newest.created_ns) / 1e9);
}

/* Of all pools' leases. */
static void leases(struct jr_frontend *f)
{
    uint64_t ok = 0, failed = 0;
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_driver_stats s;
        jr_driver_stats(f->drivers[i], &s);
        ok += s.leases_renewed;
        failed += s.leases_not_renewed;
    }
    jr_metric_set(f->metrics, JR_METRIC_LEASE_RENEWALS_TOTAL, JR_LABELS("ok"), (double)ok);
    jr_metric_set(f->metrics, JR_METRIC_LEASE_RENEWALS_TOTAL, JR_LABELS("failed"), (double)failed);
}

/* What the driver writes for Dynamo, when it is to. */
static void dynamo_snapshots(struct jr_frontend *f, uint32_t i)
{
    const char *const *l = JR_LABELS(f->namespace_, f->components[i]);
    struct jr_driver_stats s;
    jr_driver_stats(f->drivers[i], &s);
    jr_metric_set(f->metrics, JR_METRIC_DYNAMO_SNAPSHOTS_TOTAL, l, (double)s.compat_written);
    jr_metric_set(f->metrics, JR_METRIC_DYNAMO_SNAPSHOT_FAILURES_TOTAL, l,
                  (double)s.compat_failures);
    if (!s.compat_written)
        return;
    jr_metric_set(f->metrics, JR_METRIC_DYNAMO_SNAPSHOT_BLOCKS, l, (double)s.compat_events);
    jr_metric_set(f->metrics, JR_METRIC_DYNAMO_SNAPSHOT_LEFT_OUT, l, (double)s.compat_left_out);
}

/* The classes of --router-policy-config. */
static void classes(struct jr_frontend *f, uint32_t i)
{
    struct jr_class_view c;
    for (uint32_t pos = 0;
         f->policy && jr_pool_next_class(jr_driver_pool(f->drivers[i]), &pos, &c);) {
        const char *const *l = JR_LABELS("decode", c.model, c.name);
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_ROUTER_QUEUE_PENDING, l, c.requests);
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_ROUTER_QUEUE_PENDING_ISL, l,
                      (double)c.isl_tokens);
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_ROUTER_QUEUE_PENDING_CACHED, l,
                      (double)c.cached_tokens);
        for (int k = 0; k < JR_POLICY_LIMITS; k++)
            jr_metric_set(
                f->metrics, JR_METRIC_FRONTEND_ROUTER_QUEUE_BACKPRESSURE,
                JR_LABELS("decode", c.model, c.name, jr_policy_limit_name((enum jr_policy_limit)k)),
                (double)c.refused[k]);
    }
}

/* Of all pools: Dynamo's name has no label for one. */
static void applied(struct jr_frontend *f, const struct jr_kv_tally *t)
{
    static const char *const types[] = {
        [JR_KV_STORED] = "stored", [JR_KV_REMOVED] = "removed", [JR_KV_CLEARED] = "cleared"};
    static const char *const results[] = {"ok", "parent_block_not_found", "block_not_found",
                                          "capacity"};
    for (int type = JR_KV_STORED; type <= JR_KV_CLEARED; type++)
        for (int result = 0; result < JR_KV_RESULTS; result++)
            if (result == JR_KV_OK || t->n[type][result])
                jr_metric_set(f->metrics, JR_METRIC_KV_CACHE_EVENTS_APPLIED,
                              JR_LABELS(types[type], results[result]), (double)t->n[type][result]);
}

static void pool_by_reason(struct jr_frontend *f, const char *component,
                           const struct jr_pool_view *v)
{
    const struct {
        const char *reason;
        uint64_t n;
    } dropped[] = {{"unknown_parent", v->counters.dropped_unknown_parent},
                   {"stale", v->counters.dropped_stale},
                   {"hole", v->counters.dropped_hole},
                   {"undecodable", v->counters.undecodable},
                   {"skipped", v->counters.skipped},
                   {"cap", v->counters.refused_cap}};
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        jr_metric_set(f->metrics, JR_METRIC_KV_EVENTS_DROPPED_TOTAL,
                      JR_LABELS(f->namespace_, component, dropped[i].reason), (double)dropped[i].n);
    jr_metric_set(f->metrics, JR_METRIC_DECISIONS_TOTAL,
                  JR_LABELS(f->namespace_, component, f->mode == JR_MODE_KV ? "cost" : "mode"),
                  (double)v->counters.decisions);
    jr_metric_set(f->metrics, JR_METRIC_REJECTIONS_TOTAL,
                  JR_LABELS(f->namespace_, component, "no_worker"),
                  (double)v->counters.rejected_no_worker);
    const struct {
        const char *reason;
        uint64_t n;
    } refused[] = {{"busy", v->counters.rejected_busy},
                   {"queue", v->counters.rejected_queue_full},
                   {"timeout", v->counters.rejected_timeout}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        jr_metric_set(f->metrics, JR_METRIC_REJECTIONS_TOTAL,
                      JR_LABELS(f->namespace_, component, refused[i].reason), (double)refused[i].n);
    for (uint32_t i = 0; i < JR_REC_COUNT; i++) {
        const char *name = jr_recovery_table.rows[i].name;
        jr_metric_set(f->metrics, JR_METRIC_RECOVERY_STATE,
                      JR_LABELS(f->namespace_, component, name),
                      strcmp(name, v->recovery_state) == 0);
    }
}

static void sessions(struct jr_frontend *f, const char *component, const struct jr_sessions_view *s)
{
    const struct jr_session_counters *c = &s->counters;
    const struct {
        enum jr_metric_key key;
        const char *label;
        uint64_t n;
    } rows[] = {
        {JR_METRIC_SESSION_REQUESTS_TOTAL, "bound", c->bound},
        {JR_METRIC_SESSION_REQUESTS_TOTAL, "honoured", c->honoured},
        {JR_METRIC_SESSION_REQUESTS_TOTAL, "moved", c->moved},
        {JR_METRIC_SESSION_REQUESTS_TOTAL, "refused", c->refused},
        {JR_METRIC_SESSIONS_ENDED_TOTAL, "expired", c->expired},
        {JR_METRIC_SESSIONS_ENDED_TOTAL, "evicted", c->evicted},
        {JR_METRIC_SESSION_WORDS_TOTAL, "told", c->told},
        {JR_METRIC_SESSION_WORDS_TOTAL, "failed", c->failed},
        {JR_METRIC_SESSION_WORDS_TOTAL, "heard", c->heard},
    };
    if (!s->on)
        return;
    jr_metric_set(f->metrics, JR_METRIC_SESSIONS, JR_LABELS(f->namespace_, component), s->n);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        jr_metric_set(f->metrics, rows[i].key, JR_LABELS(f->namespace_, component, rows[i].label),
                      (double)rows[i].n);
}

static void last_of(struct jr_frontend *f, const struct jr_worker_last *last,
                    const char *const *labels)
{
    if (last && last->has_ttft) {
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_WORKER_LAST_TTFT_SECONDS, labels,
                      last->ttft_s);
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_WORKER_LAST_INPUT_TOKENS, labels,
                      last->input_tokens);
    }
    if (last && last->has_itl)
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_WORKER_LAST_ITL_SECONDS, labels, last->itl_s);
}

/* What the workers of a model say of themselves; where they differ, the last one's stands. */
static void model_of(struct jr_frontend *f, const struct jr_worker_lease *lease)
{
    const struct {
        enum jr_metric_key key;
        uint64_t value;
    } rows[] = {
        {JR_METRIC_FRONTEND_MODEL_TOTAL_KV_BLOCKS, lease->total_kv_blocks},
        {JR_METRIC_FRONTEND_MODEL_MAX_NUM_SEQS, lease->max_num_seqs},
        {JR_METRIC_FRONTEND_MODEL_MAX_NUM_BATCHED_TOKENS, lease->max_batched_tokens},
        {JR_METRIC_FRONTEND_MODEL_KV_CACHE_BLOCK_SIZE, lease->block_size},
    };
    const char *const *labels = JR_LABELS(lease->model);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value)
            jr_metric_set(f->metrics, rows[i].key, labels, (double)rows[i].value);
    jr_metric_set(f->metrics, JR_METRIC_FRONTEND_MODEL_MIGRATION_LIMIT, labels, f->migration_limit);
    (void)jr_request_metrics_of(&f->main.requests, lease->model); /* its gauges are 0 */
}

/* Most do, of thousands. */
static bool says_the_same(const struct jr_worker_lease *a, const struct jr_worker_lease *b)
{
    return a->total_kv_blocks == b->total_kv_blocks && a->max_num_seqs == b->max_num_seqs &&
           a->max_batched_tokens == b->max_batched_tokens && a->block_size == b->block_size &&
           strcmp(a->model, b->model) == 0;
}

static void workers(struct jr_frontend *f, uint32_t i)
{
    const struct jr_worker_lease *said = NULL;
    double by_state[3] = {0};
    struct jr_worker_view w;
    const char *component = f->components[i];
    for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);) {
        by_state[w.state]++;
        char id[24], rank[12];
        snprintf(id, sizeof id, "%llu", (unsigned long long)w.worker_id);
        snprintf(rank, sizeof rank, "%u", w.dp_rank);
        const char *const *ours = JR_LABELS(f->namespace_, component, id, rank);
        const char *const *dynamo = JR_LABELS(id, rank, "decode");
        jr_metric_set(f->metrics, JR_METRIC_WORKER_BLOCKS, ours, (double)w.blocks);
        jr_metric_set(f->metrics, JR_METRIC_WORKER_ACTIVE_REQUESTS, ours, w.active_requests);
        jr_metric_set(f->metrics, JR_METRIC_WORKER_BACKLOG_SECONDS, ours, w.backlog_seconds);
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_WORKER_ACTIVE_DECODE_BLOCKS, dynamo,
                      (double)w.active_blocks);
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_WORKER_ACTIVE_PREFILL_TOKENS, dynamo,
                      (double)w.active_prefill_tokens);
        last_of(f, jr_worker_lasts_find(&f->lasts, i, w.worker_id, w.dp_rank), dynamo);
        if (w.model[0] && !(said && says_the_same(said, w.lease)))
            model_of(f, said = w.lease);
    }
    for (int s = JR_WORKER_LIVE; s <= JR_WORKER_DOWN; s++)
        jr_metric_set(
            f->metrics, JR_METRIC_WORKERS,
            JR_LABELS(f->namespace_, component, jr_worker_state_name((enum jr_worker_state)s)),
            by_state[s]);
}

static void outliers(struct jr_frontend *f, uint32_t i)
{
    jr_metric_set(f->metrics, JR_METRIC_WORKERS_ASIDE, JR_LABELS(f->namespace_, f->components[i]),
                  jr_pools_n_aside(f, i));
}

static void peers(struct jr_frontend *f, uint32_t i)
{
    double ready = 0, not_ready = 0;
    struct jr_peer_view p;
    for (uint32_t pos = 0; jr_pool_next_peer(jr_driver_pool(f->drivers[i]), &pos, &p);) {
        ready += p.listed && p.ready;
        not_ready += p.listed && !p.ready;
    }
    const char *component = f->components[i];
    jr_metric_set(f->metrics, JR_METRIC_PEERS, JR_LABELS(f->namespace_, component, "ready"), ready);
    jr_metric_set(f->metrics, JR_METRIC_PEERS, JR_LABELS(f->namespace_, component, "not_ready"),
                  not_ready);
}

static void process(struct jr_frontend *f, const struct jr_http_server_stats *others)
{
    const char *why;
    struct jr_nats_counters c = {0};
    uint64_t ms;
    int64_t since;
    if (f->nats)
        jr_nats_counters_get(f->nats, &c);
    struct jr_http_server_stats all = *jr_http_server_stats(f->server);
    const struct jr_http_server_stats *s = &all;
    jr_http_server_stats_add(&all, others);
    struct jr_metrics *m = f->metrics;
    jr_metric_set(m, JR_METRIC_BUILD_INFO, JR_LABELS(JETROUTER_VERSION), 1);
    jr_metric_set(m, JR_METRIC_UPTIME_SECONDS, JR_NO_LABELS,
                  (double)jr_loop_now_ns() / 1e9 - (double)f->started_ms / 1e3);
    jr_metric_set(m, JR_METRIC_READY, JR_NO_LABELS, jr_frontend_ready(f, &why));
    jr_metric_set(m, JR_METRIC_NATS_CONNECTED, JR_NO_LABELS, f->nats && jr_nats_connected(f->nats));
    (void)jr_frontend_degraded(f, &ms, &since);
    jr_metric_set(m, JR_METRIC_DEGRADED_SECONDS, JR_NO_LABELS, (double)ms / 1e3);
    jr_metric_set(m, JR_METRIC_NATS_RECONNECTS_TOTAL, JR_NO_LABELS,
                  c.connects ? (double)(c.connects - 1) : 0);
    jr_metric_set(m, JR_METRIC_HTTP_INFLIGHT, JR_NO_LABELS, jr_frontend_inflight(f));
    jr_metrics_limits(m);
    const struct jr_token_cache *ids = jr_tokenizer_cache(f->tokenizer);
    jr_metric_set(m, JR_METRIC_TOKENIZER_CACHE_BYTES, JR_NO_LABELS,
                  (double)jr_token_cache_bytes(ids));
    jr_metric_set(m, JR_METRIC_TOKENIZER_CACHE_ENTRIES, JR_NO_LABELS,
                  (double)jr_token_cache_entries(ids));
    jr_metric_set(m, JR_METRIC_HTTP_CONNECTIONS, JR_NO_LABELS, (double)s->conns);
    jr_metric_set(m, JR_METRIC_HTTP_CONNECTIONS_REFUSED_TOTAL, JR_NO_LABELS,
                  (double)s->refused_conns);
    jr_metric_set(m, JR_METRIC_HTTP_ACCEPT_PAUSES_TOTAL, JR_NO_LABELS, (double)s->accept_pauses);
    jr_metric_set(m, JR_METRIC_HTTP_BAD_REQUESTS_TOTAL, JR_LABELS("malformed"),
                  (double)s->bad_requests);
    jr_metric_set(m, JR_METRIC_HTTP_BAD_REQUESTS_TOTAL, JR_LABELS("body_too_large"),
                  (double)s->body_too_large);
    jr_metric_set(m, JR_METRIC_HTTP_BAD_REQUESTS_TOTAL, JR_LABELS("header_timeout"),
                  (double)s->header_timeouts);
    jr_metric_set(m, JR_METRIC_HTTP_BAD_REQUESTS_TOTAL, JR_LABELS("body_timeout"),
                  (double)s->body_timeouts);
    jr_metric_set(m, JR_METRIC_HTTP_BODIES_BYTES, JR_NO_LABELS, (double)atomic_load(&f->bodies));
    jr_metric_set(m, JR_METRIC_HTTP_BODIES_REFUSED_TOTAL, JR_NO_LABELS, (double)s->bodies_refused);
    if (f->access_log) {
        struct jr_access_log_stats lines;
        jr_access_log_stats(f->access_log, &lines);
        jr_metric_set(m, JR_METRIC_ACCESS_LOG_LINES_TOTAL, JR_LABELS("written"),
                      (double)lines.lines);
        jr_metric_set(m, JR_METRIC_ACCESS_LOG_LINES_TOTAL, JR_LABELS("dropped"),
                      (double)lines.dropped);
    }
    if (jr_certificate_wanted(f)) {
        jr_metric_set(m, JR_METRIC_TLS_HANDSHAKES_TOTAL, JR_LABELS("ok"),
                      (double)s->tls_handshakes);
        jr_metric_set(m, JR_METRIC_TLS_HANDSHAKES_TOTAL, JR_LABELS("failed"),
                      (double)s->tls_failures);
    }
}

static uint32_t all_workers(struct jr_frontend *f, uint64_t **ret)
{
    uint32_t n = 0, cap = 0;
    uint64_t *ids = NULL;
    struct jr_worker_view w;
    for (uint32_t i = 0; i < f->n_drivers; i++)
        for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);) {
            if (n == cap)
                ids = jr_xrealloc(ids, (cap = cap ? 2 * cap : 16) * sizeof *ids);
            ids[n++] = w.worker_id;
        }
    *ret = ids;
    return n;
}

/* A worker that left takes its series along, or they would stand for ever at their last value. */
static void forget_workers(struct jr_frontend *f)
{
    uint64_t *now;
    uint32_t n = all_workers(f, &now);
    for (uint32_t i = 0, at = 0; i < f->n_scraped; i++) {
        uint32_t k = 0; /* both lists have the pools' order: mostly found where the last one was */
        while (k < n && now[(at + k) % n] != f->scraped[i])
            k++;
        if (k < n) {
            at = (at + k) % n;
            continue;
        }
        char id[24];
        snprintf(id, sizeof id, "%llu", (unsigned long long)f->scraped[i]);
        jr_metrics_forget(f->metrics, "worker_id", id);
    }
    jr_xfree(f->scraped);
    f->scraped = now;
    f->n_scraped = n;
}

static bool is_among(char (*models)[JR_MODEL_MAX], uint32_t n, const char *model)
{
    while (n > 0 && strcmp(models[n - 1], model) != 0)
        n--;
    return n > 0;
}

/* Those that workers name, each once. */
static uint32_t all_models(struct jr_frontend *f, char (**ret)[JR_MODEL_MAX])
{
    uint32_t n = 0, cap = 0;
    char(*models)[JR_MODEL_MAX] = NULL;
    struct jr_worker_view w;
    for (uint32_t i = 0; i < f->n_drivers; i++)
        for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);) {
            if (!w.model[0] || is_among(models, n, w.lease->model))
                continue;
            if (n == cap)
                models = jr_xrealloc(models, (cap = cap ? 2 * cap : 4) * sizeof *models);
            (void)jr_str_copy(models[n++], sizeof *models, w.lease->model);
        }
    *ret = models;
    return n;
}

/* What model_of has set of a model whose last worker left. */
static void forget_models(struct jr_frontend *f)
{
    static const enum jr_metric_key keys[] = {
        JR_METRIC_FRONTEND_MODEL_TOTAL_KV_BLOCKS, JR_METRIC_FRONTEND_MODEL_MAX_NUM_SEQS,
        JR_METRIC_FRONTEND_MODEL_MAX_NUM_BATCHED_TOKENS,
        JR_METRIC_FRONTEND_MODEL_KV_CACHE_BLOCK_SIZE, JR_METRIC_FRONTEND_MODEL_MIGRATION_LIMIT};
    char(*now)[JR_MODEL_MAX];
    uint32_t n = all_models(f, &now);
    for (uint32_t i = 0; i < f->n_models; i++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            if (!is_among(now, n, f->models[i]))
                jr_metric_drop(f->metrics, keys[k], JR_LABELS(f->models[i]));
    jr_xfree(f->models);
    f->models = now;
    f->n_models = n;
}

static bool is_served(void *ctx, const char *label)
{
    const struct jr_frontend *f = ctx;
    for (uint32_t i = 0; i < f->n_models; i++)
        if (jr_metric_label_is(label, f->models[i]))
            return true;
    return false;
}

static void on_model_gone(void *ctx, const char *label)
{
    jr_log(JR_LOG_DEBUG, "metrics.model_gone", "model=" JR_LOG_Q, label);
    jr_gather_forget_model(ctx, label);
}

static void add_tally(struct jr_kv_tally *to, const struct jr_kv_tally *t)
{
    for (int type = JR_KV_STORED; type <= JR_KV_CLEARED; type++)
        for (int result = 0; result < JR_KV_RESULTS; result++)
            to->n[type][result] += t->n[type][result];
}

static void scrape(struct jr_frontend *f, const struct jr_http_server_stats *others)
{
    forget_workers(f);
    forget_models(f);
    jr_worker_lasts_look(&f->lasts);
    jr_request_metrics_count(&f->main.requests, &f->main.proxied);
    process(f, others);
    uint64_t waiting = 0;
    struct jr_kv_tally all = {{{0}}};
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_pool_view v;
        jr_pool_view(jr_driver_pool(f->drivers[i]), &v);
        pool_gauges(f, f->components[i], &v);
        pool_by_reason(f, f->components[i], &v);
        sessions(f, f->components[i], &v.sessions);
        workers(f, i);
        outliers(f, i);
        peers(f, i);
        dynamo_snapshots(f, i);
        classes(f, i);
        add_tally(&all, &v.counters.applied);
        waiting += v.queue.waiting;
    }
    applied(f, &all);
    jr_worker_lasts_looked(&f->lasts);
    if (f->nats)
        leases(f);
    if (!f->policy)
        jr_metric_set(f->metrics, JR_METRIC_FRONTEND_ROUTER_QUEUE_PENDING,
                      JR_LABELS("decode", "", ""), (double)waiting);
}

void jr_scrape_answer(struct jr_frontend *f, struct jr_gathered *others,
                      struct jr_http_request *req)
{
    struct jr_buf b;
    jr_buf_init(&b, METRICS_BYTES_MAX);
    scrape(f, &others->stats);
    if (f->n_others > 0)
        jr_metrics_merge(others->metrics, f->metrics);
    struct jr_metrics *all = f->n_others > 0 ? others->metrics : f->metrics;
    jr_metrics_set_prefix(all, jr_config_str(f->cfg, JR_CFG_METRICS_PREFIX));
    jr_metrics_render(all, &b);
    jr_http_respond(req, b.err ? 500 : 200, JR_METRICS_CONTENT_TYPE, NULL, b.p, b.err ? 0 : b.n);
    jr_buf_deinit(&b);
    if (f->gathering == 0) /* else another look would show a part of what goes */
        jr_model_series_look(&f->model_series, all, jr_loop_now_ms(f->loop), is_served,
                             on_model_gone, f);
}
