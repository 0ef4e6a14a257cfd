/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/dynamo_snapshot.h"
#include "base/cursor.h"
#include "base/limits.h"
#include "base/mem.h"

/* u64 worker | u64 event | u32 variant | … | u32 rank: a cleared event is the shortest. */
#define EVENT_BYTES_MIN 24
#define BLOCK_BYTES_MIN 17 /* u64, u64, u8 */
#define MM_BYTES_MIN    16 /* u64 hash, u64 count */
#define OFFSET_BYTES    16

enum variant { STORED = 0, REMOVED = 1, CLEARED = 2 };

/* Where the arrays of one event are gathered; grows to the largest event of the object. */
struct reader {
    struct jr_cursor c;
    struct jr_kv_block *blocks;
    uint64_t *hashes;
    size_t blocks_cap, hashes_cap;
};

static int read_flag(struct jr_cursor *c, bool *ret)
{
    uint8_t v;
    int rv = jr_cursor_u8(c, &v);
    if (rv < 0)
        return rv;
    *ret = v == 1;
    return v <= 1 ? 0 : JR_EPROTO;
}

/* A count of things of at least each_min bytes: one that cannot be true is truncated data. */
static int read_count(struct jr_cursor *c, size_t each_min, uint64_t *ret)
{
    int rv = jr_cursor_le64(c, ret);
    if (rv < 0)
        return rv;
    return *ret <= c->n / each_min ? 0 : JR_ETRUNC;
}

/* Multimodal details are already in the local hash. */
static int skip_mm(struct jr_cursor *c)
{
    bool has;
    uint64_t objects, offsets;
    const uint8_t *skipped;
    int rv = read_flag(c, &has);
    if (rv < 0 || !has)
        return rv;
    rv = read_count(c, MM_BYTES_MIN, &objects);
    for (uint64_t i = 0; rv == 0 && i < objects; i++) {
        rv = jr_cursor_bytes(c, sizeof(uint64_t), &skipped);
        if (rv == 0)
            rv = read_count(c, OFFSET_BYTES, &offsets);
        if (rv == 0)
            rv = jr_cursor_bytes(c, (size_t)offsets * OFFSET_BYTES, &skipped);
    }
    return rv;
}

/* The value is known to be below JR_EVENT_BLOCKS_MAX. */
static void *room_for(void *p, size_t *cap, size_t n, size_t size)
{
    if (n <= *cap)
        return p;
    *cap = n;
    return jr_xrealloc(p, n * size);
}

static int read_block(struct jr_cursor *c, struct jr_kv_block *ret)
{
    int rv = jr_cursor_le64(c, &ret->block_hash);
    if (rv == 0)
        rv = jr_cursor_le64(c, &ret->local_hash);
    return rv == 0 ? skip_mm(c) : rv;
}

static int read_stored(struct reader *r, struct jr_kv_event *ret)
{
    uint64_t n;
    int rv = read_flag(&r->c, &ret->has_parent);
    if (rv == 0 && ret->has_parent)
        rv = jr_cursor_le64(&r->c, &ret->parent_hash);
    if (rv == 0)
        rv = read_count(&r->c, BLOCK_BYTES_MIN, &n);
    if (rv != 0)
        return rv;
    if (n > JR_EVENT_BLOCKS_MAX)
        return JR_ELIMIT;
    r->blocks = room_for(r->blocks, &r->blocks_cap, (size_t)n, sizeof *r->blocks);
    for (uint64_t i = 0; rv == 0 && i < n; i++)
        rv = read_block(&r->c, &r->blocks[i]);
    ret->type = JR_KV_STORED;
    ret->blocks = r->blocks;
    ret->n = (uint32_t)n;
    return rv;
}

static int read_removed(struct reader *r, struct jr_kv_event *ret)
{
    uint64_t n;
    int rv = read_count(&r->c, sizeof(uint64_t), &n);
    if (rv < 0)
        return rv;
    if (n > JR_EVENT_BLOCKS_MAX)
        return JR_ELIMIT;
    r->hashes = room_for(r->hashes, &r->hashes_cap, (size_t)n, sizeof *r->hashes);
    for (uint64_t i = 0; rv == 0 && i < n; i++)
        rv = jr_cursor_le64(&r->c, &r->hashes[i]);
    ret->type = JR_KV_REMOVED;
    ret->hashes = r->hashes;
    ret->n = (uint32_t)n;
    return rv;
}

