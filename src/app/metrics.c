/* SPDX-License-Identifier: Apache-2.0 */
#include "app/metrics.h"
#include "base/assert.h"
#include "base/limit.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MAX 6

struct jr_series {
    enum jr_metric_key key;
    uint32_t at; /* place in its family */
    uint64_t hash;
    char *values[LABELS_MAX]; /* owned */
    uint64_t count;           /* counter; histogram: samples */
    double value;             /* gauge; histogram: sum */
    uint64_t *below; /* owned; histogram: samples in each bucket, not cumulative; last is +Inf */
};

/*   families[key].v ──► series ──► series …       in order of creation (a drop swaps)
 *   by_hash: hash(key, values) ──► series          */
struct jr_metrics {
    struct family {
        struct jr_series **v;
        uint32_t n, cap;
        struct jr_series *last; /* looked up: the next look is mostly for the same */
    } families[JR_METRIC_COUNT];
    struct jr_mem mem;
    struct jr_map by_hash;
    const char *prefix; /* instead of JR_METRICS_PREFIX; NULL: that */
};

static const struct jr_metric_row rows[JR_METRIC_COUNT] = {
#define X(key, type_, name_, unit_, labels_, sets_, buckets_, help_)                               \
    [JR_METRIC_##key] = {.name = name_,                                                            \
                         .type = JR_METRIC_TYPE_##type_,                                           \
                         .unit = unit_,                                                            \
                         .labels = labels_,                                                        \
                         .sets_max = sets_,                                                        \
                         .buckets = JR_BUCKETS_##buckets_,                                         \
                         .help = help_},
    JR_METRIC_TABLE(X)
#undef X
};

#define X(name, ...) static const double bounds_##name[] = {__VA_ARGS__};
JR_METRIC_BUCKETS_TABLE(X)
#undef X

static const struct {
    const double *v;
    unsigned n;
} buckets[JR_BUCKETS_COUNT] = {
#define X(name, ...) [JR_BUCKETS_##name] = {bounds_##name, sizeof bounds_##name / sizeof(double)},
    JR_METRIC_BUCKETS_TABLE(X)
#undef X
};

const struct jr_metric_row *jr_metric_row(enum jr_metric_key key)
{
    JR_ASSERT((unsigned)key < JR_METRIC_COUNT);
    return &rows[key];
}

/* ---------------------------------------------------------------- label sets */

static unsigned labels_count(const char *labels)
{
    unsigned n = labels[0] != '\0';
    for (const char *p = labels; *p; p++)
        n += *p == ' ';
    return n;
}

/* Length of a value as it is kept: cut at JR_NAME_MAX, not within a UTF-8 character. */
static size_t kept(const char *value)
{
    size_t n = strnlen(value, JR_NAME_MAX + 1);
    if (n <= JR_NAME_MAX)
        return n;
    n = JR_NAME_MAX;
    while (n > 0 && ((unsigned char)value[n] & 0xC0) == 0x80)
        n--;
    return n;
}

/* FNV-1a over the key and the values, each ended by a zero. The key is multiplied before a value comes:
 * else that of one metric and "a" were that of another and "b". */
static uint64_t hash_of(enum jr_metric_key key, const char *const *labels)
{
    uint64_t h = (UINT64_C(0xcbf29ce484222325) ^ (uint64_t)key) * UINT64_C(0x100000001b3);
    for (; labels && *labels; labels++) {
        size_t n = kept(*labels);
        for (size_t i = 0; i < n; i++)
            h = (h ^ (unsigned char)(*labels)[i]) * UINT64_C(0x100000001b3);
        h *= UINT64_C(0x100000001b3);
    }
    return jr_mix64(h);
}

static bool same(const struct jr_series *s, enum jr_metric_key key, const char *const *labels)
{
    if (s->key != key)
        return false;
    unsigned i = 0;
    for (; labels && labels[i]; i++) {
        if (i == LABELS_MAX || !s->values[i])
            return false;
        size_t n = kept(labels[i]);
        if (strncmp(s->values[i], labels[i], n) != 0 || s->values[i][n] != '\0')
            return false;
    }
    return i == LABELS_MAX || !s->values[i];
}

