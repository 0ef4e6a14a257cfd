/* SPDX-License-Identifier: Apache-2.0 */
/* js_stream: synchronous JetStream calls: streams, single messages, purge, publish.
 *
 * Every function here blocks up to the connection's request timeout and is called from a lane or an
 * own thread, never from a loop. Reads go to the stream leader (STREAM.MSG.GET, STREAM.INFO), not
 * to a replica that may lag. All take `e` for the words of a failure (may be NULL).
 * Common errors: JR_ENONATS not connected, JR_ETIMEOUT no answer (outcome unknown for a publish),
 * JR_ENOTFOUND, JR_ENOJETSTREAM, JR_EIO any other answer of the server. */
#ifndef JR_IO_JS_STREAM_H
#define JR_IO_JS_STREAM_H

#include "base/limits.h"
#include "io/nats_conn.h"

#define JR_STREAM_NAME_MAX (2 * JR_NAME_MAX + 64)

/* Stream names of a pool, Dynamo's rules (docs/protocol.md §1). */
enum jr_stream_kind {
    JR_STREAM_EVENTS,    /* namespace-{ns}-component-{comp}-kv-events */
    JR_STREAM_SESSIONS,  /* namespace-{ns}-component-{comp}-sessions */
    JR_STREAM_SYNC,      /* namespace-{ns}-component-{comp}-active-sequences */
    JR_STREAM_SNAPSHOTS, /* …-snapshots: name of the object store bucket */
    JR_STREAM_LEASES,    /* …-leases: name of the KV bucket */
    JR_STREAM_STATE,     /* …-state: name of the KV bucket */
    JR_STREAM_RADIX,     /* …-radix-bucket: Dynamo's object store bucket */
};
/* Pure. dst holds JR_STREAM_NAME_MAX bytes. JR_ELIMIT when a name is too long. */
JR_MUST_CHECK int jr_stream_name(enum jr_stream_kind kind, const char *namespace_,
                                 const char *component, char *dst);

/* Pure. The component whose lease bucket is kept in `stream` ("KV_…"), of that namespace: what
 * jr_stream_name makes the same names of. False: it is no such bucket. dst holds JR_NAME_MAX bytes. */
bool jr_stream_is_leases(const char *stream, const char *namespace_, char *dst);

struct jr_stream_config {
    const char *name;
    const char *const *subjects; /* NULL: one subject, "{name}.*" */
    uint32_t n_subjects;
    bool memory;                  /* else file */
    uint32_t replicas;            /* 0 reads as 1 */
    int64_t max_age_ms;           /* 0: none */
    int64_t max_bytes;            /* 0: none */
    int64_t max_msgs_per_subject; /* 0: none */
    bool discard_old;             /* else a full stream refuses */
    bool allow_rollup;
    bool allow_direct;
    bool deny_delete;
};

struct jr_stream_info {
    int64_t created_ns; /* identity of the stream, with its name */
    uint64_t first_seq, last_seq, msgs, bytes;
    int64_t max_age_ms, max_bytes;
    bool discard_old, memory;
    uint32_t replicas;
    uint32_t n_consumers;
};

/* Our settings of the event stream: file, no max age, byte cap, discard new, rollup for control. */
void jr_stream_config_events(struct jr_stream_config *ret, const char *name, int64_t max_bytes,
                             uint32_t replicas);
/* The sync stream: memory, max age, rollup, discard old. */
void jr_stream_config_sync(struct jr_stream_config *ret, const char *name, int64_t max_age_ms,
                           uint32_t replicas);
/* The session stream: file, one message a subject, max age, discard old. */
void jr_stream_config_sessions(struct jr_stream_config *ret, const char *name, int64_t max_age_ms,
                               uint32_t replicas);

/* A server (2.9) forgets a stream that is deleted before it removes its files: one made anew in
 * between loses its files to that, answers on, and keeps nothing. Who misses a stream that was there
 * in this connection waits for so long before it opens it; a reader has missed heartbeats before. */
#define JR_STREAM_SETTLE_MS 1000

/* An existing stream is taken as it is (Dynamo's workers may have made it): look at ret. */
JR_MUST_CHECK int jr_stream_open(struct jr_nats *nats, const struct jr_stream_config *config,
                                 struct jr_stream_info *ret, struct jr_errmsg *e);
JR_MUST_CHECK int jr_stream_info(struct jr_nats *nats, const char *stream,
                                 struct jr_stream_info *ret, struct jr_errmsg *e);
/* At least so long; longer, and none, stay, as do all other settings. Read again after the change,
 * until it is: another may have read before ours and written after it. One whose write comes after
 * that last look is not seen (an update has no condition): who relies on it looks again at each
 * connection. JR_ECONFLICT: it was always set back. */
JR_MUST_CHECK int jr_stream_raise_max_age(struct jr_nats *nats, const char *stream,
                                          int64_t max_age_ms, struct jr_errmsg *e);
JR_MUST_CHECK int jr_stream_delete(struct jr_nats *nats, const char *stream, struct jr_errmsg *e);

