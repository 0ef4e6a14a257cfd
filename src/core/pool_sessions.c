/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions on a request's way: docs/protocol.md §6, ADR 20.
 *
 *     route ──bound──► pinned there ──it cannot take it──► as if unbound ──► chosen, bound there
 *        └───unbound──► chosen ──► bound there
 *
 * A pin of the request's own must agree, as long as the bound worker is there. A request that waits in
 * the queue is bound when it leaves it. */
#include "core/pool_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define TOLD_MAX 256 /* words of one step; the rest a millisecond later */

/* The same name with another model is another session: another set of workers has its cache. */
static uint64_t key_of(const struct jr_route *r)
{
    uint64_t key = r->model ? jr_mix64(r->session ^ r->model) : r->session;
    return key ? key : 1;
}

static bool takes_part(const struct jr_pool *p, const struct jr_route *r)
{
    return r->session && p->sessions.ttl_ms;
}

static int disagree(struct jr_pool *p, const struct jr_route *r, const struct jr_session *s)
{
    bool at_worker = r->pin_worker == s->worker_id;
    snprintf(p->session_why, sizeof p->session_why,
             at_worker ? "the session is bound to the rank %" PRIu64 ", not %" PRIu64
                       : "the session is bound to the worker %" PRIu64 ", not %" PRIu64,
             at_worker ? s->dp_rank : s->worker_id, at_worker ? r->pin_rank : r->pin_worker);
    return JR_EINVAL;
}

int jr_pool_session_pin(struct jr_pool *p, struct jr_route *r)
{
    if (r->session_pinned) /* it waited, and is looked at anew */
        r->has_pin = r->has_pin_rank = r->session_pinned = false;
    const struct jr_session *s =
        takes_part(p, r) ? jr_sessions_find(&p->sessions, key_of(r), p->now_ms) : NULL;
    if (!s)
        return 0;
    bool agrees = !r->has_pin || (r->pin_worker == s->worker_id &&
                                  (!r->has_pin_rank || r->pin_rank == s->dp_rank));
    if (!agrees)
        return jr_pool_is_routable(p, s->worker_id) ? disagree(p, r, s) : 0;
    r->session_pinned = !r->has_pin;
    r->has_pin = r->has_pin_rank = true;
    r->pin_worker = s->worker_id;
    r->pin_rank = s->dp_rank;
    return 0;
}

int jr_pool_session_weigh(struct jr_pool *p, struct jr_route *r, struct jr_look *look)
{
    int err = jr_pool_weigh(p, r, look);
    if (err == 0 || err == JR_ENOMEM || !r->session_pinned)
        return err;
    r->has_pin = r->has_pin_rank = r->session_pinned = false;
    return jr_pool_weigh(p, r, look);
}

/* Without memory for it the request goes its way all the same. */
void jr_pool_session_begin(struct jr_pool *p, const struct jr_route *r, struct jr_booked *k)
{
    if (!takes_part(p, r))
        return;
    if (jr_sessions_begin(&p->sessions, key_of(r), k->b.worker_id, k->b.dp_rank, p->now_ms,
                          &k->session_life) == 0)
        k->session = key_of(r);
}

void jr_pool_session_end(struct jr_pool *p, const struct jr_booked *k)
{
    if (k->session)
        jr_sessions_end(&p->sessions, k->session, k->session_life, p->now_ms);
}

int jr_pool_on_session(struct jr_pool *p, const struct jr_session_word *word, uint64_t age_ms)
{
    return p->sessions.ttl_ms ? jr_sessions_hear(&p->sessions, word, age_ms, p->now_ms) : 0;
}

bool jr_pool_sessions_known(const struct jr_pool *p)
{
    const struct jr_pool_config *c = &p->config;
    return !c->session_ttl_ms || !c->durable || !c->replica_sync || p->sessions.open;
}

uint64_t jr_pool_sessions_deadline_ms(const struct jr_pool *p)
{
    uint64_t at = jr_sessions_due_ms(&p->sessions);
    return at && at <= p->now_ms ? p->now_ms + 1 : at;
}

void jr_pool_sessions_tell(struct jr_pool *p)
{
    struct jr_session_word word;
    for (uint32_t n = 0; n < TOLD_MAX && jr_pool_act_reserve(p) == 0; n++) {
        if (!jr_sessions_next_untold(&p->sessions, p->now_ms, &word))
            return;
        jr_pool_act(p, JR_ACT_TELL_SESSION)->u.session = word;
    }
}
