/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/tokenizer.h"

#include "app/frontend/tokenizer_hosts.h"
#include "app/frontend/tokenizer_models.h"
#include "app/frontend/tokenizer_templates.h"
#include "base/assert.h"
#include "base/limit.h"
#include "base/log.h"
#include "io/loop.h"

#include <sodium.h>
#include <string.h>

#define HASH_FUNCTION(key, n, hash) HASH_SAX(key, n, hash)
#include <uthash.h>

#define ANSWER_MAX     ((size_t)64 << 20)
#define QUESTION_SLACK ((size_t)64 << 10) /* beside what is copied from the request */
#define ATTEMPTS_MAX   2
/* A question holds its own bytes, and those of its answer: an id is 5 digits and a comma, and stands
 * for about 4 bytes of text; some more of other scripts. */
#define BYTES_HELD(n_question) (3 * (n_question))
/* At the end of what is known of a chat: what makes the next message begin, and tokens that merge
 * with it. Templates write 2 to 12. */
#define PREFIX_MARGIN 16
#define PREFIX_OFF_MS 600000 /* after a chat whose turns before were rendered otherwise */

struct jr_token_ask {
    UT_hash_handle hh;
    struct jr_token_key key;
    struct jr_tokenizer *t;
    struct jr_list waiters; /* of jr_token_waiter; who asked first is first */
    bool beside;            /* asked for though nobody waits */
    struct jr_pool *pool;
    uint32_t pool_number;
    const char *component;
    char model[JR_MODEL_MAX];
    uint8_t *question; /* owned */
    size_t n_question;
    struct jr_http_exchange *exchange;
    uint64_t worker_id;
    uint32_t attempts;
    uint64_t started_ns;
    uint64_t until_ms; /* who asked first waits no longer; UINT64_MAX: no end */
    bool cut_short;    /* the worker has less than the whole time-out */
    bool timed_out;    /* a worker had all of it, and did not answer */
    /* The turns before that were taken for a prefix; n_guess 0: none. */
    struct jr_token_key guess, template_;
    uint32_t n_guess;
};

struct jr_tokenizer {
    struct jr_tokenizer_config config;
    uint8_t secret[JR_TOKEN_SECRET];
    struct jr_mem mem;
    struct jr_token_cache *cache;
    struct jr_tokens reply;
    struct jr_token_hosts hosts;
    struct jr_token_ask *asks;
    size_t bytes_held; /* by asks */
    struct jr_token_models models;
    struct jr_token_templates templates;
    enum jr_tokenizer_state states[JR_POOLS_MAX];
};

static uint64_t now_ms(void)
{
    return jr_loop_now_ns() / 1000000;
}

static void count(struct jr_tokenizer *t, const char *result)
{
    jr_metric_add(t->config.metrics, JR_METRIC_TOKENIZE_TOTAL, JR_LABELS(result), 1);
}

/* ---------------------------------------------------------------- life */

struct jr_tokenizer *jr_tokenizer_create(const struct jr_tokenizer_config *config)
{
    struct jr_tokenizer *t = jr_xalloc(sizeof *t);
    uint64_t seed;
    t->config = *config;
    jr_mem_init(&t->mem);
    jr_tokens_init(&t->reply, &t->mem);
    randombytes_buf(t->secret, sizeof t->secret);
    randombytes_buf(&seed, sizeof seed);
    jr_token_hosts_init(&t->hosts, seed);
    if (jr_token_cache_create(&t->mem, config->cache_bytes, &t->cache) < 0)
        t->cache = NULL;
    JR_ASSERT(t->cache != NULL);
    return t;
}

static void free_ask(struct jr_token_ask *a)
{
    JR_ASSERT(jr_list_empty(&a->waiters));
    HASH_DEL(a->t->asks, a);
    a->t->bytes_held -= BYTES_HELD(a->n_question);
    jr_xfree(a->question);
    jr_xfree(a);
}

/* Nobody wants to know any more. */
static void take_back(struct jr_token_ask *a)
{
    if (a->exchange) {
        jr_http_exchange_cancel(a->exchange);
        jr_token_hosts_ended(&a->t->hosts, a->worker_id, JR_TOKEN_HOST_DROPPED, now_ms());
    }
    free_ask(a);
}

void jr_tokenizer_stop(struct jr_tokenizer *t)
{
    while (t->asks)
        take_back(t->asks);
}

