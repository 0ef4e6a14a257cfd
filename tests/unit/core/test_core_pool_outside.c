/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of external data planes: words about a peer's, what peers say of ours, orphans, expiry. */
#include "base/limit.h"
#include "core/hash.h"
#include "pool_rig.h"
#include <string.h>

#define REQUEST (JR_OUTSIDE_BIT | 5)
#define EXPIRY  20000 /* as pool_rig.h has it */

static void settle(struct rig *r)
{
    rig_ready(r, true);
    for (int i = 0; i < 5; i++)
        rig_tick(r, 200); /* bases that were asked for */
}

static void tell_of(struct rig *r, uint64_t id, bool done)
{
    struct jr_event ev = {.type = JR_EV_OUTSIDE};
    ev.u.outside.id = id;
    ev.u.outside.done = done;
    rig_step(r, &ev);
}

static void tell(struct rig *r, bool done)
{
    tell_of(r, REQUEST, done);
}

static void peer_sends(struct rig *r, struct jr_sync_batch b, enum jr_delta_type type, uint64_t id)
{
    const struct jr_delta d = {type,
                               {.request = id,
                                .worker_id = 1,
                                .prefill_tokens = 32,
                                .prompt_tokens = 32,
                                .prefill_seconds = 1}};
    b.replica = "peer";
    b.incarnation = 7;
    b.deltas = &d;
    b.n_deltas = 1;
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    rig_step(r, &ev);
}

static void peer_says(struct rig *r, uint64_t number, enum jr_delta_type type, uint64_t id)
{
    struct jr_sync_batch b = {.number = number};
    peer_sends(r, b, type, id);
}

static void peer_base_with(struct rig *r, uint64_t id)
{
    struct jr_sync_batch b = {.is_base = true, .base_number = 9, .parts = 1, .includes = 2};
    peer_sends(r, b, JR_DELTA_ADMIT, id);
}

/* How often a delta of that type is told within so many ms, by ticks of 2. */
static uint32_t told(struct rig *r, enum jr_delta_type type, uint64_t ms)
{
    uint32_t n = 0;
    for (uint64_t at = 0; at < ms; at += 2) {
        rig_tick(r, 2);
        for (uint32_t i = 0; i < r->actions.n; i++) {
            const struct jr_sync_batch *b = &r->actions.v[i].u.sync;
            for (uint32_t k = 0;
                 r->actions.v[i].type == JR_ACT_PUBLISH_SYNC && !b->is_base && k < b->n_deltas; k++)
                n += b->deltas[k].type == type && b->deltas[k].b.request == REQUEST;
        }
    }
    return n;
}

static struct jr_pool_view view(struct rig *r)
{
    struct jr_pool_view v;
    jr_pool_view(r->pool, &v);
    return v;
}

static bool is_known(struct rig *r)
{
    struct jr_outside_view v;
    return jr_pool_find_outside(r->pool, REQUEST, &v);
}

/* Of a peer's request: said until its owner shows that it was heard, and no more. */
static void test_words_are_repeated_until_heard(void **state)
{
    (void)state;
    struct rig r;
    struct jr_outside_view v;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    assert_true(jr_pool_find_outside(r.pool, REQUEST, &v));
    assert_string_equal(v.owner, "peer");
    assert_false(v.prefilled);
    tell(&r, false);
    assert_int_equal(told(&r, JR_DELTA_ASK_FIRST_TOKEN, 100), 1);
    assert_true(told(&r, JR_DELTA_ASK_FIRST_TOKEN, 2000) >= 2);
    (void)told(&r, JR_DELTA_ASK_FIRST_TOKEN, 4); /* one that was just said is on its way */
    peer_says(&r, 2, JR_DELTA_FIRST_TOKEN, REQUEST);
    assert_int_equal(told(&r, JR_DELTA_ASK_FIRST_TOKEN, 5000), 0);
    tell(&r, true);
    assert_true(told(&r, JR_DELTA_ASK_DONE, 2000) >= 3);
    peer_says(&r, 3, JR_DELTA_DONE, REQUEST);
    assert_false(is_known(&r));
    assert_int_equal(told(&r, JR_DELTA_ASK_DONE, 5000), 0);
    rig_deinit(&r);
}

