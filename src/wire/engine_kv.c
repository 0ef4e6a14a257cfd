/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/engine_kv.h"
#include "base/limit.h"
#include "base/limits.h"
#include "wire/arena.h"
#include "wire/msgpack.h"
#include <string.h>

/* The fields of all event types, whatever form they came in. */
enum field {
    F_TYPE,
    F_HASHES,
    F_PARENT,
    F_TOKENS,
    F_BLOCK_SIZE,
    F_LORA_ID,
    F_MEDIUM,
    F_LORA_NAME,
    F_EXTRA_KEYS,
    F_GROUP,
    F_SPEC_KIND,
    F_CACHE_SALT,
    F_UNKNOWN,
};

static const char *const field_names[] = {
    [F_TYPE] = "type",
    [F_HASHES] = "block_hashes",
    [F_PARENT] = "parent_block_hash",
    [F_TOKENS] = "token_ids",
    [F_BLOCK_SIZE] = "block_size",
    [F_LORA_ID] = "lora_id",
    [F_MEDIUM] = "medium",
    [F_LORA_NAME] = "lora_name",
    [F_EXTRA_KEYS] = "extra_keys",
    [F_GROUP] = "group_idx",
    [F_SPEC_KIND] = "kv_cache_spec_kind",
    [F_CACHE_SALT] = "cache_salt",
};

/* An event under construction. */
struct draft {
    struct jr_arena *arena;
    struct jr_engine_event ev;
    bool ignored;
    bool has_hashes, has_tokens, has_extra;
    struct jr_cursor extra; /* extra_keys, read last: they depend on lora_name */
    uint32_t mm_cap;
    struct jr_engine_mm *mm;
};

static struct jr_str str_of(const struct jr_msgpack *m)
{
    return jr_str_of((const char *)m->p, m->n);
}

static int hash_of(const struct jr_msgpack *m, uint64_t *ret)
{
    if (m->type == JR_MSGPACK_UINT) {
        *ret = m->v.u;
    } else if (m->type == JR_MSGPACK_INT) {
        *ret = (uint64_t)m->v.i;
    } else if (m->type == JR_MSGPACK_BIN && m->n >= 8) {
        struct jr_cursor c = jr_cursor_of(m->p + m->n - 8, 8);
        return jr_cursor_be64(&c, ret);
    } else {
        return JR_EPROTO;
    }
    return 0;
}

static int read_hashes(struct draft *d, struct jr_cursor *c)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type != JR_MSGPACK_ARRAY) {
        return rv < 0 ? rv : JR_EPROTO;
    }
    if (m.n > JR_EVENT_BLOCKS_MAX) {
        return jr_limit(JR_LIMIT_EVENT_BLOCKS);
    }
    uint32_t n = m.n;
    uint64_t *v = jr_arena_array(d->arena, n, sizeof *v);
    if (v == NULL) {
        return JR_ENOMEM;
    }
    for (uint32_t i = 0; i < n && rv == 0; i++) {
        rv = jr_msgpack_read(c, &m);
        if (rv == 0) {
            rv = hash_of(&m, &v[i]);
        }
    }
    d->ev.hashes = v;
    d->ev.n_hashes = n;
    d->has_hashes = true;
    return rv;
}

/* EAGLE: [[a, b], [b, c], [c, d]] reads as a b c d. */
static int read_bigrams(struct draft *d, struct jr_cursor *c, uint32_t n)
{
    uint32_t *v = jr_arena_array(d->arena, (size_t)n + 1, sizeof *v);
    if (v == NULL) {
        return JR_ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct jr_msgpack m;
        int rv = jr_msgpack_read(c, &m);
        if (rv < 0 || m.type != JR_MSGPACK_ARRAY || m.n != 2) {
            return rv < 0 ? rv : JR_EPROTO;
        }
        rv = jr_msgpack_read_u32s(c, 2, &v[i]); /* the second is overwritten by the next pair */
        if (rv < 0) {
            return rv;
        }
    }
    d->ev.tokens = v;
    d->ev.n_tokens = n + 1;
    d->ev.bigram = true;
    return 0;
}

