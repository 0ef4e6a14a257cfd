/* SPDX-License-Identifier: Apache-2.0 */
#include "core/state.h"

#include "base/assert.h"
#include "base/bug.h"
#include "base/limit.h"

#include <string.h>

int jr_state_create(struct jr_mem *mem, struct jr_members *members, struct jr_state **ret)
{
    struct jr_state *s = jr_mem_zalloc(mem, sizeof *s);
    if (!s)
        return JR_ENOMEM;
    s->mem = mem;
    s->members = members;
    s->rule_version = JR_RULES_FIRST;
    s->rules_max = JR_RULES_VERSION;
    int err = jr_index_create(mem, 0, &s->index);
    if (err < 0) {
        jr_mem_free(mem, s, sizeof *s);
        return err;
    }
    *ret = s;
    return 0;
}

static struct jr_state_rank *rank_of(struct jr_state *s, uint32_t member)
{
    if (member >= s->ranks.n || !s->ranks.v[member].present)
        return NULL;
    return &s->ranks.v[member];
}

const struct jr_state_rank *jr_state_rank(const struct jr_state *s, uint32_t member)
{
    return member < s->ranks.n && s->ranks.v[member].present ? &s->ranks.v[member] : NULL;
}

static void drop_rank(struct jr_state *s, uint32_t member)
{
    jr_index_clear(s->index, member);
    jr_index_drop_member(s->index, member);
    s->ranks.v[member] = (struct jr_state_rank){0};
    s->turns++;
    s->n_ranks--;
    jr_members_unref(s->members, member);
}

static void drop_all_ranks(struct jr_state *s)
{
    jr_index_reset(s->index);
    for (uint32_t m = 0; m < s->ranks.n; m++)
        if (s->ranks.v[m].present)
            drop_rank(s, m);
}

void jr_state_empty(struct jr_state *s)
{
    drop_all_ranks(s);
}

void jr_state_destroy(struct jr_state *s)
{
    if (!s)
        return;
    drop_all_ranks(s);
    jr_index_destroy(s->index);
    jr_arr_free(s->mem, &s->ranks);
    jr_mem_free(s->mem, s, sizeof *s);
}

static int grow_rows(struct jr_state *s, uint32_t n)
{
    if (n <= s->ranks.n)
        return 0;
    uint32_t more = n - s->ranks.n;
    int err = jr_arr_reserve(s->mem, &s->ranks, more, JR_WORKERS_MAX);
    if (err < 0)
        return err;
    memset(s->ranks.v + s->ranks.n, 0, more * sizeof *s->ranks.v);
    s->ranks.n = n;
    return 0;
}

int jr_state_make_rank(struct jr_state *s, uint64_t worker_id, uint32_t dp_rank, uint32_t *ret,
                       bool *ret_made)
{
    uint32_t m = jr_members_find(s->members, worker_id, dp_rank);
    *ret_made = m == JR_MEMBER_NONE || !rank_of(s, m);
    if (!*ret_made) {
        *ret = m;
        return 0;
    }
    if (s->n_ranks >= JR_STATE_RANKS_MAX)
        return jr_limit(JR_LIMIT_STATE_RANKS);
    if (jr_members_ref(s->members, worker_id, dp_rank, &m) < 0)
        return JR_ENOMEM;
    int err = grow_rows(s, m + 1);
    if (err == 0)
        err = jr_index_add_member(s->index, m, worker_id, dp_rank);
    if (err < 0) {
        jr_members_unref(s->members, m);
        return JR_ENOMEM;
    }
    s->ranks.v[m] = (struct jr_state_rank){.present = true};
    s->turns++;
    s->n_ranks++;
    *ret = m;
    return 0;
}

/* As above for an event: a full table refuses it, counted, the same on every replica. */
static int rank_for(struct jr_state *s, const struct jr_kv_batch *batch, uint32_t *ret,
                    bool *ret_refused)
{
    bool made;
    int err = jr_state_make_rank(s, batch->worker_id, batch->dp_rank, ret, &made);
    *ret_refused = err == JR_ELIMIT;
    if (*ret_refused)
        s->counters.refused_cap++;
    return *ret_refused ? 0 : err;
}

/* Dynamo's `cleared` speaks for the whole worker, but for the ranks that one of our bridges speaks
 * for; ours, in whatever format, for one rank. */
