/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/engine.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "core/hash.h"
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct jr_engine_seq {
    struct jr_list node; /* in waiting */
    void *user;
    uint32_t *tokens;   /* prompt, then output */
    uint64_t *hashes;   /* of the full blocks of tokens */
    uint64_t *prefixes; /* of the same, as routers name them */
    uint32_t *blocks;   /* block table */
    uint32_t n_tokens, cap_tokens;
    uint32_t n_hashes, cap_hashes;
    uint32_t n_blocks, cap_blocks;
    uint32_t n_prompt, n_output, max_tokens;
    uint32_t n_computed;   /* tokens whose KV is there once the step under way has ended */
    uint32_t n_registered; /* blocks known to the cache under their hash */
    uint32_t n_cached;     /* found at the first admission */
    bool admitted;         /* once; n_cached stands */
    bool running;
    bool scheduled; /* in the step under way */
    bool cancelled; /* to be dropped at the end of the step */
    uint64_t seen;  /* of all tokens; makes the next one */
    char *salt, *lora;
    uint32_t n_salt, n_lora;
};

struct jr_engine {
    struct jr_engine_config config;
    struct jr_paged_cache *cache;
    struct jr_list waiting;
    struct jr_engine_seq **running; /* oldest first; max_num_seqs */
    struct jr_engine_output *outputs;
    uint32_t *hits; /* scratch: blocks found for a prompt */
    int64_t *kept;  /* by block: until when it is kept, 0: it is not; NULL before the first */
    uint32_t n_kept;
    int64_t kept_end_ns; /* no block's time is over before */
    bool stepping;
    int64_t ready_ns; /* when the next step may start */
    struct jr_engine_step step;
    struct jr_engine_stats stats;
};

/* What a step costs, summed up while it is scheduled. */
struct batch {
    uint32_t budget;
    uint32_t scheduled;
    uint32_t prefill_tokens;
    uint32_t decodes;
    double attention; /* Σ prompt tokens · context */
    double kv_tokens;
};

void jr_engine_config_init(struct jr_engine_config *config)
{
    *config = (struct jr_engine_config){
        .block_size = 64,
        .num_gpu_blocks = 16384,
        .max_num_seqs = 256,
        .max_num_batched_tokens = 8192,
        .speedup_ratio = 1.0,
        .hash_seed = UINT64_C(0x766c6c6d2d6b7631),
        .output_token_first = 1000,
        .output_tokens = 10000,
        .timing = {.base_s = 12e-3,
                   .prefill_s = 1e-4,
                   .attention_s = 7.5e-10,
                   .decode_s = 1e-4,
                   .kv_s = 2.5e-8},
    };
}

struct jr_engine *jr_engine_create(const struct jr_engine_config *config)
{
    JR_ASSERT(config->block_size > 0 && config->num_gpu_blocks >= 2 && config->max_num_seqs > 0);
    JR_ASSERT(config->max_num_batched_tokens > 0 && config->speedup_ratio >= 0);
    JR_ASSERT(config->output_tokens > 0);
    struct jr_engine *e = jr_xalloc(sizeof *e);
    e->config = *config;
    e->cache = jr_paged_cache_create(config->num_gpu_blocks, config->block_size);
    jr_list_init(&e->waiting);
    e->running = jr_xalloc(config->max_num_seqs * sizeof *e->running);
    e->outputs = jr_xalloc(config->max_num_seqs * sizeof *e->outputs);
    e->hits = jr_xalloc(config->num_gpu_blocks * sizeof *e->hits);
    e->stats.blocks_total = jr_paged_cache_total(e->cache);
    return e;
}

static void seq_destroy(struct jr_engine_seq *s)
{
    jr_xfree(s->tokens);
    jr_xfree(s->hashes);
    jr_xfree(s->prefixes);
    jr_xfree(s->blocks);
    jr_xfree(s->salt);
    jr_xfree(s->lora);
    jr_xfree(s);
}

