/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: the prompt's tokens and block hashes: of the body, out of the tokenizer's cache, or asked of
 * a worker when it came as text.
 *
 * A request with several prompts is one decision. It is matched by the first prompt: prompts of one
 * batch mostly share what is before them, and a choice by the longest would have to tokenize all. The
 * tokens of all of them are its load; of texts, those of the others are estimated by their bytes. */
#include "app/frontend/proxy_internal.h"
#include "app/frontend/proxy_spans.h"

#include <string.h>

#define TOKEN_BYTES 4 /* of text, about: what a run of bytes stands for when nobody tokenizes */
/* Added to the seed, so that bytes never look like the tokens of a block. */
#define TEXT_SALT UINT64_C(0x74786574)

static uint32_t tokens_of_all(const struct jr_proxied *x, uint32_t first)
{
    double n = x->first_share > 0 ? (double)first / x->first_share : first;
    return n < UINT32_MAX ? (uint32_t)(n + 0.5) : UINT32_MAX;
}

/* The other modes have no use for hashes. 0: the prompt has no whole block. */
static uint32_t block_size_of(const struct jr_proxied *x, uint32_t n)
{
    uint32_t block_size = jr_decide_block_size(x);
    return x->f->mode == JR_MODE_KV && n >= block_size ? block_size : 0;
}

static void hash(struct jr_proxied *x, const struct jr_hash_salt *salt, const uint32_t *ids,
                 uint32_t n)
{
    uint32_t block_size = block_size_of(x, n);
    if (!block_size)
        return;
    x->prefix = jr_xalloc((n / block_size) * sizeof *x->prefix);
    uint64_t before = jr_loop_now_ns();
    x->n_prefix = jr_hash_prompt(salt, ids, n, block_size, x->prefix);
    x->hash_ns = jr_loop_now_ns() - before;
}

static void hash_found(struct jr_proxied *x, const struct jr_hash_salt *salt,
                       const struct jr_tokens_found *found)
{
    uint32_t n = 0, block_size = block_size_of(x, found->n);
    const uint64_t *v =
        block_size ? jr_tokenizer_hashes(x->f->tokenizer, found, salt, block_size, &n) : NULL;
    if (!v) {
        hash(x, salt, found->ids, found->n);
        return;
    }
    x->prefix = jr_xmemdup(v, n * sizeof *v);
    x->n_prefix = n;
}

static struct jr_hash_salt salt_of(const struct jr_proxied *x)
{
    struct jr_hash_salt salt = {.cache_salt_part = 0};
    if (x->lora)
        salt.lora = jr_str_of(x->lora, strlen(x->lora));
    if (x->cache_salt)
        salt.cache_salt = jr_str_of(x->cache_salt, strlen(x->cache_salt));
    return salt;
}

/* ---------------------------------------------------------------- without a tokenizer */

/* Nobody gave ids: the text's bytes will do to know it again. A run stands for a block; that it has
 * as many tokens is a guess the load can live with. */
static void take_text(struct jr_proxied *x, struct jr_hash_salt salt)
{
    struct jr_str body = x->asked;
    uint32_t block_size = jr_decide_block_size(x);
    size_t run = (size_t)TOKEN_BYTES * (block_size ? block_size : JR_BLOCK_SIZE_DEFAULT);
    size_t n = x->text.n / run;
    x->by_text = true;
    x->n_tokens = tokens_of_all(x, (uint32_t)(x->text.n / TOKEN_BYTES));
    if (n == 0)
        return;
    salt.cache_salt_part = TEXT_SALT;
    x->prefix = jr_xalloc(n * sizeof *x->prefix);
    x->n_prefix = n < JR_PROMPT_BLOCKS_MAX ? (uint32_t)n : JR_PROMPT_BLOCKS_MAX;
    for (uint32_t i = 0; i < x->n_prefix; i++)
        x->prefix[i] = jr_hash_bytes(&salt, body.p + x->text.off + i * run, run);
    jr_hash_prefix(x->prefix, x->n_prefix, x->prefix);
}

/* ---------------------------------------------------------------- ids in the place of the text */

