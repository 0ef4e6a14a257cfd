/* SPDX-License-Identifier: Apache-2.0 */
/* nats_priv: what the modules on top of nats.c share and others must not see. */
#ifndef JR_IO_NATS_PRIV_H
#define JR_IO_NATS_PRIV_H

#include "io/js_stream.h"

#include <nats/nats.h>

natsConnection *jr_nats_nc(struct jr_nats *nats);
jsCtx *jr_nats_js(struct jr_nats *nats);
uint32_t jr_nats_timeout_ms(const struct jr_nats *nats);
/* Which streams were seen to be whole in the connection that stands. Any thread. One that another
 * pushed out is looked at again. A generation of 0 forgets it. */
bool jr_nats_saw_stream(const struct jr_nats *nats, uint64_t name_hash);
void jr_nats_see_stream(struct jr_nats *nats, uint64_t name_hash, uint64_t generation);
/* js_stream.c: the stream was not found; the next single message that is asked of it looks first. */
void jr_stream_forget(struct jr_nats *nats, const char *stream);
/* Takes sub (may be NULL): no more messages, then its end. May wait a second; never on a loop. */
void jr_nats_drop_sub(struct jr_nats *nats, natsSubscription *sub);

/* nats_error.c: a status (and JetStream code, 0 if none) as our error, in words "what: …". 0 for
 * NATS_OK; e may be NULL. */
int jr_nats_error(natsStatus s, int code, struct jr_errmsg *e, const char *what);
#ifdef __clang_analyzer__ /* it looks at one file at a time: as in base/err.h */
static inline int jr_nats_error_returns(int ret, natsStatus s)
{
    (void)ret;
    return s == NATS_OK ? 0 : JR_EIO;
}
#define jr_nats_error(s, code, e, what) jr_nats_error_returns(jr_nats_error(s, code, e, what), s)
#endif
/* A JetStream error code and its description as our error; e may be NULL. */
int jr_js_error(int code, const char *description, struct jr_errmsg *e, const char *what);

/* What was told of one outage: n is 0 at its start. */
#define JR_NATS_TOLD_MAX   4 /* reasons; further ones are not told */
#define JR_NATS_TOLD_BYTES 200
struct jr_nats_told {
    char v[JR_NATS_TOLD_MAX][JR_NATS_TOLD_BYTES];
    unsigned n;
};
/* False: it was told, or there is no room for it. Copies why, cut. Pure. */
bool jr_nats_told_add(struct jr_nats_told *t, const char *why);

/* Is this text a user seed itself, not the name of a file? */
bool jr_nkey_is_seed(const char *text);
/* The public user key ("U…") that belongs to a seed, or to the seed in a file; ret holds 64 bytes. */
JR_MUST_CHECK int jr_nkey_public(const char *seed_or_file, char *ret, struct jr_errmsg *e);

/* The reply subject of a delivered message, $JS.ACK.…; both forms (docs of ADR-15). Pure. */
struct jr_js_meta {
    uint64_t seq, consumer_seq, pending;
    int64_t time_ns;
};
JR_MUST_CHECK int jr_js_meta_parse(const char *reply, struct jr_js_meta *ret);

/* A publish as a message of the library, returned owned; reply may be NULL. */
JR_MUST_CHECK int jr_pub_to_msg(const struct jr_pub *pub, const char *reply, natsMsg **ret);
/* What came back for a publish: an ack, an error, or "no responders". */
JR_MUST_CHECK int jr_pub_reply(natsMsg *reply, struct jr_pub_ack *ret, struct jr_errmsg *e);

#endif
