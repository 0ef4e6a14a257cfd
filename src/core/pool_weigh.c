/* SPDX-License-Identifier: Apache-2.0 */
/* What a request would cost on each worker. All that a decision needs to know of the workers
 * themselves lies in a row of seats, made anew when the registry has changed; what it needs to know
 * of a prompt is scattered by member beforehand, so that the walk over the seats searches nothing. */
#include "core/pool_internal.h"

#include <math.h>
#include <string.h>

#define PART 32 /* candidates weighed at once, while they are in the nearest cache */
#define ROW  8  /* of them, priced at once; PART is a multiple */

/* ---------------------------------------------------------------- seats */

static double prefill_capacity(const struct jr_worker_lease *lease)
{
    return lease->max_batched_tokens ? (double)lease->max_batched_tokens : 10e6; /* Dynamo's */
}

/* What counts of a member's cache: what is believed of it, what the index says. */
#define MARK_LIVE     1
#define MARK_CREDITED 2

static int add_seats(struct jr_pool *p, const struct jr_worker *w)
{
    uint64_t model = jr_pool_model_id(w->lease.model);
    p->seats_mixed = p->seats_mixed || (model && p->seats_model && model != p->seats_model);
    p->seats_model = model ? model : p->seats_model;
    uint32_t busy = jr_pool_busy_place(p, model);
    int err = 0;
    for (uint32_t i = 0; err == 0 && i < w->n_members; i++) {
        uint32_t member = w->members[i];
        p->seats.v[p->seats.n++] = (struct jr_seat){
            .worker_id = w->lease.worker_id,
            .prefill_capacity = prefill_capacity(&w->lease),
            .kv_blocks = (double)w->lease.total_kv_blocks,
            .model = model,
            .member = member,
            .dp_rank = p->members.v[member].dp_rank,
            .busy = busy,
            .on_cpu = w->lease.on_cpu,
        };
        p->seat_members.v[p->seat_members.n++] = member;
        if (w->state == JR_WORKER_LIVE)
            p->marks.v[member] = MARK_LIVE | (jr_pool_credited(p, w, i) ? MARK_CREDITED : 0);
        if (jr_pool_lower_counts(p))
            err = jr_pool_lower_seat(p, &p->seats.v[p->seats.n - 1],
                                     (p->marks.v[member] & MARK_CREDITED) != 0);
    }
    return err;
}

static int make_seats(struct jr_pool *p)
{
    uint32_t n = p->members.n;
    p->seats.n = p->seat_members.n = p->marks.n = p->lower.n = 0;
    p->seats_model = 0;
    p->seats_mixed = false;
    int err = jr_arr_reserve(&p->mem, &p->seats, n, JR_WORKERS_MAX);
    if (err == 0)
        err = jr_arr_reserve(&p->mem, &p->seat_members, n, JR_WORKERS_MAX);
    if (err == 0)
        err = jr_arr_reserve(&p->mem, &p->marks, n, JR_WORKERS_MAX);
    if (err < 0 || n == 0)
        return err;
    memset(p->marks.v, 0, n);
    p->marks.n = n;
    for (uint32_t i = 0; err == 0 && i < p->workers.n; i++) {
        const struct jr_worker *w = p->workers.v[i];
        if (w->state != JR_WORKER_DOWN && w->lease.url[0])
            err = add_seats(p, w);
    }
    return err;
}

int jr_pool_seats_update(struct jr_pool *p)
{
    if (p->seats_made_at == p->workers.changes && p->seats_turn == p->state->turns)
        return 0;
    p->seats_made_at = UINT64_MAX; /* should memory not last */
    int err = make_seats(p);
    if (err < 0)
        return err;
    p->seats_made_at = p->workers.changes;
    p->seats_turn = p->state->turns;
    return 0;
}

