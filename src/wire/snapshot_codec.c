/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/snapshot_codec.h"
#include "base/cursor.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/pb.h"
#include <jetrouter/v1/snapshot.pb-c.h>
#include <sodium/crypto_generichash.h>
#include <sodium/utils.h>
#include <stdalign.h>
#include <string.h>

typedef Jetrouter__V1__SnapshotFrame pb_frame;
typedef Jetrouter__V1__SnapshotHeader pb_header;
typedef Jetrouter__V1__SnapshotTrailer pb_trailer;
typedef Jetrouter__V1__RankTable pb_ranks;
typedef Jetrouter__V1__EntryRun pb_entries;

#define MAGIC       "JRSNAP1\n"
#define MAGIC_BYTES 8
#define HASH_BYTES  32
#define FRAME_MAX   ((uint32_t)1 << 20) /* bytes of one frame */
/* An entry takes two fixed64 and a varint: a count over bytes / this is a lie. */
#define ENTRY_BYTES_MIN 17
/* What a hostile frame of FRAME_MAX costs protobuf-c at most, see event_codec.c. */
#define SCRATCH_MAX ((size_t)128 << 20)

enum rank_flag { RANK_HAS_ID = 1, RANK_WAITING = 2 };

/* ---- encoding ---- */

enum phase { PHASE_HEADER, PHASE_RANKS, PHASE_ENTRIES, PHASE_TRAILER, PHASE_DONE };

struct jr_snapshot_encoder {
    alignas(64) crypto_generichash_state hash;
    void *mem; /* what jr_xalloc gave: the struct is aligned inside it */
    const struct jr_image *image;
    enum phase phase;
    uint32_t next_rank;
    uint64_t next_entry;
    uint64_t frames;
    struct jr_buf frame; /* the packed frame, reused */
    /* columns of the run at hand */
    uint64_t a[JR_SNAPSHOT_RUN], b[JR_SNAPSHOT_RUN], c[JR_SNAPSHOT_RUN];
    uint32_t x[JR_SNAPSHOT_RUN], y[JR_SNAPSHOT_RUN];
};

static bool ranks_sorted(const struct jr_image *image)
{
    for (uint32_t i = 1; i < image->n_ranks; i++) {
        const struct jr_image_rank *p = &image->ranks[i - 1], *q = &image->ranks[i];
        if (p->worker_id > q->worker_id ||
            (p->worker_id == q->worker_id && p->dp_rank >= q->dp_rank))
            return false;
    }
    return true;
}

static bool image_ok(const struct jr_image *m)
{
    for (uint32_t i = 0; i < m->n_ranks && m->n_ranks <= JR_WORKERS_MAX; i++) {
        if (m->ranks[i].dp_rank >= JR_RANKS_MAX)
            return false;
    }
    return m->n_ranks <= JR_WORKERS_MAX && ranks_sorted(m) &&
           m->params.block_size <= JR_BLOCK_SIZE_MAX && m->rule_version <= JR_RULES_MAX &&
           memchr(m->namespace_, 0, sizeof m->namespace_) &&
           memchr(m->component, 0, sizeof m->component) &&
           memchr(m->reset_token, 0, sizeof m->reset_token) &&
           memchr(m->stream, 0, sizeof m->stream);
}

int jr_snapshot_encoder_create(const struct jr_image *image, struct jr_snapshot_encoder **ret)
{
    if (image->format < JR_SNAPSHOT_FORMAT_MIN || image->format > JR_SNAPSHOT_FORMAT_MAX)
        return JR_EVERSION;
    if (!image_ok(image))
        return JR_EINVAL;
    void *mem = jr_xalloc(sizeof(struct jr_snapshot_encoder) + alignof(struct jr_snapshot_encoder));
    uintptr_t at = (uintptr_t)mem;
    at = (at + alignof(struct jr_snapshot_encoder) - 1) &
         ~(uintptr_t)(alignof(struct jr_snapshot_encoder) - 1);
    struct jr_snapshot_encoder *e = (void *)at;
    e->mem = mem;
    e->image = image;
    jr_buf_init(&e->frame, FRAME_MAX);
    (void)crypto_generichash_init(&e->hash, NULL, 0, HASH_BYTES); /* fails for bad sizes only */
    *ret = e;
    return 0;
}

