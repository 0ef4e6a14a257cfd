/* SPDX-License-Identifier: Apache-2.0 */
/* model_series: which models' series are to go, for a process may see any number of names and each
 * metric has room for so many. A model is away while no worker says that it serves it and nothing of
 * it is under way. It goes after JR_MODEL_AWAY_MS of that, or sooner where the sets are used up; in
 * any case a look has shown what it came to before the look behind which it goes.
 *
 *     look, away ──► look, its last counts as they were ──► it goes ──► look without it
 *
 * Main loop only. */
#ifndef JR_APP_FRONTEND_MODEL_SERIES_H
#define JR_APP_FRONTEND_MODEL_SERIES_H

#include "app/metrics.h"
#include "base/limits.h"

#define JR_MODEL_AWAY_MS (UINT64_C(10) * 60 * 1000)

struct jr_model_away {
    char label[JR_NAME_MAX + 1];
    uint64_t since_ms; /* the look that found it away first */
};

/* Zero-initialised: none is away. */
struct jr_model_series {
    struct jr_model_away *away; /* owned, as found at the last look */
    uint32_t n;
};

/* Of a look: is it the label of a model with a worker? */
typedef bool jr_model_served_fn(void *ctx, const char *label);
typedef void jr_model_gone_fn(void *ctx, const char *label);

/* sum: what this look showed, of all loops. gone is called for each that is to go, and lets all loops
 * forget it; one that is still there at the next look is named again. */
void jr_model_series_look(struct jr_model_series *s, const struct jr_metrics *sum, uint64_t now_ms,
                          jr_model_served_fn *served, jr_model_gone_fn *gone, void *ctx);
void jr_model_series_deinit(struct jr_model_series *s);

#endif
