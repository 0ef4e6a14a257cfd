/* SPDX-License-Identifier: Apache-2.0 */
/* access_line: what is written of a request that has ended, as one line of JSON. Nothing of the
 * prompt or the answer is in it. Pure; any thread. docs/operations.md has the fields. */
#ifndef JR_APP_FRONTEND_ACCESS_LINE_H
#define JR_APP_FRONTEND_ACCESS_LINE_H

#include "base/buf.h"
#include "base/str.h"
#include "core/cost.h"

/* Why its last worker was chosen: a copy of the decision's record. */
struct jr_access_decision {
    uint64_t waited_ms; /* in the queue */
    double cost;
    uint32_t left_off; /* candidates beyond JR_ACCESS_CANDIDATES_MAX */
    uint32_t n;
    struct jr_candidate candidates[];
};

/* Views are borrowed. Text from outside may hold any bytes. */
struct jr_access_entry {
    int64_t unix_ns; /* when it began */
    struct jr_str request_id, client, model;
    const char *endpoint;
    const char *error; /* "": none */
    bool stream, has_worker, has_tokens, has_cached, has_first;
    int status; /* 0: none was sent */
    uint64_t worker_id;
    uint32_t dp_rank;
    uint64_t tokens_in, tokens_out; /* has_tokens: in is known */
    uint32_t prompt_blocks, overlap_blocks;
    uint64_t cached_tokens;                /* that the worker reported */
    uint64_t first_token_ns, duration_ns;  /* from its begin */
    uint32_t retries;                      /* further workers that were tried */
    uint64_t bytes_in, bytes_out;          /* of the bodies */
    const struct jr_access_decision *slow; /* of a slow line; NULL: none was kept */
};

/* Appends the line with its end; check b->err. */
void jr_access_line_write(struct jr_buf *b, const struct jr_access_entry *entry);
/* The same as a line of kind "slow", with the decision. */
void jr_access_line_write_slow(struct jr_buf *b, const struct jr_access_entry *entry);

#endif