void jr_snapshot_encoder_destroy(struct jr_snapshot_encoder *e)
{
    if (!e)
        return;
    jr_buf_deinit(&e->frame);
    jr_xfree(e->mem);
}

/* Bytes to the object and to the hash. */
static void emit(struct jr_snapshot_encoder *e, struct jr_buf *b, const void *p, size_t n)
{
    (void)crypto_generichash_update(&e->hash, p, n);
    jr_buf_put(b, p, n);
}

static int emit_frame(struct jr_snapshot_encoder *e, struct jr_buf *b, const pb_frame *f)
{
    jr_buf_clear(&e->frame);
    int rv = jr_pb_pack(&f->base, &e->frame);
    if (rv < 0)
        return rv;
    uint32_t n = (uint32_t)e->frame.n;
    uint8_t word[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    emit(e, b, word, sizeof word);
    emit(e, b, e->frame.p, e->frame.n);
    e->frames++;
    return b->err;
}

/* protobuf-c's structs have no const; packing does not write. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static int emit_header(struct jr_snapshot_encoder *e, struct jr_buf *b)
{
    const struct jr_image *m = e->image;
    pb_frame f = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    pb_header h = JETROUTER__V1__SNAPSHOT_HEADER__INIT;
    Jetrouter__V1__PoolParams params = JETROUTER__V1__POOL_PARAMS__INIT;
    Jetrouter__V1__Epoch epoch = JETROUTER__V1__EPOCH__INIT;
    Jetrouter__V1__Refusals refusals = JETROUTER__V1__REFUSALS__INIT;
    Jetrouter__V1__Position position = JETROUTER__V1__POSITION__INIT, *positions[] = {&position};
    params.block_size = m->params.block_size;
    params.hash_scheme = m->params.hash_scheme;
    params.index_entries_max = m->params.index_entries_max;
    epoch.random = m->epoch.random;
    epoch.n = m->epoch.n;
    refusals.unknown_parent = m->dropped_unknown_parent;
    refusals.stale = m->dropped_stale;
    refusals.hole = m->dropped_hole;
    refusals.undecodable = m->undecodable;
    refusals.cap = m->refused_cap;
    refusals.skipped = m->skipped;
    position.stream = text(m->stream);
    position.stream_created_ns = m->stream_created_ns;
    position.seq = m->seq;
    position.msg_time_ns = m->msg_time_ns;
    position.msg_hash = m->msg_hash;
    h.format = m->format;
    h.rule_version = m->rule_version;
    h.namespace_ = text(m->namespace_);
    h.component = text(m->component);
    h.params = &params;
    h.epoch = &epoch;
    h.reset_token = text(m->reset_token);
    h.digest_blocks = m->digest_blocks;
    h.digest_table = m->digest_table;
    h.positions = positions;
    h.n_positions = 1;
    h.refusals = &refusals;
    h.n_ranks = m->n_ranks;
    h.n_entries = m->n_entries;
    f.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_HEADER;
    f.header = &h;
    emit(e, b, MAGIC, MAGIC_BYTES);
    return emit_frame(e, b, &f);
}

static int emit_ranks(struct jr_snapshot_encoder *e, struct jr_buf *b)
{
    const struct jr_image *m = e->image;
    pb_frame f = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    pb_ranks t = JETROUTER__V1__RANK_TABLE__INIT;
    uint32_t n = m->n_ranks - e->next_rank;
    if (n > JR_SNAPSHOT_RUN)
        n = JR_SNAPSHOT_RUN;
    for (uint32_t i = 0; i < n; i++) {
        const struct jr_image_rank *r = &m->ranks[e->next_rank + i];
        e->a[i] = r->worker_id;
        e->b[i] = r->incarnation;
        e->c[i] = r->has_id ? r->newest_id : 0;
        e->x[i] = r->dp_rank;
        e->y[i] =
            (r->has_id ? (unsigned)RANK_HAS_ID : 0) | (r->waiting ? (unsigned)RANK_WAITING : 0);
    }
    t.n_worker_id = t.n_dp_rank = t.n_incarnation = t.n_newest_id = t.n_flags = n;
    t.worker_id = e->a;
    t.incarnation = e->b;
    t.newest_id = e->c;
    t.dp_rank = e->x;
    t.flags = e->y;
    f.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_RANKS;
    f.ranks = &t;
    e->next_rank += n;
    return emit_frame(e, b, &f);
}

static int emit_entries(struct jr_snapshot_encoder *e, struct jr_buf *b)
{
    const struct jr_image *m = e->image;
    pb_frame f = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    pb_entries t = JETROUTER__V1__ENTRY_RUN__INIT;
    uint64_t left = m->n_entries - e->next_entry;
    uint32_t n = left < JR_SNAPSHOT_RUN ? (uint32_t)left : JR_SNAPSHOT_RUN, flags = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct jr_image_entry *x = &m->entries[e->next_entry + i];
        if (x->rank >= m->n_ranks)
            return JR_EINVAL;
        e->a[i] = x->block_hash;
        e->b[i] = x->prefix_hash;
        e->x[i] = x->rank;
        e->y[i] = x->flags & JR_IMAGE_FLAGS;
        flags |= e->y[i];
    }
    t.n_block_hash = t.n_prefix_hash = t.n_rank = n;
    t.n_flags = flags > 0 ? n : 0;
    t.flags = e->y;
    t.block_hash = e->a;
    t.prefix_hash = e->b;
    t.rank = e->x;
    f.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_ENTRIES;
    f.entries = &t;
    e->next_entry += n;
    return emit_frame(e, b, &f);
}

static int emit_trailer(struct jr_snapshot_encoder *e, struct jr_buf *b)
{
    uint8_t hash[HASH_BYTES];
    pb_frame f = JETROUTER__V1__SNAPSHOT_FRAME__INIT;
    pb_trailer t = JETROUTER__V1__SNAPSHOT_TRAILER__INIT;
    (void)crypto_generichash_final(&e->hash, hash, sizeof hash);
    t.n_ranks = e->image->n_ranks;
    t.n_entries = e->image->n_entries;
    t.n_frames = e->frames;
    t.blake2b = (ProtobufCBinaryData){sizeof hash, hash};
    f.frame_case = JETROUTER__V1__SNAPSHOT_FRAME__FRAME_TRAILER;
    f.trailer = &t;
    /* The hash is final: what emit_frame adds to it counts no more, but must not touch the state. */
    (void)crypto_generichash_init(&e->hash, NULL, 0, HASH_BYTES);
    return emit_frame(e, b, &f);
}

