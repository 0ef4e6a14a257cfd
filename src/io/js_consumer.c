/* SPDX-License-Identifier: Apache-2.0 */
#include "io/js_consumer.h"

#include "base/mem.h"
#include "io/loop.h"

#include <stdlib.h>
#include <string.h>

#define NS_PER_MS            1000000ull
#define HEARTBEAT_MS_DEFAULT 1000
#define INACTIVE_MS          10000 /* the server forgets a consumer without interest after this */
#define DELETE_WAIT_MS       1000
#define SLACK_MS             500

struct jr_js_consumer {
    struct jr_nats *nats;
    char *stream;
    char *name; /* given by the server */
    natsSubscription *sub;
    uint64_t generation;
    uint64_t consumer_seq; /* of the last message returned */
    uint64_t stored;       /* messages to deliver when it was created */
    bool drained;
    uint64_t heartbeat_ns;
    uint64_t heard_ns; /* when anything came last */
};

/* Digits up to the end of a token. */
static bool token_number(const char *p, uint64_t *ret)
{
    uint64_t v = 0;
    const char *from = p;

    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *ret = v;
    return p > from && (*p == '.' || *p == '\0');
}

/* $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, or with
 * domain and account before the stream and perhaps a token behind (nats-architecture ADR-15). */
int jr_js_meta_parse(const char *reply, struct jr_js_meta *ret)
{
    const char *token[13];
    unsigned n = 0;
    uint64_t v[4];

    if (reply == NULL || strncmp(reply, "$JS.ACK.", 8) != 0)
        return JR_EPROTO;
    token[n++] = reply;
    for (const char *p = reply; *p != '\0' && n < 13; p++)
        if (*p == '.')
            token[n++] = p + 1;
    if (n != 9 && n < 11)
        return JR_EPROTO;
    const char **number = &token[n == 9 ? 5 : 7];
    for (unsigned i = 0; i < 4; i++)
        if (!token_number(number[i], &v[i]))
            return JR_EPROTO;
    *ret = (struct jr_js_meta){
        .seq = v[0], .consumer_seq = v[1], .time_ns = (int64_t)v[2], .pending = v[3]};
    return 0;
}

static int create_on_server(struct jr_js_consumer *c, const struct jr_js_consumer_config *config,
                            const char *inbox, struct jr_errmsg *e)
{
    jsConsumerConfig cc;
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;

    jsConsumerConfig_Init(&cc);
    cc.DeliverSubject = inbox;
    cc.FilterSubject = config->filter;
    cc.AckPolicy = js_AckNone;
    cc.MaxDeliver = 1;
    cc.FlowControl = true;
    cc.Heartbeat = (int64_t)c->heartbeat_ns;
    cc.InactiveThreshold = (int64_t)(INACTIVE_MS * NS_PER_MS);
    cc.Replicas = 1;
    cc.MemoryStorage = true;
    cc.DeliverPolicy = js_DeliverAll;
    if (config->start_seq != 0) {
        cc.DeliverPolicy = js_DeliverByStartSequence;
        cc.OptStartSeq = config->start_seq;
    } else if (config->last_per_subject) {
        cc.DeliverPolicy = js_DeliverLastPerSubject;
    }
    natsStatus s = js_AddConsumer(&info, jr_nats_js(c->nats), c->stream, &cc, NULL, &code);
    if (s != NATS_OK)
        return jr_nats_error(s, (int)code, e, c->stream);
    c->name = jr_xstrdup(info->Name);
    c->stored = info->NumPending + info->Delivered.Consumer;
    c->drained = c->stored == 0;
    jsConsumerInfo_Destroy(info);
    return 0;
}

int jr_js_consumer_create(const struct jr_js_consumer_config *config, struct jr_js_consumer **ret,
                          struct jr_errmsg *e)
{
    struct jr_js_consumer *c;
    natsInbox *inbox = NULL;
    natsStatus s;
    int rv;

    if (!jr_nats_connected(config->nats))
        return jr_errmsg_set(e, JR_ENONATS, "%s: not connected to NATS", config->stream);
    c = jr_xalloc(sizeof *c);
    c->nats = config->nats;
    c->stream = jr_xstrdup(config->stream);
    c->generation = jr_nats_generation(config->nats);
    c->heartbeat_ns =
        (config->heartbeat_ms != 0 ? config->heartbeat_ms : HEARTBEAT_MS_DEFAULT) * NS_PER_MS;
    s = natsInbox_Create(&inbox);
    if (s == NATS_OK)
        s = natsConnection_SubscribeSync(&c->sub, jr_nats_nc(c->nats), inbox);
    /* What may wait is bounded by the server's flow control window, not by dropping. */
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(c->sub, -1, -1);
    rv = jr_nats_error(s, 0, e, c->stream);
    if (rv == 0)
        rv = create_on_server(c, config, inbox, e);
    natsInbox_Destroy(inbox);
    if (rv != 0) {
        jr_js_consumer_destroy(c);
        return rv;
    }
    c->heard_ns = jr_loop_now_ns();
    *ret = c;
    return 0;
}

