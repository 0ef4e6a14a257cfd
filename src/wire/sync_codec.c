/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sync_codec.h"
#include "base/limit.h"
#include "base/limits.h"
#include "wire/pb.h"
#include <jetrouter/v1/sync.pb-c.h>
#include <math.h>
#include <string.h>

typedef Jetrouter__V1__Delta pb_delta;
typedef Jetrouter__V1__SyncBatch pb_sync;

/* ---- rules that both directions check ---- */

static bool seconds_ok(double s)
{
    return isfinite(s) && s >= 0;
}

static bool delta_ok(const struct jr_delta *d)
{
    if (d->type != JR_DELTA_ADMIT)
        return d->type > JR_DELTA_ADMIT && d->type <= JR_DELTA_ASK_DONE;
    return d->b.dp_rank < JR_RANKS_MAX && d->b.n_blocks <= JR_PROMPT_BLOCKS_MAX &&
           d->b.prompt_tokens <= JR_PROMPT_TOKENS_MAX &&
           d->b.prefill_tokens <= JR_PROMPT_TOKENS_MAX && seconds_ok(d->b.prefill_seconds) &&
           (d->b.n_blocks == 0 || d->b.blocks);
}

static bool head_ok(const struct jr_sync_batch *s)
{
    if (s->version > JR_SYNC_VERSION)
        return false;
    if (!s->replica || !s->replica[0] || strlen(s->replica) >= JR_NAME_MAX || s->incarnation == 0 ||
        s->n_deltas > JR_SYNC_DELTAS_MAX)
        return false;
    return !s->is_base || (s->parts >= 1 && s->part < s->parts && seconds_ok(s->speed_factor));
}

static const char *rule_broken(const struct jr_sync_batch *s)
{
    if (!head_ok(s))
        return "a sync batch needs a replica, an incarnation and a part below its parts";
    for (uint32_t i = 0; i < s->n_deltas; i++) {
        if (!delta_ok(&s->deltas[i]))
            return "a delta is out of its bounds";
        if (s->is_base && s->deltas[i].type != JR_DELTA_ADMIT)
            return "a base holds something else than admissions";
    }
    return NULL;
}

/* ---- decoding ---- */

static struct jr_delta delta_of(const pb_delta *in)
{
    struct jr_delta d = {.type = (enum jr_delta_type)in->type, .b.request = in->request};
    if (d.type == JR_DELTA_PROGRESS)
        d.b.output_blocks = in->output_blocks;
    if (d.type != JR_DELTA_ADMIT)
        return d;
    d.b.worker_id = in->worker_id;
    d.b.dp_rank = in->dp_rank;
    d.b.prefill_tokens = in->prefill_tokens;
    d.b.prompt_tokens = in->prompt_tokens;
    d.b.output_blocks = in->output_blocks;
    d.b.prefill_seconds = in->prefill_seconds;
    /* A count that does not fit reads as one that is over every limit. */
    d.b.n_blocks = in->n_blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)in->n_blocks;
    d.b.blocks = in->n_blocks ? in->blocks : NULL;
    return d;
}

static int copy_deltas(const pb_sync *in, struct jr_arena *arena, struct jr_sync_batch *ret)
{
    if (in->n_deltas > JR_SYNC_DELTAS_MAX)
        return JR_ELIMIT;
    struct jr_delta *deltas = jr_arena_array(arena, in->n_deltas, sizeof *deltas);
    if (!deltas)
        return JR_ELIMIT;
    for (size_t i = 0; i < in->n_deltas; i++) {
        int type = (int)in->deltas[i]->type;
        if (type >= JR_DELTA_ADMIT && type <= JR_DELTA_ASK_DONE)
            deltas[ret->n_deltas++] = delta_of(in->deltas[i]);
        else
            ret->n_unknown++;
    }
    ret->deltas = deltas;
    return 0;
}

static void copy_base(const Jetrouter__V1__BasePart *in, struct jr_sync_batch *ret)
{
    ret->is_base = true;
    ret->base_number = in->number;
    ret->part = in->part;
    ret->parts = in->parts;
    ret->includes = in->includes;
    ret->speed_factor = in->speed_factor;
    ret->speed_weight_ms = in->speed_weight_ms;
}