/* Without memory for it the text goes on, which says the same. */
static void put_ids(struct jr_proxied *x, const uint32_t *ids, uint32_t n)
{
    struct jr_str body = x->body;
    struct jr_buf *b = &x->own_body;
    size_t end = x->splice.off + x->splice.n;
    jr_buf_init(b, body.n + 2 + (size_t)n * 11);
    jr_buf_put(b, body.p, x->splice.off);
    jr_tokens_write(b, ids, n);
    jr_buf_put(b, body.p + end, body.n - end);
    if (b->err) {
        jr_buf_deinit(b);
        return;
    }
    x->body = jr_str_of((const char *)b->p, b->n);
    x->may_resume = x->may_resume_ids;
    jr_metric_add(x->l->metrics, JR_METRIC_FORWARDED_IDS_TOTAL, JR_NO_LABELS, 1);
}

/* Only a single text: what a worker answers to it is the same for its ids. Not where the answer is
 * bound to the text (echo, suffix, logprobs, ...: text_bound). */
static bool may_splice(const struct jr_proxied *x, const struct jr_openai_request *r)
{
    return jr_config_bool(x->f->cfg, JR_CFG_FORWARD_TOKEN_IDS) && !x->query_only &&
           r->kind == JR_OPENAI_COMPLETION && r->prompt == JR_PROMPT_TEXT && !r->text_bound;
}

/* ---------------------------------------------------------------- with one */

void jr_proxy_take_tokens(struct jr_proxied *x, const struct jr_hash_salt *salt)
{
    hash(x, salt, x->l->tokens.v, x->l->tokens.n);
}

/* Hashed already; ids are exact, and of the whole first prompt. */
static void take_whole(struct jr_proxied *x, const uint32_t *ids, uint32_t n)
{
    x->n_tokens = tokens_of_all(x, n);
    x->input_due = true;
    jr_proxy_extra_ids(x, ids, n);
    jr_proxy_hold_ids(x, ids, n);
    if (x->splice.n)
        put_ids(x, ids, n);
    if (x->query_only && n) { /* the answer names them, and may have to wait for others */
        x->query_ids = jr_xmemdup(ids, n * sizeof *ids);
        x->n_query_ids = n;
    }
}

/* Those of the turns before, as far as they go; or all. */
static void take_answer(struct jr_proxied *x, const struct jr_decide_tokens *a)
{
    struct jr_hash_salt salt = salt_of(x);
    if (a->prefix) {
        x->prefix = jr_xmemdup(a->prefix, a->n_prefix * sizeof *a->prefix);
        x->n_prefix = a->n_prefix;
    } else {
        hash(x, &salt, a->ids, a->n);
    }
    if (a->exact) {
        take_whole(x, a->ids, a->n);
        return;
    }
    x->n_tokens = a->n_whole > a->n ? a->n_whole : a->n;
    x->input_due = true;
}

void jr_proxy_tokenized(struct jr_proxied *x, const struct jr_decide_tokens *a)
{
    if (jr_proxy_time_left_ms(x) == 0) {
        jr_proxy_end_error(x, JR_ERROR_TIMEOUT, NULL);
        return;
    }
    if (a->err < 0)
        take_text(x, salt_of(x));
    else
        take_answer(x, a);
    jr_proxy_route(x);
}

static void on_tokenized(void *ctx, int err, const uint32_t *ids, uint32_t n)
{
    jr_proxy_tokenized(ctx, &(struct jr_decide_tokens){
                                .err = err, .ids = ids, .n = n, .exact = true, .n_whole = n});
}

/* What is needed after the answer of the tokenizer; what was read of the request is gone then. */
static void keep(struct jr_proxied *x, const struct jr_openai_request *r)
{
    x->lora = r->lora_name.n ? jr_xstrndup(r->lora_name.p, r->lora_name.n) : NULL;
    x->cache_salt = r->cache_salt.n ? jr_xstrndup(r->cache_salt.p, r->cache_salt.n) : NULL;
}

static void read_text(struct jr_proxied *x, const struct jr_openai_request *r)
{
    x->text = r->kind == JR_OPENAI_CHAT ? r->messages : r->prompt_span;
    if (r->prompt == JR_PROMPT_TEXT_LIST && r->text_bytes > 0)
        x->first_share = (double)r->text.n / (double)r->text_bytes;
    if (may_splice(x, r))
        x->splice = r->prompt_span;
}

