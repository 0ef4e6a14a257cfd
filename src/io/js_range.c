/* SPDX-License-Identifier: Apache-2.0 */
#include "io/js_range.h"

#include "io/js_consumer.h"

#include <string.h>

#define WAIT_MS 5000

struct range {
    uint64_t to, at;
    jr_js_range_fn *fn;
    void *ctx;
};

static int pass_on(struct range *r, const struct jr_js_meta *meta, natsMsg *m)
{
    const char *subject = natsMsg_GetSubject(m);
    r->at = meta->seq;
    if (meta->seq > r->to)
        return 0;
    return r->fn(r->ctx, meta->seq, jr_str_of(subject, strlen(subject)), natsMsg_GetData(m),
                 (size_t)natsMsg_GetDataLength(m));
}

static int read_all(struct range *r, struct jr_js_consumer *c, struct jr_errmsg *e)
{
    int err = 0;
    while (err == 0 && r->at < r->to && !jr_js_consumer_drained(c)) {
        struct jr_js_meta meta;
        natsMsg *m = NULL;
        err = jr_js_consumer_next(c, WAIT_MS, &m, &meta, e);
        if (err == 0)
            err = pass_on(r, &meta, m);
        else if (err == JR_EAGAIN)
            err = jr_js_consumer_drained(c)
                      ? 0
                      : jr_errmsg_set(e, JR_ETIMEOUT, "no message came within %d ms", WAIT_MS);
        natsMsg_Destroy(m);
    }
    return err;
}

int jr_js_range_read(struct jr_nats *nats, const char *stream, uint64_t from, uint64_t to,
                     jr_js_range_fn *fn, void *ctx, struct jr_errmsg *e)
{
    struct range r = {.to = to, .fn = fn, .ctx = ctx};
    struct jr_js_consumer_config config = {
        .nats = nats, .stream = stream, .start_seq = from ? from : 1};
    struct jr_js_consumer *c = NULL;
    if (from > to)
        return 0;
    int err = jr_js_consumer_create(&config, &c, e);
    if (err < 0)
        return err;
    err = read_all(&r, c, e);
    jr_js_consumer_destroy(c);
    return err;
}