int jr_snapshot_encoder_step(struct jr_snapshot_encoder *e, struct jr_buf *b, bool *ret_done)
{
    int rv = 0;
    if (e->phase == PHASE_RANKS && e->next_rank == e->image->n_ranks)
        e->phase = PHASE_ENTRIES;
    if (e->phase == PHASE_ENTRIES && e->next_entry == e->image->n_entries)
        e->phase = PHASE_TRAILER;
    switch (e->phase) {
    case PHASE_HEADER:
        rv = emit_header(e, b);
        e->phase = PHASE_RANKS;
        break;
    case PHASE_RANKS:
        rv = emit_ranks(e, b);
        break;
    case PHASE_ENTRIES:
        rv = emit_entries(e, b);
        break;
    case PHASE_TRAILER:
        rv = emit_trailer(e, b);
        e->phase = PHASE_DONE;
        break;
    case PHASE_DONE:
        break;
    }
    *ret_done = e->phase == PHASE_DONE;
    return rv;
}

int jr_snapshot_encode(const struct jr_image *image, struct jr_buf *b)
{
    struct jr_snapshot_encoder *e;
    bool done = false;
    int rv = jr_snapshot_encoder_create(image, &e);
    if (rv < 0)
        return rv;
    while (rv == 0 && !done)
        rv = jr_snapshot_encoder_step(e, b, &done);
    jr_snapshot_encoder_destroy(e);
    return rv;
}