static bool in_list(const uint64_t *ids, uint32_t n, uint64_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool may_take(const struct jr_seat *s, const struct jr_route *r)
{
    if (r->model && s->model && r->model != s->model)
        return false;
    return r->n_exclude == 0 || !in_list(r->exclude, r->n_exclude, s->worker_id);
}

/* Is there a seat that serves other models only? */
static bool others_are_seated(const struct jr_pool *p, uint64_t model)
{
    return model && p->seats_model && (p->seats_mixed || model != p->seats_model);
}

/* First seat whose worker id is not below. */
static uint32_t seat_place(const struct jr_pool *p, uint64_t worker_id)
{
    uint32_t lo = 0, hi = p->seats.n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->seats.v[mid].worker_id < worker_id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Walks the seats a request may go to, in the order of worker ids: those that may take it, or the
 * pinned worker's. *pos is 0 at first. */
static const struct jr_seat *next_seat(const struct jr_pool *p, const struct jr_route *r,
                                       uint32_t *pos)
{
    if (r->has_pin && *pos == 0)
        *pos = seat_place(p, r->pin_worker);
    while (*pos < p->seats.n) {
        const struct jr_seat *s = &p->seats.v[(*pos)++];
        if (r->has_pin && s->worker_id != r->pin_worker)
            return NULL;
        if (r->has_pin && r->has_pin_rank && s->dp_rank != r->pin_rank)
            continue;
        if (may_take(s, r))
            return s;
    }
    return NULL;
}

/* ---------------------------------------------------------------- load and thresholds */

static bool has_room(const struct jr_policy_room *room, const struct jr_seat *s,
                     const struct jr_active_load *load)
{
    double tokens = (double)load->prefill_tokens;
    if (room->has_tokens && tokens > room->tokens)
        return false;
    return !room->has_frac || tokens <= room->frac * s->prefill_capacity;
}

/* Is the seat a candidate? */
static bool judge(const struct jr_pool *p, const struct jr_policy_room *room,
                  const struct jr_seat *s, const struct jr_active_load *load, struct jr_look *look)
{
    if (jr_pool_is_busy(p, s, load)) {
        look->overloaded++;
        return false;
    }
    look->eligible++;
    look->with_room += has_room(room, s, load);
    return true;
}

uint32_t jr_pool_workers_of(const struct jr_pool *p, uint64_t model)
{
    uint32_t n = 0;
    uint64_t last = 0;
    for (uint32_t i = 0; i < p->seats.n; i++) {
        const struct jr_seat *s = &p->seats.v[i];
        if (model && s->model && model != s->model)
            continue;
        n += n == 0 || s->worker_id != last;
        last = s->worker_id;
    }
    return n;
}

void jr_pool_look(const struct jr_pool *p, const struct jr_route *r,
                  const struct jr_policy_room *room, struct jr_look *ret)
{
    double speed = jr_speed_factor(&p->speed);
    const struct jr_seat *s;
    *ret = (struct jr_look){0};
    for (uint32_t pos = 0; (s = next_seat(p, r, &pos));) {
        struct jr_active_load load;
        jr_active_load(p->active, s->member, p->now_ms, speed, &load);
        (void)judge(p, room, s, &load, ret);
    }
}

/* ---------------------------------------------------------------- candidates */

/* `parts` words for each member, zeros. */
static int clear_by_member(struct jr_pool *p, uint32_t parts)
{
    uint32_t n = parts * p->members.n;
    p->by_member.n = 0;
    int err = jr_arr_reserve(&p->mem, &p->by_member, n, 3 * JR_WORKERS_MAX);
    if (err == 0 && n)
        memset(p->by_member.v, 0, n * sizeof *p->by_member.v);
    return err;
}

/* Raises blocks[member] to the score of those with the mark. Members younger than the seats have
 * none. */
static void raise(const struct jr_pool *p, const struct jr_index_match *m, uint8_t mark,
                  uint32_t *blocks)
{
    const struct jr_index_score *v = m->v, *end = v + m->n;
    const uint8_t *marks = p->marks.v;
    for (uint32_t n = p->marks.n; v < end; v++)
        if (v->member < n && (marks[v->member] & mark) && blocks[v->member] < v->blocks)
            blocks[v->member] = v->blocks;
}

/* The more of what events say, when they are the worker's, and what is believed. */
static void raise_overlap(const struct jr_pool *p, uint32_t *blocks)
{
    raise(p, &p->match, MARK_CREDITED, blocks);
    raise(p, &p->match_approx, MARK_LIVE, blocks);
}

static void fill(const struct jr_seat *s, const struct jr_route *r, uint32_t overlap, uint32_t live,
                 const struct jr_active_load *load, struct jr_candidate *c)
{
    c->member = s->member;
    c->dp_rank = s->dp_rank;
    c->worker_id = s->worker_id;
    c->indexed_blocks = 0; /* see break_ties */
    c->overlap_blocks = overlap;
    c->host_blocks = c->disk_blocks = 0; /* see jr_pool_lower_fill */
    c->live_blocks = live;
    c->new_blocks = r->n_prefix - c->live_blocks;
    c->prefill_tokens = load->prefill_tokens;
    c->active_blocks = load->active_blocks;
    c->requests = load->requests;
    c->decoding = load->decoding;
    c->on_cpu = s->on_cpu;
    c->backlog_s = load->backlog_s;
}

/* Somebody else than the pinned one could. */
static bool anybody(const struct jr_pool *p, const struct jr_route *r)
{
    struct jr_route free_choice = *r;
    free_choice.has_pin = false;
    uint32_t pos = 0;
    return next_seat(p, &free_choice, &pos) != NULL;
}

/* ---------------------------------------------------------------- per-request overrides */

static bool is_amount(bool has, double v)
{
    return !has || (v >= 0 && isfinite(v));
}

bool jr_pool_override_is_valid(const struct jr_route_override *o)
{
    return is_amount(o->has_overlap_weight, o->overlap_weight) &&
           is_amount(o->has_credit, o->credit) && is_amount(o->has_scale, o->scale) &&
           is_amount(o->has_temperature, o->temperature);
}

bool jr_pool_tracks_prefill(const struct jr_pool *p, const struct jr_route *r)
{
    const struct jr_route_override *o = &r->override;
    return o->has_track_prefill_tokens ? o->track_prefill_tokens : !p->config.ignore_prefill_tokens;
}

bool jr_pool_assumes_reuse(const struct jr_pool *p, const struct jr_route *r)
{
    const struct jr_route_override *o = &r->override;
    return o->has_assume_kv_reuse ? o->assume_kv_reuse : p->config.assume_kv_reuse;
}

/* The weight of v1.0 means the scale in the later formula, and 0 also takes the credit away; the
 * new names win. */
static struct jr_cost_config cost_of(const struct jr_pool *p, const struct jr_route *r)
{
    struct jr_cost_config c = p->config.cost;
    const struct jr_route_override *o = &r->override;
    if (o->has_overlap_weight) {
        c.overlap_weight = c.scale = o->overlap_weight;
        if (!(o->overlap_weight > 0))
            c.credit = 0;
    }
    if (o->has_credit)
        c.credit = o->credit;
    if (o->has_scale)
        c.scale = o->scale;
    return c;
}

/* ---------------------------------------------------------------- weighing */

struct weighing {
    struct jr_cost_config cost;
    struct jr_cost_request request;
    double speed;
    double prefill_weight; /* 0: prefill costs nothing */
};

static int weighing_init(struct jr_pool *p, const struct jr_route *r, struct weighing *ret)
{
    uint32_t block_size = jr_pool_block_size(p);
    ret->cost = cost_of(p, r);
    ret->request = (struct jr_cost_request){
        .isl_tokens = r->tokens,
        .block_size = block_size ? block_size : 1,
        .no_prefill = !jr_pool_tracks_prefill(p, r),
    };
    ret->speed = jr_speed_factor(&p->speed);
    ret->prefill_weight = ret->request.no_prefill ? 0 : 1;
    int err = jr_pool_match(p, r);
    if (p->config.on_matched)
        p->config.on_matched(p->config.matched_ctx);
    p->candidates.n = 0;
    return err < 0 ? err : jr_arr_reserve(&p->mem, &p->candidates, p->seats.n, JR_WORKERS_MAX);
}

/* All (worker, rank) pairs that may take it, in the order of worker ids. */
static void gather(struct jr_pool *p, const struct jr_route *r, const struct weighing *w,
                   struct jr_look *look)
{
    bool decays = w->cost.model == JR_COST_DYNAMO_1_2 && w->cost.decay > 0;
    bool lower = jr_pool_lower_counts(p);
    const struct jr_policy_room *room = jr_pool_plain_room(p);
    const uint32_t *overlap = p->by_member.v, *live = p->by_member.v + p->members.n;
    uint32_t done = 0;
    const struct jr_seat *s;
    *look = (struct jr_look){0};
    for (uint32_t pos = 0; (s = next_seat(p, r, &pos));) {
        struct jr_active_load load;
        jr_active_load(p->active, s->member, p->now_ms, w->speed, &load);
        if (!judge(p, room, s, &load, look))
            continue;
        struct jr_candidate *c = &p->candidates.v[p->candidates.n++];
        fill(s, r, overlap[s->member], live[s->member], &load, c);
        if (lower)
            jr_pool_lower_fill(p, (uint32_t)(s - p->seats.v), c);
        if (!decays && p->candidates.n - done == PART) {
            jr_cost_eval(&w->cost, &w->request, w->speed, p->candidates.v + done, PART);
            done += PART;
        }
    }
    jr_cost_eval(&w->cost, &w->request, w->speed, p->candidates.v + done, p->candidates.n - done);
}

/* How much the index holds of a worker counts between equal costs only, and in records. */
static void break_ties(struct jr_pool *p, bool all)
{
    double best = INFINITY;
    for (uint32_t i = 0; i < p->candidates.n; i++)
        best = p->candidates.v[i].cost < best ? p->candidates.v[i].cost : best;
    for (uint32_t i = 0; i < p->candidates.n; i++) {
        struct jr_candidate *c = &p->candidates.v[i];
        if (all || !(c->cost > best))
            c->indexed_blocks = jr_pool_blocks_held(p, c->member);
    }
}

static uint64_t least_uncached(const struct jr_pool *p)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < p->candidates.n; i++)
        if (p->candidates.v[i].uncached_tokens < least)
            least = p->candidates.v[i].uncached_tokens;
    return least;
}

