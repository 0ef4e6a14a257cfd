/* SPDX-License-Identifier: Apache-2.0 */
/* sync: the vocabulary of replica sync: what a replica tells its peers of its live requests.
 * docs/protocol.md §6. Arrays are borrowed from whoever decoded them. */
#ifndef JR_BASE_SYNC_H
#define JR_BASE_SYNC_H

#include <stdbool.h>
#include <stdint.h>

enum jr_delta_type {
    JR_DELTA_ADMIT = 1,
    JR_DELTA_FIRST_TOKEN = 2,
    JR_DELTA_PROGRESS = 3, /* output_blocks is the new total */
    JR_DELTA_DONE = 4,
    /* Not of the sender's requests: somebody told it of an outside one that it does not own. Who does
     * acts on it, nobody else. */
    JR_DELTA_ASK_FIRST_TOKEN = 5,
    JR_DELTA_ASK_DONE = 6,
};

/* Requests that run outside of any replica have numbers of their own, the same on every replica: what
 * makes them is the client's name of it. */
#define JR_OUTSIDE_BIT (UINT64_C(1) << 63)
static inline bool jr_request_is_outside(uint64_t request)
{
    return (request & JR_OUTSIDE_BIT) != 0;
}

/* A live request as a peer must know it; in a base each entry is one of these. */
struct jr_booking {
    uint64_t request; /* unique within (replica, incarnation) */
    uint64_t worker_id;
    uint32_t dp_rank;
    uint32_t prefill_tokens; /* uncached prompt tokens at admission; 0 once the first token came */
    uint32_t prompt_tokens;
    uint32_t output_blocks;
    double prefill_seconds; /* estimated prefill time at admission */
    uint32_t n_blocks;
    const uint64_t *blocks; /* prefix hashes of the prompt's full blocks */
};

struct jr_delta {
    enum jr_delta_type type;
    struct jr_booking b; /* ADMIT: all; PROGRESS: request, output_blocks; else only request */
};

#define JR_SYNC_VERSION 1 /* of the format: the newest that this program reads and writes */

struct jr_sync_batch {
    uint32_t version; /* it is written in; 0 reads as 1 */
    const char *replica;
    uint64_t incarnation;
    uint64_t number; /* of this batch, from 1, without holes */
    bool is_base;
    uint64_t base_number;
    uint32_t part, parts;          /* of a base, part from 0 */
    uint64_t includes;             /* base: deltas up to this batch number are in it */
    double speed_factor;           /* base: what the cost model learned; 0 unknown */
    uint64_t speed_weight_ms;      /* base: what it learned that from: estimated prefill */
    bool want_base;                /* asks the peers for theirs */
    const struct jr_delta *deltas; /* a base part holds ADMIT deltas */
    uint32_t n_deltas;
    uint32_t n_unknown; /* read: deltas of kinds that this program does not know; left out */
};

/* Where a session's requests go, as the session stream says it. docs/protocol.md §6. */
struct jr_session_word {
    uint64_t session; /* jr_session_key of its name and model */
    uint64_t worker_id;
    uint32_t dp_rank;
    uint64_t idle_ms; /* holds so long from when it was stored, unless it is said again */
};

#endif