/* ---- decoding ---- */

struct decoder {
    struct jr_cursor c;
    struct jr_arena arena; /* of the frame at hand */
    struct jr_image *image;
    uint64_t n_ranks, n_entries; /* as the header says */
    uint64_t ranks, entries;     /* read so far */
    struct jr_errmsg *e;
};

static int fail(struct decoder *d, int err, const char *what)
{
    return jr_errmsg_set(d->e, err, "snapshot: %s", what);
}

static int next_frame(struct decoder *d, struct jr_cursor *ret)
{
    uint32_t n;
    const uint8_t *p;
    if (jr_cursor_le32(&d->c, &n) < 0)
        return fail(d, JR_ETRUNC, "ends in the length of a frame");
    if (n == 0 || n > FRAME_MAX)
        return fail(d, JR_EPROTO, "a frame has an impossible length");
    if (jr_cursor_bytes(&d->c, n, &p) < 0)
        return fail(d, JR_ETRUNC, "ends inside a frame");
    *ret = jr_cursor_of(p, n);
    return 0;
}

static int unpack_frame(struct decoder *d, struct jr_cursor at, const pb_frame **ret)
{
    ProtobufCMessage *m;
    jr_arena_reset(&d->arena);
    int rv = jr_pb_unpack(&jetrouter__v1__snapshot_frame__descriptor, &d->arena, at.p, at.n, &m);
    if (rv < 0)
        return fail(d, rv, "a frame cannot be decoded");
    *ret = (const pb_frame *)m;
    return 0;
}

static bool copy_position(const pb_header *h, struct jr_image *m)
{
    if (h->n_positions != 1)
        return false;
    const Jetrouter__V1__Position *p = h->positions[0];
    m->stream_created_ns = p->stream_created_ns;
    m->seq = p->seq;
    m->msg_time_ns = p->msg_time_ns;
    m->msg_hash = p->msg_hash;
    return jr_str_copy(m->stream, sizeof m->stream, p->stream);
}

static bool copy_header(const pb_header *h, struct jr_image *m)
{
    if (!h->params || !h->epoch || !h->refusals || h->params->block_size > JR_BLOCK_SIZE_MAX)
        return false;
    m->format = h->format;
    m->rule_version = h->rule_version;
    m->params = (struct jr_pool_params){h->params->block_size, h->params->hash_scheme,
                                        h->params->index_entries_max};
    m->epoch = (struct jr_epoch){h->epoch->random, h->epoch->n};
    m->digest_blocks = h->digest_blocks;
    m->digest_table = h->digest_table;
    m->dropped_unknown_parent = h->refusals->unknown_parent;
    m->dropped_stale = h->refusals->stale;
    m->dropped_hole = h->refusals->hole;
    m->undecodable = h->refusals->undecodable;
    m->refused_cap = h->refusals->cap;
    m->skipped = h->refusals->skipped;
    return jr_str_copy(m->namespace_, sizeof m->namespace_, h->namespace_) &&
           jr_str_copy(m->component, sizeof m->component, h->component) &&
           jr_str_copy(m->reset_token, sizeof m->reset_token, h->reset_token) &&
           copy_position(h, m);
}

