/* SPDX-License-Identifier: Apache-2.0 */
/* driver: runs one pool: brings it events, performs its actions in order, owns its timers.
 *
 *          requests ──┐                       ┌──► callbacks: worker chosen, or refused
 *   log reader ───────┤    ┌──────────────┐   ├──► lanes: leases · control · snapshots (NATS calls
 *   sync reader ──────┼──► │ jr_pool_step │ ──┤          that wait), results come back as events
 *   lane results ─────┤    └──────────────┘   ├──► async publisher: our deltas
 *   timers, probes ───┘                       └──► readers started and stopped
 *
 * Loop thread only. A driver without NATS serves static workers. */
#ifndef JR_APP_DRIVER_DRIVER_H
#define JR_APP_DRIVER_DRIVER_H

#include "core/pool.h"
#include "io/http_client.h"
#include "io/nats_conn.h"

struct jr_driver;

struct jr_driver_config {
    struct jr_loop *loop;          /* borrows */
    struct jr_http_client *client; /* borrows; health probes */
    struct jr_nats *nats;          /* borrows; NULL: static workers only */
    struct jr_pool_config pool;
    uint32_t nats_replicas; /* R of streams and buckets */
    uint32_t event_threads; /* that decode the event stream; 0 reads as 1 */
    uint64_t stream_max_bytes;
    bool write_radix_state; /* Dynamo's snapshot object behind each of ours, as the leader */
    /* Called on each message of the log as applied (ctl tail), and on each trace record; may be
     * NULL. line is a JSON object without newline. */
    void (*on_tail)(void *ctx, const char *line);
    /* A snapshot of this replica's is verified and recorded; may be NULL. */
    void (*on_snapshot)(void *ctx, const char *component, double seconds);
    void (*on_fatal)(void *ctx, int err, const char *words); /* NATS without JetStream, … */
    /* The age of each message of the log that comes live, by the server's time of it; may be NULL. */
    void (*on_event_delay)(void *ctx, const char *component, double seconds);
    /* The age of each batch of a peer, likewise; may be NULL. */
    void (*on_sync_delay)(void *ctx, const char *component, double seconds);
    /* How long the pool took over a request that came: until the index had answered (0: it was not
     * asked), and in all. Before its answer is given; may be NULL. */
    void (*on_route)(void *ctx, const char *component, uint64_t match_ns, uint64_t all_ns);
    void *ctx;
};

JR_MUST_CHECK int jr_driver_create(const struct jr_driver_config *config, struct jr_driver **ret,
                                   struct jr_errmsg *e);
/* Sends a last base without bookings, gives the leases back, ends readers and lanes; cb when all
 * is closed. Takes the driver. */
void jr_driver_close(struct jr_driver *d, void (*cb)(void *ctx), void *ctx);

/* The process' NATS connection came or went. */
void jr_driver_nats(struct jr_driver *d, bool connected);
/* Static workers; the pool must not be durable. */
JR_MUST_CHECK int jr_driver_add_static(struct jr_driver *d, const struct jr_worker_lease *leases,
                                       uint32_t n);

/* ---- requests ---- */

/* decision is NULL when refused (err, why). Everything is borrowed for the call. */
typedef void jr_driver_decided_fn(void *ctx, const struct jr_decision *decision, int err,
                                  const char *why);
/* Within that call: the limit of its class that a refused request came up against, or NULL. */
const struct jr_queue_refusal *jr_driver_refusal(const struct jr_driver *d);
/* A fresh request id of this driver. */
uint64_t jr_driver_request_id(struct jr_driver *d);
/* Asks for a worker. fn is called exactly once, perhaps within the call, unless the request is
 * finished before. After a decision (not query_only) the booking stands until jr_driver_finish;
 * a retry on another worker is finish, then route again with the worker excluded. */
JR_MUST_CHECK int jr_driver_route(struct jr_driver *d, const struct jr_route *route,
                                  jr_driver_decided_fn *fn, void *ctx);
void jr_driver_first_token(struct jr_driver *d, uint64_t id);
void jr_driver_output(struct jr_driver *d, uint64_t id, uint32_t output_tokens);
void jr_driver_finish(struct jr_driver *d, uint64_t id); /* unknown ids are fine */
/* Asked for a worker with this id and not answered yet. */
bool jr_driver_is_waiting(const struct jr_driver *d, uint64_t id);
/* Told of an outside request (base/sync.h), this replica's or a peer's: it ended, or its prefill is
 * done. JR_ENOMEM: no room to pass it on. */
JR_MUST_CHECK int jr_driver_outside(struct jr_driver *d, uint64_t id, bool done);

/* ---- busy thresholds ---- */

/* limits: what holds now, whole; borrowed for the call, NULL with an error. */
typedef void jr_driver_busy_fn(void *ctx, int err, const struct jr_busy_limits *limits);
/* Sets those that are given, on every replica; fn is called exactly once, perhaps within the call.
 * JR_ECLOSED: NATS is away, nothing is changed. JR_ELIMIT: too many models have some. JR_ECONFLICT:
 * others were quicker each time. JR_ETIMEOUT: unknown. */
void jr_driver_busy_set(struct jr_driver *d, const struct jr_busy_record *given,
                        jr_driver_busy_fn *fn, void *ctx);

/* ---- looking in, administration ---- */

struct jr_pool *jr_driver_pool(struct jr_driver *d); /* for the views of core/pool.h */
bool jr_driver_ready(const struct jr_driver *d);
const char *jr_driver_stream(const struct jr_driver *d); /* "" without NATS */
/* Why NATS, which is connected, has no streams for the pool; "" when it has. Borrowed until the
 * loop goes on. */
const char *jr_driver_open_failed(const struct jr_driver *d);
void jr_driver_admin_snapshot(struct jr_driver *d);
void jr_driver_admin_reset(struct jr_driver *d, const char *token);
/* on_tail is called for log messages only while this is on (trace records always are). */
void jr_driver_tail(struct jr_driver *d, bool on);
/* Not ready from now on, whatever the pool says (drain). */
void jr_driver_drain(struct jr_driver *d);

struct jr_driver_stats {
    uint64_t applied_seq_at_ready; /* position when it first was ready */
    uint64_t stream_last_at_start; /* what the stream held when recovery began */
    uint64_t step_max_us;          /* longest step */
    /* Dynamo's snapshot object: how often it was written and failed; blocks in the last one, and
     * blocks of the snapshot that it has not. */
    uint64_t compat_written, compat_failures, compat_events, compat_left_out;
    uint64_t leases_renewed, leases_not_renewed; /* times that our lease was written, and was not */
    double sync_delay_ms; /* age of the last peer batch on arrival, smoothed */
};
void jr_driver_stats(const struct jr_driver *d, struct jr_driver_stats *ret);

#endif
