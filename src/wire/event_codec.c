/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/event_codec.h"
#include "base/cursor.h"
#include "base/limit.h"
#include "base/limits.h"
#include "base/mem.h"
#include "wire/dynamo_json.h"
#include "wire/pb.h"
#include <jetrouter/v1/control.pb-c.h>
#include <jetrouter/v1/event.pb-c.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef Jetrouter__V1__KvEvent pb_event;
typedef Jetrouter__V1__KvEventBatch pb_batch;
typedef Jetrouter__V1__Control pb_control;

/* The most that JR_BATCH_BYTES_MAX hostile bytes cost protobuf-c: a field of two bytes takes a
 * scanned member (with doubling slabs), a pointer and an empty message: below 100 bytes a byte. */
#define SCRATCH_MAX ((size_t)256 << 20)

/* Numbers of Control that are kinds, now or later (proto/README.md, rule 5). */
#define KIND_FIRST 10
#define KIND_LAST  63

struct jr_event_decoder {
    struct jr_arena scratch; /* protobuf messages, until they are copied out */
    struct jr_dynamo_parser *json;
};

struct jr_event_decoder *jr_event_decoder_create(void)
{
    struct jr_event_decoder *d = jr_xalloc(sizeof *d);
    jr_arena_init(&d->scratch, SCRATCH_MAX);
    return d; /* the JSON parser is made with the first JSON message */
}

void jr_event_decoder_destroy(struct jr_event_decoder *d)
{
    if (!d)
        return;
    jr_arena_deinit(&d->scratch);
    jr_dynamo_parser_destroy(d->json);
    jr_xfree(d);
}

