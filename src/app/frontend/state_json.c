/* SPDX-License-Identifier: Apache-2.0 */
/* /state and /workers: what a person or a test wants to know of a replica. docs/protocol.md §8. 64-bit ids are
 * strings: JSON readers lose digits of large numbers. */
#include "app/frontend/pools.h"

#include "base/map.h"
#include "jetrouter/version.h"

static void put_u64s(struct jr_buf *b, const char *key, uint64_t v)
{
    jr_buf_printf(b, "\"%s\":\"%llu\",", key, (unsigned long long)v);
}

static void put_u64(struct jr_buf *b, const char *key, uint64_t v)
{
    jr_buf_printf(b, "\"%s\":%llu,", key, (unsigned long long)v);
}

static void put_str(struct jr_buf *b, const char *key, const char *v)
{
    jr_buf_printf(b, "\"%s\":", key);
    jr_buf_json_str(b, v);
    jr_buf_puts(b, ",");
}

static void put_bool(struct jr_buf *b, const char *key, bool v)
{
    jr_buf_printf(b, "\"%s\":%s,", key, v ? "true" : "false");
}

/* The last comma goes. */
static void end_object(struct jr_buf *b)
{
    if (b->n && b->p[b->n - 1] == ',')
        b->n--;
    jr_buf_puts(b, "}");
}

/* One number that covers both digests, for comparing replicas at a glance. */
static uint64_t digest_of(uint64_t blocks, uint64_t table)
{
    return jr_mix64(blocks ^ jr_mix64(table));
}

static void put_digest(struct jr_buf *b, const char *key, uint64_t blocks, uint64_t table)
{
    jr_buf_printf(b, "\"%s\":\"%016llx\",", key, (unsigned long long)digest_of(blocks, table));
}

/* What both /state and /workers say of a rank. */
static void load(const struct jr_worker_view *w, struct jr_buf *b)
{
    put_u64(b, "blocks", w->blocks);
    put_u64(b, "active_blocks", w->active_blocks);
    put_u64(b, "active_prefill_tokens", w->active_prefill_tokens);
    put_u64(b, "active_requests", w->active_requests);
    jr_buf_printf(b, "\"backlog_seconds\":%.3f,", w->backlog_seconds);
}

static void workers(struct jr_frontend *f, uint32_t i, struct jr_buf *b)
{
    struct jr_worker_view w;
    bool first = true;
    jr_buf_puts(b, "\"workers\":[");
    for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);) {
        jr_buf_puts(b, first ? "{" : ",{");
        first = false;
        put_u64s(b, "worker_id", w.worker_id);
        put_u64(b, "dp_rank", w.dp_rank);
        put_str(b, "url", w.url);
        put_str(b, "model", w.model);
        put_str(b, "state", jr_worker_state_name(w.state));
        put_bool(b, "credited", w.credited);
        put_bool(b, "aside", jr_outlier_is_aside(&f->pools->outliers[i], w.worker_id));
        load(&w, b);
        jr_buf_printf(b, "\"digest\":\"%016llx\",", (unsigned long long)w.digest);
        end_object(b);
    }
    jr_buf_puts(b, "],");
}

static void peers(struct jr_frontend *f, uint32_t i, struct jr_buf *b)
{
    struct jr_peer_view p;
    bool first = true;
    jr_buf_puts(b, "\"peers\":[");
    for (uint32_t pos = 0; jr_pool_next_peer(jr_driver_pool(f->drivers[i]), &pos, &p);) {
        jr_buf_puts(b, first ? "{" : ",{");
        first = false;
        put_str(b, "id", p.id);
        put_u64s(b, "incarnation", p.incarnation);
        put_str(b, "version", p.version);
        put_str(b, "address", p.address);
        put_bool(b, "listed", p.listed);
        put_bool(b, "ready", p.ready);
        put_bool(b, "base_read", p.base_read);
        put_u64(b, "applied_seq", p.applied_seq);
        put_digest(b, "digest", p.point.blocks, p.point.table);
        put_u64(b, "digest_seq", p.point.seq);
        put_u64(b, "active_requests", p.active_requests);
        end_object(b);
    }
    jr_buf_puts(b, "],");
}

