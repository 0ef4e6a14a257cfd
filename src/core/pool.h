/* SPDX-License-Identifier: Apache-2.0 */
/* pool: the router of one pool as data in, data out.
 *
 *     events ──► jr_pool_step(pool, event, actions) ──► actions, in the order to be performed
 *
 * A pool is one (namespace, component): one event stream, one block size, its workers, its
 * replicas. Time and the results of I/O come in as events; everything the pool wants done leaves as
 * actions. It never calls back, reads no clock, and the same events with the same seed give the
 * same actions byte for byte. Owned by one thread; not re-entrant.
 *
 * Memory of an action's arrays and text is the pool's and valid until the next step, unless the
 * action says that the driver takes it. */
#ifndef JR_CORE_POOL_H
#define JR_CORE_POOL_H

#include "base/arr.h"
#include "base/busy.h"
#include "base/image.h"
#include "base/member.h"
#include "base/sync.h"
#include "base/pages.h"
#include "base/trace.h"
#include "core/approx.h"
#include "core/cost.h"
#include "core/policy.h"
#include "core/queue.h"
#include "core/recovery.h"
#include "core/select.h"
#include "core/sessions.h"

struct jr_pool;

enum jr_router_mode {
    JR_MODE_KV,
    JR_MODE_ROUND_ROBIN,
    JR_MODE_RANDOM,
    JR_MODE_DIRECT,
    JR_MODE_POWER_OF_TWO,
    JR_MODE_LEAST_LOADED,
    JR_MODE_DEVICE_AWARE,
};

struct jr_pool_config {
    char namespace_[JR_NAME_MAX];
    char component[JR_NAME_MAX];
    char replica_id[JR_NAME_MAX];
    uint64_t incarnation; /* of this replica; random */
    uint32_t rules_max;   /* newest apply rules it knows; 0: all that this program does */
    uint32_t sync_max;    /* the same of the versions of replica sync */
    uint64_t seed;
    char version[32];
    char address[JR_URL_MAX];
    bool durable; /* false: static workers, no log, no peers */
    bool replica_sync;
    bool assume_kv_reuse;
    bool track_active_blocks;
    bool track_output_blocks;   /* output blocks count in the load */
    bool ignore_prefill_tokens; /* --no-router-track-prefill-tokens */
    /* Mode kv: a request waits while every (worker, rank) it may go to has more prefill tokens than
     * this share of its prefill capacity. Negative or NaN reads as not set. */
    bool has_queue_threshold;
    double queue_threshold;
    enum jr_queue_policy queue_policy;
    uint32_t queue_max;             /* requests that wait at most; 0: JR_QUEUE_MAX */
    const struct jr_policy *policy; /* borrows; its classes are in place of the two above */
    struct jr_busy_limits busy;     /* of models that have none of their own: JR_EV_BUSY */
    enum jr_router_mode mode;
    double cpu_ratio; /* of JR_MODE_DEVICE_AWARE; jr_select_device_aware */
    struct jr_cost_config cost;
    enum jr_tie tie;
    double temperature;
    bool approximate; /* no KV events: our decisions, and the peers', are the index */
    /* Of approximate mode. With KV events and a ttl_ms > 0: what was routed is believed to be cached
     * that long before its events say so. All zero: nothing is believed. */
    struct jr_approx_config approx;
    /* With KV events: what is believed of texts that nobody tokenized (see jr_route.by_text). */
    struct jr_approx_config by_text;
    uint32_t
        block_size; /* 0: from the workers; static ones without events: JR_BLOCK_SIZE_DEFAULT */
    uint64_t
        index_entries_max; /* what a leader says when the pool has no parameters yet; 0: none */
    uint64_t snapshot_threshold; /* messages */
    uint64_t snapshot_max_age_ms;
    uint64_t lease_ttl_ms;
    uint64_t stale_worker_ms;
    uint64_t active_expiry_ms;
    uint64_t ready_timeout_ms;
    uint64_t base_interval_ms;
    uint64_t sync_flush_ms;  /* how long deltas wait for others; progress alone ten times as long */
    uint64_t session_ttl_ms; /* requests of a session go to one worker; 0: no matter */
    uint32_t sessions_max;   /* 0: JR_SESSIONS_MAX */
    bool reset_at_start;     /* --router-reset-states without a token */
    char reset_token[64];    /* with one; "" none */
    struct jr_pages_warmer warmer; /* touches the index's tables; post NULL: small pages */
    /* Within a step: the index was asked for a request. For whoever has a clock; may be NULL. */
    void (*on_matched)(void *ctx);
    void *matched_ctx;
};

