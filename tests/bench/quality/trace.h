/* SPDX-License-Identifier: Apache-2.0 */
/* trace: the requests of a trace in the form of Mooncake's (one JSON object a line: timestamp in
 * ms, input_length, output_length, hash_ids of 512 tokens each), as places in a tree of prefixes.
 *
 *     hash_ids [a, b]  ──►  nodes a0 a1 … a7 b0 b1 …     one for each block of 64 tokens
 *
 * The number of a node stands for the whole prefix up to it. */
#ifndef JR_BENCH_QUALITY_TRACE_H
#define JR_BENCH_QUALITY_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#define Q_BLOCK 64

struct q_request {
    double trace_s;   /* when the trace says, its ticks spread */
    double arrival_s; /* trace_s / speed */
    uint32_t isl, osl;
    uint32_t n_blocks;
    const uint32_t *nodes;
    const uint64_t *prefix; /* their prefix hashes */
    /* what became of it; reset before each run */
    uint32_t replica, worker;
    uint32_t hit;                         /* tokens */
    uint32_t done, out, pinned, unshared; /* in the engine: tokens, tokens, blocks, blocks */
    uint32_t next;                        /* waiting in an engine */
    uint32_t times_answered;
    double first_s, end_s;
};

struct q_trace {
    struct q_request *v;
    uint32_t n;
    uint32_t n_nodes;
    uint64_t *node_local; /* local hash of each node's block */
    uint64_t *node_hash;  /* prefix hash */
};

/* Ends the program with a word when the file is not a trace. */
void q_trace_load(struct q_trace *t, const char *path);
void q_trace_free(struct q_trace *t);
/* Arrivals at that speed; the spread over the ticks of the trace is drawn from the seed. */
void q_trace_prepare(struct q_trace *t, double speed, uint64_t seed);

#endif
