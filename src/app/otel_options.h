/* SPDX-License-Identifier: Apache-2.0 */
/* otel_options: what OpenTelemetry's options say that are more than a number. Any thread. */
#ifndef JR_APP_OTEL_OPTIONS_H
#define JR_APP_OTEL_OPTIONS_H

#include "app/config.h"
#include "base/limits.h"

#include <stdbool.h>

/* Where spans are posted to: JR_URL_MAX bytes at ret. JR_EINVAL. */
JR_MUST_CHECK int jr_otel_url(const struct jr_config *cfg, char *ret);
/* "NAME=VALUE,…" with percent-encoded values: fn (may be NULL) for each, with texts that live for the
 * call. JR_EINVAL: a name that is no token, or a value that is not encoded so, or has a control character. */
typedef void jr_otel_pair_fn(void *ctx, const char *name, const char *value);
JR_MUST_CHECK int jr_otel_pairs(const char *text, jr_otel_pair_fn *fn, void *ctx);

/* Does a trace that begins here, or one of that sampled flag, get spans? */
struct jr_otel_sampler {
    bool parent_based;
    double share; /* of those whose parent does not say */
};
struct jr_otel_sampler jr_otel_sampler(const struct jr_config *cfg);

#endif