/* A base takes out of the stream what was said just before it. */
static void test_words_come_again_behind_a_base(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    tell(&r, true);
    assert_true(told(&r, JR_DELTA_ASK_DONE, 8000) >= 5);
    while (told(&r, JR_DELTA_ASK_DONE, 2) == 0)
        ;
    assert_int_equal(told(&r, JR_DELTA_ASK_DONE, 300), 0); /* it is said each two seconds by now */
    struct jr_sync_batch b = {.replica = "peer", .incarnation = 7, .number = 2, .want_base = true};
    struct jr_event ev = {.type = JR_EV_SYNC, .u.sync = &b};
    rig_step(&r, &ev);
    assert_int_equal(told(&r, JR_DELTA_ASK_DONE, 300), 1);
    rig_deinit(&r);
}

/* Peers speak of ours, but only of those that run outside, and not in what the stream held before. */
static void test_owner_does_as_it_is_told(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    rig_route(&r, REQUEST, NULL, 0);
    rig_route(&r, 6, NULL, 0);
    peer_says(&r, 1, JR_DELTA_ASK_DONE, 6);
    assert_int_equal(view(&r).n_bookings, 2);
    rig_send(&r, JR_EV_SYNC_BROKEN);
    peer_says(&r, 2, JR_DELTA_ASK_DONE, REQUEST);
    assert_true(is_known(&r));
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_peer_base(&r);
    peer_says(&r, 3, JR_DELTA_ASK_FIRST_TOKEN, REQUEST);
    assert_true(is_known(&r));
    peer_says(&r, 4, JR_DELTA_ASK_DONE, REQUEST);
    assert_false(is_known(&r));
    assert_int_equal(view(&r).n_bookings, 1);
    rig_deinit(&r);
}

/* The peer dies: its outside request is ours after a lease's time, its others are gone. */
static void test_orphans_are_adopted(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    peer_says(&r, 2, JR_DELTA_ADMIT, 6);
    assert_int_equal(view(&r).n_bookings, 2);
    rig_members(&r, true, false);
    assert_int_equal(view(&r).n_bookings, 0);
    assert_false(is_known(&r));
    assert_int_equal(told(&r, JR_DELTA_ADMIT, UINT64_C(2) * RIG_TTL), 1);
    assert_true(is_known(&r));
    assert_int_equal(view(&r).n_bookings, 1);
    assert_int_equal(view(&r).counters.bookings_adopted, 1);
    tell(&r, true);
    assert_false(is_known(&r));
    rig_deinit(&r);
}

/* Told while the dead owner's lease was still listed, and told of an orphan. */
static void test_what_was_freed_is_not_adopted(void **state)
{
    (void)state;
    for (int before = 0; before < 2; before++) {
        struct rig r;
        rig_init(&r);
        settle(&r);
        peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        if (before)
            tell(&r, true);
        rig_members(&r, true, false);
        if (!before)
            tell(&r, true);
        (void)told(&r, JR_DELTA_ADMIT, UINT64_C(2) * RIG_TTL);
        assert_false(is_known(&r));
        assert_int_equal(view(&r).counters.bookings_adopted, 0);
        rig_deinit(&r);
    }
}

/* A lease that was over and is there again: what its replica says meanwhile counts. */
static void test_orphans_whose_owner_lives(void **state)
{
    (void)state;
    for (int by_base = 0; by_base < 2; by_base++) {
        struct rig r;
        rig_init(&r);
        settle(&r);
        peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        rig_members(&r, true, false);
        rig_members(&r, true, true);
        assert_true(jr_replicas_want(&r.pool->replicas)); /* its base has what it has still */
        if (by_base)
            rig_peer_base(&r); /* which is nothing */
        else
            peer_says(&r, 2, JR_DELTA_DONE, REQUEST);
        (void)told(&r, JR_DELTA_ADMIT, UINT64_C(3) * RIG_TTL);
        assert_false(is_known(&r));
        assert_int_equal(view(&r).counters.bookings_adopted, 0);
        rig_deinit(&r);
    }
}