void jr_tokenizer_destroy(struct jr_tokenizer *t)
{
    if (!t)
        return;
    jr_tokenizer_stop(t);
    jr_token_hosts_deinit(&t->hosts);
    jr_token_cache_destroy(t->cache);
    jr_tokens_deinit(&t->reply);
    jr_mem_deinit(&t->mem);
    jr_xfree(t);
}

/* ---------------------------------------------------------------- does anybody answer */

enum jr_tokenizer_state jr_tokenizer_state(const struct jr_tokenizer *t, uint32_t pool_number)
{
    return t->states[pool_number];
}

const char *jr_tokenizer_state_name(enum jr_tokenizer_state state)
{
    static const char *const names[] = {"unknown", "answers", "missing"};
    return names[state];
}

static void set_state(struct jr_token_ask *a, enum jr_tokenizer_state state)
{
    enum jr_tokenizer_state was = a->t->states[a->pool_number];
    a->t->states[a->pool_number] = state;
    if (state == was)
        return;
    bool missing = state == JR_TOKENIZER_MISSING;
    jr_metric_set(a->t->config.metrics, JR_METRIC_TOKENIZER_MISSING,
                  JR_LABELS(a->t->config.namespace_, a->component), missing);
    if (missing)
        jr_log(JR_LOG_WARN, "tokenizer.missing", "component=%s model=" JR_LOG_Q " words=" JR_LOG_Q,
               a->component, a->model,
               "no worker answers /tokenize: text is routed by its bytes until one does");
    else if (was == JR_TOKENIZER_MISSING)
        jr_log(JR_LOG_INFO, "tokenizer.back", "component=%s model=" JR_LOG_Q, a->component,
               a->model);
}

/* ---------------------------------------------------------------- answers */

/* The text's fault, or ours: it has more tokens than we take, or there is no room for them. Another
 * worker would say the same, and this one did what it should. */
static bool too_large(int err)
{
    return err == JR_ELIMIT || err == JR_ENOMEM;
}

static void tell(struct jr_token_ask *a, int err, const uint32_t *ids, uint32_t n)
{
    struct jr_list *node;
    bool first = true;
    while ((node = jr_list_pop_front(&a->waiters)) != NULL) {
        struct jr_token_waiter *w = JR_CONTAINER_OF(node, struct jr_token_waiter, node);
        w->ask = NULL;
        count(a->t, err == JR_EINVAL ? "refused"
                    : too_large(err) ? "limit"
                    : err < 0        ? "failed"
                    : first          ? "asked"
                                     : "coalesced");
        first = false;
        w->fn(w->ctx, err, ids, n);
    }
}

/* What the turns before were taken for, against what the whole says. */
static void check_guess(struct jr_token_ask *a)
{
    struct jr_tokenizer *t = a->t;
    uint32_t n;
    const uint32_t *ids = a->n_guess ? jr_token_cache_get(t->cache, a->guess, &n) : NULL;
    if (!ids || a->n_guess > n)
        return; /* it has left meanwhile */
    if (a->n_guess <= t->reply.n && memcmp(ids, t->reply.v, a->n_guess * sizeof *ids) == 0)
        return;
    jr_token_templates_distrust(&t->templates, a->template_, now_ms() + PREFIX_OFF_MS);
    jr_metric_add(t->config.metrics, JR_METRIC_TOKENIZER_PREFIX_WRONG_TOTAL, JR_NO_LABELS, 1);
    jr_log(
        JR_LOG_WARN, "tokenizer.prefix", "component=%s model=" JR_LOG_Q " words=" JR_LOG_Q,
        a->component, a->model,
        "the template renders earlier turns otherwise: its chats are tokenized whole for a while");
}

static void end_ask(struct jr_token_ask *a, int err)
{
    struct jr_tokenizer *t = a->t;
    jr_metric_observe(t->config.metrics, JR_METRIC_TOKENIZE_SECONDS, JR_NO_LABELS,
                      (double)(jr_loop_now_ns() - a->started_ns) / 1e9);
    if (err == 0) {
        check_guess(a);
        (void)!jr_token_cache_put(t->cache, a->key, t->reply.v, t->reply.n);
    }
    tell(a, err, t->reply.v, err == 0 ? t->reply.n : 0);
    free_ask(a);
}

static int next_attempt(struct jr_token_ask *a);

/* A worker's failure: another is tried, once. */
static void failed(struct jr_token_ask *a, int err)
{
    struct jr_tokenizer *t = a->t;
    if (a->attempts < ATTEMPTS_MAX && next_attempt(a) == 0)
        return;
    struct jr_token_choice c = jr_token_hosts_choose(&t->hosts, a->pool, a->model, 0, now_ms());
    if (!c.worker_id && c.any_live)
        set_state(a, JR_TOKENIZER_MISSING);
    end_ask(a, err);
}

