/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/gather.h"

struct gather {
    struct jr_frontend *f;
    struct jr_http_request *req; /* NULL: its client is gone */
    uint32_t waiting;            /* for so many */
    struct jr_gathered sum;
};

/* To a loop and back. */
struct part {
    struct jr_msg msg;
    struct gather *g;
    struct jr_front_loop *l;
    struct jr_gathered got;
};

static void maybe_answer(struct gather *g)
{
    if (g->waiting > 0)
        return;
    if (g->req)
        jr_scrape_answer(g->f, &g->sum, g->req);
    jr_metrics_destroy(g->sum.metrics);
    jr_xfree(g);
}

static void on_part(struct jr_msg *msg)
{
    struct part *p = JR_CONTAINER_OF(msg, struct part, msg);
    struct gather *g = p->g;
    jr_metrics_merge(g->sum.metrics, p->got.metrics);
    jr_http_server_stats_add(&g->sum.stats, &p->got.stats);
    jr_metrics_destroy(p->got.metrics);
    jr_xfree(p);
    g->waiting--;
    maybe_answer(g);
}

/* On the loop's thread. */
static void on_asked(struct jr_msg *msg)
{
    struct part *p = JR_CONTAINER_OF(msg, struct part, msg);
    p->got.metrics = jr_metrics_create();
    jr_request_metrics_count(&p->l->requests, &p->l->proxied);
    jr_metrics_merge(p->got.metrics, p->l->metrics);
    if (!p->l->stopping)
        p->got.stats = *jr_http_server_stats(p->l->server);
    p->msg.deliver = on_part;
    jr_loop_post(p->l->f->loop, &p->msg);
}

static void on_gone(void *ctx)
{
    struct gather *g = ctx;
    jr_http_respond_end(g->req, true);
    g->req = NULL;
}

void jr_gather_metrics(struct jr_frontend *f, struct jr_http_request *req)
{
    struct gather *g = jr_xalloc(sizeof *g);
    g->f = f;
    g->req = req;
    g->sum.metrics = jr_metrics_create();
    jr_http_request_watch(req, on_gone, NULL, g);
    for (uint32_t i = 0; i < f->n_others; i++) {
        struct jr_front_loop *l = &f->others[i];
        if (!l->started || l->told_to_stop) /* it may not live to answer */
            continue;
        struct part *p = jr_xalloc(sizeof *p);
        p->g = g;
        p->l = l;
        p->msg.deliver = on_asked;
        g->waiting++;
        jr_loop_post(l->loop, &p->msg);
    }
    maybe_answer(g);
}
