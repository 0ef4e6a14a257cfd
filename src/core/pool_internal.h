/* SPDX-License-Identifier: Apache-2.0 */
/* pool_internal: what the pool_*.c files share. Nobody else includes it but
 * tests.
 *
 *     pool.c           the door: create, step, tick, deadline
 *     pool_recovery.c  how the state is come by and kept: recovery, history checks, log messages
 *     pool_adopt.c     an index that no stream fits any more is put into the log
 *     pool_members.c   leases, probes, WorkerGone, re-announcements
 *     pool_weigh.c     candidates of a request and their costs
 *     pool_busy.c      busy thresholds, by model
 *     pool_route.c     requests: choice, booking, progress
 *     pool_queue.c     requests that wait for a worker with room
 *     pool_class.c     the classes they wait in, and what is bounded of each
 *     pool_approx.c    what is believed to be cached from decisions alone
 *     pool_sync.c      our deltas and bases; the peers' batches
 *     pool_sessions.c  sessions: where they are bound, and what is told of them
 *     pool_outside.c   requests of external data planes, whosever they are
 *     pool_watch.c     digests, versions, and what the stream promises
 *     pool_duties.c    what only the leader does: parameters, snapshots, purge
 *     pool_view.c      looking in */
#ifndef JR_CORE_POOL_INTERNAL_H
#define JR_CORE_POOL_INTERNAL_H

#include "core/drr.h"
#include "core/pool.h"
#include "core/replicas.h"
#include "core/state.h"
#include "base/str.h"
#include "core/workers.h"

#define JR_POOL_TICK_MS            100
#define JR_POOL_RETRY_MS           1000 /* a failed look-up is asked again after this */
#define JR_POOL_REBUILD_LOOK_MS    5000 /* so long a rebuild goes on before its peers are looked at */
#define JR_POOL_REPEAT_MS          5000 /* a control message without effect is sent again after this */
#define JR_POOL_REANNOUNCE_WAIT_MS 60000 /* ready after a reset without a worker's answer */
#define JR_POOL_WANT_BASE_MS       100
#define JR_POOL_ACTIONS_MAX        65536
#define JR_POOL_RECORDS_MAX        (1u << 20) /* candidates in the records of one step */

/* What was found when candidates for a request were looked for, in (worker, rank) pairs. */
struct jr_look {
    uint32_t eligible;       /* candidates */
    uint32_t overloaded;     /* they would be, were they not above a busy threshold */
    uint32_t with_room;      /* candidates below the queue threshold */
    uint64_t least_uncached; /* tokens, of the candidate that has to compute the least */
};

/* What a decision needs to know of a (worker, rank) that requests may go to. */
struct jr_seat {
    uint64_t worker_id;
    double prefill_capacity;
    double kv_blocks; /* 0: unknown */
    uint64_t model;   /* jr_pool_model_id; 0: it has not said */
    uint32_t member;
    uint32_t dp_rank;
    bool on_cpu;
    uint32_t busy; /* its thresholds: a place in the pool's busy and one; 0: the configuration's */
};

/* The busy thresholds that one model has of its own. */
struct jr_model_busy {
    uint64_t model;
    struct jr_busy_limits limits;
};

/* How much of a class waits. */
struct jr_class_usage {
    uint32_t requests;
    uint64_t amount[JR_POLICY_LIMITS];
    uint64_t refused[JR_POLICY_LIMITS];
};

/* Those of one model that wait: whose turn it is. Names that no worker says share one. */
struct jr_sched {
    uint64_t model; /* 0: none, or none that a worker names */
    char name[JR_MODEL_MAX];
    const struct jr_policy_profile *profile;
    struct jr_drr drr;
    struct jr_class_usage usage[JR_POLICY_CLASSES_MAX];
    /* What the look at all heads has found; see pool_queue.c. */
    struct jr_drr_head heads[JR_POLICY_CLASSES_MAX];
    const struct jr_queue_entry *best[JR_POLICY_CLASSES_MAX];
};

