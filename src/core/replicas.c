/* SPDX-License-Identifier: Apache-2.0 */
#include "core/replicas.h"

#include "base/bug.h"
#include "base/limit.h"
#include "base/limits.h"
#include "base/str.h"

#include <string.h>

void jr_replicas_init(struct jr_replicas *rs, struct jr_mem *mem, struct jr_members *members,
                      struct jr_active *active, uint64_t *next_key)
{
    *rs = (struct jr_replicas){
        .mem = mem, .members = members, .active = active, .next_key = next_key};
    jr_bookings_init(&rs->orphans, mem, members, active, next_key);
    rs->orphans.counted = false;
}

static void free_peer(struct jr_replicas *rs, struct jr_peer *p, uint64_t now_ms)
{
    jr_bookings_deinit(&p->bookings, now_ms);
    jr_arr_free(rs->mem, &p->redo);
    jr_mem_free(rs->mem, p, sizeof *p);
}

void jr_replicas_deinit(struct jr_replicas *rs, uint64_t now_ms)
{
    for (uint32_t i = 0; i < rs->n; i++)
        free_peer(rs, rs->v[i], now_ms);
    jr_bookings_deinit(&rs->orphans, now_ms);
    jr_arr_free(rs->mem, rs);
}

struct jr_peer *jr_replicas_find(const struct jr_replicas *rs, const char *id)
{
    for (uint32_t i = 0; i < rs->n; i++)
        if (strcmp(rs->v[i]->id, id) == 0)
            return rs->v[i];
    return NULL;
}

static int find_or_make(struct jr_replicas *rs, const char *id, struct jr_peer **ret)
{
    *ret = jr_replicas_find(rs, id);
    if (*ret)
        return 0;
    int err = jr_limit_of(JR_LIMIT_REPLICAS, jr_arr_reserve(rs->mem, rs, 1, JR_REPLICAS_MAX));
    if (err < 0)
        return err;
    struct jr_peer *p = jr_mem_zalloc(rs->mem, sizeof *p);
    if (!p)
        return JR_ENOMEM;
    (void)jr_str_copy(p->id, sizeof p->id, id);
    jr_bookings_init(&p->bookings, rs->mem, rs->members, rs->active, rs->next_key);
    p->bookings.counted = false;
    p->bookings.ignore_output = rs->ignore_output;
    uint32_t at = 0;
    while (at < rs->n && strcmp(rs->v[at]->id, id) < 0)
        at++;
    memmove(rs->v + at + 1, rs->v + at, (rs->n - at) * sizeof *rs->v);
    rs->v[at] = p;
    rs->n++;
    *ret = p;
    return 0;
}

/* Its outside requests run on without it. Out of memory for one: it is as if it had ended. So are those
 * of a peer of which we miss something: too little load until they end is better than too much until they
 * expire. Should this life be listed again, a base says what it has: another than the one whose parts are
 * being read, which may have told them already. */
static void orphan(struct jr_replicas *rs, struct jr_peer *p, uint64_t now_ms)
{
    bool is_fresh = p->base_read && !p->wants;
    JR_LIST_FOREACH_SAFE (it, &p->bookings.list) {
        const struct jr_booked *was = JR_CONTAINER_OF(it, struct jr_booked, node);
        bool lost = !is_fresh || was->ended;
        struct jr_booked *k;
        if (!jr_request_is_outside(was->b.request))
            continue;
        if (!lost && jr_bookings_add(&rs->orphans, &was->b, now_ms, &k) == 0)
            k->generation = (uint32_t)p->incarnation;
        else
            rs->refused += !lost;
        jr_bookings_done(&p->bookings, was->b.request, now_ms);
        p->wants = true;
        p->in_base = false;
    }
}

static bool is_orphan_of(const struct jr_booked *k, const struct jr_peer *p)
{
    return k && k->generation == (uint32_t)p->incarnation;
}

