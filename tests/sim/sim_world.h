/* SPDX-License-Identifier: Apache-2.0 */
/* sim: a fleet in one process and in virtual time. Everything random comes from one seed, so a run
 * is repeated by its seed.
 *
 *   engines + bridges ──► sim_nats (event stream, sync stream, leases, state, snapshots)
 *                            ▲  │
 *                            │  ▼
 *   clients ──────────► replicas: a jr_pool each, and a small driver that performs its actions
 *                         with random delays, losses and lost acknowledgements
 *
 * sim_config.c what a seed draws: sizes, and which faults there are · sim_nats.c the servers ·
 * sim_worker.c engines and bridges (the real src/app/bridge/rank.c and lower.c) · sim_engine.c what an
 * engine does with its blocks · sim_replica.c replicas · sim_driver.c what their drivers do · sim_client.c requests · sim_sessions.c
 * sessions: their stream, and what must hold of them · sim_outside.c requests of external data planes · sim_faults.c what goes wrong ·
 * sim_routing.c what may be known of workers · sim_beliefs.c what is believed of them · sim_policy.c who waits, and how long · sim_model.c the log, applied naively ·
 * sim_check.c what must hold after every step · sim_run.c a seed from its start to its end, in a process of its own. */
#ifndef JR_SIM_WORLD_H
#define JR_SIM_WORLD_H

#include "app/bridge/lower.h"
#include "app/bridge/rank.h"
#include "base/bug.h"
#include "base/rng.h"
#include "core/pool_internal.h"
#include "wire/event_codec.h"
#include <stdio.h>

#define SIM_REPLICAS 6 /* at most; so are all of these */
#define SIM_WORKERS  4
#define SIM_RANKS    2
#define SIM_BLOCKS   24 /* of one engine rank */
#define SIM_REQUESTS 12 /* of one replica at once */
#define SIM_ATTEMPTS 3
#define SIM_OUTSIDE  6                  /* requests of external data planes at once */
#define SIM_SESSIONS 8                  /* names of sessions: 1 to this */
#define SIM_SEATS    (2 * SIM_REPLICAS) /* leases: a replica with a new name takes its other one */
#define SIM_ROWS     192                /* of the model's rank table */
#define SIM_FLOWS    (1 + JR_LOWERS)    /* rows that a bridge writes of a rank */
#define SIM_TTL_MS   1000
#define SIM_ROUND_MS 200
#define SIM_SYNC_AGE 6000 /* ms that the sync stream keeps a message */
#define SIM_UNIX_NS  INT64_C(1700000000000000000)

struct sim;

/* ---------------------------------------------------------------- what a seed draws */

enum sim_fault {
    SIM_F_KILL,       /* of a replica, which comes back later, and as whom */
    SIM_F_CRASH,      /* between two actions of one step */
    SIM_F_PAUSE,      /* of a replica, often longer than its lease */
    SIM_F_CUT,        /* replica from NATS */
    SIM_F_WORKER,     /* engine and bridge end, or start again */
    SIM_F_ENGINE,     /* the engine restarts with an empty cache, its bridge lives */
    SIM_F_WORKER_CUT, /* bridge from NATS */
    SIM_F_HTTP,       /* replica from worker */
    SIM_F_CLOCK,      /* a replica's wall clock jumps */
    SIM_F_NATS,       /* gone and back with its data, but what is in memory */
    SIM_F_HAND,       /* the stream deleted, rolled back, purged, or NATS back with nothing */
    SIM_F_DISK,       /* no room: nothing can be stored */
    SIM_F_RESET,      /* asked for at one replica, or at two at once */
    SIM_F_SNAPSHOT,   /* asked for by somebody */
    SIM_F_DAMAGE,     /* bytes of a stored snapshot */
    SIM_F_UPGRADE,    /* a replica is started again with newer rules, or older ones */
    SIM_F_LOSS,       /* of a bridge's publish, or of its acknowledgement */
    SIM_F_ANSWER,     /* what a driver asked for is done, and its answer is lost */
    SIM_F_TWICE,      /* a repeated publish is past the window of deduplication */
    SIM_F_SLOW,       /* NATS takes seconds for an answer */
    SIM_F_GARBAGE,    /* a message that nobody can decode */
    SIM_F_SESSIONS,   /* the session stream deleted, or a replica's consumer of it */
    SIM_F_LEAVE,      /* a replica is drained, says its last and takes its lease back */
    SIM_F_MUTE,       /* a replica's consumer of the log lives, and delivers nothing any more */
    SIM_FAULTS,
};

