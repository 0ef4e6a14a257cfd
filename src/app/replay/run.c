/* SPDX-License-Identifier: Apache-2.0 */
#include "app/replay/run.h"
#include "app/ctl/ctl_view.h"
#include "app/https_options.h"
#include "app/open_files.h"
#include "app/replay/answer.h"
#include "base/cursor.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/http_client.h"
#include "io/signal.h"
#include "wire/tokens.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 5000
#define MODELS_TIMEOUT_MS  10000
#define MODELS_BYTES_MAX   ((size_t)4 << 20)
#define TOTAL_TIMEOUT_MS   1800000 /* of one request */
#define ERROR_BYTES_MAX    4096    /* of an answer that is not 200 */
#define PROGRESS_EVERY_MS  200
#define SEND_AT_ONCE       16
#define BODY_BYTES_MAX     ((size_t)64 << 20)
#define WORKER_HEADER      "x-jetrouter-worker"
#define PREDICTED_HEADER   "x-jetrouter-predicted-tokens"

struct run {
    const struct jr_replay_plan *plan;
    struct jr_errmsg *e;
    struct jr_report *report;
    struct jr_tally tally;
    struct jr_loop *loop;
    struct jr_http_client *client;
    struct jr_signals *signals;
    struct jr_timer *send_timer, *progress_timer;
    struct jr_list flights;
    struct jr_buf body; /* of the request that is being sent */
    uint64_t *due_ns;   /* of each request, after the start */
    uint32_t *tokens;   /* its prompt */
    char completions[JR_URL_MAX + 32];
    uint32_t next, in_flight;
    bool sending; /* guards against an answer that ends while its request is being sent */
    bool held_back;
    uint64_t start_ns;
    int rv;
};

/* One request under way. */
struct flight {
    struct jr_list node;
    struct run *run;
    const struct jr_trace_row *row;
    struct jr_http_exchange *exchange;
    struct jr_answer answer;
    struct jr_buf refusal; /* body of an answer that is not 200 */
    uint64_t sent_ns, first_ns;
    int status;
    bool is_stream; /* content type */
    bool has_predicted;
    uint64_t predicted;
    char worker[JR_NAME_MAX];
};

static void send_due(struct run *r);

/* ---------------------------------------------------------------- answers */

static void flight_destroy(struct flight *f)
{
    jr_list_remove(&f->node);
    f->run->in_flight--;
    jr_answer_deinit(&f->answer);
    jr_buf_deinit(&f->refusal);
    jr_xfree(f);
}

static void refusal_text(const struct flight *f, char *ret, size_t cap)
{
    char says[120];
    jr_ctl_view_error(jr_buf_str(&f->refusal), f->refusal.n, says, sizeof says);
    (void)snprintf(ret, cap, "status %d%s%s", f->status, says[0] ? ": " : "", says);
}

/* Why the answer does not count, or NULL. */
static const char *fault_of(const struct flight *f, int err, char *text, size_t cap)
{
    if (err != 0 && f->status == 0) {
        (void)snprintf(text, cap, "no answer: %s", jr_err_text(err));
        return text;
    }
    if (f->status != 200) {
        refusal_text(f, text, cap);
        return text;
    }
    if (err != 0) {
        (void)snprintf(text, cap, "the answer breaks off: %s", jr_err_text(err));
        return text;
    }
    if (!f->is_stream)
        return "content type is not text/event-stream";
    return jr_answer_check(&f->answer, f->row->input_length, f->row->output_length);
}

static void count(struct flight *f, int err)
{
    char text[160];
    uint64_t now = jr_loop_now_ns();
    const char *fault = fault_of(f, err, text, sizeof text);
    if (fault) {
        jr_tally_error(&f->run->tally, fault);
        return;
    }
    struct jr_tally_answer ok = {.worker = f->worker,
                                 .prompt_tokens = f->answer.prompt_tokens,
                                 .completion_tokens = f->answer.completion_tokens,
                                 .cached_tokens = f->answer.cached_tokens,
                                 .has_cached = f->answer.has_cached,
                                 .predicted_tokens = f->predicted,
                                 .has_predicted = f->has_predicted,
                                 .ttft_us = (f->first_ns - f->sent_ns) / 1000,
                                 .total_us = (now - f->sent_ns) / 1000};
    jr_tally_ok(&f->run->tally, &ok);
}

