/* SPDX-License-Identifier: Apache-2.0 */
/* What each path answers. Known paths with a wrong method are 405, unknown paths 404. */
#include "app/frontend/admin_token.h"
#include "app/frontend/frontend_internal.h"

#include "app/frontend/gather.h"
#include "base/limit.h"
#include "base/log.h"
#include "core/workers.h"
#include "io/http_away.h"
#include "wire/openai_reply.h"

#include <jansson.h>
#include <string.h>
#include <time.h>

#define STATE_BYTES_MAX ((size_t)64 << 20)

int jr_service_status(const struct jr_frontend *f, enum jr_error error)
{
    bool is_given = jr_config_source(f->cfg, JR_CFG_OVERLOAD_STATUS) != JR_CFG_FROM_DEFAULT;
    bool is_option = error == JR_ERROR_OVERLOADED || (error == JR_ERROR_QUEUE_LIMITED && is_given);
    return is_option ? (int)jr_config_u32(f->cfg, JR_CFG_OVERLOAD_STATUS)
                     : jr_error_row(error)->status;
}

/* The field at fault, what limit it was: each may be NULL. */
static void answer_error(struct jr_front_loop *l, struct jr_http_request *req, enum jr_error error,
                         const struct jr_openai_failure *given, const char *lines)
{
    const struct jr_error_row *row = jr_error_row(error);
    struct jr_openai_failure failure = {.status = jr_service_status(l->f, error),
                                        .param = given->param ? given->param : row->param,
                                        .code = row->code,
                                        .message = given->message ? given->message : row->message,
                                        .details = given->details};
    struct jr_buf body, head;
    char number[16];
    jr_buf_init(&body, 64 << 10);
    jr_openai_error_write(&body, &failure);
    jr_buf_init(&head, (size_t)2 * JR_HTTP_HEADER_BYTES_MAX);
    jr_buf_puts(&head, lines ? lines : "");
    if (row->retry_s)
        jr_buf_printf(&head, "Retry-After: %u\r\n", row->retry_s);
    snprintf(number, sizeof number, "%d", failure.status);
    jr_metric_add(l->metrics, JR_METRIC_HTTP_ERRORS_TOTAL, JR_LABELS(number), 1);
    jr_http_respond(req, failure.status, "application/json", jr_buf_str(&head), body.p, body.n);
    jr_buf_deinit(&head);
    jr_buf_deinit(&body);
}

void jr_service_error_with(struct jr_front_loop *l, struct jr_http_request *req,
                           enum jr_error error, const char *param, const char *message,
                           const char *lines)
{
    answer_error(l, req, error, &(struct jr_openai_failure){.param = param, .message = message},
                 lines);
}

void jr_service_refuse(struct jr_front_loop *l, struct jr_http_request *req, enum jr_error error,
                       const char *message, const char *lines, const struct jr_queue_refusal *limit)
{
    struct jr_openai_failure failure = {.message = message};
    char details[JR_POLICY_NAME_MAX + 160];
    if (limit) /* a class's name needs no quoting */
        snprintf(details, sizeof details,
                 "{\"policy_class\":\"%s\",\"limit_kind\":\"%s\",\"current\":%llu,\"limit\":%llu}",
                 limit->policy_class, jr_policy_limit_name(limit->kind),
                 (unsigned long long)limit->current, (unsigned long long)limit->limit);
    failure.details = limit ? details : NULL;
    answer_error(l, req, error, &failure, lines);
}

void jr_service_error(struct jr_front_loop *l, struct jr_http_request *req, enum jr_error error,
                      const char *param, const char *message)
{
    jr_service_error_with(l, req, error, param, message, NULL);
}

static void answer_json(struct jr_http_request *req, int status, struct jr_buf *b)
{
    if (b->err)
        jr_http_respond(req, 500, "application/json", NULL, "{}", 2);
    else
        jr_http_respond(req, status, "application/json", NULL, b->p, b->n);
    jr_buf_deinit(b);
}

