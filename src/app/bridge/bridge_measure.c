/* SPDX-License-Identifier: Apache-2.0 */
/* What a bridge tells of itself: its status, a line of the log now and then, and the metrics. */
#include "app/bridge/bridge_internal.h"

#include "base/limit.h"
#include "base/log.h"

#include <stdio.h>

#define NUMBER_MAX 24

static const char *why_not(const struct jr_bridge *b)
{
    if (jr_bridge_registered(b))
        return "";
    if (!b->healthy)
        return b->health_failures || !b->listening ? "the engine's /health does not answer"
                                                   : "the engine does not say its block size yet";
    if (jr_bridge_refused(b))
        return "the engine's block size is not the pool's";
    if (!jr_bridge_hub_ready(b->hub))
        return jr_bridge_hub_not_ready(b->hub);
    return "its blocks are not announced yet";
}

void jr_bridge_status(const struct jr_bridge *b, struct jr_bridge_status *ret)
{
    *ret = (struct jr_bridge_status){.worker_id = b->worker_id,
                                     .url = b->config.engine_url,
                                     .healthy = b->healthy,
                                     .registered = jr_bridge_registered(b),
                                     .because = why_not(b),
                                     .n_ranks = b->n_sources};
}

void jr_bridge_rank_status(const struct jr_bridge *b, uint32_t i, struct jr_bridge_rank_status *ret)
{
    const struct jr_bridge_source *s = b->sources[i];
    *ret = (struct jr_bridge_rank_status){.dp_rank = s->rank.config.dp_rank,
                                          .mirror_blocks = s->rank.mirror.n,
                                          .pending_events = jr_bridge_rank_pending(&s->rank),
                                          .replays_filled = s->replays_filled,
                                          .replays_failed = s->replays_failed,
                                          .feed = s->feed.counters,
                                          .rank = s->rank.counters,
                                          .mirror = s->rank.mirror.counters};
}

/* ---------------------------------------------------------------- the log */

static void log_rank(const struct jr_bridge *b, const struct jr_bridge_rank_status *r)
{
    uint64_t begins = 0;
    for (int i = 0; i < JR_BEGIN_REASONS; i++)
        begins += r->rank.begins[i];
    jr_log(JR_LOG_INFO, "bridge.summary",
           "worker=%llu dp_rank=%u healthy=%d registered=%d blocks=%u pending=%u messages=%llu "
           "bad=%llu gaps=%llu jumps=%llu restarts=%llu batches=%llu events=%llu acks=%llu "
           "retries=%llu begins=%llu unknown_parent=%llu",
           (unsigned long long)b->worker_id, r->dp_rank, b->healthy, jr_bridge_registered(b),
           r->mirror_blocks, r->pending_events, (unsigned long long)r->feed.msgs,
           (unsigned long long)r->feed.bad, (unsigned long long)r->feed.gaps,
           (unsigned long long)r->feed.jumps, (unsigned long long)r->feed.restarts,
           (unsigned long long)r->rank.batches, (unsigned long long)r->rank.batch_events,
           (unsigned long long)r->rank.acks, (unsigned long long)r->rank.retries,
           (unsigned long long)begins, (unsigned long long)r->mirror.unknown_parent);
}

void jr_bridge_log_summary(const struct jr_bridge *b)
{
    for (uint32_t i = 0; i < b->n_sources; i++) {
        struct jr_bridge_rank_status r;
        jr_bridge_rank_status(b, i, &r);
        log_rank(b, &r);
    }
}

/* ---------------------------------------------------------------- metrics */

/* Who it is about: the first two labels of nearly all of them. */
struct names {
    struct jr_metrics *m;
    char worker[NUMBER_MAX], rank[NUMBER_MAX];
};

static void name(struct names *n, struct jr_metrics *m, const struct jr_bridge *b, uint32_t dp_rank)
{
    n->m = m;
    snprintf(n->worker, sizeof n->worker, "%llu", (unsigned long long)b->worker_id);
    snprintf(n->rank, sizeof n->rank, "%u", dp_rank);
}

static void put(const struct names *n, enum jr_metric_key key, uint64_t value)
{
    jr_metric_set(n->m, key, JR_LABELS(n->worker, n->rank), (double)value);
}

static void put_of(const struct names *n, enum jr_metric_key key, const char *of, uint64_t value)
{
    jr_metric_set(n->m, key, JR_LABELS(n->worker, n->rank, of), (double)value);
}

static void put_engine(const struct names *n, const struct jr_bridge_rank_status *r)
{
    put_of(n, JR_METRIC_BRIDGE_ENGINE_EVENTS_TOTAL, "stored", r->feed.stored);
    put_of(n, JR_METRIC_BRIDGE_ENGINE_EVENTS_TOTAL, "removed", r->feed.removed);
    put_of(n, JR_METRIC_BRIDGE_ENGINE_EVENTS_TOTAL, "cleared", r->feed.cleared);
    put_of(n, JR_METRIC_BRIDGE_ENGINE_EVENTS_TOTAL, "ignored", r->feed.ignored);
    put(n, JR_METRIC_BRIDGE_GAPS_TOTAL, r->feed.gaps);
    put_of(n, JR_METRIC_BRIDGE_REPLAYS_TOTAL, "filled", r->replays_filled);
    put_of(n, JR_METRIC_BRIDGE_REPLAYS_TOTAL, "failed", r->replays_failed);
    put_of(n, JR_METRIC_BRIDGE_BLOCKS_DROPPED_TOTAL, "unknown_parent", r->mirror.unknown_parent);
    put_of(n, JR_METRIC_BRIDGE_BLOCKS_DROPPED_TOTAL, "unreachable", r->mirror.unreachable);
    put_of(n, JR_METRIC_BRIDGE_BLOCKS_DROPPED_TOTAL, "full", r->mirror.refused);
}

