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
    g->f->gathering--;
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

/* One that was told to stop may not live to read what is sent to it. */
static bool answers(const struct jr_front_loop *l)
{
    return l->started && !l->told_to_stop;
}

void jr_gather_metrics(struct jr_frontend *f, struct jr_http_request *req)
{
    struct gather *g = jr_xalloc(sizeof *g);
    g->f = f;
    f->gathering++;
    g->req = req;
    g->sum.metrics = jr_metrics_create();
    jr_http_request_watch(req, on_gone, NULL, g);
    for (uint32_t i = 0; i < f->n_others; i++) {
        struct jr_front_loop *l = &f->others[i];
        if (!answers(l))
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

struct forget {
    struct jr_msg msg;
    struct jr_front_loop *l;
    char label[JR_NAME_MAX + 1];
};

/* On the loop's thread. */
static void on_forget(struct jr_msg *msg)
{
    struct forget *o = JR_CONTAINER_OF(msg, struct forget, msg);
    jr_request_metrics_forget(&o->l->requests, &o->l->proxied, o->label);
    jr_xfree(o);
}

void jr_gather_forget_model(struct jr_frontend *f, const char *label)
{
    jr_request_metrics_forget(&f->main.requests, &f->main.proxied, label);
    for (uint32_t i = 0; i < f->n_others; i++) {
        if (!answers(&f->others[i]))
            continue;
        struct forget *o = jr_xalloc(sizeof *o);
        o->l = &f->others[i];
        o->msg.deliver = on_forget;
        (void)jr_str_copy(o->label, sizeof o->label, label);
        jr_loop_post(o->l->loop, &o->msg);
    }
}
