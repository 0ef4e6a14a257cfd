/* SPDX-License-Identifier: Apache-2.0 */
/* core_gen: log messages for tests of the core, built on the stack and in a small pool of arrays
 * that lives as long as the message. */
#ifndef JR_TESTS_CORE_GEN_H
#define JR_TESTS_CORE_GEN_H

#include "base/kv.h"
#include "base/rng.h"
#include <string.h>

#define GEN_EVENTS 6
#define GEN_BLOCKS 6

struct gen_msg {
    struct jr_log_msg m;
    struct jr_kv_event events[GEN_EVENTS];
    struct jr_kv_block blocks[GEN_EVENTS][GEN_BLOCKS];
    uint64_t hashes[GEN_EVENTS][GEN_BLOCKS];
    struct jr_rank_incarnation ended[4];
};

static inline void gen_init(struct gen_msg *g, uint64_t seq, enum jr_log_kind kind)
{
    memset(g, 0, sizeof *g);
    g->m.seq = seq;
    g->m.time_ns = (int64_t)seq * 1000 + 7;
    g->m.payload_hash = seq * 0x9e3779b97f4a7c15u;
    g->m.kind = kind;
}

static inline struct jr_kv_batch *gen_batch(struct gen_msg *g, uint64_t seq, uint64_t worker,
                                            uint32_t rank, uint64_t incarnation, uint64_t first_id,
                                            bool begin)
{
    gen_init(g, seq, JR_LOG_KIND_BATCH);
    struct jr_kv_batch *b = &g->m.u.batch;
    b->worker_id = worker;
    b->dp_rank = rank;
    b->incarnation = incarnation;
    b->first_id = first_id;
    b->begin = begin;
    b->dynamo = incarnation == 0;
    b->events = g->events;
    return b;
}

/* One block under `parent` (0: the root) with local hash = 1000 + hash. */
static inline void gen_store(struct gen_msg *g, uint64_t parent, uint64_t hash)
{
    uint32_t i = g->m.u.batch.n_events++;
    g->blocks[i][0] = (struct jr_kv_block){hash, 1000 + hash};
    g->events[i] = (struct jr_kv_event){.type = JR_KV_STORED,
                                        .has_parent = parent != 0,
                                        .parent_hash = parent,
                                        .blocks = g->blocks[i],
                                        .n = 1};
}

static inline void gen_remove(struct gen_msg *g, uint64_t hash)
{
    uint32_t i = g->m.u.batch.n_events++;
    g->hashes[i][0] = hash;
    g->events[i] = (struct jr_kv_event){.type = JR_KV_REMOVED, .hashes = g->hashes[i], .n = 1};
}

static inline void gen_clear(struct gen_msg *g)
{
    g->events[g->m.u.batch.n_events++] = (struct jr_kv_event){.type = JR_KV_CLEARED};
}

static inline struct jr_control *gen_control(struct gen_msg *g, uint64_t seq,
                                             enum jr_control_type type)
{
    gen_init(g, seq, JR_LOG_KIND_CONTROL);
    g->m.u.control.type = type;
    g->m.u.control.ended = g->ended;
    return &g->m.u.control;
}

#endif