/* ---------------------------------------------------------------- events */

enum jr_event_type {
    JR_EV_TICK = 1,        /* time has passed (the deadline came) */
    JR_EV_SLICE,           /* do a slice of background work; u.slice.max entries */
    JR_EV_NATS,            /* u.nats.connected */
    JR_EV_LEASE_HELD,      /* our lease is written; u.incarnation the one it names */
    JR_EV_LEASE_LOST,      /* a renewal failed: u.incarnation is our new one */
    JR_EV_STREAM_INFO,     /* answer to JR_ACT_STREAM_INFO */
    JR_EV_SNAPSHOT_LOADED, /* answer to JR_ACT_LOAD_SNAPSHOT */
    JR_EV_LOG,             /* the next message of the stream */
    JR_EV_READER_BROKEN,   /* the reader restarted, lost its place or died */
    JR_EV_FACTS,           /* the stream and the record of snapshots, as looked at now and then */
    JR_EV_MEMBERS,         /* a re-list of the lease bucket */
    JR_EV_PROBED,          /* answer to JR_ACT_PROBE */
    JR_EV_LEADER,          /* we are or are not the leader now */
    JR_EV_SYNC,            /* a batch of a peer */
    JR_EV_SYNC_OPENED,     /* the sync stream was (re)opened and read to its end */
    JR_EV_SYNC_BROKEN,     /* it is about to be read anew, from its start */
    JR_EV_SYNC_FAILED,     /* a batch of ours could not be published */
    JR_EV_SESSION,         /* u.session: a word of the session stream, ours among them */
    JR_EV_SESSIONS_OPENED, /* that stream was (re)opened and read to its end */
    JR_EV_SESSIONS_BROKEN, /* it is about to be read anew, from its start */
    JR_EV_SESSION_FAILED,  /* u.session.word.session: a word of ours could not be published */
    JR_EV_LEAVING,         /* we end, and have no request any more: the last base is due */
    JR_EV_SNAPSHOT_WRITTEN,
    JR_EV_SNAPSHOT_RECORDED,
    JR_EV_PURGED,
    JR_EV_CONTROL_PUBLISHED,
    JR_EV_ADMIN_SNAPSHOT, /* write one now (when leader) */
    JR_EV_ADMIN_RESET,    /* u.token; nothing when it is the last Reset's */
    JR_EV_ROUTE,          /* a request wants a worker */
    JR_EV_FIRST_TOKEN,    /* u.request.id */
    JR_EV_OUTPUT,         /* u.request: output_tokens in all so far */
    JR_EV_FINISH,         /* u.request: ended, whatever the way; frees the booking */
    JR_EV_OUTSIDE,        /* u.outside: told of an outside request, whosever it is (base/sync.h) */
    JR_EV_BUSY,           /* u.busy: the busy thresholds of a model's workers, from here on */
};

struct jr_stream_facts {
    int64_t created_ns;
    uint64_t first_seq, last_seq;
    uint64_t bytes, bytes_max;
    int64_t max_age_ms;         /* 0: none; else messages leave by themselves */
    bool discard_old;           /* so they do when the stream is full; else it refuses */
    uint32_t foreign;           /* consumers of others: they may purge, and their acks bound ours */
    uint64_t foreign_ack_floor; /* the least of theirs; UINT64_MAX when there are none */
    bool has_msg;               /* the message that was asked for is there */
    int64_t msg_time_ns;
    uint64_t msg_hash;
    bool next_gone; /* the message behind it is not, though the stream reaches past it */
};

/* What one request wants otherwise than the configuration. Numbers must be finite and not
 * negative, else the request is refused with JR_EINVAL. */