/* A text that takes too long takes it from every worker: only the first is left out for it. And none
 * for what the client had no time for. */
static enum jr_token_outcome outcome_of_timeout(struct jr_token_ask *a)
{
    if (a->cut_short || a->timed_out)
        return JR_TOKEN_HOST_DROPPED;
    a->timed_out = true;
    return JR_TOKEN_HOST_FAILED;
}

/* 404 and the like: there is no such path, or no such model. 400: the text is at fault, or its chat
 * template does not take it; another worker would say the same. */
static enum jr_token_outcome outcome_of(struct jr_token_ask *a, int err,
                                        const struct jr_http_reply *reply)
{
    if (too_large(err))
        return JR_TOKEN_HOST_ANSWERED;
    if (err < 0)
        return err == JR_ETIMEOUT ? outcome_of_timeout(a) : JR_TOKEN_HOST_FAILED;
    switch (reply->status) {
    case 200:
    case 400:
    case 413:
    case 422:
        return JR_TOKEN_HOST_ANSWERED;
    case 404:
    case 405:
    case 501:
        return JR_TOKEN_HOST_CANNOT;
    default:
        return JR_TOKEN_HOST_FAILED;
    }
}

static void on_reply(void *ctx, int err, const struct jr_http_reply *reply, struct jr_str body)
{
    struct jr_token_ask *a = ctx;
    struct jr_tokenizer *t = a->t;
    struct jr_tokenize_reply answer;
    enum jr_token_outcome outcome = outcome_of(a, err, reply);
    a->exchange = NULL;
    if (err == 0 && reply->status == 200) {
        err = jr_tokenize_reply_parse(body.p, body.n, &t->reply, &answer, NULL);
        if (err < 0 && !too_large(err))
            outcome = JR_TOKEN_HOST_CANNOT;
    } else if (err == 0) {
        err = outcome == JR_TOKEN_HOST_ANSWERED ? JR_EINVAL : JR_EPROTO;
    }
    jr_token_hosts_ended(&t->hosts, a->worker_id, outcome, now_ms());
    jr_metric_add(t->config.metrics, JR_METRIC_TOKENIZER_REQUESTS_TOTAL,
                  JR_LABELS(outcome == JR_TOKEN_HOST_ANSWERED ? "answered" : "failed"), 1);
    if (outcome != JR_TOKEN_HOST_ANSWERED) {
        failed(a, err);
        return;
    }
    set_state(a, JR_TOKENIZER_ANSWERS);
    end_ask(a, err);
}

/* ---------------------------------------------------------------- questions */

static int send_to(struct jr_token_ask *a, const struct jr_token_choice *c)
{
    struct jr_tokenizer *t = a->t;
    uint64_t now = now_ms(), left = a->until_ms > now ? a->until_ms - now : 0;
    if (left == 0)
        return JR_ETIMEOUT;
    char url[JR_URL_MAX + 16];
    snprintf(url, sizeof url, "%s/tokenize", c->url);
    struct jr_http_fetch fetch = {
        .url = url,
        .method = "POST",
        .content_type = "application/json",
        .body = a->question,
        .n_body = a->n_question,
        .body_stays = true,
        .total_timeout_ms = left < t->config.timeout_ms ? (uint32_t)left : t->config.timeout_ms};
    int err =
        jr_http_client_whole_begin(t->config.client, &fetch, ANSWER_MAX, on_reply, a, &a->exchange);
    if (err < 0)
        return err;
    jr_token_hosts_asked(&t->hosts, c->worker_id);
    a->cut_short = left < t->config.timeout_ms;
    a->worker_id = c->worker_id;
    a->attempts++;
    return 0;
}

/* JR_ENOWORKER: there is none to ask. */
static int next_attempt(struct jr_token_ask *a)
{
    struct jr_token_choice c =
        jr_token_hosts_choose(&a->t->hosts, a->pool, a->model, a->worker_id, now_ms());
    if (c.worker_id)
        return send_to(a, &c);
    if (c.any_live && a->attempts == 0)
        set_state(a, JR_TOKENIZER_MISSING);
    return JR_ENOWORKER;
}

static struct jr_token_ask *find_ask(const struct jr_tokenizer *t, const struct jr_token_key *key)
{
    struct jr_token_ask *a;
    HASH_FIND(hh, t->asks, key, sizeof *key, a);
    return a;
}

