/* SPDX-License-Identifier: Apache-2.0 */
/* queue: requests that wait because every worker they may go to has enough to prefill.
 *
 * Lanes keep a pinned request from blocking the others: lane 0 is for requests that may go
 * anywhere, and each (worker, rank) that somebody is pinned to has a lane of its own. A lane is a
 * binary heap; an entry knows its place in it, so that leaving (cancelled) costs O(log n).
 *
 *     by_id: id ──► entry ──┐            lane "any":   heap of entries, best first
 *                           └─► place    lane (7, 0):  heap of entries
 *
 * Order in a lane: strict priority (higher first), then the policy's score (higher first), then
 * arrival, which decides between two of one millisecond: the last one first in lcfs, else the first. The
 * scores, with jump = max(0, priority jump) in seconds:
 *     fcfs  jump - arrival            wspt  (1 + jump) / max(1, uncached tokens)
 *     lcfs  jump + arrival
 * (Dynamo 1.1, lib/kv-router scheduling; lcfs is for comparison only.)
 *
 * The pool's owner thread only. No clock: arrival comes in. */
#ifndef JR_CORE_QUEUE_H
#define JR_CORE_QUEUE_H

#include "base/arr.h"
#include "base/list.h"
#include "base/map.h"
#include <stdbool.h>

enum jr_queue_policy { JR_QUEUE_FCFS = 0, JR_QUEUE_WSPT = 1, JR_QUEUE_LCFS = 2 };

struct jr_queue_entry {
    uint64_t id;
    uint32_t strict_priority;
    double score;
    bool newest_first;          /* of equal ones, which have the same policy */
    uint64_t arrival;           /* count of pushes: breaks ties */
    uint64_t at_ms;             /* when it was pushed */
    void *request;              /* the caller's; given back by pop and remove */
    struct jr_queue_lane *lane; /* private */
    uint32_t place;             /* private: in the lane's heap */
};

struct jr_queue_lane {
    struct jr_list node; /* in the queue's list, by age */
    uint64_t key;        /* JR_QUEUE_ANY, or what the caller made of (worker, rank) */
    JR_ARR_FIELDS(struct jr_queue_entry *);
};

#define JR_QUEUE_ANY UINT64_C(0)

struct jr_queue {
    struct jr_mem *mem; /* borrows */
    uint32_t max;       /* entries in all lanes */
    uint32_t n;
    uint64_t arrivals;
    struct jr_map by_id;
    struct jr_map by_lane; /* key -> lane */
    struct jr_list lanes;  /* those that are not empty, oldest first */
};

double jr_queue_score(enum jr_queue_policy policy, double jump_s, double arrival_s,
                      uint64_t uncached_tokens);

void jr_queue_init(struct jr_queue *q, struct jr_mem *mem, uint32_t max);
/* Entries that are left are dropped through `drop` (may be NULL). */
void jr_queue_deinit(struct jr_queue *q, void (*drop)(void *ctx, void *request), void *ctx);

/* Copies the id, priority, score, time and request pointer of `entry`. JR_ELIMIT: full; JR_EEXIST:
 * the id waits already; JR_ENOMEM. */
JR_MUST_CHECK int jr_queue_push(struct jr_queue *q, uint64_t lane,
                                const struct jr_queue_entry *entry);
/* Does a come before b? The order within a lane, and among the first of several. */
bool jr_queue_before(const struct jr_queue_entry *a, const struct jr_queue_entry *b);
/* The first of a lane, or NULL. Borrowed until the queue changes. */
const struct jr_queue_entry *jr_queue_front(const struct jr_queue *q, uint64_t lane);
bool jr_queue_lane_empty(const struct jr_queue *q, uint64_t lane);
/* Takes an entry out, wherever it stands: its request, or NULL when the id does not wait. */
void *jr_queue_remove(struct jr_queue *q, uint64_t id);
/* Walks the lanes that are not empty: *pos starts as NULL. The lane whose key was returned may be
 * popped from; others must not change meanwhile. False at the end. */
bool jr_queue_next_lane(const struct jr_queue *q, const struct jr_list **pos, uint64_t *ret_lane);

/* Test builds: heap order, places and counts. O(n). */
void jr_queue_check(const struct jr_queue *q);

#endif
