/* SPDX-License-Identifier: Apache-2.0 */
/* api: the embeddable library over the leaf modules of the core (jetrouter/jetrouter.h). */
#include "jetrouter/jetrouter.h"
#include "base/arr.h"
#include "base/limits.h"
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
    uint32_t block_size;
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
    r->block_size = options->block_size;
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

uint32_t jetrouter_hash_tokens(const struct jetrouter *r, const struct jetrouter_request *request,
                               uint64_t *ret)
{
    struct jr_hash_salt salt = {.lora = str_of(request->lora),
                                .cache_salt = str_of(request->cache_salt)};
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
    r->prefix.n = jetrouter_hash_tokens(r, request, r->prefix.v);
    jr_hash_prefix(r->prefix.v, r->prefix.n, r->prefix.v);
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

int jetrouter_best_worker(struct jetrouter *r, const struct jetrouter_request *request,
                          uint64_t now_ms, struct jetrouter_choice *ret)
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

int jetrouter_request_begin(struct jetrouter *r, uint64_t key,
                            const struct jetrouter_request *request,
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

int jetrouter_request_first_token(struct jetrouter *r, uint64_t key, uint64_t now_ms)
{
    struct jr_active_sample sample;
    int rv = jr_active_first_token(r->active, key, now_ms, &sample);

    if (rv == 0 && sample.valid)
        jr_speed_add(&r->speed, sample.estimated_s, sample.taken_s);
    return rv;
}

int jetrouter_request_done(struct jetrouter *r, uint64_t key, uint64_t now_ms)
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
