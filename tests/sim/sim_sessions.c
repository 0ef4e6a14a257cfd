/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: the stream that keeps the last word of each (docs/protocol.md §6, ADR 20), how replicas
 * read and write it, and what must hold of them.
 *
 * Each replica has a naive model of what it may know: where it bound a session itself, and the words
 * it was told, in their order. A request goes where that says, unless that worker cannot take it, and
 * the pool knows the same sessions at the same places. What the model cannot say is whether the words
 * were said: so when all are well connected for a while, who knows of a session is not alone. */
#include "sim_world.h"

#include <string.h>

#define CALM_MS  1200 /* all is well for so long: what is said was heard */
#define GRAIN_MS 1000 /* docs/protocol.md: it is told again when that much is gained */

bool sim_has_sessions(const struct sim *sim)
{
    return sim->c.session_ttl_ms > 0;
}

uint64_t sim_session_draw(struct sim *sim)
{
    if (!sim_has_sessions(sim) || jr_rng_below(&sim->session_rng, 2))
        return 0;
    return 1 + jr_rng_below(&sim->session_rng, SIM_SESSIONS);
}

/* ---------------------------------------------------------------- the stream */

static bool is_kept(const struct sim *sim, const struct sim_word *w)
{
    return w->seq && sim->now_ms - w->at_ms < sim->c.session_ttl_ms;
}

void sim_sessions_store(struct sim *sim, const struct jr_session_word *word)
{
    struct sim_nats *n = &sim->nats;
    SIM_CHECK(sim,
              word->session > 0 && word->session <= SIM_SESSIONS && word->idle_ms > 0 &&
                  word->idle_ms <= sim->c.session_ttl_ms && word->dp_rank < sim->c.ranks,
              "SessionsEnd: a word of session %llu that cannot be",
              (unsigned long long)word->session);
    n->words[word->session - 1] =
        (struct sim_word){.seq = ++n->word_seq, .at_ms = sim->now_ms, .word = *word};
    sim->n.words++;
    sim_say(sim, "session %llu is said to be at worker %llu rank %u",
            (unsigned long long)word->session, (unsigned long long)word->worker_id, word->dp_rank);
}

/* It is deleted, or lost with its server, and made anew by who reads it next. */
void sim_sessions_lose(struct sim *sim)
{
    memset(sim->nats.words, 0, sizeof sim->nats.words);
    sim->nats.word_seq = 0;
    sim->nats.word_stream++;
    sim->sessions_well_ms = sim->now_ms;
}

/* ---------------------------------------------------------------- what a replica may know */

static struct sim_session *known(struct sim_replica *r, uint64_t session)
{
    return &r->sessions[session - 1];
}

static bool is_live(const struct sim_session *s, uint64_t now_ms)
{
    return s->life && (s->requests || s->ends_ms > now_ms);
}

static bool is_at(const struct sim_session *s, uint64_t worker_id, uint32_t dp_rank)
{
    return s->worker_id == worker_id && s->dp_rank == dp_rank;
}

static void bind(struct sim_replica *r, struct sim_session *s, uint64_t worker_id, uint32_t dp_rank)
{
    *s = (struct sim_session){
        .worker_id = worker_id, .dp_rank = dp_rank, .life = ++r->session_lives};
}

static bool is_busy(const struct jr_pool *p, const struct sim_session *s)
{
    struct jr_route route = {
        .has_pin = true, .pin_worker = s->worker_id, .has_pin_rank = true, .pin_rank = s->dp_rank};
    struct jr_look look;
    jr_pool_look(p, &route, &(struct jr_policy_room){0}, &look);
    return look.overloaded > 0;
}

/* May it go there? Not where it failed, nor to a worker that is no candidate, or above a threshold. */
static bool can_take(const struct sim_replica *r, const struct sim_request *q,
                     const struct sim_session *s)
{
    for (uint32_t i = 0; i < q->attempt; i++)
        if (q->excluded[i] == s->worker_id)
            return false;
    if (!jr_pool_is_routable(r->pool, s->worker_id))
        return false;
    const struct jr_worker *w = jr_workers_find(&r->pool->workers, s->worker_id);
    for (uint32_t i = 0; w && i < w->lease.n_ranks; i++)
        if (w->lease.ranks[i].dp_rank == s->dp_rank)
            return !is_busy(r->pool, s);
    return false;
}

void sim_session_decided(struct sim *sim, struct sim_replica *r, struct sim_request *q,
                         const struct jr_decision *d)
{
    if (!q->session)
        return;
    uint64_t now_ms = sim_replica_now(sim, r);
    struct sim_session *s = known(r, q->session);
    bool live = is_live(s, now_ms), there = is_at(s, d->worker_id, d->dp_rank);
    SIM_CHECK(sim, !live || there || sim->c.sessions_max || !can_take(r, q, s),
              "SessionIsKept: session %llu is at worker %llu rank %u, and replica %u sends its "
              "request to %llu "
              "rank %u",
              (unsigned long long)q->session, (unsigned long long)s->worker_id, s->dp_rank,
              r->index, (unsigned long long)d->worker_id, d->dp_rank);
    sim->n.kept += live && there;
    if (!live || !there)
        bind(r, s, d->worker_id, d->dp_rank);
    s->requests++;
    s->used_ms = sim->now_ms;
    s->ends_ms = now_ms + sim->c.session_ttl_ms;
    q->session_life = s->life;
}

