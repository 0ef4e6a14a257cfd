/* SPDX-License-Identifier: Apache-2.0 */
/* api: the embeddable library over the leaf modules of the core (jetrouter/jetrouter.h). */
#include "jetrouter/jetrouter.h"
#include "base/arr.h"
#include "base/image.h"
#include "base/limits.h"
#include "base/pages.h"
#include "core/active.h"
#include "core/cost.h"
#include "core/hash.h"
#include "core/index.h"
#include "core/members.h"
#include "core/select.h"
#include "jetrouter/version.h"
#include <string.h>

struct jetrouter {
    struct jr_mem mem;
    void (*warm)(void *ctx, struct jetrouter_region *region); /* NULL: small pages */
    void *warm_ctx;
    uint32_t block_size;
    uint64_t entries_max;
    struct jr_cost_config cost;
    struct jr_speed speed;
    struct jr_members members; /* a reference by the worker, one by each of its requests */
    struct jr_index *index;
    struct jr_active *active;
    struct {
        JR_ARR_FIELDS(uint32_t);
    } present; /* members that are workers now */
    /* Scratch of one question. */
    struct jr_index_match match;
    struct {
        JR_ARR_FIELDS(uint64_t);
    } prefix;
    struct {
        JR_ARR_FIELDS(struct jr_candidate);
    } candidates;
};

_Static_assert(sizeof(struct jetrouter_block) == sizeof(struct jr_kv_block) &&
                   offsetof(struct jetrouter_block, local_hash) ==
                       offsetof(struct jr_kv_block, local_hash),
               "blocks are passed through");

const char *jetrouter_version(void)
{
    return JETROUTER_VERSION;
}

const char *jetrouter_error_text(int error)
{
    return jr_err_text(error);
}

static enum jr_cost_model model_of(enum jetrouter_cost cost)
{
    switch (cost) {
    case JETROUTER_COST_DYNAMO_1_0:
        return JR_COST_DYNAMO_1_0;
    case JETROUTER_COST_DYNAMO_1_2:
        return JR_COST_DYNAMO_1_2;
    case JETROUTER_COST_SECONDS:
        break;
    }
    return JR_COST_SECONDS;
}

void jetrouter_destroy(struct jetrouter *r)
{
    struct jr_mem mem;

    if (!r)
        return;
    jr_index_match_deinit(&r->match);
    jr_arr_free(&r->mem, &r->candidates);
    jr_arr_free(&r->mem, &r->prefix);
    jr_arr_free(&r->mem, &r->present);
    jr_active_destroy(r->active);
    jr_index_destroy(r->index);
    jr_members_deinit(&r->members);
    mem = r->mem; /* it counts the object it lies in */
    jr_mem_free(&mem, r, sizeof *r);
    jr_mem_deinit(&mem);
}

/* A region is a job of base/pages by another name. */
static void post_region(void *ctx, struct jr_pages_job *job)
{
    struct jetrouter *r = ctx;

    r->warm(r->warm_ctx, (struct jetrouter_region *)(void *)job);
}

void jetrouter_region_touch(struct jetrouter_region *region)
{
    jr_pages_job_run((struct jr_pages_job *)(void *)region);
}

int jetrouter_create(const struct jetrouter_options *options, struct jetrouter **ret)
{
    struct jr_mem mem;
    struct jetrouter *r;
    int rv;

    if (options->block_size == 0 || options->block_size > JR_BLOCK_SIZE_MAX)
        return JR_EINVAL;
    jr_mem_init(&mem);
    mem.bytes_max = options->bytes_max;
    r = jr_mem_zalloc(&mem, sizeof *r);
    if (!r)
        return JR_ENOMEM;
    r->mem = mem;
    r->warm = options->warm;
    r->warm_ctx = options->warm_ctx;
    if (r->warm)
        jr_mem_warm(&r->mem, &(struct jr_pages_warmer){post_region, r}, JR_MEM_WARM_FROM);
    r->block_size = options->block_size;
    r->entries_max = options->index_entries_max;
    jr_cost_config_init(&r->cost, model_of(options->cost));
    jr_members_init(&r->members, &r->mem);
    jr_index_match_init(&r->match, &r->mem);
    rv = jr_index_create(&r->mem, options->index_entries_max, &r->index);
    if (rv == 0)
        rv = jr_active_create(&r->mem, &r->active);
    if (rv < 0) {
        jetrouter_destroy(r);
        return rv;
    }
    *ret = r;
    return 0;
}

