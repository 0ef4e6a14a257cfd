/* SPDX-License-Identifier: Apache-2.0 */
/* A report as JSON and back. */
#include "app/replay/report.h"
#include "base/mem.h"
#include "base/str.h"
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* The numbers that are written and read as they are. */
static const struct number {
    const char *name;
    size_t offset;
} counts[] = {
    {"requests", offsetof(struct jr_report, requests)},
    {"errors", offsetof(struct jr_report, errors)},
    {"late", offsetof(struct jr_report, late)},
    {"prompt_tokens", offsetof(struct jr_report, prompt_tokens)},
    {"cached_tokens", offsetof(struct jr_report, cached_tokens)},
    {"completion_tokens", offsetof(struct jr_report, completion_tokens)},
    {"answers_without_cached_tokens", offsetof(struct jr_report, no_cached)},
    {"predicted_answers", offsetof(struct jr_report, prediction.answers)},
    {"predicted_tokens", offsetof(struct jr_report, prediction.predicted)},
    {"predicted_answers_cached_tokens", offsetof(struct jr_report, prediction.cached)},
    {"predicted_too_many", offsetof(struct jr_report, prediction.too_many)},
    {"predicted_too_few", offsetof(struct jr_report, prediction.too_few)},
};
#define COUNTS (sizeof counts / sizeof counts[0])

static const uint64_t *count_at(const struct jr_report *r, size_t i)
{
    return (const uint64_t *)(const void *)((const char *)r + counts[i].offset);
}

/* ---------------------------------------------------------------- writing */

static void put_text(struct jr_buf *b, const char *name, const char *text)
{
    jr_buf_printf(b, "\"%s\":", name);
    jr_buf_json_str(b, text);
    jr_buf_puts(b, ",");
}

static void put_times(struct jr_buf *b, const char *name, const struct jr_report_times *t)
{
    jr_buf_printf(b, "\"%s\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"mean\":%.3f,\"max\":%.3f},",
                  name, t->p50, t->p90, t->p99, t->mean, t->max);
}

void jr_report_json(const struct jr_report *r, struct jr_buf *b)
{
    jr_buf_puts(b, "{");
    put_text(b, "label", r->label);
    put_text(b, "url", r->url);
    put_text(b, "model", r->model);
    put_text(b, "trace", r->trace);
    jr_buf_printf(b, "\"speed\":%.6g,\"duration_s\":%.3f,", r->speed, r->duration_s);
    for (size_t i = 0; i < COUNTS; i++)
        jr_buf_printf(b, "\"%s\":%" PRIu64 ",", counts[i].name, *count_at(r, i));
    jr_buf_printf(b, "\"cached_share\":%.6f,\"spread\":%.4f,", r->cached_share, r->spread);
    put_times(b, "ttft_ms", &r->ttft_ms);
    put_times(b, "total_ms", &r->total_ms);
    jr_buf_puts(b, "\"workers\":[");
    for (uint32_t i = 0; i < r->n_workers; i++) {
        const struct jr_tally_worker *w = &r->workers[i];
        jr_buf_puts(b, i ? ",{" : "{");
        put_text(b, "worker", w->name);
        jr_buf_printf(b,
                      "\"requests\":%" PRIu64 ",\"prompt_tokens\":%" PRIu64
                      ",\"cached_tokens\":%" PRIu64 "}",
                      w->requests, w->prompt_tokens, w->cached_tokens);
    }
    jr_buf_puts(b, "],\"error_reasons\":[");
    for (uint32_t i = 0; i < r->n_reasons; i++) {
        jr_buf_puts(b, i ? ",{" : "{");
        put_text(b, "reason", r->reasons[i].text);
        jr_buf_printf(b, "\"requests\":%" PRIu64 "}", r->reasons[i].n);
    }
    jr_buf_puts(b, "]}");
}

/* ---------------------------------------------------------------- reading */

static void get_text(const json_t *o, const char *name, char *ret, size_t cap)
{
    const char *text = json_string_value(json_object_get(o, name));
    (void)jr_str_copy(ret, cap, text ? text : "");
}

static uint64_t get_count(const json_t *o, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(o, name));
    return v > 0 ? (uint64_t)v : 0;
}

static double get_number(const json_t *o, const char *name)
{
    return json_number_value(json_object_get(o, name));
}

static void get_times(const json_t *o, const char *name, struct jr_report_times *ret)
{
    const json_t *t = json_object_get(o, name);
    *ret =
        (struct jr_report_times){get_number(t, "p50"), get_number(t, "p90"), get_number(t, "p99"),
                                 get_number(t, "mean"), get_number(t, "max")};
}

static void get_workers(const json_t *list, struct jr_report *r)
{
    size_t n = json_array_size(list);
    n = n < JR_REPLAY_WORKERS_MAX ? n : JR_REPLAY_WORKERS_MAX;
    r->workers = n ? jr_xalloc(n * sizeof *r->workers) : NULL;
    r->n_workers = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        struct jr_tally_worker *w = &r->workers[i];
        get_text(o, "worker", w->name, sizeof w->name);
        w->requests = get_count(o, "requests");
        w->prompt_tokens = get_count(o, "prompt_tokens");
        w->cached_tokens = get_count(o, "cached_tokens");
    }
}

static void get_reasons(const json_t *list, struct jr_report *r)
{
    size_t n = json_array_size(list);
    r->n_reasons = (uint32_t)(n < JR_REPLAY_REASONS_MAX ? n : JR_REPLAY_REASONS_MAX);
    for (uint32_t i = 0; i < r->n_reasons; i++) {
        const json_t *o = json_array_get(list, i);
        get_text(o, "reason", r->reasons[i].text, sizeof r->reasons[i].text);
        r->reasons[i].n = get_count(o, "requests");
    }
}

int jr_report_parse(const char *text, size_t n, struct jr_report *ret, struct jr_errmsg *e)
{
    json_error_t why;
    json_t *o = json_loadb(text, n, 0, &why);
    memset(ret, 0, sizeof *ret);
    if (!json_is_object(o) || !json_is_integer(json_object_get(o, "requests")) ||
        !json_is_object(json_object_get(o, "ttft_ms"))) {
        json_decref(o);
        return jr_errmsg_set(e, JR_EINVAL, "it is not what `jetrouter replay --json` prints");
    }
    get_text(o, "label", ret->label, sizeof ret->label);
    get_text(o, "url", ret->url, sizeof ret->url);
    get_text(o, "model", ret->model, sizeof ret->model);
    get_text(o, "trace", ret->trace, sizeof ret->trace);
    ret->speed = get_number(o, "speed");
    ret->duration_s = get_number(o, "duration_s");
    for (size_t i = 0; i < COUNTS; i++)
        memcpy((char *)ret + counts[i].offset, &(uint64_t){get_count(o, counts[i].name)},
               sizeof(uint64_t));
    ret->cached_share = get_number(o, "cached_share");
    ret->spread = get_number(o, "spread");
    get_times(o, "ttft_ms", &ret->ttft_ms);
    get_times(o, "total_ms", &ret->total_ms);
    get_workers(json_object_get(o, "workers"), ret);
    get_reasons(json_object_get(o, "error_reasons"), ret);
    json_decref(o);
    return 0;
}