static void clear_blocks(struct jr_state *s, const struct jr_kv_batch *batch, uint32_t member)
{
    if (batch->incarnation != 0) {
        jr_index_clear(s->index, member);
        return;
    }
    uint32_t m = jr_members_first(s->members, batch->worker_id);
    for (; m != JR_MEMBER_NONE; m = jr_members_next(s->members, m)) {
        const struct jr_state_rank *r = rank_of(s, m);
        if (r && r->incarnation == 0)
            jr_index_clear(s->index, m);
    }
}

static void count(struct jr_state *s, enum jr_kv_type type, enum jr_kv_result result)
{
    if (s->tally)
        s->tally->n[type][result]++;
}

static int apply_stored(struct jr_state *s, uint32_t member, const struct jr_kv_event *e)
{
    int err = jr_index_store(s->index, member, e->has_parent, e->parent_hash, e->blocks, e->n);
    if (err == JR_ENOTFOUND)
        s->counters.dropped_unknown_parent++;
    else if (err == JR_ELIMIT)
        s->counters.refused_cap++;
    else if (err < 0)
        return err;
    count(s, JR_KV_STORED,
          err == 0              ? JR_KV_OK
          : err == JR_ENOTFOUND ? JR_KV_NO_PARENT
                                : JR_KV_NO_ROOM);
    return 0;
}

static void apply_removed(struct jr_state *s, uint32_t member, const struct jr_kv_event *e)
{
    uint32_t known = jr_index_remove(s->index, member, e->hashes, e->n);
    count(s, JR_KV_REMOVED, known == e->n ? JR_KV_OK : JR_KV_NO_BLOCK);
}

static int apply_event(struct jr_state *s, const struct jr_kv_batch *batch, uint32_t member,
                       const struct jr_kv_event *e)
{
    switch (e->type) {
    case JR_KV_STORED:
        return apply_stored(s, member, e);
    case JR_KV_REMOVED:
        apply_removed(s, member, e);
        return 0;
    case JR_KV_CLEARED:
        clear_blocks(s, batch, member);
        count(s, JR_KV_CLEARED, JR_KV_OK);
        return 0;
    }
    return 0;
}

/* Events from `from` on; ids below were applied before. */
static int apply_events(struct jr_state *s, const struct jr_kv_batch *batch, uint32_t member,
                        uint32_t from)
{
    uint32_t fetched = from;
    for (uint32_t i = from; i < batch->n_events; i++) {
        for (; fetched < batch->n_events && fetched < i + JR_INDEX_EVENTS_AHEAD; fetched++)
            jr_index_fetch(s->index, member, &batch->events[fetched]);
        int err = apply_event(s, batch, member, &batch->events[i]);
        if (err < 0)
            return err;
    }
    if (batch->n_events > 0) {
        struct jr_state_rank *r = rank_of(s, member);
        uint64_t last = batch->first_id + batch->n_events - 1;
        if (batch->incarnation != 0 || !r->has_id || last > r->newest_id)
            r->newest_id = last;
        r->has_id = true;
    }
    return 0;
}

/* Dynamo's JSON has no incarnation and its ids are not checked (dynamo-wire 1.5: they restart with
 * the publisher). It never touches a rank that one of our bridges speaks for. */
static int apply_dynamo(struct jr_state *s, const struct jr_kv_batch *batch)
{
    uint32_t member;
    bool refused;
    int err = rank_for(s, batch, &member, &refused);
    if (err < 0 || refused)
        return err;
    if (rank_of(s, member)->incarnation != 0) {
        s->counters.dropped_stale++;
        return 0;
    }
    return apply_events(s, batch, member, 0);
}

/* A begin batch makes its incarnation current at this sequence and clears the rank. */
static int apply_begin(struct jr_state *s, const struct jr_kv_batch *batch, uint32_t *ret_effect)
{
    uint32_t member;
    bool refused;
    int err = rank_for(s, batch, &member, &refused);
    if (err < 0 || refused)
        return err;
    jr_index_clear(s->index, member);
    struct jr_state_rank *r = rank_of(s, member);
    r->incarnation = batch->incarnation;
    s->turns++;
    r->waiting = false;
    r->has_id = true;
    r->newest_id = batch->first_id - 1;
    *ret_effect |= JR_EFFECT_BEGAN;
    return apply_events(s, batch, member, 0);
}