static struct jr_series *find(const struct jr_metrics *m, enum jr_metric_key key,
                              const char *const *labels, uint64_t hash, bool *ret_taken)
{
    uint64_t p;
    *ret_taken = jr_map_get(&m->by_hash, hash, &p);
    if (!*ret_taken)
        return NULL;
    struct jr_series *s = (struct jr_series *)(uintptr_t)p;
    return same(s, key, labels) ? s : NULL;
}

static struct jr_series *add_series(struct jr_metrics *m, enum jr_metric_key key,
                                    const char *const *labels, uint64_t hash)
{
    struct family *f = &m->families[key];
    struct jr_series *s = jr_xalloc(sizeof *s);
    s->key = key;
    s->hash = hash;
    for (unsigned i = 0; labels && labels[i]; i++)
        s->values[i] = jr_xstrndup(labels[i], kept(labels[i]));
    if (rows[key].type == JR_METRIC_TYPE_HISTOGRAM)
        s->below = jr_xalloc((buckets[rows[key].buckets].n + 1) * sizeof *s->below);
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 4;
        f->v = jr_xrealloc(f->v, f->cap * sizeof(struct jr_series *));
    }
    s->at = f->n;
    f->v[f->n++] = s;
    if (jr_map_put(&m->by_hash, hash, (uint64_t)(uintptr_t)s) < 0)
        abort();
    return s;
}

static void free_series(struct jr_series *s)
{
    for (unsigned i = 0; i < LABELS_MAX; i++)
        jr_xfree(s->values[i]);
    jr_xfree(s->below);
    jr_xfree(s);
}

static void drop_series(struct jr_metrics *m, struct jr_series *s)
{
    struct family *f = &m->families[s->key];
    struct jr_series *last = f->v[--f->n];
    f->v[s->at] = last;
    last->at = s->at;
    f->last = NULL;
    (void)jr_map_del(&m->by_hash, s->hash, NULL);
    free_series(s);
}

struct jr_metrics *jr_metrics_create(void)
{
    struct jr_metrics *m = jr_xalloc(sizeof *m);
    jr_mem_init(&m->mem);
    jr_map_init(&m->by_hash, &m->mem);
    return m;
}

void jr_metrics_set_prefix(struct jr_metrics *m, const char *prefix)
{
    m->prefix = prefix;
}

void jr_metrics_destroy(struct jr_metrics *m)
{
    if (!m)
        return;
    for (int i = 0; i < JR_METRIC_COUNT; i++) {
        for (uint32_t j = 0; j < m->families[i].n; j++)
            free_series(m->families[i].v[j]);
        jr_xfree(m->families[i].v);
    }
    jr_map_deinit(&m->by_hash);
    jr_mem_deinit(&m->mem);
    jr_xfree(m);
}

struct jr_series *jr_metric_series(struct jr_metrics *m, enum jr_metric_key key,
                                   const char *const *labels)
{
    JR_ASSERT((unsigned)key < JR_METRIC_COUNT);
    struct family *f = &m->families[key];
    if (f->last && same(f->last, key, labels))
        return f->last;
    unsigned n = 0;
    while (labels && labels[n])
        n++;
    JR_ASSERT(n == labels_count(rows[key].labels) && n <= LABELS_MAX);
    bool taken;
    uint64_t hash = hash_of(key, labels);
    struct jr_series *s = find(m, key, labels, hash, &taken);
    if (!s && !taken && f->n < rows[key].sets_max)
        s = add_series(m, key, labels, hash);
    if (s)
        return f->last = s;
    jr_metric_add(m, JR_METRIC_METRIC_LABEL_OVERFLOW_TOTAL, JR_LABELS(rows[key].name), 1);
    return NULL;
}

uint32_t jr_metric_sets(const struct jr_metrics *m, enum jr_metric_key key)
{
    return m->families[key].n;
}

const char *jr_metric_label(const struct jr_metrics *m, enum jr_metric_key key, uint32_t i)
{
    JR_ASSERT(i < m->families[key].n && rows[key].labels[0]);
    return m->families[key].v[i]->values[0];
}

bool jr_metric_label_is(const char *label, const char *value)
{
    const size_t n = kept(value);
    return strncmp(label, value, n) == 0 && label[n] == '\0';
}