/* What a fleet has or not, beside faults; behind them in bit sets. */
enum sim_feature {
    SIM_X_EXTERNAL = SIM_FAULTS, /* data planes outside of the replicas */
    SIM_X_LOWER,                 /* bridges tell of lower media */
    SIM_X_CAPS,                  /* each replica has an --index-max-entries of its own */
    SIM_X_PARTS,                 /* prompts so long that bases come in several parts */
    SIM_X_TOKEN,                 /* replicas are started with --router-reset-states TOKEN */
    SIM_X_VERSIONS,              /* some read and write only an older version of replica sync */
    SIM_X_BELIEFS,               /* what was routed is believed to be cached */
    SIM_X_APPROXIMATE,           /* and nothing else is: no KV events */
    SIM_X_POLICY,                /* requests of classes and priorities, workers that are busy */
    SIM_X_END,
};

/* What a run is to have whatever its seed draws: bits of faults and features. */
struct sim_wish {
    uint64_t force;   /* in every seed, as much of it as there may be */
    uint64_t without; /* in none; it wins */
};

struct sim_config {
    uint32_t replicas, workers, ranks, blocks, requests;
    uint32_t step_ms;            /* at most, of one step */
    uint32_t one_in[SIM_FAULTS]; /* chance of a fault each time it could happen; 0: never */
    uint32_t snapshot_threshold, snapshot_max_age_ms, base_interval_ms;
    uint32_t batch_bytes, events_max; /* of bridges; 0: theirs */
    uint32_t prompt_blocks;           /* of a request, at most */
    uint32_t steps;
    uint64_t entries_max[SIM_REPLICAS]; /* each replica's --index-max-entries */
    uint32_t rules[SIM_REPLICAS];       /* newest apply rules it knows at its first start; 0: all */
    bool lower;                         /* bridges tell of lower media (ADR 17) */
    uint32_t outside;                   /* requests of external data planes at once */
    bool reset_token;                   /* that each replica is started with */
    bool versions;                      /* of replica sync: each life knows one, or both */
    bool approximate;                   /* replicas read no KV events */
    bool policy;                        /* of the queue, and busy thresholds */
    uint32_t belief_ms;                 /* that what was routed is believed; 0: it is not */
    uint32_t session_ttl_ms;            /* of session affinity; 0: there is none */
    uint32_t sessions_max;              /* that a replica keeps; 0: as many as there are */
};
const char *sim_fault_name(uint32_t f); /* or feature */
/* Three replicas that nothing happens to. */
void sim_config_quiet(struct sim_config *c);
/* What this seed draws, and what is wished for; wish may be NULL. */
void sim_config_swarm(struct sim_config *c, uint64_t seed, const struct sim_wish *wish);
/* Of a fault or a feature: is there any? */
bool sim_config_has(const struct sim_config *c, uint32_t f);

/* ---------------------------------------------------------------- servers */

/* A stored message of the event stream with its own copy of everything. */
struct sim_stored {
    struct jr_log_msg m;
    uint64_t sent_id; /* for deduplication; 0 none */
};

struct sim_sync_msg {
    uint64_t seq, at_ms;
    struct jr_sync_batch b; /* arrays owned */
    uint64_t live;          /* digest of the sender's live requests when it sent this */
    uint32_t n_live;
    bool says_all; /* no part of a base that another follows */
    uint64_t sent_ms;
    uint64_t lists; /* bits of those whose life of then its sender knew a lease of */
};