static int decode_header(struct decoder *d)
{
    struct jr_cursor at;
    const pb_frame *f = NULL;
    int rv = next_frame(d, &at);
    if (rv == 0)
        rv = unpack_frame(d, at, &f);
    if (rv != 0)
        return rv;
    if (f->frame_case != JETROUTER__V1__SNAPSHOT_FRAME__FRAME_HEADER)
        return fail(d, JR_EPROTO, "does not start with a header");
    const pb_header *h = f->header;
    if (h->format > JR_SNAPSHOT_FORMAT_MAX)
        return fail(d, JR_EVERSION, "written in a format that is newer than this program");
    if (h->rule_version > JR_RULES_MAX)
        return fail(d, JR_EVERSION, "made under apply rules that are newer than this program");
    if (h->format < JR_SNAPSHOT_FORMAT_MIN || !copy_header(h, d->image))
        return fail(d, JR_EPROTO, "the header is incomplete");
    if (h->n_ranks > JR_WORKERS_MAX)
        return fail(d, JR_ELIMIT, "the worker table is over the limit");
    if (h->n_entries > d->c.n / ENTRY_BYTES_MIN)
        return fail(d, JR_ETRUNC, "has fewer bytes than its entries take");
    d->n_ranks = h->n_ranks;
    d->n_entries = h->n_entries;
    return 0;
}

static int check_trailer(struct decoder *d, struct jr_cursor last, const uint8_t *start,
                         uint64_t frames)
{
    const pb_frame *f = NULL;
    uint8_t hash[HASH_BYTES];
    int rv = unpack_frame(d, last, &f);
    if (rv != 0)
        return rv;
    if (f->frame_case != JETROUTER__V1__SNAPSHOT_FRAME__FRAME_TRAILER)
        return fail(d, JR_ETRUNC, "has no trailer");
    const pb_trailer *t = f->trailer;
    size_t n = (size_t)(last.p - start) - sizeof(uint32_t);
    (void)crypto_generichash(hash, sizeof hash, start, n, NULL, 0);
    if (t->blake2b.len != sizeof hash || sodium_memcmp(hash, t->blake2b.data, sizeof hash) != 0)
        return fail(d, JR_ECORRUPT, "the bytes do not match their hash");
    if (t->n_frames != frames || t->n_ranks != d->n_ranks || t->n_entries != d->n_entries)
        return fail(d, JR_ECORRUPT, "the trailer's counts are not the header's");
    return 0;
}

/* Walk to the last frame, without decoding, and check the trailer. *ret_body: the frames between. */
static int check_frames(struct decoder *d, const uint8_t *start, struct jr_cursor *ret_body)
{
    struct jr_cursor last = {0}, begin = d->c;
    uint64_t frames = 1; /* the header */
    if (d->c.n == 0)
        return fail(d, JR_ETRUNC, "has no trailer");
    for (;;) {
        int rv = next_frame(d, &last);
        if (rv < 0)
            return rv;
        if (d->c.n == 0)
            break;
        frames++;
    }
    *ret_body = jr_cursor_of(begin.p, (size_t)(last.p - begin.p) - sizeof(uint32_t));
    return check_trailer(d, last, start, frames);
}

static int decode_ranks(struct decoder *d, const pb_ranks *t)
{
    size_t n = t->n_worker_id;
    if (d->entries > 0 || n > d->n_ranks - d->ranks || t->n_dp_rank != n || t->n_incarnation != n ||
        t->n_newest_id != n || t->n_flags != n)
        return fail(d, JR_ECORRUPT, "the worker table's counts do not match");
    for (size_t i = 0; i < n; i++) {
        if (t->dp_rank[i] >= JR_RANKS_MAX || t->flags[i] > (RANK_HAS_ID | RANK_WAITING))
            return fail(d, JR_ECORRUPT, "a worker's row is out of bounds");
        d->image->ranks[d->ranks++] = (struct jr_image_rank){
            .worker_id = t->worker_id[i],
            .dp_rank = t->dp_rank[i],
            .incarnation = t->incarnation[i],
            .has_id = (t->flags[i] & RANK_HAS_ID) != 0,
            .newest_id = t->flags[i] & RANK_HAS_ID ? t->newest_id[i] : 0,
            .waiting = (t->flags[i] & RANK_WAITING) != 0,
        };
    }
    return 0;
}

