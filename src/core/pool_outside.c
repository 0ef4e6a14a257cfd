/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that run outside of any replica: an external data plane booked them here, and tells any
 * replica how they go. docs/protocol.md §6, ADRs 19 and 24.
 *
 *     what is told ──► ours: done │ a peer's: a word in our batches, said again until its booking shows
 *                                 │ that it was heard
 *     a replica dies ──► its outside bookings are orphans, a lease's time ──► one of the living has them
 *                        two of them: the one with the smaller lot gives it up
 *     no word for --active-request-expiry-secs ──► ended by its owner */
#include "core/pool_internal.h"

#include "base/assert.h"
#include "base/bug.h"
#include "base/limit.h"
#include "core/hash.h"

#include <string.h>

#define WORD_WAIT_MS     200                        /* the first look whether a word was heard */
#define WORD_WAIT_MAX_MS 2000                       /* between two times that it is said */
#define WORDS_A_TICK     2048                       /* said again: an outage's go out in pieces */
#define OWN_WORDS_MAX    (JR_OUTSIDE_WORDS_MAX / 4) /* the rest is for what only words can end */

/* ---------------------------------------------------------------- who has it */

static const struct jr_booked *peers_booking(const struct jr_pool *p, uint64_t id,
                                             const struct jr_peer **ret_peer)
{
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        const struct jr_booked *k = peer->listed ? jr_bookings_find(&peer->bookings, id) : NULL;
        if (k) {
            *ret_peer = peer;
            return k;
        }
    }
    return NULL;
}

static bool is_prefilled(const struct jr_booked *k)
{
    return k->b.prefill_tokens == 0 && k->b.prefill_seconds <= 0;
}

/* Some listed peer holds it, and has not heard the word. */
static bool is_unheard(const struct jr_pool *p, uint64_t id, bool done)
{
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        const struct jr_booked *k = peer->listed ? jr_bookings_find(&peer->bookings, id) : NULL;
        if (k && (done || !is_prefilled(k)))
            return true;
    }
    return false;
}

/* For so long leases may come and go, and orphans be anybody's. */
static uint64_t unsettled_ms(const struct jr_pool *p)
{
    return 2 * p->config.lease_ttl_ms + WORD_WAIT_MAX_MS;
}

static bool is_recent(const struct jr_pool *p, uint64_t at_ms)
{
    return at_ms && p->now_ms - at_ms < unsettled_ms(p);
}

/* Somebody may have an orphan that nobody else knows of, or sleep. */
static bool is_unsettled(const struct jr_pool *p)
{
    return !p->sync_open || is_recent(p, p->connected_at_ms) || is_recent(p, p->life_began_ms) ||
           is_recent(p, p->replicas.changed_ms);
}

/* At first there may be some whatever is listed; one whose lease is over may only be asleep. */
static bool has_peers(const struct jr_pool *p)
{
    bool syncs = p->config.durable && p->config.replica_sync;
    if (!p->listed_at_ms || is_unsettled(p))
        return syncs;
    for (uint32_t i = 0; i < p->replicas.n; i++)
        if (!p->replicas.v[i]->lease.sync_off)
            return syncs;
    return false;
}

bool jr_pool_find_outside(struct jr_pool *p, uint64_t id, struct jr_outside_view *ret)
{
    const struct jr_peer *peer = NULL;
    const struct jr_booked *k = jr_bookings_find(&p->own, id);
    *ret = (struct jr_outside_view){.owner = p->config.replica_id};
    if (!k)
        k = peers_booking(p, id, &peer);
    if (!k)
        return false;
    const struct jr_worker *w = jr_workers_find(&p->workers, k->b.worker_id);
    ret->owner = peer ? peer->id : p->config.replica_id;
    ret->worker_id = k->b.worker_id;
    ret->dp_rank = k->b.dp_rank;
    ret->prefilled = is_prefilled(k);
    ret->url = w ? w->lease.url : "";
    ret->model = w ? w->lease.model : "";
    return true;
}

/* ---------------------------------------------------------------- words to the peers */

static void say(struct jr_pool *p, const struct jr_outside_word *w)
{
    const struct jr_booking b = {.request = w->id};
    jr_pool_delta(p, w->done ? JR_DELTA_ASK_DONE : JR_DELTA_ASK_FIRST_TOKEN, &b);
}

/* Place for one more, at the end. */
static int add_word(struct jr_pool *p, uint64_t id, bool own)
{
    int err = jr_arr_reserve(&p->mem, &p->words, 1, JR_OUTSIDE_WORDS_MAX);
    if (own && p->own_words >= OWN_WORDS_MAX)
        err = JR_ELIMIT;
    if (err == 0)
        err = jr_map_put(&p->word_at, id, p->words.n);
    if (err < 0)
        return jr_limit_of(JR_LIMIT_OUTSIDE_WORDS, err);
    p->words.v[p->words.n++] = (struct jr_outside_word){.id = id, .own = own};
    p->own_words += own;
    return 0;
}

/* A word that is being said about it already is taken over: the end wins. own: that was ours, too.
 * settled: a listed peer shows that it has it. */
