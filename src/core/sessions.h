/* SPDX-License-Identifier: Apache-2.0 */
/* sessions: which (worker, rank) the requests of a session go to. docs/protocol.md §6, ADR 20.
 *
 *     (unknown) ──first request──► bound ──each request, its end: TTL begins anew──► bound
 *         ▲                          │ └──its worker cannot take a request──► bound elsewhere
 *         └── TTL over, no request under way; or the least recently used of too many ──┘
 *
 * All replicas hold the same: what one binds is *told* (a word in the session stream, which keeps the
 * last one of each session), and whoever *hears* a word takes it over, its own among them: so all end
 * with the last word that the stream has, in whatever order they began. A word is told again only
 * when the peers would otherwise believe the end of the session too early: at the end of a request,
 * at most once in a grain (an eighth of the TTL, a second at most), and while a request is under way at
 * half of the TTL.
 *
 * The pool's owner thread only. No clock: the time comes in, monotonic ms. Memory: some 150 bytes a
 * session. */
#ifndef JR_CORE_SESSIONS_H
#define JR_CORE_SESSIONS_H

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "base/str.h"
#include "base/sync.h"

struct jr_session {
    struct jr_list node;   /* by use, least recent first */
    struct jr_list untold; /* in its list while a word of it is due */
    struct jr_list busy;   /* in its list while requests are under way; see jr_sessions_tick */
    uint64_t key;
    uint64_t worker_id;
    uint32_t dp_rank;
    uint32_t generation; /* of the reading of the stream that said it last */
    uint64_t life;       /* another one whenever it was bound to another place */
    uint32_t requests;   /* of ours, under way, of this life */
    uint64_t ends_ms;    /* no request until then, and it is over */
    uint64_t told_ms;    /* what the stream says it ends at; 0: it does not say this place */
};

struct jr_sessions {
    struct jr_mem *mem; /* borrows */
    uint64_t ttl_ms;
    uint32_t max;
    struct jr_map by_key;
    struct jr_list list, untold, busy;
    uint32_t n;
    uint32_t generation;
    uint64_t lives;
    bool open;         /* the stream is read to its end: words may be told */
    uint64_t retry_ms; /* nothing is told before */
    struct jr_session_counters {
        uint64_t bound; /* sessions that began here */
        uint64_t moved; /* bound by us to another place, for their own could not take a request */
        uint64_t honoured; /* requests that went where their session was bound */
        uint64_t heard;    /* words of the stream that were taken over */
        uint64_t told, failed;
        uint64_t expired;
        uint64_t evicted; /* least recently used, for there were too many */
        uint64_t refused; /* no memory: the request went its way, unbound */
    } counters;
};

/* The name's number, never 0. */
uint64_t jr_session_key(struct jr_str name);

/* ttl_ms 0: there are none. max 0: JR_SESSIONS_MAX. Borrows mem. */
void jr_sessions_init(struct jr_sessions *ss, struct jr_mem *mem, uint64_t ttl_ms, uint32_t max);
void jr_sessions_deinit(struct jr_sessions *ss);

/* Where it is bound to, or NULL. Borrowed until the next call. */
const struct jr_session *jr_sessions_find(const struct jr_sessions *ss, uint64_t key,
                                          uint64_t now_ms);
/* A request of the session goes there: binds it when it is not bound there. *ret_life is for
 * jr_sessions_end. JR_ENOMEM: nothing was done. */
JR_MUST_CHECK int jr_sessions_begin(struct jr_sessions *ss, uint64_t key, uint64_t worker_id,
                                    uint32_t dp_rank, uint64_t now_ms, uint64_t *ret_life);
/* That request has ended, whatever the way. Unknown ones are fine. */
void jr_sessions_end(struct jr_sessions *ss, uint64_t key, uint64_t life, uint64_t now_ms);
/* A word of the stream, stored age_ms ago; it holds for our TTL at most. JR_ENOMEM: it is not known here. */
JR_MUST_CHECK int jr_sessions_hear(struct jr_sessions *ss, const struct jr_session_word *word,
                                   uint64_t age_ms, uint64_t now_ms);

/* The stream is about to be read from its start; it was read to its end: what it did not say (it was
 * lost with its server) is to be told. */
void jr_sessions_reread(struct jr_sessions *ss);
void jr_sessions_opened(struct jr_sessions *ss, uint64_t now_ms);
/* The next word that is due. False: none is, or none can be told now. */
bool jr_sessions_next_untold(struct jr_sessions *ss, uint64_t now_ms, struct jr_session_word *ret);
/* A word did not get out: it is due again, after a while. */
void jr_sessions_failed(struct jr_sessions *ss, uint64_t key, uint64_t now_ms);
/* When words are due; 0: none are, or none can be told. */
uint64_t jr_sessions_due_ms(const struct jr_sessions *ss);
/* Every now and then: those that are over go; those that are busy are told again in time. */
void jr_sessions_tick(struct jr_sessions *ss, uint64_t now_ms);

/* What the times of the stream's words say of the reader's clock against the server's: how far it is
 * ahead at least (the oldest is older than the stream keeps any, max_age_ms; 0: for ever), or behind,
 * negative (one was stored as far in the future). 0: nothing; up to 10 s may be the way here. Pure. */
int64_t jr_sessions_clock_off(int64_t oldest_ms, int64_t future_ms, int64_t max_age_ms);

/* Test builds: lists, map and counts agree. O(n). */
void jr_sessions_check(const struct jr_sessions *ss);

#endif