/* ---------------------------------------------------------------- health */

static void live(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    jr_buf_puts(&b, f->stopping ? "{\"status\":\"shutting_down\"}"
                                : "{\"status\":\"live\",\"message\":\"Service is live\"}");
    answer_json(req, f->stopping ? 503 : 200, &b);
}

static void ready(struct jr_frontend *f, struct jr_http_request *req)
{
    const char *why;
    bool is_ready = jr_frontend_ready(f, &why);
    struct jr_buf b;
    jr_buf_init(&b, 4096);
    jr_buf_printf(&b, "{\"ready\":%s,\"because\":", is_ready ? "true" : "false");
    jr_buf_json_str(&b, is_ready ? "" : why);
    jr_buf_puts(&b, ",\"pools\":[");
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_pool_view v;
        jr_pool_view(jr_driver_pool(f->drivers[i]), &v);
        jr_buf_printf(
            &b,
            "%s{\"component\":\"%s\",\"ready\":%s,\"recovery_state\":\"%s\",\"applied_seq\":%llu}",
            i ? "," : "", f->components[i], v.ready ? "true" : "false", v.recovery_state,
            (unsigned long long)v.applied_seq);
    }
    jr_buf_puts(&b, "]}");
    answer_json(req, is_ready ? 200 : 503, &b);
}

static void degraded_since(struct jr_frontend *f, struct jr_buf *b, uint64_t ms, int64_t since)
{
    jr_buf_printf(b, "\"degraded_since\":%lld,\"degraded_seconds\":%.1f,\"because\":",
                  (long long)since, (double)ms / 1e3);
    jr_buf_json_str(b, jr_frontend_degraded_because(f));
    jr_buf_puts(b, ",");
}

/* Dynamo's shape; the status also tells of NATS, but is 200 as long as requests are answered. */
static void health(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_buf b;
    jr_buf_init(&b, STATE_BYTES_MAX);
    uint64_t ms;
    int64_t since;
    bool degraded = jr_frontend_degraded(f, &ms, &since);
    jr_buf_printf(&b, "{\"status\":\"%s\",", degraded ? "degraded" : "healthy");
    if (degraded)
        degraded_since(f, &b, ms, since);
    jr_buf_puts(&b, "\"endpoints\":[");
    for (uint32_t i = 0; i < f->n_drivers; i++)
        jr_buf_printf(&b, "%s\"dyn://%s.%s.generate\"", i ? "," : "", f->namespace_,
                      f->components[i]);
    jr_buf_puts(&b, "],\"instances\":[");
    bool first = true;
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_worker_view w;
        for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);) {
            if (w.state == JR_WORKER_DOWN)
                continue;
            jr_buf_printf(&b,
                          "%s{\"component\":\"%s\",\"endpoint\":\"generate\",\"namespace\":\"%s\","
                          "\"instance_id\":%llu,\"transport\":{\"http\":\"%s\"}}",
                          first ? "" : ",", f->components[i], f->namespace_,
                          (unsigned long long)w.worker_id, w.url);
            first = false;
        }
    }
    jr_buf_puts(&b, "]}");
    answer_json(req, 200, &b);
}

/* ---------------------------------------------------------------- models */

static bool is_listed(const json_t *list, const char *model)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item) if (strcmp(json_string_value(json_object_get(item, "id")),
                                                 model) == 0) return true;
    return false;
}

static void list_model(json_t *list, const char *id)
{
    if (id[0] && !is_listed(list, id))
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:I,s:s}", "id", id, "object", "model", "created",
                                        (json_int_t)time(NULL), "owned_by", "jetrouter"));
}

