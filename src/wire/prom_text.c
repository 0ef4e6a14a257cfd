/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/prom_text.h"
#include "base/cursor.h"
#include <math.h>
#include <string.h>

void jr_prom_init(struct jr_prom_reader *r, const void *p, size_t n)
{
    r->p = n > 0 ? p : "";
    r->end = r->p + n;
    r->line = 0;
}

/* One line, without its end. */
struct line {
    const char *p, *end;
};

static void skip_blank(struct line *l)
{
    while (l->p < l->end && (*l->p == ' ' || *l->p == '\t')) {
        l->p++;
    }
}

static bool is_name_char(char c, bool first, bool metric)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (metric && c == ':') ||
           (!first && c >= '0' && c <= '9');
}

/* [a-zA-Z_:][a-zA-Z0-9_:]*, for labels without the colon. */
static bool read_name(struct line *l, bool metric, struct jr_str *ret)
{
    const char *from = l->p;
    while (l->p < l->end && is_name_char(*l->p, l->p == from, metric)) {
        l->p++;
    }
    *ret = jr_str_of(from, (size_t)(l->p - from));
    return ret->n > 0;
}

/* "…", escapes left as they are but checked. */
static bool read_quoted(struct line *l, struct jr_str *ret)
{
    if (l->p == l->end || *l->p++ != '"') {
        return false;
    }
    const char *from = l->p;
    for (; l->p < l->end; l->p++) {
        if (*l->p == '"') {
            *ret = jr_str_of(from, (size_t)(l->p++ - from));
            return true;
        }
        if (*l->p == '\\') {
            l->p++;
            if (l->p == l->end || (*l->p != '\\' && *l->p != '"' && *l->p != 'n')) {
                return false;
            }
        }
    }
    return false;
}

static bool eat(struct line *l, char c)
{
    skip_blank(l);
    if (l->p < l->end && *l->p == c) {
        l->p++;
        return true;
    }
    return false;
}

/* {a="b",c="d",} behind the name. */
static int read_labels(struct line *l, struct jr_prom_sample *s)
{
    if (!eat(l, '{')) {
        return 0;
    }
    while (!eat(l, '}')) {
        struct jr_prom_label label;
        skip_blank(l);
        if (!read_name(l, false, &label.name) || !eat(l, '=')) {
            return JR_EPROTO;
        }
        skip_blank(l);
        if (!read_quoted(l, &label.value)) {
            return JR_EPROTO;
        }
        if (s->n_labels == JR_PROM_LABELS_MAX) {
            return JR_ELIMIT;
        }
        s->labels[s->n_labels++] = label;
        if (!eat(l, ',')) {
            if (!eat(l, '}')) {
                return JR_EPROTO;
            }
            break;
        }
    }
    return 0;
}

static struct jr_str read_word(struct line *l)
{
    skip_blank(l);
    const char *from = l->p;
    while (l->p < l->end && *l->p != ' ' && *l->p != '\t') {
        l->p++;
    }
    return jr_str_of(from, (size_t)(l->p - from));
}

static bool value_of(struct jr_str w, double *ret)
{
    if (jr_str_ieq(w, "NaN")) {
        *ret = NAN;
    } else if (jr_str_ieq(w, "+Inf") || jr_str_ieq(w, "Inf")) {
        *ret = INFINITY;
    } else if (jr_str_ieq(w, "-Inf")) {
        *ret = -INFINITY;
    } else {
        return jr_parse_f64(w.p, w.n, ret) == 0;
    }
    return true;
}

static int read_sample(struct line *l, struct jr_prom_sample *s)
{
    s->n_labels = 0;
    s->has_timestamp = false;
    s->timestamp_ms = 0;
    if (!read_name(l, true, &s->name)) {
        return JR_EPROTO;
    }
    int rv = read_labels(l, s);
    if (rv < 0) {
        return rv;
    }
    if (!value_of(read_word(l), &s->value)) {
        return JR_EPROTO;
    }
    struct jr_str stamp = read_word(l);
    if (stamp.n > 0) {
        s->has_timestamp = true;
        rv = jr_parse_i64(stamp.p, stamp.n, &s->timestamp_ms) < 0 ? JR_EPROTO : 0;
    }
    skip_blank(l);
    return rv < 0 || l->p != l->end ? JR_EPROTO : 0;
}

/* The next line that is neither empty nor a comment. */
static bool next_line(struct jr_prom_reader *r, struct line *ret)
{
    while (r->p < r->end) {
        const char *lf = memchr(r->p, '\n', (size_t)(r->end - r->p));
        struct line l = {r->p, lf == NULL ? r->end : lf};
        r->p = lf == NULL ? r->end : lf + 1;
        r->line++;
        if (l.end > l.p && l.end[-1] == '\r') {
            l.end--;
        }
        skip_blank(&l);
        if (l.p < l.end && *l.p != '#') {
            *ret = l;
            return true;
        }
    }
    return false;
}

int jr_prom_next(struct jr_prom_reader *r, struct jr_prom_sample *ret, struct jr_errmsg *e)
{
    struct line l;
    if (!next_line(r, &l)) {
        return 0;
    }
    const char *from = l.p;
    int rv = read_sample(&l, ret);
    if (rv == JR_ELIMIT) {
        return jr_errmsg_set(e, rv, "metrics, line %u: more than %d labels", r->line,
                             JR_PROM_LABELS_MAX);
    }
    if (rv < 0) {
        return jr_errmsg_set(e, rv, "metrics, line %u: malformed at column %zu", r->line,
                             (size_t)(l.p - from) + 1);
    }
    return 1;
}

struct jr_str jr_prom_label(const struct jr_prom_sample *s, const char *name)
{
    for (uint32_t i = 0; i < s->n_labels; i++) {
        if (jr_str_eq(s->labels[i].name, name)) {
            return s->labels[i].value;
        }
    }
    return jr_str_of(NULL, 0);
}

bool jr_prom_unescape(struct jr_str raw, char *dst, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (c == '\\' && i + 1 < raw.n) {
            c = raw.p[++i] == 'n' ? '\n' : raw.p[i];
        }
        if (n + 1 >= cap) {
            dst[n] = '\0';
            return false;
        }
        dst[n++] = c;
    }
    dst[n] = '\0';
    return true;
}

int jr_prom_find(const void *p, size_t n, const char *name, const char *label, const char *value,
                 struct jr_prom_sample *ret)
{
    struct jr_prom_reader r;
    jr_prom_init(&r, p, n);
    for (;;) {
        int rv = jr_prom_next(&r, ret, NULL);
        if (rv == 0) {
            return JR_ENOTFOUND;
        }
        if (rv > 0 && jr_str_eq(ret->name, name) &&
            (label == NULL || jr_str_eq(jr_prom_label(ret, label), value))) {
            return 0;
        }
    }
}

double jr_prom_sum(const void *p, size_t n, const char *name, uint32_t *ret_n)
{
    struct jr_prom_reader r;
    struct jr_prom_sample s;
    double sum = 0;
    uint32_t count = 0;
    int rv;
    jr_prom_init(&r, p, n);
    while ((rv = jr_prom_next(&r, &s, NULL)) != 0) {
        if (rv > 0 && jr_str_eq(s.name, name)) {
            sum += s.value;
            count++;
        }
    }
    if (ret_n != NULL) {
        *ret_n = count;
    }
    return sum;
}
