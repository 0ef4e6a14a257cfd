/* SPDX-License-Identifier: Apache-2.0 */
/* outlier: which workers fail one request after the other and are put aside for a while. Pure: time
 * comes in as an argument, what is to be done is asked for. What one replica sees, for itself alone.
 *
 *               N failures in a row               time is up, and a request is sent
 *     IN ─────────────────────────────► ASIDE ──────────────────────────────────────► PROBED
 *      ▲                                 │ ▲                                             │
 *      │                                 │ └── fails: aside for twice as long ───────────┤
 *      └── answers after all ────────────┴───────────────── answers ─────────────────────┘
 *
 * Once back, one failure is enough again until a whole answer has come. Nobody is
 * put aside that would make more than half of the workers aside: a fault of all is the router's or
 * the network's, and nobody is helped by having none to ask. (Who is aside stays so when others go
 * away.) A worker not heard of has no entry and costs nothing. */
#ifndef JR_CORE_OUTLIER_H
#define JR_CORE_OUTLIER_H

#include "base/limits.h"
#include "base/sm.h"
#include <stdbool.h>
#include <stdint.h>

#define JR_OUTLIER_SHARE 2 /* at most one in so many is aside */

enum jr_outlier_state { JR_OUTLIER_IN, JR_OUTLIER_ASIDE, JR_OUTLIER_PROBED, JR_OUTLIER_STATES };

struct jr_outlier_config {
    uint32_t failures;     /* in a row; 0: nobody is ever put aside */
    uint64_t aside_ms;     /* the first time, then doubled up to */
    uint64_t aside_max_ms; /* this */
};

struct jr_outlier_entry {
    uint64_t worker_id;
    struct jr_sm sm;
    uint32_t failures;  /* in a row */
    uint64_t aside_ms;  /* the next time; 0: as configured */
    uint64_t failed_ms; /* the last time */
    uint64_t until_ms;  /* ASIDE: its end; PROBED: when the probe counts as lost */
};

struct jr_outlier {
    struct jr_outlier_config config;
    struct jr_outlier_entry v[JR_OUTLIERS_MAX];
    uint32_t n;
    uint64_t put_aside; /* times */
    uint64_t untold;    /* failures of workers there was no entry for */
};

void jr_outlier_init(struct jr_outlier *o, const struct jr_outlier_config *config);

/* It did not connect, did not answer in time, broke off, or answered with a 5xx of its own. n_workers:
 * that could get a request. True: it was put aside now, for *ret_ms. */
bool jr_outlier_failed(struct jr_outlier *o, uint64_t worker_id, uint32_t n_workers,
                       uint64_t now_ms, uint64_t *ret_ms);
/* The head of an answer came: who was aside is back. */
void jr_outlier_answered(struct jr_outlier *o, uint64_t worker_id);
/* A whole answer came: all is forgotten. */
void jr_outlier_well(struct jr_outlier *o, uint64_t worker_id);
/* Forgets all workers but those that are there. */
void jr_outlier_keep(struct jr_outlier *o, bool (*is_there)(void *ctx, uint64_t worker_id),
                     void *ctx);
/* A request goes to it; when its time aside is up, this is its probe. */
void jr_outlier_sent(struct jr_outlier *o, uint64_t worker_id, uint64_t now_ms);
/* What was sent had no outcome (its client went away): the next request may be the probe. */
void jr_outlier_unknown(struct jr_outlier *o, uint64_t worker_id, uint64_t now_ms);

/* Workers that get no request now, into ids (room for JR_OUTLIERS_MAX); returns how many. */
uint32_t jr_outlier_list(struct jr_outlier *o, uint64_t now_ms, uint64_t *ids);
bool jr_outlier_is_aside(const struct jr_outlier *o, uint64_t worker_id);
uint32_t jr_outlier_n_aside(const struct jr_outlier *o); /* ASIDE or PROBED */

#endif