static void on_head(void *ctx, const struct jr_http_reply *reply)
{
    static const char stream[] = "text/event-stream";
    struct flight *f = ctx;
    f->status = reply->status;
    for (uint32_t i = 0; i < reply->n_headers; i++) {
        const struct jr_http_header *h = &reply->headers[i];
        if (jr_str_ieq(h->name, WORKER_HEADER))
            (void)snprintf(f->worker, sizeof f->worker, "%.*s",
                           (int)(h->value.n < JR_NAME_MAX ? h->value.n : JR_NAME_MAX), h->value.p);
        else if (jr_str_ieq(h->name, PREDICTED_HEADER))
            f->has_predicted = jr_parse_u64(h->value.p, h->value.n, &f->predicted) == 0;
        else if (jr_str_ieq(h->name, "content-type") && h->value.n >= sizeof stream - 1)
            f->is_stream = memcmp(h->value.p, stream, sizeof stream - 1) == 0;
    }
}

static void on_data(void *ctx, const void *p, size_t n)
{
    struct flight *f = ctx;
    if (f->status != 200) {
        size_t room = ERROR_BYTES_MAX - f->refusal.n;
        jr_buf_put(&f->refusal, p, n < room ? n : room);
        return;
    }
    jr_answer_feed(&f->answer, p, n);
    if (f->first_ns == 0 && f->answer.started)
        f->first_ns = jr_loop_now_ns();
}

static void on_end(void *ctx, int err)
{
    struct flight *f = ctx;
    struct run *r = f->run;
    count(f, err);
    flight_destroy(f);
    if (!r->sending)
        send_due(r);
}

/* ---------------------------------------------------------------- requests */

static void write_body(struct run *r, const struct jr_trace_row *row)
{
    struct jr_buf *b = &r->body;
    jr_buf_clear(b);
    jr_trace_prompt(r->plan->trace, row, r->tokens);
    jr_buf_puts(b, "{\"model\":");
    jr_buf_json_str(b, r->report->model);
    jr_buf_puts(b, ",\"prompt\":");
    jr_tokens_write(b, r->tokens, row->input_length);
    jr_buf_printf(b,
                  ",\"max_tokens\":%u,\"ignore_eos\":true,\"temperature\":0,\"stream\":true,"
                  "\"stream_options\":{\"include_usage\":true}}",
                  row->output_length);
}

static void launch(struct run *r, const struct jr_trace_row *row)
{
    struct flight *f = jr_xalloc(sizeof *f);
    f->run = r;
    f->row = row;
    jr_answer_init(&f->answer);
    jr_buf_init(&f->refusal, ERROR_BYTES_MAX);
    jr_list_init(&f->node);
    jr_list_push_back(&r->flights, &f->node);
    r->in_flight++;
    write_body(r, row);
    char lines[96];
    (void)snprintf(lines, sizeof lines, "X-Request-Id: replay-%d-%u\r\nX-Jetrouter-Explain: 1\r\n",
                   (int)getpid(), (unsigned)(row - r->plan->trace->rows));
    f->sent_ns = jr_loop_now_ns();
    struct jr_http_fetch fetch = {.url = r->completions,
                                  .method = "POST",
                                  .content_type = "application/json",
                                  .extra_headers = lines,
                                  .body = r->body.p,
                                  .n_body = r->body.n,
                                  .total_timeout_ms = TOTAL_TIMEOUT_MS,
                                  .on_head = on_head,
                                  .on_data = on_data,
                                  .on_end = on_end,
                                  .ctx = f};
    int rv = r->body.err ? r->body.err : jr_http_client_fetch(r->client, &fetch, &f->exchange);
    if (rv < 0) {
        count(f, rv);
        flight_destroy(f);
    }
}

