/* SPDX-License-Identifier: Apache-2.0 */
/* js_publish: asynchronous publishing to JetStream with acknowledgements, in a bounded window.
 *
 *   loop ── publish ──► queue ──► sender thread ──► server ──► own inbox ──► ack(seq, duplicate) on
 * the loop
 *
 * The window bounds what is queued or unacknowledged, by messages and by bytes (servers since 2.11
 * refuse what exceeds about 10,000 messages in their queue). Replies come to an inbox of our own,
 * so each publish has exactly one outcome. Order of publishes is kept. An error or time-out means
 * "send it again with the same msg_id": that is the caller's. */
#ifndef JR_IO_JS_PUBLISH_H
#define JR_IO_JS_PUBLISH_H

#include "io/js_stream.h"

struct jr_js_publisher;

/* Loop thread, exactly once per accepted publish. err: 0, JR_ETIMEOUT (unknown), JR_ENONATS (not
 * sent), JR_ECONFLICT, JR_ELIMIT (stream full or server too busy), JR_ENOTFOUND (no such stream),
 * JR_EIO, JR_ECLOSED (publisher closed; unknown). ack is borrowed. */
typedef void jr_js_ack_fn(void *ctx, int err, const struct jr_pub_ack *ack);

struct jr_js_publisher_config {
    struct jr_nats *nats;
    struct jr_loop *loop;
    uint32_t window_msgs;       /* default 1000 */
    uint64_t window_bytes;      /* default 8 MiB; one message larger than it is let through alone */
    uint32_t timeout_ms;        /* default 5000 */
    uint32_t patience_ms;       /* outcomes may come so much later, and then together; at most 200;
                                 * 0: each at once */
    void (*on_room)(void *ctx); /* loop thread: room again after JR_EAGAIN; NULL: none */
    void *ctx;
};

JR_MUST_CHECK int jr_js_publisher_create(const struct jr_js_publisher_config *config,
                                         struct jr_js_publisher **ret);
/* Loop thread; never blocks. Copies pub. JR_EAGAIN: the window is full; JR_EINVAL: no subject or
 * the payload exceeds the server's maximum. */
JR_MUST_CHECK int jr_js_publish_async(struct jr_js_publisher *publisher, const struct jr_pub *pub,
                                      jr_js_ack_fn *fn, void *ctx);
/* Loop thread, does not block. What is open ends with its outcome or JR_ECLOSED before cb (may be
 * NULL) runs on the loop, within about 100 ms; then the threads have ended. Takes the publisher. */
void jr_js_publisher_close(struct jr_js_publisher *publisher, void (*cb)(void *ctx), void *ctx);

struct jr_js_publisher_counters {
    uint64_t published, acked, duplicates, errors, timeouts;
    uint32_t inflight_msgs;
    uint64_t inflight_bytes;
};
void jr_js_publisher_counters_get(struct jr_js_publisher *publisher,
                                  struct jr_js_publisher_counters *ret);

/* Reads a PubAck, {"stream":…,"seq":…} or {"error":{…}}; borrows text. Pure. Errors as
 * jr_js_ack_fn, JR_EPROTO when it is neither. */
JR_MUST_CHECK int jr_pub_ack_parse(const char *text, size_t n, struct jr_pub_ack *ret,
                                   struct jr_errmsg *e);

#endif
