/* SPDX-License-Identifier: Apache-2.0 */
/* driver_internal: what the driver_*.c files share.
 *
 *     driver.c           the loop side: steps, actions, timers, requests
 *     driver_log.c       event stream: facts, reader, decoding, feeding the pool in order
 *     driver_members.c   the lease bucket: our lease, the leader's, the list of all
 *     driver_snapshot.c  snapshots: load, write, record, purge
 *     driver_compat.c    Dynamo's snapshot object behind ours
 *     driver_busy.c      busy thresholds set at run time: the state bucket has them
 *     driver_sync.c      the sync stream: peers' batches in, ours out
 *     driver_sessions.c  the session stream: where sessions are bound */
#ifndef JR_APP_DRIVER_DRIVER_INTERNAL_H
#define JR_APP_DRIVER_DRIVER_INTERNAL_H

#include "app/driver/busy_rows.h"
#include "app/driver/driver.h"
#include "base/list.h"
#include "base/map.h"
#include "base/retold.h"
#include "io/js_kv.h"
#include "io/js_publish.h"
#include "io/js_reader.h"
#include "io/lane.h"
#include "io/object_store.h"
#include "wire/event_codec.h"

#include <stdatomic.h>

#define JR_DRIVER_ROUND_MS   500  /* the lease bucket is listed this often */
#define JR_DRIVER_SLICE      1024 /* entries of an image copied or restored in one go */
#define JR_DRIVER_LANE_DEPTH 1024
#define JR_DRIVER_RETRY_MS   1000
#define JR_DRIVER_LEAVE_MS   1000 /* the last base is waited for no longer */

/* Messages of the event stream that are passed by order: skip.{seq} in the state bucket, whose value
 * is the creation time of the stream it speaks of. */
struct jr_driver_skips {
    uint32_t n;
    uint64_t seqs[JR_SKIPS_MAX];
};

struct jr_driver_route_wait {
    uint64_t id;
    jr_driver_decided_fn *fn;
    void *ctx;
};

/* Given by the pool, not yet passed on. */
struct jr_driver_answer {
    struct jr_decision decision;
    uint64_t id;
    int err; /* < 0: refused */
    const char *why;
    struct jr_queue_refusal limit;
};

struct jr_driver {
    struct jr_driver_config config;
    struct jr_loop *loop;
    struct jr_nats *nats;
    struct jr_pool *pool;
    struct jr_actions actions;
    uint32_t depth;      /* steps within steps: callbacks of decisions may ask for more */
    uint64_t matched_ns; /* when the index had answered, in the step under way; 0: not yet */
    struct jr_timer *tick;
    uint64_t armed_ms; /* what the tick is set for; 0: not set */
    struct jr_idler *idler;
    bool tail;
    bool draining;
    bool closing;
    void (*close_cb)(void *ctx);
    void *close_ctx;
    uint32_t jobs;         /* lane jobs under way */
    struct jr_list probes; /* under way */
    uint32_t closings;     /* readers and the publisher that are closing */
    uint64_t last_id;
    struct jr_driver_stats stats;
    bool was_ready;
    int step_err; /* of the last step */

    /* the routes whose answer is being waited for; more than one only with a queue */
    struct {
        JR_ARR_FIELDS(struct jr_driver_route_wait);
    } waits;
    struct { /* of the step under way, and of those within it */
        JR_ARR_FIELDS(struct jr_driver_answer);
    } answers;
    uint32_t answered;               /* of answers */
    struct jr_queue_refusal refusal; /* of the one that is being passed on */
    struct jr_map wait_at;           /* request id -> place in waits */
    struct jr_mem waits_mem;