int jr_sync_decode(const void *p, size_t n, struct jr_arena *arena, struct jr_sync_batch *ret,
                   struct jr_errmsg *e)
{
    ProtobufCMessage *m;
    if (n > JR_BATCH_BYTES_MAX)
        return jr_errmsg_set(e, jr_limit(JR_LIMIT_BATCH_BYTES),
                             "a sync batch of %zu bytes is over the limit of %d", n,
                             JR_BATCH_BYTES_MAX);
    int rv = jr_pb_unpack(&jetrouter__v1__sync_batch__descriptor, arena, p, n, &m);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "a sync batch of %zu bytes cannot be decoded", n);
    const pb_sync *in = (const pb_sync *)m;
    if (in->version > JR_SYNC_VERSION)
        return jr_errmsg_set(e, JR_EPROTO, "sync version %u is newer than %d", in->version,
                             JR_SYNC_VERSION);
    struct jr_sync_batch s = {
        .version = in->version,
        .replica = in->replica,
        .incarnation = in->incarnation,
        .number = in->number,
        .want_base = in->want_base != 0,
    };
    if (in->base_part)
        copy_base(in->base_part, &s);
    rv = copy_deltas(in, arena, &s);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "a sync batch has %zu deltas", in->n_deltas);
    const char *why = rule_broken(&s);
    if (why)
        return jr_errmsg_set(e, JR_EPROTO, "%s", why);
    *ret = s;
    return 0;
}

/* ---- encoding ---- */

static void fill_delta(const struct jr_delta *d, pb_delta *ret)
{
    jetrouter__v1__delta__init(ret);
    ret->type = (Jetrouter__V1__Delta__Type)d->type;
    ret->request = d->b.request;
    if (d->type == JR_DELTA_PROGRESS)
        ret->output_blocks = d->b.output_blocks;
    if (d->type != JR_DELTA_ADMIT)
        return;
    ret->worker_id = d->b.worker_id;
    ret->dp_rank = d->b.dp_rank;
    ret->prefill_tokens = d->b.prefill_tokens;
    ret->prompt_tokens = d->b.prompt_tokens;
    ret->output_blocks = d->b.output_blocks;
    ret->prefill_seconds = d->b.prefill_seconds;
    ret->n_blocks = d->b.n_blocks;
    ret->blocks = (uint64_t *)(uintptr_t)d->b.blocks; /* protobuf-c does not write to it */
}

static void fill_base(const struct jr_sync_batch *s, Jetrouter__V1__BasePart *ret)
{
    jetrouter__v1__base_part__init(ret);
    ret->number = s->base_number;
    ret->part = s->part;
    ret->parts = s->parts;
    ret->includes = s->includes;
    ret->speed_factor = s->speed_factor;
    ret->speed_weight_ms = s->speed_weight_ms;
}

int jr_sync_encode(const struct jr_sync_batch *s, struct jr_buf *b)
{
    struct jr_arena a;
    Jetrouter__V1__BasePart base;
    pb_sync m = JETROUTER__V1__SYNC_BATCH__INIT;
    if (rule_broken(s))
        return JR_EINVAL;
    jr_arena_init(&a, SIZE_MAX / 2);
    pb_delta *deltas = jr_arena_array(&a, s->n_deltas, sizeof *deltas);
    m.deltas = jr_arena_array(&a, s->n_deltas, sizeof(pb_delta *));
    for (uint32_t i = 0; i < s->n_deltas; i++) {
        fill_delta(&s->deltas[i], &deltas[i]);
        m.deltas[i] = &deltas[i];
    }
    m.version = s->version ? s->version : 1;
    m.replica = (char *)(uintptr_t)s->replica;
    m.incarnation = s->incarnation;
    m.number = s->number;
    m.want_base = s->want_base;
    m.n_deltas = s->n_deltas;
    if (s->is_base) {
        fill_base(s, &base);
        m.base_part = &base;
    }
    int rv = protobuf_c_message_get_packed_size(&m.base) > JR_BATCH_BYTES_MAX
                 ? JR_ELIMIT
                 : jr_pb_pack(&m.base, b);
    jr_arena_deinit(&a);
    return rv;
}

size_t jr_sync_delta_size_max(const struct jr_delta *d)
{
    /* tag and length; type; request and worker; four varints; the double; the array */
    return 6 + 2 + 9 + 9 + 4 * 6 + 9 + 6 + (size_t)d->b.n_blocks * sizeof(uint64_t);
}
