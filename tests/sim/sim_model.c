/* SPDX-License-Identifier: Apache-2.0 */
/* docs/protocol.md §2 and §3 and its hashes, once more, with nothing but loops over arrays. */
#include "sim_world.h"

#include "base/mem.h"
#include "core/hash.h"
#include <string.h>

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t fold(uint64_t h, uint64_t v)
{
    return mix(h + v + UINT64_C(0x9e3779b97f4a7c15));
}

/* ---------------------------------------------------------------- digests */

static uint64_t digest_blocks(const struct sim_model *m)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->n_rows; i++) {
        uint64_t row = fold(fold(0, m->rows[i].worker_id), m->rows[i].dp_rank);
        for (uint32_t k = 0; k < m->rows[i].n; k++)
            sum += fold(fold(row, m->rows[i].entries[k].hash), m->rows[i].entries[k].prefix);
    }
    return sum;
}

static uint64_t digest_table(const struct sim_model *m)
{
    const struct jr_state_counters *c = &m->counters;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->n_rows; i++) {
        const struct sim_row *r = &m->rows[i];
        uint64_t h = fold(fold(fold(0, r->worker_id), r->dp_rank), r->incarnation);
        sum += fold(fold(h, r->has_id ? r->newest_id + 1 : 0), r->waiting);
    }
    const uint64_t rest[] = {m->epoch.random,
                             m->epoch.n,
                             m->rules,
                             m->params.block_size,
                             m->params.hash_scheme,
                             m->params.index_entries_max};
    const uint64_t counters[] = {c->dropped_unknown_parent,
                                 c->dropped_stale,
                                 c->dropped_hole,
                                 c->undecodable,
                                 c->refused_cap,
                                 c->skipped};
    uint64_t h = 0;
    for (uint32_t i = 0; i < 6; i++)
        h = fold(h, rest[i]);
    for (const char *t = m->token; *t; t++)
        h = fold(h, (unsigned char)*t);
    for (uint32_t i = 0; i < 6; i++)
        h = fold(h, counters[i]);
    return sum + h;
}

static void put_ever(struct sim_model *m, uint64_t key)
{
    uint64_t at = key % m->cap_ever;
    while (m->ever[at] && m->ever[at] != key)
        at = (at + 1) % m->cap_ever;
    m->n_ever += m->ever[at] == 0;
    m->ever[at] = key;
}

static uint64_t ever_key(uint64_t blocks, uint64_t table)
{
    return fold(fold(0, blocks), table) | 1;
}

static void remember(struct sim_model *m, uint64_t blocks, uint64_t table)
{
    if (2 * m->n_ever >= m->cap_ever) {
        uint64_t *old = m->ever;
        uint32_t n = m->cap_ever;
        m->cap_ever = n ? 2 * n : 4096;
        m->ever = jr_xalloc(m->cap_ever * sizeof *m->ever);
        m->n_ever = 0;
        for (uint32_t i = 0; i < n; i++)
            if (old[i])
                put_ever(m, old[i]);
        jr_xfree(old);
    }
    put_ever(m, ever_key(blocks, table));
}

static bool was_ever(const struct sim_model *m, uint64_t blocks, uint64_t table)
{
    uint64_t key = ever_key(blocks, table);
    for (uint64_t at = key % (m->cap_ever ? m->cap_ever : 1); m->cap_ever && m->ever[at];
         at = (at + 1) % m->cap_ever)
        if (m->ever[at] == key)
            return true;
    return false;
}

static void record(struct sim_model *m)
{
    if (m->seq >= m->cap_digests) {
        uint64_t cap = 2 * m->seq + 64;
        m->digests = jr_xrealloc(m->digests, cap * sizeof *m->digests);
        memset(m->digests + m->cap_digests, 0, (cap - m->cap_digests) * sizeof *m->digests);
        m->cap_digests = cap;
    }
    struct sim_digest *d = &m->digests[m->seq];
    *d = (struct sim_digest){true, digest_blocks(m), digest_table(m)};
    remember(m, d->blocks, d->table);
}

const struct sim_digest *sim_model_at(const struct sim *sim, uint64_t seq)
{
    const struct sim_model *m = &sim->model;
    return seq < m->cap_digests && m->digests[seq].known ? &m->digests[seq] : NULL;
}

