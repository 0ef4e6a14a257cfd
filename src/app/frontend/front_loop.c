/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/front_loop.h"

#include "app/frontend/frontend_internal.h"
#include "app/frontend/proxy_internal.h"
#include "app/frontend/span_options.h"
#include "app/https_options.h"
#include "base/buf.h"

#include <sodium.h>

#define CLIENT_IDLE_MS       60000
#define CLIENT_IDLE_PER_HOST 256

static size_t body_max(const struct jr_config *cfg)
{
    return (size_t)jr_config_u32(cfg, JR_CFG_HTTP_BODY_LIMIT_MB) << 20;
}

static int make_client(struct jr_front_loop *l, const struct jr_config *cfg, struct jr_errmsg *e)
{
    struct jr_http_client_config client = {
        .connect_timeout_ms = (uint32_t)jr_config_ms(cfg, JR_CFG_WORKER_CONNECT_TIMEOUT_SECS),
        .idle_timeout_ms = CLIENT_IDLE_MS,
        .idle_per_host_max = CLIENT_IDLE_PER_HOST};
    int err = jr_https_options(cfg, &client, e);
    return err < 0 ? err : jr_http_client_create(l->loop, &client, &l->client);
}

static void on_turn(void *ctx, uint64_t ms)
{
    struct jr_front_loop *l = ctx;
    jr_series_observe(l->turns, (double)ms / 1e3);
}

static void make_metrics(struct jr_front_loop *l)
{
    char number[JR_DIGITS_MAX + 1];
    number[jr_digits(l->number, number)] = '\0';
    l->metrics = jr_metrics_create();
    l->turns = jr_metric_series(l->metrics, JR_METRIC_LOOP_STALL_SECONDS, JR_LABELS(number));
    l->answers.m = l->metrics;
    jr_request_metrics_init(&l->requests, l->metrics, l->f->replica_id);
}

int jr_front_loop_init(struct jr_front_loop *l, struct jr_frontend *f, uint32_t number,
                       struct jr_errmsg *e)
{
    uint64_t seed[2];
    l->f = f;
    l->number = number;
    jr_list_init(&l->proxied);
    jr_list_init(&l->holds);
    atomic_init(&l->inflight, 0);
    jr_mem_init(&l->tokens_mem);
    jr_tokens_init(&l->tokens, &l->tokens_mem);
    make_metrics(l);
    randombytes_buf(seed, sizeof seed);
    jr_rng_init(&l->rng, seed[0], seed[1]);
    int err = jr_loop_create(&l->loop);
    if (err == 0)
        jr_loop_watch(l->loop, on_turn, l);
    if (err == 0)
        err = make_client(l, f->cfg, e);
    if (err == 0)
        err = jr_openai_parser_create(body_max(f->cfg), &l->parser);
    if (err == 0 && jr_config_bool(f->cfg, JR_CFG_OTEL_EXPORT_ENABLED))
        err = jr_span_options(l, e);
    return err;
}

int jr_front_loop_listen(struct jr_front_loop *l, uint16_t port, struct jr_errmsg *e)
{
    const struct jr_config *cfg = l->f->cfg;
    const bool several = jr_config_u32(cfg, JR_CFG_HTTP_THREADS) > 1;
    const bool shared = jr_config_bool(cfg, JR_CFG_HTTP_REUSE_PORT);
    const struct jr_http_server_config config = {
        .host = jr_config_str(cfg, JR_CFG_HTTP_HOST),
        .port = port,
        .body_max = body_max(cfg),
        .bodies_max = (uint64_t)jr_config_u32(cfg, JR_CFG_HTTP_BODIES_MAX_MB) << 20,
        .bodies = &l->f->bodies,
        .conns_max = jr_config_u32(cfg, JR_CFG_HTTP_CONNECTIONS_MAX),
        .header_timeout_ms = (uint32_t)jr_config_ms(cfg, JR_CFG_HTTP_HEADER_TIMEOUT_SECS),
        .idle_timeout_ms = (uint32_t)jr_config_ms(cfg, JR_CFG_HTTP_IDLE_TIMEOUT_SECS),
        .body_timeout_ms = (uint32_t)jr_config_ms(cfg, JR_CFG_HTTP_BODY_TIMEOUT_SECS),
        .conns = several ? &l->f->conns : NULL,
        .reuse_port = several || shared,
        .first = several && !shared && l->number == 0,
        .on_request = jr_service_request,
        .on_answer = jr_service_answered,
        .ctx = l,
    };
    int err = jr_http_server_listen(l->loop, &config, e, &l->server);
    return err == JR_EADDRINUSE ? jr_errmsg_wrap(e, err, "--http-port") : err;
}

void jr_front_loop_deinit(struct jr_front_loop *l)
{
    jr_proxy_holds_drop(l);
    jr_span_export_destroy(l->exporter);
    if (l->loop)
        jr_loop_destroy(l->loop);
    jr_tokens_deinit(&l->tokens);
    jr_buf_deinit(&l->head);
    jr_buf_deinit(&l->name);
    jr_openai_parser_destroy(l->parser);
    jr_request_metrics_deinit(&l->requests);
    jr_metrics_destroy(l->metrics);
}