/* Its base has those that are left; should its lease be over, they are orphans again at the next list. */
static void is_no_orphan_of(struct jr_replicas *rs, const struct jr_peer *p, uint64_t now_ms)
{
    JR_LIST_FOREACH_SAFE (it, &rs->orphans.list) {
        const struct jr_booked *k = JR_CONTAINER_OF(it, struct jr_booked, node);
        if (is_orphan_of(k, p))
            jr_bookings_done(&rs->orphans, k->b.request, now_ms);
    }
}

/* Another incarnation: nothing of the old one is true any more. */
static void become(struct jr_replicas *rs, struct jr_peer *p, uint64_t incarnation, uint64_t now_ms)
{
    orphan(rs, p, now_ms);
    jr_bookings_clear(&p->bookings, now_ms);
    rs->changed_ms = now_ms;
    p->incarnation = incarnation;
    p->last_number = 0;
    p->base_read = p->in_base = p->heard = false;
    p->wants = true;
    p->redo.n = 0;
}

static void judge_listed(struct jr_peer *p, uint64_t now_ms)
{
    p->listed =
        (p->has_lease && p->lease.incarnation == p->incarnation) || JR_BUG(BOOKING_NO_OWNER);
    jr_bookings_count(&p->bookings, p->listed, now_ms);
}

static const struct jr_replica_lease *lease_of(const struct jr_replica_lease *leases, uint32_t n,
                                               const char *id)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(leases[i].id, id) == 0)
            return &leases[i];
    return NULL;
}

static void forget_old(struct jr_replicas *rs, uint64_t forget_ms, uint64_t now_ms)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < rs->n; i++) {
        struct jr_peer *p = rs->v[i];
        if (!p->has_lease && now_ms - p->last_seen_ms > forget_ms)
            free_peer(rs, p, now_ms);
        else
            rs->v[kept++] = p;
    }
    rs->n = kept;
}

int jr_replicas_list(struct jr_replicas *rs, const struct jr_replica_lease *leases, uint32_t n,
                     const char *self, uint64_t forget_ms, uint64_t now_ms)
{
    rs->truncated = false;
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(leases[i].id, self) == 0)
            continue;
        struct jr_peer *p;
        int err = find_or_make(rs, leases[i].id, &p);
        if (err == JR_ELIMIT) {
            rs->truncated = true;
            rs->refused++;
            continue;
        }
        if (err < 0)
            return err;
        p->lease = leases[i];
        p->last_seen_ms = now_ms;
        /* A list may be older than the batches we heard. */
        if (p->incarnation != leases[i].incarnation && !p->heard)
            become(rs, p, leases[i].incarnation, now_ms);
    }
    for (uint32_t i = 0; i < rs->n; i++) {
        struct jr_peer *p = rs->v[i];
        bool had_lease = p->has_lease;
        p->has_lease = lease_of(leases, n, p->id) != NULL;
        if (p->has_lease != had_lease)
            rs->changed_ms = now_ms;
        if (!p->has_lease)
            orphan(rs, p, now_ms);
        /* The lease names a newer life than the batches we hold: they are a dead one's. */
        judge_listed(p, now_ms);
    }
    forget_old(rs, forget_ms, now_ms);
    return 0;
}

static int remember(struct jr_replicas *rs, struct jr_peer *p, const struct jr_delta *d)
{
    int err =
        jr_limit_of(JR_LIMIT_SYNC_DELTAS, jr_arr_reserve(rs->mem, &p->redo, 1, JR_SYNC_DELTAS_MAX));
    if (err == JR_ELIMIT) { /* its parts do not come: another base will do */
        p->in_base = false;
        p->wants = true;
        return 0;
    }
    if (err < 0)
        return err;
    p->redo.v[p->redo.n++] = (struct jr_redo){d->type, d->b.request, d->b.output_blocks};
    return 0;
}