static int weigh_all(struct jr_pool *p, const struct jr_route *r, const struct weighing *w,
                     struct jr_look *look)
{
    int err = clear_by_member(p, 2); /* overlap, live */
    if (err < 0)
        return err;
    raise_overlap(p, p->by_member.v);
    jr_active_match_all(p->active, r->prefix, r->n_prefix, p->by_member.v + p->members.n);
    gather(p, r, w, look);
    break_ties(p, r->want_record);
    look->least_uncached = least_uncached(p);
    return 0;
}

/* ---------------------------------------------------------------- the quick way */

/* The least cost in seconds with the tie rule of JR_TIE_HASH, and nothing but that: most decisions.
 * The candidate that wins is made like all others are in weigh_all, and its cost is the same. */
static bool is_plain(const struct jr_pool *p, const struct jr_route *r, const struct weighing *w)
{
    double temperature =
        r->override.has_temperature ? r->override.temperature : p->config.temperature;
    return p->config.mode == JR_MODE_KV && w->cost.model == JR_COST_SECONDS &&
           p->config.tie == JR_TIE_HASH && !(temperature > 0) && !r->has_pin && !r->want_record &&
           !jr_pool_lower_counts(p);
}

/* Some seats at a time: what their costs are made of, in rows that the compiler computes several of
 * at once. */