static int tell_peers(struct jr_pool *p, uint64_t id, bool done, bool own, bool settled)
{
    uint64_t at;
    if (!jr_map_get(&p->word_at, id, &at)) {
        at = p->words.n;
        if (add_word(p, id, own) < 0)
            return JR_ENOMEM;
    }
    struct jr_outside_word *w = &p->words.v[at];
    w->done = w->done || done;
    if (!settled)
        w->keep_ms = p->now_ms + unsettled_ms(p);
    w->wait_ms = WORD_WAIT_MS;
    w->at_ms = p->now_ms + WORD_WAIT_MS;
    w->until_ms = p->now_ms + p->config.active_expiry_ms;
    say(p, w);
    return 0;
}

static void drop_word(struct jr_pool *p, uint64_t at)
{
    jr_map_del(&p->word_at, p->words.v[at].id, NULL);
    p->own_words -= p->words.v[at].own;
    const struct jr_outside_word *last = &p->words.v[--p->words.n];
    p->words.v[at] = *last;
    if (at < p->words.n) /* it is in the map: nothing is allocated, nothing can fail */
        JR_ASSERT(jr_map_put(&p->word_at, last->id, at) == 0);
}

/* Booked anew: what was said of it before is over. */
void jr_pool_outside_booked(struct jr_pool *p, uint64_t id)
{
    uint64_t at;
    if (jr_map_get(&p->word_at, id, &at))
        drop_word(p, at);
}

/* ---------------------------------------------------------------- what is told */

static void apply(struct jr_pool *p, uint64_t id, bool done)
{
    if (done) {
        jr_pool_end_booking(p, id); /* one that waits for a worker is its client's to end */
        jr_replicas_ended(&p->replicas, id, p->now_ms);
        return;
    }
    jr_pool_on_first_token(p, id);
    struct jr_booked *k = jr_bookings_find(&p->replicas.orphans, id);
    if (k) { /* its age among the orphans stays */
        k->b.prefill_tokens = 0;
        k->b.prefill_seconds = 0;
    }
}

/* A peer may have it as an orphan, or is about to, and our own end of it may not be heard. */
static bool has_copies(const struct jr_pool *p, const struct jr_booked *ours)
{
    return ours && (ours->adopted || p->sync_lost || is_unsettled(p));
}

int jr_pool_on_outside(struct jr_pool *p, uint64_t id, bool done)
{
    const struct jr_booked *ours = jr_bookings_find(&p->own, id);
    bool theirs = is_unheard(p, id, done), settled = !done || theirs;
    bool copies = has_copies(p, ours);
    apply(p, id, done);
    if (!has_peers(p) || (ours && !theirs && !copies))
        return 0;
    int err = tell_peers(p, id, done, ours && !theirs, settled);
    return ours && !theirs ? 0 : err; /* what was asked for is done */
}

/* Its owner died, perhaps before it heard: each of the living has it among its orphans for a while,
 * and then one of them as its own. */
static void mind_orphan(struct jr_pool *p, struct jr_outside_word *w)
{
    if (p->replicas.orphans.n && jr_bookings_find(&p->replicas.orphans, w->id)) {
        apply(p, w->id, w->done);
        w->keep_ms = p->now_ms + unsettled_ms(p);
    } else if (w->keep_ms && !p->sync_open) { /* nobody hears it yet */
        w->keep_ms = p->now_ms + unsettled_ms(p);
    }
}

/* At most so many a tick, and none twice before each had its turn. */
static void say_again(struct jr_pool *p)
{
    uint32_t left = WORDS_A_TICK;
    uint64_t turn_ms = (uint64_t)(p->words.n / WORDS_A_TICK) * JR_POOL_TICK_MS;
    for (uint32_t i = p->words.n; i-- > 0;) {
        struct jr_outside_word *w = &p->words.v[i];
        mind_orphan(p, w);
        if (p->now_ms < w->at_ms)
            continue;
        /* Of a peer whose base is due we do not know what it has. */
        bool heard = p->now_ms >= w->keep_ms && !(w->done && is_unsettled(p)) &&
                     !jr_replicas_want(&p->replicas) && !is_unheard(p, w->id, w->done);
        if (heard || p->now_ms >= w->until_ms) {
            drop_word(p, i);
            continue;
        }
        if (p->sync_lost || !left) /* no base has it: as soon as that is out */
            continue;
        left--;
        w->wait_ms = w->wait_ms < WORD_WAIT_MAX_MS / 2 ? 2 * w->wait_ms : WORD_WAIT_MAX_MS;
        w->at_ms = p->now_ms + w->wait_ms + turn_ms;
        say(p, w);
    }
}

/* The base that begins takes out of the stream what was said just before it, and who reads a little
 * late never hears that: it is said again soon. */
void jr_pool_outside_based(struct jr_pool *p)
{
    uint64_t at_ms = p->now_ms + WORD_WAIT_MS;
    for (uint32_t i = 0; i < p->words.n; i++)
        if (p->words.v[i].at_ms > at_ms)
            p->words.v[i].at_ms = at_ms;
}

