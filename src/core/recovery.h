/* SPDX-License-Identifier: Apache-2.0 */
/* recovery: how a replica comes to hold the state of its pool. docs/protocol.md §3.
 *
 *                          ┌────────────────────────── gap, snapshot does not fit ─────────┐
 *                          ▼                                                               │
 *   COLD ──► LEASE ──► LOAD_SNAPSHOT ──► VERIFY ──► REPLAY ──► CATCH_UP ──► READY          │
 *    │                     │    ▲           │         ▲                       │            │
 *    │            nothing  ▼    │           ├─────────┼───────────────────────┼────────────┘
 *    │                   REBUILD┼───────────┘         │                       │ NATS gone
 *    │  NATS away               │                     │                       ▼
 *    └──────────────────────────┴──────► DEGRADED ◄───┴───────────────────────┘
 *                                           └──────► VERIFY (has a position) or LEASE (has none)
 *
 * Without KV events there is no state to come by: from LEASE to CATCH_UP. */
#ifndef JR_CORE_RECOVERY_H
#define JR_CORE_RECOVERY_H

#include "base/sm.h"

enum jr_recovery {
    JR_REC_COLD,          /* no NATS yet */
    JR_REC_LEASE,         /* registering, so that nothing we need is purged meanwhile */
    JR_REC_LOAD_SNAPSHOT, /* fetching the newest verified snapshot */
    JR_REC_VERIFY,        /* does it (or what we hold) fit the stream; then installing it */
    JR_REC_REPLAY,        /* reading up to what the stream held at start */
    JR_REC_CATCH_UP,      /* waiting for the peers' load */
    JR_REC_READY,
    JR_REC_REBUILD,  /* no snapshot fits and nobody holds state: from a Reset in the log */
    JR_REC_ADOPT,    /* the same, but we hold an index of another history: it is put into the log */
    JR_REC_DEGRADED, /* NATS is gone; routing on what is known */
    JR_REC_COUNT
};

extern const struct jr_sm_table jr_recovery_table;

#endif
