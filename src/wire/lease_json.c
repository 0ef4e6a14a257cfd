/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/lease_json.h"
#include "wire/jfield.h"
#include <string.h>

#define REQUIRED JR_JFIELD_REQUIRED
#define OPTIONAL JR_JFIELD_OPTIONAL

/* The end of an encoder: on failure b holds what it held. */
static int finish(struct jr_buf *b, size_t before)
{
    if (b->err < 0)
        b->n = before;
    return b->err;
}

/* ---- worker ---- */

static void put_rank(struct jr_buf *b, const struct jr_rank_lease *r)
{
    jr_buf_u8(b, '{');
    jr_jfield_put_num(b, "dp_rank", r->dp_rank);
    jr_jfield_put_u64(b, "incarnation", r->incarnation);
    jr_jfield_put_u64(b, "acked_id", r->acked_id);
    jr_jfield_put_u64(b, "acked_seq", r->acked_seq);
    jr_buf_u8(b, '}');
}

/* What the decoder insists on. */
static bool worker_ok(const struct jr_worker_lease *l)
{
    if (!l->url[0] || !l->model[0] || l->block_size == 0 || l->block_size > JR_BLOCK_SIZE_MAX ||
        l->n_ranks > JR_RANKS_INLINE)
        return false;
    for (uint32_t i = 0; i < l->n_ranks; i++) {
        if (l->ranks[i].dp_rank >= JR_RANKS_MAX)
            return false;
    }
    return true;
}

int jr_lease_encode_worker(const struct jr_worker_lease *l, struct jr_buf *b)
{
    size_t before = b->n;
    if (!worker_ok(l))
        return JR_EINVAL;
    jr_buf_u8(b, '{');
    jr_jfield_put_u64(b, "worker_id", l->worker_id);
    jr_jfield_put_str(b, "url", l->url);
    jr_jfield_put_str(b, "model", l->model);
    jr_jfield_put_str(b, "role", l->role);
    jr_jfield_put_str(b, "tokenizer", l->tokenizer);
    if (l->on_cpu)
        jr_jfield_put_str(b, "device", "cpu");
    jr_jfield_put_num(b, "block_size", l->block_size);
    jr_jfield_put_u64(b, "total_kv_blocks", l->total_kv_blocks);
    jr_jfield_put_num(b, "max_num_seqs", l->max_num_seqs);
    jr_jfield_put_num(b, "max_batched_tokens", l->max_batched_tokens);
    jr_jfield_put_key(b, "ranks");
    jr_buf_u8(b, '[');
    for (uint32_t i = 0; i < l->n_ranks; i++) {
        if (i)
            jr_buf_u8(b, ',');
        put_rank(b, &l->ranks[i]);
    }
    jr_buf_puts(b, "]}");
    return finish(b, before);
}

static void read_rank(struct jr_jreader *r, const json_t *o, struct jr_rank_lease *ret)
{
    if (!json_is_object(o)) {
        jr_jfield_complain(r, "ranks", "holds something else than objects");
        return;
    }
    jr_jfield_u32(r, o, "dp_rank", JR_RANKS_MAX - 1, &ret->dp_rank, OPTIONAL);
    jr_jfield_u64(r, o, "incarnation", UINT64_MAX, &ret->incarnation, OPTIONAL);
    jr_jfield_u64(r, o, "acked_id", UINT64_MAX, &ret->acked_id, OPTIONAL);
    jr_jfield_u64(r, o, "acked_seq", UINT64_MAX, &ret->acked_seq, OPTIONAL);
}

static void read_ranks(struct jr_jreader *r, const json_t *root, struct jr_worker_lease *l)
{
    const json_t *ranks = jr_jfield_array(r, root, "ranks");
    size_t n = json_array_size(ranks);
    if (n > JR_RANKS_INLINE) {
        jr_jfield_complain(r, "ranks", "has too many entries");
        return;
    }
    l->n_ranks = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        read_rank(r, json_array_get(ranks, i), &l->ranks[i]);
}