/* ---------------------------------------------------------------- rows */

static struct sim_row *find(struct sim_model *m, uint64_t worker_id, uint32_t dp_rank)
{
    for (uint32_t i = 0; i < m->n_rows; i++)
        if (m->rows[i].worker_id == worker_id && m->rows[i].dp_rank == dp_rank)
            return &m->rows[i];
    return NULL;
}

static struct sim_row *find_or_make(struct sim *sim, uint64_t worker_id, uint32_t dp_rank)
{
    struct sim_model *m = &sim->model;
    struct sim_row *r = find(m, worker_id, dp_rank);
    if (r)
        return r;
    SIM_CHECK(sim, m->n_rows < SIM_ROWS, "the model is full");
    r = &m->rows[m->n_rows++];
    struct sim_entry *entries = r->entries;
    uint32_t cap = r->cap;
    *r = (struct sim_row){
        .worker_id = worker_id, .dp_rank = dp_rank, .entries = entries, .cap = cap};
    return r;
}

static void clear(struct sim_model *m, struct sim_row *r)
{
    m->n_entries -= r->n;
    r->n = 0;
}

static void drop(struct sim_model *m, struct sim_row *r)
{
    clear(m, r);
    struct sim_row gone = *r, *last = &m->rows[--m->n_rows];
    *r = *last;
    *last = gone; /* keeps its memory */
}

static struct sim_entry *entry(const struct sim_row *r, uint64_t hash)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->entries[i].hash == hash)
            return &r->entries[i];
    return NULL;
}

/* False: the cap refuses it. */
static bool put(struct sim_model *m, struct sim_row *r, uint64_t hash, uint64_t prefix)
{
    struct sim_entry *e = entry(r, hash);
    if (e) {
        e->prefix = prefix;
        return true;
    }
    if (m->params.index_entries_max && m->n_entries >= m->params.index_entries_max)
        return false;
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 32;
        r->entries = jr_xrealloc(r->entries, r->cap * sizeof *r->entries);
    }
    r->entries[r->n++] = (struct sim_entry){hash, prefix};
    m->n_entries++;
    return true;
}

/* ---------------------------------------------------------------- messages */

static void store(struct sim_model *m, struct sim_row *r, const struct jr_kv_event *e)
{
    const struct sim_entry *parent = e->has_parent ? entry(r, e->parent_hash) : NULL;
    if (e->has_parent && !parent) {
        m->counters.dropped_unknown_parent++;
        return;
    }
    uint64_t prefix = parent ? parent->prefix : 0;
    for (uint32_t i = 0; i < e->n; i++) {
        bool root = i == 0 && !e->has_parent;
        prefix = root ? e->blocks[i].local_hash : jr_hash_chain(prefix, e->blocks[i].local_hash);
        if (!put(m, r, e->blocks[i].block_hash, prefix)) {
            m->counters.refused_cap++;
            return;
        }
    }
}

static void apply_event(struct sim_model *m, struct sim_row *r, const struct jr_kv_event *e)
{
    if (e->type == JR_KV_STORED) {
        store(m, r, e);
    } else if (e->type == JR_KV_CLEARED) {
        clear(m, r);
    } else {
        for (uint32_t i = 0; i < e->n; i++) {
            struct sim_entry *x = entry(r, e->hashes[i]);
            if (x) {
                *x = r->entries[--r->n];
                m->n_entries--;
            }
        }
    }
}

static void apply_events(struct sim_model *m, struct sim_row *r, const struct jr_kv_batch *b)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        uint64_t id = b->first_id + i;
        if (r->has_id && id <= r->newest_id)
            continue;
        apply_event(m, r, &b->events[i]);
        r->newest_id = id;
        r->has_id = true;
    }
}