/* The last word of a session, as its stream keeps it. */
struct sim_word {
    uint64_t seq, at_ms; /* seq 0: there is none */
    struct jr_session_word word;
};

struct sim_lease {
    bool present;
    uint64_t revision, written_ms, created_ms;
};

struct sim_nats {
    bool down;
    uint64_t boots; /* connections of before it are over */
    uint64_t disk_full_until_ms, slow_until_ms;
    uint64_t revision; /* one counter for all buckets */
    /* event stream */
    int64_t created_ns;
    uint64_t branch;        /* another whenever the history changes */
    struct sim_stored *log; /* log[i] has sequence i + 1 */
    uint64_t n_log, cap_log, first_seq, last_control;
    /* sync stream */
    struct sim_sync_msg *sync;
    uint64_t n_sync, cap_sync, sync_seq;
    /* session stream */
    struct sim_word words[SIM_SESSIONS]; /* of session i + 1 */
    uint64_t word_seq, word_stream;      /* another stream whenever it was lost */
    /* leases */
    struct sim_lease worker[SIM_WORKERS], replica[SIM_SEATS], leader;
    struct jr_worker_lease worker_value[SIM_WORKERS];
    struct jr_replica_lease replica_value[SIM_SEATS];
    bool worker_removed[SIM_WORKERS];
    uint32_t leader_replica;
    uint64_t leader_incarnation;
    /* state */
    struct jr_snapshots_record record;
    uint64_t record_revision;
    bool has_epoch;
    struct jr_epoch epoch;
    bool reannounce[SIM_WORKERS][SIM_RANKS];
    /* snapshots: 0 is snapshot-a */
    struct jr_image *object[2];
    struct jr_snapshot_ref object_ref[2];
    uint64_t object_revision[2];
    bool object_void[2];    /* its sequence is of a branch that is gone */
    bool object_damaged[2]; /* it cannot be read */
};

void sim_nats_init(struct sim *sim);
void sim_nats_deinit(struct sim *sim);
/* Appends a copy; its sequence, or that of the message with the same sent_id (deduplicated). */
uint64_t sim_nats_publish(struct sim *sim, const struct jr_log_msg *m, uint64_t sent_id,
                          bool dedupe);
void sim_nats_purge(struct sim *sim, uint64_t floor);
/* All messages are gone and the stream is another. */
void sim_nats_recreate(struct sim *sim);
/* The stream as it was when `last` was its last message; its name and creation time stay. */
void sim_nats_rollback(struct sim *sim, uint64_t last);
/* And the buckets with it: leases, state, snapshots. */
void sim_nats_wipe(struct sim *sim);
/* What was in memory is gone. */
void sim_nats_forget(struct sim *sim);
bool sim_nats_full(const struct sim *sim);
uint64_t sim_nats_last(const struct sim *sim);
uint64_t sim_nats_last_control(const struct sim *sim);
void sim_nats_publish_sync(struct sim *sim, const struct sim_sync_msg *m);
void sim_batch_copy(struct jr_sync_batch *to, const struct jr_sync_batch *from);
void sim_batch_free(struct jr_sync_batch *b);
bool sim_lease_live(const struct sim *sim, const struct sim_lease *l);
struct jr_image *sim_image_copy(const struct jr_image *image);

/* ---------------------------------------------------------------- workers */

enum { SIM_ON_DEVICE = 1, SIM_ON_HOST = 2, SIM_ON_DISK = 4 };
struct sim_block {
    uint64_t hash, parent, local, prefix; /* parent 0: the root */
    uint32_t on; /* media, never none; its parent is on each of them, too */
};

/* A publish on its way: decoded when it is handed out, so it outlives its bridge. */
struct sim_publish {
    bool there, landed;
    uint64_t land_ms, done_ms, id, seq;
    bool lost, ack_lost;
    uint8_t *bytes; /* owned */
    size_t n;
};