static struct jr_str str_of(const char *text)
{
    return jr_str_of(text, text ? strlen(text) : 0);
}

static struct jr_hash_salt salt_of(const struct jetrouter_request *request)
{
    return (struct jr_hash_salt){.lora = str_of(request->lora),
                                 .cache_salt = str_of(request->cache_salt)};
}

uint32_t jetrouter_hash_tokens(const struct jetrouter *r, const struct jetrouter_request *request,
                               uint64_t *ret)
{
    struct jr_hash_salt salt = salt_of(request);
    return jr_hash_local(&salt, request->tokens, request->n_tokens, r->block_size, ret);
}

/* ---- workers and their events ---------------------------------------------------------------- */

/* The member of a worker that is there now, or JR_MEMBER_NONE. */
static uint32_t member_of(const struct jetrouter *r, struct jetrouter_worker worker)
{
    uint32_t member = jr_members_find(&r->members, worker.id, worker.dp_rank);

    if (member == JR_MEMBER_NONE || !jr_index_has_member(r->index, member))
        return JR_MEMBER_NONE;
    return member;
}

int jetrouter_worker_add(struct jetrouter *r, struct jetrouter_worker worker)
{
    uint32_t member;
    int rv;

    if (member_of(r, worker) != JR_MEMBER_NONE)
        return JR_EEXIST;
    rv = jr_arr_reserve(&r->mem, &r->present, 1, JR_WORKERS_MAX);
    if (rv < 0)
        return rv;
    rv = jr_members_ref(&r->members, worker.id, worker.dp_rank, &member);
    if (rv < 0)
        return rv;
    rv = jr_index_add_member(r->index, member, worker.id, worker.dp_rank);
    if (rv < 0) {
        jr_members_unref(&r->members, member);
        return rv;
    }
    r->present.v[r->present.n++] = member;
    return 0;
}

int jetrouter_worker_remove(struct jetrouter *r, struct jetrouter_worker worker)
{
    uint32_t member = member_of(r, worker), at = 0;

    if (member == JR_MEMBER_NONE)
        return JR_ENOTFOUND;
    jr_index_clear(r->index, member);
    jr_index_drop_member(r->index, member);
    while (r->present.v[at] != member)
        at++;
    r->present.v[at] = r->present.v[r->present.n - 1];
    r->present.n--;
    jr_members_unref(&r->members, member);
    return 0;
}

int jetrouter_stored(struct jetrouter *r, struct jetrouter_worker worker, const uint64_t *parent,
                     const struct jetrouter_block *blocks, uint32_t n)
{
    uint32_t member = member_of(r, worker);

    if (member == JR_MEMBER_NONE)
        return JR_ENOTFOUND;
    return jr_index_store(r->index, member, parent != NULL, parent ? *parent : 0,
                          (const struct jr_kv_block *)blocks, n);
}

int jetrouter_removed(struct jetrouter *r, struct jetrouter_worker worker,
                      const uint64_t *block_hashes, uint32_t n)
{
    uint32_t member = member_of(r, worker);

    if (member == JR_MEMBER_NONE)
        return JR_ENOTFOUND;
    (void)jr_index_remove(r->index, member, block_hashes, n);
    return 0;
}