static int apply_batch(struct jr_state *s, const struct jr_kv_batch *batch, uint32_t *ret_effect)
{
    if (batch->incarnation == 0)
        return apply_dynamo(s, batch);
    uint32_t member = jr_members_find(s->members, batch->worker_id, batch->dp_rank);
    struct jr_state_rank *r = member == JR_MEMBER_NONE ? NULL : rank_of(s, member);
    bool current = r && r->incarnation == batch->incarnation;
    /* One that names the present incarnation with ids that were applied is a repeat, an overlap like
     * any other; with newer ids it is the bridge beginning anew. */
    if (batch->begin && (!current || r->waiting || batch->first_id > r->newest_id))
        return apply_begin(s, batch, ret_effect);
    if (!current || r->waiting) {
        s->counters.dropped_stale++;
        if (!r || r->waiting)
            *ret_effect |= JR_EFFECT_REANNOUNCE;
        return 0;
    }
    if (batch->first_id > r->newest_id + 1) {
        s->counters.dropped_hole++;
        jr_index_clear(s->index, member);
        r->waiting = true;
        *ret_effect |= JR_EFFECT_REANNOUNCE;
        return 0;
    }
    uint64_t skip = r->newest_id + 1 - batch->first_id;
    if (skip >= batch->n_events)
        return 0;
    return apply_events(s, batch, member, (uint32_t)skip);
}

/* Ends the named incarnations only: a worker that began anew is untouched. */
static void apply_worker_gone(struct jr_state *s, const struct jr_control *c, uint32_t *ret_effect)
{
    for (uint32_t i = 0; i < c->n_ended; i++) {
        uint32_t m = jr_members_find(s->members, c->worker_id, c->ended[i].dp_rank);
        struct jr_state_rank *r = m == JR_MEMBER_NONE ? NULL : rank_of(s, m);
        if (!r || r->incarnation != c->ended[i].incarnation)
            continue;
        drop_rank(s, m);
        *ret_effect |= JR_EFFECT_GONE;
    }
}

/* One message, applied only when the epoch is the one it was decided in, so that two resets that
 * race are one. Everything goes, parameters and counters, too: replicas that rebuild from different
 * places of the log are equal from here on. */
static void apply_reset(struct jr_state *s, const struct jr_control *c, uint32_t *ret_effect)
{
    bool follows = c->from.n == s->epoch.n && c->from.random == s->epoch.random;
    if (!follows && c->from.n != JR_EPOCH_ANY && !JR_BUG(RESET_ANY_EPOCH))
        return;
    drop_all_ranks(s);
    s->params = (struct jr_pool_params){0};
    jr_index_set_entries_max(s->index, 0);
    s->rule_version = JR_RULES_FIRST;
    s->counters = (struct jr_state_counters){0};
    s->epoch = c->to;
    memcpy(s->reset_token, c->token, sizeof s->reset_token);
    s->reset_token[sizeof s->reset_token - 1] = '\0';
    *ret_effect |= JR_EFFECT_RESET;
}

static int apply_control(struct jr_state *s, const struct jr_control *c, uint32_t *ret_effect)
{
    switch (c->type) {
    case JR_CONTROL_WORKER_GONE:
        apply_worker_gone(s, c, ret_effect);
        return 0;
    case JR_CONTROL_RESET:
        apply_reset(s, c, ret_effect);
        return 0;
    case JR_CONTROL_CONFIG:
        s->params = c->params;
        jr_index_set_entries_max(s->index, c->params.index_entries_max);
        *ret_effect |= JR_EFFECT_CONFIG;
        return 0;
    case JR_CONTROL_USE_VERSION:
        if (c->rule_version > s->rules_max)
            return JR_EVERSION;
        if (c->rule_version > s->rule_version) /* only ever raised */
            s->rule_version = c->rule_version;
        return 0;
    case JR_CONTROL_ADOPT:
        if (!jr_state_is_image_of(s, c))
            return JR_EHISTORY;
        *ret_effect |= JR_EFFECT_ADOPT;
        return 0;
    }
    return JR_EVERSION;
}

bool jr_state_has_work(const struct jr_state *s)
{
    return jr_index_has_work(s->index);
}

void jr_state_work(struct jr_state *s, uint32_t max)
{
    (void)jr_index_work(s->index, max);
}

/* ---------------------------------------------------------------- digests */

uint64_t jr_state_digest_blocks(const struct jr_state *s)
{
    return jr_index_digest(s->index);
}