/* What a bridge publishes of one row. */
struct sim_flow {
    struct jr_bridge_rank *rank;
    struct sim_publish publish;
    struct sim_publish refused; /* of JR_BUG_LATER_BATCH_FIRST: still to be repeated */
};

struct sim_rank {
    struct sim_block blocks[SIM_BLOCKS]; /* parents before children */
    uint32_t n;
    struct jr_bridge_rank bridge;
    struct jr_bridge_lower lower; /* where bridges tell of lower media */
    struct sim_flow flows[SIM_FLOWS];
    uint32_t n_flows;
    bool running;
};

struct sim_worker {
    bool up, partitioned;
    uint64_t id, lives;
    uint64_t lease_at_ms, lease_new_at_ms, lease_revision, poll_at_ms, polls;
    uint64_t cut_from; /* bits of replicas whose HTTP does not reach it */
    uint64_t cut_until_ms;
    int64_t stream_created_ns;
    bool has_epoch;
    struct jr_epoch epoch;
    struct sim_rank ranks[SIM_RANKS];
};

void sim_worker_start(struct sim *sim, uint32_t w);
/* removed: it takes its lease back. */
void sim_worker_stop(struct sim *sim, uint32_t w, bool removed);
void sim_worker_restart_engine(struct sim *sim, uint32_t w);
void sim_worker_step(struct sim *sim, uint32_t w);
/* The engine stores a block, moves one between media, or removes one. */
void sim_engine_step(struct sim *sim, struct sim_rank *r);
void sim_engine_nudge(struct sim *sim, struct sim_rank *r);
/* Of row i of a rank (0: the device's): its number, and the media whose blocks are in it. */
uint32_t sim_row_number(uint32_t dp_rank, uint32_t i);
uint32_t sim_row_media(uint32_t i);
/* What bridges that are gone had sent. */
void sim_late_step(struct sim *sim);
bool sim_worker_settled(const struct sim *sim, uint32_t w);
bool sim_worker_answers(const struct sim *sim, uint32_t w, uint32_t replica);
void sim_workers_deinit(struct sim *sim);
uint32_t sim_worker_find(const struct sim *sim, uint64_t id); /* SIM_WORKERS: nobody */

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
    SIM_OP_SESSION,
    SIM_OP_PROBE,
};

/* Something a driver does: its effect at the server at at_ms, its answer at done_ms. */
struct sim_op {
    enum sim_op_type type;
    uint64_t at_ms, done_ms, seq, expected, connection, asked_at_ms;
    bool executed;
    int err;
    struct jr_stream_facts facts;
    struct jr_image *image; /* owned */
    struct jr_snapshot_ref ref;
    struct jr_snapshots_record record;
    struct jr_log_msg control; /* arrays owned */
    struct sim_sync_msg sync;
    struct jr_session_word word;
    struct jr_replica_lease lease;
    char object[32];
    bool may_lead, lost, led, looked, ends_worker, unread;
    bool healthy;
    struct jr_worker_lease workers[SIM_WORKERS];
    struct jr_replica_lease replicas[SIM_SEATS];
    uint64_t removed[SIM_WORKERS];
    uint32_t n_workers, n_replicas, n_removed;
};

enum sim_stage { SIM_NONE, SIM_ASKED, SIM_RUNS };

/* A client's request: some attempts, each with an id of its own. */
struct sim_request {
    enum sim_stage stage;
    uint64_t id, next_ms, worker_id;
    uint32_t attempt, tokens;
    uint64_t excluded[SIM_ATTEMPTS];
    uint64_t session, session_life; /* it belongs to; 0: none */
    uint64_t since_ms;              /* of the attempt */
    uint32_t wait_max_ms;           /* in the queue; 0: no end */
    bool pinned;                    /* to a worker, which may be none */
};