static struct jr_token_ask *make_ask(struct jr_tokenizer *t, const struct jr_token_question *q,
                                     const struct jr_token_key *key)
{
    struct jr_token_ask *a = jr_xalloc(sizeof *a);
    *a = (struct jr_token_ask){.key = *key,
                               .t = t,
                               .pool = q->pool,
                               .pool_number = q->pool_number,
                               .component = q->component,
                               .started_ns = jr_loop_now_ns(),
                               .until_ms = q->time_left_ms < UINT32_MAX ? now_ms() + q->time_left_ms
                                                                        : UINT64_MAX};
    jr_list_init(&a->waiters);
    (void)jr_str_copy(a->model, sizeof a->model, q->model);
    HASH_ADD(hh, t->asks, key, sizeof a->key, a);
    return a;
}

/* Room for one more; share: 1 all of it, 2 the half. A single one of any length is taken. */
static bool has_room(const struct jr_tokenizer *t, size_t n_question, uint32_t share)
{
    size_t free_bytes = JR_TOKENIZER_BYTES_MAX / share;
    free_bytes -= t->bytes_held < free_bytes ? t->bytes_held : free_bytes;
    return HASH_COUNT(t->asks) < JR_TOKENIZER_ASKS_MAX / share &&
           (!t->asks || BYTES_HELD(n_question) <= free_bytes);
}

/* The question, asked of a worker. NULL: too many are under way (JR_ELIMIT), no memory, or nobody to
 * ask. */
static struct jr_token_ask *ask(struct jr_tokenizer *t, const struct jr_token_question *q,
                                const struct jr_token_key *key, int *ret_err)
{
    struct jr_buf b;
    if (!has_room(t, q->body.n, 1)) {
        bool full = HASH_COUNT(t->asks) >= JR_TOKENIZER_ASKS_MAX;
        *ret_err = jr_limit(full ? JR_LIMIT_TOKENIZER_ASKS : JR_LIMIT_TOKENIZER_BYTES);
        return NULL;
    }
    jr_buf_init(&b, q->body.n + QUESTION_SLACK);
    jr_tokenize_write(&b, q->request, q->body.p);
    *ret_err = b.err;
    if (b.err) {
        jr_buf_deinit(&b);
        return NULL;
    }
    struct jr_token_ask *a = make_ask(t, q, key);
    a->question = jr_buf_take(&b, &a->n_question);
    t->bytes_held += BYTES_HELD(a->n_question);
    *ret_err = next_attempt(a);
    if (*ret_err == 0)
        return a;
    free_ask(a);
    return NULL;
}

/* ---------------------------------------------------------------- what is known */

/* Keys of the text, or of the chat up to each of its last messages; the whole's is the last. */
struct keys {
    struct jr_token_key template_; /* of a chat: of all that makes it, which tools do not */
    struct jr_token_key v[JR_OPENAI_ENDS_MAX];
    size_t ends[JR_OPENAI_ENDS_MAX];
    uint32_t n;
};

static void keys_of(struct jr_tokenizer *t, const struct jr_token_question *q, struct keys *ret)
{
    const struct jr_openai_request *r = q->request;
    struct jr_str fields[2 + JR_TOKENIZE_FIELDS];
    uint64_t generation =
        jr_token_models_generation(&t->models, q->pool, q->pool_number, q->model, now_ms());
    struct jr_token_text text = {
        .secret = t->secret, .fields = fields, .n_fields = 2 + JR_TOKENIZE_FIELDS, .text = r->text};
    fields[0] = jr_str_of((const char *)&q->pool_number, sizeof q->pool_number);
    fields[1] = jr_str_of((const char *)&generation, sizeof generation);
    jr_tokenize_fields(r, q->body.p, fields + 2);
    ret->n = 1;
    ret->ends[0] = r->text.n;
    if (r->kind == JR_OPENAI_CHAT) {
        text.text = jr_str_of(q->body.p + r->messages.off, r->messages.n);
        ret->n = r->n_ends;
        for (uint32_t i = 0; i < r->n_ends; i++)
            ret->ends[i] = r->ends[i] - r->messages.off;
    }
    JR_ASSERT(ret->n > 0);
    jr_token_keys(&text, ret->ends, ret->n, ret->v);
    text.text = fields[2 + JR_TOKENIZE_TOOLS] = jr_str_of(NULL, 0);
    if (r->kind == JR_OPENAI_CHAT)
        jr_token_keys(&text, &(size_t){0}, 1, &ret->template_);
}