/* Sends what is due, then waits for the next one; ends the run behind the last answer. When it is
 * late it sends a few at a time: answers are looked at in between. */
static void send_due(struct run *r)
{
    const struct jr_trace *t = r->plan->trace;
    uint64_t due = 0, since = jr_loop_now_ns() - r->start_ns;
    uint32_t sent = 0;
    r->sending = true;
    while (sent++ < SEND_AT_ONCE && r->next < t->n && (due = r->due_ns[r->next]) <= since) {
        if (r->in_flight >= JR_REPLAY_IN_FLIGHT_MAX) {
            r->held_back = r->plan->speed > 0;
            break;
        }
        r->tally.late += r->held_back;
        r->held_back = false;
        launch(r, &t->rows[r->next++]);
        since = jr_loop_now_ns() - r->start_ns;
    }
    r->sending = false;
    if (r->next < t->n && due > since)
        jr_timer_start(r->send_timer, (due - since) / 1000000 + 1, 0);
    else if (sent > SEND_AT_ONCE && r->next < t->n)
        jr_timer_start(r->send_timer, 0, 0);
    else if (r->next == t->n && r->in_flight == 0)
        jr_loop_stop(r->loop);
}

static void on_send_timer(void *ctx)
{
    send_due(ctx);
}

/* ---------------------------------------------------------------- progress */