int jetrouter_cleared(struct jetrouter *r, struct jetrouter_worker worker)
{
    uint32_t member = member_of(r, worker);

    if (member == JR_MEMBER_NONE)
        return JR_ENOTFOUND;
    jr_index_clear(r->index, member);
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Prefix hashes of the prompt into r->prefix. */
static int hash_request(struct jetrouter *r, const struct jetrouter_request *request)
{
    uint32_t n = request->n_tokens / r->block_size;
    int rv;

    r->prefix.n = 0;
    rv = jr_arr_reserve(&r->mem, &r->prefix, n, JR_PROMPT_BLOCKS_MAX);
    if (rv < 0)
        return rv;
    struct jr_hash_salt salt = salt_of(request);
    r->prefix.n =
        jr_hash_prompt(&salt, request->tokens, request->n_tokens, r->block_size, r->prefix.v);
    return 0;
}

static struct jr_candidate candidate_of(const struct jetrouter *r, uint32_t member, uint64_t now_ms)
{
    const struct jr_member *m = &r->members.v[member];
    struct jr_active_load load;
    uint32_t live = jr_active_match(r->active, member, r->prefix.v, r->prefix.n);

    jr_active_load(r->active, member, now_ms, jr_speed_factor(&r->speed), &load);
    return (struct jr_candidate){
        .member = member,
        .worker_id = m->worker_id,
        .dp_rank = m->dp_rank,
        .indexed_blocks = jr_index_member_entries(r->index, member),
        .overlap_blocks = jr_index_match_blocks(&r->match, member),
        .live_blocks = live,
        .prefill_tokens = load.prefill_tokens,
        .active_blocks = load.active_blocks,
        .new_blocks = r->prefix.n - live,
        .requests = load.requests,
        .decoding = load.decoding,
        .backlog_s = load.backlog_s,
    };
}

static int gather(struct jetrouter *r, const struct jetrouter_request *request, uint64_t now_ms)
{
    int rv = hash_request(r, request);

    if (rv == 0)
        rv = jr_index_match(r->index, r->prefix.v, r->prefix.n, &r->match);
    r->candidates.n = 0;
    if (rv == 0)
        rv = jr_arr_reserve(&r->mem, &r->candidates, r->present.n, JR_WORKERS_MAX);
    if (rv < 0)
        return rv;
    for (uint32_t i = 0; i < r->present.n; i++)
        r->candidates.v[r->candidates.n++] = candidate_of(r, r->present.v[i], now_ms);
    return 0;
}

int jetrouter_query(struct jetrouter *r, const struct jetrouter_request *request,
                    struct jetrouter_overlap *ret, uint32_t max)
{
    int rv = hash_request(r, request);

    if (rv == 0)
        rv = jr_index_match(r->index, r->prefix.v, r->prefix.n, &r->match);
    if (rv < 0)
        return rv;
    for (uint32_t i = 0; i < r->match.n && i < max; i++) {
        const struct jr_member *m = &r->members.v[r->match.v[i].member];
        ret[i].worker = (struct jetrouter_worker){m->worker_id, m->dp_rank};
        ret[i].blocks = r->match.v[i].blocks;
    }
    return (int)r->match.n;
}

int jetrouter_select(struct jetrouter *r, const struct jetrouter_request *request, uint64_t now_ms,
                     struct jetrouter_choice *ret)
{
    struct jr_cost_request size = {.isl_tokens = request->n_tokens, .block_size = r->block_size};
    struct jr_select_config config = {.tie = JR_TIE_HASH};
    const struct jr_candidate *best;
    uint64_t last;
    uint32_t at;
    int rv;

    rv = gather(r, request, now_ms);
    if (rv < 0)
        return rv;
    last = r->prefix.n > 0 ? r->prefix.v[r->prefix.n - 1] : 0;
    jr_cost_eval(&r->cost, &size, jr_speed_factor(&r->speed), r->candidates.v, r->candidates.n);
    rv = jr_select_cost(&config, r->candidates.v, r->candidates.n, last, NULL, &at);
    if (rv < 0)
        return rv;
    best = &r->candidates.v[at];
    *ret = (struct jetrouter_choice){
        .worker = {best->worker_id, best->dp_rank},
        .overlap_blocks = best->overlap_blocks,
        .cached_blocks = best->cached_blocks,
        .uncached_tokens = best->uncached_tokens,
        .cost = best->cost,
        .prefill_s = best->prefill_s,
    };
    return 0;
}

int jetrouter_book(struct jetrouter *r, uint64_t key, const struct jetrouter_request *request,
                   const struct jetrouter_choice *choice, uint64_t now_ms)
{
    uint64_t cached = (uint64_t)choice->cached_blocks * r->block_size;
    struct jr_active_booking b = {.key = key, .prefill_tokens = choice->uncached_tokens};
    int rv = hash_request(r, request);

    if (rv < 0)
        return rv;
    if (member_of(r, choice->worker) == JR_MEMBER_NONE)
        return JR_ENOTFOUND;
    rv = jr_members_ref(&r->members, choice->worker.id, choice->worker.dp_rank, &b.member);
    if (rv < 0)
        return rv;
    b.prefix_hashes = r->prefix.v;
    b.n = r->prefix.n;
    b.prefill_seconds = jr_cost_prefill_s(&r->cost, choice->uncached_tokens, cached);
    rv = jr_active_add(r->active, &b, now_ms);
    if (rv < 0)
        jr_members_unref(&r->members, b.member);
    return rv;
}

int jetrouter_first_token(struct jetrouter *r, uint64_t key, uint64_t now_ms)
{
    struct jr_active_sample sample;
    int rv = jr_active_first_token(r->active, key, now_ms, &sample);

    if (rv == 0 && sample.valid)
        jr_speed_add(&r->speed, sample.estimated_s, sample.taken_s);
    return rv;
}

int jetrouter_free(struct jetrouter *r, uint64_t key, uint64_t now_ms)
{
    uint32_t member;
    bool decoding;

    if (!jr_active_get(r->active, key, &member, &decoding))
        return JR_ENOTFOUND;
    (void)jr_active_free(r->active, key, now_ms);
    jr_members_unref(&r->members, member);
    return 0;
}

void jetrouter_stats(const struct jetrouter *r, struct jetrouter_stats *ret)
{
    *ret = (struct jetrouter_stats){
        .entries = jr_index_entries(r->index),
        .blocks = jr_index_blocks(r->index),
        .digest = jr_index_digest(r->index),
        .bytes = r->mem.bytes,
        .workers = r->present.n,
        .requests = jr_active_requests(r->active),
    };
}

/* ---- export and import ----------------------------------------------------------------------- */

/* Little-endian, in this order; `worker` is the place of a worker among the workers.
 *
 *     "JRINDEX1" | block size u32 | workers u32 | entries u64 | digest u64
 *     workers:  id u64 | dp rank u32
 *     entries:  block hash u64 | prefix hash u64 | worker u32 */
static const char magic[8] = {'J', 'R', 'I', 'N', 'D', 'E', 'X', '1'}; /* no text: no NUL */
#define MAGIC_BYTES  sizeof magic
#define HEADER_BYTES 32
#define WORKER_BYTES 12
#define ENTRY_BYTES  20
#define EXPORT_RUN   64

static uint8_t *put(uint8_t *p, uint64_t value, unsigned n_bytes)
{
    for (unsigned i = 0; i < n_bytes; i++)
        p[i] = (uint8_t)(value >> (8 * i));
    return p + n_bytes;
}

static uint64_t get(const uint8_t *p, unsigned n_bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < n_bytes; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static void write_entries(const struct jetrouter *r, const uint32_t *place, uint8_t *p)
{
    struct jr_image_entry run[EXPORT_RUN];
    struct jr_index_cursor cursor = {0};
    uint32_t n;

    while ((n = jr_index_export(r->index, &cursor, run, EXPORT_RUN)) > 0) {
        for (uint32_t i = 0; i < n; i++) {
            p = put(p, run[i].block_hash, 8);
            p = put(p, run[i].prefix_hash, 8);
            p = put(p, place[run[i].rank], 4);
        }
    }
}

int jetrouter_export(struct jetrouter *r, void *buffer, size_t size, size_t *ret_size)
{
    uint64_t entries = jr_index_entries(r->index);
    size_t bytes = r->members.n * sizeof(uint32_t);
    uint8_t *p = buffer;
    uint32_t *place;

    *ret_size = HEADER_BYTES + (size_t)r->present.n * WORKER_BYTES + (size_t)entries * ENTRY_BYTES;
    if (size < *ret_size)
        return JR_ELIMIT;
    place = jr_mem_alloc(&r->mem, bytes > 0 ? bytes : 1);
    if (!place)
        return JR_ENOMEM;
    memcpy(p, magic, MAGIC_BYTES);
    p = put(p + MAGIC_BYTES, r->block_size, 4);
    p = put(p, r->present.n, 4);
    p = put(p, entries, 8);
    p = put(p, jr_index_digest(r->index), 8);
    for (uint32_t i = 0; i < r->present.n; i++) {
        const struct jr_member *m = &r->members.v[r->present.v[i]];
        place[r->present.v[i]] = i;
        p = put(p, m->worker_id, 8);
        p = put(p, m->dp_rank, 4);
    }
    write_entries(r, place, p);
    jr_mem_free(&r->mem, place, bytes > 0 ? bytes : 1);
    return 0;
}

struct import {
    uint32_t n_workers;
    uint64_t n_entries, digest;
    const uint8_t *workers, *entries;
};

static int read_header(const struct jetrouter *r, const void *bytes, size_t size,
                       struct import *ret)
{
    const uint8_t *p = bytes;
    size_t left;

    if (size < HEADER_BYTES || memcmp(p, magic, MAGIC_BYTES) != 0)
        return JR_EPROTO;
    if (get(p + 8, 4) != r->block_size)
        return JR_EINVAL;
    ret->n_workers = (uint32_t)get(p + 12, 4);
    ret->n_entries = get(p + 16, 8);
    ret->digest = get(p + 24, 8);
    left = size - HEADER_BYTES;
    if (left / WORKER_BYTES < ret->n_workers)
        return JR_EPROTO;
    left -= (size_t)ret->n_workers * WORKER_BYTES;
    if (left % ENTRY_BYTES != 0 || left / ENTRY_BYTES != ret->n_entries)
        return JR_EPROTO;
    if (r->entries_max > 0 && ret->n_entries > r->entries_max)
        return JR_ELIMIT;
    ret->workers = p + HEADER_BYTES;
    ret->entries = ret->workers + (size_t)ret->n_workers * WORKER_BYTES;
    return 0;
}

static struct jetrouter_worker worker_at(const struct import *im, uint32_t place)
{
    const uint8_t *p = im->workers + (size_t)place * WORKER_BYTES;

    return (struct jetrouter_worker){get(p, 8), (uint32_t)get(p + 8, 4)};
}

static int fill_index(const struct jetrouter *r, const struct import *im, struct jr_index *index)
{
    int rv = 0;

    for (uint32_t i = 0; rv == 0 && i < r->present.n; i++) {
        const struct jr_member *m = &r->members.v[r->present.v[i]];
        rv = jr_index_add_member(index, r->present.v[i], m->worker_id, m->dp_rank);
    }
    for (uint64_t i = 0; rv == 0 && i < im->n_entries; i++) {
        const uint8_t *p = im->entries + i * ENTRY_BYTES;
        uint32_t place = (uint32_t)get(p + 16, 4);
        if (place >= im->n_workers)
            return JR_EPROTO;
        rv = jr_index_restore(index, member_of(r, worker_at(im, place)), get(p, 8), get(p + 8, 8));
    }
    if (rv == 0 &&
        (jr_index_entries(index) != im->n_entries || jr_index_digest(index) != im->digest))
        return JR_EPROTO;
    return rv;
}

int jetrouter_import(struct jetrouter *r, const void *bytes, size_t size)
{
    struct import im;
    struct jr_index *fresh = NULL;
    uint32_t n_before = r->present.n;
    int rv = read_header(r, bytes, size, &im);

    if (rv < 0)
        return rv;
    for (uint32_t i = 0; rv == 0 && i < im.n_workers; i++) {
        rv = jetrouter_worker_add(r, worker_at(&im, i));
        if (rv == JR_EEXIST)
            rv = 0;
    }
    if (rv == 0)
        rv = jr_index_create(&r->mem, r->entries_max, &fresh);
    if (rv == 0)
        rv = fill_index(r, &im, fresh);
    if (rv < 0) {
        jr_index_destroy(fresh);
        while (r->present.n > n_before) {
            const struct jr_member *m = &r->members.v[r->present.v[r->present.n - 1]];
            (void)jetrouter_worker_remove(r, (struct jetrouter_worker){m->worker_id, m->dp_rank});
        }
        return rv;
    }
    jr_index_destroy(r->index);
    r->index = fresh;
    return 0;
}