/* What the workers serve, then the aliases of it. */
static json_t *list_models(struct jr_frontend *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_worker_view w;
        for (uint32_t pos = 0; jr_pool_next_worker(jr_driver_pool(f->drivers[i]), &pos, &w);)
            if (w.state != JR_WORKER_DOWN)
                list_model(list, w.model);
    }
    uint32_t n;
    const char *const *aliases = jr_config_list(f->cfg, JR_CFG_MODEL_ALIAS, &n);
    for (uint32_t i = 0; i < n; i++) {
        char name[JR_MODEL_MAX];
        size_t len = strcspn(aliases[i], "=");
        snprintf(name, sizeof name, "%.*s", (int)len, aliases[i]);
        if (is_listed(list, aliases[i] + len + 1))
            list_model(list, name);
    }
    return list;
}

/* Takes root. */
static void answer_jansson(struct jr_http_request *req, json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT);
    jr_http_respond(req, 200, "application/json", NULL, text ? text : "{}",
                    text ? strlen(text) : 2);
    free(text);
    json_decref(root);
}

static void models(struct jr_frontend *f, struct jr_http_request *req)
{
    answer_jansson(req, json_pack("{s:s,s:o}", "object", "list", "data", list_models(f)));
}

/* Its name is the rest of the path. */
static void model(struct jr_frontend *f, struct jr_http_request *req)
{
    static const char before[] = "/v1/models/";
    struct jr_str path = jr_http_request_path(req);
    struct jr_str name = jr_str_of(path.p + sizeof before - 1, path.n - (sizeof before - 1));
    json_t *list = list_models(f), *item, *found = NULL;
    size_t i;
    json_array_foreach(list, i,
                       item) if (jr_str_eq(name, json_string_value(json_object_get(item, "id"))))
        found = item;
    if (found)
        answer_jansson(req, json_incref(found));
    else
        jr_service_error(&f->main, req, JR_ERROR_MODEL_NOT_FOUND, NULL, NULL);
    json_decref(list);
}

/* ---------------------------------------------------------------- looking in */

static void state(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_buf b;
    jr_buf_init(&b, STATE_BYTES_MAX);
    jr_state_json(f, &b);
    answer_json(req, 200, &b);
}

static void workers(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_buf b;
    jr_buf_init(&b, STATE_BYTES_MAX);
    jr_workers_json(f, &b);
    answer_json(req, 200, &b);
}

/* ---------------------------------------------------------------- administration */

/* Without a token: from this machine only. With one: whoever brings it. */
static bool may_administer(struct jr_frontend *f, struct jr_http_request *req)
{
    if (!f->admin_token)
        return jr_http_request_from_loopback(req);
    return jr_admin_token_matches(f->admin_token, jr_http_request_header(req, "authorization"));
}

static void accepted(struct jr_http_request *req, const char *what)
{
    char text[128];
    int n = snprintf(text, sizeof text, "{\"accepted\":\"%s\"}", what);
    jr_http_respond(req, 202, "application/json", NULL, text, (size_t)n);
}

static void admin_snapshot(struct jr_frontend *f, struct jr_http_request *req)
{
    bool leads = false;
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        struct jr_pool_view v;
        jr_pool_view(jr_driver_pool(f->drivers[i]), &v);
        leads = leads || v.leader;
        jr_driver_admin_snapshot(f->drivers[i]);
    }
    accepted(req, leads ? "snapshot" : "snapshot, when this replica leads: ask the leader");
}

static void admin_reset(struct jr_frontend *f, struct jr_http_request *req)
{
    struct jr_str body = jr_http_request_body(req);
    char token[64] = "";
    json_t *root = body.n ? json_loadb(body.p, body.n, 0, NULL) : NULL;
    const char *given = json_string_value(json_object_get(root, "token"));
    bool fits = jr_str_copy(token, sizeof token, given ? given : "");
    bool is_object = body.n == 0 || json_is_object(root);
    json_decref(root);
    if (!is_object) {
        jr_service_error(&f->main, req, JR_ERROR_BAD_BODY, NULL,
                         "the body is not a JSON object: send {\"token\":\"TOKEN\"} or nothing");
        return;
    }
    if (!fits) {
        jr_service_error(&f->main, req, JR_ERROR_BAD_BODY, "token",
                         "the token is longer than 63 bytes");
        return;
    }
    for (uint32_t i = 0; i < f->n_drivers; i++)
        jr_driver_admin_reset(f->drivers[i], token);
    accepted(req, "reset");
}