void jr_js_consumer_destroy(struct jr_js_consumer *c)
{
    if (c == NULL)
        return;
    jr_nats_drop_sub(c->nats, c->sub);
    if (c->name != NULL && jr_nats_connected(c->nats)) {
        jsOptions o;
        jsOptions_Init(&o);
        o.Wait = DELETE_WAIT_MS;
        /* If this fails, the server forgets it by itself. */
        js_DeleteConsumer(jr_nats_js(c->nats), c->stream, c->name, &o, NULL);
    }
    jr_xfree(c->name);
    jr_xfree(c->stream);
    jr_xfree(c);
}

static void answer(struct jr_js_consumer *c, const char *subject)
{
    natsConnection_Publish(jr_nats_nc(c->nats), subject, NULL, 0);
}

/* Heartbeat (no reply) or flow control request. Everything before it was handed over, so it may be
 * answered. A heartbeat says where the consumer is: a hole at the end shows only here. */
static int on_control(struct jr_js_consumer *c, natsMsg *m, struct jr_errmsg *e)
{
    const char *value = NULL;
    bool stalled = false;

    if (natsMsg_GetReply(m) != NULL) {
        answer(c, natsMsg_GetReply(m));
        return 0;
    }
    if (natsMsgHeader_Get(m, "Nats-Consumer-Stalled", &value) == NATS_OK && value != NULL) {
        stalled = true;
        answer(c, value);
    }
    if (natsMsgHeader_Get(m, "Nats-Last-Consumer", &value) != NATS_OK || value == NULL)
        return 0;
    uint64_t last = strtoull(value, NULL, 10);
    if (last > c->consumer_seq)
        return jr_errmsg_set(e, JR_EGAP, "%s: messages up to %llu of the consumer are missing",
                             c->stream, (unsigned long long)last);
    if (last == c->consumer_seq && !stalled)
        c->drained = true; /* idle */
    return 0;
}

static int on_data(struct jr_js_consumer *c, natsMsg *m, struct jr_js_meta *meta,
                   struct jr_errmsg *e)
{
    int rv = jr_js_meta_parse(natsMsg_GetReply(m), meta);

    if (rv != 0)
        return jr_errmsg_set(e, JR_EGAP, "%s: a message without position", c->stream);
    if (meta->consumer_seq != c->consumer_seq + 1)
        return jr_errmsg_set(e, JR_EGAP, "%s: consumer sequence %llu after %llu", c->stream,
                             (unsigned long long)meta->consumer_seq,
                             (unsigned long long)c->consumer_seq);
    c->consumer_seq = meta->consumer_seq;
    if (meta->pending == 0 || c->consumer_seq >= c->stored)
        c->drained = true;
    return 0;
}

static bool is_control(natsMsg *m)
{
    const char *reply = natsMsg_GetReply(m);

    return natsMsg_GetDataLength(m) == 0 && (reply == NULL || strncmp(reply, "$JS.ACK.", 8) != 0);
}

static int on_silence(struct jr_js_consumer *c, struct jr_errmsg *e)
{
    if (!jr_nats_connected(c->nats) || jr_nats_generation(c->nats) != c->generation)
        return jr_errmsg_set(e, JR_ENONATS, "%s: the connection was lost", c->stream);
    if (jr_loop_now_ns() - c->heard_ns > 2 * c->heartbeat_ns + SLACK_MS * NS_PER_MS)
        return jr_errmsg_set(e, JR_ETIMEOUT, "%s: heartbeats are missing", c->stream);
    return JR_EAGAIN;
}

int jr_js_consumer_next(struct jr_js_consumer *c, uint32_t timeout_ms, natsMsg **ret,
                        struct jr_js_meta *ret_meta, struct jr_errmsg *e)
{
    const uint64_t until_ns = timeout_ms > 0 ? jr_loop_now_ns() + timeout_ms * NS_PER_MS : 0;
    int64_t left_ms = timeout_ms;
    natsMsg *m;
    int rv;

    for (;;) {
        natsStatus s = natsSubscription_NextMsg(&m, c->sub, left_ms);
        if (s == NATS_TIMEOUT)
            return on_silence(c, e);
        if (s != NATS_OK)
            return jr_errmsg_set(e, JR_ENONATS, "%s: %s", c->stream, natsStatus_GetText(s));
        c->heard_ns = jr_loop_now_ns();
        bool control = is_control(m);
        rv = control ? on_control(c, m, e) : on_data(c, m, ret_meta, e);
        if (rv == 0 && !control) {
            *ret = m;
            return 0;
        }
        natsMsg_Destroy(m);
        if (rv != 0)
            return rv;
        if (c->heard_ns >= until_ns)
            return on_silence(c, e);
        left_ms = (int64_t)((until_ns - c->heard_ns) / NS_PER_MS);
    }
}

bool jr_js_consumer_drained(const struct jr_js_consumer *c)
{
    return c->drained;
}