/* Nobody says them after us. */
void jr_pool_outside_leave(struct jr_pool *p)
{
    for (uint32_t i = 0; i < p->words.n; i++)
        say(p, &p->words.v[i]);
}

/* ---------------------------------------------------------------- orphans */

static uint64_t lot(const char *replica, uint64_t id)
{
    return jr_hash_chain(jr_hash_bytes(NULL, replica, strlen(replica)), id);
}

/* All that live see the same leases, a lease's time later, so they agree on one. Should they not, two
 * have it, of which one gives it up, or none: then, another lease's time later, it is anybody's. */
static bool falls_to_us(const struct jr_pool *p, uint64_t id)
{
    uint64_t ours = lot(p->config.replica_id, id);
    for (uint32_t i = 0; i < p->replicas.n; i++) {
        const struct jr_peer *peer = p->replicas.v[i];
        if (peer->listed && !peer->lease.sync_off && lot(peer->id, id) > ours)
            return false;
    }
    return true;
}

static void adopt(struct jr_pool *p, const struct jr_booking *b)
{
    struct jr_booked *k;
    if (jr_bookings_add(&p->own, b, p->now_ms, &k) < 0) {
        p->n.bookings_refused++;
        return;
    }
    k->timed = false;
    k->adopted = true;
    p->n.bookings_adopted++;
    jr_pool_delta(p, JR_DELTA_ADMIT, &k->b);
}

/* One that falls to somebody else stays until that one shows it: it may have died, too. */
static void settle_orphans(struct jr_pool *p)
{
    struct jr_bookings *orphans = &p->replicas.orphans;
    const struct jr_peer *peer;
    JR_LIST_FOREACH_SAFE (it, &orphans->list) {
        struct jr_booked *k = JR_CONTAINER_OF(it, struct jr_booked, node);
        uint64_t id = k->b.request, age_ms = p->now_ms - k->progress_at_ms;
        if (age_ms < p->config.lease_ttl_ms)
            return;
        struct jr_booked *own = jr_bookings_find(&p->own, id);
        bool had = own || peers_booking(p, id, &peer);
        bool ours = !had && (age_ms >= 2 * p->config.lease_ttl_ms || falls_to_us(p, id));
        if (own)
            own->adopted = true; /* its client asked again, and its owner may only sleep */
        if (ours)
            adopt(p, &k->b);
        if (had || ours)
            jr_bookings_done(orphans, id, p->now_ms);
    }
}

/* A peer says that it has a request that we book, too, at the same place: adopted by two, or by us while
 * its owner was only away. The one whose lot is greater keeps it. */
static void yield(struct jr_pool *p, const struct jr_sync_batch *batch, const struct jr_booking *b)
{
    const struct jr_booked *k = jr_bookings_find(&p->own, b->request);
    const struct jr_peer *peer = k ? jr_replicas_find(&p->replicas, batch->replica) : NULL;
    bool lives = peer && peer->has_lease && peer->lease.incarnation == batch->incarnation;
    if (lives && !JR_BUG(ADOPTED_TWICE) && k->b.worker_id == b->worker_id &&
        k->b.dp_rank == b->dp_rank &&
        lot(peer->id, b->request) > lot(p->config.replica_id, b->request))
        jr_pool_end_booking(p, b->request);
}

/* Who said it may be gone, and our life over, before everybody has read that it ended. */
static void hear(struct jr_pool *p, uint64_t id, bool done)
{
    bool copies = done && has_copies(p, jr_bookings_find(&p->own, id));
    apply(p, id, done);
    if (copies)
        (void)tell_peers(p, id, true, true, false); /* no place: it is said as far as it was */
}

/* What the stream holds from before we read it may be of a booking that was made since: who said it
 * says it again. */
void jr_pool_outside_heard(struct jr_pool *p, const struct jr_sync_batch *batch)
{
    for (uint32_t i = 0; p->replicas.live && i < batch->n_deltas; i++) {
        const struct jr_delta *d = &batch->deltas[i];
        bool done = d->type == JR_DELTA_ASK_DONE;
        if (!jr_request_is_outside(d->b.request))
            continue;
        if (done || d->type == JR_DELTA_ASK_FIRST_TOKEN)
            hear(p, d->b.request, done);
        else if (d->type == JR_DELTA_ADMIT)
            yield(p, batch, &d->b);
    }
}

/* Nobody else ends ours, and those that we relay end by themselves. */
static void expire(struct jr_pool *p)
{
    uint64_t expiry = p->config.active_expiry_ms;
    if (!expiry || p->now_ms < expiry)
        return;
    JR_LIST_FOREACH_SAFE (it, &p->own.list) {
        struct jr_booked *k = JR_CONTAINER_OF(it, struct jr_booked, node);
        if (k->progress_at_ms >= p->now_ms - expiry)
            return;
        if (!jr_request_is_outside(k->b.request))
            continue;
        p->n.bookings_expired++;
        jr_pool_end_booking(p, k->b.request);
    }
}

void jr_pool_outside_tick(struct jr_pool *p)
{
    say_again(p); /* first: what was freed is not adopted */
    if (p->sync_open && p->replicas.live)
        settle_orphans(p);
    expire(p);
}
