/* SPDX-License-Identifier: Apache-2.0 */
/* engine: one simulated inference engine: scheduler, paged KV cache and clock of a vLLM-like worker.
 * Pure: time is given in, so tests run it on virtual time. One thread at a time.
 *
 *     submit ──► waiting (FIFO) ──admit──► running ──► finished
 *                   ▲                        │ out of blocks: the youngest goes back to the front
 *                   └──────── preempted ─────┘ and computes again
 *
 * The engine works in steps. A step gives each running request its next tokens (one that decodes
 * gets one, before any prompt), fills the rest of max_num_batched_tokens with prompts in chunks,
 * and takes
 *
 *     base + prefill·tokens + attention·Σ tokens·context + decode·decodes + kv·KV tokens
 *
 * seconds divided by the speed-up, context of a chunk being its middle (design: reference model of
 * the routing simulation). Blocks are registered when a step is scheduled, as in vLLM, so that
 * requests of one step share them; what changed in the cache is told when the step ends.
 *
 *     while (jr_engine_due_ns(e) <= now)
 *         if (jr_engine_step(e, now, &step))
 *             … step.outputs, step.kv …
 */
#ifndef JR_APP_MOCKER_ENGINE_H
#define JR_APP_MOCKER_ENGINE_H

#include "app/mocker/paged_cache.h"

struct jr_engine;
struct jr_engine_seq; /* one prompt with its output */

/* Seconds; defaults are jr_engine_config_init's. */
struct jr_engine_timing {
    double base_s;
    double prefill_s;   /* a prompt token */
    double attention_s; /* a prompt token and token of its context */
    double decode_s;    /* a request that decodes */
    double kv_s;        /* a token held in the KV cache by running requests */
};

struct jr_engine_config {
    uint32_t block_size;
    uint32_t num_gpu_blocks; /* one is the null block */
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens;
    double speedup_ratio; /* 0: steps take no time */
    uint64_t hash_seed;   /* of block hashes; engines with the same seed give the same hashes */
    uint32_t output_token_first, output_tokens; /* made-up output ids: first .. first + n - 1 */
    struct jr_engine_timing timing;
};

struct jr_engine_request {
    const uint32_t *tokens; /* copies */
    uint32_t n_tokens;      /* at least 1 */
    uint32_t max_tokens;    /* at least 1; exactly as many are produced */
    const char *salt;       /* cache salt, copies; may be NULL */
    uint32_t n_salt;
    const char *lora; /* name of the adapter, copies; may be NULL */
    uint32_t n_lora;
    void *user; /* comes back with each output */
};

/* One token of one request. */
struct jr_engine_output {
    void *user;
    uint32_t token;
    uint32_t index;         /* 0 is the first */
    uint32_t cached_tokens; /* of the prompt, found in the cache when it was first admitted */
    bool finished;          /* the last one: the handle is gone */
};

struct jr_engine_step {
    int64_t start_ns, end_ns;
    uint32_t prefill_tokens, decodes;
    const struct jr_engine_output *outputs; /* valid until the next call of jr_engine_step */
    uint32_t n_outputs;
    struct jr_cache_log kv; /* as outputs */
};

struct jr_engine_stats {
    uint32_t running, waiting;
    uint32_t blocks_used, blocks_total, blocks_kept;
    uint64_t steps, preemptions, finished, aborted;
    uint64_t prefix_queries, prefix_hits; /* tokens */
    uint64_t prompt_tokens, generation_tokens;
};

#define JR_ENGINE_IDLE INT64_MAX

void jr_engine_config_init(struct jr_engine_config *config);
struct jr_engine *jr_engine_create(const struct jr_engine_config *config); /* copies */
void jr_engine_destroy(struct jr_engine *e); /* NULL is fine; drops what is under way */

/* Tokens, prompt and output, that one request can ever hold. */
uint64_t jr_engine_capacity(const struct jr_engine *e);
/* Joins the waiting queue at now_ns; the caller has stepped up to now_ns before. JR_EINVAL for an
 * empty prompt or no output, JR_ELIMIT above the capacity. *ret (borrowed) is for cancel and
 * valid until its last output. */
JR_MUST_CHECK int jr_engine_submit(struct jr_engine *e, int64_t now_ns,
                                   const struct jr_engine_request *req, struct jr_engine_seq **ret);
/* No output of it follows. Its blocks are freed now, or at the end of the step it is in. */
void jr_engine_cancel(struct jr_engine *e, struct jr_engine_seq *seq);

/* When step has something to do; JR_ENGINE_IDLE when there is no work. */
int64_t jr_engine_due_ns(const struct jr_engine *e);
/* Ends the step under way, if it is over by now_ns: true and *ret. Else starts one that is due, if
 * any: false. A step starts when the one before ended, however late this is called, so the pace
 * does not depend on the caller's timers. */
JR_MUST_CHECK bool jr_engine_step(struct jr_engine *e, int64_t now_ns, struct jr_engine_step *ret);

/* From the next step on; 0: steps take no time. */
void jr_engine_set_speedup(struct jr_engine *e, double ratio);

/* Empties the prefix cache: the cleared event is in *ret, valid as step.kv. false, and nothing
 * happens, while requests hold blocks. (A real vLLM keeps the event back until its next step.) */
JR_MUST_CHECK bool jr_engine_reset_cache(struct jr_engine *e, struct jr_cache_log *ret);

/* Keeps the blocks of the prompt that are in the cache from eviction until until_ns, or longer when they
 * are kept longer already; returns how many of them are. At most half of all blocks are; a request that
 * could not run at all for want of them takes all that is kept, and so does a reset. Only tokens, salt
 * and adapter of req matter. */
uint32_t jr_engine_hold(struct jr_engine *e, int64_t now_ns, int64_t until_ns,
                        const struct jr_engine_request *req);

void jr_engine_stats(const struct jr_engine *e, struct jr_engine_stats *ret);
/* Borrowed, for tests and checks. */
const struct jr_paged_cache *jr_engine_cache(const struct jr_engine *e);
/* NULL when every reference in the cache is one of a request's, else what is wrong. */
const char *jr_engine_check(const struct jr_engine *e);

#endif
