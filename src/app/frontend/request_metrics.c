/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/request_metrics.h"

#include "app/frontend/proxy_internal.h"

#include <string.h>

void jr_request_metrics_init(struct jr_request_metrics *r, struct jr_metrics *m,
                             const char *router_id)
{
    const char *const *l = JR_LABELS(router_id);
    r->m = m;
    r->none.model = "";
    r->requests = jr_metric_series(m, JR_METRIC_ROUTER_REQUESTS_TOTAL, l);
    r->ttft = jr_metric_series(m, JR_METRIC_ROUTER_TTFT_SECONDS, l);
    r->itl = jr_metric_series(m, JR_METRIC_ROUTER_ITL_SECONDS, l);
    r->input = jr_metric_series(m, JR_METRIC_ROUTER_INPUT_TOKENS, l);
    r->output = jr_metric_series(m, JR_METRIC_ROUTER_OUTPUT_TOKENS, l);
    r->hit_rate = jr_metric_series(m, JR_METRIC_ROUTER_KV_HIT_RATE, l);
}

void jr_request_metrics_deinit(struct jr_request_metrics *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        jr_xfree((char *)(uintptr_t)r->v[i]->model);
        jr_xfree(r->v[i]);
    }
    r->n = 0;
}

static struct jr_model_metrics *add(struct jr_request_metrics *r, const char *model)
{
    struct jr_model_metrics *m = jr_xalloc(sizeof *m);
    const char *const *l = JR_LABELS(model);
    *m = (struct jr_model_metrics){
        .model = jr_xstrdup(model),
        .inflight = jr_metric_series(r->m, JR_METRIC_FRONTEND_INFLIGHT_REQUESTS, l),
        .queued = jr_metric_series(r->m, JR_METRIC_FRONTEND_QUEUED_REQUESTS, l),
        .duration = jr_metric_series(r->m, JR_METRIC_FRONTEND_REQUEST_DURATION_SECONDS, l),
        .ttft = jr_metric_series(r->m, JR_METRIC_FRONTEND_TTFT_SECONDS, l),
        .itl = jr_metric_series(r->m, JR_METRIC_FRONTEND_ITL_SECONDS, l),
        .input = jr_metric_series(r->m, JR_METRIC_FRONTEND_INPUT_TOKENS, l),
        .output = jr_metric_series(r->m, JR_METRIC_FRONTEND_OUTPUT_TOKENS, l),
        .output_total = jr_metric_series(r->m, JR_METRIC_FRONTEND_OUTPUT_TOKENS_TOTAL, l),
        .cached = jr_metric_series(r->m, JR_METRIC_FRONTEND_CACHED_TOKENS, l),
        .hit_rate = jr_metric_series(r->m, JR_METRIC_FRONTEND_KV_HIT_RATE, l),
    };
    r->last = r->n;
    r->v[r->n++] = m;
    return m;
}

struct jr_model_metrics *jr_request_metrics_of(struct jr_request_metrics *r, const char *model)
{
    if (r->n > 0 && strcmp(r->v[r->last]->model, model) == 0)
        return r->v[r->last];
    for (uint32_t i = 0; i < r->n; i++)
        if (strcmp(r->v[i]->model, model) == 0) {
            r->last = i;
            return r->v[i];
        }
    if (r->n < JR_SETS_MODEL)
        return add(r, model);
    jr_metric_add(r->m, JR_METRIC_METRIC_LABEL_OVERFLOW_TOTAL,
                  JR_LABELS(jr_metric_row(JR_METRIC_FRONTEND_REQUEST_DURATION_SECONDS)->name), 1);
    return &r->none;
}

static struct jr_proxied *proxied_at(const struct jr_list *it)
{
    return JR_CONTAINER_OF((struct jr_list *)(uintptr_t)it, struct jr_proxied, node);
}

static void let_go(struct jr_request_metrics *r, const struct jr_list *proxied, uint32_t at)
{
    struct jr_model_metrics *m = r->v[at];
    for (const struct jr_list *it = proxied->next; it != proxied; it = it->next)
        if (proxied_at(it)->counted == m)
            proxied_at(it)->counted = jr_request_metrics_of(r, "");
    r->v[at] = r->v[--r->n];
    r->last = 0;
    jr_xfree((char *)(uintptr_t)m->model);
    jr_xfree(m);
}

void jr_request_metrics_forget(struct jr_request_metrics *r, const struct jr_list *proxied,
                               const char *label)
{
    for (uint32_t i = 0; i < r->n;) /* names that are one when they are cut share their series */
        if (jr_metric_label_is(label, r->v[i]->model))
            let_go(r, proxied, i);
        else
            i++;
    jr_metrics_forget(r->m, "model", label);
}

void jr_request_metrics_count(struct jr_request_metrics *r, const struct jr_list *proxied)
{
    for (uint32_t i = 0; i < r->n; i++)
        r->v[i]->n_inflight = r->v[i]->n_queued = 0;
    for (const struct jr_list *it = proxied->next; it != proxied; it = it->next) {
        const struct jr_proxied *x = proxied_at(it);
        x->counted->n_inflight++;
        x->counted->n_queued += x->first_token_ns == 0;
    }
    for (uint32_t i = 0; i < r->n; i++) {
        jr_series_set(r->v[i]->inflight, r->v[i]->n_inflight);
        jr_series_set(r->v[i]->queued, r->v[i]->n_queued);
    }
}