struct jr_route_override {
    bool has_overlap_weight, has_credit, has_scale, has_temperature;
    bool has_assume_kv_reuse, has_track_prefill_tokens;
    double overlap_weight; /* later formula: the scale, and 0 also takes the credit away */
    double credit, scale;
    double temperature;
    bool assume_kv_reuse;
    bool track_prefill_tokens;
};

/* Arrays are borrowed for the step; a request that waits is copied. */
struct jr_route {
    uint64_t id;            /* the driver's, unique among live ones */
    uint32_t tokens;        /* prompt tokens */
    const uint64_t *prefix; /* prefix hashes of the full blocks; may be NULL when n is 0 */
    uint32_t n_prefix;
    /* prefix is of runs of a text's bytes, each about a block: no event speaks of them. They count in
     * the load, and are matched with texts routed before alone. */
    bool by_text;
    bool has_pin;
    uint64_t pin_worker;
    bool has_pin_rank;
    uint32_t pin_rank;
    uint64_t session;        /* jr_session_key of its name; 0: of none */
    bool session_pinned;     /* the pool's own: the pin is its session's */
    const uint64_t *exclude; /* workers that failed this request already */
    uint32_t n_exclude;
    uint64_t model;                  /* see jr_pool_model_id; others' workers never get it */
    bool query_only;                 /* decide at once, book nothing */
    uint32_t expected_output_tokens; /* 0 unknown */
    double priority_jump_s;          /* so many seconds ahead in the queue; negative: 0 */
    uint32_t strict_priority;        /* in the queue before all with a lower one of its class */
    uint64_t policy_class;           /* the class or family it names, jr_policy_name_id; 0: none */
    uint32_t wait_max_ms;            /* in the queue, then JR_ETIMEOUT; 0: no end */
    bool want_record;                /* see jr_pool_record */
    struct jr_route_override override;
};

struct jr_event {
    enum jr_event_type type;
    uint64_t now_ms; /* monotonic */
    int64_t unix_ns; /* wall clock, for what is written for others */
    union {
        struct {
            uint32_t max;
        } slice;
        struct {
            bool connected;
            uint64_t lease_ttl_ms; /* of the lease bucket as it is; 0: as configured */
        } nats;
        uint64_t incarnation;
        struct {
            int err;
            struct jr_stream_facts facts;
        } stream;
        struct {
            int err;                /* JR_ENOTFOUND: there is none; else transient */
            struct jr_image *image; /* the pool takes it */
            struct jr_snapshot_ref ref;
            struct jr_snapshots_record record;
        } loaded;
        const struct jr_log_msg *log;
        struct {
            struct jr_stream_facts stream;
            struct jr_snapshots_record record;
        } facts;
        struct {
            const struct jr_worker_lease *workers;
            uint32_t n_workers;
            const struct jr_replica_lease *replicas; /* ours among them */
            uint32_t n_replicas;
            const uint64_t *removed; /* workers that took their lease back on purpose */
            uint32_t n_removed;
            uint64_t asked_at_ms; /* when the list was asked for, by now_ms's clock; 0: now */
            bool is_static;       /* named on the command line: no leases, no log */
        } members;
        struct {
            uint64_t worker_id;
            bool healthy;
            bool late; /* no answer in time; not healthy */
        } probed;
        struct {
            bool is_leader;
            struct jr_snapshots_record record; /* re-read when leadership began */
        } leader;
        const struct jr_sync_batch *sync;
        struct {
            struct jr_session_word word;
            uint64_t age_ms; /* since it was stored */
        } session;
        struct {
            int err;
            struct jr_snapshot_ref ref;
        } written;
        struct {
            int err;
            uint64_t floor; /* PURGED: it may have been less than was asked for */
        } result;
        char token[64];
        struct jr_route route;
        struct {
            uint64_t id;
            uint32_t output_tokens;
        } request;
        struct {
            uint64_t id;
            bool done; /* it ended; else its prefill is done */
        } outside;
        struct {
            uint64_t model; /* jr_pool_model_id */
            bool own;       /* false: those of the configuration again */
            struct jr_busy_limits limits;
        } busy;
    } u;
};

/* ---------------------------------------------------------------- actions */

