/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: requests of other /v1 paths, which a worker is chosen for by load alone. Of the body only
 * the model is read, and whether a stream is asked for; of the answer nothing. */
#include "app/frontend/proxy_internal.h"

#include "wire/json.h"
#include "wire/openai_model.h"

#include <string.h>

const char *jr_proxy_passed_endpoint(struct jr_str path)
{
    return jr_str_eq(path, "/v1/embeddings")  ? "embeddings"
           : jr_str_eq(path, "/v1/responses") ? "responses"
                                              : "other";
}

/* What is no JSON object names no model; the worker will say what it thinks of it. */
static void read_body(struct jr_front_loop *l, struct jr_str body, struct jr_openai_request *r)
{
    struct jr_openai_outline o;
    if (jr_openai_outline(body, &o) < 0)
        return;
    r->stream = o.stream;
    r->model_span = o.model;
    if (!l->name.max)
        jr_buf_init(&l->name, JR_MODEL_MAX);
    jr_buf_clear(&l->name);
    if (o.model.n == 0)
        return;
    struct jr_str raw = jr_str_of(body.p + o.model.off + 1, o.model.n - 2);
    if (jr_json_unescape(raw, &l->name) == 0 && !l->name.err)
        r->model = jr_str_of(jr_buf_str(&l->name), l->name.n);
    else
        r->model = raw; /* nobody's */
}

void jr_proxy_pass(struct jr_front_loop *l, struct jr_http_request *req)
{
    struct jr_openai_request r = {.kind = JR_OPENAI_COMPLETION, .n = 1};
    read_body(l, jr_http_request_body(req), &r);
    const char *model = jr_pools_alias(l->f, r.model);
    struct jr_buf own;
    jr_buf_init(&own, 0);
    if (model) {
        struct jr_str body = jr_http_request_body(req);
        jr_buf_init(&own, body.n + JR_ALIAS_MORE);
        jr_openai_put_model(body, r.model_span, model, &own);
        r.model = jr_str_of(model, strlen(model));
    }
    struct jr_proxied *x = jr_proxy_begin(l, req, &r, &own, true, NULL);
    if (x)
        jr_proxy_route(x);
}