/* What a replica may know of a session, by the words of docs/protocol.md. */
struct sim_session {
    uint64_t worker_id, life; /* life 0: it knows nothing */
    uint32_t dp_rank, requests;
    uint64_t ends_ms; /* by its monotonic clock */
    uint64_t late_ms; /* the last word that put that off was believed to be younger by that */
    uint64_t used_ms; /* or heard of, by ours */
};

/* What a replica was told of a peer since it opened the sync stream. */
struct sim_heard {
    char id[JR_NAME_MAX];
    uint64_t incarnation, number;
    bool base; /* a whole one */
    uint32_t next_part;
};

struct sim_replica {
    uint32_t index, seat;
    struct jr_pool *pool; /* NULL: dead */
    struct jr_actions actions;
    char id[JR_NAME_MAX];
    uint64_t lives; /* under other names */
    uint64_t incarnation, dead_incarnation, died_ms, started_ms, paused_until_ms;
    char dead_id[JR_NAME_MAX];
    uint64_t
        leave_ms;  /* it has no request any more, and ends, at the latest then; 0: it does not */
    bool crashing; /* nothing more is performed; it ends with this step */
    uint64_t cut_until_ms, tick_ms, round_ms, renew_ms, sync_at_ms, connection, boots;
    int64_t skew_ns;  /* of its wall clock */
    uint64_t mono_ms; /* its monotonic clock is ahead of ours by this */
    bool connected, held, take_lease, leader_key, leader_told, leading_up, round_running;
    uint64_t lease_revision, leader_renewed_ms, rounds;
    uint64_t object_revision[2], record_revision;
    bool reading, mute; /* until another consumer is made */
    uint64_t read_next;
    int64_t read_created_ns;
    uint64_t read_branch;
    uint64_t sync_next, sync_wait_ms;
    bool sync_reading, sync_failed; /* the last that it said while it left is lost */
    struct sim_session sessions[SIM_SESSIONS];
    uint64_t session_lives, words_next, word_stream, words_wait_ms, word_at_ms;
    int64_t words_skew_ms; /* of its wall clock when it began to read its session stream */
    bool words_reading;    /* which is read to the end */
    uint64_t start_last;   /* the stream's last when the reader began */
    bool was_ready;
    uint64_t listed_worker[SIM_WORKERS], listed_worker_ms[SIM_WORKERS]; /* in its last lists */
    uint64_t resume_seq, resume_branch; /* of who is cut off: what it may go on with; 0: nothing */
    struct sim_heard heard[4 * SIM_SEATS];
    char listed[SIM_SEATS][JR_NAME_MAX]; /* in the last list, but itself */
    uint64_t listed_incarnation[SIM_SEATS];
    uint32_t n_heard, n_listed;
    const struct jr_state *diverged; /* this state is not what the log says */
    struct sim_op **ops;
    uint32_t n_ops, cap_ops;
    struct sim_request requests[SIM_REQUESTS];
    uint64_t next_request;
    uint32_t rules;    /* newest apply rules it knows; 0: all */
    uint32_t sync_max; /* newest version of replica sync it reads and writes; 0: the product's */
    FILE *trace;
};

/* Can snapshot k (0: a) be loaded? */
bool sim_snapshot_fits(const struct sim *sim, int k);
void sim_replica_start(struct sim *sim, uint32_t i);
void sim_replica_kill(struct sim *sim, uint32_t i);
void sim_replica_leave(struct sim *sim, struct sim_replica *r);
void sim_replica_step(struct sim *sim, uint32_t i);
void sim_replica_event(struct sim *sim, struct sim_replica *r, struct jr_event *ev);
bool sim_replica_reaches(const struct sim *sim, const struct sim_replica *r);
uint64_t sim_replica_now(const struct sim *sim, const struct sim_replica *r);

