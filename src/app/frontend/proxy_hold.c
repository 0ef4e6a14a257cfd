/* SPDX-License-Identifier: Apache-2.0 */
/* proxy: cache_control. Once a request was answered, its worker is asked to keep the prompt's blocks for
 * a while (docs/protocol.md §8, ADR 21). Nobody waits for that, and no answer depends on it. */
#include "app/frontend/proxy_internal.h"

#include "base/limit.h"
#include "base/log.h"

#include <string.h>

#define PATH        "/cache_control"
#define TIMEOUT_MS  5000
#define ANSWER_MAX  ((size_t)64 << 10)
#define ID_BYTES    11   /* of one, with its comma */
#define REST_BYTES  1024 /* of the body beside the ids and names */
#define NAMES_BYTES 6    /* of a byte of a name, escaped */

struct jr_proxy_hold {
    uint32_t ttl_s;
    uint32_t *ids; /* owned; NULL: nobody has tokenized the prompt */
    uint32_t n;
    char *url;               /* owned; of the worker that has it */
    char *lora, *cache_salt; /* owned; "": none */
};

/* One that is being asked. */
struct asked {
    struct jr_list node; /* l->holds */
    struct jr_front_loop *l;
    uint64_t worker_id;
    size_t bytes; /* of l->hold_bytes */
};

void jr_proxy_hold_read(struct jr_proxied *x, const struct jr_openai_request *r)
{
    if (!r->cache_control.ephemeral || x->query_only ||
        !jr_config_bool(x->f->cfg, JR_CFG_ENABLE_CACHE_CONTROL))
        return;
    x->hold = jr_xalloc(sizeof *x->hold);
    x->hold->ttl_s = r->cache_control.ttl_s;
    x->hold->lora = jr_xstrndup(r->lora_name.n ? r->lora_name.p : "", r->lora_name.n);
    x->hold->cache_salt = jr_xstrndup(r->cache_salt.n ? r->cache_salt.p : "", r->cache_salt.n);
}

void jr_proxy_hold_free(struct jr_proxied *x)
{
    struct jr_proxy_hold *h = x->hold;
    if (!h)
        return;
    jr_xfree(h->ids);
    jr_xfree(h->url);
    jr_xfree(h->lora);
    jr_xfree(h->cache_salt);
    jr_xfree(h);
    x->hold = NULL;
}

void jr_proxy_hold_ids(struct jr_proxied *x, const uint32_t *ids, uint32_t n)
{
    if (!x->hold || n == 0)
        return;
    jr_xfree(x->hold->ids);
    x->hold->ids = jr_xmemdup(ids, n * sizeof *ids);
    x->hold->n = n;
}

void jr_proxy_hold_sent(struct jr_proxied *x, const char *worker_url)
{
    if (!x->hold)
        return;
    jr_xfree(x->hold->url);
    x->hold->url = jr_xstrndup(worker_url, strlen(worker_url));
}

/* ---------------------------------------------------------------- what became of it */

static void count(struct jr_front_loop *l, const char *result)
{
    jr_metric_add(l->metrics, JR_METRIC_CACHE_CONTROL_TOTAL, JR_LABELS(result), 1);
}

static void forget(struct asked *a)
{
    jr_list_remove(&a->node);
    a->l->n_holds--;
    a->l->hold_bytes -= a->bytes;
    jr_xfree(a);
}

void jr_proxy_holds_drop(struct jr_front_loop *l)
{
    while (l->n_holds)
        forget(JR_CONTAINER_OF(l->holds.next, struct asked, node));
}

/* Said once, until it works again: each request would say the same. */
static void on_answer(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct asked *a = ctx;
    struct jr_front_loop *l = a->l;
    (void)body;
    bool kept = err == 0 && reply->status >= 200 && reply->status < 300;
    count(l, kept ? "kept" : err == 0 ? "refused" : "failed");
    if (!kept && !l->holds_failing)
        jr_log(JR_LOG_WARN, "cache_control.not_kept", "worker=%llu status=%d error=%s",
               (unsigned long long)a->worker_id, err == 0 ? reply->status : 0, jr_err_name(err));
    l->holds_failing = !kept;
    forget(a);
}

/* ---------------------------------------------------------------- the question */

static void put_text(struct jr_buf *b, const char *key, const char *value)
{
    if (!value[0])
        return;
    jr_buf_printf(b, ",\"%s\":", key);
    jr_buf_json_str(b, value);
}

/* What the body has at most: known before it is written. */
static size_t body_most(const struct jr_proxy_hold *h)
{
    size_t names = strlen(h->lora) + strlen(h->cache_salt);
    return (size_t)h->n * ID_BYTES + names * NAMES_BYTES + REST_BYTES;
}

static void put_body(struct jr_buf *b, const struct jr_proxy_hold *h)
{
    jr_buf_init(b, body_most(h));
    jr_buf_puts(b, "{\"action\":\"pin_prefix\",\"token_ids\":");
    jr_tokens_write(b, h->ids, h->n);
    jr_buf_printf(b, ",\"ttl_seconds\":%u", h->ttl_s);
    put_text(b, "lora_name", h->lora);
    put_text(b, "cache_salt", h->cache_salt);
    jr_buf_puts(b, "}");
}

static void ask(struct jr_proxied *x, const struct jr_buf *body)
{
    char url[JR_URL_MAX + sizeof PATH], rank[64];
    struct asked *a = jr_xalloc(sizeof *a);
    snprintf(url, sizeof url, "%s" PATH, x->hold->url);
    snprintf(rank, sizeof rank, "X-Data-Parallel-Rank: %u\r\n", x->dp_rank);
    *a = (struct asked){.l = x->l, .worker_id = x->worker_id, .bytes = body_most(x->hold)};
    jr_list_push_back(&x->l->holds, &a->node);
    x->l->n_holds++;
    x->l->hold_bytes += a->bytes;
    struct jr_http_fetch fetch = {.url = url,
                                  .method = "POST",
                                  .content_type = "application/json",
                                  .extra_headers = rank,
                                  .body = body->p,
                                  .n_body = body->n,
                                  .first_byte_timeout_ms = TIMEOUT_MS,
                                  .total_timeout_ms = TIMEOUT_MS};
    if (jr_http_client_whole(x->l->client, &fetch, ANSWER_MAX, on_answer, a) == 0)
        return;
    count(x->l, "failed");
    forget(a);
}

static bool has_room(const struct jr_front_loop *l, size_t n)
{
    if (l->n_holds >= JR_HOLDS_MAX) {
        jr_limit_reached(JR_LIMIT_HOLDS);
        return false;
    }
    if (n > JR_HOLDS_BYTES_MAX - l->hold_bytes) {
        jr_limit_reached(JR_LIMIT_HOLDS_BYTES);
        return false;
    }
    return true;
}

void jr_proxy_hold_ask(struct jr_proxied *x)
{
    if (!x->hold)
        return;
    struct jr_buf body;
    if (!x->hold->ids) {
        count(x->l, "no_tokens");
        return;
    }
    if (!has_room(x->l, body_most(x->hold))) {
        count(x->l, "limit");
        return;
    }
    put_body(&body, x->hold);
    if (body.err)
        count(x->l, "failed");
    else
        ask(x, &body);
    jr_buf_deinit(&body);
}
