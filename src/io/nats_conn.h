/* SPDX-License-Identifier: Apache-2.0 */
/* nats_conn: one connection to NATS with JetStream, kept up for ever.
 *
 * nats.c keeps its own threads; nothing of it is attached to a loop, and no call that can wait is
 * made on a loop thread: functions marked "blocks" are for lanes (io/lane.h) and own threads.
 * Nothing is buffered while disconnected: a publish or request then fails at once with JR_ENONATS,
 * so that no old purge or compare-and-set leaves long after it was decided.
 *
 *     nats.c threads ── connected/disconnected/error ──► mailbox ──► on_event(loop thread)
 */
#ifndef JR_IO_NATS_CONN_H
#define JR_IO_NATS_CONN_H

#include "io/loop.h"

struct jr_nats;

enum jr_nats_event {
    JR_NATS_CONNECTED,    /* first time or again; `generation` has grown */
    JR_NATS_DISCONNECTED, /* the library keeps trying */
    JR_NATS_ERROR,        /* permissions, auth, slow consumer; why it does not reconnect */
    JR_NATS_CLOSED,       /* refused twice (auth, TLS); tried again, more and more rarely */
};

/* Loop thread. text is borrowed for the call. */
typedef void jr_nats_event_fn(void *ctx, enum jr_nats_event event, const char *text);

/* All strings are borrowed during jr_nats_connect and copied. NULL or "": not set. */
struct jr_nats_config {
    const char *servers; /* comma separated nats:// or tls:// URLs; default nats://localhost:4222 */
    const char *name;    /* shows in the server's connection list */
    const char *user, *password;
    const char *token;
    const char *nkey_seed;  /* the seed itself (SU…), or the file that holds it */
    const char *creds_file; /* JWT and seed */
    const char *tls_ca, *tls_cert, *tls_key; /* PEM files */
    const char *tls_hostname;    /* whom certificates must be for; default: each its URL's host */
    uint32_t connect_timeout_ms; /* default 5000, one server */
    uint32_t request_timeout_ms; /* default 5000, each JetStream call */
    bool background;             /* connect returns at once and keeps trying, the first time too */
    struct jr_loop *loop; /* where on_event runs; NULL: no events. Must outlive the connection. */
    jr_nats_event_fn *on_event;
    void *ctx;
};

/* Blocks (not for long with background). Errors: JR_ENONATS not reachable; JR_EAUTH refused (auth,
 * TLS), in words; JR_ENOJETSTREAM; JR_ECONFIG a file cannot be used. With background only
 * JR_ECONFIG and JR_EINVAL; JetStream is then checked with jr_nats_check_jetstream. */
JR_MUST_CHECK int jr_nats_connect(const struct jr_nats_config *config, struct jr_nats **ret,
                                  struct jr_errmsg *e);
/* Blocks shortly. Closes and frees; NULL is fine. All readers, publishers and jobs that use it must
 * have ended. on_event is not called any more when this returns on the loop thread. */
void jr_nats_close(struct jr_nats *nats);

/* Blocks. 0, JR_ENOJETSTREAM, JR_ENONATS, JR_ETIMEOUT; JR_ECONFIG: the server's max_payload is below
 * JR_NATS_PAYLOAD_MIN. */
JR_MUST_CHECK int jr_nats_check_jetstream(struct jr_nats *nats, struct jr_errmsg *e);

bool jr_nats_connected(const struct jr_nats *nats); /* any thread */
/* How often it was connected, from 1; any thread. A change betrays a reconnect. */
uint64_t jr_nats_generation(const struct jr_nats *nats);
uint64_t jr_nats_max_payload(const struct jr_nats *nats); /* bytes; 1 MiB while unknown */

struct jr_nats_counters {
    uint64_t connects, disconnects, errors;
    uint64_t in_msgs, out_msgs, in_bytes, out_bytes;
};
void jr_nats_counters_get(struct jr_nats *nats, struct jr_nats_counters *ret); /* any thread */

/* Core NATS publish. Any thread that may write to a socket (not a loop). */
JR_MUST_CHECK int jr_nats_publish(struct jr_nats *nats, const char *subject, const void *payload,
                                  size_t n);

#endif