static void apply_batch(struct sim *sim, const struct jr_kv_batch *b)
{
    struct sim_model *m = &sim->model;
    struct sim_row *r = find(m, b->worker_id, b->dp_rank);
    bool current = r && r->incarnation == b->incarnation;
    if (b->begin && (!current || r->waiting || b->first_id > r->newest_id)) {
        r = find_or_make(sim, b->worker_id, b->dp_rank);
        clear(m, r);
        r->incarnation = b->incarnation;
        r->waiting = false;
        r->has_id = true;
        r->newest_id = b->first_id - 1;
        apply_events(m, r, b);
        return;
    }
    if (!current || r->waiting) {
        m->counters.dropped_stale++;
        return;
    }
    if (b->first_id <= r->newest_id + 1) {
        apply_events(m, r, b);
        return;
    }
    SIM_CHECK(sim, m->holes_may_be, "NoGap: worker %llu rank %u goes from id %llu to %llu",
              (unsigned long long)b->worker_id, b->dp_rank, (unsigned long long)r->newest_id,
              (unsigned long long)b->first_id);
    m->counters.dropped_hole++;
    clear(m, r);
    r->waiting = true;
}

static void begin_empty(struct sim_model *m)
{
    while (m->n_rows)
        drop(m, &m->rows[0]);
    m->params = (struct jr_pool_params){0};
    m->rules = JR_RULES_FIRST;
    m->counters = (struct jr_state_counters){0};
}

/* ---------------------------------------------------------------- an index of before */

static void learn_rank(struct sim *sim, const struct jr_image_rank *rank)
{
    struct sim_row *r = find_or_make(sim, rank->worker_id, rank->dp_rank);
    r->incarnation = rank->incarnation;
    r->newest_id = rank->newest_id;
    r->has_id = rank->has_id;
    r->waiting = rank->waiting;
}

static void learn_image(struct sim *sim, const struct jr_image *image)
{
    struct sim_model *m = &sim->model;
    begin_empty(m);
    m->rules = image->rule_version;
    m->params = image->params;
    m->epoch = image->epoch;
    memcpy(m->token, image->reset_token, sizeof m->token);
    m->counters = (struct jr_state_counters){image->dropped_unknown_parent,
                                             image->dropped_stale,
                                             image->dropped_hole,
                                             image->undecodable,
                                             image->refused_cap,
                                             image->skipped};
    struct jr_pool_params params = m->params;
    m->params.index_entries_max = 0; /* it was within the cap when it was stored */
    for (uint32_t i = 0; i < image->n_ranks; i++)
        learn_rank(sim, &image->ranks[i]);
    for (uint64_t i = 0; i < image->n_entries; i++) {
        const struct jr_image_rank *rank = &image->ranks[image->entries[i].rank];
        (void)put(m, find(m, rank->worker_id, rank->dp_rank), image->entries[i].block_hash,
                  image->entries[i].prefix_hash);
    }
    m->params = params;
}

void sim_model_offer(struct sim *sim, const struct sim_replica *r)
{
    struct sim_model *m = &sim->model;
    struct jr_state_export x = {0};
    SIM_CHECK(sim, jr_state_export_begin(r->pool->state, &x) == 0,
              "replica %u adopts while it copies", r->index);
    while (jr_state_export_step(r->pool->state, &x, 1000) == JR_EAGAIN)
        ;
    m->offers = jr_xrealloc(m->offers, (m->n_offers + 1) * sizeof(struct jr_image *));
    m->offers[m->n_offers++] = jr_state_export_take(&x);
}

/* The index becomes that of before which has these digests. */
static void adopt(struct sim *sim, const struct jr_control *c)
{
    struct sim_model *m = &sim->model;
    for (uint32_t i = 0; i < m->n_offers; i++) {
        const struct jr_image *o = m->offers[i];
        if (o->digest_blocks == c->digest_blocks && o->digest_table == c->digest_table) {
            learn_image(sim, o);
            break;
        }
    }
    SIM_CHECK(sim, c->digest_blocks == digest_blocks(m) && c->digest_table == digest_table(m),
              "what was adopted is another index now");
}

/* ---------------------------------------------------------------- control messages */

static void apply_gone(struct sim_model *m, const struct jr_control *c)
{
    for (uint32_t i = 0; i < c->n_ended; i++) {
        struct sim_row *r = find(m, c->worker_id, c->ended[i].dp_rank);
        if (r && r->incarnation == c->ended[i].incarnation)
            drop(m, r);
    }
}

