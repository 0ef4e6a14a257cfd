/* SPDX-License-Identifier: Apache-2.0 */
/* js_consumer: one ordered push consumer, taken message by message by one thread. Blocks; the
 * foundation of js_reader (continuous) and of lists and object reads (until the end).
 *
 * No ack state, one replica, memory; lost at the first hole, missed heartbeats or reconnect, and
 * then only good for destroying: the owner decides where a new one starts. */
#ifndef JR_IO_JS_CONSUMER_H
#define JR_IO_JS_CONSUMER_H

#include "io/js_stream.h"
#include "io/nats_priv.h"

struct jr_js_consumer;

struct jr_js_consumer_config {
    struct jr_nats *nats;
    const char *stream;    /* copied */
    const char *filter;    /* NULL: all; borrowed during create */
    uint64_t start_seq;    /* first sequence wanted; 0: see last_per_subject */
    bool last_per_subject; /* else, with start_seq 0, all */
    uint32_t heartbeat_ms; /* 0: 1000 */
};

/* Errors as js_stream; ret owns a subscription and a consumer on the server. */
JR_MUST_CHECK int jr_js_consumer_create(const struct jr_js_consumer_config *config,
                                        struct jr_js_consumer **ret, struct jr_errmsg *e);
/* 0: *ret is the next message, returned owned. JR_EAGAIN: nothing within timeout_ms. Else lost:
 * JR_ENONATS (connection), JR_ETIMEOUT (heartbeats), JR_EGAP (a hole in the consumer's sequence). */
JR_MUST_CHECK int jr_js_consumer_next(struct jr_js_consumer *c, uint32_t timeout_ms, natsMsg **ret,
                                      struct jr_js_meta *ret_meta, struct jr_errmsg *e);
/* All that was stored when it was created has been returned by next. */
bool jr_js_consumer_drained(const struct jr_js_consumer *c);
void jr_js_consumer_destroy(struct jr_js_consumer *c); /* NULL is fine */

#endif
