/* SPDX-License-Identifier: Apache-2.0 */
/* proxy_spans: what OpenTelemetry is told of a request. The loop's thread only.
 *
 *     client's span (traceparent) ─► request ─┬─► tokenization        text that tokens are asked for
 *                                             ├─► decision            a worker, with the time in the queue
 *                                             ├─► upstream ─► worker  one for each worker that was asked
 *                                             └─► …
 *
 * One step is under way at a time; the next one ends it. x->spans is NULL unless tracing is on, which is
 * all that the functions here look at then; a request that is not sampled has one, for its traceparent. */
#ifndef JR_APP_FRONTEND_PROXY_SPANS_H
#define JR_APP_FRONTEND_PROXY_SPANS_H

#include "app/frontend/proxy_internal.h"
#include "wire/trace_context.h"

/* As jr_spans_… below, once tracing is on. */
void jr_proxy_spans_begin(struct jr_proxied *x);
void jr_proxy_spans_tokenize(struct jr_proxied *x);
void jr_proxy_spans_decide(struct jr_proxied *x);
void jr_proxy_spans_decided(struct jr_proxied *x, const struct jr_decided *decided);
void jr_proxy_spans_send(struct jr_proxied *x, const char *worker_url);
void jr_proxy_spans_end(struct jr_proxied *x, const char *error_type);
void jr_proxy_spans_keep(struct jr_proxied *x);
void jr_proxy_spans_failed(struct jr_proxied *x, int err);
void jr_proxy_spans_head(struct jr_proxied *x, int status);
void jr_proxy_spans_first_token(struct jr_proxied *x);
const char *jr_proxy_spans_parent(struct jr_proxied *x, bool *ret_foreign);
void jr_proxy_spans_refused(struct jr_front_loop *l, struct jr_http_request *req,
                            enum jr_openai_kind kind, int status);

/* The request has come. */
static inline void jr_spans_begin(struct jr_proxied *x)
{
    if (x->l->exporter)
        jr_proxy_spans_begin(x);
}
/* Ids are asked for. */
static inline void jr_spans_tokenize(struct jr_proxied *x)
{
    if (x->spans)
        jr_proxy_spans_tokenize(x);
}
/* A worker is asked for, and what came of it. */
static inline void jr_spans_decide(struct jr_proxied *x)
{
    if (x->spans)
        jr_proxy_spans_decide(x);
}
static inline void jr_spans_decided(struct jr_proxied *x, const struct jr_decided *decided)
{
    if (x->spans)
        jr_proxy_spans_decided(x, decided);
}
/* The worker is asked; the head of its answer; its first token; err: no answer, or not the whole of it. */
static inline void jr_spans_send(struct jr_proxied *x, const char *worker_url)
{
    if (x->spans)
        jr_proxy_spans_send(x, worker_url);
}
static inline void jr_spans_head(struct jr_proxied *x, int status)
{
    if (x->spans)
        jr_proxy_spans_head(x, status);
}
static inline void jr_spans_first_token(struct jr_proxied *x)
{
    if (x->spans)
        jr_proxy_spans_first_token(x);
}
static inline void jr_spans_failed(struct jr_proxied *x, int err)
{
    if (x->spans && err < 0)
        jr_proxy_spans_failed(x, err);
}
/* It has ended. */
static inline void jr_spans_end(struct jr_proxied *x, const char *error_type)
{
    if (x->spans)
        jr_proxy_spans_end(x, error_type);
}
/* It is read anew: the next that begins on its loop goes on with its spans. */
static inline void jr_spans_keep(struct jr_proxied *x)
{
    if (x->spans)
        jr_proxy_spans_keep(x);
}
/* The traceparent for the worker; NULL: the client's goes on, or none. *ret_foreign: the client's was
 * none, so that its tracestate says nothing. Borrows until the next step. */
static inline const char *jr_spans_parent(struct jr_proxied *x, bool *ret_foreign)
{
    return x->spans ? jr_proxy_spans_parent(x, ret_foreign) : NULL;
}
/* A request whose body could not be read: nothing else is told of it. */
static inline void jr_spans_refused(struct jr_front_loop *l, struct jr_http_request *req,
                                    enum jr_openai_kind kind, int status)
{
    if (l->exporter)
        jr_proxy_spans_refused(l, req, kind, status);
}
static inline void jr_spans_free(struct jr_proxied *x)
{
    jr_xfree(x->spans);
    x->spans = NULL;
}

#endif
