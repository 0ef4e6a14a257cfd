/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/span_options.h"

#include "app/frontend/frontend_internal.h"
#include "base/log.h"
#include "jetrouter/version.h"

#include <string.h>

#define RETRY_MS    1000 /* before the second try of a batch */
#define HEADERS_MAX ((size_t)2 * JR_CONFIG_VALUE_MAX)

/* Attributes of the process; texts that are not the options' or ours are owned. */
struct resource {
    struct jr_otlp_attr v[JR_SPAN_ATTRS_MAX];
    char *owned[JR_SPAN_ATTRS_MAX][2];
    uint32_t n, left_out;
};

static void put(struct resource *r, const char *key, const char *text)
{
    r->v[r->n++] = (struct jr_otlp_attr){
        .key = key, .type = JR_OTLP_TEXT, .text = jr_str_of(text, strlen(text))};
}

/* What has an option of its own, or is known here, is not said a second time. */
static void put_pair(void *ctx, const char *name, const char *value)
{
    struct resource *r = ctx;
    for (uint32_t i = 0; i < r->n; i++)
        if (strcmp(r->v[i].key, name) == 0)
            return;
    if (r->n == JR_SPAN_ATTRS_MAX) {
        r->left_out++;
        return;
    }
    r->owned[r->n][0] = jr_xstrdup(name);
    r->owned[r->n][1] = jr_xstrdup(value);
    put(r, r->owned[r->n][0], r->owned[r->n][1]);
}

static int make_resource(const struct jr_front_loop *l, struct resource *r)
{
    const char *more = jr_config_str(l->f->cfg, JR_CFG_OTEL_RESOURCE_ATTRIBUTES);
    put(r, "service.name", jr_config_str(l->f->cfg, JR_CFG_OTEL_SERVICE_NAME));
    put(r, "service.version", JETROUTER_VERSION);
    put(r, "service.instance.id", l->f->replica_id);
    int err = more ? jr_otel_pairs(more, put_pair, r) : 0;
    if (r->left_out && l->number == 0)
        jr_log(JR_LOG_WARN, "trace.attributes", "left_out=%u most=%u", r->left_out,
               JR_SPAN_ATTRS_MAX);
    return err;
}

static void free_resource(struct resource *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        jr_xfree(r->owned[i][0]);
        jr_xfree(r->owned[i][1]);
    }
}

static void put_header(void *ctx, const char *name, const char *value)
{
    struct jr_buf *b = ctx;
    jr_buf_puts(b, name);
    jr_buf_puts(b, ": ");
    jr_buf_puts(b, value);
    jr_buf_puts(b, "\r\n");
}

static void create(struct jr_front_loop *l, const char *url, const struct jr_buf *headers,
                   const struct resource *r)
{
    const struct jr_config *cfg = l->f->cfg;
    const uint32_t queue = jr_config_u32(cfg, JR_CFG_OTEL_BSP_MAX_QUEUE_SIZE);
    const uint32_t batch = jr_config_u32(cfg, JR_CFG_OTEL_BSP_MAX_EXPORT_BATCH_SIZE);
    const struct jr_span_export_config config = {
        .loop = l->loop,
        .client = l->client,
        .metrics = l->metrics,
        .url = url,
        .headers = headers->n ? jr_buf_str(headers) : NULL,
        .resource = r->v,
        .n_resource = r->n,
        .queue_max = queue,
        .batch_max = batch < queue ? batch : queue,
        .delay_ms = jr_config_u32(cfg, JR_CFG_OTEL_BSP_SCHEDULE_DELAY),
        .timeout_ms = jr_config_u32(cfg, JR_CFG_OTLP_TIMEOUT),
        .retry_ms = RETRY_MS,
        .seed = jr_rng_u64(&l->rng),
    };
    l->exporter = jr_span_export_create(&config);
    l->sampler = jr_otel_sampler(cfg);
    if (l->number == 0)
        jr_log(JR_LOG_INFO, "trace.export", "url=%s sampler=%s", url,
               jr_config_str(cfg, JR_CFG_OTEL_TRACES_SAMPLER));
}

int jr_span_options(struct jr_front_loop *l, struct jr_errmsg *e)
{
    const char *more = jr_config_str(l->f->cfg, JR_CFG_OTLP_HEADERS);
    char url[JR_URL_MAX];
    struct resource r = {.n = 0};
    struct jr_buf headers;
    jr_buf_init(&headers, HEADERS_MAX);
    int err = jr_otel_url(l->f->cfg, url);
    if (err == 0)
        err = make_resource(l, &r);
    if (err == 0 && more)
        err = jr_otel_pairs(more, put_header, &headers);
    if (err == 0)
        err = headers.err;
    if (err == 0)
        create(l, url, &headers, &r);
    jr_buf_deinit(&headers);
    free_resource(&r);
    return err < 0 ? jr_errmsg_set(e, JR_ECONFIG, "the OTEL_EXPORTER_OTLP_ options cannot be used")
                   : 0;
}