void jr_engine_destroy(struct jr_engine *e)
{
    if (e == NULL)
        return;
    struct jr_list *node;
    while ((node = jr_list_pop_front(&e->waiting)) != NULL)
        seq_destroy(JR_CONTAINER_OF(node, struct jr_engine_seq, node));
    for (uint32_t i = 0; i < e->stats.running; i++)
        seq_destroy(e->running[i]);
    jr_paged_cache_destroy(e->cache);
    jr_xfree(e->running);
    jr_xfree(e->outputs);
    jr_xfree(e->hits);
    jr_xfree(e->kept);
    jr_xfree(e);
}

uint64_t jr_engine_capacity(const struct jr_engine *e)
{
    return (uint64_t)jr_paged_cache_total(e->cache) * e->config.block_size;
}

/* ---- one request ---------------------------------------------------------- */

static void *grown(void *v, uint32_t *cap, uint32_t need, size_t elem)
{
    if (need <= *cap)
        return v;
    uint32_t to = *cap < 8 ? 8 : *cap;
    while (to < need)
        to += to / 2;
    *cap = to;
    return jr_xrealloc(v, (size_t)to * elem);
}

/* Hash of the block after `parent`: opaque to everyone else, and never the router's own, which has a
 * fixed seed and no parent. The root's parent is the hash of salt and adapter. */
static uint64_t block_hash(const struct jr_engine *e, uint64_t parent, const uint32_t *tokens)
{
    return XXH3_64bits_withSeed(tokens, e->config.block_size * sizeof *tokens,
                                jr_mix64(parent ^ e->config.hash_seed));
}

static uint64_t root_hash(const struct jr_engine *e, const struct jr_engine_seq *s)
{
    uint64_t adapter = s->n_lora ? XXH3_64bits_withSeed(s->lora, s->n_lora, 1) : 0;
    return XXH3_64bits_withSeed(s->salt, s->n_salt, e->config.hash_seed) ^ adapter;
}

/* The name of block i, whose tokens these are, after the block before it. */
static uint64_t prefix_hash(const struct jr_engine *e, const struct jr_engine_seq *s, uint32_t i,
                            const uint32_t *tokens)
{
    const struct jr_hash_salt salt = {.lora = jr_str_of(s->lora, s->n_lora),
                                      .cache_salt = jr_str_of(s->salt, s->n_salt)};
    uint64_t local;
    (void)jr_hash_local(&salt, tokens, e->config.block_size, e->config.block_size, &local);
    return i == 0 ? local : jr_hash_chain(s->prefixes[i - 1], local);
}

static void seq_hash(const struct jr_engine *e, struct jr_engine_seq *s)
{
    uint32_t full = s->n_tokens / e->config.block_size, cap = s->cap_hashes;
    s->prefixes = grown(s->prefixes, &cap, full, sizeof *s->prefixes);
    s->hashes = grown(s->hashes, &s->cap_hashes, full, sizeof *s->hashes);
    for (uint32_t i = s->n_hashes; i < full; i++) {
        uint64_t parent = i == 0 ? root_hash(e, s) : s->hashes[i - 1];
        const uint32_t *tokens = s->tokens + (size_t)i * e->config.block_size;
        s->hashes[i] = block_hash(e, parent, tokens);
        s->prefixes[i] = prefix_hash(e, s, i, tokens);
    }
    s->n_hashes = full;
}

/* As of a model's, a token depends on all before it: who goes on with what another engine began gets
 * the same answer. */
static uint64_t see(uint64_t seen, uint32_t token)
{
    seen = (seen ^ token) * UINT64_C(0x9e3779b97f4a7c15);
    return seen ^ seen >> 29;
}