void jr_metrics_forget(struct jr_metrics *m, const char *label, const char *value)
{
    for (int key = 0; key < JR_METRIC_COUNT; key++) {
        const char *p = rows[key].labels;
        unsigned at = 0;
        bool has = false;
        for (; *p && !has; at += !has) {
            size_t n = strcspn(p, " ");
            has = jr_str_eq(jr_str_of(p, n), label);
            p += n;
            p += *p == ' ';
        }
        struct family *f = &m->families[key];
        for (uint32_t i = 0; has && i < f->n;)
            if (strcmp(f->v[i]->values[at], value) == 0)
                drop_series(m, f->v[i]);
            else
                i++;
    }
}

void jr_metric_drop(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels)
{
    bool taken;
    struct jr_series *s = find(m, key, labels, hash_of(key, labels), &taken);
    if (s)
        drop_series(m, s);
}

/* ---------------------------------------------------------------- values */

void jr_series_add(struct jr_series *s, uint64_t n)
{
    if (!s)
        return;
    JR_ASSERT(rows[s->key].type == JR_METRIC_TYPE_COUNTER);
    s->count += n;
}

void jr_series_set(struct jr_series *s, double value)
{
    if (!s)
        return;
    JR_ASSERT(rows[s->key].type != JR_METRIC_TYPE_HISTOGRAM);
    if (rows[s->key].type == JR_METRIC_TYPE_COUNTER)
        s->count = value > 0 ? (uint64_t)value : 0;
    else
        s->value = value;
}

void jr_series_observe_n(struct jr_series *s, double value, uint64_t times)
{
    if (!s || isnan(value))
        return;
    JR_ASSERT(rows[s->key].type == JR_METRIC_TYPE_HISTOGRAM);
    const double *bounds = buckets[rows[s->key].buckets].v;
    unsigned n = buckets[rows[s->key].buckets].n, i = 0;
    while (i < n && value > bounds[i])
        i++;
    s->below[i] += times;
    s->count += times;
    s->value += value * (double)times;
}

void jr_series_observe(struct jr_series *s, double value)
{
    jr_series_observe_n(s, value, 1);
}

void jr_metric_add(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels,
                   uint64_t n)
{
    jr_series_add(jr_metric_series(m, key, labels), n);
}

void jr_metric_set(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels,
                   double value)
{
    jr_series_set(jr_metric_series(m, key, labels), value);
}

void jr_metric_observe(struct jr_metrics *m, enum jr_metric_key key, const char *const *labels,
                       double value)
{
    jr_series_observe(jr_metric_series(m, key, labels), value);
}

double jr_metric_get(const struct jr_metrics *m, enum jr_metric_key key, const char *const *labels)
{
    bool taken;
    const struct jr_series *s = find(m, key, labels, hash_of(key, labels), &taken);
    if (!s)
        return 0;
    return rows[key].type == JR_METRIC_TYPE_GAUGE ? s->value : (double)s->count;
}

void jr_metrics_limits(struct jr_metrics *m)
{
    for (int i = 0; i < JR_LIMITS; i++)
        jr_metric_set(m, JR_METRIC_LIMIT_REACHED_TOTAL, JR_LABELS(jr_limit_name((enum jr_limit)i)),
                      (double)jr_limit_count((enum jr_limit)i));
}

static void merge_series(struct jr_metrics *to, const struct jr_series *s)
{
    const char *labels[LABELS_MAX + 1] = {0};
    for (unsigned i = 0; i < LABELS_MAX; i++)
        labels[i] = s->values[i];
    struct jr_series *sum = jr_metric_series(to, s->key, labels);
    if (!sum)
        return;
    sum->count += s->count;
    sum->value += s->value;
    for (unsigned i = 0; s->below && i <= buckets[rows[s->key].buckets].n; i++)
        sum->below[i] += s->below[i];
}

void jr_metrics_merge(struct jr_metrics *to, const struct jr_metrics *from)
{
    for (int key = 0; key < JR_METRIC_COUNT; key++)
        for (uint32_t i = 0; i < from->families[key].n; i++)
            merge_series(to, from->families[key].v[i]);
}

/* ---------------------------------------------------------------- exposition */

/* Help: backslash and newline; values of labels: the quote too. */
static void put_escaped(struct jr_buf *b, const char *s, bool quote)
{
    for (; *s; s++)
        if (*s == '\\')
            jr_buf_puts(b, "\\\\");
        else if (*s == '\n')
            jr_buf_puts(b, "\\n");
        else if (*s == '"' && quote)
            jr_buf_puts(b, "\\\"");
        else
            jr_buf_put(b, s, 1);
}