static int decode_entries(struct decoder *d, const pb_entries *t)
{
    size_t n = t->n_block_hash;
    if (d->ranks != d->n_ranks || n > d->n_entries - d->entries || t->n_prefix_hash != n ||
        t->n_rank != n || (t->n_flags != 0 && t->n_flags != n))
        return fail(d, JR_ECORRUPT, "the counts of a run of entries do not match");
    for (size_t i = 0; i < n; i++) {
        if (t->rank[i] >= d->n_ranks)
            return fail(d, JR_ECORRUPT, "an entry names a worker that is not in the table");
        d->image->entries[d->entries++] = (struct jr_image_entry){
            .block_hash = t->block_hash[i],
            .prefix_hash = t->prefix_hash[i],
            .rank = (uint16_t)t->rank[i],
            .flags = (uint16_t)(t->n_flags > 0 ? t->flags[i] & JR_IMAGE_FLAGS : 0),
        };
        d->image->ranks[t->rank[i]].n_entries++;
    }
    return 0;
}

static int decode_body(struct decoder *d)
{
    struct jr_cursor at;
    const pb_frame *f = NULL;
    while (d->c.n > 0) {
        int rv = next_frame(d, &at);
        if (rv == 0)
            rv = unpack_frame(d, at, &f);
        if (rv != 0)
            return rv;
        if (f->frame_case == JETROUTER__V1__SNAPSHOT_FRAME__FRAME_RANKS)
            rv = decode_ranks(d, f->ranks);
        else if (f->frame_case == JETROUTER__V1__SNAPSHOT_FRAME__FRAME_ENTRIES)
            rv = decode_entries(d, f->entries);
        else
            rv = fail(d, JR_ECORRUPT, "a frame stands where it must not");
        if (rv < 0)
            return rv;
    }
    if (d->ranks != d->n_ranks || d->entries != d->n_entries)
        return fail(d, JR_ECORRUPT, "holds fewer rows than the header says");
    d->image->n_ranks = (uint32_t)d->ranks;
    d->image->n_entries = d->entries;
    return ranks_sorted(d->image) ? 0 : fail(d, JR_ECORRUPT, "the worker table is not in order");
}

static int check_magic(struct decoder *d, const void *p, size_t n)
{
    const uint8_t *magic;
    size_t head = n < MAGIC_BYTES ? n : MAGIC_BYTES;
    if (head && memcmp(p, MAGIC, head) != 0)
        return fail(d, JR_EPROTO, "the object is not a snapshot of JetRouter");
    if (jr_cursor_bytes(&d->c, MAGIC_BYTES, &magic) < 0)
        return fail(d, JR_ETRUNC, "is shorter than its first word");
    return 0;
}

int jr_snapshot_decode(const void *p, size_t n, struct jr_image **ret, struct jr_errmsg *e)
{
    struct decoder d = {.c = jr_cursor_of(p, n), .e = e};
    jr_arena_init(&d.arena, SCRATCH_MAX);
    d.image = jr_image_create();
    int rv = check_magic(&d, p, n);
    if (rv == 0)
        rv = decode_header(&d);
    if (rv == 0)
        rv = check_frames(&d, p, &d.c);
    if (rv == 0) {
        d.image->ranks = jr_xalloc((d.n_ranks + 1) * sizeof *d.image->ranks);
        d.image->entries = jr_xalloc(((size_t)d.n_entries + 1) * sizeof *d.image->entries);
        rv = decode_body(&d);
    }
    jr_arena_deinit(&d.arena);
    if (rv < 0)
        jr_image_destroy(d.image);
    else
        *ret = d.image;
    return rv;
}
