/* SPDX-License-Identifier: Apache-2.0 */
#include "app/bridge/status.h"

#include "app/bridge/bridge.h"
#include "io/http_server.h"
#include "jetrouter/version.h"

#define ANSWER_MAX ((size_t)64 << 20)
#define CONNS_MAX  64

struct jr_bridge_http {
    struct jr_http_server *server;
    struct jr_bridge_hub *hub; /* NULL: it is going */
    struct jr_metrics *metrics;
    uint64_t since_ns;
    void (*close_cb)(void *ctx);
    void *close_ctx;
};

static void answer(struct jr_http_request *req, int status, const char *type, struct jr_buf *b)
{
    if (b->err)
        jr_http_respond(req, 500, "text/plain", NULL, "too large\n", 10);
    else
        jr_http_respond(req, status, type, NULL, b->p, b->n);
    jr_buf_deinit(b);
}

static void live(struct jr_bridge_http *s, struct jr_http_request *req)
{
    static const char text[] = "{\"status\":\"live\"}";
    (void)s;
    jr_http_respond(req, 200, "application/json", NULL, text, sizeof text - 1);
}

/* ---------------------------------------------------------------- ready */

static bool is_ready(const struct jr_bridge_hub *hub)
{
    const struct jr_bridge *b;
    struct jr_bridge_status status;
    if (!hub || !jr_bridge_hub_ready(hub))
        return false;
    for (uint32_t i = 0; (b = jr_bridge_hub_at(hub, i)); i++) {
        jr_bridge_status(b, &status);
        if (!status.registered)
            return false;
    }
    return true;
}

static void put_engine(struct jr_buf *out, const struct jr_bridge *b, bool first)
{
    struct jr_bridge_status s;
    jr_bridge_status(b, &s);
    jr_buf_printf(out, "%s{\"worker_id\":%llu,\"url\":", first ? "" : ",",
                  (unsigned long long)s.worker_id);
    jr_buf_json_str(out, s.url);
    jr_buf_printf(out,
                  ",\"healthy\":%s,\"registered\":%s,\"because\":", s.healthy ? "true" : "false",
                  s.registered ? "true" : "false");
    jr_buf_json_str(out, s.because);
    jr_buf_puts(out, ",\"ranks\":[");
    for (uint32_t i = 0; i < s.n_ranks; i++) {
        struct jr_bridge_rank_status r;
        jr_bridge_rank_status(b, i, &r);
        jr_buf_printf(out, "%s{\"dp_rank\":%u,\"blocks\":%u,\"pending_events\":%u}", i ? "," : "",
                      r.dp_rank, r.mirror_blocks, r.pending_events);
    }
    jr_buf_puts(out, "]}");
}

static void ready(struct jr_bridge_http *s, struct jr_http_request *req)
{
    const struct jr_bridge *b;
    struct jr_buf out;
    bool yes = is_ready(s->hub), nats = s->hub && jr_bridge_hub_ready(s->hub);
    jr_buf_init(&out, ANSWER_MAX);
    jr_buf_printf(&out, "{\"status\":\"%s\",\"nats\":%s,\"engines\":[", yes ? "ready" : "notready",
                  nats ? "true" : "false");
    for (uint32_t i = 0; s->hub && (b = jr_bridge_hub_at(s->hub, i)); i++)
        put_engine(&out, b, i == 0);
    jr_buf_puts(&out, "]}");
    answer(req, yes ? 200 : 503, "application/json", &out);
}

/* ---------------------------------------------------------------- metrics */

static void metrics(struct jr_bridge_http *s, struct jr_http_request *req)
{
    struct jr_buf out;
    jr_buf_init(&out, ANSWER_MAX);
    jr_metric_set(s->metrics, JR_METRIC_BUILD_INFO, JR_LABELS(JETROUTER_VERSION), 1);
    jr_metric_set(s->metrics, JR_METRIC_UPTIME_SECONDS, JR_NO_LABELS,
                  (double)(jr_loop_now_ns() - s->since_ns) / 1e9);
    jr_metric_set(s->metrics, JR_METRIC_READY, JR_NO_LABELS, is_ready(s->hub));
    if (s->hub)
        jr_bridge_hub_measure(s->hub);
    jr_metrics_render(s->metrics, &out);
    answer(req, 200, JR_METRICS_CONTENT_TYPE, &out);
}

/* ---------------------------------------------------------------- the server */

static void on_request(void *ctx, struct jr_http_request *req)
{
    static const struct {
        const char *path;
        void (*fn)(struct jr_bridge_http *s, struct jr_http_request *req);
    } paths[] = {{"/live", live}, {"/ready", ready}, {"/health", ready}, {"/metrics", metrics}};
    struct jr_bridge_http *s = ctx;
    struct jr_str path = jr_http_request_path(req);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (!jr_str_eq(path, paths[i].path))
            continue;
        if (jr_str_eq(jr_http_request_method(req), "GET"))
            paths[i].fn(s, req);
        else
            jr_http_respond(req, 405, "text/plain", "Allow: GET\r\n", "GET only\n", 9);
        return;
    }
    jr_http_respond(req, 404, "text/plain", NULL, "not found\n", 10);
}

int jr_bridge_http_listen(struct jr_loop *loop, const char *host, uint16_t port,
                          struct jr_bridge_hub *hub, struct jr_metrics *measured,
                          struct jr_bridge_http **ret, struct jr_errmsg *e)
{
    struct jr_bridge_http *s = jr_xalloc(sizeof *s);
    struct jr_http_server_config config = {.host = host,
                                           .port = port,
                                           .body_max = 64 << 10,
                                           .conns_max = CONNS_MAX,
                                           .header_timeout_ms = 10000,
                                           .idle_timeout_ms = 60000,
                                           .on_request = on_request,
                                           .ctx = s};
    *s = (struct jr_bridge_http){.hub = hub, .metrics = measured, .since_ns = jr_loop_now_ns()};
    int err = jr_http_server_listen(loop, &config, e, &s->server);
    if (err < 0) {
        jr_xfree(s);
        return jr_errmsg_wrap(e, err, "--system-port");
    }
    *ret = s;
    return 0;
}

uint16_t jr_bridge_http_port(const struct jr_bridge_http *s)
{
    return jr_http_server_port(s->server);
}

void jr_bridge_http_stopping(struct jr_bridge_http *s)
{
    s->hub = NULL;
}

static void on_closed(void *ctx)
{
    struct jr_bridge_http *s = ctx;
    void (*cb)(void *ctx) = s->close_cb;
    void *cb_ctx = s->close_ctx;
    jr_xfree(s);
    if (cb)
        cb(cb_ctx);
}

void jr_bridge_http_close(struct jr_bridge_http *s, void (*cb)(void *ctx), void *ctx)
{
    s->close_cb = cb;
    s->close_ctx = ctx;
    jr_http_server_close(s->server, on_closed, s);
}
