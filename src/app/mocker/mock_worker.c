/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/mock_worker_internal.h"
#include "app/mocker/toy_tokenizer.h"
#include "base/assert.h"
#include "base/cursor.h"
#include "base/log.h"
#include "base/map.h"
#include <inttypes.h>
#include <string.h>

/* Steps in one go before sockets get their turn again. */
#define PUMP_STEPS 64

/* ---- requests ------------------------------------------------------------------ */

static void seq_deinit(struct mock_seq *s)
{
    jr_buf_deinit(&s->text);
    jr_xfree(s->prompt);
}

static void request_free(struct mock_request *r)
{
    for (uint32_t i = 0; i < r->n_seqs; i++)
        seq_deinit(&r->seqs[i]);
    jr_list_remove(&r->node);
    r->worker->n_requests--;
    jr_xfree(r);
}

/* The client is gone: what the engine still does for it is cancelled. */
static void request_reap(struct mock_request *r)
{
    for (uint32_t i = 0; i < r->n_seqs; i++)
        if (r->seqs[i].seq != NULL)
            jr_engine_cancel(r->worker->ranks[r->rank].engine, r->seqs[i].seq);
    jr_http_respond_end(r->http, true);
    request_free(r);
}

static void on_gone(void *ctx)
{
    struct mock_request *r = ctx;
    r->gone = true;
    if (r->worker->pumping)
        r->worker->any_gone = true;
    else
        request_reap(r);
}

static void reap_gone(struct jr_mock_worker *w)
{
    if (!w->any_gone)
        return;
    w->any_gone = false;
    JR_LIST_FOREACH_SAFE (node, &w->requests) {
        struct mock_request *r = JR_CONTAINER_OF(node, struct mock_request, node);
        if (r->gone)
            request_reap(r);
    }
}

/* Sends w->out. JR_EAGAIN is taken all the same: what a slow client makes pile up is bounded by
 * max_tokens. */
static void send_out(struct mock_request *r)
{
    struct jr_buf *b = &r->worker->out;
    int err = jr_http_respond_write(r->http, b->p, b->n);
    if (err == JR_ECLOSED)
        r->gone = r->worker->any_gone = true;
}

static void finish_stream(struct mock_request *r)
{
    struct jr_buf *b = &r->worker->out;
    jr_buf_clear(b);
    if (r->include_usage)
        jr_mock_reply_usage(b, &r->head, &r->usage);
    jr_mock_reply_done(b);
    send_out(r);
    if (r->gone)
        return;
    jr_http_respond_end(r->http, false);
    request_free(r);
}

static void finish_whole(struct mock_request *r)
{
    struct jr_buf *b = &r->worker->out;
    struct jr_mock_choice *choices = jr_xalloc(r->n_seqs * sizeof *choices);
    for (uint32_t i = 0; i < r->n_seqs; i++)
        choices[i] = (struct jr_mock_choice){
            .index = i,
            .text = jr_str_of(jr_buf_str(&r->seqs[i].text), r->seqs[i].text.n),
            .finish_reason = r->finish_reason};
    jr_buf_clear(b);
    jr_mock_reply_whole(b, &r->head, choices, r->n_seqs, &r->usage);
    jr_xfree(choices);
    jr_http_respond(r->http, 200, "application/json", NULL, b->p, b->n);
    request_free(r);
}

static void send_token(struct mock_seq *s, const struct jr_engine_output *o)
{
    struct mock_request *r = s->request;
    struct jr_buf *b = &r->worker->out;
    jr_buf_clear(&s->text);
    jr_toy_decode(&s->text, o->token);
    jr_buf_clear(b);
    if (r->head.chat && o->index == 0)
        jr_mock_reply_role(b, &r->head, s->index);
    struct jr_mock_choice choice = {.index = s->index,
                                    .text = jr_str_of(jr_buf_str(&s->text), s->text.n),
                                    .finish_reason = o->finished ? r->finish_reason : NULL};
    if (r->return_token_ids) {
        choice.ids = &o->token;
        choice.n_ids = 1;
        choice.prompt_ids = o->index == 0 ? s->prompt : NULL;
        choice.n_prompt_ids = s->n_prompt;
    }
    jr_mock_reply_chunk(b, &r->head, &choice);
    send_out(r);
}