enum jr_action_type {
    JR_ACT_TAKE_LEASE = 1, /* write our lease (jr_pool_lease says what), then keep it */
    JR_ACT_STREAM_INFO,    /* u.seq: also the message at it, 0 for none; from the stream leader */
    JR_ACT_LOAD_SNAPSHOT,  /* newest verified one; u.load.skip names an object that did not fit */
    JR_ACT_START_READER,   /* u.seq: first message wanted; ends an older reader */
    JR_ACT_STOP_READER,
    JR_ACT_WRITE_SNAPSHOT,  /* u.write: the driver takes the image */
    JR_ACT_RECORD_SNAPSHOT, /* u.record */
    JR_ACT_PURGE,           /* u.seq: the floor; that message stays */
    JR_ACT_PUBLISH_CONTROL, /* u.control */
    JR_ACT_PUBLISH_SYNC,    /* u.sync */
    JR_ACT_TELL_SESSION,    /* u.session: to the session stream, in place of the last one */
    JR_ACT_REANNOUNCE,      /* u.rank: create reannounce.{worker}.{rank} */
    JR_ACT_PROBE,           /* u.probe: GET {url}/health */
    JR_ACT_DECIDE,          /* u.decide: the worker of a request */
    JR_ACT_REJECT,          /* u.reject */
    JR_ACT_EPOCH,           /* the epoch changed: as leader write the hint to the state bucket */
    JR_ACT_READY,           /* u.ready: readiness changed */
};

struct jr_decision {
    uint64_t id;
    uint64_t worker_id;
    uint32_t dp_rank;
    const char *url;
    const char *model;
    uint32_t overlap_blocks; /* on whatever medium that counts */
    uint32_t candidates;
    double cost;
    bool waited; /* in the queue */
    uint64_t waited_ms;
    uint32_t record_at, n_record; /* see jr_pool_record; 0 of them unless asked for */
};

/* A limit of its class that a request came up against. */
struct jr_queue_refusal {
    const char *policy_class; /* the policy's; NULL: it was something else */
    enum jr_policy_limit kind;
    uint64_t current, limit; /* of all workers together */
};

struct jr_action {
    enum jr_action_type type;
    union {
        uint64_t seq;
        struct {
            uint64_t applied; /* read from applied + 1 */
            int64_t stream_created_ns;
            bool has_msg; /* time and hash of the message at applied are known */
            int64_t msg_time_ns;
            uint64_t msg_hash;
        } start;
        struct {
            char skip[32];
            bool dynamo; /* Dynamo's radix-state instead, as of before the stream's first message */
        } load;
        struct {
            struct jr_image *image;
            char object[32];
        } write;
        struct jr_snapshots_record record;
        struct {
            struct jr_control control;
            /* The last control message it was decided upon: another one since makes it void. Else
             * the newest there is; one that is past expects_seq makes it void when it must be read. */
            bool expects, must_be_read;
            bool ends_worker; /* its lease is over: not published when its key is there again */
            uint64_t expects_seq;
        };
        struct jr_sync_batch sync;
        struct jr_session_word session;
        struct {
            uint64_t worker_id;
            uint32_t dp_rank;
        } rank;
        struct {
            uint64_t worker_id;
            const char *url;
        } probe;
        struct jr_decision decide;
        struct {
            uint64_t id;
            int err;
            const char *why;
            struct jr_queue_refusal limit;
        } reject;
        struct {
            struct jr_epoch epoch;
        } epoch;
        bool ready;
    } u;
};

/* Reusable; zero-initialised is empty. */
struct jr_actions {
    JR_ARR_FIELDS(struct jr_action);
};

/* ---------------------------------------------------------------- the door */

/* Copies the config; borrows trace (may be NULL). */
JR_MUST_CHECK int jr_pool_create(const struct jr_pool_config *config, const struct jr_trace *trace,
                                 struct jr_pool **ret);
void jr_pool_destroy(struct jr_pool *pool);

/* Clears ret and fills it. 0 or JR_ENOMEM: then, too, what is in ret is to be performed; a part of
 * the event has no effect. */
JR_MUST_CHECK int jr_pool_step(struct jr_pool *pool, const struct jr_event *event,
                               struct jr_actions *ret);
void jr_actions_deinit(struct jr_actions *actions, struct jr_pool *pool);