void sim_session_ended(const struct sim *sim, struct sim_replica *r, struct sim_request *q)
{
    struct sim_session *s = q->session ? known(r, q->session) : NULL;
    if (!s || !q->session_life || s->life != q->session_life)
        return;
    q->session_life = 0;
    s->requests--;
    s->used_ms = sim->now_ms;
    s->ends_ms = sim_replica_now(sim, r) + sim->c.session_ttl_ms;
}

/* Stored late_ms ago, whatever it believes. */
static void hear(const struct sim *sim, struct sim_replica *r, const struct jr_session_word *w,
                 uint64_t age_ms, uint64_t late_ms)
{
    struct sim_session *s = known(r, w->session);
    if (age_ms >= w->idle_ms)
        return;
    if (!s->life || !is_at(s, w->worker_id, w->dp_rank))
        bind(r, s, w->worker_id, w->dp_rank);
    s->used_ms = sim->now_ms;
    s->late_ms = late_ms > age_ms ? late_ms - age_ms : 0; /* of what it believes the others know */
    uint64_t ends_ms = sim_replica_now(sim, r) + w->idle_ms - age_ms;
    if (ends_ms > s->ends_ms)
        s->ends_ms = ends_ms;
}

/* ---------------------------------------------------------------- reading */

void sim_sessions_broken(struct sim *sim, struct sim_replica *r)
{
    if (!sim_has_sessions(sim))
        return;
    r->words_reading = false;
    r->words_next = 0;
    struct jr_event ev = {.type = JR_EV_SESSIONS_BROKEN};
    sim_replica_event(sim, r, &ev);
}

/* The one that comes next of those that the server has still: what was said over is not told. */
static const struct sim_word *next_word(const struct sim *sim, uint64_t from)
{
    const struct sim_word *next = NULL;
    for (uint32_t i = 0; i < SIM_SESSIONS; i++) {
        const struct sim_word *w = &sim->nats.words[i];
        if (w->seq >= from && is_kept(sim, w) && (!next || w->seq < next->seq))
            next = w;
    }
    return next;
}

/* By the server's time and the reader's clock; what comes when all is read was just said. */
static uint64_t age_of(const struct sim *sim, const struct sim_replica *r, const struct sim_word *w)
{
    int64_t age = (int64_t)(sim->now_ms - w->at_ms) + r->words_skew_ms;
    return r->words_reading || age < 0 ? 0 : (uint64_t)age;
}

void sim_sessions_feed(struct sim *sim, struct sim_replica *r)
{
    const struct sim_word *w;
    if (!sim_has_sessions(sim) || !r->connected || sim->now_ms < r->words_wait_ms)
        return;
    if (jr_rng_below(&sim->session_rng, 8) == 0)
        r->words_wait_ms = sim->now_ms + jr_rng_below(&sim->session_rng, 200);
    if (r->words_next && r->word_stream != sim->nats.word_stream)
        sim_sessions_broken(sim, r);
    if (r->words_next == 0) {
        r->words_next = 1;
        r->word_stream = sim->nats.word_stream;
        r->words_skew_ms = r->skew_ns / 1000000;
    }
    while (!r->crashing && (w = next_word(sim, r->words_next))) {
        struct jr_event ev = {.type = JR_EV_SESSION};
        r->words_next = w->seq + 1;
        ev.u.session.word = w->word;
        ev.u.session.age_ms = age_of(sim, r, w);
        hear(sim, r, &w->word, ev.u.session.age_ms, sim->now_ms - w->at_ms);
        sim_replica_event(sim, r, &ev);
    }
    if (!r->words_reading && !r->crashing) {
        r->words_reading = true;
        struct jr_event ev = {.type = JR_EV_SESSIONS_OPENED};
        sim_replica_event(sim, r, &ev);
    }
}

/* ---------------------------------------------------------------- what must hold */

/* The pool holds what its model does, where it does. */
static void check_known(struct sim *sim, struct sim_replica *r)
{
    uint64_t now_ms = sim_replica_now(sim, r);
    for (uint64_t key = 1; key <= SIM_SESSIONS && !sim->c.sessions_max; key++) {
        const struct sim_session *s = known(r, key);
        const struct jr_session *has = jr_sessions_find(&r->pool->sessions, key, now_ms);
        bool live = is_live(s, now_ms);
        SIM_CHECK(sim, live == (has != NULL), "SessionIsKept: replica %u %s session %llu", r->index,
                  live ? "has forgotten" : "still has", (unsigned long long)key);
        SIM_CHECK(
            sim, !live || is_at(s, has->worker_id, has->dp_rank),
            "SessionIsKept: replica %u has session %llu at worker %llu rank %u, not %llu rank %u",
            r->index, (unsigned long long)key, (unsigned long long)has->worker_id, has->dp_rank,
            (unsigned long long)s->worker_id, s->dp_rank);
        SIM_CHECK(sim, !live || s->requests == has->requests,
                  "SessionIsKept: replica %u counts %u requests of session %llu, not %u", r->index,
                  has->requests, (unsigned long long)key, s->requests);
    }
}