static int read_tokens(struct draft *d, struct jr_cursor *c)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type != JR_MSGPACK_ARRAY) {
        return rv < 0 ? rv : JR_EPROTO;
    }
    if (m.n > JR_PROMPT_TOKENS_MAX) {
        return jr_limit(JR_LIMIT_PROMPT_TOKENS);
    }
    d->has_tokens = true;
    if (m.n > 0 && (c->p[0] & 0xf0) == 0x90) {
        return read_bigrams(d, c, m.n);
    }
    uint32_t *v = jr_arena_array(d->arena, m.n, sizeof *v);
    if (v == NULL) {
        return JR_ENOMEM;
    }
    d->ev.tokens = v;
    d->ev.n_tokens = m.n;
    return jr_msgpack_read_u32s(c, m.n, v);
}

/* A number that fits 32 bits, or nil. */
static int read_opt_u32(struct jr_cursor *c, bool *ret_has, uint32_t *ret)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type == JR_MSGPACK_NIL) {
        return rv;
    }
    if (m.type != JR_MSGPACK_UINT || m.v.u > UINT32_MAX) {
        return JR_EPROTO;
    }
    *ret_has = true;
    *ret = (uint32_t)m.v.u;
    return 0;
}

static int read_opt_str(struct jr_cursor *c, struct jr_str *ret)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type == JR_MSGPACK_NIL) {
        return rv;
    }
    if (m.type != JR_MSGPACK_STR) {
        return JR_EPROTO;
    }
    *ret = str_of(&m);
    return 0;
}

static int read_parent(struct draft *d, struct jr_cursor *c)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type == JR_MSGPACK_NIL) {
        return rv;
    }
    d->ev.has_parent = true;
    return hash_of(&m, &d->ev.parent);
}

static int read_medium(struct draft *d, struct jr_cursor *c)
{
    struct jr_str s = {NULL, 0};
    int rv = read_opt_str(c, &s);
    if (rv < 0) {
        return rv;
    }
    if (s.p == NULL) {
        d->ev.medium = JR_MEDIUM_NONE;
    } else if (jr_str_eq(s, "GPU")) {
        d->ev.medium = JR_MEDIUM_GPU;
    } else if (jr_str_eq(s, "CPU") || jr_str_eq(s, "CPU_PINNED")) {
        d->ev.medium = JR_MEDIUM_CPU;
    } else if (jr_str_eq(s, "DISK") || jr_str_eq(s, "STORAGE")) {
        d->ev.medium = JR_MEDIUM_DISK;
    } else {
        d->ev.medium = JR_MEDIUM_EXTERNAL;
    }
    return 0;
}

/* SGLang's metadata map. */
static int read_metadata(struct draft *d, struct jr_cursor *c, uint32_t pairs)
{
    for (uint32_t i = 0; i < pairs; i++) {
        struct jr_msgpack key;
        int rv = jr_msgpack_read(c, &key);
        if (rv < 0 || key.type != JR_MSGPACK_STR) {
            return rv < 0 ? rv : JR_EPROTO;
        }
        if (jr_str_eq(str_of(&key), "cache_salt")) {
            rv = read_opt_str(c, &d->ev.cache_salt);
        } else {
            rv = jr_msgpack_skip(c);
        }
        if (rv < 0) {
            return rv;
        }
    }
    return 0;
}

/* Position 7: vLLM's lora_name, or SGLang's metadata. */
static int read_lora_name(struct draft *d, struct jr_cursor *c)
{
    struct jr_cursor ahead = *c;
    struct jr_msgpack m;
    int rv = jr_msgpack_read(&ahead, &m);
    if (rv == 0 && m.type == JR_MSGPACK_MAP) {
        *c = ahead;
        return read_metadata(d, c, m.n);
    }
    return read_opt_str(c, &d->ev.lora_name);
}