/* Where a request belongs. */
struct jr_class {
    const struct jr_policy_profile *profile;
    uint32_t at;
};

struct jr_waiting {
    struct jr_list node; /* by age */
    struct jr_sched *sched;
    uint32_t class;
    uint64_t amount[JR_POLICY_LIMITS]; /* its part of the class's */
    uint64_t cost;                     /* of its turn */
    struct jr_route route;             /* its arrays are in `arrays` */
    uint64_t *arrays;
    uint64_t since_ms;
    uint64_t give_up_ms; /* UINT64_MAX: never */
};

enum jr_snapshot_job { JR_SNAP_IDLE, JR_SNAP_COPY, JR_SNAP_WRITE, JR_SNAP_AGREE, JR_SNAP_RECORD };

/* Of a restore, in entries, or of a replay, in sequences. */
struct jr_pool_progress {
    const char *what; /* NULL: nothing is under way */
    uint64_t from, to, next;
    uint64_t began_ms, said_ms;
};

/* What a peer is to do with an outside request of its own. */
struct jr_outside_word {
    uint64_t id;
    bool done;
    bool own; /* we ended it ourselves: for who may have adopted it */
    uint64_t wait_ms, at_ms, until_ms;
    uint64_t
        keep_ms; /* said till then at least: its owner is gone, and who has it now is not settled */
};

struct jr_pool {
    struct jr_pool_config config;
    struct jr_mem mem;
    struct jr_trace trace;
    bool stepping;
    uint64_t now_ms;
    int64_t unix_ns;
    struct jr_actions *out; /* of the step under way */

    struct jr_members members;
    struct jr_workers workers;
    struct jr_active *active;
    struct jr_bookings own;
    struct jr_replicas replicas;
    uint64_t next_key;
    struct jr_speed speed;
    struct jr_rng rng;
    uint64_t round_robin;
    struct jr_index_match match;
    struct jr_approx *approx;           /* NULL: nothing is believed without events */
    struct jr_approx *texts;            /* NULL: as approx; of texts that nobody tokenized */
    struct jr_index_match match_approx; /* of the same prompt */
    struct {
        JR_ARR_FIELDS(struct jr_seat); /* by worker id, then as the lease lists the ranks */
    } seats;
    struct {
        JR_ARR_FIELDS(struct jr_model_busy);
    } busy;
    uint64_t seats_made_at, seats_turn; /* workers.changes and state->turns then */
    uint64_t seats_model;               /* one that a seat has; 0: none says */
    bool seats_mixed;                   /* another has another */
    struct {
        uint64_t at; /* workers.changes then, and one; 0: nothing is known */
        char name[JR_MODEL_MAX];
        enum jr_pool_model is;
    } model; /* that was asked for last: mostly it is the same */
    struct {
        JR_ARR_FIELDS(uint32_t); /* member of each seat */
    } seat_members;
    struct {
        JR_ARR_FIELDS(uint8_t); /* by member: what counts of it; see pool_weigh.c */
    } marks;
    struct {
        JR_ARR_FIELDS(uint32_t); /* members of each seat's lower rows; see pool_lower.c */
    } lower;
    struct {
        JR_ARR_FIELDS(uint32_t); /* see pool_weigh.c; n is not used */
    } by_member;
    struct {
        JR_ARR_FIELDS(struct jr_candidate); /* all, or only the best where nobody asks for more */
    } candidates;
    struct {
        JR_ARR_FIELDS(uint64_t);
    } scratch_hashes;

    struct {
        JR_ARR_FIELDS(struct jr_candidate);
    } records; /* of this step's decisions, those that were asked for */

    /* queue */
    struct jr_policy_profile plain; /* of models without a policy */
    struct {
        JR_ARR_FIELDS(struct jr_sched *);
    } scheds;
    uint32_t sched_turn;    /* who is asked first */
    struct jr_queue queue;  /* of struct jr_waiting */
    struct jr_list waiting; /* the same, oldest first */
    uint64_t waiting_tokens;
    uint64_t give_up_ms; /* no waiting request gives up before */
    bool recheck;        /* the last run of the queue stopped half-way */

