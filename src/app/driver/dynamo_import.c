/* SPDX-License-Identifier: Apache-2.0 */
#include "app/driver/dynamo_import.h"

#include "core/state.h"
#include "wire/dynamo_snapshot.h"

struct import {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *state;
};

static int apply(void *arg, const struct jr_kv_batch *batch)
{
    struct import *x = arg;
    uint32_t effect;
    struct jr_log_msg msg = {.seq = x->state->seq + 1, .kind = JR_LOG_KIND_BATCH};
    msg.u.batch = *batch;
    return jr_state_apply(x->state, &msg, &effect);
}

static int freeze(struct jr_state *s, struct jr_image **ret)
{
    struct jr_state_export x;
    int err = jr_state_export_begin(s, &x);
    if (err < 0)
        return err;
    do
        err = jr_state_export_step(s, &x, UINT32_MAX);
    while (err == JR_EAGAIN);
    if (err < 0)
        jr_state_export_abort(s, &x);
    else
        *ret = jr_state_export_take(&x);
    return err;
}

static int fill(struct import *x, const void *p, size_t n, struct jr_image **ret,
                struct jr_errmsg *e)
{
    int err = jr_state_create(&x->mem, &x->members, &x->state);
    if (err < 0)
        return jr_errmsg_set(e, err, "no memory for radix-state");
    err = jr_dynamo_snapshot_read(p, n, apply, x, NULL, e);
    if (err < 0)
        return err;
    if (x->state->counters.dropped_unknown_parent > 0)
        return jr_errmsg_set(e, JR_ECORRUPT, "radix-state names parents that it does not hold");
    err = freeze(x->state, ret);
    return err < 0 ? jr_errmsg_set(e, err, "radix-state cannot be copied") : 0;
}

int jr_dynamo_import(const void *p, size_t n, int64_t created_ns, uint64_t seq,
                     struct jr_image **ret, struct jr_errmsg *e)
{
    struct import x = {0};
    jr_mem_init(&x.mem);
    jr_members_init(&x.members, &x.mem);
    int err = fill(&x, p, n, ret, e);
    jr_state_destroy(x.state);
    jr_members_deinit(&x.members);
    jr_mem_deinit(&x.mem);
    if (err < 0)
        return err;
    jr_image_arrange(*ret);
    (*ret)->stream_created_ns = created_ns;
    (*ret)->seq = seq;
    (*ret)->msg_time_ns = 0; /* that message is gone: nothing is known of it */
    (*ret)->msg_hash = 0;
    return 0;
}