static int add_mm(struct draft *d, uint32_t block, uint64_t hash)
{
    if (d->ev.n_mm == d->mm_cap) {
        uint32_t cap = d->mm_cap == 0 ? 8 : d->mm_cap * 2;
        struct jr_engine_mm *v = jr_arena_array(d->arena, cap, sizeof *v);
        if (v == NULL) {
            return JR_ENOMEM;
        }
        if (d->ev.n_mm > 0) {
            memcpy(v, d->mm, d->ev.n_mm * sizeof *v);
        }
        d->mm = v;
        d->mm_cap = cap;
        d->ev.mm = v;
    }
    d->mm[d->ev.n_mm++] = (struct jr_engine_mm){block, hash};
    return 0;
}

/* A multimodal identifier of exactly 64 hex digits: its first 16 are the hash. */
static bool mm_of(struct jr_str s, uint64_t *ret)
{
    uint64_t part;
    if (s.n != 64) {
        return false;
    }
    for (size_t i = 0; i < 64; i += 16) {
        if (jr_parse_hex64(s.p + i, 16, &part) < 0) {
            return false;
        }
    }
    return jr_parse_hex64(s.p, 16, ret) == 0;
}

static void set_salt(struct draft *d, struct jr_str s)
{
    struct jr_str have = d->ev.cache_salt;
    if (have.n > 0 && (have.n != s.n || memcmp(have.p, s.p, s.n) != 0)) {
        d->ev.opaque_extra = true;
    }
    d->ev.cache_salt = s;
}

/* A plain string among a block's keys. vLLM lists, untagged: LoRA name, multimodal identifiers,
 * salt. A salt that looks like an identifier is taken for one: that costs a hit, never a wrong one. */
static int plain_key(struct draft *d, uint32_t block, uint32_t i, bool last, struct jr_str s)
{
    uint64_t hash;
    struct jr_str lora = d->ev.lora_name;
    if (i == 0 && lora.n > 0 && lora.n == s.n && memcmp(lora.p, s.p, s.n) == 0) {
        return 0;
    }
    if (mm_of(s, &hash)) {
        return add_mm(d, block, hash);
    }
    if (last && s.n > 0) {
        set_salt(d, s);
    } else {
        d->ev.opaque_extra = true;
    }
    return 0;
}

/* (identifier, offset), or a tagged key such as ("cache_salt", "tenant-a"). */
static int pair_key(struct draft *d, uint32_t block, uint32_t n, struct jr_cursor *c)
{
    struct jr_msgpack a, b;
    int rv = n == 2 ? jr_msgpack_read(c, &a) : JR_EPROTO;
    if (rv < 0) {
        return rv;
    }
    rv = jr_msgpack_read(c, &b);
    if (rv < 0) {
        return rv;
    }
    uint64_t hash;
    if (b.type == JR_MSGPACK_ARRAY || b.type == JR_MSGPACK_MAP || a.type != JR_MSGPACK_STR) {
        return JR_EPROTO;
    }
    if (b.type == JR_MSGPACK_STR && jr_str_eq(str_of(&a), "cache_salt")) {
        set_salt(d, str_of(&b));
    } else if (b.type == JR_MSGPACK_STR && jr_str_eq(str_of(&a), "lora_name")) {
        return 0;
    } else if (b.type != JR_MSGPACK_STR && mm_of(str_of(&a), &hash)) {
        return add_mm(d, block, hash);
    } else {
        d->ev.opaque_extra = true;
    }
    return 0;
}

static int read_key(struct draft *d, uint32_t block, uint32_t i, bool last, struct jr_cursor *c)
{
    struct jr_cursor from = *c;
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0) {
        return rv;
    }
    if (m.type == JR_MSGPACK_STR) {
        return plain_key(d, block, i, last, str_of(&m));
    }
    if (m.type == JR_MSGPACK_ARRAY) {
        rv = pair_key(d, block, m.n, c);
        if (rv != JR_EPROTO) {
            return rv;
        }
    }
    d->ev.opaque_extra = true;
    *c = from;
    return jr_msgpack_skip(c);
}

