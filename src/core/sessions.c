/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sessions.h"

#include "base/assert.h"
#include "base/bug.h"
#include "base/limit.h"
#include "core/hash.h"

#define GRAIN_MAX_MS 1000
#define RETRY_MS     100
#define CLOCK_OFF_MS                                                                               \
    10000             /* below: a server that is late to drop, a word that was long on its way */
#define TICK_MAX 4096 /* sessions looked at in one tick; the rest in the next */

uint64_t jr_session_key(struct jr_str name)
{
    uint64_t key = jr_hash_bytes(NULL, name.p, name.n);
    return key ? key : 1;
}

void jr_sessions_init(struct jr_sessions *ss, struct jr_mem *mem, uint64_t ttl_ms, uint32_t max)
{
    *ss = (struct jr_sessions){.mem = mem, .ttl_ms = ttl_ms, .max = max ? max : JR_SESSIONS_MAX};
    jr_map_init(&ss->by_key, mem);
    jr_list_init(&ss->list);
    jr_list_init(&ss->untold);
    jr_list_init(&ss->busy);
}

static struct jr_session *lookup(const struct jr_sessions *ss, uint64_t key)
{
    uint64_t value;
    return jr_map_get(&ss->by_key, key, &value) ? (struct jr_session *)(uintptr_t)value : NULL;
}

static void drop(struct jr_sessions *ss, struct jr_session *s)
{
    jr_map_del(&ss->by_key, s->key, NULL);
    jr_list_remove(&s->node);
    jr_list_remove(&s->untold);
    jr_list_remove(&s->busy);
    jr_mem_free(ss->mem, s, sizeof *s);
    ss->n--;
}

void jr_sessions_deinit(struct jr_sessions *ss)
{
    JR_LIST_FOREACH_SAFE (it, &ss->list)
        drop(ss, JR_CONTAINER_OF(it, struct jr_session, node));
    jr_map_deinit(&ss->by_key);
}

static bool is_over(const struct jr_session *s, uint64_t now_ms)
{
    return s->requests == 0 && s->ends_ms <= now_ms;
}

const struct jr_session *jr_sessions_find(const struct jr_sessions *ss, uint64_t key,
                                          uint64_t now_ms)
{
    const struct jr_session *s = ss->ttl_ms ? lookup(ss, key) : NULL;
    return s && !is_over(s, now_ms) ? s : NULL;
}

/* ---------------------------------------------------------------- what is due */

/* A request may end much later than it began, and begins the TTL anew then: until it does, the peers
 * are told at half of the TTL. */
static bool must_tell(const struct jr_sessions *ss, const struct jr_session *s, uint64_t now_ms)
{
    uint64_t grain = ss->ttl_ms / 8 < GRAIN_MAX_MS ? ss->ttl_ms / 8 : GRAIN_MAX_MS;
    if (JR_BUG(SESSION_TOLD_ONCE) && s->told_ms)
        return false;
    if (s->requests)
        return s->told_ms < now_ms + ss->ttl_ms / 2;
    return s->ends_ms > now_ms && s->ends_ms >= s->told_ms + grain;
}

static void judge(struct jr_sessions *ss, struct jr_session *s, uint64_t now_ms)
{
    if (!must_tell(ss, s, now_ms))
        jr_list_remove(&s->untold);
    else if (jr_list_empty(&s->untold))
        jr_list_push_back(&ss->untold, &s->untold);
}

/* ---------------------------------------------------------------- places */

static void used(struct jr_sessions *ss, struct jr_session *s)
{
    jr_list_remove(&s->node);
    jr_list_push_back(&ss->list, &s->node);
}

/* Ends of requests that went to the place before count no more. */
static void place(struct jr_sessions *ss, struct jr_session *s, uint64_t worker_id,
                  uint32_t dp_rank)
{
    s->worker_id = worker_id;
    s->dp_rank = dp_rank;
    s->life = ++ss->lives;
    s->requests = 0;
    s->told_ms = 0;
    jr_list_remove(&s->busy);
}

static bool is_at(const struct jr_session *s, uint64_t worker_id, uint32_t dp_rank)
{
    return s->worker_id == worker_id && s->dp_rank == dp_rank;
}

