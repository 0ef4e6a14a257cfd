/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/pools.h"

#include "base/log.h"

#include <string.h>

#define ASIDE_MAX_MS 60000

void jr_pools_init(struct jr_pools *p, const struct jr_config *cfg)
{
    const struct jr_outlier_config config = {
        .failures = jr_config_u32(cfg, JR_CFG_WORKER_FAILURES),
        .aside_ms = jr_config_ms(cfg, JR_CFG_WORKER_ASIDE_SECS),
        .aside_max_ms = ASIDE_MAX_MS,
    };
    for (uint32_t i = 0; i < JR_POOLS_MAX; i++) {
        jr_outlier_init(&p->outliers[i], &config);
        p->registry[i] = 0;
    }
}

int jr_pools_find(struct jr_frontend *f, const char *model, bool *ret_known, bool *ret_named)
{
    *ret_known = *ret_named = false;
    for (uint32_t i = 0; i < f->n_drivers; i++) {
        enum jr_pool_model m = jr_pool_model(jr_driver_pool(f->drivers[i]), model);
        *ret_named = m == JR_POOL_MODEL_SERVED;
        if (m == JR_POOL_MODEL_SERVED || m == JR_POOL_MODEL_TAKEN)
            return (int)i;
        *ret_known = *ret_known || m == JR_POOL_MODEL_NONE;
    }
    return -1;
}

const char *jr_pools_alias(const struct jr_frontend *f, struct jr_str name)
{
    uint32_t n;
    const char *const *v = jr_config_list(f->cfg, JR_CFG_MODEL_ALIAS, &n);
    for (uint32_t i = 0; i < n; i++) {
        size_t len = strcspn(v[i], "=");
        if (len == name.n && memcmp(v[i], name.p, len) == 0)
            return v[i] + len + 1;
    }
    return NULL;
}

static bool is_routable(void *ctx, uint64_t worker_id)
{
    return jr_pool_is_routable(ctx, worker_id);
}

/* Who is gone or down gets no request anyway: it takes no place of the list, and none of the half
 * that may be aside. */
static struct jr_outlier *outlier_of(struct jr_frontend *f, uint32_t pool)
{
    struct jr_pools *p = f->pools;
    struct jr_outlier *o = &p->outliers[pool];
    struct jr_pool *of = jr_driver_pool(f->drivers[pool]);
    uint64_t version = jr_pool_registry_version(of);
    if (o->n && p->registry[pool] != version)
        jr_outlier_keep(o, is_routable, of);
    p->registry[pool] = version;
    return o;
}

uint32_t jr_pools_n_aside(struct jr_frontend *f, uint32_t pool)
{
    return jr_outlier_n_aside(outlier_of(f, pool));
}

bool jr_pools_limit(struct jr_frontend *f, uint32_t pool, const char *model, const uint64_t *failed,
                    uint32_t n_failed, bool with_aside, struct jr_route *r)
{
    struct jr_pools *p = f->pools;
    struct jr_outlier *o = outlier_of(f, pool);
    uint32_t n = 0;
    if (o->n && !with_aside)
        n = jr_outlier_list(o, jr_loop_now_ms(f->loop), p->exclude);
    bool any = n > 0;
    for (uint32_t i = 0; i < n_failed && i < JR_PROXY_EXCLUDE_MAX; i++)
        p->exclude[n++] = failed[i];
    r->exclude = p->exclude;
    r->n_exclude = n;
    r->model = jr_pool_model_id(model);
    return any;
}

void jr_pools_sent(struct jr_frontend *f, uint32_t pool, uint64_t worker_id)
{
    jr_outlier_sent(&f->pools->outliers[pool], worker_id, jr_loop_now_ms(f->loop));
}

void jr_pools_failed(struct jr_frontend *f, uint32_t pool, uint64_t worker_id, const char *why)
{
    struct jr_outlier *o = outlier_of(f, pool);
    struct jr_pool *of = jr_driver_pool(f->drivers[pool]);
    uint64_t ms;
    if (!jr_pool_is_routable(of, worker_id) ||
        !jr_outlier_failed(o, worker_id, jr_pool_n_routable(of), jr_loop_now_ms(f->loop), &ms))
        return;
    jr_metric_add(f->metrics, JR_METRIC_WORKERS_PUT_ASIDE_TOTAL,
                  JR_LABELS(f->namespace_, f->components[pool]), 1);
    jr_log(JR_LOG_WARN, "worker.aside", "worker=%llu ms=%llu why=\"%s\"",
           (unsigned long long)worker_id, (unsigned long long)ms, why);
}

void jr_pools_answered(struct jr_frontend *f, uint32_t pool, uint64_t worker_id)
{
    struct jr_outlier *o = &f->pools->outliers[pool];
    if (o->n == 0 || !jr_outlier_is_aside(o, worker_id))
        return;
    jr_outlier_answered(o, worker_id);
    jr_log(JR_LOG_INFO, "worker.back", "worker=%llu", (unsigned long long)worker_id);
}

void jr_pools_well(struct jr_frontend *f, uint32_t pool, uint64_t worker_id)
{
    jr_outlier_well(&f->pools->outliers[pool], worker_id);
}

void jr_pools_unknown(struct jr_frontend *f, uint32_t pool, uint64_t worker_id)
{
    jr_outlier_unknown(&f->pools->outliers[pool], worker_id, jr_loop_now_ms(f->loop));
}
