/* SPDX-License-Identifier: Apache-2.0 */
#include "app/replay/trace.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "wire/json.h"
#include <string.h>

enum { FIELD_TIMESTAMP = 1, FIELD_INPUT = 2, FIELD_OUTPUT = 4, FIELD_HASHES = 8, FIELD_ALL = 15 };

static const struct field {
    const char *name;
    unsigned bit;
} fields[] = {
    {"timestamp", FIELD_TIMESTAMP},
    {"input_length", FIELD_INPUT},
    {"output_length", FIELD_OUTPUT},
    {"hash_ids", FIELD_HASHES},
};
#define FIELDS (sizeof fields / sizeof fields[0])

static int push_hash(struct jr_trace *t, uint64_t id, struct jr_errmsg *e)
{
    if (t->n_hashes == JR_TRACE_HASHES_MAX)
        return jr_errmsg_set(e, JR_ELIMIT, "more than %u hash ids", JR_TRACE_HASHES_MAX);
    if (t->n_hashes == t->cap_hashes) {
        t->cap_hashes = t->cap_hashes ? t->cap_hashes * 2 : 1024;
        t->hashes = jr_xrealloc(t->hashes, t->cap_hashes * sizeof *t->hashes);
    }
    t->hashes[t->n_hashes++] = id;
    return 0;
}

static int push_row(struct jr_trace *t, const struct jr_trace_row *row, struct jr_errmsg *e)
{
    if (t->n == JR_TRACE_ROWS_MAX)
        return jr_errmsg_set(e, JR_ELIMIT, "more than %u requests", JR_TRACE_ROWS_MAX);
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 256;
        t->rows = jr_xrealloc(t->rows, t->cap * sizeof *t->rows);
    }
    t->rows[t->n++] = *row;
    return 0;
}

/* ---------------------------------------------------------------- one line */

static int read_length(struct jr_json *j, const char *name, uint32_t *ret, struct jr_errmsg *e)
{
    uint64_t v;
    int rv = jr_json_u64(j, &v);
    if (rv < 0)
        return jr_errmsg_set(e, JR_EINVAL, "%s is not a whole number", name);
    if (v < 1 || v > JR_PROMPT_TOKENS_MAX)
        return jr_errmsg_set(e, JR_EINVAL, "%s is not in 1..%d", name, JR_PROMPT_TOKENS_MAX);
    *ret = (uint32_t)v;
    return 0;
}

static int read_hashes(struct jr_json *j, struct jr_trace *t, struct jr_trace_row *row,
                       struct jr_errmsg *e)
{
    int rv = jr_json_array(j);
    while (rv == 0 && (rv = jr_json_item(j)) > 0) {
        uint64_t id;
        rv = jr_json_u64(j, &id);
        if (rv == 0 && (rv = push_hash(t, id, e)) < 0)
            return rv;
    }
    if (rv < 0)
        return jr_errmsg_set(e, JR_EINVAL, "hash_ids is not a list of whole numbers");
    row->n_hashes = t->n_hashes - row->first_hash;
    return 0;
}

static int read_field(struct jr_json *j, unsigned bit, struct jr_trace *t, struct jr_trace_row *row,
                      struct jr_errmsg *e)
{
    switch (bit) {
    case FIELD_TIMESTAMP:
        if (jr_json_f64(j, &row->timestamp_ms) < 0 || !(row->timestamp_ms >= 0) ||
            row->timestamp_ms > JR_TRACE_MS_MAX)
            return jr_errmsg_set(e, JR_EINVAL, "timestamp is not a number of ms");
        return 0;
    case FIELD_INPUT:
        return read_length(j, "input_length", &row->input_length, e);
    case FIELD_OUTPUT:
        return read_length(j, "output_length", &row->output_length, e);
    case FIELD_HASHES:
        return read_hashes(j, t, row, e);
    default:
        if (jr_json_skip(j) < 0)
            return jr_errmsg_set(e, JR_EINVAL, "not JSON");
        return 0;
    }
}

static unsigned field_bit(struct jr_str key)
{
    for (size_t i = 0; i < FIELDS; i++)
        if (jr_str_eq(key, fields[i].name))
            return fields[i].bit;
    return 0;
}

