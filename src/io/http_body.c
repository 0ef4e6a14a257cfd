/* SPDX-License-Identifier: Apache-2.0 */
/* The buffers of bodies that did not come along with their head. */
#include "io/http_internal.h"

#include "base/assert.h"
#include "base/mem.h"

/* Of what all bodies together may hold. */
static bool claim(struct jr_http_server *s, size_t n)
{
    const size_t before = atomic_fetch_add_explicit(s->config.bodies, n, memory_order_relaxed);

    if (s->config.bodies_max == 0 || before + n <= s->config.bodies_max)
        return true;
    atomic_fetch_sub_explicit(s->config.bodies, n, memory_order_relaxed);
    return false;
}

/* The smallest that holds n bytes, or none. */
static bool take_spare(struct jr_http_conn *c, size_t n)
{
    struct jr_http_spare *s = &c->server->bodies;
    unsigned best = s->n;

    for (unsigned i = 0; i < s->n; i++) {
        if (s->v[i].cap >= n && (best == s->n || s->v[i].cap < s->v[best].cap))
            best = i;
    }
    if (best == s->n || !claim(c->server, s->v[best].cap))
        return false;
    c->body = s->v[best].p;
    c->body_cap = s->v[best].cap;
    s->bytes -= c->body_cap;
    s->v[best] = s->v[--s->n];
    return true;
}

/* A new buffer has room for what is declared: pages that nothing comes for are not resident, and one
 * that grew would leave holes behind. For a lot it doubles, but goes little beyond it. */
static size_t cap_for(const struct jr_http_conn *c, size_t need)
{
    const size_t max = c->server->config.body_max;
    const size_t whole =
        (c->body_len + JR_HTTP_BODY_STEP - 1) / JR_HTTP_BODY_STEP * JR_HTTP_BODY_STEP;
    size_t cap = c->body_cap == 0 ? JR_HTTP_BODY_LEAST : c->body_cap;

    if (c->body_cap == 0 && cap < whole && whole <= JR_HTTP_BODY_BELIEVED)
        cap = whole;
    while (cap < need)
        cap *= 2;
    if (whole > JR_HTTP_BODY_LEAST && need <= whole && cap > whole)
        cap = whole;
    return cap > max ? max : cap;
}

/* A large length that is declared is not yet believed: a new buffer grows with what comes. */
int jr_http_body_room(struct jr_http_conn *c, size_t need)
{
    const size_t whole = c->body_len > need ? c->body_len : need;

    JR_ASSERT(need <= c->server->config.body_max);
    if (need <= c->body_cap || (c->body == NULL && take_spare(c, whole)))
        return 0;
    const size_t cap = cap_for(c, need);
    if (!claim(c->server, cap - c->body_cap))
        return JR_ELIMIT;
    c->body_cap = cap;
    c->body = jr_xrealloc(c->body, cap);
    return 0;
}

void jr_http_body_release(struct jr_http_conn *c)
{
    struct jr_http_spare *s = &c->server->bodies;

    if (c->body == NULL)
        return;
    atomic_fetch_sub_explicit(c->server->config.bodies, c->body_cap, memory_order_relaxed);
    if (s->n < JR_HTTP_BODY_SPARE && s->bytes + c->body_cap <= JR_HTTP_BODY_SPARE_BYTES) {
        s->v[s->n].p = c->body;
        s->v[s->n++].cap = c->body_cap;
        s->bytes += c->body_cap;
    } else {
        jr_xfree(c->body);
    }
    c->body = NULL;
    c->body_cap = 0;
}

void jr_http_body_free_spares(struct jr_http_server *s)
{
    while (s->bodies.n > 0)
        jr_xfree(s->bodies.v[--s->bodies.n].p);
    s->bodies.bytes = 0;
}