static void take_found(struct jr_proxied *x, const struct jr_hash_salt *salt,
                       const struct jr_tokens_found *found)
{
    hash_found(x, salt, found); /* those of the turns before as far as they go */
    if (found->exact) {
        take_whole(x, found->ids, found->n);
        return;
    }
    x->n_tokens = found->n_whole > found->n ? found->n_whole : found->n;
    x->input_due = true;
}

/* Of the main loop's tokenizer, which may have them. */
static void ask_here(struct jr_proxied *x, const struct jr_openai_request *r, bool exact,
                     uint32_t time_left_ms)
{
    struct jr_hash_salt salt = {.lora = r->lora_name, .cache_salt = r->cache_salt};
    struct jr_frontend *f = x->f;
    const struct jr_token_question q = {
        .pool = jr_driver_pool(f->drivers[x->place.pool]),
        .component = x->place.component,
        .pool_number = x->place.pool,
        .model = x->model,
        .request = r,
        .body = x->asked,
        .exact = exact,
        .time_left_ms = time_left_ms,
    };
    struct jr_tokens_found found;
    int rv = jr_tokenizer_get(f->tokenizer, &q, &found, &x->waiter, on_tokenized, x);
    if (rv == 0) {
        keep(x, r);
        jr_sm_move(&x->sm, JR_PROXY_TOKENIZE, "text");
        return;
    }
    if (rv < 0)
        take_text(x, salt);
    else
        take_found(x, &salt, &found);
    jr_proxy_route(x);
}

static void ask(struct jr_proxied *x, const struct jr_openai_request *r)
{
    uint64_t left_ms = jr_proxy_time_left_ms(x);
    uint32_t time_left_ms = left_ms < UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX;
    read_text(x, r);
    jr_spans_tokenize(x);
    bool exact = x->query_only || x->splice.n || x->hold || jr_proxy_extra_wants_ids(x);
    if (!jr_decide_is_remote(x)) {
        ask_here(x, r, exact, time_left_ms);
        return;
    }
    keep(x, r);
    jr_sm_move(&x->sm, JR_PROXY_TOKENIZE, "text");
    jr_decide_ask_tokens(x, exact, time_left_ms);
}

/* The client's own ids of a text or chat, which serve as those of a tokenizer would: only with the
 * worker they are meant for. They are in l->tokens then. */
static bool has_token_data(struct jr_proxied *x, const struct jr_openai_request *r)
{
    const struct jr_openai_span *s = &r->nvext.token_data;
    struct jr_str body = x->asked;
    bool is_text = r->prompt == JR_PROMPT_NONE || r->prompt == JR_PROMPT_TEXT;
    return x->has_pin && s->n > 0 && is_text &&
           jr_openai_tokens_of(body.p + s->off, s->n, &x->l->tokens) == 0;
}

/* proxy_resume.c, as far as the request goes. */
static bool may_resume(const struct jr_proxied *x, const struct jr_openai_request *r)
{
    return r->kind == JR_OPENAI_COMPLETION && r->stream && r->n == 1 && r->has_max_tokens &&
           !x->has_pin && x->f->migration_limit > 0;
}

void jr_proxy_tokenize(struct jr_proxied *x, const struct jr_openai_request *r)
{
    struct jr_hash_salt salt = {.lora = r->lora_name, .cache_salt = r->cache_salt};
    struct jr_tokens *told = &x->l->tokens;
    x->may_resume_ids = may_resume(x, r);
    x->may_resume = x->may_resume_ids && r->prompt == JR_PROMPT_TOKENS;
    bool has_ids = r->prompt == JR_PROMPT_TOKENS || r->prompt == JR_PROMPT_TOKEN_LISTS;
    if (has_ids)
        x->first_share = (double)told->n / (double)r->tokens_told;
    if (has_ids || has_token_data(x, r)) {
        hash(x, &salt, told->v, told->n);
        take_whole(x, told->v, told->n);
        jr_proxy_route(x);
    } else if (x->f->mode == JR_MODE_KV) {
        ask(x, r);
    } else {
        jr_proxy_route(x);
    }
}
