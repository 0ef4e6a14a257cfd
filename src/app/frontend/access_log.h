/* SPDX-License-Identifier: Apache-2.0 */
/* access_log: lines about requests that have ended, to stdout or a file. Loop thread only.
 *
 *     end of a request ──► [lines, bounded] ──a job──► thread: write(2) ──► file, pipe
 *                             │ full                      │ cannot be written
 *                             └──► dropped, counted ◄─────┘
 *
 * What the log stands on may be slow, full or gone: requests never wait for it. All functions take
 * NULL for a log that is off. */
#ifndef JR_APP_FRONTEND_ACCESS_LOG_H
#define JR_APP_FRONTEND_ACCESS_LOG_H

#include "app/frontend/access_line.h"
#include "core/pool.h"
#include "io/loop.h"

struct jr_access_log;

struct jr_access_log_config {
    double share;       /* of the requests that get a line: 0 none, 1 all */
    const char *path;   /* copied; NULL, "" or "-": stdout */
    uint32_t slow_ms;   /* a request that took as long gets a line of kind "slow", too; 0: none */
    size_t buffer_max;  /* bytes that wait to be written */
    uint64_t seed;      /* of the sample */
    uint32_t linger_ms; /* before lines are written: several at once */
};

struct jr_access_log_stats {
    uint64_t lines;   /* written */
    uint64_t dropped; /* the buffer was full, or the file could not be written */
};

/* Opens the file. JR_EIO with words when that fails. */
JR_MUST_CHECK int jr_access_log_create(struct jr_loop *loop,
                                       const struct jr_access_log_config *config,
                                       struct jr_access_log **ret, struct jr_errmsg *e);
/* Writes what waits, for a second at most. */
void jr_access_log_destroy(struct jr_access_log *log);

/* SIGHUP is for it: it has a file. */
bool jr_access_log_reopens(const struct jr_access_log *log);
/* Of a request that has ended: neither line, one or both. */
void jr_access_log_add(struct jr_access_log *log, const struct jr_access_entry *entry);
/* The file is opened anew (it was moved away), before the next line. */
void jr_access_log_reopen(struct jr_access_log *log);
void jr_access_log_stats(const struct jr_access_log *log, struct jr_access_log_stats *ret);

/* Requests want a record of their decision: they may turn out slow. */
bool jr_access_log_wants_decisions(const struct jr_access_log *log);
/* A copy of what speaks for d, in the step that decided it. Returns owned (jr_xfree). */
struct jr_access_decision *jr_access_decision_copy(const struct jr_pool *pool,
                                                   const struct jr_decision *d);

#endif