    /* recovery */
    struct jr_sm recovery;
    struct jr_state *state; /* what answers */
    bool has_position;      /* state->seq means something on stream created_ns */
    int64_t stream_created_ns;
    uint64_t stream_first, stream_last;
    struct jr_stream_facts facts; /* the newest of our stream */
    const char *may_forget;       /* said last; see jr_pool_may_forget */
    bool params_said;             /* that ours are not those of the log */
    uint64_t target_seq;          /* ready at or past it */
    uint32_t short_looks;         /* in a row: the stream ends before it */
    uint32_t stalled_looks;       /* in a row: nothing was read, and more should be there */
    uint64_t stalled_seq;         /* behind which */
    bool index_is_old;            /* its position has left the stream; being replaced */
    struct jr_image *image;       /* candidate being verified and installed */
    struct jr_snapshot_ref image_ref;
    struct jr_state *fresh;          /* being filled from the image */
    struct jr_state *retired_states; /* given back in slices */
    struct jr_image *retired_images;
    struct jr_state_import import;
    bool importing;
    uint32_t snapshots_skipped;
    struct jr_pool_progress progress;
    bool waiting_info, waiting_load;
    uint64_t retry_at_ms; /* 0: nothing to ask again */
    char load_skip[32];
    bool connected;
    uint64_t tick_at_ms; /* when the next tick is due */
    uint64_t started_at_ms, connected_at_ms;
    uint64_t listed_at_ms;   /* when the newest list was asked for; 0: none on this connection */
    uint64_t blind_since_ms; /* no list, or an old one; 0: there is one */
    uint64_t judge_at_ms;    /* after that: who is missing is missed from here on; 0: from now on */
    bool ready, ready_said, broken, too_new;
    bool rebuilding;        /* REBUILD: the Reset has not come yet */
    uint64_t rebuild_at_ms; /* when that began */
    uint32_t bereft_looks;  /* in a row: no snapshot that fits, no peer with the state */
    uint64_t bereft_since_ms;
    uint64_t seek_seq;       /* ADOPT: last message looked at */
    uint64_t control_seen;   /* last control message since the log's first: in REBUILD and ADOPT */
    uint64_t empty_since_ms; /* our state began with an empty index at the first message; 0: no */
    bool yields;             /* to an index that a peer keeps */
    bool dynamo_tried;       /* on this connection: is there a radix-state of Dynamo's? */
    bool dynamo_import;      /* it is being loaded */
    uint64_t need_seq;       /* the log adopted another index there: no older image will do */
    uint64_t origin_seq;     /* the Adopt or Reset that our state began with, when we saw it */
    int64_t origin_time_ns;
    struct jr_snapshot_ref misfits[2]; /* snapshots that were found to be of another history */
    uint32_t n_misfits;
    bool waits_snapshot;             /* a peer holds the state and owes us a snapshot */
    uint64_t await_workers_until_ms; /* after a reset or rebuild; 0: no waiting */
    bool reset_asked;                /* --router-reset-states was acted on */

    /* membership */
    struct {
        JR_ARR_FIELDS(struct jr_replica_lease); /* of the list under way: those that count */
    } leases;
    bool leader;
    bool reset_pending; /* a Reset that was asked for has no effect yet */
    struct jr_epoch reset_from;
    char reset_token[64];
    struct jr_map reannounced; /* mix(worker, rank) -> when */
    uint64_t scan_at_ms;