static void deliver(const struct jr_engine_output *o)
{
    struct mock_seq *s = o->user;
    struct mock_request *r = s->request;
    if (o->finished)
        s->seq = NULL;
    if (r->gone)
        return;
    if (o->index == 0 && s->counts_prompt)
        r->usage.cached += o->cached_tokens;
    r->usage.completion++;
    if (r->stream)
        send_token(s, o);
    else
        jr_toy_decode(&s->text, o->token);
    if (!o->finished || --r->n_live > 0 || r->gone)
        return;
    if (r->stream)
        finish_stream(r);
    else
        finish_whole(r);
}

uint32_t jr_mock_worker_pick_rank(struct jr_mock_worker *w)
{
    uint32_t best = 0, least = UINT32_MAX;
    JR_ASSERT(w->n_ranks > 0);
    for (uint32_t k = 0; k < w->n_ranks; k++) {
        uint32_t i = (w->next_rank + k) % w->n_ranks;
        struct jr_engine_stats stats;
        jr_engine_stats(w->ranks[i].engine, &stats);
        uint32_t load = 4 * stats.waiting + stats.running;
        if (load < least) {
            least = load;
            best = i;
        }
    }
    w->next_rank = (best + 1) % w->n_ranks;
    return best;
}

void jr_mock_worker_start(struct mock_request *r, const uint32_t *ends, uint32_t n_prompts,
                          uint32_t max_tokens, struct jr_str salt, struct jr_str lora)
{
    struct jr_mock_worker *w = r->worker;
    jr_mock_worker_pump(w); /* up to now, before anything joins */
    int64_t now = (int64_t)jr_loop_now_ns();
    JR_ASSERT(n_prompts > 0);
    uint32_t n = r->n_seqs / n_prompts; /* choices a prompt */
    JR_ASSERT(n > 0);
    jr_list_push_back(&w->requests, &r->node);
    w->n_requests++;
    r->n_live = r->n_seqs;
    for (uint32_t i = 0; i < r->n_seqs; i++) {
        struct mock_seq *s = &r->seqs[i];
        uint32_t at = i < n ? 0 : ends[i / n - 1], room = w->config.max_model_len;
        room -= ends[i / n] - at;
        *s = (struct mock_seq){.request = r, .index = i, .counts_prompt = i % n == 0};
        jr_buf_init(&s->text, (size_t)JR_PROMPT_TOKENS_MAX * 4);
        struct jr_engine_request req = {.tokens = w->tokens.v + at,
                                        .n_tokens = ends[i / n] - at,
                                        .max_tokens = max_tokens < room ? max_tokens : room,
                                        .salt = salt.p,
                                        .n_salt = (uint32_t)salt.n,
                                        .lora = lora.p,
                                        .n_lora = (uint32_t)lora.n,
                                        .user = s};
        if (r->return_token_ids) {
            s->prompt = jr_xmemdup(req.tokens, req.n_tokens * sizeof *req.tokens);
            s->n_prompt = req.n_tokens;
        }
        r->usage.prompt += s->counts_prompt ? req.n_tokens : 0;
        int err = jr_engine_submit(w->ranks[r->rank].engine, now, &req, &s->seq);
        JR_ASSERT(err == 0); /* the length was checked, and fits the cache */
    }
    if (r->stream)
        jr_http_respond_start(r->http, 200, "text/event-stream; charset=utf-8", NULL, -1);
    jr_http_request_watch(r->http, on_gone, NULL, r);
    jr_mock_worker_pump(w);
}

/* ---- KV events ------------------------------------------------------------------- */

static void kv_event(const struct jr_mock_worker *w, const struct jr_cache_log *log,
                     const struct jr_cache_event *from, struct jr_engine_event *to)
{
    memset(to, 0, sizeof *to);
    to->type = from->type == JR_KV_STORED    ? JR_ENGINE_STORED
               : from->type == JR_KV_REMOVED ? JR_ENGINE_REMOVED
                                             : JR_ENGINE_CLEARED;
    if (from->type == JR_KV_CLEARED)
        return;
    to->medium = JR_MEDIUM_GPU;
    to->hashes = log->hashes + from->hash_at;
    to->n_hashes = from->n_hashes;
    to->has_group = true;
    if (from->type == JR_KV_REMOVED)
        return;
    to->has_parent = from->has_parent;
    to->parent = from->parent_hash;
    to->tokens = log->tokens + from->token_at;
    to->n_tokens = from->n_tokens;
    to->block_size = w->config.engine.block_size;
    to->spec_kind = jr_str_of("full_attention", strlen("full_attention"));
    if (from->n_lora > 0)
        to->lora_name = jr_str_of(log->texts + from->lora_at, from->n_lora);
    if (from->n_salt > 0)
        to->cache_salt = jr_str_of(log->texts + from->salt_at, from->n_salt);
}

