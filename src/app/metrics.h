/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: counters, gauges and histograms of one process, from metrics_table.h, as Prometheus text.
 *
 *     jr_metric_add(m, JR_METRIC_HTTP_ERRORS_TOTAL, JR_LABELS("503"), 1);
 *     jr_metric_set(m, JR_METRIC_APPLIED_SEQ, JR_LABELS(ns, component), (double)seq);
 *     jr_metric_observe(m, JR_METRIC_DECISION_SECONDS, JR_NO_LABELS, seconds);
 *
 * Owned by one loop thread; nothing here locks. A label set is created at its first use; a metric
 * has at most its row's number of sets, further ones are dropped and counted in
 * jetrouter_metric_label_overflow_total. Values of labels are copied and cut at JR_NAME_MAX bytes. */
#ifndef JR_APP_METRICS_H
#define JR_APP_METRICS_H

#include "app/metrics_table.h"
#include "base/buf.h"
#include <stdbool.h>
#include <stdint.h>

enum jr_metric_type { JR_METRIC_TYPE_COUNTER, JR_METRIC_TYPE_GAUGE, JR_METRIC_TYPE_HISTOGRAM };

enum jr_metric_buckets {
    JR_BUCKETS_NONE,
#define X(name, ...) JR_BUCKETS_##name,
    JR_METRIC_BUCKETS_TABLE(X)
#undef X
        JR_BUCKETS_COUNT
};

enum jr_metric_key {
#define X(key, ...) JR_METRIC_##key,
    JR_METRIC_TABLE(X)
#undef X
        JR_METRIC_COUNT
};

struct jr_metric_row {
    const char *name;
    enum jr_metric_type type;
    const char *unit;   /* "" when it is a plain number */
    const char *labels; /* names separated by spaces; "" for none */
    unsigned sets_max;  /* label sets */
    enum jr_metric_buckets buckets;
    const char *help;
};

struct jr_metrics;
struct jr_series; /* one label set of one metric */

/* The values of a row's labels, in its order. */
#define JR_LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define JR_NO_LABELS   NULL

struct jr_metrics *jr_metrics_create(void);
void jr_metrics_destroy(struct jr_metrics *m); /* NULL is fine */
const struct jr_metric_row *jr_metric_row(enum jr_metric_key key);

/* Counters. jr_metric_set on a counter copies one that is kept elsewhere. */
void jr_metric_add(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels,
                   uint64_t n);
void jr_metric_set(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels,
                   double value);
void jr_metric_observe(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels,
                       double value);

/* The same without the look-up, for hot paths: the set stays valid until it is dropped. NULL when
 * the metric has no room for it; the functions below take NULL. */
struct jr_series *jr_metric_series(struct jr_metrics *m, enum jr_metric_key key,
                                   const char *const *labels);
void jr_series_add(struct jr_series *s, uint64_t n);
void jr_series_set(struct jr_series *s, double value);
void jr_series_observe(struct jr_series *s, double value);
void jr_series_observe_n(struct jr_series *s, double value, uint64_t n); /* n times the same */

/* Present value (a histogram's count); 0 when there is no such set. For /state and tests. */
double jr_metric_get(const struct jr_metrics *m, enum jr_metric_key key, const char *const *labels);
/* How many sets it has; and what the i-th of them has as its first label. Borrowed until it is dropped;
 * the order is that of creation but for drops. */
uint32_t jr_metric_sets(const struct jr_metrics *m, enum jr_metric_key key);
const char *jr_metric_label(const struct jr_metrics *m, enum jr_metric_key key, uint32_t i);
/* Is it what sets with this value have for a label: itself, or cut? */
bool jr_metric_label_is(const char *label, const char *value);
/* Drops every set, of any metric, in which this label has this value: a worker, pool or model that left.
 * Who holds one of them from jr_metric_series lets go of it before. */
void jr_metrics_forget(struct jr_metrics *m, const char *label, const char *value);
/* Drops this one, if there is one; nobody may hold it. */
void jr_metric_drop(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels);

/* Copies the process's counts of base/limit.h. */
void jr_metrics_limits(struct jr_metrics *m);

/* Adds all of from to what to has: counts, sums and gauges. */
void jr_metrics_merge(struct jr_metrics *to, const struct jr_metrics *from);

/* Dynamo's frontend's metrics are rendered with this instead of JR_METRICS_PREFIX; borrows. */
#define JR_METRICS_PREFIX "dynamo_frontend"
void jr_metrics_set_prefix(struct jr_metrics *m, const char *prefix);

/* Prometheus text format 0.0.4, in the order of the table. */
#define JR_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
void jr_metrics_render(const struct jr_metrics *m, struct jr_buf *b);

#endif
