/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer: token ids of texts and chats, out of a cache or asked of a worker's /tokenize. Serves
 * all pools of a frontend. Loop thread only.
 *
 *     jr_tokenizer_get ──► 1: ids known           (exact, or of the turns before: see below)
 *                      ├─► 0: fn(ids) or fn(err)  when a worker has answered; equal texts asked
 *                      │                          meanwhile share one request to it
 *                      └─► JR_ENOWORKER, …        nobody to ask
 *
 * The next turn of a chat: the ids of the turns before are a prefix of its own, but for the last few
 * (where the next message began, tokens may merge) and but for templates that render earlier
 * messages otherwise once others follow. So a chat whose earlier turns are known is answered at once
 * with their ids, less a margin, and its own are asked for beside; when those say otherwise, chats
 * of that template are not answered that way for a while. What is answered so serves for routing only
 * (docs/adr/0014). */
#ifndef JR_APP_FRONTEND_TOKENIZER_H
#define JR_APP_FRONTEND_TOKENIZER_H

#include "app/metrics.h"
#include "base/list.h"
#include "core/pool.h"
#include "core/token_cache.h"
#include "io/http_client.h"
#include "wire/tokenize.h"

struct jr_tokenizer;
struct jr_token_ask;

struct jr_tokenizer_config {
    struct jr_http_client *client; /* borrows */
    struct jr_metrics *metrics;    /* borrows */
    const char *namespace_;        /* borrows; a label */
    size_t cache_bytes;            /* 0: no cache */
    uint32_t timeout_ms;           /* of one question to a worker */
    bool prefixes;                 /* answer by the turns before */
};

struct jr_tokenizer *jr_tokenizer_create(const struct jr_tokenizer_config *config);
/* Takes back all questions, also those that nobody waits for: they hold on to their pools, so before
 * these go. Nobody may wait any more. */
void jr_tokenizer_stop(struct jr_tokenizer *t);
/* Stops it. NULL is fine. */
void jr_tokenizer_destroy(struct jr_tokenizer *t);

/* ids are borrowed for the call. err: 0, JR_EINVAL (the worker refuses the text), or why no worker
 * answered. */
typedef void jr_tokenized_fn(void *ctx, int err, const uint32_t *ids, uint32_t n);

/* One who waits; zero-initialised waits for nothing. */
struct jr_token_waiter {
    struct jr_list node;
    struct jr_token_ask *ask; /* NULL: not waiting */
    jr_tokenized_fn *fn;
    void *ctx;
};

struct jr_token_question {
    struct jr_pool *pool;
    const char *component; /* of the pool; a label */
    uint32_t pool_number;  /* below JR_POOLS_MAX */
    const char *model;     /* as it is served */
    const struct jr_openai_request *request;
    struct jr_str body;    /* of the request; copied */
    bool exact;            /* the turns before will not do */
    uint32_t time_left_ms; /* of who asks; UINT32_MAX: no end */
};

struct jr_tokens_found {
    const uint32_t *ids; /* borrowed until the next call */
    uint32_t n;
    bool exact;
    uint32_t n_whole; /* of the whole prompt; estimated unless exact */
    struct jr_token_key key;
};

/* 1, 0 or an error: see above. fn never fires from within. */
JR_MUST_CHECK int jr_tokenizer_get(struct jr_tokenizer *t, const struct jr_token_question *q,
                                   struct jr_tokens_found *ret, struct jr_token_waiter *waiter,
                                   jr_tokenized_fn *fn, void *ctx);
/* The prefix hashes of ids that were found, borrowed until the next call; NULL: not at hand. The ids stay
 * where they are. */
const uint64_t *jr_tokenizer_hashes(struct jr_tokenizer *t, const struct jr_tokens_found *found,
                                    const struct jr_hash_salt *salt, uint32_t block_size,
                                    uint32_t *ret_n);
/* Waits no longer; others who share the question do. Harmless when it does not wait. */
void jr_tokenizer_leave(struct jr_token_waiter *waiter);

enum jr_tokenizer_state { JR_TOKENIZER_UNKNOWN, JR_TOKENIZER_ANSWERS, JR_TOKENIZER_MISSING };
enum jr_tokenizer_state jr_tokenizer_state(const struct jr_tokenizer *t, uint32_t pool_number);
const char *jr_tokenizer_state_name(enum jr_tokenizer_state state);
const struct jr_token_cache *jr_tokenizer_cache(const struct jr_tokenizer *t);
uint32_t jr_tokenizer_asking(const struct jr_tokenizer *t); /* questions under way */

#endif