static void send_batch(struct jr_mock_worker *w, struct jr_zmq_pub *pub)
{
    bool drop = jr_rng_unit(&w->rng) < w->faults.drop_events;
    w->batches++;
    w->batches_dropped += drop;
    if (drop)
        (void)jr_zmq_pub_skip(pub, w->out.p, w->out.n);
    else
        (void)jr_zmq_pub_send(pub, w->out.p, w->out.n);
}

static void publish(struct jr_mock_worker *w, uint32_t rank, const struct jr_cache_log *log)
{
    if (w->ranks[rank].pub == NULL || log->n_events == 0)
        return;
    if (log->n_events > w->cap_kv_events) {
        w->cap_kv_events = log->n_events * 2;
        w->kv_events = jr_xrealloc(w->kv_events, w->cap_kv_events * sizeof *w->kv_events);
    }
    for (uint32_t i = 0; i < log->n_events; i++)
        kv_event(w, log, &log->events[i], &w->kv_events[i]);
    struct jr_engine_batch batch = {.ts = (double)jr_unix_ns() / 1e9,
                                    .has_rank = true,
                                    .dp_rank = rank,
                                    .events = w->kv_events,
                                    .n_events = log->n_events};
    jr_buf_clear(&w->out);
    jr_engine_batch_encode(&w->out, &batch, w->config.format);
    if (w->out.err != 0)
        jr_log(JR_LOG_ERROR, "mocker.kv_events", "port=%u lost=%u err=%s", w->config.port,
               log->n_events, jr_err_name(w->out.err));
    else
        send_batch(w, w->ranks[rank].pub);
}

static void set_speed(struct jr_mock_worker *w)
{
    for (uint32_t i = 0; i < w->n_ranks; i++)
        jr_engine_set_speedup(w->ranks[i].engine, w->config.engine.speedup_ratio / w->faults.slow);
}

void jr_mock_worker_set_faults(struct jr_mock_worker *w, const struct jr_mock_faults *faults)
{
    jr_mock_worker_pump(w);
    w->faults = *faults;
    set_speed(w);
}

bool jr_mock_worker_reset_cache(struct jr_mock_worker *w)
{
    struct jr_cache_log log;
    bool all = true;
    jr_mock_worker_pump(w);
    for (uint32_t i = 0; i < w->n_ranks; i++) {
        if (jr_engine_reset_cache(w->ranks[i].engine, &log))
            publish(w, i, &log);
        else
            all = false;
    }
    return all;
}

/* ---- clock -------------------------------------------------------------------------- */

static int64_t due_ns(const struct jr_mock_worker *w)
{
    int64_t first = JR_ENGINE_IDLE;
    for (uint32_t i = 0; i < w->n_ranks; i++) {
        int64_t due = jr_engine_due_ns(w->ranks[i].engine);
        first = due < first ? due : first;
    }
    return first;
}

static void arm(struct jr_mock_worker *w, int64_t now)
{
    int64_t due = due_ns(w);
    if (due == JR_ENGINE_IDLE)
        jr_timer_stop(w->timer);
    else /* up to a millisecond late; the engine makes up for it */
        jr_timer_start(w->timer, due > now ? (uint64_t)(due - now + 999999) / 1000000 : 0, 0);
}

/* Events go out before the answers, as they may from a real engine: a client that has its answer
 * finds them published. */
static void pump_rank(struct jr_mock_worker *w, uint32_t rank, int64_t now)
{
    struct jr_engine *engine = w->ranks[rank].engine;
    struct jr_engine_step step;
    uint32_t left = PUMP_STEPS;
    while (left > 0 && jr_engine_due_ns(engine) <= now) {
        if (!jr_engine_step(engine, now, &step))
            continue;
        left--;
        publish(w, rank, &step.kv);
        for (uint32_t i = 0; i < step.n_outputs; i++)
            deliver(&step.outputs[i]);
    }
}