/* Its lease was taken back, and its last base is read after that: what it has not is no orphan. */
static void test_the_last_base_of_a_life(void **state)
{
    (void)state;
    for (int has_it = 0; has_it < 2; has_it++) {
        struct rig r;
        rig_init(&r);
        settle(&r);
        peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        rig_members(&r, true, false);
        if (has_it)
            peer_base_with(&r, REQUEST);
        else
            rig_peer_base(&r);
        rig_members(&r, true, false);
        (void)told(&r, JR_DELTA_ADMIT, UINT64_C(3) * RIG_TTL);
        assert_int_equal(view(&r).counters.bookings_adopted, has_it);
        rig_deinit(&r);
    }
}

/* Its lease is over, and back, between two parts of a base: what the first said has become an orphan, so
 * that base is not all that it has. */
static void test_a_lease_is_over_within_a_base(void **state)
{
    (void)state;
    struct rig r;
    struct jr_sync_batch b = {.is_base = true, .base_number = 9, .parts = 2, .includes = 2};
    rig_init(&r);
    settle(&r);
    peer_sends(&r, b, JR_DELTA_ADMIT, REQUEST);
    rig_members(&r, true, false);
    rig_members(&r, true, true);
    b.part = 1;
    peer_sends(&r, b, JR_DELTA_ADMIT, 6);
    assert_true(jr_replicas_want(&r.pool->replicas));
    peer_base_with(&r, REQUEST);
    assert_true(is_known(&r));
    assert_false(jr_replicas_want(&r.pool->replicas));
    rig_deinit(&r);
}

/* Of a peer that died before its base of this connection came we know nothing: it may have ended. */
static void test_what_is_not_known_is_not_adopted(void **state)
{
    (void)state;
    for (int was_orphan = 0; was_orphan < 2; was_orphan++) {
        struct rig r;
        rig_init(&r);
        settle(&r);
        peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        if (was_orphan)
            rig_members(&r, true, false);
        rig_send(&r, JR_EV_SYNC_BROKEN);
        rig_send(&r, JR_EV_SYNC_OPENED);
        rig_members(&r, true, false);
        (void)told(&r, JR_DELTA_ADMIT, UINT64_C(3) * RIG_TTL);
        assert_false(is_known(&r));
        rig_deinit(&r);
    }
}

/* Somebody said that it is over while its owner, who is dead, was still listed. */
static void test_what_others_say_is_over_is_not_adopted(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    peer_says(&r, 2, JR_DELTA_ASK_DONE, REQUEST);
    rig_members(&r, true, false);
    (void)told(&r, JR_DELTA_ADMIT, UINT64_C(3) * RIG_TTL);
    assert_false(is_known(&r));
    rig_deinit(&r);
}

/* Its end was lost, and its owner books the same name at the same place again: that is another request,
 * an orphan when its owner dies. A base only repeats the one that is over. */
static void test_a_name_that_is_used_again(void **state)
{
    (void)state;
    for (int by_base = 0; by_base < 2; by_base++) {
        struct rig r;
        rig_init(&r);
        settle(&r);
        peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        peer_says(&r, 2, JR_DELTA_ASK_DONE, REQUEST);
        if (by_base)
            peer_base_with(&r, REQUEST);
        else
            peer_says(&r, 3, JR_DELTA_ADMIT, REQUEST);
        rig_members(&r, true, false);
        (void)told(&r, JR_DELTA_ADMIT, UINT64_C(3) * RIG_TTL);
        assert_int_equal(view(&r).counters.bookings_adopted, !by_base);
        rig_deinit(&r);
    }
}

/* Its client asked again, here, while it was an orphan: its owner may only have slept, and has it still
 * when that end is told, however long no lease has come or gone. */
static void test_the_end_of_what_was_an_orphan_too(void **state)
{
    (void)state;
    for (int orphan = 0; orphan < 2; orphan++) {
        struct rig r;
        rig_init(&r);
        settle(&r);
        if (orphan)
            peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        rig_members(&r, true, false);
        rig_route(&r, REQUEST, NULL, 0);
        for (int i = 0; i < 50; i++) {
            rig_tick(&r, 100);
            rig_members(&r, true, false);
        }
        tell(&r, true);
        assert_false(is_known(&r));
        uint32_t times = told(&r, JR_DELTA_ASK_DONE, UINT64_C(2) * RIG_TTL);
        assert_true(orphan ? times >= 3 : times == 0);
        rig_deinit(&r);
    }
}