    /* sync */
    struct {
        JR_ARR_FIELDS(struct jr_delta);
    } pending, sent, base; /* base: the part that was sent last */
    size_t pending_bytes;
    uint64_t flush_at_ms; /* 0: nothing pending */
    bool urgent;          /* an admission is among them */
    uint64_t admit_sent_at_ms;
    uint64_t batch_number, base_number;
    uint32_t sync_version; /* what we write; 0: 1 */
    bool sync_open;
    bool sync_lost; /* the peers miss something: no deltas before the next base */
    bool need_base; /* a peer asked for one */
    bool leaves;    /* it ends: behind each base that it sends still, its words are due */
    bool leaving;   /* they are */
    bool basing;    /* a base is begun: its next part is base_part */
    struct {
        JR_ARR_FIELDS(uint64_t);
    } base_ids; /* the requests that were live when it began */
    struct {
        JR_ARR_FIELDS(uint32_t);
    } base_ends; /* of its parts, in base_ids */
    uint32_t base_part;
    uint64_t base_includes, base_at_ms, part_at_ms;
    uint64_t base_opened;   /* base_number when the stream was opened */
    bool life_told;         /* a base of this life went out */
    uint64_t life_began_ms; /* when our lease was lost; 0: it never was */
    uint64_t base_wait_ms, sync_failed_at_ms;
    struct {
        JR_ARR_FIELDS(struct jr_outside_word);
    } words;               /* to be said again until they are heard */
    struct jr_map word_at; /* request -> its place in words */
    uint32_t own_words;    /* of words, those of own */
    bool want_base;        /* the next batch asks the peers for theirs */
    uint64_t want_base_at_ms, want_wait_ms;

    /* sessions */
    struct jr_sessions sessions;
    char session_why[128]; /* of a refusal of this step */

    /* leader's duties */
    struct jr_snapshots_record record;
    struct jr_snapshots_record
        recorded;   /* what the bucket says when our write of it went through */
    bool recording; /* the answer to that write is out */
    enum jr_snapshot_job snap;
    struct jr_state_export export_;
    struct jr_snapshot_ref snap_ref;
    uint64_t snap_agree_until_ms, snap_retry_at_ms, snap_started_ms;
    uint32_t snap_failures;
    const char *snap_why; /* the last attempt failed; NULL: it did not */
    bool snap_wanted;
    uint64_t purged_to, purge_at_ms;
    bool purging;
    uint64_t control_at_ms; /* last Config or Reset */
    bool digest_mismatch;
    uint64_t doubt_since_ms; /* no majority agrees with us; 0: one does */
    uint64_t mismatch_since_ms, reload_at_ms;
    uint32_t reloads; /* in a row without a time of agreement */
    bool untrusted;   /* our state is to be replaced: nobody else may have it */
    uint64_t snapshot_ms;
    uint64_t epoch_said_n, epoch_said_random;

    struct jr_pool_counters n;
};

/* Room for one more action, so that the next jr_pool_act cannot fail: to be asked before what the
 * action is to tell of is done. */
JR_MUST_CHECK int jr_pool_act_reserve(struct jr_pool *p);
/* A new action, zeroed; NULL only when out of memory or past the bound (counted as broken). */
struct jr_action *jr_pool_act(struct jr_pool *p, enum jr_action_type type);
static inline enum jr_recovery jr_pool_recovery(const struct jr_pool *p)
{
    return (enum jr_recovery)p->recovery.state;
}

/* pool_recovery.c */
void jr_pool_on_nats(struct jr_pool *p, bool connected, uint64_t lease_ttl_ms);
void jr_pool_on_lease_held(struct jr_pool *p);
int jr_pool_on_loaded(struct jr_pool *p, const struct jr_event *e);
int jr_pool_on_stream_info(struct jr_pool *p, int err, const struct jr_stream_facts *facts);
int jr_pool_on_log(struct jr_pool *p, const struct jr_log_msg *msg);
void jr_pool_on_reader_broken(struct jr_pool *p);
void jr_pool_on_facts(struct jr_pool *p, const struct jr_event *e);
void jr_pool_import_slice(struct jr_pool *p, uint32_t max);
void jr_pool_recovery_tick(struct jr_pool *p);
void jr_pool_judge_ready(struct jr_pool *p);
const char *jr_pool_not_ready_because(const struct jr_pool *p);