static void apply_reset(const struct sim *sim, struct sim_model *m, const struct jr_control *c)
{
    bool follows = c->from.n == m->epoch.n && c->from.random == m->epoch.random;
    if (!follows && c->from.n != JR_EPOCH_ANY)
        return;
    SIM_CHECK(sim, !follows || !c->token[0] || strcmp(c->token, m->token) != 0,
              "ResetOnce: token %s resets again", c->token);
    begin_empty(m);
    m->epoch = c->to;
    memcpy(m->token, c->token, sizeof m->token);
}

static void apply_control(struct sim *sim, const struct jr_control *c)
{
    struct sim_model *m = &sim->model;
    switch (c->type) {
    case JR_CONTROL_WORKER_GONE:
        apply_gone(m, c);
        return;
    case JR_CONTROL_RESET:
        apply_reset(sim, m, c);
        return;
    case JR_CONTROL_CONFIG:
        SIM_CHECK(sim,
                  sim->by_hand || !m->params.block_size ||
                      m->params.index_entries_max == c->params.index_entries_max,
                  "SaidOnce: the cap of %u entries becomes %u without a reset",
                  (unsigned)m->params.index_entries_max, (unsigned)c->params.index_entries_max);
        m->params = c->params;
        return;
    case JR_CONTROL_USE_VERSION:
        if (c->rule_version > m->rules)
            m->rules = c->rule_version;
        return;
    case JR_CONTROL_ADOPT:
        SIM_CHECK(sim, was_ever(m, c->digest_blocks, c->digest_table),
                  "an index is adopted that the log never said");
        if (c->digest_blocks != digest_blocks(m) || c->digest_table != digest_table(m)) {
            adopt(sim, c);
            m->holes_may_be = true; /* it is an older one */
        }
        return;
    }
}

static void apply(struct sim *sim, const struct jr_log_msg *msg)
{
    struct sim_model *m = &sim->model;
    if (msg->kind == JR_LOG_KIND_BATCH)
        apply_batch(sim, &msg->u.batch);
    else if (msg->kind == JR_LOG_KIND_CONTROL)
        apply_control(sim, &msg->u.control);
    else
        m->counters.undecodable++;
    m->seq = msg->seq;
    record(m);
}

void sim_model_step(struct sim *sim)
{
    struct sim_model *m = &sim->model;
    if (!m->known && m->seq == 0) {
        begin_empty(m);
        m->epoch = (struct jr_epoch){0};
        m->token[0] = '\0';
        m->known = true;
        record(m);
    }
    while (m->known && m->seq < sim->nats.n_log)
        apply(sim, &sim->nats.log[m->seq].m);
}

/* Read again from the first message: the simulation keeps what was purged. */
void sim_model_cut(struct sim *sim, uint64_t last)
{
    struct sim_model *m = &sim->model;
    m->holes_may_be = true;
    for (uint64_t i = last ? last + 1 : 0; i < m->cap_digests; i++)
        m->digests[i].known = false;
    m->known = false;
    m->seq = 0;
}

uint64_t sim_model_incarnation(const struct sim_model *m, uint64_t worker_id, uint32_t dp_rank)
{
    for (uint32_t i = 0; i < m->n_rows; i++)
        if (m->rows[i].worker_id == worker_id && m->rows[i].dp_rank == dp_rank)
            return m->rows[i].incarnation;
    return 0;
}

uint32_t sim_model_score(const struct sim_model *m, uint64_t worker_id, uint32_t dp_rank,
                         const uint64_t *prefix, uint32_t n)
{
    for (uint32_t i = 0; i < m->n_rows; i++) {
        const struct sim_row *r = &m->rows[i];
        if (r->worker_id != worker_id || r->dp_rank != dp_rank)
            continue;
        for (uint32_t k = 0; k < n; k++) {
            uint32_t at = 0;
            while (at < r->n && r->entries[at].prefix != prefix[k])
                at++;
            if (at == r->n)
                return k;
        }
        return n;
    }
    return 0;
}

void sim_model_deinit(struct sim_model *m)
{
    for (uint32_t i = 0; i < SIM_ROWS; i++)
        jr_xfree(m->rows[i].entries);
    for (uint32_t i = 0; i < m->n_offers; i++)
        jr_image_destroy(m->offers[i]);
    jr_xfree(m->offers);
    jr_xfree(m->digests);
    jr_xfree(m->ever);
}
