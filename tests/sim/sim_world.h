/* SPDX-License-Identifier: Apache-2.0 */
/* sim: a fleet in one process and in virtual time. Everything random comes from one seed, so a run
 * is repeated by its seed.
 *
 *   engines + bridges ──► sim_nats (event stream, sync stream, leases, state, snapshots)
 *                            ▲  │
 *                            │  ▼
 *                         replicas: a jr_pool each, and a small driver that performs its actions
 *                         with random delays, losses and lost acknowledgements
 *
 * sim_nats.c the servers · sim_worker.c engines and bridges · sim_replica.c replicas and their
 * driver · sim_world.c time, faults, invariants. */
#ifndef JR_SIM_WORLD_H
#define JR_SIM_WORLD_H

#include "base/rng.h"
#include "core/pool_internal.h"
#include <stdio.h>

#define SIM_REPLICAS 3
#define SIM_WORKERS  3
#define SIM_RANKS    2
#define SIM_BLOCKS   24 /* of one engine rank */
#define SIM_REQUESTS 12 /* of one replica at once */
#define SIM_TTL_MS   1000
#define SIM_ROUND_MS 200
#define SIM_UNIX_NS  INT64_C(1700000000000000000)

/* ---------------------------------------------------------------- servers */

/* A stored message of the event stream with its own copy of everything. */
struct sim_stored {
    struct jr_log_msg m;
    uint64_t sent_id; /* for deduplication; 0 none */
};

struct sim_sync_msg {
    uint64_t seq, at_ms;
    struct jr_sync_batch b; /* arrays owned */
    char replica[JR_NAME_MAX];
    bool rollup;
};

struct sim_lease {
    bool present;
    uint64_t revision, written_ms, created_ms;
};

struct sim_nats {
    bool down;
    uint64_t revision; /* one counter for all buckets */
    /* event stream */
    int64_t created_ns;
    uint64_t branch;        /* another whenever the history changes */
    struct sim_stored *log; /* log[i] has sequence i + 1 */
    uint64_t n_log, cap_log, first_seq, last_control;
    /* sync stream */
    struct sim_sync_msg *sync;
    uint64_t n_sync, cap_sync, sync_seq;
    /* leases */
    struct sim_lease worker[SIM_WORKERS], replica[SIM_REPLICAS], leader;
    struct jr_worker_lease worker_value[SIM_WORKERS];
    struct jr_replica_lease replica_value[SIM_REPLICAS];
    bool worker_removed[SIM_WORKERS];
    uint32_t leader_replica;
    uint64_t leader_incarnation;
    /* state */
    struct jr_snapshots_record record;
    uint64_t record_revision;
    struct jr_epoch epoch;
    bool reannounce[SIM_WORKERS][SIM_RANKS];
    /* snapshots: 0 is snapshot-a */
    struct jr_image *object[2];
    struct jr_snapshot_ref object_ref[2];
    uint64_t object_revision[2];
    bool object_void[2]; /* its sequence is of a branch that is gone */
};

struct sim;
void sim_nats_init(struct sim *sim);
void sim_nats_deinit(struct sim *sim);
/* Appends a copy; the sequence, or 0 when sent_id is the last one of its sender (deduplicated). */
uint64_t sim_nats_publish(struct sim *sim, const struct jr_log_msg *m, uint64_t sent_id,
                          bool dedupe);
void sim_nats_purge(struct sim *sim, uint64_t floor);
/* All messages are gone and the stream is another. */
void sim_nats_recreate(struct sim *sim);
/* The stream as it was when `last` was its last message; its name and creation time stay. */
void sim_nats_rollback(struct sim *sim, uint64_t last);
/* And the buckets with it: leases, state, snapshots. */
void sim_nats_wipe(struct sim *sim);
uint64_t sim_nats_last(const struct sim *sim);
uint64_t sim_nats_last_control(const struct sim *sim);
void sim_nats_publish_sync(struct sim *sim, const struct jr_sync_batch *b);
void sim_batch_copy(struct jr_sync_batch *to, const struct jr_sync_batch *from);
void sim_batch_free(struct jr_sync_batch *b);
bool sim_lease_live(const struct sim *sim, const struct sim_lease *l);
struct jr_image *sim_image_copy(const struct jr_image *image);

/* ---------------------------------------------------------------- workers */

struct sim_block {
    uint64_t hash, parent, local, prefix; /* parent 0: the root */
};

struct sim_rank {
    struct sim_block blocks[SIM_BLOCKS]; /* parents before children */
    uint32_t n;
    uint64_t incarnation, next_id, acked_id, acked_seq;
    bool begin_due, in_flight, stored;
    uint64_t retry_ms;
    struct jr_kv_event events[SIM_BLOCKS + 8]; /* of the batch in flight */
    struct jr_kv_block ev_blocks[SIM_BLOCKS + 8];
    uint64_t ev_hashes[SIM_BLOCKS + 8];
    struct jr_log_msg batch;
    struct jr_kv_event gathered[8];
    struct jr_kv_block ga_blocks[8];
    uint64_t ga_hashes[8];
    uint32_t n_gathered;
};

struct sim_worker {
    bool up, partitioned;
    uint64_t until_ms, lease_at_ms, lease_revision;
    int64_t stream_created_ns;
    struct jr_epoch epoch;
    struct sim_rank ranks[SIM_RANKS];
};

