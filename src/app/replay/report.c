/* SPDX-License-Identifier: Apache-2.0 */
#include "app/replay/report.h"
#include "app/table.h"
#include "base/mem.h"
#include "base/str.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- counting */

void jr_tally_init(struct jr_tally *t)
{
    memset(t, 0, sizeof *t);
    jr_hist_init(&t->ttft_us);
    jr_hist_init(&t->total_us);
    t->workers = jr_xalloc(JR_REPLAY_WORKERS_MAX * sizeof *t->workers);
}

void jr_tally_deinit(struct jr_tally *t)
{
    jr_xfree(t->workers);
    t->workers = NULL;
}

/* Beyond the limit all others are counted as the last one. */
static struct jr_tally_worker *worker_of(struct jr_tally *t, const char *name)
{
    for (uint32_t i = 0; i < t->n_workers; i++)
        if (strcmp(t->workers[i].name, name) == 0)
            return &t->workers[i];
    bool last = t->n_workers >= JR_REPLAY_WORKERS_MAX - 1;
    struct jr_tally_worker *w = &t->workers[last ? JR_REPLAY_WORKERS_MAX - 1 : t->n_workers];
    if (t->n_workers < JR_REPLAY_WORKERS_MAX)
        t->n_workers++;
    (void)jr_str_copy(w->name, sizeof w->name, last ? "others" : name);
    return w;
}

static void tally_prediction(struct jr_tally_prediction *p, const struct jr_tally_answer *a)
{
    if (!a->has_cached || !a->has_predicted)
        return;
    p->answers++;
    p->predicted += a->predicted_tokens;
    p->cached += a->cached_tokens;
    if (a->predicted_tokens > a->cached_tokens)
        p->too_many += a->predicted_tokens - a->cached_tokens;
    else
        p->too_few += a->cached_tokens - a->predicted_tokens;
}

void jr_tally_ok(struct jr_tally *t, const struct jr_tally_answer *a)
{
    t->requests++;
    t->prompt_tokens += a->prompt_tokens;
    t->cached_tokens += a->cached_tokens;
    t->completion_tokens += a->completion_tokens;
    t->no_cached += !a->has_cached;
    tally_prediction(&t->prediction, a);
    jr_hist_add(&t->ttft_us, a->ttft_us);
    jr_hist_add(&t->total_us, a->total_us);
    if (a->worker[0] == '\0')
        return;
    struct jr_tally_worker *w = worker_of(t, a->worker);
    w->requests++;
    w->prompt_tokens += a->prompt_tokens;
    w->cached_tokens += a->cached_tokens;
}

void jr_tally_error(struct jr_tally *t, const char *reason)
{
    struct jr_tally_reason r = {.n = 0};
    t->requests++;
    t->errors++;
    (void)jr_str_copy(r.text, sizeof r.text, reason);
    for (uint32_t i = 0; i < t->n_reasons; i++)
        if (strcmp(t->reasons[i].text, r.text) == 0) {
            t->reasons[i].n++;
            return;
        }
    if (t->n_reasons == JR_REPLAY_REASONS_MAX) {
        struct jr_tally_reason *last = &t->reasons[JR_REPLAY_REASONS_MAX - 1];
        (void)jr_str_copy(last->text, sizeof last->text, "other reasons");
        last->n++;
        return;
    }
    r.n = 1;
    t->reasons[t->n_reasons++] = r;
}

/* ---------------------------------------------------------------- numbers */

static void times_of(const struct jr_hist *h, struct jr_report_times *ret)
{
    ret->p50 = (double)jr_hist_quantile(h, 0.5) / 1e3;
    ret->p90 = (double)jr_hist_quantile(h, 0.9) / 1e3;
    ret->p99 = (double)jr_hist_quantile(h, 0.99) / 1e3;
    ret->mean = h->n ? jr_hist_mean(h) / 1e3 : 0;
    ret->max = h->n ? (double)h->max / 1e3 : 0;
}