/* They end, and are no more than they may be. */
static void check_bounds(const struct sim *sim, const struct sim_replica *r)
{
    const struct jr_sessions *ss = &r->pool->sessions;
    uint64_t now_ms = sim_replica_now(sim, r), grace = sim->c.session_ttl_ms + 1000;
    jr_sessions_check(ss);
    SIM_CHECK(sim, ss->n <= SIM_SESSIONS, "SessionsEnd: replica %u has %u", r->index, ss->n);
    if (sim->now_ms < r->paused_until_ms + grace)
        return;
    JR_LIST_FOREACH (it, &ss->list) {
        const struct jr_session *s = JR_CONTAINER_OF(it, struct jr_session, node);
        SIM_CHECK(sim, s->requests || s->ends_ms + grace > now_ms,
                  "SessionsEnd: replica %u has session %llu long after its end", r->index,
                  (unsigned long long)s->key);
    }
}

static bool is_well(const struct sim *sim, const struct sim_replica *r)
{
    return r->pool && !r->crashing && r->connected && r->words_reading &&
           r->word_stream == sim->nats.word_stream && sim->now_ms >= r->paused_until_ms &&
           sim_replica_reaches(sim, r);
}

static bool all_are_well(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->c.replicas; i++)
        if (!is_well(sim, &sim->replicas[i]))
            return false;
    return !sim->nats.down && !sim_nats_full(sim) && sim->now_ms >= sim->nats.slow_until_ms + 3000;
}

/* How long the other must know of it at least, when r has so much of it left: the grain less, and by a
 * clock that was ahead it has read that words were older than they were. */
static uint64_t known_for(const struct sim_replica *other, uint64_t left_ms)
{
    uint64_t less = GRAIN_MS + CALM_MS;
    if (other->words_skew_ms > 0)
        less += (uint64_t)other->words_skew_ms;
    return left_ms > less ? left_ms - less : 0;
}

/* Of a session that was used before, each replica knows, and where: at the place that the
 * stream says. */
static void check_shared(const struct sim *sim, struct sim_replica *r, uint64_t key)
{
    const struct sim_session *s = known(r, key);
    const struct sim_word *w = &sim->nats.words[key - 1];
    uint64_t now_ms = sim_replica_now(sim, r);
    if (!is_live(s, now_ms) || sim->now_ms - s->used_ms < CALM_MS)
        return; /* it would have been over, perhaps, and the word that it is not is on its way */
    /* Who takes a word for younger than it is (it slept, or its clock is behind) believes that it need not
     * say the session again for so long, when it uses it. */
    uint64_t left_ms = s->requests ? sim->c.session_ttl_ms / 2 : s->ends_ms - now_ms;
    left_ms = left_ms > s->late_ms ? left_ms - s->late_ms : 0;
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        const struct sim_replica *o = &sim->replicas[i];
        const struct jr_session *has =
            jr_sessions_find(&o->pool->sessions, key, sim_replica_now(sim, o));
        SIM_CHECK(sim, has || known_for(o, left_ms) == 0,
                  "SessionsAreShared: replica %u has session %llu for %llu ms more, and %u knows "
                  "nothing of it",
                  r->index, (unsigned long long)key, (unsigned long long)left_ms, i);
    }
    if (known_for(r, left_ms) == 0 || sim->now_ms - w->at_ms < CALM_MS)
        return; /* it was just said anew: who has not heard it yet? */
    SIM_CHECK(sim, w->seq && is_at(s, w->word.worker_id, w->word.dp_rank),
              "SessionsAreShared: replica %u has session %llu where its stream does not say it",
              r->index, (unsigned long long)key);
}

void sim_sessions_check(struct sim *sim)
{
    if (!sim_has_sessions(sim))
        return;
    if (!all_are_well(sim))
        sim->sessions_well_ms = sim->now_ms;
    if (sim->steps % 4)
        return;
    bool calm = sim->now_ms - sim->sessions_well_ms > CALM_MS && !sim->c.sessions_max;
    for (uint32_t i = 0; i < sim->c.replicas; i++) {
        struct sim_replica *r = &sim->replicas[i];
        if (!r->pool || r->crashing)
            continue;
        check_known(sim, r);
        if (sim->now_ms >= r->paused_until_ms)
            check_bounds(sim, r);
        for (uint64_t key = 1; calm && key <= SIM_SESSIONS; key++)
            check_shared(sim, r, key);
    }
}

/* Nobody has a word to say. */
bool sim_sessions_settled(const struct sim *sim, const struct sim_replica *r)
{
    return !sim_has_sessions(sim) ||
           (r->words_reading && r->pool->sessions.open && jr_list_empty(&r->pool->sessions.untold));
}