/* An empty state that knows the rules that we do. */
JR_MUST_CHECK int jr_pool_new_state(struct jr_pool *p, struct jr_state **ret);
/* The machine's moves. */
void jr_pool_move(struct jr_pool *p, enum jr_recovery to, const char *why);
void jr_pool_go_load(struct jr_pool *p, const char *why);
/* Leader, and nobody has anything of ours: is there something of Dynamo's? */
void jr_pool_import_dynamo(struct jr_pool *p);
void jr_pool_stop_applying(struct jr_pool *p, int err);
void jr_pool_on_effect(struct jr_pool *p, const struct jr_log_msg *msg, uint32_t effect);
void jr_pool_caught_up(struct jr_pool *p);

/* pool_progress.c */
void jr_pool_progress_begin(struct jr_pool *p, const char *what, uint64_t from, uint64_t to);
void jr_pool_progress(struct jr_pool *p, uint64_t at);
void jr_pool_progress_end(struct jr_pool *p, uint64_t at);

/* pool_adopt.c: an index, and no stream that it belongs to */
/* We answer from an index that may be put into the log. */
bool jr_pool_keeps_index(const struct jr_pool *p);
/* A peer holds the state of this stream, for all that its lease and these facts say. */
bool jr_pool_peer_holds_at(const struct jr_pool *p, const struct jr_stream_facts *f);
/* A peer is past the end of the stream: it was rolled back, or the lease is newer than the facts. */
bool jr_pool_peer_is_ahead(const struct jr_pool *p, const struct jr_stream_facts *f);
/* No peer holds the state, but one keeps an index, whether it knows already or not. */
bool jr_pool_peer_keeps_index(const struct jr_pool *p, const struct jr_stream_facts *f);
/* Our state began with nothing while a peer had an index of the history before: it is the peer's
 * turn to lead. */
void jr_pool_judge_yield(struct jr_pool *p);
/* A snapshot of what our index held earlier: we hold more. */
bool jr_pool_is_our_past(const struct jr_pool *p, const struct jr_image *image);
void jr_pool_adopt_begin(struct jr_pool *p, const struct jr_stream_facts *f);
void jr_pool_adopt_on_log(struct jr_pool *p, const struct jr_log_msg *msg);
/* The log said that the state is another's from here on. */
void jr_pool_adopt_other(struct jr_pool *p, const struct jr_log_msg *msg);
void jr_pool_adopt_tick(struct jr_pool *p);
bool jr_pool_may_adopt(const struct jr_pool *p);
/* The state goes on from a message that says what it is. */
void jr_pool_adopt_origin(struct jr_pool *p, const struct jr_log_msg *msg);
/* A recorded snapshot belongs to the history that we hold. */
bool jr_pool_ref_fits(const struct jr_pool *p, const struct jr_snapshot_ref *ref);
bool jr_pool_ref_is_misfit(const struct jr_pool *p, const struct jr_snapshot_ref *ref);
void jr_pool_ref_misfits(struct jr_pool *p, const struct jr_snapshot_ref *ref);

/* pool_members.c */
int jr_pool_on_members(struct jr_pool *p, const struct jr_event *e);
void jr_pool_on_probed(struct jr_pool *p, const struct jr_event *e);
/* The leases are older than these facts: nothing they speak of is past the end. */
void jr_pool_members_on_begin(struct jr_pool *p, uint64_t worker_id); /* read in the log */
void jr_pool_members_on_facts(struct jr_pool *p, uint64_t last_seq);
void jr_pool_members_tick(struct jr_pool *p);
/* Leases can no longer be listed: nobody is judged until a lease's time after they can. */
void jr_pool_go_blind(struct jr_pool *p);
void jr_pool_reannounce(struct jr_pool *p, uint64_t worker_id, uint32_t dp_rank);
bool jr_pool_credited(const struct jr_pool *p, const struct jr_worker *w, uint32_t i);
/* Is what the log says of a member of the incarnation that its lease names (0: any)? */
bool jr_pool_incarnation_fits(const struct jr_pool *p, uint32_t member, uint64_t named);
bool jr_pool_workers_announced(const struct jr_pool *p);
bool jr_pool_peer_holds_state(const struct jr_pool *p);