static int read_object(struct jr_json *j, struct jr_trace *t, struct jr_trace_row *row,
                       struct jr_errmsg *e)
{
    struct jr_str key;
    unsigned seen = 0;
    int rv = jr_json_object(j);
    if (rv < 0)
        return jr_errmsg_set(e, JR_EINVAL, "not a JSON object");
    while ((rv = jr_json_key(j, &key)) > 0) {
        unsigned bit = field_bit(key);
        if (seen & bit)
            return jr_errmsg_set(e, JR_EINVAL, "%.*s is there twice", (int)key.n, key.p);
        seen |= bit;
        rv = read_field(j, bit, t, row, e);
        if (rv < 0)
            return rv;
    }
    if (rv < 0 || jr_json_end(j) < 0)
        return jr_errmsg_set(e, JR_EINVAL, "not one whole JSON object");
    for (size_t i = 0; i < FIELDS; i++)
        if (!(seen & fields[i].bit))
            return jr_errmsg_set(e, JR_EINVAL, "%s is missing", fields[i].name);
    return 0;
}

static int read_line(struct jr_trace *t, const char *p, size_t n, struct jr_errmsg *e)
{
    struct jr_trace_row row = {.first_hash = t->n_hashes};
    struct jr_json j;
    jr_json_init(&j, p, n);
    int rv = read_object(&j, t, &row, e);
    if (rv < 0)
        return rv;
    uint32_t want = (row.input_length + JR_TRACE_HASH_TOKENS - 1) / JR_TRACE_HASH_TOKENS;
    if (row.n_hashes != want)
        return jr_errmsg_set(e, JR_EINVAL,
                             "%u hash_ids, but an input_length of %u has %u times 512 tokens",
                             row.n_hashes, row.input_length, want);
    if (t->n > 0 && row.timestamp_ms < t->rows[t->n - 1].timestamp_ms)
        return jr_errmsg_set(e, JR_EINVAL, "its timestamp is before that of the request above");
    return push_row(t, &row, e);
}

/* ---------------------------------------------------------------- the whole */

static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
            return false;
    return true;
}

int jr_trace_parse(const char *text, size_t n, uint64_t limit, struct jr_trace *ret,
                   struct jr_errmsg *e)
{
    struct jr_trace t = {0};
    unsigned line = 0;
    int rv = 0;
    for (size_t at = 0; at < n && rv == 0 && (limit == 0 || t.n < limit);) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        line++;
        if (!is_blank(text + at, len))
            rv = read_line(&t, text + at, len, e);
        at += len + 1;
    }
    if (rv < 0) {
        jr_trace_deinit(&t);
        *ret = t;
        return jr_errmsg_wrap(e, rv, "line %u", line);
    }
    *ret = t;
    return 0;
}

void jr_trace_deinit(struct jr_trace *t)
{
    jr_xfree(t->rows);
    jr_xfree(t->hashes);
    memset(t, 0, sizeof *t);
}

void jr_trace_due_ns(const struct jr_trace *t, double speed, uint64_t *dst)
{
    for (uint32_t from = 0, to; from < t->n; from = to) {
        double at = t->rows[from].timestamp_ms, gap = JR_TRACE_GAP_MS;
        for (to = from + 1; to < t->n && t->rows[to].timestamp_ms <= at;)
            to++;
        double room = to < t->n ? (t->rows[to].timestamp_ms - at) / speed / (to - from) : gap;
        gap = room < gap ? room : gap;
        for (uint32_t i = from; i < to; i++)
            dst[i] = (uint64_t)(((at - t->rows[0].timestamp_ms) / speed + gap * (i - from)) * 1e6);
    }
}

uint32_t jr_trace_token(uint64_t hash_id, uint32_t j)
{
    return (uint32_t)(jr_mix64(jr_mix64(hash_id) + j) % JR_TRACE_VOCABULARY);
}

void jr_trace_prompt(const struct jr_trace *t, const struct jr_trace_row *row, uint32_t *dst)
{
    for (uint32_t i = 0; i < row->input_length; i++)
        dst[i] = jr_trace_token(t->hashes[row->first_hash + i / JR_TRACE_HASH_TOKENS],
                                i % JR_TRACE_HASH_TOKENS);
}