static int read_event(struct reader *r, struct jr_kv_batch *batch, struct jr_kv_event *event)
{
    uint32_t variant = 0;
    *event = (struct jr_kv_event){.type = JR_KV_CLEARED};
    *batch = (struct jr_kv_batch){.dynamo = true, .events = event, .n_events = 1};
    int rv = jr_cursor_le64(&r->c, &batch->worker_id);
    if (rv == 0)
        rv = jr_cursor_le64(&r->c, &batch->first_id);
    if (rv == 0)
        rv = jr_cursor_le32(&r->c, &variant);
    if (rv == 0 && variant == STORED)
        rv = read_stored(r, event);
    else if (rv == 0 && variant == REMOVED)
        rv = read_removed(r, event);
    else if (rv == 0 && variant != CLEARED)
        rv = JR_EPROTO;
    if (rv == 0)
        rv = jr_cursor_le32(&r->c, &batch->dp_rank);
    return rv == 0 && batch->dp_rank >= JR_RANKS_MAX ? JR_ELIMIT : rv;
}

/* One pass over the object; cb NULL only checks. *ret_at: the event where it ended. */
static int read_all(struct reader *r, jr_dynamo_snapshot_cb *cb, void *arg, uint64_t *ret_at)
{
    struct jr_kv_event event;
    struct jr_kv_batch batch;
    uint64_t n, i = 0;
    int rv = read_count(&r->c, EVENT_BYTES_MIN, &n);
    for (; rv == 0 && i < n; i++) {
        rv = read_event(r, &batch, &event);
        if (rv == 0 && cb)
            rv = cb(arg, &batch);
        if (rv != 0)
            break;
    }
    *ret_at = i;
    return rv == 0 && r->c.n > 0 ? JR_EPROTO : rv;
}

int jr_dynamo_snapshot_read(const void *p, size_t n, jr_dynamo_snapshot_cb *cb, void *arg,
                            uint64_t *ret_events, struct jr_errmsg *e)
{
    struct reader r = {.c = jr_cursor_of(p, n)};
    uint64_t at = 0;
    int rv = read_all(&r, NULL, NULL, &at);
    if (rv < 0) {
        jr_errmsg_set(e, rv,
                      "not a radix-state of Dynamo 1.0: wrong at event %llu, %zu of %zu bytes left "
                      "(a later Dynamo has another layout)",
                      (unsigned long long)at, r.c.n, n);
    } else {
        if (ret_events)
            *ret_events = at;
        r.c = jr_cursor_of(p, n);
        if (cb)
            rv = read_all(&r, cb, arg, &at);
    }
    jr_xfree(r.blocks);
    jr_xfree(r.hashes);
    return rv;
}

/* ---- writing ---- */

static void put_le32(struct jr_buf *b, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    jr_buf_put(b, bytes, sizeof bytes);
}

static void put_le64(struct jr_buf *b, uint64_t v)
{
    put_le32(b, (uint32_t)v);
    put_le32(b, (uint32_t)(v >> 32));
}

int jr_dynamo_snapshot_write_count(uint64_t n_events, struct jr_buf *b)
{
    put_le64(b, n_events);
    return b->err;
}

static void put_stored(struct jr_buf *b, const struct jr_kv_event *e)
{
    put_le32(b, STORED);
    jr_buf_u8(b, e->has_parent);
    if (e->has_parent)
        put_le64(b, e->parent_hash);
    put_le64(b, e->n);
    for (uint32_t i = 0; i < e->n; i++) {
        put_le64(b, e->blocks[i].block_hash);
        put_le64(b, e->blocks[i].local_hash);
        jr_buf_u8(b, 0); /* no mm_extra_info */
    }
}

static void put_removed(struct jr_buf *b, const struct jr_kv_event *e)
{
    put_le32(b, REMOVED);
    put_le64(b, e->n);
    for (uint32_t i = 0; i < e->n; i++)
        put_le64(b, e->hashes[i]);
}

int jr_dynamo_snapshot_write(const struct jr_kv_batch *batch, uint32_t i, struct jr_buf *b)
{
    if (i >= batch->n_events)
        return JR_EINVAL;
    const struct jr_kv_event *e = &batch->events[i];
    if (e->type < JR_KV_STORED || e->type > JR_KV_CLEARED)
        return JR_EINVAL;
    put_le64(b, batch->worker_id);
    put_le64(b, batch->first_id + i);
    if (e->type == JR_KV_STORED)
        put_stored(b, e);
    else if (e->type == JR_KV_REMOVED)
        put_removed(b, e);
    else
        put_le32(b, CLEARED);
    put_le32(b, batch->dp_rank);
    return b->err;
}