int jr_lease_decode_worker(const void *p, size_t n, struct jr_worker_lease *ret,
                           struct jr_errmsg *e)
{
    json_t *root;
    struct jr_jreader r = {.e = e};
    struct jr_worker_lease l = {0};
    char device[16] = "";
    int rv = jr_jfield_load(p, n, JR_LEASE_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    jr_jfield_u64(&r, root, "worker_id", UINT64_MAX, &l.worker_id, REQUIRED);
    jr_jfield_str(&r, root, "url", l.url, sizeof l.url, REQUIRED);
    jr_jfield_str(&r, root, "model", l.model, sizeof l.model, REQUIRED);
    jr_jfield_str(&r, root, "role", l.role, sizeof l.role, OPTIONAL);
    jr_jfield_str(&r, root, "tokenizer", l.tokenizer, sizeof l.tokenizer, OPTIONAL);
    jr_jfield_str(&r, root, "device", device, sizeof device, OPTIONAL);
    l.on_cpu = strcmp(device, "cpu") == 0;
    jr_jfield_u32(&r, root, "block_size", JR_BLOCK_SIZE_MAX, &l.block_size, REQUIRED);
    jr_jfield_u64(&r, root, "total_kv_blocks", UINT64_MAX, &l.total_kv_blocks, OPTIONAL);
    jr_jfield_u32(&r, root, "max_num_seqs", UINT32_MAX, &l.max_num_seqs, OPTIONAL);
    jr_jfield_u32(&r, root, "max_batched_tokens", UINT32_MAX, &l.max_batched_tokens, OPTIONAL);
    read_ranks(&r, root, &l);
    if (r.err == 0 && l.block_size == 0)
        jr_jfield_complain(&r, "block_size", "is 0");
    json_decref(root);
    if (r.err == 0)
        *ret = l;
    return r.err;
}

/* ---- replica ---- */

int jr_lease_encode_replica(const struct jr_replica_lease *l, struct jr_buf *b)
{
    size_t before = b->n;
    if (!l->id[0] || l->incarnation == 0)
        return JR_EINVAL;
    jr_buf_u8(b, '{');
    jr_jfield_put_str(b, "id", l->id);
    jr_jfield_put_u64(b, "incarnation", l->incarnation);
    jr_jfield_put_str(b, "version", l->version);
    jr_jfield_put_str(b, "address", l->address);
    jr_jfield_put_num(b, "format_max", l->format_max);
    jr_jfield_put_num(b, "rules_max", l->rules_max);
    jr_jfield_put_num(b, "sync_max", l->sync_max);
    jr_jfield_put_bool(b, "sync_off", l->sync_off);
    jr_jfield_put_bool(b, "ready", l->ready);
    jr_jfield_put_u64(b, "applied", l->applied);
    jr_jfield_put_u64(b, "held", l->held);
    jr_jfield_put_u64(b, "wants", l->wants);
    jr_jfield_put_u64(b, "stream_created_ns", l->stream_created_ns);
    jr_jfield_put_num(b, "block_size", l->block_size);
    jr_jfield_put_key(b, "point");
    jr_buf_u8(b, '{');
    jr_jfield_put_u64(b, "seq", l->point.seq);
    jr_jfield_put_u64(b, "blocks", l->point.blocks);
    jr_jfield_put_u64(b, "table", l->point.table);
    jr_buf_puts(b, "}}");
    return finish(b, before);
}

static void check_incarnation(struct jr_jreader *r, uint64_t incarnation)
{
    if (r->err == 0 && incarnation == 0)
        jr_jfield_complain(r, "incarnation", "is 0");
}

int jr_lease_decode_replica(const void *p, size_t n, struct jr_replica_lease *ret,
                            struct jr_errmsg *e)
{
    json_t *root;
    struct jr_jreader r = {.e = e};
    struct jr_replica_lease l = {0};
    int rv = jr_jfield_load(p, n, JR_LEASE_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    jr_jfield_str(&r, root, "id", l.id, sizeof l.id, REQUIRED);
    jr_jfield_u64(&r, root, "incarnation", UINT64_MAX, &l.incarnation, REQUIRED);
    jr_jfield_str(&r, root, "version", l.version, sizeof l.version, OPTIONAL);
    jr_jfield_str(&r, root, "address", l.address, sizeof l.address, OPTIONAL);
    jr_jfield_u32(&r, root, "format_max", UINT32_MAX, &l.format_max, OPTIONAL);
    jr_jfield_u32(&r, root, "rules_max", UINT32_MAX, &l.rules_max, OPTIONAL);
    jr_jfield_u32(&r, root, "sync_max", UINT32_MAX, &l.sync_max, OPTIONAL);
    jr_jfield_bool(&r, root, "sync_off", &l.sync_off);
    jr_jfield_bool(&r, root, "ready", &l.ready);
    jr_jfield_u64(&r, root, "applied", UINT64_MAX, &l.applied, OPTIONAL);
    jr_jfield_u64(&r, root, "held", UINT64_MAX, &l.held, OPTIONAL);
    jr_jfield_u64(&r, root, "wants", UINT64_MAX, &l.wants, OPTIONAL);
    jr_jfield_u64(&r, root, "stream_created_ns", UINT64_MAX, &l.stream_created_ns, OPTIONAL);
    jr_jfield_u32(&r, root, "block_size", JR_BLOCK_SIZE_MAX, &l.block_size, OPTIONAL);
    const json_t *point = jr_jfield_object(&r, root, "point");
    jr_jfield_u64(&r, point, "seq", UINT64_MAX, &l.point.seq, OPTIONAL);
    jr_jfield_u64(&r, point, "blocks", UINT64_MAX, &l.point.blocks, OPTIONAL);
    jr_jfield_u64(&r, point, "table", UINT64_MAX, &l.point.table, OPTIONAL);
    check_incarnation(&r, l.incarnation);
    json_decref(root);
    if (r.err == 0)
        *ret = l;
    return r.err;
}

/* ---- leader ---- */

int jr_lease_encode_leader(const struct jr_leader_record *l, struct jr_buf *b)
{
    size_t before = b->n;
    if (!l->id[0] || l->incarnation == 0)
        return JR_EINVAL;
    jr_buf_u8(b, '{');
    jr_jfield_put_str(b, "id", l->id);
    jr_jfield_put_u64(b, "incarnation", l->incarnation);
    jr_buf_u8(b, '}');
    return finish(b, before);
}

int jr_lease_decode_leader(const void *p, size_t n, struct jr_leader_record *ret,
                           struct jr_errmsg *e)
{
    json_t *root;
    struct jr_jreader r = {.e = e};
    struct jr_leader_record l = {0};
    int rv = jr_jfield_load(p, n, JR_LEASE_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    jr_jfield_str(&r, root, "id", l.id, sizeof l.id, REQUIRED);
    jr_jfield_u64(&r, root, "incarnation", UINT64_MAX, &l.incarnation, REQUIRED);
    check_incarnation(&r, l.incarnation);
    json_decref(root);
    if (r.err == 0)
        *ret = l;
    return r.err;
}

/* ---- snapshots ---- */

static void put_snapshot(struct jr_buf *b, const char *key, const struct jr_snapshot_ref *s)
{
    jr_jfield_put_key(b, key);
    if (!s->object[0]) {
        jr_buf_puts(b, "null");
        return;
    }
    jr_buf_u8(b, '{');
    jr_jfield_put_str(b, "object", s->object);
    jr_jfield_put_u64(b, "seq", s->seq);
    jr_jfield_put_u64(b, "revision", s->revision);
    jr_jfield_put_u64(b, "created_ns", (uint64_t)s->created_ns);
    jr_jfield_put_u64(b, "stream_created_ns", (uint64_t)s->stream_created_ns);
    jr_jfield_put_u64(b, "bytes", s->bytes);
    jr_jfield_put_u64(b, "digest_blocks", s->digest_blocks);
    jr_jfield_put_u64(b, "digest_table", s->digest_table);
    jr_jfield_put_key(b, "epoch");
    jr_buf_u8(b, '{');
    jr_jfield_put_u64(b, "random", s->epoch.random);
    jr_jfield_put_u64(b, "n", s->epoch.n);
    jr_buf_puts(b, "}}");
}

/* UNIX times are not negative, and are written without a sign. */
static bool times_ok(const struct jr_snapshot_ref *s)
{
    return s->created_ns >= 0 && s->stream_created_ns >= 0;
}

int jr_lease_encode_snapshots(const struct jr_snapshots_record *rec, struct jr_buf *b)
{
    size_t before = b->n;
    if (!times_ok(&rec->newest) || !times_ok(&rec->previous))
        return JR_EINVAL;
    jr_buf_u8(b, '{');
    put_snapshot(b, "newest", &rec->newest);
    put_snapshot(b, "previous", &rec->previous);
    jr_buf_u8(b, '}');
    return finish(b, before);
}

static void read_snapshot(struct jr_jreader *r, const json_t *root, const char *key,
                          struct jr_snapshot_ref *ret)
{
    uint64_t created_ns = 0, stream_created_ns = 0;
    const json_t *o = jr_jfield_object(r, root, key);
    if (!o)
        return;
    jr_jfield_str(r, o, "object", ret->object, sizeof ret->object, REQUIRED);
    jr_jfield_u64(r, o, "seq", UINT64_MAX, &ret->seq, REQUIRED);
    jr_jfield_u64(r, o, "revision", UINT64_MAX, &ret->revision, OPTIONAL);
    jr_jfield_u64(r, o, "created_ns", INT64_MAX, &created_ns, OPTIONAL);
    jr_jfield_u64(r, o, "stream_created_ns", INT64_MAX, &stream_created_ns, OPTIONAL);
    jr_jfield_u64(r, o, "bytes", UINT64_MAX, &ret->bytes, OPTIONAL);
    jr_jfield_u64(r, o, "digest_blocks", UINT64_MAX, &ret->digest_blocks, OPTIONAL);
    jr_jfield_u64(r, o, "digest_table", UINT64_MAX, &ret->digest_table, OPTIONAL);
    const json_t *epoch = jr_jfield_object(r, o, "epoch");
    jr_jfield_u64(r, epoch, "random", UINT64_MAX, &ret->epoch.random, OPTIONAL);
    jr_jfield_u64(r, epoch, "n", UINT64_MAX, &ret->epoch.n, OPTIONAL);
    ret->created_ns = (int64_t)created_ns;
    ret->stream_created_ns = (int64_t)stream_created_ns;
}

int jr_lease_decode_snapshots(const void *p, size_t n, struct jr_snapshots_record *ret,
                              struct jr_errmsg *e)
{
    json_t *root;
    struct jr_jreader r = {.e = e};
    struct jr_snapshots_record rec = {0};
    int rv = jr_jfield_load(p, n, JR_LEASE_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    read_snapshot(&r, root, "newest", &rec.newest);
    read_snapshot(&r, root, "previous", &rec.previous);
    json_decref(root);
    if (r.err == 0)
        *ret = rec;
    return r.err;
}

/* ---- epoch ---- */

int jr_lease_encode_epoch(const struct jr_epoch *epoch, struct jr_buf *b)
{
    size_t before = b->n;
    jr_buf_u8(b, '{');
    jr_jfield_put_u64(b, "random", epoch->random);
    jr_jfield_put_u64(b, "n", epoch->n);
    jr_buf_u8(b, '}');
    return finish(b, before);
}

int jr_lease_decode_epoch(const void *p, size_t n, struct jr_epoch *ret, struct jr_errmsg *e)
{
    json_t *root;
    struct jr_jreader r = {.e = e};
    struct jr_epoch epoch = {0};
    int rv = jr_jfield_load(p, n, JR_LEASE_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    jr_jfield_u64(&r, root, "random", UINT64_MAX, &epoch.random, REQUIRED);
    jr_jfield_u64(&r, root, "n", UINT64_MAX, &epoch.n, REQUIRED);
    json_decref(root);
    if (r.err == 0)
        *ret = epoch;
    return r.err;
}
