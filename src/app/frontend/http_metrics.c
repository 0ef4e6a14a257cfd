/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/http_metrics.h"

#include <stdio.h>

static struct jr_series *series_of(struct jr_http_metrics *h, const char *path, int status)
{
    char code[16];
    snprintf(code, sizeof code, "%d", status);
    return jr_metric_series(h->m, JR_METRIC_HTTP_REQUESTS_TOTAL,
                            JR_LABELS(path ? path : "other", code));
}

/* Its place; JR_HTTP_METRICS_MAX: there is none for it. */
static uint32_t find(struct jr_http_metrics *h, const char *path, int status)
{
    uint32_t i = 0;
    while (i < h->n && (h->v[i].path != path || h->v[i].status != status))
        i++;
    if (i < h->n || i == JR_HTTP_METRICS_MAX)
        return i;
    h->v[i].path = path;
    h->v[i].status = status;
    h->v[i].series = series_of(h, path, status);
    h->n++;
    return i;
}

void jr_http_metrics_count(struct jr_http_metrics *h, const char *path, int status)
{
    uint32_t i = h->last;
    if (i >= h->n || h->v[i].path != path || h->v[i].status != status)
        i = find(h, path, status);
    if (i < JR_HTTP_METRICS_MAX) {
        jr_series_add(h->v[i].series, 1);
        h->last = i;
    } else {
        jr_series_add(series_of(h, path, status), 1);
    }
}