/* sim_driver.c */
void sim_driver_perform(struct sim *sim, struct sim_replica *r, const struct jr_action *a);
void sim_driver_not_leader(struct sim *sim, struct sim_replica *r);
void sim_driver_round(struct sim *sim, struct sim_replica *r);
/* What it said on the sync stream is acknowledged. */
bool sim_driver_all_said(const struct sim_replica *r);
void sim_driver_release(struct sim *sim, struct sim_replica *r);
/* Effects happen also while the replica sleeps; answers wait for it. */
void sim_driver_run(struct sim *sim, struct sim_replica *r, bool asleep);
/* It is dead: what is on its way arrives, or not. */
void sim_driver_end(struct sim *sim, struct sim_replica *r, bool at_all);

/* sim_routing.c: what may be known of workers */
void sim_routing_step(struct sim *sim);
void sim_routing_listed(const struct sim *sim, struct sim_replica *r, const struct sim_op *round);
/* Nobody was found for a request that had failed on n workers. */
void sim_routing_rejected(const struct sim *sim, const struct sim_replica *r,
                          const uint64_t *excluded, uint32_t n);
void sim_routing_gone(const struct sim *sim, const struct sim_replica *r,
                      const struct jr_control *c);
/* As the driver finds when it reads the key of one that is to be said to be gone. */
bool sim_routing_is_back(const struct sim *sim, uint64_t worker_id);
void sim_routing_cut(const struct sim *sim, struct sim_replica *r);
void sim_routing_loads(const struct sim *sim, const struct sim_replica *r);

/* sim_client.c */
void sim_client_step(struct sim *sim, struct sim_replica *r, struct sim_request *q);
void sim_client_decided(struct sim *sim, struct sim_replica *r, const struct jr_decision *d);
void sim_client_rejected(struct sim *sim, struct sim_replica *r, uint64_t id, int err);
/* It ends its requests, and takes no more. */
void sim_client_drain(struct sim *sim, struct sim_replica *r);
/* The replica is gone, and the connections with it. */
void sim_client_lost(struct sim *sim, struct sim_replica *r);

/* ---------------------------------------------------------------- sessions */

bool sim_has_sessions(const struct sim *sim);
/* Of a new request: 0, it has none. */
uint64_t sim_session_draw(struct sim *sim);
void sim_session_decided(struct sim *sim, struct sim_replica *r, struct sim_request *q,
                         const struct jr_decision *d);
/* Just before the pool is told. */
void sim_session_ended(const struct sim *sim, struct sim_replica *r, struct sim_request *q);
void sim_sessions_store(struct sim *sim, const struct jr_session_word *word);
void sim_sessions_lose(struct sim *sim);
/* The replica's consumer is gone. */
void sim_sessions_broken(struct sim *sim, struct sim_replica *r);
void sim_sessions_feed(struct sim *sim, struct sim_replica *r);
void sim_sessions_check(struct sim *sim);
bool sim_sessions_settled(const struct sim *sim, const struct sim_replica *r);

/* ---------------------------------------------------------------- external data planes */

/* A request of one, which books at any replica and tells any how it goes. */
struct sim_outside {
    enum sim_stage stage;
    bool freed;  /* somebody was told that it is over */
    bool missed; /* and somebody was away all the while that this was said */
    uint64_t id, next_ms, told_ms, booked_ms;
    uint32_t at; /* who was asked, or told, last */
    uint64_t at_life_ms, at_incarnation;
    uint64_t left_ms;   /* who was told left in order then: the others know; 0: not so */
    uint64_t witnesses; /* bits of replicas that live, and knew it as a dead one's */
};

void sim_outside_step(struct sim *sim);
void sim_outside_decided(struct sim *sim, const struct sim_replica *r, uint64_t id, bool booked);
/* How many of the replica's own bookings they are. */
uint32_t sim_outside_own(const struct sim *sim, const struct sim_replica *r);
/* It is about to be. */
void sim_outside_died(struct sim *sim, const struct sim_replica *dead);
/* It leaves in order, all that it said was stored. */
void sim_outside_left(struct sim *sim, const struct sim_replica *r);
void sim_outside_cut(struct sim *sim, const struct sim_replica *r);
void sim_outside_check(struct sim *sim);
bool sim_outside_settled(const struct sim *sim);