/* The shortest text that reads back as the same number. */
static void put_number(struct jr_buf *b, double v)
{
    char text[40];
    if (isnan(v) || isinf(v)) {
        jr_buf_puts(b, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
        return;
    }
    if (fabs(v) < 9007199254740992.0 && v >= 0 && v <= floor(v)) {
        jr_buf_printf(b, "%.0f", v);
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        double back = strtod(text, NULL);
        if (back >= v && back <= v)
            break;
    }
    jr_buf_puts(b, text);
}

/* {a="x",b="y",le="1"}; le NULL for none. */
static void put_labels(struct jr_buf *b, const struct jr_series *s, const char *le)
{
    const char *p = rows[s->key].labels, *sep = "{";
    for (unsigned i = 0; *p; i++) {
        size_t n = strcspn(p, " ");
        jr_buf_printf(b, "%s%.*s=\"", sep, (int)n, p);
        put_escaped(b, s->values[i], true);
        jr_buf_puts(b, "\"");
        sep = ",";
        p += n;
        p += *p == ' ';
    }
    if (le) {
        jr_buf_printf(b, "%sle=\"%s\"", sep, le);
        sep = ",";
    }
    if (*sep == ',')
        jr_buf_puts(b, "}");
}

/* Dynamo's frontend's begin with what --metrics-prefix says. */
static void put_name(const struct jr_metrics *m, const char *name, struct jr_buf *b)
{
    const size_t n = sizeof JR_METRICS_PREFIX - 1;
    const bool theirs = m->prefix && strncmp(name, JR_METRICS_PREFIX "_", n + 1) == 0;
    jr_buf_printf(b, "%s%s", theirs ? m->prefix : "", theirs ? name + n : name);
}

static void render_histogram(const struct jr_metrics *m, const struct jr_series *s,
                             struct jr_buf *b)
{
    const struct jr_metric_row *row = &rows[s->key];
    uint64_t sum = 0;
    for (unsigned i = 0; i <= buckets[row->buckets].n; i++) {
        char le[32] = "+Inf";
        if (i < buckets[row->buckets].n)
            (void)snprintf(le, sizeof le, "%.15g", buckets[row->buckets].v[i]);
        sum += s->below[i];
        put_name(m, row->name, b);
        jr_buf_puts(b, "_bucket");
        put_labels(b, s, le);
        jr_buf_printf(b, " %" PRIu64 "\n", sum);
    }
    put_name(m, row->name, b);
    jr_buf_puts(b, "_sum");
    put_labels(b, s, NULL);
    jr_buf_puts(b, " ");
    put_number(b, s->value);
    jr_buf_puts(b, "\n");
    put_name(m, row->name, b);
    jr_buf_puts(b, "_count");
    put_labels(b, s, NULL);
    jr_buf_printf(b, " %" PRIu64 "\n", s->count);
}

static void render_series(const struct jr_metrics *m, const struct jr_series *s, struct jr_buf *b)
{
    const struct jr_metric_row *row = &rows[s->key];
    if (row->type == JR_METRIC_TYPE_HISTOGRAM) {
        render_histogram(m, s, b);
        return;
    }
    put_name(m, row->name, b);
    put_labels(b, s, NULL);
    jr_buf_puts(b, " ");
    if (row->type == JR_METRIC_TYPE_COUNTER)
        jr_buf_printf(b, "%" PRIu64, s->count);
    else
        put_number(b, s->value);
    jr_buf_puts(b, "\n");
}

void jr_metrics_render(const struct jr_metrics *m, struct jr_buf *b)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (int key = 0; key < JR_METRIC_COUNT; key++) {
        const struct family *f = &m->families[key];
        if (f->n == 0)
            continue;
        jr_buf_puts(b, "# HELP ");
        put_name(m, rows[key].name, b);
        jr_buf_puts(b, " ");
        put_escaped(b, rows[key].help, false);
        jr_buf_puts(b, "\n# TYPE ");
        put_name(m, rows[key].name, b);
        jr_buf_printf(b, " %s\n", types[rows[key].type]);
        for (uint32_t i = 0; i < f->n; i++)
            render_series(m, f->v[i], b);
    }
}