static uint64_t lot(const char *replica, uint64_t id)
{
    return jr_hash_chain(jr_hash_bytes(NULL, replica, strlen(replica)), id);
}

/* It falls to a replica that never shows it, for it is as dead: a lease's time later it is ours. */
static void test_an_orphan_that_nobody_takes(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    struct jr_replica_lease both[2] = {r.replicas[0], {.id = "a0", .incarnation = 9}};
    for (int i = 1; lot(both[1].id, REQUEST) < lot("self", REQUEST); i++)
        (void)snprintf(both[1].id, sizeof both[1].id, "a%d", i);
    const struct jr_sync_batch base = {
        .replica = both[1].id, .incarnation = 9, .is_base = true, .base_number = 1, .parts = 1};
    struct jr_event says = {.type = JR_EV_SYNC, .u.sync = &base};
    rig_step(&r, &says);
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = &r.worker;
    ev.u.members.n_workers = 1;
    ev.u.members.replicas = both;
    ev.u.members.n_replicas = 2;
    rig_step(&r, &ev);
    assert_int_equal(told(&r, JR_DELTA_ADMIT, RIG_TTL + 500), 0);
    assert_false(is_known(&r));
    assert_int_equal(told(&r, JR_DELTA_ADMIT, RIG_TTL), 1);
    assert_int_equal(view(&r).counters.bookings_adopted, 1);
    rig_deinit(&r);
}

/* Two have it, at one place: the one with the greater lot keeps it. At two places both stay. */
static void test_two_that_have_it(void **state)
{
    (void)state;
    bool kept[2] = {false, false};
    for (uint64_t n = 1; n < 50; n++) {
        uint64_t id = JR_OUTSIDE_BIT | n;
        struct jr_outside_view v;
        struct rig r;
        rig_init(&r);
        settle(&r);
        rig_route(&r, id, NULL, 0);
        peer_says(&r, 1, JR_DELTA_ADMIT, id);
        bool ours = lot("self", id) > lot("peer", id);
        assert_true(jr_pool_find_outside(r.pool, id, &v));
        assert_string_equal(v.owner, ours ? "self" : "peer");
        kept[ours] = true;
        rig_deinit(&r);
    }
    assert_true(kept[0] && kept[1]);
}

/* A name that waits here, too: of a dead owner its client asked again before somebody had it. */
static uint64_t wait_and_adopt(struct rig *r)
{
    struct jr_pool_config c;
    uint64_t id = REQUEST;
    while (lot("peer", id) < lot("self", id))
        id++;
    rig_config(&c);
    c.has_queue_threshold = true;
    rig_init_with(r, &c);
    settle(r);
    peer_says(r, 1, JR_DELTA_ADMIT, id);
    rig_members(r, true, false);
    rig_route(r, 6, NULL, 0); /* its prefill is all that the worker has room for */
    rig_route(r, id, NULL, 0);
    for (uint64_t ms = 0; ms < UINT64_C(2) * RIG_TTL; ms += 100)
        rig_tick(r, 100);
    assert_int_equal(view(r).counters.bookings_adopted, 1);
    assert_int_equal(r->pool->queue.n, 1);
    return id;
}

/* What ends the booking, whoever says it, leaves the one that waits to its client, who is answered. */
static void test_one_that_is_booked_and_waits(void **state)
{
    (void)state;
    for (int by = 0; by < 4; by++) {
        struct rig r;
        uint64_t id = wait_and_adopt(&r);
        rig_members(&r, true, by < 2);
        if (by == 0) /* somebody was told that it is over */
            peer_says(&r, 2, JR_DELTA_ASK_DONE, id);
        else if (by == 1) /* its owner had only slept */
            peer_says(&r, 2, JR_DELTA_ADMIT, id);
        else if (by == 2)
            tell_of(&r, id, true);
        else
            rig_tick(&r, EXPIRY + 1);
        assert_null(jr_bookings_find(&r.pool->own, id));
        assert_int_equal(r.pool->queue.n, 1);
        if (by == 1)
            peer_says(&r, 3, JR_DELTA_DONE, id);
        rig_request(&r, JR_EV_FINISH, 6, 0);
        const struct jr_action *a = rig_find(&r, JR_ACT_DECIDE);
        assert_true(a && a->u.decide.id == id);
        rig_deinit(&r);
    }
}