static struct jr_engine_seq *seq_create(const struct jr_engine *e,
                                        const struct jr_engine_request *req)
{
    struct jr_engine_seq *s = jr_xalloc(sizeof *s);
    jr_list_init(&s->node);
    s->user = req->user;
    s->salt = jr_xstrndup(req->salt == NULL ? "" : req->salt, req->n_salt);
    s->n_salt = req->n_salt;
    s->lora = jr_xstrndup(req->lora == NULL ? "" : req->lora, req->n_lora);
    s->n_lora = req->n_lora;
    s->n_prompt = s->n_tokens = req->n_tokens;
    s->max_tokens = req->max_tokens;
    s->tokens = grown(NULL, &s->cap_tokens, s->n_tokens + 1, sizeof *s->tokens);
    memcpy(s->tokens, req->tokens, s->n_tokens * sizeof *s->tokens);
    for (uint32_t i = 0; i < s->n_tokens; i++)
        s->seen = see(s->seen, s->tokens[i]);
    seq_hash(e, s);
    return s;
}

int jr_engine_submit(struct jr_engine *e, int64_t now_ns, const struct jr_engine_request *req,
                     struct jr_engine_seq **ret)
{
    if (req->n_tokens == 0 || req->max_tokens == 0)
        return JR_EINVAL;
    if ((uint64_t)req->n_tokens + req->max_tokens > jr_engine_capacity(e))
        return JR_ELIMIT;
    struct jr_engine_seq *s = seq_create(e, req);
    if (jr_engine_due_ns(e) == JR_ENGINE_IDLE && now_ns > e->ready_ns)
        e->ready_ns = now_ns;
    jr_list_push_back(&e->waiting, &s->node);
    e->stats.waiting++;
    *ret = s;
    return 0;
}

/* Tail first, so that it is evicted first. */
static void seq_free_blocks(struct jr_engine *e, struct jr_engine_seq *s)
{
    while (s->n_blocks > 0)
        jr_paged_cache_release(e->cache, s->blocks[--s->n_blocks]);
    s->n_registered = s->n_computed = 0;
}

/* Leaves the running set; the order of the others stays. */
static void running_remove(struct jr_engine *e, const struct jr_engine_seq *s)
{
    uint32_t i = 0;
    while (e->running[i] != s)
        i++;
    e->stats.running--;
    memmove(e->running + i, e->running + i + 1, (e->stats.running - i) * sizeof *e->running);
}

void jr_engine_cancel(struct jr_engine *e, struct jr_engine_seq *seq)
{
    JR_ASSERT(!seq->cancelled);
    e->stats.aborted++;
    if (seq->scheduled) {
        seq->cancelled = true;
        return;
    }
    if (seq->running) {
        running_remove(e, seq);
    } else {
        jr_list_remove(&seq->node);
        e->stats.waiting--;
    }
    seq_free_blocks(e, seq);
    seq_destroy(seq);
}

/* ---- what is kept ------------------------------------------------------------- */

/* Ends what is over by now_ns: INT64_MAX, all. */
static void end_kept(struct jr_engine *e, int64_t now_ns)
{
    if (e->n_kept == 0 || now_ns < e->kept_end_ns)
        return;
    e->kept_end_ns = INT64_MAX;
    for (uint32_t i = jr_paged_cache_total(e->cache); i > 0; i--) {
        if (e->kept[i] != 0 && e->kept[i] <= now_ns) {
            e->kept[i] = 0;
            e->n_kept--;
            jr_paged_cache_release(e->cache, i);
        } else if (e->kept[i] != 0 && e->kept[i] < e->kept_end_ns) {
            e->kept_end_ns = e->kept[i];
        }
    }
}

static void keep(struct jr_engine *e, uint32_t block, int64_t until_ns)
{
    if (e->kept[block] == 0) {
        jr_paged_cache_touch(e->cache, block);
        e->n_kept++;
    }
    if (e->kept[block] < until_ns)
        e->kept[block] = until_ns;
    if (e->kept_end_ns > until_ns)
        e->kept_end_ns = until_ns;
}

