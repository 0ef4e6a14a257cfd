/* SPDX-License-Identifier: Apache-2.0 */
/* kv: the vocabulary of the event stream, spoken by wire (which decodes it), core (which applies
 * it) and io. Plain data; arrays are borrowed from whoever decoded them (an arena beside the
 * message), so a struct lives as long as its message. docs/protocol.md §2. */
#ifndef JR_BASE_KV_H
#define JR_BASE_KV_H

#include <stdbool.h>
#include <stdint.h>

/* Newest version of the apply rules that this program knows. */
#define JR_RULES_MAX 1

struct jr_kv_block {
    uint64_t block_hash; /* the engine's, opaque */
    uint64_t local_hash; /* ours: XXH3 of the block's tokens */
};

enum jr_kv_type { JR_KV_STORED = 1, JR_KV_REMOVED = 2, JR_KV_CLEARED = 3 };

/* What became of the events of the stream, as they were applied. */
enum jr_kv_result {
    JR_KV_OK,
    JR_KV_NO_PARENT, /* a store whose parent the rank does not hold */
    JR_KV_NO_BLOCK,  /* a removal, also of blocks that the rank does not hold */
    JR_KV_NO_ROOM,   /* a store beyond the index's cap */
    JR_KV_RESULTS,
};
struct jr_kv_tally {
    uint64_t n[JR_KV_CLEARED + 1][JR_KV_RESULTS]; /* by type */
};

struct jr_kv_event {
    enum jr_kv_type type;
    bool has_parent;                  /* stored: false is the root */
    uint64_t parent_hash;             /* stored: engine hash of the block before the first */
    const struct jr_kv_block *blocks; /* stored: a run, each the child of the one before */
    const uint64_t *hashes;           /* removed */
    uint32_t n;                       /* of blocks or hashes */
};

/* A rank's blocks beside its device are rows of their own in the log (docs/protocol.md §2): of rank r
 * below 64, row 64 + r is what it holds on the device or in host memory, row 128 + r on any medium. */
#define JR_LOWER_STEP 64u
enum jr_lower { JR_LOWER_HOST, JR_LOWER_ANY, JR_LOWERS };
static inline uint32_t jr_lower_row(uint32_t dp_rank, enum jr_lower lower)
{
    return dp_rank + JR_LOWER_STEP * (1 + (uint32_t)lower);
}

/* Many events of one (worker, rank). Event i has id first_id + i. */
struct jr_kv_batch {
    uint64_t worker_id;
    uint32_t dp_rank;
    uint64_t incarnation; /* 0 only for Dynamo's JSON, which has none */
    uint64_t first_id;
    bool begin;  /* makes its incarnation current here, and clears the rank first */
    bool dynamo; /* from RouterEvent JSON: cleared means all ranks, ids are not checked */
    const struct jr_kv_event *events;
    uint32_t n_events;
};

enum jr_control_type {
    JR_CONTROL_WORKER_GONE = 1,
    JR_CONTROL_RESET = 2,
    JR_CONTROL_CONFIG = 3,
    JR_CONTROL_USE_VERSION = 4,
    JR_CONTROL_ADOPT = 5,
};

struct jr_rank_incarnation {
    uint32_t dp_rank;
    uint64_t incarnation;
};

struct jr_epoch {
    uint64_t random;
    uint64_t n;
};

/* As the number of an epoch to follow: whichever it is. Said by those who rebuild and know of none,
 * so that one who comes back with an older index resets with them. */
#define JR_EPOCH_ANY UINT64_MAX

/* Agreed parameters of a pool; changed only by Control{Config}. */
struct jr_pool_params {
    uint32_t block_size;
    uint32_t hash_scheme;       /* 1: XXH3 seed 1337 as Dynamo 1.0 */
    uint64_t index_entries_max; /* a shard; 0: none */
};

struct jr_control {
    enum jr_control_type type;
    uint64_t worker_id;                      /* WORKER_GONE */
    const struct jr_rank_incarnation *ended; /* WORKER_GONE: the incarnations it ends */
    uint32_t n_ended;
    struct jr_epoch from, to; /* RESET: applies only when the epoch is `from`; from.n any: always */
    char token[64];           /* RESET: the token of --router-reset-states */
    struct jr_pool_params params;         /* CONFIG */
    uint32_t rule_version;                /* USE_VERSION */
    uint64_t digest_blocks, digest_table; /* ADOPT */
};

enum jr_log_kind {
    JR_LOG_KIND_BATCH = 1,
    JR_LOG_KIND_CONTROL = 2,
    JR_LOG_KIND_UNDECODABLE = 3, /* a no-op by rule, counted */
    JR_LOG_KIND_TOO_NEW = 4, /* a rule version or control kind this program does not know: stop */
    JR_LOG_KIND_SKIPPED = 5, /* named by skip.{seq} in the state bucket: a no-op by rule, counted */
};

/* One message of the event stream, decoded. */
struct jr_log_msg {
    uint64_t seq;          /* stream sequence */
    int64_t time_ns;       /* the server's timestamp */
    uint64_t payload_hash; /* XXH3-64 of the payload */
    bool on_control;       /* came on the control subject, whatever it holds */
    enum jr_log_kind kind;
    union {
        struct jr_kv_batch batch;
        struct jr_control control;
    } u;
};

#endif