/* pool_sessions.c */
/* Of a request whose session is bound: pins it there. JR_EINVAL: it names another worker; p->session_why
 * says so. */
int jr_pool_session_pin(struct jr_pool *p, struct jr_route *r);
/* As jr_pool_weigh; a pin of its session's that cannot take it is dropped. */
int jr_pool_session_weigh(struct jr_pool *p, struct jr_route *r, struct jr_look *look);
void jr_pool_session_begin(struct jr_pool *p, const struct jr_route *r, struct jr_booked *k);
void jr_pool_session_end(struct jr_pool *p, const struct jr_booked *k);
int jr_pool_on_session(struct jr_pool *p, const struct jr_session_word *word, uint64_t age_ms);
/* What the peers bound is known, as far as it ever will be. */
bool jr_pool_sessions_known(const struct jr_pool *p);
void jr_pool_sessions_tell(struct jr_pool *p);                  /* after every event */
uint64_t jr_pool_sessions_deadline_ms(const struct jr_pool *p); /* 0: nothing to tell, or no way */

/* pool_outside.c */
/* JR_ENOMEM: a peer's request, and no room to remember that it has to be told. */
int jr_pool_on_outside(struct jr_pool *p, uint64_t id, bool done);
void jr_pool_outside_booked(struct jr_pool *p, uint64_t id);
void jr_pool_outside_heard(struct jr_pool *p, const struct jr_sync_batch *batch);
void jr_pool_outside_tick(struct jr_pool *p);
void jr_pool_outside_based(struct jr_pool *p); /* a base of ours begins */
void jr_pool_outside_leave(struct jr_pool *p); /* says all words once more */

/* pool_busy.c */
/* limits NULL: the model has none of its own any more. JR_ELIMIT: too many models have. */
int jr_pool_on_busy(struct jr_pool *p, uint64_t model, const struct jr_busy_limits *limits);
/* What a seat of this model keeps of it. */
uint32_t jr_pool_busy_place(const struct jr_pool *p, uint64_t model);
bool jr_pool_is_busy(const struct jr_pool *p, const struct jr_seat *s,
                     const struct jr_active_load *load);
/* May anybody be busy at all? */
bool jr_pool_busy_on(const struct jr_pool *p);

/* pool_weigh.c */
/* Brings the seats up to date. JR_ENOMEM: they are not. */
JR_MUST_CHECK int jr_pool_seats_update(struct jr_pool *p);
/* pool_lower.c: do blocks on lower media count; the rows of the seat that was made last; what they add
 * to a candidate whose overlap is filled in. */
bool jr_pool_lower_counts(const struct jr_pool *p);
JR_MUST_CHECK int jr_pool_lower_seat(struct jr_pool *p, const struct jr_seat *s, bool credited);
void jr_pool_lower_fill(const struct jr_pool *p, uint32_t seat, struct jr_candidate *c);
/* Who could take it now, without weighing them; room says what with_room counts. */
void jr_pool_look(const struct jr_pool *p, const struct jr_route *r,
                  const struct jr_policy_room *room, struct jr_look *ret);
/* Workers that serve a model (0: any), whatever their load. */
uint32_t jr_pool_workers_of(const struct jr_pool *p, uint64_t model);
/* Fills the candidates with their costs, or with the best of them alone when that is all that matters;
 * look counts all. JR_EBUSY (all overloaded), JR_ENOTFOUND (the pinned one is
 * not there), JR_ENOWORKER, JR_ENOMEM. */
int jr_pool_weigh(struct jr_pool *p, const struct jr_route *r, struct jr_look *ret);
bool jr_pool_override_is_valid(const struct jr_route_override *o);
bool jr_pool_tracks_prefill(const struct jr_pool *p, const struct jr_route *r);
bool jr_pool_assumes_reuse(const struct jr_pool *p, const struct jr_route *r);