static struct jr_session *add(struct jr_sessions *ss, uint64_t key)
{
    struct jr_session *s = jr_mem_zalloc(ss->mem, sizeof *s);
    if (!s || jr_map_put(&ss->by_key, key, (uintptr_t)s) < 0) {
        jr_mem_free(ss->mem, s, sizeof *s);
        return NULL;
    }
    s->key = key;
    jr_list_init(&s->untold);
    jr_list_init(&s->busy);
    jr_list_push_back(&ss->list, &s->node);
    ss->n++;
    if (ss->n > ss->max) {
        drop(ss, JR_CONTAINER_OF(ss->list.next, struct jr_session, node));
        ss->counters.evicted++;
        jr_limit_reached(JR_LIMIT_SESSIONS);
    }
    return s;
}

int jr_sessions_begin(struct jr_sessions *ss, uint64_t key, uint64_t worker_id, uint32_t dp_rank,
                      uint64_t now_ms, uint64_t *ret_life)
{
    struct jr_session *s = lookup(ss, key);
    bool is_new = !s || is_over(s, now_ms);
    if (!s && !(s = add(ss, key))) {
        ss->counters.refused++;
        return JR_ENOMEM;
    }
    if (is_new)
        ss->counters.bound++;
    else if (is_at(s, worker_id, dp_rank))
        ss->counters.honoured++;
    else
        ss->counters.moved++;
    if (is_new || !is_at(s, worker_id, dp_rank))
        place(ss, s, worker_id, dp_rank);
    if (s->requests++ == 0)
        jr_list_push_back(&ss->busy, &s->busy);
    s->ends_ms = now_ms + ss->ttl_ms;
    *ret_life = s->life;
    used(ss, s);
    judge(ss, s, now_ms);
    return 0;
}

void jr_sessions_end(struct jr_sessions *ss, uint64_t key, uint64_t life, uint64_t now_ms)
{
    struct jr_session *s = lookup(ss, key);
    if (!s || s->life != life || s->requests == 0)
        return;
    if (--s->requests == 0)
        jr_list_remove(&s->busy);
    s->ends_ms = now_ms + ss->ttl_ms;
    used(ss, s);
    judge(ss, s, now_ms);
}

/* ---------------------------------------------------------------- the stream */

int jr_sessions_hear(struct jr_sessions *ss, const struct jr_session_word *word, uint64_t age_ms,
                     uint64_t now_ms)
{
    struct jr_session *s = lookup(ss, word->session);
    bool there = s && is_at(s, word->worker_id, word->dp_rank);
    uint64_t idle_ms = word->idle_ms < ss->ttl_ms ? word->idle_ms : ss->ttl_ms;
    if (age_ms >= idle_ms || (JR_BUG(SESSION_OWN_WINS) && s && !there && !is_over(s, now_ms)))
        return 0;
    if (there) /* by a word that is over the stream does not say it */
        s->generation = ss->generation;
    if (!s && !(s = add(ss, word->session))) {
        ss->counters.refused++;
        return JR_ENOMEM;
    }
    if (!there) {
        place(ss, s, word->worker_id, word->dp_rank);
        s->generation = ss->generation;
        s->ends_ms = 0;
    }
    s->told_ms = now_ms + idle_ms - age_ms;
    if (s->ends_ms < s->told_ms)
        s->ends_ms = s->told_ms;
    ss->counters.heard++;
    used(ss, s);
    judge(ss, s, now_ms);
    return 0;
}

void jr_sessions_reread(struct jr_sessions *ss)
{
    ss->open = false;
    ss->generation++;
}

void jr_sessions_opened(struct jr_sessions *ss, uint64_t now_ms)
{
    ss->open = true;
    ss->retry_ms = 0;
    JR_LIST_FOREACH (it, &ss->list) {
        struct jr_session *s = JR_CONTAINER_OF(it, struct jr_session, node);
        if (s->generation == ss->generation || JR_BUG(SESSION_NOT_KEPT))
            continue;
        s->told_ms = 0;
        judge(ss, s, now_ms);
    }
}

/* The busy list is by when each was looked at last, so that each has its turn. */
static void looked_at(struct jr_sessions *ss, struct jr_session *s)
{
    if (s->requests == 0)
        return;
    jr_list_remove(&s->busy);
    jr_list_push_back(&ss->busy, &s->busy);
}