/* ---------------------------------------------------------------- the naive model */

struct sim_entry {
    uint64_t hash, prefix;
};

struct sim_row {
    uint64_t worker_id, incarnation, newest_id;
    uint32_t dp_rank;
    bool waiting, has_id;
    struct sim_entry *entries;
    uint32_t n, cap;
};

struct sim_digest {
    bool known;
    uint64_t blocks, table;
};

/* What the log says up to seq, by the words of docs/protocol.md, in the simplest way. An Adopt names
 * an index by its digests: whoever says it leaves a copy, which becomes the model's. */
struct sim_model {
    bool known;
    uint64_t seq;
    struct sim_row rows[SIM_ROWS];
    uint32_t n_rows;
    uint64_t n_entries;
    struct jr_epoch epoch;
    struct jr_pool_params params;
    uint32_t rules;
    char token[64];
    struct jr_state_counters counters;
    struct sim_digest *digests; /* by sequence */
    uint64_t cap_digests;
    uint64_t *ever; /* all digests there ever were, hashed; 0 empty */
    uint32_t n_ever, cap_ever;
    struct jr_image **offers; /* owned: what was ever to be adopted */
    uint32_t n_offers;
    bool holes_may_be; /* the history was changed by hand: ids may have holes */
};
void sim_model_deinit(struct sim_model *m);
void sim_model_step(struct sim *sim);
/* The log was cut to `last` messages, or is another one: what the model knows goes back, too. */
void sim_model_cut(struct sim *sim, uint64_t last);
/* What it says at a sequence; NULL when it does not know. */
const struct sim_digest *sim_model_at(const struct sim *sim, uint64_t seq);
/* A replica is about to say Adopt of what it holds. */
void sim_model_offer(struct sim *sim, const struct sim_replica *r);
uint32_t sim_model_score(const struct sim_model *m, uint64_t worker_id, uint32_t dp_rank,
                         const uint64_t *prefix, uint32_t n);
/* 0: it has none, or there is no such row. */
uint64_t sim_model_incarnation(const struct sim_model *m, uint64_t worker_id, uint32_t dp_rank);

/* ---------------------------------------------------------------- world */

struct sim_failure {
    uint64_t seed, step, now_ms;
    char text[600]; /* what did not hold; "" while all does */
};

