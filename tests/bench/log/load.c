/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"
#include "base/assert.h"
#include "base/map.h"
#include "wire/dynamo_json.h"
#include "wire/event_codec.h"

#define PROMPT_BLOCKS (LOAD_PROMPTS * LOAD_SHARED_BLOCKS)
#define OWN_BLOCKS    (LOAD_CHAIN_BLOCKS - LOAD_SHARED_BLOCKS)

/* Block k of a worker: the engine's hash is the worker's own; the content of a prompt is the same
 * for all workers, the rest is seen by one worker only. */
static struct jr_kv_block block_of(uint64_t worker, uint64_t k)
{
    const uint64_t own = (worker + 1) << 40 | k;

    return (struct jr_kv_block){jr_mix64(own), jr_mix64(~(k < PROMPT_BLOCKS ? k : own))};
}

/* Which block it follows; false: none, it is the first of a prompt. */
static bool parent_of(uint64_t k, uint64_t *ret)
{
    const uint64_t own = k - PROMPT_BLOCKS;

    if (k < PROMPT_BLOCKS && k % LOAD_SHARED_BLOCKS == 0)
        return false;
    *ret = k - 1;
    if (k >= PROMPT_BLOCKS && own % OWN_BLOCKS == 0)
        *ret = (own / OWN_BLOCKS % LOAD_PROMPTS + 1) * LOAD_SHARED_BLOCKS - 1;
    return true;
}

void load_message(struct load_message *m, uint64_t i, uint32_t run, bool dynamo)
{
    const uint64_t worker = i % LOAD_WORKERS, turn = i / LOAD_WORKERS, first = turn * run;
    uint64_t parent = 0;

    for (uint32_t k = 0; k < run; k++)
        m->blocks[k] = block_of(worker, first + k);
    m->event = (struct jr_kv_event){.type = JR_KV_STORED, .blocks = m->blocks, .n = run};
    m->event.has_parent = parent_of(first, &parent);
    if (m->event.has_parent)
        m->event.parent_hash = block_of(worker, parent).block_hash;
    m->batch = (struct jr_kv_batch){
        .worker_id = UINT64_C(7000000000000000000) + worker,
        .incarnation = dynamo ? 0 : worker + 1,
        .first_id = turn + 1,
        .begin = !dynamo && turn == 0,
        .dynamo = dynamo,
        .events = &m->event,
        .n_events = 1,
    };
}

void load_payload(uint64_t i, uint32_t run, bool dynamo, struct jr_buf *b)
{
    struct load_message m;

    load_message(&m, i, run, dynamo);
    int rv = dynamo ? jr_dynamo_json_encode(&m.batch, 0, b) : jr_event_encode_batch(&m.batch, b);
    JR_ASSERT(rv == 0);
}