static void snapshot(const struct jr_pool_view *v, struct jr_buf *b)
{
    const struct jr_snapshot_ref *s = &v->snapshots.newest;
    if (!s->object[0]) {
        jr_buf_puts(b, "\"snapshot\":null,");
        return;
    }
    jr_buf_puts(b, "\"snapshot\":{");
    put_str(b, "object", s->object);
    put_u64(b, "seq", s->seq);
    put_u64(b, "bytes", s->bytes);
    put_u64(b, "created", (uint64_t)(s->created_ns / 1000000000));
    put_u64(b, "previous_seq", v->snapshots.previous.seq);
    put_bool(b, "running", v->snapshot_running);
    end_object(b);
    jr_buf_puts(b, ",");
}

static void classes(const struct jr_pool *p, struct jr_buf *b)
{
    struct jr_class_view c;
    bool first = true;
    jr_buf_puts(b, "\"classes\":[");
    for (uint32_t pos = 0; jr_pool_next_class(p, &pos, &c);) {
        jr_buf_puts(b, first ? "{" : ",{");
        first = false;
        put_str(b, "model", c.model);
        put_str(b, "policy_class", c.name);
        put_u64(b, "waiting", c.requests);
        put_u64(b, "isl_tokens", c.isl_tokens);
        put_u64(b, "cached_tokens", c.cached_tokens);
        end_object(b);
    }
    jr_buf_puts(b, "],");
}

static void queue(const struct jr_pool *p, const struct jr_queue_view *q, struct jr_buf *b)
{
    static const char *const policies[] = {"fcfs", "wspt", "lcfs"};
    jr_buf_puts(b, "\"queue\":{");
    put_bool(b, "on", q->on);
    if (q->on && !q->by_policy)
        jr_buf_printf(b, "\"threshold\":%g,", q->threshold);
    put_str(b, "policy", q->by_policy ? "classes" : policies[q->policy]);
    classes(p, b);
    put_u64(b, "waiting", q->waiting);
    put_u64(b, "waiting_tokens", q->waiting_tokens);
    put_u64(b, "oldest_ms", q->oldest_ms);
    put_u64(b, "lanes", q->lanes);
    put_u64(b, "max", q->max);
    end_object(b);
    jr_buf_puts(b, ",");
}

static void sessions(const struct jr_sessions_view *s, struct jr_buf *b)
{
    if (!s->on)
        return;
    jr_buf_puts(b, "\"sessions\":{");
    put_bool(b, "open", s->open);
    put_u64(b, "bound", s->n);
    put_u64(b, "told", s->counters.told);
    put_u64(b, "heard", s->counters.heard);
    put_u64(b, "honoured", s->counters.honoured);
    put_u64(b, "moved", s->counters.moved);
    put_u64(b, "evicted", s->counters.evicted);
    end_object(b);
    jr_buf_puts(b, ",");
}

static void counters(const struct jr_pool_counters *c, struct jr_buf *b)
{
    jr_buf_puts(b, "\"counters\":{");
    put_u64(b, "decisions", c->decisions);
    put_u64(b, "rejected", c->rejected_no_worker);
    put_u64(b, "rejected_busy", c->rejected_busy);
    put_u64(b, "rejected_queue_full", c->rejected_queue_full);
    put_u64(b, "rejected_timeout", c->rejected_timeout);
    put_u64(b, "queued", c->queued);
    put_u64(b, "queue_cancelled", c->queue_cancelled);
    put_u64(b, "log_messages", c->log_messages);
    put_u64(b, "kv_events", c->kv_events);
    put_u64(b, "dropped_unknown_parent", c->dropped_unknown_parent);
    put_u64(b, "dropped_stale", c->dropped_stale);
    put_u64(b, "dropped_hole", c->dropped_hole);
    put_u64(b, "undecodable", c->undecodable);
    put_u64(b, "skipped", c->skipped);
    put_u64(b, "snapshots", c->snapshots);
    put_u64(b, "snapshot_failures", c->snapshot_failures);
    put_u64(b, "adoptions", c->adoptions);
    put_u64(b, "reloads", c->reloads);
    put_u64(b, "recoveries", c->recoveries);
    put_u64(b, "purged_to", c->purged_to);
    put_u64(b, "reannounce", c->reannounce);
    put_u64(b, "sync_gaps", c->sync_gaps);
    put_u64(b, "overlap_blocks", c->overlap_blocks);
    put_u64(b, "prompt_blocks", c->prompt_blocks);
    end_object(b);
    jr_buf_puts(b, ",");
}

