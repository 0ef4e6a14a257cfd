/* SPDX-License-Identifier: Apache-2.0 */
/* proxy_log: what the access log is told of a request. */
#include "app/frontend/access_log.h"
#include "app/frontend/access_post.h"
#include "app/frontend/proxy_internal.h"

#include <string.h>

void jr_proxy_log_begin(struct jr_proxied *x)
{
    x->began_unix_ns = jr_unix_ns();
    if (x->f->access_log) /* later, its connection may be gone */
        jr_http_request_client(x->req, x->client, sizeof x->client);
}

void jr_proxy_log_decided(struct jr_proxied *x, struct jr_access_decision *record)
{
    if (!record)
        return;
    jr_xfree(x->decision);
    x->decision = record;
}

void jr_proxy_log_end(struct jr_proxied *x, const char *error_type)
{
    if (!x->f->access_log)
        return;
    const struct jr_openai_progress *p = &x->progress;
    uint64_t now_ns = jr_loop_now_ns();
    struct jr_access_entry entry = {
        .unix_ns = x->began_unix_ns,
        .request_id = x->request_id,
        .client = jr_str_of(x->client, strlen(x->client)),
        .model = jr_str_of(x->model, strlen(x->model)),
        .endpoint = jr_proxy_endpoint(x),
        .error = error_type,
        .stream = x->stream,
        .has_worker = x->attempts > 0,
        .has_tokens = p->has_usage || x->n_tokens > 0,
        .has_cached = p->has_usage,
        .has_first = x->first_token_ns != 0,
        .status = x->status,
        .worker_id = x->worker_id,
        .dp_rank = x->dp_rank,
        .tokens_in = p->has_usage ? p->prompt_tokens : x->n_tokens,
        .tokens_out = p->has_usage ? p->completion_tokens : p->n_content,
        .prompt_blocks = x->n_prefix,
        .overlap_blocks = x->overlap_blocks,
        .cached_tokens = p->cached_tokens,
        .first_token_ns = x->first_token_ns - x->started_ns,
        .duration_ns = now_ns - x->started_ns,
        .retries = x->attempts > 0 ? x->attempts - 1 : 0,
        .bytes_in = jr_http_request_body(x->req).n,
        .bytes_out = x->bytes_out,
        .slow = x->decision,
    };
    jr_access_post(x->l, &entry);
}

void jr_proxy_log_refused(struct jr_front_loop *l, const struct jr_http_request *req,
                          enum jr_openai_kind kind, int status)
{
    if (!l->f->access_log)
        return;
    char client[JR_HTTP_CLIENT_MAX];
    jr_http_request_client(req, client, sizeof client);
    struct jr_access_entry entry = {
        .unix_ns = jr_unix_ns(),
        .request_id = jr_http_request_header(req, "x-request-id"),
        .client = jr_str_of(client, strlen(client)),
        .endpoint = kind == JR_OPENAI_CHAT ? "chat_completions" : "completions",
        .error = "validation",
        .status = status,
        .bytes_in = jr_http_request_body(req).n,
    };
    jr_access_post(l, &entry);
}