/* pool_route.c */
int jr_pool_on_route(struct jr_pool *p, const struct jr_route *r);
void jr_pool_on_first_token(struct jr_pool *p, uint64_t id);
void jr_pool_on_output(struct jr_pool *p, uint64_t id, uint32_t output_tokens);
void jr_pool_on_finish(struct jr_pool *p, uint64_t id); /* it waits, or is booked */
/* Of one from outside that waits here, too, for its client asked again. */
void jr_pool_end_booking(struct jr_pool *p, uint64_t id);
/* Chooses one of the candidates, books and decides: as jr_pool_weigh, and JR_EINVAL. */
int jr_pool_admit(struct jr_pool *p, const struct jr_route *r, const struct jr_look *look,
                  const struct jr_waiting *waited);
/* why NULL: what the error says. */
void jr_pool_reject(struct jr_pool *p, const struct jr_route *r, int err, const char *why);
void jr_pool_reject_limited(struct jr_pool *p, const struct jr_route *r,
                            const struct jr_queue_refusal *limit);

/* pool_queue.c */
void jr_pool_queue_init(struct jr_pool *p);
void jr_pool_queue_deinit(struct jr_pool *p);
bool jr_pool_queue_on(const struct jr_pool *p);
/* Must a request that was just weighed wait, and in which class? */
bool jr_pool_queue_must_wait(const struct jr_pool *p, const struct jr_route *r,
                             const struct jr_look *look, struct jr_class *ret);
/* Copies the request. JR_ELIMIT: full, or *ret says what of its class is; JR_EEXIST, JR_ENOMEM. look is
 * what weighing r found. */
int jr_pool_queue_put(struct jr_pool *p, const struct jr_route *r, const struct jr_look *look,
                      const struct jr_class *c, struct jr_queue_refusal *ret);
bool jr_pool_queue_cancel(struct jr_pool *p, uint64_t id);
/* Lets go whom it can. */
void jr_pool_queue_run(struct jr_pool *p);
void jr_pool_queue_tick(struct jr_pool *p);
void jr_pool_queue_view(const struct jr_pool *p, struct jr_queue_view *ret);

/* pool_class.c */
void jr_pool_classes_init(struct jr_pool *p);
void jr_pool_classes_deinit(struct jr_pool *p);
/* What weighing counts as room; with a policy nothing is known before the class is. */
const struct jr_policy_room *jr_pool_plain_room(const struct jr_pool *p);
struct jr_class jr_pool_class(const struct jr_pool *p, const struct jr_route *r,
                              const struct jr_look *look);
const struct jr_policy_class *jr_class_row(const struct jr_class *c);
/* Whose turn it is among those of r's model. JR_ELIMIT: too many models have somebody waiting. */
JR_MUST_CHECK int jr_pool_sched(struct jr_pool *p, const struct jr_route *r,
                                const struct jr_class *c, struct jr_sched **ret);
/* False, and *ret says why: the class holds as much as r's workers may have waiting. */
bool jr_pool_class_has_place(const struct jr_pool *p, const struct jr_route *r, struct jr_sched *s,
                             uint32_t class, struct jr_queue_refusal *ret);
void jr_pool_class_enter(struct jr_waiting *w);
void jr_pool_class_leave(struct jr_waiting *w);