bool jr_sessions_next_untold(struct jr_sessions *ss, uint64_t now_ms, struct jr_session_word *ret)
{
    if (!ss->open || now_ms < ss->retry_ms)
        return false;
    struct jr_list *it;
    while ((it = jr_list_pop_front(&ss->untold))) {
        struct jr_session *s = JR_CONTAINER_OF(it, struct jr_session, untold);
        if (!must_tell(ss, s, now_ms))
            continue;
        s->told_ms = s->requests ? now_ms + ss->ttl_ms : s->ends_ms;
        s->generation = ss->generation;
        looked_at(ss, s);
        *ret = (struct jr_session_word){
            .session = s->key,
            .worker_id = s->worker_id,
            .dp_rank = s->dp_rank,
            .idle_ms = s->told_ms - now_ms,
        };
        ss->counters.told++;
        return true;
    }
    return false;
}

void jr_sessions_failed(struct jr_sessions *ss, uint64_t key, uint64_t now_ms)
{
    struct jr_session *s = lookup(ss, key);
    ss->counters.failed++;
    ss->retry_ms = now_ms + RETRY_MS;
    if (!s)
        return;
    s->told_ms = 0;
    judge(ss, s, now_ms);
}

uint64_t jr_sessions_due_ms(const struct jr_sessions *ss)
{
    if (!ss->open || jr_list_empty(&ss->untold))
        return 0;
    return ss->retry_ms ? ss->retry_ms : 1;
}

/* ---------------------------------------------------------------- time */

/* By use is by end, but for those that a peer with a shorter TTL told: they go when those before do. */
static void drop_old(struct jr_sessions *ss, uint64_t now_ms)
{
    for (uint32_t i = 0; i < TICK_MAX && !jr_list_empty(&ss->list); i++) {
        struct jr_session *s = JR_CONTAINER_OF(ss->list.next, struct jr_session, node);
        if (s->requests == 0 && s->ends_ms > now_ms)
            return;
        if (s->requests) {
            used(ss, s);
            continue;
        }
        drop(ss, s);
        ss->counters.expired++;
    }
}

/* All of them, or as many as a tick looks at. The list is not by when they are due: a peer's word or
 * a new request puts that off, or a session in, anywhere. */
static void tell_busy(struct jr_sessions *ss, uint64_t now_ms)
{
    const struct jr_list *last = ss->busy.prev;
    for (uint32_t i = 0; i < TICK_MAX && !jr_list_empty(&ss->busy); i++) {
        struct jr_list *it = ss->busy.next;
        struct jr_session *s = JR_CONTAINER_OF(it, struct jr_session, busy);
        judge(ss, s, now_ms);
        looked_at(ss, s);
        if (it == last)
            return;
    }
}

void jr_sessions_tick(struct jr_sessions *ss, uint64_t now_ms)
{
    drop_old(ss, now_ms);
    tell_busy(ss, now_ms);
}

int64_t jr_sessions_clock_off(int64_t oldest_ms, int64_t future_ms, int64_t max_age_ms)
{
    if (max_age_ms > 0 && oldest_ms - max_age_ms > CLOCK_OFF_MS)
        return oldest_ms - max_age_ms;
    return future_ms > CLOCK_OFF_MS ? -future_ms : 0;
}

/* ---------------------------------------------------------------- checks */

void jr_sessions_check(const struct jr_sessions *ss)
{
    uint32_t n = 0, busy = 0, listed = 0;
    JR_LIST_FOREACH (it, &ss->list) {
        const struct jr_session *s = JR_CONTAINER_OF(it, struct jr_session, node);
        JR_ASSERT(lookup(ss, s->key) == s);
        JR_ASSERT(s->life > 0 && s->life <= ss->lives);
        JR_ASSERT((s->requests > 0) == !jr_list_empty(&s->busy));
        busy += s->requests > 0;
        n++;
    }
    JR_LIST_FOREACH (it, &ss->busy)
        listed++;
    JR_ASSERT(listed == busy);
    JR_ASSERT(n == ss->n && n == ss->by_key.n && n <= ss->max);
}