/* While nothing but a base may go, a word waits; and it is said as soon as that is out. */
static void test_words_wait_for_the_base(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    for (int i = 0; i < 6; i++) { /* the wait for the next base grows to two seconds */
        rig_send(&r, JR_EV_SYNC_FAILED);
        rig_tick(&r, 2000);
    }
    rig_send(&r, JR_EV_SYNC_FAILED);
    rig_send(&r, JR_EV_SYNC_FAILED);
    tell(&r, true);
    assert_true(r.pool->sync_lost);
    assert_int_equal(told(&r, JR_DELTA_ASK_DONE, 2300), 1);
    rig_deinit(&r);
}

/* Deltas of this step; of REQUEST's end? */
static uint32_t deltas(const struct rig *r, bool *ret_asks)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->actions.n; i++) {
        const struct jr_sync_batch *b = &r->actions.v[i].u.sync;
        if (r->actions.v[i].type != JR_ACT_PUBLISH_SYNC || b->is_base)
            continue;
        n += b->n_deltas;
        for (uint32_t k = 0; k < b->n_deltas; k++)
            *ret_asks = *ret_asks || (b->deltas[k].type == JR_DELTA_ASK_DONE &&
                                      b->deltas[k].b.request == REQUEST);
    }
    return n;
}

/* An outage while more of ours end than words have places: those of others find one, and when the stream
 * is open the words go in pieces, beside admissions and without another loss. */
static void test_many_ends_in_an_outage(void **state)
{
    (void)state;
    const uint64_t before = jr_limit_count(JR_LIMIT_SYNC_DELTAS);
    bool asks = false;
    struct rig r;
    rig_init(&r);
    settle(&r);
    peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
    rig_send(&r, JR_EV_SYNC_BROKEN);
    for (uint64_t i = 1; i <= JR_OUTSIDE_WORDS_MAX + 1; i++) {
        rig_route(&r, REQUEST + i, NULL, 0);
        tell_of(&r, REQUEST + i, true);
        assert_int_equal(r.err, 0);
    }
    tell(&r, true);
    assert_int_equal(r.err, 0);
    assert_true(r.pool->words.n > 1000 && r.pool->words.n < JR_OUTSIDE_WORDS_MAX / 2);
    rig_send(&r, JR_EV_SYNC_OPENED);
    rig_peer_base(&r);
    for (uint64_t i = 0; i < 1000; i++) { /* an admission in each step between two ticks */
        rig_tick(&r, 5);
        assert_true(deltas(&r, &asks) < 8192);
        rig_route(&r, REQUEST + JR_OUTSIDE_WORDS_MAX + 2 + i, NULL, 0);
        assert_true(deltas(&r, &asks) < 8192);
        assert_false(r.pool->sync_lost);
    }
    assert_true(asks);
    assert_int_equal(jr_limit_count(JR_LIMIT_SYNC_DELTAS), before);
    rig_deinit(&r);
}

static bool sends_base(const struct rig *r)
{
    const struct jr_action *a = rig_find(r, JR_ACT_PUBLISH_SYNC);
    return a && a->u.sync.is_base;
}

/* Whoever leaves says its words once more, one of this very moment among them, behind its base: that takes
 * what went before out of the stream. */
static void test_words_of_who_leaves(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms < 100; ms += 50) {
        bool asks = false;
        struct rig r;
        rig_init(&r);
        settle(&r);
        peer_says(&r, 1, JR_DELTA_ADMIT, REQUEST);
        tell(&r, true);
        if (ms)
            rig_tick(&r, ms);
        rig_send(&r, JR_EV_LEAVING);
        assert_int_equal(deltas(&r, &asks), 1);
        assert_true(asks);
        const struct jr_action *first = rig_find(&r, JR_ACT_PUBLISH_SYNC);
        assert_true(first && first->u.sync.is_base);
        asks = false; /* a peer wants a base before it is gone: that one, too, takes them out */
        struct jr_sync_batch b = {.number = 2, .want_base = true};
        peer_sends(&r, b, JR_DELTA_PROGRESS, 6);
        for (int i = 0; i < 20 && !sends_base(&r); i++)
            rig_tick(&r, 10);
        assert_true(sends_base(&r));
        (void)deltas(&r, &asks);
        assert_true(asks);
        rig_deinit(&r);
    }
}