static uint64_t fold(uint64_t h, uint64_t v)
{
    return jr_mix64(h + v + UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t fold_text(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = fold(h, (unsigned char)*text);
    return h;
}

static uint64_t rank_term(const struct jr_member *m, const struct jr_state_rank *r)
{
    uint64_t h = fold(0, m->worker_id);
    h = fold(h, m->dp_rank);
    h = fold(h, r->incarnation);
    h = fold(h, r->has_id ? r->newest_id + 1 : 0);
    return fold(h, r->waiting);
}

static uint64_t sum_ranks(const struct jr_state *s)
{
    uint64_t sum = 0;
    for (uint32_t m = 0; m < s->ranks.n; m++)
        if (s->ranks.v[m].present)
            sum += rank_term(&s->members->v[m], &s->ranks.v[m]);
    return sum;
}

/* The row that a batch is for; 0 while there is none. */
static uint64_t term_of(const struct jr_state *s, const struct jr_kv_batch *batch)
{
    uint32_t m = jr_members_find(s->members, batch->worker_id, batch->dp_rank);
    const struct jr_state_rank *r = m == JR_MEMBER_NONE ? NULL : jr_state_rank(s, m);
    return r ? rank_term(&s->members->v[m], r) : 0;
}

/* A chain over what there is once. */
static uint64_t fold_rest(const struct jr_state *s)
{
    uint64_t h = fold(0, s->epoch.random);
    h = fold(h, s->epoch.n);
    h = fold(h, s->rule_version);
    h = fold(h, s->params.block_size);
    h = fold(h, s->params.hash_scheme);
    h = fold(h, s->params.index_entries_max);
    h = fold_text(h, s->reset_token);
    const struct jr_state_counters *c = &s->counters;
    h = fold(h, c->dropped_unknown_parent);
    h = fold(h, c->dropped_stale);
    h = fold(h, c->dropped_hole);
    h = fold(h, c->undecodable);
    h = fold(h, c->refused_cap);
    h = fold(h, c->skipped);
    return h;
}

uint64_t jr_state_digest_table(const struct jr_state *s)
{
    JR_DASSERT(s->ranks_sum == sum_ranks(s));
    return s->ranks_sum + fold_rest(s);
}

void jr_state_recount(struct jr_state *s)
{
    s->ranks_sum = sum_ranks(s);
}

void jr_state_record_point(struct jr_state *s)
{
    s->points[s->seq % JR_DIGEST_POINTS] = (struct jr_digest_point){
        .seq = s->seq,
        .blocks = jr_state_digest_blocks(s),
        .table = jr_state_digest_table(s),
    };
}

const struct jr_digest_point *jr_state_point(const struct jr_state *s, uint64_t seq)
{
    const struct jr_digest_point *p = &s->points[seq % JR_DIGEST_POINTS];
    return seq > 0 && p->seq == seq ? p : NULL;
}

const struct jr_digest_point *jr_state_newest_point(const struct jr_state *s)
{
    return jr_state_point(s, s->seq);
}

/* ---------------------------------------------------------------- the door */

void jr_state_pass(struct jr_state *s, const struct jr_log_msg *msg)
{
    s->seq = msg->seq;
    s->msg_time_ns = msg->time_ns;
    s->msg_hash = msg->payload_hash;
    jr_state_record_point(s);
}

void jr_state_rebase(struct jr_state *s, uint64_t seq, int64_t msg_time_ns, uint64_t msg_hash)
{
    memset(s->points, 0, sizeof s->points);
    s->seq = seq;
    s->msg_time_ns = msg_time_ns;
    s->msg_hash = msg_hash;
    jr_state_record_point(s);
}

bool jr_state_is_image_of(const struct jr_state *s, const struct jr_control *adopt)
{
    return jr_state_digest_blocks(s) == adopt->digest_blocks &&
           jr_state_digest_table(s) == adopt->digest_table;
}

int jr_state_apply(struct jr_state *s, const struct jr_log_msg *msg, uint32_t *ret_effect)
{
    JR_ASSERT(msg->seq == s->seq + 1);
    uint32_t effect = 0;
    int err = 0;
    switch (msg->kind) {
    case JR_LOG_KIND_BATCH:
        /* Of the table only this row can change. */
        s->ranks_sum -= term_of(s, &msg->u.batch);
        err = apply_batch(s, &msg->u.batch, &effect);
        s->ranks_sum += term_of(s, &msg->u.batch);
        break;
    case JR_LOG_KIND_CONTROL:
        err = apply_control(s, &msg->u.control, &effect);
        s->ranks_sum = sum_ranks(s);
        break;
    case JR_LOG_KIND_UNDECODABLE:
        s->counters.undecodable++;
        break;
    case JR_LOG_KIND_TOO_NEW:
        err = JR_EVERSION;
        break;
    case JR_LOG_KIND_SKIPPED:
        s->counters.skipped++;
        break;
    }
    if (err < 0)
        return err;
    jr_state_pass(s, msg);
    *ret_effect = effect;
    return 0;
}