void jr_mock_worker_pump(struct jr_mock_worker *w)
{
    int64_t now = (int64_t)jr_loop_now_ns();
    w->pumping = true;
    for (uint32_t i = 0; i < w->n_ranks; i++)
        pump_rank(w, i, now);
    w->pumping = false;
    reap_gone(w);
    arm(w, now);
}

static void on_timer(void *ctx)
{
    jr_mock_worker_pump(ctx);
}

/* ---- life ------------------------------------------------------------------------------ */

static int listen_http(struct jr_mock_worker *w, struct jr_errmsg *e)
{
    struct jr_http_server_config http = {.host = w->config.host,
                                         .port = w->config.port,
                                         .body_max = JR_MOCKER_BODY_MAX,
                                         .conns_max = JR_HTTP_CONNS_MAX,
                                         .header_timeout_ms = 30000,
                                         .idle_timeout_ms = 600000,
                                         .on_request = jr_mock_api_request,
                                         .ctx = w};
    int err = jr_http_server_listen(w->loop, &http, e, &w->http);
    return err == JR_EADDRINUSE ? jr_errmsg_wrap(e, err, "--http-port") : err;
}

static void stop_engines(struct jr_mock_worker *w)
{
    for (uint32_t i = 0; i < w->n_ranks; i++) {
        jr_engine_destroy(w->ranks[i].engine);
        w->ranks[i].engine = NULL;
    }
}

static void worker_free(struct jr_mock_worker *w)
{
    jr_timer_destroy(w->timer);
    stop_engines(w);
    for (uint32_t i = 0; i < w->n_ranks; i++)
        jr_zmq_pub_destroy(w->ranks[i].pub);
    jr_xfree(w->ranks);
    jr_buf_deinit(&w->out);
    jr_tokens_deinit(&w->tokens);
    jr_mem_deinit(&w->mem);
    jr_xfree(w->kv_events);
    jr_xfree(w);
}

static void start_engines(struct jr_mock_worker *w)
{
    struct jr_engine_config config = w->config.engine;
    for (uint32_t i = 0; i < w->n_ranks; i++) { /* each a process of its own, with its own seed */
        config.hash_seed = i == 0 ? w->config.engine.hash_seed
                                  : jr_mix64(w->config.engine.hash_seed ^ jr_mix64(i));
        w->ranks[i].engine = jr_engine_create(&config);
    }
    set_speed(w);
}

/* SGLang's first batch says that there is nothing. */
static int start_events(struct jr_mock_worker *w, uint32_t rank,
                        const struct jr_zmq_pub_config *pub, struct jr_errmsg *e)
{
    const struct jr_cache_event nothing = {.type = JR_KV_CLEARED};
    const struct jr_cache_log log = {.events = &nothing, .n_events = 1};
    int err = jr_zmq_pub_create(pub, &w->ranks[rank].pub, e);
    if (err == 0 && w->config.format == JR_ENGINE_SGLANG_MAP)
        publish(w, rank, &log);
    return err;
}

/* The endpoint so many ports further; any free port stays any. Owned. */
static char *further(const char *endpoint, uint32_t ports)
{
    const char *colon = endpoint ? strrchr(endpoint, ':') : NULL;
    uint64_t port;
    if (colon == NULL)
        return NULL;
    if (jr_parse_u64(colon + 1, strlen(colon + 1), &port) < 0 || port == 0)
        return jr_xstrdup(endpoint);
    return jr_xprintf("%.*s:%" PRIu64, (int)(colon - endpoint), endpoint, port + ports);
}

static int start_all_events(struct jr_mock_worker *w, struct jr_errmsg *e)
{
    int err = 0;
    for (uint32_t i = 0; i < w->n_ranks && err == 0; i++) {
        struct jr_zmq_pub_config pub = w->config.pub;
        char *endpoint = further(pub.endpoint, i), *replay = further(pub.replay_endpoint, i);
        pub.endpoint = endpoint;
        pub.replay_endpoint = replay;
        err = start_events(w, i, &pub, e);
        jr_xfree(endpoint);
        jr_xfree(replay);
    }
    return err;
}