/* Told when no list of the replicas was read yet, or one without the owner, who sleeps: it is said all the
 * same, for as long as leases take. Who has been alone for longer says nothing. */
static void test_words_of_who_knows_nobody(void **state)
{
    (void)state;
    for (int begun = 0; begun < 3; begun++) {
        struct rig r;
        rig_init(&r);
        rig_nats(&r, true);
        rig_send(&r, JR_EV_SYNC_OPENED);
        for (int lists = 0; lists < begun; lists++) {
            rig_members(&r, true, false);
            rig_tick(&r, lists ? UINT64_C(4) * RIG_TTL : 100);
            rig_members(&r, true, false);
        }
        tell(&r, true);
        uint32_t times = told(&r, JR_DELTA_ASK_DONE, UINT64_C(2) * RIG_TTL);
        assert_true(begun < 2 ? times >= 3 : times == 0);
        rig_deinit(&r);
    }
}

/* Its own end of what it was told by a word goes down with its life: it says that word on, too, while
 * leases are in motion. */
static void test_an_owner_says_on_what_it_heard(void **state)
{
    (void)state;
    for (int calm = 0; calm < 2; calm++) {
        struct rig r;
        struct jr_event lost = {.type = JR_EV_LEASE_LOST, .u.incarnation = 99};
        rig_init(&r);
        settle(&r);
        for (int i = 0; calm && i < 50; i++)
            rig_tick(&r, 100);
        rig_members(&r, true, true);
        rig_route(&r, REQUEST, NULL, 0);
        rig_tick(&r, 100);
        peer_says(&r, 1, JR_DELTA_ASK_DONE, REQUEST);
        assert_false(is_known(&r));
        if (!calm)
            rig_step(&r, &lost);
        uint32_t times = told(&r, JR_DELTA_ASK_DONE, UINT64_C(2) * RIG_TTL);
        assert_true(calm ? times == 0 : times >= 3);
        rig_deinit(&r);
    }
}

/* Ours end without a word for long enough; those that we relay end by themselves. */
static void test_silent_ones_expire(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    settle(&r);
    rig_route(&r, 6, NULL, 0);
    rig_route(&r, REQUEST, NULL, 0);
    rig_tick(&r, EXPIRY - 200);
    tell(&r, false);
    rig_tick(&r, 400);
    assert_true(is_known(&r));
    rig_tick(&r, EXPIRY);
    assert_false(is_known(&r));
    assert_int_equal(view(&r).n_bookings, 1);
    assert_int_equal(view(&r).counters.bookings_expired, 1);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_repeated_until_heard),
        cmocka_unit_test(test_owner_does_as_it_is_told),
        cmocka_unit_test(test_orphans_are_adopted),
        cmocka_unit_test(test_what_was_freed_is_not_adopted),
        cmocka_unit_test(test_orphans_whose_owner_lives),
        cmocka_unit_test(test_the_last_base_of_a_life),
        cmocka_unit_test(test_a_lease_is_over_within_a_base),
        cmocka_unit_test(test_what_is_not_known_is_not_adopted),
        cmocka_unit_test(test_what_others_say_is_over_is_not_adopted),
        cmocka_unit_test(test_the_end_of_what_was_an_orphan_too),
        cmocka_unit_test(test_an_orphan_that_nobody_takes),
        cmocka_unit_test(test_two_that_have_it),
        cmocka_unit_test(test_one_that_is_booked_and_waits),
        cmocka_unit_test(test_words_wait_for_the_base),
        cmocka_unit_test(test_many_ends_in_an_outage),
        cmocka_unit_test(test_a_name_that_is_used_again),
        cmocka_unit_test(test_words_of_who_knows_nobody),
        cmocka_unit_test(test_an_owner_says_on_what_it_heard),
        cmocka_unit_test(test_words_come_again_behind_a_base),
        cmocka_unit_test(test_words_of_who_leaves),
        cmocka_unit_test(test_silent_ones_expire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
