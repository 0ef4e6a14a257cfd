/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_hosts: which worker to ask for tokens. Of the live workers of a model one with the fewest
 * questions under way; one that failed is left out, twice as long each time, and then asked by one
 * question first. Loop thread only.
 *
 *     well ──failed──► out until t ──t──► on trial ──answered──► well
 *                       ▲                    │ failed
 *                       └────────────────────┘ */
#ifndef JR_APP_FRONTEND_TOKENIZER_HOSTS_H
#define JR_APP_FRONTEND_TOKENIZER_HOSTS_H

#include "base/rng.h"
#include "core/pool.h"

struct jr_token_host;

struct jr_token_hosts {
    struct jr_token_host *table; /* those with something to remember */
    struct jr_rng rng;
};

void jr_token_hosts_init(struct jr_token_hosts *h, uint64_t seed);
void jr_token_hosts_deinit(struct jr_token_hosts *h);

struct jr_token_choice {
    uint64_t worker_id; /* 0: none */
    const char *url;    /* borrowed until the pool's next step */
    bool any_live;      /* the model has a live worker, well or not */
};

/* except: not this worker; 0: any. Takes no note of it. */
struct jr_token_choice jr_token_hosts_choose(struct jr_token_hosts *h, struct jr_pool *pool,
                                             const char *model, uint64_t except, uint64_t now_ms);
enum jr_token_outcome {
    JR_TOKEN_HOST_ANSWERED,
    JR_TOKEN_HOST_FAILED,
    JR_TOKEN_HOST_CANNOT, /* it has no tokenizer: left out for long */
    JR_TOKEN_HOST_DROPPED /* the question was taken back */
};
/* A question goes to the worker; each is ended by one outcome. */
void jr_token_hosts_asked(struct jr_token_hosts *h, uint64_t worker_id);
void jr_token_hosts_ended(struct jr_token_hosts *h, uint64_t worker_id,
                          enum jr_token_outcome outcome, uint64_t now_ms);

#endif