static void admin_drain(struct jr_frontend *f, struct jr_http_request *req)
{
    accepted(req, "drain");
    jr_frontend_drain(f);
}

/* ---- tail: the log as JSON lines, as it comes */

struct tail {
    struct jr_list node;
    struct jr_frontend *f;
    struct jr_http_request *req;
    uint64_t lost; /* lines a slow reader missed */
    bool full;
};

static void set_tailing(struct jr_frontend *f)
{
    for (uint32_t i = 0; i < f->n_drivers; i++)
        jr_driver_tail(f->drivers[i], !jr_list_empty(&f->tails));
}

static void end_tail(struct tail *t)
{
    struct jr_frontend *f = t->f;
    jr_list_remove(&t->node);
    jr_http_respond_end(t->req, false);
    jr_xfree(t);
    set_tailing(f);
}

static void on_tail_gone(void *ctx)
{
    end_tail(ctx);
}

static void on_tail_writable(void *ctx)
{
    struct tail *t = ctx;
    t->full = false;
}

static void admin_tail(struct jr_frontend *f, struct jr_http_request *req)
{
    if (jr_str_eq(jr_http_request_method(req), "HEAD")) {
        jr_http_respond(req, 200, "application/x-ndjson", NULL, NULL, 0);
        return;
    }
    struct tail *t = jr_xalloc(sizeof *t);
    t->f = f;
    t->req = req;
    jr_list_push_back(&f->tails, &t->node);
    jr_http_request_watch(req, on_tail_gone, on_tail_writable, t);
    jr_http_respond_start(req, 200, "application/x-ndjson", NULL, -1);
    set_tailing(f);
}

static void tail_line(struct tail *t, const char *line, size_t n)
{
    if (t->full) {
        t->lost++;
        return;
    }
    char text[640];
    int len = snprintf(text, sizeof text, "%.*s\n", (int)n, line);
    if (t->lost) {
        len = snprintf(text, sizeof text, "{\"lost\":%llu}\n%.*s\n", (unsigned long long)t->lost,
                       (int)n, line);
        t->lost = 0;
    }
    t->full = jr_http_respond_write(t->req, text, (size_t)len) == JR_EAGAIN;
}

void jr_service_tail(void *ctx, const char *line)
{
    struct jr_frontend *f = ctx;
    size_t n = strlen(line);
    JR_LIST_FOREACH_SAFE (it, &f->tails)
        tail_line(JR_CONTAINER_OF(it, struct tail, node), line, n);
}

void jr_service_close_tails(struct jr_frontend *f)
{
    JR_LIST_FOREACH_SAFE (it, &f->tails)
        end_tail(JR_CONTAINER_OF(it, struct tail, node));
}

/* ---------------------------------------------------------------- dispatch */

/* Those that every command has. */
static const struct jr_front_path paths[] = {
    {"GET", "/health", .main = health},
    {"GET", "/live", .main = live},
    {"GET", "/ready", .main = ready},
    {"GET", "/metrics", .main = jr_gather_metrics},
    {"GET", "/state", .main = state},
    {"GET", "/workers", .main = workers},
    {"GET", "/busy_threshold", .main = jr_busy_get},
    {"POST", "/busy_threshold", .main = jr_busy_post, .admin = true}, /* changes what is refused */
    {"POST", "/admin/snapshot", .main = admin_snapshot, .admin = true},
    {"POST", "/admin/reset", .main = admin_reset, .admin = true},
    {"POST", "/admin/drain", .main = admin_drain, .admin = true},
    {"GET", "/admin/tail", .main = admin_tail, .admin = true},
};

