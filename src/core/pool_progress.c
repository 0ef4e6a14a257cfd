/* SPDX-License-Identifier: Apache-2.0 */
/* How far a restore or a replay is, for whoever waits: at each tenth, else each second, and at its
 * end. Short ones have only an end. */
#include "core/pool_internal.h"

#define SAY_EVERY_MS 1000
#define SAY_LEAST_MS 100

void jr_pool_progress_begin(struct jr_pool *p, const char *what, uint64_t from, uint64_t to)
{
    if (to < from)
        to = from;
    p->progress = (struct jr_pool_progress){
        .what = what, .from = from, .to = to, .began_ms = p->now_ms, .said_ms = p->now_ms};
    p->progress.next = from + (to - from + 9) / 10;
}

static uint64_t percent(const struct jr_pool_progress *g, uint64_t at)
{
    return g->to > g->from ? (at - g->from) * 100 / (g->to - g->from) : 100;
}

void jr_pool_progress(struct jr_pool *p, uint64_t at)
{
    struct jr_pool_progress *g = &p->progress;
    uint64_t silent_ms = p->now_ms - g->said_ms;
    if (!g->what || at >= g->to || silent_ms < (at < g->next ? SAY_EVERY_MS : SAY_LEAST_MS))
        return;
    g->said_ms = p->now_ms;
    g->next = at + (g->to - g->from + 9) / 10;
    jr_trace_emit(&p->trace, JR_TRACE_INFO, "recovery.progress",
                  "what=%s at=%llu of=%llu percent=%llu seconds=%.1f", g->what,
                  (unsigned long long)(at - g->from), (unsigned long long)(g->to - g->from),
                  (unsigned long long)percent(g, at), (double)(p->now_ms - g->began_ms) / 1e3);
}

void jr_pool_progress_end(struct jr_pool *p, uint64_t at)
{
    struct jr_pool_progress *g = &p->progress;
    if (g->what && at > g->from)
        jr_trace_emit(&p->trace, JR_TRACE_INFO, "recovery.done", "what=%s done=%llu seconds=%.3f",
                      g->what, (unsigned long long)(at - g->from),
                      (double)(p->now_ms - g->began_ms) / 1e3);
    g->what = NULL;
}