/* When the next tick is due (monotonic ms). */
uint64_t jr_pool_deadline_ms(const struct jr_pool *pool);
/* A snapshot image is being copied, while the log goes on. */
bool jr_pool_copying(const struct jr_pool *pool);
/* There is sliced work: feed JR_EV_SLICE in idle time. */
bool jr_pool_has_slices(const struct jr_pool *pool);

/* ---------------------------------------------------------------- looking in */

/* What our lease must say now. */
void jr_pool_lease(struct jr_pool *pool, struct jr_replica_lease *ret);

struct jr_pool_view {
    bool ready, leader, nats_connected, index_is_old, truncated, digest_mismatch;
    const char *recovery_state;
    const char *not_ready_because; /* "" when ready */
    uint64_t degraded_since_ms;    /* by now_ms's clock: no list of leases since; 0: not degraded */
    uint64_t applied_seq, stream_first_seq, stream_last_seq;
    uint64_t stream_bytes, stream_bytes_max; /* as last told; max 0: no limit, or not known */
    int64_t stream_created_ns;
    uint64_t digest_blocks, digest_table;
    uint64_t blocks, entries, index_bytes, bytes;
    uint64_t reserve_bytes; /* beside `bytes`: warm, for tables to come */
    uint64_t believed;      /* entries that decisions made, not events */
    uint32_t block_size;
    uint32_t agreed_block_size; /* as the log says it; 0: no leader has yet */
    struct jr_epoch epoch;
    struct jr_snapshots_record snapshots;
    bool snapshot_running;
    uint64_t restored_entries, restore_total;
    /* Why messages may leave the stream before a snapshot covers them; "" when none may. */
    const char *may_forget_because;
    uint32_t foreign_consumers;
    const char *snapshot_stage;          /* "idle" or what is being done */
    uint64_t snapshot_ms;                /* how long the last that we wrote took */
    uint32_t snapshot_failures;          /* in a row */
    const char *snapshot_failed_because; /* of the last; "" when it did not fail */
    uint32_t rule_version;
    uint32_t n_workers, n_peers, n_bookings;
    struct jr_queue_view {
        bool on;
        bool by_policy; /* thresholds and policies are the classes' */
        double threshold;
        enum jr_queue_policy policy;
        uint32_t waiting, lanes, max;
        uint64_t oldest_ms; /* how long the oldest has waited */
        uint64_t waiting_tokens;
    } queue;
    struct jr_sessions_view {
        bool on, open; /* open: what the peers bound is known */
        uint32_t n;
        struct jr_session_counters counters;
    } sessions;
    double speed_factor;
    struct jr_pool_counters {
        /* rejected_no_worker: all refusals that are none of the three after it */
        uint64_t decisions, rejected_no_worker, rejected_busy, rejected_queue_full,
            rejected_timeout, queued, queue_cancelled, log_messages, kv_events,
            dropped_unknown_parent, dropped_stale, dropped_hole, undecodable, refused_cap, skipped,
            snapshots, snapshot_failures, purges, purged_to, sync_sent, sync_received, sync_gaps,
            sync_unknown, sync_failed, bookings_expired, bookings_refused, bookings_adopted,
            reannounce, resets, adoptions, reloads, history_checks, recoveries, overlap_blocks,
            prompt_blocks, prompt_tokens, leases_refused;
        struct jr_kv_tally applied; /* of kv_events */
    } counters;
};
void jr_pool_view(struct jr_pool *pool, struct jr_pool_view *ret);

enum jr_worker_state { JR_WORKER_LIVE, JR_WORKER_STALE, JR_WORKER_DOWN };
const char *jr_worker_state_name(enum jr_worker_state state);

/* One (worker, rank), for /state and metrics. */
struct jr_worker_view {
    uint64_t worker_id;
    uint32_t dp_rank;
    const char *url, *model;
    const struct jr_worker_lease *lease; /* what else it says; borrowed until the next step */
    bool on_cpu;
    enum jr_worker_state state;
    uint64_t blocks; /* indexed */
    uint64_t digest; /* of them, as jr_index_digest */
    uint64_t active_blocks, active_prefill_tokens;
    uint32_t active_requests;
    double backlog_seconds;
    bool credited; /* its index entries count in decisions */
};
/* Walk with *pos from 0; false at the end. */
bool jr_pool_next_worker(struct jr_pool *pool, uint32_t *pos, struct jr_worker_view *ret);

