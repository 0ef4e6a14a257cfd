/* SPDX-License-Identifier: Apache-2.0 */
/* js_reader: reads a stream in order, from a position of our own, into a loop.
 *
 *   server ──push, flow control──► subscription ──► reader thread ──gate──► decoders ──► on_msg
 *                                                    batches                in order     (loop)
 *
 * An ordered push consumer (ack none, memory, one replica, idle heartbeats, flow control) of our
 * own making: a thread takes the messages from a plain subscription, so each creation of the
 * consumer is seen and checked here. Flow control is answered only when everything before it was
 * taken into a batch, and the gate bounds what waits for the loop: a slow loop slows the server. What
 * came together is decoded and handed over together; the loop takes it message by message and gives
 * way after JR_LOOP_SLICE_US.
 *
 * The consumer is created again after a reconnect, a missed heartbeat or a hole in its sequence.
 * The first message after each creation has `restarted` set. With `JR_READ_POSITION` every creation
 * first goes through jr_stream_check; if that fails with JR_EGAP or JR_EHISTORY the reader posts
 * JR_READ_STOPPED and reads no more: destroy it, restore, create another. */
#ifndef JR_IO_JS_READER_H
#define JR_IO_JS_READER_H

#include "io/js_stream.h"
#include "wire/arena.h"

#define JR_READER_PATIENCE_MS_MAX 50 /* the end waits for who gathers */

enum jr_read_from {
    JR_READ_POSITION, /* from position.seq + 1, history checked at each creation */
    JR_READ_ALL,      /* from the first message at each creation */
    JR_READ_LAST,     /* the last message of each subject at each creation, then what comes */
};

enum jr_read_kind {
    JR_READ_MSG,     /* a message of the stream */
    JR_READ_LIVE,    /* all that was stored at (re)creation has been delivered; once a creation */
    JR_READ_LOST,    /* the consumer is gone (err, text say why); it is being created again */
    JR_READ_STOPPED, /* final: history check failed (err JR_EGAP or JR_EHISTORY) */
};

struct jr_js_reader;
struct jr_js_batch;

/* What on_msg gets and takes; give it back with jr_js_msg_destroy, soon: it counts in the window.
 */
struct jr_js_msg {
    struct jr_js_msg *next; /* the owner's, to keep it in a list */
    enum jr_read_kind kind;
    bool restarted;        /* first message of a newly created consumer (the first one, too) */
    uint64_t seq;          /* in the stream */
    uint64_t consumer_seq; /* 1, 2, 3 … in this consumer */
    uint64_t pending;      /* messages behind this one when it was sent */
    int64_t time_ns;       /* stored at, Unix */
    uint64_t payload_hash; /* jr_event_payload_hash */
    const char *subject;   /* this and payload live as long as the message, or until drop_payload */
    const uint8_t *payload;
    size_t n;
    int err;                   /* LOST, STOPPED */
    const char *text;          /* of them, in words; else "" */
    struct jr_arena *arena;    /* for the decode hook; lives as long as the message */
    void *decoded;             /* left by the decode hook */
    void *impl;                /* private */
    struct jr_js_batch *batch; /* private */
};

struct jr_js_reader_config {
    struct jr_nats *nats;
    struct jr_loop *loop;
    const char *stream;         /* copied */
    const char *filter_subject; /* copied; NULL: all */
    /* Messages of this subject are read and counted, but only the first after a creation is handed
     * over: the loop does not wake up for what it wrote itself. Copied; NULL: none. */
    const char *skip_subject;
    enum jr_read_from from;
    struct jr_stream_position position; /* JR_READ_POSITION */
    /* Other modes: the stream is created with this if missing (memory streams vanish with their
     * server). Copied; strings too. NULL: a missing stream is waited for. */
    const struct jr_stream_config *create;
    uint32_t window_msgs;  /* messages waiting for the loop, about; each 4 KiB count as one more;
                            * default 4096 */
    uint32_t heartbeat_ms; /* idle heartbeat; two missed are a loss; default 1000, min 100 */
    /* What comes so soon after another may wait so long for more, and come with it; at most
     * JR_READER_PATIENCE_MS_MAX; 0: each at once. */
    uint32_t patience_ms;
    /* Any thread but the loop's, before on_msg; may allocate in msg->arena, set decoded and drop the
     * payload. NULL: none. */
    void (*decode)(struct jr_js_msg *msg, void *ctx);
    void *decode_ctx;
    uint32_t decode_threads; /* that share the decoding; 0 and 1: one */
    /* Loop thread. Takes msg. */
    void (*on_msg)(struct jr_js_msg *msg, void *ctx);
    void *ctx;
};

/* Does not block: the thread does the rest. Loop thread. */
JR_MUST_CHECK int jr_js_reader_create(const struct jr_js_reader_config *config,
                                      struct jr_js_reader **ret);
/* The config's patience_ms from here on. Loop thread. */
void jr_js_reader_patience(struct jr_js_reader *reader, uint32_t ms);
/* Loop thread, does not block. No on_msg after this call; cb (may be NULL) runs on the loop when
 * the thread has ended: only then the connection may be closed. Takes the reader. */
void jr_js_reader_close(struct jr_js_reader *reader, void (*cb)(void *ctx), void *ctx);

/* In the decode hook, when all that is needed was decoded: the message's own memory goes. */
void jr_js_msg_drop_payload(struct jr_js_msg *msg);
const char *jr_js_msg_header(struct jr_js_msg *msg, const char *key); /* borrowed; NULL: absent */
void jr_js_msg_destroy(struct jr_js_msg *msg);                        /* any thread; NULL is fine */

struct jr_js_reader_counters {
    uint64_t msgs, bytes;
    uint64_t creations; /* of the consumer */
    uint64_t losses;    /* heartbeat, hole, reconnect */
    uint64_t last_seq;
};
void jr_js_reader_counters_get(struct jr_js_reader *reader, struct jr_js_reader_counters *ret);

#endif