struct sim {
    uint64_t seed, now_ms, steps;
    struct sim_config c;
    struct jr_rng rng, fault_rng[SIM_FAULTS], session_rng, outside_rng, version_rng, policy_rng;
    struct sim_outside outside[SIM_OUTSIDE];
    uint64_t upset_ms;                     /* when last one died, began or lost its connection */
    uint64_t outside_ids, outside_well_ms; /* since then everybody tells everybody */
    uint64_t heard_ms[SIM_REPLICAS];       /* when each could last hear its peers */
    uint64_t silent_ms[SIM_REPLICAS][SIM_WORKERS]; /* when each last had no answer of a worker */
    uint64_t sessions_well_ms;                     /* since then everybody reads and writes them */
    struct sim_nats nats;
    struct sim_model model;
    struct sim_worker workers[SIM_WORKERS];
    struct sim_replica replicas[SIM_REPLICAS];
    struct sim_publish late[SIM_WORKERS * SIM_RANKS * SIM_FLOWS * 2];
    struct jr_event_decoder *decoder;
    struct jr_arena arena;
    bool faults;  /* may happen */
    bool by_hand; /* somebody purged by hand, or damaged: a cold replica may have to rebuild */
    bool quiet;   /* engines and requests stand still */
    bool mute;    /* bridges say nothing, whatever happens to the stream */
    FILE *trace;  /* NULL: silent */
    struct sim_failure *failure; /* where to say what does not hold; NULL: on stderr */
    uint32_t happened[SIM_FAULTS];
    struct sim_count {
        uint64_t kills, purges, snapshots, resets, rebuilds, begins, messages, requests, leaders,
            waited, adopts, any_resets, dispatched, compared, scored, synced, lower, words, kept,
            outside, adopted;
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
/* Does it happen now? Each fault has its own dice, so that leaving one out changes no other. */
bool sim_fault(struct sim *sim, enum sim_fault f);
uint32_t sim_fault_below(struct sim *sim, enum sim_fault f, uint32_t n);

struct sim *sim_create(uint64_t seed, const struct sim_config *config);
void sim_destroy(struct sim *sim);
void sim_step(struct sim *sim);
/* What the replica holds is the state of the stream as it is now, at its sequence. */
bool sim_comparable(const struct sim *sim, const struct sim_replica *r);
void sim_faults_step(struct sim *sim);
void sim_check_step(struct sim *sim);
/* What a request asks of the queue, whether it may give up now, and whether it may still wait. */
const struct jr_policy *sim_policy(void);
void sim_policy_ask(struct sim *sim, struct sim_request *q, struct jr_route *route);
void sim_policy_rejected(const struct sim *sim, const struct sim_request *q, int err);
void sim_policy_waits(const struct sim *sim, const struct sim_replica *r,
                      const struct sim_request *q);
void sim_policy_step(struct sim *sim, struct sim_replica *r); /* thresholds change */
/* The admissions of a peer's batch that was fed are believed. */
void sim_beliefs_heard(const struct sim *sim, const struct sim_replica *r,
                       const struct jr_sync_batch *b);
/* Before a list, and after: of a rank that is another now nothing is believed. */
struct sim_beliefs {
    uint64_t decisions, incarnation[SIM_WORKERS][SIM_RANKS];
};
void sim_beliefs_before(const struct sim *sim, const struct sim_replica *r,
                        struct sim_beliefs *ret);
void sim_beliefs_listed(const struct sim *sim, const struct sim_replica *r,
                        const struct sim_beliefs *before);
/* Is it of a version that this one reads? Whoever lists it writes no other. */
bool sim_check_read(const struct sim *sim, const struct sim_replica *r,
                    const struct sim_sync_msg *m);
/* A batch of a peer is about to be fed: true when it follows what was heard before, so that the
 * replica can miss nothing before it. */
bool sim_check_hear(struct sim_replica *r, const struct sim_sync_msg *m);
/* And it was. */
void sim_check_sync(struct sim *sim, const struct sim_replica *r, const struct sim_sync_msg *m);
void sim_check_listed(struct sim_replica *r, const struct sim_op *round);
void sim_check_ready(struct sim *sim, struct sim_replica *r);
void sim_check_purge(const struct sim *sim, uint64_t floor);
void sim_check_record(const struct sim *sim, const struct jr_snapshots_record *record);
/* Ends all faults and waits (in virtual time) until the fleet is whole; fails when it does not
 * come. */
void sim_heal(struct sim *sim);

/* ---------------------------------------------------------------- runs: sim_run.c */

/* One seed from its start to its end, in this process. */
void sim_run(uint64_t seed, const struct sim_wish *wish, FILE *trace, struct sim_failure *failure,
             struct sim_count *total);

struct sim_batch {
    uint64_t first, n;
    struct sim_wish wish;
    uint32_t jobs; /* processes */
};
/* In processes of their own: true when all seeds held. total may be NULL. */
bool sim_run_many(const struct sim_batch *b, struct sim_failure *ret, struct sim_count *total);
/* What is forced for a mistake that few seeds would find. */
uint64_t sim_force_for(enum jr_bug bug);
/* Leaves out of the wish all that the seed fails without. */
void sim_shrink(uint64_t seed, struct sim_wish *wish, struct sim_failure *ret);
/* The end of what happens, on out. */
void sim_print_trace(uint64_t seed, const struct sim_wish *wish, uint32_t lines, FILE *out);

#endif
