/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/access_line.h"

#include <math.h>
#include <time.h>

static void put_text(struct jr_buf *b, const char *name, struct jr_str s)
{
    jr_buf_printf(b, ",\"%s\":\"", name);
    jr_buf_json_escape(b, s.p, s.n);
    jr_buf_puts(b, "\"");
}

static void put_number(struct jr_buf *b, const char *name, bool known, uint64_t v)
{
    if (known)
        jr_buf_printf(b, ",\"%s\":%llu", name, (unsigned long long)v);
    else
        jr_buf_printf(b, ",\"%s\":null", name);
}

/* JSON has no infinity: a cost may be one. */
static void put_real(struct jr_buf *b, const char *name, bool known, double v)
{
    if (known && isfinite(v))
        jr_buf_printf(b, ",\"%s\":%.6g", name, v);
    else
        jr_buf_printf(b, ",\"%s\":null", name);
}

static void put_ms(struct jr_buf *b, const char *name, bool known, uint64_t ns)
{
    if (known)
        jr_buf_printf(b, ",\"%s\":%llu.%03u", name, (unsigned long long)(ns / 1000000),
                      (unsigned)(ns / 1000 % 1000));
    else
        jr_buf_printf(b, ",\"%s\":null", name);
}

static void put_time(struct jr_buf *b, int64_t unix_ns)
{
    time_t secs = (time_t)(unix_ns / 1000000000);
    struct tm tm;
    char text[32];
    if (!gmtime_r(&secs, &tm) || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        text[0] = '\0';
    jr_buf_printf(b, ",\"time\":\"%s.%03dZ\"", text, (int)(unix_ns / 1000000 % 1000));
}

static void put_fields(struct jr_buf *b, const struct jr_access_entry *x)
{
    put_time(b, x->unix_ns);
    put_text(b, "request_id", x->request_id);
    put_text(b, "client", x->client);
    jr_buf_printf(b, ",\"endpoint\":\"%s\"", x->endpoint);
    put_text(b, "model", x->model);
    jr_buf_printf(b, ",\"stream\":%s", x->stream ? "true" : "false");
    put_number(b, "status", x->status != 0, (uint64_t)x->status);
    if (x->error[0])
        jr_buf_printf(b, ",\"error\":\"%s\"", x->error);
    else
        jr_buf_puts(b, ",\"error\":null");
    put_number(b, "worker", x->has_worker, x->worker_id);
    put_number(b, "dp_rank", x->has_worker, x->dp_rank);
    put_number(b, "tokens_in", x->has_tokens, x->tokens_in);
    put_number(b, "tokens_out", true, x->tokens_out);
    put_number(b, "prompt_blocks", true, x->prompt_blocks);
    put_number(b, "overlap_blocks", x->has_worker, x->overlap_blocks);
    put_number(b, "cached_tokens", x->has_cached, x->cached_tokens);
    put_ms(b, "ttft_ms", x->has_first, x->first_token_ns);
    put_ms(b, "duration_ms", true, x->duration_ns);
    put_number(b, "retries", true, x->retries);
    put_number(b, "bytes_in", true, x->bytes_in);
    put_number(b, "bytes_out", true, x->bytes_out);
}

static void put_candidate(struct jr_buf *b, const struct jr_candidate *c)
{
    jr_buf_printf(b, "{\"worker\":%llu", (unsigned long long)c->worker_id);
    put_number(b, "dp_rank", true, c->dp_rank);
    put_number(b, "overlap_blocks", true, c->overlap_blocks);
    put_number(b, "host_blocks", true, c->host_blocks);
    put_number(b, "disk_blocks", true, c->disk_blocks);
    put_number(b, "cached_blocks", true, c->cached_blocks);
    put_number(b, "uncached_tokens", true, c->uncached_tokens);
    put_number(b, "live_blocks", true, c->live_blocks);
    put_number(b, "new_blocks", true, c->new_blocks);
    put_number(b, "active_blocks", true, c->active_blocks);
    put_number(b, "prefill_tokens", true, c->prefill_tokens);
    put_number(b, "requests", true, c->requests);
    put_number(b, "decoding", true, c->decoding);
    put_real(b, "backlog_s", true, c->backlog_s);
    put_real(b, "prefill_s", true, c->prefill_s);
    put_real(b, "prefill_cost", true, c->prefill_cost);
    put_real(b, "load_cost", true, c->load_cost);
    put_real(b, "cost", true, c->cost);
    jr_buf_puts(b, "}");
}

void jr_access_line_write(struct jr_buf *b, const struct jr_access_entry *entry)
{
    jr_buf_puts(b, "{\"kind\":\"access\"");
    put_fields(b, entry);
    jr_buf_puts(b, "}\n");
}

void jr_access_line_write_slow(struct jr_buf *b, const struct jr_access_entry *entry)
{
    const struct jr_access_decision *d = entry->slow;
    jr_buf_puts(b, "{\"kind\":\"slow\"");
    put_fields(b, entry);
    put_number(b, "waited_ms", d != NULL, d ? d->waited_ms : 0);
    put_real(b, "cost", d != NULL, d ? d->cost : 0);
    put_number(b, "candidates_left_off", true, d ? d->left_off : 0);
    jr_buf_puts(b, ",\"candidates\":[");
    for (uint32_t i = 0; d && i < d->n; i++) {
        if (i > 0)
            jr_buf_puts(b, ",");
        put_candidate(b, &d->candidates[i]);
    }
    jr_buf_puts(b, "]}\n");
}