void sim_worker_start(struct sim *sim, uint32_t w);
/* removed: it takes its lease back. */
void sim_worker_stop(struct sim *sim, uint32_t w, bool removed);
void sim_worker_step(struct sim *sim, uint32_t w);
bool sim_worker_settled(const struct sim *sim, uint32_t w);

/* ---------------------------------------------------------------- replicas */

enum sim_op_type {
    SIM_OP_ROUND,
    SIM_OP_LEAD,
    SIM_OP_INFO,
    SIM_OP_LOAD,
    SIM_OP_WRITE,
    SIM_OP_RECORD,
    SIM_OP_PURGE,
    SIM_OP_CONTROL,
    SIM_OP_SYNC,
    SIM_OP_SYNC_FAILED,
    SIM_OP_PROBE,
};

/* Something a driver does: its effect at the server at at_ms, its answer at done_ms. */
struct sim_op {
    enum sim_op_type type;
    uint64_t at_ms, done_ms, seq, expected, connection;
    bool executed;
    int err;
    struct jr_stream_facts facts;
    struct jr_image *image; /* owned */
    struct jr_snapshot_ref ref;
    struct jr_snapshots_record record;
    struct jr_log_msg control; /* arrays owned */
    struct jr_sync_batch batch;
    struct jr_replica_lease lease;
    char object[32];
    bool may_lead, lost, led;
    bool healthy;
    struct jr_worker_lease workers[SIM_WORKERS];
    struct jr_replica_lease replicas[SIM_REPLICAS];
    uint64_t removed[SIM_WORKERS];
    uint32_t n_workers, n_replicas, n_removed;
};

struct sim_request {
    uint64_t id, next_ms;
    uint32_t stage;
};

struct sim_replica {
    uint32_t index;
    struct jr_pool *pool; /* NULL: dead */
    struct jr_actions actions;
    uint64_t incarnation, dead_incarnation, died_ms, started_ms, paused_until_ms;
    uint64_t cut_until_ms, tick_ms, round_ms, renew_ms, sync_at_ms, connection;
    int64_t skew_ns;
    bool connected, held, take_lease, leader_key, leader_told, leading_up, round_running;
    uint64_t lease_revision, leader_revision, leader_renewed_ms;
    uint64_t object_revision[2], record_revision;
    bool reading;
    uint64_t read_next;
    int64_t read_created_ns;
    uint64_t read_branch;
    uint64_t sync_next;
    bool sync_reading;
    uint64_t start_last; /* the stream's last when the reader began */
    bool was_ready;
    const struct jr_state *diverged; /* this state is not what the log says */
    struct sim_op **ops;
    uint32_t n_ops, cap_ops;
    struct sim_request requests[SIM_REQUESTS];
    uint64_t next_request;
};

/* Can snapshot k (0: a) be loaded? */
bool sim_snapshot_fits(const struct sim *sim, int k);
void sim_replica_start(struct sim *sim, uint32_t i);
void sim_replica_kill(struct sim *sim, uint32_t i);
void sim_replica_step(struct sim *sim, uint32_t i);
void sim_replica_event(struct sim *sim, struct sim_replica *r, struct jr_event *ev);
bool sim_replica_reaches(const struct sim *sim, const struct sim_replica *r);

/* ---------------------------------------------------------------- world */

struct sim_digest {
    bool known;
    uint64_t blocks, table;
};

struct sim {
    uint64_t seed, now_ms, steps;
    struct jr_rng rng;
    struct sim_nats nats;
    struct sim_worker workers[SIM_WORKERS];
    struct sim_replica replicas[SIM_REPLICAS];
    struct sim_digest *digests; /* by sequence */
    uint64_t cap_digests;
    bool faults;                  /* may happen */
    bool rare;                    /* hand purge and stream recreation, too */
    bool by_hand;                 /* somebody purged by hand: a cold replica may have to rebuild */
    bool quiet;                   /* engines and requests stand still */
    uint32_t rules[SIM_REPLICAS]; /* newest apply rules it knows when it starts; 0: all */
    bool mute;                    /* bridges say nothing, whatever happens to the stream */
    bool verbose;
    struct sim_count {
        uint64_t kills, purges, snapshots, resets, rebuilds, begins, messages, requests, leaders,
            waited, adopts, any_resets;
    } n;
};

#define SIM_CHECK(sim, cond, ...)                                                                  \
    do {                                                                                           \
        if (!(cond))                                                                               \
            sim_fail((sim), #cond, __FILE__, __LINE__, __VA_ARGS__);                               \
    } while (0)

__attribute__((noreturn, format(printf, 5, 6))) void
sim_fail(const struct sim *sim, const char *cond, const char *file, int line, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void sim_say(const struct sim *sim, const char *fmt, ...);
bool sim_chance(struct sim *sim, uint32_t one_in);
uint64_t sim_delay(struct sim *sim, uint32_t max_ms);

/* What the replica holds is the state of the stream as it is now, at its sequence. */
bool sim_comparable(const struct sim *sim, const struct sim_replica *r);
struct sim *sim_create(uint64_t seed);
void sim_destroy(struct sim *sim);
void sim_step(struct sim *sim);
/* Ends all faults and waits (in virtual time) until the fleet is whole; fails when it does not
 * come. */
void sim_heal(struct sim *sim);

#endif