struct bids {
    double cached[PART]; /* tokens */
    double backlog_s[PART], oldest_s[PART], turn_ms[PART], decoding[PART];
    double cost[PART];
    uint32_t seat[PART];
    uint32_t n;
};

/* core/cost.h: seconds; the backlog as jr_active_backlog. */
static inline void price_row(const struct weighing *w, double now_ms, struct bids *b, uint32_t at)
{
    const struct jr_cost_config c = w->cost;
    double kappa = w->prefill_weight * c.kappa, delta = w->prefill_weight * c.delta;
    double speed = w->speed, isl = (double)w->request.isl_tokens;

    for (uint32_t i = at; i < at + ROW; i++) {
        double u = isl - b->cached[i];
        double prefill = speed * (c.linear_s * u + c.attention_s * u * (b->cached[i] + u * 0.5));
        double elapsed = (now_ms - b->turn_ms[i]) * 0.001, oldest = speed * b->oldest_s[i];
        elapsed = elapsed > 0 ? elapsed : 0;
        double q = speed * b->backlog_s[i] - (elapsed < oldest ? elapsed : oldest);
        q = q > 0 ? q : 0;
        b->cost[i] =
            (kappa + delta * b->decoding[i]) * prefill + (q + c.mu * speed * b->decoding[i]);
    }
}