static void pool(struct jr_frontend *f, uint32_t i, struct jr_buf *b)
{
    struct jr_pool_view v;
    struct jr_driver_stats stats;
    jr_pool_view(jr_driver_pool(f->drivers[i]), &v);
    jr_driver_stats(f->drivers[i], &stats);
    jr_buf_puts(b, i ? ",{" : "{");
    put_str(b, "namespace", f->namespace_);
    put_str(b, "component", f->components[i]);
    put_str(b, "stream", jr_driver_stream(f->drivers[i]));
    put_u64s(b, "stream_created", (uint64_t)v.stream_created_ns);
    put_u64(b, "applied_seq", v.applied_seq);
    put_u64(b, "stream_first_seq", v.stream_first_seq);
    put_u64(b, "stream_last_seq", v.stream_last_seq);
    put_digest(b, "digest", v.digest_blocks, v.digest_table);
    put_u64(b, "blocks", v.blocks);
    put_u64(b, "entries", v.entries);
    put_u64(b, "believed_entries", v.believed);
    put_u64(b, "index_bytes", v.index_bytes);
    put_u64(b, "block_size", v.block_size);
    put_u64(b, "agreed_block_size", v.agreed_block_size);
    put_str(b, "recovery_state", v.recovery_state);
    put_str(b, "not_ready_because", v.not_ready_because);
    put_str(b, "open_failed_because", jr_driver_open_failed(f->drivers[i]));
    put_bool(b, "ready", v.ready);
    put_bool(b, "leader", v.leader);
    put_bool(b, "index_is_old", v.index_is_old);
    put_bool(b, "truncated", v.truncated);
    put_bool(b, "digest_mismatch", v.digest_mismatch);
    put_str(b, "may_forget_because", v.may_forget_because);
    put_u64(b, "foreign_consumers", v.foreign_consumers);
    put_str(b, "snapshot_stage", v.snapshot_stage);
    put_u64(b, "snapshot_failures_in_a_row", v.snapshot_failures);
    put_str(b, "snapshot_failed_because", v.snapshot_failed_because);
    put_u64(b, "rule_version", v.rule_version);
    put_u64(b, "epoch", v.epoch.n);
    put_u64(b, "restored_entries", v.restored_entries);
    put_u64(b, "restore_total", v.restore_total);
    put_u64(b, "bookings", v.n_bookings);
    put_str(b, "tokenizer", jr_tokenizer_state_name(jr_tokenizer_state(f->tokenizer, i)));
    jr_buf_printf(b, "\"speed_factor\":%.3f,", v.speed_factor);
    put_u64(b, "applied_seq_at_ready", stats.applied_seq_at_ready);
    put_u64(b, "stream_last_seq_at_start", stats.stream_last_at_start);
    put_u64(b, "step_max_us", stats.step_max_us);
    jr_buf_printf(b, "\"sync_delay_ms\":%.3f,", stats.sync_delay_ms);
    workers(f, i, b);
    queue(jr_driver_pool(f->drivers[i]), &v.queue, b);
    sessions(&v.sessions, b);
    snapshot(&v, b);
    peers(f, i, b);
    counters(&v.counters, b);
    end_object(b);
}