static int read_extra_keys(struct draft *d, struct jr_cursor *c)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type == JR_MSGPACK_NIL) {
        return rv;
    }
    if (m.type != JR_MSGPACK_ARRAY || m.n > d->ev.n_hashes) {
        return JR_EPROTO;
    }
    uint32_t blocks = m.n;
    for (uint32_t block = 0; block < blocks; block++) {
        rv = jr_msgpack_read(c, &m);
        if (rv == 0 && m.type == JR_MSGPACK_NIL) {
            continue;
        }
        if (rv < 0 || m.type != JR_MSGPACK_ARRAY) {
            return rv < 0 ? rv : JR_EPROTO;
        }
        for (uint32_t i = 0, n = m.n; i < n; i++) {
            rv = read_key(d, block, i, i + 1 == n, c);
            if (rv < 0) {
                return rv;
            }
        }
    }
    return 0;
}

static int read_type(struct draft *d, struct jr_cursor *c)
{
    struct jr_str s = {NULL, 0};
    int rv = read_opt_str(c, &s);
    if (rv < 0 || s.p == NULL) {
        return rv < 0 ? rv : JR_EPROTO;
    }
    if (jr_str_eq(s, "BlockStored")) {
        d->ev.type = JR_ENGINE_STORED;
    } else if (jr_str_eq(s, "BlockRemoved")) {
        d->ev.type = JR_ENGINE_REMOVED;
    } else if (jr_str_eq(s, "AllBlocksCleared")) {
        d->ev.type = JR_ENGINE_CLEARED;
    } else {
        d->ignored = true;
    }
    return 0;
}

static int read_field(struct draft *d, enum field f, struct jr_cursor *c)
{
    bool has = false;
    int rv;
    switch (f) {
    case F_TYPE:
        return read_type(d, c);
    case F_HASHES:
        return read_hashes(d, c);
    case F_PARENT:
        return read_parent(d, c);
    case F_TOKENS:
        return read_tokens(d, c);
    case F_BLOCK_SIZE:
        rv = read_opt_u32(c, &has, &d->ev.block_size);
        return rv == 0 && !has ? JR_EPROTO : rv;
    case F_LORA_ID:
        return read_opt_u32(c, &d->ev.has_lora_id, &d->ev.lora_id);
    case F_MEDIUM:
        return read_medium(d, c);
    case F_LORA_NAME:
        return read_lora_name(d, c);
    case F_EXTRA_KEYS:
        d->extra = *c;
        d->has_extra = true;
        return jr_msgpack_skip(c);
    case F_GROUP:
        return read_opt_u32(c, &d->ev.has_group, &d->ev.group_idx);
    case F_SPEC_KIND:
        return read_opt_str(c, &d->ev.spec_kind);
    case F_CACHE_SALT:
        return read_opt_str(c, &d->ev.cache_salt);
    case F_UNKNOWN:
        break;
    }
    return jr_msgpack_skip(c);
}

static enum field field_at(enum jr_engine_type type, uint32_t i)
{
    static const enum field removed[] = {F_TYPE, F_HASHES, F_MEDIUM, F_GROUP};
    if (type == JR_ENGINE_STORED) {
        return i <= F_SPEC_KIND ? (enum field)i : F_UNKNOWN; /* the enum is in vLLM's order */
    }
    if (type == JR_ENGINE_REMOVED && i < sizeof removed / sizeof *removed) {
        return removed[i];
    }
    return F_UNKNOWN;
}

static enum field field_named(struct jr_str name)
{
    for (int f = 0; f < F_UNKNOWN; f++) {
        if (jr_str_eq(name, field_names[f])) {
            return (enum field)f;
        }
    }
    return F_UNKNOWN;
}

static int read_positional(struct draft *d, uint32_t n, struct jr_cursor *c)
{
    int rv = n > 0 ? read_type(d, c) : JR_EPROTO;
    for (uint32_t i = 1; i < n && rv == 0; i++) {
        rv = read_field(d, d->ignored ? F_UNKNOWN : field_at(d->ev.type, i), c);
    }
    return rv;
}