/* Rows are priced whole. */
static void price(const struct weighing *w, double now_ms, struct bids *b)
{
    for (uint32_t at = 0; at < b->n; at += ROW)
        price_row(w, now_ms, b, at);
}

/* A candidate with what the tie rule looks at. */
static struct jr_candidate tie_of(const struct jr_pool *p, uint32_t seat, double cost)
{
    const struct jr_seat *s = &p->seats.v[seat];
    return (struct jr_candidate){.worker_id = s->worker_id,
                                 .dp_rank = s->dp_rank,
                                 .cost = cost,
                                 .indexed_blocks = jr_pool_blocks_held(p, s->member)};
}

static bool wins_tie(const struct jr_pool *p, const struct jr_route *r, uint32_t a, uint32_t b,
                     double cost)
{
    struct jr_candidate x = tie_of(p, a, cost), y = tie_of(p, b, cost);
    return jr_select_before(&x, &y, r->n_prefix ? r->prefix[r->n_prefix - 1] : 0);
}

struct best {
    double cost;
    uint32_t seat; /* UINT32_MAX: none yet */
};

static void offer(const struct jr_pool *p, const struct jr_route *r, const struct bids *b,
                  struct best *best)
{
    for (uint32_t i = 0; i < b->n; i++) {
        double cost = b->cost[i];
        if (cost > best->cost)
            continue;
        if (cost < best->cost || wins_tie(p, r, b->seat[i], best->seat, cost))
            *best = (struct best){cost, b->seat[i]};
    }
}

/* Do all seats count, whatever their load, or must each be judged? */
static bool must_judge(const struct jr_pool *p, const struct jr_route *r)
{
    const struct jr_policy_room *room = jr_pool_plain_room(p);
    return room->has_frac || jr_pool_busy_on(p) || r->n_exclude || others_are_seated(p, r->model);
}

static bool passes(const struct jr_pool *p, const struct jr_route *r, uint32_t seat, double speed,
                   struct jr_look *look)
{
    const struct jr_seat *s = &p->seats.v[seat];
    struct jr_active_load load;
    if (!may_take(s, r))
        return false;
    jr_active_load(p->active, s->member, p->now_ms, speed, &load);
    return judge(p, jr_pool_plain_room(p), s, &load, look);
}

static const struct jr_active_pace idle;

static inline void put_bid(struct bids *b, uint32_t seat, uint32_t cached_tokens,
                           const struct jr_active_pace *pace)
{
    uint32_t n = b->n++;
    b->cached[n] = (double)cached_tokens;
    b->backlog_s[n] = pace->prefill_s;
    b->oldest_s[n] = pace->oldest_s;
    b->turn_ms[n] = pace->turn_ms;
    b->decoding[n] = (double)(int32_t)(pace->requests - pace->prefilling);
    b->seat[n] = seat;
}

/* The walk over all seats. */
struct walk {
    const struct jr_active_pace *paces;
    uint32_t n_paces;
    uint32_t at;      /* next seat */
    uint32_t deepest; /* blocks of the prompt that one of them holds */
    bool judged;
};