static void nats(struct jr_frontend *f, struct jr_buf *b)
{
    struct jr_nats_counters c = {0};
    uint64_t ms;
    int64_t since;
    if (f->nats)
        jr_nats_counters_get(f->nats, &c);
    jr_buf_puts(b, "\"nats\":{");
    put_bool(b, "connected", f->nats && jr_nats_connected(f->nats));
    put_str(b, "server", f->nats_url);
    put_u64(b, "reconnects", c.connects ? c.connects - 1 : 0);
    bool degraded = jr_frontend_degraded(f, &ms, &since);
    put_bool(b, "degraded", degraded);
    put_str(b, "because", degraded ? jr_frontend_degraded_because(f) : "");
    put_u64(b, "degraded_since", (uint64_t)since); /* Unix seconds; 0: not degraded */
    jr_buf_printf(b, "\"degraded_seconds\":%.1f,", (double)ms / 1e3);
    end_object(b);
    jr_buf_puts(b, ",");
}

void jr_state_json(struct jr_frontend *f, struct jr_buf *b)
{
    const char *why;
    bool ready = jr_frontend_ready(f, &why);
    jr_buf_puts(b, "{\"replica\":{");
    put_str(b, "id", f->replica_id);
    put_u64s(b, "incarnation", f->incarnation);
    put_str(b, "version", JETROUTER_VERSION);
    put_bool(b, "ready", ready);
    put_str(b, "because", why);
    put_bool(b, "draining", f->draining);
    put_u64(b, "inflight", jr_frontend_inflight(f));
    put_u64(b, "uptime_s", (jr_loop_now_ns() / 1000000 - f->started_ms) / 1000);
    end_object(b);
    jr_buf_puts(b, ",");
    nats(f, b);
    jr_buf_puts(b, "\"pools\":[");
    for (uint32_t i = 0; i < f->n_drivers; i++)
        pool(f, i, b);
    jr_buf_puts(b, "]}");
}

/* ---------------------------------------------------------------- /workers */

static void begin_worker(struct jr_frontend *f, uint32_t i, const struct jr_worker_view *w,
                         struct jr_buf *b)
{
    put_u64s(b, "worker_id", w->worker_id);
    put_str(b, "model", w->model);
    put_str(b, "address", w->url);
    put_str(b, "device", w->on_cpu ? "cpu" : "gpu");
    put_str(b, "state", jr_worker_state_name(w->state));
    put_bool(b, "aside", jr_outlier_is_aside(&f->pools->outliers[i], w->worker_id));
    jr_buf_puts(b, "\"ranks\":[");
}

static void rank(const struct jr_worker_view *w, struct jr_buf *b)
{
    jr_buf_puts(b, "{");
    put_u64(b, "dp_rank", w->dp_rank);
    put_bool(b, "credited", w->credited);
    load(w, b);
    end_object(b);
}

/* The ranks of a worker follow each other in the pool's walk. */
static void grouped(struct jr_frontend *f, uint32_t i, struct jr_buf *b)
{
    struct jr_worker_view w;
    uint64_t last = 0;
    bool open = false;
    for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);) {
        bool same = open && w.worker_id == last;
        jr_buf_puts(b, same ? "," : open ? "]},{" : "{");
        if (!same)
            begin_worker(f, i, &w, b);
        rank(&w, b);
        open = true;
        last = w.worker_id;
    }
    jr_buf_puts(b, open ? "]}" : "");
}

void jr_workers_json(struct jr_frontend *f, struct jr_buf *b)
{
    jr_buf_puts(b, "{\"pools\":[");
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        jr_buf_puts(b, i ? ",{" : "{");
        put_str(b, "namespace", f->namespace_);
        put_str(b, "component", f->components[i]);
        jr_buf_puts(b, "\"workers\":[");
        grouped(f, i, b);
        jr_buf_puts(b, "]}");
    }
    jr_buf_puts(b, "]}");
}