static const struct jr_front_path one_model = {"GET", "/v1/models/", .main = model};
static const struct jr_front_path passed = {"", "/v1/", NULL, NULL, false};

static bool method_fits(const struct jr_front_path *p, struct jr_str method)
{
    return jr_str_eq(method, p->method) ||
           (jr_str_eq(method, "HEAD") && strcmp(p->method, "GET") == 0);
}

static const char *who_administers(const struct jr_frontend *f, bool on_admin_port)
{
    if (f->admin && !on_admin_port)
        return "administration has a port of its own: --admin-port";
    return f->admin_token ? "/admin needs \"Authorization: Bearer TOKEN\""
                          : "/admin is answered on loopback only until --admin-token-file is set";
}

static void serve_here(struct jr_frontend *f, struct jr_http_request *req,
                       const struct jr_front_path *p, bool on_admin_port)
{
    if (p->admin && ((f->admin && !on_admin_port) || !may_administer(f, req))) {
        jr_service_error(&f->main, req, JR_ERROR_FORBIDDEN, NULL,
                         who_administers(f, on_admin_port));
        return;
    }
    p->main(f, req);
}

/* What is not a worker's to answer is the main loop's. */
static void serve(struct jr_front_loop *l, struct jr_http_request *req,
                  const struct jr_front_path *p)
{
    jr_http_request_tag(req, p);
    if (p->local)
        p->local(l, req);
    else if (l->number == 0 || p->main == live) /* which looks at one flag */
        serve_here(l->f, req, p, false);
    else
        jr_http_away(req, l->loop, l->f->loop, &l->n_away, jr_service_request, &l->f->main);
}

static void wrong_method(struct jr_front_loop *l, struct jr_http_request *req, const char *allowed)
{
    char words[64], extra[64];
    snprintf(words, sizeof words, "this path is for %s", allowed);
    snprintf(extra, sizeof extra, "Allow: %s\r\n",
             strcmp(allowed, "GET") == 0 ? "GET, HEAD" : allowed);
    jr_service_error_with(l, req, JR_ERROR_METHOD, NULL, words, extra);
}

static bool starts_with(struct jr_str s, const char *text)
{
    size_t n = strlen(text);
    return s.n >= n && memcmp(s.p, text, n) == 0;
}

/* vLLM's. What changes one engine is no client's to ask, and not of whichever has least to do. */
static bool changes_an_engine(struct jr_str path)
{
    return jr_str_eq(path, "/v1/load_lora_adapter") || jr_str_eq(path, "/v1/unload_lora_adapter");
}

static void pass(struct jr_front_loop *l, struct jr_http_request *req, struct jr_str method)
{
    jr_http_request_tag(req, &passed);
    if (changes_an_engine(jr_http_request_path(req)))
        jr_service_error(l, req, JR_ERROR_FORBIDDEN, NULL,
                         "this path changes one engine: ask the engine itself");
    else if (jr_str_eq(method, "GET") || jr_str_eq(method, "POST"))
        jr_proxy_pass(l, req);
    else
        wrong_method(l, req, "GET, POST");
}

static const struct jr_front_path *find_in(const struct jr_front_path *v, size_t n,
                                           struct jr_str path, struct jr_str method,
                                           const char **ret_allowed)
{
    for (size_t i = 0; i < n; i++) {
        if (!jr_str_eq(path, v[i].path))
            continue;
        *ret_allowed = v[i].method;
        if (method_fits(&v[i], method))
            return &v[i];
    }
    return NULL;
}

/* NULL: none; *ret_allowed then is the method that the path is for, if there is one. */
static const struct jr_front_path *find_path(const struct jr_front_command *c, struct jr_str path,
                                             struct jr_str method, const char **ret_allowed)
{
    *ret_allowed = NULL;
    const struct jr_front_path *p = find_in(c->paths, c->n_paths, path, method, ret_allowed);
    return p ? p : find_in(paths, sizeof paths / sizeof *paths, path, method, ret_allowed);
}