uint32_t jr_engine_hold(struct jr_engine *e, int64_t now_ns, int64_t until_ns,
                        const struct jr_engine_request *req)
{
    uint32_t total = jr_paged_cache_total(e->cache), n = 0;
    struct jr_engine_seq *s = seq_create(e, req);
    if (e->kept == NULL) {
        e->kept = jr_xalloc((total + 1) * sizeof *e->kept);
        e->kept_end_ns = INT64_MAX;
    }
    end_kept(e, now_ns);
    for (; n < s->n_hashes; n++) {
        uint32_t block = jr_paged_cache_find(e->cache, s->hashes[n]);
        if (block == 0 || (e->kept[block] == 0 && e->n_kept >= total / 2))
            break;
        keep(e, block, until_ns);
    }
    seq_destroy(s);
    return n;
}

/* ---- scheduling ------------------------------------------------------------- */

/* How many blocks of the prompt the cache holds, into e->hits. The last token is always computed
 * again, since its output is what the request is for: of a prompt that is cached as a whole, the
 * last block is. */
static uint32_t find_hits(struct jr_engine *e, const struct jr_engine_seq *s)
{
    uint32_t max = (s->n_tokens - 1) / e->config.block_size, n = 0;
    while (n < max && (e->hits[n] = jr_paged_cache_find(e->cache, s->hashes[n])) != 0)
        n++;
    return n;
}

/* Blocks for `take` tokens behind n_computed, of which the n_hits first are found in e->hits.
 * Nothing changes when they are not there. */
static bool take_blocks(struct jr_engine *e, struct jr_engine_seq *s, uint32_t n_hits,
                        uint32_t take)
{
    uint32_t bs = e->config.block_size;
    uint32_t end = (s->n_computed + n_hits * bs + take + bs - 1) / bs;
    uint32_t held = s->n_blocks + n_hits;
    uint32_t more = end > held ? end - held : 0, wanted = more;
    for (uint32_t i = 0; i < n_hits; i++)
        wanted += jr_paged_cache_refs(e->cache, e->hits[i]) == 0;
    if (wanted > jr_paged_cache_free(e->cache))
        return false;
    s->blocks = grown(s->blocks, &s->cap_blocks, held + more, sizeof *s->blocks);
    for (uint32_t i = 0; i < n_hits; i++) {
        jr_paged_cache_touch(e->cache, e->hits[i]);
        s->blocks[s->n_blocks++] = e->hits[i];
    }
    s->n_registered += n_hits;
    s->n_computed += n_hits * bs;
    for (uint32_t i = 0; i < more; i++)
        s->blocks[s->n_blocks++] = jr_paged_cache_take(e->cache);
    return true;
}

/* Puts the blocks that are full now under their hashes. */
static void register_full(struct jr_engine *e, struct jr_engine_seq *s)
{
    uint32_t bs = e->config.block_size, at = s->n_registered;
    uint32_t full = s->n_computed / bs;
    struct jr_cache_run run = {
        .has_parent = at > 0,
        .parent_hash = at > 0 ? s->hashes[at - 1] : 0,
        .blocks = s->blocks + at,
        .hashes = s->hashes + at,
        .prefixes = s->prefixes + at,
        .tokens = s->tokens + (size_t)at * bs,
        .n = full - at,
        .salt = s->salt,
        .n_salt = s->n_salt,
        .lora = s->lora,
        .n_lora = s->n_lora,
    };
    if (run.n == 0)
        return;
    jr_paged_cache_store(e->cache, &run);
    s->n_registered = full;
}

static void schedule(struct jr_engine *e, struct batch *b, struct jr_engine_seq *s, uint32_t take)
{
    bool decodes = s->n_output > 0 && s->n_tokens - s->n_computed == 1;
    if (decodes) {
        b->decodes++;
        b->kv_tokens += s->n_computed;
    } else {
        b->prefill_tokens += take;
        b->attention += (double)take * ((double)s->n_computed + 0.5 * (double)take);
        b->kv_tokens += (double)s->n_computed + (double)take;
    }
    s->n_computed += take;
    s->scheduled = true;
    b->budget -= take;
    b->scheduled++;
    register_full(e, s);
}

