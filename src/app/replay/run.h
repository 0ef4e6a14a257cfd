/* SPDX-License-Identifier: Apache-2.0 */
/* run: replays a trace against one URL, open loop: each request goes out when the trace says so,
 * whether earlier ones were answered or not. Runs a loop of its own until the last answer. */
#ifndef JR_APP_REPLAY_RUN_H
#define JR_APP_REPLAY_RUN_H

#include "app/config.h"
#include "app/replay/report.h"
#include "app/replay/trace.h"

struct jr_replay_plan {
    const struct jr_trace *trace; /* borrows for the call, as all */
    const char *url;              /* http:// or https:// host:port */
    const char *model;            /* NULL: the first one that GET /v1/models names */
    double speed;                 /* times as fast as the trace; 0: without waiting */
    bool progress;                /* draw a bar on stderr */
    const struct jr_config *cfg;  /* how https is spoken (https_options) */
};

/* Fills url, model, speed, duration and the numbers of *ret, which the caller has zeroed and
 * deinits. 0, also when answers were wrong (they are counted); JR_ECONN, JR_EPROTO, JR_ENOTFOUND:
 * the URL cannot be used at all, words in e; JR_ECANCELED: SIGINT or SIGTERM came, and *ret holds
 * what had been answered. */
JR_MUST_CHECK int jr_replay_run(const struct jr_replay_plan *plan, struct jr_report *ret,
                                struct jr_errmsg *e);

#endif