uint64_t jr_event_payload_hash(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

struct jr_event_ids jr_event_ids_parse(const char *incarnation, const char *first_id,
                                       const char *begin)
{
    struct jr_event_ids ids = {0};
    if (!incarnation && !first_id && !begin)
        return ids;
    ids.bad = !incarnation || !first_id ||
              jr_parse_u64(incarnation, strlen(incarnation), &ids.incarnation) < 0 ||
              jr_parse_u64(first_id, strlen(first_id), &ids.first_id) < 0 || ids.incarnation == 0 ||
              (begin && strcmp(begin, "1") != 0);
    ids.has_ids = !ids.bad;
    ids.begin = begin != NULL;
    return ids;
}

/* ---- batches ---- */

/* What a batch of either form must obey beside what its events must. */
static bool batch_head_ok(const struct jr_kv_batch *b)
{
    return b->dp_rank < JR_RANKS_MAX && b->n_events <= JR_BATCH_EVENTS_MAX &&
           b->first_id <= UINT64_MAX - b->n_events;
}

static bool pb_event_ok(const pb_event *e)
{
    bool blank_parent = !e->has_parent && e->parent_hash == 0;
    if (e->n_block_hash > JR_EVENT_BLOCKS_MAX) {
        jr_limit_reached(JR_LIMIT_EVENT_BLOCKS);
        return false;
    }
    switch ((int)e->type) {
    case JR_KV_STORED:
        return e->n_block_hash == e->n_local_hash && (e->has_parent || e->parent_hash == 0);
    case JR_KV_REMOVED:
        return e->n_local_hash == 0 && blank_parent;
    case JR_KV_CLEARED:
        return e->n_block_hash == 0 && e->n_local_hash == 0 && blank_parent;
    default:
        return false;
    }
}

/* The arrays of a whole batch, cut from two allocations. */
struct hash_room {
    struct jr_kv_block *blocks;
    uint64_t *hashes;
};

static void copy_event(const pb_event *in, struct hash_room *room, struct jr_kv_event *ret)
{
    *ret = (struct jr_kv_event){.type = (enum jr_kv_type)in->type, .n = (uint32_t)in->n_block_hash};
    if (in->type == JETROUTER__V1__KV_EVENT__TYPE__STORED) {
        ret->has_parent = in->has_parent != 0;
        ret->parent_hash = in->parent_hash;
        ret->blocks = room->blocks;
        for (size_t i = 0; i < in->n_block_hash; i++)
            *room->blocks++ = (struct jr_kv_block){in->block_hash[i], in->local_hash[i]};
    } else if (in->type == JETROUTER__V1__KV_EVENT__TYPE__REMOVED) {
        ret->hashes = room->hashes;
        if (in->n_block_hash)
            memcpy(room->hashes, in->block_hash, in->n_block_hash * sizeof *room->hashes);
        room->hashes += in->n_block_hash;
    }
}

/* JR_EPROTO: against the rules; JR_ELIMIT: no room in the arena. */
static int copy_batch(const pb_batch *in, struct jr_arena *arena, struct jr_kv_batch *ret)
{
    size_t n_blocks = 0, n_hashes = 0;
    if (in->n_events > JR_BATCH_EVENTS_MAX)
        jr_limit_reached(JR_LIMIT_BATCH_EVENTS);
    if (in->n_events > JR_BATCH_EVENTS_MAX || in->incarnation == 0)
        return JR_EPROTO;
    *ret = (struct jr_kv_batch){
        .worker_id = in->worker_id,
        .dp_rank = in->dp_rank,
        .incarnation = in->incarnation,
        .first_id = in->first_id,
        .begin = in->begin != 0,
        .n_events = (uint32_t)in->n_events,
    };
    if (!batch_head_ok(ret))
        return JR_EPROTO;
    for (size_t i = 0; i < in->n_events; i++) {
        if (!pb_event_ok(in->events[i]))
            return JR_EPROTO;
        if (in->events[i]->type == JETROUTER__V1__KV_EVENT__TYPE__STORED)
            n_blocks += in->events[i]->n_block_hash;
        else
            n_hashes += in->events[i]->n_block_hash;
    }
    struct hash_room room = {jr_arena_array(arena, n_blocks, sizeof *room.blocks),
                             jr_arena_array(arena, n_hashes, sizeof *room.hashes)};
    struct jr_kv_event *events = jr_arena_array(arena, in->n_events, sizeof *events);
    if (!room.blocks || !room.hashes || !events)
        return JR_ELIMIT;
    for (size_t i = 0; i < in->n_events; i++)
        copy_event(in->events[i], &room, &events[i]);
    ret->events = events;
    return 0;
}

/* These three set kind and u of *ret. JR_EPROTO: undecodable. */
static int decode_batch(struct jr_event_decoder *d, const void *p, size_t n, struct jr_arena *arena,
                        struct jr_log_msg *ret)
{
    ProtobufCMessage *m;
    int rv = jr_pb_unpack(&jetrouter__v1__kv_event_batch__descriptor, &d->scratch, p, n, &m);
    if (rv < 0)
        return rv;
    if (((pb_batch *)m)->rules > JR_RULES_MAX) {
        ret->kind = JR_LOG_KIND_TOO_NEW;
        return 0;
    }
    ret->kind = JR_LOG_KIND_BATCH;
    return copy_batch((pb_batch *)m, arena, &ret->u.batch);
}

static int decode_dynamo(struct jr_event_decoder *d, const void *p, size_t n,
                         const struct jr_event_ids *ids, struct jr_arena *arena,
                         struct jr_log_msg *ret)
{
    if (ids && ids->bad)
        return JR_EPROTO;
    if (!d->json)
        d->json = jr_dynamo_parser_create();
    if (!d->json)
        return JR_ENOMEM;
    struct jr_kv_batch *b = &ret->u.batch;
    int rv = jr_dynamo_json_decode(d->json, p, n, arena, b, NULL);
    if (rv == JR_ENOMEM)
        return arena->full ? JR_ELIMIT : JR_ENOMEM;
    if (rv < 0)
        return JR_EPROTO;
    if (ids && ids->has_ids) {
        b->dynamo = false;
        b->incarnation = ids->incarnation;
        b->first_id = ids->first_id;
        b->begin = ids->begin;
    }
    ret->kind = JR_LOG_KIND_BATCH;
    return batch_head_ok(b) ? 0 : JR_EPROTO;
}

/* ---- control ---- */

static bool params_ok(const struct jr_pool_params *p)
{
    return p->block_size >= 1 && p->block_size <= JR_BLOCK_SIZE_MAX && p->hash_scheme >= 1;
}

static int copy_worker_gone(const Jetrouter__V1__WorkerGone *in, struct jr_arena *arena,
                            struct jr_control *ret)
{
    if (in->n_ended > JR_RANKS_MAX)
        return JR_EPROTO;
    struct jr_rank_incarnation *ended = jr_arena_array(arena, in->n_ended, sizeof *ended);
    if (!ended)
        return JR_ELIMIT;
    for (size_t i = 0; i < in->n_ended; i++) {
        if (in->ended[i]->dp_rank >= JR_RANKS_MAX)
            return JR_EPROTO;
        ended[i] = (struct jr_rank_incarnation){in->ended[i]->dp_rank, in->ended[i]->incarnation};
    }
    ret->worker_id = in->worker_id;
    ret->ended = ended;
    ret->n_ended = (uint32_t)in->n_ended;
    return 0;
}

static int copy_reset(const Jetrouter__V1__Reset *in, struct jr_control *ret)
{
    if (!in->from || !in->to || !jr_str_copy(ret->token, sizeof ret->token, in->token))
        return JR_EPROTO;
    ret->from = (struct jr_epoch){in->from->random, in->from->n};
    ret->to = (struct jr_epoch){in->to->random, in->to->n};
    return 0;
}

static int copy_config(const Jetrouter__V1__Config *in, struct jr_control *ret)
{
    if (!in->params)
        return JR_EPROTO;
    ret->params = (struct jr_pool_params){in->params->block_size, in->params->hash_scheme,
                                          in->params->index_entries_max};
    return params_ok(&ret->params) ? 0 : JR_EPROTO;
}

static int copy_control(const pb_control *in, struct jr_arena *arena, struct jr_control *ret)
{
    switch (in->kind_case) {
    case JETROUTER__V1__CONTROL__KIND_WORKER_GONE:
        ret->type = JR_CONTROL_WORKER_GONE;
        return copy_worker_gone(in->worker_gone, arena, ret);
    case JETROUTER__V1__CONTROL__KIND_RESET:
        ret->type = JR_CONTROL_RESET;
        return copy_reset(in->reset, ret);
    case JETROUTER__V1__CONTROL__KIND_CONFIG:
        ret->type = JR_CONTROL_CONFIG;
        return copy_config(in->config, ret);
    case JETROUTER__V1__CONTROL__KIND_USE_VERSION:
        ret->type = JR_CONTROL_USE_VERSION;
        ret->rule_version = in->use_version->rule_version;
        return ret->rule_version ? 0 : JR_EPROTO;
    case JETROUTER__V1__CONTROL__KIND_ADOPT:
        ret->type = JR_CONTROL_ADOPT;
        ret->digest_blocks = in->adopt->digest_blocks;
        ret->digest_table = in->adopt->digest_table;
        return 0;
    default:
        return JR_EPROTO;
    }
}

/* A message this program must not skip: newer rules, or a kind that it does not know. */
static bool control_too_new(const pb_control *c)
{
    if (c->rules > JR_RULES_MAX)
        return true;
    for (unsigned i = 0; i < c->base.n_unknown_fields; i++) {
        uint32_t tag = c->base.unknown_fields[i].tag;
        if (tag >= KIND_FIRST && tag <= KIND_LAST)
            return true;
    }
    return c->kind_case == JETROUTER__V1__CONTROL__KIND_USE_VERSION &&
           c->use_version->rule_version > JR_RULES_MAX;
}

static int decode_control(struct jr_event_decoder *d, const void *p, size_t n,
                          struct jr_arena *arena, struct jr_log_msg *ret)
{
    ProtobufCMessage *m;
    int rv = jr_pb_unpack(&jetrouter__v1__control__descriptor, &d->scratch, p, n, &m);
    if (rv < 0)
        return rv;
    if (control_too_new((pb_control *)m)) {
        ret->kind = JR_LOG_KIND_TOO_NEW;
        return 0;
    }
    ret->kind = JR_LOG_KIND_CONTROL;
    return copy_control((pb_control *)m, arena, &ret->u.control);
}

int jr_event_decode(struct jr_event_decoder *d, struct jr_str subject_token, const void *p,
                    size_t n, const struct jr_event_ids *ids, struct jr_arena *arena,
                    struct jr_log_msg *ret)
{
    int rv = JR_EPROTO;
    memset(&ret->u, 0, sizeof ret->u);
    jr_arena_reset(&d->scratch);
    if (n > JR_BATCH_BYTES_MAX)
        jr_limit_reached(JR_LIMIT_BATCH_BYTES);
    if (n <= JR_BATCH_BYTES_MAX) {
        if (jr_str_eq(subject_token, JR_SUBJECT_BATCH))
            rv = decode_batch(d, p, n, arena, ret);
        else if (jr_str_eq(subject_token, JR_SUBJECT_DYNAMO))
            rv = decode_dynamo(d, p, n, ids, arena, ret);
        else if (jr_str_eq(subject_token, JR_SUBJECT_CONTROL))
            rv = decode_control(d, p, n, arena, ret);
    }
    if (rv == JR_EPROTO) {
        memset(&ret->u, 0, sizeof ret->u);
        ret->kind = JR_LOG_KIND_UNDECODABLE;
        rv = 0;
    }
    return rv;
}

/* ---- encoding ---- */

static bool event_ok(const struct jr_kv_event *e)
{
    if (e->n > JR_EVENT_BLOCKS_MAX)
        return false;
    switch (e->type) {
    case JR_KV_STORED:
        return e->n == 0 || e->blocks;
    case JR_KV_REMOVED:
        return e->n == 0 || e->hashes;
    case JR_KV_CLEARED:
        return e->n == 0;
    default:
        return false;
    }
}

/* The arena of an encoder is unbounded in effect: jr_x memory, sizes checked before. */
static void fill_event(const struct jr_kv_event *e, struct jr_arena *a, pb_event *ret)
{
    jetrouter__v1__kv_event__init(ret);
    ret->type = (Jetrouter__V1__KvEvent__Type)e->type;
    ret->n_block_hash = e->n;
    ret->block_hash = jr_arena_array(a, e->n, sizeof *ret->block_hash);
    if (e->type != JR_KV_STORED) {
        if (e->n)
            memcpy(ret->block_hash, e->hashes, e->n * sizeof *e->hashes);
        return;
    }
    ret->has_parent = e->has_parent;
    ret->parent_hash = e->has_parent ? e->parent_hash : 0;
    ret->n_local_hash = e->n;
    ret->local_hash = jr_arena_array(a, e->n, sizeof *ret->local_hash);
    for (uint32_t i = 0; i < e->n; i++) {
        ret->block_hash[i] = e->blocks[i].block_hash;
        ret->local_hash[i] = e->blocks[i].local_hash;
    }
}

/* Pack, unless the reader would refuse its size. */
static int pack_message(const ProtobufCMessage *m, struct jr_buf *b)
{
    if (protobuf_c_message_get_packed_size(m) > JR_BATCH_BYTES_MAX)
        return JR_ELIMIT;
    return jr_pb_pack(m, b);
}

int jr_event_encode_batch(const struct jr_kv_batch *batch, struct jr_buf *b)
{
    struct jr_arena a;
    uint64_t hashes = 0;
    if (!batch_head_ok(batch) || batch->incarnation == 0)
        return JR_EINVAL;
    for (uint32_t i = 0; i < batch->n_events; i++) {
        if (!event_ok(&batch->events[i]))
            return JR_EINVAL;
        hashes += batch->events[i].n;
    }
    if (hashes > JR_BATCH_BYTES_MAX / sizeof(uint64_t))
        return JR_ELIMIT;
    jr_arena_init(&a, SIZE_MAX / 2);
    pb_batch m = JETROUTER__V1__KV_EVENT_BATCH__INIT;
    pb_event *events = jr_arena_array(&a, batch->n_events, sizeof *events);
    m.events = jr_arena_array(&a, batch->n_events, sizeof(pb_event *));
    for (uint32_t i = 0; i < batch->n_events; i++) {
        fill_event(&batch->events[i], &a, &events[i]);
        m.events[i] = &events[i];
    }
    m.rules = 1;
    m.worker_id = batch->worker_id;
    m.dp_rank = batch->dp_rank;
    m.incarnation = batch->incarnation;
    m.first_id = batch->first_id;
    m.begin = batch->begin;
    m.n_events = batch->n_events;
    int rv = pack_message(&m.base, b);
    jr_arena_deinit(&a);
    return rv;
}

static pb_control control_of(Jetrouter__V1__Control__KindCase kind)
{
    pb_control m = JETROUTER__V1__CONTROL__INIT;
    m.rules = 1;
    m.kind_case = kind;
    return m;
}

static int encode_worker_gone(const struct jr_control *c, struct jr_buf *b)
{
    Jetrouter__V1__RankIncarnation ended[JR_RANKS_MAX], *ptrs[JR_RANKS_MAX];
    Jetrouter__V1__WorkerGone gone = JETROUTER__V1__WORKER_GONE__INIT;
    if (c->n_ended > JR_RANKS_MAX)
        return JR_EINVAL;
    for (uint32_t i = 0; i < c->n_ended; i++) {
        if (c->ended[i].dp_rank >= JR_RANKS_MAX)
            return JR_EINVAL;
        jetrouter__v1__rank_incarnation__init(&ended[i]);
        ended[i].dp_rank = c->ended[i].dp_rank;
        ended[i].incarnation = c->ended[i].incarnation;
        ptrs[i] = &ended[i];
    }
    gone.worker_id = c->worker_id;
    gone.ended = ptrs;
    gone.n_ended = c->n_ended;
    pb_control m = control_of(JETROUTER__V1__CONTROL__KIND_WORKER_GONE);
    m.worker_gone = &gone;
    return pack_message(&m.base, b);
}

static int encode_reset(const struct jr_control *c, struct jr_buf *b)
{
    Jetrouter__V1__Reset reset = JETROUTER__V1__RESET__INIT;
    Jetrouter__V1__Epoch from = JETROUTER__V1__EPOCH__INIT, to = JETROUTER__V1__EPOCH__INIT;
    char token[sizeof c->token];
    if (!memchr(c->token, 0, sizeof c->token))
        return JR_EINVAL;
    memcpy(token, c->token, sizeof token);
    from.random = c->from.random;
    from.n = c->from.n;
    to.random = c->to.random;
    to.n = c->to.n;
    reset.from = &from;
    reset.to = &to;
    reset.token = token;
    pb_control m = control_of(JETROUTER__V1__CONTROL__KIND_RESET);
    m.reset = &reset;
    return pack_message(&m.base, b);
}

static int encode_config(const struct jr_control *c, struct jr_buf *b)
{
    Jetrouter__V1__Config config = JETROUTER__V1__CONFIG__INIT;
    Jetrouter__V1__PoolParams params = JETROUTER__V1__POOL_PARAMS__INIT;
    if (!params_ok(&c->params))
        return JR_EINVAL;
    params.block_size = c->params.block_size;
    params.hash_scheme = c->params.hash_scheme;
    params.index_entries_max = c->params.index_entries_max;
    config.params = &params;
    pb_control m = control_of(JETROUTER__V1__CONTROL__KIND_CONFIG);
    m.config = &config;
    return pack_message(&m.base, b);
}

static int encode_use_version(const struct jr_control *c, struct jr_buf *b)
{
    Jetrouter__V1__UseVersion use = JETROUTER__V1__USE_VERSION__INIT;
    if (c->rule_version == 0 || c->rule_version > JR_RULES_MAX)
        return JR_EINVAL;
    use.rule_version = c->rule_version;
    pb_control m = control_of(JETROUTER__V1__CONTROL__KIND_USE_VERSION);
    m.use_version = &use;
    return pack_message(&m.base, b);
}

static int encode_adopt(const struct jr_control *c, struct jr_buf *b)
{
    Jetrouter__V1__Adopt adopt = JETROUTER__V1__ADOPT__INIT;
    adopt.digest_blocks = c->digest_blocks;
    adopt.digest_table = c->digest_table;
    pb_control m = control_of(JETROUTER__V1__CONTROL__KIND_ADOPT);
    m.adopt = &adopt;
    return pack_message(&m.base, b);
}

int jr_event_encode_control(const struct jr_control *control, struct jr_buf *b)
{
    switch (control->type) {
    case JR_CONTROL_WORKER_GONE:
        return encode_worker_gone(control, b);
    case JR_CONTROL_RESET:
        return encode_reset(control, b);
    case JR_CONTROL_CONFIG:
        return encode_config(control, b);
    case JR_CONTROL_USE_VERSION:
        return encode_use_version(control, b);
    case JR_CONTROL_ADOPT:
        return encode_adopt(control, b);
    default:
        return JR_EINVAL;
    }
}

size_t jr_event_size_max(const struct jr_kv_event *e)
{
    /* tag and length of the event, type, has_parent, parent; tag and length of each array */
    size_t arrays = e->type == JR_KV_STORED ? 2 : 1;
    return 1 + 5 + 2 + 2 + 9 + arrays * (1 + 5 + (size_t)e->n * sizeof(uint64_t));
}