static uint32_t next_take(const struct batch *b, const struct jr_engine_seq *s, uint32_t computed)
{
    uint32_t left = s->n_tokens - computed;
    return left < b->budget ? left : b->budget;
}

/* The youngest running request gives its blocks back and waits, before all others, to compute
 * again what its blocks may no longer hold. */
static struct jr_engine_seq *preempt(struct jr_engine *e)
{
    struct jr_engine_seq *s = e->running[--e->stats.running];
    JR_ASSERT(!s->scheduled);
    s->running = false;
    seq_free_blocks(e, s);
    jr_list_push_front(&e->waiting, &s->node);
    e->stats.waiting++;
    e->stats.preemptions++;
    return s;
}

/* Running requests, oldest first. A prompt in chunks is always the youngest of them, since it used up
 * the budget when it was admitted: so decodes come before prompts. True when all had room. */
static bool schedule_running(struct jr_engine *e, struct batch *b)
{
    bool room = true;
    for (uint32_t i = 0; i < e->stats.running && b->budget > 0; i++) {
        struct jr_engine_seq *s = e->running[i];
        uint32_t take = next_take(b, s, s->n_computed);
        while (!take_blocks(e, s, 0, take)) {
            room = false;
            if (preempt(e) == s)
                return room;
        }
        schedule(e, b, s, take);
    }
    return room;
}

static void schedule_waiting(struct jr_engine *e, struct batch *b)
{
    uint32_t bs = e->config.block_size;
    while (!jr_list_empty(&e->waiting) && b->budget > 0 &&
           e->stats.running < e->config.max_num_seqs) {
        struct jr_engine_seq *s = JR_CONTAINER_OF(e->waiting.next, struct jr_engine_seq, node);
        uint32_t hits = find_hits(e, s);
        uint32_t take = next_take(b, s, hits * bs);
        if (!take_blocks(e, s, hits, take))
            return;
        jr_list_remove(&s->node);
        e->stats.waiting--;
        e->running[e->stats.running++] = s;
        s->running = true;
        if (!s->admitted) {
            s->admitted = true;
            s->n_cached = hits * bs;
            e->stats.prefix_queries += s->n_tokens;
            e->stats.prefix_hits += s->n_cached;
        }
        schedule(e, b, s, take);
    }
}

static int64_t step_ns(const struct jr_engine *e, const struct batch *b)
{
    const struct jr_engine_timing *t = &e->config.timing;
    double s = t->base_s + t->prefill_s * b->prefill_tokens + t->attention_s * b->attention +
               t->decode_s * b->decodes + t->kv_s * b->kv_tokens;
    return e->config.speedup_ratio > 0 ? (int64_t)(s * 1e9 / e->config.speedup_ratio + 0.5) : 0;
}

static void schedule_all(struct jr_engine *e, struct batch *b)
{
    *b = (struct batch){.budget = e->config.max_num_batched_tokens};
    if (schedule_running(e, b))
        schedule_waiting(e, b);
}

static void start_step(struct jr_engine *e)
{
    struct batch b;
    end_kept(e, e->ready_ns);
    schedule_all(e, &b);
    if (b.scheduled == 0) { /* what is kept is in the way */
        end_kept(e, INT64_MAX);
        schedule_all(e, &b);
    }
    /* A request alone always fits (jr_engine_submit saw to it). */
    JR_ASSERT(b.scheduled > 0);
    e->stepping = true;
    e->step = (struct jr_engine_step){.start_ns = e->ready_ns,
                                      .end_ns = e->ready_ns + step_ns(e, &b),
                                      .prefill_tokens = b.prefill_tokens,
                                      .decodes = b.decodes};
}

/* ---- the end of a step -------------------------------------------------------- */

