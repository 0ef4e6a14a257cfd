/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/model_series.h"

#include "base/mem.h"
#include "base/str.h"

#include <string.h>

#define KEY JR_METRIC_FRONTEND_INFLIGHT_REQUESTS /* each model has one from its first request on */

static uint64_t since(const struct jr_model_series *s, const char *label, uint64_t now_ms)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (strcmp(s->away[i].label, label) == 0)
            return s->away[i].since_ms;
    return now_ms;
}

static void take(struct jr_model_series *s, struct jr_model_away *away, uint32_t n)
{
    jr_xfree(s->away);
    s->away = away;
    s->n = n;
}

void jr_model_series_look(struct jr_model_series *s, const struct jr_metrics *sum, uint64_t now_ms,
                          jr_model_served_fn *served, jr_model_gone_fn *gone, void *ctx)
{
    const uint32_t n_sets = jr_metric_sets(sum, KEY);
    const bool full = n_sets == jr_metric_row(KEY)->sets_max;
    struct jr_model_away *away = jr_xalloc((n_sets + 1) * sizeof *away);
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_sets; i++) {
        const char *label = jr_metric_label(sum, KEY, i);
        if (!label[0] || jr_metric_get(sum, KEY, JR_LABELS(label)) > 0 || served(ctx, label))
            continue;
        away[n].since_ms = since(s, label, now_ms);
        (void)jr_str_copy(away[n++].label, sizeof away->label, label);
    }
    take(s, away, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t ms = now_ms - away[i].since_ms;
        if (ms >= (full ? 1 : JR_MODEL_AWAY_MS))
            gone(ctx, away[i].label);
    }
}

void jr_model_series_deinit(struct jr_model_series *s)
{
    take(s, NULL, 0);
}