static void apply_change(struct jr_peer *p, enum jr_delta_type type, uint64_t request,
                         uint32_t output_blocks, struct jr_speed *speed, uint64_t now_ms)
{
    struct jr_active_sample sample;
    const struct jr_booked *k;
    switch (type) {
    case JR_DELTA_FIRST_TOKEN:
        k = jr_bookings_find(&p->bookings, request);
        jr_bookings_first_token(&p->bookings, request, now_ms, &sample);
        if (speed && sample.valid && k->timed)
            jr_speed_add(speed, sample.estimated_s, sample.taken_s);
        break;
    case JR_DELTA_PROGRESS:
        jr_bookings_progress(&p->bookings, request, output_blocks, now_ms);
        break;
    case JR_DELTA_DONE:
        jr_bookings_done(&p->bookings, request, now_ms);
        break;
    case JR_DELTA_ADMIT:
    case JR_DELTA_ASK_FIRST_TOKEN: /* not of its own requests */
    case JR_DELTA_ASK_DONE:
        break;
    }
}

static int apply_delta(struct jr_replicas *rs, struct jr_peer *p, const struct jr_delta *d,
                       struct jr_speed *speed, uint64_t now_ms)
{
    if (d->type == JR_DELTA_ADMIT) {
        struct jr_booked *k;
        int err = jr_bookings_add(&p->bookings, &d->b, now_ms, &k);
        if (err < 0) {
            rs->refused++;
            return err == JR_ENOMEM ? err : 0;
        }
        k->generation = p->generation;
        k->timed = k->timed && rs->live;
        k->ended = false; /* what was over by that name was another; a base only repeats */
        return 0;
    }
    if (d->type == JR_DELTA_DONE && is_orphan_of(jr_bookings_find(&rs->orphans, d->b.request), p))
        jr_bookings_done(&rs->orphans, d->b.request, now_ms);
    apply_change(p, d->type, d->b.request, d->b.output_blocks, speed, now_ms);
    return p->in_base ? remember(rs, p, d) : 0;
}

static int apply_deltas(struct jr_replicas *rs, struct jr_peer *p,
                        const struct jr_sync_batch *batch, struct jr_speed *speed, uint64_t now_ms)
{
    for (uint32_t i = 0; i < batch->n_deltas; i++) {
        int err = apply_delta(rs, p, &batch->deltas[i], speed, now_ms);
        if (err < 0)
            return err;
    }
    return 0;
}

static void end_base(struct jr_peer *p, uint64_t now_ms)
{
    p->in_base = false;
    for (uint32_t i = 0; i < p->redo.n; i++) {
        const struct jr_redo *r = &p->redo.v[i];
        apply_change(p, r->type, r->request, r->output_blocks, NULL, now_ms);
    }
    p->redo.n = 0;
    (void)jr_bookings_sweep(&p->bookings, p->generation, now_ms);
    p->base_read = true;
    p->wants = false;
}

/* What the others learned, as long as we have learned nothing. */
static void learn(struct jr_speed *speed, const struct jr_sync_batch *batch)
{
    double s = batch->speed_weight_ms ? (double)batch->speed_weight_ms / 1000 : 1;
    if (batch->speed_factor > 0 && speed->estimated_s <= 0)
        *speed = (struct jr_speed){s, s * batch->speed_factor};
}

static int add_listed(struct jr_replicas *rs, struct jr_peer *p, const struct jr_booking *b,
                      uint64_t now_ms)
{
    struct jr_booked *k;
    int err = jr_bookings_add(&p->bookings, b, now_ms, &k);
    if (err < 0) {
        rs->refused++;
        return err == JR_ENOMEM ? err : 0;
    }
    if (k->generation == 0) /* new to us: nobody knows since when */
        k->timed = false;
    k->generation = p->generation;
    return 0;
}

