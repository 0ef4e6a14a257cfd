/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: the prompt's tokens and block hashes, asked of a worker when it came as text. */
#include "app/frontend/proxy_internal.h"

#include "wire/tokenize.h"

#include <string.h>

#define CHUNK_BYTES  256 /* of a text that nobody tokenizes, in approximate mode */
#define TOKENIZE_MAX ((size_t)64 << 20)

void jr_proxy_take_tokens(struct jr_proxied *x, const struct jr_hash_salt *salt)
{
    const struct jr_tokens *tokens = &x->f->tokens;
    uint32_t n = tokens->n;
    struct jr_pool_view v;
    jr_pool_view(jr_driver_pool(x->driver), &v);
    x->n_tokens = n;
    if (!v.block_size || n < v.block_size)
        return;
    x->prefix = jr_xalloc((n / v.block_size) * sizeof *x->prefix);
    x->n_prefix = jr_hash_prompt(salt, tokens->v, n, v.block_size, x->prefix);
    jr_metric_observe(x->f->metrics, JR_METRIC_FRONTEND_INPUT_TOKENS, JR_LABELS(x->model), n);
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

/* Nobody gave ids: of our own decisions a text's bytes will do to know it again. A chunk stands for
 * a block; that it has as many tokens as a block is a guess the load can live with. */
static void take_chunks(struct jr_proxied *x)
{
    struct jr_pool_view v;
    size_t n = x->n_text / CHUNK_BYTES;
    jr_pool_view(jr_driver_pool(x->driver), &v);
    if (!x->text || n == 0 || n > JR_PROMPT_BLOCKS_MAX)
        return;
    struct jr_hash_salt salt = salt_of(x);
    x->prefix = jr_xalloc(n * sizeof *x->prefix);
    x->n_prefix = (uint32_t)n;
    for (uint32_t i = 0; i < x->n_prefix; i++)
        x->prefix[i] = jr_hash_bytes(&salt, x->text + (size_t)i * CHUNK_BYTES, CHUNK_BYTES);
    jr_hash_prefix(x->prefix, x->n_prefix, x->prefix);
    x->n_tokens = x->n_prefix * (v.block_size ? v.block_size : 1);
}

/* What is needed after the answer of the tokenizer; what was read of the request is gone then. */
static void keep(struct jr_proxied *x, const struct jr_openai_request *r)
{
    x->lora = r->lora_name.n ? jr_xstrndup(r->lora_name.p, r->lora_name.n) : NULL;
    x->cache_salt = r->cache_salt.n ? jr_xstrndup(r->cache_salt.p, r->cache_salt.n) : NULL;
    if (jr_config_bool(x->f->cfg, JR_CFG_ROUTER_KV_EVENTS))
        return;
    struct jr_str text = r->text;
    if (x->kind == JR_OPENAI_CHAT) {
        struct jr_str body = jr_http_request_body(x->req);
        text = jr_str_of(body.p + r->messages.off, r->messages.n);
    }
    x->text = text.n ? jr_xmemdup(text.p, text.n) : NULL;
    x->n_text = text.n;
}

static void on_tokenized(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_proxied *x = ctx;
    struct jr_frontend *f = x->f;
    x->exchange = NULL;
    struct jr_tokenize_reply answer;
    if (err == 0 && reply->status != 200)
        err = JR_EPROTO;
    if (err == 0)
        err = jr_tokenize_reply_parse(body.p, body.n, &f->tokens, &answer, NULL);
    jr_metric_add(f->metrics, JR_METRIC_TOKENIZE_TOTAL, JR_LABELS(err == 0 ? "asked" : "failed"),
                  1);
    struct jr_hash_salt salt = salt_of(x);
    if (err == 0) {
        jr_proxy_take_tokens(x, &salt);
    } else {
        f->tokens.n = 0;
        take_chunks(x);
    }
    jr_proxy_route(x); /* without ids: by load, and by what the text's bytes tell */
}

/* Text and chat are tokenized by a worker; the result serves for routing only. */
void jr_proxy_tokenize(struct jr_proxied *x, const struct jr_openai_request *r)
{
    const char *worker = jr_pool_any_url(jr_driver_pool(x->driver), x->model);
    keep(x, r);
    if (!worker) {
        take_chunks(x);
        jr_proxy_route(x);
        return;
    }
    struct jr_str body = jr_http_request_body(x->req);
    struct jr_buf b;
    jr_buf_init(&b, body.n + (64 << 10));
    jr_tokenize_write(&b, r, body.p);
    char url[JR_URL_MAX + 16];
    snprintf(url, sizeof url, "%s/tokenize", worker);
    struct jr_http_fetch fetch = {.url = url,
                                  .method = "POST",
                                  .content_type = "application/json",
                                  .body = b.p,
                                  .n_body = b.n,
                                  .total_timeout_ms = 5000};
    jr_sm_move(&x->sm, JR_PROXY_TOKENIZE, "text");
    int err = b.err ? b.err
                    : jr_http_client_whole_begin(x->f->client, &fetch, TOKENIZE_MAX, on_tokenized,
                                                 x, &x->exchange);
    jr_buf_deinit(&b);
    if (err < 0) {
        take_chunks(x);
        jr_proxy_route(x);
    }
}