/* The next bids. */
static void collect(const struct jr_pool *p, const struct jr_route *r, const struct weighing *w,
                    struct walk *k, struct bids *b, struct jr_look *look)
{
    const uint32_t *members = p->seat_members.v, *cached_by_member = p->by_member.v;
    const struct jr_active_pace *paces = k->paces;
    uint32_t most = jr_cost_cached_most(&w->cost, &w->request), deepest = k->deepest;
    uint32_t block_size = w->request.block_size, n_paces = k->n_paces, i = k->at;

    b->n = 0;
    for (; i < p->seats.n && b->n < PART; i++) {
        uint32_t member = members[i], cached = cached_by_member[member];
        if (k->judged && !passes(p, r, i, w->speed, look))
            continue;
        cached = cached < most ? cached : most;
        deepest = deepest > cached ? deepest : cached;
        put_bid(b, i, cached * block_size, member < n_paces ? &paces[member] : &idle);
    }
    k->at = i;
    k->deepest = deepest;
}

/* The last row to its end. */
static void pad(struct bids *b)
{
    uint32_t n = b->n;
    while (b->n % ROW)
        put_bid(b, 0, 0, &idle);
    b->n = n;
}

static struct best find_best(const struct jr_pool *p, const struct jr_route *r,
                             const struct weighing *w, struct jr_look *look)
{
    struct best best = {INFINITY, UINT32_MAX};
    struct walk k = {.judged = must_judge(p, r)};
    struct bids bids;

    k.paces = jr_active_paces(p->active, &k.n_paces);
    while (k.at < p->seats.n) {
        collect(p, r, w, &k, &bids, look);
        pad(&bids);
        price(w, (double)(int64_t)p->now_ms, &bids);
        offer(p, r, &bids, &best);
    }
    if (!k.judged)
        look->eligible = look->with_room = p->seats.n;
    look->least_uncached = r->tokens - (uint64_t)k.deepest * w->request.block_size;
    return best;
}

/* What was raised to one number for all members is told apart for the one that won. */
static void fill_best(struct jr_pool *p, const struct jr_route *r, const struct weighing *w,
                      const struct jr_seat *s)
{
    struct jr_candidate *c = &p->candidates.v[p->candidates.n++];
    uint8_t marks = s->member < p->marks.n ? p->marks.v[s->member] : 0;
    uint32_t held = marks & MARK_CREDITED ? jr_index_match_blocks(&p->match, s->member) : 0;
    uint32_t believed = marks & MARK_LIVE ? jr_index_match_blocks(&p->match_approx, s->member) : 0;
    struct jr_active_load load;
    jr_active_load(p->active, s->member, p->now_ms, w->speed, &load);
    fill(s, r, held > believed ? held : believed,
         jr_active_match(p->active, s->member, r->prefix, r->n_prefix), &load, c);
    jr_cost_eval(&w->cost, &w->request, w->speed, c, 1);
}

static int weigh_best(struct jr_pool *p, const struct jr_route *r, const struct weighing *w,
                      struct jr_look *look)
{
    int err = clear_by_member(p, 1); /* the most of overlap and live */
    if (err < 0)
        return err;
    *look = (struct jr_look){0};
    raise_overlap(p, p->by_member.v);
    jr_active_match_all(p->active, r->prefix, r->n_prefix, p->by_member.v);
    struct best best = find_best(p, r, w, look);
    if (best.seat != UINT32_MAX)
        fill_best(p, r, w, &p->seats.v[best.seat]);
    return 0;
}

int jr_pool_weigh(struct jr_pool *p, const struct jr_route *r, struct jr_look *ret)
{
    struct weighing w;
    int err = weighing_init(p, r, &w);
    if (err < 0)
        return err;
    err = is_plain(p, r, &w) ? weigh_best(p, r, &w, ret) : weigh_all(p, r, &w, ret);
    if (err < 0)
        return err;
    if (p->candidates.n)
        return 0;
    if (ret->overloaded)
        return JR_EBUSY;
    return r->has_pin && anybody(p, r) ? JR_ENOTFOUND : JR_ENOWORKER;
}
