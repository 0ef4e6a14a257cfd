/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/discover.h"

#include "app/frontend/frontend_internal.h"
#include "base/limit.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/js_stream.h"
#include "io/lane.h"

#include <string.h>

#define LOOK_MS 2000

struct jr_discover {
    struct jr_frontend *f;
    struct jr_lane *lane;
    struct jr_timer *timer;
    bool told; /* of a failure; once until it works again */
    bool full; /* there are more than JR_POOLS_MAX, which was said */
};

struct look {
    struct jr_job job;
    struct jr_discover *d;
    struct jr_components found;
    struct jr_errmsg e;
};

/* What is found is the name as streams have it ("blue-1"); a pool may be served by another that means
 * the same streams ("blue.1"). */
static bool is_known(const struct jr_frontend *f, const char *component)
{
    char found[JR_STREAM_NAME_MAX], served[JR_STREAM_NAME_MAX];

    if (jr_stream_name(JR_STREAM_LEASES, f->namespace_, component, found) < 0)
        return false;
    for (uint32_t i = 0; i < f->n_drivers; i++)
        if (jr_stream_name(JR_STREAM_LEASES, f->namespace_, f->components[i], served) == 0 &&
            strcmp(served, found) == 0)
            return true;
    return false;
}

static void add(struct jr_discover *d, const char *component)
{
    struct jr_frontend *f = d->f;
    struct jr_errmsg e = {""};

    if (f->draining || f->stopping || is_known(f, component))
        return;
    if (f->n_drivers == JR_POOLS_MAX) {
        jr_limit_reached(JR_LIMIT_POOLS);
        if (!d->full)
            jr_log(JR_LOG_ERROR, "pool.one_too_many", "component=%s most=%d hint=\"%s\"", component,
                   JR_POOLS_MAX, "name those this front is to serve with --component");
        d->full = true;
        return;
    }
    const int err = jr_frontend_add_pool(f, component, &e);
    if (err < 0)
        jr_log(JR_LOG_ERROR, "pool.not_added", "component=%s words=\"%s\"", component, e.text);
    else
        jr_log(JR_LOG_INFO, "pool.found", "component=%s", component);
}

static void look(struct jr_job *job)
{
    struct look *l = JR_CONTAINER_OF(job, struct look, job);
    /* One more than are served, so that it shows. */
    job->err = jr_stream_components(l->d->f->nats, l->d->f->namespace_, JR_POOLS_MAX + 1, &l->found,
                                    &l->e);
}

static void looked(struct jr_job *job)
{
    struct look *l = JR_CONTAINER_OF(job, struct look, job);
    struct jr_discover *d = l->d;

    if (job->err < 0 && job->err != JR_ECANCELED && job->err != JR_ENONATS && !d->told)
        jr_log(JR_LOG_WARN, "pool.not_looked_for", "words=\"%s\" hint=\"%s\"", l->e.text,
               "it is tried again; the account needs $JS.API.STREAM.NAMES");
    d->told = job->err < 0;
    for (uint32_t i = 0; job->err == 0 && i < l->found.n; i++)
        add(d, l->found.v[i]);
    jr_components_deinit(&l->found);
    jr_xfree(l);
}

static void on_timer(void *ctx)
{
    struct jr_discover *d = ctx;

    if (!jr_nats_connected(d->f->nats) || jr_lane_depth(d->lane) > 0)
        return;
    struct look *l = jr_xalloc(sizeof *l);
    l->d = d;
    l->job.run = look;
    l->job.done = looked;
    if (jr_lane_submit(d->lane, &l->job) < 0)
        jr_xfree(l);
}

int jr_discover_create(struct jr_frontend *f, struct jr_discover **ret, struct jr_errmsg *e)
{
    struct jr_discover *d = jr_xalloc(sizeof *d);

    d->f = f;
    if (jr_lane_create(f->loop, "jr-discover", 1, &d->lane) < 0) {
        jr_xfree(d);
        return jr_errmsg_set(e, JR_ENOMEM, "no thread for --discover-pools");
    }
    d->timer = jr_timer_create(f->loop, on_timer, d);
    jr_timer_start(d->timer, 1, LOOK_MS);
    *ret = d;
    return 0;
}

void jr_discover_destroy(struct jr_discover *d)
{
    if (!d)
        return;
    jr_timer_destroy(d->timer);
    jr_lane_destroy(d->lane);
    jr_xfree(d);
}