static int read_tagged(struct draft *d, uint32_t pairs, struct jr_cursor *c)
{
    for (uint32_t i = 0; i < pairs; i++) {
        struct jr_msgpack key;
        int rv = jr_msgpack_read(c, &key);
        if (rv < 0 || key.type != JR_MSGPACK_STR) {
            return rv < 0 ? rv : JR_EPROTO;
        }
        /* Keys of kinds we do not know may mean anything. */
        rv = read_field(d, d->ignored ? F_UNKNOWN : field_named(str_of(&key)), c);
        if (rv < 0) {
            return rv;
        }
    }
    return 0;
}

/* Is the event whole and consistent. */
static int check_event(struct draft *d)
{
    struct jr_engine_event *ev = &d->ev;
    if (d->ignored || ev->type == JR_ENGINE_CLEARED) {
        return 0;
    }
    if (ev->type == 0 || !d->has_hashes) {
        return JR_EPROTO;
    }
    if (ev->type == JR_ENGINE_REMOVED) {
        return 0;
    }
    if (!d->has_tokens || ev->block_size == 0 || ev->block_size > JR_BLOCK_SIZE_MAX) {
        return JR_EPROTO;
    }
    if (ev->n_tokens != 0 && ev->n_tokens < (uint64_t)ev->n_hashes * ev->block_size) {
        return JR_EPROTO;
    }
    return d->has_extra ? read_extra_keys(d, &d->extra) : 0;
}

static int read_event(struct draft *d, struct jr_cursor *c)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0) {
        return rv;
    }
    if (m.type == JR_MSGPACK_ARRAY) {
        rv = read_positional(d, m.n, c);
    } else if (m.type == JR_MSGPACK_MAP) {
        rv = read_tagged(d, m.n, c);
    } else {
        rv = JR_EPROTO;
    }
    return rv < 0 ? rv : check_event(d);
}

/* Decode one event behind c into the batch; a bad one is stepped over when its extent is known. */
static int take_event(struct jr_engine_batch *b, struct jr_engine_event *events,
                      struct jr_arena *arena, struct jr_cursor *c)
{
    struct jr_cursor from = *c;
    struct draft d = {.arena = arena};
    int rv = read_event(&d, c);
    if (rv == JR_ENOMEM) {
        return rv;
    }
    if (rv == JR_ELIMIT && (d.ev.type != 0 && !d.ignored)) {
        return rv;
    }
    if (rv < 0) {
        *c = from;
        rv = jr_msgpack_skip(c);
        b->bad_events += rv == 0;
        return rv;
    }
    if (d.ignored) {
        b->ignored_events++;
    } else {
        events[b->n_events++] = d.ev;
    }
    return 0;
}

static int read_events(struct jr_engine_batch *b, struct jr_arena *arena, struct jr_cursor *c,
                       struct jr_errmsg *e)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0 || m.type != JR_MSGPACK_ARRAY) {
        return jr_errmsg_set(e, JR_EPROTO, "engine events: no list of events where one should be");
    }
    if (m.n > JR_BATCH_EVENTS_MAX) {
        return jr_errmsg_set(e, jr_limit(JR_LIMIT_BATCH_EVENTS),
                             "engine events: %u events in one batch, at most %d", m.n,
                             JR_BATCH_EVENTS_MAX);
    }
    struct jr_engine_event *events = jr_arena_array(arena, m.n, sizeof *events);
    if (events == NULL) {
        return jr_errmsg_set(e, JR_ENOMEM, "engine events: out of memory for %u events", m.n);
    }
    b->events = events;
    for (uint32_t i = 0; i < m.n; i++) {
        rv = take_event(b, events, arena, c);
        if (rv == JR_ENOMEM || rv == JR_ELIMIT) {
            return jr_errmsg_set(e, rv, "engine events: event %u of %u is too large", i, m.n);
        }
        if (rv < 0) {
            return jr_errmsg_set(e, JR_EPROTO, "engine events: breaks off in event %u of %u", i,
                                 m.n);
        }
    }
    return 0;
}

static int read_ts(struct jr_cursor *c, double *ret)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv == 0 && m.type == JR_MSGPACK_FLOAT) {
        *ret = m.v.f;
    } else if (rv == 0 && m.type == JR_MSGPACK_UINT) {
        *ret = (double)m.v.u;
    } else {
        rv = JR_EPROTO;
    }
    return rv;
}

