/* SPDX-License-Identifier: Apache-2.0 */
/* span_options: the exporter of an HTTP loop, and which requests it traces, as the options say. */
#ifndef JR_APP_FRONTEND_SPAN_OPTIONS_H
#define JR_APP_FRONTEND_SPAN_OPTIONS_H

#include "app/frontend/front_loop.h"
#include "app/frontend/span_export.h"

/* Sets l->exporter and l->sampler, of a loop with client and metrics. JR_ECONFIG with words. */
JR_MUST_CHECK int jr_span_options(struct jr_front_loop *l, struct jr_errmsg *e);

#endif