/* The longest known run of earlier messages; its place in the keys, or -1. */
static int find_turns(struct jr_tokenizer *t, const struct jr_token_question *q,
                      const struct keys *k, struct jr_tokens_found *ret)
{
    if (!t->config.prefixes || q->exact || q->request->kind != JR_OPENAI_CHAT ||
        !jr_token_templates_trusted(&t->templates, k->template_, now_ms()))
        return -1;
    for (uint32_t i = k->n - 1; i-- > 0;) {
        ret->ids = jr_token_cache_get(t->cache, k->v[i], &ret->n);
        if (ret->ids && ret->n > PREFIX_MARGIN)
            return (int)i;
    }
    return -1;
}

/* The whole, for the turn after and to see whether the turns before were a prefix of it. */
static void ask_beside(struct jr_tokenizer *t, const struct jr_token_question *q,
                       const struct keys *k, int at, uint32_t n_guess)
{
    const struct jr_token_key *whole = &k->v[k->n - 1];
    int err;
    if (find_ask(t, whole))
        return;
    if (!has_room(t, q->body.n, 2)) {
        jr_metric_add(t->config.metrics, JR_METRIC_TOKENIZER_REQUESTS_TOTAL, JR_LABELS("skipped"),
                      1);
        return;
    }
    struct jr_token_ask *a = ask(t, q, whole, &err);
    if (!a)
        return;
    a->beside = true;
    a->guess = k->v[at];
    a->template_ = k->template_;
    a->n_guess = n_guess;
}

/* Answered by the turns before; the whole is asked for beside. */
static bool get_turns(struct jr_tokenizer *t, const struct jr_token_question *q,
                      const struct keys *k, struct jr_tokens_found *ret)
{
    int at = find_turns(t, q, k, ret);
    if (at < 0)
        return false;
    double share = (double)k->ends[at] / (double)k->ends[k->n - 1];
    double whole = (double)ret->n / share;
    ret->n_whole = whole < UINT32_MAX ? (uint32_t)whole : UINT32_MAX;
    ret->n -= PREFIX_MARGIN;
    ret->key = k->v[at];
    ret->exact = false;
    ask_beside(t, q, k, at, ret->n);
    return true;
}

static int wait_for(struct jr_tokenizer *t, const struct jr_token_question *q,
                    const struct jr_token_key *key, struct jr_token_waiter *w)
{
    int err = 0;
    struct jr_token_ask *a = find_ask(t, key);
    if (!a)
        a = ask(t, q, key, &err);
    if (!a) {
        count(t, too_large(err) ? "limit" : "failed");
        return err;
    }
    jr_list_init(&w->node);
    jr_list_push_back(&a->waiters, &w->node);
    w->ask = a;
    return 0;
}

int jr_tokenizer_get(struct jr_tokenizer *t, const struct jr_token_question *q,
                     struct jr_tokens_found *ret, struct jr_token_waiter *waiter,
                     jr_tokenized_fn *fn, void *ctx)
{
    struct keys k = {.n = 0};
    keys_of(t, q, &k);
    ret->ids = jr_token_cache_get(t->cache, k.v[k.n - 1], &ret->n);
    if (ret->ids) {
        ret->key = k.v[k.n - 1];
        ret->exact = true;
        ret->n_whole = ret->n;
        count(t, "exact");
        return 1;
    }
    if (get_turns(t, q, &k, ret)) {
        count(t, "prefix");
        return 1;
    }
    waiter->fn = fn;
    waiter->ctx = ctx;
    return wait_for(t, q, &k.v[k.n - 1], waiter);
}

const uint64_t *jr_tokenizer_hashes(struct jr_tokenizer *t, const struct jr_tokens_found *found,
                                    const struct jr_hash_salt *salt, uint32_t block_size,
                                    uint32_t *ret_n)
{
    const uint64_t *v = jr_token_cache_hashes(t->cache, found->key, salt, block_size, ret_n);
    if (v && *ret_n > found->n / block_size)
        *ret_n = found->n / block_size;
    return v;
}

void jr_tokenizer_leave(struct jr_token_waiter *w)
{
    struct jr_token_ask *a = w->ask;
    if (!a)
        return;
    w->ask = NULL;
    jr_list_remove(&w->node);
    if (jr_list_empty(&a->waiters) && !a->beside && a->exchange)
        take_back(a);
}

const struct jr_token_cache *jr_tokenizer_cache(const struct jr_tokenizer *t)
{
    return t->cache;
}

uint32_t jr_tokenizer_asking(const struct jr_tokenizer *t)
{
    return HASH_COUNT(t->asks);
}