static void draw(const struct run *r)
{
    enum { WIDTH = 30 };
    char bar[WIDTH + 1];
    uint32_t n = r->plan->trace->n;
    uint64_t filled = n ? r->tally.requests * WIDTH / n : 0;
    for (uint64_t i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = '\0';
    (void)fprintf(stderr, "\r[%s] %" PRIu64 "/%u answered, %u under way, %" PRIu64 " errors ", bar,
                  r->tally.requests, n, r->in_flight, r->tally.errors);
}

static void on_progress(void *ctx)
{
    draw(ctx);
}

/* ---------------------------------------------------------------- start */

static void start(struct run *r)
{
    r->start_ns = jr_loop_now_ns();
    if (r->plan->progress)
        jr_timer_start(r->progress_timer, 0, PROGRESS_EVERY_MS);
    send_due(r);
}

static int first_model(struct run *r, struct jr_str body)
{
    json_error_t why;
    json_t *o = json_loadb(body.p, body.n, 0, &why);
    const json_t *first = json_array_get(json_object_get(o, "data"), 0);
    const char *id = json_string_value(json_object_get(first, "id"));
    int rv = 0;
    if (!json_is_array(json_object_get(o, "data")))
        rv = jr_errmsg_set(r->e, JR_EPROTO, "%.160s/v1/models is not a list of models",
                           r->plan->url);
    else if (!id || id[0] == '\0')
        rv = jr_errmsg_set(r->e, JR_ENOWORKER, "%.160s serves no model", r->plan->url);
    else if (!jr_str_copy(r->report->model, sizeof r->report->model, id))
        rv = jr_errmsg_set(r->e, JR_ELIMIT, "the model's name is too long");
    json_decref(o);
    return rv;
}

static void on_models(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct run *r = ctx;
    if (err != 0)
        r->rv = jr_errmsg_set(r->e, err == JR_EPROTO || err == JR_ELIMIT ? err : JR_ECONN,
                              "cannot reach %.160s (%s)", r->plan->url, jr_err_text(err));
    else if (reply->status != 200)
        r->rv = jr_errmsg_set(r->e, reply->status >= 500 ? JR_EAGAIN : JR_EPROTO,
                              "%.160s/v1/models answered %d", r->plan->url, reply->status);
    else if (!r->plan->model)
        r->rv = first_model(r, body);
    if (r->rv == 0)
        start(r);
    else
        jr_loop_stop(r->loop);
}

/* Asked even when the model is given: a URL that cannot be reached is one error, not thousands. */
static int ask_models(struct run *r)
{
    char url[JR_URL_MAX + 32];
    (void)snprintf(url, sizeof url, "%s/v1/models", r->plan->url);
    struct jr_http_fetch fetch = {
        .url = url, .method = "GET", .total_timeout_ms = MODELS_TIMEOUT_MS};
    int rv = jr_http_client_whole(r->client, &fetch, MODELS_BYTES_MAX, on_models, r);
    if (rv < 0)
        return jr_errmsg_set(r->e, rv, "--url: cannot use %.160s", r->plan->url);
    return 0;
}

static void on_signal(void *ctx, int signum)
{
    struct run *r = ctx;
    (void)signum;
    r->rv = JR_ECANCELED;
    jr_loop_stop(r->loop);
}

/* ---------------------------------------------------------------- the whole */

static void init(struct run *r)
{
    uint32_t longest = 1;
    for (uint32_t i = 0; i < r->plan->trace->n; i++)
        if (r->plan->trace->rows[i].input_length > longest)
            longest = r->plan->trace->rows[i].input_length;
    r->tokens = jr_xalloc(longest * sizeof *r->tokens);
    r->due_ns = jr_xalloc((r->plan->trace->n + 1) * sizeof *r->due_ns);
    if (r->plan->speed > 0)
        jr_trace_due_ns(r->plan->trace, r->plan->speed, r->due_ns);
    jr_list_init(&r->flights);
    jr_buf_init(&r->body, BODY_BYTES_MAX);
    jr_tally_init(&r->tally);
    (void)snprintf(r->completions, sizeof r->completions, "%s/v1/completions", r->plan->url);
    (void)jr_str_copy(r->report->url, sizeof r->report->url, r->plan->url);
    (void)jr_str_copy(r->report->model, sizeof r->report->model,
                      r->plan->model ? r->plan->model : "");
    r->report->speed = r->plan->speed;
}

static void on_closed(void *ctx)
{
    struct run *r = ctx;
    jr_loop_stop(r->loop);
}

/* Requests still under way are given up and not counted. */
static void end(struct run *r)
{
    r->report->duration_s = r->start_ns ? (double)(jr_loop_now_ns() - r->start_ns) / 1e9 : 0;
    if (r->plan->progress && r->start_ns) {
        draw(r);
        (void)fputc('\n', stderr);
    }
    jr_timer_destroy(r->send_timer);
    jr_timer_destroy(r->progress_timer);
    jr_signals_destroy(r->signals);
    jr_http_client_close(r->client, on_closed, r);
    jr_loop_run(r->loop);
    JR_LIST_FOREACH_SAFE (it, &r->flights) {
        flight_destroy(JR_CONTAINER_OF(it, struct flight, node));
    }
    jr_report_of(&r->tally, r->report);
}

static int go(struct run *r)
{
    struct jr_http_client_config http = {.connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                         .idle_timeout_ms = 60000,
                                         .idle_per_host_max = JR_REPLAY_IN_FLIGHT_MAX};
    int rv = jr_https_options(r->plan->cfg, &http, r->e);
    if (rv < 0)
        return rv;
    rv = jr_http_client_create(r->loop, &http, &r->client);
    if (rv < 0)
        return jr_errmsg_set(r->e, rv, "no HTTP client");
    r->send_timer = jr_timer_create(r->loop, on_send_timer, r);
    r->progress_timer = jr_timer_create(r->loop, on_progress, r);
    rv = jr_signals_create(r->loop, on_signal, r, &r->signals);
    if (rv == 0)
        rv = ask_models(r);
    if (rv == 0) {
        jr_loop_run(r->loop);
        rv = r->rv;
    }
    end(r);
    return rv;
}

int jr_replay_run(const struct jr_replay_plan *plan, struct jr_report *ret, struct jr_errmsg *e)
{
    struct run r = {.plan = plan, .report = ret, .e = e};
    int rv = jr_loop_create(&r.loop);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "no event loop");
    (void)jr_open_files_raise(); /* each request under way has a connection */
    init(&r);
    rv = go(&r);
    jr_loop_destroy(r.loop);
    jr_tally_deinit(&r.tally);
    jr_buf_deinit(&r.body);
    jr_xfree(r.tokens);
    jr_xfree(r.due_ns);
    return rv;
}