void jr_service_answered(void *ctx, const void *tag, int status)
{
    struct jr_front_loop *l = ctx;
    const struct jr_front_path *p = tag;
    jr_http_metrics_count(&l->answers, p ? p->path : NULL, status);
}

void jr_service_admin_answered(void *ctx, const void *tag, int status)
{
    struct jr_frontend *f = ctx;
    jr_service_answered(&f->main, tag, status);
}

void jr_service_request(void *ctx, struct jr_http_request *req)
{
    struct jr_front_loop *l = ctx;
    const struct jr_front_command *c = l->f->command;
    struct jr_str path = jr_http_request_path(req), method = jr_http_request_method(req);
    const char *allowed;
    if (path.n + jr_http_request_query(req).n > JR_HTTP_TARGET_MAX) {
        jr_limit_reached(JR_LIMIT_HTTP_TARGET);
        jr_service_error(l, req, JR_ERROR_TARGET_TOO_LONG, NULL, NULL);
        return;
    }
    const struct jr_front_path *p = find_path(c, path, method, &allowed);
    if (p)
        serve(l, req, p);
    else if (allowed)
        wrong_method(l, req, allowed);
    else if (c->openai && starts_with(path, "/v1/models/") && method_fits(&one_model, method))
        serve(l, req, &one_model);
    else if (c->openai && starts_with(path, "/v1/"))
        pass(l, req, method);
    else
        jr_service_error(l, req, JR_ERROR_NO_PATH, NULL, c->no_path);
}

/* ---------------------------------------------------------------- the frontend */

static void completions(struct jr_front_loop *l, struct jr_http_request *req)
{
    jr_proxy_request(l, req, JR_OPENAI_COMPLETION);
}

static void chat(struct jr_front_loop *l, struct jr_http_request *req)
{
    jr_proxy_request(l, req, JR_OPENAI_CHAT);
}

static int named_pools(const struct jr_config *cfg, struct jr_front_pools *ret, struct jr_errmsg *e)
{
    const char *const *components = jr_config_list(cfg, JR_CFG_COMPONENT, &ret->n_components);
    if (ret->n_components > JR_POOLS_MAX)
        return jr_errmsg_set(e, JR_ECONFIG, "%u components are named, the most is %u",
                             ret->n_components, JR_POOLS_MAX);
    (void)jr_str_copy(ret->namespace_, JR_NAME_MAX, jr_config_str(cfg, JR_CFG_NAMESPACE));
    for (uint32_t i = 0; i < ret->n_components; i++)
        (void)jr_str_copy(ret->components[i], JR_NAME_MAX, components[i]);
    return 0;
}

static const struct jr_front_path frontend_paths[] = {
    {"POST", "/v1/completions", .local = completions},
    {"POST", "/v1/chat/completions", .local = chat},
    {"GET", "/v1/models", .main = models},
};

static const struct jr_front_command frontend = {
    .paths = frontend_paths,
    .n_paths = sizeof frontend_paths / sizeof *frontend_paths,
    .openai = true,
    .pools = named_pools,
};

int jr_frontend_main(const struct jr_config *cfg, struct jr_errmsg *e)
{
    return jr_front_run(&frontend, cfg, e);
}

void jr_service_admin_request(void *ctx, struct jr_http_request *req)
{
    struct jr_frontend *f = ctx;
    const char *allowed;
    const struct jr_front_path *p =
        find_path(f->command, jr_http_request_path(req), jr_http_request_method(req), &allowed);
    jr_http_request_tag(req, p);
    if (p && p->main)
        serve_here(f, req, p, true);
    else if (!p && allowed)
        wrong_method(&f->main, req, allowed);
    else
        jr_service_error(&f->main, req, JR_ERROR_NO_PATH, NULL,
                         "this is the port of administration: requests go to --http-port");
}