    /* NATS */
    bool connected; /* told to the pool */
    bool opened;    /* streams and buckets are there */
    bool opening;
    bool missing;                /* one was deleted under us: open_retry makes it anew */
    uint64_t opening_generation; /* of the connection that is being opened on */
    struct jr_retold open_failed;
    struct jr_timer *open_retry;
    char stream[JR_STREAM_NAME_MAX], sync_stream[JR_STREAM_NAME_MAX];
    char sessions_stream[JR_STREAM_NAME_MAX];
    char leases_bucket[JR_STREAM_NAME_MAX], state_bucket[JR_STREAM_NAME_MAX];
    char snapshots_bucket[JR_STREAM_NAME_MAX];
    struct jr_js_kv *leases, *state;
    struct jr_object_store *store;
    struct jr_lane *lease_lane, *control_lane, *bulk_lane;

    /* log */
    struct jr_js_reader *reader;
    struct jr_driver_log_reader *log_reader; /* what belongs to it; its own from here on */
    struct jr_driver_skips skips;            /* as read with the newest facts */

    /* membership */
    struct jr_timer *round_timer;
    bool round_running, take_lease;
    uint32_t rounds; /* begun; every fourth looks at the stream, too */
    bool held;       /* our lease is written */
    uint64_t lease_revision;
    uint64_t renew_at_ms;
    bool leader_key; /* we hold the key */
    uint64_t leader_revision;
    uint64_t leader_renewed_ms;
    bool leader_told; /* the pool knows that we lead */
    bool leading_up;  /* the job that prepares it runs */
    uint64_t incarnation;

    struct { /* see driver_busy.c */
        struct jr_js_kv_watch *watch;
        struct jr_busy_rows rows;
        uint32_t lists; /* begun: another one, and the bucket may be another */
        bool listed;    /* the bucket is known, and watched */
        bool writing;   /* a row is being written back */
        bool failing;   /* and that was said */
    } busy;

    /* snapshots */
    uint64_t object_revision[2]; /* a, b: as of taking over, or written by us */
    uint64_t record_revision;
    struct jr_snapshots_record record;
    uint64_t snapshots_told; /* to whoever measures them */

    struct {                      /* Dynamo's, where they are wanted */
        struct jr_lane *lane;     /* NULL: they are not */
        struct jr_image *image;   /* of the newest that was written, until it is recorded */
        char learnt[JR_NUID_MAX]; /* the object that we wrote last, of sequence seq */
        uint64_t seq;
        int64_t created_ns; /* of the stream */
        bool failing;       /* and that was said */
        atomic_bool stop;   /* the driver is closing */
    } compat;

    /* sync */
    struct jr_js_reader *sync_reader;
    struct jr_js_publisher *publisher;
    bool sync_live; /* it is read to its end */
    bool sync_peer; /* a peer was heard, at: */
    uint64_t sync_peer_ms;
    bool log_live; /* so is the event stream */
    uint32_t sync_unacked;
    struct jr_timer *leave_timer;
    bool leaving, left; /* the last base is out; leases are being given back */
    struct jr_js_reader *sessions_reader;
    struct jr_js_publisher *session_publisher;
    bool sessions_live; /* it is read to its end */
    /* Of the words that are being read: by our clock, the oldest's age, and how far in the future. */
    int64_t sessions_oldest_ms, sessions_future_ms;
    bool sync_failed; /* a batch could not be published within the step under way */
};

/* driver.c */
void jr_driver_step(struct jr_driver *d, struct jr_event *ev);
uint64_t jr_driver_now_ms(void);
/* Counts the job and submits it; false when the lane is full or closing (the job is the caller's). */
bool jr_driver_submit(struct jr_driver *d, struct jr_lane *lane, struct jr_job *job);
/* First thing a job's done does: uncounts it; false when the driver is closing. */
bool jr_driver_job_done(struct jr_driver *d);
void jr_driver_maybe_closed(struct jr_driver *d);
void jr_driver_close_rest(struct jr_driver *d); /* second half of close, when the leases are back */

/* driver_log.c */
void jr_driver_open(struct jr_driver *d); /* streams and buckets, then tell the pool */
/* The outcome of a job: where a stream or bucket was deleted under us it is made anew, a little later
 * (JR_STREAM_SETTLE_MS). */