static int restart_events(struct jr_mock_worker *w, uint32_t rank, struct jr_errmsg *e)
{
    struct jr_zmq_pub *old = w->ranks[rank].pub;
    char *endpoint = jr_xstrdup(jr_zmq_pub_endpoint(old));
    char *replay = jr_xstrdup(jr_zmq_pub_replay_endpoint(old));
    struct jr_zmq_pub_config pub = w->config.pub;
    pub.endpoint = endpoint;
    pub.replay_endpoint = replay;
    pub.again = true;
    w->ranks[rank].pub = NULL;
    jr_zmq_pub_destroy(old);
    int err = start_events(w, rank, &pub, e);
    jr_xfree(endpoint);
    jr_xfree(replay);
    return err;
}

int jr_mock_worker_restart(struct jr_mock_worker *w, struct jr_errmsg *e)
{
    int err = 0;
    JR_LIST_FOREACH_SAFE (node, &w->requests)
        request_reap(JR_CONTAINER_OF(node, struct mock_request, node));
    stop_engines(w);
    w->config.engine.hash_seed = jr_mix64(w->config.engine.hash_seed + 1);
    start_engines(w); /* what is wrong with it outlives it */
    for (uint32_t i = 0; i < w->n_ranks && err == 0; i++)
        err = w->ranks[i].pub ? restart_events(w, i, e) : 0;
    return err;
}

int jr_mock_worker_create(struct jr_loop *loop, const struct jr_mock_worker_config *config,
                          struct jr_errmsg *e, struct jr_mock_worker **ret)
{
    struct jr_mock_worker *w = jr_xalloc(sizeof *w);
    w->config = *config;
    w->loop = loop;
    jr_list_init(&w->requests);
    jr_mem_init(&w->mem);
    jr_tokens_init(&w->tokens, &w->mem);
    jr_buf_init(&w->out, JR_MOCKER_BODY_MAX);
    w->next_id = jr_mix64((uint64_t)jr_unix_ns() ^ (uint64_t)(uintptr_t)w);
    jr_rng_init(&w->rng, config->fault_seed, 1);
    w->faults = config->faults;
    w->ready_at_ns = jr_loop_now_ns() + config->startup_delay_ms * 1000000;
    w->n_ranks = config->n_ranks != 0 ? config->n_ranks : 1;
    w->ranks = jr_xalloc(w->n_ranks * sizeof *w->ranks);
    start_engines(w);
    w->timer = jr_timer_create(loop, on_timer, w);
    int err = 0;
    if (config->pub.endpoint != NULL)
        err = start_all_events(w, e);
    if (err == 0)
        err = listen_http(w, e);
    if (err < 0) {
        worker_free(w);
        return err;
    }
    *ret = w;
    return 0;
}

static void on_http_closed(void *ctx)
{
    struct jr_mock_worker *w = ctx;
    void (*closed)(void *) = w->closed;
    void *closed_ctx = w->closed_ctx;
    worker_free(w);
    if (closed != NULL)
        closed(closed_ctx);
}

void jr_mock_worker_drain(struct jr_mock_worker *w)
{
    jr_http_server_drain(w->http);
}

uint64_t jr_mock_worker_busy(const struct jr_mock_worker *w)
{
    return jr_http_server_busy(w->http);
}

void jr_mock_worker_close(struct jr_mock_worker *w, void (*cb)(void *ctx), void *ctx)
{
    w->closed = cb;
    w->closed_ctx = ctx;
    jr_timer_stop(w->timer);
    jr_http_server_close(w->http, on_http_closed, w);
}

uint16_t jr_mock_worker_port(const struct jr_mock_worker *w)
{
    return jr_http_server_port(w->http);
}

const char *jr_mock_worker_kv_endpoint(const struct jr_mock_worker *w)
{
    return w->ranks[0].pub == NULL ? "" : jr_zmq_pub_endpoint(w->ranks[0].pub);
}

const char *jr_mock_worker_replay_endpoint(const struct jr_mock_worker *w)
{
    return w->ranks[0].pub == NULL ? "" : jr_zmq_pub_replay_endpoint(w->ranks[0].pub);
}
