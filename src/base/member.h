/* SPDX-License-Identifier: Apache-2.0 */
/* member: the vocabulary of membership: what a worker's and a replica's lease say. Plain data;
 * inline text, so it copies. docs/protocol.md §5. */
#ifndef JR_BASE_MEMBER_H
#define JR_BASE_MEMBER_H

#include "base/kv.h"
#include "base/limits.h"

struct jr_rank_lease {
    uint32_t dp_rank;
    uint64_t incarnation;
    uint64_t acked_id;  /* last event id the bridge has an acknowledgement for */
    uint64_t acked_seq; /* and its stream sequence */
};

/* worker.{id}: published by its bridge. */
struct jr_worker_lease {
    uint64_t revision; /* of its key when it was listed; 0: not known. Not written */
    uint64_t worker_id;
    char url[JR_URL_MAX]; /* http://host:port of the engine */
    char model[JR_MODEL_MAX];
    char role[32];      /* "aggregated", later "prefill", "decode" */
    char tokenizer[32]; /* "vllm", "sglang" or "" */
    bool on_cpu;        /* it computes on a CPU */
    uint32_t block_size;
    uint64_t total_kv_blocks;
    uint32_t max_num_seqs;
    uint32_t max_batched_tokens;
    uint32_t n_ranks;
    struct jr_rank_lease ranks[JR_RANKS_INLINE];
};

struct jr_digest_point {
    uint64_t seq;
    uint64_t blocks; /* digest over the blocks */
    uint64_t table;  /* digest over worker table, epoch, version, parameters */
};

/* replica.{id}: published by each replica. */
struct jr_replica_lease {
    uint64_t revision; /* as a worker's */
    char id[JR_NAME_MAX];
    uint64_t incarnation;
    char version[32];
    char address[JR_URL_MAX];
    uint32_t format_max; /* newest snapshot format it reads */
    uint32_t rules_max;  /* newest rule version it knows */
    uint32_t sync_max;   /* newest version of replica sync it reads; 0 reads as 1 */
    bool sync_off;       /* it tells nothing of its load: nobody waits for a base of it */
    bool ready;
    uint64_t applied; /* it needs applied + 1 and later */
    uint64_t held;    /* of an index it answers from and that no stream has any more; 0: none */
    uint64_t wants;   /* it waits for a snapshot at or past this sequence; 0: it does not */
    uint64_t stream_created_ns;
    uint32_t block_size; /* of the pool, by its log or an option; 0: not known */
    struct jr_digest_point point;
};

#endif