static void put_published(const struct names *n, const struct jr_bridge_rank_status *r)
{
    put(n, JR_METRIC_BRIDGE_BATCHES_TOTAL, r->rank.batches);
    put(n, JR_METRIC_BRIDGE_BATCH_EVENTS_TOTAL, r->rank.batch_events);
    put(n, JR_METRIC_BRIDGE_ACKS_TOTAL, r->rank.acks);
    put(n, JR_METRIC_BRIDGE_RETRIES_TOTAL, r->rank.retries);
    for (int i = 0; i < JR_BEGIN_REASONS; i++)
        put_of(n, JR_METRIC_BRIDGE_BEGINS_TOTAL, jr_begin_reason_name((enum jr_begin_reason)i),
               r->rank.begins[i]);
    put(n, JR_METRIC_BRIDGE_PENDING_EVENTS, r->pending_events);
    put(n, JR_METRIC_BRIDGE_MIRROR_BLOCKS, r->mirror_blocks);
}

static void put_row(const struct names *n, const char *row, const struct jr_bridge_rank *r)
{
    const struct jr_mirror_counters *c = &r->mirror.counters;
    put_of(n, JR_METRIC_BRIDGE_ROW_BLOCKS, row, r->mirror.n);
    put_of(n, JR_METRIC_BRIDGE_ROW_BATCHES_TOTAL, row, r->counters.batches);
    put_of(n, JR_METRIC_BRIDGE_ROW_PENDING_EVENTS, row, jr_bridge_rank_pending(r));
    put_of(n, JR_METRIC_BRIDGE_ROW_BLOCKS_DROPPED_TOTAL, row,
           c->unknown_parent + c->unreachable + c->refused);
}

static void put_lower(const struct names *n, const struct jr_bridge_lower *l)
{
    if (!l)
        return;
    put_of(n, JR_METRIC_BRIDGE_LOWER_BLOCKS, "host", l->on_host);
    put_of(n, JR_METRIC_BRIDGE_LOWER_BLOCKS, "disk", l->on_disk);
    put_row(n, "host", &l->rows[JR_LOWER_HOST]);
    put_row(n, "any", &l->rows[JR_LOWER_ANY]);
}

void jr_bridge_measure(const struct jr_bridge *b, struct jr_metrics *m)
{
    struct names n;
    uint64_t bad = 0;
    for (uint32_t i = 0; i < b->n_sources; i++) {
        struct jr_bridge_rank_status r;
        jr_bridge_rank_status(b, i, &r);
        name(&n, m, b, r.dp_rank);
        put_engine(&n, &r);
        put_published(&n, &r);
        put_lower(&n, b->sources[i]->lower);
        bad += r.feed.bad;
    }
    const char *const *labels = JR_LABELS(n.worker);
    jr_metric_set(m, JR_METRIC_BRIDGE_ENGINE_MESSAGES_BAD_TOTAL, labels, (double)bad);
    jr_metric_set(m, JR_METRIC_BRIDGE_ENGINE_HEALTHY, labels, b->healthy);
    jr_metric_set(m, JR_METRIC_BRIDGE_REGISTERED, labels, jr_bridge_registered(b));
    jr_metric_set(m, JR_METRIC_BRIDGE_BLOCK_SIZE_REFUSED, labels, jr_bridge_refused(b));
}

void jr_bridge_unmeasure(const struct jr_bridge *b, struct jr_metrics *m)
{
    struct names n;
    name(&n, m, b, 0);
    jr_metrics_forget(m, "worker_id", n.worker);
}

void jr_bridge_measure_ack(const struct jr_bridge_flow *f)
{
    struct names n;
    const struct jr_bridge_source *s = f->source;
    struct jr_metrics *m = s->bridge->hub->config.metrics;
    if (!m || s->bridge->ended)
        return;
    name(&n, m, s->bridge, s->rank.config.dp_rank);
    jr_metric_observe(m, JR_METRIC_BRIDGE_ACK_SECONDS, JR_LABELS(n.worker, n.rank),
                      (double)(jr_loop_now_ns() - f->sent_at_ns) / 1e9);
}

void jr_bridge_hub_measure(struct jr_bridge_hub *h)
{
    const struct jr_bridge *b;
    struct jr_metrics *m = h->config.metrics;
    if (!m)
        return;
    for (uint32_t i = 0; (b = jr_bridge_hub_at(h, i)); i++)
        jr_bridge_measure(b, m);
    jr_metrics_limits(m);
    jr_metric_set(m, JR_METRIC_LEASE_RENEWALS_TOTAL, JR_LABELS("ok"), (double)h->leases_renewed);
    jr_metric_set(m, JR_METRIC_LEASE_RENEWALS_TOTAL, JR_LABELS("failed"),
                  (double)h->leases_not_renewed);
}