static int by_name(const void *a, const void *b)
{
    const struct jr_tally_worker *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void derive(struct jr_report *r)
{
    uint64_t sum = 0, max = 0;
    r->cached_share = r->prompt_tokens ? (double)r->cached_tokens / (double)r->prompt_tokens : 0;
    for (uint32_t i = 0; i < r->n_workers; i++) {
        sum += r->workers[i].prompt_tokens;
        max = r->workers[i].prompt_tokens > max ? r->workers[i].prompt_tokens : max;
    }
    r->spread = sum ? (double)max * r->n_workers / (double)sum : 0;
    if (r->n_workers > 1)
        qsort(r->workers, r->n_workers, sizeof *r->workers, by_name);
}

void jr_report_of(struct jr_tally *t, struct jr_report *ret)
{
    ret->requests = t->requests;
    ret->errors = t->errors;
    ret->late = t->late;
    ret->prompt_tokens = t->prompt_tokens;
    ret->cached_tokens = t->cached_tokens;
    ret->completion_tokens = t->completion_tokens;
    ret->no_cached = t->no_cached;
    ret->prediction = t->prediction;
    times_of(&t->ttft_us, &ret->ttft_ms);
    times_of(&t->total_us, &ret->total_ms);
    ret->workers = t->workers;
    ret->n_workers = t->n_workers;
    t->workers = NULL;
    t->n_workers = 0;
    memcpy(ret->reasons, t->reasons, sizeof ret->reasons);
    ret->n_reasons = t->n_reasons;
    derive(ret);
}

void jr_report_deinit(struct jr_report *r)
{
    jr_xfree(r->workers);
    r->workers = NULL;
    r->n_workers = 0;
}

/* ---------------------------------------------------------------- text */

static void put_times(struct jr_table *t, const char *name, const struct jr_report_times *v)
{
    jr_table_cell(t, "%s", name);
    jr_table_cell(t, "%.1f", v->p50);
    jr_table_cell(t, "%.1f", v->p90);
    jr_table_cell(t, "%.1f", v->p99);
    jr_table_cell(t, "%.1f", v->mean);
    jr_table_cell(t, "%.1f", v->max);
}

static void put_workers(const struct jr_report *r, struct jr_buf *b)
{
    struct jr_table t;
    jr_table_init(&t, "worker|requests|prompt tokens|cached tokens");
    for (uint32_t i = 0; i < r->n_workers; i++) {
        jr_table_cell(&t, "%s", r->workers[i].name);
        jr_table_cell(&t, "%" PRIu64, r->workers[i].requests);
        jr_table_cell(&t, "%" PRIu64, r->workers[i].prompt_tokens);
        jr_table_cell(&t, "%" PRIu64, r->workers[i].cached_tokens);
    }
    jr_buf_puts(b, "\n");
    jr_table_render(&t, b);
    jr_table_deinit(&t);
    jr_buf_printf(b, "busiest worker: %.2f x the mean of prompt tokens\n", r->spread);
}

static void put_prediction(const struct jr_tally_prediction *p, struct jr_buf *b)
{
    if (p->answers == 0)
        return;
    jr_buf_printf(b,
                  "predicted by the router: %" PRIu64
                  " cached tokens where the workers had %" PRIu64 " (%" PRIu64 " too many, %" PRIu64
                  " too few, in %" PRIu64 " answers)\n",
                  p->predicted, p->cached, p->too_many, p->too_few, p->answers);
}

static void put_reasons(const struct jr_report *r, struct jr_buf *b)
{
    for (uint32_t i = 0; i < r->n_reasons; i++)
        jr_buf_printf(b, "  %" PRIu64 " x %s\n", r->reasons[i].n, r->reasons[i].text);
}

void jr_report_text(const struct jr_report *r, struct jr_buf *b)
{
    struct jr_table t;
    jr_buf_printf(b, "%s: %" PRIu64 " requests in %.1f s, %" PRIu64 " errors\n",
                  r->label[0] ? r->label : r->url, r->requests, r->duration_s, r->errors);
    put_reasons(r, b);
    jr_buf_printf(b, "cached tokens: %.1f %% of the prompts (%" PRIu64 " of %" PRIu64 ")\n",
                  r->cached_share * 100, r->cached_tokens, r->prompt_tokens);
    put_prediction(&r->prediction, b);
    if (r->no_cached > 0)
        jr_buf_printf(b,
                      "  %" PRIu64 " answers do not say how many tokens were cached and count as 0 "
                      "(vLLM: --enable-prompt-tokens-details)\n",
                      r->no_cached);
    if (r->late > 0)
        jr_buf_printf(b, "  %" PRIu64 " requests were sent late: %d were under way\n", r->late,
                      JR_REPLAY_IN_FLIGHT_MAX);
    jr_buf_puts(b, "\n");
    jr_table_init(&t, "ms|p50|p90|p99|mean|max");
    put_times(&t, "time to first token", &r->ttft_ms);
    put_times(&t, "whole answer", &r->total_ms);
    jr_table_render(&t, b);
    jr_table_deinit(&t);
    if (r->n_workers > 0)
        put_workers(r, b);
}

/* ---------------------------------------------------------------- A/B */

static void put_row(struct jr_table *t, const char *name, int digits, double a, double b)
{
    jr_table_cell(t, "%s", name);
    jr_table_cell(t, "%.*f", digits, a);
    jr_table_cell(t, "%.*f", digits, b);
    if (a > 0)
        jr_table_cell(t, "%.2f", b / a);
    else
        jr_table_cell(t, "-");
}

/* "A: its label", as a heading: without the sign that separates headings. */
static void put_heading(struct jr_buf *b, const char *name, const struct jr_report *r)
{
    jr_buf_printf(b, "|%s: ", name);
    for (const char *p = r->label[0] ? r->label : r->url; *p; p++)
        jr_buf_u8(b, *p == '|' ? '/' : (uint8_t)*p);
}

void jr_report_table(const struct jr_report *a, const struct jr_report *b, struct jr_buf *out)
{
    struct jr_table t;
    struct jr_buf headings;
    jr_buf_init(&headings, 4096);
    put_heading(&headings, "A", a);
    put_heading(&headings, "B", b);
    jr_buf_puts(&headings, "|B/A");
    jr_table_init(&t, jr_buf_str(&headings));
    jr_buf_deinit(&headings);
    put_row(&t, "requests", 0, (double)a->requests, (double)b->requests);
    put_row(&t, "errors", 0, (double)a->errors, (double)b->errors);
    put_row(&t, "cached tokens, % of prompts", 1, a->cached_share * 100, b->cached_share * 100);
    put_row(&t, "time to first token p50, ms", 1, a->ttft_ms.p50, b->ttft_ms.p50);
    put_row(&t, "                    p90, ms", 1, a->ttft_ms.p90, b->ttft_ms.p90);
    put_row(&t, "                    p99, ms", 1, a->ttft_ms.p99, b->ttft_ms.p99);
    put_row(&t, "whole answer        p50, ms", 1, a->total_ms.p50, b->total_ms.p50);
    put_row(&t, "                    p90, ms", 1, a->total_ms.p90, b->total_ms.p90);
    put_row(&t, "                    p99, ms", 1, a->total_ms.p99, b->total_ms.p99);
    if (a->spread > 0 && b->spread > 0)
        put_row(&t, "busiest worker / mean", 2, a->spread, b->spread);
    put_row(&t, "duration, s", 1, a->duration_s, b->duration_s);
    jr_table_render(&t, out);
    jr_table_deinit(&t);
}