/* Consumers of others (with acknowledgements; ours have none) and the least of their ack floors. */
struct jr_stream_foreign {
    uint32_t n;
    uint64_t ack_floor;     /* UINT64_MAX when n is 0 */
    char name[JR_NAME_MAX]; /* one of them */
};
JR_MUST_CHECK int jr_stream_foreign(struct jr_nats *nats, const char *stream,
                                    struct jr_stream_foreign *ret, struct jr_errmsg *e);

/* One stored message. Owns; NULL is fine for destroy. */
struct jr_stored {
    void *impl;
    uint64_t seq;
    int64_t time_ns;
    uint64_t payload_hash; /* jr_event_payload_hash */
    const char *subject;
    const uint8_t *payload;
    size_t n;
};
/* JR_ENOTFOUND: no such message (any more). */
JR_MUST_CHECK int jr_stored_get(struct jr_nats *nats, const char *stream, uint64_t seq,
                                struct jr_stored **ret, struct jr_errmsg *e);
JR_MUST_CHECK int jr_stored_last(struct jr_nats *nats, const char *stream, const char *subject,
                                 struct jr_stored **ret, struct jr_errmsg *e);
const char *jr_stored_header(struct jr_stored *stored,
                             const char *key); /* NULL: absent; borrowed */
void jr_stored_destroy(struct jr_stored *stored);

/* Where a reader is, with what identifies the history behind it (design: history check). */
struct jr_stream_position {
    int64_t created_ns; /* 0: not known, not compared */
    uint64_t seq;       /* last applied; 0: none */
    bool has_msg;       /* time and hash of the message at seq are known */
    int64_t time_ns;
    uint64_t payload_hash;
};
/* 0: reading may go on at seq + 1. JR_EGAP: what is needed has left the stream. JR_EHISTORY:
 * another stream, rolled back, or another message at seq. JR_ENOTFOUND: no stream. ret_info may be
 * NULL. */
JR_MUST_CHECK int jr_stream_check(struct jr_nats *nats, const char *stream,
                                  const struct jr_stream_position *position,
                                  struct jr_stream_info *ret_info, struct jr_errmsg *e);
/* The same rule on facts at hand; stored NULL: the message at seq is gone or seq is 0. Pure. */
JR_MUST_CHECK int jr_stream_check_facts(const struct jr_stream_position *position,
                                        const struct jr_stream_info *info,
                                        const struct jr_stored *stored, struct jr_errmsg *e);

/* Removes what is below floor; the message at floor stays. Re-reads the info and sends only when
 * 1 < floor <= last, else JR_EINVAL (a purge to 0 or 1 empties the stream). created_ns must still
 * be the stream's (0: not compared), else JR_EHISTORY. */
JR_MUST_CHECK int jr_stream_purge_below(struct jr_nats *nats, const char *stream,
                                        int64_t created_ns, uint64_t floor, uint64_t *ret_purged,
                                        struct jr_errmsg *e);
/* Removes all messages of one subject (no wildcard reaching others is checked: the caller's care).
 */
JR_MUST_CHECK int jr_stream_purge_subject(struct jr_nats *nats, const char *stream,
                                          const char *subject, struct jr_errmsg *e);

/* Components of a namespace: those that have a lease bucket. */
struct jr_components {
    char (*v)[JR_NAME_MAX]; /* owned */
    uint32_t n;
};
/* At most n_max are looked for. */
JR_MUST_CHECK int jr_stream_components(struct jr_nats *nats, const char *namespace_, uint32_t n_max,
                                       struct jr_components *ret, struct jr_errmsg *e);
void jr_components_deinit(struct jr_components *c);

/* Subjects below a filter with their message counts. Strings owned by the list. */
struct jr_subjects {
    struct jr_subject_count {
        char *subject;
        uint64_t msgs;
    } * list;
    uint32_t n;
};
JR_MUST_CHECK int jr_stream_subjects(struct jr_nats *nats, const char *stream, const char *filter,
                                     struct jr_subjects *ret, struct jr_errmsg *e);
void jr_subjects_deinit(struct jr_subjects *subjects);

/* One publish; the strings and payload are borrowed. */
struct jr_pub {
    const char *subject;
    const void *payload;
    size_t n;
    const char *msg_id;        /* Nats-Msg-Id; NULL: none */
    bool rollup;               /* Nats-Rollup: sub */
    bool expect_last;          /* Nats-Expected-Last-Subject-Sequence */
    uint64_t last_subject_seq; /* with expect_last; 0: the subject must be empty */
    struct jr_pub_header {
        const char *name, *value;
    } headers[3]; /* more of them, up to the first without a name */
};
struct jr_pub_ack {
    uint64_t seq;
    bool duplicate; /* seq is that of the first */
};
/* JR_ECONFLICT: expect_last did not hold. JR_ELIMIT: the stream is full or too busy, send it again.
 * JR_ETIMEOUT: unknown, send it again with the same msg_id or read. */
JR_MUST_CHECK int jr_js_publish(struct jr_nats *nats, const struct jr_pub *pub,
                                struct jr_pub_ack *ret, struct jr_errmsg *e);

#endif