/* pool_approx.c */
JR_MUST_CHECK int jr_pool_approx_init(struct jr_pool *p);
void jr_pool_approx_deinit(struct jr_pool *p);
/* Its prefix is matched with texts routed before, not with the index. */
bool jr_pool_is_apart(const struct jr_pool *p, const struct jr_route *r);
/* Scores of a prompt, by events and by belief. */
JR_MUST_CHECK int jr_pool_match(struct jr_pool *p, const struct jr_route *r);
/* What /state and metrics speak of: the log's, or in approximate mode what is believed. */
const struct jr_index *jr_pool_index(const struct jr_pool *p);
/* Blocks it holds in all; by belief where there are no events. */
uint64_t jr_pool_blocks_held(const struct jr_pool *p, uint32_t member);
/* A prompt goes to a worker, by our decision; then a peer's. */
void jr_pool_believe(struct jr_pool *p, const struct jr_route *r, const struct jr_candidate *c);
void jr_pool_believe_batch(struct jr_pool *p, const struct jr_sync_batch *batch);
/* Before a lease is taken over: ranks that were restarted have lost their cache. */
void jr_pool_approx_list(struct jr_pool *p, const struct jr_worker_lease *lease);
/* Before a worker leaves the registry. */
void jr_pool_approx_forget(struct jr_pool *p, const struct jr_worker *w);
void jr_pool_approx_tick(struct jr_pool *p);
bool jr_pool_approx_is_due(const struct jr_pool *p);
void jr_pool_approx_work(struct jr_pool *p, uint32_t max);

/* pool_sync.c */
void jr_pool_delta(struct jr_pool *p, enum jr_delta_type type, const struct jr_booking *b);
int jr_pool_on_sync(struct jr_pool *p, const struct jr_sync_batch *batch);
void jr_pool_on_sync_opened(struct jr_pool *p);
void jr_pool_on_sync_failed(struct jr_pool *p);
void jr_pool_sync_lost(struct jr_pool *p);   /* what we sent may be missing: the next is a base */
void jr_pool_sync_leave(struct jr_pool *p);  /* we end: a base and all words are due */
void jr_pool_sync_listed(struct jr_pool *p); /* after a re-list */
void jr_pool_sync_ask(struct jr_pool *p);    /* at ticks: peers whose base we miss */
void jr_pool_sync_tick(struct jr_pool *p);   /* after every event */
uint64_t jr_pool_sync_deadline_ms(const struct jr_pool *p); /* 0: nothing to send, or no way to */

/* pool_watch.c: what every replica looks at, leader or not */
enum jr_agreement { JR_AGREE_YES, JR_AGREE_NO, JR_AGREE_WAIT, JR_AGREE_NOBODY };
/* One peer that disagrees outvotes all; one that agrees at or past `seq` is enough. */
enum jr_agreement jr_pool_ask_peers(const struct jr_pool *p, uint64_t seq);
void jr_pool_watch(struct jr_pool *p);
/* The least version of the apply rules, and of the snapshot format, that all listed replicas know. */
uint32_t jr_pool_rules_known(const struct jr_pool *p);
uint32_t jr_pool_format_known(const struct jr_pool *p);
uint32_t jr_pool_rules_max(const struct jr_pool *p);
/* Why the stream may lose messages that no snapshot covers; "" when it does not. */
const char *jr_pool_may_forget(const struct jr_pool *p);

/* pool_duties.c */
void jr_pool_on_leader(struct jr_pool *p, bool leader, const struct jr_snapshots_record *record);
void jr_pool_copy_slice(struct jr_pool *p, uint32_t max);

/* Take what is no longer wanted; NULL is fine. */
void jr_pool_retire_state(struct jr_pool *p, struct jr_state *s);
void jr_pool_retire_image(struct jr_pool *p, struct jr_image *image);
bool jr_pool_has_retired(const struct jr_pool *p);
void jr_pool_retired_slice(struct jr_pool *p, uint32_t max);
void jr_pool_retired_free(struct jr_pool *p);
void jr_pool_on_written(struct jr_pool *p, int err, const struct jr_snapshot_ref *ref);
void jr_pool_on_recorded(struct jr_pool *p, int err);
void jr_pool_on_purged(struct jr_pool *p, int err, uint64_t floor);
void jr_pool_on_published(struct jr_pool *p, int err);
void jr_pool_ask_reset(struct jr_pool *p, const char *token);
void jr_pool_duties_tick(struct jr_pool *p);
void jr_pool_snapshot_abort(struct jr_pool *p);

#endif
