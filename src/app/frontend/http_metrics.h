/* SPDX-License-Identifier: Apache-2.0 */
/* http_metrics: the answers of one HTTP loop, by known path and status. Its thread only.
 *
 * A path is the text of a table, told by its address: what clients make up is "other". */
#ifndef JR_APP_FRONTEND_HTTP_METRICS_H
#define JR_APP_FRONTEND_HTTP_METRICS_H

#include "app/metrics.h"

#define JR_HTTP_METRICS_MAX 128 /* pairs of path and status */

struct jr_http_metrics {
    struct jr_metrics *m; /* borrows */
    struct {
        const char *path;
        int status;
        struct jr_series *series;
    } v[JR_HTTP_METRICS_MAX];
    uint32_t n, last; /* last: the one that was counted */
};

/* path: borrows, for good; NULL: none that is known. Zero-initialised but for m: empty. */
void jr_http_metrics_count(struct jr_http_metrics *h, const char *path, int status);

#endif
