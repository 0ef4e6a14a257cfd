/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/tokenizer_hosts.h"

#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

#define HASH_FUNCTION(key, n, hash) HASH_SAX(key, n, hash)
#include <uthash.h>

#define OUT_MS        1000 /* after the first failure */
#define OUT_MS_MAX    60000
#define OUT_SHIFT_MAX 6

struct jr_token_host {
    UT_hash_handle hh;
    uint64_t worker_id;
    uint32_t asking;
    uint32_t failures; /* in a row */
    uint64_t out_until_ms;
};

void jr_token_hosts_init(struct jr_token_hosts *h, uint64_t seed)
{
    h->table = NULL;
    jr_rng_init(&h->rng, seed, 0);
}

static void forget(struct jr_token_hosts *h, struct jr_token_host *host)
{
    HASH_DEL(h->table, host);
    jr_xfree(host);
}

void jr_token_hosts_deinit(struct jr_token_hosts *h)
{
    while (h->table)
        forget(h, h->table);
}

static struct jr_token_host *find(const struct jr_token_hosts *h, uint64_t worker_id)
{
    struct jr_token_host *host;
    HASH_FIND(hh, h->table, &worker_id, sizeof worker_id, host);
    return host;
}

/* How many questions a worker has; false when it is not to be asked. */
static bool may_ask(const struct jr_token_hosts *h, uint64_t worker_id, uint64_t now_ms,
                    uint32_t *ret_asking)
{
    const struct jr_token_host *host = find(h, worker_id);
    *ret_asking = host ? host->asking : 0;
    if (!host || host->failures == 0)
        return true;
    return now_ms >= host->out_until_ms && host->asking == 0;
}

struct jr_token_choice jr_token_hosts_choose(struct jr_token_hosts *h, struct jr_pool *pool,
                                             const char *model, uint64_t except, uint64_t now_ms)
{
    struct jr_token_choice c = {0};
    struct jr_worker_view w;
    uint32_t asking, least = UINT32_MAX, equal = 0;
    for (uint32_t pos = 0; jr_pool_next_worker(pool, &pos, &w);) {
        if (w.state != JR_WORKER_LIVE || (w.model[0] && strcmp(w.model, model) != 0))
            continue;
        c.any_live = true;
        if (w.worker_id == except || !may_ask(h, w.worker_id, now_ms, &asking) || asking > least)
            continue;
        equal = asking < least ? 1 : equal + 1;
        least = asking;
        if (jr_rng_below(&h->rng, equal) > 0)
            continue;
        c.worker_id = w.worker_id;
        c.url = w.url;
    }
    return c;
}

/* Workers come and go: of those that only failed, the table keeps no more than a pool can have. */
static void limit(struct jr_token_hosts *h)
{
    for (struct jr_token_host *it = h->table, *next;
         it && HASH_COUNT(h->table) > JR_TOKENIZER_HOSTS_MAX; it = next) {
        next = it->hh.next;
        if (it->asking == 0)
            forget(h, it);
    }
}

void jr_token_hosts_asked(struct jr_token_hosts *h, uint64_t worker_id)
{
    struct jr_token_host *host = find(h, worker_id);
    if (host) {
        host->asking++;
        return;
    }
    host = jr_xalloc(sizeof *host);
    host->worker_id = worker_id;
    host->asking = 1;
    HASH_ADD(hh, h->table, worker_id, sizeof host->worker_id, host);
    limit(h);
}

static uint64_t out_ms(uint32_t failures)
{
    uint32_t shift = failures - 1 < OUT_SHIFT_MAX ? failures - 1 : OUT_SHIFT_MAX;
    uint64_t ms = (uint64_t)OUT_MS << shift;
    return ms < OUT_MS_MAX ? ms : OUT_MS_MAX;
}

void jr_token_hosts_ended(struct jr_token_hosts *h, uint64_t worker_id,
                          enum jr_token_outcome outcome, uint64_t now_ms)
{
    struct jr_token_host *host = find(h, worker_id);
    if (!host)
        return;
    host->asking -= host->asking > 0;
    if (outcome == JR_TOKEN_HOST_ANSWERED) {
        host->failures = 0;
    } else if (outcome != JR_TOKEN_HOST_DROPPED && now_ms >= host->out_until_ms) {
        host->failures++; /* those that were under way together fail as one */
        host->out_until_ms =
            now_ms + (outcome == JR_TOKEN_HOST_CANNOT ? OUT_MS_MAX : out_ms(host->failures));
    }
    if (host->asking == 0 && host->failures == 0)
        forget(h, host);
}