/* One part of a base. A part that does not follow the one before voids the base under way. */
static int apply_base(struct jr_replicas *rs, struct jr_peer *p, const struct jr_sync_batch *batch,
                      struct jr_speed *speed, uint64_t now_ms)
{
    if (batch->part == 0) {
        p->in_base = true;
        p->base_number = batch->base_number;
        p->next_part = 0;
        p->generation++;
        p->redo.n = 0;
        /* A base says by which batch number it is true; later deltas follow in order. */
        p->last_number = batch->includes;
    }
    if (!p->in_base || batch->base_number != p->base_number || batch->part != p->next_part) {
        p->in_base = false;
        p->wants = true;
        return 0;
    }
    for (uint32_t i = 0; i < batch->n_deltas; i++) {
        int err = add_listed(rs, p, &batch->deltas[i].b, now_ms);
        if (err < 0)
            return err;
    }
    if (++p->next_part == batch->parts) {
        end_base(p, now_ms);
        is_no_orphan_of(rs, p, now_ms);
    }
    if (speed)
        learn(speed, batch);
    return 0;
}

int jr_replicas_apply(struct jr_replicas *rs, const struct jr_sync_batch *batch,
                      struct jr_speed *speed, bool *ret_want_base, uint64_t now_ms)
{
    struct jr_peer *p;
    int err = find_or_make(rs, batch->replica, &p);
    if (err == JR_ELIMIT) {
        rs->refused++;
        return 0;
    }
    if (err < 0)
        return err;
    /* The stream keeps the order of a sender's subject, so another incarnation is a newer one. */
    if (batch->incarnation != p->incarnation)
        become(rs, p, batch->incarnation, now_ms);
    p->heard = true;
    p->last_seen_ms = now_ms;
    rs->received++;
    rs->unknown += batch->n_unknown;
    judge_listed(p, now_ms);
    if (batch->is_base) {
        err = apply_base(rs, p, batch, speed, now_ms);
    } else {
        if (batch->number <= p->last_number)
            return 0; /* the base had it */
        if (batch->number != p->last_number + 1) {
            rs->gaps++;
            p->wants = true;
        }
        p->last_number = batch->number;
        err = apply_deltas(rs, p, batch, speed, now_ms);
    }
    if (err < 0) /* a part of it is missing now */
        p->wants = true;
    if (p->wants)
        *ret_want_base = true;
    return err;
}

void jr_replicas_reopened(struct jr_replicas *rs, uint64_t now_ms)
{
    jr_bookings_clear(&rs->orphans, now_ms);
    for (uint32_t i = 0; i < rs->n; i++) {
        rs->v[i]->base_read = false;
        rs->v[i]->in_base = false;
        rs->v[i]->wants = true;
    }
}

static bool owes_a_base(const struct jr_peer *p)
{
    return p->has_lease && !p->lease.sync_off && !(p->base_read && p->listed);
}

bool jr_replicas_complete(const struct jr_replicas *rs)
{
    for (uint32_t i = 0; i < rs->n; i++)
        if (owes_a_base(rs->v[i]))
            return false;
    return true;
}

bool jr_replicas_want(const struct jr_replicas *rs)
{
    for (uint32_t i = 0; i < rs->n; i++) {
        const struct jr_peer *p = rs->v[i];
        if (owes_a_base(p) || (p->has_lease && p->wants && !p->lease.sync_off))
            return true;
    }
    return false;
}

void jr_replicas_ended(struct jr_replicas *rs, uint64_t request, uint64_t now_ms)
{
    if (JR_BUG(ENDED_IS_ADOPTED))
        return;
    jr_bookings_done(&rs->orphans, request, now_ms);
    for (uint32_t i = 0; i < rs->n; i++) {
        struct jr_booked *k = jr_bookings_find(&rs->v[i]->bookings, request);
        if (k)
            k->ended = true;
    }
}

uint32_t jr_replicas_expire(struct jr_replicas *rs, uint64_t before_ms, uint64_t now_ms)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < rs->n; i++)
        n += jr_bookings_expire(&rs->v[i]->bookings, before_ms, now_ms);
    return n;
}