/* One class of requests that wait, of one model. */
struct jr_class_view {
    const char *model, *name; /* borrowed until the next step */
    uint32_t requests;
    uint64_t isl_tokens, cached_tokens;
    uint64_t refused[JR_POLICY_LIMITS]; /* since the start, by limit */
};
/* Classes of the models of which somebody waited; walk as above. Names that no worker says are one, "". */
bool jr_pool_next_class(const struct jr_pool *pool, uint32_t *pos, struct jr_class_view *ret);

struct jr_peer_view {
    const char *id;
    uint64_t incarnation;
    bool ready, listed, base_read;
    uint64_t applied_seq;
    struct jr_digest_point point;
    uint32_t active_requests;
    const char *address, *version;
};
bool jr_pool_next_peer(struct jr_pool *pool, uint32_t *pos, struct jr_peer_view *ret);

/* All candidates of a decision with their terms, when the request had want_record: d->n_record of
 * them. Borrowed until the next step. NULL when there are none. */
const struct jr_candidate *jr_pool_record(const struct jr_pool *pool, const struct jr_decision *d);

/* An outside request that is booked, here or by a listed peer. */
struct jr_outside_view {
    const char *owner; /* the replica; this and the texts below: borrowed until the next step */
    uint64_t worker_id;
    uint32_t dp_rank;
    bool prefilled;
    const char *url, *model; /* of the worker; "" when it is gone */
};
/* False: nobody has it, as far as we know; the owner then is us. */
bool jr_pool_find_outside(struct jr_pool *pool, uint64_t id, struct jr_outside_view *ret);

/* The busy thresholds of a model (jr_pool_model_id) as they are now. */
void jr_pool_busy_limits(const struct jr_pool *pool, uint64_t model, struct jr_busy_limits *ret);

/* Tokens of a block; 0: not known yet. */
uint32_t jr_pool_block_size(const struct jr_pool *pool);
/* The prefix that a live booking of ours was routed by; borrowed until the next step. NULL: there is no
 * such booking, or its load is told by other hashes, or by none. */
const uint64_t *jr_pool_booked_prefix(const struct jr_pool *pool, uint64_t id, uint32_t *ret_n);

/* Fit to lead: it holds the state (or nobody does, in a rebuild) and agrees with its peers. A
 * leader that waits for somebody else's snapshot would wait for itself. A history check does not
 * end it. */
bool jr_pool_may_lead(const struct jr_pool *pool);

/* After JR_EV_LEAVING: parts of the last base, or the words behind it, are still to be published. */
bool jr_pool_is_leaving(const struct jr_pool *pool);

/* Index scores of a prompt, for tests and /state queries: calls fn in (worker, rank) order of age.
 */
int jr_pool_scores(struct jr_pool *pool, const uint64_t *prefix, uint32_t n,
                   void (*fn)(void *ctx, uint64_t worker_id, uint32_t dp_rank, uint32_t blocks),
                   void *ctx);
/* First worker of a model (any when model is NULL or ""), for tokenization: NULL when none. */
const char *jr_pool_any_url(struct jr_pool *pool, const char *model);
/* Does one of the routable workers serve a model? ("" and NULL: any does; so does, for any, one that
 * has not said yet.) */
enum jr_pool_model {
    JR_POOL_MODEL_EMPTY, /* there are no workers */
    JR_POOL_MODEL_NONE,
    JR_POOL_MODEL_TAKEN, /* by one that has not said yet what it serves */
    JR_POOL_MODEL_SERVED,
};
enum jr_pool_model jr_pool_model(struct jr_pool *pool, const char *model);
/* May requests go to the worker at all? How many such there are, and a number that is another one
 * whenever that may have changed. */
bool jr_pool_is_routable(const struct jr_pool *pool, uint64_t worker_id);
uint32_t jr_pool_n_routable(const struct jr_pool *pool);
uint64_t jr_pool_registry_version(const struct jr_pool *pool);
/* A model's name as one number, for jr_route; 0 for "" and NULL: any. */
uint64_t jr_pool_model_id(const char *model);

#endif