/* The next token of a request whose tokens are all computed. True when it was the last. */
static bool produce(struct jr_engine *e, struct jr_engine_seq *s)
{
    uint32_t index = s->n_output++;
    uint64_t r = jr_mix64(s->seen) % e->config.output_tokens;
    uint32_t token = e->config.output_token_first + (uint32_t)r;
    s->tokens = grown(s->tokens, &s->cap_tokens, s->n_tokens + 1, sizeof *s->tokens);
    s->tokens[s->n_tokens++] = token;
    s->seen = see(s->seen, token);
    seq_hash(e, s);
    bool finished = s->n_output == s->max_tokens;
    e->outputs[e->step.n_outputs++] = (struct jr_engine_output){.user = s->user,
                                                                .token = token,
                                                                .index = index,
                                                                .cached_tokens = s->n_cached,
                                                                .finished = finished};
    e->stats.generation_tokens++;
    if (index == 0)
        e->stats.prompt_tokens += s->n_prompt;
    return finished;
}

static void end_step(struct jr_engine *e)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->stats.running; i++) {
        struct jr_engine_seq *s = e->running[i];
        bool gone = s->cancelled;
        if (!gone && s->scheduled && s->n_computed == s->n_tokens) {
            gone = produce(e, s);
            e->stats.finished += gone;
        }
        s->scheduled = false;
        if (gone) {
            seq_free_blocks(e, s);
            seq_destroy(s);
        } else {
            e->running[kept++] = s;
        }
    }
    e->stats.running = kept;
    e->stats.steps++;
    e->stepping = false;
    e->ready_ns = e->step.end_ns;
    e->step.outputs = e->outputs;
    jr_paged_cache_take_log(e->cache, &e->step.kv);
}

int64_t jr_engine_due_ns(const struct jr_engine *e)
{
    if (e->stepping)
        return e->step.end_ns;
    return e->stats.running > 0 || !jr_list_empty(&e->waiting) ? e->ready_ns : JR_ENGINE_IDLE;
}

bool jr_engine_step(struct jr_engine *e, int64_t now_ns, struct jr_engine_step *ret)
{
    if (jr_engine_due_ns(e) > now_ns)
        return false;
    if (!e->stepping) {
        start_step(e);
        return false;
    }
    end_step(e);
    *ret = e->step;
    return true;
}

void jr_engine_set_speedup(struct jr_engine *e, double ratio)
{
    JR_ASSERT(ratio >= 0);
    e->config.speedup_ratio = ratio;
}

bool jr_engine_reset_cache(struct jr_engine *e, struct jr_cache_log *ret)
{
    if (e->stepping)
        return false;
    end_kept(e, INT64_MAX);
    if (!jr_paged_cache_reset(e->cache))
        return false;
    jr_paged_cache_take_log(e->cache, ret);
    return true;
}

void jr_engine_stats(const struct jr_engine *e, struct jr_engine_stats *ret)
{
    *ret = e->stats;
    ret->blocks_used = e->stats.blocks_total - jr_paged_cache_free(e->cache);
    ret->blocks_kept = e->n_kept;
}

const struct jr_paged_cache *jr_engine_cache(const struct jr_engine *e)
{
    return e->cache;
}

const char *jr_engine_check(const struct jr_engine *e)
{
    const char *wrong = jr_paged_cache_check(e->cache);
    if (wrong != NULL)
        return wrong;
    uint64_t refs = 0, tables = 0;
    for (uint32_t i = 1; i <= jr_paged_cache_total(e->cache); i++)
        refs += jr_paged_cache_refs(e->cache, i);
    for (uint32_t i = 0; i < e->stats.running; i++) {
        const struct jr_engine_seq *s = e->running[i];
        tables += s->n_blocks;
        if (s->n_blocks * (uint64_t)e->config.block_size < s->n_computed)
            return "computed tokens without a block";
        if (s->n_registered != s->n_computed / e->config.block_size)
            return "full block not registered";
    }
    return refs == tables + e->n_kept ? NULL : "references are not the block tables' and kept ones";
}
