/* SPDX-License-Identifier: Apache-2.0 */
/* cost: what it would cost to send a request to each candidate. Two models behind one interface:
 * estimated seconds (default), and Dynamo's two formulas. Pure; any thread.
 *
 * seconds      cost = Q + (kappa + delta*D) * P + speed * mu * D                      (ADR 15)
 *              P = speed * (linear*u + attention*u*(c + u/2)) for u uncached, c cached tokens;
 *              c = the larger of index overlap and live bookings, at least one token uncached;
 *              Q backlog seconds of the member, D requests decoding there
 * dynamo 1.0   cost = weight * (prefill tokens there + uncached) / B + blocks there + new blocks
 * dynamo 1.2   cost = scale * max(0, (prefill tokens there + isl) / B - credit' * overlap)
 *                     + blocks there + new blocks + request_weight * requests there
 *              credit' = credit / (1 + decay * x), x = excess of prefill over the least loaded
 *              candidate, in requests of this size
 * blocks on lower media (ADR 17): those that go on where the device's end, in host memory and behind
 *              that on disk. host_credit and disk_credit are the share of one that counts as cached:
 *              of the tokens in the first two models, of the overlap in the third */
#ifndef JR_CORE_COST_H
#define JR_CORE_COST_H

#include <stdbool.h>
#include <stdint.h>

enum jr_cost_model { JR_COST_SECONDS = 1, JR_COST_DYNAMO_1_0 = 2, JR_COST_DYNAMO_1_2 = 3 };

struct jr_cost_config {
    enum jr_cost_model model;
    /* seconds, mu at speed 1; delta and mu a decoding request. kappa: what our prefill costs those behind us and in
     * evictions; tests/bench/quality/README.md has what it was chosen by. */
    double kappa, delta, mu;
    double linear_s, attention_s; /* prefill seconds a token, a token x context token */
    double overlap_weight;        /* dynamo 1.0 */
    double credit, scale, decay, request_weight; /* dynamo 1.2 */
    double host_credit, disk_credit;             /* 0 to 1 */
};
/* The defaults of every field, and the model as given. */
void jr_cost_config_init(struct jr_cost_config *c, enum jr_cost_model model);

struct jr_cost_request {
    uint64_t isl_tokens; /* of the prompt */
    uint32_t block_size; /* > 0 */
    bool no_prefill;     /* prefill is not tracked: it costs nothing (decode-only paths) */
};

/* One candidate: what is known of it, and what the model made of it. The array is at the same time
 * the record of the decision. */
struct jr_candidate {
    /* in */
    uint32_t member;
    uint32_t dp_rank;
    uint64_t worker_id;
    uint64_t indexed_blocks; /* entries of the member in the index, for ties; else it may be 0 */
    uint32_t overlap_blocks; /* index score */
    uint32_t host_blocks;    /* beyond overlap_blocks, in host memory */
    uint32_t disk_blocks;    /* beyond those, elsewhere */
    uint32_t live_blocks;    /* jr_active_match_all */
    uint64_t prefill_tokens; /* there now */
    uint64_t active_blocks;  /* there now */
    uint32_t new_blocks;     /* of this request, not live there */
    uint32_t requests;       /* there now */
    uint32_t decoding;       /* D */
    bool on_cpu;             /* for selection */
    double backlog_s;        /* Q */
    /* out */
    uint32_t cached_blocks; /* what the model believes is cached on the device */
    uint64_t uncached_tokens;
    double prefill_s;    /* speed * estimate of this request there, in either model */
    double estimate_s;   /* without the speed factor: to be booked (core/active.h) */
    double prefill_cost; /* the terms of the cost: they add up to it */
    double load_cost;
    double cost;
    double probability; /* set by selection */
};

/* Fills the out fields of all candidates; probability is 0. speed is jr_speed_factor(). Candidates do
 * not see each other, but where decay is set. */
void jr_cost_eval(const struct jr_cost_config *c, const struct jr_cost_request *r, double speed,
                  struct jr_candidate *candidates, uint32_t n);
/* Estimated prefill seconds without the speed factor. */
double jr_cost_prefill_s(const struct jr_cost_config *c, uint64_t uncached_tokens,
                         uint64_t cached_tokens);

/* The same of a request with so many blocks cached. */
double jr_cost_cached_s(const struct jr_cost_config *c, const struct jr_cost_request *r,
                        uint32_t cached_blocks);
/* Do blocks on lower media count? */
bool jr_cost_lower_counts(const struct jr_cost_config *c);
/* Blocks that may be cached at all. Engines compute at least the last token, so the block it is in is
 * never wholly cached; Dynamo's formulas do not know that. */
uint32_t jr_cost_cached_most(const struct jr_cost_config *c, const struct jr_cost_request *r);

/* How fast the fleet is: time taken over time estimated of about the last 200 prefills (each new
 * one lets the older ones count 0.5 % less). Plain data: it travels between replicas as it is. */
struct jr_speed {
    double estimated_s;
    double taken_s;
};
/* Observations that are not finite, an estimate that is not positive and a negative time are
 * ignored. No time at all counts: a step of the engine ends several prefills at once, and the whole
 * step is the time of the first. Zero-initialised is "nothing known". */
void jr_speed_add(struct jr_speed *s, double estimated_s, double taken_s);
/* 1 while nothing is known; within 1/64 and 64. */
double jr_speed_factor(const struct jr_speed *s);

#endif