static int read_batch_array(struct jr_engine_batch *b, uint32_t n, struct jr_arena *arena,
                            struct jr_cursor *c, struct jr_errmsg *e)
{
    struct jr_cursor ahead = *c;
    struct jr_str tag = {NULL, 0};
    if (n > 0 && read_opt_str(&ahead, &tag) == 0 && jr_str_eq(tag, "LoadStat")) {
        b->ignored_events = 1; /* SGLang sends these bare, on the same socket when told so */
        return 0;
    }
    if (n < 2 || read_ts(c, &b->ts) < 0) {
        return jr_errmsg_set(e, JR_EPROTO, "engine events: not [ts, events, rank]");
    }
    int rv = read_events(b, arena, c, e);
    if (rv == 0 && n > 2 && read_opt_u32(c, &b->has_rank, &b->dp_rank) < 0) {
        return jr_errmsg_set(e, JR_EPROTO, "engine events: the rank is no number");
    }
    return rv;
}

/* One commit of vLLM's published the batch itself as a map. */
static int read_batch_map(struct jr_engine_batch *b, uint32_t pairs, struct jr_arena *arena,
                          struct jr_cursor *c, struct jr_errmsg *e)
{
    bool has_events = false;
    for (uint32_t i = 0; i < pairs; i++) {
        struct jr_str key = {"", 0};
        int rv = read_opt_str(c, &key);
        if (rv == 0 && jr_str_eq(key, "events") && !has_events) {
            rv = read_events(b, arena, c, e);
            if (rv < 0) {
                return rv;
            }
            has_events = true;
        } else if (rv == 0 && jr_str_eq(key, "ts")) {
            rv = read_ts(c, &b->ts);
        } else if (rv == 0 && jr_str_eq(key, "data_parallel_rank")) {
            rv = read_opt_u32(c, &b->has_rank, &b->dp_rank);
        } else if (rv == 0) {
            rv = jr_msgpack_skip(c);
        }
        if (rv < 0) {
            return jr_errmsg_set(e, JR_EPROTO, "engine events: malformed batch");
        }
    }
    return has_events ? 0 : jr_errmsg_set(e, JR_EPROTO, "engine events: a batch without events");
}

int jr_engine_batch_decode(const void *p, size_t n, struct jr_arena *arena,
                           struct jr_engine_batch *ret, struct jr_errmsg *e)
{
    struct jr_cursor c = jr_cursor_of(p, n);
    struct jr_engine_batch b = {.ts = 0};
    struct jr_msgpack m;
    int rv = jr_msgpack_read(&c, &m);
    if (rv == 0 && m.type == JR_MSGPACK_ARRAY) {
        rv = read_batch_array(&b, m.n, arena, &c, e);
    } else if (rv == 0 && m.type == JR_MSGPACK_MAP) {
        rv = read_batch_map(&b, m.n, arena, &c, e);
    } else {
        rv = jr_errmsg_set(e, JR_EPROTO, "engine events: %zu bytes that are no batch", n);
    }
    if (rv == 0) {
        *ret = b;
    }
    return rv;
}

bool jr_engine_event_is_main(const struct jr_engine_event *ev, struct jr_engine_group *group)
{
    if (ev->type != JR_ENGINE_CLEARED && !jr_engine_is_device(ev->medium)) {
        return false;
    }
    return jr_engine_event_is_main_group(ev, group);
}

bool jr_engine_event_is_main_group(const struct jr_engine_event *ev, struct jr_engine_group *group)
{
    if (ev->type == JR_ENGINE_CLEARED) {
        return true;
    }
    if (ev->type == JR_ENGINE_STORED && ev->spec_kind.n > 0) {
        bool full =
            jr_str_eq(ev->spec_kind, "full_attention") || jr_str_eq(ev->spec_kind, "mla_attention");
        if (full && ev->has_group && !group->known) {
            group->known = true;
            group->idx = ev->group_idx;
        }
        return full && (!ev->has_group || ev->group_idx == group->idx);
    }
    return !ev->has_group || ev->group_idx == group->idx;
}
