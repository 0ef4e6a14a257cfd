/* SPDX-License-Identifier: Apache-2.0 */
/* workers: the registry of a pool's workers, as this replica sees them. docs/protocol.md §5.
 *
 *                 lease listed
 *     (unknown) ───────────────► LIVE ──lease gone──► STALE ◄──/health answers── DOWN
 *                                 ▲                    │  └──/health fails ─────► │
 *                                 └──── lease listed ──┴──────────────────────────┘
 *
 * LIVE is routed to with overlap credit, STALE without, DOWN not at all. A worker leaves the
 * registry when it is not listed and the log holds nothing of it. Static workers (named on the
 * command line) have no lease: they are LIVE or DOWN by /health, and LIVE to begin with. */
#ifndef JR_CORE_WORKERS_H
#define JR_CORE_WORKERS_H

#include "base/arr.h"
#include "base/member.h"
#include "core/members.h"
#include "core/pool.h"

#define JR_PROBES_LATE 3

struct jr_worker {
    struct jr_worker_lease lease;
    enum jr_worker_state state;
    bool is_static; /* named on the command line */
    bool listed;    /* in the last re-list, or held */
    bool held;      /* missing in it, but nobody is judged yet: its answers decide */
    uint64_t revision, renewed_at_ms; /* of its lease, and when that was first seen */
    bool removed;                     /* its lease was taken back on purpose */
    bool unhealthy;                   /* last probe failed */
    uint32_t late_probes;             /* answers in a row that did not come in time */
    uint64_t unlisted_at_ms;          /* when it was first missed */
    uint64_t probe_at_ms;             /* next probe; 0: none */
    uint64_t began_at_ms; /* a begin of it was read in the log; 0: none since we know it */
    uint64_t gone_at_ms;  /* when WorkerGone was last asked for */
    struct jr_rank_incarnation ended[JR_RANKS_INLINE]; /* named by that WorkerGone */
    uint32_t n_members;
    uint32_t members[JR_RANKS_INLINE]; /* a reference each, by rank of the lease */
};

struct jr_workers {
    struct jr_mem *mem;         /* borrows */
    struct jr_members *members; /* borrows */
    JR_ARR_FIELDS(
        struct jr_worker *); /* owned; sorted by worker id, so that walks are the same everywhere */
    uint64_t refused;        /* leases that were not taken */
    bool cut_off;            /* NATS is away: of listed ones, too, their answers decide */
    uint64_t changes;        /* calls that may have changed what follows from the registry */
};

void jr_workers_init(struct jr_workers *ws, struct jr_mem *mem, struct jr_members *members);
void jr_workers_deinit(struct jr_workers *ws);
struct jr_worker *jr_workers_find(const struct jr_workers *ws, uint64_t worker_id); /* or NULL */
/* The lease was listed: the worker is made or brought up to date and is LIVE. block_size 0: any;
 * JR_EINVAL when the lease does not fit it, JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_workers_list(struct jr_workers *ws, const struct jr_worker_lease *lease,
                                  uint32_t block_size, bool is_static, uint64_t now_ms,
                                  struct jr_worker **ret);
/* The log speaks of a worker nobody listed: a ghost without url, DOWN, until WorkerGone ends it. */
JR_MUST_CHECK int jr_workers_ghost(struct jr_workers *ws, uint64_t worker_id, uint64_t now_ms);
/* A re-list in which it was missing, soon after NATS was away: no verdict. */
void jr_workers_hold(struct jr_worker *w, uint64_t now_ms);
/* A re-list in which it was missing. */
void jr_workers_unlist(struct jr_workers *ws, struct jr_worker *w, bool removed, uint64_t now_ms);
void jr_workers_probed(struct jr_workers *ws, struct jr_worker *w, bool healthy, uint64_t now_ms);
/* No answer in time. An engine that computes may be that slow: of one that nothing else speaks against
 * (static, or with a lease) it is a verdict when it is so JR_PROBES_LATE times in a row. */
void jr_workers_probed_late(struct jr_workers *ws, struct jr_worker *w, uint64_t now_ms);
void jr_workers_remove(struct jr_workers *ws, uint64_t worker_id);

#endif