void jr_driver_make_missing(struct jr_driver *d, int err);
void jr_driver_stream_info(struct jr_driver *d, uint64_t seq);
/* Lane. The stream's settings, where it begins and ends, and who else reads it. */
int jr_driver_facts(struct jr_driver *d, struct jr_stream_facts *ret, struct jr_errmsg *e);
void jr_driver_start_reader(struct jr_driver *d, const struct jr_action *a);
void jr_driver_stop_reader(struct jr_driver *d);
void jr_driver_publish_control(struct jr_driver *d, const struct jr_action *a);
void jr_driver_put_state(struct jr_driver *d, const char *key, const char *value, bool create);

struct jr_str jr_driver_last_token(struct jr_str subject);
bool jr_driver_is_skipped(const struct jr_driver_skips *skips, uint64_t seq);

/* driver_members.c */
void jr_driver_members_start(struct jr_driver *d);
void jr_driver_take_lease(struct jr_driver *d);
void jr_driver_not_leader(struct jr_driver *d);
void jr_driver_release_leases(struct jr_driver *d); /* then jr_driver_close_rest */

/* driver_snapshot.c */
void jr_driver_lead(
    struct jr_driver *d); /* read the record, fence old leaders, then tell the pool */
/* Lane. What the state bucket says; empty with revision 0 when there is no record. */
int jr_driver_read_record(struct jr_driver *d, struct jr_snapshots_record *ret,
                          uint64_t *ret_revision, struct jr_errmsg *e);
/* dynamo: the radix-state of Dynamo's bucket, if it has one. */
void jr_driver_load_snapshot(struct jr_driver *d, const char *skip, bool dynamo);
void jr_driver_write_snapshot(struct jr_driver *d, struct jr_image *image, const char *object);
void jr_driver_record_snapshot(struct jr_driver *d, const struct jr_snapshots_record *record);
void jr_driver_purge(struct jr_driver *d, uint64_t floor);

/* Lane. JR_ECONFLICT when the leader's key, read from its stream's leader, is not that replica's. */
int jr_driver_still_leads(struct jr_driver *d, const char *id, uint64_t incarnation,
                          struct jr_errmsg *e);

/* driver_compat.c */
JR_MUST_CHECK int jr_driver_compat_start(struct jr_driver *d);
/* Takes the image of a snapshot that was written; returns owned the one it had, or NULL. */
struct jr_image *jr_driver_compat_keep(struct jr_driver *d, struct jr_image *image);
/* The snapshot at that sequence is recorded: if its image is here, Dynamo's object is written. */
void jr_driver_compat_write(struct jr_driver *d, uint64_t seq);
/* It will not be recorded, as far as we know. */
void jr_driver_compat_forget(struct jr_driver *d);
void jr_driver_compat_stop(struct jr_driver *d); /* waits for the job under way to give up */

/* driver_busy.c */
void jr_driver_busy_take(struct jr_driver *d, const struct jr_js_kv_list *list);
/* Once the state bucket is there; 0 when there is a watch. Logs its failure. */
JR_MUST_CHECK int jr_driver_busy_watch(struct jr_driver *d);
/* What the bucket does not say any more is written to it again: every now and then. */
void jr_driver_busy_tend(struct jr_driver *d);
/* cb at once when there is no watch. */
void jr_driver_busy_stop(struct jr_driver *d, void (*cb)(void *ctx), void *ctx);

/* driver_sync.c */
int jr_driver_sync_start(struct jr_driver *d);
/* The last base: nothing of ours is in flight. Then the leases are given back. */
void jr_driver_leave(struct jr_driver *d);
void jr_driver_publish_sync(struct jr_driver *d, const struct jr_sync_batch *batch);

/* driver_sessions.c */
/* They are wanted, and shared with the peers. */
bool jr_driver_has_sessions(const struct jr_driver *d);
/* Reads the stream from now on, which is made where it is missing; 0 when that is so already. Routing does
 * not wait for it. */
JR_MUST_CHECK int jr_driver_sessions_start(struct jr_driver *d);
void jr_driver_tell_session(struct jr_driver *d, const struct jr_session_word *word);

#endif
